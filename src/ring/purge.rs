//! Removes what a ring has written, and says what it would hold.

use super::names::{Stem, Which};
use super::{LOCK, Limits, NotKept, inner, names_in, open_folder, open_lock, regular_len, take};
use rustix::fs::AtFlags;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What was removed from a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Images.
    pub images: usize,
    /// Files: images, what is known of them, and unfinished ones.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Names, below the folder, of what no ring has written: it is left where it is.
    pub left: Vec<PathBuf>,
    /// Files that could not be removed, and why.
    pub refused: Vec<(PathBuf, String)>,
    /// Whether a run writes the folder now.
    pub in_use: bool,
}

/// A name below the folder.
fn below(folder: Option<&CStr>, name: &CStr) -> PathBuf {
    let part = |name: &CStr| PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    folder.map_or_else(|| part(name), |folder| part(folder).join(part(name)))
}

/// What lies in a folder of a tag.
struct Content {
    /// Files of the ring, with their bytes.
    own: Vec<(CString, Which, u64)>,
    other: Vec<CString>,
}

fn content(folder: &OwnedFd) -> std::io::Result<Content> {
    let mut content = Content { own: Vec::new(), other: Vec::new() };
    names_in(folder, |name| match (Stem::of(name.to_bytes()), regular_len(folder, name)) {
        (Some((_, which)), Some(len)) => content.own.push((name.to_owned(), which, len)),
        _ => content.other.push(name.to_owned()),
    })?;
    Ok(content)
}

/// Whether a run holds the folder's lock.
fn is_in_use(folder: &OwnedFd) -> bool {
    open_lock(folder, false).is_ok_and(|lock| !take(&lock))
}

fn names(folder: &OwnedFd) -> std::io::Result<Vec<CString>> {
    let mut all = Vec::new();
    names_in(folder, |name| all.push(name.to_owned()))?;
    all.sort();
    Ok(all)
}

/// Removes every file that a ring has written into the folder, and folders of tags that are empty
/// then. Whatever else is there stays and is named. A run that writes there goes on; what it has in
/// its hands is left to it.
pub fn purge(path: &Path) -> Result<Purged, NotKept> {
    let denied = |e: std::io::Error| NotKept::Denied(path.into(), e);
    let folder = open_folder(path)?;
    let in_use = is_in_use(&folder);
    let mut purged = Purged { in_use, ..Purged::default() };
    for name in names(&folder).map_err(denied)? {
        if name.to_bytes() == LOCK.as_bytes() && regular_len(&folder, &name).is_some() {
            if !in_use {
                let _ = rustix::fs::unlinkat(&folder, &*name, AtFlags::empty());
            }
            continue;
        }
        // Never through a link: what is behind it is not the ring's.
        let Ok(of_tag) = inner(&folder, &*name) else {
            purged.left.push(below(None, &name));
            continue;
        };
        let Content { mut own, mut other } = content(&of_tag).map_err(denied)?;
        if own.is_empty() {
            purged.left.push(below(None, &name));
            continue;
        }
        own.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        other.sort();
        purged.left.extend(other.iter().map(|file| below(Some(&name), file)));
        for (file, which, len) in own {
            if in_use && which == Which::Unfinished {
                continue;
            }
            match rustix::fs::unlinkat(&of_tag, &*file, AtFlags::empty()) {
                Ok(()) => {
                    purged.files += 1;
                    purged.images += (which == Which::Jpeg) as usize;
                    purged.bytes += len;
                }
                // The ring was faster.
                Err(rustix::io::Errno::NOENT) => {}
                Err(e) => purged.refused.push((below(Some(&name), &file), std::io::Error::from(e).to_string())),
            }
        }
        // Only if nothing is in it.
        let _ = rustix::fs::unlinkat(&folder, &*name, AtFlags::REMOVEDIR);
    }
    Ok(purged)
}

/// Says what a folder holds and whether images can be kept there, without changing anything.
pub fn probe(path: &Path, limits: Limits) -> Result<String, NotKept> {
    let denied = |e: std::io::Error| NotKept::Denied(path.into(), e);
    let folder = open_folder(path)?;
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(|e| denied(e.into()))?;
    let (mut images, mut bytes) = (0usize, 0u64);
    for name in names(&folder).map_err(denied)? {
        let Ok(of_tag) = inner(&folder, &*name) else { continue };
        for (_, which, len) in content(&of_tag).map_err(denied)?.own {
            images += (which == Which::Jpeg) as usize;
            bytes += len;
        }
    }
    let free = rustix::fs::fstatvfs(&folder).map(|disk| disk.f_bavail * disk.f_frsize).map_err(|e| denied(e.into()))?;
    // If every image went, there would still be less than must stay.
    if free.saturating_add(bytes) < limits.free_bytes {
        return Err(NotKept::NoRoom { folder: path.into(), free, floor: limits.free_bytes });
    }
    let in_use = if is_in_use(&folder) { ", written by a run now" } else { "" };
    let mb = |bytes: u64| bytes.div_ceil(1_000_000);
    let (folder, has, most, days) = (path.display(), mb(bytes), mb(limits.max_bytes), limits.days);
    Ok(format!("{folder}{in_use}, {images} images of {has} MB, at most {most} MB and {days} days"))
}
