//! NEON kernels for 32-bit ARM: convolutions, products and depthwise convolutions (Cortex-A7, and A53 and A72 under a 32-bit system).
//!
//! Knows no arithmetic of its own: sums are exact in i32, and what follows them is `quant`'s.
//!
//! In assembly, because Rust has no stable NEON intrinsics for 32-bit ARM, and compiles for ARMv7 without NEON. The algorithms are
//! those of `neon` and `depthwise`: two products of values and weights within -127..=127 fit i16, and are added to sums of i32. ARM's
//! 32-bit NEON has one rounding mode, to nearest with ties to even, and takes denormals for zero: a product that small rounds to zero.

use super::ConvShape;
use super::generic::{Epilogue, EpilogueBlock, LANES};
use super::narrow::depthwise_firsts;
use super::patches::{Rows, Tiles, bytes, row};
use crate::quant::{Clamp, ROUND_MAGIC};
use core::arch::naked_asm;

const PIXELS: usize = 2;
/// Channels of a panel.
pub(super) const CHANNELS: usize = 4;
/// Most taps of a depthwise convolution: 5x5.
const TAPS: usize = 25;

/// Proof that the CPU has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmNeon(());

/// What rounds and clamps: bounds as floats, less the zero point; the magic number; its bits less the zero point.
#[repr(C)]
struct Rounding {
    lo: f32,
    hi: f32,
    magic: f32,
    base: i32,
}

impl Rounding {
    fn of(clamp: Clamp) -> Self {
        let zero_point = clamp.zero_point as i32;
        let bound = |v: i8| (v as i32 - zero_point) as f32;
        let base = ROUND_MAGIC.to_bits() as i32 - zero_point;
        Self { lo: bound(clamp.lo), hi: bound(clamp.hi), magic: ROUND_MAGIC, base }
    }
}

/// Sums in q8 to q11, less their bias, to outputs: r1 points to the block's scales, r2 to [`Rounding`], r3 to 16 outputs.
macro_rules! round_and_store {
    () => {
        "vcvt.f32.s32 q8, q8
         vcvt.f32.s32 q9, q9
         vcvt.f32.s32 q10, q10
         vcvt.f32.s32 q11, q11
         vld1.32 {{d0-d3}}, [r1]!
         vld1.32 {{d4-d7}}, [r1]
         vmul.f32 q8, q8, q0
         vmul.f32 q9, q9, q1
         vmul.f32 q10, q10, q2
         vmul.f32 q11, q11, q3
         vld1.32 {{d0[], d1[]}}, [r2]!
         vld1.32 {{d2[], d3[]}}, [r2]!
         vld1.32 {{d4[], d5[]}}, [r2]!
         vld1.32 {{d6[], d7[]}}, [r2]
         vmax.f32 q8, q8, q0
         vmax.f32 q9, q9, q0
         vmax.f32 q10, q10, q0
         vmax.f32 q11, q11, q0
         vmin.f32 q8, q8, q1
         vmin.f32 q9, q9, q1
         vmin.f32 q10, q10, q1
         vmin.f32 q11, q11, q1
         vadd.f32 q8, q8, q2
         vadd.f32 q9, q9, q2
         vadd.f32 q10, q10, q2
         vadd.f32 q11, q11, q2
         vsub.i32 q8, q8, q3
         vsub.i32 q9, q9, q3
         vsub.i32 q10, q10, q3
         vsub.i32 q11, q11, q3
         vmovn.i32 d0, q8
         vmovn.i32 d1, q9
         vmovn.i32 d2, q10
         vmovn.i32 d3, q11
         vmovn.i16 d0, q0
         vmovn.i16 d1, q1
         vst1.8 {{d0, d1}}, [r3]"
    };
}

/// Two channels' products for two pixels, to the sums named: of 16 taps, or of eight, the first half of each channel's 16 weights.
/// q0, q1: values; q2, q3: weights.
macro_rules! two_channels {
    (16 taps, $($sums:literal),+) => {
        two_channels!(@ "vmlal.s8 q4, d1, d5\nvmlal.s8 q5, d3, d5\nvmlal.s8 q6, d1, d7\nvmlal.s8 q7, d3, d7\n", $($sums),+)
    };
    (8 taps, $($sums:literal),+) => {
        two_channels!(@ "", $($sums),+)
    };
    (@ $second_half:literal, $a0:literal, $b0:literal, $a1:literal, $b1:literal) => {
        concat!(
            "vld1.8 {{d4-d7}}, [r2]!\n",
            "vmull.s8 q4, d0, d4\nvmull.s8 q5, d2, d4\nvmull.s8 q6, d0, d6\nvmull.s8 q7, d2, d6\n",
            $second_half,
            "vpadal.s16 ", $a0, ", q4\nvpadal.s16 ", $b0, ", q5\nvpadal.s16 ", $a1, ", q6\nvpadal.s16 ", $b1, ", q7"
        )
    };
}

/// Sums of two pixels and four channels.
///
/// # Safety
/// The CPU has NEON. `a`, `b`: `8 * eights` readable values, rounded up to 16 unless `eights` is odd; `panel`: `[eights / 2][4][16]`,
/// rounded up; `sums`: four writable sums there and four more 16 further on.
#[unsafe(naked)]
unsafe extern "C" fn tile(a: *const i8, b: *const i8, panel: *const i8, eights: usize, sums: *mut i32) {
    naked_asm!(
        ".fpu neon",
        "vpush {{d8-d15}}",
        "ldr r12, [sp, #64]",
        "vmov.i32 q8, #0\nvmov.i32 q9, #0\nvmov.i32 q10, #0\nvmov.i32 q11, #0",
        "vmov.i32 q12, #0\nvmov.i32 q13, #0\nvmov.i32 q14, #0\nvmov.i32 q15, #0",
        "subs r3, r3, #2",
        "blt 3f",
        "2:",
        "vld1.8 {{d0, d1}}, [r0]!",
        "vld1.8 {{d2, d3}}, [r1]!",
        two_channels!(16 taps, "q8", "q12", "q9", "q13"),
        two_channels!(16 taps, "q10", "q14", "q11", "q15"),
        "subs r3, r3, #2",
        "bge 2b",
        "3:",
        "adds r3, r3, #1", // -1 were left if there is a last half, else -2
        "bne 4f",
        "vld1.8 {{d0}}, [r0]",
        "vld1.8 {{d2}}, [r1]",
        two_channels!(8 taps, "q8", "q12", "q9", "q13"),
        two_channels!(8 taps, "q10", "q14", "q11", "q15"),
        "4:",
        "vpadd.i32 d0, d16, d17\nvpadd.i32 d1, d18, d19\nvpadd.i32 d2, d20, d21\nvpadd.i32 d3, d22, d23",
        "vpadd.i32 d4, d24, d25\nvpadd.i32 d5, d26, d27\nvpadd.i32 d6, d28, d29\nvpadd.i32 d7, d30, d31",
        "vpadd.i32 d0, d0, d1\nvpadd.i32 d1, d2, d3\nvpadd.i32 d2, d4, d5\nvpadd.i32 d3, d6, d7",
        "vst1.32 {{d0, d1}}, [r12]",
        "add r12, r12, #64",
        "vst1.32 {{d2, d3}}, [r12]",
        "vpop {{d8-d15}}",
        "bx lr",
    )
}

/// 16 sums and their block to 16 outputs.
///
/// # Safety
/// The CPU has NEON. `sums`: 16 readable; `out`: 16 writable.
#[unsafe(naked)]
unsafe extern "C" fn requant(sums: *const i32, block: *const EpilogueBlock, rounding: *const Rounding, out: *mut i8) {
    naked_asm!(
        ".fpu neon",
        "vld1.32 {{d16-d19}}, [r0]!",
        "vld1.32 {{d20-d23}}, [r0]",
        "vld1.32 {{d0-d3}}, [r1]!",
        "vld1.32 {{d4-d7}}, [r1]!",
        "vadd.i32 q8, q8, q0\nvadd.i32 q9, q9, q1\nvadd.i32 q10, q10, q2\nvadd.i32 q11, q11, q3",
        "add r1, r1, #64",
        round_and_store!(),
        "bx lr",
    )
}

/// 16 channels of one output pixel of a depthwise convolution.
///
/// # Safety
/// The CPU has NEON. `pixels`: of each tap the address of a pixel's channels, of which 16 are readable `first` further on; `weights`:
/// `[taps][16]`; `out`: 16 writable.
#[unsafe(naked)]
unsafe extern "C" fn depthwise_pixel(
    pixels: *const *const i8,
    block: *const EpilogueBlock,
    rounding: *const Rounding,
    out: *mut i8,
    weights: *const i8,
    first: usize,
    taps: usize,
) {
    naked_asm!(
        ".fpu neon",
        "push {{r4, r5, r6, lr}}",
        "vpush {{d8-d11}}",
        "ldr r4, [sp, #48]",
        "ldr r5, [sp, #52]",
        "ldr r6, [sp, #56]",
        "vld1.32 {{d16-d19}}, [r1]!",
        "vld1.32 {{d20-d23}}, [r1]!",
        "add r1, r1, #64",
        "subs r6, r6, #2",
        "blt 3f",
        "2:",
        "ldr r12, [r0], #4",
        "ldr lr, [r0], #4",
        "vld1.8 {{d4-d7}}, [r4]!",
        "add r12, r12, r5",
        "add lr, lr, r5",
        "vld1.8 {{d0, d1}}, [r12]",
        "vld1.8 {{d2, d3}}, [lr]",
        "vmull.s8 q4, d0, d4\nvmull.s8 q5, d1, d5\nvmlal.s8 q4, d2, d6\nvmlal.s8 q5, d3, d7",
        "vaddw.s16 q8, q8, d8\nvaddw.s16 q9, q9, d9\nvaddw.s16 q10, q10, d10\nvaddw.s16 q11, q11, d11",
        "subs r6, r6, #2",
        "bge 2b",
        "3:",
        "adds r6, r6, #1", // -1 were left if there is a last tap, else -2
        "bne 4f",
        "ldr r12, [r0]",
        "vld1.8 {{d4, d5}}, [r4]",
        "add r12, r12, r5",
        "vld1.8 {{d0, d1}}, [r12]",
        "vmull.s8 q4, d0, d4\nvmull.s8 q5, d1, d5",
        "vaddw.s16 q8, q8, d8\nvaddw.s16 q9, q9, d9\nvaddw.s16 q10, q10, d10\nvaddw.s16 q11, q11, d11",
        "4:",
        round_and_store!(),
        "vpop {{d8-d11}}",
        "pop {{r4, r5, r6, pc}}",
    )
}

impl ArmNeon {
    /// The token, if the CPU has the instructions.
    pub fn new() -> Option<Self> {
        /// Entry of the auxiliary vector that holds the CPU's features, and NEON's bit in it (Linux, asm/hwcap.h).
        const AT_HWCAP: u32 = 16;
        const HWCAP_NEON: u32 = 1 << 12;
        let words = std::fs::read("/proc/self/auxv").ok()?;
        let entries = words.as_chunks::<8>().0.iter().map(|e| {
            let [a, b, c, d, v @ ..] = *e;
            (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes(v))
        });
        let found = entries.into_iter().any(|(key, value)| key == AT_HWCAP && value & HWCAP_NEON != 0);
        found.then_some(Self(()))
    }

    /// Sums of up to 16 channels, `[pixel][channel]`.
    fn sums<const N: usize>(self, rows: &Rows<'_, N>, panels: &[i8]) -> [[i32; LANES]; PIXELS] {
        const { assert!(N <= PIXELS) };
        let panel_len = rows.taps().div_ceil(16) * 16 * CHANNELS;
        let mut sums = [[0; LANES]; PIXELS];
        for (panel, first) in panels.chunks_exact(panel_len).zip((0..LANES).step_by(CHANNELS)) {
            let to = sums.as_flattened_mut()[first..].as_mut_ptr();
            // SAFETY: the token proves NEON. `Rows` proves whole loads of 16 of each pixel's taps, the panel is as long as they are,
            // and behind `to` lie four sums or more of a row of 16, and the second row.
            unsafe { tile(rows.of(0), rows.of(N - 1), panel.as_ptr(), rows.taps().div_ceil(8), to) };
        }
        sums
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
        let [oh, ow, oc] = s.output;
        assert_eq!(output.len(), oh * ow * oc, "output length");
        let panels_len = s.patch_len().div_ceil(16) * 16 * LANES;
        let rounding = Rounding::of(e.clamp);
        let mut tiles = Tiles::<PIXELS>::new(s, input, zero_point, scratch);
        while let Some((pixel, pixels, rows)) = tiles.next() {
            for ((i, block), panels) in e.blocks.iter().enumerate().zip(weights.chunks(panels_len)) {
                let sums = self.sums(&rows, panels);
                for (p, sums) in sums.iter().enumerate().take(pixels) {
                    let first = i * LANES;
                    let out = &mut output[(pixel + p) * oc + first..][..LANES.min(oc - first)];
                    let mut whole = [0; LANES];
                    let to = if out.len() == LANES { out.as_mut_ptr() } else { whole.as_mut_ptr() };
                    // SAFETY: the token proves NEON; 16 sums, a block, and 16 outputs there.
                    unsafe { requant(sums.as_ptr(), block, &rounding, to) };
                    if out.len() < LANES {
                        out.copy_from_slice(&whole[..out.len()]);
                    }
                }
            }
        }
    }

    /// A fully connected layer up to its sums; `bias` holds the zero point's share.
    pub(super) fn dense(self, input: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
        let row = row(input, scratch);
        let panels = weights.chunks(input.len().div_ceil(16) * 16 * LANES);
        for ((sums, bias), panels) in sums.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(panels) {
            let [acc, _] = self.sums(&row, panels);
            for ((sum, bias), acc) in sums.iter_mut().zip(bias).zip(acc) {
                *sum = acc.wrapping_add(*bias);
            }
        }
    }

    /// A depthwise convolution that `narrow` packed; see `generic::depthwise` for the rest. `scratch`: one pixel's bytes.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn depthwise(
        self,
        s: &ConvShape,
        input: &[i8],
        zero_point: i8,
        weights: &[i8],
        e: Epilogue<'_>,
        output: &mut [i8],
        scratch: &mut [i16],
    ) {
        let [h, w, c] = s.input;
        let [oh, ow, _] = s.output;
        let taps = s.kernel[0] * s.kernel[1];
        assert!(c >= LANES && taps <= TAPS, "a layer that was packed so");
        assert_eq!((input.len(), output.len()), (h * w * c, oh * ow * c), "lengths of the shape");
        assert_eq!(weights.len(), c.div_ceil(LANES) * taps * LANES, "packed length");
        let padding = &mut bytes(scratch)[..c];
        padding.fill(zero_point);
        let rounding = Rounding::of(e.clamp);
        for (pixel, out) in output.chunks_exact_mut(c).enumerate() {
            let y0 = (pixel / ow * s.stride[0]).wrapping_sub(s.pad[0]);
            let x0 = (pixel % ow * s.stride[1]).wrapping_sub(s.pad[1]);
            let mut pixels = [padding.as_ptr(); TAPS];
            for ky in 0..s.kernel[0] {
                let y = y0.wrapping_add(ky * s.dilation[0]);
                for kx in 0..s.kernel[1] {
                    let x = x0.wrapping_add(kx * s.dilation[1]);
                    if y < h && x < w {
                        pixels[ky * s.kernel[1] + kx] = input[(y * w + x) * c..][..c].as_ptr();
                    }
                }
            }
            let blocks = depthwise_firsts(c).zip(weights.chunks_exact(taps * LANES)).zip(e.blocks);
            for ((first, weights), block) in blocks {
                let out = &mut out[first..][..LANES];
                // SAFETY: the token proves NEON. Each tap's address has `c` values, `first + 16 <= c` (asserted by the slice above),
                // each block has 16 weights a tap, and 16 outputs are there.
                unsafe {
                    depthwise_pixel(pixels.as_ptr(), block, &rounding, out.as_mut_ptr(), weights.as_ptr(), first, taps);
                }
            }
        }
    }
}
