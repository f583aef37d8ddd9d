//! Convolutions by SDOT, the signed dot product of ARMv8.2 (Cortex-A76, Neoverse-N1).
//!
//! Knows no arithmetic of its own: sums are exact in i32, and what follows them is `quant`'s.
//!
//! Algorithm, for a tile of [`PIXELS`] pixels and 16 channels:
//!
//! ```text
//! for each 4 taps:  for each pixel p, channel c:  acc[p][c] += sum over 4 taps of x[p][tap] * w[c][tap]
//! ```
//!
//! Weights lie as `[channels / 16][taps / 4][16][4]`: 64 bytes a step, which four SDOT per pixel use with one lane of the
//! pixel's 16 loaded taps. 4 x 16 sums take 16 registers, pixels 4 and weights 4, of 32. Values enter as they are; the
//! zero point's share, `zero_point * sum of weights`, is taken off the bias at load, and padding holds the zero point.
//! The intrinsic is not yet stable in Rust, so the one instruction is inline assembly.

use super::generic::{self, Epilogue, LANES};
use super::{ConvShape, neon};
use core::arch::aarch64::{int8x16_t, int32x4_t, vdupq_n_s32, vld1q_s8, vreinterpretq_s8_s32, vst1q_s32};
use core::arch::asm;

const PIXELS: usize = 4;

/// Proof that the CPU has SDOT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dotprod(());

/// `acc[i] += sum over 4 of w[4i + j] * x[4 LANE + j]`.
#[inline(always)]
fn sdot<const LANE: i32>(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: only `Dotprod::conv` comes here, behind a token that found the instruction on this CPU; registers only.
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

/// Sums of one tile. `rows`: the first tap of each pixel; `panel`: `[steps][16][4]`.
#[inline(always)]
fn tile(values: &[i8], rows: [usize; PIXELS], taps: usize, panel: &[i8]) -> [[i32; LANES]; PIXELS] {
    let steps = taps.div_ceil(4);
    assert!(panel.len() >= steps * 64, "a panel for all taps");
    assert!(rows.iter().all(|r| r + taps <= values.len()), "all taps of all pixels");
    // SAFETY: NEON is part of aarch64's baseline; nothing is read here.
    let mut acc = unsafe { [[vdupq_n_s32(0); 4]; PIXELS] };
    let mut at = 0;
    macro_rules! step {
        ($lane:literal, $x:ident, $w:expr) => {
            for q in 0..4 {
                // SAFETY: `panel` was checked to hold 64 bytes for each step, and $w is a step of this tile.
                let w = unsafe { vld1q_s8(panel.as_ptr().add($w * 64 + q * 16)) };
                for p in 0..PIXELS {
                    acc[p][q] = sdot::<$lane>(acc[p][q], w, $x[p]);
                }
            }
        };
    }
    while at + 16 <= taps {
        // SAFETY: each row was checked to hold `taps` values, and 16 are left.
        let x: [int8x16_t; PIXELS] = core::array::from_fn(|p| unsafe { vld1q_s8(values.as_ptr().add(rows[p] + at)) });
        step!(0, x, at / 4);
        step!(1, x, at / 4 + 1);
        step!(2, x, at / 4 + 2);
        step!(3, x, at / 4 + 3);
        at += 16;
    }
    while at < taps {
        let n = (taps - at).min(4);
        let x: [int8x16_t; PIXELS] = core::array::from_fn(|p| {
            let mut four = [0i8; 4];
            four[..n].copy_from_slice(&values[rows[p] + at..rows[p] + at + n]);
            // SAFETY: NEON is part of aarch64's baseline; the value comes from a register.
            unsafe { vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(four.map(|v| v as u8)))) }
        });
        step!(0, x, at / 4);
        at += 4;
    }
    let mut sums = [[0; LANES]; PIXELS];
    for p in 0..PIXELS {
        for q in 0..4 {
            // SAFETY: each row of `sums` holds 16 values, written four at a time.
            unsafe { vst1q_s32(sums[p].as_mut_ptr().add(4 * q), acc[p][q]) };
        }
    }
    sums
}

impl Dotprod {
    /// The token, if the CPU has the instruction.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn conv(
        self,
        s: &ConvShape,
        input: &[i8],
        zero_point: i8,
        weights: &[i8],
        epilogue: Epilogue<'_>,
        output: &mut [i8],
        scratch: &mut [i16],
    ) {
        let [oh, ow, oc] = s.output;
        let taps = s.patch_len();
        assert_eq!(output.len(), oh * ow * oc, "output length");
        neon::for_tiles::<PIXELS>(s, input, zero_point, scratch, |pixel, pixels, values, rows| {
            for (block, panel) in weights.chunks_exact(taps.div_ceil(4) * 64).enumerate() {
                let sums = tile(values, rows, taps, panel);
                let first = block * LANES;
                let n = LANES.min(oc - first);
                for (p, sums) in sums.iter().enumerate().take(pixels) {
                    generic::store(sums, &mut output[(pixel + p) * oc + first..][..n], epilogue, first);
                }
            }
        });
    }
}
