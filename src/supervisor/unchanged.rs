//! For how long something has stayed as it is, as far as looks at it can tell.

use crate::time::{Instant, Micros};

/// Something that is looked at again and again.
#[derive(Default)]
pub(super) struct Unchanged<T> {
    /// What the last look found.
    seen: T,
    lasts: Micros,
    /// When the last look was.
    before: Instant,
}

impl<T: PartialEq> Unchanged<T> {
    /// A look at `now`, `look` after the one before or later; how long `seen` has been so. Where
    /// looks did not come in time the whole process stood still, and what is looked at with it:
    /// that counts as two looks at most.
    pub(super) fn look(&mut self, now: Instant, seen: T, look: Micros) -> Micros {
        let passed = now.since(self.before).min(Micros(2 * look.0));
        let lasts = if seen == self.seen { Micros(self.lasts.0 + passed.0) } else { Micros(0) };
        *self = Self { seen, lasts, before: now };
        lasts
    }
}
