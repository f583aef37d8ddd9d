//! Files of a dataset that are not used: of what kind, why, and counts of them, so that nothing
//! goes missing silently.
//!
//! *Skipped* files look as if they were meant to be used and cannot be; each is listed with its
//! reason. *Ignored* ones (hidden files, lists, notes) are only counted.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An image or film in a format that is not decoded: its name.
    Format(String),
    /// A file without an ending.
    Unnamed,
    /// Its bytes are not an image, or a damaged one.
    Damaged,
    /// A list names it, and it is not there; or a symbolic link leads nowhere.
    Missing,
    /// It is there and cannot be read.
    Unreadable,
    /// No tag, where each image has exactly one.
    Untagged,
    /// Several tags, where each image has exactly one.
    SeveralTags,
    /// The same file, listed once more with the same tags.
    ListedAgain,
    /// An image beside the tagged folders.
    Loose,
    /// A mask or a labelled copy of an image beside it.
    Mask,
    /// A symbolic link to a folder that holds it.
    Loop,
    /// Its name is not UTF-8.
    Name,
}

impl Kind {
    /// `n` files of this kind, in words.
    fn counted(&self, n: usize) -> String {
        match self {
            Self::Format(name) => format!("{n} {name}"),
            Self::Unnamed => format!("{n} without an ending"),
            Self::Damaged => format!("{n} damaged"),
            Self::Missing => format!("{n} missing"),
            Self::Unreadable => format!("{n} unreadable"),
            Self::Untagged => format!("{n} without a tag"),
            Self::SeveralTags => format!("{n} with several tags"),
            Self::ListedAgain => format!("{n} listed again"),
            Self::Loose => format!("{n} in no tagged folder"),
            Self::Mask => format!("{n} masks"),
            Self::Loop => format!("{n} links in a circle"),
            Self::Name => format!("{n} with names that are not UTF-8"),
        }
    }
}

/// A file that is not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeftOut {
    /// Of what kind.
    pub kind: Kind,
    /// Relative to the dataset's root.
    #[serde(with = "written")]
    pub path: PathBuf,
    /// The reason, and what to do, in words.
    pub why: String,
}

impl LeftOut {
    /// One file.
    pub fn new(path: impl Into<PathBuf>, kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, path: path.into(), why: why.into() }
    }
}

/// Paths as text in a file. Bytes that are no UTF-8 stand there as `\xHH`; in a name that holds
/// such a byte, or the characters `\x` themselves, each backslash does so too.
mod written {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) if !text.contains("\\x") => to.serialize_str(text),
            _ => {
                let escaped = path.as_os_str().as_bytes().utf8_chunks().map(|chunk| {
                    let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
                    chunk.valid().replace('\\', "\\x5c") + &invalid
                });
                to.serialize_str(&escaped.collect::<String>())
            }
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(from)?;
        let mut parts = text.split("\\x");
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let byte =
                byte.ok_or_else(|| serde::de::Error::custom(format!("\"{text}\": expected two digits behind \\x")))?;
            bytes.push(byte);
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        Ok(OsString::from_vec(bytes).into())
    }
}

/// Counts by kind, most frequent first: `30 HEIC, 2 damaged`.
pub fn counts(files: &[LeftOut]) -> String {
    let mut kinds: BTreeMap<&Kind, usize> = BTreeMap::new();
    files.iter().for_each(|f| *kinds.entry(&f.kind).or_default() += 1);
    let mut kinds: Vec<(&Kind, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    kinds.iter().map(|(kind, n)| kind.counted(*n)).collect::<Vec<_>>().join(", ")
}

/// Files of one kind that are shown by name; the rest are counted.
const SHOWN: usize = 3;

/// Lists the skipped files on standard error: a few of each kind by name, the others as a count.
pub fn tell(files: &[LeftOut]) {
    let mut kinds: BTreeMap<&Kind, Vec<&LeftOut>> = BTreeMap::new();
    files.iter().for_each(|f| kinds.entry(&f.kind).or_default().push(f));
    for (kind, files) in kinds {
        files.iter().take(SHOWN).for_each(|f| eprintln!("skipped {}: {}", f.path.display(), f.why));
        if files.len() > SHOWN {
            eprintln!("skipped {} more of this kind ({} in all)", files.len() - SHOWN, kind.counted(files.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    /// A file whose name is no UTF-8 was told as left out, and then the contract could not be
    /// written: a training was lost after its last epoch.
    #[test]
    fn a_file_of_any_name_is_written_as_left_out_and_read_back() {
        for (name, text) in [
            (&b"bolt/caf\xe9.png"[..], r#""bolt/caf\\xe9.png""#),
            (b"a\\b.png", r#""a\\b.png""#),
            (b"a\\xe9.png", r#""a\\x5cxe9.png""#),
            (b"\\\xff\xfe", r#""\\x5c\\xff\\xfe""#),
            ("caf\u{e9}".as_bytes(), "\"caf\u{e9}\""),
        ] {
            let file = LeftOut::new(OsStr::from_bytes(name), Kind::Unreadable, "why");
            let json = serde_json::to_string(&file).unwrap();
            assert!(json.contains(text), "{json} has no {text}");
            assert_eq!(serde_json::from_str::<LeftOut>(&json).unwrap(), file);
        }
        assert!(serde_json::from_str::<LeftOut>(r#"{"kind":"unreadable","path":"a\\xg0","why":""}"#).is_err());
    }
}
