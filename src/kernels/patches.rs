//! The values under a convolution's kernel, for the tiles: in place where they lie together, else gathered.
//!
//! Knows no weights and no instruction set.

use super::ConvShape;

/// The taps of `N` pixels. Holding one proves that they are all there, and readable in whole loads of 16, so that no block of
/// channels checks it again.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
pub(super) struct Rows<'v, const N: usize> {
    values: &'v [i8],
    starts: [usize; N],
    taps: usize,
}

#[cfg(target_arch = "aarch64")]
impl<'v, const N: usize> Rows<'v, N> {
    /// `starts`: the first tap of each pixel in `values`. Panics if a pixel's last load reaches beyond the values.
    #[inline(always)]
    pub(super) fn new(values: &'v [i8], starts: [usize; N], taps: usize) -> Self {
        let last = starts.iter().fold(0, |last, start| last.max(*start));
        assert!(last.checked_add(readable(taps)).is_some_and(|end| end <= values.len()), "all loads of all pixels");
        Self { values, starts, taps }
    }

    /// Taps of each pixel.
    #[inline(always)]
    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// Pixel `p`'s taps; from each, [`readable`] of them may be read.
    #[inline(always)]
    pub(super) fn of(&self, p: usize) -> *const i8 {
        // SAFETY: `new` checked that this pixel's taps lie within the values.
        unsafe { self.values.as_ptr().add(self.starts[p]) }
    }
}

/// Values that whole loads of 16 read for so many taps: what is read beyond the taps meets weights of zero.
#[cfg(target_arch = "aarch64")]
fn readable(taps: usize) -> usize {
    taps.next_multiple_of(16)
}

/// Calls `f(first pixel, pixels, their taps)` for every tile of `N` output pixels. Pointwise
/// convolutions read their input in place; others, and a tile at the end of the input that could not be read in whole loads,
/// gather patches into `scratch`, with the zero point as padding. A last tile that is not full repeats its last pixel.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(super) fn for_tiles<const N: usize>(
    s: &ConvShape,
    input: &[i8],
    zero_point: i8,
    scratch: &mut [i16],
    mut f: impl FnMut(usize, usize, Rows<'_, N>),
) {
    let (pixels_all, ow, taps) = (s.output[0] * s.output[1], s.output[1], s.patch_len());
    let in_place = match s.is_pointwise() {
        true => input.len().saturating_sub(readable(taps)) / taps + 1,
        false => 0,
    };
    let mut tile = 0;
    while tile < pixels_all && (tile + N).min(pixels_all) <= in_place {
        let pixels = N.min(pixels_all - tile);
        f(tile, pixels, Rows::new(input, core::array::from_fn(|p| (tile + p.min(pixels - 1)) * taps), taps));
        tile += N;
    }
    if tile >= pixels_all {
        return;
    }
    let patches = bytes(scratch);
    let (mut oy, mut ox) = (tile / ow, tile % ow);
    while tile < pixels_all {
        let pixels = N.min(pixels_all - tile);
        for patch in patches.chunks_exact_mut(taps).take(pixels) {
            gather(s, input, zero_point, oy, ox, patch);
            ox += 1;
            if ox == ow {
                (oy, ox) = (oy + 1, 0);
            }
        }
        f(tile, pixels, Rows::new(patches, core::array::from_fn(|p| p.min(pixels - 1) * taps), taps));
        tile += N;
    }
}

/// A vector as [`Rows`]: in `scratch`, where there is room to read it in whole loads.
#[cfg(target_arch = "aarch64")]
pub(super) fn row<'v>(values: &[i8], scratch: &'v mut [i16]) -> Rows<'v, 1> {
    let copied = bytes(scratch);
    copied[..values.len()].copy_from_slice(values);
    Rows::new(copied, [0], values.len())
}

/// The plan's scratch, seen as bytes.
pub(super) fn bytes(scratch: &mut [i16]) -> &mut [i8] {
    // SAFETY: i16 has no invalid bytes and a stricter alignment; twice as many elements of half the size.
    unsafe { core::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast(), 2 * scratch.len()) }
}

/// The values under the kernel at output (`oy`, `ox`); padding is the zero point. A row of the kernel that lies in the picture
/// whole is one copy.
#[inline(always)]
pub(super) fn gather(s: &ConvShape, input: &[i8], zero_point: i8, oy: usize, ox: usize, patch: &mut [i8]) {
    let [h, w, c] = s.input;
    let [kh, kw] = s.kernel;
    let x0 = (ox * s.stride[1]).wrapping_sub(s.pad[1]);
    let together = s.dilation[1] == 1 && x0 < w && kw <= w - x0;
    for (ky, row) in patch.chunks_exact_mut(kw * c).enumerate().take(kh) {
        let y = (oy * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.pad[0]);
        if y >= h {
            row.fill(zero_point);
        } else if together {
            copy(row, &input[(y * w + x0) * c..][..kw * c]);
        } else {
            for (kx, out) in row.chunks_exact_mut(c).enumerate() {
                let x = x0.wrapping_add(kx * s.dilation[1]);
                match x < w {
                    true => copy(out, &input[(y * w + x) * c..][..c]),
                    false => out.fill(zero_point),
                }
            }
        }
    }
}

/// Copies equal lengths without a call: most are a few bytes, where calling costs more than copying.
#[inline(always)]
fn copy(to: &mut [i8], from: &[i8]) {
    /// Chunks of `N`, then a last one that may overlap the one before.
    #[inline(always)]
    fn chunks<const N: usize>(to: &mut [i8], from: &[i8]) -> bool {
        let (Some(last), true) = (from.last_chunk::<N>(), to.len() == from.len()) else { return false };
        for (to, from) in to.as_chunks_mut::<N>().0.iter_mut().zip(from.as_chunks::<N>().0) {
            *to = *from;
        }
        let at = to.len() - N;
        to[at..].copy_from_slice(last);
        true
    }
    if chunks::<16>(to, from) || chunks::<8>(to, from) || chunks::<4>(to, from) {
        return;
    }
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
