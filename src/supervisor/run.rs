//! A run: its threads, one clock, and an end that is safe in every case.
//!
//! Knows no concrete source, trigger or output. This and `main.rs` are the only places that read the system's clock.

use super::actuation::{self, Actuator, Command, Commands, Watch};
use super::capture;
use super::clock::SystemClock;
use super::ended::Ended;
use super::inputs;
use super::line_thread::LineThread;
use super::notify::Notify;
use super::record::Recorder;
use super::shared::{OutputsEnd, Shared};
use super::truth::Observer;
use super::vision::Vision;
use crate::board::{self, Board};
use crate::events::record::{Closing, Opening};
use crate::events::{Events, Sinking, Why};
use crate::fault::Reason;
use crate::settings::{LineMode, Settings};
use crate::sources::Source;
use crate::station::Station;
use crate::time::{Clock, Micros};
use crate::triggers::Trigger;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Everything a run needs, opened and checked.
pub struct Run {
    /// The model and what is between it and a frame.
    pub vision: Vision,
    /// The sorting line, with nothing on it.
    pub station: Station,
    /// Names of tags, in the bundle's order.
    pub tags: Vec<String>,
    /// The source, open.
    pub source: Box<dyn Source>,
    /// Trigger, encoder and acknowledge inputs, open.
    pub inputs: Vec<Box<dyn Trigger>>,
    /// The outputs, open and safe.
    pub actuator: Actuator,
    /// What the site decided.
    pub settings: Settings,
    /// What the run is, for its first event.
    pub opening: Opening,
    /// Where events are written.
    pub sinks: Vec<Sinking>,
    /// Set by a signal.
    pub signalled: Arc<AtomicBool>,
    /// Folder that gets each classified frame.
    pub record: Option<Recorder>,
    /// The board, watched for low voltage and throttling.
    pub board: Board,
}

/// Runs until parts, source, signal or faults end it; outputs are safe when it returns.
pub fn run(run: Run) -> Ended {
    let Run { vision, station, source, inputs, actuator, settings, opening, sinks, tags, signalled, record, board } = run;
    let clock = SystemClock;
    let gated = settings.mode != LineMode::State;
    let (late, _) = settings.routing(station.task()).late();
    let (events, sinking) = Events::start(Arc::new(clock), opening, sinks).expect("the system gives a thread at start");
    let truth = Observer::new(tags.iter().map(String::as_str));
    let (shared, commands) = Shared::new(station, events, late, truth);
    let shared = Arc::new(shared);

    let drain = Actuator::longest_way(&settings.outputs);
    let watch = Watch { watchdog: settings.watchdog.micros(), max_faults: settings.max_faults, gated, drain };
    let actuation = spawn(&shared, "actuation", move |shared| own_outputs(actuator, commands, shared, watch));
    shared.commands.taken_by(actuation.thread().clone());
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
        shared.exchange.capture(source, &shared.clock, source_watch);
    });
    let frame_timeout = settings.frame_timeout.micros();
    let line = spawn(&shared, "line", move |shared| {
        LineThread { vision, shared, record }.run(frame_timeout);
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
    let answered = join(actuation, drain.duration() + Duration::from_secs(1)).is_some();
    shared.over.store(true, Ordering::Relaxed);
    join(line, Duration::from_millis(if ended == Ended::Hung { 0 } else { 1000 }));
    join(capture, Duration::from_millis(if ended == Ended::Hung { 0 } else { 300 }));
    shared.count_frames();
    let closing = {
        let latency = shared.latency.lock().expect("no thread panics while it holds this");
        let outputs = shared.outputs_end.get();
        let hung = shared.hung.get().filter(|_| ended == Ended::Hung);
        Closing {
            ended: hung.map_or(ended.describe(), Why::as_str).into(),
            outputs_safe: answered && outputs.is_some_and(|o| o.safe),
            latency: latency.at([500, 990]),
            edge_jitter: outputs.map_or([0; 4], |o| o.edge_jitter),
            realtime: shared.realtime.get().cloned(),
        }
    };
    shared.events.close(closing);
    // A reader that does not read may not keep a stopped line alive.
    sinking.join(Duration::from_secs(5));
    ended
}

/// The actuation thread's life; whatever happens in it, the last word is the safe state.
pub(super) fn own_outputs(mut actuator: Actuator, mut commands: Commands, shared: &Shared, watch: Watch) {
    let outcome = catch_unwind(AssertUnwindSafe(|| actuation::actuate(&mut actuator, &mut commands, shared, watch)));
    actuator.go_safe(Reason::Stopped, &shared.clock, &shared.events);
    let jitter = actuator.jitter();
    let [a, b, c] = jitter.at([500, 990, 999]);
    // There is one such thread, and this is its end.
    let _ = shared.outputs_end.set(OutputsEnd { edge_jitter: [a, b, c, jitter.max()], safe: actuator.is_all_safe() });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn spawn(shared: &Arc<Shared>, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> std::thread::JoinHandle<()> {
    let shared = shared.clone();
    let thread = name.to_string();
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
            shared.line_fault(Reason::Panic, Why::of(&format_args!("the thread \"{thread}\" panicked")));
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

/// Waits for the end; as long as the line and the outputs beat, the service manager hears of it.
fn wait(shared: &Shared, signalled: &AtomicBool, watchdog: Micros, notify: &mut Notify) -> Ended {
    /// How often the figures are told.
    const TICK: Micros = Micros(1_000_000);
    let mut next_tick = shared.clock.now().plus(TICK);
    loop {
        if let Some(why) = shared.ended.why() {
            return why;
        }
        if signalled.load(Ordering::Relaxed) {
            return Ended::Signal;
        }
        let now = shared.clock.now();
        if shared.is_alive(now, watchdog) {
            notify.alive(now);
        }
        if now >= next_tick {
            next_tick = next_tick.plus(TICK).max(now);
            shared.count_frames();
            shared.events.tick();
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
