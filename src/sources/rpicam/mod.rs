//! The Raspberry Pi's camera through its own program, `rpicam-vid`, as a child process: the way
//! that works on every Pi OS.
//!
//! A frame is planar YUV 4:2:0, full range BT.601, no header; rows are padded to the stride that
//! the board's hardware wants. Nothing in the bytes tells where a frame begins, only when they
//! come: in one go, and then none until the next. A frame with a pause inside is none, and bytes
//! that follow a frame at once must be a whole one, or both are none. From such a frame, as from an
//! incomplete one, the program is started again. Each frame's sensor time comes through
//! `--metadata`, as text on a second pipe, after the frame; [`pairing`] finds the frame it belongs
//! to.

mod child;
mod pairing;
#[cfg(test)]
mod proof;
mod timing;

use super::pipe::{Look, Pipe, wait_for};
use super::spec::ColourOptions;
use super::{Automatic, FrameBuffer, Limits, NoFrame, Pacing, Source, SourceError, SourceSpec, make_room};
use crate::frame::{CapturedAt, Colour, Layout, MAX_SIDE, Matrix, PixelFormat, Range, TimedBy};
use crate::time::{Clock, Instant, Micros};
use child::CameraProgram;
use pairing::Pairing;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{ChildStdout, Command};
use std::sync::Arc;
use std::time::Duration;
use timing::{Pipes, Timing};

/// `rpicam:N?width=640&height=480&fps=30&stride=640&program=rpicam-vid&metadata=1&matrix=601&range=full`,
/// and the camera's controls `exposure_us=`, `gain=`, `white_balance=R,B`, `focus=`, `mains=`. `N`:
/// the camera's number in the program's list; the first without it.
pub(super) struct RpicamSource {
    spec: SourceSpec,
    clock: Arc<dyn Clock>,
    limits: Limits,
    layout: Layout,
    /// Ended before another is started: a camera has one user at a time.
    program: Option<CameraProgram>,
    pipe: Pipe<ChildStdout>,
    metadata: Option<Metadata>,
    timing: Timing,
    sequence: u64,
    broken: bool,
    /// The bytes that followed a frame, and their time if they are the next frame.
    behind: (Vec<u8>, Option<CapturedAt>),
    /// Whether the last frame had a pause inside.
    paused: bool,
}

/// Sensor times as `SensorTimestamp=NANOSECONDS` lines.
struct Metadata {
    pipe: Pipe<File>,
    line: heapless::Vec<u8, 256>,
    /// The program needs our end of the pipe until it has opened its own; then its death shows as
    /// the pipe's end.
    ours: Option<OwnedFd>,
}

impl Metadata {
    /// Takes what has come; false once the pipe has ended.
    fn drain(&mut self, pairing: &mut Pairing) -> bool {
        let Self { pipe, line, ours } = self;
        pipe.drain(&mut |byte| {
            if byte != b'\n' {
                // Longer lines are none that matters.
                let _ = line.push(byte);
                return;
            }
            let number =
                |key: &[u8]| -> Option<u64> { std::str::from_utf8(line.strip_prefix(key)?).ok()?.trim().parse().ok() };
            if let Some(nanos) = number(b"SensorTimestamp=") {
                pairing.stamp(Instant::from_micros(nanos / 1000));
                *ours = None;
            } else if let Some(us) = number(b"FrameDuration=") {
                pairing.set_interval(Micros(us));
            }
            line.clear();
        })
    }
}

/// What a frame is read with.
struct Reading<'r> {
    clock: &'r dyn Clock,
    frames: &'r mut Pipe<ChildStdout>,
    metadata: Option<&'r mut Metadata>,
    program: Option<&'r mut CameraProgram>,
    bytes: &'r mut [u8],
    /// Where frames begin is no longer known.
    broken: bool,
    /// The longest time for which no bytes came inside the frame.
    pause: Duration,
}

impl Look for Reading<'_> {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn begins(&mut self, timeout: Micros) -> Result<bool, NoFrame> {
        self.frames.ready(timeout.duration())
    }
}

impl Pipes for Reading<'_> {
    fn read(&mut self, timeout: Micros) -> Result<(), NoFrame> {
        let outcome = self.frames.fill(self.bytes, timeout.duration());
        // Nothing in the bytes tells where the next frame begins.
        self.broken = outcome.is_err();
        match (outcome, &mut self.program) {
            (Ok(pause), _) => {
                self.pause = pause;
                Ok(())
            }
            (Err(NoFrame::End), Some(program)) => Err(NoFrame::Gone(program.why_ended())),
            (Err(NoFrame::End), None) => Err(NoFrame::Gone("the camera program is not running".into())),
            (Err(other), _) => Err(other),
        }
    }

    fn metadata(&mut self, pairing: &mut Pairing) -> bool {
        self.metadata.as_mut().is_some_and(|m| m.drain(pairing))
    }

    fn wait(&mut self, timeout: Micros) -> Result<(), NoFrame> {
        match &self.metadata {
            Some(metadata) => wait_for([self.frames.fd(), metadata.pipe.fd()], timeout.duration()).map(drop),
            None => self.begins(timeout).map(drop),
        }
    }
}

impl RpicamSource {
    pub(super) fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>, limits: Limits) -> Result<Self, SourceError> {
        spec.allow(&[
            "width",
            "height",
            "fps",
            "stride",
            "program",
            "metadata",
            "matrix",
            "range",
            "exposure_us",
            "gain",
            "white_balance",
            "focus",
            "mains",
        ])?;
        let width: u32 = spec.number("width", 640, 16..=MAX_SIDE)?;
        let height: u32 = spec.number("height", 480, 16..=MAX_SIDE)?;
        let fps: u32 = spec.number("fps", 30, 1..=240)?;
        if width % 2 == 1 || height % 2 == 1 {
            return Err(spec.error(format!("{width}x{height}: both sides must be even")));
        }
        // Rows are padded to 64 bytes on a Pi 4 and earlier, to 128 on a Pi 5: only multiples of
        // 128 are the same on both.
        let stride: u32 = spec.number("stride", width.next_multiple_of(64), width..=2 * MAX_SIDE)?;
        if !width.is_multiple_of(128) && spec.text_option("stride").is_none() {
            return Err(spec.error(format!(
                "width {width} is padded differently from board to board; use a multiple of 128 or state stride={} (Pi 4 and earlier) or stride={} (Pi 5)",
                width.next_multiple_of(64),
                width.next_multiple_of(128)
            )));
        }
        let colour = ColourOptions::read(spec)?.over(Colour { matrix: Matrix::Bt601, range: Range::Full });
        let layout = Layout { stride, ..Layout::packed(PixelFormat::I420, colour, width, height) };
        let number: u8 = match spec.path() {
            "" => 0,
            path => path.parse().map_err(|_| {
                spec.error(format!(
                    "camera \"{path}\", expected its number in `tagpin cameras`, as in rpicam:1?width={width}"
                ))
            })?,
        };
        let name = spec.text_option("program").unwrap_or("rpicam-vid");
        let mut command = Command::new(name);
        command.args(["-n", "-t", "0", "--codec", "yuv420", "--flush", "-o", "-"]);
        command.args(["--width", &width.to_string(), "--height", &height.to_string(), "--framerate", &fps.to_string()]);
        if number > 0 {
            command.args(["--camera", &number.to_string()]);
        }
        command.args(controls(spec)?);
        let interval = Micros(1_000_000 / fps as u64);
        let metadata = match spec.number("metadata", 1, 0..=1)? {
            0 => None,
            _ => {
                let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                    .map_err(|e| spec.error(format!("no pipe: {e}")))?;
                // The child opens the pipe by our descriptor's path, so that none need be
                // inherited.
                let path = format!("/proc/{}/fd/{}", std::process::id(), write.as_raw_fd());
                command.args(["--metadata", &path, "--metadata-format", "txt"]);
                Some(Metadata { pipe: Pipe::new(File::from(read)), line: heapless::Vec::new(), ours: Some(write) })
            }
        };
        let (program, stdout) = CameraProgram::start(&mut command).map_err(|e| {
            spec.error(format!("`{name}` cannot be started: {e}; install rpicam-apps, or name it with program="))
        })?;
        let has_metadata = metadata.is_some();
        Ok(Self {
            spec: spec.clone(),
            clock: clock.clone(),
            limits,
            layout,
            program: Some(program),
            pipe: Pipe::new(stdout),
            metadata,
            timing: Timing::new(clock.now(), interval, limits, has_metadata),
            sequence: 0,
            broken: false,
            behind: (Vec::new(), None),
            paused: false,
        })
    }

    /// Reads one frame, and when it was exposed.
    fn read(&mut self, bytes: &mut Vec<u8>, timeout: Duration) -> Result<CapturedAt, NoFrame> {
        let needed = self.layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
        make_room(bytes, needed)?;
        let mut reading = Reading {
            clock: &*self.clock,
            frames: &mut self.pipe,
            metadata: self.metadata.as_mut(),
            program: self.program.as_mut(),
            bytes,
            broken: false,
            pause: Duration::ZERO,
        };
        let captured = self.timing.next(&mut reading, Micros(timeout.as_micros() as u64));
        let pause = reading.pause;
        self.broken = reading.broken || matches!(captured, Err(NoFrame::Gone(_)));
        let captured = captured?;
        let was_paused = std::mem::replace(&mut self.paused, pause > self.timing.interval().duration() / 2);
        match (self.paused, was_paused) {
            (false, _) => Ok(captured),
            (true, false) => Err(NoFrame::Corrupt(format!("{} ms passed inside the frame", pause.as_millis()))),
            (true, true) => Err(self.misframed(needed)),
        }
    }

    /// Where frames begin is not known any more, or never was.
    fn misframed(&mut self, needed: usize) -> NoFrame {
        self.broken = true;
        let Layout { width, height, stride, .. } = self.layout;
        NoFrame::Gone(format!(
            "its frames are not of {needed} bytes, as {width}x{height} with rows of {stride} would be; if that stays, state \
             stride= as the board pads rows: to a multiple of 64 up to the Pi 4, of 128 on the Pi 5"
        ))
    }
}

/// What the program is told of exposure, gain, white balance, focus and lamps.
fn controls(spec: &SourceSpec) -> Result<Vec<String>, SourceError> {
    let mut arguments = Vec::new();
    let mut tell = |key: &str, value: String| arguments.extend([key.to_string(), value]);
    if spec.text_option("exposure_us").is_some() {
        tell("--shutter", spec.number("exposure_us", 0u32, 1..=10_000_000)?.to_string());
    }
    if spec.text_option("gain").is_some() {
        tell("--gain", spec.number("gain", 1.0, 1.0..=64.0)?.to_string());
    }
    if let Some(text) = spec.text_option("white_balance") {
        let gains = text.split_once(',').and_then(|(r, b)| Some((r.parse::<f64>().ok()?, b.parse::<f64>().ok()?)));
        match gains {
            Some((r, b)) if (0.1..=32.0).contains(&r) && (0.1..=32.0).contains(&b) => tell("--awbgains", format!("{r},{b}")),
            _ => return Err(spec.error(format!("white_balance={text}, expected gains of red and blue, as in 1.8,1.5"))),
        }
    }
    if spec.text_option("focus").is_some() {
        tell("--autofocus-mode", "manual".into());
        tell("--lens-position", spec.number("focus", 0.0, 0.0..=32.0)?.to_string());
    }
    match spec.text_option("mains") {
        None => {}
        // Lamps flicker twice in a period.
        Some("50") => tell("--flicker-period", "10000us".into()),
        Some("60") => tell("--flicker-period", "8333us".into()),
        Some(other) => return Err(spec.error(format!("mains={other}, expected 50 or 60"))),
    }
    Ok(arguments)
}

impl Source for RpicamSource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        if self.broken {
            return Err(NoFrame::Gone("the camera program must be started again".into()));
        }
        frame.captured_at = match self.behind.1.take() {
            Some(captured) => {
                std::mem::swap(&mut frame.bytes, &mut self.behind.0);
                captured
            }
            None => {
                let captured = self.read(&mut frame.bytes, timeout)?;
                if self.timing.is_followed() {
                    let mut behind = std::mem::take(&mut self.behind.0);
                    let next = self.read(&mut behind, timeout);
                    let next = next.map_err(|why| match why {
                        NoFrame::Gone(_) => why,
                        _ => self.misframed(behind.len()),
                    })?;
                    self.behind = (behind, Some(next));
                }
                captured
            }
        };
        frame.layout = self.layout;
        frame.sequence = self.sequence;
        frame.crossing = None;
        self.sequence += 1;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        self.program = None;
        *self = Self::open(&self.spec, &self.clock, self.limits)?;
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn timed_by(&self) -> TimedBy {
        match self.metadata {
            Some(_) => TimedBy::Metadata,
            None if self.limits.latency.is_some() => TimedBy::Setting,
            None => TimedBy::Arrival,
        }
    }

    fn automatics(&self) -> Vec<Automatic> {
        let stated = |key: &str| self.spec.text_option(key).is_some();
        let exposure = (!stated("exposure_us")).then_some(Automatic::Exposure);
        exposure.into_iter().chain((!stated("white_balance")).then_some(Automatic::WhiteBalance)).collect()
    }

    fn layout(&self) -> Option<Layout> {
        Some(self.layout)
    }

    fn last_words(&self) -> Option<String> {
        self.program.as_ref().and_then(CameraProgram::last_words)
    }

    fn interval(&self) -> Micros {
        self.timing.interval()
    }

    fn is_broken(&self) -> bool {
        self.broken
    }
}
