//! Tagged images: their files, their tags, and their pixels at model size.
//!
//! Pixels are read through the runtime's decoder and preprocessing, so that training sees what the
//! device sees.

pub mod check;
pub mod convert;
mod files;
pub mod groups;
pub mod left_out;
pub mod roles;
pub mod sources;
pub mod split;
pub mod survey;
mod taken;
pub mod twins;
mod unread;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tagpin::bundle::{Fit, Hex, sha256};
use tagpin::decide::Task;
use tagpin::frame::FrameView;
use tagpin::pictures::{Budget, Picture};
use tagpin::preprocess::{Preprocessor, Target};

/// Fewest images a tag needs to be trained at all.
pub const FEWEST: usize = 5;
/// Images advised per tag.
pub const ADVISED: usize = 50;

/// A file and its tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the dataset's root.
    pub path: PathBuf,
    /// Indices of its tags, ascending; exactly one in a multiclass dataset.
    pub tags: Vec<usize>,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Further columns of the list that named it, and `folder` for images found in folders.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
}

/// Whether tags exclude one another, as files and flags name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Exactly one tag an image.
    Multiclass,
    /// Any number of tags an image, none included.
    Multilabel,
}

impl From<TaskName> for Task {
    fn from(t: TaskName) -> Self {
        match t {
            TaskName::Multiclass => Self::Multiclass,
            TaskName::Multilabel => Self::Multilabel,
        }
    }
}

/// Tagged images as files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dataset {
    /// Folder that paths are relative to.
    pub root: PathBuf,
    /// Whether tags exclude one another.
    pub task: TaskName,
    /// Tags in the order of logits: sorted.
    pub tags: Vec<String>,
    /// All files, sorted by path.
    pub entries: Vec<Entry>,
}

impl Dataset {
    /// Where an entry's file lies.
    pub fn file(&self, entry: &Entry) -> PathBuf {
        self.root.join(&entry.path)
    }

    /// Images of each tag.
    pub fn counts(&self) -> Vec<usize> {
        counts(self.tags.len(), &self.entries)
    }

    /// SHA-256 over tags and files, hexadecimal: which data a run saw.
    pub fn sha256(&self) -> String {
        hash_of(&self.tags, &self.entries)
    }

    /// Refuses tags of fewer than [`FEWEST`] images unless `allow_few`; returns what to warn of.
    pub fn enough(&self, allow_few: bool) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (tag, n) in self.tags.iter().zip(self.counts()) {
            if n < FEWEST && !allow_few {
                bail!("tag \"{tag}\" has {n} readable images, at least {FEWEST} are needed; add some, or --allow-few");
            } else if n < FEWEST {
                warnings.push(format!("tag \"{tag}\" has only {n} images: no figure of it means anything"));
            } else if n < ADVISED {
                warnings.push(format!("tag \"{tag}\" has {n} images; {ADVISED} are advised, figures will be rough"));
            }
        }
        Ok(warnings)
    }
}

/// Images of each of `tags` tags among `entries`.
pub fn counts(tags: usize, entries: &[Entry]) -> Vec<usize> {
    let mut counts = vec![0; tags];
    entries.iter().flat_map(|e| &e.tags).for_each(|&t| counts[t] += 1);
    counts
}

fn hash_of(tags: &[String], entries: &[Entry]) -> String {
    let mut all = Vec::new();
    for e in entries {
        e.tags.iter().for_each(|&t| all.extend(tags[t].bytes().chain([0])));
        all.push(1);
        all.extend(e.sha256.bytes());
    }
    Hex(&sha256(&all)).to_string()
}

/// Indices of at most `most` of `n` things, spread over all of them.
pub fn spread(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let every = (n as f64 / most.max(1) as f64).max(1.0);
    (0..most.min(n)).map(move |i| (i as f64 * every) as usize)
}

/// SHA-256 of bytes, hexadecimal.
pub fn hex_hash(bytes: &[u8]) -> String {
    Hex(&sha256(bytes)).to_string()
}

/// How images are brought to a network's size: as the runtime does it.
pub fn target(side: usize, fit: Fit) -> Result<Target> {
    let side = u16::try_from(side).ok().filter(|s| *s > 0);
    let Some(side) = side else { bail!("images of this size cannot be made") };
    Ok(Target { width: side, height: side, fit, roi: None })
}

/// Decodes and resizes one file's bytes by the runtime's preprocessing: `[side, side, 3]`.
pub fn rgb_of(bytes: &[u8], preprocessor: &mut Preprocessor) -> Result<Vec<u8>> {
    let image = Picture::decode(bytes, Budget::HOST)?;
    at_size(&FrameView::new(image.layout(), &image.rgb)?, preprocessor)
}

/// A frame at model size: `[side, side, 3]`.
pub fn at_size(frame: &FrameView<'_>, preprocessor: &mut Preprocessor) -> Result<Vec<u8>> {
    Ok(preprocessor.image(frame)?.to_vec())
}

/// Decodes and resizes all `entries`, on all cores: `[entries]`, each `[side, side, 3]`. A file
/// that cannot be read, or is no longer the one that was listed, is an error: the list was made
/// from readable files.
pub fn load(root: &Path, entries: &[Entry], target: Target) -> Result<Vec<Vec<u8>>> {
    let bar = crate::progress::bar("reading", entries.len() as u64);
    let failed = Mutex::new(None);
    let images: Vec<Vec<u8>> = entries
        .par_iter()
        .map_init(
            || Preprocessor::new(target),
            |preprocessor, e| {
                bar.inc(1);
                match read_listed(root, e).and_then(|bytes| rgb_of(&bytes, preprocessor)) {
                    Ok(rgb) => Some(rgb),
                    Err(error) => {
                        let what = error.context(root.join(&e.path).display().to_string());
                        failed.lock().expect("no reader panics while it holds this").get_or_insert(what);
                        None
                    }
                }
            },
        )
        .flatten()
        .collect();
    bar.finish_and_clear();
    match failed.into_inner().expect("no reader panics while it holds this") {
        Some(e) => Err(e),
        None => Ok(images),
    }
}

/// The bytes of a listed file. Fails if they changed since it was listed.
pub fn read_listed(root: &Path, entry: &Entry) -> Result<Vec<u8>> {
    let bytes = tagpin::regular::read(&root.join(&entry.path), tagpin::regular::LARGE).with_context(|| {
        if root.is_dir() {
            "it cannot be read".to_string()
        } else {
            format!("the images are no longer in {}; say where they are now with --root FOLDER", root.display())
        }
    })?;
    ensure!(hex_hash(&bytes) == entry.sha256, "it changed since the split was made; run `dataset split` again");
    Ok(bytes)
}
