//! Colours and orientation, held against the crate that did them before.

use super::*;
use image::{ColorType, DynamicImage, GenericImageView, ImageBuffer};

const SIDES: [u32; 2] = [7, 5];

/// Random samples with all that is smallest and largest.
fn samples(random: &mut Random, n: usize) -> Vec<u16> {
    let drawn = (0..n).map(|_| random.next() as u16);
    [0, 1, 127, 128, 255, 256, 257, 32_767, 65_279, 65_534, 65_535].into_iter().chain(drawn).take(n).collect()
}

fn images(random: &mut Random) -> Vec<(ColorType, DynamicImage)> {
    let [w, h] = SIDES;
    let n = (w * h) as usize;
    let mut wide = |channels| samples(random, channels * n);
    let narrow = |wide: Vec<u16>| wide.into_iter().map(|v| v as u8).collect::<Vec<u8>>();
    let made = "as many samples as the image has";
    vec![
        (ColorType::L8, DynamicImage::ImageLuma8(ImageBuffer::from_raw(w, h, narrow(wide(1))).expect(made))),
        (ColorType::La8, DynamicImage::ImageLumaA8(ImageBuffer::from_raw(w, h, narrow(wide(2))).expect(made))),
        (ColorType::Rgb8, DynamicImage::ImageRgb8(ImageBuffer::from_raw(w, h, narrow(wide(3))).expect(made))),
        (ColorType::Rgba8, DynamicImage::ImageRgba8(ImageBuffer::from_raw(w, h, narrow(wide(4))).expect(made))),
        (ColorType::L16, DynamicImage::ImageLuma16(ImageBuffer::from_raw(w, h, wide(1)).expect(made))),
        (ColorType::La16, DynamicImage::ImageLumaA16(ImageBuffer::from_raw(w, h, wide(2)).expect(made))),
        (ColorType::Rgb16, DynamicImage::ImageRgb16(ImageBuffer::from_raw(w, h, wide(3)).expect(made))),
        (ColorType::Rgba16, DynamicImage::ImageRgba16(ImageBuffer::from_raw(w, h, wide(4)).expect(made))),
    ]
}

/// Colours were changed from one image into a second, which took up to 7 bytes a pixel. Changed in
/// place they are the same.
#[test]
fn colours_changed_in_place_are_those_of_a_second_image() {
    let (seed, count) = cases(20);
    let mut random = Random::new(seed, 2);
    for _ in 0..count {
        for (colour, image) in images(&mut random) {
            let expected: Vec<u8> = if image.color().has_alpha() {
                let over = |v: u8, a: u8| ((v as u32 * a as u32 + 128 * (255 - a as u32) + 127) / 255) as u8;
                image.pixels().flat_map(|(_, _, p)| [0, 1, 2].map(|i| over(p.0[i], p.0[3]))).collect()
            } else {
                image.to_rgb8().into_raw()
            };
            let mut got = image.as_bytes().to_vec();
            rgb8::to_rgb8(&mut got, (SIDES[0] * SIDES[1]) as usize, colour).unwrap();
            assert!(got == expected, "{colour:?}");
        }
    }
    let mut foreign = vec![0; 16];
    assert!(rgb8::to_rgb8(&mut foreign, 1, ColorType::Rgba32F).is_none());
}

#[test]
fn an_image_is_turned_as_its_orientation_says() {
    let [width, height] = SIDES;
    let rgb: Vec<u8> = (0..3 * width * height).map(|v| v as u8).collect();
    for exif in 1..=8 {
        let orientation = Orientation::from_exif(exif).unwrap();
        let mut expected = DynamicImage::ImageRgb8(ImageBuffer::from_raw(width, height, rgb.clone()).unwrap());
        expected.apply_orientation(orientation);
        let got = Picture { width, height, rgb: rgb.clone() }.turned(orientation).unwrap();
        assert_eq!([got.width, got.height], [expected.width(), expected.height()], "orientation {exif}");
        assert!(got.rgb == expected.into_bytes(), "orientation {exif}");
    }
}
