//! The two clocks: the system's monotonic one, and one that a simulation turns.
//!
//! Knows nothing else.

use crate::time::{Clock, Instant};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};

/// `CLOCK_MONOTONIC`: the one that V4L2 and libcamera stamp frames with.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        let t = clock_gettime(ClockId::Monotonic);
        Instant::from_micros(t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000)
    }

    fn wait_until(&self, at: Instant) {
        let left = at.since(self.now());
        if left.0 > 0 {
            std::thread::sleep(left.duration());
        }
    }
}

/// A clock that stands still until somebody waits.
#[derive(Debug, Default)]
pub struct SimulatedClock(AtomicU64);

impl Clock for SimulatedClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn wait_until(&self, at: Instant) {
        self.0.fetch_max(at.as_micros(), Ordering::SeqCst);
    }
}
