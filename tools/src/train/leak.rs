//! Measures how much a leak inflates test figures, over several seeds.
//!
//! Each seed splits the images twice: by whole clusters (twins and groups), and image by image, so
//! that a twin of a test image may be trained on. A head is trained on each split and judged on
//! that split's test images. All else is equal.

use super::quick;
use crate::data::split::{self, Side, Split};
use crate::features::Network;
use crate::graph::Graph;
use crate::head;
use crate::metrics::{self, Interval};
use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tagpin::bundle::Fit;

/// Splits of each kind.
pub const SEEDS: u64 = 10;
/// Student's t at 97.5 % with nine degrees of freedom.
const STUDENT: f64 = 2.262;

/// Shares right on test images, over the seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leak {
    /// Seeds of the splits.
    pub seeds: Vec<u64>,
    /// Penalty of the heads.
    pub penalty: f32,
    /// Share of test images of the careless splits that had a twin or an image of their group in
    /// training.
    pub leaked: f64,
    /// `[seeds]`, clusters kept together.
    pub honest: Vec<f64>,
    /// `[seeds]`, images split one by one.
    pub leaky: Vec<f64>,
    /// Mean of the honest ones, with its 95 % interval (Student).
    pub honest_mean: Interval,
    /// Mean of the leaky ones.
    pub leaky_mean: Interval,
    /// Mean of leaky minus honest, seed by seed.
    pub difference: Interval,
}

/// Measures the leak with features of `backbone` and heads of this penalty.
pub fn measure(split: &Split, backbone: &Graph, fit: Fit, penalty: f32, first_seed: u64) -> Result<Leak> {
    let n = split.sides.len();
    let mut all = split.clone();
    all.sides = vec![Side::Train; n];
    let ([features], _) = quick::sides(&all, &Network::Float(backbone), fit, [Side::Train])?;
    let (tags, task) = (split.dataset.tags.len(), split.dataset.task);
    let figure = |sides: &[Side]| -> Result<f64> {
        let of = |side: Side| (0..n).filter(move |&i| sides[i] == side);
        let taken = |side: Side| quick::SideFeatures {
            features: of(side).map(|i| features.features[i].clone()).collect(),
            copies: vec![Vec::new(); of(side).count()],
            tags: of(side).map(|i| features.tags[i].clone()).collect(),
        };
        let (train, test) = (taken(Side::Train), taken(Side::Test));
        let linear = head::fit_one(&train.examples(), tags, task, penalty, 100.0 * head::FLAT)?;
        let logits: Vec<Vec<f32>> = test.features.iter().map(|f| head::apply(&linear, f)).collect();
        Ok(metrics::right(&logits, &test.tags, task))
    };
    let leaked = |sides: &[Side]| {
        let trained: std::collections::HashSet<usize> =
            (0..n).filter(|&i| sides[i] == Side::Train).map(|i| split.clusters[i]).collect();
        let test = || (0..n).filter(|&i| sides[i] == Side::Test);
        test().filter(|&i| trained.contains(&split.clusters[i])).count() as f64 / test().count().max(1) as f64
    };
    let seeds: Vec<u64> = (first_seed..first_seed + SEEDS).collect();
    let bar = crate::progress::bar("leak", 2 * SEEDS);
    let of_seed = |&seed: &u64| -> Result<(f64, f64, f64)> {
        let loose = split::regardless(split, seed);
        let one = (figure(&split::again(split, seed))?, figure(&loose)?, leaked(&loose));
        bar.inc(2);
        Ok(one)
    };
    let made: Vec<(f64, f64, f64)> = seeds.par_iter().map(of_seed).collect::<Result<_>>()?;
    bar.finish_and_clear();
    let honest: Vec<f64> = made.iter().map(|m| m.0).collect();
    let leaky: Vec<f64> = made.iter().map(|m| m.1).collect();
    let differences: Vec<f64> = made.iter().map(|m| m.1 - m.0).collect();
    Ok(Leak {
        seeds,
        penalty,
        leaked: made.iter().map(|m| m.2).sum::<f64>() / made.len() as f64,
        honest_mean: mean(&honest),
        leaky_mean: mean(&leaky),
        difference: mean(&differences),
        honest,
        leaky,
    })
}

/// Mean of [`SEEDS`] values with its 95 % interval.
fn mean(values: &[f64]) -> Interval {
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let half = STUDENT * deviation / n.sqrt();
    Interval { value, low: value - half, high: value + half }
}

/// Shows both side by side.
pub fn print(leak: &Leak) {
    println!(
        "\nwhat a leak does to the figure (share right on test images, float, {} splits of each kind)",
        leak.seeds.len()
    );
    println!("  {:<62}{}", "twins and groups kept together: honest", leak.honest_mean);
    println!("  {:<62}{}", "the same images split one by one", leak.leaky_mean);
    let apart = leak.leaky_mean.low > leak.honest_mean.high;
    let told = match (apart, leak.difference.low > 0.0) {
        (true, _) => "intervals apart: the leak flatters",
        (false, true) => "the leak flatters",
        (false, false) => "not to be told from chance",
    };
    println!(
        "  {:<62}{:+.3} [{:+.3}, {:+.3}]  {told}",
        "difference", leak.difference.value, leak.difference.low, leak.difference.high
    );
    println!("  {:.1} % of the test images split one by one had a sibling in training\n", 100.0 * leak.leaked);
}
