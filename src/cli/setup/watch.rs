//! Parts at the trigger, and the frames that follow.

use super::ask::Person;
use crate::bundle::Fit;
use crate::cli::Refused;
use crate::pictures::Picture;
use crate::preprocess::{Preprocessor, Target};
use crate::setup::mosaic::{Tile, mosaic};
use crate::setup::passing::{Glimpse, ahead, likeliest, middles};
use crate::setup::written;
use crate::sources::{FrameBuffer, NoFrame, Source};
use crate::supervisor::SystemClock;
use crate::terminal::columns;
use crate::time::{Clock, Instant, Micros};
use crate::triggers::{self, GpioInputs, Input, Posts, Role, TriggerSpec};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Columns of a frame as it is watched and shown: three of them stand side by side.
const COLUMNS: u16 = 26;
/// Columns of a frame as it is kept.
const KEPT_COLUMNS: u16 = 320;
/// Frames before a trigger that say what the belt looks like without the part.
const BEFORE: usize = 30;
/// Frames that are shown of a part.
const SHOWN: usize = 9;
/// Frames, and triggers, whose distance in time is remembered.
const INTERVALS: usize = 1000;
/// Frames after the watched ones in which the next trigger is awaited: it shows whose the last of
/// them are.
const BEHIND: u64 = 10;
/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_millis(200);
/// After so long without a trigger the person is told how to end it.
const LONG: Micros = Micros(30_000_000);
/// After so long without a frame the camera is given up.
const SILENCE: Micros = Micros(10_000_000);

/// What opens parts, open.
enum Signals {
    Line(Box<dyn triggers::Trigger>),
    /// The number of the last part that crossed.
    Barrier(Option<u64>),
    Enter,
}

fn signals(trigger: &written::Trigger) -> Result<Signals, Refused> {
    Ok(match trigger {
        written::Trigger::Barrier => Signals::Barrier(None),
        written::Trigger::Words { .. } => Signals::Enter,
        written::Trigger::Gpio { pin, slope, pull } => {
            let line = crate::gpio::InputLine {
                line: pin.line.clone(),
                active_low: false,
                slope: *slope,
                pull: *pull,
                debounce: Duration::ZERO,
            };
            let inputs = GpioInputs { chip: pin.chip.clone(), lines: vec![(Role::Trigger, line)] };
            let opened = triggers::open(&TriggerSpec::Gpio(inputs), &(Arc::new(SystemClock) as _), &Posts::default());
            Signals::Line(opened.map_err(|e| e.to_string())?)
        }
    })
}

/// Whether the sensor is seen, or the person gives it up.
pub(super) fn seen(person: &mut Person, trigger: &written::Trigger) -> Result<bool, Refused> {
    let mut line = match signals(trigger) {
        Ok(Signals::Line(line)) => line,
        Ok(_) => return Ok(true),
        Err(Refused(why)) => {
            person.tell(&why.join("; "));
            return Ok(false);
        }
    };
    person.tell("Cover the sensor once, or let a part pass it; Enter asks anew.");
    loop {
        if let Some(Input::Trigger { .. }) = line.next(PATIENCE).map_err(|e| e.to_string())? {
            person.tell("Seen.");
            return Ok(true);
        }
        if person.entered()?.is_some() {
            return Ok(false);
        }
    }
}

/// Frames of a source, and triggers.
pub(super) struct Watch {
    source: Box<dyn Source>,
    signals: Signals,
    within: Micros,
    /// Longest time from exposure to arrival, where the camera does not say when it exposed.
    latency: Micros,
    images: Option<PathBuf>,
    frame: FrameBuffer,
    /// For frames of this many columns and rows: small ones, and those that are kept.
    sizes: Option<([u32; 2], Preprocessor, Preprocessor)>,
    /// Parts that were watched so far: the number in the names of frames that are kept.
    parts: usize,
    /// Moments of frames, small images, and those that are kept.
    recent: VecDeque<(Instant, Glimpse, Option<Vec<u8>>)>,
    /// What is older waited while nobody watched.
    since: Instant,
    last: Instant,
    intervals: Vec<u64>,
    arrival: Micros,
    /// The last trigger, watched or not.
    triggered: Option<Instant>,
    /// From one trigger to the next, the first of them.
    gaps: Vec<Micros>,
}

/// Frames after one trigger, in their order.
pub(super) struct Part {
    frames: Vec<Glimpse>,
    /// From its trigger to the next one, where that came while it was watched.
    next: Option<Micros>,
    /// From its trigger on until frames may show the next part: that is near the middle as long
    /// before its trigger as this one was, and two frames more.
    until: Option<Micros>,
}

fn target(columns: u16, size: [u32; 2]) -> Target {
    let rows = (u64::from(columns) * u64::from(size[1]) / u64::from(size[0].max(1))).clamp(2, 2048);
    Target { width: columns, height: rows as u16, fit: Fit::Stretch, roi: None }
}

impl Watch {
    pub(super) fn new(
        source: Box<dyn Source>,
        latency: Micros,
        trigger: &written::Trigger,
        within: Micros,
        images: Option<PathBuf>,
    ) -> Result<Self, Refused> {
        Ok(Self {
            source,
            signals: signals(trigger)?,
            within,
            latency,
            images,
            frame: FrameBuffer::empty(),
            sizes: None,
            parts: 0,
            recent: VecDeque::new(),
            since: SystemClock.now(),
            last: SystemClock.now(),
            intervals: Vec::new(),
            arrival: Micros(0),
            triggered: None,
            gaps: Vec::new(),
        })
    }

    /// What triggers came so far says nothing any more.
    pub(super) fn anew(&mut self) {
        self.gaps.clear();
        self.triggered = None;
    }

    /// Least time from one trigger to the next; `None` before there were two.
    pub(super) fn nearest(&self) -> Option<Micros> {
        self.gaps.iter().min().copied()
    }

    /// Least time from one part to the next. Triggers within two frames are a sensor that bounces.
    pub(super) fn nearest_parts(&self) -> Option<Micros> {
        let least = Micros(2 * self.interval().0);
        self.gaps.iter().filter(|gap| **gap >= least).min().copied()
    }

    /// From one frame to the next, in the middle of what was seen.
    pub(super) fn interval(&self) -> Micros {
        let mut all = self.intervals.clone();
        all.sort_unstable();
        Micros(all.get(all.len() / 2).copied().unwrap_or_default())
    }

    /// Longest time from exposure to arrival as it was stated; 0 where the camera says it.
    pub(super) fn latency(&self) -> Micros {
        self.latency
    }

    /// Longest time from a frame's exposure until it was here.
    pub(super) fn arrival(&self) -> Micros {
        self.arrival
    }

    /// Takes the next frame, if one comes; the moment of its exposure.
    fn next(&mut self) -> Result<Option<Instant>, Refused> {
        let now = || SystemClock.now();
        match self.source.next(&mut self.frame, PATIENCE) {
            Ok(()) => {}
            Err(NoFrame::End) => return Err("the source has no more frames".into()),
            Err(fault) if now().since(self.last) > SILENCE => {
                return Err(
                    format!("no whole frame for {} s: {}", SILENCE.0 / 1_000_000, self.source.explain(&fault)).into()
                );
            }
            Err(_) => return Ok(None),
        }
        self.last = now();
        // The line counts a frame only if it was surely exposed late enough.
        let captured = self.frame.captured_at;
        let at = captured.exposed_from().unwrap_or(captured.instant().minus(self.latency));
        if at < self.since {
            return Ok(None);
        }
        if let Some((before, ..)) = self.recent.back() {
            self.intervals.push(at.since(*before).0);
            // As many as are remembered say what a frame's distance is.
            self.intervals.truncate(INTERVALS);
        }
        self.arrival = Micros(self.arrival.0.max(self.last.since(at).0));
        let view = self.frame.view().map_err(|e| e.to_string())?;
        let size = [self.frame.layout.width, self.frame.layout.height];
        if self.sizes.as_ref().is_none_or(|(known, ..)| *known != size) {
            let made = |columns| Preprocessor::new(target(columns, size));
            self.sizes = Some((size, made(COLUMNS), made(KEPT_COLUMNS)));
            self.recent.clear();
        }
        let (_, small, kept) = self.sizes.as_mut().ok_or("no size")?;
        let rgb = small.image(&view).map_err(|e| e.to_string())?.to_vec();
        let columns = usize::from(COLUMNS);
        let glimpse = Glimpse { offset_us: 0, size: [columns, rgb.len() / 3 / columns], rgb };
        let kept = match &self.images {
            None => None,
            Some(_) => {
                let columns = u32::from(KEPT_COLUMNS);
                let rgb = kept.image(&view).map_err(|e| e.to_string())?;
                Some(Picture::to_jpeg(columns, rgb.len() as u32 / 3 / columns, rgb, 85)?)
            }
        };
        self.recent.push_back((at, glimpse, kept));
        Ok(Some(at))
    }

    /// A part that passed the sensor meanwhile.
    fn trigger(&mut self, person: &Person) -> Result<Option<Instant>, Refused> {
        person.stopped()?;
        let found = match &mut self.signals {
            Signals::Enter => person.entered()?.map(|_| SystemClock.now()),
            Signals::Barrier(last) => {
                let new = self.frame.crossing.filter(|c| last.is_none_or(|last| c.number > last));
                *last = new.map(|c| c.number).or(*last);
                new.map(|c| c.at)
            }
            Signals::Line(line) => loop {
                match line.next(Duration::ZERO).map_err(|e| e.to_string())? {
                    Some(Input::Trigger { at, .. }) => break Some(at),
                    Some(Input::Ended) => return Err("the trigger's input has ended".into()),
                    Some(_) => {}
                    None => break None,
                }
            },
        };
        if let Some(at) = found {
            self.gaps.extend(self.triggered.replace(at).map(|before| at.since(before)));
            self.gaps.truncate(INTERVALS);
        }
        Ok(found.filter(|at| *at >= self.since))
    }

    /// The moment of the next trigger; frames go on being taken.
    pub(super) fn triggered(&mut self, person: &Person) -> Result<Instant, Refused> {
        if matches!(self.signals, Signals::Enter) {
            person.forget()?;
        }
        self.recent.clear();
        self.since = SystemClock.now();
        let mut is_told = false;
        loop {
            self.next()?;
            if !is_told && SystemClock.now().since(self.since) > LONG {
                is_told = true;
                person.tell(&format!(
                    "No part was at the trigger for {} s. Ctrl-C ends this and writes nothing.",
                    LONG.0 / 1_000_000
                ));
            }
            while self.recent.len() > BEFORE {
                self.recent.pop_front();
            }
            if let Some(at) = self.trigger(person)? {
                return Ok(at);
            }
        }
    }

    /// The frames of the next part.
    pub(super) fn part(&mut self, person: &Person) -> Result<Part, Refused> {
        self.parts += 1;
        let number = self.parts;
        let at = self.triggered(person)?;
        let (mut others, mut next, end) = (0, None, at.plus(self.within));
        let watched_to = loop {
            let exposed = self.next()?;
            if let Some(other) = self.trigger(person)? {
                others += (other < end) as u32;
                next.get_or_insert(other.since(at));
            }
            if let Some(exposed) = exposed
                && (exposed >= end.plus(Micros(BEHIND * self.interval().0)) || exposed >= end && next.is_some())
            {
                break exposed.since(at);
            }
        };
        if others > 0 {
            person.tell(&format!(
                "Triggers within {} ms: {others} more. Frames may show other parts; let them pass one at a time, or watch for less \
                 (--within-ms).",
                self.within.0 / 1000
            ));
        }
        let mut frames = Vec::new();
        let shown_to = end.plus(self.interval());
        let mut recent = std::mem::take(&mut self.recent);
        for (exposed, glimpse, jpeg) in recent.drain(..).filter(|(exposed, ..)| *exposed < shown_to) {
            let offset_us = exposed.as_micros() as i64 - at.as_micros() as i64;
            let glimpse = Glimpse { offset_us, ..glimpse };
            if let (Some(folder), Some(jpeg)) = (&self.images, jpeg) {
                let file = folder.join(format!("part{number}_{:+06}ms.jpg", glimpse.offset_ms()));
                if let Err(e) = std::fs::write(&file, jpeg) {
                    // Images are for later: what was answered so far is worth more.
                    let _ = std::fs::remove_file(&file);
                    person.tell(&format!("--images {}: {e}; no more frames are kept.", file.display()));
                    self.images = None;
                }
            }
            frames.push(glimpse);
        }
        // A trigger behind what was watched is not known.
        let ahead = ahead(&frames).0 + 2 * self.interval().0;
        let until = Micros(next.unwrap_or(watched_to).0.saturating_sub(ahead));
        let until = Some(until).filter(|until| next.is_some() || *until < self.within);
        Ok(Part { frames, next, until })
    }
}

impl Part {
    /// Shows some frames, and asks in which the part is in the middle; `None`: in none.
    /// `earlier`: what parts before it had.
    pub(super) fn middle(&self, person: &mut Person, earlier: &[Micros]) -> Result<Option<Micros>, Refused> {
        // Among its own frames the part may be farther from the middle than the next one among all.
        let mut middles = [middles(&self.frames, self.until), middles(&self.frames, None)].concat();
        middles.sort_unstable();
        middles.dedup();
        let likely = likeliest(&self.frames, &middles, earlier, self.until);
        let after: Vec<usize> = (0..self.frames.len()).filter(|i| self.frames[*i].offset_us >= 0).collect();
        let (Some(first), Some(last)) = (after.first(), after.last()) else { return Ok(None) };
        let around = likely.map(|i| i.saturating_sub(SHOWN / 2).max(*first)).unwrap_or(*first);
        let (begin, step) = match likely {
            Some(_) => (around.min((last + 1).saturating_sub(SHOWN)).max(*first), 1),
            None => (*first, after.len().div_ceil(SHOWN).max(1)),
        };
        self.show(&(begin..=*last).step_by(step).take(SHOWN).collect::<Vec<_>>(), likely);
        if middles.len() > 1 || likely.is_none() && !middles.is_empty() {
            let all: Vec<String> = middles.iter().map(|i| format!("{} ms", self.frames[*i].offset_ms())).collect();
            person.tell(&format!("Parts are in the middle at {}: take the one that this trigger was for.", all.join(", ")));
        }
        let default = likely.map(|i| self.frames[i].offset_ms().to_string());
        let end = self.frames[*last].offset_ms();
        loop {
            let question = "In the middle at: ms, \"all\" shows every frame, \"none\" leaves this part out";
            let answer = person.ask(question, default.as_deref(), |text| match text {
                "all" | "none" => Ok(Err(text == "all")),
                _ => {
                    let ms = text.trim_end_matches("ms").trim().parse().ok().filter(|ms| (0..=end).contains(ms));
                    ms.map(Ok).ok_or(format!("expected milliseconds, 0 to {end}, all or none"))
                }
            })?;
            match answer {
                Ok(ms) => {
                    let nearest = after.iter().min_by_key(|i| (self.frames[**i].offset_ms() - ms).abs());
                    let offset = nearest.map(|i| Micros(self.frames[*i].offset_us as u64));
                    if offset.map_or(Ok(true), |offset| self.is_this_one(person, offset, earlier))? {
                        return Ok(offset);
                    }
                }
                Err(true) => self.show(&after, likely),
                Err(false) => return Ok(None),
            }
        }
    }

    /// Whether the part that a frame shows is the one whose trigger is watched. Asked where the
    /// next one was at the trigger by then, unless an earlier part was as far on.
    fn is_this_one(&self, person: &mut Person, offset: Micros, earlier: &[Micros]) -> Result<bool, Refused> {
        let Some(until) = self.until.filter(|until| *until <= offset) else { return Ok(true) };
        if earlier.iter().any(|earlier| until <= *earlier) {
            return Ok(true);
        }
        let when = match self.next {
            Some(next) => format!("The next part was at the trigger {} ms after this one", next.0 / 1000),
            None => "The next part may have been at the trigger just behind what was watched".into(),
        };
        person.tell(&format!("{when}; the frame may show that part."));
        person.choose("Which part does it show", &[("next", false), ("this", true)])
    }

    fn show(&self, which: &[usize], likely: Option<usize>) {
        let out = std::io::stdout();
        let in_colour = crate::terminal::has_colour(&out);
        let title = |i: usize| {
            let mark = if likely == Some(i) { " <- middle" } else { "" };
            format!("{} ms{mark}", self.frames[i].offset_ms())
        };
        let titles: Vec<String> = which.iter().map(|i| title(*i)).collect();
        let tiles: Vec<Tile<'_>> = which
            .iter()
            .zip(&titles)
            .map(|(i, title)| Tile { title, size: self.frames[*i].size, rgb: &self.frames[*i].rgb })
            .collect();
        print!("{}", mosaic(&tiles, columns(&out).unwrap_or(80), in_colour));
    }
}
