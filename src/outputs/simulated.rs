//! A line that is nowhere: the supervisor's edge events are its timeline.
//!
//! Knows nothing; it cannot fail.

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
