//! Kernels for 64-bit ARM: NEON for out-of-order cores (Cortex-A72), NEON for in-order cores
//! (Cortex-A53), and SDOT (Cortex-A76).
//!
//! The sets differ in what multiplies a tile (`neon`, `inorder`, `dotprod`); `tiles` walks a layer,
//! `requant` makes outputs of accumulators. Depthwise convolutions: `depthwise_dotprod` takes 3x3
//! and 5x5 where there is SDOT, `depthwise_square` where there is not, `depthwise_any` every other.

mod depthwise_any;
mod depthwise_dotprod;
mod depthwise_square;
mod dotprod;
mod inorder;
mod neon;
mod requant;
mod tiles;

use super::panels;
use super::{ConvShape, KernelSet, Layer, Panels, Weights, taps};

/// The sets that this CPU has, the best first.
pub(super) fn sets() -> Vec<&'static dyn KernelSet> {
    let neon: [&'static dyn KernelSet; 2] = match inorder::runs_here() {
        true => [&inorder::InOrder, &neon::Neon],
        false => [&neon::Neon, &inorder::InOrder],
    };
    dotprod::Dotprod::found().map(|set| set as &dyn KernelSet).into_iter().chain(neon).collect()
}

/// Length in i16 of the scratch of a depthwise convolution, for each set.
fn depthwise_scratch_len(s: &ConvShape) -> usize {
    depthwise_dotprod::SCRATCH.max(taps::scratch_len(s))
}

/// Packs a depthwise convolution's weights for the kernels that take any layer; see
/// [`KernelSet::pack_depthwise`].
fn pack_depthwise(s: &ConvShape, weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Weights {
    match panels::fits_in_parts(weights) {
        true => Weights::Narrow(panels::pack_depthwise(weights, zero_point, bias)),
        false => Weights::Wide(super::generic::pack_depthwise(weights, s.output[2])),
    }
}

/// A depthwise convolution: the blocks that the kernel for squares takes by that, the others by the
/// one for any.
fn depthwise(layer: Layer<'_, Panels>, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
    let values = layer.with(layer.weights.values.as_slice());
    if !depthwise_square::takes(layer.shape) {
        return depthwise_any::depthwise(values, input, output, scratch, |_| true);
    }
    depthwise_square::depthwise(values, input, output, scratch);
    if !layer.epilogue.blocks.iter().all(depthwise_square::takes_block) {
        depthwise_any::depthwise(values, input, output, scratch, |block| !depthwise_square::takes_block(block));
    }
}
