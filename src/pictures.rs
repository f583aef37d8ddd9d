//! Decodes picture files (JPEG, PNG, BMP, WebP) to RGB8 frames; EXIF orientation is applied.
//!
//! Does not resize, crop or normalise: that is preprocessing's.

use crate::frame::{Colour, Layout, MAX_SIDE, PixelFormat};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

/// Why a file is no picture.
#[derive(Debug)]
pub enum PictureError {
    /// It cannot be read.
    Read(std::io::Error),
    /// Its bytes are no picture of a known kind, or a broken one.
    Decode(String),
}

impl std::fmt::Display for PictureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(e) => write!(f, "cannot be read: {e}"),
            Self::Decode(e) => write!(f, "no readable JPEG, PNG, BMP or WebP: {e}"),
        }
    }
}

impl std::error::Error for PictureError {}

impl Picture {
    /// The frame layout of this picture.
    pub fn layout(&self) -> Layout {
        Layout::packed(PixelFormat::Rgb8, Colour::default(), self.width, self.height)
    }

    /// Decodes a file's bytes. The kind is told from the bytes, not the name. Transparency is laid over grey 128.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        let failed = |e: image::ImageError| PictureError::Decode(e.to_string());
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(PictureError::Read)?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(failed)?;
        let orientation = decoder.orientation().map_err(failed)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
        image.apply_orientation(orientation);
        let rgb = if image.color().has_alpha() { over_grey(&image) } else { image.to_rgb8() };
        Ok(Self { width: rgb.width(), height: rgb.height(), rgb: rgb.into_raw() })
    }

    /// Reads and decodes a file.
    pub fn open(path: &Path) -> Result<Self, PictureError> {
        Self::decode(&std::fs::read(path).map_err(PictureError::Read)?)
    }

    /// Writes an RGB8 picture as PNG. `rgb`: `[height, width, 3]`.
    pub fn write_png(path: &Path, width: u32, height: u32, rgb: &[u8]) -> Result<(), String> {
        image::save_buffer_with_format(path, rgb, width, height, image::ColorType::Rgb8, image::ImageFormat::Png)
            .map_err(|e| format!("{} cannot be written: {e}", path.display()))
    }
}

fn over_grey(image: &DynamicImage) -> image::RgbImage {
    let rgba = image.to_rgba8();
    image::RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|v| ((v * a + 128 * (255 - a) + 127) / 255) as u8))
    })
}

/// Endings of files that are taken as pictures.
pub const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// All picture files at `path`: itself if it is a file, else those below it, sorted, so that every machine sees one order.
pub fn list(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if std::fs::metadata(path)?.is_dir() {
        let mut folders = vec![path.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                let path = entry.path();
                let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
                if kind.is_dir() {
                    folders.push(path);
                } else if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) {
                    found.push(path);
                }
            }
        }
        found.sort();
    } else {
        found.push(path.to_path_buf());
    }
    Ok(found)
}
