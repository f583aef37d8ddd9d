//! Checks that each part that a pulse threw out is seen by the sensor behind the gate.
//!
//! The part must be seen within a stated time of the pulse's start. A sighting belongs to the
//! oldest part that is waited for; without one it is unexpected. A sighting may be reported late,
//! for example after a stall: a part counts as not seen only [`PATIENCE`] after its time was found
//! to be over.

use super::{MAX_PARTS, PartId};
use crate::time::{Instant, Micros};
use heapless::Deque;

/// How long a sighting in time may be on its way.
const PATIENCE: Micros = Micros(20_000);

/// What is seen behind a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmRules {
    /// The output line whose pulses throw out what must be seen.
    pub line: u8,
    /// From a pulse's start until its part is seen, at most.
    pub within: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    part: PartId,
    start: Instant,
    /// When it was first found to be over time.
    over: Option<Instant>,
}

/// Parts that were thrown out and have not been seen yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Confirmations {
    rules: Option<ConfirmRules>,
    awaited: Deque<Awaited, MAX_PARTS>,
    /// Parts that gave way to newer ones: not seen.
    gave_way: Deque<PartId, MAX_PARTS>,
}

impl Confirmations {
    pub(super) fn new(rules: Option<ConfirmRules>) -> Self {
        Self { rules, ..Self::default() }
    }

    fn last_moment(&self, awaited: &Awaited) -> Instant {
        awaited.start.plus(self.rules.map_or(Micros(0), |r| r.within))
    }

    /// A pulse for `part` began on `line`.
    pub(super) fn await_part(&mut self, line: u8, part: PartId, start: Instant) {
        // Where lines follow frames a part may have a pulse for each: it is waited for once.
        if self.rules.is_none_or(|r| r.line != line) || self.awaited.back().is_some_and(|a| a.part == part) {
            return;
        }
        if self.awaited.is_full()
            && let Some(oldest) = self.awaited.pop_front()
        {
            // As many parts as fit in flight may give way before anybody asks.
            let _ = self.gave_way.push_back(oldest.part);
        }
        let _ = self.awaited.push_back(Awaited { part, start, over: None });
    }

    /// The write of a pulse that was to begin on `line` at `start` was done at `at`.
    pub(super) fn has_begun(&mut self, line: u8, start: Instant, at: Instant) {
        if self.rules.is_some_and(|r| r.line == line) {
            self.awaited.iter_mut().filter(|a| a.start == start).for_each(|a| a.start = at);
        }
    }

    /// Something was seen at `at`; the part that it is, `None` if nobody waits for one.
    pub(super) fn seen(&mut self, at: Instant) -> Option<PartId> {
        let found = self.awaited.iter().find(|a| a.start <= at && at <= self.last_moment(a)).map(|a| a.part)?;
        self.awaited.retain(|a| a.part != found);
        Some(found)
    }

    /// The next part that was not seen in time; call until there is none.
    pub(super) fn not_seen(&mut self, now: Instant) -> Option<PartId> {
        if let Some(part) = self.gave_way.pop_front() {
            return Some(part);
        }
        let within = self.rules.map_or(Micros(0), |r| r.within);
        for awaited in self.awaited.iter_mut().filter(|a| now > a.start.plus(within)) {
            awaited.over.get_or_insert(now);
        }
        let first = self.awaited.front()?;
        if now < first.over?.plus(PATIENCE) {
            return None;
        }
        self.awaited.pop_front().map(|a| a.part)
    }

    /// When time alone changes something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |a: &Awaited| a.over.map_or(self.last_moment(a).plus(Micros(1)), |over| over.plus(PATIENCE));
        self.awaited.iter().map(due).min()
    }

    /// Pulses that began at `at` or later did not come.
    pub(super) fn forget_from(&mut self, at: Instant) {
        self.awaited.retain(|a| a.start < at);
    }

    /// Nothing is waited for any more.
    pub(super) fn clear(&mut self) {
        self.awaited.clear();
        self.gave_way.clear();
    }
}
