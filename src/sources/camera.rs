//! `camera:N` or `camera:/dev/videoN`: a camera through nokhwa.
//!
//! Knows no model. nokhwa's cameras stay on the thread that opened them, its stamps are wall clock, its frames are copies and
//! a stalled call cannot be interrupted. So a thread owns the camera and hands frames over: they count from their arrival, a
//! stall shows as a time-out, and a stalled thread is left behind when the camera is opened again.

use super::{FrameBuffer, NoFrame, Pacing, Source, SourceError, SourceSpec, Stamp};
use crate::frame::{Colour, Layout, Matrix, PixelFormat, Range};
use crate::pictures::{Budget, Picture};
use nokhwa::Camera;
use nokhwa::pixel_format::RgbFormat;
use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Longest time that opening a camera may take.
const OPENING: Duration = Duration::from_secs(10);

type Delivery = Result<FrameBuffer, NoFrame>;

/// `camera:0?width=640&height=480&fps=30`.
pub(super) struct CameraSource {
    spec: SourceSpec,
    frames: Receiver<Delivery>,
}

fn start(spec: &SourceSpec) -> Result<Camera, SourceError> {
    spec.allow(&["width", "height", "fps"])?;
    let number = spec.path().strip_prefix("/dev/video").unwrap_or(spec.path());
    let index = number.parse().map_err(|_| spec.error("expected camera:N or camera:/dev/videoN"))?;
    let size = Resolution::new(spec.number("width", 640, 16..=8192)?, spec.number("height", 480, 16..=8192)?);
    let fps = spec.number("fps", 30, 1..=1000)?;
    let wanted = CameraFormat::new(size, FrameFormat::YUYV, fps);
    let requested = RequestedFormat::new::<RgbFormat>(RequestedFormatType::Closest(wanted));
    let failed = |e: nokhwa::NokhwaError| {
        spec.error(format!(
            "{e}; is the camera plugged in, free, and the user in the group `video`? CSI cameras need `rpicam:`"
        ))
    };
    let mut camera = Camera::new(CameraIndex::Index(index), requested).map_err(failed)?;
    camera.open_stream().map_err(failed)?;
    Ok(camera)
}

impl CameraSource {
    pub(super) fn open(spec: &SourceSpec) -> Result<Self, SourceError> {
        let (opened, outcome) = sync_channel(1);
        // One frame waits, so that what is taken is at most one frame interval older than the newest.
        let (deliver, frames) = sync_channel(1);
        let own = spec.clone();
        let body = move || match start(&own) {
            Ok(camera) => {
                if opened.send(Ok(())).is_ok() {
                    pump(camera, &deliver);
                }
            }
            Err(e) => drop(opened.send(Err(e))),
        };
        std::thread::Builder::new()
            .name("nokhwa".into())
            .spawn(body)
            .map_err(|e| spec.error(format!("no thread for the camera: {e}")))?;
        outcome
            .recv_timeout(OPENING)
            .map_err(|_| spec.error(format!("the camera did not open in {OPENING:?}; unplug it")))??;
        Ok(Self { spec: spec.clone(), frames })
    }
}

/// Hands frames over until nobody takes them or the camera fails.
fn pump(mut camera: Camera, deliver: &SyncSender<Delivery>) {
    for sequence in 0.. {
        let delivery = camera.frame().map_err(|e| NoFrame::Gone(e.to_string())).and_then(|b| convert(&b, sequence));
        let gone = matches!(delivery, Err(NoFrame::Gone(_)));
        if deliver.send(delivery).is_err() || gone {
            break;
        }
    }
    let _ = camera.stop_stream();
}

fn convert(buffer: &nokhwa::Buffer, sequence: u64) -> Delivery {
    let size = buffer.resolution();
    let colour = Colour { matrix: Matrix::Bt601, range: Range::Limited };
    let frame = |layout, bytes| FrameBuffer { layout, bytes, sequence, stamp: Stamp::Arrival, crossing: None };
    let format = match buffer.source_frame_format() {
        FrameFormat::YUYV => PixelFormat::Yuyv,
        FrameFormat::NV12 => PixelFormat::Nv12,
        FrameFormat::GRAY => PixelFormat::Grey8,
        FrameFormat::RAWRGB => PixelFormat::Rgb8,
        FrameFormat::RAWBGR => PixelFormat::Bgr8,
        FrameFormat::MJPEG => {
            let picture = mjpeg::decode(buffer.buffer()).map_err(|e| NoFrame::Corrupt(e.to_string()))?;
            return Ok(frame(picture.layout(), picture.rgb));
        }
    };
    let layout = Layout::packed(format, colour, size.width(), size.height());
    let needed = layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
    let bytes = buffer.buffer();
    match bytes.get(..needed) {
        Some(bytes) => Ok(frame(layout, bytes.to_vec())),
        None => Err(NoFrame::Truncated { found: bytes.len(), needed }),
    }
}

impl Source for CameraSource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        *frame = self.frames.recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout => NoFrame::Timeout,
            RecvTimeoutError::Disconnected => NoFrame::Gone("the camera's thread ended".into()),
        })??;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        // A camera can be open once: the old thread ends when it finds that nobody takes its frames.
        self.frames = sync_channel(0).1;
        std::thread::sleep(Duration::from_millis(200));
        *self = Self::open(&self.spec)?;
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn allocates(&self) -> bool {
        true
    }
}
