//! The belt, the camera and the model as events in time, in front of the station and the outputs that a board runs too.
//!
//! Everything happens on one thread, in the order that the threads of a run would see: triggers at once, the newest frame
//! when the model is free, gates when they are due. What is right is the ledger's business.

use super::ledger::{Answer, Edge, Ledger};
use super::random::strikes;
use super::site::Site;
use super::view::Row;
use super::{Outcome, Plan, Script, SimulatedClock};
use crate::events::{EdgeEvent, Event, Events, Outcome as PinOutcome, Percentiles, What};
use crate::fault::Reason;
use crate::frame::{CapturedAt, Fingerprint, TimedBy};
use crate::head::Score;
use crate::line::{MAX_LINES, Moment};
use crate::outputs::{Output, State, WriteError};
use crate::random::Random;
use crate::settings::{LineMode, Settings};
use crate::station::{Effect, Input, PartDone, Scope, Station, Ticket};
use crate::supervisor::actuation::{Actuator, Command, EdgeRules};
use crate::time::{Clock, Instant, Micros};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 10] = [
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
        }
    }
}

/// A line whose next write can be made to fail.
struct Flaky(Arc<AtomicBool>);

impl Output for Flaky {
    fn apply(&mut self, _: State) -> Result<(), WriteError> {
        if self.0.swap(false, Ordering::Relaxed) { Err(WriteError::Drill) } else { Ok(()) }
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self(self.0.clone()))
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
    /// Triggers on their way to the line: when they are told, and their moment.
    told: VecDeque<(Instant, Moment)>,
    /// What passed, newest last, with its trigger.
    passed: VecDeque<(Instant, Kind)>,
}

/// A line in simulation.
pub(super) struct Simulated<'s> {
    script: &'s Script,
    clock: Arc<SimulatedClock>,
    belt: Belt,
    station: Station,
    to_camera: Micros,
    gated: bool,
    /// Whether equal frames mean a frozen camera.
    compares_images: bool,
    actuator: Actuator,
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
    /// A line with nothing on it. Every way of `settings` must be a time.
    pub(super) fn new(plan: &Plan<'_>, settings: &Settings, script: &'s Script) -> Result<Self, String> {
        let clock = Arc::new(SimulatedClock::default());
        let write_fails = Arc::new(AtomicBool::new(false));
        let gated = settings.mode != LineMode::State;
        if settings.first_gate().filter(|_| gated).is_none() {
            return Err(
                "the settings have no gate to simulate; set [line] mode = \"gate\" and give each output a delay".into()
            );
        }
        let station = Station::new(settings.station(plan.task, 0)).map_err(|e| e.to_string())?;
        let (late, late_calls) = settings.routing(plan.task).late();
        let flaky = write_fails.clone();
        let actuator = Actuator::open(&settings.outputs, late_calls, late, EdgeRules::of(settings), |_| {
            Ok(Box::new(Flaky(flaky.clone())) as Box<dyn Output>)
        });
        let actuator = actuator.map_err(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let site = Site::read(plan.text, plan.tags, plan.task == crate::decide::Task::Multiclass, script.counts_per_second)
            .map_err(|e| e.to_string())?;
        let start = Instant::from_micros(1_000_000);
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
                told: VecDeque::new(),
                passed: VecDeque::new(),
            },
            station,
            to_camera: settings.part.to_camera.due(Moment::default()).map_or(Micros(0), |at| Micros(at.as_micros())),
            gated,
            compares_images: settings.frozen_after > 0,
            actuator,
            events: Events::kept(clock),
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
        loop {
            let now = self.clock.now();
            if self.belt.next_part.is_none() && self.belt.told.is_empty() {
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
            self.belt.told.front().map(|(at, _)| *at),
            Some(self.belt.next_exposure),
            Some(self.belt.next_press),
            self.arrivals.front().map(|(at, _)| *at),
            self.working.as_ref().map(|w| w.until),
            self.actuator.next_due(),
            self.station.time_left(now).map(|left| now.plus(left.max(Micros(1)))),
        ];
        if let Some((_, to)) = self.belt.stall {
            // The world goes on meanwhile.
            let world = [self.belt.next_part, Some(self.belt.next_exposure), Some(to)];
            return world.into_iter().flatten().min().expect("a stall has an end").max(now);
        }
        candidates.into_iter().flatten().min().expect("the camera always has a next frame").max(now)
    }

    fn happen(&mut self, now: Instant) {
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
            self.ledger.stalled(from, to);
        }
        while let Some((_, trigger)) = self.belt.told.pop_front_if(|(at, _)| *at <= now) {
            self.ledger.passes(trigger.at, now);
            self.step(Input::Trigger(trigger));
        }
        if self.belt.next_press <= now {
            self.belt.next_press = now.plus(Micros(self.belt.random.range(400_000, 4_000_000) as u64));
            self.ledger.acknowledged(now);
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
        self.step(Input::Tick);
        if self.strikes(Fault::Write) {
            self.write_fails.store(true, Ordering::Relaxed);
        }
        let armed = self.write_fails.load(Ordering::Relaxed);
        self.tick();
        if self.belt.stall.take().is_some() {
            self.ledger.caught_up();
        }
        if armed && !self.write_fails.swap(false, Ordering::Relaxed) {
            self.count(Fault::Write);
            self.ledger.goes_safe(now);
            self.tick();
        }
        if self.strikes(Fault::Stall) {
            self.count(Fault::Stall);
            let to = now.plus(Micros(self.belt.random.range(1000, 1_500_000) as u64));
            self.belt.stall = Some((now.plus(Micros(1)), to));
        }
        self.outcome.most_in_flight = self.outcome.most_in_flight.max(self.actuator.in_flight());
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
        let foreign = self.strikes(Fault::Foreign);
        if foreign {
            self.count(Fault::Foreign);
        }
        let tag = self.belt.random.range(0, self.tags as i32 - 1) as u16;
        let kind = Kind { tag, foreign, seed: self.belt.random.next() };
        if self.belt.passed.len() == 256 {
            self.belt.passed.pop_front();
        }
        self.belt.passed.push_back((now, kind));
        let delay = if self.strikes(Fault::ToldLate) {
            self.count(Fault::ToldLate);
            self.belt.random.range(1000, 70_000) as u64
        } else {
            0
        };
        // Edges of one input are told in their order.
        let told = self.belt.told.back().map_or(now, |(last, _)| *last).max(now.plus(Micros(delay)));
        self.belt.told.push_back((told, Moment::at(now)));
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
        let came = |trigger: Instant| trigger.plus(self.to_camera);
        let before = self.belt.passed.iter().rev().find(|(trigger, _)| came(*trigger) <= now);
        let shown = before.filter(|(trigger, _)| now < came(*trigger).plus(self.script.in_view)).map(|(_, kind)| *kind);
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
            return self.step_alone(Input::NoFrame(Reason::Corrupt));
        }
        let captured_at = CapturedAt::Exposure { at: frame.exposed, uncertainty: Micros(0), by: TimedBy::Shown };
        let print = self.compares_images.then_some(Fingerprint(frame.image));
        let ticket = self.step(Input::Frame { captured_at, shows: None, print });
        self.ledger.offered(frame.exposed, now, frame.image, ticket.as_ref().map(|t| t.part().id.0 - 1));
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
        let now = Moment::at(self.clock.now());
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
        self.actuator.tick(0, &*self.clock, &self.events);
        self.drain();
    }

    fn drain(&mut self) {
        self.events.take_all(&mut self.drained);
        for event in self.drained.drain(..) {
            let What::Edge(edge) = event.what else { continue };
            let EdgeEvent { part, output: line, state, done, outcome, .. } = edge;
            if outcome == PinOutcome::Failed {
                continue;
            }
            self.outcome.edges += 1;
            let active = state == State::Active;
            self.states[line as usize] = active;
            let edge = Edge { at: done, active, part: part.checked_sub(1) };
            let name = &self.names[line as usize];
            match self.edges.get_mut(name) {
                Some(edges) => edges.push(edge),
                None => drop(self.edges.insert(name.clone(), vec![edge])),
            }
            if let Some(row) = self.outcome.shown.iter_mut().find(|r| r.part == part && part > 0) {
                row.edges.push((line, active, done.since(row.trigger)));
            }
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
            verdict: self.ledger.verdict,
            first: self.ledger.first.take(),
            late: self.actuator.late(),
            undecided: (0..parts).filter(|i| !self.ledger.is_decided(*i)).count() as u64,
            line_time: self.clock.now().since(Instant::from_micros(1_000_000)),
            to_verdict: [p50, p99, p999, self.to_verdict.max()],
            ..self.outcome
        }
    }
}
