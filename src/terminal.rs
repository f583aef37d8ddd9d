//! Text from outside on a terminal: names of files, tags and devices are shown, and command
//! nothing.

/// Whether a terminal obeys `c` instead of showing it, or lets it change the order of what is
/// shown.
fn commands(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` with escapes in the place of what a terminal would obey. One line.
///
/// ```
/// assert_eq!(tagpin::terminal::escaped("a\x1b[2Jb\n.jpg"), "a\\u{1b}[2Jb\\n.jpg");
/// ```
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if commands(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`escaped`], of a message of several lines, which stay so.
pub fn escaped_lines(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}
