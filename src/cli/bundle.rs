//! `tagpin bundle`: verify, install, roll back and show bundles. Signing is the tools':
//! `tagpin-tools bundle sign`.
//!
//! Runs at the lowest priority, beside a line that sorts, unless it is told that there is none.

use super::{Refused, audit, keys};
use crate::bundle::Bundle;
use crate::engine::{Engine, SelfTested};
use crate::installed::{self, CURRENT, Changed, InstallError, Keys, Options, PREVIOUS, Seen, Signed};
use crate::line::Travel;
use crate::settings::{LineMode, ModelTags, Settings};
use crate::terminal::{escaped_lines, tell_problem};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where bundles are installed unless another folder is named.
const INSTALLED: &str = "/var/lib/tagpin";

/// Arguments of `bundle`.
#[derive(clap::Args, Debug)]
pub(super) struct BundleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Check a bundle's hashes and who signed it; exit 1 if it would be refused
    Verify {
        /// Bundle to check; its signature lies beside it as NAME.tagpin.minisig
        bundle: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Copy a bundle into a folder from which a line runs, try it, and make it the current one in
    /// one step; exit 1 if it is refused
    Install {
        /// Bundle to install
        bundle: PathBuf,
        /// Folder to install into [default: /var/lib/tagpin/NAME, after the model]
        #[arg(long, value_name = "FOLDER")]
        into: Option<PathBuf>,
        /// Take it only if it is fast enough for the first gate of this device.toml
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        /// Take a version that is not above the installed one's
        #[arg(long)]
        downgrade: bool,
        /// Take a bundle of other tags, roles, task or input size, for which the line must be
        /// restarted
        #[arg(long)]
        force_restart: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make the bundle that ran before the current one again; once more takes that back
    Rollback {
        /// Folder of an installed bundle
        folder: PathBuf,
        /// Go back only if it is fast enough for the first gate of this device.toml
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        /// Go back although the line must be restarted for it
        #[arg(long)]
        force_restart: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show the current and the previous bundle of a folder; exit 1 if the current one would be
    /// refused
    Status {
        /// Folder of an installed bundle
        folder: PathBuf,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args, Debug)]
struct Common {
    /// Folder of the keys that are trusted, as NAME.pub
    #[arg(long, value_name = "FOLDER", default_value = installed::KEYS)]
    keys: PathBuf,
    /// No line sorts on this machine: do not run at the lowest priority, which takes long where
    /// others are busy
    #[arg(long)]
    no_line: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl BundleArgs {
    fn common(&self) -> &Common {
        match &self.what {
            What::Verify { common, .. }
            | What::Install { common, .. }
            | What::Rollback { common, .. }
            | What::Status { common, .. } => common,
        }
    }
}

pub(super) fn run(args: &BundleArgs) -> Result<u8, Refused> {
    if !args.common().no_line {
        crate::supervisor::lowest_priority();
    }
    match &args.what {
        What::Verify { bundle, common } => {
            let keys = keys(&common.keys)?;
            if keys.is_empty() && common.keys != Path::new(installed::KEYS) {
                let why = "holds no NAME.pub, so no signature would be checked; name the folder that does";
                return Err(format!("--keys {}: {why}", common.keys.display()).into());
            }
            let Some(seen) = accepted(Seen::read(bundle, &keys))? else { return Ok(1) };
            print(common.json, seen_json(&seen), &seen_text(&seen));
            Ok(0)
        }
        What::Install { bundle, into, settings, downgrade, force_restart, common } => {
            can_be_read(settings.as_deref())?;
            let keys = keys(&common.keys)?;
            let folder = match into {
                Some(folder) => folder.clone(),
                None => default_folder(bundle)?,
            };
            let log = audit::log_of(settings.as_deref(), &folder);
            audit::must_record(log.as_ref())?;
            let options = Options { downgrade: *downgrade, restart: *force_restart };
            let changed = installed::install(&folder, bundle, &keys, options, |b| trial(b, settings.as_deref()));
            tell(common.json, &folder, changed, |old, new| audit::record(log.as_ref(), "bundle installed", old, new))
        }
        What::Rollback { folder, settings, force_restart, common } => {
            can_be_read(settings.as_deref())?;
            let log = audit::log_of(settings.as_deref(), folder);
            audit::must_record(log.as_ref())?;
            let options = Options { downgrade: true, restart: *force_restart };
            let changed = installed::roll_back(folder, &keys(&common.keys)?, options, |b| trial(b, settings.as_deref()));
            tell(common.json, folder, changed, |old, new| audit::record(log.as_ref(), "bundle rolled back", old, new))
        }
        What::Status { folder, common } => status(folder, &keys(&common.keys)?, common.json),
    }
}

/// What was done or found; `None` where the bundle was refused, which is told.
fn accepted<T>(outcome: Result<T, InstallError>) -> Result<Option<T>, Refused> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.is_refusal() => {
            tell_problem("refused", &e.to_string());
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

/// Refuses settings that nothing can be tried with: the bundle has no part in that.
fn can_be_read(settings: Option<&Path>) -> Result<(), Refused> {
    let none = ModelTags { names: &[], rules: &[], roles: &[], categories: None };
    let read = settings.map_or(Ok(()), |file| Settings::open_draft(file, None, none).map(drop));
    read.map_err(|e| Refused(e.0))
}

fn print(json: bool, value: Value, text: &str) {
    match json {
        true => println!("{value:#}"),
        // Names of models and files command no terminal.
        false => println!("{}", escaped_lines(text)),
    }
}

/// The folder of the model's own name.
fn default_folder(bundle: &Path) -> Result<PathBuf, Refused> {
    let model = super::Model::read(Some(bundle))?;
    let read = model.bundle()?;
    let name = read.contract.name;
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(format!("model \"{name}\" cannot name a folder; name one with --into FOLDER").into());
    }
    Ok(Path::new(INSTALLED).join(name))
}

/// What a bundle showed before it became current.
pub(super) struct Trial {
    tested: SelfTested,
    time: Option<Timed>,
}

/// How long the frames of one part take.
#[derive(Clone, Copy)]
struct Timed {
    ms: f64,
    /// What the first gate leaves for them; `None` where no gate is a time away.
    room_ms: Option<f64>,
}

/// Loads the bundle, runs its self-test, and times it against the gate of a device.toml.
pub(super) fn trial(bundle: &Bundle<'_>, settings: Option<&Path>) -> Result<Trial, String> {
    let mut engine = Engine::from_bundle(bundle).map_err(|e| e.to_string())?;
    let tested = engine.self_test(bundle).map_err(|e| e.to_string())?;
    let Some(file) = settings else { return Ok(Trial { tested, time: None }) };
    let settings = super::settings(Some(file), bundle, false).map_err(|e| e.0.join("\n"))?;
    let engine = engine.with_threads(settings.threads).map_err(|e| format!("[engine] threads: {e}"))?;
    let ms = median_ms(engine).map_err(|e| e.to_string())? * f64::from(settings.part.frames);
    let room_ms = room_ms(&settings);
    if let Some(room) = room_ms.filter(|room| ms > *room) {
        return Err(format!(
            "too slow for {}: the {} frames of a part take {ms:.1} ms here (median of {RUNS}), its first gate leaves \
             {room:.1} ms; make the model smaller, or the gate later",
            file.display(),
            settings.part.frames
        ));
    }
    Ok(Trial { tested, time: Some(Timed { ms, room_ms }) })
}

/// Inferences that are timed.
const RUNS: usize = 25;

/// The middle of some inferences' times.
fn median_ms(mut engine: Engine) -> Result<f64, crate::engine::EngineError> {
    let (input, mut logits) = (vec![0; engine.spec().input.iter().product()], vec![0; engine.spec().logits]);
    let mut times = [0.0; RUNS];
    for time in &mut times {
        let begin = Instant::now();
        engine.infer(&input, &mut logits)?;
        *time = begin.elapsed().as_secs_f64() * 1e3;
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

/// Milliseconds from a part's exposure, at the latest that its frame arrives, to its first gate;
/// `None` where outputs follow the tags, since no part is on its way to them.
fn room_ms(settings: &Settings) -> Option<f64> {
    if settings.mode == LineMode::State {
        return None;
    }
    let to_camera = match settings.part.to_camera {
        Travel::Time(span) => span.0,
        Travel::Counts(_) => 0,
    };
    let before = to_camera + settings.max_latency.map_or(0, |latency| latency.0);
    settings.first_gate().map(|gate| gate.0.saturating_sub(before) as f64 / 1e3)
}

/// Records and prints what was done.
fn tell(
    json: bool,
    folder: &Path,
    changed: Result<Changed<Trial>, InstallError>,
    record: impl FnOnce(String, String) -> Result<(), Refused>,
) -> Result<u8, Refused> {
    let Some(Changed { current, signed, before, previous, restart, trial }) = accepted(changed)? else { return Ok(1) };
    record(before.unwrap_or_default(), current.clone())?;
    let Trial { tested, time } = trial;
    let mut text = vec![
        format!("current   {current} in {}", folder.display()),
        format!("previous  {}", previous.as_deref().unwrap_or("none")),
        format!("signed    {}", signed_text(signed.as_ref())),
        match tested.images {
            0 => "tested    runs; the bundle has no self-test, so nobody compared its logits".to_string(),
            n => format!("tested    {n} images gave the bundle's logits"),
        },
    ];
    text.extend(time.map(|Timed { ms, room_ms }| match room_ms {
        Some(room) => format!("time      {ms:.1} ms for a part's frames, {room:.1} ms until its first gate"),
        None => format!("time      {ms:.1} ms for a part's frames; no gate is a time away"),
    }));
    let differs: Vec<&str> = restart.iter().map(|d| d.name()).collect();
    if !differs.is_empty() {
        text.push(format!("restart   the line must be restarted: other {}", differs.join(", ")));
    }
    let value = json!({
        "schema": 1, "folder": folder.display().to_string(), "current": current, "previous": previous,
        "version": signed.as_ref().map(|s| s.version), "key": signed.and_then(|s| s.key), "restart": differs,
        "self_test_images": tested.images, "part_ms": time.map(|t| t.ms), "gate_ms": time.and_then(|t| t.room_ms),
    });
    print(json, value, &text.join("\n"));
    Ok(0)
}

fn signed_text(signed: Option<&Signed>) -> String {
    signed.map_or("no".into(), ToString::to_string)
}

fn seen_text(seen: &Seen) -> String {
    let Seen { name, sha256, signed, images } = seen;
    let tests = if *images > 0 { format!("self-test of {images} images") } else { "no self-test".into() };
    format!("{name}  {sha256}\n          signed: {}; {tests}", signed_text(signed.as_ref()))
}

fn seen_json(seen: &Seen) -> Value {
    let Seen { name, sha256, signed, images } = seen;
    json!({
        "schema": 1, "name": name, "sha256": sha256, "version": signed.as_ref().map(|s| s.version),
        "key": signed.as_ref().and_then(|s| s.key.clone()), "self_test_images": images,
    })
}

fn status(folder: &Path, keys: &Keys, json: bool) -> Result<u8, Refused> {
    let mut text = Vec::new();
    let mut value = json!({ "schema": 1, "folder": folder.display().to_string() });
    let mut code = 0;
    for link in [CURRENT, PREVIOUS] {
        let (shown, found) = match Seen::behind(folder, link, keys) {
            Ok(Some(seen)) => (seen_text(&seen), seen_json(&seen)),
            Ok(None) => ("none".into(), Value::Null),
            Err(e @ InstallError::Io { .. }) => return Err(e.into()),
            Err(e) => (format!("would be refused: {e}"), json!({ "refused": e.to_string() })),
        };
        if link == CURRENT && found["sha256"].is_null() {
            code = 1;
        }
        text.push(format!("{link:<9} {shown}"));
        value[link] = found;
    }
    let failed = installed::failed_starts(folder);
    value["failed_starts"] = failed.into();
    if failed > 0 {
        text.push(format!("starts    {failed} in a row failed in the current bundle"));
    }
    print(json, value, &text.join("\n"));
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Role, TagRule};
    use crate::settings::EXAMPLE;

    /// A lamp that follows the tags has no gate, and every bundle was "too slow" for it: 0.0 ms were
    /// left. The last is the control.
    #[test]
    fn only_a_gate_that_parts_travel_to_leaves_a_time_for_the_model() {
        let rules = [TagRule::default()];
        let model = ModelTags { names: &["bolt"], rules: &rules, roles: &[Role::Good], categories: None };
        let lamp = "[outputs.lamp]\non = [\"accept\"]\n";
        let gate = "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\ndeadline_ms = 200\n\
                    [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 50\ndelay_ms = 900\non = [\"reject\"]\n";
        for (text, room) in [(lamp, None), (EXAMPLE, None), (gate, Some(900.0))] {
            let draft = Settings::draft(text, "device.toml", model).unwrap();
            assert_eq!(room_ms(&draft.settings), room, "{text}: {:?}", draft.problems);
        }
    }
}
