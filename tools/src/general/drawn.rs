//! Draws images for calibration if there are no photographs: the *dead leaves* model.
//!
//! Opaque shapes of random colour, with sizes that follow a power law, overlap. Such images have
//! edges, flat areas and contrasts like photographs (Lee, Mumford and Huang 2001), so activations
//! have similar ranges. A range that only real photographs reach is clipped: use photographs if you
//! can.

use tagpin::random::Random;

/// Shapes on an image.
const SHAPES: i32 = 400;

/// Draws image `index`: `[side, side, 3]`.
pub fn image(side: usize, index: u64) -> Vec<u8> {
    let mut random = Random::new(0x1ea5, index);
    let mut unit = || random.range(0, 1 << 16) as f32 / 65536.0;
    // The light of the whole scene, and how strongly it is coloured.
    let (light, colour) = (0.3 + 0.7 * unit(), unit());
    let mut rgb = vec![0u8; 3 * side * side];
    for shape in 0..SHAPES {
        // Density falls with the cube of the size; the first ones fill the ground.
        let (small, large) = (0.02f32, 0.5f32);
        let u = unit();
        let radius = 1.0 / ((1.0 - u) / (small * small) + u / (large * large)).sqrt();
        let radius = if shape < 8 { 0.5 } else { radius };
        let (x, y, turn, flat) = (unit(), unit(), unit() * std::f32::consts::PI, 0.3 + 0.7 * unit());
        let grey = unit();
        let paint: [f32; 3] = std::array::from_fn(|_| light * (grey + colour * (unit() - grey)));
        let (shade, stripes, is_box) = ([unit() - 0.5, unit() - 0.5], unit() * 40.0, unit() < 0.4);
        let contrast = if unit() < 0.3 { 0.5 * unit() } else { 0.0 };
        let (sin, cos) = turn.sin_cos();
        let pixel = |v: f32| (v.clamp(0.0, 1.0) * side as f32) as usize;
        for row in pixel(y - radius)..pixel(y + radius) {
            for column in pixel(x - radius)..pixel(x + radius) {
                let (dx, dy) = (column as f32 / side as f32 - x, row as f32 / side as f32 - y);
                let (u, v) = ((dx * cos + dy * sin) / radius, (dy * cos - dx * sin) / (radius * flat));
                let inside = if is_box { u.abs() < 0.7 && v.abs() < 0.7 } else { u * u + v * v < 1.0 };
                if inside {
                    let shading = 1.0 + shade[0] * u + shade[1] * v + contrast * (u * stripes).sin();
                    let at = 3 * (row * side + column);
                    (0..3).for_each(|c| rgb[at + c] = (255.0 * paint[c] * shading).clamp(0.0, 255.0) as u8);
                }
            }
        }
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_images_are_unlike_one_another_and_reach_from_dark_to_light() {
        let images: Vec<Vec<u8>> = (0..20).map(|i| image(64, i)).collect();
        assert_eq!(images[3], image(64, 3), "the same number draws the same image");
        let mean = |rgb: &Vec<u8>| rgb.iter().map(|v| *v as f64).sum::<f64>() / rgb.len() as f64;
        let mut means: Vec<f64> = images.iter().map(mean).collect();
        means.sort_by(f64::total_cmp);
        assert!(means[0] < 90.0 && means[19] > 110.0, "{means:?}");
        let used = images.iter().flatten().collect::<std::collections::BTreeSet<_>>().len();
        assert!(used > 240, "{used} of 256 values");
    }
}
