//! Progress with time left, and Ctrl-C as a flag that long work looks at.
//!
//! Knows nothing of the work.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// A bar over `len` steps; silent where standard error is no terminal.
pub fn bar(what: &'static str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>12} [{bar:32}] {pos}/{len} {elapsed} left {eta} {msg}");
    ProgressBar::new(len).with_style(style.expect("the template is well formed").progress_chars("=> ")).with_prefix(what)
}

/// Set once the user pressed Ctrl-C or the system asked to stop.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for SIGINT and SIGTERM from the first call on; a second one ends the process at once.
    pub fn listen() -> anyhow::Result<Self> {
        static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
        if let Some(flag) = FLAG.get() {
            return Ok(Self(flag.clone()));
        }
        let flag = FLAG.get_or_init(Arc::default).clone();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
        }
        Ok(Self(flag))
    }

    /// Whether to stop.
    pub fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Work ended because the user asked; the text says what is kept. The program exits with 130.
#[derive(Debug)]
pub struct Interrupted(pub String);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}
