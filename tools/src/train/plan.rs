//! How training in epochs is to be done.

use super::augment::Augment;
use super::balance::Balance;
use super::optimiser::OptimiserName;
use burn::tensor::Device;
use std::path::PathBuf;
use std::time::Duration;

/// How to train.
#[derive(Clone, Debug)]
pub struct Plan {
    /// First node that learns.
    pub first: usize,
    /// Whether weights were drawn, not trained.
    pub from_nothing: bool,
    /// Most epochs.
    pub epochs: usize,
    /// Images in one step.
    pub batch: usize,
    /// Largest learning rate, reached after the first epoch and lowered along a cosine.
    pub rate: f64,
    /// Where.
    pub device: Device,
    /// Which optimiser.
    pub optimiser: OptimiserName,
    /// Of rare tags.
    pub balance: Balance,
    /// Changes to images.
    pub augment: Augment,
    /// Changed copies of each image whose trunk values are kept; 0 makes new ones each epoch.
    pub views: usize,
    /// Epochs without a better one after which it ends; 0 never does.
    pub patience: usize,
    /// Seed of order and changes.
    pub seed: u64,
    /// Where the checkpoint lies.
    pub checkpoint: PathBuf,
    /// Whether to go on from it.
    pub resume: bool,
    /// Time that it may take; epochs and views are lowered to fit.
    pub budget: Option<Duration>,
}

impl Plan {
    /// What a checkpoint must agree with: not where it lies, nor what a budget left of epochs and
    /// views.
    pub fn identity(&self) -> Self {
        let plan = Self { resume: false, checkpoint: PathBuf::new(), ..self.clone() };
        if plan.budget.is_some() { Self { epochs: 0, views: 0, ..plan } } else { plan }
    }
}
