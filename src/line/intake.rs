//! From trigger edges to numbered parts: spacing is checked here, before anything else knows of the
//! part.
//!
//! Knows no sensor: an edge is a moment.

use super::{Moment, PartId, Travel};

/// What is done with a trigger that follows another too closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooClose {
    /// It is the same part again (a bounce, a hole in the part): nothing.
    Ignore,
    /// Two parts touch and cannot be told apart: both get the late action.
    Reject,
    /// The line cannot go on like this: all outputs safe.
    Safe,
}

/// Least distance of two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spacing {
    /// The distance; zero allows any.
    pub min: Travel,
    /// What happens below it.
    pub rule: TooClose,
}

impl Spacing {
    /// Any distance will do.
    pub const ANY: Self = Self { min: Travel::NONE, rule: TooClose::Ignore };
}

/// What a trigger edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A part.
    Part(PartId),
    /// A part that touches the one before it.
    Touching(PartId),
    /// Nothing.
    Ignored,
    /// A reason to stop.
    Safe,
}

/// Makes parts of trigger edges.
#[derive(Clone, Copy, Debug)]
pub struct Intake {
    spacing: Spacing,
    last: Option<Moment>,
    count: u64,
    too_close: u64,
}

impl Intake {
    /// An intake that has seen no part.
    pub const fn new(spacing: Spacing) -> Self {
        Self { spacing, last: None, count: 0, too_close: 0 }
    }

    /// Takes an edge. The distance is measured from the last edge that was not ignored.
    pub fn edge(&mut self, moment: Moment) -> Admission {
        if self.last.is_some_and(|last| !self.spacing.min.is_done(last, moment)) {
            self.too_close += 1;
            match self.spacing.rule {
                TooClose::Ignore => return Admission::Ignored,
                TooClose::Safe => return Admission::Safe,
                TooClose::Reject => {}
            }
            self.last = Some(moment);
            self.count += 1;
            return Admission::Touching(PartId(self.count));
        }
        self.last = Some(moment);
        self.count += 1;
        Admission::Part(PartId(self.count))
    }

    /// Parts so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Edges that came too close so far.
    pub const fn too_close(&self) -> u64 {
        self.too_close
    }
}
