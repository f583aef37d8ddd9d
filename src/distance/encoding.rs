//! The distance section of a bundle: its layout, written once and read for ever, and what a reader
//! refuses.

use super::Distance;
use core::ops::Range;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Most stages of a network that are looked at.
pub const MAX_STAGES: usize = 4;
/// Most features of an image.
pub const MAX_FEATURES: usize = 2048;
/// An axis is a unit vector in 2^-13.
pub(super) const AXIS_BITS: u32 = 13;
/// A scale brings a feature to 1/256 of a deviation, and is in 2^-20.
pub(super) const SCALE_BITS: u32 = 20;
/// Largest weight, so that no sum of weighted squares is cut before it is far beyond any limit.
const MAX_WEIGHT: u32 = 1 << 27;
/// An axis is at most this much longer than 1, squared: 1.02 in 2^-26.
const MAX_AXIS: u64 = (1 << 26) + (1 << 26) / 50;

/// An activation of the network, as the section names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage<'a> {
    /// Name in the graph of what the node that computes it gives.
    pub name: &'a str,
    /// Its channels.
    pub channels: u16,
    /// Rows times columns.
    pub positions: u32,
}

impl Stage<'_> {
    /// Its features: means, and deviations if it has more than one position.
    pub const fn features(&self) -> usize {
        self.channels as usize * if self.positions > 1 { 2 } else { 1 }
    }
}

/// The section, in postcard.
#[derive(Serialize, Deserialize)]
struct Layout<'a> {
    #[serde(borrow)]
    stages: Vec<Stage<'a>, MAX_STAGES>,
    limit: u32,
    false_reject_ppm: u32,
    fitted: u32,
    left_out: u32,
    centres: &'a [u8],
    scales: &'a [u8],
    axes: &'a [u8],
    weights: &'a [u8],
    rest: u32,
}

/// Why a section is no spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpreadFault {
    /// It cannot be decoded.
    Encoding,
    /// No stage, or one without name, channels or positions.
    Stages,
    /// More features than [`MAX_FEATURES`].
    Features {
        /// How many.
        found: usize,
    },
    /// A list has another length than stages and axes say.
    Lengths,
    /// An axis is longer than 1.
    Axis(usize),
    /// A weight is above 2048.
    Weight,
}

impl core::fmt::Display for SpreadFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Encoding => f.write_str("it cannot be decoded"),
            Self::Stages => write!(f, "expected 1 to {MAX_STAGES} stages, each with name, channels and positions"),
            Self::Features { found } => write!(f, "{found} features, at most {MAX_FEATURES} allowed"),
            Self::Lengths => f.write_str("its lists do not have one entry a feature or axis"),
            Self::Axis(i) => write!(f, "axis {i} is longer than 1"),
            Self::Weight => f.write_str("a weight is above 2048"),
        }
    }
}

impl core::error::Error for SpreadFault {}

/// A stage whose name is a place in the section's bytes.
#[derive(Clone, Debug)]
struct Place {
    name: Range<usize>,
    channels: u16,
    positions: u32,
}

/// What a section says, each list as its place in the bytes.
#[derive(Clone, Debug)]
struct Parts {
    stages: Vec<Place, MAX_STAGES>,
    limit: Distance,
    false_reject_ppm: u32,
    fitted: u32,
    left_out: u32,
    centres: Range<usize>,
    scales: Range<usize>,
    axes: Range<usize>,
    weights: Range<usize>,
    rest: u32,
}

impl Parts {
    fn read(bytes: &[u8]) -> Result<Self, SpreadFault> {
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            start..start + part.len()
        };
        let layout: Layout<'_> = match postcard::take_from_bytes(bytes) {
            Ok((layout, [])) => layout,
            _ => return Err(SpreadFault::Encoding),
        };
        let whole = |s: &Stage<'_>| !s.name.is_empty() && s.channels > 0 && s.positions > 0;
        if layout.stages.is_empty() || !layout.stages.iter().all(whole) {
            return Err(SpreadFault::Stages);
        }
        let n = layout.stages.iter().map(Stage::features).sum();
        if n > MAX_FEATURES {
            return Err(SpreadFault::Features { found: n });
        }
        let axes = layout.weights.len() / 4;
        let lengths = [layout.centres, layout.scales, layout.axes, layout.weights].map(<[u8]>::len);
        if lengths != [4 * n, 4 * n, 2 * n * axes, 4 * axes] || axes > n {
            return Err(SpreadFault::Lengths);
        }
        let length = |axis: &[[u8; 2]]| axis.iter().map(|v| (i16::from_le_bytes(*v) as i64).pow(2) as u64).sum::<u64>();
        if let Some(i) = layout.axes.as_chunks::<2>().0.chunks_exact(n).position(|axis| length(axis) > MAX_AXIS) {
            return Err(SpreadFault::Axis(i));
        }
        if words(layout.weights).chain([layout.rest]).any(|w| w > MAX_WEIGHT) {
            return Err(SpreadFault::Weight);
        }
        let named = |s: &Stage<'_>| Place { name: place(s.name.as_bytes()), channels: s.channels, positions: s.positions };
        Ok(Self {
            stages: layout.stages.iter().map(named).collect(),
            limit: Distance(layout.limit),
            false_reject_ppm: layout.false_reject_ppm,
            fitted: layout.fitted,
            left_out: layout.left_out,
            centres: place(layout.centres),
            scales: place(layout.scales),
            axes: place(layout.axes),
            weights: place(layout.weights),
            rest: layout.rest,
        })
    }
}

/// How the features of the training images lie, over the bytes of a checked section.
#[derive(Clone, Debug)]
pub struct Spread<B> {
    bytes: B,
    parts: Parts,
}

impl<B: AsRef<[u8]>> Spread<B> {
    /// Reads and checks a section.
    pub fn read(section: B) -> Result<Self, SpreadFault> {
        Ok(Self { parts: Parts::read(section.as_ref())?, bytes: section })
    }

    /// The stages in the order of their features.
    pub fn stages(&self) -> impl Iterator<Item = Stage<'_>> {
        self.parts.stages.iter().map(|p| Stage {
            name: core::str::from_utf8(self.part(&p.name)).expect("it was read as a string"),
            channels: p.channels,
            positions: p.positions,
        })
    }

    /// Features of all stages.
    pub fn features(&self) -> usize {
        self.parts.centres.len() / 4
    }

    /// Axes that are stored.
    pub fn rank(&self) -> usize {
        self.parts.weights.len() / 4
    }

    /// What lies farther off is foreign.
    pub fn limit(&self) -> Distance {
        self.parts.limit
    }

    /// Share of good images that the limit was set to refuse, in millionths.
    pub fn false_reject_ppm(&self) -> u32 {
        self.parts.false_reject_ppm
    }

    /// Images that it was fitted on, and images left out of the fit that the limit was set by.
    pub fn images(&self) -> (u32, u32) {
        (self.parts.fitted, self.parts.left_out)
    }

    /// Centre of each feature, in 1/4096 of a code.
    pub fn centres(&self) -> impl Iterator<Item = i32> {
        words(self.part(&self.parts.centres)).map(u32::cast_signed)
    }

    /// One over the deviation of each feature, in codes and 1/65536.
    pub fn scales(&self) -> impl Iterator<Item = u32> {
        words(self.part(&self.parts.scales))
    }

    /// Each axis, as little-endian i16 in 2^-13, with one over the variance along it in 1/65536.
    pub fn axes(&self) -> impl Iterator<Item = (&[[u8; 2]], u32)> {
        let axes = self.part(&self.parts.axes).as_chunks::<2>().0;
        axes.chunks_exact(self.features()).zip(words(self.part(&self.parts.weights)))
    }

    /// One over the variance of what the axes leave over, in 1/65536.
    pub fn rest(&self) -> u32 {
        self.parts.rest
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes.as_ref()[range.clone()]
    }
}

#[cfg(feature = "std")]
impl Spread<&[u8]> {
    /// The same, over bytes of its own.
    pub fn to_owned(&self) -> Spread<std::vec::Vec<u8>> {
        Spread { bytes: self.bytes.to_vec(), parts: self.parts.clone() }
    }
}

/// Little-endian numbers.
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b))
}

/// An axis and its weight, as [`Fit`] takes them.
#[cfg(feature = "std")]
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// One entry a feature, in 2^-13; of length 1.
    pub entries: std::vec::Vec<i16>,
    /// One over the variance along it, by [`Fit::weight`].
    pub weight: u32,
}

#[cfg(feature = "std")]
impl Axis {
    /// Of a unit vector and the variance along it.
    pub fn new(vector: impl IntoIterator<Item = f64>, variance: f64) -> Self {
        let entry = |x: f64| (x * (1 << AXIS_BITS) as f64).round() as i16;
        Self { entries: vector.into_iter().map(entry).collect(), weight: Fit::weight(variance) }
    }
}

/// What a section is made of.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
pub struct Fit<'a> {
    /// Stages in the order of their features, at most [`MAX_STAGES`].
    pub stages: &'a [Stage<'a>],
    /// What lies farther off is foreign.
    pub limit: Distance,
    /// Share of good images that the limit refuses, in millionths.
    pub false_reject_ppm: u32,
    /// Images fitted on.
    pub fitted: u32,
    /// Images left out of the fit, which set the limit.
    pub left_out: u32,
    /// Centre of each feature, in 1/4096 of a code.
    pub centres: &'a [i32],
    /// Of each feature, by [`Fit::scale`].
    pub scales: &'a [u32],
    /// At most as many as there are features.
    pub axes: &'a [Axis],
    /// One over the variance of what the axes leave over, by [`Fit::weight`].
    pub rest: u32,
}

#[cfg(feature = "std")]
impl Fit<'_> {
    /// The scale of a feature that scatters by `deviation` codes.
    pub fn scale(deviation: f64) -> u32 {
        (65536.0 / deviation).round() as u32
    }

    /// The weight of an axis along which scaled features vary by `variance`.
    pub fn weight(variance: f64) -> u32 {
        ((65536.0 / variance).round() as u32).min(MAX_WEIGHT)
    }

    /// The section's bytes. [`Spread::read`] says what is wrong with them, if anything is.
    pub fn section(&self) -> std::vec::Vec<u8> {
        use std::vec::Vec as List;
        let centres: List<u8> = self.centres.iter().flat_map(|c| c.to_le_bytes()).collect();
        let scales: List<u8> = self.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let axes: List<u8> = self.axes.iter().flat_map(|a| &a.entries).flat_map(|v| v.to_le_bytes()).collect();
        let weights: List<u8> = self.axes.iter().flat_map(|a| a.weight.to_le_bytes()).collect();
        let layout = Layout {
            stages: self.stages.iter().take(MAX_STAGES).copied().collect(),
            limit: self.limit.0,
            false_reject_ppm: self.false_reject_ppm,
            fitted: self.fitted,
            left_out: self.left_out,
            centres: &centres,
            scales: &scales,
            axes: &axes,
            weights: &weights,
            rest: self.rest,
        };
        let names: usize = self.stages.iter().map(|s| s.name.len() + 16).sum();
        let mut buffer = std::vec![0; 128 + names + centres.len() + scales.len() + axes.len() + weights.len()];
        postcard::to_slice(&layout, &mut buffer).expect("the buffer is long enough").to_vec()
    }
}
