//! From trigger edges to numbered parts. An edge is a moment; one too close after another is
//! handled here by the spacing rule, before anything else sees it as a part.

use super::{Moment, PartId, Travel};

/// What to do with a trigger that follows another too closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooClose {
    /// Ignore it: it is the same part again (a bounce, a hole in the part).
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

/// What a trigger edge means.
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

/// Turns trigger edges into parts.
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
            if self.spacing.rule == TooClose::Ignore {
                return Admission::Ignored;
            }
            self.last = Some(moment);
            if self.spacing.rule == TooClose::Safe {
                return Admission::Safe;
            }
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
