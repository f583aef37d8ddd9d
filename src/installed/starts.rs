//! Starts that failed in the bundle itself: how many in a row, kept in the folder.
//!
//! The file `starts` has one line: how many starts failed, and where `current` led then. It is
//! written whole and moved into place, so that it is the old or the new one whenever the power
//! goes. A count of another bundle than the current one is no count, so that every change of the
//! link begins anew, whoever made it.

use super::{CURRENT, InstallError};
use crate::regular;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The count's name in the folder, and the name under which the next one is written.
const FILE: &str = "starts";
const NEW: &str = "starts.new";

/// Starts that fail in a row before the line goes back to the bundle before.
pub const MOST: u32 = 3;

/// How many starts of the current bundle of `folder` failed in a row; 0 where there is no count of
/// it.
pub fn failed_starts(folder: &Path) -> u32 {
    let Ok(text) = regular::read_text(&folder.join(FILE), regular::TEXT) else { return 0 };
    let Some((count, target)) = text.strip_suffix('\n').and_then(|line| line.split_once(' ')) else { return 0 };
    match std::fs::read_link(folder.join(CURRENT)) {
        Ok(current) if current == Path::new(target) => count.parse().unwrap_or(0),
        _ => 0,
    }
}

/// A start of the current bundle failed: counts it, written through to the disk. How many failed in
/// a row, with this one.
pub fn count_failed_start(folder: &Path) -> Result<u32, InstallError> {
    let count = failed_starts(folder).saturating_add(1);
    let (new, file) = (folder.join(NEW), folder.join(FILE));
    let io = |step, path: &Path, error| InstallError::Io { step, path: path.into(), error };
    let current: PathBuf =
        std::fs::read_link(folder.join(CURRENT)).map_err(|e| io("cannot be read", &folder.join(CURRENT), e))?;
    let write = || {
        let mut written = File::create(&new)?;
        writeln!(written, "{count} {}", current.display())?;
        written.sync_all()
    };
    write().map_err(|e| io("cannot be written", &new, e))?;
    std::fs::rename(&new, &file).map_err(|e| io("cannot be replaced", &file, e))?;
    super::change::sync(folder)?;
    Ok(count)
}

/// A start got the current bundle of `folder` running. Writes nothing where nothing was counted.
pub fn forget_failed_starts(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(folder.join(FILE)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tagpin-starts-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        symlink("bundles/one.tagpin", folder.join(CURRENT)).unwrap();
        folder
    }

    fn lead_to(folder: &Path, target: &str) {
        std::fs::remove_file(folder.join(CURRENT)).unwrap();
        symlink(target, folder.join(CURRENT)).unwrap();
    }

    #[test]
    fn failed_starts_of_the_current_bundle_are_counted_until_one_runs_or_another_is_current() {
        let folder = folder("counted");
        assert_eq!(failed_starts(&folder), 0);
        forget_failed_starts(&folder).unwrap();
        assert!(!folder.join(FILE).exists());
        let counted: Vec<u32> = (0..3).map(|_| count_failed_start(&folder).unwrap()).collect();
        assert_eq!((counted, failed_starts(&folder)), (vec![1, 2, 3], 3));
        assert_eq!(std::fs::read_to_string(folder.join(FILE)).unwrap(), "3 bundles/one.tagpin\n");
        lead_to(&folder, "bundles/two words.tagpin");
        assert_eq!(failed_starts(&folder), 0);
        assert_eq!((count_failed_start(&folder).unwrap(), count_failed_start(&folder).unwrap()), (1, 2));
        forget_failed_starts(&folder).unwrap();
        assert_eq!(failed_starts(&folder), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Whatever a cut write leaves of the next count, and whatever else the file holds: no count is
    /// read that was not written.
    #[test]
    fn a_count_that_is_cut_or_garbled_is_none_and_the_next_one_begins_anew() {
        let folder = folder("garbled");
        for n in 1..=2 {
            assert_eq!(count_failed_start(&folder).unwrap(), n);
        }
        let whole = std::fs::read(folder.join(FILE)).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(folder.join(NEW), &whole[..cut]).unwrap();
            assert_eq!(failed_starts(&folder), 2, "what is not moved into place does not count");
            std::fs::write(folder.join(FILE), &whole[..cut]).unwrap();
            assert_eq!(failed_starts(&folder), 0, "{cut} bytes");
            std::fs::write(folder.join(FILE), &whole).unwrap();
        }
        for wrong in ["-1 bundles/one.tagpin\n", "4294967296 bundles/one.tagpin\n", "\n", " \n", "two bundles/one.tagpin\n"]
        {
            std::fs::write(folder.join(FILE), wrong).unwrap();
            assert_eq!((failed_starts(&folder), count_failed_start(&folder).unwrap()), (0, 1), "{wrong:?}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_counts_nothing_and_says_so() {
        let folder = folder("unwritable");
        std::fs::create_dir(folder.join(NEW)).unwrap();
        let told = count_failed_start(&folder).unwrap_err().to_string();
        assert!(told.contains("starts.new: cannot be written"), "{told}");
        assert_eq!(failed_starts(&folder), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
