//! `train --quick`: a frozen backbone's features and a logistic regression on them, joined to one graph.
//!
//! Does not change the backbone.

use crate::data::{Entry, split::{Side, Split}};
use crate::features;
use crate::graph::Graph;
use crate::head::{self, Examples, Fitted};
use anyhow::Result;
use tagpin::bundle::Fit;

/// A backbone with a head learnt on it.
pub struct Quick {
    /// All of it.
    pub graph: Graph,
    /// How the head was chosen.
    pub fitted: Fitted,
    /// Share right on validation.
    pub validation: f64,
    /// Pictures whose features were not known yet.
    pub computed: usize,
}

/// Features and tags of one side.
pub struct SideFeatures {
    /// `[n][features]`.
    pub features: Vec<Vec<f32>>,
    /// `[n]`.
    pub tags: Vec<Vec<usize>>,
}

impl SideFeatures {
    /// As the head takes them.
    pub fn examples(&self) -> Examples<'_> {
        Examples { features: &self.features, tags: &self.tags }
    }
}

/// Features of the pictures of each side, `[train, validation, test]`; and how many had to be computed.
pub fn sides(split: &Split, backbone: &Graph, fit: Fit) -> Result<([SideFeatures; 3], usize)> {
    let all = split.dataset.entries.iter();
    let entries: Vec<Entry> = all.cloned().collect();
    let (features, computed) = features::of(&split.dataset.root, &entries, backbone, fit)?;
    let of = |side: Side| {
        let chosen = || (0..entries.len()).filter(|&i| split.sides[i] == side);
        SideFeatures {
            features: chosen().map(|i| features[i].clone()).collect(),
            tags: chosen().map(|i| entries[i].tags.clone()).collect(),
        }
    };
    Ok((Side::ALL.map(of), computed))
}

/// Learns a head for `backbone`.
pub fn train(split: &Split, backbone: Graph, fit: Fit) -> Result<Quick> {
    let ([train, validation, _], computed) = sides(split, &backbone, fit)?;
    let tags = split.dataset.tags.len();
    let fitted = head::fit(&train.examples(), &validation.examples(), tags, split.dataset.task)?;
    let chosen = fitted.tried.iter().find(|t| t.0 == fitted.penalty).map_or(0.0, |t| t.2);
    Ok(Quick { graph: backbone.with_head(fitted.linear.clone()), fitted, validation: chosen, computed })
}
