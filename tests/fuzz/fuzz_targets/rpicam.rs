//! Bytes as what the camera program writes: frames on its pipe, text on its metadata. The program is `cat` of a file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Once};
use std::time::Duration;
use tagpin::sources::{self, FrameBuffer, Limits};
use tagpin::supervisor::SystemClock;

static SCRIPT: Once = Once::new();

fuzz_target!(|data: &[u8]| {
    let folder = std::env::temp_dir().join(format!("tagpin-fuzz-{}", std::process::id()));
    let (bytes, script) = (folder.join("bytes"), folder.join("camera.sh"));
    SCRIPT.call_once(|| {
        let text = format!(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --metadata) M=$2;; esac; shift; done\ncat {0} > \"$M\"\ncat {0}\n",
            bytes.display()
        );
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        std::fs::write(&script, text).expect("a temporary file");
        let mut permissions = std::fs::metadata(&script).expect("it was written").permissions();
        permissions.set_mode(0o755);
        std::fs::set_permissions(&script, permissions).expect("it is ours");
    });
    if std::fs::write(&bytes, data).is_err() {
        return;
    }
    let text = format!("rpicam:?width=16&height=16&stride=16&program={}", script.display());
    let Ok(spec) = text.parse() else { return };
    let Ok(mut source) = sources::open(&spec, &(Arc::new(SystemClock) as _), Limits::default()) else { return };
    let mut frame = FrameBuffer::empty();
    for _ in 0..4 {
        if source.next(&mut frame, Duration::from_millis(50)).is_ok() {
            assert!(frame.view().is_ok());
        }
    }
});
