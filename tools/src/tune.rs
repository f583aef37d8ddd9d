//! `tune`: per-tag thresholds and review bands for an aim that somebody states, chosen on validation, confirmed on test.
//!
//! Does not change the model. An aim that cannot be met is said, with what can be.

use crate::data::split::Side;
use crate::decision::{Aim, Decision, Rule, StatedAim};
use crate::judged::Judged;
use crate::metrics::{self, Counts, CurvePoint};
use crate::predict;
use crate::run::Run;
use crate::run_folder;
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;

/// Choose thresholds for an aim, on validation pictures.
#[derive(clap::Args, Clone, Debug)]
pub struct Tune {
    /// Quantised run folder; its `decision.json` is replaced.
    pub run: PathBuf,
    /// Least precision of a tag; the threshold is the lowest that reaches it. May stand several times.
    #[arg(long, value_name = "TAG=SHARE")]
    pub min_precision: Vec<String>,
    /// Least recall of a tag; the threshold is the highest that keeps it. May stand several times.
    #[arg(long, value_name = "TAG=SHARE")]
    pub min_recall: Vec<String>,
    /// What a false positive and a false negative cost; the threshold with the least cost. For all tags without an aim of their own.
    #[arg(long, value_name = "fp=1,fn=20")]
    pub cost: Option<String>,
    /// How far below its threshold a tag is shown to a person.
    #[arg(long, default_value_t = 0.0, value_name = "SCORE")]
    pub review: f32,
    /// Back to 0.5 throughout.
    #[arg(long, conflicts_with_all = ["min_precision", "min_recall", "cost"])]
    pub reset: bool,
}

impl Aim {
    /// The threshold that serves it, or what can be reached instead. `curve`: thresholds falling; `pictures`: without the tag.
    fn threshold(&self, curve: &[CurvePoint], positives: usize, negatives: usize) -> Result<f32, String> {
        let all = |p: &CurvePoint| {
            let true_positives = (p.recall as f64 * positives as f64).round();
            let predicted = if p.precision > 0.0 { true_positives / p.precision as f64 } else { 0.0 };
            (true_positives, (predicted - true_positives).round().min(negatives as f64))
        };
        match self {
            // The curve's last point that is precise enough: most recall.
            Self::Precision(least) => {
                let found = curve.iter().rev().find(|p| p.precision as f64 >= *least && p.recall > 0.0);
                found.map(|p| p.threshold).ok_or_else(|| {
                    let best = curve.iter().map(|p| p.precision).fold(0.0, f32::max);
                    format!("precision {least} can't be met: {best:.3} is the most on validation")
                })
            }
            // The curve's first point that finds enough: most precision.
            Self::Recall(least) => curve
                .iter()
                .find(|p| p.recall as f64 >= *least)
                .map(|p| p.threshold)
                .ok_or_else(|| format!("recall {least} can't be met: there are no validation pictures of it")),
            Self::Cost { false_positive, false_negative } => {
                let cost = |p: &CurvePoint| {
                    let (true_positives, false_positives) = all(p);
                    false_positives * false_positive + (positives as f64 - true_positives) * false_negative
                };
                let best = curve.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
                best.map(|p| p.threshold).ok_or_else(|| "there are no validation pictures of it".into())
            }
        }
    }
}

fn aims(args: &Tune, tags: &[String]) -> Result<Vec<Option<Aim>>> {
    let mut aims: Vec<Option<Aim>> = tags.iter().map(|_| None).collect();
    let mut set = |flag: &str, text: &str, aim: fn(f64) -> Aim| -> Result<()> {
        let (tag, share) = text.rsplit_once('=').with_context(|| format!("--{flag} {text}: expected TAG=SHARE"))?;
        let share: f64 = share
            .parse()
            .ok()
            .filter(|s| (0.0..=1.0).contains(s))
            .with_context(|| format!("--{flag} {text}: expected a share between 0 and 1 after the tag"))?;
        let at = tags.iter().position(|t| t == tag).with_context(|| format!("--{flag} {tag}: the run has {tags:?}"))?;
        ensure!(aims[at].is_none(), "tag \"{tag}\" has two aims; give it one");
        aims[at] = Some(aim(share));
        Ok(())
    };
    args.min_precision.iter().try_for_each(|t| set("min-precision", t, Aim::Precision))?;
    args.min_recall.iter().try_for_each(|t| set("min-recall", t, Aim::Recall))?;
    if let Some(text) = &args.cost {
        let (mut false_positive, mut false_negative) = (None, None);
        for part in text.split(',') {
            let number = |v: &str| v.parse::<f64>().ok().filter(|v| *v >= 0.0 && v.is_finite());
            match part.split_once('=').map(|(k, v)| (k.trim(), number(v))) {
                Some(("fp", Some(v))) => false_positive = Some(v),
                Some(("fn", Some(v))) => false_negative = Some(v),
                _ => bail!("--cost {text}: expected fp=NUMBER,fn=NUMBER"),
            }
        }
        let (Some(false_positive), Some(false_negative)) = (false_positive, false_negative) else {
            bail!("--cost {text}: expected fp and fn")
        };
        aims.iter_mut().filter(|a| a.is_none()).for_each(|a| *a = Some(Aim::Cost { false_positive, false_negative }));
    }
    Ok(aims)
}

/// Scores and tags of each picture.
type Scored = (Vec<Vec<f32>>, Vec<Vec<usize>>);

/// Tunes, shows the curve round each threshold, confirms on test and writes.
pub fn run(args: &Tune) -> Result<()> {
    let run = Run::open(&args.run)?;
    ensure!((0.0..1.0).contains(&args.review), "--review {}: expected 0 to 1", args.review);
    let tags = &run.split.dataset.tags;
    let task = run.split.dataset.task;
    let aims = aims(args, tags)?;
    ensure!(
        args.reset || args.review > 0.0 || aims.iter().any(Option::is_some),
        "state an aim: --min-precision TAG=0.99, --min-recall TAG=0.95, --cost fp=1,fn=20, or --review 0.2"
    );
    let before = Decision::of(&run)?;
    let mut decision = Decision::plain(tags, before.temperature);
    let temperature = decision.temperature();
    let score = |side: Side| -> Result<Scored> {
        let judged = Judged::int8(&run, side)?;
        let scores = predict::probabilities(&predict::scores(task, &judged.int8, temperature));
        Ok((scores, judged.truth()))
    };
    let (scores, truth) = score(Side::Validation)?;
    let mut missed = Vec::new();
    for (t, aim) in aims.iter().enumerate() {
        let Some(aim) = aim else { continue };
        let curve = metrics::curve(&scores, &truth, t);
        let positives = truth.iter().filter(|of| of.contains(&t)).count();
        match aim.threshold(&curve, positives, truth.len() - positives) {
            Ok(threshold) => {
                decision.rules[t].threshold = between(&scores, t, threshold);
                decision.aims.push(StatedAim { tag: tags[t].clone(), aim: *aim, met: true });
                plot(&tags[t], &curve, threshold);
            }
            Err(why) => {
                decision.aims.push(StatedAim { tag: tags[t].clone(), aim: *aim, met: false });
                missed.push(format!("tag \"{}\": {why}; it keeps 0.5", tags[t]));
            }
        }
    }
    for Rule { threshold, review_low, .. } in &mut decision.rules {
        *review_low = (*threshold - args.review).max(0.0);
    }
    let test = score(Side::Test)?;
    println!(
        "\n{:<18}{:>10}{:>9} |{:>22}{:>10} |{:>16}{:>10}",
        "tag", "threshold", "review", "validation precision", "recall", "test precision", "recall"
    );
    for (t, rule) in decision.rules.iter().enumerate() {
        let at = |(scores, truth): (&[Vec<f32>], &[Vec<usize>])| -> Counts {
            let predictions: Vec<Vec<usize>> =
                scores.iter().map(|s| if s[t] >= rule.threshold { vec![t] } else { Vec::new() }).collect();
            metrics::counts(&predictions, truth, t)
        };
        let (v, e) = (at((&scores, &truth)), at((&test.0, &test.1)));
        println!(
            "{:<18}{:>10.3}{:>9.3} |{:>22}{:>10} |{:>16}{:>10}",
            rule.tag,
            rule.threshold,
            rule.review_low,
            metrics::show(v.precision()),
            metrics::show(v.recall()),
            metrics::show(e.precision()),
            metrics::show(e.recall())
        );
    }
    run_folder::write_json(&run.file("decision.json"), &decision)?;
    println!("\n{}", run.file("decision.json").display());
    missed.iter().for_each(|m| eprintln!("warning: {m}"));
    Ok(())
}

/// A threshold half way down to the next lower score: a score that differs by a rounding step is not another decision.
fn between(scores: &[Vec<f32>], tag: usize, threshold: f32) -> f32 {
    let below = scores.iter().map(|s| s[tag]).filter(|s| *s < threshold).fold(0.0, f32::max);
    (threshold + below) / 2.0
}

/// Precision and recall along the scores, with the chosen threshold marked.
fn plot(tag: &str, curve: &[CurvePoint], chosen: f32) {
    println!("\n{tag}: precision P and recall R by threshold, chosen *");
    for line in (0..=10).rev() {
        let threshold = line as f32 / 10.0;
        let Some(p) = curve.iter().rev().find(|p| p.threshold >= threshold) else { continue };
        let mut row = [b' '; 51];
        row[(p.recall * 50.0) as usize] = b'R';
        row[(p.precision * 50.0) as usize] = b'P';
        let mark = if (chosen * 10.0) as usize == line { '*' } else { ' ' };
        println!("{threshold:>6.1} {mark} |{}|", String::from_utf8_lossy(&row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Vec<CurvePoint> {
        // Ten of the tag among thirty.
        [(0.9, 1.0, 0.5), (0.7, 0.8, 0.8), (0.4, 0.5, 1.0)]
            .map(|(threshold, precision, recall)| CurvePoint { threshold, precision, recall })
            .to_vec()
    }

    #[test]
    fn each_aim_takes_the_point_that_serves_it_or_says_what_can_be_had() {
        let at = |a: Aim| a.threshold(&curve(), 10, 20);
        assert_eq!(at(Aim::Precision(0.8)), Ok(0.7));
        assert_eq!(at(Aim::Precision(0.95)), Ok(0.9));
        assert_eq!(at(Aim::Recall(0.9)), Ok(0.4));
        assert_eq!(at(Aim::Cost { false_positive: 1.0, false_negative: 20.0 }), Ok(0.4));
        assert_eq!(at(Aim::Cost { false_positive: 20.0, false_negative: 1.0 }), Ok(0.9));
        let weak = [CurvePoint { threshold: 0.3, precision: 0.4, recall: 1.0 }];
        assert!(Aim::Precision(0.9).threshold(&weak, 4, 6).unwrap_err().contains("0.400 is the most"));
    }
}
