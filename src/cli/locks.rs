//! What belongs to one line: its settings file and its state folder.
//!
//! Both are locked for as long as the process lives, so that no other line takes them while one run
//! makes place for the next. `flock` on the file or folder itself needs no file of its own and
//! works on read-only disks.

use crate::regular;
use crate::settings::Settings;
use std::fs::{File, TryLockError};
use std::path::Path;

/// The locks that this process holds.
#[derive(Default)]
pub(super) struct Locks(Vec<((u64, u64), File)>);

impl Locks {
    /// Locks the settings file and the state folder that it states, unless this process has. An
    /// error says which is another line's.
    pub(super) fn take(&mut self, file: Option<&Path>, settings: &Settings) -> Result<(), String> {
        if let Some(file) = file {
            self.settings(file)?;
        }
        #[cfg(feature = "site")]
        if let Some(folder) = &settings.site.state {
            self.state(folder)?;
        }
        #[cfg(not(feature = "site"))]
        let _ = settings;
        Ok(())
    }

    /// Two lines on one settings file would move the same outputs and write the same files.
    fn settings(&mut self, file: &Path) -> Result<(), String> {
        let unread = |e: &dyn std::fmt::Display| format!("{}: cannot be read: {e}", file.display());
        regular::size(file, regular::TEXT).map_err(|e| unread(&e))?;
        let what = "another run uses these settings; stop it, or give this line settings of its own";
        self.lock(file, what).map_err(|e| unread(&e))?
    }

    /// Two lines with one state folder would follow, and undo, each other's choice of a recipe.
    #[cfg(feature = "site")]
    fn state(&mut self, folder: &Path) -> Result<(), String> {
        let what =
            "another line keeps there what people choose for it; stop it, or state a [state] folder of this line's own";
        self.lock(folder, what).map_err(|e| format!("[state] folder {}: cannot be opened: {e}", folder.display()))?
    }

    /// Locks a file or folder, unless this process has. `what`: that another holds it.
    fn lock(&mut self, path: &Path, what: &str) -> std::io::Result<Result<(), String>> {
        let file = File::open(path)?;
        let id = regular::id(&file.metadata()?);
        if self.0.iter().any(|(held, _)| *held == id) {
            return Ok(Ok(()));
        }
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Ok(Err(format!("{}: {what}", path.display())));
        }
        // A file system without locks cannot say it.
        self.0.push((id, file));
        Ok(Ok(()))
    }
}
