//! The machine against a naive reading of the rule, which sees all frames at once and keeps no
//! memory.
//!
//! Seed and number of tables: `TAGPIN_TEST_SEED`, `TAGPIN_TEST_CASES`.

use super::*;
use crate::random::{Random, drawn_cases};
use crate::simulate::naive::{self, Seen};

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
        TagPolicy { rule, action: action(r), preference, is_category: false }
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
        Seen { at_us: T0 + ms * 1000, beyond: r.range(0, 9) < beyond_share, scores }
    };
    let frames = (0..1 + case % 40).map(frame).collect();
    Case { task: [Task::Multiclass, Task::Multilabel][(case % 2) as usize], tags, policy, frames }
}

/// The same tags and policy as a naive reader writes them down.
fn written_down(tags: &[TagPolicy], p: Policy) -> (std::vec::Vec<naive::Tag>, naive::Rule) {
    let tag = |t: &TagPolicy| naive::Tag {
        threshold: t.rule.threshold.0,
        review_low: t.rule.review_low.0,
        action: t.action,
        place: t.preference.0 as usize,
    };
    let rule = naive::Rule {
        best: p.combine == Combine::Best,
        n: p.n as usize,
        k: p.k as usize,
        hysteresis: p.hysteresis.0,
        dwell_us: p.dwell.micros().0,
        unknown: p.unknown,
        foreign: p.foreign,
    };
    (tags.iter().map(tag).collect(), rule)
}

#[test]
fn the_machine_decides_as_a_naive_reading_of_the_rule_does() {
    let (seed, cases) = drawn_cases(20_000);
    let mut words = std::collections::BTreeMap::new();
    for case in 0..cases {
        let Case { task, tags, policy, frames } = draw(seed, case);
        let mut d = Decider::new(task, &tags, policy).unwrap();
        let (naive_tags, rule) = written_down(&tags, policy);
        for (i, f) in frames.iter().enumerate() {
            let scores: std::vec::Vec<Score> = f.scores.iter().map(|s| Score(*s)).collect();
            let now = Instant::from_micros(f.at_us);
            let got = d.step(now, Observation::Scores { captured_at: now, scores: &scores, beyond: f.beyond });
            let said = naive::decide(&naive_tags, rule, &frames[..=i]);
            let place = || std::format!("seed {seed}, case {case}, frame {i}");
            assert_eq!(
                (got.verdict.name(), got.action, got.tag.map(|t| t.0 as usize)),
                (said.word, Some(said.action), said.tag),
                "{}",
                place()
            );
            let held: std::vec::Vec<u16> = said.held.iter().map(|t| *t as u16).collect();
            assert_eq!(got.held, set(&held), "held, {}", place());
            let driving = match task {
                Task::Multilabel => set(&held),
                Task::Multiclass if said.word == "present" => set(&said.tag.map_or(std::vec![], |t| std::vec![t as u16])),
                Task::Multiclass => TagSet::EMPTY,
            };
            assert_eq!(got.driving(task), driving, "tag outputs, {}", place());
            *words.entry(said.word).or_insert(0) += 1;
        }
    }
    assert!(words.len() == 4 && words.values().all(|&n: &u64| n > cases / 100), "each verdict is drawn often: {words:?}");
}

/// The rule of schema 1: in multiclass only the frame's top tag may pass, and k of n frames must
/// say so.
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
            frames.push(Seen { at_us: T0 + i * 1000, beyond: false, scores });
            let scores: std::vec::Vec<Score> = frames[i as usize].scores.iter().map(|s| Score(*s)).collect();
            let got = d.step(at(i), Observation::Scores { captured_at: at(i), scores: &scores, beyond: false });
            let expected = top_tag_only(&rules, n as usize, k as usize, &frames);
            let verdict = if expected.is_some() { Verdict::Present } else { Verdict::Unknown };
            assert_eq!((got.verdict, got.tag.map(|t| t.0)), (verdict, expected), "seed {seed}, case {case}, frame {i}");
        }
    }
}
