//! Accepts connections and carries requests to the handler and its answers back.

use super::{BadHead, Body, Limits, Request, Response};
use crate::site::listener::{Listener, Turn};
use crate::site::wire::Wire;
use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long a client that still sends may take to read its answer, and how much of what it sends is
/// thrown away meanwhile.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 64 << 20);
/// Answers requests, on the thread of their connection.
pub trait Handler: Send + Sync + 'static {
    /// The answer. A panic is answered with 500 and ends that connection only.
    fn answer(&self, request: &Request, body: &mut Body<'_>) -> Response;
}

/// An HTTP server.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    limits: Limits,
}

impl Server {
    /// Listens at `address`; port 0 is a free one.
    pub fn bind(address: SocketAddr, limits: Limits) -> Result<Self> {
        Ok(Self { listener: Listener::bind(address, limits.connections)?, limits })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.address())
    }

    /// Serves until `stop` is set, then waits up to five seconds for the answers that are on their
    /// way. A request that is read later is answered with 503, and its handler never sees it.
    pub fn serve(&self, handler: Arc<dyn Handler>, stop: &Arc<AtomicBool>) {
        let limits = self.limits;
        let serve = move |stream, turn: &Turn| connection(stream, &*handler, limits, turn);
        self.listener.serve("http", &(Arc::new(serve) as _), full, stop);
    }
}

/// One connection too many: told without a thread and without waiting.
fn full(stream: TcpStream) {
    let response = Response::text(503, "too many connections").with("Retry-After", "1");
    let _ = stream.set_nonblocking(true);
    let mut wire = Wire::new(stream);
    let deadline = Instant::now() + Duration::from_millis(1);
    let _ = wire.send(&[response.head(false), response.content].concat(), deadline);
    wire.close(Duration::from_millis(1), 1 << 20);
}

/// Waits for a head. `Err(None)`: the client left or said nothing.
fn head(wire: &mut Wire, limits: Limits) -> std::result::Result<Request, Option<Response>> {
    let mut deadline = Instant::now() + limits.idle;
    let mut begun = false;
    loop {
        match Request::parse(wire.waiting()) {
            Ok(Some((request, taken))) => {
                wire.take(taken);
                return Ok(request);
            }
            Ok(None) => {}
            Err(BadHead::Malformed(why)) => return Err(Some(Response::text(400, why))),
            Err(BadHead::TooLarge) => return Err(Some(Response::text(431, "the head is too large"))),
        }
        if !begun && !wire.waiting().is_empty() {
            begun = true;
            deadline = Instant::now() + limits.head;
        }
        match wire.fill(deadline) {
            Ok(0) => return Err(None),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::TimedOut && begun => {
                return Err(Some(Response::text(408, "the head did not come in time")));
            }
            Err(_) => return Err(None),
        }
    }
}

/// Answers one connection's requests until either side ends it, on this thread.
pub fn converse(stream: TcpStream, handler: &dyn Handler, limits: Limits) {
    let stream = Arc::new(stream);
    let turn = Turn::endless(&stream);
    connection(stream, handler, limits, &turn);
}

fn connection(stream: Arc<TcpStream>, handler: &dyn Handler, limits: Limits, turn: &Turn) {
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok().map(|peer| peer.ip());
    let mut wire = Wire::new(stream);
    loop {
        let request = match head(&mut wire, limits) {
            Ok(mut request) => {
                request.peer = peer;
                request
            }
            Err(None) => return,
            Err(Some(refusal)) => {
                let _ = send(&mut wire, refusal, false, true, limits);
                break;
            }
        };
        let has_body = request.method != "HEAD";
        let Some(answering) = turn.begin() else {
            let over = "this run is over, and nothing was done; connect again for the next one";
            let _ = send(&mut wire, Response::text(503, over).with("Retry-After", "1"), false, has_body, limits);
            break;
        };
        let mut body = Body::new(&mut wire, request.length, request.expects_continue, limits.body);
        let answer = catch_unwind(AssertUnwindSafe(|| handler.answer(&request, &mut body)));
        let keep_alive = request.keep_alive && body.is_whole() && answer.is_ok() && answering.may_go_on();
        let response = answer.unwrap_or_else(|_| Response::text(500, "an error within the server"));
        match send(&mut wire, response, keep_alive, has_body, limits) {
            Ok(()) if keep_alive => {}
            // With the answer on its way as long as the client may take to read it.
            Ok(()) => return wire.close(LINGER.0, LINGER.1),
            Err(_) => return,
        }
    }
    wire.close(LINGER.0, LINGER.1);
}

/// Sends an answer.
fn send(wire: &mut Wire, response: Response, keep_alive: bool, has_body: bool, limits: Limits) -> Result<()> {
    let mut bytes = response.head(keep_alive);
    if has_body {
        bytes.extend_from_slice(&response.content);
    }
    wire.send(&bytes, Instant::now() + limits.answer)
}
