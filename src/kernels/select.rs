//! Which kernels this CPU runs: asked once at load, overridable, shown by `check` and `bench`.
//!
//! Knows no model. Every choice gives the same bits.

#[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64"))]
use super::Panels;
#[cfg(target_arch = "aarch64")]
use super::dotprod_depthwise;
use super::generic::{self, Epilogue, EpilogueBlock, Reach};
use super::glue::{self, Addend};
#[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64"))]
use super::narrow;
use super::{ConvShape, Weights};
#[cfg(target_arch = "x86_64")]
use super::{vnni, vnni_depthwise};
use crate::quant::Clamp;

/// The environment variable that overrides the choice: `generic`, or the name of a set that this CPU has.
pub const OVERRIDE: &str = "TAGPIN_KERNELS";

/// A set of kernels; holding one proves that the CPU has its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The scalar kernels, compiled for the target's baseline.
    Generic,
    /// The scalar kernels compiled for AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86::Avx2),
    /// The scalar kernels compiled for AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(super::x86::Avx512Vnni),
    /// NEON without dot product, as on a Cortex-A72.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// The same for cores that run instructions in order, as a Cortex-A53.
    #[cfg(target_arch = "aarch64")]
    NeonInOrder,
    /// Signed dot products (SDOT), as on a Cortex-A76.
    #[cfg(target_arch = "aarch64")]
    Dotprod(super::dotprod::Dotprod),
    /// NEON on a 32-bit system.
    #[cfg(target_arch = "arm")]
    ArmNeon(super::armv7::ArmNeon),
}

impl Kernels {
    /// Every set that this CPU has, the best first; generic is always the last.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "aarch64")]
        let [neon, other] = match super::inorder::runs_here() {
            true => [Self::NeonInOrder, Self::Neon],
            false => [Self::Neon, Self::NeonInOrder],
        };
        let sets = [
            #[cfg(target_arch = "x86_64")]
            super::x86::Avx512Vnni::new().map(Self::Avx512Vnni),
            #[cfg(target_arch = "x86_64")]
            super::x86::Avx2::new().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            super::dotprod::Dotprod::new().map(Self::Dotprod),
            #[cfg(target_arch = "aarch64")]
            Some(neon),
            #[cfg(target_arch = "aarch64")]
            Some(other),
            #[cfg(target_arch = "arm")]
            super::armv7::ArmNeon::new().map(Self::ArmNeon),
            Some(Self::Generic),
        ];
        sets.into_iter().flatten().collect()
    }

    /// The best set, or the one that [`OVERRIDE`] names.
    pub fn choose() -> Result<Self, String> {
        let sets = Self::available();
        let Ok(wanted) = std::env::var(OVERRIDE) else { return Ok(sets[0]) };
        sets.iter().copied().find(|s| s.name() == wanted).ok_or_else(|| {
            let names: Vec<&str> = sets.iter().map(Self::name).collect();
            format!("{OVERRIDE}={wanted}: this CPU has {}", names.join(", "))
        })
    }

    /// The name of the set.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Generic => "generic",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "x86-avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => "x86-avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "aarch64-neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonInOrder => "aarch64-neon-inorder",
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod(_) => "aarch64-dotprod",
            #[cfg(target_arch = "arm")]
            Self::ArmNeon(_) => "armv7-neon",
        }
    }

    /// Packs a convolution's weights, `[outputs][taps]` of each of its `groups`, for this set. `channels`: outputs of a group. `bias`
    /// may take up the zero point.
    pub fn pack(
        &self,
        weights: &[i16],
        channels: usize,
        taps: usize,
        groups: usize,
        zero_point: i8,
        bias: &mut [i32],
    ) -> Weights {
        #[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64"))]
        if narrow::fits(weights) {
            match self {
                #[cfg(target_arch = "aarch64")]
                Self::Dotprod(_) => {
                    let values = narrow::pack::<16, 4>(weights, channels, taps, zero_point.into(), bias);
                    return Weights::Narrow(Panels { values, meet: Vec::new() });
                }
                #[cfg(target_arch = "aarch64")]
                Self::Neon | Self::NeonInOrder => {
                    let pack = if *self == Self::Neon { super::neon::pack } else { super::inorder::pack };
                    let values = pack(weights, channels, taps, zero_point.into(), bias);
                    let meet = narrow::meet_in_panels::<16, 4>(&values, channels, taps, groups);
                    return Weights::Narrow(Panels { values, meet });
                }
                #[cfg(target_arch = "arm")]
                Self::ArmNeon(_) => {
                    const CHANNELS: usize = super::armv7::CHANNELS;
                    let values = narrow::pack::<CHANNELS, 16>(weights, channels, taps, zero_point.into(), bias);
                    let meet = narrow::meet_in_panels::<CHANNELS, 16>(&values, channels, taps, groups);
                    return Weights::Narrow(Panels { values, meet });
                }
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Vnni(_) => {
                    let values = narrow::pack::<16, 4>(weights, channels, taps, vnni::zero_point(zero_point), bias);
                    return Weights::Narrow(Panels { values, meet: Vec::new() });
                }
                _ => {}
            }
        }
        let _ = (zero_point, bias);
        let len = generic::packed_len(channels, taps);
        let mut packed = vec![0; len * groups];
        for (group, packed) in weights.chunks_exact(channels * taps).zip(packed.chunks_exact_mut(len)) {
            generic::pack(group, channels, taps, packed);
        }
        Weights::Wide(packed)
    }

    /// Bias and scale of a convolution in the blocks that this set reads; none where it reads them as they are. `weights` and
    /// `bias` as [`Kernels::pack`] or [`Kernels::pack_depthwise`] left them; `reaches`: each channel's.
    pub fn epilogue_blocks(
        &self,
        s: &ConvShape,
        weights: &Weights,
        reaches: &[Reach],
        bias: &[i32],
        scale: &[f32],
    ) -> Vec<EpilogueBlock> {
        #[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "x86_64"))]
        if let Weights::Narrow(panels) = weights {
            // Sums that begin as floats are for 64-bit NEON only.
            let reach = if cfg!(target_arch = "aarch64") { Reach::furthest(reaches) } else { Reach::Any };
            let channels = s.output[2] / s.groups;
            let firsts: Vec<usize> = match s.is_depthwise() {
                true => narrow::depthwise_firsts(bias.len()).collect(),
                false => (0..s.groups)
                    .flat_map(|g| (0..channels).step_by(generic::LANES).map(move |c| g * channels + c))
                    .collect(),
            };
            let block = |first| EpilogueBlock::of(first, reach, reaches, bias, scale);
            let apart = panels.meet.iter().copied().chain(std::iter::repeat(false));
            return firsts.into_iter().zip(apart).map(|(first, apart)| EpilogueBlock { apart, ..block(first) }).collect();
        }
        let _ = (s, weights, reaches, bias, scale);
        Vec::new()
    }

    /// A convolution that is not depthwise; see [`generic::conv`].
    #[allow(clippy::too_many_arguments)]
    pub fn conv(
        &self,
        s: &ConvShape,
        input: &[i8],
        zero_point: i8,
        weights: &Weights,
        epilogue: Epilogue<'_>,
        output: &mut [i8],
        scratch: &mut [i16],
    ) {
        match (self, weights) {
            #[cfg(target_arch = "aarch64")]
            (Self::Dotprod(token), Weights::Narrow(weights)) => {
                token.conv(s, input, zero_point, &weights.values, epilogue, output, scratch);
            }
            #[cfg(target_arch = "aarch64")]
            (Self::Neon, Weights::Narrow(weights)) => {
                super::neon::conv(s, input, zero_point, &weights.values, epilogue, output, scratch);
            }
            #[cfg(target_arch = "aarch64")]
            (Self::NeonInOrder, Weights::Narrow(weights)) => {
                super::inorder::conv(s, input, zero_point, &weights.values, epilogue, output, scratch);
            }
            #[cfg(target_arch = "arm")]
            (Self::ArmNeon(token), Weights::Narrow(w)) => {
                token.conv(s, input, zero_point, &w.values, epilogue, output, scratch);
            }
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(token), Weights::Wide(w)) => token.conv(s, input, zero_point, w, epilogue, output, scratch),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Vnni(token), Weights::Wide(w)) => token.conv(s, input, zero_point, w, epilogue, output, scratch),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Vnni(token), Weights::Narrow(w)) => {
                token.narrow_conv(s, input, zero_point, &w.values, epilogue, output, scratch);
            }
            (_, Weights::Wide(w)) => generic::conv(s, input, zero_point, w, epilogue, output, scratch),
            (_, Weights::Narrow(_)) => unreachable!("only kernels for one CPU pack narrow"),
        }
    }

    /// A fully connected layer up to its sums; see [`generic::dense`]. `weights` and `bias` as [`Kernels::pack`] left them.
    pub fn dense(
        &self,
        input: &[i8],
        zero_point: i8,
        weights: &Weights,
        bias: &[i32],
        sums: &mut [i32],
        scratch: &mut [i16],
    ) {
        match (self, weights) {
            #[cfg(target_arch = "aarch64")]
            (Self::Dotprod(token), Weights::Narrow(weights)) => token.dense(input, &weights.values, bias, sums, scratch),
            #[cfg(target_arch = "aarch64")]
            (Self::Neon, Weights::Narrow(weights)) => super::neon::dense(input, weights, bias, sums, scratch),
            #[cfg(target_arch = "aarch64")]
            (Self::NeonInOrder, Weights::Narrow(weights)) => super::inorder::dense(input, weights, bias, sums, scratch),
            #[cfg(target_arch = "arm")]
            (Self::ArmNeon(token), Weights::Narrow(w)) => token.dense(input, w, bias, sums, scratch),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Vnni(token), Weights::Narrow(w)) => token.narrow_dense(input, &w.values, bias, sums, scratch),
            (_, Weights::Wide(w)) => generic::dense(input, zero_point, w, bias, sums, scratch),
            (_, Weights::Narrow(_)) => unreachable!("only kernels for one CPU pack narrow"),
        }
    }

    /// Packs a depthwise convolution's weights, `[channels][taps]`, for this set. `bias` may take up the zero point.
    pub fn pack_depthwise(&self, s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Weights {
        let (channels, taps) = (bias.len(), s.kernel[0] * s.kernel[1]);
        #[cfg(target_arch = "x86_64")]
        if matches!(self, Self::Avx512Vnni(_)) && vnni_depthwise::takes(s, weights) {
            let values = vnni_depthwise::pack(weights, s.kernel, zero_point, bias);
            return Weights::Narrow(Panels { values, meet: Vec::new() });
        }
        #[cfg(target_arch = "aarch64")]
        if *self != Self::Generic && narrow::fits(weights) {
            return Weights::Narrow(match self {
                Self::Dotprod(_) if dotprod_depthwise::takes(s) => {
                    Panels { values: dotprod_depthwise::pack(s, weights, zero_point, bias), meet: Vec::new() }
                }
                _ => narrow::pack_depthwise(weights, zero_point, bias),
            });
        }
        #[cfg(target_arch = "arm")]
        if *self != Self::Generic && narrow::fits(weights) {
            return Weights::Narrow(narrow::pack_depthwise(weights, zero_point, bias));
        }
        let _ = zero_point;
        Weights::Wide((0..taps * channels).map(|i| weights[i % channels * taps + i / channels]).collect())
    }

    /// Whether layers with such weights are left to [`generic`]'s plain loops, not compiled for more than the target's baseline.
    pub fn is_scalar(&self, weights: &Weights) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) | Self::Avx512Vnni(_) => false,
            _ => matches!(weights, Weights::Wide(_)),
        }
    }

    /// Length in i16 of the scratch that a convolution of this shape needs.
    pub fn scratch_len(&self, s: &ConvShape) -> usize {
        #[cfg(target_arch = "aarch64")]
        if s.is_depthwise() && *self != Self::Generic {
            return dotprod_depthwise::SCRATCH.max(super::taps::scratch_len(s));
        }
        #[cfg(target_arch = "x86_64")]
        if s.is_depthwise() && matches!(self, Self::Avx512Vnni(_)) {
            return vnni_depthwise::SCRATCH;
        }
        #[cfg(target_arch = "arm")]
        if s.is_depthwise() {
            return super::taps::scratch_len(s);
        }
        self.product_scratch_len(s.patch_len())
    }

    /// Length in i16 of the scratch that [`Kernels::dense`] of so many inputs needs.
    pub fn product_scratch_len(&self, taps: usize) -> usize {
        let patches = generic::scratch_len(taps);
        #[cfg(target_arch = "aarch64")]
        if *self == Self::NeonInOrder {
            return patches + super::inorder::room(taps) / 2;
        }
        patches
    }

    /// A depthwise convolution; see [`generic::depthwise`]. `weights` and biases as [`Kernels::pack_depthwise`] left them.
    #[allow(clippy::too_many_arguments)]
    pub fn depthwise(
        &self,
        s: &ConvShape,
        input: &[i8],
        zero_point: i8,
        weights: &Weights,
        e: Epilogue<'_>,
        output: &mut [i8],
        scratch: &mut [i16],
    ) {
        let _ = &scratch; // not all need it
        match (self, weights) {
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(token), Weights::Wide(w)) => token.depthwise(s, input, zero_point, w, e, output),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Vnni(token), Weights::Wide(w)) => token.depthwise(s, input, zero_point, w, e, output),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Vnni(token), Weights::Narrow(w)) => {
                token.narrow_depthwise(s, input, zero_point, &w.values, e, output, scratch);
            }
            #[cfg(target_arch = "aarch64")]
            (Self::Dotprod(token), Weights::Narrow(w)) if dotprod_depthwise::takes(s) => {
                token.depthwise(s, input, zero_point, &w.values, e, output, scratch);
            }
            #[cfg(target_arch = "aarch64")]
            (Self::Neon | Self::Dotprod(_), Weights::Narrow(w)) if super::depthwise::takes(s, e.blocks) => {
                super::depthwise::depthwise(s, input, zero_point, &w.values, e, output, scratch);
            }
            #[cfg(target_arch = "aarch64")]
            (Self::Neon | Self::NeonInOrder | Self::Dotprod(_), Weights::Narrow(w)) => {
                super::listed::depthwise(s, input, zero_point, &w.values, e, output, scratch);
            }
            #[cfg(target_arch = "arm")]
            (Self::ArmNeon(token), Weights::Narrow(w)) => {
                token.depthwise(s, input, zero_point, &w.values, e, output, scratch);
            }
            (_, Weights::Wide(w)) => generic::depthwise(s, input, zero_point, w, e, output),
            (_, Weights::Narrow(_)) => unreachable!("only kernels for one CPU pack narrow"),
        }
    }

    /// An addition; see [`glue::add`].
    pub fn add(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => token.add(a, pa, b, pb, clamp, output),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(token) => token.add(a, pa, b, pb, clamp, output),
            #[cfg(target_arch = "aarch64")]
            Self::Neon | Self::NeonInOrder | Self::Dotprod(_) => super::neon::add(a, pa, b, pb, clamp, output),
            _ => glue::add(a, pa, b, pb, clamp, output),
        }
    }
}
