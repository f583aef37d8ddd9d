//! A list: `path,tag`, or `path,tags` with `;` between for tags that do not exclude one another.
//! Paths are relative to the list; further columns stay.
//!
//! Reads what spreadsheets save: UTF-8 with or without a mark, UTF-16, commas, semicolons or tabs.
//! Columns of other names are not guessed.

use super::{Listed, Row, beside, on_disk};
use crate::data::TaskName;
use anyhow::{Context, Result, bail};
use csv::StringRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Names of the column of paths, and of tags.
const PATH: [&str; 7] = ["path", "file", "image", "filename", "file_name", "filepath", "image_path"];
const TAG: [&str; 4] = ["tag", "tags", "label", "labels"];
/// What may stand between columns.
const DELIMITERS: [(u8, &str); 4] = [(b',', "commas"), (b';', "semicolons"), (b'\t', "tabs"), (b'|', "bars")];

/// Reads a list.
pub fn list(path: &Path) -> Result<Listed> {
    let name = path.display();
    let text = text(path)?;
    let mut notes = Vec::new();
    let records = |delimiter: u8| -> Result<Vec<StringRecord>> {
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes());
        reader.records().collect::<Result<_, _>>().with_context(|| format!("{name} is damaged"))
    };
    let tsv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
    let usual = if tsv { b'\t' } else { b',' };
    let has_both = |header: &StringRecord| column(header, &PATH).is_some() && column(header, &TAG).is_some();
    let mut all = records(usual)?;
    let header = all.first().with_context(|| format!("{name} is empty"))?;
    if !has_both(header) {
        for (delimiter, what) in DELIMITERS.into_iter().filter(|(d, _)| *d != usual) {
            let other = records(delimiter)?;
            if other.first().is_some_and(has_both) {
                notes.push(format!("columns are separated by {what}"));
                all = other;
                break;
            }
        }
    }
    let header = all.remove(0);
    let (Some(file), Some(tag)) = (column(&header, &PATH), column(&header, &TAG)) else {
        return Err(unknown_columns(path, &header, &all));
    };
    let root = beside(path);
    let mut rewritten: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rows = Vec::new();
    for record in &all {
        if record.len() != header.len() {
            let line = record.position().map_or(0, |p| p.line());
            bail!(
                "{name}, line {line}: {} columns, its first line names {}; quote what holds a separator",
                record.len(),
                header.len()
            );
        }
        let field = |i: usize| record.get(i).unwrap_or("").trim().to_string();
        let tags = field(tag).split(';').map(str::trim).filter(|t| !t.is_empty()).map(String::from).collect();
        let rest = (0..header.len()).filter(|&i| i != file && i != tag && !field(i).is_empty());
        let columns = rest.map(|i| (header[i].trim().to_string(), field(i))).collect();
        let (path, how) = on_disk(&root, &field(file));
        if let Some(how) = how {
            *rewritten.entry(how).or_default() += 1;
        }
        rows.push(Row { path, tags, columns });
    }
    for (how, n) in rewritten {
        notes.push(match how {
            "backslashes" => format!("{n} paths have backslashes, as on Windows; they are read as /"),
            _ => format!("{n} paths write their accents in another form than the disk; the files are found all the same"),
        });
    }
    let plural = header[tag].trim().to_ascii_lowercase().ends_with('s');
    let several = rows.iter().filter(|r| r.tags.len() > 1).count();
    if plural && several == 0 {
        refuse_other_separators(path, &rows)?;
    }
    let multilabel = plural || several > 0;
    if multilabel && !plural {
        notes.push(format!(
            "{several} of {} rows have several tags, so tags do not exclude one another; --task multiclass leaves these rows out",
            rows.len()
        ));
    }
    notes.extend(offered_sides(&rows));
    let task = if multilabel { TaskName::Multilabel } else { TaskName::Multiclass };
    Ok(Listed { root, task: Some(task), rows, notes, ..Listed::default() })
}

fn column(header: &StringRecord, names: &[&str]) -> Option<usize> {
    header.iter().position(|h| names.contains(&h.trim().to_ascii_lowercase().as_str()))
}

/// The list's text, whatever a spreadsheet saved it as; never a guess of an 8-bit code page.
fn text(path: &Path) -> Result<String> {
    let name = path.display();
    let bytes = tagpin::regular::read(path, tagpin::regular::LARGE).with_context(|| format!("{name} cannot be read"))?;
    let wide = |swap: bool| -> Result<String> {
        let units = bytes[2..]
            .chunks_exact(2)
            .map(|b| if swap { u16::from_be_bytes([b[0], b[1]]) } else { u16::from_le_bytes([b[0], b[1]]) });
        char::decode_utf16(units).collect::<Result<_, _>>().with_context(|| format!("{name}: damaged UTF-16"))
    };
    match bytes.get(..2) {
        Some([0xff, 0xfe]) => return wide(false),
        Some([0xfe, 0xff]) => return wide(true),
        _ => {}
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text)),
        Err(e) => {
            let good = e.utf8_error().valid_up_to();
            let line = 1 + e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
            let byte = e.as_bytes()[good];
            bail!(
                "{name}, line {line}: byte 0x{byte:02x} is no UTF-8: the file has another encoding (Latin-1 or Windows-1252, if a \
                 spreadsheet saved it); save it as \"CSV UTF-8\""
            )
        }
    }
}

/// Says which columns were found, and what they look like.
fn unknown_columns(path: &Path, header: &StringRecord, rows: &[StringRecord]) -> anyhow::Error {
    let name = path.display();
    let cells: Vec<&str> = header.iter().map(str::trim).collect();
    let found = cells.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
    let is_data = |c: &&str| {
        let ending = Path::new(c).extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        c.contains("://") || ending.is_some_and(|e| tagpin::pictures::ENDINGS.contains(&e.as_str()) || e == "heic")
    };
    if cells.iter().any(is_data) {
        let cloud = if cells.iter().any(|c| c.contains("://")) {
            "; its paths lie in a cloud: fetch the images and list them by paths relative to the list"
        } else {
            ""
        };
        return anyhow::anyhow!("{name}: its first line, {found}, names no columns; put a line `path,tag` above it{cloud}");
    }
    let one_hot: Vec<&str> = (0..cells.len())
        .filter(|&i| {
            !rows.is_empty() && rows.iter().all(|r| matches!(r.get(i).map(str::trim), Some("0" | "1" | "0.0" | "1.0")))
        })
        .map(|i| cells[i])
        .collect();
    let hint = if one_hot.len() > 1 {
        format!(
            ". The columns {} hold only 0 and 1, one for each tag: write a column `tag` with the name of the one that is 1 (or `tags` \
             with ; between, if there can be several)",
            one_hot.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ")
        )
    } else if cells.contains(&"choice") || cells.contains(&"annotation_id") {
        ". This is a Label Studio export: rename \"choice\" to tag, and write paths of your own files for those it made up"
            .into()
    } else {
        let lacks = match (column(header, &PATH).is_some(), column(header, &TAG).is_some()) {
            (false, false) => "the column of files to path, with their endings, and that of tags to tag",
            (false, true) => "the column of files to path; paths are relative to the list and have their endings",
            _ => "the column of tags to tag",
        };
        format!("; rename {lacks}")
    };
    anyhow::anyhow!("{name}: expected the columns path and tag (or tags), found {found}{hint}")
}

/// Several tags in one cell that are not separated by `;` would be one tag: seen where parts of a
/// cell come again in others.
fn refuse_other_separators(path: &Path, rows: &[Row]) -> Result<()> {
    let cells: BTreeSet<&str> = rows.iter().flat_map(|r| &r.tags).map(String::as_str).collect();
    for (separator, what) in [(',', "a comma"), ('|', "a bar"), (' ', "a blank")] {
        let parts = |cell: &&str| cell.split(separator).map(|p| p.trim().to_string()).collect::<BTreeSet<_>>();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        cells.iter().flat_map(parts).for_each(|p| *seen.entry(p).or_default() += 1);
        let joined = cells.iter().find(|c| c.contains(separator) && parts(c).iter().any(|p| seen[p] > 1));
        if let Some(joined) = joined {
            bail!(
                "{}: \"{joined}\" in the column of tags looks like several tags with {what} between, as its parts come in other rows \
                 too; write ; between them (and _ for a blank inside a name), or name the column tag if it is one name",
                path.display()
            );
        }
    }
    Ok(())
}

/// A column that says which side an image is for.
fn offered_sides(rows: &[Row]) -> Option<String> {
    let columns: BTreeSet<&String> = rows.iter().flat_map(|r| r.columns.keys()).collect();
    let all_sides = |c: &&&String| {
        let values: BTreeSet<Option<&String>> = rows.iter().map(|r| r.columns.get(**c)).collect();
        values.len() > 1 && values.iter().all(|v| v.is_some_and(|v| crate::data::split::Side::named(v).is_some()))
    };
    let column = columns.iter().find(all_sides).filter(|c| **c != "side")?;
    Some(format!("column \"{column}\" names sides; `dataset split --sides {column}` keeps them"))
}
