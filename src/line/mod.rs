//! A part on the line: opened by a trigger, photographed by the first frames exposed after it, closed by a verdict.
//!
//! Knows no camera, score or pin. No heap; time is an argument. One part is in flight at a time.

use crate::frame::CapturedAt;
use crate::time::{Instant, Micros, Millis};

/// Number of a part, counted from 1 in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(pub u64);

/// What a part may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRules {
    /// Frames that decide a part, 1..=16.
    pub frames: u8,
    /// Longest time from trigger to the last of them.
    pub deadline: Millis,
    /// Subtracted from a frame's arrival to bound its exposure, for sources that know only arrival.
    pub max_latency: Millis,
}

impl Default for PartRules {
    fn default() -> Self {
        Self { frames: 1, deadline: Millis(500), max_latency: Millis(0) }
    }
}

/// A part in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub id: PartId,
    /// When its trigger fired.
    pub trigger: Instant,
    /// Frames taken so far.
    pub frames: u8,
}

/// What a trigger did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A part was opened.
    New(Part),
    /// Another part is still open; the trigger was counted and is not followed.
    Busy(Part),
}

/// What a frame means to the part in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// No part is open, or the frame was exposed before the trigger.
    NotOurs,
    /// The frame counts, more are needed.
    More(Part),
    /// The frame counts and is the last one: the part is closed.
    Last(Part),
}

/// Follows one part at a time from trigger to verdict.
#[derive(Clone, Debug, Default)]
pub struct Line {
    rules: PartRules,
    open: Option<Part>,
    count: u64,
}

impl Line {
    /// An empty line.
    pub fn new(rules: PartRules) -> Self {
        Self { rules, open: None, count: 0 }
    }

    /// Takes a trigger that fired at `at`.
    pub fn trigger(&mut self, at: Instant) -> Opened {
        if let Some(part) = self.open {
            return Opened::Busy(part);
        }
        self.count += 1;
        let part = Part { id: PartId(self.count), trigger: at, frames: 0 };
        self.open = Some(part);
        Opened::New(part)
    }

    /// Offers a frame; one that may have been exposed before the trigger never counts.
    pub fn frame(&mut self, captured_at: CapturedAt) -> Taken {
        let Some(part) = &mut self.open else { return Taken::NotOurs };
        let exposed = match captured_at {
            CapturedAt::Exposure { not_before } => not_before,
            CapturedAt::Arrival(at) => at.minus(self.rules.max_latency.micros()),
        };
        if exposed < part.trigger {
            return Taken::NotOurs;
        }
        part.frames += 1;
        let part = *part;
        if part.frames < self.rules.frames {
            return Taken::More(part);
        }
        self.open = None;
        Taken::Last(part)
    }

    /// Closes and returns the part whose deadline has passed at `now`.
    pub fn overdue(&mut self, now: Instant) -> Option<Part> {
        let part = self.open.filter(|p| now >= p.trigger.plus(self.rules.deadline.micros()))?;
        self.open = None;
        Some(part)
    }

    /// Closes and returns the part in flight, whatever its state.
    pub fn abandon(&mut self) -> Option<Part> {
        self.open.take()
    }

    /// Time left until the open part's deadline, if one is open.
    pub fn time_left(&self, now: Instant) -> Option<Micros> {
        self.open.map(|p| p.trigger.plus(self.rules.deadline.micros()).since(now))
    }

    /// Parts opened so far.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Instant {
        Instant::from_micros(n * 1000)
    }

    fn exposed(n: u64) -> CapturedAt {
        CapturedAt::Exposure { not_before: ms(n) }
    }

    #[test]
    fn a_part_takes_only_frames_exposed_after_its_trigger() {
        let mut line = Line::new(PartRules { frames: 2, ..PartRules::default() });
        assert_eq!(line.frame(exposed(5)), Taken::NotOurs);
        assert!(matches!(line.trigger(ms(10)), Opened::New(_)));
        assert_eq!(line.frame(exposed(9)), Taken::NotOurs);
        assert!(matches!(line.frame(exposed(10)), Taken::More(_)));
        assert!(matches!(line.trigger(ms(11)), Opened::Busy(_)));
        assert!(matches!(line.frame(exposed(12)), Taken::Last(Part { id: PartId(1), frames: 2, .. })));
        assert_eq!(line.frame(exposed(13)), Taken::NotOurs);
    }

    #[test]
    fn an_arrival_stamp_is_put_back_by_the_stated_latency() {
        let mut line = Line::new(PartRules { max_latency: Millis(40), ..PartRules::default() });
        line.trigger(ms(100));
        assert_eq!(line.frame(CapturedAt::Arrival(ms(139))), Taken::NotOurs);
        assert!(matches!(line.frame(CapturedAt::Arrival(ms(140))), Taken::Last(_)));
    }

    #[test]
    fn an_overdue_part_is_closed_once() {
        let mut line = Line::new(PartRules { deadline: Millis(50), ..PartRules::default() });
        line.trigger(ms(0));
        assert_eq!(line.overdue(ms(49)), None);
        assert!(line.overdue(ms(50)).is_some());
        assert_eq!(line.overdue(ms(60)), None);
    }
}
