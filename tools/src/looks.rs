//! How often test images were looked at: over all runs that share the test side of a split.
//!
//! Each run folder counts its own looks in `looks.json`; a ledger in the cache counts those of a
//! test side over all runs, removed ones too. Either may be incomplete (folders are moved, caches
//! are emptied), so the larger number counts.

use crate::data::{self, split::Side};
use crate::run::{Record, Run, folders_in};
use crate::run_folder;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::Path;

/// A run's own looks.
#[derive(Default, Serialize, Deserialize)]
struct Own {
    looks: u32,
}

impl Own {
    fn of(folder: &Path) -> Self {
        run_folder::read_json(&folder.join("looks.json"), "evaluate").unwrap_or_default()
    }
}

/// Counts one more look by a run; how many there were of its test side.
pub fn another(run: &Run) -> Result<u32> {
    run_folder::write_json(&run.file("looks.json"), &Own { looks: Own::of(run.folder()).looks + 1 })?;
    let own = std::path::absolute(run.folder())?;
    let shares = |folder: &Path| Record::of(folder).is_ok_and(|r| r.split_sha256 == run.record.split_sha256);
    let beside = own.parent().map(folders_in).transpose().unwrap_or_default().unwrap_or_default();
    let others: u32 = beside.iter().filter(|f| **f != own && shares(f)).map(|f| Own::of(f).looks).sum();
    let here = Own::of(run.folder()).looks + others;
    Ok(ledger(run).map_or(here, |all| all.max(here)))
}

/// Adds a line to the ledger of the run's test side; how many lines it has. None where there is no
/// cache.
fn ledger(run: &Run) -> Option<u32> {
    let test: String = run.split.entries(Side::Test).iter().map(|e| e.sha256.as_str()).collect();
    let folder = run_folder::cache().join("looks");
    std::fs::create_dir_all(&folder).ok()?;
    let path = folder.join(&data::hex_hash(test.as_bytes())[..16]);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).ok()?;
    writeln!(file, "{} {}", run_folder::now(), run.folder().display()).ok()?;
    let lines = std::fs::read_to_string(&path).ok()?.lines().count();
    u32::try_from(lines).ok()
}
