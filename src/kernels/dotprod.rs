//! Convolutions and products by SDOT, the signed dot product of ARMv8.2 (Cortex-A76, Neoverse-N1).
//!
//! Knows no arithmetic of its own: sums are exact in i32, and what follows them is `quant`'s.
//!
//! Algorithm, for a tile of four pixels and 16 channels (`tiles`):
//!
//! ```text
//! for each 4 taps:  for each pixel p, channel c:  acc[p][c] += sum over 4 of x[p][tap] * w[c][tap]
//! ```
//!
//! A step's weights lie as `[16][4]`: 64 bytes, which four SDOT per pixel use with one lane of the pixel's 16 loaded taps. The
//! intrinsic is not yet stable in Rust, so the one instruction is inline assembly.

use super::ConvShape;
use super::generic::{Epilogue, LANES};
use super::patches::Rows;
use super::requant::{Sums, begin, for_reach, load};
use super::tiles::{Multiply, convolve, product, weights};
use core::arch::aarch64::*;
use core::arch::asm;

/// Proof that the CPU has SDOT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dotprod(());

/// `acc[i] += sum over 4 of w[4i + j] * x[4 LANE + j]`.
#[inline(always)]
fn sdot<const LANE: i32>(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: only methods of `Dotprod` come here, a token that found the instruction on this CPU; registers only.
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
    unsafe fn tile<const N: usize, const QUADS: usize>(
        rows: &Rows<'_, N>,
        panel: *const i8,
        sums: &[i32; LANES],
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
            // The first 16 taps are written out, so that what sums begin with is loaded while they are multiplied.
            acc = core::array::from_fn(|_| begin(sums));
            sixteen!();
            for _ in 1..whole {
                sixteen!();
            }
        } else {
            acc = [load(sums); N];
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

/// 16 values; `at` goes on behind them. In assembly, as [`weights`], because the compiler counts pointers on by themselves.
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
    /// The token, if the CPU has the instruction.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }

    /// See [`convolve`].
    #[allow(clippy::too_many_arguments)]
    pub(super) fn conv(
        self,
        s: &ConvShape,
        input: &[i8],
        zero_point: i8,
        weights: &[i8],
        e: Epilogue<'_>,
        output: &mut [i8],
        scratch: &mut [i16],
    ) {
        for_reach!(e, BY_UZP, convolve::[Sdot](s, input, zero_point, weights, e, output, scratch));
    }

    /// See [`product`].
    pub(super) fn dense(self, input: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
        product::<Sdot>(input, weights, &[], bias, sums, scratch);
    }
}
