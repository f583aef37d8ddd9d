//! The run in figures, counted where events are told: the summary cannot differ from what was told.

use super::{FaultKind, Outcome, PartEvent, What};
use crate::decide::{Action, Verdict};
use crate::line::MAX_PARTS;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Figures that any thread may read or add to without waiting.
#[derive(Debug)]
pub struct Counters {
    triggers: AtomicU64,
    parts: AtomicU64,
    accept: AtomicU64,
    reject: AtomicU64,
    review: AtomicU64,
    unknown: AtomicU64,
    foreign: AtomicU64,
    safe: AtomicU64,
    edges: AtomicU64,
    edges_failed: AtomicU64,
    right: AtomicU64,
    wrong: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
    by_tag: Box<[AtomicU64]>,
    /// Parts that were triggered and have no end yet, each at its number; more than may wait at
    /// once.
    on_the_way: [AtomicU64; 2 * MAX_PARTS],
    /// Parts whose gates were given up because the line went safe.
    pub given_up: AtomicU64,
    /// Triggers that came too close behind another.
    pub too_close: AtomicU64,
    /// Triggers that no image was taken for.
    pub missed_triggers: AtomicU64,
    /// Frames that came while an older one was still waiting.
    pub skipped_frames: AtomicU64,
    /// Parts that were told as decided and got the late action all the same.
    pub corrected: AtomicU64,
    /// Words and the like that were passed over at triggers.
    pub passed_over: AtomicU64,
    /// Frames that `--record` kept.
    pub recorded: AtomicU64,
    /// Frames that it lost.
    pub record_lost: AtomicU64,
    /// Inferences that were begun.
    pub inferences: AtomicU64,
    /// Inferences that came to their end.
    pub inferences_done: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Parts that were triggered.
    pub triggers: u64,
    /// Parts that had their end.
    pub parts: u64,
    /// Accepted parts.
    pub accept: u64,
    /// Rejected parts.
    pub reject: u64,
    /// Parts for a person to look at.
    pub review: u64,
    /// Parts that no tag was sure of, among the three above.
    pub unknown: u64,
    /// Foreign parts, among the three above.
    pub foreign: u64,
    /// Parts that had no verdict.
    pub safe: u64,
    /// Parts that were at their first gate without a verdict.
    pub late: u64,
    /// Parts whose gates were given up because the line went safe.
    pub given_up: u64,
    /// Triggers that came too close behind another.
    pub too_close: u64,
    /// Triggers that no image was taken for.
    pub missed_triggers: u64,
    /// Frames that came while an older one was still waiting.
    pub skipped_frames: u64,
    /// Parts that were told as decided and got the late action all the same.
    pub corrected: u64,
    /// Words and the like that were passed over at triggers.
    pub passed_over: u64,
    /// Frames that `--record` kept, and frames that it lost.
    pub recorded: [u64; 2],
    /// Edges that were done.
    pub edges: u64,
    /// Edges that could not be written.
    pub edges_failed: u64,
    /// Parts whose verdict agrees with the simulator, and parts whose does not.
    pub truth: [u64; 2],
    /// Faults, in the order of [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::ALL.len()],
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn zeros(n: usize) -> Box<[AtomicU64]> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

impl Counters {
    /// All zero, for a model of that number of tags.
    pub fn new(tags: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            triggers: zero(),
            parts: zero(),
            accept: zero(),
            reject: zero(),
            review: zero(),
            unknown: zero(),
            foreign: zero(),
            safe: zero(),
            edges: zero(),
            edges_failed: zero(),
            right: zero(),
            wrong: zero(),
            faults: std::array::from_fn(|_| zero()),
            by_tag: zeros(tags),
            on_the_way: std::array::from_fn(|_| zero()),
            given_up: zero(),
            too_close: zero(),
            missed_triggers: zero(),
            skipped_frames: zero(),
            corrected: zero(),
            passed_over: zero(),
            recorded: zero(),
            record_lost: zero(),
            inferences: zero(),
            inferences_done: zero(),
        }
    }

    /// Counts what is about to be told.
    pub(super) fn count(&self, what: &What) {
        match what {
            What::Trigger(trigger) => {
                self.place(trigger.part).store(trigger.part, Relaxed);
                add(&self.triggers);
            }
            What::Part(part) => self.count_part(part),
            What::Edge(edge) if edge.outcome == Outcome::Failed => add(&self.edges_failed),
            What::Edge(_) => add(&self.edges),
            // A fault's event carries its count, so it is counted where that is made.
            What::Fault(_)
            | What::Start
            | What::Rule(_)
            | What::Update(_)
            | What::Recipe(_)
            | What::Status(_)
            | What::Summary
            | What::Note(_) => {}
        }
    }

    fn count_part(&self, part: &PartEvent) {
        let verdict = part.decision.verdict;
        match (verdict, part.action) {
            (Verdict::Safe(_), _) | (_, None) => add(&self.safe),
            (_, Some(Action::Accept)) => add(&self.accept),
            (_, Some(Action::Reject)) => add(&self.reject),
            (_, Some(Action::Review)) => add(&self.review),
        }
        match verdict {
            Verdict::Unknown => add(&self.unknown),
            Verdict::Foreign => add(&self.foreign),
            _ => {}
        }
        part.counted.iter().filter_map(|tag| self.by_tag.get(tag.0 as usize)).for_each(add);
        match part.right {
            Some(true) => add(&self.right),
            Some(false) => add(&self.wrong),
            None => {}
        }
        // Another may have its place by now.
        _ = self.place(part.part).compare_exchange(part.part, 0, Relaxed, Relaxed);
        add(&self.parts);
    }

    fn place(&self, part: u64) -> &AtomicU64 {
        &self.on_the_way[(part % self.on_the_way.len() as u64) as usize]
    }

    /// Parts that were triggered and have no end, in their order.
    pub fn without_end(&self) -> Vec<u64> {
        let mut parts: Vec<u64> = self.on_the_way.iter().map(|part| part.load(Relaxed)).filter(|part| *part > 0).collect();
        parts.sort_unstable();
        parts
    }

    /// Counts a fault; returns how many of its kind there are now.
    pub(super) fn count_fault(&self, kind: FaultKind) -> u64 {
        self.faults[kind.index()].fetch_add(1, Relaxed) + 1
    }

    /// Parts that had their end.
    pub fn parts(&self) -> u64 {
        self.parts.load(Relaxed)
    }

    /// Parts that count for each tag, in the bundle's order.
    pub fn by_tag(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_tag.iter().map(|n| n.load(Relaxed))
    }

    /// All figures now.
    pub fn figures(&self) -> Figures {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        Figures {
            triggers: get(&self.triggers),
            parts: get(&self.parts),
            accept: get(&self.accept),
            reject: get(&self.reject),
            review: get(&self.review),
            unknown: get(&self.unknown),
            foreign: get(&self.foreign),
            safe: get(&self.safe),
            late: get(&self.faults[FaultKind::Late.index()]),
            given_up: get(&self.given_up),
            too_close: get(&self.too_close),
            missed_triggers: get(&self.missed_triggers),
            skipped_frames: get(&self.skipped_frames),
            corrected: get(&self.corrected),
            passed_over: get(&self.passed_over),
            recorded: [get(&self.recorded), get(&self.record_lost)],
            edges: get(&self.edges),
            edges_failed: get(&self.edges_failed),
            truth: [get(&self.right), get(&self.wrong)],
            faults: std::array::from_fn(|i| get(&self.faults[i])),
        }
    }
}
