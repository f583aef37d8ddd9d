//! `tagpin audit`: whether the record of changes is whole, and what it says; and the record that
//! other commands add to.

use super::Refused;
use crate::audit::{Change, Log, Misfit, Record};
use crate::terminal::escaped;
use std::path::{Path, PathBuf};

/// Columns of the table, and of its first two columns.
const TABLE: [usize; 3] = [80, 19, 24];

/// Arguments of `audit`.
#[derive(clap::Args, Debug)]
pub(super) struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Check the hash of every line; exit 1 at the first line that does not fit
    Verify {
        #[command(flatten)]
        common: Common,
        /// A hash that `verify` printed before, or its first digits: exit 1 if no line has it
        #[arg(long, value_name = "HASH", value_parser = head)]
        head: Option<String>,
    },
    /// Show who changed what and when, as a table of 80 columns
    Show {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args, Debug)]
struct Common {
    /// The record: audit.log in the folder of [state]
    #[arg(long, value_name = "FILE", default_value = "/var/lib/tagpin/audit.log")]
    log: PathBuf,
}

fn head(text: &str) -> Result<String, String> {
    let is_hash = (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_hash { Ok(text.into()) } else { Err("expected 8 to 64 lower-case hexadecimal digits".into()) }
}

pub(super) fn run(Audit { what }: &Audit) -> Result<u8, Refused> {
    match what {
        What::Verify { common, head } => verify(&common.log, head.as_deref()),
        What::Show { common } => show(&common.log),
    }
}

fn verify(file: &Path, head: Option<&str>) -> Result<u8, Refused> {
    let mut has_head = head.is_none();
    let found = Log::at(file).verify(&mut |_, hash, _| has_head |= head.is_some_and(|head| hash.starts_with(head)))?;
    let whole = match found {
        Ok(whole) => whole,
        Err(misfit) => return Ok(broken(&misfit)),
    };
    for line in &whole.torn {
        println!("torn     line {line}: a power cut left it; the next line states its hash");
    }
    if let Some(line) = whole.cut {
        println!("CUT OFF  line {line}: by a power cut, or by somebody; nothing was recorded behind it");
    }
    if let Some(head) = head.filter(|_| !has_head) {
        println!("BROKEN   no line has the hash {head}: lines at the end were removed, or all were written anew");
    }
    let is_whole = whole.cut.is_none() && has_head;
    let word = if is_whole { "whole  " } else { "PROBLEM" };
    println!("{word}  {}: records: {}, head {}", escaped(&file.display().to_string()), whole.records, whole.head);
    Ok(!is_whole as u8)
}

/// Tells what does not fit; the exit code.
fn broken(Misfit { line, why }: &Misfit) -> u8 {
    println!("BROKEN   line {line}: {why}");
    1
}

fn show(file: &Path) -> Result<u8, Refused> {
    print!("{}", row("TIME", "WHO", "CHANGE"));
    let found = Log::at(file).verify(&mut |_, _, record| print!("{}", shown(record)))?;
    Ok(found.map_or_else(|misfit| broken(&misfit), |_| 0))
}

fn shown(Record { time, who, what, old, new, .. }: &Record) -> String {
    let time =
        time.as_ref().map_or("clock not set".into(), |t| t.chars().take(TABLE[1]).collect::<String>().replace('T', " "));
    let change = match (old.is_empty(), new.is_empty()) {
        (true, true) => what.clone(),
        (true, false) => format!("{what}: {new}"),
        _ => format!("{what}: {old} -> {new}"),
    };
    // As much of a bundle's hash as tells it from others; the file has all of it.
    let is_hash = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let change: Vec<&str> = change.split(' ').map(|word| if is_hash(word) { &word[..12] } else { word }).collect();
    let change = change.join(" ");
    row(&time, &escaped(who), &escaped(&change))
}

/// A row of the table, in as many lines as it needs.
fn row(time: &str, who: &str, change: &str) -> String {
    let [all, first, second] = TABLE;
    let (who, change) = (lines(who, second), lines(change, all - first - second - 4));
    let mut text = String::new();
    for i in 0..who.len().max(change.len()) {
        let of = |lines: &[String]| lines.get(i).cloned().unwrap_or_default();
        let time = if i == 0 { time } else { "" };
        let line = format!("{time:<first$}  {:<second$}  {}", of(&who), of(&change));
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Words in lines of at most `columns` characters; a longer word is cut.
fn lines(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let room = |line: &String| columns.saturating_sub(line.chars().count() + !line.is_empty() as usize);
        let last = lines.last_mut().expect("there is one");
        if word.len() <= room(last) {
            if !last.is_empty() {
                last.push(' ');
            }
            last.extend(word);
            continue;
        }
        while !word.is_empty() {
            let rest = word.split_off(word.len().min(columns));
            lines.push(word.into_iter().collect());
            word = rest;
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// The record that a change of `folder` goes to: that of the settings' state folder, else the one
/// that lies in the folder or beside it. What else is wrong with the settings is no matter here.
pub(super) fn log_of(settings: Option<&Path>, folder: &Path) -> Option<Log> {
    settings.and_then(state).map(|state| Log::of_state(&state)).or_else(|| Log::beside(folder))
}

#[cfg(feature = "site")]
fn state(file: &Path) -> Option<PathBuf> {
    use crate::settings::{ModelTags, Settings};
    let none = ModelTags { names: &[], rules: &[], roles: &[], categories: None };
    Settings::open_draft(file, None, none).ok()?.settings.site.state
}

#[cfg(not(feature = "site"))]
fn state(_: &Path) -> Option<PathBuf> {
    None
}

/// Refuses a change that could not be recorded.
pub(super) fn must_record(log: Option<&Log>) -> Result<(), Refused> {
    let probed = log.map_or(Ok(()), Log::probe);
    probed.map_err(|e| format!("nothing was changed, because it could not be recorded: {e}").into())
}

/// Records what was done by who runs this command.
pub(super) fn record(log: Option<&Log>, what: &str, old: String, new: String) -> Result<(), Refused> {
    let Some(log) = log else { return Ok(()) };
    let change = Change { who: crate::audit::user(), what: what.into(), old, new };
    log.append(vec![change]).map_err(|e| format!("it was done, but could not be recorded: {e}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_to_80_columns_and_lose_no_character() {
        let (time, who) = ("2026-11-27 02:30:00", "page, 10.0.0.7:51312, key sha256:9b2e41aa");
        let change = format!("bundle: {} -> é", "f".repeat(64));
        let text = row(time, who, &change);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
        assert_eq!(letters(&text), letters(time) + letters(who) + letters(&change), "{text}");
        assert_eq!(lines("", 5), [] as [String; 0]);
        assert_eq!(lines("ab cd efghijkl m", 5), ["ab cd", "efghi", "jkl m"]);
    }
}
