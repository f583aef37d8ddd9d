//! Features and distances against their definitions written the plainest way, and every fault of a
//! section by its name.

use super::*;
use crate::random::{Random, drawn_cases};

/// Mean and deviation by exact rational comparison: no root, no shift.
fn naive_features(values: &[i8], channels: usize) -> (Vec<i128>, Vec<i128>) {
    let n = (values.len() / channels) as i128;
    let of = |c: usize| values.iter().skip(c).step_by(channels).map(|&v| v as i128);
    let mean = |c: usize| (of(c).sum::<i128>() * 4096 * 2 + n).div_euclid(2 * n);
    let deviation = |c: usize| {
        let variance = n * of(c).map(|v| v * v).sum::<i128>() - of(c).sum::<i128>().pow(2);
        // The largest d with d / 4096 <= sqrt(variance) / n.
        let (mut low, mut high) = (0i128, 1i128 << 24);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if (middle * n).pow(2) <= variance << 24 { low = middle } else { high = middle }
        }
        low
    };
    ((0..channels).map(mean).collect(), (0..channels).map(deviation).collect())
}

#[test]
fn features_are_means_and_deviations_of_any_shape() {
    let (seed, cases) = drawn_cases(300);
    for case in 0..cases {
        let mut r = Random::new(seed, case);
        let channels = r.range(1, 40) as usize;
        let positions = [1, 2, 3, 49, 196, 70_000][r.range(0, if case % 40 == 0 { 5 } else { 4 }) as usize];
        let (low, high) = [(-128, 127), (-128, -128), (127, 127), (-1, 1), (-128, -120)][r.range(0, 4) as usize];
        let values: Vec<i8> = (0..channels * positions).map(|_| r.range(low, high) as i8).collect();
        let mut got = vec![0; channels * if positions > 1 { 2 } else { 1 }];
        features(&values, channels, &mut got);
        let (means, deviations) = naive_features(&values, channels);
        let what = format!("case {case}: {positions} positions of {channels} channels");
        assert!(got[..channels].iter().map(|&m| m as i128).eq(means), "{what}: means");
        for (got, wanted) in got[channels..].iter().zip(deviations) {
            // A root of more than 40 bits is taken of fewer: it may be one below.
            assert!((0..=1).contains(&(wanted - *got as i128)), "{what}: deviation {got}, expected {wanted}");
        }
    }
}

/// Half of the values at either end: the largest deviation there is.
#[test]
fn the_largest_deviation_fits() {
    let values: Vec<i8> = (0..2 * 2048 * 2048).map(|i| if i < 2048 * 2048 { -128 } else { 127 }).collect();
    let mut got = [0; 2];
    features(&values, 1, &mut got);
    assert_eq!(got, [-2048, 127 * 4096 + 2048]);
}

/// A spread as drawn: orthogonal axes made of pairs of features, turned by some angle.
struct Drawn {
    stages: Vec<(String, u16, u32)>,
    centres: Vec<i32>,
    deviations: Vec<f64>,
    /// Unit vector and variance.
    axes: Vec<(Vec<f64>, f64)>,
    rest: f64,
}

impl Drawn {
    fn new(r: &mut Random) -> Self {
        let stages: Vec<(String, u16, u32)> = (0..r.range(1, 4))
            .map(|i| (format!("stage {i}"), r.range(1, 40) as u16, [1, 4, 196][r.range(0, 2) as usize]))
            .collect();
        let n: usize = stages.iter().map(|(_, c, p)| *c as usize * if *p > 1 { 2 } else { 1 }).sum();
        let mut unit = |low: f64, high: f64| low + (high - low) * r.range(0, 1 << 20) as f64 / (1 << 20) as f64;
        let centres = (0..n).map(|_| unit(-120.0 * 4096.0, 120.0 * 4096.0) as i32).collect();
        let deviations = (0..n).map(|_| unit(0.05, 20.0)).collect();
        let mut axes = Vec::new();
        for pair in 0..n / 2 {
            let angle = unit(0.0, std::f64::consts::TAU);
            let mut vector = vec![0.0; n];
            (vector[2 * pair], vector[2 * pair + 1]) = (angle.cos(), angle.sin());
            axes.push((vector, unit(0.05, 8.0)));
        }
        axes.truncate(unit(0.0, axes.len() as f64 + 1.0) as usize);
        let rest = unit(0.1, 2.0);
        Self { stages, centres, deviations, axes, rest }
    }

    fn section(&self) -> Vec<u8> {
        let stage = |(name, channels, positions): &'_ (String, u16, u32)| (name.clone(), *channels, *positions);
        let owned: Vec<(String, u16, u32)> = self.stages.iter().map(stage).collect();
        let stages: Vec<Stage<'_>> = owned
            .iter()
            .map(|(name, channels, positions)| Stage { name, channels: *channels, positions: *positions })
            .collect();
        let scales: Vec<u32> = self.deviations.iter().map(|d| Fit::scale(*d)).collect();
        let axes: Vec<Axis> = self.axes.iter().map(|(v, variance)| Axis::new(v.iter().copied(), *variance)).collect();
        Fit {
            stages: &stages,
            limit: Distance::from_real(10.0),
            false_reject_ppm: 10_000,
            fitted: 1000,
            left_out: 99,
            centres: &self.centres,
            scales: &scales,
            axes: &axes,
            rest: Fit::weight(self.rest),
        }
        .section()
    }

    /// In f64, by the textbook: the covariance of scaled features is known along each axis.
    fn distance(&self, features: &[i32]) -> f64 {
        let scaled =
            |((f, c), d): ((&i32, &i32), &f64)| ((f - c) as f64 / 4096.0 / d).clamp(-4095.0 / 256.0, 4095.0 / 256.0);
        let z: Vec<f64> = features.iter().zip(&self.centres).zip(&self.deviations).map(scaled).collect();
        let mut left: f64 = z.iter().map(|z| z * z).sum();
        let mut total = 0.0;
        for (axis, variance) in &self.axes {
            let p: f64 = axis.iter().zip(&z).map(|(a, z)| a * z).sum();
            left -= p * p;
            total += p * p / variance;
        }
        (total + left / self.rest).sqrt()
    }
}

#[test]
fn a_distance_is_mahalanobis_to_half_a_percent() {
    let (seed, cases) = drawn_cases(400);
    for case in 0..cases {
        let mut r = Random::new(seed, case);
        let drawn = Drawn::new(&mut r);
        let section = drawn.section();
        let spread = Spread::read(section.as_slice()).unwrap();
        let far = [1.0, 3.0, 40.0][r.range(0, 2) as usize];
        let seen: Vec<i32> = drawn
            .centres
            .iter()
            .zip(&drawn.deviations)
            .map(|(c, d)| c + (d * far * 4096.0 * r.range(-1000, 1000) as f64 / 1000.0) as i32)
            .collect();
        let mut scratch = vec![0; spread.features()];
        let (got, wanted) = (spread.measure(&seen, &mut scratch).real(), drawn.distance(&seen));
        // Scaled features are rounded to 1/256, axes to 2^-13: 0.5 % and a few roundings of the
        // smallest axis.
        assert!((got - wanted).abs() < 0.005 * wanted + 0.1, "case {case}: {got} against {wanted}");
        // The centre is no distance at all.
        assert_eq!(spread.measure(&drawn.centres, &mut scratch), Distance(0), "case {case}");
        let own = spread.to_owned();
        assert_eq!(own.measure(&seen, &mut scratch), spread.measure(&seen, &mut scratch));
        assert!(own.stages().eq(spread.stages()));
        assert_eq!((own.limit(), own.images(), own.false_reject_ppm()), (Distance(655_360), (1000, 99), 10_000));
    }
}

/// The farthest features against the longest axes and the largest weights there may be: nothing
/// wraps into the near.
#[test]
fn the_farthest_image_is_the_farthest() {
    let n = MAX_FEATURES;
    let entry = (8192.0 / (n as f64).sqrt()) as i16;
    let axis = Axis { entries: vec![entry; n], weight: Fit::weight(1e-9) };
    let section = Fit {
        stages: &[Stage { name: "x", channels: n as u16, positions: 1 }],
        limit: Distance(0),
        false_reject_ppm: 0,
        fitted: 1,
        left_out: 1,
        centres: &vec![-128 * 4096; n],
        scales: &vec![u32::MAX; n],
        axes: &[axis],
        rest: 1 << 27,
    }
    .section();
    let spread = Spread::read(section.as_slice()).unwrap();
    let mut scratch = vec![0; n];
    let far = spread.measure(&vec![127 * 4096; n], &mut scratch);
    let near = spread.measure(&vec![-127 * 4096; n], &mut scratch);
    // Every feature 16 deviations off, times the root of 2048 features and of a weight of 2048.
    assert!([far, near].iter().all(|d| (32_700.0..32_800.0).contains(&d.real())), "{far} {near}");
}

#[test]
fn what_is_wrong_with_a_section_is_named() {
    let stage = Stage { name: "s", channels: 2, positions: 4 };
    let axis = Axis::new([0.5; 4], 2.0);
    let good = Fit {
        stages: &[stage],
        limit: Distance(5),
        false_reject_ppm: 1,
        fitted: 1,
        left_out: 1,
        centres: &[0; 4],
        scales: &[1; 4],
        axes: std::slice::from_ref(&axis),
        rest: 7,
    };
    let fault = |fit: Fit<'_>| Spread::read(fit.section()).err();
    assert_eq!(fault(good), None);
    assert_eq!(fault(Fit { axes: &[], ..good }), None, "no axis at all: every feature by itself");
    assert_eq!(fault(Fit { stages: &[], ..good }), Some(SpreadFault::Stages));
    assert_eq!(fault(Fit { stages: &[Stage { name: "", ..stage }], ..good }), Some(SpreadFault::Stages));
    assert_eq!(fault(Fit { stages: &[Stage { channels: 0, ..stage }], ..good }), Some(SpreadFault::Stages));
    assert_eq!(fault(Fit { stages: &[Stage { positions: 0, ..stage }], ..good }), Some(SpreadFault::Stages));
    let many = Stage { channels: 1025, ..stage };
    assert_eq!(fault(Fit { stages: &[many], ..good }), Some(SpreadFault::Features { found: 2050 }));
    assert_eq!(fault(Fit { stages: &[Stage { positions: 1, ..stage }], ..good }), Some(SpreadFault::Lengths));
    assert_eq!(fault(Fit { scales: &[1; 3], ..good }), Some(SpreadFault::Lengths));
    assert_eq!(fault(Fit { axes: &vec![axis.clone(); 5], ..good }), Some(SpreadFault::Lengths), "more axes than features");
    let long = [axis.clone(), Axis::new([0.51; 4], 1.0)];
    assert_eq!(fault(Fit { axes: &long, ..good }), Some(SpreadFault::Axis(1)));
    assert_eq!(fault(Fit { rest: (1 << 27) + 1, ..good }), Some(SpreadFault::Weight));
    let bytes = good.section();
    for n in 0..bytes.len() {
        assert_eq!(Spread::read(&bytes[..n]).err(), Some(SpreadFault::Encoding), "{n} bytes");
    }
    assert_eq!(Spread::read([bytes.as_slice(), &[0]].concat()).err(), Some(SpreadFault::Encoding), "a byte left over");
}

/// Any bytes that are read can be measured by, whatever they say.
#[test]
fn a_mutated_section_never_panics() {
    let (seed, cases) = drawn_cases(5_000);
    let mut read = 0;
    for case in 0..cases {
        let mut r = Random::new(seed, case);
        let mut section = Drawn::new(&mut r).section();
        for _ in 0..r.range(1, 3) {
            let at = r.range(0, section.len() as i32 - 1) as usize;
            section[at] = r.range(0, 255) as u8;
        }
        let Ok(spread) = Spread::read(section.as_slice()) else { continue };
        read += 1;
        let n = spread.features();
        let seen: Vec<i32> = (0..n).map(|_| r.range(-128 * 4096, 127 * 4096)).collect();
        spread.measure(&seen, &mut vec![0; n]);
        assert!(spread.stages().map(|s| s.features()).sum::<usize>() == n);
    }
    assert!(cases < 100 || read > cases / 10, "{read} of {cases} were read");
}

/// The bits of FORMAT.md's formulas, worked out in another language: the same on every CPU.
#[test]
fn features_and_distance_have_these_bits() {
    let activation: Vec<i8> = (0..24 * 41).map(|i| (i * 89 % 251) as u8 as i8).collect();
    let (mut seen, mut scratch) = ([0; 48], [0; 48]);
    features(&activation, 24, &mut seen);
    assert_eq!([0, 23, 24, 47].map(|i| seen[i]), [-55_945, 28_572, 293_372, 303_804]);
    let axis = |a: i32| Axis {
        entries: (0..48).map(|i| (((a * 31 + i * 17) % 201 - 100) * 5) as i16).collect(),
        weight: 65_536 * (a as u32 + 1),
    };
    let section = Fit {
        stages: &[Stage { name: "s", channels: 24, positions: 41 }],
        limit: Distance(0),
        false_reject_ppm: 0,
        fitted: 2,
        left_out: 1,
        centres: &[0; 48],
        scales: &std::array::from_fn::<u32, 48, _>(|i| 65_536 / (1 + i as u32 % 7)),
        axes: &[0, 1, 2, 3, 4].map(axis),
        rest: 30_000,
    }
    .section();
    assert_eq!(Spread::read(section).unwrap().measure(&seen, &mut scratch), Distance(3_337_215));
}
