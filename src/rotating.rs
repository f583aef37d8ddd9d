//! Append-only files of whole lines that are rotated before they grow beyond a cap.
//!
//! A rotated file is FILE.1, the one before FILE.2, and so on; the oldest goes. Nothing else is ever lost: a rotation that
//! cannot be done is put off while the file may still grow to twice its cap; a line that was written in part is taken back; a
//! file or folder that was removed is made again with the next line.

use std::fs::{File, OpenOptions};
use std::io::{Error, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A file that is rotated before it grows beyond its cap.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    /// `None` until it could be opened.
    open: Option<Open>,
    max_bytes: u64,
    files: u32,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode: whether the path still names this file.
    id: (u64, u64),
    size: u64,
    /// The file ends within a line that could not be taken back.
    torn: bool,
}

impl RotatingFile {
    /// Opens or makes the file and goes on at its end. `max_bytes`: its cap. `files`: rotated files that are kept.
    pub fn open(path: &Path, max_bytes: u64, files: u32) -> std::io::Result<Self> {
        let mut file = Self::at(path, max_bytes, files);
        file.reopen()?;
        Ok(file)
    }

    /// The same, opened with its first line.
    pub fn at(path: &Path, max_bytes: u64, files: u32) -> Self {
        Self { path: path.into(), open: None, max_bytes, files }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{ending}"));
        name.into()
    }

    fn rotated(&self, n: u32) -> PathBuf {
        self.beside(&n.to_string())
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        self.open = None;
        // Readable only where it is a plain file: a pipe that is opened for reading too never breaks.
        let plain = std::fs::metadata(&self.path).map_or(true, |m| m.is_file());
        let mut file = OpenOptions::new().create(true).append(true).read(plain).open(&self.path)?;
        let about = file.metadata()?;
        let torn = about.is_file() && !ends_with_line(&mut file, about.len())?;
        let size = file.metadata()?.len();
        self.open = Some(Open { file, id: (about.dev(), about.ino()), size, torn });
        Ok(())
    }

    /// Appends whole lines; rotates first if they would not fit. After an error none of them stands in the file.
    pub fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let there = std::fs::metadata(&self.path).ok().map(|m| (m.dev(), m.ino()));
        if self.open.as_ref().is_none_or(|open| there != Some(open.id)) {
            self.reopen()?;
        }
        let size = self.open.as_ref().map_or(0, |open| open.size);
        let needed = size + lines.len() as u64;
        if size > 0
            && needed > self.max_bytes
            && let Err(e) = self.rotate()
            && needed > 2 * self.max_bytes
        {
            return Err(Error::new(e.kind(), format!("cannot be rotated: {e}")));
        }
        match &mut self.open {
            Some(open) => open.append(lines),
            None => Err(Error::other("the file is not open")),
        }
    }

    /// Moves every file on by one number. Whatever fails, no file is written over that was to be kept.
    fn rotate(&mut self) -> std::io::Result<()> {
        let fresh = self.beside("new");
        let _ = std::fs::remove_file(&fresh);
        // Opened before anything moves: without a free descriptor everything stays as it is.
        let file = OpenOptions::new().create_new(true).append(true).open(&fresh)?;
        let about = file.metadata()?;
        // A gap in the numbers is left by a rotation that stopped half-way: files above it have moved already.
        let gap = (1..self.files).find(|n| !self.rotated(*n).exists()).unwrap_or(self.files);
        for n in (1..gap).rev() {
            std::fs::rename(self.rotated(n), self.rotated(n + 1))?;
        }
        if self.files > 0 {
            std::fs::rename(&self.path, self.rotated(1))?;
        }
        std::fs::rename(&fresh, &self.path)?;
        self.open = Some(Open { file, id: (about.dev(), about.ino()), size: 0, torn: false });
        Ok(())
    }
}

impl Open {
    fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.torn {
            self.write_whole(b"\n")?;
            self.torn = false;
        }
        self.write_whole(lines)
    }

    fn write_whole(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.write(&bytes[done..]) {
                Ok(0) => return Err(self.take_back(done, Error::from(std::io::ErrorKind::WriteZero))),
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.take_back(done, e)),
            }
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Removes the beginning of what could not be written to its end.
    fn take_back(&mut self, done: usize, why: Error) -> Error {
        if done > 0 {
            let cut = self.file.metadata().and_then(|m| self.file.set_len(m.len().saturating_sub(done as u64)));
            self.torn = cut.is_err();
        }
        why
    }
}

/// Says whether a log of events could be made or continued at `path`, without touching it. A file that holds something else is
/// no log: settings or a bundle would be destroyed by lines at their end.
pub fn probe(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err(format!("{} is a folder, expected a file; add a name to the path", path.display()));
    }
    if path.is_file() {
        let mut first = [0];
        let read = File::open(path).and_then(|file| file.read_at(&mut first, 0));
        match read {
            Ok(1) if first != *b"{" => {
                return Err(format!("{} holds something else than events; choose another path", path.display()));
            }
            Err(e) => return Err(format!("{} cannot be read: {e}; change its owner or the path", path.display())),
            Ok(_) => {}
        }
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(format!("folder {} does not exist; make it or change the path", folder.display()));
    }
    let place = if path.exists() { path } else { folder };
    match rustix::fs::access(place, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Ok(format!("file {}", path.display())),
        Err(e) => Err(format!("{} cannot be written: {e}; change its owner or the path", place.display())),
    }
}

/// Whether a file of `len` bytes is empty or ends with a line's end. The rest of a line of ours, left by a process that was
/// killed in the middle of it, is cut off.
fn ends_with_line(file: &mut File, len: u64) -> std::io::Result<bool> {
    const LONGEST: u64 = 1 << 16;
    if len == 0 {
        return Ok(true);
    }
    let begin = len.saturating_sub(LONGEST);
    let mut tail = vec![0; (len - begin) as usize];
    file.read_exact_at(&mut tail, begin)?;
    if tail.last() == Some(&b'\n') {
        return Ok(true);
    }
    let at = tail.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    if tail[at..].starts_with(b"{\"schema\":") {
        file.set_len(begin + at as u64)?;
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tagpin-rotate-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// An event log on the settings file itself was accepted, and its lines made the settings unreadable.
    #[test]
    fn a_file_of_something_else_is_no_log_and_a_log_is_continued() {
        let folder = folder("probe");
        let path = folder.join("file");
        for (bytes, good) in [("[line]\n", false), ("\u{89}TAGPIN", false), ("", true), ("{\"schema\":2}\n", true)] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(probe(&path).is_ok(), good, "{bytes:?}: {:?}", probe(&path));
            assert_eq!(read(&path), bytes, "it is not touched");
        }
        assert!(probe(&folder).unwrap_err().contains("is a folder"));
        assert!(probe(&folder.join("new")).is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn files_rotate_at_their_cap_and_the_oldest_goes() {
        let folder = folder("cap");
        let mut file = RotatingFile::open(&folder.join("log"), 30, 2).unwrap();
        for i in 0..10 {
            file.append(format!("line number {i}\n").as_bytes()).unwrap();
        }
        assert_eq!(read(&folder.join("log")), "line number 8\nline number 9\n");
        assert_eq!(read(&folder.join("log.1")), "line number 6\nline number 7\n");
        assert_eq!(read(&folder.join("log.2")), "line number 4\nline number 5\n");
        assert!(!folder.join("log.3").exists() && !folder.join("log.new").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A rotation that failed half-way was done again with each line, until every file of history had been written over.
    #[test]
    fn a_rotation_that_cannot_be_done_is_put_off_and_no_history_goes() {
        let folder = folder("stuck");
        let mut file = RotatingFile::open(&folder.join("log"), 30, 3).unwrap();
        for i in 0..6 {
            file.append(format!("line number {i}\n").as_bytes()).unwrap();
        }
        let history = [read(&folder.join("log.1")), read(&folder.join("log.2"))];
        // The new file's name is taken by a folder that is not empty: the rotation cannot begin.
        std::fs::create_dir_all(folder.join("log.new/x")).unwrap();
        file.append(b"line number 6\n").unwrap();
        file.append(b"line number 7\n").unwrap();
        assert!(file.append(b"line number 8\n").is_err(), "twice its cap is enough");
        assert_eq!([read(&folder.join("log.1")), read(&folder.join("log.2"))], history);
        std::fs::remove_dir_all(folder.join("log.new")).unwrap();
        file.append(b"line number 9\n").unwrap();
        assert_eq!(read(&folder.join("log")), "line number 9\n");
        assert_eq!(read(&folder.join("log.1")), "line number 4\nline number 5\nline number 6\nline number 7\n");
        assert_eq!([read(&folder.join("log.2")), read(&folder.join("log.3"))], history);
        // A rotation that stopped between two files leaves a gap, and the next one fills it.
        std::fs::rename(folder.join("log.1"), folder.join("kept")).unwrap();
        let above = [read(&folder.join("log.2")), read(&folder.join("log.3"))];
        file.append(b"a line that is longer than the cap of this file\n").unwrap();
        assert_eq!([read(&folder.join("log.2")), read(&folder.join("log.3"))], above);
        assert_eq!(read(&folder.join("log.1")), "line number 9\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A log whose folder was removed went on into a file without a name.
    #[test]
    fn a_folder_that_is_removed_costs_its_lines_and_writing_goes_on_when_it_is_back() {
        let folder = folder("gone");
        let path = folder.join("sub/log");
        std::fs::create_dir(folder.join("sub")).unwrap();
        let mut file = RotatingFile::open(&path, 1000, 2).unwrap();
        file.append(b"one\n").unwrap();
        std::fs::remove_dir_all(folder.join("sub")).unwrap();
        assert!(file.append(b"two\n").is_err());
        std::fs::create_dir(folder.join("sub")).unwrap();
        file.append(b"three\n").unwrap();
        assert_eq!(read(&path), "three\n");
        // Moved away by another program, as log rotation of the system does.
        std::fs::rename(&path, folder.join("sub/moved")).unwrap();
        file.append(b"four\n").unwrap();
        assert_eq!((read(&path).as_str(), read(&folder.join("sub/moved")).as_str()), ("four\n", "three\n"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A line that a full disk cut in two had the next one fused to it.
    #[test]
    fn what_is_left_of_a_line_never_joins_the_next() {
        let folder = folder("torn");
        let path = folder.join("log");
        std::fs::write(&path, "{\"schema\":2,\"a\":1}\n{\"schema\":2,\"ev").unwrap();
        RotatingFile::open(&path, 1000, 2).unwrap().append(b"{\"schema\":2}\n").unwrap();
        assert_eq!(read(&path), "{\"schema\":2,\"a\":1}\n{\"schema\":2}\n");
        std::fs::write(&path, "somebody's file").unwrap();
        RotatingFile::open(&path, 1000, 2).unwrap().append(b"{\"schema\":2}\n").unwrap();
        assert_eq!(read(&path), "somebody's file\n{\"schema\":2}\n", "what is not ours is kept");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
