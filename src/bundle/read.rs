//! Reading a bundle: header, lengths and hash first, then the contract; nothing is trusted before it was checked.
//!
//! Does not open files: bytes are an argument.

use super::contract::{Contract, ContractFault};
use super::sha256;

/// The first eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"\x89TAGPIN\n";
/// The format version this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes before the contract.
pub const HEADER_LEN: usize = 8 + 4 + 4 + 4 + 32;
/// Longest contract in bytes.
pub const MAX_CONTRACT: u32 = 1 << 20;
/// Longest graph in bytes.
pub const MAX_GRAPH: u32 = 256 << 20;

/// A bundle whose header, hash and contract were checked.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    /// What the model needs and gives.
    pub contract: Contract<'a>,
    /// The int8 ONNX graph.
    pub graph: &'a [u8],
    /// SHA-256 of the payload: the bundle's identity.
    pub sha256: [u8; 32],
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
        what: &'static str,
        /// Its stated length.
        found: u32,
        /// The limit.
        limit: u32,
    },
    /// Fewer or more bytes than the header states.
    Length {
        /// Bytes there.
        found: usize,
        /// Bytes stated.
        expected: usize,
    },
    /// The payload's hash differs from the header's.
    Damaged,
    /// The contract cannot be decoded.
    Encoding,
    /// The contract was decoded, but says what cannot be.
    Contract(ContractFault),
    /// The contract names another graph.
    Graph,
}

impl core::fmt::Display for BundleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Magic => f.write_str("not a tagpin bundle (wrong first bytes); make one with `cargo tools pack`"),
            Self::Version { found } => write!(
                f,
                "bundle format {found}, this build reads 1..={FORMAT_VERSION}; update tagpin or repack with its own tools"
            ),
            Self::Oversized { what, found, limit } => write!(f, "{what} of {found} bytes, at most {limit} allowed"),
            Self::Length { found, expected } => {
                write!(f, "{found} bytes, its header states {expected}; copy the file again")
            }
            Self::Damaged => f.write_str("contents do not match the stored SHA-256; copy the file again"),
            Self::Encoding => f.write_str("contract cannot be decoded; repack with `cargo tools pack`"),
            Self::Contract(fault) => write!(f, "contract refused: {fault}; repack with `cargo tools pack`"),
            Self::Graph => f.write_str("contract and graph do not belong together; repack with `cargo tools pack`"),
        }
    }
}

impl core::error::Error for BundleError {}

impl<'a> Bundle<'a> {
    /// Reads a whole bundle from `bytes`. Work and memory are bounded by the length of `bytes`.
    pub fn read(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let short = BundleError::Length { found: bytes.len(), expected: HEADER_LEN };
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(if MAGIC.starts_with(bytes) && !bytes.is_empty() { short } else { BundleError::Magic });
        }
        let version = word(8).ok_or(short)?;
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(BundleError::Version { found: version });
        }
        let contract_len = word(12).ok_or(short)?;
        let graph_len = word(16).ok_or(short)?;
        for (what, found, limit) in [("contract", contract_len, MAX_CONTRACT), ("graph", graph_len, MAX_GRAPH)] {
            if found > limit {
                return Err(BundleError::Oversized { what, found, limit });
            }
        }
        let expected = HEADER_LEN + contract_len as usize + graph_len as usize;
        if bytes.len() != expected {
            return Err(BundleError::Length { found: bytes.len(), expected });
        }
        let (header, payload) = bytes.split_at(HEADER_LEN);
        let sha = sha256(payload);
        if header[20..] != sha {
            return Err(BundleError::Damaged);
        }
        let (contract, graph) = payload.split_at(contract_len as usize);
        let (contract, rest) = postcard::take_from_bytes::<Contract<'a>>(contract).map_err(|_| BundleError::Encoding)?;
        if !rest.is_empty() {
            return Err(BundleError::Encoding);
        }
        contract.check().map_err(BundleError::Contract)?;
        if contract.graph_sha256 != sha256(graph) {
            return Err(BundleError::Graph);
        }
        Ok(Self { contract, graph, sha256: sha })
    }
}
