//! From a frame to a verdict and the lines it calls for: one step at a time, time as an argument.
//!
//! Reads no clock, opens nothing, allocates nothing per frame.

use super::drill::Classifier;
use super::routing::Routing;
use super::shared::Triggered;
use crate::bundle::{Bundle, Tables};
use crate::decide::{Action, Decider, Observation, Task, Verdict};
use crate::fault::Reason;
use crate::frame::{CapturedAt, FrameView, Layout};
use crate::head::{Score, TagId, Temperature};
use crate::line::{Line, LineMask, MAX_PARTS, Moment, Opened, Part, PartId, Taken};
use crate::preprocess::{Plan, PlanError, Preprocessor, Target, quantise};
use crate::scene::{Crossing, Kind};
use crate::settings::{Settings, TriggerKind};
use crate::sources::{FrameBuffer, Pacing};
use crate::time::{Instant, Micros};
use crate::triggers::Presence;
use heapless::Deque;

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
    /// Whether it had been at its first gate by then, where the late action was taken.
    pub late: bool,
    /// Lines it calls for.
    pub calls: LineMask,
    /// What the simulator knows it to be.
    pub truth: Option<Kind>,
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
    /// The part whose frames the decider has seen; it goes on over parts where each frame is one.
    deciding: Option<PartId>,
    line: Line,
    trigger: TriggerKind,
    presence: Option<Presence>,
    first_gate: Option<Micros>,
    routing: Routing,
    frozen_after: u32,
    pacing: Pacing,
    layout: Option<Layout>,
    last_hash: u64,
    same: u32,
    crossing: Option<Crossing>,
    truths: Deque<(PartId, Kind), MAX_PARTS>,
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
            deciding: None,
            line: Line::new(settings.part),
            presence: match settings.trigger {
                TriggerKind::Presence(rules) => Some(Presence::new(rules)),
                _ => None,
            },
            trigger: settings.trigger.clone(),
            first_gate: settings.first_gate(),
            routing: Routing::new(settings),
            frozen_after: settings.frozen_after,
            pacing,
            layout: None,
            last_hash: 0,
            same: 0,
            crossing: None,
            truths: Deque::new(),
            missed_triggers: 0,
            kinds: Kind::ALL.map(|k| contract.tags.iter().position(|t| t.name == k.name()).map(|i| TagId(i as u16))),
        })
    }

    /// Forgets what the source looked like: it was opened again.
    pub fn source_reopened(&mut self) {
        self.layout = None;
        self.same = 0;
        if let Some(presence) = &mut self.presence {
            presence.forget();
        }
    }

    /// Triggers that no frame was taken for because too many frames were lost.
    pub fn missed_triggers(&self) -> u64 {
        self.missed_triggers
    }

    /// Looks at a frame before it is given to a part: whether it can be used, and whether it shows that a part has come.
    /// Gives that part's trigger.
    pub fn look(&mut self, frame: &FrameBuffer, captured_at: CapturedAt) -> Result<Option<Instant>, Reason> {
        let view = frame.view().map_err(|e| match e {
            crate::frame::FrameError::Truncated { .. } => Reason::Truncated,
            _ => Reason::FormatChanged,
        })?;
        if self.pacing == Pacing::Live {
            if self.layout.is_some_and(|l| l != frame.layout) {
                return Err(Reason::FormatChanged);
            }
            self.layout = Some(frame.layout);
            if self.frozen_after > 0 && self.is_frozen(&view) {
                return Err(Reason::Frozen);
            }
        }
        let exposed = captured_at.exposed_from().unwrap_or(captured_at.instant());
        Ok(match self.trigger {
            TriggerKind::Input => None,
            TriggerKind::EveryFrame => Some(exposed),
            TriggerKind::Presence(_) => self.presence.as_mut().is_some_and(|p| p.appears(&view)).then_some(exposed),
            TriggerKind::Barrier => {
                let news = frame.crossing.filter(|c| self.crossing.is_none_or(|old| c.number > old.number));
                news.map(|crossing| {
                    self.missed_triggers += crossing.number - self.crossing.map_or(0, |c| c.number + 1);
                    self.crossing = Some(crossing);
                    crossing.at
                })
            }
        })
    }

    /// A part was triggered: it waits for its frames.
    pub fn open(&mut self, part: Triggered) -> Opened {
        if let Some(crossing) = self.crossing.filter(|c| c.at == part.trigger.at) {
            if self.truths.is_full() {
                self.truths.pop_front();
            }
            let _ = self.truths.push_back((part.id, crossing.kind));
        }
        self.line.trigger(part.id, part.trigger)
    }

    /// Tells where the belt is.
    pub fn advance(&mut self, now: Moment) {
        self.line.advance(now);
    }

    /// Which part a frame shows.
    pub fn take(&mut self, captured_at: CapturedAt) -> Taken {
        let taken = self.line.frame(captured_at);
        if let Taken::More(part) | Taken::Last(part) = taken
            && self.trigger != TriggerKind::EveryFrame
            && self.deciding != Some(part.id)
        {
            self.decider.forget();
            self.deciding = Some(part.id);
        }
        taken
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
    pub fn preprocess(&mut self, frame: &FrameBuffer) -> Result<(), Reason> {
        let view = frame.view().map_err(|_| Reason::Truncated)?;
        let rgb = self.preprocessor.picture(&view).map_err(|_| Reason::FormatChanged)?;
        quantise(rgb, &self.table, &mut self.tensor);
        Ok(())
    }

    /// Why frames of this layout cannot be brought to the model's picture, if they cannot.
    pub fn why_unusable(&self, frame: &FrameBuffer) -> Option<PlanError> {
        Plan::taps_len(frame.layout, self.target).err()
    }

    /// The model and the head. Logits that are all at one rail are no answer.
    pub fn infer(&mut self) -> Result<(), Reason> {
        self.classifier.infer(&self.tensor, &mut self.logits).map_err(|_| Reason::Engine)?;
        let rails = self.logits.iter().all(|&l| l == i32::MAX) || self.logits.iter().all(|&l| l == i32::MIN);
        if rails {
            return Err(Reason::Engine);
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
        Some(self.done(now, part, captured_at, best, verdict))
    }

    /// The end of a part that gets no verdict.
    pub fn fail(&mut self, now: Instant, part: Part, captured_at: Instant, reason: Reason) -> PartDone {
        let verdict = self.decider.step(now, Observation::Missing(reason));
        self.done(now, part, captured_at, None, verdict)
    }

    /// The end of part `id` if it still waits: it touches another.
    pub fn give_up(&mut self, now: Instant, id: PartId, reason: Reason) -> Option<PartDone> {
        let part = self.line.close(id)?;
        Some(self.fail(now, part, part.trigger.at, reason))
    }

    /// The oldest part is given up, and what was seen is forgotten.
    pub fn abandon(&mut self, now: Instant, reason: Reason) -> Option<PartDone> {
        match self.line.oldest() {
            Some(part) => Some(self.fail(now, part, part.trigger.at, reason)),
            None => {
                self.decider.step(now, Observation::Missing(reason));
                None
            }
        }
    }

    /// Whether a verdict names what the simulator knows; nothing if it knows nothing, or knows a part that the model does not.
    pub fn is_right(&self, done: &PartDone) -> Option<bool> {
        let at = Kind::ALL.iter().position(|k| Some(*k) == done.truth)?;
        let tag = self.kinds[at]?;
        Some(matches!(&done.verdict, Verdict::Present(set) if set.contains(tag)))
    }

    /// Ends the oldest part if it will get no more frames.
    pub fn overdue(&mut self, now: Instant) -> Option<PartDone> {
        let part = self.line.overdue(now)?;
        Some(self.fail(now, part, part.trigger.at, Reason::NoFrame))
    }

    /// Time until the oldest part's deadline.
    pub fn time_left(&self, now: Instant) -> Option<Micros> {
        self.line.time_left(now)
    }

    fn done(
        &mut self,
        now: Instant,
        part: Part,
        captured_at: Instant,
        best: Option<(TagId, Score)>,
        verdict: Verdict,
    ) -> PartDone {
        self.line.close(part.id);
        let (late_action, late_calls) = self.routing.late();
        let late = late_action.is_some() && self.first_gate.is_some_and(|gate| now > part.trigger.at.plus(gate));
        let (action, calls) = if late { (late_action, late_calls) } else { self.routing.of(&verdict) };
        let truth = self.truths.iter().find(|(id, _)| *id == part.id).map(|(_, kind)| *kind);
        self.truths.retain(|(id, _)| *id > part.id);
        PartDone { part, captured_at, best, verdict, action, late, calls, truth }
    }
}
