//! Reads whole frames from a file or pipe with a time-out, and finds when each frame arrived.
//!
//! The bytes are not interpreted; `y4m` and `rpicam` do that.

use super::NoFrame;
use crate::frame::CapturedAt;
use crate::readable;
use crate::time::{Clock, Instant, Micros};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A reader with time-outs.
pub(super) struct Pipe<R> {
    reader: R,
    /// Bytes read ahead, as far as headers and lines need it.
    held: Box<[u8; 4096]>,
    start: usize,
    end: usize,
}

/// Waits until one of `fds` has bytes or its end; says which.
pub(super) fn wait_for<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Duration) -> Result<[bool; N], NoFrame> {
    readable::which(fds, timeout).map_err(|e| NoFrame::Gone(e.to_string()))
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

    /// Fills `bytes` within `timeout`; the longest time for which none came once they had begun to.
    /// Says how far it came if the pipe ends or stalls.
    pub(super) fn fill(&mut self, bytes: &mut [u8], timeout: Duration) -> Result<Duration, NoFrame> {
        let begin = std::time::Instant::now();
        let mut pause = Duration::ZERO;
        let needed = bytes.len();
        let mut found = needed.min(self.end - self.start);
        bytes[..found].copy_from_slice(&self.held[self.start..self.start + found]);
        self.start += found;
        while found < needed {
            if !self.ready(Duration::ZERO)? {
                let waits_since = begin.elapsed();
                if waits_since >= timeout {
                    return Err(if found == 0 { NoFrame::Timeout } else { NoFrame::Truncated { found, needed } });
                }
                self.ready(timeout - waits_since)?;
                if found > 0 {
                    pause = pause.max(begin.elapsed() - waits_since);
                }
                continue;
            }
            match self.reader.read(&mut bytes[found..]) {
                Ok(0) if found == 0 => return Err(NoFrame::End),
                Ok(0) => return Err(NoFrame::Truncated { found, needed }),
                Ok(n) => found += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(NoFrame::Gone(e.to_string())),
            }
        }
        Ok(pause)
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

    /// Reads up to and without the next line feed within `timeout`, at most `line.len()` bytes;
    /// returns how many.
    pub(super) fn line(&mut self, line: &mut [u8], timeout: Duration) -> Result<usize, NoFrame> {
        let begin = std::time::Instant::now();
        for (at, place) in line.iter_mut().enumerate() {
            match self.byte(timeout.saturating_sub(begin.elapsed())) {
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

/// A pipe of frames seen from the reader: a real one, or one that a test plays.
pub(super) trait Look {
    /// This moment.
    fn now(&self) -> Instant;
    /// Whether the next frame's first byte (or the end) is there, or comes within `timeout`.
    fn begins(&mut self, timeout: Micros) -> Result<bool, NoFrame>;
}

impl<R: Read + AsFd> Look for (&Pipe<R>, &dyn Clock) {
    fn now(&self) -> Instant {
        self.1.now()
    }

    fn begins(&mut self, timeout: Micros) -> Result<bool, NoFrame> {
        self.0.ready(timeout.duration())
    }
}

/// A frame's first byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstByte {
    /// When it was found.
    pub(super) found: Instant,
    /// Since when it may have been there: the pipe was empty just before.
    pub(super) since: Instant,
    /// The pipe had been empty for some time, so the frame was not waiting in the writer's buffer:
    /// a buffer would have filled the pipe as soon as the previous frame was read.
    pub(super) in_step: bool,
}

impl FirstByte {
    /// Half-way between the two.
    pub(super) fn middle(self) -> Instant {
        self.since.plus(Micros(self.found.since(self.since).0 / 2))
    }
}

/// Times the first byte of each frame. This process may be held up during a wait, so a wait is cut
/// into short ones, each of which shows that the pipe was empty at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrivals {
    empty_at: Instant,
    found: Option<Instant>,
    /// When the last frame had been read.
    read_at: Instant,
    slice: Micros,
}

/// From one look at a pipe to the next, for frames that come each `interval`, 0 if unknown.
pub fn look_every(interval: Micros) -> Micros {
    const UNKNOWN: u64 = 33_000;
    let interval = if interval.0 == 0 { UNKNOWN } else { interval.0 };
    Micros((interval / 8).clamp(500, 50_000))
}

impl Arrivals {
    /// Of a pipe that was opened at `now`; `interval`: from one frame to the next, 0 if unknown.
    pub(super) fn new(now: Instant, interval: Micros) -> Self {
        Self { empty_at: now, found: None, read_at: now, slice: look_every(interval) }
    }

    /// Waits for the next frame's first byte.
    pub(super) fn first_byte(&mut self, pipe: &mut dyn Look, timeout: Micros) -> Result<FirstByte, NoFrame> {
        let end = pipe.now().plus(timeout);
        loop {
            // Looked at once more when the time is over: this process may have been held up since.
            let left = end.since(pipe.now());
            if self.look(pipe, left.min(self.slice))? {
                break;
            }
            if left.0 == 0 {
                return Err(NoFrame::Timeout);
            }
        }
        Ok(FirstByte {
            found: self.found.take().unwrap_or_else(|| pipe.now()),
            since: self.empty_at,
            in_step: self.empty_at >= self.read_at.plus(self.slice),
        })
    }

    /// The frame has been read, or given up, by `now`.
    pub(super) fn read(&mut self, now: Instant) {
        self.read_at = now;
    }

    /// Whether the next frame has begun, or does so within `span`.
    pub(super) fn look(&mut self, pipe: &mut dyn Look, span: Micros) -> Result<bool, NoFrame> {
        if self.found.is_none() {
            let before = pipe.now();
            match pipe.begins(span)? {
                true => self.found = Some(pipe.now()),
                false => self.empty_at = before.plus(span),
            }
        }
        Ok(self.found.is_some())
    }

    /// The longest wait before the pipe is looked at again.
    pub(super) fn slice(&self) -> Micros {
        self.slice
    }
}

/// Estimates when the frames of a pipe arrived.
///
/// A frame arrived at some time since the pipe was last seen empty. A frame directly behind the
/// previous one comes out of the writer's buffer: it may be as old as the last frame that was
/// waited for, which came *in step*. That wait is added to the stated latency.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The earliest arrival of the last frame that came in step.
    in_step: Instant,
    /// The earliest moment that was given to a frame: the next one's is later, as frames follow one
    /// another.
    given: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { in_step: now, given: now }
    }

    /// The time of a frame. `latency`: longest time from exposure to a pipe that is read at once,
    /// if it is stated.
    pub(super) fn captured(&mut self, first: FirstByte, latency: Option<Micros>) -> CapturedAt {
        if first.in_step {
            self.in_step = first.since;
        }
        let found = first.found;
        self.given = self.in_step.max(self.given.plus(Micros(1))).min(found);
        CapturedAt::arrived(found, latency.map(|l| Micros(l.0 + found.since(self.given).0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A writer that had to wait while the program started sends two seconds of old frames at once.
    #[test]
    fn frames_out_of_a_buffer_are_as_old_as_the_last_in_step() {
        let at = Instant::from_micros;
        let (mut pace, mut before) = (Pace::new(at(0)), at(0));
        let mut from = |us: u64, late: u64, in_step: bool| {
            let captured = pace.captured(FirstByte { found: at(us), since: at(us - late), in_step }, Some(Micros(0)));
            assert_eq!(captured.instant(), at(us));
            let from = captured.exposed_from().unwrap();
            assert!(from > before, "frames follow one another");
            before = from;
            from.as_micros()
        };
        for n in 0..60 {
            assert!(from(2_000_000 + 3_000 * n, if n > 0 { 0 } else { 2_000_000 }, false) < 100, "frame {n}");
        }
        assert_eq!(from(2_210_000, 1_000, true), 2_209_000);
        assert_eq!(from(2_260_000, 50_000, false), 2_209_001, "it had been waiting");
        assert_eq!(from(2_263_000, 0, false), 2_209_002, "and the next came right behind it");
        assert_eq!(from(2_400_000, 70_000, true), 2_330_000, "this process was held up");
        let first = FirstByte { found: at(2_500_000), since: at(2_500_000), in_step: true };
        assert_eq!(pace.captured(first, None), CapturedAt::Unknown { at: first.found });
    }

    /// A pipe whose first bytes come at stated moments, and a process that is held up as it waits.
    struct Played {
        now: Instant,
        frames: Vec<u64>,
        held_up: u64,
    }

    impl Look for Played {
        fn now(&self) -> Instant {
            self.now
        }

        fn begins(&mut self, timeout: Micros) -> Result<bool, NoFrame> {
            let limit = self.now.plus(timeout);
            let next = self.frames.first().map(|us| Instant::from_micros(*us)).filter(|at| *at <= limit);
            if timeout.0 > 0 {
                self.now = next.unwrap_or(limit).max(self.now).plus(Micros(std::mem::take(&mut self.held_up)));
            }
            Ok(next.is_some())
        }
    }

    #[test]
    fn a_first_byte_came_after_the_pipe_was_last_seen_empty_however_long_the_process_is_held_up() {
        for held_up in [0, 100, 5_000, 90_000] {
            let mut pipe = Played { now: Instant::default(), frames: vec![20_000, 53_000, 53_001], held_up: 0 };
            let mut arrivals = Arrivals::new(pipe.now, Micros(33_000));
            for (came, in_step) in [(20_000, true), (53_000, true), (53_001, false)] {
                pipe.held_up = if came == 53_000 { held_up } else { 0 };
                let first = arrivals.first_byte(&mut pipe, Micros(100_000)).unwrap();
                let came = Instant::from_micros(came);
                assert!(first.since <= came && came <= first.found, "{held_up}: {first:?}");
                assert_eq!(first.in_step, in_step, "{held_up}: {first:?}");
                pipe.frames.remove(0);
                pipe.now = pipe.now.plus(Micros(1_000));
                arrivals.read(pipe.now);
            }
            assert_eq!(arrivals.first_byte(&mut pipe, Micros(100_000)).unwrap_err(), NoFrame::Timeout);
        }
    }

    /// A writer that sends a byte each 20 ms never stalls for long, and never ends a frame either:
    /// its time-out was counted anew from each byte.
    #[test]
    fn a_frame_and_a_line_have_their_time_in_all_however_steadily_their_bytes_come() {
        let limit = Duration::from_millis(150);
        let dripping = |read: fn(&mut Pipe<std::io::PipeReader>, Duration) -> NoFrame| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            std::thread::scope(|scope| {
                // The other end leaves when its time is over, and the writer with it.
                scope.spawn(move || {
                    while writer.write_all(b"x").is_ok() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
                let (mut pipe, begin) = (Pipe::new(reader), std::time::Instant::now());
                let why = read(&mut pipe, limit);
                (why, begin.elapsed())
            })
        };
        for (why, took) in [
            dripping(|pipe, limit| pipe.fill(&mut [0; 500], limit).unwrap_err()),
            dripping(|pipe, limit| pipe.line(&mut [0; 500], limit).unwrap_err()),
        ] {
            assert!(matches!(why, NoFrame::Truncated { found: 1..100, .. }), "{why:?}");
            assert!(took >= limit && took < Duration::from_secs(3), "{took:?}");
        }
    }

    /// A process that was held up until its time was over called the wait in vain, although the
    /// frame had come meanwhile: the camera program was started again for it.
    #[test]
    fn what_came_while_the_process_was_held_up_is_no_time_out() {
        let wait = |came: u64| {
            let mut pipe = Played { now: Instant::default(), frames: vec![came], held_up: 200_000 };
            Arrivals::new(pipe.now, Micros(33_000)).first_byte(&mut pipe, Micros(100_000))
        };
        let first = wait(95_000).unwrap();
        let came = Instant::from_micros(95_000);
        assert!(first.since <= came && came <= first.found, "{first:?}");
        assert_eq!(wait(300_000).unwrap_err(), NoFrame::Timeout);
    }
}
