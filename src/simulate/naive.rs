//! The decision rule read again, the way a person reads it: from all frames of a part at once, with
//! no memory but the list.
//!
//! The ledger judges the simulated line by it, and a property test holds
//! [`decide::Decider`](crate::decide::Decider) to it. Slow on purpose; nothing of `decide` but the
//! names of actions.

use crate::decide::Action;

/// One tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Score at or above which a frame votes for it.
    pub threshold: u16,
    /// Start of the review band.
    pub review_low: u16,
    /// What happens to a part that shows it.
    pub action: Action,
    /// Its place in `pick`; those that are not in it come last.
    pub place: usize,
}

/// The policy over frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether the highest scores decide.
    pub best: bool,
    /// Frames looked back on.
    pub n: usize,
    /// Votes that make a tag hold.
    pub k: usize,
    /// How far below its threshold a tag that holds may fall.
    pub hysteresis: u16,
    /// Least time for which a tag goes on holding, in microseconds.
    pub dwell_us: u64,
    /// What a part gets that no tag is sure of.
    pub unknown: Action,
    /// What a foreign part gets.
    pub foreign: Action,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was classified, in microseconds.
    pub at_us: u64,
    /// Whether it lies beyond the distance limit.
    pub beyond: bool,
    /// One score a tag.
    pub scores: Vec<u16>,
}

/// What the frames say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// present, review, unknown or foreign.
    pub word: &'static str,
    /// What happens to the part.
    pub action: Action,
    /// The tag that names it.
    pub tag: Option<usize>,
    /// Every tag that holds.
    pub held: Vec<usize>,
}

/// Votes of each frame, and which tags hold after the last: holding lowers the next frame's
/// threshold.
fn votes(tags: &[Tag], rule: Rule, frames: &[Seen]) -> (Vec<Vec<bool>>, Vec<bool>) {
    let mut votes: Vec<Vec<bool>> = Vec::new();
    let (mut holds, mut began) = (vec![false; tags.len()], vec![0; tags.len()]);
    for (f, frame) in frames.iter().enumerate() {
        let vote = |t: usize| {
            let lower = if holds[t] { rule.hysteresis } else { 0 };
            !frame.beyond && frame.scores[t] >= tags[t].threshold.saturating_sub(lower)
        };
        votes.push((0..tags.len()).map(vote).collect());
        let from = (f + 1).saturating_sub(rule.n);
        for t in 0..tags.len() {
            let enough = votes[from..=f].iter().filter(|v| v[t]).count() >= rule.k;
            let over = frame.at_us - began[t] >= rule.dwell_us;
            if enough != holds[t] && (enough || over) {
                (holds[t], began[t]) = (enough, frame.at_us);
            }
        }
    }
    (votes, holds)
}

/// What `frames`, oldest first, say together.
pub fn decide(tags: &[Tag], rule: Rule, frames: &[Seen]) -> Said {
    // A number that every count of frames divides, so that means compare exactly.
    const ALL: u64 = 720_720;
    let from = frames.len().saturating_sub(rule.n);
    let last = &frames[from..];
    let (votes, holds) = votes(tags, rule, frames);
    let usable = |t: usize| last.iter().filter(|f| !f.beyond).map(move |f| f.scores[t]);
    let highest = |t: usize| usable(t).max();
    let reaches = |t: usize, score: u16| highest(t).is_some_and(|s| s >= score);
    let held = |t: usize| if rule.best { reaches(t, tags[t].threshold) } else { holds[t] };
    let in_band = |t: usize| {
        let low = tags[t].review_low;
        let enough = if rule.best { reaches(t, low) } else { usable(t).filter(|s| *s >= low).count() >= rule.k };
        !held(t) && enough
    };
    // None, which is below every score, for a tag that no frame speaks for: it only dwells.
    let mean = |t: usize| -> Option<u64> {
        if rule.best {
            return highest(t).map(|s| s as u64 * ALL);
        }
        let counts = |f: usize| match held(t) {
            true => votes[f][t],
            false => !frames[f].beyond && frames[f].scores[t] >= tags[t].review_low,
        };
        let counted: Vec<u64> = (from..frames.len()).filter(|f| counts(*f)).map(|f| frames[f].scores[t] as u64).collect();
        Some(counted.iter().sum::<u64>() * ALL.checked_div(counted.len() as u64)?)
    };
    let name = |of: &dyn Fn(usize) -> bool| -> Option<usize> {
        (0..tags.len()).filter(|&t| of(t)).min_by_key(|&t| (tags[t].place, std::cmp::Reverse(mean(t)), t))
    };
    let beyond = last.iter().filter(|f| f.beyond).count();
    let foreign = if rule.best { beyond > 0 && beyond == last.len() } else { beyond > rule.n - rule.k };
    let is = |t: usize, action: Action| tags[t].action == action;
    let ranks: [(&'static str, Action, Option<usize>); 5] = [
        ("present", Action::Reject, name(&|t| held(t) && is(t, Action::Reject))),
        ("review", Action::Review, name(&|t| in_band(t) && is(t, Action::Reject))),
        ("present", Action::Review, name(&|t| held(t) && is(t, Action::Review))),
        ("present", Action::Accept, name(&held)),
        ("review", Action::Review, name(&in_band)),
    ];
    let said = |word, action, tag| Said { word, action, tag, held: (0..tags.len()).filter(|&t| held(t)).collect() };
    if foreign {
        return said("foreign", rule.foreign, None);
    }
    match ranks.into_iter().find(|(.., tag)| tag.is_some()) {
        Some((word, action, tag)) => said(word, action, tag),
        None => said("unknown", rule.unknown, None),
    }
}
