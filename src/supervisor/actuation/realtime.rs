//! Real-time priority and locked memory for the calling thread's process, where the system permits
//! it; and memory for its stack that is there before it is needed.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// What the system permits.
pub(in crate::supervisor) struct Realtime {
    /// For tables.
    pub(in crate::supervisor) got: String,
    /// What is missing and how to allow it; empty if nothing is.
    pub(in crate::supervisor) missing: String,
}

/// SCHED_FIFO at this priority: above all that is not real-time, below the kernel's own interrupt
/// threads (50).
const PRIORITY: u8 = 40;

/// Asks for the priority alone.
pub(in crate::supervisor) fn schedule() -> Result<(), String> {
    let priority = PRIORITY.try_into().map_err(|e| format!("{e:?}"))?;
    let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let asked = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), fifo);
    asked.map_err(|e| e.to_string())
}

/// Asks for both; says what was given, and what is missing with the way to allow it.
pub(in crate::supervisor) fn take() -> Realtime {
    let (mut got, mut missing) = (Vec::new(), Vec::new());
    match schedule() {
        Ok(()) => got.push(format!("SCHED_FIFO {PRIORITY}")),
        Err(e) => {
            got.push("no real-time priority".into());
            missing.push(format!(
                "SCHED_FIFO refused ({e}); allow it with LimitRTPRIO={PRIORITY} (systemd) or `ulimit -r {PRIORITY}`"
            ));
        }
    }
    // With a limit, locking what is allocated later would make those allocations fail.
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let locked = match unlimited {
        true => mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(|e| e.to_string()),
        false => Err("limited".into()),
    };
    match locked {
        Ok(()) => got.push("memory locked".into()),
        Err(e) => {
            got.push("memory not locked".into());
            missing.push(format!(
                "memory lock refused ({e}); allow it with LimitMEMLOCK=infinity (systemd) or `ulimit -l unlimited`"
            ));
        }
    }
    Realtime { got: got.join(", "), missing: missing.join("; ") }
}

/// Writes to the stack that the calling thread will use, so that none of its pages is met for the
/// first time at an edge.
#[inline(never)]
pub(in crate::supervisor) fn touch_stack() {
    // The deepest that was seen is a seventh of it.
    let mut stack = [0u8; 64 * 1024];
    std::hint::black_box(&mut stack);
}
