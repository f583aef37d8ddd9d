//! `tagpin classify`: scores of picture files, by the same preprocessing, engine and head as the line.
//!
//! Knows no camera or output.

use super::{Model, Refused};
use crate::decide::{TagRule, Task};
use crate::engine::Engine;
use crate::head::{Score, TagId, top_k};
use crate::pictures::{self, Budget, Picture};
use crate::preprocess::{Preprocessor, Target, quantise};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `classify`.
#[derive(clap::Args, Debug)]
pub(super) struct Classify {
    /// Bundle to classify with
    bundle: PathBuf,
    /// Picture files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Threshold of every tag, 0..1, instead of the bundle's
    #[arg(long)]
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

/// Every n-th file from the i-th on; both counted from 1.
fn shard(text: &str, files: Vec<PathBuf>) -> Result<Vec<PathBuf>, Refused> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse::<usize>().ok()?, n.parse::<usize>().ok()?)));
    match parts {
        Some((i, n)) if i >= 1 && i <= n => Ok(files.into_iter().skip(i - 1).step_by(n).collect()),
        _ => Err(format!("--shard {text}: expected I/N with 1 <= I <= N").into()),
    }
}

pub(super) fn run(args: &Classify) -> Result<u8, Refused> {
    let model = Model::read(&args.bundle)?;
    let bundle = model.bundle()?;
    let mut engine = Engine::from_bundle(&bundle).map_err(|e| format!("bundle {}: {e}", model.path.display()))?;
    let contract = &bundle.contract;
    let input = contract.input;
    let threshold = match args.threshold {
        None => None,
        Some(p) => Some(Score::from_probability(p).ok_or_else(|| format!("--threshold {p}: expected 0..=1"))?),
    };
    let mut files = Vec::new();
    for path in &args.paths {
        let listing = pictures::list(path).map_err(|e| format!("{}: cannot be listed: {e}", path.display()))?;
        listing.remarks().for_each(|remark| eprintln!("{remark}"));
        if listing.files.is_empty() {
            return Err(format!("{}: holds no .jpg, .jpeg, .png, .bmp or .webp", path.display()).into());
        }
        files.extend(listing.files);
    }
    if let Some(text) = &args.shard {
        files = shard(text, files)?;
    }
    let mut preprocessor = Preprocessor::new(Target::of(&input, None));
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
        let n = top_k(&scores, &mut best);
        let rule = |id: TagId| match threshold {
            Some(threshold) => TagRule { threshold, review_low: threshold },
            None => contract.tags[id.0 as usize].rule,
        };
        let verdict = |i: usize, (id, score): (TagId, Score)| match contract.task {
            Task::Multiclass if i > 0 => "",
            _ if score >= rule(id).threshold => "present",
            _ if score >= rule(id).review_low => "review",
            _ if contract.task == Task::Multiclass => "unknown",
            _ => "",
        };
        // A pipe that is closed (by `head`, say) ends the work without noise.
        let written = if args.json {
            let tags: Vec<_> = best[..n]
                .iter()
                .enumerate()
                .map(|(i, &(id, s))| {
                    let (tag, verdict) = (contract.tags[id.0 as usize].name, verdict(i, (id, s)));
                    json!({ "tag": tag, "score": s.probability(), "score_raw": s.0, "verdict": verdict })
                })
                .collect();
            writeln!(out, "{}", json!({ "schema": 1, "path": path.display().to_string(), "tags": tags }))
        } else {
            best[..n].iter().enumerate().try_for_each(|(i, &(id, s))| {
                let name = if i == 0 { path.display().to_string() } else { String::new() };
                writeln!(out, "{:<20} {s} {:<8} {name}", contract.tags[id.0 as usize].name, verdict(i, (id, s)))
            })
        };
        if written.is_err() {
            return Ok(0);
        }
    }
    let _ = out.flush();
    if unreadable > 0 {
        eprintln!("{unreadable} of {} files were skipped", files.len());
    }
    Ok((unreadable > 0) as u8)
}
