//! The actuation thread: commands, gates, pulses, retries, a beat of its own, and the watch over
//! the line's.
//!
//! After its start it allocates nothing and takes no lock: what it shares with other threads are
//! atomics, the ring of commands and the queues of events.

use super::Ended;
use super::actuation::{Actuator, Commands, Health, realtime};
use super::shared::Shared;
use super::unchanged::Unchanged;
use crate::events::Remedy;
use crate::fault::Reason;
use crate::time::{Clock, Instant, Micros};
use std::sync::atomic::Ordering;

/// What the thread needs to know of the site.
#[derive(Clone, Copy)]
pub(super) struct Watch {
    /// Longest time without a beat of the line.
    pub(super) watchdog: Micros,
    /// Writes in a row that may fail.
    pub(super) max_faults: u32,
    /// Whether parts are timed, so that priority matters.
    pub(super) gated: bool,
}

/// Longest sleep: retries and the watch over the beat.
const NAP: Micros = Micros(20_000);

/// Runs until the run ends and nothing is in flight, a thread panicked, or the line missed its
/// beat.
pub(super) fn actuate(actuator: &mut Actuator, commands: &mut Commands, shared: &Shared, watch: Watch) {
    /// A sleeping thread wakes this much before an edge and waits for it awake.
    const LEAD: Micros = Micros(200);
    if watch.gated {
        let realtime = realtime::take();
        if !realtime.missing.is_empty() {
            shared.events.note(&format_args!("outputs could be timed better: {}", realtime.missing));
        }
        shared.set_realtime(realtime.got);
    }
    realtime::touch_stack();
    let (clock, events) = (&shared.clock, &*shared.events);
    let mut end: Option<Instant> = None;
    let (mut seen, mut silence) = (0, Unchanged::default());
    loop {
        // Before commands are taken: whoever set them had given all of them. The end is set before
        // the stop, so no stop is seen without its end: `ready` would go and come again.
        let stopped = shared.exchange.stop.load(Ordering::Acquire);
        let draining = shared.drain.load(Ordering::Acquire);
        let now = clock.now();
        shared.outputs_beat.store(now.as_micros(), Ordering::Relaxed);
        let next = actuator.next_due();
        let wait = next.map_or(NAP, |at| at.minus(LEAD).since(now)).min(NAP);
        let mut command = commands.pop();
        if command.is_none() && wait.0 > 0 {
            std::thread::park_timeout(wait.duration());
            command = commands.pop();
        }
        if shared.alarm.is_raised() {
            // Nothing moves any more because of what a thread said that has panicked.
            return;
        }
        if let (None, Some(at)) = (command, next) {
            while clock.now() < at && at.since(clock.now()) <= LEAD {
                std::hint::spin_loop();
            }
        }
        while let Some(c) = command.or_else(|| commands.pop()) {
            actuator.apply(c, clock, events);
            command = None;
        }
        let beat = Instant::from_micros(shared.beat.load(Ordering::Relaxed));
        let silent = silence.look(clock.now(), beat, NAP);
        let alive = silent <= watch.watchdog;
        let camera = shared.events.snapshot().camera_works() && !shared.closing.load(Ordering::Relaxed);
        actuator.set_health(Health { alive: draining || alive && !stopped, camera });
        let peak = shared.belt.take_peak();
        shared.belt.follow(&mut seen, peak, |to| actuator.belt_moved(to));
        actuator.tick(peak, clock, events);
        if actuator.is_rescued() {
            // A write came back that was given up.
            return;
        }
        if draining {
            let end = *end.get_or_insert(clock.now());
            if !actuator.is_busy() {
                return;
            }
            if clock.now() >= shared.patience.over(end, shared.belt.moved()) {
                let parts = actuator.in_flight();
                let why = if shared.patience.stands.is_some() { "the belt stands still" } else { "their time is over" };
                events.note(&format_args!("{parts} parts on their way at the run's end are given up: {why}"));
                return;
            }
        }
        if actuator.faults_in_a_row() >= watch.max_faults {
            shared.end(Ended::Held);
        }
        if !stopped && !alive {
            actuator.go_safe(Reason::MissedBeat, clock, events);
            let why = shared.how_it_hung(silent);
            events.fault(Reason::MissedBeat, None, Remedy::Safe, why.clone());
            // Nobody else sets it.
            let _ = shared.hung.set(why);
            shared.end(Ended::Hung);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that was stopped for longer than `watchdog_ms` said that its line had hung, and
    /// ended for it.
    #[test]
    fn a_line_is_silent_only_while_somebody_listens() {
        let at = Instant::from_micros;
        let mut silence = Unchanged::default();
        assert_eq!(silence.look(at(9_000_000), at(9_000_000), NAP), Micros(0));
        let looks = [9_020_000, 9_040_000, 12_040_000, 12_060_000];
        let lasts = looks.map(|now| silence.look(at(now), at(9_000_000), NAP).0);
        assert_eq!(lasts, [20_000, 40_000, 80_000, 100_000], "3 s of it nobody looked");
        assert_eq!(silence.look(at(12_080_000), at(12_070_000), NAP), Micros(0), "it beat");
        assert_eq!(silence.look(at(12_100_000), at(12_070_000), NAP), Micros(20_000));
    }
}
