//! Changes to pictures that do not change their tag: flips, light, blur, noise, small shifts. On the runtime's RGB8.
//!
//! Knows no network and no tag.

use crate::network::SIDE;
use tagpin::scene::Random;

/// A changed copy of `rgb`, `[SIDE, SIDE, 3]`; the same stream gives the same change.
pub fn augment(rgb: &[u8], r: &mut Random) -> Vec<u8> {
    let (flip_x, flip_y, turn) = (r.range(0, 1) == 1, r.range(0, 1) == 1, r.range(0, 1) == 1);
    let (dx, dy) = (r.range(-5, 5), r.range(-5, 5));
    let light = r.range(150, 390);
    let offset = r.range(-12, 12);
    let last = SIDE as i32 - 1;
    let mut out = vec![0; rgb.len()];
    for (i, pixel) in out.chunks_exact_mut(3).enumerate() {
        let (mut x, mut y) = ((i % SIDE) as i32, (i / SIDE) as i32);
        if turn {
            std::mem::swap(&mut x, &mut y);
        }
        x = if flip_x { last - x } else { x };
        y = if flip_y { last - y } else { y };
        let at = ((y + dy).clamp(0, last) * SIDE as i32 + (x + dx).clamp(0, last)) as usize * 3;
        for c in 0..3 {
            pixel[c] = (((rgb[at + c] as i32 * light) >> 8) + offset).clamp(0, 255) as u8;
        }
    }
    if r.range(0, 2) == 0 {
        out = blur(&out, r.range(16, 64));
    }
    let amplitude = r.range(0, 6);
    out.iter_mut().for_each(|v| *v = (*v as i32 + r.range(-amplitude, amplitude)).clamp(0, 255) as u8);
    out
}

/// Mixes each pixel with its four neighbours; `strength` in 1/256 of each neighbour, at most 64.
fn blur(rgb: &[u8], strength: i32) -> Vec<u8> {
    let at = |x: usize, y: usize, c: usize| rgb[(y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)) * 3 + c] as i32;
    let mut out = Vec::with_capacity(rgb.len());
    for y in 0..SIDE {
        for x in 0..SIDE {
            for c in 0..3 {
                let around =
                    at(x + 1, y, c) + at(x.saturating_sub(1), y, c) + at(x, y + 1, c) + at(x, y.saturating_sub(1), c);
                out.push(((at(x, y, c) * (256 - 4 * strength) + around * strength) >> 8) as u8);
            }
        }
    }
    out
}
