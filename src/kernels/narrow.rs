//! Weights as i8 panels with the input's zero point taken up by the bias: what the kernels for one CPU share in packing.
//!
//! Knows no instruction set.

#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
use super::ConvShape;
use super::generic::LANES;

/// Whether weights fit i8.
pub(super) fn fits(weights: &[i16]) -> bool {
    weights.iter().all(|w| i8::try_from(*w).is_ok())
}

/// Length of what [`pack`] makes of one group's `channels`.
pub(super) const fn packed_len<const LANES: usize, const DEPTH: usize>(channels: usize, taps: usize) -> usize {
    channels.div_ceil(LANES) * taps.div_ceil(DEPTH) * LANES * DEPTH
}

/// Packs each group's `[channels][taps]` weights that [`fits`] allows as `[channels / LANES][taps / DEPTH][LANES][DEPTH]`,
/// zero-filled, and takes the zero point's share off `bias`.
pub(super) fn pack<const LANES: usize, const DEPTH: usize>(
    weights: &[i16],
    channels: usize,
    taps: usize,
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

/// Whether two weights of -128 meet in one lane of i16, where a kernel adds the products of `half` weights to those of the `half`
/// before them: twice -128 * -128 is one more than it holds. No other two products are too much for it.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(super) fn meet(packed: &[i8], half: usize) -> bool {
    packed.chunks(2 * half).any(|w| w.iter().zip(w.iter().skip(half)).any(|(a, b)| (*a, *b) == (i8::MIN, i8::MIN)))
}

/// Whether they [`meet`] in each block of 16 channels of what the sets for ARM packed.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(super) fn meet_in_blocks(s: &ConvShape, packed: &[i8]) -> impl Iterator<Item = bool> {
    #[cfg(target_arch = "aarch64")]
    const PANEL: [usize; 2] = [LANES, 4];
    #[cfg(target_arch = "arm")]
    const PANEL: [usize; 2] = [super::armv7::CHANNELS, 16];
    // A depthwise layer's kernels add the products of two taps, the others those of two halves of 16.
    let (half, group, block) = match s.is_depthwise() {
        true => (LANES, packed.len(), packed.len() / s.input[2].div_ceil(LANES)),
        false => {
            let (channels, taps) = (s.output[2] / s.groups, s.patch_len());
            let [group, block] = [channels, LANES].map(|n| packed_len::<{ PANEL[0] }, { PANEL[1] }>(n, taps));
            (8, group, block)
        }
    };
    packed.chunks(group).take(s.groups).flat_map(move |group| group.chunks(block).map(move |block| meet(block, half)))
}

/// Takes the share of the input's zero point, `zero_point * sum of weights`, off each channel's bias. `weights`:
/// `[channels][taps]`.
pub(super) fn take_zero_point(weights: &[i16], taps: usize, zero_point: i32, bias: &mut [i32]) {
    for (bias, row) in bias.iter_mut().zip(weights.chunks_exact(taps)) {
        let sum: i32 = row.iter().map(|&w| w as i32).sum();
        *bias = bias.wrapping_sub(sum.wrapping_mul(zero_point));
    }
}

/// Where each block of 16 channels begins; the last overlaps the one before if there are not 16 left.
pub(super) fn depthwise_firsts(channels: usize) -> impl Iterator<Item = usize> {
    (0..channels).step_by(LANES).map(move |first| first.min(channels.saturating_sub(LANES)))
}

/// Packs `[channels][taps]` weights that [`fits`] allows as `[block][taps][16]`, with further taps of zero up to a multiple of
/// `depth`, and takes the zero point's share off `bias`.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(super) fn pack_depthwise(weights: &[i16], depth: usize, zero_point: i8, bias: &mut [i32]) -> Vec<i8> {
    let (channels, taps) = (bias.len(), weights.len() / bias.len());
    take_zero_point(weights, taps, zero_point.into(), bias);
    let weight = |channel: usize, tap: usize| match channel < channels && tap < taps {
        true => weights[channel * taps + tap] as i8,
        false => 0,
    };
    let block = |first: usize| (0..taps.next_multiple_of(depth) * LANES).map(move |i| weight(first + i % LANES, i / LANES));
    depthwise_firsts(channels).flat_map(block).collect()
}
