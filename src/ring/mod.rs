//! A ring of images on disk: a folder of a tag each, within a cap, above a floor of free space, and
//! the oldest goes first.
//!
//! What the ring knows it reads from the files' [names]: it can be taken over after any end, and a
//! file that somebody removed does no harm. A file gets its name when it is whole. Folders are
//! opened without following links and files are reached through them only, so that neither a tag's
//! name nor a link in the folder leads elsewhere. The folder itself is never made: it may be where
//! a disk is mounted that is away.
//!
//! A folder has one writer: whoever has it open holds an advisory lock on the file
//! `.tagpin-keep` in it, which ends with the process.
//!
//! Terms: *kind*: why an image is kept. *Quota*: most bytes of one kind.

mod names;
mod purge;
#[cfg(test)]
mod tests;

pub use purge::{Purged, probe, purge};

use names::{Stem, Which};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The file by whose lock a folder has one writer.
const LOCK: &str = ".tagpin-keep";
/// Most images in one folder, however small they are.
pub const MOST_IMAGES: usize = 65_536;
/// Bytes that a file takes on disk are a multiple of this.
const BLOCK: u64 = 4096;
/// Images are written through to the disk at most once in this time: after a power cut the last
/// ones may be missing.
const SYNC_EVERY: Duration = Duration::from_secs(10);
const DAY_S: u64 = 86_400;
/// How often the folder is read anew, besides when its oldest image is gone: people move images to
/// the folders of their true tags.
const READ_EVERY: Duration = Duration::from_secs(3600);

/// Why an image is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The part was drawn, whatever it is.
    Drawn,
    /// It is none of what the model was trained on.
    Foreign,
    /// Its frames do not say the same.
    Disagreeing,
    /// No tag is sure, one lies in its review band, or a score lies near its threshold.
    Uncertain,
    /// It was thrown out.
    Rejected,
}

impl Kind {
    /// All kinds: a part that is of several is kept as the first of them.
    pub const ALL: [Self; 5] = [Self::Drawn, Self::Foreign, Self::Disagreeing, Self::Uncertain, Self::Rejected];

    /// The name used in settings, names of files and figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drawn => "drawn",
            Self::Foreign => "foreign",
            Self::Disagreeing => "disagreeing",
            Self::Uncertain => "uncertain",
            Self::Rejected => "rejected",
        }
    }
}

/// What a folder may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in all.
    pub max_bytes: u64,
    /// Bytes of its disk that stay free.
    pub free_bytes: u64,
    /// Age in days at which an image goes.
    pub days: u32,
    /// Bytes of each kind, in the order of [`Kind::ALL`].
    pub quotas: [u64; 5],
}

/// An image to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Why it is kept.
    pub kind: Kind,
    /// The name of its folder: [`tag_folder`](crate::pictures::tag_folder), or one that begins with
    /// `_`.
    pub folder: &'a str,
    /// The part that it shows.
    pub part: u64,
    /// When, in microseconds since 1970; `None` where the clock is not set.
    pub wall: Option<u64>,
    /// The image's file.
    pub jpeg: &'a [u8],
    /// What is known of it.
    pub json: &'a [u8],
}

/// Why an image is not kept, or a folder cannot be one for images.
#[derive(Debug)]
pub enum NotKept {
    /// There is no such folder.
    NoFolder(PathBuf),
    /// It is a file, or something else that is no folder.
    IsNoFolder(PathBuf),
    /// Another run writes it.
    Taken(PathBuf),
    /// The image is larger than its kind's quota or the folder's cap.
    TooLarge {
        /// Bytes that it takes.
        needed: u64,
        /// The quota or cap.
        most: u64,
        /// Its kind.
        kind: Kind,
    },
    /// The disk has less free space than must stay, and no image is left that could go.
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that stay free.
        floor: u64,
    },
    /// The system refuses it.
    Denied(PathBuf, std::io::Error),
}

impl std::fmt::Display for NotKept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kb = |bytes: &u64| bytes.div_ceil(1000);
        match self {
            Self::NoFolder(path) => {
                write!(f, "folder {} does not exist; make it and give it to tagpin, or change [keep]", path.display())
            }
            Self::IsNoFolder(path) => {
                write!(f, "{} is no folder, expected one for images; remove it or change [keep]", path.display())
            }
            Self::Taken(path) => {
                write!(f, "{} is written by another run; stop it, or give this line a folder of its own", path.display())
            }
            Self::TooLarge { needed, most, kind } => {
                let kind = kind.name();
                let (needed, most) = (kb(needed), kb(most));
                write!(f, "an image takes {needed} kB, at most {most} are kept of {kind} ones; raise {kind}_mb and max_mb")
            }
            Self::NoRoom { folder, free, floor } => {
                let (folder, free, floor) = (folder.display(), free / 1_000_000, floor.div_ceil(1_000_000));
                write!(f, "{folder}: {free} MB are free on its disk, {floor} stay free; make room or lower free_mb")
            }
            Self::Denied(path, e) => {
                write!(f, "{}: {e}; free space, change its owner or change [keep]", path.display())
            }
        }
    }
}

impl std::error::Error for NotKept {}

/// One image in the folder.
#[derive(Clone, Debug)]
struct Entry {
    stem: Stem,
    folder: Arc<str>,
    /// Bytes of both its files on disk.
    bytes: u64,
}

/// The folder, open and ours.
#[derive(Debug)]
struct Held {
    folder: OwnedFd,
    /// Holds the lock.
    lock: File,
    /// Images by kind, oldest first.
    images: [VecDeque<Entry>; 5],
    /// Their bytes.
    bytes: [u64; 5],
    /// The number of the next image.
    next: u64,
    synced: Option<Instant>,
    read: Instant,
}

/// A ring of images.
#[derive(Debug)]
pub struct Ring {
    path: PathBuf,
    limits: Limits,
    /// `None` until it could be opened, and after it was removed.
    held: Option<Held>,
}

impl Ring {
    /// Takes a folder for this process alone, and what it holds.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, NotKept> {
        let mut ring = Self::at(path, limits);
        ring.hold()?;
        Ok(ring)
    }

    /// The same, taken with its first image.
    pub fn at(path: &Path, limits: Limits) -> Self {
        Self { path: path.into(), limits, held: None }
    }

    /// Images in the folder, and their bytes on disk, as far as is known.
    pub fn holds(&self) -> (usize, u64) {
        self.held.as_ref().map_or((0, 0), |held| (held.count(), held.bytes.iter().sum()))
    }

    /// Keeps an image; the oldest go where there is no room: of its kind at the quota, of all kinds
    /// at the cap and the floor. After an error nothing of it is there.
    pub fn keep(&mut self, image: &Image<'_>) -> Result<(), NotKept> {
        let needed = on_disk(image.jpeg.len() as u64) + on_disk(image.json.len() as u64);
        let (kind, limits) = (image.kind, self.limits);
        let most = limits.quotas[kind as usize].min(limits.max_bytes);
        if needed > most {
            return Err(NotKept::TooLarge { needed, most, kind });
        }
        let path = self.path.clone();
        let denied = |e| refused(&path, e);
        let held = self.hold()?;
        while held.bytes[kind as usize] + needed > limits.quotas[kind as usize] {
            held.evict(kind).map_err(denied)?;
        }
        while held.bytes.iter().sum::<u64>() + needed > limits.max_bytes || held.count() >= MOST_IMAGES {
            held.evict_oldest().map_err(denied)?;
        }
        held.make_room(&path, limits.free_bytes.saturating_add(needed), limits.free_bytes)?;
        held.write(image, needed).map_err(|e| refused(&path.join(image.folder), e))
    }

    /// Removes what is too old at `wall` (microseconds since 1970; `None` where the clock is not
    /// set), what is above a limit, and what must go for the disk's free space; reads the folder
    /// anew once an hour, and when its oldest image is gone. To be called now and then.
    pub fn tend(&mut self, wall: Option<u64>) -> Result<(), NotKept> {
        let (path, limits) = (self.path.clone(), self.limits);
        let denied = |e| refused(&path, e);
        let held = self.hold()?;
        if held.read.elapsed() >= READ_EVERY || held.has_lost_its_oldest() {
            held.take_over().map_err(denied)?;
        }
        if let Some(now) = wall {
            held.expire(now / 1_000_000, u64::from(limits.days) * DAY_S).map_err(denied)?;
        }
        for kind in Kind::ALL {
            while held.bytes[kind as usize] > limits.quotas[kind as usize] {
                held.evict(kind).map_err(denied)?;
            }
        }
        while held.bytes.iter().sum::<u64>() > limits.max_bytes {
            held.evict_oldest().map_err(denied)?;
        }
        match held.make_room(&path, limits.free_bytes, limits.free_bytes) {
            // Somebody else's files fill it. That is told with the next image, which is lost.
            Err(NotKept::NoRoom { .. }) => Ok(()),
            other => other,
        }
    }

    /// The folder that the path names, opened and taken anew where it is another one than before.
    fn hold(&mut self) -> Result<&mut Held, NotKept> {
        if !self.held.as_ref().is_some_and(|held| held.is_at(&self.path)) {
            // First, so that its lock is free.
            self.held = None;
            self.held = Some(Held::open(&self.path)?);
        }
        Ok(self.held.as_mut().expect("it was opened above"))
    }
}

/// Bytes that a file of `len` takes on disk.
const fn on_disk(len: u64) -> u64 {
    len.div_ceil(BLOCK) * BLOCK
}

fn refused(path: &Path, e: std::io::Error) -> NotKept {
    // What a link in a folder's place is called differs from system to system.
    match rustix::io::Errno::from_io_error(&e) {
        Some(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => NotKept::IsNoFolder(path.into()),
        _ => NotKept::Denied(path.into(), e),
    }
}

/// How folders are opened: not through a link, except the ring's own.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the ring's folder.
fn open_folder(path: &Path) -> Result<OwnedFd, NotKept> {
    rustix::fs::open(path, FOLDER, Mode::empty()).map_err(|e| match std::io::Error::from(e) {
        e if e.kind() == std::io::ErrorKind::NotFound => NotKept::NoFolder(path.into()),
        e => refused(path, e),
    })
}

/// Opens a folder in the ring's; a link to one is none.
fn inner(folder: &OwnedFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

/// The lock's file; made if `make`.
fn open_lock(folder: &OwnedFd, make: bool) -> rustix::io::Result<File> {
    let how = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let how = if make { how | OFlags::CREATE } else { how };
    rustix::fs::openat(folder, LOCK, how, Mode::from_raw_mode(0o640)).map(File::from)
}

/// Takes a lock; whether it could be had. A file system without locks cannot say it.
fn take(lock: &File) -> bool {
    !matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

/// Removes a file; one that is not there any more is no error.
fn remove(folder: &OwnedFd, name: impl rustix::path::Arg) -> std::io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Shows `look` every name in a folder, but for the folder itself and the one above it.
fn names_in(folder: impl AsFd, mut look: impl FnMut(&std::ffi::CStr)) -> std::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            look(entry.file_name());
        }
    }
    Ok(())
}

/// Bytes of a regular file; `None` of anything else, a link to one included.
fn regular_len(folder: &OwnedFd, name: &std::ffi::CStr) -> Option<u64> {
    let about = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (FileType::from_raw_mode(about.st_mode) == FileType::RegularFile).then(|| u64::try_from(about.st_size).ok())?
}

impl Held {
    fn open(path: &Path) -> Result<Self, NotKept> {
        let denied = |e: std::io::Error| NotKept::Denied(path.into(), e);
        let folder = open_folder(path)?;
        let lock = open_lock(&folder, true).map_err(|e| denied(e.into()))?;
        if !take(&lock) {
            return Err(NotKept::Taken(path.into()));
        }
        let (images, bytes) = (Default::default(), [0; 5]);
        let mut held = Self { folder, lock, images, bytes, next: 1, synced: None, read: Instant::now() };
        held.take_over().map_err(denied)?;
        Ok(held)
    }

    /// Whether the path still names the folder whose lock this is.
    fn is_at(&self, path: &Path) -> bool {
        let named = std::fs::symlink_metadata(path.join(LOCK));
        let same =
            |named: std::fs::Metadata, held: std::fs::Metadata| crate::regular::id(&named) == crate::regular::id(&held);
        named.is_ok_and(|named| self.lock.metadata().is_ok_and(|held| same(named, held)))
    }

    /// Reads what is there. What a killed process left unfinished is removed.
    fn take_over(&mut self) -> std::io::Result<()> {
        (self.images, self.bytes, self.read) = (Default::default(), [0; 5], Instant::now());
        let mut folders = Vec::new();
        names_in(&self.folder, |name| folders.extend(name.to_str().ok().map(Arc::<str>::from)))?;
        let mut all = Vec::new();
        for name in folders {
            // What is no folder, or a link to one, is somebody else's.
            let Ok(folder) = inner(&self.folder, &*name) else { continue };
            let mut found = BTreeMap::<u64, (Stem, [Option<u64>; 2])>::new();
            let mut unfinished = Vec::new();
            names_in(&folder, |file| {
                let Some((stem, which)) = Stem::of(file.to_bytes()) else { return };
                let Some(len) = regular_len(&folder, file) else { return };
                match which {
                    Which::Unfinished => unfinished.push(file.to_owned()),
                    _ => {
                        found.entry(stem.number).or_insert((stem, [None; 2])).1[(which == Which::Json) as usize] = Some(len)
                    }
                }
            })?;
            unfinished.iter().try_for_each(|file| remove(&folder, &**file))?;
            for (stem, lens) in found.into_values() {
                self.next = self.next.max(stem.number.saturating_add(1));
                // The image comes last; without it, or with nothing in it after a power cut, the
                // other file is of no use.
                let [Some(jpeg @ 1..), json] = lens else {
                    remove(&folder, stem.file(Which::Jpeg))?;
                    remove(&folder, stem.file(Which::Json))?;
                    continue;
                };
                let bytes = on_disk(jpeg) + on_disk(json.unwrap_or(0));
                all.push(Entry { stem, folder: name.clone(), bytes });
            }
        }
        all.sort_unstable_by_key(|entry| entry.stem.number);
        all.into_iter().for_each(|entry| self.add(entry));
        Ok(())
    }

    fn add(&mut self, entry: Entry) {
        let kind = entry.stem.kind as usize;
        self.bytes[kind] += entry.bytes;
        self.images[kind].push_back(entry);
    }

    fn count(&self) -> usize {
        self.images.iter().map(VecDeque::len).sum()
    }

    /// Removes an image's files.
    fn remove(&self, entry: &Entry) -> std::io::Result<()> {
        let folder = match inner(&self.folder, &*entry.folder) {
            Ok(folder) => folder,
            // Somebody removed it, or put something else in its place: the image is gone.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        remove(&folder, entry.stem.file(Which::Jpeg))?;
        remove(&folder, entry.stem.file(Which::Json))
    }

    /// The oldest image of a kind goes.
    fn evict(&mut self, kind: Kind) -> std::io::Result<()> {
        let Some(entry) = self.images[kind as usize].front() else { return Ok(()) };
        self.remove(entry)?;
        self.bytes[kind as usize] -= entry.bytes;
        self.images[kind as usize].pop_front();
        Ok(())
    }

    /// The kind of the oldest image of all.
    fn oldest(&self) -> Option<Kind> {
        let number = |kind: &Kind| self.images[*kind as usize].front().map(|entry| entry.stem.number);
        Kind::ALL.into_iter().filter(|kind| number(kind).is_some()).min_by_key(number)
    }

    /// The oldest image of all goes; `false` where there is none.
    fn evict_oldest(&mut self) -> std::io::Result<bool> {
        self.oldest().map_or(Ok(false), |kind| self.evict(kind).map(|()| true))
    }

    /// Whether somebody removed or moved the oldest image, as a purge does: what is known of the
    /// others may not hold either.
    fn has_lost_its_oldest(&self) -> bool {
        let Some(entry) = self.oldest().and_then(|kind| self.images[kind as usize].front()) else { return false };
        let file = |folder| rustix::fs::statat(&folder, entry.stem.file(Which::Jpeg), AtFlags::SYMLINK_NOFOLLOW);
        inner(&self.folder, &*entry.folder).and_then(file).is_err_and(|e| e == rustix::io::Errno::NOENT)
    }

    /// The oldest go until `wanted` bytes of the disk are free. `floor`: those that stay so.
    fn make_room(&mut self, path: &Path, wanted: u64, floor: u64) -> Result<(), NotKept> {
        loop {
            let disk = rustix::fs::fstatvfs(&self.folder).map_err(|e| refused(path, e.into()))?;
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free >= wanted {
                return Ok(());
            }
            if !self.evict_oldest().map_err(|e| refused(path, e))? {
                return Err(NotKept::NoRoom { folder: path.into(), free, floor });
            }
        }
    }

    /// Images that are `age` seconds old at `now` go. One whose time is not known, or is to come
    /// because the clock was set back, is at least as old as any that was kept after it.
    fn expire(&mut self, now: u64, age: u64) -> std::io::Result<()> {
        let mut all: Vec<Stem> = self.images.iter().flatten().map(|entry| entry.stem).collect();
        all.sort_unstable_by_key(|stem| std::cmp::Reverse(stem.number));
        let (mut bound, mut old) = (now, std::collections::BTreeSet::new());
        for stem in all {
            let known = stem.wall.filter(|wall| *wall <= now);
            bound = bound.min(known.unwrap_or(bound));
            if now - known.unwrap_or(bound) >= age {
                old.insert(stem.number);
            }
        }
        for kind in 0..self.images.len() {
            let mut at = 0;
            while let Some(entry) = self.images[kind].get(at) {
                if !old.contains(&entry.stem.number) {
                    at += 1;
                    continue;
                }
                self.remove(entry)?;
                self.bytes[kind] -= entry.bytes;
                self.images[kind].remove(at);
            }
        }
        Ok(())
    }

    fn write(&mut self, image: &Image<'_>, bytes: u64) -> std::io::Result<()> {
        let Image { kind, part, wall, folder, jpeg, json } = *image;
        let stem = Stem { number: self.next, wall: wall.map(|micros| micros / 1_000_000), kind, part };
        // Used up even if it fails: no two images ever have one number.
        self.next += 1;
        match rustix::fs::mkdirat(&self.folder, folder, Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let within = inner(&self.folder, folder)?;
        let sync = self.synced.is_none_or(|at| at.elapsed() >= SYNC_EVERY);
        let both = write_whole(&within, &stem, Which::Json, json, false)
            .and_then(|()| write_whole(&within, &stem, Which::Jpeg, jpeg, sync));
        if both.is_err() {
            // Half of it is of no use; the error that counts is the first.
            let _ = remove(&within, stem.file(Which::Unfinished));
            let _ = remove(&within, stem.file(Which::Json));
            return both;
        }
        if sync {
            self.synced = Some(Instant::now());
        }
        self.add(Entry { stem, folder: folder.into(), bytes });
        Ok(())
    }
}

/// Writes a file that gets its name when it is whole. `sync`: and on the disk.
fn write_whole(folder: &OwnedFd, stem: &Stem, which: Which, bytes: &[u8], sync: bool) -> std::io::Result<()> {
    let unfinished = stem.file(Which::Unfinished);
    // What another process left under this name, a link included, is not written into.
    remove(folder, &*unfinished)?;
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // People may be in the image: it is not for everybody.
    let mut file = File::from(rustix::fs::openat(folder, &*unfinished, how, Mode::from_raw_mode(0o640))?);
    file.write_all(bytes)?;
    if sync {
        file.sync_data()?;
    }
    Ok(rustix::fs::renameat(folder, &*unfinished, folder, stem.file(which))?)
}
