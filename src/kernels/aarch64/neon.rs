//! NEON kernels for every aarch64: convolutions and products without dot product (Cortex-A53, A72).
//!
//! Accumulators are exact in i32, and what follows them is `quant`'s.
//!
//! Algorithm, for a tile of four pixels and 16 channels (`tiles`), four taps x0 x1 x2 x3 of a pixel
//! and four channels a b c d at a time; a lane of i16 takes two products, a lane of i32 two of
//! those:
//!
//! ```text
//! x   x0 x1  x2 x3  x0 x1  x2 x3     ld1r          turned   x2 x3  x0 x1  x2 x3  x0 x1     rev32
//! w   a0 a1  b2 b3  c0 c1  d2 d3     lower half    w        a2 a3  b0 b1  c2 c3  d0 d1     upper half
//! t = x * w + turned * w             8 lanes of i16: smull, smlal2
//! acc[i] += t[2 i] + t[2 i + 1]      4 lanes of i32, a channel each: sadalp
//! ```
//!
//! Two products fit i16 unless both values and both weights are -128. Where such weights meet
//! (`panels::meet`, seldom) a product is added to the accumulators by itself. Multiplying is what
//! bounds it: eight products a cycle on A72.

use super::requant::{Sums, begin, for_reach, load};
use super::tiles::{Multiply, convolve, product, weights};
use crate::kernels::elementwise::{self, Addend};
use crate::kernels::epilogue::LANES;
use crate::kernels::patches::Rows;
use crate::kernels::{ConvShape, KernelSet, Layer, Panels, WeightShape, Weights, generic, panels};
use crate::quant::Clamp;
use core::arch::aarch64::*;
use core::arch::asm;

/// Packs weights that `panels::fits` allows, and takes the zero point's share off `bias`.
fn pack(weights: &[i16], shape: WeightShape, zero_point: i8, bias: &mut [i32]) -> Panels {
    let mut packed = panels::pack::<LANES, 4>(weights, shape, zero_point.into(), bias);
    for four in packed.values.as_chunks_mut::<16>().0 {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = *four;
        *four = [a0, a1, b2, b3, c0, c1, d2, d3, a2, a3, b0, b1, c2, c3, d0, d1];
    }
    panels::keep_apart::<LANES, 4>(&mut packed, shape);
    packed
}

/// Multiplies eight products an instruction.
struct Smull;

impl Smull {
    /// As [`Multiply::tile`] says. `APART`: weights of -128 may meet.
    ///
    /// # Safety
    /// As for [`Multiply::tile`].
    #[inline(always)]
    unsafe fn accumulators<const N: usize, const QUADS: usize, const APART: bool>(
        rows: &Rows<'_, N>,
        panel: *const i8,
        accumulators: &[i32; LANES],
    ) -> [Sums; N] {
        let steps = rows.taps().div_ceil(4);
        let mut at: [*const i8; N] = core::array::from_fn(|p| rows.of(p));
        let mut panel = panel;
        if steps == 0 {
            return [load(accumulators); N];
        }
        let mut acc = core::array::from_fn(|_| begin(accumulators));
        let mut step = || {
            // SAFETY: each step reads four values of each row, which may be read in whole loads of
            // 16, and a step of the panel, which has one for each four taps: the caller's promise.
            // Behind the taps values meet weights of zero.
            unsafe {
                let x: [int8x16_t; N] = core::array::from_fn(|p| four(&mut at[p]));
                let w: [int8x16_t; QUADS] = weights(&mut panel);
                for p in 0..N {
                    let turned = vreinterpretq_s8_s16(vrev32q_s16(vreinterpretq_s16_s8(x[p])));
                    for q in 0..QUADS {
                        acc[p][q] = match APART {
                            false => add_products(acc[p][q], x[p], turned, w[q]),
                            true => vpadalq_s16(
                                vpadalq_s16(acc[p][q], vmull_s8(vget_low_s8(x[p]), vget_low_s8(w[q]))),
                                vmull_high_s8(turned, w[q]),
                            ),
                        };
                    }
                }
            }
        };
        // Written out, so that what accumulators begin with is loaded while the first products are
        // made.
        step();
        for _ in 1..steps {
            step();
        }
        acc
    }
}

impl Multiply for Smull {
    #[inline(always)]
    unsafe fn tile<const N: usize, const QUADS: usize>(
        rows: &Rows<'_, N>,
        panel: *const i8,
        accumulators: &[i32; LANES],
    ) -> [Sums; N] {
        // SAFETY: the caller's promise.
        unsafe { Self::accumulators::<N, QUADS, false>(rows, panel, accumulators) }
    }

    #[inline(always)]
    unsafe fn tile_apart<const N: usize>(rows: &Rows<'_, N>, panel: *const i8, accumulators: &[i32; LANES]) -> [Sums; N] {
        // SAFETY: the caller's promise.
        unsafe { Self::accumulators::<N, 4, true>(rows, panel, accumulators) }
    }
}

/// Four values in each quarter of a register; `at` goes on behind them. In assembly, because the
/// compiler counts pointers on by themselves.
///
/// # Safety
/// Four values are readable there.
#[inline(always)]
unsafe fn four(at: &mut *const i8) -> int8x16_t {
    let values;
    // SAFETY: the caller's promise; the instruction is of aarch64's baseline.
    unsafe {
        asm!(
            "ld1r {{{values:v}.4s}}, [{at}], #4",
            values = out(vreg) values, at = inout(reg) *at,
            options(readonly, nostack, preserves_flags)
        );
    }
    values
}

/// `acc` plus 16 products, as the module's head says. In assembly, because the compiler moves all
/// the multiplies of a tile to its front and then has no registers left.
#[inline(always)]
fn add_products(acc: int32x4_t, x: int8x16_t, turned: int8x16_t, w: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: instructions of aarch64's baseline; registers only.
    unsafe {
        asm!(
            "smull {t:v}.8h, {x:v}.8b, {w:v}.8b",
            "smlal2 {t:v}.8h, {turned:v}.16b, {w:v}.16b",
            "sadalp {acc:v}.4s, {t:v}.8h",
            t = out(vreg) _, x = in(vreg) x, turned = in(vreg) turned, w = in(vreg) w, acc = inout(vreg) acc,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// NEON without dot product, as on a Cortex-A72: every aarch64 CPU has it.
#[derive(Debug)]
pub(super) struct Neon;

impl KernelSet for Neon {
    fn name(&self) -> &'static str {
        "aarch64-neon"
    }

    fn pack(&self, weights: &[i16], shape: WeightShape, zero_point: i8, bias: &mut [i32]) -> Weights {
        match panels::fits(weights, shape.taps) {
            true => Weights::Narrow(pack(weights, shape, zero_point, bias)),
            false => Weights::Wide(generic::pack_groups(weights, shape)),
        }
    }

    fn pack_depthwise(&self, s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Weights {
        super::pack_depthwise(s, weights, zero_point, bias)
    }

    fn begins_as_float(&self) -> bool {
        true
    }

    fn scratch_len(&self, s: &ConvShape) -> usize {
        match s.is_depthwise() {
            true => super::depthwise_scratch_len(s),
            false => self.product_scratch_len(s.patch_len()),
        }
    }

    fn conv(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Weights::Narrow(panels) = layer.weights else { return generic::conv(layer.wide(), input, output, scratch) };
        let layer = layer.with(panels);
        for_reach!(layer.epilogue, BY_XTN, convolve::[Smull](layer, input, output, scratch));
    }

    fn depthwise(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Weights::Narrow(panels) = layer.weights else { return generic::depthwise(layer.wide(), input, output) };
        super::depthwise(layer.with(panels), input, output, scratch);
    }

    fn dense(&self, input: &[i8], zp: i8, weights: &Weights, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
        match weights {
            Weights::Narrow(panels) => product::<Smull>(input, panels, bias, accumulators, scratch),
            Weights::Wide(w) => generic::dense(input, zp, w, bias, accumulators, scratch),
        }
    }

    fn add(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
        add(a, pa, b, pb, clamp, output);
    }
}

/// See `elementwise::add`.
pub(super) fn add(a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
    assert!(a.len() == b.len() && a.len() == output.len(), "addends and sum differ in length");
    let (chunks_a, rest_a) = a.as_chunks::<LANES>();
    let (chunks_b, rest_b) = b.as_chunks::<LANES>();
    let (chunks, rest) = output.as_chunks_mut::<LANES>();
    // SAFETY: NEON is part of aarch64's baseline; every chunk holds 16 bytes.
    unsafe {
        let [za, zb] = [pa, pb].map(|p| vdupq_n_s16(p.zero_point as i16));
        let zero_point = vdupq_n_s16(clamp.zero_point as i16);
        let (lo, hi) = (vdupq_n_s8(clamp.lo), vdupq_n_s8(clamp.hi));
        // Eight differences, as i16, to two times four products.
        let real = |d: int16x8_t, ratio: f32| {
            [vmovl_s16(vget_low_s16(d)), vmovl_high_s16(d)].map(|d| vmulq_n_f32(vcvtq_f32_s32(d), ratio))
        };
        let eight = |a: int16x8_t, b: int16x8_t| {
            let (x, y) = (real(vsubq_s16(a, za), pa.ratio), real(vsubq_s16(b, zb), pb.ratio));
            let q = [0, 1].map(|i| vcvtnq_s32_f32(vaddq_f32(x[i], y[i])));
            vqmovn_s16(vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), zero_point))
        };
        for ((out, a), b) in chunks.iter_mut().zip(chunks_a).zip(chunks_b) {
            let (a, b) = (vld1q_s8(a.as_ptr()), vld1q_s8(b.as_ptr()));
            let low = eight(vmovl_s8(vget_low_s8(a)), vmovl_s8(vget_low_s8(b)));
            let high = eight(vmovl_high_s8(a), vmovl_high_s8(b));
            vst1q_s8(out.as_mut_ptr(), vminq_s8(vmaxq_s8(vcombine_s8(low, high), lo), hi));
        }
    }
    elementwise::add(rest_a, pa, rest_b, pb, clamp, rest);
}
