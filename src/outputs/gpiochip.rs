//! A line of a GPIO chip, through the character device.
//!
//! Knows no register.

use super::{Output, OutputError, Polarity, State};
use crate::gpio::OutputLine;

pub(super) struct Gpiochip {
    name: String,
    line: OutputLine,
}

impl Gpiochip {
    pub(super) fn open(name: &str, chip: &str, line: &str, polarity: Polarity, first: State) -> Result<Self, String> {
        let line = OutputLine::open(chip, line, polarity == Polarity::ActiveLow, first == State::Active)?;
        Ok(Self { name: name.into(), line })
    }
}

impl Output for Gpiochip {
    fn apply(&mut self, state: State) -> Result<(), OutputError> {
        self.line.set(state == State::Active).map_err(|why| OutputError { output: self.name.clone(), why })
    }
}
