//! Datasets in folders: one folder per tag; or `train`, `val` and `test` with one folder per tag in
//! each, whose names become the column `side`. A folder has its tag's name; of a tag that cannot be
//! a folder's name, the one that a line gives it where it keeps images.

use super::{FORMS, Listed, Row};
use crate::data::files::{self, Found};
use crate::data::left_out::{self, Kind, LeftOut};
use crate::data::split::Side;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Folders that other programs put beside train, val and test; they hold no tags.
const ANNOTATIONS: [&str; 4] = ["ground_truth", "masks", "annotations", "labels"];

/// Whether the folder is a side (train, val, test) of a dataset that is already split; its tags lie
/// one level deeper.
fn is_side(name: &str) -> bool {
    Side::named(name).is_some()
}

/// Lists a folder.
pub fn folders(root: &Path) -> Result<Listed> {
    let mut listed = Listed { root: root.to_owned(), ..Listed::default() };
    let top = subfolders(root, &mut listed)?;
    refuse_detection(root, &top)?;
    let sides: Vec<&Folder> = top.iter().filter(|f| is_side(&f.name)).collect();
    let others: Vec<&Folder> = top.iter().filter(|f| !is_side(&f.name)).collect();
    let annotations = others.iter().all(|f| ANNOTATIONS.contains(&f.name.to_ascii_lowercase().as_str()));
    let sided = !sides.is_empty() && annotations;
    if !sided && sides.len() > 1 {
        bail!(
            "{}: the folders {} are sides, \"{}\" is none; put train, val and test by themselves, or only tags",
            root.display(),
            quoted(sides.iter().map(|f| f.name.as_str())),
            others[0].name
        );
    }
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    if sided {
        for other in others {
            listed.notes.push(format!("folder \"{}\" beside the sides is not used", other.name));
        }
        for side in sides {
            let inner = subfolders(&side.path, &mut listed)?;
            refuse_detection(&side.path, &inner)?;
            loose(&side.path, &mut listed)?;
            if inner.is_empty() {
                let what = side.path.display();
                bail!("{what}: no tagged folders in it; a side holds a folder a tag. Give it folders, or take it out");
            }
            for folder in inner {
                add(&folder, Some(&side.name), &mut listed)?;
                tags.insert(folder.tag(), folder.name);
            }
        }
    } else {
        if let [one] = &top[..] {
            let mut unused = Listed::default();
            let inner = subfolders(&one.path, &mut unused)?;
            let direct = files::below(&one.path, false)?;
            if direct.images.is_empty() && inner.len() > 1 {
                bail!(
                    "{}: its only folder, \"{}\", holds {} folders, {}; if these are the tags, give {} as the data",
                    root.display(),
                    one.name,
                    inner.len(),
                    quoted(inner.iter().map(|f| f.name.as_str())),
                    one.path.display()
                );
            }
        }
        loose(root, &mut listed)?;
        for folder in top {
            add(&folder, None, &mut listed)?;
            tags.insert(folder.tag(), folder.name);
        }
    }
    if tags.is_empty() {
        let n = listed.skipped.iter().filter(|s| s.kind == Kind::Loose).count();
        bail!("{}: no tagged folders, {n} images beside; expected {FORMS}", root.display());
    }
    for skipped in &mut listed.skipped {
        if let Ok(inner) = skipped.path.strip_prefix(root) {
            skipped.path = inner.to_path_buf();
        }
    }
    empty_tags(tags, &mut listed);
    let below: BTreeSet<&str> = listed.rows.iter().filter_map(|r| r.columns.get("folder")).map(String::as_str).collect();
    if !below.is_empty() {
        let text = format!("folders below the tags ({}) are the column \"folder\", not tags", quoted(below.into_iter()));
        listed.notes.push(text);
    }
    Ok(listed)
}

/// A folder and its name.
struct Folder {
    name: String,
    path: PathBuf,
}

impl Folder {
    /// The tag of what lies in it.
    fn tag(&self) -> String {
        tagpin::pictures::folder_tag(&self.name)
    }
}

fn subfolders(path: &Path, listed: &mut Listed) -> Result<Vec<Folder>> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(path).with_context(|| format!("{}: expected a folder of tagged folders", path.display()))?;
    for entry in entries {
        let path = entry?.path();
        // True for links to folders too; a broken link is reported with the files.
        if !path.is_dir() {
            continue;
        }
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            bail!("folder {}: its name is not UTF-8; rename it", path.display());
        };
        if files::is_hidden(name) {
            *listed.ignored.entry("hidden".into()).or_default() += 1;
        } else {
            found.push(Folder { name: name.into(), path });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The first five names, quoted, and how many more there are.
fn quoted<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let n = names.len();
    let mut shown: Vec<String> = names.take(5).map(|n| format!("\"{n}\"")).collect();
    if n > shown.len() {
        shown.push(format!("{} more", n - shown.len()));
    }
    shown.join(", ")
}

fn refuse_detection(path: &Path, folders: &[Folder]) -> Result<()> {
    let has = |name: &str| folders.iter().any(|f| f.name.eq_ignore_ascii_case(name));
    let boxes = (has("images") && (has("labels") || has("annotations"))) || (has("JPEGImages") && has("Annotations"));
    let yaml = ["data.yaml", "data.yml", "dataset.yaml"].into_iter().find(|f| path.join(f).is_file());
    let text = |f: &str| tagpin::regular::read_text(&path.join(f), tagpin::regular::TEXT);
    let yaml = yaml.filter(|f| text(f).is_ok_and(|t| t.contains("names:")));
    if !boxes && yaml.is_none() {
        return Ok(());
    }
    let found = match (boxes, yaml) {
        (true, _) => format!("the folders {}", quoted(folders.iter().map(|f| f.name.as_str()))),
        (false, yaml) => format!("{} with a list of names", yaml.unwrap_or("a list")),
    };
    bail!(
        "{}: this is a detection export ({found}): boxes in images. Tags here are of whole images; read are {FORMS}. Export for \
         classification (a folder a tag), or COCO, of which the boxes are not used",
        path.display()
    )
}

/// Files beside tagged folders.
fn loose(folder: &Path, listed: &mut Listed) -> Result<()> {
    let found = files::below(folder, false)?;
    let why = "it lies in no tagged folder; move it into one";
    listed.skipped.extend(found.images.iter().map(|p| LeftOut::new(p, Kind::Loose, why)));
    // Files without an ending beside the folders are lists and notes, not images.
    for skipped in found.skipped {
        match skipped.kind {
            Kind::Unnamed => *listed.ignored.entry("without an ending".into()).or_default() += 1,
            _ => listed.skipped.push(skipped),
        }
    }
    found
        .ignored
        .into_iter()
        .filter(|(kind, _)| kind != "hidden")
        .for_each(|(kind, n)| *listed.ignored.entry(kind).or_default() += n);
    Ok(())
}

fn add(folder: &Folder, side: Option<&str>, listed: &mut Listed) -> Result<()> {
    let Found { images, skipped, ignored } = files::below(&folder.path, true)?;
    listed.skipped.extend(skipped);
    ignored.into_iter().for_each(|(kind, n)| *listed.ignored.entry(kind).or_default() += n);
    for file in images {
        let path = file.strip_prefix(&listed.root).expect("it was listed below the root").to_path_buf();
        let mut columns = BTreeMap::new();
        if let Some(side) = side {
            columns.insert("side".into(), side.into());
        }
        // Folders below a tag's say where an image comes from: a shift, a camera.
        let inner = file.parent().and_then(|p| p.strip_prefix(&folder.path).ok()).filter(|p| p.iter().count() > 0);
        if let Some(inner) = inner {
            columns.insert("folder".into(), inner.display().to_string());
        }
        listed.rows.push(Row { path, tags: vec![folder.tag()], columns });
    }
    Ok(())
}

/// Notes the tag folders of which no image is used, so that they do not vanish silently. `tags`:
/// with their folders.
fn empty_tags(tags: BTreeMap<String, String>, listed: &mut Listed) {
    let used: BTreeSet<&str> = listed.rows.iter().flat_map(|r| &r.tags).map(String::as_str).collect();
    for (tag, folder) in tags.iter().filter(|(tag, _)| !used.contains(tag.as_str())) {
        let of_tag = |s: &&LeftOut| s.path.iter().any(|part| part == folder.as_str());
        let skipped: Vec<LeftOut> = listed.skipped.iter().filter(of_tag).cloned().collect();
        let found = if skipped.is_empty() { "nothing".into() } else { left_out::counts(&skipped) };
        listed.empty.insert(tag.clone(), found);
    }
}
