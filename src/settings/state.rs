//! Files of the state folder, which hold what people chose while lines ran.
//!
//! A file that is not there says that nothing was chosen. A folder that is not there says nothing:
//! its disk may not be mounted yet, and a line that sorted by device.toml alone would sort by what
//! nobody chose.

use crate::regular::{self, Unread};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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

/// The state folder as a run found it. In its place another says nothing, as an empty mount point
/// does when its disk is gone.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// `None` where there was none.
    id: Option<(u64, u64)>,
}

impl StateFolder {
    /// The folder that is at `path` now.
    pub fn at(path: PathBuf) -> Self {
        let id = folder_id(&path);
        Self { path, id }
    }

    /// Where it is; an error says that another folder is there now.
    pub fn path(&self) -> Result<&Path, String> {
        match folder_id(&self.path) {
            None => Err(missing(&self.path)),
            now if now == self.id => Ok(&self.path),
            Some(_) => Err(format!(
                "[state] folder {}: it is another folder than when this run began; is its disk mounted? Start the line anew where \
                 that is right",
                self.path.display()
            )),
        }
    }
}

fn folder_id(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|about| regular::id(&about))
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

    /// A choice in a folder that had taken the place of the run's was said to be kept.
    #[test]
    fn another_folder_in_the_place_of_the_runs_is_told_and_the_same_is_known_again() {
        let base = std::env::temp_dir().join(format!("tagpin-state-folder-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        let [path, away] = ["state", "away"].map(|name| base.join(name));
        std::fs::create_dir_all(&path).unwrap();
        let folder = StateFolder::at(path.clone());
        assert_eq!(folder.path(), Ok(&*path));
        std::fs::rename(&path, &away).unwrap();
        assert!(folder.path().is_err(), "there is none");
        std::fs::create_dir(&path).unwrap();
        assert!(folder.path().unwrap_err().contains("another folder than when this run began"));
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(folder.path(), Ok(&*path));
        std::fs::remove_dir_all(&base).unwrap();
    }

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
