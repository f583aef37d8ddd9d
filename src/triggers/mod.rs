//! What says that a part is there: input lines, a fixed period, standard input, a socket; and, in
//! frames, motion.
//!
//! Knows no model, source or output; each trigger stays private behind [`Trigger`].

mod arrival;
mod gpio;
mod period;
mod presence;
mod socket;
mod stdin;
mod words;

pub use gpio::{GpioInputs, Role};
pub use presence::{Presence, PresenceRules, Reference};
pub use socket::SocketSpec;

use crate::line::Moment;
use crate::time::{Clock, Instant, Micros, Millis};
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
    /// Signals were lost on their way to this process, or waited so long that their moment is not
    /// known: so many.
    Lost(u32),
    /// Something that opens no part was passed over; the trigger goes on.
    PassedOver(Odd),
    /// No more will come.
    Ended,
}

/// What is passed over at a trigger by word, and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// A word that means nothing.
    UnknownWord,
    /// Bytes that are no UTF-8.
    NotText,
    /// A line or datagram of more than 64 bytes.
    TooLong,
    /// The socket's name was removed; it is there again.
    SocketRemoved,
    /// An acknowledgement or confirmation that may have waited before it was read.
    Waited,
    /// A confirmation while too many others wait for the outputs.
    Crowded,
}

impl std::fmt::Display for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnknownWord => "an unknown word; expected \"trigger\", an empty line, \"ack\" or \"confirm\"",
            Self::NotText => "bytes that are no text; expected \"trigger\", an empty line, \"ack\" or \"confirm\"",
            Self::TooLong => {
                "more than 64 bytes without an end; expected \"trigger\", an empty line, \"ack\" or \"confirm\""
            }
            Self::SocketRemoved => "the socket's name was removed; it was made again, and what was sent meanwhile is lost",
            Self::Waited => {
                "an \"ack\" or \"confirm\" that may have waited longer than max_jitter_ms; it may be of another moment"
            }
            Self::Crowded => "a confirmation that the outputs had no room for; is the input behind the gate bouncing?",
        })
    }
}

impl Input {
    /// What a word is worth that may have waited so long that its moment is not known: a part is
    /// lost, and nobody acknowledged or saw what happened meanwhile.
    fn waited(self) -> Self {
        match self {
            Self::Trigger { .. } => Self::Lost(1),
            Self::Acknowledge(_) | Self::Confirm(_) => Self::PassedOver(Odd::Waited),
            other => other,
        }
    }
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
    /// A line of text on standard input: `trigger` or nothing for a part, `ack` to acknowledge,
    /// `confirm` for what is seen behind the gate.
    Stdin {
        /// Longest time from the sensor's signal to the line's arrival; `None` where nobody states
        /// it.
        max_jitter: Option<Micros>,
    },
    /// The same words as datagrams to a Unix socket.
    Socket(SocketSpec),
}

impl TriggerSpec {
    /// Whether a part's moment is its word's arrival, and nobody states how far that may be from
    /// the sensor's signal.
    pub const fn lacks_jitter(&self) -> bool {
        match self {
            Self::Stdin { max_jitter } | Self::Socket(SocketSpec { max_jitter, .. }) => max_jitter.is_none(),
            Self::Gpio(_) | Self::Period(_) => false,
        }
    }
}

impl std::fmt::Display for TriggerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gpio(g) => write!(f, "{g}"),
            Self::Period(p) => write!(f, "every {} ms", p.0),
            Self::Stdin { .. } => f.write_str("lines on standard input"),
            Self::Socket(socket) => write!(f, "datagrams to {}", socket.path.display()),
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
        TriggerSpec::Stdin { max_jitter } => Box::new(stdin::Stdin::new(*max_jitter, clock.clone())),
        TriggerSpec::Socket(spec) => Box::new(socket::Socket::open(spec, clock.clone())?),
    })
}

/// Says where an input is if it could be had, without taking it.
pub fn probe(spec: &TriggerSpec) -> Result<String, TriggerError> {
    match spec {
        TriggerSpec::Gpio(inputs) => gpio::probe(inputs),
        TriggerSpec::Socket(spec) => socket::probe(spec),
        other => Ok(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An acknowledgement that was sent before a fault and read after it put the lamp out: nobody
    /// had seen the fault.
    #[test]
    fn of_words_that_may_have_waited_parts_are_lost_and_none_acknowledges_or_confirms() {
        let at = Instant::from_micros(5);
        assert_eq!(Input::Trigger { at, position: None }.waited(), Input::Lost(1));
        for word in [Input::Acknowledge(at), Input::Confirm(at)] {
            assert_eq!(word.waited(), Input::PassedOver(Odd::Waited));
        }
        let moved = Input::Position(Moment::at(at));
        assert_eq!(moved.waited(), moved, "an encoder's moment is the kernel's");
    }
}
