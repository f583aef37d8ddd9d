//! The life of a source, the pairing of stamps and the line's parts together, before a camera
//! program that does everything wrong.
//!
//! Time is simulated in microseconds. The program loses frames, their lines or both, writes lines
//! late, twice and out of order, falls silent, hangs, dies and refuses to start; the process that
//! reads is held up at any moment. What each frame truly shows is known here and to nothing that is
//! tested.

use super::pairing::Pairing;
use super::timing::{Pipes, Timing};
use crate::frame::CapturedAt;
use crate::line::{Line, Moment, Opened, PartId, PartRules, Taken};
use crate::random::{Random, drawn_cases};
use crate::sources::life::{Do, Life, Outcome, Phase};
use crate::sources::pipe::Look;
use crate::sources::{Limits, NoFrame};
use crate::time::{Instant, Micros};
use std::collections::VecDeque;

const MS: u64 = 1000;
/// What good frames may take until one of them is used, once they could be had again.
const BACK_WITHIN: u64 = 2_000 * MS;
/// The longest wait before a source is opened again, within that.
const BACK_OFF: Micros = Micros(1_000 * MS);

fn at(us: u64) -> Instant {
    Instant::from_micros(us)
}

/// What a camera does for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    /// One of this number of things goes wrong.
    Troubled(u64),
    /// The program dies, and cannot be started.
    Gone,
    /// A program gives nothing until it is started again later.
    Hangs,
    /// It gives nothing meanwhile.
    Silent,
}

/// What a camera is, and what it does from which moments on.
struct Camera {
    interval: u64,
    latency: u64,
    start: u64,
    /// From a frame's first byte to its last.
    transfer: u64,
    /// The pipe holds several frames, so that lines of later ones may be there before one is read.
    small: bool,
    /// In how many frames its latency goes up or down by an eighth of an interval, all at once;
    /// else it differs by as much from frame to frame.
    steady: Option<u64>,
    moods: Vec<(u64, Mood)>,
}

impl Camera {
    fn draw(random: &mut Random) -> Self {
        let mut below = |n: u64| random.next() % n;
        let interval = (8 + below(60)) * MS;
        let mut moods = Vec::new();
        let mut time = 0;
        for _ in 0..5 {
            moods.push((time, Mood::Well));
            time += 3_000 * MS + below(4_000 * MS);
            for _ in 0..1 + below(3) {
                let trouble = if below(2) == 0 { 2 + below(6) } else { 2 + below(40) };
                let all = [Mood::Troubled(trouble), Mood::Troubled(trouble), Mood::Gone, Mood::Hangs, Mood::Silent];
                moods.push((time, all[below(5) as usize]));
                time += below(5_000 * MS);
            }
        }
        moods.push((time, Mood::Well));
        let (latency, start) = ((2 + below(90)) * MS, below(400) * MS);
        let steady = (below(2) == 0).then(|| 4 + below(60));
        Self { interval, latency, start, transfer: below(interval / 3), small: below(2) == 0, steady, moods }
    }

    fn mood(&self, now: u64) -> Mood {
        self.moods[self.moods.partition_point(|(from, _)| *from <= now) - 1].1
    }

    /// When it was last not well, so far.
    fn well_since(&self, now: u64) -> Option<u64> {
        let (from, mood) = self.moods[self.moods.partition_point(|(from, _)| *from <= now) - 1];
        (mood == Mood::Well).then_some(from)
    }

    fn end(&self) -> u64 {
        self.moods[self.moods.len() - 1].0 + 3_000 * MS
    }
}

/// One start of the camera program, with its two pipes and the process that reads them.
struct Program<'c> {
    camera: &'c Camera,
    random: Random,
    now: u64,
    exposed: u64,
    /// Frames that were not read: when their first byte can be written, when they were exposed.
    frames: VecDeque<(u64, u64)>,
    written: u64,
    /// By how much the latency is longer now.
    longer: u64,
    /// The last frame that was read.
    shown: u64,
    /// Lines with the moment at which they are written.
    lines: Vec<(u64, u64)>,
    hung: bool,
    died: Option<u64>,
}

impl<'c> Program<'c> {
    fn start(camera: &'c Camera, now: u64, seed: u64) -> Self {
        let exposed = now + camera.start;
        let random = Random::new(seed, now);
        Self {
            camera,
            random,
            now,
            exposed,
            frames: VecDeque::new(),
            written: now,
            longer: 0,
            shown: 0,
            lines: Vec::new(),
            hung: false,
            died: None,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next() % n
    }

    /// Whether one thing goes wrong now.
    fn trouble(&mut self) -> bool {
        matches!(self.camera.mood(self.now), Mood::Troubled(odds) if self.below(odds) == 0)
    }

    /// Exposes one more frame, if ever.
    fn expose(&mut self) -> bool {
        while !self.hung && self.died.is_none() {
            let lost = if self.trouble() { self.below(4) } else { 0 };
            for _ in 0..lost {
                self.exposed += self.camera.interval;
                // Of some of them the line comes all the same.
                if self.below(2) == 0 {
                    self.write_line(self.exposed + self.camera.latency + self.camera.transfer, self.exposed);
                }
            }
            self.exposed += self.camera.interval;
            let eighth = self.camera.interval / 8;
            let steady = self.camera.steady;
            if steady.is_none_or(|frames| self.below(frames) == 0) {
                self.longer = if steady.is_some() { eighth - self.longer } else { self.below(eighth) };
            }
            let ready = self.exposed + self.camera.latency + self.longer;
            match self.camera.mood(ready) {
                Mood::Gone => self.died = Some(ready),
                Mood::Hangs => self.hung = true,
                Mood::Silent => {}
                Mood::Well | Mood::Troubled(_) => {
                    self.frames.push_back((ready, self.exposed));
                    if self.camera.small {
                        self.write_line(ready + self.camera.transfer, self.exposed);
                    }
                    return true;
                }
            }
        }
        false
    }

    /// The line of a frame whose last byte was written at `done`.
    fn write_line(&mut self, done: u64, exposed: u64) {
        let late = match (self.trouble(), self.below(2)) {
            (true, 0) => return,
            (true, _) => self.below(5 * self.camera.interval),
            (false, _) => self.below(self.camera.interval / 8),
        };
        let twice = self.trouble() as usize;
        self.lines.extend(vec![(done + late, exposed); 1 + twice]);
        self.lines.sort_unstable();
    }

    /// When the next frame's first byte is in the pipe.
    fn first_byte(&mut self) -> Option<u64> {
        if self.frames.is_empty() {
            self.expose();
        }
        self.frames.front().map(|(ready, _)| (*ready).max(self.written)).or(self.died)
    }

    /// Goes on at `until`, or later when the process was held up.
    fn wake(&mut self, until: u64) {
        self.now = self.now.max(until) + self.below(self.camera.interval / 16);
        if self.trouble() {
            let interval = self.camera.interval;
            // Just under an interval is worst: two frames are then as near.
            self.now += if self.below(2) == 0 { self.below(3 * interval) } else { interval - self.below(interval / 4) };
        }
    }
}

impl Look for Program<'_> {
    fn now(&self) -> Instant {
        at(self.now)
    }

    fn begins(&mut self, timeout: Micros) -> Result<bool, NoFrame> {
        let (first, limit) = (self.first_byte(), self.now + timeout.0);
        let begins = first.filter(|first| *first <= limit);
        if timeout.0 > 0 {
            self.wake(begins.unwrap_or(limit));
        }
        Ok(begins.is_some())
    }
}

impl Pipes for Program<'_> {
    fn read(&mut self, timeout: Micros) -> Result<(), NoFrame> {
        let first = self.first_byte();
        let Some(((_, exposed), first)) = self.frames.pop_front().zip(first) else {
            return Err(NoFrame::Gone("it died".into()));
        };
        let done = self.now.max(first + self.camera.transfer);
        match self.camera.mood(done) {
            Mood::Gone => self.died = Some(done),
            Mood::Hangs => self.hung = true,
            _ => {}
        }
        if self.hung || self.died.is_some_and(|died| died <= done) {
            self.now = if self.hung { self.now + timeout.0 } else { done };
            return Err(NoFrame::Truncated { found: 1, needed: 2 });
        }
        self.wake(done);
        self.shown = exposed;
        if !self.camera.small {
            self.write_line(self.now, exposed);
            // Its writer wakes up.
            self.written = self.now + self.below(self.camera.interval / 16);
        }
        Ok(())
    }

    fn metadata(&mut self, pairing: &mut Pairing) -> bool {
        while self.camera.small && self.frames.back().is_none_or(|(ready, _)| *ready <= self.now) && self.expose() {}
        let due = self.lines.partition_point(|(due, _)| *due <= self.now);
        self.lines.drain(..due).for_each(|(_, exposed)| pairing.stamp(at(exposed)));
        true
    }

    fn wait(&mut self, timeout: Micros) -> Result<(), NoFrame> {
        let first = self.first_byte();
        let line = self.lines.first().map(|(due, _)| *due);
        let until = first.into_iter().chain(line).min().unwrap_or(u64::MAX).min(self.now + timeout.0);
        self.wake(until);
        Ok(())
    }
}

fn close_overdue(line: &mut Line, now: u64) {
    while let Some(part) = line.overdue(Moment::at(at(now))) {
        line.close(part.id);
    }
}

/// No frame is given to a part that it does not show, no silence goes untold, and within two
/// seconds of when good frames can be had again one of them is used.
#[test]
fn whatever_the_camera_program_does_parts_get_their_own_frames_and_it_is_back_in_time() {
    let (seed, count) = drawn_cases(600);
    let (mut frames, mut known, mut given) = (0u64, 0u64, 0u64);
    for case in 0..count {
        let mut random = Random::new(seed, case);
        let camera = Camera::draw(&mut random);
        let mut below = |n: u64| random.next() % n;
        // In some cases people vouch for the latency instead, with and without metadata.
        let longest = camera.latency + camera.interval / 2;
        let latency = (below(4) == 0).then_some(Micros(longest));
        let has_metadata = latency.is_none() || below(2) == 0;
        let limits = Limits { latency, needs_time: true, ..Limits::default() };
        let (steady, interval) = ((100 + below(900)) * MS, Micros(camera.interval));
        let open = |now: u64| {
            (Program::start(&camera, now, seed ^ case << 32), Timing::new(at(now), interval, limits, has_metadata))
        };
        let (mut program, mut timing) = open(0);
        let mut life = Life::new(at(0), Micros(steady), Micros(limits.first_frame.as_micros() as u64), interval);
        let mut line = Line::new(PartRules::default());
        let (mut triggers, mut next_trigger) = (Vec::new(), 500 * MS);
        let (mut now, mut opened, mut freed, mut last_heard, mut last_used) = (0u64, 0u64, 0u64, 0u64, 0u64);
        // Whether a fault was told since the last frame or opening; the longest time between
        // frames.
        let (mut has_told, mut last_frame, mut longest) = (false, None, camera.interval);
        while now < camera.end() {
            let outcome = match life.next(at(now)) {
                Do::Rest(span) => {
                    assert!(span <= BACK_OFF, "case {case}: {span:?} until it is opened again at {now}");
                    now += span.0;
                    continue;
                }
                Do::Reopen => {
                    assert!(has_told, "case {case}: opened again without a word at {now}");
                    now += MS;
                    if camera.mood(now) == Mood::Gone {
                        Outcome::Refused
                    } else {
                        freed = if program.hung { now } else { freed };
                        ((program, timing), opened) = (open(now), now);
                        Outcome::Opened
                    }
                }
                Do::Ask(span) => {
                    program.now = now;
                    let captured = timing.next(&mut program, span);
                    now = program.now;
                    match captured {
                        Ok(captured) => {
                            frames += 1;
                            // Triggers are told at once, and parts that were waited for in vain
                            // closed.
                            while next_trigger <= now {
                                close_overdue(&mut line, next_trigger);
                                let opened = line.trigger(PartId(triggers.len() as u64), Moment::at(at(next_trigger)));
                                assert_eq!(opened, Opened::Waits, "case {case}");
                                triggers.push(next_trigger);
                                next_trigger += (2 * camera.interval).max(30 * MS) + below(400 * MS);
                            }
                            let taken = line.frame(captured);
                            if let CapturedAt::Exposure { at: stated, .. } = captured {
                                assert_eq!(stated, at(program.shown), "case {case}: another frame's stamp at {now}");
                            }
                            if let Some(from) = captured.exposed_from() {
                                assert!(from <= at(program.shown), "case {case}: older than it says at {now}");
                                (known, last_used) = (known + 1, now);
                            }
                            if let Taken::Last(part) | Taken::More(part) = taken {
                                let shows = triggers.partition_point(|t| *t <= program.shown) as u64;
                                assert_eq!(part.id.0 + 1, shows, "case {case}: a frame for another part at {now}");
                                line.close(part.id);
                                given += 1;
                            }
                            close_overdue(&mut line, now);
                            // What the process does with a frame takes its time.
                            program.wake(now + below(camera.interval / 8));
                            now = program.now;
                            Outcome::Frame
                        }
                        Err(NoFrame::Timeout) => Outcome::Nothing,
                        Err(_) => Outcome::Lost,
                    }
                }
            };
            let (was, quiet) = (life.phase(), now - last_heard);
            let patience = life.patience().0;
            let told = life.tell(at(now), outcome);
            has_told = told || (has_told && !matches!(outcome, Outcome::Frame | Outcome::Opened));
            if told || matches!(outcome, Outcome::Frame | Outcome::Opened) {
                last_heard = now;
            }
            // While it runs, a silence is told after the time-out or three of its frames, and one
            // inside a frame after two intervals more. The process that reads is held up besides.
            let allowed = match was {
                Phase::Running => steady.max(3 * longest) + 7 * camera.interval,
                Phase::Starting => patience + 7 * camera.interval,
                Phase::Stalled | Phase::Broken => BACK_OFF.0 + 2 * MS,
            };
            assert!(quiet <= allowed, "case {case}: nothing told for {quiet}, {was:?}, at {now}");
            match outcome {
                Outcome::Frame => {
                    longest = last_frame.map_or(longest, |last| longest.max(now - last));
                    last_frame = Some(now);
                }
                Outcome::Opened => last_frame = None,
                _ => {}
            }
            // A program that hung while the camera was ill gives good frames once it is started
            // again. Its own start is no fault of ours.
            if let Some(well) = camera.well_since(now).filter(|_| !program.hung) {
                let start = if opened < well { opened + camera.start } else { well.max(freed) + camera.start };
                let good = start.max(well).max(freed);
                let waited = now.saturating_sub(good.max(last_used));
                assert!(waited <= BACK_WITHIN, "case {case}: good frames since {good}, none used for {waited} at {now}");
            }
        }
    }
    println!("{known} of {frames} frames have a known time, {given} were given to parts");
    assert!(known * 2 > frames && given * 20 > frames, "{known} of {frames} known, {given} given");
}
