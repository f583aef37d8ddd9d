//! Modbus TCP: the line as registers for a PLC, by the map in `MODBUS.md`.
//!
//! [`map`] is what the registers mean and the handshake of results, [`pdu`] the protocol. A sink
//! puts parts and faults into the map; each connection answers from it. Who polls, who stops
//! polling and who sends garbage reach nothing but the map.

mod map;
mod pdu;

use super::listener::Listener;
use super::wire::Wire;
use crate::events::sinks::Sink;
use crate::events::{Event, Events, What};
use map::Map;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections at a time; one more is closed.
const CONNECTIONS: usize = 16;
/// Longest silence of a PLC.
const IDLE: Duration = Duration::from_secs(120);
/// From a request's first byte to its last, and the same for its answer.
const WHOLE: Duration = Duration::from_secs(5);
/// Transaction, protocol and length before each request.
const HEADER: usize = 6;

/// Who may set coils.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers(pub Vec<IpAddr>);

/// The map that sink and connections share.
#[derive(Clone, Debug)]
pub struct Registers(Arc<Mutex<Map>>);

impl Registers {
    /// `results`: that wait at most, where a PLC buffers them.
    pub fn new(results: usize) -> Self {
        Self(Arc::new(Mutex::new(Map::new(results))))
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
    registers: Registers,
    writers: Writers,
}

impl Modbus {
    /// Listens at `address`.
    pub fn bind(address: SocketAddr, registers: Registers, writers: Writers) -> std::io::Result<Self> {
        Ok(Self { listener: Listener::bind(address, CONNECTIONS)?, registers, writers })
    }

    /// Answers until `stop` is set.
    pub fn serve(&self, events: &Arc<Events>, stop: &AtomicBool) {
        let (registers, writers, events, begin) =
            (self.registers.clone(), self.writers.clone(), events.clone(), Instant::now());
        let serve = move |stream: TcpStream| {
            let may_write = stream.peer_addr().is_ok_and(|peer| writers.0.contains(&peer.ip().to_canonical()));
            // Whatever ends a connection, the PLC opens another.
            let _ = connection(stream, &mut |request: &[u8]| {
                if !may_write && matches!(request[0], 5 | 6 | 15 | 16) {
                    return vec![request[0] | 0x80, pdu::Exception::Function as u8];
                }
                let mut map = registers.map();
                map.refresh(&events, begin.elapsed().as_secs());
                pdu::answer(request, &mut *map)
            });
        };
        self.listener.serve("modbus", &(Arc::new(serve) as _), drop, stop);
    }
}

/// Requests and answers over one connection, until it ends or is no Modbus.
fn connection(stream: TcpStream, answer: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::new(stream);
    loop {
        if wire.waiting().is_empty() && wire.fill(Instant::now() + IDLE)? == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + WHOLE;
        let mut header = Vec::new();
        wire.take_exact(HEADER, &mut header, deadline)?;
        let [_, _, protocol @ .., high, low] = header.as_slice() else { unreachable!("six bytes were taken") };
        let length = u16::from_be_bytes([*high, *low]) as usize;
        // What follows is no request: nobody knows where the next one begins.
        if protocol != [0, 0] || !(2..=254).contains(&length) {
            return Ok(());
        }
        let mut unit_and_request = Vec::new();
        wire.take_exact(length, &mut unit_and_request, deadline)?;
        let reply = answer(&unit_and_request[1..]);
        header[4..].copy_from_slice(&(reply.len() as u16 + 1).to_be_bytes());
        header.push(unit_and_request[0]);
        header.extend(reply);
        wire.send(&header, Instant::now() + WHOLE)?;
    }
}
