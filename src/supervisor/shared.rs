//! What the threads of a run share: the clock, the queues, the belt, the parts' numbers, and why the run ends.
//!
//! Knows no concrete source, trigger or output.

use super::actuation::{Command, CommandQueue};
use super::capture::Exchange;
use super::clock::SystemClock;
use super::events::{Event, EventQueue, Summary};
use super::quantiles::Quantiles;
use super::run::Ended;
use crate::board::Trouble;
use crate::decide::Action;
use crate::fault::Reason;
use crate::line::{Admission, Intake, LineMask, Moment, PartId};
use crate::time::Instant;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A part that was just triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triggered {
    /// Its number.
    pub id: PartId,
    /// Its trigger.
    pub trigger: Moment,
    /// Whether it touches the part before it.
    pub touching: bool,
}

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
    pub(super) intake: Mutex<Intake>,
    /// Parts after which no more are opened; 0 for no limit.
    pub(super) parts: u64,
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

    /// Something that concerns all parts: all outputs to their safe state.
    pub(super) fn line_fault(&self, reason: Reason) {
        let count = self.count(reason);
        self.events.push(Event::Fault { kind: reason.name(), count, action: "safe" });
        self.commands.push(Command::Safe(reason));
    }

    /// Something that may cost single parts their verdict: where outputs follow parts, those get the late action at their
    /// gate; where they follow tags, all outputs go safe.
    pub(super) fn part_fault(&self, reason: Reason) {
        let Some((late, _)) = self.late else { return self.line_fault(reason) };
        let count = self.count(reason);
        self.events.push(Event::Fault { kind: reason.name(), count, action: late.name() });
    }

    /// A trigger edge: numbers the part and schedules its gates. Nothing if it is no part.
    pub(super) fn admit(&self, at: Instant, position: Option<i64>, to_line: bool) -> Option<Triggered> {
        if self.exchange.stop.load(Ordering::Relaxed) {
            return None;
        }
        let trigger = Moment { at, position: position.unwrap_or_else(|| self.belt.position()) };
        // The lock is held until both queues have the part, so that both see all parts in their order.
        let mut intake = self.intake.lock().expect("no thread panics while it holds this");
        if self.parts > 0 && intake.count() >= self.parts {
            return None;
        }
        let part = match intake.edge(trigger) {
            Admission::Part(id) => Triggered { id, trigger, touching: false },
            Admission::Touching(id) => Triggered { id, trigger, touching: true },
            Admission::Ignored => return None,
            Admission::Safe => {
                self.line_fault(Reason::TooClose);
                return None;
            }
        };
        if self.late.is_some() {
            self.commands.push(Command::Open { part: part.id, trigger, touching: part.touching });
        }
        if to_line && !self.exchange.trigger(part) {
            self.not_followed();
        }
        Some(part)
    }

    /// A part that nobody follows: all outputs safe, and it counts as one without a verdict.
    pub(super) fn not_followed(&self) {
        self.line_fault(Reason::Overflow);
        self.count_part(|stats| stats.summary.safe += 1);
    }

    /// A part's end in the figures; the last that was wanted ends the run.
    pub(super) fn count_part(&self, add: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.lock().expect("no thread panics while it holds this");
        stats.summary.parts += 1;
        add(&mut stats);
        let finished = self.parts > 0 && stats.summary.parts >= self.parts;
        drop(stats);
        if finished {
            self.end(Ended::Done);
        }
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
