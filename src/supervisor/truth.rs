//! An observer of the built-in conveyor: which part passed its barrier when, held against what was
//! decided.
//!
//! The line does not see it: it looks at crossings and at decisions from outside.

use crate::decide::Verdict;
use crate::head::TagId;
use crate::line::MAX_PARTS;
use crate::scene::{Crossing, Kind};
use crate::station::PartDone;
use crate::time::Instant;
use heapless::Deque;

/// What a part was, and whether its decision says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// What passed the barrier.
    pub kind: Kind,
    /// Whether it was named; `None` if the model has no tag of this kind.
    pub right: Option<bool>,
}

/// What has crossed the barrier lately.
#[derive(Debug, Default)]
pub(super) struct Observer {
    crossed: Deque<(Instant, Kind), MAX_PARTS>,
    /// The tag of each kind, where the model has one.
    tags: [Option<TagId>; Kind::ALL.len()],
}

impl Observer {
    /// For a model with these tags.
    pub(super) fn new<'t>(tags: impl Iterator<Item = &'t str> + Clone) -> Self {
        let tag = |kind: Kind| tags.clone().position(|t| t == kind.name()).map(|i| TagId(i as u16));
        Self { crossed: Deque::new(), tags: Kind::ALL.map(tag) }
    }

    pub(super) fn crossed(&mut self, crossing: Crossing) {
        if self.crossed.is_full() {
            self.crossed.pop_front();
        }
        let _ = self.crossed.push_back((crossing.at, crossing.kind));
    }

    /// What the part was whose trigger was a crossing.
    pub(super) fn of(&mut self, done: &PartDone) -> Option<Truth> {
        let (_, kind) = *self.crossed.iter().find(|(at, _)| *at == done.part.trigger.at)?;
        let tag = self.tags[Kind::ALL.iter().position(|k| *k == kind)?];
        let named = |tag| done.decision.verdict == Verdict::Present && done.decision.tag == Some(tag);
        Some(Truth { kind, right: tag.map(named) })
    }
}
