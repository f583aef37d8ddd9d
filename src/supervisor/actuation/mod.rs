//! Owns the outputs: brings lines to the state that verdicts call for, ends pulses, goes safe.
//!
//! Runs no model code and reads no clock; [`Actuator`] is told the time, `run` gives it a thread.

use super::events::{Event, EventQueue};
use super::quantiles::Quantiles;
use super::stage::LineMask;
use crate::decide::SafeReason;
use crate::outputs::{self, Output, OutputError, State};
use crate::settings::{MAX_OUTPUTS, Mode, OutputSettings};
use crate::time::{Clock, Instant, Micros};
use heapless::Deque;
use std::sync::{Condvar, Mutex};

/// What the line tells the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A part was decided: these lines are called for.
    Verdict {
        /// The part's number.
        part: u64,
        /// Lines called for.
        calls: LineMask,
        /// When they should move.
        scheduled: Instant,
    },
    /// All lines to their safe state.
    Safe(SafeReason),
}

/// Commands on their way; fixed capacity.
#[derive(Default)]
pub struct CommandQueue {
    commands: Mutex<Deque<Command, 64>>,
    news: Condvar,
}

impl CommandQueue {
    /// Adds a command; a full queue means that outputs are stuck, and its oldest command gives way to safety.
    pub fn push(&self, command: Command) {
        let mut commands = self.commands.lock().expect("no thread panics while it holds this");
        if commands.is_full() {
            commands.clear();
            let _ = commands.push_back(Command::Safe(SafeReason::Output));
        }
        let _ = commands.push_back(command);
        self.news.notify_one();
    }

    /// Takes the oldest command, waiting at most `span`.
    pub fn pop(&self, span: Micros) -> Option<Command> {
        let commands = self.commands.lock().expect("no thread panics while it holds this");
        let (mut commands, _) = self
            .news
            .wait_timeout_while(commands, span.duration(), |c| c.is_empty())
            .expect("no thread panics while it holds this");
        commands.pop_front()
    }
}

struct Driven {
    output: Box<dyn Output>,
    settings: OutputSettings,
    /// Unknown after a write that failed.
    state: Option<State>,
    failed_in_a_row: u32,
    wanted: State,
    off_at: Option<Instant>,
    part: u64,
}

/// All output lines of a device.
pub struct Actuator {
    lines: Vec<Driven>,
    jitter: Quantiles,
    faults: u64,
    safe: Option<SafeReason>,
}

impl Actuator {
    /// Takes all lines, each in its safe state; reports every line that cannot be had.
    pub fn open(settings: &[OutputSettings]) -> Result<Self, Vec<OutputError>> {
        assert!(settings.len() <= MAX_OUTPUTS, "settings hold at most {MAX_OUTPUTS} outputs");
        let (mut lines, mut errors) = (Vec::new(), Vec::new());
        for s in settings {
            match outputs::open(&s.name, &s.backend, s.polarity, s.safe) {
                Ok(output) => lines.push(Driven {
                    output,
                    settings: s.clone(),
                    state: Some(s.safe),
                    failed_in_a_row: 0,
                    wanted: s.safe,
                    off_at: None,
                    part: 0,
                }),
                Err(e) => errors.push(e),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { lines, jitter: Quantiles::default(), faults: 0, safe: Some(SafeReason::Stopped) })
    }

    /// Carries a command out.
    pub fn apply(&mut self, command: Command, clock: &dyn Clock, events: &EventQueue) {
        match command {
            Command::Safe(reason) => self.go_safe(reason, clock, events),
            Command::Verdict { part, calls, scheduled } => {
                self.safe = None;
                for (i, line) in self.lines.iter_mut().enumerate() {
                    let called = calls >> i & 1 == 1;
                    match line.settings.mode {
                        Mode::Level => line.wanted = if called { State::Active } else { State::Inactive },
                        Mode::Latched if called => line.wanted = State::Active,
                        Mode::Pulse(width) if called => {
                            line.wanted = State::Active;
                            line.off_at = Some(scheduled.plus(width.micros()));
                        }
                        // A line that stood in its safe state comes back to rest; one that works goes on.
                        Mode::Latched | Mode::Pulse(_) if line.off_at.is_none() && line.part == 0 => {
                            line.wanted = State::Inactive;
                        }
                        Mode::Latched | Mode::Pulse(_) => {}
                    }
                    if called {
                        line.part = part;
                    }
                }
                self.settle(part, scheduled, clock, events);
            }
        }
    }

    /// Ends pulses that are due, and retries lines that could not be written.
    pub fn tick(&mut self, clock: &dyn Clock, events: &EventQueue) {
        let now = clock.now();
        for i in 0..self.lines.len() {
            if let Some(at) = self.lines[i].off_at.filter(|at| *at <= now) {
                let line = &mut self.lines[i];
                line.off_at = None;
                line.wanted = State::Inactive;
                let part = line.part;
                self.settle(part, at, clock, events);
            }
        }
        if self.lines.iter().any(|l| l.state != Some(l.wanted)) {
            self.settle(0, now, clock, events);
        }
    }

    /// Time until the next pulse ends.
    pub fn next_edge(&self, now: Instant) -> Option<Micros> {
        self.lines.iter().filter_map(|l| l.off_at).min().map(|at| at.since(now))
    }

    /// All lines to their safe state.
    pub fn go_safe(&mut self, reason: SafeReason, clock: &dyn Clock, events: &EventQueue) {
        for line in &mut self.lines {
            line.off_at = None;
            line.part = 0;
            line.wanted = line.settings.safe;
        }
        self.safe = Some(reason);
        self.settle(0, clock.now(), clock, events);
    }

    /// Brings every line to its wanted state. If one fails, the others go safe and it is tried again later.
    fn settle(&mut self, part: u64, scheduled: Instant, clock: &dyn Clock, events: &EventQueue) {
        let mut failed = false;
        for (i, line) in self.lines.iter_mut().enumerate() {
            if line.state == Some(line.wanted) {
                continue;
            }
            match line.output.apply(line.wanted) {
                Ok(()) => {
                    line.state = Some(line.wanted);
                    line.failed_in_a_row = 0;
                    let done = clock.now();
                    self.jitter.add(done.since(scheduled).0);
                    events.push(Event::Edge { part, line: i as u8, state: line.wanted, scheduled, done });
                }
                Err(error) => {
                    failed = true;
                    line.state = None;
                    line.failed_in_a_row += 1;
                    self.faults += 1;
                    events.push(Event::Fault { kind: SafeReason::Output.name(), count: self.faults, action: "safe" });
                    events.explain(&error);
                }
            }
        }
        if failed && self.safe.is_none() {
            self.go_safe(SafeReason::Output, clock, events);
        }
    }

    /// Writes that failed so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Writes in a row that failed, of the line that fails most.
    pub fn faults_in_a_row(&self) -> u32 {
        self.lines.iter().map(|l| l.failed_in_a_row).max().unwrap_or(0)
    }

    /// Time from when an edge was due to when it was done, in microseconds.
    pub fn jitter(&self) -> &Quantiles {
        &self.jitter
    }
}
