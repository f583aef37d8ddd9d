//! The last parts with the scores of their frames: what thresholds would have made of them.

use crate::decide::{Action, Decider, Decision, Observation, Policy, TagPolicy, Task};
use crate::head::Score;
use crate::time::Instant;
use std::collections::VecDeque;

/// Most parts that are kept.
pub(super) const MAX_PARTS: usize = 500;
/// Most scores that are kept: 1 MiB.
const MAX_SCORES: usize = 512 * 1024;

/// A part with the frames that decided it.
struct Past {
    part: u64,
    frames: Vec<(Box<[Score]>, bool)>,
}

/// The last parts, oldest first.
#[derive(Default)]
pub(super) struct History {
    parts: VecDeque<Past>,
    scores: usize,
}

/// What would have become of parts.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct WhatIf {
    /// Parts that were looked at.
    pub(super) parts: usize,
    /// Accepted, rejected, for review, by the rules that hold.
    pub(super) now: [usize; 3],
    /// The same by the others.
    pub(super) then: [usize; 3],
    /// Parts that would go another way, newest first: number, action now, action then.
    pub(super) changed: Vec<(u64, &'static str, &'static str)>,
}

impl History {
    /// Remembers a part; `frames`: scores, and whether they are of a frame beyond the distance
    /// limit.
    pub(super) fn add(&mut self, part: u64, frames: Vec<(Box<[Score]>, bool)>) {
        let size = |past: &Past| past.frames.iter().map(|(scores, _)| scores.len()).sum::<usize>();
        let past = Past { part, frames };
        self.scores += size(&past);
        self.parts.push_back(past);
        while self.parts.len() > MAX_PARTS || self.scores > MAX_SCORES {
            let Some(old) = self.parts.pop_front() else { return };
            self.scores -= size(&old);
        }
    }

    /// Decides every part by the rules that hold, and by others. `every_frame`: votes go over from
    /// part to part.
    pub(super) fn what_if(
        &self,
        task: Task,
        policy: Policy,
        every_frame: bool,
        now: &[TagPolicy],
        then: &[TagPolicy],
    ) -> WhatIf {
        // A dwell is of the clock, which stands still here.
        let policy = Policy { dwell: crate::time::Millis(0), ..policy };
        let decide = |tags: &[TagPolicy]| -> Vec<Option<Action>> {
            let Ok(mut decider) = Decider::new(task, tags, policy) else { return Vec::new() };
            let at = Instant::default();
            let mut of = |past: &Past| {
                if !every_frame {
                    decider.forget();
                }
                let mut last: Option<Decision> = None;
                for (scores, beyond) in &past.frames {
                    last = Some(decider.step(at, Observation::Scores { captured_at: at, scores, beyond: *beyond }));
                }
                last.and_then(|d| d.action)
            };
            self.parts.iter().map(&mut of).collect()
        };
        let (before, after) = (decide(now), decide(then));
        let count = |all: &[Option<Action>]| Action::ALL.map(|a| all.iter().filter(|d| **d == Some(a)).count());
        let pairs = self.parts.iter().zip(before.iter().zip(&after)).rev();
        let changed = pairs.filter_map(|(past, (a, b))| match (a, b) {
            (Some(a), Some(b)) if a != b => Some((past.part, a.name(), b.name())),
            _ => None,
        });
        WhatIf { parts: self.parts.len(), now: count(&before), then: count(&after), changed: changed.take(50).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Role, TagRule};

    /// One defect, one frame a part: a part is rejected where its score reaches the threshold,
    /// whatever else there is.
    #[test]
    fn what_if_is_what_the_line_would_have_done() {
        let (seed, cases) = crate::random::drawn_cases(40);
        for case in 0..cases {
            let mut random = crate::random::Random::new(seed, case);
            let mut history = History::default();
            let mut drawn = Vec::new();
            for part in 1..=random.range(1, 700) as u64 {
                let score = Score(random.range(0, 65535) as u16);
                history.add(part, vec![(Box::new([score, Score(65535 - score.0)]), false)]);
                drawn.push(score);
            }
            let drawn = &drawn[drawn.len().saturating_sub(MAX_PARTS)..];
            let mut tags = |_| {
                let threshold = Score(random.range(40_000, 65_535) as u16);
                let rule = TagRule { threshold, review_low: threshold };
                [(Role::Defect, rule), (Role::Good, TagRule { threshold: Score(0), review_low: Score(0) })]
                    .map(|(role, rule)| TagPolicy::new(rule, role.action()))
            };
            let [now, then] = [0, 1].map(&mut tags);
            let found = history.what_if(Task::Multilabel, Policy::default(), false, &now, &then);
            let rejected = |tags: &[TagPolicy; 2]| drawn.iter().filter(|s| **s >= tags[0].rule.threshold).count();
            assert_eq!(found.parts, drawn.len(), "seed {seed} case {case}");
            assert_eq!((found.now[1], found.then[1]), (rejected(&now), rejected(&then)));
            assert_eq!(found.now[0] + found.now[1], drawn.len());
            assert_eq!(found.changed.len(), rejected(&now).abs_diff(rejected(&then)).min(50));
        }
    }
}
