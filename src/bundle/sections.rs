//! Sections of a format-2 bundle: which there are, and the table that lists them.
//!
//! The table states each section's number, whether a reader may skip it, its length and the SHA-256
//! of its contents. Contents follow in the table's order with nothing between, so the table cannot
//! describe a gap or an overlap.

/// Bytes of one entry of the table: number, flags and length, four bytes each, then SHA-256.
pub(super) const ENTRY_LEN: usize = 4 + 4 + 4 + 32;
/// Most sections of a bundle.
pub const MAX_SECTIONS: u32 = 64;
/// The flag of a section that a reader must understand to use the bundle.
pub(super) const CRITICAL: u32 = 1;

/// A section that has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Name, task, names of tags, input, where the model comes from.
    Contract,
    /// Temperature, and each tag's threshold, review band and role.
    Rules,
    /// The int8 ONNX graph.
    Graph,
    /// How far an image lies from the training images, and the limit: [`crate::distance`].
    Distance,
    /// Histograms of scores and images at training time, to notice drift. Reserved.
    References,
    /// Images with the logits that a board must give: [`super::SelfTest`].
    SelfTest,
    /// Where and how large the parts were in the images trained on. Reserved.
    Layout,
    /// Names for groups of tags, in a tree: [`crate::category`].
    Categories,
}

impl Section {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Contract,
        Self::Rules,
        Self::Graph,
        Self::Distance,
        Self::References,
        Self::SelfTest,
        Self::Layout,
        Self::Categories,
    ];

    /// Its number in the table.
    pub const fn id(self) -> u32 {
        match self {
            Self::Contract => 1,
            Self::Rules => 2,
            Self::Graph => 3,
            Self::Distance => 4,
            Self::References => 5,
            Self::SelfTest => 6,
            Self::Layout => 7,
            Self::Categories => 8,
        }
    }

    /// The section of a number, if that has a meaning.
    pub fn of(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.id() == id)
    }

    /// The name used in messages and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contract => "contract",
            Self::Rules => "rules",
            Self::Graph => "graph",
            Self::Distance => "distance",
            Self::References => "reference histograms",
            Self::SelfTest => "self-test",
            Self::Layout => "layout",
            Self::Categories => "categories",
        }
    }

    /// Whether a reader that does not understand it must refuse the bundle.
    pub const fn critical(self) -> bool {
        matches!(self, Self::Contract | Self::Rules | Self::Graph | Self::Distance)
    }

    /// Whether this build acts on it. A critical section that it does not act on is refused.
    pub const fn understood(self) -> bool {
        matches!(self, Self::Contract | Self::Rules | Self::Graph | Self::Distance | Self::SelfTest)
    }

    /// Its most bytes.
    pub(super) const fn limit(self) -> u32 {
        match self {
            Self::Contract => super::MAX_CONTRACT,
            Self::Graph => super::MAX_GRAPH,
            _ => super::MAX_SECTION,
        }
    }
}

/// A section's number as messages show it: with its name, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SectionId(pub u32);

impl core::fmt::Display for SectionId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match Section::of(self.0) {
            Some(section) => write!(f, "{} ({})", self.0, section.name()),
            None => write!(f, "{}", self.0),
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which section.
    pub id: SectionId,
    /// Flags as they stand there.
    pub(super) flags: u32,
    /// Bytes of its contents.
    pub len: u32,
    /// SHA-256 of its contents.
    pub sha256: &'a [u8; 32],
}

impl Entry<'_> {
    /// Whether a reader that does not know it must refuse the bundle.
    pub const fn critical(&self) -> bool {
        self.flags & CRITICAL != 0
    }
}

/// The lines of a table. `table`: whole entries; what is left over at its end is not looked at.
pub(super) fn entries(table: &[u8]) -> impl Iterator<Item = Entry<'_>> + Clone {
    table.as_chunks::<ENTRY_LEN>().0.iter().map(|entry| {
        let (numbers, sha256) = entry.split_last_chunk::<32>().expect("an entry ends in a hash");
        let word = |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        Entry { id: SectionId(word(0)), flags: word(4), len: word(8), sha256 }
    })
}
