//! Parts on the line: from a trigger, through the frames that show the part, to the edges that its
//! verdict causes.
//!
//! Pure: no heap, fixed capacities; time and belt position are arguments.
//!
//! Three machines, one after the other: [`Intake`] makes parts of trigger edges; [`Line`] gives
//! each part the frames that show it; [`Gate`] moves output lines when the part is there, whatever
//! is known by then.
//!
//! Terms: *trigger*: the part passes a sensor. *Gate*: the place where something is done with it.
//! *Moment*: a time together with the belt's position. *Travel*: how far a part goes, in time or in
//! encoder counts. *Late*: no verdict when the part is at its first gate.

mod belt;
mod confirm;
mod encoder;
mod gate;
mod intake;
mod parts;

pub use belt::BeltHistory;
pub use confirm::ConfirmRules;
pub use encoder::{Channel, Encoder};
pub use gate::{CalledBy, Cause, Decided, Doubted, Full, Gate, GateLine, Move, Shape};
pub use intake::{Admission, Intake, Spacing, TooClose};
pub use parts::{Line, Opened, Part, PartRules, Taken};

use crate::time::{Instant, Micros};

/// Most parts between their trigger and their last gate.
pub const MAX_PARTS: usize = 64;
/// Most output lines of one device.
pub const MAX_LINES: usize = 32;

/// Output lines as a set: bit i is line i.
pub type LineMask = u32;

/// The lines for which something holds, said of each from line 0 on. What stands behind the last
/// line of a mask is left out.
pub(crate) fn mask_of(holds: impl Iterator<Item = bool>) -> LineMask {
    holds.take(MAX_LINES).enumerate().fold(0, |mask, (i, holds)| mask | (holds as LineMask) << i)
}

/// Number of a part, counted from 1 in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(pub u64);

/// A time, and where the belt was then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The time.
    pub at: Instant,
    /// The belt's position in encoder counts; constant without an encoder.
    pub position: i64,
}

impl Moment {
    /// A moment on a line without an encoder.
    pub const fn at(at: Instant) -> Self {
        Self { at, position: 0 }
    }
}

/// How far a part goes from its trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travel {
    /// What the belt does in this time.
    Time(Micros),
    /// Encoder counts, whatever time they take.
    Counts(u32),
}

impl Travel {
    /// No distance at all.
    pub const NONE: Self = Self::Time(Micros(0));

    /// Whether a part that was at `from` has gone this far at `now`.
    pub const fn is_done(self, from: Moment, now: Moment) -> bool {
        match self {
            Self::Time(span) => now.at.as_micros() >= from.at.plus(span).as_micros(),
            Self::Counts(counts) => now.position.saturating_sub(from.position) >= counts as i64,
        }
    }

    /// When a part that was at `from` will have gone this far; unknown where the belt's speed
    /// decides.
    pub const fn due(self, from: Moment) -> Option<Instant> {
        match self {
            Self::Time(span) => Some(from.at.plus(span)),
            Self::Counts(_) => None,
        }
    }
}

#[cfg(test)]
#[cfg(feature = "std")]
mod tests;
