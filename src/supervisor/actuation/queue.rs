//! Commands on their way to the thread that owns the outputs: a ring of fixed capacity; nobody
//! waits to send, the taker waits for nobody.
//!
//! Senders take turns by a lock that only they use, so a sender that is stopped half-way through
//! delays other senders and never the outputs. Acknowledgements say the same however often they
//! come, so the newest alone is kept, beside the ring and at its place among the commands; and the
//! input behind the gate may fill no more than three quarters of it. What parts need has the rest:
//! it is full only if the outputs' thread was held up. The taker sleeps by parking its thread: the
//! word that wakes it is the thread's own, so that no lock and no descriptor is shared, and a
//! wake-up that comes before the sleep is kept.

use crate::fault::Reason;
use crate::line::{LineMask, Moment, PartId};
use crate::time::Instant;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
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
    /// More commands came than fit, and all of them were dropped: all lines to their safe state;
    /// parts in flight are given up, and so are those that were dropped.
    Dropped(Dropped),
}

impl Command {
    /// The part that the outputs hear of by this.
    fn opens(self) -> Option<PartId> {
        match self {
            Self::Open { part, .. } | Self::Now { part, .. } => Some(part),
            _ => None,
        }
    }
}

/// Parts whose commands were dropped before the outputs had heard of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub parts: u64,
    /// The first and the last of them.
    pub ends: Option<(PartId, PartId)>,
}

impl Dropped {
    /// A command was dropped; parts come in the order of their numbers.
    fn add(&mut self, command: Command) {
        if let Some(part) = command.opens().filter(|part| self.ends.is_none_or(|(_, last)| *part > last)) {
            self.parts += 1;
            self.ends = Some((self.ends.map_or(part, |(first, _)| first), part));
        }
    }
}

/// Most commands on their way.
pub const CAPACITY: usize = 256;
/// Places that what is seen behind the gate leaves to parts.
const KEPT: usize = CAPACITY / 4;

/// What senders tell the taker beside the ring. They write it under their lock; the taker takes
/// none.
#[derive(Default)]
struct Beside {
    /// A command was refused.
    refused: AtomicBool,
    /// Parts whose first command was: their number, the first and the last of them.
    parts: [AtomicU64; 3],
    /// When somebody acknowledged last.
    acknowledged: AtomicU64,
    /// The commands sent before that, plus one; 0 if it was taken.
    acknowledged_after: AtomicU64,
}

struct Sender {
    ring: Producer<Command>,
    /// Commands sent so far.
    sent: u64,
    /// The last part whose first command was refused.
    last_refused: PartId,
}

/// The senders' end.
pub struct CommandQueue {
    sender: Mutex<Sender>,
    beside: Arc<Beside>,
    taker: OnceLock<Thread>,
}

/// The taker's end.
pub struct Commands {
    ring: Consumer<Command>,
    beside: Arc<Beside>,
    /// Commands taken so far.
    taken: u64,
}

impl CommandQueue {
    /// Both ends of an empty queue.
    pub fn new() -> (Self, Commands) {
        let (mut sender, mut ring) = RingBuffer::new(CAPACITY);
        // Every place is written once, so that no page of it is met for the first time on the line.
        while sender.push(Command::Acknowledge(Instant::default())).is_ok() {}
        while ring.pop().is_ok() {}
        let beside = Arc::<Beside>::default();
        let sender = Mutex::new(Sender { ring: sender, sent: 0, last_refused: PartId(0) });
        let queue = Self { sender, beside: beside.clone(), taker: OnceLock::new() };
        (queue, Commands { ring, beside, taken: 0 })
    }

    /// Tells which thread takes the commands. To be called once, before any other thread sends.
    pub fn taken_by(&self, thread: Thread) {
        self.taker.set(thread).expect("one thread takes commands");
    }

    /// Adds a command; a full queue means that outputs are stuck: what waits there gives way to
    /// safety.
    pub fn push(&self, command: Command) {
        let mut sender = self.sender();
        if let Command::Acknowledge(at) = command {
            self.beside.acknowledged.store(at.as_micros(), Ordering::Relaxed);
            self.beside.acknowledged_after.store(sender.sent + 1, Ordering::Release);
        } else {
            sender.push(command, &self.beside);
        }
        drop(sender);
        self.wake();
    }

    /// The input behind the gate saw something at `at`; false if there is no room for that, and it
    /// is passed over.
    pub fn confirm(&self, at: Instant) -> bool {
        let mut sender = self.sender();
        let fits = sender.ring.slots() > KEPT;
        if fits {
            sender.push(Command::Confirm(at), &self.beside);
        }
        drop(sender);
        self.wake();
        fits
    }

    fn sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().expect("no thread panics while it holds this")
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
        self.sender()
    }
}

impl Sender {
    fn push(&mut self, command: Command, beside: &Beside) {
        if self.ring.push(command).is_ok() {
            self.sent += 1;
            return;
        }
        if let Some(part) = command.opens().filter(|part| *part > self.last_refused) {
            self.last_refused = part;
            let [parts, first, last] = &beside.parts;
            parts.fetch_add(1, Ordering::Relaxed);
            // Another is the first since the taker looked.
            _ = first.compare_exchange(0, part.0, Ordering::Relaxed, Ordering::Relaxed);
            last.store(part.0, Ordering::Relaxed);
        }
        beside.refused.store(true, Ordering::Release);
    }
}

impl Commands {
    /// Takes the oldest command. Once a command was refused, all that wait are dropped, and the
    /// next is [`Command::Dropped`].
    pub fn pop(&mut self) -> Option<Command> {
        if self.beside.refused.swap(false, Ordering::Acquire) {
            return Some(Command::Dropped(self.drop_all()));
        }
        let after = self.beside.acknowledged_after.load(Ordering::Acquire);
        if after > 0 && self.taken + 1 >= after {
            // A newer one that came this moment is taken next time.
            let free = self.beside.acknowledged_after.compare_exchange(after, 0, Ordering::AcqRel, Ordering::Relaxed);
            if free.is_ok() {
                return Some(Command::Acknowledge(Instant::from_micros(self.beside.acknowledged.load(Ordering::Relaxed))));
            }
        }
        let command = self.ring.pop().ok()?;
        self.taken += 1;
        Some(command)
    }

    fn drop_all(&mut self) -> Dropped {
        let mut dropped = Dropped::default();
        for _ in 0..CAPACITY {
            let Ok(command) = self.ring.pop() else { break };
            self.taken += 1;
            dropped.add(command);
        }
        let [parts, first, last] = [0, 1, 2].map(|i| self.beside.parts[i].swap(0, Ordering::Relaxed));
        if parts > 0 {
            dropped.parts += parts;
            dropped.ends = Some((dropped.ends.map_or(PartId(first), |(first, _)| first), PartId(last)));
        }
        // Who acknowledged has not seen this.
        self.beside.acknowledged_after.store(0, Ordering::Relaxed);
        dropped
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
        let ends = Some((PartId(1), PartId(CAPACITY as u64 + 3)));
        let dropped = Dropped { parts: CAPACITY as u64 + 3, ends };
        (1..=CAPACITY as u64 + 3).for_each(|i| queue.push(now(i)));
        assert_eq!((commands.pop(), commands.pop()), (Some(Command::Dropped(dropped)), None), "three too many");
        queue.push(now(777));
        assert_eq!((commands.pop(), commands.pop()), (Some(now(777)), None), "and it goes on");
        // The next time it is told anew, with its own parts.
        (0..CAPACITY).for_each(|_| queue.push(Command::Safe(Reason::Engine)));
        (800..802).for_each(|i| queue.push(now(i)));
        let dropped = Dropped { parts: 2, ends: Some((PartId(800), PartId(801))) };
        assert_eq!((commands.pop(), commands.pop()), (Some(Command::Dropped(dropped)), None));
    }

    /// A part has several commands; what moves no part names none.
    #[test]
    fn each_part_that_was_dropped_counts_once_and_other_commands_for_none() {
        let (queue, mut commands) = CommandQueue::new();
        // Two of each: those that had room, and those that had none.
        (0..CAPACITY as u64).for_each(|i| queue.push(now(1 + i / 2)));
        (0..4).for_each(|i| queue.push(now(CAPACITY as u64 + i / 2)));
        let parts = CAPACITY as u64 / 2 + 2;
        let ends = Some((PartId(1), PartId(CAPACITY as u64 + 1)));
        assert_eq!(commands.pop(), Some(Command::Dropped(Dropped { parts, ends })));
        (0..=CAPACITY).for_each(|_| queue.push(Command::Safe(Reason::Engine)));
        assert_eq!(commands.pop(), Some(Command::Dropped(Dropped::default())));
        // An acknowledgement stands behind what came before it, also after such a loss.
        let acknowledge = Command::Acknowledge(Instant::from_micros(7));
        queue.push(now(1000));
        queue.push(now(1001));
        queue.push(acknowledge);
        queue.push(now(1002));
        let order = std::array::from_fn(|_| commands.pop());
        assert_eq!(order, [Some(now(1000)), Some(now(1001)), Some(acknowledge), Some(now(1002)), None]);
    }

    /// Three hundred acknowledgements while the outputs' thread was held up for a moment threw the
    /// parts on their way out of the queue, and nothing was told.
    #[test]
    fn acknowledgements_and_what_is_seen_behind_the_gate_take_no_place_from_parts() {
        let (queue, mut commands) = CommandQueue::new();
        let acknowledge = |ms| Command::Acknowledge(Instant::from_micros(ms));
        queue.push(now(1));
        (1..=2000).for_each(|ms| queue.push(acknowledge(ms)));
        queue.push(now(2));
        // In its place: what comes after it is not acknowledged by it.
        let order = std::array::from_fn(|_| commands.pop());
        assert_eq!(order, [Some(now(1)), Some(acknowledge(2000)), Some(now(2)), None]);
        // Signals behind the gate have room too, but not all of it.
        let seen = (0..2000).filter(|ms| queue.confirm(Instant::from_micros(*ms))).count();
        assert_eq!((seen, KEPT), (192, 64));
        (1..=KEPT as u64).for_each(|part| queue.push(now(part)));
        let all: Vec<Command> = std::iter::from_fn(|| commands.pop()).collect();
        assert_eq!(all.len(), CAPACITY);
        assert!(all[CAPACITY - KEPT..].iter().zip(1..).all(|(command, part)| *command == now(part)), "{all:?}");
        // Who acknowledges before the queue overflows has not seen that.
        queue.push(acknowledge(7));
        (0..=CAPACITY as u64).for_each(|i| queue.push(now(i + 1)));
        assert!(matches!(commands.pop(), Some(Command::Dropped(_))));
        assert_eq!(commands.pop(), None);
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
