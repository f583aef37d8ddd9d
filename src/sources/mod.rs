//! Where frames come from: the built-in conveyor, folders, Y4M, the Pi's camera program, V4L2,
//! nokhwa, and a wrapper that adds faults.
//!
//! [`open`] parses one string ([`SourceSpec`]) and gives the [`Source`] that it names; the sources
//! themselves are private.

#[cfg(feature = "camera")]
mod camera;
mod conveyor;
mod directory;
mod faulty;
pub mod life;
mod pipe;
mod rpicam;
mod spec;
#[cfg(feature = "camera")]
mod v4l2;
mod y4m;

use crate::fault::Reason;
use crate::frame::{CapturedAt, Colour, FrameError, FrameView, Layout, PixelFormat, TimedBy};
use crate::pictures::Budget;
use crate::scene::Crossing;
use crate::time::{Clock, Instant, Micros};
pub use pipe::look_every;
pub use spec::{SourceError, SourceSpec};
use std::sync::Arc;
use std::time::Duration;

/// A frame's memory, used again and again.
#[derive(Clone, Debug)]
pub struct FrameBuffer {
    /// Size and layout of what `bytes` holds.
    pub layout: Layout,
    /// The frame's bytes.
    pub bytes: Vec<u8>,
    /// Number given by the source; gaps are lost frames.
    pub sequence: u64,
    /// When it was taken, as far as its source knows.
    pub captured_at: CapturedAt,
    /// The last part that crossed the simulated light barrier before this frame, if the source has
    /// one.
    pub crossing: Option<Crossing>,
}

impl FrameBuffer {
    /// Memory that holds nothing yet.
    pub fn empty() -> Self {
        let layout = Layout::packed(PixelFormat::Rgb8, Colour::default(), 1, 1);
        Self {
            layout,
            bytes: Vec::new(),
            sequence: 0,
            captured_at: CapturedAt::Unknown { at: Instant::default() },
            crossing: None,
        }
    }

    /// The frame, checked against its layout.
    pub fn view(&self) -> Result<FrameView<'_>, FrameError> {
        FrameView::new(self.layout, &self.bytes)
    }
}

/// Why there is no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoFrame {
    /// No frame came in time.
    Timeout,
    /// The frame is incomplete.
    Truncated {
        /// Bytes that came.
        found: usize,
        /// Bytes of a whole frame.
        needed: usize,
    },
    /// Its bytes are no image, or the driver flagged it as damaged.
    Corrupt(String),
    /// Size or format changed while running.
    FormatChanged(String),
    /// The source is gone; it must be reopened.
    Gone(String),
    /// There are no more frames, as there should be.
    End,
}

impl NoFrame {
    /// Why the line is safe, unless the source simply ended.
    pub fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Timeout => Reason::NoFrame,
            Self::Truncated { .. } => Reason::Truncated,
            Self::Corrupt(_) => Reason::Corrupt,
            Self::FormatChanged(_) => Reason::FormatChanged,
            Self::Gone(_) => Reason::SourceGone,
            Self::End => return None,
        })
    }
}

impl std::fmt::Display for NoFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("no frame came in time"),
            Self::Truncated { found, needed } => write!(f, "frame broke off after {found} of {needed} bytes"),
            Self::Corrupt(why) => write!(f, "damaged frame: {why}"),
            Self::FormatChanged(what) => write!(f, "format changed: {what}"),
            Self::Gone(why) => write!(f, "source gone: {why}"),
            Self::End => f.write_str("no more frames"),
        }
    }
}

/// Whether frames come by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// Frames arrive on their own, and the newest wins.
    Live,
    /// Frames wait until they are asked for, and none is skipped.
    Pulled,
}

/// A setting that a camera may choose on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Automatic {
    /// How long it exposes.
    Exposure,
    /// How much red and blue count.
    WhiteBalance,
}

impl Automatic {
    /// The name used in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exposure => "exposure",
            Self::WhiteBalance => "white_balance",
        }
    }

    /// What it does to parts, and what to state instead.
    pub const fn mend(self) -> &'static str {
        match self {
            Self::Exposure => {
                "the camera sets its exposure by itself: parts on a moving belt blur, and scores shift with the light; state \
                 exposure_us= in the source"
            }
            Self::WhiteBalance => {
                "the camera sets its white balance by itself: scores shift with the colour of what is in view; state \
                 white_balance= in the source"
            }
        }
    }
}

/// Gives `bytes` the length of a frame. The system may have no memory for it.
fn make_room(bytes: &mut Vec<u8>, needed: usize) -> Result<(), NoFrame> {
    bytes.try_reserve_exact(needed.saturating_sub(bytes.len())).map_err(|_| {
        NoFrame::Gone(format!("there is no memory for a frame of {} MB; state smaller frames", needed >> 20))
    })?;
    bytes.resize(needed, 0);
    Ok(())
}

/// A source of frames.
pub trait Source: Send {
    /// Fills `frame` with the next frame, waiting at most `timeout` where the source can.
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame>;
    /// Closes and opens again after a fault.
    fn reopen(&mut self) -> Result<(), SourceError>;
    /// Remarks for people on how it was opened.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether frames come by themselves.
    fn pacing(&self) -> Pacing;
    /// Whether frames carry crossings of a light barrier.
    fn has_barrier(&self) -> bool {
        false
    }
    /// From a part's crossing of that barrier until half of it has left the view, where the source
    /// knows it.
    fn in_view(&self) -> Option<Micros> {
        None
    }
    /// How the exposure time of its frames is found; a single frame's may be less certain.
    fn timed_by(&self) -> TimedBy {
        TimedBy::Arrival
    }
    /// How long its first frame took, if that came while it was opened.
    fn start(&self) -> Option<Micros> {
        None
    }
    /// Settings that the camera chooses on its own, because the source string does not.
    fn automatics(&self) -> Vec<Automatic> {
        Vec::new()
    }
    /// How its frames lie in memory, where that is known before the first.
    fn layout(&self) -> Option<Layout> {
        None
    }
    /// From one frame to the next as the source states it; 0 if it does not.
    fn interval(&self) -> Micros {
        Micros(0)
    }
    /// Whether it must be opened again before it can give a whole frame: it has lost where frames
    /// begin.
    fn is_broken(&self) -> bool {
        false
    }
    /// What the program behind it said last, in its own words, if it said anything.
    fn last_words(&self) -> Option<String> {
        None
    }
    /// The fault in words, with the program's last words if the fault alone does not explain it.
    fn explain(&self, fault: &NoFrame) -> String {
        match self.last_words().filter(|_| matches!(fault, NoFrame::Timeout | NoFrame::Truncated { .. })) {
            Some(words) => format!("{fault}; the last that the camera program said: {words}"),
            None => fault.to_string(),
        }
    }
    /// The files that frames are read from, indexed by sequence number, if it reads files.
    fn files(&self) -> Option<Arc<[std::path::PathBuf]>> {
        None
    }
    /// Whether [`Source::next`] may allocate in steady state (image decoding, nokhwa).
    fn allocates(&self) -> bool {
        false
    }
}

/// Limits that a source must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most memory that decoding one image may take.
    pub picture: Budget,
    /// Longest time from opening to the first frame.
    pub first_frame: Duration,
    /// Longest time from exposure to arrival, if the settings state it.
    pub latency: Option<Micros>,
    /// Whether frames of unknown age are useless.
    pub needs_time: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { picture: Budget::DEVICE, first_frame: Duration::from_secs(10), latency: None, needs_time: false }
    }
}

/// A camera of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraInfo {
    /// What it calls itself.
    pub name: String,
    /// Its device.
    pub path: String,
    /// Formats with sizes and rates, then controls, for people.
    pub facts: Vec<String>,
}

/// The cameras that `camera:` and `v4l2:` can open, or why none can be listed.
pub fn cameras() -> Result<Vec<CameraInfo>, String> {
    #[cfg(feature = "camera")]
    return camera::list();
    #[cfg(not(feature = "camera"))]
    Err("this build has no cameras; rebuild with `cargo device`".into())
}

/// Opens the source that `spec` names.
pub fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>, limits: Limits) -> Result<Box<dyn Source>, SourceError> {
    Ok(match spec.scheme() {
        "conveyor" => Box::new(conveyor::ConveyorSource::open(spec, clock)?),
        "dir" => Box::new(directory::DirectorySource::open(spec, clock, limits.picture)?),
        "y4m" => Box::new(y4m::Y4mSource::open(spec, clock, limits)?),
        "rpicam" => Box::new(rpicam::RpicamSource::open(spec, clock, limits)?),
        "faulty" => Box::new(faulty::FaultySource::open(spec, clock, limits)?),
        #[cfg(feature = "camera")]
        "v4l2" => Box::new(v4l2::V4l2Source::open(spec, clock, limits)?),
        #[cfg(feature = "camera")]
        "camera" => Box::new(camera::CameraSource::open(spec, clock, limits)?),
        #[cfg(not(feature = "camera"))]
        scheme @ ("v4l2" | "camera") => {
            return Err(spec.error(format!(
                "this build has no cameras; rebuild with `cargo device` for `{scheme}:`, or use `rpicam:`, `y4m:` or `dir:`"
            )));
        }
        other => {
            return Err(spec.error(format!(
                "unknown source \"{other}\"; expected conveyor, dir:, y4m:, rpicam:, camera:, v4l2: or faulty(...)"
            )));
        }
    })
}
