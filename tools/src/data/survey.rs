//! Facts about each image that need no model: size, light, sharpness, when it was taken, and the
//! small copies by which twins are found.
//!
//! Results are cached by file hash, so that the next command need not decode the images again.

use super::left_out::{Kind, LeftOut};
use super::twins::plane::{self, Plane};
use super::{Dataset, Entry, taken, unread};
use crate::run_folder;
use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use tagpin::bundle::Fit;
use tagpin::frame::FrameView;
use tagpin::pictures::{Budget, Picture};
use tagpin::preprocess::{Preprocessor, Target};

/// Side of the thumbnail that colours are measured on.
const THUMB: u16 = 16;
/// Side of the image that light and sharpness are measured on.
const MEASURED: u16 = 128;

/// What one image looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Columns of the file's image.
    pub width: u32,
    /// Rows of the file's image.
    pub height: u32,
    /// Mean of all channels, 0..=255.
    pub brightness: f32,
    /// Brightest value of any channel at 128x128.
    pub brightest: u8,
    /// Variance of the Laplacian of grey at 128x128: small for blurred images.
    pub sharpness: f32,
    /// When it was taken, by its EXIF data: seconds of the camera's clock.
    pub taken: Option<i64>,
    /// 16x16 RGB.
    pub thumb: Vec<u8>,
    /// 64x64 grey.
    pub grey: Vec<u8>,
}

impl Look {
    /// Its light, for comparison with any image.
    pub fn light(&self) -> Plane {
        Plane::of_light(&self.grey, self.ratio())
    }

    /// Its light, for comparison with images of the same scene.
    pub fn grey(&self) -> Plane {
        Plane::of_grey(&self.grey, self.ratio())
    }

    fn ratio(&self) -> f32 {
        self.width as f32 / self.height.max(1) as f32
    }

    /// Each channel's share of the light, in 4x4 cells; `None` where a cell is too dark to tell.
    pub fn colours(&self) -> [Option<[f32; 3]>; 16] {
        let side = THUMB as usize;
        std::array::from_fn(|cell| {
            let mut channels = [0.0f32; 3];
            for i in 0..side * side / 16 {
                let (x, y) = (cell % 4 * 4 + i % 4, cell / 4 * 4 + i / 4);
                (0..3).for_each(|c| channels[c] += f32::from(self.thumb[(y * side + x) * 3 + c]));
            }
            let all: f32 = channels.iter().sum();
            // 16 pixels of three channels.
            (all > 48.0 * 24.0).then(|| channels.map(|s| s / all))
        })
    }
}

/// What was seen of a dataset's images; files that cannot be read as images are listed apart.
pub struct Survey {
    /// Readable entries.
    pub entries: Vec<Entry>,
    /// `[entries]`.
    pub looks: Vec<Look>,
    /// Files that are no images, with the reason.
    pub skipped: Vec<LeftOut>,
}

/// Name of the cache file. Change it whenever the meaning of [`Look`] changes.
const CACHE: &str = "survey-2.bin";

/// Looks at all images of a dataset.
pub fn survey(dataset: &Dataset) -> Result<Survey> {
    let path = run_folder::cache().join(CACHE);
    let known: HashMap<String, Look> =
        std::fs::read(&path).ok().and_then(|b| postcard::from_bytes(&b).ok()).unwrap_or_default();
    let bar = crate::progress::bar("looking", dataset.entries.len() as u64);
    let looks: Vec<Result<Look, LeftOut>> = dataset
        .entries
        .par_iter()
        .map_init(Looker::new, |looker, e| {
            bar.inc(1);
            if let Some(look) = known.get(&e.sha256) {
                return Ok(look.clone());
            }
            let bytes = tagpin::regular::read(&dataset.file(e), Budget::HOST.0)
                .map_err(|error| LeftOut::new(&e.path, Kind::Unreadable, format!("cannot be read: {error}")))?;
            let look = looker.look(&bytes).map_err(|error| unread::what_it_is(&bytes, &error.to_string()));
            look.map_err(|(kind, why)| LeftOut::new(&e.path, kind, why))
        })
        .collect();
    bar.finish_and_clear();
    let mut survey = Survey { entries: Vec::new(), looks: Vec::new(), skipped: Vec::new() };
    let mut grown = known;
    let before = grown.len();
    for (e, look) in dataset.entries.iter().zip(looks) {
        match look {
            Ok(look) => {
                grown.insert(e.sha256.clone(), look.clone());
                survey.entries.push(e.clone());
                survey.looks.push(look);
            }
            Err(file) => survey.skipped.push(file),
        }
    }
    if grown.len() > before {
        // It is only a cache: if it cannot be written, the next command takes longer.
        let sorted: BTreeMap<_, _> = grown.into_iter().collect();
        let _ = std::fs::create_dir_all(run_folder::cache())
            .map_err(anyhow::Error::from)
            .and_then(|()| run_folder::write_file(&path, &postcard::to_stdvec(&sorted)?));
    }
    Ok(survey)
}

/// Looks at images, one after the other.
pub struct Looker {
    thumb: Preprocessor,
    grey: Preprocessor,
    measured: Preprocessor,
}

impl Looker {
    /// One for a thread.
    pub fn new() -> Self {
        let square = |side| Preprocessor::new(Target { width: side, height: side, fit: Fit::Stretch, roi: None });
        Self { thumb: square(THUMB), grey: square(plane::SIDE as u16), measured: square(MEASURED) }
    }

    /// Looks at a file's bytes.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Look> {
        Ok(Look { taken: taken::taken(bytes), ..self.image(&Picture::decode(bytes, Budget::HOST)?)? })
    }

    /// Looks at a decoded image.
    pub fn image(&mut self, image: &Picture) -> Result<Look> {
        let frame = FrameView::new(image.layout(), &image.rgb)?;
        let thumb = self.thumb.image(&frame)?.to_vec();
        let grey = |p: &[u8]| ((u16::from(p[0]) + u16::from(p[1]) + u16::from(p[2])) / 3) as u8;
        let grey = self.grey.image(&frame)?.chunks_exact(3).map(grey).collect();
        let rgb = self.measured.image(&frame)?;
        let brightest = rgb.iter().copied().max().unwrap_or(0);
        let (brightness, sharpness) = light(rgb, MEASURED as usize);
        let (width, height) = (image.width, image.height);
        Ok(Look { width, height, brightness, brightest, sharpness, taken: None, thumb, grey })
    }
}

/// Mean of all channels, and variance of the Laplacian of grey. `rgb`: `[side, side, 3]`.
pub fn light(rgb: &[u8], side: usize) -> (f32, f32) {
    let grey: Vec<f32> = rgb.chunks_exact(3).map(|p| (p[0] as f32 + p[1] as f32 + p[2] as f32) / 3.0).collect();
    let mean = grey.iter().sum::<f32>() / grey.len() as f32;
    let (mut sum, mut squares, mut n) = (0.0, 0.0, 0.0f64);
    for y in 1..side - 1 {
        for x in 1..side - 1 {
            let at = y * side + x;
            let l = (4.0 * grey[at] - grey[at - 1] - grey[at + 1] - grey[at - side] - grey[at + side]) as f64;
            sum += l;
            squares += l * l;
            n += 1.0;
        }
    }
    (mean, (squares / n - (sum / n).powi(2)) as f32)
}
