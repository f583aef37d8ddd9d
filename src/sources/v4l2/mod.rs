//! `v4l2:/dev/videoN`: direct V4L2, with driver stamps, sequence numbers, a time-out, and recovery
//! in this process.
//!
//! A camera that was unplugged is found again by its name and its place on the bus.
//! Queued buffers are drained to the newest before a frame is given. `format=` asks for one format,
//! else the first of YUYV, NV12, YU12, MJPG that the camera has is asked for. The driver's answer
//! is what counts: size, bytes a row, colour.

pub(super) mod controls;

use super::spec::ColourOptions;
use super::{Automatic, FrameBuffer, Limits, NoFrame, Pacing, Source, SourceError, SourceSpec, make_room};
use crate::caught::caught;
use crate::frame::{CapturedAt, Colour, Layout, MAX_SIDE, Matrix, PixelFormat, Range, TimedBy};
use crate::pictures::Picture;
use crate::time::{Clock, Instant, Micros};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use v4l::buffer::{Flags, Metadata, Type};
use v4l::format::{Colorspace, FieldOrder, Quantization};
use v4l::io::mmap::Stream;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::{Device, FourCC};

/// `v4l2:/dev/video0?width=640&height=480&fps=30&buffers=4&matrix=601&range=limited`, and the
/// controls of [`controls`].
pub(super) struct V4l2Source {
    spec: SourceSpec,
    clock: Arc<dyn Clock>,
    limits: Limits,
    wanted: Wanted,
    /// None where sysfs does not tell: then it must come back under its number.
    camera: Option<Camera>,
    /// Where it was first found.
    path: PathBuf,
    /// None after a fault, until it was opened again.
    open: Option<Open>,
    /// The longest time from one frame to the next, of all openings.
    longest: Option<Micros>,
    /// What its time is worth, as far as was looked.
    timed_by: TimedBy,
    /// How long the first frame took, if it was looked at when the source was opened.
    start: Option<Micros>,
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

/// What a stream is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fps: u32,
    /// The only format that will do; none for the first of [`NAMES`] that the camera has.
    pub(super) format: Option<[u8; 4]>,
}

/// Options of a stream, besides its controls.
pub(super) const OPTIONS: [&str; 7] = ["width", "height", "fps", "format", "buffers", "matrix", "range"];

/// The formats that are read, by their V4L2 names, the one that costs least first.
const NAMES: [&str; 4] = ["YUYV", "NV12", "YU12", "MJPG"];

impl Wanted {
    pub(super) fn read(spec: &SourceSpec) -> Result<Self, SourceError> {
        spec.allow(&[&OPTIONS[..], &controls::OPTIONS].concat())?;
        Ok(Self {
            width: spec.number("width", 640, 16..=MAX_SIDE)?,
            height: spec.number("height", 480, 16..=MAX_SIDE)?,
            fps: spec.number("fps", 30, 1..=1000)?,
            format: format_option(spec)?,
        })
    }
}

/// What `format=` asks for.
fn format_option(spec: &SourceSpec) -> Result<Option<[u8; 4]>, SourceError> {
    let Some(text) = spec.text_option("format") else { return Ok(None) };
    let code = text.as_bytes().first_chunk().copied().filter(|_| NAMES.contains(&text));
    code.map(Some).ok_or_else(|| spec.error(format!("format={text}, expected one of {}", NAMES.join(", "))))
}

struct Open {
    /// None only while it is dropped.
    stream: Option<Stream<'static>>,
    layout: Layout,
    jpeg: bool,
    interval: Micros,
    started: bool,
    /// A wait inside the stream timed out: its last buffer is queued already, and must not be
    /// queued again.
    owes: bool,
    /// The number and stamp of the last frame.
    last: Option<(u32, Instant)>,
    /// The longest time from one frame to the next, of this opening and those before it.
    longest: Option<Micros>,
    /// The device outlives its stream.
    device: Device,
}

impl Drop for Open {
    fn drop(&mut self) {
        // The crate panics if a stream cannot be stopped, as is the case when the camera failed.
        let stream = self.stream.take();
        let _ = caught(move || drop(stream));
    }
}

const FORMATS: [(&[u8; 4], PixelFormat); 3] =
    [(b"YUYV", PixelFormat::Yuyv), (b"NV12", PixelFormat::Nv12), (b"YU12", PixelFormat::I420)];

/// The format to ask the driver for: `only` if one is stated, else the first of ours in `offered`.
fn choose(spec: &SourceSpec, only: Option<[u8; 4]>, offered: &[FourCC]) -> Result<FourCC, SourceError> {
    let ours = NAMES.iter().filter_map(|name| name.as_bytes().first_chunk()).filter(|code| only.is_none_or(|o| o == **code));
    let chosen = ours.map(FourCC::new).find(|code| offered.contains(code));
    chosen.ok_or_else(|| {
        let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
        let expected = match only {
            Some(only) => format!("{}, as was asked for", FourCC::new(&only)),
            None => format!("one of {}; CSI cameras need `rpicam:`", NAMES.join(", ")),
        };
        spec.error(format!("the camera offers {}, expected {expected}", offered.join(", ")))
    })
}

/// What the driver says of colour, with the defaults of linux/videodev2.h.
fn colour(space: Colorspace, range: Quantization) -> Colour {
    let matrix = if matches!(space, Colorspace::Rec709) { Matrix::Bt709 } else { Matrix::Bt601 };
    let full = match range {
        Quantization::FullRange => true,
        Quantization::LimitedRange => false,
        Quantization::Default => matches!(space, Colorspace::JPEG),
    };
    Colour { matrix, range: if full { Range::Full } else { Range::Limited } }
}

impl Open {
    /// Opens it, whatever the crate makes of what the driver says.
    fn new(spec: &SourceSpec, path: &Path, wanted: Wanted) -> Result<Self, SourceError> {
        // The crate panics on numbers that its lists of colour spaces and fields do not have.
        caught(|| Self::try_new(spec, path, wanted)).unwrap_or_else(|said| {
            Err(spec.error(format!("the driver states a format or control that cannot be read: {said}")))
        })
    }

    fn try_new(spec: &SourceSpec, path: &Path, wanted: Wanted) -> Result<Self, SourceError> {
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
        (format.width, format.height) = (wanted.width, wanted.height);
        let offered: Vec<FourCC> =
            device.enum_formats().map_err(failed("no list of formats"))?.into_iter().map(|f| f.fourcc).collect();
        format.fourcc = choose(spec, wanted.format, &offered)?;
        let format = device.set_format(&format).map_err(failed("format refused"))?;
        let fps = wanted.fps;
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
            return Err(spec.error(format!("the driver chose {}, expected {}", format.fourcc, NAMES.join(", "))));
        };
        if let Some(only) = wanted.format.filter(|only| *only != format.fourcc.repr) {
            return Err(spec.error(format!(
                "the driver chose {} where {} was asked for",
                format.fourcc,
                FourCC::new(&only)
            )));
        }
        if !matches!(format.field_order, FieldOrder::Any | FieldOrder::Progressive) {
            let field = format!("{:?}", format.field_order).to_lowercase();
            return Err(spec.error(format!(
                "its images are interlaced ({field}), expected progressive: choose a size that is, or deinterlace it by \
                 ffmpeg into y4m:-"
            )));
        }
        let colour = ColourOptions::read(spec)?.over(colour(format.colorspace, format.quantization));
        let packed = Layout::packed(pixel, colour, format.width, format.height);
        let layout = if jpeg { packed } else { Layout { stride: format.stride.max(packed.stride), ..packed } };
        layout.byte_len().map_err(|e| spec.error(e.to_string()))?;
        controls::apply(spec, &device)?;
        let buffers = spec.number("buffers", 4, 2..=32)?;
        let stream = Stream::with_buffers(&device, Type::VideoCapture, buffers).map_err(failed("no buffers"))?;
        Ok(Self {
            stream: Some(stream),
            layout,
            jpeg,
            interval,
            started: false,
            owes: false,
            last: None,
            longest: None,
            device,
        })
    }

    /// The newest queued frame: waits for one, then takes those that are ready behind it.
    fn newest(
        &mut self,
        frame: &mut FrameBuffer,
        timeout: Duration,
        limits: Limits,
        now: &dyn Fn() -> Instant,
    ) -> Result<(), NoFrame> {
        self.take(frame, timeout, limits, now)?;
        // As many as could have been waiting; a camera faster than this loop must not hold it for
        // ever.
        for _ in 0..32 {
            match self.device.handle().poll(POLL_IN, 0) {
                Ok(n) if n > 0 => self.take(frame, Duration::from_millis(1), limits, now)?,
                _ => break,
            }
        }
        Ok(())
    }

    /// The next buffer that the driver has filled, waiting at most `timeout` for it, and the
    /// longest that its exposure may have taken, if that is known.
    fn buffer(&mut self, timeout: Duration) -> Result<(&[u8], Metadata, Option<Micros>), NoFrame> {
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted => NoFrame::Timeout,
            _ => NoFrame::Gone(e.to_string()),
        };
        let stream = self.stream.as_mut().ok_or_else(|| NoFrame::Gone("the stream is closed".into()))?;
        // The stream queues its last buffer before it waits, so it may only be called when
        // something is there.
        if self.started && self.device.handle().poll(POLL_IN, millis(timeout)).map_err(failed)? == 0 {
            return Err(NoFrame::Timeout);
        }
        stream.set_timeout(timeout);
        if self.owes {
            // Its buffer cannot be looked at, but the one behind it can.
            CaptureStream::dequeue(stream).map_err(failed)?;
            self.owes = false;
            return Err(NoFrame::Timeout);
        }
        self.started = true;
        let (bytes, meta) = stream.next().map_err(|e| {
            self.owes = matches!(e.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted);
            failed(e)
        })?;
        let before = self.last.replace((meta.sequence, stamp(meta)));
        let interval = longest_interval(self.interval, before, &mut self.longest, meta);
        Ok((&bytes[..bytes.len().min(meta.bytesused as usize)], *meta, interval))
    }

    fn take(
        &mut self,
        frame: &mut FrameBuffer,
        timeout: Duration,
        limits: Limits,
        now: &dyn Fn() -> Instant,
    ) -> Result<(), NoFrame> {
        let Self { layout, jpeg, .. } = *self;
        let (bytes, meta, interval) = self.buffer(timeout)?;
        if meta.flags.contains(Flags::ERROR) {
            return Err(NoFrame::Corrupt("the driver flagged it".into()));
        }
        if jpeg {
            let agreed = [layout.width, layout.height];
            let image = Picture::decode_frame(bytes, agreed, limits.picture).map_err(|e| NoFrame::Corrupt(e.to_string()))?;
            frame.layout = Layout { colour: layout.colour, ..image.layout() };
            frame.bytes = image.rgb;
        } else {
            let needed = layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
            if bytes.len() < needed {
                return Err(NoFrame::Truncated { found: bytes.len(), needed });
            }
            frame.layout = layout;
            make_room(&mut frame.bytes, needed)?;
            frame.bytes.copy_from_slice(&bytes[..needed]);
        }
        frame.sequence = meta.sequence as u64;
        frame.captured_at = captured_at(&meta, interval, now(), limits.latency);
        frame.crossing = None;
        Ok(())
    }
}

/// `POLLIN` of poll(2), the same on every Linux.
const POLL_IN: i16 = 1;

fn millis(timeout: Duration) -> i32 {
    // Rounded up: no time at all would be a busy loop.
    timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32
}

/// The driver's stamp, whatever it is worth.
fn stamp(meta: &Metadata) -> Instant {
    let [sec, usec] = [meta.timestamp.sec, meta.timestamp.usec].map(|part| u64::try_from(part).unwrap_or(0));
    Instant::from_micros(sec.saturating_mul(1_000_000).saturating_add(usec))
}

/// From the frame `before` to this one, at least what the driver `stated`: in the dark a camera
/// exposes for longer than it said. For the first frame of an opening the `longest` that was ever
/// measured; `None` if none was.
fn longest_interval(
    stated: Micros,
    before: Option<(u32, Instant)>,
    longest: &mut Option<Micros>,
    meta: &Metadata,
) -> Option<Micros> {
    let measured = before.map(|(sequence, at)| {
        let frames = u64::from(meta.sequence.saturating_sub(sequence)).max(1);
        Micros(stamp(meta).since(at).0 / frames)
    });
    *longest = (*longest).max(measured);
    measured.or(*longest).map(|interval| interval.max(stated))
}

/// Whether the driver says that its stamps are of the monotonic clock, which is ours.
fn is_stamped(meta: &Metadata) -> bool {
    meta.flags & Flags::TIMESTAMP_MASK == Flags::TIMESTAMP_MONOTONIC
}

/// How the time of this driver's frames is found.
fn worth(meta: &Metadata, latency: Option<Micros>) -> TimedBy {
    match latency {
        _ if is_stamped(meta) => TimedBy::Driver,
        Some(_) => TimedBy::Setting,
        None => TimedBy::Arrival,
    }
}

/// Start of exposure: the driver's stamp if it says so; within the frame interval before it if it
/// is of the end, and unknown while that interval is. A stamp of another clock, from the future or
/// from long ago is not believed.
fn captured_at(meta: &Metadata, interval: Option<Micros>, now: Instant, latency: Option<Micros>) -> CapturedAt {
    /// More than any driver's queue holds.
    const OLDEST: Micros = Micros(2_000_000);
    let at = stamp(meta);
    if !is_stamped(meta) || at > now || now.since(at) > OLDEST {
        return CapturedAt::arrived(now, latency);
    }
    if meta.flags & Flags::TSTAMP_SRC_MASK == Flags::TSTAMP_SRC_SOE {
        return CapturedAt::Exposure { at, uncertainty: Micros(0), by: TimedBy::Driver };
    }
    let Some(interval) = interval else { return CapturedAt::arrived(now, latency) };
    let half = Micros(interval.0.div_ceil(2));
    CapturedAt::Exposure { at: at.minus(half), uncertainty: half, by: TimedBy::Driver }
}

impl V4l2Source {
    pub(super) fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>, limits: Limits) -> Result<Self, SourceError> {
        Self::open_as(spec, Path::new(spec.path()), Wanted::read(spec)?, clock, limits)
    }

    /// Opens `path` for a source that has found out by itself what to ask for.
    pub(super) fn open_as(
        spec: &SourceSpec,
        path: &Path,
        wanted: Wanted,
        clock: &Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Self, SourceError> {
        let mut open = Open::new(spec, path, wanted)?;
        let (mut timed_by, mut start) = (TimedBy::Driver, None);
        if limits.needs_time {
            // Only a frame tells what the stamps are worth. One that does not come says nothing.
            let begin = clock.now();
            if let Ok((_, meta, _)) = open.buffer(limits.first_frame) {
                (timed_by, start) = (worth(&meta, limits.latency), Some(clock.now().since(begin)));
            }
        }
        Ok(Self {
            spec: spec.clone(),
            clock: clock.clone(),
            limits,
            wanted,
            path: path.into(),
            camera: Camera::at(path),
            open: Some(open),
            longest: None,
            timed_by,
            start,
        })
    }
}

impl Source for V4l2Source {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        let Some(open) = &mut self.open else { return Err(NoFrame::Gone("it could not be opened again yet".into())) };
        let outcome = open.newest(frame, timeout, self.limits, &|| self.clock.now());
        self.longest = open.longest;
        if matches!(outcome, Err(NoFrame::Gone(_))) {
            // Let go at once: as long as somebody holds it, its number is not free for when it
            // comes back.
            self.open = None;
        }
        outcome
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        // The old stream must go first: its buffers keep the device busy.
        self.open = None;
        let path = self.camera.as_ref().and_then(Camera::find).unwrap_or(self.path.clone());
        let open = Open::new(&self.spec, &path, self.wanted)?;
        self.open.insert(open).longest = self.longest;
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn timed_by(&self) -> TimedBy {
        self.timed_by
    }

    fn start(&self) -> Option<Micros> {
        self.start
    }

    fn automatics(&self) -> Vec<Automatic> {
        self.open.as_ref().map_or(Vec::new(), |open| controls::automatics(&open.device))
    }

    fn layout(&self) -> Option<Layout> {
        self.open.as_ref().map(|o| o.layout)
    }

    fn interval(&self) -> Micros {
        self.open.as_ref().map_or(Micros(0), |o| o.interval)
    }

    fn allocates(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.jpeg)
    }
}

/// For people: one camera's formats, sizes, rates and controls.
pub(super) fn describe(path: &Path) -> Result<Vec<String>, String> {
    let failed = |e: std::io::Error| e.to_string();
    let device = Device::with_path(path).map_err(failed)?;
    let mut lines = Vec::new();
    for format in device.enum_formats().map_err(failed)? {
        let sizes = device.enum_framesizes(format.fourcc).unwrap_or_default();
        let mut shown: Vec<String> = Vec::new();
        for size in sizes.into_iter().flat_map(|s| s.size.to_discrete()).take(24) {
            let rates = device.enum_frameintervals(format.fourcc, size.width, size.height).unwrap_or_default();
            let fastest = rates.iter().filter_map(|r| match &r.interval {
                v4l::frameinterval::FrameIntervalEnum::Discrete(f) if f.numerator > 0 => Some(f.denominator / f.numerator),
                _ => None,
            });
            let fps = fastest.max().map_or(String::new(), |fps| format!("@{fps}"));
            shown.push(format!("{}x{}{fps}", size.width, size.height));
        }
        let used = NAMES.iter().any(|name| name.as_bytes() == format.fourcc.repr);
        let note = if used { "" } else { " (not read)" };
        lines.push(format!("{}{note}: {}", format.fourcc, shown.join(" ")));
    }
    lines.extend(controls::list(&device));
    Ok(lines)
}

#[cfg(test)]
mod tests;
