//! A trigger without a sensor: a part in every period, counted from the start so that it does not
//! drift.

use super::{Input, Trigger, TriggerError};
use crate::time::{Clock, Instant, Micros, Millis};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Period {
    clock: Arc<dyn Clock>,
    period: Micros,
    next: Instant,
}

impl Period {
    pub(super) fn new(period: Millis, clock: Arc<dyn Clock>) -> Self {
        let period = period.micros();
        Self { next: clock.now().plus(period), clock, period }
    }
}

impl Trigger for Period {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
        let end = self.clock.now().plus(Micros(timeout.as_micros() as u64));
        self.clock.wait_until(self.next.min(end));
        if self.clock.now() < self.next {
            return Ok(None);
        }
        let at = self.next;
        self.next = at.plus(self.period);
        Ok(Some(Input::Trigger { at, position: None }))
    }

    /// The first period begins with the run.
    fn begin_anew(&mut self, begin: Instant) -> Result<(), TriggerError> {
        self.next = begin.plus(self.period);
        Ok(())
    }
}
