//! The line's thread: parts and frames in, verdicts out, a beat all the while.
//!
//! Knows no output line by name and no concrete source.

use super::actuation::Command;
use super::capture::News;
use super::record::Recorder;
use super::run::Ended;
use super::shared::{Shared, Triggered};
use super::stage::{Decided, PartDone, Stage};
use crate::decide::{TagSet, Verdict};
use crate::events::{FaultKind, Image, Images, Latency, PartEvent, Remedy, TOP, Why};
use crate::fault::Reason;
use crate::frame::CapturedAt;
use crate::head::{Score, TagId, top_k};
use crate::line::{Moment, Opened, PartId, Taken};
use crate::sources::FrameBuffer;
use crate::time::{Clock, Instant, Micros};
use std::sync::atomic::Ordering;

pub(super) struct LineThread<'s> {
    pub(super) stage: Stage,
    pub(super) shared: &'s Shared,
    pub(super) max_faults: u32,
    pub(super) engine_faults: u32,
    pub(super) record: Option<Recorder>,
    /// The images of parts that wait for their verdict.
    pub(super) images: Images,
}

impl LineThread<'_> {
    pub(super) fn run(&mut self, frame_timeout: Micros) {
        /// Longest wait between two beats.
        const BEAT: Micros = Micros(20_000);
        let shared = self.shared;
        let mut last_frame = shared.clock.now();
        while !shared.exchange.stop.load(Ordering::Relaxed) {
            let now = shared.clock.now();
            shared.beat.store(now.as_micros(), Ordering::Relaxed);
            let wait = self.stage.time_left(now).unwrap_or(BEAT).min(BEAT).max(Micros(500));
            let news = shared.exchange.take(wait);
            self.stage.advance(Moment { at: shared.clock.now(), position: shared.belt.position() });
            match news {
                Some(News::Part(part)) => self.open(part),
                Some(News::Frame(frame, at)) => {
                    last_frame = shared.clock.now();
                    self.frame(&frame, at);
                    shared.exchange.give_back(frame);
                }
                Some(News::Fault(reason, why)) => self.fault(reason, why),
                Some(News::Reopened) => {
                    self.stage.source_reopened();
                    last_frame = shared.clock.now();
                }
                Some(News::End) => self.source_ended(),
                None => {}
            }
            let now = shared.clock.now();
            if now.since(last_frame) > frame_timeout {
                last_frame = now;
                self.fault(Reason::NoFrame, Why::NONE);
            }
            while let Some(done) = self.stage.overdue(now) {
                self.finish(done, Latency::default(), Why::NONE);
            }
        }
    }

    /// No more frames will come: parts that wait for one get no verdict.
    fn source_ended(&mut self) {
        while let Some(done) = self.stage.abandon(self.shared.clock.now(), Reason::SourceGone) {
            self.finish(done, Latency::default(), Why::NONE);
        }
        self.shared.end(Ended::Done);
    }

    /// The camera gave no frame. Where outputs follow tags, nothing is known any more; where they follow parts, each still has
    /// until its deadline for another frame.
    fn fault(&mut self, reason: Reason, why: Why) {
        self.shared.camera.store(false, Ordering::Relaxed);
        if self.shared.late.is_some() {
            return self.shared.part_fault(reason, None, why);
        }
        let mut reported = false;
        while let Some(done) = self.stage.abandon(self.shared.clock.now(), reason) {
            self.finish(done, Latency::default(), why.clone());
            reported = true;
        }
        if !reported {
            self.shared.line_fault(reason, why);
        }
    }

    fn open(&mut self, part: Triggered) {
        match self.stage.open(part) {
            Opened::Waits => {}
            Opened::Full => self.shared.not_followed(part),
            // The part before was photographed when this one was already there.
            Opened::Doubt(before) => {
                self.shared.commands.push(Command::Doubt(before));
                self.shared.part_fault(Reason::TooClose, Some(before), Why::NONE);
            }
        }
        if part.touching {
            let now = self.shared.clock.now();
            for id in [PartId(part.id.0 - 1), part.id] {
                if let Some(done) = self.stage.give_up(now, id, Reason::TooClose) {
                    self.finish(done, Latency::default(), Why::NONE);
                }
            }
        }
    }

    fn frame(&mut self, frame: &FrameBuffer, at: CapturedAt) {
        let clock = &self.shared.clock;
        let begin = clock.now();
        match self.stage.look(frame, at) {
            Ok(trigger) => {
                let part = trigger.and_then(|at| self.shared.admit(at, None, false));
                if let Some(part) = part {
                    self.open(part);
                }
            }
            Err(reason) => {
                // A camera that shows one picture for ever, or another format, must be opened again.
                self.shared.exchange.restart.store(true, Ordering::Relaxed);
                return self.fault(reason, Why::NONE);
            }
        }
        self.shared.camera.store(true, Ordering::Relaxed);
        let (part, last) = match self.stage.take(at) {
            Taken::NotOurs => return,
            Taken::More(part) => (part, false),
            Taken::Last(part) => (part, true),
        };
        let captured = at.instant();
        self.images.add(part.id.0, Image { captured_at: captured, sequence: frame.sequence });
        let counters = self.shared.events.counters();
        counters.inferences.fetch_add(1, Ordering::Relaxed);
        let preprocessed = self.stage.preprocess(frame);
        let middle = clock.now();
        let outcome = preprocessed.and_then(|()| self.stage.infer());
        counters.inferences_done.fetch_add(1, Ordering::Relaxed);
        let end = clock.now();
        let mut why = Why::NONE;
        let latency = Latency { preprocess: middle.since(begin), infer: end.since(middle), total: end.since(captured) };
        let done = match outcome {
            Ok(()) => {
                self.engine_faults = 0;
                if let Some(record) = &mut self.record
                    && let Err(e) = record.keep(&self.stage)
                {
                    let why = Why::of(&format_args!("--record stops: {e}"));
                    self.shared.events.fault(FaultKind::Record, None, Remedy::Told, why);
                    self.record = None;
                }
                match self.stage.decide(end, captured, part, last) {
                    Decided::Wait => None,
                    Decided::Now(calls) => {
                        self.shared.commands.push(Command::Now { part: part.id, calls, at: end });
                        None
                    }
                    Decided::Part(done) => Some(done),
                }
            }
            Err(reason) => {
                if let Some(unusable) = self.stage.why_unusable(frame) {
                    why = Why::of(&unusable);
                }
                self.engine_faults += 1;
                if self.engine_faults >= self.max_faults {
                    self.shared.end(Ended::Held);
                }
                Some(self.stage.fail(end, part, captured, reason))
            }
        };
        if let Some(done) = done {
            self.finish(done, latency, why);
        }
    }

    /// A part's end: told and commanded. `why`: what exactly cost it its verdict, where that is known.
    fn finish(&mut self, done: PartDone, latency: Latency, why: Why) {
        let shared = self.shared;
        let now = shared.clock.now();
        let verdict = done.decision.verdict;
        shared.events.counters().missed_triggers.store(self.stage.missed_triggers(), Ordering::Relaxed);
        if latency.total.0 > 0 {
            shared.stats.lock().expect("no thread panics while it holds this").latency.add(latency.total.0);
        }
        let event = self.part_event(&done, now, latency);
        let scores = if done.best.is_some() { self.stage.last().2 } else { &[] };
        // Both queues are bounded and never wait, so the order is for readers only: the part stands before its edges.
        shared.events.part(event, scores);
        if let Verdict::Safe(reason) = verdict {
            shared.part_fault(reason, Some(done.part.id), why);
        }
        if shared.late.is_some() {
            shared.commands.push(Command::Verdict { part: done.part.id, calls: done.calls });
        } else if !matches!(verdict, Verdict::Safe(_)) {
            shared.commands.push(Command::Now { part: done.part.id, calls: done.calls, at: now });
        }
        shared.part_ended();
    }

    fn part_event(&mut self, done: &PartDone, now: Instant, latency: Latency) -> PartEvent {
        let mut best = [(TagId(0), Score(0)); TOP];
        let found = if done.best.is_some() { top_k(self.stage.last().2, &mut best) } else { 0 };
        let named = done.decision.tag.map_or(TagSet::EMPTY, TagSet::of);
        let counted = match done.decision.verdict {
            Verdict::Present => named.union(&done.decision.driving(self.stage.task())),
            _ => TagSet::EMPTY,
        };
        PartEvent {
            part: done.part.id.0,
            trigger: done.part.trigger.at,
            images: self.images.take(done.part.id.0),
            captured_at: done.captured_at,
            top: heapless::Vec::from_iter(best[..found].iter().copied()),
            decision: done.decision,
            action: done.action,
            late: done.late,
            counted,
            age: now.since(done.captured_at),
            latency,
            truth: done.truth,
            right: self.stage.is_right(done),
        }
    }
}
