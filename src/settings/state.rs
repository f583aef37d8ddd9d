//! Files of the state folder, which hold what people chose while lines ran.
//!
//! A file that is not there says that nothing was chosen. A folder that is not there says nothing:
//! its disk may not be mounted yet, and a line that sorted by device.toml alone would sort by what
//! nobody chose.

use crate::regular::{self, Unread};
use std::io::ErrorKind;
use std::path::Path;

/// The text of a file in the folder; `None` where there is no such file. An error says why it
/// cannot be known.
pub(super) fn text(folder: &Path, file: &str) -> Result<Option<String>, String> {
    let path = folder.join(file);
    match regular::read_text(&path, regular::TEXT) {
        Ok(text) => Ok(Some(text)),
        Err(Unread::Io(e)) if e.kind() == ErrorKind::NotFound && folder.is_dir() => Ok(None),
        Err(Unread::Io(e)) if e.kind() == ErrorKind::NotFound => Err(missing(folder)),
        Err(e) => Err(format!("{}: cannot be read: {e}", path.display())),
    }
}

/// That the folder is not there, in words.
fn missing(folder: &Path) -> String {
    format!(
        "[state] folder {}: there is no such folder, and it keeps the thresholds and the recipe that people chose; mount it, or make \
         it with `mkdir`",
        folder.display()
    )
}
