//! `tagpin run`: opens model, settings, source and outputs, then hands them to the supervisor.
//!
//! Decides nothing itself.

use super::{Model, PARTS, Refused, hex};
use crate::board::{AfterDeath, Board};
use crate::engine::Engine;
use crate::outputs::{Backend, RotatingFile};
use crate::settings::LineMode;
use crate::sources::{self, SourceSpec};
use crate::supervisor::actuation::Actuator;
use crate::supervisor::drill::{Classifier, Drill, Drilled};
use crate::supervisor::events::Opening;
use crate::supervisor::routing::Routing;
use crate::supervisor::stage::Stage;
use crate::supervisor::{self, Reporter, SystemClock};
use crate::triggers;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Arguments of `run`.
#[derive(clap::Args, Debug, Default)]
pub(super) struct Run {
    /// Bundle to run [default: models/parts.tagpin]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Settings of the device (device.toml); without it the built-in demonstration
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Source, instead of the settings': conveyor, dir:, y4m:, rpicam:, camera:, v4l2:, faulty(...)
    #[arg(long)]
    source: Option<String>,
    /// Parts after which the run ends by itself; 0 runs on [default: 20 in the demonstration, else 0]
    #[arg(long)]
    parts: Option<u64>,
    /// Print events as JSON lines instead of a table; the last is the summary
    #[arg(long)]
    json: bool,
    /// Keep tensor, logits and scores of each classified frame in this folder
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
    /// Let the program itself fail at inference N, to see that outputs go safe: panic@N, hang@N, engine@N, rails@N, abort@N
    #[arg(long)]
    drill: Option<Drill>,
}

pub(super) fn run(args: Run) -> Result<u8, Refused> {
    let demo = args.settings.is_none() && args.bundle.is_none() && args.source.is_none();
    let model = Model::read(args.bundle.as_deref().unwrap_or(PARTS.as_ref()))?;
    let bundle = model.bundle()?;
    let engine = Engine::from_bundle(&bundle).map_err(|e| format!("bundle {}: {e}", model.path.display()));

    // Everything is opened before anything runs, so that all problems are told at once.
    let mut problems = Vec::new();
    let mut keep = |p: Refused| problems.extend(p.0);
    let barrier_demo = args.source.as_deref().is_some_and(|s| s.contains("conveyor")) && args.bundle.is_none();
    let settings = super::settings(args.settings.as_deref(), &bundle, demo || (args.settings.is_none() && barrier_demo));
    let settings = settings.map_err(|e| keep(Refused(e.0))).ok();
    let engine = engine.map_err(|e| keep(e.into())).ok();
    let mut opened = None;
    if let Some(mut settings) = settings {
        if let Some(source) = &args.source {
            settings.source.clone_from(source);
        }
        let spec = settings.source.parse::<SourceSpec>();
        let clock = Arc::new(SystemClock) as _;
        let source = spec.and_then(|spec| sources::open(&spec, &clock, settings.source_limits()));
        let source = source.map_err(|e| keep(e.into())).ok();
        if let Some(Err(why)) = source.as_ref().map(|s| settings.check_source(s.has_barrier(), s.knows_time())) {
            keep(why.into());
        }
        let inputs: Vec<_> =
            settings.inputs.iter().filter_map(|i| triggers::open(i, &clock).map_err(|e| keep(e.into())).ok()).collect();
        let (late, late_calls) = Routing::new(&settings).late();
        let actuator = Actuator::open(&settings.outputs, late_calls, late.map_or("safe", |a| a.name()));
        let actuator = actuator.map_err(|e| keep(Refused(e.iter().map(ToString::to_string).collect()))).ok();
        let log = settings.events.as_ref().map(|log| {
            RotatingFile::open(&log.path, log.max_bytes, log.files)
                .map_err(|e| keep(format!("[events] {}: cannot be opened: {e}", log.path.display()).into()))
        });
        let record = args.record.map(|folder| {
            supervisor::Recorder::new(folder.clone(), &hex(&bundle.sha256))
                .map_err(|e| keep(format!("--record {}: {e}", folder.display()).into()))
        });
        opened = Some((settings, source, inputs, actuator, log, record));
    }
    if !problems.is_empty() {
        return Err(Refused(problems));
    }
    let Some((settings, Some(source), inputs, Some(actuator), log, record)) = opened else { return Err(Refused(problems)) };
    let Some(engine) = engine else { return Err(Refused(problems)) };
    let engine = engine.with_threads(settings.threads).map_err(|e| format!("[engine] threads: {e}"))?;

    let kernels = engine.kernels();
    let classifier: Box<dyn Classifier> = match args.drill {
        Some(drill) => Box::new(Drilled::new(engine, drill)),
        None => Box::new(engine),
    };
    let stage = Stage::new(&bundle, classifier, &settings, source.pacing())?;
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, signalled.clone())?;
    }
    let opening = Opening {
        bundle_sha256: hex(&bundle.sha256),
        source: settings.source.clone(),
        kernel: kernels.name(),
        model: bundle.contract.name.into(),
        tags: bundle.contract.tags.iter().map(|t| t.name.to_string()).collect(),
        outputs: settings.outputs.iter().map(|o| (o.name.clone(), o.backend.to_string())).collect(),
    };
    source.remarks().iter().for_each(|remark| eprintln!("tagpin: {remark}"));
    let tags = opening.tags.len();
    let parts = args.parts.unwrap_or(if demo { 20 } else { 0 });
    let reporter = Reporter::new(opening, args.json, log.and_then(Result::ok));
    let record = record.and_then(Result::ok);
    let board = Board::default();
    let kernel_drives = settings.outputs.iter().any(|o| matches!(o.backend, Backend::Gpiochip { .. }));
    if settings.mode != LineMode::State && kernel_drives && board.after_death() == AfterDeath::Persists {
        eprintln!("tagpin: lines keep their last level if this program is killed; `tagpin check` says how to change that");
    }
    // The stage holds what it needs of it; the graph's bytes are as many again as the engine's weights.
    drop(bundle);
    drop(model);
    let run = supervisor::Run { stage, source, inputs, actuator, settings, reporter, tags, parts, signalled, record, board };
    Ok(supervisor::run(run).exit_code())
}
