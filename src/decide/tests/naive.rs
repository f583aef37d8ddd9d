//! The rule again, as the README states it: from all frames at once, in floating-free fractions, with no memory but the list.
//!
//! Seed and number of tables: `TAGPIN_TEST_SEED`, `TAGPIN_TEST_CASES`.

use super::*;
use crate::random::{Random, drawn_cases};

#[derive(Clone)]
struct Seen {
    ms: u64,
    beyond: bool,
    scores: std::vec::Vec<u16>,
}

/// What a naive reader of the README decides after the last of `frames`.
fn naive(tags: &[TagPolicy], p: Policy, frames: &[Seen]) -> (Verdict, Option<Action>, Option<u16>, std::vec::Vec<u16>) {
    let (n, k) = (p.n as usize, p.k as usize);
    let window = |end: usize| &frames[end.saturating_sub(n)..end];
    // Which tags hold after each frame, from the first on: holding lowers the next frame's threshold.
    let mut votes: std::vec::Vec<std::vec::Vec<bool>> = std::vec![];
    let mut holds = std::vec![false; tags.len()];
    let mut began = std::vec![0; tags.len()];
    for (f, frame) in frames.iter().enumerate() {
        let vote = |t: usize| {
            let mut threshold = tags[t].rule.threshold.0;
            if holds[t] {
                threshold = threshold.saturating_sub(p.hysteresis.0);
            }
            !frame.beyond && frame.scores[t] >= threshold
        };
        votes.push((0..tags.len()).map(vote).collect());
        for t in 0..tags.len() {
            let from = (f + 1).saturating_sub(n);
            let enough = votes[from..=f].iter().filter(|v| v[t]).count() >= k;
            if enough && !holds[t] {
                (holds[t], began[t]) = (true, frame.ms);
            } else if !enough && holds[t] && frame.ms - began[t] >= p.dwell.0 as u64 {
                (holds[t], began[t]) = (false, frame.ms);
            }
        }
    }
    let last = window(frames.len());
    let usable = |t: usize| last.iter().filter(|f| !f.beyond).map(move |f| f.scores[t]);
    let best = p.combine == Combine::Best;
    let highest = |t: usize| usable(t).max();
    let held = |t: usize| {
        if best { highest(t).is_some_and(|s| s >= tags[t].rule.threshold.0) } else { holds[t] }
    };
    let in_band = |t: usize| {
        let low = tags[t].rule.review_low.0;
        !held(t) && if best { highest(t).is_some_and(|s| s >= low) } else { usable(t).filter(|s| *s >= low).count() >= k }
    };
    // Mean score over the frames that count for a tag, times a number that every count divides.
    let mean = |t: usize| -> u64 {
        const ALL: u64 = 720_720;
        if best {
            return highest(t).unwrap_or(0) as u64 * ALL;
        }
        let from = frames.len().saturating_sub(n);
        let counted: std::vec::Vec<u64> = (from..frames.len())
            .filter(|&f| {
                if held(t) { votes[f][t] } else { !frames[f].beyond && frames[f].scores[t] >= tags[t].rule.review_low.0 }
            })
            .map(|f| frames[f].scores[t] as u64)
            .collect();
        if counted.is_empty() { 0 } else { counted.iter().sum::<u64>() * (ALL / counted.len() as u64) }
    };
    let name = |of: &dyn Fn(usize) -> bool| -> Option<u16> {
        let mut all: std::vec::Vec<usize> = (0..tags.len()).filter(|&t| of(t)).collect();
        all.sort_by_key(|&t| (tags[t].preference, core::cmp::Reverse(mean(t)), t));
        all.first().map(|&t| t as u16)
    };
    let beyond = last.iter().filter(|f| f.beyond).count();
    let holding = (0..tags.len() as u16).filter(|&t| held(t as usize)).collect();
    let is = |t: usize, a: Action| tags[t].action == a;
    let (verdict, action, tag) = if if best { beyond > 0 && beyond == last.len() } else { beyond > n - k } {
        (Verdict::Foreign, p.foreign, None)
    } else if let Some(t) = name(&|t| held(t) && is(t, Action::Reject)) {
        (Verdict::Present, Action::Reject, Some(t))
    } else if let Some(t) = name(&|t| in_band(t) && is(t, Action::Reject)) {
        (Verdict::Review, Action::Review, Some(t))
    } else if let Some(t) = name(&|t| held(t) && is(t, Action::Review)) {
        (Verdict::Present, Action::Review, Some(t))
    } else if let Some(t) = name(&held) {
        (Verdict::Present, Action::Accept, Some(t))
    } else if let Some(t) = name(&in_band) {
        (Verdict::Review, Action::Review, Some(t))
    } else {
        (Verdict::Unknown, p.unknown, None)
    };
    (verdict, Some(action), tag, holding)
}

fn action(r: &mut Random) -> Action {
    Action::ALL[r.range(0, 2) as usize]
}

/// Scores near one another and near thresholds, so that ties and edges are common.
fn score(r: &mut Random) -> u16 {
    r.range(0, 12) as u16 * 50
}

struct Case {
    task: Task,
    tags: std::vec::Vec<TagPolicy>,
    policy: Policy,
    frames: std::vec::Vec<Seen>,
}

fn draw(seed: u64, case: u64) -> Case {
    let mut r = Random::new(seed, case);
    let count = r.range(1, 5) as usize;
    let listed = r.range(0, 1) == 1;
    let tag = |r: &mut Random, t: usize| {
        let threshold = score(r);
        let low = if r.range(0, 1) == 1 { score(r).min(threshold) } else { threshold };
        let preference =
            if listed && r.range(0, 1) == 1 { Preference(count as u16 - t as u16) } else { Preference::UNLISTED };
        let rule = TagRule { threshold: Score(threshold), review_low: Score(low) };
        TagPolicy { rule, action: action(r), preference }
    };
    let tags: std::vec::Vec<TagPolicy> = (0..count).map(|t| tag(&mut r, t)).collect();
    let n = r.range(1, 16) as u8;
    let policy = Policy {
        combine: Combine::ALL[(r.range(0, 3) == 0) as usize],
        n,
        k: r.range(1, n as i32) as u8,
        hysteresis: Score(r.range(0, 3) as u16 * 50),
        dwell: Millis(r.range(0, 4) as u32 * 10),
        unknown: action(&mut r),
        foreign: action(&mut r),
        ..Policy::default()
    };
    let beyond_share = [0, 2, 8][r.range(0, 2) as usize];
    let mut ms = 0;
    let frame = |_| {
        ms += r.range(0, 20) as u64;
        let scores = (0..count).map(|_| score(&mut r)).collect();
        Seen { ms, beyond: r.range(0, 9) < beyond_share, scores }
    };
    let frames = (0..1 + case % 40).map(frame).collect();
    Case { task: [Task::Multiclass, Task::Multilabel][(case % 2) as usize], tags, policy, frames }
}

#[test]
fn the_machine_decides_as_a_naive_reading_of_the_rule_does() {
    let (seed, cases) = drawn_cases(20_000);
    let mut words = [0; 4];
    for case in 0..cases {
        let Case { task, tags, policy, frames } = draw(seed, case);
        let mut d = Decider::new(task, &tags, policy).unwrap();
        for (i, f) in frames.iter().enumerate() {
            let scores: std::vec::Vec<Score> = f.scores.iter().map(|s| Score(*s)).collect();
            let got = d.step(at(f.ms), Observation::Scores { captured_at: at(f.ms), scores: &scores, beyond: f.beyond });
            let (verdict, action, tag, held) = naive(&tags, policy, &frames[..=i]);
            assert_eq!(
                (got.verdict, got.action, got.tag.map(|t| t.0)),
                (verdict, action, tag),
                "seed {seed}, case {case}, frame {i}"
            );
            assert_eq!(got.held, set(&held), "held, seed {seed}, case {case}, frame {i}");
            let driving = match task {
                Task::Multilabel => set(&held),
                Task::Multiclass if verdict == Verdict::Present => set(&tag.map_or(std::vec![], |t| std::vec![t])),
                Task::Multiclass => TagSet::EMPTY,
            };
            assert_eq!(got.driving(task), driving, "tag outputs, seed {seed}, case {case}, frame {i}");
            words[match verdict {
                Verdict::Present => 0,
                Verdict::Review => 1,
                Verdict::Unknown => 2,
                _ => 3,
            }] += 1;
        }
    }
    assert!(words.iter().all(|&n| n > cases / 100), "each verdict is drawn often: {words:?}");
}

/// The rule of schema 1: in multiclass only the frame's top tag may pass, and k of n frames must say so.
fn top_tag_only(rules: &[TagRule], n: usize, k: usize, frames: &[Seen]) -> Option<u16> {
    let top = |f: &Seen| {
        let best = (0..f.scores.len()).rev().max_by_key(|&t| f.scores[t])?;
        (f.scores[best] >= rules[best].threshold.0).then_some(best as u16)
    };
    let last: std::vec::Vec<Option<u16>> = frames[frames.len().saturating_sub(n)..].iter().map(top).collect();
    (0..rules.len() as u16).find(|t| last.iter().filter(|of| **of == Some(*t)).count() >= k)
}

#[test]
fn softmax_above_one_half_and_more_than_half_of_the_frames_decide_as_the_top_tag_alone_did() {
    let (seed, cases) = drawn_cases(5_000);
    for case in 0..cases {
        let mut r = Random::new(seed, case);
        let tags = r.range(2, 6) as usize;
        let n = r.range(1, 7) as u8;
        let k = n / 2 + 1 + r.range(0, (n - n / 2 - 1) as i32) as u8;
        let rule = |r: &mut Random| {
            let threshold = Score(r.range(32_769, 60_000) as u16);
            TagRule { threshold, review_low: threshold }
        };
        let rules: std::vec::Vec<TagRule> = (0..tags).map(|_| rule(&mut r)).collect();
        let policies: std::vec::Vec<TagPolicy> = rules.iter().map(|rule| TagPolicy::new(*rule, action(&mut r))).collect();
        let mut d = Decider::new(Task::Multiclass, &policies, Policy { n, k, ..Policy::default() }).unwrap();
        let mut frames: std::vec::Vec<Seen> = std::vec![];
        for i in 0..20 {
            // One tag takes most of what softmax has to give.
            let mut left = 65_535;
            let first = r.range(0, tags as i32 - 1) as usize;
            let mut scores = std::vec![0u16; tags];
            for t in (0..tags).map(|t| (t + first) % tags) {
                scores[t] = r.range(0, left) as u16;
                left -= scores[t] as i32;
            }
            frames.push(Seen { ms: i, beyond: false, scores });
            let scores: std::vec::Vec<Score> = frames[i as usize].scores.iter().map(|s| Score(*s)).collect();
            let got = d.step(at(i), Observation::Scores { captured_at: at(i), scores: &scores, beyond: false });
            let expected = top_tag_only(&rules, n as usize, k as usize, &frames);
            let verdict = if expected.is_some() { Verdict::Present } else { Verdict::Unknown };
            assert_eq!((got.verdict, got.tag.map(|t| t.0)), (verdict, expected), "seed {seed}, case {case}, frame {i}");
        }
    }
}
