//! What ought to happen, worked out from the belt alone: which part each frame shows, what each part gets, every line's
//! state at every moment.
//!
//! The ledger is told of passings, of frames that came up for the line and what the model said of them, and of faults. The
//! rules are [`Site`]'s and [`naive`]'s reading; nothing is taken from the line that it judges but the edges of its pins.
//! Parts here are the belt's own, in its order.

use super::naive::{self, Seen};
use super::site::{Moves, Site};
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
struct Passing {
    trigger: u64,
    /// How often all lines had gone safe by then.
    safes_before: usize,
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
    /// A frame of a later part was taken: it gets no more.
    passed: bool,
}

/// One edge of a line: when, to what, and the part that the line named (`None` for no part).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) at: Instant,
    pub(super) active: bool,
    pub(super) part: Option<u64>,
}

pub(super) struct Ledger {
    site: Site,
    parts: Vec<Passing>,
    /// Moments at which all lines had to go safe, in the order in which they did.
    safe_at: Vec<u64>,
    acknowledged: Vec<u64>,
    /// Spans in which the line's program did not run.
    stalls: Vec<(u64, u64)>,
    /// The part whose frame the model has.
    working: Option<usize>,
    pub(super) verdict: Verdict,
    /// The first line that was not in the state that it must have been in, in words.
    pub(super) first: Option<String>,
}

/// Most parts between trigger and last gate.
const MOST_IN_FLIGHT: usize = 64;

impl Ledger {
    pub(super) fn new(site: Site) -> Self {
        let none = Vec::new;
        let verdict = Verdict::default();
        Self {
            site,
            parts: Vec::new(),
            safe_at: none(),
            acknowledged: none(),
            stalls: Vec::new(),
            working: None,
            verdict,
            first: None,
        }
    }

    /// A part passes at `trigger`, and the line is told of it at `told`.
    pub(super) fn passes(&mut self, trigger: Instant, told: Instant) {
        let (trigger, told) = (trigger.as_micros(), told.as_micros());
        let too_close = self.parts.last().is_some_and(|p| trigger - p.trigger < self.site.min_spacing_us);
        match (too_close, self.site.too_close.as_str()) {
            (true, "ignore") => return,
            (true, "safe") => return self.safe_at.push(told),
            _ => {}
        }
        let last_way = self.site.lines.iter().map(|l| l.delay_us).max().unwrap_or(0);
        let safes_before = self.safe_at.len();
        let safe_since = |p: &Passing| safes_before > p.safes_before;
        let in_flight = self.parts.iter().rev().take_while(|p| self.done(p.trigger + last_way) >= told);
        if in_flight.filter(|p| !safe_since(p)).count() >= MOST_IN_FLIGHT {
            self.safe_at.push(told);
        }
        let first_gate = self.site.first_gate_us();
        // Too late for a part that has been at a gate by then.
        let at_gate = |p: &Passing| self.done(p.trigger.saturating_add(first_gate)) < told;
        let newest_at_gate: Vec<bool> = self.parts.iter().rev().take(MOST_IN_FLIGHT).map(at_gate).collect();
        if too_close && let Some(before) = self.parts.last_mut() {
            before.in_doubt |= !newest_at_gate[0];
            before.touching = true;
        }
        // A frame that shows this part was taken for an older one, because the trigger was told late.
        let came = trigger + self.site.to_camera_us;
        let newest = self.parts.iter_mut().rev().zip(newest_at_gate).find(|(p, _)| !p.taken.is_empty());
        if let Some((before, at_gate)) = newest
            && before.taken.last().is_some_and(|exposed| *exposed >= came)
        {
            before.in_doubt |= !at_gate;
        }
        self.parts.push(Passing {
            trigger,
            safes_before,
            in_doubt: too_close,
            touching: too_close,
            taken: Vec::new(),
            images: Vec::new(),
            seen: Vec::new(),
            answered: 0,
            failed: false,
            passed: false,
        });
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
            let due = p.trigger + line.delay_us;
            let is_late = due >= from && due < to && to - due > line.window_us;
            let is_pulse = matches!(line.moves, Moves::Pulse(_));
            is_pulse && is_late && self.is_followed(p, line.delay_us) && self.called(p).contains(&i)
        };
        let lines = || self.site.lines.iter().enumerate();
        if self.parts.iter().rev().take(4 * MOST_IN_FLIGHT).any(|p| lines().any(|(i, line)| missed(p, i, line))) {
            self.safe_at.push(to);
        }
    }

    /// When the program does what is due at `due`: at once, or when a stall has ended.
    fn done(&self, due: u64) -> u64 {
        let at = self.stalls.partition_point(|(_, to)| *to <= due);
        self.stalls.get(at).filter(|(from, _)| *from <= due).map_or(due, |(_, to)| *to)
    }

    /// All lines had to go safe.
    pub(super) fn goes_safe(&mut self, at: Instant) {
        self.safe_at.push(at.as_micros());
    }

    /// The button was pressed.
    pub(super) fn acknowledged(&mut self, at: Instant) {
        self.acknowledged.push(at.as_micros());
    }

    /// The belt's part before the camera at `exposed`, as far as it has been told.
    pub(super) fn before_camera(&self, exposed: Instant) -> Option<usize> {
        let exposed = exposed.as_micros();
        (0..self.parts.len()).rev().find(|i| self.parts[*i].trigger + self.site.to_camera_us <= exposed)
    }

    /// Whether a part needs a frame that comes up at `now`; `None` where both are right.
    fn needs(&self, part: usize, now: u64) -> Option<bool> {
        let p = &self.parts[part];
        let deadline = p.trigger + self.site.deadline_us;
        let ended = p.touching || p.failed || p.passed || p.taken.len() >= self.site.frames;
        match now.cmp(&deadline) {
            _ if ended => Some(false),
            std::cmp::Ordering::Less => Some(true),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(false),
        }
    }

    /// A frame exposed at `exposed` came up at `now`, and the line took it for its part `taken`, counted from 0, or for none.
    /// `image`: what the frame shows, by number; a camera that is frozen shows one again and again.
    pub(super) fn offered(&mut self, exposed: Instant, now: Instant, image: u64, taken: Option<u64>) {
        let shown = self.before_camera(exposed);
        let mut needs = shown.map_or(Some(false), |part| self.needs(part, now.as_micros()));
        if let Some(part) = shown.filter(|_| needs == Some(true))
            && self.is_frozen(part, image, now.as_micros())
        {
            needs = Some(false);
        }
        match (taken, shown) {
            (Some(t), Some(s)) if t != s as u64 => self.verdict.swapped += 1,
            (Some(_), None) => self.verdict.swapped += 1,
            (Some(_), Some(_)) if needs == Some(false) => self.verdict.doubled += 1,
            (None, Some(_)) if needs == Some(true) => self.verdict.lost += 1,
            _ => {}
        }
        if let Some(part) = shown {
            // Whatever older part still waits gets no more frames once this one was seen.
            self.parts[..part].iter_mut().rev().take(MOST_IN_FLIGHT).for_each(|p| p.passed = true);
            if taken.is_some() && needs != Some(false) {
                self.parts[part].taken.push(exposed.as_micros());
                self.working = Some(part);
            }
        }
    }

    /// Whether a frame that `part` needs shows what a frame of the last part with frames showed. Then this part gets no frames, and
    /// that one the late action if it is not at a gate yet.
    fn is_frozen(&mut self, part: usize, image: u64, now: u64) -> bool {
        self.parts[part].images.push(image);
        let last = (0..part).rev().find(|p| !self.parts[*p].images.is_empty());
        let Some(last) = last.filter(|p| self.site.frozen_is_late && self.parts[*p].images.contains(&image)) else {
            return false;
        };
        self.parts[part].failed = true;
        let at_gate = self.done(self.parts[last].trigger.saturating_add(self.site.first_gate_us())) < now;
        self.parts[last].in_doubt |= !at_gate;
        true
    }

    /// The model answered on the frame exposed at `exposed` that it had.
    pub(super) fn answered(&mut self, exposed: Instant, now: Instant, answer: Answer) {
        let Some(part) = self.working.take() else { return };
        let (now, exposed) = (now.as_micros(), exposed.as_micros());
        let p = &mut self.parts[part];
        match answer {
            Answer::Scores { scores, beyond } if now - exposed <= self.site.stale_us => {
                p.seen.push(Seen { at_us: now, beyond, scores });
                p.answered = now;
            }
            _ => p.failed = true,
        }
    }

    /// Whether a part's frames were all answered, in time or not.
    pub(super) fn is_decided(&self, part: usize) -> bool {
        let p = &self.parts[part];
        p.seen.len() >= self.site.frames && !p.failed && !p.in_doubt
    }

    /// The states in which every line must be when the run has ended: the safe ones.
    pub(super) fn judge_end(&mut self, state: impl Fn(&str) -> bool) {
        let wrong = self.site.lines.iter().filter(|l| state(&l.name) != l.safe_active).count();
        self.verdict.not_safe += wrong as u64;
    }

    /// How many parts came, without those that are the part before again.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The lines that a part calls for, as indices.
    fn called(&self, p: &Passing) -> BTreeSet<usize> {
        let in_time = p.answered <= p.trigger + self.site.first_gate_us();
        let said = (p.seen.len() >= self.site.frames && !p.failed && !p.in_doubt && in_time)
            .then(|| naive::decide(&self.site.tags, self.site.rule, &p.seen));
        let calls = |line| match &said {
            Some(s) => self.site.is_called(line, s.word, s.action, s.tag, &s.held),
            None => self.late_calls(line, self.site.late),
        };
        (0..self.site.lines.len()).filter(|i| calls(&self.site.lines[*i])).collect()
    }

    fn late_calls(&self, line: &super::site::Line, late: Action) -> bool {
        line.on.iter().any(|w| w == late.name())
    }

    /// Whether the part is still followed when it is at a gate `delay` behind the trigger: no line went safe on its way.
    fn is_followed(&self, p: &Passing, delay: u64) -> bool {
        self.safe_at.get(p.safes_before).is_none_or(|s| *s > self.done(p.trigger + delay))
    }

    /// Compares every line's state at every moment with what it must have been. `found`: edges by the output's name.
    pub(super) fn judge(&mut self, found: &BTreeMap<String, Vec<Edge>>) {
        let called: Vec<BTreeSet<usize>> = self.parts.iter().map(|p| self.called(p)).collect();
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
                    (true, false) => verdict.swapped += u64::from(moved && active && part.is_some() && part != state.1),
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
        for (n, p) in self.parts.iter().enumerate() {
            if self.is_followed(p, line.delay_us) {
                let due = p.trigger + line.delay_us;
                all.push((self.done(due), Happens::At { due, part: n as u64, called: called[n].contains(&i) }));
            }
        }
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
