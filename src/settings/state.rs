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
    // Before and after: a folder that comes back meanwhile had the file all the time.
    let was_there = folder.is_dir();
    match regular::read_text(&path, regular::TEXT) {
        Ok(text) => Ok(Some(text)),
        Err(_) if !was_there || !folder.is_dir() => Err(missing(folder)),
        Err(Unread::Io(e)) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: cannot be read: {e}", path.display())),
    }
}

/// That the folder is not there, in words.
fn missing(folder: &Path) -> String {
    let found = match folder.is_file() {
        true => "is a file, expected a folder that keeps",
        false => "there is no such folder, and it keeps",
    };
    format!(
        "[state] folder {}: {found} the thresholds and the recipe that people chose; mount it, or make it with `mkdir`",
        folder.display()
    )
}

/// That nothing could be written in the folder, and what mends it.
pub(crate) fn unwritten(folder: &Path, e: &std::io::Error) -> String {
    let mend = match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "make room on its disk",
        _ => "give tagpin a folder that it may write to",
    };
    format!("{}: {e}; {mend}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full disk was answered with the advice to change the folder.
    #[test]
    fn what_cannot_be_written_is_told_with_its_own_mend() {
        for (kind, mend) in
            [(ErrorKind::StorageFull, "make room on its disk"), (ErrorKind::PermissionDenied, "may write to")]
        {
            let told = unwritten(Path::new("/var/x"), &kind.into());
            assert!(told.starts_with("/var/x: ") && told.ends_with(mend), "{told}");
        }
    }
}
