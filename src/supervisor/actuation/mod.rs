//! Owns the outputs: moves lines when parts are at their gates, ends pulses, shows that it lives,
//! goes safe.
//!
//! Runs no model code and reads no clock; [`Actuator`] is told the time, and the outputs' thread
//! gives it one.

mod notes;
mod patience;
mod queue;
pub(super) mod realtime;
mod second;
mod stand;
#[cfg(test)]
mod tests;

pub(super) use notes::at_rest_late;
pub(super) use patience::Patience;
pub use queue::{CAPACITY, Command, CommandQueue, Commands, Dropped};
pub use second::Rescue;
pub(super) use second::Second;
pub use stand::{REMEMBERED, Stand};

use crate::decide::Action;
use crate::events::{EdgeEvent, Events, FaultKind, Outcome, Percentiles, Remedy, What, Why};
use crate::fault::Reason;
use crate::line::{
    Cause, ConfirmRules, Decided, Doubted, Gate, GateLine, LineMask, MAX_PARTS, Moment, Move, PartId, mask_of,
};
use crate::outputs::{Output, OutputError, State};
use crate::settings::{Drive, MAX_OUTPUTS, MissedEdge, Mode, OutputSettings, Settings};
use crate::time::{Clock, Instant, Micros};
use std::sync::Arc;
use std::sync::atomic::Ordering;

struct Driven {
    name: String,
    output: Box<dyn Output>,
    safe: State,
    drive: Drive,
    is_pulse: bool,
    is_level: bool,
    /// Unknown after a write that failed.
    state: Option<State>,
    /// When its last write was done.
    moved_at: Instant,
    /// The part's move that it was for, as long as it may have been too late for it.
    moved_for: Option<Move>,
    failed_in_a_row: u32,
    wanted: State,
}

/// How well everything else does, as far as the outputs show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the line's thread has beaten in time.
    pub alive: bool,
    /// Whether the last that came from the camera was a frame.
    pub camera: bool,
}

/// All output lines of a device.
pub struct Actuator {
    lines: Vec<Driven>,
    gate: Gate,
    health: Health,
    beat_at: Instant,
    jitter: Percentiles,
    is_safe: bool,
    /// Whether the run has ended: lines stay safe.
    stopped: bool,
    /// What a part gets that is at its gate without a verdict.
    late_action: Option<Action>,
    edges: EdgeRules,
    /// What parts call for that are at a gate now and is not done yet. Room for all is there from
    /// the start.
    called: Vec<Move>,
    /// The number of the part that comes next.
    next_part: u64,
    /// Whether it was told that nothing is confirmed here.
    told_of_no_confirm: bool,
    stand: Arc<Stand>,
    /// The second ways to the lines, until the rescue takes them.
    rescue: Option<Rescue>,
}

/// What an output that moves too late means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeRules {
    /// Up to so late an edge is in time.
    pub late: Micros,
    /// What a missed edge does to the line.
    pub missed: MissedEdge,
    /// What must be seen behind the gate, if anything looks there.
    pub confirm: Option<ConfirmRules>,
}

impl EdgeRules {
    /// The site's.
    pub fn of(settings: &Settings) -> Self {
        Self { late: settings.late_edge, missed: settings.missed_edge, confirm: settings.confirm }
    }
}

/// Counts parts, in their order, that pass unsorted because the lines went safe before they were at
/// a gate, or at all that they call for; tells them by ranges where `are_told`.
pub(in crate::supervisor) fn count_given_up(parts: &[u64], are_told: bool, events: &Events) {
    // Between them may be parts that are sorted, and only on their way past other gates.
    for range in parts.chunk_by(|part, next| *next <= part + 1) {
        let [first, last] = [range[0], range[range.len() - 1]];
        events.counters().given_up.fetch_add(last + 1 - first, Ordering::Relaxed);
        if are_told {
            let what = "on the way when the lines went safe: no gate moves any more for";
            let why = match first == last {
                true => Why::of(&format_args!("part {first} was {what} it")),
                false => Why::of(&format_args!("parts {first} to {last} were {what} them")),
            };
            events.fault(FaultKind::GivenUp, Some(first), Remedy::Told, why);
        }
    }
}

fn state(active: bool) -> State {
    if active { State::Active } else { State::Inactive }
}

impl Actuator {
    /// Takes all lines from `open`, each in its safe state; reports every line that cannot be had.
    /// `late_calls`: the lines of what a part without a verdict gets, `late_action`: that action.
    pub fn open(
        settings: &[OutputSettings],
        late_calls: LineMask,
        late_action: Option<Action>,
        edges: EdgeRules,
        open: impl Fn(&OutputSettings) -> Result<Box<dyn Output>, OutputError>,
    ) -> Result<Self, Vec<OutputError>> {
        assert!(settings.len() <= MAX_OUTPUTS, "settings hold at most {MAX_OUTPUTS} outputs");
        let (mut lines, mut seconds, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let stand = Arc::new(Stand::default());
        for (i, s) in settings.iter().enumerate() {
            let is_pulse = matches!((&s.drive, s.mode), (Drive::Calls(_) | Drive::Trigger, Mode::Pulse(_)));
            match open(s) {
                Ok(output) => {
                    let (name, backend, safe) = (s.name.clone(), s.backend.clone(), s.safe);
                    seconds.push(Second { name, output: output.second(), backend, safe, is_pulse });
                    stand.set(i, safe, 0);
                    lines.push(Driven {
                        name: s.name.clone(),
                        output,
                        safe,
                        drive: s.drive.clone(),
                        is_pulse,
                        is_level: matches!((&s.drive, s.mode), (Drive::Calls(_) | Drive::Trigger, Mode::Level)),
                        state: Some(safe),
                        moved_at: Instant::default(),
                        moved_for: None,
                        failed_in_a_row: 0,
                        wanted: safe,
                    });
                }
                Err(e) => errors.push(e),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let gates: Vec<Option<GateLine>> = settings.iter().map(OutputSettings::gate_line).collect();
        Ok(Self {
            lines,
            gate: Gate::new(&gates, late_calls).confirming(edges.confirm),
            health: Health { alive: true, camera: true },
            beat_at: Instant::default(),
            jitter: Percentiles::default(),
            is_safe: true,
            stopped: false,
            late_action,
            edges,
            called: Vec::with_capacity(MAX_PARTS * settings.len()),
            next_part: 1,
            told_of_no_confirm: false,
            rescue: Some(Rescue { lines: seconds, stand: stand.clone(), late: edges.late }),
            stand,
        })
    }

    /// The second ways to the lines, for a thread of its own; `None` the second time.
    pub fn take_rescue(&mut self) -> Option<Rescue> {
        self.rescue.take()
    }

    /// Whether another thread has made the lines safe.
    pub fn is_rescued(&self) -> bool {
        self.stand.is_rescued()
    }

    /// Where this actuator stands, for other threads.
    pub fn stand(&self) -> Arc<Stand> {
        self.stand.clone()
    }

    /// Carries a command out; what it makes due moves with the next [`Actuator::tick`].
    pub fn apply(&mut self, command: Command, clock: &dyn Clock, events: &Events) {
        match command {
            Command::Safe(reason) => self.go_safe(reason, clock, events),
            Command::Dropped(dropped) => self.dropped(dropped, clock, events),
            Command::Open { part, trigger, touching } => {
                if self.gate.open(part, trigger).is_err() {
                    return self.overflow(part.0, clock, events);
                }
                self.opened(part.0);
                if touching {
                    // Of the part before, which may be decided, the station tells.
                    self.gate.doubt(part);
                }
            }
            Command::Verdict { part, calls } => {
                // A late verdict was counted when the part was at its gate; a part that is gone
                // went with a fault.
                let _: Decided = self.gate.decide(part, calls);
            }
            Command::Doubt { part, reason } => self.doubt(part, reason, events),
            Command::Now { part, calls, at } => {
                if self.gate.show(part, Moment::at(at), calls).is_err() {
                    return self.overflow(part.0, clock, events);
                }
                self.opened(part.0);
            }
            Command::Acknowledge(at) => self.gate.acknowledge(at),
            Command::Confirm(_) if self.edges.confirm.is_none() => {
                events.counters().passed_over.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.told_of_no_confirm, true) {
                    let why = Why::of(&"a confirmation was passed over, and more may be: device.toml has no [confirm]");
                    events.fault(FaultKind::Input, None, Remedy::Told, why);
                }
            }
            Command::Confirm(at) => {
                if self.gate.confirm(at).is_none() {
                    let why = Why::of(&"something was seen behind the gate, but no part was thrown out there just before");
                    events.fault(FaultKind::UnexpectedConfirmation, None, Remedy::Told, why);
                }
            }
        }
    }

    /// A part is on its way to its gates.
    fn opened(&mut self, part: u64) {
        self.stand.open(part);
        self.next_part = part + 1;
    }

    /// What was told of a part that was decided does not hold, or comes too late.
    fn doubt(&mut self, part: PartId, reason: Reason, events: &Events) {
        let is_frozen = reason == Reason::Frozen;
        match self.gate.doubt(part) {
            // Told with its end, which is to come.
            Doubted::Undecided if !is_frozen => {}
            Doubted::Undecided => events.fault(reason, Some(part.0), self.late_action.into(), Why::NONE),
            Doubted::Corrected => {
                events.counters().corrected.fetch_add(1, Ordering::Relaxed);
                events.fault(reason, Some(part.0), self.late_action.into(), Why::NONE);
            }
            Doubted::Passed if is_frozen => {
                let why =
                    format_args!("part {} was sorted on an image at which the camera stood still: look at it again", part.0);
                events.fault(FaultKind::FrozenPassed, Some(part.0), Remedy::Told, Why::of(&why));
            }
            Doubted::Passed => {
                let why =
                    format_args!("part {} was sorted before the next one was seen to touch it: look at both again", part.0);
                events.fault(FaultKind::TouchedPassed, Some(part.0), Remedy::Told, Why::of(&why));
            }
            Doubted::Late => {}
        }
    }

    /// Parts beyond the capacity cannot be followed, so nothing is known of what is at the gate
    /// from now on.
    fn overflow(&mut self, part: u64, clock: &dyn Clock, events: &Events) {
        let why =
            "more parts are on their way to their last gate than can be followed; let them come slower, or gates be nearer";
        events.fault(Reason::Overflow, Some(part), Remedy::Safe, Why::of(&why));
        self.stand.give_up(part);
        self.next_part = part + 1;
        events.counters().given_up.fetch_add(1, Ordering::Relaxed);
        // Those that the gate followed are counted with it.
        self.go_safe(Reason::Overflow, clock, events);
    }

    /// Commands were dropped: nothing is known of what is at the gate from now on.
    fn dropped(&mut self, dropped: Dropped, clock: &dyn Clock, events: &Events) {
        let in_flight = self.gate.ends();
        let first = in_flight.or(dropped.ends).map(|(first, _)| first);
        let last = dropped.ends.or(in_flight).map(|(_, last)| last);
        let why = format_args!("the outputs were held up until {CAPACITY} commands waited for them");
        let why = match first.zip(last) {
            None => Why::of(&format_args!("{why}; no part was on its way")),
            Some((first, last)) if first == last => Why::of(&format_args!("{why}: part {} was given up", first.0)),
            Some((first, last)) => Why::of(&format_args!("{why}: parts {} to {} were given up", first.0, last.0)),
        };
        events.fault(Reason::Overflow, None, Remedy::Safe, why);
        events.counters().given_up.fetch_add(dropped.parts, Ordering::Relaxed);
        if let Some((first, last)) = dropped.ends {
            (first.0..=last.0).rev().take(REMEMBERED).for_each(|part| self.stand.give_up(part));
            self.next_part = last.0 + 1;
        }
        self.go_safe(Reason::Overflow, clock, events);
    }

    /// The belt has moved to `to.position`, at `to.at`.
    pub fn belt_moved(&mut self, to: Moment) {
        self.gate.moved(to);
    }

    /// Moves what is due, ends pulses, retries lines that could not be written.
    pub fn tick(&mut self, position: i64, clock: &dyn Clock, events: &Events) {
        let now = Moment { at: clock.now(), position };
        let mut late = self.gate.late();
        // After a stall several moves of a line may be due at once: only the newest is done, so
        // that no line flickers.
        let mut newest: [Option<Move>; MAX_OUTPUTS] = [None; MAX_OUTPUTS];
        let (mut missed, mut overran) = (false, false);
        while let Some(due) = self.gate.step(now) {
            overran |= self.note_held_up(&due, events);
            if self.gate.late() > late {
                late = self.gate.late();
                events.fault(FaultKind::Late, Some(due.part.0), self.late_action.into(), Why::NONE);
            }
            if due.cause == Cause::Missed {
                self.note_missed(&due, now.at, "it would hit the next part, so it did not fire", events);
                if self.edges.missed == MissedEdge::Safe {
                    missed = true;
                    break;
                }
            }
            // The part that an edge names is the one that changed the state.
            let newest = &mut newest[due.line as usize];
            match *newest {
                // A level that was not set yet was in the other state for the part before.
                Some(before) if before.active == due.active && !self.lines[due.line as usize].is_level => {}
                Some(before) => {
                    *newest = Some(due);
                    self.called.retain(|called| called.line != due.line);
                    self.note_skipped(&before, now.at, events);
                }
                None => *newest = Some(due),
            }
            // One that makes another longer has only begun where it is in time.
            let begins = due.cause == Cause::Prolonged && now.at.since(due.due) <= self.edges.late;
            if begins || due.cause == Cause::Called {
                self.called.push(due);
            }
        }
        let before: [Option<State>; MAX_OUTPUTS] = std::array::from_fn(|i| self.lines.get(i).and_then(|line| line.state));
        let (mut all_done, mut done) = (!missed, 0);
        // Beside a missed edge a pulse would be cut as it begins.
        for due in newest.into_iter().flatten().filter(|due| !missed || due.cause == Cause::Ended) {
            // A write may hang: others must know how things stand.
            self.show_stand(done);
            // A line that cannot be written is told with this part. All others that call for
            // something in this moment are given up then: what began for them is cut at once.
            let own = self.called.iter().position(|called| (called.line, called.part) == (due.line, due.part));
            let own = own.map(|at| (at, self.called.remove(at)));
            if !self.carry_out(due, clock, events) {
                all_done = false;
                break;
            }
            done |= 1 << due.line;
            match own {
                Some((at, called)) => self.called.insert(at, called),
                None => self.note_late(&due, before[due.line as usize], now.at, events),
            }
        }
        // What was held up between this look at the clock and a write began after its window.
        for i in 0..if all_done { self.called.len() } else { 0 } {
            let called = self.called[i];
            overran |= self.note_called(&called, before[called.line as usize], now.at, events);
        }
        while let Some(part) = self.gate.not_rejected(now.at) {
            self.note_not_rejected(part.0, events);
        }
        if missed {
            self.gate.came_to_nothing();
        } else {
            self.called.clear();
        }
        if missed || overran && self.edges.missed == MissedEdge::Safe {
            self.go_safe(Reason::Output, clock, events);
        }
        self.called.clear();
        self.show_health(now.at);
        // A busy or ready line that moves while all others are safe: if it cannot be written, what
        // is on its way is given up too.
        self.is_safe &= !self.lines.iter().any(|l| l.state.is_some_and(|s| s != l.wanted));
        if self.lines.iter().any(|l| l.state != Some(l.wanted)) {
            self.settle(0, now.at, 0, clock, events);
        }
        self.show_stand(LineMask::MAX);
    }

    /// Shows other threads which parts wait, and when pulses are to end. `done`: lines that have
    /// moved for the parts which are at their gates now.
    fn show_stand(&self, done: LineMask) {
        let is_due = |called: &&Move| self.is_for_part(called) && done >> called.line & 1 == 0;
        let due = self.called.iter().filter(is_due).map(|called| (called.part, true));
        let waiting = self.gate.waiting().chain(due).map(|(part, unsorted)| (part.0, unsorted));
        self.stand.set_waiting(waiting, self.next_part);
        self.stand.set_ends(self.gate.pulse_ends(), done);
    }

    /// Whether a move is what a verdict called for.
    fn is_for_part(&self, due: &Move) -> bool {
        matches!(self.lines[due.line as usize].drive, Drive::Calls(_))
    }

    /// Moves a line; false if that failed, and all lines went safe.
    fn carry_out(&mut self, due: Move, clock: &dyn Clock, events: &Events) -> bool {
        let Move { part, line, active, due: scheduled, cause } = due;
        self.lines[line as usize].wanted = state(active);
        if cause != Cause::Ended {
            self.is_safe = false;
        }
        let before = self.lines[line as usize].state;
        let all_done = self.settle(part.0, scheduled, 0, clock, events);
        self.note_moved(&due, before);
        all_done
    }

    /// Busy, ready, fault and heartbeat lines.
    fn show_health(&mut self, now: Instant) {
        if self.stopped {
            return;
        }
        let fault = self.gate.has_fault();
        // The next of all heartbeats.
        let mut beat_at = None;
        let Health { alive, camera } = self.health;
        let busy = self.gate.undecided() > 0;
        // A line whose write failed is in no known state.
        let ready = alive && camera && self.gate.has_room() && self.lines.iter().all(|l| l.state.is_some());
        for line in &mut self.lines {
            line.wanted = match line.drive {
                Drive::Calls(_) | Drive::Trigger => continue,
                Drive::Fault => state(fault),
                Drive::Busy => state(busy),
                Drive::Ready => state(ready),
                Drive::Heartbeat(_) if !alive => line.safe,
                Drive::Heartbeat(period) => {
                    let half = (period.micros().0 / 2).max(1);
                    let at = Instant::from_micros((now.as_micros() / half + 1) * half);
                    beat_at = Some(beat_at.map_or(at, |first: Instant| first.min(at)));
                    state((now.as_micros() / half).is_multiple_of(2))
                }
            };
        }
        self.beat_at = beat_at.unwrap_or(self.beat_at);
    }

    /// Tells what the lines of health show from the next tick on.
    pub fn set_health(&mut self, health: Health) {
        self.health = health;
    }

    /// When time alone moves the next line.
    pub fn next_due(&self) -> Option<Instant> {
        let beat = self.lines.iter().any(|l| matches!(l.drive, Drive::Heartbeat(_))).then_some(self.beat_at);
        self.gate.next_due().into_iter().chain(beat).min()
    }

    /// Whether a part or a pulse is still on its way.
    pub fn is_busy(&self) -> bool {
        self.gate.in_flight() > 0 || self.gate.next_due().is_some()
    }

    /// All lines to their safe state; parts in flight are given up.
    pub fn go_safe(&mut self, reason: Reason, clock: &dyn Clock, events: &Events) {
        self.stopped |= reason == Reason::Stopped;
        // Where another thread made the lines safe, it has told of the parts too.
        if !self.stand.is_rescued() {
            let not_done = self.called.iter().filter(|called| self.is_for_part(called)).map(|called| (called.part, true));
            let mut parts = heapless::Vec::<u64, { 2 * MAX_PARTS }>::new();
            for (PartId(part), unsorted) in self.gate.waiting().chain(not_done) {
                if unsorted {
                    self.stand.give_up(part);
                }
                // A part may call for several lines; no more parts than have room are followed.
                if !parts.contains(&part) {
                    let _ = parts.push(part);
                }
            }
            parts.sort_unstable();
            self.called.clear();
            // Where lines follow frames no part is on its way.
            count_given_up(&parts, self.late_action.is_some(), events);
        }
        // A pulse that should have ended while nobody looked is not cut by this.
        let mut cuts = LineMask::MAX;
        for i in 0..self.lines.len() {
            if let Some(due) = self.gate.overdue_end(i as u8, clock.now()) {
                cuts &= !(1 << i);
                self.note_late(&due, self.lines[i].state, clock.now(), events);
            }
        }
        let _ = if self.stopped { self.gate.stop() } else { self.gate.clear(clock.now()) };
        for line in &mut self.lines {
            line.wanted = match line.drive {
                Drive::Fault if !self.stopped => State::Active,
                _ => line.safe,
            };
        }
        self.is_safe = true;
        self.settle(0, clock.now(), cuts, clock, events);
    }

    /// Brings every line to its wanted state. If one fails, the others go safe and it is tried
    /// again later; false then. `cuts`: lines whose pulses end thereby before their time.
    fn settle(&mut self, part: u64, scheduled: Instant, cuts: LineMask, clock: &dyn Clock, events: &Events) -> bool {
        let mut failed = false;
        for (i, line) in self.lines.iter_mut().enumerate() {
            if self.stand.is_rescued() {
                line.wanted = line.safe;
            }
            if line.state == Some(line.wanted) {
                continue;
            }
            self.stand.begin(i);
            let written = line.output.apply(line.wanted);
            self.stand.end();
            let done = clock.now();
            let is_cut =
                cuts >> i & 1 == 1 && line.is_pulse && (line.state, line.wanted) == (Some(State::Active), State::Inactive);
            let (outcome, part) = match (&written, is_cut) {
                (Ok(()), true) => (Outcome::Cut, self.stand.line(i).1),
                (Ok(()), false) => (Outcome::Done, part),
                (Err(_), _) => (Outcome::Failed, part),
            };
            // A heartbeat would drown everything else in the log.
            if !matches!(line.drive, Drive::Heartbeat(_)) {
                let (output, state) = (i as u8, line.wanted);
                events.tell(What::Edge(EdgeEvent { part, output, state, scheduled, done, outcome }));
            }
            match written {
                Ok(()) => {
                    line.state = Some(line.wanted);
                    line.moved_at = done;
                    line.failed_in_a_row = 0;
                    if line.is_pulse && line.wanted == State::Active {
                        self.gate.has_begun(i as u8, done);
                    }
                    self.stand.set(i, line.wanted, part);
                    if !matches!(line.drive, Drive::Heartbeat(_)) {
                        self.jitter.add(done.since(scheduled).0);
                    }
                }
                Err(error) => {
                    failed = true;
                    line.state = None;
                    line.failed_in_a_row += 1;
                    let (part, name) = ((part > 0).then_some(part), &line.name);
                    events.fault(Reason::Output, part, Remedy::Safe, Why::of(&format_args!("output \"{name}\": {error}")));
                }
            }
        }
        if failed && !self.is_safe {
            self.gate.came_to_nothing();
            self.go_safe(Reason::Output, clock, events);
        }
        !failed
    }

    /// Lines that are not known to be in their safe state: their last write failed, or brought them
    /// to the other.
    pub fn not_safe(&self) -> LineMask {
        mask_of(self.lines.iter().map(|l| l.state != Some(l.safe)))
    }

    /// Writes in a row that failed, of the line that fails most.
    pub fn faults_in_a_row(&self) -> u32 {
        self.lines.iter().map(|l| l.failed_in_a_row).max().unwrap_or(0)
    }

    /// Parts that were at their gate without a verdict.
    pub fn late(&self) -> u64 {
        self.gate.late()
    }

    /// Parts in flight now.
    pub fn in_flight(&self) -> usize {
        self.gate.in_flight()
    }

    /// Time from when an edge was due to when it was done, in microseconds.
    pub fn jitter(&self) -> &Percentiles {
        &self.jitter
    }
}
