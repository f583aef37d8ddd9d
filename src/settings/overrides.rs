//! `overrides.toml`: thresholds and bands that people set while the line ran, on top of
//! device.toml.
//!
//! The file names the bundle and the recipe that it is for. For others it says nothing: thresholds
//! are of a model and a product. Where some are saved for another pair, the file is put aside first
//! and found there when its pair is back. A file that cannot be read is refused rather than passed
//! over, because the line would sort by other thresholds than somebody has set.

use super::names::Names;
use super::reader::{self, Table};
use super::{ModelTags, Settings, SettingsError, decide, quoted, state};
use crate::bundle::{Hex, sha256};
use crate::decide::TagRule;
use crate::head::Score;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};

/// Its name within the state folder.
pub const OVERRIDES: &str = "overrides.toml";

/// Rules on top of device.toml's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// One a tag in the bundle's order; `None` where device.toml's stands.
    pub rules: Vec<Option<TagRule>>,
}

/// What became of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overridden {
    /// There is none, or no state folder.
    No,
    /// It is for another bundle or recipe, and is ignored.
    OtherBundle(PathBuf),
    /// So many tags have its rules.
    Tags(PathBuf, usize),
}

impl std::fmt::Display for Overridden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No => f.write_str("no overrides"),
            Self::OtherBundle(file) => {
                write!(
                    f,
                    "{} is for another bundle or recipe and is ignored; set thresholds for this one on the page",
                    file.display()
                )
            }
            Self::Tags(file, n) => write!(f, "{} sets thresholds on top of device.toml, tags: {n}", file.display()),
        }
    }
}

/// The name of the file of a bundle and a recipe while [`OVERRIDES`] is of another pair.
fn aside(bundle: &str, recipe: &str) -> String {
    let pair = Hex(&sha256(format!("{bundle}\n{recipe}").as_bytes())).to_string();
    format!("overrides-{}.toml", &pair[..16])
}

/// What a file says to whom has no model.
struct Stored {
    bundle: String,
    recipe: String,
    /// Threshold and beginning of the review band of each tag, where it states them.
    tags: Vec<(String, [Option<f64>; 2])>,
}

impl Stored {
    /// The file of this name in the folder; `None` where there is none.
    fn read(folder: &Path, file: &str) -> Result<Option<Self>, String> {
        let Some(text) = state::text(folder, file)? else { return Ok(None) };
        let name = folder.join(file).display().to_string();
        let told = |e: SettingsError| format!("{}; repair the file, or remove it", e.0.join("; "));
        let parsed = reader::parse(&text, &name).map_err(told)?;
        let mut root = Table::root(&parsed, &text, &name);
        let (bundle, recipe) = (root.required("bundle_sha256"), root.text("recipe", "").to_string());
        let mut table = root.table("tags");
        let mut tags = Vec::new();
        for tag in table.names() {
            let mut t = table.table(&tag);
            let stated = ["threshold", "review_low"].map(|key| t.has(key).then(|| t.real(key, 0.5, 0.0..=1.0)));
            tags.push((tag, stated));
        }
        drop(table);
        let problems = root.finish().problems;
        if problems.is_empty() { Ok(Some(Self { bundle, recipe, tags })) } else { Err(told(SettingsError(problems))) }
    }

    fn is_of(&self, bundle: &str, recipe: &str) -> bool {
        self.bundle == bundle && self.recipe == recipe
    }
}

impl Overrides {
    /// Reads a file's text. `None`: it is for another bundle or recipe. `settings`: whose rules a
    /// stated band or threshold stands beside.
    pub(super) fn parse(
        text: &str,
        name: &str,
        settings: &Settings,
        model: ModelTags<'_>,
        sha256: &str,
    ) -> Result<Option<Self>, SettingsError> {
        let parsed = reader::parse(text, name)?;
        let mut root = Table::root(&parsed, text, name);
        let (bundle, recipe) = (root.required("bundle_sha256"), root.text("recipe", ""));
        let is_ours = bundle == sha256 && recipe == settings.site.recipe.as_deref().unwrap_or_default();
        let mut rules = vec![None; settings.tags.len()];
        let mut tags = root.table("tags");
        let names = Names::new(model);
        let categories = &settings.categories;
        for tag in tags.names() {
            let mut t = tags.table(&tag);
            // A category that device.toml does not name is decided on no more.
            let own = categories.iter().position(|c| c.name == tag).map(|i| model.names.len() + i);
            match own.ok_or(()).or_else(|()| names.tag(&tag).map(|id| id.0 as usize)) {
                Ok(i) => {
                    let mut rule = settings.tags[i].rule;
                    decide::rule(&mut t, &mut rule);
                    rules[i] = Some(rule);
                }
                Err(why) => {
                    t.allow_all();
                    // Another bundle has other tags.
                    if is_ours {
                        tags.problem(&tag, why);
                    }
                }
            }
        }
        drop(tags);
        let outcome = root.finish();
        if !outcome.problems.is_empty() {
            return Err(SettingsError(outcome.problems));
        }
        Ok(is_ours.then_some(Self { rules }))
    }

    /// Puts the state folder's file for this bundle and recipe on top of `settings`. `bundle`: its
    /// hash, in hexadecimal. An error says what cannot be read; the folder must be there.
    pub fn apply(settings: &mut Settings, model: ModelTags<'_>, bundle: &str) -> Result<Overridden, SettingsError> {
        let Some(folder) = settings.site.state.clone() else { return Ok(Overridden::No) };
        let recipe = settings.site.recipe.clone().unwrap_or_default();
        let mend = |why: &str| format!("{why}; repair the file, or remove it to go back to device.toml");
        let mut of_others = None;
        for name in [OVERRIDES.to_string(), aside(bundle, &recipe)] {
            let file = folder.join(&name);
            let text = state::text(&folder, &name);
            let text = text.map_err(|why| SettingsError(vec![if folder.is_dir() { mend(&why) } else { why }]))?;
            let Some(text) = text else { continue };
            let read = Self::parse(&text, &file.display().to_string(), settings, model, bundle);
            let Some(read) = read.map_err(|e| SettingsError(e.0.iter().map(|why| mend(why)).collect()))? else {
                of_others = of_others.or(Some(file));
                continue;
            };
            let set = settings.tags.iter_mut().zip(&read.rules).filter_map(|(tag, rule)| Some((tag, (*rule)?)));
            let n = set.map(|(tag, rule)| tag.rule = rule).count();
            settings.site.overrides = Some(read);
            return Ok(Overridden::Tags(file, n));
        }
        Ok(of_others.map_or(Overridden::No, Overridden::OtherBundle))
    }

    /// Writes the file, whole or not at all; one that is for another bundle or recipe is put aside,
    /// and what was set for this pair before stays. `names`: the tags'. `bundle`: its hash. Gives
    /// what was there before. An error says why nothing was written.
    pub fn write(
        &self,
        folder: &Path,
        names: &[&str],
        bundle: &str,
        recipe: Option<&str>,
    ) -> Result<OverridesBefore, String> {
        let recipe = recipe.unwrap_or_default();
        let own_aside = aside(bundle, recipe);
        let current = Stored::read(folder, OVERRIDES)?;
        let is_own = current.as_ref().is_none_or(|stored| stored.is_of(bundle, recipe));
        let of_other = current.as_ref().filter(|_| !is_own).map(|other| aside(&other.bundle, &other.recipe));
        let before = match current.filter(|_| is_own) {
            Some(own) => Some(own),
            None => Stored::read(folder, &own_aside)?.filter(|stored| stored.is_of(bundle, recipe)),
        };
        // Six digits give every score back: its step is 1/65535.
        let digits = |score: Score| format!("{:.6}", f64::from(score.0) / 65535.0);
        let mut text = format!(
            "# Thresholds that people set while the line ran, on top of device.toml, for one bundle and one recipe.\n\
             # Remove this file to go back to device.toml.\nbundle_sha256 = {}\n",
            quoted(bundle)
        );
        if !recipe.is_empty() {
            text += &format!("recipe = {}\n", quoted(recipe));
        }
        for (name, rule) in names.iter().zip(&self.rules) {
            if let Some(rule) = rule {
                let name = quoted(name);
                let [threshold, review_low] = [rule.threshold, rule.review_low].map(digits);
                text += &format!("\n[tags.{name}]\nthreshold = {threshold}\nreview_low = {review_low}\n");
            }
        }
        let is_set = |tag: &str| names.iter().zip(&self.rules).any(|(name, rule)| *name == tag && rule.is_some());
        for (tag, stated) in before.into_iter().flat_map(|before| before.tags).filter(|(tag, _)| !is_set(tag)) {
            text += &format!("\n[tags.{}]\n", quoted(&tag));
            for (key, value) in ["threshold", "review_low"].iter().zip(stated) {
                text += &value.map_or(String::new(), |value| format!("{key} = {value:.6}\n"));
            }
        }
        let told = |e: std::io::Error| state::unwritten(folder, &e);
        let file = folder.join(OVERRIDES);
        let mut was = OverridesBefore { folder: folder.into(), files: Vec::new() };
        for name in [Some(OVERRIDES), Some(&*own_aside), of_other.as_deref()].into_iter().flatten() {
            was.files.push((name.to_string(), state::text(folder, name)?));
        }
        if let Some(other) = of_other {
            std::fs::rename(&file, folder.join(other)).map_err(told)?;
        }
        crate::regular::replace(&file, &text).map_err(told)?;
        // What it says is in the new file, which is read first where this one stays.
        let _ = std::fs::remove_file(folder.join(own_aside));
        Ok(was)
    }
}

/// The files that [`Overrides::write`] changes, as they were before it.
#[derive(Debug)]
pub struct OverridesBefore {
    folder: PathBuf,
    /// Each file's text; `None` where it was not there.
    files: Vec<(String, Option<String>)>,
}

impl OverridesBefore {
    /// Brings them back, for what was written does not hold. An error says which is not as it was.
    pub fn bring_back(self) -> Result<(), String> {
        for (name, text) in self.files {
            let file = self.folder.join(&name);
            match text {
                Some(text) => crate::regular::replace(&file, &text),
                None => std::fs::remove_file(&file).or_else(|e| if e.kind() == NotFound { Ok(()) } else { Err(e) }),
            }
            .map_err(|e| format!("{name}: {}", state::unwritten(&self.folder, &e)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Role;

    const NAMES: [&str; 3] = ["nut", "a \"b\".c\n\u{1b}", "bolt"];

    fn model(read: impl FnOnce(ModelTags<'_>)) {
        let (rules, roles) = ([TagRule::default(); 3], [Role::Good; 3]);
        read(ModelTags { names: &NAMES, rules: &rules, roles: &roles, categories: None });
    }

    #[test]
    fn what_became_of_the_file_is_said_with_its_place() {
        let file = std::path::PathBuf::from("/var/x/overrides.toml");
        assert_eq!(Overridden::No.to_string(), "no overrides");
        let other = Overridden::OtherBundle(file.clone()).to_string();
        assert!(other.starts_with("/var/x/overrides.toml is for another bundle or recipe and is ignored; "), "{other}");
        let told = Overridden::Tags(file, 2).to_string();
        assert_eq!(told, "/var/x/overrides.toml sets thresholds on top of device.toml, tags: 2");
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tagpin-overrides-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Saving for one product threw away what was set for another.
    #[test]
    fn what_was_set_for_each_bundle_and_recipe_stays_whatever_is_saved_for_others() {
        const BUNDLES: [&str; 3] = ["abc", "abd", "a \"\\ c"];
        const RECIPES: [Option<&str>; 4] = [None, Some("a"), Some("none \"b\"\u{7f}"), Some("c")];
        let (seed, cases) = crate::random::drawn_cases(40);
        for case in 0..cases {
            let folder = scratch("pairs");
            let mut random = crate::random::Random::new(seed, case);
            // What each pair's tags were set to last.
            let mut expected = std::collections::BTreeMap::<(usize, usize), [Option<TagRule>; 3]>::new();
            let settings_of = |pair: (usize, usize)| {
                let mut read = None;
                model(|model| {
                    let mut settings = Settings::plain(model);
                    settings.site.state = Some(folder.clone());
                    settings.site.recipe = RECIPES[pair.1].map(str::to_string);
                    let applied = Overrides::apply(&mut settings, model, BUNDLES[pair.0]).unwrap();
                    read = Some((applied, settings));
                });
                read.unwrap()
            };
            for _ in 0..12 {
                let pair = (random.range(0, 2) as usize, random.range(0, 3) as usize);
                // A run begins with what is kept, or knows nothing of it: a bundle was taken over.
                let kept = settings_of(pair).1.site.overrides.filter(|_| random.range(0, 1) == 0);
                let mut overrides = kept.unwrap_or(Overrides { rules: vec![None; 3] });
                let tag = random.range(0, 2) as usize;
                let threshold = random.range(0, 65535);
                let review_low = Score(random.range(0, threshold) as u16);
                let rule = TagRule { threshold: Score(threshold as u16), review_low };
                overrides.rules[tag] = Some(rule);
                let texts = || {
                    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
                    files.map(|file| (std::fs::read(&file).unwrap(), file)).collect::<std::collections::BTreeSet<_>>()
                };
                let before = texts();
                let was = overrides.write(&folder, &NAMES, BUNDLES[pair.0], RECIPES[pair.1]).unwrap();
                // The line could not take it.
                if random.range(0, 3) == 0 {
                    was.bring_back().unwrap();
                    assert_eq!(texts(), before, "seed {seed} case {case}");
                    continue;
                }
                expected.entry(pair).or_default()[tag] = Some(rule);
                for pair in (0..3).flat_map(|bundle| (0..4).map(move |recipe| (bundle, recipe))) {
                    let (applied, settings) = settings_of(pair);
                    let wanted = expected.get(&pair).copied().unwrap_or_default();
                    let found: Vec<TagRule> = settings.tags.iter().map(|t| t.rule).collect();
                    let wanted: Vec<TagRule> = wanted.iter().map(|rule| rule.unwrap_or_default()).collect();
                    assert_eq!(found, wanted, "seed {seed} case {case} {pair:?}: {applied}");
                    assert_eq!(matches!(applied, Overridden::Tags(..)), expected.contains_key(&pair), "{applied}");
                }
            }
            let files = std::fs::read_dir(&folder).unwrap().count();
            assert_eq!(files, expected.len(), "one file a pair: seed {seed} case {case}");
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }

    /// A file that somebody spoiled while the line ran was replaced by the next that was saved.
    #[test]
    fn a_spoiled_file_is_no_place_to_save_in_and_a_folder_that_is_away_is_no_empty_one() {
        let folder = scratch("away");
        let overrides = Overrides { rules: vec![Some(TagRule::default()); 3] };
        std::fs::write(folder.join(OVERRIDES), "spoiled").unwrap();
        let why = overrides.write(&folder, &NAMES, "abc", None).unwrap_err();
        assert!(why.contains("repair the file, or remove it"), "{why}");
        assert_eq!(std::fs::read_to_string(folder.join(OVERRIDES)).unwrap(), "spoiled");
        std::fs::remove_dir_all(&folder).unwrap();
        model(|model| {
            let mut settings = Settings::plain(model);
            settings.site.state = Some(folder.clone());
            let why = Overrides::apply(&mut settings, model, "abc").unwrap_err().0.concat();
            assert!(why.starts_with(&format!("[state] folder {}: there is no such folder", folder.display())), "{why}");
            assert!(why.contains("mount it, or make it") && !why.contains("repair"), "{why}");
        });
        assert!(overrides.write(&folder, &NAMES, "abc", None).unwrap_err().contains("there is no such folder"));
        // Another choice is no mend while the folder is away, and is where its file cannot be read.
        let choice = || super::super::Chosen::read(&folder).unwrap_err().0.concat();
        let why = choice();
        assert!(why.contains("there is no such folder") && !why.contains("choose a recipe anew"), "{why}");
        let recipe = folder.join(super::super::RECIPE);
        std::fs::create_dir_all(&recipe).unwrap();
        let why = choice();
        assert!(why.contains("only regular files are read") && why.contains("choose a recipe anew"), "{why}");
        std::fs::remove_dir(&recipe).unwrap();
        assert_eq!(super::super::Chosen::read(&folder), Ok(super::super::Chosen::default()));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_score_comes_back_and_another_bundle_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("tagpin-overrides-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (seed, cases) = crate::random::drawn_cases(50);
        for case in 0..cases {
            let mut random = crate::random::Random::new(seed, case);
            let mut rule = || {
                let threshold = random.range(0, 65535);
                let review_low = random.range(0, threshold);
                TagRule { threshold: Score(threshold as u16), review_low: Score(review_low as u16) }
            };
            let written = Overrides { rules: vec![Some(rule()), Some(rule()), None] };
            written.write(&folder, &NAMES, "abc", None).unwrap();
            model(|model| {
                let mut settings = Settings::plain(model);
                settings.site.state = Some(folder.clone());
                let (plain, file) = (settings.clone(), folder.join(OVERRIDES));
                assert_eq!(Overrides::apply(&mut settings, model, "abd"), Ok(Overridden::OtherBundle(file.clone())));
                assert_eq!(settings, plain);
                assert_eq!(Overrides::apply(&mut settings, model, "abc"), Ok(Overridden::Tags(file, 2)));
                let found: Vec<_> = settings.tags.iter().map(|t| t.rule).collect();
                assert_eq!(found[..2], [written.rules[0].unwrap(), written.rules[1].unwrap()], "seed {seed} case {case}");
                assert_eq!(found[2], TagRule::default());
            });
        }
        // What somebody spoiled is refused, not passed over.
        for bad in [
            "",
            "bundle_sha256 = 1",
            "bundle_sha256 = \"abc\"\n[tags.gear]\nthreshold = 0.5",
            "bundle_sha256 = \"abc\"\nx = 1",
        ] {
            std::fs::write(folder.join(OVERRIDES), bad).unwrap();
            model(|model| {
                let mut settings = Settings::plain(model);
                settings.site.state = Some(folder.clone());
                let outcome = Overrides::apply(&mut settings, model, "abc");
                // A number is text enough to be another bundle's.
                let refused = outcome.as_ref().is_err_and(|e| e.0[0].contains("remove it to go back to device.toml"));
                assert!(
                    refused || matches!(outcome, Ok(Overridden::OtherBundle(_))) && bad.ends_with('1'),
                    "{bad}: {outcome:?}"
                );
            });
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
