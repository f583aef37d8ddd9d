//! Reasons for which a part or the whole line has no verdict.
//!
//! Sources, triggers, the engine, the line and the outputs all report one of these. The reason says
//! what happened; what is done about it (a late action for single parts, the safe state for all
//! outputs) is decided by the line.

/// Why a part or the line has no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No frame by the deadline.
    NoFrame,
    /// The same image again and again.
    Frozen,
    /// The frame is older than the policy allows.
    Stale,
    /// Fewer bytes than a frame has.
    Truncated,
    /// Bytes that are no image.
    Corrupt,
    /// The source changed its format while running.
    FormatChanged,
    /// The source is gone.
    SourceGone,
    /// The engine failed or gave logits that cannot be.
    Engine,
    /// An output could not be written.
    Output,
    /// The supervisor missed a beat.
    MissedBeat,
    /// Two parts touch and cannot be told apart.
    TooClose,
    /// More parts are in flight than can be followed, or more commands wait for the outputs.
    Overflow,
    /// The trigger input failed.
    Trigger,
    /// A thread panicked.
    Panic,
    /// The run ended.
    Stopped,
}

impl Reason {
    /// The name used in events and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFrame => "no_frame",
            Self::Frozen => "frozen",
            Self::Stale => "stale",
            Self::Truncated => "truncated",
            Self::Corrupt => "corrupt",
            Self::FormatChanged => "format_changed",
            Self::SourceGone => "source_gone",
            Self::Engine => "engine",
            Self::Output => "output",
            Self::MissedBeat => "missed_beat",
            Self::TooClose => "too_close",
            Self::Overflow => "overflow",
            Self::Trigger => "trigger",
            Self::Panic => "panic",
            Self::Stopped => "stopped",
        }
    }
}
