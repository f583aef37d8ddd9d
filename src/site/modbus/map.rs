//! The register map of `MODBUS.md`: what the line's events and figures are as registers, and the
//! handshake of results.

use super::pdu::{Exception, Registers};
use crate::decide::{Action, Verdict};
use crate::events::{Events, FaultEvent, PartEvent};
use crate::head::{Score, TagId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Version of the map. Registers are only added.
const VERSION: u16 = 1;
/// First register of each block, and how many it has.
const STATUS: (u16, usize) = (0, 16);
const COUNTERS: (u16, usize) = (16, 32);
const RESULT: (u16, usize) = (48, 16);
/// First register of the tags' names, and how many each has.
const NAMES: (u16, usize) = (1000, 16);

/// The recipe that the line goes by, which can be written; behind it how many there are. Only where
/// device.toml has recipes.
const RECIPE: u16 = 100;

/// Coils.
const ACK: usize = 0;
const BUFFER: usize = 1;
const CLEAR: usize = 2;
/// Only where a PLC triggers parts.
const TRIGGER: usize = 3;
const COILS: usize = 4;

/// Status bits, as discrete inputs and as bits of register 3.
const ONLINE: usize = 0;
const VALID: usize = 1;
const OVERRUN: usize = 2;
const ERROR: usize = 3;
const PASS: usize = 4;
const BUFFERING: usize = 5;
const BEAT: usize = 6;

/// Kinds of faults by their numbers, from 1. A new kind goes to the end: a PLC's program knows the
/// others.
const KINDS: [&str; 28] = [
    "no_frame",
    "frozen",
    "stale",
    "truncated",
    "corrupt",
    "format_changed",
    "source_gone",
    "engine",
    "output",
    "missed_beat",
    "too_close",
    "overflow",
    "trigger",
    "panic",
    "stopped",
    "late",
    "late_edge",
    "missed_edge",
    "under_voltage",
    "throttled",
    "record",
    "sink",
    "frozen_passed",
    "not_rejected",
    "unexpected_confirmation",
    "input",
    "touched_passed",
    "given_up",
];

/// A part's end, as registers show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    part: u32,
    verdict: u16,
    action: u16,
    /// The tag that names the verdict, counted from 1; 0 for none.
    tag: u16,
    score: u16,
    /// The tag of the highest score, counted from 1; 0 for none.
    best: u16,
    late: bool,
    age_ms: u16,
    held: u16,
    trigger_ms: u32,
}

fn number(tag: TagId) -> u16 {
    tag.0 + 1
}

impl Outcome {
    fn of(part: &PartEvent) -> Self {
        let best = part.top.first().copied();
        Self {
            part: part.part as u32,
            verdict: match part.decision.verdict {
                Verdict::Present => 1,
                Verdict::Review => 2,
                Verdict::Unknown => 3,
                Verdict::Foreign => 4,
                Verdict::Safe(_) => 5,
            },
            action: match part.action {
                None => 0,
                Some(Action::Accept) => 1,
                Some(Action::Reject) => 2,
                Some(Action::Review) => 3,
            },
            tag: part.decision.tag.map_or(0, number),
            score: best.map_or(0, |(_, Score(score))| score),
            best: best.map_or(0, |(tag, _)| number(tag)),
            late: part.late,
            age_ms: u16::try_from(part.age.0 / 1000).unwrap_or(u16::MAX),
            held: part.decision.held.iter().count() as u16,
            trigger_ms: (part.trigger.as_micros() / 1000) as u32,
        }
    }
}

/// A block: its contents, and a number that changes with them, shown in its first and last
/// register.
#[derive(Clone, Debug)]
struct Block {
    sequence: u16,
    words: Vec<u16>,
}

impl Block {
    fn new(length: usize) -> Self {
        Self { sequence: 0, words: vec![0; length] }
    }

    /// Shows `inner`, what stands between the first and the last register.
    fn show(&mut self, inner: &[u16]) {
        let last = self.words.len() - 1;
        let mut words = vec![0; last - 1];
        words[..inner.len()].copy_from_slice(inner);
        if self.words[1..last] != words {
            self.sequence = self.sequence.wrapping_add(1);
            self.words[1..last].copy_from_slice(&words);
        }
        (self.words[0], self.words[last]) = (self.sequence, self.sequence);
    }
}

/// The registers and what they are made of.
#[derive(Debug)]
pub(super) struct Map {
    capacity: usize,
    /// The result that is shown, and whether it is new to the PLC.
    shown: Outcome,
    valid: bool,
    results: u16,
    waiting: VecDeque<Outcome>,
    lost: u32,
    overrun: bool,
    error: bool,
    /// The last fault's kind, counted from 1; 0 for none.
    fault: u16,
    coils: [bool; COILS],
    /// How many of them there are.
    offered: usize,
    /// The recipe that the line goes by, and how many there are; none where the file has none.
    recipes: Option<[u16; 2]>,
    /// The recipe that a write asked for, until it is taken.
    wanted: Option<u16>,
    /// What the last write of 1 to the trigger's coil asked for, until it is taken.
    asked: Option<Asked>,
    /// The connection that wrote 1 to it last.
    holder: Option<usize>,
    /// Somebody cleared what was told, which nobody took yet.
    cleared: bool,
    status: Block,
    counters: Block,
    result: Block,
    names: Arc<[u16]>,
    bits: [bool; 16],
}

/// What a write of 1 to the trigger's coil means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It was 0: a part is there.
    Part,
    /// It was 1: nobody can say whether another part is there.
    Again,
}

fn halves(value: u32) -> [u16; 2] {
    [(value >> 16) as u16, value as u16]
}

/// Names as registers: two bytes each, the first in the high half, zeros behind.
fn names<'n>(tags: impl Iterator<Item = &'n str>) -> Arc<[u16]> {
    let mut words = Vec::new();
    for tag in tags {
        let mut bytes = [0; 2 * NAMES.1];
        // Cut at the end of a character.
        let end = (0..=tag.len().min(bytes.len())).rev().find(|i| tag.is_char_boundary(*i)).unwrap_or(0);
        bytes[..end].copy_from_slice(&tag.as_bytes()[..end]);
        words.extend(bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])));
    }
    words.into()
}

impl Map {
    /// A map of a run that has just begun. `capacity`: results that wait at most. `triggers`:
    /// whether a PLC triggers parts. `recipes`: the current one's number, and how many there are.
    pub(super) fn new(capacity: usize, triggers: bool, recipes: Option<[u16; 2]>) -> Self {
        let block = |(_, length): (u16, usize)| Block::new(length);
        Self {
            capacity,
            shown: Outcome::default(),
            valid: false,
            results: 0,
            waiting: VecDeque::new(),
            lost: 0,
            overrun: false,
            error: false,
            fault: 0,
            coils: [false; COILS],
            offered: if triggers { COILS } else { TRIGGER },
            recipes,
            wanted: None,
            asked: None,
            holder: None,
            cleared: false,
            status: block(STATUS),
            counters: block(COUNTERS),
            result: block(RESULT),
            names: Arc::new([]),
            bits: [false; 16],
        }
    }

    /// A part had its end.
    pub(super) fn part(&mut self, part: &PartEvent) {
        let outcome = Outcome::of(part);
        if !self.coils[BUFFER] {
            return self.present(outcome);
        }
        if self.waiting.len() + self.valid as usize >= self.capacity {
            self.lost = self.lost.saturating_add(1);
            self.overrun = true;
            return;
        }
        self.waiting.push_back(outcome);
        self.present_next();
    }

    /// Something failed.
    pub(super) fn fault(&mut self, fault: &FaultEvent) {
        self.error = true;
        let at = KINDS.iter().position(|kind| *kind == fault.kind.name());
        self.fault = at.map_or(0, |i| i as u16 + 1);
    }

    fn present(&mut self, outcome: Outcome) {
        self.shown = outcome;
        self.valid = true;
        self.results = self.results.wrapping_add(1);
    }

    /// The next result, as soon as the last was acknowledged and the acknowledgement taken back.
    fn present_next(&mut self) {
        if !self.valid
            && !self.coils[ACK]
            && let Some(next) = self.waiting.pop_front()
        {
            self.present(next);
        }
    }

    fn set(&mut self, coil: usize, to: bool) {
        let was = std::mem::replace(&mut self.coils[coil], to);
        match coil {
            ACK if to && !was => self.valid = false,
            // The newest is shown then; those between were never seen.
            BUFFER if !to => {
                if let Some(newest) = self.waiting.pop_back() {
                    self.lost = self.lost.saturating_add(self.waiting.len() as u32);
                    self.overrun |= !self.waiting.is_empty();
                    self.waiting.clear();
                    self.present(newest);
                }
            }
            CLEAR if to => {
                self.cleared |= self.error || self.overrun;
                (self.error, self.overrun, self.fault) = (false, false, 0);
            }
            TRIGGER if to => self.asked = Some(if was { Asked::Again } else { Asked::Part }),
            _ => {}
        }
        self.present_next();
    }

    /// What a write asked of the trigger since this was last called.
    pub(super) fn take_asked(&mut self) -> Option<Asked> {
        self.asked.take()
    }

    /// The number of the recipe that a write asked for since this was last called; 0 for none.
    pub(super) fn take_wanted(&mut self) -> Option<u16> {
        self.wanted.take()
    }

    /// Whether a write cleared something since this was last called.
    pub(super) fn take_cleared(&mut self) -> bool {
        std::mem::take(&mut self.cleared)
    }

    /// The trigger's coil back to 0: its part was not taken.
    pub(super) fn reset_trigger(&mut self) {
        self.coils[TRIGGER] = false;
    }

    /// A connection has written 1 to the trigger's coil, whether or not it was 1 already.
    pub(super) fn hold_trigger(&mut self, connection: usize) {
        self.holder = Some(connection);
    }

    /// A connection is gone: the trigger's coil is back to 0 where no other one has written 1
    /// since.
    pub(super) fn let_go_of_trigger(&mut self, connection: usize) {
        if self.holder == Some(connection) {
            self.reset_trigger();
            self.holder = None;
        }
    }

    /// Brings the blocks up to date. `seconds`: since the run began.
    pub(super) fn refresh(&mut self, events: &Events, seconds: u64) {
        let opening = events.opening();
        if self.names.is_empty() && !opening.tags.is_empty() {
            self.names = names(opening.tags.iter().map(|t| t.tag.as_str()));
        }
        let mut bits = [false; 16];
        bits[ONLINE] = events.closing().is_none();
        (bits[VALID], bits[OVERRUN], bits[ERROR]) = (self.valid, self.overrun, self.error);
        bits[PASS] = self.shown.action == 1;
        (bits[BUFFERING], bits[BEAT]) = (self.coils[BUFFER], seconds % 2 == 1);
        self.bits = bits;
        let f = events.counters().figures();
        let packed = bits.iter().rev().fold(0, |word, bit| word << 1 | *bit as u16);
        let [lost, faults] = [self.lost, f.faults.iter().sum::<u64>() as u32].map(halves);
        let hash = u32::from_str_radix(events.bundle().sha256.get(..8).unwrap_or("0"), 16).map_or([0; 2], halves);
        let waiting = (self.waiting.len() + self.valid as usize) as u16;
        let inner = [VERSION, seconds as u16, packed, waiting, lost[0], lost[1], opening.tags.len() as u16, self.fault];
        self.status.show(&[inner.as_slice(), &faults, &hash].concat());
        let counters = [
            f.triggers,
            f.parts,
            f.accept,
            f.reject,
            f.review,
            f.safe,
            f.unknown,
            f.foreign,
            f.late,
            f.given_up,
            f.too_close,
            f.missed_triggers,
            f.edges,
            f.edges_failed,
        ];
        let words: Vec<u16> = counters.iter().flat_map(|n| halves(*n as u32)).collect();
        self.counters.show(&words);
        let Outcome { part, verdict, action, tag, score, best, late, age_ms, held, trigger_ms } = self.shown;
        let [part, trigger_ms] = [part, trigger_ms].map(halves);
        let inner = [part[0], part[1], verdict, action, tag, score, best, late as u16, age_ms, held];
        self.result.show(&[inner.as_slice(), &trigger_ms, &[self.results]].concat());
    }
}

impl Registers for Map {
    fn bits(&self, coils: bool, at: u16, count: u16) -> Option<Vec<bool>> {
        let bits: &[bool] = if coils { &self.coils[..self.offered] } else { &self.bits };
        bits.get(at as usize..at as usize + count as usize).map(<[bool]>::to_vec)
    }

    fn words(&self, at: u16, count: u16) -> Option<Vec<u16>> {
        let blocks = [&self.status, &self.counters, &self.result].into_iter().flat_map(|b| b.words.iter().copied());
        if let (Some(recipes), Some(at)) = (&self.recipes, at.checked_sub(RECIPE).filter(|at| *at < 2)) {
            return recipes.get(at as usize..at as usize + count as usize).map(<[u16]>::to_vec);
        }
        let (at, count) = (at as usize, count as usize);
        match at.checked_sub(NAMES.0 as usize) {
            None => {
                let words: Vec<u16> = blocks.skip(at).take(count).collect();
                (words.len() == count).then_some(words)
            }
            Some(at) => self.names.get(at..at + count).map(<[u16]>::to_vec),
        }
    }

    fn write(&mut self, at: u16, bits: &[bool]) -> Result<(), Exception> {
        let end = at as usize + bits.len();
        if end > self.offered {
            return Err(Exception::Address);
        }
        (at as usize..end).zip(bits).for_each(|(coil, bit)| self.set(coil, *bit));
        Ok(())
    }

    fn write_words(&mut self, at: u16, words: &[u16]) -> Result<(), Exception> {
        let (Some([_, all]), RECIPE, [number]) = (self.recipes, at, words) else { return Err(Exception::Address) };
        if *number > all {
            return Err(Exception::Value);
        }
        self.wanted = Some(*number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Decision;
    use crate::fault::Reason;
    use crate::supervisor::SystemClock;

    fn part(number: u64) -> PartEvent {
        PartEvent {
            part: number,
            trigger: Default::default(),
            images: Default::default(),
            captured_at: Default::default(),
            top: Default::default(),
            decision: Decision::safe(Reason::NoFrame),
            action: None,
            late: false,
            counted: crate::decide::TagSet::EMPTY,
            age: Default::default(),
            latency: Default::default(),
            bundle: Default::default(),
            truth: None,
            right: None,
        }
    }

    /// Part, valid bit and both sequence numbers as a PLC reads them.
    fn shown(map: &mut Map) -> (u32, bool, u16) {
        map.refresh(&Events::kept(Arc::new(SystemClock)), 0);
        let words = map.words(RESULT.0, RESULT.1 as u16).unwrap();
        assert_eq!(words[0], words[15], "torn");
        ((words[1] as u32) << 16 | words[2] as u32, map.bits(false, VALID as u16, 1).unwrap()[0], words[0])
    }

    #[test]
    fn buffered_results_come_once_each_in_order_and_what_has_no_room_is_counted() {
        let mut map = Map::new(4, false, None);
        map.set(BUFFER, true);
        assert!(!shown(&mut map).1);
        (1..=6).for_each(|n| map.part(&part(n)));
        for n in 1..=4 {
            let (number, valid, sequence) = shown(&mut map);
            assert_eq!((number, valid), (n, true));
            // An acknowledgement that stays shows nothing new, however often it is read.
            map.set(ACK, true);
            map.set(ACK, true);
            assert_eq!(shown(&mut map), (n, false, sequence));
            map.set(ACK, false);
        }
        assert!(!shown(&mut map).1);
        assert_eq!((map.lost, map.overrun), (2, true));
        map.part(&part(70_007));
        assert_eq!(shown(&mut map).0, 70_007);
        assert!(!map.take_cleared());
        map.set(CLEAR, true);
        assert!(!map.overrun && map.lost == 2);
        assert!(map.take_cleared());
        map.set(CLEAR, true);
        assert!(!map.take_cleared(), "there was nothing left to clear");
    }

    /// They were gone, counted nowhere, and the oldest went on being shown.
    #[test]
    fn results_that_wait_as_buffering_ends_give_way_to_the_newest_and_are_counted() {
        let mut map = Map::new(8, false, None);
        map.set(BUFFER, true);
        (1..=6).for_each(|n| map.part(&part(n)));
        assert_eq!(shown(&mut map).0, 1);
        map.set(BUFFER, false);
        let (number, valid, sequence) = shown(&mut map);
        assert_eq!((number, valid, map.lost, map.overrun), (6, true, 4, true), "2 to 5 were never shown");
        map.set(BUFFER, false);
        assert_eq!((shown(&mut map), map.lost), ((6, true, sequence), 4));
        // With nothing that waits nothing is lost.
        let mut map = Map::new(8, false, None);
        map.set(BUFFER, true);
        map.part(&part(1));
        map.set(BUFFER, false);
        assert_eq!((shown(&mut map).0, map.lost, map.overrun), (1, 0, false));
    }

    #[test]
    fn without_buffering_the_newest_result_is_shown_and_none_counts_as_lost() {
        let mut map = Map::new(4, false, None);
        (1..=9).for_each(|n| map.part(&part(n)));
        assert_eq!(shown(&mut map).0, 9);
        assert_eq!((map.lost, map.overrun), (0, false));
        map.set(ACK, true);
        assert!(!shown(&mut map).1);
        // A new one is shown at once, acknowledged or not: only its newness is told.
        map.part(&part(10));
        assert_eq!((shown(&mut map).0, shown(&mut map).1), (10, true));
    }

    #[test]
    fn the_recipe_can_be_read_and_written_where_there_are_some() {
        let mut map = Map::new(4, false, None);
        assert!(map.words(100, 1).is_none() && map.write_words(100, &[0]) == Err(Exception::Address));
        let mut map = Map::new(4, false, Some([2, 3]));
        assert_eq!((map.words(100, 2), map.words(101, 1)), (Some(vec![2, 3]), Some(vec![3])));
        assert!(map.words(100, 3).is_none() && map.words(101, 2).is_none() && map.words(102, 1).is_none());
        for (at, words, expected) in [
            (100, [3].as_slice(), Ok(())),
            (100, &[0], Ok(())),
            (100, &[4], Err(Exception::Value)),
            (100, &[1, 3], Err(Exception::Address)),
            (101, &[3], Err(Exception::Address)),
            (0, &[0], Err(Exception::Address)),
        ] {
            assert_eq!(map.write_words(at, words), expected, "{at} {words:?}");
            assert_eq!(map.take_wanted(), expected.is_ok().then(|| words[0]));
            assert_eq!(map.take_wanted(), None);
        }
        assert_eq!(map.words(100, 1), Some(vec![2]), "until the line goes by another");
    }

    #[test]
    fn faults_have_the_numbers_that_the_map_states() {
        let stated =
            include_str!("../MODBUS.md").split("Kinds of faults: ").nth(1).and_then(|t| t.split('.').next()).unwrap();
        let all = crate::events::FaultKind::ALL;
        assert!(all.iter().all(|kind| KINDS.contains(&kind.name())) && all.len() == KINDS.len(), "a kind has no number");
        let kinds = KINDS.iter().enumerate().map(|(i, kind)| format!("{} {kind}", i + 1));
        let stated: Vec<String> = stated.split(',').map(|k| k.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(stated, kinds.collect::<Vec<_>>());
        let mut map = Map::new(4, false, None);
        let fault =
            |kind| FaultEvent { kind, part: None, count: 1, remedy: crate::events::Remedy::Told, why: Default::default() };
        map.fault(&fault(crate::events::FaultKind::Sink));
        assert!(!shown(&mut map).1);
        assert_eq!((map.words(8, 1).unwrap(), map.bits(false, ERROR as u16, 1).unwrap()), (vec![22], vec![true]));
        map.set(CLEAR, true);
        assert!(!shown(&mut map).1);
        assert_eq!((map.words(8, 1).unwrap(), map.bits(false, ERROR as u16, 1).unwrap()), (vec![0], vec![false]));
    }

    #[test]
    fn every_register_of_the_map_is_there_and_none_beside_it() {
        let mut map = Map::new(4, false, None);
        map.names = names(["bolt", "é".repeat(20).as_str()].into_iter());
        for (at, count, there) in [(0, 64, true), (0, 65, false), (63, 1, true), (64, 1, false), (999, 2, false)] {
            assert_eq!(map.words(at, count).is_some(), there, "{at} {count}");
        }
        assert_eq!(map.words(1000, 3).unwrap(), [0x626f, 0x6c74, 0]);
        // Sixteen letters of two bytes; the rest is cut.
        assert_eq!(map.words(1016, 16).unwrap(), [0xc3a9; 16]);
        assert!(map.words(1016, 17).is_none() && map.bits(true, 0, 4).is_none() && map.bits(false, 0, 16).is_some());
        assert_eq!(map.write(2, &[true, true]), Err(Exception::Address));
        assert!(!map.coils[CLEAR], "a write that leaves the map writes nothing");
    }
}
