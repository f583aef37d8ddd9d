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
#[cfg(feature = "site")]
pub(crate) use json::line as json_line;
pub use log::{Allowance, Log};
pub use table::Table;

pub use super::fanout::{Sink, Told};
use super::{Event, Events, Sinking};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A drill: the sink `name` among `sinks` panics once, at the event of that number, counted from 1.
/// The error: there is no such sink.
pub fn drill(sinks: Vec<Sinking>, name: &str, event: u64) -> Result<Vec<Sinking>, String> {
    if !sinks.iter().any(|sink| sink.name == name) {
        let names: Vec<String> = sinks.iter().map(|sink| format!("\"{}\"", sink.name)).collect();
        return Err(format!("no sink \"{name}\"; expected one of {}", names.join(", ")));
    }
    let drilled = |sink: Sinking| {
        // Kept over a restart, so that the panic comes once.
        let left = Arc::new(AtomicU64::new(event));
        let mut make = sink.make;
        Sinking { make: Box::new(move || Box::new(Drilled { inner: make(), left: left.clone() })), ..sink }
    };
    Ok(sinks.into_iter().map(|sink| if sink.name == name { drilled(sink) } else { sink }).collect())
}

/// A sink that panics once.
struct Drilled {
    inner: Box<dyn Sink>,
    /// Events until it panics.
    left: Arc<AtomicU64>,
}

impl Sink for Drilled {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        assert!(left != 1, "a drill: the sink panics");
        self.inner.write(events, event)
    }

    fn is_stuck(&self) -> bool {
        self.inner.is_stuck()
    }
}

/// Writes to standard output and hands it on at once.
fn print(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
