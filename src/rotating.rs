//! Append-only files of whole lines that are rotated before they grow beyond a cap.
//!
//! A rotated file is FILE.1, the one before FILE.2, and so on; the oldest goes. Nothing else is
//! ever lost: a rotation that cannot be done is put off while the file may still grow to twice its
//! cap; a line that was written in part is taken back; a file that was removed is made again with
//! the next line. A folder is not: it may be where a disk is mounted that is away, and lines would
//! fill the disk below. Without it each line is an error, until it is back.
//!
//! A file has one writer: whoever has it open holds an advisory lock on it, which ends with the
//! process, however that ends. A rotation locks the new file before it gets the name, so the name
//! never stands for a file that is free.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a rotation's new file is called behind the log's name, until it has that name.
const FRESH: &str = "new";

/// A file that is rotated before it grows beyond its cap.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    /// `None` until it could be opened.
    open: Option<Open>,
    max_bytes: u64,
    files: u32,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode: whether the path still names this file.
    id: (u64, u64),
    size: u64,
    /// The file ends within a line that could not be taken back.
    torn: bool,
}

/// Why a path is no log that this process can write.
#[derive(Debug)]
pub enum NoLog {
    /// It is empty.
    NoPath,
    /// It is a folder.
    IsFolder(PathBuf),
    /// The folder that it would be in does not exist.
    NoFolder(PathBuf),
    /// The file holds something else than events: lines at its end would destroy it.
    SomethingElse(PathBuf),
    /// Another process writes it.
    Taken(PathBuf),
    /// It cannot be read or written.
    Denied(PathBuf, Error),
}

impl std::fmt::Display for NoLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPath => write!(f, "the path is empty; expected a file, name one"),
            Self::IsFolder(path) => write!(f, "{} is a folder, expected a file; add a name to the path", path.display()),
            Self::NoFolder(path) => write!(f, "folder {} does not exist; make it or change the path", path.display()),
            Self::SomethingElse(path) => {
                write!(f, "{} holds something else than events; choose another path", path.display())
            }
            Self::Taken(path) => {
                write!(f, "{} is written by another run; stop it, or give this line a log of its own", path.display())
            }
            Self::Denied(path, e) => {
                write!(f, "{} cannot be written: {e}; change its owner or the path", path.display())
            }
        }
    }
}

impl std::error::Error for NoLog {}

impl RotatingFile {
    /// Opens or makes a log, takes it for this process alone and goes on at its end. `max_bytes`:
    /// its cap. `files`: rotated files that are kept. A pipe or device is opened with its first
    /// line: opening a pipe without a reader does not come back.
    pub fn open(path: &Path, max_bytes: u64, files: u32) -> Result<Self, NoLog> {
        if path.as_os_str().is_empty() {
            return Err(NoLog::NoPath);
        }
        let mut log = Self::at(path, max_bytes, files);
        match std::fs::metadata(path) {
            Ok(about) if about.is_dir() => return Err(NoLog::IsFolder(path.into())),
            Ok(about) if !about.is_file() => return Ok(log),
            _ => {}
        }
        log.reopen().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => NoLog::NoFolder(folder_of(path).into()),
            // What is no log is locked for a reason of its own: it may be the settings of this run.
            std::io::ErrorKind::ResourceBusy
                if File::open(path).is_ok_and(|file| matches!(holds_events(&file), Ok(false))) =>
            {
                NoLog::SomethingElse(path.into())
            }
            std::io::ErrorKind::ResourceBusy => NoLog::Taken(path.into()),
            _ => NoLog::Denied(path.into(), e),
        })?;
        match log.open.as_ref().map(|open| holds_events(&open.file)) {
            Some(Ok(true)) => Ok(log),
            Some(Err(e)) => Err(NoLog::Denied(path.into(), e)),
            Some(Ok(false)) | None => Err(NoLog::SomethingElse(path.into())),
        }
    }

    /// The same, opened and taken with its first line.
    pub fn at(path: &Path, max_bytes: u64, files: u32) -> Self {
        Self { path: path.into(), open: None, max_bytes, files }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{ending}"));
        name.into()
    }

    fn rotated(&self, n: u32) -> PathBuf {
        self.beside(&n.to_string())
    }

    /// Opens and takes the file that the path names. One that another process has taken is
    /// [`ResourceBusy`](std::io::ErrorKind::ResourceBusy).
    fn reopen(&mut self) -> std::io::Result<()> {
        /// Looks at the path before it is given up: between two of them its holder may rotate it.
        const LOOKS: usize = 10;
        self.open = None;
        for _ in 0..LOOKS {
            // Readable only where it is a plain file: a pipe that is opened for reading too never
            // breaks.
            let plain = std::fs::metadata(&self.path).map_or(true, |m| m.is_file());
            let mut file = OpenOptions::new().create(true).append(true).read(plain).open(&self.path)?;
            let about = file.metadata()?;
            if about.is_file() && !take(&file) {
                break;
            }
            let id = crate::regular::id(&about);
            if self.named() != Some(id) {
                continue;
            }
            // Not before it is ours: its last line may be another's that is not whole yet.
            let torn = about.is_file() && !ends_with_line(&mut file, about.len())?;
            let size = file.metadata()?.len();
            self.open = Some(Open { file, id, size, torn });
            return Ok(());
        }
        Err(Error::new(std::io::ErrorKind::ResourceBusy, "another run writes it"))
    }

    /// Device and inode of what the path names.
    fn named(&self) -> Option<(u64, u64)> {
        std::fs::metadata(&self.path).ok().map(|about| crate::regular::id(&about))
    }

    /// Appends whole lines; rotates first if they would not fit. After an error none of them stands
    /// in the file.
    pub fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let there = self.named();
        if self.open.as_ref().is_none_or(|open| there != Some(open.id)) {
            self.reopen()?;
        }
        let size = self.open.as_ref().map_or(0, |open| open.size);
        let needed = size + lines.len() as u64;
        if size > 0
            && needed > self.max_bytes
            && let Err(e) = self.rotate()
            && needed > 2 * self.max_bytes
        {
            return Err(Error::new(e.kind(), format!("cannot be rotated: {e}")));
        }
        match &mut self.open {
            Some(open) => open.append(lines),
            None => Err(Error::other("the file is not open")),
        }
    }

    /// Moves every file on by one number. Whatever fails, no file is written over that was to be
    /// kept.
    fn rotate(&mut self) -> std::io::Result<()> {
        // A gap in the numbers is left by a rotation that stopped half-way: files above it have
        // moved already.
        let gap = (1..self.files).find(|n| !self.rotated(*n).exists()).unwrap_or(self.files);
        // Somebody may have named a log of his own as one of these.
        if let Some(taken) = (1..=gap).map(|n| self.rotated(n)).find(|file| is_taken(file)) {
            return Err(Error::new(std::io::ErrorKind::ResourceBusy, format!("another run writes {}", taken.display())));
        }
        // Nor may a file of something else be moved, or written over as the oldest. One that cannot
        // be read (no free descriptor, a sick disk) is not known to be of something else.
        for file in (1..=gap).map(|n| self.rotated(n)).filter(|file| file.exists()) {
            let unread = |e: Error| Error::new(e.kind(), format!("{} cannot be read: {e}", file.display()));
            if !file.is_file() || !File::open(&file).and_then(|f| holds_events(&f)).map_err(unread)? {
                return Err(in_the_way(&file));
            }
        }
        let fresh = self.beside(FRESH);
        // A rotation that was cut off leaves an empty file; anything else is somebody's.
        match std::fs::symlink_metadata(&fresh) {
            Ok(about) if about.is_file() && about.len() == 0 => std::fs::remove_file(&fresh)?,
            Ok(_) => return Err(in_the_way(&fresh)),
            Err(_) => {}
        }
        // Opened before anything moves: without a free descriptor everything stays as it is.
        let file = OpenOptions::new().create_new(true).append(true).open(&fresh)?;
        let about = file.metadata()?;
        // Nobody else has it: it was made here, and its name is not the log's yet.
        take(&file);
        for n in (1..gap).rev() {
            std::fs::rename(self.rotated(n), self.rotated(n + 1))?;
        }
        if self.files > 0 {
            std::fs::rename(&self.path, self.rotated(1))?;
        }
        std::fs::rename(&fresh, &self.path)?;
        self.open = Some(Open { file, id: crate::regular::id(&about), size: 0, torn: false });
        Ok(())
    }
}

impl Open {
    fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.torn {
            self.write_whole(b"\n")?;
            self.torn = false;
        }
        self.write_whole(lines)
    }

    fn write_whole(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.write(&bytes[done..]) {
                Ok(0) => return Err(self.take_back(done, Error::from(std::io::ErrorKind::WriteZero))),
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.take_back(done, e)),
            }
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Removes the beginning of what could not be written to its end.
    fn take_back(&mut self, done: usize, why: Error) -> Error {
        if done > 0 {
            let cut = self.file.metadata().and_then(|m| self.file.set_len(m.len().saturating_sub(done as u64)));
            self.torn = cut.is_err();
        }
        why
    }
}

/// Whether two logs are one file, or one would be moved or written over when the other is rotated.
pub fn meet(a: &Path, b: &Path) -> bool {
    let is_beside = |file: &Path, log: &Path| {
        let ending = file.as_os_str().as_encoded_bytes().strip_prefix(log.as_os_str().as_encoded_bytes());
        let ending = ending.and_then(|rest| rest.strip_prefix(b"."));
        ending.is_some_and(|e| e == FRESH.as_bytes() || !e.is_empty() && e.iter().all(u8::is_ascii_digit))
    };
    a == b || is_beside(a, b) || is_beside(b, a)
}

/// That a rotation needs the name of somebody's file.
fn in_the_way(file: &Path) -> Error {
    let why = format!("{} is not this log's and is in its way; give it another name", file.display());
    Error::new(std::io::ErrorKind::AlreadyExists, why)
}

/// Takes a file for this process alone, until it is closed; whether it could be had. A file system
/// without locks cannot say it.
fn take(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether a run writes the plain file at `path`.
fn is_taken(path: &Path) -> bool {
    let is_plain = std::fs::metadata(path).is_ok_and(|about| about.is_file());
    is_plain && File::open(path).is_ok_and(|file| !take(&file))
}

/// Whether a file is empty or begins as a line of events.
fn holds_events(file: &File) -> std::io::Result<bool> {
    let mut first = [0];
    Ok(file.read_at(&mut first, 0)? == 0 || first == *b"{")
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Says whether a log of events could be made or continued at `path`, without touching it, and
/// whether a run writes it now.
pub fn probe(path: &Path) -> Result<String, NoLog> {
    let denied = |place: &Path, e| NoLog::Denied(place.into(), e);
    if path.as_os_str().is_empty() {
        return Err(NoLog::NoPath);
    }
    if path.is_dir() {
        return Err(NoLog::IsFolder(path.into()));
    }
    let mut in_use = "";
    if path.is_file() {
        let file = File::open(path).map_err(|e| denied(path, e))?;
        if !holds_events(&file).map_err(|e| denied(path, e))? {
            return Err(NoLog::SomethingElse(path.into()));
        }
        in_use = if is_taken(path) { ", written by a run now" } else { "" };
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(NoLog::NoFolder(folder.into()));
    }
    let place = if path.exists() { path } else { folder };
    rustix::fs::access(place, rustix::fs::Access::WRITE_OK).map_err(|e| denied(place, e.into()))?;
    Ok(format!("file {}{in_use}", path.display()))
}

/// Whether a file of `len` bytes is empty or ends with a line's end. The rest of a line of ours,
/// left by a process that was killed in the middle of it, is cut off.
fn ends_with_line(file: &mut File, len: u64) -> std::io::Result<bool> {
    const LONGEST: u64 = 1 << 16;
    if len == 0 {
        return Ok(true);
    }
    let begin = len.saturating_sub(LONGEST);
    let mut tail = vec![0; (len - begin) as usize];
    file.read_exact_at(&mut tail, begin)?;
    if tail.last() == Some(&b'\n') {
        return Ok(true);
    }
    let at = tail.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    if tail[at..].starts_with(b"{\"schema\":") {
        file.set_len(begin + at as u64)?;
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
