//! The lowest priority, for what may never take time from the line.

use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// SCHED_IDLE for the calling thread and those that it starts: they run when nothing else wants to.
/// Needs no permission; where the system refuses it all the same, the thread goes on as it was.
pub fn lowest_priority() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
}
