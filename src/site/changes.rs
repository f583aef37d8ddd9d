//! What a run adds to the record of changes: the bundle and the keys that it starts with, where
//! they are others than before, who acknowledged, and what became of a bundle that was installed
//! while it runs.
//!
//! A client of the run and a sink of its events do it, so a disk that hangs or is full delays no
//! part: what cannot be recorded is told and counted as a fault of the kind `sink`.

use crate::audit::{Acknowledges, Change, Log};
use crate::bundle::{Bundle, Hex};
use crate::events::sinks::{Sink, Told};
use crate::events::{Client, Event, Events, FaultKind, Remedy, SMALL_QUEUE, Sinking, Update, UpdateEvent, What, Why};
use crate::keys::Keys;
use crate::settings::{Settings, StateFolder};
use crate::supervisor::lowest_priority;
use crate::triggers::TriggerSpec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often acknowledgements are recorded: those of one source within it are one line.
const EVERY: Duration = Duration::from_secs(1);

/// Records for one run.
pub(super) struct Recorder {
    state: StateFolder,
    log: Log,
    acknowledges: Arc<Acknowledges>,
    /// Who set it, what, and to what: recorded where it was something else.
    start: Vec<(&'static str, String, String)>,
}

/// As much of each hash as tells the keys of a site apart.
fn shown(keys: &Keys) -> String {
    let short = |hash: &crate::keys::KeyHash| hash.to_string().chars().take(15).collect::<String>();
    keys.0.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// Who acknowledges at an input.
fn source(input: &TriggerSpec) -> String {
    match input {
        TriggerSpec::Gpio(_) => "button".into(),
        TriggerSpec::Stdin { .. } => "standard input".into(),
        TriggerSpec::Socket(socket) => format!("socket {}", socket.path.display()),
        TriggerSpec::Period(_) | TriggerSpec::Modbus { .. } => input.to_string(),
    }
}

impl Recorder {
    /// `None` where device.toml states no state folder.
    pub(super) fn of(settings: &Settings, bundle: &Bundle<'_>) -> Option<Self> {
        let site = &settings.site;
        let (state, log) = (StateFolder::at(site.state.clone()?), Log::of_state(site.state.as_ref()?));
        let peers = site.modbus.iter().flat_map(|m| &m.writers).map(|peer| format!("modbus {peer}"));
        let acknowledges = Arc::new(Acknowledges::new(settings.inputs.iter().map(source).chain(peers)));
        let runs = format!("{} {}", bundle.contract.name, Hex(&bundle.sha256));
        let mut start = vec![("start of a run", "bundle".to_string(), runs)];
        let predict = site.predict.as_ref().map(|p| &p.listening);
        for l in [site.page.as_ref(), predict, site.metrics.as_ref()].into_iter().flatten() {
            start.push(("device.toml", format!("keys of [{}]", l.table), shown(&l.keys)));
        }
        Some(Self { state, log, acknowledges, start })
    }

    pub(super) fn acknowledges(&self) -> Arc<Acknowledges> {
        self.acknowledges.clone()
    }

    /// The sink that records what became of a bundle, at that moment.
    pub(super) fn sink(&self) -> Sinking {
        let (state, log) = (self.state.clone(), self.log.clone());
        let make = move || Box::new(Bundles { state: state.clone(), log: log.clone() }) as Box<dyn Sink>;
        Sinking {
            name: "audit",
            wants: Box::new(|what| matches!(what, What::Update(_))),
            queue: SMALL_QUEUE,
            make: Box::new(make),
        }
    }

    pub(super) fn client(self) -> Client {
        let run = move |events: &Arc<Events>, stop: &Arc<AtomicBool>| {
            lowest_priority();
            // Boards are run with read-only disks: that is no fault of this run.
            if let Err(why) = self.record(self.at_start()) {
                events.note(&why);
            }
            let mut next = Instant::now();
            loop {
                let is_last = stop.load(Ordering::Acquire);
                if is_last || Instant::now() >= next {
                    next = Instant::now() + EVERY;
                    if let Err(why) = self.record(self.acknowledged()) {
                        events.fault(FaultKind::Sink, None, Remedy::Told, Why::of(&why));
                    }
                }
                if is_last {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        Client { name: "audit", run: Box::new(run) }
    }

    fn at_start(&self) -> Vec<Change> {
        let change = |(who, what, new): &(&str, String, String)| {
            let old = self.log.last(what).unwrap_or_default();
            (old != *new).then(|| Change { who: who.to_string(), what: what.clone(), old, new: new.clone() })
        };
        self.start.iter().filter_map(change).collect()
    }

    fn acknowledged(&self) -> Vec<Change> {
        let change = |(who, n): (&str, u64)| {
            let new = if n == 1 { String::new() } else { format!("{n} times") };
            Change { who: who.into(), what: "acknowledge".into(), old: String::new(), new }
        };
        self.acknowledges.take().map(change).collect()
    }

    fn record(&self, changes: Vec<Change>) -> Result<(), String> {
        record(&self.state, &self.log, changes)
    }
}

/// Why something could not be recorded, and what it was. In the place of the run's folder another
/// one is no place for it: whoever reads the record later would not find it.
fn record(state: &StateFolder, log: &Log, changes: Vec<Change>) -> Result<(), String> {
    if changes.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = changes.iter().map(|c| format!("{} by {} {}", c.what, c.who, c.new)).collect();
    let recorded = state.path().and_then(|_| log.append(changes).map_err(|e| e.to_string()));
    // What is lost comes first: a long path may be cut off.
    recorded.map_err(|e| format!("not recorded: {}: {e}", told.join(", ").trim_end()))
}

/// Records each bundle that a running line takes over or leaves aside.
struct Bundles {
    state: StateFolder,
    log: Log,
}

impl Bundles {
    fn change(&self, update: &UpdateEvent, events: &Events) -> Change {
        let hash = update.bundle.map_or("one that cannot be read".into(), |hash| Hex(&hash).to_string());
        let installer = self.log.last_of(|r| r.what.starts_with("bundle ") && r.new == hash).map(|r| r.who);
        let who = match (update.outcome, installer) {
            (Update::WentBack, _) => format!("running line, by itself: {}", update.why.as_str()),
            (_, Some(user)) => format!("running line, installed by {user}"),
            (_, None) => "running line, installed by nobody who was recorded".into(),
        };
        let running = Hex(&update.running).to_string();
        let (what, old, new) = match update.outcome {
            Update::TakenOver | Update::WentBack => {
                // As a start records it, so that the next one records nothing new.
                let name = events.bundle().name;
                ("bundle", self.log.last("bundle").unwrap_or_default(), format!("{name} {running}"))
            }
            Update::RestartNeeded => ("bundle needs a restart", running, format!("{hash}: {}", update.why.as_str())),
            Update::Refused => ("bundle refused", running, format!("{hash}: {}", update.why.as_str())),
        };
        Change { who, what: what.into(), old, new }
    }
}

impl Sink for Bundles {
    fn write(&mut self, events: &Events, event: &Event) -> std::io::Result<()> {
        let What::Update(update) = &event.what else { return Ok(()) };
        lowest_priority();
        record(&self.state, &self.log, vec![self.change(update, events)]).map_err(|why| {
            events.fault(FaultKind::Sink, None, Remedy::Told, Why::of(&why));
            std::io::Error::other(Told)
        })
    }
}
