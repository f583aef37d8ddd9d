//! What the frames of a part say together.

use super::{Action, TagSet, Task};
use crate::MAX_TAGS;
use crate::fault::Reason;
use crate::head::TagId;

/// The word that a part or frame ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A tag holds.
    Present,
    /// A tag lies in its review band and decides: a person should look.
    Review,
    /// No tag is sure enough.
    Unknown,
    /// The part is none of what the model was trained on.
    Foreign,
    /// Nothing may be decided.
    Safe(Reason),
}

impl Verdict {
    /// The name used in events and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Review => "review",
            Self::Unknown => "unknown",
            Self::Foreign => "foreign",
            Self::Safe(_) => "safe",
        }
    }
}

/// A verdict with what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The word.
    pub verdict: Verdict,
    /// What happens to the part; `None` where nothing may be decided: the line then has its own
    /// rule.
    pub action: Option<Action>,
    /// The tag that names the verdict; `None` for unknown, foreign and safe.
    pub tag: Option<TagId>,
    /// Every tag that holds.
    pub held: TagSet,
    /// Every tag that lies in its review band.
    pub band: TagSet,
    /// Tags of the model: the numbers from here on are categories.
    pub own: u16,
}

impl Decision {
    /// Nothing may be decided.
    pub const fn safe(reason: Reason) -> Self {
        let verdict = Verdict::Safe(reason);
        let own = MAX_TAGS as u16;
        Self { verdict, action: None, tag: None, held: TagSet::EMPTY, band: TagSet::EMPTY, own }
    }

    /// The tags whose `tag:` and `category:` outputs are called for. Where tags exclude one another
    /// and one is present: the one that names the verdict, and every category that holds. Where
    /// they do not: every tag that holds.
    pub fn driving(&self, task: Task) -> TagSet {
        match (task, self.verdict, self.tag) {
            (Task::Multilabel, _, _) => self.held,
            (Task::Multiclass, Verdict::Present, Some(tag)) => {
                let categories = self.held.iter().filter(|held| held.0 >= self.own);
                categories.fold(TagSet::of(tag), |mut set, category| {
                    set.insert(category);
                    set
                })
            }
            (Task::Multiclass, _, _) => TagSet::EMPTY,
        }
    }

    /// The tags that a table or event lists: those that hold if any does and it decides, else those
    /// in their band.
    pub fn listed(&self) -> TagSet {
        match self.verdict {
            Verdict::Review => self.band,
            _ => self.held,
        }
    }
}
