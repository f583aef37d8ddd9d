//! Sums to int8 outputs in NEON registers: bias, scale, rounding and clamp of a block of 16 channels.
//!
//! Knows no convolution; the arithmetic is `quant::requant_rndne`'s, to the last bit.
//!
//! The convert instruction rounds ties to even and saturates; narrowing with saturation keeps order, so that clamping to the
//! output's range at the end gives what clamping before rounding gives. Converting costs two cycles of one pipe for four
//! values, either way. Where `generic::sums_are_small`, adding does it: with M = 1.5 * 2^23, the bits of M plus a sum are the
//! float M + sum, and the bits of the float M + x less those of M are x rounded ties to even. The bias then holds M's bits.

use super::generic::{Epilogue, LANES};
use crate::quant::{Clamp, ROUND_MAGIC};
use core::arch::aarch64::*;

/// Sums of 16 channels.
pub(super) type Sums = [int32x4_t; 4];

/// Bias and scale of 16 channels.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) bias: Sums,
    scale: [float32x4_t; 4],
}

/// Biases and scales of a layer, readable in whole blocks. `SMALL`: whether its sums are.
pub(super) struct Blocks<'e, const SMALL: bool> {
    epilogue: Epilogue<'e>,
    channels: usize,
    last: ([i32; LANES], [f32; LANES]),
    zero_point: int16x8_t,
    /// M's bits less the zero point.
    base: int32x4_t,
    lo: int8x16_t,
    hi: int8x16_t,
}

impl<'e, const SMALL: bool> Blocks<'e, SMALL> {
    /// Of `channels` channels. Panics if there are fewer biases or scales.
    pub(super) fn new(epilogue: Epilogue<'e>, channels: usize) -> Self {
        assert!(epilogue.bias.len() >= channels && epilogue.scale.len() >= channels, "one bias and scale a channel");
        let mut last = ([0; LANES], [0.0; LANES]);
        let whole = channels / LANES * LANES;
        last.0[..channels - whole].copy_from_slice(&epilogue.bias[whole..channels]);
        last.1[..channels - whole].copy_from_slice(&epilogue.scale[whole..channels]);
        let Clamp { lo, hi, zero_point } = epilogue.clamp;
        // SAFETY: NEON is part of aarch64's baseline; registers only.
        let (lo, hi) = unsafe { (vdupq_n_s8(lo), vdupq_n_s8(hi)) };
        let base = ROUND_MAGIC.to_bits() as i32 - zero_point as i32;
        // SAFETY: as above.
        let (base, zero_point) = unsafe { (vdupq_n_s32(base), vdupq_n_s16(zero_point as i16)) };
        Self { epilogue, channels, last, zero_point, base, lo, hi }
    }

    /// The block of 16 channels from `first` on; what lies beyond the last channel is zero.
    #[inline(always)]
    pub(super) fn block(&self, first: usize) -> Block {
        let (bias, scale) = match first + LANES <= self.channels {
            true => (&self.epilogue.bias[first..][..LANES], &self.epilogue.scale[first..][..LANES]),
            false => (&self.last.0[..], &self.last.1[..]),
        };
        // SAFETY: both slices hold 16 values, read four at a time.
        unsafe {
            let start = vdupq_n_s32(if SMALL { ROUND_MAGIC.to_bits() as i32 } else { 0 });
            Block {
                bias: core::array::from_fn(|q| vaddq_s32(vld1q_s32(bias.as_ptr().add(4 * q)), start)),
                scale: core::array::from_fn(|q| vld1q_f32(scale.as_ptr().add(4 * q))),
            }
        }
    }

    /// 16 sums, biases included, to outputs.
    #[inline(always)]
    pub(super) fn requant(&self, sums: Sums, block: &Block) -> int8x16_t {
        // SAFETY: NEON is part of aarch64's baseline; registers only.
        unsafe {
            if SMALL {
                let magic = vdupq_n_f32(ROUND_MAGIC);
                let q: Sums = core::array::from_fn(|i| {
                    let sum = vsubq_f32(vreinterpretq_f32_s32(sums[i]), magic);
                    let rounded = vaddq_f32(vmulq_f32(sum, block.scale[i]), magic);
                    vsubq_s32(vreinterpretq_s32_f32(rounded), self.base)
                });
                let low = vqmovn_high_s32(vqmovn_s32(q[0]), q[1]);
                let high = vqmovn_high_s32(vqmovn_s32(q[2]), q[3]);
                return vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), self.lo), self.hi);
            }
            let q: Sums = core::array::from_fn(|i| vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums[i]), block.scale[i])));
            let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), self.zero_point);
            let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[2]), q[3]), self.zero_point);
            vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), self.lo), self.hi)
        }
    }

    /// The same, stored to `out`: 16 channels, or as many as `out` takes.
    #[inline(always)]
    pub(super) fn store(&self, sums: Sums, block: &Block, out: &mut [i8]) {
        let values = self.requant(sums, block);
        if let Some(out) = out.first_chunk_mut::<LANES>() {
            // SAFETY: the chunk holds 16 bytes.
            unsafe { vst1q_s8(out.as_mut_ptr(), values) };
            return;
        }
        let mut whole = [0i8; LANES];
        // SAFETY: the array holds 16 bytes.
        unsafe { vst1q_s8(whole.as_mut_ptr(), values) };
        out.copy_from_slice(&whole[..out.len()]);
    }

    /// Stores a tile's sums: `out` holds the rows of its pixels, the block's channels begin at `first` of each row. A last
    /// tile has fewer pixels than sums.
    #[inline(always)]
    pub(super) fn store_tile<const N: usize>(&self, sums: [Sums; N], block: &Block, out: &mut [i8], first: usize) {
        let channels = self.channels;
        if out.len() == N * channels && first + LANES <= channels {
            for (p, sums) in sums.into_iter().enumerate() {
                let values = self.requant(sums, block);
                // SAFETY: row `p` of N rows, and 16 channels from `first` on lie within it: both were just checked.
                unsafe { vst1q_s8(out.as_mut_ptr().add(p * channels + first), values) };
            }
            return;
        }
        let n = LANES.min(channels - first);
        for (row, sums) in out.chunks_exact_mut(channels).zip(sums) {
            self.store(sums, block, &mut row[first..][..n]);
        }
    }
}
