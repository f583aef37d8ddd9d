//! `tagpin check` and `tagpin safe`: is everything there that a run needs, and the lines' safe
//! state.
//!
//! Takes no line that another process holds.

use super::conflicts::Conflict;
use super::first_frames::{self, Patience};
use super::waiting::Waiting;
use super::{Model, Refused, hex};
use crate::board::{AfterDeath, Board, Power};
use crate::bundle::{Bundle, Input, Section};
use crate::engine::Engine;
use crate::frame::{CapturedAt, Layout, TimedBy};
use crate::installed::{self, Seen};
use crate::kernels::Kernels;
use crate::outputs::{self, Backend};
#[cfg(feature = "site")]
use crate::settings::Overridden;
use crate::settings::{Draft, EXAMPLE, LineMode, MeetsNext, Settings, View, Warning, safe_lines};
use crate::sources::{self, FrameBuffer, Pacing, Source, SourceSpec};
use crate::supervisor::SystemClock;
use crate::terminal::{escaped, escaped_lines};
use crate::time::{Clock, Micros};
use crate::triggers;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `check`.
#[derive(clap::Args, Debug)]
pub(super) struct Check {
    /// Bundle to check, or the folder of an installed one [default: the shipped parts model]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Folder of the keys that are trusted, as NAME.pub; with one there the bundle must be signed
    #[arg(long, value_name = "FOLDER", default_value = crate::installed::KEYS)]
    keys: PathBuf,
    /// Settings of the device (device.toml); without it the built-in demonstration
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Print a complete commented device.toml and exit
    #[arg(long)]
    example: bool,
    /// GPIO lines may follow a source that draws its images or reads them from files: nothing is
    /// wired to them
    #[arg(long)]
    allow_drawn: bool,
    /// Give every key of the settings file that was renamed its new name, and exit; comments stay
    #[arg(long, requires = "settings")]
    migrate: bool,
}

impl Check {
    /// Of a settings file and the bundle that it is for, as `setup` ends.
    pub(super) fn of(settings: PathBuf, bundle: Option<PathBuf>) -> Self {
        let keys = crate::installed::KEYS.into();
        Self { bundle, keys, settings: Some(settings), example: false, allow_drawn: false, migrate: false }
    }
}

/// Arguments of `safe`.
#[derive(clap::Args, Debug)]
pub(super) struct Safe {
    /// Settings of the device (device.toml); only the output lines are read
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// Read for one release and not needed: no model is loaded
    #[arg(long, hide = true)]
    bundle: Option<PathBuf>,
}

/// A line of the example in `columns`: what its comment goes on with is a comment too, below it.
fn example_line(line: &str, columns: usize) -> String {
    // The last is the comment's own: a key that is commented out begins with one, too.
    let Some(comment) = line.rfind("# ") else { return line.into() };
    let shown = crate::terminal::wrapped(line, columns.saturating_sub(2), comment);
    shown.replace(&format!("\n{}", " ".repeat(comment)), &format!("\n{}# ", " ".repeat(comment)))
}

/// One line a thing looked at.
fn line(problems: &mut usize, what: &str, outcome: Result<String, String>) {
    match outcome {
        Ok(found) => say("ok", what, &found),
        Err(why) => {
            *problems += 1;
            say("PROBLEM", what, &why);
        }
    }
}

/// Prints a line. Names of outputs and files command no terminal.
fn say(word: &str, what: &str, text: &dyn std::fmt::Display) {
    println!("{}", super::fitted(&format!("{word:<7}  {}: {}", escaped(what), escaped_lines(&text.to_string())), 9));
}

pub(super) fn run(args: &Check) -> Result<u8, Refused> {
    if args.example {
        match crate::terminal::columns(&std::io::stdout()) {
            Some(columns) => EXAMPLE.lines().for_each(|line| println!("{}", example_line(line, columns))),
            None => print!("{EXAMPLE}"),
        }
        return Ok(0);
    }
    let mut problems = 0;
    #[cfg(feature = "site")]
    let mut told = Vec::new();
    #[cfg(feature = "site")]
    let in_force = match super::recipe::InForce::of(args.settings.as_deref()) {
        Ok(in_force) => in_force,
        Err(Refused(why)) => {
            why.iter().for_each(|why| line(&mut problems, "recipe", Err(why.clone())));
            told = why;
            super::recipe::InForce::default()
        }
    };
    #[cfg(feature = "site")]
    let (path, recipe) = (in_force.bundle.as_deref().or(args.bundle.as_deref()), in_force.recipe());
    #[cfg(not(feature = "site"))]
    let (path, recipe, told) = (args.bundle.as_deref(), None, Vec::<String>::new());
    let model = Model::read(path).map_err(|r| r.0.join("; "));
    let bundle = model.as_ref().map_err(Clone::clone).and_then(|m| m.bundle().map_err(|r| r.0.join("; ")));
    let engine = bundle.as_ref().map_err(Clone::clone).and_then(|b| Engine::from_bundle(b).map_err(|e| e.to_string()));
    line(
        &mut problems,
        "bundle",
        match (&bundle, &engine) {
            (Ok(b), Ok(e)) => Ok(format!(
                "{}, {} tags, {:.1} M multiply-adds, {}",
                b.contract.name,
                b.contract.tags.len(),
                e.macs() as f64 / 1e6,
                hex(&b.sha256)
            )),
            (Err(e), _) | (_, Err(e)) => Err(e.clone()),
        },
    );
    if let (Ok(model), Ok(bundle)) = (&model, &bundle) {
        match model.signed(bundle, &args.keys) {
            Ok(Some(signed)) => say("ok", "signature", &signed),
            Ok(None) => {}
            Err(Refused(why)) => why.into_iter().for_each(|why| line(&mut problems, "signature", Err(why))),
        }
    }
    if let Some(folder) = path.filter(|path| path.join(installed::CURRENT).is_symlink()) {
        for link in [installed::CURRENT, installed::PREVIOUS] {
            match super::keys(&args.keys).map(|keys| Seen::behind(folder, link, &keys)) {
                Ok(Ok(Some(seen))) => say("ok", link, &format_args!("{} {}", seen.name, seen.sha256)),
                Ok(Ok(None)) => say("ok", link, &"none"),
                // The line runs without it, and the current one is told above.
                Ok(Err(e)) if link == installed::PREVIOUS => say("warning", link, &e),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
    if let Some(islands) = engine.as_ref().ok().map(|e| e.spec().islands).filter(|n| *n > 0) {
        let why = format!(
            "mixed: part of it runs in f32, in {islands} islands, which allocate memory at every inference; `tagpin inspect` \
             shows which"
        );
        say("warning", "bundle", &why);
    }
    line(&mut problems, "kernels", Kernels::choose().map(|k| k.name().into()));
    if let (true, Some(file), Ok(bundle)) = (args.migrate, &args.settings, &bundle) {
        return migrate(file, bundle);
    }
    let Ok(bundle) = &bundle else {
        if args.migrate {
            println!("skipped  rewriting the settings: it needs the bundle's tags; name the bundle with --bundle");
        }
        println!("skipped  settings, source, outputs: they need the bundle's tags");
        println!("{}", found(problems));
        return Ok(1);
    };
    let demo = args.settings.is_none() && args.bundle.is_none();
    match super::draft(args.settings.as_deref(), recipe, bundle, demo) {
        Err(e) => e.0.into_iter().for_each(|why| line(&mut problems, "settings", Err(why))),
        #[cfg_attr(not(feature = "site"), expect(unused_mut, reason = "only `site` lays something on top"))]
        Ok(mut draft) => {
            #[cfg(feature = "site")]
            match super::overridden(&mut draft, bundle) {
                Some(told @ Overridden::Tags(..)) => say("ok", "overrides", &told),
                Some(told @ Overridden::OtherBundle(_)) => say("warning", "overrides", &told),
                Some(Overridden::No) | None => {}
            }
            let settings = &draft.settings;
            let name = args.settings.as_ref().map_or("built in".to_string(), |p| p.display().to_string());
            if draft.problems.is_empty() {
                let outputs = match settings.outputs.len() {
                    1 => "1 output".to_string(),
                    n => format!("{n} outputs"),
                };
                line(&mut problems, "settings", Ok(format!("{name}, {outputs}")));
            }
            let new = draft.problems.iter().filter(|why| !told.contains(why));
            new.for_each(|why| line(&mut problems, "settings", Err(why.clone())));
            settings.renamed.iter().for_each(|r| say("warning", "settings", r));
            if let Some(why) = settings.unguarded() {
                line(&mut problems, "belt", Err(why.to_string()));
            }
            for meets in meeting(&draft) {
                line(&mut problems, "settings", Err(meets.to_string()));
            }
            warnings(&draft, bundle).iter().for_each(|w| say("warning", "settings", w));
            for conflict in conflicts(&draft, bundle, args.allow_drawn) {
                line(&mut problems, "settings", Err(conflict.to_string()));
            }
            #[cfg_attr(not(feature = "site"), expect(unused_variables, reason = "only recipes are held against it"))]
            let (all, frames) = look(&draft, bundle);
            for Found { what, outcome, warnings } in all {
                line(&mut problems, &what, outcome);
                warnings.iter().for_each(|w| say("warning", &what, w));
            }
            #[cfg(feature = "site")]
            recipes(&mut problems, args, settings, recipe, frames);
            #[cfg(feature = "site")]
            if recipe.is_none() && told.is_empty() && !settings.site.recipes.is_empty() {
                say("ok", "recipe", &"none is chosen: device.toml as it is");
            }
            board(&mut problems, &Board::default(), settings);
        }
    }
    println!("{}", found(problems));
    Ok((problems > 0) as u8)
}

/// How many problems were found, in words.
fn found(problems: usize) -> String {
    match problems {
        0 => "OK: no problems found".into(),
        1 => "1 problem found".into(),
        _ => format!("{problems} problems found"),
    }
}

/// Every recipe, each with its bundle and the frames that were taken; which is the current one.
#[cfg(feature = "site")]
fn recipes(problems: &mut usize, args: &Check, settings: &Settings, current: Option<&str>, frames: Option<Layout>) {
    let Some(file) = args.settings.clone().filter(|_| !settings.site.recipes.is_empty()) else { return };
    let (bundle, keys) = (args.bundle.clone(), args.keys.clone());
    let of = super::recipe::Of { settings: file, bundle, keys, allow_drawn: args.allow_drawn };
    for recipe in &settings.site.recipes {
        let what = format!("recipe {}", recipe.name);
        let mark = if current == Some(&recipe.name) { ", the current one" } else { "" };
        match of.look(Some(recipe), frames.map(|layout| (settings.source.as_str(), layout))) {
            Ok(found) => {
                line(problems, &what, Ok(found.told + mark));
                found.meeting.iter().for_each(|meets| line(problems, &what, Err(meets.to_string())));
                found.warnings.iter().for_each(|w| say("warning", &what, w));
            }
            Err(why) => why.into_iter().for_each(|why| line(problems, &what, Err(why))),
        }
    }
}

/// One thing that was looked at.
pub(super) struct Found {
    /// What it is.
    what: String,
    /// What was found, or what is wrong with it.
    pub(super) outcome: Result<String, String>,
    /// What may not be as it should.
    warnings: Vec<String>,
}

/// What may not have been meant, where the tables that it rests on are right.
pub(super) fn warnings(draft: &Draft, bundle: &Bundle<'_>) -> Vec<Warning> {
    let is_right = ["decide", "tags", "trigger", "line", "outputs"].iter().all(|table| draft.is_right(table));
    if is_right { draft.settings.warnings(bundle.section(Section::Distance).is_some()) } else { Vec::new() }
}

/// Pulses that may meet the next part, where the tables that they rest on are right.
pub(super) fn meeting(draft: &Draft) -> Vec<MeetsNext> {
    let is_right = ["trigger", "line", "outputs"].iter().all(|table| draft.is_right(table));
    if is_right { draft.settings.pulses_that_meet_the_next_part() } else { Vec::new() }
}

/// What cannot work though each key is right, as far as it does not rest on a table that is wrong.
/// `allow_drawn`: GPIO lines may follow images that nobody took.
pub(super) fn conflicts(draft: &Draft, bundle: &Bundle<'_>, allow_drawn: bool) -> Vec<Conflict> {
    let all = super::conflicts::conflicts(&draft.settings, bundle.section(Section::Distance).is_some()).into_iter();
    let allowed = |c: &Conflict| allow_drawn && matches!(c, Conflict::Drawn { .. });
    all.filter(|c| !allowed(c) && c.tables().iter().all(|table| draft.is_right(table))).collect()
}

/// Looks at source, inputs, log and outputs without taking them; what rests on a table that is
/// wrong is passed over. Beside it the layout of the source's frames, where it gave one.
pub(super) fn look(draft: &Draft, bundle: &Bundle<'_>) -> (Vec<Found>, Option<Layout>) {
    let settings = &draft.settings;
    let (mut all, mut frames) = (Vec::new(), None);
    if draft.is_right("source") && draft.is_right("trigger") && draft.is_right("line") {
        let found = source(settings, &bundle.contract.input, &mut frames);
        let warnings = found.iter().flat_map(|(_, warnings)| warnings.clone()).collect();
        all.push(Found { what: "source".into(), outcome: found.map(|(found, _)| found), warnings });
    }
    #[cfg(feature = "site")]
    // One that is not there is a problem of the settings.
    if let Some(folder) = settings.site.state.as_ref().filter(|folder| draft.is_right("state") && folder.is_dir()) {
        // A line sorts without it: boards are run with read-only disks.
        let mut warnings = Vec::from_iter(crate::site::probe_state(folder).err());
        let can = if warnings.is_empty() { "can be written" } else { "cannot be written" };
        let outcome = Ok(format!("{}, {can}", folder.display()));
        warnings.extend(crate::audit::Log::of_state(folder).misfit());
        all.push(Found { what: "state".into(), outcome, warnings });
    }
    let mut add = |what: String, outcome| all.push(Found { what, outcome, warnings: Vec::new() });
    if ["trigger", "encoder", "acknowledge", "confirm"].iter().all(|table| draft.is_right(table)) {
        let inputs = settings.inputs.iter().map(|input| triggers::probe(input).map_err(|e| e.to_string()));
        inputs.for_each(|found| add("input".into(), found));
    }
    if let Some(log) = settings.events.as_ref().filter(|_| draft.is_right("events")) {
        add("events".into(), crate::rotating::probe(&log.path).map_err(|e| e.to_string()));
    }
    #[cfg(feature = "site")]
    for (table, at, who) in settings.site.listening().filter(|(table, ..)| draft.is_right(table)) {
        let found = match std::net::TcpListener::bind(at) {
            Ok(_) => Ok(format!("{at}, {who}")),
            // By the line itself, where it runs already.
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Ok(format!("{at}, {who}; in use now")),
            Err(e) => Err(format!("{at}: {e}; choose another address or port")),
        };
        add(table.into(), found);
    }
    #[cfg(feature = "site")]
    if let Some(keep) = settings.site.keep.as_ref().filter(|_| draft.is_right("keep")) {
        let kinds = crate::ring::Kind::ALL.into_iter().filter(|kind| keep.keeps(*kind)).map(|kind| kind.name());
        let (kinds, a_day) = (kinds.collect::<Vec<_>>().join(", "), keep.bytes_per_day / 1_000_000);
        let found = crate::ring::probe(&keep.folder, keep.limits);
        add("keep".into(), found.map(|found| format!("{found}, {a_day} MB a day: {kinds}")).map_err(|e| e.to_string()));
    }
    for o in settings.outputs.iter().filter(|o| draft.is_right(&format!("outputs.{}", o.name))) {
        let found = match &o.log {
            Some(log) => crate::rotating::probe(&log.path).map_err(|e| e.to_string()),
            None => outputs::probe(&o.name, &o.backend).map_err(|e| e.why),
        };
        add(format!("output {}", o.name), found);
    }
    #[cfg(feature = "site")]
    if let Some(m) = settings.site.mqtt.as_ref().filter(|_| draft.is_right("mqtt")) {
        let warnings = Vec::from_iter(crate::site::mqtt::probe(m).err());
        let how = if m.tls { "with tls" } else { "not encrypted" };
        let outcome =
            crate::site::mqtt::Mqtt::open(m, None).map(|_| format!("{}, {how}, topics tagpin/{}/...", m.place(), m.name));
        all.push(Found { what: "mqtt".into(), outcome, warnings });
    }
    (all, frames)
}

/// Rewrites a settings file whose keys were renamed, where it lies and with its mode; the new file
/// is whole or the old one stays.
fn migrate(file: &Path, bundle: &Bundle<'_>) -> Result<u8, Refused> {
    let settings = super::settings(Some(file), bundle, false).map_err(|e| Refused(e.0))?;
    if settings.renamed.is_empty() {
        println!("{}: every key has its present name", file.display());
        return Ok(0);
    }
    let told = |what: &str, e: std::io::Error| format!("{}: cannot be {what}: {e}", file.display());
    // The file itself, where a link to it was named.
    let file = std::fs::canonicalize(file).map_err(|e| told("found", e))?;
    let text = crate::regular::read_text(&file, crate::regular::TEXT).map_err(|e| told("read", e.into()))?;
    let mode = std::fs::metadata(&file).map_err(|e| told("read", e))?.permissions();
    let mut new = file.clone().into_os_string();
    new.push(format!(".{}.new", std::process::id()));
    let write = || {
        let mut beside = File::options().write(true).create_new(true).open(&new)?;
        beside.write_all(Settings::migrate(&text, &settings.renamed).as_bytes())?;
        beside.set_permissions(mode)?;
        beside.sync_all()?;
        std::fs::rename(&new, &file)
    };
    write().map_err(|e| {
        // A file of this name that was there before is not ours to remove.
        if e.kind() != std::io::ErrorKind::AlreadyExists {
            _ = std::fs::remove_file(&new);
        }
        told("rewritten", e)
    })?;
    settings.renamed.iter().for_each(|r| println!("renamed  {} to {}", r.path, r.new));
    Ok(0)
}

/// The board's power, and what its pins do when this program is killed.
fn board(problems: &mut usize, board: &Board, settings: &Settings) {
    let model = board.model().unwrap_or("no device tree: not an ARM board".into());
    let power = match board.power() {
        Power::Told(troubles) if troubles.is_empty() => Ok(format!("{model}, supply and clock are well")),
        Power::Told(troubles) => {
            Err(format!("{model}: {}", troubles.iter().map(|t| t.mend()).collect::<Vec<_>>().join("; ")))
        }
        Power::NotTold(why) => Ok(format!("{model} ({why})")),
    };
    line(problems, "board", power);
    let uses = |wanted: fn(&Backend) -> bool| settings.outputs.iter().any(|o| wanted(&o.backend));
    if settings.mode == LineMode::State {
        return;
    }
    if uses(|b| matches!(b, Backend::Gpiochip { .. })) {
        let after = match board.after_death() {
            AfterDeath::Released => Ok("lines become inputs when the program is killed; pull resistors decide".into()),
            AfterDeath::Persists => Err("this kernel keeps driving a line's last level when the program is killed; put \
                dtparam=strict_gpiod into /boot/firmware/config.txt and reboot"
                .into()),
            AfterDeath::NotTold(why) => Ok(format!("unknown whether lines are released when the program is killed: {why}")),
        };
        line(problems, "killed", after);
    }
    if uses(|b| matches!(b, Backend::Rppal { .. })) {
        let why = "rppal's pins keep their last level when the program is killed; wire a heartbeat relay, and let the \
            service manager run `tagpin safe`";
        line(problems, "killed", Ok(why.into()));
    }
}

/// What may not be as it should where outputs follow parts: what the camera decides by itself, and
/// how long it sees a part.
pub(super) fn source_warnings(settings: &Settings, spec: &SourceSpec, source: &dyn Source) -> Vec<String> {
    if settings.mode == LineMode::State {
        return Vec::new();
    }
    let view = settings.warnings_of_view(View {
        interval: source.interval(),
        in_view: source.in_view(),
        is_drawn: spec.is_drawn(),
        timed_by: source.timed_by(),
    });
    let view = view.iter().map(ToString::to_string);
    source.automatics().into_iter().map(|a| a.mend().to_string()).chain(view).collect()
}

/// Opens the source and takes some frames: what they are, how long the first took, and what their
/// time is worth. Beside it what may not be as it should. `frames`: where their layout goes.
fn source(settings: &Settings, input: &Input<'_>, frames: &mut Option<Layout>) -> Result<(String, Vec<String>), String> {
    /// Longest wait for each frame but the first.
    const PATIENCE: Duration = Duration::from_secs(2);
    let spec: SourceSpec = settings.source.parse().map_err(|e: sources::SourceError| e.to_string())?;
    let clock = SystemClock;
    let begin = clock.now();
    let first_frame = settings.first_frame_timeout.micros().duration();
    let waiting = Waiting::new("the first frame", format!("first_frame_timeout_ms is {}", first_frame.as_millis()));
    let mut source = sources::open(&spec, &(Arc::new(clock) as _), settings.source_limits()).map_err(|e| e.to_string())?;
    settings.check_source(source.has_barrier(), source.timed_by())?;
    let mut frame = FrameBuffer::empty();
    let further = settings.frame_timeout.micros().duration().min(PATIENCE);
    let patience = Patience { first: first_frame, further };
    let first = match first_frames::take(&mut *source, &mut frame, &patience, waiting, || Ok::<(), String>(()))? {
        Ok(at) => at.since(begin),
        Err(e) => return Err(format!("\"{}\" opened, but {}", spec.text(), source.explain(&e))),
    };
    let live = source.pacing() == Pacing::Live;
    let view = frame.view().map_err(|e| format!("\"{}\": {e}", spec.text()))?;
    let l = view.layout();
    *frames = Some(l);
    settings.check_regions(l, input).map_err(|e| format!("\"{}\": {e}", spec.text()))?;
    let time = match frame.captured_at {
        CapturedAt::Exposure { uncertainty, by, .. } => {
            let who = match by {
                TimedBy::Shown => "frames are shown when they are wanted",
                TimedBy::Driver if uncertainty.0 > 0 => "the driver stamps the end of a frame",
                TimedBy::Driver => "the driver stamps the start of exposure",
                TimedBy::Metadata | TimedBy::Setting | TimedBy::Arrival => "the sensor's stamp in the metadata",
            };
            match uncertainty {
                Micros(0) => format!("exposure known: {who}"),
                Micros(us) => format!("exposure known to {:.1} ms: {who}", us as f64 / 1e3),
            }
        }
        CapturedAt::Arrival { latency, .. } => {
            format!(
                "exposed at most {} ms before it arrives: [trigger] max_latency_ms and the wait in its pipe",
                latency.0 / 1000
            )
        }
        CapturedAt::Unknown { .. } if settings.needs_time() => {
            return Err(format!(
                "\"{}\": nobody knows how old its frames are, so none is used; state [trigger] max_latency_ms",
                spec.text()
            ));
        }
        CapturedAt::Unknown { .. } => "age unknown".to_string(),
    };
    let colour = format!("{:?} {:?}", l.colour.matrix, l.colour.range).to_lowercase();
    let start = if live { format!(", first frame after {} ms", first.0 / 1000) } else { String::new() };
    let remarks: String = source.remarks().iter().map(|r| format!("; {r}")).collect();
    let found = format!("{}: {}x{} {:?} {colour}, {time}{start}{remarks}", spec.text(), l.width, l.height, l.format);
    Ok((found, source_warnings(settings, &spec, &*source)))
}

/// Every output line that device.toml states to its safe state, whatever is wrong with the rest of
/// the file or the bundle.
pub(super) fn safe(args: &Safe) -> Result<u8, Refused> {
    let name = args.settings.display().to_string();
    let text =
        crate::regular::read(&args.settings, crate::regular::TEXT).map_err(|e| format!("{name}: cannot be read: {e}"))?;
    let (lines, mut problems) = safe_lines(&String::from_utf8_lossy(&text), &name);
    // Requesting a line drives it to its initial (safe) state, so request all we can even if some
    // fail.
    let mut done = Vec::new();
    for line in &lines {
        if let Some(log) = &line.log {
            done.push(format!("skipped  {}: {} is a file, not a pin", line.name, log.path.display()));
            continue;
        }
        match outputs::open(&line.name, &line.backend, line.polarity, line.safe) {
            Ok(_) => done.push(format!("safe     {} ({}): {}", line.name, line.backend, line.safe.name())),
            Err(e) => problems.push(e.to_string()),
        }
    }
    // Silence would look like done.
    if lines.is_empty() && problems.is_empty() {
        done.push(format!("nothing  {name}: states no [outputs.NAME], so there is no line to make safe"));
    }
    // Not before all lines were requested: whoever reads this may have left.
    done.iter().for_each(|line| println!("{}", super::fitted(&escaped(line), 9)));
    if problems.is_empty() { Ok(0) } else { Err(Refused(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of 130 columns came out of an 80 column terminal broken within words.
    #[test]
    fn the_example_fits_a_terminal_and_says_the_same() {
        for columns in [80, 100] {
            let shown: Vec<String> = EXAMPLE.lines().map(|line| example_line(line, columns)).collect();
            let shown = shown.join("\n");
            let long: Vec<&str> = shown.lines().filter(|line| line.chars().count() > columns).collect();
            assert!(long.is_empty(), "{columns}: {long:#?}");
            let read = |text: &str| text.parse::<toml::Table>().unwrap();
            assert_eq!(read(&shown), read(EXAMPLE));
            let words = |text: &str| text.replace("# ", " ").split_whitespace().map(str::to_string).collect::<Vec<_>>();
            assert_eq!(words(&shown), words(EXAMPLE), "a word was broken or lost");
        }
    }
}
