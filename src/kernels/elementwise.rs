//! Operators between convolutions: additions, multiplications, averages, table lookups, and moving
//! channels. No heap, core only; the arithmetic is that of `quant`.

use super::ConvShape;
use super::epilogue::LANES;
use crate::quant::{Clamp, add_rndne, requant_rndne};

/// One addend of [`add`]: zero point and s_in / s_out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Addend {
    /// Zero point of this input.
    pub zero_point: i8,
    /// Its scale over the output's scale.
    pub ratio: f32,
}

/// Adds two tensors element by element. Panics if the lengths differ.
#[inline(always)]
pub fn add(a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
    assert!(a.len() == b.len() && a.len() == output.len(), "addends and sum differ in length");
    for ((out, &a), &b) in output.iter_mut().zip(a).zip(b) {
        *out = add_rndne(a, pa.zero_point, pa.ratio, b, pb.zero_point, pb.ratio, clamp);
    }
}

/// Multiplies two tensors: `requant((a - za) * (b - zb), scale)`, scale = s_a * s_b / s_out.
///
/// `b` is as long as `a`, or one pixel that multiplies each of `a`'s. Panics if the lengths do not
/// fit.
pub fn multiply(a: &[i8], b: &[i8], zero_points: [i8; 2], scale: f32, clamp: Clamp, output: &mut [i8]) {
    assert!(a.len() == output.len() && a.len().is_multiple_of(b.len().max(1)), "factors and product do not fit");
    let [za, zb] = zero_points.map(i32::from);
    for (out, a) in output.chunks_exact_mut(b.len()).zip(a.chunks_exact(b.len())) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = requant_rndne((a as i32 - za) * (b as i32 - zb), scale, clamp);
        }
    }
}

/// A factor and an addend for each channel: `round(f32(input - zero_point) * factor + addend)`, one
/// multiply and one add.
///
/// `lines`: factor (times s_in / s_out) and addend (over s_out) of each channel. Panics if the
/// lengths do not fit.
pub fn affine(input: &[i8], zero_point: i8, lines: &[[f32; 2]], clamp: Clamp, output: &mut [i8]) {
    assert!(input.len() == output.len() && input.len().is_multiple_of(lines.len().max(1)), "whole pixels");
    for (out, input) in output.chunks_exact_mut(lines.len()).zip(input.chunks_exact(lines.len())) {
        for ((out, &v), [factor, addend]) in out.iter_mut().zip(input).zip(lines) {
            *out = clamp.round((v as i32 - zero_point as i32) as f32 * factor + addend);
        }
    }
}

/// Any function of one value: `table[q as u8]`. Panics if the lengths differ.
pub fn map(input: &[i8], table: &[i8; 256], output: &mut [i8]) {
    assert_eq!(input.len(), output.len(), "input and output differ in length");
    for (out, &v) in output.iter_mut().zip(input) {
        *out = table[v as u8 as usize];
    }
}

/// Puts a tensor's channels, mapped, into those of a wider one from `at` on: one part of a
/// concatenation.
///
/// `input`: `[pixels][channels]`, `output`: `[pixels][all]`. Panics if they do not fit.
pub fn place_channels(input: &[i8], channels: usize, table: &[i8; 256], all: usize, at: usize, output: &mut [i8]) {
    assert_eq!(input.len() / channels, output.len() / all, "pixels");
    for (out, input) in output.chunks_exact_mut(all).zip(input.chunks_exact(channels)) {
        map(input, table, &mut out[at..at + channels]);
    }
}

/// Takes the channels from `at` on out of a tensor of `all`: `output`: `[pixels][channels]`. Panics
/// if they do not fit.
pub fn take_channels(input: &[i8], all: usize, at: usize, channels: usize, output: &mut [i8]) {
    assert_eq!(input.len() / all, output.len() / channels, "pixels");
    for (out, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(all)) {
        out.copy_from_slice(&input[at..at + channels]);
    }
}

/// Interleaves the groups of channels: channel `c` of group `g` becomes channel `c * groups + g`
/// (Zhang et al. 2018, ShuffleNet). Panics if the lengths differ or are no whole pixels.
pub fn shuffle_channels(input: &[i8], channels: usize, groups: usize, output: &mut [i8]) {
    assert!(input.len() == output.len() && channels.is_multiple_of(groups), "shuffled lengths");
    for (out, input) in output.chunks_exact_mut(channels).zip(input.chunks_exact(channels)) {
        for (g, group) in input.chunks_exact(channels / groups).enumerate() {
            for (c, &v) in group.iter().enumerate() {
                out[c * groups + g] = v;
            }
        }
    }
}

/// Surrounds an image with `value`. `input`: rows, columns, channels of the input; `before`: rows
/// above and columns to the left; `output`: rows and columns of the result. Panics if a length is
/// off.
pub fn pad(values: &[i8], input: [usize; 3], before: [usize; 2], output: [usize; 2], value: i8, padded: &mut [i8]) {
    let [h, w, c] = input;
    assert!(values.len() == h * w * c && padded.len() == output[0] * output[1] * c, "lengths of the shape");
    padded.fill(value);
    for (y, row) in values.chunks_exact(w * c).enumerate() {
        let at = ((y + before[0]) * output[1] + before[1]) * c;
        padded[at..at + w * c].copy_from_slice(row);
    }
}

/// Average over all pixels: `requant(sum_p (input[p][c] - zero_point), scale)`, scale = s_in /
/// (s_out * pixels).
///
/// `input`: `[pixels][channels]`, `output`: `[channels]`. Panics if the lengths do not divide.
pub fn global_average(input: &[i8], zero_point: i8, scale: f32, clamp: Clamp, output: &mut [i8]) {
    let channels = output.len();
    assert_eq!(input.len() % channels.max(1), 0, "whole pixels");
    let pixels = (input.len() / channels.max(1)) as i32;
    for (first, out) in output.chunks_mut(LANES).enumerate() {
        let mut acc = [-pixels * zero_point as i32; LANES];
        for pixel in input.chunks_exact(channels) {
            for (acc, &v) in acc.iter_mut().zip(&pixel[first * LANES..]) {
                *acc += v as i32;
            }
        }
        for (out, acc) in out.iter_mut().zip(acc) {
            *out = requant_rndne(acc, scale, clamp);
        }
    }
}

/// As [`global_average`], of a function: `requant(sum_p table[input[p][c] as u8], scale)`. Values
/// of the table lie within 2^15, so that accumulators of up to 2^16 pixels fit i32. Panics if the
/// lengths do not divide.
pub fn global_average_of(input: &[i8], table: &[i32; 256], scale: f32, clamp: Clamp, output: &mut [i8]) {
    let channels = output.len();
    assert_eq!(input.len() % channels.max(1), 0, "whole pixels");
    for (c, out) in output.iter_mut().enumerate() {
        let values = input[c..].iter().step_by(channels).map(|&v| table[v as u8 as usize]);
        *out = requant_rndne(values.fold(0, i32::wrapping_add), scale, clamp);
    }
}

/// Calls `f` with the offset in the input of each tap of the window at output (`oy`, `ox`) that
/// lies in the image.
#[inline(always)]
fn for_taps(s: &ConvShape, oy: usize, ox: usize, mut f: impl FnMut(usize)) {
    let [h, w, c] = s.input;
    for ky in 0..s.kernel[0] {
        let y = (oy * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.pad[0]);
        for kx in 0..s.kernel[1] {
            let x = (ox * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.pad[1]);
            if y < h && x < w {
                f((y * w + x) * c);
            }
        }
    }
}

/// The largest value under the kernel; padding never wins. NHWC in and out. Panics if a length is
/// off.
pub fn max_pool(s: &ConvShape, input: &[i8], output: &mut [i8]) {
    let c = s.input[2];
    assert_eq!(input.len(), s.input.iter().product::<usize>(), "input length");
    assert_eq!(output.len(), s.output[0] * s.output[1] * c, "output length");
    output.fill(i8::MIN);
    for (pixel, out) in output.chunks_exact_mut(c).enumerate() {
        for_taps(s, pixel / s.output[1], pixel % s.output[1], |at| {
            for (o, &v) in out.iter_mut().zip(&input[at..at + c]) {
                *o = (*o).max(v);
            }
        });
    }
}

/// The average under the kernel: `requant(sum (input - zero_point), scale / count)`, scale = s_in /
/// s_out.
///
/// `count`: the taps in the image, or with `whole` all taps, those in the padding counting as 0.
/// Panics if a length is off.
pub fn average_pool(s: &ConvShape, input: &[i8], zero_point: i8, scale: f32, whole: bool, clamp: Clamp, output: &mut [i8]) {
    let c = s.input[2];
    assert_eq!(input.len(), s.input.iter().product::<usize>(), "input length");
    assert_eq!(output.len(), s.output[0] * s.output[1] * c, "output length");
    for (pixel, out) in output.chunks_exact_mut(c).enumerate() {
        let (oy, ox) = (pixel / s.output[1], pixel % s.output[1]);
        for (block, out) in out.chunks_mut(LANES).enumerate() {
            let (mut accumulators, mut count) = ([0i32; LANES], 0);
            for_taps(s, oy, ox, |at| {
                count += 1;
                for (sum, &v) in accumulators.iter_mut().zip(&input[at + block * LANES..][..out.len()]) {
                    *sum += v as i32 - zero_point as i32;
                }
            });
            let count = if whole { s.kernel[0] * s.kernel[1] } else { count };
            for (out, sum) in out.iter_mut().zip(accumulators) {
                *out = requant_rndne(sum, scale / count.max(1) as f32, clamp);
            }
        }
    }
}
