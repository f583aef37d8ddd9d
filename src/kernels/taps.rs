//! Where the taps of each output of a depthwise convolution lie, for kernels that take any of them.
//!
//! A list says where each tap lies, seen from a base. Outputs whose taps all lie in the image share one list and differ in their
//! base, the first tap; the others have a list of their own, with a column of padding for taps outside the image. 16 values can be
//! read from each block's first channel on: where the image ends before that, they are read from a copy of its end.

use super::ConvShape;
use super::generic::LANES;
use super::patches::bytes;
use core::ops::Range;

/// The lists of one layer.
pub(super) struct Taps<'s> {
    s: &'s ConvShape,
    input: &'s [i8],
    padding: &'s [i8],
    /// The image's last values, of which the first is the image's `end_at`th, with as many bytes behind them as a load reads.
    end: &'s [i8],
    end_at: usize,
    inside: &'s mut [isize],
    edge: &'s mut [isize],
    /// Rows and columns of outputs whose taps all lie in the image.
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Bytes of one column of padding that are read.
fn column_len(s: &ConvShape) -> usize {
    s.input[2].max(LANES)
}

/// Length in i16 of the scratch that lists filled to a multiple of `depth` need.
pub(super) fn scratch_len(s: &ConvShape, depth: usize) -> usize {
    let lists = (2 * s.patch_len().next_multiple_of(depth) + 1) * size_of::<isize>();
    (column_len(s) + 2 * LANES + lists).div_ceil(2)
}

impl<'s> Taps<'s> {
    /// Behind the last tap lists are filled with the first one, up to a multiple of `depth`. `scratch`: [`scratch_len`].
    pub(super) fn new(s: &'s ConvShape, depth: usize, input: &'s [i8], zero_point: i8, scratch: &'s mut [i16]) -> Self {
        let [h, w, c] = s.input;
        assert_eq!(input.len(), h * w * c, "input length");
        let taps = s.patch_len().next_multiple_of(depth);
        let (values, lists) = scratch.split_at_mut((column_len(s) + 2 * LANES).div_ceil(2));
        let (padding, end) = bytes(values).split_at_mut(column_len(s));
        padding.fill(zero_point);
        let end_at = input.len().saturating_sub(LANES);
        end[..input.len() - end_at].copy_from_slice(&input[end_at..]);
        // SAFETY: a number has no invalid bytes.
        let (_, lists, _) = unsafe { lists.align_to_mut::<isize>() };
        let (inside, rest) = lists.split_at_mut(taps);
        for (t, to) in inside.iter_mut().enumerate() {
            let t = if t < s.patch_len() { t } else { 0 };
            *to = ((t / s.kernel[1] * s.dilation[0] * w + t % s.kernel[1] * s.dilation[1]) * c) as isize;
        }
        Self { s, input, padding, end, end_at, inside, edge: &mut rest[..taps], rows: s.inside(0), columns: s.inside(1) }
    }

    /// The base and the list of the output at (`oy`, `ox`): 16 values are readable there, from each block's first channel on.
    #[inline(always)]
    pub(super) fn of(&mut self, oy: usize, ox: usize) -> (*const i8, &[isize]) {
        let [_, w, c] = self.s.input;
        let y0 = (oy * self.s.stride[0]).wrapping_sub(self.s.pad[0]);
        let x0 = (ox * self.s.stride[1]).wrapping_sub(self.s.pad[1]);
        if self.rows.contains(&oy) && self.columns.contains(&ox) {
            let first = (y0 * w + x0) * c;
            let last = first + self.inside[self.s.patch_len() - 1] as usize;
            if last + LANES.max(c) <= self.input.len() {
                return (self.input[first..].as_ptr(), self.inside);
            }
        }
        let (kw, taps, [dy, dx]) = (self.s.kernel[1], self.s.patch_len(), self.s.dilation);
        for t in 0..self.edge.len() {
            let tap = if t < taps { t } else { 0 };
            self.edge[t] = self.column(y0.wrapping_add(tap / kw * dy), x0.wrapping_add(tap % kw * dx));
        }
        (self.input.as_ptr(), self.edge)
    }

    /// Where a column lies, seen from the image's beginning.
    fn column(&self, y: usize, x: usize) -> isize {
        let [h, w, c] = self.s.input;
        let place = match y < h && x < w {
            true => {
                let at = (y * w + x) * c;
                if at + LANES.max(c) <= self.input.len() {
                    return at as isize;
                }
                self.end[at - self.end_at..].as_ptr()
            }
            false => self.padding.as_ptr(),
        };
        (place as isize).wrapping_sub(self.input.as_ptr() as isize)
    }
}
