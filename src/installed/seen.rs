//! What can be said of a bundle without running it: which it is, and who signed it.

use super::InstallError;
use super::signature::{Keys, Signed};
use crate::bundle::{Bundle, Hex};
use crate::regular;
use std::path::Path;

/// A whole bundle that the keys trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The model's name.
    pub name: String,
    /// The bundle's hash.
    pub sha256: String,
    /// What its signature says, if it has one.
    pub signed: Option<Signed>,
    /// Images of its self-test; 0 where it has none.
    pub images: usize,
}

impl Seen {
    /// Reads the bundle at `path` whole and checks its hashes and its signature.
    pub fn read(path: &Path, keys: &Keys) -> Result<Self, InstallError> {
        let bytes = regular::read(path, regular::BUNDLE);
        let bytes = bytes.map_err(|why| InstallError::Unread { path: path.into(), why })?;
        let bundle = Bundle::read(&bytes).map_err(|why| InstallError::Bundle { path: path.into(), why })?;
        let signed = keys.check(path, &bytes, &bundle.contract);
        let signed = signed.map_err(|why| InstallError::Signature { path: path.into(), why })?;
        Ok(Self {
            name: bundle.contract.name.into(),
            sha256: Hex(&bundle.sha256).to_string(),
            signed,
            images: bundle.self_test.map_or(0, |test| test.cases().count()),
        })
    }

    /// The bundle that a link of an installed folder leads to; `None` where there is no link. Refuses
    /// a folder that is not there.
    pub fn behind(folder: &Path, link: &str, keys: &Keys) -> Result<Option<Self>, InstallError> {
        super::change::can_be_listed(folder)?;
        match std::fs::read_link(folder.join(link)) {
            Ok(target) => Self::read(&folder.join(target), keys).map(Some),
            Err(_) => Ok(None),
        }
    }
}
