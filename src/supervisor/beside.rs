//! What a run has beside its line: who looks at each classified frame, and new rules for the parts
//! to come.
//!
//! The line's thread hands both over in passing. It waits for nobody: whoever looks takes what it
//! is shown at once or misses it, and rules that are being written at that moment are taken a beat
//! later.

use crate::audit::Acknowledges;
use crate::decide::TagRule;
use crate::head::Score;
use crate::sources::FrameBuffer;
use crate::time::Instant;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A frame that was classified.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The part that it counts for.
    pub part: u64,
    /// Its stamp.
    pub captured_at: Instant,
    /// The model's input image, RGB8.
    pub rgb: &'a [u8],
    /// Its scores, one a tag in the bundle's order.
    pub scores: &'a [Score],
    /// Whether it lies beyond the distance limit.
    pub beyond: bool,
}

/// Looks at each classified frame, on the line's thread: it must neither wait nor allocate, nor
/// panic.
pub trait Onlooker: Send + Sync {
    /// `frame`: the frame itself, which may be exchanged for memory of the onlooker's own.
    fn saw(&self, seen: &Seen<'_>, frame: &mut FrameBuffer);
}

/// New thresholds and bands on their way to the line.
#[derive(Debug, Default)]
pub struct Tuning {
    waits: AtomicBool,
    rules: Mutex<Option<Vec<TagRule>>>,
}

impl Tuning {
    /// Hands rules, one a tag in the bundle's order, to the line. Of several that wait the last
    /// counts.
    pub fn set(&self, rules: Vec<TagRule>) {
        *self.rules.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(rules);
        self.waits.store(true, Ordering::Release);
    }

    /// Rules that wait; `None` also while somebody writes them.
    pub(super) fn take(&self) -> Option<Vec<TagRule>> {
        if !self.waits.swap(false, Ordering::AcqRel) {
            return None;
        }
        // Taken back before the look, so that rules that come meanwhile are not forgotten.
        let Ok(mut rules) = self.rules.try_lock() else {
            self.waits.store(true, Ordering::Release);
            return None;
        };
        rules.take()
    }
}

/// What a run has beside its line.
#[derive(Clone, Default)]
pub struct Beside {
    /// Who looks at classified frames.
    pub onlooker: Option<Arc<dyn Onlooker>>,
    /// New rules.
    pub tuning: Option<Arc<Tuning>>,
    /// Who counts acknowledgements: those of each input by its number among the run's.
    pub acknowledges: Option<Arc<Acknowledges>>,
}
