//! Updates of a running line: the bundle that is installed in its folder takes the place of the one
//! that it runs.
//!
//! A thread of its own looks at the link `current` a few times a second. Where it leads to another
//! bundle, that is loaded and tried by a thread of the lowest priority and handed to the line in
//! memory; the [station](crate::station) says which part is whose. What does not run, or differs in
//! what a running line cannot change, is told, and the line goes on as it is. `UPDATES.md` beside
//! the bundle's format says what a site does.
//!
//! The bundle that was taken over is watched for its first parts ([`watch`]), and the model before
//! it is kept meanwhile. At an engine error, or where more parts are late than by chance, the line
//! goes back to that, once: a bundle that it went back from and that is installed again stays.

mod watch;

use crate::bundle::{Bundle, Fit, Hex};
use crate::decide::TagRule;
use crate::events::run::{BundleRecord, task_name};
use crate::events::{Client, Events, RuleEvent, Update, UpdateEvent, What, Why};
use crate::head::TagId;
use crate::installed::{self, InstallError, Shape};
use crate::settings::Settings;
use crate::supervisor::vision::Model;
use crate::supervisor::{Tuning, lowest_priority};
use crate::terminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use watch::{Found, History, LEVEL_OF_ONE, Tally, Watch};

/// How often the link is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// How often parts' ends are looked at while a bundle is watched.
const WATCHING: Duration = Duration::from_millis(20);
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
    /// What a person should know of it as it is taken over; empty if nothing.
    pub remark: String,
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

/// A bundle that the line runs, or ran.
struct Running {
    file: PathBuf,
    sha256: [u8; 32],
    record: BundleRecord,
    history: History,
}

/// The bundle that another one took the place of.
struct Before {
    running: Running,
    /// Its rules, and those that held when it was left.
    base: Vec<TagRule>,
    now: Vec<TagRule>,
    /// Its model, once no part needs it.
    model: Option<Box<Model>>,
}

/// The bundle that the line runs is watched.
struct Watched {
    before: Before,
    watch: Watch,
    /// Why the line goes back, once it has to.
    why: Option<Why>,
}

/// What is installed, and what the line runs.
struct Seen {
    /// The bundle's file where the link led when it was last looked at.
    file: PathBuf,
    /// The link was gone then, and that was told.
    is_away: bool,
    running: Running,
    watched: Option<Watched>,
    /// Bundles that the line went back from.
    left: Vec<[u8; 32]>,
    /// The links still lead to the bundle that was left: its hash, and that of the one before it.
    relink: Option<[[u8; 32]; 2]>,
}

/// Follows one folder.
pub struct Follower {
    folder: PathBuf,
    tuning: Arc<Tuning>,
    load: Load,
    seen: Mutex<Seen>,
}

impl Follower {
    /// Of the line that runs the bundle at `file` from `folder`. `sha256`, `record`: that bundle's.
    pub fn new(
        folder: PathBuf,
        file: PathBuf,
        sha256: [u8; 32],
        record: BundleRecord,
        tuning: Arc<Tuning>,
        load: Load,
    ) -> Self {
        let running = Running { file: file.clone(), sha256, record, history: History::default() };
        let seen = Mutex::new(Seen { file, is_away: false, running, watched: None, left: Vec::new(), relink: None });
        Self { folder, tuning, load, seen }
    }

    /// Its thread, as a client of the run's events.
    pub fn client(self) -> Client {
        Client { name: "update", run: Box::new(move |events, stop| self.follow(events, stop)) }
    }

    fn follow(&self, events: &Arc<Events>, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            self.look(events, stop);
            let next = Instant::now() + EVERY;
            while Instant::now() < next && !stop.load(Ordering::Acquire) {
                let nap = if self.mind(events) { WATCHING } else { EVERY };
                std::thread::sleep(nap);
            }
        }
        // What ended the run is a reason to go back, too: in the folder, where no line is left to
        // take a model.
        let mut seen = self.seen();
        self.hear(&mut seen);
        let running = seen.running.sha256;
        if let Some(Watched { before, why, .. }) = seen.watched.take_if(|watched| watched.why.is_some()) {
            tell(events, why.as_ref().map_or("", Why::as_str));
            let both = [running, before.running.sha256];
            seen.relink = Some(both).filter(|_| !seen.left.contains(&running));
        }
        self.link_back(events, &mut seen);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whoever panicked left a whole value.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what is installed, where it is another bundle than when this was last called.
    fn look(&self, events: &Arc<Events>, stop: &AtomicBool) {
        let mut seen = self.seen();
        self.link_back(events, &mut seen);
        let file = installed::bundle_file(&self.folder);
        // Without the link the folder is away, or its disk is.
        let is_there = file.is_file() || self.folder.join(installed::CURRENT).is_symlink();
        if !is_there && !std::mem::replace(&mut seen.is_away, true) {
            let (running, link) = (seen.running.sha256, self.folder.join(installed::CURRENT));
            let why = Why::of(&format_args!("{} is gone: a start from there would fail", link.display()));
            let (before, outcome) = (running, Update::Refused);
            events.tell(What::Update(UpdateEvent { outcome, bundle: None, before, running, from_part: None, why }));
        }
        seen.is_away = !is_there;
        if file == seen.file || !is_there {
            return;
        }
        // Before it is tried: a bundle that lets the trial panic is not tried again.
        seen.file.clone_from(&file);
        if file == seen.running.file {
            return;
        }
        let finish = |Loaded { sha256, finish, rules, record, remark }| match finish() {
            Ok(model) => Ok(((model, rules, record), remark)),
            Err(why) => Err(NotLoaded { sha256: Some(sha256), outcome: Update::Refused, why }),
        };
        // The engine's threads are started here: they must not have the priority of the trial's.
        match self.tried(&file, events, stop).and_then(finish) {
            Ok((taken, remark)) => {
                self.take_over(events, &mut seen, file, taken);
                if !remark.is_empty() {
                    events.note(&remark);
                }
            }
            Err(NotLoaded { sha256: bundle, outcome, why }) => {
                let (running, why) = (seen.running.sha256, Why::of(&why));
                let (before, from_part) = (running, None);
                events.tell(What::Update(UpdateEvent { outcome, bundle, before, running, from_part, why }));
            }
        }
    }

    /// Hands a model to the line, and watches it from then on.
    fn take_over(&self, events: &Events, seen: &mut Seen, file: PathBuf, taken: (Box<Model>, Vec<TagRule>, BundleRecord)) {
        let (model, rules, record) = taken;
        let (now, base) = (self.tuning.now(), self.tuning.newest().1);
        let running = Running { file, sha256: model.sha256(), record: record.clone(), history: History::default() };
        tell_rules(events, &now, &rules, &record);
        // Before the line tells of it: who hears of that may ask for the name.
        events.set_bundle(record);
        let unseen = self.tuning.hand_over(model, rules);
        let left = std::mem::replace(&mut seen.running, running);
        let mut before = match seen.watched.take() {
            // The line has not seen the bundle that was handed over last: the one before that is
            // still the one to go back to.
            Some(watched) if unseen.as_ref().is_some_and(|model| model.sha256() == left.sha256) => watched.before,
            _ => Before { running: left, base, now, model: None },
        };
        if before.model.is_none() {
            before.model = unseen.filter(|model| model.sha256() == before.running.sha256);
        }
        if before.running.sha256 != seen.running.sha256 {
            let watch = Watch::new(before.running.history.tally());
            seen.watched = Some(Watched { before, watch, why: None });
        }
        seen.relink = None;
    }

    /// Looks at how parts ended, and goes back where that asks for it. Whether a bundle is watched.
    fn mind(&self, events: &Events) -> bool {
        let mut seen = self.seen();
        self.hear(&mut seen);
        let Some(why) = seen.watched.as_ref().and_then(|watched| watched.why.clone()) else {
            return seen.watched.is_some();
        };
        if seen.left.contains(&seen.running.sha256) {
            let bundle = seen.running.record.sha256.clone();
            let why = why.as_str();
            events.note(&format_args!("the line went back from bundle {bundle:.12}... before and stays with it now: {why}"));
            seen.watched = None;
            return false;
        }
        if let Some(watched) = seen.watched.take_if(|watched| watched.before.model.is_some()) {
            self.go_back(events, &mut seen, watched.before, why);
        }
        seen.watched.is_some()
    }

    /// Takes models that the line has given back, failures of engines and ends of parts.
    fn hear(&self, seen: &mut Seen) {
        let Seen { running, watched, .. } = seen;
        for model in self.tuning.left() {
            let place = watched.as_mut().map(|watched| &mut watched.before);
            match place.filter(|before| before.running.sha256 == model.sha256() && before.model.is_none()) {
                Some(before) => before.model = Some(model),
                // Freeing a model takes time that the line does not have.
                None => drop(model),
            }
        }
        while let Some(failed) = self.tuning.next_failure() {
            if let Some(watched) = watched.as_mut().filter(|_| failed.bundle == running.sha256) {
                let why = format_args!("engine error at part {}: {}", failed.part, failed.why.as_str());
                watched.why.get_or_insert_with(|| Why::of(&why));
            }
        }
        while let Some(end) = self.tuning.next_end() {
            if end.bundle == running.sha256 {
                running.history.add(end.late);
                let found = watched.as_mut().filter(|w| w.why.is_none()).map(|w| (w.watch.add(end.late), w.watch.old()));
                match found {
                    Some((Found::Over, _)) => *watched = None,
                    Some((Found::MoreLate(new, chance), old)) => {
                        let why = more_late(old, new, chance);
                        watched.iter_mut().for_each(|watched| watched.why = Some(why.clone()));
                    }
                    Some((Found::Nothing, _)) | None => {}
                }
            }
        }
    }

    /// Lets the bundle before decide again, from the next trigger on; in the folder, too.
    fn go_back(&self, events: &Events, seen: &mut Seen, before: Before, why: Why) {
        let Before { running, base, now, model } = before;
        let Some(model) = model else { return };
        tell_rules(events, &self.tuning.now(), &now, &running.record);
        events.set_bundle(running.record.clone());
        // The line takes it a beat later, whatever becomes of the folder. A model that it has not
        // seen goes.
        drop(self.tuning.hand_back(model, base, now, why));
        let left = std::mem::replace(&mut seen.running, running);
        seen.left.push(left.sha256);
        seen.relink = Some([left.sha256, seen.running.sha256]);
        self.link_back(events, seen);
    }

    /// Lets `current` lead back to the bundle that the line went back to, so that a restart does
    /// not run the other one again. Where an install is at work there, it is tried again.
    fn link_back(&self, events: &Events, seen: &mut Seen) {
        let Some([from, to]) = seen.relink.map(|both| both.map(|hash| Hex(&hash).to_string())) else { return };
        let folder = self.folder.display();
        match installed::go_back(&self.folder, &from, &to) {
            Err(InstallError::Busy { .. }) => return,
            Ok(()) => {
                seen.file.clone_from(&seen.running.file);
                tell(events, &format!("{folder}: current leads to bundle {to:.12}... again, previous to {from:.12}..."));
            }
            Err(e) => {
                let told = "again, but its folder does not lead there, and a restart runs what it leads to";
                tell(events, &format!("the line runs bundle {to:.12}... {told}: {e}"));
            }
        }
        seen.relink = None;
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

/// Tells a person, also when the run's sinks may have ended.
fn tell(events: &Events, what: &str) {
    match events.is_closed() {
        true => terminal::tell(&format!("tagpin: {}", terminal::escaped(what)), 8),
        false => events.note(&what),
    }
}

/// Tells each rule that another bundle brings.
fn tell_rules(events: &Events, old: &[TagRule], new: &[TagRule], bundle: &BundleRecord) {
    let who = Why::of(&format_args!("bundle {}", bundle.sha256));
    for (i, (old, new)) in old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new) {
        events.tell(What::Rule(RuleEvent { tag: TagId(i as u16), old: *old, new: *new, who: who.clone() }));
    }
}

/// Why a bundle is left that makes more parts late.
fn more_late(old: Tally, new: Tally, chance: f64) -> Why {
    Why::of(&format_args!(
        "{} of its {} parts late, {} of {} before it (Fisher's exact test, one-sided: p = {chance:.1e}, level {LEVEL_OF_ONE:.0e})",
        new.late, new.parts, old.late, old.parts
    ))
}

/// A bundle as events name it.
pub fn record(bundle: &Bundle<'_>) -> BundleRecord {
    let (name, task) = (bundle.contract.name.into(), task_name(bundle.contract.task));
    BundleRecord { name, sha256: Hex(&bundle.sha256).to_string(), format: bundle.format, task }
}

#[cfg(test)]
mod tests;
