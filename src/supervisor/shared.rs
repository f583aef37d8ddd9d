//! What the threads of a run share: the station, and where its effects go: outputs, events,
//! figures, the run's end.

use super::actuation::{Command, CommandQueue, Commands, Patience, Stand};
use super::beside::{PartEnd, Tuning};
use super::capture::Exchange;
use super::clock::SystemClock;
use super::ended::{End, Ended};
use super::panics::Alarm;
use super::truth::{Observer, Truth};
use crate::board::Trouble;
use crate::decide::{Action, Task, Verdict};
use crate::events::{
    Events, FaultKind, Image, Images, Latency, PartEvent, Percentiles, Remedy, TOP, TriggerEvent, Update, UpdateEvent, What,
    Why,
};
use crate::fault::Reason;
use crate::head::{Score, TagId, top_k};
use crate::line::{LineMask, Moment, PartId};
use crate::scene::Crossing;
use crate::station::{Effect, Input, PartDone, Scope, Slot, Spare, Station, Ticket};
use crate::time::{Clock, Instant, Micros};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::Duration;

/// The belt's position in encoder counts.
#[derive(Debug)]
pub(super) struct Belt {
    position: AtomicI64,
    /// The farthest since the outputs last looked.
    peak: AtomicI64,
    /// When it last moved.
    moved: AtomicU64,
    /// When it came last to each of the last positions from below, by the position's last digits.
    came: [AtomicU64; KEPT],
}

/// Positions whose moments are kept: 0.8 s of a belt at 10,000 counts a second, longer than a
/// camera's frame is on its way.
const KEPT: usize = 8192;

impl Default for Belt {
    fn default() -> Self {
        Self {
            position: AtomicI64::new(0),
            peak: AtomicI64::new(0),
            moved: AtomicU64::new(0),
            came: [const { AtomicU64::new(0) }; KEPT],
        }
    }
}

impl Belt {
    pub(super) fn position(&self) -> i64 {
        self.position.load(Ordering::Acquire)
    }

    fn came(&self, position: i64) -> &AtomicU64 {
        &self.came[position.rem_euclid(KEPT as i64) as usize]
    }

    /// The oldest position up to `last` whose moment is kept.
    const fn kept(last: i64) -> i64 {
        last.saturating_sub(KEPT as i64 - 1)
    }

    /// It has moved to `to`. One thread calls this.
    pub(super) fn set(&self, to: Moment) {
        let at = to.at.as_micros();
        let first = (self.position() + 1).max(Self::kept(to.position));
        (first..=to.position).for_each(|position| self.came(position).store(at, Ordering::Relaxed));
        self.moved.store(at, Ordering::Relaxed);
        self.position.store(to.position, Ordering::Release);
        self.peak.fetch_max(to.position, Ordering::AcqRel);
    }

    /// When it last moved.
    pub(super) fn moved(&self) -> Instant {
        Instant::from_micros(self.moved.load(Ordering::Relaxed))
    }

    /// Waits a little until it is surely known where it was at `at`: behind a stall the counts up to
    /// then may not be read yet. Not for the thread that reads them.
    pub(super) fn heard_of(&self, at: Instant) {
        const LOOKS: u32 = 15;
        const PAUSE: Duration = Duration::from_micros(200);
        let is_awaited = || 0 < self.moved().as_micros() && self.moved() <= at;
        (0..LOOKS).take_while(|_| is_awaited()).for_each(|_| std::thread::sleep(PAUSE));
    }

    /// Where it was at `at`: `None` if it has moved on by more than is kept since. Of a belt that ran
    /// back since then: the farthest position before `at` that it has not left.
    pub(super) fn position_at(&self, at: Instant) -> Option<i64> {
        let last = self.position();
        if self.moved() <= at {
            return Some(last);
        }
        (Self::kept(last)..=last).rev().find(|p| self.came(*p).load(Ordering::Relaxed) <= at.as_micros())
    }

    /// The farthest position since this was last asked: a belt that has run back meanwhile has been
    /// there all the same.
    pub(super) fn take_peak(&self) -> i64 {
        let position = self.position();
        self.peak.swap(position, Ordering::AcqRel).max(position)
    }

    /// What it did since it was at `seen`, to `each`: the positions up to `peak` that it came to,
    /// then where it is. `seen` is that then.
    pub(super) fn follow(&self, seen: &mut i64, peak: i64, mut each: impl FnMut(Moment)) {
        for position in seen.saturating_add(1).max(Self::kept(peak))..=peak {
            each(Moment { at: Instant::from_micros(self.came(position).load(Ordering::Relaxed)), position });
            *seen = position;
        }
        // What it did beyond the peak is seen the next time.
        let position = self.position().min(peak);
        if position != *seen {
            each(Moment { at: self.moved(), position });
            *seen = position;
        }
    }
}

/// What the outputs' thread leaves behind.
#[derive(Debug)]
pub(super) struct OutputsEnd {
    /// From an edge's due time until it was done, in microseconds: p50, p99, p99.9, largest.
    pub(super) edge_jitter: [u32; 4],
    /// Lines whose last write failed, or did not bring them to their safe state.
    pub(super) not_safe: LineMask,
}

/// What an event of a part shows besides its decision.
pub(super) struct Shown {
    /// The images of parts that wait for their verdict.
    images: Images,
    /// What the built-in conveyor's parts are; of any other source nothing.
    truth: Observer,
    /// The bundles whose models stand in the two slots.
    bundles: [[u8; 32]; 2],
}

impl Shown {
    pub(super) fn new(truth: Observer) -> Self {
        Self { images: Images::default(), truth, bundles: [[0; 32]; 2] }
    }
}

/// What is known of an input besides what the station needs, for events alone.
#[derive(Default)]
pub(super) struct About<'a> {
    /// What exactly went wrong.
    pub(super) why: Why,
    /// How long the frame took that scores are of.
    pub(super) latency: Latency,
    /// Those scores.
    pub(super) scores: &'a [Score],
    /// Whether the line goes back to a model; `why` is the reason.
    pub(super) back: bool,
}

pub(super) struct Shared {
    pub(super) clock: SystemClock,
    pub(super) exchange: Exchange,
    pub(super) commands: CommandQueue,
    pub(super) events: Arc<Events>,
    pub(super) belt: Belt,
    pub(super) station: Mutex<Station>,
    pub(super) task: Task,
    /// Whether the station is told each position of the belt.
    pub(super) watches_belt: bool,
    pub(super) shown: Mutex<Shown>,
    /// Who is told how parts ended, where a bundle may take the line's one's place.
    pub(super) tuning: Option<Arc<Tuning>>,
    /// What a part without a verdict gets where outputs follow parts.
    pub(super) late: Option<Action>,
    /// How long parts in flight are waited for at the end.
    pub(super) patience: Patience,
    /// Where the outputs stand.
    pub(super) stand: Arc<Stand>,
    /// The newest part that was given a number.
    pub(super) opened: AtomicU64,
    /// When the line's thread last beat.
    pub(super) beat: AtomicU64,
    /// When the outputs' thread last beat.
    pub(super) outputs_beat: AtomicU64,
    /// Set when no trigger opens a part any more: another recipe is to come.
    pub(super) closing: AtomicBool,
    /// When a trigger that opened no part for that was last told.
    pub(super) unopened_told: AtomicU64,
    /// Set when the outputs may end once what is in flight has passed.
    pub(super) drain: AtomicBool,
    /// Set when they have.
    pub(super) over: AtomicBool,
    pub(super) ended: End,
    /// Whether a thread has panicked.
    pub(super) alarm: Arc<Alarm>,
    /// Which output hung, if one did.
    pub(super) stuck: OnceLock<Why>,
    /// Set when the others were made safe thereupon.
    pub(super) rescue_over: AtomicBool,
    /// The thread that waits for the end.
    pub(super) waiting: Thread,
    /// How the line hung, if it did.
    pub(super) hung: OnceLock<Why>,
    /// From capture to scores.
    pub(super) latency: Mutex<Percentiles>,
    /// Priority and memory lock of the outputs' thread.
    pub(super) realtime: OnceLock<String>,
    pub(super) outputs_end: OnceLock<OutputsEnd>,
}

impl Shared {
    /// What a run shares that is about to begin, and the end of its commands that the outputs'
    /// thread takes. The calling thread is woken when the run ends.
    pub(super) fn new(
        station: Station,
        events: Arc<Events>,
        late: Option<Action>,
        patience: Patience,
        truth: Observer,
        stand: Arc<Stand>,
    ) -> (Self, Commands) {
        let clock = SystemClock;
        let (commands, taken) = CommandQueue::new();
        let beat = || AtomicU64::new(clock.now().as_micros());
        let shared = Self {
            clock,
            exchange: Exchange::default(),
            commands,
            events,
            belt: Belt::default(),
            task: station.task(),
            watches_belt: station.watches_belt(),
            station: Mutex::new(station),
            shown: Mutex::new(Shown::new(truth)),
            tuning: None,
            late,
            patience,
            stand,
            opened: AtomicU64::new(0),
            beat: beat(),
            outputs_beat: beat(),
            closing: AtomicBool::new(false),
            unopened_told: AtomicU64::new(0),
            drain: AtomicBool::new(false),
            over: AtomicBool::new(false),
            ended: End::default(),
            alarm: Arc::default(),
            waiting: std::thread::current(),
            hung: OnceLock::new(),
            stuck: OnceLock::new(),
            rescue_over: AtomicBool::new(false),
            latency: Mutex::default(),
            realtime: OnceLock::new(),
            outputs_end: OnceLock::new(),
        };
        (shared, taken)
    }

    /// Whether the line and the outputs have both beaten within `watchdog` of `now`.
    pub(super) fn is_alive(&self, now: Instant, watchdog: Micros) -> bool {
        let beats = |beat: &AtomicU64| now.since(Instant::from_micros(beat.load(Ordering::Relaxed))) <= watchdog;
        beats(&self.beat) && beats(&self.outputs_beat)
    }

    /// The first reason to end counts.
    pub(super) fn end(&self, why: Ended) {
        let first = self.ended.first(why);
        // Before anything stops, so that the outputs never see a stop that is none.
        self.drain.fetch_or(first.lets_parts_pass(), Ordering::Release);
        self.exchange.stop.store(true, Ordering::Release);
        self.waiting.unpark();
    }

    /// Gives the station one input now and carries out what follows; the frame that it wants
    /// classified comes back.
    pub(super) fn step(&self, input: Input<'_>) -> Option<Ticket> {
        self.step_about(input, &About::default())
    }

    /// The same, with what events tell of it.
    pub(super) fn step_about(&self, input: Input<'_>, about: &About<'_>) -> Option<Ticket> {
        let mut ticket = None;
        // The lock is held until everything is carried out, so that all queues see all parts in
        // their order.
        let mut station = self.station.lock().expect("no thread panics while it holds this");
        let now = Moment { at: self.clock.now(), position: self.belt.position() };
        station.step(now, input, &mut |effect| match effect {
            Effect::Classify(wanted) => ticket = Some(wanted),
            effect => self.carry_out(now.at, about, effect),
        });
        self.events.counters().too_close.store(station.too_close(), Ordering::Relaxed);
        ticket
    }

    /// Whether no trigger opens a part any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.exchange.stop.load(Ordering::Relaxed)
    }

    /// Whether this run makes place for the next.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// A part passes the trigger. `false`: the run is over, and nobody was told of the part.
    pub(super) fn trigger(&self, at: Instant, position: Option<i64>) -> bool {
        if !self.is_stopped() {
            let moment = position.map(|position| Moment { at, position }).or_else(|| self.moment(at));
            if let Some(moment) = moment {
                self.step(Input::Trigger(moment));
            }
        } else if self.is_closing() {
            // Parts before it are on their way to their gates still.
            self.unopened(self.clock.now());
        } else {
            return false;
        }
        true
    }

    /// A moment with the place where the belt was then. `None` if nobody knows any more: the line is
    /// safe then.
    pub(super) fn moment(&self, at: Instant) -> Option<Moment> {
        let position = self.belt.position_at(at);
        if position.is_none() {
            let ms = self.clock.now().since(at).0 / 1000;
            let why = format_args!(
                "a part is told of {ms} ms late, and the belt has moved by more than {KEPT} counts since: it passes unsorted"
            );
            self.line_fault(Reason::Trigger, Why::of(&why));
        }
        position.map(|position| Moment { at, position })
    }

    /// The run ends for `why`: parts that wait have their end, and no trigger opens another.
    pub(super) fn stop_parts(&self, why: Ended) {
        // A panic within the station leaves nobody who knows of them: the summary says which they
        // are.
        if !self.station.is_poisoned() {
            self.step(Input::Stopped { reason: why.reason(), safe: !why.lets_parts_pass() });
        }
    }

    /// No trigger opens a part any more; the run ends when those on their way have their end.
    pub(super) fn close(&self) {
        // First `ready` falls: who asks it sends no part.
        self.closing.store(true, Ordering::Release);
        if !self.station.is_poisoned() {
            self.step(Input::Close);
        }
    }

    /// A part passed the trigger meanwhile. It is counted; told at most once a second.
    pub(super) fn unopened(&self, now: Instant) {
        const PAUSE: u64 = 1_000_000;
        let counters = self.events.counters();
        let before = counters.passed_over.fetch_add(1, Ordering::Relaxed);
        let told = self.unopened_told.load(Ordering::Relaxed);
        if told > 0 && now.as_micros() < told + PAUSE {
            return;
        }
        self.unopened_told.store(now.as_micros(), Ordering::Relaxed);
        let when = if self.is_closing() { "while the recipe changes and ready is down" } else { "as the run ends" };
        let why = format_args!("a part passed the trigger {when}: it is not sorted; passed over so far: {}", before + 1);
        self.events.fault(FaultKind::Input, None, Remedy::Told, Why::of(&why));
    }

    /// Something failed that concerns all parts: all outputs to their safe state.
    pub(super) fn line_fault(&self, reason: Reason, why: Why) {
        self.fault(reason, None, Scope::Line, why);
    }

    /// If a thread has panicked: told once, all outputs safe, the end.
    pub(super) fn tell_panic(&self) {
        if let Some(why) = self.alarm.to_tell() {
            // Not by way of the station: the thread may have held that.
            self.fault(Reason::Panic, None, Scope::Line, why);
            self.end(Ended::Panic);
        }
    }

    /// Time until the oldest part's deadline.
    pub(super) fn time_left(&self, now: Instant) -> Option<Micros> {
        self.station.lock().expect("no thread panics while it holds this").time_left(now)
    }

    /// The slot that no part needs, if there is one.
    pub(super) fn take_spare(&self) -> Option<Spare> {
        self.station.lock().expect("no thread panics while it holds this").take_spare()
    }

    /// The model in `slot`, which no undecided part needs, is of this bundle.
    pub(super) fn runs(&self, slot: Slot, sha256: [u8; 32]) {
        self.shown.lock().expect("no thread panics while it holds this").bundles[slot as usize] = sha256;
    }

    fn carry_out(&self, now: Instant, about: &About<'_>, effect: Effect) {
        match effect {
            Effect::Classify(_) => unreachable!("taken by who steps"),
            Effect::Opened { part, trigger, touching } => {
                let Moment { at, position } = trigger;
                self.events.tell(What::Trigger(TriggerEvent { part: part.0, trigger: at, position, touching }));
                self.opened.store(part.0, Ordering::Release);
                if self.late.is_some() {
                    self.commands.push(Command::Open { part, trigger, touching });
                }
            }
            Effect::Now { part, calls } => self.commands.push(Command::Now { part, calls, at: now }),
            Effect::Doubt { part, reason } => self.commands.push(Command::Doubt { part, reason }),
            Effect::Fault { reason: Reason::Frozen, part: part @ Some(_), scope } => {
                let why = "its image came again, for another part or frozen_after times: is the camera stuck, or the light off? \
                    frozen_after = 0 turns this off";
                self.fault(Reason::Frozen, part, scope, Why::of(&why));
            }
            Effect::Fault { reason, part, scope } => self.fault(reason, part, scope, about.why.clone()),
            Effect::Decided(done) => self.decided(now, about, &done),
            Effect::Model { slot, from } => {
                let bundles = self.shown.lock().expect("no thread panics while it holds this").bundles;
                let [running, before] = [slot, slot.other()].map(|slot| bundles[slot as usize]);
                self.events.tell(What::Update(UpdateEvent {
                    outcome: if about.back { Update::WentBack } else { Update::TakenOver },
                    bundle: Some(if about.back { before } else { running }),
                    before,
                    running,
                    from_part: Some(from.0),
                    why: about.why.clone(),
                }));
            }
            Effect::Unopened => self.unopened(now),
            Effect::Over(over) => self.end(over.into()),
        }
    }

    fn fault(&self, reason: Reason, part: Option<PartId>, scope: Scope, why: Why) {
        let late = self.late.filter(|_| scope == Scope::Part);
        if reason == Reason::Frozen {
            // A camera that shows one image for ever must be opened again.
            self.exchange.restart.store(true, Ordering::Relaxed);
        }
        self.events.fault(reason, part.map(|id| id.0), late.into(), why);
        if late.is_none() {
            self.commands.push(Command::Safe(reason));
        }
    }

    /// A part's end: told and commanded.
    fn decided(&self, now: Instant, about: &About<'_>, done: &PartDone) {
        if about.latency.total.0 > 0 {
            self.latency.lock().expect("no thread panics while it holds this").add(about.latency.total.0);
        }
        // The scores are of the frame that was just classified, which may be another part's.
        let is_its_own = !matches!(done.decision.verdict, Verdict::Safe(_));
        let scores = if is_its_own { about.scores } else { &[] };
        // Both queues are bounded and never wait, so the order is for readers only: the part stands
        // before its edges.
        let event = self.part_event(now, about.latency, scores, done);
        if let Some(tuning) = &self.tuning {
            tuning.ended(PartEnd { bundle: event.bundle, late: event.late });
        }
        self.events.part(event, scores);
        let (part, calls) = (done.part.id, done.calls);
        if self.late.is_some() {
            self.commands.push(Command::Verdict { part, calls });
        } else if !matches!(done.decision.verdict, Verdict::Safe(_)) {
            self.commands.push(Command::Now { part, calls, at: now });
        }
    }

    fn part_event(&self, now: Instant, latency: Latency, scores: &[Score], done: &PartDone) -> PartEvent {
        let mut best = [(TagId(0), Score(0)); TOP];
        let found = top_k(scores, &mut best);
        let mut shown = self.shown.lock().expect("no thread panics while it holds this");
        let truth = shown.truth.of(done);
        let bundle = shown.bundles[done.model as usize];
        PartEvent {
            part: done.part.id.0,
            trigger: done.part.trigger.at,
            images: shown.images.take(done.part.id.0),
            captured_at: done.captured_at,
            top: if found > 0 {
                heapless::Vec::from_iter(best[..found].iter().copied())
            } else {
                done.best.into_iter().collect()
            },
            decision: done.decision,
            // Its gates do not move any more, whatever is decided of it.
            action: done.action.filter(|_| self.late.is_none() || !self.stand.is_given_up(done.part.id.0)),
            late: done.late,
            counted: done.seen(self.task),
            age: now.since(done.captured_at),
            latency,
            bundle,
            truth: truth.map(|t: Truth| t.kind),
            right: truth.and_then(|t| t.right),
        }
    }

    /// An image counts for a part.
    pub(super) fn add_image(&self, part: PartId, image: Image) {
        self.shown.lock().expect("no thread panics while it holds this").images.add(part.0, image);
    }

    /// A crossing of the built-in conveyor's light barrier: what the part is, and how many were
    /// missed so far.
    pub(super) fn crossed(&self, crossing: Crossing, missed: u64) {
        self.shown.lock().expect("no thread panics while it holds this").truth.crossed(crossing);
        self.events.counters().missed_triggers.store(missed, Ordering::Relaxed);
    }

    /// Brings the figures of the capture thread up to date.
    pub(super) fn count_frames(&self) {
        self.events.counters().skipped_frames.store(self.exchange.skipped(), Ordering::Relaxed);
    }

    /// What the line's thread stands at after a silence of `span`.
    pub(super) fn how_it_hung(&self, span: Micros) -> Why {
        let counters = self.events.counters();
        let begun = counters.inferences.load(Ordering::Relaxed);
        let seconds = span.0 as f64 / 1e6;
        match begun > counters.inferences_done.load(Ordering::Relaxed) {
            true => Why::of(&format_args!("model hung for {seconds:.1} s at inference {begun}")),
            false => Why::of(&format_args!("the line's thread hung for {seconds:.1} s after inference {begun}")),
        }
    }

    /// The board is in trouble; the line goes on.
    pub(super) fn board_fault(&self, trouble: Trouble) {
        self.events.fault(FaultKind::Board(trouble), None, Remedy::Told, Why::of(&trouble.mend()));
    }

    pub(super) fn set_realtime(&self, got: String) {
        // One thread asks for it, once.
        let _ = self.realtime.set(got);
    }
}
