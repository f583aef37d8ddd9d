//! What every line must have done: which parts call for it, the states that follow, and how they
//! compare with its pin.

use super::{Edge, Ledger, Passing};
use crate::decide::Action;
use crate::simulate::naive;
use crate::simulate::site::{Line, Moves};
use std::collections::{BTreeMap, BTreeSet};

/// The states of a line: from when on, whether active, for which part, whether it is the safe one.
pub(in crate::simulate) type States = Vec<(u64, bool, Option<u64>, bool)>;

/// A pulse that a part calls for.
pub(in crate::simulate) struct Called {
    /// The part.
    pub(in crate::simulate) part: usize,
    /// When it is due.
    pub(in crate::simulate) due: u64,
    /// When that is seen.
    pub(in crate::simulate) done: u64,
    /// Whether it was seen within the line's window, or the line was on for another part since then.
    pub(in crate::simulate) in_time: bool,
}

impl Ledger {
    /// The lines that a part calls for, as indices.
    pub(in crate::simulate) fn called(&self, p: &Passing) -> BTreeSet<usize> {
        // By its first gate: at the moment that is due, or with the count that says so.
        let verdicts = self.site.lines.iter().filter(|l| !l.by_trigger);
        let in_time = verdicts.filter_map(|l| self.known(p, l.delay)).all(|known| p.answered <= known);
        let said = (p.seen.len() >= self.site.frames && !p.failed && !p.in_doubt && in_time)
            .then(|| naive::decide(self.site.tags_of(p.model), self.site.rule, &p.seen));
        let calls = |line: &Line| match &said {
            _ if line.by_trigger => true,
            Some(s) => self.site.is_called(line, s.word, s.action, s.tag, &s.held),
            None => self.late_calls(line, self.site.late),
        };
        (0..self.site.lines.len()).filter(|i| calls(&self.site.lines[*i])).collect()
    }

    pub(in crate::simulate) fn late_calls(&self, line: &Line, late: Action) -> bool {
        line.on.iter().any(|w| w == late.name())
    }

    /// Whether the part is still followed when it is at a gate at `done`: no line went safe on its
    /// way.
    pub(in crate::simulate) fn is_followed(&self, p: &Passing, done: u64) -> bool {
        self.safe_at.get(p.safes_before).is_none_or(|s| *s > done)
    }

    /// Parts that are at line `i`'s gate and are followed by then: the part's number, when it is
    /// due, and when it is done.
    pub(in crate::simulate) fn at_gate(&self, i: usize) -> impl Iterator<Item = (usize, u64, u64)> + '_ {
        self.at_gate_from(i, 0)
    }

    /// The same of the parts from one on.
    fn at_gate_from(&self, i: usize, from: usize) -> impl Iterator<Item = (usize, u64, u64)> + '_ {
        let parts = self.parts.iter().enumerate().skip(from);
        let gone =
            parts.filter_map(move |(n, p)| self.gone(p, self.site.lines[i].delay).map(|(due, done)| (n, p, due, done)));
        gone.filter(|(_, p, _, done)| self.is_followed(p, *done)).map(|(n, _, due, done)| (n, due, done))
    }

    /// Compares every line's state at every moment with what it must have been. `found`: edges by
    /// the output's name.
    pub(in crate::simulate) fn judge(&mut self, found: &BTreeMap<String, Vec<Edge>>) {
        let called: Vec<BTreeSet<usize>> = self.parts.iter().map(|p| self.called(p)).collect();
        crate::simulate::status::judge(self, found, &called);
        self.harmed = self.harmed(found, &called);
        let untold = self.untold(found, &called);
        if let Some((line, from, to)) = untold.first()
            && self.first.is_none()
        {
            let name = &self.site.lines[*line].name;
            self.first = Some(format!("output {name}: on from {from} us to {to} us for no part, and not told"));
        }
        self.verdict.not_safe += untold.len() as u64;
        let mut verdict = self.verdict;
        let mut missing: Vec<(usize, u64)> = Vec::new();
        let mut surplus: Vec<(usize, Option<u64>)> = Vec::new();
        for (i, line) in self.site.lines.iter().enumerate() {
            let none = Vec::new();
            let found = found.get(&line.name).unwrap_or(&none);
            let wanted = self.course(i, 0, |n| called[n].contains(&i)).0;
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
                    // The line moved when it should, and says for whom. A line that going safe made
                    // active at this moment is not written again for a part.
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

    /// Parts that call for a line which verdicts move and that was safe by the time they were at
    /// its gate, or went safe in that moment without having moved: each must have been told by
    /// name. `told`: how many were, as given up, with an edge that was missed, or with a line that
    /// could not be written. `found`: edges by the output's name.
    pub(in crate::simulate) fn judge_given_up(&mut self, told: u64, found: &BTreeMap<String, Vec<Edge>>) {
        let was_on = |line: &Line, at: u64| {
            let found = found.get(&line.name).map_or(&[][..], Vec::as_slice);
            let (before, then) = found.split_at(found.partition_point(|e| e.at.as_micros() < at));
            let mut then = then.iter().take_while(|e| e.at.as_micros() == at);
            before.last().map_or(line.safe_active, |e| e.active) || then.any(|e| e.active)
        };
        let is_given_up = |p: &Passing| {
            let Some(safe) = self.safe_at.get(p.safes_before) else { return false };
            let mut lines = self.called(p).into_iter().map(|i| &self.site.lines[i]).filter(|line| !line.by_trigger);
            let is_too_late = |line: &Line, done: u64| *safe < done || *safe == done && !was_on(line, done);
            lines.any(|line| self.gone(p, line.delay).is_some_and(|(_, done)| is_too_late(line, done)))
        };
        let given_up = self.parts.iter().filter(|p| is_given_up(p)).count() as u64;
        if given_up > told {
            self.verdict.lost += given_up - told;
            self.first
                .get_or_insert_with(|| format!("{given_up} parts were at a line that was safe by then, {told} are told"));
        }
    }

    /// Spans in which a pulse's line was on for no part, longer than is in time, and which nobody
    /// was told of as they ended: line, begin, end. A line that went safe is told by that.
    fn untold(&self, found: &BTreeMap<String, Vec<Edge>>, called: &[BTreeSet<usize>]) -> Vec<(usize, u64, u64)> {
        let mut untold = Vec::new();
        for (i, line) in self.site.lines.iter().enumerate().filter(|(_, line)| !line.safe_active) {
            let Moves::Pulse(width) = line.moves else { continue };
            // Each part has its pulse where it should have been, and where it was done.
            let fired = self.course(i, 0, |n| called[n].contains(&i)).1.into_iter().filter(|pulse| pulse.in_time);
            let mut own: Vec<(u64, u64)> = fired.flat_map(|p| [p.due, p.done].map(|at| (at, at + width))).collect();
            own.sort_unstable();
            let mut own = own.into_iter().peekable();
            let found = found.get(&line.name).map_or(&[][..], Vec::as_slice);
            let mut covered = 0;
            for pair in found.windows(2).filter(|pair| pair[0].active && !pair[1].active) {
                let [on, off] = [pair[0].at.as_micros(), pair[1].at.as_micros()];
                covered = on.max(covered);
                let mut spans = Vec::new();
                while let Some((begin, end)) = own.next_if(|(begin, _)| *begin < off) {
                    spans.push((covered, begin));
                    covered = covered.max(end);
                }
                spans.push((covered, off));
                // Whoever stood still tells of it as he goes on. What nobody stood still for is
                // judged above.
                let told = |to: u64| {
                    let at = self.done(to);
                    self.told_late.contains(&at) || self.safe_at.binary_search(&at).is_ok()
                };
                let is_long = |(from, to): &(u64, u64)| *to > from + self.site.late_us && self.done(*from) > *from;
                untold.extend(spans.into_iter().filter(|s| is_long(s) && !told(s.1)).map(|(from, to)| (i, from, to)));
            }
        }
        untold
    }

    /// Parts that passed a gate which a pulse had set for another part: not called for where the
    /// line was active, or called for where it was not. `found`: edges by the output's name, as
    /// done. A part passes a gate as a point, when it is due there. A pulse for each trigger harms
    /// a part whose trigger finds it active: a camera or flash sees no new edge.
    fn harmed(&self, found: &BTreeMap<String, Vec<Edge>>, called: &[BTreeSet<usize>]) -> u64 {
        let mut harmed = BTreeSet::new();
        for (i, line) in self.site.lines.iter().enumerate().filter(|(_, line)| matches!(line.moves, Moves::Pulse(_))) {
            let found = found.get(&line.name).map_or(&[][..], Vec::as_slice);
            let active_at = |before: usize| before.checked_sub(1).map_or(line.safe_active, |last| found[last].active);
            for (n, due, _) in self.at_gate(i) {
                let is_harmed = if line.by_trigger {
                    active_at(found.partition_point(|e| e.at.as_micros() < due))
                } else {
                    active_at(found.partition_point(|e| e.at.as_micros() <= due)) != called[n].contains(&i)
                };
                if is_harmed {
                    harmed.insert(n);
                }
            }
        }
        harmed.len() as u64
    }

    /// The state that line `i` must take from each moment on, and the pulses that parts call for: of
    /// the parts from one on, of which none before has a pulse that reaches them. `called`: whether
    /// a part calls for it.
    pub(in crate::simulate) fn course(
        &self,
        i: usize,
        from: usize,
        called: impl Fn(usize) -> bool,
    ) -> (States, Vec<Called>) {
        let line = &self.site.lines[i];
        // What happens to the line, in the order of time. At one moment the button is first, since
        // it ends what was there before; then a fault, since a part that is followed at that moment
        // came after it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        enum Happens {
            Acknowledged,
            Safe,
            At { due: u64, part: u64, called: bool },
        }
        let begin = self.parts.get(from).filter(|_| from > 0).map_or(0, |p| p.trigger);
        let since = |all: &[u64]| all[all.partition_point(|at| *at < begin)..].to_vec();
        let mut all: Vec<(u64, Happens)> = since(&self.safe_at).into_iter().map(|s| (s, Happens::Safe)).collect();
        all.extend(since(&self.acknowledged).into_iter().map(|a| (a, Happens::Acknowledged)));
        let at = |(n, due, done): (usize, u64, u64)| (done, Happens::At { due, part: n as u64, called: called(n) });
        all.extend(self.at_gate_from(i, from).map(at));
        all.sort();
        let (mut states, mut pulses) = (States::with_capacity(all.len() * 2), Vec::new());
        // The end of the pulse that is on, or the part that latched the line.
        let (mut until, mut latched): (Option<u64>, Option<u64>) = (None, None);
        // When the line came on last, and when it went to rest: what is done at one moment is over
        // for nobody before it.
        let (mut came_on, mut went_off) = (0, 0);
        for (at, happens) in all {
            let is_on = until.is_some() || went_off == at;
            // For whom the line was on when he was due, the pulse is longer by what he has to get.
            let was_on = |due: u64| is_on && came_on <= due && came_on < at;
            if let Some(end) = until.filter(|end| *end <= at) {
                // A pulse that begins as another ends makes that longer.
                let meets = self.done(end) == at
                    && matches!(happens, Happens::At { due, called: true, .. } if was_on(due) || at - due <= line.window_us);
                if !meets {
                    states.push((self.done(end), false, None, false));
                    (until, went_off) = (None, self.done(end));
                }
            }
            let is_on = until.is_some() || went_off == at;
            let was_on = |due: u64| is_on && came_on <= due && came_on < at;
            match (happens, line.moves) {
                (Happens::Safe, _) => {
                    (until, latched, went_off) = (None, None, 0);
                    states.push((at, line.safe_active, None, true));
                }
                (Happens::Acknowledged, Moves::Latched) if latched.take().is_some() => states.push((at, false, None, false)),
                (Happens::Acknowledged, _) => {}
                (Happens::At { part, called, .. }, Moves::Level) => {
                    match states.last_mut().filter(|s| s.1 == called && !s.3) {
                        // Set this moment for a part that has passed: it is the newest one's.
                        Some(state) if state.0 == at => state.2 = Some(part),
                        Some(_) => {}
                        None => states.push((at, called, Some(part), false)),
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
                    let was_on = was_on(due);
                    let in_time = was_on || at - due <= line.window_us;
                    if called {
                        pulses.push(Called { part: part as usize, due, done: at, in_time });
                    }
                    let called = called && in_time;
                    match (called, until) {
                        (true, None) => states.push((at, true, Some(part), false)),
                        (false, None) => states.push((at, false, Some(part), false)),
                        _ => {}
                    }
                    if called {
                        came_on = if is_on { came_on } else { at };
                        until = Some(until.unwrap_or(0).max(if was_on { due } else { at } + width));
                    }
                }
            }
        }
        states.extend(until.map(|end| (self.done(end), false, None, false)));
        (states, pulses)
    }

    /// The states in which every line must be when the run has ended: the safe ones.
    pub(in crate::simulate) fn judge_end(&mut self, state: impl Fn(&str) -> bool) {
        let lines = self.site.lines.iter().map(|l| (&l.name, l.safe_active));
        let all = lines.chain(self.site.statuses.iter().map(|s| (&s.name, s.safe_active)));
        let wrong = all.filter(|(name, safe)| state(name) != *safe).count();
        self.verdict.not_safe += wrong as u64;
    }
}
