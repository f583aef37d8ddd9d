//! Convolutions and products by SDOT, the signed dot product of ARMv8.2 (Cortex-A76, Neoverse-N1).
//!
//! Knows no arithmetic of its own: sums are exact in i32, and what follows them is `quant`'s.
//!
//! Algorithm, for a tile of [`PIXELS`] pixels and 16 channels:
//!
//! ```text
//! for each 4 taps:  for each pixel p, channel c:  acc[p][c] += sum over 4 of x[p][tap] * w[c][tap]
//! ```
//!
//! Weights lie as `[channels / 16][taps / 4][16][4]`: 64 bytes a step, which four SDOT per pixel use with one lane of the
//! pixel's 16 loaded taps. 4 x 16 sums take 16 registers, pixels 4 and weights 4, of 32; they begin at the bias and are
//! requantised where they are. Values enter as they are; the zero point's share, `zero_point * sum of weights`, is taken off the
//! bias at load, and padding holds the zero point. The intrinsic is not yet stable in Rust, so the one instruction is inline
//! assembly.

use super::ConvShape;
use super::generic::{Epilogue, LANES};
use super::patches::{Rows, for_tiles, row};
use super::requant::{Outputs, Sums, begin, for_reach};
use core::arch::aarch64::*;
use core::arch::asm;

const PIXELS: usize = 4;

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

/// Adds the products of `N` pixels with the first `4 * QUADS` channels of a panel to `acc`. `panel`: `[steps][16][4]`.
#[inline(always)]
fn tile<const N: usize, const QUADS: usize>(rows: &Rows<'_, N>, panel: &[i8], mut acc: [Sums; N]) -> [Sums; N] {
    let taps = rows.taps();
    assert!(panel.len() >= taps.div_ceil(4) * 64, "a panel for all taps");
    macro_rules! step {
        ($lane:literal, $x:ident, $w:expr) => {
            for q in 0..QUADS {
                // SAFETY: `panel` was checked to hold 64 bytes for each step, and $w is a step of this tile.
                let w = unsafe { vld1q_s8(panel.as_ptr().add($w * 64 + q * 16)) };
                for p in 0..N {
                    acc[p][q] = sdot::<$lane>(acc[p][q], w, $x[p]);
                }
            }
        };
    }
    let whole = taps / 16;
    for i in 0..whole {
        // SAFETY: each pixel has `taps` values, and this reads 16 of them.
        let x: [int8x16_t; N] = core::array::from_fn(|p| unsafe { vld1q_s8(rows.of(p).add(16 * i)) });
        step!(0, x, 4 * i);
        step!(1, x, 4 * i + 1);
        step!(2, x, 4 * i + 2);
        step!(3, x, 4 * i + 3);
    }
    let rest = taps.div_ceil(4) - 4 * whole;
    if rest == 0 {
        return acc;
    }
    // SAFETY: what lies beyond the taps may be read up to whole loads of 16; here it meets weights of zero, or is left out.
    let x: [int8x16_t; N] = core::array::from_fn(|p| unsafe { vld1q_s8(rows.of(p).add(16 * whole)) });
    step!(0, x, 4 * whole);
    if rest > 1 {
        step!(1, x, 4 * whole + 1);
    }
    if rest > 2 {
        step!(2, x, 4 * whole + 2);
    }
    if rest > 3 {
        step!(3, x, 4 * whole + 3);
    }
    acc
}

impl Dotprod {
    /// The token, if the CPU has the instruction.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }

    /// A convolution that is not depthwise and has one group; see `generic::conv` for the arguments.
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
        for_reach!(e, SHORT_BY_UZP, conv::[](s, input, zero_point, weights, e, output, scratch));
    }

    /// A fully connected layer up to its sums; `bias` holds the zero point's share.
    pub(super) fn dense(self, input: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
        let panels = weights.chunks_exact(input.len().div_ceil(4) * 64);
        let row = row(input, scratch);
        for ((sums, bias), panel) in sums.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(panels) {
            // SAFETY: NEON is part of aarch64's baseline; registers only.
            let zero = unsafe { [vdupq_n_s32(0); 4] };
            let [acc] = tile::<1, 4>(&row, panel, [zero]);
            super::neon::store_sums(acc, bias, sums);
        }
    }
}

fn conv<const REACH: u8>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let [oh, ow, oc] = s.output;
    let panel_len = s.patch_len().div_ceil(4) * 64;
    assert_eq!(output.len(), oh * ow * oc, "output length");
    let outputs = Outputs::<REACH>::new(&e);
    let whole_blocks = oc / LANES;
    for_tiles::<PIXELS>(s, input, zero_point, scratch, |pixel, pixels, rows| {
        let (out, outputs) = (&mut output[pixel * oc..(pixel + pixels) * oc], outputs);
        let panel = |i: usize| &weights[i * panel_len..][..panel_len];
        let begins = |i: usize| core::array::from_fn(|_| begin(&e.blocks[i]));
        let whole = if pixels == PIXELS { whole_blocks } else { 0 };
        for i in 0..whole {
            let sums = tile::<PIXELS, 4>(&rows, panel(i), begins(i));
            // SAFETY: `out` has all pixels of the tile, and `i` is one of the whole blocks.
            unsafe { outputs.store_whole(sums, &e.blocks[i], out, oc, i * LANES) };
        }
        if pixels == PIXELS && oc % LANES == 8 {
            let sums = tile::<PIXELS, 2>(&rows, panel(whole), begins(whole));
            // SAFETY: `out` has all pixels of the tile, and the last block's eight channels.
            unsafe { outputs.store_eight(sums, &e.blocks[whole], out, oc, whole * LANES) };
            return;
        }
        for i in whole..e.blocks.len() {
            let sums = match oc - i * LANES {
                0..=8 => tile::<PIXELS, 2>(&rows, panel(i), begins(i)),
                _ => tile::<PIXELS, 4>(&rows, panel(i), begins(i)),
            };
            outputs.store_part(sums, &e.blocks[i], out, oc, i * LANES);
        }
    });
}
