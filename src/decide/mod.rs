//! Scores over time to a verdict: thresholds, review bands, hysteresis, k-of-n, dwell, staleness.
//!
//! Knows no tensor, pin or clock: time is an argument and tags are numbers. No heap.
//!
//! Terms: *call*: what one frame says of one tag. *Verdict*: what the calls of the last n frames say together.

use crate::MAX_TAGS;
use crate::fault::Reason;
use crate::head::{Score, TagId, Temperature, sigmoid, softmax};
use crate::time::{Instant, Micros, Millis};
use heapless::Vec;

/// How many tags hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Task {
    /// Exactly one tag; scores add up to 1 (softmax).
    Multiclass,
    /// Any number of tags, each by itself (sigmoid).
    Multilabel,
}

impl Task {
    /// Scores of one frame's logits: softmax or sigmoid. `logits`, `scores`: `[n]`. Panics if the lengths differ.
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

/// The scores at which a tag counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TagRule {
    /// Present at this score or above.
    pub threshold: Score,
    /// For a person to look at from this score up to the threshold; equal to it for no band.
    pub review_low: Score,
}

impl Default for TagRule {
    fn default() -> Self {
        Self { threshold: Score::HALF, review_low: Score::HALF }
    }
}

/// How several frames make one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combine {
    /// A tag holds if k of the last n frames call it.
    #[default]
    Consensus,
    /// Each tag's best score since the part began decides, as if one frame had shown it.
    Best,
}

/// How calls are combined over time; the same for all tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Consensus of calls, or best scores; with these, `n`, `k`, hysteresis and dwell have no meaning.
    pub combine: Combine,
    /// Frames looked back on, 1..=16.
    pub n: u8,
    /// Calls among them that make a tag hold, 1..=n.
    pub k: u8,
    /// How far below its threshold a tag that holds may fall before it stops to hold.
    pub hysteresis: Score,
    /// Least time for which a tag that began to hold goes on.
    pub dwell: Millis,
    /// Oldest frame that may decide anything.
    pub stale_after: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self { combine: Combine::Consensus, n: 1, k: 1, hysteresis: Score(0), dwell: Millis(0), stale_after: Millis(1000) }
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

    /// Whether `tag` is in it.
    pub fn contains(&self, tag: TagId) -> bool {
        self.0.get(tag.0 as usize / 64).is_some_and(|w| w >> (tag.0 % 64) & 1 == 1)
    }

    /// Whether no tag is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&w| w == 0)
    }

    /// Tags in rising order.
    pub fn iter(&self) -> impl Iterator<Item = TagId> + '_ {
        (0..MAX_TAGS as u16).map(TagId).filter(|&t| self.contains(t))
    }
}

/// What the line saw.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// One frame's scores, one a tag in the bundle's order.
    Scores {
        /// When the frame was taken.
        captured_at: Instant,
        /// One score a tag.
        scores: &'a [Score],
    },
    /// No usable frame, and why.
    Missing(Reason),
}

/// What the last n frames say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These tags hold.
    Present(TagSet),
    /// None holds, but these lie in their review band: a person should look.
    Review(TagSet),
    /// No tag is sure enough.
    Unknown,
    /// Nothing may be decided; outputs go to their safe state.
    Safe(Reason),
}

impl Verdict {
    /// The name used in events and tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Present(_) => "present",
            Self::Review(_) => "review",
            Self::Unknown => "unknown",
            Self::Safe(_) => "safe",
        }
    }
}

/// Per-tag memory: 16 bytes.
#[derive(Clone, Copy, Debug)]
struct TagState {
    since: Instant,
    present: u16,
    review: u16,
    best: Score,
    holds: bool,
}

const FRESH: TagState = TagState { since: Instant::from_micros(0), present: 0, review: 0, best: Score(0), holds: false };

/// Why rules and policy make no decider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// `k` and `n` are not 1 <= k <= n <= 16.
    KOfN {
        /// Stated k.
        k: u8,
        /// Stated n.
        n: u8,
    },
    /// A review band begins above its threshold.
    Band(TagId),
    /// More rules than [`MAX_TAGS`].
    TooManyTags(usize),
}

impl core::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::KOfN { k, n } => write!(f, "{k} of {n} frames: expected 1 <= k <= n <= 16"),
            Self::Band(tag) => write!(f, "tag {}: review_low lies above threshold; lower it", tag.0),
            Self::TooManyTags(n) => write!(f, "{n} tags: at most {MAX_TAGS}"),
        }
    }
}

impl core::error::Error for PolicyError {}

/// Turns observations into verdicts.
#[derive(Clone, Debug)]
pub struct Decider {
    task: Task,
    policy: Policy,
    rules: Vec<TagRule, MAX_TAGS>,
    states: Vec<TagState, MAX_TAGS>,
}

impl Decider {
    /// A decider for `rules`, one a tag in the bundle's order.
    pub fn new(task: Task, rules: &[TagRule], policy: Policy) -> Result<Self, PolicyError> {
        let Policy { k, n, .. } = policy;
        if !(1..=16).contains(&n) || !(1..=n).contains(&k) {
            return Err(PolicyError::KOfN { k, n });
        }
        if let Some(i) = rules.iter().position(|r| r.review_low > r.threshold) {
            return Err(PolicyError::Band(TagId(i as u16)));
        }
        // The best scores are one frame's: what frames say together is settled by them.
        let policy = match policy.combine {
            Combine::Consensus => policy,
            Combine::Best => Policy { combine: Combine::Best, stale_after: policy.stale_after, ..Policy::default() },
        };
        let too_many = PolicyError::TooManyTags(rules.len());
        let mut states = Vec::new();
        states.resize(rules.len(), FRESH).map_err(|_| too_many)?;
        let rules = Vec::from_slice(rules).map_err(|_| too_many)?;
        Ok(Self { task, policy, rules, states })
    }

    /// Forgets all frames: a new part begins.
    pub fn forget(&mut self) {
        self.states.fill(FRESH);
    }

    /// Takes one observation at `now` and gives the verdict that holds from now on.
    ///
    /// A missing, stale or ill-sized observation gives [`Verdict::Safe`] and forgets what was seen before.
    pub fn step(&mut self, now: Instant, observation: Observation<'_>) -> Verdict {
        let (captured_at, scores) = match observation {
            Observation::Missing(reason) => return self.safe(reason),
            Observation::Scores { captured_at, scores } => (captured_at, scores),
        };
        if scores.len() != self.rules.len() {
            return self.safe(Reason::Engine);
        }
        if now.since(captured_at) > self.policy.stale_after.micros() {
            return self.safe(Reason::Stale);
        }
        for (state, score) in self.states.iter_mut().zip(scores) {
            state.best = if self.policy.combine == Combine::Best { state.best.max(*score) } else { *score };
        }
        let top = top(self.states.iter().map(|s| s.best));
        let Policy { n, k, hysteresis, dwell, .. } = self.policy;
        let mask = ((1u32 << n) - 1) as u16;
        let dwell: Micros = dwell.into();
        for (i, (state, rule)) in self.states.iter_mut().zip(&self.rules).enumerate() {
            let eligible = self.task == Task::Multilabel || i == top;
            let threshold = if state.holds { rule.threshold.less(hysteresis) } else { rule.threshold };
            let present = eligible && state.best >= threshold;
            let review = eligible && (present || state.best >= rule.review_low);
            state.present = (state.present << 1 | present as u16) & mask;
            state.review = (state.review << 1 | review as u16) & mask;
            let holds = state.present.count_ones() >= k as u32;
            if holds != state.holds && (holds || now.since(state.since) >= dwell) {
                state.holds = holds;
                state.since = now;
            }
        }
        self.verdict()
    }

    fn verdict(&self) -> Verdict {
        let mut held = TagSet::EMPTY;
        let mut review = TagSet::EMPTY;
        let mut newest: Option<(usize, &TagState)> = None;
        for (i, state) in self.states.iter().enumerate() {
            if state.holds {
                held.insert(TagId(i as u16));
                if newest.is_none_or(|(_, s)| state.since > s.since) {
                    newest = Some((i, state));
                }
            } else if state.review.count_ones() >= self.policy.k as u32 {
                review.insert(TagId(i as u16));
            }
        }
        if let Some((i, _)) = newest {
            // Dwell may keep an earlier tag on while another begins to hold; multiclass means one, the newer.
            if self.task == Task::Multiclass {
                held = TagSet::EMPTY;
                held.insert(TagId(i as u16));
            }
            return Verdict::Present(held);
        }
        if review.is_empty() { Verdict::Unknown } else { Verdict::Review(review) }
    }

    fn safe(&mut self, reason: Reason) -> Verdict {
        self.forget();
        Verdict::Safe(reason)
    }
}

/// Index of the highest score, the first among equals; 0 for none.
fn top(scores: impl Iterator<Item = Score>) -> usize {
    let mut best = (0, Score(0));
    for (i, score) in scores.enumerate() {
        if score > best.1 {
            best = (i, score);
        }
    }
    best.0
}

#[cfg(all(test, feature = "std"))]
mod tests;
