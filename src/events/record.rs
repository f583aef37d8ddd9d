//! Events as they are written: names in place of numbers, in the words of `EVENTS.md`.

use super::run::{Closing, Opening, SinkRecord};
use super::{
    Event, Events, FaultKind, Figures, MAX_IMAGES, Outcome, PartEvent, RecipeEvent, RuleEvent, SCHEMA, Switch, TOP, Update,
    UpdateEvent, What,
};
use crate::bundle::Hex;
use crate::decide::Verdict;
use crate::head::{Score, TagId};
use crate::outputs::State;
use serde::Serialize;
use std::collections::BTreeMap;

/// One line of the log.
#[derive(Serialize)]
pub struct Record<'a> {
    schema: u32,
    event: &'static str,
    run: &'a str,
    at: u64,
    wall: Option<u64>,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Start(&'a Opening),
    Trigger(TriggerRecord),
    Part(Box<PartRecord<'a>>),
    Edge(EdgeRecord<'a>),
    Fault(FaultRecord<'a>),
    Rule(RuleRecord<'a>),
    Update(UpdateRecord<'a>),
    Recipe(RecipeRecord<'a>),
    Status(Box<StatusRecord>),
    Summary(Box<SummaryRecord<'a>>),
    Note(NoteRecord<'a>),
}

#[derive(Serialize)]
struct TriggerRecord {
    part: u64,
    trigger: u64,
    position: i64,
    touching: bool,
}

#[derive(Serialize)]
struct ImageRecord {
    captured_at: u64,
    time: &'static str,
    uncertainty: Option<u64>,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

#[derive(Serialize)]
struct ScoreRecord<'a> {
    tag: &'a str,
    score: f64,
    score_raw: u16,
}

#[derive(Serialize)]
struct LatencyRecord {
    preprocess: u64,
    infer: u64,
    total: u64,
}

#[derive(Serialize)]
struct PartRecord<'a> {
    part: u64,
    trigger: u64,
    frames: usize,
    captured_at: u64,
    images: heapless::Vec<ImageRecord, MAX_IMAGES>,
    tag: Option<&'a str>,
    score: Option<f64>,
    score_raw: Option<u16>,
    top: heapless::Vec<ScoreRecord<'a>, TOP>,
    verdict: &'static str,
    held: Vec<&'a str>,
    band: Vec<&'a str>,
    action: &'static str,
    reason: Option<&'static str>,
    late: bool,
    bundle_sha256: String,
    age: u64,
    latency: LatencyRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<&'static str>,
}

#[derive(Serialize)]
struct EdgeRecord<'a> {
    part: u64,
    output: &'a str,
    /// The same under its name of schema 1.
    line: &'a str,
    state: State,
    scheduled: u64,
    done: u64,
    outcome: Outcome,
}

#[derive(Serialize)]
struct FaultRecord<'a> {
    kind: &'static str,
    part: Option<u64>,
    count: u64,
    action: &'static str,
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct RuleRecord<'a> {
    tag: &'a str,
    threshold: f64,
    review_low: f64,
    old_threshold: f64,
    old_review_low: f64,
    who: &'a str,
}

#[derive(Serialize)]
struct UpdateRecord<'a> {
    outcome: Update,
    bundle_sha256: Option<String>,
    before_sha256: String,
    running_sha256: String,
    from_part: Option<u64>,
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct RecipeRecord<'a> {
    outcome: Switch,
    old: Option<&'a str>,
    new: Option<&'a str>,
    who: &'a str,
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct NoteRecord<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Counts {
    triggers: u64,
    parts: u64,
    accept: u64,
    reject: u64,
    review: u64,
    unknown: u64,
    foreign: u64,
    safe: u64,
    late: u64,
    given_up: u64,
    too_close: u64,
    missed_triggers: u64,
    skipped_frames: u64,
    edges: u64,
    edges_failed: u64,
    dropped_events: u64,
    faults: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<Truth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrected: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_over: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Recorded>,
    sinks: Vec<SinkRecord>,
}

#[derive(Serialize)]
struct Recorded {
    frames: u64,
    lost: u64,
}

#[derive(Serialize)]
struct Truth {
    right: u64,
    wrong: u64,
}

#[derive(Serialize)]
struct StatusRecord {
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Middle {
    p50: u32,
    p99: u32,
}

#[derive(Serialize)]
struct Tail {
    p50: u32,
    p99: u32,
    p999: u32,
    max: u32,
}

#[derive(Serialize)]
struct SummaryRecord<'a> {
    #[serde(flatten)]
    counts: Counts,
    by_tag: BTreeMap<&'a str, u64>,
    latency: Middle,
    edge_jitter: Tail,
    #[serde(skip_serializing_if = "Option::is_none")]
    realtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_end: Vec<u64>,
    outputs_safe: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    outputs_unknown: &'a [String],
    ended: &'a str,
}

/// A probability to four digits.
pub fn probability(score: Score) -> f64 {
    (score.probability() as f64 * 1e4).round() / 1e4
}

/// Kinds of faults that were told, each with its count.
pub(super) fn faults(figures: &Figures) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    FaultKind::ALL.iter().zip(figures.faults).filter(|(_, n)| *n > 0).map(|(kind, n)| (kind.name(), n))
}

impl<'a> Record<'a> {
    /// The record of an event, with the names that `events` knows.
    pub fn new(events: &'a Events, event: &'a Event) -> Self {
        let (name, body) = match &event.what {
            What::Start => ("start", Body::Start(events.opening())),
            What::Trigger(t) => {
                let (part, trigger) = (t.part, t.trigger.as_micros());
                ("trigger", Body::Trigger(TriggerRecord { part, trigger, position: t.position, touching: t.touching }))
            }
            What::Part(part) => ("part", Body::Part(Box::new(PartRecord::new(events.opening(), part)))),
            What::Edge(e) => {
                let output = events.opening().output(e.output);
                let (scheduled, done) = (e.scheduled.as_micros(), e.done.as_micros());
                let (part, state, outcome) = (e.part, e.state, e.outcome);
                ("edge", Body::Edge(EdgeRecord { part, output, line: output, state, scheduled, done, outcome }))
            }
            What::Fault(f) => {
                let why = Some(f.why.as_str()).filter(|w| !w.is_empty());
                let (kind, action) = (f.kind.name(), f.remedy.name());
                ("fault", Body::Fault(FaultRecord { kind, part: f.part, count: f.count, action, why }))
            }
            What::Rule(rule) => ("rule", Body::Rule(RuleRecord::new(events.opening(), rule))),
            What::Update(update) => ("update", Body::Update(UpdateRecord::new(update))),
            What::Recipe(recipe) => ("recipe", Body::Recipe(RecipeRecord::new(recipe))),
            What::Status(figures) => {
                ("status", Body::Status(Box::new(StatusRecord { counts: Counts::new(events, figures) })))
            }
            What::Summary => ("summary", Body::Summary(Box::new(SummaryRecord::new(events)))),
            What::Note(text) => ("note", Body::Note(NoteRecord { text: text.as_str() })),
        };
        Self { schema: SCHEMA, event: name, run: events.run(), at: event.at.as_micros(), wall: event.wall, body }
    }
}

impl<'a> PartRecord<'a> {
    fn new(opening: &'a Opening, part: &PartEvent) -> Self {
        let names = |tags: &crate::decide::TagSet| tags.iter().map(|t| opening.tag(t)).collect();
        let decision = &part.decision;
        let best = part.top.first().map(|(_, score)| *score);
        let image = |i: &super::Image| ImageRecord {
            captured_at: i.captured_at.instant().as_micros(),
            time: i.captured_at.timed_by().name(),
            uncertainty: i.captured_at.uncertainty().map(|span| span.0),
            sequence: i.sequence,
            file: opening.file(i.sequence),
        };
        let score = |(tag, score): &(TagId, Score)| ScoreRecord {
            tag: opening.tag(*tag),
            score: probability(*score),
            score_raw: score.0,
        };
        Self {
            part: part.part,
            trigger: part.trigger.as_micros(),
            frames: part.images.len(),
            captured_at: part.captured_at.as_micros(),
            images: part.images.iter().map(image).collect(),
            tag: decision.tag.map(|t| opening.tag(t)),
            score: best.map(probability),
            score_raw: best.map(|s| s.0),
            top: part.top.iter().map(score).collect(),
            verdict: decision.verdict.name(),
            held: names(&decision.held),
            band: names(&decision.band),
            action: part.action.map_or("safe", crate::decide::Action::name),
            reason: if let Verdict::Safe(reason) = decision.verdict { Some(reason.name()) } else { None },
            late: part.late,
            bundle_sha256: Hex(&part.bundle).to_string(),
            age: part.age.0,
            latency: LatencyRecord {
                preprocess: part.latency.preprocess.0,
                infer: part.latency.infer.0,
                total: part.latency.total.0,
            },
            truth: part.truth.map(|kind| kind.name()),
        }
    }
}

impl<'a> RuleRecord<'a> {
    fn new(opening: &'a Opening, rule: &'a RuleEvent) -> Self {
        Self {
            tag: opening.tag(rule.tag),
            threshold: probability(rule.new.threshold),
            review_low: probability(rule.new.review_low),
            old_threshold: probability(rule.old.threshold),
            old_review_low: probability(rule.old.review_low),
            who: rule.who.as_str(),
        }
    }
}

impl<'a> UpdateRecord<'a> {
    fn new(update: &'a UpdateEvent) -> Self {
        Self {
            outcome: update.outcome,
            bundle_sha256: update.bundle.map(|hash| Hex(&hash).to_string()),
            before_sha256: Hex(&update.before).to_string(),
            running_sha256: Hex(&update.running).to_string(),
            from_part: update.from_part,
            why: Some(update.why.as_str()).filter(|why| !why.is_empty()),
        }
    }
}

impl<'a> RecipeRecord<'a> {
    fn new(recipe: &'a RecipeEvent) -> Self {
        let some = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        Self {
            outcome: recipe.outcome,
            old: some(&recipe.old),
            new: some(&recipe.new),
            who: recipe.who.as_str(),
            why: some(recipe.why.as_str()),
        }
    }
}

impl Counts {
    fn new(events: &Events, f: &Figures) -> Self {
        let [right, wrong] = f.truth;
        let [frames, lost] = f.recorded;
        let sinks = events.sinks();
        Self {
            triggers: f.triggers,
            parts: f.parts,
            accept: f.accept,
            reject: f.reject,
            review: f.review,
            unknown: f.unknown,
            foreign: f.foreign,
            safe: f.safe,
            late: f.late,
            given_up: f.given_up,
            too_close: f.too_close,
            missed_triggers: f.missed_triggers,
            skipped_frames: f.skipped_frames,
            edges: f.edges,
            edges_failed: f.edges_failed,
            dropped_events: sinks.iter().map(|s| s.lost).sum(),
            faults: faults(f).collect(),
            truth: (right + wrong > 0).then_some(Truth { right, wrong }),
            corrected: Some(f.corrected).filter(|n| *n > 0),
            passed_over: Some(f.passed_over).filter(|n| *n > 0),
            recorded: (frames + lost > 0).then_some(Recorded { frames, lost }),
            sinks,
        }
    }
}

impl<'a> SummaryRecord<'a> {
    fn new(events: &'a Events) -> Self {
        const NOT_CLOSED: &Closing = &Closing {
            ended: String::new(),
            outputs_unknown: Vec::new(),
            latency: [0; 2],
            edge_jitter: [0; 4],
            realtime: None,
        };
        let closing = events.closing().unwrap_or(NOT_CLOSED);
        let [p50, p99] = closing.latency;
        let [j50, j99, j999, max] = closing.edge_jitter;
        let names = events.opening().tags.iter().map(|t| t.tag.as_str());
        Self {
            counts: Counts::new(events, &events.counters().figures()),
            by_tag: names.zip(events.counters().by_tag()).filter(|(_, n)| *n > 0).collect(),
            latency: Middle { p50, p99 },
            edge_jitter: Tail { p50: j50, p99: j99, p999: j999, max },
            realtime: closing.realtime.as_deref(),
            without_end: events.counters().without_end(),
            outputs_safe: events.closing().is_some() && closing.outputs_unknown.is_empty(),
            outputs_unknown: &closing.outputs_unknown,
            ended: &closing.ended,
        }
    }
}
