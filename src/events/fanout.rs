//! The fan-out: each sink has a queue and a thread of its own, and who tells waits for none of
//! them.
//!
//! A queue is lock-free and of fixed capacity. A sink that is full, fails or panics loses its own
//! events, counted, and the others go on. A sink that panicked is made again after a pause that
//! doubles each time, up to half a minute.

use super::record::{Closing, Opening, SinkRecord};
use super::sinks::Sink;
use super::{Counters, Event, FaultEvent, FaultKind, PartEvent, Remedy, Snapshot, What, Why, wall};
use crate::head::Score;
use crate::time::{Clock, Instant};
use crossbeam_queue::ArrayQueue;
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Events that wait for one sink.
const CAPACITY: usize = 1024;
/// Places that stay free. A queue's producer may have to wait for a consumer that stands between
/// two steps of taking an event, but only at the place that the event leaves; with more free places
/// than threads that tell, nobody gets there.
const SPARE: usize = 32;
/// How long a sink sleeps when it has nothing to write: nobody wakes it, so that telling is no
/// system call.
const NAP: Duration = Duration::from_millis(10);
/// The first pause after a panic, and the longest.
pub(super) const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

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
}

impl SinkState {
    fn new(name: &'static str, wants: Wants) -> Self {
        let zero = || AtomicU64::new(0);
        Self { name, wants, queue: ArrayQueue::new(CAPACITY), written: zero(), lost: zero(), restarts: zero() }
    }

    fn push(&self, event: &Event) {
        if !(self.wants)(&event.what) {
            return;
        }
        if self.queue.len() + SPARE >= CAPACITY || self.queue.push(event.clone()).is_err() {
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
    counters: Counters,
    snapshot: Snapshot,
    sinks: Vec<SinkState>,
    wall_offset: AtomicI64,
    closing: OnceLock<Closing>,
    closed: AtomicBool,
}

impl Events {
    pub(super) fn with(clock: Arc<dyn Clock>, opening: Opening, sinks: Vec<SinkState>) -> Self {
        // The standard library seeds this hasher from the system's random numbers.
        let run = format!("{:016x}", std::collections::hash_map::RandomState::new().build_hasher().finish());
        let counters = Counters::new(opening.tags.len());
        let wall_offset = AtomicI64::new(wall::offset(clock.now()));
        let (closing, closed) = (OnceLock::new(), AtomicBool::new(false));
        let snapshot = Snapshot::new(opening.image);
        Self { clock, run, opening, counters, snapshot, sinks, wall_offset, closing, closed }
    }

    /// Starts each sink on a thread of its own and tells them that the run begins.
    pub fn start(clock: Arc<dyn Clock>, opening: Opening, sinks: Vec<Sinking>) -> std::io::Result<(Arc<Self>, SinkThreads)> {
        let (states, makes): (Vec<_>, Vec<_>) =
            sinks.into_iter().map(|s| (SinkState::new(s.name, s.wants), (s.name, s.make))).unzip();
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
        Self::with(clock, Opening::default(), vec![SinkState::new("memory", Box::new(|_| true))])
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

    /// Nothing more will be told. Sinks write what they have, then the summary, and end.
    pub fn close(&self, closing: Closing) {
        // The first close counts.
        let _ = self.closing.set(closing);
        self.closed.store(true, std::sync::atomic::Ordering::Release);
    }

    /// What the sinks put to numbers.
    pub fn opening(&self) -> &Opening {
        &self.opening
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
            state.lost.fetch_add(1, Relaxed);
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

    fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    fn serve(&self, state: &SinkState, sink: &mut dyn Sink) {
        let mut failing = false;
        let mut write = |event: &Event| match sink.write(self, event) {
            Ok(()) => {
                state.written.fetch_add(1, Relaxed);
                if std::mem::take(&mut failing) {
                    let lost = state.lost.load(Relaxed);
                    self.note(&format_args!("the sink \"{}\" writes again; it has lost {lost} events", state.name));
                }
            }
            Err(e) => {
                state.lost.fetch_add(1, Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    let why = Why::of(&format_args!("the sink \"{}\" cannot write: {e}; its events are lost", state.name));
                    self.fault(FaultKind::Sink, None, Remedy::Told, why);
                }
            }
        };
        loop {
            // Read before the queue: what was told before the end is in it then.
            let closed = self.is_closed();
            while let Some(event) = state.queue.pop() {
                write(&event);
            }
            if closed {
                let at = self.clock.now();
                let summary = Event { at, wall: self.wall(at), what: What::Summary };
                if (state.wants)(&summary.what) {
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
    /// Waits until every sink has written its last event, at most `patience` in all: a reader that
    /// does not read may not keep a stopped line alive.
    pub fn join(self, patience: Duration) {
        let end = std::time::Instant::now() + patience;
        while self.0.iter().any(|t| !t.is_finished()) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
