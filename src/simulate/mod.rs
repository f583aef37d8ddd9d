//! The whole line on a simulated clock: a scripted belt, camera and model in front of the station
//! and the outputs of a board.
//!
//! The belt ([`belt`]) makes what happens: parts, exposures, inferences, faults. It carries them
//! into the same [`Station`](crate::station::Station) and the same actuator that a board runs. What
//! ought to happen is worked out beside it by a [`ledger`], which is told of the belt alone and
//! reads device.toml by itself ([`site`], [`naive`], [`status`]). Every line's state at every
//! moment is compared with that.

mod belt;
mod clock;
pub mod drawn;
mod fault;
pub mod ledger;
mod motion;
pub mod naive;
mod random;
mod script;
mod site;
mod status;
#[cfg(test)]
mod tests;
pub mod view;

pub use clock::SimulatedClock;
pub use fault::Fault;
pub use motion::Moves;
pub use random::{Quantile, Spread};
pub use script::{Outcome, Plan, Script};
pub use site::ModelTag;

use crate::bundle::Bundle;
use crate::settings::{Settings, TriggerKind};
use crate::time::Micros;
use belt::Simulated;

/// The tags of a bundle.
pub fn model_tags(bundle: &Bundle<'_>) -> Vec<ModelTag> {
    let tag = |t: &crate::bundle::Tag<'_>| ModelTag {
        name: t.name.into(),
        threshold: t.rule.threshold.0,
        review_low: t.rule.review_low.0,
        role: t.role,
    };
    bundle.contract.tags.iter().map(tag).collect()
}

/// Runs a script to its end.
pub fn run(plan: &Plan<'_>, script: &Script) -> Result<Outcome, String> {
    if let Some(category) = plan.settings.categories.first() {
        return Err(format!(
            "the settings name \"{}\", and a simulated part has scores of tags alone; name tags, or leave it out",
            category.name
        ));
    }
    // Triggers come from the script.
    let settings = Settings { trigger: TriggerKind::Input, ..plan.settings.clone() };
    if let Some(latency) = belt::latency(&settings).filter(|latency| script.arrival.hi > *latency) {
        let [stated, found] = [latency, script.arrival.hi].map(|span| span.0 as f64 / 1000.0);
        return Err(format!(
            "frames take up to {found} ms to arrive, but [trigger] max_latency_ms says at most {stated}; correct one of them"
        ));
    }
    Ok(Simulated::new(plan, &settings, script)?.run())
}

/// Whether the model's longest inference is one that the watchdog ends the run for.
pub fn hangs(plan: &Plan<'_>, script: &Script) -> bool {
    script.inference.largest() > plan.settings.watchdog.micros()
}

/// The shortest spacing at which no part is late, given up, not followed, without an answer or met
/// by another's pulse, for this script's camera and inference and without its faults; nothing if
/// even parts ten seconds apart are, or the model hangs. `parts` are tried at each spacing.
pub fn fastest(plan: &Plan<'_>, script: &Script, parts: u64) -> Result<Option<(Micros, Outcome)>, String> {
    let ratio = |spacing: Micros| {
        // The script's own unevenness, as a share of its spacing.
        let (lo, hi) = (script.spacing.lo.0 as f64, script.spacing.hi.0.max(1) as f64);
        let spread = (hi - lo) / (hi + lo);
        let end = |sign: f64| Micros((spacing.0 as f64 * (1.0 + sign * spread)) as u64);
        Spread { lo: end(-1.0), hi: end(1.0) }
    };
    let trial = |spacing: Micros| {
        let spacing = ratio(spacing);
        // A part is in view until the next one is.
        let in_view = script.in_view.min(spacing.lo);
        let faults = Vec::new();
        let script = Script { spacing, in_view, parts, faults, model_changes: None, loses: None, ..script.clone() };
        run(plan, &script)
    };
    let (mut lo, mut hi) = (0u64, 10_000_000u64);
    let good = |o: &Outcome| {
        let unsorted = o.undecided + o.unseen + o.late + o.given_up + o.harmed;
        unsorted + o.held + o.hung == 0 && o.verdict.is_clean()
    };
    if hangs(plan, script) {
        return Ok(None);
    }
    let mut best = trial(Micros(hi))?;
    if !good(&best) {
        return Ok(None);
    }
    while hi - lo > (hi / 100).max(500) {
        let middle = (lo + hi) / 2;
        let outcome = trial(Micros(middle))?;
        if good(&outcome) {
            (hi, best) = (middle, outcome);
        } else {
            lo = middle;
        }
    }
    Ok(Some((Micros(hi), best)))
}
