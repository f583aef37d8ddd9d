//! What a sorting line would see of a model: parts wrongly passed, wrongly rejected and shown to a
//! person, by the device's decision.
//!
//! Where tags have roles, a wrong pass is a defective part that is accepted, a wrong reject a part
//! without a defect that is rejected. Where no tag is a defect, a wrong pass is a part that is
//! accepted as what it is not, a wrong reject one that no tag is sure of.

use super::{Judge, Mistake};
use crate::decision::{self, Aim, Decision};
use crate::judged::Judged;
use crate::metrics::{self, Interval};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use tagpin::decide::{self, Action, Role};
use tagpin::head::Score;

/// How many of some parts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub parts: usize,
    /// Of how many.
    pub of: usize,
    /// Of a thousand, with its 95 % interval.
    pub per_1000: Interval,
}

impl Rate {
    fn of(parts: usize, of: usize) -> Self {
        let Interval { value, low, high } = metrics::wilson(parts, of);
        Self { parts, of, per_1000: Interval { value: 1000.0 * value, low: 1000.0 * low, high: 1000.0 * high } }
    }
}

/// A set of images as a line sees them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Whether a tag is a defect.
    pub defects: bool,
    /// Parts with a defect that are accepted, of all with one; without defects, parts accepted as
    /// what they are not, of all.
    pub wrongly_passed: Rate,
    /// Parts without a defect that are rejected, of all without one; without defects, parts that
    /// are rejected, of all.
    pub wrongly_rejected: Rate,
    /// Parts that a person looks at, of all.
    pub review: Rate,
    /// What a thousand parts like these cost, where costs were stated to `tune`.
    pub cost_per_1000: Option<f64>,
    /// Images of wrong passes on the test side, surest first; at most 24.
    pub passed: Vec<Mistake>,
    /// Images of wrong rejects.
    pub rejected: Vec<Mistake>,
}

/// Images that are shown of each kind.
const SHOWN: usize = 24;

/// What a decision is in a part's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    bad: bool,
    passed: bool,
    rejected: bool,
    review: bool,
}

fn fate(judge: &Judge<'_>, roles: &[Role], d: &decide::Decision, truth: &[usize]) -> Fate {
    let defects = roles.contains(&Role::Defect);
    let bad = truth.iter().any(|&t| roles[t] == Role::Defect);
    let accepted = d.action == Some(Action::Accept);
    let named = decision::predicted(judge.task, d) == truth;
    Fate {
        bad,
        passed: accepted && if defects { bad } else { !named },
        rejected: d.action == Some(Action::Reject) && !bad,
        review: d.action == Some(Action::Review),
    }
}

/// Of all that the folds judged (`pooled`: decisions and tags), else of the test side; images of
/// the test side.
pub(super) fn line(judge: &Judge<'_>, test: &Judged, pooled: Option<(&[decide::Decision], &[Vec<usize>])>) -> Result<Line> {
    let roles = judge.run.roles();
    let truth = test.truth();
    let scores: Vec<Vec<Score>> = crate::predict::scores(judge.task, &test.int8, judge.decision.temperature());
    let decisions = judge.decided(&scores, &test.beyond)?;
    let own = (decisions.as_slice(), truth.as_slice());
    let (counted, of) = pooled.unwrap_or(own);
    let fates: Vec<Fate> = counted.iter().zip(of).map(|(d, t)| fate(judge, &roles, d, t)).collect();
    let n = |which: &dyn Fn(&Fate) -> bool| fates.iter().filter(|f| which(f)).count();
    let defects = roles.contains(&Role::Defect);
    let (bad, all) = (n(&|f| f.bad), fates.len());
    let images = |which: &dyn Fn(&Fate) -> bool| {
        let chosen = (0..decisions.len()).filter(|&i| which(&fate(judge, &roles, &decisions[i], &truth[i])));
        let mut shown: Vec<Mistake> = chosen.map(|i| shown(judge, test, i, &decisions[i], &scores[i])).collect();
        shown.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.path.cmp(&b.path)));
        shown.truncate(SHOWN);
        shown
    };
    Ok(Line {
        defects,
        wrongly_passed: Rate::of(n(&|f| f.passed), if defects { bad } else { all }),
        wrongly_rejected: Rate::of(n(&|f| f.rejected), if defects { all - bad } else { all }),
        review: Rate::of(n(&|f| f.review), all),
        cost_per_1000: cost(&judge.decision, judge, counted, of),
        passed: images(&|f| f.passed),
        rejected: images(&|f| f.rejected),
    })
}

fn shown(judge: &Judge<'_>, test: &Judged, i: usize, d: &decide::Decision, scores: &[Score]) -> Mistake {
    let entry = &test.entries[i];
    let predicted = decision::predicted(judge.task, d);
    let highest = |tags: &[usize]| tags.iter().map(|&t| scores[t].probability()).fold(0.0, f32::max);
    let all: Vec<usize> = (0..scores.len()).collect();
    Mistake {
        path: test.root.join(&entry.path),
        tagged: judge.names(&entry.tags),
        score: highest(if predicted.is_empty() { &all } else { &predicted }),
        predicted: judge.names(&predicted),
        score_of_tag: highest(&entry.tags),
        heat: None,
    }
}

/// False positives and negatives of the tags that have a cost, at it, for a thousand parts.
fn cost(decision: &Decision, judge: &Judge<'_>, decisions: &[decide::Decision], truth: &[Vec<usize>]) -> Option<f64> {
    let predicted: Vec<Vec<usize>> = decisions.iter().map(|d| decision::predicted(judge.task, d)).collect();
    let one = |tag: &str, aim: Aim| match aim {
        Aim::Cost { false_positive, false_negative } => {
            let c = metrics::counts(&predicted, truth, judge.tags.iter().position(|t| t == tag)?);
            Some(c.false_positives as f64 * false_positive + c.false_negatives as f64 * false_negative)
        }
        _ => None,
    };
    let costs: Vec<f64> = decision.aims.iter().filter_map(|a| one(&a.tag, a.aim)).collect();
    (!costs.is_empty()).then(|| 1000.0 * costs.iter().sum::<f64>() / truth.len().max(1) as f64)
}
