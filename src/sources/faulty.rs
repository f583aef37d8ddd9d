//! Wraps any source and adds seeded faults: lost, frozen, truncated, damaged, late and reformatted
//! frames, and a source that dies. For tests, and for drills on the real line.

use super::{Automatic, FrameBuffer, Limits, NoFrame, Pacing, Source, SourceError, SourceSpec};
use crate::frame::{Layout, TimedBy};
use crate::random::Random;
use crate::time::{Clock, Micros};
use std::sync::Arc;
use std::time::Duration;

/// `faulty(SOURCE)?seed=1&after=0&drop=0.01&freeze=0.01&truncate=0.01&corrupt=0.01&delay=0.01&format=0.01&gone=0.01&delay_ms=2000`.
///
/// Each rate is the share of frames with that fault; the first `after` frames have none. A frozen
/// source repeats one frame.
pub(super) struct FaultySource {
    inner: Box<dyn Source>,
    clock: Arc<dyn Clock>,
    random: Random,
    /// In the order of the options' names above.
    rates: [f64; 7],
    after: u64,
    frames: u64,
    delay: Micros,
    frozen: Option<Vec<u8>>,
    gone: bool,
}

const RATES: [&str; 7] = ["drop", "freeze", "truncate", "corrupt", "delay", "format", "gone"];

impl FaultySource {
    pub(super) fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>, limits: Limits) -> Result<Self, SourceError> {
        let known: Vec<&str> = ["seed", "after", "delay_ms"].into_iter().chain(RATES).collect();
        spec.allow(&known)?;
        let inner = super::open(&spec.path().parse()?, clock, limits)?;
        let mut rates = [0.0; 7];
        for (rate, name) in rates.iter_mut().zip(RATES) {
            *rate = spec.number(name, 0.0, 0.0..=1.0)?;
        }
        Ok(Self {
            inner,
            clock: clock.clone(),
            random: Random::new(spec.number("seed", 1, 0..=u64::MAX)?, 0xfa17),
            rates,
            after: spec.number("after", 0, 0..=u64::MAX)?,
            frames: 0,
            delay: Micros(spec.number("delay_ms", 2000, 0..=600_000)? * 1000),
            frozen: None,
            gone: false,
        })
    }
}

impl Source for FaultySource {
    fn next(&mut self, frame: &mut FrameBuffer, timeout: Duration) -> Result<(), NoFrame> {
        if self.gone {
            return Err(NoFrame::Gone("a drill took it away".into()));
        }
        self.inner.next(frame, timeout)?;
        self.frames += 1;
        if self.frames <= self.after {
            return Ok(());
        }
        let [drop, freeze, truncate, corrupt, delay, format, gone] =
            self.rates.map(|rate| ((self.random.next() >> 11) as f64) < rate * (1u64 << 53) as f64);
        if drop {
            // A lost frame is never reported: the line must notice its absence.
            self.clock.wait_until(self.clock.now().plus(Micros(timeout.as_micros() as u64)));
            return Err(NoFrame::Timeout);
        }
        if freeze && self.frozen.is_none() {
            self.frozen = Some(frame.bytes.clone());
        }
        if let Some(bytes) = &self.frozen {
            frame.bytes.clone_from(bytes);
        }
        if truncate {
            let needed = frame.bytes.len();
            return Err(NoFrame::Truncated { found: needed / 3, needed });
        }
        if corrupt {
            return Err(NoFrame::Corrupt("a drill damaged it".into()));
        }
        if delay {
            self.clock.wait_until(self.clock.now().plus(self.delay));
        }
        if format {
            frame.layout.width /= 2;
        }
        if gone {
            self.gone = true;
            return Err(NoFrame::Gone("a drill took it away".into()));
        }
        Ok(())
    }

    /// The source comes back; so does a frozen one.
    fn reopen(&mut self) -> Result<(), SourceError> {
        self.gone = false;
        self.frozen = None;
        self.inner.reopen()
    }

    fn remarks(&self) -> Vec<String> {
        self.inner.remarks()
    }

    fn pacing(&self) -> Pacing {
        self.inner.pacing()
    }

    fn timed_by(&self) -> TimedBy {
        self.inner.timed_by()
    }

    fn start(&self) -> Option<Micros> {
        self.inner.start()
    }

    fn automatics(&self) -> Vec<Automatic> {
        self.inner.automatics()
    }

    fn layout(&self) -> Option<Layout> {
        self.inner.layout()
    }

    fn interval(&self) -> Micros {
        self.inner.interval()
    }

    fn last_words(&self) -> Option<String> {
        self.inner.last_words()
    }

    fn is_broken(&self) -> bool {
        self.inner.is_broken()
    }

    fn has_barrier(&self) -> bool {
        self.inner.has_barrier()
    }

    fn in_view(&self) -> Option<Micros> {
        self.inner.in_view()
    }

    fn files(&self) -> Option<Arc<[std::path::PathBuf]>> {
        self.inner.files()
    }

    fn allocates(&self) -> bool {
        self.inner.allocates()
    }
}
