//! Turns a frame into the model's image and then into its int8 tensor: integers only, the same bits
//! on every CPU.
//!
//! Stage A: region of interest, fit, antialiased triangle resize, RGB8 at model size. Planes are
//! resized in the source's own colour space and converted to RGB afterwards, at model size. Stage
//! B: one lookup table per channel gives int8.
//!
//! No heap: [`Plan::new`] fills a caller's table of taps for one geometry, [`Plan::run`] uses it
//! for each frame.

mod axis;
mod colour;

use crate::bundle::{Fit, Input};
use crate::frame::{FrameView, Layout, PixelFormat};
use crate::kernels::blend::{self, SLACK};
use axis::{Axis, Taps};

/// A region of a frame in luma pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roi {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl Roi {
    /// Whether frames of this size hold it, and it is not empty.
    pub fn is_held_by(&self, width: u32, height: u32) -> bool {
        let fits = |at: u32, len: u32, side: u32| len > 0 && at.checked_add(len).is_some_and(|end| end <= side);
        fits(self.x, self.width, width) && fits(self.y, self.height, height)
    }
}

/// The image that the model needs from a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Columns of the model's image, 1..=2048.
    pub width: u16,
    /// Rows of the model's image, 1..=2048.
    pub height: u16,
    /// How the region is brought to this size.
    pub fit: Fit,
    /// The region used; the whole frame if absent.
    pub roi: Option<Roi>,
}

impl Target {
    /// The image that a bundle's model needs, from region `roi` or the whole frame.
    pub fn of(input: &Input<'_>, roi: Option<Roi>) -> Self {
        Self { width: input.width, height: input.height, fit: input.fit, roi }
    }
}

/// Why a geometry is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The region of interest is empty or leaves the frame.
    Roi {
        /// The region.
        roi: Roi,
        /// The frame's size.
        frame: (u32, u32),
    },
    /// A side of the target is zero or above 2048.
    Target,
    /// The caller's table of taps is too short.
    Taps {
        /// Entries needed.
        needed: usize,
    },
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Roi { roi: r, frame: (w, h) } => write!(
                f,
                "region of interest x={} y={} {}x{} does not fit into frames of {w}x{h}; change [source.roi]",
                r.x, r.y, r.width, r.height
            ),
            Self::Target => f.write_str("model image: expected 1..=2048 pixels a side"),
            Self::Taps { needed } => write!(f, "table of taps: {needed} entries needed"),
        }
    }
}

impl core::error::Error for PlanError {}

/// Grey that surrounds an image fitted by [`Fit::Pad`].
pub const PAD_GREY: u8 = 128;

/// One geometry: from one frame layout to one model image.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    layout: Layout,
    target: Target,
    /// Where in the model's image the region lands: x, y, width, height.
    inner: [u32; 4],
    axes: [Axis; 4],
    taps_len: usize,
}

/// Indices into the axes of a plan: luma, colour channels.
const LUMA: usize = 0;
const CHROMA: usize = 2;

impl Plan {
    /// Entries of the table of taps that `layout` and `target` need.
    pub fn taps_len(layout: Layout, target: Target) -> Result<usize, PlanError> {
        Ok(Self::geometry(layout, target)?.taps_len)
    }

    /// Length of the scratch that frames of this plan need.
    pub fn scratch_len(&self) -> usize {
        // A blended row as it lies in the frame, the same split by channel, and three rows of the
        // image.
        2 * self.layout.stride as usize + 5 * SLACK + 3 * self.target.width as usize
    }

    /// Plans a geometry and fills `taps` with its filter weights.
    pub fn new(layout: Layout, target: Target, taps: &mut [u16]) -> Result<Self, PlanError> {
        let plan = Self::geometry(layout, target)?;
        let needed = plan.taps_len;
        let mut rest = taps.get_mut(..needed).ok_or(PlanError::Taps { needed })?;
        for axis in plan.axes {
            let (mine, others) = rest.split_at_mut(axis.taps_len());
            axis.fill(mine);
            rest = others;
        }
        Ok(plan)
    }

    fn geometry(layout: Layout, target: Target) -> Result<Self, PlanError> {
        let (frame_w, frame_h) = (layout.width, layout.height);
        let mut roi = target.roi.unwrap_or(Roi { x: 0, y: 0, width: frame_w, height: frame_h });
        if !roi.is_held_by(frame_w, frame_h) {
            return Err(PlanError::Roi { roi, frame: (frame_w, frame_h) });
        }
        let (out_w, out_h) = (target.width as u32, target.height as u32);
        if !(1..=2048).contains(&out_w) || !(1..=2048).contains(&out_h) {
            return Err(PlanError::Target);
        }
        let mut inner = [0, 0, out_w, out_h];
        // Aspect ratios are compared as products: roi is wider than the target if roi.w / roi.h >
        // out_w / out_h.
        let wider = roi.width as u64 * out_h as u64 > roi.height as u64 * out_w as u64;
        match target.fit {
            Fit::Stretch => {}
            Fit::Crop if wider => {
                let width = (roi.height * out_w / out_h).max(1);
                roi = Roi { x: roi.x + (roi.width - width) / 2, width, ..roi };
            }
            Fit::Crop => {
                let height = (roi.width * out_h / out_w).clamp(1, roi.height);
                roi = Roi { y: roi.y + (roi.height - height) / 2, height, ..roi };
            }
            Fit::Pad if wider => {
                let height = (roi.height * out_w / roi.width).max(1);
                inner = [0, (out_h - height) / 2, out_w, height];
            }
            Fit::Pad => {
                let width = (roi.width * out_h / roi.height).clamp(1, out_w);
                inner = [(out_w - width) / 2, 0, width, out_h];
            }
        }
        let (fx, fy) = match layout.format {
            PixelFormat::I420 | PixelFormat::Nv12 => (2, 2),
            PixelFormat::I422 | PixelFormat::Yuyv => (2, 1),
            _ => (1, 1),
        };
        let axes = [
            Axis::new(roi.x, roi.width, inner[2], 1, frame_w),
            Axis::new(roi.y, roi.height, inner[3], 1, frame_h),
            Axis::new(roi.x, roi.width, inner[2], fx, frame_w),
            Axis::new(roi.y, roi.height, inner[3], fy, frame_h),
        ];
        let taps_len = axes.iter().map(Axis::taps_len).sum();
        Ok(Self { layout, target, inner, axes, taps_len })
    }

    /// The layout this plan was made for.
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Stage A: writes the model's image into `rgb`, `[height, width, 3]`.
    ///
    /// `taps`: as filled by [`Plan::new`]. `scratch`: of [`Plan::scratch_len`]. Panics if a length
    /// is off or the frame has another layout than the plan.
    pub fn run(&self, frame: &FrameView<'_>, taps: &[u16], scratch: &mut [u16], rgb: &mut [u8]) {
        assert_eq!(frame.layout(), self.layout, "the plan was made for another layout");
        let (out_w, out_h) = (self.target.width as usize, self.target.height as usize);
        assert_eq!(rgb.len(), out_w * out_h * 3, "the image has another size");
        if self.target.fit == Fit::Pad {
            rgb.fill(PAD_GREY);
        }
        let [x0, y0, w, h] = self.inner.map(|v| v as usize);
        let mut at = 0;
        let t: [Taps<'_>; 4] = self.axes.map(|axis| {
            let mine = Taps::new(axis, &taps[at..at + axis.taps_len()]);
            at += axis.taps_len();
            mine
        });
        let (stride, height) = (self.layout.stride as usize, self.layout.height as usize);
        let (luma, rest) = frame.bytes().split_at(stride * height);
        let half = stride.div_ceil(2);
        let (line, scratch) = scratch[..self.scratch_len()].split_at_mut(stride + 1 + SLACK);
        let (split, rows) = scratch.split_at_mut(scratch.len() - 3 * out_w);
        let (first_row, others) = rows.split_at_mut(out_w);
        let (second_row, third_row) = others.split_at_mut(out_w);
        let (a, b, c) = (&mut first_row[..w], &mut second_row[..w], &mut third_row[..w]);
        for row in 0..h {
            let out = &mut rgb[((y0 + row) * out_w + x0) * 3..][..w * 3];
            // Of a plane whose pixels are `step` bytes, only the columns that are read.
            let vertical = |plane: &[u8], stride: usize, channels: usize, step: usize, line: &mut [u16]| {
                let span = self.axes[channels].span();
                let span = span.start * step..(span.end * step).min(stride);
                axis::blend_rows(&plane[span.start..], stride, &t[channels + 1], row, &mut line[span]);
            };
            match self.layout.format {
                PixelFormat::Rgb8 | PixelFormat::Bgr8 => {
                    vertical(luma, stride, LUMA, 3, line);
                    let [x, y, z] = split_pixels(&line[..stride], split);
                    let (x, z) = if self.layout.format == PixelFormat::Bgr8 { (z, x) } else { (x, z) };
                    for (channel, out) in [(x, &mut *a), (y, &mut *b), (z, &mut *c)] {
                        axis::blend_columns(channel, &t[LUMA], out);
                    }
                    colour::interleave([a, b, c], out);
                    continue;
                }
                PixelFormat::Grey8 => {
                    vertical(luma, stride, LUMA, 1, line);
                    axis::blend_columns(line, &t[LUMA], a);
                    colour::interleave([a, a, a], out);
                    continue;
                }
                PixelFormat::Yuyv => {
                    vertical(luma, stride, CHROMA, 4, line);
                    let [y, u, v] = split_yuyv(&line[..stride], split);
                    axis::blend_columns(y, &t[LUMA], a);
                    axis::blend_columns(u, &t[CHROMA], b);
                    axis::blend_columns(v, &t[CHROMA], c);
                }
                PixelFormat::I420 | PixelFormat::I422 => {
                    vertical(luma, stride, LUMA, 1, line);
                    axis::blend_columns(line, &t[LUMA], a);
                    let rows = if self.layout.format == PixelFormat::I420 { height.div_ceil(2) } else { height };
                    let (u, v) = rest.split_at(half * rows);
                    for (plane, out) in [(u, &mut *b), (v, &mut *c)] {
                        vertical(plane, half, CHROMA, 1, line);
                        axis::blend_columns(line, &t[CHROMA], out);
                    }
                }
                PixelFormat::Nv12 => {
                    vertical(luma, stride, LUMA, 1, line);
                    axis::blend_columns(line, &t[LUMA], a);
                    let stride = stride.next_multiple_of(2);
                    vertical(rest, stride, CHROMA, 2, line);
                    let [u, v] = split_pixels(&line[..stride], split);
                    axis::blend_columns(u, &t[CHROMA], b);
                    axis::blend_columns(v, &t[CHROMA], c);
                }
            }
            colour::yuv_to_rgb([a, b, c], self.layout.colour, out);
        }
    }
}

/// Splits a row of `N` interleaved channels; each comes with the slack that [`axis::blend_columns`]
/// may read.
fn split_pixels<'a, const N: usize>(line: &[u16], split: &'a mut [u16]) -> [&'a [u16]; N] {
    let pixels = line.as_chunks::<N>().0;
    let mut channels = split.chunks_exact_mut(pixels.len() + SLACK);
    let mut channels: [&mut [u16]; N] = core::array::from_fn(|_| channels.next().expect("the scratch's length"));
    for (c, channel) in channels.iter_mut().enumerate() {
        channel.iter_mut().zip(pixels).for_each(|(out, p)| *out = p[c]);
    }
    channels.map(|channel| &*channel)
}

/// Splits a row of Y0 U Y1 V; each channel comes with slack.
fn split_yuyv<'a>(line: &[u16], split: &'a mut [u16]) -> [&'a [u16]; 3] {
    let pairs = line.as_chunks::<4>().0;
    let (luma, chroma) = split.split_at_mut(2 * pairs.len() + SLACK);
    let (u, v) = chroma.split_at_mut(pairs.len() + SLACK);
    blend::split_yuyv(line, luma, u, v);
    [luma, u, v]
}

/// Stage B: looks each byte of `rgb` up in its channel's table.
///
/// `rgb`, `tensor`: `[height, width, 3]`. `tables`: `[3][256]`, i8 in two's complement. Panics if a
/// length is off.
pub fn quantise(rgb: &[u8], tables: &[u8], tensor: &mut [i8]) {
    assert_eq!(rgb.len(), tensor.len(), "image and tensor differ in size");
    let (r, rest) = tables.split_at(256);
    let (g, b) = rest.split_at(256);
    for (p, t) in rgb.chunks_exact(3).zip(tensor.chunks_exact_mut(3)) {
        t[0] = r[p[0] as usize] as i8;
        t[1] = g[p[1] as usize] as i8;
        t[2] = b[p[2] as usize] as i8;
    }
}

#[cfg(feature = "std")]
mod owned;
#[cfg(feature = "std")]
pub use owned::Preprocessor;

#[cfg(all(test, feature = "std"))]
mod tests;
