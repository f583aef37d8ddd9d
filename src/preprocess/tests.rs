//! Preprocessing against a reference in f64, and against golden hashes that hold on every CPU.

use super::*;
use crate::bundle::{Hex, sha256};
use crate::frame::{Colour, Matrix, PixelFormat::*, Range};

fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn image(layout: Layout, target: Target, bytes: &[u8]) -> Vec<u8> {
    Preprocessor::new(target).image(&FrameView::new(layout, bytes).unwrap()).unwrap().to_vec()
}

fn target(width: u16, height: u16, fit: Fit) -> Target {
    Target { width, height, fit, roi: None }
}

/// The triangle filter by its definition, one channel, floating point.
fn reference(src: &[u8], (w, h): (usize, usize), (ow, oh): (usize, usize)) -> Vec<f64> {
    let weights = |i: usize, n: usize, out: usize| -> Vec<f64> {
        let scale = n as f64 / out as f64;
        let centre = (i as f64 + 0.5) * scale;
        let raw: Vec<f64> = (0..n).map(|j| (1.0 - ((j as f64 + 0.5 - centre) / scale.max(1.0)).abs()).max(0.0)).collect();
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|x| x / sum).collect()
    };
    let mut out = Vec::new();
    for y in 0..oh {
        let wy = weights(y, h, oh);
        for x in 0..ow {
            let wx = weights(x, w, ow);
            let row = |j: usize| -> f64 { (0..w).map(|i| src[j * w + i] as f64 * wx[i]).sum() };
            out.push((0..h).filter(|&j| wy[j] > 0.0).map(|j| wy[j] * row(j)).sum());
        }
    }
    out
}

#[test]
fn the_resize_is_a_triangle_filter_to_within_one_grey_level() {
    for ((w, h), (ow, oh)) in
        [((37, 23), (11, 9)), ((8, 8), (21, 17)), ((64, 48), (96, 12)), ((1, 1), (5, 5)), ((5, 3), (5, 3))]
    {
        let src = noise(w * h, (w * h) as u64);
        let layout = Layout::packed(Grey8, Colour::default(), w as u32, h as u32);
        let got = image(layout, target(ow as u16, oh as u16, Fit::Stretch), &src);
        for (i, want) in reference(&src, (w, h), (ow, oh)).iter().enumerate() {
            assert!((got[3 * i] as f64 - want).abs() < 0.75, "{w}x{h}->{ow}x{oh} at {i}: {} for {want}", got[3 * i]);
        }
    }
}

#[test]
fn flat_colour_stays_flat_in_every_format_and_fit() {
    for format in [Grey8, Rgb8, Bgr8, Yuyv, I420, I422, Nv12] {
        let layout = Layout::packed(format, Colour::default(), 62, 41);
        let bytes = vec![128; layout.byte_len().unwrap()];
        for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
            assert!(image(layout, target(33, 57, fit), &bytes).iter().all(|&p| p == 128), "{format:?} {fit:?}");
        }
    }
}

#[test]
fn an_unscaled_rgb_frame_is_copied() {
    let layout = Layout::packed(Rgb8, Colour::default(), 17, 9);
    let bytes = noise(17 * 9 * 3, 5);
    assert_eq!(image(layout, target(17, 9, Fit::Stretch), &bytes), bytes);
    let bgr = Layout { format: Bgr8, ..layout };
    let swapped: Vec<u8> = bytes.chunks(3).flat_map(|p| [p[2], p[1], p[0]]).collect();
    assert_eq!(image(bgr, target(17, 9, Fit::Stretch), &bytes), swapped);
}

#[test]
fn crop_takes_the_middle_and_roi_moves_it() {
    let bytes: Vec<u8> = (0..8 * 4).map(|i| (i % 8 * 10) as u8).collect();
    let layout = Layout::packed(Grey8, Colour::default(), 8, 4);
    let columns = |t: Target| image(layout, t, &bytes).chunks(3).take(4).map(|p| p[0]).collect::<Vec<_>>();
    assert_eq!(columns(target(4, 4, Fit::Crop)), [20, 30, 40, 50]);
    let roi = Some(Roi { x: 4, y: 0, width: 4, height: 4 });
    assert_eq!(columns(Target { roi, ..target(4, 4, Fit::Crop) }), [40, 50, 60, 70]);
    let roi = Some(Roi { x: 5, y: 0, width: 4, height: 4 });
    let off = Target { roi, ..target(4, 4, Fit::Crop) };
    assert!(matches!(Plan::taps_len(layout, off), Err(PlanError::Roi { .. })));
}

#[test]
fn known_colours_come_out_of_yuv() {
    // BT.601 limited: white (235,128,128), red (81,90,240), blue (41,240,110); BT.709 limited red
    // (63,102,240).
    let case = |matrix, range, yuv: [u8; 3], rgb: [u8; 3]| {
        let layout = Layout::packed(I422, Colour { matrix, range }, 2, 1);
        let got = image(layout, target(1, 1, Fit::Stretch), &[yuv[0], yuv[0], yuv[1], yuv[2]]);
        assert!(got.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) <= 2), "{yuv:?}: {got:?} for {rgb:?}");
    };
    case(Matrix::Bt601, Range::Limited, [235, 128, 128], [255, 255, 255]);
    case(Matrix::Bt601, Range::Limited, [81, 90, 240], [255, 0, 0]);
    case(Matrix::Bt601, Range::Limited, [41, 240, 110], [0, 0, 255]);
    case(Matrix::Bt709, Range::Limited, [63, 102, 240], [255, 0, 0]);
    case(Matrix::Bt601, Range::Full, [76, 85, 255], [254, 0, 0]);
    case(Matrix::Bt709, Range::Full, [54, 99, 255], [254, 0, 0]);
}

#[test]
fn padding_between_rows_is_not_read() {
    let tight = Layout::packed(I420, Colour::default(), 20, 10);
    let bytes = noise(tight.byte_len().unwrap(), 3);
    let wide = Layout { stride: 32, ..tight };
    let mut padded = vec![255; wide.byte_len().unwrap()];
    for y in 0..10 {
        padded[y * 32..][..20].copy_from_slice(&bytes[y * 20..][..20]);
    }
    for y in 0..10 {
        padded[320 + y * 16..][..10].copy_from_slice(&bytes[200 + y * 10..][..10]);
    }
    let t = target(13, 7, Fit::Crop);
    assert_eq!(image(tight, t, &bytes), image(wide, t, &padded));
}

/// The same on x86-64, aarch64 and armv7: CI runs this test on all three.
#[test]
fn golden_hashes() {
    let mut all = Vec::new();
    for (i, format) in [Grey8, Rgb8, Yuyv, I420, I422, Nv12].into_iter().enumerate() {
        let colour = Colour { matrix: Matrix::Bt709, range: Range::Limited };
        let layout = Layout::packed(format, colour, 126, 75);
        let bytes = noise(layout.byte_len().unwrap(), i as u64);
        for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
            all.extend(image(layout, target(96, 64, fit), &bytes));
            all.extend(image(layout, target(150, 200, fit), &bytes));
        }
    }
    assert_eq!(Hex(&sha256(&all)).to_string(), "537adf2fa3153070b1ae4d9bae9031d1876692547152f9cc52c7794c6b70f1ff");
}

#[test]
fn the_table_is_looked_up_per_channel() {
    let mut tables = [0u8; 768];
    tables[5] = 1;
    tables[256 + 6] = 0xff;
    tables[512 + 7] = 0x80;
    let mut tensor = [0; 3];
    quantise(&[5, 6, 7], &tables, &mut tensor);
    assert_eq!(tensor, [1, -1, -128]);
}
