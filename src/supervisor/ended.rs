//! How a run ended, and the exit code that says so.

use crate::fault::Reason;
use crate::station::Over;
use std::sync::atomic::{AtomicU8, Ordering};

/// The first reason to end, told by any thread without a lock.
#[derive(Debug, Default)]
pub(super) struct End(AtomicU8);

impl End {
    /// Ends the run for `why`, unless it has ended; returns why it has.
    pub(super) fn first(&self, why: Ended) -> Ended {
        let place = Ended::ALL.iter().position(|e| *e == why).expect("the list holds every end") as u8 + 1;
        match self.0.compare_exchange(0, place, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => why,
            Err(before) => Ended::ALL[before as usize - 1],
        }
    }

    /// Why the run has ended; `None` while it goes on.
    pub(super) fn why(&self) -> Option<Ended> {
        self.0.load(Ordering::Acquire).checked_sub(1).map(|place| Ended::ALL[place as usize])
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many parts as were wanted, or the source's end.
    Done,
    /// A live source ended: somebody must start what feeds it again.
    SourceEnded,
    /// The trigger's input ended: no part can be named any more.
    TriggerEnded,
    /// By a signal.
    Signal,
    /// Who read standard output has left.
    ReaderLeft,
    /// Faults in a row, or an input that failed: held safe.
    Held,
    /// The line missed its beat.
    Hung,
    /// A write to an output did not come back.
    Stuck,
    /// A thread panicked.
    Panic,
    /// The line makes place for another recipe of it, in the same process.
    Recipe,
    /// However it ended: an output is not known to be in its safe state.
    NotSafe,
}

impl Ended {
    const ALL: [Self; 11] = [
        Self::Done,
        Self::SourceEnded,
        Self::TriggerEnded,
        Self::Signal,
        Self::ReaderLeft,
        Self::Held,
        Self::Hung,
        Self::Stuck,
        Self::Panic,
        Self::Recipe,
        Self::NotSafe,
    ];

    /// The process's exit code: 0 done or stopped, 3 held or not safe, 101 panic, 141
    /// output pipe closed.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done | Self::Signal | Self::Recipe => 0,
            Self::SourceEnded | Self::TriggerEnded | Self::Held | Self::Hung | Self::Stuck | Self::NotSafe => 3,
            Self::Panic => 101,
            Self::ReaderLeft => crate::broken_pipe::OUTPUT_PIPE_CLOSED as u8,
        }
    }

    /// Whether parts on their way keep their gates and pulses.
    pub(super) const fn lets_parts_pass(self) -> bool {
        matches!(self, Self::Done | Self::SourceEnded | Self::TriggerEnded | Self::Recipe)
    }

    /// Whether nobody asked for it: parts go on coming while those on their way pass.
    pub(super) const fn is_unasked(self) -> bool {
        matches!(self, Self::SourceEnded | Self::TriggerEnded)
    }

    /// What a part gave up thereby has no verdict for.
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Done | Self::Signal | Self::ReaderLeft | Self::Held | Self::Recipe => Reason::Stopped,
            Self::SourceEnded => Reason::SourceGone,
            Self::TriggerEnded => Reason::Trigger,
            Self::Hung => Reason::MissedBeat,
            Self::Stuck | Self::NotSafe => Reason::Output,
            Self::Panic => Reason::Panic,
        }
    }

    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SourceEnded => "the live source ended",
            Self::TriggerEnded => "the trigger's input ended",
            Self::Signal => "signal",
            Self::ReaderLeft => "the output pipe is closed",
            Self::Held => "held safe after faults",
            Self::Hung => "the line missed its beat",
            Self::Stuck => "an output hung",
            Self::Panic => "panic",
            Self::Recipe => "another recipe",
            Self::NotSafe => "outputs are not known to be safe",
        }
    }
}

impl From<Over> for Ended {
    fn from(over: Over) -> Self {
        match over {
            Over::Done => Self::Done,
            Over::SourceLost => Self::SourceEnded,
            Over::Held => Self::Held,
            Over::Closed => Self::Recipe,
        }
    }
}
