//! A run that makes place for the next one in the same process: another recipe.
//!
//! A client asks for it; the run then opens no part any more, ends those on their way, and leaves
//! the word `ready` to the next. The service manager is told meanwhile that the line lives, for at
//! most as long as a start may take. A signal ends the process meanwhile, whatever the next run's
//! start waits for: outputs are safe since the run before ended, and nothing of the next has moved.

use super::clock::SystemClock;
use super::ended::Ended;
use super::notify::Notify;
use crate::terminal;
use crate::time::Clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Whether a signal may end the process at any moment: the run before ended with outputs safe,
    /// and the next has not begun. Locked by who ends it, so that no run begins meanwhile.
    may_end: Mutex<bool>,
}

impl Change {
    /// The run is to make place for the next.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Whoever asked until now is heard: the next run goes by what was chosen by then.
    pub fn hear(&self) {
        self.asked.store(false, Ordering::Release);
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

    /// One run makes place and the next has not begun: the service manager hears of it, and a signal
    /// ends the process once the run's outputs are safe.
    pub(super) fn bridge(self: &Arc<Self>, mut notify: Notify, signalled: Arc<AtomicBool>) {
        self.asked.store(false, Ordering::Release);
        self.between.store(true, Ordering::Release);
        let change = self.clone();
        let watch = move || {
            let end = Instant::now() + LONGEST;
            while change.between.load(Ordering::Acquire) {
                if signalled.load(Ordering::Relaxed) {
                    let may_end = change.hold();
                    if *may_end {
                        notify.stopping();
                        tell_stopped();
                        std::process::exit(Ended::Signal.exit_code().into());
                    }
                }
                if Instant::now() < end {
                    notify.alive(SystemClock.now());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        // Without it a manager that watches closely starts the line anew, which is a change, too,
        // and a signal is heard when the next run's start is done.
        let _ = std::thread::Builder::new().name("bridge".into()).spawn(watch);
    }

    /// The run has ended, or could not begin, and each output is safe.
    pub(super) fn made_place(&self) {
        *self.hold() = true;
    }

    /// Whether one run has ended and the next has not begun.
    pub(super) fn is_between(&self) -> bool {
        *self.hold()
    }

    /// A run begins, unless a signal came between it and the one before.
    pub(super) fn begins(&self, signalled: &AtomicBool) -> bool {
        let mut may_end = self.hold();
        let begins = !(*may_end && signalled.load(Ordering::Relaxed));
        *may_end &= !begins;
        begins
    }

    /// Whether a signal came between two runs, which is told: the process is to end.
    pub fn is_stopped(&self, signalled: &AtomicBool) -> bool {
        let mut may_end = self.hold();
        let is_stopped = *may_end && signalled.load(Ordering::Relaxed);
        if is_stopped {
            // By its caller, not from beside.
            *may_end = false;
            tell_stopped();
        }
        is_stopped
    }

    /// As long as it is held no signal ends the process from beside.
    pub fn hold(&self) -> MutexGuard<'_, bool> {
        self.may_end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a person; one who does not read holds nothing up.
fn tell_stopped() {
    let tell = || terminal::tell("tagpin: stopped by a signal between two runs; outputs are safe", 8);
    let Ok(telling) = std::thread::Builder::new().name("tell".into()).spawn(tell) else { return };
    let begin = Instant::now();
    while !telling.is_finished() && begin.elapsed() < Duration::from_millis(200) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run was begun, with the belt told to go, to be ended by the signal at once.
    #[test]
    fn a_signal_between_two_runs_lets_no_run_begin_and_is_told_once() {
        for signal in [false, true] {
            let (change, signalled) = (Change::default(), AtomicBool::new(signal));
            assert!(change.begins(&signalled), "the first run tells of it itself");
            assert!(!change.is_stopped(&signalled) && !change.is_between());
            change.made_place();
            assert!(change.is_between());
            assert_eq!(change.begins(&signalled), !signal);
            assert_eq!((change.is_between(), change.is_stopped(&signalled)), (signal, signal));
            assert!(!change.is_between() && !change.is_stopped(&signalled));
        }
    }
}
