//! The memory of the last n frames, and the rule over it.

use super::{Action, Combine, Decision, MAX_FRAMES, Policy, PolicyError, TagPolicy, TagRule, TagSet, Task, Verdict};
use crate::MAX_TAGS;
use crate::fault::Reason;
use crate::head::{Score, TagId};
use crate::time::{Instant, Micros};
use heapless::Vec;

/// What the line saw.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// One frame's scores, one a tag in the bundle's order.
    Scores {
        /// When the frame was taken.
        captured_at: Instant,
        /// One score a tag.
        scores: &'a [Score],
        /// Whether the frame lies beyond the bundle's distance limit; false where the bundle has
        /// none.
        beyond: bool,
    },
    /// No usable frame, and why.
    Missing(Reason),
}

/// Per-tag memory: 16 bytes. Bit i of a mask is the frame i frames ago.
#[derive(Clone, Copy, Debug)]
struct TagState {
    since: Instant,
    votes: u16,
    in_band: u16,
    holds: bool,
}

const FRESH: TagState = TagState { since: Instant::from_micros(0), votes: 0, in_band: 0, holds: false };

/// A mean score as a fraction, so that comparing two is exact.
#[derive(Clone, Copy)]
struct Mean {
    sum: u32,
    count: u32,
}

impl Mean {
    /// Whether this mean is the higher; that of no frame is below every other.
    fn above(self, other: Self) -> bool {
        match other.count {
            0 => self.count > 0,
            _ => self.sum as u64 * other.count as u64 > other.sum as u64 * self.count as u64,
        }
    }
}

/// Turns observations into decisions.
#[derive(Clone, Debug)]
pub struct Decider {
    task: Task,
    policy: Policy,
    tags: Vec<TagPolicy, MAX_TAGS>,
    /// Tags of the model; categories stand behind them.
    own: u16,
    states: Vec<TagState, MAX_TAGS>,
    /// Scores of the last n frames, `[n][tags]`, used as a ring.
    scores: Vec<Score, { MAX_TAGS * MAX_FRAMES }>,
    /// Row of the newest frame in the ring.
    newest: usize,
    /// Frames in memory, at most n.
    seen: u32,
    /// Frames beyond the distance limit; bit i is the frame i frames ago.
    beyond: u16,
}

impl Decider {
    /// A decider for `tags`, one a tag in the bundle's order, then one a category that the site
    /// names.
    ///
    /// Refuses k and n that are not 1 <= k <= n <= [`MAX_FRAMES`], a band above its threshold, and
    /// too many tags.
    pub fn new(task: Task, tags: &[TagPolicy], policy: Policy) -> Result<Self, PolicyError> {
        let Policy { k, n, .. } = policy;
        if !(1..=MAX_FRAMES as u8).contains(&n) || !(1..=n).contains(&k) {
            return Err(PolicyError::KOfN { k, n });
        }
        if let Some(i) = tags.iter().position(|t| t.rule.review_low > t.rule.threshold) {
            return Err(PolicyError::Band(TagId(i as u16)));
        }
        let too_many = PolicyError::TooManyTags(tags.len());
        let (mut states, mut scores) = (Vec::new(), Vec::new());
        states.resize(tags.len(), FRESH).map_err(|_| too_many)?;
        scores.resize(tags.len() * n as usize, Score(0)).map_err(|_| too_many)?;
        let own = tags.iter().position(|t| t.is_category).unwrap_or(tags.len()) as u16;
        let tags = Vec::from_slice(tags).map_err(|_| too_many)?;
        Ok(Self { task, policy, tags, own, states, scores, newest: 0, seen: 0, beyond: 0 })
    }

    /// How many tags hold at once.
    pub fn task(&self) -> Task {
        self.task
    }

    /// Frames vote by these thresholds and bands from now on; votes that were given stay. One rule
    /// a tag, in the bundle's order; another number of them, or a band above its threshold, changes
    /// nothing and gives the reason.
    pub fn set_rules(&mut self, rules: &[TagRule]) -> Result<(), PolicyError> {
        if rules.len() != self.tags.len() {
            return Err(PolicyError::TooManyTags(rules.len()));
        }
        if let Some(i) = rules.iter().position(|r| r.review_low > r.threshold) {
            return Err(PolicyError::Band(TagId(i as u16)));
        }
        self.tags.iter_mut().zip(rules).for_each(|(tag, rule)| tag.rule = *rule);
        Ok(())
    }

    /// Forgets all frames.
    pub fn forget(&mut self) {
        self.states.fill(FRESH);
        (self.seen, self.beyond) = (0, 0);
    }

    /// Takes one observation at `now` and gives what is decided from now on.
    ///
    /// A missing, stale or ill-sized observation gives [`Verdict::Safe`] and forgets what was seen
    /// before.
    pub fn step(&mut self, now: Instant, observation: Observation<'_>) -> Decision {
        let (captured_at, scores, beyond) = match observation {
            Observation::Missing(reason) => return self.safe(reason),
            Observation::Scores { captured_at, scores, beyond } => (captured_at, scores, beyond),
        };
        if scores.len() != self.tags.len() {
            return self.safe(Reason::Engine);
        }
        if now.since(captured_at) > self.policy.stale_after.micros() {
            return self.safe(Reason::Stale);
        }
        self.remember(now, scores, beyond);
        self.decision()
    }

    /// Takes a frame into memory in place of the oldest, and settles which tags hold.
    fn remember(&mut self, now: Instant, scores: &[Score], beyond: bool) {
        let Policy { n, k, hysteresis, dwell, combine, .. } = self.policy;
        let mask = ((1u32 << n) - 1) as u16;
        self.newest = (self.newest + 1) % n as usize;
        self.seen = (self.seen + 1).min(n as u32);
        self.beyond = (self.beyond << 1 | beyond as u16) & mask;
        let row = self.newest * self.tags.len();
        self.scores[row..row + scores.len()].copy_from_slice(scores);
        let dwell: Micros = dwell.into();
        for ((state, tag), &score) in self.states.iter_mut().zip(&self.tags).zip(scores) {
            let threshold = match combine {
                Combine::Consensus if state.holds => tag.rule.threshold.less(hysteresis),
                _ => tag.rule.threshold,
            };
            state.votes = (state.votes << 1 | (!beyond && score >= threshold) as u16) & mask;
            state.in_band = (state.in_band << 1 | (!beyond && score >= tag.rule.review_low) as u16) & mask;
            match combine {
                // The highest score reaches a threshold when any score does.
                Combine::Best => state.holds = state.votes != 0,
                Combine::Consensus => {
                    let holds = state.votes.count_ones() >= k as u32;
                    if holds != state.holds && (holds || now.since(state.since) >= dwell) {
                        (state.holds, state.since) = (holds, now);
                    }
                }
            }
        }
    }

    /// The rule: the first rank that applies.
    fn decision(&self) -> Decision {
        let (mut held, mut band) = (TagSet::EMPTY, TagSet::EMPTY);
        let least = if self.policy.combine == Combine::Best { 1 } else { self.policy.k as u32 };
        for (i, state) in self.states.iter().enumerate() {
            if state.holds {
                held.insert(TagId(i as u16));
            } else if state.in_band.count_ones() >= least {
                band.insert(TagId(i as u16));
            }
        }
        let own = self.own;
        let decided = |verdict, action, tag| Decision { verdict, action: Some(action), tag, held, band, own };
        if self.is_foreign() {
            return decided(Verdict::Foreign, self.policy.foreign, None);
        }
        let of = |action: Action| move |tag: &TagPolicy| tag.action == action;
        let any = |_: &TagPolicy| true;
        if let Some(tag) = self.pick(&held, of(Action::Reject)) {
            return decided(Verdict::Present, Action::Reject, Some(tag));
        }
        if let Some(tag) = self.pick(&band, of(Action::Reject)) {
            return decided(Verdict::Review, Action::Review, Some(tag));
        }
        if let Some(tag) = self.pick(&held, of(Action::Review)) {
            return decided(Verdict::Present, Action::Review, Some(tag));
        }
        if let Some(tag) = self.pick(&held, any) {
            return decided(Verdict::Present, Action::Accept, Some(tag));
        }
        if let Some(tag) = self.pick(&band, any) {
            return decided(Verdict::Review, Action::Review, Some(tag));
        }
        decided(Verdict::Unknown, self.policy.unknown, None)
    }

    fn is_foreign(&self) -> bool {
        let beyond = self.beyond.count_ones();
        match self.policy.combine {
            Combine::Best => beyond > 0 && beyond == self.seen,
            Combine::Consensus => beyond > (self.policy.n - self.policy.k) as u32,
        }
    }

    /// The tag of `set` that names a verdict: the most preferred, then the highest mean score, then
    /// the lowest index.
    fn pick(&self, set: &TagSet, wanted: impl Fn(&TagPolicy) -> bool) -> Option<TagId> {
        let mut best: Option<(TagId, Mean)> = None;
        for id in set.iter().filter(|id| wanted(&self.tags[id.0 as usize])) {
            let mean = self.mean(id);
            let better = best.is_none_or(|(other, its)| {
                let [mine, other] = [id, other].map(|id| self.tags[id.0 as usize].preference);
                mine < other || mine == other && mean.above(its)
            });
            if better {
                best = Some((id, mean));
            }
        }
        best.map(|(id, _)| id)
    }

    /// The mean score over the frames that vote for a tag that holds, or that are in the band of
    /// one that does not. With [`Combine::Best`] the highest score of the frames that count. Of no
    /// frame where none counts, as in a dwell.
    fn mean(&self, id: TagId) -> Mean {
        let (tag, n) = (id.0 as usize, self.policy.n as usize);
        let state = self.states[tag];
        let mut mean = Mean { sum: 0, count: 0 };
        let counted = if state.holds { state.votes } else { state.in_band };
        for age in (0..n).filter(|age| counted >> age & 1 == 1) {
            let score = self.scores[(self.newest + n - age) % n * self.tags.len() + tag].0 as u32;
            mean = match self.policy.combine {
                Combine::Best => Mean { sum: mean.sum.max(score), count: 1 },
                Combine::Consensus => Mean { sum: mean.sum + score, count: mean.count + 1 },
            };
        }
        mean
    }

    fn safe(&mut self, reason: Reason) -> Decision {
        self.forget();
        Decision::safe(reason)
    }
}
