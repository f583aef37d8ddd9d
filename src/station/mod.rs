//! The sorting line as one machine: from a trigger to the lines that a part's verdict calls for.
//!
//! [`Station::step`] takes one input at a moment and tells what follows from it, as effects. The
//! board's threads and the simulator both only carry inputs in and effects out: numbering, spacing,
//! which frame belongs to which part, votes, verdict, routing and deadlines happen here and nowhere
//! else. When an output moves is the [`Gate`](crate::line::Gate)'s business, which the thread of
//! the outputs owns: it is told of a part at its trigger, so that the late action is taken in time
//! whatever the model does.
//!
//! A frame that a part needs gives [`Effect::Classify`] with a [`Ticket`]; scores can only be given
//! for a ticket, and a ticket only once, so no order of calls mixes up two frames. While a ticket
//! is out, triggers are taken at once, and no part's deadline is judged: the model is at work on
//! the oldest frame.
//!
//! Two models have a [`Slot`], so that one takes the other's place while parts are on their way:
//! a part is decided by the model that is current at its trigger. A model is only put into a slot
//! that no part needs, which a [`Spare`] stands for.
//!
//! No heap and no clock.
//!
//! Terms: *admit*: give a trigger edge a part number. *Give up*: end a part without a verdict.

mod exchange;
mod frozen;
mod models;
mod routing;

pub use exchange::{Effect, Input, Over, PartDone, Scope, Ticket};
pub use models::{Slot, Spare};
pub use routing::{Calls, Routing};

use crate::MAX_TAGS;
use crate::decide::{Decider, Decision, Observation, Policy, PolicyError, TagPolicy, TagRule, Verdict};
use crate::fault::Reason;
use crate::frame::{CapturedAt, Fingerprint};
use crate::head::{Score, TagId, top_k};
use crate::line::{Admission, Intake, Line, MAX_PARTS, Moment, Opened, Part, PartId, PartRules, Spacing, Taken, Travel};
use crate::time::{Instant, Micros};
use frozen::Frozen;
use heapless::{Deque, Vec};
use models::Models;

/// What a site and its model decide of the line.
#[derive(Clone, Debug)]
pub struct StationRules<'r> {
    /// Threshold, band, action and preference of every tag.
    pub tags: &'r [TagPolicy],
    /// The policy over frames.
    pub policy: Policy,
    /// Which lines each decision calls for, and whether outputs follow parts.
    pub routing: Routing,
    /// Whether each frame is a part: then votes are over the last n parts.
    pub every_frame: bool,
    /// Least distance of parts.
    pub spacing: Spacing,
    /// Frames and deadline of a part.
    pub part: PartRules,
    /// The shortest time from trigger to a gate, if time decides it.
    pub first_gate: Option<Micros>,
    /// Parts after which the run is over; 0 for no limit.
    pub parts: u64,
    /// Inferences that may fail in a row before the line is held; 0 for no limit.
    pub max_faults: u32,
}

/// Changes of rules that may wait for their first part.
const MAX_CHANGES: usize = 4;

/// The sorting line.
#[derive(Clone, Debug)]
pub struct Station {
    routing: Routing,
    decider: Decider,
    intake: Intake,
    line: Line,
    every_frame: bool,
    watches_belt: bool,
    first_gate: Option<Micros>,
    /// The part whose votes the decider holds.
    deciding: Option<PartId>,
    /// The part of the ticket that is out.
    classifying: Option<PartId>,
    /// The best tag of the last frame of parts that wait for more.
    best: Deque<(PartId, TagId, Score), MAX_PARTS>,
    /// Rules that wait, each with the first part that it is for, in their order.
    waiting_rules: Deque<(PartId, Vec<TagRule, MAX_TAGS>), MAX_CHANGES>,
    models: Models,
    frozen: Frozen,
    /// Parts that wait and will not be believed.
    doubted: Vec<PartId, MAX_PARTS>,
    /// The newest part that has a verdict of its own in time.
    newest_sorted: PartId,
    failed_in_a_row: u32,
    max_faults: u32,
    wanted: u64,
    ended: u64,
    /// The run ends.
    stopped: bool,
    /// No trigger opens a part any more.
    closed: bool,
}

impl Station {
    /// A line with nothing on it. Refuses tags and a policy that make no decider.
    pub fn new(rules: StationRules<'_>) -> Result<Self, PolicyError> {
        Ok(Self {
            decider: Decider::new(rules.routing.task(), rules.tags, rules.policy)?,
            routing: rules.routing,
            intake: Intake::new(rules.spacing),
            line: Line::new(rules.part),
            every_frame: rules.every_frame,
            watches_belt: [rules.part.to_camera, rules.part.deadline].iter().any(|way| matches!(way, Travel::Counts(_))),
            first_gate: rules.first_gate,
            deciding: None,
            classifying: None,
            best: Deque::new(),
            waiting_rules: Deque::new(),
            models: Models::default(),
            frozen: Frozen::default(),
            doubted: Vec::new(),
            newest_sorted: PartId(0),
            failed_in_a_row: 0,
            max_faults: rules.max_faults,
            wanted: rules.parts,
            ended: 0,
            stopped: false,
            closed: false,
        })
    }

    /// Takes one input at `now` and tells `effects` what follows from it, in the order in which it
    /// must be carried out.
    pub fn step(&mut self, now: Moment, input: Input<'_>, effects: &mut dyn FnMut(Effect)) {
        // Before anything else: a frame that comes after a part's deadline is not taken for it.
        self.end_overdue(now, effects);
        match input {
            Input::Trigger(trigger) => self.admit(now.at, trigger, effects),
            Input::Belt(moment) => {
                if let Some(before) = self.line.advance(moment) {
                    self.doubt(before, effects);
                }
            }
            Input::Frame { captured_at, shows, print } => self.frame(now.at, captured_at, shows, print, effects),
            Input::Scores { ticket, scores, beyond } => self.scores(now.at, ticket, scores, beyond, effects),
            Input::NotClassified { ticket, reason } => self.not_classified(now.at, ticket, reason, effects),
            Input::NoFrame(reason) => self.no_frame(now.at, reason, effects),
            Input::LineFault(reason) => effects(Effect::Fault { reason, part: None, scope: Scope::Line }),
            Input::SourceEnded { live } => {
                self.give_up_all(now.at, Reason::SourceGone, effects);
                effects(Effect::Over(if live { Over::SourceLost } else { Over::Done }));
            }
            Input::Stopped { reason, safe } => self.stop(now.at, reason, safe, effects),
            Input::Close => self.closed = true,
            Input::Rules(rules) => self.take_rules(rules),
            Input::Model { spare, rules } => {
                let from = self.next_part();
                let slot = self.models.change(spare, from);
                self.take_rules(rules);
                effects(Effect::Model { slot, from });
            }
            Input::Tick => {}
        }
        self.end_overdue(now, effects);
        let undecided = self.line.oldest().map(|part| part.id).into_iter().chain(self.classifying);
        let oldest = undecided.min();
        self.models.leave(oldest);
        let next = self.next_part();
        self.leave_rules(oldest.unwrap_or(next));
        if self.closed && !self.stopped && oldest.is_none() {
            self.stopped = true;
            effects(Effect::Over(Over::Closed));
        }
    }

    /// The slot that no part needs: a model may be put there and made current. `None` while parts
    /// of the model before are undecided, and once it was taken, until it is current and the next
    /// slot is free.
    pub fn take_spare(&mut self) -> Option<Spare> {
        self.models.take_spare()
    }

    /// The number that the next trigger gets.
    fn next_part(&self) -> PartId {
        PartId(self.intake.count() + 1)
    }

    /// Rules for the parts that are triggered from now on.
    fn take_rules(&mut self, rules: &[TagRule]) {
        let first = self.next_part();
        let Ok(rules) = Vec::from_slice(rules) else { return };
        // Rules that no part was triggered under, or the newest of too many: the last word counts.
        if self.waiting_rules.is_full() || self.waiting_rules.back().is_some_and(|(other, _)| *other == first) {
            self.waiting_rules.pop_back();
        }
        let _ = self.waiting_rules.push_back((first, rules));
    }

    /// Lets go of rules that no part from `oldest` on can need: newer ones hold for all of them.
    fn leave_rules(&mut self, oldest: PartId) {
        while self.waiting_rules.iter().nth(1).is_some_and(|(first, _)| *first <= oldest) {
            self.waiting_rules.pop_front();
        }
    }

    /// Ends parts that will get no more frames. One whose frame is with the model is not overdue:
    /// its verdict comes first.
    fn end_overdue(&mut self, now: Moment, effects: &mut dyn FnMut(Effect)) {
        while self.classifying.is_none()
            && let Some(part) = self.line.overdue(now)
        {
            self.fail(now.at, part, part.trigger.at, Reason::NoFrame, effects);
        }
    }

    /// Time until the oldest part's deadline; `None` if no part waits, the belt's speed decides, or
    /// the model is at work.
    pub fn time_left(&self, now: Instant) -> Option<Micros> {
        if self.classifying.is_some() { None } else { self.line.time_left(now) }
    }

    /// Whether each position of the belt must be told as [`Input::Belt`].
    pub const fn watches_belt(&self) -> bool {
        self.watches_belt
    }

    /// Trigger edges that came too close behind another so far.
    pub fn too_close(&self) -> u64 {
        self.intake.too_close()
    }

    /// How many tags hold at once.
    pub fn task(&self) -> crate::decide::Task {
        self.routing.task()
    }

    /// A trigger edge: a part, the same part again, or a reason to stop.
    fn admit(&mut self, now: Instant, trigger: Moment, effects: &mut dyn FnMut(Effect)) {
        if self.stopped || self.wanted > 0 && self.intake.count() >= self.wanted {
            return;
        }
        if self.closed {
            if !self.every_frame {
                effects(Effect::Unopened);
            }
            return;
        }
        let (part, touching) = match self.intake.edge(trigger) {
            Admission::Part(id) => (id, false),
            Admission::Touching(id) => (id, true),
            Admission::Ignored => return,
            Admission::Safe => {
                return effects(Effect::Fault { reason: Reason::TooClose, part: None, scope: Scope::Line });
            }
        };
        effects(Effect::Opened { part, trigger, touching });
        match self.line.trigger(part, trigger) {
            Opened::Waits => {}
            Opened::Full => {
                effects(Effect::Fault { reason: Reason::Overflow, part: Some(part), scope: Scope::Line });
                // Their gates are given up: if they went on waiting, each trigger after this one
                // would be one too many again.
                while let Some(waiting) = self.line.oldest() {
                    self.line.close(waiting.id);
                    self.unfollowed(waiting, effects);
                }
                self.line.forget();
                self.decider.forget();
                self.best.clear();
                self.doubted.clear();
                self.unfollowed(Part { id: part, trigger, frames: 0 }, effects);
            }
            // The part before was photographed when this one was already there.
            Opened::Doubt(before) => self.doubt(before, effects),
        }
        if touching {
            let before = PartId(part.0 - 1);
            if self.newest_sorted == before && self.routing.is_gated() {
                self.doubt(before, effects);
            }
            for id in [PartId(part.0 - 1), part] {
                if let Some(part) = self.line.waiting(id) {
                    self.fail(now, part, part.trigger.at, Reason::TooClose, effects);
                }
            }
        }
    }

    /// A part cannot be told from the next one. Where outputs follow parts, they know whether it
    /// has been at a gate.
    fn doubt(&mut self, part: PartId, effects: &mut dyn FnMut(Effect)) {
        self.frozen.set_decided(part, false);
        if self.line.waiting(part).is_some() && !self.doubted.contains(&part) {
            // No more parts wait than fit.
            let _ = self.doubted.push(part);
        }
        effects(Effect::Doubt { part, reason: Reason::TooClose });
        if !self.routing.is_gated() {
            self.part_fault(Reason::TooClose, Some(part), effects);
        }
    }

    fn frame(
        &mut self,
        now: Instant,
        captured_at: CapturedAt,
        shows: Option<Moment>,
        print: Option<Fingerprint>,
        effects: &mut dyn FnMut(Effect),
    ) {
        self.frozen.sees(print);
        if let Some(trigger) = shows {
            self.admit(now, trigger, effects);
        } else if self.every_frame {
            self.admit(now, Moment::at(captured_at.exposed_from().unwrap_or(captured_at.instant())), effects);
        }
        // One frame at a time is with the model; what comes meanwhile is not taken, and a newer one
        // will be.
        if self.classifying.is_some() {
            return;
        }
        let (part, last) = match self.line.frame(captured_at) {
            Taken::NotOurs => return,
            Taken::More(part) => (part, false),
            Taken::Last(part) => (part, true),
        };
        if let Some(print) = print.filter(|_| self.routing.is_gated())
            && self.frozen.shows_again(part.id, print)
        {
            if let Some(before) = self.line.waiting(self.frozen.before()) {
                self.fail(now, before, before.trigger.at, Reason::Frozen, effects);
            } else if let Some(before) = self.frozen.doubtful() {
                effects(Effect::Doubt { part: before, reason: Reason::Frozen });
            }
            return self.fail(now, part, captured_at.instant(), Reason::Frozen, effects);
        }
        while self.waiting_rules.front().is_some_and(|(first, _)| part.id >= *first)
            && let Some((_, rules)) = self.waiting_rules.pop_front()
        {
            // They fit: those that do not were not taken.
            let _ = self.decider.set_rules(&rules);
        }
        // Where outputs follow parts, a part's votes are its own.
        if self.routing.is_gated() && !self.every_frame && self.deciding != Some(part.id) {
            self.decider.forget();
        }
        (self.deciding, self.classifying) = (Some(part.id), Some(part.id));
        let model = self.models.of(part.id);
        effects(Effect::Classify(Ticket { part, captured_at: captured_at.instant(), last, model }));
    }

    fn scores(&mut self, now: Instant, ticket: Ticket, scores: &[Score], beyond: bool, effects: &mut dyn FnMut(Effect)) {
        let Ticket { part, captured_at, last, .. } = ticket;
        self.classifying = None;
        self.failed_in_a_row = 0;
        // Given up while the model was at work: it has had its end.
        if self.line.waiting(part.id).is_none() {
            return;
        }
        self.remember_best(part.id, scores);
        let decision = self.decider.step(now, Observation::Scores { captured_at, scores, beyond });
        if !last && !matches!(decision.verdict, Verdict::Safe(_)) {
            if !self.routing.is_gated() {
                effects(Effect::Now { part: part.id, calls: self.routing.of(&decision).1 });
            }
            return;
        }
        self.end(now, part, captured_at, decision, effects);
    }

    fn not_classified(&mut self, now: Instant, ticket: Ticket, reason: Reason, effects: &mut dyn FnMut(Effect)) {
        let Ticket { part, captured_at, .. } = ticket;
        self.classifying = None;
        self.failed_in_a_row += 1;
        if self.max_faults > 0 && self.failed_in_a_row >= self.max_faults {
            effects(Effect::Over(Over::Held));
        }
        match self.line.waiting(part.id) {
            Some(part) => self.fail(now, part, captured_at, reason, effects),
            None => self.part_fault(reason, None, effects),
        }
    }

    fn remember_best(&mut self, part: PartId, scores: &[Score]) {
        let mut best = [(TagId(0), Score(0))];
        if top_k(scores, &mut best) == 1 {
            let [(tag, score)] = best;
            self.best.retain(|(id, ..)| *id != part);
            // No more parts wait than fit, so none is refused.
            let _ = self.best.push_back((part, tag, score));
        }
    }

    /// Where outputs follow parts, each part still has until its deadline for another frame; where
    /// they follow tags, nothing is known any more.
    fn no_frame(&mut self, now: Instant, reason: Reason, effects: &mut dyn FnMut(Effect)) {
        if self.routing.is_gated() {
            effects(Effect::Fault { reason, part: None, scope: Scope::Part });
            if reason == Reason::Frozen {
                self.stuck(now, effects);
            }
            return;
        }
        if self.line.oldest().is_none() {
            self.decider.forget();
            return effects(Effect::Fault { reason, part: None, scope: Scope::Line });
        }
        self.give_up_all(now, reason, effects);
    }

    /// The camera stands still: what took its image is not sorted by it.
    fn stuck(&mut self, now: Instant, effects: &mut dyn FnMut(Effect)) {
        for (part, decided) in self.frozen.stuck().into_iter().flatten() {
            if let Some(part) = self.line.waiting(part) {
                self.fail(now, part, part.trigger.at, Reason::Frozen, effects);
            } else if decided {
                effects(Effect::Doubt { part, reason: Reason::Frozen });
            }
        }
    }

    fn give_up_all(&mut self, now: Instant, reason: Reason, effects: &mut dyn FnMut(Effect)) {
        while let Some(part) = self.line.oldest() {
            self.fail(now, part, part.trigger.at, reason, effects);
        }
    }

    /// A part's end without a verdict. The votes of another part, which is being decided meanwhile,
    /// are kept.
    fn fail(&mut self, now: Instant, part: Part, captured_at: Instant, reason: Reason, effects: &mut dyn FnMut(Effect)) {
        let is_its_own = !self.routing.is_gated() || self.every_frame || self.deciding == Some(part.id);
        let decision = match is_its_own {
            true => self.decider.step(now, Observation::Missing(reason)),
            false => Decision::safe(reason),
        };
        self.end(now, part, captured_at, decision, effects);
    }

    /// A part that nobody follows any more: it counts as one without a verdict, and moves nothing.
    fn unfollowed(&mut self, part: Part, effects: &mut dyn FnMut(Effect)) {
        effects(Effect::Decided(PartDone {
            part,
            captured_at: part.trigger.at,
            best: None,
            decision: Decision::safe(Reason::Overflow),
            action: None,
            late: false,
            calls: 0,
            model: self.models.of(part.id),
        }));
        self.count_end(effects);
    }

    /// Ends all that wait because the run ends.
    fn stop(&mut self, now: Instant, reason: Reason, safe: bool, effects: &mut dyn FnMut(Effect)) {
        self.stopped = true;
        while let Some(part) = self.line.oldest() {
            let best = self.close(part.id);
            let (decision, captured_at) = (Decision::safe(reason), part.trigger.at);
            let late = self.is_late(now, part);
            let (action, calls) = if late || !safe { self.routing.late() } else { (None, 0) };
            let model = self.models.of(part.id);
            effects(Effect::Decided(PartDone { part, captured_at, best, decision, action, late, calls, model }));
        }
    }

    /// A part waits no more; the best tag of its last frame.
    fn close(&mut self, id: PartId) -> Option<(TagId, Score)> {
        self.line.close(id);
        let best = self.best.iter().find(|(of, ..)| *of == id).map(|(_, tag, score)| (*tag, *score));
        self.best.retain(|(of, ..)| *of != id);
        best
    }

    /// Whether a part has been at its first gate, where the late action was taken.
    fn is_late(&self, now: Instant, part: Part) -> bool {
        self.routing.is_gated() && self.first_gate.is_some_and(|gate| now > part.trigger.at.plus(gate))
    }

    fn part_fault(&self, reason: Reason, part: Option<PartId>, effects: &mut dyn FnMut(Effect)) {
        let scope = if self.routing.is_gated() { Scope::Part } else { Scope::Line };
        effects(Effect::Fault { reason, part, scope });
    }

    fn end(&mut self, now: Instant, part: Part, captured_at: Instant, decision: Decision, effects: &mut dyn FnMut(Effect)) {
        let best = self.close(part.id);
        let in_doubt = self.doubted.contains(&part.id);
        self.doubted.retain(|id| *id != part.id);
        let decision = if in_doubt && self.routing.is_gated() { Decision::safe(Reason::TooClose) } else { decision };
        let late = self.is_late(now, part);
        let (action, calls) = if late { self.routing.late() } else { self.routing.of(&decision) };
        if !late && !matches!(decision.verdict, Verdict::Safe(_)) {
            self.frozen.set_decided(part.id, true);
            self.newest_sorted = self.newest_sorted.max(part.id);
        }
        let model = self.models.of(part.id);
        effects(Effect::Decided(PartDone { part, captured_at, best, decision, action, late, calls, model }));
        if let Verdict::Safe(reason) = decision.verdict {
            self.part_fault(reason, Some(part.id), effects);
        }
        self.count_end(effects);
    }

    /// The last part that was wanted ends the run.
    fn count_end(&mut self, effects: &mut dyn FnMut(Effect)) {
        self.ended += 1;
        // None has ended by number 0, which stands for no limit.
        if self.ended == self.wanted {
            effects(Effect::Over(Over::Done));
        }
    }
}

#[cfg(test)]
#[cfg(feature = "std")]
mod tests;
