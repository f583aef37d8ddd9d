//! Bytes as a picture file (JPEG, PNG, WebP, BMP) and as a frame of motion JPEG: an error or a whole picture, within the budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagpin::pictures::{Budget, Picture};

fuzz_target!(|data: &[u8]| {
    let budget = Budget::megabytes(16);
    if let Ok(picture) = Picture::decode(data, budget) {
        assert_eq!(picture.rgb.len(), 3 * picture.width as usize * picture.height as usize);
        assert!(picture.rgb.len() as u64 <= budget.0);
    }
    for size in [[45, 29], [320, 240]] {
        if let Ok(picture) = Picture::decode_frame(data, size, budget) {
            assert_eq!(picture.rgb.len(), 3 * picture.width as usize * picture.height as usize);
        }
    }
});
