//! `runs`: iterations side by side, and the one that goes to the board.
//!
//! Computes no figure of its own but paired differences.

use crate::data::{roles::RoleFlags, split::Side};
use crate::decision::Decision;
use crate::evaluate::Evaluation;
use crate::judged::Judged;
use crate::metrics::{self, Interval};
use crate::pack;
use crate::parity;
use crate::predict;
use crate::run::{Run, folders_in};
use crate::run_folder::{self, read_json};
use crate::verdict::{Answer, Objection, Verdict};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// List, compare and publish runs.
#[derive(clap::Args, Clone, Debug)]
pub struct Runs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// All runs in a folder, oldest first.
    List {
        /// Folder that holds run folders.
        #[arg(default_value = "runs")]
        folder: PathBuf,
    },
    /// Two runs on the same test images: per tag, with intervals.
    Compare {
        /// The earlier run.
        a: PathBuf,
        /// The later run.
        b: PathBuf,
    },
    /// Whether a run should be shipped, and why: exit 0 for ship, 1 for do not ship, 3 for too few
    /// images to say.
    Verdict {
        /// The run.
        run: PathBuf,
        /// Print it as JSON, every reason a value.
        #[arg(long)]
        json: bool,
    },
    /// Pack a run for the board, if it should be shipped and beats the one published before; exit
    /// codes as of `verdict`.
    Publish(Publish),
}

#[derive(clap::Args, Clone, Debug)]
struct Publish {
    /// The run.
    run: PathBuf,
    /// Bundle to write; its card gets the same name with `.md`, the record of what was published
    /// `.published.json`.
    #[arg(long)]
    out: PathBuf,
    /// Publish in spite of what stands against it, for this reason, which goes into the record;
    /// replaces the bundle.
    #[arg(long, value_name = "REASON")]
    force: Option<String>,
}

/// What was published under a bundle's name, newest last.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Published {
    /// The run folder.
    run: PathBuf,
    /// Seconds since 1970.
    at: u64,
    /// SHA-256 of the int8 graph.
    graph_sha256: String,
    /// Share right in int8 on test.
    top1: Interval,
    /// Why in spite of what stood against it.
    forced: Option<String>,
    /// What stood against it.
    against: Vec<Objection>,
    /// Test images and whether each is right.
    rights: Vec<(PathBuf, bool)>,
}

fn verdict(run: &Run, e: &Evaluation) -> Result<Verdict> {
    let p = parity::Figures::of(run)?;
    Ok(Verdict::of(run, e, &p, &Decision::of(run)?))
}

fn list(folder: &Path) -> Result<()> {
    let mut runs: Vec<Run> = folders_in(folder)?.iter().map(|path| Run::open(path)).collect::<Result<_>>()?;
    ensure!(!runs.is_empty(), "{}: no runs; make one with `train --out {0}/first`", folder.display());
    runs.sort_by_key(|r| r.record.finished);
    println!(
        "{:<20}{:<10}{:>6}{:>6}{:>9}{:>12}  {:<22}verdict",
        "run", "kind", "seed", "size", "M MACs", "validation", "test top-1, int8"
    );
    for run in runs {
        let r = &run.record;
        let figures = Evaluation::of(&run).ok();
        let top1 = figures.as_ref().map_or("not evaluated".into(), |e| e.sets[0].int8.to_string());
        let verdict = figures.and_then(|e| verdict(&run, &e).ok());
        let says = match &verdict {
            None => "not proven yet",
            Some(v) => v.answer.words(),
        };
        let name = run.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!(
            "{name:<20}{:<10}{:>6}{:>6}{:>9.1}{:>12.4}  {top1:<22}{says}",
            r.kind,
            r.seed,
            r.side,
            r.macs as f64 / 1e6,
            r.validation_right
        );
    }
    Ok(())
}

/// Share right of `b` minus that of `a` over the images that both were judged on, paired; and how
/// many there are.
fn paired(a: &[(PathBuf, bool)], b: &[(PathBuf, bool)]) -> (Interval, usize) {
    let held: HashMap<&PathBuf, bool> = a.iter().map(|(p, r)| (p, *r)).collect();
    let both: Vec<f64> =
        b.iter().filter_map(|(p, r)| held.get(p).map(|h| f64::from(u8::from(*r)) - f64::from(u8::from(*h)))).collect();
    let each: Vec<usize> = (0..both.len()).collect();
    let mean = |at: &[usize]| at.iter().map(|&i| both[i]).sum::<f64>() / at.len().max(1) as f64;
    (metrics::bootstrap(&each, 0xc09, mean), both.len())
}

fn compare(a: &Path, b: &Path) -> Result<()> {
    let (ra, rb) = (Run::open(a)?, Run::open(b)?);
    let (ea, eb) = (Evaluation::of(&ra)?, Evaluation::of(&rb)?);
    ensure!(
        ea.evaluator == eb.evaluator,
        "their figures were computed by evaluators {} and {}; evaluate both again",
        ea.evaluator,
        eb.evaluator
    );
    let (fa, fb) = (&ea.sets[0], &eb.sets[0]);
    let (difference, n) = paired(&fa.rights, &fb.rights);
    ensure!(n > 0, "they share no test image; train both on one split (--split)");
    println!("{:<20}{:>24}{:>24}", "", a.display(), b.display());
    for (name, x, y) in [("top-1, int8", fa.int8, fb.int8), ("macro-F1", fa.macro_f1, fb.macro_f1), ("mAP", fa.map, fb.map)]
    {
        println!("{name:<20}{:>24}{:>24}", x.to_string(), y.to_string());
    }
    println!("{:<20}{:>24.1}{:>24.1}", "M multiply-adds", ra.record.macs as f64 / 1e6, rb.record.macs as f64 / 1e6);
    println!("\n{:<20}{:>24}{:>24}", "recall of", "", "");
    for t in &fa.tags {
        let Some(u) = fb.tags.iter().find(|u| u.tag == t.tag) else { continue };
        let show = |r: Option<Interval>| r.map_or("-".into(), |r| r.to_string());
        println!("{:<20}{:>24}{:>24}", t.tag, show(t.recall), show(u.recall));
    }
    println!("\nsecond minus first on {n} images of both: {difference}");
    let same =
        if fa.rights.len() == n && fb.rights.len() == n { "the same test images" } else { "only partly the same images" };
    let says = match difference {
        d if d.low > 0.0 => "the second is better",
        d if d.high < 0.0 => "the first is better",
        _ => "no difference can be told",
    };
    println!("{says} ({same})");
    Ok(())
}

/// The model published before, on the test images of this run that it was not trained on and that
/// did not choose it. None where its run is no longer there, is another by now, or is of other
/// tags: then what was recorded of it counts.
fn judged_again(before: &Published, run: &Run) -> Option<Vec<(PathBuf, bool)>> {
    let old = Run::open(&before.run).ok()?;
    let same = crate::data::hex_hash(&old.int8().ok()?) == before.graph_sha256;
    if !same || old.split.dataset.tags != run.split.dataset.tags || old.split.dataset.task != run.split.dataset.task {
        return None;
    }
    let seen = [Side::Train, Side::Validation].map(|s| old.split.entries(s)).concat();
    let seen: HashSet<&str> = seen.iter().map(|e| e.sha256.as_str()).collect();
    let mut entries = run.split.entries(Side::Test);
    entries.retain(|e| !seen.contains(e.sha256.as_str()));
    let judged = Judged::of(&old, run.split.dataset.root.clone(), entries, false).ok()?;
    let task = old.split.dataset.task;
    let scores = predict::scores(task, &judged.int8, Decision::of(&old).ok()?.temperature());
    let rights = metrics::rights(&predict::probabilities(&scores), &judged.truth(), task, 0.5);
    Some(judged.entries.into_iter().map(|e| e.path).zip(rights).collect())
}

fn publish(args: &Publish) -> Result<ExitCode> {
    let run = Run::open(&args.run)?;
    let e = Evaluation::of(&run)?;
    let path = args.out.with_extension("published.json");
    let mut history: Vec<Published> = if path.exists() { read_json(&path, "runs publish")? } else { Vec::new() };
    let f = &e.sets[0];
    let before = history.last().and_then(|before| {
        let again = judged_again(before, &run);
        let (difference, n) = paired(again.as_deref().unwrap_or(&before.rights), &f.rights);
        if n > 0 && difference.value <= 0.0 {
            return Some(Objection::Paired { run: before.run.clone(), difference, images: n });
        }
        let worse = n == 0 && f.int8.value <= before.top1.value;
        worse.then_some(Objection::Published { before: before.top1, int8: f.int8 })
    });
    let verdict = verdict(&run, &e)?.and(before);
    if verdict.answer != Answer::Ship && args.force.is_none() {
        eprintln!(
            "{} is not published: {}; --force \"REASON\" publishes it all the same",
            args.run.display(),
            verdict.line()
        );
        verdict.against.iter().for_each(|o| eprintln!("  {o}\n    do: {}", o.mend()));
        return Ok(ExitCode::from(verdict.answer.exit_code()));
    }
    ensure!(
        args.force.as_deref().is_none_or(|r| !r.trim().is_empty()),
        "--force needs a reason, which goes into the record"
    );
    // A bundle that was published by this command is replaced by a better one; any other only by
    // force.
    let ours = !history.is_empty();
    pack::pack_run(&run, &args.out, args.force.is_some() || ours, &RoleFlags::default())?;
    history.push(Published {
        run: args.run.clone(),
        at: run_folder::now(),
        graph_sha256: crate::data::hex_hash(&run.int8()?),
        top1: f.int8,
        forced: args.force.clone(),
        against: verdict.against,
        rights: f.rights.clone(),
    });
    run_folder::write_json(&path, &history)?;
    verdict.cautions.iter().for_each(|c| println!("note: {c}"));
    Ok(ExitCode::SUCCESS)
}

fn say(folder: &Path, json: bool) -> Result<ExitCode> {
    let run = Run::open(folder)?;
    let verdict = verdict(&run, &Evaluation::of(&run)?)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&verdict)?),
        false => verdict.print(),
    }
    Ok(ExitCode::from(verdict.answer.exit_code()))
}

/// Runs the subcommand.
pub fn run(args: &Runs) -> Result<ExitCode> {
    match &args.command {
        Command::List { folder } => list(folder).map(|()| ExitCode::SUCCESS),
        Command::Compare { a, b } => compare(a, b).map(|()| ExitCode::SUCCESS),
        Command::Verdict { run, json } => say(run, *json),
        Command::Publish(p) => publish(p),
    }
}
