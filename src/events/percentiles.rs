//! Percentiles of a quantity over a whole run, from memory taken once.

use hdrhistogram::Histogram;

/// Values up to an hour in microseconds, each known to a thousandth of itself; larger ones count as
/// an hour.
#[derive(Clone, Debug)]
pub struct Percentiles(Histogram<u32>);

impl Default for Percentiles {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order and 3 digits are allowed"))
    }
}

impl Percentiles {
    /// Takes a value. Allocates nothing.
    pub fn add(&mut self, value: u64) {
        self.0.saturating_record(value);
    }

    /// The largest ever; 0 for none.
    pub fn max(&self) -> u32 {
        self.0.max() as u32
    }

    /// Nearest-rank quantiles, one per requested per-mille; 0 when empty.
    pub fn at<const N: usize>(&self, per_mille: [u32; N]) -> [u32; N] {
        per_mille.map(|t| self.0.value_at_quantile(t as f64 / 1000.0).min(self.0.max()) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest_to_a_thousandth() {
        let mut values = Percentiles::default();
        assert_eq!((values.at([500]), values.max()), ([0], 0));
        (1..=1000).rev().for_each(|v| values.add(v));
        assert_eq!(values.at([500, 990, 999]), [500, 990, 999]);
        assert_eq!(values.max(), 1000);
        // Unlike a window of the last values, it forgets nothing: one late edge in a million still
        // shows as the largest.
        (0..1_000_000).for_each(|_| values.add(7));
        assert_eq!((values.at([500, 1000])[0], values.max()), (7, 1000));
        values.add(u64::MAX);
        assert!(values.max().abs_diff(3_600_000_000) < 3_600_000, "{}", values.max());
    }
}
