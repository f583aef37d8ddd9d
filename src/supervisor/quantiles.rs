//! Quantiles of the last 65,536 values, from memory taken once.
//!
//! Knows no unit.

const KEPT: usize = 1 << 16;

/// The newest values of a quantity, and its largest ever.
#[derive(Clone, Debug)]
pub struct Quantiles {
    values: Vec<u32>,
    next: usize,
    max: u32,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { values: Vec::with_capacity(KEPT), next: 0, max: 0 }
    }
}

impl Quantiles {
    /// Takes a value; one above `u32::MAX` is held there.
    pub fn add(&mut self, value: u64) {
        let value = value.min(u32::MAX as u64) as u32;
        self.max = self.max.max(value);
        if self.values.len() < KEPT {
            self.values.push(value);
        } else {
            self.values[self.next] = value;
            self.next = (self.next + 1) % KEPT;
        }
    }

    /// The largest ever; 0 for none.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Values below or at which so many thousandths lie (nearest rank); 0 for none.
    pub fn at<const N: usize>(&self, thousandths: [u32; N]) -> [u32; N] {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        thousandths.map(|t| {
            let rank = (sorted.len() * t as usize).div_ceil(1000);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let mut q = Quantiles::default();
        assert_eq!(q.at([500]), [0]);
        (1..=1000).rev().for_each(|v| q.add(v));
        assert_eq!((q.at([500, 990, 999]), q.max()), ([500, 990, 999], 1000));
        (0..KEPT as u64).for_each(|_| q.add(7));
        assert_eq!((q.at([500, 1000]), q.max()), ([7, 7], 1000));
    }
}
