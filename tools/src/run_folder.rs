//! Files of a run: written whole or not at all, and the record of how each came to be.
//!
//! Does not know what is in them.

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// Writes a file beside its place and then moves it there.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = beside(path);
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Writes a value as indented JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_file(path, &serde_json::to_vec_pretty(value)?)
}

/// Reads a value from JSON; `make` names the command that writes it.
pub fn read_json<T: DeserializeOwned>(path: &Path, make: &str) -> Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: run `{make}` first", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged; run `{make}` again", path.display()))
}

/// Reads a file; `make` names the command that writes it.
pub fn read_file(path: &Path, make: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: run `{make}` first", path.display()))
}

/// Refuses to replace what exists unless forced.
pub fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    if path.exists() && !force {
        bail!("{} exists; name another or add --force", path.display());
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// A run folder under construction: it appears under its name only when it is whole.
pub struct NewRun {
    part: PathBuf,
    out: PathBuf,
}

impl NewRun {
    /// Begins a folder that will be `out`. Fails if that exists and `force` is not set.
    pub fn begin(out: &Path, force: bool) -> Result<Self> {
        refuse_existing(out, force)?;
        let part = beside(out);
        if part.exists() {
            std::fs::remove_dir_all(&part).with_context(|| format!("{} cannot be removed", part.display()))?;
        }
        std::fs::create_dir_all(&part).with_context(|| format!("{} cannot be made", part.display()))?;
        Ok(Self { part, out: out.to_owned() })
    }

    /// Where a file of it is written meanwhile.
    pub fn file(&self, name: &str) -> PathBuf {
        self.part.join(name)
    }

    /// Moves the folder to its place; what lay there goes first.
    pub fn finish(self) -> Result<()> {
        if self.out.exists() {
            std::fs::remove_dir_all(&self.out).with_context(|| format!("{} cannot be replaced", self.out.display()))?;
        }
        std::fs::rename(&self.part, &self.out).with_context(|| format!("{} cannot be made", self.out.display()))
    }
}

/// Where features and survey results are kept between commands; `TAGPIN_CACHE` overrides it.
pub fn cache() -> PathBuf {
    let home = |key: &str| std::env::var_os(key).map(PathBuf::from);
    home("TAGPIN_CACHE")
        .or_else(|| home("XDG_CACHE_HOME").map(|h| h.join("tagpin-tools")))
        .or_else(|| home("HOME").map(|h| h.join(".cache/tagpin-tools")))
        .unwrap_or_else(|| std::env::temp_dir().join("tagpin-tools"))
}

/// The command line as it was given.
pub fn command() -> String {
    std::iter::once("tagpin-tools".into()).chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" ")
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
