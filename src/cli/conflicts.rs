//! What settings ask for that cannot work, though each key by itself is right: found by `check`,
//! and before a run starts.

use crate::decide::{Action, Policy};
use crate::gpio;
use crate::line::{CalledBy, GateLine, Travel};
use crate::outputs::Backend;
use crate::regular;
use crate::rotating;
use crate::settings::{Drive, LineMode, OutputSettings, Settings, TriggerKind};
use crate::sources::SourceSpec;
use crate::time::Micros;
use crate::triggers::{GpioInputs, Role, TriggerSpec};
use std::path::PathBuf;

/// The shortest time from camera to gate in which a verdict could be made, by the fastest camera
/// and model.
const LEAST_WAY: Micros = Micros(2000);

/// One thing that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// An output waits for rejects, and nothing can ever be one.
    NothingRejects {
        /// The output.
        output: String,
    },
    /// A part is at a gate before it is before the camera.
    CameraBehindGate {
        /// The output.
        output: String,
    },
    /// A part is at a gate before any verdict can be made of it.
    NoTimeForVerdict {
        /// The output.
        output: String,
    },
    /// A part's deadline goes on while the belt stands, though its gate goes by the belt.
    DeadlineIgnoresBelt {
        /// The output.
        output: String,
    },
    /// Pins follow images that no camera takes.
    Drawn {
        /// The source.
        source: String,
    },
    /// Images of files are all shown at once, before the first part is told of.
    FilesRunOut {
        /// The source.
        source: String,
    },
    /// A part's moment is its word's arrival, and nobody states how far that may be from the
    /// sensor's signal.
    NoJitter,
    /// Frames and triggers both come on standard input.
    StdinTwice,
    /// Each recipe opens the source anew, and nothing begins anew on standard input.
    RecipesOnStdin,
    /// One pin has two uses.
    SamePin {
        /// The pin.
        pin: String,
        /// What uses it.
        uses: [String; 2],
        /// The tables that say so.
        tables: [String; 2],
    },
    /// One file is written by two.
    SameFile {
        /// The file.
        file: PathBuf,
        /// Who writes it.
        writers: [String; 2],
    },
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NothingRejects { output } => write!(
                f,
                "output {output} waits for rejects, but nothing can be one: name the defects in [decide] reject = [...], or \
                 set unknown = \"reject\""
            ),
            Self::CameraBehindGate { output } => write!(
                f,
                "output {output}: a part is at its gate before it is before the camera; make its delay longer than [trigger] \
                 to_camera, or move the camera"
            ),
            Self::NoTimeForVerdict { output } => write!(
                f,
                "output {output}: its gate is less than {} ms behind the camera, where no verdict can be there by then, so every \
                 part gets the late action; make its delay as long as the part needs from the trigger to this gate",
                LEAST_WAY.0 / 1000
            ),
            Self::DeadlineIgnoresBelt { output } => write!(
                f,
                "output {output}: its delay goes by the belt, but [trigger] deadline_ms by the clock, so a belt that stands still \
                 gives what waits before the camera the late action; state deadline_counts, or leave deadline_ms out"
            ),
            Self::Drawn { source } => write!(
                f,
                "source \"{source}\" takes no image of what passes, so its verdicts may not move GPIO lines; name a camera in \
                 [source] open, or say --allow-drawn where nothing is wired to them"
            ),
            Self::FilesRunOut { source } => write!(
                f,
                "source \"{source}\" gives its images one after the other without waiting for a part, so a trigger from outside \
                 finds none left: set [trigger] kind = \"every_frame\", where each image is a part, or name a camera or a FIFO in \
                 [source] open"
            ),
            Self::NoJitter => f.write_str(
                "[trigger] max_jitter_ms is missing: in gate mode a word's arrival is its part's moment; state the longest \
                 time from the sensor's signal to the word's arrival",
            ),
            Self::StdinTwice => f.write_str(
                "standard input is both source and trigger; give one of them a socket, a FIFO (y4m:PATH) or a line of its own",
            ),
            Self::RecipesOnStdin => f.write_str(
                "the source is standard input, and each recipe opens it anew, in the middle of a frame; name a camera, or a FIFO \
                 (y4m:PATH) whose writer begins anew for each reader",
            ),
            Self::SamePin { pin, uses: [a, b], .. } => write!(f, "{pin} is used twice: as {a} and as {b}; choose another line"),
            Self::SameFile { file, writers: [a, b] } => {
                write!(f, "{} is written by both {a} and {b}; give each a file of its own", file.display())
            }
        }
    }
}

impl Conflict {
    /// The tables of device.toml that it rests on: where one of these is wrong itself, nothing can
    /// be said.
    pub(super) fn tables(&self) -> Vec<String> {
        let own = |output: &String| format!("outputs.{output}");
        let of = |tables: &[&str]| tables.iter().map(ToString::to_string).collect();
        match self {
            Self::NothingRejects { output } => {
                vec!["decide".into(), "tags".into(), "line".into(), own(output)]
            }
            Self::CameraBehindGate { output } | Self::NoTimeForVerdict { output } | Self::DeadlineIgnoresBelt { output } => {
                vec!["trigger".into(), "line".into(), own(output)]
            }
            Self::Drawn { .. } => of(&["source"]),
            Self::NoJitter => of(&["trigger", "line"]),
            Self::StdinTwice | Self::FilesRunOut { .. } => of(&["trigger", "source"]),
            Self::RecipesOnStdin => of(&["recipes", "source"]),
            Self::SamePin { tables, .. } => tables.to_vec(),
            Self::SameFile { .. } => Vec::new(),
        }
    }
}

/// Everything in `settings` that cannot work. `has_distance`: whether the bundle can tell foreign
/// parts.
pub(super) fn conflicts(settings: &Settings, has_distance: bool) -> Vec<Conflict> {
    let mut found = Vec::new();
    for output in &settings.outputs {
        let name = || output.name.clone();
        if waits_in_vain(settings, output, has_distance) {
            found.push(Conflict::NothingRejects { output: name() });
        }
        if is_before_camera(settings, output) {
            found.push(Conflict::CameraBehindGate { output: name() });
        } else if is_at_camera(settings, output) {
            found.push(Conflict::NoTimeForVerdict { output: name() });
        }
    }
    let by_belt = |o: &&OutputSettings| {
        matches!(o.gate_line(), Some(GateLine { delay: Travel::Counts(_), by: CalledBy::Verdict, .. }))
    };
    let first_by_belt = settings.outputs.iter().find(by_belt);
    if let (Some(output), Travel::Time(_), true) = (first_by_belt, settings.part.deadline, settings.mode != LineMode::State)
    {
        found.push(Conflict::DeadlineIgnoresBelt { output: output.name.clone() });
    }
    let spec = settings.source.parse::<SourceSpec>();
    if spec.as_ref().is_ok_and(SourceSpec::is_drawn) && settings.outputs.iter().any(|o| o.backend.is_pin()) {
        found.push(Conflict::Drawn { source: settings.source.clone() });
    }
    let from_files = |spec: &SourceSpec| spec.is_drawn() && !spec.is_conveyor();
    if spec.as_ref().is_ok_and(from_files) && settings.trigger == TriggerKind::Input {
        found.push(Conflict::FilesRunOut { source: settings.source.clone() });
    }
    if settings.mode != LineMode::State && settings.inputs.iter().any(TriggerSpec::lacks_jitter) {
        found.push(Conflict::NoJitter);
    }
    let words = settings.inputs.iter().any(|i| matches!(i, TriggerSpec::Stdin { .. }));
    let is_stdin = spec.is_ok_and(|spec| spec.is_stdin());
    if words && is_stdin {
        found.push(Conflict::StdinTwice);
    }
    if is_stdin && has_recipes(settings) {
        found.push(Conflict::RecipesOnStdin);
    }
    found.extend(same_pins(settings));
    found.extend(same_files(settings));
    found
}

/// Whether an output waits for rejects alone, and neither a tag, the policy nor a part without a
/// verdict gives one.
fn waits_in_vain(settings: &Settings, output: &OutputSettings, has_distance: bool) -> bool {
    let Drive::Calls(calls) = &output.drive else { return false };
    let only_rejects = calls.actions().eq([Action::Reject]) && !calls.unknown && !calls.foreign && calls.tags.is_empty();
    let Policy { unknown, foreign, .. } = settings.policy;
    let by_tag = settings.tags.iter().any(|t| t.action == Action::Reject);
    let by_policy = unknown == Action::Reject || has_distance && foreign == Action::Reject;
    only_rejects && !by_tag && !by_policy && settings.mode != LineMode::Gate { late: Action::Reject }
}

/// Whether a part is at this output's gate before it is before the camera.
fn is_before_camera(settings: &Settings, output: &OutputSettings) -> bool {
    let is_gate = settings.mode != LineMode::State && matches!(output.drive, Drive::Calls(_));
    is_gate
        && match (settings.part.to_camera, output.delay) {
            (Travel::Time(camera), Travel::Time(gate)) => camera.0 > 0 && camera >= gate,
            (Travel::Counts(camera), Travel::Counts(gate)) => camera >= gate,
            // Which of them comes first depends on the belt's speed.
            (Travel::Time(_), Travel::Counts(_)) | (Travel::Counts(_), Travel::Time(_)) => false,
        }
}

/// Whether a part is at this output's gate before a frame of it can have been exposed, read out and
/// classified.
fn is_at_camera(settings: &Settings, output: &OutputSettings) -> bool {
    let is_gate = settings.mode != LineMode::State && matches!(output.drive, Drive::Calls(_));
    match (settings.part.to_camera, output.delay) {
        (Travel::Time(camera), Travel::Time(gate)) => is_gate && gate.0 < camera.0 + LEAST_WAY.0,
        _ => false,
    }
}

/// A GPIO line as device.toml states it, and what it is used as.
struct Use {
    chip: String,
    line: String,
    shown: String,
    what: String,
    table: String,
}

fn uses(settings: &Settings) -> Vec<Use> {
    let output = |o: &OutputSettings| {
        let (chip, line) = match &o.backend {
            Backend::Gpiochip { chip, line } => (chip.clone(), line.clone()),
            Backend::Rppal { pin } => (gpio::HEADER.into(), pin.to_string()),
            Backend::Simulated => return None,
        };
        Some(Use {
            chip,
            line,
            shown: o.backend.to_string(),
            what: format!("output \"{}\"", o.name),
            table: format!("outputs.{}", o.name),
        })
    };
    let role = |role: Role| match role {
        Role::Trigger => ("[trigger]", "trigger"),
        Role::EncoderA => ("channel a of [encoder]", "encoder"),
        Role::EncoderB => ("channel b of [encoder]", "encoder"),
        Role::Acknowledge => ("[acknowledge]", "acknowledge"),
        Role::Confirm => ("[confirm]", "confirm"),
    };
    let inputs = |g: &GpioInputs| {
        let one = |(r, l): &(Role, gpio::InputLine)| Use {
            chip: g.chip.clone(),
            line: l.line.clone(),
            shown: format!("gpiochip {} line {}", g.chip, l.line),
            what: role(*r).0.into(),
            table: role(*r).1.into(),
        };
        g.lines.iter().map(one).collect::<Vec<_>>()
    };
    let of_input = |i: &TriggerSpec| if let TriggerSpec::Gpio(g) = i { inputs(g) } else { Vec::new() };
    settings.inputs.iter().flat_map(of_input).chain(settings.outputs.iter().filter_map(output)).collect()
}

/// Pins with two uses. The reader of the settings finds two outputs that are stated alike; here is
/// what is stated differently.
fn same_pins(settings: &Settings) -> Vec<Conflict> {
    let uses = uses(settings);
    let mut found = Vec::new();
    for (i, a) in uses.iter().enumerate() {
        for b in &uses[i + 1..] {
            if gpio::is_same((&a.chip, &a.line), (&b.chip, &b.line)) {
                let pin = if a.shown == b.shown { a.shown.clone() } else { format!("{}, or {},", a.shown, b.shown) };
                found.push(Conflict::SamePin {
                    pin,
                    uses: [a.what.clone(), b.what.clone()],
                    tables: [a.table.clone(), b.table.clone()],
                });
            }
        }
    }
    found
}

#[cfg(feature = "site")]
fn has_recipes(settings: &Settings) -> bool {
    !settings.site.recipes.is_empty()
}

#[cfg(not(feature = "site"))]
fn has_recipes(_: &Settings) -> bool {
    false
}

/// What lies in the state folder, and who writes it.
#[cfg(feature = "site")]
fn state_files(settings: &Settings) -> Vec<(PathBuf, String)> {
    let files = [crate::audit::FILE, crate::settings::RECIPE, crate::settings::OVERRIDES];
    let of = |folder: &PathBuf| files.map(|file| (folder.join(file), "[state]".to_string())).into();
    settings.site.state.as_ref().map(of).unwrap_or_default()
}

#[cfg(not(feature = "site"))]
fn state_files(_: &Settings) -> Vec<(PathBuf, String)> {
    Vec::new()
}

fn same_files(settings: &Settings) -> Vec<Conflict> {
    let output = |o: &OutputSettings| Some((o.log.as_ref()?.path.clone(), format!("output \"{}\"", o.name)));
    let log = settings.events.iter().map(|log| (log.path.clone(), "[events]".to_string()));
    let logs = log.chain(settings.outputs.iter().filter_map(output));
    let socket = |i: &TriggerSpec| if let TriggerSpec::Socket(socket) = i { Some(socket.path.clone()) } else { None };
    // Beside a socket lies its lock.
    let beside = |socket: PathBuf| [socket.with_added_extension("lock"), socket].map(|file| (file, "[trigger]".to_string()));
    let sockets = settings.inputs.iter().filter_map(socket).flat_map(beside);
    // However a path is spelled.
    let spelled = |(file, who): (PathBuf, String)| (regular::absolute(&file), who);
    let files: Vec<(PathBuf, String)> = logs.chain(state_files(settings)).chain(sockets).map(spelled).collect();
    let mut found = Vec::new();
    for (i, (file, a)) in files.iter().enumerate() {
        let twice = files[i + 1..].iter().find(|(other, _)| rotating::meet(file, other));
        found.extend(twice.map(|(_, b)| Conflict::SameFile { file: file.clone(), writers: [a.clone(), b.clone()] }));
    }
    found
}
