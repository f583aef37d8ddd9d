//! What the station is told, and what follows from it.

use super::{Slot, Spare};
use crate::decide::{Action, Decision, TagRule, TagSet, Task, Verdict};
use crate::fault::Reason;
use crate::frame::{CapturedAt, Fingerprint};
use crate::head::{Score, TagId};
use crate::line::{LineMask, Moment, Part, PartId};
use crate::time::Instant;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A part passes the trigger.
    Trigger(Moment),
    /// The belt is at a position, at the encoder's own moment. Needed where the way to the camera
    /// is in counts.
    Belt(Moment),
    /// A whole frame of the expected format. `shows`: the moment of a trigger that is found in
    /// frames, where this one shows that a part has come.
    Frame {
        /// When it was exposed, or arrived.
        captured_at: CapturedAt,
        /// A part's trigger that it shows.
        shows: Option<Moment>,
        /// Of its bytes, where equal frames mean a frozen camera.
        print: Option<Fingerprint>,
    },
    /// The scores of the frame that a ticket is for.
    Scores {
        /// The frame's.
        ticket: Ticket,
        /// One a tag.
        scores: &'a [Score],
        /// Whether it lies beyond the distance limit.
        beyond: bool,
    },
    /// The frame that a ticket is for could not be classified.
    NotClassified {
        /// The frame's.
        ticket: Ticket,
        /// Why.
        reason: Reason,
    },
    /// The camera gave no frame, or none that can be used.
    NoFrame(Reason),
    /// Something failed that concerns all parts: outputs go safe.
    LineFault(Reason),
    /// No more frames will come. `live`: they should have, so the run did not end as it was meant
    /// to.
    SourceEnded {
        /// Whether it was a live source.
        live: bool,
    },
    /// The run ends: no trigger opens a part any more, and each that waits has its end without a
    /// verdict. Nothing failed on its account.
    Stopped {
        /// Why.
        reason: Reason,
        /// Whether outputs go safe; if not, parts on their way keep their gates.
        safe: bool,
    },
    /// No trigger opens a part any more; those that wait go on, and the run is over once each has
    /// its end.
    Close,
    /// Thresholds and bands, one rule a tag, by which parts are judged from the next trigger on;
    /// those on their way keep theirs. Another number of rules, or a band above its threshold,
    /// changes nothing.
    Rules(&'a [TagRule]),
    /// Another model stands in the slot of `spare`, by which parts are decided from the next
    /// trigger on; those on their way keep theirs. `rules`: as those of [`Input::Rules`].
    Model {
        /// The right to it, from [`Station::take_spare`](super::Station::take_spare).
        spare: Spare,
        /// Threshold and band, one rule a tag.
        rules: &'a [TagRule],
    },
    /// Time passes.
    Tick,
}

/// The right to give one frame's scores: made by the station alone, and used up by them.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) part: Part,
    pub(super) captured_at: Instant,
    pub(super) last: bool,
    pub(super) model: Slot,
}

impl Ticket {
    /// The part that the frame shows.
    pub fn part(&self) -> Part {
        self.part
    }

    /// When the frame was exposed, or arrived.
    pub fn captured_at(&self) -> Instant {
        self.captured_at
    }

    /// Where the model stands that classifies the frame: the one of the part's trigger.
    pub fn model(&self) -> Slot {
        self.model
    }
}

/// A part's end.
#[derive(Clone, Copy, Debug)]
pub struct PartDone {
    /// The part.
    pub part: Part,
    /// When its last frame was taken; its trigger if it had none.
    pub captured_at: Instant,
    /// The best tag of its last frame that was classified, and its score; absent if none was.
    pub best: Option<(TagId, Score)>,
    /// What its frames said together.
    pub decision: Decision,
    /// What happens to it: the decision's action, or the late one; `None` if the line is safe.
    pub action: Option<Action>,
    /// Whether it had been at its first gate by then, where the late action was taken.
    pub late: bool,
    /// Lines it calls for.
    pub calls: LineMask,
    /// Where the model stands that was current at its trigger.
    pub model: Slot,
}

impl PartDone {
    /// Tags that count as seen on this part: the one that names it and every one that drives an
    /// output.
    pub fn seen(&self, task: Task) -> TagSet {
        match self.decision.verdict {
            Verdict::Present => self.decision.tag.map_or(TagSet::EMPTY, TagSet::of).union(&self.decision.driving(task)),
            _ => TagSet::EMPTY,
        }
    }
}

/// What follows from an input.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "an effect is handed on at once, and there is no heap to box it on")]
pub enum Effect {
    /// A part is on its way: outputs schedule its gates, each with the late action until a verdict
    /// comes.
    Opened {
        /// Its number.
        part: PartId,
        /// Its trigger.
        trigger: Moment,
        /// Whether it touches the part before: both get the late action.
        touching: bool,
    },
    /// A part passes the trigger of a line that is closed: it opens none. Not told where each frame
    /// is a part.
    Unopened,
    /// This frame is needed: classify it, and give its scores.
    Classify(Ticket),
    /// Outputs follow the tags, and the part goes on: these lines are called for now.
    Now {
        /// The part.
        part: PartId,
        /// Lines called for.
        calls: LineMask,
    },
    /// A part ended. Where outputs follow parts its gates get its calls; else they move now, unless
    /// the verdict is safe.
    Decided(PartDone),
    /// What was decided of a part on its way is not to be believed: the late action, unless it has
    /// been at a gate.
    Doubt {
        /// The part.
        part: PartId,
        /// Why: it cannot be told from another, or its frames were of a frozen camera.
        reason: Reason,
    },
    /// Something failed; `scope` says what is done about it.
    Fault {
        /// What.
        reason: Reason,
        /// The part that it costs its verdict, where it is one.
        part: Option<PartId>,
        /// Whom it concerns.
        scope: Scope,
    },
    /// Parts from this number on are decided by the model in another slot.
    Model {
        /// The slot.
        slot: Slot,
        /// The first part of the new model.
        from: PartId,
    },
    /// Nothing more will be decided.
    Over(Over),
}

/// Whom a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Single parts, which get the late action at their own gate.
    Part,
    /// All: outputs go to their safe state, and what is on its way is given up.
    Line,
}

/// Why nothing more will be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// As many parts as were wanted, or the source's end.
    Done,
    /// A live source ended.
    SourceLost,
    /// Too many inferences failed in a row.
    Held,
    /// The line was closed, and no part waits any more.
    Closed,
}
