//! `train --quick`: a logistic regression on the features of a frozen backbone, joined with it to
//! one graph, in f32 and in int8.

use super::augment::Augment;
use super::balance::Balance;
use super::domain::Domain;
use super::folds::{self, Folds};
use super::nothing;
use crate::data::{
    self, Entry,
    split::{Side, Split},
};
use crate::features::{self, Network};
use crate::graph::{Graph, Linear};
use crate::head::{self, ChosenBy, Examples, Fitted};
use crate::quantise::{self, Choice, Images, Quantisation};
use anyhow::Result;
use tagpin::bundle::Fit;
use tagpin::decide::Role;

/// A backbone with a head trained on its features.
pub struct Quick {
    /// Backbone and head.
    pub graph: Graph,
    /// How the head was chosen.
    pub fitted: Fitted,
    /// The same in int8.
    pub int8: Vec<u8>,
    /// How the int8 form was chosen.
    pub quantisation: Quantisation,
    /// Share right on validation, int8.
    pub validation: f64,
    /// Images whose features had to be computed (the others were cached).
    pub computed: usize,
    /// All images judged by heads that were not fitted to them, where that was wanted.
    pub folds: Option<Folds>,
}

/// Features and tags of one side.
pub struct SideFeatures {
    /// `[n][features]`.
    pub features: Vec<Vec<f32>>,
    /// Those of changed copies, `[n][copies][features]`; none for images that judge.
    pub copies: Vec<Vec<Vec<f32>>>,
    /// `[n]`.
    pub tags: Vec<Vec<usize>>,
}

impl SideFeatures {
    /// As the head takes them.
    pub fn examples(&self) -> Examples<'_> {
        Examples { features: &self.features, tags: &self.tags }
    }

    /// The examples that a head is trained on: each image and its copies, with rare tags repeated
    /// as `balance` says.
    pub fn trained_on(&self, tags: usize, balance: Balance) -> Self {
        let (mut features, mut of) = (Vec::new(), Vec::new());
        for (i, times) in balance.times(&self.tags, tags).into_iter().enumerate() {
            for one in std::iter::once(&self.features[i]).chain(&self.copies[i]) {
                features.extend(std::iter::repeat_n(one.clone(), times));
                of.extend(std::iter::repeat_n(self.tags[i].clone(), times));
            }
        }
        Self { copies: vec![Vec::new(); of.len()], features, tags: of }
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
        copies: vec![Vec::new(); entries.len()],
        tags: entries.into_iter().map(|e| e.tags).collect(),
    };
    Ok((of_sides.map(of_side), computed))
}

/// Penalty of the provisional head with which the network is quantised; typical for a backbone's
/// features.
const PROVISIONAL: f32 = 100.0;
/// Gradient at which its fit ends. Coarse, since that head only serves to compare int8 with float.
const ROUGHLY: f64 = 100.0 * head::FLAT;

/// How a head is trained.
#[derive(Clone, Copy, Debug)]
pub struct Learn {
    /// Folds of the cross-validation; 0 for none.
    pub folds: usize,
    /// Changed copies of each training image.
    pub copies: usize,
    /// How they are changed.
    pub augment: Augment,
    /// How rare tags are weighed.
    pub balance: Balance,
    /// Seed of the folds and of the augmentation.
    pub seed: u64,
}

impl Learn {
    /// Training without augmentation or balancing.
    pub fn plain(seed: u64) -> Self {
        Self { folds: 0, copies: 0, augment: Domain::General.augment(), balance: Balance::None, seed }
    }

    fn with_copies(
        &self,
        split: &Split,
        network: &Network<'_>,
        fit: Fit,
        of: SideFeatures,
        entries: &[Entry],
    ) -> Result<SideFeatures> {
        let copies = features::Copies { augment: self.augment, seed: self.seed, each: self.copies };
        Ok(SideFeatures { copies: features::of_copies(&split.dataset.root, entries, network, fit, &copies)?, ..of })
    }

    fn judge(
        &self,
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
        let tags = entries.iter().map(|e| e.tags.clone()).collect();
        let all = SideFeatures { features, copies: Vec::new(), tags };
        let all = self.with_copies(split, network, fit, all, entries)?;
        folds::judge(split, &all, nothing, penalty, self)
    }
}

/// Trains a head for `backbone`. A first head on float features serves to quantise the network; the
/// final one is trained on the int8 network's features, which are what the device will see.
pub fn train(split: &Split, backbone: Graph, fit: Fit, roles: &[Role], learn: &Learn) -> Result<Quick> {
    let ([train, validation, _], computed) = sides(split, &Network::Float(&backbone), fit, Side::ALL)?;
    let (tags, task) = (split.dataset.tags.len(), split.dataset.task);
    let first = head::fit_one(&train.examples(), tags, task, PROVISIONAL, ROUGHLY)?;
    let target = data::target(backbone.side, fit)?;
    let options = quantise::Options::default();
    let images = Images::of(split, target, &options)?;
    let calibration = Images::refs(&images.calibration);
    // Features of the validation images are there already, so only the head has to run.
    let choice = |head: &Linear| Choice {
        images: Images::refs(&images.choice),
        float: data::spread(validation.features.len(), options.choice)
            .map(|i| head::apply(head, &validation.features[i]))
            .collect(),
    };
    let whole = backbone.clone().with_head(first.clone());
    let chosen = quantise::choose(&whole, task, &calibration, &choice(&first), options.calibrator)?;
    let int8 = chosen.headless()?;
    let ([seen, held], _) = sides(split, &Network::Int8(&int8, &backbone), fit, [Side::Train, Side::Validation])?;
    let seen = learn.with_copies(split, &Network::Int8(&int8, &backbone), fit, seen, &split.entries(Side::Train))?;
    let nothing = nothing::examples(split, &int8, &backbone, fit, roles, learn.seed)?;
    let by = if learn.balance == Balance::None { ChosenBy::Images } else { ChosenBy::Tags };
    let fitted =
        head::fit(&seen.trained_on(tags, learn.balance).with(&nothing).examples(), &held.examples(), tags, task, by)?;
    let folds = learn.judge(split, &Network::Int8(&int8, &backbone), fit, fitted.penalty, &nothing)?;
    let graph = backbone.with_head(fitted.linear.clone());
    let chosen = chosen.with_head(&fitted.linear, task, &choice(&fitted.linear))?;
    Ok(Quick {
        quantisation: chosen.summary(calibration.len(), images.choice.len()),
        validation: fitted.tried.iter().find(|t| t.0 == fitted.penalty).map_or(0.0, |t| t.2),
        int8: chosen.onnx,
        graph,
        fitted,
        computed,
        folds,
    })
}
