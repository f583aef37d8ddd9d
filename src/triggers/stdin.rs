//! Words as lines on standard input. The end of input is reported, since no more parts will come.
//!
//! A word counts when its line's end comes. Half a line stays from one run of the process to the
//! next: what is behind it is not taken for a word of its own.

use super::arrival::Arrivals;
use super::words::Lines;
use super::{Input, Odd, Trigger, TriggerError};
use crate::readable::is_readable;
use crate::time::{Clock, Instant, Micros};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that are read at once.
const CHUNK: usize = 4096;

/// What was read of a line whose end has not come. A process has one standard input.
static HALF_LINE: Mutex<Lines> = Mutex::new(Lines::new());

pub(super) struct Stdin<F = std::io::Stdin> {
    input: F,
    arrivals: Arrivals,
    lines: &'static Mutex<Lines>,
    chunk: Box<[u8; CHUNK]>,
    /// What of the chunk is not looked at yet, when it came, and whether that is known.
    left: std::ops::Range<usize>,
    at: Instant,
    is_known: bool,
    /// Parts whose moment is not known.
    lost: u32,
    /// Words that came between two runs and are not told yet.
    between: u64,
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
        Self::of(std::io::stdin(), &HALF_LINE, max_jitter, clock)
    }
}

impl<F: AsFd> Stdin<F> {
    fn of(input: F, lines: &'static Mutex<Lines>, max_jitter: Option<Micros>, clock: Arc<dyn Clock>) -> Self {
        Self {
            input,
            arrivals: Arrivals::new(clock, max_jitter),
            lines,
            chunk: Box::new([0; CHUNK]),
            left: 0..0,
            at: Instant::default(),
            is_known: true,
            lost: 0,
            between: 0,
            end: End::Open,
        }
    }

    /// The line that is being read.
    fn lines(&self) -> MutexGuard<'static, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next words of the chunk say.
    fn next_word(&mut self) -> Option<Input> {
        if self.between > 0 {
            self.between -= 1;
            return Some(Input::PassedOver(Odd::Between));
        }
        let mut lines = self.lines();
        while let Some(i) = self.left.next() {
            let said = lines.take(self.chunk[i], self.at);
            if let Some(input) = said.and_then(|said| self.judge(said)) {
                return Some(input);
            }
        }
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then_some(Input::Lost(lost))
    }

    /// A part whose moment is not known is none.
    fn judge(&mut self, said: Result<Input, Odd>) -> Option<Input> {
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

fn error(e: std::io::Error) -> TriggerError {
    TriggerError { input: "trigger", why: format!("standard input cannot be read: {e}") }
}

impl<F: AsFd + Send> Trigger for Stdin<F> {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
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
        let Some(arrival) = self.arrivals.wait(self.input.as_fd(), timeout).map_err(error)? else { return Ok(None) };
        (self.at, self.is_known) = (arrival.at, arrival.is_known);
        match rustix::io::read(&self.input, &mut self.chunk[..]) {
            Ok(0) => {
                self.end = End::Reached;
                let last = self.lines().end(self.at).and_then(|said| self.judge(said));
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

    /// Reads off as many bytes as wait now: a writer that does not stop may not keep a run from its
    /// begin.
    fn begin_anew(&mut self, begin: Instant) -> Result<(), TriggerError> {
        let mut rest = None;
        while self.end == End::Open && is_readable(self.input.as_fd(), Duration::ZERO).map_err(error)? {
            // A device that cannot say how much waits has no words of the past.
            let Ok(waiting) = rustix::io::ioctl_fionread(&self.input) else { break };
            let left = rest.get_or_insert(waiting);
            let room = CHUNK.min(usize::try_from(*left).unwrap_or(CHUNK));
            let mut lines = self.lines();
            if waiting == 0 {
                self.between += lines.end(begin).is_some() as u64;
                self.end = End::Reached;
            } else if room == 0 {
                break;
            } else {
                let read = rustix::io::read(&self.input, &mut self.chunk[..room]).map_err(|e| error(e.into()))?;
                *left -= read as u64;
                let words = self.chunk[..read].iter().filter(|byte| lines.take(**byte, begin).is_some());
                self.between += words.count() as u64;
            }
        }
        self.arrivals.begin_anew(begin);
        Ok(())
    }

    /// What was read. The rest waits in the input for the next run.
    fn left(&mut self) -> Option<Input> {
        self.next_word()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};
    use std::io::Write;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Instant {
            Instant::from_micros(5)
        }

        fn wait_until(&self, _: Instant) {}
    }

    /// Words that came between two runs opened parts of the next one at its begin: their gates hit
    /// other parts. A chunk that a run had read and half a line went with it: the rest of `ack` was
    /// a part.
    #[test]
    fn each_word_is_of_the_run_in_which_its_line_ended_or_is_passed_over_once() {
        const WORDS: [&str; 6] = ["trigger\n", "\n", "ack\n", "confirm\n", " trigger \r\n", "nonsense\n"];
        let expected = |word: usize| match word {
            0 | 1 | 4 => Input::Trigger { at: Instant::from_micros(5), position: None },
            2 => Input::Acknowledge(Instant::from_micros(5)),
            3 => Input::Confirm(Instant::from_micros(5)),
            _ => Input::PassedOver(Odd::UnknownWord),
        };
        let (seed, count) = drawn_cases(200);
        let mut totals = [0; 2];
        for case in 0..count {
            let mut random = Random::new(seed, case);
            let mut below = |n: usize| (random.next() % n as u64) as usize;
            let lines: &'static Mutex<Lines> = Box::leak(Box::new(Mutex::new(Lines::new())));
            let (reader, mut writer) = std::io::pipe().unwrap();
            let open = || Stdin::of(reader.try_clone().unwrap(), lines, None, Arc::new(Still));
            // Of each word, in its order, which it is, and when its line's end was written: the
            // run's number, or that of the run before and `true`.
            let (mut written, mut bytes) = (Vec::<(usize, (usize, bool))>::new(), Vec::new());
            let mut given = Vec::<(Input, usize)>::new();
            let (mut stdin, mut run) = (open(), 0);
            for _ in 0..40 {
                let is_open = match below(6) {
                    // The run ends, something may come, and another begins.
                    0 => {
                        given.extend(std::iter::from_fn(|| stdin.left()).map(|input| (input, run)));
                        false
                    }
                    1 | 2 => {
                        let some = (0..below(4)).map_while(|_| stdin.next(Duration::ZERO).unwrap());
                        given.extend(some.map(|input| (input, run)));
                        true
                    }
                    _ => true,
                };
                if is_open || below(3) > 0 {
                    bytes.extend((0..below(3)).flat_map(|_| {
                        let word = below(WORDS.len());
                        WORDS[word].bytes().map(move |byte| (word, byte))
                    }));
                    for (word, byte) in bytes.drain(..below(bytes.len() + 1)) {
                        writer.write_all(&[byte]).unwrap();
                        if byte == b'\n' {
                            written.push((word, (run, !is_open)));
                        }
                    }
                }
                if !is_open {
                    (stdin, run) = (open(), run + 1);
                    stdin.begin_anew(Instant::from_micros(5)).unwrap();
                }
            }
            given.extend(std::iter::from_fn(|| stdin.next(Duration::ZERO).unwrap()).map(|input| (input, run)));
            assert_eq!(given.len(), written.len(), "seed {seed}, case {case}: {given:?}, {written:?}");
            for ((input, by), (word, (at, is_between))) in given.iter().zip(&written) {
                let is_passed_over = *input == Input::PassedOver(Odd::Between);
                // What waits unread as a run ends is of none, either.
                let of_run =
                    if is_passed_over { at + 1 == *by } else { !is_between && at == by && *input == expected(*word) };
                assert!(of_run, "seed {seed}, case {case}: {input:?} by run {by}, {word} written in {at} {is_between}");
                totals[is_passed_over as usize] += 1;
            }
        }
        assert!(totals.iter().all(|n| *n as u64 > count), "{totals:?}");
    }

    /// A writer that has gone between two runs left half a line, and a run that never ended.
    #[test]
    fn an_end_between_two_runs_is_told_by_the_next_behind_what_came_before() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let lines: &'static Mutex<Lines> = Box::leak(Box::new(Mutex::new(Lines::new())));
        writer.write_all(b"ack\ntrigger").unwrap();
        drop(writer);
        let mut stdin = Stdin::of(reader, lines, None, Arc::new(Still));
        stdin.begin_anew(Instant::from_micros(5)).unwrap();
        let between = Some(Input::PassedOver(Odd::Between));
        let mut next = || stdin.next(Duration::ZERO).unwrap();
        assert_eq!([next(), next(), next(), next()], [between, between, Some(Input::Ended), None]);
    }
}
