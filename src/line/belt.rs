//! When the belt came to its positions, as its encoder told them.
//!
//! A part that goes by counts is at its gate at the count's own moment, whenever that is looked at:
//! after a stall it has passed, and a pulse would hit another.

use super::Moment;
use crate::time::Instant;

/// Positions whose moments are kept: half a second of a belt at 2,000 counts a second.
const HISTORY: usize = 1024;

/// The moments of the last 1024 positions.
#[derive(Clone, Debug)]
pub struct BeltHistory {
    /// By the last digits of the position: which it is, and when the belt came to it last from
    /// below.
    times: [Option<(i64, Instant)>; HISTORY],
    /// Where the belt is.
    position: i64,
}

impl Default for BeltHistory {
    fn default() -> Self {
        Self { times: [None; HISTORY], position: 0 }
    }
}

/// Where a position's moment is kept.
const fn slot(position: i64) -> usize {
    position.rem_euclid(HISTORY as i64) as usize
}

impl BeltHistory {
    /// The belt has moved to `to.position`, at `to.at`.
    pub fn moved(&mut self, to: Moment) {
        let first = self.position.max(to.position.saturating_sub(HISTORY as i64));
        for position in first.saturating_add(1)..=to.position {
            self.times[slot(position)] = Some((position, to.at));
        }
        self.position = to.position;
    }

    /// When the belt came to `position`; of one that is not kept any more the earliest moment that
    /// is kept of any behind it. `None` if nobody told of it.
    pub fn came_to(&self, position: i64) -> Option<Instant> {
        let later = || self.times.iter().flatten().filter(|(other, _)| *other > position).map(|(_, at)| *at).min();
        match self.times[slot(position)] {
            Some((kept, at)) if kept == position => Some(at),
            _ => later(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_the_moment_at_which_the_belt_came_to_it_last_from_below() {
        let at = Instant::from_micros;
        let mut belt = BeltHistory::default();
        assert_eq!(belt.came_to(3), None);
        for (position, us) in [(1, 10), (2, 20), (5, 50), (4, 60), (5, 70), (3, 80), (4, 90)] {
            belt.moved(Moment { at: at(us), position });
        }
        let came = [1, 2, 3, 4, 5, 6].map(|position| belt.came_to(position));
        // It jumped to 5, went back, and has not come to 5 again.
        assert_eq!(came, [Some(at(10)), Some(at(20)), Some(at(50)), Some(at(90)), Some(at(70)), None]);
        // Of what is no longer kept it is known that it was before what is.
        let last = 4 + HISTORY as i64 + 10;
        (5..=last).for_each(|position| belt.moved(Moment { at: at(1000 + position as u64), position }));
        assert_eq!(
            [2, 14, 15, last].map(|p| belt.came_to(p)),
            [1015, 1015, 1015, 1000 + last as u64].map(|us| Some(at(us)))
        );
    }
}
