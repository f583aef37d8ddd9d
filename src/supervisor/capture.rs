//! The capture thread's slot: the newest frame wins, memory goes round, faults are counted and
//! never lost.
//!
//! It works with any [`Source`].

use crate::events::Why;
use crate::fault::Reason;
use crate::frame::CapturedAt;
use crate::sources::life::{Do, Life, Outcome};
use crate::sources::{FrameBuffer, NoFrame, Pacing, Source};
use crate::time::{Clock, Micros};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// What the capture thread hands over.
pub enum News {
    /// A frame.
    Frame(FrameBuffer),
    /// None, why, and what exactly happened.
    Fault(Reason, Why),
    /// The source was opened again: its format may differ.
    Reopened,
    /// No more frames will come, as there should be.
    End,
    /// A live source ended.
    Lost,
}

/// What a source is held to.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Longest time from one frame to the next.
    pub steady: Micros,
    /// Longest time from opening to the first frame.
    pub first: Micros,
    /// Whether a frame of unknown age is none.
    pub needs_time: bool,
}

#[derive(Default)]
struct Slot {
    frame: Option<FrameBuffer>,
    spare: Vec<FrameBuffer>,
    faults: heapless::Deque<(Reason, Why), 32>,
    reopened: bool,
    ended: Option<News>,
}

/// Where capture and line meet.
#[derive(Default)]
pub struct Exchange {
    slot: Mutex<Slot>,
    news: Condvar,
    taken: Condvar,
    skipped: AtomicU64,
    patience_us: AtomicU64,
    /// Set by the line when a source must be opened again.
    pub restart: AtomicBool,
    /// Set when the run ends.
    pub stop: AtomicBool,
}

impl Exchange {
    /// Waits at most `span` for news.
    pub fn take(&self, span: Micros) -> Option<News> {
        let slot = self.slot.lock().expect("no thread panics while it holds this");
        let quiet = |s: &mut Slot| s.frame.is_none() && s.faults.is_empty() && !s.reopened && s.ended.is_none();
        let (mut slot, _) =
            self.news.wait_timeout_while(slot, span.duration(), quiet).expect("no thread panics while it holds this");
        if let Some((reason, why)) = slot.faults.pop_front() {
            return Some(News::Fault(reason, why));
        }
        if std::mem::take(&mut slot.reopened) {
            return Some(News::Reopened);
        }
        if let Some(frame) = slot.frame.take() {
            self.taken.notify_one();
            return Some(News::Frame(frame));
        }
        slot.ended.take()
    }

    /// Gives a frame's memory back.
    pub fn give_back(&self, frame: FrameBuffer) {
        let mut slot = self.slot.lock().expect("no thread panics while it holds this");
        slot.spare.push(frame);
        self.taken.notify_one();
    }

    /// The slot's lock, as a thread holds it that is stopped within it.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Sized + '_ {
        self.slot.lock().expect("no thread panics while it holds this")
    }

    /// Frames that were replaced by a newer one before the line took them.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    fn put(&self, frame: FrameBuffer, pacing: Pacing) {
        let mut slot = self.slot.lock().expect("no thread panics while it holds this");
        if pacing == Pacing::Pulled {
            while slot.frame.is_some() && !self.stopped() {
                let wait = self.taken.wait_timeout(slot, Duration::from_millis(100));
                slot = wait.expect("no thread panics while it holds this").0;
            }
        }
        if let Some(older) = slot.frame.replace(frame) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            slot.spare.push(older);
        }
        self.news.notify_one();
    }

    fn spare(&self) -> FrameBuffer {
        self.slot.lock().expect("no thread panics while it holds this").spare.pop().unwrap_or_else(FrameBuffer::empty)
    }

    fn fault(&self, reason: Reason, why: &dyn std::fmt::Display) {
        let why = Why::of(why);
        // Faults that do not fit are of a kind that is already waiting.
        let _ = self.slot.lock().expect("no thread panics while it holds this").faults.push_back((reason, why));
        self.news.notify_one();
    }

    fn mark(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.slot.lock().expect("no thread panics while it holds this"));
        self.news.notify_one();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Longest time that the source may take to its next frame now.
    pub fn patience(&self) -> Micros {
        Micros(self.patience_us.load(Ordering::Relaxed))
    }

    /// The capture thread: fills frames until the source ends or the run stops, and opens it again
    /// when it must be.
    pub fn capture(&self, source: Box<dyn Source>, clock: &dyn Clock, watch: Watch) {
        match source.pacing() {
            Pacing::Live => self.capture_live(source, clock, watch),
            Pacing::Pulled => self.capture_pulled(source, watch),
        }
    }

    /// Frames that are read on demand: a damaged one is told, and the next one read.
    fn capture_pulled(&self, mut source: Box<dyn Source>, watch: Watch) {
        while !self.stopped() {
            let mut frame = self.spare();
            match source.next(&mut frame, watch.steady.duration()) {
                Ok(()) => self.hand_over(frame, watch, Pacing::Pulled),
                Err(fault) => {
                    self.give_back(frame);
                    let Some(reason) = fault.reason() else { break };
                    self.fault(reason, &fault);
                    if matches!(fault, NoFrame::Gone(_))
                        && let Err(e) = source.reopen()
                    {
                        self.fault(Reason::SourceGone, &e);
                        break;
                    }
                }
            }
            // Reading the same file again mends nothing, but what follows may be better.
            self.restart.store(false, Ordering::Relaxed);
        }
        self.mark(|s| s.ended = Some(News::End));
    }

    fn capture_live(&self, mut source: Box<dyn Source>, clock: &dyn Clock, watch: Watch) {
        /// Longest sleep between two looks at whether the run stops.
        const NAP: Micros = Micros(20_000);
        let mut life = Life::new(clock.now(), watch.steady, watch.first, source.interval());
        if let Some(took) = source.start() {
            life.has_started(clock.now(), took);
        }
        while !self.stopped() {
            self.patience_us.store(life.patience().0, Ordering::Relaxed);
            if self.restart.swap(false, Ordering::Relaxed) {
                life.restart(clock.now());
            }
            match life.next(clock.now()) {
                Do::Rest(span) => std::thread::sleep(span.min(NAP).duration()),
                Do::Reopen => match source.reopen() {
                    Ok(()) => {
                        self.mark(|s| s.reopened = true);
                        life.tell(clock.now(), Outcome::Opened);
                    }
                    Err(e) => {
                        self.fault(Reason::SourceGone, &e);
                        life.tell(clock.now(), Outcome::Refused);
                    }
                },
                Do::Ask(span) => {
                    let mut frame = self.spare();
                    match source.next(&mut frame, span.duration()) {
                        Ok(()) => {
                            self.hand_over(frame, watch, Pacing::Live);
                            life.tell(clock.now(), Outcome::Frame);
                        }
                        Err(fault) => {
                            self.give_back(frame);
                            let Some(reason) = fault.reason() else {
                                self.fault(Reason::SourceGone, &"the live source ended");
                                self.mark(|s| s.ended = Some(News::Lost));
                                return;
                            };
                            let outcome = match fault {
                                NoFrame::Timeout => Outcome::Nothing,
                                NoFrame::Gone(_) | NoFrame::FormatChanged(_) => Outcome::Lost,
                                _ if source.is_broken() => Outcome::Lost,
                                _ => Outcome::Damaged,
                            };
                            if life.tell(clock.now(), outcome) {
                                self.fault(reason, &source.explain(&fault));
                            }
                        }
                    }
                }
            }
        }
        self.mark(|s| s.ended = Some(News::End));
    }

    /// A frame for the line, unless nobody knows its age where that matters.
    fn hand_over(&self, mut frame: FrameBuffer, watch: Watch, pacing: Pacing) {
        if watch.needs_time && matches!(frame.captured_at, CapturedAt::Unknown { .. }) {
            let why = "a frame of unknown age is not used: it may show another part; state [trigger] max_latency_ms";
            self.fault(Reason::NoFrame, &why);
            return self.give_back(frame);
        }
        frame.captured_at = frame.captured_at.or_arrival();
        self.put(frame, pacing);
    }
}
