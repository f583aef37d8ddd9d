//! Properties over random lines, and over all lines of a small kind.

use super::*;
use proptest::prelude::*;

/// What a part of a random line is given: distance to the part before it, when its verdict comes,
/// what that is.
#[derive(Clone, Copy, Debug)]
struct Given {
    gap: u64,
    verdict_after: u64,
    calls: LineMask,
}

fn given() -> impl Strategy<Value = Given> {
    (1u64..80, prop_oneof![3 => 1u64..140, 1 => 140u64..900], 0u32..8).prop_map(|(gap, verdict_after, calls)| Given {
        gap,
        verdict_after,
        calls,
    })
}

proptest! {
    /// Every line sees the parts in their order, each once, each due at its own moment however late
    /// the owner of the outputs wakes; and each line is called exactly as the verdict says that was
    /// there by the first gate, else by the late action.
    #[test]
    fn every_part_passes_every_gate_once_in_order_and_on_time(line in prop::collection::vec(given(), 1..60), wake in 1u64..40) {
        const DELAYS: [u32; 3] = [150, 90, 300];
        const LATE: LineMask = 0b101;
        /// Also the window of each pulse.
        const WIDTH: u32 = 5;
        let mut gate = Gate::new(&DELAYS.map(|d| pulse(d, WIDTH)), LATE);
        let mut at = 0;
        let triggers: std::vec::Vec<u64> = line.iter().map(|g| { at += g.gap; at }).collect();
        let mut opened = 0;
        let mut passes = std::vec![std::vec::Vec::new(); 3];
        // Since when each line is on, as who looks at the pins sees it.
        let mut on: [Option<u64>; 3] = [None; 3];
        for now in 0..=at + 400 {
            while opened < triggers.len() && triggers[opened] == now {
                prop_assert!(gate.open(PartId(opened as u64), moment(now)).is_ok());
                opened += 1;
            }
            for (i, g) in line.iter().enumerate() {
                if triggers[i] + g.verdict_after == now {
                    gate.decide(PartId(i as u64), g.calls);
                }
            }
            if now % wake == 0 {
                let all: std::vec::Vec<Move> = std::iter::from_fn(|| gate.step(moment(now))).collect();
                let before = on;
                for m in &all {
                    on[m.line as usize] = m.active.then(|| before[m.line as usize].unwrap_or(now));
                }
                for m in all.into_iter().filter(|m| m.cause != Cause::Ended) {
                    let due = triggers[m.part.0 as usize] + DELAYS[m.line as usize] as u64;
                    prop_assert_eq!(m.due, ms(due));
                    let called = m.cause != Cause::Passed;
                    let is_on = before[m.line as usize].is_some_and(|since| since <= due);
                    prop_assert_eq!(m.cause == Cause::Prolonged, called && is_on);
                    prop_assert_eq!(m.cause == Cause::Missed, called && !is_on && now - due > WIDTH as u64);
                    passes[m.line as usize].push((m.part.0, called));
                }
            }
        }
        for (n, passes) in passes.iter().enumerate() {
            let expected = line.iter().zip(&triggers).enumerate().map(|(i, (g, t))| {
                let first_gate = (t + 90).next_multiple_of(wake);
                let calls = if t + g.verdict_after <= first_gate { g.calls } else { LATE };
                (i as u64, calls >> n & 1 == 1)
            });
            prop_assert_eq!(passes, &expected.collect::<std::vec::Vec<_>>());
        }
        prop_assert_eq!(gate.in_flight(), 0);
    }

    /// A part that nothing followed was judged by a frame of the empty belt, exposed long after it
    /// had left the view.
    #[test]
    fn a_frame_exposed_after_a_part_has_left_the_view_is_not_taken(view in 1u64..200, camera in 0u64..100, after in 0u64..400) {
        let ms = |n: u64| Micros(n * 1000);
        let rules = PartRules { to_camera: Travel::Time(ms(camera)), in_view: Some(ms(view)), ..PartRules::default() };
        let mut line = Line::new(rules);
        prop_assert_eq!(line.trigger(PartId(1), moment(10)), Opened::Waits);
        let taken = line.frame(exposed(10 + camera + after));
        prop_assert_eq!(matches!(taken, Taken::Last(_)), after < view, "{:?}", taken);
        let mut unlimited = Line::new(PartRules { in_view: None, ..rules });
        unlimited.trigger(PartId(1), moment(10));
        let taken = unlimited.frame(exposed(10 + camera + after));
        prop_assert!(matches!(taken, Taken::Last(_)), "{:?}", taken);
    }

    /// Frames of a random camera: each part gets frames of its own view only, at most n, in the
    /// order of exposure.
    #[test]
    fn frames_go_to_the_part_they_show(gaps in prop::collection::vec(1u64..120, 1..30), n in 1u8..4, interval in 3u64..40, lost in any::<u64>()) {
        let mut line = Line::new(PartRules { frames: n, deadline: Travel::Time(Millis(1_000_000).micros()), ..PartRules::default() });
        let mut at = 0;
        let triggers: std::vec::Vec<u64> = gaps.iter().map(|g| { at += g; at }).collect();
        let (mut opened, mut taken) = (0, std::vec![0u8; gaps.len()]);
        for now in 0..at + 200 {
            while opened < triggers.len() && triggers[opened] == now {
                prop_assert_ne!(line.trigger(PartId(opened as u64), moment(now)), Opened::Full);
                opened += 1;
            }
            if now % interval == 0 && lost >> (now / interval % 64) & 1 == 0 {
                let shown = triggers[..opened].iter().rposition(|t| *t <= now);
                match line.frame(exposed(now)) {
                    Taken::NotOurs => {}
                    Taken::More(part) | Taken::Last(part) => {
                        prop_assert_eq!(Some(part.id.0 as usize), shown);
                        taken[part.id.0 as usize] += 1;
                        if part.frames == n { line.close(part.id); }
                    }
                }
                while let Some(part) = line.overdue(moment(now)) {
                    prop_assert!(part.frames < n);
                    line.close(part.id);
                }
            }
        }
        prop_assert!(taken.iter().all(|t| *t <= n));
    }
}

/// What may become of a part of the small line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Calls(LineMask),
    Missing,
    Doubtful,
}

/// Three parts, two outputs: every order of triggers, verdicts and gates, with every part in time,
/// late, missing or doubtful, and a fault that clears the line at every moment or never.
#[test]
fn all_interleavings_of_three_parts_and_two_outputs() {
    const TRIGGERS: [u64; 3] = [0, 2, 4];
    const DELAYS: [u64; 2] = [5, 7];
    const LATE: LineMask = 0b01;
    let fates = [Fate::Calls(0b00), Fate::Calls(0b01), Fate::Calls(0b10), Fate::Calls(0b11), Fate::Missing, Fate::Doubtful];
    let mut lines = 0u64;
    let mut given = [(fates[0], 0u64); 3];
    let options: std::vec::Vec<(Fate, u64)> =
        fates.iter().flat_map(|f| if *f == Fate::Missing { 0..1 } else { 0..9 }.map(move |after| (*f, after))).collect();
    for a in &options {
        for b in &options {
            for c in &options {
                given = [*a, *b, *c];
                for fault in std::iter::once(99).chain((0..12).step_by(3)) {
                    lines += 1;
                    walk(&given, fault, &TRIGGERS, &DELAYS, LATE);
                }
            }
        }
    }
    assert_eq!((lines, given.len()), (46 * 46 * 46 * 5, 3));
}

fn walk(given: &[(Fate, u64); 3], fault: u64, triggers: &[u64; 3], delays: &[u64; 2], late: LineMask) {
    let lines = [0, 1].map(|i| {
        Some(GateLine {
            delay: Travel::Time(Micros(delays[i])),
            shape: Shape::Pulse(Micros(1)),
            window: Micros(0),
            by: CalledBy::Verdict,
        })
    });
    let mut gate = Gate::new(&lines, late);
    let mut calls = [[0u8; 2]; 3];
    let mut passes = [[0u8; 2]; 3];
    for now in 0..14 {
        let at = Moment::at(Instant::from_micros(now));
        for (i, t) in triggers.iter().enumerate() {
            if *t == now {
                gate.open(PartId(i as u64), at).unwrap();
            }
            if t + given[i].1 == now {
                match given[i].0 {
                    Fate::Calls(mask) => drop(gate.decide(PartId(i as u64), mask)),
                    Fate::Doubtful => drop(gate.doubt(PartId(i as u64))),
                    Fate::Missing => {}
                }
            }
        }
        if fault == now {
            gate.clear(at.at);
        }
        while let Some(m) = gate.step(at) {
            assert_eq!(m.due, at.at);
            let (part, line) = (m.part.0 as usize, m.line as usize);
            calls[part][line] += (m.cause == Cause::Called) as u8;
            passes[part][line] += (m.cause != Cause::Ended) as u8;
        }
    }
    for (i, (fate, after)) in given.iter().enumerate() {
        let verdict = match fate {
            // A verdict at the very moment of the first gate still counts: commands are taken
            // before edges.
            Fate::Calls(mask) if *after <= delays[0] => *mask,
            _ => late,
        };
        for line in 0..2 {
            let due = triggers[i] + delays[line];
            let cleared = (triggers[i]..=due).contains(&fault);
            let expected = if cleared { 0 } else { (verdict >> line & 1) as u8 };
            assert_eq!(calls[i][line], expected, "{given:?}, fault at {fault}, part {i}, line {line}");
            assert_eq!(passes[i][line], !cleared as u8, "{given:?}, fault at {fault}: part {i} passes line {line} once");
        }
    }
    assert_eq!(gate.in_flight(), 0);
}
