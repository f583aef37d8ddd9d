//! Groups of images that belong together though they do not look alike: by file name, by a column,
//! or by the time between shots.
//!
//! Each group is written as a column of the entries, so that the split shows it.

use super::Entry;
use super::survey::Look;
use anyhow::{Context, Result, bail, ensure};
use regex_lite::Regex;

/// What `--group` and `--group-gap` ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// A column, or a pattern with a group in brackets that is looked for in the file's path.
    pub group: Option<&'a str>,
    /// Longest time between two shots of one group, in seconds.
    pub gap: Option<u64>,
}

/// The column of groups by time.
pub const BY_TIME: &str = "shots without a gap";

/// Assigns entries to groups. Returns the columns that hold them, and notes on what was found.
pub fn give(entries: &mut [Entry], looks: &[Look], wanted: Wanted<'_>) -> Result<(Vec<String>, Vec<String>)> {
    let (mut columns, mut notes) = (Vec::new(), Vec::new());
    if let Some(group) = wanted.group {
        if group.contains('(') && !entries.iter().any(|e| e.columns.contains_key(group)) {
            notes.push(by_name(entries, group)?);
        } else {
            let with = entries.iter().filter(|e| e.columns.contains_key(group)).count();
            let all: std::collections::BTreeSet<&str> =
                entries.iter().flat_map(|e| e.columns.keys()).map(String::as_str).collect();
            ensure!(
                with > 0,
                "--group {group}: no image has this column (there are {all:?}); name a column of the list, `folder` for the folder below \
                 a tag's, or a pattern for file names with a group in brackets, as in 'part(\\d+)'"
            );
            if with < entries.len() {
                notes.push(format!(
                    "--group {group}: {} images have no value and stand for themselves",
                    entries.len() - with
                ));
            }
        }
        columns.push(group.to_string());
    }
    if let Some(gap) = wanted.gap {
        notes.push(by_time(entries, looks, gap)?);
        columns.push(BY_TIME.into());
    }
    Ok((columns, notes))
}

/// Groups by what the pattern's brackets find in the path.
fn by_name(entries: &mut [Entry], pattern: &str) -> Result<String> {
    let regex = Regex::new(pattern)
        .with_context(|| format!("--group {pattern}: expected a regular expression, as in 'part(\\d+)'"))?;
    if regex.captures_len() < 2 {
        bail!("--group {pattern}: expected a group in brackets round what names the part, as in 'part(\\d+)'");
    }
    let (mut found, mut groups) = (0, std::collections::BTreeSet::new());
    for e in entries.iter_mut() {
        let path = e.path.to_string_lossy().replace('\\', "/");
        let Some(captures) = regex.captures(&path) else { continue };
        let parts: Vec<&str> = captures.iter().skip(1).flatten().map(|m| m.as_str()).collect();
        let value = parts.join(" ");
        groups.insert(value.clone());
        e.columns.insert(pattern.into(), value);
        found += 1;
    }
    let example = entries.first().map(|e| e.path.display().to_string()).unwrap_or_default();
    ensure!(found > 0, "--group {pattern}: it is found in no file's path, as in \"{example}\"");
    let others = entries.len() - found;
    Ok(format!("--group {pattern}: {} groups of {found} images; {others} others stand for themselves", groups.len()))
}

/// Images that were taken one after the other, with no longer gap, are one group.
fn by_time(entries: &mut [Entry], looks: &[Look], gap: u64) -> Result<String> {
    let mut order: Vec<(i64, usize)> = looks.iter().enumerate().filter_map(|(i, l)| Some((l.taken?, i))).collect();
    ensure!(
        !order.is_empty(),
        "--group-gap {gap}: no image says when it was taken (EXIF DateTimeOriginal); use --group with a pattern for file names or a column"
    );
    order.sort();
    let mut group = 0;
    for (k, &(at, i)) in order.iter().enumerate() {
        if k > 0 && at.abs_diff(order[k - 1].0) > gap {
            group += 1;
        }
        entries[i].columns.insert(BY_TIME.into(), group.to_string());
    }
    let others = entries.len() - order.len();
    Ok(format!(
        "--group-gap {gap}: {} groups of {} images; {others} others do not say when they were taken",
        group + 1,
        order.len()
    ))
}
