//! A run: its threads, one clock, and an end that is safe in every case.
//!
//! It works with any source, trigger and output. This and `main.rs` are the only places that read
//! the system's clock.

use super::actuation::{Actuator, Command, Commands, Patience, Stand};
use super::beside::Beside;
use super::capture;
use super::change::Change;
use super::clock::SystemClock;
use super::ended::Ended;
use super::inputs;
use super::line_thread::LineThread;
use super::notify::Notify;
use super::outputs_thread::{Watch, actuate};
use super::record::{Recorder, Recording};
use super::shared::{OutputsEnd, Shared};
use super::truth::Observer;
use super::vision::Vision;
use crate::board::{self, Board};
use crate::events::run::{Closing, Opening};
use crate::events::{Client, ClientThreads, Events, FaultKind, Remedy, Sinking, Why};
use crate::fault::Reason;
use crate::line::Travel;
use crate::settings::{LineMode, Settings, TriggerKind};
use crate::sources::Source;
use crate::station::{Slot, Station};
use crate::time::{Clock, Instant, Micros};
use crate::triggers::Trigger;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
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
    /// Who looks at figures and snapshot.
    pub clients: Vec<Client>,
    /// Who looks at frames, and new rules.
    pub beside: Beside,
    /// Set by a signal.
    pub signalled: Arc<AtomicBool>,
    /// Folder that gets each classified frame.
    pub record: Option<Recorder>,
    /// Whether who reads standard output has left.
    pub reader_left: fn() -> bool,
    /// Whether the line goes on without its reader; if not, that ends it.
    pub goes_on_unread: bool,
    /// The board, watched for low voltage and throttling.
    pub board: Board,
}

/// Runs until parts, source, signal or faults end it; not at all where a signal came between the run
/// before and this one. When it returns, each output is safe or was told as unknown. An error: the
/// system gave too few threads, and nothing has moved.
pub fn run(run: Run) -> Result<Ended, String> {
    let Run {
        vision,
        station,
        source,
        mut inputs,
        mut actuator,
        settings,
        opening,
        sinks,
        clients,
        beside,
        tags,
        signalled,
        record,
        board,
        reader_left,
        goes_on_unread,
    } = run;
    let clock = SystemClock;
    let change = beside.change.clone();
    // Also before the first run: what waited there is of parts that are elsewhere by now.
    let has_jitter = settings.inputs.iter().any(|input| input.max_jitter().is_some());
    if settings.mode != LineMode::State && has_jitter || change.as_ref().is_some_and(|change| change.is_between()) {
        let begin = clock.now();
        inputs.iter_mut().try_for_each(|input| input.begin_anew(begin)).map_err(|e| e.to_string())?;
    }
    if change.as_ref().is_some_and(|change| !change.begins(&signalled)) {
        return Ok(Ended::Signal);
    }
    let gated = settings.mode != LineMode::State;
    let (late, _) = settings.routing(station.task()).late();
    let (events, sinking) = Events::start(Arc::new(clock), opening, sinks).map_err(|e| no_thread(&e))?;
    let clients = ClientThreads::start(&events, clients).map_err(|e| no_thread(&e))?;
    let truth = Observer::new(tags.iter().map(String::as_str));
    let stand = actuator.stand();
    let (shared, commands) = Shared::new(station, events, late, Patience::of(&settings), truth, stand.clone());
    shared.runs(Slot::First, vision.sha256());
    let shared = Arc::new(Shared { tuning: beside.tuning.clone(), ..shared });

    let watchdog = settings.watchdog.micros();
    let watch = Watch { watchdog, max_faults: settings.max_faults, gated };
    let rescue = actuator.take_rescue();
    let source_watch = capture::Watch {
        steady: settings.frame_timeout.micros(),
        first: settings.first_frame_timeout.micros(),
        needs_time: settings.needs_time(),
    };
    let deadline = if let Travel::Time(span) = settings.part.deadline { span } else { Micros(0) };
    let frame_timeout = settings.frame_timeout.micros();
    let found_within = settings.found_within(source.interval());
    let every_frame = settings.trigger == TriggerKind::EveryFrame;
    let recording = record.map(|recorder| Arc::new(Recording::new(recorder, &vision)));
    let kept = recording.clone();
    let (mut actuation, mut helpers) = (None, Vec::new());
    let start = || {
        let thread = spawn(&shared, "actuation", move |shared| own_outputs(actuator, commands, shared, watch))?;
        shared.commands.taken_by(thread.thread().clone());
        shared.alarm.wakes(thread.thread().clone());
        actuation = Some(thread);
        if let Some(rescue) = rescue {
            // It ends with the outputs, or when it has done its work.
            drop(spawn(&shared, "rescue", move |shared| rescue.watch(shared, watchdog, gated))?);
        }
        if let Some(recording) = recording.clone() {
            helpers.push(spawn_recorder(&shared, recording)?);
        }
        for (number, input) in inputs.into_iter().enumerate() {
            let counted = beside.acknowledges.clone();
            let acknowledged = move || counted.iter().for_each(|counted| counted.add(number));
            helpers.push(spawn(&shared, "input", move |shared| inputs::watch(input, shared, &acknowledged))?);
        }
        let board = spawn(&shared, "board", move |shared| {
            board::watch(&board, &|| shared.exchange.stop.load(Ordering::Relaxed), &|trouble| shared.board_fault(trouble));
        })?;
        drop(board);
        let capture = spawn(&shared, "capture", move |shared| {
            shared.exchange.capture(source, &shared.clock, source_watch);
        })?;
        let line = spawn(&shared, "line", move |shared| {
            let record = recording.as_deref();
            LineThread { vision, shared, record, beside, spare: None, left: None, found_within, every_frame }
                .run(frame_timeout);
            // What it was at has had its verdict.
            shared.stop_parts(shared.ended.why().unwrap_or(Ended::Signal));
        })?;
        Ok((capture, line))
    };
    let started: std::io::Result<_> = start();

    let mut notify = Notify::from_environment();
    let ended = match &started {
        Ok(_) => {
            notify.ready();
            change.iter().for_each(|change| change.begun());
            let reader = Reader { left: reader_left, goes_on: goes_on_unread };
            wait(&shared, &signalled, reader, Leave { change: change.as_deref(), deadline }, watchdog, &mut notify)
        }
        Err(_) => Ended::Signal,
    };
    let ended = shared.ended.first(ended);
    match change.as_ref().filter(|_| ended == Ended::Recipe) {
        Some(change) => change.bridge(notify, signalled.clone()),
        None => notify.stopping(),
    }
    shared.exchange.stop.store(true, Ordering::Relaxed);
    if !ended.lets_parts_pass() {
        shared.commands.push(Command::Safe(Reason::Stopped));
        shared.stop_parts(ended);
    }
    // Parts on their way keep their gates and pulses; everything else ends at once.
    shared.drain.store(true, Ordering::Release);
    let answered = actuation.is_some_and(|thread| outputs_answer(&thread, &shared, &stand, &signalled, watchdog));
    shared.over.store(true, Ordering::Relaxed);
    // A signal gave up the parts that still were on their way.
    let ended = if matches!(ended, Ended::Done | Ended::Recipe) && signalled.load(Ordering::Relaxed) {
        Ended::Signal
    } else {
        ended
    };
    let ended = if stand.is_rescued() { Ended::Stuck } else { ended };
    let ended = if shared.alarm.is_raised() { Ended::Panic } else { ended };
    let failed = match started {
        Ok((capture, line)) => {
            join(line, Duration::from_millis(if ended == Ended::Hung { 0 } else { 1000 }));
            join(capture, Duration::from_millis(if ended == Ended::Hung { 0 } else { 300 }));
            None
        }
        Err(e) => Some(no_thread(&e)),
    };
    // Where its thread did not come back.
    shared.stop_parts(ended);
    // The line keeps no frame any more.
    if let Some(recording) = kept {
        recording.close();
    }
    // A socket's name is freed by its thread, and what was recorded is written; a disk that hangs
    // may not keep a stopped line alive.
    for helper in helpers {
        join(helper, Duration::from_secs(2));
    }
    shared.count_frames();
    // Also where the thread that panicked hangs as it is unwound, and where it was at its end.
    shared.tell_panic();
    let ended = if shared.alarm.is_raised() { Ended::Panic } else { ended };
    let closing = {
        let latency = shared.latency.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let outputs = shared.outputs_end.get();
        let hung = match ended {
            Ended::Hung => shared.hung.get(),
            Ended::Stuck => shared.stuck.get(),
            _ => None,
        };
        let unknown = match outputs {
            Some(outputs) if answered => outputs.not_safe,
            _ => !stand.confirmed(),
        };
        let is_unknown = |i: &usize| unknown >> i & 1 == 1;
        let outputs_unknown = (0..settings.outputs.len()).filter(is_unknown).map(|i| settings.outputs[i].name.clone());
        Closing {
            ended: failed.clone().unwrap_or(hung.map_or(ended.describe(), Why::as_str).into()),
            outputs_unknown: outputs_unknown.collect(),
            latency: latency.at([500, 990]),
            edge_jitter: outputs.map_or([0; 4], |o| o.edge_jitter),
            realtime: shared.realtime.get().cloned(),
        }
    };
    let is_safe = closing.outputs_unknown.is_empty();
    change.iter().for_each(|change| change.ended(shared.events.counters().figures().parts));
    shared.events.close(closing);
    // A reader that does not read may not keep a stopped line alive.
    sinking.settle(&shared.events, Duration::from_secs(4));
    // Long enough for a broker near by to get the last messages.
    clients.stop(Duration::from_secs(1));
    sinking.join(Duration::from_secs(1));
    let ended = if is_safe || ended == Ended::Panic { ended } else { Ended::NotSafe };
    if is_safe && (ended == Ended::Recipe || failed.is_some()) {
        change.iter().for_each(|change| change.made_place());
    }
    failed.map_or(Ok(ended), Err)
}

fn no_thread(why: &std::io::Error) -> String {
    format!("the system gives no thread ({why}); allow more memory and processes: ulimit -v and -u, MemoryMax, TasksMax")
}

/// Waits for the outputs' thread, or for the rescue in its place; whether the thread answered. At
/// most as long as parts are waited for, then `watchdog` and a second, and half of `watchdog` once
/// the rescue has begun. A signal ends the parts that are still on their way: the outputs go safe.
fn outputs_answer(
    thread: &JoinHandle<()>,
    shared: &Shared,
    stand: &Stand,
    signalled: &AtomicBool,
    watchdog: Micros,
) -> bool {
    let begin = shared.clock.now();
    let own = watchdog.0 + 1_000_000;
    let mut rescued: Option<Instant> = None;
    let mut is_signalled = false;
    while !thread.is_finished() {
        if !is_signalled && signalled.load(Ordering::Relaxed) {
            is_signalled = true;
            shared.commands.push(Command::Safe(Reason::Stopped));
        }
        let now = shared.clock.now();
        if rescued.is_none() && stand.is_rescued() {
            rescued = Some(now.plus(Micros(watchdog.0 / 2)));
        }
        let end = shared.patience.over(begin, shared.belt.moved()).plus(Micros(own));
        let end = rescued.map_or(end, |rescued| rescued.min(end));
        if shared.rescue_over.load(Ordering::Acquire) || now >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The actuation thread's life; whatever happens in it, the last word is the safe state.
pub(super) fn own_outputs(mut actuator: Actuator, mut commands: Commands, shared: &Shared, watch: Watch) {
    let outcome = catch_unwind(AssertUnwindSafe(|| actuate(&mut actuator, &mut commands, shared, watch)));
    actuator.go_safe(Reason::Stopped, &shared.clock, &shared.events);
    let jitter = actuator.jitter();
    let [a, b, c] = jitter.at([500, 990, 999]);
    // There is one such thread, and this is its end.
    let _ = shared.outputs_end.set(OutputsEnd { edge_jitter: [a, b, c, jitter.max()], not_safe: actuator.not_safe() });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn spawn(shared: &Arc<Shared>, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    let body = move || {
        shared.alarm.watch();
        if catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
            // A panic that went on from a thread of the engine has met no hook here.
            shared.alarm.raise();
            shared.tell_panic();
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(body)
}

/// The thread of `--record`. Whatever happens to it concerns no part, so a panic ends it alone.
fn spawn_recorder(shared: &Arc<Shared>, recording: Arc<Recording>) -> std::io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| recording.write(&shared.events))).is_err() {
            let why = Why::of(&"--record panicked: no more frames are kept; the line goes on");
            shared.events.fault(FaultKind::Record, None, Remedy::Told, why);
        }
    };
    std::thread::Builder::new().name("record".into()).spawn(body)
}

/// Joins a thread that should end by itself; leaves it behind if it does not.
fn join<T>(thread: JoinHandle<T>, patience: Duration) -> Option<T> {
    let begin = std::time::Instant::now();
    while !thread.is_finished() {
        if begin.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.join().ok()
}

/// Who reads standard output.
#[derive(Clone, Copy)]
struct Reader {
    /// Whether it has left.
    left: fn() -> bool,
    /// Whether the line goes on without it.
    goes_on: bool,
}

/// How a run makes place for the next.
#[derive(Clone, Copy)]
struct Leave<'c> {
    /// Where that is asked for.
    change: Option<&'c Change>,
    /// Longest time that a part may wait for its verdict, where time decides it.
    deadline: Micros,
}

/// Waits for the end; as long as the line and the outputs beat, the service manager hears of it.
fn wait(
    shared: &Shared,
    signalled: &AtomicBool,
    reader: Reader,
    leave: Leave<'_>,
    watchdog: Micros,
    notify: &mut Notify,
) -> Ended {
    /// How often the figures are told.
    const TICK: Micros = Micros(1_000_000);
    let mut next_tick = shared.clock.now().plus(TICK);
    let mut reads = true;
    let mut closing_since: Option<Instant> = None;
    loop {
        if shared.alarm.is_raised() {
            return Ended::Panic;
        }
        if let Some(why) = shared.ended.why() {
            return why;
        }
        if signalled.load(Ordering::Relaxed) {
            return Ended::Signal;
        }
        if reads && (reader.left)() {
            reads = false;
            if !reader.goes_on {
                return Ended::ReaderLeft;
            }
            shared.events.note(&"the output pipe is closed; the line goes on without its reader");
        }
        let now = shared.clock.now();
        match closing_since {
            None if leave.change.is_some_and(Change::is_asked) => {
                closing_since = Some(now);
                shared.close();
            }
            // A belt that stands still brings no part to its end.
            Some(since) if now >= shared.patience.over(since, shared.belt.moved()).plus(leave.deadline) => {
                return Ended::Recipe;
            }
            None | Some(_) => {}
        }
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
