//! A run: four threads, one clock, and an end that is safe in every case.
//!
//! Knows no concrete source or output. This and `main.rs` are the only places that read the system's clock.

use super::actuation::{Actuator, Command, CommandQueue};
use super::capture::{Exchange, News};
use super::clock::SystemClock;
use super::events::{self, Event, EventQueue, Latency, Reporter, Summary};
use super::quantiles::Quantiles;
use super::stage::{Admitted, PartDone, Stage};
use crate::decide::{SafeReason, Verdict};
use crate::frame::CapturedAt;
use crate::settings::{Action, Settings};
use crate::sources::{FrameBuffer, Source};
use crate::time::{Clock, Instant, Micros};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Everything a run needs, opened and checked.
pub struct Run {
    /// The model and what is around it.
    pub stage: Stage,
    /// The source, open.
    pub source: Box<dyn Source>,
    /// The outputs, open and safe.
    pub actuator: Actuator,
    /// What the site decided.
    pub settings: Settings,
    /// Who writes events.
    pub reporter: Reporter,
    /// Number of tags.
    pub tags: usize,
    /// Parts after which the run ends; 0 goes on.
    pub parts: u64,
    /// Set by a signal.
    pub signalled: Arc<AtomicBool>,
    /// Folder that gets each classified frame.
    pub record: Option<Recorder>,
}

/// Keeps model-size tensors, logits and scores for replay on the host.
pub struct Recorder {
    folder: PathBuf,
    frames: u64,
}

impl Recorder {
    /// Makes the folder and writes which bundle it belongs to.
    pub fn new(folder: PathBuf, bundle_sha256: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("bundle.sha256"), format!("{bundle_sha256}\n"))?;
        Ok(Self { folder, frames: 0 })
    }

    fn keep(&mut self, stage: &Stage) -> std::io::Result<()> {
        let (rgb, logits, scores) = stage.last();
        let name = |ending: &str| self.folder.join(format!("{:08}.{ending}", self.frames));
        std::fs::write(name("rgb"), rgb)?;
        std::fs::write(name("logits"), logits.iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<_>>())?;
        std::fs::write(name("scores"), scores.iter().flat_map(|s| s.0.to_le_bytes()).collect::<Vec<_>>())?;
        self.frames += 1;
        Ok(())
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many parts as were wanted, or the source's end.
    Done,
    /// By a signal.
    Signal,
    /// Faults in a row: held safe.
    Held,
    /// The line missed its beat.
    Hung,
    /// A thread panicked.
    Panic,
}

impl Ended {
    /// The process's exit code: 0 done or stopped, 3 held, 101 panic.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done | Self::Signal => 0,
            Self::Held | Self::Hung => 3,
            Self::Panic => 101,
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Signal => "signal",
            Self::Held => "held safe after repeated faults",
            Self::Hung => "the line missed its beat",
            Self::Panic => "panic",
        }
    }
}

/// What the threads share.
struct Shared {
    clock: SystemClock,
    exchange: Exchange,
    commands: CommandQueue,
    events: Arc<EventQueue>,
    beat: AtomicU64,
    /// Set when the outputs may end once their pulses have.
    drain: AtomicBool,
    ended: Mutex<Option<Ended>>,
    news: Condvar,
    stats: Mutex<Stats>,
}

#[derive(Default)]
struct Stats {
    summary: Summary,
    latency: Quantiles,
}

impl Shared {
    /// The first reason to end counts.
    fn end(&self, why: Ended) {
        self.ended.lock().expect("no thread panics while it holds this").get_or_insert(why);
        self.exchange.stop.store(true, Ordering::Relaxed);
        self.news.notify_all();
    }

    fn fault(&self, reason: SafeReason) {
        let mut stats = self.stats.lock().expect("no thread panics while it holds this");
        let faults = &mut stats.summary.faults;
        let count = match faults.iter_mut().find(|(k, _)| *k == reason.name()) {
            Some((_, n)) => {
                *n += 1;
                *n
            }
            None => {
                faults.push((reason.name(), 1));
                1
            }
        };
        drop(stats);
        self.events.push(Event::Fault { kind: reason.name(), count, action: "safe" });
        self.commands.push(Command::Safe(reason));
    }
}

/// Runs until parts, source, signal or faults end it; outputs are safe when it returns.
pub fn run(run: Run) -> Ended {
    let Run { stage, source, actuator, settings, mut reporter, tags, parts, signalled, record } = run;
    let clock = SystemClock;
    let shared = Arc::new(Shared {
        clock,
        exchange: Exchange::default(),
        commands: CommandQueue::default(),
        events: Arc::default(),
        beat: AtomicU64::new(clock.now().as_micros()),
        drain: AtomicBool::new(false),
        ended: Mutex::new(None),
        news: Condvar::new(),
        stats: Mutex::default(),
    });
    shared.stats.lock().expect("nobody else has it yet").summary.by_tag = vec![0; tags];
    reporter.start();
    let reporting = events::spawn(reporter, shared.events.clone());

    let watchdog = settings.watchdog.micros();
    let max_faults = settings.max_faults;
    let actuation = spawn(&shared, "actuation", {
        let mut actuator = actuator;
        move |shared| {
            let outcome = catch_unwind(AssertUnwindSafe(|| actuate(&mut actuator, shared, watchdog, max_faults)));
            // Whatever happened, the last word is the safe state.
            actuator.go_safe(SafeReason::Stopped, &shared.clock, &shared.events);
            let jitter = actuator.jitter();
            let [a, b, c] = jitter.at([500, 990, 999]);
            let mut stats = shared.stats.lock().expect("no thread panics while it holds this");
            stats.summary.edge_jitter = [a, b, c, jitter.max()];
            if actuator.faults() > 0 {
                stats.summary.faults.push((SafeReason::Output.name(), actuator.faults()));
            }
            drop(stats);
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let timeout = settings.frame_timeout.micros().duration();
    let capture = spawn(&shared, "capture", move |shared| {
        let explain = |why: &dyn std::fmt::Display| shared.events.explain(why);
        shared.exchange.capture(source, &shared.clock, timeout, &explain);
    });
    let frame_timeout = settings.frame_timeout.micros();
    let line = spawn(&shared, "line", move |shared| {
        let mut line = LineThread { stage, shared, parts, max_faults, engine_faults: 0, record };
        line.run(frame_timeout);
    });

    let ended = wait(&shared, &signalled);
    shared.exchange.stop.store(true, Ordering::Relaxed);
    if ended != Ended::Done {
        shared.commands.push(Command::Safe(SafeReason::Stopped));
    }
    // The last part keeps its pulse; everything else ends at once.
    shared.drain.store(true, Ordering::Relaxed);
    join(actuation, Duration::from_secs(2));
    join(line, Duration::from_millis(if ended == Ended::Hung { 0 } else { 1000 }));
    join(capture, Duration::from_millis(if ended == Ended::Hung { 0 } else { 300 }));
    shared.events.close();
    let mut summary = {
        let stats = shared.stats.lock().expect("no thread panics while it holds this");
        Summary { latency: stats.latency.at([500, 990]), ..stats.summary.clone() }
    };
    summary.skipped_frames = shared.exchange.skipped();
    summary.dropped_events = shared.events.dropped();
    summary.ended = ended.describe().into();
    // A reader that does not read may not keep a stopped line alive.
    if let Some(mut reporter) = join(reporting, Duration::from_secs(5)) {
        let done = std::thread::spawn(move || reporter.summary(&summary));
        join(done, Duration::from_secs(5));
    }
    ended
}

fn spawn(shared: &Arc<Shared>, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> std::thread::JoinHandle<()> {
    let shared = shared.clone();
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
            shared.fault(SafeReason::Panic);
            shared.end(Ended::Panic);
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(body).expect("the system gives a thread at start")
}

/// Joins a thread that should end by itself; leaves it behind if it does not.
fn join<T>(thread: std::thread::JoinHandle<T>, patience: Duration) -> Option<T> {
    let begin = std::time::Instant::now();
    while !thread.is_finished() {
        if begin.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.join().ok()
}

fn wait(shared: &Shared, signalled: &AtomicBool) -> Ended {
    let mut ended = shared.ended.lock().expect("no thread panics while it holds this");
    loop {
        if let Some(why) = *ended {
            return why;
        }
        if signalled.load(Ordering::Relaxed) {
            return Ended::Signal;
        }
        let wait = shared.news.wait_timeout(ended, Duration::from_millis(20));
        ended = wait.expect("no thread panics while it holds this").0;
    }
}

/// The actuation thread: commands, pulses, retries, and the watch over the line's beat.
fn actuate(actuator: &mut Actuator, shared: &Shared, watchdog: Micros, max_faults: u32) {
    const RETRY: Micros = Micros(20_000);
    /// Longest time that pulses in flight are given at a run's end.
    const LAST_PULSES: Micros = Micros(1_500_000);
    let mut end = None;
    loop {
        let now = shared.clock.now();
        if end.is_some_and(|end| now >= end) {
            return;
        }
        let wait = actuator.next_edge(now).unwrap_or(RETRY).min(RETRY);
        match shared.commands.pop(wait) {
            Some(command) => actuator.apply(command, &shared.clock, &shared.events),
            None if end.is_some() && actuator.next_edge(now).is_none() => return,
            None => {}
        }
        if shared.drain.load(Ordering::Relaxed) && end.is_none() {
            end = Some(now.plus(LAST_PULSES));
        }
        actuator.tick(&shared.clock, &shared.events);
        if actuator.faults_in_a_row() >= max_faults {
            shared.end(Ended::Held);
        }
        let beat = Instant::from_micros(shared.beat.load(Ordering::Relaxed));
        if !shared.exchange.stop.load(Ordering::Relaxed) && shared.clock.now().since(beat) > watchdog {
            actuator.go_safe(SafeReason::MissedBeat, &shared.clock, &shared.events);
            shared.fault(SafeReason::MissedBeat);
            shared.end(Ended::Hung);
            return;
        }
    }
}

struct LineThread<'s> {
    stage: Stage,
    shared: &'s Shared,
    parts: u64,
    max_faults: u32,
    engine_faults: u32,
    record: Option<Recorder>,
}

impl LineThread<'_> {
    fn run(&mut self, frame_timeout: Micros) {
        /// Longest wait between two beats.
        const BEAT: Micros = Micros(20_000);
        let shared = self.shared;
        let mut last_frame = shared.clock.now();
        while !shared.exchange.stop.load(Ordering::Relaxed) {
            let now = shared.clock.now();
            shared.beat.store(now.as_micros(), Ordering::Relaxed);
            let wait = self.stage.time_left(now).unwrap_or(BEAT).min(BEAT).max(Micros(500));
            match shared.exchange.take(wait) {
                Some(News::Frame(frame, at)) => {
                    last_frame = shared.clock.now();
                    self.frame(&frame, at);
                    shared.exchange.give_back(frame);
                }
                Some(News::Fault(reason)) => self.fault(reason),
                Some(News::Reopened) => {
                    self.stage.source_reopened();
                    last_frame = shared.clock.now();
                }
                Some(News::End) => shared.end(Ended::Done),
                None => {}
            }
            let now = shared.clock.now();
            if now.since(last_frame) > frame_timeout {
                last_frame = now;
                self.fault(SafeReason::NoFrame);
            }
            if let Some(done) = self.stage.overdue(now) {
                self.finish(done, Latency::default());
            }
        }
    }

    fn fault(&mut self, reason: SafeReason) {
        match self.stage.abandon(self.shared.clock.now(), reason) {
            Some(done) => self.finish(done, Latency::default()),
            None => self.shared.fault(reason),
        }
    }

    fn frame(&mut self, frame: &FrameBuffer, at: CapturedAt) {
        let clock = &self.shared.clock;
        let begin = clock.now();
        let (part, last) = match self.stage.admit(frame, at) {
            Admitted::Skip => return,
            Admitted::Classify { last, part } => (part, last),
            Admitted::Fault(reason) => {
                // A camera that shows one picture for ever, or another format, must be opened again.
                self.shared.exchange.restart.store(true, Ordering::Relaxed);
                return self.fault(reason);
            }
        };
        let captured = at.instant();
        let preprocessed = self.stage.preprocess(frame);
        let middle = clock.now();
        let outcome = preprocessed.and_then(|()| self.stage.infer());
        let end = clock.now();
        let latency = Latency { preprocess: middle.since(begin), infer: end.since(middle), total: end.since(captured) };
        let done = match outcome {
            Ok(()) => {
                self.engine_faults = 0;
                if let Some(record) = &mut self.record
                    && let Err(e) = record.keep(&self.stage)
                {
                    self.shared.events.explain(&format!("--record stops: {e}"));
                    self.record = None;
                }
                self.stage.decide(end, captured, part, last)
            }
            Err(reason) => {
                if let Some(why) = self.stage.why_unusable(frame) {
                    self.shared.events.explain(&why);
                }
                self.stage.abandon(end, reason);
                self.engine_faults += 1;
                if self.engine_faults >= self.max_faults {
                    self.shared.end(Ended::Held);
                }
                Some(self.stage.fail(part, captured, reason))
            }
        };
        if let Some(done) = done {
            self.finish(done, latency);
        }
    }

    /// A part's end: reported, commanded, counted.
    fn finish(&mut self, done: PartDone, latency: Latency) {
        let now = self.shared.clock.now();
        // Both queues are bounded and never wait, so the order is for readers only: the part stands before its edges.
        self.shared.events.push(Event::Part { done, age: now.since(done.captured_at), latency });
        match done.verdict {
            Verdict::Safe(reason) => self.shared.fault(reason),
            _ => self.shared.commands.push(Command::Verdict { part: done.part.id.0, calls: done.calls, scheduled: now }),
        }
        let mut stats = self.shared.stats.lock().expect("no thread panics while it holds this");
        if latency.total.0 > 0 {
            stats.latency.add(latency.total.0);
        }
        let s = &mut stats.summary;
        s.parts += 1;
        match done.action {
            Some(Action::Accept) => s.accept += 1,
            Some(Action::Reject) => s.reject += 1,
            Some(Action::Review) => s.review += 1,
            None => s.safe += 1,
        }
        s.missed_triggers = self.stage.missed_triggers();
        s.unknown += (done.verdict == Verdict::Unknown) as u64;
        if let Verdict::Present(set) = &done.verdict {
            set.iter().for_each(|t| s.by_tag[t.0 as usize] += 1);
        }
        if let Some(right) = self.stage.is_right(&done) {
            let counts = s.truth.get_or_insert([0, 0]);
            counts[!right as usize] += 1;
        }
        let finished = self.parts > 0 && s.parts >= self.parts;
        drop(stats);
        if finished {
            self.shared.end(Ended::Done);
        }
    }
}
