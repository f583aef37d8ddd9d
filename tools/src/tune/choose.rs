//! Chooses thresholds by trying them in the device's decision rule.

use crate::data::TaskName;
use crate::decision::{self, Aim, Decision};
use crate::demand::Measure;
use crate::metrics::{self, Counts};
use anyhow::Result;
use tagpin::decide::Role;
use tagpin::head::Score;

/// Most thresholds tried per tag: quantiles of its scores.
const TRIED: usize = 64;
/// Most rounds over all tags in the search for the least cost.
const ROUNDS: usize = 4;

/// Images that choose, and the thresholds so far.
pub struct Chooser {
    task: TaskName,
    roles: Vec<Role>,
    scores: Vec<Vec<Score>>,
    beyond: Vec<bool>,
    truth: Vec<Vec<usize>>,
    decision: Decision,
}

impl Chooser {
    /// `scores`: `[images][tags]`; `beyond`: whether each image is beyond the distance limit;
    /// thresholds begin as `decision` has them. Bands play no part in choosing.
    pub fn new(
        task: TaskName,
        roles: Vec<Role>,
        (scores, beyond): (Vec<Vec<Score>>, Vec<bool>),
        truth: Vec<Vec<usize>>,
        decision: &Decision,
    ) -> Self {
        let mut decision = decision.clone();
        decision.rules.iter_mut().for_each(|r| r.review_low = r.threshold);
        Self { task, roles, scores, beyond, truth, decision }
    }

    /// The thresholds, one a tag.
    pub fn thresholds(&self) -> Vec<f32> {
        self.decision.rules.iter().map(|r| r.threshold).collect()
    }

    fn set(&mut self, tag: usize, threshold: f32) {
        let rule = &mut self.decision.rules[tag];
        (rule.threshold, rule.review_low) = (threshold, threshold);
    }

    fn predicted(&self) -> Result<Vec<Vec<usize>>> {
        let decided = self.decision.decide(self.task, &self.roles, &self.scores, &self.beyond)?;
        Ok(decided.iter().map(|d| decision::predicted(self.task, d)).collect())
    }

    /// Candidate thresholds, ascending: halfway between neighbouring scores of a tag, so that a
    /// rounding error does not change a decision.
    fn candidates(&self, tag: usize) -> Vec<f32> {
        let mut scores: Vec<f32> = self.scores.iter().map(|s| s[tag].probability()).collect();
        scores.sort_by(f32::total_cmp);
        scores.dedup();
        let middles: Vec<f32> = scores.windows(2).map(|w| (w[0] + w[1]) / 2.0).collect();
        let mut chosen: Vec<f32> = crate::data::spread(middles.len(), TRIED).map(|i| middles[i]).collect();
        chosen.extend(middles.iter().rev().take(TRIED / 2));
        chosen.extend([0.5, self.decision.rules[tag].threshold]);
        chosen.sort_by(f32::total_cmp);
        chosen.dedup();
        chosen
    }

    /// Lowers the cost tag by tag until no threshold of a tag with a cost lowers it further.
    /// `aims`: one a tag.
    pub fn least_cost(&mut self, aims: Vec<Option<Aim>>) -> Result<()> {
        let costs: Vec<Option<(f64, f64)>> = aims
            .iter()
            .map(|a| match a {
                Some(Aim::Cost { false_positive, false_negative }) => Some((*false_positive, *false_negative)),
                _ => None,
            })
            .collect();
        let cost = |of: &Self| -> Result<f64> {
            let predicted = of.predicted()?;
            let one = |t: usize| {
                let c = metrics::counts(&predicted, &of.truth, t);
                costs[t].map_or(0.0, |(p, n)| c.false_positives as f64 * p + c.false_negatives as f64 * n)
            };
            Ok((0..costs.len()).map(one).sum())
        };
        for _ in 0..ROUNDS {
            let before = self.thresholds();
            for t in (0..costs.len()).filter(|t| costs[*t].is_some()) {
                let (mut best, mut least) = (before[t], cost(&*self)?);
                for threshold in self.candidates(t) {
                    self.set(t, threshold);
                    let now = cost(&*self)?;
                    if now < least {
                        (best, least) = (threshold, now);
                    }
                }
                self.set(t, best);
            }
            if self.thresholds() == before {
                break;
            }
        }
        Ok(())
    }

    /// Chooses a tag's threshold for an aim of precision or recall: by the lower end of the
    /// interval if that can meet it, else by the share itself. If neither can, leaves the threshold
    /// and returns what is possible.
    pub fn aim(&mut self, tag: usize, aim: Aim) -> Result<Result<(), String>> {
        let (measure, least) = match aim {
            Aim::Precision(least) => (Measure::Precision, least),
            Aim::Recall(least) => (Measure::Recall, least),
            Aim::Cost { .. } => return Ok(Ok(())),
        };
        let positives = self.truth.iter().filter(|t| t.contains(&tag)).count();
        if positives == 0 {
            return Ok(Err(format!("none of the {} images that choose is of it", self.truth.len())));
        }
        let before = self.decision.rules[tag].threshold;
        let mut tried: Vec<(f32, Counts)> = Vec::new();
        for threshold in self.candidates(tag) {
            self.set(tag, threshold);
            tried.push((threshold, metrics::counts(&self.predicted()?, &self.truth, tag)));
        }
        let share = |c: &Counts| match measure {
            Measure::Precision => metrics::wilson(c.true_positives, c.true_positives + c.false_positives),
            Measure::Recall => metrics::wilson(c.true_positives, c.positives()),
        };
        // Of thresholds that serve: the lowest for precision, which keeps most recall; the highest
        // for recall.
        let serves = |of: fn(metrics::Interval) -> f64| {
            let mut all = tried.iter().filter(|(_, c)| c.true_positives > 0 && of(share(c)) >= least).map(|t| t.0);
            if measure == Measure::Precision { all.next() } else { all.next_back() }
        };
        let found = serves(|i| i.low).or_else(|| serves(|i| i.value));
        self.set(tag, found.unwrap_or(before));
        Ok(found.map(|_| ()).ok_or_else(|| {
            let best = tried.iter().map(|(_, c)| share(c)).max_by(|a, b| a.value.total_cmp(&b.value));
            let best = best.map_or("nothing".into(), |b| b.to_string());
            format!("{} {least} cannot be met: {best} is the most on {positives} images of it", measure.name())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin::random::Random;

    fn chooser(seed: u64, n: usize) -> Chooser {
        let mut r = Random::new(seed, 0x70e);
        let tags = ["a", "b", "c"].map(String::from);
        let (mut scores, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let t = r.range(0, 2) as usize;
            let raw: Vec<f64> = (0..3).map(|k| f64::from(r.range(1, 100)) + if k == t { 90.0 } else { 0.0 }).collect();
            let all: f64 = raw.iter().sum();
            scores.push(raw.iter().map(|v| Score::from_probability((v / all) as f32).unwrap()).collect());
            truth.push(vec![t]);
        }
        Chooser::new(
            TaskName::Multiclass,
            vec![Role::Other; 3],
            (scores, vec![false; n]),
            truth,
            &Decision::plain(&tags, 1.0),
        )
    }

    /// The dumbest reading of the rule: an image is named by its highest score among those at their
    /// thresholds.
    fn counts_by_hand(c: &Chooser, tag: usize) -> Counts {
        let mut counts = Counts::default();
        for (s, t) in c.scores.iter().zip(&c.truth) {
            let holds = (0..3).filter(|&k| s[k].probability() >= c.decision.rules[k].threshold);
            let named = holds.max_by(|&a, &b| s[a].cmp(&s[b]).then(b.cmp(&a)));
            match (named == Some(tag), t[0] == tag) {
                (true, true) => counts.true_positives += 1,
                (true, false) => counts.false_positives += 1,
                (false, true) => counts.false_negatives += 1,
                (false, false) => {}
            }
        }
        counts
    }

    #[test]
    fn an_aim_is_met_by_the_devices_rule_and_what_cannot_be_met_is_said_with_what_can() {
        for seed in 1..=5 {
            let mut c = chooser(seed, 300);
            assert_eq!(c.aim(1, Aim::Recall(0.9)).unwrap(), Ok(()), "seed {seed}");
            let by_hand = counts_by_hand(&c, 1);
            assert!(metrics::wilson(by_hand.true_positives, by_hand.positives()).low >= 0.9, "seed {seed}: {by_hand:?}");
            c.truth.iter_mut().filter(|t| t[0] == 2).for_each(|t| t[0] = 0);
            let why = c.aim(2, Aim::Recall(0.9)).unwrap().unwrap_err();
            assert!(why.contains("none of the 300 images"), "{why}");
            let mut c = chooser(seed, 60);
            let why = c.aim(0, Aim::Precision(0.9999)).unwrap();
            if let Err(why) = why {
                assert!(why.contains("is the most on") && !why.contains("none"), "{why}");
            }
        }
    }

    /// The device names no tag of what is beyond: a threshold cannot win such an image back.
    #[test]
    fn an_image_beyond_the_limit_is_a_miss_at_every_threshold() {
        let mut c = chooser(1, 300);
        let of_tag = c.truth.iter().position(|t| t[0] == 1).unwrap();
        (0..300).filter(|&i| c.truth[i][0] == 1 && i != of_tag).for_each(|i| c.beyond[i] = true);
        let why = c.aim(1, Aim::Recall(0.5)).unwrap().unwrap_err();
        assert!(why.contains("is the most on"), "{why}");
    }

    #[test]
    fn least_cost_is_no_more_than_that_of_any_thresholds_drawn() {
        for seed in 1..=3 {
            let mut c = chooser(seed, 200);
            let aim = Some(Aim::Cost { false_positive: 1.0, false_negative: 5.0 });
            c.least_cost(vec![aim; 3]).unwrap();
            let cost = |c: &Chooser| {
                (0..3).map(|t| counts_by_hand(c, t)).map(|k| k.false_positives + 5 * k.false_negatives).sum::<usize>()
            };
            let found = cost(&c);
            let mut r = Random::new(seed, 0x1ea5);
            let mut better = 0;
            for _ in 0..200 {
                (0..3).for_each(|t| c.set(t, r.range(1, 99) as f32 / 100.0));
                better += usize::from(cost(&c) < found);
            }
            // Tag by tag may end in a hollow; a drawn one is seldom below it.
            assert!(better <= 2, "seed {seed}: {better} of 200 drawn are better than {found}");
        }
    }
}
