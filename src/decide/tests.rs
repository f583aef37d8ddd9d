//! Single stories of the rule; the whole of it is held against a naive reading in `naive`, and
//! against stated tables.

use super::*;
use crate::fault::Reason;
use crate::time::{Instant, Millis};

#[cfg(feature = "line")]
mod naive;

const T0: u64 = 1_000_000;

fn at(ms: u64) -> Instant {
    Instant::from_micros(T0 + ms * 1000)
}

fn set(tags: &[u16]) -> TagSet {
    let mut set = TagSet::EMPTY;
    tags.iter().for_each(|&t| set.insert(TagId(t)));
    set
}

/// The word and the tag that names it.
type Said = (Verdict, Option<u16>);

fn present(tag: u16) -> Said {
    (Verdict::Present, Some(tag))
}

fn review(tag: u16) -> Said {
    (Verdict::Review, Some(tag))
}

const UNKNOWN: Said = (Verdict::Unknown, None);

const RULE: TagRule = TagRule { threshold: Score(600), review_low: Score(400) };

fn decider(task: Task, policy: Policy) -> Decider {
    Decider::new(task, &[TagPolicy::new(RULE, Action::Accept); 3], policy).unwrap()
}

fn step(d: &mut Decider, ms: u64, scores: [u16; 3]) -> Decision {
    d.step(at(ms), Observation::Scores { captured_at: at(ms), scores: &scores.map(Score), beyond: false })
}

fn run(d: &mut Decider, frames: &[(u64, [u16; 3])]) -> std::vec::Vec<Said> {
    let said = |d: Decision| (d.verdict, d.tag.map(|t| t.0));
    frames.iter().map(|&(ms, scores)| said(step(d, ms, scores))).collect()
}

#[test]
fn thresholds_are_inclusive_and_a_band_reaches_down_to_review_low() {
    let mut d = decider(Task::Multiclass, Policy::default());
    let got = run(&mut d, &[(0, [600, 300, 0]), (1, [599, 0, 0]), (2, [399, 400, 0]), (3, [399, 0, 0]), (4, [900, 950, 0])]);
    assert_eq!(got, [present(0), review(0), review(1), UNKNOWN, present(1)]);
}

/// Thresholds of 0.3 for high recall did nothing for the second tag: only the top tag could pass.
#[test]
fn a_tag_that_is_not_the_top_one_passes_its_own_threshold() {
    let low = TagRule { threshold: Score(300), review_low: Score(300) };
    let tags = [TagPolicy::new(RULE, Action::Accept), TagPolicy::new(low, Action::Reject)];
    let mut d = Decider::new(Task::Multiclass, &tags, Policy::default()).unwrap();
    let scores = [Score(650), Score(350)];
    let got = d.step(at(0), Observation::Scores { captured_at: at(0), scores: &scores, beyond: false });
    assert_eq!((got.verdict, got.action, got.tag), (Verdict::Present, Some(Action::Reject), Some(TagId(1))));
    assert_eq!((got.held, got.driving(Task::Multiclass)), (set(&[0, 1]), set(&[1])));
}

#[test]
fn multilabel_tags_stand_by_themselves() {
    let mut d = decider(Task::Multilabel, Policy::default());
    let got = step(&mut d, 0, [600, 700, 599]);
    assert_eq!((got.driving(Task::Multilabel), got.tag), (set(&[0, 1]), Some(TagId(1))));
    assert_eq!(run(&mut d, &[(1, [0, 0, 450]), (2, [0, 0, 0])]), [review(2), UNKNOWN]);
}

#[test]
fn two_of_three_frames_make_a_tag_hold() {
    let mut d = decider(Task::Multiclass, Policy { n: 3, k: 2, ..Policy::default() });
    let got = run(&mut d, &[(0, [900, 0, 0]), (1, [0, 900, 0]), (2, [900, 0, 0]), (3, [0, 0, 0]), (4, [0, 0, 0])]);
    assert_eq!(got, [UNKNOWN, UNKNOWN, present(0), UNKNOWN, UNKNOWN]);
}

#[test]
fn hysteresis_holds_a_tag_that_dips() {
    let mut d = decider(Task::Multiclass, Policy { hysteresis: Score(100), ..Policy::default() });
    let got = run(&mut d, &[(0, [500, 0, 0]), (1, [600, 0, 0]), (2, [500, 0, 0]), (3, [499, 0, 0]), (4, [500, 0, 0])]);
    assert_eq!(got, [review(0), present(0), present(0), review(0), review(0)]);
}

#[test]
fn dwell_holds_a_tag_for_its_least_time_and_a_tag_with_votes_names_the_verdict() {
    let mut d = decider(Task::Multiclass, Policy { dwell: Millis(50), ..Policy::default() });
    let got = run(&mut d, &[(0, [900, 0, 0]), (10, [0, 900, 0]), (49, [0, 0, 0]), (60, [0, 0, 0])]);
    assert_eq!(got, [present(0), present(1), present(0), UNKNOWN]);
}

#[test]
fn a_stale_or_missing_frame_is_safe_and_forgets() {
    let mut d = decider(Task::Multiclass, Policy { n: 2, k: 2, stale_after: Millis(100), ..Policy::default() });
    run(&mut d, &[(0, [900, 0, 0]), (1, [900, 0, 0])]);
    let scores = [900, 0, 0].map(Score);
    let old = Observation::Scores { captured_at: at(2), scores: &scores, beyond: false };
    assert_eq!(d.step(at(103), old), Decision::safe(Reason::Stale));
    assert_eq!(run(&mut d, &[(104, [900, 0, 0])]), [UNKNOWN]);
    assert_eq!(d.step(at(105), Observation::Missing(Reason::Frozen)), Decision::safe(Reason::Frozen));
    // As old as is allowed is not too old.
    let old = Observation::Scores { captured_at: at(110), scores: &scores, beyond: false };
    assert_eq!(d.step(at(210), old).verdict, Verdict::Unknown);
}

/// What a table or an event lists beside a verdict.
#[test]
fn a_part_to_review_lists_the_tags_in_their_band_and_any_other_those_that_hold() {
    let mut d = decider(Task::Multilabel, Policy::default());
    assert_eq!(step(&mut d, 0, [599, 450, 0]).listed(), set(&[0, 1]));
    assert_eq!(step(&mut d, 1, [700, 450, 0]).listed(), set(&[0]));
    assert_eq!(step(&mut d, 2, [0, 0, 0]).listed(), set(&[]));
}

/// With two of three frames a part is foreign when more than one lies beyond the limit: the others
/// could not decide it.
#[test]
fn a_part_is_foreign_when_too_many_of_its_frames_are_for_the_others_to_decide() {
    for (beyond, expected) in [([true, false, false], Verdict::Present), ([true, true, false], Verdict::Foreign)] {
        let mut d = decider(Task::Multiclass, Policy { n: 3, k: 2, ..Policy::default() });
        let frames = beyond.into_iter().zip(0..).map(|(beyond, ms)| {
            let scores = [900, 0, 0].map(Score);
            d.step(at(ms), Observation::Scores { captured_at: at(ms), scores: &scores, beyond }).verdict
        });
        assert_eq!(frames.last(), Some(expected), "{beyond:?}");
    }
}

#[test]
fn a_wrong_count_of_scores_is_an_engine_fault() {
    let mut d = decider(Task::Multiclass, Policy::default());
    let two = Observation::Scores { captured_at: at(0), scores: &[Score(900), Score(0)], beyond: false };
    assert_eq!(d.step(at(0), two), Decision::safe(Reason::Engine));
}

#[test]
fn impossible_policies_are_refused() {
    let tag = TagPolicy::new(TagRule { threshold: Score(1), review_low: Score(2) }, Action::Accept);
    assert_eq!(Decider::new(Task::Multiclass, &[tag], Policy::default()).err(), Some(PolicyError::Band(TagId(0))));
    let policy = Policy { n: 2, k: 3, ..Policy::default() };
    assert!(matches!(Decider::new(Task::Multiclass, &[], policy), Err(PolicyError::KOfN { k: 3, n: 2 })));
    assert!(matches!(
        Decider::new(Task::Multiclass, &[], Policy { n: 17, ..policy }),
        Err(PolicyError::KOfN { k: 3, n: 17 })
    ));
    let told = [PolicyError::KOfN { k: 3, n: 2 }, PolicyError::Band(TagId(4)), PolicyError::TooManyTags(9000)]
        .map(|e| e.to_string());
    assert!(told[0].starts_with("3 of 2 frames: expected 1 <= k <= n"), "{told:?}");
    assert_eq!(told[1], "tag 4: review_low lies above threshold; lower it");
    assert!(told[2].starts_with("9000 tags: at most"), "{told:?}");
}

#[test]
fn the_best_scores_of_a_part_decide_it_where_that_is_asked_for() {
    let mut d = decider(Task::Multiclass, Policy { combine: Combine::Best, n: 4, ..Policy::default() });
    let got = run(&mut d, &[(0, [0, 450, 0]), (1, [700, 0, 0]), (2, [0, 650, 0]), (3, [0, 800, 0])]);
    assert_eq!(got, [review(1), present(0), present(0), present(1)]);
    d.forget();
    assert_eq!(run(&mut d, &[(9, [0, 0, 0])]), [UNKNOWN]);
}

#[test]
fn all_tags_and_all_frames_fit() {
    let tags = std::vec![TagPolicy::new(RULE, Action::Accept); MAX_TAGS];
    let mut d = Decider::new(Task::Multilabel, &tags, Policy { n: 16, k: 16, ..Policy::default() }).unwrap();
    let scores = std::vec![Score(700); MAX_TAGS];
    for frame in 0..20 {
        let seen = Observation::Scores { captured_at: at(frame), scores: &scores, beyond: false };
        let verdict = d.step(at(frame), seen).verdict;
        assert_eq!(verdict, if frame < 15 { Verdict::Unknown } else { Verdict::Present }, "frame {frame}");
    }
    let one_more = std::vec![tags[0]; MAX_TAGS + 1];
    assert!(matches!(
        Decider::new(Task::Multilabel, &one_more, Policy::default()),
        Err(PolicyError::TooManyTags(n)) if n == MAX_TAGS + 1
    ));
}

/// The table that device, tools and `classify` run as well; another by `TAGPIN_DECISIONS`.
#[test]
fn the_rule_gives_what_the_table_states() {
    let rows = table::tests::rows();
    assert!(!rows.is_empty(), "no row, nothing shown");
    for row in &rows {
        let policy = row.policy().unwrap();
        let mut d = Decider::new(row.task, &row.tag_policies().unwrap(), policy).unwrap();
        let decision = table::tests::decided(row, &mut d);
        row.check(&decision, decision.action.map(Action::name).unwrap_or(row.late()), "the rule");
    }
}

#[test]
fn one_tag_of_many_has_scores_that_add_up_to_one_and_any_number_of_tags_a_score_each_by_itself() {
    use crate::head::Temperature;
    let logits = [0, 0, 0, i32::MIN / 2];
    let mut scores = [Score(7); 4];
    Task::Multiclass.score(&logits, Temperature::ONE, &mut scores);
    assert!(scores[..3].iter().all(|s| s.0.abs_diff(21845) < 8) && scores[3].0 < 8, "{scores:?}");
    Task::Multilabel.score(&logits, Temperature::ONE, &mut scores);
    assert!(scores[..3].iter().all(|s| s.0.abs_diff(32768) < 8) && scores[3].0 < 8, "{scores:?}");
}

#[test]
fn a_set_of_tags_holds_what_was_put_in_and_sets_join_and_meet() {
    let tags = |set: &TagSet| set.iter().map(|t| t.0).collect::<Vec<_>>();
    let all = [&[][..], &[0], &[63, 64], &[0, 64, 500], &[63]];
    for one in all {
        assert_eq!((tags(&set(one)), set(one).is_empty()), (one.to_vec(), one.is_empty()));
        for other in all {
            let mut both = [one, other].concat();
            both.sort_unstable();
            both.dedup();
            assert_eq!(tags(&set(one).union(&set(other))), both);
            assert_eq!(set(one).meets(&set(other)), one.iter().any(|t| other.contains(t)), "{one:?}, {other:?}");
        }
    }
}

/// Tags tabby, lion and dog; categories feline (tabby, lion), animal (all) and cat (tabby), whose
/// scores stand behind the tags'. What each frame must give was written by hand.
#[test]
fn a_category_holds_as_a_tag_does_and_names_a_part_that_no_tag_names() {
    let tag = |action| TagPolicy::new(RULE, action);
    let category = |leaves, action| TagPolicy { rule: RULE, action, ..TagPolicy::category(leaves) };
    use Action::{Accept, Reject, Review};
    let kinds = [tag(Accept), tag(Accept), tag(Reject), category(2, Accept), category(3, Accept), category(1, Accept)];
    let said = |policies: &[TagPolicy; 6], scores: [u16; 6], beyond: bool| {
        let mut d = Decider::new(Task::Multiclass, policies, Policy::default()).unwrap();
        let scores = scores.map(Score);
        let got = d.step(at(0), Observation::Scores { captured_at: at(0), scores: &scores, beyond });
        ((got.verdict, got.tag.map(|t| t.0)), got.driving(Task::Multiclass))
    };
    // A tag that holds names the part; every category that holds moves its outputs.
    assert_eq!(said(&kinds, [700, 0, 0, 700, 700, 700], false), (present(0), set(&[0, 3, 4, 5])));
    // No tag is sure: the narrowest category that is, not the one with the higher sum.
    assert_eq!(said(&kinds, [300, 350, 50, 650, 700, 300], false), (present(3), set(&[3, 4])));
    assert_eq!(said(&kinds, [550, 50, 0, 600, 600, 550], false), (present(3), set(&[3, 4])));
    assert_eq!(said(&kinds, [200, 200, 200, 400, 600, 200], false), (present(4), set(&[4])));
    assert_eq!(said(&kinds, [150, 150, 99, 300, 399, 150], false), (UNKNOWN, set(&[])));
    // A category in its band is looked at, as a tag would be.
    assert_eq!(said(&kinds, [150, 150, 100, 300, 400, 150], false), (review(4), set(&[])));
    // A defect in its band decides before what is good, and then nothing is called for.
    assert_eq!(said(&kinds, [0, 200, 500, 200, 700, 0], false), (review(2), set(&[])));
    // Beyond the limit a frame counts for no category either.
    assert_eq!(said(&kinds, [700, 0, 0, 700, 700, 700], true), ((Verdict::Foreign, None), set(&[])));
    // What the site lists comes before tags; a category's action ranks as a tag's.
    let mut listed = kinds;
    listed[4].preference = Preference(0);
    assert_eq!(said(&listed, [700, 0, 0, 700, 700, 700], false), (present(4), set(&[3, 4, 5])));
    let mut rejecting = kinds;
    rejecting[3].action = Reject;
    let mut d = Decider::new(Task::Multiclass, &rejecting, Policy::default()).unwrap();
    let scores = [700, 0, 0, 700, 700, 700].map(Score);
    let got = d.step(at(0), Observation::Scores { captured_at: at(0), scores: &scores, beyond: false });
    assert_eq!((got.action, got.tag), (Some(Reject), Some(TagId(3))), "a good tag does not save it");
    rejecting[3].action = Review;
    let mut d = Decider::new(Task::Multiclass, &rejecting, Policy::default()).unwrap();
    let got = d.step(at(0), Observation::Scores { captured_at: at(0), scores: &scores, beyond: false });
    assert_eq!((got.action, got.tag), (Some(Review), Some(TagId(3))));
}
