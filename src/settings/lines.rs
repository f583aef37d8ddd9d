//! [outputs.NAME]: where an output line is, how it moves, and what moves it.

use super::names::Names;
use super::reader::Table;
use super::values::{TEN_MINUTES_MS, travel};
use super::*;
use crate::category::PREFIX;

/// How the rest of an output's table is read for one word.
type Read<T> = fn(&mut Table<'_>) -> T;

/// How the rest of the table is read for one mode.
const MODES: [(&str, Read<Mode>); 3] = [
    ("level", |_| Mode::Level),
    ("pulse", |t| Mode::Pulse(Millis(t.integer("width_ms", 100, 1..=TEN_MINUTES_MS) as u32))),
    ("latched", |_| Mode::Latched),
];

/// How the rest of the table is read for one backend.
const BACKENDS: [(&str, Read<Place>); 4] = [
    ("simulated", |_| (Backend::Simulated, None)),
    ("gpiochip", |t| (Backend::Gpiochip { chip: t.required("chip"), line: t.required("line") }, None)),
    ("rppal", |t| (Backend::Rppal { pin: t.integer("pin", -1, 0..=57).max(0) as u8 }, None)),
    // Read for one release: a line that is nowhere, with a file that its edges are told to.
    ("events", |t| {
        let path = t.required("path");
        (Backend::Simulated, Some(event_file(t, path.into())))
    }),
];

/// Where a line is, and a file that gets its edges.
type Place = (Backend, Option<EventLog>);

/// A file of events: `max_kb`, `files` and `max_mb_per_day` beside its path.
pub(super) fn event_file(t: &mut Table<'_>, path: PathBuf) -> EventLog {
    EventLog {
        path,
        max_bytes: t.integer("max_kb", 1024, 1..=1 << 22) as u64 * 1024,
        files: t.integer("files", 4, 0..=100) as u32,
        bytes_per_day: t.integer("max_mb_per_day", 800, 1..=1_000_000) as u64 * 1_000_000,
    }
}

/// Adds what a word of `on` stands for.
type Add = fn(&mut Calls);

/// What a word of `on` adds to the verdicts that call for a line.
const CALLS: [(&str, Add); 5] = [
    ("accept", |c| c.on(Action::Accept)),
    ("reject", |c| c.on(Action::Reject)),
    ("review", |c| c.on(Action::Review)),
    ("unknown", |c| c.unknown = true),
    ("foreign", |c| c.foreign = true),
];

/// What a word of `on` that stands alone makes of a line.
const STATUS: [(&str, Read<Drive>); 5] = [
    ("trigger", |_| Drive::Trigger),
    ("busy", |_| Drive::Busy),
    ("ready", |_| Drive::Ready),
    ("fault", |_| Drive::Fault),
    ("heartbeat", |t| Drive::Heartbeat(Millis(t.integer("period_ms", 500, 10..=60_000) as u32))),
];

/// Whether a word of `on` stands alone: it shows the line's state, or each trigger.
#[cfg(feature = "site")]
pub(super) fn is_status(word: &str) -> bool {
    STATUS.iter().any(|(status, _)| *status == word)
}

/// An output as far as its safe state needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeLine {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub backend: Backend,
    /// Which voltage is active.
    pub polarity: Polarity,
    /// Its safe state.
    pub safe: State,
    /// A file that gets its edges, in place of a pin.
    pub log: Option<EventLog>,
}

fn safe_line(name: String, t: &mut Table<'_>) -> SafeLine {
    let (backend, log) = t.choice("backend", &BACKENDS)(t);
    SafeLine {
        name,
        backend,
        log,
        polarity: t.choice("active", &[("high", Polarity::ActiveHigh), ("low", Polarity::ActiveLow)]),
        safe: t.choice("safe", &[("inactive", State::Inactive), ("active", State::Active)]),
    }
}

/// The outputs that `text` states, and what is wrong with their own tables. Whatever else is wrong
/// with the file, an output whose table can be read is among them: where the file is no TOML, each
/// table is read by itself. A table that no device.toml has is a problem, since it may be
/// `[outputs]` with a slip in it.
pub fn safe_lines(text: &str, name: &str) -> (Vec<SafeLine>, Vec<String>) {
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    match reader::parse(text, name) {
        Ok(parsed) => {
            problems.extend(unknown_tables(&parsed, text, name));
            read_safe_lines(&parsed, text, name, &mut lines, &mut problems);
        }
        Err(whole) => {
            for (at, table) in tables(text) {
                match reader::parse(table, name) {
                    Ok(parsed) => read_safe_lines(&parsed, table, name, &mut lines, &mut problems),
                    Err(_) if table.lines().any(begins_an_output) => {
                        problems
                            .push(format!("{name}: the table in line {at} cannot be read, so its line is not made safe"));
                    }
                    Err(_) => {}
                }
            }
            problems.extend(whole.0);
        }
    }
    (lines, problems)
}

/// Whether a line of a file that is no TOML begins a table of outputs, or a key within it, however
/// it is spaced and quoted.
fn begins_an_output(line: &str) -> bool {
    let name = line.trim_start_matches([' ', '\t', '[', '"', '\'']);
    let rest = name.strip_prefix("outputs");
    rest.is_some_and(|rest| rest.starts_with([' ', '\t', '.', ']', '=', '"', '\'']))
}

/// Problems of the names of the file's tables alone.
fn unknown_tables(parsed: &toml::de::DeTable<'_>, text: &str, name: &str) -> Vec<String> {
    let mut asked = Table::root(parsed, text, name);
    read::read(&mut asked, ModelTags { names: &[], rules: &[], roles: &[], categories: None });
    let mut root = Table::root(parsed, text, name);
    root.knows_as(&asked);
    root.finish().problems
}

fn read_safe_lines(
    parsed: &toml::de::DeTable<'_>,
    text: &str,
    name: &str,
    lines: &mut Vec<SafeLine>,
    problems: &mut Vec<String>,
) {
    let mut root = Table::root(parsed, text, name);
    root.allow_all();
    let mut tables = root.table("outputs");
    for output in tables.names() {
        let mut t = tables.table(&output);
        t.allow_all();
        let line = safe_line(output, &mut t);
        let wrong: Vec<&str> = ["backend", "active", "safe"].into_iter().filter(|key| t.is_wrong(key)).collect();
        match lines.iter().position(|other| other.name == line.name) {
            _ if !wrong.is_empty() => {
                let wrong = wrong.join(", ");
                let why = format!(
                    "output {}: its line is not made safe: {wrong} cannot be read, and a guess may be the wrong state",
                    line.name
                );
                t.problem("", why);
            }
            // In a file that is no TOML a table may stand twice.
            Some(other) if lines[other] != line => {
                let why = format!("output {}: stands twice and says two things; its line is not made safe", line.name);
                t.problem("", why);
                lines.remove(other);
            }
            Some(_) => {}
            None => lines.push(line),
        }
    }
    drop(tables);
    problems.extend(root.finish().problems);
}

/// The text in pieces that each begin with a table's head, with the number of its first line.
fn tables(text: &str) -> Vec<(usize, &str)> {
    let mut starts: Vec<(usize, usize)> = vec![(1, 0)];
    let mut at = 0;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_start().starts_with('[') && at > 0 {
            starts.push((i + 1, at));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(_, at)| *at).chain([text.len()]);
    starts.iter().zip(ends).map(|((line, from), to)| (*line, &text[*from..to])).collect()
}

/// What bounds the window of a late pulse.
#[derive(Clone, Copy)]
pub(super) struct Edges {
    /// Up to so late an edge is in time.
    pub(super) late: Micros,
    /// The least distance of two parts.
    pub(super) min_spacing: Travel,
}

impl Edges {
    /// The window of a pulse for which none is stated: its width, or half of the least spacing
    /// where that is less.
    fn window(self, width: Millis) -> Micros {
        let half = match self.min_spacing {
            Travel::Time(Micros(spacing)) if spacing > 0 => spacing / 2,
            Travel::Time(_) | Travel::Counts(_) => u64::MAX,
        };
        Micros(width.micros().0.min(half))
    }
}

/// Reads every [outputs.NAME].
pub(super) fn outputs(
    root: &mut Table<'_>,
    names: &Names<'_>,
    gated: bool,
    has_encoder: bool,
    edges: Edges,
) -> Vec<OutputSettings> {
    let mut outputs: Vec<OutputSettings> = Vec::new();
    let mut tables = root.table("outputs");
    for name in tables.names() {
        let mut t = tables.table(&name);
        if name.trim().is_empty() || name.contains(char::is_control) {
            let why =
                "an output's name is told wherever it moves: give it letters, and no line breaks or control characters";
            t.problem("", why.into());
        }
        let SafeLine { backend, polarity, safe, log, .. } = safe_line(name.clone(), &mut t);
        // A place that is not stated is a problem already, and nobody else's.
        let is_stated = !["chip", "line", "pin"].iter().any(|key| t.is_wrong(key));
        let same_pin = |o: &OutputSettings| backend.is_pin() && is_stated && o.backend == backend;
        let same_file =
            |o: &OutputSettings| log.is_some() && o.log.as_ref().map(|l| &l.path) == log.as_ref().map(|l| &l.path);
        if let Some(other) = outputs.iter().find(|o| same_pin(o) || same_file(o)) {
            let what = log.as_ref().map_or(backend.to_string(), |log| log.path.display().to_string());
            tables.problem(&name, format!("{what}, which \"{}\" already holds; free it or choose another", other.name));
        }
        let drive = drive(&mut t, names);
        let (mut mode, mut delay, mut window) = (Mode::Level, Travel::NONE, edges.late);
        if let Drive::Calls(_) | Drive::Trigger = drive {
            let by_trigger = drive == Drive::Trigger;
            // A trigger is a moment, so all that it can give is a pulse.
            let modes = if by_trigger { &MODES[1..2] } else { &MODES[..] };
            mode = t.choice("mode", modes)(&mut t);
            if !matches!(mode, Mode::Pulse(_)) && t.has("width_ms") {
                t.problem("width_ms", "belongs to mode = \"pulse\" only; remove it or change the mode".into());
            }
            match mode {
                Mode::Pulse(width) => {
                    let stated = t.integer("window_ms", 1, 1..=TEN_MINUTES_MS);
                    let stated = if t.has("window_ms") { Millis(stated as u32).micros() } else { edges.window(width) };
                    window = stated.max(edges.late);
                }
                Mode::Level | Mode::Latched if t.has("window_ms") => {
                    t.problem("window_ms", "belongs to mode = \"pulse\" only; remove it or change the mode".into());
                }
                Mode::Level | Mode::Latched => {}
            }
            if !gated && by_trigger {
                t.problem("on", "\"trigger\" belongs to a gate; set [line] mode = \"gate\"".into());
            }
            if gated && !by_trigger && !t.has("delay_ms") && !t.has("delay_counts") {
                t.problem("delay_ms", "is missing: how long a part needs from the trigger to this output's gate".into());
            }
            if !gated && (t.has("delay_ms") || t.has("delay_counts")) {
                t.problem("", "a delay belongs to a gate; set [line] mode = \"gate\"".into());
            }
            let way = travel(&mut t, "delay", 0, has_encoder);
            delay = if gated { way } else { Travel::NONE };
        } else {
            if !gated && drive == Drive::Busy {
                // Lines follow each frame there: a part is decided when it is told of.
                t.problem("on", "\"busy\" belongs to a gate, behind which parts wait; set [line] mode = \"gate\"".into());
            }
            for key in ["mode", "width_ms", "window_ms", "delay_ms", "delay_counts"] {
                if t.has(key) {
                    let why =
                        "belongs to an output that parts move; what this one shows has no gate and no width, so remove it";
                    t.problem(key, why.into());
                }
            }
        }
        let place = t.place("width_ms");
        outputs.push(OutputSettings { name, place, backend, log, polarity, safe, mode, delay, window, drive });
    }
    if outputs.len() > MAX_OUTPUTS {
        tables.problem("", format!("{} outputs, at most {MAX_OUTPUTS}", outputs.len()));
        outputs.truncate(MAX_OUTPUTS);
    }
    outputs
}

fn drive(t: &mut Table<'_>, names: &Names<'_>) -> Drive {
    let mut calls = Calls::default();
    let mut alone = None;
    let words = t.texts("on");
    for (word, at) in &words {
        let call = CALLS.iter().find(|(w, _)| w == word);
        let status = STATUS.iter().find(|(w, _)| w == word);
        match (call, status, word.strip_prefix("tag:")) {
            (Some((_, add)), _, _) => add(&mut calls),
            (_, Some((_, make)), _) => alone = Some(make(t)),
            (_, _, Some(tag)) => match names.tag(tag) {
                Ok(id) => calls.tags.insert(id),
                Err(why) => t.problem_at(at.clone(), why),
            },
            _ if word.starts_with(PREFIX) => match names.id(word) {
                Ok(id) => calls.tags.insert(id),
                Err(why) => t.problem_at(at.clone(), why),
            },
            _ => {
                let quoted = |w: &str| format!("\"{w}\"");
                let call = CALLS.iter().map(|(w, _)| quoted(w));
                let status = STATUS.iter().map(|(w, _)| quoted(w)).collect::<Vec<_>>().join(", ");
                let expected: Vec<_> = call.chain([quoted("tag:NAME"), quoted("category:NAME")]).collect();
                t.problem_at(at.clone(), format!("\"{word}\": expected {}, or alone {status}", expected.join(", ")));
            }
        }
    }
    if alone.is_some() && words.len() > 1 {
        let status: Vec<_> = STATUS.iter().map(|(w, _)| format!("\"{w}\"")).collect();
        t.problem("on", format!("{} stand alone; use one output for each", status.join(", ")));
    }
    if words.is_empty() {
        t.problem("on", "nothing calls for this output; name at least one action or tag".into());
    }
    alone.unwrap_or(Drive::Calls(calls))
}
