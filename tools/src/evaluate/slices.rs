//! Splits a test set into slices by light, sharpness, file size, folder and the user's columns, and
//! gives the share right in each: an average hides where a model fails.

use crate::data::survey::light;
use crate::judged::Judged;
use crate::metrics::{self, Interval};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A slice of a test set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// What its images have in common.
    pub name: String,
    /// Number of images.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Share right.
    pub right: Interval,
}

/// Slices of fewer images are left out.
const FEWEST: usize = 5;

/// All slices, worst first. `rights`: `[images]`.
pub fn slices(judged: &Judged, rights: &[bool], side: usize) -> Vec<Slice> {
    let looks: Vec<(f32, f32)> = judged.rgb.par_iter().map(|rgb| light(rgb, side)).collect();
    let mut parts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut thirds = |name: [&str; 3], value: &dyn Fn(usize) -> f32| {
        let mut order: Vec<usize> = (0..rights.len()).collect();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        for (rank, i) in order.iter().enumerate() {
            parts.entry(name[rank * 3 / order.len()].to_string()).or_default().push(*i);
        }
    };
    thirds(["darkest third", "middle third by light", "brightest third"], &|i| looks[i].0);
    thirds(["most blurred third", "middle third by sharpness", "sharpest third"], &|i| looks[i].1);
    let bytes: Vec<u64> =
        judged.entries.iter().map(|e| std::fs::metadata(judged.root.join(&e.path)).map_or(0, |m| m.len())).collect();
    thirds(["smallest third by file size", "middle third by file size", "largest third by file size"], &|i| bytes[i] as f32);
    for (i, e) in judged.entries.iter().enumerate() {
        for (column, value) in e.columns.iter().filter(|(c, _)| *c != "side") {
            parts.entry(format!("{column} = {value}")).or_default().push(i);
        }
    }
    let slice = |(name, of): (String, Vec<usize>)| {
        let right = of.iter().filter(|&&i| rights[i]).count();
        Slice { name, images: of.len(), right: metrics::wilson(right, of.len()) }
    };
    let mut all: Vec<Slice> = parts.into_iter().filter(|(_, of)| of.len() >= FEWEST).map(slice).collect();
    all.sort_by(|a, b| a.right.value.total_cmp(&b.right.value).then(a.name.cmp(&b.name)));
    all
}
