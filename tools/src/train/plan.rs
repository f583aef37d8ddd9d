//! The settings of training in epochs.

use super::augment::Augment;
use super::balance::Balance;
use super::optimiser::OptimiserName;
use burn::tensor::Device;
use std::path::PathBuf;
use std::time::Duration;

/// How to train.
#[derive(Clone, Debug)]
pub struct Plan {
    /// First node that is trained.
    pub first: usize,
    /// Whether training starts from random weights.
    pub from_nothing: bool,
    /// Most epochs.
    pub epochs: usize,
    /// Images in one step.
    pub batch: usize,
    /// Largest learning rate, reached after the first epoch and lowered along a cosine.
    pub rate: f64,
    /// The device.
    pub device: Device,
    /// Which optimiser.
    pub optimiser: OptimiserName,
    /// How rare tags are weighed.
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
    /// The part of the plan that a checkpoint must match: without its path, and without the epochs
    /// and views that a budget changes.
    pub fn identity(&self) -> Self {
        let plan = Self { resume: false, checkpoint: PathBuf::new(), ..self.clone() };
        if plan.budget.is_some() { Self { epochs: 0, views: 0, ..plan } } else { plan }
    }
}
