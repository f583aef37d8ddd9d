//! Class imbalance: rare tags weigh more in the loss, or their images are seen more often.

use serde::{Deserialize, Serialize};

/// How tags of unlike frequency are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// No balancing.
    None,
    /// A rare tag's images weigh more in the loss, by the square root of how rare it is.
    Weights,
    /// A rare tag's images are seen more often, up to as often as the most frequent's.
    Oversample,
}

/// Images of each tag, `[tags]`.
pub fn counts(truth: &[Vec<usize>], tags: usize) -> Vec<usize> {
    let mut counts = vec![0usize; tags];
    truth.iter().flatten().for_each(|&t| counts[t] += 1);
    counts
}

impl Balance {
    /// What each tag's images weigh, `[tags]`; 1 on average.
    pub fn weights(self, truth: &[Vec<usize>], tags: usize) -> Vec<f32> {
        if self != Self::Weights {
            return vec![1.0; tags];
        }
        let raw: Vec<f32> = counts(truth, tags).iter().map(|&n| 1.0 / (n.max(1) as f32).sqrt()).collect();
        let mean = raw.iter().sum::<f32>() / tags as f32;
        raw.iter().map(|w| w / mean).collect()
    }

    /// How often each image is repeated among a head's examples, `[images]`, since the head has no
    /// weights: as its rarest tag demands, rounded; once without tags.
    pub fn times(self, truth: &[Vec<usize>], tags: usize) -> Vec<usize> {
        let counts = counts(truth, tags);
        let most = counts.iter().copied().max().unwrap_or(0) as f64;
        let one = |of: &Vec<usize>| {
            let Some(rarest) = of.iter().map(|&t| counts[t]).min() else { return 1 };
            let rare = most / rarest as f64;
            match self {
                Self::None => 1,
                Self::Weights => rare.sqrt().round() as usize,
                Self::Oversample => rare.round() as usize,
            }
        };
        truth.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 90, 10 and 2 images: a tag as rare as 1 in 45 weighs 7 times by the square root, 45 times
    /// where all are to be as frequent.
    #[test]
    fn a_rare_tag_counts_as_often_as_it_is_rare_and_an_image_by_its_rarest_tag() {
        let mut truth: Vec<Vec<usize>> = [(0, 90), (1, 10), (2, 1)].iter().flat_map(|&(t, n)| vec![vec![t]; n]).collect();
        truth.extend([vec![0, 2], Vec::new()]);
        let of = |balance: Balance| {
            let times = balance.times(&truth, 3);
            [times[0], times[90], times[100], times[101], times[102]]
        };
        assert_eq!(of(Balance::None), [1, 1, 1, 1, 1]);
        assert_eq!(of(Balance::Weights), [1, 3, 7, 7, 1]);
        assert_eq!(of(Balance::Oversample), [1, 9, 46, 46, 1]);
        let weights = Balance::Weights.weights(&truth, 3);
        assert!((weights.iter().sum::<f32>() - 3.0).abs() < 1e-5 && weights[2] > 2.0 * weights[1], "{weights:?}");
        assert_eq!(Balance::Oversample.weights(&truth, 3), [1.0; 3], "seen more often, not heavier");
    }
}
