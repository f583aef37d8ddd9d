//! Depthwise convolutions by NEON for out-of-order cores: 3x3 and 5x5, any stride, padding and
//! dilation. `depthwise_any` takes the other kernels.
//!
//! Algorithm: the image is gone over once for each block of 16 channels, whose 9 or 25 weights stay
//! at hand. Two taps make a sum of products that fits i16 (see `neon`), which is added to
//! accumulators of i32 that begin at the bias:
//!
//! ```text
//! t = x[i] * w[i] + x[i + 1] * w[i + 1]     8 lanes of i16: smull, smlal
//! acc += t                                  4 lanes of i32: saddw
//! ```
//!
//! Multiplying is what bounds it: two multiplies a tap and 16 channels, one a cycle on A72 and A76.
//! A row outside the image is read from a line of padding; columns whose taps all lie within the
//! image's width are done in one go, the others one by one. The last block of a layer whose
//! channels are no multiple of 16 overlaps the one before.

use super::requant::{Numbers, Outputs, Sums, begin, for_reach};
use crate::kernels::epilogue::{EpilogueBlock, LANES};
use crate::kernels::panels::depthwise_blocks;
use crate::kernels::patches::bytes;
use crate::kernels::{ConvShape, Layer};
use core::arch::aarch64::*;
use core::arch::asm;
use core::ops::Range;

/// Whether it computes layers of such a shape: 3x3 or 5x5, 16 channels or more.
pub(super) fn takes(s: &ConvShape) -> bool {
    (s.kernel == [3, 3] || s.kernel == [5, 5]) && s.input[2] >= LANES
}

/// Whether it computes such a block of them: weights in one part, in which none of -128 meet.
pub(super) fn takes_block(block: &EpilogueBlock) -> bool {
    block.fit.parts == 1 && !block.fit.apart
}

/// Those blocks that it [takes](takes_block) of a layer that it [`takes`]; weights and bias as
/// `panels::pack_depthwise` left them.
pub(super) fn depthwise(layer: Layer<'_, [i8]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
    let padding = &mut bytes(scratch)[..padding_len(layer.shape)];
    padding.fill(layer.zero_point);
    match layer.shape.kernel[0] {
        3 => for_reach!(layer.epilogue, BY_XTN, blocks::[3, 9](layer, input, padding, output)),
        _ => for_reach!(layer.epilogue, BY_XTN, blocks::[5, 25](layer, input, padding, output)),
    }
}

/// Values in a line of padding: as many as in a row of the image.
fn padding_len(s: &ConvShape) -> usize {
    s.input[1] * s.input[2]
}

/// `SIDE`: rows and columns of the kernel, `TAPS`: its square.
fn blocks<const SIDE: usize, const TAPS: usize, const REACH: u8>(
    layer: Layer<'_, [i8]>,
    input: &[i8],
    padding: &[i8],
    output: &mut [i8],
) {
    let Layer { shape: s, epilogue: e, .. } = layer;
    let [h, w, c] = s.input;
    let [oh, ow, _] = s.output;
    const { assert!(SIDE * SIDE == TAPS) };
    assert_eq!(
        (s.kernel, input.len(), output.len()),
        ([SIDE; 2], h * w * c, oh * ow * c),
        "kernel and lengths of the shape"
    );
    let outputs = Outputs::<REACH>::new(&e);
    let inside = s.inside(1);
    for (first, weights, block) in depthwise_blocks(layer, TAPS * LANES).filter(|(_, _, block)| takes_block(block)) {
        let [weights] = weights.as_chunks::<LANES>().0.as_chunks::<TAPS>().0 else { unreachable!("weights in one part") };
        // SAFETY: each tap has 16 weights.
        let weights = weights.each_ref().map(|w| unsafe { vld1q_s8(w.as_ptr()) });
        let at = Place { outputs, block, numbers: Numbers::of(block), weights, padding, inside: inside.clone(), first };
        for (oy, out) in output.chunks_exact_mut(ow * c).enumerate() {
            at.row::<SIDE>(s, input, oy, out);
        }
    }
}

/// A block of 16 channels from `first` on.
struct Place<'e, const TAPS: usize, const REACH: u8> {
    outputs: Outputs<REACH>,
    block: &'e EpilogueBlock,
    numbers: Numbers,
    weights: [int8x16_t; TAPS],
    /// A row of the image's length of the zero point.
    padding: &'e [i8],
    /// Columns whose taps all lie within the image's width.
    inside: Range<usize>,
    first: usize,
}

impl<const TAPS: usize, const REACH: u8> Place<'_, TAPS, REACH> {
    /// One row of outputs.
    #[inline(always)]
    fn row<const SIDE: usize>(&self, s: &ConvShape, input: &[i8], oy: usize, out: &mut [i8]) {
        let [h, w, c] = s.input;
        assert!(self.first + LANES <= c && c <= self.padding.len(), "16 channels of each column");
        let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
        let rows: [&[i8]; SIDE] = core::array::from_fn(|k| match y0.wrapping_add(k * s.dilation[0]) {
            y if y < h => &input[y * w * c..][..w * c],
            _ => &self.padding[..w * c],
        });
        let Range { start: from, end: to } = self.inside;
        for ox in (0..from).chain(to..s.output[1]) {
            let x0 = (ox * s.stride[1]).wrapping_sub(s.pad[1]);
            // Where each column lies in its row; those outside are read from the padding's
            // beginning.
            let columns: [Option<usize>; SIDE] = core::array::from_fn(|k| {
                let x = x0.wrapping_add(k * s.dilation[1]);
                (x < w).then_some(x * c + self.first)
            });
            let at = |t: usize| match columns[t % SIDE] {
                Some(column) => (rows[t / SIDE].as_ptr(), column),
                None => (self.padding.as_ptr(), 0),
            };
            // SAFETY: rows and padding hold `w` columns of `c` channels, of which there are 16 from
            // `first` on.
            let accumulators = self.sum(|t| unsafe { load(at(t).0, at(t).1) });
            self.outputs.store(accumulators, &self.numbers, &mut out[ox * c + self.first..][..LANES]);
        }
        if from == to {
            return;
        }
        let (x0, step) = (from * s.stride[1] - s.pad[1], s.stride[1] * c);
        let columns: [usize; SIDE] = core::array::from_fn(|k| k * s.dilation[1] * c);
        let last = x0 * c + columns[SIDE - 1] + (to - 1 - from) * step + self.first;
        assert!(
            last + LANES <= w * c && (to - 1) * c + self.first + LANES <= out.len(),
            "the last tap of the last column lies in its row, and the last output in the row of outputs"
        );
        let mut at = rows.map(|row| row[x0 * c + self.first..].as_ptr());
        let mut out = out[from * c + self.first..].as_mut_ptr();
        for _ in from..to {
            // SAFETY: the last column's last tap and its output were checked to be there; all
            // others lie before them.
            unsafe {
                let accumulators = self.sum(|t| load(at[t / SIDE], columns[t % SIDE]));
                vst1q_s8(out, self.outputs.requant(accumulators, &self.numbers));
            }
            at = at.map(|at| at.wrapping_add(step));
            out = out.wrapping_add(c);
        }
    }

    /// Bias and the sum over taps of value times weight.
    #[inline(always)]
    fn sum(&self, x: impl Fn(usize) -> int8x16_t) -> Sums {
        let mut acc = begin(&self.block.begin);
        // Written out, so that every tap's place is known when this is compiled.
        macro_rules! pairs {
            ($($t:literal)+) => {$(
                if $t + 1 < TAPS {
                    acc = add_pair(acc, x($t), self.weights[$t], x($t + 1), self.weights[$t + 1]);
                } else if $t < TAPS {
                    acc = add_one(acc, x($t), self.weights[$t]);
                }
            )+};
        }
        pairs!(0 2 4 6 8 10 12 14 16 18 20 22 24);
        acc
    }
}

/// 16 values from `at + offset` on. In assembly, because the compiler counts every tap's pointer on
/// by itself instead of one offset.
///
/// # Safety
/// 16 values are readable there.
#[inline(always)]
unsafe fn load(at: *const i8, offset: usize) -> int8x16_t {
    let values;
    // SAFETY: the caller's promise; the instruction is of aarch64's baseline.
    unsafe {
        asm!(
            "ldr {values:q}, [{at}, {offset}]",
            values = out(vreg) values, at = in(reg) at, offset = in(reg) offset,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    values
}

/// `acc[c] += a[c] * wa[c] + b[c] * wb[c]` for 16 channels. In assembly, because the compiler takes
/// the intrinsics apart, moves the weights' upper halves out of the loop, and then moves each
/// value's upper half to meet them.
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

/// `acc[c] += a[c] * wa[c]` for 16 channels: the last tap of an odd number. In assembly for the
/// same reason.
#[inline(always)]
fn add_one(acc: Sums, a: int8x16_t, wa: int8x16_t) -> Sums {
    let [mut c0, mut c1, mut c2, mut c3] = acc;
    // SAFETY: instructions of aarch64's baseline; registers only.
    unsafe {
        asm!(
            "smull {low:v}.8h, {a:v}.8b, {wa:v}.8b",
            "smull2 {high:v}.8h, {a:v}.16b, {wa:v}.16b",
            "saddw {c0:v}.4s, {c0:v}.4s, {low:v}.4h",
            "saddw2 {c1:v}.4s, {c1:v}.4s, {low:v}.8h",
            "saddw {c2:v}.4s, {c2:v}.4s, {high:v}.4h",
            "saddw2 {c3:v}.4s, {c3:v}.4s, {high:v}.8h",
            low = out(vreg) _, high = out(vreg) _, a = in(vreg) a, wa = in(vreg) wa,
            c0 = inout(vreg) c0, c1 = inout(vreg) c1, c2 = inout(vreg) c2, c3 = inout(vreg) c3,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [c0, c1, c2, c3]
}
