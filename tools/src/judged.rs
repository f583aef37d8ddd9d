//! Images with the logits of a run's networks: computed once and used by every figure.

use crate::data::{self, Entry, split::Side};
use crate::distance;
use crate::features;
use crate::predict;
use crate::run::Run;
use anyhow::Result;

/// Images of one set and their logits.
pub struct Judged {
    /// Files and tags.
    pub entries: Vec<Entry>,
    /// Folder that paths are relative to.
    pub root: std::path::PathBuf,
    /// `[n]`, each `[side, side, 3]`.
    pub rgb: Vec<Vec<u8>>,
    /// Q16.16, by the runtime's engine.
    pub int8: Vec<Vec<i32>>,
    /// Whether each lies beyond the run's distance limit, by the runtime's engine.
    pub beyond: Vec<bool>,
    /// By tract, at least up to the last layer; empty if not asked for.
    pub float: Vec<Vec<f32>>,
}

impl Judged {
    /// A side of the run's split, int8 only.
    pub fn int8(run: &Run, side: Side) -> Result<Self> {
        Self::of(run, run.split.dataset.root.clone(), run.split.entries(side), false)
    }

    /// A side of the run's split, int8 and float.
    pub fn both(run: &Run, side: Side) -> Result<Self> {
        Self::of(run, run.split.dataset.root.clone(), run.split.entries(side), true)
    }

    /// Any images.
    pub fn of(run: &Run, root: std::path::PathBuf, entries: Vec<Entry>, float: bool) -> Result<Self> {
        let rgb: Vec<Vec<u8>> = data::load(&root, &entries, run.target()?)?;
        let images: Vec<&[u8]> = rgb.iter().map(Vec::as_slice).collect();
        let seen = predict::see(&distance::network(run)?, &images)?;
        let float = if !float {
            Vec::new()
        } else if let Some(known) = features::logits(&entries, &run.graph, run.record.fit.into())? {
            known
        } else {
            predict::float(&run.graph, &images)?
        };
        Ok(Self { entries, root, rgb, int8: seen.logits, beyond: seen.beyond, float })
    }

    /// Tags of each image.
    pub fn truth(&self) -> Vec<Vec<usize>> {
        self.entries.iter().map(|e| e.tags.clone()).collect()
    }

    /// The images.
    pub fn images(&self) -> Vec<&[u8]> {
        self.rgb.iter().map(Vec::as_slice).collect()
    }
}
