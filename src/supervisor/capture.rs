//! The capture thread's slot: the newest frame wins, memory goes round, faults are counted and never lost.
//!
//! Knows no concrete source.

use crate::events::Why;
use crate::fault::Reason;
use crate::frame::CapturedAt;
use crate::sources::{FrameBuffer, NoFrame, Pacing, Source, Stamp};
use crate::time::{Clock, Micros};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// What the capture thread hands over.
pub enum News {
    /// A frame.
    Frame(FrameBuffer, CapturedAt),
    /// None, why, and what exactly happened.
    Fault(Reason, Why),
    /// The source was opened again: its format may differ.
    Reopened,
    /// No more frames will come.
    End,
}

#[derive(Default)]
struct Slot {
    frame: Option<(FrameBuffer, CapturedAt)>,
    spare: Vec<FrameBuffer>,
    faults: heapless::Deque<(Reason, Why), 32>,
    reopened: bool,
    ended: bool,
}

/// Where capture and line meet.
#[derive(Default)]
pub struct Exchange {
    slot: Mutex<Slot>,
    news: Condvar,
    taken: Condvar,
    skipped: AtomicU64,
    /// Set by the line when a source must be opened again.
    pub restart: AtomicBool,
    /// Set when the run ends.
    pub stop: AtomicBool,
}

impl Exchange {
    /// Waits at most `span` for news.
    pub fn take(&self, span: Micros) -> Option<News> {
        let slot = self.slot.lock().expect("no thread panics while it holds this");
        let quiet = |s: &mut Slot| s.frame.is_none() && s.faults.is_empty() && !s.reopened && !s.ended;
        let (mut slot, _) =
            self.news.wait_timeout_while(slot, span.duration(), quiet).expect("no thread panics while it holds this");
        if let Some((reason, why)) = slot.faults.pop_front() {
            return Some(News::Fault(reason, why));
        }
        if std::mem::take(&mut slot.reopened) {
            return Some(News::Reopened);
        }
        if let Some((frame, at)) = slot.frame.take() {
            self.taken.notify_one();
            return Some(News::Frame(frame, at));
        }
        slot.ended.then_some(News::End)
    }

    /// Gives a frame's memory back.
    pub fn give_back(&self, frame: FrameBuffer) {
        let mut slot = self.slot.lock().expect("no thread panics while it holds this");
        slot.spare.push(frame);
        self.taken.notify_one();
    }

    /// Frames that were replaced by a newer one before the line took them.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    fn put(&self, frame: FrameBuffer, at: CapturedAt, pacing: Pacing) {
        let mut slot = self.slot.lock().expect("no thread panics while it holds this");
        if pacing == Pacing::Pulled {
            while slot.frame.is_some() && !self.stopped() {
                let wait = self.taken.wait_timeout(slot, Duration::from_millis(100));
                slot = wait.expect("no thread panics while it holds this").0;
            }
        }
        if let Some((older, _)) = slot.frame.replace((frame, at)) {
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

    /// The capture thread: fills frames until the source ends or the run stops; reopens with back-off.
    pub fn capture(
        &self,
        mut source: Box<dyn Source>,
        clock: &dyn Clock,
        timeout: Duration,
        explain: &dyn Fn(&dyn std::fmt::Display),
    ) {
        const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
        /// A camera that is plugged in again is back within this and the time that it takes to open.
        const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);
        /// Broken frames in a row after which the source is opened again.
        const PATIENCE: u32 = 5;
        let pacing = source.pacing();
        let (mut back_off, mut broken) = (FIRST_BACK_OFF, 0);
        while !self.stopped() {
            let mut frame = self.spare();
            let fault = match source.next(&mut frame, timeout) {
                Ok(()) => {
                    let at = match frame.stamp {
                        Stamp::Exposure(not_before) => CapturedAt::Exposure { not_before },
                        Stamp::Arrival => CapturedAt::Arrival(clock.now()),
                    };
                    self.put(frame, at, pacing);
                    (back_off, broken) = (FIRST_BACK_OFF, 0);
                    None
                }
                Err(e) => {
                    self.give_back(frame);
                    Some(e)
                }
            };
            let mut reopen = self.restart.swap(false, Ordering::Relaxed);
            if let Some(fault) = fault {
                let Some(reason) = fault.reason() else { break };
                self.fault(reason, &fault);
                broken += 1;
                reopen |= match fault {
                    NoFrame::Gone(_) => true,
                    // A file or pipe that is read on demand is not mended by reading it again.
                    _ if pacing == Pacing::Pulled => false,
                    NoFrame::Timeout | NoFrame::FormatChanged(_) => true,
                    _ => broken >= PATIENCE,
                };
            }
            while reopen && !self.stopped() {
                let end = clock.now().plus(Micros(back_off.as_micros() as u64));
                while clock.now() < end && !self.stopped() {
                    std::thread::sleep(Duration::from_millis(20).min(back_off));
                }
                back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                match source.reopen() {
                    Ok(()) => {
                        reopen = false;
                        broken = 0;
                        self.mark(|s| s.reopened = true);
                    }
                    Err(e) if pacing == Pacing::Pulled => {
                        explain(&e);
                        self.mark(|s| s.ended = true);
                        return;
                    }
                    Err(e) => self.fault(Reason::SourceGone, &e),
                }
            }
        }
        self.mark(|s| s.ended = true);
    }
}
