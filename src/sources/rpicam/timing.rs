//! When the camera program's frames were exposed, from what its two pipes give and when: one
//! sequence of questions, for the program's own pipes and for those that a test plays.

use super::pairing::{Paired, Pairing};
use crate::frame::{CapturedAt, TimedBy};
use crate::sources::pipe::{Arrivals, Look, Pace};
use crate::sources::{Limits, NoFrame};
use crate::time::{Instant, Micros};

/// The two pipes of a camera program: one of frames, one of metadata.
pub(super) trait Pipes: Look {
    /// Reads one frame, which may take `timeout`.
    fn read(&mut self, timeout: Micros) -> Result<(), NoFrame>;
    /// Hands over the metadata that is there, without waiting; false once that pipe has ended.
    fn metadata(&mut self, pairing: &mut Pairing) -> bool;
    /// Waits at most `timeout` for metadata or the next frame.
    fn wait(&mut self, timeout: Micros) -> Result<(), NoFrame>;
}

/// Looks for the next frame, and takes the lines that come before it.
struct Between<'p, P> {
    pipes: &'p mut P,
    pairing: &'p mut Pairing,
}

impl<P: Pipes> Look for Between<'_, P> {
    fn now(&self) -> Instant {
        self.pipes.now()
    }

    fn begins(&mut self, timeout: Micros) -> Result<bool, NoFrame> {
        // In this order: as long as no frame has begun, no line can be the next one's. That the
        // lines' pipe has ended is found again once the frame is there.
        let _ = self.pipes.metadata(self.pairing);
        let has_begun = self.pipes.begins(timeout)?;
        if has_begun {
            self.pairing.begins();
        } else {
            self.pairing.rests(0);
        }
        Ok(has_begun)
    }
}

/// Reads frames with their times.
pub(super) struct Timing {
    arrivals: Arrivals,
    pace: Pace,
    /// From one frame to the next, as the program was told.
    interval: Micros,
    /// None without metadata.
    pairing: Option<Pairing>,
    limits: Limits,
    /// See [`Timing::is_followed`].
    followed: bool,
    /// Whether a frame was read before.
    has_begun: bool,
}

impl Timing {
    /// Of a program that was started at `now`, whose frames follow one another by `interval`.
    pub(super) fn new(now: Instant, interval: Micros, limits: Limits, has_metadata: bool) -> Self {
        Self {
            arrivals: Arrivals::new(now, interval),
            pace: Pace::new(now),
            interval,
            pairing: has_metadata.then(|| Pairing::new(interval)),
            limits,
            followed: false,
            has_begun: false,
        }
    }

    /// Whether bytes came behind the last frame so soon that they may be its own: it was the first,
    /// or the camera had not yet had half the time for another.
    pub(super) fn is_followed(&self) -> bool {
        self.followed
    }

    /// From one frame to the next.
    pub(super) fn interval(&self) -> Micros {
        self.pairing.as_ref().map_or(self.interval, Pairing::interval)
    }

    /// Reads the next frame, waiting at most `timeout` for the whole of it, or two intervals once
    /// it has begun, where these are longer; when it was exposed. [`NoFrame::Gone`]: the program
    /// must be started again.
    pub(super) fn next(&mut self, pipes: &mut impl Pipes, timeout: Micros) -> Result<CapturedAt, NoFrame> {
        let end = pipes.now().plus(timeout);
        let first = match &mut self.pairing {
            Some(pairing) => self.arrivals.first_byte(&mut Between { pipes, pairing }, timeout)?,
            None => self.arrivals.first_byte(pipes, timeout)?,
        };
        let interval = self.interval();
        pipes.read(end.since(pipes.now()).max(Micros(2 * interval.0)))?;
        let now = pipes.now();
        self.arrivals.read(now);
        let soon = !self.has_begun || first.in_step && now.since(first.since).0 < interval.0 / 2;
        (self.followed, self.has_begun) = (soon && self.arrivals.look(pipes, Micros(0))?, true);
        let arrival = self.pace.captured(first, self.limits.latency);
        let Some(pairing) = &mut self.pairing else { return Ok(arrival) };
        // Metadata is awaited for one frame interval at most, and not once the next frame has
        // begun.
        let end = pipes.now().plus(pairing.interval());
        loop {
            // In this order: as long as the next frame has not begun, no line can be its own.
            let ended = !pipes.metadata(pairing);
            let begun = self.arrivals.look(pipes, Micros(0))?;
            let left = end.since(pipes.now());
            if !begun {
                pairing.rests(1);
            }
            let paired = pairing.pair(first, begun || ended || left.0 == 0);
            if begun {
                pairing.begins();
            }
            match paired {
                Paired::Known(at) => return Ok(CapturedAt::Exposure { at, uncertainty: Micros(0), by: TimedBy::Metadata }),
                Paired::Unknown(_)
                    if self.limits.needs_time && self.limits.latency.is_none() && pairing.is_lost(first.found) =>
                {
                    return Err(NoFrame::Gone(
                        "frames, or lines of the camera's metadata, are missing or late, so that no frame's time is known"
                            .into(),
                    ));
                }
                Paired::Unknown(about) => {
                    return Ok(match (arrival, about) {
                        (CapturedAt::Unknown { .. }, Some(at)) => CapturedAt::Unknown { at },
                        _ => arrival,
                    });
                }
                Paired::Wait => pipes.wait(left.min(self.arrivals.slice()))?,
            }
        }
    }
}
