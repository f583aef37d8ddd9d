//! `bar trashnet`: what `train` reaches on splits of a data set that seeds draw.
//!
//! TrashNet (2527 photographs of waste, six tags) is the set whose figures the README states. Each
//! seed is a run as a user would make it, judged on test images by its own figures. `--out` keeps
//! the runs; `tools/scikit/compare` sets them beside scikit-learn on the same images.

use super::Seeds;
use crate::evaluate::Evaluation;
use crate::metrics::Interval;
use crate::run::Run;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::PathBuf;

/// Top-1 and macro-F1 of `train` on test images, over splits that seeds draw.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A folder of tagged images.
    #[arg(long)]
    data: PathBuf,
    /// A backbone, as `backbone import` makes it.
    #[arg(long)]
    backbone: PathBuf,
    /// Seeds of the split and of training, one run each, as in 1..3.
    #[arg(long, default_value = "1..3")]
    seeds: Seeds,
    /// Fine-tune the backbone too: twelve epochs, which take ten minutes a seed and more.
    #[arg(long)]
    advanced: bool,
    /// Side of the image for the backbone.
    #[arg(long)]
    size: Option<usize>,
    /// Keep the run folders here, each named by its seed.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the figures as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// One seed's figures on test images.
#[derive(Debug, Serialize)]
struct Row {
    seed: u64,
    images: usize,
    /// Share right, int8.
    int8: Interval,
    /// int8 minus float, paired.
    difference: Interval,
    /// int8.
    macro_f1: Interval,
    /// Mean average precision, int8.
    map: Interval,
    /// The whole of `train`: data, features, fit, int8, figures.
    seconds: f64,
}

/// Means over seeds.
#[derive(Debug, Serialize)]
struct Means {
    int8: f64,
    difference: f64,
    macro_f1: f64,
    map: f64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    mean: Means,
    seeds: Vec<Row>,
}

/// Computes and prints.
pub fn run(args: &Args) -> Result<()> {
    let kept = args.out.clone();
    let folder = kept.unwrap_or_else(|| std::env::temp_dir().join(format!("tagpin-tools-trashnet-{}", std::process::id())));
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let rows: Result<Vec<Row>> =
        args.seeds.0.clone().map(|seed| of_seed(args, seed, folder.join(seed.to_string()))).collect();
    if args.out.is_none() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    let seeds = rows?;
    let mean = |of: fn(&Row) -> f64| seeds.iter().map(of).sum::<f64>() / seeds.len() as f64;
    let mean = Means {
        int8: mean(|r| r.int8.value),
        difference: mean(|r| r.difference.value),
        macro_f1: mean(|r| r.macro_f1.value),
        map: mean(|r| r.map.value),
        seconds: mean(|r| r.seconds),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Figures { mean, seeds })?);
    } else {
        let Means { int8, difference, macro_f1, map, seconds } = mean;
        println!(
            "{:>4}  {:>6}  {int8:.3} {:14}  {difference:+.3} {:16}  {macro_f1:>8.3}  {map:.3}  {seconds:>4.0} s",
            "mean", "", "", ""
        );
    }
    Ok(())
}

fn of_seed(args: &Args, seed: u64, out: PathBuf) -> Result<Row> {
    let begin = std::time::Instant::now();
    let how: &[&str] = match args.advanced {
        true => &["--advanced", "--epochs", "12", "--patience", "5", "--views", "4"],
        false => &["--quick"],
    };
    super::train(&args.data, &args.backbone, args.size, seed, &out, how).with_context(|| format!("seed {seed}"))?;
    let seconds = begin.elapsed().as_secs_f64();
    let evaluation = Evaluation::of(&Run::open(&out)?)?;
    let test = &evaluation.sets[0];
    let row = Row {
        seed,
        images: test.counted,
        int8: test.int8,
        difference: test.difference,
        macro_f1: test.macro_f1,
        map: test.map,
        seconds,
    };
    if !args.json {
        if seed == *args.seeds.0.start() {
            println!("seed  images  {:20}  {:23}  macro-F1  mAP    train", "top-1, int8", "int8 minus float");
        }
        let (top1, d) = (row.int8, row.difference);
        println!(
            "{seed:>4}  {:>6}  {:.3} [{:.3}, {:.3}]  {:+.3} [{:+.3}, {:+.3}]  {:>8.3}  {:.3}  {seconds:>4.0} s",
            row.images, top1.value, top1.low, top1.high, d.value, d.low, d.high, row.macro_f1.value, row.map.value
        );
    }
    Ok(row)
}
