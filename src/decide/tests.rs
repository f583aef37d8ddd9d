//! Tables of scores over time against the verdicts they must give.

use super::*;

const T0: u64 = 1_000_000;

fn at(ms: u64) -> Instant {
    Instant::from_micros(T0 + ms * 1000)
}

fn present(tags: &[u16]) -> Verdict {
    let mut set = TagSet::EMPTY;
    tags.iter().for_each(|&t| set.insert(TagId(t)));
    Verdict::Present(set)
}

fn review(tag: u16) -> Verdict {
    let mut set = TagSet::EMPTY;
    set.insert(TagId(tag));
    Verdict::Review(set)
}

fn decider(task: Task, policy: Policy) -> Decider {
    let rule = TagRule { threshold: Score(600), review_low: Score(400) };
    Decider::new(task, &[rule; 3], policy).unwrap()
}

fn run(d: &mut Decider, frames: &[(u64, [u16; 3])]) -> std::vec::Vec<Verdict> {
    let one = |&(ms, scores): &(u64, [u16; 3])| {
        d.step(at(ms), Observation::Scores { captured_at: at(ms), scores: &scores.map(Score) })
    };
    frames.iter().map(one).collect()
}

#[test]
fn thresholds_are_inclusive_and_only_the_top_tag_counts() {
    let mut d = decider(Task::Multiclass, Policy::default());
    let got = run(&mut d, &[(0, [600, 300, 0]), (1, [599, 0, 0]), (2, [400, 399, 0]), (3, [399, 0, 0]), (4, [900, 950, 0])]);
    assert_eq!(got, [present(&[0]), review(0), review(0), Verdict::Unknown, present(&[1])]);
}

#[test]
fn multilabel_tags_stand_by_themselves() {
    let mut d = decider(Task::Multilabel, Policy::default());
    let got = run(&mut d, &[(0, [600, 700, 599]), (1, [0, 0, 450]), (2, [0, 0, 0])]);
    assert_eq!(got, [present(&[0, 1]), review(2), Verdict::Unknown]);
}

#[test]
fn two_of_three_frames_make_a_tag_hold() {
    let mut d = decider(Task::Multiclass, Policy { n: 3, k: 2, ..Policy::default() });
    let got = run(&mut d, &[(0, [900, 0, 0]), (1, [0, 900, 0]), (2, [900, 0, 0]), (3, [0, 0, 0]), (4, [0, 0, 0])]);
    assert_eq!(got, [Verdict::Unknown, Verdict::Unknown, present(&[0]), Verdict::Unknown, Verdict::Unknown]);
}

#[test]
fn hysteresis_holds_a_tag_that_dips() {
    let mut d = decider(Task::Multiclass, Policy { hysteresis: Score(100), ..Policy::default() });
    let got = run(&mut d, &[(0, [500, 0, 0]), (1, [600, 0, 0]), (2, [500, 0, 0]), (3, [499, 0, 0]), (4, [500, 0, 0])]);
    assert_eq!(got, [review(0), present(&[0]), present(&[0]), review(0), review(0)]);
}

#[test]
fn dwell_holds_a_tag_for_its_least_time() {
    let mut d = decider(Task::Multiclass, Policy { dwell: Millis(50), ..Policy::default() });
    let got = run(&mut d, &[(0, [900, 0, 0]), (49, [0, 0, 0]), (50, [0, 0, 0])]);
    assert_eq!(got, [present(&[0]), present(&[0]), Verdict::Unknown]);
}

#[test]
fn dwell_never_shows_two_tags_of_a_multiclass_model() {
    let mut d = decider(Task::Multiclass, Policy { dwell: Millis(50), ..Policy::default() });
    assert_eq!(run(&mut d, &[(0, [900, 0, 0]), (10, [0, 900, 0])])[1], present(&[1]));
}

#[test]
fn a_stale_or_missing_frame_is_safe_and_forgets() {
    let mut d = decider(Task::Multiclass, Policy { n: 2, k: 2, stale_after: Millis(100), ..Policy::default() });
    run(&mut d, &[(0, [900, 0, 0]), (1, [900, 0, 0])]);
    let scores = [900, 0, 0].map(Score);
    let old = Observation::Scores { captured_at: at(2), scores: &scores };
    assert_eq!(d.step(at(103), old), Verdict::Safe(Reason::Stale));
    assert_eq!(run(&mut d, &[(104, [900, 0, 0])])[0], Verdict::Unknown);
    assert_eq!(d.step(at(105), Observation::Missing(Reason::Frozen)), Verdict::Safe(Reason::Frozen));
}

#[test]
fn a_wrong_count_of_scores_is_an_engine_fault() {
    let mut d = decider(Task::Multiclass, Policy::default());
    let two = [Score(900), Score(0)];
    assert_eq!(d.step(at(0), Observation::Scores { captured_at: at(0), scores: &two }), Verdict::Safe(Reason::Engine));
}

#[test]
fn impossible_policies_are_refused() {
    let rule = TagRule { threshold: Score(1), review_low: Score(2) };
    assert_eq!(Decider::new(Task::Multiclass, &[rule], Policy::default()).err(), Some(PolicyError::Band(TagId(0))));
    let policy = Policy { n: 2, k: 3, ..Policy::default() };
    assert!(matches!(Decider::new(Task::Multiclass, &[], policy), Err(PolicyError::KOfN { k: 3, n: 2 })));
}

#[test]
fn the_best_scores_of_a_part_decide_it_where_that_is_asked_for() {
    let mut d = decider(Task::Multiclass, Policy { combine: Combine::Best, ..Policy::default() });
    let got = run(&mut d, &[(0, [0, 450, 0]), (1, [700, 0, 0]), (2, [0, 650, 0]), (3, [0, 800, 0])]);
    assert_eq!(got, [review(1), present(&[0]), present(&[0]), present(&[1])]);
    d.forget();
    assert_eq!(run(&mut d, &[(9, [0, 0, 0])]), [Verdict::Unknown]);
}
