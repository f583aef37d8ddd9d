//! The snapshot under readers that never rest: what they see is of one moment, and who shows waits
//! for none of them.

use super::super::*;
use super::{decided, still};
use crate::decide::Decision;
use crate::events::run::Opening;
use crate::events::{EdgeEvent, LAST_PARTS, Outcome};
use crate::fault::Reason;
use crate::head::Score;
use crate::outputs::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const SIZE: [u32; 2] = [20, 10];

fn events() -> Arc<Events> {
    let opening = Opening { image: SIZE, ..Opening::default() };
    Events::start(still(), opening, std::vec::Vec::new()).unwrap().0
}

fn part(number: u64) -> PartEvent {
    decided(number, Decision::safe(Reason::NoFrame))
}

fn edge(part: u64, output: u8) -> What {
    let at = Instant::from_micros(part);
    What::Edge(EdgeEvent { part, output, state: State::Active, scheduled: at, done: at, outcome: Outcome::Done })
}

/// Shows all that there is of part `n`, as the line's and the outputs' threads do.
fn show(events: &Events, n: u64) {
    let score = [Score(n as u16); 9];
    events.snapshot().show_image(n, Instant::from_micros(n), &[n as u8; 600], &score);
    events.part(part(n), &score);
    events.tell(edge(n, (n % 3) as u8));
}

#[test]
fn what_is_seen_is_of_one_moment_whoever_reads_meanwhile() {
    let (events, stop, seen) = (events(), AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let view = events.snapshot().view();
                    if let Some(part) = view.part {
                        assert_eq!(view.scores.as_slice(), [Score(part.part as u16); 9]);
                        let numbers: std::vec::Vec<u64> = view.parts.iter().map(|p| p.part).collect();
                        let first = part.part.saturating_sub(LAST_PARTS as u64 - 1).max(1);
                        assert_eq!(numbers, (first..=part.part).collect::<std::vec::Vec<_>>());
                        seen.store(true, Relaxed);
                    }
                    events.snapshot().image(|shown| {
                        assert_eq!((shown.size, shown.rgb.len()), (SIZE, 600));
                        assert!(shown.rgb.iter().all(|b| *b == shown.part as u8), "one image");
                        assert!(shown.scores.iter().all(|s| s.0 == shown.part as u16));
                        assert_eq!(shown.captured_at.as_micros(), shown.part);
                    });
                    let edges = events.snapshot().edges();
                    assert!(edges.iter().flatten().all(|e| e.part % 3 == e.output as u64));
                }
            });
        }
        for n in 1..=20_000 {
            show(&events, n);
        }
        while !seen.load(Relaxed) {
            std::thread::yield_now();
        }
        stop.store(true, Relaxed);
    });
    // Readers are gone: what was shown last stands there.
    show(&events, 30_000);
    assert_eq!(events.snapshot().view().part.map(|p| p.part), Some(30_000));
    assert_eq!(events.snapshot().image(|shown| (shown.part, shown.rgb[0])), (30_000, 30_000u64 as u8));
    let last = events.snapshot().edges();
    assert_eq!(last[0].map(|e| e.part), Some(30_000));
    assert!(last[1].is_some() && last[2].is_some() && last[3..].iter().all(Option::is_none));
}

/// A page that sends an image over a slow network while it looks at it.
#[test]
fn a_reader_that_holds_an_image_costs_the_line_nothing() {
    let events = events();
    show(&events, 1);
    let (held, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            events.snapshot().image(|shown| {
                held.store(true, Relaxed);
                while !done.load(Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert_eq!((shown.part, shown.rgb[599]), (1, 1), "what it holds does not change under it");
            });
        });
        while !held.load(Relaxed) {
            std::thread::yield_now();
        }
        // Were the line to wait for the reader, this would never end.
        (2..=1000).for_each(|n| show(&events, n));
        assert_eq!(events.snapshot().image(|shown| shown.part), 1000, "others see what is new");
        done.store(true, Relaxed);
    });
}

#[test]
fn an_image_of_another_size_is_not_shown() {
    let events = events();
    events.snapshot().show_image(5, Instant::from_micros(5), &[9; 599], &[Score(1)]);
    assert_eq!(events.snapshot().image(|shown| (shown.part, shown.rgb[0])), (0, 0));
}
