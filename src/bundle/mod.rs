//! The `.tagpin` bundle: what training and the device agreed on, and the graph, in one checked
//! file. `FORMAT.md` is the spec.
//!
//! [`Bundle::read`] borrows from the file's bytes and needs no heap. It reads formats 1 and 2 into
//! the same [`Contract`]. [`write()`] makes format 2: a header, a table of sections and their
//! contents. A new fact becomes a new section.
//!
//! ```
//! use tagpin::bundle::{Bundle, BundleError};
//! use tagpin::decide::Role;
//!
//! let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/parts.tagpin"));
//! let bundle = Bundle::read(file)?;
//! let defects: Vec<&str> = bundle.contract.tags.iter().filter(|t| t.role == Role::Defect).map(|t| t.name).collect();
//! assert_eq!(defects, ["gear_chipped", "washer_cracked"]);
//!
//! let cut_short = &file[..1000];
//! assert!(matches!(Bundle::read(cut_short), Err(BundleError::Length { found: 1000, .. })));
//! # Ok::<(), BundleError>(())
//! ```
//!
//! Terms: *section*: a numbered part of the file. *Critical*: a reader that does not know the
//! section must refuse the bundle. *Identity*: the one hash that names a bundle in events,
//! recordings, cards and reports.

mod contract;
mod encoding;
mod read;
mod sections;
mod self_test;
#[cfg(feature = "std")]
mod write;

pub use contract::{Contract, ContractFault, Fit, Input, Tables, Tag};
pub use read::{Bundle, BundleError, FORMAT_VERSION, HEADER_LEN, MAGIC, MAX_CONTRACT, MAX_GRAPH, MAX_SECTION};
pub use sections::{Entry, MAX_SECTIONS, Section, SectionId};
pub use self_test::{SelfTest, SelfTestFault};
#[cfg(feature = "std")]
pub use write::{RawSection, WriteError, assemble, write};

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// A hash as 64 lower-case hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8; 32]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
