//! What each table of device.toml means.
//!
//! Knows no file: tables come from the reader, problems go back to it.

use super::reader::Table;
use super::*;
use crate::decide::Combine;
use crate::gpio::{InputLine, Pull, Slope};
use crate::head::Score;
use crate::line::TooClose;
use crate::triggers::{GpioInputs, Reference, Role};
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;
const TEN_MINUTES_MS: i64 = 600_000;

struct Names<'m>(ModelTags<'m>);

impl Names<'_> {
    fn id(&self, name: &str) -> Option<TagId> {
        self.0.names.iter().position(|n| *n == name).map(|i| TagId(i as u16))
    }

    fn unknown(&self, name: &str) -> String {
        let shown: Vec<String> = self.0.names.iter().take(8).map(|n| format!("\"{n}\"")).collect();
        let more = if self.0.names.len() > 8 { ", ..." } else { "" };
        format!("the model has no tag \"{name}\"; it has {}{more}", shown.join(", "))
    }
}

fn score(p: f64) -> Score {
    Score::from_probability(p as f32).unwrap_or(Score::HALF)
}

fn action(word: &str) -> Action {
    match word {
        "accept" => Action::Accept,
        "review" => Action::Review,
        _ => Action::Reject,
    }
}

fn roi(table: &mut Table<'_>, key: &str) -> Option<Roi> {
    table.has(key).then(|| {
        let mut t = table.table(key);
        let mut side = |key: &str, lo: i64| t.integer(key, lo, lo..=8192) as u32;
        Roi { x: side("x", 0), y: side("y", 0), width: side("width", 1), height: side("height", 1) }
    })
}

/// A way that may be given in milliseconds or in encoder counts.
fn travel(table: &mut Table<'_>, name: &str, default_ms: i64, encoder: bool) -> Travel {
    let (ms, counts) = (format!("{name}_ms"), format!("{name}_counts"));
    if !table.has(&counts) {
        return Travel::Time(Millis(table.integer(&ms, default_ms, 0..=DAY_MS) as u32).micros());
    }
    if table.has(&ms) {
        table.problem(&counts, format!("stands beside {ms}; keep one"));
    }
    if !encoder {
        table.problem(&counts, "counts need an [encoder]; add one or give milliseconds".into());
    }
    Travel::Counts(table.integer(&counts, 1, 1..=1 << 30) as u32)
}

fn input_line(table: &mut Table<'_>, key: &str, slope: Slope, debounce_ms: i64) -> InputLine {
    InputLine {
        line: table.required(key),
        active_low: table.choice("active", "high", &["high", "low"]) == "low",
        slope,
        pull: match table.choice("pull", "as_is", &["as_is", "up", "down", "off"]) {
            "up" => Pull::Up,
            "down" => Pull::Down,
            "off" => Pull::Off,
            _ => Pull::AsIs,
        },
        debounce: Duration::from_micros((table.real("debounce_ms", debounce_ms as f64, 0.0..=10_000.0) * 1000.0) as u64),
    }
}

fn slope(table: &mut Table<'_>) -> Slope {
    match table.choice("edge", "rising", &["rising", "falling", "both"]) {
        "falling" => Slope::Falling,
        "both" => Slope::Both,
        _ => Slope::Rising,
    }
}

/// Lines that are on one chip are one input: the kernel keeps their edges in order.
fn add_line(inputs: &mut Vec<TriggerSpec>, chip: String, role: Role, line: InputLine) {
    let same = inputs.iter_mut().find_map(|i| match i {
        TriggerSpec::Gpio(g) if g.chip == chip => Some(g),
        _ => None,
    });
    match same {
        Some(gpio) => gpio.lines.push((role, line)),
        None => inputs.push(TriggerSpec::Gpio(GpioInputs { chip, lines: vec![(role, line)] })),
    }
}

impl Settings {
    pub(super) fn read(root: &mut Table<'_>, model: ModelTags<'_>) -> Self {
        let names = Names(model);
        let mut source = root.table("source");
        let open = source.text("open", "conveyor");
        if let Err(e) = open.parse::<crate::sources::SourceSpec>() {
            source.problem("open", e.to_string());
        }
        let frame_timeout = Millis(source.integer("frame_timeout_ms", 1000, 10..=TEN_MINUTES_MS) as u32);
        let first_frame_timeout = Millis(source.integer("first_frame_timeout_ms", 10_000, 10..=TEN_MINUTES_MS) as u32);
        let picture_budget = crate::pictures::Budget::megabytes(source.integer("picture_mb", 96, 1..=4096) as u64);
        let frozen_after = source.integer("frozen_after", 30, 0..=1_000_000) as u32;
        let source_roi = roi(&mut source, "roi");

        let mut line = root.table("line");
        let gated = line.choice("mode", "state", &["state", "gate"]) == "gate";
        let late = action(line.choice("late", "reject", &["accept", "reject", "review"]));
        let mode = if gated { LineMode::Gate { late } } else { LineMode::State };

        let mut inputs = Vec::new();
        let has_encoder = root.has("encoder");
        let trigger = Self::trigger(root, &mut inputs, has_encoder);
        Self::other_inputs(root, &mut inputs, has_encoder, &trigger.kind);
        let (policy, actions, unknown) = Self::decide(root, &names, &trigger, gated);
        let rules = Self::rules(root, &names);
        let outputs = Self::outputs(root, &names, gated, has_encoder);

        let mut log = root.table("events");
        let events = log.has("path").then(|| EventLog {
            path: log.text("path", "").into(),
            max_bytes: log.integer("max_kb", 1024, 1..=1 << 22) as u64 * 1024,
            files: log.integer("files", 4, 0..=100) as u32,
        });
        let threads = root.table("engine").integer("threads", 1, 1..=4) as usize;
        let mut safety = root.table("safety");
        let mut settings = Self {
            source: open.into(),
            roi: source_roi,
            frame_timeout,
            first_frame_timeout,
            picture_budget,
            frozen_after,
            mode,
            trigger: trigger.kind,
            inputs,
            spacing: trigger.spacing,
            max_latency: trigger.max_latency,
            part: trigger.part,
            policy,
            rules,
            actions,
            unknown,
            outputs,
            events,
            threads,
            watchdog: Millis(safety.integer("watchdog_ms", 2000, 50..=TEN_MINUTES_MS) as u32),
            max_faults: safety.integer("max_faults", 10, 1..=1_000_000) as u32,
        };
        if gated {
            if !settings.outputs.iter().any(|o| matches!(o.drive, Drive::Calls(_))) {
                line.problem("mode", "\"gate\", but no output has a gate; add an [outputs.NAME] with `on`".into());
            }
            // A verdict that comes after the first gate is of no use, so a part is not waited for any longer.
            if !trigger.has_deadline {
                settings.part.deadline =
                    settings.first_gate().map_or(settings.part.deadline, |d| Millis((d.0 / 1000) as u32));
            }
        }
        settings
    }

    fn trigger(root: &mut Table<'_>, inputs: &mut Vec<TriggerSpec>, has_encoder: bool) -> TriggerTable {
        const KINDS: [&str; 8] = ["every_frame", "barrier", "gpio", "motion", "presence", "period", "stdin", "socket"];
        let mut t = root.table("trigger");
        let word = t.choice("kind", "every_frame", &KINDS);
        let kind = match word {
            "barrier" => TriggerKind::Barrier,
            "motion" | "presence" => TriggerKind::Presence(PresenceRules {
                reference: if word == "motion" { Reference::LastFrame } else { Reference::Background },
                roi: roi(&mut t, "roi"),
                level: t.integer("level", 20, 1..=255) as u8,
                area: (t.real("area", 0.05, 0.001..=1.0) * 1000.0) as u16,
            }),
            "gpio" => {
                let slope = slope(&mut t);
                let line = input_line(&mut t, "line", slope, 1);
                add_line(inputs, t.required("chip"), Role::Trigger, line);
                TriggerKind::Input
            }
            "period" => {
                inputs.push(TriggerSpec::Period(Millis(t.integer("period_ms", 1000, 1..=DAY_MS) as u32)));
                TriggerKind::Input
            }
            "stdin" => {
                inputs.push(TriggerSpec::Stdin);
                TriggerKind::Input
            }
            "socket" => {
                inputs.push(TriggerSpec::Socket(t.required("path").into()));
                TriggerKind::Input
            }
            _ => TriggerKind::EveryFrame,
        };
        let frames = t.integer("frames", 1, 1..=16) as u8;
        if kind == TriggerKind::EveryFrame && frames != 1 {
            t.problem("frames", "a trigger on every frame makes parts of 1 frame; use [decide] n and k".into());
        }
        let has_deadline = t.has("deadline_ms");
        let max_latency = Millis(t.integer("max_latency_ms", 0, 0..=TEN_MINUTES_MS) as u32).micros();
        let max_latency = (max_latency > Micros(0)).then_some(max_latency);
        let part = PartRules {
            frames,
            deadline: Millis(t.integer("deadline_ms", 500, 1..=DAY_MS) as u32),
            to_camera: travel(&mut t, "to_camera", 0, has_encoder),
        };
        let spacing = Spacing {
            min: travel(&mut t, "min_spacing", 0, has_encoder),
            rule: match t.choice("too_close", "reject", &["ignore", "reject", "safe"]) {
                "ignore" => TooClose::Ignore,
                "safe" => TooClose::Safe,
                _ => TooClose::Reject,
            },
        };
        TriggerTable { kind, part, spacing, max_latency, has_deadline }
    }

    fn other_inputs(root: &mut Table<'_>, inputs: &mut Vec<TriggerSpec>, has_encoder: bool, kind: &TriggerKind) {
        let trigger_chip = inputs.iter().find_map(|i| match i {
            TriggerSpec::Gpio(g) => Some(g.chip.clone()),
            _ => None,
        });
        let mut t = root.table("encoder");
        if has_encoder {
            let chip = t.required("chip");
            if *kind == TriggerKind::Input && trigger_chip.as_ref().is_some_and(|c| *c != chip) {
                let why = "another chip than the trigger's; only on one chip does the kernel keep their edges in order";
                t.problem("chip", why.into());
            }
            // Both edges even where only one counts, so that a lost one shows.
            let a = input_line(&mut t, "a", Slope::Both, 0);
            if t.has("b") {
                let b = InputLine { line: t.required("b"), ..a.clone() };
                add_line(inputs, chip.clone(), Role::EncoderB, b);
            }
            add_line(inputs, chip, Role::EncoderA, a);
        }
        let mut t = root.table("acknowledge");
        if t.has("line") || t.has("chip") {
            let slope = slope(&mut t);
            let line = input_line(&mut t, "line", slope, 20);
            add_line(inputs, t.required("chip"), Role::Acknowledge, line);
        }
    }

    fn decide(
        root: &mut Table<'_>,
        names: &Names<'_>,
        trigger: &TriggerTable,
        gated: bool,
    ) -> (Policy, Vec<Action>, Action) {
        let part = trigger.part;
        let mut t = root.table("decide");
        let combine = match t.choice("combine", "consensus", &["consensus", "best"]) {
            "best" => Combine::Best,
            _ => Combine::Consensus,
        };
        if combine == Combine::Best && trigger.kind == TriggerKind::EveryFrame {
            t.problem(
                "combine",
                "\"best\" is over the frames of a part; choose a [trigger] kind other than every_frame".into(),
            );
        }
        let n = t.integer("n", part.frames as i64, 1..=16) as u8;
        let k = t.integer("k", n.div_ceil(2) as i64, 1..=16) as u8;
        if k > n {
            t.problem("k", format!("k = {k} of n = {n} frames; lower it"));
        }
        if trigger.kind != TriggerKind::EveryFrame && n != part.frames {
            t.problem("n", format!("n = {n}, but a part has [trigger] frames = {}; make them equal", part.frames));
        }
        // In gate mode a part's age is bounded by its deadline; the default must not be shorter than a gate may be away.
        let stale = if gated { TEN_MINUTES_MS } else { 1000 };
        let policy = Policy {
            combine,
            n,
            k: k.min(n),
            hysteresis: score(t.real("hysteresis", 0.0, 0.0..=1.0)),
            dwell: Millis(t.integer("dwell_ms", 0, 0..=TEN_MINUTES_MS) as u32),
            stale_after: Millis(t.integer("stale_after_ms", stale, 1..=TEN_MINUTES_MS) as u32),
        };
        let unknown = action(t.choice("unknown", "reject", &["accept", "reject", "review"]));
        let mut actions = vec![Action::Accept; names.0.names.len()];
        for (key, action) in [("reject", Action::Reject), ("review", Action::Review)] {
            for (name, at) in t.texts(key) {
                match names.id(&name) {
                    None => t.problem_at(at, names.unknown(&name)),
                    Some(id) if actions[id.0 as usize] != Action::Accept => {
                        t.problem_at(at, format!("tag \"{name}\" stands in two lists or twice; keep one"));
                    }
                    Some(id) => actions[id.0 as usize] = action,
                }
            }
        }
        (policy, actions, unknown)
    }

    fn rules(root: &mut Table<'_>, names: &Names<'_>) -> Vec<TagRule> {
        let mut rules = names.0.rules.to_vec();
        let mut tags = root.table("tags");
        for name in tags.names() {
            let mut t = tags.table(&name);
            let Some(id) = names.id(&name) else {
                t.allow_all();
                tags.problem(&name, names.unknown(&name));
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
        rules
    }

    fn outputs(root: &mut Table<'_>, names: &Names<'_>, gated: bool, has_encoder: bool) -> Vec<OutputSettings> {
        let mut outputs: Vec<OutputSettings> = Vec::new();
        let mut tables = root.table("outputs");
        for name in tables.names() {
            let mut t = tables.table(&name);
            let backend = backend(&mut t);
            if backend != Backend::Simulated
                && let Some(other) = outputs.iter().find(|o| o.backend == backend)
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
            let drive = drive(&mut t, names);
            let (mut mode, mut delay) = (Mode::Level, Travel::NONE);
            if let Drive::Calls(_) = drive {
                mode = match t.choice("mode", "level", &["level", "pulse", "latched"]) {
                    "pulse" => Mode::Pulse(Millis(t.integer("width_ms", 100, 1..=TEN_MINUTES_MS) as u32)),
                    "latched" => Mode::Latched,
                    _ => Mode::Level,
                };
                if !matches!(mode, Mode::Pulse(_)) && t.has("width_ms") {
                    t.problem("width_ms", "belongs to mode = \"pulse\" only; remove it or change the mode".into());
                }
                if gated && !t.has("delay_ms") && !t.has("delay_counts") {
                    t.problem("delay_ms", "is missing: how long a part needs from the trigger to this output's gate".into());
                }
                if !gated && (t.has("delay_ms") || t.has("delay_counts")) {
                    t.problem("", "a delay belongs to a gate; set [line] mode = \"gate\"".into());
                }
                let way = travel(&mut t, "delay", 0, has_encoder);
                delay = if gated { way } else { Travel::NONE };
            }
            outputs.push(OutputSettings { name, backend, polarity, safe, mode, delay, drive });
        }
        if outputs.len() > MAX_OUTPUTS {
            tables.problem("", format!("{} outputs, at most {MAX_OUTPUTS}", outputs.len()));
            outputs.truncate(MAX_OUTPUTS);
        }
        outputs
    }
}

/// What [trigger] says.
struct TriggerTable {
    kind: TriggerKind,
    part: PartRules,
    max_latency: Option<Micros>,
    spacing: Spacing,
    has_deadline: bool,
}

fn backend(t: &mut Table<'_>) -> Backend {
    match t.choice("backend", "simulated", &["simulated", "gpiochip", "rppal", "events"]) {
        "gpiochip" => Backend::Gpiochip { chip: t.required("chip"), line: t.required("line") },
        "rppal" => Backend::Rppal { pin: t.integer("pin", -1, 0..=57).max(0) as u8 },
        "events" => Backend::Events {
            path: t.required("path").into(),
            max_bytes: t.integer("max_kb", 1024, 1..=1 << 22) as u64 * 1024,
            files: t.integer("files", 4, 0..=100) as u32,
        },
        _ => Backend::Simulated,
    }
}

fn drive(t: &mut Table<'_>, names: &Names<'_>) -> Drive {
    let mut calls = Calls::default();
    let mut alone = None;
    let words = t.texts("on");
    for (word, at) in &words {
        match (word.as_str(), word.strip_prefix("tag:")) {
            ("accept", _) => calls.actions.push(Action::Accept),
            ("reject", _) => calls.actions.push(Action::Reject),
            ("review", _) => calls.actions.push(Action::Review),
            ("unknown", _) => calls.unknown = true,
            ("busy", _) => alone = Some(Drive::Busy),
            ("ready", _) => alone = Some(Drive::Ready),
            ("heartbeat", _) => alone = Some(Drive::Heartbeat(Millis(t.integer("period_ms", 500, 10..=60_000) as u32))),
            (_, Some(tag)) => match names.id(tag) {
                Some(id) => calls.tags.push(id),
                None => t.problem_at(at.clone(), names.unknown(tag)),
            },
            (other, None) => t.problem_at(
                at.clone(),
                format!(
                    "\"{other}\": expected \"accept\", \"reject\", \"review\", \"unknown\", \"tag:NAME\", \"busy\", \"ready\" \
                     or \"heartbeat\""
                ),
            ),
        }
    }
    if alone.is_some() && words.len() > 1 {
        t.problem("on", "\"busy\", \"ready\" and \"heartbeat\" stand alone; use one output for each".into());
    }
    if words.is_empty() {
        t.problem("on", "nothing calls for this output; name at least one action or tag".into());
    }
    alone.unwrap_or(Drive::Calls(calls))
}
