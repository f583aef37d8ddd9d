//! What is told of edges that are late or missed.

use super::*;

#[test]
fn an_edge_is_told_as_late_beyond_late_ms_and_as_missed_beyond_its_window() {
    for (late_us, kind, why) in [
        (5_000, None, ""),
        (5_001, Some(FaultKind::LateEdge), "output a was 5.0 ms late for part 1"),
        (50_000, Some(FaultKind::LateEdge), "output a was 50.0 ms late for part 1"),
        (
            50_001,
            Some(FaultKind::MissedEdge),
            "output a was 50.0 ms late for part 1: it would hit the next part, so it did not fire",
        ),
    ] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
        bench.part(1, 1000);
        bench.verdict(1, 1);
        let told = bench.at(1_100_000 + late_us);
        let faults = faults(&told);
        assert_eq!(faults.len(), kind.is_some() as usize, "{late_us}: {told:?}");
        for fault in faults {
            let found = (Some(fault.kind), fault.part, fault.remedy, fault.why.as_str());
            assert_eq!(found, (kind, Some(1), Remedy::Told, why));
        }
        let fired = kind != Some(FaultKind::MissedEdge);
        assert_eq!(bench.states("a"), [Active][..fired as usize], "{late_us}");
        if fired {
            let Some(What::Edge(edge)) = told.iter().find(|w| matches!(w, What::Edge(_))) else { panic!("{told:?}") };
            assert_eq!((edge.part, edge.output, edge.state, edge.outcome), (1, 0, Active, Outcome::Done));
            assert_eq!(edge.done.since(edge.scheduled), Micros(late_us));
            let longest = bench.actuator.jitter().max() as u64;
            assert!(longest.abs_diff(late_us) * 100 <= late_us, "{longest} us of {late_us}");
        }
    }
}

/// A level that was held up as it was written stood only when the next part was at the gate: told
/// as late, and never as missed, so that neither lamp nor `missed_edge = "safe"` did anything.
#[test]
fn a_level_that_is_held_up_until_the_next_part_is_at_the_gate_is_missed() {
    let level = "[outputs.a]\nmode = \"level\"\ndelay_ms = 100\non = [\"reject\"]\n";
    for (held_up_us, missed) in [(0, false), (49_000, false), (50_000, false), (50_001, true), (64_000, true)] {
        for safe in [false, true] {
            let rule = if safe { "missed_edge = \"safe\"\n[trigger]" } else { "[trigger]" };
            let mut bench = Bench::new(&format!("{}{level}", GATE.replace("[trigger]", rule)));
            for (part, trigger_ms) in [(1, 1000), (2, 1050)] {
                bench.part(part, trigger_ms);
                bench.verdict(part, (part == 1) as LineMask);
            }
            *bench.pins.held_up.lock().unwrap() = Micros(held_up_us);
            bench.at(1_100_000);
            let told = bench.at(1_170_000);
            let found: Vec<_> = faults(&told).into_iter().filter(|f| f.kind == FaultKind::MissedEdge).collect();
            assert_eq!(found.iter().map(|f| f.part).collect::<Vec<_>>(), vec![Some(1); missed as usize], "{held_up_us}");
            assert_eq!(bench.actuator.gate.has_fault(), missed, "{held_up_us}");
            assert!(found.iter().all(|f| f.remedy == if safe { Remedy::Safe } else { Remedy::Told }), "{told:?}");
            assert_eq!(bench.states("a"), [Active, Inactive], "{held_up_us}");
        }
    }
}

/// Where pulses met, the cut one was told as of the part that the line had gone on for, whose own
/// pulse had been whole; the part whose pulse was cut was named nowhere.
#[test]
fn a_cut_names_the_part_whose_pulse_was_under_way() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
    for (part, trigger_ms) in [(1, 1000), (2, 1010), (3, 1020)] {
        bench.part(part, trigger_ms);
        bench.verdict(part, 1);
    }
    [1_100_000, 1_110_000, 1_120_000, 1_125_000].into_iter().for_each(|us| drop(bench.at(us)));
    bench.command(Command::Safe(Reason::Trigger));
    let told = bench.at(1_126_000);
    let cuts =
        told.iter().filter_map(|w| if let What::Edge(e) = w { (e.outcome == Outcome::Cut).then_some(e.part) } else { None });
    assert_eq!(cuts.collect::<Vec<_>>(), [3]);
}

/// A program that was stopped between its look at the clock and the write fired a pulse of 0.04 ms
/// instead of 20, behind its window, and told nothing of it.
#[test]
fn a_pulse_that_is_held_up_as_it_is_written_is_whole_and_told() {
    let missed = "it was held up as it fired, and may have hit the next part";
    for (held_up_us, kind, why) in [
        (0, None, ""),
        (5_000, None, ""),
        (5_001, Some(FaultKind::LateEdge), ""),
        (50_000, Some(FaultKind::LateEdge), ""),
        (50_001, Some(FaultKind::MissedEdge), missed),
        (300_000, Some(FaultKind::MissedEdge), missed),
    ] {
        for (safe, remedy) in [("", Remedy::Told), ("missed_edge = \"safe\"\n", Remedy::Safe)] {
            let mut bench = Bench::new(&format!("{}{REJECT}", GATE.replace("[trigger]", &format!("{safe}[trigger]"))));
            bench.part(1, 1000);
            bench.verdict(1, 1);
            *bench.pins.held_up.lock().unwrap() = Micros(held_up_us);
            let told = bench.at(1_100_000);
            let missed = kind == Some(FaultKind::MissedEdge);
            let remedy = if missed { remedy } else { Remedy::Told };
            let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.remedy)).collect();
            assert_eq!(found, kind.map(|kind| (kind, Some(1), remedy)).into_iter().collect::<Vec<_>>(), "{held_up_us}");
            assert!(faults(&told).iter().all(|f| f.why.as_str().ends_with(why)), "{told:?}");
            let begun = 1_100_000 + held_up_us;
            let is_cut = remedy == Remedy::Safe;
            let end = (!is_cut).then(|| Instant::from_micros(begun + 20_000));
            assert_eq!((bench.actuator.next_due(), bench.actuator.gate.has_fault()), (end, missed), "{held_up_us}");
            assert_eq!(bench.states("a"), [Active, Inactive][..1 + is_cut as usize]);
            assert_eq!(faults(&bench.at(begun + 19_999)), Vec::<&FaultEvent>::new());
            assert_eq!(bench.states("a"), []);
            assert_eq!(faults(&bench.at(begun + 20_000)), Vec::<&FaultEvent>::new());
            assert_eq!(bench.states("a"), [Inactive][..!is_cut as usize]);
        }
    }
}

/// A program that was stopped within a pulse held the line for 1.3 s: the next part, a good one,
/// was thrown out too, and nothing said so.
#[test]
fn a_line_that_goes_to_rest_late_is_told() {
    for (late_us, told_as) in [
        (5_000, None),
        (5_001, Some("output a went to rest 5.0 ms late for part 1")),
        (1_200_000, Some("output a went to rest 1200.0 ms late for part 1")),
    ] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
        bench.part(1, 1000);
        bench.verdict(1, 1);
        assert_eq!(faults(&bench.at(1_100_000)), Vec::<&FaultEvent>::new());
        let told = bench.at(1_120_000 + late_us);
        let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.remedy)).collect();
        let expected = told_as.map(|_| (FaultKind::LateEdge, Some(1), Remedy::Told));
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{late_us}");
        if let Some(why) = told_as {
            assert!(faults(&told)[0].why.as_str().starts_with(why), "{}", faults(&told)[0].why.as_str());
        }
        assert_eq!(bench.states("a"), [Active, Inactive]);
    }
}

/// The same where the next reject was due within its window as the program went on: the line stayed
/// on over a good part, and as it was on already nothing was late.
#[test]
fn a_line_that_stays_on_until_the_next_pulse_is_told() {
    // When the second reject is at the gate, when the program looks again, and what is told of
    // which part.
    for (second_ms, seen_ms, told_as) in [
        (1300, 1310, Some((1, "output a should have gone to rest 190.0 ms ago for part 1"))),
        (1300, 1300, Some((1, "output a should have gone to rest 180.0 ms ago for part 1"))),
        // Due within the first pulse, so that both would have been over by 1130.
        (1110, 1150, Some((2, "output a went to rest 20.0 ms late for part 2"))),
        (1110, 1136, Some((2, "output a went to rest 6.0 ms late for part 2"))),
        (1110, 1135, None),
        // It was done in time, though nobody looked for longer than its window.
        (1119, 1172, Some((2, "output a went to rest 33.0 ms late for part 2"))),
        // The first pulse is longer by the second: no stop is seen.
        (1115, 1118, None),
        (1120, 1125, None),
    ] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
        for (part, gate_ms) in [(1, 1100), (2, second_ms)] {
            bench.part(part, gate_ms - 100);
            bench.verdict(part, 1);
        }
        assert_eq!(faults(&bench.at(1_100_000)), Vec::<&FaultEvent>::new());
        let told = bench.at(seen_ms * 1000);
        let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part)).collect();
        let expected = told_as.map(|(part, _)| (FaultKind::LateEdge, Some(part)));
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{second_ms}, {seen_ms}");
        if let Some((_, why)) = told_as {
            assert!(faults(&told)[0].why.as_str().starts_with(why), "{}", faults(&told)[0].why.as_str());
        }
        // The line was on when the second was due, so that pulse had its width by then.
        let end = second_ms + 20;
        if seen_ms < end {
            bench.at(end * 1000 - 1);
            assert_eq!(bench.states("a"), [Active], "{second_ms}, {seen_ms}");
        }
        bench.at(end.max(seen_ms) * 1000);
        assert_eq!(bench.states("a").last(), Some(&Inactive), "{second_ms}, {seen_ms}");
    }
}

/// Two frames of one part were decided before the outputs looked: the newer verdict was lost, the
/// line went to rest and a part was told as late.
#[test]
fn of_several_frames_of_a_part_the_newest_moves_the_lines_that_follow_frames() {
    let text = "[line]\nmode = \"state\"\n[trigger]\nkind = \"stdin\"\n[decide]\nreject = [\"bad\"]\n\
                [outputs.a]\nmode = \"level\"\non = [\"reject\"]\n[outputs.b]\nmode = \"level\"\non = [\"accept\"]\n";
    for calls in [[0b01, 0b01], [0b10, 0b01], [0b01, 0b10]] {
        let mut bench = Bench::new(text);
        let at = Instant::from_micros(1_000_000);
        for calls in calls {
            bench.command(Command::Now { part: PartId(1), calls, at });
        }
        let told = bench.at(1_000_100);
        assert_eq!((faults(&told), bench.actuator.late()), (vec![], 0), "{calls:?}");
        let active = |called: LineMask| if called > 0 { vec![Active] } else { vec![] };
        assert_eq!((bench.states("a"), bench.states("b")), (active(calls[1] & 1), active(calls[1] & 2)), "{calls:?}");
    }
}

/// Three parts passed a level line's gate while the program was stopped. The line never moved for
/// the second, a defect, and `late_edge` said that it was done in full.
#[test]
fn a_level_that_the_next_parts_took_the_place_of_is_told_as_missed_and_one_that_stood_so_already_is_not_told() {
    let level = "[outputs.a]\nmode = \"level\"\ndelay_ms = 100\non = [\"reject\"]\n";
    let level = format!("{level}[outputs.lamp]\non = [\"fault\"]\n");
    for (calls, told_as) in [
        ([0, 1, 0], vec![(FaultKind::MissedEdge, Some(2))]),
        ([0, 0, 1], vec![(FaultKind::LateEdge, Some(3))]),
        ([0, 0, 0], vec![]),
    ] {
        let mut bench = Bench::new(&format!("{GATE}{level}"));
        for (i, call) in calls.into_iter().enumerate() {
            bench.part(i as u64 + 1, 1000 + 100 * i as u64);
            bench.verdict(i as u64 + 1, call);
        }
        let told = bench.at(2_000_000);
        assert_eq!(faults(&told).iter().map(|f| (f.kind, f.part)).collect::<Vec<_>>(), told_as, "{calls:?}: {told:?}");
        let lamp = calls == [0, 1, 0];
        assert_eq!(
            (bench.states("a"), bench.states("lamp")),
            ([Active][..calls[2] as usize].to_vec(), [Active][..lamp as usize].to_vec())
        );
        // In time, each part has its edge and nothing is told.
        let mut bench = Bench::new(&format!("{GATE}{level}"));
        for (i, call) in calls.into_iter().enumerate() {
            bench.part(i as u64 + 1, 1000 + 100 * i as u64);
            bench.verdict(i as u64 + 1, call);
            let told = bench.at(1_100_000 + 100_000 * i as u64);
            assert!(faults(&told).is_empty(), "{told:?}");
        }
        assert_eq!(bench.states("a").contains(&Active), calls.contains(&1));
    }
}

#[test]
fn a_missed_edge_makes_the_line_safe_where_the_site_says_so_and_nothing_else_of_it_moves() {
    let text = format!("{}{REJECT}{OTHER}", GATE.replace("[trigger]", "missed_edge = \"safe\"\n[trigger]"));
    let mut bench = Bench::new(&text);
    bench.part(1, 1000);
    bench.verdict(1, 0b11);
    let told = bench.at(1_160_000);
    let faults = faults(&told);
    let expected = [(FaultKind::MissedEdge, Remedy::Safe), (FaultKind::GivenUp, Remedy::Told)];
    assert_eq!(faults.iter().map(|f| (f.kind, f.remedy)).collect::<Vec<_>>(), expected, "b is still to come");
    assert_eq!((bench.actuator.in_flight(), bench.actuator.is_busy(), bench.actuator.not_safe()), (0, false, 0));
    bench.at(1_300_000);
    assert_eq!((bench.states("a"), bench.states("b")), (vec![], vec![]), "part 1 was given up");
}

/// One late edge of a level stood for three parts: two had passed with the line in the other state,
/// and nothing named them.
#[test]
fn each_part_that_a_level_came_too_late_for_is_told_and_the_edge_is_the_newest_ones() {
    const LEVEL: &str = "[outputs.a]\ndelay_ms = 100\non = [\"reject\"]\n";
    let mut bench = Bench::new(&format!("{GATE}{LEVEL}"));
    for (part, trigger) in [(10, 1000), (11, 1070), (12, 1140)] {
        bench.part(part, trigger);
        bench.verdict(part, 0b01);
    }
    let told = bench.at(1_258_000);
    let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part)).collect();
    let expected = [(FaultKind::MissedEdge, 10), (FaultKind::MissedEdge, 11), (FaultKind::LateEdge, 12)];
    assert_eq!(found, expected.map(|(kind, part)| (kind, Some(part))));
    let edges: Vec<_> =
        told.iter().filter_map(|w| if let What::Edge(e) = w { Some((e.part, e.state)) } else { None }).collect();
    assert_eq!((edges, bench.states("a")), (vec![(12, Active)], vec![Active]));
    // A level that stands so already was right for all of them.
    for (part, trigger) in [(13, 1300), (14, 1320)] {
        bench.part(part, trigger);
        bench.verdict(part, 0b01);
    }
    assert!(bench.at(1_600_000).is_empty());
}

/// A pulse that was on over its end as the line went safe, since nobody had looked, was told as cut
/// before its time, and what it did to the part behind as nothing.
#[test]
fn a_pulse_that_should_have_ended_before_the_line_goes_safe_is_late_and_not_cut() {
    for (safe_us, late) in [(1_110_000, false), (1_125_000, false), (1_300_000, true)] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
        bench.part(1, 1000);
        bench.verdict(1, 1);
        bench.at(1_100_000);
        bench.clock.wait_until(Instant::from_micros(safe_us));
        bench.command(Command::Safe(Reason::Stopped));
        let told = bench.at(safe_us);
        let why: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.why.as_str().to_owned())).collect();
        let text = "output a went to rest 180.0 ms late for part 1: parts that were at the gate meanwhile got it too";
        let expected = late.then(|| (FaultKind::LateEdge, Some(1), text.to_string()));
        assert_eq!(why, expected.into_iter().collect::<Vec<_>>(), "{safe_us}");
        let ends = told.iter().filter_map(|w| if let What::Edge(e) = w { Some(e.outcome) } else { None });
        let is_cut = safe_us < 1_120_000;
        assert_eq!(ends.collect::<Vec<_>>(), [if is_cut { Outcome::Cut } else { Outcome::Done }], "{safe_us}");
    }
}
