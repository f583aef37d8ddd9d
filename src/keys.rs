//! Keys: 128 random bits that a client shows. Only their hashes are kept.
//!
//! A key is random, so its hash needs neither salt nor slowness. Hashes are compared in constant
//! time.

use crate::bundle::{Hex, sha256};
use subtle::ConstantTimeEq;

/// What a hash begins with where it is written.
const PREFIX: &str = "sha256:";

/// The hash of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key as a client shows it.
    pub fn of(key: &str) -> Self {
        Self(sha256(key.as_bytes()))
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", Hex(&self.0))
    }
}

impl std::str::FromStr for KeyHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix(PREFIX).filter(|d| d.len() == 64 && d.is_ascii());
        let byte = |i: usize, digits: &str| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok();
        let bytes = digits.and_then(|d| (0..32).map(|i| byte(i, d)).collect::<Option<Vec<u8>>>());
        match bytes.and_then(|b| b.try_into().ok()) {
            // Whoever shows no key at all would come in.
            Some(hash) if Self(hash) == Self::of("") => {
                Err("it is the hash of an empty key: hash the key itself, as `tagpin key new` does".into())
            }
            Some(hash) => Ok(Self(hash)),
            None => Err(format!(
                "expected {PREFIX} and 64 hexadecimal digits, as `tagpin key new` prints them; a key itself \
                is never written down here"
            )),
        }
    }
}

/// A new key, 32 hexadecimal digits drawn by the system.
pub fn new_key() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The hashes of the keys that open a server; none where everybody may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub Vec<KeyHash>);

impl Keys {
    /// Whether no key is asked for.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` is one of them; takes the same time whichever it is.
    pub fn opens(&self, key: &str) -> bool {
        let KeyHash(hash) = KeyHash::of(key);
        let found = self.0.iter().fold(subtle::Choice::from(0), |found, known| found | known.0.ct_eq(&hash));
        found.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_and_its_neighbours_do_not() {
        let (key, other) = (new_key().unwrap(), new_key().unwrap());
        assert!(key.len() == 32 && key != other, "{key} {other}");
        let keys = Keys(vec![KeyHash::of("another"), KeyHash::of(&key).to_string().parse().unwrap()]);
        assert!(keys.opens(&key) && keys.opens("another"));
        for wrong in [&other, &key[..31], &format!("{key}0"), "", &keys.0[1].to_string()] {
            assert!(!keys.opens(wrong), "{wrong}");
        }
    }

    #[test]
    fn only_a_whole_hash_is_read() {
        let hash = KeyHash::of("a key").to_string();
        assert_eq!(hash.parse::<KeyHash>().unwrap(), KeyHash::of("a key"));
        for wrong in ["", "a key", "sha256:", &hash[7..], &hash[..70], &format!("{hash}0"), &hash.replace('a', "ä")] {
            assert!(wrong.parse::<KeyHash>().is_err(), "{wrong}");
        }
        let empty = KeyHash::of("").to_string().parse::<KeyHash>();
        assert!(empty.is_err_and(|why| why.contains("hash of an empty key")), "nothing opened what it stood for");
    }
}
