//! Choosing a recipe of device.toml: recorded, then kept in the state folder, where a running line
//! sees it.
//!
//! Reading the choice, recording another and keeping it happen while nobody else records
//! ([`Log::locked`]): of two who choose at once one is first, and the last record names what is kept.

use crate::audit::{Change, Log};
use crate::settings::state::unwritten;
use crate::settings::{Chosen, NO_RECIPE, Settings, StateFolder, UNREAD_RECIPE};
use std::path::Path;

/// A recipe's name as it is told; none is device.toml as it is.
pub fn name(recipe: Option<&str>) -> String {
    recipe.unwrap_or(NO_RECIPE).to_string()
}

/// Chooses a recipe, `None` for device.toml as it is. Gives the one before as it is told, `None`
/// where it was chosen already; an error says why nothing was changed.
pub fn choose(state: &Path, recipe: Option<&str>, who: &str) -> Result<Option<String>, String> {
    change(state, recipe, who, |_| true)
}

/// Chooses `recipe` in place of `failed`, and nothing where somebody has chosen another meanwhile,
/// or the choice cannot be read. Gives whether `recipe` was put in its place.
pub fn put_back(state: &Path, failed: Option<&str>, recipe: Option<&str>, who: &str) -> Result<bool, String> {
    let is_it = |now: Option<&Chosen>| now.is_some_and(|now| now.recipe.as_deref() == failed);
    change(state, recipe, who, is_it).map(|before| before.is_some())
}

/// Chooses a recipe where the choice `may` be replaced, which is given as `None` where it cannot be
/// read.
fn change(
    state: &Path,
    recipe: Option<&str>,
    who: &str,
    may: impl FnOnce(Option<&Chosen>) -> bool,
) -> Result<Option<String>, String> {
    let log = Log::of_state(state);
    let not_recorded = |e| format!("nothing was changed, because it could not be recorded: {e}");
    let mut locked = log.locked().map_err(not_recorded)?;
    let before = Chosen::read(state).ok();
    if !may(before.as_ref()) || before.as_ref().is_some_and(|before| before.recipe.as_deref() == recipe) {
        return Ok(None);
    }
    let old = before.map_or(UNREAD_RECIPE.into(), |before| name(before.recipe.as_deref()));
    let change = |who: &str, what: &str, old: &str, new: &str| {
        vec![Change { who: who.into(), what: what.into(), old: old.into(), new: new.into() }]
    };
    let new = name(recipe);
    locked.append(change(who, "recipe", &old, &new)).map_err(not_recorded)?;
    let chosen = Chosen { recipe: recipe.map(str::to_string), who: who.into() };
    if let Err(e) = chosen.write(state) {
        // Nobody has seen that the record says otherwise.
        if locked.take_back().is_err() {
            let _ = locked.append(change("tagpin, not saved", "recipe", &new, &old));
        }
        return Err(format!("nothing was changed: {}", unwritten(state, &e)));
    }
    Ok(Some(old))
}

/// The recipes of a running line, for whoever lets people or a PLC choose one.
#[derive(Clone, Debug)]
pub struct Recipes {
    /// Where the choice is kept.
    state: StateFolder,
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
        Some(Self { state: StateFolder::at(state), names, current: site.recipe.clone() })
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
        let state = self.state.path().map_err(|why| format!("nothing was changed: {why}"))?;
        choose(state, recipe, who).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, drawn_cases};
    use crate::settings::RECIPE;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tagpin-choice-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Who, old, new of each record.
    fn recorded(state: &Path) -> Vec<[String; 3]> {
        let mut all = Vec::new();
        let whole = Log::of_state(state).verify(&mut |_, _, r| all.push([r.who.clone(), r.old.clone(), r.new.clone()]));
        whole.unwrap().unwrap();
        all
    }

    fn current(state: &Path) -> Option<String> {
        Chosen::read(state).unwrap().recipe
    }

    /// Of 40 pairs of choices at the same moment 4 left a record that named another recipe than the
    /// file, and 27 two records with the same one before.
    #[test]
    fn whoever_chooses_at_once_the_record_goes_from_one_choice_to_the_next_and_ends_with_the_files() {
        const NAMES: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];
        let (seed, cases) = drawn_cases(4);
        for case in 0..cases {
            let state = folder(&format!("race-{case}"));
            let choices = |thread: u64| {
                let mut random = Random::new(seed, 8 * case + thread);
                let mut changes = 0;
                for _ in 0..12 {
                    let mut one = || NAMES[random.range(0, 3) as usize];
                    let (name, failed) = (one(), one());
                    let who = format!("thread {thread}");
                    // Who comes too late for the record changes nothing.
                    changes += match random.range(0, 3) {
                        0 => put_back(&state, failed, name, &who).unwrap_or(false) as usize,
                        _ => choose(&state, name, &who).is_ok_and(|before| before.is_some()) as usize,
                    };
                }
                changes
            };
            let changes: usize = std::thread::scope(|scope| {
                let all: Vec<_> = (1..=3).map(|thread| scope.spawn(move || choices(thread))).collect();
                all.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            let recorded = recorded(&state);
            assert_eq!(recorded.len(), changes, "each change is one record: {recorded:?}");
            let mut now = "none".to_string();
            for [_, old, new] in &recorded {
                assert!(*old == now && new != old, "case {case}: {recorded:?}");
                now.clone_from(new);
            }
            let kept = Chosen::read(&state).unwrap();
            assert_eq!(name(kept.recipe.as_deref()), now, "case {case}: {recorded:?}");
            assert_eq!(recorded.last().map(|last| &last[0]), Some(&kept.who), "case {case}");
            std::fs::remove_dir_all(&state).unwrap();
        }
    }

    /// The way back from a recipe that could not start undid what somebody had chosen meanwhile.
    #[test]
    fn only_what_failed_is_put_back_and_a_newer_choice_stays() {
        let state = folder("back");
        assert_eq!(choose(&state, Some("beyond"), "x"), Ok(Some("none".into())));
        assert_eq!(choose(&state, Some("better"), "foreman"), Ok(Some("beyond".into())));
        let (kept, records) = (std::fs::read(state.join(RECIPE)).unwrap(), recorded(&state));
        assert_eq!(put_back(&state, Some("beyond"), None, "line, went back"), Ok(false));
        assert_eq!(put_back(&state, None, Some("beyond"), "line, went back"), Ok(false));
        assert_eq!((std::fs::read(state.join(RECIPE)).unwrap(), recorded(&state)), (kept, records));
        assert_eq!(put_back(&state, Some("better"), None, "line, went back"), Ok(true));
        assert_eq!(current(&state), None);
        assert_eq!(recorded(&state).last().unwrap(), &["line, went back", "better", "none"].map(String::from));
        // What cannot be read is not what failed.
        std::fs::write(state.join(RECIPE), "recipe").unwrap();
        assert_eq!(put_back(&state, None, Some("beyond"), "line, went back"), Ok(false));
        std::fs::remove_dir_all(&state).unwrap();
    }

    /// The record said "none -> b" where the line had run a.
    #[test]
    fn a_choice_before_that_cannot_be_read_is_recorded_in_a_word_that_no_recipe_is_called() {
        let state = folder("unread");
        choose(&state, Some("a"), "x").unwrap();
        for bad in [b"\xff\xfe".as_slice(), b"recipe = \"a\"\n", b"recipe = \"none\"\nwho = \"x\"\n"] {
            std::fs::write(state.join(RECIPE), bad).unwrap();
            assert_eq!(choose(&state, Some("b"), "x"), Ok(Some("unreadable".into())));
            assert_eq!(recorded(&state).last().unwrap()[1..], ["unreadable", "b"]);
            assert_eq!(current(&state).as_deref(), Some("b"));
        }
        std::fs::remove_dir_all(&state).unwrap();
    }

    /// What was not done stood in the record as done, and as undone.
    #[test]
    fn a_choice_that_cannot_be_kept_leaves_no_record() {
        let state = folder("unkept");
        choose(&state, Some("a"), "x").unwrap();
        let log = std::fs::read(state.join("audit.log")).unwrap();
        std::fs::remove_file(state.join(RECIPE)).unwrap();
        std::fs::create_dir(state.join(RECIPE)).unwrap();
        let why = choose(&state, Some("b"), "x").unwrap_err();
        assert!(why.starts_with("nothing was changed: "), "{why}");
        assert_eq!(std::fs::read(state.join("audit.log")).unwrap(), log);
        std::fs::remove_dir(state.join(RECIPE)).unwrap();
        assert_eq!(choose(&state, Some("b"), "x"), Ok(Some("none".into())));
        std::fs::remove_dir_all(&state).unwrap();
    }
}
