//! Fits the spread of features (centre, deviations, axes of a shrunk covariance) and the limit.
//!
//! Few images do not determine the covariance of n features, so it is shrunk towards a multiple of
//! the identity by the share that Ledoit and Wolf ("A well-conditioned estimator for
//! large-dimensional covariance matrices", 2004) show to be best. Its eigenvectors are the axes.
//! Directions in which the images do not vary at all are the rest.

use super::eigen::{Eigen, Matrix};
use super::stages::StageName;
use anyhow::{Result, ensure};
use rayon::prelude::*;
use tagpin::distance::{Axis, Distance, FEATURE_ONE, Fit, Spread, Stage};

/// Most bytes of a section.
const MOST_BYTES: usize = 512 << 10;
/// Least ratio of the network's multiply-adds to the distance's: an int8 one takes a quarter of the
/// time of an int16 one.
const NETWORK_PER_DISTANCE: u64 = 200;
/// A deviation is at least this share of the median of its kind at its stage: for a channel that
/// did not vary in the training images, the true deviation is unknown.
const LEAST_OF_MEDIAN: f64 = 0.1;
/// A deviation is at least this many codes.
const LEAST_CODES: f64 = 1.0 / 64.0;
/// A variance along an axis, of scaled features, is at least this.
const LEAST_VARIANCE: f64 = 1e-3;
/// Scaled features are cut here, as on the device.
const FARTHEST: f64 = 16.0;

/// A fitted spread without its limit.
pub struct Fitted {
    centres: Vec<i32>,
    scales: Vec<u32>,
    axes: Vec<Axis>,
    rest: u32,
    images: usize,
    /// Shrinkage: share of the covariance that was replaced by a multiple of the identity, 0 to 1.
    pub shrinkage: f64,
}

/// Axes that a section may have, for a number of features and of the network's multiply-adds.
pub fn most_axes(features: usize, macs: u64) -> usize {
    let room = MOST_BYTES.saturating_sub(8 * features + 1024) / (2 * features + 4);
    let time = (macs / NETWORK_PER_DISTANCE / features as u64) as usize;
    room.min(time.max(16)).min(features)
}

/// Fits features of images, `[images][features]`, of these stages.
pub fn fit(images: &[&[i32]], stages: &[StageName], most_axes: usize) -> Result<Fitted> {
    ensure!(images.len() >= 2, "a spread needs at least 2 images, there are {}", images.len());
    let (n, count) = (images[0].len(), images.len() as f64);
    let column = |i: usize| images.iter().map(move |f| f[i] as f64 / FEATURE_ONE as f64);
    let centres: Vec<f64> = (0..n).map(|i| column(i).sum::<f64>() / count).collect();
    let deviation = |i: usize| (column(i).map(|x| (x - centres[i]).powi(2)).sum::<f64>() / count).sqrt();
    let mut deviations: Vec<f64> = (0..n).into_par_iter().map(deviation).collect();
    let mut rest = deviations.as_mut_slice();
    for stage in stages.iter().map(StageName::stage) {
        let (own, behind) = std::mem::take(&mut rest).split_at_mut(stage.features());
        rest = behind;
        for kind in own.chunks_mut(stage.channels as usize) {
            let mut sorted = kind.to_vec();
            sorted.sort_by(f64::total_cmp);
            let least = (LEAST_OF_MEDIAN * sorted[sorted.len() / 2]).max(LEAST_CODES);
            kind.iter_mut().for_each(|d| *d = d.max(least));
        }
    }
    let scaled = |k: usize, i: usize| {
        let z = (images[k][i] as f64 / FEATURE_ONE as f64 - centres[i]) / deviations[i];
        z.clamp(-FARTHEST, FARTHEST)
    };
    let z: Vec<Vec<f64>> = (0..images.len()).into_par_iter().map(|k| (0..n).map(|i| scaled(k, i)).collect()).collect();
    let covariance = Matrix::covariance(&z, n);
    let mean = covariance.trace() / n as f64;
    let square = covariance.square();
    let spread = (square - n as f64 * mean * mean) / n as f64;
    let fourth: f64 = z.iter().map(|row| row.iter().map(|z| z * z).sum::<f64>().powi(2)).sum();
    let noise = (fourth / (count * count) - square / count) / n as f64;
    let shrinkage = if spread > 0.0 { (noise / spread).clamp(0.0, 1.0) } else { 1.0 };
    let eigen = Eigen::of(covariance);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| eigen.values[*b].total_cmp(&eigen.values[*a]));
    // Along a direction in which nothing varies only the shrinkage is left, which is what the rest
    // stands for.
    let seen = order.iter().take_while(|&&k| eigen.values[k] > 1e-9 * eigen.values[order[0]].max(1e-12)).count();
    let rank = seen.min(most_axes);
    let variance = |k: usize| (shrinkage * mean + (1.0 - shrinkage) * eigen.values[k].max(0.0)).max(LEAST_VARIANCE);
    let left = &order[rank..];
    let rest = left.iter().map(|&k| variance(k)).sum::<f64>() / left.len().max(1) as f64;
    Ok(Fitted {
        centres: centres.iter().map(|c| (c * FEATURE_ONE as f64).round() as i32).collect(),
        scales: deviations.iter().map(|d| Fit::scale(*d)).collect(),
        axes: order[..rank].iter().map(|&k| Axis::new(eigen.vector(k).iter().copied(), variance(k))).collect(),
        rest: if left.is_empty() { 0 } else { Fit::weight(rest) },
        images: images.len(),
        shrinkage,
    })
}

/// The limit and how it was set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// What lies farther off is foreign.
    pub distance: Distance,
    /// Share of good images beyond it that it was set for.
    pub false_reject: f64,
    /// Images left out of the fit.
    pub left_out: usize,
}

/// The default share of good images beyond the limit.
pub const FALSE_REJECT: f64 = 0.01;

/// The limit for a share of false rejects: the quantile of the distances of images left out of the
/// fit that holds for the next one too (Vovk et al., "Algorithmic Learning in a Random World",
/// 2005). `distances`: one or more of each of `images` images. Without a share asked for: 1 %, or 1
/// of n + 1 where n images allow no less; a smaller one is refused.
pub fn limit(distances: &[Distance], images: usize, asked: Option<f64>) -> Result<Limit> {
    ensure!(images > 0 && !distances.is_empty(), "no image is left out of the fit, so no limit can be set");
    let least = 1.0 / (images as f64 + 1.0);
    let share = asked.unwrap_or(FALSE_REJECT.max(least));
    ensure!((0.0..1.0).contains(&share) && share > 0.0, "--false-reject {share}: expected a share above 0 and below 1");
    let needed = (1.0 / share - 1e-9).ceil() as usize - 1;
    ensure!(
        share >= least - 1e-12,
        "--false-reject {share}: {images} images are left out of the fit, which allow {:.4}; {share} needs {needed}",
        // Rounded up, so that what is printed is allowed when it is asked for.
        (least * 1e4).ceil() / 1e4
    );
    let mut sorted = distances.to_vec();
    sorted.sort();
    let n = sorted.len();
    let rank = ((n as f64 + 1.0) * (1.0 - share) - 1e-9).ceil() as usize;
    Ok(Limit { distance: sorted[rank.clamp(1, n) - 1], false_reject: share, left_out: images })
}

impl Fitted {
    /// Axes that were kept.
    pub fn rank(&self) -> usize {
        self.axes.len()
    }

    /// The section's bytes.
    pub fn section(&self, stages: &[StageName], limit: Limit) -> Vec<u8> {
        let stages: Vec<Stage<'_>> = stages.iter().map(StageName::stage).collect();
        Fit {
            stages: &stages,
            limit: limit.distance,
            false_reject_ppm: (limit.false_reject * 1e6).round() as u32,
            fitted: self.images as u32,
            left_out: limit.left_out as u32,
            centres: &self.centres,
            scales: &self.scales,
            axes: &self.axes,
            rest: self.rest,
        }
        .section()
    }

    /// As the device reads it.
    pub fn spread(&self, stages: &[StageName], limit: Limit) -> Result<Spread<Vec<u8>>> {
        Ok(Spread::read(self.section(stages, limit))?)
    }

    /// Distances of images by their features, in the device's arithmetic.
    pub fn distances(&self, stages: &[StageName], images: &[&[i32]]) -> Result<Vec<Distance>> {
        Ok(measure(&self.spread(stages, Limit::default())?, images))
    }
}

/// Distances of images by their features.
pub fn measure(spread: &Spread<Vec<u8>>, images: &[&[i32]]) -> Vec<Distance> {
    let scratch = || vec![0; spread.features()];
    images.par_iter().map_init(scratch, |scratch, features| spread.measure(features, scratch)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagpin::random::Random;

    fn stage(channels: u16) -> Vec<StageName> {
        vec![StageName { name: "s".into(), channels, positions: 1 }]
    }

    /// Images whose features are a known mixture of normal numbers.
    fn drawn(n: usize, images: usize, seed: u64) -> Vec<Vec<i32>> {
        let mut r = Random::new(seed, 0xd157);
        let mut normal = || (0..12).map(|_| r.range(0, 1 << 16) as f64 / 65536.0).sum::<f64>() - 6.0;
        let one = |_| {
            let common = normal();
            (0..n).map(|i| ((10.0 + i as f64 + 3.0 * common + normal()) * FEATURE_ONE as f64) as i32).collect()
        };
        (0..images).map(one).collect()
    }

    fn refs(images: &[Vec<i32>]) -> Vec<&[i32]> {
        images.iter().map(Vec::as_slice).collect()
    }

    /// Squares of distances of n normal features are chi-squared: their mean is n.
    #[test]
    fn the_mean_square_distance_of_images_like_those_fitted_is_the_number_of_features() {
        let (seen, new) = (drawn(6, 4000, 1), drawn(6, 2000, 2));
        let fitted = fit(&refs(&seen), &stage(6), 6).unwrap();
        let squares: Vec<f64> = fitted.distances(&stage(6), &refs(&new)).unwrap().iter().map(|d| d.real().powi(2)).collect();
        let mean = squares.iter().sum::<f64>() / squares.len() as f64;
        assert!((5.5..6.5).contains(&mean), "{mean}");
        // Against what features have in common, one deviation is far: the same step along it is
        // near.
        let centre: Vec<i32> = fitted.centres.clone();
        let step = |sign: &dyn Fn(usize) -> i32| {
            let moved: Vec<i32> = centre.iter().enumerate().map(|(i, c)| c + sign(i) * 3 * FEATURE_ONE).collect();
            fitted.distances(&stage(6), &[&moved]).unwrap()[0].real()
        };
        let (along, against) = (step(&|_| 1), step(&|i| if i % 2 == 0 { 1 } else { -1 }));
        assert!(against > 4.0 * along, "{along} {against}");
    }

    #[test]
    fn fewer_images_are_shrunk_more_and_have_no_more_axes_than_they_can_tell() {
        let few = fit(&refs(&drawn(40, 20, 3)), &stage(40), 40).unwrap();
        let many = fit(&refs(&drawn(40, 2000, 3)), &stage(40), 40).unwrap();
        assert!(few.shrinkage > 5.0 * many.shrinkage && few.shrinkage <= 1.0, "{} {}", few.shrinkage, many.shrinkage);
        assert!(few.rank() < 20 && many.rank() == 40, "{} {}", few.rank(), many.rank());
        assert_eq!(fit(&refs(&drawn(40, 2000, 3)), &stage(40), 7).unwrap().rank(), 7);
        // A channel that stood still still has a deviation.
        let still = vec![vec![7 * FEATURE_ONE; 40]; 20];
        let still = fit(&refs(&still), &stage(40), 40).unwrap();
        assert_eq!(still.distances(&stage(40), &[&[7 * FEATURE_ONE; 40]]).unwrap(), [Distance(0)]);
        assert!(fit(&refs(&drawn(4, 1, 1)), &stage(4), 4).is_err());
    }

    /// Of 99 images one may lie beyond a limit for 1 %: the largest distance is the limit. A
    /// smaller share needs more images.
    #[test]
    fn a_limit_is_the_quantile_that_holds_for_the_next_image() {
        let of = |n: usize| (1..=n as u32).rev().map(Distance).collect::<Vec<_>>();
        let by = |n: usize, asked| limit(&of(n), n, asked).map(|l| (l.distance.0, l.false_reject));
        assert_eq!(by(99, None).unwrap(), (99, 0.01));
        assert_eq!(by(999, None).unwrap(), (990, 0.01));
        assert_eq!(by(20, None).unwrap(), (20, 1.0 / 21.0));
        assert_eq!(by(20, Some(0.1)).unwrap(), (19, 0.1));
        let text = by(98, Some(0.01)).unwrap_err().to_string();
        assert!(text.contains("98 images") && text.ends_with("0.01 needs 99"), "{text}");
        assert!(by(99, Some(0.01)).is_ok());
        // The share that a refusal prints is allowed: 1 of 15 was printed as 0.0667, which holds, 1
        // of 11 as 0.0909, which was refused.
        for n in 1..400 {
            let text = by(n, Some(1e-9)).unwrap_err().to_string();
            let printed = text.split("allow ").nth(1).and_then(|t| t.split(';').next()).unwrap().parse().unwrap();
            assert!(by(n, Some(printed)).is_ok(), "{n}: {text}");
        }
        for wrong in [0.0, -0.5, 1.0, f64::NAN] {
            assert!(by(99, Some(wrong)).is_err(), "{wrong}");
        }
        assert!(limit(&[], 0, None).is_err());
    }

    /// The promise itself: on images never seen, at most the stated share lies beyond, over many
    /// draws.
    #[test]
    fn the_share_beyond_a_limit_is_what_was_stated() {
        let mut beyond = 0.0;
        let draws = 200;
        for seed in 0..draws {
            let mut r = Random::new(seed, 5);
            let mut draw = |n: usize| (0..n).map(|_| Distance(r.range(0, 1 << 30) as u32)).collect::<Vec<_>>();
            let limit = limit(&draw(120), 120, Some(0.05)).unwrap().distance;
            beyond += draw(2000).iter().filter(|d| **d > limit).count() as f64 / 2000.0;
        }
        let share = beyond / draws as f64;
        assert!((0.04..0.055).contains(&share), "{share}");
    }

    #[test]
    fn a_section_keeps_to_its_room_and_its_time() {
        assert_eq!(most_axes(464, 385_000_000), 464, "EfficientNet-Lite0: all axes");
        for (features, macs) in [(1280, 385_000_000), (2048, 1 << 40), (576, 16_200_000), (464, 1000)] {
            let axes = most_axes(features, macs);
            assert!(axes * (2 * features + 4) + 8 * features < 512 << 10, "{features}");
            assert!(axes <= 16 || (axes * features) as u64 <= macs / 200, "{features}");
        }
    }
}
