//! Convolutions and products by SDOT, the signed dot product of ARMv8.2 (Cortex-A76, Neoverse-N1).
//!
//! Accumulators are exact in i32, and what follows them is `quant`'s.
//!
//! Algorithm, for a tile of four pixels and 16 channels (`tiles`):
//!
//! ```text
//! for each 4 taps:  for each pixel p, channel c:  acc[p][c] += sum over 4 of x[p][tap] * w[c][tap]
//! ```
//!
//! A step's weights lie as `[16][4]`: 64 bytes, which four SDOT per pixel use with one lane of the
//! pixel's 16 loaded taps. The intrinsic is not yet stable in Rust, so the one instruction is
//! inline assembly.

use super::requant::{Sums, begin, for_reach, load};
use super::tiles::{Multiply, convolve, product, weights};
use super::{depthwise_dotprod, neon};
use crate::kernels::elementwise::Addend;
use crate::kernels::epilogue::LANES;
use crate::kernels::patches::Rows;
use crate::kernels::{ConvShape, KernelSet, Layer, WeightShape, Weights, generic, panels};
use crate::quant::Clamp;
use core::arch::aarch64::*;
use core::arch::asm;

/// Signed dot products (SDOT), as on a Cortex-A76. Its only value is proof that the CPU has the
/// instruction.
#[derive(Debug)]
pub(super) struct Dotprod(());

static DOTPROD: Dotprod = Dotprod(());

/// `acc[i] += sum over 4 of w[4i + j] * x[4 LANE + j]`.
#[inline(always)]
fn sdot<const LANE: i32>(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: only methods of `Dotprod` come here, a token that found the instruction on this CPU;
    // registers only.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Multiplies by SDOT. Only methods of [`Dotprod`] name it.
struct Sdot;

impl Multiply for Sdot {
    const NARROW: bool = false;

    #[inline(always)]
    fn add_up(total: int32x4_t, values: int8x16_t) -> int32x4_t {
        // SAFETY: NEON is part of aarch64's baseline; registers only.
        sdot::<0>(total, values, unsafe { vdupq_n_s8(1) })
    }

    #[inline(always)]
    unsafe fn tile<const N: usize, const QUADS: usize>(
        rows: &Rows<'_, N>,
        panel: *const i8,
        accumulators: &[i32; LANES],
    ) -> [Sums; N] {
        let mut at: [*const i8; N] = core::array::from_fn(|p| rows.of(p));
        let mut panel = panel;
        let mut acc: [Sums; N];
        macro_rules! step {
            ($lane:literal, $x:ident) => {
                // SAFETY: the panel has a step for each four taps: the caller's promise.
                let w: [int8x16_t; QUADS] = unsafe { weights(&mut panel) };
                for q in 0..QUADS {
                    for p in 0..N {
                        acc[p][q] = sdot::<$lane>(acc[p][q], w[q], $x[p]);
                    }
                }
            };
        }
        macro_rules! sixteen {
            () => {
                // SAFETY: a pixel's taps may be read in whole loads of 16.
                let x: [int8x16_t; N] = core::array::from_fn(|p| unsafe { values(&mut at[p]) });
                step!(0, x);
                step!(1, x);
                step!(2, x);
                step!(3, x);
            };
        }
        let whole = rows.taps() / 16;
        let rest = rows.taps().div_ceil(4) - 4 * whole;
        if whole > 0 {
            // The first 16 taps are written out, so that what accumulators begin with is loaded
            // while they are multiplied.
            acc = core::array::from_fn(|_| begin(accumulators));
            sixteen!();
            for _ in 1..whole {
                sixteen!();
            }
        } else {
            acc = [load(accumulators); N];
        }
        if rest == 0 {
            return acc;
        }
        // SAFETY: as above; what lies beyond the taps meets weights of zero, or is left out.
        let x: [int8x16_t; N] = core::array::from_fn(|p| unsafe { values(&mut at[p]) });
        step!(0, x);
        if rest > 1 {
            step!(1, x);
        }
        if rest > 2 {
            step!(2, x);
        }
        if rest > 3 {
            step!(3, x);
        }
        acc
    }
}

/// 16 values; `at` goes on behind them. In assembly, as [`weights`], because the compiler counts
/// pointers on by themselves.
///
/// # Safety
/// 16 values are readable there.
#[inline(always)]
unsafe fn values(at: &mut *const i8) -> int8x16_t {
    let values;
    // SAFETY: the caller's promise; the instruction is of aarch64's baseline.
    unsafe {
        asm!(
            "ldr {values:q}, [{at}], #16",
            values = out(vreg) values, at = inout(reg) *at,
            options(readonly, nostack, preserves_flags)
        );
    }
    values
}

impl Dotprod {
    /// The set, if the CPU has the instruction.
    pub(super) fn found() -> Option<&'static Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(&DOTPROD)
    }
}

impl KernelSet for Dotprod {
    fn name(&self) -> &'static str {
        "aarch64-dotprod"
    }

    fn pack(&self, weights: &[i16], shape: WeightShape, zero_point: i8, bias: &mut [i32]) -> Weights {
        match panels::fits(weights, shape.taps) {
            true => Weights::Narrow(panels::pack::<LANES, 4>(weights, shape, zero_point.into(), bias)),
            false => Weights::Wide(generic::pack_groups(weights, shape)),
        }
    }

    fn pack_depthwise(&self, s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Weights {
        match panels::fits_in_parts(weights) && depthwise_dotprod::takes(s) {
            true => Weights::Narrow(depthwise_dotprod::pack(s, weights, zero_point, bias)),
            false => super::pack_depthwise(s, weights, zero_point, bias),
        }
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
        for_reach!(layer.epilogue, BY_UZP, convolve::[Sdot](layer, input, output, scratch));
    }

    fn depthwise(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Weights::Narrow(panels) = layer.weights else { return generic::depthwise(layer.wide(), input, output) };
        match depthwise_dotprod::takes(layer.shape) {
            true => depthwise_dotprod::depthwise(self, layer.with(panels.values.as_slice()), input, output, scratch),
            false => super::depthwise(layer.with(panels), input, output, scratch),
        }
    }

    fn dense(&self, input: &[i8], zp: i8, weights: &Weights, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
        match weights {
            Weights::Narrow(panels) => product::<Sdot>(input, panels, bias, accumulators, scratch),
            Weights::Wide(w) => generic::dense(input, zp, w, bias, accumulators, scratch),
        }
    }

    fn add(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
        neon::add(a, pa, b, pb, clamp, output);
    }
}
