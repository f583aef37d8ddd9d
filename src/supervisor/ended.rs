//! How a run ended, and the exit code that says so.

use crate::station::Over;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many parts as were wanted, or the source's end.
    Done,
    /// A live source ended: somebody must start what feeds it again.
    SourceEnded,
    /// By a signal.
    Signal,
    /// Faults in a row, or an input that failed: held safe.
    Held,
    /// The line missed its beat.
    Hung,
    /// A thread panicked.
    Panic,
}

impl Ended {
    /// The process's exit code: 0 done or stopped, 3 held, 101 panic.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done | Self::Signal => 0,
            Self::SourceEnded | Self::Held | Self::Hung => 3,
            Self::Panic => 101,
        }
    }

    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SourceEnded => "the live source ended",
            Self::Signal => "signal",
            Self::Held => "held safe after repeated faults",
            Self::Hung => "the line missed its beat",
            Self::Panic => "panic",
        }
    }
}

impl From<Over> for Ended {
    fn from(over: Over) -> Self {
        match over {
            Over::Done => Self::Done,
            Over::SourceLost => Self::SourceEnded,
            Over::Held => Self::Held,
        }
    }
}
