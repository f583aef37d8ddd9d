//! Triggers, the signals that a part is there: input lines, a fixed period, standard input, a
//! socket, a PLC's writes, or motion in the frames.
//!
//! [`open`] gives the [`Trigger`] of a [`TriggerSpec`]; each kind is a private module.

mod arrival;
mod gpio;
mod period;
mod posted;
mod presence;
mod socket;
mod stdin;
mod words;

pub use arrival::{Arrival, Arrivals};
pub use gpio::{GpioInputs, Role};
pub use posted::Posts;
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
    /// This many signals were lost on their way to this process, or waited so long that their
    /// moment is unknown.
    Lost(u32),
    /// Something that opens no part was passed over; the trigger goes on.
    PassedOver(Odd),
    /// No more will come.
    Ended,
}

/// Something on a trigger's input that is ignored, but reported.
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
    /// A write over Modbus by a peer that may not write.
    RefusedWrite,
    /// A write of 1 to a trigger that was 1.
    StillSet,
    /// A PLC that wrote the trigger is gone.
    Disconnected,
    /// A trigger, acknowledgement or confirmation that came between two runs.
    Between,
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
            Self::RefusedWrite => "a Modbus write by a peer that may not write; name its address in [modbus] allow",
            Self::StillSet => "Trigger was written 1 while it was 1, which opens no part; write 0 between two triggers",
            Self::Disconnected => "the PLC that wrote Trigger has disconnected; no part comes until it connects again",
            Self::Between => {
                "a trigger, \"ack\" or \"confirm\" that came between two runs, or before the first: its part is not sorted; send \
                 none while ready is down"
            }
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

    /// What it is worth in a run that began at `begin`. The belt's position stays one: no count of
    /// an encoder may be missing.
    fn of_run(self, begin: Instant) -> Self {
        match self {
            Self::Trigger { at, .. } | Self::Acknowledge(at) | Self::Confirm(at) if at < begin => {
                Self::PassedOver(Odd::Between)
            }
            other => other,
        }
    }
}

/// Why an input cannot be opened or read.
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

/// The kind of an input; each has a thread that waits for it.
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
    /// A coil that a PLC writes over Modbus.
    Modbus {
        /// Longest time from the sensor's signal to the write's arrival; `None` where nobody states
        /// it.
        max_jitter: Option<Micros>,
    },
}

impl TriggerSpec {
    /// Whether a part's moment is its word's arrival, and nobody states how far that may be from
    /// the sensor's signal.
    pub fn lacks_jitter(&self) -> bool {
        self.jitter() == Some(None)
    }

    /// How far a part's moment may be from the sensor's signal, where that is stated.
    pub fn max_jitter(&self) -> Option<Micros> {
        self.jitter().flatten()
    }

    /// `None` where a part's moment is no word's arrival.
    const fn jitter(&self) -> Option<Option<Micros>> {
        match self {
            Self::Stdin { max_jitter } | Self::Socket(SocketSpec { max_jitter, .. }) | Self::Modbus { max_jitter } => {
                Some(*max_jitter)
            }
            Self::Gpio(_) | Self::Period(_) => None,
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
            Self::Modbus { .. } => f.write_str("coil 3 of [modbus]"),
        }
    }
}

/// An input that is waited for.
pub trait Trigger: Send {
    /// What happened next; nothing if nothing does within `timeout`.
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError>;

    /// Another run of this process begins at `begin`: what has come by now came while nobody sorted.
    /// [`Trigger::next`] gives it as [`Odd::Between`]. Waits for nothing.
    fn begin_anew(&mut self, begin: Instant) -> Result<(), TriggerError>;

    /// The run is over: the next of what the input took in and did not give yet, and of what no
    /// later run would find.
    fn left(&mut self) -> Option<Input> {
        None
    }

    /// The run opens no part any more: where whoever triggers hears an answer, it is a refusal from
    /// now on, and what was taken before can still be read. `false`: nobody hears one, and nothing
    /// changes.
    fn refuse(&mut self) -> bool {
        false
    }
}

/// Opens the input that `spec` names. `posts`: where a PLC's triggers will be posted.
pub fn open(spec: &TriggerSpec, clock: &Arc<dyn Clock>, posts: &Posts) -> Result<Box<dyn Trigger>, TriggerError> {
    Ok(match spec {
        TriggerSpec::Gpio(inputs) => Box::new(gpio::GpioTrigger::open(inputs, &**clock)?),
        TriggerSpec::Period(period) => Box::new(period::Period::new(*period, clock.clone())),
        TriggerSpec::Stdin { max_jitter } => Box::new(stdin::Stdin::new(*max_jitter, clock.clone())),
        TriggerSpec::Socket(spec) => Box::new(socket::Socket::open(spec, clock.clone())?),
        TriggerSpec::Modbus { .. } => Box::new(posted::Posted(posts.clone())),
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

    /// Their pulses were given to other parts: the trigger's moment was the run's begin.
    #[test]
    fn of_what_came_before_another_run_began_only_the_belts_position_counts() {
        let at = |us| Instant::from_micros(us);
        let moved = |us| Input::Position(Moment { at: at(us), position: 7 });
        let kinds =
            |us| [Input::Trigger { at: at(us), position: Some(3) }, Input::Acknowledge(at(us)), Input::Confirm(at(us))];
        assert_eq!(kinds(4).map(|input| input.of_run(at(5))), [Input::PassedOver(Odd::Between); 3]);
        assert_eq!(kinds(5).map(|input| input.of_run(at(5))), kinds(5));
        assert_eq!([moved(4).of_run(at(5)), Input::Lost(2).of_run(at(5))], [moved(4), Input::Lost(2)]);
    }

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
