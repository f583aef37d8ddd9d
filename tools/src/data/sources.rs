//! The forms in which people keep tagged pictures: a folder a tag, a list (CSV or TSV), COCO.
//!
//! Does not look into pictures; it only lists and hashes them.

use super::{Dataset, Entry, TaskName, hex_hash};
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tagpin::pictures;

/// Folders of a dataset that somebody split already; their tags lie one level deeper.
const SIDES: [&str; 6] = ["train", "training", "val", "valid", "validation", "test"];

/// Files that cannot be used, each with the reason.
pub type Skipped = Vec<(PathBuf, String)>;

/// Lists a dataset. `path`: a folder of tagged folders, a CSV or TSV file, or a COCO JSON file. `task` overrides what the
/// form suggests. Files that are missing are in the second list.
pub fn open(path: &Path, task: Option<TaskName>) -> Result<(Dataset, Skipped)> {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let listed = match ending.as_deref() {
        _ if path.is_dir() => folders(path)?,
        Some("csv") => list(path, b',')?,
        Some("tsv") => list(path, b'\t')?,
        Some("json") => coco(path)?,
        _ => bail!("{}: expected a folder of tagged folders, a .csv or .tsv list, or a COCO .json file", path.display()),
    };
    listed.hashed(path, task)
}

/// A picture and its tags by name.
struct Row {
    path: PathBuf,
    tags: Vec<String>,
    columns: BTreeMap<String, String>,
}

struct Listed {
    root: PathBuf,
    task: TaskName,
    rows: Vec<Row>,
}

impl Listed {
    fn hashed(mut self, path: &Path, task: Option<TaskName>) -> Result<(Dataset, Skipped)> {
        let task = task.unwrap_or(self.task);
        self.rows.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(w) = self.rows.windows(2).find(|w| w[0].path == w[1].path) {
            bail!("{}: {} is listed twice; join its tags in one row", path.display(), w[0].path.display());
        }
        let tags: BTreeSet<&str> = self.rows.iter().flat_map(|r| &r.tags).map(String::as_str).collect();
        let tags: Vec<String> = tags.into_iter().map(String::from).collect();
        let least = if task == TaskName::Multiclass { 2 } else { 1 };
        ensure!(tags.len() >= least, "{}: {} tags, expected at least {least}", path.display(), tags.len());
        ensure!(tags.len() <= tagpin::MAX_TAGS, "{}: {} tags, at most {}", path.display(), tags.len(), tagpin::MAX_TAGS);
        let bar = crate::progress::bar("listing", self.rows.len() as u64);
        let hashed: Vec<Result<Entry, (PathBuf, String)>> = self
            .rows
            .into_par_iter()
            .map(|row| {
                bar.inc(1);
                let mut of: Vec<usize> = row.tags.iter().filter_map(|t| tags.binary_search(t).ok()).collect();
                of.sort();
                of.dedup();
                if task == TaskName::Multiclass && of.len() != 1 {
                    return Err((row.path, format!("{} tags, a multiclass picture has exactly one", of.len())));
                }
                match std::fs::read(self.root.join(&row.path)) {
                    Ok(bytes) => Ok(Entry { path: row.path, tags: of, sha256: hex_hash(&bytes), columns: row.columns }),
                    Err(e) => Err((row.path, format!("cannot be read: {e}"))),
                }
            })
            .collect();
        bar.finish_and_clear();
        let (mut entries, mut skipped) = (Vec::new(), Vec::new());
        for one in hashed {
            match one {
                Ok(e) => entries.push(e),
                Err(s) => skipped.push(s),
            }
        }
        ensure!(!entries.is_empty(), "{}: none of its {} pictures can be used", path.display(), skipped.len());
        Ok((Dataset { root: self.root, task, tags, entries }, skipped))
    }
}

fn subfolders(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(path).with_context(|| format!("{}: expected a folder of tagged folders", path.display()))?;
    for entry in entries {
        let entry = entry?;
        // A link to a folder is a folder.
        if entry.path().is_dir() {
            let name = entry.file_name().into_string();
            let name = name.map_err(|n| anyhow::anyhow!("folder {n:?}: its name is not UTF-8"))?;
            if !name.starts_with('.') {
                found.push((name, entry.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A folder a tag; or `train`, `val`, `test` with a folder a tag each, which become the column `side`.
fn folders(root: &Path) -> Result<Listed> {
    let top = subfolders(root)?;
    let sided = !top.is_empty() && top.iter().all(|(name, _)| SIDES.contains(&name.to_ascii_lowercase().as_str()));
    let mut rows = Vec::new();
    let mut add = |tag: &str, folder: &Path, side: Option<&str>| -> Result<()> {
        let listing = pictures::list(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
        listing.remarks().for_each(|remark| eprintln!("{remark}"));
        for file in listing.files {
            let path = file.strip_prefix(root).expect("it was listed below the root").to_path_buf();
            let mut columns = BTreeMap::new();
            if let Some(side) = side {
                columns.insert("side".into(), side.into());
            }
            // Folders below a tag's say where a picture comes from: a shift, a camera.
            if let Some(inner) = file.parent().and_then(|p| p.strip_prefix(folder).ok()).filter(|p| p.iter().count() > 0) {
                columns.insert("folder".into(), inner.display().to_string());
            }
            rows.push(Row { path, tags: vec![tag.into()], columns });
        }
        Ok(())
    };
    for (name, path) in &top {
        if sided {
            for (tag, inner) in subfolders(path)? {
                add(&tag, &inner, Some(name))?;
            }
        } else {
            add(name, path, None)?;
        }
    }
    let tags = if sided { rows.len() } else { top.len() };
    ensure!(tags >= 2, "{}: {} tagged folders, expected at least 2", root.display(), top.len());
    Ok(Listed { root: root.to_owned(), task: TaskName::Multiclass, rows })
}

/// `path,tag` for multiclass, `path,tags` with `;` between for multilabel; paths are relative to the list. Further columns stay.
fn list(path: &Path, delimiter: u8) -> Result<Listed> {
    let name = path.display();
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).from_path(path).with_context(|| format!("{name} cannot be read"))?;
    let header = reader.headers()?.clone();
    let column = |names: &[&str]| header.iter().position(|h| names.contains(&h.trim().to_ascii_lowercase().as_str()));
    let file = column(&["path", "file", "image", "filename"])
        .with_context(|| format!("{name}: no column \"path\"; its first line must name the columns, as in path,tag"))?;
    let tag =
        column(&["tag", "tags", "label", "labels"]).with_context(|| format!("{name}: no column \"tag\" or \"tags\""))?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("{name} is damaged"))?;
        let field = |i: usize| record.get(i).unwrap_or("").trim().to_string();
        let tags = field(tag).split(';').map(str::trim).filter(|t| !t.is_empty()).map(String::from).collect();
        let rest = (0..header.len()).filter(|&i| i != file && i != tag && !field(i).is_empty());
        let columns = rest.map(|i| (header[i].trim().to_string(), field(i))).collect();
        rows.push(Row { path: field(file).into(), tags, columns });
    }
    let plural = header[tag].trim().to_ascii_lowercase().ends_with('s');
    let single = !plural && rows.iter().all(|r| r.tags.len() == 1);
    let task = if single { TaskName::Multiclass } else { TaskName::Multilabel };
    Ok(Listed { root: beside(path), task, rows })
}

/// The folder that a file lies in.
fn beside(path: &Path) -> PathBuf {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

#[derive(serde::Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
    categories: Vec<CocoCategory>,
}

#[derive(serde::Deserialize)]
struct CocoImage {
    id: i64,
    file_name: String,
}

#[derive(serde::Deserialize)]
struct CocoAnnotation {
    image_id: i64,
    category_id: i64,
}

#[derive(serde::Deserialize)]
struct CocoCategory {
    id: i64,
    name: String,
}

/// Tags of a picture are the categories of its annotations; boxes are not used. Pictures lie beside the file or in `images/`.
fn coco(path: &Path) -> Result<Listed> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("{name} cannot be read"))?;
    let coco: Coco = serde_json::from_slice(&bytes)
        .with_context(|| format!("{name}: expected COCO's images, annotations and categories"))?;
    let beside = beside(path);
    let names: BTreeMap<i64, &str> = coco.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let mut tags: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
    for a in &coco.annotations {
        let tag = names.get(&a.category_id).with_context(|| format!("{name}: no category {} is listed", a.category_id))?;
        tags.entry(a.image_id).or_default().insert(tag);
    }
    let inner = coco.images.first().is_some_and(|i| !beside.join(&i.file_name).exists());
    let root = if inner { beside.join("images") } else { beside };
    let row = |i: &CocoImage| Row {
        path: i.file_name.clone().into(),
        tags: tags.get(&i.id).into_iter().flatten().map(|t| t.to_string()).collect(),
        columns: BTreeMap::new(),
    };
    Ok(Listed { root, task: TaskName::Multilabel, rows: coco.images.iter().map(row).collect() })
}
