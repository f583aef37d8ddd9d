//! Sinks that are slow, fail or panic cost their own events only.

use super::*;
use crate::events::run::Closing;
use crate::events::sinks::Sink;
use std::io::Error;
use std::sync::Mutex;
use std::time::Duration;

type Seen = Arc<Mutex<std::vec::Vec<String>>>;

/// Keeps the names of what it is told; what it does with an event is up to `act`.
struct Keeps<F> {
    seen: Seen,
    act: F,
}

fn name(what: &What) -> String {
    match what {
        What::Start => "start".into(),
        What::Summary => "summary".into(),
        What::Trigger(t) => format!("trigger {}", t.part),
        What::Fault(f) => format!("fault {} {}", f.kind.name(), f.why.as_str()),
        What::Note(text) => format!("note {}", text.as_str()),
        _ => "other".into(),
    }
}

impl<F: FnMut(&str) -> std::io::Result<()> + Send> Sink for Keeps<F> {
    fn write(&mut self, _: &Events, event: &Event) -> std::io::Result<()> {
        let name = name(&event.what);
        (self.act)(&name)?;
        self.seen.lock().unwrap().push(name);
        Ok(())
    }
}

fn sink<F: FnMut(&str) -> std::io::Result<()> + Send + Clone + 'static>(name: &'static str, act: F) -> (Seen, Sinking) {
    let seen = Seen::default();
    let kept = seen.clone();
    let make = move || Box::new(Keeps { seen: kept.clone(), act: act.clone() }) as Box<dyn Sink>;
    (seen, Sinking { name, wants: Box::new(|_| true), queue: QUEUE, make: Box::new(make) })
}

fn trigger(part: u64) -> What {
    What::Trigger(TriggerEvent { part, trigger: Instant::from_micros(part), position: 0, touching: false })
}

fn opening() -> run::Opening {
    run::Opening::default()
}

#[test]
fn a_sink_that_does_not_read_loses_its_own_events_and_nobody_waits() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let door = gate.clone();
    let (slow_seen, slow) = sink("slow", move |_| {
        drop(door.lock().unwrap());
        Ok(())
    });
    let (quick_seen, quick) = sink("quick", |_| Ok(()));
    let (events, threads) = Events::start(still(), opening(), vec![slow, quick]).unwrap();
    let begin = std::time::Instant::now();
    let mut longest = Duration::ZERO;
    for part in 1..=5000 {
        let one = std::time::Instant::now();
        events.tell(trigger(part));
        longest = longest.max(one.elapsed());
        if part % 500 == 0 {
            std::thread::sleep(Duration::from_millis(30));
        }
    }
    eprintln!("5000 events in {:?}, the longest {longest:?}", begin.elapsed());
    let sinks = events.sinks();
    assert!(sinks[0].lost > 3500 && sinks[0].lost < 5000, "{sinks:?}");
    events.close(Closing::default());
    drop(held);
    threads.settle(&events, Duration::from_secs(20));
    threads.join(Duration::from_secs(20));
    let sinks = events.sinks();
    // Everything is either written or counted as lost, and the summary is always there.
    assert_eq!(sinks[0].written + sinks[0].lost, 5002, "{sinks:?}");
    assert_eq!((sinks[1].written, sinks[1].lost), (5002, 0), "{sinks:?}");
    for seen in [&slow_seen, &quick_seen] {
        let seen = seen.lock().unwrap();
        assert_eq!((seen[0].as_str(), seen.last().unwrap().as_str()), ("start", "summary"));
    }
    let order: std::vec::Vec<u64> =
        quick_seen.lock().unwrap().iter().filter_map(|s| s.strip_prefix("trigger ")?.parse().ok()).collect();
    assert_eq!(order, (1..=5000).collect::<std::vec::Vec<_>>());
}

/// What waited for a reader that never read was told as lost by nobody: "lost 0", where half of the
/// log's lines had not reached it.
#[test]
fn what_a_sink_has_not_written_by_the_end_is_lost_and_the_others_summary_says_so() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let door = gate.clone();
    // The fourth event, trigger 3, is the one that is not taken.
    let (_, stuck) = sink("stuck", move |name| {
        if name == "trigger 3" {
            drop(door.lock().unwrap());
        }
        Ok(())
    });
    let at_summary = Arc::<Mutex<std::vec::Vec<run::SinkRecord>>>::default();
    struct Last(Arc<Mutex<std::vec::Vec<run::SinkRecord>>>);
    impl Sink for Last {
        fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
            if event.what == What::Summary {
                *self.0.lock().unwrap() = events.sinks();
            }
            Ok(())
        }
    }
    let seen = at_summary.clone();
    let make = move || Box::new(Last(seen.clone())) as Box<dyn Sink>;
    let log = Sinking { name: "log", wants: Box::new(|_| true), queue: QUEUE, make: Box::new(make) };
    let (events, threads) = Events::start(still(), opening(), vec![stuck, log]).unwrap();
    (1..=10).for_each(|part| events.tell(trigger(part)));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while events.sinks()[1].written < 11 && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    events.close(Closing::default());
    threads.settle(&events, Duration::from_millis(300));
    let written = |i: usize| events.sinks()[i].written;
    while written(1) < 12 && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Start and two triggers are written; trigger 3 in its hands, seven behind it and the summary
    // are not.
    let at_summary = at_summary.lock().unwrap().clone();
    assert_eq!((at_summary[0].written, at_summary[0].lost), (3, 9), "{at_summary:?}");
    assert_eq!((at_summary[1].written, at_summary[1].lost), (11, 0), "{at_summary:?}");
    // Nothing is counted twice where it comes back after all.
    drop(held);
    threads.join(Duration::from_secs(20));
    assert_eq!((written(0), events.sinks()[0].lost), (3, 9));
}

/// With the broker away and its spool full each second's status was taken for a recovery: two lines
/// and a fault each second.
#[test]
fn a_sink_that_takes_some_events_while_it_has_no_room_for_others_has_not_recovered() {
    struct Full(Arc<std::sync::atomic::AtomicBool>);
    impl Sink for Full {
        fn write(&mut self, _: &Events, event: &Event) -> std::io::Result<()> {
            let refuses = self.is_stuck() && matches!(event.what, What::Trigger(_));
            if refuses { Err(std::io::Error::other("no room")) } else { Ok(()) }
        }

        fn is_stuck(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }
    let is_full = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let shown = is_full.clone();
    let make = move || Box::new(Full(shown.clone())) as Box<dyn Sink>;
    let full = Sinking {
        name: "full",
        wants: Box::new(|what| !matches!(what, What::Fault(_))),
        queue: QUEUE,
        make: Box::new(make),
    };
    let (others, other) = sink("other", |_| Ok(()));
    let (events, threads) = Events::start(still(), opening(), vec![full, other]).unwrap();
    let wait = |n: u64| {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while events.sinks()[0].written + events.sinks()[0].lost < n && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for part in 1..=4 {
        events.tell(trigger(part));
        events.note(&"beside it");
        wait(1 + 2 * part);
        // Longer than a failure that was told is news.
        std::thread::sleep(Duration::from_millis(400));
    }
    is_full.store(false, std::sync::atomic::Ordering::Relaxed);
    events.tell(trigger(5));
    wait(10);
    events.close(Closing::default());
    threads.settle(&events, Duration::from_secs(20));
    threads.join(Duration::from_secs(20));
    let others = others.lock().unwrap();
    let faults = others.iter().filter(|name| name.starts_with("fault")).count();
    assert_eq!((faults, events.sinks()[0].lost), (1, 4), "{others:?}");
    let notes = others.iter().filter(|name| name.starts_with("note")).count();
    assert_eq!(notes, 4 + 1, "four beside it, and one that it writes again: {others:?}");
}

#[test]
fn a_panic_costs_a_sink_one_event_and_a_pause_and_the_others_are_told() {
    let count = Arc::new(Mutex::new(0));
    let panics = count;
    let (seen, bad) = sink("bad", move |_| {
        let mut n = panics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *n += 1;
        assert!(*n != 3 && *n != 5, "planted at {n}");
        Ok(())
    });
    let (others, good) = sink("good", |_| Ok(()));
    let (events, threads) = Events::start(still(), opening(), vec![bad, good]).unwrap();
    (1..=10).for_each(|part| events.tell(trigger(part)));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while events.sinks()[0].restarts < 2 && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    events.close(Closing::default());
    threads.settle(&events, Duration::from_secs(20));
    threads.join(Duration::from_secs(20));
    let sinks = events.sinks();
    // Start, ten triggers, two faults, the summary: each written or lost.
    assert_eq!((sinks[0].restarts, sinks[0].lost, sinks[0].written), (2, 2, 12), "{sinks:?}");
    let (seen, others) = (seen.lock().unwrap(), others.lock().unwrap());
    assert_eq!(seen.first().unwrap(), "start");
    assert_eq!(seen.last().unwrap(), "summary");
    assert!(!seen.contains(&"trigger 2".into()) && seen.contains(&"trigger 10".into()), "{seen:?}");
    let told: std::vec::Vec<_> = others.iter().filter(|s| s.starts_with("fault sink the sink \"bad\" panicked")).collect();
    assert!(told.len() == 2 && told[0].contains("planted at 3") && told[0].contains("0.1 s, 1 so far"), "{told:?}");
    assert!(told[1].contains("0.2 s, 2 so far"), "the pause grows: {told:?}");
    assert_eq!(events.counters().figures().faults[FaultKind::Sink.index()], 2);
}

#[test]
fn a_sink_that_cannot_write_is_told_once_and_its_return_too() {
    let (_, full) = sink("full", |name| match name.strip_prefix("trigger ").map(|n| n.parse::<u32>().unwrap()) {
        Some(n) if (3..8).contains(&n) => Err(Error::other("no space left")),
        _ => Ok(()),
    });
    let (seen, good) = sink("good", |_| Ok(()));
    let (events, threads) = Events::start(still(), opening(), vec![full, good]).unwrap();
    (1..=10).for_each(|part| events.tell(trigger(part)));
    std::thread::sleep(Duration::from_millis(200));
    events.close(Closing::default());
    threads.settle(&events, Duration::from_secs(20));
    threads.join(Duration::from_secs(20));
    assert_eq!(events.sinks()[0].lost, 5);
    let seen = seen.lock().unwrap();
    let about: std::vec::Vec<_> = seen.iter().filter(|s| s.contains("the sink")).collect();
    assert!(about.len() == 2 && about[0].contains("no space left"), "{about:?}");
    assert!(about[1].contains("writes again; it has lost 5 events"), "{about:?}");
}
