//! Where the taps of a depthwise convolution's outputs lie, for kernels that take any of them.
//!
//! A list says where each tap lies, seen from a base, as often as a weight has parts at most. The
//! outputs of a row whose columns all lie in the image share one list and differ in their base, the
//! first column's first value; a kernel's row outside the image is read from a line of padding.
//! Each other output of the row has a list of its own, seen from the image's beginning, with
//! padding where it has no column. 16 values can be read from each block's first channel on: where
//! the image ends before that, they are read from a copy of its end.

use super::ConvShape;
use super::epilogue::LANES;
use super::panels::MOST_PARTS;
use super::patches::bytes;
use core::ops::Range;

/// The lists of one row of outputs.
pub(super) struct Taps<'s> {
    s: &'s ConvShape,
    input: &'s [i8],
    /// A row of the image's length of the zero point, 16 values at least.
    padding: &'s [i8],
    /// The image's last values, of which the first is the image's `end_at`th, with as many bytes
    /// behind them as a load reads.
    end: &'s [i8],
    end_at: usize,
    /// The list that outputs share, and those of the others, from left to right.
    lists: &'s mut [isize],
    /// Outputs of a row whose columns all lie in the image.
    inside: Range<usize>,
    /// Places in a list.
    len: usize,
}

/// Values of a line of padding that are read.
fn line_len(s: &ConvShape) -> usize {
    s.input[1] * s.input[2] + LANES
}

/// Outputs of a row whose columns all lie in the image, and 16 values of each.
fn inside(s: &ConvShape) -> Range<usize> {
    let mut inside = s.inside(1);
    let [_, w, c] = s.input;
    let reach = (s.kernel[1] - 1) * s.dilation[1] * c + LANES.max(c);
    while !inside.is_empty() && ((inside.end - 1) * s.stride[1] - s.pad[1]) * c + reach > w * c {
        inside.end -= 1;
    }
    if inside.is_empty() { 0..0 } else { inside }
}

/// Length in i16 of the scratch that the lists need.
pub(super) fn scratch_len(s: &ConvShape) -> usize {
    let lists = (1 + s.output[1] - inside(s).len()) * MOST_PARTS * s.patch_len() + 1;
    (line_len(s) + 2 * LANES + lists * size_of::<isize>()).div_ceil(2)
}

impl<'s> Taps<'s> {
    /// For weights in up to `parts` parts. `scratch`: [`scratch_len`].
    pub(super) fn new(s: &'s ConvShape, input: &'s [i8], zero_point: i8, scratch: &'s mut [i16], parts: usize) -> Self {
        assert!(parts <= MOST_PARTS, "room for all lists");
        assert_eq!(input.len(), s.input.iter().product::<usize>(), "input length");
        let (values, lists) = scratch.split_at_mut((line_len(s) + 2 * LANES).div_ceil(2));
        let (padding, end) = bytes(values).split_at_mut(line_len(s));
        padding.fill(zero_point);
        let end_at = input.len().saturating_sub(LANES);
        end[..input.len() - end_at].copy_from_slice(&input[end_at..]);
        // SAFETY: a number has no invalid bytes.
        let (_, lists, _) = unsafe { lists.align_to_mut::<isize>() };
        Self { s, input, padding, end, end_at, lists, inside: inside(s), len: parts * s.patch_len() }
    }

    /// Outputs of a row that share a list.
    pub(super) fn inside(&self) -> Range<usize> {
        self.inside.clone()
    }

    /// Lists the taps of a row of outputs.
    pub(super) fn row(&mut self, oy: usize) {
        let ([h, w, c], [kh, kw], [dy, dx]) = (self.s.input, self.s.kernel, self.s.dilation);
        let y0 = (oy * self.s.stride[0]).wrapping_sub(self.s.pad[0]);
        let rows = (0..kh).map(|ky| y0.wrapping_add(ky * dy));
        let seen = |place: &i8| (place as *const i8 as isize).wrapping_sub(self.input.as_ptr() as isize);
        let (shared, own) = self.lists.split_at_mut(self.len);
        for (y, list) in rows.clone().zip(shared.chunks_exact_mut(kw)) {
            let begin = if y < h { (y * w * c) as isize } else { seen(&self.padding[0]) };
            for (kx, to) in list.iter_mut().enumerate() {
                *to = begin.wrapping_add((kx * dx * c) as isize);
            }
        }
        repeat(shared, kh * kw);
        let others = (0..self.inside.start).chain(self.inside.end..self.s.output[1]);
        for (ox, own) in others.zip(own.chunks_exact_mut(self.len)) {
            let x0 = (ox * self.s.stride[1]).wrapping_sub(self.s.pad[1]);
            for (y, list) in rows.clone().zip(own.chunks_exact_mut(kw)) {
                for (kx, to) in list.iter_mut().enumerate() {
                    let x = x0.wrapping_add(kx * dx);
                    *to = match ((y * w).wrapping_add(x)).wrapping_mul(c) {
                        _ if y >= h || x >= w => seen(&self.padding[0]),
                        at if at + LANES.max(c) <= self.input.len() => at as isize,
                        at => seen(&self.end[at - self.end_at]),
                    };
                }
            }
            repeat(own, kh * kw);
        }
    }

    /// The base and the list of output `ox` of the row: 16 values are readable at each tap, from
    /// each block's first channel on.
    #[inline(always)]
    pub(super) fn of(&self, ox: usize) -> (*const i8, &[isize]) {
        let taps = self.len;
        let Range { start, end } = self.inside;
        if ox >= start && ox < end {
            let first = (ox * self.s.stride[1] - self.s.pad[1]) * self.s.input[2];
            return (self.input.as_ptr().wrapping_add(first), &self.lists[..taps]);
        }
        let own = if ox < start { ox } else { ox - (end - start) };
        (self.input.as_ptr(), &self.lists[(1 + own) * taps..][..taps])
    }
}

/// Repeats the first `taps` of a list up to its end.
fn repeat(list: &mut [isize], taps: usize) {
    for begin in (taps..list.len()).step_by(taps) {
        list.copy_within(..taps, begin);
    }
}
