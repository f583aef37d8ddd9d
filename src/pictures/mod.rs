//! Decodes images (JPEG, PNG, BMP, WebP) to RGB8. Incomplete images are refused, and so are images
//! that need more memory than the budget.
//!
//! Files, cameras that send JPEG, and the tools all use it. Size and memory are checked from the
//! header before anything is allocated. Completeness is checked by [`jpeg`], [`png`] and [`webp`],
//! because decoders silently fill what is missing. EXIF orientation is applied.
//! Nothing is resized, cropped or normalised: that is preprocessing's.

mod files;
mod jpeg;
mod png;
mod tag_folder;
mod webp;

pub use files::{ENDINGS, LeftOut, Listing, list};
pub use tag_folder::{folder_tag, tag_folder};

use crate::frame::{Colour, Layout, MAX_SIDE, PixelFormat};
use crate::regular::Unread;
use image::metadata::Orientation;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::{Cursor, Write};
use std::path::Path;

/// The most memory that decoding one image may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u64);

impl Budget {
    /// Fits a board of 512 MB beside a model and the frames in flight: 12 megapixels of any kind,
    /// 33 of plain JPEG.
    pub const DEVICE: Self = Self::megabytes(96);
    /// For the machine that trains.
    pub const HOST: Self = Self::megabytes(1024);

    /// `n` times 2^20 bytes.
    pub const fn megabytes(n: u64) -> Self {
        Self(n << 20)
    }

    fn allow(self, width: u32, height: u32, needed: u64) -> Result<(), PictureError> {
        if width > MAX_SIDE || height > MAX_SIDE || needed > self.0 {
            return Err(PictureError::TooLarge { width, height, needed, budget: self });
        }
        Ok(())
    }
}

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
        /// Bytes that decoding takes.
        needed: u64,
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
    /// The bytes are not an image of a known kind, or the image is incomplete.
    Damaged(String),
}

impl std::fmt::Display for PictureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        match self {
            Self::Read(Unread::Io(e)) => write!(f, "cannot be read: {e}"),
            Self::Read(unread) => unread.fmt(f),
            Self::TooLarge { width, height, .. } if *width > MAX_SIDE || *height > MAX_SIDE => {
                write!(f, "is {width}x{height}, at most {MAX_SIDE} a side; make it smaller")
            }
            Self::TooLarge { width, height, needed, budget } => write!(
                f,
                "is {width}x{height} and takes {} MB to decode, at most {} MB; make it smaller, or raise picture_mb",
                mb(*needed),
                mb(budget.0)
            ),
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
        Self::decode(&crate::regular::read(path, budget.0).map_err(PictureError::Read)?, budget)
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

    fn turned(self, orientation: Orientation) -> Self {
        if orientation == Orientation::NoTransforms {
            return self;
        }
        let image = image::RgbImage::from_raw(self.width, self.height, self.rgb).expect("an image has all its bytes");
        let mut image = DynamicImage::ImageRgb8(image);
        image.apply_orientation(orientation);
        Self { width: image.width(), height: image.height(), rgb: image.into_bytes() }
    }
}

/// Whether turning needs a second image.
fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// `turns`: whether the orientation that it states is applied.
fn decode_jpeg(bytes: &[u8], budget: Budget, turns: bool) -> Result<Picture, PictureError> {
    let header = jpeg::header(bytes)?;
    let (width, height) = (header.width, header.height);
    budget.allow(width, height, header.memory())?;
    let jpeg::Decoded { rgb, exif } = jpeg::decode(bytes, &header)?;
    let stated = exif.filter(|_| turns).and_then(Orientation::from_exif_chunk);
    let orientation = stated.unwrap_or(Orientation::NoTransforms);
    if swaps_sides(orientation) {
        budget.allow(width, height, 6 * width as u64 * height as u64)?;
    }
    Ok(Picture { width, height, rgb }.turned(orientation))
}

fn decode_other(bytes: &[u8], budget: Budget) -> Result<Picture, PictureError> {
    let failed = |e: image::ImageError| PictureError::Damaged(e.to_string());
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| PictureError::Read(Unread::Io(e)))?;
    // What the decoder holds besides the image that it gives.
    let mut beside = 0;
    match reader.format() {
        Some(ImageFormat::Png) => {
            png::whole(bytes).map_err(PictureError::Damaged)?;
            if let Some([width, height]) = png::stated_size(bytes) {
                budget.allow(width, height, 3 * width as u64 * height as u64)?;
            }
        }
        Some(ImageFormat::WebP) => {
            let stated = webp::stated(bytes).map_err(PictureError::Damaged)?;
            budget.allow(stated.width, stated.height, 3 * stated.width as u64 * stated.height as u64)?;
            beside = stated.beside(budget.0).map_err(PictureError::Damaged)?;
        }
        _ => {}
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(budget.0);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let orientation = decoder.orientation().map_err(failed)?;
    let ((width, height), colour) = (decoder.dimensions(), decoder.color_type());
    let pixels = width as u64 * height as u64;
    let decoded = pixels * colour.bytes_per_pixel() as u64;
    let converted = if colour == image::ColorType::Rgb8 { 0 } else { 3 * pixels };
    let turned = if swaps_sides(orientation) { 6 * pixels } else { 0 };
    budget.allow(width, height, (decoded + beside).max(decoded + converted).max(turned))?;
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let rgb = if image.color().has_alpha() { over_grey(&image) } else { image.into_rgb8() };
    Ok(Picture { width, height, rgb: rgb.into_raw() }.turned(orientation))
}

fn over_grey(image: &DynamicImage) -> image::RgbImage {
    image::RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, a] = image.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|v| ((v * a + 128 * (255 - a) + 127) / 255) as u8))
    })
}

#[cfg(test)]
mod tests;
