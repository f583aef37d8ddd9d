//! How long what is on its way is waited for once nothing more can be decided.

use crate::line::Travel;
use crate::settings::{Drive, Mode, OutputSettings, Settings};
use crate::time::{Instant, Micros};

/// How long parts and pulses in flight are given at a run's end. Where a gate, a deadline or the
/// way to the camera goes by the belt, a part takes as long as the belt does: it is waited for
/// until the belt has stood still for [`Patience::stands`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) struct Patience {
    /// The longest time from a part's trigger until all its pulses have ended and it was seen
    /// behind its gate, with half a second to spare; of a gate by the belt, the time from the gate
    /// on.
    pub(in crate::supervisor) by_time: Micros,
    /// How long the belt may stand still; `None` where nothing goes by it.
    pub(in crate::supervisor) stands: Option<Micros>,
}

impl Patience {
    /// A belt that starts and stops with what it feeds moves again sooner than this.
    pub(in crate::supervisor) const STANDS: Micros = Micros(10_000_000);

    /// What a site's outputs and trigger need.
    pub(in crate::supervisor) fn of(settings: &Settings) -> Self {
        const SPARE: u64 = 500_000;
        let way = |o: &OutputSettings| {
            let delay = if let Travel::Time(span) = o.delay { span.0 } else { 0 };
            let width = if let Mode::Pulse(width) = o.mode { width.micros().0 } else { 0 };
            delay + width
        };
        let is_moved = |o: &&OutputSettings| matches!(o.drive, Drive::Calls(_) | Drive::Trigger);
        let delays = settings.outputs.iter().filter(is_moved).map(|o| o.delay);
        let mut ways = delays.chain([settings.part.deadline, settings.part.to_camera]);
        let seen = settings.confirm.map_or(0, |c| c.within.0);
        Self {
            by_time: Micros(settings.outputs.iter().map(way).max().unwrap_or(0) + seen + SPARE),
            stands: ways.any(|way| matches!(way, Travel::Counts(_))).then_some(Self::STANDS),
        }
    }

    /// When what is still in flight is given up, if the run's end was at `end` and the belt moved
    /// last at `moved`.
    pub(in crate::supervisor) fn over(self, end: Instant, moved: Instant) -> Instant {
        self.stands.map_or(end, |stands| end.max(moved).plus(stands)).plus(self.by_time)
    }
}
