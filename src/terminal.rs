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

/// `text` without a terminal's escape sequences, such as colours and titles of windows (ECMA-48).
///
/// ```
/// assert_eq!(tagpin::terminal::without_sequences("\x1b[1;31mERROR\x1b[0m: no cable"), "ERROR: no cable");
/// ```
pub fn without_sequences(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        rest = behind_sequence(behind);
    }
    out + rest
}

/// What stands behind the sequence of which ESC stood before `text`.
fn behind_sequence(text: &str) -> &str {
    if let Some(title) = text.strip_prefix(']') {
        // Up to BEL or ESC \. Without either it is none.
        let Some(at) = title.find(['\u{7}', '\u{1b}']) else { return title };
        let rest = &title[at..];
        return rest.strip_prefix('\u{7}').or_else(|| rest.strip_prefix("\u{1b}\\")).unwrap_or(rest);
    }
    let (text, middle, last) = match text.strip_prefix('[') {
        Some(text) => (text, ' '..='?', '@'..='~'),
        None => (text, ' '..='/', '0'..='~'),
    };
    let rest = text.trim_start_matches(|c| middle.contains(&c));
    rest.strip_prefix(|c| last.contains(&c)).unwrap_or(rest)
}

/// `text` in lines of at most `columns` characters, broken at spaces alone: a word is never broken,
/// and a longer one stands as it is. What goes on from a line stands `indent` columns in.
///
/// ```
/// assert_eq!(tagpin::terminal::wrapped("a  bc def\ngh", 7, 2), "a  bc\n  def\ngh");
/// ```
pub fn wrapped(text: &str, columns: usize, indent: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let (mut rest, mut room) = (line, columns);
        while rest.chars().count() > room {
            let spaces = || rest.char_indices().enumerate().filter(|(_, (_, c))| *c == ' ');
            // What stands before a break is more than spaces.
            let is_behind = |at: usize| !rest[..at].trim_start().is_empty();
            let fits = spaces().take_while(|(n, _)| *n <= room).filter(|(_, (at, _))| is_behind(*at)).last();
            let Some((_, (at, _))) = fits.or_else(|| spaces().find(|(_, (at, _))| is_behind(*at))) else { break };
            out.push_str(rest[..at].trim_end());
            rest = rest[at..].trim_start();
            if rest.is_empty() {
                break;
            }
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            room = columns.saturating_sub(indent).max(1);
        }
        out.push_str(rest);
    }
    out
}

/// A line on standard error, [fitted] with what goes on `indent` columns in. Where nobody can be
/// told, nothing is lost but this: it is no reason to fail.
pub fn tell(line: &str, indent: usize) {
    let mut stderr = std::io::stderr().lock();
    let text = fitted(&stderr, line, indent) + "\n";
    let _ = std::io::Write::write_all(&mut stderr, text.as_bytes());
}

/// A problem on standard error: `word`, such as `error`, and why, which commands no terminal.
pub fn tell_problem(word: &str, why: &str) {
    tell(&format!("{word}: {}", escaped_lines(why)), 4);
}

/// Columns of the terminal that is `stream`, at least 40, 80 where it does not say; `None` if it is none, or this build cannot
/// ask it (`sources` brings system calls).
#[cfg(feature = "sources")]
pub fn columns(stream: &(impl std::io::IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    // A serial console says that it has none.
    let known = |size: rustix::termios::Winsize| Some(usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let asked = || rustix::termios::tcgetwinsize(stream).ok().and_then(known);
    stream.is_terminal().then(|| asked().map_or(80, |columns| columns.max(40)))
}

/// As the other, where `sources` is left out.
#[cfg(not(feature = "sources"))]
pub fn columns(_: &(impl std::io::IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    None
}

/// Whether `stream` is a terminal that shows colours, and the user wants them: `TERM` is not `dumb`,
/// and `NO_COLOR` is absent or empty, as <https://no-color.org> has it.
#[cfg(feature = "sources")]
pub fn has_colour(stream: &impl std::io::IsTerminal) -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !is_dumb && std::env::var_os("NO_COLOR").is_none_or(|word| word.is_empty())
}

/// `text` [wrapped] for the terminal that is `stream`; unchanged for a file or pipe.
pub fn fitted(stream: &(impl std::io::IsTerminal + std::os::fd::AsFd), text: &str, indent: usize) -> String {
    columns(stream).map_or_else(|| text.to_string(), |columns| wrapped(text, columns, indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a camera program's `\x1b[31mERROR\x1b[0m` a person was shown `[31mERROR [0m`.
    #[test]
    fn whole_sequences_are_taken_out_and_no_other_text() {
        for (text, shown) in [
            ("\x1b[31mERROR\x1b[0m: *** no cable ***\x1b[K", "ERROR: *** no cable ***"),
            ("\x1b]0;title\x07a\x1b]8;;file:x\x1b\\b\x1b(Bc\x1b=d", "abcd"),
            ("[31m is text, \u{e4}\u{20ac} too", "[31m is text, \u{e4}\u{20ac} too"),
            ("cut off \x1b[38;5;", "cut off "),
            ("cut off \x1b", "cut off "),
            ("\x1b[3\u{20ac}", "\u{20ac}"),
            ("\x1b\x1b[1mtwo", "two"),
            ("\x1b]a title without an end", "a title without an end"),
        ] {
            assert_eq!(without_sequences(text), shown, "{text:?}");
        }
    }

    /// Messages of 300 columns were cut in the middle of words by an 80 column terminal.
    #[test]
    fn lines_fit_their_columns_and_no_word_is_broken_or_lost() {
        let (seed, cases) = crate::random::drawn_cases(500);
        for case in 0..cases {
            let mut random = crate::random::Random::new(seed, case);
            let text: String =
                (0..random.range(0, 120)).map(|_| if random.range(0, 4) == 0 { ' ' } else { '\u{e9}' }).collect();
            let (columns, indent) = (random.range(8, 40) as usize, random.range(0, 6) as usize);
            let shown = wrapped(&text, columns, indent);
            assert!(shown.split_whitespace().eq(text.split_whitespace()), "seed {seed} case {case}: {text:?} {shown:?}");
            for (i, line) in shown.lines().enumerate() {
                let one = line.split_whitespace().count() <= 1;
                assert!(line.chars().count() <= columns || one, "seed {seed} case {case}: {columns} {line:?}");
                assert!(i == 0 || line.starts_with(&" ".repeat(indent)), "seed {seed} case {case}: {line:?}");
            }
        }
        assert_eq!(wrapped("node    operator", 80, 4), "node    operator", "what fits stays as it is");
    }
}
