//! Bytes as what the camera program writes: metadata up to the first 0, frames behind it. The
//! program is `cat` of two files.
//!
//! Every frame that comes out stands in the bytes whole and in its place, and the time that it is
//! given is a stamp of the metadata or stated as unknown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Once};
use std::time::Duration;
use tagpin::frame::CapturedAt;
use tagpin::sources::{self, FrameBuffer, Limits};
use tagpin_fuzz::Ticking;

static SCRIPT: Once = Once::new();
const SIDE: usize = 16;
const FRAME: usize = SIDE * SIDE * 3 / 2;

fn stamps(metadata: &[u8]) -> Vec<u64> {
    let number = |line: &[u8]| -> Option<u64> {
        std::str::from_utf8(line.strip_prefix(b"SensorTimestamp=")?).ok()?.trim().parse::<u64>().ok()
    };
    metadata.split(|b| *b == b'\n').filter_map(number).map(|nanos| nanos / 1000).collect()
}

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let (metadata, frames) = (&data[..split], data.get(split + 1..).unwrap_or(&[]));
    let folder = std::env::temp_dir().join(format!("tagpin-fuzz-{}", std::process::id()));
    let script = folder.join("camera.sh");
    SCRIPT.call_once(|| {
        let text = format!(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --metadata) M=$2;; esac; shift; done\n\
             cat {0}/metadata > \"$M\" &\nexec cat {0}/frames\n",
            folder.display()
        );
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        std::fs::write(&script, text).expect("a temporary file");
        let mut permissions = std::fs::metadata(&script).expect("it was written").permissions();
        permissions.set_mode(0o755);
        std::fs::set_permissions(&script, permissions).expect("it is ours");
    });
    if std::fs::write(folder.join("metadata"), metadata).and(std::fs::write(folder.join("frames"), frames)).is_err() {
        return;
    }
    let text = format!("rpicam:?width={SIDE}&height={SIDE}&stride={SIDE}&fps=240&program={}", script.display());
    let Ok(spec) = text.parse() else { return };
    let Ok(mut source) = sources::open(&spec, &(Arc::new(Ticking::default()) as _), Limits::default()) else { return };
    let (mut frame, stamps) = (FrameBuffer::empty(), stamps(metadata));
    // Behind the last whole frame the program is waited for, which takes long: not with every
    // input.
    let beyond = usize::from(data.len() % 16 == 0);
    for n in 0..(frames.len() / FRAME + beyond).min(12) {
        if source.next(&mut frame, Duration::from_millis(200)).is_err() {
            break;
        }
        assert_eq!(frame.view().expect("what is given is whole").bytes(), &frames[n * FRAME..(n + 1) * FRAME]);
        match frame.captured_at {
            CapturedAt::Exposure { at, .. } => assert!(stamps.contains(&at.as_micros()), "a time that nobody stated"),
            CapturedAt::Arrival { .. } => panic!("nobody stated a latency"),
            CapturedAt::Unknown { .. } => {}
        }
    }
});
