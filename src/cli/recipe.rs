//! `tagpin recipe`: which recipe of device.toml the line goes by; and what is looked at before one
//! is chosen.

use super::conflicts::Conflict;
use super::{Model, Refused, check, hex, model_tags};
use crate::engine::Engine;
use crate::events::{Client, Events, RecipeEvent, RecipeName, Switch, What, Why};
use crate::frame::Layout;
use crate::settings::{Chosen, MeetsNext, NO_RECIPE, Recipe, Settings, StateFolder, UNREAD_RECIPE, Warning};
use crate::site::recipes;
use crate::station::Station;
use crate::supervisor::{Change, lowest_priority};
use crate::terminal::escaped;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a running line looks for another choice.
const EVERY: Duration = Duration::from_millis(250);

/// Arguments of `recipe`.
#[derive(clap::Args, Debug)]
pub(super) struct RecipeArgs {
    /// The recipe to go by; without one all are listed, and the current one is marked
    name: Option<String>,
    /// Go by device.toml as it is
    #[arg(long, conflicts_with = "name")]
    none: bool,
    /// Settings of the device, which have the recipes and the folder of [state]
    #[arg(long, value_name = "FILE", default_value = "device.toml")]
    settings: PathBuf,
    /// Bundle that the line was started with, for recipes without one of their own [default: the
    /// shipped parts model]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Folder of the keys that are trusted, as NAME.pub; with one there the bundle must be signed
    #[arg(long, value_name = "FOLDER", default_value = crate::installed::KEYS)]
    keys: PathBuf,
    /// Who chose it, for the record of changes, beside the user who runs this
    #[arg(long, value_name = "WHO", value_parser = who)]
    who: Option<String>,
}

fn who(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected who chose it; without --who the user who runs this is recorded".into());
    }
    Ok(text.into())
}

/// What decides what a recipe comes to.
#[derive(Clone, Debug)]
pub(super) struct Of {
    /// device.toml.
    pub(super) settings: PathBuf,
    /// The bundle of recipes without one of their own.
    pub(super) bundle: Option<PathBuf>,
    /// Folder of the keys that are trusted.
    pub(super) keys: PathBuf,
    /// GPIO lines may follow images that nobody took.
    pub(super) allow_drawn: bool,
}

/// Recipes of a file, and where the choice is kept.
pub(super) struct Listed {
    pub(super) state: PathBuf,
    pub(super) recipes: Vec<Recipe>,
}

impl Listed {
    pub(super) fn recipe(&self, name: Option<&str>) -> Result<Option<&Recipe>, String> {
        let Some(name) = name else { return Ok(None) };
        let known = || self.recipes.iter().map(|r| format!("\"{}\"", r.name)).collect::<Vec<_>>().join(", ");
        let found = self.recipes.iter().find(|recipe| recipe.name == name);
        found.map(Some).ok_or_else(|| format!("there is no recipe \"{name}\"; device.toml has {}", known()))
    }
}

/// What a recipe comes to.
pub(super) struct Looked {
    /// Its bundle, in a line.
    pub(super) told: String,
    /// Pulses that may meet the next part.
    pub(super) meeting: Vec<MeetsNext>,
    /// What may not have been meant.
    pub(super) warnings: Vec<Warning>,
}

impl Of {
    fn text(&self) -> Result<(String, String), Vec<String>> {
        let name = self.settings.display().to_string();
        let text = crate::regular::read_text(&self.settings, crate::regular::TEXT);
        text.map(|text| (text, name.clone())).map_err(|e| vec![format!("{name}: cannot be read: {e}")])
    }

    /// The recipes, and the folder of the choice; refuses a file without either.
    pub(super) fn listed(&self) -> Result<Listed, Vec<String>> {
        let (text, name) = self.text()?;
        let (state, recipes) = Settings::recipes_of(&text, &name).map_err(|e| e.0)?;
        if recipes.is_empty() {
            return Err(vec![format!("{name}: it has no [recipes.NAME]; src/site/RECIPES.md says how to state one")]);
        }
        let state = state.ok_or_else(|| {
            vec![format!(
                "{name}: the choice is kept in the folder of [state], which it does not have; state [state] folder"
            )]
        })?;
        Ok(Listed { state, recipes })
    }

    /// What a recipe comes to, `None` for device.toml as it is; else every problem that can be seen
    /// without opening the camera or taking a line. `frames`: a source that was opened, and the
    /// layout of its frames; regions of recipes with the same source are held against it.
    pub(super) fn look(&self, recipe: Option<&Recipe>, frames: Option<(&str, Layout)>) -> Result<Looked, Vec<String>> {
        let (text, name) = self.text()?;
        let own = recipe.and_then(|recipe| recipe.bundle.as_deref());
        let model = Model::read(own.or(self.bundle.as_deref())).map_err(|e| e.0)?;
        let bundle = model.bundle().map_err(|e| e.0)?;
        let mut problems = Vec::new();
        let mut keep = |why: Vec<String>| problems.extend(why);
        model.signed(&bundle, &self.keys).map_err(|e| keep(e.0)).ok();
        let engine = Engine::from_bundle(&bundle);
        engine.map_err(|e| keep(vec![format!("bundle {}: {e}", model.path.display())])).ok();
        let chosen = recipe.map(|recipe| recipe.name.as_str());
        let draft = model_tags(&bundle, |tags| Settings::draft_of(&text, &name, chosen, tags));
        let (mut meeting, mut warnings) = (Vec::new(), Vec::new());
        if let Ok(draft) = draft.map_err(|e| keep(e.0)) {
            (meeting, warnings) = (check::meeting(&draft), check::warnings(&draft, &bundle));
            let has_pins = draft.settings.outputs.iter().any(|o| o.backend.is_pin());
            let conflicts = check::conflicts(&draft, &bundle, self.allow_drawn).into_iter();
            let conflicts = conflicts.filter(|conflict| *conflict != Conflict::NoJitter || has_pins);
            keep(conflicts.map(|conflict| conflict.to_string()).collect());
            if let Some((_, layout)) = frames.filter(|(source, _)| draft.settings.source == *source) {
                draft.settings.check_regions(layout, &bundle.contract.input).map_err(|e| keep(vec![e])).ok();
            }
            if draft.problems.is_empty() {
                let made = Station::new(draft.settings.station(bundle.contract.task, 0));
                made.map_err(|e| keep(vec![e.to_string()])).ok();
            }
            keep(draft.problems);
        }
        let tags = bundle.contract.tags.len();
        match problems.is_empty() {
            true => {
                let told = format!("{} {}, {tags} tags", bundle.contract.name, &hex(&bundle.sha256)[..12]);
                Ok(Looked { told, meeting, warnings })
            }
            false => Err(problems),
        }
    }
}

/// The recipe that a run or `check` goes by.
#[derive(Clone, Debug, Default)]
pub(super) struct InForce {
    /// Where the choice is kept; `None` where the file has no recipes.
    pub(super) state: Option<PathBuf>,
    /// The choice.
    pub(super) chosen: Chosen,
    /// The recipe's bundle, where it has one of its own.
    pub(super) bundle: Option<PathBuf>,
}

impl InForce {
    /// What was chosen for the line of a settings file.
    pub(super) fn of(settings: Option<&Path>) -> Result<Self, Refused> {
        match Self::choice(settings)? {
            Some((listed, chosen)) => Self::with(listed, chosen),
            None => Ok(Self::default()),
        }
    }

    /// The recipes of a settings file, and which is chosen; `None` where it has none.
    fn choice(settings: Option<&Path>) -> Result<Option<(Listed, Chosen)>, Refused> {
        let Some(settings) = settings else { return Ok(None) };
        let text = crate::regular::read_text(settings, crate::regular::TEXT);
        let listed = text.ok().and_then(|text| Settings::recipes_of(&text, &settings.display().to_string()).ok());
        // What is wrong with the file is told by who reads all of it.
        let Some((Some(state), recipes)) = listed.filter(|(_, recipes)| !recipes.is_empty()) else { return Ok(None) };
        let chosen = Chosen::read(&state).map_err(|e| Refused(e.0))?;
        Ok(Some((Listed { state, recipes }, chosen)))
    }

    /// The same with a choice that was made.
    pub(super) fn with(listed: Listed, chosen: Chosen) -> Result<Self, Refused> {
        let recipe = listed.recipe(chosen.recipe.as_deref());
        let recipe = recipe.map_err(|e| format!("{}: {e}; `tagpin recipe` chooses one", listed.state.display()))?;
        let bundle = recipe.and_then(|recipe| recipe.bundle.clone());
        Ok(Self { state: Some(listed.state), chosen, bundle })
    }

    pub(super) fn recipe(&self) -> Option<&str> {
        self.chosen.recipe.as_deref()
    }
}

/// The recipes by which one process runs its line, one after the other.
#[derive(Default)]
pub(super) struct Line {
    pub(super) in_force: InForce,
    /// What the last run went by, where this one is the first since.
    before: Option<InForce>,
    /// What the choice was when it was last looked at.
    known: Option<String>,
    change: Arc<Change>,
    news: Vec<RecipeEvent>,
}

impl Line {
    /// The recipe that was chosen before the process began.
    pub(super) fn begin(settings: Option<&Path>) -> Result<Self, Refused> {
        let in_force = InForce::of(settings)?;
        let known = in_force.chosen.recipe.clone();
        Ok(Self { in_force, known, ..Self::default() })
    }

    /// Parts that the runs so far have had.
    pub(super) fn parts(&self) -> u64 {
        self.change.parts()
    }

    /// Another recipe was chosen, and the run has made place for it.
    pub(super) fn next(&mut self, settings: Option<&Path>) {
        let before = self.in_force.clone();
        // Before the choice is read: another that came while the line drained is that choice.
        self.change.hear();
        let (next, tried) = match InForce::choice(settings) {
            Ok(Some((listed, chosen))) => (InForce::with(listed, chosen.clone()), Some(chosen)),
            Ok(None) => (Ok(InForce::default()), None),
            Err(refused) => (Err(refused), None),
        };
        match next {
            Ok(next) => {
                self.news = vec![event(Switch::Running, &before.chosen, &next.chosen, "")];
                self.known.clone_from(&next.chosen.recipe);
                (self.in_force, self.before) = (next, Some(before));
            }
            Err(refused) => self.leave(before, tried, &refused),
        }
    }

    /// The recipe could not start: the line goes back to the one before, once. False where there is
    /// none, or that does not start either.
    pub(super) fn back(&mut self, refused: &Refused) -> bool {
        let before = self.before.take();
        let failed = self.in_force.chosen.clone();
        before.map(|before| self.leave(before, Some(failed), refused)).is_some()
    }

    /// `failed`: what was tried, whatever the file says by now; `None`: the choice could not be
    /// read.
    fn leave(&mut self, before: InForce, failed: Option<Chosen>, refused: &Refused) {
        let is_read = failed.is_some();
        let failed = failed.unwrap_or_else(|| Chosen { recipe: Some(UNREAD_RECIPE.into()), who: String::new() });
        self.news = vec![event(Switch::WentBack, &before.chosen, &failed, &refused.0.join("; "))];
        // The next run tries what somebody has chosen meanwhile, and this one not again.
        self.known.clone_from(&failed.recipe);
        if let Some(state) = before.state.as_deref().filter(|_| is_read) {
            match recipes::put_back(state, failed.recipe.as_deref(), before.recipe(), "line, went back") {
                Ok(true) => self.known.clone_from(&before.chosen.recipe),
                Ok(false) => {}
                Err(e) => crate::terminal::tell(&format!("tagpin: {}", escaped(&e)), 8),
            }
        }
        self.in_force = before;
    }

    /// Who looks for another choice while the line runs; `None` where the file has no recipes.
    pub(super) fn watcher(&mut self, of: Option<Of>) -> Option<Watcher> {
        let (current, state) = (self.in_force.chosen.clone(), self.in_force.state.clone()?);
        let (known, change, news) = (self.known.clone(), self.change.clone(), std::mem::take(&mut self.news));
        Some(Watcher { of: of?, state: StateFolder::at(state), current, known, change, stays: None, news })
    }
}

/// What a choice came to, as an event.
pub(super) fn event(outcome: Switch, old: &Chosen, new: &Chosen, why: &str) -> RecipeEvent {
    // A name that is chosen is no longer; one in a file that somebody wrote may be.
    let name = |chosen: &Chosen| {
        let text = chosen.recipe.as_deref().unwrap_or_default();
        RecipeName::try_from(text).unwrap_or_else(|_| RecipeName::try_from("a name that is too long").expect("it fits"))
    };
    RecipeEvent { outcome, old: name(old), new: name(new), who: Why::of(&new.who), why: Why::of(&why) }
}

/// Looks for another choice while the line runs.
pub(super) struct Watcher {
    of: Of,
    state: StateFolder,
    /// What this run goes by.
    current: Chosen,
    /// What the choice was when it was last looked at.
    known: Option<String>,
    /// Where the next run is asked for.
    pub(super) change: Arc<Change>,
    /// Why this run makes place for no other.
    stays: Option<&'static str>,
    /// What this run begins with telling.
    news: Vec<RecipeEvent>,
}

impl Watcher {
    /// The same where the run makes place for no other, and why.
    pub(super) fn staying(self, stays: Option<&'static str>) -> Self {
        Self { stays, ..self }
    }

    /// Its thread, as a client of the run's events.
    pub(super) fn client(mut self) -> Client {
        let news = Mutex::new(std::mem::take(&mut self.news));
        let run = move |events: &Arc<Events>, stop: &Arc<AtomicBool>| {
            lowest_priority();
            let news = std::mem::take(&mut *news.lock().unwrap_or_else(PoisonError::into_inner));
            news.into_iter().for_each(|news| events.tell(What::Recipe(news)));
            self.watch(events, stop);
        };
        Client { name: "recipe", run: Box::new(run) }
    }

    /// The choice as it is kept now, in the folder that was there when the run began.
    fn chosen(&self) -> Result<Chosen, String> {
        let folder = self.state.path()?;
        let chosen = Chosen::read(folder).map_err(|e| e.0.join("; "))?;
        self.state.path().map(|_| chosen)
    }

    fn watch(&self, events: &Events, stop: &AtomicBool) {
        let (mut seen, mut is_told) = (self.known.clone(), false);
        while !stop.load(Ordering::Acquire) {
            std::thread::sleep(EVERY);
            let chosen = match self.chosen() {
                Ok(chosen) => chosen,
                Err(why) => {
                    if !std::mem::replace(&mut is_told, true) {
                        events.note(&format_args!("the line goes on by its recipe: {why}"));
                    }
                    continue;
                }
            };
            is_told = false;
            if chosen.recipe == seen {
                continue;
            }
            // Before it is tried: one that lets the trial panic is not tried again.
            seen.clone_from(&chosen.recipe);
            if chosen.recipe == self.current.recipe {
                continue;
            }
            match self.tried(&chosen) {
                Ok(()) => {
                    events.tell(What::Recipe(event(Switch::Chosen, &self.current, &chosen, "")));
                    self.change.ask();
                }
                Err(why) => {
                    events.tell(What::Recipe(event(Switch::Refused, &self.current, &chosen, &why)));
                    // A restart goes on with what runs; a newer choice of somebody else stays.
                    let [failed, current] = [&chosen, &self.current].map(|chosen| chosen.recipe.as_deref());
                    let put_back = |state| recipes::put_back(state, failed, current, "line, refused");
                    match self.state.path().and_then(put_back) {
                        Ok(true) => seen.clone_from(&self.current.recipe),
                        Ok(false) => {}
                        Err(e) => events.note(&format_args!("the refused recipe is the chosen one still: {e}")),
                    }
                }
            }
        }
    }

    fn tried(&self, chosen: &Chosen) -> Result<(), String> {
        if let Some(why) = self.stays {
            return Err(why.into());
        }
        let listed = self.of.listed().map_err(|e| e.join("; "))?;
        let recipe = listed.recipe(chosen.recipe.as_deref())?;
        self.of.look(recipe, None).map(|_| ()).map_err(|e| e.join("; "))
    }
}

pub(super) fn run(args: RecipeArgs) -> Result<u8, Refused> {
    let of = Of { settings: args.settings, bundle: args.bundle, keys: args.keys, allow_drawn: true };
    let listed = of.listed().map_err(Refused)?;
    let Some(name) = args.name.as_deref().map(Some).or(args.none.then_some(None)) else { return list(&listed) };
    // A choice that cannot be read is none: any other takes its place. One in a folder that is away
    // may be there still.
    let current = match Chosen::read(&listed.state) {
        Err(e) if !listed.state.is_dir() => return Err(Refused(e.0)),
        read => read.ok(),
    };
    let recipe = match listed.recipe(name) {
        Ok(recipe) => recipe,
        Err(why) => return Ok(refused(&[why])),
    };
    let already = || {
        println!("{} is the current recipe already", escaped(&recipes::name(name)));
        Ok(0)
    };
    // Before its bundle is looked at; who chooses another at this moment comes behind this.
    if current.is_some_and(|current| current.recipe.as_deref() == name) {
        return already();
    }
    let found = match of.look(recipe, None) {
        Ok(found) => found,
        Err(mut why) => {
            if of.bundle.is_none() && recipe.is_none_or(|recipe| recipe.bundle.is_none()) {
                why.push("it was tried with the shipped parts model; name the line's bundle with --bundle".into());
            }
            return Ok(refused(&why));
        }
    };
    let user = crate::audit::user();
    let who = args.who.map_or(user.clone(), |who| format!("{who}, {user}"));
    let Some(old) = recipes::choose(&listed.state, name, &who)? else { return already() };
    let [old, new] = [old, recipes::name(name)].map(|name| escaped(&name));
    let meeting = found.meeting.iter().map(ToString::to_string);
    for warning in meeting.chain(found.warnings.iter().map(ToString::to_string)) {
        crate::terminal::tell_problem("warning", &warning);
    }
    println!("{old} -> {new} ({}); a running line changes when its parts have passed", found.told);
    Ok(0)
}

/// Tells why; the exit code.
fn refused(why: &[String]) -> u8 {
    why.iter().for_each(|why| crate::terminal::tell_problem("refused", why));
    1
}

fn list(listed: &Listed) -> Result<u8, Refused> {
    let current = Chosen::read(&listed.state).map_err(|e| Refused(e.0))?;
    let mark = |is_current: bool| if is_current { '*' } else { ' ' };
    println!("{} 0  {NO_RECIPE} (device.toml as it is)", mark(current.recipe.is_none()));
    for (i, recipe) in listed.recipes.iter().enumerate() {
        let bundle = recipe.bundle.as_ref().map_or(String::new(), |bundle| format!("  {}", bundle.display()));
        let is_current = current.recipe.as_ref() == Some(&recipe.name);
        println!("{} {}  {}{}", mark(is_current), i + 1, escaped(&recipe.name), escaped(&bundle));
    }
    if let Err(why) = listed.recipe(current.recipe.as_deref()) {
        return Ok(refused(&[why]));
    }
    Ok(0)
}
