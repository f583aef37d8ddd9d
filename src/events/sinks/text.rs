//! Names and sentences on a terminal: control characters are shown, not sent, and what is too long
//! is cut.

use crate::terminal::escaped;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` in at most `columns` columns: control characters as escapes, the rest of what does not
/// fit as "...".
pub(crate) fn shown(text: &str, columns: usize) -> String {
    let mut out = escaped(text);
    if out.width() <= columns {
        return out;
    }
    let room = columns.saturating_sub(3);
    let mut width = 0;
    let end = out.char_indices().find(|(_, c)| {
        width += c.width().unwrap_or(0);
        width > room
    });
    out.truncate(end.map_or(out.len(), |(i, _)| i));
    out.push_str("...");
    out
}

/// `text` in exactly `columns` columns, filled up on the right.
pub(super) fn cell(text: &str, columns: usize) -> String {
    let mut out = shown(text, columns);
    let width = out.width();
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(width)));
    out
}

/// `head` and `items`, separated by commas, in lines of at most `columns`.
pub(super) fn list(head: &str, items: &[String], columns: usize) -> String {
    let mut out = String::from(head);
    let mut width = head.width();
    for (i, item) in items.iter().enumerate() {
        let comma = if i + 1 < items.len() { "," } else { "" };
        let item = shown(item, columns.saturating_sub(4));
        let needed = 1 + item.width() + comma.len();
        if width + needed > columns {
            out.push_str("\n ");
            width = 1;
        }
        out.push(' ');
        out.push_str(&item);
        out.push_str(comma);
        width += needed;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_a_terminal_nor_break_a_column() {
        assert_eq!(shown("a\x1b[2J\"b\n", 80), "a\\u{1b}[2J\"b\\n");
        assert_eq!(shown("abc\u{202e}def", 80), "abc\\u{202e}def");
        assert_eq!(shown("gear_chipped", 12), "gear_chipped");
        assert_eq!(shown("gear_chipped", 9), "gear_c...");
        assert_eq!(shown("歯車歯車", 7).width(), 7);
        assert_eq!(cell("歯車", 6), "歯車  ");
        let text = list("outputs:", &["a".repeat(30), "b".repeat(30), "c".repeat(200)], 40);
        assert!(text.lines().all(|l| l.width() <= 40), "{text}");
    }
}
