//! The life of a live source, as one small machine: when to ask it for a frame, when it has
//! stalled, when to open it again.
//!
//! Pure: it opens nothing and reads no clock. Whoever drives a source asks [`Life::next`] what to
//! do, does it, and reports the outcome to [`Life::tell`], which returns whether it is a fault that
//! people must see.
//!
//! *First-frame time-out*: a camera needs time to start, so the first frame has a longer time-out.
//! Once a start was seen, an opening is waited for twice as long as the shortest, and the steady
//! time-out. A start that hangs cannot be told from one that is slower than ever before, so each
//! that is given up doubles the time for the next, up to the first-frame time-out.
//! *Steady time-out*: between frames; never shorter than a few real frame intervals, of which none
//! counts for more than the first-frame time-out allows.
//! *Back-off*: the first reopening after a fault is immediate; further ones within ten seconds wait,
//! twice as long each time, up to a second. The time waited for a first frame in vain is part of
//! it.

use crate::time::{Instant, Micros};

/// The longest wait before a source is opened again.
const LONGEST_BACK_OFF: Micros = Micros(1_000_000);
const FIRST_BACK_OFF: Micros = Micros(100_000);
/// A source that has run for this long is opened again without delay.
const SETTLED: Micros = Micros(10_000_000);
/// After this many broken frames in a row a source is opened again, even if it could go on.
const PATIENCE: u32 = 5;
/// After this many of its intervals without a frame, a source has stalled.
const INTERVALS: u64 = 3;

/// Where a source is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is open and has not given a frame yet.
    Starting,
    /// It gives frames.
    Running,
    /// No frame came in time; it must be opened again.
    Stalled,
    /// Its frames are damaged, or it is gone; it must be opened again.
    Broken,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Ask for a frame, waiting at most this long.
    Ask(Micros),
    /// Wait this long: it is too early to open it again.
    Rest(Micros),
    /// Open it again.
    Reopen,
}

/// The outcome of what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole frame.
    Frame,
    /// No frame within the time given.
    Nothing,
    /// A damaged one; the next may be whole.
    Damaged,
    /// It must be opened again: it is gone, changed its format, or lost where frames begin.
    Lost,
    /// It was opened again.
    Opened,
    /// It could not be opened again.
    Refused,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Life {
    /// The time-outs from the settings.
    steady: Micros,
    first: Micros,
    phase: Phase,
    /// When the phase began or the last frame came.
    since: Instant,
    /// Time from one frame to the next: as it was measured, as soon as it was.
    interval: Micros,
    is_measured: bool,
    last_frame: Option<Instant>,
    /// Shortest start so far.
    start_seen: Option<Micros>,
    /// Openings in a row that were given up because no first frame came in time.
    given_up: u32,
    damaged: u32,
    back_off: Micros,
    opened_at: Instant,
    reopen_at: Instant,
}

impl Life {
    /// A source that was opened at `now`. `steady`, `first`: time-outs between frames and before
    /// the first; `interval`: from one frame to the next as the source states it, 0 if it does not.
    pub fn new(now: Instant, steady: Micros, first: Micros, interval: Micros) -> Self {
        Self {
            steady,
            first,
            phase: Phase::Starting,
            since: now,
            // Whoever states more is not waited for longer than for a first frame.
            interval: Micros(interval.0.min(first.0 / INTERVALS)),
            is_measured: false,
            last_frame: None,
            start_seen: None,
            given_up: 0,
            damaged: 0,
            back_off: Micros(0),
            opened_at: now,
            reopen_at: now,
        }
    }

    /// Its first frame came before `now`, `took` after it was opened: it runs.
    pub fn has_started(&mut self, now: Instant, took: Micros) {
        (self.phase, self.since, self.start_seen) = (Phase::Running, now, Some(took));
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Longest time until its next frame in the present phase.
    pub fn patience(&self) -> Micros {
        let steady = Micros(self.steady.0.max(INTERVALS * self.interval.0));
        let first = self.first.0.max(steady.0);
        match (self.phase, self.start_seen) {
            (Phase::Starting, None) => Micros(first),
            (Phase::Starting, Some(seen)) => {
                let usual = 2 * seen.0 + steady.0;
                Micros(usual.saturating_mul(1 << self.given_up.min(20)).min(first))
            }
            _ => steady,
        }
    }

    /// What to do at `now`.
    pub fn next(&self, now: Instant) -> Do {
        match self.phase {
            // Never no time at all: a frame may be there already.
            Phase::Starting | Phase::Running => Do::Ask(Micros(self.since.plus(self.patience()).since(now).0.max(1_000))),
            Phase::Stalled | Phase::Broken if now < self.reopen_at => Do::Rest(self.reopen_at.since(now)),
            Phase::Stalled | Phase::Broken => Do::Reopen,
        }
    }

    /// Reports an outcome; returns true if it is a fault that must be reported.
    pub fn tell(&mut self, now: Instant, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Frame => {
                if self.phase == Phase::Starting {
                    let took = now.since(self.opened_at);
                    // The shortest: a longer one may have had a stall in it.
                    self.start_seen = Some(self.start_seen.map_or(took, |s| s.min(took)));
                }
                if let Some(last) = self.last_frame.filter(|_| self.phase == Phase::Running) {
                    // Grows at once and shrinks slowly, and one long gap makes it no more than
                    // twice as long.
                    let seen = now.since(last).0.min(2 * self.interval.0.max(10_000));
                    let slower = if self.is_measured { (15 * self.interval.0 + seen) / 16 } else { seen };
                    let interval = if seen > self.interval.0 { seen } else { slower };
                    self.interval = Micros(interval.min(self.first.0 / INTERVALS));
                    self.is_measured = true;
                }
                (self.phase, self.since, self.last_frame) = (Phase::Running, now, Some(now));
                (self.damaged, self.given_up) = (0, 0);
                false
            }
            Outcome::Nothing if now < self.since.plus(self.patience()) => false,
            Outcome::Nothing => {
                let is_start = self.phase == Phase::Starting;
                self.close(now, Phase::Stalled);
                if is_start {
                    self.given_up += 1;
                    let rest = self.reopen_at.since(now);
                    self.reopen_at = self.opened_at.plus(rest).max(now);
                }
                true
            }
            Outcome::Damaged => {
                self.damaged += 1;
                if self.damaged >= PATIENCE {
                    self.close(now, Phase::Broken);
                }
                true
            }
            Outcome::Lost => {
                self.close(now, Phase::Broken);
                true
            }
            Outcome::Opened => {
                (self.phase, self.since, self.opened_at, self.damaged) = (Phase::Starting, now, now, 0);
                self.last_frame = None;
                false
            }
            Outcome::Refused => {
                self.wait(now);
                true
            }
        }
    }

    /// Forces it to be opened again: its frames turned out to be useless.
    pub fn restart(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Starting | Phase::Running) {
            self.close(now, Phase::Broken);
        }
    }

    fn close(&mut self, now: Instant, phase: Phase) {
        if now.since(self.opened_at) >= SETTLED && self.phase != Phase::Starting {
            self.back_off = Micros(0);
        }
        self.phase = phase;
        self.wait(now);
    }

    fn wait(&mut self, now: Instant) {
        self.reopen_at = now.plus(self.back_off);
        self.back_off = Micros((2 * self.back_off.0).clamp(FIRST_BACK_OFF.0, LONGEST_BACK_OFF.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const MS: u64 = 1000;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * MS)
    }

    fn life() -> Life {
        Life::new(at(0), Micros(1000 * MS), Micros(10_000 * MS), Micros(33 * MS))
    }

    /// A camera whose first frame took 1.6 s was killed and started again for ever.
    #[test]
    fn the_first_frame_has_a_time_limit_of_its_own() {
        let mut life = life();
        assert_eq!(life.next(at(0)), Do::Ask(Micros(10_000 * MS)));
        assert!(!life.tell(at(1600), Outcome::Nothing));
        assert!(!life.tell(at(1700), Outcome::Frame));
        assert_eq!(life.next(at(1700)), Do::Ask(Micros(1000 * MS)));
        assert!(life.tell(at(2700), Outcome::Nothing), "a stall is told");
        assert_eq!(life.next(at(2700)), Do::Reopen);
        life.tell(at(2701), Outcome::Opened);
        assert!(life.patience() > Micros(1700 * MS), "it is given the time that it took before");
    }

    /// Its first frame was taken when it was opened; the next one follows at once, and would be
    /// taken for the time that it needs to start.
    #[test]
    fn a_start_that_was_seen_at_opening_counts() {
        let mut life = life();
        life.has_started(at(1700), Micros(1600 * MS));
        assert_eq!((life.phase(), life.patience()), (Phase::Running, Micros(1000 * MS)));
        life.tell(at(1701), Outcome::Frame);
        assert!(life.tell(at(2701), Outcome::Nothing), "a stall is told");
        life.tell(at(2702), Outcome::Opened);
        assert!(life.patience() > Micros(1600 * MS), "it is given the time that it took before");
    }

    #[test]
    fn a_slow_camera_is_not_taken_for_a_stalled_one() {
        let mut life = Life::new(at(0), Micros(1000 * MS), Micros(10_000 * MS), Micros(1000 * MS));
        for n in 1..20 {
            assert!(!life.tell(at(n * 1001), Outcome::Frame));
            assert!(life.patience() >= Micros(3000 * MS));
        }
        // One that does not say how slow it is, and becomes slower in the dark.
        let mut life = Life::new(at(0), Micros(100 * MS), Micros(10_000 * MS), Micros(0));
        let mut now = 0;
        for gap in [33, 33, 40, 60, 90, 130, 130, 130] {
            now += gap;
            assert!(!life.tell(at(now), Outcome::Frame));
        }
        assert!(life.patience() >= Micros(390 * MS), "{:?}", life.patience());
    }

    /// A header that stated one frame a minute, or in a million seconds, kept a line whose camera
    /// gave thirty a second, then none, from going safe.
    #[test]
    fn a_source_that_gives_more_frames_than_it_states_is_waited_for_no_longer_than_its_frames_say() {
        for stated_ms in [0, 33, 60_000, 1_000_000_000] {
            let mut life = Life::new(at(0), Micros(500 * MS), Micros(10_000 * MS), Micros(stated_ms * MS));
            assert!(life.patience() <= Micros(10_000 * MS), "{stated_ms}: {:?}", life.patience());
            for n in 1..=3 {
                life.tell(at(n * 33), Outcome::Frame);
            }
            assert_eq!(life.patience(), Micros(500 * MS), "{stated_ms}");
            assert!(life.tell(at(99 + 500), Outcome::Nothing), "{stated_ms}: a stall is told");
        }
    }

    #[test]
    fn a_broken_frame_costs_one_restart_at_once_and_the_next_ones_wait() {
        let mut life = life();
        life.tell(at(100), Outcome::Frame);
        assert!(life.tell(at(20_000), Outcome::Lost));
        let mut rests = Vec::new();
        let mut now = 20_000;
        for _ in 0..8 {
            if let Do::Rest(span) = life.next(at(now)) {
                rests.push(span.0 / MS);
                now += span.0 / MS;
            } else {
                rests.push(0);
            }
            assert_eq!(life.next(at(now)), Do::Reopen);
            life.tell(at(now), Outcome::Opened);
            life.tell(at(now), Outcome::Lost);
        }
        assert_eq!(rests, [0, 100, 200, 400, 800, 1000, 1000, 1000]);
        life.tell(at(now), Outcome::Opened);
        life.tell(at(now), Outcome::Frame);
        life.tell(at(now + 11_000), Outcome::Lost);
        assert_eq!(life.next(at(now + 11_000)), Do::Reopen, "after ten good seconds at once again");
    }

    #[test]
    fn damaged_frames_in_a_row_open_it_again_and_single_ones_do_not() {
        let mut life = life();
        for n in 0..20 {
            assert!(life.tell(at(10 * n), Outcome::Damaged));
            assert!(!life.tell(at(10 * n + 5), Outcome::Frame));
        }
        for n in 0..5 {
            assert_eq!(life.phase(), Phase::Running);
            life.tell(at(1000 + n), Outcome::Damaged);
        }
        assert_eq!(life.phase(), Phase::Broken);
    }

    /// A camera that started in 0.3 s at first, and needed 2.5 s after a fault, was killed eight
    /// times, 28 s long.
    #[test]
    fn a_camera_that_needs_longer_to_start_than_at_first_is_given_twice_the_time_after_each_kill() {
        for (start, most) in [(1500, 1500), (1800, 3500), (2500, 5000), (5000, 12_000), (9900, 25_000)] {
            let mut life = life();
            life.tell(at(300), Outcome::Frame);
            life.tell(at(12_000), Outcome::Lost);
            let (mut now, mut opened) = (12_000, 0);
            let gap = loop {
                match life.next(at(now)) {
                    Do::Rest(span) => now += span.0 / MS,
                    Do::Reopen => {
                        opened = now;
                        life.tell(at(now), Outcome::Opened);
                    }
                    Do::Ask(span) if now + span.0 / MS >= opened + start => break opened + start - 12_000,
                    Do::Ask(span) => {
                        now += span.0 / MS;
                        life.tell(at(now), Outcome::Nothing);
                    }
                }
                assert!(now < 60_000, "a start of {start} ms is never waited for");
            };
            assert!(gap <= most, "a start of {start} ms: no frame for {gap} ms");
        }
    }

    /// A camera that stalls, breaks, refuses to open and starts slowly, at random: while the
    /// machine waits for it in vain, a fault is told within the time-out; and once it is well
    /// again, a frame comes within two seconds and its own start. A start that hung may take as
    /// long as it was ill, and one that is slower than those before is tried up to three times.
    #[test]
    fn no_stall_goes_untold_and_it_is_back_within_two_seconds() {
        let number = |key, default| std::env::var(key).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
        let (seed, count) = (number("TAGPIN_TEST_SEED", 5u64), number("TAGPIN_TEST_CASES", 150u64));
        println!("TAGPIN_TEST_SEED={seed} TAGPIN_TEST_CASES={count}");
        for case in 0..count {
            let mut random = Random::new(seed, case);
            let mut below = |n: u64| random.next() % n;
            let (interval, mut start) = (5 + below(100), below(400));
            // From one opening to the next its start gets slower, in every other case.
            let slower = below(2) * below(1000);
            let steady = 100 + below(900);
            let mut life = Life::new(at(0), Micros(steady * MS), Micros(10_000 * MS), Micros(interval * MS * below(2)));
            // Times in ms between which it is ill, and how.
            let mut ills: Vec<(u64, u64, u64)> = Vec::new();
            let mut t = 1500 + below(3000);
            for _ in 0..6 {
                let long = below(4000);
                ills.push((t, t + long, below(4)));
                t += long + 4000 + below(8000);
            }
            let ill = |now: u64| ills.iter().find(|(from, to, _)| (*from..*to).contains(&now)).map(|(_, _, how)| *how);
            // What was stalled while it was ill stays so until it is opened again.
            let (mut now, mut opened, mut hung) = (0u64, 0u64, false);
            let (mut last_frame, mut last_told, mut longest) = (0u64, 0u64, interval);
            while now < t {
                let before = now;
                let outcome = match life.next(at(now)) {
                    Do::Rest(span) => {
                        assert!(span <= Micros(1000 * MS), "case {case}");
                        now += span.0.div_ceil(MS);
                        continue;
                    }
                    Do::Reopen => {
                        now += 1;
                        if ill(now) == Some(0) {
                            Outcome::Refused
                        } else {
                            (opened, hung, start) = (now, false, (start + slower).min(start.max(3000)));
                            Outcome::Opened
                        }
                    }
                    Do::Ask(span) => {
                        let limit = now + span.0.div_ceil(MS);
                        loop {
                            now += 1;
                            match ill(now) {
                                Some(0) => break Outcome::Lost,
                                Some(1) => hung = true,
                                Some(2) if now % interval == 0 => break Outcome::Damaged,
                                Some(3) => {}
                                _ if !hung && now >= opened + start && now % interval == 0 => break Outcome::Frame,
                                _ => {}
                            }
                            if now >= limit {
                                break Outcome::Nothing;
                            }
                        }
                    }
                };
                let (was, quiet) = (life.phase(), now - last_frame.max(last_told).max(opened));
                let patience = life.patience().0 / MS;
                // While it runs, a silence is told after the time-out or three of its frames.
                let allowed = match was {
                    Phase::Running => steady.max(3 * longest),
                    Phase::Starting => patience,
                    Phase::Stalled | Phase::Broken => 1000,
                };
                assert!(quiet <= allowed + interval, "case {case}: nothing told for {quiet} ms, {was:?}, at {now}");
                if life.tell(at(now), outcome) {
                    last_told = now;
                }
                if outcome == Outcome::Frame {
                    longest = longest.max(if was == Phase::Running { now - last_frame } else { 0 });
                    last_frame = now;
                }
                if let Some((_, to, _)) = ills.iter().rev().find(|(_, to, _)| *to <= now) {
                    let slow = if slower > 0 { 2 * start } else { 0 };
                    // It was away since its last frame, which may be before an earlier illness.
                    let has_hung = ills.iter().any(|(_, to, how)| *how == 1 && (last_frame..=now).contains(to));
                    let hangs = if has_hung { to.saturating_sub(last_frame) } else { 0 };
                    let well = now - to;
                    let late = last_frame < *to
                        && well > 2000 + hangs + start + slow + steady.max(6 * interval)
                        && ill(now).is_none();
                    assert!(!late, "case {case}: no frame {well} ms after it was well, at {now}, {life:?}");
                }
                assert!(now > before || outcome != Outcome::Nothing, "case {case}: time stands still");
            }
        }
    }
}
