//! The machine by itself: what each input leads to, in which order.

mod changes;
mod frozen;

use super::*;
use crate::decide::{Action, Role, TagRule, Task};
use crate::frame::{Fingerprint, TimedBy};
use crate::line::{TooClose, Travel};
use crate::time::Millis;
use std::vec::Vec;

fn at(ms: u64) -> Moment {
    Moment::at(Instant::from_micros(1_000_000 + ms * 1000))
}

fn exposed(ms: u64) -> CapturedAt {
    CapturedAt::Exposure { at: at(ms).at, uncertainty: Micros(0), by: TimedBy::Shown }
}

/// One line on reject, one on accept; a good tag and a defect.
fn station(frames: u8, late: Option<Action>, change: impl FnOnce(&mut StationRules<'_>)) -> Station {
    let tags = [Role::Good, Role::Defect].map(|role| TagPolicy::new(TagRule::default(), role.action()));
    let mut calls = [Calls::default(); 2];
    calls[0].on(Action::Reject);
    calls[1].on(Action::Accept);
    let mut rules = StationRules {
        tags: &tags,
        policy: Policy { n: frames, k: frames, ..Policy::default() },
        routing: Routing::new(Task::Multiclass, late, &calls.map(Some)),
        every_frame: false,
        spacing: Spacing { min: Travel::Time(Micros(50_000)), rule: TooClose::Reject },
        part: PartRules { frames, deadline: Travel::Time(Millis(300).micros()), ..PartRules::default() },
        first_gate: Some(Micros(400_000)),
        parts: 0,
        max_faults: 3,
    };
    change(&mut rules);
    Station::new(rules).unwrap()
}

fn gate(frames: u8) -> Station {
    station(frames, Some(Action::Reject), |_| {})
}

/// What followed, in words.
fn told(s: &mut Station, ms: u64, input: Input<'_>) -> (Vec<std::string::String>, Option<Ticket>) {
    let (mut words, mut ticket) = (Vec::new(), None);
    s.step(at(ms), input, &mut |effect| match effect {
        Effect::Classify(t) => ticket = Some(t),
        Effect::Decided(done) => words.push(std::format!(
            "{} {} {} {}{:#b}",
            done.part.id.0,
            done.decision.verdict.name(),
            done.action.map_or("-", Action::name),
            if done.late { "late " } else { "" },
            done.calls
        )),
        Effect::Opened { part, touching, .. } => words.push(std::format!("open {} {touching}", part.0)),
        Effect::Fault { reason, scope, .. } => words.push(std::format!("{} {scope:?}", reason.name())),
        other => words.push(std::format!("{other:?}")),
    });
    (words, ticket)
}

fn frame(s: &mut Station, ms: u64) -> Option<Ticket> {
    told(s, ms, Input::Frame { captured_at: exposed(ms), shows: None, print: None }).1
}

const GOOD: [Score; 2] = [Score(60_000), Score(5000)];
const BAD: [Score; 2] = [Score(5000), Score(60_000)];

fn scores(s: &mut Station, ms: u64, ticket: Ticket, scores: &[Score]) -> Vec<std::string::String> {
    told(s, ms, Input::Scores { ticket, scores, beyond: false }).0
}

#[test]
fn a_part_goes_from_its_trigger_over_its_frame_to_the_lines_of_its_verdict() {
    let mut s = gate(1);
    assert_eq!(frame(&mut s, 0), None, "nothing is there yet");
    assert_eq!(told(&mut s, 10, Input::Trigger(at(10))).0, ["open 1 false"]);
    let ticket = frame(&mut s, 20).unwrap();
    assert_eq!((ticket.part().id, ticket.captured_at()), (PartId(1), at(20).at));
    assert_eq!(frame(&mut s, 21), None, "the model is at work");
    assert_eq!(scores(&mut s, 40, ticket, &BAD), ["1 present reject 0b1"]);
    told(&mut s, 100, Input::Trigger(at(100)));
    let ticket = frame(&mut s, 110).unwrap();
    assert_eq!(scores(&mut s, 130, ticket, &GOOD), ["2 present accept 0b10"]);
}

#[test]
fn what_no_tag_is_sure_of_and_what_is_foreign_follow_the_policy_and_late_parts_the_late_action() {
    let policy = |s: &mut StationRules<'_>| (s.policy.unknown, s.policy.foreign) = (Action::Accept, Action::Review);
    let mut s = station(1, Some(Action::Reject), policy);
    let mut one = |ms: u64, answered: u64, given: &[Score; 2], beyond: bool| {
        told(&mut s, ms, Input::Trigger(at(ms)));
        let ticket = frame(&mut s, ms + 5).unwrap();
        told(&mut s, answered, Input::Scores { ticket, scores: given, beyond }).0.remove(0)
    };
    let unsure = [Score(30_000), Score(30_000)];
    assert_eq!(one(0, 30, &unsure, false), "1 unknown accept 0b10");
    assert_eq!(one(1000, 1030, &GOOD, true), "2 foreign review 0b0");
    assert_eq!(one(2000, 2400, &GOOD, false), "3 present accept 0b10", "at the gate is in time");
    assert_eq!(one(3000, 3401, &GOOD, false), "4 present reject late 0b1");
}

/// A part that was given up wiped the votes of the part that was being decided.
#[test]
fn a_part_that_misses_a_frame_changes_nothing_for_the_next_one() {
    let mut s = gate(3);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 10).unwrap();
    assert!(scores(&mut s, 20, ticket, &GOOD).is_empty());
    told(&mut s, 100, Input::Trigger(at(100)));
    let ticket = frame(&mut s, 110).unwrap();
    // The first part ends while the second has its first vote.
    assert_eq!(scores(&mut s, 120, ticket, &GOOD), ["1 safe reject 0b1", "no_frame Part"]);
    for ms in [130, 150] {
        let ticket = frame(&mut s, ms).unwrap();
        let words = scores(&mut s, ms + 10, ticket, &GOOD);
        assert_eq!(words, if ms == 150 { ["2 present accept 0b10"].as_slice() } else { &[] });
    }
}

/// A part on its way when a signal came, the model hung or the reader left had no end, and was in
/// no count.
#[test]
fn a_part_that_waits_as_the_run_ends_has_its_end_and_no_trigger_opens_another() {
    for (safe, ms, expected) in [
        (true, 150, ["1 safe - 0b0", "2 safe - 0b0"]),
        (true, 401, ["1 safe reject late 0b1", "2 safe - 0b0"]),
        (false, 150, ["1 safe reject 0b1", "2 safe reject 0b1"]),
    ] {
        let mut s = station(1, Some(Action::Reject), |rules| rules.part.deadline = Travel::Time(Millis(1000).micros()));
        told(&mut s, 0, Input::Trigger(at(0)));
        told(&mut s, 100, Input::Trigger(at(100)));
        let ticket = frame(&mut s, 110).unwrap();
        let stopped = || Input::Stopped { reason: Reason::Stopped, safe };
        assert_eq!(told(&mut s, ms, stopped()).0, expected);
        assert!(scores(&mut s, ms, ticket, &GOOD).is_empty(), "it had its end");
        assert_eq!(told(&mut s, ms, stopped()).0, [""; 0], "each has one");
        assert_eq!(told(&mut s, ms, Input::Trigger(at(ms))).0, [""; 0]);
    }
    // Where outputs follow tags nothing moves.
    let mut s = station(1, None, |_| {});
    told(&mut s, 0, Input::Trigger(at(0)));
    assert_eq!(told(&mut s, 10, Input::Stopped { reason: Reason::Panic, safe: false }).0, ["1 safe - 0b0"]);
}

/// The belt may run back while the model works: the part whose deadline was over by then must not
/// wait for another frame.
#[test]
fn a_deadline_in_counts_that_is_over_while_the_model_works_stays_over() {
    let run = |count: i64| {
        let mut s = station(2, Some(Action::Reject), |rules| rules.part.deadline = Travel::Counts(30));
        assert!(s.watches_belt() && !gate(2).watches_belt());
        told(&mut s, 0, Input::Trigger(at(0)));
        let ticket = frame(&mut s, 10).unwrap();
        told(&mut s, 20, Input::Belt(Moment { position: count, ..at(20) }));
        // It stands where it stood at the trigger.
        scores(&mut s, 350, ticket, &GOOD)
    };
    assert!(run(29).is_empty());
    assert_eq!(run(30), ["1 safe reject 0b1", "no_frame Part"]);
}

#[test]
fn parts_that_touch_get_the_late_action_and_the_frame_that_the_model_has_is_dropped() {
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 10).unwrap();
    let (words, _) = told(&mut s, 20, Input::Trigger(at(20)));
    let both = ["open 2 true", "1 safe reject 0b1", "too_close Part", "2 safe reject 0b1", "too_close Part"];
    assert_eq!(words, both);
    assert!(scores(&mut s, 40, ticket, &GOOD).is_empty(), "it had its end");
    let rule = |rule: TooClose| {
        let mut s = station(1, Some(Action::Reject), |r| r.spacing.rule = rule);
        told(&mut s, 0, Input::Trigger(at(0)));
        let words = told(&mut s, 20, Input::Trigger(at(20))).0;
        told(&mut s, 30, Input::Trigger(at(30)));
        assert_eq!(s.too_close(), 2, "counted whatever follows");
        words
    };
    assert_eq!(rule(TooClose::Ignore), [""; 0]);
    assert_eq!(rule(TooClose::Safe), ["too_close Line"]);
}

#[test]
fn a_trigger_that_is_told_after_a_frame_that_shows_its_part_puts_the_part_before_in_doubt() {
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 110).unwrap();
    scores(&mut s, 115, ticket, &GOOD);
    let (words, _) = told(&mut s, 120, Input::Trigger(at(100)));
    assert_eq!(words, ["open 2 false", "Doubt { part: PartId(1), reason: TooClose }"]);
    // One that waits for more frames has its end without a verdict, whatever they show.
    let mut s = gate(2);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 60).unwrap();
    scores(&mut s, 65, ticket, &GOOD);
    let ticket = frame(&mut s, 110).unwrap();
    let (words, _) = told(&mut s, 120, Input::Trigger(at(100)));
    assert_eq!(words, ["open 2 false", "Doubt { part: PartId(1), reason: TooClose }"]);
    assert_eq!(scores(&mut s, 125, ticket, &GOOD), ["1 safe reject 0b1", "too_close Part"]);
}

/// A part was told as accepted, then touched by the next one and thrown out, and nobody was told.
#[test]
fn a_part_that_is_touched_after_its_verdict_is_put_in_doubt() {
    let touched = |given: &[Score; 2], answered: u64| {
        let mut s = station(1, Some(Action::Reject), |rules| {
            rules.spacing.min = Travel::Time(Millis(1000).micros());
            rules.first_gate = Some(Micros(100_000));
        });
        told(&mut s, 0, Input::Trigger(at(0)));
        let ticket = frame(&mut s, 10).unwrap();
        scores(&mut s, answered, ticket, given);
        told(&mut s, answered + 10, Input::Trigger(at(answered + 10))).0
    };
    const DOUBT: &str = "Doubt { part: PartId(1), reason: TooClose }";
    let own = ["open 2 true", "2 safe reject 0b1", "too_close Part"];
    for given in [&GOOD, &BAD] {
        assert_eq!(touched(given, 20), [own[0], DOUBT, own[1], own[2]]);
    }
    assert_eq!(touched(&GOOD, 150), own, "late: it has the late action already");
}

/// A part whose frames may show the next one is told as that, however many were told so before it
/// that had had their end.
#[test]
fn a_part_in_doubt_that_waits_for_another_frame_ends_as_too_close_after_many_that_did_not_wait() {
    for before in [0, MAX_PARTS as u64 + 1] {
        let mut s = gate(2);
        let mut doubted = |ms: u64, frames: &[u64]| {
            told(&mut s, ms, Input::Trigger(at(ms)));
            for after in frames {
                let ticket = frame(&mut s, ms + after).unwrap();
                scores(&mut s, ms + after + 1, ticket, &GOOD);
            }
            let (words, _) = told(&mut s, ms + 120, Input::Trigger(at(ms + 100)));
            assert!(words.iter().any(|w| w.starts_with("Doubt")), "{words:?}");
            told(&mut s, ms + 300, Input::Tick).0
        };
        (0..before).for_each(|round| drop(doubted(round * 2000, &[105, 110])));
        let words = doubted(before * 2000, &[110]);
        assert_eq!(words, [std::format!("{} safe reject 0b1", 2 * before + 1), "too_close Part".into()]);
    }
}

#[test]
fn a_camera_fault_costs_parts_their_verdict_at_a_gate_and_makes_a_state_line_safe() {
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    assert_eq!(told(&mut s, 10, Input::NoFrame(Reason::Corrupt)).0, ["corrupt Part"]);
    assert_eq!(told(&mut s, 299, Input::Tick).0, [""; 0]);
    assert_eq!(told(&mut s, 300, Input::Tick).0, ["1 safe reject 0b1", "no_frame Part"]);
    let mut s = station(1, None, |_| {});
    assert_eq!(told(&mut s, 0, Input::NoFrame(Reason::Corrupt)).0, ["corrupt Line"]);
    told(&mut s, 10, Input::Trigger(at(10)));
    assert_eq!(told(&mut s, 20, Input::NoFrame(Reason::Corrupt)).0, ["1 safe - 0b0", "corrupt Line"]);
}

/// Where outputs follow tags nothing is corrected at a gate: what is in doubt makes the line safe.
#[test]
fn in_state_mode_a_part_in_doubt_makes_the_line_safe_and_one_that_is_touched_does_not() {
    let mut s = station(1, None, |_| {});
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 110).unwrap();
    assert_eq!(scores(&mut s, 115, ticket, &GOOD), ["1 present accept 0b10"]);
    let (words, _) = told(&mut s, 120, Input::Trigger(at(100)));
    assert_eq!(words, ["open 2 false", "Doubt { part: PartId(1), reason: TooClose }", "too_close Line"]);
    // One that waits for more frames ends with its own verdict.
    let mut s = station(2, None, |r| r.policy.k = 1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 60).unwrap();
    scores(&mut s, 65, ticket, &GOOD);
    let ticket = frame(&mut s, 110).unwrap();
    told(&mut s, 120, Input::Trigger(at(100)));
    assert_eq!(scores(&mut s, 125, ticket, &GOOD), ["1 present accept 0b10"]);
    // Its lines have moved when the next one touches it.
    let mut s = station(1, None, |_| {});
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 10).unwrap();
    scores(&mut s, 15, ticket, &GOOD);
    let (words, _) = told(&mut s, 20, Input::Trigger(at(20)));
    assert_eq!(words, ["open 2 true", "2 safe - 0b0", "too_close Line"]);
}

/// Votes from before a gap decided together with those after it.
#[test]
fn in_state_mode_votes_end_where_no_frame_comes_and_where_parts_are_too_many() {
    let unsure = |s: &mut Station, ms: u64| {
        told(s, ms, Input::Trigger(at(ms)));
        let ticket = frame(s, ms + 10).unwrap();
        scores(s, ms + 20, ticket, &BAD).remove(0)
    };
    let two_of_three = || {
        station(1, None, |r| {
            (r.policy.n, r.policy.k, r.spacing.min) = (3, 2, Travel::Time(Micros(0)));
            r.part.deadline = Travel::Time(Micros(9_000_000));
        })
    };
    let mut s = two_of_three();
    assert!(unsure(&mut s, 0).starts_with("1 unknown"));
    assert!(unsure(&mut s, 100).starts_with("2 present reject"));
    let mut s = two_of_three();
    unsure(&mut s, 0);
    assert_eq!(told(&mut s, 50, Input::NoFrame(Reason::Corrupt)).0, ["corrupt Line"]);
    assert!(unsure(&mut s, 100).starts_with("2 unknown"), "nobody saw what was between them");
    let mut s = two_of_three();
    unsure(&mut s, 0);
    (0..64).for_each(|i| drop(told(&mut s, 100 + i, Input::Trigger(at(100 + i)))));
    assert_eq!(told(&mut s, 200, Input::Trigger(at(200))).0[1], "overflow Line");
    assert!(unsure(&mut s, 300).starts_with("67 unknown"), "65 parts were seen by nobody");
}

#[test]
fn in_state_mode_every_frame_moves_the_lines_and_no_part_resets_the_memory() {
    let mut s = station(2, None, |r| r.policy.k = 1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 10).unwrap();
    assert_eq!(scores(&mut s, 20, ticket, &BAD), ["Now { part: PartId(1), calls: 1 }"]);
    let ticket = frame(&mut s, 30).unwrap();
    assert_eq!(scores(&mut s, 40, ticket, &GOOD), ["1 present reject 0b1"], "one of the last two is bad");
    told(&mut s, 100, Input::Trigger(at(100)));
    let ticket = frame(&mut s, 110).unwrap();
    assert_eq!(scores(&mut s, 120, ticket, &GOOD), ["Now { part: PartId(2), calls: 2 }"]);
}

/// A part that nobody saw is a gap in what the last n frames say, wherever votes go over more than
/// one part.
#[test]
fn a_part_without_a_frame_ends_the_votes_of_the_parts_before_where_votes_go_over_parts() {
    for (late, every_frame) in [(Some(Action::Reject), true), (None, false), (None, true)] {
        for unseen in [false, true] {
            let mut s = station(1, late, |r| {
                (r.policy.n, r.policy.k, r.every_frame) = (3, 2, every_frame);
                r.policy.unknown = Action::Review;
            });
            let begin = |s: &mut Station, ms: u64| {
                if !every_frame {
                    told(s, ms, Input::Trigger(at(ms)));
                }
                frame(s, ms).unwrap()
            };
            let first = begin(&mut s, 0);
            if unseen {
                // The next comes while the model is at work, and its frame is not taken.
                if every_frame {
                    frame(&mut s, 100);
                } else {
                    told(&mut s, 100, Input::Trigger(at(100)));
                }
            }
            assert!(scores(&mut s, 110, first, &BAD)[0].starts_with("1 unknown"), "one vote of two");
            if unseen {
                assert!(told(&mut s, 450, Input::Tick).0[0].starts_with("2 safe"));
            }
            let ticket = begin(&mut s, 500);
            let decided = scores(&mut s, 510, ticket, &BAD).remove(0);
            let expected = if unseen { "3 unknown" } else { "2 present reject" };
            assert!(decided.starts_with(expected), "{late:?}, every frame {every_frame}: {decided}");
        }
    }
}

/// Only a tag that is there counts as seen, alone among several classes and each by itself where
/// tags are independent.
#[test]
fn tags_count_as_seen_on_a_part_where_one_is_present() {
    let seen = |given: &[Score; 2], beyond: bool| {
        let mut s = gate(1);
        told(&mut s, 0, Input::Trigger(at(0)));
        let ticket = frame(&mut s, 10).unwrap();
        let mut seen = None;
        s.step(at(20), Input::Scores { ticket, scores: given, beyond }, &mut |effect| {
            if let Effect::Decided(done) = effect {
                let tags = |task| [TagId(0), TagId(1)].map(|tag| done.seen(task).contains(tag));
                seen = Some([tags(Task::Multiclass), tags(Task::Multilabel)]);
            }
        });
        seen.expect("the part has its end")
    };
    assert_eq!(seen(&GOOD, false), [[true, false]; 2]);
    assert_eq!(seen(&[Score(50_000), Score(60_000)], false), [[false, true], [true, true]]);
    assert_eq!(seen(&GOOD, true), [[false, false]; 2], "foreign");
    assert_eq!(seen(&[Score(30_000), Score(30_000)], false), [[false, false]; 2], "unknown");
}

#[test]
fn repeated_engine_errors_hold_the_line_and_one_answer_begins_the_count_again() {
    let mut s = gate(1);
    let mut over = Vec::new();
    for (i, fails) in [true, true, false, true, true, true].into_iter().enumerate() {
        let ms = i as u64 * 1000;
        told(&mut s, ms, Input::Trigger(at(ms)));
        let ticket = frame(&mut s, ms + 10).unwrap();
        let words = match fails {
            true => told(&mut s, ms + 20, Input::NotClassified { ticket, reason: Reason::Engine }).0,
            false => scores(&mut s, ms + 20, ticket, &GOOD),
        };
        over.push(words.iter().any(|w| w == "Over(Held)"));
    }
    assert_eq!(over, [false, false, false, false, false, true]);
}

#[test]
fn without_a_number_no_engine_error_holds_the_line() {
    let mut s = station(1, Some(Action::Reject), |r| r.max_faults = 0);
    for ms in (0..20).map(|i| i * 1000) {
        told(&mut s, ms, Input::Trigger(at(ms)));
        let ticket = frame(&mut s, ms + 10).unwrap();
        let words = told(&mut s, ms + 20, Input::NotClassified { ticket, reason: Reason::Engine }).0;
        assert!(!words.iter().any(|w| w.starts_with("Over")), "{words:?}");
    }
}

#[test]
fn the_run_is_over_when_as_many_parts_as_were_wanted_have_ended() {
    let mut s = station(1, Some(Action::Reject), |r| r.parts = 2);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 10).unwrap();
    assert_eq!(scores(&mut s, 20, ticket, &GOOD), ["1 present accept 0b10"], "one of two is not the end");
    told(&mut s, 100, Input::Trigger(at(100)));
    assert!(told(&mut s, 200, Input::Trigger(at(200))).0.is_empty(), "no third part");
    let (words, _) = told(&mut s, 500, Input::Tick);
    assert_eq!(words, ["2 safe reject 0b1", "no_frame Part", "Over(Done)"]);
    let (words, _) = told(&mut gate(1), 0, Input::SourceEnded { live: false });
    assert_eq!(words, ["Over(Done)"]);
}

/// Whoever carries the station's inputs sleeps no longer than this.
#[test]
fn time_is_left_until_the_oldest_parts_deadline_while_the_model_is_free() {
    let mut s = gate(1);
    assert_eq!(s.time_left(at(0).at), None, "no part waits");
    told(&mut s, 0, Input::Trigger(at(0)));
    assert_eq!(s.time_left(at(120).at), Some(Micros(180_000)));
    let ticket = frame(&mut s, 130).unwrap();
    told(&mut s, 135, Input::Trigger(at(135)));
    assert_eq!(s.time_left(at(140).at), None, "the model is at work");
    scores(&mut s, 150, ticket, &GOOD);
    assert_eq!(s.time_left(at(150).at), Some(Micros(285_000)), "the next part waits still");
}

#[test]
fn one_part_too_many_that_waits_for_its_frame_ends_all_that_do_and_the_next_begins_anew() {
    let mut s = station(1, Some(Action::Reject), |rules| {
        rules.spacing.min = Travel::Time(Micros(0));
        (rules.part.to_camera, rules.part.deadline) = (Travel::Time(Micros(5_000_000)), Travel::Time(Micros(9_000_000)));
    });
    for part in 0..64 {
        let (words, _) = told(&mut s, part * 10, Input::Trigger(at(part * 10)));
        assert_eq!(words, [std::format!("open {} false", part + 1)]);
    }
    let (words, _) = told(&mut s, 640, Input::Trigger(at(640)));
    assert_eq!(words[..2], ["open 65 false", "overflow Line"]);
    let ends: std::vec::Vec<_> = (1..=65).map(|part| std::format!("{part} safe - 0b0")).collect();
    assert_eq!(words[2..], ends);
    // Part 66 is followed, and no frame of a part before it is taken for it.
    assert_eq!(told(&mut s, 650, Input::Trigger(at(650))).0, ["open 66 false"]);
    assert!(frame(&mut s, 5500).is_none());
    let ticket = frame(&mut s, 5651).expect("part 66 is before the camera");
    assert_eq!(ticket.part.id, PartId(66));
    assert_eq!(scores(&mut s, 5660, ticket, &GOOD), ["66 present reject late 0b1"]);
}

/// A part that has not come before the camera keeps its place behind the others, decided or not:
/// with one too many these go as well.
#[test]
fn parts_that_the_belt_has_not_brought_to_the_camera_leave_no_place_taken() {
    let mut s = station(1, Some(Action::Reject), |rules| {
        rules.spacing.min = Travel::Time(Micros(0));
        (rules.part.to_camera, rules.part.deadline) = (Travel::Counts(100), Travel::Counts(200));
    });
    for part in 0..64 {
        told(&mut s, part * 10, Input::Trigger(at(part * 10)));
    }
    assert_eq!(told(&mut s, 640, Input::Trigger(at(640))).0[1], "overflow Line");
    for part in 66..130 {
        let (words, _) = told(&mut s, part * 10, Input::Trigger(at(part * 10)));
        assert_eq!(words, [std::format!("open {part} false")]);
    }
    assert_eq!(told(&mut s, 1300, Input::Trigger(at(1300))).0[1], "overflow Line");
}

/// What a part's event says of its best tag is of its own last image.
#[test]
fn a_parts_best_tag_is_that_of_its_own_last_image() {
    let mut s = gate(2);
    let best = |s: &mut Station, ms: u64, said: &[[Score; 2]; 2]| {
        told(s, ms, Input::Trigger(at(ms)));
        let mut found = None;
        for (i, scores) in said.iter().enumerate() {
            let ms = ms + 10 + 20 * i as u64;
            let ticket = frame(s, ms).unwrap();
            s.step(at(ms + 5), Input::Scores { ticket, scores, beyond: false }, &mut |effect| {
                if let Effect::Decided(done) = effect {
                    found = Some(done.best);
                }
            });
        }
        found.expect("the part has its end")
    };
    let (good, bad) = (Some((TagId(0), GOOD[0])), Some((TagId(1), BAD[1])));
    assert_eq!(best(&mut s, 0, &[BAD, GOOD]), good);
    assert_eq!(best(&mut s, 200, &[GOOD, BAD]), bad);
    assert_eq!(best(&mut s, 400, &[BAD, BAD]), bad);
    let ended = |s: &mut Station, ms: u64| {
        let mut found = Vec::new();
        s.step(at(ms), Input::Tick, &mut |effect| {
            if let Effect::Decided(done) = effect {
                found.push(done.best);
            }
        });
        found
    };
    // One that no image was classified for has none, whatever the one before had.
    told(&mut s, 600, Input::Trigger(at(600)));
    assert_eq!(ended(&mut s, 950), [None]);
    // The end of one, which comes with the scores of the next, takes nothing from that.
    for (ms, said) in [(1000, &BAD), (1100, &GOOD)] {
        told(&mut s, ms, Input::Trigger(at(ms)));
        let ticket = frame(&mut s, ms + 10).unwrap();
        scores(&mut s, ms + 15, ticket, said);
    }
    assert_eq!(ended(&mut s, 1450), [good]);
}

/// A change of recipe waits for the parts on their way, and for none that comes behind them.
#[test]
fn a_closed_line_ends_the_parts_that_wait_and_opens_no_other() {
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let first = frame(&mut s, 20).unwrap();
    told(&mut s, 100, Input::Trigger(at(100)));
    assert_eq!(told(&mut s, 110, Input::Close).0, [""; 0]);
    assert_eq!(told(&mut s, 115, Input::Trigger(at(115))).0, ["Unopened"]);
    assert_eq!(scores(&mut s, 120, first, &GOOD), ["1 present accept 0b10"]);
    let second = frame(&mut s, 130).unwrap();
    assert_eq!(told(&mut s, 135, Input::Trigger(at(135))).0, ["Unopened"]);
    assert_eq!(scores(&mut s, 140, second, &GOOD), ["2 present accept 0b10", "Over(Closed)"]);
    assert_eq!(told(&mut s, 160, Input::Trigger(at(160))).0, [""; 0], "it is over, and that is told once");
    // With nothing on it the line is over at once; where each frame is a part no trigger is missed.
    assert_eq!(told(&mut gate(1), 0, Input::Close).0, ["Over(Closed)"]);
    let mut s = station(1, None, |rules| rules.every_frame = true);
    let ticket = frame(&mut s, 0).unwrap();
    assert_eq!(told(&mut s, 1, Input::Close).0, [""; 0]);
    assert_eq!(told(&mut s, 2, Input::Trigger(at(2))).0, [""; 0]);
    assert_eq!(scores(&mut s, 3, ticket, &GOOD).last().map(|word| word.as_str()), Some("Over(Closed)"));
}
