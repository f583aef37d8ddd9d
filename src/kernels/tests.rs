//! One conformance suite: every set of kernels this CPU has against the dumbest correct
//! convolution.

use super::epilogue::{Epilogue, Reach};
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
                            acc = acc.wrapping_add((v as i32 - zp as i32) * weight as i32);
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
#[cfg(feature = "line")]
fn guarded<T: Copy>(values: &[T]) -> impl core::ops::DerefMut<Target = [T]> + use<T> {
    super::guarded::Guarded::holding(values)
}

#[cfg(not(feature = "line"))]
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

/// A layer with its input, drawn by a seed.
#[derive(Clone, Debug)]
struct Drawn {
    shape: ConvShape,
    input: Vec<i8>,
    zero_point: i8,
    weights: Vec<i16>,
    bias: Vec<i32>,
    scale: Vec<f32>,
    clamp: Clamp,
}

impl Drawn {
    /// Values and weights of a `kind` of [`values`], weights from `lo` to `hi`; the rest as a
    /// trained network has it.
    fn of(shape: ConvShape, seed: u64, kind: usize, [lo, hi]: [i32; 2]) -> Self {
        let mut r = Random::new(seed, 1);
        let input = values(&mut r, shape.input.iter().product(), kind, -128, 127).iter().map(|&v| v as i8).collect();
        let oc = shape.output[2];
        let weights = values(&mut r, oc * shape.patch_len(), kind, lo, hi).iter().map(|&v| v as i16).collect();
        let bias = values(&mut r, oc, 0, -20_000, 20_000);
        let scale: Vec<f32> = (0..oc).map(|_| r.range(1, 400) as f32 * 1e-5).collect();
        let zero_point = [-128, -1, 0, 3, 127][r.range(0, 4) as usize];
        let clamp = Clamp { lo: -120, hi: 125, zero_point: r.range(-128, 127) as i8 };
        // Often all of i8, which saturation alone clamps to.
        let clamp = if seed.is_multiple_of(2) { Clamp { lo: -128, hi: 127, ..clamp } } else { clamp };
        // Now and then accumulators that leave the short way's range, of all channels or of some:
        // it must not be taken.
        let far = |c: usize| seed.is_multiple_of(7) || seed.is_multiple_of(3) && c % 37 == 5;
        let scale: Vec<f32> = scale.iter().enumerate().map(|(c, x)| if far(c) { x * 3e4 } else { *x }).collect();
        // And powers of two, with which every 16th sum lies half-way between two outputs.
        let scale = if seed.is_multiple_of(5) { vec![1.0 / 16.0; oc] } else { scale };
        Self { shape, input, zero_point, weights, bias, scale, clamp }
    }

    /// Runs it by a set of kernels, beside the definition. Whether it ran scalar.
    fn check(&self, kernels: Kernels, told: &str) -> bool {
        let Self { shape: s, zero_point: zp, weights, scale, clamp, .. } = self;
        let (zp, clamp) = (*zp, *clamp);
        let reaches: Vec<Reach> = Reach::of_channels(weights, zp, &self.bias, scale).collect();
        let reach = Reach::furthest(&reaches);
        let want = reference(s, &self.input, zp, weights, Epilogue { bias: &self.bias, scale, clamp, blocks: &[], reach });
        // A canary before the output; behind it, as behind the input and the scratch, is what
        // nobody may touch.
        let mut out = guarded(&vec![77i8; 32 + want.len()]);
        let (input, mut bias) = (guarded(&self.input), self.bias.clone());
        // What a layer finds in its scratch is what the one before left there.
        let mut scratch = guarded(&vec![0x5a5b; kernels.scratch_len(s)]);
        let inner = 32..32 + want.len();
        let scalar = if s.is_depthwise() {
            let packed = kernels.pack_depthwise(s, weights, zp, &mut bias);
            let blocks = kernels.epilogue_blocks(s, &packed, &reaches, &bias, scale);
            let e = Epilogue { bias: &bias, scale, clamp, blocks: &blocks, reach };
            let layer = Layer { shape: s, zero_point: zp, weights: &packed, epilogue: e };
            kernels.depthwise(layer, &input, &mut out[inner.clone()], &mut scratch);
            kernels.is_scalar(&packed)
        } else {
            let packed = kernels.pack(weights, s.weights(), zp, &mut bias);
            let blocks = kernels.epilogue_blocks(s, &packed, &reaches, &bias, scale);
            let e = Epilogue { bias: &bias, scale, clamp, blocks: &blocks, reach };
            let layer = Layer { shape: s, zero_point: zp, weights: &packed, epilogue: e };
            kernels.conv(layer, &input, &mut out[inner.clone()], &mut scratch);
            kernels.is_scalar(&packed)
        };
        assert_eq!(out[inner], want, "{} {s:?} {told}", kernels.name());
        assert!(out[..32].iter().all(|&v| v == 77), "canary of {s:?}");
        scalar
    }
}

fn check(kernels: Kernels, s: &ConvShape, seed: u64, kind: usize, widest: i32) {
    Drawn::of(*s, seed, kind, [-widest, widest]).check(kernels, &format!("seed {seed} kind {kind}"));
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

/// Adds two tensors of every length around the number of lanes.
#[test]
fn every_set_of_kernels_adds_as_defined() {
    use crate::quant::add_rndne;
    use elementwise::Addend;
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

/// Every set against the reference: sizes around the lanes, primes, extremes, strides, pads,
/// dilation, groups.
#[test]
fn every_set_of_kernels_computes_the_definition() {
    let sets = Kernels::available();
    for name in ["x86-avx512vnni", "x86-avx2", "aarch64-neon", "aarch64-neon-inorder", "aarch64-dotprod", "armv7-neon"] {
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
            // Rows longer than one segment, channels beyond one block, kernels of four and more
            // rows.
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

/// Where tests that draw begin, and how many layers they draw: `TAGPIN_TEST_SEED` and
/// `TAGPIN_TEST_CASES`.
fn seed_and_cases(cases: u64) -> (u64, u64) {
    let given = |name: &str, or: u64| std::env::var(name).ok().map_or(or, |v| v.parse().expect("a number"));
    let (seed, cases) = (given("TAGPIN_TEST_SEED", 1), given("TAGPIN_TEST_CASES", cases));
    println!("TAGPIN_TEST_SEED={seed} TAGPIN_TEST_CASES={cases}");
    (seed, cases)
}

/// One of several.
fn one_of<T: Copy>(r: &mut Random, of: &[T]) -> T {
    of[r.range(0, of.len() as i32 - 1) as usize]
}

/// A layer of any kind that tells kernels apart: pointwise, convolution, depthwise, in groups.
fn drawn_shape(r: &mut Random) -> ConvShape {
    loop {
        let c = one_of(r, &[1, 2, 3, 4, 7, 8, 12, 16, 17, 24, 32, 33, 40, 48, 70]);
        let kernel = one_of(r, &[1, 1, 1, 2, 3, 3, 4, 5, 6, 7, 9]);
        let (stride, dilation) = (one_of(r, &[1, 1, 2, 3]), one_of(r, &[1, 1, 1, 2]));
        let side = [r.range(1, 12) as usize, r.range(1, 12) as usize];
        let pad = r.range(0, kernel as i32 / 2) as usize;
        let groups = one_of(r, &[1, 1, 2, 3, 4, 8, c, c]);
        let oc =
            if groups == c && r.range(0, 3) > 0 { c } else { groups * r.range(1, 40 / groups.min(40) as i32 + 1) as usize };
        let s = shape([side[0], side[1], c], oc, kernel, stride, pad, dilation, groups);
        if let Some(s) = s.filter(|s| c.is_multiple_of(groups) && s.output[0] * s.output[1] > 0) {
            return s;
        }
    }
}

/// Quantisers saturate the bias of a dead channel at the end of i32. Taking the zero point's share
/// off it wraps around, which the kernels that begin their accumulators as floats did not allow
/// for: aarch64 gave -43 for 43.
#[test]
fn biases_and_zero_points_at_their_ends_give_the_definition() {
    let (seed, cases) = seed_and_cases(300);
    for kernels in Kernels::available() {
        for case in 0..cases {
            let mut r = Random::new(seed, case);
            let mut layer = Drawn::of(drawn_shape(&mut r), r.next(), r.range(0, 3) as usize, [-127, 127]);
            layer.zero_point = one_of(&mut r, &[-128, 127]);
            layer.clamp.zero_point = one_of(&mut r, &[-128, 0, 127]);
            let far = one_of(&mut r, &[0, 1, 1000, 4_000_000]);
            let ends = [i32::MIN + far, i32::MAX - far, -far, far];
            layer.bias = layer.bias.iter().map(|b| if r.range(0, 2) > 0 { one_of(&mut r, &ends) } else { *b }).collect();
            // Outputs that a turned sign would show in, and the smallest and largest scales.
            let scale = one_of(&mut r, &[2e-8, 2e-8, 5e-10, 1e-3, f32::MIN_POSITIVE]);
            layer.scale = vec![scale; layer.scale.len()];
            if r.range(0, 1) == 0 {
                layer.input.fill(layer.zero_point);
            }
            layer.check(kernels, &format!("case {case}"));
        }
    }
}

/// Two products of -128 and -128 are one more than an i16 holds.
#[test]
fn weights_of_minus_128_give_the_definition() {
    let (seed, cases) = seed_and_cases(300);
    for kernels in Kernels::available() {
        for case in 0..cases {
            let mut r = Random::new(seed, case);
            let shape = drawn_shape(&mut r);
            let mut layer = Drawn::of(shape, r.next(), r.range(0, 3) as usize, [-128, 127]);
            // All of them, some of them, or one, with values to meet them.
            let (every, at) =
                (one_of(&mut r, &[1, 2, 3, 64, usize::MAX]), r.range(0, layer.weights.len() as i32 - 1) as usize);
            for (i, w) in layer.weights.iter_mut().enumerate() {
                if i == at || i.abs_diff(at).is_multiple_of(every) {
                    *w = -128;
                }
            }
            if r.range(0, 1) == 0 {
                layer.input.fill(-128);
                layer.zero_point = one_of(&mut r, &[-128, 0, 127]);
            }
            layer.check(kernels, &format!("case {case}"));
        }
    }
}

/// Weights of u8 less a zero point do not fit i8: such layers ran by slower kernels, five times as
/// long on aarch64. A kernel that takes a number off them must bring it back for every value that
/// it counted, and for no other.
#[test]
fn weights_less_a_zero_point_of_any_size_give_the_definition() {
    let (seed, cases) = seed_and_cases(600);
    for kernels in Kernels::available() {
        let mut scalar = 0;
        for case in 0..cases {
            let mut r = Random::new(seed, case);
            let shape = drawn_shape(&mut r);
            let mut layer = Drawn::of(shape, r.next(), r.range(0, 3) as usize, [0, 255]);
            // Most weights lie near the middle, and some at an end, as a network has them.
            if r.range(0, 1) == 0 {
                let seldom = one_of(&mut r, &[7, 100, 1000]);
                layer.weights.iter_mut().filter(|_| r.range(0, seldom) > 0).for_each(|w| *w = 90 + *w / 4);
            }
            let any = |r: &mut Random| match r.range(0, 2) {
                0 => one_of(r, &[0, 1, 127, 128, 129, 254, 255]),
                _ => r.range(0, 255) as i16,
            };
            let (taps, each) = (shape.patch_len(), r.range(0, 2) == 0);
            let mut zero = any(&mut r);
            for weights in layer.weights.chunks_mut(taps) {
                zero = if each { any(&mut r) } else { zero };
                weights.iter_mut().for_each(|w| *w -= zero);
            }
            if r.range(0, 2) == 0 {
                layer.bias.fill(one_of(&mut r, &[i32::MIN, i32::MAX, i32::MAX - 4_000_000]));
                layer.scale.fill(one_of(&mut r, &[2e-8, 5e-10]));
            }
            if r.range(0, 2) == 0 {
                layer.input.fill(one_of(&mut r, &[-128, 127]));
                layer.zero_point = one_of(&mut r, &[-128, 0, 127]);
            }
            scalar += layer.check(kernels, &format!("case {case} zero point {zero}")) as u32;
        }
        assert!(scalar == 0 || kernels.name() == "generic", "{} ran {scalar} of {cases} scalar", kernels.name());
    }
}

/// Scales with which a sum leaves i32, or is infinite: x86's conversion gives the smallest number
/// for all of these.
#[test]
fn outputs_are_clamped_before_they_are_converted() {
    for kernels in Kernels::available() {
        for (i, scale) in [1e3, 1e6, 1e9, 1e30, f32::MAX].into_iter().enumerate() {
            for (kernel, groups) in [(1, 1), (3, 1), (3, 33), (7, 33), (3, 3)] {
                for kind in [0, 2, 3] {
                    let shape = shape([9, 5, 33], 33, kernel, 1, kernel / 2, 1, groups).unwrap();
                    let mut layer = Drawn::of(shape, i as u64, kind, [-127, 127]);
                    layer.scale = vec![scale; 33];
                    layer.check(kernels, &format!("scale {scale} kind {kind}"));
                }
            }
        }
    }
}

/// Every number of pixels up to two tiles of any set (16), of channels up to two blocks of any set
/// (96), of taps up to two loads (32): each by itself, the other two drawn.
#[test]
fn every_remainder_of_two_tiles_gives_the_definition() {
    let (seed, _) = seed_and_cases(0);
    for kernels in Kernels::available() {
        for (side, most) in [(0, 17), (1, 98), (2, 34)] {
            for n in 1..most {
                for depthwise in [false, true] {
                    let mut r = Random::new(seed, (side * 1000 + n) as u64);
                    let mut of = [r.range(1, 16), r.range(1, 40), r.range(1, 32)].map(|v| v as usize);
                    of[side] = n;
                    let [pixels, channels, taps] = of;
                    let s = match depthwise {
                        false => shape([1, pixels, taps], channels, 1, 1, 0, 1, 1),
                        // A line of as many taps, which a square kernel has in its middle row.
                        true => Some(ConvShape {
                            input: [1, pixels + taps - 1, channels],
                            output: [1, pixels, channels],
                            kernel: [1, taps],
                            stride: [1, 1],
                            dilation: [1, 1],
                            pad: [0, 0],
                            groups: channels,
                        }),
                    };
                    // Weights of i8, and less a zero point of u8.
                    for ends in [[-128, 127], one_of(&mut r, &[[0, 255], [-255, 0], [-129, 126], [-127, 128]])] {
                        let layer = Drawn::of(s.unwrap(), n as u64, 0, ends);
                        let told = format!("{pixels} pixels, {channels} channels, {taps} taps, weights in {ends:?}");
                        layer.check(kernels, &told);
                    }
                }
            }
        }
    }
}

/// A fully connected layer: every number of inputs and of outputs up to two blocks, biases at their
/// ends, weights of -128.
#[test]
fn every_set_of_kernels_makes_the_accumulators_of_a_fully_connected_layer() {
    let (seed, _) = seed_and_cases(0);
    for kernels in Kernels::available() {
        for n in 1..70 {
            for (inputs, outputs) in [(n, 5), (20, n)] {
                let mut r = Random::new(seed, n as u64);
                let kind = r.range(0, 3) as usize;
                let zp = one_of(&mut r, &[-128, -3, 0, 127]);
                let input: Vec<i8> = values(&mut r, inputs, kind, -128, 127).iter().map(|&v| v as i8).collect();
                let zero = one_of(&mut r, &[-128, -128, 0, 100, 127]);
                let weights: Vec<i16> =
                    values(&mut r, inputs * outputs, kind, -128, 127).iter().map(|&v| (v - zero - 128) as i16).collect();
                let bias: Vec<i32> = (0..outputs).map(|_| r.next() as i32).collect();
                let want: Vec<i32> = (weights.chunks(inputs).zip(&bias))
                    .map(|(row, bias)| {
                        let sum: i32 = row.iter().zip(&input).map(|(w, v)| *w as i32 * (*v as i32 - zp as i32)).sum();
                        sum.wrapping_add(*bias)
                    })
                    .collect();
                let mut folded = bias.clone();
                let shape = WeightShape { channels: outputs, taps: inputs, groups: 1 };
                let packed = kernels.pack(&weights, shape, zp, &mut folded);
                let (mut accumulators, input) = (guarded(&vec![7; outputs]), guarded(&input));
                let mut scratch = guarded(&vec![0x5a5b; kernels.product_scratch_len(inputs)]);
                kernels.dense(&input, zp, &packed, &folded, &mut accumulators, &mut scratch);
                assert_eq!(accumulators[..], want, "{} {inputs} inputs, {outputs} outputs", kernels.name());
            }
        }
    }
}
