//! A panic in a thread of the line: outputs go safe before anybody is told what happened.
//!
//! The standard library calls its hook where a thread panics, before the thread is unwound. Its own
//! hook prints there, and with `RUST_BACKTRACE` it looks up names for seconds meanwhile. The hook
//! of this module first raises the [`Alarm`] of the run that the thread belongs to: one flag and a
//! wake-up, without a lock or memory. What the panic said stands in the alarm, and is told as a
//! fault. `TAGPIN_BACKTRACE` in the environment has the standard library's hook called as well,
//! behind the alarm.

use crate::events::Why;
use std::cell::RefCell;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread::Thread;

thread_local! {
    /// The alarm of the run that this thread belongs to.
    static ALARM: RefCell<Option<Arc<Alarm>>> = const { RefCell::new(None) };
}

/// Whether a thread of a run has panicked.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    raised: AtomicBool,
    told: AtomicBool,
    why: OnceLock<Why>,
    /// The thread that owns the outputs.
    outputs: OnceLock<Thread>,
}

impl Alarm {
    /// A panic of the calling thread raises this from now on.
    pub(super) fn watch(self: &Arc<Self>) {
        ALARM.set(Some(self.clone()));
    }

    /// Tells which thread is woken. To be called once.
    pub(super) fn wakes(&self, outputs: Thread) {
        self.outputs.set(outputs).expect("one thread owns the outputs");
    }

    /// Whether a thread has panicked.
    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// A thread panicked.
    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        if let Some(outputs) = self.outputs.get() {
            outputs.unpark();
        }
    }

    /// What the first panic said, once; `None` if there was none, or it was told.
    pub(super) fn to_tell(&self) -> Option<Why> {
        let first = self.is_raised() && !self.told.swap(true, Ordering::AcqRel);
        first.then(|| self.why.get().cloned().unwrap_or(Why::of(&"a thread panicked")))
    }
}

fn why(info: &PanicHookInfo<'_>) -> Why {
    let thread = std::thread::current();
    let (name, said) = (thread.name().unwrap_or("?"), info.payload_as_str().unwrap_or("no message"));
    match info.location() {
        Some(place) => Why::of(&format_args!("the thread \"{name}\" panicked at {place}: {said}")),
        None => Why::of(&format_args!("the thread \"{name}\" panicked: {said}")),
    }
}

/// From here on a panic raises the alarm of its thread's run, and a panic of any other thread is
/// one line on standard error. One that [`crate::caught`] takes is an error there, and no alarm.
pub fn raise_alarm_at_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        let in_full = std::env::var_os("TAGPIN_BACKTRACE").is_some();
        set_hook(Box::new(move |info| {
            if crate::caught::is_here() {
                return;
            }
            let alarm = ALARM.try_with(|alarm| alarm.try_borrow().ok().and_then(|alarm| alarm.clone())).ok().flatten();
            if let Some(alarm) = &alarm {
                alarm.raise();
                // The first panic is the one that is told.
                let _ = alarm.why.set(why(info));
            }
            if in_full {
                others(info);
            } else if alarm.is_none() {
                crate::terminal::tell(&format!("tagpin: {}", crate::terminal::escaped(why(info).as_str())), 8);
            }
        }));
    });
}
