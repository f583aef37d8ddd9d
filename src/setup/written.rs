//! The device.toml that `tagpin setup` writes: what was asked and measured, with where each figure
//! comes from.

use super::passing::Timing;
use crate::gpio::{Pull, Slope};
use crate::settings::quoted;
use std::fmt::Write as _;

/// A line of a GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Label, path or `header`.
    pub chip: String,
    /// Offset or name.
    pub line: String,
}

/// What opens parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// An input line.
    Gpio {
        /// Where it is.
        pin: Pin,
        /// The edge that means a part.
        slope: Slope,
        /// The resistor at it.
        pull: Pull,
    },
    /// The built-in conveyor's light barrier.
    Barrier,
    /// Words on standard input, each at most `max_jitter_ms` after the sensor's signal.
    Words {
        /// Milliseconds.
        max_jitter_ms: u64,
    },
}

/// An output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its pin; `None`: simulated.
    pub pin: Option<Pin>,
    /// Whether low is active.
    pub active_low: bool,
}

/// Everything that was asked and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// The source string.
    pub source: String,
    /// What opens parts.
    pub trigger: Trigger,
    /// Longest time from exposure to arrival, where the camera does not say when it exposed.
    pub max_latency_ms: Option<u64>,
    /// When they are before the camera.
    pub timing: Timing,
    /// The gate that throws parts out.
    pub gate: Output,
    /// Length of its pulse.
    pub width_ms: u64,
    /// From the trigger to the gate.
    pub delay_ms: u64,
    /// The output that tells the belt that the line works.
    pub ready: Option<Output>,
}

/// The word of device.toml for a value.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// A line with its comment, which stands in one column with the others' where there is room.
fn noted(out: &mut String, setting: &str, comment: &str) {
    let _ = writeln!(out, "{setting:<23} # {comment}");
}

fn wiring(out: &mut String, output: &Output) {
    let _ = writeln!(out, "\n[outputs.{}]", quoted(&output.name));
    match &output.pin {
        None => noted(out, "backend = \"simulated\"", "nothing is wired yet: gpiochip, with chip and line"),
        Some(Pin { chip, line }) => {
            let _ = writeln!(out, "backend = \"gpiochip\"\nchip = {}\nline = {}", quoted(chip), quoted(line));
        }
    }
    let _ = writeln!(out, "active = \"{}\"", if output.active_low { "low" } else { "high" });
}

impl Answers {
    /// Of two parts as near as this each has its own frame and its own pulse, which may come as
    /// late as it is long.
    fn min_spacing_ms(&self) -> u64 {
        self.timing.min_spacing_ms().max(2 * self.width_ms)
    }

    /// The file's text.
    pub fn device_toml(&self) -> String {
        let mut out = String::from(
            "# Written by `tagpin setup` from what was asked and measured at the line. `tagpin check --example` prints every other\n\
             # key with its default.\n\n",
        );
        let _ = writeln!(out, "[source]\nopen = {}\n\n[line]\nmode = \"gate\"\n\n[trigger]", quoted(&self.source));
        match &self.trigger {
            Trigger::Barrier => out.push_str("kind = \"barrier\"\n"),
            Trigger::Words { max_jitter_ms } => {
                noted(&mut out, "kind = \"stdin\"", "a line of text a part, until a sensor is wired");
                let _ = writeln!(out, "max_jitter_ms = {max_jitter_ms}");
            }
            Trigger::Gpio { pin: Pin { chip, line }, slope, pull } => {
                let [edge, pull] = [word(&Slope::WORDS, slope), word(&Pull::WORDS, pull)];
                let _ = writeln!(
                    out,
                    "kind = \"gpio\"\nchip = {}\nline = {}\nedge = \"{edge}\"\npull = \"{pull}\"",
                    quoted(chip),
                    quoted(line)
                );
            }
        }
        if let Some(ms) = self.max_latency_ms {
            noted(&mut out, &format!("max_latency_ms = {ms}"), "from exposure to arrival: as it was said");
        }
        let timing = &self.timing;
        let _ = writeln!(
            out,
            "# Parts were in the middle of the image {} ms after their triggers; a frame comes every {:.1} ms.",
            timing.offsets_ms(),
            timing.interval.0 as f64 / 1000.0,
        );
        for (key, ms, comment) in [
            ("to_camera_ms", timing.to_camera_ms(), "half a frame before the median"),
            ("deadline_ms", timing.deadline_ms(), "until the latest part's frame is here, one more being lost"),
            (
                "min_spacing_ms",
                self.min_spacing_ms(),
                "nearer parts could take each other's frames (their spread and two frames) or pulses (two)",
            ),
        ] {
            noted(&mut out, &format!("{key} = {ms}"), comment);
        }
        wiring(&mut out, &self.gate);
        let _ = writeln!(out, "mode = \"pulse\"\nwidth_ms = {}", self.width_ms);
        noted(&mut out, &format!("delay_ms = {}", self.delay_ms), "from the trigger to the gate");
        out.push_str("on = [\"reject\"]\n");
        if let Some(ready) = &self.ready {
            wiring(&mut out, ready);
            noted(&mut out, "on = [\"ready\"]", "wire it to the belt: inactive means that parts would pass unsorted");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Role, TagRule};
    use crate::outputs::Backend;
    use crate::random::{Random, drawn_cases};
    use crate::settings::{LineMode, ModelTags, Settings, TriggerKind};
    use crate::time::Micros;

    /// The file is read by the line's own reader, whatever was typed.
    #[test]
    fn whatever_is_asked_is_read_back_as_it_was() {
        let (seed, cases) = drawn_cases(300);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut below = |n: i32| random.range(0, n - 1);
            let words = ["header", "pinctrl-rp1", "a \"b\" \\", "GPIO17", "/dev/gpiochip4", "gr\u{fc}n\u{7f}"];
            let pin = |below: &mut dyn FnMut(i32) -> i32| Pin {
                chip: words[below(6) as usize].into(),
                line: words[below(6) as usize].into(),
            };
            let trigger = match below(3) {
                0 => Trigger::Barrier,
                1 => Trigger::Words { max_jitter_ms: 1 + below(500) as u64 },
                _ => Trigger::Gpio {
                    pin: pin(&mut below),
                    slope: [Slope::Rising, Slope::Falling, Slope::Both][below(3) as usize],
                    pull: [Pull::AsIs, Pull::Up, Pull::Down, Pull::Off][below(4) as usize],
                },
            };
            let offsets = (0..5).map(|_| Micros(100_000 + 1000 * below(100) as u64)).collect();
            let answers = Answers {
                source: "camera:0?width=640&x=\"q\"".into(),
                trigger,
                max_latency_ms: (below(2) == 0).then_some(100),
                timing: Timing::new(offsets, Micros(33_333), Micros(20_000)),
                gate: Output {
                    name: "reject gate".into(),
                    pin: (below(2) == 0).then(|| pin(&mut below)),
                    active_low: below(2) == 0,
                },
                width_ms: 20 + below(200) as u64,
                delay_ms: 800 + below(2000) as u64,
                ready: (below(2) == 0).then(|| Output { name: "ready".into(), pin: None, active_low: false }),
            };
            let text = answers.device_toml();
            let names = ["nut", "bolt"];
            let (rules, roles) = ([TagRule::default(); 2], [Role::Good, Role::Defect]);
            let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories: None };
            let draft = Settings::draft_of(&text, "device.toml", None, model).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert!(draft.problems.is_empty(), "seed {seed} case {case}: {:?}\n{text}", draft.problems);
            let read = draft.settings;
            assert!(matches!(read.mode, LineMode::Gate { .. }), "{text}");
            assert_eq!(read.source, answers.source);
            let kind = match &answers.trigger {
                Trigger::Barrier => TriggerKind::Barrier,
                _ => TriggerKind::Input,
            };
            assert_eq!(read.trigger, kind, "{text}");
            let gate = read.outputs.iter().find(|o| o.name == "reject gate").unwrap();
            let backend = answers.gate.pin.map_or(Backend::Simulated, |Pin { chip, line }| Backend::Gpiochip { chip, line });
            assert_eq!(gate.backend, backend, "seed {seed} case {case}");
            assert_eq!(read.outputs.len(), 1 + answers.ready.is_some() as usize);
            assert!(
                read.pulses_that_meet_the_next_part().is_empty(),
                "a pulse meets the next part: seed {seed} case {case}\n{text}"
            );
        }
    }
}
