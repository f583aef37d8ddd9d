//! What the fuzz targets share: the budget of images and who holds them to it, and a clock that
//! needs no waiting.

use peak_alloc::PeakAlloc;
use std::sync::atomic::{AtomicU64, Ordering};
use tagpin::pictures::Budget;
use tagpin::time::{Clock, Instant};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What decoding an image may take.
pub const BUDGET: Budget = Budget::megabytes(16);
/// Tables, rows and messages of a decoder, which its budget does not count.
const BESIDE: usize = 1 << 20;

/// Does `work`, and panics if more memory than [`BUDGET`] was held at once meanwhile.
pub fn within_budget<T>(work: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let done = work();
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(taken <= BUDGET.0 as usize + BESIDE, "{taken} bytes were held at once");
    done
}

/// A clock that goes on by 1 ms whenever it is asked.
#[derive(Debug)]
pub struct Ticking(AtomicU64);

impl Default for Ticking {
    fn default() -> Self {
        Self(AtomicU64::new(1_000_000))
    }
}

impl Clock for Ticking {
    fn now(&self) -> Instant {
        Instant::from_micros(self.0.fetch_add(1000, Ordering::Relaxed))
    }

    fn wait_until(&self, at: Instant) {
        let left = at.since(self.now()).0;
        self.0.fetch_add(left, Ordering::Relaxed);
    }
}

