//! What can be told of a picture without a model: size, light, sharpness, and marks by which duplicates are found.
//!
//! Does not know tags. Results are kept by file hash, so that a second command need not decode again.

use super::{Dataset, Entry};
use crate::run_folder;
use anyhow::Result;
use image_hasher::{HashAlg, Hasher, HasherConfig};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use tagpin::bundle::Fit;
use tagpin::frame::FrameView;
use tagpin::pictures::{Budget, Picture};
use tagpin::preprocess::{Preprocessor, Target};

/// Side of the thumbnail that settles whether two pictures are alike.
const THUMB: u16 = 16;
/// Side of the picture that light and sharpness are measured on.
const MEASURED: u16 = 128;

/// What one picture looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Columns of the file's picture.
    pub width: u32,
    /// Rows of the file's picture.
    pub height: u32,
    /// Mean of all channels, 0..=255.
    pub brightness: f32,
    /// Variance of the Laplacian of grey at 128x128: small for blurred pictures.
    pub sharpness: f32,
    /// 64-bit gradient hash.
    pub hash: u64,
    /// 16x16 RGB.
    pub thumb: Vec<u8>,
}

/// What of each entry; files that are no readable pictures are left out and listed.
pub struct Survey {
    /// Readable entries.
    pub entries: Vec<Entry>,
    /// `[entries]`.
    pub looks: Vec<Look>,
    /// Files that are no pictures, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Format of the cache; changed with the meaning of [`Look`].
const CACHE: &str = "survey-2.bin";

/// Looks at all pictures of a dataset.
pub fn survey(dataset: &Dataset) -> Result<Survey> {
    let path = run_folder::cache().join(CACHE);
    let known: HashMap<String, Look> =
        std::fs::read(&path).ok().and_then(|b| postcard::from_bytes(&b).ok()).unwrap_or_default();
    let bar = crate::progress::bar("looking", dataset.entries.len() as u64);
    let looks: Vec<Result<Look, String>> = dataset
        .entries
        .par_iter()
        .map_init(Looker::new, |looker, e| {
            bar.inc(1);
            match known.get(&e.sha256) {
                Some(look) => Ok(look.clone()),
                None => tagpin::pictures::read(&dataset.file(e), Budget::HOST.0)
                    .map_err(anyhow::Error::from)
                    .and_then(|bytes| looker.look(&bytes))
                    .map_err(|e| e.to_string()),
            }
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
            Err(why) => survey.skipped.push((e.path.clone(), why)),
        }
    }
    if grown.len() > before {
        // Only a cache: a folder that cannot be written costs time, not results.
        let sorted: BTreeMap<_, _> = grown.into_iter().collect();
        let _ = std::fs::create_dir_all(run_folder::cache())
            .map_err(anyhow::Error::from)
            .and_then(|()| run_folder::write_file(&path, &postcard::to_stdvec(&sorted)?));
    }
    Ok(survey)
}

struct Looker {
    thumb: Preprocessor,
    measured: Preprocessor,
    hasher: Hasher<[u8; 8]>,
}

impl Looker {
    fn new() -> Self {
        let square = |side| Preprocessor::new(Target { width: side, height: side, fit: Fit::Stretch, roi: None });
        let hasher = HasherConfig::with_bytes_type::<[u8; 8]>().hash_alg(HashAlg::Gradient).hash_size(8, 8).to_hasher();
        Self { thumb: square(THUMB), measured: square(MEASURED), hasher }
    }

    fn look(&mut self, bytes: &[u8]) -> Result<Look> {
        let picture = Picture::decode(bytes, Budget::HOST)?;
        let frame = FrameView::new(picture.layout(), &picture.rgb)?;
        let thumb = self.thumb.picture(&frame)?.to_vec();
        let rgb = self.measured.picture(&frame)?.to_vec();
        let (brightness, sharpness) = light(&rgb, MEASURED as usize);
        let small = image::RgbImage::from_raw(MEASURED.into(), MEASURED.into(), rgb).expect("it has this size");
        let hash = u64::from_le_bytes(self.hasher.hash_image(&small).into_inner());
        Ok(Look { width: picture.width, height: picture.height, brightness, sharpness, hash, thumb })
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

/// Two pictures that show the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Index of the first.
    pub a: usize,
    /// Index of the second, larger.
    pub b: usize,
    /// The same bytes.
    pub exact: bool,
}

/// Bits in which the hashes of near duplicates may differ, and the mean difference of their thumbnails (0..=255).
/// Among TrashNet's 2527 photographs this finds, besides three files that are there twice, six pairs: one glass laid anew, and one
/// bottle; no two different things.
const BITS: u32 = 5;
const DIFFERENCE: f32 = 5.0;

/// All pairs of exact or near duplicates.
pub fn duplicates(entries: &[Entry], looks: &[Look]) -> Vec<Pair> {
    (0..entries.len())
        .into_par_iter()
        .flat_map_iter(|a| {
            (a + 1..entries.len()).filter_map(move |b| {
                let exact = entries[a].sha256 == entries[b].sha256;
                let near = || {
                    let (x, y) = (&looks[a], &looks[b]);
                    (x.hash ^ y.hash).count_ones() <= BITS && difference(&x.thumb, &y.thumb) <= DIFFERENCE
                };
                (exact || near()).then_some(Pair { a, b, exact })
            })
        })
        .collect()
}

fn difference(a: &[u8], b: &[u8]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b) as f32).sum::<f32>() / a.len() as f32
}
