//! Names of kept files.
//!
//! A file's name says all that the ring has to know of it, so that nothing else must be kept:
//! `tagpin-NUMBER-SECONDS-KIND-partPART`, with `.jpg` or `.json` behind it. Numbers rise with every
//! image that is ever kept in the folder; by them the oldest is found whatever the clock says.
//! SECONDS are those since 1970, or `noclock` where the clock was not set.

use super::Kind;

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
        // A ring never comes near it: behind the highest number none could follow.
        let number = number.parse().ok().filter(|number| *number < 1 << 53)?;
        let stem = Self { number, wall, kind, part: part.parse().ok()? };
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
            let (number, part) = (any() >> 11, any());
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
        for name in [
            &b""[..],
            b".jpg",
            b"tagpin-.jpg",
            b"tagpin-1-2-rejected-part3.jpg",
            b"..part",
            b"\xff.jpg",
            b"tagpin-18446744073709551615-9-rejected-part3.jpg",
        ] {
            assert_eq!(Stem::of(name), None, "{}", String::from_utf8_lossy(name));
        }
        let usual = Stem { number: 7, wall: Some(9), kind: Kind::Rejected, part: 3 };
        assert_eq!(usual.file(Which::Jpeg), "tagpin-00000007-9-rejected-part3.jpg");
    }
}
