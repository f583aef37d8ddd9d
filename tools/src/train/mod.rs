//! `train`: from a split to a run folder; then, unless told not to, through quantisation, figures
//! and proof to the report.
//!
//! Decides which way of training serves; how each is done is its own module's.

pub mod augment;
mod device;
mod epochs;
pub mod folds;
pub mod leak;
mod nothing;
mod ops;
pub mod optimiser;
pub mod quick;
pub mod tuner;

use crate::backbone;
use crate::data::{
    self, TaskName, check,
    roles::{RoleFlags, Roles},
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
use crate::run::{EVALUATOR, Epoch, FitName, Record, Run, commit};
use crate::run_folder;
use crate::small;
use anyhow::{Context, Result, bail, ensure};
use augment::Domain;
use burn::tensor::Device;
use device::DeviceName;
use epochs::{Balance, Plan};
use leak::Leak;
use optimiser::OptimiserName;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tagpin::random::Random;

/// Where the last blocks of EfficientNet-Lite0, as `backbone import` names its nodes, begin.
pub const LAST_BLOCKS: &str = "block11_expand";

/// Train a model from tagged images, quantise it, judge it, prove it and write its report.
#[derive(clap::Args, Clone, Debug)]
pub struct Train {
    /// Folder of tagged folders, list or COCO file; it is split 70/15/15 by the seed.
    #[arg(long, conflicts_with = "split", required_unless_present = "split")]
    pub data: Option<PathBuf>,
    /// Split made by `dataset split`.
    #[arg(long)]
    pub split: Option<PathBuf>,
    /// Run folder to make.
    #[arg(long)]
    pub out: PathBuf,
    /// Learn only a head on a frozen backbone: seconds once its features are known.
    #[arg(long, group = "how", requires = "backbone")]
    pub quick: bool,
    /// Learn a head, then fine-tune the last blocks of the backbone.
    #[arg(long, group = "how", requires = "backbone")]
    pub advanced: bool,
    /// Train the built-in small network for 96x96 images from nothing.
    #[arg(long, group = "how", conflicts_with = "backbone")]
    pub small: bool,
    /// Fit a distance on images of good parts alone (--data): what lies beyond its limit is
    /// foreign. From 20 images on.
    #[arg(long, group = "how", requires = "backbone", requires = "data")]
    pub good_only: bool,
    /// Images of bad parts, for figures of --good-only; nothing is fitted on them.
    #[arg(long, value_name = "DIR", requires = "good_only")]
    pub bad: Option<PathBuf>,
    /// Set the limit of --good-only between good and bad images; its figures then flatter it.
    #[arg(long, requires = "bad")]
    pub tune_on_bad: bool,
    /// Pretrained network without a head, or any float ONNX classifier, whose head is cut off.
    #[arg(long)]
    pub backbone: Option<PathBuf>,
    /// Side of the image for the backbone: smaller is faster and less accurate. A multiple of 32.
    #[arg(long)]
    pub size: Option<usize>,
    /// Mean of each channel, one or three, of values 0..1 (of 0..255 if above 1), for a backbone
    /// that does not carry its own.
    #[arg(long, value_delimiter = ',', requires = "std")]
    pub mean: Vec<f32>,
    /// Deviation of each channel, one or three, in the same unit as the mean.
    #[arg(long, value_delimiter = ',', requires = "mean")]
    pub std: Vec<f32>,
    /// How images and frames are brought to the network's square.
    #[arg(long, value_enum, default_value = "stretch")]
    pub fit: FitName,
    /// Seed of split, weights, order and changes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What kind of images these are: sets how they are changed in training.
    #[arg(long, value_enum, default_value = "general")]
    pub domain: Domain,
    /// First node that learns in --advanced, as `inspect` names it: its block and all behind it.
    /// Without it the last blocks of EfficientNet-Lite0 on the CPU, the whole network on a GPU.
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
    /// Where --advanced and --small learn.
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: DeviceName,
    /// Most times that every image is seen.
    #[arg(long, default_value_t = 20)]
    pub epochs: usize,
    /// Images in one step.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Largest learning rate; 0 takes what suits: 4e-3 from nothing, 3e-4 for fine-tuning (SGD: 10
    /// times as much).
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// Optimiser of --advanced and --small.
    #[arg(long, value_enum, default_value = "adamw")]
    pub optimiser: OptimiserName,
    /// How tags of unlike frequency are treated.
    #[arg(long, value_enum, default_value = "none")]
    pub balance: Balance,
    /// Changed copies of each image whose trunk values are computed once and kept in memory.
    #[arg(long, default_value_t = 6)]
    pub views: usize,
    /// Parts that --quick cuts the data into where test images are few: each is judged by a head
    /// fitted to others; 0 for none.
    #[arg(long, default_value_t = 5, value_name = "PARTS")]
    pub folds: usize,
    /// Epochs without a better one after which training ends; 0 never does.
    #[arg(long, default_value_t = 8)]
    pub patience: usize,
    /// Go on from the checkpoint of an interrupted run.
    #[arg(long)]
    pub resume: bool,
    /// Column whose values stay together when --data is split.
    #[arg(long, requires = "data")]
    pub group: Option<String>,
    /// What the prediction is for, with --data.
    #[arg(long, requires = "data")]
    pub about: Option<PathBuf>,
    #[command(flatten)]
    pub roles: RoleFlags,
    /// Take the tags as exclusive or not, whatever the form of --data suggests.
    #[arg(long, value_enum, requires = "data")]
    pub task: Option<TaskName>,
    /// Go on with tags of fewer than 5 images; every later figure carries a warning.
    #[arg(long)]
    pub allow_few: bool,
    /// Show what a leak would do to the figures of --quick, beside the honest ones, over 10 splits
    /// of each kind; leak.json has them.
    #[arg(long, requires = "quick")]
    pub leaky_demo: bool,
    #[command(flatten)]
    pub distance: distance::Options,
    /// Stop after training; `quantise`, `evaluate`, `parity` and `report` do the rest.
    #[arg(long)]
    pub only: bool,
    /// Overwrite an existing run folder.
    #[arg(long)]
    pub force: bool,
}

/// A trained network before it is a run.
struct Trained {
    graph: Graph,
    kind: &'static str,
    validation: f64,
    curve: Vec<Epoch>,
    penalties: Vec<(f32, f64, f64)>,
    settings: Vec<(String, String)>,
    /// Quantised on the way, if the head was learnt on int8 features.
    int8: Option<(Vec<u8>, Quantisation)>,
    /// What a leak would do, if that was asked for.
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
            fit: args.fit.into(),
            domain: args.domain,
            false_reject: args.distance.false_reject,
            out: &args.out,
            force: args.force,
        };
        return good::train(backbone, args.size, &options);
    }
    if !(args.quick || args.advanced || args.small) {
        bail!("say how: --quick, --advanced or --good-only with --backbone, or --small. {}", backbone::HOW);
    }
    ensure!(
        !args.quick || args.balance == Balance::None,
        "--balance is of --advanced and --small: --quick fits its head to all images alike; leave it out, or train --advanced"
    );
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
        let from = args.from.clone().filter(|_| args.advanced);
        quantise::quantise_run(&run, &quantise::Options { from, ..quantise::Options::default() })?;
        stages.done("int8");
    }
    distance::of_run(
        &run,
        &distance::Options { domain: args.distance.domain.or(Some(args.domain)), ..args.distance.clone() },
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
        return Ok((tune(args, split, graph, 0, true, device)?, None));
    }
    let normalise = if args.mean.is_empty() { None } else { Some(Normalise::of(&args.mean, &args.std)?) };
    let path = args.backbone.as_deref().with_context(|| format!("--backbone: there is none; {}", backbone::HOW))?;
    let backbone = backbone::load(path, normalise, args.size)?;
    let cut = quick::Cut { folds: if args.quick { args.folds } else { 0 }, seed: args.seed };
    let quick = quick::train(split, backbone, args.fit.into(), &roles.in_order(&split.dataset.tags), cut)?;
    println!("{:>12}{:>14}{:>12}", "penalty", "log loss", "validation");
    for (penalty, loss, right) in &quick.fitted.tried {
        let mark = if *penalty == quick.fitted.penalty { "  taken" } else { "" };
        println!("{penalty:>12}{loss:>14.4}{right:>12.4}{mark}");
    }
    let computed = Some(quick.computed);
    let leak = if args.leaky_demo {
        let backbone = quick.graph.clone().headless();
        let leak = leak::measure(split, &backbone, args.fit.into(), quick.fitted.penalty, 1)?;
        leak::print(&leak);
        Some(leak)
    } else {
        None
    };
    let penalties = quick.fitted.tried;
    let int8 = Some((quick.int8, quick.quantisation));
    if args.quick {
        let domain = format!("{:?}: judged on images changed within it; --quick trains on unchanged ones", args.domain)
            .to_lowercase();
        println!("{:>12}  {domain}", "domain");
        let settings = vec![("penalty".into(), quick.fitted.penalty.to_string()), ("domain".into(), domain)];
        let trained = Trained {
            graph: quick.graph,
            kind: "quick",
            validation: quick.validation,
            curve: Vec::new(),
            penalties,
            settings,
            int8,
            leak,
            folds: quick.folds,
        };
        return Ok((trained, computed));
    }
    let first = match (&args.from, args.device) {
        (Some(node), _) => quick.graph.find(node).context("--from")?,
        (None, DeviceName::Cpu) => quick.graph.find(LAST_BLOCKS).context("--from")?,
        (None, _) => 0,
    };
    let trained = Trained { penalties, ..tune(args, split, quick.graph, first, false, device)? };
    Ok((trained, computed))
}

/// Where training in epochs keeps what it has.
fn checkpoint(args: &Train) -> PathBuf {
    let mut path = args.out.as_os_str().to_owned();
    path.push(".checkpoint");
    path.into()
}

/// Trains nodes from `first` on in epochs.
fn tune(args: &Train, split: &Split, graph: Graph, first: usize, from_nothing: bool, device: Device) -> Result<Trained> {
    let augment = args.domain.augment();
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
        balance: args.balance,
        augment,
        views: if first > 0 { args.views.max(1) } else { 0 },
        patience: args.patience,
        seed: args.seed,
        checkpoint: checkpoint(args),
        resume: args.resume,
    };
    let name = |v: &dyn std::fmt::Debug| format!("{v:?}").to_lowercase();
    let mut settings: Vec<(String, String)> = vec![
        ("domain".into(), format!("{}: {}", name(&args.domain), augment.describe())),
        ("optimiser".into(), format!("{}, rate {rate}, batch {}", name(&args.optimiser), args.batch)),
        ("epochs".into(), format!("at most {}, patience {}", args.epochs, args.patience)),
        ("balance".into(), name(&args.balance)),
        ("device".into(), name(&args.device)),
    ];
    if first > 0 {
        settings.push(("from".into(), format!("{}, {} views of each image", graph.nodes[first].name, plan.views)));
    }
    settings.iter().for_each(|(k, v)| println!("{k:>12}  {v}"));
    let target = data::target(graph.side, args.fit.into())?;
    let trained = epochs::train(&graph, split, target, &plan)?;
    Ok(Trained {
        graph: trained.graph,
        kind: if from_nothing { "small" } else { "advanced" },
        validation: trained.validation,
        curve: trained.curve,
        penalties: Vec::new(),
        settings,
        int8: None,
        leak: None,
        folds: None,
    })
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
        fit: args.fit,
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
        domain: args.domain,
        warnings: split.contract.warnings.clone(),
    })
}
