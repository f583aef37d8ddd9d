//! Modbus TCP: the line as registers for a PLC, by the map in `MODBUS.md`.
//!
//! [`map`] is what the registers mean and the handshake of results, [`pdu`] the protocol. A sink
//! puts parts and faults into the map; each connection answers from it. Who polls, who stops
//! polling and who sends garbage reach nothing but the map. Where parts are triggered here
//! ([`Triggering`]), a write is stamped when its last byte can be read, by a thread of ordinary
//! priority, and posted to the line's input; every other connection has the lowest priority.

mod map;
mod pdu;
#[cfg(test)]
mod tests;

use super::listener::{Listener, Turn};
use super::recipes::Recipes;
use super::wire::{CHUNK, Wire, left};
use crate::audit::Acknowledges;
use crate::events::sinks::Sink;
use crate::events::{Event, Events, What};
use crate::supervisor::{SystemClock, lowest_priority};
use crate::time::Micros;
use crate::triggers::{Arrival, Arrivals, Odd, Posts};
use map::{Asked, Map};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections at a time; one more is closed.
const CONNECTIONS: usize = 16;
/// Of these, places that only peers in `allow` get, so that others cannot keep a PLC out.
const RESERVED: usize = 4;
/// Longest silence of a PLC.
const IDLE: Duration = Duration::from_secs(120);
/// From a request's first byte to its last, and the same for its answer.
const WHOLE: Duration = Duration::from_secs(5);
/// Transaction, protocol and length before each request.
const HEADER: usize = 6;

/// Who may set coils, and what comes of it.
#[derive(Clone, Debug, Default)]
pub struct Writers {
    /// Their addresses.
    pub peers: Vec<IpAddr>,
    /// Where parts go that they trigger.
    pub triggering: Option<Triggering>,
    /// Who counts what they clear, and the first peer's number there.
    pub acknowledges: Option<(Arc<Acknowledges>, usize)>,
    /// What they may choose of.
    pub recipes: Option<Recipes>,
}

/// Where parts go that a PLC triggers.
#[derive(Clone, Debug)]
pub struct Triggering {
    /// The line's input.
    pub posts: Posts,
    /// Longest time from the sensor's signal to a write's arrival, where that is stated.
    pub max_jitter: Option<Micros>,
}

/// The map that sink and connections share.
#[derive(Clone, Debug)]
pub struct Registers(Arc<Mutex<Map>>);

impl Registers {
    /// `results`: that wait at most, where a PLC buffers them. `triggers`: whether a PLC triggers
    /// parts.
    pub fn new(results: usize, triggers: bool, recipes: Option<&Recipes>) -> Self {
        let recipes = recipes.map(|recipes| [recipes.number(), recipes.names.len() as u16]);
        Self(Arc::new(Mutex::new(Map::new(results, triggers, recipes))))
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the map has a use for it.
pub fn wants(what: &What) -> bool {
    matches!(what, What::Part(_) | What::Fault(_))
}

/// The sink that fills the map.
pub struct Filler(pub Registers);

impl Sink for Filler {
    fn write(&mut self, _: &Events, event: &Event) -> std::io::Result<()> {
        match &event.what {
            What::Part(part) => self.0.map().part(part),
            What::Fault(fault) => self.0.map().fault(fault),
            _ => {}
        }
        Ok(())
    }
}

/// The server.
#[derive(Debug)]
pub struct Modbus {
    listener: Listener,
    served: Served,
}

/// Counts a connection as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// One more of `open`, and how many there were before.
    fn new(open: &Arc<AtomicUsize>) -> (Self, usize) {
        (Self(open.clone()), open.fetch_add(1, Ordering::AcqRel))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What every connection is answered from.
#[derive(Clone, Debug)]
pub struct Served {
    registers: Registers,
    writers: Writers,
    /// Connections of peers that may not write.
    readers: Arc<AtomicUsize>,
    /// Connections of peers that may write, so far.
    writing: Arc<AtomicUsize>,
}

impl Modbus {
    /// Listens at `address`.
    pub fn bind(address: SocketAddr, registers: Registers, writers: Writers) -> std::io::Result<Self> {
        Ok(Self { listener: Listener::bind(address, CONNECTIONS)?, served: Served::new(registers, writers) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Answers until `stop` is set, then closes each connection behind the answer that is on its
    /// way: nobody is told that a trigger or a write was taken by a run that is over.
    pub fn serve(&self, events: &Arc<Events>, stop: &Arc<AtomicBool>) {
        if self.served.writers.triggering.is_none() {
            lowest_priority();
        }
        let (served, events, begin) = (self.served.clone(), events.clone(), Instant::now());
        let serve = move |stream: Arc<TcpStream>, turn: &Turn| {
            let writer = served.writers.number(&stream);
            // A trigger's moment matters, nothing else does.
            if writer.is_none() || served.writers.triggering.is_none() {
                lowest_priority();
            }
            served.answer(stream, writer, &events, begin, turn);
        };
        self.listener.serve("modbus", &(Arc::new(serve) as _), drop, stop);
    }
}

impl Writers {
    /// Which of them a connection's peer is.
    fn number(&self, stream: &TcpStream) -> Option<usize> {
        let peer = stream.peer_addr().ok()?.ip().to_canonical();
        self.peers.iter().position(|known| *known == peer)
    }
}

impl Served {
    /// `writers`: who may set what of `registers`.
    pub fn new(registers: Registers, writers: Writers) -> Self {
        Self { registers, writers, readers: Arc::default(), writing: Arc::default() }
    }

    /// Answers one connection's requests until either side ends it, on this thread. `writer`: the
    /// peer's number among those that may write. `begin`: of the run.
    pub fn converse(&self, stream: TcpStream, writer: Option<usize>, events: &Events, begin: Instant) {
        let stream = Arc::new(stream);
        let turn = Turn::endless(&stream);
        self.answer(stream, writer, events, begin, &turn);
    }

    fn answer(&self, stream: Arc<TcpStream>, writer: Option<usize>, events: &Events, begin: Instant, turn: &Turn) {
        match writer {
            Some(number) => self.writer(stream, number, events, begin, turn),
            None => self.reader(stream, events, begin, turn),
        }
    }

    /// A peer that may only read.
    fn reader(&self, stream: Arc<TcpStream>, events: &Events, begin: Instant, turn: &Turn) {
        let most = if self.writers.peers.is_empty() { CONNECTIONS } else { CONNECTIONS - RESERVED };
        let (_counted, others) = Counted::new(&self.readers);
        if others >= most {
            return;
        }
        // Whatever ends a connection, the peer opens another.
        let _ = connection(stream, turn, None, &mut |request, _| {
            if !matches!(request[0], 5 | 6 | 15 | 16) {
                return answer(&mut self.registers.map(), request, events, begin);
            }
            if let Some(triggering) = &self.writers.triggering {
                triggering.posts.pass_over(Odd::RefusedWrite);
            }
            refused(request, pdu::Exception::Function)
        });
    }

    /// The peer of this number has written the number of a recipe.
    fn choose(&self, recipe: u16, number: usize) -> Result<(), String> {
        let recipes = self.writers.recipes.as_ref().ok_or("there are none")?;
        let name = (recipe as usize).checked_sub(1).map(|at| recipes.names[at].as_str());
        recipes.choose(name, &format!("modbus {}", self.writers.peers[number]))
    }

    /// A peer that may write, by its number among those.
    fn writer(&self, stream: Arc<TcpStream>, number: usize, events: &Events, begin: Instant, turn: &Turn) {
        let answer = |map: &mut Map, request: &[u8]| {
            let reply = answer(map, request, events, begin);
            if let (true, Some((acknowledges, first))) = (map.take_cleared(), &self.writers.acknowledges) {
                acknowledges.add(first + number);
            }
            (reply, map.take_wanted())
        };
        // With the map free: the choice is written to a disk, for which no other PLC waits.
        let chosen = |request: &[u8], (reply, wanted): (Vec<u8>, Option<u16>)| match wanted {
            Some(wanted) if self.choose(wanted, number).is_err() => refused(request, pdu::Exception::Failure),
            _ => reply,
        };
        let Some(Triggering { posts, max_jitter }) = &self.writers.triggering else {
            let _ = connection(stream, turn, None, &mut |request, _| {
                let answered = answer(&mut self.registers.map(), request);
                chosen(request, answered)
            });
            return;
        };
        let own = self.writing.fetch_add(1, Ordering::Relaxed);
        let mut has_triggered = false;
        let arrivals = Arrivals::new(Arc::new(SystemClock), *max_jitter);
        let _ = connection(stream, turn, Some(arrivals), &mut |request, arrival| {
            // Held from the write to the post: of two PLCs each has its own answer.
            let mut map = self.registers.map();
            let (reply, wanted) = answer(&mut map, request);
            if wanted.is_some() {
                drop(map);
                return chosen(request, (reply, wanted));
            }
            let asked = map.take_asked().zip(arrival);
            if asked.is_some() {
                map.hold_trigger(own);
            }
            match asked {
                None => reply,
                Some((Asked::Again, _)) => {
                    posts.pass_over(Odd::StillSet);
                    reply
                }
                Some((Asked::Part, arrival)) => {
                    has_triggered = true;
                    if posts.trigger(arrival) {
                        return reply;
                    }
                    map.reset_trigger();
                    refused(request, pdu::Exception::Failure)
                }
            }
        });
        // Another connection may hold it meanwhile: a PLC's new one, while its old one times out.
        self.registers.map().let_go_of_trigger(own);
        if has_triggered {
            posts.pass_over(Odd::Disconnected);
        }
    }
}

fn answer(map: &mut Map, request: &[u8], events: &Events, begin: Instant) -> Vec<u8> {
    map.refresh(events, begin.elapsed().as_secs());
    pdu::answer(request, map)
}

fn refused(request: &[u8], why: pdu::Exception) -> Vec<u8> {
    vec![request[0] | 0x80, why as u8]
}

/// A connection's bytes, and when the last of them came where that matters.
struct Stamped {
    wire: Wire,
    arrivals: Option<Arrivals>,
    last: Option<Arrival>,
}

impl Stamped {
    /// Waits for more bytes; gives their number, 0 at the end of the stream.
    fn fill(&mut self, deadline: Instant) -> std::io::Result<usize> {
        let Some(arrivals) = &mut self.arrivals else { return self.wire.fill(deadline) };
        let arrival = loop {
            if let Some(arrival) = arrivals.wait(self.wire.fd(), left(deadline)?)? {
                break arrival;
            }
        };
        let n = self.wire.fill(deadline)?;
        arrivals.read(n, CHUNK, arrival.at);
        self.last = Some(arrival);
        Ok(n)
    }

    /// Takes exactly `n` bytes.
    fn take(&mut self, n: usize, deadline: Instant) -> std::io::Result<Vec<u8>> {
        while self.wire.waiting().len() < n {
            if self.fill(deadline)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.wire.take(n))
    }
}

/// What answers a request: its bytes, and the moment at which the last of them could be read.
type Answer<'a> = dyn FnMut(&[u8], Option<Arrival>) -> Vec<u8> + 'a;

/// Requests and answers over one connection, until it ends, is no Modbus, or its turn is over.
/// `arrivals`: where a request's moment matters.
fn connection(
    stream: Arc<TcpStream>,
    turn: &Turn,
    arrivals: Option<Arrivals>,
    answer: &mut Answer<'_>,
) -> std::io::Result<()> {
    // What is not sent at once comes a little later.
    let _ = stream.set_nodelay(true);
    let mut line = Stamped { wire: Wire::new(stream), arrivals, last: None };
    loop {
        if line.wire.waiting().is_empty() && line.fill(Instant::now() + IDLE)? == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + WHOLE;
        let mut header = line.take(HEADER, deadline)?;
        let [_, _, protocol @ .., high, low] = header.as_slice() else { unreachable!("six bytes were taken") };
        let length = u16::from_be_bytes([*high, *low]) as usize;
        // What follows is no request: nobody knows where the next one begins.
        if protocol != [0, 0] || !(2..=254).contains(&length) {
            return Ok(());
        }
        let unit_and_request = line.take(length, deadline)?;
        // There is no answer for what this run cannot do any more: a PLC connects again.
        let Some(_answering) = turn.begin() else { return Ok(()) };
        let reply = answer(&unit_and_request[1..], line.last);
        header[4..].copy_from_slice(&(reply.len() as u16 + 1).to_be_bytes());
        header.push(unit_and_request[0]);
        header.extend(reply);
        line.wire.send(&header, Instant::now() + WHOLE)?;
    }
}
