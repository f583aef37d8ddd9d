//! The model's tags and categories by name, as settings refer to them.

use super::ModelTags;
use super::reader::distance;
use crate::MAX_TAGS;
use crate::category::{CategoryId, PREFIX};
use crate::decide::TagSet;
use crate::head::TagId;
use std::cell::RefCell;

/// A category that settings name: it is decided on as a tag is, behind those of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCategory {
    /// Its name with what stands before it: `category:cat`.
    pub name: String,
    /// Its tags.
    pub leaves: TagSet,
}

/// Finds tags and categories by name, and keeps which categories were asked for: each gets the next
/// number behind the model's tags.
pub(super) struct Names<'m> {
    pub(super) model: ModelTags<'m>,
    named: RefCell<Vec<CategoryId>>,
}

impl<'m> Names<'m> {
    pub(super) fn new(model: ModelTags<'m>) -> Self {
        Self { model, named: RefCell::default() }
    }

    /// The tag of this name, or the category of `category:NAME`; or why there is none.
    pub(super) fn id(&self, name: &str) -> Result<TagId, String> {
        match self.model.names.iter().position(|n| *n == name) {
            Some(i) => Ok(TagId(i as u16)),
            None => match name.strip_prefix(PREFIX) {
                Some(category) => self.category(category),
                None => Err(self.unknown(name)),
            },
        }
    }

    /// The tag of this name; or why there is none.
    pub(super) fn tag(&self, name: &str) -> Result<TagId, String> {
        let found = self.model.names.iter().position(|n| *n == name);
        found.map(|i| TagId(i as u16)).ok_or_else(|| self.unknown(name))
    }

    fn category(&self, name: &str) -> Result<TagId, String> {
        let Some(categories) = self.model.categories else {
            return Err(format!(
                "the model has no categories, so none is called \"{name}\"; name tags, or a bundle that has some"
            ));
        };
        let Some(id) = categories.find(name) else {
            let all: Vec<&str> = categories.names().collect();
            return Err(format!("the model has no category \"{name}\"; {}", nearest(name, &all)));
        };
        let mut named = self.named.borrow_mut();
        let tags = self.model.names.len();
        let at = named.iter().position(|other| *other == id).unwrap_or(named.len());
        if at == named.len() {
            if tags + at >= MAX_TAGS {
                return Err(format!(
                    "category \"{name}\" is one too many: the model's {tags} tags and the categories that are named come to \
                     {MAX_TAGS} at most; name fewer"
                ));
            }
            named.push(id);
        }
        Ok(TagId((tags + at) as u16))
    }

    /// The categories that were asked for, in the order of their numbers.
    pub(super) fn named(&self) -> Vec<NamedCategory> {
        let Some(categories) = self.model.categories else { return Vec::new() };
        let named = |id: &CategoryId| NamedCategory {
            name: format!("{PREFIX}{}", categories.name(*id)),
            leaves: categories.leaves(*id),
        };
        self.named.borrow().iter().map(named).collect()
    }

    /// Why there is no such tag.
    fn unknown(&self, name: &str) -> String {
        let category = self.model.categories.and_then(|c| c.find(name));
        let hint = category.map_or(String::new(), |_| format!("; a category of that name is written \"{PREFIX}{name}\""));
        format!("the model has no tag \"{name}\"; {}{hint}", nearest(name, self.model.names))
    }
}

/// Most names that a message shows.
const SHOWN: usize = 8;

/// The names nearest to one that is none; of few names all.
fn nearest(name: &str, all: &[&str]) -> String {
    let quoted = |names: &[&str]| names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    if all.len() <= SHOWN {
        return format!("it has {}", quoted(all));
    }
    let wanted = name.to_lowercase();
    // A word of the name, or as many wrong letters as a slip of the hand makes.
    let far = |other: &&str| {
        let other = other.to_lowercase();
        let is_word = wanted.len() > 2 && other.split([' ', ',', '-', '_']).any(|word| word == wanted);
        let letters = distance(&wanted, &other);
        (is_word || letters <= 1 + wanted.chars().count() / 4).then_some((!is_word, letters))
    };
    let mut near: Vec<_> = all.iter().filter_map(|n| far(n).map(|far| (far, *n))).collect();
    near.sort();
    let near: Vec<&str> = near.into_iter().map(|(_, n)| n).take(SHOWN).collect();
    match near.is_empty() {
        false => format!("near it: {}", quoted(&near)),
        true => format!("it has {}, ...", quoted(&all[..SHOWN])),
    }
}
