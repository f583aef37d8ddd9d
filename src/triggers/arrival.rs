//! When a word came: the moment at which it could be read, and whether that is near enough to the
//! truth.
//!
//! A word may have waited: this process was stopped, or was busy with the words before it. So the
//! longest time that it can have waited is watched: since the input was last seen empty. Beyond the
//! stated `max_jitter_ms` its part cannot be followed.

use crate::readable::is_readable;
use crate::time::{Clock, Instant, Micros};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Something can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since when, at the latest.
    pub at: Instant,
    /// Whether it came at most the stated jitter before that.
    pub is_known: bool,
}

/// Watches one input.
pub struct Arrivals {
    clock: Arc<dyn Clock>,
    max_jitter: Option<Micros>,
    /// Nothing waited then.
    empty_at: Instant,
}

impl Arrivals {
    /// Nothing waits now. `max_jitter`: `None` where a word's moment does not matter.
    pub fn new(clock: Arc<dyn Clock>, max_jitter: Option<Micros>) -> Self {
        let empty_at = clock.now();
        Self { clock, max_jitter, empty_at }
    }

    /// Waits until something can be read, at most `timeout`; less where a stall would not be
    /// noticed otherwise.
    pub fn wait(&mut self, fd: BorrowedFd<'_>, timeout: Duration) -> std::io::Result<Option<Arrival>> {
        let begin = self.clock.now();
        if !is_readable(fd, Duration::ZERO)? {
            self.empty_at = begin;
            let half = self.max_jitter.map_or(Duration::MAX, |jitter| (jitter.duration() / 2).max(Duration::from_millis(1)));
            if !is_readable(fd, timeout.min(half))? {
                return Ok(None);
            }
        }
        let at = self.clock.now();
        let is_known = self.max_jitter.is_none_or(|jitter| at.since(self.empty_at) <= jitter);
        Ok(Some(Arrival { at, is_known }))
    }

    /// Another run began at `begin`, and what had come by then was read off.
    pub(super) fn begin_anew(&mut self, begin: Instant) {
        self.empty_at = begin;
    }

    /// `found` bytes were read at `at`, of at most `room`: unless they fill that, all that could be
    /// read was.
    pub fn read(&mut self, found: usize, room: usize, at: Instant) {
        if found < room {
            self.empty_at = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    struct SinceStart(std::time::Instant);

    impl Clock for SinceStart {
        fn now(&self) -> Instant {
            Instant::from_micros(self.0.elapsed().as_micros() as u64)
        }

        fn wait_until(&self, at: Instant) {
            std::thread::sleep(at.since(self.now()).duration());
        }
    }

    /// A clock that is late by so much from its second look on: the process stood still between the
    /// look at the input and the stamp.
    struct Stalls(std::sync::atomic::AtomicU64, u64);

    impl Clock for Stalls {
        fn now(&self) -> Instant {
            let looks = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Instant::from_micros(if looks > 1 { self.1 } else { 0 })
        }

        fn wait_until(&self, _: Instant) {}
    }

    #[test]
    fn a_word_is_known_only_as_well_as_the_time_since_the_input_was_seen_empty_says() {
        for (stall, is_known) in [(20_000, true), (20_001, false)] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let mut arrivals = Arrivals::new(Arc::new(Stalls(Default::default(), stall)), Some(Micros(20_000)));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(5));
                    writer.write_all(b"a").unwrap();
                });
                let begin = std::time::Instant::now();
                let came = loop {
                    // The first look finds the input empty, and so do those until the writer has
                    // come.
                    if let Some(arrival) = arrivals.wait(reader.as_fd(), Duration::from_secs(9)).unwrap() {
                        break arrival;
                    }
                    assert!(begin.elapsed().as_secs() < 9);
                    arrivals.clock = Arc::new(Stalls(1.into(), stall));
                };
                assert_eq!((came.at.as_micros(), came.is_known), (stall, is_known));
            });
        }
    }

    /// Words behind the first chunk had waited as long as those in it.
    #[test]
    fn an_input_counts_as_empty_only_where_less_was_read_than_there_was_room_for() {
        let at = Instant::from_micros(7);
        for (found, empty_at) in [(63, 7), (64, 0)] {
            let clock = Arc::new(Stalls(Default::default(), 0));
            let mut arrivals = Arrivals::new(clock, None);
            arrivals.read(found, 64, at);
            assert_eq!(arrivals.empty_at.as_micros(), empty_at, "{found} of 64");
        }
    }

    /// A word that waited while the process was stopped was stamped when it was read: its part was
    /// sorted so much too late.
    #[test]
    fn a_word_that_waited_longer_than_the_jitter_is_not_known_to_it() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let clock = Arc::new(SinceStart(std::time::Instant::now()));
        let mut arrivals = Arrivals::new(clock.clone(), Some(Micros(400_000)));
        let mut bytes = [0; 64];
        let mut wait = |timeout| arrivals.wait(reader.as_fd(), Duration::from_millis(timeout)).unwrap();
        assert_eq!(wait(1), None);
        writer.write_all(b"a").unwrap();
        assert!(wait(50).unwrap().is_known, "it was read at once");
        std::thread::sleep(Duration::from_millis(500));
        assert!(!wait(50).unwrap().is_known, "it may have come at any time of half a second");
        reader.read_exact(&mut bytes[..1]).unwrap();
        assert_eq!(arrivals.wait(reader.as_fd(), Duration::from_millis(1)).unwrap(), None);
        std::thread::sleep(Duration::from_millis(500));
        writer.write_all(b"b").unwrap();
        let late = arrivals.wait(reader.as_fd(), Duration::from_millis(50)).unwrap().unwrap();
        assert!(!late.is_known, "nobody looked while it may have come");
        let mut anything = Arrivals::new(clock, None);
        std::thread::sleep(Duration::from_millis(20));
        assert!(anything.wait(reader.as_fd(), Duration::ZERO).unwrap().unwrap().is_known, "no jitter is stated");
    }
}
