//! What ought to happen, worked out from the belt alone: which part each frame shows, what each part gets, every edge.
//!
//! Sees no queue, part number or schedule of the line that it judges: parts here are the belt's own, in its order.

use crate::line::{LineMask, MAX_LINES};
use crate::time::{Instant, Micros};

/// What a frame shows: the tag of the part in view, or nothing.
pub type Shown = Option<u16>;

/// What did not agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Calls of a part that moved no line, and frames that a part needed and did not get.
    pub lost: u64,
    /// Lines moved by the wrong part, frames taken for the wrong part.
    pub swapped: u64,
    /// Lines moved twice by one part.
    pub doubled: u64,
    /// Edges at another moment than theirs, or that nothing asked for, and lines that did not end safe.
    pub not_safe: u64,
}

impl Verdict {
    /// Whether everything agreed.
    pub const fn is_clean(&self) -> bool {
        self.lost + self.swapped + self.doubled + self.not_safe == 0
    }
}

/// A part on the belt.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    pub(super) trigger: Instant,
    pub(super) tag: u16,
    /// It touches a neighbour: it must get the late action.
    pub(super) touching: bool,
    /// What its frames showed, in the order in which the model answered, and when the last of them was answered.
    answers: Vec<Shown>,
    answered_at: Instant,
    failed: bool,
}

/// Rules of the site, as far as the ledger needs them.
pub(super) struct Rules {
    pub(super) frames: u8,
    pub(super) needed: u8,
    pub(super) to_camera: Micros,
    pub(super) deadline: Micros,
    pub(super) first_gate: Micros,
    pub(super) stale_after: Micros,
    /// Delay, pulse width (nothing for other shapes) and safe state of each line that parts move.
    pub(super) lines: Vec<Option<(Micros, Option<Micros>)>>,
    pub(super) late_calls: LineMask,
    /// Lines called by each tag, and by no tag.
    pub(super) tag_calls: Vec<LineMask>,
    pub(super) unknown_calls: LineMask,
}

/// An edge of a line that parts move: when, to what, and the part on the belt that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) at: Instant,
    pub(super) active: bool,
    pub(super) part: u64,
}

pub(super) struct Ledger {
    pub(super) rules: Rules,
    pub(super) parts: Vec<Passing>,
    /// When all lines had to go safe because one could not be written.
    pub(super) safe_at: Vec<Instant>,
    pub(super) verdict: Verdict,
}

impl Ledger {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, parts: Vec::new(), safe_at: Vec::new(), verdict: Verdict::default() }
    }

    pub(super) fn passes(&mut self, trigger: Instant, tag: u16, touching: bool) {
        if touching && let Some(before) = self.parts.last_mut() {
            before.touching = true;
        }
        let part = Passing { trigger, tag, touching, answers: Vec::new(), answered_at: trigger, failed: false };
        self.parts.push(part);
    }

    /// The part before the camera at `exposed`: the newest that had come there.
    pub(super) fn before_camera(&self, exposed: Instant) -> Option<usize> {
        let came = |p: &Passing| p.trigger.plus(self.rules.to_camera) <= exposed;
        // Parts are many and frames are of the newest.
        (0..self.parts.len()).rev().find(|i| came(&self.parts[*i]))
    }

    /// Whether the part needs a frame that comes up for it at `now`; nothing where both are right.
    fn needs(&self, part: usize, now: Instant) -> Option<bool> {
        let p = &self.parts[part];
        if p.touching || p.failed || p.answers.len() >= self.rules.frames as usize {
            return Some(false);
        }
        (now <= p.trigger.plus(self.rules.deadline)).then_some(true)
    }

    /// Judges that a frame exposed at `exposed` was taken at `now` for the belt's part `taken`, or for none.
    pub(super) fn judge_frame(&mut self, exposed: Instant, now: Instant, taken: Option<u64>) {
        let shown = self.before_camera(exposed);
        let needs = shown.map_or(Some(false), |part| self.needs(part, now));
        match (taken, shown) {
            (Some(t), Some(s)) if t != s as u64 => self.verdict.swapped += 1,
            (Some(_), None) => self.verdict.swapped += 1,
            (Some(_), Some(_)) if needs == Some(false) => self.verdict.doubled += 1,
            (None, Some(_)) if needs == Some(true) => self.verdict.lost += 1,
            _ => {}
        }
    }

    /// The model answered on a frame that showed `shown` and was exposed at `exposed`; `None` for an error.
    pub(super) fn answered(&mut self, exposed: Instant, now: Instant, answer: Option<Shown>) {
        let Some(part) = self.before_camera(exposed) else { return };
        let stale = now.since(exposed) > self.rules.stale_after;
        let part = &mut self.parts[part];
        match answer {
            Some(shown) if !stale => {
                part.answers.push(shown);
                part.answered_at = now;
            }
            _ => part.failed = true,
        }
    }

    /// The lines that a part must call for.
    fn calls(&self, part: &Passing) -> LineMask {
        let in_time = part.answered_at <= part.trigger.plus(self.rules.first_gate);
        if part.touching || part.failed || part.answers.len() < self.rules.frames as usize || !in_time {
            return self.rules.late_calls;
        }
        let saw = part.answers.iter().filter(|a| **a == Some(part.tag)).count();
        if saw >= self.rules.needed as usize { self.rules.tag_calls[part.tag as usize] } else { self.rules.unknown_calls }
    }

    /// Whether a part got an answer in time.
    pub(super) fn is_decided(&self, part: usize) -> bool {
        let p = &self.parts[part];
        p.answers.len() >= self.rules.frames as usize && !p.failed && !p.touching
    }

    /// Every edge that line `line` must show, as pulses.
    fn expected(&self, line: usize, delay: Micros, width: Micros) -> Vec<Edge> {
        let mut edges: Vec<Edge> = Vec::new();
        let mut faults = self.safe_at.iter().copied().peekable();
        for (i, part) in self.parts.iter().enumerate() {
            let due = part.trigger.plus(delay);
            while let Some(fault) = faults.next_if(|f| *f < due) {
                cut(&mut edges, fault);
            }
            // A part that was on its way when the line went safe is given up.
            let given_up = self.safe_at.iter().rev().take_while(|f| **f >= part.trigger).any(|f| *f <= due);
            if given_up || self.calls(part) >> line & 1 == 0 {
                continue;
            }
            let off = due.plus(width);
            match edges.last_mut() {
                // Pulses that meet are one.
                Some(last) if last.at >= due => last.at = off.max(last.at),
                _ => edges.extend([Edge { at: due, active: true, part: i as u64 }, end(off)]),
            }
        }
        for fault in faults {
            cut(&mut edges, fault);
        }
        edges
    }

    /// Compares what the lines did with what they must have done.
    pub(super) fn judge_edges(&mut self, found: &[Vec<Edge>; MAX_LINES]) {
        let mut missing: Vec<(usize, Edge)> = Vec::new();
        let mut surplus: Vec<(usize, Edge)> = Vec::new();
        for (line, rule) in self.rules.lines.iter().enumerate() {
            let Some((delay, Some(width))) = *rule else { continue };
            let expected = self.expected(line, delay, width);
            let mut left = expected.iter().copied().peekable();
            for edge in &found[line] {
                while let Some(e) = left.next_if(|e| (e.at, e.active) < (edge.at, edge.active)) {
                    missing.push((line, e));
                }
                if left.next_if(|e| e == edge).is_none() {
                    surplus.push((line, *edge));
                }
            }
            missing.extend(left.map(|e| (line, e)));
        }
        let called: std::collections::HashSet<(usize, u64)> =
            missing.iter().filter(|(_, e)| e.active).map(|(l, e)| (*l, e.part)).collect();
        for (line, edge) in &surplus {
            let elsewhere = missing.iter().any(|(l, e)| e.active && e.part == edge.part && l != line);
            match edge.active {
                true if elsewhere => self.verdict.swapped += 1,
                true if called.contains(&(*line, edge.part)) => self.verdict.not_safe += 1,
                true => self.verdict.doubled += 1,
                false => self.verdict.not_safe += 1,
            }
        }
        self.verdict.lost += missing.iter().filter(|(_, e)| e.active).count() as u64;
        self.verdict.not_safe += missing.iter().filter(|(_, e)| !e.active).count() as u64;
    }
}

/// The end of a pulse; which part ended it does not count.
fn end(at: Instant) -> Edge {
    Edge { at, active: false, part: u64::MAX }
}

/// The line goes safe at `fault`: a pulse that is on then ends.
fn cut(edges: &mut [Edge], fault: Instant) {
    // Pulses do not overlap, so one at most is on; those that begin later were given up by their parts.
    if let Some(last) = edges.last_mut() {
        last.at = last.at.min(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Instant {
        Instant::from_micros(n * 1000)
    }

    /// Tag 0 calls line 0 at 100 ms, tag 1 calls line 1 at 150 ms, both for 20 ms; late calls line 0.
    fn ledger() -> Ledger {
        Ledger::new(Rules {
            frames: 1,
            needed: 1,
            to_camera: Micros(0),
            deadline: Micros(100_000),
            first_gate: Micros(100_000),
            stale_after: Micros(1_000_000),
            lines: vec![Some((Micros(100_000), Some(Micros(20_000)))), Some((Micros(150_000), Some(Micros(20_000))))],
            late_calls: 0b01,
            tag_calls: vec![0b01, 0b10],
            unknown_calls: 0b01,
        })
    }

    /// Three parts: tag 1 in time, tag 1 late, tag 0 in time.
    fn judged(found: &[(usize, u64, u64, u64)], safe_at: Option<u64>) -> Verdict {
        let mut ledger = ledger();
        for (trigger, tag, answered) in [(0, 1, 30), (1000, 1, 1200), (2000, 0, 2040)] {
            ledger.passes(ms(trigger), tag, false);
            ledger.judge_frame(ms(trigger + 5), ms(trigger + 6), Some(ledger.parts.len() as u64 - 1));
            ledger.answered(ms(trigger + 5), ms(answered), Some(Some(tag)));
        }
        ledger.safe_at.extend(safe_at.map(ms));
        let mut edges: [Vec<Edge>; MAX_LINES] = std::array::from_fn(|_| Vec::new());
        for (line, part, on, off) in found {
            edges[*line].extend([Edge { at: ms(*on), active: true, part: *part }, end(ms(*off))]);
        }
        ledger.judge_edges(&edges);
        ledger.verdict
    }

    const RIGHT: [(usize, u64, u64, u64); 3] = [(1, 0, 150, 170), (0, 1, 1100, 1120), (0, 2, 2100, 2120)];

    fn verdict(lost: u64, swapped: u64, doubled: u64, not_safe: u64) -> Verdict {
        Verdict { lost, swapped, doubled, not_safe }
    }

    #[test]
    fn what_agrees_is_clean_and_each_kind_of_mistake_has_its_name() {
        assert_eq!(judged(&RIGHT, None), verdict(0, 0, 0, 0));
        assert_eq!(judged(&RIGHT[1..], None), verdict(1, 0, 0, 1), "a pulse was lost");
        let other_line = [(0, 0, 100, 120), RIGHT[1], RIGHT[2]];
        assert_eq!(judged(&other_line, None), verdict(1, 1, 0, 2), "the wrong line was moved");
        let twice = [RIGHT[0], RIGHT[1], RIGHT[2], (0, 2, 2300, 2320)];
        assert_eq!(judged(&twice, None), verdict(0, 0, 1, 1), "a pulse came twice");
        let late_as_tag = [RIGHT[0], (1, 1, 1150, 1170), RIGHT[2]];
        assert!(!judged(&late_as_tag, None).is_clean(), "a late part must get the late action");
        let a_tick_late = [RIGHT[0], RIGHT[1], (0, 2, 2101, 2121)];
        assert!(!judged(&a_tick_late, None).is_clean(), "a pulse came late");
    }

    #[test]
    fn a_line_that_goes_safe_ends_its_pulse_and_gives_up_what_is_on_its_way() {
        let cut_short = [RIGHT[0], (0, 1, 1100, 1110), RIGHT[2]];
        assert_eq!(judged(&cut_short, Some(1110)), verdict(0, 0, 0, 0));
        assert!(!judged(&RIGHT, Some(1110)).is_clean());
        assert_eq!(judged(&RIGHT[..2], Some(2050)), verdict(0, 0, 0, 0));
        assert!(!judged(&RIGHT, Some(2050)).is_clean());
    }

    #[test]
    fn a_frame_taken_for_another_part_or_for_none_is_found() {
        let mut ledger = ledger();
        ledger.passes(ms(0), 0, false);
        ledger.passes(ms(50), 1, false);
        ledger.judge_frame(ms(60), ms(61), Some(0));
        ledger.judge_frame(ms(60), ms(61), None);
        ledger.judge_frame(ms(60), ms(61), Some(1));
        assert_eq!(ledger.verdict, verdict(1, 1, 0, 0));
    }
}
