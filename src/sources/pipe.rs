//! Reading whole frames from a file or pipe, with a time-out.
//!
//! Does not know what the bytes mean.

use super::NoFrame;
use crate::frame::CapturedAt;
use crate::time::{Instant, Micros};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A reader that waits at most so long.
pub(super) struct Pipe<R> {
    reader: R,
    /// Bytes read ahead, as far as headers and lines need it.
    held: Box<[u8; 4096]>,
    start: usize,
    end: usize,
}

/// Waits until one of `fds` has bytes or its end; says which.
pub(super) fn wait_for<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Duration) -> Result<[bool; N], NoFrame> {
    let mut polls = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let time = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
    match poll(&mut polls, Some(&time)) {
        Ok(_) => Ok(polls.map(|p| !p.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok([false; N]),
        Err(e) => Err(NoFrame::Gone(e.to_string())),
    }
}

impl<R: Read + AsFd> Pipe<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, held: Box::new([0; 4096]), start: 0, end: 0 }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Whether bytes (or the end) come within `timeout`.
    pub(super) fn ready(&self, timeout: Duration) -> Result<bool, NoFrame> {
        Ok(self.start < self.end || wait_for([self.fd()], timeout)?[0])
    }

    /// Fills `bytes` within `timeout`; says how far it came if the pipe ends or stalls.
    pub(super) fn fill(&mut self, bytes: &mut [u8], timeout: Duration) -> Result<(), NoFrame> {
        let begin = std::time::Instant::now();
        let needed = bytes.len();
        let mut found = needed.min(self.end - self.start);
        bytes[..found].copy_from_slice(&self.held[self.start..self.start + found]);
        self.start += found;
        while found < needed {
            if !self.ready(timeout.saturating_sub(begin.elapsed()))? {
                return Err(if found == 0 { NoFrame::Timeout } else { NoFrame::Truncated { found, needed } });
            }
            match self.reader.read(&mut bytes[found..]) {
                Ok(0) if found == 0 => return Err(NoFrame::End),
                Ok(0) => return Err(NoFrame::Truncated { found, needed }),
                Ok(n) => found += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(NoFrame::Gone(e.to_string())),
            }
        }
        Ok(())
    }

    /// The next byte.
    pub(super) fn byte(&mut self, timeout: Duration) -> Result<u8, NoFrame> {
        while self.start == self.end {
            if !self.ready(timeout)? {
                return Err(NoFrame::Timeout);
            }
            match self.reader.read(&mut self.held[..]) {
                Ok(0) => return Err(NoFrame::End),
                Ok(n) => (self.start, self.end) = (0, n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(NoFrame::Gone(e.to_string())),
            }
        }
        self.start += 1;
        Ok(self.held[self.start - 1])
    }

    /// Reads up to and without the next line feed, at most `line.len()` bytes; returns how many.
    pub(super) fn line(&mut self, line: &mut [u8], timeout: Duration) -> Result<usize, NoFrame> {
        for (at, place) in line.iter_mut().enumerate() {
            match self.byte(timeout) {
                Ok(b'\n') => return Ok(at),
                Ok(byte) => *place = byte,
                Err(NoFrame::Timeout | NoFrame::End) if at > 0 => {
                    return Err(NoFrame::Truncated { found: at, needed: at + 1 });
                }
                Err(e) => return Err(e),
            }
        }
        Err(NoFrame::Corrupt(format!("a header of more than {} bytes", line.len())))
    }

    /// What is there now of lines, without waiting; false once the pipe has ended.
    pub(super) fn drain(&mut self, each: &mut dyn FnMut(u8)) -> bool {
        loop {
            match self.byte(Duration::ZERO) {
                Ok(byte) => each(byte),
                Err(NoFrame::Timeout) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// When the frames of a pipe arrived, so far as that can be known.
///
/// A frame that was there already when it was looked for came at any time since the pipe was last
/// empty. And frames that follow one another faster than the camera makes them come out of
/// somebody's buffer: they are as old as the last that came in step. That wait is added to the
/// latency that somebody vouches for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The last frame that came in step.
    in_step: Instant,
    last: Instant,
    /// The earliest moment that was given to a frame: the next one's is later, as frames follow one
    /// another.
    given: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { in_step: now, last: now, given: now }
    }

    /// The time of a frame whose first byte was found at `now`. `waited`: the pipe was empty just
    /// before. `latency`: longest time from exposure to a pipe that is read at once, if it is
    /// stated.
    pub(super) fn captured(&mut self, now: Instant, waited: bool, interval: Micros, latency: Option<Micros>) -> CapturedAt {
        let slow_enough = now.since(self.last).0 >= interval.0 / 4 * 3;
        self.last = now;
        if waited && slow_enough {
            self.in_step = now;
        }
        self.given = self.in_step.max(self.given.plus(Micros(1))).min(now);
        CapturedAt::arrived(now, latency.map(|l| Micros(l.0 + now.since(self.given).0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that had to wait while the program started sends two seconds of old frames at once.
    #[test]
    fn frames_out_of_a_buffer_are_as_old_as_the_last_in_step() {
        let at = Instant::from_micros;
        let mut pace = Pace::new(at(0));
        let mut before = at(0);
        let mut from = |us: u64, waited: bool, interval: u64| {
            let captured = pace.captured(at(us), waited, Micros(interval), Some(Micros(0)));
            assert_eq!(captured.instant(), at(us));
            let from = captured.exposed_from().unwrap();
            assert!(from > before, "frames follow one another");
            before = from;
            from.as_micros()
        };
        for n in 0..60 {
            assert!(from(2_000_000 + 3_000 * n, n > 0, 33_333) < 100, "frame {n}");
        }
        let next = 2_177_000 + 33_000;
        assert_eq!(from(next, true, 33_333), next);
        assert_eq!(from(next + 50_000, false, 33_333), next + 1, "it had been waiting");
        assert_eq!(from(next + 51_000, true, 33_333), next + 2, "and the next came too soon behind it");
        assert_eq!(from(next + 90_000, true, 33_333), next + 90_000);
        // Nothing is known of the rate: being waited for is enough.
        assert_eq!(from(next + 91_000, true, 0), next + 91_000);
        assert_eq!(pace.captured(at(next + 200_000), true, Micros(0), None), CapturedAt::Unknown { at: at(next + 200_000) });
    }
}
