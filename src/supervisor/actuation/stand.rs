//! Where the outputs' thread stands, as other threads see it: the write under way, and the last
//! that each line was brought to.
//!
//! Atomics only: who looks on never delays an edge.

use crate::line::{LineMask, MAX_LINES};
use crate::outputs::State;
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
    /// Another thread has made the lines safe, because a write did not come back.
    rescued: AtomicBool,
    /// Lines that this thread brought to their safe state.
    confirmed: AtomicU32,
}

impl Default for Stand {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            back: AtomicU64::new(0),
            lines: std::array::from_fn(|_| AtomicU64::new(0)),
            rescued: AtomicBool::new(false),
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
