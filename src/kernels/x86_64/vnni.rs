//! Convolutions and products by `vpdpbusd`, the dot product of AVX-512 VNNI.
//!
//! The instruction multiplies unsigned by signed bytes, so values enter with 128 added (their top
//! bit turned over) and the bias gives up `(zero_point + 128) * sum of weights` at load; padding
//! holds the zero point. What was taken off weights that do not fit i8 (`Fit::shift`) is made good
//! from the total of a pixel's values. Nothing saturates: four products of 255 and 127 are added to
//! an i32.
//!
//! Convolution, for a tile of [`PIXELS`] pixels and up to 48 channels:
//!
//! ```text
//! for each 4 taps:  for each pixel p, channel c:  acc[p][c] += sum over 4 of x[p][tap] * w[c][tap]
//! ```
//!
//! with weights as `[channels / 16][taps / 4][16][4]`: 8 x 3 registers of accumulators, three of
//! weights and one of a pixel's four taps in all its lanes, of 32.

use super::Avx512Vnni;
use crate::kernels::{Layer, Panels};
use crate::kernels::epilogue::{Epilogue, EpilogueBlock, LANES, Reach};
use crate::kernels::patches::{Gather, bytes};
use crate::quant::Clamp;
use core::arch::x86_64::*;
use core::ops::Range;

const PIXELS: usize = 8;
/// Added to values.
const BIASED: i32 = 128;

/// What goes off the bias for each weight.
pub(super) const fn zero_point(zero_point: i8) -> i32 {
    zero_point as i32 + BIASED
}

/// Values with 128 added, from one place to another.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn biased(to: &mut [i8], from: &[i8]) {
    assert_eq!(to.len(), from.len(), "as many values");
    let turn = _mm512_set1_epi8(i8::MIN);
    for (to, from) in to.chunks_mut(64).zip(from.chunks(64)) {
        let mask = u64::MAX >> (64 - from.len());
        // SAFETY: the mask lets through only the values that both have.
        unsafe {
            let values = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, from.as_ptr()), turn);
            _mm512_mask_storeu_epi8(to.as_mut_ptr(), mask, values);
        }
    }
}

/// As [`biased`], in place.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn bias_all(values: &mut [i8]) {
    let turn = _mm512_set1_epi8(i8::MIN);
    for values in values.chunks_mut(64) {
        let mask = u64::MAX >> (64 - values.len());
        // SAFETY: the mask lets through only the values that are there.
        unsafe {
            let turned = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, values.as_ptr()), turn);
            _mm512_mask_storeu_epi8(values.as_mut_ptr(), mask, turned);
        }
    }
}

/// A layer's range and zero point, in all lanes.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Less the zero point.
    low: __m512,
    high: __m512,
    zero_point: __m512i,
    least: __m512i,
    most: __m512i,
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn limits(e: &Epilogue<'_>) -> Limits {
    let Clamp { lo, hi, zero_point } = e.clamp;
    let less = |bound: i8| (bound as i32 - zero_point as i32) as f32;
    Limits {
        low: _mm512_set1_ps(less(lo)),
        high: _mm512_set1_ps(less(hi)),
        zero_point: _mm512_set1_epi16(zero_point as i16),
        least: _mm512_set1_epi8(lo),
        most: _mm512_set1_epi8(hi),
    }
}

/// 16 accumulators, scaled and rounded (to nearest, ties to even, as every thread has it). `ANY`:
/// they may go anywhere (`Reach::Any`), and are clamped before they are rounded; else what is
/// rounded fits i32.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn rounded<const ANY: bool>(accumulators: __m512i, scale: __m512, l: &Limits) -> __m512i {
    let x = _mm512_mul_ps(_mm512_cvtepi32_ps(accumulators), scale);
    _mm512_cvtps_epi32(if ANY { _mm512_min_ps(_mm512_max_ps(x, l.low), l.high) } else { x })
}

/// Four times 16 accumulators to outputs, `quant::requant_rndne` of each: of each four accumulators
/// of each of the four, one after the other. Narrowing with saturation keeps order, so that
/// clamping at the end gives what clamping before rounding gives.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn requantise<const ANY: bool>(accumulators: [__m512i; 4], scale: [__m512; 4], l: &Limits) -> __m512i {
    let ([a, b, c, d], [sa, sb, sc, sd]) = (accumulators, scale);
    let low = _mm512_packs_epi32(rounded::<ANY>(a, sa, l), rounded::<ANY>(b, sb, l));
    let high = _mm512_packs_epi32(rounded::<ANY>(c, sc, l), rounded::<ANY>(d, sd, l));
    let (low, high) = (_mm512_adds_epi16(low, l.zero_point), _mm512_adds_epi16(high, l.zero_point));
    _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(low, high), l.least), l.most)
}

/// Dwords 0, 4, 8, 12, then 1, 5, 9, 13 and so on: turns four rows of four dwords over.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn turned_over(rows: __m512i) -> __m512i {
    _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), rows)
}

/// Stores what [`requantise`] made of 16 channels of each of four pixels. `out`: the rows of as
/// many pixels as there are, of `all` channels; the 16 are `channels` of these, or fewer.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn store_pixels(packed: __m512i, out: &mut [i8], all: usize, channels: Range<usize>) {
    let packed = turned_over(packed);
    if channels.len() >= LANES && all == LANES && out.len() == 4 * LANES {
        // SAFETY: as many outputs of four pixels side by side.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), packed) };
        return;
    }
    let mask = ((1u32 << LANES.min(channels.len())) - 1) as __mmask16;
    let quarters = [
        _mm512_castsi512_si128(packed),
        _mm512_extracti32x4_epi32::<1>(packed),
        _mm512_extracti32x4_epi32::<2>(packed),
        _mm512_extracti32x4_epi32::<3>(packed),
    ];
    for (quarter, out) in quarters.into_iter().zip(out.chunks_exact_mut(all)) {
        // SAFETY: the mask lets through only the channels that are stored, which the pixel has.
        unsafe { _mm_mask_storeu_epi8(out[channels.clone()].as_mut_ptr(), mask, quarter) };
    }
}

impl Avx512Vnni {
    /// A convolution that is not depthwise.
    pub(super) fn narrow_conv(&self, layer: Layer<'_, [i8]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        // SAFETY: the set is had only where every enabled feature was found on this CPU.
        unsafe {
            match layer.epilogue.reach {
                Reach::Any => conv::<true>(layer, input, output, scratch),
                _ => conv::<false>(layer, input, output, scratch),
            }
        }
    }

    /// A fully connected layer up to its accumulators; `bias` holds the zero point's share.
    pub(super) fn narrow_dense(&self, input: &[i8], weights: &Panels, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
        // SAFETY: the set is had only where every enabled feature was found on this CPU.
        unsafe { dense(input, weights, bias, accumulators, scratch) }
    }
}

/// Accumulators of one tile. `rows`: each pixel's first value in `values`; `panels`:
/// `[B][steps][16][4]`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn tile<const N: usize, const B: usize>(
    values: &[i8],
    rows: [usize; N],
    steps: usize,
    panels: &[i8],
    bias: [__m512i; B],
) -> [[__m512i; B]; N] {
    assert!(panels.len() >= B * steps * 64, "panels for all steps");
    assert!(rows.iter().all(|row| row + steps * 4 <= values.len()), "values for all steps");
    let mut acc = [bias; N];
    for step in 0..steps {
        let mut w = [_mm512_setzero_si512(); B];
        for (b, w) in w.iter_mut().enumerate() {
            // SAFETY: the panels were checked to hold 64 bytes for each of B * steps.
            *w = unsafe { _mm512_loadu_si512(panels.as_ptr().add((b * steps + step) * 64).cast()) };
        }
        for p in 0..N {
            // SAFETY: each row was checked to hold four values for each step.
            let four = unsafe { values.as_ptr().add(rows[p] + step * 4).cast::<i32>().read_unaligned() };
            let x = _mm512_set1_epi32(four);
            for b in 0..B {
                acc[p][b] = _mm512_dpbusd_epi32(acc[p][b], x, w[b]);
            }
        }
    }
    acc
}

/// The total of values with 128 added.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn total(values: &[i8]) -> i32 {
    let mut total = _mm512_setzero_si512();
    for values in values.chunks(64) {
        let mask = u64::MAX >> (64 - values.len());
        // SAFETY: the mask lets through only the values that are there.
        let values = unsafe { _mm512_maskz_loadu_epi8(mask, values.as_ptr()) };
        total = _mm512_dpbusd_epi32(total, values, _mm512_set1_epi8(1));
    }
    _mm512_reduce_add_epi32(total)
}

/// Accumulators plus what was taken off their weights times the total of the values.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn shifted(accumulators: __m512i, shift: __m512i, total: i32) -> __m512i {
    _mm512_add_epi32(accumulators, _mm512_mullo_epi32(shift, _mm512_set1_epi32(total)))
}

/// 16 channels from `first` on, fewer at the end.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn words(values: &[i32], first: usize) -> __m512i {
    let n = LANES.min(values.len() - first);
    // SAFETY: the mask lets through only the `n` values that are there.
    unsafe { _mm512_maskz_loadu_epi32(((1u32 << n) - 1) as __mmask16, values.as_ptr().add(first)) }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn conv<const ANY: bool>(layer: Layer<'_, [i8]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
    let Layer { shape: s, zero_point, weights, epilogue: e } = layer;
    let [oh, ow, oc] = s.output;
    let (taps, all, channels) = (s.patch_len(), oh * ow, oc / s.groups);
    let (steps, panels) = (taps.div_ceil(4), channels.div_ceil(LANES));
    let stride = steps * 4;
    assert_eq!(input.len(), s.input.iter().product::<usize>(), "input length");
    assert_eq!(output.len(), all * oc, "output length");
    assert_eq!(weights.len(), s.groups * panels * steps * 64, "packed length");
    assert_eq!(e.blocks.len(), s.groups * panels, "blocks of all channels");
    let patches = &mut bytes(scratch)[..PIXELS * stride];
    let limits = limits(&e);
    for group in 0..s.groups {
        let gather = Gather::new(s, group, input, zero_point);
        let (blocks, weights) = (&e.blocks[group * panels..][..panels], &weights[group * panels * steps * 64..]);
        let any_shifted = blocks.iter().any(|block| block.fit.shifted);
        for pixel in (0..all).step_by(PIXELS) {
            let pixels = PIXELS.min(all - pixel);
            if s.is_pointwise() && s.groups == 1 && stride == taps {
                biased(&mut patches[..pixels * taps], &input[pixel * taps..][..pixels * taps]);
            } else {
                gather.pixels(pixel, pixels, patches, stride);
                bias_all(&mut patches[..pixels * stride]);
            }
            // A tile that is not full repeats its last pixel.
            let rows = core::array::from_fn(|p| p.min(pixels - 1) * stride);
            let mut totals = [0; PIXELS];
            if any_shifted {
                for (total_of, row) in totals.iter_mut().zip(rows) {
                    *total_of = total(&patches[row..][..taps]);
                }
            }
            let out = &mut output[pixel * oc..(pixel + pixels) * oc];
            let mut at = 0;
            while at < panels {
                let w = &weights[at * steps * 64..];
                let (blocks, left) = (&blocks[at..], group * channels + at * LANES..(group + 1) * channels);
                at += match blocks.len() {
                    1 => columns::<1, ANY>(patches, rows, &totals, steps, w, blocks, &limits, oc, left, out),
                    2 | 4 => columns::<2, ANY>(patches, rows, &totals, steps, w, blocks, &limits, oc, left, out),
                    _ => columns::<3, ANY>(patches, rows, &totals, steps, w, blocks, &limits, oc, left, out),
                };
            }
        }
    }
}

/// `B` panels of a tile whose values have these totals, of `channels` of `oc` those that they
/// reach; returns `B`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[allow(clippy::too_many_arguments)]
fn columns<const B: usize, const ANY: bool>(
    values: &[i8],
    rows: [usize; PIXELS],
    totals: &[i32; PIXELS],
    steps: usize,
    weights: &[i8],
    blocks: &[EpilogueBlock],
    l: &Limits,
    oc: usize,
    channels: Range<usize>,
    out: &mut [i8],
) -> usize {
    let mut bias = [_mm512_setzero_si512(); B];
    let mut scale = [_mm512_setzero_ps(); B];
    for (b, block) in blocks[..B].iter().enumerate() {
        // SAFETY: a block holds 16 of each.
        unsafe {
            bias[b] = _mm512_loadu_si512(block.begin.as_ptr().cast());
            scale[b] = _mm512_loadu_ps(block.scale.as_ptr());
        }
    }
    let mut acc = tile::<PIXELS, B>(values, rows, steps, weights, bias);
    for (b, block) in blocks[..B].iter().enumerate().filter(|(_, block)| block.fit.shifted) {
        let shift = words(&block.fit.shift, 0);
        for (acc, total) in acc.iter_mut().zip(totals) {
            acc[b] = shifted(acc[b], shift, *total);
        }
    }
    for b in 0..B {
        let channels = channels.start + b * LANES..channels.end;
        for ([w, x, y, z], out) in acc.as_chunks::<4>().0.iter().zip(out.chunks_mut(4 * oc)) {
            let values = requantise::<ANY>([w[b], x[b], y[b], z[b]], [scale[b]; 4], l);
            store_pixels(values, out, oc, channels.clone());
        }
    }
    B
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn dense(input: &[i8], Panels { values: weights, fits }: &Panels, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
    let steps = input.len().div_ceil(4);
    assert_eq!(accumulators.len(), bias.len(), "one bias a sum");
    assert_eq!(weights.len(), accumulators.len().div_ceil(LANES) * steps * 64, "packed length");
    let values = &mut bytes(scratch)[..steps * 4];
    biased(&mut values[..input.len()], input);
    let total = total(&values[..input.len()]);
    for ((panel, fit), first) in weights.chunks_exact(steps * 64).zip(fits).zip((0..).step_by(LANES)) {
        let [[acc]] = tile::<1, 1>(values, [0], steps, panel, [words(bias, first)]);
        let acc = shifted(acc, words(&fit.shift, 0), total);
        let n = LANES.min(accumulators.len() - first);
        // SAFETY: the mask lets through only the `n` accumulators that are there.
        unsafe { _mm512_mask_storeu_epi32(accumulators[first..].as_mut_ptr(), ((1u32 << n) - 1) as __mmask16, acc) };
    }
}
