//! Lines that a person enters, while a command does something else.

use std::io::{BufRead, Read};
use std::sync::mpsc::Receiver;

/// Bytes of a line that are taken; the rest of a longer one is passed over.
const LONGEST: u64 = 4096;

/// Lines of standard input, on a thread that is left behind at the end; bytes that are no UTF-8 are
/// replaced. It is disconnected where standard input ends.
pub(super) fn lines() -> Receiver<String> {
    let (send, receive) = std::sync::mpsc::sync_channel(16);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Ok(Some(line)) = line(&mut input) {
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receive
}

/// The next line without its end; `None` where the input ends.
fn line(input: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line without an end took memory until there was none.
    #[test]
    fn of_a_line_that_is_too_long_the_beginning_is_taken_and_the_next_line_is_whole() {
        let most = LONGEST as usize;
        for length in [0, 1, most - 1, most, most + 1, 3 * most] {
            let text = format!("{}\nnext\nlast", "x".repeat(length));
            let mut input = text.as_bytes();
            let mut lines = std::iter::from_fn(|| line(&mut input).unwrap()).map(|line| String::from_utf8(line).unwrap());
            assert_eq!(lines.next().unwrap().len(), length.min(most), "{length}");
            assert_eq!(lines.collect::<Vec<_>>(), ["next", "last"], "{length}");
        }
        assert_eq!(line(&mut &b""[..]).unwrap(), None);
    }
}
