//! Where the outputs' thread stands, as other threads see it: the write under way, and the last
//! that each line was brought to.
//!
//! Atomics only: who looks on never delays an edge.

use crate::line::{LineMask, MAX_LINES};
use crate::outputs::State;
use crate::time::Instant;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Where the thread stands.
#[derive(Debug)]
pub struct Stand {
    /// Writes begun, times the number of lines that are possible, plus the line of the last one.
    begun: AtomicU64,
    /// The same of the last write that came back.
    back: AtomicU64,
    /// Of each line: the part that last made it active, doubled, plus one while it is.
    lines: [AtomicU64; MAX_LINES],
    /// Of each line: when its pulse is to end, in microseconds; 0 where it is in none.
    ends: [AtomicU64; MAX_LINES],
    /// Another thread has made the lines safe, because a write did not come back.
    rescued: AtomicBool,
    /// The first part that has not been at a gate yet, or the number of the next one.
    waiting: AtomicU64,
    /// The parts that have not been at all their gates yet, of the last [`REMEMBERED`], and those of
    /// them that no gate was for so far.
    waits: [[AtomicU64; REMEMBERED / 64]; 2],
    /// The number of the next part.
    next: AtomicU64,
    /// Parts that were given up before they were at a gate, by the last digits of their numbers: of
    /// the last [`REMEMBERED`] parts.
    given_up: [AtomicU64; REMEMBERED / 64],
    /// Lines that this thread brought to their safe state.
    confirmed: AtomicU32,
}

/// How many of the newest parts it is remembered of whether they were given up: as many as the
/// queue of commands holds.
pub const REMEMBERED: usize = super::queue::CAPACITY;

/// Where that is remembered of a part: the word, and its bit.
const fn place(part: u64) -> (usize, u64) {
    let at = part as usize % REMEMBERED;
    (at / 64, 1 << (at % 64))
}

impl Default for Stand {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            back: AtomicU64::new(0),
            lines: std::array::from_fn(|_| AtomicU64::new(0)),
            ends: std::array::from_fn(|_| AtomicU64::new(0)),
            rescued: AtomicBool::new(false),
            waiting: AtomicU64::new(1),
            waits: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            next: AtomicU64::new(1),
            given_up: std::array::from_fn(|_| AtomicU64::new(0)),
            confirmed: AtomicU32::new(0),
        }
    }
}

impl Stand {
    /// A write to `line` begins.
    pub(in crate::supervisor) fn begin(&self, line: usize) {
        let number = self.begun.load(Ordering::Relaxed) / MAX_LINES as u64 + 1;
        self.begun.store(number * MAX_LINES as u64 + line as u64, Ordering::Release);
    }

    /// It came back.
    pub(in crate::supervisor) fn end(&self) {
        self.back.store(self.begun.load(Ordering::Relaxed), Ordering::Release);
    }

    /// A line is in this state now. `part`: which made it active.
    pub(in crate::supervisor) fn set(&self, line: usize, state: State, part: u64) {
        self.lines[line].store(part << 1 | (state == State::Active) as u64, Ordering::Release);
    }

    /// A line's last known state, and the part that made it active.
    pub(in crate::supervisor) fn line(&self, line: usize) -> (State, u64) {
        let seen = self.lines[line].load(Ordering::Acquire);
        (if seen & 1 == 1 { State::Active } else { State::Inactive }, seen >> 1)
    }

    /// The write under way: a number of its own, and its line.
    pub(in crate::supervisor) fn under_way(&self) -> Option<(u64, usize)> {
        let back = self.back.load(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Acquire);
        (begun != back).then_some((begun, (begun % MAX_LINES as u64) as usize))
    }

    /// A part is on its way.
    pub(in crate::supervisor) fn open(&self, part: u64) {
        let (word, bit) = place(part);
        self.given_up[word].fetch_and(!bit, Ordering::Release);
    }

    /// A part passes unsorted: the line went safe before it was at a gate.
    pub(in crate::supervisor) fn give_up(&self, part: u64) {
        let (word, bit) = place(part);
        self.given_up[word].fetch_or(bit, Ordering::Release);
    }

    /// Whether one of the last [`REMEMBERED`] parts was given up before it was at a gate.
    pub fn is_given_up(&self, part: u64) -> bool {
        let (word, bit) = place(part);
        self.given_up[word].load(Ordering::Acquire) & bit != 0
    }

    /// When the pulse that a line is in is to end; `None` where it is in none.
    pub(in crate::supervisor) fn end_of(&self, line: usize) -> Option<Instant> {
        let end = self.ends[line].load(Ordering::Acquire);
        (end > 0).then(|| Instant::from_micros(end))
    }

    /// When the pulses of lines are to end. `done`: lines that are at rest where they have none; the
    /// others are active still.
    pub(in crate::supervisor) fn set_ends(&self, ends: impl Iterator<Item = Option<Instant>>, done: LineMask) {
        for (i, (place, end)) in self.ends.iter().zip(ends).enumerate() {
            if end.is_some() || done >> i & 1 == 1 {
                place.store(end.map_or(0, Instant::as_micros), Ordering::Release);
            }
        }
    }

    /// The parts that have not been at all their gates yet, each with whether no gate was for it so
    /// far; and the number of the next part.
    pub(in crate::supervisor) fn set_waiting(&self, parts: impl Iterator<Item = (u64, bool)>, next: u64) {
        let (mut waits, mut waiting) = ([[0; REMEMBERED / 64]; 2], next);
        for (part, unsorted) in parts {
            let (word, bit) = place(part);
            waits[0][word] |= bit;
            waits[1][word] |= bit * unsorted as u64;
            waiting = waiting.min(part);
        }
        let words = self.waits.as_flattened().iter().zip(waits.as_flattened());
        words.for_each(|(word, bits)| word.store(*bits, Ordering::Release));
        self.next.store(next, Ordering::Release);
        self.waiting.store(waiting, Ordering::Release);
    }

    /// Whether a part that is not before the first which waits does so too, and whether no gate was
    /// for it so far, as it was when the outputs last looked: of those between some may be sorted, of
    /// those that came since none is.
    pub(in crate::supervisor) fn is_waiting(&self, part: u64) -> (bool, bool) {
        let (word, bit) = place(part);
        let is_new = part >= self.next.load(Ordering::Acquire);
        let [waits, unsorted] = [0, 1].map(|i| is_new || self.waits[i][word].load(Ordering::Acquire) & bit != 0);
        (waits, unsorted)
    }

    /// The same, as it was when the outputs last looked.
    pub(in crate::supervisor) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }

    /// From now on the thread may bring lines to their safe state only.
    pub(in crate::supervisor) fn rescue(&self) {
        self.rescued.store(true, Ordering::SeqCst);
    }

    /// Whether another thread has made the lines safe.
    pub fn is_rescued(&self) -> bool {
        self.rescued.load(Ordering::SeqCst)
    }

    /// The other thread brought a line to its safe state.
    pub(in crate::supervisor) fn confirm(&self, line: usize) {
        self.confirmed.fetch_or(1 << line, Ordering::Release);
    }

    /// Lines that the other thread brought to their safe state.
    pub fn confirmed(&self) -> LineMask {
        self.confirmed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pulse that is over and whose line is not at rest yet is still one that a rescue would cut.
    #[test]
    fn a_pulse_has_its_end_until_its_line_is_at_rest() {
        let (stand, end) = (Stand::default(), Some(Instant::from_micros(20)));
        stand.set_ends([end, end].into_iter(), LineMask::MAX);
        stand.set_ends([None, None].into_iter(), 0b10);
        assert_eq!([0, 1].map(|line| stand.end_of(line)), [end, None]);
    }

    /// Whoever looks twice knows by the number whether it is the same write.
    #[test]
    fn each_write_under_way_has_a_number_of_its_own_and_its_line() {
        let stand = Stand::default();
        let mut numbers = std::collections::BTreeSet::new();
        for line in [0, 3, 3, 0, MAX_LINES - 1, 1].into_iter().cycle().take(60) {
            stand.begin(line);
            let (number, of) = stand.under_way().unwrap();
            assert!(numbers.insert(number), "{number} twice");
            assert_eq!(of, line);
            stand.end();
            assert_eq!(stand.under_way(), None);
        }
    }
}
