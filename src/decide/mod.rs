//! The decision rule: scores over time to a verdict, an action and the tag that names it.
//!
//! One rule for the device, the tools, `classify` and every report. A [`Decider`] takes one frame's
//! scores at a time. Each frame *votes* for every tag whose score is at or above its threshold,
//! less the hysteresis while the tag holds. A tag *holds* when k of the last n frames vote for it,
//! and then for at least the dwell time. With [`Combine::Best`] a tag holds when its highest score
//! of the last n frames reaches its threshold.
//!
//! The verdict is the first of these that applies:
//!
//! 1. `foreign`: more than n - k of the last n frames lie beyond the distance limit (with `best`:
//!    all of them).
//! 2. `present`: a tag holds whose action is reject.
//! 3. `review`: a tag whose action is reject lies in its review band.
//! 4. `present`: a tag holds whose action is review.
//! 5. `present`: any other tag holds.
//! 6. `review`: any tag lies in its review band.
//! 7. `unknown`.
//!
//! A tag lies in its band when it does not hold and at least k of the last n frames are at
//! `review_low` or above (with `best`: when its highest score is). A frame beyond the distance
//! limit counts for no tag. Where several tags share a rank, the site's order of preference names
//! one; tags that it does not list come last, and among equals the highest mean score over the
//! frames that count for the tag wins, then the lower index. The name never changes the action.
//!
//! A category that the site names is one more tag behind the model's, whose score is the sum of its
//! tags' ([`crate::category`]): it has a threshold, a band and an action, and a rank as a tag has.
//! It excludes nothing, so it calls for its outputs whenever it holds and the verdict is present.
//! Unless the site's preference says otherwise a tag names the verdict before a category does, and
//! of categories the one with the fewest tags: what is called by name is the narrowest that is
//! sure.
//!
//! Time is an argument and tags are numbers. No heap: a [`Decider`] holds [`MAX_TAGS`] tags and
//! [`MAX_FRAMES`] frames.
//!
//! Terms: *vote*: one frame's say for one tag. *Band*: scores from `review_low` up to the
//! threshold. *Beyond*: a frame farther from the training images than the bundle's distance limit.

mod decider;
mod decision;
mod rules;
#[cfg(feature = "std")]
pub mod table;

pub use decider::{Decider, Observation};
pub use decision::{Decision, Verdict};
pub use rules::{Combine, MAX_FRAMES, Policy, PolicyError, Preference, TagPolicy, TagRule};

use crate::MAX_TAGS;
use crate::head::{Score, TagId, Temperature, sigmoid, softmax};

/// How many tags hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Task {
    /// Exactly one tag; scores add up to 1 (softmax).
    Multiclass,
    /// Any number of tags, each by itself (sigmoid).
    Multilabel,
}

impl Task {
    /// Scores of one frame's logits: softmax or sigmoid. `logits`, `scores`: `[n]`. Panics if the
    /// lengths differ.
    pub fn score(self, logits: &[i32], temperature: Temperature, scores: &mut [Score]) {
        match self {
            Self::Multiclass => softmax(logits, temperature, scores),
            Self::Multilabel => sigmoid(logits, temperature, scores),
        }
    }
}

/// What happens to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is good.
    Accept,
    /// It is thrown out.
    Reject,
    /// A person looks at it.
    Review,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 3] = [Self::Accept, Self::Reject, Self::Review];

    /// The name used in settings, events and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Review => "review",
        }
    }
}

/// What a tag stands for in the factory. It travels in the bundle and is the tag's default action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A part as it should be: accepted by default.
    Good,
    /// A defect: rejected by default.
    Defect,
    /// Neither, or not stated: accepted by default.
    #[default]
    Other,
}

impl Role {
    /// All roles, in the order of their codes in a bundle.
    pub const ALL: [Self; 3] = [Self::Good, Self::Defect, Self::Other];

    /// The name used in settings, events and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Defect => "defect",
            Self::Other => "other",
        }
    }

    /// What happens to a part of this role unless device.toml says otherwise.
    pub const fn action(self) -> Action {
        match self {
            Self::Defect => Action::Reject,
            Self::Good | Self::Other => Action::Accept,
        }
    }
}

/// A set of tags, of fixed capacity [`MAX_TAGS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagSet([u64; MAX_TAGS / 64]);

impl TagSet {
    /// No tag.
    pub const EMPTY: Self = Self([0; MAX_TAGS / 64]);

    /// Adds `tag`; out of capacity it panics, which a checked contract rules out.
    pub fn insert(&mut self, tag: TagId) {
        self.0[tag.0 as usize / 64] |= 1 << (tag.0 % 64);
    }

    /// The set of one tag. Panics beyond the capacity, which a checked contract rules out.
    pub fn of(tag: TagId) -> Self {
        let mut set = Self::EMPTY;
        set.insert(tag);
        set
    }

    /// Whether `tag` is in it.
    pub fn contains(&self, tag: TagId) -> bool {
        self.0.get(tag.0 as usize / 64).is_some_and(|w| w >> (tag.0 % 64) & 1 == 1)
    }

    /// Whether no tag is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&w| w == 0)
    }

    /// Whether some tag is in both sets.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(mine, its)| mine & its != 0)
    }

    /// All tags of both sets.
    pub fn union(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, its)| *mine |= its);
        self
    }

    /// Tags in rising order.
    pub fn iter(&self) -> impl Iterator<Item = TagId> + '_ {
        (0..MAX_TAGS as u16).map(TagId).filter(|&t| self.contains(t))
    }
}

#[cfg(test)]
#[cfg(feature = "std")]
mod tests;
