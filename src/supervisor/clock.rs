//! The system's monotonic clock.

use crate::time::{Clock, Instant};
use rustix::time::{ClockId, clock_gettime};

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
