//! Files of JSON lines with a size cap: the `events` backend for edges, and the site's event log.
//!
//! Knows no event's meaning. A rotated file is FILE.1, the one before FILE.2, and so on; the oldest is removed.

use super::{Output, OutputError, State};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An append-only file that is rotated before it grows beyond its cap.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
    files: u32,
}

impl RotatingFile {
    /// Opens or makes the file and goes on at its end.
    pub fn open(path: &Path, max_bytes: u64, files: u32) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.into(), file, size, max_bytes, files })
    }

    fn rotated(&self, n: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        name.into()
    }

    /// Appends whole lines; rotates first if they would not fit.
    pub fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.size > 0 && self.size + lines.len() as u64 > self.max_bytes {
            for n in (1..self.files).rev() {
                if self.rotated(n).exists() {
                    std::fs::rename(self.rotated(n), self.rotated(n + 1))?;
                }
            }
            if self.files > 0 {
                std::fs::rename(&self.path, self.rotated(1))?;
            } else {
                std::fs::remove_file(&self.path)?;
            }
            *self = Self::open(&self.path, self.max_bytes, self.files)?;
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }
}

/// One line a state.
pub(super) struct EdgeFile {
    name: String,
    file: RotatingFile,
    line: String,
}

impl EdgeFile {
    pub(super) fn open(name: &str, path: &Path, max_bytes: u64, files: u32, first: State) -> Result<Self, String> {
        let file =
            RotatingFile::open(path, max_bytes, files).map_err(|e| format!("{} cannot be opened: {e}", path.display()))?;
        let mut output = Self { name: name.into(), file, line: String::with_capacity(128) };
        output.apply(first).map_err(|e| e.why)?;
        Ok(output)
    }
}

impl Output for EdgeFile {
    fn apply(&mut self, state: State) -> Result<(), OutputError> {
        use std::fmt::Write as _;
        let state = if state == State::Active { "active" } else { "inactive" };
        self.line.clear();
        let written =
            writeln!(self.line, "{{\"schema\":1,\"event\":\"line\",\"line\":\"{}\",\"state\":\"{state}\"}}", self.name);
        written.expect("writing to a String cannot fail");
        self.file.append(self.line.as_bytes()).map_err(|e| OutputError {
            output: self.name.clone(),
            why: format!("{} cannot be written: {e}", self.file.path.display()),
        })
    }
}

pub(super) fn probe(path: &Path) -> Result<String, String> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(m) if m.is_dir() => Ok(format!("file {}", path.display())),
        _ => Err(format!("folder {} does not exist; make it or change the path", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_rotate_at_their_cap_and_the_oldest_goes() {
        let folder = std::env::temp_dir().join(format!("tagpin-rotate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log");
        let mut file = RotatingFile::open(&path, 30, 2).unwrap();
        for i in 0..10 {
            file.append(format!("line number {i}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("log"), "line number 8\nline number 9\n");
        assert_eq!(read("log.1"), "line number 6\nline number 7\n");
        assert_eq!(read("log.2"), "line number 4\nline number 5\n");
        assert!(!folder.join("log.3").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
