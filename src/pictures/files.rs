//! Which files of a folder are images, and what was left out: one walk for sources and tools.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Endings of files that are taken as images.
pub const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// Endings of images that are not read.
const FOREIGN: [&str; 11] = ["heic", "heif", "avif", "tif", "tiff", "gif", "jxl", "jp2", "dng", "cr2", "nef"];

/// Why a file or folder is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// An image of a kind that is not read, by its ending in small letters.
    Foreign(&'static str),
    /// A folder that may not be listed.
    Unreadable,
    /// A link to nothing.
    Broken,
    /// A pipe, socket or device.
    Special,
    /// Anything else: text, tables, hidden files.
    Other,
}

/// The images at or below a path, and what else is there.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Sorted, so that every machine sees one order.
    pub files: Vec<PathBuf>,
    /// How many of each kind were left out, with the first of them.
    pub left_out: BTreeMap<LeftOut, (usize, PathBuf)>,
}

impl Listing {
    fn leave_out(&mut self, kind: LeftOut, path: PathBuf) {
        let (count, first) = self.left_out.entry(kind).or_insert_with(|| (0, path.clone()));
        *count += 1;
        if path < *first {
            *first = path;
        }
    }

    /// A line for each kind that a person would miss: how many, the first, and what to do.
    pub fn remarks(&self) -> impl Iterator<Item = String> + '_ {
        self.left_out.iter().filter(|(kind, _)| **kind != LeftOut::Other).map(|(kind, (count, first))| {
            let (what, mend) = match kind {
                LeftOut::Foreign(ending) => (
                    format!("left out {count} .{ending} file{}", if *count == 1 { "" } else { "s" }),
                    "convert to JPEG or PNG",
                ),
                LeftOut::Unreadable => (format!("left out {count} folders that cannot be listed"), "give read permission"),
                LeftOut::Broken => (format!("left out {count} links to nothing"), "mend or remove them"),
                LeftOut::Special => (format!("left out {count} pipes, sockets or devices"), "only regular files are read"),
                LeftOut::Other => (format!("left out {count} other files"), ""),
            };
            format!("{what} (the first: {}); {mend}", first.display())
        })
    }
}

/// The images at `path`: itself if it is a file, whatever its name, else those below it. Links to
/// folders are followed, each folder once. Only a path that is not there, or a first folder that
/// cannot be listed, is an error.
pub fn list(path: &Path) -> std::io::Result<Listing> {
    let mut listing = Listing::default();
    if !std::fs::metadata(path)?.is_dir() {
        listing.files.push(path.to_path_buf());
        return Ok(listing);
    }
    let mut visited = BTreeSet::from([std::fs::canonicalize(path)?]);
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if folder == path => return Err(e),
            Err(_) => {
                listing.leave_out(LeftOut::Unreadable, folder);
                continue;
            }
        };
        // In order, so that of two ways to one folder every machine takes the same.
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        let mut inner = Vec::new();
        for path in paths {
            let Ok(kind) = std::fs::metadata(&path) else {
                let lost = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink());
                listing.leave_out(if lost { LeftOut::Broken } else { LeftOut::Unreadable }, path);
                continue;
            };
            if kind.is_dir() {
                match std::fs::canonicalize(&path).map(|place| visited.insert(place)) {
                    Ok(true) => inner.push(path),
                    Ok(false) => {}
                    Err(_) => listing.leave_out(LeftOut::Unreadable, path),
                }
                continue;
            }
            let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
            let foreign = FOREIGN.iter().find(|f| **f == ending);
            match (ENDINGS.contains(&ending.as_str()), foreign) {
                (true, _) if kind.is_file() => listing.files.push(path),
                (true, _) => listing.leave_out(LeftOut::Special, path),
                (_, Some(foreign)) => listing.leave_out(LeftOut::Foreign(foreign), path),
                _ => listing.leave_out(LeftOut::Other, path),
            }
        }
        folders.extend(inner.into_iter().rev());
    }
    listing.files.sort();
    Ok(listing)
}
