//! The Raspberry Pi's camera through its own program, `rpicam-vid`, as a child process: the way that works on every Pi OS.
//!
//! Knows no model. A frame is planar YUV 4:2:0, full range BT.601, no header; rows are padded to the stride that the
//! board's hardware wants. Each frame's sensor time comes through `--metadata`, as text, on a second pipe.

use super::pipe::Pipe;
use super::{FrameBuffer, NoFrame, Pacing, Source, SourceError, SourceSpec, Stamp};
use crate::frame::{Colour, Layout, MAX_SIDE, Matrix, PixelFormat, Range};
use crate::time::Instant;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// `rpicam:?width=640&height=480&fps=30&stride=640&program=rpicam-vid&metadata=1`.
pub(super) struct RpicamSource {
    spec: SourceSpec,
    layout: Layout,
    child: Child,
    pipe: Pipe<ChildStdout>,
    metadata: Option<Metadata>,
    sequence: u64,
}

/// Sensor times, one a frame, as `SensorTimestamp=NANOSECONDS` lines.
struct Metadata {
    pipe: Pipe<File>,
    line: [u8; 256],
}

impl Metadata {
    /// The next frame's start of exposure. The program writes it before the frame; 20 ms are a margin, not a wait.
    fn next(&mut self) -> Option<Instant> {
        const MARGIN: Duration = Duration::from_millis(20);
        loop {
            let n = match self.pipe.line(&mut self.line, MARGIN) {
                Ok(n) => n,
                Err(NoFrame::Corrupt(_)) => continue,
                Err(_) => return None,
            };
            if let Some(value) = self.line[..n].strip_prefix(b"SensorTimestamp=") {
                let nanos: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
                return Some(Instant::from_micros(nanos / 1000));
            }
        }
    }
}

impl RpicamSource {
    pub(super) fn open(spec: &SourceSpec) -> Result<Self, SourceError> {
        spec.allow(&["width", "height", "fps", "stride", "program", "metadata"])?;
        let width: u32 = spec.number("width", 640, 16..=MAX_SIDE)?;
        let height: u32 = spec.number("height", 480, 16..=MAX_SIDE)?;
        let fps: u32 = spec.number("fps", 30, 1..=240)?;
        if width % 2 == 1 || height % 2 == 1 {
            return Err(spec.error(format!("{width}x{height}: both sides must be even")));
        }
        // Rows are padded to 64 bytes on a Pi 4 and earlier, to 128 on a Pi 5: only multiples of 128 are the same on both.
        let stride: u32 = spec.number("stride", width.next_multiple_of(64), width..=2 * MAX_SIDE)?;
        if !width.is_multiple_of(128) && spec.text_option("stride").is_none() {
            return Err(spec.error(format!(
                "width {width} is padded differently from board to board; use a multiple of 128 or state stride={} (Pi 4 and earlier) or stride={} (Pi 5)",
                width.next_multiple_of(64),
                width.next_multiple_of(128)
            )));
        }
        let colour = Colour { matrix: Matrix::Bt601, range: Range::Full };
        let layout = Layout { stride, ..Layout::packed(PixelFormat::I420, colour, width, height) };
        let program = spec.text_option("program").unwrap_or("rpicam-vid");
        let mut command = Command::new(program);
        command.args(["-n", "-t", "0", "--codec", "yuv420", "--flush", "-o", "-"]);
        command.args(["--width", &width.to_string(), "--height", &height.to_string(), "--framerate", &fps.to_string()]);
        let metadata = match spec.number("metadata", 1, 0..=1)? {
            0 => None,
            _ => {
                let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                    .map_err(|e| spec.error(format!("no pipe: {e}")))?;
                // The child opens the pipe by our descriptor's path, so that none need be inherited.
                let path = format!("/proc/{}/fd/{}", std::process::id(), write.as_raw_fd());
                command.args(["--metadata", &path, "--metadata-format", "txt"]);
                Some((read, write))
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|e| {
            spec.error(format!("`{program}` cannot be started: {e}; install rpicam-apps, or name it with program="))
        })?;
        let stdout = child.stdout.take().ok_or_else(|| spec.error("no pipe from the camera program"))?;
        let metadata = metadata.map(|(read, write): (OwnedFd, OwnedFd)| {
            keep_until_opened(write);
            Metadata { pipe: Pipe::new(File::from(read)), line: [0; 256] }
        });
        Ok(Self { spec: spec.clone(), layout, child, pipe: Pipe::new(stdout), metadata, sequence: 0 })
    }
}

/// The child needs our end of the pipe until it has opened its own; five seconds later it is closed, so that its death shows.
fn keep_until_opened(write: OwnedFd) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        drop(write);
    });
}

impl Source for RpicamSource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        let needed = self.layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
        frame.bytes.resize(needed, 0);
        self.pipe.fill(&mut frame.bytes, timeout).map_err(|e| match e {
            NoFrame::End => NoFrame::Gone(match self.child.wait() {
                Ok(status) => format!("the camera program ended: {status}"),
                Err(e) => e.to_string(),
            }),
            other => other,
        })?;
        frame.layout = self.layout;
        frame.sequence = self.sequence;
        frame.stamp = match self.metadata.as_mut().and_then(Metadata::next) {
            Some(at) => Stamp::Exposure(at),
            None => Stamp::Arrival,
        };
        frame.crossing = None;
        self.sequence += 1;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        *self = Self::open(&self.spec)?;
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn knows_exposure(&self) -> bool {
        self.metadata.is_some()
    }
}

impl Drop for RpicamSource {
    fn drop(&mut self) {
        // The program runs for ever by itself; nothing is lost by ending it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
