//! What the threads of a run share: the station, and where its effects go: outputs, events, figures, the run's end.

use super::actuation::{Command, CommandQueue};
use super::capture::Exchange;
use super::clock::SystemClock;
use super::events::{Event, EventQueue, Latency, Summary};
use super::quantiles::Quantiles;
use super::run::Ended;
use super::truth::{Observer, Truth};
use crate::board::Trouble;
use crate::decide::{Action, Task, Verdict};
use crate::fault::Reason;
use crate::line::{LineMask, Moment};
use crate::scene::Crossing;
use crate::station::{Effect, Input, PartDone, Scope, Station, Ticket};
use crate::time::{Clock, Instant, Micros};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// The belt's position in encoder counts.
#[derive(Debug, Default)]
pub(super) struct Belt(AtomicI64);

impl Belt {
    pub(super) fn position(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, position: i64) {
        self.0.store(position, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub(super) struct Stats {
    pub(super) summary: Summary,
    pub(super) latency: Quantiles,
}

pub(super) struct Shared {
    pub(super) clock: SystemClock,
    pub(super) exchange: Exchange,
    pub(super) commands: CommandQueue,
    pub(super) events: Arc<EventQueue>,
    pub(super) belt: Belt,
    pub(super) station: Mutex<Station>,
    pub(super) task: Task,
    /// What the built-in conveyor's parts are; knows nothing of any other source.
    pub(super) truth: Mutex<Observer>,
    /// What a part without a verdict gets where outputs follow parts, and its lines.
    pub(super) late: Option<(Action, LineMask)>,
    pub(super) beat: AtomicU64,
    /// Whether the last that came from the camera was a frame.
    pub(super) camera: AtomicBool,
    /// Set when the outputs may end once what is in flight has passed.
    pub(super) drain: AtomicBool,
    /// Set when they have.
    pub(super) over: AtomicBool,
    pub(super) ended: Mutex<Option<Ended>>,
    pub(super) news: Condvar,
    pub(super) stats: Mutex<Stats>,
}

impl Shared {
    /// The first reason to end counts.
    pub(super) fn end(&self, why: Ended) {
        let first = *self.ended.lock().expect("no thread panics while it holds this").get_or_insert(why);
        // Before anything stops, so that the outputs never see a stop that is none.
        self.drain.fetch_or(first == Ended::Done, Ordering::Relaxed);
        self.exchange.stop.store(true, Ordering::Relaxed);
        self.news.notify_all();
    }

    fn count(&self, reason: Reason) -> u64 {
        let mut stats = self.stats.lock().expect("no thread panics while it holds this");
        let faults = &mut stats.summary.faults;
        match faults.iter_mut().find(|(k, _)| *k == reason.name()) {
            Some((_, n)) => {
                *n += 1;
                *n
            }
            None => {
                faults.push((reason.name(), 1));
                1
            }
        }
    }

    /// Gives the station one input now and carries out what follows; the frame that it wants classified comes back.
    pub(super) fn step(&self, input: Input<'_>) -> Option<Ticket> {
        self.step_after(Latency::default(), input)
    }

    /// The same after a frame was classified, which took `latency`.
    pub(super) fn step_after(&self, latency: Latency, input: Input<'_>) -> Option<Ticket> {
        let mut ticket = None;
        // The lock is held until everything is carried out, so that all queues see all parts in their order.
        let mut station = self.station.lock().expect("no thread panics while it holds this");
        let now = Moment { at: self.clock.now(), position: self.belt.position() };
        station.step(now, input, &mut |effect| match effect {
            Effect::Classify(wanted) => ticket = Some(wanted),
            effect => self.carry_out(now.at, latency, effect),
        });
        ticket
    }

    /// A part passes the trigger, unless the run is over.
    pub(super) fn trigger(&self, at: Instant, position: Option<i64>) {
        if !self.exchange.stop.load(Ordering::Relaxed) {
            let position = position.unwrap_or_else(|| self.belt.position());
            self.step(Input::Trigger(Moment { at, position }));
        }
    }

    /// Something failed that concerns all parts: all outputs to their safe state.
    pub(super) fn line_fault(&self, reason: Reason) {
        self.fault(reason, Scope::Line);
    }

    /// Time until the oldest part's deadline.
    pub(super) fn time_left(&self, now: Instant) -> Option<Micros> {
        self.station.lock().expect("no thread panics while it holds this").time_left(now)
    }

    fn carry_out(&self, now: Instant, latency: Latency, effect: Effect) {
        match effect {
            Effect::Classify(_) => unreachable!("taken by who steps"),
            Effect::Opened { part, trigger, touching } if self.late.is_some() => {
                self.commands.push(Command::Open { part, trigger, touching });
            }
            Effect::Opened { .. } => {}
            Effect::Now { part, calls } => self.commands.push(Command::Now { part, calls, at: now }),
            Effect::Doubt(part) => self.commands.push(Command::Doubt(part)),
            Effect::Fault { reason, scope } => self.fault(reason, scope),
            Effect::NotFollowed => self.count_part(|stats| stats.summary.safe += 1),
            Effect::Decided(done) => self.decided(now, latency, &done),
            Effect::Over(over) => self.end(over.into()),
        }
    }

    fn fault(&self, reason: Reason, scope: Scope) {
        let count = self.count(reason);
        let late = self.late.filter(|_| scope == Scope::Part);
        self.events.push(Event::Fault { kind: reason.name(), count, action: late.map_or("safe", |(a, _)| a.name()) });
        if late.is_none() {
            self.commands.push(Command::Safe(reason));
        }
    }

    /// A part's end: told, commanded, counted.
    fn decided(&self, now: Instant, latency: Latency, done: &PartDone) {
        let truth = self.truth.lock().expect("no thread panics while it holds this").of(done);
        // Both queues are bounded and never wait, so the order is for readers only: the part stands before its edges.
        self.events.push(Event::Part { done: *done, truth, age: now.since(done.captured_at), latency });
        let (part, calls, verdict) = (done.part.id, done.calls, done.decision.verdict);
        if self.late.is_some() {
            self.commands.push(Command::Verdict { part, calls });
        } else if !matches!(verdict, Verdict::Safe(_)) {
            self.commands.push(Command::Now { part, calls, at: now });
        }
        self.count_part(|stats| {
            if latency.total.0 > 0 {
                stats.latency.add(latency.total.0);
            }
            let s = &mut stats.summary;
            match (verdict, done.action) {
                (Verdict::Safe(_), _) | (_, None) => s.safe += 1,
                (_, Some(Action::Accept)) => s.accept += 1,
                (_, Some(Action::Reject)) => s.reject += 1,
                (_, Some(Action::Review)) => s.review += 1,
            }
            s.unknown += (verdict == Verdict::Unknown) as u64;
            s.foreign += (verdict == Verdict::Foreign) as u64;
            done.seen(self.task).iter().for_each(|t| s.by_tag[t.0 as usize] += 1);
            if let Some(Truth { right: Some(right), .. }) = truth {
                s.truth.get_or_insert([0, 0])[!right as usize] += 1;
            }
        });
    }

    fn count_part(&self, add: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.lock().expect("no thread panics while it holds this");
        stats.summary.parts += 1;
        add(&mut stats);
    }

    /// A crossing of the built-in conveyor's light barrier: what the part is, and how many were missed so far.
    pub(super) fn count_crossing(&self, crossing: Crossing, missed: u64) {
        self.truth.lock().expect("no thread panics while it holds this").crossed(crossing);
        self.stats.lock().expect("no thread panics while it holds this").summary.missed_triggers = missed;
    }

    /// The board is in trouble; the line goes on.
    pub(super) fn board_fault(&self, trouble: Trouble) {
        self.events.explain(&trouble.mend());
        self.events.push(Event::Fault { kind: trouble.name(), count: 1, action: "told" });
    }

    pub(super) fn set_realtime(&self, got: String) {
        self.stats.lock().expect("no thread panics while it holds this").summary.realtime = Some(got);
    }
}
