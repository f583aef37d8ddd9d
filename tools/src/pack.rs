//! Packs a run, or anyone's int8 ONNX file, into a bundle with its card.
//!
//! Does not train or quantise; the engine that will run the model is asked whether it can.

use crate::evaluate::SetFigures;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tagpin::bundle::{self, Bundle, Contract, Fit, Hex, Input, Tables, Tag, sha256};
use tagpin::decide::{TagRule, Task};
use tagpin::engine::{Absorbed, Engine};
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
    #[arg(long, default_value = "crop", value_parser = ["crop", "stretch", "pad"])]
    pub fit: String,
    /// Whether tags exclude one another.
    #[arg(long, default_value = "multiclass", value_parser = ["multiclass", "multilabel"])]
    pub task: String,
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
    /// Mean of values 0..1 a channel.
    pub mean: [f32; 3],
    /// Deviation of values 0..1 a channel.
    pub std: [f32; 3],
    /// How frames are fitted.
    pub fit: Fit,
    /// Multiclass or multilabel.
    pub task: Task,
    /// Hash of the training data, or zero.
    pub dataset_sha256: [u8; 32],
    /// Hash of the run's record, or zero.
    pub run_sha256: [u8; 32],
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
    if spec.absorbed.is_some_and(|a| (a == Absorbed::Softmax) != (i.task == Task::Multiclass)) {
        bail!("the graph ends in {:?}, the task is {:?}; change --task", spec.absorbed, i.task);
    }
    let real: Vec<f32> = (0..3).flat_map(|c| (0..256).map(move |v| (v as f32 / 255.0 - i.mean[c]) / i.std[c])).collect();
    let int8: Vec<u8> = real.iter().map(|&x| quant::quantise(x, spec.scale, spec.zero_point) as u8).collect();
    let real: Vec<u8> = real.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut tags = heapless::Vec::new();
    for name in &i.tags {
        tags.push(Tag { name, rule: TagRule::default() })
            .map_err(|_| anyhow::anyhow!("more than {} tags", tagpin::MAX_TAGS))?;
    }
    let contract = Contract {
        name,
        task: i.task,
        tags,
        temperature_q16: 65536,
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
        mixed: false,
    };
    let bytes = bundle::write(&contract, onnx)?;
    Engine::from_bundle(&Bundle::read(&bytes)?)?;
    Ok(bytes)
}

fn three(name: &str, values: &[f32]) -> Result<[f32; 3]> {
    match *values {
        [a] => Ok([a; 3]),
        [a, b, c] => Ok([a, b, c]),
        _ => bail!("--{name}: {} values, expected 1 or 3", values.len()),
    }
}

fn foreign(args: &Pack, onnx: &[u8]) -> Result<Ingredients> {
    let (mut mean, mut std) = (three("mean", &args.mean)?, three("std", &args.std)?);
    if mean.iter().chain(&std).any(|&v| v > 1.0) {
        mean = mean.map(|v| v / 255.0);
        std = std.map(|v| v / 255.0);
    }
    if !std.iter().all(|s| *s > 0.0) || !mean.iter().all(|m| m.is_finite()) {
        bail!("--std must be above 0 and --mean a number");
    }
    let tags = match args.tags.as_deref() {
        Some("numbered") => (0..Engine::load(onnx)?.spec().logits).map(|i| format!("{i:04}")).collect(),
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--tags {file} cannot be read"))?;
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect()
        }
        None => bail!("--onnx needs --tags FILE or --tags numbered"),
    };
    let fit = match args.fit.as_str() {
        "stretch" => Fit::Stretch,
        "pad" => Fit::Pad,
        _ => Fit::Crop,
    };
    let task = if args.task == "multilabel" { Task::Multilabel } else { Task::Multiclass };
    Ok(Ingredients { tags, mean, std, fit, task, dataset_sha256: [0; 32], run_sha256: [0; 32] })
}

fn of_run(run: &Path) -> Result<(Ingredients, serde_json::Value, Vec<SetFigures>)> {
    use crate::network::{MEAN, STD};
    let read = |name: &str, make: &str| {
        let path = run.join(name);
        std::fs::read(&path).with_context(|| format!("{}: run `{make}` first", path.display()))
    };
    let record = read("run.json", "train")?;
    let run_sha256 = sha256(&record);
    let record: serde_json::Value = serde_json::from_slice(&record).context("run.json is damaged; train again")?;
    let hex = record["dataset_sha256"]
        .as_str()
        .filter(|h| h.len() == 64 && h.is_ascii())
        .context("run.json has no dataset_sha256; train again")?;
    let mut dataset_sha256 = [0; 32];
    for (i, b) in dataset_sha256.iter_mut().enumerate() {
        *b = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).context("run.json: dataset_sha256 is damaged")?;
    }
    let figures = serde_json::from_slice(&read("evaluation.json", "evaluate")?)
        .context("evaluation.json is damaged; evaluate again")?;
    let tags = crate::train::load(run)?.tags;
    let i = Ingredients {
        tags,
        mean: [MEAN; 3],
        std: [STD; 3],
        fit: Fit::Crop,
        task: Task::Multiclass,
        dataset_sha256,
        run_sha256,
    };
    Ok((i, record, figures))
}

/// The card: where the model comes from and what it can do.
fn card(name: &str, bytes: &[u8], i: &Ingredients, made: Option<(&serde_json::Value, &[SetFigures])>) -> Result<String> {
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
    writeln!(s, "| mean, deviation | {:?}, {:?} |", i.mean, i.std)?;
    let Some((run, sets)) = made else {
        writeln!(s, "| made from | an ONNX file; nothing is known of its training or figures |")?;
        return Ok(s);
    };
    let field = |k: &str| run[k].as_str().map_or_else(|| run[k].to_string(), String::from);
    writeln!(s, "| data SHA-256 | `{}` |", field("dataset_sha256"))?;
    writeln!(s, "| run SHA-256 | `{}` |", Hex(&i.run_sha256))?;
    writeln!(
        s,
        "| trained by | {}, seed {}, {} epochs, {} weights |",
        field("tool"),
        field("seed"),
        field("epochs"),
        field("weights")
    )?;
    writeln!(
        s,
        "| pictures | {} to train, {} to choose the epoch (validation top-1 {:.4}) |",
        run["pictures"]["train"],
        run["pictures"]["validation"],
        run["validation"].as_f64().unwrap_or(0.0)
    )?;
    writeln!(s, "| command | `{}` |", field("command"))?;
    writeln!(
        s,
        "\n## Held-out pictures\n\n| set | counted | int8 top-1 | float top-1 | agreement | nearest mean colour | regression on 24x24 grey |\n|---|---|---|---|---|---|---|"
    )?;
    for f in sets {
        writeln!(
            s,
            "| {} | {} | {:.4} | {:.4} | {:.4} | {:.4} | {:.4} |",
            f.name, f.counted, f.int8, f.float, f.agreement, f.mean_colour, f.regression
        )?;
    }
    for f in sets {
        writeln!(s, "\n### {}\n\n| tag | pictures | precision | recall |\n|---|---|---|---|", f.name)?;
        let show = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
        for t in &f.tags {
            writeln!(s, "| {} | {} | {} | {} |", t.tag, t.pictures, show(t.precision), show(t.recall))?;
        }
        let mistakes: Vec<String> =
            f.mistakes.iter().map(|(is, taken, n)| format!("{n} x {is} taken for {taken}")).collect();
        writeln!(s, "\nMistakes: {}.", if mistakes.is_empty() { "none".into() } else { mistakes.join(", ") })?;
    }
    Ok(s)
}

/// Packs and writes the bundle and its card.
pub fn run(args: &Pack) -> Result<()> {
    let name = args
        .out
        .file_stem()
        .and_then(|n| n.to_str())
        .with_context(|| format!("--out {}: expected NAME.tagpin", args.out.display()))?;
    if args.out.exists() && !args.force {
        bail!("{} exists; name another file or add --force", args.out.display());
    }
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let (onnx, ingredients, made) = match (&args.run, &args.onnx) {
        (Some(run), _) => {
            let (i, record, figures) = of_run(run)?;
            let path = run.join("int8.onnx");
            (
                std::fs::read(&path).with_context(|| format!("{}: run `quantise` first", path.display()))?,
                i,
                Some((record, figures)),
            )
        }
        (None, Some(onnx)) => {
            let bytes = read(onnx)?;
            let i = foreign(args, &bytes)?;
            (bytes, i, None)
        }
        (None, None) => bail!("name a run folder, or --onnx FILE"),
    };
    let bytes = bundle_of(name, &onnx, &ingredients)?;
    let card = card(name, &bytes, &ingredients, made.as_ref().map(|(r, f)| (r, f.as_slice())))?;
    for (path, contents) in [(args.out.clone(), bytes.as_slice()), (args.out.with_extension("md"), card.as_bytes())] {
        let part = path.with_extension("part");
        std::fs::write(&part, contents)
            .and_then(|()| std::fs::rename(&part, &path))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    println!("{} ({} KB) and its card", args.out.display(), bytes.len() / 1024);
    Ok(())
}
