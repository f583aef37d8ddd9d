//! Which parts are named where the lines go safe.

use super::*;
use std::collections::BTreeSet;

/// A defect had passed the gate of the good ones when the line went safe before its own. Nothing
/// named it, and it was told as thrown out.
#[test]
fn a_part_between_two_gates_is_given_up_where_it_calls_for_the_second_and_sorted_where_it_does_not() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
    // Line b, the later one, is called for by 1, 3, 4 and, after line a, by 5.
    for (part, calls) in [(1, 0b10), (2, 0b01), (3, 0b10), (4, 0b10), (5, 0b11)] {
        bench.part(part, 1000 + part);
        bench.verdict(part, calls);
    }
    bench.at(1_110_000);
    let stand = bench.actuator.stand();
    assert_eq!(stand.waiting(), 1);
    bench.command(Command::Safe(Reason::TooClose));
    let told = bench.at(1_110_500);
    let named: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.why.as_str().to_owned())).collect();
    let why = |text: &str| format!("{text}: no gate moves any more for");
    let expected = [
        (FaultKind::GivenUp, Some(1), why("part 1 was on the way when the lines went safe") + " it"),
        (FaultKind::GivenUp, Some(3), why("parts 3 to 5 were on the way when the lines went safe") + " them"),
    ];
    assert_eq!(named, expected);
    assert_eq!([1, 2, 3, 4, 5].map(|part| stand.is_given_up(part)), [true, false, true, true, false], "5 moved line a");
    assert_eq!(bench.events.counters().figures().given_up, 4);
}

/// A pulse that was within its window when another one was missed was fired and cut some
/// microseconds later, told as done in full, and its part was named by nothing else.
#[test]
fn beside_a_missed_edge_that_makes_the_line_safe_no_pulse_begins_and_its_part_is_given_up() {
    let text = format!("{}{REJECT}{OTHER}", GATE.replace("[trigger]", "missed_edge = \"safe\"\n[trigger]"));
    let (seed, cases) = crate::random::drawn_cases(200);
    for case in 0..cases {
        let mut random = crate::random::Random::new(seed, case);
        let mut bench = Bench::new(&text);
        // The first is missed; whoever comes later is due, or on the way to either gate.
        let triggers: Vec<u64> = [0].into_iter().chain((0..3).map(|_| random.range(1, 200) as u64)).collect();
        let mut triggers: Vec<u64> = triggers.into_iter().map(|ms| 1000 + ms).collect();
        triggers.sort_unstable();
        for (part, trigger) in (1..).zip(&triggers) {
            bench.part(part, *trigger);
            bench.verdict(part, [0b01, 0b10, 0b11][if part == 1 { 0 } else { random.range(0, 2) as usize }]);
        }
        // One tick, 151 ms behind the first trigger: 51 ms behind its gate.
        let told = bench.at(1_151_000);
        let (named, told) = (named(&told), faults(&told));
        let missed: Vec<_> = told.iter().filter(|f| f.kind == FaultKind::MissedEdge).filter_map(|f| f.part).collect();
        assert_eq!(missed[0], 1, "seed {seed} case {case}: {told:?}");
        for part in 2..=4 {
            assert!(named.contains(&part), "part {part}, seed {seed} case {case}: {told:?}");
        }
        assert!(told.iter().all(|f| f.kind != FaultKind::LateEdge), "nothing was done: {told:?}");
        bench.at(2_000_000);
        assert_eq!((bench.states("a"), bench.states("b")), (vec![], vec![]), "seed {seed} case {case}");
    }
}

/// Where no part waits, whoever asks which is the first that does hears the number of the next one,
/// whether those before passed, were too many or were dropped.
#[test]
fn the_first_part_that_waits_is_the_next_one_where_none_is_on_its_way() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
    let stand = bench.actuator.stand();
    bench.part(7, 1000);
    bench.verdict(7, 0);
    bench.at(1_050_000);
    assert_eq!(stand.waiting(), 7);
    bench.at(1_200_000);
    assert_eq!(stand.waiting(), 8);
    let last = 20 + MAX_PARTS as u64;
    (20..=last).for_each(|part| bench.part(part, 1300));
    bench.at(1_300_000);
    assert_eq!((stand.waiting(), stand.is_given_up(last)), (last + 1, true), "one too many: all are given up");
    bench.command(Command::Dropped(Dropped { parts: 3, ends: Some((PartId(100), PartId(102))) }));
    bench.at(1_400_000);
    assert_eq!((stand.waiting(), stand.is_given_up(102)), (103, true));
}

/// What was due in the same look at other outputs never fired, and its part was named by nothing;
/// the pulse that could not be written was told as late and done.
#[test]
fn where_a_line_cannot_be_written_whoever_is_due_beside_it_is_given_up_by_name() {
    for refuses in ["a", "b"] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
        // Part 1 is at gate b and part 2 at gate a, within a millisecond.
        bench.part(1, 1000);
        bench.verdict(1, 0b10);
        bench.part(2, 1101);
        bench.verdict(2, 0b01);
        bench.pins.refuse.lock().unwrap().push(refuses.into());
        let told = bench.at(1_210_000);
        // The line is tried again at once, for no part.
        let told: Vec<_> = faults(&told).iter().filter(|f| f.part.is_some()).map(|f| (f.kind, f.part)).collect();
        let failed = (FaultKind::Line(Reason::Output), Some(if refuses == "a" { 2 } else { 1 }));
        // The one whose output comes first in the file is done first.
        let expected = match refuses {
            "a" => vec![failed, (FaultKind::GivenUp, Some(1))],
            // What began for part 2 is cut in the same moment.
            _ => vec![failed, (FaultKind::GivenUp, Some(2))],
        };
        assert_eq!(told, expected, "{refuses}");
        assert_eq!(bench.states("a").first(), (refuses == "b").then_some(&Active), "{refuses}");
    }
    // A part that only passes a gate in that moment is sorted.
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
    for (part, trigger, calls) in [(1, 1000, 0b10), (2, 1101, 0)] {
        bench.part(part, trigger);
        bench.verdict(part, calls);
    }
    bench.pins.refuse.lock().unwrap().push("b".into());
    let told = bench.at(1_202_000);
    assert_eq!(named(&told), BTreeSet::from([1]));
    assert!(faults(&told).iter().all(|f| f.kind != FaultKind::GivenUp), "{told:?}");
}

/// The parts that faults name as ones whose gate did not move for them.
fn named(told: &[What]) -> BTreeSet<u64> {
    let mut parts = BTreeSet::new();
    for fault in faults(told) {
        match fault.kind {
            FaultKind::GivenUp => {
                let numbers = fault.why.as_str().split(|c: char| !c.is_ascii_digit());
                let numbers: Vec<u64> = numbers.filter_map(|n| n.parse().ok()).collect();
                parts.extend(numbers[0]..=*numbers.last().unwrap());
            }
            FaultKind::MissedEdge | FaultKind::Line(_) => parts.extend(fault.part),
            _ => {}
        }
    }
    parts
}

/// Of two parts due at one output in a stall only the first was given up by name as the line went
/// safe; and a pulse that another one made longer while nobody looked was longer by the stall,
/// threw out what came behind it, and nobody was told. Whatever is drawn: a part whose gate was
/// not on for
/// it is named, and where a gate was on for no part, that is told.
#[test]
fn whatever_a_stall_meets_each_part_that_was_not_sorted_is_named_and_each_pulse_too_long_is_told() {
    const PARTS: usize = 8;
    let (seed, cases) = crate::random::drawn_cases(1500);
    let mut stands = [0; 3];
    for case in 0..cases {
        let mut random = crate::random::Random::new(seed, case);
        let mut draw = |from: i32, to: i32| random.range(from, to) as u64;
        let [width, windows] = [[draw(10, 100), draw(10, 100)], [draw(10, 150), draw(10, 150)]];
        let delays = [draw(100, 250), draw(100, 250)];
        let (safe, refuses) = (draw(0, 1) == 1, draw(0, 3) == 0);
        let mut text = GATE.replace("[trigger]", if safe { "missed_edge = \"safe\"\n[trigger]" } else { "[trigger]" });
        for (i, name) in ["a", "b"].iter().enumerate() {
            let (width, window, delay) = (width[i], windows[i], delays[i]);
            text += &format!(
                "[outputs.{name}]\nmode = \"pulse\"\nwidth_ms = {width}\nwindow_ms = {window}\ndelay_ms = {delay}\non = [\"reject\"]\n"
            );
        }
        let mut bench = Bench::new(&text);
        let mut triggers: Vec<u64> = (0..PARTS).map(|_| draw(1, 300)).collect();
        triggers.sort_unstable();
        let calls: Vec<LineMask> = (0..PARTS).map(|_| draw(0, 3) as LineMask).collect();
        let stall = draw(100, 400);
        let stall = stall..stall + draw(0, 150);
        let (mut told, mut opened) = (Vec::new(), 0);
        // Of each line: whether it is on in the millisecond that begins with this look.
        let mut on = [vec![false; 1000], vec![false; 1000]];
        for ms in (1..1000).filter(|ms| !stall.contains(ms)) {
            while triggers.get(opened).is_some_and(|at| *at <= ms) {
                bench.part(opened as u64 + 1, triggers[opened]);
                bench.verdict(opened as u64 + 1, calls[opened]);
                opened += 1;
            }
            if refuses && ms == stall.end {
                bench.pins.refuse.lock().unwrap().push("b".into());
            }
            told.extend(bench.at(ms * 1000));
            bench.pins.refuse.lock().unwrap().clear();
            for (on, name) in on.iter_mut().zip(["a", "b"]) {
                let last = bench.states(name).last().map_or(on[ms as usize - 1], |state| *state == Active);
                on[ms as usize..].fill(last);
            }
        }
        // Nobody looked in the stall: lines stayed as they were.
        let named = named(&told);
        let is_told = |line: &str| {
            let of_line = |f: &&FaultEvent| {
                ["output ", "output \""].iter().any(|what| f.why.as_str().starts_with(&format!("{what}{line}")))
            };
            faults(&told).into_iter().filter(of_line).any(|f| matches!(f.kind, FaultKind::LateEdge | FaultKind::Line(_)))
        };
        let what =
            || format!("seed {seed} case {case}: {text} triggers {triggers:?} calls {calls:?} stall {stall:?} {told:?}");
        for line in 0..2 {
            let due = |part: usize| triggers[part] + delays[line];
            let called = |part: &usize| calls[*part] >> line & 1 == 1;
            for part in (0..PARTS).filter(called) {
                let was_on = (due(part)..=due(part) + windows[line]).any(|ms| on[line][ms as usize]);
                assert!(was_on || named.contains(&(part as u64 + 1)), "part {} line {line}, {}", part + 1, what());
                stands[0] += u32::from(!was_on);
            }
            for part in (0..PARTS).filter(|part| !called(part)) {
                // A pulse is in time up to 5 ms late.
                let own = |q: usize| (due(q)..=due(q) + width[line] + 5).contains(&due(part));
                let is_hit = on[line][due(part) as usize] && !(0..PARTS).filter(called).any(own);
                assert!(!is_hit || is_told(["a", "b"][line]), "part {} line {line} is hit, {}", part + 1, what());
                stands[1] += u32::from(is_hit);
            }
            stands[2] += u32::from(on[line].iter().any(|on| *on));
        }
    }
    assert!(cases < 500 || stands.iter().all(|n| *n > 20), "few of a kind were drawn: {stands:?}");
}

/// Where a write hung, a part whose gate had moved in the same look was named as one that waits.
#[test]
fn at_each_write_others_see_which_parts_wait_and_when_pulses_are_to_end() {
    let third = OTHER.replace("[outputs.b]", "[outputs.c]").replace("accept", "review");
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}{third}"));
    bench.pins.stand.set(bench.actuator.stand()).unwrap();
    // Parts 1 and 2 are at gates b and c, part 3 at gate a, within milliseconds; part 9 is not there.
    for (part, trigger, calls) in [(1, 1000, 0b010), (2, 1001, 0b100), (3, 1101, 0b001)] {
        bench.part(part, trigger);
        bench.verdict(part, calls);
    }
    bench.part(4, 1190);
    bench.at(1_205_000);
    let seen: Vec<(String, Vec<u64>)> = bench.pins.waiting.lock().unwrap().drain(..).collect();
    // No part from 5 on has been heard of, so that all would wait.
    let new = |parts: &[u64]| parts.iter().copied().chain(5..=9).collect::<Vec<_>>();
    let expected = [("a", new(&[1, 2, 3, 4])), ("b", new(&[1, 2, 4])), ("c", new(&[2, 4]))];
    assert_eq!(seen, expected.map(|(pin, parts)| (pin.to_string(), parts)));
    let stand = bench.actuator.stand();
    let ends = || [0, 1, 2].map(|line| stand.end_of(line).map(Instant::as_micros));
    assert_eq!(ends(), [Some(1_225_000); 3]);
    bench.at(1_225_000);
    assert_eq!(ends(), [None; 3]);
}

/// What was dropped from a full queue was in no count, and no fault was told.
#[test]
fn commands_that_were_dropped_are_told_as_a_fault_that_names_the_parts_given_up() {
    let ends = |first, last| Some((PartId(first), PartId(last)));
    for (in_flight, dropped, named, given_up) in [
        (2, Dropped { parts: 3, ends: ends(3, 5) }, "parts 1 to 5 were given up", 5),
        (2, Dropped::default(), "parts 1 to 2 were given up", 2),
        (0, Dropped { parts: 1, ends: ends(7, 7) }, "part 7 was given up", 1),
        (0, Dropped::default(), "no part was on its way", 0),
    ] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}[outputs.lamp]\non = [\"fault\"]\n"));
        (1..=in_flight).for_each(|part| bench.part(part, 1000));
        bench.command(Command::Dropped(dropped));
        let told = bench.at(1_000_000);
        let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.remedy, f.why.as_str().to_owned())).collect();
        let [(kind, None, Remedy::Safe, why), rest @ ..] = &found[..] else { panic!("{found:?}") };
        // Those that were at the outputs already are told as of any way to safety.
        let rest: Vec<_> = rest.iter().map(|(kind, part, ..)| (*kind, *part)).collect();
        assert_eq!(rest, (in_flight > 0).then_some((FaultKind::GivenUp, Some(1))).into_iter().collect::<Vec<_>>());
        assert_eq!(*kind, FaultKind::Line(Reason::Overflow));
        assert!(
            why.starts_with("the outputs were held up until 256 commands waited for them") && why.ends_with(named),
            "{why}"
        );
        assert_eq!(bench.events.counters().figures().given_up, given_up);
        assert_eq!((bench.states("lamp"), bench.actuator.in_flight()), (vec![Active], 0));
        // It goes on with the next part.
        bench.part(9, 2000);
        bench.verdict(9, 0b01);
        bench.at(2_100_000);
        assert_eq!(bench.states("a"), [Active]);
    }
}

/// Parts on their way as the line went safe were told and counted as sorted, and nothing named
/// them.
#[test]
fn parts_that_the_lines_going_safe_gives_up_are_named_and_remembered_until_their_number_comes_again() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
    for (part, trigger) in [(7, 1000), (8, 1050), (9, 1090)] {
        bench.part(part, trigger);
    }
    bench.verdict(7, 0b01);
    bench.at(1_100_000);
    let stand = bench.actuator.stand();
    assert_eq!(stand.waiting(), 8, "the first has been at a gate");
    bench.command(Command::Safe(Reason::TooClose));
    let told = bench.at(1_100_500);
    let [fault] = faults(&told)[..] else { panic!("{told:?}") };
    assert_eq!((fault.kind, fault.part, fault.remedy), (FaultKind::GivenUp, Some(8), Remedy::Told));
    assert!(fault.why.as_str().starts_with("parts 8 to 9 were on the way"), "{}", fault.why.as_str());
    assert_eq!([6, 7, 8, 9, 10].map(|part| stand.is_given_up(part)), [false, false, true, true, false]);
    assert_eq!(bench.events.counters().figures().given_up, 2, "the first is sorted, and passes b");
    // What comes next is sorted, and a number that was given up long ago is not remembered for it.
    bench.part(8 + REMEMBERED as u64, 2000);
    assert!(!stand.is_given_up(8 + REMEMBERED as u64));
    bench.command(Command::Safe(Reason::TooClose));
    assert!(faults(&bench.at(2_000_000))[0].why.as_str().starts_with("part 264 was on the way"));
    // Nobody waits: nothing is told.
    bench.command(Command::Safe(Reason::TooClose));
    assert!(faults(&bench.at(2_000_500)).is_empty());
}

#[test]
fn one_part_more_than_can_be_followed_makes_the_line_safe_in_both_modes_of_opening() {
    let now = Instant::from_micros(1_000_000);
    for command in [
        Command::Open { part: PartId(999), trigger: Moment::at(now), touching: false },
        Command::Now { part: PartId(999), calls: 1, at: now },
    ] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}[outputs.r]\non = [\"ready\"]\n"));
        bench.at(900_000);
        assert_eq!(bench.states("r"), [Active]);
        for part in 1..=MAX_PARTS as u64 {
            bench.part(part, 1000);
        }
        let told = bench.at(1_000_000);
        assert_eq!((faults(&told).len(), bench.actuator.in_flight()), (0, MAX_PARTS));
        assert_eq!(bench.states("r"), [Inactive], "there is no room for another");
        bench.command(command);
        assert_eq!((bench.actuator.in_flight(), bench.actuator.not_safe()), (0, 0));
        let told = bench.at(1_000_000);
        let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.remedy)).collect();
        let given_up = (FaultKind::GivenUp, Some(1), Remedy::Told);
        assert_eq!(found, [(FaultKind::Line(Reason::Overflow), Some(999), Remedy::Safe), given_up]);
        assert_eq!(bench.events.counters().given_up.load(Ordering::Relaxed), MAX_PARTS as u64 + 1);
        assert_eq!(bench.states("r"), [Active], "there is room again");
    }
}
