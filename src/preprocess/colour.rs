//! Converts a row's channels to RGB pixels: YUV in 14-bit fixed point, with the matrix and range
//! that the source states.
//!
//! Coefficients are those of ITU-R BT.601-7 and BT.709-6 (Kr, Kb = 0.299, 0.114 and 0.2126,
//! 0.0722), times 2^14.

use crate::frame::{Colour, Matrix, Range};

/// Luma gain and offset; red from V, green from U and V, blue from U.
struct Coefficients {
    luma: i32,
    black: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

const fn coefficients(colour: Colour) -> Coefficients {
    match (colour.matrix, colour.range) {
        (Matrix::Bt601, Range::Full) => {
            Coefficients { luma: 16384, black: 0, red_v: 22970, green_u: -5638, green_v: -11700, blue_u: 29032 }
        }
        (Matrix::Bt601, Range::Limited) => {
            Coefficients { luma: 19077, black: 16, red_v: 26149, green_u: -6419, green_v: -13320, blue_u: 33050 }
        }
        (Matrix::Bt709, Range::Full) => {
            Coefficients { luma: 16384, black: 0, red_v: 25801, green_u: -3069, green_v: -7670, blue_u: 30402 }
        }
        (Matrix::Bt709, Range::Limited) => {
            Coefficients { luma: 19077, black: 16, red_v: 29372, green_u: -3494, green_v: -8731, blue_u: 34610 }
        }
    }
}

/// Converts a row. `y`, `u`, `v`: `[n]`, each 0..=255; `rgb`: `[n, 3]`.
pub(super) fn yuv_to_rgb([y, u, v]: [&[u16]; 3], colour: Colour, rgb: &mut [u8]) {
    let c = coefficients(colour);
    let to_u8 = |x: i32| ((x + (1 << 13)) >> 14).clamp(0, 255) as u8;
    for (((p, &y), &u), &v) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(y).zip(u).zip(v) {
        let y = (y as i32 - c.black) * c.luma;
        let (u, v) = (u as i32 - 128, v as i32 - 128);
        *p = [to_u8(y + v * c.red_v), to_u8(y + u * c.green_u + v * c.green_v), to_u8(y + u * c.blue_u)];
    }
}

/// Joins a row's channels. `channels`: `[n]` each, 0..=255; `pixels`: `[n, 3]`.
pub(super) fn interleave([a, b, c]: [&[u16]; 3], pixels: &mut [u8]) {
    for (((p, &a), &b), &c) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(a).zip(b).zip(c) {
        *p = [a as u8, b as u8, c as u8];
    }
}
