//! A folder a tag: which pictures there are, what they are, and their model-size RGB8.
//!
//! Reads pixels only through the runtime's decoder and preprocessing.

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tagpin::bundle::{Fit, sha256};
use tagpin::frame::FrameView;
use tagpin::pictures::{self, Picture};
use tagpin::preprocess::{Preprocessor, Target};

/// One tagged picture at model size.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Where it came from.
    pub path: PathBuf,
    /// Index of its tag.
    pub tag: usize,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// `[side, side, 3]`.
    pub rgb: Vec<u8>,
}

/// Tagged pictures.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Tags in order: the folders' names, sorted.
    pub tags: Vec<String>,
    /// All readable pictures, sorted by path.
    pub samples: Vec<Sample>,
}

/// Fewest pictures of a tag that anything can be learnt from.
pub const FEWEST: usize = 5;
/// Pictures of a tag that are advised.
pub const ADVISED: usize = 50;

impl Dataset {
    /// Reads every picture below `folder` and brings it to `side` x `side` by the runtime's preprocessing.
    pub fn load(folder: &Path, side: u16) -> Result<Self> {
        let mut tags = Vec::new();
        for entry in std::fs::read_dir(folder)
            .with_context(|| format!("{}: expected a folder of tagged folders", folder.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                tags.push(
                    entry.file_name().into_string().map_err(|n| anyhow::anyhow!("folder {n:?}: its name is not UTF-8"))?,
                );
            }
        }
        tags.sort();
        if tags.len() < 2 {
            bail!("{}: {} tagged folders, expected at least 2", folder.display(), tags.len());
        }
        let mut files = Vec::new();
        for (tag, name) in tags.iter().enumerate() {
            files.extend(pictures::list(&folder.join(name))?.into_iter().map(|path| (path, tag)));
        }
        let bar = crate::progress::bar("reading", files.len() as u64);
        let skipped = Mutex::new(Vec::new());
        let target = Target { width: side, height: side, fit: Fit::Crop, roi: None };
        let samples: Vec<Sample> = files
            .into_par_iter()
            .map_init(
                || Preprocessor::new(target),
                |preprocessor, (path, tag)| {
                    bar.inc(1);
                    let mut read = || -> Result<Sample> {
                        let bytes = std::fs::read(&path)?;
                        let picture = Picture::decode(&bytes)?;
                        let rgb = preprocessor.picture(&FrameView::new(picture.layout(), &picture.rgb)?)?.to_vec();
                        Ok(Sample { path: path.clone(), tag, sha256: sha256(&bytes), rgb })
                    };
                    match read() {
                        Ok(sample) => Some(sample),
                        Err(e) => {
                            skipped.lock().expect("no reader panics while it holds this").push((path, e.to_string()));
                            None
                        }
                    }
                },
            )
            .flatten()
            .collect();
        bar.finish_and_clear();
        let mut skipped = skipped.into_inner().expect("no reader panics while it holds this");
        skipped.sort();
        for (path, why) in &skipped {
            eprintln!("skipped {}: {why}", path.display());
        }
        let dataset = Self { tags, samples };
        for (tag, name) in dataset.tags.iter().enumerate() {
            let n = dataset.samples.iter().filter(|s| s.tag == tag).count();
            if n < FEWEST {
                bail!(
                    "tag \"{name}\" has {n} readable pictures, at least {FEWEST} are needed; add some or remove its folder"
                );
            }
            if n < ADVISED {
                eprintln!("warning: tag \"{name}\" has {n} pictures; {ADVISED} are advised, figures will be rough");
            }
        }
        Ok(dataset)
    }

    /// Splits off about `share` of each tag, chosen by the files' hashes and `seed`, so that it does not depend on names.
    pub fn split(self, share: f64, seed: u64) -> (Self, Self) {
        let rank = |s: &Sample| {
            let mut key = s.sha256.to_vec();
            key.extend(seed.to_le_bytes());
            sha256(&key)
        };
        let (mut kept, mut held) = (Vec::new(), Vec::new());
        for tag in 0..self.tags.len() {
            let mut of_tag: Vec<&Sample> = self.samples.iter().filter(|s| s.tag == tag).collect();
            of_tag.sort_by_key(|s| rank(s));
            // Equal files must lie on one side: the border moves on until the hash changes.
            let mut border = ((of_tag.len() as f64 * share).round() as usize).clamp(1, of_tag.len() - 1);
            while border < of_tag.len() && of_tag[border].sha256 == of_tag[border - 1].sha256 {
                border += 1;
            }
            held.extend(of_tag[..border].iter().map(|s| (*s).clone()));
            kept.extend(of_tag[border..].iter().map(|s| (*s).clone()));
        }
        let with = |samples| Self { tags: self.tags.clone(), samples };
        (with(kept), with(held))
    }

    /// SHA-256 of all tags and files: which data a run saw.
    pub fn sha256(&self) -> [u8; 32] {
        let mut all = Vec::new();
        for s in &self.samples {
            all.extend(self.tags[s.tag].as_bytes());
            all.push(0);
            all.extend(s.sha256);
        }
        sha256(&all)
    }
}
