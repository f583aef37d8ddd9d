//! `tagpin recipe`: which recipe of device.toml the line goes by; and what is looked at before one
//! is chosen.

use super::conflicts::Conflict;
use super::{Model, Refused, check, hex, model_tags};
use crate::engine::Engine;
use crate::settings::{Chosen, Recipe, Settings};
use crate::site::recipes;
use crate::station::Station;
use crate::terminal::{escaped, escaped_lines};
use std::path::{Path, PathBuf};

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
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
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
    /// without opening the camera or taking a line.
    pub(super) fn look(&self, recipe: Option<&Recipe>) -> Result<String, Vec<String>> {
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
        if let Some(draft) = draft.map_err(|e| keep(e.0)).ok() {
            let has_pins = draft.settings.outputs.iter().any(|o| o.backend.is_pin());
            let conflicts = check::conflicts(&draft, &bundle, self.allow_drawn).into_iter();
            let conflicts = conflicts.filter(|conflict| *conflict != Conflict::NoJitter || has_pins);
            keep(conflicts.map(|conflict| conflict.to_string()).collect());
            if draft.problems.is_empty() {
                let made = Station::new(draft.settings.station(bundle.contract.task, 0));
                made.map_err(|e| keep(vec![e.to_string()])).ok();
            }
            keep(draft.problems);
        }
        let tags = bundle.contract.tags.len();
        match problems.is_empty() {
            true => Ok(format!("{} {}, {tags} tags", bundle.contract.name, &hex(&bundle.sha256)[..12])),
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
        let Some(settings) = settings else { return Ok(Self::default()) };
        let text = crate::regular::read_text(settings, crate::regular::TEXT);
        let listed = text.ok().and_then(|text| Settings::recipes_of(&text, &settings.display().to_string()).ok());
        // What is wrong with the file is told by who reads all of it.
        let Some((Some(state), recipes)) = listed.filter(|(_, recipes)| !recipes.is_empty()) else {
            return Ok(Self::default());
        };
        let chosen = Chosen::read(&state).map_err(|e| Refused(e.0))?;
        Self::with(Listed { state, recipes }, chosen)
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

pub(super) fn run(args: RecipeArgs) -> Result<u8, Refused> {
    let of = Of { settings: args.settings, bundle: args.bundle, keys: args.keys, allow_drawn: true };
    let listed = of.listed().map_err(Refused)?;
    let Some(name) = args.name.as_deref().map(Some).or(args.none.then_some(None)) else { return list(&listed) };
    let current = Chosen::read(&listed.state).unwrap_or_default();
    let recipe = match listed.recipe(name) {
        Ok(recipe) => recipe,
        Err(why) => return Ok(refused(&[why])),
    };
    if current.recipe.as_deref() == name {
        println!("{} is the current recipe already", escaped(&recipes::name(name)));
        return Ok(0);
    }
    let found = match of.look(recipe) {
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
    let before = recipes::choose(&listed.state, name, &who)?;
    let [old, new] = [before.recipe.as_deref(), name].map(|name| escaped(&recipes::name(name)));
    println!("{old} -> {new} ({found}); a running line changes when its parts have passed");
    Ok(0)
}

/// Tells why; the exit code.
fn refused(why: &[String]) -> u8 {
    why.iter().for_each(|why| eprintln!("refused: {}", escaped_lines(why)));
    1
}

fn list(listed: &Listed) -> Result<u8, Refused> {
    let current = Chosen::read(&listed.state).map_err(|e| Refused(e.0))?;
    let mark = |is_current: bool| if is_current { '*' } else { ' ' };
    println!("{} 0  none (device.toml as it is)", mark(current.recipe.is_none()));
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
