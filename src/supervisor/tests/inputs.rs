//! What inputs tell, and what becomes of a run as they end.

use super::*;
use crate::triggers::{Input, Odd, Trigger, TriggerError};

/// The last part was counted, and the run ended before its verdict was with the outputs.
#[test]
fn an_input_that_ends_waits_for_who_carries_out_what_the_last_part_leads_to() {
    let (shared, ..) = gate();
    std::thread::scope(|scope| {
        let station = shared.station.lock().unwrap();
        scope.spawn(|| crate::supervisor::inputs::watch(Box::new(Ends(false)), &shared, &|| {}));
        std::thread::sleep(Millis(200).micros().duration());
        let early = shared.ended.why();
        drop(station);
        let begin = std::time::Instant::now();
        while shared.ended.why().is_none() && begin.elapsed().as_secs() < 20 {
            std::thread::sleep(Millis(1).micros().duration());
        }
        shared.over.store(true, Ordering::Relaxed);
        // Not before that: the other thread ends by it.
        assert_eq!((early, shared.ended.why()), (None, Some(Ended::TriggerEnded)));
    });
}

/// Words, periods and light barriers in the image tell no count.
#[test]
fn a_trigger_that_tells_no_count_begins_where_the_belt_is() {
    let (shared, mut commands, ..) = gate_by_belt();
    let now = shared.clock.now();
    shared.belt.set(Moment { at: now, position: 7 });
    shared.trigger(now, None);
    shared.trigger(now, Some(9));
    let mut opened_at = || match commands.pop() {
        Some(Command::Open { trigger, .. }) => trigger.position,
        other => panic!("{other:?}, expected a part"),
    };
    assert_eq!((opened_at(), opened_at()), (7, 9));
}

/// Nothing comes but the input's end.
struct Ends(bool);

impl Trigger for Ends {
    fn begin_anew(&mut self, _: Instant) -> Result<(), TriggerError> {
        Ok(())
    }

    fn next(&mut self, timeout: std::time::Duration) -> Result<Option<Input>, TriggerError> {
        std::thread::sleep(timeout);
        Ok((!std::mem::replace(&mut self.0, true)).then_some(Input::Ended))
    }
}

/// Gives what is planned, one input a call.
struct Planned(std::vec::IntoIter<Input>);

impl Trigger for Planned {
    fn begin_anew(&mut self, _: Instant) -> Result<(), TriggerError> {
        Ok(())
    }

    fn next(&mut self, timeout: std::time::Duration) -> Result<Option<Input>, TriggerError> {
        let next = self.0.next();
        if next.is_none() {
            std::thread::sleep(timeout);
        }
        Ok(next)
    }
}

/// Nonsense is told at most once a second: what waited for that when the input ended was never
/// told.
#[test]
fn what_was_passed_over_is_told_at_once_then_once_a_second_and_before_the_inputs_end() {
    let (shared, ..) = gate();
    let nonsense = || Input::PassedOver(Odd::UnknownWord);
    let planned = vec![nonsense(), nonsense(), nonsense(), Input::Ended];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while shared.ended.why().is_none() {
                std::thread::sleep(Millis(5).micros().duration());
            }
            shared.over.store(true, Ordering::Relaxed);
        });
        crate::supervisor::inputs::watch(Box::new(Planned(planned.into_iter())), &shared, &|| {});
    });
    let mut told = Vec::new();
    shared.events.take_all(&mut told);
    let faults = told.iter().filter_map(|e| if let What::Fault(f) = &e.what { Some(f.why.as_str()) } else { None });
    let faults: Vec<&str> = faults.collect();
    let [first, rest, end] = faults[..] else { panic!("{faults:?}") };
    assert!(first.starts_with("passed over at the trigger: an unknown word"), "{first}");
    assert!(rest.starts_with("passed over at the trigger, 2 times since this was told; last: an unknown"), "{rest}");
    assert!(end.starts_with("the trigger's input has ended"), "{end}");
    assert_eq!(shared.events.counters().figures().passed_over, 3);
}

/// A part whose deadline goes by the belt has no end while that stands still: the run waited for it
/// for ever.
#[test]
fn a_trigger_that_ends_ends_the_run_also_while_the_belt_stands_still() {
    for (counts, ended) in [(5, 1), (2, 0)] {
        let (shared, commands, actuator, _) = gate_by_belt();
        drop((commands, actuator));
        shared.trigger(shared.clock.now(), Some(0));
        let begin = shared.clock.now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drive(&shared, counts);
                while shared.ended.why().is_none() {
                    std::thread::sleep(Millis(5).micros().duration());
                }
                shared.over.store(true, Ordering::Relaxed);
            });
            crate::supervisor::inputs::watch(Box::new(Ends(false)), &shared, &|| {});
        });
        let (took, figures) = (shared.clock.now().since(begin), shared.events.counters().figures());
        assert_eq!((shared.ended.why(), figures.triggers, figures.parts), (Some(Ended::TriggerEnded), 1, ended));
        assert!(took >= Micros(500_000) && took < Micros(20_000_000), "{took:?}");
    }
}

/// A PLC's trigger just before the run's end was answered as taken, opened no part, and nobody was
/// told.
#[test]
fn a_posted_trigger_that_is_read_after_the_runs_end_is_told_and_the_next_is_refused() {
    let (shared, ..) = gate();
    let posts = crate::triggers::Posts::default();
    let spec = crate::triggers::TriggerSpec::Modbus { max_jitter: None };
    let input = crate::triggers::open(&spec, &(Arc::new(SystemClock) as _), &posts).unwrap();
    let arrival = crate::triggers::Arrival { at: shared.clock.now(), is_known: true };
    assert!(posts.trigger(arrival) && posts.trigger(arrival));
    shared.end(Ended::Done);
    shared.over.store(true, Ordering::Relaxed);
    crate::supervisor::inputs::watch(input, &shared, &|| {});
    assert!(!posts.trigger(arrival), "it is over");
    let figures = shared.events.counters().figures();
    assert_eq!((figures.triggers, figures.passed_over), (0, 2));
    let mut told = Vec::new();
    shared.events.take_all(&mut told);
    let faults = told.iter().filter_map(|e| if let What::Fault(f) = &e.what { Some(f.why.as_str()) } else { None });
    let faults: Vec<&str> = faults.collect();
    assert_eq!(faults, ["a part passed the trigger as the run ends: it is not sorted; passed over so far: 1"]);
}

/// Without that gates in counts are as late as the outputs' thread may sleep, and nothing shows it:
/// they are due when the count is seen.
#[test]
fn the_outputs_are_woken_when_the_belt_moves() {
    let (shared, ..) = gate_by_belt();
    shared.commands.taken_by(std::thread::current());
    let moved = Input::Position(Moment { at: shared.clock.now(), position: 1 });
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Millis(50).micros().duration());
            crate::supervisor::inputs::watch(Box::new(Planned(vec![moved].into_iter())), &shared, &|| {});
        });
        std::thread::park_timeout(std::time::Duration::from_secs(20));
        shared.over.store(true, Ordering::Relaxed);
    });
    assert!(begin.elapsed().as_secs() < 10 && shared.belt.position() == 1, "{:?}", begin.elapsed());
}
