//! Finds which part a frame shows. Parts wait in the order of their triggers; a frame belongs to
//! one of them or to none.
//!
//! A part is before the camera from the moment it has travelled from the trigger to the camera
//! until the next part has. Its first n frames exposed in that time are its own; a frame that may
//! have been exposed before it never counts, and a frame that may show the next part is never taken
//! for this one, however few frames this one has. Where it is known how long a part is in view, a
//! frame exposed later shows it no more.

use super::{MAX_PARTS, Moment, PartId, Travel};
use crate::frame::CapturedAt;
use crate::time::{Instant, Micros};
use heapless::Deque;

/// What a part may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRules {
    /// Frames that decide a part, 1..=16.
    pub frames: u8,
    /// The longest way from trigger to the last of them, in time or with the belt.
    pub deadline: Travel,
    /// From the trigger until the part is before the camera.
    pub to_camera: Travel,
    /// From then until it has left the view; `None` where nobody knows it.
    pub in_view: Option<Micros>,
    /// Triggers are moments of frames: what those are worth is the same for both, and does not
    /// count between them.
    pub seen_in_frames: bool,
}

impl Default for PartRules {
    fn default() -> Self {
        Self {
            frames: 1,
            deadline: Travel::Time(Micros(500_000)),
            to_camera: Travel::NONE,
            in_view: None,
            seen_in_frames: false,
        }
    }
}

/// A part whose frames are awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub id: PartId,
    /// When its trigger fired, and where the belt was.
    pub trigger: Moment,
    /// Frames taken so far.
    pub frames: u8,
}

/// What a trigger did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The part waits for its frames.
    Waits,
    /// [`MAX_PARTS`] parts wait already; this one is not followed.
    Full,
    /// A frame that the part before took may have been exposed after this part's trigger, which was
    /// told too late: that part's frames may show this one.
    Doubt(PartId),
}

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It shows no part that needs it.
    NotOurs,
    /// It counts, more are needed.
    More(Part),
    /// It counts and is the last one: the part has its frames.
    Last(Part),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    part: Part,
    /// When it came before the camera; unknown until the belt has brought it there.
    seen_from: Option<Instant>,
    /// The belt has told that its deadline is over; running back does not undo that.
    late: bool,
    /// Decided, but an older part still waits, or it has not come before the camera: frames that
    /// show this one must not be taken for another.
    closed: bool,
}

/// Follows parts from trigger to last frame, first in, first out.
#[derive(Clone, Debug, Default)]
pub struct Line {
    rules: PartRules,
    entries: Deque<Entry, MAX_PARTS>,
    /// The part that took a frame last, and when that was exposed at the latest.
    last: Option<(PartId, Instant)>,
    /// Number of entries at the front that are no longer before the camera.
    passed: usize,
}

impl Line {
    /// An empty line.
    pub fn new(rules: PartRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Takes the trigger of part `id`; triggers come in the order of their moments.
    pub fn trigger(&mut self, id: PartId, trigger: Moment) -> Opened {
        let seen_from = self.rules.to_camera.due(trigger);
        if self
            .entries
            .push_back(Entry { part: Part { id, trigger, frames: 0 }, seen_from, late: false, closed: false })
            .is_err()
        {
            return Opened::Full;
        }
        match (self.last, seen_from) {
            (Some((before, exposed)), Some(from)) if exposed >= from => Opened::Doubt(before),
            _ => Opened::Waits,
        }
    }

    /// The belt came to a position, at the encoder's moment: for lines whose camera stands some
    /// counts after the trigger, or whose deadline is some counts. Positions come in their order,
    /// each with the triggers that it follows. Gives the part whose frames may show one that is
    /// before the camera since then, because the position was told after them.
    pub fn advance(&mut self, belt: Moment) -> Option<PartId> {
        let mut came = false;
        for entry in &mut self.entries {
            entry.late |= self.rules.deadline.is_done(entry.part.trigger, belt);
            if entry.seen_from.is_none() && self.rules.to_camera.is_done(entry.part.trigger, belt) {
                entry.seen_from = Some(belt.at);
                came = true;
            }
        }
        self.leave();
        self.last.filter(|(_, exposed)| came && *exposed >= belt.at).map(|(part, _)| part)
    }

    /// Offers a frame; frames come in the order of their exposure.
    pub fn frame(&mut self, captured_at: CapturedAt) -> Taken {
        // A frame of unknown age may show any part.
        let bounds = captured_at.exposed_from().zip(captured_at.exposed_to());
        let Some((from, to)) = bounds.map(|(from, to)| (from, if self.rules.seen_in_frames { from } else { to })) else {
            return Taken::NotOurs;
        };
        // The newest part that was before the camera at a moment.
        let newest = |entries: &Deque<Entry, MAX_PARTS>, moment: Instant| {
            let came = |entry: &Entry| entry.seen_from.is_some_and(|came| came <= moment);
            (0..entries.len()).rev().find(|i| entries.get(*i).is_some_and(came))
        };
        let Some(at) = newest(&self.entries, from) else { return Taken::NotOurs };
        self.passed = at;
        if newest(&self.entries, to) != Some(at) {
            return Taken::NotOurs;
        }
        let Some(entry) = self.entries.get_mut(at) else { return Taken::NotOurs };
        let has_left = entry.seen_from.zip(self.rules.in_view).is_some_and(|(came, span)| to >= came.plus(span));
        if entry.closed || entry.part.frames >= self.rules.frames || has_left {
            return Taken::NotOurs;
        }
        entry.part.frames += 1;
        let part = entry.part;
        self.last = Some((part.id, to));
        if part.frames < self.rules.frames { Taken::More(part) } else { Taken::Last(part) }
    }

    /// Part `id`, if it still waits for its end.
    pub fn waiting(&self, id: PartId) -> Option<Part> {
        self.entries.iter().find(|e| e.part.id == id && !e.closed).map(|e| e.part)
    }

    /// Part `id` is decided; gives it back if it waited.
    pub fn close(&mut self, id: PartId) -> Option<Part> {
        let entry = self.entries.iter_mut().find(|e| e.part.id == id && !e.closed)?;
        entry.closed = true;
        let part = entry.part;
        self.leave();
        Some(part)
    }

    /// Stops following all parts. Later frames of them belong to none.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.passed = 0;
    }

    fn leave(&mut self) {
        while self.entries.front().is_some_and(|e| e.closed && e.seen_from.is_some()) {
            self.entries.pop_front();
            self.passed = self.passed.saturating_sub(1);
        }
    }

    /// The oldest part, if it will get no more frames: a later part was seen, or its deadline has
    /// passed at `now`. It goes on waiting until [`Line::close`].
    pub fn overdue(&self, now: Moment) -> Option<Part> {
        let at = self.entries.iter().position(|e| !e.closed)?;
        let entry = self.entries.get(at)?;
        let late = entry.late || self.rules.deadline.is_done(entry.part.trigger, now);
        (at < self.passed || late).then_some(entry.part)
    }

    /// Time left until the oldest part's deadline; `None` if no part waits, or the belt's speed
    /// decides.
    pub fn time_left(&self, now: Instant) -> Option<Micros> {
        self.oldest().and_then(|part| self.rules.deadline.due(part.trigger)).map(|at| at.since(now))
    }

    /// The oldest part that waits.
    pub fn oldest(&self) -> Option<Part> {
        self.entries.iter().find(|e| !e.closed).map(|e| e.part)
    }
}
