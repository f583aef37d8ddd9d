//! From a frame to a verdict and the lines it calls for: one step at a time, time as an argument.
//!
//! Reads no clock, opens nothing, allocates nothing per frame.

use super::drill::Classifier;
use crate::bundle::{Bundle, Tables};
use crate::decide::{Decider, Observation, SafeReason, Task, Verdict};
use crate::frame::{CapturedAt, FrameView};
use crate::head::{Score, TagId, Temperature};
use crate::line::{Line, Opened, Part, PartRules, Taken};
use crate::preprocess::{Plan, PlanError, Preprocessor, Target, quantise};
use crate::scene::{Crossing, Kind};
use crate::settings::{Action, Calls, Settings, TriggerKind};
use crate::sources::{FrameBuffer, Pacing};
use crate::time::{Instant, Micros};

/// Lines that a verdict calls for: bit i is output i.
pub type LineMask = u32;

/// A part's end.
#[derive(Clone, Copy, Debug)]
pub struct PartDone {
    /// The part.
    pub part: Part,
    /// When its last frame was taken; its trigger if it had none.
    pub captured_at: Instant,
    /// The best tag of its last frame, and its score; absent if nothing was classified.
    pub best: Option<(TagId, Score)>,
    /// What its frames said together.
    pub verdict: Verdict,
    /// What happens to it; absent if the line is safe.
    pub action: Option<Action>,
    /// Lines it calls for.
    pub calls: LineMask,
    /// What the simulator knows it to be.
    pub truth: Option<Kind>,
}

/// What a frame led to before anything was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It belongs to a part: classify it.
    Classify {
        /// Whether it is the part's last frame.
        last: bool,
        /// The part.
        part: Part,
    },
    /// It belongs to none.
    Skip,
    /// It cannot be used.
    Fault(SafeReason),
}

/// The model and everything between frame and verdict.
pub struct Stage {
    classifier: Box<dyn Classifier>,
    preprocessor: Preprocessor,
    target: Target,
    table: Vec<u8>,
    tensor: Vec<i8>,
    logits: Vec<i32>,
    scores: Vec<Score>,
    task: Task,
    temperature: Temperature,
    decider: Decider,
    line: Line,
    trigger: TriggerKind,
    part_rules: PartRules,
    actions: Vec<Action>,
    unknown: Action,
    calls: Vec<Calls>,
    frozen_after: u32,
    pacing: Pacing,
    layout: Option<crate::frame::Layout>,
    last_hash: u64,
    same: u32,
    crossing: Option<Crossing>,
    truth: Option<Kind>,
    missed_triggers: u64,
    /// The tag of each kind that the simulator knows, where the model has one.
    kinds: [Option<TagId>; Kind::ALL.len()],
}

impl Stage {
    /// A stage for the bundle's model and the site's settings. `classifier`: the bundle's engine, or a drill around it.
    pub fn new(
        bundle: &Bundle<'_>,
        classifier: Box<dyn Classifier>,
        settings: &Settings,
        pacing: Pacing,
    ) -> Result<Self, String> {
        let contract = &bundle.contract;
        let input = contract.input;
        let target = Target::of(&input, settings.roi);
        let decider = Decider::new(contract.task, &settings.rules, settings.policy).map_err(|e| e.to_string())?;
        let tags = contract.tags.len();
        debug_assert_eq!(input.tables.int8.len(), Tables::LEN);
        Ok(Self {
            classifier,
            preprocessor: Preprocessor::new(target),
            target,
            table: input.tables.int8.to_vec(),
            tensor: vec![0; input.width as usize * input.height as usize * 3],
            logits: vec![0; tags],
            scores: vec![Score(0); tags],
            task: contract.task,
            temperature: contract.temperature(),
            decider,
            line: Line::new(settings.part),
            trigger: settings.trigger,
            part_rules: settings.part,
            actions: settings.actions.clone(),
            unknown: settings.unknown,
            calls: settings.outputs.iter().map(|o| o.calls.clone()).collect(),
            frozen_after: settings.frozen_after,
            pacing,
            layout: None,
            last_hash: 0,
            same: 0,
            crossing: None,
            truth: None,
            missed_triggers: 0,
            kinds: Kind::ALL.map(|k| contract.tags.iter().position(|t| t.name == k.name()).map(|i| TagId(i as u16))),
        })
    }

    /// Forgets what the source looked like: it was opened again.
    pub fn source_reopened(&mut self) {
        self.layout = None;
        self.same = 0;
    }

    /// Triggers that no frame was taken for because too many frames were lost.
    pub fn missed_triggers(&self) -> u64 {
        self.missed_triggers
    }

    /// Looks at a frame's envelope: opens parts, tells whether it must be classified.
    pub fn admit(&mut self, frame: &FrameBuffer, captured_at: CapturedAt) -> Admitted {
        let view = match frame.view() {
            Ok(view) => view,
            Err(crate::frame::FrameError::Truncated { .. }) => return Admitted::Fault(SafeReason::Truncated),
            Err(_) => return Admitted::Fault(SafeReason::FormatChanged),
        };
        if self.pacing == Pacing::Live {
            if self.layout.is_some_and(|l| l != frame.layout) {
                return Admitted::Fault(SafeReason::FormatChanged);
            }
            self.layout = Some(frame.layout);
            if self.frozen_after > 0 && self.is_frozen(&view) {
                return Admitted::Fault(SafeReason::Frozen);
            }
        }
        match self.trigger {
            TriggerKind::EveryFrame => {
                self.line.abandon();
                self.line.trigger(captured_at.instant().minus(self.part_rules.max_latency.micros()));
                self.truth = None;
            }
            TriggerKind::Barrier => {
                let news = frame.crossing.filter(|c| self.crossing.is_none_or(|old| c.number > old.number));
                if let Some(crossing) = news {
                    let expected = self.crossing.map_or(0, |c| c.number + 1);
                    self.missed_triggers += crossing.number - expected;
                    self.crossing = Some(crossing);
                    if let Opened::New(_) = self.line.trigger(crossing.at) {
                        self.truth = Some(crossing.kind);
                        self.decider.forget();
                    } else {
                        self.missed_triggers += 1;
                    }
                }
            }
        }
        match self.line.frame(captured_at) {
            Taken::NotOurs => Admitted::Skip,
            Taken::More(part) => Admitted::Classify { last: false, part },
            Taken::Last(part) => Admitted::Classify { last: true, part },
        }
    }

    fn is_frozen(&mut self, view: &FrameView<'_>) -> bool {
        // A camera's noise changes every frame; equal sums of all bytes in a row mean that nothing is exposed any more.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let (words, rest) = view.bytes().as_chunks::<8>();
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        for &byte in rest {
            hash = (hash ^ byte as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.same = if hash == self.last_hash { self.same + 1 } else { 0 };
        self.last_hash = hash;
        self.same >= self.frozen_after
    }

    /// Stage A and B of preprocessing.
    pub fn preprocess(&mut self, frame: &FrameBuffer) -> Result<(), SafeReason> {
        let view = frame.view().map_err(|_| SafeReason::Truncated)?;
        let rgb = self.preprocessor.picture(&view).map_err(|_| SafeReason::FormatChanged)?;
        quantise(rgb, &self.table, &mut self.tensor);
        Ok(())
    }

    /// Why frames of this layout cannot be brought to the model's picture, if they cannot.
    pub fn why_unusable(&self, frame: &FrameBuffer) -> Option<PlanError> {
        Plan::taps_len(frame.layout, self.target).err()
    }

    /// The model and the head. Logits that are all at one rail are no answer.
    pub fn infer(&mut self) -> Result<(), SafeReason> {
        self.classifier.infer(&self.tensor, &mut self.logits).map_err(|_| SafeReason::Engine)?;
        let rails = self.logits.iter().all(|&l| l == i32::MAX) || self.logits.iter().all(|&l| l == i32::MIN);
        if rails {
            return Err(SafeReason::Engine);
        }
        self.task.score(&self.logits, self.temperature, &mut self.scores);
        Ok(())
    }

    /// The model's picture of the last preprocessed frame, its logits and its scores: what `--record` keeps.
    pub fn last(&self) -> (&[u8], &[i32], &[Score]) {
        (self.preprocessor.last(), &self.logits, &self.scores)
    }

    /// Decides on the scores of the last inference; gives the part's end if this was its last frame.
    pub fn decide(&mut self, now: Instant, captured_at: Instant, part: Part, last: bool) -> Option<PartDone> {
        let verdict = self.decider.step(now, Observation::Scores { captured_at, scores: &self.scores });
        if !last && !matches!(verdict, Verdict::Safe(_)) {
            return None;
        }
        let mut best = [(TagId(0), Score(0))];
        let best = (crate::head::top_k(&self.scores, &mut best) == 1).then_some(best[0]);
        Some(self.done(part, captured_at, best, verdict))
    }

    /// The end of a part that a fault struck.
    pub fn fail(&mut self, part: Part, captured_at: Instant, reason: SafeReason) -> PartDone {
        let verdict = self.decider.step(captured_at, Observation::Missing(reason));
        self.done(part, captured_at, None, verdict)
    }

    /// The part in flight is given up, and what was seen is forgotten.
    pub fn abandon(&mut self, now: Instant, reason: SafeReason) -> Option<PartDone> {
        let part = self.line.abandon();
        self.decider.step(now, Observation::Missing(reason));
        part.map(|part| self.done(part, part.trigger, None, Verdict::Safe(reason)))
    }

    /// Whether a verdict names what the simulator knows; nothing if it knows nothing, or knows a part that the model does not.
    pub fn is_right(&self, done: &PartDone) -> Option<bool> {
        let at = Kind::ALL.iter().position(|k| Some(*k) == done.truth)?;
        let tag = self.kinds[at]?;
        Some(matches!(&done.verdict, Verdict::Present(set) if set.contains(tag)))
    }

    /// Closes the part whose frames did not come in time.
    pub fn overdue(&mut self, now: Instant) -> Option<PartDone> {
        let part = self.line.overdue(now)?;
        Some(self.fail(part, part.trigger, SafeReason::NoFrame))
    }

    /// Time until the open part's deadline.
    pub fn time_left(&self, now: Instant) -> Option<Micros> {
        self.line.time_left(now)
    }

    fn done(&mut self, part: Part, captured_at: Instant, best: Option<(TagId, Score)>, verdict: Verdict) -> PartDone {
        let action = match &verdict {
            Verdict::Safe(_) => None,
            Verdict::Unknown => Some(self.unknown),
            Verdict::Review(_) => Some(Action::Review),
            // Several tags may hold at once: the most careful of their actions wins.
            Verdict::Present(set) => {
                let of = |a| set.iter().any(|t| self.actions[t.0 as usize] == a);
                [Action::Reject, Action::Review].into_iter().find(|a| of(*a)).or(Some(Action::Accept))
            }
        };
        let called = |c: &Calls| {
            let by_tag = matches!(&verdict, Verdict::Present(set) if c.tags.iter().any(|t| set.contains(*t)));
            let by_unknown = c.unknown && verdict == Verdict::Unknown;
            by_tag || by_unknown || action.is_some_and(|a| c.actions.contains(&a))
        };
        let calls = match verdict {
            Verdict::Safe(_) => 0,
            _ => self.calls.iter().enumerate().filter(|(_, c)| called(c)).fold(0, |mask, (i, _)| mask | 1 << i),
        };
        PartDone { part, captured_at, best, verdict, action, calls, truth: self.truth.take() }
    }
}
