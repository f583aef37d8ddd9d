//! One conformance suite: every set of kernels this CPU has against the dumbest correct convolution.

use super::generic::{Epilogue, Reach};
use super::*;
use crate::quant::{Clamp, requant_rndne};
use crate::random::Random;

/// A convolution by its definition.
fn reference(s: &ConvShape, input: &[i8], zp: i8, weights: &[i16], e: Epilogue<'_>) -> Vec<i8> {
    let [h, w, c] = s.input;
    let [oh, ow, oc] = s.output;
    let cg = c / s.groups;
    let mut out = Vec::new();
    for oy in 0..oh {
        for ox in 0..ow {
            for o in 0..oc {
                let mut acc = e.bias[o];
                for ky in 0..s.kernel[0] {
                    for kx in 0..s.kernel[1] {
                        let y = (oy * s.stride[0] + ky * s.dilation[0]) as i64 - s.pad[0] as i64;
                        let x = (ox * s.stride[1] + kx * s.dilation[1]) as i64 - s.pad[1] as i64;
                        if y < 0 || x < 0 || y >= h as i64 || x >= w as i64 {
                            continue;
                        }
                        for i in 0..cg {
                            let v = input[(y as usize * w + x as usize) * c + o / (oc / s.groups) * cg + i];
                            let weight = weights[(o * s.kernel[0] * s.kernel[1] + ky * s.kernel[1] + kx) * cg + i];
                            acc += (v as i32 - zp as i32) * weight as i32;
                        }
                    }
                }
                out.push(requant_rndne(acc, e.scale[o], e.clamp));
            }
        }
    }
    out
}

/// Values with a forbidden page behind them, where the build has what that takes.
#[cfg(feature = "runtime")]
fn guarded<T: Copy>(values: &[T]) -> impl core::ops::DerefMut<Target = [T]> + use<T> {
    super::guarded::Guarded::holding(values)
}

#[cfg(not(feature = "runtime"))]
fn guarded<T: Copy>(values: &[T]) -> impl core::ops::DerefMut<Target = [T]> + use<T> {
    values.to_vec()
}

/// Values of one kind: random, all smallest, all largest, or the two in turn.
fn values(r: &mut Random, n: usize, kind: usize, lo: i32, hi: i32) -> Vec<i32> {
    let one = |r: &mut Random, i: usize| match kind {
        0 => r.range(lo, hi),
        1 => lo,
        2 => hi,
        _ => [lo, hi][i % 2],
    };
    (0..n).map(|i| one(r, i)).collect()
}

fn check(kernels: Kernels, s: &ConvShape, seed: u64, kind: usize, widest: i32) {
    let mut r = Random::new(seed, 1);
    let input: Vec<i8> = values(&mut r, s.input.iter().product(), kind, -128, 127).iter().map(|&v| v as i8).collect();
    let oc = s.output[2];
    let weights: Vec<i16> = values(&mut r, oc * s.patch_len(), kind, -widest, widest).iter().map(|&v| v as i16).collect();
    let bias = values(&mut r, oc, 0, -20_000, 20_000);
    let scale: Vec<f32> = (0..oc).map(|_| r.range(1, 400) as f32 * 1e-5).collect();
    let zp = [-128, -1, 0, 3, 127][r.range(0, 4) as usize];
    let clamp = Clamp { lo: -120, hi: 125, zero_point: r.range(-128, 127) as i8 };
    // Often all of i8, which saturation alone clamps to.
    let clamp = if seed.is_multiple_of(2) { Clamp { lo: -128, hi: 127, ..clamp } } else { clamp };
    // Now and then sums that leave the short way's range, of all channels or of some: it must not be taken.
    let far = |c: usize| seed.is_multiple_of(7) || seed.is_multiple_of(3) && c % 37 == 5;
    let scale: Vec<f32> = scale.iter().enumerate().map(|(c, x)| if far(c) { x * 3e4 } else { *x }).collect();
    // And powers of two, with which every 16th sum lies half-way between two outputs.
    let scale = if seed.is_multiple_of(5) { vec![1.0 / 16.0; oc] } else { scale };
    let reaches: Vec<Reach> = Reach::of_channels(&weights, zp, &bias, &scale).collect();
    let reach = Reach::furthest(&reaches);
    let want = reference(s, &input, zp, &weights, Epilogue { bias: &bias, scale: &scale, clamp, blocks: &[], reach });
    // A canary before the output; behind it, as behind the input and the scratch, is what nobody may touch.
    let mut out = guarded(&vec![77i8; 32 + want.len()]);
    let (input, mut bias, mut scratch) = (guarded(&input), bias, guarded(&vec![0; kernels.scratch_len(s)]));
    let inner = 32..32 + want.len();
    if s.is_depthwise() {
        let packed = kernels.pack_depthwise(s, &weights, zp, &mut bias);
        let blocks = kernels.epilogue_blocks(s, &packed, &reaches, &bias, &scale);
        let e = Epilogue { bias: &bias, scale: &scale, clamp, blocks: &blocks, reach };
        kernels.depthwise(s, &input, zp, &packed, e, &mut out[inner.clone()], &mut scratch);
    } else {
        let packed = kernels.pack(&weights, oc / s.groups, s.patch_len(), s.groups, zp, &mut bias);
        let blocks = kernels.epilogue_blocks(s, &packed, &reaches, &bias, &scale);
        let e = Epilogue { bias: &bias, scale: &scale, clamp, blocks: &blocks, reach };
        kernels.conv(s, &input, zp, &packed, e, &mut out[inner.clone()], &mut scratch);
    }
    assert_eq!(out[inner], want, "{} {s:?} seed {seed} kind {kind}", kernels.name());
    assert!(out[..32].iter().all(|&v| v == 77), "canary of {s:?}");
}

pub(super) fn shape(
    input: [usize; 3],
    oc: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    dilation: usize,
    groups: usize,
) -> Option<ConvShape> {
    let out = |n: usize| Some((n + 2 * pad).checked_sub((kernel - 1) * dilation + 1)? / stride + 1);
    Some(ConvShape {
        input,
        output: [out(input[0])?, out(input[1])?, oc],
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [dilation; 2],
        pad: [pad; 2],
        groups,
    })
}

/// Sums of two tensors, of every length around the lanes.
#[test]
fn every_set_of_kernels_adds_as_defined() {
    use crate::quant::add_rndne;
    use glue::Addend;
    let mut r = Random::new(5, 5);
    for kernels in Kernels::available() {
        for n in [0, 1, 7, 15, 16, 17, 31, 64, 97] {
            for kind in 0..4 {
                let [a, b] = [0, 1].map(|_| values(&mut r, n, kind, -128, 127).iter().map(|&v| v as i8).collect::<Vec<_>>());
                let [pa, pb] = [0, 1].map(|_| Addend {
                    zero_point: r.range(-128, 127) as i8,
                    ratio: r.range(1, 4000) as f32 * [1e-3, 1e3][(kind == 3) as usize],
                });
                let clamp = Clamp { lo: -100, hi: 120, zero_point: r.range(-128, 127) as i8 };
                let mut out = vec![77; n + 2];
                kernels.add(&a, pa, &b, pb, clamp, &mut out[1..n + 1]);
                let want: Vec<i8> = a
                    .iter()
                    .zip(&b)
                    .map(|(a, b)| add_rndne(*a, pa.zero_point, pa.ratio, *b, pb.zero_point, pb.ratio, clamp))
                    .collect();
                assert_eq!(out[1..n + 1], want, "{} n {n} kind {kind} {pa:?} {pb:?} {clamp:?}", kernels.name());
                assert_eq!([out[0], out[n + 1]], [77; 2], "canaries");
            }
        }
    }
}

/// Every set against the reference: sizes around the lanes, primes, extremes, strides, pads, dilation, groups.
#[test]
fn every_set_of_kernels_computes_the_definition() {
    let sets = Kernels::available();
    for name in ["x86-avx512vnni", "x86-avx2", "aarch64-neon", "aarch64-dotprod", "armv7-neon"] {
        if !sets.iter().any(|s| s.name() == name) {
            eprintln!("skipped: this CPU has no {name}");
        }
    }
    for kernels in sets {
        let mut seed = 0;
        for kind in 0..4 {
            for c in [1, 2, 3, 4, 5, 15, 16, 17, 31, 64] {
                for oc in [1, 3, 8, 15, 16, 17, 24, 33] {
                    for (side, kernel, stride, pad) in [(1, 1, 1, 0), (5, 1, 1, 0), (7, 3, 2, 1), (5, 1, 2, 0)] {
                        seed += 1;
                        let s = shape([side, side + 1, c], oc, kernel, stride, pad, 1, 1).unwrap();
                        check(kernels, &s, seed, kind, if seed % 3 == 0 { 255 } else { 127 });
                    }
                }
                for (kernel, stride, pad, dilation) in [(3, 1, 1, 1), (3, 2, 1, 1), (5, 1, 2, 1), (5, 2, 2, 1), (3, 1, 2, 2)]
                {
                    seed += 1;
                    let s = shape([9, 7, c], c, kernel, stride, pad, dilation, c).unwrap();
                    check(kernels, &s, seed, kind, 127);
                }
            }
            // Rows longer than one segment, channels beyond one block, kernels of four and more rows.
            for (c, [h, w], kernel, stride, pad) in [
                (70, [4, 61], 5, 2, 2),
                (65, [3, 55], 3, 1, 1),
                (130, [2, 26], 3, 2, 1),
                (16, [12, 9], 7, 1, 3),
                (33, [6, 30], 4, 1, 1),
            ] {
                seed += 1;
                check(kernels, &shape([h, w, c], c, kernel, stride, pad, 1, c).unwrap(), seed, kind, 127);
            }
            // One pixel: fewer values than a whole load reads.
            for (c, oc) in [(1, 1), (4, 12), (12, 16), (15, 8), (16, 16), (17, 40)] {
                seed += 1;
                check(kernels, &shape([1, 1, c], oc, 1, 1, 0, 1, 1).unwrap(), seed, kind, 127);
            }
            for (c, oc) in [(7, 48), (20, 64), (33, 80), (64, 100)] {
                seed += 1;
                check(kernels, &shape([3, 5, c], oc, 1, 1, 0, 1, 1).unwrap(), seed, kind, 127);
            }
            for (c, oc, groups) in [(4, 6, 2), (9, 9, 3), (8, 16, 4)] {
                seed += 1;
                check(kernels, &shape([6, 5, c], oc, 3, 1, 1, 1, groups).unwrap(), seed, kind, 127);
            }
        }
    }
}
