//! Packs a run, or an int8 ONNX file made elsewhere, into a bundle with its card.
//!
//! The bundle is loaded by the runtime's engine and compared with tract before it is written.

use crate::bundle::with_self_test;
use crate::data::{
    self, TaskName,
    roles::{RoleFlags, Roles},
    split::Side,
};
use crate::decision::Decision;
use crate::distance;
use crate::evaluate::Evaluation;
use crate::graph::{Normalise, with_outputs};
use crate::metrics;
use crate::parity;
use crate::run::{FitName, Run};
use crate::run_folder;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tagpin::bundle::{self, Bundle, Contract, Fit, Hex, Input, Section, Tables, Tag, sha256};
use tagpin::decide::{TagRule, Task};
use tagpin::engine::{Absorbed, Engine, Refusal, proof};
use tagpin::preprocess::{Preprocessor, Target};
use tagpin::quant;

/// Pack a run folder, or an int8 ONNX file, into a bundle.
#[derive(clap::Args, Clone, Debug)]
pub struct Pack {
    /// Run folder made by `train` and `quantise`.
    #[arg(required_unless_present = "onnx", conflicts_with = "onnx")]
    pub run: Option<PathBuf>,
    /// An int8 ONNX file made elsewhere (QDQ or QLinearConv).
    #[arg(long, requires = "tags")]
    pub onnx: Option<PathBuf>,
    /// Text file with one tag a line, in the order of the logits; or `numbered`.
    #[arg(long)]
    pub tags: Option<String>,
    /// Mean of each channel, one or three, of values 0..1 (of 0..255 if above 1).
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub mean: Vec<f32>,
    /// Deviation of each channel, one or three, in the same unit as the mean.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub std: Vec<f32>,
    /// How frames are brought to the model's aspect ratio.
    #[arg(long, value_enum, default_value = "crop")]
    pub fit: FitName,
    /// Whether tags exclude one another.
    #[arg(long, value_enum, default_value = "multiclass")]
    pub task: TaskName,
    /// Roles of tags; over what a run says of the same tags.
    #[command(flatten)]
    pub roles: RoleFlags,
    /// The output that has the scores, where the ONNX file has several; the others are left out.
    #[arg(long, value_name = "NAME", requires = "onnx")]
    pub output: Option<String>,
    /// Folder of images with which the bundle is proved against its file; without it inputs are
    /// drawn.
    #[arg(long)]
    pub images: Option<PathBuf>,
    /// Bundle to write; its card gets the same name with `.md`.
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite an existing bundle.
    #[arg(long)]
    pub force: bool,
}

/// What a bundle is made of besides its graph.
pub struct Ingredients {
    /// Tags in the order of logits.
    pub tags: Vec<String>,
    /// What the network was trained on.
    pub normalise: Normalise,
    /// How frames are fitted.
    pub fit: Fit,
    /// Multiclass or multilabel.
    pub task: Task,
    /// One a tag.
    pub rules: Vec<TagRule>,
    /// What tags stand for.
    pub roles: Roles,
    /// What logits are divided by, Q16.16.
    pub temperature_q16: u32,
    /// Hash of the training data, or zero.
    pub dataset_sha256: [u8; 32],
    /// Hash of the run's record, or zero.
    pub run_sha256: [u8; 32],
    /// The distance section and what is known of it; without it nothing is foreign.
    pub distance: Option<(Vec<u8>, distance::Figures)>,
    /// The categories section; without it no tag is of any.
    pub categories: Option<Vec<u8>>,
    /// Images of the self-test, each `[height, width, 3]` at the model's input size; without any
    /// they are drawn.
    pub images: Vec<Vec<u8>>,
}

/// The bytes of a bundle, checked by loading it as the runtime does.
pub fn bundle_of(name: &str, onnx: &[u8], i: &Ingredients) -> Result<Vec<u8>> {
    let engine = Engine::load(onnx)?;
    let spec = engine.spec();
    let [h, w, c] = spec.input;
    if c != 3 || h > Contract::MAX_INPUT as usize || w > Contract::MAX_INPUT as usize {
        bail!("the model takes {h}x{w}x{c}, expected 3 channels and at most {} pixels a side", Contract::MAX_INPUT);
    }
    if i.tags.len() != spec.logits {
        bail!("{} tags for {} logits; give one tag a logit", i.tags.len(), spec.logits);
    }
    if spec.absorbed.is_some_and(|a| (a == Absorbed::Sigmoid) != (i.task == Task::Multilabel)) {
        bail!("the graph ends in {:?}, the task is {:?}; change --task", spec.absorbed, i.task);
    }
    let real = i.normalise.table();
    // A real input is passed as codes, each byte minus 128, which the engine looks up in its table
    // of reals.
    let code = |(i, &x): (usize, &f32)| match spec.real_input {
        true => (i % 256) as u8 ^ 128,
        false => quant::quantise(x, spec.scale, spec.zero_point) as u8,
    };
    let int8: Vec<u8> = real.iter().enumerate().map(code).collect();
    let real: Vec<u8> = real.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut tags = heapless::Vec::new();
    for ((name, rule), role) in i.tags.iter().zip(&i.rules).zip(i.roles.in_order(&i.tags)) {
        tags.push(Tag { name, rule: *rule, role }).map_err(|_| anyhow::anyhow!("more than {} tags", tagpin::MAX_TAGS))?;
    }
    let contract = Contract {
        name,
        task: i.task,
        tags,
        temperature_q16: i.temperature_q16,
        input: Input {
            height: h as u16,
            width: w as u16,
            fit: i.fit,
            tables: Tables { real: &real, int8: &int8 },
            scale: spec.scale,
            zero_point: spec.zero_point,
        },
        graph_sha256: sha256(onnx),
        dataset_sha256: i.dataset_sha256,
        run_sha256: i.run_sha256,
        mixed: spec.islands > 0,
    };
    let distance = i.distance.as_ref().map(|(section, _)| (Section::Distance, section.as_slice()));
    let categories = i.categories.as_deref().map(|section| (Section::Categories, section));
    let sections: Vec<_> = distance.into_iter().chain(categories).collect();
    let bytes = bundle::write(&contract, onnx, &sections)?;
    with_self_test(&Bundle::read(&bytes)?, &i.images)
}

/// Inputs with which a plan is proved where no images are given, and the most that are taken of
/// those.
const DRAWN: usize = 2;
const IMAGES: usize = 4;
const SEED: u64 = 1;

/// Runs the plan and, by tract in f32, the file itself on a few inputs; refuses where they part by
/// more than rounding. `images`: a folder of images, fitted as the bundle says; without one the
/// inputs are drawn.
pub fn prove(onnx: &[u8], i: &Ingredients, images: Option<&Path>) -> Result<()> {
    let engine = Engine::load(onnx)?;
    let spec = engine.spec();
    let [h, w, c] = spec.input;
    let real = i.normalise.table();
    let value = |channel: usize, code: i8| real[256 * channel + (code as u8 ^ 128) as usize];
    let inputs = match images {
        None => proof::drawn(h * w * c, DRAWN, SEED),
        Some(folder) => images_of(folder, (h, w), i.fit)?
            .iter()
            .map(|rgb| {
                let code = |(at, &byte): (usize, &u8)| match spec.real_input {
                    true => (byte ^ 128) as i8,
                    false => quant::quantise(real[256 * (at % 3) + byte as usize], spec.scale, spec.zero_point),
                };
                rgb.iter().enumerate().map(code).collect()
            })
            .collect(),
    };
    let found = proof::prove(onnx, &inputs, Some(&value))?;
    if let Some(Refusal { node, op, why }) = found.parted {
        bail!("node \"{node}\" ({op}): {why}; not packed, because the bundle would not give the file's scores");
    }
    println!("proved: {} tensors agree with the file run by tract in f32 on {} inputs", found.agree, inputs.len());
    for Refusal { node, op, why } in found.unread.iter().take(10) {
        println!("note: node \"{node}\" ({op}) was not compared: {why}");
    }
    Ok(())
}

/// The first images of a folder, as the device prepares them: `[h, w, 3]` each.
pub fn images_of(folder: &Path, (h, w): (usize, usize), fit: Fit) -> Result<Vec<Vec<u8>>> {
    let listing =
        tagpin::pictures::list(folder).with_context(|| format!("--images {} cannot be listed", folder.display()))?;
    let mut preprocessor = Preprocessor::new(Target { width: w as u16, height: h as u16, fit, roi: None });
    let mut all = Vec::new();
    for file in &listing.files {
        if let Ok(bytes) = tagpin::regular::read(file, tagpin::pictures::Budget::HOST.0)
            && let Ok(rgb) = crate::data::rgb_of(&bytes, &mut preprocessor)
        {
            all.push(rgb);
        }
        if all.len() == IMAGES {
            break;
        }
    }
    match all.is_empty() {
        true => bail!("--images {}: no image could be decoded there", folder.display()),
        false => Ok(all),
    }
}

fn foreign(args: &Pack, onnx: &[u8]) -> Result<Ingredients> {
    let normalise = Normalise::of(&args.mean, &args.std)?;
    let tags: Vec<String> = match args.tags.as_deref() {
        Some("numbered") => (0..Engine::load(onnx)?.spec().logits).map(|i| format!("{i:04}")).collect(),
        Some(file) => {
            let text = tagpin::regular::read_text(file.as_ref(), tagpin::regular::TEXT)
                .with_context(|| format!("--tags {file} cannot be read"))?;
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect()
        }
        None => bail!("--onnx needs --tags FILE or --tags numbered"),
    };
    let rules = vec![TagRule::default(); tags.len()];
    let roles = args.roles.roles(&tags)?;
    let temperature_q16 = tagpin::head::Temperature::ONE.q16();
    let images = match &args.images {
        None => Vec::new(),
        Some(folder) => {
            let [h, w, _] = Engine::load(onnx)?.spec().input;
            images_of(folder, (h, w), args.fit.into())?
        }
    };
    Ok(Ingredients {
        tags,
        normalise,
        fit: args.fit.into(),
        task: args.task.into(),
        rules,
        roles,
        temperature_q16,
        dataset_sha256: [0; 32],
        run_sha256: [0; 32],
        distance: None,
        categories: None,
        images,
    })
}

/// What of a run goes into its bundle.
fn of_run(run: &Run, flags: &RoleFlags) -> Result<Ingredients> {
    let hash = |hex: &str, what: &str| -> Result<[u8; 32]> {
        let byte = |i: usize| hex.get(2 * i..2 * i + 2).and_then(|b| u8::from_str_radix(b, 16).ok());
        let all: Option<Vec<u8>> = (0..32).map(byte).collect();
        all.and_then(|b| b.try_into().ok()).with_context(|| format!("run.json: {what} is damaged; train again"))
    };
    let decision = Decision::of(run)?;
    let tags = &run.split.dataset.tags;
    let roles = run.record.roles.clone().of(tags)?.overridden(flags.roles(tags)?);
    let record = run_folder::read_file(&run.file("run.json"), "train")?;
    Ok(Ingredients {
        tags: tags.clone(),
        normalise: run.graph.normalise,
        fit: run.record.fit.into(),
        task: run.split.dataset.task.into(),
        rules: decision.tag_rules()?,
        roles,
        temperature_q16: decision.temperature().q16(),
        dataset_sha256: hash(&run.record.dataset_sha256, "dataset_sha256")?,
        run_sha256: sha256(&record),
        distance: distance::in_run(run)?,
        categories: None,
        images: held_out(run)?,
    })
}

/// Some of a run's test images, spread over all of them; none, with a note, where the data is no
/// longer there.
fn held_out(run: &Run) -> Result<Vec<Vec<u8>>> {
    let test = run.split.entries(Side::Test);
    let some: Vec<data::Entry> = data::spread(test.len(), 3).map(|i| test[i].clone()).collect();
    data::load(&run.split.dataset.root, &some, run.target()?).or_else(|e| {
        println!("note: the self-test is of drawn images: {e:#}");
        Ok(Vec::new())
    })
}

/// What is known of a run besides its network.
struct Made<'a> {
    run: &'a Run,
    evaluation: Evaluation,
    parity: parity::Figures,
}

/// The card: where the model comes from and what it can do. `about`: rows for a model that was not
/// trained here.
fn card(name: &str, bytes: &[u8], i: &Ingredients, made: Option<&Made<'_>>, about: &[(&str, String)]) -> Result<String> {
    let bundle = Bundle::read(bytes)?;
    let engine = Engine::from_bundle(&bundle)?;
    let mut s = format!("# {name}\n\n");
    let [h, w, _] = engine.spec().input;
    writeln!(
        s,
        "{} tags, {:?}, {w}x{h} pixels, {:.2} M multiply-adds, {} KB.\n",
        i.tags.len(),
        i.task,
        engine.macs() as f64 / 1e6,
        bytes.len() / 1024
    )?;
    writeln!(s, "| | |\n|---|---|")?;
    writeln!(s, "| bundle SHA-256 | `{}` |", Hex(&bundle.sha256))?;
    writeln!(s, "| graph SHA-256 | `{}` |", Hex(&bundle.contract.graph_sha256))?;
    writeln!(s, "| roles | {} |", i.roles)?;
    writeln!(s, "| mean, deviation | {:?}, {:?} |", i.normalise.mean, i.normalise.std)?;
    let Some(Made { run, evaluation, parity }) = made else {
        match &i.distance {
            Some((_, figures)) => write!(s, "| made from | images of good parts alone |\n\n{}", figures.markdown())?,
            None => about.iter().try_for_each(|(what, value)| writeln!(s, "| {what} | {value} |"))?,
        }
        return Ok(s);
    };
    let r = &run.record;
    writeln!(s, "| data SHA-256 | `{}` |", r.dataset_sha256)?;
    writeln!(s, "| run SHA-256 | `{}` |", Hex(&i.run_sha256))?;
    writeln!(s, "| trained by | {}, {}, seed {}, {} weights |", r.tool, r.kind, r.seed, r.weights)?;
    if let (Some(backbone), Some(hash)) = (&r.backbone, &r.backbone_sha256) {
        writeln!(s, "| backbone | {backbone}, `{hash}` |")?;
    }
    for (key, value) in &r.settings {
        writeln!(s, "| {key} | {value} |")?;
    }
    writeln!(
        s,
        "| images | {} to train, {} to choose (validation top-1 {:.4}) |",
        r.train, r.validation, r.validation_right
    )?;
    writeln!(s, "| command | `{}` |", r.command)?;
    writeln!(
        s,
        "| int8 against float | {:.2} % agreement on {} images, {} |",
        100.0 * parity.agreement,
        parity.images,
        if parity.harmed().next().is_none() { "no harm shown" } else { "HARM shown" }
    )?;
    for w in &r.warnings {
        writeln!(s, "| warning | {w} |")?;
    }
    let names: Vec<&str> = evaluation.sets[0].baselines.iter().map(|b| b.0.as_str()).collect();
    writeln!(
        s,
        "\n## Held-out images\n\nValue and 95 % interval.\n\n| set | counted | int8 top-1 | float top-1 | macro-F1 | mAP | {} |",
        names.join(" | ")
    )?;
    writeln!(s, "|{}", "---|".repeat(6 + names.len()))?;
    for f in &evaluation.sets {
        let baselines: Vec<String> = f.baselines.iter().map(|(_, right)| format!("{right:.4}")).collect();
        writeln!(
            s,
            "| {} | {} | {} | {} | {} | {} | {} |",
            f.name,
            f.counted,
            f.int8,
            f.float,
            f.macro_f1,
            f.map,
            baselines.join(" | ")
        )?;
    }
    for f in &evaluation.sets {
        writeln!(
            s,
            "\n### {}\n\n| tag | images | precision | recall | AP | threshold | precision at it | recall at it |\n|---|---|---|---|---|---|---|---|",
            f.name
        )?;
        for t in &f.tags {
            let recall = t.recall.map_or("-".into(), |r| r.to_string());
            writeln!(
                s,
                "| {} | {} | {} | {recall} | {} | {:.3} | {} | {} |",
                t.tag,
                t.images,
                metrics::show(t.precision),
                metrics::show(t.ap),
                t.threshold,
                metrics::show(t.precision_at),
                metrics::show(t.recall_at)
            )?;
        }
    }
    if let Some((_, figures)) = &i.distance {
        write!(s, "\n{}", figures.markdown())?;
    }
    Ok(s)
}

/// Bundle and card of a network that was trained elsewhere. `about`: rows of its card.
pub fn imported(name: &str, onnx: &[u8], i: &Ingredients, about: &[(&str, String)]) -> Result<(Vec<u8>, String)> {
    let bytes = bundle_of(name, onnx, i)?;
    let card = card(name, &bytes, i, None, about)?;
    Ok((bytes, card))
}

/// Bundle and card of a model of good images alone.
pub fn good_only(name: &str, onnx: &[u8], i: &Ingredients) -> Result<(Vec<u8>, String)> {
    let bytes = bundle_of(name, onnx, i)?;
    let card = card(name, &bytes, i, None, &[])?;
    Ok((bytes, card))
}

/// Packs and writes the bundle and its card.
pub fn run(args: &Pack) -> Result<()> {
    match (&args.run, &args.onnx) {
        (Some(folder), _) => pack_run(&Run::open(folder)?, &args.out, args.force, &args.roles),
        (None, Some(onnx)) => {
            let bytes = tagpin::regular::read(onnx, tagpin::regular::LARGE)
                .with_context(|| format!("{} cannot be read", onnx.display()))?;
            let bytes = match &args.output {
                Some(name) => with_outputs(&bytes, std::slice::from_ref(name))?,
                None => bytes,
            };
            let ingredients = foreign(args, &bytes)?;
            prove(&bytes, &ingredients, args.images.as_deref())?;
            write(&args.out, args.force, &bytes, &ingredients, None)
        }
        (None, None) => bail!("name a run folder, or --onnx FILE"),
    }
}

/// Packs a run that was evaluated and compared. `roles`: over what the run says of the same tags.
pub fn pack_run(run: &Run, out: &Path, force: bool, roles: &RoleFlags) -> Result<()> {
    let made = Made { run, evaluation: Evaluation::of(run)?, parity: parity::Figures::of(run)? };
    let (onnx, ingredients) = (run.int8()?, of_run(run, roles)?);
    prove(&onnx, &ingredients, None)?;
    write(out, force, &onnx, &ingredients, Some(&made))
}

fn write(out: &Path, force: bool, onnx: &[u8], i: &Ingredients, made: Option<&Made<'_>>) -> Result<()> {
    let name = out
        .file_stem()
        .and_then(|n| n.to_str())
        .with_context(|| format!("--out {}: expected NAME.tagpin", out.display()))?;
    run_folder::refuse_existing_bundle(out, force)?;
    let bytes = bundle_of(name, onnx, i)?;
    let about = [("made from", "an ONNX file; nothing is known of its training or figures".into())];
    let card = card(name, &bytes, i, made, &about)?;
    run_folder::write_file(out, &bytes)?;
    run_folder::write_file(&out.with_extension("md"), card.as_bytes())?;
    println!("{} ({} KB) and its card", out.display(), bytes.len() / 1024);
    if i.roles.defects.is_empty() {
        println!("note: no tag is a defect, so a board rejects nothing unless device.toml does; state them by --defect TAG");
    }
    Ok(())
}
