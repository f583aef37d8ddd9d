//! `tagpin classify`: scores and decision of image files, by the line's own preprocessing, engine,
//! head and decision rule.
//!
//! Each file is a part of one frame. Thresholds, review bands and actions are the bundle's, or a
//! site's by `--settings`.

use super::{Model, Refused};
use crate::broken_pipe::OUTPUT_PIPE_CLOSED;
use crate::classify::{Branch, Classified, ClassifyError, HeatRecord, ImageClassifier, What};
use crate::decide::{Action, TagRule, Verdict};
use crate::engine::Engine;
use crate::events::sinks::shown;
use crate::head::Score;
use crate::heat::Heat;
use crate::pictures::{self, Budget, Picture};
use crate::terminal::{escaped, tell};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Columns of the tree; what is longer is cut.
const TREE_COLUMNS: usize = 80;

/// Arguments of `classify`.
#[derive(clap::Args, Debug)]
pub(super) struct Classify {
    /// Bundle to classify with
    bundle: PathBuf,
    /// Image files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Thresholds, review bands and actions of this device.toml instead of the bundle's
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Threshold of every tag, 0..1, instead of the bundle's; without review bands
    #[arg(long, conflicts_with = "settings")]
    threshold: Option<f32>,
    /// Tags to show for each image
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Only the I-th of N equal shares of the list, for spreading a job: 1/8, 2/8, ...
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Most memory that decoding one image may take, in MB
    #[arg(long, value_name = "MB", default_value_t = 96, value_parser = clap::value_parser!(u64).range(1..=4096))]
    picture_mb: u64,
    /// Show the categories of each image as a tree: those with a score of 0.05 and above, and those
    /// of its best tag
    #[arg(long, conflicts_with_all = ["json", "top"])]
    tree: bool,
    /// Write each image as the model sees it to this folder, red where its finding comes from: the
    /// distance of a foreign image, else its tag. Coarse, and two hundred times the work
    #[arg(long, value_name = "FOLDER")]
    heat: Option<PathBuf>,
    /// Show where the distance, or the tag, comes from, whatever was decided
    #[arg(long, value_name = "WHAT", requires = "heat")]
    heat_of: Option<HeatOf>,
    /// Print JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

/// What `--heat` shows the places of.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum HeatOf {
    /// The distance from the training images.
    Distance,
    /// The tag that names the verdict, or the best one.
    Tag,
}

/// One of several shares; both are counted from 1.
#[derive(Clone, Copy, Debug)]
struct Shard {
    own: usize,
    all: usize,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(own, all)| Some((own.parse().ok()?, all.parse().ok()?)));
        let shard = parts.map(|(own, all)| Self { own, all }).filter(|s| s.own >= 1 && s.own <= s.all);
        shard.ok_or_else(|| "expected I/N with 1 <= I <= N".into())
    }
}

/// The files below all paths, or this shard's share of them.
/// This share's images, each with its number in the whole list.
fn files(args: &Classify) -> Result<Vec<(usize, PathBuf)>, Refused> {
    let mut files = Vec::new();
    for path in &args.paths {
        let listing = pictures::list(path).map_err(|e| format!("{}: cannot be listed: {e}", path.display()))?;
        listing.remarks().for_each(|remark| tell(&escaped(&remark), 8));
        if listing.files.is_empty() {
            return Err(format!("{}: holds no .jpg, .jpeg, .png, .bmp or .webp", path.display()).into());
        }
        files.extend(listing.files);
    }
    let Shard { own, all } = args.shard.unwrap_or(Shard { own: 1, all: 1 });
    Ok(files.into_iter().enumerate().skip(own - 1).step_by(all).collect())
}

pub(super) fn run(args: &Classify) -> Result<u8, Refused> {
    let model = Model::read(Some(&args.bundle))?;
    let bundle = model.bundle()?;
    let engine = Engine::from_bundle(&bundle).map_err(|e| format!("bundle {}: {e}", model.path.display()))?;
    let mut settings = super::settings(args.settings.as_deref(), &bundle, false).map_err(|e| Refused(e.0))?;
    if let Some(p) = args.threshold {
        let threshold = Score::from_probability(p).ok_or_else(|| format!("--threshold {p}: expected 0..=1"))?;
        settings.tags.iter_mut().for_each(|t| t.rule = TagRule { threshold, review_low: threshold });
    }
    let mut classifier = ImageClassifier::new(&bundle, engine, &settings)?;
    if args.tree && !classifier.has_categories() {
        let why = "--tree: it has no categories; `tagpin-tools general` makes a bundle that has some";
        return Err(format!("bundle {}: {why}", model.path.display()).into());
    }
    let of_distance = args.heat_of.map(|of| matches!(of, HeatOf::Distance));
    if of_distance == Some(true) && bundle.section(crate::bundle::Section::Distance).is_none() {
        let why = "--heat-of distance: it has no distance limit; `tagpin-tools distance` fits one";
        return Err(format!("bundle {}: {why}", model.path.display()).into());
    }
    let files = files(args)?;
    if let Some(folder) = &args.heat {
        std::fs::create_dir_all(folder).map_err(|e| format!("--heat {}: cannot be made: {e}", folder.display()))?;
    }
    let mut unreadable = 0;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, path) in &files {
        let image = Picture::open(path, Budget::megabytes(args.picture_mb)).map_err(|e| e.to_string());
        let found = image.and_then(|image| {
            let found = match args.heat {
                Some(_) => {
                    classifier.classify_with_heat(&image, of_distance).map(|(found, of, heat)| (found, Some((of, heat))))
                }
                None => classifier.classify(&image).map(|found| (found, None)),
            };
            match found {
                Ok(found) => Ok(Ok(found)),
                Err(e @ ClassifyError::Engine(_)) => Ok(Err(e)),
                Err(e) => Err(e.to_string()),
            }
        });
        let (found, heat) = match found {
            Ok(found) => found?,
            Err(why) => {
                unreadable += 1;
                let _ = out.flush();
                tell(&format!("skipped {}", escaped(&format!("{}: {why}", path.display()))), 8);
                continue;
            }
        };
        let heat = match (&args.heat, &heat) {
            (Some(folder), Some((finding, heat))) => {
                let file = paint(folder, *number, path, heat, &found)?;
                Some(HeatRecord::new(*finding, heat, |tag| found.name(tag).to_string(), file))
            }
            _ => None,
        };
        if let Err(e) = write_image(&mut out, args, path, &found, heat) {
            return unwritten(&e);
        }
    }
    if let Err(e) = out.flush() {
        return unwritten(&e);
    }
    if unreadable > 0 {
        tell(&format!("{unreadable} of {} files were skipped", files.len()), 8);
    }
    Ok((unreadable > 0) as u8)
}

/// The exit code where the reader left, by `head`, say; what is to be told of anything else.
fn unwritten(e: &std::io::Error) -> Result<u8, Refused> {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(OUTPUT_PIPE_CLOSED as u8),
        _ => Err(format!("standard output cannot be written: {e}").into()),
    }
}

/// Writes the image with its heat, and names it. `number`: the image's in the list of all shares,
/// since files of several folders may share a name. What has that name already is left as it is.
fn paint(folder: &Path, number: usize, path: &Path, heat: &Heat, found: &Classified<'_>) -> Result<String, String> {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    // Names of files end at 255 bytes.
    let stem: String = stem.chars().take(60).collect();
    let file = folder.join(format!("{number:05}-{stem}.png"));
    let (mut rgb, width) = (found.seen.rgb.to_vec(), found.seen.width);
    heat.paint(&mut rgb, width);
    Picture::create_png(&file, width as u32, (rgb.len() / 3 / width) as u32, &rgb)
        .map_err(|e| format!("--heat: {e}; it needs a folder without images of another run"))?;
    Ok(file.display().to_string())
}

/// One JSON line, or a line of the table for each tag that is shown.
fn write_image(
    out: &mut impl Write,
    args: &Classify,
    path: &Path,
    found: &Classified<'_>,
    heat: Option<HeatRecord>,
) -> std::io::Result<()> {
    let path = path.display().to_string();
    if args.json {
        let record = found.record(path, args.top.into());
        let record = match heat {
            Some(heat) => record.with_heat(heat),
            None => record,
        };
        return writeln!(out, "{}", serde_json::to_string(&record)?);
    }
    let (path, decision) = (escaped(&path), &found.decision);
    for (i, (id, score)) in found.best(args.top.into()).into_iter().enumerate() {
        let tag = found.name(id);
        match i {
            0 => {
                let (verdict, action) = (decision.verdict.name(), decision.action.map_or("-", Action::name));
                let decides = decision.tag.filter(|named| *named != id);
                let names = decides.map_or(String::new(), |n| format!("  ({} decides)", found.name(n)));
                let far = found
                    .reach
                    .filter(|_| decision.verdict == Verdict::Foreign)
                    .map_or(String::new(), |r| format!("  (distance {:.2}, limit {:.2})", r.distance, r.distance_limit));
                let row = format!("{tag:<20} {score} {verdict:<8} {action:<7} {path}{names}{far}");
                writeln!(out, "{}", super::fitted(&row, 21))?;
            }
            _ => writeln!(out, "{tag:<20} {score} {}", found.standing(id))?,
        }
    }
    if args.tree {
        for Branch { depth, what, score } in found.branches() {
            let name = match what {
                What::Category(name) => name,
                What::Tag(id) => found.name(id),
            };
            let line = format!("  {score} {:indent$}{name}", "", indent = 2 * depth);
            writeln!(out, "{}", shown(&line, TREE_COLUMNS))?;
        }
    }
    Ok(())
}
