//! The fan-out: each sink has a queue and a thread of its own, and who tells waits for none of
//! them.
//!
//! A queue is lock-free and of fixed capacity. A sink that is full, fails or panics loses its own
//! events, counted, and the others go on. A sink that panicked is made again after a pause that
//! doubles each time, up to half a minute.

use super::run::{BundleRecord, Closing, Opening, SinkRecord};
use super::{Counters, Event, FaultEvent, FaultKind, PartEvent, Remedy, Snapshot, What, Why, wall};
use crate::head::Score;
use crate::time::{Clock, Instant};
use crossbeam_queue::ArrayQueue;
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Events that wait for a sink that wants most of what is told, or writes to a slow disk.
pub const QUEUE: usize = 1024;
/// The same for one that wants little: a queue takes its memory from the start.
pub const SMALL_QUEUE: usize = 256;
/// Places that stay free. A queue's producer may have to wait for a consumer that stands between
/// two steps of taking an event, but only at the place that the event leaves; with more free places
/// than threads that tell, nobody gets there.
const SPARE: usize = 32;
/// How long a sink sleeps when it has nothing to write: nobody wakes it, so that telling is no
/// system call.
const NAP: Duration = Duration::from_millis(10);
/// How long after one failure of a sink was told another is not.
const NEWS: Duration = Duration::from_secs(1);
/// The first pause after a panic, and the longest.
pub(super) const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

/// Where events are written.
pub trait Sink: Send {
    /// Writes one event; `events` knows names and figures. After an error the event is lost.
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()>;

    /// Whether a failure lasts though the last event was taken: a sink may take some events and have
    /// no room for others.
    fn is_stuck(&self) -> bool {
        false
    }
}

/// The error of a sink whose event is lost, and which has told by itself why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told;

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lost, and told")
    }
}

impl std::error::Error for Told {}

impl Told {
    /// Whether an error is one.
    fn is(e: &std::io::Error) -> bool {
        e.get_ref().is_some_and(|e| e.is::<Self>())
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

/// Makes a sink; called again after a panic.
type Make = Box<dyn FnMut() -> Box<dyn Sink> + Send>;

/// Whether a sink wants to be told.
pub type Wants = Box<dyn Fn(&What) -> bool + Send + Sync>;

/// A sink to be started.
pub struct Sinking {
    /// Its name in events.
    pub name: &'static str,
    /// What it wants to be told.
    pub wants: Wants,
    /// Events that may wait for it: [`QUEUE`] or [`SMALL_QUEUE`].
    pub queue: usize,
    /// Makes it.
    pub make: Make,
}

/// How a sink does.
pub struct SinkState {
    name: &'static str,
    wants: Wants,
    queue: ArrayQueue<Event>,
    written: AtomicU64,
    lost: AtomicU64,
    restarts: AtomicU64,
    /// What it is at; the sink's own thread and who ends it alone hold this.
    at_work: Mutex<AtWork>,
    /// It has written all that it had when the run was closed.
    drained: AtomicBool,
}

/// What a sink is at.
#[derive(Default)]
struct AtWork {
    /// It holds an event that is neither written nor lost.
    holds: bool,
    /// It did not end in time: what it had is lost, and it writes no more.
    given_up: bool,
}

impl SinkState {
    fn new(name: &'static str, wants: Wants, queue: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            name,
            wants,
            queue: ArrayQueue::new(queue),
            written: zero(),
            lost: zero(),
            restarts: zero(),
            at_work: Mutex::default(),
            drained: AtomicBool::new(false),
        }
    }

    fn at_work(&self) -> MutexGuard<'_, AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event, now in the sink's hands; `None` if there is none or it was given up.
    fn take(&self) -> Option<Event> {
        let mut at_work = self.at_work();
        let event = if at_work.given_up { None } else { self.queue.pop() };
        at_work.holds = event.is_some();
        event
    }

    /// The event in the sink's hands was written, or is lost; false if the sink was given up
    /// meanwhile, and that was counted.
    fn done(&self, written: bool) -> bool {
        let mut at_work = self.at_work();
        at_work.holds = false;
        if !at_work.given_up {
            let counter = if written { &self.written } else { &self.lost };
            counter.fetch_add(1, Relaxed);
        }
        !at_work.given_up
    }

    /// It has not ended in time: what it has, and the summary, is lost.
    fn give_up(&self) {
        let mut at_work = self.at_work();
        at_work.given_up = true;
        let waiting = std::iter::from_fn(|| self.queue.pop()).count() as u64;
        let summary = (self.wants)(&What::Summary) as u64;
        self.lost.fetch_add(at_work.holds as u64 + waiting + summary, Relaxed);
    }

    fn push(&self, event: &Event) {
        if !(self.wants)(&event.what) {
            return;
        }
        if self.queue.len() + SPARE >= self.queue.capacity() || self.queue.push(event.clone()).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    fn record(&self) -> SinkRecord {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        SinkRecord { sink: self.name, written: get(&self.written), lost: get(&self.lost), restarts: get(&self.restarts) }
    }
}

/// Where everything that happens is told.
pub struct Events {
    clock: Arc<dyn Clock>,
    run: String,
    opening: Opening,
    /// The bundle that decides parts now.
    bundle: Mutex<BundleRecord>,
    counters: Counters,
    snapshot: Snapshot,
    sinks: Vec<SinkState>,
    wall_offset: AtomicI64,
    closing: OnceLock<Closing>,
    closed: AtomicBool,
    /// No sink writes anything but the summary any more.
    settled: AtomicBool,
}

impl Events {
    pub(super) fn with(clock: Arc<dyn Clock>, opening: Opening, sinks: Vec<SinkState>) -> Self {
        // The standard library seeds this hasher from the system's random numbers.
        let run = format!("{:016x}", std::collections::hash_map::RandomState::new().build_hasher().finish());
        let counters = Counters::new(opening.tags.len());
        let wall_offset = AtomicI64::new(wall::offset(clock.now()));
        let (closing, closed, settled) = (OnceLock::new(), AtomicBool::new(false), AtomicBool::new(false));
        let snapshot = Snapshot::new(opening.image);
        let bundle = Mutex::new(opening.bundle.clone());
        Self { clock, run, opening, bundle, counters, snapshot, sinks, wall_offset, closing, closed, settled }
    }

    /// Starts each sink on a thread of its own and tells them that the run begins.
    pub fn start(clock: Arc<dyn Clock>, opening: Opening, sinks: Vec<Sinking>) -> std::io::Result<(Arc<Self>, SinkThreads)> {
        let (states, makes): (Vec<_>, Vec<_>) =
            sinks.into_iter().map(|s| (SinkState::new(s.name, s.wants, s.queue), (s.name, s.make))).unzip();
        let events = Arc::new(Self::with(clock, opening, states));
        events.tell(What::Start);
        let mut threads = Vec::new();
        for (i, (name, make)) in makes.into_iter().enumerate() {
            let events = events.clone();
            let body = move || events.drive(&events.sinks[i], make);
            threads.push(std::thread::Builder::new().name(format!("sink {name}")).spawn(body)?);
        }
        Ok((events, SinkThreads(threads)))
    }

    /// Events that are kept until [`Events::take_all`]: for simulations and tests.
    pub fn kept(clock: Arc<dyn Clock>) -> Self {
        Self::with(clock, Opening::default(), vec![SinkState::new("memory", Box::new(|_| true), QUEUE)])
    }

    /// Moves all events that were kept into `events`.
    pub fn take_all(&self, events: &mut Vec<Event>) {
        let kept = self.sinks.iter().flat_map(|s| std::iter::from_fn(|| s.queue.pop()));
        events.extend(kept);
    }

    /// Tells what happened; counts it, waits for nobody, allocates nothing.
    pub fn tell(&self, what: What) {
        self.counters.count(&what);
        if let What::Edge(edge) = &what {
            self.snapshot.show_edge(edge);
        }
        self.hand_out(what);
    }

    fn hand_out(&self, what: What) {
        let at = self.clock.now();
        let event = Event { at, wall: self.wall(at), what };
        self.sinks.iter().for_each(|sink| sink.push(&event));
    }

    /// Tells that something failed, what was done about it and why it happened.
    pub fn fault(&self, kind: impl Into<FaultKind>, part: Option<u64>, remedy: Remedy, why: Why) {
        let kind = kind.into();
        let count = self.counters.count_fault(kind);
        self.hand_out(What::Fault(FaultEvent { kind, part, count, remedy, why }));
    }

    /// Tells something that is no fault.
    pub fn note(&self, text: &dyn std::fmt::Display) {
        self.hand_out(What::Note(Why::of(text)));
    }

    /// Tells a part's end and shows it with the scores of its last image.
    pub fn part(&self, part: PartEvent, scores: &[Score]) {
        self.snapshot.show(&part, scores);
        self.tell(What::Part(part));
    }

    /// Tells the figures so far, and looks at the wall clock again: it may have been set. To be
    /// called once a second.
    pub fn tick(&self) {
        self.wall_offset.store(wall::offset(self.clock.now()), Relaxed);
        self.tell(What::Status(self.counters.figures()));
    }

    /// Nothing more will be told. Sinks write what they have; the summary once
    /// [`SinkThreads::settle`] knows what each has lost.
    pub fn close(&self, closing: Closing) {
        // The first close counts.
        let _ = self.closing.set(closing);
        self.closed.store(true, Release);
    }

    /// What the sinks put to numbers.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The bundle that decides parts now, or will from the next trigger on.
    pub fn bundle(&self) -> BundleRecord {
        self.bundle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another bundle decides parts now.
    pub fn set_bundle(&self, bundle: BundleRecord) {
        *self.bundle.lock().unwrap_or_else(PoisonError::into_inner) = bundle;
    }

    /// This run's number, 16 hexadecimal digits drawn at its start.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The run in figures.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The last image, parts and edges.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the run's end left behind; `None` before it.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.get()
    }

    /// How each sink does.
    pub fn sinks(&self) -> Vec<SinkRecord> {
        self.sinks.iter().map(SinkState::record).collect()
    }

    fn wall(&self, at: Instant) -> Option<u64> {
        wall::of(at, self.wall_offset.load(Relaxed))
    }

    /// A sink's thread: writes until the run is closed; a panic costs one event and a pause.
    fn drive(&self, state: &SinkState, mut make: Make) {
        let mut back_off = BACK_OFF[0];
        loop {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve(state, &mut *make()))) else { return };
            state.done(false);
            let restarts = state.restarts.fetch_add(1, Relaxed) + 1;
            let why = format!(
                "the sink \"{}\" panicked ({}); it is started again in {:.1} s, {restarts} so far; the line goes on",
                state.name,
                panic_text(&*panic),
                back_off.as_secs_f64()
            );
            self.fault(FaultKind::Sink, None, Remedy::Told, Why::of(&why));
            let end = std::time::Instant::now() + back_off;
            while std::time::Instant::now() < end && !self.is_closed() {
                std::thread::sleep(NAP);
            }
            back_off = (back_off * 2).min(BACK_OFF[1]);
        }
    }

    /// Whether the run is closed: what is told now may not be written any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    fn serve(&self, state: &SinkState, sink: &mut dyn Sink) {
        // A disk that is full now and then may fail and go on at each event; that is told as one
        // failure.
        let (mut failing, mut is_told) = (false, false);
        let mut told_at: Option<std::time::Instant> = None;
        let mut write = |event: &Event| {
            let written = sink.write(self, event);
            if !state.done(written.is_ok()) {
                return;
            }
            match written {
                Err(e) if Told::is(&e) => {}
                Ok(()) if failing && sink.is_stuck() => {}
                Ok(()) => {
                    if std::mem::take(&mut failing) && std::mem::take(&mut is_told) {
                        let lost = state.lost.load(Relaxed);
                        self.note(&format_args!("the sink \"{}\" writes again; it has lost {lost} events", state.name));
                    }
                }
                Err(e) => {
                    failing = true;
                    if !is_told && told_at.is_none_or(|at| at.elapsed() >= NEWS) {
                        (is_told, told_at) = (true, Some(std::time::Instant::now()));
                        let why =
                            Why::of(&format_args!("the sink \"{}\" cannot write: {e}; its events are lost", state.name));
                        self.fault(FaultKind::Sink, None, Remedy::Told, why);
                    }
                }
            }
        };
        loop {
            // Read before the queue: what was told before is in it then.
            let (closed, settled) = (self.is_closed(), self.settled.load(Acquire));
            while let Some(event) = state.take() {
                write(&event);
            }
            state.drained.store(closed, Release);
            if settled {
                let at = self.clock.now();
                let summary = Event { at, wall: self.wall(at), what: What::Summary };
                let given_up = state.at_work().given_up;
                if (state.wants)(&summary.what) && !given_up {
                    write(&summary);
                }
                return;
            }
            std::thread::sleep(NAP);
        }
    }
}

/// The threads of the sinks.
pub struct SinkThreads(Vec<JoinHandle<()>>);

impl SinkThreads {
    /// Waits until every sink has written what it had when the run was closed, at most `patience`
    /// in all: a reader that does not read may not keep a stopped line alive. What is not written
    /// by then counts as lost, so that the summary, which is written now, says so.
    pub fn settle(&self, events: &Events, patience: Duration) {
        let end = std::time::Instant::now() + patience;
        let waits = || events.sinks.iter().any(|sink| !sink.drained.load(Acquire));
        while waits() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        events.sinks.iter().filter(|sink| !sink.drained.load(Acquire)).for_each(SinkState::give_up);
        events.settled.store(true, Release);
    }

    /// Waits until every sink has written the summary, at most `patience` in all.
    pub fn join(self, patience: Duration) {
        let end = std::time::Instant::now() + patience;
        while self.0.iter().any(|t| !t.is_finished()) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
