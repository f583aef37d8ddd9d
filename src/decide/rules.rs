//! What a verdict is reached by: per tag a threshold, a review band, an action and a preference,
//! and the policy over frames.

use super::Action;
use crate::MAX_TAGS;
use crate::head::{Score, TagId};
use crate::time::Millis;

/// Most frames that one verdict looks back on.
pub const MAX_FRAMES: usize = 16;

/// The scores at which a tag counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TagRule {
    /// A frame votes for the tag at this score or above.
    pub threshold: Score,
    /// The review band is from this score up to the threshold; equal to the threshold for no band.
    pub review_low: Score,
}

impl Default for TagRule {
    fn default() -> Self {
        Self { threshold: Score::HALF, review_low: Score::HALF }
    }
}

/// A tag's place in the site's order of preference (`pick`): the lowest names the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Preference(pub u16);

impl Preference {
    /// Not in the list: after all that are.
    pub const UNLISTED: Self = Self(u16::MAX / 2);

    /// Of a category of `leaves` tags that is not in the list: after all tags, the smallest first.
    pub const fn of_category(leaves: u16) -> Self {
        Self(Self::UNLISTED.0.saturating_add(leaves))
    }

    /// Whether it is a place in the site's list.
    pub const fn is_listed(self) -> bool {
        self.0 < Self::UNLISTED.0
    }
}

/// Everything that decides on one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagPolicy {
    /// Threshold and review band.
    pub rule: TagRule,
    /// What happens to a part that shows it.
    pub action: Action,
    /// Its place among tags of the same rank.
    pub preference: Preference,
    /// Whether it is a category: it excludes no tag and no other category.
    pub is_category: bool,
}

impl TagPolicy {
    /// A tag that is in no list of preference.
    pub const fn new(rule: TagRule, action: Action) -> Self {
        Self { rule, action, preference: Preference::UNLISTED, is_category: false }
    }

    /// A category of `leaves` tags that is in no list: accepted, with the default threshold.
    pub const fn category(leaves: u16) -> Self {
        let rule = TagRule { threshold: Score::HALF, review_low: Score::HALF };
        Self { rule, action: Action::Accept, preference: Preference::of_category(leaves), is_category: true }
    }
}

/// How several frames make one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// A tag holds if k of the last n frames vote for it.
    #[default]
    Consensus,
    /// A tag's highest score of the last n frames decides.
    Best,
}

impl Combine {
    /// All ways.
    pub const ALL: [Self; 2] = [Self::Consensus, Self::Best];

    /// The name used in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Best => "best",
        }
    }
}

/// How votes are combined over frames, and what a part gets that no tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Consensus of votes, or highest scores; with these, `k`, hysteresis and dwell have no
    /// meaning.
    pub combine: Combine,
    /// Frames looked back on, 1..=[`MAX_FRAMES`].
    pub n: u8,
    /// Votes among them that make a tag hold, 1..=n.
    pub k: u8,
    /// How far below its threshold a tag that holds may fall before a frame stops to vote for it.
    pub hysteresis: Score,
    /// Least time for which a tag that began to hold goes on.
    pub dwell: Millis,
    /// Oldest frame that may decide anything.
    pub stale_after: Millis,
    /// What a part gets that no tag is sure of.
    pub unknown: Action,
    /// What a part gets that is none of what the model was trained on.
    pub foreign: Action,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            combine: Combine::Consensus,
            n: 1,
            k: 1,
            hysteresis: Score(0),
            dwell: Millis(0),
            stale_after: Millis(1000),
            unknown: Action::Reject,
            foreign: Action::Reject,
        }
    }
}

/// Why tags and policy make no decider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// `k` and `n` are not 1 <= k <= n <= [`MAX_FRAMES`].
    KOfN {
        /// Stated k.
        k: u8,
        /// Stated n.
        n: u8,
    },
    /// A review band begins above its threshold.
    Band(TagId),
    /// More tags than [`MAX_TAGS`].
    TooManyTags(usize),
}

impl core::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::KOfN { k, n } => write!(f, "{k} of {n} frames: expected 1 <= k <= n <= {MAX_FRAMES}"),
            Self::Band(tag) => write!(f, "tag {}: review_low lies above threshold; lower it", tag.0),
            Self::TooManyTags(n) => write!(f, "{n} tags: at most {MAX_TAGS}"),
        }
    }
}

impl core::error::Error for PolicyError {}
