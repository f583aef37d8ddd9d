//! A line without hardware: the supervisor's edge events are its timeline. It cannot fail.

use super::{Output, State, WriteError};

pub(super) struct Simulated;

impl Simulated {
    pub(super) fn open() -> Self {
        Self
    }
}

impl Output for Simulated {
    fn apply(&mut self, _: State) -> Result<(), WriteError> {
        Ok(())
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self)
    }
}
