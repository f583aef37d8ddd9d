//! Time that somebody sets.

use crate::time::{Clock, Instant};
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that is set.
#[derive(Debug, Default)]
pub struct SimulatedClock(AtomicU64);

impl Clock for SimulatedClock {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn wait_until(&self, at: Instant) {
        self.0.fetch_max(at.as_micros(), Ordering::Relaxed);
    }
}
