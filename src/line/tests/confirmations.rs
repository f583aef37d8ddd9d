//! What is seen behind a gate.

use super::*;

/// A pulse on each trigger and one on a reject, with a sensor behind the second that must see a
/// part within 50 ms.
pub(super) fn confirmed() -> Gate {
    let flash = GateLine { by: CalledBy::Trigger, ..pulse(10, 5).unwrap() };
    Gate::new(&[Some(flash), pulse(100, 20)], 0b10).confirming(Some(ConfirmRules { line: 1, within: Millis(50).micros() }))
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

/// The write that began a pulse was held up: its part is thrown out when the write is done.
#[test]
fn a_pulse_and_the_time_to_see_its_part_count_from_when_its_write_was_done() {
    for (line, held_up, until, seen, missing) in [(1, 30, 150, 180, 200), (0, 30, 120, 150, 170)] {
        let mut gate = confirmed();
        gate.open(PartId(1), moment(0)).unwrap();
        moves(&mut gate, 5);
        moves(&mut gate, 100);
        gate.has_begun(line, ms(100 + held_up));
        assert_eq!(gate.pulse_ends().nth(1), Some(Some(ms(until))), "{line}");
        let mut other = gate.clone();
        assert_eq!(gate.confirm(ms(seen)), Some(PartId(1)));
        assert_eq!(other.not_rejected(ms(seen)), None);
        assert_eq!(other.not_rejected(ms(seen).plus(Micros(1))), None);
        assert_eq!(other.not_rejected(ms(missing).plus(Micros(1))), Some(PartId(1)));
    }
}
