//! `train` with no way named: the quick model, then fine-tuning within a time budget; the better of
//! the two on validation becomes the run's model. An interval shows whether fine-tuning pays.

use crate::data::{
    self,
    split::{Side, Split},
};
use crate::graph::Graph;
use crate::metrics::{self, Interval};
use crate::predict;
use anyhow::Result;
use tagpin::preprocess::Target;

/// Two models on the same validation images.
pub struct Compared {
    /// Images.
    images: usize,
    /// Share right of the fine-tuned one minus that of the quick one, paired.
    difference: Interval,
}

impl Compared {
    /// Runs both, in float, on the split's validation images.
    pub fn of(split: &Split, target: Target, quick: &Graph, tuned: &Graph) -> Result<Self> {
        let entries = split.entries(Side::Validation);
        let images = data::load(&split.dataset.root, &entries, target)?;
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let truth: Vec<Vec<usize>> = entries.into_iter().map(|e| e.tags).collect();
        let rights = |graph: &Graph| -> Result<Vec<bool>> {
            Ok(metrics::rights(&predict::float(graph, &images)?, &truth, split.dataset.task, 0.0))
        };
        Ok(Self::from_rights(&rights(quick)?, &rights(tuned)?))
    }

    fn from_rights(quick: &[bool], tuned: &[bool]) -> Self {
        let count = |f: fn(bool, bool) -> bool| quick.iter().zip(tuned).filter(|(q, t)| f(**q, **t)).count();
        let (worse, better) = (count(|q, t| q && !t), count(|q, t| t && !q));
        Self { images: quick.len(), difference: metrics::paired(worse, better, quick.len(), 1) }
    }

    /// Whether the fine-tuned model is taken: it does better on these images.
    pub fn takes_tuned(&self) -> bool {
        self.difference.value > 0.0
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Interval { value, low, high } = self.difference;
        let told = match self.takes_tuned() {
            true if low > 0.0 => "it pays, and its model is taken",
            true => "it may pay: its model is taken, but so few images do not show it",
            false if high < 0.0 => "it does harm, and the quick model stays",
            false => "it does not pay here, and the quick model stays",
        };
        write!(f, "fine-tuned minus quick on {} validation images: {value:+.3} [{low:+.3}, {high:+.3}]; {told}", self.images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_model_is_taken_and_the_words_follow_the_interval() {
        let told = |worse: usize, better: usize| {
            let quick: Vec<bool> = (0..100).map(|i| i < 80).collect();
            let tuned: Vec<bool> = (0..100).map(|i| (worse..80).contains(&i) || (80..80 + better).contains(&i)).collect();
            let compared = Compared::from_rights(&quick, &tuned);
            (compared.takes_tuned(), compared.to_string())
        };
        for (worse, better, taken, words) in [
            (0, 15, true, "it pays"),
            (2, 4, true, "it may pay"),
            (3, 3, false, "does not pay here"),
            (0, 0, false, "does not pay here"),
            (15, 0, false, "does harm"),
        ] {
            let (takes, text) = told(worse, better);
            assert_eq!(takes, taken, "{text}");
            assert!(text.contains(words) && text.contains("on 100 validation images"), "{worse} {better}: {text}");
        }
    }
}
