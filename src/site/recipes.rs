//! Choosing a recipe of device.toml: recorded, then kept in the state folder, where a running line
//! sees it.

use crate::audit::{Change, Log};
use crate::settings::Chosen;
use std::path::Path;

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
