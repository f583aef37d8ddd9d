//! The belt, the camera and the model as events in time, in front of the station and the outputs
//! that a board runs too.
//!
//! Everything happens on one thread, in the order that the threads of a run would see: triggers at
//! once, the newest frame when the model is free, gates when they are due. What is right is the
//! ledger's business.
//!
//! [`world`] is what passes and how the line is told of it, [`camera`] what frames show and what
//! the model says of them, [`models`] which model that is, [`pins`] what the outputs did.

mod camera;
mod models;
mod pins;
mod world;

use super::clock::SimulatedClock;
use super::fault::Fault;
use super::ledger::{Edge, Ledger, Noted};
use super::motion::Motion;
use super::random::strikes;
use super::script::{Outcome, Plan, Script};
use super::site::Site;
use super::view::Row;
use crate::events::{Event, Events, Percentiles};
use crate::fault::Reason;
use crate::gpio::{InputLine, Slope};
use crate::line::{MAX_LINES, Moment, Travel};
use crate::outputs::State;
use crate::random::Random;
use crate::settings::{LineMode, Settings};
use crate::station::{Effect, Input, Over, PartDone, Scope, Station, Ticket};
use crate::supervisor::actuation::{Actuator, Command, Health};
use crate::time::{Clock, Instant, Micros};
use crate::triggers::{Role, TriggerSpec};
use models::Models;
use pins::{Pins, actuator};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// When it is there.
    arrived: Instant,
    /// Which image it is: frames of a frozen camera are the same.
    image: u64,
    /// The part in view.
    shows: Option<Kind>,
    corrupt: bool,
}

/// A frame that the model works on.
struct Working {
    frame: Frame,
    ticket: Ticket,
    since: Instant,
    until: Instant,
    fails: bool,
    /// It takes longer than the watchdog bears.
    hangs: bool,
}

/// What an input of the line tells, in the order of its edges.
#[derive(Clone, Copy)]
enum Told {
    Trigger(Moment),
    Belt(Moment),
    Seen(Instant),
}

/// The scripted belt: when parts come and what frames show.
struct Belt {
    random: Random,
    next_part: Option<Instant>,
    /// When the last part passed the trigger.
    last_part: Option<Instant>,
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
    /// Longest time from a frame's exposure to its arrival, where only that is known of it.
    latency: Option<Micros>,
    /// Edges of the trigger's input that follow one another sooner are one, as its debouncing has
    /// it.
    debounce: Micros,
    /// The run ends by itself: the model hung, or too much failed in a row.
    ends: bool,
    actuator: Actuator,
    /// Parts of earlier runs.
    before: u64,
    /// The farthest count that was told since the outputs last looked: a belt may run back
    /// meanwhile.
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
    /// Faults that name one part whose gate did not move.
    told_of_one: u64,
    edges: BTreeMap<String, Vec<Edge>>,
    arrivals: VecDeque<(Instant, Frame)>,
    slot: Option<Frame>,
    working: Option<Working>,
    models: Models,
    to_verdict: Percentiles,
    outcome: Outcome,
}

/// Longest time from exposure to arrival, where frames are told apart from parts by it: a trigger
/// that is found in frames has their moments itself.
pub(super) fn latency(settings: &Settings) -> Option<Micros> {
    settings.max_latency.filter(|_| !settings.part.seen_in_frames)
}

/// The least time between two edges of the trigger's input: a part and the gap behind it each last
/// as long as its debouncing asks for. Where both slopes open parts, one of them does.
fn debounce(settings: &Settings) -> Micros {
    let lines = settings.inputs.iter().filter_map(|i| if let TriggerSpec::Gpio(g) = i { Some(&g.lines) } else { None });
    let of = |line: &InputLine| {
        let still = line.debounce.as_micros() as u64;
        Micros(if line.slope == Slope::Both { still } else { 2 * still })
    };
    lines.flatten().find(|(role, _)| *role == Role::Trigger).map_or(Micros(0), |(_, line)| of(line))
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
                last_part: None,
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
            latency: latency(settings),
            debounce: debounce(settings),
            ends: false,
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
            told_of_one: 0,
            edges: BTreeMap::new(),
            arrivals: VecDeque::new(),
            slot: None,
            working: None,
            models: Models::new(plan, script.seed, script.model_changes, start)?,
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
            // One that is wanted already waits for free room.
            self.models.next.filter(|at| *at > now),
        ];
        if let Some((_, to)) = self.belt.stall {
            // The world goes on meanwhile.
            let world = [self.belt.next_part, self.world(), Some(self.belt.next_exposure), Some(to)];
            return world.into_iter().flatten().min().expect("a stall has an end").max(now);
        }
        candidates.into_iter().flatten().min().expect("the camera always has a next frame").max(now)
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
        self.change_model(now);
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
        self.ledger.caught_up(now, stood_still);
        if armed && !self.write_fails.swap(false, Ordering::Relaxed) {
            self.count(Fault::Write);
            self.ledger.note(now, Noted::Safe);
            self.tick();
        }
        if std::mem::take(&mut self.ends) {
            self.end(now);
        } else if self.strikes(Fault::Stall) {
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
        self.start_model();
        self.camera = (true, now);
        self.ledger.note(now, Noted::Started);
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        let rate = self.script.faults.iter().find(|(f, _)| *f == fault).map_or(0, |(_, rate)| *rate);
        strikes(&mut self.belt.random, rate)
    }

    fn count(&mut self, fault: Fault) {
        let (_, n) = self.outcome.faults.iter_mut().find(|(name, _)| *name == fault.name()).expect("all kinds are there");
        *n += 1;
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
                Effect::Opened { part, .. } if self.script.loses == Some(self.before + part.0) => {}
                Effect::Opened { part, trigger, touching } => self.command(Command::Open { part, trigger, touching }),
                Effect::Doubt { part, reason } => self.command(Command::Doubt { part, reason }),
                Effect::Decided(done) => self.decided(&done),
                Effect::Fault { reason, scope: Scope::Line, .. } => self.command(Command::Safe(reason)),
                Effect::Over(Over::Held) => {
                    self.outcome.held += u64::from(!self.ends);
                    self.ends = true;
                }
                Effect::Fault { scope: Scope::Part, .. } | Effect::Over(_) | Effect::Model { .. } | Effect::Unopened => {}
                Effect::Now { .. } | Effect::Classify(_) => debug_assert!(!self.gated, "outputs follow parts here"),
            }
        }
        ticket
    }

    fn decided(&mut self, done: &PartDone) {
        let part = self.before + done.part.id.0 - 1;
        self.ledger.judged_by(part as usize, self.models.at(done.model), self.clock.now());
        self.command(Command::Verdict { part: done.part.id, calls: done.calls });
        let trigger = done.part.trigger.at;
        if self.before == 0
            && self.outcome.shown.len() < Row::SHOWN
            && done.part.id.0 <= 2 * Row::SHOWN as u64
            && done.best.is_some()
        {
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

    /// The row that shows a part. Only the first run is shown: the next one counts its parts anew.
    fn row(&mut self, part: u64) -> Option<&mut Row> {
        self.outcome.shown.iter_mut().find(|row| self.before == 0 && row.part == part)
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

    fn finish(mut self) -> Outcome {
        self.ledger.judge(&self.edges);
        self.ledger.judge_given_up(self.events.counters().figures().given_up + self.told_of_one, &self.edges);
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
            harmed: self.ledger.harmed,
            given_up: self.events.counters().figures().given_up,
            unseen: self.script.parts - parts as u64,
            undecided: (0..parts).filter(|i| !self.ledger.is_decided(*i)).count() as u64,
            line_time: self.clock.now().since(Instant::from_micros(1_000_000)),
            to_verdict: [p50, p99, p999, self.to_verdict.max()],
            ..self.outcome
        }
    }
}
