//! The signals that end a program, as a flag that it looks at where it may end.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A flag that is set by SIGINT, SIGTERM, SIGHUP and each of `others`.
pub(super) fn flag(others: &[i32]) -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP].iter().chain(others) {
        signal_hook::flag::register(*signal, flag.clone())?;
    }
    Ok(flag)
}
