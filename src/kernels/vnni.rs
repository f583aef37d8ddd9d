//! Convolutions, depthwise convolutions and products by `vpdpbusd`, the dot product of AVX-512 VNNI.
//!
//! Knows no arithmetic of its own: sums are exact in i32, and what follows them is `quant`'s.
//!
//! The instruction multiplies unsigned by signed bytes, so values enter with 128 added (their top bit turned over) and the
//! bias gives up `(zero_point + 128) * sum of weights` at load; padding holds the zero point. Nothing saturates: four products
//! of 255 and 127 are added to an i32.
//!
//! Convolution, for a tile of [`PIXELS`] pixels and up to 48 channels:
//!
//! ```text
//! for each 4 taps:  for each pixel p, channel c:  acc[p][c] += sum over 4 of x[p][tap] * w[c][tap]
//! ```
//!
//! with weights as `[channels / 16][taps / 4][16][4]`: 8 x 3 registers of sums, three of weights and one of a pixel's four
//! taps in all its lanes, of 32. Depthwise, for 64 channels: four rows of a column are interleaved by bytes once, so that a
//! lane holds one channel's four values, and serve all outputs of a row that see the column.

use super::ConvShape;
use super::generic::{Epilogue, LANES};
use super::narrow::{fits, take_zero_point};
use super::patches::{Gather, bytes};
use super::x86::Avx512Vnni;
use core::arch::x86_64::*;

const PIXELS: usize = 8;
/// Added to values.
const BIASED: i32 = 128;

/// What goes off the bias for each weight.
pub(super) const fn zero_point(zero_point: i8) -> i32 {
    zero_point as i32 + BIASED
}

/// Copies values with 128 added.
#[inline(always)]
fn biased(to: &mut [i8], from: &[i8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from ^ i8::MIN;
    }
}

/// A layer's range and zero point, in all lanes.
#[derive(Clone, Copy)]
struct Limits {
    low: __m512,
    high: __m512,
    zero_point: __m512i,
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn limits(e: &Epilogue<'_>) -> Limits {
    let zp = e.clamp.zero_point as i32;
    Limits {
        low: _mm512_set1_ps((e.clamp.lo as i32 - zp) as f32),
        high: _mm512_set1_ps((e.clamp.hi as i32 - zp) as f32),
        zero_point: _mm512_set1_epi32(zp),
    }
}

/// `quant::requant_rndne` of 16 sums, without the zero point. What is rounded is within -255..=255, where the conversion's
/// rounding (to nearest, ties to even, as every thread has it) is the one of the definition.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn requantise(sums: __m512i, scale: __m512, l: &Limits) -> __m512i {
    let x = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale);
    _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(x, l.low), l.high))
}

impl Avx512Vnni {
    /// A convolution that is not depthwise and has one group; see `generic::conv` for the arguments.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn narrow_conv(
        self,
        s: &ConvShape,
        input: &[i8],
        zero_point: i8,
        weights: &[i8],
        e: Epilogue<'_>,
        output: &mut [i8],
        scratch: &mut [i16],
    ) {
        // SAFETY: this token is made only where every enabled feature was found on this CPU.
        unsafe { conv(s, input, zero_point, weights, e, output, scratch) }
    }

    /// A fully connected layer up to its sums; `bias` holds the zero point's share.
    pub(super) fn narrow_dense(self, input: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
        // SAFETY: this token is made only where every enabled feature was found on this CPU.
        unsafe { dense(input, weights, bias, sums, scratch) }
    }

    /// A layer that [`takes_depthwise`]; `weights` and the bias as [`pack_depthwise`] left them.
    pub(super) fn narrow_depthwise(
        self,
        s: &ConvShape,
        input: &[i8],
        zero_point: i8,
        weights: &[i8],
        e: Epilogue<'_>,
        output: &mut [i8],
    ) {
        let groups = s.kernel[0].div_ceil(ROWS);
        // SAFETY: this token is made only where every enabled feature was found on this CPU.
        unsafe {
            match groups {
                1 => depthwise::<1>(s, input, zero_point, weights, e, output),
                _ => depthwise::<2>(s, input, zero_point, weights, e, output),
            }
        }
    }
}

/// Sums of one tile. `rows`: each pixel's first value in `values`; `panels`: `[B][steps][16][4]`.
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

/// 16 channels from `first` on, fewer at the end.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn words(values: &[i32], first: usize) -> __m512i {
    let n = LANES.min(values.len() - first);
    // SAFETY: the mask lets through only the `n` values that are there.
    unsafe { _mm512_maskz_loadu_epi32(((1u32 << n) - 1) as __mmask16, values.as_ptr().add(first)) }
}

/// As [`words`].
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn reals(values: &[f32], first: usize) -> __m512 {
    let n = LANES.min(values.len() - first);
    // SAFETY: the mask lets through only the `n` values that are there.
    unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, values.as_ptr().add(first)) }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn conv(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let [oh, ow, oc] = s.output;
    let (taps, all) = (s.patch_len(), oh * ow);
    let (steps, panels) = (taps.div_ceil(4), oc.div_ceil(LANES));
    let stride = steps * 4;
    assert_eq!(input.len(), s.input.iter().product::<usize>(), "input length");
    assert_eq!(output.len(), all * oc, "output length");
    assert_eq!(weights.len(), panels * steps * 64, "packed length");
    let gather = Gather::new(s, input, zero_point);
    let patches = &mut bytes(scratch)[..PIXELS * stride];
    let limits = limits(&e);
    for pixel in (0..all).step_by(PIXELS) {
        let pixels = PIXELS.min(all - pixel);
        for (p, patch) in patches.chunks_exact_mut(stride).enumerate().take(pixels) {
            if s.is_pointwise() {
                biased(&mut patch[..taps], &input[(pixel + p) * taps..][..taps]);
            } else {
                gather.patch((pixel + p) / ow, (pixel + p) % ow, patch);
                patch[..taps].iter_mut().for_each(|v| *v ^= i8::MIN);
            }
        }
        // A tile that is not full repeats its last pixel.
        let rows = core::array::from_fn(|p| p.min(pixels - 1) * stride);
        let out = &mut output[pixel * oc..(pixel + pixels) * oc];
        let mut at = 0;
        while at < panels {
            let w = &weights[at * steps * 64..];
            at += match panels - at {
                1 => columns::<1>(patches, rows, steps, w, &e, &limits, at * LANES, out),
                2 | 4 => columns::<2>(patches, rows, steps, w, &e, &limits, at * LANES, out),
                _ => columns::<3>(patches, rows, steps, w, &e, &limits, at * LANES, out),
            };
        }
    }
}

/// `B` panels of a tile, from channel `first` on; returns `B`.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[allow(clippy::too_many_arguments)]
fn columns<const B: usize>(
    values: &[i8],
    rows: [usize; PIXELS],
    steps: usize,
    weights: &[i8],
    e: &Epilogue<'_>,
    l: &Limits,
    first: usize,
    out: &mut [i8],
) -> usize {
    let oc = e.bias.len();
    let mut bias = [_mm512_setzero_si512(); B];
    for (b, bias) in bias.iter_mut().enumerate() {
        *bias = words(e.bias, first + b * LANES);
    }
    let acc = tile::<PIXELS, B>(values, rows, steps, weights, bias);
    for b in 0..B {
        let at = first + b * LANES;
        let (n, scale) = (LANES.min(oc - at), reals(e.scale, at));
        let mask = ((1u32 << n) - 1) as __mmask16;
        for (acc, out) in acc.iter().zip(out.chunks_exact_mut(oc)) {
            let q = _mm512_add_epi32(requantise(acc[b], scale, l), l.zero_point);
            let q = _mm512_cvtepi32_epi8(q);
            // SAFETY: the mask lets through only the `n` channels that the pixel still has.
            unsafe { _mm_mask_storeu_epi8(out[at..].as_mut_ptr(), mask, q) };
        }
    }
    B
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn dense(input: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
    let steps = input.len().div_ceil(4);
    assert_eq!(sums.len(), bias.len(), "one bias a sum");
    assert_eq!(weights.len(), sums.len().div_ceil(LANES) * steps * 64, "packed length");
    let values = &mut bytes(scratch)[..steps * 4];
    biased(&mut values[..input.len()], input);
    for (panel, first) in weights.chunks_exact(steps * 64).zip((0..).step_by(LANES)) {
        let [[acc]] = tile::<1, 1>(values, [0], steps, panel, [words(bias, first)]);
        let n = LANES.min(sums.len() - first);
        // SAFETY: the mask lets through only the `n` sums that are there.
        unsafe { _mm512_mask_storeu_epi32(sums[first..].as_mut_ptr(), ((1u32 << n) - 1) as __mmask16, acc) };
    }
}

/// Rows of a kernel that are multiplied together.
const ROWS: usize = 4;
/// Channels of a depthwise block.
const BLOCK: usize = 64;
/// Most columns of a kernel.
const COLUMNS: usize = 8;
/// Output pixels of a row whose columns are interleaved together.
const SEGMENT: usize = 24;
/// Most input columns that a segment sees.
const SEEN: usize = (SEGMENT - 1) * 2 + COLUMNS;

/// Whether [`Avx512Vnni::narrow_depthwise`] runs such a layer.
pub(super) fn takes_depthwise(s: [usize; 2], stride: [usize; 2], dilation: [usize; 2], weights: &[i16]) -> bool {
    s[0] <= 2 * ROWS && s[1] <= COLUMNS && stride[1] <= 2 && dilation == [1, 1] && fits(weights)
}

/// Packs `[channels][taps]` weights as `[channels / 64][columns][groups of rows][4][16][4]`, in the order that interleaving by
/// bytes gives, and takes the zero point's share off `bias`.
pub(super) fn pack_depthwise(weights: &[i16], kernel: [usize; 2], zp: i8, bias: &mut [i32]) -> Vec<i8> {
    let [kh, kw] = kernel;
    let (channels, groups) = (bias.len(), kh.div_ceil(ROWS));
    take_zero_point(weights, kh * kw, zero_point(zp), bias);
    let at = |i: usize| {
        let (row, lane, quarter) = (i % ROWS, i / ROWS % LANES, i / BLOCK % ROWS);
        let (group, column) = (i / BLOCK / ROWS % groups, i / BLOCK / ROWS / groups % kw);
        let channel = i / BLOCK / ROWS / groups / kw * BLOCK + lane / 4 * LANES + quarter * 4 + lane % 4;
        let row = group * ROWS + row;
        if channel < channels && row < kh { weights[(channel * kh + row) * kw + column] as i8 } else { 0 }
    };
    (0..channels.div_ceil(BLOCK) * kw * groups * ROWS * BLOCK).map(at).collect()
}

/// Four of a block's channels in each of four lanes, as interleaving orders them.
#[inline(always)]
fn interleaved<T: Copy + Default>(values: &[T], first: usize, quarter: usize) -> [T; LANES] {
    core::array::from_fn(|i| values.get(first + i / 4 * LANES + quarter * 4 + i % 4).copied().unwrap_or_default())
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn depthwise<const GROUPS: usize>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
) {
    let ([h, w, c], [oh, ow, _], [kh, kw]) = (s.input, s.output, s.kernel);
    assert_eq!(input.len(), h * w * c, "input length");
    assert_eq!(output.len(), oh * ow * c, "output length");
    assert_eq!(weights.len(), c.div_ceil(BLOCK) * kw * GROUPS * ROWS * BLOCK, "packed length");
    assert!(kw <= COLUMNS && s.stride[1] <= 2 && kh <= GROUPS * ROWS, "a layer that it takes");
    let l = limits(&e);
    let zp = _mm512_set1_epi16(e.clamp.zero_point as i16);
    let turn = _mm512_set1_epi8(i8::MIN);
    let padding = _mm512_set1_epi8(zero_point ^ i8::MIN);
    let mut seen = [[_mm512_setzero_si512(); ROWS]; SEEN * 2];
    for (block, first) in (0..c).step_by(BLOCK).enumerate() {
        let n = BLOCK.min(c - first);
        let mask = if n == BLOCK { u64::MAX } else { (1 << n) - 1 };
        let w_block = &weights[block * kw * GROUPS * ROWS * BLOCK..][..kw * GROUPS * ROWS * BLOCK];
        let mut bias = [_mm512_setzero_si512(); ROWS];
        let mut scale = [_mm512_setzero_ps(); ROWS];
        for q in 0..ROWS {
            let (b, x) = (interleaved(e.bias, first, q), interleaved(e.scale, first, q));
            // SAFETY: both arrays hold 16 values.
            (bias[q], scale[q]) = unsafe { (_mm512_loadu_si512(b.as_ptr().cast()), _mm512_loadu_ps(x.as_ptr())) };
        }
        let load = |y: usize, x: usize| {
            if y < h && x < w {
                let at = (y * w + x) * c + first;
                // SAFETY: y and x lie in the picture; the mask lets through only the channels that the pixel has.
                let v = unsafe { _mm512_maskz_loadu_epi8(mask, input[at..at + n].as_ptr()) };
                _mm512_xor_si512(v, turn)
            } else {
                padding
            }
        };
        for oy in 0..oh {
            let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
            for start in (0..ow).step_by(SEGMENT) {
                let pixels = SEGMENT.min(ow - start);
                let x0 = (start * s.stride[1]).wrapping_sub(s.pad[1]);
                for column in 0..(pixels - 1) * s.stride[1] + kw {
                    for group in 0..GROUPS {
                        let mut r = [padding; ROWS];
                        for (k, r) in r.iter_mut().enumerate() {
                            let row = group * ROWS + k;
                            // Rows that the kernel has not meet weights of 0.
                            if row < kh {
                                *r = load(y0.wrapping_add(row), x0.wrapping_add(column));
                            }
                        }
                        let (a, b) = (_mm512_unpacklo_epi8(r[0], r[1]), _mm512_unpackhi_epi8(r[0], r[1]));
                        let (c, d) = (_mm512_unpacklo_epi8(r[2], r[3]), _mm512_unpackhi_epi8(r[2], r[3]));
                        seen[column * GROUPS + group] = [
                            _mm512_unpacklo_epi16(a, c),
                            _mm512_unpackhi_epi16(a, c),
                            _mm512_unpacklo_epi16(b, d),
                            _mm512_unpackhi_epi16(b, d),
                        ];
                    }
                }
                for p in 0..pixels {
                    let mut acc = bias;
                    let from = &seen[p * s.stride[1] * GROUPS..][..kw * GROUPS];
                    for (x, w) in from.iter().zip(w_block.as_chunks::<{ ROWS * BLOCK }>().0) {
                        for q in 0..ROWS {
                            // SAFETY: `w` holds four times 64 bytes.
                            let w = unsafe { _mm512_loadu_si512(w.as_ptr().add(q * BLOCK).cast()) };
                            acc[q] = _mm512_dpbusd_epi32(acc[q], x[q], w);
                        }
                    }
                    for q in 0..ROWS {
                        acc[q] = requantise(acc[q], scale[q], &l);
                    }
                    // Packing undoes the interleaving.
                    let low = _mm512_add_epi16(_mm512_packs_epi32(acc[0], acc[1]), zp);
                    let high = _mm512_add_epi16(_mm512_packs_epi32(acc[2], acc[3]), zp);
                    let at = (oy * ow + start + p) * c + first;
                    let out = &mut output[at..at + n];
                    // SAFETY: the mask lets through only the `n` channels of `out`.
                    unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr(), mask, _mm512_packs_epi16(low, high)) };
                }
            }
        }
    }
}
