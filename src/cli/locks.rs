//! What belongs to one line: its settings file and its state folder.
//!
//! Both are locked for as long as the process lives, so that no other line takes them while one run
//! makes place for the next. `flock` on the file or folder itself needs no file of its own and
//! works on read-only disks.

use crate::regular;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The locks that this process holds.
#[derive(Default)]
pub(super) struct Locks(Vec<(u64, u64, File)>);

impl Locks {
    /// Two lines on one settings file would move the same outputs and write the same files.
    pub(super) fn settings(&mut self, file: &Path) -> Result<(), String> {
        let unread = |e: &dyn std::fmt::Display| format!("{}: cannot be read: {e}", file.display());
        regular::size(file, regular::TEXT).map_err(|e| unread(&e))?;
        let what = "another run uses these settings; stop it, or give this line settings of its own";
        self.take(file, what).map_err(|e| unread(&e))?
    }

    /// Two lines with one state folder would follow, and undo, each other's choice of a recipe.
    pub(super) fn state(&mut self, folder: &Path) -> Result<(), String> {
        let what =
            "another line keeps there what people choose for it; stop it, or state a [state] folder of this line's own";
        self.take(folder, what).map_err(|e| format!("[state] folder {}: cannot be opened: {e}", folder.display()))?
    }

    /// Locks a file or folder, unless this process has. `what`: that another holds it.
    fn take(&mut self, path: &Path, what: &str) -> std::io::Result<Result<(), String>> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let id = (about.dev(), about.ino());
        if self.0.iter().any(|(device, inode, _)| (*device, *inode) == id) {
            return Ok(Ok(()));
        }
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Ok(Err(format!("{}: {what}", path.display())));
        }
        // A file system without locks cannot say it.
        self.0.push((id.0, id.1, file));
        Ok(Ok(()))
    }
}
