//! NEON kernels for 32-bit ARM: convolutions, products and depthwise convolutions (Cortex-A7, and
//! A53 and A72 under a 32-bit system).
//!
//! In assembly, because Rust has no stable NEON intrinsics for 32-bit ARM, and compiles for ARMv7
//! without NEON. The algorithms are those of aarch64's `neon` and `depthwise_any`: two products fit
//! i16 unless weights of -128 meet, and are added to accumulators of i32. ARM's 32-bit NEON has one
//! rounding mode, to nearest with ties to even, and takes denormals for zero: a product that small
//! rounds to zero.

use super::capabilities::capabilities;
use super::epilogue::{EpilogueBlock, LANES};
use super::panels::{self, depthwise_blocks};
use super::patches::{Rows, Tiles, bytes, row};
use super::taps::{self, Taps};
use super::{ConvShape, KernelSet, Layer, Panels, WeightShape, Weights, generic};
use crate::quant::{Clamp, ROUND_MAGIC};
use core::arch::naked_asm;

const PIXELS: usize = 2;
/// Channels of a panel.
const CHANNELS: usize = 4;

/// The sets that this CPU has.
pub(super) fn sets() -> Vec<&'static dyn KernelSet> {
    ArmNeon::found().map(|set| set as &dyn KernelSet).into_iter().collect()
}

/// NEON on a 32-bit system. Its only value is proof that the CPU has it.
#[derive(Debug)]
struct ArmNeon(());

static ARM_NEON: ArmNeon = ArmNeon(());

/// What rounds and clamps: bounds as floats, less the zero point; the magic number; its bits less
/// the zero point.
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

/// Accumulators in q8 to q11, without their bias, to outputs: r1 points to the block's scales, r2
/// to [`Rounding`], r3 to 16 outputs.
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

/// Two channels' products for two pixels, to the accumulators named: of 16 taps, or of eight, the
/// first half of each channel's 16 weights. `apart`: of 16 taps, of which two weights of -128 may
/// meet, whose products do not fit i16 together. q0, q1: values; q2, q3: weights.
macro_rules! two_channels {
    (16 taps, $($accumulators:literal),+) => {
        two_channels!(@ "vmlal.s8 q4, d1, d5\nvmlal.s8 q5, d3, d5\nvmlal.s8 q6, d1, d7\nvmlal.s8 q7, d3, d7\n", $($accumulators),+)
    };
    (apart, $a0:literal, $b0:literal, $a1:literal, $b1:literal) => {
        concat!(
            two_channels!(@ "", $a0, $b0, $a1, $b1),
            "\nvmull.s8 q4, d1, d5\nvmull.s8 q5, d3, d5\nvmull.s8 q6, d1, d7\nvmull.s8 q7, d3, d7\n",
            "vpadal.s16 ", $a0, ", q4\nvpadal.s16 ", $b0, ", q5\nvpadal.s16 ", $a1, ", q6\nvpadal.s16 ", $b1, ", q7"
        )
    };
    (8 taps, $($accumulators:literal),+) => {
        two_channels!(@ "", $($accumulators),+)
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

/// Makes a function of the accumulators of two pixels and four channels, which takes 16 taps in one
/// of the ways of [`two_channels`].
macro_rules! tile {
    ($(#[$doc:meta])* $name:ident, $($way:tt)+) => {
        $(#[$doc])*
        /// # Safety
        /// The CPU has NEON. `a`, `b`: `8 * eights` readable values, rounded up to 16 unless
        /// `eights` is odd; `panel`: `[eights / 2][4][16]`, rounded up; `accumulators`: four
        /// writable accumulators there and four more 16 further on.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(a: *const i8, b: *const i8, panel: *const i8, eights: usize, accumulators: *mut i32) {
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
                two_channels!($($way)+, "q8", "q12", "q9", "q13"),
                two_channels!($($way)+, "q10", "q14", "q11", "q15"),
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
    };
}

tile!(
    /// Accumulators of two pixels and four channels.
    ///
    tile, 16 taps
);
tile!(
    /// The same where weights of -128 may meet.
    ///
    tile_apart, apart
);

/// 16 accumulators and their block to 16 outputs.
///
/// # Safety
/// The CPU has NEON. `accumulators`: 16 readable; `out`: 16 writable.
#[unsafe(naked)]
unsafe extern "C" fn requant(accumulators: *const i32, block: *const EpilogueBlock, rounding: *const Rounding, out: *mut i8) {
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

/// Two taps of 16 channels to the accumulators in q8 to q11, added up in i16 first, or apart. q0,
/// q1: values; q2, q3: weights.
macro_rules! two_taps {
    (together) => {
        concat!(
            "vmull.s8 q4, d0, d4\nvmull.s8 q5, d1, d5\nvmlal.s8 q4, d2, d6\nvmlal.s8 q5, d3, d7\n",
            "vaddw.s16 q8, q8, d8\nvaddw.s16 q9, q9, d9\nvaddw.s16 q10, q10, d10\nvaddw.s16 q11, q11, d11"
        )
    };
    (apart) => {
        concat!(
            "vmull.s8 q4, d0, d4\nvmull.s8 q5, d1, d5\n",
            "vaddw.s16 q8, q8, d8\nvaddw.s16 q9, q9, d9\nvaddw.s16 q10, q10, d10\nvaddw.s16 q11, q11, d11\n",
            "vmull.s8 q4, d2, d6\nvmull.s8 q5, d3, d7\n",
            "vaddw.s16 q8, q8, d8\nvaddw.s16 q9, q9, d9\nvaddw.s16 q10, q10, d10\nvaddw.s16 q11, q11, d11"
        )
    };
}

/// Makes a function of 16 channels of one output pixel of a depthwise convolution, which adds
/// [`two_taps`] in one of their ways.
macro_rules! depthwise_pixel {
    ($(#[$doc:meta])* $name:ident, $way:ident) => {
        $(#[$doc])*
        /// # Safety
        /// The CPU has NEON. `list`: of each tap where its column lies, seen from `base`: 16 values
        /// are readable there; `weights`: `[taps][16]`; `out`: 16 writable.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            list: *const isize,
            block: *const EpilogueBlock,
            rounding: *const Rounding,
            out: *mut i8,
            weights: *const i8,
            base: *const i8,
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
                two_taps!($way),
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
    };
}

depthwise_pixel!(
    /// 16 channels of one output pixel.
    ///
    depthwise_pixel, together
);
depthwise_pixel!(
    /// The same where weights of -128 may meet.
    ///
    depthwise_pixel_apart, apart
);

impl ArmNeon {
    /// The set, if the CPU has the instructions.
    fn found() -> Option<&'static Self> {
        /// NEON's bit (Linux, asm/hwcap.h).
        const HWCAP_NEON: u64 = 1 << 12;
        capabilities().is_some_and(|bits| bits & HWCAP_NEON != 0).then_some(&ARM_NEON)
    }

    /// Accumulators of up to 16 channels, `[pixel][channel]`. `apart`: weights of -128 may meet.
    fn accumulators<const N: usize>(&self, rows: &Rows<'_, N>, panels: &[i8], apart: bool) -> [[i32; LANES]; PIXELS] {
        const { assert!(N <= PIXELS) };
        let panel_len = rows.taps().div_ceil(16) * 16 * CHANNELS;
        let mut accumulators = [[0; LANES]; PIXELS];
        for (panel, first) in panels.chunks_exact(panel_len).zip((0..LANES).step_by(CHANNELS)) {
            let to = accumulators.as_flattened_mut()[first..].as_mut_ptr();
            // SAFETY: the set proves NEON. `Rows` proves whole loads of 16 of each pixel's taps,
            // the panel is as long as they are, and behind `to` lie four accumulators or more of a
            // row of 16, and the second row.
            unsafe {
                let tile = if apart { tile_apart } else { tile };
                tile(rows.of(0), rows.of(N - 1), panel.as_ptr(), rows.taps().div_ceil(8), to);
            }
        }
        accumulators
    }

    /// A convolution that is not depthwise.
    fn narrow_conv(&self, layer: Layer<'_, [i8]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Layer { shape: s, zero_point, weights, epilogue: e } = layer;
        let [oh, ow, oc] = s.output;
        assert_eq!(output.len(), oh * ow * oc, "output length");
        // Weights of 1 for each tap, behind the others: what they make of a pixel is its total.
        let ones = &weights[weights.len() - s.patch_len().div_ceil(16) * 16 * CHANNELS..];
        let panels_len = s.patch_len().div_ceil(16) * 16 * LANES;
        let rounding = Rounding::of(e.clamp);
        let channels = oc / s.groups;
        let (blocks, group_len) = (channels.div_ceil(LANES), panels::packed_len::<CHANNELS, 16>(channels, s.patch_len()));
        let scratch = bytes(scratch);
        for group in 0..s.groups {
            let (blocks, weights) = (&e.blocks[group * blocks..][..blocks], &weights[group * group_len..][..group_len]);
            let mut tiles = Tiles::<PIXELS>::new(s, group, input, zero_point, scratch);
            let shifted = blocks.iter().any(|block| block.fit.shifted);
            while let Some((pixel, pixels, rows)) = tiles.next() {
                let totals = match shifted {
                    true => self.accumulators(&rows, ones, false).map(|[total, ..]| total),
                    false => [0; PIXELS],
                };
                for ((i, block), panels) in blocks.iter().enumerate().zip(weights.chunks(panels_len)) {
                    let mut accumulators = self.accumulators(&rows, panels, block.fit.apart);
                    if block.fit.shifted {
                        for (accumulators, total) in accumulators.iter_mut().zip(totals) {
                            for (acc, shift) in accumulators.iter_mut().zip(block.fit.shift) {
                                *acc = acc.wrapping_add(shift * total);
                            }
                        }
                    }
                    for (p, accumulators) in accumulators.iter().enumerate().take(pixels) {
                        let first = i * LANES;
                        let to = (pixel + p) * oc + group * channels + first;
                        let out = &mut output[to..][..LANES.min(channels - first)];
                        let mut whole = [0; LANES];
                        let to = if out.len() == LANES { out.as_mut_ptr() } else { whole.as_mut_ptr() };
                        // SAFETY: the set proves NEON; 16 accumulators, a block, and 16 outputs
                        // there.
                        unsafe { requant(accumulators.as_ptr(), block, &rounding, to) };
                        if out.len() < LANES {
                            out.copy_from_slice(&whole[..out.len()]);
                        }
                    }
                }
            }
        }
    }

    /// A fully connected layer up to its accumulators; `bias` holds the zero point's share.
    fn narrow_dense(&self, input: &[i8], weights: &Panels, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
        let row = row(input, bytes(scratch));
        let panels = weights.values.chunks(input.len().div_ceil(16) * 16 * LANES).zip(&weights.fits);
        let total: i32 = input.iter().map(|x| i32::from(*x)).sum();
        for ((accumulators, bias), (panels, fit)) in accumulators.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(panels) {
            let [acc, _] = self.accumulators(&row, panels, fit.apart);
            for ((sum, bias), (acc, shift)) in accumulators.iter_mut().zip(bias).zip(acc.into_iter().zip(fit.shift)) {
                *sum = acc.wrapping_add(shift * total).wrapping_add(*bias);
            }
        }
    }

    /// A depthwise convolution that `panels` packed. `scratch`: [`taps::scratch_len`].
    fn narrow_depthwise(&self, layer: Layer<'_, [i8]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Layer { shape: s, zero_point, epilogue: e, .. } = layer;
        let (c, [oh, ow, _]) = (s.input[2], s.output);
        assert_eq!(output.len(), oh * ow * c, "output length");
        let rounding = Rounding::of(e.clamp);
        let mut taps = Taps::new(s, input, zero_point, scratch, panels::most_parts(&e));
        for (pixel, out) in output.chunks_exact_mut(c).enumerate() {
            if pixel.is_multiple_of(ow) {
                taps.row(pixel / ow);
            }
            let (base, list) = taps.of(pixel % ow);
            for (first, weights, block) in depthwise_blocks(layer, s.patch_len() * LANES) {
                let list = &list[..weights.len() / LANES];
                let out = &mut out[first..][..LANES.min(c)];
                let mut whole = [0; LANES];
                let to = if out.len() == LANES { out.as_mut_ptr() } else { whole.as_mut_ptr() };
                let base = base.wrapping_add(first);
                // SAFETY: the set proves NEON. Of each tap 16 values are readable from the block's
                // first channel on (`Taps`), each block has 16 weights a tap, and 16 outputs are
                // there.
                unsafe {
                    let pixel = if block.fit.apart { depthwise_pixel_apart } else { depthwise_pixel };
                    pixel(list.as_ptr(), block, &rounding, to, weights.as_ptr(), base, list.len());
                }
                if out.len() < LANES {
                    out.copy_from_slice(&whole[..out.len()]);
                }
            }
        }
    }
}

impl KernelSet for ArmNeon {
    fn name(&self) -> &'static str {
        "armv7-neon"
    }

    fn pack(&self, weights: &[i16], shape: WeightShape, zero_point: i8, bias: &mut [i32]) -> Weights {
        if !panels::fits(weights, shape.taps) {
            return Weights::Wide(generic::pack_groups(weights, shape));
        }
        let mut packed = panels::pack::<CHANNELS, 16>(weights, shape, zero_point.into(), bias);
        panels::keep_apart::<CHANNELS, 16>(&mut packed, shape);
        let ones = WeightShape { channels: 1, groups: 1, ..shape };
        packed.values.extend(panels::pack::<CHANNELS, 16>(&vec![1; shape.taps], ones, 0, &mut [0]).values);
        Weights::Narrow(packed)
    }

    fn pack_depthwise(&self, s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Weights {
        match panels::fits_in_parts(weights) {
            true => Weights::Narrow(panels::pack_depthwise(weights, zero_point, bias)),
            false => Weights::Wide(generic::pack_depthwise(weights, s.output[2])),
        }
    }

    fn scratch_len(&self, s: &ConvShape) -> usize {
        match s.is_depthwise() {
            true => taps::scratch_len(s),
            false => self.product_scratch_len(s.patch_len()),
        }
    }

    fn conv(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        match layer.weights {
            Weights::Narrow(panels) => self.narrow_conv(layer.with(panels.values.as_slice()), input, output, scratch),
            Weights::Wide(_) => generic::conv(layer.wide(), input, output, scratch),
        }
    }

    fn depthwise(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        match layer.weights {
            Weights::Narrow(panels) => self.narrow_depthwise(layer.with(panels.values.as_slice()), input, output, scratch),
            Weights::Wide(_) => generic::depthwise(layer.wide(), input, output),
        }
    }

    fn dense(&self, input: &[i8], zp: i8, weights: &Weights, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
        match weights {
            Weights::Narrow(panels) => self.narrow_dense(input, panels, bias, accumulators, scratch),
            Weights::Wide(w) => generic::dense(input, zp, w, bias, accumulators, scratch),
        }
    }
}
