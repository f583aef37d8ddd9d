//! Depthwise convolutions by SDOT: 3x3 and 5x5, strides 1 and 2.
//!
//! Accumulators are exact in i32, and what follows them is `quant`'s.
//!
//! SDOT adds four products to each lane, so a lane must hold four values of one channel. Four rows
//! of a column are interleaved by bytes once, `[16 channels][4 rows]`, and serve every output that
//! sees them: a pass computes several rows of outputs from one or two groups of four rows, with
//! weights laid out for each of these rows and zeros where its kernel has none:
//!
//! ```text
//! for each group g, column k:  acc[channel] += sum over 4 of rows[g][x + k][channel][row] * w[g][k][channel][row]
//! ```
//!
//! | kernel, stride | rows of outputs | groups | SDOT for 16 outputs | interleaving for 16 outputs |
//! |---|---|---|---|---|
//! | 3x3, 1 | 2 | 1 | 12 | half a column |
//! | 3x3, 2 | 1 | 1 | 12 | 2 columns |
//! | 5x5, 1 | 4 | 2 | 40 | half a column |
//! | 5x5, 2 | 2 | 2 | 40 | 2 columns |
//!
//! against 18 and 50 multiplies of half the pace without the dot product. Columns in the padding
//! hold the zero point. A block whose weights are in several parts (`Fit`) takes the dot products
//! of each.

use super::dotprod::Dotprod;
use super::requant::{Numbers, Outputs, Sums, begin, for_reach};
use crate::kernels::epilogue::{EpilogueBlock, Fit, LANES};
use crate::kernels::panels::{self, depthwise_blocks, depthwise_firsts, take_zero_point};
use crate::kernels::patches::bytes;
use crate::kernels::window::{ROWS, Row, Window};
use crate::kernels::{ConvShape, Layer, Panels};
use core::arch::aarch64::*;
use core::arch::asm;

/// Outputs of a row that are computed before the next columns are interleaved.
const SEGMENT: usize = 56;
/// Outputs of a tile.
const PIXELS: usize = 4;
/// Sixteen channels of four rows of one column.
type Column = [i8; ROWS * LANES];

/// Length in i16 of the scratch that it needs: two groups of all columns that a segment sees at
/// stride 2 and 5x5.
pub(super) const SCRATCH: usize = 2 * ((SEGMENT - 1) * 2 + 5) * ROWS * LANES / 2;

/// Whether it computes layers of such a shape.
pub(super) fn takes(s: &ConvShape) -> bool {
    (s.kernel == [3, 3] || s.kernel == [5, 5])
        && (s.stride == [1, 1] || s.stride == [2, 2])
        && s.dilation == [1, 1]
        && s.input[2] >= LANES
}

/// Rows of outputs in a pass.
const fn pass_rows(side: usize, stride: usize) -> usize {
    match (side, stride) {
        (3, 1) | (5, 2) => 2,
        (5, 1) => 4,
        _ => 1,
    }
}

/// Packs `[channels][taps]` weights as `[block][output row of the pass][part][4 channels of
/// 16][group][column][4][4 rows]`, and takes the zero point's share off `bias`.
pub(super) fn pack(s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Panels {
    let (side, stride) = (s.kernel[0], s.stride[0]);
    let rows = pass_rows(side, stride);
    let groups = ((rows - 1) * stride + side).div_ceil(ROWS);
    take_zero_point(weights, side * side, zero_point.into(), bias);
    let mut packed = Panels::default();
    for first in depthwise_firsts(bias.len()) {
        let weights = &weights[first * side * side..][..LANES * side * side];
        let parts = panels::parts(weights);
        packed.fits.push(Fit { parts, ..Fit::AS_THEY_ARE });
        let each_part = (0..rows).flat_map(|r| (0..parts).map(move |p| (r, p)));
        for ((row, part), quad) in each_part.flat_map(|part| (0..4).map(move |q| (part, q))) {
            for (group, column) in (0..groups).flat_map(|g| (0..side).map(move |k| (g, k))) {
                for (channel, depth) in (0..4).flat_map(|c| (0..ROWS).map(move |d| (c, d))) {
                    let tap = (group * ROWS + depth).checked_sub(row * stride).filter(|t| *t < side);
                    let weight = |t| weights[((quad * 4 + channel) * side + t) * side + column];
                    packed.values.push(tap.map_or(0, |t| panels::part(weight(t), part, parts)));
                }
            }
        }
    }
    packed
}

/// `acc[i] += sum over 4 of w[4i + j] * x[4i + j]`.
#[inline(always)]
fn sdot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: only `depthwise` comes here, whose `Dotprod` exists where the instruction was found
    // on this CPU; registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// A layer that it [`takes`]; weights and bias as [`pack`] left them. The set proves that the CPU
/// has SDOT.
pub(super) fn depthwise(_proof: &Dotprod, l: Layer<'_, [i8]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
    let columns = bytes(scratch);
    match (l.shape.kernel[0], l.shape.stride[0]) {
        (3, 1) => for_reach!(l.epilogue, BY_UZP, layer::[3, 1, 3](l, input, output, columns)),
        (3, _) => for_reach!(l.epilogue, BY_UZP, layer::[3, 2, 3](l, input, output, columns)),
        (_, 1) => for_reach!(l.epilogue, BY_UZP, layer::[5, 1, 10](l, input, output, columns)),
        _ => for_reach!(l.epilogue, BY_UZP, layer::[5, 2, 10](l, input, output, columns)),
    }
}

/// `SIDE`: rows and columns of the kernel. `TAPS`: columns of all groups.
fn layer<const SIDE: usize, const STRIDE: usize, const TAPS: usize, const REACH: u8>(
    layer: Layer<'_, [i8]>,
    input: &[i8],
    output: &mut [i8],
    columns: &mut [i8],
) {
    let Layer { shape: s, zero_point, epilogue: e, .. } = layer;
    let [h, w, c] = s.input;
    let [oh, ow, _] = s.output;
    let (rows, groups) = (const { pass_rows(SIDE, STRIDE) }, TAPS / SIDE);
    assert_eq!((input.len(), output.len()), (h * w * c, oh * ow * c), "lengths of the shape");
    assert!(c >= LANES, "a whole block of channels");
    let columns = columns.as_chunks_mut::<{ ROWS * LANES }>().0;
    let outputs = Outputs::<REACH>::new(&e);
    let padding = [zero_point; LANES];
    for oy in (0..oh).step_by(rows) {
        for start in (0..ow).step_by(SEGMENT) {
            let n = SEGMENT.min(ow - start);
            let window = Window::of(s, input, &padding, (rows - 1) * STRIDE + SIDE, [oy, start], n);
            let Window { from, to, columns: seen, .. } = window;
            for group in 0..groups {
                columns[group * seen..][..from].as_flattened_mut().fill(zero_point);
                columns[group * seen + to..(group + 1) * seen].as_flattened_mut().fill(zero_point);
            }
            for (first, weights, block) in depthwise_blocks(layer, rows * 4 * TAPS * LANES) {
                for group in 0..groups {
                    interleave(window.rows(group, first), &mut columns[group * seen + from..group * seen + to]);
                }
                let seen = &columns[..groups * seen];
                for (row, weights) in weights.chunks_exact(weights.len() / rows).enumerate().take(oh - oy) {
                    let out = &mut output[((oy + row) * ow + start) * c..][..n * c];
                    match block.fit.parts {
                        1 => outputs_of_row::<SIDE, STRIDE, TAPS, REACH, false>(seen, weights, block, outputs, out, c, first),
                        _ => outputs_of_row::<SIDE, STRIDE, TAPS, REACH, true>(seen, weights, block, outputs, out, c, first),
                    }
                }
            }
        }
    }
}

/// Interleaves four rows of 16 channels, of a window that sees as many columns as `columns` in the
/// image.
#[inline(always)]
fn interleave([mut a, mut b, mut c, mut d]: [Row; ROWS], columns: &mut [Column]) {
    for out in columns {
        // SAFETY: a window's rows hold the columns that it sees, or are always the padding; a
        // column holds 64 bytes.
        unsafe {
            let rows = int8x16x4_t(next(&mut a), next(&mut b), next(&mut c), next(&mut d));
            vst4q_s8(out.as_mut_ptr(), rows);
        }
    }
}

/// A row's 16 values; the row goes on to its next column. In assembly, because the compiler counts
/// on by an instruction more.
///
/// # Safety
/// 16 values are readable there.
#[inline(always)]
unsafe fn next((at, step): &mut Row) -> int8x16_t {
    let values;
    // SAFETY: the caller's promise; the instruction is of aarch64's baseline.
    unsafe {
        asm!(
            "ld1 {{{values:v}.16b}}, [{at}], {step}",
            values = out(vreg) values, at = inout(reg) *at, step = in(reg) *step,
            options(readonly, nostack, preserves_flags)
        );
    }
    values
}

/// One row of outputs of a segment. `MORE`: whether weights are in more parts than one. `columns`:
/// the groups' columns one after the other; `out`: the pixels, of `c` channels.
#[inline(always)]
fn outputs_of_row<const SIDE: usize, const STRIDE: usize, const TAPS: usize, const REACH: u8, const MORE: bool>(
    columns: &[Column],
    weights: &[i8],
    block: &EpilogueBlock,
    outputs: Outputs<REACH>,
    out: &mut [i8],
    c: usize,
    first: usize,
) {
    let n = out.len() / c;
    let at = |pixel: usize| (&columns[pixel * STRIDE..], columns.len() / (TAPS / SIDE));
    match n {
        0..3 => {
            for (pixel, out) in out.chunks_exact_mut(c).enumerate() {
                tile::<SIDE, STRIDE, TAPS, REACH, MORE, 1>(at(pixel), weights, block, &outputs, out, c, first);
            }
        }
        3 => tile::<SIDE, STRIDE, TAPS, REACH, MORE, 3>(at(0), weights, block, &outputs, out, c, first),
        _ => {
            // The last tile overlaps the one before it.
            for pixel in (0..n).step_by(PIXELS).map(|pixel| pixel.min(n - PIXELS)) {
                let out = &mut out[pixel * c..][..PIXELS * c];
                tile::<SIDE, STRIDE, TAPS, REACH, MORE, PIXELS>(at(pixel), weights, block, &outputs, out, c, first);
            }
        }
    }
}

/// `N` outputs of a row. `columns`: from the first that the tile sees on, and how far the next
/// group's are.
#[inline(always)]
fn tile<const SIDE: usize, const STRIDE: usize, const TAPS: usize, const REACH: u8, const MORE: bool, const N: usize>(
    (columns, group): (&[Column], usize),
    weights: &[i8],
    block: &EpilogueBlock,
    outputs: &Outputs<REACH>,
    out: &mut [i8],
    c: usize,
    first: usize,
) {
    assert!(out.len() >= (N - 1) * c + first + LANES, "outputs of the tile");
    let part = 4 * TAPS * LANES;
    let mut accumulators: [Sums; N] = core::array::from_fn(|_| begin(&block.begin));
    accumulators = dot_products::<SIDE, STRIDE, TAPS, N>(accumulators, (columns, group), weights);
    if MORE {
        accumulators = other_parts::<SIDE, STRIDE, TAPS, N>(accumulators, (columns, group), &weights[part..]);
    }
    for (p, accumulators) in accumulators.into_iter().enumerate() {
        let values = outputs.requant(accumulators, &Numbers::of(block));
        // SAFETY: `out` was checked to hold 16 channels from `first` on of N pixels.
        unsafe { vst1q_s8(out.as_mut_ptr().add(p * c + first), values) };
    }
}

/// As [`dot_products`], of the parts of weights behind the first, which few blocks have: kept out
/// of the loops, whose accumulators it would put aside.
#[inline(never)]
fn other_parts<const SIDE: usize, const STRIDE: usize, const TAPS: usize, const N: usize>(
    mut accumulators: [Sums; N],
    columns: (&[Column], usize),
    weights: &[i8],
) -> [Sums; N] {
    for weights in weights.chunks_exact(4 * TAPS * LANES) {
        accumulators = dot_products::<SIDE, STRIDE, TAPS, N>(accumulators, columns, weights);
    }
    accumulators
}

/// Accumulators of `N` outputs plus their products with a part of the weights. `columns`: as in
/// [`tile`].
#[inline(always)]
fn dot_products<const SIDE: usize, const STRIDE: usize, const TAPS: usize, const N: usize>(
    mut accumulators: [Sums; N],
    (columns, group): (&[Column], usize),
    weights: &[i8],
) -> [Sums; N] {
    assert!(weights.len() >= 4 * TAPS * LANES, "weights of the tile");
    assert!(columns.len() >= (TAPS / SIDE - 1) * group + (N - 1) * STRIDE + SIDE, "all columns of all groups");
    macro_rules! quads {
        ($($q:literal)+) => {$({
            // SAFETY: weights were checked to hold 16 bytes for each tap of each of four quads.
            let w: [int8x16_t; TAPS] =
                core::array::from_fn(|t| unsafe { vld1q_s8(weights.as_ptr().add(($q * TAPS + t) * LANES)) });
            for g in 0..TAPS / SIDE {
                for column in 0..(N - 1) * STRIDE + SIDE {
                    // SAFETY: as many columns of each group were checked to be there, each of 64
                    // bytes.
                    let x = unsafe { vld1q_s8(columns.as_ptr().add(g * group + column).cast::<i8>().add($q * LANES)) };
                    for p in 0..N {
                        if column >= p * STRIDE && column < p * STRIDE + SIDE {
                            accumulators[p][$q] = sdot(accumulators[p][$q], w[g * SIDE + column - p * STRIDE], x);
                        }
                    }
                }
            }
        })+};
    }
    quads!(0 1 2 3);
    accumulators
}
