//! The self-test section: a few images at the model's input size, and the logits that a board must
//! give for them.
//!
//! What compares them is [`crate::engine`]; here is only how they stand in the file.

use super::Contract;
use serde::{Deserialize, Serialize};

/// The section as postcard encodes it.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    images: &'a [u8],
    logits: &'a [u8],
}

/// Images and their logits, of lengths that fit the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTest<'a> {
    images: &'a [u8],
    logits: &'a [u8],
    tags: usize,
}

/// Why a self-test section cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTestFault {
    /// It cannot be decoded.
    Encoding,
    /// Its images are not 1..=[`SelfTest::MOST`] of the model's input size.
    Images {
        /// Bytes of all images.
        found: usize,
        /// Bytes of one.
        each: usize,
    },
    /// There is not one logit a tag of each image.
    Logits {
        /// Bytes of all logits.
        found: usize,
        /// Bytes that the images need.
        expected: usize,
    },
}

impl core::fmt::Display for SelfTestFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Encoding => f.write_str("it cannot be decoded"),
            Self::Images { found, each } => {
                write!(f, "{found} bytes of images, expected 1..={} of {each} bytes each", SelfTest::MOST)
            }
            Self::Logits { found, expected } => write!(f, "{found} bytes of logits, expected {expected}"),
        }
    }
}

impl<'a> SelfTest<'a> {
    /// Most images.
    pub const MOST: usize = 16;

    /// Reads the section of a bundle with this contract.
    pub fn read(bytes: &'a [u8], contract: &Contract<'_>) -> Result<Self, SelfTestFault> {
        let Ok((Written { images, logits }, [])) = postcard::take_from_bytes(bytes) else {
            return Err(SelfTestFault::Encoding);
        };
        let each = Self::image_len(contract);
        let count = images.len() / each;
        if !(1..=Self::MOST).contains(&count) || count * each != images.len() {
            return Err(SelfTestFault::Images { found: images.len(), each });
        }
        let tags = contract.tags.len();
        let expected = 4 * count * tags;
        if logits.len() != expected {
            return Err(SelfTestFault::Logits { found: logits.len(), expected });
        }
        Ok(Self { images, logits, tags })
    }

    /// Bytes of one image: rows, columns, red, green, blue.
    fn image_len(contract: &Contract<'_>) -> usize {
        contract.input.height as usize * contract.input.width as usize * 3
    }

    /// Each image, `[height, width, 3]` of 8 bits, with its logits in Q16.16, one a tag.
    pub fn cases(&self) -> impl Iterator<Item = (&'a [u8], impl Iterator<Item = i32> + 'a)> + 'a {
        let count = self.logits.len() / (4 * self.tags);
        let images = self.images.chunks_exact(self.images.len() / count);
        images.zip(self.logits.chunks_exact(4 * self.tags).map(numbers))
    }

    /// All logits.
    pub fn logits(&self) -> impl Iterator<Item = i32> + 'a {
        numbers(self.logits)
    }

    /// The section's bytes; [`SelfTest::read`] says what they must be. `logits`: of all images in
    /// their order.
    #[cfg(feature = "std")]
    pub fn section(images: &[u8], logits: &[i32]) -> Vec<u8> {
        let logits: Vec<u8> = logits.iter().flat_map(|l| l.to_le_bytes()).collect();
        // Two lengths stand before the bytes, of at most ten bytes each.
        let mut buffer = vec![0; images.len() + logits.len() + 20];
        let written = Written { images, logits: &logits };
        postcard::to_slice(&written, &mut buffer).expect("the buffer holds lengths and bytes").to_vec()
    }
}

/// Little-endian numbers.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = i32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b))
}
