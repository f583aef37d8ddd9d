//! When lines move for parts, and for how long.

use super::confirmations::confirmed;
use super::*;

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

/// A part that goes by counts was due whenever somebody looked, so it was never late: after a stall
/// its pulse hit a part behind it, untold.
#[test]
fn a_part_that_goes_by_counts_is_at_its_gate_at_the_counts_moment_and_late_when_that_is_seen_late() {
    let line = GateLine { delay: Travel::Counts(50), ..pulse(0, 20).unwrap() };
    // The belt makes a count each 2 ms, so that the part is at its gate after 100.
    for (seen, cause) in [(100, Cause::Called), (120, Cause::Called), (121, Cause::Missed), (400, Cause::Missed)] {
        let mut gate = Gate::new(&[Some(line)], 0);
        gate.open(PartId(1), Moment { at: ms(0), position: 7 }).unwrap();
        gate.decide(PartId(1), 1);
        (1..=seen / 2).for_each(|count| gate.moved(Moment { at: ms(2 * count), position: 7 + count as i64 }));
        let now = Moment { at: ms(seen), position: 7 + seen as i64 / 2 };
        let found = gate.step(now).unwrap();
        assert_eq!((found.cause, found.due), (cause, ms(100)), "{seen}");
    }
}

/// A pulse that makes another one longer ends when it was to end, however late it is seen: the line
/// was on when it was due. It had its width from the moment at which it was seen, and threw out
/// what came behind it.
#[test]
fn a_pulse_that_makes_another_longer_ends_when_it_was_to_however_late_that_is_seen() {
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
    // The same on the second of two lines.
    let mut second = Gate::new(&[pulse(900, 20), pulse(100, 20)], 0);
    for (id, trigger) in [(1, 0), (2, 5)] {
        second.open(PartId(id), moment(trigger)).unwrap();
        second.decide(PartId(id), 0b10);
        if id == 1 {
            assert_eq!(seen(&mut second, 115), [(100, Cause::Called, 1)]);
        }
    }
    assert_eq!(seen(&mut second, 140), [(135, Cause::Ended, 1), (105, Cause::Missed, 2)]);
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

/// A part that is told late and was due before another one that was seen makes nothing shorter.
#[test]
fn a_pulse_that_was_made_longer_stays_so_whoever_is_told_late() {
    let mut gate = Gate::new(&[pulse(100, 20)], 0);
    let mut seen = |id: u64, trigger: u64, at: u64| {
        gate.open(PartId(id), moment(trigger)).unwrap();
        gate.decide(PartId(id), 1);
        std::iter::from_fn(|| gate.step(moment(at)))
            .map(|m| (m.due.as_micros() / 1000, m.cause))
            .collect::<std::vec::Vec<_>>()
    };
    assert_eq!(seen(1, 0, 100), [(100, Cause::Called)]);
    assert_eq!(seen(2, 15, 115), [(115, Cause::Prolonged)]);
    assert_eq!(seen(3, 5, 116), [(105, Cause::Prolonged)]);
    assert_eq!(seen(4, 400, 134), []);
    assert_eq!(seen(5, 401, 135), [(135, Cause::Ended)]);
}

/// Whoever carries moves out has them in the order of time, of one moment part after part, and of
/// one part line after line.
#[test]
fn moves_come_in_the_order_in_which_they_are_due() {
    let line = |delay| Some(GateLine { delay: after(delay), shape: Shape::Level, window: Micros(0), by: CalledBy::Verdict });
    let mut gate = Gate::new(&[line(30), line(10), line(10), line(20)], 0);
    for (id, trigger) in [(1, 0), (2, 10)] {
        gate.open(PartId(id), moment(trigger)).unwrap();
        gate.decide(PartId(id), 0b1111);
    }
    let all: std::vec::Vec<_> = std::iter::from_fn(|| gate.step(moment(100))).collect();
    let order: std::vec::Vec<_> = all.iter().map(|m| (m.due.as_micros() / 1000, m.part.0, m.line)).collect();
    assert_eq!(order, [(10, 1, 1), (10, 1, 2), (20, 1, 3), (20, 2, 1), (20, 2, 2), (30, 1, 0), (30, 2, 3), (40, 2, 0)]);
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
    // One that was due before the button was pressed and is seen after it has not been acknowledged.
    for (id, at) in [(3, 2000), (4, 2020)] {
        gate.open(PartId(id), moment(at)).unwrap();
        gate.decide(PartId(id), 1);
    }
    assert_eq!(gate.step(moment(2010)).map(|m| m.part), Some(PartId(3)));
    gate.acknowledge(ms(2040));
    let part = gate.step(moment(2050)).map(|m| (m.part, m.active));
    assert_eq!((part, gate.step(moment(2050)).map(|m| m.cause)), (Some((PartId(4), true)), None), "it stays");
    gate.acknowledge(ms(2060));
    assert_eq!(gate.step(moment(2070)).map(|m| m.cause), Some(Cause::Ended));
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
