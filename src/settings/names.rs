//! The model's tags by name, as settings refer to them.

use super::ModelTags;
use crate::head::TagId;

/// Finds tags by name.
pub(super) struct Names<'m>(pub(super) ModelTags<'m>);

impl Names<'_> {
    /// The tag of this name.
    pub(super) fn id(&self, name: &str) -> Option<TagId> {
        self.0.names.iter().position(|n| *n == name).map(|i| TagId(i as u16))
    }

    /// Why there is no such tag.
    pub(super) fn unknown(&self, name: &str) -> String {
        let shown: Vec<String> = self.0.names.iter().take(8).map(|n| format!("\"{n}\"")).collect();
        let more = if self.0.names.len() > 8 { ", ..." } else { "" };
        format!("the model has no tag \"{name}\"; it has {}{more}", shown.join(", "))
    }
}
