//! What the outputs do and tell when edges are late, writes fail, parts touch or are too many, on a
//! clock that is set.

use super::*;
use crate::decide::{Role, TagRule};
use crate::events::{Event, FaultEvent};
use crate::line::MAX_PARTS;
use crate::outputs::WriteError;
use crate::settings::ModelTags;
use crate::simulate::SimulatedClock;
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};

/// Pins that can be made unwritable: what each was brought to, and which refuse.
#[derive(Default)]
struct Pins {
    states: Mutex<Vec<(String, State)>>,
    refuse: Mutex<Vec<String>>,
    /// Where the outputs stand, and the parts that wait by it at each write.
    stand: OnceLock<Arc<Stand>>,
    waiting: Mutex<Vec<(String, Vec<u64>)>>,
}

struct Pin(Arc<Pins>, String);

impl Output for Pin {
    fn apply(&mut self, state: State) -> Result<(), WriteError> {
        if let Some(stand) = self.0.stand.get() {
            let waiting = (stand.waiting()..=9).filter(|part| stand.is_waiting(*part).0).collect();
            self.0.waiting.lock().unwrap().push((self.1.clone(), waiting));
        }
        if self.0.refuse.lock().unwrap().contains(&self.1) {
            return Err(WriteError::Drill);
        }
        self.0.states.lock().unwrap().push((self.1.clone(), state));
        Ok(())
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self(self.0.clone(), self.1.clone()))
    }
}

struct Bench {
    clock: Arc<SimulatedClock>,
    events: Events,
    pins: Arc<Pins>,
    actuator: Actuator,
}

const GATE: &str = "[line]\nmode = \"gate\"\nlate = \"reject\"\n[trigger]\nkind = \"stdin\"\n[decide]\nreject = [\"bad\"]\n";
/// A reject gate 100 ms behind the trigger, pulses of 20 ms, up to 50 ms late.
const REJECT: &str = "[outputs.a]\nmode = \"pulse\"\nwidth_ms = 20\nwindow_ms = 50\ndelay_ms = 100\non = [\"reject\"]\n";
const OTHER: &str = "[outputs.b]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 200\non = [\"accept\"]\n";

fn settings(text: &str) -> Settings {
    let rules = [TagRule::default(); 2];
    let tags = ModelTags { names: &["fine", "bad"], rules: &rules, roles: &[Role::Good, Role::Defect], categories: None };
    Settings::parse(text, "test", tags).unwrap()
}

impl Bench {
    fn new(text: &str) -> Self {
        let settings = settings(text);
        let (clock, pins) = (Arc::new(SimulatedClock::default()), Arc::<Pins>::default());
        let open = |s: &OutputSettings| Ok(Box::new(Pin(pins.clone(), s.name.clone())) as Box<dyn Output>);
        let (action, calls) = settings.routing(crate::decide::Task::Multiclass).late();
        let actuator = Actuator::open(&settings.outputs, calls, action, EdgeRules::of(&settings), open).unwrap();
        Self { events: Events::kept(clock.clone()), clock, pins, actuator }
    }

    /// The outputs' thread looks at this moment; what it told since the last look.
    fn at(&mut self, us: u64) -> Vec<What> {
        self.clock.wait_until(Instant::from_micros(us));
        self.actuator.tick(0, &*self.clock, &self.events);
        let mut events = Vec::new();
        self.events.take_all(&mut events);
        events.into_iter().map(|e: Event| e.what).collect()
    }

    fn command(&mut self, command: Command) {
        self.actuator.apply(command, &*self.clock, &self.events);
    }

    fn part(&mut self, part: u64, trigger_ms: u64) {
        let trigger = Moment::at(Instant::from_micros(trigger_ms * 1000));
        self.command(Command::Open { part: PartId(part), trigger, touching: false });
    }

    fn verdict(&mut self, part: u64, calls: LineMask) {
        self.command(Command::Verdict { part: PartId(part), calls });
    }

    /// The states that a pin was brought to since the last call.
    fn states(&mut self, pin: &str) -> Vec<State> {
        let mut all = self.pins.states.lock().unwrap();
        let (of_pin, others) = all.drain(..).partition(|(name, _)| name == pin);
        *all = others;
        of_pin.into_iter().map(|(_, state): (String, State)| state).collect()
    }
}

fn faults(told: &[What]) -> Vec<&FaultEvent> {
    told.iter().filter_map(|what| if let What::Fault(f) = what { Some(f) } else { None }).collect()
}

use State::{Active, Inactive};

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

#[test]
fn the_second_way_to_the_lines_is_given_once_and_its_use_is_seen() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
    assert!(bench.actuator.take_rescue().is_some() && bench.actuator.take_rescue().is_none());
    assert!(!bench.actuator.is_rescued());
    bench.actuator.stand().rescue();
    assert!(bench.actuator.is_rescued());
}

/// A part that another touches is told with its end, which is to come; one that has the image of
/// the part before has no other telling.
#[test]
fn of_undecided_parts_those_with_a_frozen_image_are_told_when_it_is_seen() {
    for (reason, expected) in [(Reason::Frozen, vec![Some(1)]), (Reason::TooClose, vec![])] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}"));
        bench.part(1, 1000);
        bench.command(Command::Doubt { part: PartId(1), reason });
        let told = bench.at(1_000_500);
        assert_eq!(faults(&told).iter().map(|f| f.part).collect::<Vec<_>>(), expected, "{reason:?}");
    }
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
/// safe; and a pulse that another one made longer while nobody looked was longer by the stall, threw
/// out what came behind it, and nobody was told. Whatever is drawn: a part whose gate was not on for
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
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
    bench.pins.stand.set(bench.actuator.stand()).unwrap();
    // Part 1 is at gate b and part 2 at gate a, within a millisecond; part 9 is not there yet.
    for (part, trigger, calls) in [(1, 1000, 0b10), (2, 1101, 0b01)] {
        bench.part(part, trigger);
        bench.verdict(part, calls);
    }
    bench.part(3, 1190);
    bench.at(1_205_000);
    let seen: Vec<(String, Vec<u64>)> = bench.pins.waiting.lock().unwrap().drain(..).collect();
    // No part from 4 on has been heard of, so that all would wait.
    let new = |parts: &[u64]| parts.iter().copied().chain(4..=9).collect::<Vec<_>>();
    assert_eq!(seen, [("a".to_string(), new(&[1, 2, 3])), ("b".to_string(), new(&[1, 3]))]);
    let stand = bench.actuator.stand();
    let ends = || [0, 1].map(|line| stand.end_of(line).map(Instant::as_micros));
    assert_eq!(ends(), [Some(1_225_000), Some(1_225_000)]);
    bench.at(1_225_000);
    assert_eq!(ends(), [None, None]);
}

#[test]
fn a_part_without_a_verdict_gets_the_late_action_and_is_told_once_with_it() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
    bench.part(1, 1000);
    assert_eq!((bench.actuator.in_flight(), bench.actuator.is_busy()), (1, true));
    let told = [bench.at(1_099_999), bench.at(1_100_000), bench.at(1_120_000), bench.at(1_200_000)].concat();
    let faults = faults(&told);
    let expected = [(FaultKind::Late, Some(1), Remedy::Action(Action::Reject))];
    assert_eq!(faults.iter().map(|f| (f.kind, f.part, f.remedy)).collect::<Vec<_>>(), expected);
    assert_eq!((bench.states("a"), bench.states("b"), bench.actuator.late()), (vec![Active, Inactive], vec![], 1));
    assert_eq!((bench.actuator.in_flight(), bench.actuator.is_busy()), (0, false));
}

#[test]
fn two_parts_that_touch_both_get_the_late_action_and_their_neighbours_do_not() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
    bench.part(1, 1000);
    bench.part(2, 1300);
    let trigger = Moment::at(Instant::from_micros(1_310_000));
    bench.command(Command::Open { part: PartId(3), trigger, touching: true });
    bench.part(4, 1600);
    for part in [1, 2, 3, 4] {
        bench.verdict(part, 0b10);
        if part == 2 {
            bench.command(Command::Doubt { part: PartId(2), reason: Reason::TooClose });
        }
    }
    let mut seen = Vec::new();
    for ms in 1000..2000 {
        bench.at(ms * 1000);
        seen.extend(bench.states("a").into_iter().map(|s| (ms, 'a', s)));
        seen.extend(bench.states("b").into_iter().map(|s| (ms, 'b', s)));
    }
    let accept = |at| [(at, 'b', Active), (at + 20, 'b', Inactive)];
    // 2 and 3 meet at the reject gate: one pulse to the later end.
    let expected = [accept(1200), [(1400, 'a', Active), (1430, 'a', Inactive)], accept(1800)].concat();
    assert_eq!(seen, expected);
}

#[test]
fn a_frozen_image_costs_the_part_before_its_verdict_on_its_way_and_is_told_where_it_has_passed() {
    let doubt = Command::Doubt { part: PartId(1), reason: Reason::Frozen };
    for (passed, expected) in [
        (false, (FaultKind::Line(Reason::Frozen), Remedy::Action(Action::Reject), "")),
        (
            true,
            (
                FaultKind::FrozenPassed,
                Remedy::Told,
                "part 1 was sorted on an image that the next part was given too: look at it again",
            ),
        ),
    ] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
        bench.part(1, 1000);
        bench.verdict(1, 0b10);
        if passed {
            bench.at(1_100_000);
        }
        bench.command(doubt);
        let told = bench.at(1_100_000);
        let faults = faults(&told);
        let found: Vec<_> = faults.iter().map(|f| (f.kind, f.remedy, f.why.as_str())).collect();
        assert_eq!(found, [expected]);
        assert!(faults.iter().all(|f| f.part == Some(1)));
        assert_eq!(bench.states("a").contains(&Active), !passed);
    }
}

/// A part was told as accepted, then touched by the next one and thrown out, and no fault named it;
/// one that had been at its gate by then was not told of either.
#[test]
fn a_part_that_is_touched_after_its_verdict_is_told_by_number_and_counted() {
    let too_close = (FaultKind::Line(Reason::TooClose), Remedy::Action(Action::Reject), "");
    let why = "part 1 was sorted before the next one was seen to touch it: look at both again";
    let passed = (FaultKind::TouchedPassed, Remedy::Told, why);
    // The verdict's lines, whether the line went safe, when it was touched, what is told, whether
    // it is counted as corrected, what the reject gate and the other do.
    let pulse = [Active, Inactive].as_slice();
    for (calls, safe, ms, expected, corrected, a, b) in [
        (Some(0b10), false, 1_090, Some(too_close), 1, pulse, [].as_slice()),
        (Some(0b10), false, 1_100, Some(passed), 0, &[], pulse),
        (Some(0b10), false, 1_400, Some(passed), 0, &[], pulse),
        // Its end is told by the station.
        (None, false, 1_090, None, 0, pulse, &[]),
        // At its gate without a verdict it had the late action.
        (None, false, 1_100, None, 0, pulse, &[]),
        (None, false, 1_400, None, 0, pulse, &[]),
        (Some(0b10), true, 1_090, None, 0, &[], &[]),
    ] {
        let mut bench = Bench::new(&format!("{GATE}{REJECT}{OTHER}"));
        bench.part(1, 1000);
        calls.into_iter().for_each(|calls| bench.verdict(1, calls));
        (1000..=ms).for_each(|ms| drop(bench.at(ms * 1000)));
        if safe {
            bench.command(Command::Safe(Reason::Engine));
            // What that gives up is told by itself.
            bench.at(ms * 1000);
        }
        let doubt = Command::Doubt { part: PartId(1), reason: Reason::TooClose };
        (0..2).for_each(|_| bench.command(doubt));
        let told = bench.at(ms * 1000);
        let found: Vec<_> = faults(&told).iter().map(|f| (f.part, f.kind, f.remedy, f.why.as_str().to_owned())).collect();
        let twice = if expected == Some(passed) { 2 } else { 1 };
        let expected = expected.map(|(kind, remedy, why)| (Some(1), kind, remedy, String::from(why)));
        assert_eq!(found, expected.iter().flat_map(|e| vec![e.clone(); twice]).collect::<Vec<_>>(), "{calls:?} {safe} {ms}");
        assert_eq!(bench.events.counters().figures().corrected, corrected, "{calls:?} {safe} {ms}");
        (ms..1_500).for_each(|ms| drop(bench.at(ms * 1000)));
        assert_eq!((bench.states("a").as_slice(), bench.states("b").as_slice()), (a, b), "{calls:?} {safe} {ms}");
    }
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

/// The word lit the fault lamp and was told as a part that nobody threw out.
#[test]
fn a_confirmation_where_none_is_stated_is_passed_over_told_once_and_no_fault() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}[outputs.lamp]\non = [\"fault\"]\n"));
    (0..5).for_each(|ms| bench.command(Command::Confirm(Instant::from_micros(ms * 1000))));
    let told = bench.at(10_000);
    let [fault] = faults(&told)[..] else { panic!("{told:?}") };
    assert_eq!((fault.kind, fault.remedy), (FaultKind::Input, Remedy::Told));
    assert!(fault.why.as_str().contains("has no [confirm]"));
    assert_eq!((bench.events.counters().figures().passed_over, bench.states("lamp")), (5, vec![]));
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

#[test]
fn a_line_that_cannot_be_written_makes_the_others_safe_and_is_tried_until_it_can() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{}", OTHER.replace("200", "90")));
    bench.part(1, 1000);
    bench.verdict(1, 0b11);
    bench.at(1_090_000);
    assert_eq!((bench.states("b"), bench.actuator.not_safe(), bench.actuator.faults_in_a_row()), (vec![Active], 0b10, 0));
    bench.pins.refuse.lock().unwrap().push("a".into());
    let told = bench.at(1_100_000);
    assert_eq!(bench.states("b"), [Inactive], "cut");
    let edges: Vec<_> = told.iter().filter_map(|w| if let What::Edge(e) = w { Some(e) } else { None }).collect();
    let found: Vec<_> = edges.iter().map(|e| (e.output, e.part, e.state, e.outcome)).collect();
    let expected = [(0, 1, Active, Outcome::Failed), (0, 0, Inactive, Outcome::Failed), (1, 1, Inactive, Outcome::Cut)];
    assert_eq!(found[..3], expected);
    let fault = faults(&told)[0];
    assert_eq!((fault.kind, fault.part, fault.remedy), (FaultKind::Line(Reason::Output), Some(1), Remedy::Safe));
    assert_eq!(fault.why.as_str(), "output \"a\": cannot be written: a drill");
    assert_eq!(faults(&told)[1].part, None, "the way to safety is no part's");
    assert_eq!((bench.actuator.not_safe(), bench.actuator.in_flight()), (0b01, 0));
    // Each look tries again.
    let before = bench.actuator.faults_in_a_row();
    assert_eq!(before, 3, "the pulse, the way to safety, and the first try");
    bench.at(1_110_000);
    assert_eq!(bench.actuator.faults_in_a_row(), before + 1);
    bench.pins.refuse.lock().unwrap().clear();
    bench.at(1_120_000);
    assert_eq!((bench.states("a"), bench.actuator.not_safe(), bench.actuator.faults_in_a_row()), (vec![Inactive], 0, 0));
    // And the next part has its pulse.
    bench.part(2, 1200);
    bench.verdict(2, 0b01);
    bench.at(1_300_000);
    assert_eq!((bench.states("a"), bench.actuator.not_safe()), (vec![Active], 0b01));
}

/// `ready` came and went with each try while a line could not be written: ten edges in 52 ms, and
/// each cost a try more than the site allows in a row.
#[test]
fn ready_stays_down_while_a_line_cannot_be_written() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}[outputs.r]\non = [\"ready\"]\n"));
    bench.part(1, 1000);
    bench.verdict(1, 0b01);
    bench.at(1_000_000);
    assert_eq!(bench.states("r"), [Active]);
    bench.pins.refuse.lock().unwrap().push("a".into());
    (0..5).for_each(|n| drop(bench.at(1_100_000 + 20_000 * n)));
    // The pulse, the way to safety, and one for each look.
    assert_eq!((bench.states("r"), bench.actuator.faults_in_a_row()), (vec![Inactive], 2 + 5));
    bench.pins.refuse.lock().unwrap().clear();
    bench.at(1_300_000);
    bench.at(1_320_000);
    assert_eq!(bench.states("r"), [Active], "and comes again once it can");
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

/// A part of four frames that was not seen behind the gate was told four times.
#[test]
fn a_part_that_moves_its_line_with_each_frame_is_waited_for_behind_the_gate_once() {
    let mut bench = Bench::new(
        "[line]\nmode = \"state\"\n[trigger]\nkind = \"stdin\"\n[decide]\nreject = [\"bad\"]\n[outputs.a]\nmode = \"pulse\"\n\
         width_ms = 20\non = [\"reject\"]\n[confirm]\noutput = \"a\"\nwithin_ms = 40\n",
    );
    for frame in 0..4 {
        let at = Instant::from_micros(1_000_000 + 5_000 * frame);
        bench.command(Command::Now { part: PartId(7), calls: 1, at });
        bench.at(at.as_micros());
    }
    let told = [1_035_000, 1_041_000, 1_062_000, 1_200_000].map(|at| bench.at(at)).concat();
    let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part)).collect();
    assert_eq!(found, [(FaultKind::NotRejected, Some(7))]);
}

#[test]
fn what_is_not_seen_behind_the_gate_and_what_nobody_threw_out_is_told_with_what_to_look_for() {
    let confirm = "[confirm]\noutput = \"a\"\nwithin_ms = 40\n";
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{confirm}[outputs.f]\non = [\"fault\"]\n"));
    bench.part(7, 1000);
    bench.verdict(7, 1);
    bench.at(1_100_000);
    bench.at(1_120_000);
    // Over its time, and then as long as a sighting in time may be on its way.
    bench.at(1_140_001);
    assert_eq!(bench.states("f"), []);
    let told = [bench.at(1_160_000), bench.at(1_160_001)].concat();
    let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.remedy, f.why.as_str().to_string())).collect();
    let why = "part 7 was not seen behind the gate within 40 ms of the pulse of output a: look for it among the good ones, then at \
        the gate";
    assert_eq!(found, [(FaultKind::NotRejected, Some(7), Remedy::Told, why.to_string())]);
    assert_eq!(bench.states("f"), [Active]);
    bench.command(Command::Acknowledge(Instant::from_micros(1_170_000)));
    bench.at(1_170_000);
    assert_eq!(bench.states("f"), [Inactive]);
    bench.command(Command::Confirm(Instant::from_micros(1_180_000)));
    let told = bench.at(1_180_000);
    let found: Vec<_> = faults(&told).iter().map(|f| (f.kind, f.part, f.remedy, f.why.as_str().to_string())).collect();
    let why = "something was seen behind the gate, but no part was thrown out there just before";
    assert_eq!(found, [(FaultKind::UnexpectedConfirmation, None, Remedy::Told, why.to_string())]);
    // The control: a part that is seen in time is no fault.
    bench.part(8, 2000);
    bench.verdict(8, 1);
    bench.at(2_100_000);
    bench.command(Command::Confirm(Instant::from_micros(2_110_000)));
    let told = [bench.at(2_120_000), bench.at(2_141_000), bench.at(2_170_000), bench.at(2_200_000)].concat();
    assert_eq!(faults(&told).len(), 0, "{told:?}");
}

#[test]
fn busy_ready_and_heartbeat_show_what_they_say_and_a_stopped_line_shows_nothing_more() {
    let health = "[outputs.busy]\non = [\"busy\"]\n[outputs.ready]\non = [\"ready\"]\n[outputs.beat]\non = [\"heartbeat\"]\nperiod_ms = 100\n\
        [outputs.slow]\non = [\"heartbeat\"]\nperiod_ms = 1000\n";
    let mut bench = Bench::new(&format!("{GATE}{REJECT}{health}"));
    let at = |us| Some(Instant::from_micros(us));
    bench.at(1_000_000);
    assert_eq!([bench.states("busy"), bench.states("ready"), bench.states("beat")], [vec![], vec![Active], vec![Active]]);
    assert_eq!(bench.actuator.next_due(), at(1_050_000), "half a period of the quicker one");
    bench.at(1_049_999);
    assert_eq!(bench.states("beat"), []);
    let told = bench.at(1_050_000);
    assert_eq!((bench.states("beat"), told.len()), (vec![Inactive], 0), "a heartbeat would drown everything else");
    bench.part(1, 1000);
    bench.at(1_060_000);
    assert_eq!(bench.states("busy"), [Active]);
    bench.verdict(1, 0);
    bench.at(1_070_000);
    assert_eq!(bench.states("busy"), [Inactive]);
    assert_eq!(bench.actuator.jitter().max(), 0, "health is not late");
    for (alive, camera) in [(true, false), (false, true)] {
        bench.actuator.set_health(Health { alive, camera });
        bench.at(1_080_000);
        assert_eq!(bench.states("ready"), [Inactive], "{alive} {camera}");
        bench.actuator.set_health(Health { alive: true, camera: true });
        bench.at(1_080_000);
        assert_eq!(bench.states("ready"), [Active]);
    }
    bench.states("beat");
    bench.at(1_100_000);
    assert_eq!(bench.states("beat"), [Active]);
    bench.actuator.set_health(Health { alive: false, camera: true });
    bench.at(1_100_000);
    assert_eq!(bench.states("beat"), [Inactive], "a dead line has no heartbeat");
    bench.actuator.set_health(Health { alive: true, camera: true });
    bench.command(Command::Safe(Reason::Stopped));
    bench.at(2_000_000);
    assert_eq!([bench.states("beat"), bench.states("ready")].map(|s| s.last() != Some(&Active)), [true, true]);
    assert_eq!(bench.actuator.not_safe(), 0);
}

#[test]
fn a_fault_output_is_active_from_a_line_fault_until_it_is_acknowledged_and_not_after_a_stop() {
    let mut bench = Bench::new(&format!("{GATE}{REJECT}[outputs.f]\non = [\"fault\"]\n"));
    bench.at(1_000_000);
    assert_eq!(bench.states("f"), []);
    bench.command(Command::Safe(Reason::Engine));
    assert_eq!(bench.states("f"), [Active]);
    bench.at(1_010_000);
    bench.command(Command::Acknowledge(Instant::from_micros(1_020_000)));
    bench.at(1_020_000);
    assert_eq!(bench.states("f"), [Inactive]);
    bench.command(Command::Safe(Reason::Engine));
    bench.command(Command::Safe(Reason::Stopped));
    bench.at(1_030_000);
    assert_eq!(bench.states("f"), [Active, Inactive]);
}

#[test]
fn every_line_that_cannot_be_had_is_reported() {
    let settings = settings(&format!("{GATE}{REJECT}{OTHER}[outputs.c]\non = [\"busy\"]\n"));
    let open = |s: &OutputSettings| match s.name.as_str() {
        "b" => Ok(Box::new(Pin(Arc::default(), "b".into())) as Box<dyn Output>),
        name => Err(OutputError { output: name.into(), why: "held".into() }),
    };
    let errors = Actuator::open(&settings.outputs, 0, None, EdgeRules::of(&settings), open).err().unwrap();
    assert_eq!(errors.iter().map(|e| e.output.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn others_see_which_write_is_under_way_and_what_each_line_was_last_brought_to() {
    let stand = Stand::default();
    assert_eq!(stand.under_way(), None);
    let mut numbers = Vec::new();
    for line in [0, 3, 3, 31] {
        stand.begin(line);
        let (number, seen) = stand.under_way().unwrap();
        assert_eq!(seen, line);
        numbers.push(number);
        stand.end();
        assert_eq!(stand.under_way(), None, "it came back");
    }
    numbers.dedup();
    assert_eq!(numbers.len(), 4, "each write has a number of its own");
    for (part, state) in [(5, Active), (5, Inactive), (1 << 40, Active)] {
        stand.set(2, state, part);
        assert_eq!((stand.line(2), stand.line(1)), ((state, part), (Inactive, 0)));
    }
    assert_eq!((stand.is_rescued(), stand.confirmed()), (false, 0));
    stand.rescue();
    stand.confirm(0);
    stand.confirm(5);
    stand.confirm(5);
    assert_eq!((stand.is_rescued(), stand.confirmed()), (true, 0b10_0001));
}
