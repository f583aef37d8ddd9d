//! A folder of pictures as a source: each file is a frame, none is skipped.
//!
//! Knows no tag: a folder's name means nothing here.

use super::{FrameBuffer, NoFrame, Pacing, Source, SourceError, SourceSpec, Stamp};
use crate::pictures::{self, Picture};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `dir:PATH`: the pictures at or below a path, in order of their names.
pub(super) struct DirectorySource {
    files: Arc<[PathBuf]>,
    next: usize,
}

impl DirectorySource {
    pub(super) fn open(spec: &SourceSpec) -> Result<Self, SourceError> {
        spec.allow(&[])?;
        let files = pictures::list(spec.path().as_ref()).map_err(|e| spec.error(format!("cannot be listed: {e}")))?;
        if files.is_empty() {
            return Err(spec.error("holds no .jpg, .jpeg, .png, .bmp or .webp; name a folder with pictures"));
        }
        Ok(Self { files: files.into(), next: 0 })
    }
}

impl Source for DirectorySource {
    fn next(&mut self, frame: &mut FrameBuffer, _: Duration) -> Result<(), NoFrame> {
        let Some(path) = self.files.get(self.next) else { return Err(NoFrame::End) };
        frame.sequence = self.next as u64;
        frame.stamp = Stamp::Arrival;
        frame.crossing = None;
        self.next += 1;
        let picture = Picture::open(path).map_err(|e| NoFrame::Corrupt(format!("{}: {e}", path.display())))?;
        frame.layout = picture.layout();
        frame.bytes = picture.rgb;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    fn pacing(&self) -> Pacing {
        Pacing::Pulled
    }

    fn files(&self) -> Option<Arc<[PathBuf]>> {
        Some(self.files.clone())
    }

    fn allocates(&self) -> bool {
        true
    }
}
