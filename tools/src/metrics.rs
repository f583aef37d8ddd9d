//! Figures of scores against truth: accuracy, precision, recall, average precision, calibration,
//! intervals.
//!
//! Pure functions of numbers. Scores are `[images][tags]`; truth is `[images]`, the tags of each.

use crate::data::TaskName;
use serde::{Deserialize, Serialize};
use tagpin::random::Random;

/// Index of the largest value, the first among equals; 0 for none.
pub fn best(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |b, i| if values[i] > values[b] { i } else { b })
}

/// Scores of logits in f64: softmax or sigmoid at a temperature. The device's fixed-point head
/// agrees within 2^-14.
pub fn scores(logits: &[f32], task: TaskName, temperature: f64) -> Vec<f64> {
    let z = logits.iter().map(|&l| l as f64 / temperature);
    match task {
        TaskName::Multiclass => {
            let top = z.clone().fold(f64::MIN, f64::max);
            let e: Vec<f64> = z.map(|v| (v - top).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.into_iter().map(|v| v / sum).collect()
        }
        TaskName::Multilabel => z.map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
    }
}

/// Mean negative log likelihood of the truth.
pub fn log_loss(logits: &[Vec<f32>], truth: &[Vec<usize>], task: TaskName, temperature: f64) -> f64 {
    let one = |(l, t): (&Vec<f32>, &Vec<usize>)| -> f64 {
        let p = scores(l, task, temperature);
        match task {
            TaskName::Multiclass => -p[t[0]].max(1e-12).ln(),
            TaskName::Multilabel => {
                let of =
                    |(i, p): (usize, &f64)| if t.contains(&i) { -p.max(1e-12).ln() } else { -(1.0 - p).max(1e-12).ln() };
                p.iter().enumerate().map(of).sum::<f64>() / p.len() as f64
            }
        }
    };
    logits.iter().zip(truth).map(one).sum::<f64>() / logits.len().max(1) as f64
}

/// [`log_loss`] in which each tag counts the same, however rare: the mean over tags that have
/// images. In multilabel, a tag's images and the images without it count the same too.
pub fn balanced_log_loss(logits: &[Vec<f32>], truth: &[Vec<usize>], task: TaskName) -> f64 {
    let tags = logits.first().map_or(0, Vec::len);
    // Total and number over the images with the tag, and over those without it.
    let mut of = vec![[(0.0f64, 0usize); 2]; tags];
    for (l, t) in logits.iter().zip(truth) {
        let p = scores(l, task, 1.0);
        match task {
            TaskName::Multiclass => {
                let (sum, n) = &mut of[t[0]][0];
                (*sum, *n) = (*sum - p[t[0]].max(1e-12).ln(), *n + 1);
            }
            TaskName::Multilabel => {
                for (i, p) in p.iter().enumerate() {
                    let has = t.contains(&i);
                    let (sum, n) = &mut of[i][usize::from(!has)];
                    (*sum, *n) = (*sum - if has { *p } else { 1.0 - p }.max(1e-12).ln(), *n + 1);
                }
            }
        }
    }
    let means: Vec<f64> = of.iter().flatten().filter(|(_, n)| *n > 0).map(|(sum, n)| sum / *n as f64).collect();
    means.iter().sum::<f64>() / means.len().max(1) as f64
}

/// Whether each image is right at a score of one half: the top tag, or all tags at once.
pub fn rights(scores: &[Vec<f32>], truth: &[Vec<usize>], task: TaskName, half: f32) -> Vec<bool> {
    let one = |(s, t): (&Vec<f32>, &Vec<usize>)| match task {
        TaskName::Multiclass => best(s) == t[0],
        TaskName::Multilabel => (0..s.len()).all(|i| (s[i] >= half) == t.contains(&i)),
    };
    scores.iter().zip(truth).map(one).collect()
}

/// Share of images whose logits are right.
pub fn right(logits: &[Vec<f32>], truth: &[Vec<usize>], task: TaskName) -> f64 {
    let all = rights(logits, truth, task, 0.0);
    all.iter().filter(|r| **r).count() as f64 / all.len().max(1) as f64
}

/// Bounds of the search for a temperature. A result on a bound is not a fit.
pub const TEMPERATURES: [f64; 2] = [0.125, 8.0];

/// The temperature that makes scores on validation fit best: golden-section search of the log loss
/// over [`TEMPERATURES`] (Guo et al., "On Calibration of Modern Neural Networks", 2017).
pub fn temperature(logits: &[Vec<f32>], truth: &[Vec<usize>], task: TaskName) -> f64 {
    let loss = |log: f64| log_loss(logits, truth, task, log.exp());
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (TEMPERATURES[0].ln(), TEMPERATURES[1].ln());
    for _ in 0..40 {
        let (c, d) = (b - ratio * (b - a), a + ratio * (b - a));
        if loss(c) < loss(d) { b = d } else { a = c }
    }
    ((a + b) / 2.0).exp()
}

/// A point of a precision-recall curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Least score that counts.
    pub threshold: f32,
    /// TP / (TP + FP) at this threshold.
    pub precision: f32,
    /// TP / (TP + FN) at this threshold.
    pub recall: f32,
}

/// The curve of one tag, thresholds falling; equal scores are one point. Empty if no image has
/// the tag.
pub fn curve(scores: &[Vec<f32>], truth: &[Vec<usize>], tag: usize) -> Vec<CurvePoint> {
    let mut ranked: Vec<(f32, bool)> = scores.iter().zip(truth).map(|(s, t)| (s[tag], t.contains(&tag))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = ranked.iter().filter(|r| r.1).count();
    let mut points = Vec::new();
    let mut true_positives = 0;
    for (i, (score, is)) in ranked.iter().enumerate() {
        true_positives += usize::from(*is);
        if positives > 0 && ranked.get(i + 1).is_none_or(|next| next.0 < *score) {
            let precision = true_positives as f32 / (i + 1) as f32;
            points.push(CurvePoint { threshold: *score, precision, recall: true_positives as f32 / positives as f32 });
        }
    }
    points
}

/// Average precision: the sum over the curve of each step in recall times the precision there.
/// `None` without positives.
pub fn average_precision(curve: &[CurvePoint]) -> Option<f64> {
    let steps = curve.iter().scan(0.0, |recall, p| {
        let step = p.recall as f64 - *recall;
        *recall = p.recall as f64;
        Some(step * p.precision as f64)
    });
    (!curve.is_empty()).then(|| steps.sum())
}

/// A figure for a table; a dash where there is none.
pub fn show(x: Option<f64>) -> String {
    x.map_or("-".into(), |x| format!("{x:.3}"))
}

/// Counts of one tag's decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Predicted as the tag, and of it.
    pub true_positives: usize,
    /// Predicted as the tag, and not of it.
    pub false_positives: usize,
    /// Of the tag, and not predicted as it.
    pub false_negatives: usize,
}

impl Counts {
    /// Images of the tag.
    pub fn positives(self) -> usize {
        self.true_positives + self.false_negatives
    }

    /// TP / (TP + FP); `None` if nothing was predicted as this tag.
    pub fn precision(self) -> Option<f64> {
        let predicted = self.true_positives + self.false_positives;
        (predicted > 0).then(|| self.true_positives as f64 / predicted as f64)
    }

    /// TP / (TP + FN); `None` if no image is of this tag.
    pub fn recall(self) -> Option<f64> {
        let positives = self.positives();
        (positives > 0).then(|| self.true_positives as f64 / positives as f64)
    }

    /// 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall; `None` if no image is or
    /// was predicted as it.
    pub fn f1(self) -> Option<f64> {
        let all = 2 * self.true_positives + self.false_positives + self.false_negatives;
        (all > 0).then(|| 2.0 * self.true_positives as f64 / all as f64)
    }
}

/// Counts of a tag. `predictions`, `truth`: `[images]`, the tags of each.
pub fn counts(predictions: &[Vec<usize>], truth: &[Vec<usize>], tag: usize) -> Counts {
    let mut c = Counts::default();
    for (predicted, truth) in predictions.iter().zip(truth) {
        match (predicted.contains(&tag), truth.contains(&tag)) {
            (true, true) => c.true_positives += 1,
            (true, false) => c.false_positives += 1,
            (false, true) => c.false_negatives += 1,
            (false, false) => {}
        }
    }
    c
}

/// Each image's prediction without thresholds: its top tag, or all tags with a score of one half.
pub fn predictions(scores: &[Vec<f32>], task: TaskName) -> Vec<Vec<usize>> {
    let one = |s: &Vec<f32>| match task {
        TaskName::Multiclass => vec![best(s)],
        TaskName::Multilabel => (0..s.len()).filter(|&i| s[i] >= 0.5).collect(),
    };
    scores.iter().map(one).collect()
}

/// Mean F1 over the tags that images are, or were predicted as.
pub fn macro_f1(predictions: &[Vec<usize>], truth: &[Vec<usize>], tags: usize) -> f64 {
    let all: Vec<f64> = (0..tags).filter_map(|t| counts(predictions, truth, t).f1()).collect();
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

/// Mean average precision over tags with images.
pub fn mean_average_precision(scores: &[Vec<f32>], truth: &[Vec<usize>], tags: usize) -> f64 {
    let all: Vec<f64> = (0..tags).filter_map(|t| average_precision(&curve(scores, truth, t))).collect();
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

/// Bins of [`reliability`].
const BINS: usize = 15;

/// For each of 15 equal bins of confidence: images, mean confidence, share right. Multiclass: of
/// the top tag; multilabel: of every tag's score.
pub fn reliability(scores: &[Vec<f32>], truth: &[Vec<usize>], task: TaskName) -> Vec<(usize, f64, f64)> {
    let mut bins = vec![(0usize, 0.0, 0.0); BINS];
    let mut add = |p: f32, right: bool| {
        let b = &mut bins[((p * BINS as f32) as usize).min(BINS - 1)];
        b.0 += 1;
        b.1 += p as f64;
        b.2 += f64::from(right);
    };
    for (s, t) in scores.iter().zip(truth) {
        match task {
            TaskName::Multiclass => add(s[best(s)], best(s) == t[0]),
            TaskName::Multilabel => s.iter().enumerate().for_each(|(i, &p)| add(p, t.contains(&i))),
        }
    }
    bins.into_iter().map(|(n, c, r)| (n, c / n.max(1) as f64, r / n.max(1) as f64)).collect()
}

/// Expected calibration error: the mean gap between confidence and share right, weighted by
/// images.
pub fn ece(bins: &[(usize, f64, f64)]) -> f64 {
    let all: usize = bins.iter().map(|b| b.0).sum();
    bins.iter().map(|(n, c, r)| *n as f64 * (c - r).abs()).sum::<f64>() / all.max(1) as f64
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// 2.5 % quantile.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.low, self.high)
    }
}

/// Draws of [`bootstrap`].
const DRAWS: usize = 1000;

/// A figure's percentile bootstrap interval, drawn over clusters of images of the same part (Efron
/// 1979). `clusters`: `[n]`, each image's cluster; `figure` gets indices of images. Seeded.
pub fn bootstrap(clusters: &[usize], seed: u64, figure: impl Fn(&[usize]) -> f64 + Sync) -> Interval {
    use rayon::prelude::*;
    let mut members: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
    clusters.iter().enumerate().for_each(|(i, c)| members.entry(*c).or_default().push(i));
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let whole: Vec<usize> = (0..clusters.len()).collect();
    let value = figure(&whole);
    if members.is_empty() {
        return Interval { value, low: value, high: value };
    }
    let mut drawn: Vec<f64> = (0..DRAWS as u64)
        .into_par_iter()
        .map(|draw| {
            let mut r = Random::new(seed ^ 0xb007, draw);
            let pick = |_| &members[r.range(0, members.len() as i32 - 1) as usize];
            let picked: Vec<usize> = (0..members.len()).flat_map(pick).copied().collect();
            figure(&picked)
        })
        .filter(|v| v.is_finite())
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |q: f64| drawn.get(((drawn.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(value);
    Interval { value, low: at(0.025), high: at(0.975) }
}

/// Normal quantile of a 95 % interval.
const Z95: f64 = 1.959964;

/// A share's Wilson score interval at 95 % (Wilson 1927): right for few images and for shares
/// near 0 and 1.
pub fn wilson(right: usize, n: usize) -> Interval {
    wilson_at(right, n, Z95)
}

/// [`wilson`] at another normal quantile.
fn wilson_at(right: usize, n: usize, z: f64) -> Interval {
    if n == 0 {
        return Interval { value: 0.0, low: 0.0, high: 1.0 };
    }
    let (n, p) = (n as f64, right as f64 / n as f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / (1.0 + z * z / n);
    Interval { value: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

/// Fewest images, at the share seen, at which Wilson's interval begins at `least` or above. None
/// where the share seen is not above it.
pub fn enough(share: f64, least: f64) -> Option<usize> {
    if share <= least {
        return None;
    }
    // Wilson's lower end reaches `least` where n (p - least)^2 = z^2 least (1 - least): it inverts
    // the score test.
    let n = Z95 * Z95 * least * (1.0 - least) / (share - least).powi(2);
    Some(n.ceil() as usize)
}

/// Two ways to decide the same `n` things: the second minus the first, as a share of them, with a
/// 95 % interval.
///
/// Only what differs tells anything: `worse` that only the first gets right, `better` that only the
/// second does (McNemar 1947). Among those, the share of worse ones has Wilson's interval. `of`:
/// comparisons made at once, each of which then gets its part of the 5 % (Bonferroni).
pub fn paired(worse: usize, better: usize, n: usize, of: usize) -> Interval {
    let differing = worse + better;
    if differing == 0 || n == 0 {
        return Interval { value: 0.0, low: 0.0, high: 0.0 };
    }
    let losing = wilson_at(worse, differing, quantile(0.025 / of.max(1) as f64));
    let share = |losing: f64| differing as f64 / n as f64 * (1.0 - 2.0 * losing);
    Interval { value: share(losing.value), low: share(losing.high), high: share(losing.low) }
}

/// Normal quantile of an upper tail, 0 < tail < 0.5, to 5e-4 (Abramowitz and Stegun 26.2.23).
fn quantile(tail: f64) -> f64 {
    let t = (-2.0 * tail.ln()).sqrt();
    t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five flips of one kind among 60 are harm, three are not: with as many chances each way,
    /// three on one side come by chance once in eight.
    #[test]
    fn what_differs_in_one_direction_is_told_from_chance() {
        let harm = |worse, better, of| paired(worse, better, 60, of).high < 0.0;
        assert!(harm(5, 0, 1) && harm(20, 5, 1), "{} {}", paired(5, 0, 60, 1), paired(20, 5, 60, 1));
        assert!(!harm(3, 0, 1) && !harm(5, 4, 1) && !harm(0, 5, 1) && !harm(0, 0, 1), "{}", paired(3, 0, 60, 1));
        assert!(!harm(5, 0, 10), "of ten comparisons one may look so: {}", paired(5, 0, 60, 10));
        let one = paired(6, 2, 100, 1);
        assert!((one.value + 0.04).abs() < 1e-12 && one.low < one.value && one.value < one.high, "{one}");
        assert!((quantile(0.025) - Z95).abs() < 5e-4 && (quantile(0.0005) - 3.2905).abs() < 1e-3);
    }

    #[test]
    fn as_many_images_as_are_said_to_be_enough_are_enough_and_one_in_ten_fewer_are_not() {
        for (right, of, least) in [(9, 10, 0.7), (19, 20, 0.9), (4, 5, 0.7), (1, 1, 0.8)] {
            let share = right as f64 / of as f64;
            let n = enough(share, least).unwrap();
            let low = |n: usize| {
                let right = share * n as f64;
                // Wilson by the definition: the least share whose score test does not refuse what
                // was seen.
                (0..100_000)
                    .map(|i| f64::from(i) / 1e5)
                    .find(|p| (right - n as f64 * p).abs() <= Z95 * (n as f64 * p * (1.0 - p)).sqrt())
            };
            assert!(low(n).unwrap() >= least - 1e-4, "{right}/{of} {least}: {n}");
            assert!(low(n * 9 / 10).unwrap() < least, "{right}/{of} {least}: {n}");
        }
        assert_eq!(enough(0.7, 0.7), None);
    }

    fn four() -> (Vec<Vec<f32>>, Vec<Vec<usize>>) {
        let scores = [0.9, 0.8, 0.6, 0.3].map(|p| vec![p, 1.0 - p]).to_vec();
        (scores, vec![vec![0], vec![1], vec![0], vec![1]])
    }

    #[test]
    fn average_precision_of_four_images_by_hand() {
        let (s, t) = four();
        // Ranked: yes, no, yes, no. 1/2 * 1/1 + 1/2 * 2/3.
        assert!((average_precision(&curve(&s, &t, 0)).unwrap() - 5.0 / 6.0).abs() < 1e-6);
        assert_eq!(average_precision(&curve(&s, &[vec![1], vec![1], vec![1], vec![1]], 0)), None);
    }

    #[test]
    fn counts_precision_recall_and_f1_by_hand() {
        let (s, t) = four();
        let c = counts(&predictions(&s, TaskName::Multiclass), &t, 0);
        assert_eq!((c.true_positives, c.false_positives, c.false_negatives), (2, 1, 0));
        assert_eq!((c.precision(), c.recall(), c.f1()), (Some(2.0 / 3.0), Some(1.0), Some(0.8)));
        assert_eq!(Counts::default().f1(), None);
    }

    #[test]
    fn overconfident_logits_get_a_temperature_above_one_and_fit_better() {
        let mut r = Random::new(3, 3);
        let (mut logits, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..400 {
            // Right four times of five, but as sure as e^8 to 1.
            let right = r.range(0, 4) > 0;
            logits.push(vec![8.0, 0.0]);
            truth.push(vec![usize::from(!right)]);
        }
        let t = temperature(&logits, &truth, TaskName::Multiclass);
        assert!((4.0..8.0).contains(&t), "ln(4) = 1.39 is the honest difference, so about 5.8: {t}");
    }

    #[test]
    fn intervals_hold_the_value_and_narrow_with_more_images() {
        let (few, many) = (wilson(9, 10), wilson(900, 1000));
        assert!(few.low < 0.9 && 0.9 < few.high && few.high - few.low > 3.0 * (many.high - many.low));
        let clusters: Vec<usize> = (0..200).collect();
        let b = bootstrap(&clusters, 1, |i| i.iter().filter(|i| *i % 10 > 0).count() as f64 / i.len() as f64);
        assert!((b.value - 0.9).abs() < 1e-9 && b.low > 0.84 && b.high < 0.95, "{b}");
        assert_eq!(b, bootstrap(&clusters, 1, |i| i.iter().filter(|i| *i % 10 > 0).count() as f64 / i.len() as f64));
    }
}
