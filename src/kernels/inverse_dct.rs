//! The inverse DCT of JPEG: a block of 8 by 8 coefficients to samples, bit for bit what libjpeg's
//! slow and accurate one gives.
//!
//! A block is transformed column after column, transposed, transformed again and transposed back.
//! Core only. On x86-64 it uses SSE2, which every such CPU has: a pair of coefficients at a time by
//! `pmaddwd`. It adds the same integers in another order, and nothing overflows, so the bits are the
//! same. Format: ITU-T T.81 (1992), A.3.3.

#[cfg(not(target_arch = "x86_64"))]
use portable::samples;
#[cfg(target_arch = "x86_64")]
use sse2::samples;

/// Inverse DCT of a block into `out`.
///
/// `coefficients`: as they were sent, row after row; `steps`: what each is multiplied by. What
/// overflows 16 bits then is no image, and wraps alike on every CPU. `out`: eight rows of eight
/// samples, 0 to 255, `stride` apart; what lies between them is left. Panics if it is too short.
pub fn inverse_dct(coefficients: &[i16; 64], steps: &[u16; 64], out: &mut [u8], stride: usize) {
    if coefficients[1..].iter().all(|c| *c == 0) {
        let grey = (((coefficients[0].wrapping_mul(steps[0] as i16) as i32 + 4) >> 3) + 128).clamp(0, 255) as u8;
        (0..8).for_each(|y| out[y * stride..][..8].fill(grey));
        return;
    }
    for (y, row) in samples(coefficients, steps).iter().enumerate() {
        out[y * stride..][..8].copy_from_slice(row);
    }
}

/// What coefficients 0, 2, 4 and 6 give samples 0 to 3 of a column, in 1/8192: the cosines of the
/// DCT, times the root of 2 but for the first. Samples 7 to 4 get the same.
const EVEN: [[i16; 4]; 4] =
    [[8192, 10_703, 8192, 4433], [8192, 4433, -8192, -10_704], [8192, -4433, -8192, 10_704], [8192, -10_703, 8192, -4433]];
/// What coefficients 1, 3, 5 and 7 give samples 0 to 3. Samples 7 to 4 get the opposite. The
/// cosines are 11,363, 9633, 6437 and 2260; here and there the last digit is that of added-up
/// rounded numbers, which libjpeg multiplies by.
const ODD: [[i16; 4]; 4] =
    [[11_363, 9633, 6437, 2260], [9633, -2259, -11_362, -6436], [6437, -11_362, 2261, 9633], [2260, -6436, 9633, -11_363]];
/// Bits that each pass rounds away: the first keeps two bits more, the second gives them up, and
/// the factor of 8 that both bring.
const FIRST: u32 = 11;
const SECOND: u32 = 18;

/// The transform in plain integers, for CPUs without one of their own; what the others are tested
/// against.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::{EVEN, FIRST, ODD, SECOND};

    pub(super) fn samples(coefficients: &[i16; 64], steps: &[u16; 64]) -> [[u8; 8]; 8] {
        let block: [i16; 64] = core::array::from_fn(|i| coefficients[i].wrapping_mul(steps[i] as i16));
        let columns = transform::<FIRST>(block.as_chunks().0.try_into().expect("eight rows of eight"));
        let rows = transform::<SECOND>(&transposed(&columns));
        transposed(&rows).map(|row| row.map(|v| v.saturating_add(128).clamp(0, 255) as u8))
    }

    fn transposed(block: &[[i16; 8]; 8]) -> [[i16; 8]; 8] {
        core::array::from_fn(|y| core::array::from_fn(|x| block[x][y]))
    }

    /// The one-dimensional inverse DCT of all eight columns. `SHIFT`: bits that are rounded away.
    /// No sum has more than 31 bits.
    #[inline]
    fn transform<const SHIFT: u32>(block: &[[i16; 8]; 8]) -> [[i16; 8]; 8] {
        let mut samples = [[0; 8]; 8];
        for k in 0..4 {
            let (mut even, mut odd) = ([1i32 << (SHIFT - 1); 8], [0i32; 8]);
            for i in 0..4 {
                for x in 0..8 {
                    even[x] += block[2 * i][x] as i32 * EVEN[k][i] as i32;
                    odd[x] += block[2 * i + 1][x] as i32 * ODD[k][i] as i32;
                }
            }
            let rounded = |sum: i32| (sum >> SHIFT).clamp(i16::MIN as i32, i16::MAX as i32) as i16;
            for x in 0..8 {
                samples[k][x] = rounded(even[x] + odd[x]);
                samples[7 - k][x] = rounded(even[x] - odd[x]);
            }
        }
        samples
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector loads from arrays of the vector's length")]
mod sse2 {
    use super::{EVEN, FIRST, ODD, SECOND};
    use core::arch::x86_64::*;

    /// Eight rows of eight 16-bit numbers.
    type Block = [__m128i; 8];

    pub(super) fn samples(coefficients: &[i16; 64], steps: &[u16; 64]) -> [[u8; 8]; 8] {
        let (coefficients, steps) = (coefficients.as_chunks::<8>().0, steps.as_chunks::<8>().0);
        // SAFETY: each load reads 16 bytes from an array of eight 16-bit numbers.
        let row = |i: usize| unsafe {
            let (row, steps) = (coefficients[i].as_ptr().cast(), steps[i].as_ptr().cast());
            _mm_mullo_epi16(_mm_loadu_si128(row), _mm_loadu_si128(steps))
        };
        let columns = transform::<{ FIRST as i32 }>(core::array::from_fn(row));
        let rows = transposed(transform::<{ SECOND as i32 }>(transposed(columns)));
        let mut out = [[0; 8]; 8];
        for (out, [upper, lower]) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows.as_chunks::<2>().0) {
            // SAFETY: SSE2 belongs to x86-64; the store writes 16 bytes to two arrays of eight.
            unsafe {
                let centre = _mm_set1_epi16(128);
                let both = _mm_packus_epi16(_mm_adds_epi16(*upper, centre), _mm_adds_epi16(*lower, centre));
                _mm_storeu_si128(out.as_mut_ptr().cast(), both);
            }
        }
        out
    }

    #[inline(always)]
    fn transposed(rows: Block) -> Block {
        // SAFETY: SSE2 belongs to x86-64; registers only, here and below.
        let interleaved_16 = |a, b| unsafe { [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)] };
        // SAFETY: as above.
        let interleaved_32 = |a, b| unsafe { [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)] };
        // SAFETY: as above.
        let interleaved_64 = |a, b| unsafe { [_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)] };
        let [a, b, c, d, e, f, g, h] = rows;
        let ([ab, ab_], [cd, cd_]) = (interleaved_16(a, b), interleaved_16(c, d));
        let ([ef, ef_], [gh, gh_]) = (interleaved_16(e, f), interleaved_16(g, h));
        let ([p0, p1], [p2, p3]) = (interleaved_32(ab, cd), interleaved_32(ab_, cd_));
        let ([q0, q1], [q2, q3]) = (interleaved_32(ef, gh), interleaved_32(ef_, gh_));
        let [[a, b], [c, d]] = [interleaved_64(p0, q0), interleaved_64(p1, q1)];
        let [[e, f], [g, h]] = [interleaved_64(p2, q2), interleaved_64(p3, q3)];
        [a, b, c, d, e, f, g, h]
    }

    /// As the portable one. Rows 0 and 4 give two numbers, and so do rows 2 and 6: samples 0 and 3,
    /// and 1 and 2, are one of each, added and subtracted.
    #[inline(always)]
    fn transform<const SHIFT: i32>(rows: Block) -> Block {
        // SAFETY: SSE2 belongs to x86-64; registers only, here and below.
        let [left, right] = unsafe {
            let [a, b, c, d, e, f, g, h] = rows;
            [
                half::<SHIFT>(
                    [_mm_unpacklo_epi16(a, e), _mm_unpacklo_epi16(c, g)],
                    [_mm_unpacklo_epi16(b, d), _mm_unpacklo_epi16(f, h)],
                ),
                half::<SHIFT>(
                    [_mm_unpackhi_epi16(a, e), _mm_unpackhi_epi16(c, g)],
                    [_mm_unpackhi_epi16(b, d), _mm_unpackhi_epi16(f, h)],
                ),
            ]
        };
        // SAFETY: as above.
        core::array::from_fn(|k| unsafe { _mm_packs_epi32(left[k], right[k]) })
    }

    /// Four columns of [`transform`]. `even`: rows 0 and 4, and 2 and 6, in pairs; `odd`: 1 and 3,
    /// and 5 and 7. The samples, 32 bits each.
    #[inline(always)]
    fn half<const SHIFT: i32>(even: [__m128i; 2], odd: [__m128i; 2]) -> Block {
        // SAFETY: SSE2 belongs to x86-64; registers only.
        unsafe {
            let products = |pairs, a: i16, b: i16| _mm_madd_epi16(pairs, _mm_set1_epi32((b as i32) << 16 | a as u16 as i32));
            let rounding = _mm_set1_epi32(1 << (SHIFT - 1));
            let [sum, difference] = [0, 1].map(|k| _mm_add_epi32(rounding, products(even[0], EVEN[k][0], EVEN[k][2])));
            let [outer, inner] = [0, 1].map(|k| products(even[1], EVEN[k][1], EVEN[k][3]));
            let even = [
                _mm_add_epi32(sum, outer),
                _mm_add_epi32(difference, inner),
                _mm_sub_epi32(difference, inner),
                _mm_sub_epi32(sum, outer),
            ];
            let mut samples = [rounding; 8];
            for k in 0..4 {
                let [a, b, c, d] = ODD[k];
                let odd = _mm_add_epi32(products(odd[0], a, b), products(odd[1], c, d));
                samples[k] = _mm_srai_epi32::<SHIFT>(_mm_add_epi32(even[k], odd));
                samples[7 - k] = _mm_srai_epi32::<SHIFT>(_mm_sub_epi32(even[k], odd));
            }
            samples
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Blocks of every kind: real ones, whose numbers shrink towards high frequencies, ones of
    /// extremes, where every product wraps or saturates, and ones with a single coefficient.
    fn block(n: u32, r: &mut Random) -> [i16; 64] {
        let single = r.range(0, 63) as usize;
        core::array::from_fn(|i| match n % 4 {
            0 => (r.range(-512, 512) / (1 + i as i32)) as i16,
            1 => r.range(i16::MIN.into(), i16::MAX.into()) as i16,
            2 => [i16::MIN, -1, 0, 1, i16::MAX][r.range(0, 4) as usize],
            _ => {
                if i == single {
                    r.range(-1024, 1024) as i16
                } else {
                    0
                }
            }
        })
    }

    #[test]
    fn this_cpus_inverse_dct_gives_the_portable_ones_samples() {
        let mut r = Random::new(11, 0);
        for n in 0..20_000 {
            let coefficients = block(n, &mut r);
            let steps: [u16; 64] = core::array::from_fn(|_| r.range(1, if n % 8 < 4 { 40 } else { u16::MAX.into() }) as u16);
            assert_eq!(
                samples(&coefficients, &steps),
                portable::samples(&coefficients, &steps),
                "{coefficients:?} {steps:?}"
            );
        }
    }

    /// Judged by the cosines themselves, in f64.
    #[test]
    fn a_block_is_within_one_level_of_the_cosines() {
        let mut r = Random::new(12, 0);
        let cosine = |x: usize, u: usize| {
            let scale = if u == 0 { core::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
            scale / 2.0 * ((2 * x + 1) as f64 * u as f64 * core::f64::consts::PI / 16.0).cos()
        };
        for n in 0..500 {
            let coefficients = block(4 * n, &mut r);
            let steps: [u16; 64] = core::array::from_fn(|_| r.range(1, 4) as u16);
            let (stride, mut out) = (11, [7; 7 * 11 + 8]);
            inverse_dct(&coefficients, &steps, &mut out, stride);
            for (y, row) in out.chunks(stride).enumerate() {
                for (x, found) in row[..8].iter().enumerate() {
                    let term = |i: usize| coefficients[i] as f64 * steps[i] as f64 * cosine(y, i / 8) * cosine(x, i % 8);
                    let exact = (128.0 + (0..64).map(term).sum::<f64>()).clamp(0.0, 255.0);
                    let is_near = (*found as f64 - exact).abs() <= 1.0;
                    assert!(is_near, "row {y} column {x} of {coefficients:?}: {found} {exact}");
                }
                assert!(row[8..].iter().all(|v| *v == 7), "written between the rows");
            }
        }
    }
}
