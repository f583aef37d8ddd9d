//! What the frames of each part said, noted while the line goes by.

use crate::decide::{TagPolicy, TagRule};
use crate::head::{Score, TagId};
use crate::site::gallery::Gallery;
use crate::sources::FrameBuffer;
use crate::supervisor::{Onlooker, Seen};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};

/// Parts that are remembered: as many as may be on their way, four times.
const PARTS: usize = 4 * crate::line::MAX_PARTS;

/// What is noted of a part.
#[derive(Default)]
struct Place {
    part: AtomicU64,
    /// What its first frame voted for.
    first: AtomicU64,
    disagree: AtomicBool,
    near: AtomicBool,
}

/// What a part's frames said, each by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Two of them vote for different tags, or one lies beyond the distance limit and another does
    /// not.
    pub disagree: bool,
    /// A score of one of them lies near its threshold.
    pub near: bool,
}

/// Notes what each frame says and hands it on to the gallery. Only the line's thread writes, and
/// whoever reads of a part does so after its end was told.
pub struct Votes {
    gallery: Arc<Gallery>,
    thresholds: Box<[AtomicU16]>,
    near: Score,
    places: Box<[Place]>,
}

impl Votes {
    /// Nothing was seen. `tags`: with the thresholds that hold; `near`: how near to them counts.
    pub fn new(gallery: Arc<Gallery>, tags: &[TagPolicy], near: Score) -> Self {
        let thresholds = tags.iter().map(|tag| AtomicU16::new(tag.rule.threshold.0)).collect();
        let places = (0..PARTS).map(|_| Place::default()).collect();
        Self { gallery, thresholds, near, places }
    }

    /// Where the frames are.
    pub fn gallery(&self) -> &Gallery {
        &self.gallery
    }

    /// A tag has another threshold from now on.
    pub fn set(&self, tag: TagId, rule: TagRule) {
        if let Some(threshold) = self.thresholds.get(tag.0 as usize) {
            threshold.store(rule.threshold.0, Relaxed);
        }
    }

    /// What the frames of a part said; nothing of one that had none or ended long ago.
    pub fn of(&self, part: u64) -> Said {
        let place = &self.places[part as usize % PARTS];
        if place.part.load(Relaxed) != part {
            return Said::default();
        }
        Said { disagree: place.disagree.load(Relaxed), near: place.near.load(Relaxed) }
    }

    fn note(&self, part: u64, scores: &[Score], beyond: bool) {
        // The tags that it votes for as one number (FNV-1a); a frame beyond the limit has no vote.
        let mut votes: u64 = 0xcbf2_9ce4_8422_2325 ^ u64::from(beyond);
        let mut near = false;
        for (tag, (score, threshold)) in scores.iter().zip(&self.thresholds).enumerate() {
            let threshold = threshold.load(Relaxed);
            if score.0 >= threshold && !beyond {
                votes = (votes ^ (tag as u64 + 1)).wrapping_mul(0x0100_0000_01b3);
            }
            near |= score.0.abs_diff(threshold) < self.near.0;
        }
        let place = &self.places[part as usize % PARTS];
        if place.part.swap(part, Relaxed) != part {
            place.first.store(votes, Relaxed);
            place.disagree.store(false, Relaxed);
            place.near.store(near, Relaxed);
            return;
        }
        place.disagree.fetch_or(place.first.load(Relaxed) != votes, Relaxed);
        place.near.fetch_or(near, Relaxed);
    }
}

impl Onlooker for Votes {
    fn saw(&self, seen: &Seen<'_>, frame: &mut FrameBuffer) {
        self.note(seen.part, seen.scores, seen.beyond);
        self.gallery.saw(seen, frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;
    use crate::decide::Action;
    use crate::random::{Random, drawn_cases};
    use std::collections::{BTreeMap, BTreeSet};

    /// Frames of several parts, mixed: each part's are compared as sets of tags, looked up from the
    /// beginning.
    #[test]
    fn frames_of_a_part_disagree_where_they_vote_for_other_tags_and_only_then() {
        let (seed, cases) = drawn_cases(60);
        let shipped = include_bytes!("../../../models/parts.tagpin");
        let input = Bundle::read(shipped).unwrap().contract.input;
        let mut both = [0u64; 2];
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut below = |n: u64| random.next() % n;
            let tags = 1 + below(5) as usize;
            let rules: Vec<u16> = (0..tags).map(|_| below(65_536) as u16).collect();
            let policies: Vec<TagPolicy> = rules
                .iter()
                .map(|t| TagPolicy::new(TagRule { threshold: Score(*t), review_low: Score(*t) }, Action::Accept))
                .collect();
            let near = below(6000) as u16;
            let votes = Votes::new(Arc::new(Gallery::new(input, tags, 2)), &policies, Score(near));
            let mut frames = BTreeMap::<u64, Vec<(BTreeSet<usize>, bool, bool)>>::new();
            for _ in 0..200 {
                let part = 1 + below(60);
                // Mostly the same again.
                let mut own = Random::new(seed ^ part, case);
                let other = below(30) == 0;
                let draw = |_| Score(if other { below(65_536) } else { own.next() % 65_536 } as u16);
                let scores: Vec<Score> = (0..tags).map(draw).collect();
                let beyond = below(200) == 0;
                let voted = (0..tags).filter(|t| !beyond && scores[*t].0 >= rules[*t]).collect();
                let is_near = (0..tags).any(|t| (i32::from(scores[t].0) - i32::from(rules[t])).abs() < i32::from(near));
                frames.entry(part).or_default().push((voted, beyond, is_near));
                votes.note(part, &scores, beyond);
            }
            for (part, frames) in &frames {
                let disagree = frames.iter().any(|f| (&f.0, f.1) != (&frames[0].0, frames[0].1));
                let said = Said { disagree, near: frames.iter().any(|f| f.2) };
                assert_eq!(votes.of(*part), said, "case {case} part {part}: {frames:?}");
                both[disagree as usize] += 1;
            }
            assert_eq!(votes.of(61), Said::default());
            // A threshold that is changed counts from then on.
            votes.set(TagId(0), TagRule { threshold: Score(0), review_low: Score(0) });
            votes.note(1000, &vec![Score(0); tags], false);
            assert_eq!(votes.of(1000).near, near > 0 || rules[1..].iter().any(|t| *t < near));
        }
        assert!(both.iter().all(|n| *n > cases), "both were drawn: {both:?}");
    }
}
