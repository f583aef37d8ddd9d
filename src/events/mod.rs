//! What happens on the line: events of fixed size, figures, and a fan-out to sinks that nobody
//! waits for.
//!
//! The line, the outputs and the inputs *tell* [`Events`] what happened. Telling copies one event
//! into the queue of each sink: it never waits, allocates nothing, and what a full queue refuses is
//! counted against that sink only. Each sink has a thread of its own ([`sinks`]): the table or JSON
//! lines on standard output, the explanations on standard error, the site's log. Names are put to
//! numbers there ([`record`]). [`Counters`] count what was told, so that the summary can say
//! nothing else; a [`Snapshot`] shows the last image, parts and edges to any thread. `EVENTS.md`
//! beside this file is the specification of what is written.
//!
//! Terms: *event*: something that happened, with its time. *Tell*: hand an event to all sinks.
//! *Sink*: where events are written. *Lost*: an event that a sink could not take or write.

mod clients;
mod counters;
mod fanout;
mod kinds;
mod percentiles;
pub mod record;
pub mod run;
pub mod sinks;
mod snapshot;
mod wall;

pub use clients::{Client, ClientThreads};
pub use counters::{Counters, Figures};
pub use fanout::{Events, QUEUE, SMALL_QUEUE, SinkState, Sinking, Wants};
pub use kinds::FaultKind;
pub use percentiles::Percentiles;
pub use snapshot::{Edges, LAST_PARTS, Shown, Snapshot, View};
pub use wall::is_set as clock_is_set;

use crate::decide::{Action, Decision, TagRule};
use crate::frame::CapturedAt;
use crate::head::{Score, TagId};
use crate::outputs::State;
use crate::scene::Kind;
use crate::time::{Instant, Micros};
use heapless::Vec;

/// Version of the events' format. Fields are only added; readers ignore those they do not know.
pub const SCHEMA: u32 = 2;
/// Most images that a part's event lists: as many as may decide one.
pub const MAX_IMAGES: usize = crate::decide::MAX_FRAMES;
/// How many of a part's scores its event lists.
pub const TOP: usize = 3;

/// Something that happened, with its time. Its size is fixed, so that telling it allocates nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it was told, on the monotonic clock.
    pub at: Instant,
    /// The same in microseconds since 1970; `None` until the clock is set.
    pub wall: Option<u64>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "an event is copied into a queue's slot, never boxed on the line")]
pub enum What {
    /// The run began.
    Start,
    /// A part was triggered.
    Trigger(TriggerEvent),
    /// A part was decided, or given up.
    Part(PartEvent),
    /// An output moved, or should have.
    Edge(EdgeEvent),
    /// Something failed.
    Fault(FaultEvent),
    /// Somebody changed a tag's threshold or band; it holds from the next trigger on.
    Rule(RuleEvent),
    /// Another bundle was installed where this run's lies.
    Update(UpdateEvent),
    /// Another recipe is chosen for the line.
    Recipe(RecipeEvent),
    /// A second has passed: the figures so far.
    Status(Figures),
    /// The run has ended.
    Summary,
    /// Something a person should know that is no fault; only standard error shows it.
    Note(Why),
}

/// A part was triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerEvent {
    /// Its number, counted from 1.
    pub part: u64,
    /// The trigger's moment.
    pub trigger: Instant,
    /// Where the belt was, in encoder counts.
    pub position: i64,
    /// Whether it touches the part before it.
    pub touching: bool,
}

/// An image that counts for a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its time, and what that is worth.
    pub captured_at: CapturedAt,
    /// The source's number for it.
    pub sequence: u64,
}

/// How long each stage of a part's last image took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Crop, resize, colour, table.
    pub preprocess: Micros,
    /// Engine and head.
    pub infer: Micros,
    /// From capture to scores.
    pub total: Micros,
}

/// A part's end.
#[derive(Clone, Debug, PartialEq)]
pub struct PartEvent {
    /// Its number.
    pub part: u64,
    /// Its trigger.
    pub trigger: Instant,
    /// The images that count for it, in their order.
    pub images: Vec<Image, MAX_IMAGES>,
    /// When its last image was taken; its trigger if it had none.
    pub captured_at: Instant,
    /// The best tags of its last image; empty if nothing was classified.
    pub top: Vec<(TagId, Score), TOP>,
    /// What its images said together.
    pub decision: Decision,
    /// What happens to it; `None` if the line is safe.
    pub action: Option<Action>,
    /// Whether it was at its first gate by then, so that the late action was taken.
    pub late: bool,
    /// Tags that the figures count it for.
    pub counted: crate::decide::TagSet,
    /// Age of its last image when it was decided.
    pub age: Micros,
    /// How long its stages took.
    pub latency: Latency,
    /// Hash of the bundle that decided it.
    pub bundle: [u8; 32],
    /// What the simulator knows it to be.
    pub truth: Option<Kind>,
    /// Whether the verdict agrees with that; `None` where the model has no such tag.
    pub right: Option<bool>,
}

/// What a pin did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is in the state that was due.
    Done,
    /// It is, and a pulse ended before its time: the line went safe.
    Cut,
    /// It could not be written; its state is unknown.
    Failed,
}

/// An output moved, or should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeEvent {
    /// The part that called for it; 0 for none: going safe, busy, ready.
    pub part: u64,
    /// Index of the output.
    pub output: u8,
    /// The state that was due.
    pub state: State,
    /// When it was due.
    pub scheduled: Instant,
    /// When it was done, or failed.
    pub done: Instant,
    /// What the pin did.
    pub outcome: Outcome,
}

/// What was done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The part got this action.
    Action(Action),
    /// All outputs went to their safe state.
    Safe,
    /// It was told; the line goes on.
    Told,
}

impl Remedy {
    /// The name used in events and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Action(action) => action.name(),
            Self::Safe => "safe",
            Self::Told => "told",
        }
    }
}

impl From<Option<Action>> for Remedy {
    fn from(action: Option<Action>) -> Self {
        action.map_or(Self::Safe, Self::Action)
    }
}

/// Something failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultEvent {
    /// What.
    pub kind: FaultKind,
    /// The part it cost, where it concerns one.
    pub part: Option<u64>,
    /// How often this kind has been told in this run, this one included.
    pub count: u64,
    /// What was done about it.
    pub remedy: Remedy,
    /// What exactly happened and what to do; empty if the kind says all.
    pub why: Why,
}

/// A tag's threshold or band was changed.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleEvent {
    /// The tag.
    pub tag: TagId,
    /// What held before.
    pub old: TagRule,
    /// What holds from the next trigger on.
    pub new: TagRule,
    /// Who changed it: from where, and by which key.
    pub who: Why,
}

/// What became of an installed bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// It decides parts from now on.
    TakenOver,
    /// It differs in something that a running line cannot change; the one before it goes on.
    RestartNeeded,
    /// It must not run; the one before it goes on.
    Refused,
    /// It decided parts and did worse than the one before it, which decides them again.
    WentBack,
}

impl Update {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::TakenOver, Self::RestartNeeded, Self::Refused, Self::WentBack];
}

/// Another bundle was installed where this run's lies.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateEvent {
    /// What became of it.
    pub outcome: Update,
    /// Its hash; `None` where it cannot be read.
    pub bundle: Option<[u8; 32]>,
    /// The bundle by which parts were decided until now.
    pub before: [u8; 32],
    /// The bundle by which parts are decided from the next trigger on.
    pub running: [u8; 32],
    /// The first part that the running one decides, where that changed.
    pub from_part: Option<u64>,
    /// Why it was not taken over, or was left.
    pub why: Why,
}

/// What became of a choice of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Parts on their way have their end, then this run makes place for it.
    Chosen,
    /// It cannot run, as far as that can be seen; nothing changes.
    Refused,
    /// This run is the first by it.
    Running,
    /// It could not start; this run goes on by the one before.
    WentBack,
}

impl Switch {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Chosen, Self::Refused, Self::Running, Self::WentBack];
}

/// A recipe's name in memory of fixed size.
pub type RecipeName = heapless::String<64>;

/// Another recipe is chosen for the line.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeEvent {
    /// What became of the choice.
    pub outcome: Switch,
    /// The recipe before; empty for device.toml as it is.
    pub old: RecipeName,
    /// The one that was chosen.
    pub new: RecipeName,
    /// Who chose it.
    pub who: Why,
    /// Why it does not run.
    pub why: Why,
}

/// Most bytes of an explanation.
const WHY: usize = 256;

/// An explanation in memory of fixed size; what does not fit is cut and ends in "...".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why(heapless::String<WHY>);

impl Why {
    /// No explanation.
    pub const NONE: Self = Self(heapless::String::new());

    /// The explanation that `text` displays.
    pub fn of(text: &dyn core::fmt::Display) -> Self {
        use core::fmt::Write as _;
        let mut why = Self::NONE;
        // A text that does not fit was cut in `write_str`.
        let _ = write!(why, "{text}");
        why
    }

    /// The text; empty if there is none.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Write for Why {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if self.0.push_str(text).is_ok() {
            return Ok(());
        }
        for c in text.chars() {
            if self.0.len() + c.len_utf8() > WHY - 3 {
                break;
            }
            let _ = self.0.push(c);
        }
        while self.0.len() > WHY - 3 {
            self.0.pop();
        }
        let _ = self.0.push_str("...");
        Err(core::fmt::Error)
    }
}

/// The images of parts that wait for their verdict. Fixed capacity; where it does not suffice the
/// oldest are forgotten.
#[derive(Debug, Default)]
pub struct Images(heapless::Deque<(u64, Vec<Image, MAX_IMAGES>), { crate::line::MAX_PARTS }>);

impl Images {
    /// An image counts for a part.
    pub fn add(&mut self, part: u64, image: Image) {
        if let Some((_, images)) = self.0.iter_mut().find(|(id, _)| *id == part) {
            let _ = images.push(image);
            return;
        }
        if self.0.is_full() {
            self.0.pop_front();
        }
        let _ = self.0.push_back((part, Vec::from_iter([image])));
    }

    /// The images of a part that has its end; they are forgotten.
    pub fn take(&mut self, part: u64) -> Vec<Image, MAX_IMAGES> {
        let found = self.0.iter().find(|(id, _)| *id == part).map(|(_, images)| images.clone());
        self.0.retain(|(id, _)| *id != part);
        found.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
