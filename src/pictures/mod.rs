//! Decodes images (JPEG, PNG, BMP, WebP) to RGB8. Incomplete images are refused, and so are images
//! that need more memory than the budget.
//!
//! Files, cameras that send JPEG, and the tools all use it. Size and memory, the file's own bytes
//! among it, are checked from the header before anything is allocated ([`budget`]). Completeness is
//! checked by [`jpeg`], [`png`] and [`webp`], because decoders silently fill what is missing. EXIF
//! orientation is applied. Nothing is resized, cropped or normalised: that is preprocessing's.

mod budget;
mod files;
mod jpeg;
mod png;
mod rgb8;
mod tag_folder;
mod webp;

pub use budget::Budget;
pub use files::{ENDINGS, LeftOut, Listing, list};
pub use tag_folder::{folder_tag, tag_folder};

use crate::frame::{Colour, Layout, MAX_SIDE, PixelFormat};
use crate::regular::Unread;
use budget::NoMemory;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::{Cursor, Write};
use std::path::Path;

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

/// Why a file cannot be decoded.
#[derive(Debug)]
pub enum PictureError {
    /// It is no regular file, larger than decoding may take, or the system refuses it.
    Read(Unread),
    /// A side is longer than [`MAX_SIDE`], or decoding takes too much memory.
    TooLarge {
        /// Columns that its header states.
        width: u32,
        /// Rows that its header states.
        height: u32,
        /// Bytes that decoding takes, with those of its file.
        needed: u64,
        /// Bytes of its file.
        file: u64,
        /// Bytes that it may take.
        budget: Budget,
    },
    /// A camera sent a frame of another size than was agreed.
    OtherSize {
        /// What the frame's header states.
        found: [u32; 2],
        /// What was agreed with the camera.
        expected: [u32; 2],
    },
    /// The system does not have this many bytes of memory, though they are within the budget.
    NoMemory(u64),
    /// The bytes are not an image of a known kind, or the image is incomplete.
    Damaged(String),
}

impl std::fmt::Display for PictureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        match self {
            Self::Read(Unread::Io(e)) => write!(f, "cannot be read: {e}"),
            Self::Read(Unread::TooLarge { bytes, limit }) => write!(
                f,
                "is a file of {} MB, at most {} MB: it stays in memory while it is decoded; make it smaller, or raise picture_mb",
                mb(*bytes),
                mb(*limit)
            ),
            Self::Read(unread) => unread.fmt(f),
            Self::TooLarge { width, height, .. } if *width > MAX_SIDE || *height > MAX_SIDE => {
                write!(f, "is {width}x{height}, at most {MAX_SIDE} a side; make it smaller")
            }
            Self::TooLarge { width, height, needed, file, budget } => write!(
                f,
                "is {width}x{height} and takes {} MB to decode, {} of them for its file, at most {} MB; make it smaller, or \
                 raise picture_mb",
                mb(*needed),
                mb(*file),
                mb(budget.0)
            ),
            Self::NoMemory(bytes) => {
                write!(f, "takes {} MB that the system does not have; make it smaller, or lower picture_mb", mb(*bytes))
            }
            Self::OtherSize { found: [w, h], expected: [ew, eh] } => {
                write!(f, "frame of {w}x{h}, the camera was set to {ew}x{eh}")
            }
            Self::Damaged(e) => write!(f, "no readable JPEG, PNG, BMP or WebP: {e}"),
        }
    }
}

impl std::error::Error for PictureError {}

impl From<jpeg::Damage> for PictureError {
    fn from(damage: jpeg::Damage) -> Self {
        Self::Damaged(damage.to_string())
    }
}

impl From<NoMemory> for PictureError {
    fn from(NoMemory(bytes): NoMemory) -> Self {
        Self::NoMemory(bytes)
    }
}

impl Picture {
    /// The frame layout of this image.
    pub fn layout(&self) -> Layout {
        Layout::packed(PixelFormat::Rgb8, Colour::default(), self.width, self.height)
    }

    /// Decodes a file's bytes. The kind is told from the bytes, not the name. Transparency is laid
    /// over grey 128.
    pub fn decode(bytes: &[u8], budget: Budget) -> Result<Self, PictureError> {
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) { decode_jpeg(bytes, budget, true) } else { decode_other(bytes, budget) }
    }

    /// Decodes one frame of motion JPEG, which must be as large as the camera was set to. It is
    /// taken as it lies: a camera that writes an orientation beside it would change the size that
    /// was agreed.
    pub fn decode_frame(bytes: &[u8], expected: [u32; 2], budget: Budget) -> Result<Self, PictureError> {
        let header = jpeg::header(bytes)?;
        let found = [header.width, header.height];
        if found != expected {
            return Err(PictureError::OtherSize { found, expected });
        }
        decode_jpeg(bytes, budget, false)
    }

    /// Reads and decodes a regular file.
    pub fn open(path: &Path, budget: Budget) -> Result<Self, PictureError> {
        Self::decode(&budget.read(path)?, budget)
    }

    /// Writes an RGB8 image as PNG. `rgb`: `[height, width, 3]`.
    pub fn write_png(path: &Path, width: u32, height: u32, rgb: &[u8]) -> Result<(), String> {
        image::save_buffer_with_format(path, rgb, width, height, image::ColorType::Rgb8, ImageFormat::Png)
            .map_err(|e| format!("{} cannot be written: {e}", path.display()))
    }

    /// The same where nothing has that name yet.
    pub fn create_png(path: &Path, width: u32, height: u32, rgb: &[u8]) -> Result<(), String> {
        let mut png = Cursor::new(Vec::new());
        let encoded =
            image::write_buffer_with_format(&mut png, rgb, width, height, image::ColorType::Rgb8, ImageFormat::Png);
        encoded.map_err(|e| e.to_string())?;
        let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(png.get_ref()));
        written.map_err(|e| format!("{} cannot be written: {e}", path.display()))
    }

    /// An RGB8 image as a JPEG file. `rgb`: `[height, width, 3]`, `quality`: 1..=100.
    pub fn to_jpeg(width: u32, height: u32, rgb: &[u8], quality: u8) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode(rgb, width, height, image::ExtendedColorType::Rgb8)
            .map_err(|e| e.to_string())?;
        Ok(bytes)
    }
}

/// `turns`: whether the orientation that it states is applied.
fn decode_jpeg(bytes: &[u8], budget: Budget, turns: bool) -> Result<Picture, PictureError> {
    let header = jpeg::header(bytes)?;
    let (width, height) = (header.width, header.height);
    budget.allow([width, height], bytes.len(), header.memory())?;
    let jpeg::Decoded { rgb, exif } = jpeg::decode(bytes, &header)?;
    let orientation = orientation(exif.filter(|_| turns));
    if rgb8::swaps_sides(orientation) {
        budget.allow([width, height], bytes.len(), 6 * width as u64 * height as u64)?;
    }
    Ok(Picture { width, height, rgb }.turned(orientation)?)
}

/// How an image lies. `exif`: a TIFF file.
fn orientation(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

fn decode_other(bytes: &[u8], budget: Budget) -> Result<Picture, PictureError> {
    let pixels = |[width, height]: [u32; 2]| width as u64 * height as u64;
    match image::guess_format(bytes).map_err(refused)? {
        ImageFormat::Png => {
            let exif = png::whole(bytes).map_err(PictureError::Damaged)?;
            if let Some(size) = png::stated_size(bytes) {
                budget.allow(size, bytes.len(), 3 * pixels(size))?;
            }
            let decoder = PngDecoder::with_limits(png::Pixels::of(bytes), Limits::no_limits()).map_err(refused)?;
            decode_by(decoder, bytes.len(), 0, orientation(exif), budget)
        }
        ImageFormat::WebP => {
            let stated = webp::stated(bytes).map_err(PictureError::Damaged)?;
            budget.allow(stated.size, bytes.len(), 3 * pixels(stated.size))?;
            let beside = stated.beside(budget.0).map_err(PictureError::Damaged)?;
            budget.allow(stated.size, bytes.len(), 3 * pixels(stated.size) + beside)?;
            budget::ask(3 * pixels(stated.size) + beside)?;
            stated.reaches_its_end()?;
            let read = std::cell::Cell::new(0);
            let decoder = WebPDecoder::new(webp::Watched::new([bytes, &[], &[]], &read)).map_err(refused)?;
            let decoded = decode_by(decoder, bytes.len(), beside, orientation(stated.exif), budget)?;
            stated.is_read(read.get()).map_err(PictureError::Damaged)?;
            Ok(decoded)
        }
        other => {
            let decoder = ImageReader::with_format(Cursor::new(bytes), other).into_decoder().map_err(refused)?;
            decode_by(decoder, bytes.len(), 0, Orientation::NoTransforms, budget)
        }
    }
}

fn refused(e: image::ImageError) -> PictureError {
    PictureError::Damaged(e.to_string())
}

/// Decodes by a crate. `file`: bytes of the file; `beside`: what the decoder holds besides the
/// image that it gives.
fn decode_by(
    decoder: impl ImageDecoder,
    file: usize,
    beside: u64,
    orientation: Orientation,
    budget: Budget,
) -> Result<Picture, PictureError> {
    let ((width, height), colour) = (decoder.dimensions(), decoder.color_type());
    let pixels = width as u64 * height as u64;
    let decoded = pixels * colour.bytes_per_pixel() as u64;
    // Colours change in place, in a vector that has room for what is more.
    let held = decoded.max(3 * pixels);
    let turned = if rgb8::swaps_sides(orientation) { 6 * pixels } else { 0 };
    let needed = (held + beside).max(turned);
    budget.allow([width, height], file, needed)?;
    budget::ask(needed)?;
    let mut rgb = budget::room(held as usize)?;
    rgb.resize(decoded as usize, 0);
    decoder.read_image(&mut rgb).map_err(refused)?;
    rgb8::to_rgb8(&mut rgb, pixels as usize, colour)
        .ok_or_else(|| PictureError::Damaged(format!("its colours are {colour:?}; save it with 8 or 16 bits")))?;
    Ok(Picture { width, height, rgb }.turned(orientation)?)
}

#[cfg(test)]
mod tests;
