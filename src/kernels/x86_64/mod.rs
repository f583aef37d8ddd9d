//! Kernels for 64-bit x86: the scalar kernels compiled once more for AVX2 and for AVX-512, and with
//! VNNI (`vnni`) kernels of their own for weights that fit i8.
//!
//! Of the scalar kernels the compiler turns pairs of i16 products into `vpmaddwd` and `vpdpwssd`,
//! so the bits are the same by construction. On such a pair neither instruction saturates: a
//! product stays below 2^16.

mod vnni;
mod vnni_depthwise;

use super::elementwise::{self, Addend};
use super::epilogue::LANES;
use super::{ConvShape, KernelSet, Layer, WeightShape, Weights, generic, panels};
use crate::quant::Clamp;

/// The sets that this CPU has, the best first.
pub(super) fn sets() -> Vec<&'static dyn KernelSet> {
    let vnni = Avx512Vnni::found().map(|set| set as &dyn KernelSet);
    vnni.into_iter().chain(Avx2::found().map(|set| set as &dyn KernelSet)).collect()
}

/// A set whose only value is proof that the CPU has its instructions, and the scalar kernels
/// compiled for them.
macro_rules! compiled_for {
    ($(#[$doc:meta])* $set:ident, $features:literal, [$($detected:tt),+]) => {
        $(#[$doc])*
        #[derive(Debug)]
        struct $set(());

        impl $set {
            /// The set, if the CPU has the instructions.
            fn found() -> Option<&'static Self> {
                static FOUND: $set = $set(());
                ($(std::arch::is_x86_feature_detected!($detected))&&+).then_some(&FOUND)
            }

            fn wide_conv(&self, layer: Layer<'_, [i16]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
                #[target_feature(enable = $features)]
                fn run(layer: Layer<'_, [i16]>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
                    generic::conv(layer, input, output, scratch);
                }
                // SAFETY: the set is had only from `found`, which found every enabled feature on
                // this CPU.
                unsafe { run(layer, input, output, scratch) }
            }

            fn wide_depthwise(&self, layer: Layer<'_, [i16]>, input: &[i8], output: &mut [i8]) {
                #[target_feature(enable = $features)]
                fn run(layer: Layer<'_, [i16]>, input: &[i8], output: &mut [i8]) {
                    generic::depthwise(layer, input, output);
                }
                // SAFETY: the set is had only from `found`, which found every enabled feature on
                // this CPU.
                unsafe { run(layer, input, output) }
            }

            fn sum(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
                #[target_feature(enable = $features)]
                fn run(a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
                    elementwise::add(a, pa, b, pb, clamp, output);
                }
                // SAFETY: the set is had only from `found`, which found every enabled feature on
                // this CPU.
                unsafe { run(a, pa, b, pb, clamp, output) }
            }
        }
    };
}

compiled_for!(
    /// AVX2: every layer by the scalar kernels, compiled for it.
    Avx2, "avx2", ["avx2"]
);
compiled_for!(
    /// AVX-512 with byte and word operations and VNNI.
    Avx512Vnni, "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", ["avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"]
);

impl KernelSet for Avx2 {
    fn name(&self) -> &'static str {
        "x86-avx2"
    }

    fn conv(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        self.wide_conv(layer.wide(), input, output, scratch);
    }

    fn depthwise(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], _scratch: &mut [i16]) {
        self.wide_depthwise(layer.wide(), input, output);
    }

    fn add(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
        self.sum(a, pa, b, pb, clamp, output);
    }

    fn is_scalar(&self, _weights: &Weights) -> bool {
        false
    }
}

impl KernelSet for Avx512Vnni {
    fn name(&self) -> &'static str {
        "x86-avx512vnni"
    }

    fn pack(&self, weights: &[i16], shape: WeightShape, zero_point: i8, bias: &mut [i32]) -> Weights {
        match panels::fits(weights, shape.taps) {
            true => Weights::Narrow(panels::pack::<LANES, 4>(weights, shape, vnni::zero_point(zero_point), bias)),
            false => Weights::Wide(generic::pack_groups(weights, shape)),
        }
    }

    fn pack_depthwise(&self, s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Weights {
        match vnni_depthwise::takes(s, weights) {
            true => Weights::Narrow(vnni_depthwise::pack(weights, s.kernel, zero_point, bias)),
            false => Weights::Wide(generic::pack_depthwise(weights, s.output[2])),
        }
    }

    fn scratch_len(&self, s: &ConvShape) -> usize {
        match s.is_depthwise() {
            true => vnni_depthwise::SCRATCH,
            false => self.product_scratch_len(s.patch_len()),
        }
    }

    fn conv(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        match layer.weights {
            Weights::Narrow(panels) => self.narrow_conv(layer.with(panels.values.as_slice()), input, output, scratch),
            Weights::Wide(_) => self.wide_conv(layer.wide(), input, output, scratch),
        }
    }

    fn depthwise(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        match layer.weights {
            Weights::Narrow(panels) => self.narrow_depthwise(layer.with(panels), input, output, scratch),
            Weights::Wide(_) => self.wide_depthwise(layer.wide(), input, output),
        }
    }

    fn dense(&self, input: &[i8], zp: i8, weights: &Weights, bias: &[i32], accumulators: &mut [i32], scratch: &mut [i16]) {
        match weights {
            Weights::Narrow(panels) => self.narrow_dense(input, panels, bias, accumulators, scratch),
            Weights::Wide(w) => generic::dense(input, zp, w, bias, accumulators, scratch),
        }
    }

    fn add(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
        self.sum(a, pa, b, pb, clamp, output);
    }

    fn is_scalar(&self, _weights: &Weights) -> bool {
        false
    }
}
