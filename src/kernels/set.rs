//! The trait of a set of kernels for one CPU, and the packed weights of its layers.
//!
//! Every method defaults to the scalar kernel, so a set implements only what it does faster. All
//! sets give the bits that `quant` defines.

use super::elementwise::{self, Addend};
use super::epilogue::{EpilogueBlock, Fit, LANES, Reach};
use super::panels;
use super::{ConvShape, Layer, WeightShape, generic};
use crate::quant::Clamp;
use core::fmt::Debug;

/// A layer's weights, packed for one set of kernels.
#[derive(Clone, Debug)]
pub enum Weights {
    /// i16 panels of [`generic::pack`], one group after the other; of a depthwise convolution
    /// [`generic::pack_depthwise`].
    Wide(Vec<i16>),
    /// i8 panels of the kernels for one CPU; the bias includes the zero point's share.
    Narrow(Panels),
}

/// Weights as the kernels for one CPU read them, in blocks of channels.
#[derive(Clone, Debug, Default)]
pub struct Panels {
    pub(super) values: Vec<i8>,
    /// How the weights of each block were made to fit.
    pub(super) fits: Vec<Fit>,
}

impl Weights {
    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Wide(w) => 2 * w.len(),
            Self::Narrow(w) => w.values.len(),
        }
    }
}

/// The weights of a layer that was not packed by the set that runs it.
const FOREIGN: &str = "a set runs the weights that it packed";

impl<'a> Layer<'a, Weights> {
    /// The layer with the weights that the scalar kernels read. Panics if a set for one CPU packed
    /// them.
    #[inline(always)]
    pub(super) fn wide(self) -> Layer<'a, [i16]> {
        match self.weights {
            Weights::Wide(w) => self.with(w.as_slice()),
            Weights::Narrow(_) => unreachable!("{FOREIGN}"),
        }
    }
}

/// A set of kernels for one CPU. Holding one proves that the CPU has its instructions.
///
/// A layer is packed once, by [`KernelSet::pack`] or [`KernelSet::pack_depthwise`] and then
/// [`KernelSet::epilogue_blocks`], and run with these by the same set. Layouts: values NHWC without
/// the batch, weights `[outputs][taps]` with the taps of a convolution as `[row][column][channel]`,
/// less their zero point. Lengths that do not fit panic.
pub trait KernelSet: Debug + Sync {
    /// The name by which people know it, the architecture first.
    fn name(&self) -> &'static str;

    /// Packs the weights of a convolution or a fully connected layer. `bias`, one an output, may
    /// take up the zero point of the input.
    fn pack(&self, weights: &[i16], shape: WeightShape, _zero_point: i8, _bias: &mut [i32]) -> Weights {
        Weights::Wide(generic::pack_groups(weights, shape))
    }

    /// Packs the weights of a depthwise convolution, `[channels][taps]`. `bias` may take up the
    /// zero point.
    fn pack_depthwise(&self, shape: &ConvShape, weights: &[i16], _zero_point: i8, _bias: &mut [i32]) -> Weights {
        Weights::Wide(generic::pack_depthwise(weights, shape.output[2]))
    }

    /// Whether accumulators of i8 weights may begin as floats, where their reach allows it (see
    /// [`Reach`]).
    fn begins_as_float(&self) -> bool {
        false
    }

    /// Bias and scale of a convolution in the blocks that the set reads; empty if it reads them
    /// plain. `weights` and `bias` as they were packed; `reaches`: one per channel.
    fn epilogue_blocks(
        &self,
        s: &ConvShape,
        weights: &Weights,
        reaches: &[Reach],
        bias: &[i32],
        scale: &[f32],
    ) -> Vec<EpilogueBlock> {
        let Weights::Narrow(panels) = weights else { return Vec::new() };
        let reach = if self.begins_as_float() { Reach::furthest(reaches) } else { Reach::Any };
        let WeightShape { channels, groups, .. } = s.weights();
        let firsts: Vec<usize> = match s.is_depthwise() {
            true => panels::depthwise_firsts(bias.len()).collect(),
            false => (0..groups).flat_map(|g| (0..channels).step_by(LANES).map(move |c| g * channels + c)).collect(),
        };
        // A set whose blocks of a depthwise convolution are wider reads none of these.
        let fits = panels.fits.iter().copied().chain(std::iter::repeat(Fit::AS_THEY_ARE));
        let blocks = firsts.into_iter().zip(fits);
        blocks.map(|(first, fit)| EpilogueBlock::of(first, fit, reach, reaches, bias, scale)).collect()
    }

    /// Length in i16 of the scratch that a convolution of this shape needs.
    fn scratch_len(&self, s: &ConvShape) -> usize {
        self.product_scratch_len(s.patch_len())
    }

    /// Length in i16 of the scratch that [`KernelSet::dense`] of `taps` inputs needs.
    fn product_scratch_len(&self, taps: usize) -> usize {
        generic::scratch_len(taps)
    }

    /// A convolution that is not depthwise. `scratch`: [`KernelSet::scratch_len`].
    fn conv(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        generic::conv(layer.wide(), input, output, scratch);
    }

    /// A depthwise convolution. `scratch`: [`KernelSet::scratch_len`].
    fn depthwise(&self, layer: Layer<'_, Weights>, input: &[i8], output: &mut [i8], _scratch: &mut [i16]) {
        generic::depthwise(layer.wide(), input, output);
    }

    /// A fully connected layer up to its accumulators. `weights` and `bias` as [`KernelSet::pack`]
    /// left them; `scratch`: [`KernelSet::product_scratch_len`].
    fn dense(
        &self,
        input: &[i8],
        zero_point: i8,
        weights: &Weights,
        bias: &[i32],
        accumulators: &mut [i32],
        scratch: &mut [i16],
    ) {
        match weights {
            Weights::Wide(w) => generic::dense(input, zero_point, w, bias, accumulators, scratch),
            Weights::Narrow(_) => unreachable!("{FOREIGN}"),
        }
    }

    /// An addition; see [`elementwise::add`].
    fn add(&self, a: &[i8], pa: Addend, b: &[i8], pb: Addend, clamp: Clamp, output: &mut [i8]) {
        elementwise::add(a, pa, b, pb, clamp, output);
    }

    /// Whether layers with such weights run in scalar loops, compiled for the target's baseline.
    fn is_scalar(&self, weights: &Weights) -> bool {
        matches!(weights, Weights::Wide(_))
    }
}
