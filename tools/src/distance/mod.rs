//! The distance of a bundle: fitted on the training images by the int8 network itself, its limit
//! set by images left out.
//!
//! Changed copies of the images (light, blur, and what else the domain allows) are fitted too,
//! because a limit that refuses another light refuses good parts. The figures say how many images
//! of nothing, of left-out tags and of other kinds are caught, and how many good ones are refused.

mod eigen;
pub mod fit;
mod nothing;
pub mod observe;
pub mod stages;

use crate::data::{self, hex_hash, split::Side, split::Split};
use crate::metrics::{Interval, wilson};
use crate::predict::Int8;
use crate::run::Run;
use crate::run_folder;
use crate::train::domain::Domain;
use crate::train::folds::{self, Folds};
use anyhow::{Context, Result, bail, ensure};
use fit::Limit;
pub use nothing::nothing;
use observe::{Changes, Observer};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tagpin::bundle::{Bundle, Hex, Section};
use tagpin::distance::{Distance, Spread};

/// Say what is foreign to a run or bundle: fit the distance of its training images and set the
/// limit.
#[derive(clap::Args, Clone, Debug)]
pub struct DistanceArgs {
    /// Run folder, which `pack` makes a bundle of, or a bundle.
    pub of: PathBuf,
    /// Split whose training images the bundle was trained on.
    #[arg(long)]
    pub split: Option<PathBuf>,
    /// Bundle to write, with its card; it may be the one that was read, with --force.
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub options: Options,
    /// A further held-out set whose images are not foreign: a name and a folder of tagged folders;
    /// may stand several times.
    #[arg(long = "also", value_name = "NAME=FOLDER")]
    pub also: Vec<String>,
    /// Images of other things, for figures: a name and a folder; may stand several times.
    #[arg(long = "foreign", value_name = "NAME=FOLDER")]
    pub foreign: Vec<String>,
    /// Overwrite an existing bundle.
    #[arg(long)]
    pub force: bool,
}

/// How to fit.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What kind of images these are: how they are changed for the fit. [default: general]
    #[arg(id = "changes", long = "changes", value_enum, value_name = "DOMAIN")]
    pub domain: Option<Domain>,
    /// Changed copies of each image for the fit.
    #[arg(id = "distance_views", long = "distance-views", value_name = "N", default_value_t = 2)]
    pub views: usize,
    /// Share of good images that may be foreign. [default: 0.01, or 1/(n+1) where n images left out
    /// allow no less]
    #[arg(long, value_name = "SHARE")]
    pub false_reject: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { domain: None, views: 2, false_reject: None }
    }
}

/// How many images of a set are beyond the limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Caught {
    /// What they are.
    pub name: String,
    /// How many.
    pub images: usize,
    /// How many of them are beyond the limit.
    pub beyond: usize,
}

impl Caught {
    /// Counts those beyond `limit`.
    pub fn new(name: impl Into<String>, distances: &[Distance], limit: Distance) -> Self {
        let beyond = distances.iter().filter(|d| **d > limit).count();
        Self { name: name.into(), images: distances.len(), beyond }
    }

    /// The share beyond the limit, with its interval.
    pub fn share(&self) -> Interval {
        wilson(self.beyond, self.images)
    }
}

/// What is known of a distance: `distance.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// SHA-256 of the int8 graph that it was fitted by.
    pub graph_sha256: String,
    /// Where features are taken.
    pub stages: Vec<stages::StageName>,
    /// Features of an image.
    pub features: usize,
    /// Axes kept of as many as there are features.
    pub axes: usize,
    /// Bytes of the section.
    pub bytes: usize,
    /// Share of the covariance that was replaced by one value for all.
    pub shrinkage: f64,
    /// How images were changed for the fit.
    pub changes: String,
    /// What lies farther off is foreign.
    pub limit: f64,
    /// Share of good images that the limit was set for.
    pub false_reject: f64,
    /// Images fitted on, without their changed copies.
    pub fitted: usize,
    /// Images left out of the fit, which set the limit.
    pub left_out: usize,
    /// Raw distance of each training image, in the split's order, by a fit to the images of other
    /// parts of the data: the fit to an image itself flatters it. Empty where the run judges
    /// nothing by such parts.
    #[serde(default)]
    pub crossed: Vec<u32>,
    /// Images that are not foreign, never used: false rejects.
    pub held_out: Vec<Caught>,
    /// Images that are.
    pub foreign: Vec<Caught>,
}

/// Largest default share of false rejects. If too few images are left out to reach it, a limit is
/// set only on request.
const MOST_FALSE_REJECTS: f64 = 0.05;
/// Tags that are left out one at a time, at most.
const TAGS_LEFT_OUT: usize = 24;
/// Seed of the changes.
const SEED: u64 = 0xd157;

/// Images of one side with their tags.
#[derive(Default)]
struct Images {
    rgb: Vec<Vec<u8>>,
    tags: Vec<Vec<usize>>,
}

impl Images {
    fn of(split: &Split, side: Side, target: tagpin::preprocess::Target) -> Result<Self> {
        let entries = split.entries(side);
        let rgb = data::load(&split.dataset.root, &entries, target)?;
        Ok(Self { rgb, tags: entries.into_iter().map(|e| e.tags).collect() })
    }
}

/// Features with the tags of their images.
struct Seen {
    features: Vec<Vec<i32>>,
    tags: Vec<Vec<usize>>,
}

impl Seen {
    fn refs(&self) -> Vec<&[i32]> {
        self.features.iter().map(Vec::as_slice).collect()
    }

    /// Those that are of a tag, or those that are not.
    fn of_tag(&self, tag: usize, is: bool) -> Vec<&[i32]> {
        let all = self.features.iter().zip(&self.tags);
        all.filter(|(_, tags)| tags.contains(&tag) == is).map(|(f, _)| f.as_slice()).collect()
    }
}

/// Adds changed copies; `plain`: whether the images themselves stay.
fn seen(observer: &Observer, images: &Images, changes: Changes, plain: bool) -> Result<Seen> {
    let (mut features, mut tags) = (Vec::new(), Vec::new());
    if plain || changes.views == 0 {
        features.extend(observer.features(&images.rgb)?);
        tags.extend(images.tags.iter().cloned());
    }
    if changes.views > 0 {
        features.extend(observer.changed(&images.rgb, changes)?);
        tags.extend(images.tags.iter().flat_map(|t| std::iter::repeat_n(t.clone(), changes.views)));
    }
    Ok(Seen { features, tags })
}

/// Images by the name of their set, at model size.
type Sets = Vec<(String, Vec<Vec<u8>>)>;

/// Fits a network's distance on a split: the section and its figures, or why there is none. `also`:
/// held-out sets that are not foreign; `foreign`: sets that are. Both by name, at model size.
/// `parts`: into which each training image falls, if it is judged as one left out.
fn fitted(
    int8: Int8,
    split: &Split,
    target: tagpin::preprocess::Target,
    options: &Options,
    [also, foreign]: [&Sets; 2],
    parts: Option<Vec<usize>>,
) -> Result<Result<(Vec<u8>, Figures), String>> {
    let of = |side| Images::of(split, side, target);
    let (held, train) = (of(Side::Validation)?, of(Side::Train)?);
    let least = 1.0 / (held.rgb.len() as f64 + 1.0);
    if options.false_reject.is_none() && least > MOST_FALSE_REJECTS || train.rgb.len() < 2 {
        let needed = (1.0 / MOST_FALSE_REJECTS).round() - 1.0;
        return Ok(Err(format!(
            "{} validation images: a distance limit for at most {:.0} % false rejects needs {needed:.0}",
            held.rgb.len(),
            100.0 * MOST_FALSE_REJECTS
        )));
    }
    let graph_sha256 = hex_hash(int8.onnx());
    let observer = Observer::of(int8)?;
    let domain = options.domain.unwrap_or(Domain::General);
    let changes = Changes { augment: domain.augment(), views: options.views, seed: SEED };
    let fitting = seen(&observer, &train, changes, true)?;
    let setting = seen(&observer, &held, Changes { seed: SEED + 1, ..changes }, false)?;
    let stages = &observer.stages;
    let most = fit::most_axes(fitting.features[0].len(), observer.macs);
    let spread = fit::fit(&fitting.refs(), stages, most)?;
    let limit = fit::limit(&spread.distances(stages, &setting.refs())?, held.rgb.len(), options.false_reject)?;
    let measured = |images: &[Vec<u8>]| -> Result<Vec<Distance>> {
        let features = observer.features(images)?;
        spread.distances(stages, &features.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let test = of(Side::Test)?;
    let test = Seen { features: observer.features(&test.rgb)?, tags: test.tags };
    let mut held_out = vec![Caught::new("test", &spread.distances(stages, &test.refs())?, limit.distance)];
    for (name, images) in also {
        held_out.push(Caught::new(name, &measured(images)?, limit.distance));
    }
    let mut caught = Vec::new();
    for (name, images) in nothing(target.width as usize) {
        caught.push(Caught::new(name, &measured(&images)?, limit.distance));
    }
    for (name, images) in foreign {
        caught.push(Caught::new(name, &measured(images)?, limit.distance));
    }
    let tags = &split.dataset.tags;
    if tags.len() <= TAGS_LEFT_OUT {
        for (tag, name) in tags.iter().enumerate() {
            let (without, held) = (fitting.of_tag(tag, false), setting.of_tag(tag, false));
            let of_tag = test.of_tag(tag, true);
            if without.len() < 2 || held.is_empty() || of_tag.is_empty() {
                continue;
            }
            let spread = fit::fit(&without, stages, most)?;
            let images = held.len() / options.views.max(1);
            let limit = fit::limit(&spread.distances(stages, &held)?, images, None)?;
            caught.push(Caught::new(format!("{name}, left out"), &spread.distances(stages, &of_tag)?, limit.distance));
        }
    }
    let crossed = match parts {
        Some(parts) => crossed(&fitting, &parts, options.views, stages, most)?,
        None => Vec::new(),
    };
    let section = spread.section(stages, Limit { left_out: held.rgb.len(), ..limit });
    let figures = Figures {
        graph_sha256,
        stages: stages.clone(),
        features: fitting.features[0].len(),
        axes: spread.rank(),
        bytes: section.len(),
        shrinkage: spread.shrinkage,
        changes: match options.views {
            0 => "none".into(),
            views => format!("{views} copies of each image: {}", changes.augment.describe()),
        },
        limit: limit.distance.real(),
        false_reject: limit.false_reject,
        fitted: train.rgb.len(),
        left_out: held.rgb.len(),
        crossed: crossed.into_iter().map(|d| d.0).collect(),
        held_out,
        foreign: caught,
    };
    Ok(Ok((section, figures)))
}

/// Distances of training images, each by a fit to the images of other parts and their changed
/// copies. `fitting`: first the images, then `views` copies of each; `parts`: one an image.
fn crossed(
    fitting: &Seen,
    parts: &[usize],
    views: usize,
    stages: &[stages::StageName],
    most_axes: usize,
) -> Result<Vec<Distance>> {
    let n = parts.len();
    let mut distances = vec![Distance::default(); n];
    for part in 0..parts.iter().max().map_or(0, |p| p + 1) {
        let image = |row: usize| if row < n { row } else { (row - n) / views };
        let others = (0..fitting.features.len()).filter(|&row| parts[image(row)] != part);
        let others: Vec<&[i32]> = others.map(|row| fitting.features[row].as_slice()).collect();
        let own: Vec<usize> = (0..n).filter(|&i| parts[i] == part).collect();
        if own.is_empty() || others.len() < 2 {
            continue;
        }
        let features: Vec<&[i32]> = own.iter().map(|&i| fitting.features[i].as_slice()).collect();
        let measured = fit::fit(&others, stages, most_axes)?.distances(stages, &features)?;
        own.into_iter().zip(measured).for_each(|(i, d)| distances[i] = d);
    }
    Ok(distances)
}

/// A run's int8 network as the device has it: with its distance, if it has one.
pub fn network(run: &Run) -> Result<Int8> {
    let mut int8 = Int8::load(&run.int8()?, run.graph.normalise)?;
    if let Some((section, _)) = in_run(run)? {
        int8.measure_by(&section)?;
    }
    Ok(int8)
}

/// Whether each image of a run's data lies beyond its limit, in the order of the dataset: training
/// images by a fit that left them out. `validation`, `test`: of those sides, by the run's own
/// network; empty for a side that does not matter.
pub fn beyond(run: &Run, validation: &[bool], test: &[bool]) -> Result<Vec<bool>> {
    let training: Vec<bool> = match in_run(run)? {
        None => Vec::new(),
        Some((section, figures)) => {
            let count = run.split.entries(Side::Train).len();
            ensure!(
                figures.crossed.len() == count,
                "{0}: the distances of its training images are not known; run `distance {0}` again",
                run.folder().display()
            );
            let limit = Spread::read(section.as_slice())?.limit();
            figures.crossed.into_iter().map(|d| Distance(d) > limit).collect()
        }
    };
    let mut sides = [training.as_slice(), validation, test].map(|side| side.iter().copied());
    let next = |side: &Side| {
        let at = match side {
            Side::Train => 0,
            Side::Validation => 1,
            Side::Test => 2,
        };
        sides[at].next().unwrap_or(false)
    };
    Ok(run.split.sides.iter().map(next).collect())
}

impl Figures {
    /// The distance in one line.
    pub fn line(&self) -> String {
        format!(
            "limit {:.2} for {:.2} % false rejects, set by {} images left out of the fit on {}; {} features, {} axes, {} KB",
            self.limit,
            100.0 * self.false_reject,
            self.left_out,
            self.fitted,
            self.features,
            self.axes,
            self.bytes.div_ceil(1024)
        )
    }

    /// As a table, for the card and the terminal.
    pub fn markdown(&self) -> String {
        let mut s = format!("## Foreign images\n\nDistance: {}.\n\n", self.line());
        s += "| set | images | foreign | share, 95 % interval |\n|---|---|---|---|\n";
        let kinds = [("not foreign: ", &self.held_out), ("foreign: ", &self.foreign)];
        for (kind, set) in kinds.into_iter().flat_map(|(kind, sets)| sets.iter().map(move |s| (kind, s))) {
            let _ = writeln!(s, "| {kind}{} | {} | {} | {} |", set.name, set.images, set.beyond, set.share());
        }
        s
    }
}

/// Fits a quantised run's distance and writes `distance.bin` and `distance.json` into it; or says
/// why it has none.
pub fn of_run(run: &Run, options: &Options) -> Result<()> {
    of_run_with(run, options, [&Sets::new(), &Sets::new()])
}

fn of_run_with(run: &Run, options: &Options, sets: [&Sets; 2]) -> Result<()> {
    let int8 = Int8::load(&run.int8()?, run.graph.normalise)?;
    let parts = Folds::of(run)?.map(|folds| folds::parts_of(&run.split, folds.folds, run.record.seed, Side::Train));
    match fitted(int8, &run.split, run.target()?, options, sets, parts)? {
        Ok((section, figures)) => {
            run_folder::write_file(&run.file("distance.bin"), &section)?;
            run_folder::write_json(&run.file("distance.json"), &figures)?;
            println!("{}", figures.markdown());
        }
        Err(why) => {
            // An earlier fit belongs to another network or other images.
            for name in ["distance.bin", "distance.json"] {
                let _ = std::fs::remove_file(run.file(name));
            }
            println!("note: nothing will be foreign to this model: {why}");
        }
    }
    Ok(())
}

/// The section and the figures of a run, if it has them.
pub fn in_run(run: &Run) -> Result<Option<(Vec<u8>, Figures)>> {
    if !run.file("distance.json").exists() {
        return Ok(None);
    }
    let again = format!("distance {}", run.folder().display());
    let figures: Figures = run_folder::read_json(&run.file("distance.json"), &again)?;
    ensure!(
        figures.graph_sha256 == hex_hash(&run.int8()?),
        "{}: its distance was fitted by another int8 network; run `{again}` again",
        run.folder().display()
    );
    Ok(Some((run_folder::read_file(&run.file("distance.bin"), &again)?, figures)))
}

/// Sets given as NAME=FOLDER, at model size.
fn sets(given: &[String], flag: &str, target: tagpin::preprocess::Target) -> Result<Sets> {
    let one = |text: &String| {
        let (name, folder) = text.split_once('=').with_context(|| format!("--{flag} {text}: expected NAME=FOLDER"))?;
        Ok((name.to_string(), folder_of(Path::new(folder), target)?))
    };
    given.iter().map(one).collect()
}

/// All images below a folder, tagged or not, at model size. Fails where there is none.
fn folder_of(folder: &Path, target: tagpin::preprocess::Target) -> Result<Vec<Vec<u8>>> {
    let images = crate::good::Images::of(folder, target)?.rgb;
    ensure!(!images.is_empty(), "{} holds no image", folder.display());
    Ok(images)
}

/// Runs the command.
pub fn run(args: &DistanceArgs) -> Result<()> {
    if args.of.is_dir() {
        ensure!(
            args.split.is_none() && args.out.is_none(),
            "a run has its own split and is packed by `pack`: leave out --split and --out"
        );
        let run = Run::open(&args.of)?;
        let target = run.target()?;
        return of_run_with(
            &run,
            &args.options,
            [&sets(&args.also, "also", target)?, &sets(&args.foreign, "foreign", target)?],
        );
    }
    let (Some(split), Some(out)) = (&args.split, &args.out) else {
        bail!("a bundle does not hold its images: name its split by --split, and the bundle to write by --out");
    };
    run_folder::refuse_existing_bundle(out, args.force)?;
    let bytes = run_folder::read_file(&args.of, "pack")?;
    let bundle = Bundle::read(&bytes).map_err(|e| anyhow::anyhow!("bundle {}: {e}", args.of.display()))?;
    let split = Split::read(split)?;
    let (of_split, of_bundle) = (split.dataset.sha256(), Hex(&bundle.contract.dataset_sha256).to_string());
    ensure!(of_split == of_bundle, "the bundle was trained on other data: {of_bundle}, the split's is {of_split}");
    let input = &bundle.contract.input;
    ensure!(input.width == input.height, "a bundle of {}x{} pixels, expected a square", input.width, input.height);
    let target = data::target(input.width as usize, input.fit)?;
    let also = sets(&args.also, "also", target)?;
    let foreign = sets(&args.foreign, "foreign", target)?;
    let int8 = Int8::of_bundle(&bundle)?;
    let (section, figures) =
        fitted(int8, &split, target, &args.options, [&also, &foreign], None)?.map_err(anyhow::Error::msg)?;
    let mut extra: Vec<(Section, &[u8])> =
        bundle.sections().filter_map(|e| kept(&bundle, e, &[Section::Distance])).collect();
    extra.push((Section::Distance, &section));
    let made = tagpin::bundle::write(&bundle.contract, bundle.graph, &extra)?;
    tagpin::engine::Engine::from_bundle(&Bundle::read(&made)?)?;
    run_folder::write_file(out, &made)?;
    let card = args.of.with_extension("md");
    if let Ok(text) = tagpin::regular::read_text(&card, tagpin::regular::TEXT) {
        let named = |bytes: &[u8]| Ok::<_, tagpin::bundle::BundleError>(Hex(&Bundle::read(bytes)?.sha256).to_string());
        let text = text.replace(&named(&bytes)?, &named(&made)?);
        let size = |bytes: &[u8]| format!(", {} KB.", bytes.len() / 1024);
        let text = carded(&text.replacen(&size(&bytes), &size(&made), 1), &figures);
        run_folder::write_file(&out.with_extension("md"), text.as_bytes())?;
    }
    println!("{}\n{} ({} KB)", figures.markdown(), out.display(), made.len() / 1024);
    Ok(())
}

/// A section that stays as it is: any but those that the contract and the graph make, and those of
/// `anew`.
pub fn kept<'a>(bundle: &Bundle<'a>, entry: tagpin::bundle::Entry<'a>, anew: &[Section]) -> Option<(Section, &'a [u8])> {
    let section = Section::of(entry.id.0)?;
    let made = [Section::Contract, Section::Rules, Section::Graph].contains(&section);
    if made || anew.contains(&section) { None } else { bundle.section(section).map(|bytes| (section, bytes)) }
}

/// A card with the distance's figures at its end, instead of others.
fn carded(text: &str, figures: &Figures) -> String {
    let text = text.split("\n## Foreign images").next().unwrap_or(text);
    format!("{}\n\n{}", text.trim_end(), figures.markdown())
}
