//! Words as lines on standard input. The end of input is reported, since no more parts will come.

use super::arrival::Arrivals;
use super::words::Lines;
use super::{Input, Trigger, TriggerError};
use crate::time::{Clock, Instant, Micros};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that are read at once.
const CHUNK: usize = 4096;

pub(super) struct Stdin {
    arrivals: Arrivals,
    lines: Lines,
    chunk: Box<[u8; CHUNK]>,
    /// What of the chunk is not looked at yet, when it came, and whether that is known.
    left: std::ops::Range<usize>,
    at: Instant,
    is_known: bool,
    /// Parts whose moment is not known.
    lost: u32,
    end: End,
}

/// How far the input's end was told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Reached,
    Told,
}

impl Stdin {
    pub(super) fn new(max_jitter: Option<Micros>, clock: Arc<dyn Clock>) -> Self {
        Self {
            arrivals: Arrivals::new(clock, max_jitter),
            lines: Lines::default(),
            chunk: Box::new([0; CHUNK]),
            left: 0..0,
            at: Instant::default(),
            is_known: true,
            lost: 0,
            end: End::Open,
        }
    }

    /// What the next words of the chunk say.
    fn next_word(&mut self) -> Option<Input> {
        while let Some(i) = self.left.next() {
            let said = self.lines.take(self.chunk[i], self.at);
            if let Some(input) = said.and_then(|said| self.judge(said)) {
                return Some(input);
            }
        }
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then_some(Input::Lost(lost))
    }

    /// A part whose moment is not known is none.
    fn judge(&mut self, said: Result<Input, super::Odd>) -> Option<Input> {
        match said {
            Ok(input) if !self.is_known => match input.waited() {
                Input::Lost(parts) => {
                    self.lost += parts;
                    None
                }
                input => Some(input),
            },
            Ok(input) => Some(input),
            Err(odd) => Some(Input::PassedOver(odd)),
        }
    }
}

impl Trigger for Stdin {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
        let error =
            |e: std::io::Error| TriggerError { input: "trigger", why: format!("standard input cannot be read: {e}") };
        if let Some(input) = self.next_word() {
            return Ok(Some(input));
        }
        match self.end {
            End::Open => {}
            End::Reached => {
                self.end = End::Told;
                return Ok(Some(Input::Ended));
            }
            End::Told => {
                std::thread::sleep(timeout);
                return Ok(None);
            }
        }
        let stdin = std::io::stdin();
        let Some(arrival) = self.arrivals.wait(stdin.as_fd(), timeout).map_err(error)? else { return Ok(None) };
        (self.at, self.is_known) = (arrival.at, arrival.is_known);
        match rustix::io::read(&stdin, &mut self.chunk[..]) {
            Ok(0) => {
                self.end = End::Reached;
                let last = self.lines.end(self.at).and_then(|said| self.judge(said));
                return Ok(last.or_else(|| self.next_word()));
            }
            Ok(n) => {
                self.left = 0..n;
                self.arrivals.read(n, CHUNK, self.at);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(error(e.into())),
        }
        Ok(self.next_word())
    }
}
