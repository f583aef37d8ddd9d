//! `train --good-only`: a bundle from images of good parts alone. What lies beyond the distance
//! limit is foreign.
//!
//! The backbone is quantised on the good images and their spread is fitted. Each image is left out
//! of one of ten fits; those distances set the limit and are what the figures show. Images are
//! taken in other light and focus too, but never turned or cut: a defect may look like that.

mod page;

use crate::backbone;
use crate::data::{self, TaskName, hex_hash, roles::Roles};
use crate::distance::fit::{self, Fitted};
use crate::distance::observe::{Changes, Observer};
use crate::distance::{Caught, Figures, nothing};
use crate::graph::{Graph, Linear};
use crate::metrics::{Interval, wilson};
use crate::pack::{self, Ingredients};
use crate::predict::{self, Int8};
use crate::quantise::{self, Choice};
use crate::run_folder::{self, NewRun};
use crate::train::{augment::Augment, domain::Domain};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tagpin::bundle::Fit;
use tagpin::decide::{TagRule, Task};
use tagpin::distance::Distance;
use tagpin::preprocess::{Preprocessor, Target};

/// Fewest good images.
pub const FEWEST: usize = 20;
/// Changed copies of each image.
const VIEWS: usize = 8;
/// Folds of the cross-validation.
const FOLDS: usize = 10;
/// Images that calibrate the ranges of activations.
const CALIBRATION: usize = 128;
/// Seed of the changes.
const SEED: u64 = 0x600d;

/// What to train on and how.
pub struct Options<'a> {
    /// Folder of good images, in the order of their names.
    pub good: &'a Path,
    /// Folder of bad ones, for figures.
    pub bad: Option<&'a Path>,
    /// Whether the limit is set between good and bad images.
    pub tune_on_bad: bool,
    /// How images are brought to the network's square.
    pub fit: Fit,
    /// Kind of images: how much light may change.
    pub domain: Domain,
    /// Share of good images that may be foreign.
    pub false_reject: Option<f64>,
    /// Folder to make.
    pub out: &'a Path,
    /// Overwrite an existing folder.
    pub force: bool,
}

/// Images at model size with their files.
pub struct Images {
    /// Sorted by name.
    pub files: Vec<PathBuf>,
    /// `[files]`, each `[side, side, 3]`.
    pub rgb: Vec<Vec<u8>>,
    /// SHA-256 over all files.
    pub sha256: [u8; 32],
}

impl Images {
    /// All below a folder.
    pub fn of(folder: &Path, target: Target) -> Result<Self> {
        let listing = tagpin::pictures::list(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
        listing.remarks().for_each(|remark| eprintln!("{remark}"));
        let mut files = listing.files;
        files.sort();
        let mut preprocessor = Preprocessor::new(target);
        let (mut rgb, mut hashes) = (Vec::new(), String::new());
        for path in &files {
            let bytes = tagpin::regular::read(path, tagpin::regular::LARGE)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            rgb.push(data::rgb_of(&bytes, &mut preprocessor).with_context(|| path.display().to_string())?);
            hashes += &hex_hash(&bytes);
        }
        Ok(Self { files, rgb, sha256: tagpin::bundle::sha256(hashes.as_bytes()) })
    }
}

/// A model of good images.
pub struct Good {
    /// The int8 graph.
    pub onnx: Vec<u8>,
    observer: Observer,
    fitted: Fitted,
    /// Of each good image, by a fit without it.
    pub left_out: Vec<Distance>,
    limit: fit::Limit,
    changes: Changes,
    features: usize,
}

/// The changes of a domain that are light and focus alone.
fn light(domain: Domain) -> Augment {
    Augment { flip_x: false, flip_y: false, turns: false, rotation: 0.0, crop: 1.0, cutout: 0.0, ..domain.augment() }
}

/// The backbone with a head of one tag. Its score is always 1; only the distance decides.
fn with_head(backbone: &Graph) -> Result<Graph> {
    let inputs = *backbone.shapes()?.last().context("a backbone without an operator")?;
    let inputs = inputs[2];
    let weights = vec![1.0 / inputs as f32; inputs];
    Ok(backbone.clone().with_head(Linear { inputs, outputs: 1, weights, bias: vec![0.0] }))
}

/// Quantises the backbone on good images and fits their distance.
pub fn fit_on(backbone: &Graph, good: &[Vec<u8>], domain: Domain, false_reject: Option<f64>) -> Result<Good> {
    let changes = Changes { augment: light(domain), views: VIEWS, seed: SEED };
    let graph = with_head(backbone)?;
    let some: Vec<&[u8]> = data::spread(good.len(), CALIBRATION).map(|i| good[i].as_slice()).collect();
    let choice = Choice::new(some[..1].to_vec(), predict::float(&graph, &some[..1])?);
    // All that was seen: clipped activations would hide what is foreign.
    let chosen =
        quantise::choose(&graph, TaskName::Multiclass, &some, &choice, Some(quantise::calibrate::Calibrator::MinMax))?;
    let observer = Observer::of(Int8::load(&chosen.onnx, graph.normalise)?)?;
    let plain = observer.features(good)?;
    let changed = observer.changed(good, changes)?;
    let (stages, features) = (observer.stages.clone(), plain[0].len());
    let most = fit::most_axes(features, observer.macs);
    let rows = |keep: &dyn Fn(usize) -> bool| -> Vec<&[i32]> {
        let kept = (0..good.len()).filter(|i| keep(*i));
        kept.flat_map(|i| std::iter::once(&plain[i]).chain(&changed[i * VIEWS..(i + 1) * VIEWS]))
            .map(Vec::as_slice)
            .collect()
    };
    let folds = FOLDS.min(good.len());
    let (mut left_out, mut setting) = (vec![Distance::default(); good.len()], Vec::new());
    for fold in 0..folds {
        let own = |i: usize| i % folds == fold;
        let fitted = fit::fit(&rows(&|i| !own(i)), &stages, most)?;
        let mine: Vec<usize> = (0..good.len()).filter(|i| own(*i)).collect();
        let distances = fitted.distances(&stages, &mine.iter().map(|&i| plain[i].as_slice()).collect::<Vec<_>>())?;
        mine.iter().zip(distances).for_each(|(&i, d)| left_out[i] = d);
        let copies = mine.iter().flat_map(|&i| &changed[i * VIEWS..(i + 1) * VIEWS]).map(Vec::as_slice);
        setting.extend(fitted.distances(&stages, &copies.collect::<Vec<_>>())?);
    }
    let limit = fit::limit(&setting, good.len(), false_reject)?;
    let fitted = fit::fit(&rows(&|_| true), &stages, most)?;
    Ok(Good { onnx: chosen.onnx, observer, fitted, left_out, limit, changes, features })
}

impl Good {
    /// Distances of other images at model size.
    pub fn distances<T: AsRef<[u8]> + Sync>(&self, images: &[T]) -> Result<Vec<Distance>> {
        let features = self.observer.features(images)?;
        self.fitted.distances(&self.observer.stages, &features.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// What lies farther off is foreign.
    pub fn limit(&self) -> Distance {
        self.limit.distance
    }

    fn section(&self) -> Vec<u8> {
        self.fitted.section(&self.observer.stages, self.limit)
    }
}

/// Area under the ROC curve: the share of pairs of a good and a bad image of which the bad one lies
/// farther off.
pub fn auroc(good: &[Distance], bad: &[Distance]) -> f64 {
    let mut sorted = good.to_vec();
    sorted.sort();
    let below = |d: &Distance| {
        let (less, not_more) = (sorted.partition_point(|g| g < d), sorted.partition_point(|g| g <= d));
        (less + not_more) as f64 / 2.0
    };
    bad.iter().map(below).sum::<f64>() / (good.len() * bad.len()) as f64
}

/// Spearman's rank correlation of distances with the order of their images, -1 to 1.
fn drift(distances: &[Distance]) -> f64 {
    let n = distances.len() as f64;
    let mut order: Vec<usize> = (0..distances.len()).collect();
    order.sort_by_key(|&i| distances[i]);
    let squares: f64 = order.iter().enumerate().map(|(rank, &i)| (rank as f64 - i as f64).powi(2)).sum();
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

/// What is known of a model of good images: `good.json`.
#[derive(Debug, Serialize)]
pub struct Report {
    tool: String,
    /// Of the distance, as for any bundle.
    distance: Figures,
    /// Good images beyond the limit, each measured by a fit without it.
    false_rejects: Caught,
    /// Rank correlation of the distance with the images' order.
    drift: f64,
    /// Whether that could be chance, at 1 in 100.
    drifts: bool,
    /// Of bad images, where there are any.
    bad: Option<Bad>,
    /// Good images with their distances, in their order.
    order: Vec<(PathBuf, f64)>,
}

/// Figures that need bad images.
#[derive(Debug, Serialize)]
struct Bad {
    found: Caught,
    auroc: f64,
    /// Whether the limit was set by these images, so that the figures flatter it.
    tuned: bool,
}

impl Bad {
    fn recall(&self) -> Interval {
        wilson(self.found.beyond, self.found.images)
    }
}

/// The limit with the fewest errors of both kinds, each as a share.
fn between(good: &[Distance], bad: &[Distance]) -> Distance {
    let share = |set: &[Distance], beyond: bool, limit: Distance| {
        set.iter().filter(|d| (**d > limit) == beyond).count() as f64 / set.len() as f64
    };
    let errors = |limit: Distance| share(good, true, limit) + share(bad, false, limit);
    let mut limits = [good, bad].concat();
    limits.sort();
    limits.into_iter().min_by(|a, b| errors(*a).total_cmp(&errors(*b))).unwrap_or_default()
}

/// Refuses an image that is given both as good and as bad: it would make the figures meaningless.
fn refuse_shared(good: &Images, bad: &Images, folder: &Path) -> Result<()> {
    let known: HashMap<&[u8], &PathBuf> = good.rgb.iter().map(Vec::as_slice).zip(&good.files).collect();
    let shared: Vec<_> =
        bad.rgb.iter().zip(&bad.files).filter_map(|(rgb, file)| Some((file, known.get(rgb.as_slice())?))).collect();
    if let Some((file, of)) = shared.first() {
        bail!(
            "--bad {}: {} of its {} images are among the good ones too, first {}, which is {}; take them out of one of the folders",
            folder.display(),
            shared.len(),
            bad.files.len(),
            file.display(),
            of.display()
        );
    }
    Ok(())
}

/// Trains, and writes the bundle, its card, figures and page.
pub fn train(backbone_file: &Path, side: Option<usize>, options: &Options<'_>) -> Result<()> {
    ensure!(options.bad.is_some() || !options.tune_on_bad, "--tune-on-bad needs --bad DIR");
    let new = NewRun::begin(options.out, options.force)?;
    let backbone = backbone::load(backbone_file, None, side)?;
    let target = data::target(backbone.side, options.fit)?;
    let good = Images::of(options.good, target)?;
    let (n, folder) = (good.files.len(), options.good.display());
    ensure!(n >= FEWEST, "{folder}: {n} images of good parts, at least {FEWEST} are needed");
    let bad = options.bad.map(|folder| Images::of(folder, target)).transpose()?;
    if let (Some(bad), Some(folder)) = (&bad, options.bad) {
        ensure!(!bad.files.is_empty(), "--bad {}: holds no image", folder.display());
        refuse_shared(&good, bad, folder)?;
    }
    let mut model = fit_on(&backbone, &good.rgb, options.domain, options.false_reject)?;
    let of_bad = bad.as_ref().map(|bad| model.distances(&bad.rgb)).transpose()?;
    if let (true, Some(bad)) = (options.tune_on_bad, &of_bad) {
        model.limit.distance = between(&model.left_out, bad);
        let beyond = model.left_out.iter().filter(|d| **d > model.limit.distance).count();
        model.limit.false_reject = beyond as f64 / n as f64;
    }
    let limit = model.limit();
    let section = model.section();
    let caught = |name: &str, distances: &[Distance]| Caught::new(name, distances, limit);
    let mut foreign = Vec::new();
    for (name, images) in nothing(backbone.side) {
        foreign.push(caught(name, &model.distances(&images)?));
    }
    let bad_figures = of_bad.as_ref().map(|distances| Bad {
        found: caught("bad", distances),
        auroc: auroc(&model.left_out, distances),
        tuned: options.tune_on_bad,
    });
    foreign.extend(bad_figures.iter().map(|b| b.found.clone()));
    let false_rejects = caught("good, left out of the fit", &model.left_out);
    let rank = drift(&model.left_out);
    let report = Report {
        tool: format!("tagpin-tools {}", env!("CARGO_PKG_VERSION")),
        distance: Figures {
            graph_sha256: hex_hash(&model.onnx),
            stages: model.observer.stages.clone(),
            features: model.features,
            axes: model.fitted.rank(),
            bytes: section.len(),
            shrinkage: model.fitted.shrinkage,
            changes: format!("{VIEWS} copies of each image: {}", model.changes.augment.describe()),
            limit: limit.real(),
            false_reject: model.limit.false_reject,
            fitted: n,
            left_out: n,
            crossed: Vec::new(),
            held_out: vec![false_rejects.clone()],
            foreign,
        },
        false_rejects,
        drift: rank,
        drifts: rank.abs() > 2.576 / (n as f64 - 1.0).sqrt(),
        bad: bad_figures,
        order: good.files.iter().cloned().zip(model.left_out.iter().map(|d| d.real())).collect(),
    };
    let roles = Roles { good: vec!["good".into()], defects: Vec::new() };
    let ingredients = Ingredients {
        tags: vec!["good".into()],
        normalise: backbone.normalise,
        fit: options.fit,
        task: Task::Multiclass,
        rules: vec![TagRule::default()],
        roles,
        temperature_q16: tagpin::head::Temperature::ONE.q16(),
        dataset_sha256: good.sha256,
        run_sha256: [0; 32],
        distance: Some((section, report.distance.clone())),
        categories: None,
        images: good.rgb.iter().take(3).cloned().collect(),
    };
    let (bytes, card) = pack::good_only("good", &model.onnx, &ingredients)?;
    run_folder::write_file(&new.file("good.tagpin"), &bytes)?;
    run_folder::write_file(&new.file("good.md"), card.as_bytes())?;
    run_folder::write_json(&new.file("good.json"), &report)?;
    run_folder::write_file(&new.file("report.html"), page::html(&report).into_string().as_bytes())?;
    new.finish()?;
    print(&report);
    println!("{}", options.out.join("good.tagpin").display());
    Ok(())
}

fn print(r: &Report) {
    println!("{}", r.distance.markdown());
    println!("false rejects of good images left out of the fit: {}", r.false_rejects.share());
    println!(
        "drift: rank correlation of the distance with the images' order {:.2}, {}",
        r.drift,
        if r.drifts { "no chance: later images differ from earlier ones" } else { "which may be chance" }
    );
    match &r.bad {
        None => println!("recall: unknown without images of bad parts (--bad DIR)"),
        Some(bad) => {
            println!("recall of bad images {}, AUROC {:.3}", bad.recall(), bad.auroc);
            if bad.tuned {
                println!("warning: the limit was set by the same bad images; the figures flatter it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distances(of: &[u32]) -> Vec<Distance> {
        of.iter().map(|d| Distance(*d)).collect()
    }

    #[test]
    fn auroc_is_the_share_of_pairs_in_order() {
        let good = distances(&[1, 2, 3]);
        assert_eq!(auroc(&good, &distances(&[4, 5])), 1.0);
        assert_eq!(auroc(&good, &distances(&[0])), 0.0);
        // Of 2: above 1, ties with 2, below 3.
        assert_eq!(auroc(&good, &distances(&[2])), 0.5);
        assert!((auroc(&good, &distances(&[3, 9])) - (2.5 + 3.0) / 6.0).abs() < 1e-12);
    }

    #[test]
    fn drift_is_one_where_each_image_lies_farther_off() {
        assert_eq!(drift(&distances(&[1, 2, 3, 4, 5])), 1.0);
        assert_eq!(drift(&distances(&[5, 4, 3, 2, 1])), -1.0);
        assert!(drift(&distances(&[3, 1, 5, 2, 4])).abs() < 0.5);
    }

    #[test]
    fn a_tuned_limit_lies_between_good_and_bad() {
        assert_eq!(between(&distances(&[1, 2, 3, 20]), &distances(&[10, 11, 12, 13])), Distance(3));
        assert_eq!(between(&distances(&[1, 2, 3]), &distances(&[10, 11, 2])), Distance(3));
    }
}
