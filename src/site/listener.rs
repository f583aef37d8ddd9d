//! A socket that listens, with a bound on its connections; each has a thread of its own.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How soon a stop is seen.
const STOP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// What a connection's thread has for its stack.
const STACK: usize = 512 * 1024;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    most: usize,
}

/// Counts a connection as long as it lives.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// One more of `open`, and how many there were before.
    pub(super) fn new(open: &Arc<AtomicUsize>) -> (Self, usize) {
        (Self(open.clone()), open.fetch_add(1, Ordering::AcqRel))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Listener {
    /// Listens at `address`; port 0 is a free one. At most `most` connections at a time.
    pub fn bind(address: SocketAddr, most: usize) -> Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, most })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Hands each connection to `serve` on a thread of its own, or to `full` on this one where
    /// there are enough, until `stop` is set. The threads of connections inherit the caller's
    /// priority.
    pub fn serve(&self, name: &str, serve: &Arc<dyn Fn(TcpStream) + Send + Sync>, full: fn(TcpStream), stop: &AtomicBool) {
        let open = Arc::new(AtomicUsize::new(0));
        while !stop.load(Ordering::Acquire) {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            if poll(&mut fds, Some(&STOP)).unwrap_or(0) == 0 {
                continue;
            }
            let stream = match self.socket.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
                // Out of descriptors or memory: those that are open go on, and some of them will
                // close.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            let (counted, others) = Counted::new(&open);
            if others >= self.most {
                full(stream);
                continue;
            }
            let serve = serve.clone();
            let body = move || {
                let _counted = counted;
                serve(stream);
            };
            // Without a thread the connection closes.
            drop(std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(body));
        }
    }
}
