//! The record of changes: who changed what, when, in a file that is only added to.
//!
//! [`chain`] is how its lines hang together. Several processes may write: each takes the file's
//! lock, goes on from the last line, and writes to the disk before it says that it has. A line that
//! could not be written whole is taken back. Nobody waits for the lock longer than [`PATIENCE`], and
//! a reader holds it for no longer than it takes to learn the file's length. Nothing here is called
//! from a thread of the line: acknowledgements are counted there ([`Acknowledges`]) and recorded by
//! a client of the run.

mod acknowledges;
mod chain;

pub use acknowledges::Acknowledges;
pub use chain::{Change, Misfit, Record, Whole, verify};

use crate::calendar::iso8601;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Its name in the state folder.
pub const FILE: &str = "audit.log";

/// Up to this length the whole record is looked through before a line is added, beyond it the last
/// line, so that a change never waits for a long file.
const LOOKED_THROUGH: u64 = 1 << 20;

/// How long anybody waits for the file's lock. A PLC that asked for a change waits for its answer
/// meanwhile, and must not see it happen after it has given up.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked whether the lock is free: the system's own wait has no deadline.
const ASKED_EVERY: Duration = Duration::from_millis(1);

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
    /// Another process holds its lock for longer than [`PATIENCE`].
    Held(PathBuf),
    /// Its last line is none: somebody changed it, or it is another file.
    End(PathBuf),
    /// A line does not fit: somebody changed it.
    Changed(PathBuf, Misfit),
}

impl std::fmt::Display for AuditError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(file, e) => write!(f, "{}: {e}", file.display()),
            Self::Held(file) => write!(
                f,
                "{0}: another process has held its lock for {1} s; find it with `fuser {0}`, end it, and try again",
                file.display(),
                PATIENCE.as_secs()
            ),
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
        self.locked()?.append(changes)
    }

    /// Takes the file's lock, for whoever must do more than one thing while nobody else records.
    pub fn locked(&self) -> Result<Locked<'_>, AuditError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let file = self.open().map_err(|e| self.told(e))?;
            self.lock(&file, FlockOperation::NonBlockingLockExclusive, end)?;
            // Until it is closed. Somebody may have moved the file away meanwhile.
            let [held, named] =
                [file.metadata(), self.file.symlink_metadata()].map(|about| about.map(|about| crate::regular::id(&about)));
            if held.map_err(|e| self.told(e))? == named.unwrap_or_default() {
                return Ok(Locked { log: self, file, before: None });
            }
        }
    }

    fn lock(&self, file: &File, how: FlockOperation, end: Instant) -> Result<(), AuditError> {
        loop {
            match flock(file, how) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => std::thread::sleep(ASKED_EVERY),
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(AuditError::Held(self.file.clone())),
                Err(e) => return Err(self.told(e)),
            }
        }
    }

    fn open_to_read(&self) -> Result<File, AuditError> {
        crate::regular::size(&self.file, u64::MAX).map_err(|e| self.told(e))?;
        File::open(&self.file).map_err(|e| self.told(e))
    }

    /// Reads it to its end, or to the first line that does not fit; `see` gets each record with its
    /// line's number and hash, and may take its time: what is recorded meanwhile is not read, and
    /// nobody waits. `Err` within: it does not fit, and where.
    pub fn verify(&self, see: &mut dyn FnMut(u64, &str, &Record)) -> Result<Result<Whole, Misfit>, AuditError> {
        let file = self.open_to_read()?;
        // Nobody is amid a line then. A file system without locks cannot say it.
        let is_held = self.lock(&file, FlockOperation::NonBlockingLockShared, Instant::now() + PATIENCE);
        if let Err(e @ AuditError::Held(_)) = is_held {
            return Err(e);
        }
        let length = file.metadata().map_err(|e| self.told(e))?.len();
        let _ = flock(&file, FlockOperation::Unlock);
        verify(&mut BufReader::new(file.take(length)), see).map_err(|e| self.told(e))
    }

    /// Where it does not fit, that somebody holds it or why it cannot be read, in words; `None`
    /// where it fits, or is not there yet.
    pub fn misfit(&self) -> Option<String> {
        match self.verify(&mut |_, _, _| {}) {
            Ok(Err(Misfit { line, why })) => {
                Some(format!("{}: line {line}: {why}; look at it with `tagpin audit verify`", self.file.display()))
            }
            Err(AuditError::Io(_, e)) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => Some(e.to_string()),
            Ok(Ok(_)) => None,
        }
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
        // What does not fit is told by who verifies. Half a line that somebody is writing is none,
        // so no lock is needed.
        let _ = self.open_to_read().map(|file| verify(&mut BufReader::new(file), &mut see));
        last
    }
}

/// A record whose lock this process holds until this is dropped: nobody else records meanwhile.
#[derive(Debug)]
pub struct Locked<'l> {
    log: &'l Log,
    file: File,
    /// The file's length before the last changes.
    before: Option<u64>,
}

impl Locked<'_> {
    /// Records changes, all or none; they are on the disk when this returns.
    pub fn append(&mut self, changes: Vec<Change>) -> Result<(), AuditError> {
        let Self { log, file, before } = self;
        *before = None;
        let length = file.metadata().map_err(|e| log.told(e))?.len();
        if length <= LOOKED_THROUGH {
            let found = file.rewind().and_then(|()| verify(&mut BufReader::new(&*file), &mut |_, _, _| {}));
            found.map_err(|e| log.told(e))?.map_err(|misfit| AuditError::Changed(log.file.clone(), misfit))?;
        }
        let begin = length.saturating_sub(2 * chain::LONGEST as u64);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(begin)).and_then(|_| file.read_to_end(&mut tail)).map_err(|e| log.told(e))?;
        let end = chain::End::of(&tail, begin == 0).ok_or_else(|| AuditError::End(log.file.clone()))?;
        if changes.is_empty() {
            return Ok(());
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = crate::events::clock_is_set().then(|| iso8601(since_1970));
        let lines = end.lines(changes, time.as_deref());
        file.write_all(&lines).and_then(|()| file.sync_data()).map_err(|e| {
            // Half a line would be read as a power cut's.
            let _ = file.set_len(length);
            log.told(e)
        })?;
        *before = Some(length);
        Ok(())
    }

    /// Takes back what was appended last, for what it says could not be done. [`Log::verify`] has
    /// not seen it: it reads no further than where the last who recorded has ended.
    pub fn take_back(&mut self) -> Result<(), AuditError> {
        let Self { log, file, before } = self;
        let Some(length) = before.take() else { return Ok(()) };
        file.set_len(length).and_then(|()| file.sync_data()).map_err(|e| log.told(e))
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
        let write = |writer: u64| {
            (0..50).for_each(|i| {
                // Whoever always comes too late for the lock tries again.
                while let Err(e) = log.append(change(&format!("w{writer}"), i.to_string())) {
                    assert!(matches!(e, AuditError::Held(_)), "{e}");
                }
            })
        };
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

    /// A pager that stayed open on `tagpin audit show` stopped every change of the line, and a PLC's
    /// write was done when the pager was left, long after the PLC had given up.
    #[test]
    fn a_reader_that_takes_its_time_stops_nobody_and_reads_what_was_there() {
        let folder = folder("reader");
        let log = Log::of_state(&folder);
        log.append([change("x", "1".into()), change("x", "2".into())].concat()).unwrap();
        let mut seen = Vec::new();
        let whole = log.verify(&mut |_, _, record| {
            log.append(change("y", record.new.clone())).unwrap();
            seen.push(record.new.clone());
        });
        assert_eq!((whole.unwrap().unwrap().records, seen.as_slice()), (2, ["1", "2"].map(String::from).as_slice()));
        assert_eq!(log.verify(&mut |_, _, _| {}).unwrap().unwrap().records, 4);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_record_that_somebody_holds_is_refused_within_a_second_and_nothing_is_done_later() {
        let folder = folder("held");
        let log = Log::of_state(&folder);
        log.append(change("x", "1".into())).unwrap();
        let bytes = std::fs::read(folder.join(FILE)).unwrap();
        let holder = File::open(folder.join(FILE)).unwrap();
        for how in [FlockOperation::LockExclusive, FlockOperation::LockShared] {
            flock(&holder, how).unwrap();
            let begun = Instant::now();
            let why = log.append(change("x", "2".into())).unwrap_err();
            let waited = begun.elapsed();
            assert!(matches!(why, AuditError::Held(_)) && waited >= PATIENCE, "{why} after {waited:?}");
            assert!(waited < PATIENCE + Duration::from_secs(5), "{waited:?}");
            assert!(why.to_string().contains("audit.log: another process has held its lock for 1 s"), "{why}");
            let is_alone = how == FlockOperation::LockExclusive;
            assert_eq!(matches!(log.verify(&mut |_, _, _| {}), Err(AuditError::Held(_))), is_alone);
            assert_eq!(log.misfit().is_some(), is_alone);
            assert_eq!(log.last("x"), Some("1".into()), "what was recorded can be read");
        }
        drop(holder);
        assert_eq!(std::fs::read(folder.join(FILE)).unwrap(), bytes);
        log.append(change("x", "2".into())).unwrap();
        assert_eq!(log.last("x"), Some("2".into()));
        // One that is let go in time is waited for.
        let locked = log.locked().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| log.append(change("x", "3".into())));
            std::thread::sleep(PATIENCE / 5);
            assert_eq!(log.last("x"), Some("2".into()));
            drop(locked);
            waits.join().unwrap().unwrap();
        });
        assert_eq!(log.last("x"), Some("3".into()));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A file that was moved away while somebody waited for it got the line.
    #[test]
    fn a_record_that_is_moved_away_meanwhile_is_begun_anew() {
        let folder = folder("moved");
        let log = Log::of_state(&folder);
        log.append(change("x", "1".into())).unwrap();
        let locked = log.locked().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| log.append(change("x", "2".into())));
            std::thread::sleep(PATIENCE / 5);
            std::fs::rename(folder.join(FILE), folder.join("old")).unwrap();
            drop(locked);
            waits.join().unwrap().unwrap();
        });
        assert_eq!(Log::at(&folder.join("old")).last("x"), Some("1".into()));
        assert_eq!(log.verify(&mut |_, _, _| {}).unwrap().unwrap().records, 1);
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
