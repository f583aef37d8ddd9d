//! The inner loops of preprocessing: weighted averages over rows, then over the pixels of a row,
//! and packed rows split into channels.
//!
//! Core only. On aarch64 it uses NEON, which every such CPU has.

/// Entries after a line's last pixel that [`columns`] may read, with weight zero.
pub const SLACK: usize = 8;

/// Averages rows: `line[i] = (sum_k rows[k][i] * weights[k] + 2^5) >> 6`, with 8 fractional bits if
/// the weights add up to 2^14.
///
/// `rows`: starts at the first value wanted of the first row; rows are `stride` apart. `line`: one
/// entry per value wanted of a row. Panics if `rows` ends too early.
pub fn rows(rows: &[u8], stride: usize, weights: &[u16], line: &mut [u16]) {
    const BLOCK: usize = 64;
    let mut at = 0;
    while at < line.len() {
        let n = BLOCK.min(line.len() - at);
        let mut accumulators = [32u32; BLOCK];
        for (k, &weight) in weights.iter().enumerate() {
            let pixels = &rows[k * stride + at..][..n];
            if let Ok(pixels) = <&[u8; BLOCK]>::try_from(pixels) {
                for i in 0..BLOCK {
                    accumulators[i] += pixels[i] as u32 * weight as u32;
                }
            } else {
                for (sum, &p) in accumulators.iter_mut().zip(pixels) {
                    *sum += p as u32 * weight as u32;
                }
            }
        }
        for (out, sum) in line[at..at + n].iter_mut().zip(accumulators) {
            *out = (sum >> 6) as u16;
        }
        at += n;
    }
}

/// Averages pixels: `out[i] = (sum_k line[first_i + k] * weight_i[k] + 2^21) >> 22`, 0..=255 if the
/// weights add up to 2^14.
///
/// `entries`: per output its first pixel, the number of its weights, and `weights_len` weights,
/// padded with zeros; `weights_len` is 4 or a multiple of [`SLACK`]. `line`: ends with [`SLACK`]
/// entries after the last pixel. Panics if it is too short.
pub fn columns(line: &[u16], entries: &[u16], weights_len: usize, out: &mut [u16]) {
    match weights_len {
        4 => columns_of::<4>(line, entries, out),
        SLACK => columns_of::<SLACK>(line, entries, out),
        _ => {
            for (out, entry) in out.iter_mut().zip(entries.chunks_exact(2 + weights_len)) {
                let (first, weights) = (entry[0] as usize, entry[2..].as_chunks::<SLACK>().0);
                // What lies behind the last weight may lie behind the slack.
                let used = &weights[..(entry[1] as usize).div_ceil(SLACK)];
                let pixels = &line[first..][..used.len() * SLACK];
                *out = rounded(pixels.as_chunks().0.iter().zip(used).map(|(p, w)| weighted(p, w)).sum());
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
use neon::columns_of;

/// [`columns`] of `N` weights: whole vectors, no loop.
#[cfg(not(target_arch = "aarch64"))]
fn columns_of<const N: usize>(line: &[u16], entries: &[u16], out: &mut [u16]) {
    for (out, entry) in out.iter_mut().zip(entries.chunks_exact(2 + N)) {
        let pixels = line[entry[0] as usize..].first_chunk::<N>().expect("the slack");
        *out = rounded(weighted(pixels, entry[2..].first_chunk::<N>().expect("an entry has N weights")));
    }
}

#[inline(always)]
fn weighted<const N: usize>(pixels: &[u16; N], weights: &[u16; N]) -> u32 {
    (0..N).map(|k| pixels[k] as u32 * weights[k] as u32).sum()
}

#[inline(always)]
fn rounded(sum: u32) -> u16 {
    ((sum + (1 << 21)) >> 22) as u16
}

/// Splits a row of Y0 U Y1 V into channels. `luma` holds two, `u` and `v` one entry of each four of
/// `line`; what is longer is left.
pub fn split_yuyv(line: &[u16], luma: &mut [u16], u: &mut [u16], v: &mut [u16]) {
    #[cfg(target_arch = "aarch64")]
    let done = neon::split_yuyv(line, luma, u, v);
    #[cfg(not(target_arch = "aarch64"))]
    let done = 0;
    let lumas = luma[2 * done..].as_chunks_mut::<2>().0.iter_mut();
    for (((luma, u), v), p) in lumas.zip(&mut u[done..]).zip(&mut v[done..]).zip(&line.as_chunks::<4>().0[done..]) {
        *luma = [p[0], p[2]];
        (*u, *v) = (p[1], p[3]);
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "vector loads behind checked lengths")]
mod neon {
    use core::arch::aarch64::*;

    /// An entry's weights times their pixels, in four partial accumulators.
    #[inline(always)]
    fn products<const N: usize>(line: &[u16], weights: &[u16; N], first: u16) -> uint32x4_t {
        // If a caller's mistake puts the first pixel after the line, the line's end is read
        // instead.
        let first = (first as usize).min(line.len() - N);
        // SAFETY: `first + N <= line.len()`, and `weights` has N entries: 4, or 8 in the second
        // branch.
        unsafe {
            let (pixels, weights) = (line.as_ptr().add(first), weights.as_ptr());
            if N == 4 {
                vmull_u16(vld1_u16(pixels), vld1_u16(weights))
            } else {
                let (p, w) = (vld1q_u16(pixels), vld1q_u16(weights));
                vmlal_high_u16(vmull_u16(vget_low_u16(p), vget_low_u16(w)), p, w)
            }
        }
    }

    /// [`super::columns`] of 4 or 8 weights, four outputs at a time: their accumulators are added
    /// in pairs.
    pub(super) fn columns_of<const N: usize>(line: &[u16], entries: &[u16], out: &mut [u16]) {
        assert!((N == 4 || N == 8) && line.len() >= N, "whole vectors, and the slack");
        let of = |entry: &[u16]| products::<N>(line, entry[2..].first_chunk().expect("an entry has N weights"), entry[0]);
        let (fours, rest) = out.as_chunks_mut::<4>();
        let done = fours.len() * 4;
        for (out, entries) in fours.iter_mut().zip(entries.chunks_exact(4 * (2 + N))) {
            let (ab, cd) = entries.split_at(2 * (2 + N));
            let ((a, b), (c, d)) = (ab.split_at(2 + N), cd.split_at(2 + N));
            // SAFETY: four entries are written to an array of four; the rest works on registers.
            unsafe {
                let sum = vpaddq_u32(vpaddq_u32(of(a), of(b)), vpaddq_u32(of(c), of(d)));
                // 22 bits by two steps: the narrowing shift takes at most 16.
                vst1_u16(out.as_mut_ptr(), vshrn_n_u32::<16>(vshrq_n_u32::<6>(vaddq_u32(sum, vdupq_n_u32(1 << 21)))));
            }
        }
        for (out, entry) in rest.iter_mut().zip(entries.chunks_exact(2 + N).skip(done)) {
            // SAFETY: registers only.
            *out = super::rounded(unsafe { vaddvq_u32(of(entry)) });
        }
    }

    /// [`super::split_yuyv`] for eight times Y0 U Y1 V at once; returns how many it did.
    pub(super) fn split_yuyv(line: &[u16], luma: &mut [u16], u: &mut [u16], v: &mut [u16]) -> usize {
        let lumas = luma.as_chunks_mut::<16>().0.iter_mut();
        let chromas = u.as_chunks_mut::<8>().0.iter_mut().zip(v.as_chunks_mut::<8>().0);
        let mut done = 0;
        for ((line, luma), (u, v)) in line.as_chunks::<32>().0.iter().zip(lumas).zip(chromas) {
            // SAFETY: 32 entries are read from an array of 32, 16 and twice 8 written to arrays of
            // that length.
            unsafe {
                let uint16x8x4_t(y0, us, y1, vs) = vld4q_u16(line.as_ptr());
                vst2q_u16(luma.as_mut_ptr(), uint16x8x2_t(y0, y1));
                vst1q_u16(u.as_mut_ptr(), us);
                vst1q_u16(v.as_mut_ptr(), vs);
            }
            done += 8;
        }
        done
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::random::Random;

    fn noise(len: usize, r: &mut Random) -> Vec<u16> {
        (0..len).map(|_| r.range(0, u16::MAX.into()) as u16).collect()
    }

    #[test]
    fn columns_are_weighted_averages_for_every_number_of_weights_and_outputs() {
        let mut r = Random::new(3, 0);
        for weights_len in [4, 8, 16, 24] {
            for outputs in [0, 1, 3, 4, 5, 7, 8, 9, 17] {
                for count in 1..=weights_len {
                    let pixels = count + outputs;
                    let line = noise(pixels + SLACK, &mut r);
                    let mut entries = vec![0; outputs * (2 + weights_len)];
                    for (i, entry) in entries.chunks_exact_mut(2 + weights_len).enumerate() {
                        (entry[0], entry[1]) = (i as u16, count as u16);
                        entry[2..][..count].copy_from_slice(&noise(count, &mut r));
                        // Weights add up to 2^14 at most: the sum fits.
                        entry[2..].iter_mut().for_each(|w| *w %= (16384 / count) as u16);
                    }
                    let want: Vec<u16> = entries
                        .chunks_exact(2 + weights_len)
                        .map(|e| (0..count).map(|k| line[e[0] as usize + k] as u64 * e[2 + k] as u64).sum::<u64>())
                        .map(|sum| ((sum + (1 << 21)) >> 22) as u16)
                        .collect();
                    let mut out = vec![7; outputs + 1];
                    columns(&line, &entries, weights_len, &mut out[..outputs]);
                    assert_eq!(out[..outputs], want, "{weights_len} weights, {outputs} outputs, {count} pixels");
                    assert_eq!(out[outputs], 7, "written behind the end");
                }
            }
        }
    }

    #[test]
    fn a_row_of_yuyv_is_split_for_every_length() {
        let mut r = Random::new(4, 0);
        for pairs in (0..20).chain([31, 32, 33, 160]) {
            let line = noise(4 * pairs, &mut r);
            let (mut luma, mut u, mut v) = (vec![9; 2 * pairs + 1], vec![9; pairs + 1], vec![9; pairs + 1]);
            split_yuyv(&line, &mut luma, &mut u, &mut v);
            for (i, p) in line.chunks(4).enumerate() {
                assert_eq!([luma[2 * i], u[i], luma[2 * i + 1], v[i]], *p, "pair {i} of {pairs}");
            }
            assert_eq!([luma[2 * pairs], u[pairs], v[pairs]], [9; 3], "written behind the end");
        }
    }
}
