//! `bar foreign`: what a bundle refuses of other things and of nothing, and how much of its own
//! parts; and tags that a backbone was never trained on, by the distance and by the scores.

use super::Seeds;
use super::good_only::drawn;
use crate::data::split::{self, SHARES, Side};
use crate::data::{self, check, split::Split};
use crate::distance::fit;
use crate::distance::observe::{Changes, Observer};
use crate::distance::{Caught, nothing};
use crate::good::{Images, auroc};
use crate::metrics::wilson;
use crate::predict::Int8;
use crate::train::{domain::Domain, quick};
use crate::{backbone, head};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::PathBuf;
use tagpin::bundle::{Bundle, Fit};
use tagpin::decide::Role;
use tagpin::distance::Distance;
use tagpin::engine::Engine;
use tagpin::preprocess::quantise;
use tagpin::scene::{Conditions, Kind};

/// What is foreign to a bundle, and to a backbone that never saw a tag.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A folder of tagged images that show no metal part.
    #[arg(long)]
    data: PathBuf,
    /// A backbone: each tag of --data is left out in turn, and its images are told from those of
    /// the other tags.
    #[arg(long)]
    backbone: Option<PathBuf>,
    /// The bundle of drawn parts.
    #[arg(long, default_value = "models/parts.tagpin")]
    bundle: PathBuf,
    /// Seeds of drawn parts and of splits, as in 1..3.
    #[arg(long, default_value = "1")]
    seeds: Seeds,
    /// Parts to draw of each kind, in range and beyond it.
    #[arg(long, default_value_t = 100)]
    parts: usize,
    /// Print the figures as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// A share with its interval.
#[derive(Clone, Debug, Serialize)]
struct Refused {
    set: String,
    images: usize,
    foreign: usize,
    /// Value, low, high.
    share: [f64; 3],
}

/// AUROC of a tag left out against the tags trained on, by three ways of telling.
#[derive(Clone, Debug, Serialize)]
struct LeftOut {
    tag: String,
    images: usize,
    distance: f64,
    /// One minus the highest softmax.
    softmax: f64,
    /// Minus the log of the sum of the exponentials of the logits.
    energy: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Figures {
    seed: u64,
    bundle: Vec<Refused>,
    left_out: Vec<LeftOut>,
}

/// Computes and prints.
pub fn run(args: &Args) -> Result<()> {
    let mut all = Vec::new();
    for seed in args.seeds.0.clone() {
        let figures = Figures { seed, bundle: of_bundle(args, seed)?, left_out: tags_left_out(args, seed)? };
        if !args.json {
            print(&figures);
        }
        all.push(figures);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

/// By the bundle as a board has it: its own engine, tables and limit.
fn of_bundle(args: &Args, seed: u64) -> Result<Vec<Refused>> {
    let bytes = tagpin::regular::read(&args.bundle, tagpin::regular::BUNDLE)
        .with_context(|| format!("{} cannot be read", args.bundle.display()))?;
    let bundle = Bundle::read(&bytes).map_err(|e| anyhow::anyhow!("bundle {}: {e}", args.bundle.display()))?;
    let limit = bundle.spread.as_ref().with_context(|| format!("{} has no distance", args.bundle.display()))?.limit();
    let mut engine = Engine::from_bundle(&bundle)?;
    let input = bundle.contract.input;
    let (mut tensor, mut logits) = (vec![0; engine.spec().input.iter().product()], vec![0; engine.spec().logits]);
    let mut refused = |set: &str, images: &[Vec<u8>]| -> Result<Refused> {
        let mut distances = Vec::new();
        for rgb in images {
            quantise(rgb, input.tables.int8, &mut tensor);
            engine.infer(&tensor, &mut logits)?;
            distances.push(engine.distance().context("the bundle has a distance")?);
        }
        let c = Caught::new(set, &distances, limit);
        let i = c.share();
        Ok(Refused { set: c.name, images: c.images, foreign: c.beyond, share: [i.value, i.low, i.high] })
    };
    let side = input.width as usize;
    // As the bundle brings frames to its model, own parts too.
    let target = data::target(side, input.fit)?;
    let mut all = Vec::new();
    for (name, conditions) in [("own parts, in range", Conditions::TRAINING), ("own parts, beyond", Conditions::BEYOND)] {
        let mut images = Vec::new();
        for (stream, kind) in Kind::ALL.into_iter().enumerate() {
            // Seeds of their own: the shipped model's images are of seeds 1 and 2.
            images.extend(drawn(kind, &conditions, seed + 1000, stream as u64, args.parts, target)?);
        }
        all.push(refused(name, &images)?);
    }
    all.push(refused("photographs", &Images::of(&args.data, target)?.rgb)?);
    for (name, images) in nothing(side) {
        all.push(refused(name, &images)?);
    }
    Ok(all)
}

/// With each tag left out of what a head and a distance are fitted on.
fn tags_left_out(args: &Args, seed: u64) -> Result<Vec<LeftOut>> {
    let Some(file) = &args.backbone else { return Ok(Vec::new()) };
    let backbone = backbone::load(file, None, None)?;
    let split = split::split(check::check(&args.data, None, None, true)?, None, SHARES, seed)?;
    let fit_as = Fit::Stretch;
    let roles = vec![Role::Other; split.dataset.tags.len()];
    let quick = quick::train(&split, backbone.clone(), fit_as, &roles, &quick::Learn::plain(seed))?;
    let observer = Observer::of(Int8::load(&quick.int8, quick.graph.normalise)?)?;
    let target = data::target(quick.graph.side, fit_as)?;
    let load = |side| data::load(&split.dataset.root, &split.entries(side), target);
    let changes = Changes { augment: Domain::General.augment(), views: 1, seed };
    let train = load(Side::Train)?;
    let (plain, changed) = (observer.features(&train)?, observer.changed(&train, changes)?);
    let test = observer.features(&load(Side::Test)?)?;
    let ([seen, held, judged], _) = quick::sides(&split, &crate::features::Network::Float(&backbone), fit_as, Side::ALL)?;
    let tags = &split.dataset.tags;
    ensure!(tags.len() > 2, "{} tags: leaving one out needs at least 3", tags.len());
    (0..tags.len()).map(|tag| left_out(tag, &split, &observer, [&plain, &changed, &test], [&seen, &held, &judged])).collect()
}

fn left_out(
    tag: usize,
    split: &Split,
    observer: &Observer,
    [plain, changed, test]: [&Vec<Vec<i32>>; 3],
    [seen, held, judged]: [&quick::SideFeatures; 3],
) -> Result<LeftOut> {
    let known = |tags: &[Vec<usize>]| (0..tags.len()).filter(|i| !tags[*i].contains(&tag)).collect::<Vec<_>>();
    let rows = known(&seen.tags);
    let features: Vec<&[i32]> = [plain, changed].iter().flat_map(|f| rows.iter().map(|&i| f[i].as_slice())).collect();
    let fitted = fit::fit(&features, &observer.stages, fit::most_axes(plain[0].len(), observer.macs))?;
    let distances = fitted.distances(&observer.stages, &test.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    // Tags behind the one left out move up.
    let without = |side: &quick::SideFeatures| quick::SideFeatures {
        features: known(&side.tags).into_iter().map(|i| side.features[i].clone()).collect(),
        copies: known(&side.tags).into_iter().map(|i| side.copies[i].clone()).collect(),
        tags: known(&side.tags)
            .into_iter()
            .map(|i| side.tags[i].iter().map(|&t| t - usize::from(t > tag)).collect())
            .collect(),
    };
    let (seen, held) = (without(seen), without(held));
    let count = split.dataset.tags.len() - 1;
    let linear = head::fit(&seen.examples(), &held.examples(), count, split.dataset.task, head::ChosenBy::Images)?.linear;
    let scores = |of: &dyn Fn(&[f32]) -> f64| -> Vec<Distance> {
        // Larger is more foreign, as with a distance; only the order counts.
        judged.features.iter().map(|f| Distance::from_real(1000.0 + of(&head::apply(&linear, f)))).collect()
    };
    let total = |logits: &[f32]| {
        let most = logits.iter().copied().fold(f32::MIN, f32::max) as f64;
        most + logits.iter().map(|l| (*l as f64 - most).exp()).sum::<f64>().ln()
    };
    let softmax = scores(&|l| -(l.iter().copied().fold(f32::MIN, f32::max) as f64 - total(l)).exp());
    let energy = scores(&|l| -total(l));
    let by = |d: &[Distance]| {
        let of = |is: bool| -> Vec<Distance> {
            (0..d.len()).filter(|i| judged.tags[*i].contains(&tag) == is).map(|i| d[i]).collect()
        };
        auroc(&of(false), &of(true))
    };
    let images = judged.tags.iter().filter(|t| t.contains(&tag)).count();
    ensure!(images > 0, "tag \"{}\" has no test image", split.dataset.tags[tag]);
    Ok(LeftOut {
        tag: split.dataset.tags[tag].clone(),
        images,
        distance: by(&distances),
        softmax: by(&softmax),
        energy: by(&energy),
    })
}

fn print(f: &Figures) {
    println!("seed {}", f.seed);
    for r in &f.bundle {
        let i = wilson(r.foreign, r.images);
        println!("  {:<24} {:>5} images, foreign {i}", r.set, r.images);
    }
    if !f.left_out.is_empty() {
        println!("  AUROC of a tag left out          distance  softmax  energy");
    }
    for l in &f.left_out {
        println!("  {:<20} {:>4} images {:>12.3} {:>8.3} {:>7.3}", l.tag, l.images, l.distance, l.softmax, l.energy);
    }
}
