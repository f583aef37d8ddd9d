//! Augmentation: random changes to images that do not change their tag (flips, rotation, light,
//! blur, noise, cutout). Applied to the runtime's RGB8, before normalisation; each domain sets how
//! far.

use serde::{Deserialize, Serialize};
use tagpin::random::Random;

/// How far images are changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    /// Mirrored left to right.
    pub flip_x: bool,
    /// Mirrored top to bottom.
    pub flip_y: bool,
    /// Turned by quarters.
    pub turns: bool,
    /// Largest rotation, in degrees, either way.
    pub rotation: f32,
    /// Least share of the side that a crop keeps.
    pub crop: f32,
    /// Brightness times up to 1 plus this, or divided by it.
    pub brightness: f32,
    /// Contrast around mid grey, by the same rule.
    pub contrast: f32,
    /// Each channel on its own, by the same rule.
    pub colour: f32,
    /// Share of images that are blurred.
    pub blur: f32,
    /// Largest noise in steps of 255.
    pub noise: i32,
    /// Share of images in which a square of up to a third of the side is greyed out.
    pub cutout: f32,
}

impl Augment {
    /// Every setting with its value, for people.
    pub fn describe(&self) -> String {
        let on = |b: bool, name: &str| if b { format!("{name}, ") } else { String::new() };
        format!(
            "{}{}{}rotation {} deg, crop {:.0}..100 %, brightness {:.0} %, contrast {:.0} %, colour {:.0} %, blur {:.0} %, noise {}, cutout {:.0} %",
            on(self.flip_x, "mirrored"),
            on(self.flip_y, "upside down"),
            on(self.turns, "quarter turns"),
            self.rotation,
            100.0 * self.crop,
            100.0 * self.brightness,
            100.0 * self.contrast,
            100.0 * self.colour,
            100.0 * self.blur,
            self.noise,
            100.0 * self.cutout
        )
    }

    /// A changed copy of `rgb`, `[side, side, 3]`; the same stream gives the same change.
    pub fn apply(&self, rgb: &[u8], side: usize, r: &mut Random) -> Vec<u8> {
        let mut unit = |low: f32, high: f32| low + (high - low) * r.range(0, 1 << 16) as f32 / 65536.0;
        let around = |by: f32, u: f32| if u < 0.0 { 1.0 / (1.0 - by * u) } else { 1.0 + by * u };
        let (flip_x, flip_y, turn) = (unit(0.0, 2.0) > 1.0, unit(0.0, 2.0) > 1.0, unit(0.0, 2.0) > 1.0);
        let angle = unit(-self.rotation, self.rotation).to_radians();
        let scale = unit(self.crop, 1.0);
        let room = (1.0 - scale) / 2.0 * side as f32;
        let (dx, dy) = (unit(-room, room), unit(-room, room));
        let light = around(self.brightness, unit(-1.0, 1.0));
        let contrast = around(self.contrast, unit(-1.0, 1.0));
        let gains: [f32; 3] = std::array::from_fn(|_| light * contrast * around(self.colour, unit(-1.0, 1.0)));
        let (blurred, strength) = (unit(0.0, 1.0) < self.blur, unit(16.0, 64.0) as i32);
        let (cut, size) = (unit(0.0, 1.0) < self.cutout, unit(0.1, 0.33) * side as f32);
        let (cut_x, cut_y) = (unit(0.0, side as f32), unit(0.0, side as f32));
        let middle = (side as f32 - 1.0) / 2.0;
        let (sin, cos) = (angle.sin() * scale, angle.cos() * scale);
        let mut out = vec![0; rgb.len()];
        for (i, pixel) in out.chunks_exact_mut(3).enumerate() {
            let (mut x, mut y) = ((i % side) as f32 - middle, (i / side) as f32 - middle);
            if cut && (x + middle - cut_x).abs() < size / 2.0 && (y + middle - cut_y).abs() < size / 2.0 {
                pixel.fill(128);
                continue;
            }
            if self.turns && turn {
                std::mem::swap(&mut x, &mut y);
            }
            x = if self.flip_x && flip_x { -x } else { x };
            y = if self.flip_y && flip_y { -y } else { y };
            let (sx, sy) = (x * cos - y * sin + middle + dx, x * sin + y * cos + middle + dy);
            for (c, v) in sample(rgb, side, sx, sy).into_iter().enumerate() {
                pixel[c] = ((v - 128.0) * gains[c] + 128.0 * (gains[c] / contrast)).clamp(0.0, 255.0) as u8;
            }
        }
        if blurred {
            out = blur(&out, side, strength);
        }
        let amplitude = r.range(0, self.noise);
        if amplitude > 0 {
            out.iter_mut().for_each(|v| *v = (*v as i32 + r.range(-amplitude, amplitude)).clamp(0, 255) as u8);
        }
        out
    }
}

/// The colour between pixels, bilinear; beyond the edge it is the edge's.
pub fn sample(rgb: &[u8], side: usize, x: f32, y: f32) -> [f32; 3] {
    let last = side as f32 - 1.0;
    let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(side - 1), (y0 + 1).min(side - 1));
    let (fx, fy) = (x - x0 as f32, y - y0 as f32);
    std::array::from_fn(|c| {
        let at = |x: usize, y: usize| rgb[(y * side + x) * 3 + c] as f32;
        let top = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * fx;
        let bottom = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * fx;
        top + (bottom - top) * fy
    })
}

/// Mixes each pixel with its four neighbours; `strength` in 1/256 of each neighbour, at most 64.
pub fn blur(rgb: &[u8], side: usize, strength: i32) -> Vec<u8> {
    let width = side * 3;
    let row = |y: usize| &rgb[y.min(side - 1) * width..][..width];
    let mixed = |own: u8, around: [u8; 4]| {
        let around: i32 = around.into_iter().map(i32::from).sum();
        ((own as i32 * (256 - 4 * strength) + around * strength) >> 8) as u8
    };
    let mut out = vec![0; rgb.len()];
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        let (up, own, down) = (row(y.saturating_sub(1)), row(y), row(y + 1));
        // A pixel at an edge is its own neighbour.
        let left = own[..3].iter().chain(own);
        let right = own[3..].iter().chain(&own[width - 3..]);
        for (i, (l, r)) in left.zip(right).enumerate() {
            out[i] = mixed(own[i], [*l, *r, up[i], down[i]]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::domain::Domain;

    #[test]
    fn no_change_leaves_an_image_alone_and_the_same_stream_changes_it_alike() {
        let mut r = Random::new(1, 2);
        let rgb: Vec<u8> = (0..16 * 16 * 3).map(|_| r.range(0, 255) as u8).collect();
        let none = Augment {
            flip_x: false,
            flip_y: false,
            turns: false,
            rotation: 0.0,
            crop: 1.0,
            brightness: 0.0,
            contrast: 0.0,
            colour: 0.0,
            blur: 0.0,
            noise: 0,
            cutout: 0.0,
        };
        assert_eq!(none.apply(&rgb, 16, &mut Random::new(3, 4)), rgb);
        for domain in [Domain::General, Domain::Conveyor, Domain::Surface, Domain::Document] {
            let one = || domain.augment().apply(&rgb, 16, &mut Random::new(3, 4));
            assert_eq!(one(), one());
            assert_ne!(one(), rgb);
        }
    }
}
