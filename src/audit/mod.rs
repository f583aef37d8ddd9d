//! The record of changes: who changed what, when, in a file that is only added to.
//!
//! [`chain`] is how its lines hang together. Several processes may write: each takes the file's
//! lock, goes on from the last line, and writes to the disk before it says that it has. A line that
//! could not be written whole is taken back. Nothing here is called from a thread of the line:
//! acknowledgements are counted there ([`Acknowledges`]) and recorded by a client of the run.

mod acknowledges;
mod chain;

pub use acknowledges::Acknowledges;
pub use chain::{Change, Misfit, Record, Whole, verify};

use crate::calendar::iso8601;
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Its name in the state folder.
pub const FILE: &str = "audit.log";

/// Up to this length the whole record is looked through before a line is added, beyond it the last
/// line, so that a change never waits for a long file.
const LOOKED_THROUGH: u64 = 1 << 20;

/// A record of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    file: PathBuf,
}

/// Why a change cannot be recorded, or the record not be read.
#[derive(Debug)]
pub enum AuditError {
    /// The system refuses it.
    Io(PathBuf, std::io::Error),
    /// Its last line is none: somebody changed it, or it is another file.
    End(PathBuf),
    /// A line does not fit: somebody changed it.
    Changed(PathBuf, Misfit),
}

impl std::fmt::Display for AuditError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(file, e) => write!(f, "{}: {e}", file.display()),
            Self::End(file) => write!(
                f,
                "{}: its last line does not fit; look at it with `tagpin audit verify`, then move the file away",
                file.display()
            ),
            Self::Changed(file, Misfit { line, why }) => write!(
                f,
                "{}: line {line}: {why}; look at it with `tagpin audit verify`, then move the file away",
                file.display()
            ),
        }
    }
}

impl std::error::Error for AuditError {}

impl Log {
    /// The record in a state folder, which need not be there yet.
    pub fn of_state(folder: &Path) -> Self {
        Self { file: folder.join(FILE) }
    }

    /// The record that is there already in `folder` or in the one that holds it.
    pub fn beside(folder: &Path) -> Option<Self> {
        let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
        let logs = [Some(folder.as_path()), folder.parent()].into_iter().flatten().map(Self::of_state);
        // Also where it is none that can be written: what is to be recorded is refused then.
        logs.into_iter().find(|log| log.file.symlink_metadata().is_ok())
    }

    /// The record at `file`.
    pub fn at(file: &Path) -> Self {
        Self { file: file.into() }
    }

    fn told(&self, e: impl Into<std::io::Error>) -> AuditError {
        AuditError::Io(self.file.clone(), e.into())
    }

    /// Opens the file to add to it, and makes it where it is not there: as the folder's owner's,
    /// whoever runs this. Follows no link: root may write into a folder of somebody else.
    fn open(&self) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o640).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as _);
        let file = match options.open(&self.file) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let file = options.create(true).open(&self.file)?;
                let folder = File::open(self.file.parent().unwrap_or(Path::new(".")))?;
                let about = folder.metadata()?;
                // Who is not root makes files of its own only, and they are right.
                let _ = fchown(&file, Some(about.uid()), Some(about.gid()));
                folder.sync_all()?;
                file
            }
            opened => opened?,
        };
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(std::io::Error::new(ErrorKind::InvalidInput, "is no regular file")),
        }
    }

    /// Whether changes can be recorded, as far as that can be said without one.
    pub fn probe(&self) -> Result<(), AuditError> {
        self.append(Vec::new())
    }

    /// Records changes, all or none; they are on the disk when this returns.
    pub fn append(&self, changes: Vec<Change>) -> Result<(), AuditError> {
        let mut file = self.open().map_err(|e| self.told(e))?;
        // Until it is closed.
        flock(&file, FlockOperation::LockExclusive).map_err(|e| self.told(e))?;
        let length = file.metadata().map_err(|e| self.told(e))?.len();
        if length <= LOOKED_THROUGH {
            let found = file.rewind().and_then(|()| verify(&mut BufReader::new(&file), &mut |_, _, _| {}));
            found.map_err(|e| self.told(e))?.map_err(|misfit| AuditError::Changed(self.file.clone(), misfit))?;
        }
        let begin = length.saturating_sub(2 * chain::LONGEST as u64);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(begin)).and_then(|_| file.read_to_end(&mut tail)).map_err(|e| self.told(e))?;
        let end = chain::End::of(&tail, begin == 0).ok_or_else(|| AuditError::End(self.file.clone()))?;
        if changes.is_empty() {
            return Ok(());
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = crate::events::clock_is_set().then(|| iso8601(since_1970));
        let lines = end.lines(changes, time.as_deref());
        file.write_all(&lines).and_then(|()| file.sync_data()).map_err(|e| {
            // Half a line would be read as a power cut's.
            let _ = file.set_len(length);
            self.told(e)
        })
    }

    /// Reads it to its end, or to the first line that does not fit; `see` gets each record with its
    /// line's number and hash. `None`: it does not fit, and where.
    pub fn verify(&self, see: &mut dyn FnMut(u64, &str, &Record)) -> Result<Result<Whole, Misfit>, AuditError> {
        crate::regular::size(&self.file, u64::MAX).map_err(|e| self.told(e))?;
        let file = File::open(&self.file).map_err(|e| self.told(e))?;
        // Nobody is amid a line then. A file system without locks cannot say it.
        let _ = flock(&file, FlockOperation::LockShared);
        verify(&mut BufReader::new(file), see).map_err(|e| self.told(e))
    }

    /// Where it does not fit, in words; `None` where it does, or is not there yet.
    pub fn misfit(&self) -> Option<String> {
        let Misfit { line, why } = self.verify(&mut |_, _, _| {}).ok()?.err()?;
        Some(format!("{}: line {line}: {why}; look at it with `tagpin audit verify`", self.file.display()))
    }

    /// What `what` was set to last; `None` if that was never recorded.
    pub fn last(&self, what: &str) -> Option<String> {
        self.last_of(|record| record.what == what).map(|record| record.new)
    }

    /// The last record that `fits`.
    pub fn last_of(&self, fits: impl Fn(&Record) -> bool) -> Option<Record> {
        let mut last = None;
        let mut see = |_: u64, _: &str, record: &Record| {
            if fits(record) {
                last = Some(record.clone());
            }
        };
        // What does not fit is told by who verifies.
        let _ = self.verify(&mut see);
        last
    }
}

/// Who runs this process: the user's name, and for whom where `sudo` says so.
pub fn user() -> String {
    let uid = rustix::process::getuid();
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid.as_raw())).then(|| name.to_string())
    };
    let name = table.lines().find_map(of).unwrap_or_else(|| uid.as_raw().to_string());
    match std::env::var("SUDO_USER").ok().filter(|_| uid.is_root()) {
        Some(person) => format!("user {name} for {person}"),
        None => format!("user {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tagpin-audit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn change(what: &str, new: String) -> Vec<Change> {
        vec![Change { who: "test".into(), what: what.into(), old: String::new(), new }]
    }

    #[test]
    fn several_writers_at_once_lose_and_tear_nothing() {
        let folder = folder("writers");
        let log = Log::of_state(&folder);
        let write = |writer: u64| (0..50).for_each(|i| log.append(change(&format!("w{writer}"), i.to_string())).unwrap());
        std::thread::scope(|scope| (0..4).for_each(|writer| drop(scope.spawn(move || write(writer)))));
        let mut seen = [const { Vec::new() }; 4];
        let whole = log.verify(&mut |_, _, r| seen[r.what[1..].parse::<usize>().unwrap()].push(r.new.clone())).unwrap();
        assert_eq!(whole.unwrap().records, 200);
        let expected: Vec<String> = (0..50).map(|i: u64| i.to_string()).collect();
        assert!(seen.iter().all(|of_one| *of_one == expected));
        assert_eq!((log.last("w3"), log.last("w4")), (Some("49".into()), None));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_a_pipe_a_missing_folder_and_a_changed_end_are_refused_and_nothing_is_written_there() {
        let folder = folder("refused");
        let log = Log::of_state(&folder);
        std::fs::write(folder.join("other"), "").unwrap();
        std::os::unix::fs::symlink(folder.join("other"), folder.join(FILE)).unwrap();
        assert!(matches!(log.append(change("x", "1".into())), Err(AuditError::Io(..))));
        assert_eq!(std::fs::read(folder.join("other")).unwrap(), b"");
        std::fs::remove_file(folder.join(FILE)).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.join(FILE), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(log.append(change("x", "1".into())), Err(AuditError::Io(..))));
        std::fs::remove_file(folder.join(FILE)).unwrap();
        assert!(matches!(Log::of_state(&folder.join("no")).probe(), Err(AuditError::Io(..))));
        log.append(change("x", "1".into())).unwrap();
        log.probe().unwrap();
        let mut bytes = std::fs::read(folder.join(FILE)).unwrap();
        bytes[70] ^= 1;
        std::fs::write(folder.join(FILE), &bytes).unwrap();
        assert!(matches!(log.append(change("x", "2".into())), Err(AuditError::Changed(_, Misfit { line: 1, .. }))));
        assert_eq!(std::fs::read(folder.join(FILE)).unwrap(), bytes);
        assert_eq!(log.verify(&mut |_, _, _| {}).unwrap().unwrap_err().line, 1);
        // Of a long one the last line is looked at.
        std::fs::remove_file(folder.join(FILE)).unwrap();
        log.append((0..8000).flat_map(|i| change("x", i.to_string())).collect()).unwrap();
        let mut bytes = std::fs::read(folder.join(FILE)).unwrap();
        assert!(bytes.len() as u64 > LOOKED_THROUGH, "{}", bytes.len());
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        std::fs::write(folder.join(FILE), &bytes).unwrap();
        assert!(matches!(log.append(change("x", "2".into())), Err(AuditError::End(_))));
        bytes[at] ^= 1;
        std::fs::write(folder.join(FILE), &bytes).unwrap();
        log.append(change("x", "2".into())).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_of_bundles_has_the_record_beside_it() {
        let folder = folder("beside");
        let bundles = folder.join("sorter");
        std::fs::create_dir(&bundles).unwrap();
        assert_eq!(Log::beside(&bundles), None);
        Log::of_state(&folder).append(change("x", "1".into())).unwrap();
        let expected = std::fs::canonicalize(folder.join(FILE)).unwrap();
        assert_eq!(Log::beside(&bundles), Some(Log::at(&expected)));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
