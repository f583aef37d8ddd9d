//! The outputs' thread beside threads that stand still, and what it tells of pulses.

mod inputs;

use super::actuation::{Actuator, Command, Commands, EdgeRules, Patience};
use super::ended::Ended;
use super::outputs_thread::Watch;
use super::run::own_outputs;
use super::shared::Shared;
use super::truth::Observer;
use crate::decide::{Role, TagRule, Task};
use crate::events::{Events, Outcome, What};
use crate::fault::Reason;
use crate::line::{Moment, PartId};
use crate::outputs::{Output, State, WriteError};
use crate::settings::{ModelTags, OutputSettings, Settings};
use crate::simulate::SimulatedClock;
use crate::station::Station;
use crate::supervisor::SystemClock;
use crate::time::{Clock, Instant, Micros, Millis};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// What a pin did, and when.
type Timeline = Arc<Mutex<Vec<(Instant, State)>>>;

struct Pin(Timeline);

impl Output for Pin {
    fn apply(&mut self, state: State) -> Result<(), WriteError> {
        self.0.lock().unwrap().push((SystemClock.now(), state));
        Ok(())
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self(self.0.clone()))
    }
}

/// A gate 200 ms behind its trigger with pulses of 50 ms, as it is before its threads start, and
/// the pin's timeline.
fn gate() -> (Shared, Commands, Actuator, Timeline) {
    gate_behind("[outputs.gate]\ndelay_ms = 200\n", |patience| patience)
}

/// The same with what `gate` says of the way to it, and another patience than its settings ask for.
fn gate_behind(gate: &str, patient: fn(Patience) -> Patience) -> (Shared, Commands, Actuator, Timeline) {
    let settings = gate_settings(gate);
    let station = Station::new(settings.station(Task::Multiclass, 0)).unwrap();
    let events = Arc::new(Events::kept(Arc::new(SystemClock)));
    let (late, _) = settings.routing(Task::Multiclass).late();
    let timeline = Timeline::default();
    let actuator = actuator(&settings, &|| Box::new(Pin(timeline.clone())));
    let patience = patient(Patience::of(&settings));
    let (shared, commands) = Shared::new(station, events, late, patience, Observer::default(), actuator.stand());
    (shared, commands, actuator, timeline)
}

fn gate_settings(gate: &str) -> Settings {
    let text = &format!(
        "[line]\nmode = \"gate\"\nlate_ms = 60000\n[trigger]\nkind = \"stdin\"\n{gate}\
         mode = \"pulse\"\nwidth_ms = 50\nwindow_ms = 60000\non = [\"accept\"]\n"
    );
    let tags = ModelTags { names: &["bolt"], rules: &[TagRule::default()], roles: &[Role::Good], categories: None };
    Settings::parse(text, "test", tags).unwrap()
}

fn actuator(settings: &Settings, pin: &dyn Fn() -> Box<dyn Output>) -> Actuator {
    let (late, _) = settings.routing(Task::Multiclass).late();
    Actuator::open(&settings.outputs, 0, late, EdgeRules::of(settings), |_: &_| Ok(pin())).unwrap()
}

/// One condition variable and its lock stood between the outputs and everybody who had something
/// for them; at the run's end and at a fault there were two more.
#[test]
fn a_thread_that_stops_within_every_lock_delays_no_edge_and_no_way_to_safety() {
    let (shared, commands, actuator, timeline) = gate();
    let clock = SystemClock;
    let watch = Watch { watchdog: Micros(600_000), max_faults: 10, gated: false };
    let trigger = clock.now();
    for (part, after) in [(1, 0), (2, 100_000)] {
        let trigger = Moment::at(trigger.plus(Micros(after)));
        shared.commands.push(Command::Open { part: PartId(part), trigger, touching: false });
        shared.commands.push(Command::Verdict { part: PartId(part), calls: 1 });
    }
    shared.commands.push(Command::Open {
        part: PartId(3),
        trigger: Moment::at(trigger.plus(Micros(9_000_000))),
        touching: false,
    });
    std::thread::scope(|scope| {
        let (held, is_held) = mpsc::channel();
        let (release, may_release) = mpsc::channel::<()>();
        let shared = &shared;
        scope.spawn(move || {
            let _all = (
                shared.exchange.hold(),
                shared.commands.hold(),
                shared.station.lock().unwrap(),
                shared.shown.lock().unwrap(),
                shared.latency.lock().unwrap(),
            );
            held.send(()).unwrap();
            may_release.recv().unwrap();
        });
        is_held.recv().unwrap();
        let outputs = scope.spawn(move || own_outputs(actuator, commands, shared, watch));
        let begin = std::time::Instant::now();
        while !outputs.is_finished() && begin.elapsed().as_secs() < 20 {
            std::thread::sleep(Millis(5).micros().duration());
        }
        let ended = outputs.is_finished();
        release.send(()).unwrap();
        assert!(ended, "the outputs wait for somebody");
    });
    // The line beat never again: safe after its watchdog, told and ended, with all locks held.
    assert_eq!(shared.ended.why(), Some(Ended::Hung));
    assert!(shared.outputs_end.get().is_some_and(|end| end.not_safe == 0));
    let seen = timeline.lock().unwrap().clone();
    let expected = [(200, State::Active), (250, State::Inactive), (300, State::Active), (350, State::Inactive)];
    assert_eq!(seen.iter().map(|(_, state)| *state).collect::<Vec<_>>(), expected.map(|(_, state)| state), "{seen:?}");
    for ((at, _), (ms, _)) in seen.iter().zip(expected) {
        // Most machines are there within a millisecond; a busy one within this.
        let late = at.since(trigger.plus(Millis(ms).micros()));
        assert!(late.0 < 100_000 && *at >= trigger.plus(Millis(ms).micros()), "{late:?} after {ms} ms");
    }
}

/// The crate of V4L2 panics where a camera that failed cannot stop its stream. That was caught, and
/// the run ended with 101 all the same: its alarm had been raised before.
#[test]
fn a_panic_that_somebody_waits_for_raises_no_alarm_and_the_next_one_does() {
    let (shared, ..) = gate();
    let raised = |ends: fn()| {
        let watched = || {
            super::raise_alarm_at_panics();
            shared.alarm.watch();
            ends();
        };
        let ended = std::thread::scope(|scope| scope.spawn(watched).join().is_ok());
        (ended, shared.alarm.is_raised())
    };
    assert_eq!(
        raised(|| assert_eq!(crate::caught::caught(|| panic!("planted")), Err::<(), _>("planted".into()))),
        (true, false)
    );
    assert_eq!(raised(|| panic!("planted")), (false, true));
}

/// With RUST_BACKTRACE the standard library looked up names for two seconds before the thread was
/// unwound and the outputs heard of it.
#[test]
fn outputs_are_safe_as_soon_as_a_thread_panics_while_it_is_unwound_still() {
    let (shared, commands, actuator, timeline) = gate();
    let watch = Watch { watchdog: Micros(60_000_000), max_faults: 10, gated: false };
    let trigger = Moment::at(shared.clock.now().minus(Micros(200_000)));
    shared.commands.push(Command::Open { part: PartId(1), trigger, touching: false });
    shared.commands.push(Command::Verdict { part: PartId(1), calls: 1 });
    super::raise_alarm_at_panics();
    /// Takes its time as it is unwound.
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Millis(1000).micros().duration());
        }
    }
    std::thread::scope(|scope| {
        let shared = &shared;
        let outputs = scope.spawn(move || own_outputs(actuator, commands, shared, watch));
        let timeline = &timeline;
        let line = scope.spawn(move || {
            shared.alarm.watch();
            let slow = Slow;
            while timeline.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
            let _slow = slow;
            panic!("planted");
        });
        let begin = std::time::Instant::now();
        while !outputs.is_finished() && begin.elapsed().as_secs() < 20 {
            std::thread::sleep(Millis(1).micros().duration());
        }
        assert!(outputs.is_finished() && !line.is_finished(), "it is unwound still");
        assert!(line.join().is_err());
    });
    let states: Vec<State> = timeline.lock().unwrap().iter().map(|(_, state)| *state).collect();
    assert_eq!(states, [State::Active, State::Inactive]);
    shared.tell_panic();
    shared.tell_panic();
    assert_eq!(shared.ended.why(), Some(Ended::Panic));
    let mut told = Vec::new();
    shared.events.take_all(&mut told);
    let fault = |e: crate::events::Event| if let What::Fault(f) = e.what { Some(f.why.as_str().to_owned()) } else { None };
    let faults: Vec<String> = told.into_iter().filter_map(fault).collect();
    let [why] = &faults[..] else { panic!("{faults:?}") };
    assert!(why.contains("panicked at src/supervisor/tests.rs:") && why.ends_with(": planted"), "{why}");
}

#[test]
fn the_run_is_alive_only_while_line_and_outputs_both_beat() {
    let (shared, _, _, _) = gate();
    let now = shared.clock.now();
    let old = now.minus(Micros(500_001)).as_micros();
    let watchdog = Micros(500_000);
    assert!(shared.is_alive(now, watchdog));
    for stops in [&shared.beat, &shared.outputs_beat] {
        let before = stops.swap(old, Ordering::Relaxed);
        assert!(!shared.is_alive(now, watchdog), "one of them stopped");
        stops.store(before, Ordering::Relaxed);
    }
    assert!(shared.is_alive(now, watchdog));
}

/// A pin that refuses a number of writes, then takes all.
struct Refuses(Arc<AtomicU32>);

impl Output for Refuses {
    fn apply(&mut self, _: State) -> Result<(), WriteError> {
        let refused = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        refused.map_or(Ok(()), |_| Err(WriteError::Drill))
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self(self.0.clone()))
    }
}

/// `max_faults_in_a_row` is how many there may be: with the last of them the line is held.
#[test]
fn as_many_faults_in_a_row_as_are_stated_hold_the_line_and_one_fewer_do_not() {
    for (faults, ended) in [(6, Some(Ended::Held)), (5, None)] {
        let (shared, commands, ..) = gate();
        let left = Arc::new(AtomicU32::new(0));
        let outputs = actuator(&gate_settings("[outputs.gate]\ndelay_ms = 0\n"), &|| Box::new(Refuses(left.clone())));
        left.store(faults, Ordering::Relaxed);
        let trigger = Moment::at(shared.clock.now());
        shared.commands.push(Command::Open { part: PartId(1), trigger, touching: false });
        shared.commands.push(Command::Verdict { part: PartId(1), calls: 1 });
        let watch = Watch { watchdog: Micros(60_000_000), max_faults: 6, gated: false };
        std::thread::scope(|scope| {
            scope.spawn(|| own_outputs(outputs, commands, &shared, watch));
            let begin = std::time::Instant::now();
            while left.load(Ordering::Relaxed) > 0 && begin.elapsed().as_secs() < 20 {
                std::thread::sleep(Millis(1).micros().duration());
            }
            // The next looks write what was refused, and see that nothing fails any more.
            std::thread::sleep(Millis(100).micros().duration());
            shared.drain.store(true, Ordering::Release);
        });
        assert_eq!((left.load(Ordering::Relaxed), shared.ended.why()), (0, ended), "{faults} faults");
    }
}

/// Ends the outputs' thread when it is dropped, so that a test that fails ends, too.
struct EndsOutputs<'a>(&'a Shared);

impl Drop for EndsOutputs<'_> {
    fn drop(&mut self) {
        self.0.alarm.raise();
    }
}

/// Whoever feeds the line goes by it.
#[test]
fn ready_falls_without_a_camera_at_a_stop_and_as_the_line_closes_and_not_because_it_drains() {
    let settings = gate_settings("[outputs.ready]\non = [\"ready\"]\n[outputs.gate]\ndelay_ms = 30000\n");
    let (shared, commands, ..) = gate();
    let timeline = Timeline::default();
    let (late, _) = settings.routing(Task::Multiclass).late();
    let open = |s: &OutputSettings| {
        let pin = if s.name == "ready" { timeline.clone() } else { Timeline::default() };
        Ok(Box::new(Pin(pin)) as Box<dyn Output>)
    };
    let outputs = Actuator::open(&settings.outputs, 0, late, EdgeRules::of(&settings), open).unwrap();
    let watch = Watch { watchdog: Micros(600_000_000), max_faults: 6, gated: false };
    // A part on its way, so that the line has something to drain for.
    let trigger = Moment::at(shared.clock.now());
    shared.commands.push(Command::Open { part: PartId(1), trigger, touching: false });
    std::thread::scope(|scope| {
        let outputs = scope.spawn(|| own_outputs(outputs, commands, &shared, watch));
        let _ends = EndsOutputs(&shared);
        let shows = |state: State, when: &str| {
            let begin = std::time::Instant::now();
            let last = || timeline.lock().unwrap().last().map_or(State::Inactive, |(_, state)| *state);
            while last() != state && begin.elapsed().as_secs() < 20 {
                std::thread::sleep(Millis(1).micros().duration());
            }
            // Longer than the outputs sleep: it stays so.
            std::thread::sleep(Millis(60).micros().duration());
            assert_eq!(last(), state, "{when}");
        };
        let set = |flag: &AtomicBool, value: bool| flag.store(value, Ordering::Release);
        shared.events.snapshot().show_camera(true);
        shows(State::Active, "a camera");
        shared.events.snapshot().show_camera(false);
        shows(State::Inactive, "no camera");
        shared.events.snapshot().show_camera(true);
        shows(State::Active, "a camera again");
        set(&shared.closing, true);
        shows(State::Inactive, "closing");
        set(&shared.closing, false);
        shows(State::Active, "closing no more");
        set(&shared.exchange.stop, true);
        shows(State::Inactive, "stopped");
        set(&shared.drain, true);
        shows(State::Active, "draining with room for parts");
        assert!(!outputs.is_finished());
    });
}

/// What a run waits for at its end: the longest way of all, and the sensor behind the gate.
#[test]
fn parts_on_their_way_at_the_end_have_the_longest_delay_width_and_confirmation_and_half_a_second() {
    let by_time = |rest: &str| {
        let gate = format!("{rest}[outputs.far]\ndelay_ms = 900\non = [\"accept\"]\n[outputs.gate]\ndelay_ms = 870\n");
        let patience = Patience::of(&gate_settings(&gate));
        assert_eq!(patience.stands, None);
        patience.by_time
    };
    assert_eq!(by_time(""), Micros(1_420_000), "870 and a pulse of 50");
    let stands = |way: &str| {
        let gate = format!("{way}[encoder]\nchip = \"header\"\na = 22\n[outputs.gate]\ndelay_ms = 870\n");
        Patience::of(&gate_settings(&gate)).stands
    };
    assert_eq!(stands(""), None, "nothing goes by the belt");
    assert_eq!(stands("deadline_counts = 40\n"), Some(Patience::STANDS));
    assert_eq!(stands("to_camera_counts = 4\n"), Some(Patience::STANDS));
    assert_eq!(by_time("[confirm]\noutput = \"gate\"\nwithin_ms = 300\n"), Micros(1_720_000));
}

/// What was told of each edge: part, output, state, when it was done in ms, outcome.
type Told = (u64, u8, State, u64, Outcome);

/// A pulse, a pulse whose safe state is active, a level and a latched line, all at the trigger, on
/// a clock that is set.
struct Line {
    clock: Arc<SimulatedClock>,
    events: Events,
    actuator: Actuator,
}

impl Line {
    fn new() -> Self {
        let every = "on = [\"accept\"]\n";
        let text = format!(
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"stdin\"\n[outputs.a]\nmode = \"pulse\"\nwidth_ms = 50\ndelay_ms = 0\n{every}\
             [outputs.b]\nsafe = \"active\"\nmode = \"pulse\"\nwidth_ms = 50\ndelay_ms = 0\n{every}\
             [outputs.c]\ndelay_ms = 0\n{every}[outputs.d]\nmode = \"latched\"\ndelay_ms = 0\n{every}"
        );
        let tags = ModelTags { names: &["bolt"], rules: &[TagRule::default()], roles: &[Role::Good], categories: None };
        let settings = Settings::parse(&text, "test", tags).unwrap();
        let clock = Arc::new(SimulatedClock::default());
        let open = |_: &_| Ok(Box::new(Pin(Timeline::default())) as Box<dyn Output>);
        let actuator = Actuator::open(&settings.outputs, 0, None, EdgeRules::of(&settings), open).unwrap();
        Self { events: Events::kept(clock.clone()), clock, actuator }
    }

    /// Goes on to `ms`, millisecond by millisecond; a part at each of `parts` calls for these
    /// lines.
    fn until(&mut self, ms: u64, parts: &[(u64, u64, u32)]) -> Vec<Told> {
        let now = |clock: &SimulatedClock| clock.now().as_micros() / 1000;
        while now(&self.clock) < ms {
            let next = now(&self.clock) + 1;
            self.clock.wait_until(Instant::from_micros(next * 1000));
            for (_, part, calls) in parts.iter().filter(|(at, ..)| *at == next) {
                let (part, trigger) = (PartId(*part), Moment::at(self.clock.now()));
                self.actuator.apply(Command::Open { part, trigger, touching: false }, &*self.clock, &self.events);
                self.actuator.apply(Command::Verdict { part, calls: *calls }, &*self.clock, &self.events);
            }
            self.actuator.tick(0, &*self.clock, &self.events);
        }
        self.told()
    }

    fn told(&mut self) -> Vec<Told> {
        let mut events = Vec::new();
        self.events.take_all(&mut events);
        let edge = |e: crate::events::Event| match e.what {
            What::Edge(e) => Some((e.part, e.output, e.state, e.done.as_micros() / 1000, e.outcome)),
            _ => None,
        };
        events.into_iter().filter_map(edge).collect()
    }
}

#[test]
fn pulses_that_meet_are_one_until_the_later_end_and_an_end_in_time_is_no_cut() {
    use State::{Active, Inactive};
    let mut line = Line::new();
    let told = line.until(400, &[(100, 1, 0b1), (130, 2, 0b1), (180, 3, 0b1), (300, 4, 0b1)]);
    let a: Vec<Told> = told.into_iter().filter(|(_, output, ..)| *output == 0).collect();
    let done = |part, state, at| (part, 0, state, at, Outcome::Done);
    // 100 to 150, 130 to 180, 180 to 230: one. 300 to 350: another.
    assert_eq!(a, [done(1, Active, 100), done(3, Inactive, 230), done(4, Active, 300), done(4, Inactive, 350)]);
}

#[test]
fn a_pulse_under_way_when_the_line_goes_safe_is_cut_at_once_with_its_part_and_nothing_else_is() {
    use State::{Active, Inactive};
    let mut line = Line::new();
    let before = line.until(120, &[(100, 7, 0b1111)]);
    assert_eq!(before.iter().filter(|(.., outcome)| *outcome != Outcome::Done).count(), 0, "{before:?}");
    line.actuator.go_safe(Reason::Engine, &*line.clock, &line.events);
    let told = line.told();
    let expected =
        [(7, 0, Inactive, 120, Outcome::Cut), (0, 2, Inactive, 120, Outcome::Done), (0, 3, Inactive, 120, Outcome::Done)];
    assert_eq!(told, expected, "the second pulse is where safety wants it: {before:?}");
    assert_eq!(line.actuator.not_safe(), 0);
    // Nothing of it comes afterwards, and the next part has its whole pulse.
    let after = line.until(300, &[(200, 8, 0b1)]);
    let a: Vec<Told> = after.into_iter().filter(|(_, output, ..)| *output == 0).collect();
    assert_eq!(a, [(8, 0, Active, 200, Outcome::Done), (8, 0, Inactive, 250, Outcome::Done)]);
}

/// A belt that ran back before the outputs' thread woke had never been at the gate.
#[test]
fn the_outputs_see_the_farthest_position_since_they_last_looked() {
    let belt = super::shared::Belt::default();
    let to = |position| Moment { at: Instant::default(), position };
    for position in [5, 8, 6] {
        belt.set(to(position));
    }
    assert_eq!((belt.take_peak(), belt.take_peak(), belt.position()), (8, 6, 6));
    belt.set(to(4));
    assert_eq!((belt.take_peak(), belt.take_peak()), (6, 4));
}

/// The outputs knew where the belt was, and not since when.
#[test]
fn the_outputs_are_told_when_the_belt_came_to_each_position_since_they_last_looked() {
    let belt = super::shared::Belt::default();
    let set = |position: i64, us: u64| belt.set(Moment { at: Instant::from_micros(us), position });
    let mut seen = 0;
    let mut look = || {
        let mut path = Vec::new();
        belt.follow(&mut seen, belt.take_peak(), |to| path.push((to.position, to.at.as_micros())));
        path
    };
    assert_eq!(look(), []);
    [(1, 10), (2, 20), (3, 30), (2, 40)].into_iter().for_each(|(position, us)| set(position, us));
    assert_eq!(look(), [(1, 10), (2, 20), (3, 30), (2, 40)]);
    [(3, 50), (4, 60)].into_iter().for_each(|(position, us)| set(position, us));
    assert_eq!((look(), look()), (vec![(3, 50), (4, 60)], vec![]));
    // As many as are kept, the newest.
    (5..50_000).for_each(|position| set(position, 100 + position as u64));
    let path = look();
    assert_eq!((path.len(), path.last()), (8192, Some(&(49_999, 50_099))));
}

/// A part that the camera found was where the belt was when its frame was looked at: by counts its
/// pulse came as much too late as the frame, and nobody was told.
#[test]
fn the_belt_was_where_it_was_when_the_part_was_seen() {
    let belt = super::shared::Belt::default();
    let was_at = |us: u64| belt.position_at(Instant::from_micros(us));
    assert_eq!(was_at(7), Some(0), "a belt that never moved");
    let set = |position: i64, us: u64| belt.set(Moment { at: Instant::from_micros(us), position });
    [(1, 10), (2, 20), (5, 50)].into_iter().for_each(|(position, us)| set(position, us));
    assert_eq!([5, 10, 19, 20, 49, 50, 90].map(was_at), [0, 1, 1, 2, 2, 5, 5].map(Some));
    // It ran back: nobody knows how far it was, but it has been to 4.
    set(4, 60);
    assert_eq!([19, 60, 70].map(was_at), [1, 4, 4].map(Some));
    (5..50_000).for_each(|position| set(position, 100 + position as u64));
    assert_eq!(was_at(50_099), Some(49_999));
    assert_eq!(was_at(50_099 - 8191), Some(49_999 - 8191));
    assert_eq!(was_at(50_099 - 8192), None, "of a moment before those that are kept nobody knows");
}

/// A gate five encoder counts behind its trigger, on a line that gives a belt 0.3 s to move again.
fn gate_by_belt() -> (Shared, Commands, Actuator, Timeline) {
    let text = "[encoder]\nchip = \"header\"\na = 22\n[outputs.gate]\ndelay_counts = 5\n";
    gate_behind(text, |patience| Patience { stands: patience.stands.map(|_| Micros(300_000)), ..patience })
}

/// The belt goes on by one count each 0.1 s, `counts` times.
fn drive(shared: &Shared, counts: i64) {
    for position in 1..=counts {
        std::thread::sleep(Millis(100).micros().duration());
        let moment = Moment { at: shared.clock.now(), position };
        shared.belt.set(moment);
        shared.commands.wake();
        shared.step(crate::station::Input::Belt(moment));
    }
}

/// The belt ran back before the outputs looked: a part that had been at the gate was never thrown
/// out.
#[test]
fn a_part_that_was_at_the_gate_before_the_belt_ran_back_has_its_pulse() {
    let (shared, commands, actuator, timeline) = gate_by_belt();
    let now = shared.clock.now();
    shared.commands.push(Command::Open { part: PartId(1), trigger: Moment::at(now), touching: false });
    shared.commands.push(Command::Verdict { part: PartId(1), calls: 1 });
    for position in [6, 3] {
        shared.belt.set(Moment { at: now, position });
    }
    shared.end(Ended::TriggerEnded);
    own_outputs(actuator, commands, &shared, Watch { watchdog: Micros(60_000_000), max_faults: 10, gated: false });
    let fired = timeline.lock().unwrap().iter().filter(|(_, state)| *state == State::Active).count();
    assert_eq!((fired, shared.events.counters().figures().given_up), (1, 0));
}

/// At a run's end what waited for the belt had a minute, whether the belt moved or not.
#[test]
fn a_part_that_goes_by_the_belt_is_waited_for_as_long_as_that_moves() {
    for (counts, given_up) in [(5, 0), (3, 1), (0, 1)] {
        let (shared, commands, actuator, timeline) = gate_by_belt();
        let watch = Watch { watchdog: Micros(60_000_000), max_faults: 10, gated: false };
        let begin = shared.clock.now();
        shared.commands.push(Command::Open { part: PartId(1), trigger: Moment::at(begin), touching: false });
        shared.commands.push(Command::Verdict { part: PartId(1), calls: 1 });
        shared.end(Ended::TriggerEnded);
        std::thread::scope(|scope| {
            scope.spawn(|| drive(&shared, counts));
            own_outputs(actuator, commands, &shared, watch);
        });
        let took = shared.clock.now().since(begin);
        let fired = timeline.lock().unwrap().iter().filter(|(_, state)| *state == State::Active).count() as u64;
        assert_eq!((shared.events.counters().figures().given_up, fired), (given_up, 1 - given_up), "{counts} counts");
        // It stood for 0.3 s after its last count, and pulses had half a second more.
        let least = Micros(if given_up > 0 { counts as u64 * 100_000 + 800_000 } else { 500_000 });
        assert!(took >= least && took < Micros(20_000_000), "{counts} counts: {took:?}, at least {least:?}");
    }
}
