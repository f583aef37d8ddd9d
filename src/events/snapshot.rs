//! What any thread may look at without making the line wait: the last image, the last parts, each
//! output's last edge, and whether the camera works.
//!
//! Each of the first three stands in a [`Newest`]: a few places of memory, of which the newest is read
//! while the next is written elsewhere. All memory is there from the start, so showing allocates
//! nothing. Figures are in [`Counters`](super::Counters).

use super::{EdgeEvent, PartEvent};
use crate::MAX_TAGS;
use crate::head::Score;
use crate::line::MAX_LINES;
use crate::time::Instant;
use heapless::{Deque, Vec};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

/// How many of the last parts are shown.
pub const LAST_PARTS: usize = 16;

/// The line as it was when its last part had its end.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The part's event; `None` before the first.
    pub part: Option<PartEvent>,
    /// Scores of its last image, one a tag in the bundle's order; empty if nothing was classified.
    pub scores: Vec<Score, MAX_TAGS>,
    /// The last parts, this one included, oldest first.
    pub parts: Deque<PartEvent, LAST_PARTS>,
}

/// The image that was classified last, as the model saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The part that it counts for; 0 before the first.
    pub part: u64,
    /// Its stamp.
    pub captured_at: Instant,
    /// Columns and rows.
    pub size: [u32; 2],
    /// RGB8, row by row without padding.
    pub rgb: std::vec::Vec<u8>,
    /// Its scores, one a tag in the bundle's order.
    pub scores: Vec<Score, MAX_TAGS>,
}

/// Each output's last edge, in the order of device.toml.
pub type Edges = [Option<EdgeEvent>; MAX_LINES];

/// A value that one thread at a time replaces while any number read it. The writer never waits:
/// where readers hold every place but the newest, the value stays as it was.
#[derive(Debug)]
struct Newest<T> {
    places: [Mutex<T>; 4],
    newest: AtomicUsize,
}

impl<T: Clone> Newest<T> {
    fn new(first: &T) -> Self {
        Self { places: std::array::from_fn(|_| Mutex::new(first.clone())), newest: AtomicUsize::new(0) }
    }

    /// `fill` writes the new value over an old one.
    fn write(&self, fill: impl FnOnce(&mut T)) {
        let newest = self.newest.load(Ordering::Acquire);
        let others = (1..self.places.len()).map(|i| (newest + i) % self.places.len());
        for at in others {
            let mut place = match self.places[at].try_lock() {
                Ok(place) => place,
                // A reader that panicked wrote nothing.
                Err(TryLockError::Poisoned(place)) => place.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            fill(&mut place);
            drop(place);
            self.newest.store(at, Ordering::Release);
            return;
        }
    }

    fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let place = &self.places[self.newest.load(Ordering::Acquire)];
        look(&place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is shown.
#[derive(Debug)]
pub struct Snapshot {
    image: Newest<Shown>,
    view: Newest<View>,
    edges: Newest<Edges>,
    camera: AtomicBool,
    /// What the writers have shown so far, of which each place holds a copy: never waited for
    /// either.
    last_parts: Mutex<Deque<PartEvent, LAST_PARTS>>,
    last_edges: Mutex<Edges>,
}

impl Snapshot {
    /// Nothing was shown yet. `size`: columns and rows of the model's input image.
    pub fn new(size: [u32; 2]) -> Self {
        let rgb = vec![0; 3 * size[0] as usize * size[1] as usize];
        let none = [const { None }; MAX_LINES];
        Self {
            image: Newest::new(&Shown { size, rgb, ..Shown::default() }),
            view: Newest::new(&View::default()),
            edges: Newest::new(&none),
            camera: AtomicBool::new(false),
            last_parts: Mutex::default(),
            last_edges: Mutex::new(none),
        }
    }

    /// Shows the image that was classified. One thread writes at a time. `rgb`: RGB8 of the model's
    /// size, or it is not shown.
    pub fn show_image(&self, part: u64, captured_at: Instant, rgb: &[u8], scores: &[Score]) {
        self.image.write(|shown| {
            if shown.rgb.len() == rgb.len() {
                (shown.part, shown.captured_at) = (part, captured_at);
                shown.rgb.copy_from_slice(rgb);
                set(&mut shown.scores, scores);
            }
        });
    }

    /// Shows a part. One thread writes at a time.
    pub fn show(&self, part: &PartEvent, scores: &[Score]) {
        let Ok(mut parts) = self.last_parts.try_lock() else { return };
        if parts.is_full() {
            parts.pop_front();
        }
        // There is room now.
        let _ = parts.push_back(part.clone());
        self.view.write(|view| {
            view.part = Some(part.clone());
            set(&mut view.scores, scores);
            view.parts.clone_from(&parts);
        });
    }

    /// Shows an edge. One thread writes at a time.
    pub fn show_edge(&self, edge: &EdgeEvent) {
        let Ok(mut edges) = self.last_edges.try_lock() else { return };
        if let Some(last) = edges.get_mut(edge.output as usize) {
            *last = Some(*edge);
            self.edges.write(|shown| *shown = *edges);
        }
    }

    /// Shows whether frames come that can be used.
    pub fn show_camera(&self, works: bool) {
        self.camera.store(works, Ordering::Relaxed);
    }

    /// Whether frames come that can be used; not before the first.
    pub fn camera_works(&self) -> bool {
        self.camera.load(Ordering::Relaxed)
    }

    /// A copy of the newest view.
    pub fn view(&self) -> View {
        self.view.read(View::clone)
    }

    /// Looks at the last image without copying it. Who looks for long sees the line go on
    /// elsewhere, and others wait.
    pub fn image<R>(&self, look: impl FnOnce(&Shown) -> R) -> R {
        self.image.read(look)
    }

    /// Each output's last edge; `None` where it has not moved.
    pub fn edges(&self) -> Edges {
        self.edges.read(|edges| *edges)
    }
}

/// A checked contract has at most [`MAX_TAGS`] tags, so all fit.
fn set(scores: &mut Vec<Score, MAX_TAGS>, new: &[Score]) {
    scores.clear();
    let _ = scores.extend_from_slice(new);
}
