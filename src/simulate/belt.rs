//! The belt, the camera and the model as events in time, in front of the station and the outputs that a board runs too.
//!
//! Everything happens on one thread, in the order that the threads of a run would see: triggers at once, the newest frame
//! when the model is free, gates when they are due. What is right is the ledger's business.

use super::ledger::{Answer, Edge, Ledger, Noted};
use super::motion::Motion;
use super::random::strikes;
use super::site::Site;
use super::view::Row;
use super::{Outcome, Plan, Script, SimulatedClock};
use crate::events::{EdgeEvent, Event, Events, FaultKind, Outcome as PinOutcome, Percentiles, What};
use crate::fault::Reason;
use crate::frame::{CapturedAt, Fingerprint, TimedBy};
use crate::head::Score;
use crate::line::{MAX_LINES, Moment, Travel};
use crate::outputs::{Output, State, WriteError};
use crate::random::Random;
use crate::settings::{Drive, LineMode, OutputSettings, Settings};
use crate::station::{Effect, Input, PartDone, Scope, Station, Ticket};
use crate::supervisor::actuation::{Actuator, Command, EdgeRules, Health};
use crate::time::{Clock, Instant, Micros};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What fails on the simulated line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A frame never arrives.
    FrameLost,
    /// A frame arrives damaged.
    FrameCorrupt,
    /// The camera is gone for up to three seconds.
    CameraGone,
    /// The engine fails on a frame.
    Engine,
    /// The next part touches this one.
    Touching,
    /// An output cannot be written.
    Write,
    /// A trigger is told up to 70 ms after its moment.
    ToldLate,
    /// The line's program does not run for up to 1.5 s, as if stopped.
    Stall,
    /// A part that the model cannot tell: frames beyond the distance limit.
    Foreign,
    /// The camera gives one frame again and again for up to two seconds.
    Frozen,
    /// The program ends and is started again after up to three seconds.
    Restart,
    /// A part is not seen behind its gate in time.
    NotThrown,
    /// Something is seen behind the gate that was not thrown out.
    Stray,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::FrameLost,
        Self::FrameCorrupt,
        Self::CameraGone,
        Self::Engine,
        Self::Touching,
        Self::Write,
        Self::ToldLate,
        Self::Stall,
        Self::Foreign,
        Self::Frozen,
        Self::Restart,
        Self::NotThrown,
        Self::Stray,
    ];

    /// All kinds, at the rates of the long run: in a million frames, parts or moments.
    pub fn rates() -> Vec<(Self, u32)> {
        vec![
            (Self::FrameLost, 5000),
            (Self::FrameCorrupt, 3000),
            (Self::CameraGone, 20),
            (Self::Engine, 1000),
            (Self::Touching, 1000),
            (Self::Write, 500),
            (Self::ToldLate, 30_000),
            (Self::Stall, 100),
            (Self::Foreign, 5000),
            (Self::Frozen, 100),
            (Self::Restart, 20),
            (Self::NotThrown, 20_000),
            (Self::Stray, 1000),
        ]
    }

    /// The name used on the command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrameLost => "lost",
            Self::FrameCorrupt => "corrupt",
            Self::CameraGone => "gone",
            Self::Engine => "engine",
            Self::Touching => "touching",
            Self::Write => "write",
            Self::ToldLate => "told_late",
            Self::Stall => "stall",
            Self::Foreign => "foreign",
            Self::Frozen => "frozen",
            Self::Restart => "restart",
            Self::NotThrown => "not_thrown",
            Self::Stray => "stray",
        }
    }
}

/// What a pin did: which, when, and whether it is active now.
type Pins = Arc<Mutex<VecDeque<(u8, Instant, bool)>>>;

/// A line whose next write can be made to fail.
struct Flaky {
    pin: u8,
    fails: Arc<AtomicBool>,
    pins: Pins,
    clock: Arc<SimulatedClock>,
}

impl Output for Flaky {
    fn apply(&mut self, state: State) -> Result<(), WriteError> {
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err(WriteError::Drill);
        }
        let mut pins = self.pins.lock().expect("the simulation has one thread");
        pins.push_back((self.pin, self.clock.now(), state == State::Active));
        Ok(())
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self { pin: self.pin, fails: self.fails.clone(), pins: self.pins.clone(), clock: self.clock.clone() })
    }
}

/// What a part on the belt is.
#[derive(Clone, Copy)]
struct Kind {
    tag: u16,
    foreign: bool,
    /// Seed of its frames' scores.
    seed: u64,
}

#[derive(Clone)]
struct Frame {
    exposed: Instant,
    /// Which image it is: frames of a frozen camera are the same.
    image: u64,
    scores: Vec<u16>,
    beyond: bool,
    corrupt: bool,
}

/// A frame that the model works on.
struct Working {
    frame: Frame,
    ticket: Ticket,
    since: Instant,
    until: Instant,
    fails: bool,
}

/// What an input of the line tells, in the order of its edges.
#[derive(Clone, Copy)]
enum Told {
    Trigger(Moment),
    Belt(Moment),
    Seen(Instant),
}

/// The outputs of a board, all in their safe state.
fn actuator(
    plan: &Plan<'_>,
    settings: &Settings,
    write_fails: &Arc<AtomicBool>,
    pins: &Pins,
    clock: &Arc<SimulatedClock>,
) -> Actuator {
    let (late, late_calls) = settings.routing(plan.task).late();
    let open = |output: &OutputSettings| {
        let pin = settings.outputs.iter().position(|o| o.name == output.name).expect("it is one of them") as u8;
        let (fails, pins, clock) = (write_fails.clone(), pins.clone(), clock.clone());
        Ok(Box::new(Flaky { pin, fails, pins, clock }) as Box<dyn Output>)
    };
    let actuator = Actuator::open(&settings.outputs, late_calls, late, EdgeRules::of(settings), open);
    actuator.unwrap_or_else(|_| unreachable!("no simulated line is refused"))
}

/// The scripted belt: when parts come and what frames show.
struct Belt {
    random: Random,
    next_part: Option<Instant>,
    parts_left: u64,
    next_exposure: Instant,
    exposures: u64,
    gone_until: Instant,
    /// The image that the camera is stuck at, and until when.
    frozen: Option<(Instant, Frame)>,
    /// The program does not run until then, and since when.
    stall: Option<(Instant, Instant)>,
    next_press: Instant,
    motion: Motion,
    /// Whether the program is not there, instead of standing still.
    is_gone: bool,
    /// What is on its way to the line, and when it is told.
    told: VecDeque<(Instant, Told)>,
    /// What will be seen behind the gate, and when.
    falling: BTreeSet<Instant>,
    /// What passed, newest last, with the moment or the count at which it comes before the camera.
    passed: VecDeque<(Result<Instant, i64>, Kind)>,
}

/// A line in simulation.
pub(super) struct Simulated<'s> {
    script: &'s Script,
    clock: Arc<SimulatedClock>,
    belt: Belt,
    station: Station,
    plan: Plan<'s>,
    settings: &'s Settings,
    /// The encoder counts from a trigger at which something happens; empty without an encoder.
    counts: Vec<i64>,
    has_encoder: bool,
    to_camera: Travel,
    gated: bool,
    /// Whether equal frames mean a frozen camera.
    compares_images: bool,
    actuator: Actuator,
    /// Parts of earlier runs.
    before: u64,
    /// The farthest count that was told since the outputs last looked: a belt may run back meanwhile.
    peak: i64,
    /// Whether the camera's last frame could be used, and when it came.
    camera: (bool, Instant),
    pins: Pins,
    /// The sensor behind the gate: its line, and how long a part takes at most.
    sensor: Option<(u8, u64)>,
    events: Events,
    drained: Vec<Event>,
    names: Vec<String>,
    states: [bool; MAX_LINES],
    write_fails: Arc<AtomicBool>,
    tags: u16,
    ledger: Ledger,
    edges: BTreeMap<String, Vec<Edge>>,
    arrivals: VecDeque<(Instant, Frame)>,
    slot: Option<Frame>,
    working: Option<Working>,
    to_verdict: Percentiles,
    outcome: Outcome,
}

impl<'s> Simulated<'s> {
    /// A line with nothing on it.
    pub(super) fn new(plan: &Plan<'s>, settings: &'s Settings, script: &'s Script) -> Result<Self, String> {
        let clock = Arc::new(SimulatedClock::default());
        let write_fails = Arc::new(AtomicBool::new(false));
        let gated = settings.mode != LineMode::State;
        if !gated {
            return Err(
                "the settings have no gate to simulate; set [line] mode = \"gate\" and give each output a delay".into()
            );
        }
        let start = Instant::from_micros(1_000_000);
        clock.wait_until(start);
        let pins = Pins::default();
        let station = Station::new(settings.station(plan.task, 0)).map_err(|e| e.to_string())?;
        let actuator = actuator(plan, settings, &write_fails, &pins, &clock);
        let site =
            Site::read(plan.text, plan.tags, plan.task == crate::decide::Task::Multiclass).map_err(|e| e.to_string())?;
        let place = |name: &str| settings.outputs.iter().position(|o| o.name == name).map(|i| i as u8);
        let sensor = site.confirm.and_then(|c| Some((place(&site.lines[c.line].name)?, c.within_us)));
        let counts = site.counts();
        let has_encoder = !counts.is_empty() || matches!(settings.spacing.min, Travel::Counts(_));
        let mut random = Random::new(script.seed, 0x0b17);
        let first = start.plus(script.spacing.draw(&mut random));
        let mut states = [false; MAX_LINES];
        settings.outputs.iter().zip(&mut states).for_each(|(o, s)| *s = o.safe == State::Active);
        Ok(Self {
            script,
            clock: clock.clone(),
            belt: Belt {
                random,
                next_part: (script.parts > 0).then_some(first),
                parts_left: script.parts,
                next_exposure: start,
                exposures: 0,
                gone_until: Instant::default(),
                frozen: None,
                stall: None,
                next_press: start.plus(Micros(1_500_000)),
                motion: Motion::new(script.moves, script.counts_per_second, start),
                is_gone: false,
                told: VecDeque::new(),
                falling: BTreeSet::new(),
                passed: VecDeque::new(),
            },
            station,
            plan: *plan,
            settings,
            counts,
            has_encoder,
            to_camera: settings.part.to_camera,
            gated,
            compares_images: settings.frozen_after > 0,
            actuator,
            before: 0,
            peak: 0,
            camera: (true, start),
            pins,
            sensor,
            events: Events::kept(clock.clone()),
            drained: Vec::new(),
            names: settings.outputs.iter().map(|o| o.name.clone()).collect(),
            states,
            write_fails,
            tags: plan.tags.len() as u16,
            ledger: Ledger::new(site),
            edges: BTreeMap::new(),
            arrivals: VecDeque::new(),
            slot: None,
            working: None,
            to_verdict: Percentiles::default(),
            outcome: Outcome { faults: Fault::ALL.map(|f| (f.name(), 0)).to_vec(), ..Outcome::default() },
        })
    }

    /// Runs the script to its end.
    pub(super) fn run(mut self) -> Outcome {
        /// How long the camera goes on after the last part.
        const TAIL: Micros = Micros(1_000_000);
        let mut end = None;
        self.ledger.note(self.clock.now(), Noted::Started);
        loop {
            let now = self.clock.now();
            if self.belt.next_part.is_none() && self.belt.told.is_empty() && !self.belt.is_gone {
                let end = *end.get_or_insert(now.plus(TAIL));
                if now >= end && !self.actuator.is_busy() && self.working.is_none() {
                    break;
                }
            }
            let next = self.next_event(now);
            self.clock.wait_until(next);
            self.happen(next);
        }
        self.finish()
    }

    fn next_event(&self, now: Instant) -> Instant {
        let candidates = [
            self.belt.next_part,
            self.world(),
            self.belt.told.front().map(|(at, _)| *at),
            Some(self.belt.next_exposure),
            Some(self.belt.next_press),
            self.arrivals.front().map(|(at, _)| *at),
            self.working.as_ref().map(|w| w.until),
            self.actuator.next_due(),
            self.station.time_left(now).map(|left| now.plus(left.max(Micros(1)))),
            self.working.is_none().then(|| self.camera.1.plus(self.patience())),
        ];
        if let Some((_, to)) = self.belt.stall {
            // The world goes on meanwhile.
            let world = [self.belt.next_part, self.world(), Some(self.belt.next_exposure), Some(to)];
            return world.into_iter().flatten().min().expect("a stall has an end").max(now);
        }
        candidates.into_iter().flatten().min().expect("the camera always has a next frame").max(now)
    }

    /// When the belt or a part behind the gate does something.
    fn world(&self) -> Option<Instant> {
        let belt = self.belt.motion.next().filter(|_| self.has_encoder);
        belt.into_iter().chain(self.belt.falling.first().copied()).min()
    }

    /// How long the line goes without a frame.
    fn patience(&self) -> Micros {
        Micros(self.settings.frame_timeout.micros().0 + 1)
    }

    /// Puts something on its way to the line; edges of one input are told in their order.
    fn tell(&mut self, now: Instant, delay: u64, told: Told) {
        let at = self.belt.told.back().map_or(now, |(last, _)| *last).max(now.plus(Micros(delay)));
        self.belt.told.push_back((at, told));
    }

    /// The belt moves, parts fall.
    fn world_moves(&mut self, now: Instant) {
        if self.has_encoder {
            self.belt.motion.change(now, &mut self.belt.random);
            while let Some(position) = self.belt.motion.reached(now) {
                self.tell(now, 0, Told::Belt(Moment { at: now, position }));
            }
        }
        while let Some(at) = self.belt.falling.first().copied().filter(|at| *at <= now) {
            self.belt.falling.remove(&at);
            self.tell(now, 0, Told::Seen(at));
        }
    }

    /// The belt's count as far as the line can have been told of it.
    fn known_position(&self, now: Instant) -> i64 {
        if !self.has_encoder {
            return 0;
        }
        let on_its_way = self.belt.told.iter().find_map(|(_, told)| match told {
            Told::Belt(moment) => Some(moment.position - 1),
            Told::Trigger(moment) => Some(moment.position),
            Told::Seen(_) => None,
        });
        on_its_way.unwrap_or_else(|| self.belt.motion.position(now))
    }

    fn hear(&mut self, told: Told, now: Instant) {
        match told {
            Told::Trigger(trigger) => {
                self.ledger.passes(trigger.at, trigger.position, now);
                self.step(Input::Trigger(trigger));
            }
            Told::Belt(moment) => {
                self.ledger.belt(moment.position, moment.at, now);
                self.peak = self.peak.max(moment.position);
                self.step(Input::Belt(moment));
            }
            Told::Seen(at) => {
                self.ledger.note(now, Noted::Seen(at.as_micros()));
                self.command(Command::Confirm(at));
            }
        }
    }

    fn happen(&mut self, now: Instant) {
        let mut stood_still = false;
        self.world_moves(now);
        if self.belt.next_part == Some(now) {
            self.part_comes(now);
        }
        if self.belt.next_exposure == now {
            self.expose(now);
        }
        if let Some((from, to)) = self.belt.stall {
            if now < to {
                return;
            }
            self.belt.stall = None;
            if self.belt.is_gone {
                self.begin_again(now);
            } else {
                self.ledger.stalled(from, to);
                stood_still = true;
            }
        }
        while let Some((_, told)) = self.belt.told.pop_front_if(|(at, _)| *at <= now) {
            self.hear(told, now);
        }
        if self.belt.next_press <= now {
            self.belt.next_press = now.plus(Micros(self.belt.random.range(400_000, 4_000_000) as u64));
            self.ledger.note(now, Noted::Acknowledged);
            self.command(Command::Acknowledge(now));
        }
        while let Some((_, frame)) = self.arrivals.pop_front_if(|(at, _)| *at <= now) {
            self.slot = Some(frame);
        }
        if self.working.as_ref().is_some_and(|w| w.until <= now) {
            self.answer(now);
        }
        while self.working.is_none()
            && let Some(frame) = self.slot.take()
        {
            self.frame(frame, now);
        }
        if self.working.is_none() && now >= self.camera.1.plus(self.patience()) {
            self.no_frame(Reason::NoFrame, now);
        }
        self.step(Input::Tick);
        if self.sensor.is_some() && self.strikes(Fault::Stray) {
            self.count(Fault::Stray);
            self.belt.falling.insert(now.plus(Micros(1)));
        }
        if self.strikes(Fault::Write) {
            self.write_fails.store(true, Ordering::Relaxed);
        }
        let armed = self.write_fails.load(Ordering::Relaxed);
        self.tick();
        if stood_still {
            self.ledger.caught_up();
        }
        if armed && !self.write_fails.swap(false, Ordering::Relaxed) {
            self.count(Fault::Write);
            self.ledger.note(now, Noted::Safe);
            self.tick();
        }
        if self.strikes(Fault::Stall) {
            self.count(Fault::Stall);
            let to = now.plus(Micros(self.belt.random.range(1000, 1_500_000) as u64));
            self.belt.stall = Some((now.plus(Micros(1)), to));
        } else if self.strikes(Fault::Restart) {
            self.count(Fault::Restart);
            self.end(now);
        }
        self.outcome.most_in_flight = self.outcome.most_in_flight.max(self.actuator.in_flight());
    }

    /// Faults that struck, of the kinds that these settings allow.
    fn faults(&self) -> Vec<(&'static str, u64)> {
        let behind = [Fault::NotThrown, Fault::Stray].map(Fault::name);
        let allowed = |(name, _): &&(&str, u64)| self.sensor.is_some() || !behind.contains(name);
        self.outcome.faults.iter().filter(allowed).copied().collect()
    }

    /// The program ends: all lines are safe until it is there again.
    fn end(&mut self, now: Instant) {
        self.write_fails.store(false, Ordering::Relaxed);
        self.command(Command::Safe(Reason::Stopped));
        self.tick();
        self.ledger.note(now, Noted::Stopped);
        self.belt.is_gone = true;
        self.belt.stall = Some((now, now.plus(Micros(self.belt.random.range(1000, 3_000_000) as u64))));
    }

    /// The program is started again: nobody was there to hear of what happened meanwhile.
    fn begin_again(&mut self, now: Instant) {
        self.belt.is_gone = false;
        self.belt.told.clear();
        self.belt.next_press = self.belt.next_press.max(now.plus(Micros(1)));
        self.arrivals.clear();
        (self.slot, self.working) = (None, None);
        let rules = self.settings.station(self.plan.task, 0);
        self.station = Station::new(rules).expect("the same rules made a station before");
        let late = self.actuator.late();
        self.actuator = actuator(&self.plan, self.settings, &self.write_fails, &self.pins, &self.clock);
        self.outcome.late += late;
        self.before = self.ledger.parts() as u64;
        self.camera = (true, now);
        self.ledger.note(now, Noted::Started);
    }

    fn no_frame(&mut self, reason: Reason, now: Instant) {
        self.ledger.note(now, Noted::Camera(false));
        self.camera = (false, now);
        self.step_alone(Input::NoFrame(reason));
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        let rate = self.script.faults.iter().find(|(f, _)| *f == fault).map_or(0, |(_, rate)| *rate);
        strikes(&mut self.belt.random, rate)
    }

    fn count(&mut self, fault: Fault) {
        let (_, n) = self.outcome.faults.iter_mut().find(|(name, _)| *name == fault.name()).expect("all kinds are there");
        *n += 1;
    }

    fn part_comes(&mut self, now: Instant) {
        if self.has_encoder {
            let may = self.belt.motion.next_new(now);
            if may > now {
                self.belt.next_part = Some(may);
                return;
            }
        }
        let foreign = self.strikes(Fault::Foreign);
        if foreign {
            self.count(Fault::Foreign);
        }
        let tag = self.belt.random.range(0, self.tags as i32 - 1) as u16;
        let kind = Kind { tag, foreign, seed: self.belt.random.next() };
        let came = match self.to_camera {
            Travel::Time(span) => Ok(now.plus(span)),
            Travel::Counts(counts) => Err(self.belt.motion.position(now) + counts as i64),
        };
        if self.belt.passed.len() == 256 {
            self.belt.passed.pop_front();
        }
        self.belt.passed.push_back((came, kind));
        let delay = if self.strikes(Fault::ToldLate) {
            self.count(Fault::ToldLate);
            self.belt.random.range(1000, 70_000) as u64
        } else {
            0
        };
        let position = if self.has_encoder { self.belt.motion.position(now) } else { 0 };
        self.tell(now, delay, Told::Trigger(Moment { at: now, position }));
        self.counts.iter().for_each(|counts| self.belt.motion.want(position + counts));
        self.belt.parts_left -= 1;
        self.belt.next_part = (self.belt.parts_left > 0).then(|| {
            let gap = if self.strikes(Fault::Touching) {
                self.count(Fault::Touching);
                Micros(1000)
            } else {
                self.script.spacing.draw(&mut self.belt.random)
            };
            now.plus(gap.max(Micros(1)))
        });
    }

    fn expose(&mut self, now: Instant) {
        self.belt.exposures += 1;
        // Counted from the start, so that 30 frames a second do not drift by a third of a microsecond each.
        self.belt.next_exposure =
            Instant::from_micros(1_000_000 + self.belt.exposures * 1_000_000 / self.script.fps.max(1) as u64);
        if self.strikes(Fault::CameraGone) {
            self.count(Fault::CameraGone);
            self.belt.gone_until = now.plus(Micros(self.belt.random.range(200_000, 3_000_000) as u64));
        }
        let lost = self.strikes(Fault::FrameLost);
        let corrupt = self.strikes(Fault::FrameCorrupt);
        if now < self.belt.gone_until {
            return;
        }
        if lost {
            return self.count(Fault::FrameLost);
        }
        if corrupt {
            self.count(Fault::FrameCorrupt);
        }
        let arrival = now.plus(self.script.arrival.draw(&mut self.belt.random));
        let arrival = self.arrivals.back().map_or(arrival, |(last, _)| arrival.max(*last));
        // How long a part has been before the camera; by counts nobody knows, and it is in view.
        let since = |came: &Result<Instant, i64>| match came {
            Ok(at) => (*at <= now).then(|| now.since(*at)),
            Err(count) => (self.belt.motion.position(now) >= *count).then_some(Micros(0)),
        };
        let before = self.belt.passed.iter().rev().find_map(|(came, kind)| Some((since(came)?, *kind)));
        let shown = before.filter(|(since, _)| *since < self.script.in_view).map(|(_, kind)| kind);
        let (scores, beyond) = self.scores(shown);
        let mut frame = Frame { exposed: now, image: self.belt.exposures, scores, beyond, corrupt };
        if self.strikes(Fault::Frozen) {
            self.count(Fault::Frozen);
            let until = now.plus(Micros(self.belt.random.range(1000, 2_000_000) as u64));
            self.belt.frozen = Some((until, frame.clone()));
        }
        if let Some((_, stuck)) = self.belt.frozen.as_ref().filter(|(until, _)| now < *until) {
            frame = Frame { exposed: now, corrupt, ..stuck.clone() };
        }
        self.arrivals.push_back((arrival, frame));
    }

    /// What the model will say of a frame: mostly its part's tag for sure, now and then doubtful, near a threshold, or wrong.
    fn scores(&self, shown: Option<Kind>) -> (Vec<u16>, bool) {
        let Some(kind) = shown else { return (vec![900; self.tags as usize], false) };
        let mut r = Random::new(kind.seed, self.belt.exposures);
        let sure = r.range(0, 9) < 8;
        let score = |r: &mut Random, t: u16| match (sure, t == kind.tag) {
            (true, true) => r.range(52_000, 65_535) as u16,
            (true, false) => r.range(0, 9000) as u16,
            (false, _) => r.range(0, 65_535) as u16,
        };
        let scores = (0..self.tags).map(|t| score(&mut r, t)).collect();
        (scores, kind.foreign && r.range(0, 9) > 0)
    }

    fn frame(&mut self, frame: Frame, now: Instant) {
        if frame.corrupt {
            return self.no_frame(Reason::Corrupt, now);
        }
        self.camera = (true, now);
        let captured_at = CapturedAt::Exposure { at: frame.exposed, uncertainty: Micros(0), by: TimedBy::Shown };
        let print = self.compares_images.then_some(Fingerprint(frame.image));
        let ticket = self.step(Input::Frame { captured_at, shows: None, print });
        self.ledger.offered(frame.exposed, now, frame.image, ticket.as_ref().map(|t| self.before + t.part().id.0 - 1));
        let Some(ticket) = ticket else { return };
        let takes = self.script.inference.draw(&mut self.belt.random);
        let fails = self.strikes(Fault::Engine);
        self.outcome.busy.0 += takes.0;
        self.working = Some(Working { frame, ticket, since: now, until: now.plus(takes.max(Micros(1))), fails });
    }

    fn answer(&mut self, now: Instant) {
        let Some(Working { frame, ticket, since, fails, .. }) = self.working.take() else { return };
        let Frame { exposed, scores, beyond, .. } = frame;
        let part = ticket.part();
        self.camera.1 = now;
        if fails {
            self.count(Fault::Engine);
            self.ledger.answered(exposed, now, Answer::Failed);
            self.step_alone(Input::NotClassified { ticket, reason: Reason::Engine });
        } else {
            let given: Vec<Score> = scores.iter().map(|s| Score(*s)).collect();
            self.ledger.answered(exposed, now, Answer::Scores { scores, beyond });
            self.step_alone(Input::Scores { ticket, scores: &given, beyond });
        }
        self.to_verdict.add(now.since(part.trigger.at).0);
        if let Some(row) = self.outcome.shown.iter_mut().find(|r| r.part == part.id.0) {
            row.exposed = exposed.since(part.trigger.at);
            row.taken = since.since(part.trigger.at);
        }
    }

    fn step_alone(&mut self, input: Input<'_>) {
        let ticket = self.step(input);
        debug_assert!(ticket.is_none(), "only a frame is classified");
    }

    /// Gives the station an input now and carries out what follows.
    fn step(&mut self, input: Input<'_>) -> Option<Ticket> {
        let at = self.clock.now();
        let now = Moment { at, position: self.known_position(at) };
        let (mut ticket, mut effects) = (None, VecDeque::new());
        self.station.step(now, input, &mut |effect| match effect {
            Effect::Classify(wanted) => ticket = Some(wanted),
            effect => effects.push_back(effect),
        });
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Opened { part, trigger, touching } => self.command(Command::Open { part, trigger, touching }),
                Effect::Doubt { part, reason } => self.command(Command::Doubt { part, reason }),
                Effect::Decided(done) => self.decided(&done),
                Effect::Fault { reason, scope: Scope::Line, .. } => self.command(Command::Safe(reason)),
                Effect::Fault { scope: Scope::Part, .. } | Effect::Over(_) => {}
                Effect::Now { .. } | Effect::Classify(_) => debug_assert!(!self.gated, "outputs follow parts here"),
            }
        }
        ticket
    }

    fn decided(&mut self, done: &PartDone) {
        self.command(Command::Verdict { part: done.part.id, calls: done.calls });
        let trigger = done.part.trigger.at;
        if self.outcome.shown.len() < Row::SHOWN && done.part.id.0 <= 2 * Row::SHOWN as u64 && done.best.is_some() {
            let now = self.clock.now();
            self.outcome.shown.push(Row {
                part: done.part.id.0,
                trigger,
                exposed: done.captured_at.since(trigger),
                taken: Micros(0),
                verdict: now.since(trigger),
                action: done.action.map_or("safe", |a| a.name()),
                late: done.late,
                edges: Vec::new(),
            });
        }
    }

    fn command(&mut self, command: Command) {
        self.actuator.apply(command, &*self.clock, &self.events);
        self.drain();
    }

    fn tick(&mut self) {
        let position = self.known_position(self.clock.now());
        let peak = std::mem::replace(&mut self.peak, position).max(position);
        self.actuator.set_health(Health { alive: true, camera: self.camera.0 });
        self.actuator.tick(peak, &*self.clock, &self.events);
        self.drain();
    }

    fn drain(&mut self) {
        let mut drained = std::mem::take(&mut self.drained);
        self.events.take_all(&mut drained);
        for event in drained.drain(..) {
            let edge = match event.what {
                What::Edge(edge) => edge,
                What::Fault(fault) => {
                    match (fault.kind, fault.part) {
                        (FaultKind::NotRejected, Some(part)) => {
                            self.ledger.note(event.at, Noted::ToldNotRejected(self.before + part - 1));
                        }
                        (FaultKind::UnexpectedConfirmation, _) => self.ledger.note(event.at, Noted::ToldUnexpected),
                        _ => {}
                    }
                    continue;
                }
                _ => continue,
            };
            let EdgeEvent { part, output: line, state, done, outcome, .. } = edge;
            if outcome == PinOutcome::Failed {
                continue;
            }
            self.outcome.edges += 1;
            let active = state == State::Active;
            // What is told is what the pin did.
            if self.next_pin() != Some((line, done, active)) {
                self.ledger.verdict.not_safe += 1;
            }
            self.states[line as usize] = active;
            let edge = Edge { at: done, active, part: part.checked_sub(1).map(|part| part + self.before) };
            self.add_edge(line, edge);
            self.throw(line, active, done);
            if let Some(row) = self.outcome.shown.iter_mut().find(|r| r.part == part && part > 0) {
                row.edges.push((line, active, done.since(row.trigger)));
            }
        }
        self.drained = drained;
        if self.next_pin().is_some() {
            // A pin moved, and nobody was told.
            self.ledger.verdict.not_safe += 1;
        }
    }

    /// The next that a pin did and that is told. A heartbeat is not.
    fn next_pin(&mut self) -> Option<(u8, Instant, bool)> {
        loop {
            let (pin, at, active) = self.pins.lock().expect("the simulation has one thread").pop_front()?;
            if !matches!(self.settings.outputs[pin as usize].drive, Drive::Heartbeat(_)) {
                return Some((pin, at, active));
            }
            self.states[pin as usize] = active;
            self.add_edge(pin, Edge { at, active, part: None });
        }
    }

    fn add_edge(&mut self, line: u8, edge: Edge) {
        let name = &self.names[line as usize];
        match self.edges.get_mut(name) {
            Some(edges) => edges.push(edge),
            None => drop(self.edges.insert(name.clone(), vec![edge])),
        }
    }

    /// A pulse of the output that the sensor looks at throws a part out, which is seen in time, too late or never.
    fn throw(&mut self, line: u8, active: bool, at: Instant) {
        let Some((_, within)) = self.sensor.filter(|(sensor, _)| active && *sensor == line) else { return };
        let r = &mut self.belt.random;
        let falls = match r.range(0, 7) {
            0 => within,
            _ => r.range(1, within as i32) as u64,
        };
        let falls = if self.strikes(Fault::NotThrown) {
            self.count(Fault::NotThrown);
            match self.belt.random.range(0, 2) {
                0 => within + 1,
                1 => within + self.belt.random.range(1, 100_000) as u64,
                _ => return,
            }
        } else {
            falls
        };
        let mut seen = at.plus(Micros(falls));
        while !self.belt.falling.insert(seen) {
            seen = seen.plus(Micros(1));
        }
    }

    fn finish(mut self) -> Outcome {
        self.ledger.judge(&self.edges);
        self.command(Command::Safe(Reason::Stopped));
        let (names, states) = (&self.names, &self.states);
        self.ledger.judge_end(|name| names.iter().zip(states).any(|(n, active)| n == name && *active));
        let parts = self.ledger.parts();
        let [p50, p99, p999] = self.to_verdict.at([500, 990, 999]);
        Outcome {
            parts: self.script.parts,
            faults: self.faults(),
            verdict: self.ledger.verdict,
            first: self.ledger.first.take(),
            late: self.outcome.late + self.actuator.late(),
            undecided: (0..parts).filter(|i| !self.ledger.is_decided(*i)).count() as u64,
            line_time: self.clock.now().since(Instant::from_micros(1_000_000)),
            to_verdict: [p50, p99, p999, self.to_verdict.max()],
            ..self.outcome
        }
    }
}
