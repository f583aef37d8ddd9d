//! The whole line on a simulated clock: a scripted belt, camera and model in front of the station
//! and the outputs of a board.
//!
//! The belt ([`belt`]) makes what happens: parts, exposures, inferences, faults. It carries them
//! into the same [`Station`](crate::station::Station) and the same actuator that a board runs. What
//! ought to happen is worked out beside it by a [`ledger`], which is told of the belt alone and
//! reads device.toml by itself ([`site`], [`naive`], [`status`]). Every line's state at every
//! moment is compared with that.

mod belt;
pub mod drawn;
mod fault;
pub mod ledger;
mod motion;
pub mod naive;
mod random;
mod site;
mod status;
#[cfg(test)]
mod tests;
pub mod view;

pub use fault::Fault;
pub use motion::Moves;
pub use random::Quantile;
pub use site::ModelTag;

use crate::bundle::Bundle;
use crate::decide::Task;
use crate::settings::{Settings, TriggerKind};
use crate::time::{Clock, Instant, Micros};
use belt::Simulated;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that is set.
#[derive(Debug, Default)]
pub struct SimulatedClock(AtomicU64);

impl Clock for SimulatedClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn wait_until(&self, at: Instant) {
        self.0.fetch_max(at.as_micros(), Ordering::Relaxed);
    }
}

/// A range that numbers are drawn from, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The smallest.
    pub lo: Micros,
    /// The largest.
    pub hi: Micros,
}

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
    /// A part, counted from 1, that the outputs are never told of: a mistake planted in the line,
    /// for the ledger to find.
    pub loses: Option<u64>,
}

impl Script {
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
    pub verdict: ledger::Verdict,
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
    /// Edges of all lines.
    pub edges: u64,
    /// The first parts, to be looked at.
    pub shown: Vec<view::Row>,
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

/// The tags of a bundle.
pub fn model_tags(bundle: &Bundle<'_>) -> Vec<ModelTag> {
    let tag = |t: &crate::bundle::Tag<'_>| ModelTag {
        name: t.name.into(),
        threshold: t.rule.threshold.0,
        review_low: t.rule.review_low.0,
        role: t.role,
    };
    bundle.contract.tags.iter().map(tag).collect()
}

/// Runs a script to its end.
pub fn run(plan: &Plan<'_>, script: &Script) -> Result<Outcome, String> {
    if let Some(category) = plan.settings.categories.first() {
        return Err(format!(
            "the settings name \"{}\", and a simulated part has scores of tags alone; name tags, or leave it out",
            category.name
        ));
    }
    // Triggers come from the script.
    let settings = Settings { trigger: TriggerKind::Input, ..plan.settings.clone() };
    if let Some(latency) = belt::latency(&settings).filter(|latency| script.arrival.hi > *latency) {
        let [stated, found] = [latency, script.arrival.hi].map(|span| span.0 as f64 / 1000.0);
        return Err(format!(
            "frames take up to {found} ms to arrive, but [trigger] max_latency_ms says at most {stated}; correct one of them"
        ));
    }
    Ok(Simulated::new(plan, &settings, script)?.run())
}

/// Whether the model's longest inference is one that the watchdog ends the run for.
pub fn hangs(plan: &Plan<'_>, script: &Script) -> bool {
    script.inference.largest() > plan.settings.watchdog.micros()
}

/// The shortest spacing at which no part is late, given up, not followed, without an answer or met
/// by another's pulse, for this script's camera and inference and without its faults; nothing if
/// even parts ten seconds apart are, or the model hangs. `parts` are tried at each spacing.
pub fn fastest(plan: &Plan<'_>, script: &Script, parts: u64) -> Result<Option<(Micros, Outcome)>, String> {
    let ratio = |spacing: Micros| {
        // The script's own unevenness, as a share of its spacing.
        let (lo, hi) = (script.spacing.lo.0 as f64, script.spacing.hi.0.max(1) as f64);
        let spread = (hi - lo) / (hi + lo);
        let end = |sign: f64| Micros((spacing.0 as f64 * (1.0 + sign * spread)) as u64);
        Spread { lo: end(-1.0), hi: end(1.0) }
    };
    let trial = |spacing: Micros| {
        let spacing = ratio(spacing);
        // A part is in view until the next one is.
        let in_view = script.in_view.min(spacing.lo);
        let script = Script { spacing, in_view, parts, faults: Vec::new(), loses: None, ..script.clone() };
        run(plan, &script)
    };
    let (mut lo, mut hi) = (0u64, 10_000_000u64);
    let good = |o: &Outcome| {
        let unsorted = o.undecided + o.unseen + o.late + o.given_up + o.harmed;
        unsorted + o.held + o.hung == 0 && o.verdict.is_clean()
    };
    if hangs(plan, script) {
        return Ok(None);
    }
    let mut best = trial(Micros(hi))?;
    if !good(&best) {
        return Ok(None);
    }
    while hi - lo > (hi / 100).max(500) {
        let middle = (lo + hi) / 2;
        let outcome = trial(Micros(middle))?;
        if good(&outcome) {
            (hi, best) = (middle, outcome);
        } else {
            lo = middle;
        }
    }
    Ok(Some((Micros(hi), best)))
}
