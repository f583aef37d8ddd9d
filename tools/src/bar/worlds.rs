//! Images of known parts: real ones taken again by changing them, and drawn ones before a fixed
//! camera.

use crate::data::twins::plane::blurred;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tagpin::pictures::Picture;
use tagpin::random::Random;

/// Width and height of drawn images.
const DRAWN: (usize, usize) = (320, 240);

/// What is different in a second image of a part.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Twice to half the light, and 0.7 to 1.3 of the contrast.
    Light,
    /// Light, and 5 degrees either way.
    Turn,
    /// Light, left and right exchanged.
    Mirror,
    /// Light, and out of focus.
    Blur,
    /// Light, and moved by up to 3 % of the width.
    Shift,
}

impl Change {
    /// All changes.
    pub const ALL: [Self; 5] = [Self::Light, Self::Turn, Self::Mirror, Self::Blur, Self::Shift];
}

/// RGB of an image as numbers.
#[derive(Clone)]
pub struct Rgb {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`, 0..=255.
    pub values: Vec<f32>,
}

impl Rgb {
    /// Of a decoded image.
    pub fn of(p: &Picture) -> Self {
        Self { width: p.width as usize, height: p.height as usize, values: p.rgb.iter().map(|v| f32::from(*v)).collect() }
    }

    /// A file that a camera may have written: JPEG of quality 88.
    pub fn jpeg(&self) -> Result<Vec<u8>> {
        let bytes: Vec<u8> = self.values.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
        let mut file = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 88)
            .encode(&bytes, self.width as u32, self.height as u32, image::ExtendedColorType::Rgb8)
            .context("an image cannot be encoded")?;
        Ok(file)
    }

    /// The value at a place between pixels; edges go on outside.
    fn at(&self, x: f32, y: f32, c: usize) -> f32 {
        let (x, y) = (x.clamp(0.0, self.width as f32 - 1.0), y.clamp(0.0, self.height as f32 - 1.0));
        let (x0, y0) = ((x as usize).min(self.width - 2), (y as usize).min(self.height - 2));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let v = |x: usize, y: usize| self.values[(y * self.width + x) * 3 + c];
        (v(x0, y0) * (1.0 - fx) + v(x0 + 1, y0) * fx) * (1.0 - fy)
            + (v(x0, y0 + 1) * (1.0 - fx) + v(x0 + 1, y0 + 1) * fx) * fy
    }

    /// The image turned by degrees about its middle, and moved.
    fn laid(&self, degrees: f32, shift: [f32; 2], mirror: bool) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (mx, my) = ((self.width as f32 - 1.0) / 2.0, (self.height as f32 - 1.0) / 2.0);
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..self.height {
            for x in 0..self.width {
                let (dx, dy) = (x as f32 - mx - shift[0], y as f32 - my - shift[1]);
                let from = (cos * dx - sin * dy + mx, sin * dx + cos * dy + my);
                let from_x = if mirror { self.width as f32 - 1.0 - from.0 } else { from.0 };
                (0..3).for_each(|c| values.push(self.at(from_x, from.1, c)));
            }
        }
        Self { values, ..*self }
    }

    /// The same part, taken again.
    pub fn again(&self, change: Change, random: &mut Random) -> Self {
        let sign = if random.range(0, 1) == 0 { -1.0 } else { 1.0 };
        let still = [0.0; 2];
        let mut taken = match change {
            Change::Light => self.clone(),
            Change::Turn => self.laid(5.0 * sign, still, false),
            Change::Mirror => self.laid(0.0, still, true),
            Change::Blur => self.unsharp(),
            Change::Shift => {
                let far = self.width as f32 * 0.03;
                self.laid(0.0, [between(random, -far, far), between(random, -far, far)], false)
            }
        };
        let gain = between(random, -0.7, 0.7).exp2();
        let contrast = between(random, 0.7, 1.3);
        taken.values.iter_mut().for_each(|v| *v = ((*v * gain - 128.0) * contrast + 128.0).clamp(0.0, 255.0));
        taken
    }

    /// Means over 5x5 pixels.
    fn unsharp(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..self.height as i32 {
            for x in 0..self.width as i32 {
                for c in 0..3 {
                    let near = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (x + dx, y + dy)));
                    values.push(near.map(|(x, y)| self.at(x as f32, y as f32, c)).sum::<f32>() / 25.0);
                }
            }
        }
        Self { values, ..*self }
    }
}

/// A number between two.
pub fn between(random: &mut Random, low: f32, high: f32) -> f32 {
    low + (high - low) * random.range(0, 1 << 20) as f32 / (1 << 20) as f32
}

/// Normal enough: twelve uniform numbers.
fn normal(random: &mut Random) -> f32 {
    (0..12).map(|_| random.range(0, 1 << 16) as f32 / 65536.0).sum::<f32>() - 6.0
}

/// Images of a folder, drawn by the seed, `[n]`.
pub fn real(data: &Path, n: usize, random: &mut Random) -> Result<Vec<Rgb>> {
    let mut files: Vec<PathBuf> =
        tagpin::pictures::list(data).with_context(|| format!("{} cannot be listed", data.display()))?.files;
    crate::train::shuffle(&mut files, random);
    let read = files.iter().filter_map(|f| Picture::open(f, tagpin::pictures::Budget::HOST).ok()).take(n);
    Ok(read.map(|p| Rgb::of(&p)).collect())
}

/// Different parts before a fixed camera.
pub struct Fixed {
    background: Rgb,
    parts: Vec<Part>,
}

/// One part: its own grain, if it has any, and a defect, if it has one.
struct Part {
    grain: Vec<f32>,
    defect: Option<Defect>,
}

/// A dark scratch: its middle, direction, length and width in pixels.
struct Defect {
    at: [f32; 2],
    angle: f32,
    size: [f32; 2],
}

impl Fixed {
    /// `n` parts, every second with a defect of 0.5 % of the image. `grain`: how much the
    /// surfaces of parts differ, in grey levels.
    pub fn new(n: usize, grain: f32, random: &mut Random) -> Self {
        let (width, height) = DRAWN;
        let mut values = vec![0.0; width * height * 3];
        for c in 0..3 {
            let wave = smooth(random, 16.0);
            for i in 0..width * height {
                values[i * 3 + c] = 128.0 + 45.0 * wave[i];
            }
        }
        let background = Rgb { width, height, values };
        let part = |i: usize, random: &mut Random| {
            let grain = if grain > 0.0 { smooth(random, 2.0).iter().map(|g| g * grain).collect() } else { Vec::new() };
            let area = 0.005 * (width * height) as f32;
            let defect = (i % 2 == 1).then(|| Defect {
                at: [between(random, 70.0, 250.0), between(random, 60.0, 180.0)],
                angle: between(random, 0.0, std::f32::consts::PI),
                size: [(area * 6.0).sqrt(), (area / 6.0).sqrt()],
            });
            Part { grain, defect }
        };
        let parts = (0..n).map(|i| part(i, random)).collect();
        Self { background, parts }
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// An image of a part, with the camera's noise.
    pub fn shot(&self, i: usize, random: &mut Random) -> Rgb {
        let part = &self.parts[i];
        let (width, height) = DRAWN;
        let mut taken = self.background.clone();
        for y in 0..height {
            for x in 0..width {
                let (dx, dy) = ((x as f32 - 160.0) / 110.0, (y as f32 - 120.0) / 85.0);
                let inside = dx * dx + dy * dy < 1.0;
                let grain = part.grain.get(y * width + x).copied().unwrap_or(0.0);
                let dark = part.defect.as_ref().is_some_and(|d| {
                    let (x, y) = (x as f32 - d.at[0], y as f32 - d.at[1]);
                    let (sin, cos) = d.angle.sin_cos();
                    (x * cos + y * sin).abs() < d.size[0] / 2.0 && (y * cos - x * sin).abs() < d.size[1] / 2.0
                });
                for c in 0..3 {
                    let v = &mut taken.values[(y * width + x) * 3 + c];
                    if inside {
                        *v = [170.0, 150.0, 120.0][c] + grain - if dark { 90.0 } else { 0.0 };
                    }
                    *v += 3.0 * normal(random);
                }
            }
        }
        taken
    }
}

/// Waves of unit deviation over a drawn image; `reach` in quarter pixels of a 64x64 plane.
fn smooth(random: &mut Random, reach: f32) -> Vec<f32> {
    const SIDE: usize = 96;
    let noise: Vec<f32> = (0..SIDE * SIDE).map(|_| normal(random)).collect();
    let wave = blurred(&noise, SIDE, reach / 2.0);
    let deviation = (wave.iter().map(|w| w * w).sum::<f32>() / wave.len() as f32).sqrt().max(1e-6);
    let (width, height) = DRAWN;
    let grown = Rgb { width: SIDE, height: SIDE, values: wave.iter().flat_map(|w| [w / deviation; 3]).collect() };
    let scale = |v: usize, all: usize| v as f32 * (SIDE - 1) as f32 / (all - 1) as f32;
    (0..width * height).map(|i| grown.at(scale(i % width, width), scale(i / width, height), 0)).collect()
}
