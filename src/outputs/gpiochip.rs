//! A line of a GPIO chip, through the character device: works on any board.

use super::{Output, Polarity, State, WriteError};
use crate::gpio::OutputLine;

pub(super) struct Gpiochip(OutputLine);

impl Gpiochip {
    pub(super) fn open(chip: &str, line: &str, polarity: Polarity, first: State) -> Result<Self, String> {
        let line = OutputLine::open(chip, line, polarity == Polarity::ActiveLow, first == State::Active)?;
        Ok(Self(line))
    }
}

impl Output for Gpiochip {
    fn apply(&mut self, state: State) -> Result<(), WriteError> {
        let (line, set) = (self.0.offset(), self.0.set(state == State::Active));
        set.map_err(|code| WriteError::System { line, code })
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self(self.0.clone()))
    }
}
