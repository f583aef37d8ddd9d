//! What the threads of a run share: the clock, the queues, the belt, the parts' numbers, and why the run ends.
//!
//! Knows no concrete source, trigger or output.

use super::actuation::{Command, CommandQueue};
use super::capture::Exchange;
use super::clock::SystemClock;
use super::run::Ended;
use crate::board::Trouble;
use crate::decide::{Action, Decision, TagSet};
use crate::events::{Events, FaultKind, Latency, PartEvent, Percentiles, Remedy, TriggerEvent, What, Why};
use crate::fault::Reason;
use crate::line::{Admission, Intake, LineMask, Moment, PartId};
use crate::time::{Instant, Micros};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

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

/// What only the summary tells.
#[derive(Default)]
pub(super) struct Stats {
    /// From capture to scores.
    pub(super) latency: Percentiles,
    pub(super) edge_jitter: [u32; 4],
    pub(super) outputs_safe: bool,
    pub(super) realtime: Option<String>,
}

pub(super) struct Shared {
    pub(super) clock: SystemClock,
    pub(super) exchange: Exchange,
    pub(super) commands: CommandQueue,
    pub(super) events: Arc<Events>,
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
    /// How the line hung, if it did.
    pub(super) hung: OnceLock<Why>,
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

    /// Something that concerns all parts: all outputs to their safe state.
    pub(super) fn line_fault(&self, reason: Reason, why: Why) {
        self.events.fault(reason, None, Remedy::Safe, why);
        self.commands.push(Command::Safe(reason));
    }

    /// Something that may cost single parts their verdict: where outputs follow parts, those get the late action at their
    /// gate; where they follow tags, all outputs go safe. `part`: the one that it has cost, if that is known.
    pub(super) fn part_fault(&self, reason: Reason, part: Option<PartId>, why: Why) {
        let part = part.map(|id| id.0);
        match self.late {
            Some((late, _)) => self.events.fault(reason, part, Remedy::Action(late), why),
            None => {
                self.events.fault(reason, part, Remedy::Safe, why);
                self.commands.push(Command::Safe(reason));
            }
        }
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
        let admission = intake.edge(trigger);
        self.events.counters().too_close.store(intake.too_close(), Ordering::Relaxed);
        let part = match admission {
            Admission::Part(id) => Triggered { id, trigger, touching: false },
            Admission::Touching(id) => Triggered { id, trigger, touching: true },
            Admission::Ignored => return None,
            Admission::Safe => {
                self.line_fault(Reason::TooClose, Why::NONE);
                return None;
            }
        };
        let (at, position, touching) = (trigger.at, trigger.position, part.touching);
        self.events.tell(What::Trigger(TriggerEvent { part: part.id.0, trigger: at, position, touching }));
        if self.late.is_some() {
            self.commands.push(Command::Open { part: part.id, trigger, touching: part.touching });
        }
        if to_line && !self.exchange.trigger(part) {
            self.not_followed(part);
        }
        Some(part)
    }

    /// A part that nobody follows: all outputs safe, and it counts as one without a verdict.
    pub(super) fn not_followed(&self, part: Triggered) {
        self.line_fault(Reason::Overflow, Why::NONE);
        self.events.tell(What::Part(PartEvent {
            part: part.id.0,
            trigger: part.trigger.at,
            images: heapless::Vec::new(),
            captured_at: part.trigger.at,
            top: heapless::Vec::new(),
            decision: Decision::safe(Reason::Overflow),
            action: None,
            late: false,
            counted: TagSet::EMPTY,
            age: Micros(0),
            latency: Latency::default(),
            truth: None,
            right: None,
        }));
        self.part_ended();
    }

    /// A part's end was told; the last that was wanted ends the run.
    pub(super) fn part_ended(&self) {
        if self.parts > 0 && self.events.counters().parts() >= self.parts {
            self.end(Ended::Done);
        }
    }

    /// Brings the figures of the capture thread up to date.
    pub(super) fn count_frames(&self) {
        self.events.counters().skipped_frames.store(self.exchange.skipped(), Ordering::Relaxed);
    }

    /// What the line's thread stands at after a silence of `span`.
    pub(super) fn how_it_hung(&self, span: Micros) -> Why {
        let counters = self.events.counters();
        let begun = counters.inferences.load(Ordering::Relaxed);
        let seconds = span.0 as f64 / 1e6;
        match begun > counters.inferences_done.load(Ordering::Relaxed) {
            true => Why::of(&format_args!("model hung for {seconds:.1} s at inference {begun}")),
            false => Why::of(&format_args!("the line's thread hung for {seconds:.1} s after inference {begun}")),
        }
    }

    /// The board is in trouble; the line goes on.
    pub(super) fn board_fault(&self, trouble: Trouble) {
        self.events.fault(FaultKind::Board(trouble), None, Remedy::Told, Why::of(&trouble.mend()));
    }

    pub(super) fn set_realtime(&self, got: String) {
        self.stats.lock().expect("no thread panics while it holds this").realtime = Some(got);
    }
}
