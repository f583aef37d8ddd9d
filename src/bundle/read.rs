//! Reads a bundle from bytes: header, table, lengths and hashes first, then the sections. Nothing
//! is trusted before it is checked.

use super::contract::{Contract, ContractFault};
use super::encoding::{ContractSection, Format1, RulesSection};
use super::sections::{CRITICAL, ENTRY_LEN, Entry, MAX_SECTIONS, Section, SectionId, entries};
use super::self_test::{SelfTest, SelfTestFault};
use super::sha256;
use crate::category::{Categories, CategoryFault};
use crate::decide::Task;
use crate::distance::{Spread, SpreadFault};
use serde::Deserialize;

/// The first eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"\x89TAGPIN\n";
/// The format version this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 2;
/// Bytes before the table of sections: magic, version, number of sections, identity.
pub const HEADER_LEN: usize = 8 + 4 + 4 + 32;
/// Longest contract in bytes.
pub const MAX_CONTRACT: u32 = 1 << 20;
/// Longest graph in bytes.
pub const MAX_GRAPH: u32 = 256 << 20;
/// Longest section in bytes, other than contract and graph.
pub const MAX_SECTION: u32 = 16 << 20;
/// Bytes before the contract in format 1: magic, version, two lengths, identity.
const HEADER_1_LEN: usize = 8 + 4 + 4 + 4 + 32;

/// A bundle whose header, hashes and contract were checked.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    /// What the model needs and gives.
    pub contract: Contract<'a>,
    /// The int8 ONNX graph.
    pub graph: &'a [u8],
    /// The bundle's identity: SHA-256 of the table of sections, which holds every section's own; in
    /// format 1 of contract and graph.
    pub sha256: [u8; 32],
    /// How far an image may lie from the training images; `None` where the bundle has no distance
    /// section.
    pub spread: Option<Spread<&'a [u8]>>,
    /// Names for groups of tags; `None` where the bundle has no categories section.
    pub categories: Option<Categories<'a>>,
    /// Images with the logits that a board must give; `None` where the bundle has none.
    pub self_test: Option<SelfTest<'a>>,
    /// Format version of the file.
    pub format: u32,
    table: &'a [u8],
    contents: &'a [u8],
}

/// Why bytes are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// The first bytes are not a bundle's.
    Magic,
    /// Written by a newer version.
    Version {
        /// Its format version.
        found: u32,
    },
    /// A stated length is above its limit.
    Oversized {
        /// What is too long.
        what: SectionId,
        /// Its stated length.
        found: u32,
        /// The limit.
        limit: u32,
    },
    /// Fewer or more bytes than header and table state.
    Length {
        /// Bytes there.
        found: u64,
        /// Bytes stated.
        expected: u64,
    },
    /// No section, or too many.
    SectionCount {
        /// Sections stated.
        found: u32,
    },
    /// The table of sections (in format 1: the contents) has another hash than the header states.
    Damaged,
    /// A section's contents have another hash than the table states.
    SectionDamaged(SectionId),
    /// A section stands twice.
    SectionTwice(SectionId),
    /// A section stands behind one of a higher number.
    SectionOrder {
        /// The section.
        id: SectionId,
        /// The one before it.
        after: SectionId,
    },
    /// A section has flags that no format defines, or lacks the critical flag that its number
    /// demands.
    SectionFlags {
        /// The section.
        id: SectionId,
        /// Its flags.
        flags: u32,
    },
    /// A section that the bundle can't be used without, and that this build does not act on.
    SectionUnknown(SectionId),
    /// A section that every bundle has is not there.
    SectionMissing(Section),
    /// A section cannot be decoded.
    Encoding(Section),
    /// There is not one rule a tag.
    Rules {
        /// Rules in the rules section.
        rules: usize,
        /// Tags in the contract.
        tags: usize,
    },
    /// The contract was decoded, but says what cannot be.
    Contract(ContractFault),
    /// The distance section says what cannot be.
    Distance(SpreadFault),
    /// The categories section says what cannot be.
    Categories(CategoryFault),
    /// The self-test section says what cannot be.
    SelfTest(SelfTestFault),
    /// The contract of a format-1 bundle names another graph.
    Graph,
}

impl core::fmt::Display for BundleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const REPACK: &str = "repack with `tagpin-tools pack`";
        match self {
            Self::Magic => {
                f.write_str("not a tagpin bundle (wrong first bytes); name a .tagpin file, as `tagpin-tools pack` makes one")
            }
            Self::Version { found } => write!(
                f,
                "bundle format {found}, this build reads 1..={FORMAT_VERSION}; update tagpin or repack with its own tools"
            ),
            Self::Oversized { what, found, limit } => {
                write!(f, "section {what} of {found} bytes, at most {limit} allowed; {REPACK}")
            }
            Self::Length { found, expected } => {
                write!(f, "{found} bytes, its header states {expected}; copy the file again")
            }
            Self::SectionCount { found } => {
                write!(f, "{found} sections, expected 1..={MAX_SECTIONS}; copy the file again")
            }
            Self::Damaged => f.write_str("contents do not match the stored SHA-256; copy the file again"),
            Self::SectionDamaged(id) => {
                write!(f, "section {id} does not match its stored SHA-256; copy the file again")
            }
            Self::SectionTwice(id) => write!(f, "section {id} stands twice; {REPACK}"),
            Self::SectionOrder { id, after } => {
                write!(f, "section {id} stands behind section {after}, expected rising numbers; {REPACK}")
            }
            Self::SectionFlags { id, flags } => {
                let expected = if Section::of(id.0).is_some_and(Section::critical) { "1" } else { "0 or 1" };
                write!(f, "section {id} has flags {flags:#x}, expected {expected}; {REPACK}")
            }
            Self::SectionUnknown(id) => {
                write!(f, "section {id} is critical, and this build does not know what it asks for; update tagpin")
            }
            Self::SectionMissing(section) => write!(f, "section {} is missing; {REPACK}", SectionId(section.id())),
            Self::Encoding(section) => write!(f, "{} cannot be decoded; {REPACK}", section.name()),
            Self::Rules { rules, tags } => write!(f, "{rules} rules for {tags} tags, expected one each; {REPACK}"),
            Self::Contract(fault) => write!(f, "contract refused: {fault}; {REPACK}"),
            Self::Distance(fault) => write!(f, "distance refused: {fault}; {REPACK}"),
            Self::Categories(fault) => write!(f, "categories refused: {fault}; {REPACK}"),
            Self::SelfTest(fault) => write!(f, "self-test refused: {fault}; {REPACK}"),
            Self::Graph => write!(f, "contract and graph do not belong together; {REPACK}"),
        }
    }
}

impl core::error::Error for BundleError {}

/// The number at `at`, little-endian.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

/// Decodes all of `bytes`.
fn decode<'a, T: Deserialize<'a>>(section: Section, bytes: &'a [u8]) -> Result<T, BundleError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(BundleError::Encoding(section)),
    }
}

/// The categories of a contract's tags.
pub(super) fn categories_of<'a>(contract: &Contract<'_>, bytes: &'a [u8]) -> Result<Categories<'a>, CategoryFault> {
    match contract.task {
        Task::Multiclass => Categories::read(bytes, &contract.tags),
        Task::Multilabel => Err(CategoryFault::Multilabel),
    }
}

impl<'a> Bundle<'a> {
    /// Reads a whole bundle from `bytes`. Work and memory are bounded by the length of `bytes`.
    pub fn read(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let short = |expected: usize| BundleError::Length { found: bytes.len() as u64, expected: expected as u64 };
        if bytes.get(..8) != Some(&MAGIC) {
            let begun = MAGIC.starts_with(bytes) && !bytes.is_empty();
            return Err(if begun { short(HEADER_LEN) } else { BundleError::Magic });
        }
        match word(bytes, 8).ok_or(short(HEADER_LEN))? {
            1 if bytes.len() < HEADER_1_LEN => Err(short(HEADER_1_LEN)),
            1 => Self::read_1(bytes),
            2 if bytes.len() < HEADER_LEN => Err(short(HEADER_LEN)),
            2 => Self::read_2(bytes),
            found => Err(BundleError::Version { found }),
        }
    }

    /// Contents of a section; `None` where the bundle has none. Format 1 has no sections.
    pub fn section(&self, section: Section) -> Option<&'a [u8]> {
        content(self.table, self.contents, section).map(|(_, bytes)| bytes)
    }

    /// The table of sections, those that this build skips included; empty in format 1.
    pub fn sections(&self) -> impl Iterator<Item = Entry<'a>> {
        entries(self.table)
    }

    /// `bytes`: a whole header at least, of format 2.
    fn read_2(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let (header, rest) = bytes.split_at(HEADER_LEN);
        let count = word(header, 12).expect("the header is whole");
        if !(1..=MAX_SECTIONS).contains(&count) {
            return Err(BundleError::SectionCount { found: count });
        }
        let table_len = count as usize * ENTRY_LEN;
        let length = |expected: u64| BundleError::Length { found: bytes.len() as u64, expected };
        let Some((table, contents)) = rest.split_at_checked(table_len) else {
            return Err(length((HEADER_LEN + table_len) as u64));
        };
        let identity = sha256(table);
        if header[16..] != identity {
            return Err(BundleError::Damaged);
        }
        let mut before: Option<SectionId> = None;
        let mut expected = (HEADER_LEN + table_len) as u64;
        for entry in entries(table) {
            check_entry(&entry, before)?;
            before = Some(entry.id);
            expected += entry.len as u64;
        }
        if bytes.len() as u64 != expected {
            return Err(length(expected));
        }
        let mut rest = contents;
        for entry in entries(table) {
            let (content, behind) = rest.split_at(entry.len as usize);
            if sha256(content) != *entry.sha256 {
                return Err(BundleError::SectionDamaged(entry.id));
            }
            rest = behind;
        }
        let required = |s: Section| content(table, contents, s).ok_or(BundleError::SectionMissing(s));
        let (_, contract) = required(Section::Contract)?;
        let (_, rules) = required(Section::Rules)?;
        let (graph_entry, graph) = required(Section::Graph)?;
        let rules: RulesSection = decode(Section::Rules, rules)?;
        let contract: ContractSection<'a> = decode(Section::Contract, contract)?;
        let contract = contract
            .with(&rules, *graph_entry.sha256)
            .map_err(|counts| BundleError::Rules { rules: counts.rules, tags: counts.tags })?;
        contract.check().map_err(BundleError::Contract)?;
        let spread = content(table, contents, Section::Distance).map(|(_, bytes)| Spread::read(bytes));
        let spread = spread.transpose().map_err(BundleError::Distance)?;
        let categories = content(table, contents, Section::Categories).map(|(_, bytes)| categories_of(&contract, bytes));
        let categories = categories.transpose().map_err(BundleError::Categories)?;
        let self_test = content(table, contents, Section::SelfTest).map(|(_, bytes)| SelfTest::read(bytes, &contract));
        let self_test = self_test.transpose().map_err(BundleError::SelfTest)?;
        Ok(Self { contract, graph, spread, categories, self_test, sha256: identity, format: 2, table, contents })
    }

    /// `bytes`: a whole header at least, of format 1.
    fn read_1(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let (header, payload) = bytes.split_at(HEADER_1_LEN);
        let lengths = [(Section::Contract, 12), (Section::Graph, 16)];
        let mut expected = HEADER_1_LEN as u64;
        for (section, at) in lengths {
            let found = word(header, at).expect("the header is whole");
            if found > section.limit() {
                return Err(BundleError::Oversized { what: SectionId(section.id()), found, limit: section.limit() });
            }
            expected += found as u64;
        }
        if bytes.len() as u64 != expected {
            return Err(BundleError::Length { found: bytes.len() as u64, expected });
        }
        let identity = sha256(payload);
        if header[20..] != identity {
            return Err(BundleError::Damaged);
        }
        let (contract, graph) = payload.split_at(word(header, 12).expect("the header is whole") as usize);
        let contract = decode::<Format1<'a>>(Section::Contract, contract)?.contract();
        contract.check().map_err(BundleError::Contract)?;
        if contract.graph_sha256 != sha256(graph) {
            return Err(BundleError::Graph);
        }
        let (spread, categories, self_test) = (None, None, None);
        Ok(Self { contract, graph, spread, categories, self_test, sha256: identity, format: 1, table: &[], contents: &[] })
    }
}

/// Checks one line of the table against the one before it.
fn check_entry(entry: &Entry<'_>, before: Option<SectionId>) -> Result<(), BundleError> {
    let id = entry.id;
    match before {
        Some(after) if after == id => return Err(BundleError::SectionTwice(id)),
        Some(after) if after > id => return Err(BundleError::SectionOrder { id, after }),
        _ => {}
    }
    let section = Section::of(id.0);
    if entry.flags & !CRITICAL != 0 || section.is_some_and(Section::critical) && !entry.critical() {
        return Err(BundleError::SectionFlags { id, flags: entry.flags });
    }
    if entry.critical() && !section.is_some_and(Section::understood) {
        return Err(BundleError::SectionUnknown(id));
    }
    let limit = section.map_or(MAX_SECTION, Section::limit);
    if entry.len > limit {
        return Err(BundleError::Oversized { what: id, found: entry.len, limit });
    }
    Ok(())
}

/// A section's line in `table` and its bytes in `contents`, which are as long as `table` says.
fn content<'a>(table: &'a [u8], contents: &'a [u8], section: Section) -> Option<(Entry<'a>, &'a [u8])> {
    let mut rest = contents;
    for entry in entries(table) {
        let (content, behind) = rest.split_at_checked(entry.len as usize)?;
        if entry.id.0 == section.id() {
            return Some((entry, content));
        }
        rest = behind;
    }
    None
}
