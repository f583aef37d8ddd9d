//! The actuation thread: commands, gates, pulses, retries, and the watch over the line's beat.
//!
//! Knows no camera and no model.

use super::{Actuator, Health, realtime};
use crate::fault::Reason;
use crate::supervisor::Ended;
use crate::supervisor::shared::Shared;
use crate::time::{Clock, Instant, Micros};
use std::sync::atomic::Ordering;

/// What the thread needs to know of the site.
#[derive(Clone, Copy)]
pub(in crate::supervisor) struct Watch {
    /// Longest time without a beat of the line.
    pub(in crate::supervisor) watchdog: Micros,
    /// Writes in a row that may fail.
    pub(in crate::supervisor) max_faults: u32,
    /// Whether parts are timed, so that priority matters.
    pub(in crate::supervisor) gated: bool,
    /// Longest time that parts and pulses in flight are given at a run's end.
    pub(in crate::supervisor) drain: Micros,
}

/// Runs until the run ends and nothing is in flight, or the line missed its beat.
pub(in crate::supervisor) fn actuate(actuator: &mut Actuator, shared: &Shared, watch: Watch) {
    /// Longest sleep: retries and the watch over the beat.
    const NAP: Micros = Micros(20_000);
    /// A sleeping thread wakes this much before an edge and waits for it awake.
    const LEAD: Micros = Micros(200);
    if watch.gated {
        let realtime = realtime::take();
        if !realtime.missing.is_empty() {
            shared.events.note(&format_args!("outputs could be timed better: {}", realtime.missing));
        }
        shared.set_realtime(realtime.got);
    }
    let (clock, events) = (&shared.clock, &*shared.events);
    let mut end: Option<Instant> = None;
    loop {
        let now = clock.now();
        let next = actuator.next_due();
        let wait = next.map_or(NAP, |at| at.minus(LEAD).since(now)).min(NAP);
        let first = shared.commands.pop(wait);
        if let (None, Some(at)) = (first, next) {
            while clock.now() < at && at.since(clock.now()) <= LEAD {
                std::hint::spin_loop();
            }
        }
        let mut command = first.or_else(|| shared.commands.pop(Micros(0)));
        while let Some(c) = command {
            actuator.apply(c, clock, events);
            command = shared.commands.pop(Micros(0));
        }
        let beat = Instant::from_micros(shared.beat.load(Ordering::Relaxed));
        let stopped = shared.exchange.stop.load(Ordering::Relaxed);
        let alive = clock.now().since(beat) <= watch.watchdog;
        let draining = shared.drain.load(Ordering::Relaxed);
        actuator.set_health(Health { alive: draining || alive && !stopped, camera: shared.camera.load(Ordering::Relaxed) });
        actuator.tick(shared.belt.position(), clock, events);
        if draining {
            let end = *end.get_or_insert(clock.now().plus(watch.drain));
            if !actuator.is_busy() || clock.now() >= end {
                return;
            }
        }
        if actuator.faults_in_a_row() >= watch.max_faults {
            shared.end(Ended::Held);
        }
        if !stopped && !alive {
            actuator.go_safe(Reason::MissedBeat, clock, events);
            let why = shared.how_it_hung(clock.now().since(beat));
            // The first time counts.
            let _ = shared.hung.set(why.clone());
            shared.line_fault(Reason::MissedBeat, why);
            shared.end(Ended::Hung);
            return;
        }
    }
}
