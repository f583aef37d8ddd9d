//! `train --quick`: a frozen backbone's features and a logistic regression on them, joined to one
//! graph in f32 and in int8.
//!
//! Does not change the backbone.

use super::folds::{self, Folds};
use super::nothing;
use crate::data::{
    self, Entry,
    split::{Side, Split},
};
use crate::features::{self, Network};
use crate::graph::{Graph, Linear};
use crate::head::{self, Examples, Fitted};
use crate::quantise::{self, Choice, Pictures, Quantisation};
use anyhow::Result;
use tagpin::bundle::Fit;
use tagpin::decide::Role;

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
    /// Images whose features were not known yet.
    pub computed: usize,
    /// All images judged by heads that were not fitted to them, where that was wanted.
    pub folds: Option<Folds>,
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

/// Features of the images of these sides, in that order; and how many had to be computed.
pub fn sides<const N: usize>(
    split: &Split,
    network: &Network<'_>,
    fit: Fit,
    sides: [Side; N],
) -> Result<([SideFeatures; N], usize)> {
    let of_sides = sides.map(|side| split.entries(side));
    let (features, computed) = features::of(&split.dataset.root, &of_sides.concat(), network, fit)?;
    let mut features = features.into_iter();
    let of_side = |entries: Vec<Entry>| SideFeatures {
        features: features.by_ref().take(entries.len()).collect(),
        tags: entries.into_iter().map(|e| e.tags).collect(),
    };
    Ok((of_sides.map(of_side), computed))
}

/// Penalty of the head by which the network is quantised: of the right size for features of a
/// backbone.
const PROVISIONAL: f32 = 100.0;
/// How flat its loss must be: it only serves to compare int8 with float.
const ROUGHLY: f64 = 100.0 * head::FLAT;

/// Into how many parts the data is cut to judge all of it.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Parts; 0 for none.
    pub folds: usize,
    /// Of who lies in which.
    pub seed: u64,
}

impl Cut {
    fn judge(
        self,
        split: &Split,
        network: &Network<'_>,
        fit: Fit,
        penalty: f32,
        nothing: &SideFeatures,
    ) -> Result<Option<Folds>> {
        let test = data::counts(split.dataset.tags.len(), &split.entries(Side::Test));
        if self.folds == 0 || test.iter().all(|n| *n >= folds::AMPLE) {
            return Ok(None);
        }
        let entries = &split.dataset.entries;
        let (features, _) = features::of(&split.dataset.root, entries, network, fit)?;
        let all = SideFeatures { features, tags: entries.iter().map(|e| e.tags.clone()).collect() };
        folds::judge(split, &all, nothing, penalty, self)
    }
}

/// Learns a head for `backbone`: first on float features, by which the network is quantised; then
/// on the features that the int8 network gives, which are the ones that the device will see.
pub fn train(split: &Split, backbone: Graph, fit: Fit, roles: &[Role], folds: Cut) -> Result<Quick> {
    let ([train, validation, _], computed) = sides(split, &Network::Float(&backbone), fit, Side::ALL)?;
    let (tags, task) = (split.dataset.tags.len(), split.dataset.task);
    let first = head::fit_one(&train.examples(), tags, task, PROVISIONAL, ROUGHLY)?;
    let target = data::target(backbone.side, fit)?;
    let options = quantise::Options::default();
    let pictures = Pictures::of(split, target, &options)?;
    let calibration = Pictures::refs(&pictures.calibration);
    // The backbone has said already what it makes of these images.
    let choice = |head: &Linear| Choice {
        pictures: Pictures::refs(&pictures.choice),
        float: data::spread(validation.features.len(), options.choice)
            .map(|i| head::apply(head, &validation.features[i]))
            .collect(),
    };
    let whole = backbone.clone().with_head(first.clone());
    let chosen = quantise::choose(&whole, task, &calibration, &choice(&first), options.calibrator)?;
    let int8 = chosen.headless()?;
    let ([seen, held], _) = sides(split, &Network::Int8(&int8, &backbone), fit, [Side::Train, Side::Validation])?;
    let nothing = nothing::examples(split, &int8, &backbone, fit, roles, folds.seed)?;
    let fitted = head::fit(&seen.with(&nothing).examples(), &held.examples(), tags, task)?;
    let folds = folds.judge(split, &Network::Int8(&int8, &backbone), fit, fitted.penalty, &nothing)?;
    let graph = backbone.with_head(fitted.linear.clone());
    let chosen = chosen.with_head(&fitted.linear, task, &choice(&fitted.linear))?;
    Ok(Quick {
        quantisation: chosen.summary(calibration.len(), pictures.choice.len()),
        validation: fitted.tried.iter().find(|t| t.0 == fitted.penalty).map_or(0.0, |t| t.2),
        int8: chosen.onnx,
        graph,
        fitted,
        computed,
        folds,
    })
}
