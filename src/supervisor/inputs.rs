//! The threads that wait for triggers, encoder, acknowledge and confirmations, one for each input.

use super::actuation::Command;
use super::ended::Ended;
use super::shared::Shared;
use crate::events::{FaultKind, Remedy, Why};
use crate::fault::Reason;
use crate::station;
use crate::time::{Clock, Instant, Micros};
use crate::triggers::{Input, Odd, Trigger};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Most that is told of what a run that makes place leaves at an input: its writer may not stop.
const MOST_LEFT: usize = 4096;

/// What was passed over at an input and is not told yet. It is told at most once a second: a writer
/// of nonsense may not drown everything else.
#[derive(Default)]
struct PassedOver {
    waiting: u64,
    last: Option<Odd>,
    told_at: Option<Instant>,
}

impl PassedOver {
    fn add(&mut self, odd: Odd, shared: &Shared) {
        shared.events.counters().passed_over.fetch_add(1, Ordering::Relaxed);
        self.waiting += 1;
        self.last = Some(odd);
        self.tell(shared, false);
    }

    fn tell(&mut self, shared: &Shared, at_once: bool) {
        const PAUSE: Micros = Micros(1_000_000);
        let now = shared.clock.now();
        let waits = self.told_at.is_some_and(|at| now.since(at) < PAUSE) && !at_once;
        let Some(odd) = self.last.filter(|_| self.waiting > 0 && !waits) else { return };
        let why = match self.waiting {
            1 => Why::of(&format_args!("passed over at the trigger: {odd}")),
            n => Why::of(&format_args!("passed over at the trigger, {n} times since this was told; last: {odd}")),
        };
        shared.events.fault(FaultKind::Input, None, Remedy::Told, why);
        *self = Self { told_at: Some(now), ..Self::default() };
    }
}

/// No part will be named any more: those on their way are sorted, then the run ends. A trigger that
/// ended is one that failed.
fn end(shared: &Shared) {
    let why = "the trigger's input has ended: no part can come any more; parts on their way are sorted, then the run ends";
    shared.events.fault(Reason::Trigger, None, Remedy::Told, Why::of(&why));
    let is_over = || shared.exchange.stop.load(Ordering::Relaxed);
    let waits = || {
        let figures = shared.events.counters().figures();
        figures.parts < figures.triggers
    };
    let begin = shared.clock.now();
    // Each part has its end by its deadline; by the belt it has none while that stands still.
    let stands = || {
        let stood = shared.clock.now().since(shared.belt.moved().max(begin));
        shared.watches_belt && shared.patience.stands.is_some_and(|longest| stood >= longest)
    };
    while waits() && !is_over() && !stands() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // A part is counted before its commands are given: what follows from it is carried out under
    // this lock.
    drop(shared.station.lock().expect("no thread panics while it holds this"));
    shared.end(Ended::TriggerEnded);
}

/// Takes what an input does until the outputs have had their last part: the belt is counted to the
/// end. An input that fails cannot tell where parts are: the line is held safe. A trigger that was
/// answered as taken is a part or is told, also where the run is over as it is read. `acknowledged`:
/// is told of each acknowledgement.
pub(super) fn watch(mut input: Box<dyn Trigger>, shared: &Shared, acknowledged: &dyn Fn()) {
    let mut passed_over = PassedOver::default();
    let mut refuses = false;
    loop {
        passed_over.tell(shared, false);
        let over = shared.over.load(Ordering::Relaxed);
        // While a recipe changes triggers are counted and told to the end.
        if !refuses && (over || shared.is_stopped() && !shared.is_closing()) {
            refuses = input.refuse();
        }
        if over && !refuses {
            break;
        }
        match input.next(Duration::from_millis(if over { 0 } else { 50 })) {
            Ok(None) if over => break,
            Ok(None) => {}
            Ok(Some(Input::Trigger { at, position })) => {
                if !shared.trigger(at, position) {
                    let was_answered = input.refuse();
                    refuses |= was_answered;
                    if was_answered || shared.ended.why().is_some_and(Ended::is_unasked) {
                        shared.unopened(shared.clock.now());
                    }
                }
            }
            Ok(Some(Input::Position(moment))) => {
                shared.belt.set(moment);
                shared.commands.wake();
                if shared.watches_belt {
                    shared.step(station::Input::Belt(moment));
                }
            }
            Ok(Some(Input::Acknowledge(at))) => {
                shared.commands.push(Command::Acknowledge(at));
                acknowledged();
            }
            Ok(Some(Input::Confirm(at))) => {
                if !shared.commands.confirm(at) {
                    passed_over.add(Odd::Crowded, shared);
                }
            }
            Ok(Some(Input::Lost(signals))) => {
                let why =
                    format_args!("{signals} signals of an input were lost or came too late: parts may have passed unseen");
                shared.line_fault(Reason::Trigger, Why::of(&why));
            }
            Ok(Some(Input::PassedOver(odd))) => passed_over.add(odd, shared),
            Ok(Some(Input::Ended)) => {
                passed_over.tell(shared, true);
                end(shared);
            }
            Err(e) => {
                shared.line_fault(Reason::Trigger, Why::of(&e));
                shared.end(Ended::Held);
                return;
            }
        }
    }
    tell_left(&mut *input, &mut passed_over, shared);
}

/// What came before the run was over and no other run finds is told where the run makes place for
/// the next.
fn tell_left(input: &mut dyn Trigger, passed_over: &mut PassedOver, shared: &Shared) {
    if !shared.is_closing() {
        return;
    }
    std::iter::from_fn(|| input.left()).take(MOST_LEFT).for_each(|left| match left {
        Input::Trigger { .. } | Input::Acknowledge(_) | Input::Confirm(_) => passed_over.add(Odd::Between, shared),
        Input::Lost(signals) => (0..signals).for_each(|_| passed_over.add(Odd::Between, shared)),
        Input::PassedOver(odd) => passed_over.add(odd, shared),
        Input::Position(_) | Input::Ended => {}
    });
    passed_over.tell(shared, true);
}
