//! Intake, line and gate: what is promised, as examples, as properties over random lines, and over
//! all lines of a small kind.

mod drawn;

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
fn edges_are_scheduled_from_the_trigger_whenever_the_verdict_came() {
    let mut gate = Gate::new(&[pulse(100, 20), pulse(150, 20)], 0b01);
    gate.open(PartId(1), moment(0)).unwrap();
    gate.open(PartId(2), moment(40)).unwrap();
    gate.decide(PartId(2), 0b01);
    gate.decide(PartId(1), 0b10);
    let moves = moves(&mut gate, 1000);
    let active: std::vec::Vec<_> = moves.iter().filter(|m| m.2).collect();
    assert_eq!(active, [&(140, 0, true, 2), &(150, 1, true, 1)]);
    assert!(moves.contains(&(160, 0, false, 2)) && moves.contains(&(170, 1, false, 1)), "{moves:?}");
    assert_eq!((gate.in_flight(), gate.late()), (0, 0));
}

#[test]
fn no_verdict_at_the_gate_is_the_late_action_and_what_comes_afterwards_changes_nothing() {
    let mut gate = Gate::new(&[pulse(100, 20), pulse(150, 20)], 0b01);
    gate.open(PartId(1), moment(0)).unwrap();
    assert_eq!(moves(&mut gate, 100), [(100, 0, true, 1)]);
    assert_eq!(gate.decide(PartId(1), 0b10), Decided::Late);
    assert_eq!(moves(&mut gate, 1000), [(120, 0, false, 1), (150, 1, false, 1)]);
    assert_eq!((gate.late(), gate.decide(PartId(1), 0b10)), (1, Decided::Gone));
}

#[test]
fn pulses_that_meet_become_one_and_the_line_does_not_flicker() {
    let mut gate = Gate::new(&[pulse(100, 20)], 0);
    for (id, at) in [(1, 0), (2, 20), (3, 25)] {
        gate.open(PartId(id), moment(at)).unwrap();
        gate.decide(PartId(id), 1);
    }
    assert_eq!(moves(&mut gate, 1000), [(100, 0, true, 1), (120, 0, true, 2), (125, 0, true, 3), (145, 0, false, 3)]);
}

/// After a stall of the process pulses came out a second late and a microsecond wide.
#[test]
fn a_late_pulse_has_its_full_width_within_its_window_and_is_missed_beyond_it() {
    let late = |now: u64| {
        let mut gate = Gate::new(&[pulse(100, 20)], 0);
        for (id, at) in [(1, 0), (2, 300)] {
            gate.open(PartId(id), moment(at)).unwrap();
            gate.decide(PartId(id), 1);
        }
        let first = gate.step(moment(now)).unwrap();
        let all: std::vec::Vec<_> = moves(&mut gate, 1000);
        (first.cause, first.active, all)
    };
    let second = [(400, 0, true, 2), (420, 0, false, 2)];
    for now in [100, 101, 120] {
        let (cause, active, rest) = late(now);
        assert_eq!((cause, active), (Cause::Called, true), "{now}");
        assert_eq!(rest[0], (now + 20, 0, false, 1), "its full width from when it was done");
        assert_eq!(rest[1..], second);
    }
    for now in [121, 250] {
        let (cause, active, rest) = late(now);
        assert_eq!((cause, active), (Cause::Missed, false), "{now}");
        assert_eq!(rest, second, "the next part keeps its schedule");
    }
}

/// A pulse that makes another one longer ends when it was to end, however late it is seen: the line
/// was on when it was due. It had its width from the moment at which it was seen, and threw out
/// what came behind it.
#[test]
fn a_pulse_whose_end_was_missed_ends_before_a_later_one_begins() {
    let seen = |calls: LineMask, at: u64| {
        // The first from 100 to 120, the second's gate is at 110.
        let mut gate = Gate::new(&[pulse(100, 20)], 0);
        for (id, trigger, calls) in [(1, 0, 1), (2, 10, calls)] {
            gate.open(PartId(id), moment(trigger)).unwrap();
            gate.decide(PartId(id), calls);
        }
        assert_eq!([(); 2].map(|()| gate.step(moment(100)).map(|m| m.cause)), [Some(Cause::Called), None]);
        assert_eq!([119, 120, 121].map(|at| gate.overdue_end(0, ms(at)).map(|m| m.due)), [None, None, Some(ms(120))]);
        let moves = std::iter::from_fn(|| gate.step(moment(at)));
        moves.map(|m| (m.due.as_micros() / 1000, m.cause, m.part.0)).collect::<std::vec::Vec<_>>()
    };
    assert_eq!(seen(1, 115), [(110, Cause::Prolonged, 2)], "the first is longer by it");
    for at in [130, 131, 500] {
        assert_eq!(seen(1, at), [(110, Cause::Prolonged, 2), (130, Cause::Ended, 2)], "until 130");
    }
    assert_eq!(seen(0, 131), [(110, Cause::Passed, 2), (120, Cause::Ended, 1)], "it made nothing longer");
}

/// Where the line came on only behind the moment at which the second was due, that is late, and has
/// its own width.
#[test]
fn a_pulse_that_is_due_before_its_line_came_on_has_its_width_from_then() {
    let mut gate = Gate::new(&[pulse(100, 20)], 0);
    for (id, trigger) in [(1, 0), (2, 10)] {
        gate.open(PartId(id), moment(trigger)).unwrap();
        gate.decide(PartId(id), 1);
    }
    let seen = |gate: &mut Gate, at: u64| {
        let moves = std::iter::from_fn(|| gate.step(moment(at)));
        moves.map(|m| (m.due.as_micros() / 1000, m.cause, m.part.0)).collect::<std::vec::Vec<_>>()
    };
    assert_eq!(seen(&mut gate, 115), [(100, Cause::Called, 1), (110, Cause::Called, 2)]);
    assert_eq!(seen(&mut gate, 134), []);
    // One that is told late, when that pulse should have ended: the line has been on for it since
    // 115, but was not at 114; nor is it any more, where its end was seen before.
    for (trigger, told, causes) in [(14, 134, [Some(Cause::Called), None]), (15, 134, [Some(Cause::Prolonged), None])] {
        let mut gate = gate.clone();
        gate.open(PartId(3), moment(trigger)).unwrap();
        gate.decide(PartId(3), 1);
        assert_eq!([(); 2].map(|()| gate.step(moment(told)).map(|m| m.cause)), causes, "{trigger}");
    }
    for (seen_before, third) in [(false, Cause::Prolonged), (true, Cause::Missed)] {
        let mut gate = gate.clone();
        if seen_before {
            assert_eq!(seen(&mut gate, 135), [(135, Cause::Ended, 2)]);
        }
        gate.open(PartId(3), moment(20)).unwrap();
        gate.decide(PartId(3), 1);
        let found = seen(&mut gate, 150);
        assert!(found.contains(&(120, third, 3)), "{seen_before}: {found:?}");
    }
}

#[test]
fn a_latched_line_stays_until_it_is_acknowledged() {
    let line = Some(GateLine { delay: after(10), shape: Shape::Latched, window: Micros(0), by: CalledBy::Verdict });
    let mut gate = Gate::new(&[line], 0);
    for (id, at, calls) in [(1, 0, 1), (2, 50, 0)] {
        gate.open(PartId(id), moment(at)).unwrap();
        gate.decide(PartId(id), calls);
    }
    assert_eq!(moves(&mut gate, 1000), [(10, 0, true, 1), (60, 0, true, 2)]);
    assert_eq!(gate.next_due(), None);
    // It was latched at 10 ms, so who acknowledged before that has not seen it.
    gate.acknowledge(ms(9));
    assert_eq!(moves(&mut gate, 999), []);
    gate.acknowledge(ms(1000));
    assert_eq!(moves(&mut gate, 1000), [(1000, 0, false, 1)]);
}

/// A pulse on each trigger and one on a reject, with a sensor behind the second that must see a
/// part within 50 ms.
fn confirmed() -> Gate {
    let flash = GateLine { by: CalledBy::Trigger, ..pulse(10, 5).unwrap() };
    Gate::new(&[Some(flash), pulse(100, 20)], 0b10).confirming(Some(ConfirmRules { line: 1, within: Millis(50).micros() }))
}

#[test]
fn a_trigger_line_moves_for_each_part_at_its_own_moment_whatever_is_decided() {
    let mut gate = confirmed();
    for (id, at) in [(1, 0), (2, 30)] {
        gate.open(PartId(id), moment(at)).unwrap();
    }
    // It says nothing of a verdict: the part is neither late nor beyond doubt when only this line
    // was passed.
    assert_eq!(moves(&mut gate, 50), [(10, 0, true, 1), (15, 0, false, 1), (40, 0, true, 2), (45, 0, false, 2)]);
    assert_eq!((gate.late(), gate.undecided(), gate.in_flight()), (0, 2, 2));
    assert_eq!((gate.decide(PartId(1), 0), gate.doubt(PartId(2))), (Decided::InTime, Doubted::Undecided));
    let rest = moves(&mut gate, 200);
    assert_eq!(rest[..3], [(100, 1, false, 1), (130, 1, true, 2), (150, 1, false, 2)]);
    // A line of triggers alone keeps a part until it has its verdict.
    let mut gate = Gate::new(&[Some(GateLine { by: CalledBy::Trigger, ..pulse(10, 5).unwrap() })], 0);
    gate.open(PartId(1), moment(0)).unwrap();
    moves(&mut gate, 50);
    assert_eq!((gate.in_flight(), gate.decide(PartId(1), 0)), (1, Decided::InTime));
    gate.step(moment(51));
    assert_eq!(gate.in_flight(), 0);
}

#[test]
fn a_part_that_was_thrown_out_must_be_seen_within_its_time_by_the_moment_of_the_sensor() {
    const US: u64 = 1000;
    let at = |us: u64| Instant::from_micros(us);
    // Seen at, told at, in microseconds after the pulse's start: is it the part, and is the part
    // found missing?
    for (seen, told, expected) in [
        (0, 1, true),
        (50 * US, 50 * US, true),
        (50 * US + 1, 50 * US + 1, false),
        (50 * US, 70 * US + 1, true),
        (50 * US, 70 * US + 2, false),
    ] {
        let mut gate = confirmed();
        gate.open(PartId(1), moment(0)).unwrap();
        moves(&mut gate, 100);
        let start = 100 * US;
        let mut missing = None;
        // The owner of the outputs wakes whenever something is due.
        let mut wake = |gate: &mut Gate, until: u64| {
            while let Some(due) = gate.next_due().filter(|due| *due <= at(until)) {
                while gate.step(Moment::at(due)).is_some() {}
                missing = missing.or_else(|| gate.not_rejected(due).map(|part| (part, due)));
            }
        };
        wake(&mut gate, start + told - 1);
        let found = gate.confirm(at(start + seen));
        wake(&mut gate, start + 1000 * US);
        assert_eq!(found, expected.then_some(PartId(1)), "seen {seen}, told {told}");
        let told_missing = (PartId(1), at(start + 70 * US + 1));
        assert_eq!(missing, (!expected).then_some(told_missing), "seen {seen}, told {told}");
        assert_eq!(gate.has_fault(), !expected);
    }
    let mut gate = confirmed();
    assert_eq!((gate.confirm(ms(5)), gate.has_fault()), (None, true), "nothing was thrown out");
    gate.acknowledge(ms(6));
    assert!(!gate.has_fault());
}

#[test]
fn pulses_that_meet_are_each_seen_and_a_pulse_that_was_missed_or_of_another_line_waits_for_nothing() {
    let mut gate = confirmed();
    for (id, at) in [(1, 0), (2, 10), (3, 500)] {
        gate.open(PartId(id), moment(at)).unwrap();
    }
    gate.decide(PartId(3), 0b01);
    moves(&mut gate, 130);
    assert_eq!([120, 121, 122].map(|at| gate.confirm(ms(at)).map(|p| p.0)), [Some(1), Some(2), None]);
    gate.acknowledge(ms(123));
    moves(&mut gate, 1000);
    assert_eq!((gate.not_rejected(ms(2000)), gate.has_fault()), (None, false));
    // Beyond its window the pulse is missed: that is the fault, and nobody is looked for.
    gate.open(PartId(4), moment(2000)).unwrap();
    while gate.step(moment(2200)).is_some() {}
    assert!(gate.has_fault(), "a missed edge is a fault");
    assert_eq!((gate.not_rejected(ms(3000)), gate.not_rejected(ms(3030)), gate.next_due()), (None, None, None));
}

#[test]
fn a_line_that_went_safe_is_a_fault_until_acknowledged_and_what_was_thrown_out_before_may_still_be_seen() {
    let mut gate = confirmed();
    gate.open(PartId(1), moment(0)).unwrap();
    moves(&mut gate, 100);
    assert!(!gate.has_fault());
    gate.clear(ms(100));
    assert!(gate.has_fault());
    gate.acknowledge(ms(99));
    assert!(gate.has_fault(), "who acknowledged before it failed has not seen it");
    gate.acknowledge(ms(100));
    assert_eq!((gate.has_fault(), gate.confirm(ms(110))), (false, Some(PartId(1))));
    // A pulse that could not be written: the line goes safe in the same step.
    gate.open(PartId(2), moment(200)).unwrap();
    moves(&mut gate, 300);
    gate.came_to_nothing();
    gate.clear(ms(300));
    assert_eq!((gate.not_rejected(ms(9000)), gate.next_due()), (None, None));
    gate.acknowledge(ms(9000));
    gate.open(PartId(3), moment(10_000)).unwrap();
    moves(&mut gate, 10_110);
    gate.stop();
    assert_eq!((gate.has_fault(), gate.next_due(), gate.not_rejected(ms(99_000))), (false, None, None), "the run is over");
}

/// More parts than fit wait for the sensor: the oldest counts as not seen at once, and none is
/// forgotten.
#[test]
fn parts_that_are_not_seen_are_told_one_by_one_however_many_they_are() {
    let within = Millis(60_000).micros();
    let mut gate = Gate::new(&[pulse(1, 1)], 1).confirming(Some(ConfirmRules { line: 0, within }));
    const PARTS: u64 = MAX_PARTS as u64 + 3;
    for id in 1..=PARTS {
        gate.open(PartId(id), moment(10 * id)).unwrap();
        while gate.step(moment(10 * id + 1)).is_some() {}
    }
    let missing = |gate: &mut Gate, at: Instant| {
        std::iter::from_fn(|| gate.not_rejected(at)).map(|p| p.0).collect::<std::vec::Vec<_>>()
    };
    assert_eq!(missing(&mut gate, ms(10 * PARTS)), [1, 2, 3]);
    assert!(missing(&mut gate, ms(100_000)).is_empty(), "over time only now, and a sighting may be on its way");
    assert_eq!(missing(&mut gate, ms(100_020)), (4..=PARTS).collect::<std::vec::Vec<_>>());
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

/// What was seen before a pulse began confirmed its part: no test saw the difference.
#[test]
fn what_is_seen_before_a_pulse_began_is_not_its_part() {
    for (seen, found) in [(99, None), (100, Some(PartId(1)))] {
        let mut gate = confirmed();
        gate.open(PartId(1), moment(0)).unwrap();
        moves(&mut gate, 100);
        assert_eq!((gate.confirm(ms(seen)), gate.has_fault()), (found, found.is_none()), "seen at {seen} ms");
    }
}
