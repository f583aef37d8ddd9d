//! The line's thread: parts and frames in, verdicts out, a beat all the while.
//!
//! Knows no output line by name and no concrete source.

use super::actuation::Command;
use super::capture::News;
use super::events::{Event, Latency};
use super::record::Recorder;
use super::run::Ended;
use super::shared::{Shared, Triggered};
use super::stage::{PartDone, Stage};
use crate::decide::{Action, Verdict};
use crate::fault::Reason;
use crate::frame::CapturedAt;
use crate::line::{Moment, Opened, PartId, Taken};
use crate::sources::FrameBuffer;
use crate::time::{Clock, Micros};
use std::sync::atomic::Ordering;

pub(super) struct LineThread<'s> {
    pub(super) stage: Stage,
    pub(super) shared: &'s Shared,
    pub(super) max_faults: u32,
    pub(super) engine_faults: u32,
    pub(super) record: Option<Recorder>,
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
                Some(News::Frame(frame)) => {
                    last_frame = shared.clock.now();
                    self.frame(&frame, frame.captured_at);
                    shared.exchange.give_back(frame);
                }
                Some(News::Fault(reason)) => self.fault(reason),
                Some(News::Reopened) => {
                    self.stage.source_reopened();
                    last_frame = shared.clock.now();
                }
                Some(News::End) => self.source_ended(Ended::Done),
                Some(News::Lost) => self.source_ended(Ended::SourceEnded),
                None => {}
            }
            let now = shared.clock.now();
            if now.since(last_frame) > frame_timeout.max(shared.exchange.patience()) {
                last_frame = now;
                self.fault(Reason::NoFrame);
            }
            while let Some(done) = self.stage.overdue(now) {
                self.finish(done, Latency::default());
            }
        }
    }

    /// No more frames will come: parts that wait for one get no verdict.
    fn source_ended(&mut self, how: Ended) {
        while let Some(done) = self.stage.abandon(self.shared.clock.now(), Reason::SourceGone) {
            self.finish(done, Latency::default());
        }
        self.shared.end(how);
    }

    /// The camera gave no frame. Where outputs follow tags, nothing is known any more; where they follow parts, each still has
    /// until its deadline for another frame.
    fn fault(&mut self, reason: Reason) {
        self.shared.camera.store(false, Ordering::Relaxed);
        if self.shared.late.is_some() {
            return self.shared.part_fault(reason);
        }
        let mut reported = false;
        while let Some(done) = self.stage.abandon(self.shared.clock.now(), reason) {
            self.finish(done, Latency::default());
            reported = true;
        }
        if !reported {
            self.shared.line_fault(reason);
        }
    }

    fn open(&mut self, part: Triggered) {
        match self.stage.open(part) {
            Opened::Waits => {}
            Opened::Full => self.shared.not_followed(),
            // The part before was photographed when this one was already there.
            Opened::Doubt(before) => {
                self.shared.commands.push(Command::Doubt(before));
                self.shared.part_fault(Reason::TooClose);
            }
        }
        if part.touching {
            let now = self.shared.clock.now();
            for id in [PartId(part.id.0 - 1), part.id] {
                if let Some(done) = self.stage.give_up(now, id, Reason::TooClose) {
                    self.finish(done, Latency::default());
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
                return self.fault(reason);
            }
        }
        self.shared.camera.store(true, Ordering::Relaxed);
        let (part, last) = match self.stage.take(at) {
            Taken::NotOurs => return,
            Taken::More(part) => (part, false),
            Taken::Last(part) => (part, true),
        };
        let captured = at.instant();
        let preprocessed = self.stage.preprocess(frame);
        let middle = clock.now();
        let outcome = preprocessed.and_then(|()| self.stage.infer());
        let end = clock.now();
        let latency = Latency { preprocess: middle.since(begin), infer: end.since(middle), total: end.since(captured) };
        let done = match outcome {
            Ok(()) => {
                self.engine_faults = 0;
                if let Some(record) = &mut self.record
                    && let Err(e) = record.keep(&self.stage)
                {
                    self.shared.events.explain(&format!("--record stops: {e}"));
                    self.record = None;
                }
                self.stage.decide(end, captured, part, last)
            }
            Err(reason) => {
                if let Some(why) = self.stage.why_unusable(frame) {
                    self.shared.events.explain(&why);
                }
                self.engine_faults += 1;
                if self.engine_faults >= self.max_faults {
                    self.shared.end(Ended::Held);
                }
                Some(self.stage.fail(end, part, captured, reason))
            }
        };
        if let Some(done) = done {
            self.finish(done, latency);
        }
    }

    /// A part's end: reported, commanded, counted.
    fn finish(&mut self, done: PartDone, latency: Latency) {
        let shared = self.shared;
        let now = shared.clock.now();
        // Both queues are bounded and never wait, so the order is for readers only: the part stands before its edges.
        shared.events.push(Event::Part { done, age: now.since(done.captured_at), latency });
        if let Verdict::Safe(reason) = done.verdict {
            shared.part_fault(reason);
        }
        if shared.late.is_some() {
            shared.commands.push(Command::Verdict { part: done.part.id, calls: done.calls });
        } else if !matches!(done.verdict, Verdict::Safe(_)) {
            shared.commands.push(Command::Now { part: done.part.id, calls: done.calls, at: now });
        }
        let missed_triggers = self.stage.missed_triggers();
        let right = self.stage.is_right(&done);
        shared.count_part(|stats| {
            if latency.total.0 > 0 {
                stats.latency.add(latency.total.0);
            }
            let s = &mut stats.summary;
            match (done.verdict, done.action) {
                (Verdict::Safe(_), _) | (_, None) => s.safe += 1,
                (_, Some(Action::Accept)) => s.accept += 1,
                (_, Some(Action::Reject)) => s.reject += 1,
                (_, Some(Action::Review)) => s.review += 1,
            }
            s.missed_triggers = missed_triggers;
            s.unknown += (done.verdict == Verdict::Unknown) as u64;
            if let Verdict::Present(set) = &done.verdict {
                set.iter().for_each(|t| s.by_tag[t.0 as usize] += 1);
            }
            if let Some(right) = right {
                s.truth.get_or_insert([0, 0])[!right as usize] += 1;
            }
        });
    }
}
