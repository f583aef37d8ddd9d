//! The scalar kernels: plain loops over i16 and i32 that any compiler can vectorise. No heap, core
//! only.
//!
//! Every other set falls back on them and is tested against them.
//!
//! Algorithm of [`conv`]: the values under the kernel, less the zero point, are gathered as i16 for
//! [`PIXELS`] output pixels (padding gathers zero), then multiplied by weights that lie in panels
//! of [`LANES`] channels, two taps side by side, so that one pair of products and their sum is one
//! instruction on SSE2 (`pmaddwd`). Integers never saturate: values and weights less their zero
//! points stay within -255..=255, so a product stays below 2^16 and [`MAX_TAPS`] of them below
//! 2^31.

use super::epilogue::{Epilogue, LANES};
use super::{ConvShape, Layer};
use crate::quant::{Clamp, ROUND_MAGIC, requant_rndne};

/// Most values under one kernel, so that no accumulator overflows.
pub const MAX_TAPS: usize = 32_768;
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

/// Packs the weights of all groups, `[groups][channels][taps]`, one group's panels after the
/// other's. Panics if a length is off.
#[cfg(feature = "std")]
pub fn pack_groups(weights: &[i16], shape: super::WeightShape) -> Vec<i16> {
    let super::WeightShape { channels, taps, groups } = shape;
    let len = packed_len(channels, taps);
    let mut packed = vec![0; len * groups];
    for (group, packed) in weights.chunks_exact(channels * taps).zip(packed.chunks_exact_mut(len)) {
        pack(group, channels, taps, packed);
    }
    packed
}

/// Packs the weights of a depthwise convolution, `[channels][taps]`, as `[taps][channels]`.
#[cfg(feature = "std")]
pub fn pack_depthwise(weights: &[i16], channels: usize) -> Vec<i16> {
    let taps = weights.len() / channels;
    (0..taps * channels).map(|i| weights[i % channels * taps + i / channels]).collect()
}

/// The scalar kernels as a set: what a CPU runs that has no other.
#[cfg(feature = "std")]
#[derive(Debug)]
pub struct Generic;

#[cfg(feature = "std")]
impl super::KernelSet for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }
}

/// Multiplies [`PIXELS`] patches by one panel. `patches`: `[PIXELS][taps]`, even `taps`. `panel`:
/// `[taps / 2][LANES][2]`.
#[inline(always)]
fn tile(patches: &[i16], taps: usize, panel: &[i16]) -> [[i32; LANES]; PIXELS] {
    let mut acc = [[0i32; LANES]; PIXELS];
    for (pair, w) in panel.as_chunks::<{ 2 * LANES }>().0.iter().enumerate() {
        for (p, acc) in acc.iter_mut().enumerate() {
            let (a, b) = (patches[p * taps + 2 * pair] as i32, patches[p * taps + 2 * pair + 1] as i32);
            for l in 0..LANES {
                acc[l] = acc[l].wrapping_add(a * w[2 * l] as i32 + b * w[2 * l + 1] as i32);
            }
        }
    }
    acc
}

/// Gathers the patch of output pixel (`oy`, `ox`) of `group`; positions in the padding give zero,
/// as does a last odd tap.
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

/// Length in i16 of the scratch that convolutions and [`dense`] need for patches of `taps` values:
/// four in i16, or eight in i8 for the kernels that take four taps at once.
pub const fn scratch_len(taps: usize) -> usize {
    PIXELS * taps.next_multiple_of(4)
}

/// Any convolution: NHWC in, NHWC out.
///
/// Weights: the packed groups one after the other. `scratch`: [`scratch_len`] of the patch. Panics
/// if a length is off.
#[inline(always)]
pub fn conv(layer: Layer<'_, [i16]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
    let Layer { shape: s, zero_point, weights, epilogue } = layer;
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

/// A fully connected layer up to its accumulators: `accumulators[c] = bias[c] + sum_t (input[t] -
/// zero_point) * weight[c][t]`.
///
/// `weights`: as [`pack`] lays them out. Panics if a length is off.
pub fn dense(input: &[i8], zero_point: i8, weights: &[i16], bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
    let taps = input.len().next_multiple_of(2);
    assert_eq!(accumulators.len(), bias.len(), "one bias a sum");
    assert_eq!(weights.len(), packed_len(accumulators.len(), input.len()), "packed length");
    let patch = &mut scratch[..taps];
    patch[taps - 1] = 0;
    for (o, &v) in patch.iter_mut().zip(input) {
        *o = v as i16 - zero_point as i16;
    }
    for ((accumulators, bias), panel) in
        accumulators.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(weights.chunks_exact(taps * LANES))
    {
        let mut acc = [0i32; LANES];
        for (x, w) in patch.as_chunks::<2>().0.iter().zip(panel.as_chunks::<{ 2 * LANES }>().0) {
            for l in 0..LANES {
                let two = x[0] as i32 * w[2 * l] as i32 + x[1] as i32 * w[2 * l + 1] as i32;
                acc[l] = acc[l].wrapping_add(two);
            }
        }
        for ((sum, acc), bias) in accumulators.iter_mut().zip(acc).zip(bias) {
            *sum = acc.wrapping_add(*bias);
        }
    }
}

/// A depthwise convolution: channel c of the output from channel c of the input.
///
/// Weights: `[kernel rows][kernel columns][channels]`, see [`pack_depthwise`]. Panics if a length
/// is off.
///
/// Blocks of [`LANES`] channels keep their weights at hand while they go over the image. Values
/// enter as they are: the zero point's share is taken off the bias once, and a tap in the padding
/// counts as the zero point.
#[inline(always)]
pub fn depthwise(layer: Layer<'_, [i16]>, input: &[i8], output: &mut [i8]) {
    let Layer { shape: s, weights, .. } = layer;
    let [h, w, c] = s.input;
    let [oh, ow, oc] = s.output;
    assert_eq!(input.len(), h * w * c, "input length");
    assert_eq!(output.len(), oh * ow * oc, "output length");
    assert_eq!(weights.len(), s.kernel[0] * s.kernel[1] * c, "weights length");
    // The last block overlaps the one before it; fewer channels than a block has are filled with
    // weights of zero.
    for first in (0..c).step_by(LANES).map(|first| first.min(c.saturating_sub(LANES))) {
        depthwise_block(layer, input, first, output);
    }
}

/// [`LANES`] channels from `first` on of a depthwise convolution, or all, where it has fewer.
#[inline(always)]
fn depthwise_block(layer: Layer<'_, [i16]>, input: &[i8], first: usize, output: &mut [i8]) {
    let Layer { shape: s, zero_point, weights, epilogue } = layer;
    let zero_point = zero_point as i16;
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

/// Up to [`LANES`] values, then zeros.
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

/// Requantises [`LANES`] accumulators after adding their biases; one loop of fixed length, so that
/// it is vectorised whole.
#[inline(always)]
pub(super) fn requant_lanes(acc: &[i32; LANES], bias: &[i32; LANES], scale: &[f32; LANES], clamp: Clamp) -> [i8; LANES] {
    let zp = clamp.zero_point as i32;
    let (lo, hi) = ((clamp.lo as i32 - zp) as f32, (clamp.hi as i32 - zp) as f32);
    let mut out = [0i8; LANES];
    for l in 0..LANES {
        let x = acc[l].wrapping_add(bias[l]) as f32 * scale[l];
        // One instruction each on aarch64; elsewhere `max` might be a call into libm, which tier 0
        // has not.
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
