//! What the outputs do and tell when edges are late, writes fail, parts touch or are too many, on a
//! clock that is set.

mod given_up;
mod late;

use super::*;
use crate::decide::{Role, TagRule};
use crate::events::{Event, FaultEvent};
use crate::line::MAX_PARTS;
use crate::outputs::WriteError;
use crate::settings::ModelTags;
use crate::simulate::SimulatedClock;
use std::sync::{Mutex, OnceLock};

/// Pins that can be made unwritable: what each was brought to, and which refuse.
#[derive(Default)]
struct Pins {
    states: Mutex<Vec<(String, State)>>,
    refuse: Mutex<Vec<String>>,
    /// How long the next write takes.
    held_up: Mutex<Micros>,
    clock: Arc<SimulatedClock>,
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
        let held_up = std::mem::take(&mut *self.0.held_up.lock().unwrap());
        self.0.clock.wait_until(self.0.clock.now().plus(held_up));
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
        let pins = Arc::<Pins>::default();
        let clock = pins.clock.clone();
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
                "part 1 was sorted on an image at which the camera stood still: look at it again",
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
