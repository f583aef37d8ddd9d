//! Kinds of faults, each with a name and a counter of its own.

use crate::board::Trouble;
use crate::fault::Reason;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A part or the line has no verdict, and why.
    Line(Reason),
    /// A part was at its first gate without a verdict.
    Late,
    /// A part was sorted on an image that the next one was given too, before that was known.
    FrozenPassed,
    /// A part was sorted before the next one was seen to touch it.
    TouchedPassed,
    /// An output moved later than is in time.
    LateEdge,
    /// A pulse would have come so late that it would meet the next part: it did not fire.
    MissedEdge,
    /// A part that a pulse threw out was not seen behind the gate.
    NotRejected,
    /// Something was seen behind the gate, and no pulse had thrown it out.
    UnexpectedConfirmation,
    /// Parts on their way were given up because the lines went safe.
    GivenUp,
    /// The board is in trouble.
    Board(Trouble),
    /// Something that opens no part came at a trigger and was passed over.
    Input,
    /// `--record` cannot write.
    Record,
    /// A sink of events failed, was started again, or loses events.
    Sink,
}

impl FaultKind {
    /// All kinds, in the order of their counters.
    pub const ALL: [Self; 28] = [
        Self::Line(Reason::NoFrame),
        Self::Line(Reason::Frozen),
        Self::Line(Reason::Stale),
        Self::Line(Reason::Truncated),
        Self::Line(Reason::Corrupt),
        Self::Line(Reason::FormatChanged),
        Self::Line(Reason::SourceGone),
        Self::Line(Reason::Engine),
        Self::Line(Reason::Output),
        Self::Line(Reason::MissedBeat),
        Self::Line(Reason::TooClose),
        Self::Line(Reason::Overflow),
        Self::Line(Reason::Trigger),
        Self::Line(Reason::Panic),
        Self::Line(Reason::Stopped),
        Self::Late,
        Self::FrozenPassed,
        Self::TouchedPassed,
        Self::LateEdge,
        Self::MissedEdge,
        Self::NotRejected,
        Self::UnexpectedConfirmation,
        Self::Board(Trouble::UnderVoltage),
        Self::Board(Trouble::Throttled),
        Self::Input,
        Self::Record,
        Self::Sink,
        Self::GivenUp,
    ];

    /// The name used in events and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Line(reason) => reason.name(),
            Self::Late => "late",
            Self::FrozenPassed => "frozen_passed",
            Self::TouchedPassed => "touched_passed",
            Self::LateEdge => "late_edge",
            Self::MissedEdge => "missed_edge",
            Self::NotRejected => "not_rejected",
            Self::UnexpectedConfirmation => "unexpected_confirmation",
            Self::GivenUp => "given_up",
            Self::Board(trouble) => trouble.name(),
            Self::Input => "input",
            Self::Record => "record",
            Self::Sink => "sink",
        }
    }

    /// Its place in [`FaultKind::ALL`].
    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|kind| *kind == self).expect("the list holds every kind (tested)")
    }
}

impl From<Reason> for FaultKind {
    fn from(reason: Reason) -> Self {
        Self::Line(reason)
    }
}
