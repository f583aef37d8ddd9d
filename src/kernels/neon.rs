//! NEON kernels for every aarch64: convolutions without dot product (Cortex-A53, A72), depthwise 3x3 and 5x5.
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
//!
//! Depthwise goes over the picture one block of 16 channels at a time, its 9 or 25 weights in registers, two taps a sum.

use super::generic::{self, Epilogue, LANES, lanes, requant_lanes};
use super::{ConvShape, Weights};
use core::arch::aarch64::*;

pub(super) const PIXELS: usize = 2;
const CHANNELS: usize = 8;

/// Whether two products of such weights fit i16.
pub(super) fn fits(weights: &[i16]) -> bool {
    weights.iter().all(|w| (-127..=127).contains(w))
}

/// Packs `[channels][taps]` weights that [`fits`] allows as `[channels / LANES][taps / DEPTH][LANES][DEPTH]`, zero-filled, and
/// takes the zero point's share off `bias`.
pub(super) fn pack<const LANES: usize, const DEPTH: usize>(
    weights: &[i16],
    channels: usize,
    taps: usize,
    zero_point: i8,
    bias: &mut [i32],
) -> Weights {
    let steps = taps.div_ceil(DEPTH);
    let mut packed = vec![0i8; channels.div_ceil(LANES) * steps * LANES * DEPTH];
    for (c, row) in weights.chunks_exact(taps).enumerate() {
        for (t, &w) in row.iter().enumerate() {
            packed[((c / LANES * steps + t / DEPTH) * LANES + c % LANES) * DEPTH + t % DEPTH] = w as i8;
        }
        let sum: i32 = row.iter().map(|&w| w as i32).sum();
        bias[c] = bias[c].wrapping_sub(sum.wrapping_mul(zero_point as i32));
    }
    Weights::Narrow(packed)
}

/// Sums of one tile. `rows`: the first tap of each pixel in `values`; `panel`: `[steps][8][16]`.
#[inline(always)]
fn tile(values: &[i8], rows: [usize; PIXELS], taps: usize, panel: &[i8]) -> [[i32; CHANNELS]; PIXELS] {
    let steps = taps.div_ceil(16);
    assert!(panel.len() >= steps * 16 * CHANNELS, "a panel for all taps");
    assert!(rows.iter().all(|r| r + taps <= values.len()), "all taps of all pixels");
    let whole = taps / 16;
    // SAFETY: NEON is part of aarch64's baseline. Whole steps read 16 values of each row, all within `taps`, and 128 bytes of
    // the panel, which was checked to hold them; the last, partial step reads its values from a copy.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); CHANNELS]; PIXELS];
        for step in 0..whole {
            let x = core::array::from_fn(|p| vld1q_s8(values.as_ptr().add(rows[p] + step * 16)));
            multiply(&mut acc, &x, panel.as_ptr().add(step * CHANNELS * 16));
        }
        if whole < steps {
            let x = core::array::from_fn(|p| {
                let mut last = [0i8; 16];
                last[..taps % 16].copy_from_slice(&values[rows[p] + whole * 16..][..taps % 16]);
                vld1q_s8(last.as_ptr())
            });
            multiply(&mut acc, &x, panel.as_ptr().add(whole * CHANNELS * 16));
        }
        acc.map(|acc| acc.map(|a| vaddvq_s32(a)))
    }
}

/// One step of a tile: 16 taps of each pixel against each channel.
///
/// # Safety
/// `panel` points to 128 readable bytes.
#[inline(always)]
unsafe fn multiply(acc: &mut [[int32x4_t; CHANNELS]; PIXELS], x: &[int8x16_t; PIXELS], panel: *const i8) {
    for c in 0..CHANNELS {
        // SAFETY: the caller's promise; NEON is part of aarch64's baseline.
        unsafe {
            let w = vld1q_s8(panel.add(c * 16));
            for p in 0..PIXELS {
                let pairs = vmull_s8(vget_low_s8(x[p]), vget_low_s8(w));
                acc[p][c] = vpadalq_s16(acc[p][c], vmlal_high_s8(pairs, x[p], w));
            }
        }
    }
}

/// A convolution that is not depthwise and has one group; see [`generic::conv`] for the arguments.
#[allow(clippy::too_many_arguments)]
pub(super) fn conv(
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
    for_tiles::<PIXELS>(s, input, zero_point, scratch, |pixel, pixels, values, rows| {
        let panel_len = taps.div_ceil(16) * 16 * CHANNELS;
        // Two panels make a row of 16 for the requantisation.
        for (block, pair) in weights.chunks(2 * panel_len).enumerate() {
            let mut sums = [[0i32; LANES]; PIXELS];
            for (half, panel) in pair.chunks_exact(panel_len).enumerate() {
                for (sums, tile) in sums.iter_mut().zip(tile(values, rows, taps, panel)) {
                    sums[half * CHANNELS..][..CHANNELS].copy_from_slice(&tile);
                }
            }
            let first = block * LANES;
            let n = LANES.min(oc - first);
            for (p, sums) in sums.iter().enumerate().take(pixels) {
                generic::store(sums, &mut output[(pixel + p) * oc + first..][..n], epilogue, first);
            }
        }
    });
}

/// Calls `f(first pixel, pixels, values, where each pixel's taps begin)` for every tile of `N` output pixels. Pointwise
/// convolutions read their input in place; others gather patches into `scratch`, with the zero point as padding. A last tile
/// that is not full repeats its last pixel.
#[inline(always)]
pub(super) fn for_tiles<const N: usize>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    scratch: &mut [i16],
    mut f: impl FnMut(usize, usize, &[i8], [usize; N]),
) {
    let (pixels_all, ow, taps) = (s.output[0] * s.output[1], s.output[1], s.patch_len());
    let pointwise = s.is_pointwise();
    let patches = bytes(scratch);
    for pixel in (0..pixels_all).step_by(N) {
        let pixels = N.min(pixels_all - pixel);
        let nth = |p: usize| p.min(pixels - 1);
        if pointwise {
            f(pixel, pixels, input, core::array::from_fn(|p| (pixel + nth(p)) * taps));
            continue;
        }
        for p in 0..pixels {
            gather(s, input, zero_point, (pixel + p) / ow, (pixel + p) % ow, &mut patches[p * taps..][..taps]);
        }
        f(pixel, pixels, patches, core::array::from_fn(|p| nth(p) * taps));
    }
}

/// The plan's scratch, seen as bytes.
fn bytes(scratch: &mut [i16]) -> &mut [i8] {
    // SAFETY: i16 has no invalid bytes and a stricter alignment; twice as many elements of half the size.
    unsafe { core::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast(), 2 * scratch.len()) }
}

/// The values under the kernel at output (`oy`, `ox`); padding is the zero point.
#[inline(always)]
fn gather(s: &ConvShape, input: &[i8], zero_point: i8, oy: usize, ox: usize, patch: &mut [i8]) {
    let [h, w, c] = s.input;
    for (tap, out) in patch.chunks_exact_mut(c).enumerate() {
        let (ky, kx) = (tap / s.kernel[1], tap % s.kernel[1]);
        let y = (oy * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.pad[0]);
        let x = (ox * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.pad[1]);
        match y < h && x < w {
            true => out.copy_from_slice(&input[(y * w + x) * c..][..c]),
            false => out.fill(zero_point),
        }
    }
}

/// Depthwise; see [`generic::depthwise`]. 3x3 and 5x5 blocks of 16 channels here, everything else there.
pub(super) fn depthwise(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i16],
    epilogue: Epilogue<'_>,
    output: &mut [i8],
) {
    let channels = s.input[2];
    let whole = channels % LANES == 0 && fits(weights);
    match s.kernel {
        [3, 3] if whole => depthwise_blocks::<3, 9>(s, input, zero_point, weights, epilogue, output),
        [5, 5] if whole => depthwise_blocks::<5, 25>(s, input, zero_point, weights, epilogue, output),
        _ => generic::depthwise(s, input, zero_point, weights, epilogue, output),
    }
}

/// `SIDE`: rows and columns of the kernel, `TAPS`: its square.
fn depthwise_blocks<const SIDE: usize, const TAPS: usize>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    weights: &[i16],
    epilogue: Epilogue<'_>,
    output: &mut [i8],
) {
    let [h, w, c] = s.input;
    let [oh, ow, _] = s.output;
    const { assert!(SIDE * SIDE == TAPS) };
    assert_eq!((input.len(), output.len(), weights.len()), (h * w * c, oh * ow * c, TAPS * c), "lengths of the shape");
    for first in (0..c).step_by(LANES) {
        let narrow: [[i8; LANES]; TAPS] = core::array::from_fn(|t| lanes(weights, t * c + first).map(|w| w as i8));
        let mut bias = lanes::<i32>(epilogue.bias, first);
        for l in 0..LANES {
            let sum: i32 = narrow.iter().map(|tap| tap[l] as i32).sum();
            bias[l] = bias[l].wrapping_sub(zero_point as i32 * sum);
        }
        let scale = lanes::<f32>(epilogue.scale, first);
        let offsets: [usize; TAPS] = core::array::from_fn(|t| (t / SIDE * s.dilation[0] * w + t % SIDE * s.dilation[1]) * c);
        // SAFETY: NEON is part of aarch64's baseline; each array holds 16 bytes.
        let (taps, padding) = unsafe { (narrow.map(|tap| vld1q_s8(tap.as_ptr())), vdupq_n_s8(zero_point)) };
        for oy in 0..oh {
            let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
            // Where each row of the kernel lies, and whether it lies in the picture.
            let rows: [usize; SIDE] = core::array::from_fn(|k| y0.wrapping_add(k * s.dilation[0]));
            let rows_inside = rows.iter().all(|y| *y < h);
            for ox in 0..ow {
                let x0 = (ox * s.stride[1]).wrapping_sub(s.pad[1]);
                let columns: [usize; SIDE] = core::array::from_fn(|k| x0.wrapping_add(k * s.dilation[1]));
                let acc = if rows_inside && columns[0] < w && columns[SIDE - 1] < w {
                    let base = (y0 * w + x0) * c + first;
                    debug_assert!(base + offsets[TAPS - 1] + LANES <= input.len());
                    // SAFETY: first and last tap lie inside the picture, so all do; 16 channels from `first` on exist.
                    sum(&taps, |t| unsafe { vld1q_s8(input.as_ptr().add(base + offsets[t])) })
                } else {
                    let mut x = [padding; TAPS];
                    for (ky, &y) in rows.iter().enumerate().filter(|(_, y)| **y < h) {
                        for (kx, &column) in columns.iter().enumerate().filter(|(_, x)| **x < w) {
                            // SAFETY: the pixel lies inside the picture; 16 channels from `first` on exist.
                            x[ky * SIDE + kx] = unsafe { vld1q_s8(input.as_ptr().add((y * w + column) * c + first)) };
                        }
                    }
                    sum(&taps, |t| x[t])
                };
                let out = requant_lanes(&acc, &bias, &scale, epilogue.clamp);
                output[(oy * ow + ox) * c + first..][..LANES].copy_from_slice(&out);
            }
        }
    }
}

/// Sum over taps of value times weight, 16 channels at once, two taps a step.
#[inline(always)]
fn sum<const TAPS: usize>(taps: &[int8x16_t; TAPS], x: impl Fn(usize) -> int8x16_t) -> [i32; LANES] {
    // SAFETY: NEON is part of aarch64's baseline; `sums` holds the 16 values that are written.
    unsafe {
        let mut acc = [vdupq_n_s32(0); 4];
        for t in (0..TAPS).step_by(2) {
            let a = x(t);
            let mut low = vmull_s8(vget_low_s8(a), vget_low_s8(taps[t]));
            let mut high = vmull_high_s8(a, taps[t]);
            if t + 1 < TAPS {
                let b = x(t + 1);
                low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(taps[t + 1]));
                high = vmlal_high_s8(high, b, taps[t + 1]);
            }
            acc[0] = vaddw_s16(acc[0], vget_low_s16(low));
            acc[1] = vaddw_high_s16(acc[1], low);
            acc[2] = vaddw_s16(acc[2], vget_low_s16(high));
            acc[3] = vaddw_high_s16(acc[3], high);
        }
        let mut sums = [0; LANES];
        for (q, acc) in acc.into_iter().enumerate() {
            vst1q_s32(sums.as_mut_ptr().add(4 * q), acc);
        }
        sums
    }
}
