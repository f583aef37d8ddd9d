//! The `.tagpin` bundle: what training and the device agreed on, and the graph, in one checked file. `FORMAT.md` is the spec.
//!
//! [`Bundle::read`] borrows from the file's bytes and needs no heap. It reads formats 1 and 2 into the same [`Contract`].
//! [`write`] makes format 2: a header, a table of sections and their contents. A new fact becomes a new section.

mod contract;
mod encoding;
mod read;
mod sections;
#[cfg(feature = "std")]
mod write;

pub use contract::{Contract, ContractFault, Fit, Input, Tables, Tag};
pub use read::{Bundle, BundleError, FORMAT_VERSION, HEADER_LEN, MAGIC, MAX_CONTRACT, MAX_GRAPH, MAX_SECTION};
pub use sections::{Entry, MAX_SECTIONS, Section, SectionId};
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
