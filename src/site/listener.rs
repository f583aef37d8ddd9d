//! A socket that listens, with a bound on its connections; each has a thread of its own.
//!
//! Connections end with the listening. Once `stop` is set no [`Turn`] begins an answer, those that
//! wait for a request are closed, and answers on their way get [`PATIENCE`]. So nobody is answered
//! from a run that is over.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Result};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How soon a stop is seen.
const STOP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// What a connection's thread has for its stack.
const STACK: usize = 512 * 1024;
/// How long answers on their way may take once `stop` is set.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that listens until it was stopped once.
#[derive(Debug)]
pub struct Listener {
    socket: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    most: usize,
}

/// What serves a connection, on its thread.
pub(super) type Serve = dyn Fn(Arc<TcpStream>, &Turn) + Send + Sync;

/// The connections of one listening.
#[derive(Debug, Default)]
struct Connections {
    stop: Arc<AtomicBool>,
    open: Mutex<Vec<Open>>,
    /// One has ended.
    ended: Condvar,
}

#[derive(Debug)]
struct Open {
    stream: Arc<TcpStream>,
    /// It waits for a request.
    is_idle: bool,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Ends them all, `stop` being set.
    fn end(&self) {
        let open = self.open();
        for idle in open.iter().filter(|open| open.is_idle) {
            // Its thread wakes; what has come already it still reads.
            let _ = idle.stream.shutdown(Shutdown::Read);
        }
        let waited = self.ended.wait_timeout_while(open, PATIENCE, |open| !open.is_empty());
        let (open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        for late in open.iter() {
            let _ = late.stream.shutdown(Shutdown::Both);
        }
    }
}

/// A connection's right to answer, which ends with the listening.
#[derive(Debug)]
pub(super) struct Turn {
    connections: Arc<Connections>,
    stream: Arc<TcpStream>,
}

impl Turn {
    fn new(connections: &Arc<Connections>, stream: &Arc<TcpStream>) -> Self {
        connections.open().push(Open { stream: stream.clone(), is_idle: true });
        Self { connections: connections.clone(), stream: stream.clone() }
    }

    /// Of a connection that no listener accepted, and none stops.
    pub(super) fn endless(stream: &Arc<TcpStream>) -> Self {
        Self::new(&Arc::default(), stream)
    }

    /// Begins to answer a request: the listener waits for what it gives to be dropped. `None`: the
    /// listening is over, and whatever the request asks for may not be done any more.
    pub(super) fn begin(&self) -> Option<Answering<'_>> {
        let mut open = self.connections.open();
        self.set_idle(&mut open, false);
        // Looked at under the lock that the end takes: whoever begins is waited for.
        if self.connections.is_stopped() { None } else { Some(Answering(self)) }
    }

    fn set_idle(&self, open: &mut [Open], is_idle: bool) {
        if let Some(own) = open.iter_mut().find(|open| Arc::ptr_eq(&open.stream, &self.stream)) {
            own.is_idle = is_idle;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.connections.open().retain(|open| !Arc::ptr_eq(&open.stream, &self.stream));
        self.connections.ended.notify_all();
    }
}

/// An answer on its way.
pub(super) struct Answering<'t>(&'t Turn);

impl Answering<'_> {
    /// Whether the connection may wait for another request behind it.
    pub(super) fn may_go_on(&self) -> bool {
        !self.0.connections.is_stopped()
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let Turn { connections, stream } = self.0;
        let mut open = connections.open();
        self.0.set_idle(&mut open, true);
        if connections.is_stopped() {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

impl Listener {
    /// Listens at `address`; port 0 is a free one. At most `most` connections at a time.
    pub fn bind(address: SocketAddr, most: usize) -> Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket: Mutex::new(Some(socket)), address, most })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands each connection to `serve` on a thread of its own, or to `full` on this one where
    /// there are enough, until `stop` is set. Then the address is free again, and all connections
    /// end: it returns when they have, at the latest after [`PATIENCE`]. The threads of connections
    /// inherit the caller's priority.
    pub(super) fn serve(&self, name: &str, serve: &Arc<Serve>, full: fn(TcpStream), stop: &Arc<AtomicBool>) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = Arc::new(Connections { stop: stop.clone(), ..Connections::default() });
        while let (Some(socket), false) = (&*socket, connections.is_stopped()) {
            let Some(stream) = next(socket) else { continue };
            if connections.open().len() >= self.most {
                full(stream);
                continue;
            }
            let (serve, stream) = (serve.clone(), Arc::new(stream));
            let turn = Turn::new(&connections, &stream);
            // Without a thread the connection closes.
            drop(std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || serve(stream, &turn)));
        }
        // The next run listens here, whatever this one's connections wait for.
        *socket = None;
        connections.end();
    }
}

/// The next connection, if one comes before a stop is to be looked for.
fn next(socket: &TcpListener) -> Option<TcpStream> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    if poll(&mut fds, Some(&STOP)).unwrap_or(0) == 0 {
        return None;
    }
    match socket.accept() {
        Ok((stream, _)) => Some(stream),
        Err(e) if e.kind() == ErrorKind::WouldBlock => None,
        // Out of descriptors or memory: those that are open go on, and some of them will close.
        Err(_) => {
            std::thread::sleep(Duration::from_millis(50));
            None
        }
    }
}
