//! Depthwise convolutions by NEON: any kernel, stride, padding and dilation.
//!
//! Two taps make a sum of products that fits i16 (see `neon`), which is added to accumulators of i32 that begin at the bias:
//!
//! ```text
//! t = x[i] * w[i] + x[i + 1] * w[i + 1]     8 lanes of i16: smull, smlal
//! acc += t                                  4 lanes of i32: saddw
//! ```
//!
//! Multiplying is what bounds it: two multiplies a tap and 16 channels, one a cycle on A72 and A76. There are two ways:
//!
//! - 3x3 and 5x5 ([`blocks`]): the image is gone over once for each block of 16 channels, whose 9 or 25 weights stay at hand. Two
//!   outputs are computed side by side, so that a core that runs in order need not wait for each product. A row outside the image
//!   is read from a line of padding; columns whose taps all lie within the image's width are done in one go, the others one by one.
//! - All others ([`any`]): a list says where each tap lies, seen from an output's first one, and four taps at a time are taken from
//!   there. An output with taps outside the image has a list of its own, for all blocks of channels.
//!
//! The last block of a layer whose channels are no multiple of 16 overlaps the one before. Fewer than 16 channels are computed as
//! 16, of which the others belong to the next column and meet weights of zero.

use super::ConvShape;
use super::generic::{Epilogue, EpilogueBlock, LANES};
use super::narrow::{self, depthwise_firsts};
use super::requant::{Numbers, Outputs, Sums, begin, for_reach};
use super::taps::{self, Taps};
use core::arch::aarch64::*;
use core::arch::asm;
use core::ops::Range;

/// Taps that [`any`] takes at a time.
const FOUR: usize = 4;

/// Packs `[channels][taps]` weights that `narrow::fits` allows, and takes the zero point's share off `bias`. Those of [`any`] are
/// filled up to four taps, by which the two are known: weights of -128 that meet are for it, too.
pub(super) fn pack(s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Vec<i8> {
    let mut at_hand = bias.to_vec();
    let packed = narrow::pack_depthwise(weights, 1, zero_point, &mut at_hand);
    let square = s.kernel == [3, 3] || s.kernel == [5, 5];
    if square && bias.len() >= LANES && !packed.chunks(s.patch_len() * LANES).any(|block| narrow::meet(block, LANES)) {
        bias.copy_from_slice(&at_hand);
        return packed;
    }
    narrow::pack_depthwise(weights, FOUR, zero_point, bias)
}

/// A layer's weights and bias as [`pack`] left them. See `generic::depthwise` for the rest.
#[allow(clippy::too_many_arguments)]
pub(super) fn depthwise(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let at_hand = weights.len() == s.input[2].div_ceil(LANES) * s.patch_len() * LANES;
    match s.kernel {
        [3, 3] | [5, 5] if at_hand => {
            let padding = &mut super::patches::bytes(scratch)[..line_len(s)];
            padding.fill(zero_point);
            match s.kernel[0] {
                3 => for_reach!(e, BY_XTN, blocks::[3, 9](s, input, padding, weights, e, output)),
                _ => for_reach!(e, BY_XTN, blocks::[5, 25](s, input, padding, weights, e, output)),
            }
        }
        _ => for_reach!(e, BY_XTN, any::[](s, input, zero_point, weights, e, output, scratch)),
    }
}

/// Values in a line of padding: as many as in a row of the image.
fn line_len(s: &ConvShape) -> usize {
    s.input[1] * s.input[2]
}

/// Length in i16 of the scratch that [`depthwise`] needs.
pub(super) fn scratch_len(s: &ConvShape) -> usize {
    line_len(s).div_ceil(2).max(taps::scratch_len(s, FOUR))
}

/// Any layer, output by output.
fn any<const REACH: u8>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let (c, [oh, ow, _]) = (s.input[2], s.output);
    assert_eq!(output.len(), oh * ow * c, "output length");
    let len = s.patch_len().next_multiple_of(FOUR) * LANES;
    assert_eq!(weights.len(), c.div_ceil(LANES) * len, "packed length");
    let mut taps = Taps::new(s, FOUR, input, zero_point, scratch);
    let outputs = Outputs::<REACH>::new(&e);
    for (oy, out) in output.chunks_exact_mut(ow * c).enumerate() {
        for (ox, out) in out.chunks_exact_mut(c).enumerate() {
            let (base, list) = taps.of(oy, ox);
            let blocks = depthwise_firsts(c).zip(weights.chunks_exact(len)).zip(e.blocks);
            for ((first, weights), block) in blocks {
                // SAFETY: of each tap 16 values are readable from a block's first channel on, as `Taps` has it.
                let sums = unsafe {
                    match block.apart {
                        false => sum_listed::<false>(base.wrapping_add(first), list, weights, block),
                        true => sum_listed::<true>(base.wrapping_add(first), list, weights, block),
                    }
                };
                outputs.store(sums, &Numbers::of(block), &mut out[first..][..LANES.min(c)]);
            }
        }
    }
}

/// Bias and the sum over taps of value times weight of 16 channels, four taps at a time. `list`: where each tap lies, seen from
/// `base`. `APART`: weights of -128 may meet.
///
/// # Safety
/// 16 values are readable at each tap.
#[inline(always)]
unsafe fn sum_listed<const APART: bool>(base: *const i8, list: &[isize], weights: &[i8], block: &EpilogueBlock) -> Sums {
    assert!(
        list.len().is_multiple_of(FOUR) && !list.is_empty() && weights.len() == list.len() * LANES,
        "weights of each tap"
    );
    let [mut c0, mut c1, mut c2, mut c3] = begin(&block.begin);
    macro_rules! run {
        ($($line:literal)+) => {
            // SAFETY: the caller's promise, and the list and the weights are as long as each other; the instructions are of
            // aarch64's baseline.
            unsafe {
                asm!(
                    "2:",
                    "ldp {o0}, {o1}, [{list}]", "ldp {o2}, {o3}, [{list}, #16]",
                    "ldr {x0:q}, [{base}, {o0}]", "ldr {x1:q}, [{base}, {o1}]",
                    "ldp {w0:q}, {w1:q}, [{w}]",
                    "ldr {x2:q}, [{base}, {o2}]", "ldr {x3:q}, [{base}, {o3}]",
                    "ldp {w2:q}, {w3:q}, [{w}, #32]",
                    "add {list}, {list}, #32", "add {w}, {w}, #64", "subs {n}, {n}, #1",
                    $($line,)+
                    "b.ne 2b",
                    base = in(reg) base, list = inout(reg) list.as_ptr() => _, w = inout(reg) weights.as_ptr() => _,
                    n = inout(reg) list.len() / FOUR => _,
                    o0 = out(reg) _, o1 = out(reg) _, o2 = out(reg) _, o3 = out(reg) _,
                    x0 = out(vreg) _, x1 = out(vreg) _, x2 = out(vreg) _, x3 = out(vreg) _,
                    w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
                    t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
                    c0 = inout(vreg) c0, c1 = inout(vreg) c1, c2 = inout(vreg) c2, c3 = inout(vreg) c3,
                    options(readonly, nostack)
                );
            }
        };
    }
    if APART {
        run!(
            "smull {t0:v}.8h, {x0:v}.8b, {w0:v}.8b" "smull2 {t1:v}.8h, {x0:v}.16b, {w0:v}.16b"
            "smull {t2:v}.8h, {x1:v}.8b, {w1:v}.8b" "smull2 {t3:v}.8h, {x1:v}.16b, {w1:v}.16b"
            "saddw {c0:v}.4s, {c0:v}.4s, {t0:v}.4h" "saddw2 {c1:v}.4s, {c1:v}.4s, {t0:v}.8h"
            "saddw {c2:v}.4s, {c2:v}.4s, {t1:v}.4h" "saddw2 {c3:v}.4s, {c3:v}.4s, {t1:v}.8h"
            "saddw {c0:v}.4s, {c0:v}.4s, {t2:v}.4h" "saddw2 {c1:v}.4s, {c1:v}.4s, {t2:v}.8h"
            "saddw {c2:v}.4s, {c2:v}.4s, {t3:v}.4h" "saddw2 {c3:v}.4s, {c3:v}.4s, {t3:v}.8h"
            "smull {t0:v}.8h, {x2:v}.8b, {w2:v}.8b" "smull2 {t1:v}.8h, {x2:v}.16b, {w2:v}.16b"
            "smull {t2:v}.8h, {x3:v}.8b, {w3:v}.8b" "smull2 {t3:v}.8h, {x3:v}.16b, {w3:v}.16b"
            "saddw {c0:v}.4s, {c0:v}.4s, {t0:v}.4h" "saddw2 {c1:v}.4s, {c1:v}.4s, {t0:v}.8h"
            "saddw {c2:v}.4s, {c2:v}.4s, {t1:v}.4h" "saddw2 {c3:v}.4s, {c3:v}.4s, {t1:v}.8h"
            "saddw {c0:v}.4s, {c0:v}.4s, {t2:v}.4h" "saddw2 {c1:v}.4s, {c1:v}.4s, {t2:v}.8h"
            "saddw {c2:v}.4s, {c2:v}.4s, {t3:v}.4h" "saddw2 {c3:v}.4s, {c3:v}.4s, {t3:v}.8h"
        );
    } else {
        run!(
            "smull {t0:v}.8h, {x0:v}.8b, {w0:v}.8b" "smull2 {t1:v}.8h, {x0:v}.16b, {w0:v}.16b"
            "smull {t2:v}.8h, {x2:v}.8b, {w2:v}.8b" "smull2 {t3:v}.8h, {x2:v}.16b, {w2:v}.16b"
            "smlal {t0:v}.8h, {x1:v}.8b, {w1:v}.8b" "smlal2 {t1:v}.8h, {x1:v}.16b, {w1:v}.16b"
            "smlal {t2:v}.8h, {x3:v}.8b, {w3:v}.8b" "smlal2 {t3:v}.8h, {x3:v}.16b, {w3:v}.16b"
            "saddw {c0:v}.4s, {c0:v}.4s, {t0:v}.4h" "saddw2 {c1:v}.4s, {c1:v}.4s, {t0:v}.8h"
            "saddw {c2:v}.4s, {c2:v}.4s, {t1:v}.4h" "saddw2 {c3:v}.4s, {c3:v}.4s, {t1:v}.8h"
            "saddw {c0:v}.4s, {c0:v}.4s, {t2:v}.4h" "saddw2 {c1:v}.4s, {c1:v}.4s, {t2:v}.8h"
            "saddw {c2:v}.4s, {c2:v}.4s, {t3:v}.4h" "saddw2 {c3:v}.4s, {c3:v}.4s, {t3:v}.8h"
        );
    }
    [c0, c1, c2, c3]
}

/// `SIDE`: rows and columns of the kernel, `TAPS`: its square.
fn blocks<const SIDE: usize, const TAPS: usize, const REACH: u8>(
    s: &ConvShape,
    input: &[i8],
    padding: &[i8],
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
    let inside = s.inside(1);
    let blocks = depthwise_firsts(c).zip(weights.as_chunks::<LANES>().0.as_chunks::<TAPS>().0).zip(e.blocks);
    for ((first, weights), block) in blocks {
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
    /// A row of the picture's length of the zero point.
    padding: &'e [i8],
    /// Columns whose taps all lie within the picture's width.
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
            // Where each column lies in its row; those outside are read from the padding's beginning.
            let columns: [Option<usize>; SIDE] = core::array::from_fn(|k| {
                let x = x0.wrapping_add(k * s.dilation[1]);
                (x < w).then_some(x * c + self.first)
            });
            let at = |t: usize| match columns[t % SIDE] {
                Some(column) => (rows[t / SIDE].as_ptr(), column),
                None => (self.padding.as_ptr(), 0),
            };
            // SAFETY: rows and padding hold `w` columns of `c` channels, of which there are 16 from `first` on.
            let sums = self.sum(|t| unsafe { load(at(t).0, at(t).1) });
            self.outputs.store(sums, &self.numbers, &mut out[ox * c + self.first..][..LANES]);
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
        for _ in 0..(to - from) / 2 {
            let next = at.map(|at| at.wrapping_add(step));
            // SAFETY: the last column's last tap and its output were checked to be there; all others lie before them.
            unsafe {
                let [one, two] = self.sum_two(|t| [at, next].map(|at| load(at[t / SIDE], columns[t % SIDE])));
                vst1q_s8(out, self.outputs.requant(one, &self.numbers));
                vst1q_s8(out.add(c), self.outputs.requant(two, &self.numbers));
            }
            at = next.map(|at| at.wrapping_add(step));
            out = out.wrapping_add(2 * c);
        }
        if (to - from) % 2 == 1 {
            // SAFETY: the last column, as above.
            unsafe {
                let sums = self.sum(|t| load(at[t / SIDE], columns[t % SIDE]));
                vst1q_s8(out, self.outputs.requant(sums, &self.numbers));
            }
        }
    }

    /// As [`Place::sum`], of two outputs.
    #[inline(always)]
    fn sum_two(&self, x: impl Fn(usize) -> [int8x16_t; 2]) -> [Sums; 2] {
        let mut acc = [begin(&self.block.begin), begin(&self.block.begin)];
        macro_rules! pairs {
            ($($t:literal)+) => {$(
                if $t + 1 < TAPS {
                    acc = add_pair_of_two(acc, x($t), self.weights[$t], x($t + 1), self.weights[$t + 1]);
                } else if $t < TAPS {
                    let [one, two] = x($t);
                    acc = [add_one(acc[0], one, self.weights[$t]), add_one(acc[1], two, self.weights[$t])];
                }
            )+};
        }
        pairs!(0 2 4 6 8 10 12 14 16 18 20 22 24);
        acc
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

/// `acc[c] += a[c] * wa[c] + b[c] * wb[c]` for 16 channels of two outputs, in the order of an in-order core: nothing waits for what
/// stands right before it. In assembly for the reasons of [`add_pair`].
#[inline(always)]
fn add_pair_of_two(
    acc: [Sums; 2],
    [a0, a1]: [int8x16_t; 2],
    wa: int8x16_t,
    [b0, b1]: [int8x16_t; 2],
    wb: int8x16_t,
) -> [Sums; 2] {
    let [[mut c0, mut c1, mut c2, mut c3], [mut d0, mut d1, mut d2, mut d3]] = acc;
    // SAFETY: instructions of aarch64's baseline; registers only.
    unsafe {
        asm!(
            "smull {t0:v}.8h, {a0:v}.8b, {wa:v}.8b",
            "smull2 {t1:v}.8h, {a0:v}.16b, {wa:v}.16b",
            "smull {t2:v}.8h, {a1:v}.8b, {wa:v}.8b",
            "smull2 {t3:v}.8h, {a1:v}.16b, {wa:v}.16b",
            "smlal {t0:v}.8h, {b0:v}.8b, {wb:v}.8b",
            "smlal2 {t1:v}.8h, {b0:v}.16b, {wb:v}.16b",
            "smlal {t2:v}.8h, {b1:v}.8b, {wb:v}.8b",
            "smlal2 {t3:v}.8h, {b1:v}.16b, {wb:v}.16b",
            "saddw {c0:v}.4s, {c0:v}.4s, {t0:v}.4h",
            "saddw2 {c1:v}.4s, {c1:v}.4s, {t0:v}.8h",
            "saddw {c2:v}.4s, {c2:v}.4s, {t1:v}.4h",
            "saddw2 {c3:v}.4s, {c3:v}.4s, {t1:v}.8h",
            "saddw {d0:v}.4s, {d0:v}.4s, {t2:v}.4h",
            "saddw2 {d1:v}.4s, {d1:v}.4s, {t2:v}.8h",
            "saddw {d2:v}.4s, {d2:v}.4s, {t3:v}.4h",
            "saddw2 {d3:v}.4s, {d3:v}.4s, {t3:v}.8h",
            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
            a0 = in(vreg) a0, a1 = in(vreg) a1, wa = in(vreg) wa, b0 = in(vreg) b0, b1 = in(vreg) b1, wb = in(vreg) wb,
            c0 = inout(vreg) c0, c1 = inout(vreg) c1, c2 = inout(vreg) c2, c3 = inout(vreg) c3,
            d0 = inout(vreg) d0, d1 = inout(vreg) d1, d2 = inout(vreg) d2, d3 = inout(vreg) d3,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [[c0, c1, c2, c3], [d0, d1, d2, d3]]
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
