//! Commands on their way to the thread that owns the outputs: a ring of fixed capacity; nobody
//! waits to send, the taker waits for nobody.
//!
//! Senders take turns by a lock that only they use, so a sender that is stopped half-way through
//! delays other senders and never the outputs. The taker sleeps by parking its thread: the word
//! that wakes it is the thread's own, so that no lock and no descriptor is shared, and a wake-up
//! that comes before the sleep is kept.

use crate::fault::Reason;
use crate::line::{LineMask, Moment, PartId};
use crate::time::Instant;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

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
    /// The input behind the gate saw something.
    Confirm(Instant),
    /// All lines to their safe state; parts in flight are given up.
    Safe(Reason),
}

/// Most commands on their way.
pub const CAPACITY: usize = 256;

/// The senders' end.
pub struct CommandQueue {
    sender: Mutex<Producer<Command>>,
    refused: Arc<AtomicBool>,
    taker: OnceLock<Thread>,
}

/// The taker's end.
pub struct Commands {
    ring: Consumer<Command>,
    refused: Arc<AtomicBool>,
}

impl CommandQueue {
    /// Both ends of an empty queue.
    pub fn new() -> (Self, Commands) {
        let (mut sender, mut ring) = RingBuffer::new(CAPACITY);
        // Every place is written once, so that no page of it is met for the first time on the line.
        while sender.push(Command::Acknowledge(Instant::default())).is_ok() {}
        while ring.pop().is_ok() {}
        let refused = Arc::new(AtomicBool::new(false));
        let queue = Self { sender: Mutex::new(sender), refused: refused.clone(), taker: OnceLock::new() };
        (queue, Commands { ring, refused })
    }

    /// Tells which thread takes the commands. To be called once, before any other thread sends.
    pub fn taken_by(&self, thread: Thread) {
        self.taker.set(thread).expect("one thread takes commands");
    }

    /// Adds a command; a full queue means that outputs are stuck: what waits there gives way to
    /// safety.
    pub fn push(&self, command: Command) {
        let pushed = self.sender.lock().expect("no thread panics while it holds this").push(command);
        if pushed.is_err() {
            self.refused.store(true, Ordering::Release);
        }
        self.wake();
    }

    /// Wakes the thread that takes: a command came, or the belt has moved.
    pub fn wake(&self) {
        if let Some(thread) = self.taker.get() {
            thread.unpark();
        }
    }

    /// The senders' lock, as a sender holds it that is stopped half-way through.
    #[cfg(test)]
    pub(in crate::supervisor) fn hold(&self) -> impl Sized + '_ {
        self.sender.lock().expect("no thread panics while it holds this")
    }
}

impl Commands {
    /// Takes the oldest command. Once a command was refused, all that wait are dropped, and the
    /// next is [`Command::Safe`].
    pub fn pop(&mut self) -> Option<Command> {
        if self.refused.swap(false, Ordering::Acquire) {
            for _ in 0..CAPACITY {
                _ = self.ring.pop();
            }
            return Some(Command::Safe(Reason::Output));
        }
        self.ring.pop().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(part: u64) -> Command {
        Command::Now { part: PartId(part), calls: 1, at: Instant::default() }
    }

    #[test]
    fn commands_come_in_their_order_and_a_full_queue_gives_way_to_safety() {
        let (queue, mut commands) = CommandQueue::new();
        assert_eq!(commands.pop(), None, "what touched the memory is gone");
        for round in 0..3 {
            (0..CAPACITY as u64).for_each(|i| queue.push(now(round * 1000 + i)));
            for i in 0..CAPACITY as u64 {
                assert_eq!(commands.pop(), Some(now(round * 1000 + i)));
            }
            assert_eq!(commands.pop(), None);
        }
        (0..=CAPACITY as u64).for_each(|i| queue.push(now(i)));
        assert_eq!((commands.pop(), commands.pop()), (Some(Command::Safe(Reason::Output)), None), "one too many");
        queue.push(now(7));
        assert_eq!((commands.pop(), commands.pop()), (Some(now(7)), None), "and it goes on");
    }

    #[test]
    fn the_taker_is_woken_by_a_command_and_by_the_belt_and_a_wake_up_before_its_sleep_is_kept() {
        const LONG: std::time::Duration = std::time::Duration::from_secs(20);
        let (queue, mut commands) = CommandQueue::new();
        queue.taken_by(std::thread::current());
        let begin = std::time::Instant::now();
        queue.push(now(1));
        std::thread::park_timeout(LONG);
        assert_eq!(commands.pop(), Some(now(1)));
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                queue.wake();
            });
            std::thread::park_timeout(LONG);
        });
        assert!(begin.elapsed() < LONG / 2, "{:?}", begin.elapsed());
    }
}
