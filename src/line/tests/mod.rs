//! Intake, line and gate: what is promised, as examples, as properties over random lines, and over
//! all lines of a small kind.

mod confirmations;
mod drawn;
mod pulses;

use super::*;
use crate::frame::{CapturedAt, TimedBy};
use crate::time::Millis;

const fn ms(n: u64) -> Instant {
    Instant::from_micros(n * 1000)
}

const fn moment(n: u64) -> Moment {
    Moment::at(ms(n))
}

const fn after(n: u32) -> Travel {
    Travel::Time(Millis(n).micros())
}

fn exposed(n: u64) -> CapturedAt {
    CapturedAt::Exposure { at: ms(n), uncertainty: Micros(0), by: TimedBy::Shown }
}

fn pulse(delay: u32, width: u32) -> Option<GateLine> {
    Some(GateLine {
        delay: after(delay),
        shape: Shape::Pulse(Millis(width).micros()),
        window: Millis(width).micros(),
        by: CalledBy::Verdict,
    })
}

/// All moves due by `until`, each done when it is due, as (ms, line, active, part).
fn moves(gate: &mut Gate, until: u64) -> std::vec::Vec<(u64, u8, bool, u64)> {
    let (mut all, mut looks) = (std::vec::Vec::new(), 0);
    while let Some(due) = gate.next_due().filter(|due| *due <= ms(until)) {
        looks += 1;
        assert!(looks < 10_000, "what is due is never done");
        let done = std::iter::from_fn(|| gate.step(Moment::at(due)));
        all.extend(done.map(|m| (m.due.as_micros() / 1000, m.line, m.active, m.part.0)));
        while gate.not_rejected(due).is_some() {}
    }
    all
}

#[test]
fn a_part_takes_only_frames_exposed_after_its_trigger() {
    let mut line = Line::new(PartRules { frames: 2, ..PartRules::default() });
    assert_eq!(line.frame(exposed(5)), Taken::NotOurs);
    assert_eq!(line.trigger(PartId(1), moment(10)), Opened::Waits);
    assert_eq!(line.frame(exposed(9)), Taken::NotOurs);
    assert!(matches!(line.frame(exposed(10)), Taken::More(_)));
    assert!(matches!(line.frame(exposed(12)), Taken::Last(Part { id: PartId(1), frames: 2, .. })));
    assert!(line.close(PartId(1)).is_some());
    assert_eq!(line.frame(exposed(13)), Taken::NotOurs);
}

#[test]
fn an_arrival_stamp_is_put_back_by_the_stated_latency() {
    let mut line = Line::new(PartRules::default());
    line.trigger(PartId(1), moment(100));
    assert_eq!(
        line.frame(CapturedAt::Arrival { at: ms(139), latency: Millis(40).micros(), by: TimedBy::Setting }),
        Taken::NotOurs
    );
    assert!(matches!(
        line.frame(CapturedAt::Arrival { at: ms(140), latency: Millis(40).micros(), by: TimedBy::Setting }),
        Taken::Last(_)
    ));
}

/// A frame that arrived after the next part's trigger and may be older was taken for the part
/// before, which it did not show.
#[test]
fn a_frame_that_may_show_either_of_two_parts_is_taken_for_none() {
    let arrived = |at: u64| CapturedAt::Arrival { at: ms(at), latency: Millis(40).micros(), by: TimedBy::Setting };
    let about = |at: u64| CapturedAt::Exposure { at: ms(at), uncertainty: Millis(10).micros(), by: TimedBy::Driver };
    for (frame, takes) in
        [(arrived(199), Some(1)), (arrived(200), None), (arrived(240), Some(2)), (about(189), Some(1)), (about(190), None)]
    {
        let mut line = Line::new(PartRules::default());
        line.trigger(PartId(1), moment(100));
        line.trigger(PartId(2), moment(200));
        let taken = match line.frame(frame) {
            Taken::Last(part) | Taken::More(part) => Some(part.id.0),
            Taken::NotOurs => None,
        };
        assert_eq!(taken, takes, "{frame:?}");
    }
    // The second trigger is told after the frame: the part that took it may have the wrong one.
    for (told, opened) in [(199, Opened::Doubt(PartId(1))), (200, Opened::Waits)] {
        let mut line = Line::new(PartRules::default());
        line.trigger(PartId(1), moment(100));
        assert!(matches!(line.frame(arrived(199)), Taken::Last(_)));
        assert_eq!(line.trigger(PartId(2), moment(told)), opened);
    }
    // Where frames are the triggers, all of them are off by the same.
    let mut line = Line::new(PartRules { seen_in_frames: true, ..PartRules::default() });
    for n in 1..5 {
        assert_eq!(line.trigger(PartId(n), moment(100 + 20 * n)), Opened::Waits);
        assert!(matches!(line.frame(about(110 + 20 * n)), Taken::Last(part) if part.id.0 == n));
        line.close(PartId(n));
    }
}

/// A belt that stood still had what waited before the camera rejected half a second later.
#[test]
fn a_deadline_in_counts_goes_by_the_belt_and_not_by_the_clock() {
    let mut line = Line::new(PartRules { deadline: Travel::Counts(30), ..PartRules::default() });
    let at = |n: u64, position: i64| Moment { at: ms(n), position };
    assert_eq!(line.trigger(PartId(1), at(100, 1000)), Opened::Waits);
    assert_eq!(line.time_left(ms(100)), None, "nobody knows when the belt will have gone so far");
    for (now, overdue) in [(at(3_600_000, 1029), false), (at(3_600_001, 1030), true), (at(101, 1029), false)] {
        assert_eq!(line.overdue(now).is_some(), overdue, "{now:?}");
    }
    // Told while nobody asked, and the belt has run back since.
    line.advance(at(200, 1030));
    assert!(line.overdue(at(300, 1010)).is_some(), "running back does not undo it");
}

#[test]
fn an_overdue_part_waits_until_it_is_closed_and_is_closed_once() {
    let mut line = Line::new(PartRules { deadline: Travel::Time(Millis(50).micros()), ..PartRules::default() });
    line.trigger(PartId(1), moment(0));
    assert_eq!(line.overdue(moment(49)), None);
    assert_eq!(line.overdue(moment(50)).map(|p| p.id), Some(PartId(1)));
    assert!(line.close(PartId(1)).is_some());
    assert!(line.close(PartId(1)).is_none());
    assert_eq!(line.overdue(moment(60)), None);
}

/// The part before got no frame; the frame after its successor's trigger shows the successor and is
/// never taken for it.
#[test]
fn a_frame_that_shows_the_next_part_is_not_taken_for_the_one_before() {
    let mut line = Line::new(PartRules::default());
    line.trigger(PartId(1), moment(0));
    line.trigger(PartId(2), moment(100));
    assert!(matches!(line.frame(exposed(120)), Taken::Last(Part { id: PartId(2), .. })));
    assert!(line.close(PartId(2)).is_some());
    assert_eq!(line.frame(exposed(150)), Taken::NotOurs, "part 2 is decided, part 1 out of sight");
    assert_eq!(line.overdue(moment(151)).map(|p| p.id), Some(PartId(1)), "and part 1 need not wait for its deadline");
    line.close(PartId(1));
    assert_eq!(line.oldest(), None);
}

#[test]
fn a_trigger_told_too_late_puts_the_part_before_in_doubt() {
    let mut line = Line::new(PartRules::default());
    line.trigger(PartId(1), moment(0));
    assert!(matches!(line.frame(exposed(120)), Taken::Last(_)));
    line.close(PartId(1));
    assert_eq!(line.trigger(PartId(2), moment(100)), Opened::Doubt(PartId(1)));
}

#[test]
fn a_camera_behind_the_trigger_sees_each_part_when_the_belt_has_brought_it() {
    let mut line = Line::new(PartRules { to_camera: Travel::Counts(10), ..PartRules::default() });
    line.trigger(PartId(1), Moment { at: ms(0), position: 100 });
    line.advance(Moment { at: ms(50), position: 109 });
    assert_eq!(line.frame(exposed(51)), Taken::NotOurs);
    line.advance(Moment { at: ms(60), position: 110 });
    assert!(matches!(line.frame(exposed(61)), Taken::Last(_)));
}

/// The belt's position was looked at whenever something happened, and stamped with that moment: a
/// frame that showed the next part was taken for the one before.
#[test]
fn a_position_that_is_told_after_a_frame_that_shows_its_part_puts_the_part_before_in_doubt() {
    let mut line = Line::new(PartRules { to_camera: Travel::Counts(10), frames: 2, ..PartRules::default() });
    line.trigger(PartId(1), Moment { at: ms(0), position: 100 });
    assert_eq!(line.advance(Moment { at: ms(10), position: 110 }), None);
    line.trigger(PartId(2), Moment { at: ms(40), position: 140 });
    assert!(matches!(line.frame(exposed(49)), Taken::More(Part { id: PartId(1), .. })));
    assert_eq!(line.advance(Moment { at: ms(50), position: 150 }), None, "that frame was exposed before");
    assert!(matches!(line.frame(exposed(50)), Taken::More(Part { id: PartId(2), .. })));
    line.trigger(PartId(3), Moment { at: ms(60), position: 160 });
    assert!(matches!(line.frame(exposed(70)), Taken::Last(Part { id: PartId(2), .. })));
    assert_eq!(line.advance(Moment { at: ms(70), position: 170 }), Some(PartId(2)));
    assert_eq!(line.advance(Moment { at: ms(71), position: 171 }), None, "told once");
}

#[test]
fn triggers_too_close_are_handled_by_rule_and_counted() {
    for (rule, expected) in [
        (TooClose::Ignore, Admission::Ignored),
        (TooClose::Reject, Admission::Touching(PartId(2))),
        (TooClose::Safe, Admission::Safe),
    ] {
        let mut intake = Intake::new(Spacing { min: after(20), rule });
        assert_eq!(intake.edge(moment(0)), Admission::Part(PartId(1)));
        assert_eq!(intake.edge(moment(19)), expected);
        assert_eq!(intake.too_close(), 1);
        assert!(matches!(intake.edge(moment(39)), Admission::Part(_)));
    }
}

/// Behind one that made the line safe the next was measured from the one before that, and opened a
/// part of which another was in view.
#[test]
fn a_trigger_too_close_behind_one_that_made_the_line_safe_makes_it_safe_too() {
    for (third, expected) in [(39, Admission::Safe), (40, Admission::Part(PartId(2)))] {
        let mut intake = Intake::new(Spacing { min: after(20), rule: TooClose::Safe });
        assert_eq!(intake.edge(moment(0)), Admission::Part(PartId(1)));
        assert_eq!(intake.edge(moment(20 - 1)), Admission::Safe);
        assert_eq!(intake.edge(moment(third - 1)), expected, "{third}");
    }
}

#[test]
fn a_belt_that_stops_keeps_its_parts_and_one_that_creeps_delays_them() {
    let line = Some(GateLine {
        delay: Travel::Counts(50),
        shape: Shape::Pulse(Micros(1000)),
        window: Micros(1000),
        by: CalledBy::Verdict,
    });
    let mut gate = Gate::new(&[line], 0);
    gate.open(PartId(1), Moment { at: ms(0), position: 7 }).unwrap();
    gate.decide(PartId(1), 1);
    assert_eq!(gate.step(Moment { at: ms(100_000), position: 56 }), None);
    let edge = gate.step(Moment { at: ms(100_001), position: 57 }).unwrap();
    assert_eq!((edge.active, edge.due), (true, ms(100_001)));
}

#[test]
fn a_doubtful_part_gets_the_late_action_even_if_it_was_decided() {
    let mut gate = Gate::new(&[pulse(100, 20)], 1);
    gate.open(PartId(1), moment(0)).unwrap();
    gate.decide(PartId(1), 0);
    assert_eq!(gate.doubt(PartId(1)), Doubted::Corrected);
    assert_eq!(gate.decide(PartId(1), 0), Decided::Late);
    assert_eq!(moves(&mut gate, 100), [(100, 0, true, 1)]);
    assert_eq!(gate.late(), 0, "it was not late");
}

/// A part has passed once it was at any gate that its verdict moves, whichever number that has
/// among the outputs; a flash says nothing of it. No test had more gates behind a flash.
#[test]
fn a_part_has_passed_once_it_was_at_the_first_of_its_gates_behind_a_flash() {
    let flash = GateLine { by: CalledBy::Trigger, ..pulse(10, 5).unwrap() };
    for (until, expected) in [(99, Doubted::Corrected), (100, Doubted::Passed), (199, Doubted::Passed)] {
        let mut gate = Gate::new(&[Some(flash), pulse(100, 20), pulse(200, 20)], 0b100);
        gate.open(PartId(1), moment(0)).unwrap();
        gate.decide(PartId(1), 0b010);
        moves(&mut gate, until);
        assert_eq!(gate.doubt(PartId(1)), expected, "after {until} ms");
    }
}

/// What the outputs tell of a part that cannot be told from another: it has the late action, or it
/// is through.
#[test]
fn a_doubtful_part_that_is_not_at_its_gate_any_more_has_passed_or_was_given_up() {
    let mut gate = Gate::new(&[pulse(100, 20)], 1);
    (3..=5).for_each(|part| gate.open(PartId(part), moment(0)).unwrap());
    gate.clear(ms(1));
    let of = |gate: &mut Gate, parts: [u64; 5]| parts.map(|part| gate.doubt(PartId(part)));
    use Doubted::{Late, Passed};
    assert_eq!(of(&mut gate, [2, 3, 4, 5, 6]), [Passed, Late, Late, Late, Passed]);
}

/// A part that had the late action was told, once it had left, as sorted on the image that the next
/// part was given too. Nothing asked that of one that is not in flight any more.
#[test]
fn a_doubtful_part_that_left_with_the_late_action_was_late_and_one_with_a_verdict_has_passed() {
    let doubt_of = |verdict_ms: Option<u64>, doubt_ms: Option<u64>, clear_ms: u64| {
        let mut gate = Gate::new(&[pulse(100, 20), pulse(200, 20)], 1);
        gate.open(PartId(7), moment(0)).unwrap();
        for at in 0..300 {
            if clear_ms == at {
                gate.clear(ms(at));
            }
            if verdict_ms == Some(at) {
                gate.decide(PartId(7), 0b10);
            }
            if doubt_ms == Some(at) {
                gate.doubt(PartId(7));
            }
            moves(&mut gate, at);
        }
        assert_eq!(gate.in_flight(), 0);
        gate.doubt(PartId(7))
    };
    // Through both gates, or the line went safe between them: then the second, which the verdict
    // called for, does not move for it.
    for (clear_ms, sorted) in [(999, Doubted::Passed), (150, Doubted::Late)] {
        assert_eq!(doubt_of(Some(50), None, clear_ms), sorted);
        assert_eq!(doubt_of(Some(110), None, clear_ms), Doubted::Late, "its verdict came behind its first gate");
        assert_eq!(doubt_of(None, None, clear_ms), Doubted::Late, "it had no verdict");
        assert_eq!(doubt_of(Some(50), Some(60), clear_ms), Doubted::Late, "it was corrected on its way");
    }
    assert_eq!(doubt_of(Some(50), None, 60), Doubted::Late, "it was given up on its way");
}

/// What was given up long ago says nothing of a part whose number ends the same way.
#[test]
fn a_part_is_not_taken_for_one_that_was_given_up_256_parts_before() {
    let mut gate = Gate::new(&[pulse(100, 20)], 1);
    gate.open(PartId(3), moment(0)).unwrap();
    gate.clear(ms(1));
    assert_eq!(gate.doubt(PartId(3)), Doubted::Late);
    gate.open(PartId(3 + 256), moment(1000)).unwrap();
    gate.decide(PartId(3 + 256), 1);
    moves(&mut gate, 1200);
    assert_eq!(gate.doubt(PartId(3 + 256)), Doubted::Passed);
}

#[test]
fn parts_beyond_the_capacity_are_refused_and_none_is_lost() {
    let mut gate = Gate::new(&[pulse(1000, 1)], 1);
    for id in 1..=MAX_PARTS as u64 {
        gate.open(PartId(id), moment(id)).unwrap();
    }
    assert_eq!(gate.open(PartId(99), moment(99)), Err(Full));
    let parts: std::vec::Vec<u64> = moves(&mut gate, 9999).iter().filter(|m| m.2).map(|m| m.3).collect();
    assert_eq!(parts, (1..=MAX_PARTS as u64).collect::<std::vec::Vec<_>>());
}

#[test]
fn an_encoder_counts_both_ways_and_notices_lost_edges() {
    let mut a = Encoder::new(false, [false; 2]);
    for level in [true, false, true, false] {
        a.edge(Channel::A, level);
    }
    assert_eq!(a.position(), 2);
    let mut ab = Encoder::new(true, [false; 2]);
    let forward = [(Channel::A, true), (Channel::B, true), (Channel::A, false), (Channel::B, false)];
    forward.iter().for_each(|&(c, l)| _ = ab.edge(c, l));
    assert_eq!(ab.position(), 4);
    let back = [(Channel::B, true), (Channel::A, true), (Channel::B, false), (Channel::A, false)];
    back.iter().for_each(|&(c, l)| _ = ab.edge(c, l));
    assert_eq!((ab.position(), ab.errors()), (0, 0));
    ab.edge(Channel::A, false);
    assert_eq!(ab.errors(), 1);
}

/// On a belt that ran as the line started, an edge from before the levels were read would be one
/// that was lost.
#[test]
fn an_edge_that_the_first_levels_hold_already_is_neither_counted_nor_lost() {
    let mut encoder = Encoder::new(false, [true, false]);
    encoder.sync(Channel::A, true);
    assert_eq!((encoder.position(), encoder.errors()), (0, 0));
    encoder.sync(Channel::A, false);
    assert_eq!((encoder.edge(Channel::A, true), encoder.errors()), (1, 0));
}
