//! What is measured of an activation: each channel's mean and deviation over the image.

/// A feature of 1: features are int8 codes in 1/4096.
pub const FEATURE_ONE: i32 = 4096;

/// Channels that are added up together: their totals stay in the nearest memory.
const LANES: usize = 64;
/// Positions whose squares of int8 certainly fit 32 bits.
const BLOCK: usize = 1 << 16;
/// Positions whose total certainly fits 16 bits.
const SHORT: usize = 128;

/// Mean and deviation of each channel over all positions, in 1/4096 of a code.
///
/// `values`: `[positions][channels]`, as an activation lies. `out`: first the means, `floor(sum / n
/// + 1/2)`, then the deviations, `floor(sqrt(n * sum of squares - sum^2) / n)`; an activation of
/// one position has means only. Panics if `out` is not that long.
pub fn features(values: &[i8], channels: usize, out: &mut [i32]) {
    let positions = values.len() / channels;
    assert_eq!(out.len(), channels * if positions > 1 { 2 } else { 1 }, "one or two features a channel");
    let (means, deviations) = out.split_at_mut(channels);
    for first in (0..channels).step_by(LANES) {
        let width = LANES.min(channels - first);
        let (mut totals, mut squares) = ([0i64; LANES], [0i64; LANES]);
        for rows in values.chunks(BLOCK * channels) {
            add_up(rows, channels, first, width, &mut totals, &mut squares);
        }
        for i in 0..width {
            means[first + i] = mean(totals[i], positions as i64);
            if let Some(deviation) = deviations.get_mut(first + i) {
                *deviation = spread(totals[i], squares[i], positions as i64);
            }
        }
    }
}

/// Adds the values of `width` channels from `first` on, and their squares, over at most [`BLOCK`]
/// positions.
///
/// Two positions at a time in 16 bits, which holds the total of both squares and that of [`SHORT`]
/// values: as many lanes as that gives, and on every CPU one widening, one product and two
/// additions for each value.
fn add_up(rows: &[i8], channels: usize, first: usize, width: usize, totals: &mut [i64], squares: &mut [i64]) {
    let mut long = [0u32; LANES];
    for rows in rows.chunks(SHORT * channels) {
        let mut short = [0i16; LANES];
        let (total, square) = (&mut short[..width], &mut long[..width]);
        let pairs = rows.chunks_exact(2 * channels);
        let odd = pairs.remainder();
        for pair in pairs {
            let (a, b) = (&pair[first..first + width], &pair[channels + first..channels + first + width]);
            for i in 0..width {
                let (a, b) = (a[i] as i16, b[i] as i16);
                total[i] += a + b;
                square[i] += ((a * a) as u16 + (b * b) as u16) as u32;
            }
        }
        if !odd.is_empty() {
            for (i, &a) in odd[first..first + width].iter().enumerate() {
                total[i] += a as i16;
                square[i] += (a as i16 * a as i16) as u32;
            }
        }
        totals.iter_mut().zip(&short).for_each(|(total, short)| *total += *short as i64);
    }
    squares.iter_mut().zip(&long).for_each(|(square, long)| *square += *long as i64);
}

/// `sum / n`, to the nearest.
fn mean(sum: i64, n: i64) -> i32 {
    (2 * FEATURE_ONE as i64 * sum + n).div_euclid(2 * n) as i32
}

/// The deviation of `n` values. The root is taken of as many bits as a word holds, at most what the
/// answer needs.
fn spread(sum: i64, squares: i64, n: i64) -> i32 {
    let variance = (n * squares - sum * sum) as u64;
    let shift = (variance.leading_zeros() / 2).min(FEATURE_ONE.trailing_zeros());
    let root = (variance << (2 * shift)).isqrt() << (FEATURE_ONE.trailing_zeros() - shift);
    (root / n as u64) as i32
}
