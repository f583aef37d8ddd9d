//! A page for people: is the line running, what was rejected and why; and what other thresholds
//! would have done.
//!
//! A sink keeps the last parts with their edges and small images; the page's server answers from
//! that, from the figures and from the [gallery](super::gallery). Everybody who reaches it may
//! look; a change needs a key and a state folder that can be written. PAGE.md beside this folder's
//! parent has the paths.

mod answers;
mod history;

pub use answers::Server;

use super::access::Access;
use super::gallery::{Gallery, Shown};
use super::recipes::Recipes;
use crate::bundle::Bundle;
use crate::decide::{Action, Policy, TagPolicy, Task, Verdict};
use crate::events::sinks::Sink;
use crate::events::{EdgeEvent, Event, Events, FaultEvent, PartEvent, Remedy, What};
use crate::head::Score;
use crate::pictures::Picture;
use crate::settings::{Overrides, Settings, StateFolder};
use crate::supervisor::Tuning;
use crate::time::{Instant, Micros};
use history::History;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Parts that are shown, and beside them parts that were not accepted.
const SHOWN_PARTS: usize = 24;
/// Parts of each that are kept: the oldest that was shown may leave before its image is asked for.
const KEPT_PARTS: usize = SHOWN_PARTS + 8;
/// Edges and faults that are shown.
const SHOWN_EDGES: usize = 64;
const SHOWN_FAULTS: usize = 8;
/// Frames that are kept for those who were told of them and have not asked for their images yet.
const SHOWN_FRAMES: usize = 4;
/// Longest wait for others who save.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest side of a part's small image.
const SMALL_SIDE: usize = 96;

/// A part with its small image.
struct Passed {
    event: PartEvent,
    image: Option<Arc<Small>>,
}

/// A small RGB8 image.
struct Small {
    size: [u32; 2],
    rgb: Vec<u8>,
}

impl Small {
    /// Every n-th column and row, for the least n that fits: for eyes, not for figures.
    fn of(size: [u32; 2], rgb: &[u8]) -> Self {
        let [width, height] = size.map(|n| n as usize);
        let step = width.max(height).div_ceil(SMALL_SIDE).max(1);
        let (columns, rows) = (width.div_ceil(step), height.div_ceil(step));
        let pixel = |i: usize| 3 * ((i / columns) * step * width + (i % columns) * step);
        let rgb = (0..columns * rows).flat_map(|i| rgb[pixel(i)..][..3].iter().copied()).collect();
        Self { size: [columns as u32, rows as u32], rgb }
    }

    fn jpeg(&self) -> Result<Vec<u8>, String> {
        Picture::to_jpeg(self.size[0], self.size[1], &self.rgb, 80)
    }
}

/// Frames of a part that has no end yet.
struct Waiting {
    part: u64,
    frames: Vec<(Box<[Score]>, bool)>,
    image: Arc<Small>,
}

/// What the page remembers of the run.
#[derive(Default)]
struct Memory {
    seen: u64,
    waiting: VecDeque<Waiting>,
    parts: VecDeque<Passed>,
    not_accepted: VecDeque<Passed>,
    edges: VecDeque<EdgeEvent>,
    faults: VecDeque<(Instant, FaultEvent)>,
    /// The newest fault that cost a part or made the line safe: those that are only told may be
    /// many.
    trouble: Option<(Instant, FaultEvent)>,
    /// The newest fault that made the line safe: it stays so until a part is decided, whatever else
    /// fails.
    safe: Option<(Instant, FaultEvent)>,
    history: History,
}

/// Keeps the newest `most`.
fn push<T>(all: &mut VecDeque<T>, most: usize, new: T) {
    if all.len() == most {
        all.pop_front();
    }
    all.push_back(new);
}

impl Memory {
    /// Takes over what the gallery has that is new.
    fn catch_up(&mut self, gallery: &Gallery) {
        let (size, waiting) = (gallery.size(), &mut self.waiting);
        self.seen = gallery.since(self.seen, |glance| {
            let frame = (glance.scores.into(), glance.beyond);
            let image = Arc::new(Small::of(size, glance.rgb));
            match waiting.iter_mut().find(|w| w.part == glance.part) {
                Some(known) => {
                    known.frames.push(frame);
                    known.image = image;
                }
                None => push(waiting, SHOWN_PARTS, Waiting { part: glance.part, frames: vec![frame], image }),
            }
        });
    }

    fn fault(&mut self, at: Instant, fault: &FaultEvent) {
        if fault.remedy != Remedy::Told {
            self.trouble = Some((at, fault.clone()));
        }
        if fault.remedy == Remedy::Safe {
            self.safe = Some((at, fault.clone()));
        }
        push(&mut self.faults, SHOWN_FAULTS, (at, fault.clone()));
    }

    fn part(&mut self, event: &PartEvent) {
        let at = self.waiting.iter().position(|w| w.part == event.part);
        let own = at.and_then(|at| self.waiting.remove(at));
        let image = own.as_ref().map(|own| own.image.clone());
        if event.action != Some(Action::Accept) {
            push(&mut self.not_accepted, KEPT_PARTS, Passed { event: event.clone(), image: image.clone() });
        }
        push(&mut self.parts, KEPT_PARTS, Passed { event: event.clone(), image });
        let decided = !matches!(event.decision.verdict, Verdict::Safe(_));
        // Only of a part whose every frame was seen can be said what other rules would have made of
        // it.
        if let Some(own) = own.filter(|own| decided && own.frames.len() == event.images.len()) {
            self.history.add(event.part, own.frames);
        }
    }
}

/// What a page is made of.
pub struct Of<'a> {
    /// The site's, with everything on top.
    pub settings: &'a Settings,
    /// The bundle.
    pub bundle: &'a Bundle<'a>,
    /// Who may change something.
    pub access: Access,
    /// Where frames are.
    pub gallery: Arc<Gallery>,
    /// Where new rules go.
    pub tuning: Arc<Tuning>,
}

/// What parts are judged by.
struct Ruling {
    /// Hash of the bundle that it is for.
    bundle: [u8; 32],
    /// What holds now.
    tags: Vec<TagPolicy>,
    /// Rules of them that people set.
    overrides: Overrides,
}

/// The page's memory, and what it is for.
pub struct Page {
    access: Access,
    gallery: Arc<Gallery>,
    tuning: Arc<Tuning>,
    state: Option<StateFolder>,
    recipe: Option<String>,
    recipes: Option<Recipes>,
    roi: Option<[u32; 4]>,
    frame_timeout: Micros,
    late_edge: Micros,
    task: Task,
    policy: Policy,
    every_frame: bool,
    ruling: Mutex<Ruling>,
    /// Held by whoever saves rules, one after the other; nobody who looks waits for it.
    saving: Mutex<()>,
    memory: Mutex<Memory>,
    /// Newest frames as they were shown, oldest first.
    shown: Mutex<VecDeque<Arc<Shown>>>,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a whole value: each is replaced at once.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Page {
    /// Nothing was seen yet.
    pub fn new(of: Of<'_>) -> Self {
        let Of { settings, bundle, access, gallery, tuning } = of;
        Self {
            access,
            gallery,
            tuning,
            state: settings.site.state.clone().map(StateFolder::at),
            recipe: settings.site.recipe.clone(),
            recipes: Recipes::of(settings),
            roi: settings.roi.map(|r| [r.x, r.y, r.width, r.height]),
            frame_timeout: settings.frame_timeout.micros(),
            late_edge: settings.late_edge,
            task: bundle.contract.task,
            policy: settings.policy,
            every_frame: settings.trigger == crate::settings::TriggerKind::EveryFrame,
            ruling: Mutex::new(Ruling {
                bundle: bundle.sha256,
                tags: settings.tags.clone(),
                overrides: settings.site.overrides.clone().unwrap_or_default(),
            }),
            saving: Mutex::default(),
            memory: Mutex::default(),
            shown: Mutex::default(),
        }
    }
}

impl Page {
    /// What parts are judged by now. What people set is of a bundle: with another one its own rules
    /// hold.
    fn ruling(&self) -> MutexGuard<'_, Ruling> {
        let mut ruling = held(&self.ruling);
        let (bundle, rules) = self.tuning.newest();
        if bundle != ruling.bundle {
            (ruling.bundle, ruling.overrides) = (bundle, Overrides::default());
            ruling.tags.iter_mut().zip(rules).for_each(|(tag, rule)| tag.rule = rule);
        }
        ruling
    }

    /// Lets one save at a time, so that what another person saves meanwhile is not put back; `None`
    /// where others take too long.
    fn save(&self) -> Option<MutexGuard<'_, ()>> {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            match self.saving.try_lock() {
                Ok(saving) => return Some(saving),
                // Whoever panicked left what was saved by then.
                Err(TryLockError::Poisoned(saving)) => return Some(saving.into_inner()),
                Err(TryLockError::WouldBlock) if std::time::Instant::now() >= end => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The newest classified frame; one image is made of it, however many look. Without one: before
    /// the first, or why it cannot be shown.
    fn newest(&self) -> Result<Arc<Shown>, Option<String>> {
        let mut kept = held(&self.shown);
        if let Some(newest) = kept.back().filter(|shown| shown.number == self.gallery.count()) {
            return Ok(newest.clone());
        }
        let newest = Arc::new(self.gallery.newest().ok_or(None)?.map_err(Some)?);
        push(&mut kept, SHOWN_FRAMES, newest.clone());
        Ok(newest)
    }

    /// The frame of this number, if it was shown and is kept still.
    fn shown(&self, number: u64) -> Option<Arc<Shown>> {
        held(&self.shown).iter().find(|shown| shown.number == number).cloned()
    }
}

/// What the page is told.
pub fn wants(what: &What) -> bool {
    matches!(what, What::Trigger(_) | What::Part(_) | What::Edge(_) | What::Fault(_) | What::Status(_))
}

/// The sink that fills the page's memory.
pub struct Listener(pub Arc<Page>);

impl Sink for Listener {
    fn write(&mut self, _: &Events, event: &Event) -> std::io::Result<()> {
        crate::supervisor::lowest_priority();
        let mut memory = held(&self.0.memory);
        // A part's frames were seen before its end was told.
        memory.catch_up(&self.0.gallery);
        match &event.what {
            What::Part(part) => memory.part(part),
            What::Edge(edge) => push(&mut memory.edges, SHOWN_EDGES, *edge),
            What::Fault(fault) => memory.fault(event.at, fault),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{FaultKind, Why};
    use crate::fault::Reason;

    /// Eight writes of a PLC that may not write turned "Outputs safe" into "Running", and so did a
    /// camera that paused for three seconds.
    #[test]
    fn what_made_the_line_safe_is_known_whatever_other_faults_follow() {
        let mut memory = Memory::default();
        let fault = |kind, remedy| FaultEvent { kind, part: None, count: 1, remedy, why: Why::NONE };
        memory.fault(Instant::from_micros(5), &fault(FaultKind::Line(Reason::TooClose), Remedy::Safe));
        for at in 6..40 {
            memory.fault(Instant::from_micros(at), &fault(FaultKind::Input, Remedy::Told));
        }
        let (at, trouble) = memory.trouble.as_ref().unwrap();
        assert_eq!((at.as_micros(), trouble.kind), (5, FaultKind::Line(Reason::TooClose)));
        assert_eq!((memory.faults.len(), memory.faults[0].1.kind), (SHOWN_FAULTS, FaultKind::Input));
        memory.fault(Instant::from_micros(50), &fault(FaultKind::Line(Reason::NoFrame), Remedy::Action(Action::Reject)));
        let kinds = [&memory.trouble, &memory.safe].map(|f| f.as_ref().map(|(_, fault)| fault.kind));
        assert_eq!(kinds, [Reason::NoFrame, Reason::TooClose].map(|reason| Some(FaultKind::Line(reason))));
    }
}
