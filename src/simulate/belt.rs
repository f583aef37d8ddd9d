//! The belt, the camera and the model as events in time, in front of the real stage and actuator.
//!
//! Everything happens on one thread, in the order that the four threads of a run would see.

use super::ledger::{Edge, Ledger, Rules, Shown};
use super::random::strikes;
use super::view::Row;
use super::{Outcome, Script, SimulatedClock};
use crate::bundle::Bundle;
use crate::decide::{Combine, TagSet, Verdict};
use crate::engine::EngineError;
use crate::fault::Reason;
use crate::frame::CapturedAt;
use crate::head::TagId;
use crate::line::{Admission, Intake, MAX_LINES, Moment, Opened, PartId, Taken, Travel};
use crate::outputs::{Output, OutputError, State};
use crate::random::Random;
use crate::settings::{LineMode, Mode, Settings};
use crate::sources::Pacing;
use crate::supervisor::Triggered;
use crate::supervisor::actuation::{Actuator, Command};
use crate::supervisor::drill::Classifier;
use crate::supervisor::events::{Event, EventQueue};
use crate::supervisor::quantiles::Quantiles;
use crate::supervisor::routing::Routing;
use crate::supervisor::stage::{PartDone, Stage};
use crate::time::{Clock, Instant, Micros};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

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
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::FrameLost, Self::FrameCorrupt, Self::CameraGone, Self::Engine, Self::Touching, Self::Write];

    /// The name used on the command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrameLost => "lost",
            Self::FrameCorrupt => "corrupt",
            Self::CameraGone => "gone",
            Self::Engine => "engine",
            Self::Touching => "touching",
            Self::Write => "write",
        }
    }
}

/// A tag that no part has: nothing is in view.
const NOTHING: i32 = -1;

/// Answers what the frame in hand shows: one tag for sure, or none.
struct Oracle(Arc<AtomicI32>);

impl Classifier for Oracle {
    fn infer(&mut self, _: &[i8], logits: &mut [i32]) -> Result<(), EngineError> {
        const SURE: i32 = 20 << 16;
        let shown = self.0.load(Ordering::Relaxed);
        for (i, logit) in logits.iter_mut().enumerate() {
            *logit = if shown == i as i32 { SURE } else { -SURE };
        }
        Ok(())
    }
}

/// A line whose next write can be made to fail.
struct Flaky(Arc<AtomicBool>);

impl Output for Flaky {
    fn apply(&mut self, _: State) -> Result<(), OutputError> {
        if self.0.swap(false, Ordering::Relaxed) {
            return Err(OutputError { output: "simulated".into(), why: "a fault of the script".into() });
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Frame {
    exposed: Instant,
    shows: Shown,
    corrupt: bool,
}

/// A frame that the model works on.
#[derive(Clone, Copy)]
struct Working {
    frame: Frame,
    part: crate::line::Part,
    last: bool,
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
}

/// A line in simulation.
pub(super) struct Simulated<'s> {
    script: &'s Script,
    clock: Arc<SimulatedClock>,
    belt: Belt,
    stage: Stage,
    intake: Intake,
    actuator: Actuator,
    events: EventQueue,
    drained: Vec<Event>,
    shown: Arc<AtomicI32>,
    write_fails: Arc<AtomicBool>,
    tags: u16,
    ledger: Ledger,
    edges: [Vec<Edge>; MAX_LINES],
    arrivals: VecDeque<(Instant, Frame)>,
    slot: Option<Frame>,
    waiting: VecDeque<Triggered>,
    working: Option<Working>,
    to_verdict: Quantiles,
    outcome: Outcome,
}

impl<'s> Simulated<'s> {
    /// A line with nothing on it. Every way of `settings` must be a time.
    pub(super) fn new(bundle: &Bundle<'_>, settings: &Settings, script: &'s Script) -> Result<Self, String> {
        let clock = Arc::new(SimulatedClock::default());
        let shown = Arc::new(AtomicI32::new(NOTHING));
        let write_fails = Arc::new(AtomicBool::new(false));
        let stage = Stage::new(bundle, Box::new(Oracle(shown.clone())), settings, Pacing::Pulled)?;
        let routing = Routing::new(settings);
        let (late, late_calls) = routing.late();
        let flaky = write_fails.clone();
        let actuator = Actuator::with(&settings.outputs, late_calls, late.map_or("safe", |a| a.name()), |_| {
            Ok(Box::new(Flaky(flaky.clone())) as Box<dyn Output>)
        });
        let actuator = actuator.map_err(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let gated = settings.mode != LineMode::State;
        let Some(first_gate) = settings.first_gate().filter(|_| gated) else {
            return Err(
                "the settings have no gate to simulate; set [line] mode = \"gate\" and give each output a delay".into()
            );
        };
        let tags = bundle.contract.tags.len() as u16;
        let alone = |tag: u16| {
            let mut set = TagSet::EMPTY;
            set.insert(TagId(tag));
            routing.of(&Verdict::Present(set)).1
        };
        let time = |way: Travel| way.due(Moment::default()).map_or(Micros(0), |at| Micros(at.as_micros()));
        let rules = Rules {
            frames: settings.part.frames,
            needed: if settings.policy.combine == Combine::Best { 1 } else { settings.policy.k },
            to_camera: time(settings.part.to_camera),
            deadline: settings.part.deadline.micros(),
            first_gate,
            stale_after: settings.policy.stale_after.micros(),
            lines: settings
                .outputs
                .iter()
                .map(|o| {
                    let width = match o.mode {
                        Mode::Pulse(width) => Some(width.micros()),
                        _ => None,
                    };
                    o.gate_line().map(|g| (time(g.delay), width))
                })
                .collect(),
            late_calls,
            tag_calls: (0..tags).map(alone).collect(),
            unknown_calls: routing.of(&Verdict::Unknown).1,
        };
        let start = Instant::from_micros(1_000_000);
        let mut random = Random::new(script.seed, 0x0b17);
        let first = start.plus(script.spacing.draw(&mut random));
        Ok(Self {
            script,
            clock,
            belt: Belt {
                random,
                next_part: (script.parts > 0).then_some(first),
                parts_left: script.parts,
                next_exposure: start,
                exposures: 0,
                gone_until: Instant::default(),
            },
            stage,
            intake: Intake::new(settings.spacing),
            actuator,
            events: EventQueue::default(),
            drained: Vec::new(),
            shown,
            write_fails,
            tags,
            ledger: Ledger::new(rules),
            edges: std::array::from_fn(|_| Vec::new()),
            arrivals: VecDeque::new(),
            slot: None,
            waiting: VecDeque::new(),
            working: None,
            to_verdict: Quantiles::default(),
            outcome: Outcome { faults: Fault::ALL.map(|f| (f.name(), 0)).to_vec(), ..Outcome::default() },
        })
    }

    /// Runs the script to its end.
    pub(super) fn run(mut self) -> Result<Outcome, String> {
        /// How long the camera goes on after the last part.
        const TAIL: Micros = Micros(1_000_000);
        let mut end = None;
        loop {
            let now = self.clock.now();
            if self.belt.next_part.is_none() {
                let end = *end.get_or_insert(now.plus(TAIL));
                if now >= end && !self.actuator.is_busy() && self.working.is_none() {
                    break;
                }
            }
            let next = self.next_event(now);
            self.clock.wait_until(next);
            self.happen(next);
        }
        Ok(self.finish())
    }

    fn next_event(&self, now: Instant) -> Instant {
        let deadline = match self.working {
            None => self.stage.time_left(now).map(|left| now.plus(left.max(Micros(1)))),
            Some(_) => None,
        };
        let candidates = [
            self.belt.next_part,
            Some(self.belt.next_exposure),
            self.arrivals.front().map(|(at, _)| *at),
            self.working.map(|w| w.until),
            self.actuator.next_due(),
            deadline,
        ];
        candidates.into_iter().flatten().min().expect("the camera always has a next frame").max(now)
    }

    fn happen(&mut self, now: Instant) {
        if self.belt.next_part == Some(now) {
            self.part_comes(now);
        }
        if self.belt.next_exposure == now {
            self.expose(now);
        }
        while let Some((_, frame)) = self.arrivals.pop_front_if(|(at, _)| *at <= now) {
            self.slot = Some(frame);
        }
        if self.working.is_some_and(|w| w.until <= now) {
            self.answer(now);
        }
        self.line_thread(now);
        if self.strikes(Fault::Write) {
            self.write_fails.store(true, Ordering::Relaxed);
        }
        let armed = self.write_fails.load(Ordering::Relaxed);
        self.tick();
        if armed && !self.write_fails.swap(false, Ordering::Relaxed) {
            self.count(Fault::Write);
            self.ledger.safe_at.push(now);
            self.tick();
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
        let tag = self.belt.random.range(0, self.tags as i32 - 1) as u16;
        let trigger = Moment::at(now);
        let admitted = match self.intake.edge(trigger) {
            Admission::Part(id) => Some((id, false)),
            Admission::Touching(id) => Some((id, true)),
            Admission::Ignored | Admission::Safe => None,
        };
        if let Some((id, touching)) = admitted {
            self.ledger.passes(now, tag, touching);
            self.command(Command::Open { part: id, trigger, touching });
            self.waiting.push_back(Triggered { id, trigger, touching });
        }
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
        let came = self.ledger.rules.to_camera;
        let shows = self.ledger.before_camera(now).map(|i| &self.ledger.parts[i]);
        let shows = shows.filter(|p| now < p.trigger.plus(came).plus(self.script.in_view)).map(|p| p.tag);
        self.arrivals.push_back((arrival, Frame { exposed: now, shows, corrupt }));
    }

    /// What the line's thread does when it is not in the model: parts first, then the newest frame, then what is overdue.
    fn line_thread(&mut self, now: Instant) {
        while self.working.is_none() {
            if let Some(part) = self.waiting.pop_front() {
                self.open(part, now);
                continue;
            }
            let Some(frame) = self.slot.take() else { break };
            self.frame(frame, now);
        }
        if self.working.is_none() {
            while let Some(done) = self.stage.overdue(now) {
                self.done(&done);
            }
        }
    }

    fn open(&mut self, part: Triggered, now: Instant) {
        match self.stage.open(part) {
            Opened::Waits => {}
            Opened::Full => self.command(Command::Safe(Reason::Overflow)),
            Opened::Doubt(before) => self.command(Command::Doubt(before)),
        }
        if part.touching {
            for id in [PartId(part.id.0 - 1), part.id] {
                if let Some(done) = self.stage.give_up(now, id, Reason::TooClose) {
                    self.done(&done);
                }
            }
        }
    }

    fn frame(&mut self, frame: Frame, now: Instant) {
        if frame.corrupt {
            return;
        }
        let taken = self.stage.take(CapturedAt::Exposure { at: frame.exposed, uncertainty: Micros(0) });
        let (part, last) = match taken {
            Taken::NotOurs => return self.ledger.judge_frame(frame.exposed, now, None),
            Taken::More(part) => (part, false),
            Taken::Last(part) => (part, true),
        };
        self.ledger.judge_frame(frame.exposed, now, Some(part.id.0 - 1));
        let takes = self.script.inference.draw(&mut self.belt.random);
        let fails = self.strikes(Fault::Engine);
        self.outcome.busy.0 += takes.0;
        self.working = Some(Working { frame, part, last, since: now, until: now.plus(takes.max(Micros(1))), fails });
    }

    fn answer(&mut self, now: Instant) {
        let Some(Working { frame, part, last, since, fails, .. }) = self.working.take() else { return };
        if fails {
            self.count(Fault::Engine);
        }
        self.ledger.answered(frame.exposed, now, (!fails).then_some(frame.shows));
        self.shown.store(frame.shows.map_or(NOTHING, i32::from), Ordering::Relaxed);
        let answer = if fails { Err(Reason::Engine) } else { self.stage.infer() };
        let done = match answer {
            Ok(()) => self.stage.decide(now, frame.exposed, part, last),
            Err(reason) => Some(self.stage.fail(now, part, frame.exposed, reason)),
        };
        if let Some(done) = done {
            self.done(&done);
            self.to_verdict.add(now.since(part.trigger.at).0);
            let index = (part.id.0 - 1) as usize;
            if self.outcome.shown.len() < Row::SHOWN && index < 2 * Row::SHOWN {
                let trigger = part.trigger.at;
                self.outcome.shown.push(Row {
                    part: part.id.0,
                    trigger,
                    exposed: frame.exposed.since(trigger),
                    taken: since.since(trigger),
                    verdict: now.since(trigger),
                    action: done.action.map_or("safe", |a| a.name()),
                    late: done.late,
                    edges: Vec::new(),
                });
            }
        }
    }

    fn done(&mut self, done: &PartDone) {
        self.command(Command::Verdict { part: done.part.id, calls: done.calls });
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
            let Event::Edge { part, line, state, scheduled, done } = event else { continue };
            self.outcome.edges += 1;
            if scheduled != done {
                self.ledger.verdict.not_safe += 1;
            }
            let active = state == State::Active;
            // What ends a pulse is the last part of it, or nothing: only the moment counts.
            let belt_part = if active { part.wrapping_sub(1) } else { u64::MAX };
            self.edges[line as usize].push(Edge { at: done, active, part: belt_part });
            if let Some(row) = self.outcome.shown.iter_mut().find(|r| r.part == part && part > 0) {
                row.edges.push((line, active, done.since(row.trigger)));
            }
        }
    }

    fn finish(mut self) -> Outcome {
        // A write that failed ends what the same moment began, and makes lines safe that were safe already.
        for edges in &mut self.edges {
            let mut kept: Vec<Edge> = Vec::with_capacity(edges.len());
            for edge in edges.drain(..) {
                match kept.last() {
                    Some(last) if last.active && !edge.active && last.at == edge.at => drop(kept.pop()),
                    last if !edge.active && last.is_none_or(|l| !l.active) => {}
                    _ => kept.push(edge),
                }
            }
            *edges = kept;
        }
        let all_off = self.edges.iter().all(|e| e.last().is_none_or(|last| !last.active));
        self.ledger.verdict.not_safe += !all_off as u64;
        self.ledger.judge_edges(&self.edges);
        let parts = self.ledger.parts.len();
        let [p50, p99, p999] = self.to_verdict.at([500, 990, 999]);
        Outcome {
            parts: parts as u64,
            verdict: self.ledger.verdict,
            late: self.actuator.late(),
            undecided: (0..parts).filter(|i| !self.ledger.is_decided(*i)).count() as u64,
            line_time: self.clock.now().since(Instant::from_micros(1_000_000)),
            to_verdict: [p50, p99, p999, self.to_verdict.max()],
            ..self.outcome
        }
    }
}
