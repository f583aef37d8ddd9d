//! What exactly failed, for people and the service manager's journal: one line each on standard
//! error.

use super::Sink;
use super::text::shown;
use crate::bundle::Hex;
use crate::events::{Event, Events, RecipeEvent, Switch, Update, UpdateEvent, What};
use crate::terminal::fitted;
use std::io::Write;

/// Explanations of faults, what became of an update, and notes.
pub struct Explanations;

impl Explanations {
    /// Whether an event explains anything.
    pub fn wants(what: &What) -> bool {
        match what {
            What::Fault(fault) => !fault.why.as_str().is_empty(),
            What::Note(_) | What::Update(_) | What::Recipe(_) => true,
            _ => false,
        }
    }
}

/// What became of an update, in words.
fn updated(update: &UpdateEvent) -> String {
    // Enough to tell two bundles apart.
    let short = |hash: &[u8; 32]| Hex(hash).to_string()[..12].to_string();
    let bundle = update.bundle.as_ref().map_or("an installed bundle".into(), |hash| format!("bundle {}...", short(hash)));
    let (running, why) = (short(&update.running), update.why.as_str());
    let from = update.from_part.unwrap_or(1);
    match update.outcome {
        Update::TakenOver => format!("{bundle} decides parts from {from} on"),
        Update::WentBack => format!("{bundle} is left, {running}... decides parts from {from} on again: {why}"),
        Update::RestartNeeded => format!("{bundle} needs a restart of the line, {running}... goes on until then: {why}"),
        Update::Refused => format!("{bundle} is refused, {running}... goes on: {why}"),
    }
}

/// What became of a choice of a recipe, in words.
fn switched(recipe: &RecipeEvent) -> String {
    let told = |name: &str| if name.is_empty() { "none".to_string() } else { format!("\"{name}\"") };
    let (old, new, why) = (told(&recipe.old), told(&recipe.new), recipe.why.as_str());
    match recipe.outcome {
        Switch::Chosen => {
            format!("recipe {new} is chosen by {}: parts on their way pass, then it begins", recipe.who.as_str())
        }
        Switch::Refused => format!("recipe {new} is refused, {old} goes on: {why}"),
        Switch::Running => format!("the line goes by recipe {new}; it was {old}"),
        Switch::WentBack => format!("recipe {new} cannot start, the line went back to {old}: {why}"),
    }
}

impl Sink for Explanations {
    fn write(&mut self, _: &Events, event: &Event) -> std::io::Result<()> {
        let text = match &event.what {
            What::Fault(fault) => fault.why.as_str().into(),
            What::Note(text) => text.as_str().into(),
            What::Update(update) => updated(update),
            What::Recipe(recipe) => switched(recipe),
            _ => return Ok(()),
        };
        let mut stderr = std::io::stderr().lock();
        let told = fitted(&stderr, &format!("tagpin: {}", shown(&text, usize::MAX)), 8);
        writeln!(stderr, "{told}")
    }
}
