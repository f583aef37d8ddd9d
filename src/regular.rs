//! Reading of files that somebody named: regular ones, of a size that is known before a byte is
//! read. And replacing a file so that it is the old or the new one whenever the power goes.
//!
//! A pipe waits for its writer for ever, /dev/zero never ends, and a folder is none. All of the
//! device and the tools that reads a file by a name from outside does so here.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Most bytes of settings, contracts, cards and lists of tags.
pub const TEXT: u64 = 4 << 20;
/// Most bytes of a bundle.
pub const BUNDLE: u64 = 1 << 29;
/// Most bytes of anything else: models, lists of images, recorded tensors.
pub const LARGE: u64 = 2 << 30;

/// Why a file is not read.
#[derive(Debug)]
pub enum Unread {
    /// The system refuses it, or its text is no UTF-8.
    Io(std::io::Error),
    /// It is a pipe, a device or a folder.
    NotRegular,
    /// It is larger than it may be.
    TooLarge {
        /// Its bytes.
        bytes: u64,
        /// Most bytes that are read.
        limit: u64,
    },
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        match self {
            Self::Io(e) => e.fmt(f),
            Self::NotRegular => f.write_str("is a pipe, device or folder; only regular files are read"),
            Self::TooLarge { bytes, limit } => {
                write!(
                    f,
                    "is a file of {} MB, at most {} MB are read; name another or make it smaller",
                    mb(*bytes),
                    mb(*limit)
                )
            }
        }
    }
}

impl std::error::Error for Unread {}

impl From<Unread> for std::io::Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Io(e) => e,
            Unread::NotRegular => Self::new(std::io::ErrorKind::InvalidInput, unread),
            Unread::TooLarge { .. } => Self::new(std::io::ErrorKind::FileTooLarge, unread),
        }
    }
}

/// The path from the root, by the folder's own name where the folder is there: whoever compares
/// paths finds two spellings of one file alike.
pub fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let (Some(folder), Some(name)) = (whole.parent(), whole.file_name()) else { return whole };
    std::fs::canonicalize(folder).map_or(whole.clone(), |folder| folder.join(name))
}

/// Whether `path` leads to a regular file of at most `limit` bytes; its bytes. Opens nothing:
/// opening a pipe waits.
pub fn size(path: &Path, limit: u64) -> Result<u64, Unread> {
    let meta = std::fs::metadata(path).map_err(Unread::Io)?;
    match meta.len() {
        _ if !meta.is_file() => Err(Unread::NotRegular),
        bytes if bytes > limit => Err(Unread::TooLarge { bytes, limit }),
        bytes => Ok(bytes),
    }
}

/// What tells a file or folder from another of the same name: its device and its number there.
pub fn id(about: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (about.dev(), about.ino())
}

/// The bytes of a regular file of at most `limit` bytes; never more, also if it grows meanwhile.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::with_capacity(size(path, limit)? as usize);
    let file = std::fs::File::open(path).map_err(Unread::Io)?;
    file.take(limit).read_to_end(&mut bytes).map_err(Unread::Io)?;
    Ok(bytes)
}

/// As [`read`], of UTF-8, without the byte order mark that some editors put before it.
pub fn read_text(path: &Path, limit: u64) -> Result<String, Unread> {
    let not_text = |_| Unread::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no UTF-8 text"));
    let text = String::from_utf8(read(path, limit)?).map_err(not_text)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
/// Puts `text` in the place of `file`, whole or not at all; it is on the disk when this returns.
/// Several processes may do it at once: the last one's stays.
pub fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = Path::new(&new);
    // One that a killed process left; a link is removed and never followed.
    let _ = std::fs::remove_file(new);
    let mut out = std::fs::File::create_new(new)?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).and_then(|()| std::fs::rename(new, file));
    if written.is_err() {
        let _ = std::fs::remove_file(new);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    written.and_then(|()| std::fs::File::open(folder)?.sync_all())
}
