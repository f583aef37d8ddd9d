//! The formats of tagged images that are read: one folder per tag, a list (CSV or TSV), COCO. Other
//! layouts are refused with what was found and what to do.
//!
//! Files are listed and hashed here; [`super::survey`] decodes them.

mod coco;
mod folders;
mod list;

use super::left_out::{Kind, LeftOut};
use super::{Dataset, Entry, TaskName, hex_hash};
use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use tagpin::regular::Unread;
use unicode_normalization::UnicodeNormalization;

/// The forms that are read, as messages name them.
const FORMS: &str = "a folder of tagged folders (or train, val and test with a folder a tag each), a CSV or TSV list with the \
columns path,tag (or path,tags with ; between), or COCO";

/// A dataset as it was listed.
pub struct Opened {
    /// Images that are there.
    pub dataset: Dataset,
    /// Files that look like data and cannot be used.
    pub skipped: Vec<LeftOut>,
    /// Numbers of files that are no data, by kind.
    pub ignored: BTreeMap<String, usize>,
    /// Tags that somebody meant and that have no image, with what was found instead.
    pub empty: BTreeMap<String, String>,
    /// What was understood that is not in the form's rules.
    pub notes: Vec<String>,
}

/// Lists a dataset. `path`: a folder of tagged folders, a CSV or TSV file, or a COCO JSON file.
/// `task` overrides what the form suggests.
pub fn open(path: &Path, task: Option<TaskName>) -> Result<Opened> {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let listed = match ending.as_deref() {
        _ if path.is_dir() => folders::folders(path)?,
        Some("csv" | "tsv" | "txt") => list::list(path)?,
        Some("json") => coco::coco(path)?,
        _ if !path.exists() => bail!("{}: there is no such file or folder", path.display()),
        _ => bail!("{}: expected {FORMS}", path.display()),
    };
    listed.hashed(path, task)
}

/// An image and its tags by name.
struct Row {
    path: PathBuf,
    tags: Vec<String>,
    columns: BTreeMap<String, String>,
}

/// What a form's reader found.
#[derive(Default)]
struct Listed {
    root: PathBuf,
    /// Multilabel if the form says so.
    task: Option<TaskName>,
    rows: Vec<Row>,
    skipped: Vec<LeftOut>,
    ignored: BTreeMap<String, usize>,
    empty: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl Listed {
    fn hashed(mut self, path: &Path, task: Option<TaskName>) -> Result<Opened> {
        let name = path.display();
        let task = task.or(self.task).unwrap_or(TaskName::Multiclass);
        for row in &mut self.rows {
            row.path = plain(&row.path);
        }
        self.rows.sort_by(|a, b| a.path.cmp(&b.path));
        self.join_repeated(path)?;
        self.join_forms_of_one_name();
        let tags: BTreeSet<&str> = self.rows.iter().flat_map(|r| &r.tags).map(String::as_str).collect();
        let tags: Vec<String> = tags.into_iter().map(String::from).collect();
        for tag in tags.iter().chain(self.empty.keys()) {
            refuse_odd(tag, path)?;
        }
        if task == TaskName::Multiclass && tags.len() + self.empty.len() == 1 {
            bail!(
                "{name}: 1 tag, \"{}\", expected at least 2. With good parts only there is nothing to tell them from: collect at \
                 least 20 images of what must not pass (bad parts, an empty belt, foreign things) in a folder or tag of their own",
                tags.first().or(self.empty.keys().next()).expect("there is one")
            );
        }
        let least = if task == TaskName::Multiclass { 2 } else { 1 };
        ensure!(tags.len() + self.empty.len() >= least, "{name}: no tags found; expected {FORMS}");
        ensure!(tags.len() <= tagpin::MAX_TAGS, "{name}: {} tags, at most {}", tags.len(), tagpin::MAX_TAGS);
        let bar = crate::progress::bar("listing", self.rows.len() as u64);
        let total = self.rows.len();
        let hashed: Vec<Result<Entry, LeftOut>> = self
            .rows
            .into_par_iter()
            .map(|row| {
                bar.inc(1);
                let mut of: Vec<usize> = row.tags.iter().filter_map(|t| tags.binary_search(t).ok()).collect();
                of.sort();
                of.dedup();
                if task == TaskName::Multiclass && of.is_empty() {
                    return Err(LeftOut::new(row.path, Kind::Untagged, "no tag; write one, or take the row out"));
                }
                if task == TaskName::Multiclass && of.len() > 1 {
                    let why = format!("{} tags, a multiclass image has exactly one", of.len());
                    return Err(LeftOut::new(row.path, Kind::SeveralTags, why));
                }
                let file = self.root.join(&row.path);
                match tagpin::regular::read(&file, tagpin::regular::LARGE) {
                    Ok(bytes) => Ok(Entry { path: row.path, tags: of, sha256: hex_hash(&bytes), columns: row.columns }),
                    Err(Unread::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {
                        let why = missing(&file);
                        Err(LeftOut::new(row.path, Kind::Missing, why))
                    }
                    Err(e) => Err(LeftOut::new(row.path, Kind::Unreadable, format!("cannot be read: {e}"))),
                }
            })
            .collect();
        bar.finish_and_clear();
        let (mut entries, mut skipped) = (Vec::new(), self.skipped);
        let mut unusable: Option<LeftOut> = None;
        for one in hashed {
            match one {
                Ok(e) => entries.push(e),
                Err(s) => {
                    unusable.get_or_insert_with(|| s.clone());
                    skipped.push(s);
                }
            }
        }
        if let (true, Some(first)) = (entries.is_empty(), unusable) {
            let counts = super::left_out::counts(&skipped);
            bail!(
                "{name}: none of its {total} images can be used ({counts}); the first, {}: {}",
                first.path.display(),
                first.why
            );
        }
        let dataset = Dataset { root: self.root, task, tags, entries };
        Ok(Opened { dataset, skipped, ignored: self.ignored, empty: self.empty, notes: self.notes })
    }

    /// Rows that name one file: with the same tags one is enough; with others somebody must say
    /// what is right.
    fn join_repeated(&mut self, path: &Path) -> Result<()> {
        let mut rows: Vec<Row> = Vec::with_capacity(self.rows.len());
        for row in self.rows.drain(..) {
            match rows.last().filter(|last| last.path == row.path) {
                Some(last) if last.tags == row.tags => {
                    self.skipped.push(LeftOut::new(row.path, Kind::ListedAgain, "it is listed already, with the same tags"));
                }
                Some(last) => bail!(
                    "{}: {} is listed twice, as \"{}\" and as \"{}\"; take one row out, or join its tags in one row",
                    path.display(),
                    row.path.display(),
                    last.tags.join(";"),
                    row.tags.join(";")
                ),
                None => rows.push(row),
            }
        }
        self.rows = rows;
        Ok(())
    }

    /// A name may be written with composed letters (Linux, Windows) or with separate accents
    /// (macOS): it is one tag, and composed.
    fn join_forms_of_one_name(&mut self) {
        let mut changed = BTreeSet::new();
        for tag in self.rows.iter_mut().flat_map(|r| &mut r.tags) {
            let composed: String = tag.nfc().collect();
            if composed != *tag {
                changed.insert(composed.clone());
                *tag = composed;
            }
        }
        self.empty = std::mem::take(&mut self.empty).into_iter().map(|(t, why)| (t.nfc().collect(), why)).collect();
        let tags: BTreeSet<&String> = self.rows.iter().flat_map(|r| &r.tags).collect();
        self.empty.retain(|t, _| !tags.contains(t));
        for tag in changed {
            self.notes
                .push(format!("tag \"{tag}\" is written with separate accents in places (as macOS does); it is one tag"));
        }
    }
}

/// Longest name of a tag in bytes.
const LONGEST: usize = 255;

fn refuse_odd(tag: &str, path: &Path) -> Result<()> {
    let name = path.display();
    ensure!(tag.trim() == tag, "{name}: tag {tag:?} begins or ends with a blank; rename it");
    ensure!(
        !tag.is_empty() && !tag.chars().any(char::is_control),
        "{name}: tag {tag:?} is empty or has control characters; rename it"
    );
    ensure!(tag.len() <= LONGEST, "{name}: tag {tag:?} has {} bytes, at most {LONGEST}; rename it", tag.len());
    Ok(())
}

/// A path without `.` and without `x/..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Why a listed file is not there, by what is there.
fn missing(file: &Path) -> String {
    let text = file.to_string_lossy();
    if text.contains("://") {
        return "it lies in a cloud; fetch the images and list them by paths relative to the list".into();
    }
    if text.contains('\\') {
        return "its path has backslashes or a drive letter, as on Windows; write it relative to the list, with /".into();
    }
    let folder = file.parent().filter(|p| p.is_dir());
    let Some(folder) = folder else {
        return format!("there is no folder {}", file.parent().unwrap_or(Path::new("")).display());
    };
    let wanted = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let names =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let alike = names.into_iter().find(|n| {
        let n = n.to_lowercase();
        n == wanted || Path::new(&n).file_stem() == Some(wanted.as_ref())
    });
    match alike {
        Some(name) => format!("there is no such file, but {name}; write the name as it is, capitals and ending included"),
        None => "there is no such file".into(),
    }
}

/// The folder that a file lies in.
fn beside(path: &Path) -> PathBuf {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// A path as it lies on this disk: as written, in the other form of its accents, or with / for
/// backslashes; and whether it had to be written anew.
fn on_disk(root: &Path, path: &str) -> (PathBuf, Option<&'static str>) {
    let there = |p: &str| root.join(p).exists();
    if there(path) {
        return (path.into(), None);
    }
    for (form, what) in [(path.nfc().collect::<String>(), "accents"), (path.nfd().collect(), "accents")] {
        if there(&form) {
            return (form.into(), Some(what));
        }
    }
    let slashes = path.replace('\\', "/");
    if slashes != path && there(&slashes) {
        return (slashes.into(), Some("backslashes"));
    }
    (path.into(), None)
}
