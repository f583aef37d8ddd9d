//! The epilogue of a convolution: bias, scale and range of the output, and how large the
//! accumulators can get.
//!
//! `quant::requant_rndne` turns an accumulator into an output. A kernel that has a faster way to
//! the same bits asks [`Reach`] whether the layer's accumulators are small enough. No heap, core
//! only.

use crate::quant::{Clamp, ROUND_MAGIC};

/// Output channels of a block: what a panel of weights and an [`EpilogueBlock`] hold.
pub const LANES: usize = 16;

/// What follows the accumulation of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Added to each channel's accumulator.
    pub bias: &'a [i32],
    /// s_in * s_w / s_out of each channel.
    pub scale: &'a [f32],
    /// Range and zero point of the output.
    pub clamp: Clamp,
    /// The same bias and scale in blocks, for kernels that read blocks; else empty.
    pub blocks: &'a [EpilogueBlock],
    /// The furthest reach of all channels.
    pub reach: Reach,
}

/// Bias and scale of [`LANES`] channels. The bias is split: one part starts the accumulator, the
/// rest is added once it is a float (see [`Reach`]).
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct EpilogueBlock {
    /// Start value of each channel's accumulator.
    pub begin: [i32; LANES],
    /// Added to the accumulator as a float.
    pub rest: [f32; LANES],
    /// s_in * s_w / s_out of each channel.
    pub scale: [f32; LANES],
    /// Whether all its channels are [`Reach::Short`].
    pub short: bool,
    /// How its weights were made to fit i8.
    pub fit: Fit,
}

/// How the weights of a block of channels were made to fit i8, which they leave less a zero point
/// of their own (0 to 255 less 120, say), and what a kernel does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Of a convolution or a product: taken off each weight of a channel. Its accumulator gets this
    /// times the total of the values that it sees, since `(w + shift) * x = w * x + shift * x`.
    pub shift: [i32; LANES],
    /// Whether a shift is not 0.
    pub shifted: bool,
    /// Of a depthwise convolution: each weight is the sum of this many, which lie one after the
    /// other, all taps of the first before those of the second.
    pub parts: u8,
    /// Whether two weights of -128 meet where a kernel adds their products in i16: it must keep
    /// them apart.
    pub apart: bool,
}

impl Fit {
    /// Of weights that fit as they are.
    pub const AS_THEY_ARE: Self = Self { shift: [0; LANES], shifted: false, parts: 1, apart: false };

    /// Of up to [`LANES`] channels with such shifts.
    pub fn by_shifts(shifts: &[i16]) -> Self {
        let shift = core::array::from_fn(|l| shifts.get(l).copied().unwrap_or(0).into());
        Self { shift, shifted: shifts.iter().any(|shift| *shift != 0), ..Self::AS_THEY_ARE }
    }
}

impl EpilogueBlock {
    /// Of the channels from `first` on; what lies beyond the last channel is zero. `reach`: the
    /// layer's; `reaches`, `bias`, `scale`: each channel's.
    pub fn of(first: usize, fit: Fit, reach: Reach, reaches: &[Reach], bias: &[i32], scale: &[f32]) -> Self {
        let split = |l: usize| reach.split(bias.get(first + l).copied().unwrap_or(0));
        Self {
            short: reaches[first..].iter().take(LANES).all(|r| *r == Reach::Short),
            fit,
            begin: core::array::from_fn(|l| split(l).0),
            rest: core::array::from_fn(|l| split(l).1),
            scale: core::array::from_fn(|l| scale.get(first + l).copied().unwrap_or(0.0)),
        }
    }
}

/// How far accumulators can go, whatever the values are: what decides by which way they become
/// outputs.
///
/// With M = 1.5 * 2^23, the bits of M plus a whole number within -2^22..2^22 are the float M +
/// number; so a sum that begins with M's bits is a float when read as one, and one addition takes M
/// away and brings the rest of the bias. That addition rounds once, to what converting the whole
/// sum gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Products sum up to less than 2^22, and the scaled sum to less than 2^15 - 256: 16 bits of it
    /// are enough.
    Short,
    /// The same, and the scaled sum to less than 2^22.
    Float,
    /// Anywhere in i32, or beyond it, where accumulators wrap around as i32 does: they are
    /// converted.
    Any,
}

impl Reach {
    /// The part of a bias that begins a sum where the rest is added as a float: the rest is a
    /// multiple of this.
    const LOW: i32 = 256;

    /// Of each channel of a layer with `weights` `[channels][taps]`, less their zero point; `bias`
    /// and `scale`: `[channels]`. Each value less the zero point lies between `-128 - zero_point`
    /// and `127 - zero_point`; padding counts as nothing.
    pub fn of_channels(weights: &[i16], zero_point: i8, bias: &[i32], scale: &[f32]) -> impl Iterator<Item = Self> {
        let taps = (weights.len() / bias.len().max(1)).max(1);
        let (least, most) = (-128 - zero_point as i64, 127 - zero_point as i64);
        weights.chunks_exact(taps).zip(bias.iter().zip(scale)).map(move |(row, (bias, scale))| {
            let (mut lo, mut hi, mut products) = (*bias as i64, *bias as i64, Self::LOW as i64);
            for &w in row {
                let (a, b) = (w as i64 * least, w as i64 * most);
                lo += a.min(b);
                hi += a.max(b);
                products += 128 * (w as i64).abs();
            }
            let scaled = lo.abs().max(hi.abs()) as f64 * *scale as f64;
            // A sum that begins as a float cannot wrap around. The bias less the zero point's share
            // is the sum of values of 0, which lies between the two.
            let wraps = [lo, hi].into_iter().any(|sum| i32::try_from(sum).is_err());
            if wraps || products >= 1 << 22 || scaled >= (1 << 22) as f64 {
                Self::Any
            } else if scaled >= (1 << 15) as f64 - 256.0 {
                Self::Float
            } else {
                Self::Short
            }
        })
    }

    /// The furthest of all; short, if there are none.
    pub fn furthest(reaches: &[Self]) -> Self {
        reaches.iter().copied().max().unwrap_or(Self::Short)
    }

    /// What a sum begins with and what is added to it as a float, for one channel's bias (the zero
    /// point's share taken off).
    pub fn split(self, bias: i32) -> (i32, f32) {
        if self == Self::Any {
            return (bias, 0.0);
        }
        let low = bias.rem_euclid(Self::LOW);
        // A multiple of 256 below 2^32: exact in f32.
        (ROUND_MAGIC.to_bits() as i32 + low, (bias as f64 - low as f64 - ROUND_MAGIC as f64) as f32)
    }
}
