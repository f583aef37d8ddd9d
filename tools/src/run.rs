//! A run folder: a network in f32, the split it was trained on, and the record of how it was
//! trained. Later commands add their files to it (`int8.onnx`, `evaluation.json`, ...).

use crate::data::{self, roles::Roles, split::Split};
use crate::graph::{self, Graph};
use crate::run_folder::{self, NewRun, read_file, read_json};
use crate::train::domain::Domain;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tagpin::bundle::Fit;
use tagpin::preprocess::Target;

/// Version of what computes figures; figures of different ones are not compared.
pub const EVALUATOR: u32 = 3;

/// How frames are brought to a network's square, as files and flags name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FitName {
    /// The middle, with the full shorter side.
    Crop,
    /// All of it, distorted.
    Stretch,
    /// All of it, with grey bars.
    Pad,
}

impl From<FitName> for Fit {
    fn from(f: FitName) -> Self {
        match f {
            FitName::Crop => Self::Crop,
            FitName::Stretch => Self::Stretch,
            FitName::Pad => Self::Pad,
        }
    }
}

impl From<Fit> for FitName {
    fn from(f: Fit) -> Self {
        match f {
            Fit::Crop => Self::Crop,
            Fit::Stretch => Self::Stretch,
            Fit::Pad => Self::Pad,
        }
    }
}

/// One epoch of training.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean training loss, on changed images.
    pub loss: f64,
    /// Mean log loss on validation.
    pub validation_loss: f64,
    /// Share right on validation.
    pub validation: f64,
    /// Share right on training images of this epoch, as changed.
    pub training: f64,
}

/// How a network came to be: `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Program and version.
    pub tool: String,
    /// Version of what computes figures.
    pub evaluator: u32,
    /// Commit of the folder in which it ran, if that is a repository.
    pub commit: Option<String>,
    /// As it was typed.
    pub command: String,
    /// Seconds since 1970 at its end.
    pub finished: u64,
    /// How long it took.
    pub seconds: f64,
    /// `quick`, `advanced` or `small`.
    pub kind: String,
    /// Of weights, order, augmentation.
    pub seed: u64,
    /// Side of the image.
    pub side: usize,
    /// How images are fitted.
    pub fit: FitName,
    /// SHA-256 of the backbone's file.
    pub backbone_sha256: Option<String>,
    /// Its name.
    pub backbone: Option<String>,
    /// SHA-256 over tags and files of the whole split.
    pub dataset_sha256: String,
    /// SHA-256 of the split file.
    pub split_sha256: String,
    /// Images trained on.
    pub train: usize,
    /// Images that chose.
    pub validation: usize,
    /// Share right on validation.
    pub validation_right: f64,
    /// Weights of the network.
    pub weights: usize,
    /// Multiply-adds of an image.
    pub macs: u64,
    /// Epochs, if it was trained in epochs.
    pub curve: Vec<Epoch>,
    /// Penalties tried for the head: penalty, log loss, share right on validation.
    pub penalties: Vec<(f32, f64, f64)>,
    /// Settings in words.
    pub settings: Vec<(String, String)>,
    /// What tags stand for in the factory.
    #[serde(default)]
    pub roles: Roles,
    /// What kind of images these are.
    #[serde(default)]
    pub domain: Domain,
    /// What a reader of any figure must know.
    pub warnings: Vec<String>,
}

/// An open run folder.
pub struct Run {
    folder: PathBuf,
    /// How it came to be.
    pub record: Record,
    /// The network in f32.
    pub graph: Graph,
    /// The data.
    pub split: Split,
}

impl Record {
    /// A run folder's.
    pub fn of(folder: &Path) -> Result<Self> {
        read_json(&folder.join("run.json"), "train")
    }
}

/// Run folders in `folder`, by name.
pub fn folders_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{}: expected a folder of runs", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.retain(|p| p.join("run.json").exists());
    paths.sort();
    Ok(paths)
}

impl Run {
    /// What the tags stand for, in the order of logits.
    pub fn roles(&self) -> Vec<tagpin::decide::Role> {
        self.record.roles.in_order(&self.split.dataset.tags)
    }

    /// Opens a run folder made by `train`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = |name: &str| folder.join(name);
        let record = Record::of(folder)?;
        let float = path("float.onnx");
        let graph = graph::read(&read_file(&float, "train")?, None)
            .with_context(|| format!("{} is damaged; train again", float.display()))?;
        let split = Split::read(&path("split.json"))?;
        Ok(Self { folder: folder.to_owned(), record, graph, split })
    }

    /// Writes a new run folder, which appears only when it is whole.
    pub fn create(folder: &Path, force: bool, record: Record, graph: Graph, split: Split) -> Result<Self> {
        let new = NewRun::begin(folder, force)?;
        run_folder::write_file(&new.file("float.onnx"), &graph::write(&graph, None)?)?;
        run_folder::write_json(&new.file("split.json"), &split)?;
        run_folder::write_json(&new.file("run.json"), &record)?;
        new.finish()?;
        Ok(Self { folder: folder.to_owned(), record, graph, split })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file of it lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// How images are brought to its network.
    pub fn target(&self) -> Result<Target> {
        data::target(self.graph.side, self.record.fit.into())
    }

    /// Hash of what figures are of: the int8 network, the decision, and the distance if there is
    /// one.
    pub fn state(&self) -> Result<String> {
        let mut all = self.int8()?;
        all.extend(read_file(&self.file("decision.json"), &format!("quantise {}", self.folder.display()))?);
        if self.file("distance.bin").exists() {
            all.extend(read_file(&self.file("distance.bin"), &format!("distance {}", self.folder.display()))?);
        }
        Ok(data::hex_hash(&all))
    }

    /// Refuses figures of another network, another distance or other thresholds.
    pub fn refuse_stale(&self, state: &str, file: &str, make: &str) -> Result<()> {
        let folder = self.folder.display();
        ensure!(
            state == self.state()?,
            "{folder}: {file} is of another int8 network, another distance or of other thresholds; run `{make} {folder}` again"
        );
        Ok(())
    }

    /// Its int8 graph.
    pub fn int8(&self) -> Result<Vec<u8>> {
        read_file(&self.file("int8.onnx"), &format!("quantise {}", self.folder.display()))
    }
}

/// Commit of the folder in which the command runs, if that is a repository.
pub fn commit() -> Option<String> {
    let out = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
}
