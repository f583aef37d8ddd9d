//! Triggers by word: lines on standard input, or datagrams to a Unix socket.
//!
//! A part's moment is the word's arrival; no word makes a part of the past. Words that are not known are passed over.

use super::{Input, Trigger, TriggerError};
use crate::time::{Clock, Instant};
use std::io::BufRead;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// The meaning of a word: nothing or `trigger` opens a part, `ack` acknowledges, `confirm` is a part behind the gate.
fn meaning(word: &str, at: Instant) -> Option<Input> {
    match word.trim() {
        "" | "trigger" => Some(Input::Trigger { at, position: None }),
        "ack" => Some(Input::Acknowledge(at)),
        "confirm" => Some(Input::Confirm(at)),
        _ => None,
    }
}

pub(super) struct Stdin {
    words: Receiver<Input>,
    ended: bool,
}

impl Stdin {
    pub(super) fn open(clock: Arc<dyn Clock>) -> Self {
        // Reading standard input cannot be given a time-out, so a thread waits there and is left behind at the end.
        let (send, words) = sync_channel(64);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if meaning(&line, clock.now()).is_some_and(|input| send.send(input).is_err()) {
                    break;
                }
            }
        });
        Self { words, ended: false }
    }
}

impl Trigger for Stdin {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
        if self.ended {
            std::thread::sleep(timeout);
            return Ok(None);
        }
        match self.words.recv_timeout(timeout) {
            Ok(input) => Ok(Some(input)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            // No more parts will be named; those in flight are still sorted.
            Err(RecvTimeoutError::Disconnected) => {
                self.ended = true;
                Ok(None)
            }
        }
    }
}

pub(super) struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
    clock: Arc<dyn Clock>,
}

fn error(path: &Path, why: impl std::fmt::Display) -> TriggerError {
    TriggerError { input: "trigger", why: format!("socket {}: {why}", path.display()) }
}

impl Socket {
    pub(super) fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, TriggerError> {
        use std::os::unix::fs::FileTypeExt;
        // What a run before left behind is taken over; a socket that somebody listens at, or another file, is not.
        if std::fs::metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
            if UnixDatagram::unbound().and_then(|s| s.connect(path)).is_ok() {
                return Err(error(path, "another process listens there; stop it or choose another path"));
            }
            std::fs::remove_file(path).map_err(|e| error(path, format!("cannot be taken over: {e}")))?;
        }
        let socket =
            UnixDatagram::bind(path).map_err(|e| error(path, format!("cannot be made: {e}; choose another path")))?;
        Ok(Self { socket, path: path.into(), clock })
    }
}

impl Trigger for Socket {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
        self.socket.set_read_timeout(Some(timeout)).map_err(|e| error(&self.path, e))?;
        let mut bytes = [0; 64];
        match self.socket.recv(&mut bytes) {
            Ok(n) => Ok(std::str::from_utf8(&bytes[..n]).ok().and_then(|word| meaning(word, self.clock.now()))),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(error(&self.path, e)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(super) fn probe(path: &Path) -> Result<String, TriggerError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(format!("socket {}", path.display()));
    }
    Err(error(path, format!("folder {} does not exist; make it or change the path", folder.display())))
}
