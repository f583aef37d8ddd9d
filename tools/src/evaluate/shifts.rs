//! Makes images as they come when something is wrong: darker, blurred, noisy, recompressed, turned,
//! or of none of the tags. All are RGB8 at model size, `[side, side, 3]`.

use crate::train::augment::{Augment, blur, sample};
use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use tagpin::pictures::{Budget, Picture};
use tagpin::random::Random;

/// A change and its three strengths, weakest first.
pub struct Shift {
    /// What changes.
    pub name: &'static str,
    /// What the numbers mean.
    pub unit: &'static str,
    /// Strengths.
    pub strengths: [f32; 3],
    change: fn(&[u8], usize, f32) -> Result<Vec<u8>>,
    /// Whether a domain's images may look so.
    within: fn(f32, &Augment) -> bool,
}

/// How far beyond the range that a domain states a strength still counts as within it: strengths
/// are round numbers.
const ABOUT: f32 = 1.05;

impl Shift {
    /// All changes.
    pub const ALL: [Self; 6] = [
        Self {
            name: "darker",
            unit: "x",
            strengths: [0.75, 0.5, 0.3],
            change: light,
            within: |s, a| s * (1.0 + a.brightness) * ABOUT >= 1.0,
        },
        Self {
            name: "brighter",
            unit: "x",
            strengths: [1.25, 1.6, 2.0],
            change: light,
            within: |s, a| s <= (1.0 + a.brightness) * ABOUT,
        },
        Self {
            name: "blur",
            unit: "passes",
            strengths: [1.0, 4.0, 12.0],
            change: blurred,
            within: |s, a| s <= 1.0 && a.blur > 0.0,
        },
        Self {
            name: "noise",
            unit: "of 255",
            strengths: [8.0, 20.0, 45.0],
            change: noise,
            within: |s, a| s <= a.noise as f32,
        },
        Self { name: "JPEG", unit: "quality", strengths: [60.0, 25.0, 8.0], change: jpeg, within: |s, _| s >= 60.0 },
        Self {
            name: "rotation",
            unit: "degrees",
            strengths: [5.0, 15.0, 45.0],
            change: rotation,
            within: |s, a| s <= a.rotation,
        },
    ];

    /// Whether a domain's images may look so, changed with this strength.
    pub fn within(&self, strength: f32, domain: &Augment) -> bool {
        (self.within)(strength, domain)
    }

    /// An image changed.
    pub fn apply(&self, rgb: &[u8], side: usize, strength: f32) -> Result<Vec<u8>> {
        (self.change)(rgb, side, strength)
    }
}

fn light(rgb: &[u8], _: usize, factor: f32) -> Result<Vec<u8>> {
    Ok(rgb.iter().map(|&v| (v as f32 * factor).min(255.0) as u8).collect())
}

fn blurred(rgb: &[u8], side: usize, passes: f32) -> Result<Vec<u8>> {
    Ok((0..passes as usize).fold(rgb.to_vec(), |rgb, _| blur(&rgb, side, 48)))
}

fn noise(rgb: &[u8], _: usize, deviation: f32) -> Result<Vec<u8>> {
    let mut r = Random::new(rgb.len() as u64, 0x2015e);
    // A sum of four uniform numbers: bell-shaped, deviation 1 / sqrt(3) of a unit.
    let mut one = || (0..4).map(|_| r.range(0, 1 << 16) as f32 / 65536.0 - 0.5).sum::<f32>() * 3f32.sqrt();
    Ok(rgb.iter().map(|&v| (v as f32 + one() * deviation).clamp(0.0, 255.0) as u8).collect())
}

fn jpeg(rgb: &[u8], side: usize, quality: f32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality as u8).encode(
        rgb,
        side as u32,
        side as u32,
        image::ExtendedColorType::Rgb8,
    )?;
    Ok(Picture::decode(&bytes, Budget::HOST)?.rgb)
}

fn rotation(rgb: &[u8], side: usize, degrees: f32) -> Result<Vec<u8>> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let middle = (side as f32 - 1.0) / 2.0;
    let at = |i: usize| {
        let (x, y) = ((i % side) as f32 - middle, (i / side) as f32 - middle);
        sample(rgb, side, x * cos - y * sin + middle, x * sin + y * cos + middle).map(|v| v as u8)
    };
    Ok((0..side * side).flat_map(at).collect())
}

/// Blocks of a side that are left of an image out of focus.
const BLOCKS: usize = 4;

/// An image so far out of focus that no shape is left: blends between the mean colours of 4x4
/// blocks.
pub fn defocused(rgb: &[u8], side: usize) -> Vec<u8> {
    let mut blocks = vec![[0u32; 4]; BLOCKS * BLOCKS];
    for (i, p) in rgb.chunks_exact(3).enumerate() {
        let of = &mut blocks[i / side * BLOCKS / side * BLOCKS + i % side * BLOCKS / side];
        (0..3).for_each(|c| of[c] += u32::from(p[c]));
        of[3] += 1;
    }
    let small: Vec<u8> = blocks.iter().flat_map(|b| [0, 1, 2].map(|c| (b[c] / b[3].max(1)) as u8)).collect();
    let at = |v: usize| (v as f32 + 0.5) * BLOCKS as f32 / side as f32 - 0.5;
    (0..side * side).flat_map(|i| sample(&small, BLOCKS, at(i % side), at(i / side)).map(|v| v as u8)).collect()
}

/// Images that show none of the tags.
pub fn invalid(side: usize) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let n = side * side * 3;
    let noise = |seed: u64| {
        let mut r = Random::new(seed, 0xbad);
        (0..n).map(|_| r.range(0, 255) as u8).collect::<Vec<u8>>()
    };
    let ramp = (0..n).map(|i| (i / 3 % side * 255 / side) as u8).collect();
    vec![
        ("black", vec![vec![0; n]]),
        ("white", vec![vec![255; n]]),
        ("grey", vec![vec![128; n]]),
        ("gradient", vec![ramp]),
        ("noise", (0..10).map(noise).collect()),
    ]
}
