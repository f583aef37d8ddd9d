//! Installed bundles: a folder from which a line runs, and in which an update takes the place of
//! the bundle before it in one step.
//!
//! `UPDATES.md` beside the bundle's format says what a site does. In the folder lie `bundles/`,
//! with each bundle under its hash and its signature beside it, and the links `current` and
//! `previous` into it. A bundle is copied, written through to the disk and tried before a link
//! moves, and a link moves by rename: whenever the power goes, `current` leads to a whole bundle,
//! the old one or the new. A line that runs takes over what is installed: [`crate::update`].
//!
//! Terms: *install*: copy, try, move `current`. *Roll back*: exchange `current` and `previous`, by a
//! person. *Go back*: the same by a line that leaves the bundle that it took over.
//! *Trial*: what must pass before a bundle becomes current: its engine, its self-test, its time.

mod change;
mod seen;
mod signature;
mod starts;

pub use change::{Changed, Difference, InstallError, Options, Shape, differences, go_back, install, roll_back};
pub use seen::Seen;
pub use signature::{Comment, KEYS, Keys, SignatureError, Signed, beside};
pub use starts::{MOST as MOST_STARTS, count_failed_start, failed_starts, forget_failed_starts};

use std::path::{Path, PathBuf};

/// The link to the bundle that runs.
pub const CURRENT: &str = "current";
/// The link to the bundle that ran before it.
pub const PREVIOUS: &str = "previous";

/// The file of the bundle that is meant by `path`: of a folder the bundle that is installed in it.
pub fn bundle_file(path: &Path) -> PathBuf {
    let link = path.join(CURRENT);
    match link.is_symlink() {
        // Signatures lie beside the file itself, and it stays the same where the link moves
        // meanwhile.
        true => std::fs::canonicalize(&link).unwrap_or(link),
        false => path.into(),
    }
}

#[cfg(test)]
mod tests;
