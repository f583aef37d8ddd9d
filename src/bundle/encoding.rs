//! What stands in the contract and rules sections, as postcard encodes it, and the whole contract
//! of format 1.
//!
//! Each type here is a layout of bytes that was written once and is read for ever: none of them
//! changes. A new fact is a new section.

use super::contract::{Contract, Input, Tag};
use crate::MAX_TAGS;
use crate::decide::{Role, TagRule, Task};
use crate::head::Score;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// The contract section.
#[derive(Serialize, Deserialize)]
pub(super) struct ContractSection<'a> {
    name: &'a str,
    task: Task,
    #[serde(borrow)]
    tags: Vec<&'a str, MAX_TAGS>,
    #[serde(borrow)]
    input: Input<'a>,
    dataset_sha256: [u8; 32],
    run_sha256: [u8; 32],
    mixed: bool,
}

/// The rules section.
#[derive(Serialize, Deserialize)]
pub(super) struct RulesSection {
    temperature_q16: u32,
    tags: Vec<RuleEntry, MAX_TAGS>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct RuleEntry {
    threshold: Score,
    review_low: Score,
    role: Role,
}

/// How many rules there are for how many tags, where that is not the same number.
pub(super) struct CountsDiffer {
    pub rules: usize,
    pub tags: usize,
}

impl<'a> ContractSection<'a> {
    /// The part of `contract` that this section holds.
    #[cfg(feature = "std")]
    pub(super) fn of(contract: &Contract<'a>) -> Self {
        Self {
            name: contract.name,
            task: contract.task,
            tags: contract.tags.iter().map(|t| t.name).collect(),
            input: contract.input,
            dataset_sha256: contract.dataset_sha256,
            run_sha256: contract.run_sha256,
            mixed: contract.mixed,
        }
    }

    /// The contract of this section with the rules of `rules` and the hash of the graph beside
    /// them.
    pub(super) fn with(self, rules: &RulesSection, graph_sha256: [u8; 32]) -> Result<Contract<'a>, CountsDiffer> {
        if rules.tags.len() != self.tags.len() {
            return Err(CountsDiffer { rules: rules.tags.len(), tags: self.tags.len() });
        }
        let tag = |(name, rule): (&&'a str, &RuleEntry)| Tag {
            name,
            rule: TagRule { threshold: rule.threshold, review_low: rule.review_low },
            role: rule.role,
        };
        Ok(Contract {
            name: self.name,
            task: self.task,
            tags: self.tags.iter().zip(&rules.tags).map(tag).collect(),
            temperature_q16: rules.temperature_q16,
            input: self.input,
            graph_sha256,
            dataset_sha256: self.dataset_sha256,
            run_sha256: self.run_sha256,
            mixed: self.mixed,
        })
    }
}

#[cfg(feature = "std")]
impl RulesSection {
    /// The part of `contract` that this section holds.
    pub(super) fn of(contract: &Contract<'_>) -> Self {
        let entry = |t: &Tag<'_>| RuleEntry { threshold: t.rule.threshold, review_low: t.rule.review_low, role: t.role };
        Self { temperature_q16: contract.temperature_q16, tags: contract.tags.iter().map(entry).collect() }
    }
}

/// The contract of format 1.
#[derive(Serialize, Deserialize)]
pub(super) struct Format1<'a> {
    name: &'a str,
    task: Task,
    #[serde(borrow)]
    tags: Vec<Tag1<'a>, MAX_TAGS>,
    temperature_q16: u32,
    #[serde(borrow)]
    input: Input<'a>,
    graph_sha256: [u8; 32],
    dataset_sha256: [u8; 32],
    run_sha256: [u8; 32],
    mixed: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Tag1<'a> {
    name: &'a str,
    rule: TagRule,
}

impl<'a> Format1<'a> {
    /// The contract: format 1 states no roles, so every tag's is `other`.
    pub(super) fn contract(self) -> Contract<'a> {
        Contract {
            name: self.name,
            task: self.task,
            tags: self.tags.iter().map(|t| Tag { name: t.name, rule: t.rule, role: Role::Other }).collect(),
            temperature_q16: self.temperature_q16,
            input: self.input,
            graph_sha256: self.graph_sha256,
            dataset_sha256: self.dataset_sha256,
            run_sha256: self.run_sha256,
            mixed: self.mixed,
        }
    }

    /// What format 1 said of `contract`; its roles are lost. Nothing writes such bundles but the
    /// tests of their reader.
    #[cfg(all(test, feature = "std"))]
    pub(super) fn of(contract: &Contract<'a>) -> Self {
        Self {
            name: contract.name,
            task: contract.task,
            tags: contract.tags.iter().map(|t| Tag1 { name: t.name, rule: t.rule }).collect(),
            temperature_q16: contract.temperature_q16,
            input: contract.input,
            graph_sha256: contract.graph_sha256,
            dataset_sha256: contract.dataset_sha256,
            run_sha256: contract.run_sha256,
            mixed: contract.mixed,
        }
    }
}
