//! The simulated belt's way: it runs at one speed, and pauses and runs back as drawn.
//!
//! Positions are counts of an encoder. Only counts that somebody waits for are told one by one;
//! [`Motion::position`] gives the count at any moment.

use crate::random::Random;
use crate::time::{Instant, Micros};
use std::collections::BTreeSet;

/// How the belt moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moves {
    /// Always on, at one speed.
    #[default]
    Steadily,
    /// It stands still now and then.
    WithPauses,
    /// It stands still now and then, and runs back a little before it goes on.
    BackToo,
}

/// Millionths of a count.
const COUNT: i64 = 1_000_000;

pub(super) struct Motion {
    moves: Moves,
    /// Counts a second.
    speed: i64,
    /// Since when, from where (in millionths of a count) and how fast it moves.
    since: u64,
    from: i64,
    now_speed: i64,
    /// When it next moves otherwise.
    changes: Option<u64>,
    farthest: i64,
    wanted: BTreeSet<i64>,
}

impl Motion {
    pub(super) fn new(moves: Moves, counts_per_second: u32, start: Instant) -> Self {
        let (speed, since) = (counts_per_second as i64, start.as_micros());
        let changes = (moves != Moves::Steadily).then_some(since + 2_000_000);
        Self { moves, speed, since, from: 0, now_speed: speed, changes, farthest: 0, wanted: BTreeSet::new() }
    }

    fn way(&self, at: Instant) -> i64 {
        self.from + self.now_speed * (at.as_micros() - self.since) as i64
    }

    /// The count at `at`, which is not before the last change.
    pub(super) fn position(&self, at: Instant) -> i64 {
        self.way(at).div_euclid(COUNT)
    }

    /// When a part may pass the trigger that would at `at`: where the belt has not been before.
    pub(super) fn next_new(&self, at: Instant) -> Instant {
        match (self.now_speed > 0, self.farthest - self.way(at)) {
            (true, ..=0) => at,
            (true, behind) => at.plus(Micros((behind / self.now_speed + 1) as u64)),
            (false, _) => Instant::from_micros(self.changes.expect("a belt that stands goes on")).plus(Micros(1)),
        }
    }

    /// Somebody waits for a count that is still ahead.
    pub(super) fn want(&mut self, position: i64) {
        self.wanted.insert(position);
    }

    /// When the next count comes that somebody waits for, or the belt moves otherwise.
    pub(super) fn next(&self) -> Option<Instant> {
        let wanted = self.wanted.first().filter(|_| self.now_speed > 0);
        let reached = wanted.map(|p| self.since + ((p * COUNT - self.from) as u64).div_ceil(self.now_speed as u64));
        reached.into_iter().chain(self.changes).min().map(Instant::from_micros)
    }

    /// The count that has just come, if somebody waited for it.
    pub(super) fn reached(&mut self, at: Instant) -> Option<i64> {
        let position = self.position(at);
        self.wanted.pop_first().filter(|p| *p <= position || !self.wanted.insert(*p))
    }

    /// Moves otherwise if that is due.
    pub(super) fn change(&mut self, at: Instant, random: &mut Random) {
        if self.changes != Some(at.as_micros()) {
            return;
        }
        let way = self.way(at);
        self.farthest = self.farthest.max(way);
        (self.from, self.since) = (way, at.as_micros());
        let (speed, lasts) = match (self.now_speed.signum(), self.moves) {
            (1, _) => (0, random.range(1000, 2_000_000)),
            (0, Moves::BackToo) => (-self.speed, random.range(1000, 400_000)),
            _ => (self.speed, random.range(500_000, 20_000_000)),
        };
        self.now_speed = speed;
        self.changes = Some(at.as_micros() + lasts as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every microsecond counted by hand.
    #[test]
    fn counts_come_when_the_belt_is_there_and_parts_only_where_it_has_not_been() {
        let start = Instant::from_micros(1_000_000);
        let mut random = Random::new(5, 1);
        let mut m = Motion::new(Moves::BackToo, 300, start);
        (1..40_000).for_each(|p| m.want(p * 3));
        let (mut naive, mut farthest, mut last, mut backs) = (0i64, 0i64, 0i64, 0);
        for us in 1_000_000..12_000_000u64 {
            let at = Instant::from_micros(us);
            m.change(at, &mut random);
            assert_eq!(m.position(at), naive.div_euclid(COUNT), "{us}");
            if m.next() == Some(at) || m.wanted.first().is_some_and(|p| *p <= naive.div_euclid(COUNT)) {
                let reached = m.reached(at).expect("it was said to come");
                assert!(reached == last + 3 && naive.div_euclid(COUNT) == reached, "{us}: {reached} after {last}");
                last = reached;
            }
            assert_eq!(m.next_new(at) == at, m.now_speed > 0 && naive >= farthest, "{us}");
            backs += (m.now_speed < 0) as u64;
            farthest = farthest.max(naive);
            naive += m.now_speed;
        }
        assert!(backs > 0 && last > 300, "{backs} {last}");
    }
}
