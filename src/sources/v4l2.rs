//! `v4l2:/dev/videoN`: direct V4L2, with driver stamps, sequence numbers, a time-out, and recovery in this process.
//!
//! Knows no model. A camera that was unplugged is found again by its name and its place on the bus. Queued buffers are drained to the newest before a frame is given; formats are asked for in the order
//! YUYV, NV12, YU12, MJPG, and the driver's answer is what counts.

use super::{FrameBuffer, NoFrame, Pacing, Source, SourceError, SourceSpec, Stamp};
use crate::frame::{Colour, Layout, Matrix, PixelFormat, Range};
use crate::pictures::{Budget, Picture};
use crate::time::{Instant, Micros};
use std::path::{Path, PathBuf};
use std::time::Duration;
use v4l::buffer::{Flags, Metadata, Type};
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::{Device, FourCC};

/// `v4l2:/dev/video0?width=640&height=480&fps=30&buffers=4`.
pub(super) struct V4l2Source {
    spec: SourceSpec,
    budget: Budget,
    /// None where sysfs does not tell: then it must come back under its number.
    camera: Option<Camera>,
    /// None after a fault, until it was opened again.
    open: Option<Open>,
}

/// Which camera it is, whatever its number: a camera that is plugged in again may get another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Camera {
    name: String,
    /// Which of the device's video nodes.
    index: String,
    /// The device's place in the machine: for USB, its socket.
    place: PathBuf,
}

impl Camera {
    /// The camera behind `/dev/videoN`, as sysfs tells it; nothing if it is none.
    fn at(device: &Path) -> Option<Self> {
        let device = std::fs::canonicalize(device).ok()?;
        let folder = Path::new("/sys/class/video4linux").join(device.file_name()?);
        let read = |file: &str| std::fs::read(folder.join(file)).map(|b| String::from_utf8_lossy(&b).into_owned()).ok();
        Some(Self { name: read("name")?, index: read("index")?, place: std::fs::canonicalize(folder.join("device")).ok()? })
    }

    /// Where this camera is now.
    fn find(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|e| e.path());
        let videos = entries.filter(|p| p.to_str().is_some_and(|p| p.starts_with("/dev/video")));
        videos.filter(|p| Self::at(p).as_ref() == Some(self)).min()
    }
}

struct Open {
    stream: Stream<'static>,
    layout: Layout,
    jpeg: bool,
    interval: Micros,
    budget: Budget,
    /// The device outlives its stream.
    device: Device,
}

const FORMATS: [(&[u8; 4], PixelFormat); 3] =
    [(b"YUYV", PixelFormat::Yuyv), (b"NV12", PixelFormat::Nv12), (b"YU12", PixelFormat::I420)];

impl Open {
    fn new(spec: &SourceSpec, path: &Path, budget: Budget) -> Result<Self, SourceError> {
        spec.allow(&["width", "height", "fps", "buffers"])?;
        let device = Device::with_path(path).map_err(|e| {
            let hint = match e.kind() {
                std::io::ErrorKind::NotFound => "plug the camera in, or choose another of /dev/video*",
                std::io::ErrorKind::PermissionDenied => "add the user to the group `video`",
                _ => "is another process using it?",
            };
            spec.error(format!("{} cannot be opened: {e}; {hint}", path.display()))
        })?;
        let failed = |what: &str| {
            let what = what.to_string();
            move |e: std::io::Error| {
                let hint = match e.kind() {
                    std::io::ErrorKind::ResourceBusy => "another process uses the camera; `fuser -v /dev/video*` names it",
                    _ => "CSI cameras need `rpicam:`",
                };
                spec.error(format!("{what}: {e}; {hint}"))
            }
        };
        let mut format = device.format().map_err(failed("no capture format"))?;
        format.width = spec.number("width", 640, 16..=8192)?;
        format.height = spec.number("height", 480, 16..=8192)?;
        let offered: Vec<FourCC> =
            device.enum_formats().map_err(failed("no list of formats"))?.into_iter().map(|f| f.fourcc).collect();
        let chosen =
            FORMATS.iter().map(|(code, _)| FourCC::new(code)).chain([FourCC::new(b"MJPG")]).find(|f| offered.contains(f));
        format.fourcc = chosen.ok_or_else(|| {
            let names: Vec<String> = offered.iter().map(ToString::to_string).collect();
            spec.error(format!(
                "it offers {}, expected YUYV, NV12, YU12 or MJPG; CSI cameras need `rpicam:`",
                names.join(", ")
            ))
        })?;
        let format = device.set_format(&format).map_err(failed("format refused"))?;
        let fps: u32 = spec.number("fps", 30, 1..=1000)?;
        // Some drivers have one fixed rate; then theirs counts.
        let _ = device.set_params(&v4l::video::capture::Parameters::with_fps(fps));
        let interval = match device.params() {
            Ok(p) if p.interval.numerator > 0 && p.interval.denominator > 0 => {
                Micros(1_000_000 * p.interval.numerator as u64 / p.interval.denominator as u64)
            }
            _ => Micros(1_000_000 / fps as u64),
        };
        let jpeg = &format.fourcc.repr == b"MJPG";
        let pixel = FORMATS.iter().find(|(code, _)| **code == format.fourcc.repr).map(|(_, p)| *p);
        let Some(pixel) = pixel.or(jpeg.then_some(PixelFormat::Rgb8)) else {
            return Err(spec.error(format!("the driver chose {}, expected YUYV, NV12, YU12 or MJPG", format.fourcc)));
        };
        let colour = Colour { matrix: Matrix::Bt601, range: Range::Limited };
        let packed = Layout::packed(pixel, colour, format.width, format.height);
        let layout = if jpeg { packed } else { Layout { stride: format.stride.max(packed.stride), ..packed } };
        layout.byte_len().map_err(|e| spec.error(e.to_string()))?;
        let buffers = spec.number("buffers", 4, 2..=32)?;
        let stream = Stream::with_buffers(&device, Type::VideoCapture, buffers).map_err(failed("no buffers"))?;
        Ok(Self { stream, layout, jpeg, interval, budget, device })
    }

    /// The newest queued frame: waits for one, then takes those that are ready behind it.
    fn newest(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        self.take(frame, timeout)?;
        // As many as could have been waiting; a camera faster than this loop must not hold it for ever.
        for _ in 0..32 {
            match self.device.handle().poll(POLL_IN, 0) {
                Ok(n) if n > 0 => self.take(frame, Duration::from_millis(1))?,
                _ => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        self.stream.set_timeout(timeout);
        let (bytes, meta) = self.stream.next().map_err(|e| match e.kind() {
            std::io::ErrorKind::TimedOut => NoFrame::Timeout,
            _ => NoFrame::Gone(e.to_string()),
        })?;
        let meta = *meta;
        if meta.flags.contains(Flags::ERROR) {
            return Err(NoFrame::Corrupt("the driver flagged it".into()));
        }
        let bytes = &bytes[..bytes.len().min(meta.bytesused as usize)];
        if self.jpeg {
            let agreed = [self.layout.width, self.layout.height];
            let picture = Picture::decode_frame(bytes, agreed, self.budget).map_err(|e| NoFrame::Corrupt(e.to_string()))?;
            frame.layout = Layout { colour: self.layout.colour, ..picture.layout() };
            frame.bytes = picture.rgb;
        } else {
            let needed = self.layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
            if bytes.len() < needed {
                return Err(NoFrame::Truncated { found: bytes.len(), needed });
            }
            frame.layout = self.layout;
            frame.bytes.clear();
            frame.bytes.extend_from_slice(&bytes[..needed]);
        }
        frame.sequence = meta.sequence as u64;
        frame.stamp = stamp(&meta, self.interval);
        frame.crossing = None;
        Ok(())
    }
}

/// `POLLIN` of poll(2), the same on every Linux.
const POLL_IN: i16 = 1;

/// Start of exposure: the driver's stamp if it says so, else its stamp less one frame interval; arrival if it is not monotonic.
fn stamp(meta: &Metadata, interval: Micros) -> Stamp {
    if !meta.flags.contains(Flags::TIMESTAMP_MONOTONIC) {
        return Stamp::Arrival;
    }
    let at = Instant::from_micros(meta.timestamp.sec as u64 * 1_000_000 + meta.timestamp.usec as u64);
    Stamp::Exposure(if meta.flags.contains(Flags::TSTAMP_SRC_SOE) { at } else { at.minus(interval) })
}

impl V4l2Source {
    pub(super) fn open(spec: &SourceSpec, budget: Budget) -> Result<Self, SourceError> {
        let path = Path::new(spec.path());
        Ok(Self { spec: spec.clone(), budget, camera: Camera::at(path), open: Some(Open::new(spec, path, budget)?) })
    }
}

impl Source for V4l2Source {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        let Some(open) = &mut self.open else { return Err(NoFrame::Gone("it could not be opened again yet".into())) };
        let outcome = open.newest(frame, timeout);
        if matches!(outcome, Err(NoFrame::Gone(_))) {
            // Let go at once: as long as somebody holds it, its number is not free for when it comes back.
            self.open = None;
        }
        outcome
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        // The old stream must go first: its buffers keep the device busy.
        self.open = None;
        let path = self.camera.as_ref().and_then(Camera::find).unwrap_or(self.spec.path().into());
        self.open = Some(Open::new(&self.spec, &path, self.budget)?);
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn knows_exposure(&self) -> bool {
        true
    }

    fn allocates(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.jpeg)
    }
}
