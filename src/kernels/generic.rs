//! The scalar kernels: plain loops over i16 and i32 that any compiler can vectorise. No heap, core only.
//!
//! Does not choose itself: the plan calls it where no kernel for the CPU exists.
//!
//! Algorithm of [`conv`]: the values under the kernel, less the zero point, are gathered as i16 for [`PIXELS`] output pixels
//! (padding gathers zero), then multiplied by weights that lie in panels of [`LANES`] channels, two taps side by side, so
//! that one pair of products and their sum is one instruction on SSE2 (`pmaddwd`). Integers never saturate: values and weights
//! less their zero points stay within -255..=255, so a product stays below 2^16 and [`MAX_TAPS`] of them below 2^31.

use super::ConvShape;
use crate::quant::{Clamp, ROUND_MAGIC, requant_rndne};

/// Most values under one kernel, so that no accumulator overflows.
pub const MAX_TAPS: usize = 32_768;
/// Output channels of a weight panel.
pub const LANES: usize = 16;
/// Output pixels computed together.
pub const PIXELS: usize = 4;

/// Length of [`pack`]'s result in i16 for one group of `channels` outputs over `taps` values.
pub const fn packed_len(channels: usize, taps: usize) -> usize {
    channels.div_ceil(LANES) * taps.div_ceil(2) * 2 * LANES
}

/// Packs one group's weights into panels: `[channels / LANES][taps / 2][LANES][2]`, zero-filled.
///
/// `weights`: `[channels][taps]`, less their zero point. Panics if a length is off.
pub fn pack(weights: &[i16], channels: usize, taps: usize, packed: &mut [i16]) {
    assert_eq!(weights.len(), channels * taps, "one weight a channel and tap");
    assert_eq!(packed.len(), packed_len(channels, taps), "packed length");
    packed.fill(0);
    let panel_len = taps.div_ceil(2) * 2 * LANES;
    for c in 0..channels {
        for t in 0..taps {
            packed[c / LANES * panel_len + (t / 2 * LANES + c % LANES) * 2 + t % 2] = weights[c * taps + t];
        }
    }
}

/// What follows the accumulation of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Added to each channel's sum.
    pub bias: &'a [i32],
    /// s_in * s_w / s_out of each channel.
    pub scale: &'a [f32],
    /// Range and zero point of the output.
    pub clamp: Clamp,
    /// The same bias and scale in blocks, for kernels that want them so; empty for the others.
    pub blocks: &'a [EpilogueBlock],
    /// How far the sums of all channels can go: as far as the one that goes furthest.
    pub reach: Reach,
}

/// Bias and scale of [`LANES`] channels. The bias is what a sum begins with, plus what is added once the sum is a float: see
/// [`Reach`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct EpilogueBlock {
    /// What a channel's sum begins with.
    pub begin: [i32; LANES],
    /// Added to the sum as a float.
    pub rest: [f32; LANES],
    /// s_in * s_w / s_out of each channel.
    pub scale: [f32; LANES],
    /// Whether all its channels are [`Reach::Short`].
    pub short: bool,
    /// Whether two weights of -128 meet where a kernel adds their products in i16: it must keep them apart.
    pub apart: bool,
}

impl EpilogueBlock {
    /// Of the channels from `first` on; what lies beyond the last channel is zero. `reach`: the layer's; `reaches`, `bias`,
    /// `scale`: each channel's.
    pub fn of(first: usize, reach: Reach, reaches: &[Reach], bias: &[i32], scale: &[f32]) -> Self {
        let split = |l: usize| reach.split(bias.get(first + l).copied().unwrap_or(0));
        Self {
            short: reaches[first..].iter().take(LANES).all(|r| *r == Reach::Short),
            apart: false,
            begin: core::array::from_fn(|l| split(l).0),
            rest: core::array::from_fn(|l| split(l).1),
            scale: core::array::from_fn(|l| scale.get(first + l).copied().unwrap_or(0.0)),
        }
    }
}

/// How far sums can go, whatever the values are: what decides by which way they become outputs.
///
/// With M = 1.5 * 2^23, the bits of M plus a whole number within -2^22..2^22 are the float M + number; so a sum that begins with
/// M's bits is a float when read as one, and one addition takes M away and brings the rest of the bias. That addition rounds
/// once, to what converting the whole sum gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Products sum up to less than 2^22, and the scaled sum to less than 2^15 - 256: 16 bits of it are enough.
    Short,
    /// The same, and the scaled sum to less than 2^22.
    Float,
    /// Anywhere in i32, or beyond it, where sums wrap around as i32 does: they are converted.
    Any,
}

impl Reach {
    /// The part of a bias that begins a sum where the rest is added as a float: the rest is a multiple of this.
    const LOW: i32 = 256;

    /// Of each channel of a layer with `weights` `[channels][taps]`, less their zero point; `bias` and `scale`: `[channels]`. Each
    /// value less the zero point lies between `-128 - zero_point` and `127 - zero_point`; padding counts as nothing.
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
            // A sum that begins as a float cannot wrap around. The bias less the zero point's share is the sum of values of 0,
            // which lies between the two.
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

    /// What a sum begins with and what is added to it as a float, for one channel's bias (the zero point's share taken off).
    pub fn split(self, bias: i32) -> (i32, f32) {
        if self == Self::Any {
            return (bias, 0.0);
        }
        let low = bias.rem_euclid(Self::LOW);
        // A multiple of 256 below 2^32: exact in f32.
        (ROUND_MAGIC.to_bits() as i32 + low, (bias as f64 - low as f64 - ROUND_MAGIC as f64) as f32)
    }
}

/// Multiplies [`PIXELS`] patches by one panel. `patches`: `[PIXELS][taps]`, even `taps`. `panel`: `[taps / 2][LANES][2]`.
#[inline(always)]
fn tile(patches: &[i16], taps: usize, panel: &[i16]) -> [[i32; LANES]; PIXELS] {
    let mut acc = [[0i32; LANES]; PIXELS];
    for (pair, w) in panel.as_chunks::<{ 2 * LANES }>().0.iter().enumerate() {
        for (p, acc) in acc.iter_mut().enumerate() {
            let (a, b) = (patches[p * taps + 2 * pair] as i32, patches[p * taps + 2 * pair + 1] as i32);
            for l in 0..LANES {
                acc[l] += a * w[2 * l] as i32 + b * w[2 * l + 1] as i32;
            }
        }
    }
    acc
}

/// Gathers the patch of output pixel (`oy`, `ox`) of `group`; positions in the padding give zero, as does a last odd tap.
#[inline(always)]
fn gather(s: &ConvShape, input: &[i8], zero_point: i16, group: usize, oy: usize, ox: usize, patch: &mut [i16]) {
    let [h, w, c] = s.input;
    let cg = c / s.groups;
    let mut at = 0;
    for ky in 0..s.kernel[0] {
        let y = (oy * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.pad[0]);
        for kx in 0..s.kernel[1] {
            let x = (ox * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.pad[1]);
            let out = &mut patch[at..at + cg];
            if y < h && x < w {
                let pixel = &input[(y * w + x) * c + group * cg..][..cg];
                for (o, &v) in out.iter_mut().zip(pixel) {
                    *o = v as i16 - zero_point;
                }
            } else {
                out.fill(0);
            }
            at += cg;
        }
    }
    patch[at..].fill(0);
}

/// Length in i16 of the scratch that convolutions and [`dense`] need for patches of `taps` values: four in i16, or eight in i8
/// for the kernels that take four taps at once.
pub const fn scratch_len(taps: usize) -> usize {
    PIXELS * taps.next_multiple_of(4)
}

/// Any convolution: NHWC in, NHWC out.
///
/// `weights`: the packed groups one after the other. `zero_point`: the input's. `scratch`: [`scratch_len`] of the patch.
/// Panics if a length is off.
#[inline(always)]
pub fn conv(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i16],
    epilogue: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let [oh, ow, oc] = s.output;
    assert_eq!(input.len(), s.input.iter().product::<usize>(), "input length");
    assert_eq!(output.len(), oh * ow * oc, "output length");
    let taps = s.patch_len().next_multiple_of(2);
    let group_channels = oc / s.groups;
    let group_len = packed_len(group_channels, s.patch_len());
    let patches = &mut scratch[..PIXELS * taps];
    for pixel in (0..oh * ow).step_by(PIXELS) {
        let pixels = PIXELS.min(oh * ow - pixel);
        for group in 0..s.groups {
            for (p, patch) in patches.chunks_exact_mut(taps).enumerate().take(pixels) {
                gather(s, input, zero_point as i16, group, (pixel + p) / ow, (pixel + p) % ow, patch);
            }
            let panels = weights[group * group_len..][..group_len].chunks_exact(taps * LANES);
            for (block, panel) in panels.enumerate() {
                let acc = tile(patches, taps, panel);
                let first = group * group_channels + block * LANES;
                let n = LANES.min(group_channels - block * LANES);
                for (p, acc) in acc.iter().enumerate().take(pixels) {
                    store(acc, &mut output[(pixel + p) * oc + first..][..n], epilogue, first);
                }
            }
        }
    }
}

/// Requantises and stores a row of a tile, whole or cut to the last channels.
#[inline(always)]
pub(super) fn store(acc: &[i32; LANES], out: &mut [i8], epilogue: Epilogue<'_>, first: usize) {
    if out.len() == LANES {
        let (bias, scale) = (lanes(epilogue.bias, first), lanes(epilogue.scale, first));
        out.copy_from_slice(&requant_lanes(acc, &bias, &scale, epilogue.clamp));
        return;
    }
    let (bias, scale) = (&epilogue.bias[first..], &epilogue.scale[first..]);
    for ((out, acc), (bias, scale)) in out.iter_mut().zip(acc).zip(bias.iter().zip(scale)) {
        *out = requant_rndne(acc.wrapping_add(*bias), *scale, epilogue.clamp);
    }
}

/// A fully connected layer up to its accumulators: `sums[c] = bias[c] + sum_t (input[t] - zero_point) * weight[c][t]`.
///
/// `weights`: as [`pack`] lays them out. Panics if a length is off.
pub fn dense(input: &[i8], zero_point: i8, weights: &[i16], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
    let taps = input.len().next_multiple_of(2);
    assert_eq!(sums.len(), bias.len(), "one bias a sum");
    assert_eq!(weights.len(), packed_len(sums.len(), input.len()), "packed length");
    let patch = &mut scratch[..taps];
    patch[taps - 1] = 0;
    for (o, &v) in patch.iter_mut().zip(input) {
        *o = v as i16 - zero_point as i16;
    }
    for ((sums, bias), panel) in sums.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(weights.chunks_exact(taps * LANES)) {
        let mut acc = [0i32; LANES];
        for (x, w) in patch.as_chunks::<2>().0.iter().zip(panel.as_chunks::<{ 2 * LANES }>().0) {
            for l in 0..LANES {
                acc[l] += x[0] as i32 * w[2 * l] as i32 + x[1] as i32 * w[2 * l + 1] as i32;
            }
        }
        for ((sum, acc), bias) in sums.iter_mut().zip(acc).zip(bias) {
            *sum = acc.wrapping_add(*bias);
        }
    }
}

/// A depthwise convolution: channel c of the output from channel c of the input.
///
/// `weights`: `[kernel rows][kernel columns][channels]` i16. Panics if a length is off.
///
/// Blocks of [`LANES`] channels keep their weights at hand while they go over the picture. Values enter as they are: the zero
/// point's share is taken off the bias once, and a tap in the padding counts as the zero point.
#[inline(always)]
pub fn depthwise(s: &ConvShape, input: &[i8], zero_point: i8, weights: &[i16], epilogue: Epilogue<'_>, output: &mut [i8]) {
    let [h, w, c] = s.input;
    let [oh, ow, oc] = s.output;
    assert_eq!(input.len(), h * w * c, "input length");
    assert_eq!(output.len(), oh * ow * oc, "output length");
    assert_eq!(weights.len(), s.kernel[0] * s.kernel[1] * c, "weights length");
    // The last block overlaps the one before it; fewer channels than a block has are filled with weights of zero.
    for first in (0..c).step_by(LANES).map(|first| first.min(c.saturating_sub(LANES))) {
        depthwise_block(s, input, zero_point as i16, weights, epilogue, first, output);
    }
}

/// [`LANES`] channels from `first` on of a depthwise convolution, or all, where it has fewer.
#[inline(always)]
fn depthwise_block(
    s: &ConvShape,
    input: &[i8],
    zero_point: i16,
    weights: &[i16],
    epilogue: Epilogue<'_>,
    first: usize,
    output: &mut [i8],
) {
    let [h, w, c] = s.input;
    let [oh, ow, _] = s.output;
    let [kh, kw] = s.kernel;
    let n = LANES.min(c);
    let tap = |t: usize| filled(&weights[t * c + first..][..n]);
    let mut bias = filled(&epilogue.bias[first..][..n]);
    for t in 0..kh * kw {
        let tap = tap(t);
        for l in 0..LANES {
            bias[l] = bias[l].wrapping_sub(zero_point as i32 * tap[l] as i32);
        }
    }
    let scale = filled(&epilogue.scale[first..][..n]);
    let add = |acc: &mut [i32; LANES], pixel: &[i8; LANES], tap: &[i16; LANES]| {
        for l in 0..LANES {
            acc[l] = acc[l].wrapping_add((pixel[l] as i16) as i32 * tap[l] as i32);
        }
    };
    let padding = [zero_point as i8; LANES];
    // What lies behind a column's channels meets weights of zero.
    let pixel_at = |y: usize, x: usize| -> [i8; LANES] {
        let values = &input[(y * w + x) * c + first..];
        values.first_chunk().copied().unwrap_or_else(|| filled(values))
    };
    for oy in 0..oh {
        let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
        let rows_inside = y0 < h && y0 + (kh - 1) * s.dilation[0] < h;
        for ox in 0..ow {
            let x0 = (ox * s.stride[1]).wrapping_sub(s.pad[1]);
            let mut acc = bias;
            if rows_inside && x0 < w && x0 + (kw - 1) * s.dilation[1] < w {
                for ky in 0..kh {
                    for kx in 0..kw {
                        add(&mut acc, &pixel_at(y0 + ky * s.dilation[0], x0 + kx * s.dilation[1]), &tap(ky * kw + kx));
                    }
                }
            } else {
                for ky in 0..kh {
                    for kx in 0..kw {
                        let (y, x) = (y0.wrapping_add(ky * s.dilation[0]), x0.wrapping_add(kx * s.dilation[1]));
                        let pixel = if y < h && x < w { pixel_at(y, x) } else { padding };
                        add(&mut acc, &pixel, &tap(ky * kw + kx));
                    }
                }
            }
            let out = requant_lanes(&acc, &[0; LANES], &scale, epilogue.clamp);
            output[(oy * ow + ox) * c + first..][..n].copy_from_slice(&out[..n]);
        }
    }
}

/// Up to [`LANES`] values, and nought behind them.
#[inline(always)]
fn filled<T: Copy + Default>(values: &[T]) -> [T; LANES] {
    if let Some(all) = values.first_chunk() {
        return *all;
    }
    let mut all = [T::default(); LANES];
    all[..values.len()].copy_from_slice(values);
    all
}

/// [`LANES`] values from `first` on.
#[inline(always)]
pub(super) fn lanes<T: Copy>(values: &[T], first: usize) -> [T; LANES] {
    *values[first..].first_chunk().expect("callers take whole blocks")
}

/// Requantises [`LANES`] accumulators after adding their biases; one loop of fixed length, so that it is vectorised whole.
#[inline(always)]
pub(super) fn requant_lanes(acc: &[i32; LANES], bias: &[i32; LANES], scale: &[f32; LANES], clamp: Clamp) -> [i8; LANES] {
    let zp = clamp.zero_point as i32;
    let (lo, hi) = ((clamp.lo as i32 - zp) as f32, (clamp.hi as i32 - zp) as f32);
    let mut out = [0i8; LANES];
    for l in 0..LANES {
        let x = acc[l].wrapping_add(bias[l]) as f32 * scale[l];
        // One instruction each on aarch64; elsewhere `max` might be a call into libm, which tier 0 has not.
        let x = if cfg!(target_arch = "aarch64") {
            x.max(lo).min(hi)
        } else {
            let x = if x >= lo { x } else { lo };
            if x <= hi { x } else { hi }
        };
        let q = ((x + ROUND_MAGIC).to_bits() as i32).wrapping_sub(ROUND_MAGIC.to_bits() as i32 - zp);
        out[l] = q as i8;
    }
    out
}
