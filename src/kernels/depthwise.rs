//! Depthwise convolutions by NEON: 3x3 and 5x5, any stride, padding and dilation.
//!
//! Knows no arithmetic of its own: sums are exact in i32, and what follows them is `quant`'s.
//!
//! Algorithm: the picture is gone over once for each block of 16 channels, whose 9 or 25 weights stay at hand. Two taps make
//! a sum of products that fits i16 (see `neon`), which is added to sums of i32 that begin at the bias:
//!
//! ```text
//! t = x[i] * w[i] + x[i + 1] * w[i + 1]     8 lanes of i16: smull, smlal
//! acc += t                                  4 lanes of i32: saddw
//! ```
//!
//! Multiplying is what bounds it: two multiplies a tap and 16 channels, one a cycle on A72 and A76. Columns whose taps all lie
//! in the picture take no check. The last block of a layer whose channels are no multiple of 16 overlaps the one before.

use super::ConvShape;
use super::generic::{Epilogue, LANES};
use super::narrow::{fits, take_zero_point};
use super::requant::{Block, Blocks, Sums};
use core::arch::aarch64::*;
use core::arch::asm;

/// Whether [`depthwise`] computes such a layer.
pub(super) fn takes(kernel: [usize; 2], channels: usize, weights: &[i16]) -> bool {
    (kernel == [3, 3] || kernel == [5, 5]) && channels >= LANES && fits(weights)
}

/// Where each block of 16 channels begins.
fn firsts(channels: usize) -> impl Iterator<Item = usize> {
    (0..channels).step_by(LANES).map(move |first| first.min(channels - LANES))
}

/// Packs `[channels][taps]` weights of a layer that it [`takes`] as `[block][taps][16]`, and takes the zero point's share off
/// `bias`.
pub(super) fn pack(weights: &[i16], channels: usize, zero_point: i8, bias: &mut [i32]) -> Vec<i8> {
    let taps = weights.len() / channels;
    take_zero_point(weights, taps, zero_point.into(), bias);
    let block = |first: usize| (0..taps * LANES).map(move |i| weights[(first + i % LANES) * taps + i / LANES] as i8);
    firsts(channels).flat_map(block).collect()
}

/// A layer that it [`takes`]; `weights` and the bias as [`pack`] left them. See `generic::depthwise` for the rest.
pub(super) fn depthwise(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    epilogue: Epilogue<'_>,
    output: &mut [i8],
) {
    match (s.kernel[0], epilogue.small) {
        (3, true) => blocks::<3, 9, true>(s, input, zero_point, weights, epilogue, output),
        (3, false) => blocks::<3, 9, false>(s, input, zero_point, weights, epilogue, output),
        (_, true) => blocks::<5, 25, true>(s, input, zero_point, weights, epilogue, output),
        (_, false) => blocks::<5, 25, false>(s, input, zero_point, weights, epilogue, output),
    }
}

/// `SIDE`: rows and columns of the kernel, `TAPS`: its square.
fn blocks<const SIDE: usize, const TAPS: usize, const SMALL: bool>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    epilogue: Epilogue<'_>,
    output: &mut [i8],
) {
    let [h, w, c] = s.input;
    let [oh, ow, _] = s.output;
    const { assert!(SIDE * SIDE == TAPS) };
    assert_eq!(
        (s.kernel, input.len(), output.len()),
        ([SIDE; 2], h * w * c, oh * ow * c),
        "kernel and lengths of the shape"
    );
    assert_eq!(weights.len(), c.div_ceil(LANES) * TAPS * LANES, "packed length");
    let all = Blocks::<SMALL>::new(epilogue, c);
    let [row_step, column_step] = [s.dilation[0] * w * c, s.dilation[1] * c];
    let offsets: [usize; TAPS] = core::array::from_fn(|t| t / SIDE * row_step + t % SIDE * column_step);
    // SAFETY: NEON is part of aarch64's baseline; registers only.
    let padding = unsafe { vdupq_n_s8(zero_point) };
    for (first, weights) in firsts(c).zip(weights.chunks_exact(TAPS * LANES)) {
        // SAFETY: the chunk holds 16 bytes for each tap.
        let taps: [int8x16_t; TAPS] = core::array::from_fn(|t| unsafe { vld1q_s8(weights.as_ptr().add(t * LANES)) });
        let at = Place { all: &all, block: all.block(first), taps, offsets, padding, first };
        for oy in 0..oh {
            let out = &mut output[oy * ow * c..][..ow * c];
            at.row::<SIDE>(s, input, oy, out);
        }
    }
}

/// A block of 16 channels: weights, bias, scale.
struct Place<'e, const TAPS: usize, const SMALL: bool> {
    all: &'e Blocks<'e, SMALL>,
    block: Block,
    taps: [int8x16_t; TAPS],
    /// From the first tap to each.
    offsets: [usize; TAPS],
    padding: int8x16_t,
    first: usize,
}

impl<const TAPS: usize, const SMALL: bool> Place<'_, TAPS, SMALL> {
    /// One row of outputs.
    #[inline(always)]
    fn row<const SIDE: usize>(&self, s: &ConvShape, input: &[i8], oy: usize, out: &mut [i8]) {
        let [h, w, c] = s.input;
        let ow = s.output[1];
        let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
        let rows: [usize; SIDE] = core::array::from_fn(|k| y0.wrapping_add(k * s.dilation[0]));
        // Columns from `from` to `to` have all their taps in the picture, if the rows have.
        let reach = (SIDE - 1) * s.dilation[1];
        let inside = rows.iter().all(|y| *y < h) && reach < w;
        let from = if inside { s.pad[1].div_ceil(s.stride[1]).min(ow) } else { ow };
        let to = if inside { ((w - 1 - reach + s.pad[1]) / s.stride[1] + 1).clamp(from, ow) } else { ow };
        for ox in (0..from).chain(to..ow) {
            let x0 = (ox * s.stride[1]).wrapping_sub(s.pad[1]);
            let mut x = [self.padding; TAPS];
            for (ky, &y) in rows.iter().enumerate().filter(|(_, y)| **y < h) {
                for kx in 0..SIDE {
                    let column = x0.wrapping_add(kx * s.dilation[1]);
                    if column < w {
                        let pixel = &input[(y * w + column) * c + self.first..][..LANES];
                        // SAFETY: the slice holds 16 bytes.
                        x[ky * SIDE + kx] = unsafe { vld1q_s8(pixel.as_ptr()) };
                    }
                }
            }
            self.all.store(self.sum(|t| x[t]), &self.block, &mut out[ox * c + self.first..][..LANES]);
        }
        if from >= to {
            return;
        }
        let begin = (y0 * w + (from * s.stride[1] - s.pad[1])) * c + self.first;
        let step = s.stride[1] * c;
        let last = begin + (to - 1 - from) * step + self.offsets[TAPS - 1] + LANES;
        assert!(last <= input.len(), "the last tap of the last column lies in the picture");
        for i in 0..to - from {
            let base = begin + i * step;
            // SAFETY: no tap lies beyond the last column's last, which was checked against the input's length.
            let sums = self.sum(|t| unsafe { vld1q_s8(input.as_ptr().add(base + self.offsets[t])) });
            self.all.store(sums, &self.block, &mut out[(from + i) * c + self.first..][..LANES]);
        }
    }

    /// Bias and the sum over taps of value times weight.
    #[inline(always)]
    fn sum(&self, x: impl Fn(usize) -> int8x16_t) -> Sums {
        let mut acc = self.block.bias;
        // Written out, so that every tap's place is known when this is compiled.
        macro_rules! pairs {
            ($($t:literal)+) => {$(
                if $t + 1 < TAPS {
                    acc = add_pair(acc, x($t), self.taps[$t], x($t + 1), self.taps[$t + 1]);
                } else if $t < TAPS {
                    acc = add_one(acc, x($t), self.taps[$t]);
                }
            )+};
        }
        pairs!(0 2 4 6 8 10 12 14 16 18 20 22 24);
        acc
    }
}

/// `acc[c] += a[c] * wa[c] + b[c] * wb[c]` for 16 channels. In assembly, because the compiler takes the intrinsics apart, moves
/// the weights' upper halves out of the loop, and then moves each value's upper half to meet them.
#[inline(always)]
fn add_pair(acc: Sums, a: int8x16_t, wa: int8x16_t, b: int8x16_t, wb: int8x16_t) -> Sums {
    let [mut c0, mut c1, mut c2, mut c3] = acc;
    // SAFETY: instructions of aarch64's baseline; registers only.
    unsafe {
        asm!(
            "smull {low:v}.8h, {a:v}.8b, {wa:v}.8b",
            "smull2 {high:v}.8h, {a:v}.16b, {wa:v}.16b",
            "smlal {low:v}.8h, {b:v}.8b, {wb:v}.8b",
            "smlal2 {high:v}.8h, {b:v}.16b, {wb:v}.16b",
            "saddw {c0:v}.4s, {c0:v}.4s, {low:v}.4h",
            "saddw2 {c1:v}.4s, {c1:v}.4s, {low:v}.8h",
            "saddw {c2:v}.4s, {c2:v}.4s, {high:v}.4h",
            "saddw2 {c3:v}.4s, {c3:v}.4s, {high:v}.8h",
            low = out(vreg) _, high = out(vreg) _,
            a = in(vreg) a, wa = in(vreg) wa, b = in(vreg) b, wb = in(vreg) wb,
            c0 = inout(vreg) c0, c1 = inout(vreg) c1, c2 = inout(vreg) c2, c3 = inout(vreg) c3,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [c0, c1, c2, c3]
}

/// `acc[c] += a[c] * wa[c]` for 16 channels: the last tap of an odd number.
#[inline(always)]
fn add_one(acc: Sums, a: int8x16_t, wa: int8x16_t) -> Sums {
    // SAFETY: NEON is part of aarch64's baseline; registers only.
    unsafe {
        let (low, high) = (vmull_s8(vget_low_s8(a), vget_low_s8(wa)), vmull_high_s8(a, wa));
        [
            vaddw_s16(acc[0], vget_low_s16(low)),
            vaddw_high_s16(acc[1], low),
            vaddw_s16(acc[2], vget_low_s16(high)),
            vaddw_high_s16(acc[3], high),
        ]
    }
}
