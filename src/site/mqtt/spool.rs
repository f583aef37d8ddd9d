//! What waits until the broker has it.
//!
//! A message is handed over, and leaves when the broker says that it has it. Brokers say so in the
//! order in which they were handed over, so the oldest is always the one that leaves. When a
//! connection ends, what was handed over and not confirmed is handed over again on the next one:
//! nothing is lost and the order stays, but the broker may get a message twice.

use std::collections::VecDeque;

/// Messages in their order, the oldest first.
#[derive(Debug)]
pub(super) struct Spool<T> {
    messages: VecDeque<T>,
    /// How many of the oldest are handed over.
    handed: usize,
    capacity: usize,
}

/// Handed over and not confirmed, at most.
const WINDOW: usize = 16;

impl<T> Spool<T> {
    /// Nothing waits. `capacity`: messages that may, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { messages: VecDeque::new(), handed: 0, capacity }
    }

    /// Keeps a message; gives it back where there is no room.
    pub(super) fn keep(&mut self, message: T) -> Result<(), T> {
        if self.messages.len() >= self.capacity {
            return Err(message);
        }
        self.messages.push_back(message);
        Ok(())
    }

    /// The next to be handed over; `None` while there is none, or while too many are unconfirmed.
    pub(super) fn next(&self) -> Option<&T> {
        if self.handed >= WINDOW { None } else { self.messages.get(self.handed) }
    }

    /// What [`Spool::next`] gave was handed over.
    pub(super) fn hand_over(&mut self) {
        self.handed = (self.handed + 1).min(self.messages.len());
    }

    /// The broker has the oldest that was handed over.
    pub(super) fn confirm(&mut self) {
        if self.handed > 0 {
            self.messages.pop_front();
            self.handed -= 1;
        }
    }

    /// The connection ended.
    pub(super) fn disconnect(&mut self) {
        self.handed = 0;
    }

    /// Messages that wait or are not confirmed.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    /// A broker that confirms late and goes away: it gets every message that was kept, in their
    /// order once repetitions are left out, and one twice only where a connection ended between.
    #[test]
    fn a_broker_that_comes_and_goes_gets_every_message_that_was_kept_in_their_order() {
        let (seed, count) = drawn_cases(300);
        for case in 0..count {
            let mut random = Random::new(seed, case);
            let mut below = |n: u64| random.next() % n;
            let capacity = 1 + below(40) as usize;
            let mut spool = Spool::new(capacity);
            let (mut kept, mut got, mut unconfirmed, mut connected) = (Vec::new(), Vec::new(), VecDeque::new(), false);
            let steps = 400;
            for step in 0..steps + 2000 {
                // At the end nothing new comes and the broker stays.
                match if step < steps { below(10) } else { 4 + below(4) } {
                    0..=3 => match spool.keep(step) {
                        Ok(()) => kept.push(step),
                        Err(lost) => assert!(lost == step && spool.len() == capacity, "case {case}"),
                    },
                    4 | 5 => {
                        connected = true;
                        if let Some(message) = spool.next() {
                            got.push(*message);
                            unconfirmed.push_back(*message);
                            spool.hand_over();
                        }
                    }
                    6 | 7 => unconfirmed.pop_front().iter().for_each(|_| spool.confirm()),
                    _ if connected => {
                        connected = false;
                        unconfirmed.clear();
                        spool.disconnect();
                    }
                    _ => {}
                }
                assert!(unconfirmed.len() <= WINDOW && spool.len() <= capacity, "case {case}");
            }
            assert_eq!(spool.len(), 0, "case {case}");
            let mut first = Vec::new();
            for message in got {
                if first.last().is_none_or(|last| *last < message) {
                    first.push(message);
                } else {
                    assert!(first.contains(&message), "case {case}: {message} came after a later one");
                }
            }
            assert_eq!(first, kept, "case {case}");
        }
    }
}
