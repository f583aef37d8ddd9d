//! `train --quick`: a frozen backbone's features and a logistic regression on them, joined to one graph in f32 and in int8.
//!
//! Does not change the backbone.

use crate::data::{
    self, Entry,
    split::{Side, Split},
};
use crate::features;
use crate::graph::Graph;
use crate::head::{self, Examples, Fitted};
use crate::predict;
use crate::quantise::{self, Pictures, Quantisation};

use anyhow::Result;
use tagpin::bundle::Fit;

/// A backbone with a head learnt on it.
pub struct Quick {
    /// All of it.
    pub graph: Graph,
    /// How the head was chosen.
    pub fitted: Fitted,
    /// It in int8.
    pub int8: Vec<u8>,
    /// How that was chosen.
    pub quantisation: Quantisation,
    /// Share right on validation, int8.
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

/// Penalty of the head by which the network is quantised: of the right size for features of a backbone.
const PROVISIONAL: f32 = 100.0;

/// Learns a head for `backbone`: first on float features, by which the network is quantised; then on the features that the
/// int8 network gives, which are the ones that the device will see.
pub fn train(split: &Split, backbone: Graph, fit: Fit) -> Result<Quick> {
    let ([train, validation, _], computed) = sides(split, &backbone, fit)?;
    let (tags, task) = (split.dataset.tags.len(), split.dataset.task);
    let first = head::fit_one(&train.examples(), tags, task, PROVISIONAL)?;
    let target = data::target(backbone.side, fit)?;
    let options = quantise::Options::default();
    let pictures = Pictures::of(split, target, &options)?;
    let (calibration, choice) = (Pictures::refs(&pictures.calibration), Pictures::refs(&pictures.choice));
    let whole = backbone.clone().with_head(first);
    let chosen = quantise::choose(&whole, task, &calibration, &choice, options.calibrator)?;
    let int8_backbone = chosen.headless()?;
    let int8 = |rgb: &[Vec<u8>]| -> Result<Vec<Vec<f32>>> {
        Ok(predict::real(&predict::int8(&int8_backbone, backbone.normalise, &Pictures::refs(rgb))?))
    };
    let load = |side: Side| data::load(&split.dataset.root, &split.entries(side), target);
    let seen = SideFeatures { features: int8(&load(Side::Train)?)?, tags: train.tags };
    let held = SideFeatures { features: int8(&load(Side::Validation)?)?, tags: validation.tags };
    let fitted = head::fit(&seen.examples(), &held.examples(), tags, task)?;
    let graph = backbone.with_head(fitted.linear.clone());
    let chosen = chosen.with_head(&fitted.linear, &graph, task, &choice)?;
    Ok(Quick {
        quantisation: chosen.summary(calibration.len(), choice.len()),
        validation: fitted.tried.iter().find(|t| t.0 == fitted.penalty).map_or(0.0, |t| t.2),
        int8: chosen.onnx,
        graph,
        fitted,
        computed,
    })
}
