//! device.toml: what a site decides. Parsed once into a type that cannot be wrong; every problem is reported at once.
//!
//! Opens nothing. `device.toml` beside this file is the specification: every key, with its default.

mod reader;

use crate::decide::{Policy, TagRule};
use crate::head::{Score, TagId};
use crate::line::PartRules;
use crate::outputs::{Backend, Polarity, State};
use crate::preprocess::Roi;
use crate::time::Millis;
use reader::Table;
use std::path::{Path, PathBuf};

/// The complete, commented example: the specification of the file.
pub const EXAMPLE: &str = include_str!("device.toml");
/// The settings of the demonstration that `tagpin run` shows without any file.
pub const DEMO: &str = include_str!("demo.toml");
/// Most outputs of one device.
pub const MAX_OUTPUTS: usize = 32;

/// What happens to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is good.
    Accept,
    /// It is thrown out.
    Reject,
    /// A person looks at it.
    Review,
}

impl Action {
    /// The name used in settings, events and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Review => "review",
        }
    }
}

/// What opens a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerKind {
    /// Each frame is a part.
    EveryFrame,
    /// The conveyor's light barrier.
    Barrier,
}

/// How a line moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Active from a verdict that calls for it until one that does not.
    Level,
    /// Active for so long.
    Pulse(Millis),
    /// Active from the first verdict that calls for it until the run ends or the line goes safe.
    Latched,
}

/// What calls for a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Actions that do.
    pub actions: Vec<Action>,
    /// Tags that do when present.
    pub tags: Vec<TagId>,
    /// Whether a part of unknown tag does.
    pub unknown: bool,
}

/// One output line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSettings {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub backend: Backend,
    /// Which voltage is active.
    pub polarity: Polarity,
    /// Its state whenever anything is wrong, and before and after a run.
    pub safe: State,
    /// How it moves.
    pub mode: Mode,
    /// What calls for it.
    pub calls: Calls,
}

/// The site's event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// The file.
    pub path: PathBuf,
    /// Size at which it is rotated.
    pub max_bytes: u64,
    /// Rotated files that are kept.
    pub files: u32,
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
    /// Equal frames in a row that count as frozen; 0 never.
    pub frozen_after: u32,
    /// What opens a part.
    pub trigger: TriggerKind,
    /// Frames and deadline of a part.
    pub part: PartRules,
    /// Combination of frames.
    pub policy: Policy,
    /// Thresholds per tag: the bundle's, or the site's own.
    pub rules: Vec<TagRule>,
    /// What a present tag means.
    pub actions: Vec<Action>,
    /// What a part of unknown tag gets.
    pub unknown: Action,
    /// Output lines.
    pub outputs: Vec<OutputSettings>,
    /// Where events are written besides the terminal.
    pub events: Option<EventLog>,
    /// Longest time without a beat of the supervisor.
    pub watchdog: Millis,
    /// Engine or output faults in a row after which the run is held safe and ends.
    pub max_faults: u32,
}

/// What settings are checked against: the model's tags and their rules.
#[derive(Clone, Copy, Debug)]
pub struct ModelTags<'a> {
    /// Names in the order of logits.
    pub names: &'a [&'a str],
    /// Rules in the same order.
    pub rules: &'a [TagRule],
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

impl Settings {
    /// Reads a file.
    pub fn open(path: &Path, model: ModelTags<'_>) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            SettingsError(vec![format!("{}: cannot be read: {e}; start from `tagpin check --example`", path.display())])
        })?;
        Self::parse(&text, &path.display().to_string(), model)
    }

    /// Parses the text of a file; `name` stands in messages.
    pub fn parse(text: &str, name: &str, model: ModelTags<'_>) -> Result<Self, SettingsError> {
        let parsed = reader::parse(text, name)?;
        let mut root = Table::root(&parsed, text, name);
        let settings = Self::read(&mut root, model);
        let problems = root.finish();
        if problems.is_empty() { Ok(settings) } else { Err(SettingsError(problems)) }
    }

    /// Whether the source can give what the trigger needs.
    pub fn check_trigger(&self, has_barrier: bool) -> Result<(), String> {
        if self.trigger == TriggerKind::Barrier && !has_barrier {
            return Err(format!("source \"{}\" has no light barrier; set [trigger] kind = \"every_frame\"", self.source));
        }
        Ok(())
    }

    /// The settings of the demonstration, for the shipped parts model.
    pub fn demo(model: ModelTags<'_>) -> Result<Self, SettingsError> {
        Self::parse(DEMO, "the built-in demo.toml", model)
    }

    /// What a model needs without any file: each frame is a part, no output.
    pub fn plain(model: ModelTags<'_>) -> Self {
        Self::parse("", "no settings", model).expect("the empty file is well formed for every model")
    }

    fn read(root: &mut Table<'_>, model: ModelTags<'_>) -> Self {
        let tag_id = |name: &str| model.names.iter().position(|n| *n == name).map(|i| TagId(i as u16));
        let unknown_tag = |name: &str| {
            let shown: Vec<String> = model.names.iter().take(8).map(|n| format!("\"{n}\"")).collect();
            let more = if model.names.len() > 8 { ", ..." } else { "" };
            format!("the model has no tag \"{name}\"; it has {}{more}", shown.join(", "))
        };

        let mut source = root.table("source");
        let open = source.text("open", "conveyor");
        if let Err(e) = open.parse::<crate::sources::SourceSpec>() {
            source.problem("open", e.to_string());
        }
        let frame_timeout = Millis(source.integer("frame_timeout_ms", 1000, 10..=600_000) as u32);
        let frozen_after = source.integer("frozen_after", 30, 0..=1_000_000) as u32;
        let roi = source.has("roi").then(|| {
            let mut t = source.table("roi");
            let mut side = |key: &str, lo: i64| t.integer(key, lo, lo..=8192) as u32;
            Roi { x: side("x", 0), y: side("y", 0), width: side("width", 1), height: side("height", 1) }
        });

        let mut trigger = root.table("trigger");
        let kind = match trigger.choice("kind", "every_frame", &["every_frame", "barrier"]) {
            "barrier" => TriggerKind::Barrier,
            _ => TriggerKind::EveryFrame,
        };
        let frames = trigger.integer("frames", 1, 1..=16) as u8;
        if kind == TriggerKind::EveryFrame && frames != 1 {
            trigger.problem("frames", "a trigger on every frame makes parts of 1 frame; use [decide] n and k".into());
        }
        let part = PartRules {
            frames,
            deadline: Millis(trigger.integer("deadline_ms", 500, 1..=600_000) as u32),
            max_latency: Millis(trigger.integer("max_latency_ms", 0, 0..=600_000) as u32),
        };

        let mut decide = root.table("decide");
        let n = decide.integer("n", part.frames as i64, 1..=16) as u8;
        let k = decide.integer("k", n.div_ceil(2) as i64, 1..=16) as u8;
        if k > n {
            decide.problem("k", format!("k = {k} of n = {n} frames; lower it"));
        }
        if kind == TriggerKind::Barrier && n != part.frames {
            decide.problem("n", format!("n = {n}, but a part has [trigger] frames = {}; make them equal", part.frames));
        }
        let score = |p: f64| Score::from_probability(p as f32).unwrap_or(Score::HALF);
        let policy = Policy {
            n,
            k: k.min(n),
            hysteresis: score(decide.real("hysteresis", 0.0, 0.0..=1.0)),
            dwell: Millis(decide.integer("dwell_ms", 0, 0..=600_000) as u32),
            stale_after: Millis(decide.integer("stale_after_ms", 1000, 1..=600_000) as u32),
        };
        let unknown = match decide.choice("unknown", "reject", &["accept", "reject", "review"]) {
            "accept" => Action::Accept,
            "review" => Action::Review,
            _ => Action::Reject,
        };
        let mut actions = vec![Action::Accept; model.names.len()];
        for (key, action) in [("reject", Action::Reject), ("review", Action::Review)] {
            for (name, at) in decide.texts(key) {
                match tag_id(&name) {
                    None => decide.problem_at(at, unknown_tag(&name)),
                    Some(id) if actions[id.0 as usize] != Action::Accept => {
                        decide.problem_at(at, format!("tag \"{name}\" stands in two lists or twice; keep one"));
                    }
                    Some(id) => actions[id.0 as usize] = action,
                }
            }
        }

        let mut rules = model.rules.to_vec();
        let mut tags = root.table("tags");
        for name in tags.names() {
            let mut t = tags.table(&name);
            let Some(id) = tag_id(&name) else {
                t.allow_all();
                tags.problem(&name, unknown_tag(&name));
                continue;
            };
            let rule = &mut rules[id.0 as usize];
            let default = *rule;
            rule.threshold = score(t.real("threshold", default.threshold.probability() as f64, 0.0..=1.0));
            let low = default.review_low.min(rule.threshold).probability() as f64;
            rule.review_low = score(t.real("review_low", low, 0.0..=1.0));
            if rule.review_low > rule.threshold {
                t.problem("review_low", "lies above threshold; lower it".into());
            }
        }

        let outputs = Self::outputs(root, &tag_id, &unknown_tag);

        let mut log = root.table("events");
        let events = log.has("path").then(|| EventLog {
            path: log.text("path", "").into(),
            max_bytes: log.integer("max_kb", 1024, 1..=1 << 22) as u64 * 1024,
            files: log.integer("files", 4, 0..=100) as u32,
        });
        let mut safety = root.table("safety");
        Self {
            source: open.into(),
            roi,
            frame_timeout,
            frozen_after,
            trigger: kind,
            part,
            policy,
            rules,
            actions,
            unknown,
            outputs,
            events,
            watchdog: Millis(safety.integer("watchdog_ms", 2000, 50..=600_000) as u32),
            max_faults: safety.integer("max_faults", 10, 1..=1_000_000) as u32,
        }
    }

    fn outputs(
        root: &mut Table<'_>,
        tag_id: &dyn Fn(&str) -> Option<TagId>,
        unknown_tag: &dyn Fn(&str) -> String,
    ) -> Vec<OutputSettings> {
        let mut outputs: Vec<OutputSettings> = Vec::new();
        let mut tables = root.table("outputs");
        for name in tables.names() {
            let mut t = tables.table(&name);
            let backend = match t.choice("backend", "simulated", &["simulated", "gpiochip", "rppal", "events"]) {
                "gpiochip" => Backend::Gpiochip { chip: t.required("chip"), line: t.required("line") },
                "rppal" => Backend::Rppal { pin: t.integer("pin", -1, 0..=57).max(0) as u8 },
                "events" => Backend::Events {
                    path: t.required("path").into(),
                    max_bytes: t.integer("max_kb", 1024, 1..=1 << 22) as u64 * 1024,
                    files: t.integer("files", 4, 0..=100) as u32,
                },
                _ => Backend::Simulated,
            };
            if backend != Backend::Simulated
                && let Some(other) = outputs.iter().find(|o| same_line(&o.backend, &backend))
            {
                let why = format!("{backend}, which \"{}\" already holds; free it or choose another", other.name);
                tables.problem(&name, why);
            }
            let polarity = match t.choice("active", "high", &["high", "low"]) {
                "low" => Polarity::ActiveLow,
                _ => Polarity::ActiveHigh,
            };
            let safe = match t.choice("safe", "inactive", &["active", "inactive"]) {
                "active" => State::Active,
                _ => State::Inactive,
            };
            let mode = match t.choice("mode", "level", &["level", "pulse", "latched"]) {
                "pulse" => Mode::Pulse(Millis(t.integer("width_ms", 100, 1..=600_000) as u32)),
                "latched" => Mode::Latched,
                _ => Mode::Level,
            };
            if !matches!(mode, Mode::Pulse(_)) && t.has("width_ms") {
                t.problem("width_ms", "belongs to mode = \"pulse\" only; remove it or change the mode".into());
            }
            let mut calls = Calls::default();
            for (word, at) in t.texts("on") {
                match (word.as_str(), word.strip_prefix("tag:")) {
                    ("accept", _) => calls.actions.push(Action::Accept),
                    ("reject", _) => calls.actions.push(Action::Reject),
                    ("review", _) => calls.actions.push(Action::Review),
                    ("unknown", _) => calls.unknown = true,
                    (_, Some(tag)) => match tag_id(tag) {
                        Some(id) => calls.tags.push(id),
                        None => t.problem_at(at, unknown_tag(tag)),
                    },
                    (other, None) => t.problem_at(
                        at,
                        format!("\"{other}\": expected \"accept\", \"reject\", \"review\", \"unknown\" or \"tag:NAME\""),
                    ),
                }
            }
            if calls == Calls::default() {
                t.problem("on", "nothing calls for this output; name at least one action or tag".into());
            }
            outputs.push(OutputSettings { name, backend, polarity, safe, mode, calls });
        }
        if outputs.len() > MAX_OUTPUTS {
            tables.problem("", format!("{} outputs, at most {MAX_OUTPUTS}", outputs.len()));
        }
        outputs
    }
}

fn same_line(a: &Backend, b: &Backend) -> bool {
    match (a, b) {
        (Backend::Events { path: a, .. }, Backend::Events { path: b, .. }) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
