//! Input lines of one chip: their edges in the order in which they happened, with the kernel's time
//! stamps. Their meaning (trigger, encoder, acknowledge) is assigned in `triggers`.

use super::find;
use crate::readable::is_readable;
use crate::time::Instant;
use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection, EdgeKind, EventClock};
use std::os::fd::AsFd;
use std::time::Duration;

/// Which edges count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slope {
    /// From inactive to active.
    Rising,
    /// From active to inactive.
    Falling,
    /// Both.
    Both,
}

impl Slope {
    /// All, by the words of device.toml; the first is its default.
    pub const WORDS: [(&'static str, Self); 3] =
        [("rising", Self::Rising), ("falling", Self::Falling), ("both", Self::Both)];
}

/// The resistor at an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// As it was.
    AsIs,
    /// To the supply.
    Up,
    /// To ground.
    Down,
    /// None.
    Off,
}

impl Pull {
    /// All, by the words of device.toml; the first is its default.
    pub const WORDS: [(&'static str, Self); 4] =
        [("as_is", Self::AsIs), ("up", Self::Up), ("down", Self::Down), ("off", Self::Off)];
}

/// One input line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputLine {
    /// Offset or name on the chip.
    pub line: String,
    /// Whether low is active.
    pub active_low: bool,
    /// Edges that are reported.
    pub slope: Slope,
    /// The resistor.
    pub pull: Pull,
    /// Debounce time: how long the line must be stable before an edge counts; zero for none.
    pub debounce: Duration,
}

/// An edge of one of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which of the lines, in the order in which they were opened.
    pub line: usize,
    /// Whether the line became active.
    pub active: bool,
    /// When, by the kernel's interrupt handler (monotonic).
    pub at: Instant,
    /// Edges of this line that the kernel had to drop before this one.
    pub lost: u32,
}

/// Lines of one chip, requested together so that the kernel keeps their edges in order.
pub struct InputLines {
    request: Request,
    offsets: Vec<u32>,
    numbers: Vec<u32>,
}

/// Edges that the kernel buffers for a late reader: enough for an encoder at 10 kHz over 100 ms.
const KERNEL_BUFFER: u32 = 1024;

/// Words of 64 bits that hold one edge of the kernel's (`struct gpio_v2_line_event`).
const EDGE_WORDS: usize = 6;

impl InputLines {
    /// Requests the lines of `chip`.
    pub fn open(chip: &str, lines: &[InputLine]) -> Result<Self, String> {
        let found = lines.iter().map(|l| find(chip, &l.line)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = found.first() else { return Err(format!("no input lines of \"{chip}\" were named")) };
        let mut builder = Request::builder();
        builder.on_chip(&first.chip.path).with_consumer("tagpin").with_kernel_event_buffer_size(KERNEL_BUFFER);
        for (line, place) in lines.iter().zip(&found) {
            builder.with_line(place.offset).as_input().with_event_clock(EventClock::Monotonic);
            builder.with_edge_detection(match line.slope {
                Slope::Rising => EdgeDetection::RisingEdge,
                Slope::Falling => EdgeDetection::FallingEdge,
                Slope::Both => EdgeDetection::BothEdges,
            });
            match line.pull {
                Pull::AsIs => {}
                Pull::Up => drop(builder.with_bias(Bias::PullUp)),
                Pull::Down => drop(builder.with_bias(Bias::PullDown)),
                Pull::Off => drop(builder.with_bias(Bias::Disabled)),
            }
            if line.active_low {
                builder.as_active_low();
            } else {
                builder.as_active_high();
            }
            if !line.debounce.is_zero() {
                builder.with_debounce_period(line.debounce);
            }
        }
        let request = builder.request().map_err(|e| found.iter().map(|f| f.refused(&e)).collect::<Vec<_>>().join("; "))?;
        Ok(Self { request, offsets: found.iter().map(|f| f.offset).collect(), numbers: vec![0; found.len()] })
    }

    /// Whether line `line` is active now.
    pub fn is_active(&self, line: usize) -> Result<bool, String> {
        let value = self.request.value(self.offsets[line]);
        value.map(bool::from).map_err(|e| format!("line {} cannot be read: {e}", self.offsets[line]))
    }

    /// The next edge; `None` if there is none within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Edge>, String> {
        let failed = |e: gpiocdev::Error| format!("edges cannot be read: {e}");
        // Not by gpiocdev's own wait, which calls a signal that comes meanwhile an error.
        if !is_readable(self.request.as_fd(), timeout).map_err(|e| format!("edges cannot be waited for: {e}"))? {
            return Ok(None);
        }
        // Not by `read_edge_event` of gpiocdev 0.8: it takes as many as eight edges and gives the
        // first.
        let mut words = [0; EDGE_WORDS];
        let of_one = words.get_mut(..self.request.edge_event_u64_size()).expect("an edge of the kernel's has 48 bytes");
        self.request.read_edge_events_into_slice(of_one).map_err(failed)?;
        let event = self.request.edge_event_from_slice(of_one).map_err(failed)?;
        let Some(line) = self.offsets.iter().position(|o| *o == event.offset) else { return Ok(None) };
        let lost = event.line_seqno.wrapping_sub(self.numbers[line]).wrapping_sub(1);
        self.numbers[line] = event.line_seqno;
        let at = Instant::from_micros(event.timestamp_ns / 1000);
        Ok(Some(Edge { line, active: event.kind == EdgeKind::Rising, at, lost }))
    }
}
