//! Categories: names for groups of tags, in a tree, such as `animal > mammal > cat`.
//!
//! A category's tags are those that state it, and those that state a category below it. Its score
//! is the sum of their scores, at most 1: integers, so the same on every CPU. Only a model whose
//! tags exclude one another has categories. They are a section of the bundle that is read where it
//! lies, without a heap. What settings name is decided on as a tag is, by [`crate::decide`].
//!
//! ```
//! use tagpin::category::{Categories, section};
//! use tagpin::head::Score;
//!
//! let bytes = section(&[("animal", None), ("cat", Some(0))], &[Some(1), Some(1), Some(0), None]);
//! let categories = Categories::read(&bytes, &["tabby", "tiger cat", "dog", "bolt"])?;
//! let scores = [20_000, 10_000, 5_000, 30_535].map(Score);
//! let cat = categories.find("cat").expect("it was written");
//! assert_eq!(categories.leaves(cat).sum(&scores), Score(30_000));
//! # Ok::<(), tagpin::category::CategoryFault>(())
//! ```
//!
//! Terms: *leaf*: a tag of a category, at whatever depth.

use crate::MAX_TAGS;
use crate::decide::TagSet;
use crate::head::{Score, TagId};
use serde::{Deserialize, Serialize};

/// Most categories of a bundle.
pub const MAX_CATEGORIES: usize = 512;
/// Most categories that lie in one another.
pub const MAX_DEPTH: usize = 12;
/// What stands before a category's name wherever a tag could stand as well.
pub const PREFIX: &str = "category:";

/// Categories of a bundle. What it holds was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Categories<'a> {
    /// Names, with a line feed between two.
    names: &'a str,
    /// Of each category, a little-endian u16: 0, or 1 + the index of the category that it lies in.
    parents: &'a [u8],
    /// Of each tag, the same.
    tags: &'a [u8],
}

/// Index of a category in the bundle's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CategoryId(pub u16);

/// Why a categories section cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CategoryFault {
    /// Its bytes cannot be decoded.
    Encoding,
    /// Tags do not exclude one another, so their scores add up to nothing.
    Multilabel,
    /// No category, or too many.
    Count(usize),
    /// Another number of parents than of names.
    Parents {
        /// Parents stated.
        found: usize,
        /// Names stated.
        names: usize,
    },
    /// Another number of tags than the contract has.
    Tags {
        /// Tags stated.
        found: usize,
        /// Tags of the contract.
        expected: usize,
    },
    /// A name is empty, has control characters or stands twice.
    Name(u16),
    /// A category does not stand behind the one that it lies in, or that is none.
    Parent(u16),
    /// A category lies too deep.
    Depth(u16),
    /// A tag states a category that is none.
    Tag(u16),
    /// No tag is of this category.
    Empty(u16),
    /// A tag's name begins as a category's does in settings.
    TagName(u16),
}

impl core::fmt::Display for CategoryFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Encoding => f.write_str("they cannot be decoded"),
            Self::Multilabel => f.write_str("the tags do not exclude one another, so their scores do not add up"),
            Self::Count(found) => write!(f, "{found} categories, expected 1..={MAX_CATEGORIES}"),
            Self::Parents { found, names } => write!(f, "{found} parents for {names} categories, expected one each"),
            Self::Tags { found, expected } => write!(f, "they place {found} tags, the contract has {expected}"),
            Self::Name(i) => write!(f, "the name of category {i} is empty, has control characters or stands twice"),
            Self::Parent(i) => write!(f, "category {i} lies in one that does not stand before it"),
            Self::Depth(i) => write!(f, "category {i} lies in more than {} others", MAX_DEPTH - 1),
            Self::Tag(i) => write!(f, "tag {i} is of a category that is not there"),
            Self::Empty(i) => write!(f, "no tag is of category {i}"),
            Self::TagName(i) => write!(f, "the name of tag {i} begins with \"{PREFIX}\""),
        }
    }
}

impl core::error::Error for CategoryFault {}

/// The entry at `i` of a list of parents; `None` for none, or beyond its end.
fn entry(list: &[u8], i: usize) -> Option<CategoryId> {
    let [low, high] = *list.as_chunks::<2>().0.get(i)?;
    u16::from_le_bytes([low, high]).checked_sub(1).map(CategoryId)
}

impl<'a> Categories<'a> {
    /// Reads a section, for the tags of these names in the order of the logits. Needs no heap.
    pub fn read<T: AsRef<str>>(bytes: &'a [u8], tags: &[T]) -> Result<Self, CategoryFault> {
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((read, [])) => read.check(tags).map(|()| read),
            _ => Err(CategoryFault::Encoding),
        }
    }

    fn check<T: AsRef<str>>(&self, tags: &[T]) -> Result<(), CategoryFault> {
        let count = if self.names.is_empty() { 0 } else { self.names().count() };
        if !(1..=MAX_CATEGORIES).contains(&count) {
            return Err(CategoryFault::Count(count));
        }
        if self.parents.len() != 2 * count {
            return Err(CategoryFault::Parents { found: self.parents.len() / 2, names: count });
        }
        if self.tags.len() != 2 * tags.len() {
            return Err(CategoryFault::Tags { found: self.tags.len() / 2, expected: tags.len() });
        }
        let mut depth = [0u8; MAX_CATEGORIES];
        for (i, name) in self.names().enumerate() {
            if name.is_empty() || name.chars().any(char::is_control) || self.names().take(i).any(|n| n == name) {
                return Err(CategoryFault::Name(i as u16));
            }
            depth[i] = match self.parent(CategoryId(i as u16)) {
                None => 1,
                Some(parent) if (parent.0 as usize) < i => depth[parent.0 as usize] + 1,
                Some(_) => return Err(CategoryFault::Parent(i as u16)),
            };
            if depth[i] as usize > MAX_DEPTH {
                return Err(CategoryFault::Depth(i as u16));
            }
        }
        let mut used = [false; MAX_CATEGORIES];
        for (i, tag) in tags.iter().enumerate() {
            let own = self.of_tag(TagId(i as u16));
            if own.is_some_and(|c| c.0 as usize >= count) {
                return Err(CategoryFault::Tag(i as u16));
            }
            if tag.as_ref().starts_with(PREFIX) {
                return Err(CategoryFault::TagName(i as u16));
            }
            self.up(own).for_each(|c| used[c.0 as usize] = true);
        }
        match used[..count].iter().position(|used| !used) {
            Some(i) => Err(CategoryFault::Empty(i as u16)),
            None => Ok(()),
        }
    }

    /// Names in the bundle's order: a category stands behind the one that it lies in.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.names.split('\n')
    }

    /// Categories by number.
    pub fn ids(&self) -> impl Iterator<Item = CategoryId> + use<> {
        (0..(self.parents.len() / 2) as u16).map(CategoryId)
    }

    /// A category's name; empty for a number that none has.
    pub fn name(&self, id: CategoryId) -> &'a str {
        self.names().nth(id.0 as usize).unwrap_or_default()
    }

    /// The category of this name.
    pub fn find(&self, name: &str) -> Option<CategoryId> {
        self.names().position(|n| n == name).map(|i| CategoryId(i as u16))
    }

    /// The category that one lies in; `None` for one at the top.
    pub fn parent(&self, id: CategoryId) -> Option<CategoryId> {
        entry(self.parents, id.0 as usize)
    }

    /// The category that a tag states; `None` for a tag of none.
    pub fn of_tag(&self, tag: TagId) -> Option<CategoryId> {
        entry(self.tags, tag.0 as usize)
    }

    /// A category and all that it lies in, from the inside out.
    pub fn up(&self, from: Option<CategoryId>) -> impl Iterator<Item = CategoryId> + use<'a> {
        let own = *self;
        core::iter::successors(from, move |c| own.parent(*c))
    }

    /// Tags of a category, at whatever depth.
    pub fn leaves(&self, id: CategoryId) -> TagSet {
        let mut leaves = TagSet::EMPTY;
        let tags = (0..(self.tags.len() / 2).min(MAX_TAGS) as u16).map(TagId);
        tags.filter(|tag| self.up(self.of_tag(*tag)).any(|c| c == id)).for_each(|tag| leaves.insert(tag));
        leaves
    }
}

impl TagSet {
    /// The sum of these tags' scores, at most 1. `scores`: one a tag in the bundle's order; a tag
    /// beyond its end counts nothing.
    pub fn sum(&self, scores: &[Score]) -> Score {
        let own = self.iter().filter_map(|tag| scores.get(tag.0 as usize));
        let sum: u32 = own.map(|score| score.0 as u32).sum();
        Score(sum.min(u16::MAX as u32) as u16)
    }
}

/// Writes the scores of `categories` behind those of the model's tags. `scores`: one a tag, then
/// one a category; panics if there are fewer than categories.
pub fn add_up(categories: &[TagSet], scores: &mut [Score]) {
    let (tags, behind) = scores.split_at_mut(scores.len() - categories.len());
    behind.iter_mut().zip(categories).for_each(|(score, leaves)| *score = leaves.sum(tags));
}

/// The bytes of a section, right or not: [`Categories::read`] says. `categories`: name and index of
/// the one that it lies in; `tags`: each tag's category.
#[cfg(feature = "std")]
pub fn section(categories: &[(&str, Option<u16>)], tags: &[Option<u16>]) -> std::vec::Vec<u8> {
    use std::vec::Vec;
    let list = |entries: &mut dyn Iterator<Item = Option<u16>>| -> Vec<u8> {
        entries.flat_map(|i| i.map_or(0, |i| i + 1).to_le_bytes()).collect()
    };
    let names = categories.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\n");
    let parents = list(&mut categories.iter().map(|(_, parent)| *parent));
    let tags = list(&mut tags.iter().copied());
    // Three lengths of at most five bytes each.
    let mut buffer = std::vec![0; 15 + names.len() + parents.len() + tags.len()];
    let value = Categories { names: &names, parents: &parents, tags: &tags };
    postcard::to_slice(&value, &mut buffer).expect("the buffer was made for it").to_vec()
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, vec};

    /// Categories by name, each with the one that it lies in.
    type Named = Vec<(&'static str, Option<u16>)>;

    const TAGS: [&str; 5] = ["tabby", "lion", "dog", "bus", "bolt"];
    const GOOD: [(&str, Option<u16>); 4] = [("animal", None), ("feline", Some(0)), ("cat", Some(1)), ("vehicle", None)];
    const PLACES: [Option<u16>; 5] = [Some(2), Some(1), Some(0), Some(3), None];

    fn faulty(categories: &[(&str, Option<u16>)], tags: &[Option<u16>]) -> Option<CategoryFault> {
        Categories::read(&section(categories, tags), &TAGS).err()
    }

    #[test]
    fn what_cannot_be_is_named_and_its_nearest_neighbour_is_read() {
        use CategoryFault::*;
        assert_eq!(faulty(&GOOD, &PLACES), None);
        let edited = |edit: &dyn Fn(&mut Named, &mut Vec<Option<u16>>)| {
            let (mut categories, mut tags) = (GOOD.to_vec(), PLACES.to_vec());
            edit(&mut categories, &mut tags);
            faulty(&categories, &tags)
        };
        assert_eq!(edited(&|c, _| c.clear()), Some(Count(0)));
        assert_eq!(edited(&|c, _| c[2].0 = ""), Some(Name(2)));
        assert_eq!(edited(&|c, _| c[2].0 = "ca\u{1b}t"), Some(Name(2)));
        assert_eq!(edited(&|c, _| c[2].0 = "ca, t > \u{e9}"), None);
        assert_eq!(edited(&|c, _| c[3].0 = "cat"), Some(Name(3)));
        // A name with a line feed is two names.
        assert_eq!(edited(&|c, _| c[3].0 = "c\nd"), Some(Parents { found: 4, names: 5 }));
        // Cycles: in itself, in one behind it, in one that is none.
        assert_eq!(edited(&|c, _| c[1].1 = Some(1)), Some(Parent(1)));
        assert_eq!(edited(&|c, _| c[1].1 = Some(2)), Some(Parent(1)));
        assert_eq!(edited(&|c, _| c[3].1 = Some(4)), Some(Parent(3)));
        assert_eq!(edited(&|_, t| t[4] = Some(4)), Some(Tag(4)));
        assert_eq!(edited(&|_, t| t[4] = Some(3)), None);
        assert_eq!(edited(&|_, t| t[3] = None), Some(Empty(3)));
        assert_eq!(edited(&|_, t| t.push(None)), Some(Tags { found: 6, expected: 5 }));
        assert_eq!(edited(&|_, t| t.truncate(4)), Some(Tags { found: 4, expected: 5 }));
        let chain = |n: u16| -> Vec<(String, Option<u16>)> { (0..n).map(|i| (format!("c{i}"), i.checked_sub(1))).collect() };
        let deep = |n: u16| {
            let names = chain(n);
            let names: Vec<_> = names.iter().map(|(name, parent)| (name.as_str(), *parent)).collect();
            faulty(&names, &[Some(n - 1), None, None, None, None])
        };
        assert_eq!((deep(12), deep(13)), (None, Some(Depth(12))));
        let wide = |n: u16| {
            let names: Vec<String> = (0..n).map(|i| format!("c{i}")).collect();
            let all: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
            let tags: Vec<String> = (0..n).map(|i| format!("t{i}")).collect();
            Categories::read(&section(&all, &(0..n).map(Some).collect::<Vec<_>>()), &tags).err()
        };
        assert_eq!((wide(512), wide(513)), (None, Some(Count(513))));
        let named = |name: &str| Categories::read(&section(&GOOD, &PLACES), &["a", "b", name, "c", "d"]).err();
        assert_eq!((named("category:dog"), named("categor: dog")), (Some(TagName(2)), None));
        let good = section(&GOOD, &PLACES);
        for len in 0..good.len() {
            assert!(Categories::read(&good[..len], &TAGS).is_err(), "{len} of {} bytes", good.len());
        }
        assert_eq!(Categories::read(&[good, vec![0]].concat(), &TAGS), Err(Encoding), "a byte left over");
    }

    /// Sums by walking from every tag upwards, in u64 and by name.
    #[test]
    fn a_category_is_the_exact_sum_of_the_tags_below_it() {
        let (seed, cases) = drawn_cases(300);
        let (mut full, mut partial) = (0, 0);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut up_to = |most: usize| random.range(0, most as i32) as usize;
            let (categories, tags) = (1 + up_to(30), 1 + up_to(if case % 9 == 0 { 1000 } else { 40 }));
            let names: Vec<String> = (0..categories).map(|i| format!("c{i}")).collect();
            let parents: Vec<Option<u16>> =
                (0..categories).map(|i| up_to(i + 1).checked_sub(1).filter(|p| *p < i).map(|p| p as u16)).collect();
            let mut places: Vec<Option<u16>> =
                (0..tags).map(|_| up_to(categories).checked_sub(1).map(|c| c as u16)).collect();
            // Every category gets a tag.
            (0..categories.min(tags)).for_each(|i| places[i] = Some(i as u16));
            let all: Vec<_> = names.iter().map(String::as_str).zip(parents.iter().copied()).collect();
            let bytes = section(&all, &places);
            let tag_names: Vec<String> = (0..tags).map(|i| i.to_string()).collect();
            let read = Categories::read(&bytes, &tag_names);
            let mut scores: Vec<Score> =
                (0..tags + categories).map(|_| Score(up_to(3 * 65535 / tags).min(65535) as u16)).collect();
            let Ok(read) = read else {
                // More categories than tags can leave one empty, and chains can be too deep.
                assert!(matches!(read, Err(CategoryFault::Empty(_) | CategoryFault::Depth(_))), "case {case}: {read:?}");
                continue;
            };
            let naive: Vec<u64> = (0..categories)
                .map(|wanted| {
                    let is_below = |mut at: Option<u16>| {
                        while let Some(c) = at {
                            if c as usize == wanted {
                                return true;
                            }
                            at = parents[c as usize];
                        }
                        false
                    };
                    let own = places.iter().zip(&scores).filter(|(place, _)| is_below(**place));
                    own.map(|(_, score)| score.0 as u64).sum::<u64>().min(65535)
                })
                .collect();
            let leaves: Vec<TagSet> = read.ids().map(|id| read.leaves(id)).collect();
            add_up(&leaves, &mut scores);
            let found: Vec<u64> = scores[tags..].iter().map(|s| s.0 as u64).collect();
            assert_eq!(found, naive, "TAGPIN_TEST_SEED={seed} case {case}");
            full += naive.iter().filter(|s| **s == 65535).count();
            partial += naive.iter().filter(|s| **s < 65535).count();
        }
        assert!(cases < 100 || full > 20 && partial > 200, "{full} categories at 1, {partial} below");
    }
}
