//! What is told of edges that were late, missed or came to nothing.

use super::{Actuator, state};
use crate::events::{Events, FaultKind, Remedy, Why};
use crate::line::{Cause, ConfirmRules, Move};
use crate::outputs::State;
use crate::settings::MissedEdge;
use crate::time::{Instant, Micros};

/// That a line went to rest later than is in time.
pub(in crate::supervisor) fn at_rest_late(name: &str, part: u64, late: Micros) -> Why {
    let ms = late.0 as f64 / 1000.0;
    Why::of(&format_args!(
        "output {name} went to rest {ms:.1} ms late for part {part}: parts that were at the gate meanwhile got it too"
    ))
}

impl Actuator {
    /// Tells of a move that was done later than is in time. `now`: the clock before it was written;
    /// `before`: what its line was then: where that is what it is to be, nothing was late. A pulse
    /// that is called for was not on when it was due, whatever its line was since.
    pub(super) fn note_late(&self, due: &Move, before: Option<State>, now: Instant, events: &Events) {
        let line = &self.lines[due.line as usize];
        let late = now.max(line.moved_at).since(due.due);
        // A latched line waits for a person, not for a moment.
        let waits = due.cause == Cause::Ended && !line.is_pulse;
        let moves = before != Some(state(due.active)) || due.cause == Cause::Called && line.is_pulse;
        if waits || !moves || late <= self.edges.late {
            return;
        }
        let ms = late.0 as f64 / 1000.0;
        let (name, part) = (&line.name, due.part.0);
        let why = match due.cause {
            Cause::Called => Why::of(&format_args!("output {name} was {ms:.1} ms late for part {part}")),
            Cause::Prolonged | Cause::Passed | Cause::Ended | Cause::Missed => at_rest_late(name, part, late),
        };
        events.fault(FaultKind::LateEdge, Some(part), Remedy::Told, why);
    }

    /// The same of what a part called for. True where a pulse was in its window at `now`, and was
    /// held up until that was over: it has fired.
    pub(super) fn note_called(&mut self, due: &Move, before: Option<State>, now: Instant, events: &Events) -> bool {
        let line = &self.lines[due.line as usize];
        let done = now.max(line.moved_at);
        let has_begun = line.is_pulse && line.state == Some(State::Active) && before != line.state;
        if !has_begun || done.since(due.due) <= self.gate.window(due.line) {
            self.note_late(due, before, now, events);
            return false;
        }
        let missed = Move { cause: Cause::Missed, ..*due };
        self.note_missed(&missed, done, "it was held up as it fired, and may have hit the next part", events);
        self.gate.was_wrong(done);
        true
    }

    /// Remembers what a line moved for, which was in `before`.
    pub(super) fn note_moved(&mut self, due: &Move, before: Option<State>) {
        let line = &mut self.lines[due.line as usize];
        if line.is_level && line.state != before {
            line.moved_for = Some(*due);
        }
        // One that is on already goes on for another part, which a cut names.
        if let (Some(State::Active), Some(part)) = (line.state, self.gate.pulse_part(due.line)) {
            self.stand.set(due.line.into(), State::Active, part.0);
        }
    }

    /// Tells of a level that was set only when the next part, which `next` is of, was at the gate:
    /// it never stood right for its own. True where it was so.
    pub(super) fn note_held_up(&mut self, next: &Move, events: &Events) -> bool {
        let line = &mut self.lines[next.line as usize];
        let Some(moved) = line.moved_for.take() else { return false };
        let moved_at = line.moved_at;
        if self.late_action.is_none() || moved_at <= next.due || next.part == moved.part {
            return false;
        }
        let missed = Move { cause: Cause::Missed, ..moved };
        self.note_missed(&missed, moved_at, "it was held up until the next part was at the gate", events);
        self.gate.was_wrong(moved_at);
        true
    }

    /// Tells of a move that another one of its line took the place of before it was done: a level,
    /// so that the line was in the other state when the part was at its gate; or a pulse's end, so
    /// that the line stayed on until the next one's. Where lines follow frames, the newest one's
    /// state is all that is wanted.
    pub(super) fn note_skipped(&mut self, due: &Move, now: Instant, events: &Events) {
        let line = &self.lines[due.line as usize];
        let late = now.since(due.due);
        if due.cause == Cause::Ended && line.is_pulse && late > self.edges.late && line.state == Some(State::Active) {
            let (name, part, ms) = (&line.name, due.part.0, late.0 as f64 / 1000.0);
            let why = format_args!(
                "output {name} should have gone to rest {ms:.1} ms ago for part {part}, and stays on for the next pulse: parts \
                 that were at the gate meanwhile got it too"
            );
            return events.fault(FaultKind::LateEdge, Some(part), Remedy::Told, Why::of(&why));
        }
        if self.late_action.is_some() && line.is_level && line.state != Some(state(due.active)) {
            self.note_missed(due, now, "the next part was at the gate by then, so it was not done", events);
            self.gate.was_wrong(now);
        }
    }

    pub(super) fn note_missed(&self, due: &Move, now: Instant, what: &str, events: &Events) {
        let remedy =
            if self.edges.missed == MissedEdge::Safe && due.cause == Cause::Missed { Remedy::Safe } else { Remedy::Told };
        let (name, ms) = (&self.lines[due.line as usize].name, now.since(due.due).0 as f64 / 1000.0);
        let why = Why::of(&format_args!("output {name} was {ms:.1} ms late for part {}: {what}", due.part.0));
        events.fault(FaultKind::MissedEdge, Some(due.part.0), remedy, why);
    }

    pub(super) fn note_not_rejected(&self, part: u64, events: &Events) {
        let Some(ConfirmRules { line, within }) = self.edges.confirm else { return };
        let (name, ms) = (&self.lines[line as usize].name, within.0 / 1000);
        let why = Why::of(&format_args!(
            "part {part} was not seen behind the gate within {ms} ms of the pulse of output {name}: look for it among the good \
             ones, then at the gate"
        ));
        events.fault(FaultKind::NotRejected, Some(part), Remedy::Told, why);
    }
}
