//! Acknowledgements on their way to the record.
//!
//! Who acknowledges must wait for nothing, so it only counts; a client of the run records what was
//! counted since it last looked.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts acknowledgements by where they come from.
#[derive(Debug, Default)]
pub struct Acknowledges(Vec<(String, AtomicU64)>);

impl Acknowledges {
    /// For these sources, numbered from 0.
    pub fn new(sources: impl IntoIterator<Item = String>) -> Self {
        Self(sources.into_iter().map(|who| (who, AtomicU64::new(0))).collect())
    }

    /// One more from a source.
    pub fn add(&self, source: usize) {
        if let Some((_, n)) = self.0.get(source) {
            n.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Who acknowledged since this was last asked, and how often.
    pub fn take(&self) -> impl Iterator<Item = (&str, u64)> {
        let taken = self.0.iter().map(|(who, n)| (who.as_str(), n.swap(0, Ordering::Relaxed)));
        taken.filter(|(_, n)| *n > 0)
    }
}
