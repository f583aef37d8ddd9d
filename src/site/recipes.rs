//! Choosing a recipe of device.toml: recorded, then kept in the state folder, where a running line
//! sees it.

use crate::audit::{Change, Log};
use crate::settings::{Chosen, Settings};
use std::path::{Path, PathBuf};

/// A recipe's name as it is told; none is device.toml as it is.
pub fn name(recipe: Option<&str>) -> String {
    recipe.map_or("none".into(), str::to_string)
}

/// Chooses a recipe, `None` for device.toml as it is. Gives the one before; an error says why
/// nothing was changed.
pub fn choose(state: &Path, recipe: Option<&str>, who: &str) -> Result<Chosen, String> {
    let before = Chosen::read(state).unwrap_or_default();
    let log = Log::of_state(state);
    let change = |old: Option<&str>, new: Option<&str>, who: &str| {
        vec![Change { who: who.into(), what: "recipe".into(), old: name(old), new: name(new) }]
    };
    log.append(change(before.recipe.as_deref(), recipe, who))
        .map_err(|e| format!("nothing was changed, because it could not be recorded: {e}"))?;
    let chosen = Chosen { recipe: recipe.map(str::to_string), who: who.into() };
    if let Err(e) = chosen.write(state) {
        // Where the record says that it was done.
        let _ = log.append(change(recipe, before.recipe.as_deref(), "tagpin, not saved"));
        return Err(format!("nothing was changed: {}: {e}; give tagpin a folder that it may write to", state.display()));
    }
    Ok(before)
}

/// The recipes of a running line, for whoever lets people or a PLC choose one.
#[derive(Clone, Debug)]
pub struct Recipes {
    /// Where the choice is kept.
    state: PathBuf,
    /// Their names, in the order of the file.
    pub names: Vec<String>,
    /// The one that the line goes by.
    pub current: Option<String>,
}

impl Recipes {
    /// Those of device.toml; `None` where it has none.
    pub fn of(settings: &Settings) -> Option<Self> {
        let site = &settings.site;
        let names: Vec<String> = site.recipes.iter().map(|recipe| recipe.name.clone()).collect();
        let state = site.state.clone().filter(|_| !names.is_empty())?;
        Some(Self { state, names, current: site.recipe.clone() })
    }

    /// The place in the file of the one that the line goes by, from 1; 0 for none.
    pub fn number(&self) -> u16 {
        let at = self.current.as_ref().and_then(|current| self.names.iter().position(|name| name == current));
        at.map_or(0, |at| at as u16 + 1)
    }

    /// Chooses one, `None` for device.toml as it is; the line looks at it and tells what becomes of
    /// it. An error says why nothing was changed.
    pub fn choose(&self, recipe: Option<&str>, who: &str) -> Result<(), String> {
        if let Some(name) = recipe.filter(|name| self.names.iter().all(|known| known != name)) {
            return Err(format!("there is no recipe \"{name}\"; nothing was changed"));
        }
        if Chosen::read(&self.state).is_ok_and(|chosen| chosen.recipe.as_deref() == recipe) {
            return Ok(());
        }
        choose(&self.state, recipe, who).map(|_| ())
    }
}
