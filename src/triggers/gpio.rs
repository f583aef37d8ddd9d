//! Input lines of one GPIO chip: the trigger, an encoder, a button to acknowledge, a sensor behind
//! the gate.
//!
//! They are taken together: the kernel keeps their edges in order, so the belt's position at a
//! trigger is exact.

use super::{Input, Trigger, TriggerError};
use crate::gpio::{self, InputLine, InputLines};
use crate::line::{Channel, Encoder, Moment};
use crate::time::{Clock, Instant};
use std::time::Duration;

/// What an input line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A part passes.
    Trigger,
    /// The encoder's channel A.
    EncoderA,
    /// The encoder's channel B.
    EncoderB,
    /// A person acknowledges.
    Acknowledge,
    /// A part is behind the gate.
    Confirm,
}

/// Input lines of one chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpioInputs {
    /// The chip: label, path, or `header`.
    pub chip: String,
    /// Its lines, each role at most once.
    pub lines: Vec<(Role, InputLine)>,
}

impl std::fmt::Display for GpioInputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<&str> = self.lines.iter().map(|(_, l)| l.line.as_str()).collect();
        write!(f, "gpio {} line {}", self.chip, lines.join(", "))
    }
}

/// The table of device.toml that a problem belongs to.
fn table(inputs: &GpioInputs) -> &'static str {
    match inputs.lines.first() {
        Some((Role::EncoderA | Role::EncoderB, _)) => "encoder",
        Some((Role::Acknowledge, _)) => "acknowledge",
        Some((Role::Confirm, _)) => "confirm",
        _ => "trigger",
    }
}

pub(super) struct GpioTrigger {
    lines: InputLines,
    roles: Vec<Role>,
    encoder: Option<Encoder>,
    /// Edges until then are in the levels that the encoder begins with, or are not.
    opened: Instant,
    lost: u32,
    table: &'static str,
    /// When the run began, if it is not the process's first.
    begin: Instant,
}

impl GpioTrigger {
    pub(super) fn open(inputs: &GpioInputs, clock: &dyn Clock) -> Result<Self, TriggerError> {
        let error = |why| TriggerError { input: table(inputs), why };
        let settings: Vec<InputLine> = inputs.lines.iter().map(|(_, l)| l.clone()).collect();
        let lines = InputLines::open(&inputs.chip, &settings).map_err(error)?;
        let place = |role| inputs.lines.iter().position(|(r, _)| *r == role);
        let level = |role| place(role).map_or(Ok(false), |i| lines.is_active(i));
        let encoder = match place(Role::EncoderA) {
            Some(_) => {
                let levels = [level(Role::EncoderA).map_err(error)?, level(Role::EncoderB).map_err(error)?];
                Some(Encoder::new(place(Role::EncoderB).is_some(), levels))
            }
            None => None,
        };
        let roles = inputs.lines.iter().map(|(role, _)| *role).collect();
        Ok(Self { lines, roles, encoder, opened: clock.now(), lost: 0, table: table(inputs), begin: Instant::default() })
    }

    /// Edges of the encoder that must have been lost.
    fn errors(&self) -> u64 {
        self.encoder.as_ref().map_or(0, Encoder::errors)
    }
}

impl Trigger for GpioTrigger {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
        if self.lost > 0 {
            return Ok(Some(Input::Lost(std::mem::take(&mut self.lost))));
        }
        let edge = self.lines.next(timeout).map_err(|why| TriggerError { input: self.table, why })?;
        let Some(edge) = edge else { return Ok(None) };
        self.lost = edge.lost;
        let (position, errors) = (self.encoder.as_ref().map(Encoder::position), self.errors());
        let opened = self.opened;
        let moved = |encoder: &mut Option<Encoder>, channel| {
            if edge.at <= opened {
                encoder.iter_mut().for_each(|e| e.sync(channel, edge.active));
                return None;
            }
            let moved = encoder.as_mut().map(|e| e.edge(channel, edge.active)).filter(|p| Some(*p) != position);
            moved.map(|position| Input::Position(Moment { at: edge.at, position }))
        };
        let input = match self.roles[edge.line] {
            Role::Trigger => Some(Input::Trigger { at: edge.at, position }),
            Role::Acknowledge => Some(Input::Acknowledge(edge.at)),
            Role::Confirm => Some(Input::Confirm(edge.at)),
            Role::EncoderA => moved(&mut self.encoder, Channel::A),
            Role::EncoderB => moved(&mut self.encoder, Channel::B),
        };
        // Two edges to the same level: one between them was lost, and the position is not known.
        self.lost = self.lost.saturating_add(self.errors().saturating_sub(errors) as u32);
        Ok(input.map(|input| input.of_run(self.begin)))
    }

    /// The kernel says of each edge when it came.
    fn begin_anew(&mut self, begin: Instant) -> Result<(), TriggerError> {
        self.begin = begin;
        Ok(())
    }

    fn left(&mut self) -> Option<Input> {
        self.next(Duration::ZERO).ok().flatten()
    }
}

pub(super) fn probe(inputs: &GpioInputs) -> Result<String, TriggerError> {
    let places: Result<Vec<String>, String> = inputs.lines.iter().map(|(_, l)| gpio::probe(&inputs.chip, &l.line)).collect();
    places.map(|p| p.join(", ")).map_err(|why| TriggerError { input: table(inputs), why })
}
