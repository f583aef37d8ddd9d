//! Whether a bundle that was taken over does worse than the one before it, by what a line can know:
//! how many of its parts are late.
//!
//! The bundle's first parts are compared with the last ones of the bundle before. Fisher's exact
//! test, one-sided, gives the probability that the new bundle has this many of all late parts, or
//! more, if the bundle makes no difference. It is asked every [`EVERY`] parts, so that a bundle
//! that makes every part late does not go on for [`PARTS`] of them, and each time at an equal share
//! of [`LEVEL`]: of bundles that are as good as the one before, at most one in a thousand is taken
//! for worse.

use std::collections::VecDeque;

/// Parts for which a bundle is watched, and of the bundle before that it is compared with.
pub const PARTS: u64 = 1000;
/// Parts from one look to the next.
pub const EVERY: u64 = 50;
/// The share of bundles no worse than the one before that may be taken for worse.
pub const LEVEL: f64 = 0.001;
/// What one look has of it.
pub const LEVEL_OF_ONE: f64 = LEVEL * EVERY as f64 / PARTS as f64;

/// Parts, and how many of them were late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Parts that had their end.
    pub parts: u64,
    /// Those that had been at their first gate by then.
    pub late: u64,
}

/// Probability that `new.late` or more of all late parts are the new bundle's, if the bundle makes
/// no difference: the upper tail of the hypergeometric distribution. 0..=1; 1 where no part was
/// late, or one of the bundles has no parts.
pub fn by_chance(old: Tally, new: Tally) -> f64 {
    let [all, drawn, late] = [old.parts + new.parts, new.parts, old.late + new.late];
    let (lo, hi) = (late.saturating_sub(all - drawn), drawn.min(late));
    // Weights that begin with 1 at the likeliest number, each made of its neighbour, so that no
    // factorial is needed.
    let up = |x: u64| ((late - x) * (drawn - x)) as f64 / ((x + 1) * (all - drawn + x + 1 - late)) as f64;
    let middle = ((drawn + 1) * (late + 1) / (all + 2)).clamp(lo, hi);
    let (mut whole, mut tail) = (0.0, 0.0);
    let mut add = |x: u64, weight: f64| {
        whole += weight;
        tail += if x >= new.late { weight } else { 0.0 };
    };
    let mut weight = 1.0;
    for x in middle..=hi {
        add(x, weight);
        weight *= if x < hi { up(x) } else { 0.0 };
    }
    weight = 1.0;
    for x in (lo..middle).rev() {
        weight /= up(x);
        add(x, weight);
    }
    tail / whole
}

/// The last [`PARTS`] parts of a bundle.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<bool>);

impl History {
    /// One more part had its end.
    pub fn add(&mut self, late: bool) {
        if self.0.len() as u64 == PARTS {
            self.0.pop_front();
        }
        self.0.push_back(late);
    }

    /// They in figures.
    pub fn tally(&self) -> Tally {
        Tally { parts: self.0.len() as u64, late: self.0.iter().filter(|late| **late).count() as u64 }
    }
}

/// What one more part showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found {
    /// Nothing so far.
    Nothing,
    /// More late parts than by chance: these, by this probability.
    MoreLate(Tally, f64),
    /// All parts that are watched had their end, and no more of them were late than by chance.
    Over,
}

/// Watches a bundle that was taken over.
#[derive(Clone, Debug)]
pub struct Watch {
    old: Tally,
    new: Tally,
}

impl Watch {
    /// `old`: what the bundle before it came to.
    pub fn new(old: Tally) -> Self {
        Self { old, new: Tally::default() }
    }

    /// What the bundle before it came to.
    pub fn old(&self) -> Tally {
        self.old
    }

    /// One more part of the new bundle had its end.
    pub fn add(&mut self, late: bool) -> Found {
        self.new.parts += 1;
        self.new.late += u64::from(late);
        if !self.new.parts.is_multiple_of(EVERY) {
            return Found::Nothing;
        }
        let chance = by_chance(self.old, self.new);
        if chance < LEVEL_OF_ONE {
            Found::MoreLate(self.new, chance)
        } else if self.new.parts >= PARTS {
            Found::Over
        } else {
            Found::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    fn tally(parts: u64, late: u64) -> Tally {
        Tally { parts, late }
    }

    /// Every way in which the late parts can lie among all, counted one by one.
    #[test]
    fn the_probability_is_that_of_all_ways_in_which_the_late_parts_can_lie() {
        for old in 0..=7u64 {
            for new in 0..=7u64 {
                for late in 0..=old + new {
                    let ways: Vec<u64> = (0u64..1 << (old + new))
                        .filter(|way| u64::from(way.count_ones()) == late)
                        // The new bundle's parts are the lowest bits.
                        .map(|way| u64::from((way & ((1 << new) - 1)).count_ones()))
                        .collect();
                    for k in late.saturating_sub(old)..=late.min(new) {
                        let expected = ways.iter().filter(|n| **n >= k).count() as f64 / ways.len() as f64;
                        let found = by_chance(tally(old, late - k), tally(new, k));
                        assert!((found - expected).abs() < 1e-12, "{old} {new} {late} {k}: {found}, expected {expected}");
                    }
                }
            }
        }
    }

    /// The same from binomial coefficients, for as many parts as a line compares.
    #[test]
    fn the_probability_is_that_of_binomial_coefficients_for_drawn_tallies() {
        let (seed, cases) = drawn_cases(400);
        let ln: Vec<f64> = std::iter::once(0.0)
            .chain((1..=2 * PARTS).scan(0.0, |sum, i| {
                *sum += (i as f64).ln();
                Some(*sum)
            }))
            .collect();
        let choose = |n: u64, k: u64| ln[n as usize] - ln[k as usize] - ln[(n - k) as usize];
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut draw = |most: u64| random.range(0, most as i32) as u64;
            let (old, new) = (draw(PARTS), 1 + draw(PARTS - 1));
            let (old, new) = (tally(old, draw(old)), tally(new, draw(new)));
            let (all, late) = (old.parts + new.parts, old.late + new.late);
            let term = |x: u64| (choose(late, x) + choose(all - late, new.parts - x) - choose(all, new.parts)).exp();
            let expected: f64 = (new.late..=late.min(new.parts)).map(term).sum();
            let found = by_chance(old, new);
            let error = (found - expected).abs();
            assert!(error < 1e-9 * expected + 1e-300, "case {case}: {old:?} {new:?}: {found}, expected {expected}");
        }
    }

    #[test]
    fn one_late_part_more_makes_chance_less_likely_and_all_or_none_are_told_apart() {
        for late in 0..50 {
            assert!(by_chance(tally(1000, 5), tally(50, late)) > by_chance(tally(1000, 5), tally(50, late + 1)));
        }
        assert_eq!(by_chance(tally(1000, 0), tally(50, 0)), 1.0);
        assert_eq!(by_chance(tally(0, 0), tally(50, 50)), 1.0, "nothing is known of the bundle before");
        assert_eq!(by_chance(tally(1000, 1000), tally(50, 50)), 1.0);
    }

    /// Bundles that are as good as the one before: at most [`LEVEL`] of them are taken for worse.
    #[test]
    fn of_drawn_histories_with_equal_rates_no_more_than_the_level_are_taken_for_worse() {
        let (seed, cases) = drawn_cases(10_000);
        let mut worse = 0u64;
        for case in 0..cases {
            let mut random = Random::new(seed ^ 0x1a7e, case);
            // Small rates as often as large ones. Where few parts are late, or few are known, the
            // test uses less than its level.
            let rate = [1000, 10_000, 50_000, 200_000, 500_000][random.range(0, 4) as usize];
            let mut late = || random.range(0, 999_999) < rate;
            let mut history = History::default();
            (0..[20, 500, 1000, 1500][case as usize % 4]).for_each(|_| history.add(late()));
            let mut watch = Watch::new(history.tally());
            let found = (0..PARTS).map(|_| watch.add(late())).find(|found| *found != Found::Nothing);
            worse += u64::from(found.expect("it is over after its parts") != Found::Over);
        }
        // Four standard deviations of a binomial count, where each history had all of the level.
        let most = cases as f64 * LEVEL;
        let most = most + 4.0 * most.sqrt();
        assert!((worse as f64) < most, "{worse} of {cases}, expected below {most}");
    }

    /// What a line sees of a model that is too slow: it goes back after 50 parts, or when there are
    /// enough late ones.
    #[test]
    fn a_bundle_that_makes_parts_late_is_found_and_the_sooner_the_more_of_them() {
        let after = |every: u64, old: Tally| {
            let mut watch = Watch::new(old);
            (1..=PARTS).find(|n| matches!(watch.add(n.is_multiple_of(every)), Found::MoreLate(..)))
        };
        assert_eq!(after(1, tally(1000, 0)), Some(50));
        assert_eq!(after(1, tally(20, 0)), Some(50));
        assert_eq!(after(10, tally(1000, 10)), Some(100));
        assert_eq!(after(30, tally(1000, 10)), None, "33 of 1000 beside 10 are not enough");
        assert_eq!(after(1, tally(1000, 990)), None, "the line was as it is");
        assert_eq!(after(1, tally(1, 0)), None, "one part says nothing");
    }
}
