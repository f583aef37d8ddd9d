//! Reading whole frames from a file or pipe, with a time-out.
//!
//! Does not know what the bytes mean.

use super::NoFrame;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

/// A reader that waits at most so long for each piece.
pub(super) struct Pipe<R> {
    reader: R,
}

impl<R: Read + AsFd> Pipe<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader }
    }

    /// Whether bytes (or the end) come within `timeout`.
    pub(super) fn ready(&self, timeout: Duration) -> Result<bool, NoFrame> {
        let mut fds = [PollFd::new(&self.reader, PollFlags::IN)];
        let time = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
        match poll(&mut fds, Some(&time)) {
            Ok(n) => Ok(n > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(NoFrame::Gone(e.to_string())),
        }
    }

    /// Fills `bytes`; says how far it came if the pipe ends or stalls for `timeout`.
    pub(super) fn fill(&mut self, bytes: &mut [u8], timeout: Duration) -> Result<(), NoFrame> {
        let (mut found, needed) = (0, bytes.len());
        while found < needed {
            if !self.ready(timeout)? {
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

    /// Reads up to and without the next line feed, at most `line.len()` bytes; returns how many.
    pub(super) fn line(&mut self, line: &mut [u8], timeout: Duration) -> Result<usize, NoFrame> {
        for at in 0..line.len() {
            match self.fill(&mut line[at..=at], timeout) {
                Ok(()) if line[at] == b'\n' => return Ok(at),
                Ok(()) => {}
                Err(NoFrame::Timeout | NoFrame::End) if at > 0 => {
                    return Err(NoFrame::Truncated { found: at, needed: at + 1 });
                }
                Err(e) => return Err(e),
            }
        }
        Err(NoFrame::Corrupt(format!("a header of more than {} bytes", line.len())))
    }
}
