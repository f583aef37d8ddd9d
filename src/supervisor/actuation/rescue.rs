//! The rescue: where a write to one output does not come back, a thread of its own makes the others
//! safe.
//!
//! It holds a second way to each line, opened at start. A GPIO line is a request of its own, and
//! the kernel locks a request, not its chip, while it writes: so the lines of other chips are
//! written at once. A chip whose driver hangs may hold the lines of its own up too, so those are
//! written last.
//!
//! A write counts as hung only while this thread itself runs: a process that was stopped, or a
//! machine that was, hangs in no write. Half of the watchdog's time is given to it, so that the
//! lines are safe within the whole.

use super::{Stand, realtime};
use crate::events::{EdgeEvent, Outcome, Remedy, What, Why};
use crate::fault::Reason;
use crate::outputs::{Backend, Output, State};
use crate::supervisor::Ended;
use crate::supervisor::shared::Shared;
use crate::time::{Clock, Micros};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The second way to one line.
pub(super) struct Second {
    pub(super) name: String,
    pub(super) output: Box<dyn Output>,
    pub(super) backend: Backend,
    pub(super) safe: State,
    /// Whether it moves in pulses.
    pub(super) is_pulse: bool,
}

/// The second ways to all lines, and what the outputs' thread is at.
pub struct Rescue {
    pub(super) lines: Vec<Second>,
    pub(super) stand: Arc<Stand>,
}

/// Whether a hung write to `one` may hold up a write to `other`.
fn may_share_a_lock(one: &Backend, other: &Backend) -> bool {
    match (one, other) {
        (Backend::Gpiochip { chip: one, .. }, Backend::Gpiochip { chip: other, .. }) => one == other,
        _ => false,
    }
}

impl Rescue {
    /// Watches until the outputs have ended, or one of them hung. `watchdog`: the time within which
    /// the others must be safe.
    pub(in crate::supervisor) fn watch(mut self, shared: &Shared, watchdog: Micros, gated: bool) {
        /// Longest time between two looks.
        const LOOK: Micros = Micros(20_000);
        let patience = Micros(watchdog.0 / 2);
        let look = Micros(patience.0 / 8).min(LOOK);
        if gated {
            // What is missing is told by the outputs' thread.
            _ = realtime::schedule();
        }
        let (mut seen, mut hung) = (None, Micros(0));
        let mut before = shared.clock.now();
        while !shared.over.load(Ordering::Relaxed) {
            std::thread::sleep(look.duration());
            let now = shared.clock.now();
            let passed = now.since(before).min(Micros(2 * look.0));
            before = now;
            let under_way = self.stand.under_way();
            hung = if under_way.is_some() && under_way == seen { Micros(hung.0 + passed.0) } else { Micros(0) };
            seen = under_way;
            if let Some((_, line)) = under_way.filter(|_| hung >= patience) {
                return self.make_safe(line, hung, shared);
            }
        }
    }

    fn make_safe(&mut self, hung_line: usize, hung: Micros, shared: &Shared) {
        self.stand.rescue();
        let Second { name, backend, .. } = &self.lines[hung_line];
        let (backend, seconds) = (backend.clone(), hung.0 as f64 / 1e6);
        let what = Why::of(&format_args!("output \"{name}\" hung for {seconds:.1} s"));
        let why = Why::of(&format_args!(
            "output \"{name}\": a write has not come back for {seconds:.1} s; its state is unknown, the others are made safe; \
             look at its chip and wiring"
        ));
        // Nobody else sets it.
        let _ = shared.stuck.set(what);
        shared.events.fault(Reason::Output, None, Remedy::Safe, why);
        shared.end(Ended::Stuck);
        for last in [false, true] {
            for i in (0..self.lines.len()).filter(|i| *i != hung_line) {
                if may_share_a_lock(&backend, &self.lines[i].backend) == last {
                    self.make_line_safe(i, shared);
                }
            }
        }
        shared.rescue_over.store(true, Ordering::Release);
    }

    fn make_line_safe(&mut self, i: usize, shared: &Shared) {
        let line = &mut self.lines[i];
        let (before, part) = self.stand.line(i);
        let scheduled = shared.clock.now();
        let written = line.output.apply(line.safe);
        let done = shared.clock.now();
        if written.is_ok() {
            self.stand.confirm(i);
        }
        let cut = line.is_pulse && (before, line.safe) == (State::Active, State::Inactive);
        let outcome = match (written, cut) {
            (Ok(()), true) => Outcome::Cut,
            (Ok(()), false) => Outcome::Done,
            (Err(_), _) => Outcome::Failed,
        };
        if before != line.safe || outcome == Outcome::Failed {
            let part = if cut { part } else { 0 };
            let edge = EdgeEvent { part, output: i as u8, state: line.safe, scheduled, done, outcome };
            shared.events.tell(What::Edge(edge));
        }
    }
}
