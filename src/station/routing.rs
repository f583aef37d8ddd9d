//! What each decision does with a part: the action it takes and the output lines it calls for.
//!
//! Lines are bits of a mask, in the order of device.toml's outputs; neither pins nor times are
//! known here.

use crate::decide::{Action, Decision, TagSet, Task, Verdict};
use crate::line::{LineMask, MAX_LINES, mask_of};
use heapless::Vec;

/// What calls for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Actions that do, as bits in the order of [`Action::ALL`].
    actions: u8,
    /// Tags that do when present.
    pub tags: TagSet,
    /// Whether a part does that no tag is sure of.
    pub unknown: bool,
    /// Whether a part does that is none of what the model was trained on.
    pub foreign: bool,
}

impl Default for Calls {
    fn default() -> Self {
        Self { actions: 0, tags: TagSet::EMPTY, unknown: false, foreign: false }
    }
}

impl Calls {
    /// Adds an action.
    pub fn on(&mut self, action: Action) {
        self.actions |= 1 << action as u8;
    }

    /// Whether an action calls.
    pub fn has(&self, action: Action) -> bool {
        self.actions >> action as u8 & 1 == 1
    }

    /// The actions that call.
    pub fn actions(&self) -> impl Iterator<Item = Action> + '_ {
        Action::ALL.into_iter().filter(|a| self.has(*a))
    }
}

/// Which output lines each decision calls for.
#[derive(Clone, Debug)]
pub struct Routing {
    task: Task,
    lines: Vec<Option<Calls>, MAX_LINES>,
    late: Option<Action>,
}

impl Routing {
    /// `lines`: one an output, `None` for those that parts do not move; panics if there are more
    /// than [`MAX_LINES`]. `late`: what a part without a verdict gets where outputs follow parts;
    /// `None` where they follow tags.
    pub fn new(task: Task, late: Option<Action>, lines: &[Option<Calls>]) -> Self {
        let lines = Vec::from_slice(lines).expect("settings hold at most MAX_LINES outputs");
        Self { task, lines, late }
    }

    /// What happens to a part of this decision, and the lines that are called for. A part without a
    /// verdict gets the late action where outputs follow parts; where they follow tags nothing is
    /// done with it, and the line is safe.
    pub fn of(&self, decision: &Decision) -> (Option<Action>, LineMask) {
        let action = decision.action.or(self.late);
        let driving = decision.driving(self.task);
        let called = |c: &Calls| {
            let by_unknown = c.unknown && decision.verdict == Verdict::Unknown;
            let by_foreign = c.foreign && decision.verdict == Verdict::Foreign;
            driving.meets(&c.tags) || by_unknown || by_foreign || action.is_some_and(|a| c.has(a))
        };
        (action, self.mask(called))
    }

    /// What a part without a verdict gets, if outputs follow parts, and the lines of that.
    pub fn late(&self) -> (Option<Action>, LineMask) {
        (self.late, self.mask(|c| self.late.is_some_and(|a| c.has(a))))
    }

    /// Whether outputs follow parts.
    pub fn is_gated(&self) -> bool {
        self.late.is_some()
    }

    /// How many tags hold at once.
    pub fn task(&self) -> Task {
        self.task
    }

    fn mask(&self, called: impl Fn(&Calls) -> bool) -> LineMask {
        mask_of(self.lines.iter().map(|c| c.as_ref().is_some_and(&called)))
    }
}

#[cfg(test)]
#[cfg(feature = "line")]
mod tests {
    use super::*;
    use crate::decide::{Decider, Role, TagRule, table};
    use crate::head::Score;
    use crate::settings::{ModelTags, Settings};
    use std::vec::Vec;

    #[test]
    fn the_device_decides_and_moves_lines_as_the_table_states() {
        for row in table::tests::rows() {
            let names: Vec<&str> = row.tags.iter().map(|t| t.name.as_str()).collect();
            let roles: Vec<Role> = row.tags.iter().map(|t| t.role).collect();
            let score = |p| Score::from_probability(p).unwrap();
            // Every second tag states its rule in device.toml: there the bundle's is another.
            let rule = |(i, t): (usize, &table::Tag)| match i % 2 {
                0 => TagRule { threshold: score(t.threshold), review_low: score(t.review_low) },
                _ => TagRule { threshold: Score(7), review_low: Score(3) },
            };
            let rules: Vec<TagRule> = row.tags.iter().enumerate().map(rule).collect();
            let text = row.device_toml();
            let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories: None };
            let settings =
                Settings::parse(&text, "device.toml", model).unwrap_or_else(|e| panic!("{}: {e}\n{text}", row.name));
            let mut decider = Decider::new(row.task, &settings.tags, settings.policy).unwrap();
            let decision = table::tests::decided(&row, &mut decider);
            let (action, mask) = settings.routing(row.task).of(&decision);
            row.check(&decision, action.map_or("-", Action::name), "the device");
            for (i, output) in settings.outputs.iter().enumerate() {
                let active = mask >> i & 1 == 1;
                let expected = match output.name.split_once('_') {
                    Some(("tag", tag)) => row.expected.driving.iter().any(|t| t == tag),
                    Some(("on", word)) => word == row.expected.action || word == row.expected.verdict && word != "review",
                    _ => unreachable!("the table makes no other outputs"),
                };
                assert_eq!(active, expected, "{}, output {}", row.name, output.name);
            }
        }
    }
}
