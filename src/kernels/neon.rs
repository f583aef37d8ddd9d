//! NEON kernels for every aarch64: convolutions and products without dot product (Cortex-A53, A72).
//!
//! Knows no arithmetic of its own: sums are exact in i32, and what follows them is `quant`'s.
//!
//! Algorithm of the convolution, for [`PIXELS`] pixels and [`CHANNELS`] channels, 16 taps at a time:
//!
//! ```text
//! t[i] = x[i] * w[i] + x[i + 8] * w[i + 8]      8 lanes of i16: smull, smlal2
//! acc[i / 2] += t[i] + t[i + 1]                 4 lanes of i32: sadalp
//! ```
//!
//! Two products fit i16, since values are at least -128 and weights, by symmetry, at least -127: at most 32,512. Weights
//! outside -127..=127 are left to `generic`. Weights lie as `[channels / 8][taps / 16][8][16]`, so that a step reads 128 bytes in
//! order. As with the dot product, values enter as they are and the bias holds the zero point's share.

#![allow(clippy::needless_range_loop, reason = "an index names a register, and the same one in several arrays")]

use super::ConvShape;
use super::generic::{Epilogue, LANES};
use super::glue::{self, Addend};
use super::patches::{Rows, for_tiles, row};
use super::requant::{Outputs, Sums, for_reach};
use crate::quant::Clamp;
use core::arch::aarch64::*;
use core::arch::asm;

const PIXELS: usize = 2;
const CHANNELS: usize = 8;

/// Sums of one tile of `N` pixels, which begin with `begin`. `panel`: `[steps][8][16]`.
#[inline(always)]
fn tile<const N: usize>(rows: &Rows<'_, N>, panel: &[i8], begin: &[i32; CHANNELS]) -> [[int32x4_t; 2]; N] {
    let taps = rows.taps();
    let steps = taps.div_ceil(16);
    // A last step of at most eight taps takes half the multiplies.
    let half = usize::from((1..=8).contains(&(taps % 16)));
    assert!(panel.len() >= steps * 16 * CHANNELS, "a panel for all taps");
    let mut acc: [[int32x4_t; CHANNELS]; N] = core::array::from_fn(|_| apart(begin));
    // SAFETY: NEON is part of aarch64's baseline. Each step reads 16 values of each row, which may be read in whole loads, and
    // 128 bytes of the panel, which was checked to hold them.
    unsafe {
        for step in 0..steps - half {
            let x = core::array::from_fn(|p| vld1q_s8(rows.of(p).add(step * 16)));
            multiply(&mut acc, &x, panel.as_ptr().add(step * CHANNELS * 16));
        }
        if half == 1 {
            let last = steps - 1;
            for c in 0..CHANNELS {
                let w = vld1_s8(panel.as_ptr().add((last * CHANNELS + c) * 16));
                for p in 0..N {
                    let x = vld1_s8(rows.of(p).add(last * 16));
                    acc[p][c] = vpadalq_s16(acc[p][c], vmull_s8(x, w));
                }
            }
        }
        // Four channels' lanes added up at a time.
        let four = |a: &[int32x4_t; CHANNELS], i: usize| {
            here(vpaddq_s32(vpaddq_s32(a[i], a[i + 1]), vpaddq_s32(a[i + 2], a[i + 3])))
        };
        acc.map(|a| [four(&a, 0), four(&a, 4)])
    }
}

/// A value that is computed here and not where it is used, after the next tile: kept apart until then, its parts would take
/// four times the registers.
#[inline(always)]
fn here(value: int32x4_t) -> int32x4_t {
    let mut value = value;
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0:v} */", inout(vreg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Each value in the first lane of a register of its own, loaded anew for each pixel (see `requant::begin`).
#[inline(always)]
fn apart(values: &[i32; CHANNELS]) -> [int32x4_t; CHANNELS] {
    let (a, b, c, d, e, f, g, h);
    // SAFETY: eight words; the instructions are of aarch64's baseline and clear the other lanes.
    unsafe {
        asm!(
            "ldp {a:s}, {b:s}, [{at}]",
            "ldp {c:s}, {d:s}, [{at}, #8]",
            "ldp {e:s}, {f:s}, [{at}, #16]",
            "ldp {g:s}, {h:s}, [{at}, #24]",
            at = in(reg) values.as_ptr(),
            a = out(vreg) a, b = out(vreg) b, c = out(vreg) c, d = out(vreg) d,
            e = out(vreg) e, f = out(vreg) f, g = out(vreg) g, h = out(vreg) h,
            options(readonly, nostack, preserves_flags)
        );
    }
    [a, b, c, d, e, f, g, h]
}

/// One step of a tile: 16 taps of each pixel against each channel.
///
/// # Safety
/// `panel` points to 128 readable bytes.
#[inline(always)]
unsafe fn multiply<const N: usize>(acc: &mut [[int32x4_t; CHANNELS]; N], x: &[int8x16_t; N], panel: *const i8) {
    for c in 0..CHANNELS {
        // SAFETY: the caller's promise; NEON is part of aarch64's baseline.
        let w = unsafe { vld1q_s8(panel.add(c * 16)) };
        for p in 0..N {
            acc[p][c] = add_products(acc[p][c], x[p], w);
        }
    }
}

/// `acc[i]` plus four of the 16 products of `x` and `w`. In assembly, because the compiler moves all the multiplies of a tile to
/// its front and then has no registers left.
#[inline(always)]
fn add_products(acc: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    // SAFETY: instructions of aarch64's baseline; registers only.
    unsafe {
        asm!(
            "smull {t:v}.8h, {x:v}.8b, {w:v}.8b",
            "smlal2 {t:v}.8h, {x:v}.16b, {w:v}.16b",
            "sadalp {acc:v}.4s, {t:v}.8h",
            t = out(vreg) _, x = in(vreg) x, w = in(vreg) w, acc = inout(vreg) acc,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Sums of 16 channels from two panels of eight, or of eight from one.
#[inline(always)]
fn pair<const N: usize>(rows: &Rows<'_, N>, panels: &[i8], begin: &[i32; LANES], two: bool) -> [Sums; N] {
    let (low, high) = panels.split_at(rows.taps().div_ceil(16) * 16 * CHANNELS);
    let (begins, _) = begin.as_chunks::<CHANNELS>();
    let low = tile(rows, low, &begins[0]);
    // SAFETY: NEON is part of aarch64's baseline; registers only.
    let high = if two { tile(rows, high, &begins[1]) } else { unsafe { [[vdupq_n_s32(0); 2]; N] } };
    core::array::from_fn(|p| [low[p][0], low[p][1], high[p][0], high[p][1]])
}

/// A convolution that is not depthwise and has one group; see `generic::conv` for the arguments.
#[allow(clippy::too_many_arguments)]
pub(super) fn conv(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    for_reach!(e, SHORT_BY_XTN, conv_with::[](s, input, zero_point, weights, e, output, scratch));
}

fn conv_with<const REACH: u8>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i8],
    e: Epilogue<'_>,
    output: &mut [i8],
    scratch: &mut [i16],
) {
    let [oh, ow, oc] = s.output;
    let panels_len = 2 * s.patch_len().div_ceil(16) * 16 * CHANNELS;
    assert_eq!(output.len(), oh * ow * oc, "output length");
    let outputs = Outputs::<REACH>::new(&e);
    let whole_blocks = oc / LANES;
    for_tiles::<PIXELS>(s, input, zero_point, scratch, |pixel, pixels, rows| {
        let (out, outputs) = (&mut output[pixel * oc..(pixel + pixels) * oc], outputs);
        let whole = if pixels == PIXELS { whole_blocks } else { 0 };
        for i in 0..whole {
            let (panels, block) = (&weights[i * panels_len..][..panels_len], &e.blocks[i]);
            let sums = pair(&rows, panels, &block.begin, true);
            // SAFETY: `out` has all pixels of the tile, and `i` is one of the whole blocks.
            unsafe { outputs.store_whole(sums, block, out, oc, i * LANES) };
        }
        if pixels == PIXELS && oc % LANES == CHANNELS {
            let block = &e.blocks[whole];
            let sums = pair(&rows, &weights[whole * panels_len..], &block.begin, false);
            // SAFETY: `out` has all pixels of the tile, and the last block's eight channels.
            unsafe { outputs.store_eight(sums, block, out, oc, whole * LANES) };
            return;
        }
        for i in whole..e.blocks.len() {
            let panels = &weights[i * panels_len..weights.len().min((i + 1) * panels_len)];
            let block = &e.blocks[i];
            let sums = pair(&rows, panels, &block.begin, oc - i * LANES > CHANNELS);
            outputs.store_part(sums, block, out, oc, i * LANES);
        }
    });
}

/// A fully connected layer up to its sums; `bias` holds the zero point's share.
pub(super) fn dense(input: &[i8], weights: &[i8], bias: &[i32], sums: &mut [i32], scratch: &mut [i16]) {
    let row = row(input, scratch);
    let panels = weights.chunks(2 * input.len().div_ceil(16) * 16 * CHANNELS);
    for ((sums, bias), panels) in sums.chunks_mut(LANES).zip(bias.chunks(LANES)).zip(panels) {
        let [acc] = pair(&row, panels, &[0; LANES], sums.len() > CHANNELS);
        store_sums(acc, bias, sums);
    }
}

/// `sums = acc + bias`, at most 16 of them.
#[inline(always)]
pub(super) fn store_sums(acc: Sums, bias: &[i32], sums: &mut [i32]) {
    let mut whole = [0; LANES];
    for (q, acc) in acc.into_iter().enumerate() {
        // SAFETY: the array holds 16 values, written four at a time.
        unsafe { vst1q_s32(whole.as_mut_ptr().add(4 * q), acc) };
    }
    for ((sum, bias), acc) in sums.iter_mut().zip(bias).zip(whole) {
        *sum = acc.wrapping_add(*bias);
    }
}

/// See `glue::add`.
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
    glue::add(rest_a, pa, rest_b, pb, clamp, rest);
}
