//! What a model must beat: the most frequent tag, nearest mean colour, and logistic regression on
//! small grey images.
//!
//! A network that hardly beats them is not needed, or was not trained well: compare it with these
//! before trusting its figures.

use crate::data::TaskName;
use crate::head::{self, Examples};
use crate::metrics;
use anyhow::Result;
use rayon::prelude::*;

/// A baseline's share of right answers.
pub struct Baseline {
    /// What it does, for people.
    pub name: &'static str,
    /// `[test images]`: whether it is right.
    pub rights: Vec<bool>,
}

/// Images of one size with their tags.
pub struct Tagged<'a> {
    /// `[n]`, each `[side, side, 3]`.
    pub rgb: &'a [&'a [u8]],
    /// `[n]`.
    pub truth: &'a [Vec<usize>],
}

/// Fits every baseline on `train` and judges it on `test`.
pub fn all(train: &Tagged<'_>, test: &Tagged<'_>, tags: usize, task: TaskName, side: usize) -> Result<Vec<Baseline>> {
    let right = |scores: &[Vec<f32>], half| metrics::rights(scores, test.truth, task, half);
    let shares: Vec<f32> = (0..tags)
        .map(|t| train.truth.iter().filter(|of| of.contains(&t)).count() as f32 / train.truth.len().max(1) as f32)
        .collect();
    let majority = vec![shares; test.truth.len()];
    let mut found = vec![Baseline { name: "most frequent tag", rights: right(&majority, 0.5) }];
    if task == TaskName::Multiclass {
        found.push(Baseline { name: "nearest mean colour", rights: right(&mean_colour(train, test, tags), 0.5) });
    }
    let grey = |t: &Tagged<'_>| -> Vec<Vec<f32>> { t.rgb.par_iter().map(|p| grey(p, side)).collect() };
    let (a, b) = (grey(train), grey(test));
    // The penalty is fixed: a baseline gets no validation set of its own.
    let linear = head::fit_one(&Examples { features: &a, tags: train.truth }, tags, task, 100.0, head::FLAT)?;
    let logits: Vec<Vec<f32>> = b.iter().map(|f| head::apply(&linear, f)).collect();
    found.push(Baseline { name: "logistic regression on 24x24 grey", rights: right(&logits, 0.0) });
    Ok(found)
}

/// Minus the squared distance to each tag's mean colour.
fn mean_colour(train: &Tagged<'_>, test: &Tagged<'_>, tags: usize) -> Vec<Vec<f32>> {
    let mean = |rgb: &[u8]| -> [f64; 3] {
        std::array::from_fn(|c| rgb.iter().skip(c).step_by(3).map(|&v| v as f64).sum::<f64>() / (rgb.len() / 3) as f64)
    };
    let mut centres = vec![([0.0; 3], 0.0); tags];
    for (rgb, truth) in train.rgb.iter().zip(train.truth) {
        let (centre, n) = &mut centres[truth[0]];
        centre.iter_mut().zip(mean(rgb)).for_each(|(c, m)| *c += m);
        *n += 1.0;
    }
    let scores = |rgb: &&[u8]| {
        let m = mean(rgb);
        let off = |(c, n): &([f64; 3], f64)| -> f64 { c.iter().zip(m).map(|(c, m)| (c / n - m).powi(2)).sum() };
        centres.iter().map(|c| if c.1 > 0.0 { -off(c) as f32 } else { f32::NEG_INFINITY }).collect()
    };
    test.rgb.par_iter().map(scores).collect()
}

/// Side of the grey images of the regression.
const GREY: usize = 24;

fn grey(rgb: &[u8], side: usize) -> Vec<f32> {
    let mut cells = vec![(0u32, 0u32); GREY * GREY];
    for (i, p) in rgb.chunks_exact(3).enumerate() {
        let (sum, n) = &mut cells[i / side * GREY / side * GREY + i % side * GREY / side];
        *sum += p.iter().map(|&v| v as u32).sum::<u32>();
        *n += 3;
    }
    cells.into_iter().map(|(sum, n)| sum as f32 / n.max(1) as f32 / 255.0).collect()
}
