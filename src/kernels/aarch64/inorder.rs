//! NEON kernels for aarch64 cores that execute in order (Cortex-A53, Cortex-A35): the arithmetic of
//! `neon`, scheduled differently.
//!
//! Such a core stalls at an instruction whose operands are not ready, and a multiply takes several
//! cycles. So eight accumulators are interleaved. For each step of four taps x0 x1 x2 x3 and each
//! four channels a b c d:
//!
//! ```text
//! x   x0 x1  x0 x1  x0 x1  x0 x1   x2 x3  x2 x3  x2 x3  x2 x3     laid out once a tile, for all
//! its panels w   a0 a1  b0 b1  c0 c1  d0 d1   a2 a3  b2 b3  c2 c3  d2 d3 t[k]  = x * w, lower
//! halves      eight times smull t[k] += x * w, upper halves      eight times smlal2 acc[k][i] +=
//! t[k][2 i] + t[k][2 i + 1]      eight times sadalp, and between them the loads of what comes next
//! ```
//!
//! Laying the values out costs a sixth of one panel's multiplies and saves rearranging them in
//! every panel. It does not pay on out-of-order cores, which `neon` is for. Panels and tiles: see
//! `tiles`.

use super::requant::{Sums, for_reach, load};
use super::tiles::{Multiply, PIXELS, STEP, convolve, product};
use crate::kernels::capabilities::capabilities;
use crate::kernels::elementwise::Addend;
use crate::kernels::epilogue::LANES;
use crate::kernels::patches::Rows;
use crate::kernels::{ConvShape, KernelSet, Layer, Panels, WeightShape, Weights, generic, panels};
use crate::quant::Clamp;
use core::arch::aarch64::*;
use core::arch::asm;

/// Bytes after the last panel: its last step loads one step ahead, which is not used.
const SLACK: usize = STEP;
/// Bytes of one pixel's four taps as they are laid out.
const LAID: usize = 16;

/// Whether this core executes in order, by its part number, which Linux (4.11 and later) lets
/// programs read.
pub(super) fn runs_here() -> bool {
    /// The kernel lets programs read the identification registers (Linux, asm/hwcap.h).
    const HWCAP_CPUID: u64 = 1 << 11;
    /// Cortex-A53 and Cortex-A35 (their Technical Reference Manuals, MIDR_EL1).
    const IN_ORDER: [u64; 2] = [0xd03, 0xd04];
    const ARM: u64 = 0x41;
    if capabilities().is_none_or(|bits| bits & HWCAP_CPUID == 0) {
        return false;
    }
    let midr: u64;
    // SAFETY: the kernel answers for the register, as its capability says.
    unsafe { asm!("mrs {}, midr_el1", out(reg) midr, options(pure, nomem, nostack, preserves_flags)) };
    midr >> 24 == ARM && IN_ORDER.contains(&(midr >> 4 & 0xfff))
}

/// Packs weights that `panels::fits` allows, and takes the zero point's share off `bias`.
fn pack(weights: &[i16], shape: WeightShape, zero_point: i8, bias: &mut [i32]) -> Panels {
    let mut packed = panels::pack::<LANES, 4>(weights, shape, zero_point.into(), bias);
    for four in packed.values.as_chunks_mut::<16>().0 {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = *four;
        *four = [a0, a1, b0, b1, c0, c1, d0, d1, a2, a3, b2, b3, c2, c3, d2, d3];
    }
    panels::keep_apart::<LANES, 4>(&mut packed, shape);
    packed.values.resize(packed.values.len() + SLACK, 0);
    packed
}

/// Bytes of a tile of `taps` taps once laid out: whole loads of 16, plus one step that is loaded
/// ahead and not used.
const fn room(taps: usize) -> usize {
    (taps.next_multiple_of(16) / 4 + 1) * PIXELS * LAID
}

/// Multiplies eight products an instruction, eight accumulators side by side.
struct Interleaved;

/// The products of some accumulators with one step: of each its number, its temporary's, its
/// values' and its weights', and what is done after it. `apart`: where two weights of -128 meet,
/// whose products do not fit i16 together.
macro_rules! products {
    (together: $($acc:literal $t:literal $x:literal $w:literal $after:literal),+ $(,)?) => {
        concat!(
            $("smull v", $t, ".8h, v", $x, ".8b, v", $w, ".8b\n",)+
            $("smlal2 v", $t, ".8h, v", $x, ".16b, v", $w, ".16b\n",)+
            $("sadalp v", $acc, ".4s, v", $t, ".8h\n", $after,)+
        )
    };
    (apart: $($acc:literal $t:literal $x:literal $w:literal $after:literal),+ $(,)?) => {
        concat!(
            $("smull v", $t, ".8h, v", $x, ".8b, v", $w, ".8b\n",)+
            $("sadalp v", $acc, ".4s, v", $t, ".8h\n",)+
            $("smull2 v", $t, ".8h, v", $x, ".16b, v", $w, ".16b\n",)+
            $("sadalp v", $acc, ".4s, v", $t, ".8h\n", $after,)+
        )
    };
}

/// A tile of four pixels and 16 channels: v0 to v3 weights, v4 to v7 values, v8 to v15 products,
/// v16 to v31 accumulators.
macro_rules! whole {
    ($way:ident) => {
        concat!(
            "ldp q0, q1, [{w}]\n ldp q2, q3, [{w}, #32]\n ldp q4, q5, [{x}]\n ldp q6, q7, [{x}, #32]\n",
            "ldp q16, q17, [{begin}]\n ldp q18, q19, [{begin}, #32]\n ldp q20, q21, [{begin}]\n ldp q22, q23, [{begin}, #32]\n",
            "ldp q24, q25, [{begin}]\n ldp q26, q27, [{begin}, #32]\n ldp q28, q29, [{begin}]\n ldp q30, q31, [{begin}, #32]\n",
            "2:\n",
            products!(
                $way: 16 8 4 0 "", 17 9 4 1 "", 18 10 4 2 "", 19 11 4 3 "ldr q4, [{x}, #64]\n",
                20 12 5 0 "", 21 13 5 1 "ldr q5, [{x}, #80]\n", 22 14 5 2 "", 23 15 5 3 "",
            ),
            products!(
                $way: 24 8 6 0 "ldr q0, [{w}, #64]\n", 25 9 6 1 "ldr q1, [{w}, #80]\n", 26 10 6 2 "ldr q2, [{w}, #96]\n",
                27 11 6 3 "ldr q3, [{w}, #112]\n", 28 12 7 0 "ldr q6, [{x}, #96]\n", 29 13 7 1 "ldr q7, [{x}, #112]\n",
                30 14 7 2 "add {w}, {w}, #64\n add {x}, {x}, #64\n subs {steps}, {steps}, #1\n", 31 15 7 3 "",
            ),
            "b.ne 2b",
        )
    };
}

/// A tile of four pixels and eight channels: v0 and v1 weights, v4 to v7 values, v8 to v15
/// products, v16 to v23 accumulators.
macro_rules! half {
    ($way:ident) => {
        concat!(
            "ldp q0, q1, [{w}]\n ldp q4, q5, [{x}]\n ldp q6, q7, [{x}, #32]\n",
            "ldp q16, q17, [{begin}]\n ldp q18, q19, [{begin}]\n ldp q20, q21, [{begin}]\n ldp q22, q23, [{begin}]\n",
            "2:\n",
            products!(
                $way: 16 8 4 0 "", 17 9 4 1 "ldr q4, [{x}, #64]\n", 18 10 5 0 "", 19 11 5 1 "ldr q5, [{x}, #80]\n",
                20 12 6 0 "ldr q0, [{w}, #64]\n", 21 13 6 1 "ldr q6, [{x}, #96]\n ldr q1, [{w}, #80]\n",
                22 14 7 0 "ldr q7, [{x}, #112]\n add {w}, {w}, #64\n add {x}, {x}, #64\n subs {steps}, {steps}, #1\n", 23 15 7 1 "",
            ),
            "b.ne 2b",
        )
    };
}

/// A tile of four pixels and four channels: v0 weights, v4 to v7 values, v8 to v11 products, v16 to
/// v19 accumulators.
macro_rules! quarter {
    ($way:ident) => {
        concat!(
            "ldr q0, [{w}]\n ldp q4, q5, [{x}]\n ldp q6, q7, [{x}, #32]\n",
            "ldr q16, [{begin}]\n ldr q17, [{begin}]\n ldr q18, [{begin}]\n ldr q19, [{begin}]\n",
            "2:\n",
            products!(
                $way: 16 8 4 0 "ldr q4, [{x}, #64]\n", 17 9 5 0 "ldr q5, [{x}, #80]\n", 18 10 6 0 "ldr q6, [{x}, #96]\n",
                19 11 7 0 "ldr q7, [{x}, #112]\n ldr q0, [{w}, #64]\n add {w}, {w}, #64\n add {x}, {x}, #64\n subs {steps}, {steps}, #1\n",
            ),
            "b.ne 2b",
        )
    };
}

/// A tile of two pixels and 16 channels: v0 to v3 weights, v4 and v5 values, v8 to v15 products,
/// v16 to v23 accumulators.
macro_rules! pair {
    ($way:ident) => {
        concat!(
            "ldp q0, q1, [{w}]\n ldp q2, q3, [{w}, #32]\n ldp q4, q5, [{x}]\n",
            "ldp q16, q17, [{begin}]\n ldp q18, q19, [{begin}, #32]\n ldp q20, q21, [{begin}]\n ldp q22, q23, [{begin}, #32]\n",
            "2:\n",
            products!(
                $way: 16 8 4 0 "", 17 9 4 1 "", 18 10 4 2 "", 19 11 4 3 "ldr q4, [{x}, #32]\n",
                20 12 5 0 "ldr q0, [{w}, #64]\n", 21 13 5 1 "ldr q1, [{w}, #80]\n", 22 14 5 2 "ldr q2, [{w}, #96]\n",
                23 15 5 3 "ldr q3, [{w}, #112]\n ldr q5, [{x}, #48]\n add {w}, {w}, #64\n add {x}, {x}, #32\n subs {steps}, {steps}, #1\n",
            ),
            "b.ne 2b",
        )
    };
}

/// One pixel and 16 channels: v0 to v3 weights, v4 values, v8 to v11 products, v16 to v19
/// accumulators.
macro_rules! single {
    ($way:ident) => {
        concat!(
            "ldp q0, q1, [{w}]\n ldp q2, q3, [{w}, #32]\n ldr q4, [{x}]\n",
            "ldp q16, q17, [{begin}]\n ldp q18, q19, [{begin}, #32]\n",
            "2:\n",
            products!(
                $way: 16 8 4 0 "ldr q0, [{w}, #64]\n", 17 9 4 1 "ldr q1, [{w}, #80]\n", 18 10 4 2 "ldr q2, [{w}, #96]\n",
                19 11 4 3 "ldr q3, [{w}, #112]\n ldr q4, [{x}, #16]\n add {w}, {w}, #64\n add {x}, {x}, #16\n subs {steps}, {steps}, #1\n",
            ),
            "b.ne 2b",
        )
    };
}

impl Interleaved {
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
        if steps == 0 {
            return [load(accumulators); N];
        }
        // SAFETY: registers only.
        let mut acc = unsafe { [[vdupq_n_s32(0); 4]; N] };
        let begin = accumulators.as_ptr();
        macro_rules! run {
            ($text:expr, $($register:tt $p:literal $q:literal)+) => {
                // SAFETY: 16 words to begin with; for each four taps a step of the panel and of the
                // rows, which were laid out, and one behind the last of both: `pack`'s slack and
                // `room`. The instructions are of aarch64's baseline.
                unsafe {
                    asm!(
                        $text,
                        w = inout(reg) panel => _, x = inout(reg) rows.of(0) => _, steps = inout(reg) steps => _, begin = in(reg) begin,
                        $(out($register) acc[$p][$q],)+
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                        out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                        options(readonly, nostack)
                    )
                }
            };
        }
        macro_rules! either {
            ($text:ident, $($to:tt)+) => {
                if APART { run!($text!(apart), $($to)+) } else { run!($text!(together), $($to)+) }
            };
        }
        match (N, QUADS) {
            (1, _) => either!(single, "v16" 0 0 "v17" 0 1 "v18" 0 2 "v19" 0 3),
            (2, _) => either!(pair, "v16" 0 0 "v17" 0 1 "v18" 0 2 "v19" 0 3 "v20" 1 0 "v21" 1 1 "v22" 1 2 "v23" 1 3),
            (_, 2) => either!(half, "v16" 0 0 "v17" 0 1 "v18" 1 0 "v19" 1 1 "v20" 2 0 "v21" 2 1 "v22" 3 0 "v23" 3 1),
            (_, 1) => either!(quarter, "v16" 0 0 "v17" 1 0 "v18" 2 0 "v19" 3 0),
            _ => either!(
                whole, "v16" 0 0 "v17" 0 1 "v18" 0 2 "v19" 0 3 "v20" 1 0 "v21" 1 1 "v22" 1 2 "v23" 1 3
                "v24" 2 0 "v25" 2 1 "v26" 2 2 "v27" 2 3 "v28" 3 0 "v29" 3 1 "v30" 3 2 "v31" 3 3
            ),
        }
        acc
    }
}

impl Multiply for Interleaved {
    const SLACK: usize = SLACK;

    fn room(taps: usize) -> usize {
        room(taps)
    }

    /// `[taps / 4][N][16]`, as the module's head says.
    #[inline(always)]
    fn arrange<'r, const N: usize>(rows: Rows<'r, N>, room: &'r mut [i8]) -> Rows<'r, N> {
        let taps = rows.taps();
        // Four steps for each 16 taps, and one behind the last.
        assert!(room.len() >= (taps.next_multiple_of(16) / 4 + 1) * N * LAID, "room for the tile");
        let laid = room.as_mut_ptr();
        for first in (0..taps).step_by(16) {
            // SAFETY: rows may be read in whole loads of 16 from each 16th tap on, for which there
            // is room for four steps.
            unsafe {
                let x: [int16x8_t; N] = core::array::from_fn(|p| vreinterpretq_s16_s8(vld1q_s8(rows.of(p).add(first))));
                let twice: [[int32x4_t; 2]; N] =
                    x.map(|x| [vreinterpretq_s32_s16(vzip1q_s16(x, x)), vreinterpretq_s32_s16(vzip2q_s16(x, x))]);
                for half in 0..2 {
                    for (p, twice) in twice.iter().enumerate() {
                        let to = laid.add(((first / 4 + 2 * half) * N + p) * LAID).cast::<i32>();
                        vst1q_s32(to, vzip1q_s32(twice[half], twice[half]));
                        vst1q_s32(to.byte_add(N * LAID), vzip2q_s32(twice[half], twice[half]));
                    }
                }
            }
        }
        Rows::laid_out(room, taps)
    }

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

/// NEON for cores that run instructions in order; every aarch64 CPU can run it.
#[derive(Debug)]
pub(super) struct InOrder;

impl KernelSet for InOrder {
    fn name(&self) -> &'static str {
        "aarch64-neon-inorder"
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

    fn product_scratch_len(&self, taps: usize) -> usize {
        generic::scratch_len(taps) + room(taps) / 2
    }

    fn conv(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Weights::Narrow(panels) = layer.weights else { return generic::conv(layer.wide(), input, output, scratch) };
        let layer = layer.with(panels);
        for_reach!(layer.epilogue, BY_UZP, convolve::[Interleaved](layer, input, output, scratch));
    }

    /// By lists of taps alone: the kernel for squares makes an in-order core wait.
    fn depthwise(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Weights::Narrow(panels) = layer.weights else { return generic::depthwise(layer.wide(), input, output) };
        super::depthwise_any::depthwise(layer.with(panels.values.as_slice()), input, output, scratch, |_| true);
    }

    fn dense(&self, input: &[i8], zp: i8, weights: &Weights, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
        match weights {
            Weights::Narrow(panels) => product::<Interleaved>(input, panels, bias, accumulators, scratch),
            Weights::Wide(w) => generic::dense(input, zp, w, bias, accumulators, scratch),
        }
    }

    fn add(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
        super::neon::add(a, pa, b, pb, clamp, output);
    }
}
