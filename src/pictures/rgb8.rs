//! From what decoders give (grey or RGB, with or without transparency, 8 or 16 bits) to RGB8, and
//! from how an image lies in its file to how it is looked at.
//!
//! Colours change in the vector that the decoder filled, so that there is no second image beside.

use super::Picture;
use super::budget::{NoMemory, room};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage};

/// What transparency is laid over.
const GREY: u32 = 128;

/// Makes RGB8 of the `pixels` pixels at the start of `samples`, which has room for it. 16 bits are
/// in the order of this machine's bytes. None for colours that no decoder here gives.
pub(super) fn to_rgb8(samples: &mut Vec<u8>, pixels: usize, colour: ColorType) -> Option<()> {
    let wide = |a: u8, b: u8| ((u16::from_ne_bytes([a, b]) as u32 + 128) / 257) as u8;
    let clear = |v: u8, alpha: u8| {
        let [v, alpha] = [v, alpha].map(u32::from);
        ((v * alpha + GREY * (255 - alpha) + 127) / 255) as u8
    };
    samples.resize(samples.len().max(3 * pixels), 0);
    match colour {
        ColorType::Rgb8 => {}
        ColorType::L8 => each(samples, pixels, |[v]| [v; 3]),
        ColorType::La8 => each(samples, pixels, |[v, a]| [clear(v, a); 3]),
        ColorType::Rgba8 => each(samples, pixels, |[r, g, b, a]| [r, g, b].map(|v| clear(v, a))),
        ColorType::L16 => each(samples, pixels, |[v, w]| [wide(v, w); 3]),
        ColorType::La16 => each(samples, pixels, |[v, w, a, b]| [clear(wide(v, w), wide(a, b)); 3]),
        ColorType::Rgb16 => each(samples, pixels, |[r, s, g, h, b, c]| [wide(r, s), wide(g, h), wide(b, c)]),
        ColorType::Rgba16 => each(samples, pixels, |[r, s, g, h, b, c, a, z]| {
            [wide(r, s), wide(g, h), wide(b, c)].map(|v| clear(v, wide(a, z)))
        }),
        _ => return None,
    }
    samples.truncate(3 * pixels);
    samples.shrink_to_fit();
    Some(())
}

/// Replaces each pixel of `N` bytes by one of three, in an order in which none is written over that
/// is still to be read.
fn each<const N: usize>(samples: &mut [u8], pixels: usize, rgb: impl Fn([u8; N]) -> [u8; 3]) {
    let mut one = |pixel: usize| {
        let bytes = samples[N * pixel..].first_chunk().expect("the decoder filled all pixels");
        let rgb = rgb(*bytes);
        samples[3 * pixel..3 * pixel + 3].copy_from_slice(&rgb);
    };
    if N < 3 { (0..pixels).rev().for_each(&mut one) } else { (0..pixels).for_each(&mut one) }
}

/// Whether turning needs a second image.
pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

impl Picture {
    /// The image as it is looked at.
    pub(super) fn turned(self, orientation: Orientation) -> Result<Self, NoMemory> {
        if orientation == Orientation::NoTransforms {
            return Ok(self);
        }
        if !swaps_sides(orientation) {
            let (width, height) = (self.width, self.height);
            let image = image::RgbImage::from_raw(width, height, self.rgb).expect("an image has all its bytes");
            let mut image = DynamicImage::ImageRgb8(image);
            image.apply_orientation(orientation);
            return Ok(Self { width, height, rgb: image.into_bytes() });
        }
        let (width, height) = (self.height as usize, self.width as usize);
        let (from, _) = self.rgb.as_chunks::<3>();
        let mut rgb = room(self.rgb.len())?;
        for y in 0..height {
            for x in 0..width {
                let (row, column) = match orientation {
                    Orientation::Rotate90 => (width - 1 - x, y),
                    Orientation::Rotate270 => (x, height - 1 - y),
                    Orientation::Rotate90FlipH => (x, y),
                    _ => (width - 1 - x, height - 1 - y),
                };
                rgb.extend_from_slice(&from[row * height + column]);
            }
        }
        Ok(Self { width: self.height, height: self.width, rgb })
    }
}
