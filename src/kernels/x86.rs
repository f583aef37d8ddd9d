//! The scalar kernels compiled once more for AVX2 and for AVX-512 with VNNI.
//!
//! Knows no other arithmetic than `generic`'s: the compiler turns its pairs of i16 products into `vpmaddwd` and `vpdpwssd`,
//! so the bits are the same by construction. On such a pair neither instruction saturates (a product stays below 2^16).

use super::ConvShape;
use super::generic::{self, Epilogue};
use super::glue::{self, Addend};
use crate::quant::Clamp;

macro_rules! instantiate {
    ($(#[$doc:meta])* $token:ident, $features:literal, [$($detected:tt),+]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $token(());

        impl $token {
            /// The token, if the CPU has the instructions.
            pub fn new() -> Option<Self> {
                ($(std::arch::is_x86_feature_detected!($detected))&&+).then_some(Self(()))
            }

            #[allow(clippy::too_many_arguments)]
            pub(super) fn conv(
                self, s: &ConvShape, input: &[i8], zero_point: i8, weights: &[i16], e: Epilogue<'_>, output: &mut [i8], scratch: &mut [i16],
            ) {
                #[target_feature(enable = $features)]
                fn run(s: &ConvShape, input: &[i8], zp: i8, weights: &[i16], e: Epilogue<'_>, output: &mut [i8], scratch: &mut [i16]) {
                    generic::conv(s, input, zp, weights, e, output, scratch);
                }
                // SAFETY: this token is made only by `new`, which found every enabled feature on this CPU.
                unsafe { run(s, input, zero_point, weights, e, output, scratch) }
            }

            pub(super) fn depthwise(self, s: &ConvShape, input: &[i8], zero_point: i8, weights: &[i16], e: Epilogue<'_>, output: &mut [i8]) {
                #[target_feature(enable = $features)]
                fn run(s: &ConvShape, input: &[i8], zp: i8, weights: &[i16], e: Epilogue<'_>, output: &mut [i8]) {
                    generic::depthwise(s, input, zp, weights, e, output);
                }
                // SAFETY: this token is made only by `new`, which found every enabled feature on this CPU.
                unsafe { run(s, input, zero_point, weights, e, output) }
            }

            pub(super) fn add(self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
                #[target_feature(enable = $features)]
                fn run(a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
                    glue::add(a, pa, b, pb, clamp, output);
                }
                // SAFETY: this token is made only by `new`, which found every enabled feature on this CPU.
                unsafe { run(a, pa, b, pb, clamp, output) }
            }
        }
    };
}

instantiate!(
    /// Proof that the CPU has AVX2.
    Avx2, "avx2", ["avx2"]
);
instantiate!(
    /// Proof that the CPU has AVX-512 with byte and word operations and VNNI.
    Avx512Vnni, "avx2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", ["avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"]
);
