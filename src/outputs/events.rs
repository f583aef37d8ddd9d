//! The `events` backend: a file that gets one JSON line a state.
//!
//! Read for one release; events of edges are in the log of `[events]`, which the line does not wait for.

use super::{Output, OutputError, State};
use crate::rotating::RotatingFile;
use std::path::Path;

/// What a line of the file says.
#[derive(serde::Serialize)]
struct Line<'a> {
    schema: u32,
    event: &'static str,
    line: &'a str,
    state: State,
}

/// One line a state.
pub(super) struct EdgeFile {
    name: String,
    file: RotatingFile,
    line: Vec<u8>,
}

impl EdgeFile {
    pub(super) fn open(name: &str, path: &Path, max_bytes: u64, files: u32, first: State) -> Result<Self, String> {
        let file =
            RotatingFile::open(path, max_bytes, files).map_err(|e| format!("{} cannot be opened: {e}", path.display()))?;
        let mut output = Self { name: name.into(), file, line: Vec::with_capacity(128) };
        output.apply(first).map_err(|e| e.why)?;
        Ok(output)
    }
}

impl Output for EdgeFile {
    fn apply(&mut self, state: State) -> Result<(), OutputError> {
        self.line.clear();
        let line = Line { schema: 1, event: "line", line: &self.name, state };
        serde_json::to_writer(&mut self.line, &line).expect("names and words are always JSON");
        self.line.push(b'\n');
        self.file.append(&self.line).map_err(|e| OutputError {
            output: self.name.clone(),
            why: format!("{} cannot be written: {e}", self.file.path().display()),
        })
    }
}
