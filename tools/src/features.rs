//! What a frozen backbone says of each picture, computed once for each file.
//!
//! Does not know tags. Kept by file hash for each backbone and size; a changed file or backbone is another key.

use crate::data::{self, Entry, hex_hash, read_listed};
use crate::graph::{self, Graph, Runner};
use crate::progress::Interrupt;
use crate::run_folder;
use anyhow::{Result, bail};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tagpin::bundle::Fit;
use tagpin::preprocess::Preprocessor;

/// A file's hash and features; nothing once the user asked to stop.
type Made = Option<(String, Vec<f32>)>;

/// Features of `entries`, `[entries][outputs of the backbone]`, and how many had to be computed.
pub fn of(root: &Path, entries: &[Entry], backbone: &Graph, fit: Fit) -> Result<(Vec<Vec<f32>>, usize)> {
    let onnx = graph::write(backbone, None)?;
    let target = data::target(backbone.side, fit)?;
    let key = hex_hash(format!("features-1 {} {} {fit:?}", hex_hash(&onnx), backbone.side).as_bytes());
    let path = run_folder::cache().join(format!("features-{}.bin", &key[..16]));
    let mut known: HashMap<String, Vec<f32>> =
        std::fs::read(&path).ok().and_then(|b| postcard::from_bytes(&b).ok()).unwrap_or_default();
    let missing: Vec<&Entry> = entries.iter().filter(|e| !known.contains_key(&e.sha256)).collect();
    if !missing.is_empty() {
        let interrupt = Interrupt::listen()?;
        let runner = Runner::whole(backbone)?;
        let bar = crate::progress::bar("features", missing.len() as u64);
        let done = AtomicUsize::new(0);
        let made: Vec<Result<Made>> = missing
            .par_iter()
            .map_init(
                || Preprocessor::new(target),
                |preprocessor, e| {
                    if interrupt.stopped() {
                        return Ok(None);
                    }
                    let name = || root.join(&e.path).display().to_string();
                    let rgb = read_listed(root, e).and_then(|b| data::rgb_of(&b, preprocessor));
                    let values = runner.run(&rgb.map_err(|e| e.context(name()))?)?.swap_remove(0);
                    bar.inc(1);
                    done.fetch_add(1, Ordering::Relaxed);
                    Ok(Some((e.sha256.clone(), values)))
                },
            )
            .collect();
        bar.finish_and_clear();
        let made: Vec<Made> = made.into_iter().collect::<Result<_>>()?;
        known.extend(made.into_iter().flatten());
        // Only a cache: a folder that cannot be written costs time, not results.
        let sorted: BTreeMap<&String, &Vec<f32>> = known.iter().collect();
        let _ = std::fs::create_dir_all(run_folder::cache())
            .map_err(anyhow::Error::from)
            .and_then(|()| run_folder::write_file(&path, &postcard::to_stdvec(&sorted)?));
        if interrupt.stopped() {
            bail!("interrupted; {} pictures' features are kept, the same command goes on from there", done.into_inner());
        }
    }
    Ok((entries.iter().map(|e| known[&e.sha256].clone()).collect(), missing.len()))
}
