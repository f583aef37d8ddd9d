//! The string that chooses a source: `scheme:path?key=value&...`, or
//! `faulty(SOURCE)?key=value&...`. [`super::open`] opens what it names.

use crate::frame::{Colour, Matrix, Range};
use std::collections::BTreeMap;

/// Why a source cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// The source as it was written.
    pub source: String,
    /// What was found, what was expected, what to do.
    pub why: String,
}

impl std::fmt::Display for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "source \"{}\": {}", self.source, self.why)
    }
}

impl std::error::Error for SourceError {}

/// A parsed source string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    text: String,
    scheme: String,
    path: String,
    options: BTreeMap<String, String>,
}

impl std::str::FromStr for SourceSpec {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let error = |why: &str| SourceError { source: text.into(), why: why.into() };
        let (scheme, path, query) = if let Some(rest) = text.strip_prefix("faulty(") {
            let close = rest.rfind(')').ok_or_else(|| error("expected faulty(SOURCE)?key=value"))?;
            let query = &rest[close + 1..];
            if !query.is_empty() && !query.starts_with('?') {
                return Err(error("expected `?` after the closing bracket"));
            }
            ("faulty", &rest[..close], query.strip_prefix('?').unwrap_or(""))
        } else {
            let (head, query) = text.split_once('?').unwrap_or((text, ""));
            let (scheme, path) = head.split_once(':').unwrap_or((head, ""));
            (scheme, path, query)
        };
        let mut options = BTreeMap::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| error(&format!("option \"{pair}\": expected key=value")))?;
            if options.insert(key.to_string(), value.to_string()).is_some() {
                return Err(error(&format!("option \"{key}\" stands twice")));
            }
        }
        Ok(Self { text: text.into(), scheme: scheme.into(), path: path.into(), options })
    }
}

impl SourceSpec {
    /// The part before the colon.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether this is the built-in conveyor, also behind seeded faults.
    pub fn is_conveyor(&self) -> bool {
        match self.scheme.as_str() {
            "faulty" => self.path.parse::<Self>().is_ok_and(|inner| inner.is_conveyor()),
            scheme => scheme == "conveyor",
        }
    }

    /// Whether its images are drawn or read from files, so that they show nothing of what passes:
    /// the conveyor, a folder, a y4m file that is no pipe; also behind seeded faults.
    pub fn is_drawn(&self) -> bool {
        match self.scheme.as_str() {
            "faulty" => self.path.parse::<Self>().is_ok_and(|inner| inner.is_drawn()),
            "y4m" if self.path == "-" => {
                let stdin = rustix::fs::fstat(std::io::stdin());
                stdin.is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_file())
            }
            "y4m" => std::fs::metadata(&self.path).is_ok_and(|m| m.is_file()),
            scheme => scheme == "conveyor" || scheme == "dir",
        }
    }

    /// Whether it reads standard input.
    pub fn is_stdin(&self) -> bool {
        match self.scheme.as_str() {
            "faulty" => self.path.parse::<Self>().is_ok_and(|inner| inner.is_stdin()),
            scheme => scheme == "y4m" && self.path == "-",
        }
    }

    /// The part after the colon.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The source as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error that names this source.
    pub fn error(&self, why: impl Into<String>) -> SourceError {
        SourceError { source: self.text.clone(), why: why.into() }
    }

    /// The value of option `key`, or `default`; refuses one that cannot be read or lies outside
    /// `range`.
    pub fn number<T>(&self, key: &str, default: T, range: std::ops::RangeInclusive<T>) -> Result<T, SourceError>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.options.get(key) else { return Ok(default) };
        let value = text.parse().ok().filter(|v| range.contains(v));
        value.ok_or_else(|| self.error(format!("{key}={text}, expected {}..={}", range.start(), range.end())))
    }

    /// The text of option `key`, if given.
    pub fn text_option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// Refuses options that the source does not know.
    pub fn allow(&self, known: &[&str]) -> Result<(), SourceError> {
        match self.options.keys().find(|k| !known.contains(&k.as_str())) {
            Some(key) if known.is_empty() => Err(self.error(format!("unknown option \"{key}\"; it has none"))),
            Some(key) => Err(self.error(format!("unknown option \"{key}\"; expected {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

/// `matrix=601|709` and `range=full|limited`: what a site states about a source that says nothing,
/// or the wrong thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ColourOptions {
    matrix: Option<Matrix>,
    range: Option<Range>,
}

impl ColourOptions {
    pub(super) fn read(spec: &SourceSpec) -> Result<Self, SourceError> {
        let matrix = match spec.text_option("matrix") {
            None => None,
            Some("601") => Some(Matrix::Bt601),
            Some("709") => Some(Matrix::Bt709),
            Some(other) => return Err(spec.error(format!("matrix={other}, expected 601 or 709"))),
        };
        let range = match spec.text_option("range") {
            None => None,
            Some("full") => Some(Range::Full),
            Some("limited") => Some(Range::Limited),
            Some(other) => return Err(spec.error(format!("range={other}, expected full or limited"))),
        };
        Ok(Self { matrix, range })
    }

    /// What the source states, where the site does not know better.
    pub(super) fn over(self, stated: Colour) -> Colour {
        Colour { matrix: self.matrix.unwrap_or(stated.matrix), range: self.range.unwrap_or(stated.range) }
    }
}
