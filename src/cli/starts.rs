//! Starts that fail in the bundle itself: counted in the folder that it is installed in, and after
//! some in a row the bundle before is current again.

use super::bundle::trial;
use super::run::tell;
use super::{Refused, audit, keys};
use crate::installed::{self, CURRENT, InstallError, MOST_STARTS, Options};
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// One start, as far as it is of an installed bundle.
pub(super) struct Starts {
    /// The folder; `None` where the line runs a file.
    folder: Option<PathBuf>,
    keys: PathBuf,
    settings: Option<PathBuf>,
    /// Whether the bundle itself has failed this start.
    blamed: Cell<bool>,
}

impl Starts {
    /// Of what `run` was given.
    pub(super) fn of(bundle: Option<&Path>, keys: &Path, settings: Option<&Path>) -> Self {
        let folder = bundle.filter(|path| path.join(CURRENT).is_symlink()).map(Path::to_path_buf);
        Self { folder, keys: keys.into(), settings: settings.map(Path::to_path_buf), blamed: Cell::new(false) }
    }

    /// Whether the line runs from a folder.
    pub(super) fn is_installed(&self) -> bool {
        self.folder.is_some()
    }

    /// What is wrong is the bundle: not the camera, the lines or the settings.
    pub(super) fn blame<E>(&self, why: E) -> E {
        self.blamed.set(true);
        why
    }

    /// The bundle runs: starts that failed before count no more.
    pub(super) fn succeeded(&self) {
        if let Some(Err(e)) = self.folder.as_deref().map(installed::forget_failed_starts) {
            tell(&format_args!("warning: failed starts of this bundle cannot be forgotten: {e}"));
        }
    }

    /// Counts a start that failed for `problems`; whether the bundle before is current now, so that
    /// a start may be tried again.
    pub(super) fn failed(&self, problems: &Refused) -> bool {
        let Some(folder) = self.folder.as_deref().filter(|_| self.blamed.take()) else { return false };
        let count = match installed::count_failed_start(folder) {
            Ok(count) => count,
            Err(e) => {
                tell(&format_args!(
                    "a failed start of this bundle cannot be counted, so the line does not go back by itself: {e}"
                ));
                return false;
            }
        };
        if count < MOST_STARTS {
            tell(&format_args!(
                "start {count} in a row that fails in the bundle; after {MOST_STARTS} of them the line goes back to previous"
            ));
            return false;
        }
        problems.0.iter().for_each(|problem| tell(problem));
        match self.roll_back(folder) {
            Ok((left, current)) => {
                let log = audit::log_of(self.settings.as_deref(), folder);
                let what = format!("bundle rolled back after {count} failed starts");
                tell(&format_args!(
                    "{count} starts in a row failed in the bundle: {} leads to {current} again",
                    folder.display()
                ));
                if let Err(Refused(why)) = audit::record(log.as_ref(), &what, left, current) {
                    why.iter().for_each(|why| tell(why));
                }
                true
            }
            Err(e) => {
                tell(&format_args!("{count} starts in a row failed in the bundle, and the line cannot go back: {e}"));
                false
            }
        }
    }

    /// The hash of the bundle that was current, as far as it can be read, and of the one that is.
    fn roll_back(&self, folder: &Path) -> Result<(String, String), String> {
        let keys = keys(&self.keys).map_err(|e| e.0.join("; "))?;
        // A start may have other tags than the one before.
        let options = Options { downgrade: true, restart: true };
        let changed = installed::roll_back(folder, &keys, options, |bundle| trial(bundle, None));
        let changed = changed.map_err(|e: InstallError| e.to_string())?;
        Ok((changed.before.unwrap_or_else(|| "unreadable".into()), changed.current))
    }
}
