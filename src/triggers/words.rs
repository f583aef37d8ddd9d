//! Words that open parts, acknowledge or confirm, and what each means.
//!
//! Anything that is not a word is ignored and reported ([`Odd`]). At most [`LONGEST`] bytes of a
//! line are kept, so that no writer can fill the memory.

use super::{Input, Odd};
use crate::time::Instant;

/// Most bytes of a word, spaces around it included.
pub(super) const LONGEST: usize = 64;

/// The meaning of a word that came at `at`: nothing or `trigger` opens a part, `ack` acknowledges,
/// `confirm` is a part behind the gate.
pub(super) fn meaning(word: &[u8], at: Instant) -> Result<Input, Odd> {
    if word.len() > LONGEST {
        return Err(Odd::TooLong);
    }
    match std::str::from_utf8(word).map_err(|_| Odd::NotText)?.trim() {
        "" | "trigger" => Ok(Input::Trigger { at, position: None }),
        "ack" => Ok(Input::Acknowledge(at)),
        "confirm" => Ok(Input::Confirm(at)),
        _ => Err(Odd::UnknownWord),
    }
}

/// Puts lines together of the bytes that come.
pub(super) struct Lines {
    line: heapless::Vec<u8, LONGEST>,
    /// The line was too long and was told: the rest of it is passed over.
    skipping: bool,
}

impl Lines {
    /// Nothing of a line.
    pub(super) const fn new() -> Self {
        Self { line: heapless::Vec::new(), skipping: false }
    }

    /// Takes one byte that came at `at`. A line that is too long is told once, when it becomes so.
    pub(super) fn take(&mut self, byte: u8, at: Instant) -> Option<Result<Input, Odd>> {
        if byte == b'\n' {
            let whole = !std::mem::take(&mut self.skipping);
            let said = whole.then(|| meaning(&self.line, at));
            self.line.clear();
            return said;
        }
        if !self.skipping && self.line.push(byte).is_err() {
            self.skipping = true;
            return Some(Err(Odd::TooLong));
        }
        None
    }

    /// The input has ended: what stands there without a line's end is a word too.
    pub(super) fn end(&mut self, at: Instant) -> Option<Result<Input, Odd>> {
        let waits = !self.line.is_empty() && !self.skipping;
        let said = waits.then(|| meaning(&self.line, at));
        *self = Self::new();
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Instant = Instant::from_micros(7);

    fn said(bytes: &[u8]) -> Vec<Result<Input, Odd>> {
        let mut lines = Lines::new();
        let mut all: Vec<_> = bytes.iter().filter_map(|b| lines.take(*b, AT)).collect();
        all.extend(lines.end(AT));
        all
    }

    /// A byte that is no text ended the trigger, unknown words were passed over in silence, a line
    /// without an end filled memory.
    #[test]
    fn every_line_is_a_word_or_is_told_as_none() {
        let part = Ok(Input::Trigger { at: AT, position: None });
        assert_eq!(said(b"trigger\n\n trigger \r\nack\n"), [part, part, part, Ok(Input::Acknowledge(AT))]);
        assert_eq!(
            said(b"\xff\xfe\nTRIGGER\ntrigger\0\ntrigger\n").as_slice(),
            [Err(Odd::NotText), Err(Odd::UnknownWord), Err(Odd::UnknownWord), part]
        );
        for length in [LONGEST + 1, 10 * LONGEST] {
            let line = [vec![b' '; length], b"\ntrigger\n".to_vec()].concat();
            assert_eq!(said(&line), [Err(Odd::TooLong), part], "{length} bytes are told once");
        }
        let longest = [vec![b' '; LONGEST - 7], b"trigger\n".to_vec()].concat();
        assert_eq!(said(&longest), [part]);
        assert_eq!((said(b"trigger"), said(b""), said(b"ack\n")), (vec![part], vec![], vec![Ok(Input::Acknowledge(AT))]));
        assert_eq!(said(&vec![b'a'; 1 << 20]), [Err(Odd::TooLong)], "an endless line");
    }
}
