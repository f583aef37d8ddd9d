//! Which metadata belongs to which frame, judged by what both say and never by their order alone.
//!
//! The camera program writes a frame, then its metadata with the sensor's time stamp. Either may be
//! late, and a line may be lost: counting them off against each other would shift every later stamp
//! by a frame. What stays the same is the *latency*, the time from a frame's exposure to the
//! arrival of its first byte. A stamp belongs to a frame if it alone agrees with the latency by
//! less than half a frame interval.
//!
//! The latency is taken only where no other frame can be meant: when every frame so far has its
//! line, the newest is the last frame's. Lines that all come a frame late would agree with one
//! another as well; they are *owed* when the next frame begins, and teach nothing. So would the
//! lines of the frame before, once a frame was lost whose line was not: from then on lines are a
//! *surplus*, and counting them teaches nothing until the program is started again. Whatever else
//! happens, the frame's time is unknown. That a frame's line is written behind it, as rpicam-vid
//! does, is taken for granted: lines that all come a frame early, or from the program's first frame
//! on a frame late, look the same.

use crate::sources::pipe::FirstByte;
use crate::time::{Instant, Micros};
use heapless::HistoryBuf;

/// A stamp that is older than this when its frame arrives is damage.
const LONGEST_LATENCY: Micros = Micros(1_000_000);
/// Further frames that must agree on the latency before it is believed.
const CONFIRMED: u8 = 2;
/// Eighths of a frame interval within which an arrival must be known to learn the latency from it,
/// and to use it: half of both, and an eighth by which latencies differ, are less than half an
/// interval.
const SHARP: u64 = 2;
const FITS: u64 = 3;
/// How long, and for how many intervals, lines may be owed and no frame's time be known before that
/// is taken to last.
const PATIENCE: (Micros, u64) = (Micros(200_000), 3);

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
    /// None until it is believed.
    latency: Option<Micros>,
    /// What a certain stamp said of the latency last, and how many before it agreed.
    candidate: Option<(Micros, u8)>,
    /// The last stamps; one that comes twice counts once.
    stamps: HistoryBuf<Instant, 16>,
    /// Frames that have no line yet; negative if more lines came than frames.
    owed: i64,
    /// More lines than frames had come as this frame began: the newest may be of one that was lost.
    is_early: bool,
    /// So it was while no frame was under way, which no line of a later frame explains; or a line
    /// was damage.
    has_surplus: bool,
    /// Since when lines are owed and no frame's time is known, although it could be.
    unknown_since: Option<Instant>,
    /// The last stamp that was given to a frame; time does not run backwards.
    last: Instant,
}

impl Pairing {
    /// `interval`: from one frame to the next, as the program was told.
    pub(super) fn new(interval: Micros) -> Self {
        Self {
            interval,
            latency: None,
            candidate: None,
            stamps: HistoryBuf::new(),
            owed: 0,
            is_early: false,
            has_surplus: false,
            unknown_since: None,
            last: Instant::default(),
        }
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

    /// A frame's sensor time. One that lies far from the others is damage, and may stand for a line
    /// or beside it: counting lines teaches nothing from then on.
    pub(super) fn stamp(&mut self, at: Instant) {
        let far = |other: &Instant| other.as_micros().abs_diff(at.as_micros()) > 2 * LONGEST_LATENCY.0;
        self.has_surplus |= self.stamps.last().is_some_and(far);
        if !self.stamps.as_slice().contains(&at) {
            self.stamps.write(at);
            self.owed -= 1;
        }
    }

    /// All lines that had come were taken, and after that no further frame had begun. `unpaired`:
    /// frames that have begun and were not paired.
    pub(super) fn rests(&mut self, unpaired: i64) {
        self.has_surplus |= self.owed + unpaired < 0;
    }

    /// A frame begins, and all lines that had come before it was looked for were taken.
    pub(super) fn begins(&mut self) {
        self.is_early = self.owed < 0;
    }

    /// The time of the frame whose first byte came as `first` says. `closed`: the next frame has
    /// begun, so that a stamp may be its own, or there is no more time for one to come.
    pub(super) fn pair(&mut self, first: FirstByte, closed: bool) -> Paired {
        let paired = self.judge(first, closed);
        self.owed += (paired != Paired::Wait) as i64;
        match paired {
            Paired::Known(stamp) => (self.last, self.unknown_since) = (stamp, None),
            Paired::Unknown(_) if !self.is_within(first, FITS) || self.candidate.is_some() => self.unknown_since = None,
            // Lines come, and are not these frames' own, or it cannot be said.
            Paired::Unknown(_)
                if (self.owed > 0 || self.has_surplus || first.in_step && self.latency.is_some())
                    && !self.stamps.is_empty() =>
            {
                self.unknown_since.get_or_insert(first.found);
            }
            Paired::Unknown(_) | Paired::Wait => {}
        }
        paired
    }

    fn judge(&mut self, first: FirstByte, closed: bool) -> Paired {
        let (arrived, sharp) = (first.middle(), first.in_step && self.is_within(first, SHARP));
        if let Some(stamp) = self.fitting(first).filter(|_| self.is_within(first, FITS)) {
            if sharp {
                // Follows a latency that changes slowly, as it does with the exposure time.
                self.latency = self.latency.map(|l| Micros((7 * l.0 + arrived.since(stamp).0) / 8));
            }
            self.candidate = None;
            return Paired::Known(stamp);
        }
        if !closed && self.is_within(first, FITS) {
            let certain = self.certain(first).filter(|_| sharp);
            return certain.map_or(Paired::Wait, |stamp| self.learn(stamp, arrived));
        }
        // A frame that came together with its line says nothing against what others agreed on.
        self.candidate = self.candidate.filter(|_| self.is_early && !self.has_surplus);
        Paired::Unknown(self.latency.map(|l| arrived.minus(l)))
    }

    /// Whether its arrival is known within this number of eighths of a frame interval.
    fn is_within(&self, first: FirstByte, eighths: u64) -> bool {
        first.found.since(first.since).0 < self.interval.0 / 8 * eighths
    }

    /// Whether stamps come, but it can no longer be said whose they are, and will not be until the
    /// program is started again.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        let (least, intervals) = PATIENCE;
        let patience = least.0.max(intervals * self.interval.0);
        // Without a latency nothing will say whose a line is once there are too many.
        let is_hopeless = self.has_surplus && self.latency.is_none();
        self.unknown_since.is_some_and(|since| is_hopeless || now.since(since).0 >= patience)
    }

    /// Stamps that a frame may have. One from after its arrival is the next frame's, or damage.
    fn possible(&self, first: FirstByte) -> impl Iterator<Item = Instant> + '_ {
        let possible = move |s: &Instant| *s > self.last && *s < first.found && first.found.since(*s) <= LONGEST_LATENCY;
        self.stamps.as_slice().iter().copied().filter(possible)
    }

    /// The one stamp that agrees with the latency.
    fn fitting(&self, first: FirstByte) -> Option<Instant> {
        let (expected, middle) = (self.latency?, first.middle().as_micros());
        let near = |s: &Instant| s.plus(expected).as_micros().abs_diff(middle) < self.interval.0 / 2;
        let mut fitting = self.possible(first).filter(near);
        fitting.next().filter(|_| fitting.next().is_none() && first.in_step)
    }

    /// The stamp that is this frame's because this and every earlier frame has its line. Where a
    /// latency is known and the stamp does not agree with it, frames and lines are out of step.
    fn certain(&self, first: FirstByte) -> Option<Instant> {
        let is_counted = self.owed + 1 == 0 && !self.is_early && !self.has_surplus && self.latency.is_none();
        self.possible(first).max().filter(|_| is_counted)
    }

    /// Takes a certain stamp. It is not used until others have agreed with it: a line of damage may
    /// stand for one that was lost.
    fn learn(&mut self, stamp: Instant, arrived: Instant) -> Paired {
        let found = arrived.since(stamp);
        let agreed = match self.candidate {
            Some((before, agreed)) if found.0.abs_diff(before.0) < self.interval.0 / 4 => agreed + 1,
            _ => 0,
        };
        self.candidate = Some((found, agreed));
        if agreed < CONFIRMED {
            return Paired::Unknown(Some(stamp));
        }
        (self.latency, self.candidate) = (Some(found), None);
        Paired::Known(stamp)
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

    /// A first byte that was found as it came, or that may have been there for long.
    fn first(us: u64, sharp: bool) -> FirstByte {
        FirstByte { found: at(us), since: if sharp { at(us) } else { at(us - 4 * D) }, in_step: sharp }
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
            let arrived = first(exposed + latency, true);
            self.pairing.rests(0);
            self.pairing.begins();
            let first = self.pairing.pair(arrived, false);
            let Paired::Wait = first else { return first };
            if late.is_some_and(|l| l < D) {
                self.pairing.stamp(at(exposed));
                let second = self.pairing.pair(arrived, false);
                let Paired::Wait = second else { return second };
            }
            let end = self.pairing.pair(arrived, true);
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

    /// One frame was lost whose line was not, and every later frame was given the time of the one
    /// before it as its own; so it was too where that was the program's first.
    #[test]
    fn a_line_without_its_frame_moves_no_other_frames_time() {
        for lost in [0, 1, 2, 20] {
            let mut play = Play::new();
            let mut known = 0;
            for n in 0..60 {
                let exposed = play.now + n * D;
                if n == lost {
                    play.pairing.stamp(at(exposed));
                } else if let Paired::Known(stamp) = play.frame(exposed, 20_000, Some(1_000)) {
                    assert_eq!(stamp, at(exposed), "frame {n}, lost {lost}");
                    known += 1;
                }
                assert!(!play.pairing.is_lost(at(exposed)) || lost < 3 && n > lost, "frame {n}, lost {lost}");
            }
            // Where no latency was known by then, only a new start of the program helps.
            assert_eq!((known, play.pairing.is_lost(at(play.now + 60 * D))), if lost < 3 { (0, true) } else { (57, false) });
        }
    }

    /// A program whose frames and lines get out of step hands each later frame the line of the one
    /// before. Three of these agreed with one another, and were believed.
    #[test]
    fn lines_that_fall_a_frame_behind_are_nobodys_until_the_program_is_started_again() {
        let mut play = Play::new();
        for n in 0..30 {
            let exposed = play.now + n * D;
            let arrived = first(exposed + 20_000, true);
            play.pairing.rests(0);
            play.pairing.begins();
            assert_eq!(play.pairing.pair(arrived, false), Paired::Wait);
            play.pairing.stamp(at(if n < 10 { exposed } else { exposed - D }));
            let got = match play.pairing.pair(arrived, false) {
                Paired::Wait => play.pairing.pair(arrived, true),
                got => got,
            };
            match got {
                Paired::Known(stamp) => assert!(stamp == at(exposed) && n < 10, "frame {n}: {stamp:?}"),
                _ => assert!(!(2..10).contains(&n), "frame {n}"),
            }
            assert_eq!(play.pairing.is_lost(at(exposed + 20_000)), n >= 17, "frame {n}");
        }
    }

    #[test]
    fn of_two_stamps_that_agree_with_the_latency_neither_is_taken() {
        for (apart, is_known) in [(D / 4, false), (D / 2 - 2_000, false), (D / 2 + 2_000, true)] {
            let mut play = Play::new();
            for n in 0..6 {
                play.frame(play.now + n * D, 20_000, Some(0));
            }
            let exposed = play.now + 6 * D;
            [exposed - apart, exposed].into_iter().for_each(|stamp| play.pairing.stamp(at(stamp)));
            let expected = if is_known { Paired::Known(at(exposed)) } else { Paired::Unknown(Some(at(exposed))) };
            assert_eq!(play.pairing.pair(first(exposed + 20_000, true), true), expected, "{apart}");
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
                play.pairing.begins();
                let mut got = play.pairing.pair(first(found, sharp), false);
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
                    got = play.pairing.pair(first(found, sharp), false);
                }
                if got == Paired::Wait {
                    got = play.pairing.pair(first(found, sharp), true);
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
