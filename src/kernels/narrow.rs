//! Weights as i8 panels with the input's zero point taken up by the bias: what the kernels for one CPU share in packing.
//!
//! Knows no instruction set.

#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
use super::Weights;
use super::generic::LANES;

/// Whether weights fit i8 with their negative, so that two products of them and i8 values fit i16.
pub(super) fn fits(weights: &[i16]) -> bool {
    weights.iter().all(|w| (-127..=127).contains(w))
}

/// Packs `[channels][taps]` weights that [`fits`] allows as `[channels / LANES][taps / DEPTH][LANES][DEPTH]`, zero-filled, and
/// takes the zero point's share off `bias`.
pub(super) fn pack<const LANES: usize, const DEPTH: usize>(
    weights: &[i16],
    channels: usize,
    taps: usize,
    zero_point: i32,
    bias: &mut [i32],
) -> Vec<i8> {
    let steps = taps.div_ceil(DEPTH);
    let mut packed = vec![0i8; channels.div_ceil(LANES) * steps * LANES * DEPTH];
    for (panel, rows) in packed.chunks_exact_mut(steps * LANES * DEPTH).zip(weights.chunks(LANES * taps)) {
        for (lane, row) in rows.chunks_exact(taps).enumerate() {
            for (step, taps) in panel.chunks_exact_mut(LANES * DEPTH).zip(row.chunks(DEPTH)) {
                for (to, &w) in step[lane * DEPTH..].iter_mut().zip(taps) {
                    *to = w as i8;
                }
            }
        }
    }
    take_zero_point(weights, taps, zero_point, bias);
    packed
}

/// Takes the share of the input's zero point, `zero_point * sum of weights`, off each channel's bias. `weights`:
/// `[channels][taps]`.
pub(super) fn take_zero_point(weights: &[i16], taps: usize, zero_point: i32, bias: &mut [i32]) {
    for (bias, row) in bias.iter_mut().zip(weights.chunks_exact(taps)) {
        let sum: i32 = row.iter().map(|&w| w as i32).sum();
        *bias = bias.wrapping_sub(sum.wrapping_mul(zero_point));
    }
}

/// Whether a depthwise layer's kernels by blocks of 16 channels compute such a layer: 3x3 or 5x5, 16 channels or more.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(super) fn takes_depthwise(kernel: [usize; 2], channels: usize, weights: &[i16]) -> bool {
    (kernel == [3, 3] || kernel == [5, 5]) && channels >= LANES && fits(weights)
}

/// Where each block of 16 channels begins; the last overlaps the one before if there are not 16 left.
pub(super) fn depthwise_firsts(channels: usize) -> impl Iterator<Item = usize> {
    (0..channels).step_by(LANES).map(move |first| first.min(channels.saturating_sub(LANES)))
}

/// Packs `[channels][taps]` weights that [`takes_depthwise`] allows as `[block][taps][16]`, and takes the zero point's share off
/// `bias`.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(super) fn pack_depthwise(weights: &[i16], channels: usize, zero_point: i8, bias: &mut [i32]) -> Weights {
    let taps = weights.len() / channels;
    take_zero_point(weights, taps, zero_point.into(), bias);
    let block = |first: usize| (0..taps * LANES).map(move |i| weights[(first + i % LANES) * taps + i / LANES] as i8);
    Weights::Narrow(depthwise_firsts(channels).flat_map(block).collect())
}
