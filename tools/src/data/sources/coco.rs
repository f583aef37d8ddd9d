//! COCO: the tags of an image are the categories of its annotations; boxes are not used.

use super::{Listed, Row, beside, on_disk};
use crate::data::TaskName;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Coco {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(serde::Deserialize)]
struct Image {
    id: i64,
    file_name: String,
}

#[derive(serde::Deserialize)]
struct Annotation {
    image_id: i64,
    category_id: i64,
}

#[derive(serde::Deserialize)]
struct Category {
    id: i64,
    name: String,
}

/// Reads a COCO file. Images lie beside it, or in `images/`; each is looked for by itself.
pub fn coco(path: &Path) -> Result<Listed> {
    let name = path.display();
    let bytes = tagpin::regular::read(path, tagpin::regular::LARGE).with_context(|| format!("{name} cannot be read"))?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).with_context(|| format!("{name} is no JSON"))?;
    let coco: Coco = match serde_json::from_value(json.clone()) {
        Ok(coco) => coco,
        Err(e) => {
            let found = match &json {
                serde_json::Value::Object(o) => format!("an object with {:?}", o.keys().collect::<Vec<_>>()),
                serde_json::Value::Array(a) if a.first().is_some_and(|t| t.get("annotations").is_some()) => {
                    "an array of tasks, as Label Studio exports: export COCO, or a list path,tag".into()
                }
                serde_json::Value::Array(_) => "an array".into(),
                other => format!("{other}"),
            };
            bail!("{name}: expected COCO's images, annotations and categories, found {found} ({e})");
        }
    };
    let root = beside(path);
    let names: BTreeMap<i64, &str> = coco.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let mut tags: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
    for a in &coco.annotations {
        let tag = names.get(&a.category_id).with_context(|| format!("{name}: no category {} is listed", a.category_id))?;
        tags.entry(a.image_id).or_default().insert(tag.trim());
    }
    let place = |file: &str| -> PathBuf {
        let (beside, _) = on_disk(&root, file);
        if root.join(&beside).exists() {
            return beside;
        }
        let (inner, _) = on_disk(&root, &format!("images/{file}"));
        if root.join(&inner).exists() { inner } else { beside }
    };
    let row = |i: &Image| Row {
        path: place(&i.file_name),
        tags: tags.get(&i.id).into_iter().flatten().map(|t| t.to_string()).collect(),
        columns: BTreeMap::new(),
    };
    let rows = coco.images.iter().map(row).collect();
    Ok(Listed { root, task: Some(TaskName::Multilabel), rows, ..Listed::default() })
}
