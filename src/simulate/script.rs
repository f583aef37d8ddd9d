//! What is simulated: a script of the belt, a site's plan, and what came of it.

use super::fault::Fault;
use super::ledger::Verdict;
use super::motion::Moves;
use super::random::{Quantile, Spread};
use super::site::ModelTag;
use super::view::Row;
use crate::decide::Task;
use crate::settings::Settings;
use crate::time::Micros;

/// What comes along the belt, and what fails.
#[derive(Clone, Debug)]
pub struct Script {
    /// Seed of everything that happens.
    pub seed: u64,
    /// Parts.
    pub parts: u64,
    /// From one trigger to the next.
    pub spacing: Spread,
    /// How long a part is in view after it came before the camera.
    pub in_view: Micros,
    /// Frames a second.
    pub fps: u32,
    /// From exposure to a frame's arrival.
    pub arrival: Spread,
    /// How long preprocessing, engine and head take together.
    pub inference: Quantile,
    /// What fails, and in how many of a million cases.
    pub faults: Vec<(Fault, u32)>,
    /// Encoder counts a second while the belt runs.
    pub counts_per_second: u32,
    /// How the belt moves, where the settings have an encoder.
    pub moves: Moves,
    /// From one change of the model to the moment at which the next one is wanted; `None` for one
    /// model all the time.
    pub model_changes: Option<Spread>,
    /// A part, counted from 1, that the outputs are never told of: a mistake planted in the line,
    /// for the ledger to find.
    pub loses: Option<u64>,
}

impl Script {
    /// How often the model changes on the long runs: within a part's way, and between many parts.
    pub const MODEL_CHANGES: Spread = Spread { lo: Micros(20_000), hi: Micros(5_000_000) };

    /// The soak of device.toml's [`SOAK`](crate::settings::SOAK): close parts, slow inferences and
    /// every kind of fault.
    pub fn soak(seed: u64, parts: u64) -> Self {
        let us = |ms: u64| Micros(ms * 1000);
        Self {
            seed,
            parts,
            spacing: Spread { lo: us(60), hi: us(130) },
            in_view: us(60),
            fps: 60,
            arrival: Spread { lo: us(4), hi: us(12) },
            inference: Quantile::heavy(us(12), us(30), us(300), us(1900)),
            faults: Fault::rates(),
            counts_per_second: 1000,
            moves: Moves::Steadily,
            model_changes: Some(Self::MODEL_CHANGES),
            loses: None,
        }
    }
}

/// A simulated run in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Parts that passed.
    pub parts: u64,
    /// What did not agree with the ledger.
    pub verdict: Verdict,
    /// The first line that was in another state than the ledger's, in words.
    pub first: Option<String>,
    /// Faults that were injected, by name.
    pub faults: Vec<(&'static str, u64)>,
    /// Parts that were at their gate without a verdict.
    pub late: u64,
    /// Parts that passed a gate which a pulse had set for another part.
    pub harmed: u64,
    /// Parts that got no frame or no answer, for whatever reason, or a frame that shows no part.
    pub undecided: u64,
    /// Parts that the line did not follow: ignored as too close, lost in the debouncing of the
    /// trigger's input, or passed while the line was not there.
    pub unseen: u64,
    /// How often the run ended because inferences failed in a row: exit 3. It is started again.
    pub held: u64,
    /// How often the run ended because an inference took longer than the watchdog bears: exit 3. It
    /// is started again.
    pub hung: u64,
    /// Parts whose gates were given up because the line went safe.
    pub given_up: u64,
    /// Most parts in flight at once.
    pub most_in_flight: usize,
    /// Simulated time.
    pub line_time: Micros,
    /// Time in which the model worked.
    pub busy: Micros,
    /// From trigger to verdict: median, 99th and 99.9th percentile, largest; of parts that got one.
    pub to_verdict: [u32; 4],
    /// How often another model became current.
    pub model_changes: u64,
    /// Edges of all lines.
    pub edges: u64,
    /// The first parts, to be looked at.
    pub shown: Vec<Row>,
}

/// A site's line: the model's tags, and device.toml twice, as the line reads it and as text for the
/// ledger.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'p> {
    /// How many tags hold at once.
    pub task: Task,
    /// The model's tags.
    pub tags: &'p [ModelTag],
    /// What the line runs by.
    pub settings: &'p Settings,
    /// The text that they were read from.
    pub text: &'p str,
}
