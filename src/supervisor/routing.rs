//! From a verdict to what happens to the part, and to the output lines that it calls for.
//!
//! Knows no pin and no time.

use crate::decide::{Action, Verdict};
use crate::line::LineMask;
use crate::settings::{Calls, Drive, LineMode, Settings};

/// The site's decisions on tags and lines.
#[derive(Clone, Debug)]
pub struct Routing {
    actions: Vec<Action>,
    unknown: Action,
    calls: Vec<Option<Calls>>,
    late: Option<Action>,
}

impl Routing {
    /// The site's.
    pub fn new(settings: &Settings) -> Self {
        let calls = settings.outputs.iter().map(|o| match &o.drive {
            Drive::Calls(calls) => Some(calls.clone()),
            _ => None,
        });
        let late = match settings.mode {
            LineMode::State => None,
            LineMode::Gate { late } => Some(late),
        };
        Self { actions: settings.actions.clone(), unknown: settings.unknown, calls: calls.collect(), late }
    }

    /// What happens to a part of this verdict, and the lines that are called for. A part without a verdict gets the late
    /// action where outputs follow parts; where they follow tags nothing is done with it, and the line is safe.
    pub fn of(&self, verdict: &Verdict) -> (Option<Action>, LineMask) {
        let action = match verdict {
            Verdict::Safe(_) => self.late,
            Verdict::Unknown => Some(self.unknown),
            Verdict::Review(_) => Some(Action::Review),
            // Several tags may hold at once: the most careful of their actions wins.
            Verdict::Present(set) => {
                let of = |a| set.iter().any(|t| self.actions[t.0 as usize] == a);
                [Action::Reject, Action::Review].into_iter().find(|a| of(*a)).or(Some(Action::Accept))
            }
        };
        let called = |c: &Calls| {
            let by_tag = matches!(verdict, Verdict::Present(set) if c.tags.iter().any(|t| set.contains(*t)));
            let by_unknown = c.unknown && *verdict == Verdict::Unknown;
            by_tag || by_unknown || action.is_some_and(|a| c.actions.contains(&a))
        };
        (action, self.mask(called))
    }

    /// What a part without a verdict gets, if outputs follow parts, and the lines of that.
    pub fn late(&self) -> (Option<Action>, LineMask) {
        (self.late, self.mask(|c| self.late.is_some_and(|a| c.actions.contains(&a))))
    }

    fn mask(&self, called: impl Fn(&Calls) -> bool) -> LineMask {
        let lines = self.calls.iter().enumerate();
        lines.filter(|(_, c)| c.as_ref().is_some_and(&called)).fold(0, |mask, (i, _)| mask | 1 << i)
    }
}
