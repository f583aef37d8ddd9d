//! What says that a part is there: input lines, a fixed period, standard input, a socket; and, in frames, motion.
//!
//! Knows no model, source or output; each trigger stays private behind [`Trigger`].

mod gpio;
mod period;
mod presence;
mod words;

pub use gpio::{GpioInputs, Role};
pub use presence::{Presence, PresenceRules, Reference};

use crate::line::Moment;
use crate::time::{Clock, Instant, Millis};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What an input did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A part passed the sensor.
    Trigger {
        /// When.
        at: Instant,
        /// Where the belt was, if this input also counts an encoder.
        position: Option<i64>,
    },
    /// The belt moved, at the encoder's moment.
    Position(Moment),
    /// A person acknowledged what is latched.
    Acknowledge(Instant),
    /// Something was seen behind the gate.
    Confirm(Instant),
    /// Edges were lost between the kernel and this process: so many.
    Lost(u32),
}

/// Why an input cannot be had or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerError {
    /// The input's table in device.toml.
    pub input: &'static str,
    /// What was found, what was expected, what to do.
    pub why: String,
}

impl std::fmt::Display for TriggerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}]: {}", self.input, self.why)
    }
}

impl std::error::Error for TriggerError {}

/// Inputs that a thread of their own waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerSpec {
    /// Lines of a GPIO chip: trigger, encoder, acknowledge, confirm.
    Gpio(GpioInputs),
    /// A part in every period.
    Period(Millis),
    /// A line of text on standard input: `trigger` or nothing for a part, `ack` to acknowledge, `confirm` for what is
    /// seen behind the gate.
    Stdin,
    /// The same words as datagrams to a Unix socket.
    Socket(PathBuf),
}

impl std::fmt::Display for TriggerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gpio(g) => write!(f, "{g}"),
            Self::Period(p) => write!(f, "every {} ms", p.0),
            Self::Stdin => f.write_str("lines on standard input"),
            Self::Socket(path) => write!(f, "datagrams to {}", path.display()),
        }
    }
}

/// An input that is waited for.
pub trait Trigger: Send {
    /// What happened next; nothing if nothing does within `timeout`.
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError>;
}

/// Opens the input that `spec` names.
pub fn open(spec: &TriggerSpec, clock: &Arc<dyn Clock>) -> Result<Box<dyn Trigger>, TriggerError> {
    Ok(match spec {
        TriggerSpec::Gpio(inputs) => Box::new(gpio::GpioTrigger::open(inputs)?),
        TriggerSpec::Period(period) => Box::new(period::Period::new(*period, clock.clone())),
        TriggerSpec::Stdin => Box::new(words::Stdin::open(clock.clone())),
        TriggerSpec::Socket(path) => Box::new(words::Socket::open(path, clock.clone())?),
    })
}

/// Says where an input is if it could be had, without taking it.
pub fn probe(spec: &TriggerSpec) -> Result<String, TriggerError> {
    match spec {
        TriggerSpec::Gpio(inputs) => gpio::probe(inputs),
        TriggerSpec::Socket(path) => words::probe(path),
        other => Ok(other.to_string()),
    }
}
