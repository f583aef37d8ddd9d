//! device.toml: what a site decides. Parsed once into a type that cannot be wrong; every problem is
//! reported at once.
//!
//! Opens nothing. `device.toml` beside this file is the specification: every key, with its default.

mod decide;
mod inputs;
#[cfg(feature = "site")]
mod keep;
mod lines;
#[cfg(feature = "site")]
mod mqtt;
mod names;
#[cfg(feature = "site")]
mod overrides;
mod read;
mod reader;
#[cfg(feature = "site")]
mod recipes;
#[cfg(feature = "site")]
mod site;
#[cfg(feature = "site")]
pub(crate) mod state;
mod values;
mod warnings;

use crate::bundle::Input;
use crate::category::Categories;
use crate::decide::{Action, Policy, Role, TagPolicy, TagRule, TagSet, Task};
use crate::frame::{Layout, TimedBy};
use crate::line::{CalledBy, ConfirmRules, GateLine, MAX_LINES, PartRules, Shape, Spacing, Travel};
use crate::outputs::{Backend, Polarity, State};
use crate::preprocess::{Plan, Roi, Target};
use crate::sources::look_every;
use crate::station::{Calls, Routing, StationRules};
use crate::time::{Micros, Millis};
use crate::triggers::{PresenceRules, TriggerSpec};
#[cfg(feature = "site")]
pub use keep::Keeping;
pub use lines::{SafeLine, safe_lines};
#[cfg(feature = "site")]
pub use mqtt::Publishing;
pub use names::NamedCategory;
#[cfg(feature = "site")]
pub use overrides::{OVERRIDES, Overridden, Overrides, OverridesBefore};
pub use reader::Rename;
use reader::Table;
#[cfg(feature = "site")]
pub use recipes::{Chosen, MAX_RECIPES, NO_RECIPE, RECIPE, Recipe, UNREAD_RECIPE};
#[cfg(feature = "site")]
pub use site::{Listening, Polling, Predicting, Site};
#[cfg(feature = "site")]
pub use state::StateFolder;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
pub(crate) use values::quoted;
pub use warnings::{MeetsNext, Unguarded, View, Warning};

/// The complete, commented example: the specification of the file.
pub const EXAMPLE: &str = include_str!("device.toml");
/// The settings of the demonstration that `tagpin run` shows without any file.
pub const DEMO: &str = include_str!("demo.toml");
/// The settings of the long simulated run, for the shipped parts model.
pub const SOAK: &str = include_str!("soak.toml");
/// Most outputs of one device.
pub const MAX_OUTPUTS: usize = MAX_LINES;

/// What the outputs follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineMode {
    /// The tags: outputs move when a verdict is made.
    State,
    /// The parts: outputs move when the part is at the gate.
    Gate {
        /// What a part without a verdict gets.
        late: Action,
    },
}

/// What a missed edge does to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissedEdge {
    /// It is told and counted; every other part keeps its schedule.
    GoOn,
    /// All outputs go to their safe state.
    Safe,
}

/// What opens a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerKind {
    /// Each frame is a part.
    EveryFrame,
    /// The conveyor's light barrier.
    Barrier,
    /// A part that comes into view.
    Presence(PresenceRules),
    /// An input of its own, among [`Settings::inputs`].
    Input,
}

impl TriggerKind {
    /// Whether parts are found in frames, by the line itself.
    pub const fn is_seen_in_frames(&self) -> bool {
        !matches!(self, Self::Input)
    }
}

/// How a line moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Active from a verdict that calls for it until one that does not.
    Level,
    /// Active for so long.
    Pulse(Millis),
    /// Active from the first verdict that calls for it until acknowledged, the run's end or a safe
    /// line.
    Latched,
}

/// What moves a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drive {
    /// Verdicts that call for it.
    Calls(Calls),
    /// Each trigger, whatever becomes of the part.
    Trigger,
    /// A part is in flight that has no verdict yet.
    Busy,
    /// The next part can be taken: camera, model and outputs work.
    Ready,
    /// Something failed that nobody has acknowledged.
    Fault,
    /// It changes its state twice in a period as long as everything works.
    Heartbeat(Millis),
}

/// One output line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSettings {
    /// Its name.
    pub name: String,
    /// Where the file states its width, or its table: file, line and column.
    pub place: String,
    /// Where it is.
    pub backend: Backend,
    /// A file that gets its edges, in place of a pin (`backend = "events"`, read for one release).
    pub log: Option<EventLog>,
    /// Which voltage is active.
    pub polarity: Polarity,
    /// Its state whenever anything is wrong, and before and after a run.
    pub safe: State,
    /// How it moves.
    pub mode: Mode,
    /// From trigger to its gate; none where outputs follow the tags.
    pub delay: Travel,
    /// How late a pulse may begin; later it does not fire.
    pub window: Micros,
    /// What moves it.
    pub drive: Drive,
}

impl OutputSettings {
    /// Its gate; none for a line that parts do not move.
    pub fn gate_line(&self) -> Option<GateLine> {
        let shape = match self.mode {
            Mode::Level => Shape::Level,
            Mode::Pulse(width) => Shape::Pulse(width.micros()),
            Mode::Latched => Shape::Latched,
        };
        let by = match self.drive {
            Drive::Calls(_) => CalledBy::Verdict,
            Drive::Trigger => CalledBy::Trigger,
            Drive::Busy | Drive::Ready | Drive::Fault | Drive::Heartbeat(_) => return None,
        };
        Some(GateLine { delay: self.delay, shape, window: self.window, by })
    }
}

/// A file of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// The file.
    pub path: PathBuf,
    /// Size at which it is rotated.
    pub max_bytes: u64,
    /// Rotated files that are kept.
    pub files: u32,
    /// Bytes that may be written in a day.
    pub bytes_per_day: u64,
}

/// Everything a site decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The source string.
    pub source: String,
    /// Region of interest in the frame.
    pub roi: Option<Roi>,
    /// Longest time without a frame.
    pub frame_timeout: Millis,
    /// Longest time from opening the source to its first frame.
    pub first_frame_timeout: Millis,
    /// Most memory that decoding one image may take.
    pub picture_budget: crate::pictures::Budget,
    /// Equal frames in a row that count as frozen; 0 never.
    pub frozen_after: u32,
    /// What the outputs follow.
    pub mode: LineMode,
    /// Up to so late an edge is in time.
    pub late_edge: Micros,
    /// What a pulse that could not be done within its window does to the line.
    pub missed_edge: MissedEdge,
    /// What must be seen behind the gate, if anything looks there.
    pub confirm: Option<ConfirmRules>,
    /// What opens a part.
    pub trigger: TriggerKind,
    /// Inputs that are waited for: trigger, encoder, acknowledge, confirm.
    pub inputs: Vec<TriggerSpec>,
    /// Least distance of parts.
    pub spacing: Spacing,
    /// Longest time from exposure to arrival, for sources that know only a frame's arrival; none if
    /// nobody states it.
    pub max_latency: Option<Micros>,
    /// Frames and deadline of a part.
    pub part: PartRules,
    /// Whether the file states the deadline of a part on its way to a gate.
    pub has_deadline: bool,
    /// Combination of frames.
    pub policy: Policy,
    /// Threshold, review band, action and preference of every tag: the bundle's, and over them the
    /// site's own; then those of the categories.
    pub tags: Vec<TagPolicy>,
    /// The categories that the file names.
    pub categories: Vec<NamedCategory>,
    /// Output lines.
    pub outputs: Vec<OutputSettings>,
    /// Where events are written besides the terminal.
    pub events: Option<EventLog>,
    /// What other machines may see and ask.
    #[cfg(feature = "site")]
    pub site: Site,
    /// Threads that compute a layer, 1 to 4.
    pub threads: usize,
    /// Longest time without a beat of the supervisor.
    pub watchdog: Millis,
    /// Engine or output faults in a row after which the run is held safe and ends.
    pub max_faults: u32,
    /// Keys that stand in the file under an old name.
    pub renamed: Vec<Rename>,
}

/// What settings are checked against: the model's tags, their rules and roles.
#[derive(Clone, Copy, Debug)]
pub struct ModelTags<'a> {
    /// Names in the order of logits.
    pub names: &'a [&'a str],
    /// Rules in the same order.
    pub rules: &'a [TagRule],
    /// Roles in the same order.
    pub roles: &'a [Role],
    /// Names for groups of them; `None` where the bundle has no categories.
    pub categories: Option<Categories<'a>>,
}

/// All problems of a file, each with its place and its mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(pub Vec<String>);

impl std::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for SettingsError {}

/// What a file says as far as it can be read: whatever else can be looked at, a defect in one table
/// does not hide one elsewhere.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it says; a value that is wrong is its key's default.
    pub settings: Settings,
    /// What is wrong, each with its place.
    pub problems: Vec<String>,
    /// Paths of tables and keys that have a problem.
    wrong: BTreeSet<String>,
}

impl Draft {
    /// Settings without a problem.
    pub fn of(settings: Settings) -> Self {
        Self { settings, problems: Vec::new(), wrong: BTreeSet::new() }
    }

    /// Whether a table, such as `source` or `outputs.gate`, and everything in it can be relied on.
    pub fn is_right(&self, table: &str) -> bool {
        let within = |wrong: &String| wrong.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        !self.wrong.iter().any(within)
    }
}

impl Settings {
    /// Reads a file.
    pub fn open(path: &Path, model: ModelTags<'_>) -> Result<Self, SettingsError> {
        let draft = Self::open_draft(path, None, model)?;
        if draft.problems.is_empty() { Ok(draft.settings) } else { Err(SettingsError(draft.problems)) }
    }

    /// Reads a file that may have problems, with one of its recipes. Refuses one that cannot be
    /// read or is no TOML.
    pub fn open_draft(path: &Path, recipe: Option<&str>, model: ModelTags<'_>) -> Result<Draft, SettingsError> {
        let text = crate::regular::read_text(path, crate::regular::TEXT).map_err(|e| {
            SettingsError(vec![format!("{}: cannot be read: {e}; start from `tagpin check --example`", path.display())])
        })?;
        Self::draft_of(&text, &path.display().to_string(), recipe, model)
    }

    /// Recipes are a part of `site`.
    #[cfg(not(feature = "site"))]
    pub fn draft_of(text: &str, name: &str, _: Option<&str>, model: ModelTags<'_>) -> Result<Draft, SettingsError> {
        Self::draft(text, name, model)
    }

    /// Parses the text of a file; `name` stands in messages.
    pub fn parse(text: &str, name: &str, model: ModelTags<'_>) -> Result<Self, SettingsError> {
        let draft = Self::draft(text, name, model)?;
        if draft.problems.is_empty() { Ok(draft.settings) } else { Err(SettingsError(draft.problems)) }
    }

    /// The same of a file that may have problems: what it says as far as it can be read, and what
    /// is wrong with it. Refuses text that is no TOML.
    pub fn draft(text: &str, name: &str, model: ModelTags<'_>) -> Result<Draft, SettingsError> {
        Ok(Self::read_draft(&reader::parse(text, name)?, text, name, model))
    }

    /// What `parsed` says, the tables of `text`.
    fn read_draft(parsed: &toml::de::DeTable<'_>, text: &str, name: &str, model: ModelTags<'_>) -> Draft {
        let mut root = Table::root(parsed, text, name);
        let mut settings = read::read(&mut root, model);
        let reader::Outcome { problems, wrong, renamed } = root.finish();
        settings.renamed = renamed;
        Draft { settings, problems, wrong }
    }

    /// Names of what is decided on: the model's tags, then the categories that the file names.
    pub fn names<'n>(&'n self, tags: impl Iterator<Item = &'n str>) -> impl Iterator<Item = &'n str> {
        tags.chain(self.categories.iter().map(|c| c.name.as_str()))
    }

    /// The tags of each category that the file names, in the order in which their scores stand
    /// behind those of the model's tags.
    pub fn leaves(&self) -> Vec<TagSet> {
        self.categories.iter().map(|c| c.leaves).collect()
    }

    /// Which lines each decision calls for, for a model of this task.
    pub fn routing(&self, task: Task) -> Routing {
        let calls = |o: &OutputSettings| match o.drive {
            Drive::Calls(calls) => Some(calls),
            Drive::Trigger | Drive::Busy | Drive::Ready | Drive::Fault | Drive::Heartbeat(_) => None,
        };
        let late = match self.mode {
            LineMode::State => None,
            LineMode::Gate { late } => Some(late),
        };
        Routing::new(task, late, &self.outputs.iter().map(calls).collect::<Vec<_>>())
    }

    /// What the station goes by, for a model of this task. `parts`: the number after which it is
    /// over; 0 for no limit.
    pub fn station(&self, task: Task, parts: u64) -> StationRules<'_> {
        StationRules {
            tags: &self.tags,
            policy: self.policy,
            routing: self.routing(task),
            every_frame: self.trigger == TriggerKind::EveryFrame,
            spacing: self.spacing,
            part: self.part,
            first_gate: self.first_gate(),
            parts,
            max_faults: self.max_faults,
        }
    }

    /// The text of a file with every key that stands under an old name renamed; comments and layout
    /// stay as they are. `renamed`: of the same text.
    pub fn migrate(text: &str, renamed: &[Rename]) -> String {
        let mut new = String::with_capacity(text.len());
        let mut done = 0;
        for rename in renamed {
            new += &text[done..rename.at.start];
            new += rename.new;
            done = rename.at.end;
        }
        new + &text[done..]
    }

    /// Whether a frame is only of use if it is known when it was exposed: outputs follow parts, and
    /// what tells of a part is not seen in frames.
    pub fn needs_time(&self) -> bool {
        self.mode != LineMode::State && !self.trigger.is_seen_in_frames()
    }

    /// Whether frames of this layout hold the regions that are looked at: by a model whose image is
    /// `input`, and by a trigger that is found in frames.
    pub fn check_regions(&self, layout: Layout, input: &Input) -> Result<(), String> {
        Plan::taps_len(layout, Target::of(input, self.roi)).map_err(|e| e.to_string())?;
        let (width, height) = (layout.width, layout.height);
        let looked_at = if let TriggerKind::Presence(rules) = self.trigger { rules.roi } else { None };
        looked_at.filter(|roi| !roi.is_held_by(width, height)).map_or(Ok(()), |r| {
            Err(format!(
                "the trigger's region x={} y={} {}x{} does not fit into frames of {width}x{height}, so no part would ever be found; \
                 change [trigger.roi]",
                r.x, r.y, r.width, r.height
            ))
        })
    }

    /// The output whose pulses may be late by least, the first of them.
    fn smallest_window(&self) -> Option<&OutputSettings> {
        let pulses = self.outputs.iter().filter(|o| o.gate_line().is_some_and(|g| matches!(g.shape, Shape::Pulse(_))));
        pulses.min_by_key(|o| o.window)
    }

    /// How old a frame in which a part is found may be where its gate goes by it, as far as that is
    /// known: as stated, and as much as a pulse may be late, which is never less than a frame waits
    /// in its pipe until somebody looks. `interval`: from one frame to the next, 0 where unknown.
    /// `None` where nobody goes by it.
    pub fn found_within(&self, interval: Micros) -> Option<Micros> {
        // A flash is at its trigger, whatever moment that is.
        let gates = self.outputs.iter().filter_map(|o| Some((o.gate_line()?, o.window)));
        let pulses = gates.filter(|(gate, _)| gate.by == CalledBy::Verdict && matches!(gate.shape, Shape::Pulse(_)));
        let window = pulses.map(|(_, window)| window).min().unwrap_or(self.late_edge);
        let looks = look_every(interval);
        let goes_by_it = self.mode != LineMode::State && self.trigger.is_seen_in_frames();
        self.max_latency.filter(|_| goes_by_it).map(|latency| Micros(latency.0 + window.max(Micros(2 * looks.0)).0))
    }

    /// Whether the source can give what trigger and mode need: a light barrier, and a time at which
    /// a frame was exposed.
    pub fn check_source(&self, has_barrier: bool, timed_by: TimedBy) -> Result<(), String> {
        if self.trigger == TriggerKind::Barrier && !has_barrier {
            return Err(format!("source \"{}\" has no light barrier; choose another [trigger] kind", self.source));
        }
        if self.needs_time() && timed_by == TimedBy::Arrival {
            return Err(format!(
                "source \"{}\" knows only when a frame arrived; in gate mode state the longest time from exposure to arrival \
                 as [trigger] max_latency_ms (0 is not a statement), so that no frame of the part before is taken",
                self.source
            ));
        }
        Ok(())
    }

    /// What the source must keep to.
    pub fn source_limits(&self) -> crate::sources::Limits {
        crate::sources::Limits {
            picture: self.picture_budget,
            first_frame: self.first_frame_timeout.micros().duration(),
            latency: self.max_latency,
            needs_time: self.needs_time(),
        }
    }

    /// The shortest time from a trigger to a gate that a verdict moves; none where no such gate is
    /// a time away.
    pub fn first_gate(&self) -> Option<Micros> {
        let gates = self.outputs.iter().filter_map(|o| o.gate_line()).filter(|g| g.by == CalledBy::Verdict);
        let delays = gates.filter_map(|g| match g.delay {
            Travel::Time(span) => Some(span),
            Travel::Counts(_) => None,
        });
        delays.min()
    }

    /// The settings of the demonstration, for the shipped parts model.
    pub fn demo(model: ModelTags<'_>) -> Result<Self, SettingsError> {
        Self::parse(DEMO, "the built-in demo.toml", model)
    }

    /// What a model needs without any file: each frame is a part, no output.
    pub fn plain(model: ModelTags<'_>) -> Self {
        Self::parse("", "no settings", model).expect("the empty file is well formed for every model")
    }
}

#[cfg(test)]
mod tests;
