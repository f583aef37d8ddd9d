//! What exactly failed, for people and the service manager's journal: one line each on standard
//! error.

use super::Sink;
use super::text::shown;
use crate::events::{Event, Events, What};
use crate::terminal::fitted;
use std::io::Write;

/// Explanations of faults, and notes.
pub struct Explanations;

impl Explanations {
    /// Whether an event explains anything.
    pub fn wants(what: &What) -> bool {
        match what {
            What::Fault(fault) => !fault.why.as_str().is_empty(),
            What::Note(_) => true,
            _ => false,
        }
    }
}

impl Sink for Explanations {
    fn write(&mut self, _: &Events, event: &Event) -> std::io::Result<()> {
        let why = match &event.what {
            What::Fault(fault) => &fault.why,
            What::Note(text) => text,
            _ => return Ok(()),
        };
        let mut stderr = std::io::stderr().lock();
        let told = fitted(&stderr, &format!("tagpin: {}", shown(why.as_str(), usize::MAX)), 8);
        writeln!(stderr, "{told}")
    }
}
