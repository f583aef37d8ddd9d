//! Depthwise convolutions by `vpdpbusd`: kernels of up to eight rows and columns, strides 1 and 2
//! to the right.
//!
//! The instruction adds four products to each lane, so a lane must hold four values of one channel.
//! Four rows of a column are interleaved by bytes once and serve every output of a row that sees
//! the column; a kernel of more than four rows takes two such groups, with weights of zero where it
//! has no row. Channels go in blocks of 64, whose four rows are four registers, and what is left,
//! up to 32 channels, in blocks of 16, whose four rows are one. A block whose weights are in
//! several parts (`Fit`) takes the dot products of each. Values enter with 128 added, as in `vnni`.

use super::Avx512Vnni;
use super::vnni::{Limits, limits, requantise, store_pixels, turned_over, zero_point};
use crate::kernels::epilogue::{Fit, LANES, Reach};
use crate::kernels::panels::{self, take_zero_point};
use crate::kernels::window::{self, ROWS, Window};
use crate::kernels::{ConvShape, Layer, Panels};
use core::arch::x86_64::*;

/// Channels of a wide block.
const WIDE: usize = 64;
/// Most columns of a kernel.
const COLUMNS: usize = 8;
/// Output pixels of a row whose columns are interleaved together.
const SEGMENT: usize = 24;
/// Most input columns that a segment sees.
const SEEN: usize = (SEGMENT - 1) * 2 + COLUMNS;

/// Whether [`Avx512Vnni::narrow_depthwise`] runs such a layer.
pub(super) fn takes(s: &ConvShape, weights: &[i16]) -> bool {
    s.kernel[0] <= window::GROUPS * ROWS
        && s.kernel[1] <= COLUMNS
        && s.stride[1] <= 2
        && s.dilation == [1, 1]
        && panels::fits_in_parts(weights)
}

/// A block's first channel, and how many there are of up to [`WIDE`] or of up to [`LANES`].
fn blocks(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let wide = if channels % WIDE > 2 * LANES { channels.div_ceil(WIDE) } else { channels / WIDE };
    let rest = (wide * WIDE..channels).step_by(LANES).map(|first| (first, LANES));
    (0..wide).map(|i| (i * WIDE, WIDE)).chain(rest)
}

/// Packs `[channels][taps]` weights as `[block][part][column][group of rows][channels of the
/// block][4 rows]`, a wide block's channels in the order that interleaving by bytes gives, and
/// takes the zero point's share off `bias`.
pub(super) fn pack(weights: &[i16], [kh, kw]: [usize; 2], zp: i8, bias: &mut [i32]) -> Panels {
    let channels = bias.len();
    take_zero_point(weights, kh * kw, zero_point(zp), bias);
    let mut packed = Panels::default();
    for (first, width) in blocks(channels) {
        let parts = panels::parts(&weights[first * kh * kw..(first + width).min(channels) * kh * kw]);
        packed.fits.push(Fit { parts, ..Fit::AS_THEY_ARE });
        let columns = (0..parts).flat_map(|p| (0..kw).map(move |k| (p, k)));
        for ((part, column), group) in columns.flat_map(|k| (0..kh.div_ceil(ROWS)).map(move |g| (k, g))) {
            for (at, row) in (0..width).flat_map(|at| (0..ROWS).map(move |r| (at, group * ROWS + r))) {
                let channel = first + if width == WIDE { interleaved_at(at) } else { at };
                let there = channel < channels && row < kh;
                let weight = || panels::part(weights[(channel * kh + row) * kw + column], part, parts);
                packed.values.push(if there { weight() } else { 0 });
            }
        }
    }
    packed
}

/// Which of a wide block's channels interleaving by bytes brings to place `at`: each of four
/// registers takes four of each 16.
fn interleaved_at(at: usize) -> usize {
    let (quarter, lane) = (at / LANES, at % LANES);
    lane / 4 * LANES + quarter * 4 + lane % 4
}

impl Avx512Vnni {
    /// A layer that [`takes`] allows; `scratch`: [`SCRATCH`]; weights and bias as [`pack`] left
    /// them.
    pub(super) fn narrow_depthwise(&self, layer: Layer<'_, Panels>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        // SAFETY: the set is had only where every enabled feature was found on this CPU.
        unsafe {
            match (layer.shape.kernel[0].div_ceil(ROWS), layer.epilogue.reach) {
                (1, Reach::Any) => depthwise::<1, true>(layer, input, output, scratch),
                (1, _) => depthwise::<1, false>(layer, input, output, scratch),
                (_, Reach::Any) => depthwise::<2, true>(layer, input, output, scratch),
                _ => depthwise::<2, false>(layer, input, output, scratch),
            }
        }
    }
}

/// Interleaved values of one column and group: of a wide block.
type Column = [__m512i; ROWS];
/// Columns that a segment's groups see.
const COLUMNS_SEEN: usize = SEEN * window::GROUPS;

/// Length in i16 of the scratch that it needs: interleaved columns, and room to align them.
pub(super) const SCRATCH: usize = (COLUMNS_SEEN * size_of::<Column>() + align_of::<Column>()) / 2;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn depthwise<const GROUPS: usize, const ANY: bool>(
    layer: Layer<'_, Panels>,
    input: &[i8],
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let Layer { shape: s, zero_point, weights: Panels { values: weights, fits }, epilogue: e } = layer;
    let ([h, w, c], [oh, ow, _], [kh, kw]) = (s.input, s.output, s.kernel);
    assert_eq!(input.len(), h * w * c, "input length");
    assert_eq!(output.len(), oh * ow * c, "output length");
    assert!(kw <= COLUMNS && s.stride[1] <= 2 && kh <= GROUPS * ROWS, "a layer that it takes");
    // SAFETY: a register has no invalid bytes.
    let (_, seen, _) = unsafe { scratch.align_to_mut::<Column>() };
    let seen = &mut seen[..COLUMNS_SEEN];
    let padding = [zero_point; WIDE];
    let limits = limits(&e);
    let mut rest = weights.as_slice();
    for ((first, width), fit) in blocks(c).zip(fits) {
        let (weights, after) = rest.split_at(usize::from(fit.parts) * kw * GROUPS * ROWS * width);
        rest = after;
        let (mut bias, mut scale) = ([0; WIDE], [0.0; WIDE]);
        for at in 0..width {
            let channel = first + if width == WIDE { interleaved_at(at) } else { at };
            if channel < c {
                (bias[at], scale[at]) = (e.bias[channel], e.scale[channel]);
            }
        }
        let block = Block::<GROUPS, ANY> { weights, bias, scale, limits, kw, stride: s.stride[1], channels: c, first };
        for oy in 0..oh {
            for start in (0..ow).step_by(SEGMENT) {
                let pixels = SEGMENT.min(ow - start);
                let window = Window::of(s, input, &padding, kh, [oy, start], pixels);
                let out = &mut output[(oy * ow + start) * c..][..pixels * c];
                if width == WIDE {
                    block.interleave(&window, zero_point, seen);
                    block.outputs(seen, out);
                } else {
                    block.interleave_narrow(&window, zero_point, seen.as_flattened_mut());
                    block.outputs_narrow(seen.as_flattened(), out);
                }
            }
        }
    }
}

/// A block of channels from `first` on.
struct Block<'w, const GROUPS: usize, const ANY: bool> {
    /// `[part][column][group][channels of the block][4 rows]`.
    weights: &'w [i8],
    /// In the order of the weights' channels; a narrow block's are the first.
    bias: [i32; WIDE],
    scale: [f32; WIDE],
    limits: Limits,
    /// Columns of the kernel, and from one output to the next.
    kw: usize,
    stride: usize,
    /// Of the image.
    channels: usize,
    first: usize,
}

impl<const GROUPS: usize, const ANY: bool> Block<'_, GROUPS, ANY> {
    /// Interleaves what a window sees of a wide block: `[column][group]`.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn interleave(&self, window: &Window, zero_point: i8, seen: &mut [Column]) {
        let mask = u64::MAX >> (WIDE - WIDE.min(self.channels - self.first));
        let turn = _mm512_set1_epi8(i8::MIN);
        let padding = [_mm512_set1_epi8(zero_point ^ i8::MIN); ROWS];
        seen[..window.from * GROUPS].fill(padding);
        seen[window.to * GROUPS..window.columns * GROUPS].fill(padding);
        for group in 0..GROUPS {
            let mut rows = window.rows(group, self.first);
            for seen in seen[window.from * GROUPS..window.to * GROUPS].chunks_exact_mut(GROUPS) {
                let mut r = padding;
                for (r, (at, step)) in r.iter_mut().zip(&mut rows) {
                    // SAFETY: the mask lets through only the channels that each column has from
                    // `first` on; padding has 64 values.
                    *r = unsafe { _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, *at), turn) };
                    *at = at.wrapping_add(*step);
                }
                let (a, b) = (_mm512_unpacklo_epi8(r[0], r[1]), _mm512_unpackhi_epi8(r[0], r[1]));
                let (c, d) = (_mm512_unpacklo_epi8(r[2], r[3]), _mm512_unpackhi_epi8(r[2], r[3]));
                seen[group] = [
                    _mm512_unpacklo_epi16(a, c),
                    _mm512_unpackhi_epi16(a, c),
                    _mm512_unpacklo_epi16(b, d),
                    _mm512_unpackhi_epi16(b, d),
                ];
            }
        }
    }

    /// A segment's outputs of a wide block. `out`: the pixels, of all channels.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn outputs(&self, seen: &[Column], out: &mut [i8]) {
        let n = WIDE.min(self.channels - self.first);
        let mask = u64::MAX >> (WIDE - n);
        let mut bias = [_mm512_setzero_si512(); ROWS];
        let mut scale = [_mm512_setzero_ps(); ROWS];
        for q in 0..ROWS {
            // SAFETY: 64 of each.
            unsafe {
                bias[q] = _mm512_loadu_si512(self.bias.as_ptr().add(q * LANES).cast());
                scale[q] = _mm512_loadu_ps(self.scale.as_ptr().add(q * LANES));
            }
        }
        let weights = self.weights.as_chunks::<{ ROWS * WIDE }>().0;
        let pixels = out.len() / self.channels;
        assert!(seen.len() >= ((pixels - 1) * self.stride + self.kw) * GROUPS, "columns of all outputs");
        let mut kept = [[_mm512_setzero_si512(); ROWS]; 3];
        let keep = GROUPS == 1 && self.kw == 3 && weights.len() == 3;
        if keep {
            for (kept, w) in kept.iter_mut().zip(weights) {
                *kept = column_weights(w);
            }
        }
        for (p, out) in out.chunks_exact_mut(self.channels).enumerate() {
            let seen = &seen[p * self.stride * GROUPS..][..self.kw * GROUPS];
            let mut acc = bias;
            if keep {
                // Weights stay in registers.
                for k in 0..3 {
                    for q in 0..ROWS {
                        acc[q] = _mm512_dpbusd_epi32(acc[q], seen[k][q], kept[k][q]);
                    }
                }
            } else {
                for (x, w) in seen.iter().cycle().zip(weights) {
                    let w = column_weights(w);
                    for q in 0..ROWS {
                        acc[q] = _mm512_dpbusd_epi32(acc[q], x[q], w[q]);
                    }
                }
            }
            // Packing undoes the interleaving.
            let packed = requantise::<ANY>(acc, scale, &self.limits);
            let out = &mut out[self.first..][..n];
            // SAFETY: the mask lets through only the `n` channels of `out`.
            unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr(), mask, packed) };
        }
    }

    /// As [`Block::interleave`], of a narrow block.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn interleave_narrow(&self, window: &Window, zero_point: i8, seen: &mut [__m512i]) {
        let mask = u16::MAX >> (LANES - LANES.min(self.channels - self.first));
        let turn = _mm512_set1_epi8(i8::MIN);
        let padding = _mm512_set1_epi8(zero_point ^ i8::MIN);
        // Four rows of four bytes in each quarter, turned over.
        let bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        seen[..window.from * GROUPS].fill(padding);
        seen[window.to * GROUPS..window.columns * GROUPS].fill(padding);
        for group in 0..GROUPS {
            let mut rows = window.rows(group, self.first);
            for seen in seen[window.from * GROUPS..window.to * GROUPS].chunks_exact_mut(GROUPS) {
                let mut r = [_mm_setzero_si128(); ROWS];
                for (r, (at, step)) in r.iter_mut().zip(&mut rows) {
                    // SAFETY: the mask lets through only the channels that each column has from
                    // `first` on; padding has 64 values.
                    *r = unsafe { _mm_maskz_loadu_epi8(mask, *at) };
                    *at = at.wrapping_add(*step);
                }
                let rows = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(r[0]), r[1]);
                let rows = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(rows, r[2]), r[3]);
                seen[group] = _mm512_shuffle_epi8(turned_over(_mm512_xor_si512(rows, turn)), bytes);
            }
        }
    }

    /// As [`Block::outputs`], of a narrow block.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn outputs_narrow(&self, seen: &[__m512i], out: &mut [i8]) {
        // SAFETY: 64 of each, of which 16 are read.
        let (bias, scale) = unsafe { (_mm512_loadu_si512(self.bias.as_ptr().cast()), _mm512_loadu_ps(self.scale.as_ptr())) };
        let (step, taps) = (self.stride * GROUPS, self.kw * GROUPS);
        let weights = self.weights.as_chunks::<{ ROWS * LANES }>().0;
        let last = out.len() / self.channels - 1;
        assert!(seen.len() >= last * step + taps, "columns of all outputs");
        for (four, out) in out.chunks_mut(4 * self.channels).enumerate() {
            let mut acc = [bias; 4];
            for (k, w) in weights.iter().enumerate() {
                // SAFETY: `w` holds 64 bytes.
                let w = unsafe { _mm512_loadu_si512(w.as_ptr().cast()) };
                for (i, acc) in acc.iter_mut().enumerate() {
                    // Behind the last pixel it is repeated.
                    *acc = _mm512_dpbusd_epi32(*acc, seen[(4 * four + i).min(last) * step + k % taps], w);
                }
            }
            store_pixels(requantise::<ANY>(acc, [scale; 4], &self.limits), out, self.channels, self.first..self.channels);
        }
    }
}

/// The weights of one column and group of a wide block.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn column_weights(w: &[i8; ROWS * WIDE]) -> Column {
    let mut registers = [_mm512_setzero_si512(); ROWS];
    for (q, register) in registers.iter_mut().enumerate() {
        // SAFETY: four times 64 bytes.
        *register = unsafe { _mm512_loadu_si512(w.as_ptr().add(q * WIDE).cast()) };
    }
    registers
}
