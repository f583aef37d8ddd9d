//! Drawn events are what `events.schema.json` states, whatever names and values they hold.

use super::schema;
use super::*;
use crate::decide::{TagRule, TagSet, Verdict};
use crate::events::record::Record;
use crate::events::run::{BundleRecord, Closing, Opening, OutputRecord, TagRecord};
use crate::frame::TimedBy;
use crate::random::{Random, drawn_cases};
use serde_json::Value;
use std::path::PathBuf;

/// Names as hostile as a settings file, a bundle or a folder may hold them.
const NAMES: [&str; 8] = [
    "gear",
    "",
    "a\"b\\",
    "line\nbreak\r\t",
    "\u{1b}[2J\u{7}\u{0}",
    "\u{6b6f}\u{8eca}",
    "\u{202e}txt.exe",
    "\u{1f600}\u{ffff}",
];

const REASONS: [Reason; 15] = [
    Reason::NoFrame,
    Reason::Frozen,
    Reason::Stale,
    Reason::Truncated,
    Reason::Corrupt,
    Reason::FormatChanged,
    Reason::SourceGone,
    Reason::Engine,
    Reason::Output,
    Reason::MissedBeat,
    Reason::TooClose,
    Reason::Overflow,
    Reason::Trigger,
    Reason::Panic,
    Reason::Stopped,
];

struct Draw(Random);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next() % n as u64) as usize
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Small, large and largest numbers.
    fn number(&mut self) -> u64 {
        let n = self.0.next();
        match self.below(4) {
            0 => n % 3,
            1 => u64::MAX,
            _ => n >> self.below(64),
        }
    }

    fn instant(&mut self) -> Instant {
        Instant::from_micros(self.number())
    }

    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| draw(self))
    }

    fn tags(&mut self) -> TagSet {
        (0..self.below(4)).fold(TagSet::EMPTY, |set, _| set.union(&TagSet::of(TagId(self.below(9) as u16))))
    }

    fn why(&mut self) -> Why {
        let (a, b) = (self.of(&NAMES), self.of(&NAMES).repeat(self.below(90)));
        Why::of(&format_args!("{a}{b}"))
    }

    fn opening(&mut self) -> Opening {
        let name = |d: &mut Self| d.of(&NAMES).to_string();
        let sha256 = "0f".repeat(32);
        let time = self.of(&TimedBy::ALL).name();
        let mut opening = Opening { source: name(self), time, bundle_sha256: sha256.clone(), ..Opening::default() };
        opening.device.board = self.maybe(name);
        opening.automatic = ["exposure", "white_balance"].into_iter().filter(|_| self.below(2) == 0).collect();
        let task = self.of(&["multiclass", "multilabel"]);
        opening.bundle = BundleRecord { name: name(self), sha256, format: 2, task };
        for _ in 0..self.below(9) {
            let role = self.of(&crate::decide::Role::ALL);
            let (threshold, review_low) = (self.below(10_001) as f64 / 1e4, self.below(10_001) as f64 / 1e4);
            opening.tags.push(TagRecord { tag: name(self), role, action: role.action().name(), threshold, review_low });
        }
        for _ in 0..self.below(6) {
            opening.outputs.push(OutputRecord {
                output: name(self),
                backend: self.of(&["simulated", "gpiochip", "rppal", "events"]),
                place: name(self),
                mode: self.of(&["level", "pulse", "latched", "trigger", "busy", "ready", "fault", "heartbeat"]),
                width: self.maybe(Self::number),
                delay: self.maybe(Self::number),
                delay_counts: self.maybe(|d| d.number() as u32),
                safe: self.of(&[State::Active, State::Inactive]),
            });
        }
        opening.files = self.maybe(|d| NAMES.iter().map(PathBuf::from).skip(d.below(9)).collect());
        opening
    }

    fn part(&mut self) -> PartEvent {
        let verdict = match self.below(5) {
            0 => Verdict::Present,
            1 => Verdict::Review,
            2 => Verdict::Unknown,
            3 => Verdict::Foreign,
            _ => Verdict::Safe(self.of(&REASONS)),
        };
        let action = self.maybe(|d| d.of(&Action::ALL));
        let tag = self.maybe(|d| TagId(d.below(12) as u16));
        let decision = Decision { verdict, action, tag, held: self.tags(), band: self.tags(), own: crate::MAX_TAGS as u16 };
        let image = |d: &mut Self| {
            let (at, span, by) = (d.instant(), Micros(d.number()), d.of(&TimedBy::ALL));
            let captured_at = d.of(&[
                CapturedAt::Exposure { at, uncertainty: span, by },
                CapturedAt::Arrival { at, latency: span, by },
                CapturedAt::Unknown { at },
            ]);
            Image { captured_at, sequence: d.number() }
        };
        let score = |d: &mut Self| (TagId(d.below(12) as u16), Score(d.number() as u16));
        PartEvent {
            part: self.number(),
            trigger: self.instant(),
            images: (0..self.below(MAX_IMAGES + 1)).map(|_| image(self)).collect(),
            captured_at: self.instant(),
            top: (0..self.below(TOP + 1)).map(|_| score(self)).collect(),
            decision,
            action: self.maybe(|d| d.of(&Action::ALL)),
            late: self.below(2) == 0,
            counted: self.tags(),
            age: Micros(self.number()),
            latency: Latency { preprocess: Micros(self.number()), infer: Micros(7), total: Micros(self.number()) },
            bundle: [self.below(256) as u8; 32],
            truth: self.maybe(|d| d.of(&Kind::ALL)),
            right: self.maybe(|d| d.below(2) == 0),
        }
    }

    fn what(&mut self, events: &Events) -> What {
        match self.below(11) {
            0 => What::Start,
            1 => {
                let (position, touching) = (self.number() as i64, self.below(2) == 0);
                What::Trigger(TriggerEvent { part: self.number(), trigger: self.instant(), position, touching })
            }
            2 => What::Part(self.part()),
            3 => What::Edge(EdgeEvent {
                part: self.number(),
                output: self.below(8) as u8,
                state: self.of(&[State::Active, State::Inactive]),
                scheduled: self.instant(),
                done: self.instant(),
                outcome: self.of(&[Outcome::Done, Outcome::Cut, Outcome::Failed]),
            }),
            4 => What::Fault(FaultEvent {
                kind: self.of(&FaultKind::ALL),
                part: self.maybe(Self::number),
                count: self.number().max(1),
                remedy: self.of(&[Remedy::Safe, Remedy::Told, Remedy::Action(Action::Reject)]),
                why: self.why(),
            }),
            5 => What::Status(events.counters().figures()),
            6 => What::Summary,
            7 => {
                let rule = |threshold, review_low| TagRule { threshold: Score(threshold), review_low: Score(review_low) };
                let tag = TagId(self.below(4) as u16);
                What::Rule(RuleEvent { tag, old: rule(65535, 0), new: rule(self.below(65536) as u16, 7), who: self.why() })
            }
            8 => What::Update(UpdateEvent {
                outcome: self.of(&Update::ALL),
                bundle: self.maybe(|d| [d.below(256) as u8; 32]),
                before: [self.below(256) as u8; 32],
                running: [self.below(256) as u8; 32],
                from_part: self.maybe(Self::number),
                why: self.why(),
            }),
            9 => What::Recipe(RecipeEvent {
                outcome: self.of(&Switch::ALL),
                old: RecipeName::try_from(["", "small", "é \"x\""][self.below(3)]).unwrap(),
                new: RecipeName::try_from(["", "large"][self.below(2)]).unwrap(),
                who: self.why(),
                why: self.why(),
            }),
            _ => What::Note(self.why()),
        }
    }
}

/// The same event with one thing wrong that a reader would stumble over.
fn spoil(draw: &mut Draw, value: &Value) -> Value {
    let mut bad = value.clone();
    let map = bad.as_object_mut().unwrap();
    let head = ["schema", "event", "run", "at"];
    let key = draw.of(&head).to_string();
    match draw.below(3) {
        0 => drop(map.remove(&key)),
        1 => drop(map.insert(key, Value::from(-1))),
        _ => drop(map.insert("not_in_the_schema".into(), Value::from(1))),
    }
    bad
}

#[test]
fn drawn_events_are_what_the_schema_states() {
    let (seed, cases) = drawn_cases(10_000);
    let schema: Value = serde_json::from_str(include_str!("../events.schema.json")).unwrap();
    let mut draw = Draw(Random::new(seed, 0xe7e2));
    let mut names = std::collections::BTreeMap::<String, u64>::new();
    let mut events = Events::kept(still());
    for case in 0..cases {
        if case % 50 == 0 {
            events = Events::with(still(), draw.opening(), std::vec::Vec::new());
            if draw.below(2) == 0 {
                let ended = draw.of(&NAMES).into();
                let realtime = draw.maybe(|d| d.of(&NAMES).into());
                let outputs_unknown = (0..draw.below(3)).map(|_| draw.of(&NAMES).into()).collect();
                events.close(Closing {
                    ended,
                    realtime,
                    outputs_unknown,
                    latency: [1, u32::MAX],
                    edge_jitter: [0, 1, 2, u32::MAX],
                });
            }
        }
        let what = draw.what(&events);
        events.tell(what.clone());
        let event = Event { at: draw.instant(), wall: draw.maybe(Draw::number), what };
        let line = serde_json::to_string(&Record::new(&events, &event)).unwrap();
        assert!(!line.contains(|c: char| c.is_control()), "case {case}: {line}");
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("case {case}: {e}: {line}"));
        schema::event(&schema, &value).unwrap_or_else(|e| panic!("case {case}: {e}: {line}"));
        let bad = spoil(&mut draw, &value);
        assert!(schema::event(&schema, &bad).is_err(), "case {case}: nothing was wrong with {bad}");
        *names.entry(value["event"].as_str().unwrap().into()).or_default() += 1;
        if let What::Edge(edge) = &event.what {
            let name = events.opening().outputs.get(edge.output as usize).map_or("?", |o| &o.output);
            assert_eq!(value["output"].as_str(), Some(name), "a name comes out as it went in");
        }
    }
    assert!(cases < 1000 || names.len() == 11, "{names:?}");
}
