//! `bar good-only`: how well the distance of good parts alone tells bad ones, on drawn parts or on
//! a folder of tags.

use super::Seeds;
use crate::backbone;
use crate::data::{self, sources};
use crate::good::{self, auroc};
use crate::graph::Graph;
use crate::metrics::wilson;
use crate::train::{domain::Domain, shuffle};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::PathBuf;
use tagpin::bundle::Fit;
use tagpin::distance::Distance;
use tagpin::frame::{Colour, FrameView, Layout, PixelFormat};
use tagpin::preprocess::{Preprocessor, Target};
use tagpin::random::Random;
use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};

/// AUROC and false rejects of good parts only: whole gears against chipped ones, or one tag against
/// the others.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A folder of tagged images, with --good; without it drawn gears, whole and chipped, in and
    /// beyond the range of light.
    #[arg(long, requires = "good")]
    data: Option<PathBuf>,
    /// The tag whose images are good.
    #[arg(long, requires = "data")]
    good: Option<String>,
    /// A backbone, as `backbone import` makes it.
    #[arg(long)]
    backbone: PathBuf,
    /// Seeds of what is drawn or chosen, as in 1..3.
    #[arg(long, default_value = "1")]
    seeds: Seeds,
    /// Good images to train on.
    #[arg(long, default_value_t = 200)]
    train: usize,
    /// Good and bad images to judge by, each, of each set.
    #[arg(long, default_value_t = 100)]
    judge: usize,
    /// Print the figures as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Good and bad images that were not trained on.
struct Set {
    name: &'static str,
    good: Vec<Vec<u8>>,
    bad: Vec<Vec<u8>>,
}

/// One set's figures.
#[derive(Clone, Debug, Serialize)]
struct Judged {
    set: String,
    good: usize,
    bad: usize,
    auroc: f64,
    /// Share of good images beyond the limit, with its interval.
    false_rejects: [f64; 3],
    /// Share of bad images beyond it, with its interval.
    recall: [f64; 3],
}

/// One seed's figures.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    seed: u64,
    trained: usize,
    limit: f64,
    sets: Vec<Judged>,
}

/// Computes and prints.
pub fn run(args: &Args) -> Result<()> {
    let backbone = backbone::load(&args.backbone, None, None)?;
    let mut all = Vec::new();
    for seed in args.seeds.0.clone() {
        let figures = of_seed(args, &backbone, seed)?;
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

fn of_seed(args: &Args, backbone: &Graph, seed: u64) -> Result<Figures> {
    let (train, sets, domain) = match (&args.data, &args.good) {
        (Some(folder), Some(tag)) => {
            let (train, set) = tagged(args, backbone, folder, tag, seed)?;
            (train, vec![set], Domain::General)
        }
        _ => {
            // The middle of a drawn frame, for fit and figures alike.
            let target = data::target(backbone.side, Fit::Crop)?;
            let draw = |kind, conditions: &Conditions, stream, n| drawn(kind, conditions, seed, stream, n, target);
            let set = |name, conditions: &Conditions, stream| -> Result<Set> {
                let bad = draw(Kind::GearChipped, conditions, stream + 1, args.judge)?;
                Ok(Set { name, good: draw(Kind::Gear, conditions, stream, args.judge)?, bad })
            };
            let light = Conditions { light: Conditions::BEYOND.light, ..Conditions::TRAINING };
            let sets = vec![
                set("in range", &Conditions::TRAINING, 2)?,
                set("light out of range", &light, 4)?,
                set("light, blur and rotation out of range", &Conditions::BEYOND, 6)?,
            ];
            (draw(Kind::Gear, &Conditions::TRAINING, 1, args.train)?, sets, Domain::Conveyor)
        }
    };
    ensure!(train.len() >= good::FEWEST, "{} good images to train on, at least {} are needed", train.len(), good::FEWEST);
    let model = good::fit_on(backbone, &train, domain, None)?;
    let (mut judged, mut every): (Vec<Judged>, [Vec<Distance>; 2]) = (Vec::new(), [Vec::new(), Vec::new()]);
    for set in &sets {
        let (of_good, of_bad) = (model.distances(&set.good)?, model.distances(&set.bad)?);
        judged.push(judge(set.name, &of_good, &of_bad, model.limit()));
        // What lies out of range in more than light is told, and not counted among the rest.
        if judged.len() < 3 {
            every[0].extend(of_good);
            every[1].extend(of_bad);
        }
    }
    if sets.len() > 1 {
        judged.push(judge("in range and light out of range", &every[0], &every[1], model.limit()));
    }
    Ok(Figures { seed, trained: train.len(), limit: model.limit().real(), sets: judged })
}

fn judge(set: &str, good: &[Distance], bad: &[Distance], limit: Distance) -> Judged {
    let share = |of: &[Distance]| {
        let i = wilson(of.iter().filter(|d| **d > limit).count(), of.len());
        [i.value, i.low, i.high]
    };
    Judged {
        set: set.into(),
        good: good.len(),
        bad: bad.len(),
        auroc: auroc(good, bad),
        false_rejects: share(good),
        recall: share(bad),
    }
}

/// Drawn parts as a model of this target sees them; `stream` keeps those of one seed apart.
pub(super) fn drawn(
    kind: Kind,
    conditions: &Conditions,
    seed: u64,
    stream: u64,
    n: usize,
    target: Target,
) -> Result<Vec<Vec<u8>>> {
    let mut preprocessor = Preprocessor::new(target);
    let layout = Layout::packed(PixelFormat::Rgb8, Colour::default(), WIDTH as u32, HEIGHT as u32);
    let mut rgb = vec![0; WIDTH * HEIGHT * 3];
    let one = |i: usize| {
        // Belt positions as far apart as `synth` draws them, and no farther: its texture is only so
        // long.
        let number = stream * 10_000 + i as u64;
        render(&Shot::draw(kind, conditions, seed, number), number * 1000, &mut rgb);
        data::at_size(&FrameView::new(layout, &rgb)?, &mut preprocessor)
    };
    (0..n).map(one).collect()
}

/// One tag's images to train on and to judge by, and as many of the others.
fn tagged(args: &Args, backbone: &Graph, folder: &std::path::Path, good: &str, seed: u64) -> Result<(Vec<Vec<u8>>, Set)> {
    let dataset = sources::open(folder, None)?.dataset;
    let tag = dataset.tags.iter().position(|t| t == good);
    let tag = tag.with_context(|| format!("--good {good}: the tags are {}", dataset.tags.join(", ")))?;
    let mut random = Random::new(seed, 0x600d);
    let mut order: Vec<_> = dataset.entries.clone();
    shuffle(&mut order, &mut random);
    let (of_tag, others): (Vec<_>, Vec<_>) = order.into_iter().partition(|e| e.tags.contains(&tag));
    let judge = args.judge.min(of_tag.len() / 3);
    ensure!(judge > 0 && !others.is_empty(), "--good {good}: too few images of it or of others");
    let (judged, rest) = of_tag.split_at(judge);
    let target = data::target(backbone.side, Fit::Stretch)?;
    let load = |entries: &[data::Entry]| data::load(&dataset.root, entries, target);
    let set = Set { name: "tag", good: load(judged)?, bad: load(&others[..args.judge.min(others.len())])? };
    Ok((load(&rest[..args.train.min(rest.len())])?, set))
}

fn print(f: &Figures) {
    println!("seed {}: {} good images, limit {:.2}", f.seed, f.trained, f.limit);
    let share = |[value, low, high]: [f64; 3]| format!("{value:.3} [{low:.3}, {high:.3}]");
    for s in &f.sets {
        println!(
            "  {:<40} {} good, {} bad: AUROC {:.3}, false rejects {}, recall {}",
            s.set,
            s.good,
            s.bad,
            s.auroc,
            share(s.false_rejects),
            share(s.recall)
        );
    }
}
