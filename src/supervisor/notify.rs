//! Tells the service manager that the line is ready, alive, or stopping (systemd's sd_notify
//! protocol). Without `NOTIFY_SOCKET` in the environment it is silent.

use crate::time::{Instant, Micros};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to the service manager.
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Half of the longest silence that the manager allows, if it watches.
    every: Option<Micros>,
    next: Instant,
}

impl Notify {
    /// What the environment says: `NOTIFY_SOCKET`, a path or `@` and an abstract name;
    /// `WATCHDOG_USEC`, microseconds.
    pub(super) fn from_environment() -> Self {
        let address = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let limit: Option<u64> = std::env::var("WATCHDOG_USEC").ok().and_then(|us| us.parse().ok());
        Self { socket, every: limit.map(|us| Micros(us / 2)), next: Instant::default() }
    }

    fn say(&self, word: &str) {
        if let Some((socket, address)) = &self.socket {
            // A manager that does not listen must not stop the line.
            let _ = socket.set_nonblocking(true).and_then(|()| socket.send_to_addr(word.as_bytes(), address));
        }
    }

    /// Everything is open and runs.
    pub(super) fn ready(&self) {
        self.say("READY=1");
    }

    /// The line was alive at `now`; told as often as the manager wants it.
    pub(super) fn alive(&mut self, now: Instant) {
        if let Some(every) = self.every
            && now >= self.next
        {
            self.next = now.plus(every);
            self.say("WATCHDOG=1");
        }
    }

    /// The run ends.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }
}
