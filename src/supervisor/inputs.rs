//! The threads that wait for triggers, encoder, acknowledge and confirmations, one for each input.
//!
use super::actuation::Command;
use super::ended::Ended;
use super::shared::Shared;
use crate::events::Why;
use crate::fault::Reason;
use crate::station;
use crate::triggers::{Input, Trigger};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Takes what an input does until the outputs have had their last part: the belt is counted to the end. An input that fails cannot tell where parts are: the line is held safe.
pub(super) fn watch(mut input: Box<dyn Trigger>, shared: &Shared) {
    while !shared.over.load(Ordering::Relaxed) {
        match input.next(Duration::from_millis(50)) {
            Ok(None) => {}
            Ok(Some(Input::Trigger { at, position })) => shared.trigger(at, position),
            Ok(Some(Input::Position(moment))) => {
                shared.belt.set(moment.position);
                shared.commands.wake();
                if shared.watches_belt {
                    shared.step(station::Input::Belt(moment));
                }
            }
            Ok(Some(Input::Acknowledge(at))) => shared.commands.push(Command::Acknowledge(at)),
            Ok(Some(Input::Confirm(at))) => shared.commands.push(Command::Confirm(at)),
            Ok(Some(Input::Lost(edges))) => {
                let why = Why::of(&format_args!("{edges} edges of an input were lost: parts may have passed unseen"));
                shared.line_fault(Reason::Trigger, why);
            }
            Err(e) => {
                shared.line_fault(Reason::Trigger, Why::of(&e));
                shared.end(Ended::Held);
                return;
            }
        }
    }
}
