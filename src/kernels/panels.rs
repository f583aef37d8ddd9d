//! Weights as i8 panels with the input's zero point taken up by the bias: what the kernels for one
//! CPU share in packing.

use super::Panels;
use super::WeightShape;
use super::epilogue::LANES;

/// Whether weights fit i8.
pub(super) fn fits(weights: &[i16]) -> bool {
    weights.iter().all(|w| i8::try_from(*w).is_ok())
}

/// Length of what [`pack`] makes of one group's `channels`.
pub(super) const fn packed_len<const LANES: usize, const DEPTH: usize>(channels: usize, taps: usize) -> usize {
    channels.div_ceil(LANES) * taps.div_ceil(DEPTH) * LANES * DEPTH
}

/// Packs each group's `[channels][taps]` weights that [`fits`] allows as `[channels / LANES][taps /
/// DEPTH][LANES][DEPTH]`, zero-filled, and takes the zero point's share off `bias`.
pub(super) fn pack<const LANES: usize, const DEPTH: usize>(
    weights: &[i16],
    WeightShape { channels, taps, .. }: WeightShape,
    zero_point: i32,
    bias: &mut [i32],
) -> Vec<i8> {
    let (steps, group_len) = (taps.div_ceil(DEPTH), packed_len::<LANES, DEPTH>(channels, taps));
    let mut packed = vec![0i8; weights.len() / (channels * taps) * group_len];
    for (packed, weights) in packed.chunks_exact_mut(group_len).zip(weights.chunks_exact(channels * taps)) {
        for (panel, rows) in packed.chunks_exact_mut(steps * LANES * DEPTH).zip(weights.chunks(LANES * taps)) {
            for (lane, row) in rows.chunks_exact(taps).enumerate() {
                for (step, taps) in panel.chunks_exact_mut(LANES * DEPTH).zip(row.chunks(DEPTH)) {
                    for (to, &w) in step[lane * DEPTH..].iter_mut().zip(taps) {
                        *to = w as i8;
                    }
                }
            }
        }
    }
    take_zero_point(weights, taps, zero_point, bias);
    packed
}

/// Whether two weights of -128 meet in one lane of i16, where a kernel adds the products of `half`
/// weights to those of the `half` before them: twice -128 * -128 is one more than it holds. No
/// other two products are too much for it.
pub(super) fn meet(packed: &[i8], half: usize) -> bool {
    packed.chunks(2 * half).any(|w| w.iter().zip(w.iter().skip(half)).any(|(a, b)| (*a, *b) == (i8::MIN, i8::MIN)))
}

/// Whether they [`meet`] in each block of 16 channels of what [`pack`] made for ARM.
pub(super) fn meet_in_panels<const CHANNELS: usize, const DEPTH: usize>(
    packed: &[i8],
    WeightShape { channels, taps, groups }: WeightShape,
) -> Vec<bool> {
    let [group, block] = [channels, LANES].map(|channels| packed_len::<CHANNELS, DEPTH>(channels, taps));
    // Each kernel adds the products of the two halves of 16.
    packed.chunks(group).take(groups).flat_map(|group| group.chunks(block).map(|block| meet(block, 8))).collect()
}

/// Takes the share of the input's zero point, `zero_point * sum of weights`, off each channel's
/// bias. `weights`: `[channels][taps]`.
pub(super) fn take_zero_point(weights: &[i16], taps: usize, zero_point: i32, bias: &mut [i32]) {
    for (bias, row) in bias.iter_mut().zip(weights.chunks_exact(taps)) {
        let sum: i32 = row.iter().map(|&w| w as i32).sum();
        *bias = bias.wrapping_sub(sum.wrapping_mul(zero_point));
    }
}

/// Where each block of 16 channels begins; the last overlaps the one before if there are not 16
/// left.
pub(super) fn depthwise_firsts(channels: usize) -> impl Iterator<Item = usize> {
    (0..channels).step_by(LANES).map(move |first| first.min(channels.saturating_sub(LANES)))
}

/// Packs `[channels][taps]` weights that [`fits`] allows as `[block][taps][16]`, and takes the zero
/// point's share off `bias`.
pub(super) fn pack_depthwise(weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Panels {
    let (channels, taps) = (bias.len(), weights.len() / bias.len());
    take_zero_point(weights, taps, zero_point.into(), bias);
    let weight = |channel: usize, tap: usize| match channel < channels {
        true => weights[channel * taps + tap] as i8,
        false => 0,
    };
    let block = |first: usize| (0..taps * LANES).map(move |i| weight(first + i % LANES, i / LANES));
    let values: Vec<i8> = depthwise_firsts(channels).flat_map(block).collect();
    // The kernels add the products of two taps.
    let meet = values.chunks(taps * LANES).map(|block| meet(block, LANES)).collect();
    Panels { values, meet }
}
