//! The values under a convolution's kernel, for the tiles: in place where they lie together, else gathered.
//!
//! Knows no weights and no instruction set.

use super::ConvShape;

/// The taps of `N` pixels, one after the other. Holding one proves that they are all there, and readable in whole loads of 16, so
/// that no block of channels checks it again.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
#[derive(Clone, Copy)]
pub(super) struct Rows<'v, const N: usize> {
    values: &'v [i8],
    taps: usize,
}

#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
impl<'v, const N: usize> Rows<'v, N> {
    /// `values`: from the first pixel's first tap on. Panics if the last pixel's last load reaches beyond them.
    #[inline(always)]
    pub(super) fn new(values: &'v [i8], taps: usize) -> Self {
        assert!((N - 1) * taps + readable(taps) <= values.len(), "all loads of all pixels");
        Self { values, taps }
    }

    /// The first pixels alone.
    #[cfg(target_arch = "aarch64")]
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

/// Values that whole loads of 16 read for so many taps: what is read beyond the taps meets weights of zero.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
fn readable(taps: usize) -> usize {
    taps.next_multiple_of(16)
}

/// Calls `f(first pixel, pixels, their taps)` for every tile of `N` output pixels. Pointwise
/// convolutions read their input in place; others, and a tile at the end of the input that is not full or could not be read in whole
/// loads, gather patches into `scratch`, with the zero point as padding. What a tile that is not full has behind its pixels is
/// anything.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
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
        true => input.len().checked_sub(readable(taps)).map_or(0, |room| room / taps + 1),
        false => 0,
    };
    let patches = bytes(scratch);
    let (mut oy, mut ox) = (0, 0);
    for tile in (0..pixels_all).step_by(N) {
        let pixels = N.min(pixels_all - tile);
        // One call of `f`, so that it is compiled into this loop.
        let rows = if tile + N <= in_place {
            Rows::new(&input[tile * taps..], taps)
        } else {
            if s.is_pointwise() {
                (oy, ox) = (tile / ow, tile % ow);
            }
            for p in 0..pixels {
                gather(s, input, zero_point, oy, ox, &mut patches[p * taps..]);
                ox += 1;
                if ox == ow {
                    (oy, ox) = (oy + 1, 0);
                }
            }
            Rows::new(patches, taps)
        };
        f(tile, pixels, rows);
    }
}

/// A vector as [`Rows`]: in `scratch`, where there is room to read it in whole loads.
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
pub(super) fn row<'v>(values: &[i8], scratch: &'v mut [i16]) -> Rows<'v, 1> {
    let copied = bytes(scratch);
    copied[..values.len()].copy_from_slice(values);
    Rows::new(copied, values.len())
}

/// The plan's scratch, seen as bytes.
pub(super) fn bytes(scratch: &mut [i16]) -> &mut [i8] {
    // SAFETY: i16 has no invalid bytes and a stricter alignment; twice as many elements of half the size.
    unsafe { core::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast(), 2 * scratch.len()) }
}

/// The values under the kernel at output (`oy`, `ox`), to the front of `patch`; padding is the zero point. What lies behind them
/// may be overwritten.
#[inline(always)]
pub(super) fn gather(s: &ConvShape, input: &[i8], zero_point: i8, oy: usize, ox: usize, patch: &mut [i8]) {
    let [h, w, c] = s.input;
    let [kh, kw] = s.kernel;
    let y0 = (oy * s.stride[0]).wrapping_sub(s.pad[0]);
    let x0 = (ox * s.stride[1]).wrapping_sub(s.pad[1]);
    let row_len = kw * c;
    if s.dilation[1] == 1 && x0 < w && kw <= w - x0 && y0 < h && (kh - 1) * s.dilation[0] < h - y0 {
        // All in the picture: a row of the kernel is one copy.
        let step = s.dilation[0] * w * c;
        let first = (y0 * w + x0) * c;
        if row_len <= 16 && first + (kh - 1) * step + 16 <= input.len() && (kh - 1) * row_len + 16 <= patch.len() {
            let (mut from, mut to) = (input[first..].as_ptr(), patch.as_mut_ptr());
            for _ in 0..kh {
                // SAFETY: the last row's 16 values, read and written, were checked to lie within both; no row lies behind it.
                unsafe { to.cast::<u128>().write_unaligned(from.cast::<u128>().read_unaligned()) };
                (from, to) = (from.wrapping_add(step), to.wrapping_add(row_len));
            }
            return;
        }
        for ky in 0..kh {
            copy(patch, ky * row_len, input, first + ky * step, row_len);
        }
        return;
    }
    for ky in 0..kh {
        let y = y0.wrapping_add(ky * s.dilation[0]);
        for kx in 0..kw {
            let x = x0.wrapping_add(kx * s.dilation[1]);
            let to = ky * row_len + kx * c;
            match y < h && x < w {
                true => copy(patch, to, input, (y * w + x) * c, c),
                false => patch[to..to + c].fill(zero_point),
            }
        }
    }
}

/// Copies `len` values, up to 16 of them without a call: then a whole load is copied where there is room for it.
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
