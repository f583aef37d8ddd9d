//! Settings drawn by seed from what device.toml can say of a gate, for the simulated line.
//!
//! Each number is drawn from one of three thirds of its range, each word from its list, so that
//! [`VALUES`] says what there is to try and a long run can say that it tried all of it.

use super::motion::Moves;
use super::random::{Quantile, Spread};
use super::script::Script;
use super::site::ModelTag;
use crate::random::Random;
use crate::time::Micros;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Every key that is drawn, with its words or the thirds of its range in the key's own unit.
pub const VALUES: &[(&str, &[&str])] = &[
    ("source.frozen_after", &["default", "0", "1..100"]),
    ("line.late", &["accept", "reject", "review"]),
    ("line.late_ms", &["default", "0..10", "10..100"]),
    ("line.missed_edge", &["go_on", "safe"]),
    ("trigger.frames", &["1", "2..4", "5..16"]),
    ("trigger.deadline_ms", &["default", "40..300", "300..1500", "1500..9000"]),
    ("trigger.deadline_counts", &["default", "40..300 ms", "300..1500 ms", "1500..9000 ms"]),
    ("trigger.to_camera_ms", &["0", "1..100", "100..400", "1000..4500"]),
    ("trigger.min_spacing_ms", &["0", "5..20", "20..60"]),
    ("trigger.to_camera_counts", &["1..100 ms", "100..400 ms"]),
    ("trigger.min_spacing_counts", &["5..20 ms", "20..60 ms"]),
    ("trigger.too_close", &["ignore", "reject", "safe"]),
    ("trigger.max_latency_ms", &["default", "30..60", "60..300"]),
    ("decide.combine", &["consensus", "best"]),
    ("decide.k", &["default", "1", "more"]),
    ("decide.hysteresis", &["0", "0..0.1", "0.1..0.5"]),
    ("decide.dwell_ms", &["0", "1..100", "100..1000"]),
    ("decide.stale_after_ms", &["default", "20..60", "60..1000"]),
    ("decide.unknown", &["accept", "reject", "review"]),
    ("decide.foreign", &["accept", "reject", "review"]),
    ("decide.pick", &["top", "list"]),
    ("decide.lists", &["none", "some", "all"]),
    ("tags.default", &["none", "threshold", "band"]),
    ("tags.NAME", &["none", "threshold", "band"]),
    ("encoder", &["none", "steady", "pauses", "runs back"]),
    ("outputs", &["1", "2..3", "4..6"]),
    ("outputs.mode", &["level", "pulse", "latched"]),
    ("outputs.width_ms", &["1..20", "20..100", "100..500"]),
    ("outputs.trigger_delay_ms", &["0..60", "as others"]),
    ("outputs.window_ms", &["default", "1..50", "50..500"]),
    ("outputs.delay_ms", &["80..400", "400..1500", "1500..5000"]),
    ("outputs.delay_counts", &["80..400 ms", "400..1500 ms", "1500..5000 ms"]),
    ("outputs.safe", &["active", "inactive"]),
    ("outputs.active", &["high", "low"]),
    ("outputs.on", &["accept", "reject", "review", "unknown", "foreign", "tag"]),
    ("outputs.alone", &["busy", "ready", "fault", "heartbeat", "trigger"]),
    ("outputs.period_ms", &["10..100", "100..1000", "1000..60000"]),
    ("safety.watchdog_ms", &["default", "50..600"]),
    ("safety.max_faults_in_a_row", &["default", "1..3"]),
    ("confirm", &["none", "some"]),
    ("confirm.within_ms", &["1..20", "20..200", "200..1000"]),
];

/// How often each value was drawn.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<(&'static str, &'static str), u64>);

impl Coverage {
    /// How many values there are.
    pub fn all() -> usize {
        VALUES.iter().map(|(_, words)| words.len()).sum()
    }

    /// How many were drawn `least` times or more.
    pub fn reached(&self, least: u64) -> usize {
        self.0.values().filter(|n| **n >= least).count()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(value, n)| *self.0.entry(*value).or_default() += n);
    }
}

/// One drawn line: its device.toml, and a belt to run it on.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The file.
    pub text: String,
    /// The values that it states.
    pub coverage: Coverage,
    /// What comes along the belt.
    pub script: Script,
}

struct Hand {
    random: Random,
    coverage: Coverage,
}

impl Hand {
    /// Draws one of a key's values; returns its place in [`VALUES`].
    fn value(&mut self, key: &'static str) -> usize {
        let (key, words) = VALUES.iter().find(|(k, _)| *k == key).expect("every drawn key is listed");
        let at = self.random.range(0, words.len() as i32 - 1) as usize;
        *self.coverage.0.entry((key, words[at])).or_default() += 1;
        at
    }

    fn word(&mut self, key: &'static str) -> &'static str {
        let at = self.value(key);
        VALUES.iter().find(|(k, _)| *k == key).map_or("", |(_, words)| words[at])
    }

    fn within(&mut self, lo: i32, hi: i32) -> i32 {
        self.random.range(lo, hi)
    }

    /// A share in hundredths.
    fn share(&mut self, lo: i32, hi: i32) -> f64 {
        self.within(lo, hi) as f64 / 100.0
    }
}

/// Draws line `index` of `seed`, for a model with `tags`; `parts` pass on it.
pub fn draw(seed: u64, index: u64, tags: &[ModelTag], parts: u64) -> Drawn {
    let mut h = Hand { random: Random::new(seed ^ 0xd2a3, index), coverage: Coverage::default() };
    let mut text = String::new();
    match h.value("source.frozen_after") {
        0 => {}
        1 => text += "[source]\nfrozen_after = 0\n",
        _ => drop(writeln!(text, "[source]\nfrozen_after = {}", h.within(1, 100))),
    }
    let late = h.word("line.late");
    let missed = h.word("line.missed_edge");
    let _ = writeln!(text, "[line]\nmode = \"gate\"\nlate = \"{late}\"\nmissed_edge = \"{missed}\"");
    match h.value("line.late_ms") {
        0 => {}
        1 => drop(writeln!(text, "late_ms = {}", h.within(0, 10))),
        _ => drop(writeln!(text, "late_ms = {}", h.within(10, 100))),
    }
    text += "\n[trigger]\nkind = \"stdin\"\n";
    let frames = match h.value("trigger.frames") {
        0 => 1,
        1 => h.within(2, 4),
        _ => h.within(5, 16),
    };
    let _ = writeln!(text, "frames = {frames}");
    let fps = h.within(20, 120);
    // Mostly far enough apart for as many frames as a part needs.
    let room = if h.within(0, 4) > 0 { frames * 1200 / fps } else { 0 };
    let spacing_lo = h.within(35, 250) + room;
    let moves = match h.value("encoder") {
        0 => None,
        1 => Some(Moves::Steadily),
        2 => Some(Moves::WithPauses),
        _ => Some(Moves::BackToo),
    };
    let belt = Belt { moves, counts_per_second: h.within(50, 1000) };
    let to_camera = belt.way(&mut h, "to_camera", "trigger.to_camera_counts", &[(1, 100), (100, 400)], |h| {
        match h.value("trigger.to_camera_ms") {
            0 => 0,
            1 => h.within(1, 100),
            2 => h.within(100, 400),
            _ => h.within(1000, 4500),
        }
    });
    let min_spacing = belt.way(&mut h, "min_spacing", "trigger.min_spacing_counts", &[(5, 20), (20, 60)], |h| {
        match h.value("trigger.min_spacing_ms") {
            0 => 0,
            1 => h.within(5, 20),
            _ => h.within(20, 60),
        }
    });
    let too_close = h.word("trigger.too_close");
    let _ = writeln!(text, "{}\n{}\ntoo_close = \"{too_close}\"", to_camera.0, min_spacing.0);
    match h.value("trigger.max_latency_ms") {
        0 => {}
        1 => drop(writeln!(text, "max_latency_ms = {}", h.within(30, 60))),
        _ => drop(writeln!(text, "max_latency_ms = {}", h.within(60, 300))),
    }
    let outputs = outputs(&mut h, tags, belt);
    text += &deadline(&mut h, belt, &outputs.1);
    text += &decide(&mut h, tags, frames);
    text += &thresholds(&mut h, tags);
    if moves.is_some() {
        text += "\n[encoder]\nchip = \"header\"\na = 22\n";
    }
    text += "\n[safety]\n";
    if h.word("safety.watchdog_ms") != "default" {
        let _ = writeln!(text, "watchdog_ms = {}", h.within(50, 600));
    }
    if h.word("safety.max_faults_in_a_row") != "default" {
        let _ = writeln!(text, "max_faults_in_a_row = {}", h.within(1, 3));
    }
    text += &outputs.0;
    let ms = |n: i32| Micros(n as u64 * 1000);
    let slow = h.within(2, 20);
    let script = Script {
        seed: seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        parts,
        spacing: Spread { lo: ms(spacing_lo), hi: ms(spacing_lo + h.within(10, 200)) },
        in_view: ms(h.within(spacing_lo / 2, spacing_lo)),
        fps: fps as u32,
        arrival: Spread { lo: ms(2), hi: ms(h.within(3, 30)) },
        inference: Quantile::heavy(ms(slow), ms(slow * 2), ms(slow * 10), ms(slow * 40)),
        faults: super::fault::Fault::rates(),
        counts_per_second: belt.counts_per_second as u32,
        moves: moves.unwrap_or_default(),
        model_changes: Some(Script::MODEL_CHANGES),
        loses: None,
    };
    Drawn { text, coverage: h.coverage, script }
}

fn quoted<'t>(names: impl Iterator<Item = &'t str>) -> String {
    names.map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

fn decide(h: &mut Hand, tags: &[ModelTag], frames: i32) -> String {
    let mut text = format!("\n[decide]\ncombine = \"{}\"\n", h.word("decide.combine"));
    match h.value("decide.k") {
        0 => {}
        1 => text += "k = 1\n",
        _ => {
            let k = h.within(1.max(frames / 2), frames);
            let _ = writeln!(text, "k = {k}");
        }
    }
    let hysteresis = match h.value("decide.hysteresis") {
        0 => 0.0,
        1 => h.share(0, 10),
        _ => h.share(10, 50),
    };
    let dwell = match h.value("decide.dwell_ms") {
        0 => 0,
        1 => h.within(1, 100),
        _ => h.within(100, 1000),
    };
    let _ = writeln!(text, "hysteresis = {hysteresis:?}\ndwell_ms = {dwell}");
    match h.value("decide.stale_after_ms") {
        0 => {}
        1 => drop(writeln!(text, "stale_after_ms = {}", h.within(20, 60))),
        _ => drop(writeln!(text, "stale_after_ms = {}", h.within(60, 1000))),
    }
    let (unknown, foreign) = (h.word("decide.unknown"), h.word("decide.foreign"));
    let _ = writeln!(text, "unknown = \"{unknown}\"\nforeign = \"{foreign}\"");
    if h.word("decide.pick") == "list" {
        let first = h.within(0, tags.len() as i32 - 1) as usize;
        let count = h.within(1, tags.len() as i32) as usize;
        let names = tags.iter().cycle().skip(first).take(count).map(|t| t.name.as_str());
        let _ = writeln!(text, "pick = [{}]", quoted(names));
    }
    let listed = match h.value("decide.lists") {
        0 => 0,
        1 => 1,
        _ => 3,
    };
    let mut lists: [Vec<&str>; 3] = Default::default();
    for tag in tags {
        if h.within(1, 3) <= listed {
            lists[h.within(0, 2) as usize].push(&tag.name);
        }
    }
    for (key, names) in ["accept", "reject", "review"].into_iter().zip(lists) {
        let _ = writeln!(text, "{key} = [{}]", quoted(names.into_iter()));
    }
    text
}

fn thresholds(h: &mut Hand, tags: &[ModelTag]) -> String {
    let mut text = String::new();
    let mut rule = |h: &mut Hand, key: &'static str, name: &str| match h.word(key) {
        "threshold" => drop(writeln!(text, "[tags.{name}]\nthreshold = {:?}", h.share(5, 95))),
        "band" => {
            let threshold = h.share(30, 95);
            let low = threshold * h.share(20, 100);
            let _ = writeln!(text, "[tags.{name}]\nthreshold = {threshold:?}\nreview_low = {low:?}");
        }
        _ => {}
    };
    rule(h, "tags.default", "default");
    let tag = &tags[h.within(0, tags.len() as i32 - 1) as usize].name;
    rule(h, "tags.NAME", &format!("\"{tag}\""));
    text
}

/// What a way is stated in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Ms,
    Counts,
}

/// Whether ways may be stated in counts of an encoder.
#[derive(Clone, Copy)]
struct Belt {
    moves: Option<Moves>,
    counts_per_second: i32,
}

impl Belt {
    /// One way as a line of text, in counts where there is an encoder and chance
    /// wants it.
    fn way(
        self,
        h: &mut Hand,
        name: &str,
        counts: &'static str,
        ms: &[(i32, i32)],
        time: impl FnOnce(&mut Hand) -> i32,
    ) -> (String, Unit) {
        if self.moves.is_some() && h.within(0, 1) == 0 {
            let (lo, hi) = ms[h.value(counts)];
            let n = (h.within(lo, hi) * self.counts_per_second / 1000).max(1);
            return (format!("{name}_counts = {n}"), Unit::Counts);
        }
        let ms = time(h);
        (format!("{name}_ms = {ms}"), Unit::Ms)
    }
}

/// How long a part is waited for, as a line of text or none; beside a gate in counts it must be in
/// counts too.
fn deadline(h: &mut Hand, belt: Belt, gates: &[Unit]) -> String {
    let by_belt = gates.contains(&Unit::Counts) || belt.moves.is_some() && h.within(0, 1) == 0;
    let key = if by_belt { "trigger.deadline_counts" } else { "trigger.deadline_ms" };
    let ms = match h.value(key) {
        0 => return String::new(),
        1 => h.within(40, 300),
        2 => h.within(300, 1500),
        _ => h.within(1500, 9000),
    };
    match by_belt {
        true => format!("deadline_counts = {}\n", (ms * belt.counts_per_second / 1000).max(1)),
        false => format!("deadline_ms = {ms}\n"),
    }
}

/// Width and window of a pulse.
fn pulse(h: &mut Hand) -> String {
    let width = match h.value("outputs.width_ms") {
        0 => h.within(1, 20),
        1 => h.within(20, 100),
        _ => h.within(100, 500),
    };
    let window = match h.value("outputs.window_ms") {
        0 => String::new(),
        1 => format!("window_ms = {}\n", h.within(1, 50)),
        _ => format!("window_ms = {}\n", h.within(50, 500)),
    };
    format!("width_ms = {width}\n{window}")
}

/// The outputs, and the delays of those that verdicts move.
fn outputs(h: &mut Hand, tags: &[ModelTag], belt: Belt) -> (String, Vec<Unit>) {
    const DELAYS: [(i32, i32); 3] = [(80, 400), (400, 1500), (1500, 5000)];
    let delay = |h: &mut Hand| {
        belt.way(h, "delay", "outputs.delay_counts", &DELAYS, |h| {
            let (lo, hi) = DELAYS[h.value("outputs.delay_ms")];
            h.within(lo, hi)
        })
    };
    let count = match h.value("outputs") {
        0 => 1,
        1 => h.within(2, 3),
        _ => h.within(4, 6),
    };
    let (mut text, mut gates, mut pulses) = (String::new(), Vec::new(), Vec::new());
    for i in 0..count {
        let delay = delay(h);
        gates.push(delay.1);
        let (mode, safe, active) = (h.word("outputs.mode"), h.word("outputs.safe"), h.word("outputs.active"));
        let _ =
            writeln!(text, "\n[outputs.line_{i}]\n{}\nmode = \"{mode}\"\nsafe = \"{safe}\"\nactive = \"{active}\"", delay.0);
        if mode == "pulse" {
            pulses.push(i);
            text += &pulse(h);
        }
        let words = (0..h.within(1, 3)).map(|_| match h.word("outputs.on") {
            "tag" => format!("tag:{}", tags[h.within(0, tags.len() as i32 - 1) as usize].name),
            word => word.into(),
        });
        let mut words: Vec<String> = words.collect();
        words.sort();
        words.dedup();
        let _ = writeln!(text, "on = [{}]", quoted(words.iter().map(String::as_str)));
    }
    for i in 0..h.within(0, 3) {
        let (word, safe, active) = (h.word("outputs.alone"), h.word("outputs.safe"), h.word("outputs.active"));
        let _ = writeln!(text, "\n[outputs.alone_{i}]\non = [\"{word}\"]\nsafe = \"{safe}\"\nactive = \"{active}\"");
        match word {
            "trigger" => {
                // A flash or a camera follows its trigger at once; what is told late may be missed.
                match h.value("outputs.trigger_delay_ms") {
                    0 => drop(writeln!(text, "delay_ms = {}", h.within(0, 60))),
                    _ => drop(writeln!(text, "{}", delay(h).0)),
                }
                text += &pulse(h);
            }
            "heartbeat" => {
                let (lo, hi) = [(10, 100), (100, 1000), (1000, 60_000)][h.value("outputs.period_ms")];
                let _ = writeln!(text, "period_ms = {}", h.within(lo, hi));
            }
            _ => {}
        }
    }
    if !pulses.is_empty() && h.word("confirm") == "some" {
        let output = pulses[h.within(0, pulses.len() as i32 - 1) as usize];
        let (lo, hi) = [(1, 20), (20, 200), (200, 1000)][h.value("confirm.within_ms")];
        let _ = writeln!(text, "\n[confirm]\noutput = \"line_{output}\"\nwithin_ms = {}", h.within(lo, hi));
    }
    (text, gates)
}
