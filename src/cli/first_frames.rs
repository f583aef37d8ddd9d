//! The first frames of a source that somebody has just named: enough of them to know what its
//! frames' time is worth.

use super::waiting::Waiting;
use crate::sources::{FrameBuffer, NoFrame, Pacing, Source};
use crate::supervisor::SystemClock;
use crate::time::{Clock, Instant};
use std::time::Duration;

/// Frames of a live source that are taken: a camera's time may be learned from its first ones.
const FRAMES: u32 = 8;
/// How soon whoever waits can end it.
const LOOK: Duration = Duration::from_millis(100);

/// How long frames are waited for.
pub(super) struct Patience {
    /// For the first one.
    pub(super) first: Duration,
    /// For each of the others.
    pub(super) further: Duration,
}

/// Takes the first frames; the last of them is in `frame`. When the first one was there, or why
/// none came. A frame that is missed behind the first is no error: it shows in what is known of the
/// time. `waiting` is shown until the first one is there. `go_on` is asked meanwhile.
///
/// # Errors
///
/// What `go_on` says.
pub(super) fn take<E>(
    source: &mut dyn Source,
    frame: &mut FrameBuffer,
    patience: &Patience,
    waiting: Waiting,
    mut go_on: impl FnMut() -> Result<(), E>,
) -> Result<Result<Instant, NoFrame>, E> {
    let outcome = next(source, frame, patience.first, &mut go_on)?;
    drop(waiting);
    if let Err(why) = outcome {
        return Ok(Err(why));
    }
    let at = SystemClock.now();
    let frames = if source.pacing() == Pacing::Live { FRAMES } else { 1 };
    for _ in 1..frames {
        let _ = next(source, frame, patience.further, &mut go_on)?;
    }
    Ok(Ok(at))
}

fn next<E>(
    source: &mut dyn Source,
    frame: &mut FrameBuffer,
    patience: Duration,
    go_on: &mut impl FnMut() -> Result<(), E>,
) -> Result<Result<(), NoFrame>, E> {
    let begin = std::time::Instant::now();
    loop {
        let left = patience.saturating_sub(begin.elapsed());
        match source.next(frame, left.min(LOOK)) {
            Err(NoFrame::Timeout) if left > LOOK => go_on()?,
            outcome => return Ok(outcome),
        }
    }
}
