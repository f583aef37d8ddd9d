//! Writes a bundle as bytes: the inverse of reading. It refuses what reading would refuse.

use super::contract::{Contract, ContractFault};
use super::encoding::{ContractSection, RulesSection};
use super::read::{FORMAT_VERSION, HEADER_LEN, MAGIC, categories_of};
use super::sections::{CRITICAL, ENTRY_LEN, Section};
use super::self_test::{SelfTest, SelfTestFault};
use super::sha256;
use crate::category::CategoryFault;
use crate::distance::{Spread, SpreadFault};
use serde::Serialize;

/// Why a contract, a graph and further sections make no bundle.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The contract says what cannot be.
    Contract(ContractFault),
    /// The contract names another graph.
    Graph,
    /// A section is longer than the format allows.
    Oversized(Section),
    /// A section is given twice, or is one that is made from the contract or the graph.
    Twice(Section),
    /// The distance section is none.
    Distance(SpreadFault),
    /// The categories section is none.
    Categories(CategoryFault),
    /// The self-test section is none for this contract.
    SelfTest(SelfTestFault),
}

impl core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Contract(fault) => write!(f, "contract refused: {fault}"),
            Self::Graph => f.write_str("contract names the SHA-256 of another graph"),
            Self::Oversized(section) => {
                write!(f, "{} is longer than the {} bytes that the format allows", section.name(), section.limit())
            }
            Self::Twice(section) => write!(f, "section {} is given twice; give it once", section.name()),
            Self::Distance(fault) => write!(f, "distance refused: {fault}"),
            Self::Categories(fault) => write!(f, "categories refused: {fault}"),
            Self::SelfTest(fault) => write!(f, "self-test refused: {fault}"),
        }
    }
}

impl std::error::Error for WriteError {}

/// A section as it stands in a file, whether it means anything or not.
#[derive(Clone, Copy, Debug)]
pub struct RawSection<'a> {
    /// Its number.
    pub id: u32,
    /// Whether a reader that does not know it must refuse the bundle.
    pub critical: bool,
    /// Its contents.
    pub content: &'a [u8],
}

/// A format-2 file of `sections`, in the given order and with right lengths and hashes, whatever is
/// in them: [`write()`]'s last step, and how tests make files that it would not write.
pub fn assemble(sections: &[RawSection<'_>]) -> Vec<u8> {
    let mut table = Vec::with_capacity(sections.len() * ENTRY_LEN);
    for section in sections {
        table.extend(section.id.to_le_bytes());
        table.extend((if section.critical { CRITICAL } else { 0 }).to_le_bytes());
        table.extend((section.content.len() as u32).to_le_bytes());
        table.extend(sha256(section.content));
    }
    let mut bytes = Vec::with_capacity(HEADER_LEN + table.len() + sections.iter().map(|s| s.content.len()).sum::<usize>());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend((sections.len() as u32).to_le_bytes());
    bytes.extend(sha256(&table));
    bytes.extend(table);
    sections.iter().for_each(|s| bytes.extend_from_slice(s.content));
    bytes
}

/// The bytes of a bundle. `extra`: sections beside contract, rules and graph, in any order.
pub fn write(contract: &Contract<'_>, graph: &[u8], extra: &[(Section, &[u8])]) -> Result<Vec<u8>, WriteError> {
    contract.check().map_err(WriteError::Contract)?;
    if contract.graph_sha256 != sha256(graph) {
        return Err(WriteError::Graph);
    }
    let rules = encode(Section::Rules, &RulesSection::of(contract))?;
    let own = encode(Section::Contract, &ContractSection::of(contract))?;
    let mut all: Vec<(Section, &[u8])> = vec![(Section::Contract, &own), (Section::Rules, &rules), (Section::Graph, graph)];
    all.extend_from_slice(extra);
    all.sort_by_key(|(section, _)| section.id());
    if let Some(twice) = all.windows(2).find(|w| w[0].0 == w[1].0) {
        return Err(WriteError::Twice(twice[0].0));
    }
    for &(section, content) in &all {
        if section == Section::Distance {
            Spread::read(content).map_err(WriteError::Distance)?;
        }
        if section == Section::Categories {
            categories_of(contract, content).map_err(WriteError::Categories)?;
        }
        if section == Section::SelfTest {
            SelfTest::read(content, contract).map_err(WriteError::SelfTest)?;
        }
        if content.len() > section.limit() as usize {
            return Err(WriteError::Oversized(section));
        }
    }
    let raw = |&(section, content): &(Section, _)| RawSection { id: section.id(), critical: section.critical(), content };
    Ok(assemble(&all.iter().map(raw).collect::<Vec<_>>()))
}

/// A section's contents in postcard.
fn encode(section: Section, value: &impl Serialize) -> Result<Vec<u8>, WriteError> {
    let mut buffer = vec![0; super::MAX_CONTRACT as usize];
    let encoded = postcard::to_slice(value, &mut buffer).map_err(|_| WriteError::Oversized(section))?;
    Ok(encoded.to_vec())
}
