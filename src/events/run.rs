//! What is known of a run as a whole: at its start, at its end, and of its sinks.

use crate::decide::{Role, Task};
use crate::head::TagId;
use crate::outputs::State;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// What a run is: names for numbers, and its first event.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Opening {
    /// The program's version.
    pub version: &'static str,
    /// The device.
    pub device: Device,
    /// The source string.
    pub source: String,
    /// How the time of its frames is found.
    pub time: &'static str,
    /// What the camera decides by itself.
    pub automatic: Vec<&'static str>,
    /// The kernels in use.
    pub kernel: &'static str,
    /// SHA-256 of the bundle, in hexadecimal.
    pub bundle_sha256: String,
    /// The bundle.
    pub bundle: BundleRecord,
    /// Tags in order.
    pub tags: Vec<TagRecord>,
    /// Outputs in order.
    pub outputs: Vec<OutputRecord>,
    /// Names of the source's images by their sequence numbers, where it has them.
    #[serde(skip)]
    pub files: Option<Arc<[PathBuf]>>,
    /// Columns and rows of the model's input image.
    #[serde(skip)]
    pub image: [u32; 2],
}

impl Opening {
    /// A tag's name.
    pub(super) fn tag(&self, id: TagId) -> &str {
        self.tags.get(id.0 as usize).map_or("?", |t| &t.tag)
    }

    /// An output's name.
    pub(super) fn output(&self, index: u8) -> &str {
        self.outputs.get(index as usize).map_or("?", |o| &o.output)
    }

    /// The name of the source's image with this number, where it has names.
    pub(super) fn file(&self, sequence: u64) -> Option<String> {
        let files = self.files.as_ref()?;
        files.get(usize::try_from(sequence).ok()?).map(|path| path.display().to_string())
    }
}

/// A device.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Device {
    /// The board's model as its device tree names it.
    pub board: Option<String>,
    /// The kernels in use.
    pub kernels: &'static str,
    /// The program's version.
    pub version: &'static str,
}

/// A bundle.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BundleRecord {
    /// The model's name.
    pub name: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The format's version.
    pub format: u32,
    /// How many tags hold at once.
    pub task: &'static str,
}

/// The name of a task.
pub const fn task_name(task: Task) -> &'static str {
    match task {
        Task::Multiclass => "multiclass",
        Task::Multilabel => "multilabel",
    }
}

/// A tag and what the site does with it.
#[derive(Clone, Debug, Serialize)]
pub struct TagRecord {
    /// Its name.
    pub tag: String,
    /// What it stands for.
    pub role: Role,
    /// What happens to a part that has it.
    pub action: &'static str,
    /// The probability from which a frame votes for it.
    pub threshold: f64,
    /// The probability from which it lies in its review band.
    pub review_low: f64,
}

/// An output.
#[derive(Clone, Debug, Serialize)]
pub struct OutputRecord {
    /// Its name.
    pub output: String,
    /// Its backend.
    pub backend: &'static str,
    /// Where it is.
    pub place: String,
    /// How it moves.
    pub mode: &'static str,
    /// Microseconds that a pulse lasts.
    pub width: Option<u64>,
    /// Microseconds from a part's trigger to its gate.
    pub delay: Option<u64>,
    /// Encoder counts from a part's trigger to its gate.
    pub delay_counts: Option<u32>,
    /// Its state whenever anything is wrong.
    pub safe: State,
}

/// What the run's end leaves behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Closing {
    /// Why the run ended.
    pub ended: String,
    /// Outputs that are not known to be in their safe state.
    pub outputs_unknown: Vec<String>,
    /// Time from capture to scores in microseconds: p50, p99.
    pub latency: [u32; 2],
    /// Time from an edge's due time until it was done in microseconds: p50, p99, p99.9, largest.
    pub edge_jitter: [u32; 4],
    /// Priority and memory lock that outputs are timed with, where they follow parts.
    pub realtime: Option<String>,
}

/// How a sink does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SinkRecord {
    /// Its name.
    pub sink: &'static str,
    /// Events it has written.
    pub written: u64,
    /// Events it could not take or write.
    pub lost: u64,
    /// How often it was started again.
    pub restarts: u64,
}
