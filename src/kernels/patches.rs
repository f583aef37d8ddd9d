//! The input values under a convolution's kernel (a *patch*), as the tiles read them: in place
//! where they are contiguous, else gathered into scratch (im2col, one tile at a time).

use super::ConvShape;
use core::ops::Range;

/// The taps of `N` pixels, one pixel after the other. Holding one proves that all are readable in
/// whole loads of 16, so that no block of channels has to check again.
#[derive(Clone, Copy)]
pub(super) struct Rows<'v, const N: usize> {
    values: &'v [i8],
    taps: usize,
}

impl<'v, const N: usize> Rows<'v, N> {
    /// `values`: from the first pixel's first tap on. Panics if the last pixel's last load reaches
    /// beyond them.
    #[inline(always)]
    pub(super) fn new(values: &'v [i8], taps: usize) -> Self {
        assert!((N - 1) * taps + readable(taps) <= values.len(), "all loads of all pixels");
        Self { values, taps }
    }

    /// Of values that a multiplication laid out as it reads them, all pixels' from the first value
    /// on.
    #[inline(always)]
    pub(super) fn laid_out(values: &'v [i8], taps: usize) -> Self {
        Self { values, taps }
    }

    /// The first pixels alone.
    #[inline(always)]
    pub(super) fn first<const M: usize>(self) -> Rows<'v, M> {
        const { assert!(M <= N) };
        Rows { values: self.values, taps: self.taps }
    }

    /// Taps of each pixel.
    #[inline(always)]
    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// Pixel `p`'s taps; from each, [`readable`] of them may be read.
    #[inline(always)]
    pub(super) fn of(&self, p: usize) -> *const i8 {
        debug_assert!(p < N);
        // SAFETY: `new` checked that the taps of N pixels lie within the values.
        unsafe { self.values.as_ptr().add(p * self.taps) }
    }
}

/// Values that whole loads of 16 read for `taps` taps. Values beyond the taps are multiplied by
/// weights of zero.
fn readable(taps: usize) -> usize {
    taps.next_multiple_of(16)
}

/// Iterates over tiles of `N` output pixels. Pointwise convolutions read their input in place.
/// Others gather patches into scratch, padded with the zero point; so does a tile at the end of the
/// input that is not full or cannot be read in whole loads.
pub(super) struct Tiles<'v, const N: usize> {
    gather: Gather<'v>,
    patches: &'v mut [i8],
    taps: usize,
    /// The next tile's first pixel, of `pixels`. Tiles that start before `in_place` are read in
    /// place.
    next: usize,
    pixels: usize,
    in_place: usize,
}

impl<'v, const N: usize> Tiles<'v, N> {
    /// Of one group's channels. `scratch`: `N` patches, readable in whole loads.
    pub(super) fn new(s: &'v ConvShape, group: usize, input: &'v [i8], zero_point: i8, scratch: &'v mut [i8]) -> Self {
        let (pixels, taps) = (s.output[0] * s.output[1], s.patch_len());
        let in_place = match s.is_pointwise() && s.groups == 1 {
            true => input.len().checked_sub(readable(taps)).map_or(0, |room| (room / taps + 2).saturating_sub(N)),
            false => 0,
        };
        Self { gather: Gather::new(s, group, input, zero_point), patches: scratch, taps, next: 0, pixels, in_place }
    }

    /// The next tile: its first pixel, the number of its pixels, and their taps. In a tile that is
    /// not full, the rest is undefined.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<(usize, usize, Rows<'_, N>)> {
        let first = self.next;
        if first >= self.pixels {
            return None;
        }
        self.next += N;
        let pixels = N.min(self.pixels - first);
        if first < self.in_place {
            return Some((first, pixels, Rows::new(&self.gather.input[first * self.taps..], self.taps)));
        }
        self.gather.pixels(first, pixels, self.patches, self.taps);
        Some((first, pixels, Rows::new(self.patches, self.taps)))
    }
}

/// A vector as [`Rows`]: in `scratch`, where there is room to read it in whole loads.
pub(super) fn row<'v>(values: &[i8], scratch: &'v mut [i8]) -> Rows<'v, 1> {
    scratch[..values.len()].copy_from_slice(values);
    Rows::new(scratch, values.len())
}

/// The plan's scratch, seen as bytes.
pub(super) fn bytes(scratch: &mut [i16]) -> &mut [i8] {
    // SAFETY: i16 has no invalid bytes and a stricter alignment; twice as many elements of half the
    // size.
    unsafe { core::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast(), 2 * scratch.len()) }
}

/// Gathers one group's values under a convolution's kernel; padding is the zero point.
pub(super) struct Gather<'v> {
    s: &'v ConvShape,
    /// From the group's first channel on.
    input: &'v [i8],
    /// Channels of the group.
    channels: usize,
    zero_point: i8,
    /// Rows of outputs whose taps all lie in the image, and columns, if a row of the kernel is one
    /// copy there.
    inside: [Range<usize>; 2],
}

impl<'v> Gather<'v> {
    /// Of an image as `s` says.
    pub(super) fn new(s: &'v ConvShape, group: usize, input: &'v [i8], zero_point: i8) -> Self {
        let channels = s.input[2] / s.groups;
        let columns = if s.dilation[1] == 1 && s.groups == 1 { s.inside(1) } else { 0..0 };
        Self { s, input: &input[group * channels..], channels, zero_point, inside: [s.inside(0), columns] }
    }

    /// Gathers the patches of `pixels` outputs from `first` on (row-major), `stride` values apart.
    /// Not inlined, since most loops over tiles need no gathering.
    #[inline(never)]
    pub(super) fn pixels(&self, first: usize, pixels: usize, patches: &mut [i8], stride: usize) {
        let Self { s, input, inside: [rows, columns], .. } = self;
        let ([_, w, c], [kh, kw]) = (s.input, s.kernel);
        let (mut oy, mut ox) = (first / s.output[1], first % s.output[1]);
        let row_len = kw * c;
        if rows.contains(&oy) && columns.contains(&ox) && ox + pixels <= columns.end && row_len <= 16 {
            let (down, right) = (s.dilation[0] * w * c, s.stride[1] * c);
            let begin = ((oy * s.stride[0] - s.pad[0]) * w + ox * s.stride[1] - s.pad[1]) * c;
            let (last_row, last) = ((kh - 1) * down + 16, pixels - 1);
            if begin + last * right + last_row <= input.len() && last * stride + (kh - 1) * row_len + 16 <= patches.len() {
                let (from, to) = (input[begin..].as_ptr(), patches.as_mut_ptr());
                // SAFETY: the last pixel's last row's 16 values, read and written, were checked to
                // lie within both.
                unsafe {
                    match kh {
                        3 => copy_narrow((from, right, down), (to, stride, row_len), pixels, 0..3),
                        _ => copy_narrow((from, right, down), (to, stride, row_len), pixels, 0..kh),
                    }
                }
                return;
            }
        }
        for p in 0..pixels {
            self.patch(oy, ox, &mut patches[p * stride..]);
            ox += 1;
            if ox == s.output[1] {
                (oy, ox) = (oy + 1, 0);
            }
        }
    }

    /// Copies the values under the kernel at output (`oy`, `ox`) to the front of `patch`; values
    /// after them may be overwritten.
    #[inline(always)]
    fn patch(&self, oy: usize, ox: usize, patch: &mut [i8]) {
        let Self { s, input, zero_point, channels, inside: [rows, columns] } = self;
        let [h, w, c] = s.input;
        let [kh, kw] = s.kernel;
        let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
        let x0 = (ox * s.stride[1]).wrapping_sub(s.pad[1]);
        if rows.contains(&oy) && columns.contains(&ox) {
            let (row_len, step) = (kw * c, s.dilation[0] * w * c);
            let first = (y0 * w + x0) * c;
            for ky in 0..kh {
                copy(patch, ky * row_len, input, first + ky * step, row_len);
            }
            return;
        }
        for ky in 0..kh {
            let y = y0.wrapping_add(ky * s.dilation[0]);
            for kx in 0..kw {
                let x = x0.wrapping_add(kx * s.dilation[1]);
                let to = (ky * kw + kx) * channels;
                match y < h && x < w {
                    true => copy(patch, to, input, (y * w + x) * c, *channels),
                    false => patch[to..to + channels].fill(*zero_point),
                }
            }
        }
    }
}

/// Copies `rows` of each of `pixels` patches, 16 values per row; the values beyond a row's own are
/// overwritten by the next row. `from` and `to`: start of the first pixel's first row, distance to
/// the next pixel, distance to the next row.
///
/// # Safety
/// 16 values of each row of each pixel are readable in `from` and writable in `to`.
#[inline(always)]
unsafe fn copy_narrow(from: (*const i8, usize, usize), to: (*mut i8, usize, usize), pixels: usize, rows: Range<usize>) {
    let ((mut from, right, down), (mut to, stride, row_len)) = (from, to);
    for _ in 0..pixels {
        for row in rows.clone() {
            // SAFETY: the caller's promise.
            unsafe {
                let values = from.add(row * down).cast::<u128>().read_unaligned();
                to.add(row * row_len).cast::<u128>().write_unaligned(values);
            }
        }
        (from, to) = (from.wrapping_add(right), to.wrapping_add(stride));
    }
}

/// Copies `len` values, up to 16 of them without a call: then a whole load is copied where there is
/// room for it.
#[inline(always)]
fn copy(to: &mut [i8], to_at: usize, from: &[i8], from_at: usize, len: usize) {
    let (to, from) = (&mut to[to_at..], &from[from_at..]);
    match (to.first_chunk_mut::<16>(), from.first_chunk::<16>()) {
        // As a number, since the compiler would join this copy and the other one to a call.
        (Some(to), Some(from)) if len <= 16 => {
            *to = u128::from_ne_bytes(from.map(|v| v as u8)).to_ne_bytes().map(|v| v as i8);
        }
        _ => to[..len].copy_from_slice(&from[..len]),
    }
}
