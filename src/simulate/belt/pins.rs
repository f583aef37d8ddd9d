//! The pins: lines whose writes can fail, and what they did beside what was told of it.

use super::Simulated;
use crate::events::{EdgeEvent, FaultKind, Outcome as PinOutcome, What};
use crate::fault::Reason;
use crate::outputs::{Output, State, WriteError};
use crate::settings::{Drive, OutputSettings, Settings};
use crate::simulate::clock::SimulatedClock;
use crate::simulate::ledger::{Edge, Noted};
use crate::simulate::script::Plan;
use crate::supervisor::actuation::{Actuator, EdgeRules};
use crate::time::{Clock, Instant};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a pin did: which, when, and whether it is active now.
pub(super) type Pins = Arc<Mutex<VecDeque<(u8, Instant, bool)>>>;

/// A line whose next write can be made to fail.
struct Flaky {
    pin: u8,
    fails: Arc<AtomicBool>,
    pins: Pins,
    clock: Arc<SimulatedClock>,
}

impl Output for Flaky {
    fn apply(&mut self, state: State) -> Result<(), WriteError> {
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err(WriteError::Drill);
        }
        let mut pins = self.pins.lock().expect("the simulation has one thread");
        pins.push_back((self.pin, self.clock.now(), state == State::Active));
        Ok(())
    }

    fn second(&self) -> Box<dyn Output> {
        Box::new(Self { pin: self.pin, fails: self.fails.clone(), pins: self.pins.clone(), clock: self.clock.clone() })
    }
}

/// The outputs of a board, all in their safe state.
pub(super) fn actuator(
    plan: &Plan<'_>,
    settings: &Settings,
    write_fails: &Arc<AtomicBool>,
    pins: &Pins,
    clock: &Arc<SimulatedClock>,
) -> Actuator {
    let (late, late_calls) = settings.routing(plan.task).late();
    let open = |output: &OutputSettings| {
        let pin = settings.outputs.iter().position(|o| o.name == output.name).expect("it is one of them") as u8;
        let (fails, pins, clock) = (write_fails.clone(), pins.clone(), clock.clone());
        Ok(Box::new(Flaky { pin, fails, pins, clock }) as Box<dyn Output>)
    };
    let actuator = Actuator::open(&settings.outputs, late_calls, late, EdgeRules::of(settings), open);
    actuator.unwrap_or_else(|_| unreachable!("no simulated line is refused"))
}

impl Simulated<'_> {
    pub(super) fn drain(&mut self) {
        let mut drained = std::mem::take(&mut self.drained);
        self.events.take_all(&mut drained);
        for event in drained.drain(..) {
            let edge = match event.what {
                What::Edge(edge) => edge,
                What::Fault(fault) => {
                    match (fault.kind, fault.part) {
                        (FaultKind::NotRejected, Some(part)) => {
                            self.ledger.note(event.at, Noted::ToldNotRejected(self.before + part - 1));
                        }
                        (FaultKind::LateEdge, _) => self.ledger.edge_told_late(event.at),
                        (FaultKind::MissedEdge | FaultKind::Line(Reason::Output), Some(_)) => self.told_of_one += 1,
                        (FaultKind::UnexpectedConfirmation, _) => self.ledger.note(event.at, Noted::ToldUnexpected),
                        _ => {}
                    }
                    continue;
                }
                _ => continue,
            };
            let EdgeEvent { part, output: line, state, done, outcome, .. } = edge;
            if outcome == PinOutcome::Failed {
                continue;
            }
            self.outcome.edges += 1;
            let active = state == State::Active;
            // What is told is what the pin did.
            if self.next_pin() != Some((line, done, active)) {
                self.ledger.verdict.not_safe += 1;
            }
            self.states[line as usize] = active;
            let edge = Edge { at: done, active, part: part.checked_sub(1).map(|part| part + self.before) };
            self.add_edge(line, edge);
            self.throw(line, active, done);
            if let Some(row) = self.row(part) {
                row.edges.push((line, active, done.since(row.trigger)));
            }
        }
        self.drained = drained;
        if self.next_pin().is_some() {
            // A pin moved, and nobody was told.
            self.ledger.verdict.not_safe += 1;
        }
    }

    /// The next that a pin did and that is told. A heartbeat is not.
    pub(super) fn next_pin(&mut self) -> Option<(u8, Instant, bool)> {
        loop {
            let (pin, at, active) = self.pins.lock().expect("the simulation has one thread").pop_front()?;
            if !matches!(self.settings.outputs[pin as usize].drive, Drive::Heartbeat(_)) {
                return Some((pin, at, active));
            }
            self.states[pin as usize] = active;
            self.add_edge(pin, Edge { at, active, part: None });
        }
    }

    pub(super) fn add_edge(&mut self, line: u8, edge: Edge) {
        let name = &self.names[line as usize];
        match self.edges.get_mut(name) {
            Some(edges) => edges.push(edge),
            None => drop(self.edges.insert(name.clone(), vec![edge])),
        }
    }
}
