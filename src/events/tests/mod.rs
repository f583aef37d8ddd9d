mod drawn;
mod fanout;
mod schema;
mod snapshot;

use super::*;
use crate::fault::Reason;
use crate::time::Clock;
use std::sync::Arc;

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_micros(7_000_000)
    }

    fn wait_until(&self, _: Instant) {}
}

fn still() -> Arc<dyn Clock> {
    Arc::new(Still)
}

fn decided(part: u64, decision: Decision) -> PartEvent {
    PartEvent {
        part,
        trigger: Instant::from_micros(1),
        images: Vec::new(),
        captured_at: Instant::from_micros(2),
        top: Vec::new(),
        decision,
        action: decision.action,
        late: false,
        counted: crate::decide::TagSet::EMPTY,
        age: Micros(3),
        latency: Latency::default(),
        bundle: [7; 32],
        truth: None,
        right: None,
    }
}

/// A part without an end was in no count: 5 triggers, 2 parts, and nobody said which.
#[test]
fn parts_without_an_end_are_known_by_their_numbers() {
    let events = Events::kept(still());
    let trigger =
        |part| What::Trigger(TriggerEvent { part, trigger: Instant::from_micros(1), position: 0, touching: false });
    for part in 1..=1000 {
        events.tell(trigger(part));
        // Each ends while 50 others wait, but for two that never do.
        if part > 50 && part != 950 && part != 997 {
            events.part(decided(part - 50, Decision::safe(Reason::Engine)), &[]);
        }
    }
    let expected: std::vec::Vec<u64> = [900, 947].into_iter().chain(951..=1000).collect();
    assert_eq!(events.counters().without_end(), expected);
    expected.iter().for_each(|part| events.part(decided(*part, Decision::safe(Reason::Engine)), &[]));
    assert_eq!(events.counters().without_end(), [0; 0]);
}

#[test]
fn kinds_of_faults_have_names_and_counters_of_their_own() {
    let names: std::collections::BTreeSet<_> = FaultKind::ALL.iter().map(|k| k.name()).collect();
    assert_eq!(names.len(), FaultKind::ALL.len());
    assert!(FaultKind::ALL.iter().enumerate().all(|(i, k)| k.index() == i));
}

#[test]
fn an_explanation_that_is_too_long_is_cut_at_a_character() {
    assert_eq!(Why::of(&"short").as_str(), "short");
    for text in ["x".repeat(256), "x".repeat(257), "\u{6b6f}".repeat(200)] {
        let why = Why::of(&text);
        assert!(why.as_str().len() <= 256 && (text.len() == 256) == (why.as_str() == text), "{}", why.as_str());
        assert!(text.len() == 256 || why.as_str().ends_with("..."), "{}", why.as_str());
    }
    // Written piece by piece, and nothing after the cut.
    let why = Why::of(&format_args!("{}{}{}", "a".repeat(250), "\u{6b6f}".repeat(5), "end"));
    assert!(why.as_str().starts_with("aaa") && why.as_str().ends_with("a\u{6b6f}..."), "{}", why.as_str());
}

#[test]
fn images_stay_with_their_part_and_memory_is_bounded() {
    let image = |n| Image { captured_at: CapturedAt::Unknown { at: Instant::from_micros(n) }, sequence: n };
    let mut images = Images::default();
    for part in 1..=200 {
        images.add(part, image(part));
        images.add(part, image(1000 + part));
        (0..20).for_each(|n| images.add(part, image(n)));
    }
    let of_200 = images.take(200);
    assert_eq!((of_200.len(), of_200[0], of_200[1]), (MAX_IMAGES, image(200), image(1200)));
    assert!(images.take(200).is_empty() && images.take(1).is_empty(), "taken once, and the oldest are forgotten");
    assert_eq!(images.take(150)[0], image(150));
}

/// The summary counted 33 overflows where 5787 were told: each thread counted for itself.
#[test]
fn the_figures_are_what_was_told() {
    let events = Events::kept(still());
    for part in 1..=5 {
        let decision = if part == 3 {
            Decision::safe(Reason::Engine)
        } else {
            Decision { action: Some(Action::Reject), ..Decision::safe(Reason::Engine) }
        };
        let decision = if part == 3 { decision } else { Decision { verdict: crate::decide::Verdict::Unknown, ..decision } };
        events.part(decided(part, decision), &[Score(9)]);
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| events.fault(Reason::Overflow, None, Remedy::Safe, Why::NONE)));
        }
    });
    let (f, mut told) = (events.counters().figures(), std::vec::Vec::new());
    events.take_all(&mut told);
    assert_eq!((f.parts, f.reject, f.unknown, f.safe), (5, 4, 4, 1));
    let mut counts: std::vec::Vec<u64> =
        told.iter().filter_map(|e| if let What::Fault(f) = &e.what { Some(f.count) } else { None }).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=200).collect::<std::vec::Vec<_>>());
    assert_eq!(f.faults[FaultKind::Line(Reason::Overflow).index()], 200);
    let view = events.snapshot().view();
    assert_eq!((view.part.map(|p| p.part), view.scores.as_slice()), (Some(5), &[Score(9)][..]));
}
