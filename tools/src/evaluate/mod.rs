//! Measures a run on images it never saw: int8 by the runtime's own engine, with float and the
//! baselines for comparison.
//!
//! The model and its thresholds stay as they are; figures go to `evaluation.json`.

mod heat;
pub mod line;
mod scores;
pub mod shifts;
pub mod slices;
mod tables;
mod unfit;

pub use heat::HeatMap;
pub use tables::text;

use crate::baseline::{self, Tagged};
use crate::data::{self, TaskName, check, split::Side};
use crate::decision::{self, Decision};
use crate::distance;
use crate::judged::Judged;
use crate::latency::Latency;
use crate::looks;
use crate::metrics::{self, Counts, CurvePoint, Interval};
use crate::predict::{self, Int8};
use crate::run::{EVALUATOR, Run};
use crate::run_folder;
use crate::train::folds::Folds;
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tagpin::decide::{self, Verdict};
use tagpin::head::Score;

/// Evaluate a quantised run on its test images.
#[derive(clap::Args, Clone, Debug)]
pub struct Evaluate {
    /// Run folder; `evaluation.json` is written into it.
    pub run: PathBuf,
    #[command(flatten)]
    pub options: Options,
}

/// What to evaluate.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// A further held-out set: a name and a folder of tagged folders; may be repeated.
    #[arg(long = "also", value_name = "NAME=FOLDER")]
    pub also: Vec<String>,
    /// A tag whose images are not counted in top-1.
    #[arg(long)]
    pub ignore: Option<String>,
    /// Folder of images of none of the tags: how many does the model take for one?
    #[arg(long, value_name = "FOLDER")]
    pub unseen: Option<PathBuf>,
    /// Test images that are changed in six ways and three strengths; 0 for none.
    #[arg(long, default_value_t = 60)]
    pub shifted: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { also: Vec::new(), ignore: None, unseen: None, shifted: 60 }
    }
}

/// One tag's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagFigures {
    /// The tag.
    pub tag: String,
    /// Images of it that were trained on.
    pub train: usize,
    /// Images of it here.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Precision, TP / (TP + FP), of the top tag; `None` if nothing was predicted as this tag.
    pub precision: Option<f64>,
    /// Recall, TP / (TP + FN), with its interval; `None` if no image is of this tag.
    pub recall: Option<Interval>,
    /// Average precision; `None` if no image is of this tag.
    pub ap: Option<f64>,
    /// The threshold on the device.
    pub threshold: f32,
    /// Precision of what passes the threshold.
    pub precision_at: Option<f64>,
    /// Recall of what passes the threshold.
    pub recall_at: Option<f64>,
    /// The counts behind both.
    pub at: Counts,
    /// Precision against recall, at most 100 points.
    pub curve: Vec<CurvePoint>,
}

/// What the device decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Images.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// A tag holds, and it is the right one (multilabel: exactly the right ones).
    pub right: usize,
    /// A tag holds that is wrong.
    pub wrong: usize,
    /// For a person to look at.
    pub review: usize,
    /// No tag is sure enough.
    pub unknown: usize,
    /// Beyond the distance limit.
    #[serde(default)]
    pub foreign: usize,
}

/// An image that was judged wrongly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mistake {
    /// The file.
    pub path: PathBuf,
    /// What somebody tagged it.
    pub tagged: Vec<String>,
    /// What the model says.
    #[serde(alias = "called")]
    pub predicted: Vec<String>,
    /// The score of what it says.
    pub score: f32,
    /// The score of what it is tagged.
    pub score_of_tag: f32,
    /// Where in the image what was wrongly said comes from, for the worst mistakes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatMap>,
}

/// A changed copy of test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shifted {
    /// What was changed and how far.
    pub name: String,
    /// 1 weakest, 3 strongest; 0 unchanged.
    pub strength: usize,
    /// Share right.
    pub right: f64,
    /// What the thresholds make of it.
    pub decided: Decided,
    /// Share right minus that of the unchanged images, paired.
    pub change: Interval,
    /// Whether images of the run's domain may look so.
    pub within: bool,
}

/// Images that show none of the tags.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invalid {
    /// What they are.
    pub name: String,
    /// How many.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// For how many a tag holds: what the thresholds let through.
    pub accepted: usize,
    /// How many the device would accept as a good part. An image out of focus counts only if it is
    /// accepted as a tag that it is not of.
    pub passes: usize,
    /// Highest score of any tag.
    pub highest: f32,
    /// The tag of that score.
    pub tag: String,
}

/// One held-out set's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetFigures {
    /// Its name.
    pub name: String,
    /// Hash of its images.
    pub dataset_sha256: String,
    /// Images counted in top-1.
    pub counted: usize,
    /// Share right in int8: the top tag, or exactly the right tags.
    pub int8: Interval,
    /// Share right in f32.
    pub float: Interval,
    /// int8 minus float, paired over the same images.
    pub difference: Interval,
    /// Mean F1 over tags, int8.
    pub macro_f1: Interval,
    /// Mean average precision over tags, int8.
    pub map: Interval,
    /// Expected calibration error before and after the temperature, int8.
    pub ece: [f64; 2],
    /// Confidence bins after the temperature: images, confidence, share right.
    pub reliability: Vec<(usize, f64, f64)>,
    /// Share right by each baseline.
    pub baselines: Vec<(String, f64)>,
    /// Per tag, int8.
    pub tags: Vec<TagFigures>,
    /// True tag by predicted tag, multiclass only.
    pub confusion: Vec<Vec<usize>>,
    /// What the device decides.
    pub decided: Decided,
    /// Judged wrongly, surest first; at most 60.
    pub mistakes: Vec<Mistake>,
    /// `[images]`: file, and whether int8 is right. For comparing runs image by image.
    pub rights: Vec<(PathBuf, bool)>,
}

/// Figures over the folds of a run's data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pooled {
    /// Parts that the data was cut into.
    pub folds: usize,
    /// Images judged.
    pub images: usize,
    /// Share right: the top tag, or exactly the right tags.
    pub right: Interval,
    /// Per tag, at the thresholds, in the order of logits.
    pub tags: Vec<Counts>,
}

/// All figures of a run: `evaluation.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Version of what computes figures.
    pub evaluator: u32,
    /// What was asked for.
    pub options: Options,
    /// Hash of the int8 network and the decision that the figures are of.
    pub state: String,
    /// How often test images of this split were looked at, by all runs that are known.
    pub looks: u32,
    /// The test side first, then further sets.
    pub sets: Vec<SetFigures>,
    /// Parts of the test side, worst first.
    pub slices: Vec<slices::Slice>,
    /// Changed test images; the unchanged ones first.
    pub shifted: Vec<Shifted>,
    /// Images of none of the tags.
    pub invalid: Vec<Invalid>,
    /// What a sorting line would see.
    pub line: line::Line,
    /// All images, each judged by a head that was not fitted to it; none where nothing of the kind
    /// was made.
    pub pooled: Option<Pooled>,
    /// How long an image takes on the machine that evaluated.
    pub latency: Latency,
    /// Images of validation and test whose tag the model doubts most: perhaps tagged wrongly.
    pub suspects: Vec<Mistake>,
}

impl Evaluation {
    /// Reads a run's figures.
    pub fn of(run: &Run) -> Result<Self> {
        let evaluation = Self::in_folder(run.folder())?;
        run.refuse_stale(&evaluation.state, "evaluation.json", "evaluate")?;
        Ok(evaluation)
    }

    /// Reads the figures of the run in a folder.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let make = format!("evaluate {}", folder.display());
        let evaluation: Self = run_folder::read_json(&folder.join("evaluation.json"), &make)?;
        ensure!(!evaluation.sets.is_empty(), "evaluation.json holds no figures; run `{make}` again");
        Ok(evaluation)
    }
}

/// Seed of the bootstrap intervals.
const SEED: u64 = 0x7a9;

/// What all figures of a run are computed with.
struct Judge<'a> {
    run: &'a Run,
    decision: Decision,
    /// As the device has it.
    network: Int8,
    task: TaskName,
    tags: &'a [String],
}

impl<'a> Judge<'a> {
    fn new(run: &'a Run) -> Result<Self> {
        let data = &run.split.dataset;
        Ok(Self { run, decision: Decision::of(run)?, network: distance::network(run)?, task: data.task, tags: &data.tags })
    }

    fn scores(&self, int8: &[Vec<i32>]) -> Vec<Vec<f32>> {
        predict::probabilities(&predict::scores(self.task, int8, self.decision.temperature()))
    }

    /// What the device decides.
    fn decided(&self, scores: &[Vec<Score>], beyond: &[bool]) -> Result<Vec<decide::Decision>> {
        self.decision.decide(self.task, &self.run.roles(), scores, beyond)
    }

    /// Counts the device's decisions by outcome.
    fn tally(&self, int8: &[Vec<i32>], beyond: &[bool], truth: &[Vec<usize>]) -> Result<Decided> {
        let scores = predict::scores(self.task, int8, self.decision.temperature());
        let decisions = self.decided(&scores, beyond)?;
        let mut d = Decided { images: truth.len(), ..Decided::default() };
        for (decision, t) in decisions.iter().zip(truth) {
            match decision.verdict {
                Verdict::Present if decision::predicted(self.task, decision) == *t => d.right += 1,
                Verdict::Present => d.wrong += 1,
                Verdict::Review => d.review += 1,
                Verdict::Foreign => d.foreign += 1,
                // Nothing holds and nothing should: a multilabel image without tags.
                _ if t.is_empty() => d.right += 1,
                _ => d.unknown += 1,
            }
        }
        Ok(d)
    }

    fn names(&self, tags: &[usize]) -> Vec<String> {
        tags.iter().map(|&t| self.tags[t].clone()).collect()
    }

    /// Images judged wrongly, those with the surest wrong score first.
    fn mistakes(&self, judged: &Judged, scores: &[Vec<f32>]) -> Vec<Mistake> {
        let predictions = metrics::predictions(scores, self.task);
        let mut all: Vec<(f32, Mistake)> = (0..scores.len())
            .filter(|&i| predictions[i] != judged.entries[i].tags)
            .map(|i| {
                let (s, of) = (&scores[i], &judged.entries[i].tags);
                // The tag it is surest of among those that are not there; for a missed tag, the
                // doubt in it.
                let wrong = predictions[i].iter().filter(|t| !of.contains(t)).map(|&t| s[t]).fold(0.0, f32::max);
                let missed = of.iter().filter(|t| !predictions[i].contains(t)).map(|&t| 1.0 - s[t]).fold(0.0, f32::max);
                let mistake = Mistake {
                    path: judged.root.join(&judged.entries[i].path),
                    tagged: self.names(of),
                    predicted: self.names(&predictions[i]),
                    score: predictions[i].iter().map(|&t| s[t]).fold(0.0, f32::max),
                    score_of_tag: of.iter().map(|&t| s[t]).fold(1.0, f32::min),
                    heat: None,
                };
                (wrong.max(missed), mistake)
            })
            .collect();
        all.sort_by(|(sure, a), (other, b)| other.total_cmp(sure).then(a.path.cmp(&b.path)));
        all.into_iter().map(|(_, mistake)| mistake).collect()
    }
}

/// Figures of one set.
fn figures(
    c: &Judge<'_>,
    name: &str,
    judged: &Judged,
    clusters: &[usize],
    train: &Tagged<'_>,
    ignore: Option<usize>,
) -> Result<SetFigures> {
    let (task, n) = (c.task, c.tags.len());
    let truth = judged.truth();
    let plain = predict::probabilities(&predict::scores(task, &judged.int8, predict::q16(1.0)));
    let scores = c.scores(&judged.int8);
    let float = predict::probabilities(&predict::scores(task, &predict::fixed(&judged.float)?, c.decision.temperature()));
    let (int8_right, float_right) =
        (metrics::rights(&scores, &truth, task, 0.5), metrics::rights(&float, &truth, task, 0.5));
    let counted: Vec<usize> = (0..truth.len()).filter(|&i| ignore.is_none_or(|t| !truth[i].contains(&t))).collect();
    ensure!(!counted.is_empty(), "{name}: there are no images to count");
    let of_counted: Vec<usize> = counted.iter().map(|&i| clusters[i]).collect();
    let share =
        |right: &[bool], at: &[usize]| at.iter().filter(|&&k| right[counted[k]]).count() as f64 / at.len().max(1) as f64;
    let predictions = metrics::predictions(&scores, task);
    let test = Tagged { rgb: &judged.images(), truth: &truth };
    let baselines = baseline::all(train, &test, n, task, c.run.graph.side)?;
    let decisions = c.decided(&predict::scores(task, &judged.int8, c.decision.temperature()), &judged.beyond)?;
    let passed: Vec<Vec<usize>> = decisions.iter().map(|d| decision::predicted(task, d)).collect();
    let tag = |t: usize| {
        let (whole, at): (Counts, Counts) = (metrics::counts(&predictions, &truth, t), metrics::counts(&passed, &truth, t));
        let curve = metrics::curve(&scores, &truth, t);
        TagFigures {
            tag: c.tags[t].clone(),
            train: train.truth.iter().filter(|of| of.contains(&t)).count(),
            images: whole.positives(),
            precision: whole.precision(),
            recall: whole.recall().map(|_| metrics::wilson(whole.true_positives, whole.positives())),
            ap: metrics::average_precision(&curve),
            threshold: c.decision.rules[t].threshold,
            precision_at: at.precision(),
            recall_at: at.recall(),
            at,
            curve: thin(&curve, 100),
        }
    };
    let mut confusion = Vec::new();
    if task == TaskName::Multiclass {
        confusion = vec![vec![0; n]; n];
        truth.iter().zip(&predictions).for_each(|(t, c)| confusion[t[0]][c[0]] += 1);
    }
    let interval = |f: &(dyn Fn(&[usize]) -> f64 + Sync)| metrics::bootstrap(&of_counted, SEED, f);
    let mut mistakes = c.mistakes(judged, &scores);
    mistakes.truncate(60);
    let reliability = metrics::reliability(&scores, &truth, task);
    Ok(SetFigures {
        name: name.into(),
        dataset_sha256: data::hex_hash(judged.entries.iter().map(|e| e.sha256.as_str()).collect::<String>().as_bytes()),
        counted: counted.len(),
        int8: interval(&|at| share(&int8_right, at)),
        float: interval(&|at| share(&float_right, at)),
        difference: interval(&|at| share(&int8_right, at) - share(&float_right, at)),
        macro_f1: interval(&|at| metrics::macro_f1(&pick(&predictions, &counted, at), &pick(&truth, &counted, at), n)),
        map: interval(&|at| metrics::mean_average_precision(&pick(&scores, &counted, at), &pick(&truth, &counted, at), n)),
        ece: [metrics::ece(&metrics::reliability(&plain, &truth, task)), metrics::ece(&reliability)],
        reliability,
        baselines: baselines
            .into_iter()
            .map(|b| (b.name.into(), counted.iter().filter(|&&i| b.rights[i]).count() as f64 / counted.len() as f64))
            .collect(),
        tags: (0..n).map(tag).collect(),
        confusion,
        decided: c.tally(&judged.int8, &judged.beyond, &truth)?,
        mistakes,
        rights: judged.entries.iter().zip(&int8_right).map(|(e, r)| (e.path.clone(), *r)).collect(),
    })
}

/// The entries of `all` for the counted images that were drawn.
fn pick<T: Clone>(all: &[T], counted: &[usize], drawn: &[usize]) -> Vec<T> {
    drawn.iter().map(|&k| all[counted[k]].clone()).collect()
}

/// At most `most` points of a curve, its ends included.
fn thin(curve: &[CurvePoint], most: usize) -> Vec<CurvePoint> {
    if curve.len() <= most {
        return curve.to_vec();
    }
    (0..most).map(|i| curve[i * (curve.len() - 1) / (most - 1)]).collect()
}

fn shifted(c: &Judge<'_>, judged: &Judged, most: usize) -> Result<Vec<Shifted>> {
    let chosen: Vec<usize> = data::spread(judged.rgb.len(), most).collect();
    let truth: Vec<Vec<usize>> = chosen.iter().map(|&i| judged.entries[i].tags.clone()).collect();
    let side = c.run.graph.side;
    let domain = c.run.record.domain.augment();
    let rights = |int8: &[Vec<i32>]| metrics::rights(&c.scores(int8), &truth, c.task, 0.5);
    let own = predict::Seen {
        logits: chosen.iter().map(|&i| judged.int8[i].clone()).collect(),
        beyond: chosen.iter().map(|&i| judged.beyond[i]).collect(),
    };
    let before = rights(&own.logits);
    let judge = |name: String, strength: usize, within: bool, seen: &predict::Seen| -> Result<Shifted> {
        let now = rights(&seen.logits);
        let count = |of: &dyn Fn(bool, bool) -> bool| before.iter().zip(&now).filter(|(b, n)| of(**b, **n)).count();
        let change = metrics::paired(count(&|b, n| b && !n), count(&|b, n| n && !b), now.len(), 1);
        let right = count(&|_, n| n) as f64 / now.len().max(1) as f64;
        Ok(Shifted { name, strength, right, decided: c.tally(&seen.logits, &seen.beyond, &truth)?, change, within })
    };
    let mut all = vec![judge("as it is".into(), 0, true, &own)?];
    for shift in &shifts::Shift::ALL {
        for (i, &strength) in shift.strengths.iter().enumerate() {
            let change = |&i: &usize| shift.apply(&judged.rgb[i], side, strength);
            let changed: Vec<Vec<u8>> = chosen.par_iter().map(change).collect::<Result<_>>()?;
            let name = format!("{} {strength} {}", shift.name, shift.unit);
            all.push(judge(name, i + 1, shift.within(strength, &domain), &predict::see(&c.network, &changed)?)?);
        }
    }
    Ok(all)
}

/// Figures over the folds that `train` kept, on images that chose no threshold.
struct Folded {
    figures: Pooled,
    decisions: Vec<decide::Decision>,
    truth: Vec<Vec<usize>>,
}

fn pooled(c: &Judge<'_>, validation: &Judged, test: &Judged) -> Result<Option<Folded>> {
    let Some(folds) = Folds::of(c.run)? else { return Ok(None) };
    let split = &c.run.split;
    let fresh: Vec<usize> = (0..split.sides.len()).filter(|&i| !c.decision.chosen_on.contains(&split.sides[i])).collect();
    let truth: Vec<Vec<usize>> = fresh.iter().map(|&i| split.dataset.entries[i].tags.clone()).collect();
    let logits: Vec<Vec<f32>> = fresh.iter().map(|&i| folds.logits[i].clone()).collect();
    let scores = predict::scores(c.task, &predict::fixed(&logits)?, c.decision.temperature());
    let beyond = distance::beyond(c.run, &validation.beyond, &test.beyond)?;
    let decisions = c.decided(&scores, &fresh.iter().map(|&i| beyond[i]).collect::<Vec<_>>())?;
    let passed: Vec<Vec<usize>> = decisions.iter().map(|d| decision::predicted(c.task, d)).collect();
    let right = metrics::rights(&predict::probabilities(&scores), &truth, c.task, 0.5);
    let figures = Pooled {
        folds: folds.folds,
        images: fresh.len(),
        right: metrics::wilson(right.iter().filter(|r| **r).count(), right.len()),
        tags: (0..c.tags.len()).map(|t| metrics::counts(&passed, &truth, t)).collect(),
    };
    Ok(Some(Folded { figures, decisions, truth }))
}

/// Reads and judges a held-out set given with --also.
fn further_set(run: &Run, name: &str, folder: &Path) -> Result<Judged> {
    let checked = check::check(folder, Some(run.split.dataset.task), None, true)?;
    let own = &run.split.dataset.tags;
    ensure!(
        checked.dataset.tags == *own,
        "{name}: {} has tags {:?}, the run {own:?}",
        folder.display(),
        checked.dataset.tags
    );
    let known: std::collections::HashSet<&str> = run.split.dataset.entries.iter().map(|e| e.sha256.as_str()).collect();
    if let Some(leak) = checked.dataset.entries.iter().find(|e| known.contains(e.sha256.as_str())) {
        bail!("{}: {} is also in the split; remove it from one of them", name, leak.path.display());
    }
    Judged::of(run, checked.dataset.root, checked.dataset.entries, true)
}

/// Evaluates a run whose validation and test images were judged, and writes `evaluation.json`.
pub fn evaluate(run: &Run, validation: &Judged, test: &Judged, options: &Options) -> Result<Evaluation> {
    let c = Judge::new(run)?;
    let path = run.file("evaluation.json");
    let ignore = match &options.ignore {
        None => None,
        Some(tag) => {
            Some(c.tags.iter().position(|t| t == tag).with_context(|| format!("--ignore {tag}: the run has {:?}", c.tags))?)
        }
    };
    let train_entries = run.split.entries(Side::Train);
    let train_rgb = data::load(&run.split.dataset.root, &train_entries, run.target()?)?;
    let train_truth: Vec<Vec<usize>> = train_entries.iter().map(|e| e.tags.clone()).collect();
    let train_refs: Vec<&[u8]> = train_rgb.iter().map(Vec::as_slice).collect();
    let train = Tagged { rgb: &train_refs, truth: &train_truth };
    let clusters: Vec<usize> = {
        let of = run.split.sides.iter().zip(&run.split.clusters).filter(|(s, _)| **s == Side::Test);
        of.map(|(_, c)| *c).collect()
    };
    let mut sets = vec![figures(&c, "test", test, &clusters, &train, ignore)?];
    heat::add(&c, test, &mut sets[0].mistakes)?;
    let mut further = Vec::new();
    for also in &options.also {
        let (name, folder) = also.split_once('=').with_context(|| format!("--also {also}: expected NAME=FOLDER"))?;
        let judged = further_set(run, name, folder.as_ref())?;
        let each: Vec<usize> = (0..judged.entries.len()).collect();
        sets.push(figures(&c, name, &judged, &each, &train, ignore)?);
        further.push((name.to_string(), judged));
    }
    let mut suspects = c.mistakes(validation, &c.scores(&validation.int8));
    suspects.extend(c.mistakes(test, &c.scores(&test.int8)));
    suspects.retain(|m| m.score > 0.8 && m.score_of_tag < 0.1);
    suspects.sort_by(|a, b| a.score_of_tag.total_cmp(&b.score_of_tag).then(a.path.cmp(&b.path)));
    suspects.truncate(24);
    let rights = metrics::rights(&c.scores(&test.int8), &test.truth(), c.task, 0.5);
    let folded = pooled(&c, validation, test)?;
    let evaluation = Evaluation {
        evaluator: EVALUATOR,
        options: options.clone(),
        state: run.state()?,
        looks: looks::another(run)?,
        sets,
        slices: slices::slices(test, &rights, run.graph.side),
        shifted: shifted(&c, test, options.shifted)?,
        invalid: unfit::invalid(&c, test, options.unseen.as_deref())?,
        line: line::line(&c, test, folded.as_ref().map(|f| (f.decisions.as_slice(), f.truth.as_slice())))?,
        pooled: folded.map(|f| f.figures),
        latency: Latency::of(&run.int8()?)?,
        suspects,
    };
    let sides = [("validation", validation), ("test", test)].into_iter();
    let further = further.iter().map(|(name, judged)| (name.as_str(), judged));
    run_folder::write_file(&run.file("scores.csv"), &scores::csv(&c, sides.chain(further))?)?;
    run_folder::write_json(&path, &evaluation)?;
    Ok(evaluation)
}

/// Evaluates a quantised run.
pub fn run(args: &Evaluate) -> Result<()> {
    let run = Run::open(&args.run)?;
    let validation = Judged::int8(&run, Side::Validation)?;
    let test = Judged::both(&run, Side::Test)?;
    let evaluation = evaluate(&run, &validation, &test, &args.options)?;
    print!("{}", text(&evaluation, &run));
    println!("\n{}", run.file("evaluation.json").display());
    Ok(())
}
