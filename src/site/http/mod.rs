//! A small HTTP/1.1 server on threads, for the few clients that a line or a PC has.
//!
//! One thread accepts; each connection has a thread of its own, at most [`Limits::connections`],
//! and one above is told 503. `httparse` reads what comes. Each stage of a request has a deadline
//! for the whole of it, so that a client that sends a byte now and then is cut off as one that
//! sends nothing. A body is read only when its handler asks for it, up to that handler's limit;
//! what is left of it is thrown away for a moment, so that the client reads the answer, and the
//! connection closes.
//!
//! Terms: *head*: request line and headers. *Handler*: what answers requests.

mod body;
mod origin;
mod request;
mod response;
mod server;

pub use body::{Body, BodyError};
pub use origin::{Stranger, check as check_origin};
pub use request::{BadHead, Request};
pub use response::Response;
pub use server::{Handler, Server, converse};

use std::time::Duration;

/// Most bytes of a head.
pub const MAX_HEAD: usize = 16 * 1024;
/// Most headers of a head.
pub const MAX_HEADERS: usize = 64;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Longest silence between two requests.
    pub idle: Duration,
    /// From a head's first byte to its last.
    pub head: Duration,
    /// From a body's first byte to its last.
    pub body: Duration,
    /// From an answer's first byte to its last.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { connections: 64, idle: s(30), head: s(10), body: s(60), answer: s(30) }
    }
}

#[cfg(test)]
mod tests;
