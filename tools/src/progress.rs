//! Progress bars with the time left, and Ctrl-C as a flag that long work polls.

/// Adds a line to a text.
macro_rules! tell {
    ($to:expr) => { $to.push('\n') };
    ($to:expr, $($arg:tt)*) => {{
        $to.push_str(&format!($($arg)*));
        $to.push('\n');
    }};
}
pub(crate) use tell;

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A bar over `len` steps; silent where standard error is no terminal.
pub fn bar(what: &'static str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>12} [{bar:32}] {pos}/{len} {elapsed} left {eta} {msg}");
    ProgressBar::new(len).with_style(style.expect("the template is well formed").progress_chars("=> ")).with_prefix(what)
}

/// Set once the user pressed Ctrl-C or the system asked to stop.
#[derive(Debug)]
pub struct Interrupt(&'static Signals);

/// State shared with the signal handlers.
#[derive(Debug)]
struct Signals {
    stop: Arc<AtomicBool>,
    /// Whether the next signal ends the process: one came already, or no work polls the flag.
    at_once: Arc<AtomicBool>,
    listeners: AtomicUsize,
}

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP until it is dropped. The first sets the flag, the
    /// second ends the process. While nothing listens, the first ends it: there is no work to save.
    pub fn listen() -> anyhow::Result<Self> {
        static SIGNALS: OnceLock<Signals> = OnceLock::new();
        let first = SIGNALS.get().is_none();
        let signals = SIGNALS.get_or_init(|| Signals {
            stop: Arc::default(),
            at_once: Arc::default(),
            listeners: AtomicUsize::new(0),
        });
        if first {
            for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
                signal_hook::flag::register_conditional_shutdown(signal, 130, signals.at_once.clone())?;
                signal_hook::flag::register(signal, signals.stop.clone())?;
                signal_hook::flag::register(signal, signals.at_once.clone())?;
            }
        }
        signals.listeners.fetch_add(1, Ordering::SeqCst);
        signals.at_once.store(signals.stop.load(Ordering::SeqCst), Ordering::SeqCst);
        Ok(Self(signals))
    }

    /// Whether to stop.
    pub fn stopped(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if self.0.listeners.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.at_once.store(true, Ordering::SeqCst);
        }
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
