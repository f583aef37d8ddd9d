//! Which metadata belongs to which frame, judged by what both say and never by their order alone.
//!
//! The camera program writes a frame, then its metadata with the sensor's time stamp. Either may be
//! late, and a line may be lost: counting them off against each other would shift every later stamp
//! by a frame. What stays the same is the *latency*, the time from a frame's exposure to the
//! arrival of its first byte. It is learnt from frames that have exactly one stamp to choose from,
//! and a stamp belongs to a frame only if it agrees with it by less than half a frame interval.
//! Whatever else happens, the frame's time is unknown.

use crate::time::{Instant, Micros};
use heapless::Deque;

/// A stamp that is older than this when its frame arrives is damage.
const LONGEST_LATENCY: Micros = Micros(1_000_000);
/// Frames in a row that must agree on the latency before it is believed.
const CONFIRMED: u8 = 2;
/// Frames in a row without a stamp that fits, after which the latency is learnt anew.
const GIVEN_UP: u8 = 8;

/// What is known of a frame's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paired {
    /// Its exposure began then.
    Known(Instant),
    /// Its stamp may still come.
    Wait,
    /// No stamp is certainly its own; it may have been exposed about then, which orders frames and
    /// proves nothing.
    Unknown(Option<Instant>),
}

/// Pairs stamps with frames. Pure: time is an argument.
#[derive(Debug)]
pub(super) struct Pairing {
    interval: Micros,
    latency: Option<Micros>,
    agreed: u8,
    missed: u8,
    stamps: Deque<Instant, 16>,
    /// The last stamp that was given to a frame; time does not run backwards.
    last: Instant,
}

impl Pairing {
    /// `interval`: from one frame to the next, as the program was told.
    pub(super) fn new(interval: Micros) -> Self {
        Self { interval, latency: None, agreed: 0, missed: 0, stamps: Deque::new(), last: Instant::default() }
    }

    /// From one frame to the next.
    pub(super) fn interval(&self) -> Micros {
        self.interval
    }

    /// The program says how long frames take now: in the dark, longer than it was told.
    pub(super) fn set_interval(&mut self, interval: Micros) {
        if (1_000..=10_000_000).contains(&interval.0) {
            self.interval = interval;
        }
    }

    /// A frame's sensor time.
    pub(super) fn stamp(&mut self, at: Instant) {
        if self.stamps.is_full() {
            self.stamps.pop_front();
        }
        let _ = self.stamps.push_back(at);
    }

    /// The time of the frame whose first byte arrived at `arrived`. `sharp`: that was when it
    /// arrived, not only when it was found. `closed`: no more stamps can come for it.
    pub(super) fn pair(&mut self, arrived: Instant, sharp: bool, closed: bool) -> Paired {
        let last = self.last;
        // A stamp from after its frame's arrival is the next frame's, or damage that goes with the
        // oldest.
        let possible = |s: &Instant| *s > last && *s < arrived && arrived.since(*s) <= LONGEST_LATENCY;
        let mut candidates = self.stamps.iter().copied().filter(possible);
        let (first, more) = (candidates.next(), candidates.next().is_some());
        let only = first.filter(|_| !more && sharp);
        let found = arrived.since(only.unwrap_or(arrived));
        let near = |a: Micros, b: Micros| a.0.abs_diff(b.0);
        if self.agreed >= CONFIRMED {
            let expected = self.latency.unwrap_or_default();
            if let Some(stamp) = only
                && near(found, expected) < self.interval.0 / 2
            {
                // Follows a latency that changes slowly, as it does with the exposure time.
                self.latency = Some(Micros((7 * expected.0 + found.0) / 8));
                self.missed = 0;
                return self.give(stamp, arrived);
            }
            if !closed && only.is_none() && !more {
                return Paired::Wait;
            }
            let about = Some(arrived.minus(expected));
            self.missed += 1;
            if self.missed >= GIVEN_UP {
                (self.latency, self.agreed, self.missed) = (None, 0, 0);
            }
            self.forget(arrived);
            return Paired::Unknown(about);
        }
        // Until the latency is known, a second stamp may come that fits as well.
        if !closed {
            return Paired::Wait;
        }
        let Some(stamp) = only else {
            (self.latency, self.agreed) = (None, 0);
            self.forget(arrived);
            return Paired::Unknown(None);
        };
        match self.latency {
            Some(known) if near(found, known) < self.interval.0 / 4 => self.agreed += 1,
            _ => self.agreed = 0,
        }
        self.latency = Some(found);
        let paired = self.give(stamp, arrived);
        if self.agreed >= CONFIRMED { paired } else { Paired::Unknown(Some(stamp)) }
    }

    fn give(&mut self, stamp: Instant, arrived: Instant) -> Paired {
        self.last = stamp;
        self.forget(arrived);
        Paired::Known(stamp)
    }

    /// Stamps from before a frame's arrival are that frame's or an older one's.
    fn forget(&mut self, arrived: Instant) {
        // Those from far in the future will never be anybody's.
        let horizon = arrived.plus(LONGEST_LATENCY);
        self.stamps.retain(|s| *s >= arrived && *s < horizon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const D: u64 = 33_333;

    fn at(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    /// Plays frames at `n * D` exposure with a latency and a delay of the metadata; returns what
    /// each frame got.
    struct Play {
        pairing: Pairing,
        now: u64,
    }

    impl Play {
        fn new() -> Self {
            Self { pairing: Pairing::new(Micros(D)), now: 1_000_000 }
        }

        /// A frame whose metadata comes `late` after it, or never.
        fn frame(&mut self, exposed: u64, latency: u64, late: Option<u64>) -> Paired {
            let arrived = at(exposed + latency);
            let first = self.pairing.pair(arrived, true, false);
            let Paired::Wait = first else { return first };
            if late.is_some_and(|l| l < D) {
                self.pairing.stamp(at(exposed));
                let second = self.pairing.pair(arrived, true, false);
                let Paired::Wait = second else { return second };
            }
            let end = self.pairing.pair(arrived, true, true);
            if late.is_some_and(|l| l >= D) {
                self.pairing.stamp(at(exposed));
            }
            end
        }
    }

    #[test]
    fn stamps_are_the_frames_own_after_three_that_agree() {
        let mut play = Play::new();
        for n in 0..10 {
            let exposed = play.now + n * D;
            let expected = if n < 2 { Paired::Unknown(Some(at(exposed))) } else { Paired::Known(at(exposed)) };
            assert_eq!(play.frame(exposed, 20_000 + 500 * (n % 3), Some(1_000)), expected, "frame {n}");
        }
    }

    /// One line 40 ms late shifted the time of every later frame until the camera was opened again.
    #[test]
    fn a_late_or_lost_line_costs_its_own_frame_and_no_other() {
        for (late, latency) in [(Some(40_000), 20_000), (None, 20_000), (Some(40_000), 60_000), (None, 60_000)] {
            let mut play = Play::new();
            let mut unknown = Vec::new();
            for n in 0..60 {
                let exposed = play.now + n * D;
                match play.frame(exposed, latency, if n == 20 { late } else { Some(1_000) }) {
                    Paired::Known(stamp) => assert_eq!(stamp, at(exposed), "frame {n}"),
                    _ => unknown.push(n),
                }
            }
            assert!(
                unknown.len() <= 4 && unknown.iter().all(|n| [0, 1, 20, 21].contains(n)),
                "{late:?} {latency}: {unknown:?}"
            );
        }
    }

    #[test]
    fn impossible_stamps_are_nobodys() {
        let mut play = Play::new();
        for n in 0..6 {
            play.frame(play.now + n * D, 20_000, Some(0));
        }
        for junk in [0, 5, u64::MAX / 1000, play.now + 3600 * 1_000_000] {
            play.pairing.stamp(at(junk));
        }
        let exposed = play.now + 6 * D;
        assert_eq!(play.frame(exposed, 20_000, Some(0)), Paired::Known(at(exposed)));
    }

    /// Whatever is late, lost, doubled or out of order: a frame gets its own time or none.
    #[test]
    fn no_frame_ever_gets_another_frames_time() {
        let number = |key, default| std::env::var(key).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
        let (seed, count) = (number("TAGPIN_TEST_SEED", 11u64), number("TAGPIN_TEST_CASES", 400u64));
        println!("TAGPIN_TEST_SEED={seed} TAGPIN_TEST_CASES={count}");
        let (mut known, mut frames) = (0u64, 0u64);
        for case in 0..count {
            let mut random = Random::new(seed, case);
            let mut below = |n: u64| random.next() % n;
            let latency = 2_000 + below(90_000);
            let trouble = 4 + below(40);
            let jitter = 1 + below(D / 8);
            let mut play = Play::new();
            let mut held: Vec<(u64, u64)> = Vec::new();
            let mut exposed = play.now;
            for _ in 0..200 {
                exposed += D * (1 + (below(trouble) == 0) as u64 * below(4));
                let arrived = exposed + latency + below(jitter);
                // Stamps that were held back and have come by now.
                held.retain(|(due, stamp)| {
                    *due > arrived || {
                        play.pairing.stamp(at(*stamp));
                        false
                    }
                });
                let sharp = below(trouble) != 0;
                let found = if sharp { arrived } else { arrived + below(3 * D) };
                let late = match below(trouble) {
                    0 => None,
                    1 => Some(below(5 * D)),
                    _ => Some(below(D / 3)),
                };
                let mut got = play.pairing.pair(at(found), sharp, false);
                if let Some(late) = late {
                    if late < D {
                        play.pairing.stamp(at(exposed));
                        if below(trouble) == 0 {
                            play.pairing.stamp(at(exposed));
                        }
                    } else {
                        held.push((arrived + late, exposed));
                    }
                }
                if got == Paired::Wait {
                    got = play.pairing.pair(at(found), sharp, false);
                }
                if got == Paired::Wait {
                    got = play.pairing.pair(at(found), sharp, true);
                }
                frames += 1;
                if let Paired::Known(stamp) = got {
                    assert_eq!(stamp, at(exposed), "case {case}");
                    known += 1;
                }
            }
        }
        println!("{known} of {frames} frames have a known time");
        assert!(known * 3 > frames, "{known} of {frames}");
    }
}
