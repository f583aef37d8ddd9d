//! What ought to happen, worked out from the belt alone: which part each frame shows, what each
//! part gets, every line's state at every moment.
//!
//! The ledger is told of passings, of frames that came up for the line and what the model said of
//! them, of the belt, the button and the sensor behind the gate, of changes of the model, and of
//! faults. A part is judged by the model that was current when the line was told of it. Outputs
//! that parts do not move are judged in [`super::status`]. The rules are [`Site`]'s and
//! [`super::naive`]'s; nothing is taken from the line that it judges but the edges of its pins.
//! Parts here are the belt's own, in its order.
//!
//! [`frames`] is what each frame shows and which part needs it, [`lines`] what every line must have
//! done.

mod frames;
mod lines;

use super::naive::Seen;
use super::site::{Moves, Site, Way};
use crate::time::Instant;
use std::collections::BTreeSet;

/// What did not agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Lines that a part called for and that did not move, and frames that a part needed and did
    /// not get.
    pub lost: u64,
    /// Lines moved by the wrong part, frames taken for the wrong part.
    pub swapped: u64,
    /// Lines moved though the part had its due already, or had none.
    pub doubled: u64,
    /// Lines not in the state that a fault asks for, edges at another moment than theirs.
    pub not_safe: u64,
}

impl Verdict {
    /// Whether everything agreed.
    pub const fn is_clean(&self) -> bool {
        self.lost + self.swapped + self.doubled + self.not_safe == 0
    }
}

/// What the model said of a frame, and when.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Scores, and whether the frame lies beyond the distance limit.
    Scores { scores: Vec<u16>, beyond: bool },
    /// An error.
    Failed,
}

/// A frame that came up for the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shot {
    /// When it was exposed.
    pub(super) exposed: Instant,
    /// What the line can know of that: not before, and not after.
    pub(super) known: [Instant; 2],
    /// The image, by number; a camera that is frozen shows one again and again.
    pub(super) image: u64,
    /// Whether a part is in view.
    pub(super) shows_part: bool,
}

/// A part on the belt.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    trigger: u64,
    /// The model that was current then: it decides the part.
    model: u64,
    /// The belt's count then.
    position: i64,
    /// When the line was told of it.
    pub(super) told: u64,
    /// How often all lines had gone safe by then.
    pub(super) safes_before: usize,
    /// It touches a neighbour, or a frame was taken for it that shows another: the late action.
    in_doubt: bool,
    /// It touches a neighbour: it gets no more frames.
    touching: bool,
    /// Exposures of the frames taken for it, in order.
    taken: Vec<u64>,
    /// The images that it was given, also one that was not taken because the part before had it.
    images: Vec<u64>,
    seen: Vec<Seen>,
    answered: u64,
    failed: bool,
    /// A frame that was taken for it shows no part.
    empty: bool,
    /// When a frame of a later part came up: it gets no more.
    passed: Option<u64>,
    /// When it had its verdict, or its end without one.
    pub(super) ended: Option<u64>,
    /// When it was known that it cannot be told from another.
    pub(super) doubted: Option<u64>,
}

/// One edge of a line: when, to what, and the part that the line named (`None` for no part).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) at: Instant,
    pub(super) active: bool,
    pub(super) part: Option<u64>,
}

pub(super) struct Ledger {
    pub(super) site: Site,
    pub(super) parts: Vec<Passing>,
    /// Where the present run begins among them.
    run_from: usize,
    /// The first that came after the last one too many that waited for frames.
    followed_from: usize,
    /// The first part that may not have ended.
    unended: usize,
    /// Moments at which all lines had to go safe, in the order in which they did.
    pub(super) safe_at: Vec<u64>,
    pub(super) acknowledged: Vec<u64>,
    /// Counts of the belt that the line was told of, each farther than the one before: the count,
    /// its moment, when it was told.
    heard: Vec<(i64, u64, u64)>,
    /// What the belt's other inputs and the run itself did, in their order.
    pub(super) noted: Vec<(u64, Noted)>,
    /// Spans in which the line's program did not run.
    stalls: Vec<(u64, u64)>,
    /// When an edge was told as late.
    told_late: BTreeSet<u64>,
    /// The model that decides parts from the next trigger on.
    model: u64,
    /// The part whose frame the model has.
    working: Option<usize>,
    /// The run's last trigger that was not ignored, and where the belt was.
    last_trigger: Option<(u64, i64)>,
    /// Since when it has had none.
    idle_since: u64,
    camera_works: bool,
    pub(super) verdict: Verdict,
    /// Parts that passed a gate which a pulse had set for another part; known once all is judged.
    pub(super) harmed: u64,
    /// The first line that was not in the state that it must have been in, in words.
    pub(super) first: Option<String>,
}

/// What happened that no part did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// All lines had to go safe.
    Safe,
    /// The button was pressed.
    Acknowledged,
    /// The camera gave a frame that can be used, or failed.
    Camera(bool),
    /// The sensor behind the gate saw something at this moment.
    Seen(u64),
    /// A part was told as not seen behind its gate.
    ToldNotRejected(u64),
    /// Something was told as seen that nothing had thrown out.
    ToldUnexpected,
    /// The run ended.
    Stopped,
    /// The run began.
    Started,
}

/// Most parts between trigger and last gate.
pub(super) const MOST_IN_FLIGHT: usize = 64;

impl Ledger {
    pub(super) fn new(site: Site) -> Self {
        let none = Vec::new;
        let verdict = Verdict::default();
        Self {
            site,
            parts: Vec::new(),
            run_from: 0,
            followed_from: 0,
            unended: 0,
            safe_at: none(),
            acknowledged: none(),
            heard: Vec::new(),
            noted: Vec::new(),
            stalls: Vec::new(),
            told_late: BTreeSet::new(),
            model: 0,
            working: None,
            last_trigger: None,
            idle_since: 0,
            camera_works: true,
            verdict,
            harmed: 0,
            first: None,
        }
    }

    /// A part passes at `trigger`, where the belt is at `position`, and the line is told of it at
    /// `told`.
    pub(super) fn passes(&mut self, trigger: Instant, position: i64, told: Instant) {
        let (trigger, told) = (trigger.as_micros(), told.as_micros());
        self.end_overdue(told);
        let too_close = self.last_trigger.is_some_and(|(before, was)| match self.site.min_spacing {
            Way::Us(us) => trigger - before < us,
            Way::Counts(counts) => position - was < counts,
        });
        if too_close && self.site.too_close == "ignore" {
            return;
        }
        self.last_trigger = Some((trigger, position));
        if too_close && self.site.too_close == "safe" {
            return self.note_safe(told);
        }
        let safes_before = self.safe_at.len();
        let in_flight = self.parts.iter().rev().take_while(|p| self.last_gate(p).is_none_or(|at| at >= told));
        let wait_for_frames = self.wait_for_frames();
        let is_one_too_many = wait_for_frames >= MOST_IN_FLIGHT;
        if is_one_too_many || in_flight.filter(|p| safes_before == p.safes_before).count() >= MOST_IN_FLIGHT {
            self.note_safe(told);
        }
        if is_one_too_many {
            // Neither these nor this one are followed.
            for p in self.parts.iter_mut().rev().take(wait_for_frames).filter(|p| p.ended.is_none()) {
                (p.failed, p.passed, p.ended) = (true, Some(told), Some(told));
            }
            self.followed_from = self.parts.len() + 1;
        }
        let before = self.parts.len().checked_sub(1).filter(|i| *i >= self.run_from);
        if too_close && let Some(before) = before {
            self.doubt(before, told);
            self.parts[before].touching = true;
            self.parts[before].ended.get_or_insert(told);
        }
        // A frame that shows this part was taken for an older one, because the trigger was told
        // late.
        if let Way::Us(us) = self.site.to_camera {
            self.doubt_newest_photographed(trigger + us, told);
        }
        self.parts.push(Passing {
            trigger,
            model: self.model,
            position,
            told,
            safes_before,
            in_doubt: too_close,
            touching: too_close,
            taken: Vec::new(),
            images: Vec::new(),
            seen: Vec::new(),
            answered: 0,
            failed: is_one_too_many,
            empty: false,
            passed: is_one_too_many.then_some(told),
            ended: (too_close || is_one_too_many).then_some(told),
            doubted: too_close.then_some(told),
        });
    }

    /// Another model is current: parts that the line is told of from now on are its.
    pub(super) fn model_changes(&mut self, model: u64) {
        self.model = model;
    }

    /// The part whose frame the model has, and the model that must decide it.
    pub(super) fn at_work(&self) -> Option<(usize, u64)> {
        self.working.map(|part| (part, self.parts[part].model))
    }

    /// The line had a part judged by this model, or names it as that; `None` for one that it had
    /// given away.
    pub(super) fn judged_by(&mut self, part: usize, model: Option<u64>, now: Instant) {
        let own = self.parts[part].model;
        if model != Some(own) {
            self.verdict.swapped += 1;
            let what = || format!("part {part} at {} us: judged by model {model:?}, its own is {own}", now.as_micros());
            self.first.get_or_insert_with(what);
        }
    }

    /// Parts from the first that waits for frames, or has not come before the camera, to the newest.
    fn wait_for_frames(&self) -> usize {
        let farthest = self.heard.last().map_or(i64::MIN, |(farthest, ..)| *farthest);
        let is_on_its_way = |p: &Passing| matches!(self.site.to_camera, Way::Counts(n) if farthest < p.position + n);
        let followed = &self.parts[self.run_from.max(self.followed_from).min(self.parts.len())..];
        // With one more than these the line would have let all of them go.
        let followed = &followed[followed.len().saturating_sub(MOST_IN_FLIGHT)..];
        let first = followed.iter().position(|p| p.ended.is_none() || is_on_its_way(p));
        first.map_or(0, |first| followed.len() - first)
    }

    /// The line is told at `told` that the belt came to `position` at `at`.
    pub(super) fn belt(&mut self, position: i64, at: Instant, told: Instant) {
        let (at, told) = (at.as_micros(), told.as_micros());
        self.end_overdue(told);
        if self.heard.last().is_some_and(|(farthest, ..)| *farthest >= position) {
            return;
        }
        let before = self.heard.last().map_or(i64::MIN, |(farthest, ..)| *farthest);
        self.heard.push((position, at, told));
        self.end_overdue(told);
        if let Way::Counts(counts) = self.site.to_camera {
            let comes = |p: &Passing| (before + 1..=position).contains(&(p.position + counts));
            if self.parts[self.run_from..].iter().rev().take(4 * MOST_IN_FLIGHT).any(comes) {
                self.doubt_newest_photographed(at, told);
            }
        }
    }

    /// The newest part that has frames, if the last of them was exposed when another part had come
    /// before the camera.
    fn doubt_newest_photographed(&mut self, came: u64, told: u64) {
        let newest = (self.run_from..self.parts.len()).rev().take(MOST_IN_FLIGHT).find(|i| !self.parts[*i].taken.is_empty());
        if let Some(newest) = newest.filter(|i| self.parts[*i].taken.last().is_some_and(|exposed| *exposed >= came)) {
            self.doubt(newest, told);
        }
    }

    /// A part cannot be told from another. Too late for one that has been at a gate by then.
    fn doubt(&mut self, part: usize, told: u64) {
        if self.first_gate(&self.parts[part]).is_none_or(|at| at >= told) {
            let p = &mut self.parts[part];
            p.in_doubt = true;
            p.doubted.get_or_insert(told);
        }
    }

    /// When a part has gone this far from its trigger, and when the line does what is due then.
    fn gone(&self, p: &Passing, way: Way) -> Option<(u64, u64)> {
        match way {
            Way::Us(us) => Some((p.trigger + us, self.done(p.trigger + us).max(p.told))),
            Way::Counts(counts) => {
                let at = self.heard.partition_point(|(position, ..)| *position < p.position + counts);
                self.heard.get(at).map(|(_, at, told)| (*at, (*told).max(p.told)))
            }
        }
    }

    /// When the line can know that a part has gone this far, if no stall holds it up: of counts, as
    /// it is told of them.
    fn known(&self, p: &Passing, way: Way) -> Option<u64> {
        self.gone(p, way).map(|(due, done)| if matches!(way, Way::Us(_)) { due } else { done })
    }

    /// When a part was at the first gate that verdicts move.
    pub(super) fn first_gate(&self, p: &Passing) -> Option<u64> {
        let lines = self.site.lines.iter().filter(|l| !l.by_trigger);
        lines.filter_map(|l| self.gone(p, l.delay)).map(|(_, done)| done).min()
    }

    /// When a part was at its last gate; `None` if it has not been there.
    pub(super) fn last_gate(&self, p: &Passing) -> Option<u64> {
        let mut last = 0;
        for line in &self.site.lines {
            last = last.max(self.gone(p, line.delay)?.1);
        }
        Some(last)
    }

    fn note_safe(&mut self, at: u64) {
        self.safe_at.push(at);
        self.noted.push((at, Noted::Safe));
    }

    /// Parts that get no more frames have their end, in their order, as soon as the model is free.
    fn end_overdue(&mut self, now: u64) {
        while self.working.is_none()
            && let Some(p) = self.parts.get(self.unended)
        {
            if p.ended.is_none() {
                let over = [p.passed, self.deadline(p)].into_iter().flatten().min();
                let Some(over) = over.filter(|at| *at <= now) else { return };
                self.parts[self.unended].ended = Some(over.max(self.idle_since).max(p.told));
            }
            self.unended += 1;
        }
    }

    /// What happened that no part did.
    pub(super) fn note(&mut self, at: Instant, noted: Noted) {
        let at = at.as_micros();
        self.end_overdue(at);
        match noted {
            Noted::Safe => self.safe_at.push(at),
            Noted::Acknowledged => self.acknowledged.push(at),
            // What was on its way is given up, and nobody knows of it afterwards.
            Noted::Stopped => {
                self.safe_at.push(at);
                (self.run_from, self.unended, self.working) = (self.parts.len(), self.parts.len(), None);
                self.last_trigger = None;
                self.parts.iter_mut().rev().take(4 * MOST_IN_FLIGHT).for_each(|p| {
                    p.passed.get_or_insert(at);
                    p.ended.get_or_insert(at);
                });
            }
            Noted::Started => (self.idle_since, self.camera_works) = (at, true),
            Noted::Camera(works) => self.camera_works = works,
            _ => {}
        }
        self.noted.push((at, noted));
    }

    /// An edge was told as late.
    pub(super) fn edge_told_late(&mut self, at: Instant) {
        self.told_late.insert(at.as_micros());
    }

    /// The line's program did not run from `from` until now.
    pub(super) fn stalled(&mut self, from: Instant, to: Instant) {
        self.stalls.push((from.as_micros(), to.as_micros()));
    }

    /// What was due by `now` has been done, or missed: where the site asks for it, a missed pulse
    /// makes the line safe. One is missed in a stall that ended now, or because its part, or the
    /// count at which it is at the gate, was told only now. `stood_still`: whether a stall ended
    /// now.
    pub(super) fn caught_up(&mut self, now: Instant, stood_still: bool) {
        if !self.site.missed_is_safe {
            return;
        }
        let now = now.as_micros();
        let stall = self.stalls.last().filter(|_| stood_still).map(|(from, _)| *from);
        let from = self.parts.len().saturating_sub(8 * MOST_IN_FLIGHT);
        let missed = |n: usize, p: &Passing, i: usize, line: &super::site::Line| {
            let Some((due, done)) = self.gone(p, line.delay) else { return false };
            let became_due = match line.delay {
                Way::Us(_) => stall.is_some_and(|from| due >= from) || p.told == now,
                Way::Counts(_) => done == now,
            };
            let is_late = became_due && due < now && now - due > line.window_us;
            let is_pulse = matches!(line.moves, Moves::Pulse(_));
            let is_called = |n: usize| self.called(&self.parts[n]).contains(&i);
            let was_on = || self.course(i, from, is_called).1.iter().any(|pulse| pulse.part == n && pulse.in_time);
            is_pulse && is_late && self.is_followed(p, now) && is_called(n) && !was_on()
        };
        // Without a stall only what is told now can be late.
        let newest = self.parts.iter().enumerate().rev().take(4 * MOST_IN_FLIGHT);
        let by_counts = self.site.lines.iter().any(|line| matches!(line.delay, Way::Counts(_)));
        let mut newest = newest.take_while(|(_, p)| stood_still || by_counts || p.told == now);
        if newest.any(|(n, p)| self.site.lines.iter().enumerate().any(|(i, line)| missed(n, p, i, line))) {
            self.note_safe(now);
        }
    }

    /// When the program last began to run again between two moments; `None` if it did not stand
    /// still there.
    pub(super) fn stood_still(&self, from: u64, to: u64) -> Option<u64> {
        let before = self.stalls.partition_point(|(began, _)| *began <= to);
        self.stalls[..before].last().map(|(_, ended)| *ended).filter(|ended| *ended >= from)
    }

    /// When the program does what is due at `due`: at once, or when a stall has ended.
    pub(super) fn done(&self, due: u64) -> u64 {
        let at = self.stalls.partition_point(|(_, to)| *to <= due);
        self.stalls.get(at).filter(|(from, _)| *from <= due).map_or(due, |(_, to)| *to)
    }

    /// Whether a part's frames all show a part and were answered, in time or not.
    pub(super) fn is_decided(&self, part: usize) -> bool {
        let p = &self.parts[part];
        p.seen.len() >= self.site.frames && !p.failed && !p.in_doubt && !p.empty
    }

    /// How many parts came, without those that are the part before again.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }
}

#[cfg(test)]
mod tests;
