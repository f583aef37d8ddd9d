//! Bytes as a frame of motion JPEG: an error, or an image of the size that was agreed, and no more
//! memory than the budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagpin::pictures::Picture;
use tagpin_fuzz::{BUDGET, within_budget};

fuzz_target!(|data: &[u8]| {
    for [width, height] in [[45, 29], [320, 240]] {
        if let Ok(image) = within_budget(|| Picture::decode_frame(data, [width, height], BUDGET)) {
            assert_eq!([image.width, image.height], [width, height]);
            assert_eq!(image.rgb.len(), 3 * width as usize * height as usize);
        }
    }
});
