//! Commands on their way to the thread that owns the outputs; fixed capacity, nobody waits to add one.
//!
//! Knows no output.

use crate::fault::Reason;
use crate::line::{LineMask, Moment, PartId};
use crate::time::{Instant, Micros};
use heapless::Deque;
use std::sync::{Condvar, Mutex};

/// What the outputs are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A part is in flight: its gates are scheduled from its trigger.
    Open {
        /// The part.
        part: PartId,
        /// Its trigger.
        trigger: Moment,
        /// Whether it touches the part before it: both get the late action.
        touching: bool,
    },
    /// A part in flight was decided.
    Verdict {
        /// The part.
        part: PartId,
        /// Lines called for.
        calls: LineMask,
    },
    /// What was decided of a part in flight is not to be believed.
    Doubt {
        /// The part.
        part: PartId,
        /// Why.
        reason: Reason,
    },
    /// Outputs follow the tags: these lines are called for now.
    Now {
        /// The part.
        part: PartId,
        /// Lines called for.
        calls: LineMask,
        /// When it was decided.
        at: Instant,
    },
    /// Latched lines may go to rest.
    Acknowledge(Instant),
    /// All lines to their safe state; parts in flight are given up.
    Safe(Reason),
}

#[derive(Default)]
struct Waiting {
    commands: Deque<Command, 256>,
    /// The belt moved.
    moved: bool,
}

/// Commands on their way.
#[derive(Default)]
pub struct CommandQueue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

impl CommandQueue {
    /// Adds a command; a full queue means that outputs are stuck: what waits there gives way to safety.
    pub fn push(&self, command: Command) {
        let mut waiting = self.waiting.lock().expect("no thread panics while it holds this");
        if waiting.commands.is_full() {
            waiting.commands.clear();
            let _ = waiting.commands.push_back(Command::Safe(Reason::Output));
        }
        let _ = waiting.commands.push_back(command);
        self.news.notify_one();
    }

    /// Wakes the thread that waits: the belt has moved.
    pub fn moved(&self) {
        self.waiting.lock().expect("no thread panics while it holds this").moved = true;
        self.news.notify_one();
    }

    /// Takes the oldest command, waiting at most `span` for one or for the belt.
    pub fn pop(&self, span: Micros) -> Option<Command> {
        let waiting = self.waiting.lock().expect("no thread panics while it holds this");
        let (mut waiting, _) = self
            .news
            .wait_timeout_while(waiting, span.duration(), |w| w.commands.is_empty() && !w.moved)
            .expect("no thread panics while it holds this");
        waiting.moved = false;
        waiting.commands.pop_front()
    }
}
