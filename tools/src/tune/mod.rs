//! `tune`: sets thresholds and review bands per tag, as stated or to meet an aim; confirms them on
//! the test images and makes all figures again. The model stays as it is.
//!
//! Every choice is judged by the device's decision rule. If an aim cannot be met, the message says
//! what can be.

mod choose;

use crate::data::{TaskName, split::Side};
use crate::decision::{self, Aim, Decision, StatedAim};
use crate::demand::{self, By, Demand, Finding, Measure};
use crate::distance;
use crate::evaluate::{self, Evaluation};
use crate::judged::Judged;
use crate::metrics::{self, Counts};
use crate::parity;
use crate::predict::{self, Seen};
use crate::report;
use crate::run::Run;
use crate::run_folder;
use crate::train::folds::Folds;
use anyhow::{Context, Result, bail, ensure};
use choose::Chooser;
use std::path::PathBuf;
use tagpin::decide::Role;
use tagpin::head::Score;

/// State thresholds, or choose them for an aim on images that were not trained on. What is not
/// named stays as it is.
#[derive(clap::Args, Clone, Debug)]
pub struct Tune {
    /// Quantised run folder; its decision, figures and report are made again.
    pub run: PathBuf,
    /// A tag's threshold, outright. May stand several times.
    #[arg(long, value_name = "TAG=SCORE")]
    pub threshold: Vec<String>,
    /// A tag's review band: a person looks at scores from the first up to the second, which is the
    /// threshold. May stand several times.
    #[arg(long, value_name = "TAG=SCORE..SCORE")]
    pub band: Vec<String>,
    /// Least precision of a tag; the threshold is the lowest that reaches it. May stand several
    /// times.
    #[arg(long, value_name = "TAG=SHARE")]
    pub min_precision: Vec<String>,
    /// Least recall of a tag; the threshold is the highest that keeps it. May stand several times.
    #[arg(long, value_name = "TAG=SHARE")]
    pub min_recall: Vec<String>,
    /// What a false positive and a false negative cost; thresholds of least cost for all tags
    /// without a threshold or aim in this command.
    #[arg(long, value_name = "fp=1,fn=20")]
    pub cost: Option<String>,
    /// How far below its threshold every tag without a --band is shown to a person.
    #[arg(long, value_name = "SCORE")]
    pub review: Option<f32>,
    /// First back to 0.5 throughout, without bands and aims.
    #[arg(long)]
    pub reset: bool,
}

/// What one command says of one tag.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Wish {
    threshold: Option<f32>,
    review_low: Option<f32>,
    aim: Option<Aim>,
}

fn number(text: &str, flag: &str, whole: &str) -> Result<f32> {
    let score = text.trim().parse::<f32>().ok().filter(|s| (0.0..=1.0).contains(s));
    score.with_context(|| format!("--{flag} {whole}: expected a number between 0 and 1, found \"{text}\""))
}

/// What the flags say, one wish a tag.
fn wishes(args: &Tune, tags: &[String]) -> Result<Vec<Wish>> {
    let mut wishes = vec![Wish::default(); tags.len()];
    let of = |flag: &str, text: &str| -> Result<(usize, String)> {
        let (tag, rest) = text.rsplit_once('=').with_context(|| format!("--{flag} {text}: expected TAG=NUMBER"))?;
        let at = tags.iter().position(|t| t == tag).with_context(|| format!("--{flag} {tag}: the run has {tags:?}"))?;
        Ok((at, rest.into()))
    };
    for text in &args.threshold {
        let (t, score) = of("threshold", text)?;
        ensure!(wishes[t] == Wish::default(), "tag \"{}\" is given twice; say one thing of it", tags[t]);
        wishes[t].threshold = Some(number(&score, "threshold", text)?);
    }
    for text in &args.band {
        let (t, range) = of("band", text)?;
        ensure!(wishes[t] == Wish::default(), "tag \"{}\" is given twice; say one thing of it", tags[t]);
        let (low, high) = range.split_once("..").with_context(|| format!("--band {text}: expected TAG=LOW..HIGH"))?;
        let (low, high) = (number(low, "band", text)?, number(high, "band", text)?);
        ensure!(low <= high, "--band {text}: {low} lies above {high}");
        (wishes[t].review_low, wishes[t].threshold) = (Some(low), Some(high));
    }
    let precisions = args.min_precision.iter().map(|text| ("min-precision", text, Aim::Precision as fn(f64) -> Aim));
    let recalls = args.min_recall.iter().map(|text| ("min-recall", text, Aim::Recall as fn(f64) -> Aim));
    for (flag, text, aim) in precisions.chain(recalls) {
        let (t, share) = of(flag, text)?;
        ensure!(wishes[t] == Wish::default(), "tag \"{}\" is given twice; say one thing of it", tags[t]);
        number(&share, flag, text)?;
        wishes[t].aim = Some(aim(share.trim().parse()?));
    }
    if let Some(text) = &args.cost {
        let aim = cost(text)?;
        wishes.iter_mut().filter(|w| **w == Wish::default()).for_each(|w| w.aim = Some(aim));
    }
    Ok(wishes)
}

fn cost(text: &str) -> Result<Aim> {
    let (mut false_positive, mut false_negative) = (None, None);
    for part in text.split(',') {
        let number = |v: &str| v.parse::<f64>().ok().filter(|v| *v >= 0.0 && v.is_finite());
        match part.split_once('=').map(|(k, v)| (k.trim(), number(v))) {
            Some(("fp", Some(v))) if false_positive.is_none() => false_positive = Some(v),
            Some(("fn", Some(v))) if false_negative.is_none() => false_negative = Some(v),
            _ => bail!("--cost {text}: expected fp=NUMBER,fn=NUMBER, each once"),
        }
    }
    let (Some(false_positive), Some(false_negative)) = (false_positive, false_negative) else {
        bail!("--cost {text}: expected fp and fn")
    };
    Ok(Aim::Cost { false_positive, false_negative })
}

/// Images that choose: what the network says of them, and the sides that they are of.
struct Choosing {
    seen: Seen,
    truth: Vec<Vec<usize>>,
    sides: Vec<Side>,
}

/// The validation side; where it has fewer than 50 images of a tag that has an aim and the run kept
/// folds, training images too, each judged by a head that was not fitted to it.
fn choosing(run: &Run, wishes: &[Wish]) -> Result<Choosing> {
    let validation = run.split.entries(Side::Validation);
    let few = (0..wishes.len())
        .any(|t| wishes[t].aim.is_some() && validation.iter().filter(|e| e.tags.contains(&t)).count() < demand::TELLING);
    if let (true, Some(folds)) = (few, Folds::of(run)?) {
        let all = &run.split.dataset.entries;
        let beyond = distance::beyond(run, &Judged::int8(run, Side::Validation)?.beyond, &[])?;
        let of: Vec<usize> = (0..all.len()).filter(|&i| run.split.sides[i] != Side::Test).collect();
        let logits: Vec<Vec<f32>> = of.iter().map(|&i| folds.logits[i].clone()).collect();
        let truth = of.iter().map(|&i| all[i].tags.clone()).collect();
        let seen = Seen { logits: predict::fixed(&logits)?, beyond: of.iter().map(|&i| beyond[i]).collect() };
        return Ok(Choosing { seen, truth, sides: vec![Side::Train, Side::Validation] });
    }
    let judged = Judged::int8(run, Side::Validation)?;
    Ok(Choosing {
        truth: judged.truth(),
        seen: Seen { logits: judged.int8, beyond: judged.beyond },
        sides: vec![Side::Validation],
    })
}

/// Tunes, confirms on test, writes, and makes figures and report again.
pub fn run(args: &Tune) -> Result<()> {
    let run = Run::open(&args.run)?;
    let data = &run.split.dataset;
    let wishes = wishes(args, &data.tags)?;
    let review = args.review.filter(|r| !(0.0..1.0).contains(r));
    ensure!(review.is_none(), "--review {}: expected 0 to 1", review.unwrap_or_default());
    ensure!(
        args.reset || args.review.is_some() || wishes.iter().any(|w| *w != Wish::default()),
        "state a threshold or an aim: --threshold TAG=0.7, --band TAG=0.4..0.7, --min-precision TAG=0.99, --min-recall TAG=0.95, \
         --cost fp=1,fn=20, or --review 0.2"
    );
    // Figures are made again as they were asked for.
    let options = Evaluation::in_folder(run.folder()).map(|e| e.options).unwrap_or_default();
    let before = Decision::of(&run)?;
    let mut decision = if args.reset { Decision::plain(&data.tags, before.temperature) } else { before };
    for (rule, wish) in decision.rules.iter_mut().zip(&wishes) {
        let band = rule.threshold - rule.review_low;
        rule.threshold = wish.threshold.unwrap_or(rule.threshold);
        rule.review_low = wish.review_low.unwrap_or((rule.threshold - band).max(0.0));
    }
    let said = |tag: &str| data.tags.iter().zip(&wishes).any(|(t, w)| t == tag && *w != Wish::default());
    decision.aims.retain(|a| !said(&a.tag));
    if wishes.iter().any(|w| w.aim.is_some()) {
        choose(&run, &wishes, &mut decision)?;
    }
    for (rule, wish) in decision.rules.iter_mut().zip(&wishes) {
        if let (Some(review), None) = (args.review, wish.review_low) {
            rule.review_low = (rule.threshold - review).max(0.0);
        }
    }
    run_folder::write_json(&run.file("decision.json"), &decision)?;
    confirm(&run, &decision, &options)
}

/// Chooses thresholds for the aims, and says which images chose.
fn choose(run: &Run, wishes: &[Wish], decision: &mut Decision) -> Result<()> {
    let tags = &run.split.dataset.tags;
    let Choosing { seen, truth, sides } = choosing(run, wishes)?;
    let scores = predict::scores(run.split.dataset.task, &seen.logits, decision.temperature());
    let names: Vec<&str> = sides.iter().map(|s| s.name()).collect();
    let how = if sides.len() > 1 { ", each by a head that was not fitted to it" } else { "" };
    println!("thresholds are chosen on {} {} images{how}", truth.len(), names.join(" and "));
    let mut chooser = Chooser::new(run.split.dataset.task, run.roles(), (scores, seen.beyond), truth, decision);
    chooser.least_cost(wishes.iter().map(|w| w.aim).collect())?;
    for (t, wish) in wishes.iter().enumerate() {
        let aim = match wish.aim {
            None => continue,
            Some(aim @ Aim::Cost { .. }) => {
                decision.aims.push(StatedAim { tag: tags[t].clone(), aim, met: true });
                continue;
            }
            Some(aim) => aim,
        };
        let found = chooser.aim(t, aim)?;
        if let Err(why) = &found {
            eprintln!("warning: tag \"{}\": {why}; its threshold stays", tags[t]);
        }
        decision.aims.push(StatedAim { tag: tags[t].clone(), aim, met: found.is_ok() });
    }
    for (rule, threshold) in decision.rules.iter_mut().zip(chooser.thresholds()) {
        let band = rule.threshold - rule.review_low;
        rule.threshold = threshold;
        rule.review_low = (threshold - band).max(0.0);
    }
    decision.chosen_on.extend(sides);
    decision.chosen_on.sort();
    decision.chosen_on.dedup();
    Ok(())
}

/// Makes figures, parity and report of the new decision, and says of each aim whether test images
/// show it.
fn confirm(run: &Run, decision: &Decision, options: &evaluate::Options) -> Result<()> {
    let validation = Judged::int8(run, Side::Validation)?;
    let test = Judged::both(run, Side::Test)?;
    let task = run.split.dataset.task;
    let of = |judged: &Judged, t: usize| counts(task, &run.roles(), decision, judged, t);
    println!(
        "\n{:<18}{:>10}{:>9} |{:>22}{:>10} |{:>16}{:>10}",
        "tag", "threshold", "review", "validation precision", "recall", "test precision", "recall"
    );
    for (t, rule) in decision.rules.iter().enumerate() {
        let (v, e) = (of(&validation, t)?, of(&test, t)?);
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
    println!();
    for aim in &decision.aims {
        let (measure, least) = match aim.aim {
            Aim::Recall(least) => (Measure::Recall, least),
            Aim::Precision(least) => (Measure::Precision, least),
            Aim::Cost { .. } => continue,
        };
        let t = run.split.dataset.tags.iter().position(|tag| *tag == aim.tag).context("an aim of no tag")?;
        let demand = Demand { tag: aim.tag.clone(), measure, least, by: By::Tune };
        println!("{}", Finding::of(demand, of(&test, t)?));
    }
    evaluate::evaluate(run, &validation, &test, options)?;
    parity::parity(run, &test, &parity::Limits::default())?;
    report::write(run)
}

/// A tag's counts by the device's decision rule.
fn counts(task: TaskName, roles: &[Role], decision: &Decision, judged: &Judged, tag: usize) -> Result<Counts> {
    let scores: Vec<Vec<Score>> = predict::scores(task, &judged.int8, decision.temperature());
    let decided = decision.decide(task, roles, &scores, &judged.beyond)?;
    let predicted: Vec<Vec<usize>> = decided.iter().map(|d| decision::predicted(task, d)).collect();
    Ok(metrics::counts(&predicted, &judged.truth(), tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tune: Tune,
    }

    fn said(flags: &str) -> Result<Vec<Wish>> {
        let line = Line::parse_from(["tune", "run"].into_iter().chain(flags.split_whitespace()));
        wishes(&line.tune, &["nut", "a=b"].map(String::from))
    }

    #[test]
    fn flags_say_one_thing_of_each_tag_and_what_they_say_wrongly_is_refused() {
        let all = said("--threshold nut=0.3 --band a=b=0.4..0.7").unwrap();
        assert_eq!(all[0], Wish { threshold: Some(0.3), ..Wish::default() });
        assert_eq!(all[1], Wish { threshold: Some(0.7), review_low: Some(0.4), aim: None });
        let cost = Some(Aim::Cost { false_positive: 1.0, false_negative: 20.0 });
        assert_eq!(said("--threshold nut=0.3 --cost fp=1,fn=20").unwrap()[1].aim, cost);
        for (flags, words) in [
            ("--threshold nut=0.3 --min-recall nut=0.9", "given twice"),
            ("--band nut=0.7..0.4", "0.7 lies above 0.4"),
            ("--band nut=0.7", "expected TAG=LOW..HIGH"),
            ("--threshold nut=7", "between 0 and 1"),
            ("--threshold nail=0.7", "the run has"),
            ("--cost fp=1", "expected fp and fn"),
        ] {
            let error = format!("{:#}", said(flags).unwrap_err());
            assert!(error.contains(words), "{flags}: {error}");
        }
    }
}
