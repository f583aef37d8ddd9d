//! `camera:N` or `camera:/dev/videoN`: a camera through nokhwa.
//!
//! Knows no model. nokhwa's stamps are wall clock, its frames are copies and a stalled call cannot be interrupted: frames
//! count from their arrival, and a stall is reported by the line's own deadline.

use super::{FrameBuffer, NoFrame, Pacing, Source, SourceError, SourceSpec, Stamp};
use crate::frame::{Colour, Layout, Matrix, PixelFormat, Range};
use crate::pictures::Picture;
use nokhwa::Camera;
use nokhwa::pixel_format::RgbFormat;
use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution};
use std::time::Duration;

/// `camera:0?width=640&height=480&fps=30`.
pub(super) struct CameraSource {
    spec: SourceSpec,
    camera: Option<Camera>,
    sequence: u64,
}

fn start(spec: &SourceSpec) -> Result<Camera, SourceError> {
    spec.allow(&["width", "height", "fps"])?;
    let index = match spec.path().parse::<u32>() {
        Ok(n) => CameraIndex::Index(n),
        Err(_) if spec.path().is_empty() => return Err(spec.error("expected camera:N")),
        Err(_) => match spec.path().strip_prefix("/dev/video").and_then(|n| n.parse().ok()) {
            Some(n) => CameraIndex::Index(n),
            None => return Err(spec.error("expected camera:N or camera:/dev/videoN")),
        },
    };
    let size = Resolution::new(spec.number("width", 640, 16..=8192)?, spec.number("height", 480, 16..=8192)?);
    let fps = spec.number("fps", 30, 1..=1000)?;
    let wanted = CameraFormat::new(size, FrameFormat::YUYV, fps);
    let requested = RequestedFormat::new::<RgbFormat>(RequestedFormatType::Closest(wanted));
    let failed = |e: nokhwa::NokhwaError| {
        spec.error(format!(
            "{e}; is the camera plugged in, free, and the user in the group `video`? CSI cameras need `rpicam:`"
        ))
    };
    let mut camera = Camera::new(index, requested).map_err(failed)?;
    camera.open_stream().map_err(failed)?;
    Ok(camera)
}

impl CameraSource {
    pub(super) fn open(spec: &SourceSpec) -> Result<Self, SourceError> {
        Ok(Self { spec: spec.clone(), camera: Some(start(spec)?), sequence: 0 })
    }
}

impl Source for CameraSource {
    fn next(&mut self, frame: &mut FrameBuffer, _: Duration) -> Result<(), NoFrame> {
        let Some(camera) = &mut self.camera else { return Err(NoFrame::Gone("it could not be opened again yet".into())) };
        let buffer = camera.frame().map_err(|e| NoFrame::Gone(e.to_string()))?;
        let size = buffer.resolution();
        let colour = Colour { matrix: Matrix::Bt601, range: Range::Limited };
        let format = match buffer.source_frame_format() {
            FrameFormat::YUYV => PixelFormat::Yuyv,
            FrameFormat::NV12 => PixelFormat::Nv12,
            FrameFormat::GRAY => PixelFormat::Grey8,
            FrameFormat::RAWRGB => PixelFormat::Rgb8,
            FrameFormat::RAWBGR => PixelFormat::Bgr8,
            FrameFormat::MJPEG => {
                let picture = Picture::decode(buffer.buffer()).map_err(|e| NoFrame::Corrupt(e.to_string()))?;
                frame.layout = picture.layout();
                frame.bytes = picture.rgb;
                return self.stamped(frame);
            }
        };
        frame.layout = Layout::packed(format, colour, size.width(), size.height());
        let needed = frame.layout.byte_len().map_err(|e| NoFrame::FormatChanged(e.to_string()))?;
        let found = buffer.buffer().len();
        if found < needed {
            return Err(NoFrame::Truncated { found, needed });
        }
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&buffer.buffer()[..needed]);
        self.stamped(frame)
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        self.camera = None;
        self.camera = Some(start(&self.spec)?);
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn allocates(&self) -> bool {
        true
    }
}

impl CameraSource {
    fn stamped(&mut self, frame: &mut FrameBuffer) -> Result<(), NoFrame> {
        frame.sequence = self.sequence;
        frame.stamp = Stamp::Arrival;
        frame.crossing = None;
        self.sequence += 1;
        Ok(())
    }
}
