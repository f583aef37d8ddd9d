//! How good a run is on pictures it never saw: int8 by the runtime's own engine, float beside it, baselines below.
//!
//! Does not change anything; `pack` puts the figures onto the model's card.

use crate::baseline;
use crate::dataset::Dataset;
use crate::network::{Network, SIDE, best};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tagpin::bundle::Hex;
use tagpin::engine::Engine;
use tagpin::quant;

/// Evaluate a quantised run on held-out pictures.
#[derive(clap::Args, Clone, Debug)]
pub struct Evaluate {
    /// Run folder with `int8.onnx`; `evaluation.json` is written into it.
    pub run: PathBuf,
    /// Folder of the training pictures, for the baselines.
    #[arg(long)]
    pub train: PathBuf,
    /// Held-out pictures: a name and a folder; may stand several times.
    #[arg(long = "test", value_name = "NAME=FOLDER", required = true)]
    pub tests: Vec<String>,
    /// A tag whose pictures are not counted in top-1.
    #[arg(long)]
    pub ignore: Option<String>,
}

/// One tag's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagFigures {
    /// The tag.
    pub tag: String,
    /// Pictures of it.
    pub pictures: usize,
    /// Of all predicted as it, the share that is; nothing if none was predicted.
    pub precision: Option<f64>,
    /// Of all that are, the share predicted.
    pub recall: Option<f64>,
}

/// One held-out set's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetFigures {
    /// Its name.
    pub name: String,
    /// Hash of its pictures.
    pub dataset_sha256: String,
    /// Pictures counted in top-1.
    pub counted: usize,
    /// Share right in int8.
    pub int8: f64,
    /// Share right in f32.
    pub float: f64,
    /// Share of pictures for which both agree.
    pub agreement: f64,
    /// Share right by nearest mean colour.
    pub mean_colour: f64,
    /// Share right by logistic regression on 24x24 grey.
    pub regression: f64,
    /// Per tag, int8.
    pub tags: Vec<TagFigures>,
    /// What was taken for what, most frequent first: true tag, predicted tag, times.
    pub mistakes: Vec<(String, String, usize)>,
}

/// Logits of each picture by the runtime's engine and the network's own preprocessing table.
pub fn int8_logits(onnx: &[u8], data: &Dataset) -> Result<Vec<Vec<f32>>> {
    let engine = Engine::load(onnx)?;
    let spec = engine.spec().clone();
    if spec.input != [SIDE, SIDE, 3] {
        bail!("int8.onnx takes {:?}, expected {SIDE}x{SIDE}x3", spec.input);
    }
    let table: Vec<i8> =
        (0..=255u8).map(|v| quant::quantise(crate::network::normalise(&[v])[0], spec.scale, spec.zero_point)).collect();
    let bar = crate::progress::bar("evaluating", data.samples.len() as u64);
    use rayon::prelude::*;
    let logits = data
        .samples
        .par_iter()
        .map_init(
            || engine.clone(),
            |engine, s| {
                let input: Vec<i8> = s.rgb.iter().map(|&v| table[v as usize]).collect();
                let mut logits = vec![0; spec.logits];
                bar.inc(1);
                engine.infer(&input, &mut logits).map(|()| logits.into_iter().map(|l| l as f32 / 65536.0).collect())
            },
        )
        .collect::<Result<Vec<Vec<f32>>, _>>()?;
    bar.finish_and_clear();
    Ok(logits)
}

/// Figures of one set.
pub fn figures(
    name: &str,
    network: &Network,
    onnx: &[u8],
    train: &Dataset,
    test: &Dataset,
    ignore: Option<usize>,
) -> Result<SetFigures> {
    let int8: Vec<usize> = int8_logits(onnx, test)?.iter().map(|l| best(l)).collect();
    let pictures: Vec<&[u8]> = test.samples.iter().map(|s| s.rgb.as_slice()).collect();
    let float: Vec<usize> = network.infer_all(&pictures).iter().map(|l| best(l)).collect();
    let counted: Vec<usize> = (0..test.samples.len()).filter(|&i| Some(test.samples[i].tag) != ignore).collect();
    let share = |p: &[usize]| counted.iter().filter(|&&i| p[i] == test.samples[i].tag).count() as f64 / counted.len() as f64;
    let tags = test.tags.iter().enumerate().map(|(t, tag)| {
        let pictures = test.samples.iter().filter(|s| s.tag == t).count();
        let predicted = int8.iter().filter(|&&p| p == t).count();
        let right = int8.iter().zip(&test.samples).filter(|(p, s)| **p == t && s.tag == t).count();
        let ratio = |n: usize| (n > 0).then(|| right as f64 / n as f64);
        TagFigures { tag: tag.clone(), pictures, precision: ratio(predicted), recall: ratio(pictures) }
    });
    let mut mistakes: Vec<(String, String, usize)> = Vec::new();
    for (&p, s) in int8.iter().zip(&test.samples).filter(|(p, s)| **p != s.tag) {
        let (is, taken) = (&test.tags[s.tag], &test.tags[p]);
        match mistakes.iter_mut().find(|m| m.0 == *is && m.1 == *taken) {
            Some(m) => m.2 += 1,
            None => mistakes.push((is.clone(), taken.clone(), 1)),
        }
    }
    mistakes.sort_by(|a, b| b.2.cmp(&a.2).then(a.cmp(b)));
    let agree = int8.iter().zip(&float).filter(|(a, b)| a == b).count();
    Ok(SetFigures {
        name: name.into(),
        dataset_sha256: Hex(&test.sha256()).to_string(),
        counted: counted.len(),
        int8: share(&int8),
        float: share(&float),
        agreement: agree as f64 / int8.len() as f64,
        mean_colour: share(&baseline::nearest_mean_colour(train, test)),
        regression: share(&baseline::logistic_regression(train, test)),
        tags: tags.collect(),
        mistakes,
    })
}

/// Prints figures as a table.
pub fn print(f: &SetFigures) {
    println!("\n{} ({} pictures counted)", f.name, f.counted);
    println!("  top-1 int8 {:.4}   float {:.4}   agreement {:.4}", f.int8, f.float, f.agreement);
    println!("  nearest mean colour {:.4}   logistic regression on 24x24 grey {:.4}", f.mean_colour, f.regression);
    println!("  {:<18}{:>10}{:>11}{:>9}", "tag", "pictures", "precision", "recall");
    let show = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
    for t in &f.tags {
        println!("  {:<18}{:>10}{:>11}{:>9}", t.tag, t.pictures, show(t.precision), show(t.recall));
    }
    for (is, taken, n) in f.mistakes.iter().take(8) {
        println!("  {n} x {is} taken for {taken}");
    }
}

/// Evaluates all sets and writes `evaluation.json`.
pub fn run(args: &Evaluate) -> Result<()> {
    let network = crate::train::load(&args.run)?;
    let path = args.run.join("int8.onnx");
    let onnx = std::fs::read(&path).with_context(|| format!("{}: run `quantise` first", path.display()))?;
    let train = Dataset::load(&args.train, SIDE as u16)?;
    let ignore = match &args.ignore {
        None => None,
        Some(tag) => Some(
            network
                .tags
                .iter()
                .position(|t| t == tag)
                .with_context(|| format!("--ignore {tag}: the network has {:?}", network.tags))?,
        ),
    };
    let mut all = Vec::new();
    for test in &args.tests {
        let (name, folder) = test.split_once('=').with_context(|| format!("--test {test}: expected NAME=FOLDER"))?;
        let data = Dataset::load(folder.as_ref(), SIDE as u16)?;
        if data.tags != network.tags {
            bail!("{folder} has tags {:?}, the network {:?}", data.tags, network.tags);
        }
        if let Some(leak) = data.samples.iter().find(|s| train.samples.iter().any(|t| t.sha256 == s.sha256)) {
            bail!("{} is also among the training pictures; remove it from one side", leak.path.display());
        }
        let f = figures(name, &network, &onnx, &train, &data, ignore)?;
        print(&f);
        all.push(f);
    }
    let path = args.run.join("evaluation.json");
    std::fs::write(&path, serde_json::to_string_pretty(&all)?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    println!("\n{}", path.display());
    Ok(())
}
