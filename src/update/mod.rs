//! Updates of a running line: the bundle that is installed in its folder takes the place of the one
//! that it runs.
//!
//! A thread of its own looks at the link `current` a few times a second. Where it leads to another
//! bundle, that is loaded and tried by a thread of the lowest priority and handed to the line in
//! memory; the [station](crate::station) says which part is whose. What does not run, or differs in
//! what a running line cannot change, is told, and the line goes on as it is. `UPDATES.md` beside
//! the bundle's format says what a site does.

use crate::bundle::{Bundle, Fit, Hex};
use crate::decide::TagRule;
use crate::events::run::{BundleRecord, task_name};
use crate::events::{Client, Events, RuleEvent, Update, UpdateEvent, What, Why};
use crate::head::TagId;
use crate::installed::{self, Shape};
use crate::settings::Settings;
use crate::supervisor::vision::Model;
use crate::supervisor::{Tuning, lowest_priority};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the link is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// How long a bundle's trial waits in all for moments in which no part is undecided.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of a bundle a running line cannot change.
#[derive(Clone, Debug)]
pub struct Fixed {
    shape: Shape,
    fit: Fit,
    has_distance: bool,
    settings: Settings,
}

impl Fixed {
    /// That of `bundle`, for which device.toml says `settings`.
    pub fn of(bundle: &Bundle<'_>, mut settings: Settings) -> Self {
        // Thresholds and bands are what a bundle may bring.
        settings.tags.iter_mut().for_each(|tag| tag.rule = TagRule::default());
        #[cfg(feature = "site")]
        {
            settings.site.overrides = None;
        }
        let (shape, fit) = (Shape::of(&bundle.contract), bundle.contract.input.fit);
        Self { shape, fit, has_distance: bundle.spread.is_some(), settings }
    }

    /// What stands in the way of taking over `new`; empty if nothing does.
    pub fn differences(&self, new: &Self) -> Vec<&'static str> {
        let contract = self.shape.differences(&new.shape);
        let same_tags = contract.is_empty();
        let others = [
            ("way of fitting a frame to the model", self.fit != new.fit),
            ("distance limit (one has none)", self.has_distance != new.has_distance),
            // With other tags device.toml says something else in any case.
            ("meaning of device.toml (categories)", same_tags && self.settings != new.settings),
        ];
        let others = others.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what);
        contract.into_iter().map(|d| d.name()).chain(others).collect()
    }
}

/// A bundle that was tried and may decide parts.
pub struct Loaded {
    /// Its hash.
    pub sha256: [u8; 32],
    /// Makes its model, with threads of the caller's priority; an error says why there is none.
    pub finish: Box<dyn FnOnce() -> Result<Box<Model>, String> + Send>,
    /// Threshold and band, one rule a tag and category.
    pub rules: Vec<TagRule>,
    /// What it is.
    pub record: BundleRecord,
}

/// Why a bundle does not decide parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLoaded {
    /// Its hash; `None` where it cannot be read.
    pub sha256: Option<[u8; 32]>,
    /// Whether a restart would take it.
    pub outcome: Update,
    /// Why.
    pub why: String,
}

/// Loads and tries the bundle at a path. It calls its second argument before each of its larger
/// steps, to wait for a moment that suits the line.
pub type Load = Box<dyn Fn(&Path, &dyn Fn()) -> Result<Loaded, NotLoaded> + Send + Sync>;

/// What is installed, and what the line runs.
struct Seen {
    /// The bundle's file where the link led when it was last looked at.
    file: PathBuf,
    /// The bundle that the line runs: its file and its hash.
    running: (PathBuf, [u8; 32]),
}

/// Follows one folder.
pub struct Follower {
    folder: PathBuf,
    tuning: Arc<Tuning>,
    load: Load,
    seen: Mutex<Seen>,
}

impl Follower {
    /// Of the line that runs the bundle at `file` from `folder`. `sha256`: that bundle's.
    pub fn new(folder: PathBuf, file: PathBuf, sha256: [u8; 32], tuning: Arc<Tuning>, load: Load) -> Self {
        let seen = Mutex::new(Seen { file: file.clone(), running: (file, sha256) });
        Self { folder, tuning, load, seen }
    }

    /// Its thread, as a client of the run's events.
    pub fn client(self) -> Client {
        Client { name: "update", run: Box::new(move |events, stop| self.follow(events, stop)) }
    }

    fn follow(&self, events: &Arc<Events>, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            self.look(events, stop);
            // Freeing a model takes time that the line does not have.
            drop(self.tuning.left());
            std::thread::sleep(EVERY);
        }
    }

    /// Takes over what is installed, where it is another bundle than when this was last called.
    fn look(&self, events: &Arc<Events>, stop: &AtomicBool) {
        let file = installed::bundle_file(&self.folder);
        // Whoever panicked left a whole value.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if file == seen.file || !file.is_file() {
            return;
        }
        // Before it is tried: a bundle that lets the trial panic is not tried again.
        seen.file.clone_from(&file);
        if file == seen.running.0 {
            return;
        }
        let finish = |Loaded { sha256, finish, rules, record }| match finish() {
            Ok(model) => Ok((model, rules, record)),
            Err(why) => Err(NotLoaded { sha256: Some(sha256), outcome: Update::Refused, why }),
        };
        // The engine's threads are started here: they must not have the priority of the trial's.
        match self.tried(&file, events, stop).and_then(finish) {
            Ok((model, rules, record)) => {
                seen.running = (file, model.sha256());
                let before = self.tuning.now();
                let who = Why::of(&format_args!("bundle {}", record.sha256));
                let changed = before.into_iter().zip(rules.clone()).enumerate().filter(|(_, (old, new))| old != new);
                // Before the line tells of it: who hears of that may ask for the name.
                events.set_bundle(record);
                // A model that the line has not seen yet goes.
                drop(self.tuning.hand_over(model, rules));
                for (i, (old, new)) in changed {
                    events.tell(What::Rule(RuleEvent { tag: TagId(i as u16), old, new, who: who.clone() }));
                }
            }
            Err(NotLoaded { sha256: bundle, outcome, why }) => {
                let (running, why) = (seen.running.1, Why::of(&why));
                events.tell(What::Update(UpdateEvent { outcome, bundle, running, from_part: None, why }));
            }
        }
    }

    /// Loads and tries a bundle in a thread that runs when nothing else wants to.
    fn tried(&self, file: &Path, events: &Events, stop: &AtomicBool) -> Result<Loaded, NotLoaded> {
        let end = Instant::now() + PATIENCE;
        let undecided = || {
            let figures = events.counters().figures();
            figures.parts < figures.triggers
        };
        let wait = || {
            while undecided() && Instant::now() < end && !stop.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let work = || {
            lowest_priority();
            (self.load)(file, &wait)
        };
        let failed = |why: &str| NotLoaded { sha256: None, outcome: Update::Refused, why: why.into() };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("trial".into()).spawn_scoped(scope, work);
            let thread = thread.map_err(|e| failed(&format!("the system gives no thread ({e})")))?;
            thread.join().unwrap_or_else(|_| Err(failed("its trial panicked")))
        })
    }
}

/// A bundle as events name it.
pub fn record(bundle: &Bundle<'_>) -> BundleRecord {
    let (name, task) = (bundle.contract.name.into(), task_name(bundle.contract.task));
    BundleRecord { name, sha256: Hex(&bundle.sha256).to_string(), format: bundle.format, task }
}
