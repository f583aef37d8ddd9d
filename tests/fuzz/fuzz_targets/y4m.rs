//! Bytes as Y4M, as a file and as a live pipe: every frame that comes out stands in the bytes
//! whole, behind its own marker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tagpin::sources::{self, FrameBuffer, Limits};
use tagpin::time::{Clock, Micros};
use tagpin_fuzz::Ticking;

/// A pipe holds so much without a reader.
const PIPE: usize = 1 << 16;

/// Whether `frame` stands in `data` behind a line that begins with FRAME.
fn stands_behind_a_marker(data: &[u8], frame: &[u8]) -> bool {
    data.windows(5).enumerate().filter(|(_, word)| word == b"FRAME").any(|(at, _)| {
        let line = data[at..].iter().position(|b| *b == b'\n');
        line.is_some_and(|end| data[at + end + 1..].starts_with(frame))
    })
}

fn read(data: &[u8], path: &str) {
    let clock = Arc::new(Ticking::default());
    let Ok(spec) = format!("y4m:{path}").parse() else { return };
    let limits = Limits { latency: Some(Micros(100_000)), ..Limits::default() };
    let Ok(mut source) = sources::open(&spec, &(clock.clone() as _), limits) else { return };
    let (mut frame, mut last) = (FrameBuffer::empty(), None);
    for _ in 0..16 {
        if source.next(&mut frame, Duration::from_millis(20)).is_err() {
            continue;
        }
        let view = frame.view().expect("what is given is whole");
        assert!(stands_behind_a_marker(data, view.bytes()), "a frame that was never sent");
        let time = frame.captured_at.exposed_from().expect("the latency is stated");
        assert!(time < clock.now() && last.is_none_or(|l| l < (frame.sequence, time)), "time runs backwards");
        last = Some((frame.sequence, time));
    }
}

fuzz_target!(|data: &[u8]| {
    let path = std::env::temp_dir().join(format!("tagpin-fuzz-{}.y4m", std::process::id()));
    if std::fs::write(&path, data).is_ok() {
        read(data, &path.display().to_string());
    }
    if let (true, Ok((reader, mut writer))) = (data.len() <= PIPE, std::io::pipe()) {
        writer.write_all(data).expect("a pipe holds that much");
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        drop(writer);
        read(data, &path);
    }
});
