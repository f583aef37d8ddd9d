//! A camera frame: its bytes, their layout, and when they were exposed. The same type for cameras,
//! files and the simulator.

use crate::time::{Instant, Micros};

/// Longest side of a frame in pixels; anything larger is refused where it enters.
pub const MAX_SIDE: u32 = 8192;

/// How pixels lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// One byte a pixel: luma only.
    Grey8,
    /// Three bytes a pixel: red, green, blue.
    Rgb8,
    /// Three bytes a pixel: blue, green, red.
    Bgr8,
    /// 4:2:2 packed, Y0 U Y1 V; width is even.
    Yuyv,
    /// 4:2:0: plane Y (stride x height), then U and V (stride/2 x height/2 each, rounded up).
    I420,
    /// 4:2:2: plane Y (stride x height), then U and V (stride/2 x height each, stride rounded up).
    I422,
    /// 4:2:0: plane Y (stride x height), then interleaved U V (stride x height/2, rounded up).
    Nv12,
}

/// The YUV to RGB matrix a source states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Matrix {
    /// ITU-R BT.601: standard definition, JPEG, most USB cameras.
    #[default]
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

/// The range of YUV values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Range {
    /// 0..=255 for all three, as in JPEG.
    #[default]
    Full,
    /// 16..=235 for luma, 16..=240 for chroma.
    Limited,
}

/// How a source encodes colour; set by the source, not guessed from pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Colour {
    /// Which primaries weigh how much.
    pub matrix: Matrix,
    /// Which values stand for black and white.
    pub range: Range,
}

/// A hash of a frame's pixels: equal for identical images, and almost certainly different
/// otherwise.
///
/// A sensor's noise changes every frame, so an equal hash means that the camera is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Of every pixel, eight bytes at a time. Padding between rows does not count: it is whatever
    /// the buffer held before.
    pub fn of(view: &FrameView<'_>) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut at = 0;
        for Plane { stride, used, rows } in view.layout.planes() {
            let plane = &view.bytes[at..at + stride * rows];
            at += plane.len();
            if used == stride {
                hash = Self::add(hash, plane);
            } else if used > 0 {
                hash = plane.chunks_exact(stride).fold(hash, |hash, row| Self::add(hash, &row[..used]));
            }
        }
        Self(hash)
    }

    fn add(mut hash: u64, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        for &byte in rest {
            hash = (hash ^ byte as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        hash
    }
}

/// How a frame's time was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedBy {
    /// It is shown when it is wanted, or drawn for that moment.
    Shown,
    /// The driver stamped it: at the start of its exposure, or at its end, which the uncertainty
    /// says.
    Driver,
    /// The sensor's stamp, in metadata that names the frame.
    Metadata,
    /// Its arrival, and the longest way here that the settings state.
    Setting,
    /// Its arrival alone.
    Arrival,
}

impl TimedBy {
    /// All ways.
    pub const ALL: [Self; 5] = [Self::Shown, Self::Driver, Self::Metadata, Self::Setting, Self::Arrival];

    /// The name used in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Driver => "driver",
            Self::Metadata => "metadata",
            Self::Setting => "setting",
            Self::Arrival => "arrival",
        }
    }
}

/// When a frame was taken, and what that statement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapturedAt {
    /// Driver or sensor say when exposure began: at `at`, give or take `uncertainty`.
    Exposure {
        /// The stated moment.
        at: Instant,
        /// By how much it may be wrong.
        uncertainty: Micros,
        /// Who says so.
        by: TimedBy,
    },
    /// It reached this process at `at`; by the settings it was exposed at most `latency` earlier.
    Arrival {
        /// When its first byte was here.
        at: Instant,
        /// Longest time from exposure to arrival.
        latency: Micros,
        /// Who says so; [`TimedBy::Arrival`] where it does not matter.
        by: TimedBy,
    },
    /// The time of exposure is unknown; `at` only orders frames.
    Unknown {
        /// When it was here, or about when it may have been exposed.
        at: Instant,
    },
}

impl CapturedAt {
    /// Earliest start of exposure; `None` if its age is unknown.
    pub const fn exposed_from(self) -> Option<Instant> {
        match self {
            Self::Exposure { at, uncertainty, .. } => Some(at.minus(uncertainty)),
            Self::Arrival { at, latency, .. } => Some(at.minus(latency)),
            Self::Unknown { .. } => None,
        }
    }

    /// Latest start of exposure; `None` if its age is unknown.
    pub const fn exposed_to(self) -> Option<Instant> {
        match self {
            Self::Exposure { at, uncertainty, .. } => Some(at.plus(uncertainty)),
            Self::Arrival { at, .. } => Some(at),
            Self::Unknown { .. } => None,
        }
    }

    /// The stated moment, whatever it is worth.
    pub const fn instant(self) -> Instant {
        match self {
            Self::Exposure { at, .. } | Self::Arrival { at, .. } | Self::Unknown { at } => at,
        }
    }

    /// An arrival, known as well as `latency` allows.
    pub const fn arrived(at: Instant, latency: Option<Micros>) -> Self {
        match latency {
            Some(latency) => Self::Arrival { at, latency, by: TimedBy::Setting },
            None => Self::Unknown { at },
        }
    }

    /// For lines where no trigger from outside could take a frame for another part's: an unknown
    /// age counts as none.
    pub const fn or_arrival(self) -> Self {
        match self {
            Self::Unknown { at } => Self::Arrival { at, latency: Micros(0), by: TimedBy::Arrival },
            known => known,
        }
    }

    /// How it was found.
    pub const fn timed_by(self) -> TimedBy {
        match self {
            Self::Exposure { by, .. } | Self::Arrival { by, .. } => by,
            Self::Unknown { .. } => TimedBy::Arrival,
        }
    }

    /// How long before the stated moment it may have been exposed; `None` if nobody knows.
    pub const fn uncertainty(self) -> Option<Micros> {
        match self {
            Self::Exposure { uncertainty, .. } => Some(uncertainty),
            Self::Arrival { latency, by: TimedBy::Setting, .. } => Some(latency),
            Self::Arrival { .. } | Self::Unknown { .. } => None,
        }
    }
}

/// Size and layout of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How pixels lie in memory.
    pub format: PixelFormat,
    /// How YUV becomes RGB; ignored for RGB and grey.
    pub colour: Colour,
    /// Pixels in a row, 1..=[`MAX_SIDE`].
    pub width: u32,
    /// Rows, 1..=[`MAX_SIDE`].
    pub height: u32,
    /// Bytes from one row of the first plane to the next.
    pub stride: u32,
}

/// Why bytes and layout do not make a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A side is zero, above [`MAX_SIDE`], or odd where the format needs pairs.
    Size {
        /// Stated width.
        width: u32,
        /// Stated height.
        height: u32,
    },
    /// The stride is shorter than a row.
    Stride {
        /// Stated stride.
        found: u32,
        /// Bytes that a row needs.
        needed: u32,
    },
    /// The buffer holds fewer bytes than the layout needs.
    Truncated {
        /// Bytes there.
        found: usize,
        /// Bytes needed.
        needed: usize,
    },
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Size { width, height } => {
                write!(f, "frame size {width}x{height}: expected 1..={MAX_SIDE} a side, even width for packed 4:2:2")
            }
            Self::Stride { found, needed } => write!(f, "frame stride {found}: a row needs {needed} bytes"),
            Self::Truncated { found, needed } => write!(f, "frame of {found} bytes: its layout needs {needed}"),
        }
    }
}

impl core::error::Error for FrameError {}

impl Layout {
    /// A layout without padding between rows.
    pub const fn packed(format: PixelFormat, colour: Colour, width: u32, height: u32) -> Self {
        let stride = match format {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => width.saturating_mul(3),
            PixelFormat::Yuyv => width.saturating_mul(2),
            _ => width,
        };
        Self { format, colour, width, height, stride }
    }

    /// Bytes of a whole frame, or why there cannot be one.
    pub fn byte_len(&self) -> Result<usize, FrameError> {
        let Self { width, height, stride, .. } = *self;
        let odd_pair = self.format == PixelFormat::Yuyv && width % 2 == 1;
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE || odd_pair {
            return Err(FrameError::Size { width, height });
        }
        let needed = Self::packed(self.format, self.colour, width, height).stride;
        if stride < needed || stride > 8 * MAX_SIDE {
            return Err(FrameError::Stride { found: stride, needed });
        }
        Ok(self.planes().iter().map(|plane| plane.stride * plane.rows).sum())
    }

    /// The planes in the order in which they lie in memory; those that the format lacks are empty.
    fn planes(&self) -> [Plane; 3] {
        let [width, height, stride] = [self.width, self.height, self.stride].map(|n| n as usize);
        let used = Self::packed(self.format, self.colour, self.width, self.height).stride as usize;
        let first = Plane { stride, used, rows: height };
        let none = Plane { stride: 0, used: 0, rows: 0 };
        let chroma = |rows| Plane { stride: stride.div_ceil(2), used: width.div_ceil(2), rows };
        match self.format {
            PixelFormat::Grey8 | PixelFormat::Rgb8 | PixelFormat::Bgr8 | PixelFormat::Yuyv => [first, none, none],
            PixelFormat::I420 => [first, chroma(height.div_ceil(2)), chroma(height.div_ceil(2))],
            PixelFormat::I422 => [first, chroma(height), chroma(height)],
            PixelFormat::Nv12 => {
                let [stride, used] = [stride, width].map(|n| n.next_multiple_of(2));
                [first, Plane { stride, used, rows: height.div_ceil(2) }, none]
            }
        }
    }
}

/// Where one plane's rows lie.
#[derive(Clone, Copy)]
struct Plane {
    /// Bytes from one row to the next.
    stride: usize,
    /// Bytes of a row that are pixels.
    used: usize,
    rows: usize,
}

/// A frame whose bytes were checked against its layout.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    layout: Layout,
    bytes: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// Checks `bytes` against `layout`; surplus bytes at the end are ignored.
    pub fn new(layout: Layout, bytes: &'a [u8]) -> Result<Self, FrameError> {
        let needed = layout.byte_len()?;
        let bytes = bytes.get(..needed).ok_or(FrameError::Truncated { found: bytes.len(), needed })?;
        Ok(Self { layout, bytes })
    }

    /// Size and layout.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// All planes, exactly as long as the layout says.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with padding, as of a ring of buffers that hold something else behind each row: a
    /// camera that stood still was never seen to, and 109 parts were sorted on one image.
    #[test]
    fn a_fingerprint_covers_each_pixel_and_no_padding() {
        use PixelFormat::{Bgr8, Grey8, I420, I422, Nv12, Rgb8, Yuyv};
        for format in [Grey8, Rgb8, Bgr8, Yuyv, I420, I422, Nv12] {
            for (width, height, padding) in [(6, 5, 10), (10, 4, 0), (6, 3, 1), (16, 2, 3)] {
                let packed = Layout::packed(format, Colour::default(), width, height);
                let layout = Layout { stride: packed.stride + padding, ..packed };
                let bytes: Vec<u8> = (0..layout.byte_len().unwrap()).map(|n| (n * 31) as u8).collect();
                let print = |bytes: &[u8]| Fingerprint::of(&FrameView::new(layout, bytes).unwrap());
                let counts = |at: &usize| {
                    let mut other = bytes.clone();
                    other[*at] ^= 1;
                    print(&other) != print(&bytes)
                };
                // Every format has as many bytes of pixels, however its rows are padded.
                let pixels = packed.byte_len().unwrap();
                let found = (0..bytes.len()).filter(counts).count();
                assert_eq!(found, pixels, "{format:?} {width}x{height}, {padding} bytes of padding");
            }
        }
    }
}
