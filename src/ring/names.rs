//! Names of kept files and of the folders that hold them.
//!
//! A file's name says all that the ring has to know of it, so that nothing else must be kept:
//! `tagpin-NUMBER-SECONDS-KIND-partPART`, with `.jpg` or `.json` behind it. Numbers rise with every
//! image that is ever kept in the folder; by them the oldest is found whatever the clock says.
//! SECONDS are those since 1970, or `noclock` where the clock was not set.

use super::Kind;

/// Most bytes of a folder's name; file systems take 255.
const LONGEST: usize = 180;

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stem {
    /// Its number among all that were ever kept in the folder, from 1.
    pub(super) number: u64,
    /// When it was kept, in seconds since 1970; `None` where the clock was not set.
    pub(super) wall: Option<u64>,
    /// Why it was kept.
    pub(super) kind: Kind,
    /// The part that it shows.
    pub(super) part: u64,
}

/// Which of an image's files it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The image.
    Jpeg,
    /// What is known of it.
    Json,
    /// One that is not whole, or not of that name yet.
    Unfinished,
}

impl std::fmt::Display for Stem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tagpin-{:08}-", self.number)?;
        match self.wall {
            Some(seconds) => write!(f, "{seconds}")?,
            None => f.write_str("noclock")?,
        }
        write!(f, "-{}-part{}", self.kind.name(), self.part)
    }
}

impl Stem {
    /// The name of one of its files.
    pub(super) fn file(&self, which: Which) -> String {
        match which {
            Which::Jpeg => format!("{self}.jpg"),
            Which::Json => format!("{self}.json"),
            // Begins with a dot, so that nobody takes it for an image.
            Which::Unfinished => format!(".{self}.part"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix("tagpin-")?.split('-');
        let mut next = || fields.next();
        let (number, wall, kind, part) = (next()?, next()?, next()?, next()?.strip_prefix("part")?);
        let wall = if wall == "noclock" { None } else { Some(wall.parse().ok()?) };
        let kind = Kind::ALL.into_iter().find(|k| k.name() == kind)?;
        let stem = Self { number: number.parse().ok()?, wall, kind, part: part.parse().ok()? };
        // Written in one way only: what merely resembles it is somebody else's.
        (stem.to_string() == text).then_some(stem)
    }

    /// What a file's name says; `None` where the ring writes no such name.
    pub(super) fn of(name: &[u8]) -> Option<(Self, Which)> {
        let name = std::str::from_utf8(name).ok()?;
        let (stem, which) = if let Some(stem) = name.strip_suffix(".jpg") {
            (stem, Which::Jpeg)
        } else if let Some(stem) = name.strip_suffix(".json") {
            (stem, Which::Json)
        } else {
            (name.strip_prefix('.')?.strip_suffix(".part")?, Which::Unfinished)
        };
        Some((Self::parse(stem)?, which))
    }
}

/// The folder of a tag: its name wherever that can be a folder's. What would lead elsewhere, be
/// hidden or command a terminal, and `%` itself, stands there as `%` and two hexadecimal digits; a
/// leading `_` too, which is for folders of no tag. No two tags have one folder.
pub fn tag_folder(tag: &str) -> String {
    let mut name = String::new();
    for (i, c) in tag.char_indices() {
        let leads = i == 0 && (c == '.' || c == '_');
        if leads || c.is_control() || matches!(c, '/' | '\\' | '%') {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| name += &format!("%{b:02X}"));
        } else {
            name.push(c);
        }
    }
    if name.len() <= LONGEST {
        return name;
    }
    let end = (0..=LONGEST).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let hash = crate::bundle::sha256(tag.as_bytes());
    let hash: String = hash[..8].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}%-{hash}", &name[..end])
}

/// The tag whose folder has this name: the name itself where [`tag_folder`] writes no such name, as
/// of a folder that somebody made by hand or of a tag too long for a folder's name.
pub fn folder_tag(folder: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = folder.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        let (byte, taken) = escaped.filter(|_| *first == b'%').map_or((*first, 1), |byte| (byte, 3));
        bytes.push(byte);
        rest = &rest[taken..];
    }
    String::from_utf8(bytes).ok().filter(|tag| tag_folder(tag) == folder).unwrap_or_else(|| folder.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    #[test]
    fn a_name_says_what_was_kept_and_what_only_resembles_one_is_somebody_elses() {
        let (seed, cases) = drawn_cases(400);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut any = || random.next() >> (random.next() % 64);
            let (number, part) = (any(), any());
            let wall = Some(any()).filter(|w| w % 3 > 0);
            let stem = Stem { number, wall, kind: Kind::ALL[any() as usize % Kind::ALL.len()], part };
            for which in [Which::Jpeg, Which::Json, Which::Unfinished] {
                let name = stem.file(which);
                assert_eq!(Stem::of(name.as_bytes()), Some((stem, which)), "case {case}: {name}");
                for other in [format!("{name}~"), format!("x{name}"), name.replace("tagpin-", "tagpin-0000000000")] {
                    assert_eq!(Stem::of(other.as_bytes()), None, "case {case}: {other}");
                }
            }
        }
        for name in [&b""[..], b".jpg", b"tagpin-.jpg", b"tagpin-1-2-rejected-part3.jpg", b"..part", b"\xff.jpg"] {
            assert_eq!(Stem::of(name), None, "{}", String::from_utf8_lossy(name));
        }
        let usual = Stem { number: 7, wall: Some(9), kind: Kind::Rejected, part: 3 };
        assert_eq!(usual.file(Which::Jpeg), "tagpin-00000007-9-rejected-part3.jpg");
    }

    /// A tag is data of a bundle that somebody else may have made: it leads out of no folder.
    #[test]
    fn a_tag_is_one_folder_of_its_own_below_the_rings_whatever_it_is_called() {
        for (tag, name) in [
            ("bolt", "bolt"),
            ("gear chipped", "gear chipped"),
            ("Mutter-5,0_ü", "Mutter-5,0_ü"),
            ("..", "%2E."),
            (".", "%2E"),
            ("../../etc/cron.d", "%2E.%2F..%2Fetc%2Fcron.d"),
            ("/etc", "%2Fetc"),
            ("a/b", "a%2Fb"),
            ("_foreign", "%5Fforeign"),
            ("100%", "100%25"),
            ("a\u{1b}[2J\0\n\u{85}", "a%1B[2J%00%0A%C2%85"),
        ] {
            assert_eq!(tag_folder(tag), name);
            assert_eq!(folder_tag(name), tag);
        }
        for by_hand in ["100%", "50%2f", "%41", "a%2", "%+1", "%FF", "_unknown", "%E2%82%AC"] {
            assert_eq!(folder_tag(by_hand), by_hand);
        }
        let (seed, cases) = drawn_cases(2000);
        let mut names = std::collections::BTreeMap::new();
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let length = random.range(1, 5) as usize * if random.range(0, 9) == 0 { 60 } else { 1 };
            let letters = ['a', '/', '.', '%', '_', '2', 'F', '\\', '\u{7f}', '\u{fffd}', '🔩'];
            let tag: String = (0..length).map(|_| letters[random.range(0, letters.len() as i32 - 1) as usize]).collect();
            let name = tag_folder(&tag);
            assert!(name.len() <= 255 && !name.starts_with(['.', '_']) && !name.contains(['/', '\0']), "{tag}: {name}");
            let whose = names.entry(name.clone()).or_insert(tag.clone());
            assert_eq!(*whose, tag, "{name}");
            assert!(folder_tag(&name) == tag || name.contains("%-") && folder_tag(&name) == name, "{tag}: {name}");
        }
    }
}
