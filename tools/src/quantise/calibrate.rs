//! Scales and zero points of activations from calibration images: what is recorded of them, and
//! four ways to choose a range from it.

use crate::graph::Quant;
use serde::{Deserialize, Serialize};

/// How a range is chosen from what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Calibrator {
    /// All that was seen.
    MinMax,
    /// All but one in ten thousand of the values at either end.
    Percentile,
    /// The range with the least squared error of rounding and clipping.
    Mse,
    /// The range whose rounded histogram diverges least from the seen one (Kullback-Leibler; Migacz
    /// 2017).
    Entropy,
}

impl Calibrator {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::MinMax, Self::Percentile, Self::Mse, Self::Entropy];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "minmax",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
            Self::Entropy => "entropy",
        }
    }
}

/// Most values kept per image for the histogram; least, greatest and mean count every value.
const SAMPLE: usize = 1 << 12;
/// Bins of a histogram; half of them below 0.
const BINS: usize = 4096;

/// The values at one place over all calibration images.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of each image, the values at [`places`].
    samples: Vec<f32>,
    /// Of each channel: least, greatest and sum of values.
    pub channels: Vec<ChannelSeen>,
    /// Values of each channel.
    pub per_channel: u64,
    /// Values of each channel in one image.
    pixels: usize,
}

/// One channel's values.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSeen {
    /// Least value.
    pub low: f32,
    /// Greatest value.
    pub high: f32,
    /// Sum of values.
    pub sum: f64,
}

impl ChannelSeen {
    const NONE: Self = Self { low: f32::INFINITY, high: f32::NEG_INFINITY, sum: 0.0 };

    fn of(values: &[f32]) -> Self {
        const LANES: usize = 16;
        let (mut low, mut high, mut sum) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0f32; LANES]);
        let mut take = |l: usize, v: f32| {
            low[l] = if v < low[l] { v } else { low[l] };
            high[l] = if v > high[l] { v } else { high[l] };
            sum[l] += v;
        };
        let chunks = values.chunks_exact(LANES);
        chunks.remainder().iter().enumerate().for_each(|(l, &v)| take(l, v));
        chunks.for_each(|c| (0..LANES).for_each(|l| take(l, c[l])));
        Self {
            low: low.into_iter().fold(f32::INFINITY, f32::min),
            high: high.into_iter().fold(f32::NEG_INFINITY, f32::max),
            sum: sum.into_iter().map(f64::from).sum(),
        }
    }

    fn join(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high), sum: self.sum + other.sum }
    }
}

/// Indices of the values kept from one image's `n`: one in each of [`SAMPLE`] equal parts, at a
/// varying place, so that not always the same row or column of a feature map is sampled.
fn places(n: usize) -> impl Iterator<Item = usize> {
    let kept = n.min(SAMPLE);
    // Multiples of the golden ratio fill the unit interval evenly (Weyl).
    let within = |k: usize, part: usize| ((((k as u64 * 0x9e37_79b9) & 0xffff_ffff) * part as u64) >> 32) as usize;
    (0..kept).map(move |k| {
        let (start, end) = (k * n / kept, (k + 1) * n / kept);
        start + within(k, end - start)
    })
}

impl Seen {
    /// Nothing seen yet, in `channels` channels.
    pub fn new(channels: usize) -> Self {
        let channels = vec![ChannelSeen::NONE; channels];
        Self { samples: Vec::new(), channels, per_channel: 0, pixels: 0 }
    }

    /// Adds one image's values, `[channels, pixels]`; the same number for every image.
    pub fn add(&mut self, values: &[f32]) {
        self.pixels = values.len() / self.channels.len();
        for (c, plane) in self.channels.iter_mut().zip(values.chunks_exact(self.pixels)) {
            *c = c.join(ChannelSeen::of(plane));
        }
        self.per_channel += self.pixels as u64;
        self.samples.extend(places(values.len()).map(|i| values[i]));
    }

    /// Least value.
    pub fn low(&self) -> f32 {
        self.channels.iter().fold(f32::INFINITY, |m, c| m.min(c.low))
    }

    /// Greatest value.
    pub fn high(&self) -> f32 {
        self.channels.iter().fold(f32::NEG_INFINITY, |m, c| m.max(c.high))
    }

    /// Joins what another saw.
    pub fn join(mut self, other: Self) -> Self {
        self.channels.iter_mut().zip(other.channels).for_each(|(a, b)| *a = a.join(b));
        self.samples.extend(other.samples);
        self.per_channel += other.per_channel;
        self.pixels = self.pixels.max(other.pixels);
        self
    }

    /// What would have been seen with each channel divided by its factor, `[channels]`, all above
    /// 0.
    pub fn divided(mut self, factors: &[f32]) -> Self {
        for (c, f) in self.channels.iter_mut().zip(factors) {
            *c = ChannelSeen { low: c.low / f, high: c.high / f, sum: c.sum / *f as f64 };
        }
        let pixels = self.pixels;
        let n = pixels * factors.len();
        if n > 0 {
            for image in self.samples.chunks_exact_mut(n.min(SAMPLE)) {
                image.iter_mut().zip(places(n)).for_each(|(v, i)| *v /= factors[i / pixels]);
            }
        }
        self
    }

    /// Scale and zero point as `calibrator` chooses them.
    pub fn quant(&self, calibrator: Calibrator) -> Quant {
        let (low, high) = (self.low().min(0.0), self.high().max(0.0));
        let (low, high) = match calibrator {
            Calibrator::MinMax => (low, high),
            Calibrator::Percentile => {
                let (l, h) = Histogram::of(self).percentile(1e-4);
                (l.max(self.low()).min(0.0), h.min(self.high()).max(0.0))
            }
            Calibrator::Mse => {
                let seen = Histogram::of(self);
                least(low, high, |q| seen.squared_error(q))
            }
            Calibrator::Entropy => {
                let seen = Histogram::of(self);
                least(low, high, |q| seen.divergence(q))
            }
        };
        Quant::of_range(low, high)
    }
}

/// The range with the least cost, each end shrunk on its own.
fn least(low: f32, high: f32, cost: impl Fn(Quant) -> f64) -> (f32, f32) {
    let shrunk = |x: f32| (0..=24).map(move |i| x * (1.0 - i as f32 / 32.0));
    let mut best = ((low, high), cost(Quant::of_range(low, high)));
    let consider = |l: f32, h: f32, best: &mut ((f32, f32), f64)| {
        let c = cost(Quant::of_range(l, h));
        if c < best.1 {
            *best = ((l, h), c);
        }
    };
    for h in shrunk(high) {
        consider(low, h, &mut best);
    }
    let high = best.0.1;
    for l in shrunk(low) {
        consider(l, high, &mut best);
    }
    best.0
}

/// How often values were seen.
struct Histogram {
    /// Bin `i` counts values of `i - BINS/2` times the width and up.
    bins: Vec<u64>,
    /// log2 of a bin's width: the smallest with which all values fit.
    width: i32,
}

impl Histogram {
    fn of(seen: &Seen) -> Self {
        let (low, high) = (seen.low(), seen.high());
        let fits = |w: i32| {
            let limit = (w as f32).exp2() * (BINS / 2) as f32;
            high < limit && low >= -limit
        };
        let width = (-20..100).find(|&w| fits(w)).unwrap_or(100);
        let mut bins = vec![0; BINS];
        let (inverse, half) = ((-width as f32).exp2(), (BINS / 2) as f32);
        for &v in &seen.samples {
            // Never below 0, where the conversion would round up.
            bins[((v * inverse + half) as usize).min(BINS - 1)] += 1;
        }
        Self { bins, width }
    }

    /// Middle of a bin.
    fn middle(&self, bin: usize) -> f64 {
        (bin as f64 - BINS as f64 / 2.0 + 0.5) * (self.width as f64).exp2()
    }

    /// The range that leaves out this share of the values at either end.
    fn percentile(&self, share: f64) -> (f32, f32) {
        let all: u64 = self.bins.iter().sum();
        let allowed = all as f64 * share;
        // The first bin, counted from one end, with which more than that would be cut off.
        let edge = |order: &mut dyn Iterator<Item = usize>| {
            let mut beyond = 0.0;
            for i in order {
                beyond += self.bins[i] as f64;
                if beyond > allowed {
                    return Some(i);
                }
            }
            None
        };
        let width = (self.width as f32).exp2();
        let half = BINS as f32 / 2.0;
        let low = edge(&mut (0..BINS)).map_or(0.0, |i| (i as f32 - half) * width);
        let high = edge(&mut (0..BINS).rev()).map_or(0.0, |i| (i as f32 + 1.0 - half) * width);
        (low, high)
    }

    fn squared_error(&self, q: Quant) -> f64 {
        let seen = self.bins.iter().enumerate().filter(|(_, n)| **n > 0);
        let (bottom, top) = q.range();
        // Inside the range the error is uniform, a twelfth of the step squared; outside it is the
        // distance to the edge.
        let error = |x: f64| {
            let beyond = (bottom as f64 - x).max(x - top as f64).max(0.0);
            beyond * beyond + (q.scale as f64).powi(2) / 12.0
        };
        seen.map(|(i, &n)| n as f64 * error(self.middle(i))).sum()
    }

    fn divergence(&self, q: Quant) -> f64 {
        let (bottom, top) = q.range();
        let half = BINS / 2;
        let bin_of =
            |x: f32| ((x / (self.width as f32).exp2()).floor() as i64 + half as i64).clamp(0, BINS as i64 - 1) as usize;
        let (first, last) = (bin_of(bottom), bin_of(top));
        let level = |bin: usize| ((self.middle(bin) / q.scale as f64).round() + 512.0).clamp(0.0, 1023.0) as usize;
        // The bin of 0 is left out: 0 is exact in every range, and after a ReLU it would drown all
        // else.
        let inside = || (first..=last).filter(|&b| b != half && self.bins[b] > 0);
        let (mut mass, mut bins) = ([0.0; 1024], [0.0; 1024]);
        for b in inside() {
            mass[level(b)] += self.bins[b] as f64;
            bins[level(b)] += 1.0;
        }
        let beyond = |range: std::ops::Range<usize>| self.bins[range].iter().sum::<u64>();
        let (below, above) = (beyond(0..first) as f64, beyond(last + 1..BINS) as f64);
        let kept: f64 = mass.iter().sum();
        let seen = kept + below + above;
        if kept == 0.0 {
            return f64::INFINITY;
        }
        // What is clipped comes to lie at the edges, where the rounded histogram has only its own
        // values.
        let outliers = |b: usize| if b == first { below } else { 0.0 } + if b == last { above } else { 0.0 };
        let edges = [first, last].into_iter().filter(|&b| b == half || self.bins[b] == 0);
        let term = |b: usize| {
            let p = (if b == half { 0.0 } else { self.bins[b] as f64 } + outliers(b)) / seen;
            let model = if bins[level(b)] > 0.0 && b != half && self.bins[b] > 0 {
                mass[level(b)] / bins[level(b)] / kept
            } else {
                0.0
            };
            if p > 0.0 { p * (p / model.max(1e-9)).ln() } else { 0.0 }
        };
        inside().map(term).sum::<f64>() + edges.map(term).sum::<f64>()
    }
}

impl Quant {
    /// Least and greatest value that it can hold.
    pub fn range(self) -> (f32, f32) {
        let at = |q: f32| (q - self.zero_point as f32) * self.scale;
        (at(-128.0), at(127.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bell(n: usize, outlier: f32) -> Vec<f32> {
        let mut r = tagpin::random::Random::new(7, 7);
        let mut one = || (0..12).map(|_| r.range(0, 65536) as f32 / 65536.0).sum::<f32>() - 6.0;
        let mut v: Vec<f32> = (0..n).map(|_| one()).collect();
        v[n / 2] = outlier;
        v
    }

    #[test]
    fn the_order_of_images_makes_no_difference() {
        let (a, b) = (bell(1000, 40.0), bell(1000, -3.0));
        let of = |first: &[f32], second: &[f32]| {
            let (mut x, mut y) = (Seen::new(4), Seen::new(4));
            x.add(first);
            y.add(second);
            x.join(y)
        };
        let (ab, ba) = (of(&a, &b), of(&b, &a));
        assert_eq!(Histogram::of(&ab).bins, Histogram::of(&ba).bins);
        for c in Calibrator::ALL {
            assert_eq!(ab.quant(c), ba.quant(c), "{}", c.name());
        }
    }

    #[test]
    fn one_outlier_widens_minmax_alone() {
        let mut seen = Seen::new(1);
        seen.add(&bell(100_000, 60.0));
        let top = |c: Calibrator| seen.quant(c).range().1;
        assert!(top(Calibrator::MinMax) >= 59.7);
        for c in [Calibrator::Percentile, Calibrator::Entropy] {
            assert!((2.5..40.0).contains(&top(c)), "{}: {}", c.name(), top(c));
        }
        // One far value counts by its square: it is clipped, but not by much.
        assert!((2.5..59.0).contains(&top(Calibrator::Mse)), "{}", top(Calibrator::Mse));
    }

    #[test]
    fn zero_is_exact_in_every_range() {
        for (low, high) in [(-3.0, 5.0), (0.0, 6.0), (1.0, 2.0), (-9.0, -1.0), (0.0, 0.0)] {
            let q = Quant::of_range(low, high);
            assert_eq!(tagpin::quant::quantise(0.0, q.scale, q.zero_point), q.zero_point, "{low}..{high}: {q:?}");
        }
    }
}
