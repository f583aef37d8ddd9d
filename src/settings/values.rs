//! Values that several tables state alike: regions of the frame, ways in time or in encoder counts,
//! longest times, and text as the file states it.

use super::reader::Table;
use crate::line::Travel;
use crate::preprocess::Roi;
use crate::time::Millis;

/// A day in milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;
/// Ten minutes in milliseconds.
pub(super) const TEN_MINUTES_MS: i64 = 600_000;

/// A region of the frame. Its size must be stated: whatever else were taken for it, a part could
/// lie outside.
pub(super) fn roi(table: &mut Table<'_>, key: &str) -> Option<Roi> {
    table.has(key).then(|| {
        let mut t = table.table(key);
        let mut from = |key: &str| t.integer(key, 0, 0..=8192) as u32;
        let (x, y) = (from("x"), from("y"));
        let mut size = |key: &str| t.integer(key, 0, 1..=8192).max(1) as u32;
        Roi { x, y, width: size("width"), height: size("height") }
    })
}

/// A way that may be given in milliseconds or in encoder counts.
pub(super) fn travel(table: &mut Table<'_>, name: &str, default_ms: i64, encoder: bool) -> Travel {
    let (ms, counts) = (format!("{name}_ms"), format!("{name}_counts"));
    if !table.has(&counts) {
        return Travel::Time(Millis(table.integer(&ms, default_ms, 0..=DAY_MS) as u32).micros());
    }
    if table.has(&ms) {
        table.problem(&counts, format!("stands beside {ms}; keep one"));
    }
    if !encoder {
        table.problem(&counts, "counts need an [encoder]; add one or give milliseconds".into());
    }
    Travel::Counts(table.integer(&counts, 1, 1..=1 << 30) as u32)
}

/// A text as TOML states it.
pub(crate) fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, but for one character that JSON leaves as it is.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
