//! Bytes as what a PLC sends over one connection of Modbus TCP, in drawn pieces. The last byte
//! draws them, and says whether this PLC may write and whether the line has triggers and recipes.
//!
//! Every answer is, byte for byte, what a second reading of the specification and of `MODBUS.md`
//! says, with coils and registers of its own: who may not write gets exception 1, and what the
//! next PLC reads is what those who may have written. Behind what is no Modbus nothing is answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tagpin::decide::{Decision, TagSet};
use tagpin::events::sinks::Sink;
use tagpin::events::{Event, Events, PartEvent, What};
use tagpin::fault::Reason;
use tagpin::settings::{ModelTags, Settings};
use tagpin::site::modbus::{Filler, Registers, Served, Triggering, Writers};
use tagpin::site::recipes::Recipes;
use tagpin::supervisor::SystemClock;
use tagpin::triggers::Posts;
use tagpin_fuzz::{SENT, answered, within};

/// Most memory: a read of the socket, what it is moved to, and the map.
const MEMORY: usize = 512 << 10;
/// Number of the part that is shown.
const PART: u64 = 0x1_2345_6789;
/// Triggers that wait at most.
const WAITING: usize = 64;

static EVENTS: LazyLock<Events> = LazyLock::new(|| Events::kept(Arc::new(SystemClock)));
static RECIPES: LazyLock<Recipes> = LazyLock::new(|| {
    let text = "[state]\nfolder = \"/nowhere\"\n[recipes.a]\n[recipes.b]\n[recipes.c]\n";
    let model = ModelTags { names: &[], rules: &[], roles: &[], categories: None };
    let settings = Settings::parse(text, "fuzz", model).expect("three recipes");
    Recipes::of(&settings).expect("a folder and recipes")
});

/// What the line has, and what the model knows of it.
struct Line {
    writes: bool,
    triggers: bool,
    recipes: bool,
    coils: [bool; 4],
    /// The part that is shown was not acknowledged.
    is_new: bool,
    waiting: usize,
}

/// A byte of an answer, and which of its bits are known.
type Known = (u8, u8);

fn known(bytes: &[u8]) -> Vec<Known> {
    bytes.iter().map(|byte| (*byte, 0xff)).collect()
}

/// Bits as the specification packs them: the first is the lowest of the first byte.
fn packed(function: u8, bits: &[(bool, bool)]) -> Vec<Known> {
    let mut answer = known(&[function, bits.len().div_ceil(8) as u8]);
    for (i, (bit, is_known)) in bits.iter().enumerate() {
        if i % 8 == 0 {
            answer.push((0, 0xff));
        }
        let byte = answer.last_mut().expect("one was put there");
        byte.0 |= (*bit as u8) << (i % 8);
        byte.1 &= !((!*is_known as u8) << (i % 8));
    }
    answer
}

impl Line {
    fn offered(&self) -> usize {
        if self.triggers { 4 } else { 3 }
    }

    /// Status bits and whether each is known: the line runs, the heartbeat beats.
    fn status(&self) -> [(bool, bool); 16] {
        let mut bits = [(false, true); 16];
        bits[0].0 = true;
        bits[1].0 = self.is_new;
        bits[5].0 = self.coils[1];
        bits[6].1 = false;
        bits
    }

    /// A register's value and its known bits, `None` where there is none.
    fn register(&self, at: u32) -> Option<(u16, u16)> {
        let value = match at {
            // Numbers of blocks, and seconds.
            0 | 15 | 2 | 16 | 47 | 48 | 63 => return Some((0, 0)),
            1 => 1,
            3 => {
                let bits = self.status();
                let word = |of: &dyn Fn((bool, bool)) -> bool| (0..16).fold(0, |w, i| w | (of(bits[i]) as u16) << i);
                return Some((word(&|bit| bit.0), word(&|bit| bit.1)));
            }
            4 => self.is_new as u16,
            49 => (PART >> 16) as u16,
            50 => PART as u16,
            51 => 5,
            61 => 1,
            0..64 => 0,
            100 if self.recipes => 0,
            101 if self.recipes => 3,
            _ => return None,
        };
        Some((value, 0xffff))
    }

    fn set(&mut self, coil: usize, to: bool) {
        if coil == 0 && to && !self.coils[0] {
            self.is_new = false;
        }
        self.coils[coil] = to;
    }

    /// Writes coils; what becomes of the trigger, where one of them is.
    fn write(&mut self, function: u8, data: &[u8], at: u16, bits: &[bool]) -> Vec<Known> {
        let at = at as usize;
        if at + bits.len() > self.offered() {
            return known(&[function | 0x80, 2]);
        }
        let was = self.coils[3];
        bits.iter().enumerate().for_each(|(i, bit)| self.set(at + i, *bit));
        if self.coils[3] && !was {
            if self.waiting == WAITING {
                self.coils[3] = false;
                return known(&[function | 0x80, 4]);
            }
            self.waiting += 1;
        }
        known(&[&[function], &data[..4]].concat())
    }

    fn answer(&mut self, request: &[u8]) -> Vec<Known> {
        let (function, data) = (request[0], &request[1..]);
        let refused = |exception: u8| known(&[function | 0x80, exception]);
        if !(1..=6).contains(&function) && function != 15 && function != 16 || function >= 5 && !self.writes {
            return refused(1);
        }
        if data.len() < 4 {
            return refused(3);
        }
        let [at, second] = [0, 2].map(|i| data[i] as u16 * 256 + data[i + 1] as u16);
        // Most that one request may name, and bytes behind the first four.
        let (most, more) = match function {
            1 | 2 => (2000, 0),
            3 | 4 => (125, 0),
            5 | 6 => (u16::MAX, 0),
            15 => (1968, 1 + (second as usize + 7) / 8),
            _ => (123, 1 + 2 * second as usize),
        };
        let is_counted = !matches!(function, 5 | 6);
        if data.len() != 4 + more || is_counted && (second == 0 || second > most) {
            return refused(3);
        }
        if function >= 15 && data[4] as usize != more - 1 {
            return refused(3);
        }
        match function {
            1 | 2 => {
                let coils: Vec<(bool, bool)> = self.coils[..self.offered()].iter().map(|bit| (*bit, true)).collect();
                let bits = if function == 1 { coils } else { self.status().to_vec() };
                let end = at as usize + second as usize;
                if end > bits.len() { refused(2) } else { packed(function, &bits[at as usize..end]) }
            }
            3 | 4 => {
                let all: Option<Vec<(u16, u16)>> =
                    (at as u32..at as u32 + second as u32).map(|register| self.register(register)).collect();
                let Some(all) = all else { return refused(2) };
                let mut answer = known(&[function, 2 * second as u8]);
                for (value, bits) in all {
                    answer.extend([((value >> 8) as u8, (bits >> 8) as u8), (value as u8, bits as u8)]);
                }
                answer
            }
            5 if second != 0 && second != 0xff00 => refused(3),
            5 => self.write(function, data, at, &[second != 0]),
            15 => {
                let bits: Vec<bool> = (0..second as usize).map(|i| data[5 + i / 8] & 1 << (i % 8) != 0).collect();
                self.write(function, data, at, &bits)
            }
            // Nobody keeps the choice here.
            _ => {
                let (count, number) =
                    if function == 6 { (1, second) } else { (second, data[5] as u16 * 256 + data[6] as u16) };
                match (self.recipes && at == 100 && count == 1, number <= 3) {
                    (false, _) => refused(2),
                    (true, false) => refused(3),
                    (true, true) => refused(4),
                }
            }
        }
    }

    /// Everything that is answered to `sent`.
    fn answers(&mut self, mut sent: &[u8]) -> Vec<Known> {
        let mut answers = Vec::new();
        while let [t1, t0, 0, 0, high, low, rest @ ..] = sent {
            let length = *high as usize * 256 + *low as usize;
            if length < 2 || length > 254 || rest.len() < length {
                break;
            }
            let answer = self.answer(&rest[1..length]);
            assert!(answer.len() <= 253, "the model's answer is too long");
            answers.extend(known(&[*t1, *t0, 0, 0, 0, answer.len() as u8 + 1, rest[0]]));
            answers.extend(answer);
            sent = &rest[length..];
        }
        answers
    }
}

fn part() -> What {
    What::Part(PartEvent {
        part: PART,
        trigger: Default::default(),
        images: Default::default(),
        captured_at: Default::default(),
        top: Default::default(),
        decision: Decision::safe(Reason::NoFrame),
        action: None,
        late: false,
        counted: TagSet::EMPTY,
        age: Default::default(),
        latency: Default::default(),
        bundle: Default::default(),
        truth: None,
        right: None,
    })
}

fn compare(found: &[u8], expected: &[Known]) {
    let is_as_known = |(found, (value, bits)): (&u8, &Known)| (found ^ value) & bits == 0;
    let at = found.iter().zip(expected).position(|pair| !is_as_known(pair));
    if at.is_some() || found.len() != expected.len() {
        panic!("at {at:?} the answers {found:02x?} are not {expected:02x?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((setting, sent)) = data.split_last() else { return };
    let sent = &sent[..sent.len().min(SENT)];
    let [writes, triggers, recipes] = [1, 2, 4].map(|bit| setting & bit != 0);
    let draw = (setting >> 3) as u64;
    let mut line = Line { writes, triggers, recipes, coils: [false; 4], is_new: true, waiting: 0 };
    // What is there once is no input's.
    LazyLock::force(&EVENTS);
    LazyLock::force(&RECIPES);
    let (found, served, begin) = within(MEMORY, || {
        let posts = Posts::default();
        let triggering = triggers.then(|| Triggering { posts, max_jitter: None });
        let registers = Registers::new(4, triggers, recipes.then(|| &*RECIPES));
        let shown = Event { at: Default::default(), wall: None, what: part() };
        Filler(registers.clone()).write(&EVENTS, &shown).expect("the map takes a part");
        let begin = Instant::now();
        let served = Served::new(registers, Writers { peers: Vec::new(), triggering, acknowledges: None, recipes: None });
        let found = answered(sent, draw, |stream| served.converse(stream, writes.then_some(0), &EVENTS, begin));
        (found, served, begin)
    });
    compare(&found, &line.answers(sent));
    // With the writer its trigger is gone.
    line.coils[3] = false;
    line.writes = false;
    let all = [0, 1, 0, 0, 0, 6, 9, 1, 0, 0, 0, line.offered() as u8, 0, 2, 0, 0, 0, 6, 9, 3, 0, 0, 0, 64];
    let found = answered(&all, 0, |stream| served.converse(stream, None, &EVENTS, begin));
    compare(&found, &line.answers(&all));
    // Behind head, function and length of the second answer: a block's number stands at both ends.
    let words = &found[found.len() - 128..];
    for (first, last) in [(0, 15), (16, 47), (48, 63)] {
        assert_eq!(words[2 * first..2 * first + 2], words[2 * last..2 * last + 2], "torn");
    }
});
