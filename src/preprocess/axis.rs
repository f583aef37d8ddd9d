//! One axis of the antialiased triangle filter, in exact integers: maps an interval of a plane's
//! pixels to output pixels.
//!
//! Positions are integers in units of `1 / (2 * out * f)` plane pixels, where `f` is how many luma
//! pixels a plane pixel covers. Output i is centred at `2 * out * start + (2i + 1) * len`, plane
//! pixel j at `(2j + 1) * out * f`. The triangle reaches one output pixel to each side when
//! shrinking and one plane pixel when enlarging.

use crate::kernels::blend::{self, SLACK};

/// An interval of a plane and the number of pixels it becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    start: u64,
    len: u64,
    out: u64,
    factor: u64,
    /// First and last-but-one plane pixel that may be read.
    first: u64,
    end: u64,
}

/// Bits of a weight: a pixel's weights add up to exactly 2^14.
const WEIGHT_BITS: u32 = 14;

impl Axis {
    /// `start`, `len`: the interval in luma pixels; `factor`: luma pixels a plane pixel; `side`:
    /// luma pixels of the frame.
    pub(super) fn new(start: u32, len: u32, out: u32, factor: u32, side: u32) -> Self {
        let (start, len, factor) = (start as u64, len as u64, factor as u64);
        let first = start / factor;
        let end = (start + len).div_ceil(factor).min((side as u64).div_ceil(factor));
        Self { start, len, out: out as u64, factor, first, end }
    }

    /// Reach of the triangle in the axis's units.
    fn reach(&self) -> u64 {
        2 * self.len.max(self.out * self.factor)
    }

    /// The range of plane pixels that are read.
    pub(super) fn span(&self) -> core::ops::Range<usize> {
        self.first as usize..self.end as usize
    }

    /// Weights stored per output pixel: the most plane pixels that one reads, padded with zeros to
    /// 4 or to a multiple of 8.
    fn weights_len(&self) -> usize {
        let most = (2 * self.reach()).div_ceil(2 * self.out * self.factor) as usize + 1;
        if most <= 4 { 4 } else { most.next_multiple_of(SLACK) }
    }

    /// Entries of this axis in the table of taps: per output the first pixel, the count, the
    /// weights.
    pub(super) fn taps_len(&self) -> usize {
        self.out as usize * (2 + self.weights_len())
    }

    /// Writes the taps of every output pixel.
    pub(super) fn fill(&self, taps: &mut [u16]) {
        let (unit, reach) = (self.out * self.factor, self.reach());
        for (i, entry) in taps.chunks_exact_mut(2 + self.weights_len()).enumerate() {
            let centre = 2 * self.out * self.start + (2 * i as u64 + 1) * self.len;
            let weight = |j: u64| reach.saturating_sub(centre.abs_diff((2 * j + 1) * unit));
            let from = (centre.saturating_sub(reach) / (2 * unit)).max(self.first);
            let until = ((centre + reach) / (2 * unit) + 1).min(self.end);
            let from = (from..until).find(|&j| weight(j) > 0).unwrap_or(self.first);
            let until = (from..until).rev().find(|&j| weight(j) > 0).map_or(from + 1, |j| j + 1);
            let sum: u64 = (from..until).map(weight).sum::<u64>().max(1);
            let (mut given, mut largest) = (0, 0);
            entry[0] = from as u16;
            entry[1] = (until - from) as u16;
            let weights = &mut entry[2..];
            weights.fill(0);
            for (slot, j) in (from..until).enumerate() {
                weights[slot] = (((weight(j) << WEIGHT_BITS) + sum / 2) / sum) as u16;
                given += weights[slot] as i32;
                if weights[slot] > weights[largest] {
                    largest = slot;
                }
            }
            // Rounding leaves a few units over; the largest weight takes them, so that flat grey
            // stays flat grey.
            weights[largest] = (weights[largest] as i32 + (1 << WEIGHT_BITS) - given) as u16;
        }
    }
}

/// The filled taps of an axis.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a> {
    entries: &'a [u16],
    entry_len: usize,
}

impl<'a> Taps<'a> {
    pub(super) fn new(axis: Axis, entries: &'a [u16]) -> Self {
        Self { entries, entry_len: 2 + axis.weights_len() }
    }

    /// First plane pixel and weights of output `i`, without the zeros.
    fn get(&self, i: usize) -> (usize, &'a [u16]) {
        let entry = &self.entries[i * self.entry_len..][..self.entry_len];
        (entry[0] as usize, &entry[2..2 + entry[1] as usize])
    }
}

/// Blends the rows that output row `row` reads into `line`, with 8 fractional bits.
///
/// `plane`: starts at the first byte wanted of its first row; `line`: one entry per byte wanted of
/// a row.
pub(super) fn blend_rows(plane: &[u8], stride: usize, taps: &Taps<'_>, row: usize, line: &mut [u16]) {
    let (first, weights) = taps.get(row);
    blend::rows(&plane[first * stride..], stride, weights, line);
}

/// Blends the pixels of one channel's blended line, which ends with [`SLACK`] entries, into `out`:
/// 0..=255.
pub(super) fn blend_columns(line: &[u16], taps: &Taps<'_>, out: &mut [u16]) {
    blend::columns(line, taps.entries, taps.entry_len - 2, out);
}
