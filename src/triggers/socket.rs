//! Words as datagrams to a Unix socket that has a mode, an owner and one listener.
//!
//! The listener holds a lock on a file beside the socket, so that no second one takes the path,
//! even if the socket's name is removed. A removed socket is made again and reported; if that
//! fails, the input has failed.

use super::arrival::Arrivals;
use super::words::{LONGEST, meaning};
use super::{Input, Odd, Trigger, TriggerError};
use crate::readable::is_readable;
use crate::time::{Clock, Instant, Micros};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a socket's path: the kernel's address holds 108, the zero at its end included
/// (unix(7)).
const LONGEST_PATH: usize = 107;
/// Most datagrams that can wait in a socket, by far: a writer that does not stop may not keep a run
/// from its begin.
const MOST_WAITING: u32 = 4096;

/// Where a socket is and who may send to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// Its path.
    pub path: PathBuf,
    /// Its permissions, as of a file: who may write may send.
    pub mode: u32,
    /// User that it is given to, by name or number; who runs the program if absent.
    pub owner: Option<String>,
    /// Group that it is given to, by name or number.
    pub group: Option<String>,
    /// Longest time from the sensor's signal to the datagram's arrival; `None` where nobody states
    /// it.
    pub max_jitter: Option<Micros>,
}

pub(super) struct Socket {
    spec: SocketSpec,
    socket: UnixDatagram,
    /// Device and inode of the socket's name.
    id: (u64, u64),
    arrivals: Arrivals,
    /// Words that came between two runs and are not told yet.
    between: u32,
    /// Locked as long as this is open.
    _lock: File,
}

fn error(path: &Path, why: impl std::fmt::Display) -> TriggerError {
    TriggerError { input: "trigger", why: format!("socket {}: {why}", path.display()) }
}

/// The number of a user or group, given as such or by its name in a table of the system's.
fn number(name: &str, table: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string(table).map_err(|e| format!("{table} cannot be read: {e}"))?;
    let of = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1).and_then(|n| n.parse().ok())).flatten()
    };
    text.lines().find_map(of).ok_or_else(|| format!("{table} has no \"{name}\"; name one that exists, or its number"))
}

impl SocketSpec {
    /// Says what is wrong with the path itself, wherever it leads.
    pub fn check_path(&self) -> Result<(), String> {
        let bytes = self.path.as_os_str().as_encoded_bytes();
        match bytes.len() {
            0 => Err("is empty, expected the path of a socket".into()),
            _ if bytes.contains(&0) => Err("holds a zero byte, expected the path of a socket".into()),
            1..=LONGEST_PATH => Ok(()),
            n => Err(format!(
                "{n} bytes, expected at most {LONGEST_PATH}, the kernel's limit for sockets; choose a shorter path"
            )),
        }
    }

    fn owners(&self) -> Result<[Option<u32>; 2], String> {
        let of = |name: &Option<String>, table| name.as_ref().map(|n| number(n, table)).transpose();
        Ok([of(&self.owner, "/etc/passwd")?, of(&self.group, "/etc/group")?])
    }

    /// What stands at the path must be a socket that nobody listens at, or nothing.
    fn is_taken(&self) -> Result<bool, String> {
        let Ok(about) = std::fs::symlink_metadata(&self.path) else { return Ok(false) };
        if !about.file_type().is_socket() {
            return Err("is there already and is no socket; remove it or choose another path".into());
        }
        if UnixDatagram::unbound().and_then(|s| s.connect(&self.path)).is_ok() {
            return Err("another process listens there; stop it or choose another path".into());
        }
        Ok(true)
    }

    /// Makes the socket with its mode and owner. One that an earlier run left behind is replaced.
    fn bind(&self) -> Result<(UnixDatagram, (u64, u64)), String> {
        let owners = self.owners()?;
        if self.is_taken()? {
            std::fs::remove_file(&self.path).map_err(|e| format!("cannot be taken over: {e}"))?;
        }
        let socket = UnixDatagram::bind(&self.path).map_err(|e| format!("cannot be made: {e}; choose another path"))?;
        let [owner, group] = owners;
        let permissions = std::fs::Permissions::from_mode(self.mode);
        let given = chown(&self.path, owner, group).and_then(|()| std::fs::set_permissions(&self.path, permissions));
        let about = given.and_then(|()| std::fs::symlink_metadata(&self.path)).map_err(|e| {
            // It was made a moment ago and may not stay with another owner.
            let _ = std::fs::remove_file(&self.path);
            format!("cannot be given its owner and mode: {e}; the user must be in that group, or the program run as root")
        })?;
        Ok((socket, crate::regular::id(&about)))
    }

    fn lock(&self) -> Result<File, String> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let place = PathBuf::from(path);
        let failed = |e: std::io::Error| format!("{} cannot be made: {e}; choose another path", place.display());
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&place).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err("another process listens there; stop it or choose another path".into())
            }
            Err(e) => Err(failed(e.into())),
        }
    }
}

impl Socket {
    pub(super) fn open(spec: &SocketSpec, clock: Arc<dyn Clock>) -> Result<Self, TriggerError> {
        let failed = |why: String| error(&spec.path, why);
        let lock = spec.lock().map_err(failed)?;
        let (socket, id) = spec.bind().map_err(failed)?;
        Ok(Self { spec: spec.clone(), socket, id, arrivals: Arrivals::new(clock, spec.max_jitter), between: 0, _lock: lock })
    }

    /// What its path names now.
    fn named(&self) -> Option<(u64, u64)> {
        std::fs::symlink_metadata(&self.spec.path).ok().map(|about| crate::regular::id(&about))
    }
}

impl Trigger for Socket {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
        if self.between > 0 {
            self.between -= 1;
            return Ok(Some(Input::PassedOver(Odd::Between)));
        }
        let path = &self.spec.path;
        let removed = match self.named() {
            Some(id) if id == self.id => false,
            Some(_) => return Err(error(path, "was replaced by another program: no word comes here any more")),
            None => true,
        };
        // Words that came before the name was removed wait in the old socket, and count.
        let timeout = if removed { Duration::ZERO } else { timeout };
        let arrival = self.arrivals.wait(self.socket.as_fd(), timeout).map_err(|e| error(path, e))?;
        let Some(arrival) = arrival else {
            if !removed {
                return Ok(None);
            }
            let again = self.spec.bind();
            (self.socket, self.id) = again.map_err(|why| error(path, format!("was removed, and {why}")))?;
            return Ok(Some(Input::PassedOver(Odd::SocketRemoved)));
        };
        let mut bytes = [0; LONGEST + 1];
        let n = self.socket.recv(&mut bytes).map_err(|e| error(path, e))?;
        Ok(Some(match meaning(&bytes[..n], arrival.at) {
            Ok(input) if !arrival.is_known => input.waited(),
            Ok(input) => input,
            Err(odd) => Input::PassedOver(odd),
        }))
    }

    fn begin_anew(&mut self, begin: Instant) -> Result<(), TriggerError> {
        while self.between < MOST_WAITING && is_readable(self.socket.as_fd(), Duration::ZERO).unwrap_or(false) {
            self.socket.recv(&mut [0; LONGEST + 1]).map_err(|e| error(&self.spec.path, e))?;
            self.between += 1;
        }
        self.arrivals.begin_anew(begin);
        Ok(())
    }

    /// What waits in the socket goes with it.
    fn left(&mut self) -> Option<Input> {
        self.next(Duration::ZERO).ok().flatten().filter(|input| *input != Input::PassedOver(Odd::SocketRemoved))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another program's socket of this name is not ours to remove.
        if self.named() == Some(self.id) {
            let _ = std::fs::remove_file(&self.spec.path);
        }
    }
}

/// Says whether the socket could be made, without making it.
pub(super) fn probe(spec: &SocketSpec) -> Result<String, TriggerError> {
    let folder = spec.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let why = format!("folder {} does not exist; make it or change the path", folder.display());
        return Err(error(&spec.path, why));
    }
    let checked = spec.owners().and_then(|_| spec.is_taken());
    checked.map_err(|why| error(&spec.path, why))?;
    Ok(format!("socket {}, mode {:o}", spec.path.display(), spec.mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, Instant};

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Instant {
            Instant::from_micros(1_000_000)
        }

        fn wait_until(&self, _: Instant) {}
    }

    /// A word that waited when the name was removed was dropped with its socket: one part less was
    /// sorted than was sent, now and then, on a busy machine.
    #[test]
    fn words_that_came_before_the_name_was_removed_count() {
        let path = std::env::temp_dir().join(format!("tagpin-socket-{}.sock", std::process::id()));
        let spec = SocketSpec { path: path.clone(), mode: 0o600, owner: None, group: None, max_jitter: None };
        let mut socket = Socket::open(&spec, Arc::new(Still)).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        for word in ["trigger", "ack"] {
            sender.send_to(word.as_bytes(), &path).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        let mut next = || socket.next(Duration::ZERO).unwrap();
        assert!(matches!(next(), Some(Input::Trigger { .. })));
        assert!(matches!(next(), Some(Input::Acknowledge(_))));
        assert!(matches!(next(), Some(Input::PassedOver(Odd::SocketRemoved))));
        assert!(next().is_none());
        sender.send_to(b"trigger", &path).unwrap();
        assert!(matches!(next(), Some(Input::Trigger { .. })));
        drop(socket);
        for made in [path.clone(), path.with_extension("sock.lock")] {
            let _ = std::fs::remove_file(made);
        }
    }

    #[test]
    fn datagrams_from_before_another_run_are_passed_over_and_those_left_at_its_end_are_found() {
        let path = std::env::temp_dir().join(format!("tagpin-between-{}.sock", std::process::id()));
        let spec = SocketSpec { path: path.clone(), mode: 0o600, owner: None, group: None, max_jitter: None };
        let mut socket = Socket::open(&spec, Arc::new(Still)).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let send = |words: &[&str]| {
            for word in words {
                sender.send_to(word.as_bytes(), &path).unwrap();
            }
        };
        send(&["trigger", "", "ack"]);
        socket.begin_anew(Instant::from_micros(1_000_000)).unwrap();
        send(&["trigger"]);
        let mut next = || socket.next(Duration::ZERO).unwrap();
        let between = Some(Input::PassedOver(Odd::Between));
        assert_eq!([next(), next(), next()], [between; 3]);
        assert!(matches!((next(), next()), (Some(Input::Trigger { .. }), None)));
        send(&["", "confirm"]);
        assert!(matches!(socket.left(), Some(Input::Trigger { .. })));
        assert!(matches!((socket.left(), socket.left()), (Some(Input::Confirm(_)), None)));
        drop(socket);
        let _ = std::fs::remove_file(path.with_extension("sock.lock"));
    }
}
