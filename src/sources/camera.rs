//! `camera:N` or `camera:/dev/videoN`: a camera that nokhwa finds and whose format it chooses.
//!
//! nokhwa lists cameras and what they offer, and picks the format that is closest to what is asked
//! for, YUYV before NV12 before MJPEG, or the one of `format=`. Its frames carry neither the bytes
//! that the driver filled nor the bytes of a row, and its waits cannot be interrupted; so the
//! stream itself is that of [`super::v4l2`], and all that is said of its time, colour and recovery
//! holds here too.

use super::v4l2::{V4l2Source, Wanted};
use super::{Automatic, CameraInfo, FrameBuffer, Limits, NoFrame, Pacing, Source, SourceError, SourceSpec};
use crate::frame::TimedBy;
use crate::time::{Clock, Micros};
use nokhwa::Camera;
use nokhwa::utils::{ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `camera:0?width=640&height=480&fps=30`, and all options of `v4l2:`.
pub(super) struct CameraSource {
    stream: V4l2Source,
}

/// Formats in the order in which they are asked for.
const FORMATS: [(FrameFormat, [u8; 4]); 3] =
    [(FrameFormat::YUYV, *b"YUYV"), (FrameFormat::NV12, *b"NV12"), (FrameFormat::MJPEG, *b"MJPG")];

impl CameraSource {
    pub(super) fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>, limits: Limits) -> Result<Self, SourceError> {
        let wanted = Wanted::read(spec)?;
        let number = spec.path().strip_prefix("/dev/video").unwrap_or(spec.path());
        let index: u32 = number.parse().map_err(|_| spec.error("expected camera:N or camera:/dev/videoN"))?;
        if wanted.format == Some(*b"YU12") {
            return Err(spec.error("format=YU12 is read by `v4l2:` only, expected one of YUYV, NV12, MJPG"));
        }
        let mut refused = String::new();
        for (format, code) in FORMATS.into_iter().filter(|(_, code)| wanted.format.is_none_or(|only| only == *code)) {
            let closest = CameraFormat::new(Resolution::new(wanted.width, wanted.height), format, wanted.fps);
            let only = [format];
            let requested = RequestedFormat::with_formats(RequestedFormatType::Closest(closest), &only);
            match Camera::new(CameraIndex::Index(index), requested) {
                Ok(camera) => {
                    let got = camera.camera_format();
                    // Its hold on the device must end before the stream is opened.
                    drop(camera);
                    let wanted = Wanted {
                        width: got.resolution().width(),
                        height: got.resolution().height(),
                        fps: got.frame_rate().max(1),
                        format: Some(code),
                    };
                    let path = PathBuf::from(format!("/dev/video{index}"));
                    return Ok(Self { stream: V4l2Source::open_as(spec, &path, wanted, clock, limits)? });
                }
                Err(e) => refused = e.to_string(),
            }
        }
        Err(spec.error(format!(
            "{refused}; is the camera plugged in, free, and the user in the group `video`? `tagpin cameras` lists sizes and \
             rates; CSI cameras need `rpicam:`"
        )))
    }
}

/// The cameras of this machine: name, path, and what each offers.
pub(super) fn list() -> Result<Vec<CameraInfo>, String> {
    let cameras = nokhwa::query(ApiBackend::Video4Linux).map_err(|e| e.to_string())?;
    let describe = |info: &nokhwa::utils::CameraInfo| {
        let path = format!("/dev/video{}", info.index());
        let facts = super::v4l2::describe(Path::new(&path)).unwrap_or_else(|e| vec![format!("cannot be opened: {e}")]);
        CameraInfo { name: info.human_name(), path, facts }
    };
    Ok(cameras.iter().map(describe).collect())
}

impl Source for CameraSource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        self.stream.next(frame, timeout)
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        self.stream.reopen()
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn timed_by(&self) -> TimedBy {
        self.stream.timed_by()
    }

    fn start(&self) -> Option<Micros> {
        self.stream.start()
    }

    fn automatics(&self) -> Vec<Automatic> {
        self.stream.automatics()
    }

    fn interval(&self) -> Micros {
        self.stream.interval()
    }

    fn allocates(&self) -> bool {
        self.stream.allocates()
    }
}
