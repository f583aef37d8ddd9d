//! [trigger], [encoder], [acknowledge] and [confirm]: what opens a part, where the belt is, the
//! button, and what is seen behind the gate.

use super::reader::Table;
use super::values::{DAY_MS, TEN_MINUTES_MS, roi, travel};
use super::*;
use crate::gpio::{InputLine, Pull, Slope};
use crate::line::TooClose;
use crate::triggers::{GpioInputs, Reference, Role, SocketSpec};
use std::time::Duration;

/// What [trigger] says.
pub(super) struct TriggerTable {
    pub(super) kind: TriggerKind,
    pub(super) part: PartRules,
    pub(super) spacing: Spacing,
    /// The stated longest time from exposure to arrival.
    pub(super) max_latency: Option<Micros>,
    pub(super) has_deadline: bool,
}

fn input_line(table: &mut Table<'_>, key: &str, slope: Slope, debounce_ms: i64) -> InputLine {
    InputLine {
        line: table.required(key),
        active_low: table.choice("active", &[("high", false), ("low", true)]),
        slope,
        pull: table.choice("pull", &Pull::WORDS),
        debounce: Duration::from_micros((table.real("debounce_ms", debounce_ms as f64, 0.0..=10_000.0) * 1000.0) as u64),
    }
}

fn slope(table: &mut Table<'_>) -> Slope {
    table.choice("edge", &Slope::WORDS)
}

/// The stated longest time from a sensor's signal to its word's arrival.
fn max_jitter(table: &mut Table<'_>) -> Option<Micros> {
    table.has("max_jitter_ms").then(|| Millis(table.integer("max_jitter_ms", 1, 1..=10_000) as u32).micros())
}

/// Permissions of a socket, in octal digits as `chmod` takes them.
fn permissions(table: &mut Table<'_>) -> u32 {
    const DEFAULT: u32 = 0o660;
    let text = table.text("mode", "660");
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).unwrap_or_else(|| {
        table.problem("mode", format!("\"{text}\", expected permissions in octal digits, as \"660\""));
        DEFAULT
    })
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

/// Reads [trigger]; an input of its own is added to `inputs`.
pub(super) fn trigger(root: &mut Table<'_>, inputs: &mut Vec<TriggerSpec>, has_encoder: bool) -> TriggerTable {
    /// How the rest of the table is read for one kind.
    type Kind = fn(&mut Table<'_>, &mut Vec<TriggerSpec>) -> TriggerKind;
    fn presence(t: &mut Table<'_>, reference: Reference) -> TriggerKind {
        TriggerKind::Presence(PresenceRules {
            reference,
            roi: roi(t, "roi"),
            level: t.integer("level", 20, 1..=255) as u8,
            area: (t.real("area", 0.05, 0.001..=1.0) * 1000.0) as u16,
        })
    }
    const KINDS: [(&str, Kind); 9] = [
        ("every_frame", |_, _| TriggerKind::EveryFrame),
        ("barrier", |_, _| TriggerKind::Barrier),
        ("gpio", |t, inputs| {
            let slope = slope(t);
            let line = input_line(t, "line", slope, 1);
            add_line(inputs, t.required("chip"), Role::Trigger, line);
            TriggerKind::Input
        }),
        ("motion", |t, _| presence(t, Reference::LastFrame)),
        ("presence", |t, _| presence(t, Reference::Background)),
        ("period", |t, inputs| {
            inputs.push(TriggerSpec::Period(Millis(t.integer("period_ms", 1000, 1..=DAY_MS) as u32)));
            TriggerKind::Input
        }),
        ("stdin", |t, inputs| {
            inputs.push(TriggerSpec::Stdin { max_jitter: max_jitter(t) });
            TriggerKind::Input
        }),
        ("socket", |t, inputs| {
            let name = |t: &mut Table<'_>, key| t.has(key).then(|| t.required(key));
            let socket = SocketSpec {
                path: t.required("path").into(),
                mode: permissions(t),
                owner: name(t, "owner"),
                group: name(t, "group"),
                max_jitter: max_jitter(t),
            };
            if let Some(why) = socket.check_path().err().filter(|_| t.has("path")) {
                t.problem("path", why);
            }
            inputs.push(TriggerSpec::Socket(socket));
            TriggerKind::Input
        }),
        ("modbus", |t, inputs| {
            inputs.push(TriggerSpec::Modbus { max_jitter: max_jitter(t) });
            TriggerKind::Input
        }),
    ];
    let mut t = root.table("trigger");
    let kind = t.choice("kind", &KINDS)(&mut t, inputs);
    let frames = t.integer("frames", 1, 1..=16) as u8;
    if kind == TriggerKind::EveryFrame && frames != 1 {
        t.problem("frames", "a trigger on every frame makes parts of 1 frame; use [decide] n and k".into());
    }
    let has_deadline = t.has("deadline_ms") || t.has("deadline_counts");
    let deadline = travel(&mut t, "deadline", 500, has_encoder);
    if deadline == Travel::NONE {
        t.problem("deadline_ms", format!("0, expected 1..={DAY_MS}"));
    }
    let max_latency = Millis(t.integer("max_latency_ms", 0, 0..=TEN_MINUTES_MS) as u32).micros();
    let max_latency = (max_latency > Micros(0)).then_some(max_latency);
    let part = PartRules {
        frames,
        deadline,
        to_camera: travel(&mut t, "to_camera", 0, has_encoder),
        in_view: None,
        seen_in_frames: kind.is_seen_in_frames(),
    };
    let spacing = Spacing {
        min: travel(&mut t, "min_spacing", 0, has_encoder),
        rule: t.choice("too_close", &[("reject", TooClose::Reject), ("ignore", TooClose::Ignore), ("safe", TooClose::Safe)]),
    };
    TriggerTable { kind, part, spacing, max_latency, has_deadline }
}

/// Reads [confirm]: an input of its own, or the trigger's words.
pub(super) fn confirm(
    root: &mut Table<'_>,
    inputs: &mut Vec<TriggerSpec>,
    outputs: &[OutputSettings],
) -> Option<ConfirmRules> {
    if !root.has("confirm") {
        return None;
    }
    let mut t = root.table("confirm");
    let is_stated = t.has("output");
    let name = t.required("output");
    let found = outputs.iter().position(|o| o.name == name);
    let pulses = |o: &OutputSettings| matches!((&o.drive, o.mode), (Drive::Calls(_), Mode::Pulse(_)));
    match found.map(|i| &outputs[i]) {
        None if !is_stated => {}
        None => t.problem("output", format!("there is no [outputs.{name}]; name the output whose pulses throw parts out")),
        Some(o) if !pulses(o) => {
            t.problem("output", format!("{name} gives no pulse for single parts; name one with mode = \"pulse\""));
        }
        Some(_) => {}
    }
    let within = Millis(t.integer("within_ms", 200, 1..=60_000) as u32).micros();
    let has_words = inputs.iter().any(|i| matches!(i, TriggerSpec::Stdin { .. } | TriggerSpec::Socket(_)));
    let on_line = t.has("line") || t.has("chip");
    if on_line {
        let slope = slope(&mut t);
        let line = input_line(&mut t, "line", slope, 1);
        add_line(inputs, t.required("chip"), Role::Confirm, line);
    } else if !has_words {
        let why = "nothing is seen behind the gate: state the chip and line of an input there, or a [trigger] of kind stdin or \
            socket, whose word \"confirm\" it then is";
        t.problem("", format!("confirm: {why}"));
        t.allow_all();
    }
    Some(ConfirmRules { line: found? as u8, within })
}

/// Reads [encoder] and [acknowledge].
pub(super) fn others(root: &mut Table<'_>, inputs: &mut Vec<TriggerSpec>, has_encoder: bool, kind: &TriggerKind) {
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
