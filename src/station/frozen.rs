//! Whether two parts in a row were given the same image: a camera that shows one for ever.
//!
//! Within a part equal frames are counted by whoever takes them from the source. But parts come
//! seldom, and a camera that froze between two of them would sort the second by an image of the
//! first. So an image of the part before is never a part's own, and a part that took an image at
//! which the camera turns out to stand still is not sorted by it.

use crate::decide::MAX_FRAMES;
use crate::frame::Fingerprint;
use crate::line::PartId;
use heapless::Vec;

/// A part and the images that it took.
#[derive(Clone, Debug, Default)]
struct Shown {
    part: PartId,
    prints: Vec<Fingerprint, MAX_FRAMES>,
    /// It has a verdict that moves lines.
    decided: bool,
}

/// The images of the last two parts that took any.
#[derive(Clone, Debug, Default)]
pub(super) struct Frozen {
    before: Shown,
    newest: Shown,
    /// The camera's last image, whether or not a part took it.
    last: Option<Fingerprint>,
}

impl Frozen {
    /// Takes an image of `part`; whether it is one of the part before, byte for byte.
    pub(super) fn shows_again(&mut self, part: PartId, print: Fingerprint) -> bool {
        if self.newest.part != part {
            self.before = core::mem::replace(&mut self.newest, Shown { part, ..Shown::default() });
        }
        // A part takes no more frames than fit.
        let _ = self.newest.prints.push(print);
        self.before.prints.contains(&print)
    }

    /// Whether a part has a verdict that moves lines.
    pub(super) fn set_decided(&mut self, part: PartId, decided: bool) {
        for shown in [&mut self.before, &mut self.newest] {
            if shown.part == part {
                shown.decided = decided;
            }
        }
    }

    /// The camera shows this image.
    pub(super) fn sees(&mut self, print: Option<Fingerprint>) {
        self.last = print.or(self.last);
    }

    /// The last two parts, the older first, if they took the image that the camera shows; and
    /// whether each was given a verdict that this image may not be worth, which is told only once.
    pub(super) fn stuck(&mut self) -> [Option<(PartId, bool)>; 2] {
        let last = self.last;
        [&mut self.before, &mut self.newest].map(|shown| {
            let took = last.is_some_and(|last| shown.prints.contains(&last));
            took.then(|| (shown.part, core::mem::take(&mut shown.decided)))
        })
    }

    /// The part before the newest.
    pub(super) fn before(&self) -> PartId {
        self.before.part
    }

    /// The part before the newest, if it was given a verdict that its images may not be worth; only
    /// once.
    pub(super) fn doubtful(&mut self) -> Option<PartId> {
        core::mem::take(&mut self.before.decided).then_some(self.before.part)
    }
}
