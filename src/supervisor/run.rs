//! A run: its threads, one clock, and an end that is safe in every case.
//!
//! Knows no concrete source, trigger or output. This and `main.rs` are the only places that read the system's clock.

use super::actuation::{self, Actuator, Command, CommandQueue, Watch};
use super::capture::{self, Exchange};
use super::clock::SystemClock;
use super::events::{self, Reporter, Summary};
use super::inputs;
use super::line_thread::LineThread;
use super::notify::Notify;
use super::record::Recorder;
use super::routing::Routing;
use super::shared::{Belt, Shared, Stats};
use super::stage::Stage;
use crate::board::{self, Board};
use crate::fault::Reason;
use crate::line::Intake;
use crate::settings::{LineMode, Settings};
use crate::sources::Source;
use crate::time::{Clock, Instant, Micros};
use crate::triggers::Trigger;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Everything a run needs, opened and checked.
pub struct Run {
    /// The model and what is around it.
    pub stage: Stage,
    /// The source, open.
    pub source: Box<dyn Source>,
    /// Trigger, encoder and acknowledge inputs, open.
    pub inputs: Vec<Box<dyn Trigger>>,
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
    /// The board, watched for low voltage and throttling.
    pub board: Board,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many parts as were wanted, or the source's end.
    Done,
    /// A live source ended: somebody must start what feeds it again.
    SourceEnded,
    /// By a signal.
    Signal,
    /// Faults in a row, or an input that failed: held safe.
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
            Self::SourceEnded | Self::Held | Self::Hung => 3,
            Self::Panic => 101,
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SourceEnded => "the live source ended",
            Self::Signal => "signal",
            Self::Held => "held safe after repeated faults",
            Self::Hung => "the line missed its beat",
            Self::Panic => "panic",
        }
    }
}

/// Runs until parts, source, signal or faults end it; outputs are safe when it returns.
pub fn run(run: Run) -> Ended {
    let Run { stage, source, inputs, actuator, settings, mut reporter, tags, parts, signalled, record, board } = run;
    let clock = SystemClock;
    let gated = settings.mode != LineMode::State;
    let (late, late_calls) = Routing::new(&settings).late();
    let shared = Arc::new(Shared {
        clock,
        exchange: Exchange::default(),
        commands: CommandQueue::default(),
        events: Arc::default(),
        belt: Belt::default(),
        intake: Mutex::new(Intake::new(settings.spacing)),
        parts,
        late: late.map(|action| (action, late_calls)),
        beat: AtomicU64::new(clock.now().as_micros()),
        camera: AtomicBool::new(true),
        drain: AtomicBool::new(false),
        over: AtomicBool::new(false),
        ended: Mutex::new(None),
        news: Condvar::new(),
        stats: Mutex::new(Stats::default()),
    });
    shared.stats.lock().expect("nobody else has it yet").summary.by_tag = vec![0; tags];
    reporter.start();
    let reporting = events::spawn(reporter, shared.events.clone());

    let drain = Actuator::longest_way(&settings.outputs);
    let watch = Watch { watchdog: settings.watchdog.micros(), max_faults: settings.max_faults, gated, drain };
    let actuation = spawn(&shared, "actuation", move |shared| own_outputs(actuator, shared, watch));
    for input in inputs {
        // Left behind at the end: one may wait for a line of text that never comes.
        drop(spawn(&shared, "input", move |shared| inputs::watch(input, shared)));
    }
    let source_watch = capture::Watch {
        steady: settings.frame_timeout.micros(),
        first: settings.first_frame_timeout.micros(),
        needs_time: settings.needs_time(),
    };
    let capture = spawn(&shared, "capture", move |shared| {
        let explain = |why: &dyn std::fmt::Display| shared.events.explain(why);
        shared.exchange.capture(source, &shared.clock, source_watch, &explain);
    });
    let frame_timeout = settings.frame_timeout.micros();
    let max_faults = settings.max_faults;
    let line = spawn(&shared, "line", move |shared| {
        LineThread { stage, shared, max_faults, engine_faults: 0, record }.run(frame_timeout);
    });
    drop(spawn(&shared, "board", move |shared| {
        board::watch(&board, &|| shared.exchange.stop.load(Ordering::Relaxed), &|trouble| shared.board_fault(trouble));
    }));

    let mut notify = Notify::from_environment();
    notify.ready();
    let ended = wait(&shared, &signalled, settings.watchdog.micros(), &mut notify);
    notify.stopping();
    shared.exchange.stop.store(true, Ordering::Relaxed);
    if ended != Ended::Done {
        shared.commands.push(Command::Safe(Reason::Stopped));
    }
    // Parts on their way keep their gates and pulses; everything else ends at once.
    shared.drain.store(true, Ordering::Relaxed);
    join(actuation, drain.duration() + Duration::from_secs(1));
    shared.over.store(true, Ordering::Relaxed);
    join(line, Duration::from_millis(if ended == Ended::Hung { 0 } else { 1000 }));
    join(capture, Duration::from_millis(if ended == Ended::Hung { 0 } else { 300 }));
    shared.events.close();
    let mut summary = {
        let stats = shared.stats.lock().expect("no thread panics while it holds this");
        Summary { latency: stats.latency.at([500, 990]), ..stats.summary.clone() }
    };
    summary.skipped_frames = shared.exchange.skipped();
    summary.dropped_events = shared.events.dropped();
    summary.too_close = shared.intake.lock().expect("no thread panics while it holds this").too_close();
    summary.ended = ended.describe().into();
    // A reader that does not read may not keep a stopped line alive.
    if let Some(mut reporter) = join(reporting, Duration::from_secs(5)) {
        let done = std::thread::spawn(move || reporter.summary(&summary));
        join(done, Duration::from_secs(5));
    }
    ended
}

/// The actuation thread's life; whatever happens in it, the last word is the safe state.
fn own_outputs(mut actuator: Actuator, shared: &Shared, watch: Watch) {
    let outcome = catch_unwind(AssertUnwindSafe(|| actuation::actuate(&mut actuator, shared, watch)));
    actuator.go_safe(Reason::Stopped, &shared.clock, &shared.events);
    let jitter = actuator.jitter();
    let [a, b, c] = jitter.at([500, 990, 999]);
    let mut stats = shared.stats.lock().expect("no thread panics while it holds this");
    stats.summary.edge_jitter = [a, b, c, jitter.max()];
    stats.summary.late = actuator.late();
    stats.summary.given_up = actuator.given_up();
    stats.summary.faults.extend(actuator.faults().iter().filter(|(_, n)| *n > 0));
    drop(stats);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn spawn(shared: &Arc<Shared>, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> std::thread::JoinHandle<()> {
    let shared = shared.clone();
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
            shared.line_fault(Reason::Panic);
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

/// Waits for the end; as long as the line beats, the service manager hears of it.
fn wait(shared: &Shared, signalled: &AtomicBool, watchdog: Micros, notify: &mut Notify) -> Ended {
    let mut ended = shared.ended.lock().expect("no thread panics while it holds this");
    loop {
        if let Some(why) = *ended {
            return why;
        }
        if signalled.load(Ordering::Relaxed) {
            return Ended::Signal;
        }
        let now = shared.clock.now();
        if now.since(Instant::from_micros(shared.beat.load(Ordering::Relaxed))) <= watchdog {
            notify.alive(now);
        }
        let wait = shared.news.wait_timeout(ended, Duration::from_millis(20));
        ended = wait.expect("no thread panics while it holds this").0;
    }
}
