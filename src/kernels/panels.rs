//! Packs weights as i8 panels and folds the input's zero point into the bias; shared by the kernel
//! sets of all CPUs.

use super::epilogue::{self, Epilogue, EpilogueBlock, Fit, LANES};
use super::{Layer, Panels, WeightShape};

/// Most parts of a depthwise convolution's weights.
pub(super) const MOST_PARTS: usize = 3;

/// The least and the largest of some weights.
fn ends(weights: &[i16]) -> (i16, i16) {
    weights.iter().fold((i16::MAX, i16::MIN), |(lo, hi), w| (lo.min(*w), hi.max(*w)))
}

/// Whether [`pack`] takes weights `[outputs][taps]`: those of each output lie within 255 of each
/// other, as 8-bit values less one zero point do.
pub(super) fn fits(weights: &[i16], taps: usize) -> bool {
    weights.chunks_exact(taps).map(ends).all(|(lo, hi)| hi as i32 - lo as i32 <= 255)
}

/// Whether a depthwise convolution's weights fit [`MOST_PARTS`].
pub(super) fn fits_in_parts(weights: &[i16]) -> bool {
    weights.iter().all(|w| w.unsigned_abs() <= 255)
}

/// The shift subtracted from an output's weights so that they fit i8 (see [`fits`]): 0 if they fit
/// as they are, else one that avoids -128 if possible.
fn shift(weights: &[i16]) -> i16 {
    match ends(weights) {
        (-128.., ..=127) => 0,
        (lo, hi) if lo < -128 && hi - lo < 255 => lo + 127,
        (lo, _) if lo < -128 => lo + 128,
        (_, hi) => hi - 127,
    }
}

/// In how many parts weights fit i8: of more than one none is -128.
pub(super) fn parts(weights: &[i16]) -> u8 {
    match ends(weights) {
        (-128.., ..=127) => 1,
        (lo, hi) => lo.unsigned_abs().max(hi.unsigned_abs()).div_ceil(127) as u8,
    }
}

/// Part `k` of `parts` of a weight: as much as fits of what the parts before it left.
pub(super) fn part(weight: i16, k: u8, parts: u8) -> i8 {
    let before = 127 * i16::from(k);
    let left = weight - weight.clamp(-before, before);
    (if k + 1 == parts { left } else { left.clamp(-127, 127) }) as i8
}

/// Length of what [`pack`] makes of one group's `channels`.
pub(super) const fn packed_len<const LANES: usize, const DEPTH: usize>(channels: usize, taps: usize) -> usize {
    channels.div_ceil(LANES) * taps.div_ceil(DEPTH) * LANES * DEPTH
}

/// Packs each group's `[channels][taps]` weights that [`fits`] allows as `[channels / LANES][taps /
/// DEPTH][LANES][DEPTH]`, less their shift and zero-filled, and takes the zero point's share off
/// `bias`.
pub(super) fn pack<const LANES: usize, const DEPTH: usize>(
    weights: &[i16],
    WeightShape { channels, taps, .. }: WeightShape,
    zero_point: i32,
    bias: &mut [i32],
) -> Panels {
    let (steps, group_len) = (taps.div_ceil(DEPTH), packed_len::<LANES, DEPTH>(channels, taps));
    let mut values = vec![0i8; weights.len() / (channels * taps) * group_len];
    let shifts: Vec<i16> = weights.chunks_exact(taps).map(shift).collect();
    let groups = weights.chunks_exact(channels * taps).zip(shifts.chunks_exact(channels));
    for (packed, (weights, shifts)) in values.chunks_exact_mut(group_len).zip(groups) {
        let panels = packed.chunks_exact_mut(steps * LANES * DEPTH);
        for ((panel, rows), shifts) in panels.zip(weights.chunks(LANES * taps)).zip(shifts.chunks(LANES)) {
            for (lane, (row, shift)) in rows.chunks_exact(taps).zip(shifts).enumerate() {
                for (step, taps) in panel.chunks_exact_mut(LANES * DEPTH).zip(row.chunks(DEPTH)) {
                    for (to, &w) in step[lane * DEPTH..].iter_mut().zip(taps) {
                        *to = (w - shift) as i8;
                    }
                }
            }
        }
    }
    take_zero_point(weights, taps, zero_point, bias);
    let blocks = shifts.chunks(channels).flat_map(|group| group.chunks(epilogue::LANES));
    Panels { values, fits: blocks.map(Fit::by_shifts).collect() }
}

/// Whether two weights of -128 meet in one lane of i16, where a kernel adds the products of `half`
/// weights to those of the `half` before them: twice -128 * -128 is one more than it holds. No
/// other two products are too much for it.
pub(super) fn meet(packed: &[i8], half: usize) -> bool {
    packed.chunks(2 * half).any(|w| w.iter().zip(w.iter().skip(half)).any(|(a, b)| (*a, *b) == (i8::MIN, i8::MIN)))
}

/// Says of each block of 16 channels of what [`pack`] made for ARM whether they [`meet`] there.
pub(super) fn keep_apart<const CHANNELS: usize, const DEPTH: usize>(
    Panels { values, fits }: &mut Panels,
    WeightShape { channels, taps, groups }: WeightShape,
) {
    let [group, block] = [channels, LANES].map(|channels| packed_len::<CHANNELS, DEPTH>(channels, taps));
    let blocks = values.chunks(group).take(groups).flat_map(|group| group.chunks(block));
    for (fit, block) in fits.iter_mut().zip(blocks) {
        // Each kernel adds the products of the two halves of 16.
        fit.apart = meet(block, 8);
    }
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

/// Packs `[channels][taps]` weights that [`fits_in_parts`] allows as `[block][part][taps][16]`, and
/// takes the zero point's share off `bias`.
pub(super) fn pack_depthwise(weights: &[i16], zero_point: i8, bias: &mut [i32]) -> Panels {
    let (channels, taps) = (bias.len(), weights.len() / bias.len());
    take_zero_point(weights, taps, zero_point.into(), bias);
    let mut panels = Panels::default();
    for first in depthwise_firsts(channels) {
        let weights = &weights[first * taps..][..LANES.min(channels - first) * taps];
        let (begin, parts) = (panels.values.len(), parts(weights));
        for (k, i) in (0..parts).flat_map(|k| (0..taps * LANES).map(move |i| (k, i))) {
            let weight = weights.get(i % LANES * taps + i / LANES);
            panels.values.push(weight.map_or(0, |w| part(*w, k, parts)));
        }
        // The kernels add the products of two taps.
        let apart = meet(&panels.values[begin..], LANES);
        panels.fits.push(Fit { parts, apart, ..Fit::AS_THEY_ARE });
    }
    panels
}

/// The most parts of a block's weights.
pub(super) fn most_parts(epilogue: &Epilogue<'_>) -> usize {
    epilogue.blocks.iter().map(|block| usize::from(block.fit.parts)).max().unwrap_or(1)
}

/// The blocks of a depthwise convolution, each with its weights, of `len` a part, and its first
/// channel.
pub(super) fn depthwise_blocks<'l>(
    layer: Layer<'l, [i8]>,
    len: usize,
) -> impl Iterator<Item = (usize, &'l [i8], &'l EpilogueBlock)> {
    let mut rest = layer.weights;
    depthwise_firsts(layer.shape.input[2]).zip(layer.epilogue.blocks).map(move |(first, block)| {
        let (weights, after) = rest.split_at(usize::from(block.fit.parts) * len);
        rest = after;
        (first, weights, block)
    })
}
