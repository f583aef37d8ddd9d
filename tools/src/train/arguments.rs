//! Arguments of `train`, and the defaults that depend on other arguments.

use super::balance::Balance;
use super::device::DeviceName;
use super::domain::Domain;
use super::optimiser::OptimiserName;
use crate::data::{TaskName, roles::RoleFlags};
use crate::distance;
use crate::graph::Graph;
use crate::run::FitName;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Where the last blocks of EfficientNet-Lite0, as `backbone import` names its nodes, begin.
pub const LAST_BLOCKS: &str = "block11_expand";

/// Train a model from tagged images, quantise it, judge it, prove it and write its report.
#[derive(clap::Args, Clone, Debug)]
pub struct Train {
    /// Folder of tagged folders, list or COCO file; it is split 70/15/15 by the seed.
    #[arg(long, conflicts_with = "split", required_unless_present = "split")]
    pub data: Option<PathBuf>,
    /// Split made by `dataset split`.
    #[arg(long)]
    pub split: Option<PathBuf>,
    /// Run folder to make.
    #[arg(long)]
    pub out: PathBuf,
    /// Learn a head, fine-tune the last blocks as far as --budget goes, and take what is better on
    /// validation; says by an interval whether fine-tuning pays. This is the default.
    #[arg(long, group = "how", requires = "backbone")]
    pub auto: bool,
    /// Learn only a head on a frozen backbone: seconds once its features are known.
    #[arg(long, group = "how", requires = "backbone")]
    pub quick: bool,
    /// Learn a head, then fine-tune the last blocks of the backbone.
    #[arg(long, group = "how", requires = "backbone")]
    pub advanced: bool,
    /// Train the built-in small network for 96x96 images from nothing.
    #[arg(long, group = "how", conflicts_with = "backbone")]
    pub small: bool,
    /// Fit a distance on images of good parts alone (--data): what lies beyond its limit is
    /// foreign. From 20 images on.
    #[arg(long, group = "how", requires = "backbone", requires = "data")]
    pub good_only: bool,
    /// Images of bad parts, for figures of --good-only; nothing is fitted on them.
    #[arg(long, value_name = "DIR", requires = "good_only")]
    pub bad: Option<PathBuf>,
    /// Set the limit of --good-only between good and bad images; its figures then flatter it.
    #[arg(long, requires = "bad")]
    pub tune_on_bad: bool,
    /// Pretrained network without a head, or any float ONNX classifier, whose head is cut off.
    #[arg(long)]
    pub backbone: Option<PathBuf>,
    /// Side of the image for the backbone: smaller is faster and less accurate. A multiple of 32.
    #[arg(long)]
    pub size: Option<usize>,
    /// Mean of each channel, one or three, of values 0..1 (of 0..255 if above 1), for a backbone
    /// that does not carry its own.
    #[arg(long, value_delimiter = ',', requires = "std")]
    pub mean: Vec<f32>,
    /// Deviation of each channel, one or three, in the same unit as the mean.
    #[arg(long, value_delimiter = ',', requires = "mean")]
    pub std: Vec<f32>,
    /// How images and frames are brought to the network's square. Else as --domain says, or
    /// stretch.
    #[arg(long, value_enum)]
    pub fit: Option<FitName>,
    /// Seed of split, weights, order and changes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What kind of images these are: sets how they are changed in training, and --fit, --balance
    /// and --views where they are not given. Else general.
    #[arg(long, value_enum)]
    pub domain: Option<Domain>,
    /// First node that is fine-tuned, as `inspect` names it: its block and all behind it. Without
    /// it the last blocks of EfficientNet-Lite0 on the CPU, the whole network on a GPU.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["quick", "small", "good_only"])]
    pub from: Option<String>,
    /// Minutes that fine-tuning may take where no way is named.
    #[arg(long, default_value_t = 20.0, value_name = "MINUTES", conflicts_with_all = ["quick", "advanced", "small", "good_only"])]
    pub budget: f64,
    /// Device that trains --advanced and --small.
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: DeviceName,
    /// Most times that every image is seen.
    #[arg(long, default_value_t = 20)]
    pub epochs: usize,
    /// Images in one step.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Largest learning rate; 0 takes what suits: 4e-3 from nothing, 3e-4 for fine-tuning (SGD: 10
    /// times as much).
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// Optimiser of --advanced and --small.
    #[arg(long, value_enum, default_value = "adamw")]
    pub optimiser: OptimiserName,
    /// How tags of unlike frequency are treated. Else as --domain says, or none.
    #[arg(long, value_enum)]
    pub balance: Option<Balance>,
    /// Views of each image that are trained on: the image and changed copies. Else 6 in
    /// fine-tuning, for the head 3 where --domain is given and 1 where not.
    #[arg(long)]
    pub views: Option<usize>,
    /// Parts that --quick cuts the data into where test images are few: each is judged by a head
    /// fitted to others; 0 for none.
    #[arg(long, default_value_t = 5, value_name = "PARTS")]
    pub folds: usize,
    /// Epochs without a better one after which training ends; 0 never does.
    #[arg(long, default_value_t = 8)]
    pub patience: usize,
    /// Continue from the checkpoint of an interrupted run.
    #[arg(long)]
    pub resume: bool,
    /// Column whose values stay together when --data is split.
    #[arg(long, requires = "data")]
    pub group: Option<String>,
    /// What the prediction is for, with --data.
    #[arg(long, requires = "data")]
    pub about: Option<PathBuf>,
    #[command(flatten)]
    pub roles: RoleFlags,
    /// Take the tags as exclusive or not, whatever the form of --data suggests.
    #[arg(long, value_enum, requires = "data")]
    pub task: Option<TaskName>,
    /// Go on with tags of fewer than 5 images; every later figure carries a warning.
    #[arg(long)]
    pub allow_few: bool,
    /// Show how much a leak would inflate the figures of --quick, over 10 splits with and 10
    /// without it; also written to leak.json.
    #[arg(long, requires = "quick")]
    pub leaky_demo: bool,
    #[command(flatten)]
    pub distance: distance::Options,
    /// Stop after training; `quantise`, `evaluate`, `parity` and `report` do the rest.
    #[arg(long)]
    pub only: bool,
    /// Overwrite an existing run folder.
    #[arg(long)]
    pub force: bool,
}

/// A setting's value in lower case.
pub(super) fn name(value: &dyn std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

impl Train {
    pub(super) fn domain(&self) -> Domain {
        self.domain.unwrap_or_default()
    }

    pub(super) fn fit(&self) -> FitName {
        self.fit.unwrap_or_else(|| self.domain().fit().into())
    }

    pub(super) fn balance(&self) -> Balance {
        self.balance.unwrap_or_else(|| self.domain().balance())
    }

    /// Views of each image that the head is trained on. Changed copies only if a domain or a number
    /// is given: each takes as long as the image itself.
    pub(super) fn head_views(&self) -> usize {
        self.views.unwrap_or(if self.domain.is_some() { 3 } else { 1 })
    }

    /// Whether fine-tuning is limited by the time budget (no way of training is named).
    pub(super) fn is_auto(&self) -> bool {
        !(self.quick || self.advanced || self.small)
    }

    /// Index of the first node that is fine-tuned.
    pub(super) fn first(&self, graph: &Graph) -> Result<usize> {
        match (&self.from, self.device) {
            (Some(node), _) => graph.find(node).context("--from"),
            (None, DeviceName::Cpu) => graph.find(LAST_BLOCKS).context("--from"),
            (None, _) => Ok(0),
        }
    }

    /// Settings that --domain chose because no flag did, in words; empty without a domain.
    pub(super) fn chosen_by_domain(&self) -> Vec<(String, String)> {
        let Some(domain) = self.domain else { return Vec::new() };
        let mut chosen = Vec::new();
        if self.fit.is_none() {
            chosen.push(format!("--fit {}", name(&self.fit())));
        }
        if self.balance.is_none() {
            chosen.push(format!("--balance {}", name(&self.balance())));
        }
        if self.views.is_none() && !self.advanced {
            chosen.push(format!("--views {} for the head", self.head_views()));
        }
        let told = if chosen.is_empty() { "sets only how images are changed".into() } else { chosen.join(", ") };
        vec![("domain".into(), format!("{}: {told}", name(&domain)))]
    }
}
