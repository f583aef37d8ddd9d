//! The self-test of a bundle: does this board give the logits that the tools gave?
//!
//! A graph that runs wholly in int8 must give them to the bit; one with f32 islands to a thousandth
//! of their range, because f32 differs between CPUs.

use super::{Engine, EngineError};
use crate::bundle::{Bundle, Contract, SelfTest};
use crate::preprocess::quantise;

/// What a passed self-test compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTested {
    /// Images that were run.
    pub images: usize,
    /// How far a logit may lie from the bundle's, in 1/65536; 0 where all runs in int8.
    pub tolerance: u32,
}

/// Why a self-test was not passed.
#[derive(Clone, Debug, PartialEq)]
pub enum SelfTestError {
    /// The engine gave no logits.
    Engine(EngineError),
    /// A logit is another than the bundle states.
    Logit {
        /// Which image, counted from 1.
        image: usize,
        /// The tag's name.
        tag: String,
        /// What this board gives, in 1/65536.
        found: i32,
        /// What the bundle states.
        expected: i32,
        /// How far they may lie apart.
        tolerance: u32,
    },
}

impl std::fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(e) => write!(f, "self-test: {e}"),
            Self::Logit { image, tag, found, expected, tolerance } => write!(
                f,
                "self-test: image {image} gives tag \"{tag}\" the logit {found}/65536, the bundle states {expected} and allows a \
                 difference of {tolerance}; this program does not run the model as it was tested: pack it again with tools \
                 of this version"
            ),
        }
    }
}

impl std::error::Error for SelfTestError {}

impl Engine {
    /// Runs the images of the bundle's self-test and compares the logits. Without a self-test one
    /// fixed pattern must run without an error; then 0 images were compared. The engine is this
    /// bundle's.
    pub fn self_test(&mut self, bundle: &Bundle<'_>) -> Result<SelfTested, SelfTestError> {
        self.self_test_when(bundle, &|| ())
    }

    /// The same; `wait` is called before each image, to wait for a moment in which nothing else
    /// needs the CPU.
    pub fn self_test_when(&mut self, bundle: &Bundle<'_>, wait: &dyn Fn()) -> Result<SelfTested, SelfTestError> {
        let Some(test) = &bundle.self_test else {
            let pattern: Vec<u8> = (0..self.spec().input.iter().product::<usize>()).map(|i| (i * 89 % 251) as u8).collect();
            self.logits_of(&bundle.contract, &pattern).map_err(SelfTestError::Engine)?;
            return Ok(SelfTested { images: 0, tolerance: 0 });
        };
        let tolerance = if bundle.contract.mixed { thousandth(test) } else { 0 };
        let mut images = 0;
        for (image, logits) in test.cases() {
            images += 1;
            wait();
            let found = self.logits_of(&bundle.contract, image).map_err(SelfTestError::Engine)?;
            for ((&found, expected), tag) in found.iter().zip(logits).zip(&bundle.contract.tags) {
                if found.abs_diff(expected) > tolerance {
                    let tag = tag.name.to_string();
                    return Err(SelfTestError::Logit { image: images, tag, found, expected, tolerance });
                }
            }
        }
        Ok(SelfTested { images, tolerance })
    }

    /// The self-test section of these images for the bundle that this engine runs. `images`: each
    /// `[height, width, 3]` of 8 bits at the model's input size, 1..=[`SelfTest::MOST`].
    pub fn self_test_section(&mut self, contract: &Contract<'_>, images: &[Vec<u8>]) -> Result<Vec<u8>, EngineError> {
        let mut logits = Vec::new();
        for image in images {
            logits.extend(self.logits_of(contract, image)?);
        }
        Ok(SelfTest::section(&images.concat(), &logits))
    }

    /// Logits of an image at the model's input size.
    fn logits_of(&mut self, contract: &Contract<'_>, image: &[u8]) -> Result<Vec<i32>, EngineError> {
        let expected = self.spec().input.iter().product();
        if image.len() != expected {
            return Err(EngineError::Length { what: "image", found: image.len(), expected });
        }
        let (mut tensor, mut logits) = (vec![0; expected], vec![0; self.spec().logits]);
        quantise(image, contract.input.tables.int8, &mut tensor);
        self.infer(&tensor, &mut logits)?;
        Ok(logits)
    }
}

/// A thousandth of the range of all logits, at least 1.
fn thousandth(test: &SelfTest<'_>) -> u32 {
    let (low, high) = test.logits().fold((i32::MAX, i32::MIN), |(low, high), l| (low.min(l), high.max(l)));
    (high.abs_diff(low) / 1000).max(1)
}
