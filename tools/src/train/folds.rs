//! Cross-validation: the data is cut into folds, and each image is judged by a head that was not
//! fitted to its fold.
//!
//! With little data, a test side of a few dozen images says little; this judges all images. Images
//! of the same part are in one fold. Each head is fitted to as many images as the run's own head,
//! so that it is as good and no better.

use super::quick::{Learn, SideFeatures};
use crate::data::split::{Side, Split};
use crate::head;
use crate::run::Run;
use crate::run_folder;
use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tagpin::random::Random;

/// What the heads say: `folds.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Folds {
    /// Parts.
    pub folds: usize,
    /// `[images]` in the order of the dataset, `[tags]`: logits by the head that was not fitted to
    /// the image.
    pub logits: Vec<Vec<f32>>,
}

impl Folds {
    /// A run's, if it made any.
    pub fn of(run: &Run) -> Result<Option<Self>> {
        let path = run.file("folds.json");
        if !path.exists() {
            return Ok(None);
        }
        let folds: Self = run_folder::read_json(&path, "train")?;
        let tags = run.split.dataset.tags.len();
        let whole = folds.logits.len() == run.split.sides.len() && folds.logits.iter().all(|l| l.len() == tags);
        ensure!(whole, "{} is of another split; train again", path.display());
        Ok(Some(folds))
    }
}

/// With this many test images of the rarest tag, the test side alone is enough.
pub const AMPLE: usize = 200;

/// The part of each image, `[images]`, values below `folds`. Clusters are dealt out, those of the
/// rarest tags first.
fn parts(split: &Split, folds: usize, seed: u64) -> Vec<usize> {
    let counts = split.dataset.counts();
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    split.clusters.iter().enumerate().for_each(|(i, c)| members.entry(*c).or_default().push(i));
    let mut clusters: Vec<Vec<usize>> = members.into_values().collect();
    super::shuffle(&mut clusters, &mut Random::new(seed, 0xf01d));
    let rarest = |m: &[usize]| {
        let tags = m.iter().flat_map(|&i| &split.dataset.entries[i].tags);
        tags.map(|&t| (counts[t], t)).min().unwrap_or((usize::MAX, 0))
    };
    clusters.sort_by_key(|m| rarest(m));
    let mut part = vec![0; split.sides.len()];
    for (k, m) in clusters.iter().enumerate() {
        m.iter().for_each(|&i| part[i] = k % folds);
    }
    part
}

/// The part of each image of one side, in the split's order.
pub fn parts_of(split: &Split, folds: usize, seed: u64, side: Side) -> Vec<usize> {
    let all = parts(split, folds, seed).into_iter().zip(&split.sides);
    all.filter(|(_, of)| **of == side).map(|(part, _)| part).collect()
}

/// Judges all images. `all`: features and tags in the order of the dataset, with their copies;
/// `more`: further examples for every head. `None` if a tag is too rare to be in the training
/// images of every fold.
pub fn judge(split: &Split, all: &SideFeatures, more: &SideFeatures, penalty: f32, learn: &Learn) -> Result<Option<Folds>> {
    let (folds, seed) = (learn.folds, learn.seed);
    let part = parts(split, folds, seed);
    let trained = split.sides.iter().filter(|s| **s == Side::Train).count();
    let (tags, task) = (split.dataset.tags.len(), split.dataset.task);
    let one = |fold: usize| -> Result<Option<head::Linear>> {
        let mut clusters: Vec<usize> = (0..part.len()).filter(|&i| part[i] != fold).map(|i| split.clusters[i]).collect();
        clusters.sort_unstable();
        clusters.dedup();
        super::shuffle(&mut clusters, &mut Random::new(seed, 0xf01e + fold as u64));
        let rank: BTreeMap<usize, usize> = clusters.iter().enumerate().map(|(r, c)| (*c, r)).collect();
        let mut others: Vec<usize> = (0..part.len()).filter(|&i| part[i] != fold).collect();
        others.sort_by_key(|&i| (rank[&split.clusters[i]], i));
        others.truncate(trained);
        let seen = SideFeatures {
            features: others.iter().map(|&i| all.features[i].clone()).collect(),
            copies: others.iter().map(|&i| all.copies[i].clone()).collect(),
            tags: others.iter().map(|&i| all.tags[i].clone()).collect(),
        };
        // Without an image of a tag, or with nothing else, there is no head to fit.
        let there = (0..tags).all(|t| {
            let n = seen.tags.iter().filter(|of| of.contains(&t)).count();
            n > 0 && n < others.len()
        });
        if !there {
            return Ok(None);
        }
        head::fit_one(&seen.trained_on(tags, learn.balance).with(more).examples(), tags, task, penalty, head::FLAT).map(Some)
    };
    let heads: Option<Vec<head::Linear>> = (0..folds).into_par_iter().map(one).collect::<Result<_>>()?;
    let logits =
        |heads: Vec<head::Linear>| all.features.iter().zip(&part).map(|(f, &p)| head::apply(&heads[p], f)).collect();
    Ok(heads.map(|heads| Folds { folds, logits: logits(heads) }))
}
