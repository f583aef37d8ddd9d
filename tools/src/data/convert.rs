//! `dataset convert`: the same images and tags as a list, for tags that do not exclude one
//! another.
//!
//! Copies no image: the list names the files where they lie.

use super::{TaskName, left_out, sources};
use crate::run_folder;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Write a dataset as a list.
#[derive(clap::Args, Clone, Debug)]
pub struct Convert {
    /// A folder of tagged folders, a CSV or TSV list, or a COCO file.
    pub data: PathBuf,
    /// What the list is for.
    #[arg(long, value_enum)]
    pub to: TaskName,
    /// List to write: CSV, or TSV by its name's ending.
    #[arg(long)]
    pub out: PathBuf,
    /// Overwrite an existing list.
    #[arg(long)]
    pub force: bool,
}

/// Converts and writes.
pub fn run(args: &Convert) -> Result<()> {
    run_folder::refuse_existing(&args.out, args.force)?;
    let sources::Opened { dataset: data, skipped, empty, .. } = sources::open(&args.data, None)?;
    left_out::tell(&skipped);
    for (tag, found) in &empty {
        eprintln!("tag \"{tag}\" has no image that can be used: found {found}");
    }
    if let Some(tag) = data.tags.iter().find(|t| t.contains(';')) {
        bail!("tag \"{tag}\" has a ;, which stands between the tags of a list; rename it");
    }
    let heading = match args.to {
        TaskName::Multilabel => "tags",
        TaskName::Multiclass => "tag",
    };
    if args.to == TaskName::Multiclass
        && let Some(e) = data.entries.iter().find(|e| e.tags.len() != 1)
    {
        bail!("{} has {} tags; multiclass needs exactly one per image", e.path.display(), e.tags.len());
    }
    let columns: std::collections::BTreeSet<&String> = data.entries.iter().flat_map(|e| e.columns.keys()).collect();
    let delimiter = if args.out.extension().is_some_and(|e| e == "tsv") { b'\t' } else { b',' };
    let mut list = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    list.write_record(["path", heading].into_iter().chain(columns.iter().map(|c| c.as_str())))?;
    // Paths of a list are relative to it or absolute; absolute ones stay right wherever the list
    // lies.
    let root = std::fs::canonicalize(&data.root)?;
    for e in &data.entries {
        let path = root.join(&e.path).display().to_string();
        let tags: Vec<&str> = e.tags.iter().map(|&t| data.tags[t].as_str()).collect();
        let rest = columns.iter().map(|c| e.columns.get(*c).cloned().unwrap_or_default());
        list.write_record([path, tags.join(";")].into_iter().chain(rest))?;
    }
    run_folder::write_file(&args.out, &list.into_inner()?)?;
    println!("{} images of {} tags in {}", data.entries.len(), data.tags.len(), args.out.display());
    Ok(())
}
