//! A folder of images as a source: each file is a frame, and none is skipped. Names of subfolders
//! are not taken as tags.

use super::{FrameBuffer, NoFrame, Pacing, Source, SourceError, SourceSpec};
use crate::frame::{CapturedAt, TimedBy};
use crate::pictures::{self, Budget, Picture};
use crate::time::{Clock, Micros};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `dir:PATH`: the images at or below a path, in order of their names.
pub(super) struct DirectorySource {
    files: Arc<[PathBuf]>,
    clock: Arc<dyn Clock>,
    budget: Budget,
    /// What was left out of the listing, for people to read.
    remarks: Vec<String>,
    next: usize,
}

impl DirectorySource {
    pub(super) fn open(spec: &SourceSpec, clock: &Arc<dyn Clock>, budget: Budget) -> Result<Self, SourceError> {
        spec.allow(&[])?;
        let listing = pictures::list(spec.path().as_ref()).map_err(|e| spec.error(format!("cannot be listed: {e}")))?;
        let remarks: Vec<String> = listing.remarks().collect();
        if listing.files.is_empty() {
            let left_out = if remarks.is_empty() { String::new() } else { format!("; {}", remarks.join("; ")) };
            return Err(
                spec.error(format!("holds no .jpg, .jpeg, .png, .bmp or .webp{left_out}; name a folder with images"))
            );
        }
        Ok(Self { files: listing.files.into(), clock: clock.clone(), budget, remarks, next: 0 })
    }
}

impl Source for DirectorySource {
    fn next(&mut self, frame: &mut FrameBuffer, _: Duration) -> Result<(), NoFrame> {
        let Some(path) = self.files.get(self.next) else { return Err(NoFrame::End) };
        frame.sequence = self.next as u64;
        // An image from a file counts as exposed now, when it is asked for.
        frame.captured_at = CapturedAt::Exposure { at: self.clock.now(), uncertainty: Micros(0), by: TimedBy::Shown };
        frame.crossing = None;
        self.next += 1;
        // Freed before decoding, so that there is never a second image in memory.
        frame.bytes = Vec::new();
        let image = Picture::open(path, self.budget).map_err(|e| NoFrame::Corrupt(format!("{}: {e}", path.display())))?;
        frame.layout = image.layout();
        frame.bytes = image.rgb;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }

    fn pacing(&self) -> Pacing {
        Pacing::Pulled
    }

    fn files(&self) -> Option<Arc<[PathBuf]>> {
        Some(self.files.clone())
    }

    fn timed_by(&self) -> TimedBy {
        TimedBy::Shown
    }

    fn allocates(&self) -> bool {
        true
    }
}
