//! Where in an image a finding comes from: how much smaller it gets when a patch is taken away.
//!
//! Patches of [`PATCH`] by [`PATCH`] cells slide over the model's image by one cell. Each in turn
//! is filled from the pixels around it, and the network runs again: what lies in the patch is worth
//! as much as the finding fell. A cell has the mean over the patches that cover it. The finding of
//! a foreign image is its distance from the training images, that of any other the logit of its
//! tag.
//!
//! Coarse: it tells no smaller place than a cell, and what is as large as the image it cannot
//! tell at all. It needs no more of a network than that it runs, and takes about two hundred
//! inferences. For people; no decision uses it.

/// Cells along each side of the image.
const GRID: usize = 12;
/// Cells along each side of a patch.
const PATCH: usize = 3;

/// How much each cell of an image adds to a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// Rows of cells.
    pub rows: usize,
    /// Columns of cells.
    pub columns: usize,
    /// By how much the finding falls without the cell, in the finding's own unit: deviations, or
    /// steps of the logit. `[rows][columns]`; below zero where it rises.
    pub cells: Vec<f64>,
}

/// Rows or columns of pixels, from the first to the one behind the last.
type Span = std::ops::Range<usize>;

impl Heat {
    /// Of an image `rgb`, `[height, width, 3]`. `measure` gives the finding of an image of the same
    /// size; `whole` is that of `rgb` itself. The error is `measure`'s.
    pub fn of<E>(
        (rgb, width): (&[u8], usize),
        whole: f64,
        mut measure: impl FnMut(&[u8]) -> Result<f64, E>,
    ) -> Result<Self, E> {
        let height = rgb.len() / 3 / width;
        let (rows, columns) = (GRID.min(height), GRID.min(width));
        let (mut falls, mut covers) = (vec![0.0; rows * columns], vec![0u32; rows * columns]);
        let mut patched = rgb.to_vec();
        // From outside in, so that cells at the edges are covered as often as others.
        for (top, left) in spots(rows).flat_map(|top| spots(columns).map(move |left| (top, left))) {
            let (in_rows, in_columns) = (cells(top, rows), cells(left, columns));
            let patch = [pixels(&in_rows, rows, height), pixels(&in_columns, columns, width)];
            fill(&mut patched, width, &patch);
            let fall = whole - measure(&patched)?;
            for cell in in_rows.flat_map(|row| in_columns.clone().map(move |column| row * columns + column)) {
                falls[cell] += fall;
                covers[cell] += 1;
            }
            for row in patch[0].clone() {
                let line = 3 * (row * width + patch[1].start)..3 * (row * width + patch[1].end);
                patched[line.clone()].copy_from_slice(&rgb[line]);
            }
        }
        let cells = falls.iter().zip(&covers).map(|(fall, covers)| fall / f64::from(*covers)).collect();
        Ok(Self { rows, columns, cells })
    }

    /// The hottest cell's left, top, right and lower edge, in shares of the image's width and
    /// height.
    pub fn hottest(&self) -> [f64; 4] {
        let hottest = (0..self.cells.len()).max_by(|a, b| self.cells[*a].total_cmp(&self.cells[*b])).unwrap_or_default();
        let (row, column) = ((hottest / self.columns) as f64, (hottest % self.columns) as f64);
        let (rows, columns) = (self.rows as f64, self.columns as f64);
        [column / columns, row / rows, (column + 1.0) / columns, (row + 1.0) / rows]
    }

    /// Paints the heat over an image `[height, width, 3]`: each cell as red as its share of the
    /// hottest one, cells below zero as they are.
    pub fn paint(&self, rgb: &mut [u8], width: usize) {
        let most = self.cells.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let height = rgb.len() / 3 / width;
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            let cell = i / width * self.rows / height * self.columns + i % width * self.columns / width;
            let heat = (self.cells[cell] / most).clamp(0.0, 1.0) * 0.75;
            for (value, target) in pixel.iter_mut().zip([255.0, 0.0, 0.0]) {
                *value = (f64::from(*value) * (1.0 - heat) + target * heat).round() as u8;
            }
        }
    }
}

/// Where patches begin among `all` cells: the first lie partly outside.
fn spots(all: usize) -> impl Iterator<Item = isize> {
    1 - PATCH as isize..all as isize
}

/// The cells of a patch that begins at `from`, as far as they are there.
fn cells(from: isize, all: usize) -> Span {
    from.max(0) as usize..((from + PATCH as isize) as usize).min(all)
}

/// The pixels of some of `all` cells, which have `size` pixels together.
fn pixels(cells: &Span, all: usize, size: usize) -> Span {
    cells.start * size / all..cells.end * size / all
}

/// Fills a patch of rows and columns from the pixels around it: each of its pixels is the mean of
/// the nearest ones outside to its left, right, top and bottom, the nearer the more.
fn fill(rgb: &mut [u8], width: usize, [rows, columns]: &[Span; 2]) {
    let height = rgb.len() / 3 / width;
    for y in rows.clone() {
        for x in columns.clone() {
            let mut sides = [None; 4];
            if columns.start > 0 {
                sides[0] = Some((y * width + columns.start - 1, x + 1 - columns.start));
            }
            if columns.end < width {
                sides[1] = Some((y * width + columns.end, columns.end - x));
            }
            if rows.start > 0 {
                sides[2] = Some(((rows.start - 1) * width + x, y + 1 - rows.start));
            }
            if rows.end < height {
                sides[3] = Some((rows.end * width + x, rows.end - y));
            }
            let weights: f64 = sides.iter().flatten().map(|(_, far)| 1.0 / *far as f64).sum();
            for channel in 0..3 {
                let sum = |(at, far): &(usize, usize)| f64::from(rgb[3 * at + channel]) / *far as f64;
                let value: f64 = sides.iter().flatten().map(sum).sum();
                // A patch that is the whole image has nothing around it.
                rgb[3 * (y * width + x) + channel] = if weights > 0.0 { (value / weights).round() as u8 } else { 128 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    /// A finding that is known: the sum of what stands out of a slope, at a drawn place.
    #[test]
    fn the_hottest_cell_lies_on_what_stands_out_and_the_image_is_left_as_it_was() {
        let (seed, cases) = drawn_cases(40);
        for case in 0..cases {
            let mut r = Random::new(seed ^ 0x4ea7, case);
            let mut to = |lo, hi| r.range(lo, hi) as usize;
            let (width, height, side) = (to(24, 130), to(24, 130), to(5, 9));
            let at = [to(0, (width - side) as i32), to(0, (height - side) as i32)];
            let base = |i: usize| (40 + (i % width) / 2 + (i / width) / 2) as u8;
            let mut rgb: Vec<u8> = (0..width * height).flat_map(|i| [base(i); 3]).collect();
            for (y, x) in (0..side * side).map(|i| (at[1] + i / side, at[0] + i % side)) {
                rgb[3 * (y * width + x)..][..3].copy_from_slice(&[250; 3]);
            }
            let stands_out = |rgb: &[u8]| -> Result<f64, ()> {
                Ok(rgb.chunks(3).enumerate().map(|(i, p)| f64::from(p[0].saturating_sub(base(i)))).sum())
            };
            let whole = stands_out(&rgb).unwrap();
            let heat = Heat::of((&rgb, width), whole, stands_out).unwrap();
            assert_eq!((heat.rows, heat.columns), (GRID, GRID));
            let [left, top, right, lower] = heat.hottest();
            let meets = |low: f64, high: f64, from: usize, all: usize| {
                low * (all as f64) < (from + side + 1) as f64 && high * (all as f64) > from as f64 - 1.0
            };
            let on_it = meets(left, right, at[0], width) && meets(top, lower, at[1], height);
            assert!(on_it, "case {case}: {:?} of {width} x {height}, mark of {side} at {at:?}", heat.hottest());
            let mut painted = rgb.clone();
            heat.paint(&mut painted, width);
            let middle = [(left + right) / 2.0 * width as f64, (top + lower) / 2.0 * height as f64].map(|v| v as usize);
            let pixel = &painted[3 * (middle[1] * width + middle[0])..][..3];
            assert!(pixel[0] > 190 && pixel[1] < 100, "case {case}: {pixel:?}");
        }
    }

    #[test]
    fn what_does_not_stand_out_is_nowhere_hot() {
        let rgb = vec![90; 3 * 48 * 48];
        let heat = Heat::of((&rgb, 48), 0.0, |rgb: &[u8]| {
            assert!(rgb.iter().all(|v| *v == 90), "a patch looks like its surroundings");
            Ok::<f64, ()>(0.0)
        });
        let mut painted = rgb.clone();
        heat.unwrap().paint(&mut painted, 48);
        assert_eq!(painted, rgb);
    }
}
