//! The built-in conveyor as a live camera with a light barrier: no hardware needed.
//!
//! Each frame carries the true part beside its image; only the summary reads that.

use super::{FrameBuffer, NoFrame, Pacing, Source, SourceError, SourceSpec};
use crate::frame::{CapturedAt, Colour, Layout, PixelFormat, TimedBy};
use crate::scene::{Conditions, Conveyor, HEIGHT, WIDTH};
use crate::time::{Clock, Instant, Micros};
use std::sync::Arc;
use std::time::Duration;

/// `conveyor?seed=7&speed=600&fps=30&beyond=0`: belt speed in pixels a second.
pub(super) struct ConveyorSource {
    clock: Arc<dyn Clock>,
    conveyor: Conveyor,
    start: Instant,
    interval: Micros,
    frame: u64,
}

impl ConveyorSource {
    pub(super) fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>) -> Result<Self, SourceError> {
        spec.allow(&["seed", "speed", "fps", "beyond"])?;
        if !spec.path().is_empty() {
            return Err(spec.error("it takes no path; expected conveyor?key=value"));
        }
        let fps: u64 = spec.number("fps", 30, 1..=1000)?;
        let beyond = spec.number("beyond", 0, 0..=1)? == 1;
        let conveyor = Conveyor {
            seed: spec.number("seed", 7, 0..=u64::MAX)?,
            speed: spec.number("speed", 600, 1..=10_000)?,
            conditions: if beyond { Conditions::BEYOND } else { Conditions::TRAINING },
        };
        Ok(Self { clock: clock.clone(), conveyor, start: clock.now(), interval: Micros(1_000_000 / fps), frame: 0 })
    }
}

fn layout() -> Layout {
    Layout::packed(PixelFormat::Rgb8, Colour::default(), WIDTH as u32, HEIGHT as u32)
}

impl Source for ConveyorSource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        let now = self.clock.now();
        // Like a real camera, it drops frames that nobody took.
        let due = now.since(self.start).0 / self.interval.0;
        self.frame = self.frame.max(due);
        let elapsed = Micros(self.frame * self.interval.0);
        let at = self.start.plus(elapsed);
        if u128::from(at.since(now).0) > timeout.as_micros() {
            self.clock.wait_until(now.plus(Micros(timeout.as_micros() as u64)));
            return Err(NoFrame::Timeout);
        }
        self.clock.wait_until(at);
        frame.layout = layout();
        frame.bytes.resize(WIDTH * HEIGHT * 3, 0);
        self.conveyor.render(elapsed, &mut frame.bytes);
        frame.sequence = self.frame;
        frame.captured_at = CapturedAt::Exposure { at, uncertainty: Micros(0), by: TimedBy::Shown };
        frame.crossing = self.conveyor.last_crossing(self.start, elapsed);
        self.frame += 1;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Live
    }

    fn timed_by(&self) -> TimedBy {
        TimedBy::Shown
    }

    fn layout(&self) -> Option<Layout> {
        Some(layout())
    }

    fn interval(&self) -> Micros {
        self.interval
    }

    fn has_barrier(&self) -> bool {
        true
    }

    fn in_view(&self) -> Option<Micros> {
        Some(self.conveyor.in_view())
    }
}
