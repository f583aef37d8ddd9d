//! Bytes as an image file (JPEG, PNG, WebP, BMP): an error or a whole image, and no more memory
//! than the budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagpin::pictures::Picture;
use tagpin_fuzz::{BUDGET, within_budget};

fuzz_target!(|data: &[u8]| {
    if let Ok(image) = within_budget(|| Picture::decode(data, BUDGET)) {
        assert_eq!(image.rgb.len(), 3 * image.width as usize * image.height as usize);
    }
});
