//! Another model takes the line's model's place: when it is wanted, where the line has free room
//! for it, and what each one says.
//!
//! Models are numbered from 0 in the order in which they become current. Each has a slot of the
//! station until the station frees that, which is when the next one may be put there. What a model
//! says of a part goes by its number, and so do its thresholds, so that a part that is judged by
//! another model than its own is judged wrongly as a rule.

use super::Simulated;
use crate::decide::TagRule;
use crate::head::Score;
use crate::random::Random;
use crate::settings::{ModelTags, Settings};
use crate::simulate::random::Spread;
use crate::simulate::script::Plan;
use crate::simulate::site::of_model;
use crate::station::{Input, Slot, Spare};
use crate::time::Instant;

/// The models of a line.
pub(super) struct Models {
    /// Apart from the belt's, so that a belt is the same with and without changes of the model.
    random: Random,
    every: Option<Spread>,
    /// When the next one is wanted.
    pub(super) next: Option<Instant>,
    /// The one that decides parts from the next trigger on.
    current: u64,
    slots: [Option<u64>; 2],
    spare: Option<Spare>,
    /// What a line reads of thresholds with the even and with the odd models' bundles.
    rules: [Vec<TagRule>; 2],
}

impl Models {
    pub(super) fn new(plan: &Plan<'_>, seed: u64, every: Option<Spread>, start: Instant) -> Result<Self, String> {
        let mut random = Random::new(seed, 0x5_3a9);
        let next = every.map(|every| start.plus(every.draw(&mut random)));
        let rules = match every {
            Some(_) => [rules(plan, 0)?, rules(plan, 1)?],
            None => Default::default(),
        };
        Ok(Self { random, every, next, current: 0, slots: [Some(0), None], spare: None, rules })
    }

    /// The model in a slot; `None` where the line has taken it out.
    pub(super) fn at(&self, slot: Slot) -> Option<u64> {
        self.slots[slot as usize]
    }
}

/// The thresholds by which a line judges with this model's bundle and the plan's device.toml.
fn rules(plan: &Plan<'_>, model: u64) -> Result<Vec<TagRule>, String> {
    let tags = of_model(plan.tags, model);
    let names: Vec<&str> = tags.iter().map(|tag| tag.name.as_str()).collect();
    let rule = |t: &crate::simulate::ModelTag| TagRule { threshold: Score(t.threshold), review_low: Score(t.review_low) };
    let rules: Vec<TagRule> = tags.iter().map(rule).collect();
    let roles: Vec<_> = tags.iter().map(|tag| tag.role).collect();
    let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories: None };
    let settings = Settings::parse(plan.text, "device.toml", model).map_err(|e| e.0.join("; "))?;
    Ok(settings.tags.iter().map(|tag| tag.rule).collect())
}

impl Simulated<'_> {
    /// Takes the room that is free, and puts the next model there once it is wanted.
    pub(super) fn change_model(&mut self, now: Instant) {
        let Some(every) = self.models.every else { return };
        if self.models.spare.is_none()
            && let Some(spare) = self.station.take_spare()
        {
            self.models.slots[spare.slot() as usize] = None;
            self.models.spare = Some(spare);
        }
        if self.models.next.is_some_and(|at| at <= now)
            && let Some(spare) = self.models.spare.take()
        {
            let models = &mut self.models;
            models.current += 1;
            models.slots[spare.slot() as usize] = Some(models.current);
            models.next = Some(now.plus(every.draw(&mut models.random)));
            let rules = models.rules[models.current as usize % 2].clone();
            self.outcome.model_changes += 1;
            self.ledger.model_changes(self.models.current);
            self.step_alone(Input::Model { spare, rules: &rules });
        }
    }

    /// A line that was started again has the current model alone.
    pub(super) fn start_model(&mut self) {
        if self.models.every.is_none() {
            return;
        }
        (self.models.slots, self.models.spare) = ([Some(self.models.current), None], None);
        let rules = self.models.rules[self.models.current as usize % 2].clone();
        self.step_alone(Input::Rules(&rules));
    }
}
