//! JSON lines on standard output.

use super::{Sink, print};
use crate::events::record::Record;
use crate::events::{Event, Events};

/// One JSON object a line, as `EVENTS.md` says.
#[derive(Default)]
pub struct JsonLines(Vec<u8>);

/// One event as a line.
pub(crate) fn line(bytes: &mut Vec<u8>, events: &Events, event: &Event) -> std::io::Result<()> {
    bytes.clear();
    serde_json::to_writer(&mut *bytes, &Record::new(events, event))?;
    bytes.push(b'\n');
    Ok(())
}

impl Sink for JsonLines {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        line(&mut self.0, events, event)?;
        print(&self.0)
    }
}
