//! Figures for Prometheus, in its text format 0.0.4: every counter of the run, histograms of times,
//! and what runs.
//!
//! Counters are read from [`Events`] when somebody asks. Histograms are kept by a sink of its own,
//! from the events that it is told. No part's number is a label.

use crate::events::sinks::Sink;
use crate::events::{Event, Events, FaultKind, Outcome, What};
use crate::ring::Kind;
use crate::site::access::Access;
use crate::site::http::{Body, Handler, Request, Response};
use crate::site::keep;
use crate::time::Micros;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets, in microseconds.
const BOUNDS: [u64; 14] =
    [100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000];

/// How often a time fell into each bucket, and their sum.
#[derive(Debug, Default)]
struct Histogram {
    /// One a bound, not cumulative, and one for what is above them all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    fn add(&self, span: Micros) {
        let at = BOUNDS.partition_point(|bound| *bound < span.0);
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(span.0, Relaxed);
    }

    /// Its lines. `labels`: none, or pairs that end in a comma.
    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|b| seconds(*b)).chain(["+Inf".into()]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            count += bucket.load(Relaxed);
            line(out, format_args!("{name}_bucket{{{labels}le=\"{bound}\"}} {count}"));
        }
        let labels = labels.trim_end_matches(',');
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        line(out, format_args!("{name}_sum{braces} {}", seconds(self.sum.load(Relaxed))));
        line(out, format_args!("{name}_count{braces} {count}"));
    }
}

/// Times of stages and edges, as a sink counts them.
#[derive(Debug, Default)]
pub struct Histograms {
    preprocess: Histogram,
    infer: Histogram,
    total: Histogram,
    age: Histogram,
    edge: Histogram,
}

/// Whether the histograms have a use for it.
pub fn wants(what: &What) -> bool {
    matches!(what, What::Part(_) | What::Edge(_))
}

/// The sink that fills [`Histograms`].
pub struct Collector(pub Arc<Histograms>);

impl Sink for Collector {
    fn write(&mut self, _: &Events, event: &Event) -> std::io::Result<()> {
        let times = &self.0;
        match &event.what {
            // A part that had no image has no times.
            What::Part(part) if !part.top.is_empty() => {
                times.preprocess.add(part.latency.preprocess);
                times.infer.add(part.latency.infer);
                times.total.add(part.latency.total);
                times.age.add(part.age);
            }
            What::Edge(edge) if edge.outcome == Outcome::Done => times.edge.add(edge.done.since(edge.scheduled)),
            _ => {}
        }
        Ok(())
    }
}

fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A label's value.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

/// A counter without labels.
fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, "counter", help);
    line(out, format_args!("{name} {value}"));
}

/// A counter with one label.
fn counters<'a>(out: &mut String, name: &str, help: &str, key: &str, values: impl IntoIterator<Item = (&'a str, u64)>) {
    head(out, name, "counter", help);
    for (value, count) in values {
        line(out, format_args!("{name}{{{key}=\"{}\"}} {count}", label(value)));
    }
}

/// All figures now.
pub fn text(events: &Events, times: &Histograms, kept: Option<&keep::Figures>) -> String {
    let mut out = String::new();
    let out = &mut out;
    let o = events.opening();
    head(out, "tagpin_build_info", "gauge", "The program and its board.");
    let board = label(o.device.board.as_deref().unwrap_or(""));
    line(out, format_args!("tagpin_build_info{{version=\"{}\",kernels=\"{}\",board=\"{board}\"}} 1", o.version, o.kernel));
    head(out, "tagpin_bundle_info", "gauge", "The bundle in use.");
    let b = events.bundle();
    let name = label(&b.name);
    line(
        out,
        format_args!(
            "tagpin_bundle_info{{name=\"{name}\",sha256=\"{}\",format=\"{}\",task=\"{}\"}} 1",
            b.sha256, b.format, b.task
        ),
    );

    let f = events.counters().figures();
    counter(out, "tagpin_triggers_total", "Parts that were triggered.", f.triggers);
    let actions = [("accept", f.accept), ("reject", f.reject), ("review", f.review), ("safe", f.safe)];
    counters(
        out,
        "tagpin_parts_total",
        "Parts that had their end, by action; safe: without a verdict, whatever the gate did.",
        "action",
        actions,
    );
    counter(out, "tagpin_parts_unknown_total", "Parts that no tag was sure of.", f.unknown);
    counter(out, "tagpin_parts_foreign_total", "Parts that are none of what the model was trained on.", f.foreign);
    counter(out, "tagpin_parts_given_up_total", "Parts whose gates were given up by a safe line.", f.given_up);
    let tags = o.tags.iter().map(|t| t.tag.as_str()).zip(events.counters().by_tag());
    counters(out, "tagpin_tag_parts_total", "Parts that count for a tag.", "tag", tags);
    counter(out, "tagpin_triggers_too_close_total", "Triggers too close behind another.", f.too_close);
    counter(out, "tagpin_triggers_missed_total", "Triggers that no image was taken for.", f.missed_triggers);
    counter(out, "tagpin_frames_skipped_total", "Frames that came while an older one was waiting.", f.skipped_frames);
    counter(
        out,
        "tagpin_inferences_total",
        "Inferences that came to their end.",
        events.counters().inferences_done.load(Relaxed),
    );
    let edges = [("done", f.edges), ("failed", f.edges_failed)];
    counters(out, "tagpin_edges_total", "Changes of output lines.", "outcome", edges);
    let faults = FaultKind::ALL.iter().map(|kind| kind.name()).zip(f.faults);
    counters(out, "tagpin_faults_total", "Faults by kind.", "kind", faults);
    let [right, wrong] = f.truth;
    if right + wrong > 0 {
        let truth = [("right", right), ("wrong", wrong)];
        counters(out, "tagpin_simulated_parts_total", "Parts by whether the simulator agrees.", "verdict", truth);
    }
    // Sinks of one kind have one name: a file of edges each.
    let mut sinks = BTreeMap::<&str, [u64; 3]>::new();
    for s in events.sinks() {
        let sum = sinks.entry(s.sink).or_default();
        *sum = [sum[0] + s.written, sum[1] + s.lost, sum[2] + s.restarts];
    }
    let of = |i: usize| sinks.iter().map(move |(name, sum)| (*name, sum[i]));
    counters(out, "tagpin_sink_written_total", "Events that a sink has written.", "sink", of(0));
    counters(out, "tagpin_sink_lost_total", "Events that a sink could not take or write.", "sink", of(1));
    counters(out, "tagpin_sink_restarts_total", "How often a sink was started again.", "sink", of(2));
    if let Some(kept) = kept {
        let by_kind = Kind::ALL.iter().zip(&kept.kept).map(|(kind, n)| (kind.name(), n.load(Relaxed)));
        counters(out, "tagpin_keep_images_total", "Images of parts that were kept.", "kind", by_kind);
        let lost = keep::Lost::ALL.iter().zip(&kept.lost).map(|(lost, n)| (lost.name(), n.load(Relaxed)));
        counters(
            out,
            "tagpin_keep_lost_total",
            "Images that should have been kept, by what was in the way.",
            "reason",
            lost,
        );
        for (name, help, value) in [
            ("tagpin_keep_held_images", "Images in the folder.", &kept.images),
            ("tagpin_keep_held_bytes", "Bytes that they take.", &kept.bytes),
        ] {
            head(out, name, "gauge", help);
            line(out, format_args!("{name} {}", value.load(Relaxed)));
        }
    }

    let name = "tagpin_stage_duration_seconds";
    head(out, name, "histogram", "Time of each stage of a part's last image; total: from capture to scores.");
    for (stage, times) in [("preprocess", &times.preprocess), ("infer", &times.infer), ("total", &times.total)] {
        times.write(out, name, &format!("stage=\"{stage}\","));
    }
    let name = "tagpin_image_age_seconds";
    head(out, name, "histogram", "Age of a part's last image when it was decided.");
    times.age.write(out, name, "");
    let name = "tagpin_edge_late_seconds";
    head(out, name, "histogram", "Time from an edge's due moment until it was done.");
    times.edge.write(out, name, "");
    std::mem::take(out)
}

/// Answers `GET /metrics`.
pub struct Metrics {
    /// The run.
    pub events: Arc<Events>,
    /// Its times.
    pub times: Arc<Histograms>,
    /// Images that are kept, where some are.
    pub kept: Option<Arc<keep::Figures>>,
    /// Who may ask.
    pub access: Access,
}

impl Handler for Metrics {
    fn answer(&self, request: &Request, _: &mut Body<'_>) -> Response {
        if let Err(barred) = self.access.admit(request) {
            return barred.response();
        }
        match (request.method.as_str(), request.segments().as_slice()) {
            ("GET" | "HEAD", ["metrics"]) => Response::new(
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                text(&self.events, &self.times, self.kept.as_deref()),
            ),
            (_, ["metrics"]) => Response::text(405, "expected GET").with("Allow", "GET"),
            _ => Response::text(404, "the figures are at /metrics"),
        }
    }
}
