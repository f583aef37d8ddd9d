//! Seeded random numbers, the same on every CPU: the simulated belt, drills and tests draw from
//! them.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014),
//! integers only. Not for secrets.

/// A seeded stream of numbers (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of one thing: the same seed and index give the same numbers.
    pub const fn new(seed: u64, index: u64) -> Self {
        Self(seed ^ index.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number in `lo..=hi`.
    pub const fn range(&mut self, lo: i32, hi: i32) -> i32 {
        let span = (hi as i64 - lo as i64 + 1) as u64;
        lo + (((self.next() >> 32) * span) >> 32) as i32
    }
}

/// Seed and number of cases of a random test: `TAGPIN_TEST_SEED` and `TAGPIN_TEST_CASES`, else 1
/// and `default_cases`, or a quarter of them in a build without optimisation, where they take ten
/// times as long. Both are printed, so that a failure can be run again.
#[cfg(all(test, feature = "std"))]
pub(crate) fn drawn_cases(default_cases: u64) -> (u64, u64) {
    let number = |key: &str| std::env::var(key).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{key}={v} is no number")));
    let default_cases = if cfg!(debug_assertions) { default_cases.div_ceil(4) } else { default_cases };
    let (seed, cases) = (number("TAGPIN_TEST_SEED").unwrap_or(1), number("TAGPIN_TEST_CASES").unwrap_or(default_cases));
    std::println!("TAGPIN_TEST_SEED={seed} TAGPIN_TEST_CASES={cases}");
    (seed, cases)
}
