//! The categories of an image: a score each, and the branches that are worth a line.

use crate::bundle::Bundle;
use crate::decide::TagSet;
use crate::head::{Score, TagId, top_k};
use serde::Serialize;

/// A category or tag below this score is not shown: 0.05.
pub const SHOWN: Score = Score(3277);

/// Categories by name, with their tags.
#[derive(Clone, Debug)]
pub struct Tree {
    categories: Vec<Category>,
    /// Of each tag, the category that it states.
    of_tag: Vec<Option<usize>>,
}

#[derive(Clone, Debug)]
struct Category {
    name: String,
    parent: Option<usize>,
    leaves: TagSet,
}

/// A line of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch<'a> {
    /// Categories that it lies in.
    pub depth: usize,
    /// What it is.
    pub what: What<'a>,
    /// Its score: of a category the sum over its tags.
    pub score: Score,
}

/// What a line of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A category's name.
    Category(&'a str),
    /// A tag.
    Tag(TagId),
}

/// A category of an image, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CategoryRecord<'a> {
    category: &'a str,
    /// From the top down to the category itself.
    path: Vec<&'a str>,
    score: f32,
    score_raw: u16,
}

impl Tree {
    /// The bundle's; `None` where it has no categories.
    pub fn of(bundle: &Bundle<'_>) -> Option<Self> {
        let read = bundle.categories?;
        let categories = read.ids().zip(read.names()).map(|(id, name)| Category {
            name: name.into(),
            parent: read.parent(id).map(|p| p.0 as usize),
            leaves: read.leaves(id),
        });
        let tags = 0..bundle.contract.tags.len() as u16;
        let of_tag = tags.map(|tag| read.of_tag(TagId(tag)).map(|c| c.0 as usize)).collect();
        Some(Self { categories: categories.collect(), of_tag })
    }

    /// What was seen, the inner branches behind the outer, the highest score first. `scores`: one a
    /// tag. The best tag and the categories that it lies in are shown whatever their scores are.
    pub fn branches(&self, scores: &[Score]) -> Vec<Branch<'_>> {
        let of_category: Vec<Score> = self.categories.iter().map(|c| c.leaves.sum(scores)).collect();
        let mut best = [(TagId(0), Score(0))];
        top_k(scores, &mut best);
        let best = best[0].0;
        let mut branches = Vec::new();
        self.add(None, 0, &of_category, scores, best, &mut branches);
        branches
    }

    /// Adds what lies in `parent`.
    fn add<'t>(
        &'t self,
        parent: Option<usize>,
        depth: usize,
        of_category: &[Score],
        scores: &[Score],
        best: TagId,
        branches: &mut Vec<Branch<'t>>,
    ) {
        let is_shown = |score: Score, has_best: bool| score >= SHOWN || has_best;
        let own = self.categories.iter().enumerate().filter(|(_, c)| c.parent == parent);
        let own = own.filter(|(i, c)| is_shown(of_category[*i], c.leaves.contains(best)));
        let tags = (0..scores.len()).filter(|t| self.of_tag.get(*t).copied().flatten() == parent);
        let tags = tags.map(|t| TagId(t as u16)).filter(|t| is_shown(scores[t.0 as usize], *t == best));
        let mut all: Vec<(Score, Option<usize>, What<'t>)> =
            own.map(|(i, c)| (of_category[i], Some(i), What::Category(&c.name))).collect();
        all.extend(tags.map(|t| (scores[t.0 as usize], None, What::Tag(t))));
        all.sort_by_key(|(score, ..)| std::cmp::Reverse(*score));
        for (score, category, what) in all {
            branches.push(Branch { depth, what, score });
            if category.is_some() {
                self.add(category, depth + 1, of_category, scores, best, branches);
            }
        }
    }

    /// The categories among the branches, as JSON.
    pub fn records(&self, scores: &[Score]) -> Vec<CategoryRecord<'_>> {
        let mut path: Vec<&str> = Vec::new();
        let mut records = Vec::new();
        for Branch { depth, what, score } in self.branches(scores) {
            let What::Category(category) = what else { continue };
            path.truncate(depth);
            path.push(category);
            records.push(CategoryRecord { category, path: path.clone(), score: score.probability(), score_raw: score.0 });
        }
        records
    }
}
