//! `tagpin classify`: scores and decision of image files, by the line's own preprocessing, engine, head and decision rule.
//!
//! Each file is a part of one frame. Thresholds, review bands and actions are the bundle's, or a site's by `--settings`.

use super::{Model, Refused};
use crate::decide::{Decider, Decision, Observation, Policy, TagPolicy, TagRule, TagSet, Task};
use crate::engine::Engine;
use crate::head::{Score, TagId, top_k};
use crate::pictures::{self, Budget, Picture};
use crate::preprocess::{Preprocessor, Target, quantise};
use crate::time::Instant;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Arguments of `classify`.
#[derive(clap::Args, Debug)]
pub(super) struct Classify {
    /// Bundle to classify with
    bundle: PathBuf,
    /// Picture files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Thresholds, review bands and actions of this device.toml instead of the bundle's
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Threshold of every tag, 0..1, instead of the bundle's; without review bands
    #[arg(long, conflicts_with = "settings")]
    threshold: Option<f32>,
    /// Tags to show for each picture
    #[arg(long, default_value_t = 1)]
    top: usize,
    /// Only the I-th of N equal shares of the list, for spreading a job: 1/8, 2/8, ...
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Most memory that decoding one picture may take, in MB
    #[arg(long, value_name = "MB", default_value_t = 96, value_parser = clap::value_parser!(u64).range(1..=4096))]
    picture_mb: u64,
    /// Print JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

/// One tag of one image, as JSON.
#[derive(Serialize)]
struct TagLine<'a> {
    tag: &'a str,
    score: f32,
    score_raw: u16,
    /// `present` if the tag holds, `review` if it lies in its band, else empty.
    verdict: &'static str,
}

/// One image, as JSON.
#[derive(Serialize)]
struct ImageLine<'a> {
    schema: u32,
    path: String,
    verdict: &'static str,
    action: Option<&'static str>,
    /// The tag that names the verdict.
    tag: Option<&'a str>,
    /// Every tag that holds.
    held: Vec<&'a str>,
    /// The best tags, as many as --top asks for.
    tags: Vec<TagLine<'a>>,
}

/// The rule for images by themselves.
struct Rule(Decider);

impl Rule {
    /// One frame decides; what the policy says of several frames has no meaning here.
    fn new(task: Task, tags: &[TagPolicy], policy: Policy) -> Result<Self, Refused> {
        let Policy { unknown, foreign, .. } = policy;
        Ok(Self(Decider::new(task, tags, Policy { unknown, foreign, ..Policy::default() })?))
    }

    fn decide(&mut self, scores: &[Score]) -> Decision {
        let at = Instant::default();
        self.0.forget();
        self.0.step(at, Observation::Scores { captured_at: at, scores, beyond: false })
    }
}

/// What a tag's own line says of it.
fn standing(decision: &Decision, id: TagId) -> &'static str {
    let stands = |set: &TagSet| set.contains(id);
    match (stands(&decision.held), stands(&decision.band)) {
        (true, _) => "present",
        (_, true) => "review",
        _ => "",
    }
}

/// Every n-th file from the i-th on; both counted from 1.
fn shard(text: &str, files: Vec<PathBuf>) -> Result<Vec<PathBuf>, Refused> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse::<usize>().ok()?, n.parse::<usize>().ok()?)));
    match parts {
        Some((i, n)) if i >= 1 && i <= n => Ok(files.into_iter().skip(i - 1).step_by(n).collect()),
        _ => Err(format!("--shard {text}: expected I/N with 1 <= I <= N").into()),
    }
}

/// The files below all paths, or this shard's share of them.
fn files(args: &Classify) -> Result<Vec<PathBuf>, Refused> {
    let mut files = Vec::new();
    for path in &args.paths {
        let listing = pictures::list(path).map_err(|e| format!("{}: cannot be listed: {e}", path.display()))?;
        listing.remarks().for_each(|remark| eprintln!("{remark}"));
        if listing.files.is_empty() {
            return Err(format!("{}: holds no .jpg, .jpeg, .png, .bmp or .webp", path.display()).into());
        }
        files.extend(listing.files);
    }
    match &args.shard {
        Some(text) => shard(text, files),
        None => Ok(files),
    }
}

pub(super) fn run(args: &Classify) -> Result<u8, Refused> {
    let model = Model::read(&args.bundle)?;
    let bundle = model.bundle()?;
    let mut engine = Engine::from_bundle(&bundle).map_err(|e| format!("bundle {}: {e}", model.path.display()))?;
    let contract = &bundle.contract;
    let input = contract.input;
    let mut settings = super::settings(args.settings.as_deref(), &bundle, false).map_err(|e| Refused(e.0))?;
    if let Some(p) = args.threshold {
        let threshold = Score::from_probability(p).ok_or_else(|| format!("--threshold {p}: expected 0..=1"))?;
        settings.tags.iter_mut().for_each(|t| t.rule = TagRule { threshold, review_low: threshold });
    }
    let mut rule = Rule::new(contract.task, &settings.tags, settings.policy)?;
    let files = files(args)?;
    let mut preprocessor = Preprocessor::new(Target::of(&input, settings.roi));
    let mut tensor = vec![0; engine.spec().input.iter().product()];
    let mut logits = vec![0; engine.spec().logits];
    let mut scores = vec![Score(0); logits.len()];
    let mut best = vec![(TagId(0), Score(0)); args.top.clamp(1, logits.len())];
    let mut unreadable = 0;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for path in &files {
        let picture = Picture::open(path, Budget::megabytes(args.picture_mb)).map_err(|e| e.to_string()).and_then(|p| {
            let view = crate::frame::FrameView::new(p.layout(), &p.rgb).map_err(|e| e.to_string())?;
            let rgb = preprocessor.picture(&view).map_err(|e| e.to_string())?;
            quantise(rgb, input.tables.int8, &mut tensor);
            Ok(())
        });
        if let Err(why) = picture {
            unreadable += 1;
            let _ = out.flush();
            eprintln!("skipped {}: {why}", path.display());
            continue;
        }
        engine.infer(&tensor, &mut logits)?;
        contract.task.score(&logits, contract.temperature(), &mut scores);
        let count = top_k(&scores, &mut best);
        let shown = &best[..count];
        let name = |id: TagId| contract.tags[id.0 as usize].name;
        // A pipe that is closed (by `head`, say) ends the work without noise.
        if write_image(&mut out, args.json, path, &rule.decide(&scores), shown, name).is_err() {
            return Ok(0);
        }
    }
    let _ = out.flush();
    if unreadable > 0 {
        eprintln!("{unreadable} of {} files were skipped", files.len());
    }
    Ok((unreadable > 0) as u8)
}

/// One JSON line, or a line of the table for each tag that is shown.
fn write_image<'a>(
    out: &mut impl Write,
    json: bool,
    path: &Path,
    decision: &Decision,
    shown: &[(TagId, Score)],
    name: impl Fn(TagId) -> &'a str,
) -> std::io::Result<()> {
    let path = path.display().to_string();
    let action = decision.action.map(crate::decide::Action::name);
    if json {
        let one = |&(id, s): &(TagId, Score)| TagLine {
            tag: name(id),
            score: s.probability(),
            score_raw: s.0,
            verdict: standing(decision, id),
        };
        let line = ImageLine {
            schema: 2,
            path,
            verdict: decision.verdict.name(),
            action,
            tag: decision.tag.map(&name),
            held: decision.held.iter().map(&name).collect(),
            tags: shown.iter().map(one).collect(),
        };
        return writeln!(out, "{}", serde_json::to_string(&line)?);
    }
    for (i, &(id, score)) in shown.iter().enumerate() {
        let tag = name(id);
        match i {
            0 => {
                let (verdict, action) = (decision.verdict.name(), action.unwrap_or("-"));
                let names =
                    decision.tag.filter(|named| *named != id).map_or(String::new(), |n| format!("  ({} decides)", name(n)));
                writeln!(out, "{tag:<20} {score} {verdict:<8} {action:<7} {path}{names}")?;
            }
            _ => writeln!(out, "{tag:<20} {score} {}", standing(decision, id))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Action, table};

    #[test]
    fn classify_decides_as_the_table_states() {
        let rows = table::tests::rows();
        let mut run = 0;
        for row in rows.iter().filter(|r| r.is_one_image()) {
            let mut rule = Rule::new(row.task, &row.tag_policies().unwrap(), Policy::default()).unwrap();
            let table::Frame::Scores { scores, .. } = &row.frames[0] else { unreachable!("is_one_image") };
            let scores: Vec<Score> = scores.iter().map(|p| Score::from_probability(*p).unwrap()).collect();
            let decision = rule.decide(&scores);
            row.check(&decision, decision.action.map_or("-", Action::name), "classify");
            run += 1;
        }
        assert!(run >= 25 || std::env::var_os("TAGPIN_DECISIONS").is_some(), "{run} rows need one image alone");
    }
}
