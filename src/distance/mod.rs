//! How far an image lies from those that a model was trained on, and the limit beyond which it is
//! foreign.
//!
//! At a few *stages* of the network each channel's mean and deviation over the image are taken: the
//! image's *features* ([`features`]). A [`Spread`], the distance section of a bundle, says how the
//! features of the training images lie: the centre and scale of each, and the axes along which they
//! vary together, each with one over its variance. [`Spread::measure`] gives the Mahalanobis
//! distance of an image from that centre. What the stored axes leave over counts with one weight
//! for all. Everything is integer arithmetic with one definition, so every CPU gives the same bits.
//!
//! ```
//! use tagpin::distance::{Axis, Distance, FEATURE_ONE, Fit, Spread, Stage, features};
//!
//! // One stage of two channels. Training images had means of 3 and -5 (deviations 1 and 1) and scattered by 2 about each.
//! let stage = Stage { name: "conv_1", channels: 2, positions: 4 };
//! let section = Fit {
//!     stages: &[stage],
//!     limit: Distance::from_real(3.0),
//!     false_reject_ppm: 10_000,
//!     fitted: 500,
//!     left_out: 120,
//!     centres: &[3, -5, 1, 1].map(|c| c * FEATURE_ONE),
//!     scales: &[Fit::scale(2.0); 4],
//!     axes: &[],
//!     rest: Fit::weight(1.0),
//! }
//! .section();
//! let spread = Spread::read(section.as_slice())?;
//!
//! let activation = [9, -5, 9, -5, 11, -3, 11, -7]; // four positions of two channels
//! let (mut seen, mut scratch) = ([0; 4], [0; 4]);
//! features(&activation, 2, &mut seen);
//! let distance = spread.measure(&seen, &mut scratch);
//! assert_eq!(format!("{:.1}", distance.real()), "3.5"); // (10 - 3) / 2 from the first mean
//! assert!(distance > spread.limit());
//! # Ok::<(), tagpin::distance::SpreadFault>(())
//! ```

mod encoding;
mod features;
mod measure;
#[cfg(all(test, feature = "std"))]
mod tests;

#[cfg(feature = "std")]
pub use encoding::{Axis, Fit};
pub use encoding::{MAX_FEATURES, MAX_STAGES, Spread, SpreadFault, Stage};
pub use features::{FEATURE_ONE, features};

/// A Mahalanobis distance in 1/65536: 1.0 is one standard deviation along any one axis. Saturates
/// at 65536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Distance(pub u32);

impl Distance {
    /// The distance as a real number, for people.
    pub fn real(self) -> f64 {
        self.0 as f64 / 65536.0
    }

    /// The nearest distance to a real number, from 0 to the largest.
    pub fn from_real(x: f64) -> Self {
        Self((x * 65536.0 + 0.5) as u32)
    }
}

impl core::fmt::Display for Distance {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:.2}", self.real())
    }
}
