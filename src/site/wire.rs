//! A connection's bytes, each stage of them with a deadline.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes asked of the system at once.
pub(super) const CHUNK: usize = 64 * 1024;

/// A connection and what it sent that nobody took yet.
pub(super) struct Wire {
    stream: Arc<TcpStream>,
    waiting: Vec<u8>,
}

/// Time until `deadline`; an error once it has passed.
pub(super) fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket whose time-out has passed says that it would block.
fn timed_out(e: Error) -> Error {
    if e.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { e }
}

impl Wire {
    pub(super) fn new(stream: impl Into<Arc<TcpStream>>) -> Self {
        Self { stream: stream.into(), waiting: Vec::new() }
    }

    /// What can be asked whether something came.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What has come and was not taken.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.waiting
    }

    /// Takes the first `n` bytes of what has come.
    pub(super) fn take(&mut self, n: usize) -> Vec<u8> {
        let rest = self.waiting.split_off(n);
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Waits for more bytes; gives their number, 0 at the end of the stream.
    pub(super) fn fill(&mut self, deadline: Instant) -> Result<usize> {
        self.stream.set_read_timeout(Some(left(deadline)?))?;
        let at = self.waiting.len();
        self.waiting.resize(at + CHUNK, 0);
        let got = loop {
            match (&*self.stream).read(&mut self.waiting[at..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                got => break got,
            }
        };
        self.waiting.truncate(at + *got.as_ref().unwrap_or(&0));
        got.map_err(timed_out)
    }

    /// Takes exactly `n` bytes onto the end of `out`.
    pub(super) fn take_exact(&mut self, n: usize, out: &mut Vec<u8>, deadline: Instant) -> Result<()> {
        let end = out.len() + n;
        loop {
            let now = self.waiting.len().min(end - out.len());
            out.extend(self.waiting.drain(..now));
            if out.len() == end {
                return Ok(());
            }
            if self.fill(deadline)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes a line with its end, at most `limit` bytes.
    pub(super) fn take_line(&mut self, limit: usize, deadline: Instant) -> Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.waiting[seen..].iter().position(|&b| b == b'\n') {
                let end = seen + at + 1;
                if end > limit {
                    return Err(ErrorKind::InvalidData.into());
                }
                return Ok(self.take(end));
            }
            seen = self.waiting.len();
            if seen > limit {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.fill(deadline)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends everything, however slowly it is read.
    pub(super) fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left(deadline)?))?;
            match (&*self.stream).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(timed_out(e)),
            }
        }
        Ok(())
    }

    /// Ends the connection: a client that is still sending gets time to read the answer. Without
    /// this the system resets the connection, and the answer is lost with it.
    pub(super) fn close(mut self, patience: Duration, most: usize) {
        let deadline = Instant::now() + patience;
        let mut thrown = 0;
        if self.stream.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        while thrown < most {
            self.waiting.clear();
            match self.fill(deadline) {
                Ok(0) | Err(_) => return,
                Ok(n) => thrown += n,
            }
        }
    }
}
