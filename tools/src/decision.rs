//! From logits to a decision: the temperature and each tag's threshold and review band, fitted on
//! validation images. Decisions are made by the device's own code.

use crate::data::{TaskName, split::Side};
use crate::metrics;
use crate::predict;
use crate::run::Run;
use crate::run_folder::{self, read_json};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tagpin::decide::{self, Decider, Observation, Policy, Role, TagPolicy, TagRule};
use tagpin::head::{Score, Temperature};
use tagpin::time::Instant;

/// One tag's rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The tag.
    pub tag: String,
    /// Present at this score or above.
    pub threshold: f32,
    /// For a person to look at from here up to the threshold.
    pub review_low: f32,
}

/// What thresholds are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Least precision; the threshold is the lowest that reaches it.
    Precision(f64),
    /// Least recall; the threshold is the highest that keeps it.
    Recall(f64),
    /// What a false positive and a false negative cost; the threshold has the least cost.
    Cost {
        /// Of an image that is not of the tag and is predicted as it.
        false_positive: f64,
        /// Of an image of the tag that is not predicted as it.
        false_negative: f64,
    },
}

impl std::fmt::Display for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Precision(p) => write!(f, "precision of at least {p}"),
            Self::Recall(r) => write!(f, "recall of at least {r}"),
            Self::Cost { false_positive, false_negative } => {
                write!(f, "least cost at {false_positive} a false positive, {false_negative} a false negative")
            }
        }
    }
}

/// A tag's aim, and whether validation images allowed a threshold that meets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatedAim {
    /// The tag.
    pub tag: String,
    /// What was asked for.
    pub aim: Aim,
    /// Whether a threshold meets it on validation images.
    pub met: bool,
}

impl std::fmt::Display for StatedAim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tag, aim, met } = self;
        write!(f, "{tag}: {aim}{}", if *met { "" } else { ", not met on validation images" })
    }
}

/// How scores become decisions: `decision.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What logits are divided by.
    pub temperature: f64,
    /// One a tag, in the order of logits.
    pub rules: Vec<Rule>,
    /// The aims that the thresholds were tuned for; empty for 0.5 throughout.
    pub aims: Vec<StatedAim>,
    /// Sides whose images chose a threshold: they no longer judge it.
    #[serde(default)]
    pub chosen_on: Vec<Side>,
}

impl Decision {
    /// Thresholds of 0.5 at a temperature.
    pub fn plain(tags: &[String], temperature: f64) -> Self {
        let rule = |tag: &String| Rule { tag: tag.clone(), threshold: 0.5, review_low: 0.5 };
        Self { temperature, rules: tags.iter().map(rule).collect(), aims: Vec::new(), chosen_on: Vec::new() }
    }

    /// Reads a run's decision.
    pub fn of(run: &Run) -> Result<Self> {
        let decision: Self = read_json(&run.file("decision.json"), &format!("quantise {}", run.folder().display()))?;
        ensure!(
            decision.rules.iter().map(|r| &r.tag).eq(&run.split.dataset.tags),
            "decision.json is of other tags; run `quantise` again"
        );
        // A person may have written in it: what the rule refuses is said of the tag.
        for Rule { tag, threshold, review_low } in &decision.rules {
            let file = run.file("decision.json");
            let of = |what: &str| format!("{}: tag \"{tag}\": {what}", file.display());
            for (name, score) in [("threshold", threshold), ("review_low", review_low)] {
                ensure!((0.0..=1.0).contains(score), of(&format!("{name} {score}: expected a score between 0 and 1")));
            }
            let above = format!("review_low {review_low} lies above its threshold {threshold}; lower it");
            ensure!(review_low <= threshold, of(&above));
        }
        Ok(decision)
    }

    /// The temperature as the device has it.
    pub fn temperature(&self) -> Temperature {
        predict::q16(self.temperature)
    }

    /// The rules as the device has them.
    pub fn tag_rules(&self) -> Result<Vec<TagRule>> {
        let score = |p: f32, of: &Rule| {
            Score::from_probability(p).with_context(|| format!("tag \"{}\": {p} is no score, expected 0 to 1", of.tag))
        };
        let one = |r: &Rule| Ok(TagRule { threshold: score(r.threshold, r)?, review_low: score(r.review_low, r)? });
        self.rules.iter().map(one).collect()
    }

    /// What the device decides for each image by itself, with its default settings. `roles`: one a
    /// tag; `beyond`: whether each image lies beyond the distance limit.
    pub fn decide(
        &self,
        task: TaskName,
        roles: &[Role],
        scores: &[Vec<Score>],
        beyond: &[bool],
    ) -> Result<Vec<decide::Decision>> {
        ensure!(scores.len() == beyond.len(), "{} images have scores, {} a distance", scores.len(), beyond.len());
        let rules = self.tag_rules()?.into_iter().zip(roles);
        let tags: Vec<TagPolicy> = rules.map(|(rule, role)| TagPolicy::new(rule, role.action())).collect();
        let mut decider = Decider::new(task.into(), &tags, Policy::default()).map_err(anyhow::Error::msg)?;
        let at = Instant::from_micros(0);
        let one = |(scores, &beyond): (&Vec<Score>, &bool)| {
            decider.forget();
            decider.step(at, Observation::Scores { captured_at: at, scores, beyond })
        };
        Ok(scores.iter().zip(beyond).map(one).collect())
    }
}

/// The tags that a decision predicts: the one that names it where tags exclude one another, else
/// all that hold.
pub fn predicted(task: TaskName, decision: &decide::Decision) -> Vec<usize> {
    decision.driving(task.into()).iter().map(|t| t.0 as usize).collect()
}

/// Fits the temperature to the logits of the validation side and writes the plain decision.
pub fn calibrate(run: &Run, logits: &[Vec<i32>], truth: &[Vec<usize>]) -> Result<Decision> {
    let task = run.split.dataset.task;
    let temperature = metrics::temperature(&predict::real(logits), truth, task);
    let decision = Decision::plain(&run.split.dataset.tags, temperature);
    run_folder::write_json(&run.file("decision.json"), &decision)?;
    println!("{:>56}{temperature:>12.3}", "temperature");
    Ok(decision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin::decide::{Task, table};

    /// The tools judge images one at a time, with thresholds from decision.json and actions from
    /// roles.
    #[test]
    fn the_tools_decide_as_the_table_states() {
        let rows = table::stated(include_str!("../../tests/data/decisions.tsv"));
        let mut run = 0;
        for row in rows.iter().filter(|r| r.is_one_image()) {
            let task = match row.task {
                Task::Multiclass => TaskName::Multiclass,
                Task::Multilabel => TaskName::Multilabel,
            };
            let rule = |t: &table::Tag| Rule { tag: t.name.clone(), threshold: t.threshold, review_low: t.review_low };
            let roles: Vec<Role> = row.tags.iter().map(|t| t.role).collect();
            let decision = Decision {
                temperature: 1.0,
                rules: row.tags.iter().map(rule).collect(),
                aims: Vec::new(),
                chosen_on: Vec::new(),
            };
            let table::Frame::Scores { scores, .. } = &row.frames[0] else { unreachable!("is_one_image") };
            let scores: Vec<Score> = scores.iter().map(|p| Score::from_probability(*p).unwrap()).collect();
            let decided = &decision.decide(task, &roles, &[scores], &[false]).unwrap()[0];
            row.check(decided, decided.action.map_or("-", |a| a.name()), "the tools");
            run += 1;
        }
        assert!(run >= 25 || std::env::var_os("TAGPIN_DECISIONS").is_some(), "{run} rows need one image alone");
    }
}
