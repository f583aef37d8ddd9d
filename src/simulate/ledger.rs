//! What ought to happen, worked out from the belt alone: which part each frame shows, what each part gets, every line's
//! state at every moment.
//!
//! The ledger is told of passings, of frames that came up for the line and what the model said of them, of the belt, the
//! button and the sensor behind the gate, and of faults. Outputs that parts do not move are judged in [`super::status`]. The
//! rules are [`Site`]'s and [`naive`]'s reading; nothing is taken from the line that it judges but the edges of its pins.
//! Parts here are the belt's own, in its order.

use super::naive::{self, Seen};
use super::site::{Moves, Site, Way};
use crate::decide::Action;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// What did not agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Lines that a part called for and that did not move, and frames that a part needed and did not get.
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

/// A part on the belt.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    trigger: u64,
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
    /// The first part that may not have ended.
    unended: usize,
    /// Moments at which all lines had to go safe, in the order in which they did.
    pub(super) safe_at: Vec<u64>,
    pub(super) acknowledged: Vec<u64>,
    /// Counts of the belt that the line was told of, each farther than the one before: the count, its moment, when it was told.
    heard: Vec<(i64, u64, u64)>,
    /// What the belt's other inputs and the run itself did, in their order.
    pub(super) noted: Vec<(u64, Noted)>,
    /// Spans in which the line's program did not run.
    stalls: Vec<(u64, u64)>,
    /// The part whose frame the model has.
    working: Option<usize>,
    /// Since when it has had none.
    idle_since: u64,
    camera_works: bool,
    pub(super) verdict: Verdict,
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
            unended: 0,
            safe_at: none(),
            acknowledged: none(),
            heard: Vec::new(),
            noted: Vec::new(),
            stalls: Vec::new(),
            working: None,
            idle_since: 0,
            camera_works: true,
            verdict,
            first: None,
        }
    }

    /// A part passes at `trigger`, where the belt is at `position`, and the line is told of it at `told`.
    pub(super) fn passes(&mut self, trigger: Instant, position: i64, told: Instant) {
        let (trigger, told) = (trigger.as_micros(), told.as_micros());
        self.end_overdue(told);
        let last = self.parts[self.run_from..].last();
        let too_close = last.is_some_and(|p| match self.site.min_spacing {
            Way::Us(us) => trigger - p.trigger < us,
            Way::Counts(counts) => position - p.position < counts,
        });
        match (too_close, self.site.too_close.as_str()) {
            (true, "ignore") => return,
            (true, "safe") => return self.note_safe(told),
            _ => {}
        }
        let safes_before = self.safe_at.len();
        let in_flight = self.parts.iter().rev().take_while(|p| self.last_gate(p).is_none_or(|at| at >= told));
        if in_flight.filter(|p| safes_before == p.safes_before).count() >= MOST_IN_FLIGHT {
            self.note_safe(told);
        }
        let before = self.parts.len().checked_sub(1).filter(|i| *i >= self.run_from);
        if too_close && let Some(before) = before {
            self.doubt(before, told);
            self.parts[before].touching = true;
            self.parts[before].ended.get_or_insert(told);
        }
        // A frame that shows this part was taken for an older one, because the trigger was told late.
        if let Way::Us(us) = self.site.to_camera {
            self.doubt_newest_photographed(trigger + us, told);
        }
        self.parts.push(Passing {
            trigger,
            position,
            told,
            safes_before,
            in_doubt: too_close,
            touching: too_close,
            taken: Vec::new(),
            images: Vec::new(),
            seen: Vec::new(),
            answered: 0,
            failed: false,
            passed: None,
            ended: too_close.then_some(told),
            doubted: too_close.then_some(told),
        });
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

    /// The newest part that has frames, if the last of them was exposed when another part had come before the camera.
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

    /// When the line knows that a part has gone this far from its trigger: when that is due, and when it is done.
    fn gone(&self, p: &Passing, way: Way) -> Option<(u64, u64)> {
        match way {
            Way::Us(us) => Some((p.trigger + us, self.done(p.trigger + us).max(p.told))),
            Way::Counts(counts) => {
                let at = self.heard.partition_point(|(position, ..)| *position < p.position + counts);
                self.heard.get(at).map(|(.., told)| (*told, *told))
            }
        }
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

    /// The line's program did not run from `from` until now.
    pub(super) fn stalled(&mut self, from: Instant, to: Instant) {
        self.stalls.push((from.as_micros(), to.as_micros()));
    }

    /// What became due in the last stall has been done, or missed: where the site asks for it, a missed pulse makes the line
    /// safe.
    pub(super) fn caught_up(&mut self) {
        let Some(&(from, to)) = self.stalls.last().filter(|_| self.site.missed_is_safe) else { return };
        let missed = |p: &Passing, i: usize, line: &super::site::Line| {
            let Way::Us(way) = line.delay else { return false };
            let due = p.trigger + way;
            let is_late = due >= from && due < to && to - due > line.window_us;
            let is_pulse = matches!(line.moves, Moves::Pulse(_));
            is_pulse && is_late && self.is_followed(p, self.done(due)) && self.called(p).contains(&i)
        };
        let lines = || self.site.lines.iter().enumerate();
        if self.parts.iter().rev().take(4 * MOST_IN_FLIGHT).any(|p| lines().any(|(i, line)| missed(p, i, line))) {
            self.note_safe(to);
        }
    }

    /// When the program last began to run again between two moments; `None` if it did not stand still there.
    pub(super) fn stood_still(&self, from: u64, to: u64) -> Option<u64> {
        let before = self.stalls.partition_point(|(began, _)| *began <= to);
        self.stalls[..before].last().map(|(_, ended)| *ended).filter(|ended| *ended >= from)
    }

    /// When the program does what is due at `due`: at once, or when a stall has ended.
    pub(super) fn done(&self, due: u64) -> u64 {
        let at = self.stalls.partition_point(|(_, to)| *to <= due);
        self.stalls.get(at).filter(|(from, _)| *from <= due).map_or(due, |(_, to)| *to)
    }

    /// The belt's part before the camera at `exposed`, as far as it has been told.
    pub(super) fn before_camera(&self, exposed: Instant) -> Option<usize> {
        let exposed = exposed.as_micros();
        let came = |p: &Passing| match self.site.to_camera {
            Way::Us(us) => Some(p.trigger + us),
            Way::Counts(counts) => {
                let at = self.heard.partition_point(|(position, ..)| *position < p.position + counts);
                self.heard.get(at).map(|(_, at, _)| *at)
            }
        };
        (self.run_from..self.parts.len()).rev().find(|i| came(&self.parts[*i]).is_some_and(|at| at <= exposed))
    }

    /// When a part's deadline is over; `None` while the belt has not told so.
    fn deadline(&self, p: &Passing) -> Option<u64> {
        self.gone(p, self.site.deadline).map(|(due, _)| due)
    }

    /// Whether a part needs a frame that comes up at `now`; `None` where both are right.
    fn needs(&self, part: usize, now: u64) -> Option<bool> {
        let p = &self.parts[part];
        let ended = p.touching || p.failed || p.passed.is_some() || p.taken.len() >= self.site.frames;
        match self.deadline(p).map(|deadline| now.cmp(&deadline)) {
            _ if ended => Some(false),
            None | Some(std::cmp::Ordering::Less) => Some(true),
            Some(std::cmp::Ordering::Equal) => None,
            Some(std::cmp::Ordering::Greater) => Some(false),
        }
    }

    /// A frame exposed at `exposed` came up at `now`, and the line took it for its part `taken`, counted from 0, or for none.
    /// `image`: what the frame shows, by number; a camera that is frozen shows one again and again.
    pub(super) fn offered(&mut self, exposed: Instant, now: Instant, image: u64, taken: Option<u64>) {
        self.end_overdue(now.as_micros());
        if !self.camera_works {
            self.note(now, Noted::Camera(true));
        }
        let shown = self.before_camera(exposed);
        let mut needs = shown.map_or(Some(false), |part| self.needs(part, now.as_micros()));
        if let Some(part) = shown.filter(|_| needs == Some(true))
            && self.is_frozen(part, image, now.as_micros())
        {
            needs = Some(false);
        }
        let before = self.verdict;
        match (taken, shown) {
            (Some(t), Some(s)) if t != s as u64 => self.verdict.swapped += 1,
            (Some(_), None) => self.verdict.swapped += 1,
            (Some(_), Some(_)) if needs == Some(false) => self.verdict.doubled += 1,
            (None, Some(_)) if needs == Some(true) => self.verdict.lost += 1,
            _ => {}
        }
        if self.verdict != before && self.first.is_none() {
            let (exposed, now) = (exposed.as_micros(), now.as_micros());
            let what = format!("shows part {shown:?}, needed {needs:?}, was taken for {taken:?}");
            self.first = Some(format!("the frame exposed at {exposed} us, there at {now} us: {what}"));
        }
        if let Some(part) = shown {
            // Whatever older part still waits gets no more frames once this one was seen.
            self.parts[..part].iter_mut().rev().take(MOST_IN_FLIGHT).for_each(|p| {
                p.passed.get_or_insert(now.as_micros());
            });
            if taken.is_some() && needs != Some(false) {
                self.parts[part].taken.push(exposed.as_micros());
                self.working = Some(part);
            }
        }
        self.end_overdue(now.as_micros());
    }

    /// Whether a frame that `part` needs shows what a frame of the last part with frames showed. Then this part gets no frames, and
    /// that one the late action if it is not at a gate yet.
    fn is_frozen(&mut self, part: usize, image: u64, now: u64) -> bool {
        self.parts[part].images.push(image);
        let last = (self.run_from..part).rev().find(|p| !self.parts[*p].images.is_empty());
        let Some(last) = last.filter(|p| self.site.frozen_is_late && self.parts[*p].images.contains(&image)) else {
            return false;
        };
        self.parts[part].failed = true;
        self.parts[part].ended.get_or_insert(now);
        self.doubt(last, now);
        true
    }

    /// The model answered on the frame exposed at `exposed` that it had.
    pub(super) fn answered(&mut self, exposed: Instant, now: Instant, answer: Answer) {
        let Some(part) = self.working.take() else { return };
        let (now, exposed) = (now.as_micros(), exposed.as_micros());
        self.idle_since = now;
        let p = &mut self.parts[part];
        match answer {
            Answer::Scores { scores, beyond } if now - exposed <= self.site.stale_us => {
                p.seen.push(Seen { at_us: now, beyond, scores });
                p.answered = now;
            }
            _ => p.failed = true,
        }
        if p.failed || p.seen.len() >= self.site.frames {
            p.ended.get_or_insert(now);
        }
        self.end_overdue(now);
    }

    /// Whether a part's frames were all answered, in time or not.
    pub(super) fn is_decided(&self, part: usize) -> bool {
        let p = &self.parts[part];
        p.seen.len() >= self.site.frames && !p.failed && !p.in_doubt
    }

    /// The states in which every line must be when the run has ended: the safe ones.
    pub(super) fn judge_end(&mut self, state: impl Fn(&str) -> bool) {
        let lines = self.site.lines.iter().map(|l| (&l.name, l.safe_active));
        let all = lines.chain(self.site.statuses.iter().map(|s| (&s.name, s.safe_active)));
        let wrong = all.filter(|(name, safe)| state(name) != *safe).count();
        self.verdict.not_safe += wrong as u64;
    }

    /// How many parts came, without those that are the part before again.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The lines that a part calls for, as indices.
    pub(super) fn called(&self, p: &Passing) -> BTreeSet<usize> {
        // By its first gate: at the moment that is due, or with the count that says so.
        let verdicts = self.site.lines.iter().filter(|l| !l.by_trigger);
        let in_time = verdicts.filter_map(|l| self.gone(p, l.delay)).all(|(due, _)| p.answered <= due);
        let said = (p.seen.len() >= self.site.frames && !p.failed && !p.in_doubt && in_time)
            .then(|| naive::decide(&self.site.tags, self.site.rule, &p.seen));
        let calls = |line: &super::site::Line| match &said {
            _ if line.by_trigger => true,
            Some(s) => self.site.is_called(line, s.word, s.action, s.tag, &s.held),
            None => self.late_calls(line, self.site.late),
        };
        (0..self.site.lines.len()).filter(|i| calls(&self.site.lines[*i])).collect()
    }

    fn late_calls(&self, line: &super::site::Line, late: Action) -> bool {
        line.on.iter().any(|w| w == late.name())
    }

    /// Whether the part is still followed when it is at a gate at `done`: no line went safe on its way.
    fn is_followed(&self, p: &Passing, done: u64) -> bool {
        self.safe_at.get(p.safes_before).is_none_or(|s| *s > done)
    }

    /// Parts that are at line `i`'s gate and are followed by then: the part's number, when it is due, and when it is done.
    pub(super) fn at_gate(&self, i: usize) -> impl Iterator<Item = (usize, u64, u64)> + '_ {
        let parts = self.parts.iter().enumerate();
        let gone =
            parts.filter_map(move |(n, p)| self.gone(p, self.site.lines[i].delay).map(|(due, done)| (n, p, due, done)));
        gone.filter(|(_, p, _, done)| self.is_followed(p, *done)).map(|(n, _, due, done)| (n, due, done))
    }

    /// Compares every line's state at every moment with what it must have been. `found`: edges by the output's name.
    pub(super) fn judge(&mut self, found: &BTreeMap<String, Vec<Edge>>) {
        let called: Vec<BTreeSet<usize>> = self.parts.iter().map(|p| self.called(p)).collect();
        super::status::judge(self, found, &called);
        let mut verdict = self.verdict;
        let mut missing: Vec<(usize, u64)> = Vec::new();
        let mut surplus: Vec<(usize, Option<u64>)> = Vec::new();
        for (i, line) in self.site.lines.iter().enumerate() {
            let none = Vec::new();
            let found = found.get(&line.name).unwrap_or(&none);
            let wanted = self.states(i, &called);
            let mut at: Vec<u64> = wanted.iter().map(|(at, ..)| *at).chain(found.iter().map(|e| e.at.as_micros())).collect();
            at.sort_unstable();
            at.dedup();
            let (mut w, mut f) = (0, 0);
            let mut expected = (line.safe_active, None, true);
            let mut state = (line.safe_active, None);
            for now in at {
                while let Some((_, active, part, safe)) = wanted.get(w).filter(|(at, ..)| *at <= now) {
                    (expected, w) = ((*active, *part, *safe), w + 1);
                }
                let mut moved = false;
                while let Some(e) = found.get(f).filter(|e| e.at.as_micros() <= now) {
                    (state, f, moved) = ((e.active, e.part), f + 1, true);
                }
                let (active, part, safe) = expected;
                if active != state.0 && self.first.is_none() {
                    self.first = Some(format!(
                        "output {} at {now} us: must be {} (part {part:?}), is {} (part {:?})",
                        line.name,
                        if active { "active" } else { "inactive" },
                        if state.0 { "active" } else { "inactive" },
                        state.1
                    ));
                }
                match (active == state.0, safe) {
                    // The line moved when it should, and says for whom.
                    // A line that going safe made active at this moment is not written again for a part.
                    (true, false) if state.1.is_none() && line.safe_active && self.safe_at.binary_search(&now).is_ok() => {}
                    (true, false) if moved && active && part.is_some() && part != state.1 => {
                        verdict.swapped += 1;
                        let what = format!("output {} at {now} us: moved by {part:?}, names {:?}", line.name, state.1);
                        self.first.get_or_insert(what);
                    }
                    (true, false) => {}
                    (true, true) => {}
                    (false, true) => verdict.not_safe += 1,
                    (false, false) if active => missing.extend(part.map(|p| (i, p))),
                    (false, false) => surplus.push((i, state.1)),
                }
            }
        }
        missing.dedup();
        surplus.dedup();
        for (line, part) in &surplus {
            let elsewhere = missing.iter().any(|(l, p)| Some(*p) == *part && l != line);
            let here = missing.iter().any(|(l, p)| Some(*p) == *part && l == line);
            match (elsewhere, here) {
                (true, _) => verdict.swapped += 1,
                (_, true) => verdict.not_safe += 1,
                _ => verdict.doubled += 1,
            }
        }
        verdict.lost += missing.len() as u64;
        self.verdict = verdict;
    }

    /// The state that line `i` must take from each moment on: when, whether active, for which part, whether it is the safe one.
    fn states(&self, i: usize, called: &[BTreeSet<usize>]) -> Vec<(u64, bool, Option<u64>, bool)> {
        let line = &self.site.lines[i];
        // What happens to the line, in the order of time. At one moment the button is first, since it ends what was there
        // before; then a fault, since a part that is followed at that moment came after it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        enum Happens {
            Acknowledged,
            Safe,
            At { due: u64, part: u64, called: bool },
        }
        let mut all: Vec<(u64, Happens)> = self.safe_at.iter().map(|s| (*s, Happens::Safe)).collect();
        all.extend(self.acknowledged.iter().map(|a| (*a, Happens::Acknowledged)));
        let at =
            |(n, due, done): (usize, u64, u64)| (done, Happens::At { due, part: n as u64, called: called[n].contains(&i) });
        all.extend(self.at_gate(i).map(at));
        all.sort();
        let mut states = Vec::with_capacity(all.len() * 2);
        // The end of the pulse that is on, or the part that latched the line.
        let (mut until, mut latched): (Option<u64>, Option<u64>) = (None, None);
        for (at, happens) in all {
            if let Some(end) = until.filter(|end| *end <= at) {
                // A pulse that begins as another ends makes that longer.
                let meets = self.done(end) == at
                    && matches!(happens, Happens::At { due, called: true, .. } if at - due <= line.window_us);
                if !meets {
                    states.push((self.done(end), false, None, false));
                    until = None;
                }
            }
            match (happens, line.moves) {
                (Happens::Safe, _) => {
                    (until, latched) = (None, None);
                    states.push((at, line.safe_active, None, true));
                }
                (Happens::Acknowledged, Moves::Latched) if latched.take().is_some() => states.push((at, false, None, false)),
                (Happens::Acknowledged, _) => {}
                (Happens::At { part, called, .. }, Moves::Level) => {
                    let as_before = |s: &(u64, bool, Option<u64>, bool)| s.1 == called && !s.3;
                    if !states.last().is_some_and(as_before) {
                        states.push((at, called, Some(part), false));
                    }
                }
                (Happens::At { part, called, .. }, Moves::Latched) => {
                    if called && latched.is_none() {
                        latched = Some(part);
                        states.push((at, true, Some(part), false));
                    } else if latched.is_none() {
                        states.push((at, false, Some(part), false));
                    }
                }
                (Happens::At { due, part, called }, Moves::Pulse(width)) => {
                    // One that is later than its window would hit the next part: it does not fire.
                    let called = called && at - due <= line.window_us;
                    match (called, until) {
                        (true, None) => states.push((at, true, Some(part), false)),
                        (false, None) => states.push((at, false, Some(part), false)),
                        _ => {}
                    }
                    if called {
                        until = Some(until.unwrap_or(0).max(at + width));
                    }
                }
            }
        }
        states.extend(until.map(|end| (self.done(end), false, None, false)));
        states
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
