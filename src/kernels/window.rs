//! The part of the image under several adjacent outputs of a row, as pointers to its rows, for
//! depthwise kernels that interleave four rows of a column. Rows outside the image point to
//! padding.

use super::ConvShape;

/// Rows that are interleaved together.
pub(super) const ROWS: usize = 4;
/// Most groups of [`ROWS`] rows.
pub(super) const GROUPS: usize = 2;

/// A row's first value, and the distance to the next column's: 0 for a row outside the image, whose
/// columns are all the same padding.
pub(super) type Row = (*const i8, usize);

/// The columns under adjacent outputs; columns `from..to` lie in the image, the others in its
/// padding.
pub(super) struct Window {
    /// Each starts at column `from`.
    rows: [Row; GROUPS * ROWS],
    pub(super) from: usize,
    pub(super) to: usize,
    /// Number of columns.
    pub(super) columns: usize,
}

impl Window {
    /// The window of `pixels` outputs from (`oy`, `start`) on, `tall` rows high; further rows are
    /// padding. `padding`: as many values as are read of a column. Panics if `input` is not as long
    /// as `s` says, or if `tall` exceeds the rows of all groups.
    pub(super) fn of(
        s: &ConvShape,
        input: &[i8],
        padding: &[i8],
        tall: usize,
        [oy, start]: [usize; 2],
        pixels: usize,
    ) -> Self {
        let [h, w, c] = s.input;
        let columns = (pixels - 1) * s.stride[1] + s.kernel[1];
        let x0 = (start * s.stride[1]) as isize - s.pad[1] as isize;
        let from = (-x0).clamp(0, columns as isize) as usize;
        let to = (w as isize - x0).clamp(from as isize, columns as isize) as usize;
        let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
        let mut rows = [(padding.as_ptr(), 0); GROUPS * ROWS];
        for (k, row) in rows[..tall].iter_mut().enumerate() {
            let y = y0.wrapping_add(k);
            if y < h && from < to {
                let begin = (y * w + (x0 + from as isize) as usize) * c;
                assert!(begin + (to - from) * c <= input.len(), "all columns of the row");
                *row = (input[begin..].as_ptr(), c);
            }
        }
        Self { rows, from, to, columns }
    }

    /// A group's rows, from channel `first` on. Readable are the channels from there on of columns
    /// `from..to`, and in a row of padding all of its values.
    #[inline(always)]
    pub(super) fn rows(&self, group: usize, first: usize) -> [Row; ROWS] {
        let mut rows = [self.rows[0]; ROWS];
        for (row, (begin, step)) in rows.iter_mut().zip(&self.rows[group * ROWS..]) {
            *row = (if *step == 0 { *begin } else { begin.wrapping_add(first) }, *step);
        }
        rows
    }
}
