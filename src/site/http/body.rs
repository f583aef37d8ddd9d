//! A request's body, read when its handler asks for it.

use super::request::Length;
use crate::site::wire::Wire;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Most bytes of a chunk's own line, and of all trailers together.
const MAX_LINE: usize = 4096;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than the handler takes.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// Its chunks are wrong.
    Malformed,
    /// The client left.
    Gone,
}

impl From<std::io::Error> for BodyError {
    fn from(e: std::io::Error) -> Self {
        match e.kind() {
            ErrorKind::TimedOut => Self::Slow,
            ErrorKind::InvalidData => Self::Malformed,
            _ => Self::Gone,
        }
    }
}

/// A body that was not read yet.
pub struct Body<'w> {
    wire: &'w mut Wire,
    length: Length,
    expects_continue: bool,
    patience: Duration,
    whole: bool,
}

impl<'w> Body<'w> {
    pub(super) fn new(wire: &'w mut Wire, length: Length, expects_continue: bool, patience: Duration) -> Self {
        let whole = matches!(length, Length::None | Length::Bytes(0));
        Self { wire, length, expects_continue, patience, whole }
    }

    /// Whether nothing of it is left on the connection.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The whole body, at most `limit` bytes. To be called once.
    pub fn read(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        if self.whole {
            return Ok(Vec::new());
        }
        if let Length::Bytes(n) = self.length
            && n > limit as u64
        {
            return Err(BodyError::TooLarge);
        }
        let deadline = Instant::now() + self.patience;
        if self.expects_continue && self.wire.waiting().is_empty() {
            self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", deadline)?;
        }
        let mut out = Vec::new();
        match self.length {
            Length::None => {}
            Length::Bytes(n) => self.wire.take_exact(n as usize, &mut out, deadline)?,
            Length::Chunked => self.chunks(limit, &mut out, deadline)?,
        }
        self.whole = true;
        Ok(out)
    }

    fn chunks(&mut self, limit: usize, out: &mut Vec<u8>, deadline: Instant) -> Result<(), BodyError> {
        loop {
            let line = self.wire.take_line(MAX_LINE, deadline)?;
            let Ok(httparse::Status::Complete((taken, size))) = httparse::parse_chunk_size(&line) else {
                return Err(BodyError::Malformed);
            };
            // To httparse a line without a size is one of size 0.
            if taken != line.len() || !line[0].is_ascii_hexdigit() {
                return Err(BodyError::Malformed);
            }
            if size == 0 {
                break;
            }
            if size > limit.saturating_sub(out.len()) as u64 {
                return Err(BodyError::TooLarge);
            }
            self.wire.take_exact(size as usize, out, deadline)?;
            if self.wire.take_line(2, deadline)? != b"\r\n" {
                return Err(BodyError::Malformed);
            }
        }
        let mut trailers = 0;
        loop {
            let line = self.wire.take_line(MAX_LINE - trailers, deadline)?;
            trailers += line.len();
            if line == b"\r\n" {
                return Ok(());
            }
            if !is_header(&line) {
                return Err(BodyError::Malformed);
            }
        }
    }
}

/// Whether a line with its end is a header: at any other a proxy may see the next request begin.
fn is_header(line: &[u8]) -> bool {
    let mut one = [httparse::EMPTY_HEADER; 1];
    let read = httparse::parse_headers(&[line, b"\r\n"].concat(), &mut one).is_ok_and(|read| read.is_complete());
    line.ends_with(b"\r\n") && read
}
