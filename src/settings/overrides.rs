//! `overrides.toml`: thresholds and bands that people set while the line ran, on top of
//! device.toml.
//!
//! The file names the bundle that it is for. For another one it says nothing: thresholds are of a
//! model. A file that cannot be read is refused rather than passed over, because the line would
//! sort by other thresholds than somebody has set.

use super::names::Names;
use super::reader::{self, Table};
use super::{ModelTags, Settings, SettingsError, decide};
use crate::decide::TagRule;
use crate::head::Score;
use crate::regular::{self, Unread};
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
                    "{} is for another bundle or recipe and is ignored; set thresholds anew on the page, or remove it",
                    file.display()
                )
            }
            Self::Tags(file, n) => write!(f, "{} sets thresholds on top of device.toml, tags: {n}", file.display()),
        }
    }
}

/// A text as TOML states it.
pub(crate) fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, but for one character that JSON leaves as it is.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

impl Overrides {
    /// Reads a file's text. `None`: it is for another bundle or recipe. `settings`: whose rules a
    /// stated band or threshold stands beside.
    fn parse(
        text: &str,
        name: &str,
        settings: &Settings,
        model: ModelTags<'_>,
        sha256: &str,
    ) -> Result<Option<Self>, SettingsError> {
        let parsed = reader::parse(text, name)?;
        let mut root = Table::root(&parsed, text, name);
        let of_bundle = root.required("bundle_sha256") == sha256;
        let is_ours = of_bundle && root.text("recipe", "") == settings.site.recipe.as_deref().unwrap_or_default();
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

    /// Puts the state folder's file on top of `settings`. `sha256`: the bundle's, in hexadecimal.
    pub fn apply(settings: &mut Settings, model: ModelTags<'_>, sha256: &str) -> Result<Overridden, SettingsError> {
        let Some(file) = settings.site.state.as_ref().map(|folder| folder.join(OVERRIDES)) else {
            return Ok(Overridden::No);
        };
        let mend = |why: &str| format!("{why}; repair the file, or remove it to go back to device.toml");
        let text = match regular::read_text(&file, regular::TEXT) {
            Ok(text) => text,
            Err(Unread::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Overridden::No),
            Err(e) => return Err(SettingsError(vec![mend(&format!("{}: cannot be read: {e}", file.display()))])),
        };
        let read = Self::parse(&text, &file.display().to_string(), settings, model, sha256);
        let Some(read) = read.map_err(|e| SettingsError(e.0.iter().map(|why| mend(why)).collect()))? else {
            return Ok(Overridden::OtherBundle(file));
        };
        let set = settings.tags.iter_mut().zip(&read.rules).filter_map(|(tag, rule)| Some((tag, (*rule)?)));
        let n = set.map(|(tag, rule)| tag.rule = rule).count();
        settings.site.overrides = Some(read);
        Ok(Overridden::Tags(file, n))
    }

    /// Writes the file, whole or not at all. `names`: the tags'. `recipe`: that it is for.
    pub fn write(&self, folder: &Path, names: &[&str], sha256: &str, recipe: Option<&str>) -> std::io::Result<()> {
        // Six digits give every score back: its step is 1/65535.
        let digits = |score: Score| format!("{:.6}", f64::from(score.0) / 65535.0);
        let mut text = format!(
            "# Thresholds that people set while the line ran, on top of device.toml, for one bundle.\n\
             # Remove this file to go back to device.toml.\nbundle_sha256 = \"{sha256}\"\n"
        );
        if let Some(recipe) = recipe {
            text += &format!("recipe = {}\n", quoted(recipe));
        }
        for (name, rule) in names.iter().zip(&self.rules) {
            if let Some(rule) = rule {
                let name = quoted(name);
                let [threshold, review_low] = [rule.threshold, rule.review_low].map(digits);
                text += &format!("\n[tags.{name}]\nthreshold = {threshold}\nreview_low = {review_low}\n");
            }
        }
        crate::regular::replace(&folder.join(OVERRIDES), &text)
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
