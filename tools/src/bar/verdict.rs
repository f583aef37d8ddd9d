//! `bar verdict`: what the verdict says of models trained on parts of a data set, against what the
//! rest of it shows.
//!
//! Each run draws a part of the images and trains on it as a user would. The truth is what the
//! model's decisions on all other images come to. The least recall and precision of every tag is
//! drawn about the worst of these, so that it holds in some runs and not in others, and the verdict
//! is asked for it.

use super::Seeds;
use crate::data::{Dataset, Entry, sources};
use crate::decision::{self, Decision};
use crate::demand::{Least, Measure};
use crate::evaluate::Evaluation;
use crate::judged::Judged;
use crate::metrics;
use crate::parity;
use crate::predict;
use crate::run::Run;
use crate::verdict::{Answer, Lack, Objection, Verdict};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tagpin::random::Random;

/// What the verdict says against what is true, on parts of a data set.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A folder of tagged images, some thousand.
    #[arg(long)]
    data: PathBuf,
    /// A backbone, as `backbone import` makes it.
    #[arg(long)]
    backbone: PathBuf,
    /// Seeds, one run each, as in 1..40.
    #[arg(long, default_value = "1..40")]
    seeds: Seeds,
    /// Side of the image for the backbone.
    #[arg(long)]
    size: Option<usize>,
    /// Print the figures as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Parts of the data that a run may draw, in turn, as shares of all images.
const SHARES: [f64; 6] = [0.06, 0.12, 0.2, 0.32, 0.48, 0.68];

/// How far below and above the worst true share of a tag the least is drawn, in points.
const DRAWN_BELOW: i32 = 35;
const DRAWN_ABOVE: i32 = 15;

/// One run.
#[derive(Debug, Serialize)]
struct Row {
    seed: u64,
    images: usize,
    /// Least recall and precision of every tag.
    least: f64,
    answer: Answer,
    /// What stands against it.
    against: Vec<Objection>,
    /// What cannot be told.
    lacking: Vec<Lack>,
    /// Whether the rest shows every tag at the least or above.
    holds: bool,
    /// How far the tag that is worst on the rest lies above the least, less the half width of what
    /// the verdict had of it.
    beyond_half_width: f64,
    /// Whether a black, white or grey frame passes as a good part.
    plain_passes: bool,
    error: Option<Mistaken>,
}

/// A verdict that the rest of the data contradicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mistaken {
    /// Shipped, and a tag is below its least.
    Ship,
    /// Refused, though every tag is above its least by more than the half width of its interval,
    /// and no frame of nothing passes.
    Refuse,
}

/// All runs together.
#[derive(Debug, Serialize)]
struct Summary {
    runs: usize,
    ship: usize,
    do_not_ship: usize,
    too_few: usize,
    too_few_at_the_largest: usize,
    holds: usize,
    errors: usize,
    ships_with_plain_frames_passing: usize,
}

#[derive(Debug, Serialize)]
struct Figures {
    summary: Summary,
    runs: Vec<Row>,
}

/// Computes and prints.
pub fn run(args: &Args) -> Result<()> {
    let all = sources::open(&args.data, None)?.dataset;
    let mut rows = Vec::new();
    for seed in args.seeds.0.clone() {
        let folder = std::env::temp_dir().join(format!("tagpin-tools-verdict-{}-{seed}", std::process::id()));
        let row = one(args, &all, seed, &folder);
        let _ = std::fs::remove_dir_all(&folder);
        let row = row.with_context(|| format!("seed {seed}"))?;
        if !args.json {
            println!(
                "seed {:>3}  {:>5} images  least {:.2}  {:<15} holds {:<5} by {:+.3} {}",
                row.seed,
                row.images,
                row.least,
                row.answer.words(),
                row.holds,
                row.beyond_half_width,
                row.error
                    .map_or(String::new(), |e| format!("ERROR {e:?}: {:?}", row.against.first().map(ToString::to_string)))
            );
        }
        rows.push(row);
    }
    let figures = Figures { summary: summary(&rows), runs: rows };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&figures)?),
        false => println!("{:#?}", figures.summary),
    }
    Ok(())
}

fn summary(rows: &[Row]) -> Summary {
    let count = |of: &dyn Fn(&Row) -> bool| rows.iter().filter(|r| of(r)).count();
    let answer = |answer: Answer| count(&move |r: &Row| r.answer == answer);
    let largest = rows.iter().map(|r| r.images).max().unwrap_or_default();
    Summary {
        runs: rows.len(),
        ship: answer(Answer::Ship),
        do_not_ship: answer(Answer::DoNotShip),
        too_few: answer(Answer::TooFew),
        too_few_at_the_largest: count(&|r| r.answer == Answer::TooFew && r.images == largest),
        holds: count(&|r| r.holds),
        errors: count(&|r| r.error.is_some()),
        ships_with_plain_frames_passing: count(&|r| r.answer == Answer::Ship && r.plain_passes),
    }
}

/// Draws a part, trains on it as a user would, and compares the verdict with the rest.
fn one(args: &Args, all: &Dataset, seed: u64, folder: &Path) -> Result<Row> {
    let mut random = Random::new(seed, 0x7e4d);
    let mut order: Vec<usize> = (0..all.entries.len()).collect();
    crate::train::shuffle(&mut order, &mut random);
    let images = (all.entries.len() as f64 * SHARES[seed as usize % SHARES.len()]) as usize;
    let (part, rest) = order.split_at(images);
    let data = folder.join("data");
    for &i in part {
        let e = &all.entries[i];
        let tag = e.tags.first().map(|t| &all.tags[*t]).context("an image without a tag")?;
        std::fs::create_dir_all(data.join(tag))?;
        let from = std::fs::canonicalize(all.file(e))?;
        let name = from.file_name().context("a file without a name")?;
        std::fs::copy(&from, data.join(tag).join(name)).with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    let out = folder.join("run");
    super::train(&data, &args.backbone, args.size, seed, &out, &["--quick", "--allow-few"])?;
    let mut run = Run::open(&out)?;
    ensure!(run.split.dataset.tags == all.tags, "a tag has no image in a part of {images}; give more data");
    let e = Evaluation::of(&run)?;
    let plain_passes = e.invalid.iter().any(|i| ["black", "white", "grey"].contains(&i.name.as_str()) && i.passes > 0);
    let rest: Vec<Entry> = rest.iter().map(|&i| hashed(all, i)).collect::<Result<_>>()?;
    let truth = shares(&run, all, rest)?;
    let worst = truth.iter().map(|(recall, precision)| recall.min(*precision)).fold(1.0, f64::min);
    let offset = f64::from(random.range(-DRAWN_BELOW, DRAWN_ABOVE));
    let least = ((100.0 * worst + offset).round() / 100.0).clamp(0.02, 0.98);
    let demanded = Least { recall: Some(least), precision: Some(least) };
    run.split.contract.about.aims = all.tags.iter().map(|tag| (tag.clone(), demanded)).collect();
    let verdict = Verdict::of(&run, &e, &parity::Figures::of(&run)?, &Decision::of(&run)?);
    let margin = |f: &crate::demand::Finding| {
        let true_share = truth[all.tags.iter().position(|t| *t == f.demand.tag).unwrap_or_default()];
        let share = if f.demand.measure == Measure::Recall { true_share.0 } else { true_share.1 };
        (share - least, share - least - (f.share.high - f.share.low) / 2.0)
    };
    let margins: Vec<(f64, f64)> = verdict.findings.iter().map(margin).collect();
    let holds = margins.iter().all(|m| m.0 >= 0.0);
    let beyond_half_width = margins.iter().map(|m| m.1).fold(f64::INFINITY, f64::min);
    let nothing = verdict.against.iter().any(|o| matches!(o, Objection::NothingPasses { .. }));
    let error = match verdict.answer {
        Answer::Ship if !holds => Some(Mistaken::Ship),
        Answer::DoNotShip if holds && beyond_half_width > 0.0 && !nothing => Some(Mistaken::Refuse),
        _ => None,
    };
    Ok(Row {
        seed,
        images,
        least,
        answer: verdict.answer,
        against: verdict.against,
        lacking: verdict.lacking,
        holds,
        beyond_half_width,
        plain_passes,
        error,
    })
}

/// An entry with its file's hash, which a listing does not have yet.
fn hashed(all: &Dataset, i: usize) -> Result<Entry> {
    let e = &all.entries[i];
    let bytes = tagpin::regular::read(&all.file(e), tagpin::regular::LARGE)
        .with_context(|| format!("{} cannot be read", e.path.display()))?;
    Ok(Entry { sha256: crate::data::hex_hash(&bytes), ..e.clone() })
}

/// Recall and precision of each tag at the thresholds on images that the run never had; 0 where
/// there are none.
fn shares(run: &Run, all: &Dataset, rest: Vec<Entry>) -> Result<Vec<(f64, f64)>> {
    let judged = Judged::of(run, all.root.clone(), rest, false)?;
    let decision = Decision::of(run)?;
    let task = run.split.dataset.task;
    let scores = predict::scores(task, &judged.int8, decision.temperature());
    let decided = decision.decide(task, &run.roles(), &scores, &judged.beyond)?;
    let predicted: Vec<Vec<usize>> = decided.iter().map(|d| decision::predicted(task, d)).collect();
    let truth = judged.truth();
    let of = |t: usize| {
        let c = metrics::counts(&predicted, &truth, t);
        (c.recall().unwrap_or(0.0), c.precision().unwrap_or(0.0))
    };
    Ok((0..all.tags.len()).map(of).collect())
}
