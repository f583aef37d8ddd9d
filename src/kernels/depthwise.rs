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
use super::generic::{Epilogue, EpilogueBlock, LANES};
use super::narrow::depthwise_firsts;
use super::requant::{Numbers, Outputs, Sums, begin, for_reach};
use core::arch::aarch64::*;
use core::arch::asm;

/// A layer that `narrow::takes_depthwise` takes; `weights` and the bias as `narrow::pack_depthwise` left them. See `generic::depthwise` for the rest.
pub(super) fn depthwise(s: &ConvShape, input: &[i8], zero_point: i8, weights: &[i8], e: Epilogue<'_>, output: &mut [i8]) {
    match s.kernel[0] {
        3 => for_reach!(e, SHORT_BY_XTN, blocks::[3, 9](s, input, zero_point, weights, e, output)),
        _ => for_reach!(e, SHORT_BY_XTN, blocks::[5, 25](s, input, zero_point, weights, e, output)),
    }
}

/// `SIDE`: rows and columns of the kernel, `TAPS`: its square.
fn blocks<const SIDE: usize, const TAPS: usize, const REACH: u8>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
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
    let outputs = Outputs::<REACH>::new(&e);
    // SAFETY: NEON is part of aarch64's baseline; registers only.
    let padding = unsafe { vdupq_n_s8(zero_point) };
    let reach = (SIDE - 1) * s.dilation[1];
    let inside = match reach < w {
        true => {
            let from = s.pad[1].div_ceil(s.stride[1]).min(ow);
            (from, ((w - 1 - reach + s.pad[1]) / s.stride[1] + 1).clamp(from, ow))
        }
        false => (ow, ow),
    };
    let blocks = depthwise_firsts(c).zip(weights.as_chunks::<LANES>().0.as_chunks::<TAPS>().0).zip(e.blocks);
    for ((first, weights), block) in blocks {
        // SAFETY: each tap has 16 weights.
        let weights = weights.each_ref().map(|w| unsafe { vld1q_s8(w.as_ptr()) });
        let at = Place { outputs, block, numbers: Numbers::of(block), weights, padding, inside, first };
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
    padding: int8x16_t,
    /// The first column and the one after the last whose taps all lie in the picture, if their rows do.
    inside: (usize, usize),
    first: usize,
}

impl<const TAPS: usize, const REACH: u8> Place<'_, TAPS, REACH> {
    /// One row of outputs.
    #[inline(always)]
    fn row<const SIDE: usize>(&self, s: &ConvShape, input: &[i8], oy: usize, out: &mut [i8]) {
        let [h, w, c] = s.input;
        let ow = s.output[1];
        let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
        let rows: [usize; SIDE] = core::array::from_fn(|k| y0.wrapping_add(k * s.dilation[0]));
        let (from, to) = if rows.iter().all(|y| *y < h) { self.inside } else { (ow, ow) };
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
            self.outputs.store(self.sum(|t| x[t]), &self.numbers, &mut out[ox * c + self.first..][..LANES]);
        }
        if from >= to {
            return;
        }
        let x0 = from * s.stride[1] - s.pad[1];
        let step = s.stride[1] * c;
        let columns: [usize; SIDE] = core::array::from_fn(|k| k * s.dilation[1] * c);
        let first = (rows[SIDE - 1] * w + x0) * c + self.first;
        assert!(
            first + columns[SIDE - 1] + (to - 1 - from) * step + LANES <= input.len()
                && (to - 1) * c + self.first + LANES <= out.len(),
            "the last tap of the last column lies in the picture, and its output in the row"
        );
        // SAFETY: the rows' first columns lie before the last tap, which was checked.
        let taps: [*const i8; TAPS] = core::array::from_fn(|t| unsafe {
            input.as_ptr().add((rows[t / SIDE] * w + x0) * c + self.first + columns[t % SIDE])
        });
        // SAFETY: as for the last output, which was checked.
        let mut to_out = unsafe { out.as_mut_ptr().add(from * c + self.first) };
        for i in 0..to - from {
            // SAFETY: no tap lies beyond the last column's last, and no output beyond the last, which were checked.
            unsafe {
                let sums = self.sum(|t| load(taps[t], i * step));
                vst1q_s8(to_out, self.outputs.requant(sums, &self.numbers));
            }
            to_out = to_out.wrapping_add(c);
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

/// 16 values from `at + offset` on. In assembly, because the compiler counts every tap's pointer on by itself instead of one offset.
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

/// `acc[c] += a[c] * wa[c]` for 16 channels: the last tap of an odd number. In assembly for the same reason.
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
