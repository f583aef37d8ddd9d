//! `train`: from a split to a run folder; then, unless --only is given, on through quantisation,
//! evaluation and parity to the report.
//!
//! Chooses between the ways of training (small, quick, advanced); each is a module of its own.

mod arguments;
pub mod augment;
mod auto;
pub mod balance;
mod budget;
mod device;
pub mod domain;
mod epochs;
pub mod folds;
pub mod leak;
mod nothing;
mod ops;
pub mod optimiser;
mod plan;
pub mod quick;
pub mod tuner;

use crate::backbone;
use crate::data::{
    self, check,
    roles::Roles,
    split::{Side, Split, split},
};
use crate::decision;
use crate::distance;
use crate::evaluate;
use crate::good;
use crate::graph::{Graph, Normalise};
use crate::judged::Judged;
use crate::parity;
use crate::quantise::{self, Quantisation};
use crate::report;
use crate::run::{EVALUATOR, Epoch, Record, Run, commit};
use crate::run_folder;
use crate::small;
use anyhow::{Context, Result, ensure};
use arguments::name;
pub use arguments::{LAST_BLOCKS, Train};
use auto::Compared;
use burn::tensor::Device;
use epochs::Outcome;
use leak::Leak;
use optimiser::OptimiserName;
use plan::Plan;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tagpin::random::Random;

/// A trained network before it is a run.
struct Trained {
    graph: Graph,
    kind: &'static str,
    validation: f64,
    curve: Vec<Epoch>,
    penalties: Vec<(f32, f64, f64)>,
    settings: Vec<(String, String)>,
    /// The int8 form, if the head was trained on int8 features.
    int8: Option<(Vec<u8>, Quantisation)>,
    /// How much a leak would inflate the figures, if that was asked for.
    leak: Option<Leak>,
    /// All images judged by heads that were not fitted to them.
    folds: Option<folds::Folds>,
}

/// Prints how long each stage took.
pub struct Stages {
    begin: Instant,
    last: Instant,
    /// Seconds of each.
    pub seconds: Vec<(String, f64)>,
}

impl Stages {
    /// Begins now.
    pub fn begin() -> Self {
        Self { begin: Instant::now(), last: Instant::now(), seconds: Vec::new() }
    }

    /// A stage ended.
    pub fn done(&mut self, what: &str) {
        let took = self.last.elapsed().as_secs_f64();
        println!("== {what}: {took:.1} s, {:.1} s so far\n", self.begin.elapsed().as_secs_f64());
        self.seconds.push((what.into(), took));
        self.last = Instant::now();
    }
}

/// Puts items in an order drawn by `random` (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.range(0, i as i32) as usize);
    }
}

/// Trains, and does what follows.
pub fn run(args: &Train) -> Result<()> {
    if let (true, Some(backbone), Some(good)) = (args.good_only, &args.backbone, &args.data) {
        ensure!(
            args.roles.defect.is_empty() && args.roles.good.is_empty(),
            "--good-only makes one tag, \"good\", and what is beyond it is foreign: leave out --defect and --good; images of bad parts \
             are named by --bad DIR"
        );
        let options = good::Options {
            good,
            bad: args.bad.as_deref(),
            tune_on_bad: args.tune_on_bad,
            fit: args.fit().into(),
            domain: args.domain(),
            false_reject: args.distance.false_reject,
            out: &args.out,
            force: args.force,
        };
        return good::train(backbone, args.size, &options);
    }
    ensure!(args.small || args.backbone.is_some(), "name --backbone, or train --small. {}", backbone::HOW);
    ensure!(args.views != Some(0), "--views 0: expected at least 1, the image itself");
    ensure!(args.budget.is_finite() && args.budget > 0.0, "--budget {}: expected minutes, above 0", args.budget);
    ensure!(args.folds != 1, "--folds 1: expected 2 or more, or 0 for none");
    ensure!(args.epochs > 0 && args.batch > 1, "--epochs {} --batch {}: expected at least 1 and 2", args.epochs, args.batch);
    // Float and int8, and what is kept of them on the way.
    let networks = args.backbone.as_deref().and_then(|p| std::fs::metadata(p).ok()).map_or(0, |m| 4 * m.len());
    let _claim = run_folder::Claim::of(&args.out, args.force, networks)?;
    let left = checkpoint(args);
    ensure!(
        args.resume || args.force || !left.exists(),
        "{}: an interrupted run left this checkpoint; --resume goes on from it, --force begins again",
        left.display()
    );
    let device = args.device.open()?;
    let mut stages = Stages::begin();
    let split = the_split(args)?;
    let roles = the_roles(args, &split)?;
    split.refuse_leaks()?;
    stages.done("data");
    let (trained, computed) = trained(args, &split, &roles, device)?;
    let record = record(args, &split, roles, &trained, stages.begin.elapsed().as_secs_f64())?;
    let validation = trained.validation;
    let run = Run::create(&args.out, args.force, record, trained.graph, split)?;
    let quantised = trained.int8.is_some();
    if let Some(leak) = &trained.leak {
        run_folder::write_json(&run.file("leak.json"), leak)?;
    }
    if let Some(folds) = &trained.folds {
        run_folder::write_json(&run.file("folds.json"), folds)?;
    }
    if let Some((onnx, quantisation)) = &trained.int8 {
        quantise::keep(&run, onnx, quantisation)?;
    }
    println!(
        "{}: {:.2} M weights, {:.1} M multiply-adds, validation {validation:.4}",
        args.out.display(),
        run.graph.weights() as f64 / 1e6,
        run.graph.macs()? as f64 / 1e6
    );
    stages.done(match computed {
        Some(0) => "training, features known already",
        Some(_) => "training, features included",
        None => "training",
    });
    if args.only {
        return Ok(());
    }
    if !quantised {
        let from = args.from.clone();
        quantise::quantise_run(&run, &quantise::Options { from, ..quantise::Options::default() })?;
        stages.done("int8");
    }
    distance::of_run(
        &run,
        &distance::Options { domain: args.distance.domain.or(Some(args.domain())), ..args.distance.clone() },
    )?;
    stages.done("distance");
    prove(&run, &mut stages, &evaluate::Options::default())
}

/// Calibrates the scores of a quantised run, evaluates, compares and reports it.
pub fn prove(run: &Run, stages: &mut Stages, options: &evaluate::Options) -> Result<()> {
    let validation = Judged::int8(run, Side::Validation)?;
    decision::calibrate(run, &validation.int8, &validation.truth())?;
    let test = Judged::both(run, Side::Test)?;
    let evaluation = evaluate::evaluate(run, &validation, &test, options)?;
    print!("{}", evaluate::text(&evaluation, run));
    stages.done("figures");
    let parity = parity::parity(run, &test, &parity::Limits::default())?;
    print!("{}", parity::text(&parity));
    stages.done("parity");
    run_folder::write_json(&run.file("stages.json"), &stages.seconds)?;
    report::write(run)?;
    stages.done("report");
    Ok(())
}

fn the_split(args: &Train) -> Result<Split> {
    if let Some(path) = &args.split {
        let split = Split::read(path)?;
        split.dataset.enough(args.allow_few || split.contract.few_allowed)?;
        split.news().iter().for_each(|n| eprintln!("warning: {n}"));
        return Ok(split);
    }
    let data = args.data.as_deref().context("name --data or --split")?;
    let mut checked = check::check(data, args.task, args.about.as_deref(), args.allow_few)?;
    checked.dataset.root = std::fs::canonicalize(&checked.dataset.root)
        .with_context(|| format!("{} cannot be found", checked.dataset.root.display()))?;
    check::print(&checked.contract);
    split(checked, args.group.as_deref(), [70.0, 15.0, 15.0], args.seed)
}

/// What about.toml and the flags say together.
fn the_roles(args: &Train, split: &Split) -> Result<Roles> {
    let tags = &split.dataset.tags;
    let stated = args.roles.roles(tags)?;
    if stated.stated() {
        println!("{:>16}  {stated}, by flags", "roles");
    }
    split.contract.about.roles().and(stated, tags)
}

fn trained(args: &Train, split: &Split, roles: &Roles, device: Device) -> Result<(Trained, Option<usize>)> {
    if args.small {
        let graph = small::network(split.dataset.tags.len(), args.seed);
        let trained = tune(args, split, graph, 0, true, device)?;
        return Ok((whole(trained)?, None));
    }
    let normalise = if args.mean.is_empty() { None } else { Some(Normalise::of(&args.mean, &args.std)?) };
    let path = args.backbone.as_deref().with_context(|| format!("--backbone: there is none; {}", backbone::HOW))?;
    let backbone = backbone::load(path, normalise, args.size)?;
    print_settings(&args.chosen_by_domain());
    let learn = quick::Learn {
        folds: if args.advanced { 0 } else { args.folds },
        copies: args.head_views() - 1,
        augment: args.domain().augment(),
        balance: args.balance(),
        seed: args.seed,
    };
    let quick = quick::train(split, backbone, args.fit().into(), &roles.in_order(&split.dataset.tags), &learn)?;
    println!("{:>12}{:>14}{:>12}", "penalty", "log loss", "validation");
    for (penalty, loss, right) in &quick.fitted.tried {
        let mark = if *penalty == quick.fitted.penalty { "  taken" } else { "" };
        println!("{penalty:>12}{loss:>14.4}{right:>12.4}{mark}");
    }
    let computed = Some(quick.computed);
    let leak = if args.leaky_demo {
        let backbone = quick.graph.clone().headless();
        let leak = leak::measure(split, &backbone, args.fit().into(), quick.fitted.penalty, 1)?;
        leak::print(&leak);
        Some(leak)
    } else {
        None
    };
    if args.advanced {
        let trained = tune(args, split, quick.graph.clone(), args.first(&quick.graph)?, false, device)?;
        let trained = whole(trained)?;
        return Ok((Trained { penalties: quick.fitted.tried, ..trained }, computed));
    }
    let tuned = if args.quick { None } else { Some(fine_tuned(args, split, &quick.graph, device)?) };
    let penalties = quick.fitted.tried.clone();
    let (trained, told) = match tuned {
        None => (of_quick(args, quick), None),
        Some(Err(why)) => (of_quick(args, quick), Some(why)),
        Some(Ok(tuned)) => {
            let target = data::target(quick.graph.side, args.fit().into())?;
            let compared = Compared::of(split, target, &quick.graph, &tuned.graph)?;
            (if compared.takes_tuned() { tuned } else { of_quick(args, quick) }, Some(compared.to_string()))
        }
    };
    let told: Vec<_> = told.map(|told| ("auto".to_string(), told)).into_iter().collect();
    print_settings(&told);
    let settings = [trained.settings.clone(), told].concat();
    Ok((Trained { penalties, settings, leak, ..trained }, computed))
}

/// Unwraps the result of training without a budget.
fn whole(trained: Result<Trained, f64>) -> Result<Trained> {
    trained.map_err(|minutes| anyhow::anyhow!("training would take {minutes:.0} minutes, and nothing bounds it"))
}

/// The quick model as a [`Trained`].
fn of_quick(args: &Train, quick: quick::Quick) -> Trained {
    let domain = match args.head_views() {
        1 => "judged on images changed within it, trained on unchanged ones".to_string(),
        views => format!("{views} views of each image, {}", args.domain().augment().describe()),
    };
    Trained {
        graph: quick.graph,
        kind: "quick",
        validation: quick.validation,
        curve: Vec::new(),
        penalties: Vec::new(),
        settings: vec![
            ("penalty".into(), quick.fitted.penalty.to_string()),
            ("domain".into(), format!("{}: {domain}", name(&args.domain()))),
            ("balance".into(), name(&args.balance())),
        ],
        int8: Some((quick.int8, quick.quantisation)),
        leak: None,
        folds: quick.folds,
    }
}

/// The quick model fine-tuned within --budget, or why it was not.
fn fine_tuned(args: &Train, split: &Split, quick: &Graph, device: Device) -> Result<Result<Trained, String>> {
    let first = args.first(quick);
    if args.from.is_none() && first.is_err() {
        return Ok(Err(format!(
            "not fine-tuned: this backbone has no node \"{LAST_BLOCKS}\"; name with --from where it is to begin, as `inspect` lists them"
        )));
    }
    let trained = tune(args, split, quick.clone(), first?, false, device)?;
    Ok(trained.map_err(|minutes| {
        format!(
            "not fine-tuned: that takes {minutes:.0} min or more, --budget allows {}; a larger one tries it",
            args.budget
        )
    }))
}

/// Prints settings in words.
fn print_settings(settings: &[(String, String)]) {
    settings.iter().for_each(|(k, v)| println!("{k:>12}  {v}"));
}

/// Where training in epochs keeps what it has.
fn checkpoint(args: &Train) -> PathBuf {
    let mut path = args.out.as_os_str().to_owned();
    path.push(".checkpoint");
    path.into()
}

/// Trains nodes from `first` on in epochs; minutes where --budget allows too few of them.
fn tune(
    args: &Train,
    split: &Split,
    graph: Graph,
    first: usize,
    from_nothing: bool,
    device: Device,
) -> Result<Result<Trained, f64>> {
    let augment = args.domain().augment();
    let suits = if from_nothing { 4e-3 } else { 3e-4 } * if args.optimiser == OptimiserName::Sgd { 10.0 } else { 1.0 };
    let rate = if args.rate > 0.0 { args.rate } else { suits };
    let plan = Plan {
        first,
        from_nothing,
        epochs: args.epochs,
        batch: args.batch,
        rate,
        device,
        optimiser: args.optimiser,
        balance: args.balance(),
        augment,
        views: if first > 0 { args.views.unwrap_or(6) } else { 0 },
        patience: args.patience,
        seed: args.seed,
        checkpoint: checkpoint(args),
        resume: args.resume,
        budget: args.is_auto().then(|| Duration::from_secs_f64(60.0 * args.budget)),
    };
    let mut settings: Vec<(String, String)> = vec![
        ("domain".into(), format!("{}: {}", name(&args.domain()), augment.describe())),
        ("optimiser".into(), format!("{}, rate {rate}, batch {}", name(&args.optimiser), args.batch)),
        ("balance".into(), name(&plan.balance)),
        ("device".into(), name(&args.device)),
    ];
    print_settings(&settings);
    let target = data::target(graph.side, args.fit().into())?;
    let trained = match epochs::train(&graph, split, target, &plan)? {
        Outcome::Trained(trained) => trained,
        Outcome::TooSlow(seconds) => return Ok(Err((seconds / 60.0).ceil())),
    };
    settings.push(("epochs".into(), format!("at most {}, patience {}", trained.epochs, args.patience)));
    if first > 0 {
        settings.push(("from".into(), format!("{}, {} views of each image", graph.nodes[first].name, trained.views)));
    }
    Ok(Ok(Trained {
        graph: trained.graph,
        kind: if from_nothing { "small" } else { "advanced" },
        validation: trained.validation,
        curve: trained.curve,
        penalties: Vec::new(),
        settings,
        int8: None,
        leak: None,
        folds: None,
    }))
}

fn record(args: &Train, split: &Split, roles: Roles, t: &Trained, seconds: f64) -> Result<Record> {
    let hash = |path: &Path| tagpin::regular::read(path, tagpin::regular::LARGE).map(|b| data::hex_hash(&b)).ok();
    let file_name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned());
    Ok(Record {
        tool: concat!("tagpin-tools ", env!("CARGO_PKG_VERSION")).into(),
        evaluator: EVALUATOR,
        commit: commit(),
        command: run_folder::command(),
        finished: run_folder::now(),
        seconds,
        kind: t.kind.into(),
        seed: args.seed,
        side: t.graph.side,
        fit: args.fit(),
        backbone_sha256: args.backbone.as_deref().and_then(hash),
        backbone: args.backbone.as_ref().and_then(file_name),
        dataset_sha256: split.dataset.sha256(),
        split_sha256: data::hex_hash(&serde_json::to_vec(split)?),
        train: split.entries(Side::Train).len(),
        validation: split.entries(Side::Validation).len(),
        validation_right: t.validation,
        weights: t.graph.weights(),
        macs: t.graph.macs()?,
        curve: t.curve.clone(),
        penalties: t.penalties.clone(),
        settings: t.settings.clone(),
        roles,
        domain: args.domain(),
        warnings: split.contract.warnings.clone(),
    })
}
