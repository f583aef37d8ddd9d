//! Who made a bundle: minisign's detached signature `NAME.tagpin.minisig`, and the keys that a
//! device trusts.
//!
//! A signature covers every byte of the file and a comment of its own, `tagpin model=NAME
//! version=N`. Only prehashed signatures are taken, which is what `minisign` makes since 0.8. With
//! no key installed nothing is asked for. A folder or a key that cannot be read refuses every
//! bundle: it must not look like a device without keys.

use crate::bundle::Contract;
use crate::regular;
use minisign_verify::{Error, PublicKey, Signature};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where a device keeps its keys unless another folder is named.
pub const KEYS: &str = "/etc/tagpin/keys.d";

/// The public keys of a folder.
#[derive(Debug, Default)]
pub struct Keys {
    folder: PathBuf,
    keys: Vec<(String, PublicKey)>,
}

/// Why a bundle is not trusted, or the keys cannot be read.
#[derive(Debug)]
pub enum SignatureError {
    /// A key cannot be read.
    Keys {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The folder of keys cannot be listed.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Keys are installed, and no signature lies beside the bundle.
    Unsigned {
        /// Where it should lie.
        expected: PathBuf,
        /// The folder of keys.
        keys: PathBuf,
    },
    /// A file lies where the signature should, and it is none.
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Signed by a key that is not installed.
    Foreign {
        /// The folder of keys.
        keys: PathBuf,
        /// Files of the keys that are installed.
        installed: String,
    },
    /// Signed by an installed key, and changed since.
    Changed {
        /// The key's file.
        key: String,
    },
    /// The signed comment does not say which version this is.
    Comment {
        /// What it says.
        found: String,
    },
    /// The signature is for another model.
    Model {
        /// The model that it names.
        found: String,
        /// The bundle's.
        expected: String,
    },
}

impl std::fmt::Display for SignatureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keys { path, why } => {
                write!(f, "key {}: {why}; mend or remove it: until then no bundle can be trusted", path.display())
            }
            Self::Folder { path, why } => write!(
                f,
                "keys {}: {why}; --keys names the folder that holds the keys, as NAME.pub: until it can be read no bundle can \
                 be trusted",
                path.display()
            ),
            Self::Unsigned { expected, keys } => write!(
                f,
                "not signed, and {} has keys; sign it with `tagpin-tools bundle sign` and put {} beside it",
                keys.display(),
                expected.display()
            ),
            Self::Malformed { path, why } => {
                write!(f, "signature {}: {why}; sign it again with `tagpin-tools bundle sign`", path.display())
            }
            Self::Foreign { keys, installed } => write!(
                f,
                "signed by a key that is not installed ({installed} in {}); sign it with one of these, or put its public key \
                 there",
                keys.display()
            ),
            Self::Changed { key } => write!(
                f,
                "the signature by {key} is not of these bytes: bundle or signature was changed after signing; copy both again"
            ),
            Self::Comment { found } => write!(
                f,
                "the signature's trusted comment is \"{found}\", expected \"tagpin model=NAME version=N\"; sign it with \
                 `tagpin-tools bundle sign`"
            ),
            Self::Model { found, expected } => {
                write!(f, "the signature is for model \"{found}\", the bundle is \"{expected}\"; sign the bundle itself")
            }
        }
    }
}

impl std::error::Error for SignatureError {}

/// What a signature says of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// File of the key that made it; `None` where no key is installed, so that nobody checked.
    pub key: Option<String>,
    /// The bundle's version.
    pub version: u64,
}

impl std::fmt::Display for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { key: Some(key), version } => write!(f, "version {version}, by {key}"),
            Self { key: None, version } => write!(f, "version {version}, not checked: no key is installed"),
        }
    }
}

/// What the signed comment of a bundle states, as the tools write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The model's name, as the contract has it.
    pub model: String,
    /// The bundle's version: a later one is higher.
    pub version: u64,
}

impl std::fmt::Display for Comment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tagpin model={} version={}", self.model, self.version)
    }
}

impl std::str::FromStr for Comment {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let parts = text.strip_prefix("tagpin model=").and_then(|rest| rest.rsplit_once(" version="));
        let comment = parts.and_then(|(model, version)| {
            let digits = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
            Some(Self { model: model.into(), version: version.parse().ok().filter(|_| digits)? })
        });
        comment.ok_or_else(|| SignatureError::Comment { found: text.into() })
    }
}

/// Where the signature of `bundle` lies: beside it, with `.minisig` behind its name.
pub fn beside(bundle: &Path) -> PathBuf {
    let mut name = OsString::from(bundle);
    name.push(".minisig");
    name.into()
}

impl Keys {
    /// The `*.pub` files of `folder`, by name; none where the folder does not exist.
    pub fn open(folder: &Path) -> Result<Self, SignatureError> {
        let refused = |path: &Path, why: String| SignatureError::Keys { path: path.into(), why };
        let unlisted = |why: String| SignatureError::Folder { path: folder.into(), why };
        let listing = match std::fs::read_dir(folder) {
            Ok(listing) => listing,
            // A device without keys has no such folder; one that is named must be there.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder == Path::new(KEYS) => {
                return Ok(Self { folder: folder.into(), keys: Vec::new() });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Err(unlisted("is a file, no folder".into())),
            Err(e) => return Err(unlisted(e.to_string())),
        };
        let (mut keys, mut misnamed) = (Vec::new(), None);
        for entry in listing {
            let path = entry.map_err(|e| unlisted(e.to_string()))?.path();
            if path.extension().is_none_or(|e| e != "pub") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
                misnamed = misnamed.or(name.contains(".pub").then_some(path));
                continue;
            }
            let text = regular::read_text(&path, regular::TEXT).map_err(|e| refused(&path, e.to_string()))?;
            let key = PublicKey::decode(&text).map_err(|_| refused(&path, "it is no minisign public key".into()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            keys.push((name, key));
        }
        // SITE.PUB or site.pub.txt was meant to be a key, and without it none would be asked for.
        if let (true, Some(path)) = (keys.is_empty(), misnamed) {
            return Err(refused(&path, "the name of a key ends in .pub, and no other file there is a key".into()));
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { folder: folder.into(), keys })
    }

    /// Whether any bundle is taken.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks the signature that lies beside `path`. `bytes`: the bundle's. `contract`: what was
    /// read of them. `None` where there is no signature and no key asks for one.
    pub fn check(&self, path: &Path, bytes: &[u8], contract: &Contract<'_>) -> Result<Option<Signed>, SignatureError> {
        let file = beside(path);
        let malformed = |why: String| SignatureError::Malformed { path: file.clone(), why };
        let text = match regular::read_text(&file, regular::TEXT) {
            Ok(text) => text,
            Err(regular::Unread::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {
                let unsigned = SignatureError::Unsigned { expected: file.clone(), keys: self.folder.clone() };
                return if self.is_empty() { Ok(None) } else { Err(unsigned) };
            }
            Err(e) => return Err(malformed(e.to_string())),
        };
        let signature = Signature::decode(&text).map_err(|_| malformed("it is no minisign signature".into()))?;
        let key = if self.is_empty() { None } else { Some(self.maker(bytes, &signature, &malformed)?) };
        let comment: Comment = signature.trusted_comment().parse()?;
        if comment.model != contract.name {
            return Err(SignatureError::Model { found: comment.model, expected: contract.name.into() });
        }
        Ok(Some(Signed { key, version: comment.version }))
    }

    /// File of the key that made `signature` of `bytes`.
    fn maker(
        &self,
        bytes: &[u8],
        signature: &Signature,
        malformed: &dyn Fn(String) -> SignatureError,
    ) -> Result<String, SignatureError> {
        for (name, key) in &self.keys {
            match key.verify(bytes, signature, false) {
                Ok(()) => return Ok(name.clone()),
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::InvalidSignature) => return Err(SignatureError::Changed { key: name.clone() }),
                Err(e) => return Err(malformed(e.to_string().to_lowercase())),
            }
        }
        let installed = self.keys.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        Err(SignatureError::Foreign { keys: self.folder.clone(), installed })
    }
}
