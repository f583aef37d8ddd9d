//! Bytes as a Y4M file, through the source's public door.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::time::Duration;
use tagpin::sources::{self, FrameBuffer, Limits};
use tagpin::supervisor::SystemClock;

fuzz_target!(|data: &[u8]| {
    let path = std::env::temp_dir().join(format!("tagpin-fuzz-{}.y4m", std::process::id()));
    if std::fs::write(&path, data).is_err() {
        return;
    }
    let Ok(spec) = format!("y4m:{}", path.display()).parse() else { return };
    let Ok(mut source) = sources::open(&spec, &(Arc::new(SystemClock) as _), Limits::default()) else { return };
    let mut frame = FrameBuffer::empty();
    for _ in 0..16 {
        if source.next(&mut frame, Duration::from_millis(1)).is_ok() {
            assert!(frame.view().is_ok());
        }
    }
});
