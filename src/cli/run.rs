//! `tagpin run`: opens model, settings, source and outputs, then hands them to the supervisor.
//!
//! Decides nothing itself.

use super::conflicts::Conflict;
use super::locks::Locks;
#[cfg(feature = "site")]
use super::recipe::{self, Line};
use super::starts::Starts;
use super::{Model, PARTS, Refused, check, hex, opening, update};
use crate::board::{AfterDeath, Board};
use crate::broken_pipe;
use crate::bundle::Bundle;
use crate::distance::Distance;
use crate::engine::Engine;
use crate::events::sinks::{self, Explanations, JsonLines, Log, Sink, Table};
use crate::events::{QUEUE, Sinking, What, Why};
use crate::installed::CURRENT;
use crate::outputs::{self, Backend};
use crate::rotating::RotatingFile;
use crate::settings::{EventLog, LineMode, OutputSettings, Settings, TriggerKind};
use crate::sources::{self, Source, SourceSpec};
use crate::station::Station;
use crate::supervisor::actuation::{Actuator, EdgeRules};
use crate::supervisor::drill::{Drill, Drilled};
use crate::supervisor::vision::{Classifier, Vision};
use crate::supervisor::{self, Ended, SystemClock, Tuning};
use crate::terminal::{self, escaped};
use crate::triggers::{self, Posts, Trigger};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Megabytes that `--record` keeps unless another cap is stated.
const RECORD_MB: u32 = 1000;

impl Classifier for Engine {
    fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), Why> {
        Engine::infer(self, input, logits).map_err(|e| Why::of(&e))
    }

    fn distance(&self) -> Option<Distance> {
        Engine::distance(self)
    }
}

/// Arguments of `run`.
#[derive(clap::Args, Debug, Default)]
pub(super) struct Run {
    /// Bundle to run, or the folder of an installed one [default: the shipped parts model]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Folder of the keys that are trusted, as NAME.pub; with one there the bundle must be signed
    #[arg(long, value_name = "FOLDER", default_value = crate::installed::KEYS)]
    keys: PathBuf,
    /// Settings of the device (device.toml); without it the built-in demonstration
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Source, instead of the settings': conveyor, dir:, y4m:, rpicam:, camera:, v4l2:, faulty(...)
    #[arg(long)]
    source: Option<String>,
    /// Parts after which the run ends by itself; 0 runs on [default: 20 in the demonstration, else
    /// 0]
    #[arg(long)]
    parts: Option<u64>,
    /// Print events as JSON lines instead of a table; the last is the summary
    #[arg(long)]
    json: bool,
    /// Let GPIO lines follow a source that draws its images or reads them from files: nothing is
    /// wired to them
    #[arg(long)]
    allow_drawn: bool,
    /// Keep tensor, logits and scores of each classified frame in this folder
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
    /// Megabytes after which --record keeps no more frames
    #[arg(long, value_name = "MB", default_value_t = RECORD_MB, value_parser = clap::value_parser!(u32).range(1..))]
    record_mb: u32,
    /// Let the program itself fail at inference N, to see that outputs go safe: panic@N, hang@N,
    /// engine@N, rails@N, abort@N; sink@N, sink:NAME@N: the sink on standard output, or the one that
    /// `status` names so, panics at event N, to see that the line goes on; unwritable:OUTPUT@N,
    /// stuck:OUTPUT@N: that output's write N and all after it fail, or do not come back;
    /// new-engine@N, new-late@N: of a bundle that is taken over inference N and all after it fail,
    /// or take 400 ms longer
    #[arg(long)]
    drill: Option<Drill>,
}

#[cfg(feature = "site")]
impl Run {
    /// What decides what a recipe comes to; `None` without settings.
    fn of(&self) -> Option<recipe::Of> {
        let (bundle, keys, allow_drawn) = (self.bundle.clone(), self.keys.clone(), self.allow_drawn);
        Some(recipe::Of { settings: self.settings.clone()?, bundle, keys, allow_drawn })
    }
}

/// Tells a person something before the run begins. Names of outputs and files command no terminal.
pub(super) fn tell(what: &dyn std::fmt::Display) {
    terminal::tell(&format!("tagpin: {}", escaped(&what.to_string())), 8);
}

/// What the runs of one process have in common: one run for each recipe that is chosen.
#[derive(Default)]
struct Process {
    /// Set by a signal, once the first run has opened everything.
    signalled: Option<Arc<AtomicBool>>,
    /// Of the settings file and the state folder.
    locks: Locks,
    /// The recipe to go by, and what there is to tell of it.
    #[cfg(feature = "site")]
    line: Line,
    /// What its runs have in common, once there is a first with recipes.
    #[cfg(feature = "site")]
    change: Option<Arc<supervisor::Change>>,
}

impl Process {
    fn signalled(&mut self) -> std::io::Result<Arc<AtomicBool>> {
        if let Some(signalled) = &self.signalled {
            return Ok(signalled.clone());
        }
        Ok(self.signalled.insert(super::signals::flag(&[])?).clone())
    }

    /// The bundle to run: the recipe's own, or the one that `run` was given.
    fn bundle(&self, args: &Run) -> Option<PathBuf> {
        #[cfg(feature = "site")]
        if let Some(own) = &self.line.in_force.bundle {
            return Some(own.clone());
        }
        args.bundle.clone()
    }

    /// Whether the runs so far have had all the parts that are wanted.
    #[cfg(feature = "site")]
    fn is_done(&self, parts: Option<u64>) -> bool {
        parts.is_some_and(|wanted| wanted > 0 && self.line.parts() >= wanted)
    }

    /// Whether a signal came between two runs, which is told.
    #[cfg(feature = "site")]
    fn is_stopped(&self) -> bool {
        self.change.as_ref().zip(self.signalled.as_ref()).is_some_and(|(change, signalled)| change.is_stopped(signalled))
    }
}

#[cfg(not(feature = "site"))]
pub(super) fn run(args: Run) -> Result<u8, Refused> {
    supervisor::raise_alarm_at_panics();
    begin(&args, &mut Process::default()).map(Ended::exit_code)
}

/// Runs by the recipe that is chosen, and by the next one once parts have passed. One that cannot
/// start leaves the line to the one before.
#[cfg(feature = "site")]
pub(super) fn run(args: Run) -> Result<u8, Refused> {
    supervisor::raise_alarm_at_panics();
    let mut process = Process { line: Line::begin(args.settings.as_deref())?, ..Process::default() };
    loop {
        let outcome = begin(&args, &mut process);
        if process.is_stopped() {
            return Ok(Ended::Signal.exit_code());
        }
        let change = process.change.clone();
        // What is recorded of a change is recorded whole.
        let _held = change.as_ref().map(|change| change.hold());
        match outcome {
            Ok(Ended::Recipe) if process.is_done(args.parts) => return Ok(Ended::Done.exit_code()),
            Ok(Ended::Recipe) => process.line.next(args.settings.as_deref()),
            Ok(ended) => return Ok(ended.exit_code()),
            Err(refused) if !process.line.back(&refused) => return Err(refused),
            Err(refused) => refused.0.iter().for_each(|why| tell(why)),
        }
    }
}

/// One run; where starts fail in an installed bundle itself, by the bundle before.
fn begin(args: &Run, process: &mut Process) -> Result<Ended, Refused> {
    let starts = Starts::of(process.bundle(args).as_deref(), &args.keys, args.settings.as_deref());
    match start(args, process, &starts) {
        Err(problems) if starts.failed(&problems) => start(args, process, &starts),
        outcome => outcome,
    }
}

/// Opens everything and runs. An error: it could not start, and nothing has moved.
fn start(args: &Run, process: &mut Process, starts: &Starts) -> Result<Ended, Refused> {
    let demo = args.settings.is_none() && args.bundle.is_none() && args.source.is_none();
    #[cfg(feature = "site")]
    let in_force = process.line.in_force.clone();
    #[cfg(feature = "site")]
    let recipe = in_force.recipe();
    #[cfg(not(feature = "site"))]
    let recipe = None;
    let path = process.bundle(args);
    check_memory(path.as_deref())?;
    let model = Model::read(path.as_deref()).map_err(|e| starts.blame(e))?;
    let bundle = model.bundle().map_err(|e| starts.blame(e))?;
    let engine = engine_of(&bundle, starts).map_err(|e| starts.blame(format!("bundle {}: {e}", model.path.display())));

    // Everything is opened before anything runs, so that all problems are told at once.
    let mut problems = Vec::new();
    let mut keep = |p: Refused| problems.extend(p.0);
    let keys_work = super::keys(&args.keys).is_ok();
    let signed = model.signed(&bundle, &args.keys).map_err(|e| if keys_work { starts.blame(e) } else { e });
    signed.map_err(&mut keep).ok();
    let is_conveyor = |s: &String| s.parse::<SourceSpec>().is_ok_and(|spec| spec.is_conveyor());
    let barrier_demo = args.source.as_ref().is_some_and(is_conveyor) && args.bundle.is_none();
    let draft = super::draft(args.settings.as_deref(), recipe, &bundle, demo || (args.settings.is_none() && barrier_demo));
    let draft = draft.map_err(|e| keep(Refused(e.0))).ok();
    let engine = engine.map_err(|e| keep(e.into())).ok();
    let mut opened = None;
    if let Some(mut draft) = draft {
        #[cfg(feature = "site")]
        if let Some(told) = super::overridden(&mut draft, &bundle).filter(|o| *o != crate::settings::Overridden::No) {
            tell(&told);
        }
        draft.settings.renamed.iter().for_each(|r| tell(&r));
        if let Some(source) = &args.source {
            draft.settings.source.clone_from(source);
        }
        check::warnings(&draft, &bundle).iter().for_each(|w| tell(&format_args!("warning: {w}")));
        check::meeting(&draft).iter().for_each(|meets| tell(&format_args!("warning: {meets}")));
        let has_pins = draft.settings.outputs.iter().any(|o| o.backend.is_pin());
        for conflict in check::conflicts(&draft, &bundle, args.allow_drawn) {
            // Without pins nothing is hit at a wrong moment: a drill may go on.
            if conflict == Conflict::NoJitter && !has_pins {
                tell(&format_args!("warning: {conflict}"));
            } else {
                keep(Refused(vec![conflict.to_string()]));
            }
        }
        if draft.problems.is_empty() {
            // Before anything else: opening takes lines and files that are the other line's.
            match process.locks.take(args.settings.as_deref(), &draft.settings) {
                Ok(()) => opened = Some(open(draft.settings, args, &bundle, &mut keep)),
                Err(why) => keep(why.into()),
            }
        } else {
            // What else is wrong can be said without taking anything.
            let found = check::look(&draft, &bundle).0.into_iter().filter_map(|f| f.outcome.err());
            let found: Vec<String> = found.collect();
            keep(Refused(draft.problems));
            keep(Refused(found));
        }
    }
    if !problems.is_empty() {
        return Err(Refused(problems));
    }
    let Some(Opened { settings, source: Some(source), inputs, posts, actuator: Some(actuator), logs }) = opened else {
        return Err(Refused(problems));
    };
    let Some(engine) = engine else { return Err(Refused(problems)) };
    // Before the engine gets its threads, which are the line's alone.
    #[cfg(feature = "site")]
    let crate::site::line::Opened { sinks: site_sinks, mut clients, mut beside } =
        crate::site::line::open(&settings, &bundle, &engine, &posts).map_err(Refused)?;
    #[cfg(not(feature = "site"))]
    let (site_sinks, mut clients, mut beside) = (Vec::new(), Vec::new(), supervisor::Beside::default());
    drop(posts);
    // Last of all, so that a start that is refused leaves no folder of a run behind.
    let cap = args.record_mb as u64 * 1_000_000;
    let record = |folder: PathBuf| {
        let made = supervisor::Recorder::new(folder.clone(), cap, &hex(&bundle.sha256));
        made.map_err(|e| format!("--record {}: {e}", folder.display()))
    };
    let record = args.record.clone().map(record).transpose()?;
    let engine = engine.with_threads(settings.threads).map_err(|e| format!("[engine] threads: {e}"))?;

    let kernels = engine.kernels();
    if let Some(folder) = path.as_deref().filter(|path| path.join(CURRENT).is_symlink()) {
        let tuning = beside
            .tuning
            .get_or_insert_with(|| Arc::new(Tuning::new(bundle.sha256, settings.tags.iter().map(|tag| tag.rule).collect())));
        let line = update::Line {
            keys: args.keys.clone(),
            settings: args.settings.clone(),
            recipe: recipe.map(str::to_string),
            threads: settings.threads,
            records: record.is_some(),
            drill: args.drill.as_ref().and_then(Drill::of_new_bundle),
        };
        clients.push(update::follower(line, folder, &model.path, &bundle, tuning.clone())?.client());
    }
    #[cfg(feature = "site")]
    if let Some(watcher) = process.line.watcher(args.of()) {
        let stays = "--record keeps the frames of one bundle: the choice is for a run without it";
        beside.change = Some(process.change.insert(watcher.change.clone()).clone());
        let stays = record.is_some().then_some(stays);
        clients.push(watcher.staying(stays).client());
    }
    let classifier: Box<dyn Classifier> = match &args.drill {
        Some(drill) => Box::new(Drilled::new(engine, drill.clone())),
        None => Box::new(engine),
    };
    let parts = args.parts.unwrap_or(if demo { 20 } else { 0 });
    #[cfg(feature = "site")]
    let parts = parts.saturating_sub(process.line.parts());
    let vision = Vision::new(&bundle, classifier, &settings, source.pacing());
    let station = Station::new(settings.station(bundle.contract.task, parts))?;
    let signalled = process.signalled()?;
    source.remarks().iter().for_each(|remark| tell(&remark));
    if let Ok(spec) = settings.source.parse() {
        check::source_warnings(&settings, &spec, &*source).iter().for_each(|why| tell(&why));
    }
    let board = Board::default();
    let opening = opening::of(&bundle, &settings, &board, kernels.name(), &*source);
    let tags = bundle.contract.tags.iter().map(|t| t.name.to_string()).collect();
    let mut sinks = standard_sinks(args.json);
    sinks.extend(logs.into_iter().map(log_sink));
    sinks.extend(site_sinks);
    if let Some((name, event)) = args.drill.as_ref().and_then(Drill::sink) {
        sinks = sinks::drill(sinks, name, event).map_err(|why| format!("--drill: {why}"))?;
    }
    let goes_on_unread = goes_on_unread(&settings, by_remote_shell());
    let kernel_drives = settings.outputs.iter().any(|o| matches!(o.backend, Backend::Gpiochip { .. }));
    if settings.mode != LineMode::State && kernel_drives && board.after_death() == AfterDeath::Persists {
        tell(&"lines keep their last level if this program is killed; `tagpin check` says how to change that");
    }
    if let Some(why) = settings.unguarded() {
        tell(&format_args!("warning: {why}"));
    }
    // Vision holds what it needs of it; the graph's bytes are as many again as the engine's
    // weights.
    drop(bundle);
    drop(model);
    let run = supervisor::Run {
        vision,
        station,
        source,
        inputs,
        actuator,
        settings,
        opening,
        sinks,
        clients,
        beside,
        tags,
        signalled,
        record,
        reader_left: broken_pipe::reader_left,
        goes_on_unread,
        board,
    };
    starts.succeeded();
    let ended = supervisor::run(run)?;
    Ok(ended)
}

/// The bundle's engine; of an installed bundle one that gives the logits of its self-test.
fn engine_of(bundle: &Bundle<'_>, starts: &Starts) -> Result<Engine, String> {
    let mut engine = Engine::from_bundle(bundle).map_err(|e| e.to_string())?;
    if starts.is_installed() {
        engine.self_test(bundle).map_err(|e| e.to_string())?;
    }
    Ok(engine)
}

/// Refuses to start where the memory that a run takes cannot be had: later, the first allocation
/// that fails would end the program half-way through its start.
fn check_memory(bundle: Option<&Path>) -> Result<(), Refused> {
    /// The stacks of a run's threads, 2 MiB each, and what its frames and queues take.
    const ROOM: u64 = 20 << 20;
    let size = bundle.map_or(PARTS.len() as u64, |path| {
        std::fs::metadata(crate::installed::bundle_file(path)).map_or(0, |about| about.len())
    });
    let needed = ROOM + 4 * size;
    let mut room = Vec::<u8>::new();
    let had = room.try_reserve_exact(usize::try_from(needed).unwrap_or(usize::MAX));
    std::hint::black_box(&room);
    let told = |_| {
        let mb = needed.div_ceil(1 << 20);
        format!(
            "too little memory: a run with this bundle takes {mb} MB more than it has; allow more (ulimit -v, MemoryMax)"
        )
    };
    Ok(had.map_err(told)?)
}

/// A file of events that this run has taken.
struct OpenLog {
    /// The output whose edges alone it gets; `None` for the site's log, which gets everything.
    output: Option<usize>,
    file: RotatingFile,
    log: EventLog,
}

/// What a run holds; what could not be had was told.
struct Opened {
    settings: Settings,
    source: Option<Box<dyn Source>>,
    inputs: Vec<Box<dyn Trigger>>,
    /// Where a PLC's triggers are posted.
    posts: Posts,
    actuator: Option<Actuator>,
    logs: Vec<OpenLog>,
}

/// Opens everything that `settings` name; tells `keep` each problem.
fn open(mut settings: Settings, args: &Run, bundle: &Bundle<'_>, keep: &mut dyn FnMut(Refused)) -> Opened {
    let spec = settings.source.parse::<SourceSpec>();
    let clock = Arc::new(SystemClock) as _;
    let source = spec.and_then(|spec| sources::open(&spec, &clock, settings.source_limits()));
    let source = source.map_err(|e| keep(e.into())).ok();
    // Of a source that tells its frames' size only with the first, each that does not fit is a
    // fault.
    if let Some(layout) = source.as_ref().and_then(|source| source.layout())
        && let Err(e) = settings.check_regions(layout, &bundle.contract.input)
    {
        keep(format!("\"{}\": {e}", settings.source).into());
    }
    settings.part.in_view =
        source.as_ref().and_then(|source| source.in_view()).filter(|_| settings.trigger == TriggerKind::Barrier);
    if let Some(Err(why)) = source.as_ref().map(|s| settings.check_source(s.has_barrier(), s.timed_by())) {
        keep(why.into());
    }
    let posts = Posts::default();
    let mut input = |i| triggers::open(i, &clock, &posts).map_err(|e| keep(e.into())).ok();
    let inputs = settings.inputs.iter().filter_map(&mut input).collect();
    let (late, late_calls) = settings.routing(bundle.contract.task).late();
    let open = |o: &OutputSettings| {
        let output = outputs::open(&o.name, &o.backend, o.polarity, o.safe)?;
        Ok(args.drill.iter().fold(output, |output, drill| drill.of_output(&o.name, output)))
    };
    let names: Vec<&str> = settings.outputs.iter().map(|o| o.name.as_str()).collect();
    if let Some(Err(why)) = args.drill.as_ref().map(|drill| drill.check_outputs(&names)) {
        keep(format!("--drill: {why}").into());
    }
    let actuator = Actuator::open(&settings.outputs, late_calls, late, EdgeRules::of(&settings), open);
    let actuator = actuator.map_err(|e| keep(Refused(e.iter().map(ToString::to_string).collect()))).ok();
    let mut logs = Vec::new();
    let own = settings.outputs.iter().enumerate().filter_map(|(i, o)| Some((Some(i), o.log.as_ref()?)));
    for (output, log) in settings.events.iter().map(|log| (None, log)).chain(own) {
        match RotatingFile::open(&log.path, log.max_bytes, log.files) {
            Ok(file) => logs.push(OpenLog { output, file, log: log.clone() }),
            Err(why) => {
                let what = output.map_or("[events]".into(), |i| format!("output \"{}\":", settings.outputs[i].name));
                keep(format!("{what} {why}").into());
            }
        }
    }
    Opened { settings, source, inputs, posts, actuator, logs }
}

/// Whether a line whose reader left goes on: parts are on their way to real gates, and the reader
/// only watched. A remote shell without a terminal is no mere reader: when its connection goes,
/// nobody is left who could stop the line.
fn goes_on_unread(settings: &Settings, by_remote_shell: bool) -> bool {
    settings.mode != LineMode::State && settings.outputs.iter().any(|o| o.backend.is_pin()) && !by_remote_shell
}

/// Whether ssh started this process without a terminal.
fn by_remote_shell() -> bool {
    let terminals = [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()];
    std::env::var_os("SSH_CONNECTION").is_some() && !terminals.contains(&true)
}

/// Standard output and standard error.
fn standard_sinks(json: bool) -> Vec<Sinking> {
    let colour = !json && crate::terminal::has_colour(&std::io::stdout());
    let stdout =
        move || -> Box<dyn Sink> { if json { Box::new(JsonLines::default()) } else { Box::new(Table::new(colour)) } };
    let stderr = || Box::new(Explanations) as Box<dyn Sink>;
    vec![
        Sinking {
            name: "stdout",
            wants: Box::new(move |what| json || Table::wants(what)),
            queue: QUEUE,
            make: Box::new(stdout),
        },
        Sinking { name: "stderr", wants: Box::new(Explanations::wants), queue: QUEUE, make: Box::new(stderr) },
    ]
}

/// The site's log, or the file of one output's edges. After a panic it is opened again with its
/// next line.
fn log_sink(OpenLog { output, file, log }: OpenLog) -> Sinking {
    let mut first = Some(file);
    let make = move || {
        let file = first.take().unwrap_or_else(|| RotatingFile::at(&log.path, log.max_bytes, log.files));
        Box::new(Log::new(file, log.bytes_per_day)) as Box<dyn Sink>
    };
    let of_output = |what: &What, output: usize| matches!(what, What::Edge(edge) if edge.output as usize == output);
    let wants = move |what: &What| output.is_none_or(|output| of_output(what, output));
    Sinking {
        name: if output.is_some() { "edges" } else { "log" },
        wants: Box::new(wants),
        queue: QUEUE,
        make: Box::new(make),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ModelTags;

    /// A reader that leaves ends a run, but not a line whose parts are on their way to real gates.
    #[test]
    fn only_a_gate_with_pins_goes_on_without_its_reader_and_not_under_a_remote_shell() {
        let model = ModelTags { names: &[], rules: &[], roles: &[], categories: None };
        let settings = |mode: &str, delay: &str, backend: &str| {
            let text = format!("[line]\nmode = \"{mode}\"\n[outputs.a]\nbackend = {backend}\n{delay}\non = [\"reject\"]\n");
            Settings::parse(&text, "test", model).unwrap_or_else(|e| panic!("{e}"))
        };
        let pin = "\"gpiochip\"\nchip = \"header\"\nline = 17";
        let gate = |backend: &str| settings("gate", "delay_ms = 500", backend);
        assert!(goes_on_unread(&gate(pin), false));
        assert!(goes_on_unread(&gate("\"rppal\"\npin = 17"), false));
        assert!(!goes_on_unread(&gate(pin), true), "nobody is left who could stop it");
        assert!(!goes_on_unread(&gate("\"simulated\""), false));
        assert!(!goes_on_unread(&settings("state", "", pin), false));
    }
}
