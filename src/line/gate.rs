//! The schedule of output edges: each part's lines move when the part is there, whatever is known
//! of it by then.
//!
//! A verdict is here the set of lines that it calls for; pins and tags are others' business.
//!
//! A part without a verdict when its first line is due is late: the late action's lines are called
//! for, at every gate, and a verdict that comes afterwards changes nothing. Parts leave in the
//! order in which they came.
//!
//! A pulse has its full width from the moment at which its write was done. One that could not be
//! done within its line's window is missed: it would hit the next part, so it does not fire at all.
//! Where its line has been active since before it was due, it was done in time however late that is seen:
//! the line goes to rest when that pulse was to end. A level or latched line takes its newest due
//! state.

use super::belt::BeltHistory;
use super::confirm::{ConfirmRules, Confirmations};
use super::{LineMask, MAX_LINES, MAX_PARTS, Moment, PartId, Travel, mask_of};
use crate::time::{Instant, Micros};
use heapless::{Deque, Vec};

/// How a line moves when a part is at its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Active from a part that calls for it until one that does not.
    Level,
    /// Active for so long; a pulse that begins within another makes that longer.
    Pulse(Micros),
    /// Active from the first part that calls for it until acknowledged.
    Latched,
}

/// What calls for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledBy {
    /// A part whose verdict does.
    Verdict,
    /// Each part, whatever becomes of it: a flash, or a camera's trigger.
    Trigger,
}

/// One output line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLine {
    /// From trigger to gate.
    pub delay: Travel,
    /// How it moves.
    pub shape: Shape,
    /// How late a pulse may begin; later it does not fire.
    pub window: Micros,
    /// What calls for it.
    pub by: CalledBy,
}

/// [`MAX_PARTS`] parts are in flight already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What a verdict found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The part is on its way to its first gate.
    InTime,
    /// The part was or must be treated as late: the verdict changes nothing.
    Late,
    /// No such part is in flight.
    Gone,
}

/// What doubt in a part's verdict finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubted {
    /// It has no verdict yet, and gets the late action.
    Undecided,
    /// It has one, and gets the late action all the same.
    Corrected,
    /// It gets or had the late action, or was given up.
    Late,
    /// It has been at a gate with its verdict.
    Passed,
}

/// A line's state that a part causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The part.
    pub part: PartId,
    /// The line.
    pub line: u8,
    /// Whether it becomes, or stays, active.
    pub active: bool,
    /// When it is due.
    pub due: Instant,
    /// Why.
    pub cause: Cause,
}

/// Why a line moves. A part meets each line once: it calls for it, or it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The part is at the gate and calls for the line.
    Called,
    /// The part is at the gate and calls for the line, whose pulse for another part began before
    /// this one was due and has not ended: it becomes longer.
    Prolonged,
    /// The part is at the gate and calls for the line, but so late that a pulse would hit the next
    /// part: it does not fire.
    Missed,
    /// The part is at the gate and does not.
    Passed,
    /// A pulse ends, or a latched line was acknowledged.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    id: PartId,
    trigger: Moment,
    calls: Option<LineMask>,
    /// Late, or doubtful: its calls are the late action's.
    settled: bool,
    /// Lines whose gate it has passed.
    passed: LineMask,
}

impl InFlight {
    /// The lines that its verdict calls for, all of them where there is none yet. `by_verdict`: the
    /// lines that verdicts move.
    fn called(&self, by_verdict: LineMask) -> LineMask {
        self.calls.unwrap_or(by_verdict) & by_verdict
    }

    /// Whether a gate that verdicts move is still to come for it: its first one, or one that it
    /// calls for.
    fn waits(&self, by_verdict: LineMask) -> bool {
        by_verdict & self.passed == 0 || self.called(by_verdict) & !self.passed != 0
    }

    /// Whether no gate that verdicts move was for it so far.
    fn is_unsorted(&self, by_verdict: LineMask) -> bool {
        let called = self.called(by_verdict);
        by_verdict & self.passed == 0 || called != 0 && called & self.passed == 0
    }
}

/// Parts between trigger and last gate, and pulses that have not ended.
#[derive(Clone, Debug)]
pub struct Gate {
    lines: Vec<Option<GateLine>, MAX_LINES>,
    late_calls: LineMask,
    parts: Deque<InFlight, MAX_PARTS>,
    ends: [Option<(Instant, PartId)>; MAX_LINES],
    /// When each line's pulse began last.
    began: [Instant; MAX_LINES],
    /// Lines that a pulse kept active until this moment; what its steps say is done after them.
    on: LineMask,
    /// Parts that no verdict moved a line for: they were given up before they were at a gate, or had
    /// the late action there. By the last digits of their numbers, of the last [`REMEMBERED`] parts.
    unsorted: [u64; REMEMBERED / 64],
    late: u64,
    confirmations: Confirmations,
    /// The last step.
    stepped: Instant,
    /// When something failed last that nobody has acknowledged.
    fault: Option<Instant>,
    /// When each latched line was called for last.
    latched: [Instant; MAX_LINES],
    belt: BeltHistory,
}

impl Gate {
    /// A gate for `lines`, at most [`MAX_LINES`]; absent ones are not moved by parts. `late_calls`:
    /// lines of the late action. Panics if there are more lines.
    pub fn new(lines: &[Option<GateLine>], late_calls: LineMask) -> Self {
        let lines = Vec::from_slice(lines).expect("settings hold at most MAX_LINES outputs");
        Self {
            lines,
            late_calls,
            parts: Deque::new(),
            ends: [None; MAX_LINES],
            began: [Instant::default(); MAX_LINES],
            on: 0,
            unsorted: [0; REMEMBERED / 64],
            late: 0,
            confirmations: Confirmations::new(None),
            stepped: Instant::default(),
            fault: None,
            latched: [Instant::default(); MAX_LINES],
            belt: BeltHistory::default(),
        }
    }

    /// The belt has moved to `to.position`, at `to.at`. Without this a part that goes by counts is
    /// taken to be at its gate when a step finds it there.
    pub fn moved(&mut self, to: Moment) {
        self.belt.moved(to);
    }

    /// The same gate with an input behind it that sees what a line throws out.
    pub fn confirming(self, rules: Option<ConfirmRules>) -> Self {
        Self { confirmations: Confirmations::new(rules), ..self }
    }

    /// The input behind the gate saw something at `at`; the part that it is. Where none is waited
    /// for, that is a fault.
    pub fn confirm(&mut self, at: Instant) -> Option<PartId> {
        let part = self.confirmations.seen(at);
        if part.is_none() {
            self.fail(at);
        }
        part
    }

    /// The next part that a pulse was for and that was not seen behind the gate in time: a fault;
    /// call until there is none.
    pub fn not_rejected(&mut self, now: Instant) -> Option<PartId> {
        let part = self.confirmations.not_seen(now);
        if part.is_some() {
            self.fail(now);
        }
        part
    }

    /// Whether there was a fault that nobody has acknowledged: the line went safe, an edge was
    /// missed, or what was seen behind the gate is not what was thrown out.
    pub const fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    fn fail(&mut self, at: Instant) {
        self.fault = Some(self.fault.map_or(at, |before| before.max(at)));
    }

    /// Lines that verdicts call for.
    fn by_verdict(&self) -> LineMask {
        mask_of(self.lines.iter().map(|l| l.is_some_and(|l| l.by == CalledBy::Verdict)))
    }

    /// A part's trigger; parts come in the order of their triggers.
    pub fn open(&mut self, id: PartId, trigger: Moment) -> Result<(), Full> {
        self.remember(id, false);
        let part = InFlight { id, trigger, calls: None, settled: false, passed: 0 };
        self.parts.push_back(part).map_err(|_| Full)
    }

    /// A part whose lines are at its trigger, and are called for at once. A part may come so more
    /// than once: what it called for last counts.
    pub fn show(&mut self, id: PartId, at: Moment, calls: LineMask) -> Result<(), Full> {
        self.open(id, at)?;
        if let Some(part) = self.parts.back_mut() {
            part.calls = Some(calls);
        }
        Ok(())
    }

    /// A part's verdict: the lines it calls for.
    pub fn decide(&mut self, id: PartId, calls: LineMask) -> Decided {
        match self.parts.iter_mut().find(|p| p.id == id) {
            None => Decided::Gone,
            Some(part) if part.settled => Decided::Late,
            Some(part) => {
                part.calls = Some(calls);
                Decided::InTime
            }
        }
    }

    /// A part that cannot be told from another gets the late action, decided or not, unless it has
    /// been at a gate.
    pub fn doubt(&mut self, id: PartId) -> Doubted {
        let by_verdict = self.by_verdict();
        match self.parts.iter_mut().find(|p| p.id == id) {
            None if self.unsorted[place(id).0] >> place(id).1 & 1 == 1 => Doubted::Late,
            None => Doubted::Passed,
            Some(part) if part.settled => Doubted::Late,
            Some(part) if part.passed & by_verdict != 0 => Doubted::Passed,
            Some(part) => {
                part.settled = true;
                let was_decided = part.calls.replace(self.late_calls).is_some();
                if was_decided { Doubted::Corrected } else { Doubted::Undecided }
            }
        }
    }

    /// The next move that is due at `now`, oldest first; call until there is none.
    pub fn step(&mut self, now: Moment) -> Option<Move> {
        self.stepped = now.at;
        let gate = self.next_gate(now);
        let end = self.next_end().filter(|(at, ..)| *at <= now.at);
        match (gate, end) {
            // At the same moment the new pulse goes first and makes the old one longer: a line does
            // not flicker.
            (Some((due, ..)), Some((at, line, part))) if at < due => Some(self.end(at, line, part)),
            (Some((due, at, line)), _) => Some(match self.overdue_before(now.at, due, at, line) {
                Some((end, part)) => self.end(end, line, part),
                None => self.pass(now.at, due, at, line),
            }),
            (None, Some((at, line, part))) => Some(self.end(at, line, part)),
            (None, None) => {
                self.on = mask_of(self.ends.iter().map(Option::is_some));
                self.leave();
                None
            }
        }
    }

    /// The first line that a part has come to: when it was due, the part's place, the line.
    fn next_gate(&self, now: Moment) -> Option<(Instant, usize, u8)> {
        let mut first: Option<(Instant, usize, u8)> = None;
        for (i, line) in self.lines.iter().enumerate() {
            let Some(line) = line else { continue };
            let Some((at, part)) = self.parts.iter().enumerate().find(|(_, p)| p.passed >> i & 1 == 0) else { continue };
            if line.delay.is_done(part.trigger, now) {
                let due = self.due(line.delay, part.trigger, now.at);
                if first.is_none_or(|(earliest, place, _)| (due, at) < (earliest, place)) {
                    first = Some((due, at, i as u8));
                }
            }
        }
        first
    }

    /// When a part that has gone this far came there.
    fn due(&self, delay: Travel, trigger: Moment, now: Instant) -> Instant {
        match delay {
            Travel::Time(span) => trigger.at.plus(span),
            Travel::Counts(counts) => {
                let came = self.belt.came_to(trigger.position.saturating_add(counts.into()));
                came.map_or(now, |at| at.max(trigger.at).min(now))
            }
        }
    }

    /// The write that began the pulse which a line is in was done at `at`: the pulse has its width
    /// from then, and what it throws out is seen from then on.
    pub fn has_begun(&mut self, line: u8, at: Instant) {
        let Some(Some(GateLine { shape: Shape::Pulse(width), .. })) = self.lines.get(line as usize) else { return };
        if let Some((end, _)) = &mut self.ends[line as usize] {
            *end = at.plus(*width).max(*end);
            self.began[line as usize] = at;
            self.confirmations.has_begun(line, self.stepped, at);
        }
    }

    /// How late a line's pulse may begin.
    pub fn window(&self, line: u8) -> Micros {
        self.lines.get(line as usize).copied().flatten().map_or(Micros(0), |line| line.window)
    }

    /// Whether a line's pulse for another part has been on since `due` at the latest, and is still.
    fn is_on_since(&self, line: u8, due: Instant) -> bool {
        self.on >> line & 1 == 1 && self.began[line as usize] <= due
    }

    /// The pulse that a line is in, where it should have ended before `now` and the part at place
    /// `at`, which is due there at `due`, calls for one of its own: when, and whose it is.
    fn overdue_before(&self, now: Instant, due: Instant, at: usize, line: u8) -> Option<(Instant, PartId)> {
        let Some(GateLine { shape: Shape::Pulse(_), by, .. }) = self.lines[line as usize] else { return None };
        let called = self.is_called(self.parts.get(at)?.calls, by, line);
        self.ends[line as usize].filter(|(end, _)| called && *end < now && !self.is_on_since(line, due))
    }

    /// Whether a part with `calls` calls for a line that `by` moves; one without a verdict is late.
    fn is_called(&self, calls: Option<LineMask>, by: CalledBy, line: u8) -> bool {
        by == CalledBy::Trigger || calls.unwrap_or(self.late_calls) >> line & 1 == 1
    }

    /// The end of a line's pulse, where it was due before `now` and is not done.
    pub fn overdue_end(&self, line: u8, now: Instant) -> Option<Move> {
        let (due, part) = self.ends[line as usize].filter(|(due, _)| *due < now)?;
        Some(Move { part, line, active: false, due, cause: Cause::Ended })
    }

    /// The part that a line's pulse is for, or that it is latched for.
    pub fn pulse_part(&self, line: u8) -> Option<PartId> {
        self.ends[line as usize].map(|(_, part)| part)
    }

    /// When each line's pulse is to end; `None` where it is in none, or latched.
    pub fn pulse_ends(&self) -> impl Iterator<Item = Option<Instant>> + '_ {
        self.ends.iter().map(|end| end.map(|(at, _)| at).filter(|at| *at != NEVER))
    }

    fn next_end(&self) -> Option<(Instant, u8, PartId)> {
        let ends = self.ends.iter().enumerate();
        ends.filter_map(|(i, end)| end.map(|(at, part)| (at, i as u8, part))).min()
    }

    fn end(&mut self, due: Instant, line: u8, part: PartId) -> Move {
        self.ends[line as usize] = None;
        Move { part, line, active: false, due, cause: Cause::Ended }
    }

    fn pass(&mut self, now: Instant, due: Instant, at: usize, line: u8) -> Move {
        let GateLine { shape, window, by, .. } = self.lines[line as usize].expect("absent lines are never due");
        let InFlight { id, calls, .. } = *self.parts.get(at).expect("the place was just found");
        let (called, is_on) = (self.is_called(calls, by, line), self.is_on_since(line, due));
        let part = self.parts.get_mut(at).expect("the place was just found");
        part.passed |= 1 << line;
        if by == CalledBy::Verdict && calls.is_none() {
            (part.settled, part.calls) = (true, Some(self.late_calls));
            self.late += 1;
        }
        let is_pulse = matches!(shape, Shape::Pulse(_));
        let missed = called && is_pulse && !is_on && now.since(due) > window;
        let active = match shape {
            Shape::Level => called,
            Shape::Latched => called || self.ends[line as usize].is_some(),
            Shape::Pulse(width) => {
                let end = &mut self.ends[line as usize];
                if called && !missed {
                    if self.on >> line & 1 == 0 {
                        self.began[line as usize] = now;
                    }
                    self.confirmations.await_part(line, id, now);
                    let until = if is_on { due } else { now }.plus(width);
                    *end = Some(end.filter(|(at, _)| *at > until).unwrap_or((until, id)));
                }
                end.is_some()
            }
        };
        if shape == Shape::Latched && called {
            // A part that calls for the line after the button was pressed latches it again.
            let end = &mut self.ends[line as usize];
            *end = end.filter(|(at, _)| *at == NEVER).or(Some((NEVER, id)));
            self.latched[line as usize] = now;
        }
        if missed {
            self.fail(now);
        }
        let cause = match (called, missed) {
            (_, true) => Cause::Missed,
            (true, false) if is_on && is_pulse => Cause::Prolonged,
            (true, false) => Cause::Called,
            (false, false) => Cause::Passed,
        };
        Move { part: id, line, active, due, cause }
    }

    /// Parts that have passed all gates leave.
    fn leave(&mut self) {
        let by_verdict = self.by_verdict();
        let all = mask_of(self.lines.iter().map(Option::is_some));
        while self.parts.front().is_some_and(|p| p.passed == all && (by_verdict != 0 || p.calls.is_some())) {
            let Some(part) = self.parts.pop_front() else { break };
            self.remember(part.id, part.settled);
        }
    }

    /// A person acknowledged at `at`: lines that were latched by then may go to rest, and what had
    /// failed by then is known. What came later nobody has seen.
    pub fn acknowledge(&mut self, at: Instant) {
        self.fault = self.fault.filter(|failed| *failed > at);
        for (end, latched) in self.ends.iter_mut().zip(&self.latched) {
            if let Some((until, part)) = *end
                && until == NEVER
                && *latched <= at
            {
                *end = Some((at, part));
            }
        }
    }

    /// A line was in the wrong state when a part was at its gate.
    pub fn was_wrong(&mut self, now: Instant) {
        self.fail(now);
    }

    /// When time alone brings the next move; a line that waits for the belt has no such moment.
    pub fn next_due(&self) -> Option<Instant> {
        let gates = self.lines.iter().enumerate().filter_map(|(i, line)| {
            let part = self.parts.iter().find(|p| p.passed >> i & 1 == 0)?;
            (*line)?.delay.due(part.trigger)
        });
        let ends = self.ends.iter().flatten().map(|(at, _)| *at).filter(|at| *at != NEVER);
        gates.chain(ends).chain(self.confirmations.next_due()).min()
    }

    /// Forgets all parts and pulses: the line went safe. Returns how many parts were in flight.
    /// What was thrown out by then may still be seen.
    pub fn clear(&mut self, now: Instant) -> usize {
        let parts = self.parts.len();
        let by_verdict = self.by_verdict();
        while let Some(part) = self.parts.pop_front() {
            self.remember(part.id, part.settled || part.is_unsorted(by_verdict));
        }
        (self.ends, self.on) = ([None; MAX_LINES], 0);
        self.fail(now);
        parts
    }

    /// Pulses of the last step came to nothing: a line could not be written. What they were for is
    /// not waited for.
    pub fn came_to_nothing(&mut self) {
        self.confirmations.forget_from(self.stepped);
    }

    /// The same as [`Gate::clear`] at the run's end: nothing is waited for any more, and nothing
    /// has failed.
    pub fn stop(&mut self) -> usize {
        let parts = self.clear(Instant::default());
        self.confirmations.clear();
        self.fault = None;
        parts
    }

    /// Parts in flight.
    pub fn in_flight(&self) -> usize {
        self.parts.len()
    }

    /// The first and the last part in flight.
    pub fn ends(&self) -> Option<(PartId, PartId)> {
        Some((self.parts.front()?.id, self.parts.back()?.id))
    }

    /// Parts in flight that are not sorted to the end, in their order: they have not been at a gate
    /// which verdicts move, or not at each that they call for. With each, whether no gate was for it
    /// so far.
    pub fn waiting(&self) -> impl Iterator<Item = (PartId, bool)> + '_ {
        let by_verdict = self.by_verdict();
        let waiting = self.parts.iter().filter(move |p| p.waits(by_verdict));
        waiting.map(move |p| (p.id, p.is_unsorted(by_verdict)))
    }

    fn remember(&mut self, id: PartId, unsorted: bool) {
        let (word, bit) = place(id);
        self.unsorted[word] = self.unsorted[word] & !(1 << bit) | (unsorted as u64) << bit;
    }

    /// Parts in flight that have no verdict yet.
    pub fn undecided(&self) -> usize {
        self.parts.iter().filter(|p| p.calls.is_none()).count()
    }

    /// Whether another part fits.
    pub fn has_room(&self) -> bool {
        !self.parts.is_full()
    }

    /// Parts that were late so far.
    pub const fn late(&self) -> u64 {
        self.late
    }
}

/// How many of the newest parts it is remembered of whether a verdict sorted them: more than can be
/// in flight.
const REMEMBERED: usize = 256;

/// Where that is remembered of a part: the word, and the bit in it.
const fn place(id: PartId) -> (usize, u32) {
    let at = id.0 as usize % REMEMBERED;
    (at / 64, (at % 64) as u32)
}

/// The end of what is latched.
const NEVER: Instant = Instant::from_micros(u64::MAX);
