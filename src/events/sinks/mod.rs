//! Where events are written: a table or JSON lines on standard output, explanations on standard
//! error, the site's log.
//!
//! Each sink runs on a thread of its own, may allocate and may block.

mod explanations;
mod json;
mod log;
mod table;
mod text;
#[cfg(feature = "runtime")]
pub(crate) use text::shown;

pub use explanations::Explanations;
pub use json::JsonLines;
#[cfg(all(feature = "runtime", feature = "site"))]
pub(crate) use json::line as json_line;
pub use log::{Allowance, Log};
pub use table::Table;

pub use super::fanout::{Sink, Told};
use super::{Event, Events};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A drill: the sink panics once, at the event of this number.
pub struct Drilled {
    inner: Box<dyn Sink>,
    left: Arc<AtomicU64>,
}

impl Drilled {
    /// Wraps `inner`. `left`: events until it panics; it is kept over a restart, so that the panic
    /// comes once.
    pub fn new(inner: Box<dyn Sink>, left: Arc<AtomicU64>) -> Self {
        Self { inner, left }
    }
}

impl Sink for Drilled {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        assert!(left != 1, "a drill: the sink panics");
        self.inner.write(events, event)
    }
}

/// Writes to standard output and hands it on at once.
fn print(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
