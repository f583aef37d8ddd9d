//! Which of two models a part is decided by.
//!
//! While one takes the other's place both are needed: the old one for parts that were triggered
//! before. A slot is free again once the last of them has its end.

use crate::line::PartId;

/// Where one of the two models of a line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slot {
    /// The one that the line starts with.
    #[default]
    First,
    /// The other.
    Second,
}

impl Slot {
    /// The other slot.
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// The right to make the model in a slot current: made by the station where no part needs what
/// stands there, and used up by [`Input::Model`](super::Input::Model).
#[derive(Debug, PartialEq, Eq)]
pub struct Spare(Slot);

impl Spare {
    /// The slot that is free.
    pub fn slot(&self) -> Slot {
        self.0
    }
}

/// Where the other slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// No part needs it.
    Free,
    /// Somebody holds the right to it.
    Taken,
    /// Parts of its model are undecided.
    Needed,
}

/// The current model, and the one before it.
#[derive(Clone, Debug)]
pub(super) struct Models {
    current: Slot,
    /// The first part that the current one decides.
    from: PartId,
    other: Other,
}

impl Default for Models {
    fn default() -> Self {
        Self { current: Slot::First, from: PartId(0), other: Other::Free }
    }
}

impl Models {
    /// The model that decides a part which is undecided still, or the next one.
    pub(super) fn of(&self, part: PartId) -> Slot {
        if part >= self.from { self.current } else { self.current.other() }
    }

    pub(super) fn take_spare(&mut self) -> Option<Spare> {
        (self.other == Other::Free).then(|| {
            self.other = Other::Taken;
            Spare(self.current.other())
        })
    }

    /// The other slot's model decides parts from `from` on; gives that slot.
    pub(super) fn change(&mut self, spare: Spare, from: PartId) -> Slot {
        (self.current, self.from, self.other) = (spare.0, from, Other::Needed);
        self.current
    }

    /// `undecided`: the oldest part that is undecided, or whose frame is with a model.
    pub(super) fn leave(&mut self, undecided: Option<PartId>) {
        if self.other == Other::Needed && undecided.is_none_or(|part| part >= self.from) {
            self.other = Other::Free;
        }
    }
}
