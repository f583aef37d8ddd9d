//! Lists the files below a folder: images, images that cannot be used, and files that are not data.
//!
//! Goes by names and endings and opens no file. Symbolic links are followed, loops are not.

use super::left_out::{Kind, LeftOut};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tagpin::pictures::ENDINGS;

/// What lies below a folder.
#[derive(Default)]
pub struct Found {
    /// Files whose ending is that of a format we decode, sorted.
    pub images: Vec<PathBuf>,
    /// Files that look like data and cannot be used. Paths start with the folder given.
    pub skipped: Vec<LeftOut>,
    /// Number of files that are not data, by kind.
    pub ignored: BTreeMap<String, usize>,
}

/// Endings of JPEG files beside the usual ones.
const MORE_ENDINGS: [&str; 2] = ["jfif", "jpe"];

/// Formats of images and films that we do not decode, by ending.
const FORMATS: [(&str, &[&str]); 9] = [
    ("HEIC", &["heic", "heif", "hif"]),
    ("TIFF", &["tif", "tiff"]),
    ("GIF", &["gif"]),
    ("AVIF", &["avif"]),
    ("JPEG 2000 or XL", &["jp2", "j2k", "jxl"]),
    ("raw", &["dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf", "pef"]),
    ("Photoshop", &["psd"]),
    ("uncommon image", &["ppm", "pgm", "pnm", "tga", "ico", "svg", "exr", "dds"]),
    ("film", &["mp4", "mov", "avi", "mkv", "webm", "m4v"]),
];

/// Folders and files that operating systems and programs leave behind. Names that begin with a dot
/// are skipped too.
const SYSTEM: [&str; 7] =
    ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"];

/// Whether a file or folder of this name is skipped: hidden, or in [`SYSTEM`].
pub fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || SYSTEM.iter().any(|s| s.eq_ignore_ascii_case(name))
}

/// Lists the files in `folder`, and in its subfolders if `deep`. Fails if the folder cannot be
/// read.
pub fn below(folder: &Path, deep: bool) -> Result<Found> {
    let mut found = Found::default();
    walk(folder, deep, &mut Vec::new(), &mut found)?;
    found.images.sort();
    leave_out_masks(&mut found);
    found.skipped.sort();
    Ok(found)
}

/// `above`: canonical paths of the folders from the start down to `folder`'s parent.
fn walk(folder: &Path, deep: bool, above: &mut Vec<PathBuf>, found: &mut Found) -> Result<()> {
    let unreadable = || format!("{}: cannot be read", folder.display());
    above.push(std::fs::canonicalize(folder).with_context(unreadable)?);
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            found.skipped.push(LeftOut::new(&path, Kind::Name, "its name is not UTF-8; rename it"));
            continue;
        };
        if is_hidden(name) {
            *found.ignored.entry("hidden".into()).or_default() += 1;
            continue;
        }
        match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() && deep => {
                let real = std::fs::canonicalize(&path).with_context(unreadable)?;
                if above.iter().any(|a| a.starts_with(&real)) {
                    let why = format!("a symbolic link to {}, which holds it", real.display());
                    found.skipped.push(LeftOut::new(&path, Kind::Loop, why));
                } else {
                    walk(&path, deep, above, found)?;
                }
            }
            Ok(m) if m.is_dir() => {}
            Ok(_) => sort_in(path, found),
            Err(e) if path.is_symlink() => {
                let why = match std::fs::read_link(&path) {
                    Ok(to) if e.kind() == std::io::ErrorKind::NotFound => {
                        format!("a symbolic link to {}, which is not there", to.display())
                    }
                    _ => format!("a symbolic link that leads nowhere: {e}"),
                };
                found.skipped.push(LeftOut::new(&path, Kind::Missing, why));
            }
            Err(e) => found.skipped.push(LeftOut::new(&path, Kind::Unreadable, format!("cannot be read: {e}"))),
        }
    }
    above.pop();
    Ok(())
}

fn sort_in(path: PathBuf, found: &mut Found) {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let format = |e: &str| FORMATS.iter().find(|(_, endings)| endings.contains(&e)).map(|(name, _)| *name);
    match ending.as_deref() {
        Some(e) if ENDINGS.contains(&e) || MORE_ENDINGS.contains(&e) => found.images.push(path),
        Some(e) => match format(e) {
            Some(name) => found.skipped.push(LeftOut::new(path, Kind::Format(name.into()), undecoded(name))),
            None => *found.ignored.entry(format!(".{e}")).or_default() += 1,
        },
        None => {
            let why = "it has no ending; rename it if it is an image";
            found.skipped.push(LeftOut::new(path, Kind::Unnamed, why));
        }
    }
}

/// Why a file of this format is not used.
pub fn undecoded(format: &str) -> String {
    format!("{format} is not decoded here or on the device; save it as JPEG or PNG")
}

/// Endings of names by which labelling programs store a mask beside its image.
const MASKS: [&str; 6] = ["_mask", "_seg", "_gt", "_label", "-mask", ".mask"];

/// `001_mask.png` beside `001.jpg` is a mask; by itself it is an image.
fn leave_out_masks(found: &mut Found) {
    let stem = |p: &Path| p.with_extension("");
    let stems: std::collections::HashSet<PathBuf> = found.images.iter().map(|p| stem(p)).collect();
    let of = |p: &PathBuf| -> Option<PathBuf> {
        let own = stem(p);
        let name = own.file_name()?.to_str()?;
        let base = MASKS.iter().find_map(|m| name.strip_suffix(m))?;
        Some(own.with_file_name(base)).filter(|base| stems.contains(base))
    };
    let (masks, images): (Vec<PathBuf>, Vec<PathBuf>) = found.images.drain(..).partition(|p| of(p).is_some());
    found.images = images;
    for mask in masks {
        found.skipped.push(LeftOut::new(mask, Kind::Mask, "a mask beside its image"));
    }
}
