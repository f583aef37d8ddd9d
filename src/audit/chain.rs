//! Lines of the record as bytes: how they hang together, and what does not fit.
//!
//! A line is the SHA-256 of its record, a space, the record as JSON, a newline. Each record states
//! the hash of the line before, so a line that is changed, removed, moved or doubled shows. What a
//! power cut left of a line stays where it is: it is ended by " torn", and the next line states its
//! hash as well.

use crate::bundle::{Hex, sha256};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read};

/// The hash that stands for the line before the first.
const NONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// What ends a line that a power cut left.
const TORN: &str = " torn";
/// Most bytes of a line, and of what a power cut left of some.
pub(super) const LONGEST: usize = 64 * 1024;

/// What was changed, by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who did it, as far as that is known: a key of the page, a peer, an input, a user.
    pub who: String,
    /// What: "threshold gear", "bundle", "acknowledge".
    pub what: String,
    /// What it was before; empty where that says nothing.
    pub old: String,
    /// What it is now.
    pub new: String,
}

/// A change as the record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, in UTC; `None` where the clock was not set.
    pub time: Option<String>,
    /// Who did it.
    pub who: String,
    /// What was changed.
    pub what: String,
    /// What it was before.
    pub old: String,
    /// What it is now.
    pub new: String,
    /// Hash of what a power cut left between the line before and this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    torn: Option<String>,
    /// Hash of the line before.
    before: String,
}

fn hash(bytes: &[u8]) -> String {
    Hex(&sha256(bytes)).to_string()
}

/// At most 300 bytes of a text, cut at the end of a character: a line stays short whatever a client
/// is called.
fn short(text: String) -> String {
    const MOST: usize = 300;
    if text.len() <= MOST {
        return text;
    }
    let end = (0..=MOST).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// A line's hash and record, if it is whole. `line`: without its newline.
fn read(line: &[u8]) -> Option<(&str, Record)> {
    let (stated, rest) = line.split_at_checked(NONE.len())?;
    let record = rest.strip_prefix(b" ")?;
    let stated = std::str::from_utf8(stated).ok().filter(|stated| *stated == hash(record))?;
    Some((stated, serde_json::from_slice(record).ok()?))
}

/// Where the next line goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Hash of the last whole line.
    before: String,
    /// Hash of what a power cut left behind it, with [`TORN`].
    torn: Option<String>,
    /// What ends the line that is there.
    close: &'static str,
}

impl End {
    /// Of a log that ends in `tail`, all of it or its last bytes. `None`: its end is no line,
    /// though no power cut made it so.
    pub(super) fn of(tail: &[u8], is_all: bool) -> Option<Self> {
        if tail.is_empty() && is_all {
            return Some(Self { before: NONE.into(), torn: None, close: "" });
        }
        let (text, is_open) = tail.strip_suffix(b"\n").map_or((tail, true), |text| (text, false));
        let line_before = |end: usize| text[..end].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let last = line_before(text.len());
        if let Some((before, _)) = read(&text[last..]) {
            let close = if is_open { "\n" } else { "" };
            return Some(Self { before: before.into(), torn: None, close });
        }
        // What somebody changed in a whole line has its newline, and no mark.
        if !is_open && !text.ends_with(TORN.as_bytes()) {
            return None;
        }
        let (mut begin, mut before) = (last, None);
        while begin > 0 && before.is_none() {
            let end = begin - 1;
            let line = line_before(end);
            match read(&text[line..end]) {
                Some((hash, _)) => before = Some(hash),
                None => begin = line,
            }
        }
        let before = before.or(is_all.then_some(NONE))?.into();
        let (mut left, close) = (text[begin..].to_vec(), if is_open { " torn\n" } else { "" });
        if is_open {
            left.extend(TORN.as_bytes());
        }
        Some(Self { before, torn: Some(hash(&left)), close })
    }

    /// The next lines, as bytes to be added. `time`: when, if the clock is set.
    pub(super) fn lines(self, changes: Vec<Change>, time: Option<&str>) -> Vec<u8> {
        let Self { mut before, mut torn, close } = self;
        let mut text = close.to_string();
        for Change { who, what, old, new } in changes {
            let [who, what, old, new] = [who, what, old, new].map(short);
            let record = Record { time: time.map(Into::into), who, what, old, new, torn: torn.take(), before };
            let record = serde_json::to_string(&record).expect("texts are JSON");
            before = hash(record.as_bytes());
            text += &format!("{before} {record}\n");
        }
        text.into_bytes()
    }
}

/// What a whole log has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Records.
    pub records: u64,
    /// Hash of the last.
    pub head: String,
    /// Lines that a power cut left, counted from 1; the line behind them states their hash.
    pub torn: Vec<u64>,
    /// The line at the end that a power cut left, if any: nothing was recorded since.
    pub cut: Option<u64>,
}

/// The first line that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Its number, counted from 1.
    pub line: u64,
    /// Why.
    pub why: &'static str,
}

/// Lines that are none, until a whole one says what they are.
#[derive(Default)]
struct Pending {
    /// Numbers of the first and the last.
    lines: Option<(u64, u64)>,
    bytes: Vec<u8>,
}

/// Reads a log to its end or to the first line that does not fit; `see` gets each record with its
/// line's number and hash.
pub fn verify(log: &mut dyn BufRead, see: &mut dyn FnMut(u64, &str, &Record)) -> std::io::Result<Result<Whole, Misfit>> {
    let mut whole = Whole { head: NONE.into(), ..Whole::default() };
    let mut pending = Pending::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        Read::take(&mut *log, LONGEST as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            break;
        }
        let is_ended = line.pop_if(|b| *b == b'\n').is_some();
        let broken = |line, why| Ok(Err(Misfit { line, why }));
        let Some((stated, record)) = read(&line) else {
            let first = pending.lines.map_or(number, |(first, _)| first);
            if pending.lines.is_some() {
                pending.bytes.push(b'\n');
            }
            pending.bytes.extend(&line);
            pending.lines = Some((first, number));
            whole.cut = (!is_ended || line.ends_with(TORN.as_bytes())).then_some(first);
            if pending.bytes.len() > LONGEST {
                return broken(first, "it is longer than a line can be");
            }
            continue;
        };
        match (pending.lines.take(), &record.torn) {
            (None, None) => {}
            (Some((first, last)), Some(torn)) if hash(&pending.bytes) == *torn => whole.torn.extend(first..=last),
            (Some((first, _)), _) => return broken(first, "it is not what its hash says"),
            (None, Some(_)) => return broken(number, "what a power cut left before it is not there any more"),
        }
        pending.bytes.clear();
        whole.cut = None;
        if record.before != whole.head {
            return broken(number, "it follows another line than the one before it");
        }
        see(number, stated, &record);
        whole.records += 1;
        whole.head = stated.into();
    }
    Ok(match (pending.lines, whole.cut) {
        (Some((line, _)), None) => Err(Misfit { line, why: "it is not what its hash says" }),
        _ => Ok(whole),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};

    fn change(random: &mut Random) -> Change {
        const LETTERS: [&str; 8] = ["a", "Z", "\"", "\\", "\n", "é", "0", " "];
        let mut text = |most| (0..random.range(0, most)).map(|_| LETTERS[random.range(0, 7) as usize]).collect::<String>();
        Change { who: text(20), what: text(12), old: text(8), new: text(8) }
    }

    /// Adds records to a log as the device does.
    fn add(log: &mut Vec<u8>, changes: Vec<Change>) {
        let end = End::of(log, true).unwrap_or_else(|| panic!("refused: {}", String::from_utf8_lossy(log)));
        log.extend(end.lines(changes, Some("2026-11-27T02:30:00.000Z")));
    }

    fn checked(log: &[u8]) -> Result<Whole, Misfit> {
        verify(&mut { log }, &mut |_, _, _| {}).unwrap()
    }

    /// A log of some records, with power cuts between them, and the numbers of the lines they left.
    fn drawn(random: &mut Random) -> (Vec<u8>, Vec<u64>) {
        let (mut log, mut torn) = (Vec::new(), Vec::new());
        for _ in 0..random.range(1, 4) {
            let changes: Vec<Change> = (0..random.range(1, 3)).map(|_| change(random)).collect();
            add(&mut log, changes);
            if random.range(0, 2) == 0 {
                let whole = log.len();
                add(&mut log, vec![change(random)]);
                // What is cut at its newline is whole.
                let cut = random.range(whole as i32 + 1, log.len() as i32 - 2) as usize;
                log.truncate(cut);
                torn.push(log.iter().filter(|b| **b == b'\n').count() as u64 + 1);
            }
        }
        add(&mut log, vec![change(random)]);
        (log, torn)
    }

    #[test]
    fn any_byte_that_is_changed_and_any_line_that_is_removed_moved_or_doubled_is_found() {
        let (seed, cases) = drawn_cases(300);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let (log, torn) = drawn(&mut random);
            let why = |what: &str| format!("seed {seed} case {case}: {what}\n{}", String::from_utf8_lossy(&log));
            let whole = checked(&log).unwrap_or_else(|e| panic!("{}", why(&format!("{e:?}"))));
            assert_eq!((&whole.torn, whole.cut), (&torn, None), "{}", why("torn"));
            let found = |changed: &[u8]| checked(changed).map_or(true, |w| w.cut.is_some());
            for _ in 0..20 {
                let mut changed = log.clone();
                let at = random.range(0, log.len() as i32 - 1) as usize;
                changed[at] ^= random.range(1, 255) as u8;
                assert!(found(&changed), "{}", why(&format!("byte {at} became {}", changed[at])));
            }
            // Upper case says the same in hexadecimal.
            let at = log.iter().position(|b| b.is_ascii_lowercase()).unwrap();
            let mut changed = log.clone();
            changed[at].make_ascii_uppercase();
            assert!(found(&changed), "{}", why("upper case"));
            let lines: Vec<&[u8]> = log.split_inclusive(|b| *b == b'\n').collect();
            let (i, j) =
                (random.range(0, lines.len() as i32 - 1) as usize, random.range(0, lines.len() as i32 - 1) as usize);
            let mut doubled = lines.clone();
            doubled.insert(j, lines[i]);
            assert!(found(&doubled.concat()), "{}", why("doubled"));
            if lines[i] != lines[j] {
                let mut swapped = lines.clone();
                swapped.swap(i, j);
                assert!(found(&swapped.concat()), "{}", why("swapped"));
            }
            if i + 1 < lines.len() {
                let mut removed = lines.clone();
                removed.remove(i);
                assert!(found(&removed.concat()), "{}", why("removed"));
            }
        }
    }

    /// Only a head that somebody noted shows it.
    #[test]
    fn a_cut_at_the_end_of_a_line_is_a_shorter_log_that_lacks_the_later_head() {
        let mut random = Random::new(5, 0);
        let mut log = Vec::new();
        (0..3).for_each(|_| add(&mut log, vec![change(&mut random)]));
        let head = checked(&log).unwrap().head;
        let shorter = log[..log.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        let mut heads = Vec::new();
        let cut = verify(&mut &log[..shorter], &mut |_, hash, _| heads.push(hash.to_string())).unwrap().unwrap();
        assert_eq!((cut.records, cut.cut), (2, None));
        assert!(!heads.contains(&head));
    }

    #[test]
    fn what_a_power_cut_leaves_is_named_at_the_end_and_kept_by_the_next_line() {
        let mut random = Random::new(6, 0);
        let mut log = Vec::new();
        add(&mut log, vec![change(&mut random)]);
        let (one, mut two) = (log.clone(), log.clone());
        add(&mut two, vec![change(&mut random)]);
        for cut in one.len() + 1..two.len() {
            let mut log = two[..cut].to_vec();
            let found = checked(&log).unwrap();
            // Without its newline alone a line is whole.
            let left = (cut < two.len() - 1).then_some(2);
            assert_eq!((found.records, found.cut), (1 + left.is_none() as u64, left), "{cut}");
            // Twice in a row.
            let torn = log.len();
            add(&mut log, vec![change(&mut random)]);
            log.truncate(torn + 20);
            add(&mut log, vec![change(&mut random), change(&mut random)]);
            let found = checked(&log).unwrap();
            let expected = if left.is_some() { (3, vec![2, 3]) } else { (4, vec![3]) };
            assert_eq!((found.records, found.torn, found.cut), (expected.0, expected.1, None), "{cut}");
            assert!(log.starts_with(&two[..cut]), "it is kept");
        }
    }

    #[test]
    fn a_log_whose_last_line_was_changed_is_not_gone_on_with() {
        let mut random = Random::new(7, 0);
        let mut log = Vec::new();
        add(&mut log, vec![change(&mut random)]);
        let good = log.clone();
        let last = log.len() - 3;
        log[last] ^= 1;
        assert_eq!(End::of(&log, true), None);
        assert!(End::of(&good, true).is_some() && End::of(b"", true).is_some());
        for strange in [b"\n".as_slice(), b"notes of somebody\n", b"\n\n"] {
            assert_eq!(End::of(strange, true), None, "{strange:?}");
            assert!(checked(strange).is_err());
        }
        assert_eq!(End::of(b"the end of something long", false), None);
        // Where only the last bytes are read, the last line is found in them.
        let long = [good.clone(), good.clone()].concat();
        assert_eq!(End::of(&long[7..], false), End::of(&good, true));
    }
}
