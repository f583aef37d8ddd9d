//! Accumulators to int8 outputs in NEON registers: bias, scale, rounding and clamp of a block of 16
//! channels.
//!
//! Converting costs two cycles of one pipe for four values, in either direction, adding half of
//! one. So where accumulators allow it (`Reach`) they begin with the bits of M = 1.5 * 2^23 and are
//! floats by themselves, and the bits of the float M + x less those of M are x rounded ties to
//! even. Of those bits the lower 16 are enough where x is within i16, which holds for most blocks
//! of a layer even if one of its channels goes further. Narrowing with saturation keeps order, so
//! that clamping to the output's range at the end gives what clamping before rounding gives.

use crate::kernels::epilogue::{Epilogue, EpilogueBlock, LANES};
use crate::quant::{Clamp, ROUND_MAGIC};
use core::arch::aarch64::*;
use core::arch::asm;
use core::mem::offset_of;
use core::ops::Range;

/// Accumulators of 16 channels.
pub(super) type Sums = [int32x4_t; 4];

/// What an epilogue allows, as a constant that kernels are compiled for: the sum of what holds of
/// this and the following. Nothing: accumulators go anywhere, and are converted.
pub(super) const ANY: u8 = 0;
/// Accumulators begin as floats: `Reach::Float`, or further only in some blocks.
pub(super) const FLOAT: u8 = 1;
/// `Reach::Short` in all blocks. Without it each block says so for itself.
pub(super) const SHORT: u8 = 2;
/// The output's zero point is even, as it is behind a ReLU6 (-128), and is added with M.
pub(super) const EVEN: u8 = 4;
/// Outputs take all of i8, as behind a ReLU6 (-128 to 127), so that narrowing with saturation
/// clamps.
pub(super) const ALL: u8 = 8;
/// Taking every second of two registers' halves at once takes longer than narrowing one after the
/// other (Cortex-A72, not A76).
pub(super) const BY_XTN: u8 = 16;
/// The other way.
pub(super) const BY_UZP: u8 = 0;

/// Calls a function that is generic over what an epilogue allows, which comes last. `$by`:
/// [`BY_XTN`] or [`BY_UZP`].
macro_rules! for_reach {
    ($e:expr, $by:ident, $f:ident::[$($g:tt),*]($($a:expr),* $(,)?)) => {{
        use $crate::kernels::{epilogue::Reach, aarch64::requant::{ALL, ANY, EVEN, FLOAT, SHORT, $by}};
        let clamp = $e.clamp;
        match ($e.reach, (clamp.lo, clamp.hi) == (-128, 127), clamp.zero_point % 2 == 0) {
            (Reach::Any, ..) => $f::<$($g,)* ANY>($($a),*),
            (Reach::Float, true, true) => $f::<$($g,)* { $by | FLOAT | EVEN | ALL }>($($a),*),
            (Reach::Float, ..) => $f::<$($g,)* { $by | FLOAT }>($($a),*),
            (Reach::Short, true, true) => $f::<$($g,)* { $by | FLOAT | SHORT | EVEN | ALL }>($($a),*),
            (Reach::Short, true, false) => $f::<$($g,)* { $by | FLOAT | SHORT | ALL }>($($a),*),
            (Reach::Short, false, true) => $f::<$($g,)* { $by | FLOAT | SHORT | EVEN }>($($a),*),
            (Reach::Short, false, false) => $f::<$($g,)* { $by | FLOAT | SHORT }>($($a),*),
        }
    }};
}
pub(super) use for_reach;

/// A block's rests and scales in registers, loaded once for a tile's pixels.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    rest: [float32x4_t; 4],
    scale: [float32x4_t; 4],
}

impl Numbers {
    #[inline(always)]
    pub(super) fn of(block: &EpilogueBlock) -> Self {
        // SAFETY: a block holds 16 rests and 16 scales, read four at a time.
        let four = |values: &[f32; LANES]| core::array::from_fn(|q| unsafe { vld1q_f32(values.as_ptr().add(4 * q)) });
        Self { rest: four(&block.rest), scale: four(&block.scale) }
    }

    /// The same, loaded where this stands. `WAY`: another for each of two ways, since the compiler
    /// puts before both what they have in common.
    #[inline(always)]
    fn on<const WAY: u8>(block: &EpilogueBlock) -> Self {
        let (r0, r1, r2, r3, s0, s1, s2, s3);
        // SAFETY: 16 rests and 16 scales; the instructions are of aarch64's baseline.
        unsafe {
            asm!(
                "ldp {r0:q}, {r1:q}, [{block}, {rest}] // {way}",
                "ldp {r2:q}, {r3:q}, [{block}, {rest} + 32]",
                "ldp {s0:q}, {s1:q}, [{block}, {scale}]",
                "ldp {s2:q}, {s3:q}, [{block}, {scale} + 32]",
                block = in(reg) block, way = const WAY,
                rest = const offset_of!(EpilogueBlock, rest), scale = const offset_of!(EpilogueBlock, scale),
                r0 = out(vreg) r0, r1 = out(vreg) r1, r2 = out(vreg) r2, r3 = out(vreg) r3,
                s0 = out(vreg) s0, s1 = out(vreg) s1, s2 = out(vreg) s2, s3 = out(vreg) s3,
                options(readonly, nostack, preserves_flags)
            );
        }
        Self { rest: [r0, r1, r2, r3], scale: [s0, s1, s2, s3] }
    }
}

/// What one layer's accumulators pass through. `REACH`: how far they go.
#[derive(Clone, Copy)]
pub(super) struct Outputs<const REACH: u8> {
    zero_point: int16x8_t,
    /// M, plus the zero point if that is even: an odd one would turn ties the other way.
    magic: float32x4_t,
    /// The magic's bits, less the zero point if the magic does not have it.
    base: int32x4_t,
    lo: int8x16_t,
    hi: int8x16_t,
}

impl<const REACH: u8> Outputs<REACH> {
    pub(super) fn new(epilogue: &Epilogue<'_>) -> Self {
        let Clamp { lo, hi, zero_point } = epilogue.clamp;
        let base = ROUND_MAGIC.to_bits() as i32 - if REACH & EVEN == 0 { zero_point as i32 } else { 0 };
        // Exact: both are whole numbers below 2^24.
        let magic = if REACH & EVEN == 0 { ROUND_MAGIC } else { ROUND_MAGIC + zero_point as f32 };
        // SAFETY: NEON is part of aarch64's baseline; registers only.
        unsafe {
            Self {
                zero_point: vdupq_n_s16(zero_point as i16),
                magic: vdupq_n_f32(magic),
                base: vdupq_n_s32(base),
                lo: vdupq_n_s8(lo),
                hi: vdupq_n_s8(hi),
            }
        }
    }

    /// 16 accumulators, which began with their block's, to outputs.
    #[inline(always)]
    pub(super) fn requant(&self, accumulators: Sums, n: &Numbers) -> int8x16_t {
        if REACH & SHORT != 0 { self.requant_as::<true>(accumulators, n) } else { self.requant_as::<false>(accumulators, n) }
    }

    /// The accumulators of two outputs of a block.
    #[inline(always)]
    pub(super) fn requant_two(&self, [a, b]: [Sums; 2], block: &EpilogueBlock) -> [int8x16_t; 2] {
        let numbers = Numbers::of(block);
        [self.requant(a, &numbers), self.requant(b, &numbers)]
    }

    /// The same where it is known whether the block is short (`EpilogueBlock::short`).
    #[inline(always)]
    fn requant_as<const IS_SHORT: bool>(&self, accumulators: Sums, n: &Numbers) -> int8x16_t {
        // SAFETY: NEON is part of aarch64's baseline; registers only.
        unsafe {
            if REACH & FLOAT == 0 {
                let q: Sums = core::array::from_fn(|i| vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(accumulators[i]), n.scale[i])));
                let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), self.zero_point);
                let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[2]), q[3]), self.zero_point);
                return self.clamp(low, high);
            }
            let rounded: Sums = core::array::from_fn(|i| {
                let sum = vaddq_f32(vreinterpretq_f32_s32(accumulators[i]), n.rest[i]);
                vreinterpretq_s32_f32(vaddq_f32(vmulq_f32(sum, n.scale[i]), self.magic))
            });
            if !IS_SHORT {
                let q = rounded.map(|r| vsubq_s32(r, self.base));
                return self.clamp(vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), vqmovn_high_s32(vqmovn_s32(q[2]), q[3]));
            }
            let halves = |i: usize| match REACH & BY_XTN {
                BY_UZP => vuzp1q_s16(vreinterpretq_s16_s32(rounded[i]), vreinterpretq_s16_s32(rounded[i + 1])),
                _ => narrow(rounded[i], rounded[i + 1]),
            };
            if REACH & EVEN != 0 {
                return self.clamp(halves(0), halves(2));
            }
            self.clamp(vaddq_s16(halves(0), self.zero_point), vaddq_s16(halves(2), self.zero_point))
        }
    }

    #[inline(always)]
    fn clamp(&self, low: int16x8_t, high: int16x8_t) -> int8x16_t {
        // SAFETY: NEON is part of aarch64's baseline; registers only.
        unsafe {
            let values = vqmovn_high_s16(vqmovn_s16(low), high);
            if REACH & ALL != 0 { values } else { vminq_s8(vmaxq_s8(values, self.lo), self.hi) }
        }
    }

    /// The same, stored to `out`: 16 channels, or as many as `out` takes.
    #[inline(always)]
    pub(super) fn store(&self, accumulators: Sums, n: &Numbers, out: &mut [i8]) {
        Self::put(self.requant(accumulators, n), out);
    }

    /// Stores as many of 16 outputs as `out` takes.
    #[inline(always)]
    pub(super) fn put(values: int8x16_t, out: &mut [i8]) {
        if let Some(out) = out.first_chunk_mut::<LANES>() {
            // SAFETY: the chunk holds 16 bytes.
            unsafe { vst1q_s8(out.as_mut_ptr(), values) };
            return;
        }
        // Eight, four, two, one: as many as are left, without a call that would put every sum
        // aside.
        let mut rest = values;
        let mut at = out.as_mut_ptr();
        macro_rules! piece {
            ($n:literal, $store:expr) => {
                if out.len() & $n != 0 {
                    // SAFETY: `out` holds the pieces whose bits its length has, one after the
                    // other.
                    unsafe {
                        $store(at, rest);
                        at = at.add($n);
                        rest = vextq_s8::<$n>(rest, rest);
                    }
                }
            };
        }
        piece!(8, |at, v| vst1_s8(at, vget_low_s8(v)));
        piece!(4, |at: *mut i8, v| at.cast::<i32>().write_unaligned(vgetq_lane_s32::<0>(vreinterpretq_s32_s8(v))));
        piece!(2, |at: *mut i8, v| at.cast::<i16>().write_unaligned(vgetq_lane_s16::<0>(vreinterpretq_s16_s8(v))));
        piece!(1, |at: *mut i8, v| at.write(vgetq_lane_s8::<0>(v)));
        let _ = (at, rest);
    }

    /// Stores the accumulators of a block of 16 channels: a pixel's where its `to` points, which
    /// goes on behind them.
    ///
    /// # Safety
    /// 16 values are writable at each `to`.
    #[inline(always)]
    pub(super) unsafe fn store_whole<const N: usize>(&self, accumulators: [Sums; N], block: &EpilogueBlock, to: &mut [*mut i8; N]) {
        // SAFETY: the caller's promise.
        unsafe {
            if REACH & (FLOAT | SHORT) == FLOAT && block.short {
                let numbers = Numbers::on::<0>(block);
                for p in 0..N {
                    store_on(&mut to[p], self.requant_as::<true>(accumulators[p], &numbers));
                }
            } else {
                let numbers = Numbers::on::<1>(block);
                for p in 0..N {
                    store_on(&mut to[p], self.requant(accumulators[p], &numbers));
                }
            }
        }
    }

    /// As [`Outputs::store_whole`] of a block of eight channels: the accumulators of two pixels
    /// become outputs together.
    ///
    /// # Safety
    /// Eight values are writable at each `to`.
    #[inline(always)]
    pub(super) unsafe fn store_eight<const N: usize>(&self, accumulators: [Sums; N], block: &EpilogueBlock, to: &[*mut i8; N]) {
        const { assert!(N.is_multiple_of(2)) };
        let Numbers { rest, scale } = Numbers::of(block);
        let twice = Numbers { rest: [rest[0], rest[1], rest[0], rest[1]], scale: [scale[0], scale[1], scale[0], scale[1]] };
        for p in (0..N).step_by(2) {
            let ([a, b, ..], [c, d, ..]) = (accumulators[p], accumulators[p + 1]);
            let values = self.requant([a, b, c, d], &twice);
            // SAFETY: the caller's promise.
            unsafe {
                vst1_s8(to[p], vget_low_s8(values));
                vst1_s8(to[p + 1], vget_high_s8(values));
            }
        }
    }

    /// As [`Outputs::store_whole`] of a block of four channels: the accumulators of four pixels
    /// become outputs together.
    ///
    /// # Safety
    /// Four values are writable at each `to`.
    #[inline(always)]
    pub(super) unsafe fn store_four(&self, accumulators: [Sums; 4], block: &EpilogueBlock, to: &[*mut i8; 4]) {
        let Numbers { rest, scale } = Numbers::of(block);
        let values = self.requant(accumulators.map(|[a, ..]| a), &Numbers { rest: [rest[0]; 4], scale: [scale[0]; 4] });
        // SAFETY: the caller's promise; registers only otherwise.
        unsafe {
            let words = vreinterpretq_s32_s8(values);
            to[0].cast::<i32>().write_unaligned(vgetq_lane_s32::<0>(words));
            to[1].cast::<i32>().write_unaligned(vgetq_lane_s32::<1>(words));
            to[2].cast::<i32>().write_unaligned(vgetq_lane_s32::<2>(words));
            to[3].cast::<i32>().write_unaligned(vgetq_lane_s32::<3>(words));
        }
    }

    /// As [`Outputs::store_whole`], where pixels or channels may be fewer than accumulators. `out`:
    /// the pixels' rows of `all` channels, of which the block has `channels`.
    #[inline(always)]
    pub(super) fn store_part<const N: usize>(
        &self,
        accumulators: [Sums; N],
        block: &EpilogueBlock,
        out: &mut [i8],
        all: usize,
        channels: Range<usize>,
    ) {
        let numbers = Numbers::of(block);
        for (p, accumulators) in accumulators.into_iter().enumerate() {
            if let Some(row) = out.get_mut(p * all + channels.start..p * all + channels.end) {
                self.store(accumulators, &numbers, row);
            }
        }
    }
}

/// The lower halves of eight words. In assembly, because the compiler makes one instruction of the
/// two, which takes longer than both on a Cortex-A72.
#[inline(always)]
fn narrow(low: int32x4_t, high: int32x4_t) -> int16x8_t {
    let halves;
    // SAFETY: instructions of aarch64's baseline; registers only.
    unsafe {
        asm!(
            "xtn {halves:v}.4h, {low:v}.4s",
            "xtn2 {halves:v}.8h, {high:v}.4s",
            halves = out(vreg) halves, low = in(vreg) low, high = in(vreg) high,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    halves
}

/// Stores 16 outputs; `to` goes on behind them. In assembly, because the compiler counts pointers
/// on by themselves.
///
/// # Safety
/// 16 values are writable there.
#[inline(always)]
unsafe fn store_on(to: &mut *mut i8, values: int8x16_t) {
    // SAFETY: the caller's promise; the instruction is of aarch64's baseline.
    unsafe {
        asm!(
            "str {values:q}, [{to}], #16",
            values = in(vreg) values, to = inout(reg) *to,
            options(nostack, preserves_flags)
        );
    }
}

/// What a block's accumulators begin with, once for all pixels.
#[inline(always)]
pub(super) fn load(accumulators: &[i32; LANES]) -> Sums {
    // SAFETY: 16 words, read four at a time.
    core::array::from_fn(|q| unsafe { vld1q_s32(accumulators.as_ptr().add(4 * q)) })
}

/// What a block's accumulators begin with, loaded anew for each pixel: copying registers would take
/// the multipliers' place, so the compiler must not see that two loads are the same.
#[inline(always)]
pub(super) fn begin(accumulators: &[i32; LANES]) -> Sums {
    let (a, b, c, d);
    // SAFETY: 16 words; the instructions are of aarch64's baseline.
    unsafe {
        asm!(
            "ldp {a:q}, {b:q}, [{at}]",
            "ldp {c:q}, {d:q}, [{at}, #32]",
            at = in(reg) accumulators.as_ptr(),
            a = out(vreg) a, b = out(vreg) b, c = out(vreg) c, d = out(vreg) d,
            options(readonly, nostack, preserves_flags)
        );
    }
    [a, b, c, d]
}
