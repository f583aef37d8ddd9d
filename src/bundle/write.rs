//! Writing a bundle: the inverse of reading, refusing what reading would refuse.
//!
//! Does not create files: it returns bytes.

use super::contract::{Contract, ContractFault};
use super::read::{FORMAT_VERSION, HEADER_LEN, MAGIC, MAX_CONTRACT, MAX_GRAPH};
use super::sha256;

/// Why a contract and a graph make no bundle.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The contract says what cannot be.
    Contract(ContractFault),
    /// The contract names another graph.
    Graph,
    /// A part is longer than the format allows.
    Oversized(&'static str),
}

impl core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Contract(fault) => write!(f, "contract refused: {fault}"),
            Self::Graph => f.write_str("contract names the SHA-256 of another graph"),
            Self::Oversized(what) => write!(f, "{what} is longer than the format allows"),
        }
    }
}

impl std::error::Error for WriteError {}

/// The bytes of a bundle.
pub fn write(contract: &Contract<'_>, graph: &[u8]) -> Result<Vec<u8>, WriteError> {
    contract.check().map_err(WriteError::Contract)?;
    if contract.graph_sha256 != sha256(graph) {
        return Err(WriteError::Graph);
    }
    let mut buffer = vec![0; MAX_CONTRACT as usize];
    let encoded = postcard::to_slice(contract, &mut buffer).map_err(|_| WriteError::Oversized("contract"))?;
    if graph.len() > MAX_GRAPH as usize {
        return Err(WriteError::Oversized("graph"));
    }
    let mut bytes = Vec::with_capacity(HEADER_LEN + encoded.len() + graph.len());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend((encoded.len() as u32).to_le_bytes());
    bytes.extend((graph.len() as u32).to_le_bytes());
    bytes.extend([0; 32]);
    bytes.extend_from_slice(encoded);
    bytes.extend_from_slice(graph);
    let hash = sha256(&bytes[HEADER_LEN..]);
    bytes[20..HEADER_LEN].copy_from_slice(&hash);
    Ok(bytes)
}
