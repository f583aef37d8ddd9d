//! Seeded numbers for the belt: spreads, rates, and durations by their quantiles.
//!
//! Only integers and linear steps, so that a seed means the same line on every CPU.

use crate::random::Random;
use crate::time::Micros;

/// A range that numbers are drawn from, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The smallest.
    pub lo: Micros,
    /// The largest.
    pub hi: Micros,
}

/// A distribution of durations, by quantiles; linear in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantile(Vec<(u32, Micros)>);

/// Millionths below the whole.
const WHOLE: u32 = 1_000_000;

impl Quantile {
    /// Of a measured median, 90th and 99th percentile and largest.
    pub fn measured(p50: Micros, p90: Micros, p99: Micros, max: Micros) -> Self {
        let least = Micros(p50.0 * 4 / 5);
        Self(vec![(0, least), (500_000, p50), (900_000, p90.max(p50)), (990_000, p99.max(p90)), (WHOLE, max.max(p99))])
    }

    /// With a heavy tail: one in a thousand takes between `p999` and `max`.
    pub fn heavy(p50: Micros, p99: Micros, p999: Micros, max: Micros) -> Self {
        Self(vec![(0, Micros(p50.0 / 2)), (500_000, p50), (990_000, p99), (999_000, p999), (WHOLE, max)])
    }

    /// The longest that is drawn.
    pub fn largest(&self) -> Micros {
        self.0.last().map_or(Micros(0), |(_, largest)| *largest)
    }

    pub(super) fn draw(&self, random: &mut Random) -> Micros {
        let at = random.range(0, WHOLE as i32 - 1) as u32;
        let above = self.0.iter().position(|(share, _)| *share > at).unwrap_or(self.0.len() - 1);
        let ((lo_share, lo), (hi_share, hi)) = (self.0[above.max(1) - 1], self.0[above.max(1)]);
        let part = (at - lo_share) as u64 * (hi.0.saturating_sub(lo.0)) / (hi_share - lo_share).max(1) as u64;
        Micros(lo.0 + part)
    }
}

impl Spread {
    pub(super) fn draw(self, random: &mut Random) -> Micros {
        let span = self.hi.0.saturating_sub(self.lo.0).min(i32::MAX as u64) as i32;
        Micros(self.lo.0 + random.range(0, span) as u64)
    }
}

/// True in `per_million` of a million cases.
pub(super) fn strikes(random: &mut Random, per_million: u32) -> bool {
    per_million > 0 && (random.range(0, 999_999) as u32) < per_million
}
