//! A run that makes place for the next one in the same process: another recipe.
//!
//! A client asks for it; the run then opens no part any more, ends those on their way, and leaves
//! the word `ready` to the next. The service manager is told meanwhile that the line lives, for at
//! most as long as a start may take.

use super::clock::SystemClock;
use super::notify::Notify;
use crate::time::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest time between two runs for which the service manager hears that the line lives. A start
/// that hangs is its business then.
const LONGEST: Duration = Duration::from_secs(60);

/// What one run and the next have in common.
#[derive(Debug, Default)]
pub struct Change {
    asked: AtomicBool,
    between: AtomicBool,
    parts: AtomicU64,
}

impl Change {
    /// The run is to make place for the next.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Parts that the runs so far have had.
    pub fn parts(&self) -> u64 {
        self.parts.load(Ordering::Relaxed)
    }

    /// A run has ended; `parts`: that it had.
    pub(super) fn ended(&self, parts: u64) {
        self.parts.fetch_add(parts, Ordering::Relaxed);
    }

    /// The next run has begun.
    pub(super) fn begun(&self) {
        self.between.store(false, Ordering::Release);
    }

    /// One run has made place and the next has not begun: the service manager hears of it.
    pub(super) fn bridge(self: &Arc<Self>, mut notify: Notify) {
        self.asked.store(false, Ordering::Release);
        self.between.store(true, Ordering::Release);
        let change = self.clone();
        let tell = move || {
            let end = Instant::now() + LONGEST;
            while change.between.load(Ordering::Acquire) && Instant::now() < end {
                notify.alive(SystemClock.now());
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        // Without it a manager that watches closely starts the line anew, which is a change, too.
        let _ = std::thread::Builder::new().name("bridge".into()).spawn(tell);
    }
}
