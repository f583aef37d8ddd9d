//! `tagpin keep purge`: removes the images that lines have kept.

use super::{Refused, audit};
use crate::ring::{self, Purged};
use crate::settings::{ModelTags, Settings};
use crate::terminal::escaped;
use std::path::{Path, PathBuf};

/// Arguments of `keep`.
#[derive(clap::Args, Debug)]
pub(super) struct Keep {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Remove every image that was kept, and what was written beside it; other files stay and are
    /// named. A line that runs goes on and keeps what comes
    Purge(Purge),
}

#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Purge {
    /// Settings of the device whose [keep] names the folder
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The folder itself
    #[arg(long)]
    folder: Option<PathBuf>,
}

pub(super) fn run(Keep { what: What::Purge(args) }: &Keep) -> Result<u8, Refused> {
    let folder = match (&args.folder, &args.settings) {
        (Some(folder), _) => folder.clone(),
        (None, Some(file)) => folder_of(file)?,
        (None, None) => return Err("name --settings FILE or --folder FOLDER".into()),
    };
    let log = audit::log_of(args.settings.as_deref(), &folder);
    audit::must_record(log.as_ref())?;
    let shown = escaped(&folder.display().to_string());
    let Purged { images, files, bytes, left, refused, in_use } = ring::purge(&folder)?;
    audit::record(log.as_ref(), "keep purged", String::new(), format!("{}: images: {images}", folder.display()))?;
    let mb = bytes as f64 / 1e6;
    println!("{shown}: {images} images removed, {files} files of {mb:.1} MB");
    let path = |path: &Path| escaped(&path.display().to_string());
    left.iter().for_each(|file| println!("left     {}: not written by tagpin, or an empty folder", path(file)));
    if in_use {
        println!("in use   a line keeps images there and goes on");
    }
    for (file, why) in &refused {
        crate::terminal::tell_problem("error", &format!("{}: cannot be removed: {why}", file.display()));
    }
    Ok(!refused.is_empty() as u8)
}

/// The folder that a settings file names. Whatever else is wrong with the file is no matter: it is
/// not run.
fn folder_of(file: &Path) -> Result<PathBuf, Refused> {
    let none = ModelTags { names: &[], rules: &[], roles: &[], categories: None };
    let draft = Settings::open_draft(file, None, none).map_err(|e| Refused(e.0))?;
    match draft.settings.site.keep.as_ref() {
        Some(keep) if draft.is_right("keep") => Ok(keep.folder.clone()),
        Some(_) => Err(Refused(draft.problems.into_iter().filter(|why| why.contains(": keep")).collect())),
        None => Err(format!("{}: [keep] states no folder; nothing is kept", file.display()).into()),
    }
}
