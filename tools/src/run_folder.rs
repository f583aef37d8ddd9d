//! Reads and writes the files of a run folder. A file, and a new folder, appears only when it is
//! complete; nothing that is not ours is replaced.

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use tagpin::bundle::{Hex, sha256};

/// Writes a file beside its place and then moves it there. Nothing half written stays.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = beside(path, "part");
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, path))
        .inspect_err(|_| drop(std::fs::remove_file(&part)))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Writes a value as indented JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_file(path, &serde_json::to_vec_pretty(value)?)
}

/// Reads a value from JSON; `make` names the command that writes it.
pub fn read_json<T: DeserializeOwned>(path: &Path, make: &str) -> Result<T> {
    let bytes = tagpin::regular::read(path, tagpin::regular::LARGE)
        .with_context(|| format!("{}: run `{make}` first", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged; run `{make}` again", path.display()))
}

/// Reads a file; `make` names the command that writes it.
pub fn read_file(path: &Path, make: &str) -> Result<Vec<u8>> {
    tagpin::regular::read(path, tagpin::regular::LARGE).with_context(|| format!("{}: run `{make}` first", path.display()))
}

/// Refuses to replace a file unless forced, and a folder or an image even then; tries whether the
/// file could be written, before anybody works for it.
pub fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        bail!("{} is a folder, expected a file to write; name another", path.display());
    }
    if path.exists() && !force {
        bail!("{} exists; name another or add --force", path.display());
    }
    if path.exists() && is_image(path) {
        bail!("{} is an image, which --force does not replace; name another", path.display());
    }
    let part = beside(path, "part");
    std::fs::write(&part, b"")
        .inspect(|()| drop(std::fs::remove_file(&part)))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// The same for a bundle and the card beside it: even forced, only a bundle and a card are
/// replaced.
pub fn refuse_existing_bundle(out: &Path, force: bool) -> Result<()> {
    let card = out.with_extension("md");
    refuse_existing(out, force)?;
    refuse_existing(&card, force)?;
    let is_bundle = |bytes: &[u8]| bytes.starts_with(&tagpin::bundle::MAGIC);
    let is_card = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("\n| bundle SHA-256 | `");
    refuse_other(out, is_bundle, "a bundle")?;
    refuse_other(&card, is_card, "a bundle's card")
}

fn refuse_other(path: &Path, is_it: impl Fn(&[u8]) -> bool, what: &str) -> Result<()> {
    match tagpin::regular::read(path, tagpin::regular::LARGE) {
        Ok(bytes) if !is_it(&bytes) => bail!("{} is not {what}: --force does not replace it; name another", path.display()),
        _ => Ok(()),
    }
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|e| tagpin::pictures::ENDINGS.contains(&e.as_str()))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Refuses to replace anything but a run folder, and that only if forced. A run folder holds a
/// `run.json` of this program, no folder and no image: nobody keeps anything of their own in it.
fn refuse_replacing(out: &Path, force: bool) -> Result<()> {
    let name = out.display();
    if !out.exists() {
        return Ok(());
    }
    if !out.is_dir() {
        bail!("{name} is a file, expected a run folder to make; name another");
    }
    let record = tagpin::regular::read(&out.join("run.json"), tagpin::regular::LARGE).ok();
    let record = record.and_then(|b| serde_json::from_slice::<serde_json::Value>(&b).ok());
    let ours = record.is_some_and(|r| r["tool"].as_str().is_some_and(|t| t.starts_with("tagpin-tools")));
    if !ours {
        bail!(
            "{name} exists and is no run folder: it has no run.json. --force replaces run folders only; name another --out"
        );
    }
    for entry in std::fs::read_dir(out).with_context(|| format!("{name} cannot be read"))? {
        let path = entry.with_context(|| format!("{name} cannot be read"))?.path();
        if path.is_dir() || is_image(&path) {
            let what = path.display();
            bail!("{name} holds {what}, which this program did not put there; move it, or name another --out");
        }
    }
    if !force {
        bail!("{name} exists; name another or add --force");
    }
    Ok(())
}

/// Bytes that a run folder needs beside its networks: a checkpoint of the small network, figures,
/// the page.
const ROOM: u64 = 8 << 20;

/// A run folder that this process is about to make: nobody else makes it until this is dropped.
pub struct Claim {
    _lock: Option<std::fs::File>,
}

impl Claim {
    /// Refuses an `out` that exists (unless it is a run folder and `force` is set), that another
    /// process makes, that cannot be written, or whose disk has less than 8 MiB and `room` bytes
    /// left.
    pub fn of(out: &Path, force: bool, room: u64) -> Result<Self> {
        refuse_replacing(out, force)?;
        let name = out.display();
        let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let folder = std::fs::canonicalize(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        let lock = Self::lock(&folder.join(out.file_name().unwrap_or_default()))
            .with_context(|| format!("{name} is being made by another tagpin-tools; wait for it, or name another --out"))?;
        let part = beside(out, "part");
        let trial = beside(&part, "trial");
        std::fs::write(&trial, [0; 4096])
            .and_then(|()| std::fs::remove_file(&trial))
            .inspect_err(|_| drop(std::fs::remove_file(&trial)))
            .with_context(|| format!("{name} cannot be written"))?;
        if let Ok(disk) = rustix::fs::statvfs(&folder) {
            let (free, needed) = (disk.f_bavail.saturating_mul(disk.f_frsize), ROOM + room);
            if free < needed {
                let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
                let (free, needed) = (mib(free), mib(needed));
                bail!(
                    "{name}: no space left on the device: {free:.1} MiB free, {needed:.1} MiB needed; make room, or name another --out"
                );
            }
        }
        Ok(Self { _lock: lock })
    }

    /// A lock by the folder's whole name, in the cache: nothing of it stays beside the folder. None
    /// where there is no cache.
    fn lock(out: &Path) -> Result<Option<std::fs::File>> {
        let name = Hex(&sha256(out.as_os_str().as_encoded_bytes())).to_string();
        let locks = cache().join("locks");
        let open = || {
            std::fs::create_dir_all(&locks)?;
            std::fs::File::create(locks.join(&name[..16]))
        };
        let Ok(file) = open() else { return Ok(None) };
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => bail!("locked"),
            _ => Ok(Some(file)),
        }
    }
}

/// A run folder under construction: it appears under its name only when it is whole.
pub struct NewRun {
    part: PathBuf,
    out: PathBuf,
    force: bool,
}

impl NewRun {
    /// Begins a folder that will be `out`. Fails if that exists, unless it is a run folder and
    /// `force` is set.
    pub fn begin(out: &Path, force: bool) -> Result<Self> {
        refuse_replacing(out, force)?;
        let part = beside(out, "part");
        if part.exists() {
            // Left by a process that was killed; anything else stays.
            Self::remove(&part)?;
        }
        std::fs::create_dir_all(&part).with_context(|| format!("{} cannot be made", part.display()))?;
        Ok(Self { part, out: out.to_owned(), force })
    }

    /// Removes a folder of files; one that holds a folder or an image stays whole, and is an
    /// error.
    fn remove(folder: &Path) -> Result<()> {
        let all = || {
            let files: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|f| f.map(|f| f.path())).collect::<Result<_, _>>()?;
            if files.iter().any(|f| f.is_dir() || is_image(f)) {
                return Err(std::io::Error::other("it holds folders or images"));
            }
            files.iter().try_for_each(std::fs::remove_file)?;
            std::fs::remove_dir(folder)
        };
        all().with_context(|| format!("{} cannot be removed; move it away", folder.display()))
    }

    /// Where a file of it is written meanwhile.
    pub fn file(&self, name: &str) -> PathBuf {
        self.part.join(name)
    }

    /// Moves the folder to its place; what lay there goes after that.
    pub fn finish(self) -> Result<()> {
        refuse_replacing(&self.out, self.force)?;
        let old = beside(&self.out, "old");
        let made = || format!("{} cannot be made", self.out.display());
        let replaces = self.out.exists();
        if replaces {
            std::fs::rename(&self.out, &old).with_context(made)?;
        }
        let moved = std::fs::rename(&self.part, &self.out);
        if replaces && moved.is_err() {
            let _ = std::fs::rename(&old, &self.out);
        }
        moved.with_context(made)?;
        if replaces { Self::remove(&old) } else { Ok(()) }
    }
}

impl Drop for NewRun {
    fn drop(&mut self) {
        if self.part.exists() {
            let _ = Self::remove(&self.part);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tagpin-tools-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Two processes with one `--out` once wrote into one folder. Locks are of open files, so two
    /// claims here are as two processes.
    #[test]
    fn one_folder_is_made_by_one_at_a_time() {
        let at = folder("claim");
        let first = Claim::of(&at.join("run"), false, 0).unwrap();
        let text = format!("{:#}", Claim::of(&at.join("run"), false, 0).err().unwrap());
        assert!(text.contains("is being made by another"), "{text}");
        let _beside = Claim::of(&at.join("other"), false, 0).unwrap();
        drop(first);
        Claim::of(&at.join("run"), false, 0).unwrap();
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0, "a claim leaves nothing behind");
    }

    /// A full disk was found after the training.
    #[test]
    fn a_disk_without_room_is_found_before_work_begins() {
        let at = folder("room");
        let text = format!("{:#}", Claim::of(&at.join("run"), false, 1 << 60).err().unwrap());
        assert!(text.contains("no space left") && text.contains("MiB needed"), "{text}");
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
    }

    #[test]
    fn what_is_half_written_does_not_stay() {
        let at = folder("half");
        assert!(write_file(&at.join("missing/file"), b"x").is_err());
        let new = NewRun::begin(&at.join("run"), false).unwrap();
        write_file(&new.file("float.onnx"), b"x").unwrap();
        drop(new);
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
        // A folder of that name which is somebody's own stays.
        std::fs::create_dir_all(at.join("run.part")).unwrap();
        std::fs::write(at.join("run.part/1.jpg"), b"x").unwrap();
        assert!(NewRun::begin(&at.join("run"), false).is_err());
        assert!(at.join("run.part/1.jpg").exists());
    }
}
