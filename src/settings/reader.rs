//! Reads TOML tables key by key and remembers every problem with file, line and column.
//!
//! It has no list of settings: what a key means is its caller's business.

use super::SettingsError;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Parses a file; text that is no TOML is one problem by itself.
pub(super) fn parse<'t>(text: &'t str, name: &str) -> Result<DeTable<'t>, SettingsError> {
    DeTable::parse(text).map(Spanned::into_inner).map_err(|e| {
        let at = e.span().map_or(0, |s| s.start);
        SettingsError(vec![place(text, name, at) + ": " + e.message()])
    })
}

struct Shared {
    text: String,
    name: String,
    problems: RefCell<Vec<(usize, String)>>,
    /// Paths of tables and keys that have a problem.
    wrong: RefCell<BTreeSet<String>>,
    renamed: RefCell<Vec<Rename>>,
}

/// A key that stands in a file under its old name. It is read for one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// Bytes of the file that hold the old name.
    pub at: Range<usize>,
    /// The table, then the old name.
    pub path: String,
    /// The new name.
    pub new: &'static str,
    /// File, line and column.
    pub place: String,
}

impl std::fmt::Display for Rename {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, path, new, .. } = self;
        write!(f, "{place}: {path} is now called {new}; `tagpin check --settings FILE --migrate` rewrites the file")
    }
}

/// What reading a file came to.
pub(super) struct Outcome {
    /// Each with its place.
    pub(super) problems: Vec<String>,
    /// Paths of tables and keys that have a problem.
    pub(super) wrong: BTreeSet<String>,
    /// Keys under old names.
    pub(super) renamed: Vec<Rename>,
}

/// One table, the keys asked of it so far, and where problems are collected.
pub(super) struct Table<'t> {
    shared: Rc<Shared>,
    table: Option<&'t DeTable<'t>>,
    path: String,
    at: usize,
    known: BTreeSet<String>,
    open: bool,
}

impl<'t> Table<'t> {
    /// The root of a parsed file; `text` and `name` are for messages.
    pub(super) fn root(table: &'t DeTable<'t>, text: &str, name: &str) -> Self {
        let shared = Rc::new(Shared {
            text: text.into(),
            name: name.into(),
            problems: RefCell::default(),
            wrong: RefCell::default(),
            renamed: RefCell::default(),
        });
        Self { shared, table: Some(table), path: String::new(), at: 0, known: BTreeSet::new(), open: false }
    }

    /// All problems in the order of their places, each once, after every table said which keys it
    /// knows.
    pub(super) fn finish(self) -> Outcome {
        let shared = self.shared.clone();
        drop(self);
        let mut problems = shared.problems.take();
        problems.sort();
        problems.dedup();
        let problems = problems.into_iter().map(|(at, why)| place(&shared.text, &shared.name, at) + ": " + &why);
        let mut renamed = shared.renamed.take();
        renamed.sort_by_key(|r| r.at.start);
        Outcome { problems: problems.collect(), wrong: shared.wrong.take(), renamed }
    }

    /// The name under which the file states a key: `new`, or for one release `old`, which is told.
    pub(super) fn renamed(&mut self, old: &'static str, new: &'static str) -> &'static str {
        let Some((key, _)) = self.table.into_iter().flatten().find(|(k, _)| k.get_ref() == old) else { return new };
        self.known.insert(old.into());
        if self.has(new) {
            self.problem(old, format!("is the old name of {new}, which stands here too; remove it"));
            return new;
        }
        let at = key.span();
        let place = place(&self.shared.text, &self.shared.name, at.start);
        self.shared.renamed.borrow_mut().push(Rename { at, path: self.key_path(old), new, place });
        old
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    fn get(&mut self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.insert(key.into());
        self.table?.get(key)
    }

    /// Whether the key is there.
    pub(super) fn has(&mut self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The names of all sub-tables or keys.
    pub(super) fn names(&mut self) -> Vec<String> {
        let table = self.table.into_iter().flatten();
        let names: Vec<String> = table.map(|(k, _)| k.get_ref().to_string()).collect();
        self.known.extend(names.iter().cloned());
        names
    }

    /// The same in the order in which they stand in the file.
    #[cfg(feature = "site")]
    pub(super) fn names_in_order(&mut self) -> Vec<String> {
        let mut names = self.names();
        let place = |name: &String| {
            let found = self.table.into_iter().flatten().find(|(key, _)| key.get_ref() == name);
            found.map_or(usize::MAX, |(key, _)| key.span().start)
        };
        names.sort_by_key(place);
        names
    }

    /// Takes all keys as known: their table is a problem already.
    pub(super) fn allow_all(&mut self) {
        self.open = true;
    }

    /// Takes as known what was asked of `other`, and nothing else.
    pub(super) fn knows_as(&mut self, other: &Table<'_>) {
        self.known.extend(other.known.iter().cloned());
    }

    /// A sub-table; an absent one is empty.
    pub(super) fn table(&mut self, key: &str) -> Table<'t> {
        let value = self.get(key);
        let table = value.and_then(|v| v.get_ref().as_table());
        if value.is_some() && table.is_none() {
            self.wrong(key, "a table");
        }
        Table {
            shared: self.shared.clone(),
            table,
            path: self.key_path(key),
            at: value.map_or(self.at, |v| v.span().start),
            known: BTreeSet::new(),
            open: false,
        }
    }

    /// Where the value of `key` stands, or the table if it has no such key: file, line and column.
    pub(super) fn place(&self, key: &str) -> String {
        let at = self.table.and_then(|t| t.get(key)).map_or(self.at, |v| v.span().start);
        place(&self.shared.text, &self.shared.name, at)
    }

    /// Remembers a problem of the value of `key`, or of the table if it has no such key.
    pub(super) fn problem(&self, key: &str, why: String) {
        let at = self.table.and_then(|t| t.get(key)).map_or(self.at, |v| v.span().start);
        let path = if key.is_empty() { self.path.clone() } else { self.key_path(key) };
        let why = if key.is_empty() { why } else { format!("{path}: {why}") };
        self.shared.wrong.borrow_mut().insert(path);
        self.shared.problems.borrow_mut().push((at, why));
    }

    /// Whether a problem of the value of `key` was found.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.shared.wrong.borrow().contains(&self.key_path(key))
    }

    /// Remembers a problem at a place.
    pub(super) fn problem_at(&self, at: Range<usize>, why: String) {
        self.shared.wrong.borrow_mut().insert(self.path.clone());
        self.shared.problems.borrow_mut().push((at.start, format!("{}: {why}", self.path)));
    }

    fn wrong(&self, key: &str, expected: &str) {
        let found = self.table.and_then(|t| t.get(key)).map_or("nothing", |v| v.get_ref().type_str());
        self.problem(key, format!("found {found}, expected {expected}"));
    }

    /// An integer within `range`.
    pub(super) fn integer(&mut self, key: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let Some(value) = self.get(key) else {
            if !range.contains(&default) {
                self.problem(key, format!("is missing; expected {}..={}", range.start(), range.end()));
            }
            return default;
        };
        let parsed = value.get_ref().as_integer().and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok());
        match parsed {
            Some(i) if range.contains(&i) => i,
            Some(i) => {
                self.problem(key, format!("{i}, expected {}..={}", range.start(), range.end()));
                default
            }
            None => {
                // Too large for any number here.
                match value.get_ref().as_integer() {
                    Some(i) => self.problem(key, format!("{i}, expected {}..={}", range.start(), range.end())),
                    None => self.wrong(key, "a whole number"),
                }
                default
            }
        }
    }

    /// A real number within `range`; an integer will do.
    pub(super) fn real(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(value) = self.get(key) else { return default };
        let value = value.get_ref();
        let parsed = value.as_float().and_then(|f| f.as_str().parse().ok());
        let parsed = parsed.or_else(|| value.as_integer().and_then(|i| i.as_str().parse().ok()));
        match parsed {
            Some(x) if range.contains(&x) => x,
            Some(x) => {
                self.problem(key, format!("{x}, expected {}..={}", range.start(), range.end()));
                default
            }
            None => {
                self.wrong(key, "a number");
                default
            }
        }
    }

    /// Text.
    pub(super) fn text(&mut self, key: &str, default: &'t str) -> &'t str {
        let Some(value) = self.get(key) else { return default };
        value.get_ref().as_str().unwrap_or_else(|| {
            self.wrong(key, "text");
            default
        })
    }

    /// Text, or a whole number taken as text, that must be there.
    pub(super) fn required(&mut self, key: &str) -> String {
        let Some(value) = self.get(key) else {
            self.problem(key, "is missing".into());
            return String::new();
        };
        match value.get_ref() {
            DeValue::String(s) => s.to_string(),
            DeValue::Integer(i) => i.as_str().into(),
            _ => {
                self.wrong(key, "text or a number");
                String::new()
            }
        }
    }

    /// Whether `key` is there, without which the table does nothing. A table that is written without
    /// it is a problem.
    pub(super) fn is_on_by(&mut self, key: &'static str) -> bool {
        let has = self.has(key);
        if !has && self.is_written() {
            self.problem(key, format!("is missing: [{}] does nothing without it; state it, or remove the table", self.path));
        }
        has
    }

    /// Whether the file has the table.
    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the value of `key` is text.
    pub(super) fn is_text(&mut self, key: &str) -> bool {
        self.get(key).is_some_and(|v| v.get_ref().as_str().is_some())
    }

    /// What one of a few words stands for; the first is the default.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, words: &[(&'static str, T)]) -> T {
        let (default, meaning) = words[0];
        let text = self.text(key, default);
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => *meaning,
            None => {
                let expected: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.problem(key, format!("\"{text}\", expected {}", expected.join(", ")));
                meaning
            }
        }
    }

    /// A list of texts with their places; absent is empty.
    pub(super) fn texts(&mut self, key: &str) -> Vec<(String, Range<usize>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, "a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(s) => texts.push((s.to_string(), item.span())),
                None => self.problem_at(item.span(), format!("{key}: expected texts")),
            }
        }
        texts
    }
}

impl Drop for Table<'_> {
    /// A key that nobody asked for is a problem; the nearest known one is named.
    fn drop(&mut self) {
        if self.open {
            return;
        }
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let key_text: &str = key.get_ref();
            if self.known.contains(key_text) {
                continue;
            }
            // A short word is not near another only because both are short.
            let farthest = (key_text.len() / 2).min(3);
            let near = self.known.iter().min_by_key(|k| distance(k, key_text));
            let near = near.filter(|k| distance(k, key_text) <= farthest);
            let mend = match near {
                Some(k) => format!("did you mean \"{k}\"?"),
                None => format!("expected {}", self.known.iter().cloned().collect::<Vec<_>>().join(", ")),
            };
            let why = format!("unknown key \"{}\"; {mend}", self.key_path(key_text));
            self.shared.wrong.borrow_mut().insert(self.key_path(key_text));
            self.shared.problems.borrow_mut().push((key.span().start, why));
        }
    }
}

/// `name:line:column`.
fn place(text: &str, name: &str, at: usize) -> String {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{name}:{line}:{column}")
}

/// Letters to insert, remove or replace (Levenshtein 1966).
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let next = (diagonal + (ca != *cb) as usize).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
