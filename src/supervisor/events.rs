//! What happened, as JSON lines or as a table: a bounded queue that nobody waits for, and the thread that writes it.
//!
//! Knows no source or output by name; it writes what it is told. Schema 1, times in microseconds of the monotonic clock.

use crate::decide::{Action, Verdict};
use crate::outputs::{RotatingFile, State};
use crate::station::PartDone;
use crate::supervisor::truth::Truth;
use crate::time::{Instant, Micros};
use heapless::Deque;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long each stage of a part's last frame took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Crop, resize, colour, table.
    pub preprocess: Micros,
    /// Engine and head.
    pub infer: Micros,
    /// From capture to verdict.
    pub total: Micros,
}

/// Something that happened; fixed size, so that reporting it allocates nothing on the line.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A part was decided.
    Part {
        /// Its end.
        done: PartDone,
        /// What the built-in conveyor knows it to be.
        truth: Option<Truth>,
        /// Age of its last frame when it was decided.
        age: Micros,
        /// How long its stages took.
        latency: Latency,
    },
    /// A line moved.
    Edge {
        /// The part that called for it; 0 for safety.
        part: u64,
        /// Index of the output.
        line: u8,
        /// Its new state.
        state: State,
        /// When it was due.
        scheduled: Instant,
        /// When it was done.
        done: Instant,
    },
    /// Something failed.
    Fault {
        /// What.
        kind: &'static str,
        /// So many times so far.
        count: u64,
        /// What was done about it.
        action: &'static str,
    },
}

const CAPACITY: usize = 256;

struct Queue {
    events: Deque<Event, CAPACITY>,
    /// The newest explanation of a fault, for people.
    why: Option<String>,
    closed: bool,
}

/// Events on their way to the reporter; what does not fit is dropped and counted.
pub struct EventQueue {
    queue: Mutex<Queue>,
    news: Condvar,
    dropped: AtomicU64,
}

impl Default for EventQueue {
    fn default() -> Self {
        let queue = Queue { events: Deque::new(), why: None, closed: false };
        Self { queue: Mutex::new(queue), news: Condvar::new(), dropped: AtomicU64::new(0) }
    }
}

impl EventQueue {
    /// Adds an event, or counts it as dropped.
    pub fn push(&self, event: Event) {
        let mut queue = self.queue.lock().expect("no thread panics while it holds this");
        if queue.events.push_back(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.news.notify_one();
    }

    /// Says why the last fault happened; only the newest reason is kept until it is written to standard error.
    pub fn explain(&self, why: &dyn std::fmt::Display) {
        self.queue.lock().expect("no thread panics while it holds this").why = Some(why.to_string());
        self.news.notify_one();
    }

    /// Events dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// No more events will come.
    pub fn close(&self) {
        self.queue.lock().expect("no thread panics while it holds this").closed = true;
        self.news.notify_one();
    }

    /// Moves all events that wait into `events`, without waiting.
    pub fn take_all(&self, events: &mut Vec<Event>) {
        let mut queue = self.queue.lock().expect("no thread panics while it holds this");
        while let Some(event) = queue.events.pop_front() {
            events.push(event);
        }
    }

    /// Moves everything that waits into `events`; false once closed and empty.
    fn drain(&self, events: &mut Vec<Event>, why: &mut Option<String>, wait: Duration) -> bool {
        let queue = self.queue.lock().expect("no thread panics while it holds this");
        let (mut queue, _) = self
            .news
            .wait_timeout_while(queue, wait, |q| q.events.is_empty() && q.why.is_none() && !q.closed)
            .expect("no thread panics while it holds this");
        while let Some(event) = queue.events.pop_front() {
            events.push(event);
        }
        *why = queue.why.take();
        !(queue.closed && events.is_empty() && why.is_none())
    }
}

/// A run in figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Parts decided.
    pub parts: u64,
    /// Parts whose verdict named the tag, in the order of tags.
    pub by_tag: Vec<u64>,
    /// Accepted parts.
    pub accept: u64,
    /// Rejected parts.
    pub reject: u64,
    /// Parts for a person to look at.
    pub review: u64,
    /// Parts of unknown tag, among the three above.
    pub unknown: u64,
    /// Foreign parts, among the three above.
    pub foreign: u64,
    /// Parts that were not decided: the line went safe.
    pub safe: u64,
    /// Parts that had no verdict when they were at their first gate.
    pub late: u64,
    /// Parts whose gates were given up because the line went safe.
    pub given_up: u64,
    /// Triggers that came too close behind another.
    pub too_close: u64,
    /// Triggers without a part.
    pub missed_triggers: u64,
    /// Frames that came while an older one was still waiting.
    pub skipped_frames: u64,
    /// Events that the reporter could not take.
    pub dropped_events: u64,
    /// Faults by kind.
    pub faults: Vec<(&'static str, u64)>,
    /// Total latency: median and 99th percentile.
    pub latency: [u32; 2],
    /// From an edge's due time until it was done: p50, p99, p99.9, largest.
    pub edge_jitter: [u32; 4],
    /// Right and wrong against the simulator's truth, if there is one.
    pub truth: Option<[u64; 2]>,
    /// Priority and memory lock that outputs are timed with, where they follow parts.
    pub realtime: Option<String>,
    /// Why the run ended.
    pub ended: String,
}

/// What a run is, for its first event.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Hash of the bundle, in hexadecimal.
    pub bundle_sha256: String,
    /// The source string.
    pub source: String,
    /// The kernels in use.
    pub kernel: &'static str,
    /// The model's name.
    pub model: String,
    /// Tags in order.
    pub tags: Vec<String>,
    /// Outputs in order, each with where it is.
    pub outputs: Vec<(String, String)>,
}

/// Writes events to standard output and to the site's log.
pub struct Reporter {
    opening: Opening,
    json: bool,
    colour: bool,
    log: Option<RotatingFile>,
    bytes: Vec<u8>,
    log_failed: bool,
    /// The first edge's due time: the table counts from it.
    origin: Option<Instant>,
}

impl Reporter {
    /// A reporter for one run. `json`: JSON lines on standard output instead of a table.
    pub fn new(opening: Opening, json: bool, log: Option<RotatingFile>) -> Self {
        let colour = !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { opening, json, colour, log, bytes: Vec::with_capacity(1 << 14), log_failed: false, origin: None }
    }

    /// Writes the first event.
    pub fn start(&mut self) {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let o = &self.opening;
        let value = json!({
            "schema": 1, "event": "start", "version": env!("CARGO_PKG_VERSION"), "bundle_sha256": o.bundle_sha256,
            "source": o.source, "kernel": o.kernel, "wall": wall,
        });
        let outputs: Vec<String> = o.outputs.iter().map(|(name, at)| format!("{name} ({at})")).collect();
        let outputs = if outputs.is_empty() { "none".into() } else { outputs.join(", ") };
        let text = format!(
            "tagpin {}  model {} ({}...)  source {}  kernels {}\noutputs: {outputs}\n\n{:>6} {:<18} {:>6}  {:<8} {:<7} {:>8} {:>9} {:>9}  {}\n",
            env!("CARGO_PKG_VERSION"),
            o.model,
            &o.bundle_sha256[..12],
            o.source,
            o.kernel,
            "part",
            "tag",
            "score",
            "verdict",
            "action",
            "age ms",
            "infer ms",
            "total ms",
            "truth",
        );
        self.write(&value, &text);
    }

    /// Writes events until the queue is closed; never called from the line.
    pub fn run(&mut self, queue: &EventQueue) {
        let (mut events, mut why) = (Vec::with_capacity(CAPACITY), None);
        while queue.drain(&mut events, &mut why, Duration::from_millis(200)) {
            for event in events.drain(..) {
                let (value, text) = self.describe(&event);
                self.write(&value, &text);
            }
            if let Some(why) = why.take() {
                let _ = writeln!(std::io::stderr(), "tagpin: {why}");
            }
        }
    }

    /// Writes the last event.
    pub fn summary(&mut self, s: &Summary) {
        let by_tag: serde_json::Map<String, Value> =
            self.opening.tags.iter().zip(&s.by_tag).filter(|(_, n)| **n > 0).map(|(t, n)| (t.clone(), json!(n))).collect();
        let faults: serde_json::Map<String, Value> = s.faults.iter().map(|(k, n)| (k.to_string(), json!(n))).collect();
        let [p50, p99] = s.latency;
        let [j50, j99, j999, jmax] = s.edge_jitter;
        let mut value = json!({
            "schema": 1, "event": "summary", "parts": s.parts, "by_tag": by_tag, "accept": s.accept, "reject": s.reject,
            "review": s.review, "unknown": s.unknown, "safe": s.safe, "late": s.late, "given_up": s.given_up,
            "too_close": s.too_close, "missed_triggers": s.missed_triggers,
            "skipped_frames": s.skipped_frames, "dropped_events": s.dropped_events, "faults": faults,
            "latency": { "p50": p50, "p99": p99 },
            "edge_jitter": { "p50": j50, "p99": j99, "p999": j999, "max": jmax },
            "ended": s.ended,
        });
        if let Some([right, wrong]) = s.truth {
            value["truth"] = json!({ "right": right, "wrong": wrong });
        }
        if let Some(realtime) = &s.realtime {
            value["realtime"] = json!(realtime);
        }
        let mut text = format!(
            "\n{} parts: {} accepted, {} rejected, {} for review ({} of them unknown), {} not decided (safe)\n",
            s.parts, s.accept, s.reject, s.review, s.unknown, s.safe
        );
        let tags: Vec<String> = by_tag.iter().map(|(t, n)| format!("{t} {n}")).collect();
        if !tags.is_empty() {
            text += &format!("by tag: {}\n", tags.join(", "));
        }
        if let Some([right, wrong]) = s.truth {
            let share = 100.0 * right as f64 / (right + wrong).max(1) as f64;
            text += &format!("against the simulator's truth: {right} right, {wrong} wrong ({share:.1} %)\n");
        }
        let ms = |us: u32| us as f64 / 1000.0;
        text += &format!(
            "latency from capture to verdict: p50 {:.1} ms, p99 {:.1} ms; edges late by p50 {:.3} ms, p99 {:.3} ms, largest {:.3} ms\n",
            ms(p50),
            ms(p99),
            ms(j50),
            ms(j99),
            ms(jmax)
        );
        if let Some(realtime) = &s.realtime {
            text += &format!("outputs timed with {realtime}\n");
        }
        if s.late + s.given_up + s.too_close > 0 {
            text += &format!(
                "at the gate: {} parts without a verdict in time, {} given up by a safe line, {} triggers too close\n",
                s.late, s.given_up, s.too_close
            );
        }
        if !s.faults.is_empty() || s.missed_triggers + s.dropped_events > 0 {
            let faults: Vec<String> = s.faults.iter().map(|(k, n)| format!("{k} {n}")).collect();
            text += &format!(
                "faults: {}; missed triggers {}, dropped events {}\n",
                if faults.is_empty() { "none".into() } else { faults.join(", ") },
                s.missed_triggers,
                s.dropped_events
            );
        }
        text += &format!("ended: {}; all outputs are in their safe state\n", s.ended);
        self.write(&value, &text);
    }

    fn describe(&mut self, event: &Event) -> (Value, String) {
        match event {
            Event::Part { done, truth, age, latency } => self.describe_part(done, *truth, *age, *latency),
            Event::Edge { part, line, state, scheduled, done } => {
                let name = self.opening.outputs.get(*line as usize).map_or("?", |o| o.0.as_str());
                let value = json!({
                    "schema": 1, "event": "edge", "part": part, "line": name, "state": state,
                    "scheduled": scheduled.as_micros(), "done": done.as_micros(),
                });
                let word = if *state == State::Active { "active" } else { "inactive" };
                let late = done.since(*scheduled).0 as f64 / 1000.0;
                let at = done.since(*self.origin.get_or_insert(*scheduled)).0 as f64 / 1e6;
                (value, self.paint(90, &format!("{:>6}   {name} {word} at {at:.3} s (+{late:.2} ms)", "")) + "\n")
            }
            Event::Fault { kind, count, action } => {
                let value = json!({ "schema": 1, "event": "fault", "kind": kind, "count": count, "action": action });
                (value, self.paint(31, &format!("{:>6}   fault: {kind} ({count} so far), {action}", "")) + "\n")
            }
        }
    }

    fn describe_part(&self, done: &PartDone, known: Option<Truth>, age: Micros, latency: Latency) -> (Value, String) {
        let name = |id: crate::head::TagId| self.opening.tags.get(id.0 as usize).map_or("?", String::as_str);
        // The verdict's own tag where there is one; the best guess otherwise.
        let verdict = done.decision.verdict;
        let tag = match verdict {
            Verdict::Present | Verdict::Review => done.decision.listed().iter().map(name).collect::<Vec<_>>().join("+"),
            _ => done.best.map_or("-", |(id, _)| name(id)).to_string(),
        };
        let reason = if let Verdict::Safe(reason) = verdict { Some(reason.name()) } else { None };
        let score = done.best.map(|(_, s)| (s.probability() as f64 * 1e4).round() / 1e4);
        let action = done.action.map_or("safe", Action::name);
        let shown_action = if done.late { format!("{action}, late") } else { action.into() };
        let mut value = json!({
            "schema": 1, "event": "part", "part": done.part.id.0, "trigger": done.part.trigger.at.as_micros(),
            "frames": done.part.frames, "captured_at": done.captured_at.as_micros(), "tag": tag, "score": score,
            "score_raw": done.best.map(|(_, s)| s.0), "verdict": verdict.name(), "action": action, "reason": reason, "late": done.late,
            "age": age.0,
            "latency": { "preprocess": latency.preprocess.0, "infer": latency.infer.0, "total": latency.total.0 },
        });
        let mut truth = String::new();
        if let Some(Truth { kind, right }) = known {
            value["truth"] = json!(kind.name());
            truth = if right == Some(true) { "right".into() } else { format!("WRONG: {}", kind.name()) };
        }
        let ms = |us: Micros| us.0 as f64 / 1000.0;
        let shown: String = tag.chars().take(18).collect();
        let score = score.map_or("-".into(), |s| format!("{s:.3}"));
        let row = format!(
            "{:>6} {shown:<18} {score:>6}  {:<8} {shown_action:<7} {:>8.1} {:>9.2} {:>9.1}  {truth}",
            done.part.id.0,
            verdict.name(),
            ms(age),
            ms(latency.infer),
            ms(latency.total)
        );
        let colour = match done.action {
            Some(Action::Accept) => 32,
            Some(Action::Review) => 33,
            Some(Action::Reject) => 35,
            None => 31,
        };
        (value, self.paint(colour, row.trim_end()) + "\n")
    }

    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    /// One event to standard output and the log. A closed terminal or a full disk must not stop the line.
    fn write(&mut self, value: &Value, text: &str) {
        self.bytes.clear();
        if self.json || self.log.is_some() {
            let _ = serde_json::to_writer(&mut self.bytes, value);
            self.bytes.push(b'\n');
        }
        if let Some(log) = &mut self.log
            && let Err(e) = log.append(&self.bytes)
            && !std::mem::replace(&mut self.log_failed, true)
        {
            let _ =
                writeln!(std::io::stderr(), "tagpin: the event log cannot be written: {e}; free space or change [events]");
        }
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(if self.json { &self.bytes } else { text.as_bytes() });
        let _ = out.flush();
    }
}

/// Runs a reporter on a thread of its own; returns a handle that gives the reporter back.
pub fn spawn(mut reporter: Reporter, queue: Arc<EventQueue>) -> std::thread::JoinHandle<Reporter> {
    std::thread::spawn(move || {
        reporter.run(&queue);
        reporter
    })
}
