//! The table on standard output: one row a part, its edges below, the summary at the end; 80
//! columns.

use super::text::{cell, list, shown};
use super::{Sink, print};
use crate::decide::Action;
use crate::events::record::{faults, probability};
use crate::events::{EdgeEvent, Event, Events, FaultEvent, Outcome, PartEvent, What};
use crate::outputs::State;
use crate::time::{Instant, Micros};

/// Columns of the table.
const COLUMNS: usize = 80;
/// Columns of a tag's name.
const TAG: usize = 18;
/// Columns of an output's name below a part.
const OUTPUT: usize = 24;

/// A table for people.
#[derive(Default)]
pub struct Table {
    colour: bool,
    /// The first edge's due time: the table counts from it.
    origin: Option<Instant>,
}

fn ms(span: Micros) -> f64 {
    span.0 as f64 / 1000.0
}

fn us(span: u32) -> f64 {
    span as f64 / 1000.0
}

impl Table {
    /// A table; `colour`: with colours by escape sequences.
    pub fn new(colour: bool) -> Self {
        Self { colour, origin: None }
    }

    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m\n") } else { format!("{text}\n") }
    }

    fn start(&self, events: &Events) -> String {
        let o = events.opening();
        let bundle = o.bundle_sha256.get(..12).unwrap_or("?");
        let head = format!("tagpin {}  model {} ({bundle}...)  kernels {}", o.version, shown(&o.bundle.name, 24), o.kernel);
        let source = shown(&format!("source: {}", o.source), COLUMNS);
        let outputs: Vec<String> = o.outputs.iter().map(|o| format!("{} ({})", o.output, o.place)).collect();
        let outputs = if outputs.is_empty() { "outputs: none\n".into() } else { list("outputs:", &outputs, COLUMNS) };
        format!(
            "{}\n{source}\n{outputs}\n{:>6} {:<TAG$} {:>5} {:<7} {:<11} {:>8} {:>8}  {}\n",
            shown(&head, COLUMNS),
            "part",
            "tag",
            "score",
            "verdict",
            "action",
            "age ms",
            "infer ms",
            "truth"
        )
    }

    fn part(&self, events: &Events, part: &PartEvent) -> String {
        let opening = events.opening();
        let best = part.top.first();
        // The tag that names the verdict; what comes nearest stands in brackets.
        let tag = match (part.decision.tag, best) {
            (Some(tag), _) => opening.tag(tag).to_string(),
            (None, Some((tag, _))) => format!("({})", opening.tag(*tag)),
            (None, None) => "-".into(),
        };
        let score = best.map_or("-".into(), |(_, score)| format!("{:.3}", probability(*score)));
        let action = part.action.map_or("safe", Action::name);
        let action = if part.late { format!("{action} late") } else { action.into() };
        let truth = match part.right {
            Some(true) => "right",
            Some(false) => "WRONG",
            None => "",
        };
        let row = format!(
            "{:>6} {} {score:>5} {:<7} {action:<11} {:>8.1} {:>8.2}  {truth}",
            part.part,
            cell(&tag, TAG),
            part.decision.verdict.name(),
            ms(part.age).min(999_999.0),
            ms(part.latency.infer).min(99_999.0),
        );
        let colour = match part.action {
            Some(Action::Accept) => 32,
            Some(Action::Review) => 33,
            Some(Action::Reject) => 35,
            None => 31,
        };
        let mut text = self.paint(colour, row.trim_end());
        if let (Some(false), Some(truth)) = (part.right, part.truth) {
            text += &self.paint(31, &format!("{:>6}   the simulator showed {}", "", truth.name()));
        }
        text
    }

    fn edge(&mut self, events: &Events, edge: &EdgeEvent) -> String {
        let name = shown(events.opening().output(edge.output), OUTPUT);
        let whose = if edge.part == 0 { "no part".into() } else { format!("part {}", edge.part) };
        let word = match (edge.outcome, edge.state) {
            (Outcome::Done, State::Active) => "active",
            (Outcome::Done, State::Inactive) => "inactive",
            (Outcome::Cut, _) => "cut",
            (Outcome::Failed, _) => "FAILED",
        };
        let at = edge.done.since(*self.origin.get_or_insert(edge.scheduled)).0 as f64 / 1e6;
        let late = ms(edge.done.since(edge.scheduled));
        self.paint(90, &format!("{:>6}   {whose}: {name} {word} at {at:.3} s (+{late:.2} ms)", ""))
    }

    fn fault(&self, fault: &FaultEvent) -> String {
        let part = fault.part.map_or(String::new(), |part| format!("part {part}: "));
        let (kind, action) = (fault.kind.name(), fault.remedy.name());
        self.paint(31, &format!("{:>6}   {part}fault: {kind} ({} so far), {action}", "", fault.count))
    }

    fn summary(events: &Events) -> String {
        let f = events.counters().figures();
        let mut text = String::from("\n");
        let parts = [
            format!("{} accepted", f.accept),
            format!("{} rejected", f.reject),
            format!("{} for review", f.review),
            format!("{} not decided (safe)", f.safe),
            format!("{} unknown and {} foreign among them", f.unknown, f.foreign),
        ];
        text += &list(&format!("{} parts:", f.parts), &parts, COLUMNS);
        let names = events.opening().tags.iter().map(|t| &t.tag);
        let tags: Vec<String> =
            names.zip(events.counters().by_tag()).filter(|(_, n)| *n > 0).map(|(t, n)| format!("{t} {n}")).collect();
        if !tags.is_empty() {
            text += &list("by tag:", &tags, COLUMNS);
        }
        let [right, wrong] = f.truth;
        if right + wrong > 0 {
            let share = 100.0 * right as f64 / (right + wrong) as f64;
            text += &format!("against the simulator's truth: {right} right, {wrong} wrong ({share:.1} %)\n");
        }
        let Some(closing) = events.closing() else { return text };
        let [p50, p99] = closing.latency;
        text += &format!("latency from capture to scores: p50 {:.1} ms, p99 {:.1} ms\n", us(p50), us(p99));
        let [p50, p99, _, max] = closing.edge_jitter;
        text += &format!("edges late by: p50 {:.3} ms, p99 {:.3} ms, largest {:.3} ms\n", us(p50), us(p99), us(max));
        if let Some(realtime) = &closing.realtime {
            text += &list("outputs timed with", std::slice::from_ref(realtime), COLUMNS);
        }
        if f.late + f.given_up + f.too_close > 0 {
            let gate = [
                format!("{} parts without a verdict in time", f.late),
                format!("{} given up by a safe line", f.given_up),
                format!("{} triggers too close", f.too_close),
            ];
            text += &list("at the gate:", &gate, COLUMNS);
        }
        let mut troubles: Vec<String> = faults(&f).map(|(kind, n)| format!("{kind} {n}")).collect();
        if f.missed_triggers > 0 {
            troubles.push(format!("missed triggers {}", f.missed_triggers));
        }
        for sink in events.sinks().iter().filter(|s| s.lost > 0) {
            troubles.push(format!("events lost by {} {}", sink.sink, sink.lost));
        }
        if !troubles.is_empty() {
            text += &list("faults:", &troubles, COLUMNS);
        }
        if closing.outputs_unknown.is_empty() {
            text += &list("ended:", &[format!("{}; all outputs are in their safe state", closing.ended)], COLUMNS);
        } else {
            text += &list("ended:", std::slice::from_ref(&closing.ended), COLUMNS);
            text +=
                &list("NOT ALL OUTPUTS ARE KNOWN TO BE SAFE. Unknown is the state of:", &closing.outputs_unknown, COLUMNS);
        }
        text
    }
}

impl Table {
    /// Whether the table shows an event.
    pub fn wants(what: &What) -> bool {
        !matches!(
            what,
            What::Trigger(_) | What::Rule(_) | What::Update(_) | What::Recipe(_) | What::Status(_) | What::Note(_)
        )
    }
}

impl Sink for Table {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        let text = match &event.what {
            What::Start => self.start(events),
            What::Part(part) => self.part(events, part),
            What::Edge(edge) => self.edge(events, edge),
            What::Fault(fault) => self.fault(fault),
            What::Summary => Self::summary(events),
            What::Trigger(_) | What::Rule(_) | What::Update(_) | What::Recipe(_) | What::Status(_) | What::Note(_) => {
                return Ok(());
            }
        };
        print(text.as_bytes())
    }
}
