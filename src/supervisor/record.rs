//! Keeps model-size pictures, logits and scores of classified frames for replay on the host.
//!
//! Knows no verdict.

use super::vision::Vision;
use std::path::PathBuf;

/// A folder that gets each classified frame.
pub struct Recorder {
    folder: PathBuf,
    frames: u64,
}

impl Recorder {
    /// Makes the folder and writes which bundle it belongs to.
    pub fn new(folder: PathBuf, bundle_sha256: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("bundle.sha256"), format!("{bundle_sha256}\n"))?;
        Ok(Self { folder, frames: 0 })
    }

    pub(super) fn keep(&mut self, vision: &Vision) -> std::io::Result<()> {
        let (rgb, logits, scores) = vision.last();
        let name = |ending: &str| self.folder.join(format!("{:08}.{ending}", self.frames));
        std::fs::write(name("rgb"), rgb)?;
        std::fs::write(name("logits"), logits.iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<_>>())?;
        std::fs::write(name("scores"), scores.iter().flat_map(|s| s.0.to_le_bytes()).collect::<Vec<_>>())?;
        self.frames += 1;
        Ok(())
    }
}
