//! The last part and its scores, for any thread that wants to show them; who writes never waits for who reads.

use super::PartEvent;
use crate::MAX_TAGS;
use crate::head::Score;
use heapless::Vec;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The line as it was when its last part had its end.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The part's event; `None` before the first.
    pub part: Option<PartEvent>,
    /// Scores of its last image, one a tag in the bundle's order; empty if nothing was classified.
    pub scores: Vec<Score, MAX_TAGS>,
}

/// Views in a few places: the newest is read while the next is written elsewhere.
#[derive(Debug, Default)]
pub struct Snapshot {
    places: [Mutex<View>; 4],
    newest: AtomicUsize,
}

impl Snapshot {
    /// Shows a part. Where readers hold every other place the view stays as it was: the writer never waits. One thread
    /// writes at a time.
    pub fn show(&self, part: &PartEvent, scores: &[Score]) {
        let newest = self.newest.load(Ordering::Acquire);
        let others = (1..self.places.len()).map(|i| (newest + i) % self.places.len());
        for at in others {
            if let Ok(mut view) = self.places[at].try_lock() {
                view.part = Some(part.clone());
                view.scores.clear();
                // A checked contract has at most MAX_TAGS tags.
                let _ = view.scores.extend_from_slice(scores);
                drop(view);
                self.newest.store(at, Ordering::Release);
                return;
            }
        }
    }

    /// A copy of the newest view.
    pub fn view(&self) -> View {
        let place = &self.places[self.newest.load(Ordering::Acquire)];
        place.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
