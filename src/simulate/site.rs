//! A second reading of device.toml, for the ledger: only what it needs, the way src/line/README.md
//! says it, sharing no code with the settings that the line runs by.
//!
//! The file has been accepted by then: what is missing has its stated default, and nothing is
//! checked again.

use super::naive::{Rule, Tag};
use crate::decide::{Action, Role};
use toml::{Table, Value};

/// What the model says of one tag.
#[derive(Clone, Debug)]
pub struct ModelTag {
    /// Its name.
    pub name: String,
    /// Threshold of the bundle, 0..=65535.
    pub threshold: u16,
    /// Start of the bundle's review band.
    pub review_low: u16,
    /// What it stands for.
    pub role: Role,
}

/// The tags as the bundle of a later model has them: every second one's thresholds are a quarter
/// lower.
pub(super) fn of_model(first: &[ModelTag], model: u64) -> Vec<ModelTag> {
    let lower = |score: u16| if model.is_multiple_of(2) { score } else { score - score / 4 };
    let tag = |t: &ModelTag| ModelTag { threshold: lower(t.threshold), review_low: lower(t.review_low), ..t.clone() };
    first.iter().map(tag).collect()
}

/// How an output moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moves {
    /// For this time, in microseconds.
    Pulse(u64),
    /// Until a part that does not call for it.
    Level,
    /// Until acknowledged.
    Latched,
}

/// From the trigger to somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A time, in microseconds, in which the belt moves.
    Us(u64),
    /// Encoder counts.
    Counts(i64),
}

/// What an output shows that parts do not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Busy,
    Ready,
    Fault,
    /// It changes its state each time this many microseconds have passed.
    Heartbeat(u64),
}

/// An output that parts do not move.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) shows: Shows,
    /// Whether its safe state is active.
    pub(super) safe_active: bool,
}

/// A sensor behind a gate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirm {
    /// The output whose parts it sees, by its place among the lines.
    pub(super) line: usize,
    pub(super) within_us: u64,
}

/// An output that parts move.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) delay: Way,
    pub(super) moves: Moves,
    /// How late a pulse may begin.
    pub(super) window_us: u64,
    /// Whether its safe state is active.
    pub(super) safe_active: bool,
    /// Whether each trigger calls for it.
    pub(super) by_trigger: bool,
    /// The words of `on`.
    pub(super) on: Vec<String>,
}

/// What a site wants of its line.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) late: Action,
    /// Whether a missed edge makes the line safe.
    pub(super) missed_is_safe: bool,
    /// Up to so late an edge is in time.
    pub(super) late_us: u64,
    pub(super) frames: usize,
    /// Whether a part that is given an image of the part before gets the late action, and that part
    /// too.
    pub(super) frozen_is_late: bool,
    /// How long a part is waited for.
    pub(super) deadline: Way,
    pub(super) to_camera: Way,
    pub(super) min_spacing: Way,
    pub(super) too_close: String,
    pub(super) stale_us: u64,
    pub(super) rule: Rule,
    /// By the even models and by the odd ones.
    tags: [Vec<Tag>; 2],
    pub(super) names: Vec<String>,
    pub(super) exclusive: bool,
    pub(super) lines: Vec<Line>,
    pub(super) statuses: Vec<Status>,
    pub(super) confirm: Option<Confirm>,
}

/// One table of the file; an absent one is empty.
struct Of<'t>(Option<&'t Table>);

impl Of<'_> {
    fn number(&self, key: &str) -> Option<f64> {
        let value = self.0?.get(key)?;
        value.as_float().or_else(|| value.as_integer().map(|i| i as f64))
    }

    fn us(&self, key: &str) -> Option<u64> {
        self.number(key).map(|ms| (ms * 1000.0) as u64)
    }

    fn word(&self, key: &str, default: &str) -> String {
        self.0.and_then(|t| t.get(key)).and_then(Value::as_str).unwrap_or(default).to_string()
    }

    fn list(&self, key: &str) -> Vec<String> {
        let list = self.0.and_then(|t| t.get(key)).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
    }

    fn action(&self, key: &str) -> Action {
        match self.word(key, "reject").as_str() {
            "accept" => Action::Accept,
            "review" => Action::Review,
            _ => Action::Reject,
        }
    }
}

/// Scores are shares of 65535, rounded.
fn score(share: f64) -> u16 {
    (share as f32 * 65535.0 + 0.5) as u16
}

impl Site {
    /// Reads `text`.
    pub(super) fn read(text: &str, model: &[ModelTag], exclusive: bool) -> Result<Self, toml::de::Error> {
        let file: Table = text.parse()?;
        let table = |name: &str| Of(file.get(name).and_then(Value::as_table));
        let way = |t: &Of<'_>, name: &str| {
            let counts = t.number(&format!("{name}_counts")).map(|n| Way::Counts(n as i64));
            counts.unwrap_or(Way::Us(t.us(&format!("{name}_ms")).unwrap_or(0)))
        };
        let (line, trigger, decide) = (table("line"), table("trigger"), table("decide"));
        let late_us = line.us("late_ms").unwrap_or(5000);
        let (mut lines, mut statuses) = (Vec::new(), Vec::new());
        for (name, output) in file.get("outputs").and_then(Value::as_table).into_iter().flatten() {
            let o = Of(output.as_table());
            let on = o.list("on");
            let safe_active = o.word("safe", "inactive") == "active";
            let shows = match on[0].as_str() {
                "busy" => Some(Shows::Busy),
                "ready" => Some(Shows::Ready),
                "fault" => Some(Shows::Fault),
                "heartbeat" => Some(Shows::Heartbeat(o.us("period_ms").unwrap_or(500_000) / 2)),
                _ => None,
            };
            if let Some(shows) = shows {
                statuses.push(Status { name: name.clone(), shows, safe_active });
                continue;
            }
            let by_trigger = on[0] == "trigger";
            let mode = o.word("mode", if by_trigger { "pulse" } else { "level" });
            let moves = match mode.as_str() {
                "pulse" => Moves::Pulse(o.us("width_ms").unwrap_or(100_000)),
                "latched" => Moves::Latched,
                _ => Moves::Level,
            };
            // By default its width, or half of the least distance in time where that is less; never
            // below late_ms.
            let half = trigger.us("min_spacing_ms").filter(|us| *us > 0).map_or(u64::MAX, |us| us / 2);
            let default = if let Moves::Pulse(width) = moves { width.min(half) } else { 0 };
            let window_us = o.us("window_ms").unwrap_or(default).max(late_us);
            let delay = way(&o, "delay");
            lines.push(Line { name: name.clone(), delay, moves, window_us, safe_active, by_trigger, on });
        }
        let frames = trigger.number("frames").unwrap_or(1.0) as usize;
        let n = decide.number("n").map_or(frames, |n| n as usize);
        // By default a part is not waited for beyond its first gate: the first in counts where
        // there is one, else the first in whole milliseconds; half a second where there is none.
        let gates = || lines.iter().filter(|l| !l.by_trigger).map(|l| l.delay);
        let counts = gates().filter_map(|way| if let Way::Counts(n) = way { Some(n) } else { None }).min();
        let us = gates().filter_map(|way| if let Way::Us(us) = way { Some(us / 1000 * 1000) } else { None }).min();
        let stated = ["deadline_ms", "deadline_counts"].iter().any(|key| trigger.number(key).is_some());
        let deadline = match counts {
            _ if stated => way(&trigger, "deadline"),
            Some(n) => Way::Counts(n),
            None => Way::Us(us.unwrap_or(500_000)),
        };
        let confirm = table("confirm");
        let confirm = lines
            .iter()
            .position(|l| l.name == confirm.word("output", ""))
            .map(|line| Confirm { line, within_us: confirm.us("within_ms").unwrap_or(200_000) });
        Ok(Self {
            late: line.action("late"),
            missed_is_safe: line.word("missed_edge", "go_on") == "safe",
            late_us,
            frames,
            frozen_is_late: table("source").number("frozen_after") != Some(0.0),
            deadline,
            to_camera: way(&trigger, "to_camera"),
            min_spacing: way(&trigger, "min_spacing"),
            too_close: trigger.word("too_close", "reject"),
            stale_us: decide.us("stale_after_ms").unwrap_or(600_000_000),
            rule: Rule {
                best: decide.word("combine", "consensus") == "best",
                n,
                k: decide.number("k").map_or(n.div_ceil(2), |k| k as usize),
                hysteresis: score(decide.number("hysteresis").unwrap_or(0.0)),
                dwell_us: decide.us("dwell_ms").unwrap_or(0),
                unknown: decide.action("unknown"),
                foreign: decide.action("foreign"),
            },
            tags: [0, 1].map(|n| of_model(model, n).iter().map(|m| Self::tag(m, &decide, &table("tags"))).collect()),
            names: model.iter().map(|m| m.name.clone()).collect(),
            exclusive,
            lines,
            statuses,
            confirm,
        })
    }

    /// Its tags as a model's bundle has them.
    pub(super) fn tags_of(&self, model: u64) -> &[Tag] {
        &self.tags[model as usize % 2]
    }

    /// A tag's threshold: the bundle's, over it the site's default, over that its own table. Its
    /// action: its role's, or the list's that names it.
    fn tag(model: &ModelTag, decide: &Of<'_>, tags: &Of<'_>) -> Tag {
        let (mut threshold, mut review_low) = (model.threshold, model.review_low);
        for key in ["default", model.name.as_str()] {
            let own = Of(tags.0.and_then(|t| t.get(key)).and_then(Value::as_table));
            if let Some(p) = own.number("threshold") {
                threshold = score(p);
            }
            review_low = own.number("review_low").map_or(review_low.min(threshold), score);
        }
        let named = |list: &str| decide.list(list).contains(&model.name);
        let action = match (named("reject"), named("review"), named("accept"), model.role) {
            (true, ..) => Action::Reject,
            (_, true, ..) => Action::Review,
            (_, _, true, _) => Action::Accept,
            (.., Role::Defect) => Action::Reject,
            (.., Role::Good | Role::Other) => Action::Accept,
        };
        let place = decide.list("pick").iter().position(|n| *n == model.name).unwrap_or(usize::MAX);
        Tag { threshold, review_low, action, place }
    }

    /// The encoder counts from the trigger at which something happens.
    pub(super) fn counts(&self) -> Vec<i64> {
        let ways = self.lines.iter().map(|l| l.delay).chain([self.to_camera, self.deadline]);
        ways.filter_map(|way| if let Way::Counts(n) = way { Some(n) } else { None }).collect()
    }

    /// Whether a line is called for by a part of this verdict, action and tags.
    pub(super) fn is_called(&self, line: &Line, word: &str, action: Action, tag: Option<usize>, held: &[usize]) -> bool {
        let shown: Vec<usize> = match (self.exclusive, word) {
            (false, _) => held.to_vec(),
            (true, "present") => tag.into_iter().collect(),
            (true, _) => Vec::new(),
        };
        line.on.iter().any(|w| match w.strip_prefix("tag:") {
            Some(name) => shown.iter().any(|t| self.names[*t] == name),
            None => w == action.name() || (w == word && ["unknown", "foreign"].contains(&word)),
        })
    }
}
