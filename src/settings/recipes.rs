//! `[recipes.NAME]`: a bundle and settings on top of the file's own, by which the line sorts while
//! that recipe is chosen; and `recipe.toml`, which one is.
//!
//! A recipe is the same TOML tables again, below its name. Those that it may state are laid over
//! the file's key by key before anything is read, so each key means what it means there and its
//! problems are told at its place in the recipe. It cannot say where something is wired or what the
//! camera is: a choice that somebody makes at a belt must not move another pin.

use super::lines::is_status;
use super::quoted;
use super::reader::{self, Table};
use super::{Draft, Drive, ModelTags, OutputSettings, Settings, SettingsError};
use crate::regular;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Its name within the state folder.
pub const RECIPE: &str = "recipe.toml";
/// Most recipes of one device.
pub const MAX_RECIPES: usize = 255;
/// Most bytes of a recipe's name.
const MAX_NAME: usize = 64;
/// What stands for device.toml as it is where a recipe's name could: in the record of changes, in
/// lists and answers.
pub const NO_RECIPE: &str = "none";
/// What stands in the record for a choice that could not be read.
pub const UNREAD_RECIPE: &str = "unreadable";

/// Whether a name reads as one of the words that stand for no recipe.
fn is_word(name: &str) -> bool {
    [NO_RECIPE, UNREAD_RECIPE].iter().any(|word| name.trim().eq_ignore_ascii_case(word))
}

/// A recipe as far as it can be told without its bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// Its bundle, or the folder of an installed one; `None`: the line's own.
    pub bundle: Option<PathBuf>,
}

/// What of a table a recipe may state.
#[derive(Clone, Copy)]
enum May {
    /// Every key.
    All,
    /// These keys.
    Keys(&'static [&'static str]),
    /// These keys of each table in it, where device.toml has that table.
    KeysOfEach(&'static [&'static str]),
}

/// The tables that a recipe may state.
const LAYERS: [(&str, May); 6] = [
    ("tags", May::All),
    ("decide", May::All),
    ("outputs", May::KeysOfEach(&["on", "delay_ms", "delay_counts", "width_ms", "window_ms"])),
    ("line", May::Keys(&["late"])),
    ("source", May::Keys(&["roi"])),
    (
        "trigger",
        May::Keys(&[
            "frames",
            "deadline_ms",
            "deadline_counts",
            "min_spacing_ms",
            "min_spacing_counts",
            "too_close",
            "level",
            "area",
        ]),
    ),
];

/// Reads `[recipes]` as far as no bundle is needed. `outputs`: the file's.
pub(super) fn recipes(root: &mut Table<'_>, outputs: &[OutputSettings], has_state: bool) -> Vec<Recipe> {
    let mut tables = root.table("recipes");
    let mut recipes = Vec::new();
    for name in tables.names_in_order() {
        let mut t = tables.table(&name);
        if name.trim().is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
            let why = format!("a recipe's name is chosen and told: 1 to {MAX_NAME} bytes, and no control characters");
            tables.problem(&name, why);
        } else if is_word(&name) {
            let why = "no recipe can be called so: in lists and in the record of changes the word stands for no recipe, or for \
                one that could not be read; give it another name";
            tables.problem(&name, why.into());
        }
        let bundle = t.has("bundle").then(|| PathBuf::from(t.text("bundle", "")));
        for (table, may) in LAYERS.into_iter().filter(|(table, _)| t.has(table)).collect::<Vec<_>>() {
            let mut layer = t.table(table);
            match may {
                May::All => layer.allow_all(),
                May::Keys(keys) => only(&mut layer, keys),
                May::KeysOfEach(keys) => {
                    for output in layer.names() {
                        let mut of_one = layer.table(&output);
                        only(&mut of_one, keys);
                        match outputs.iter().find(|o| o.name == output) {
                            Some(known) => drives_alike(&mut of_one, known),
                            None => {
                                let why = "device.toml has no output of this name; a recipe wires none, so state it there";
                                layer.problem(&output, why.into());
                            }
                        }
                    }
                }
            }
        }
        for key in t.names().into_iter().filter(|key| key != "bundle" && LAYERS.iter().all(|(table, _)| table != key)) {
            t.problem(&key, refused("bundle, tags, decide, outputs, line, source, trigger"));
        }
        recipes.push(Recipe { name, bundle });
    }
    if recipes.len() > MAX_RECIPES {
        root.problem("recipes", format!("{} recipes, at most {MAX_RECIPES}", recipes.len()));
    }
    if !recipes.is_empty() && !has_state {
        let why = "which one is chosen is kept in the state folder, so that a restart goes on with it; state [state] folder";
        root.problem("recipes", why.into());
    }
    recipes
}

fn refused(may: &str) -> String {
    format!("a recipe cannot change this: it would rewire the line, or needs a restart; it may state {may}")
}

fn only(t: &mut Table<'_>, keys: &[&str]) {
    for key in t.names().into_iter().filter(|key| !keys.contains(&key.as_str())) {
        t.problem(&key, refused(&keys.join(", ")));
    }
}

/// A recipe says which verdicts call for an output, and no more: a pin that shows the line's state
/// goes on showing it, and no gate becomes such a pin.
fn drives_alike(t: &mut Table<'_>, known: &OutputSettings) {
    if !t.has("on") {
        return;
    }
    let states = t.texts("on").iter().any(|(word, _)| is_status(word));
    if states || !matches!(known.drive, Drive::Calls(_)) {
        let why = "what shows the line's state or its triggers is wired for that: it is the same for every recipe";
        t.problem("on", why.into());
    }
}

/// Lays the recipe of this name over the tables of its file, without what no recipe may state.
/// `None`: there is no such recipe.
fn lay<'t>(root: &mut DeTable<'t>, name: &str) -> Option<()> {
    let recipe = root.get("recipes")?.get_ref().as_table()?.get(name)?.get_ref().as_table()?.clone();
    // Thresholds are of a model: another one begins without those of the file.
    if recipe.contains_key("bundle") {
        root.remove("tags");
    }
    for (key, mut value) in recipe {
        let Some((_, may)) = LAYERS.iter().find(|(table, _)| *table == key.get_ref()) else { continue };
        match (may, value.get_mut()) {
            (May::Keys(keys), DeValue::Table(table)) => keep(table, |key| keys.contains(&key)),
            (May::KeysOfEach(keys), DeValue::Table(tables)) => {
                let below = root.get(key.get_ref().as_ref()).and_then(|below| below.get_ref().as_table());
                keep(tables, |name| below.is_some_and(|below| below.contains_key(name)));
                for (_, of_one) in tables.iter_mut() {
                    if let DeValue::Table(of_one) = of_one.get_mut() {
                        keep(of_one, |key| keys.contains(&key));
                    }
                }
            }
            (May::All | May::Keys(_) | May::KeysOfEach(_), _) => {}
        }
        // The keys of [tags] and [outputs] are tables; a value that is one, as a region is, counts
        // as a whole.
        let levels = if matches!(key.get_ref().as_ref(), "tags" | "outputs") { 2 } else { 1 };
        over(root, key, value, levels);
    }
    Some(())
}

fn keep(table: &mut DeTable<'_>, fits: impl Fn(&str) -> bool) {
    let all = std::mem::take(table);
    table.extend(all.into_iter().filter(|(key, _)| fits(key.get_ref())));
}

/// The other key that says the same as this one, in the other unit: of the two a table states one.
fn twin(key: &str) -> Option<String> {
    let (stem, unit) =
        key.strip_suffix("_ms").map(|stem| (stem, "counts")).or_else(|| Some((key.strip_suffix("_counts")?, "ms")))?;
    matches!(stem, "delay" | "deadline" | "min_spacing").then(|| format!("{stem}_{unit}"))
}

/// Puts one key over what a table has under its name: tables key by key down to `levels` of
/// them, any other value as a whole. A value in milliseconds takes the place of one in counts too,
/// and the other way round.
fn over<'t>(into: &mut DeTable<'t>, key: Spanned<Cow<'t, str>>, value: Spanned<DeValue<'t>>, levels: u32) {
    let below = into.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut);
    if let (1.., Some(DeValue::Table(below)), DeValue::Table(_)) = (levels, below, value.get_ref()) {
        let DeValue::Table(above) = value.into_inner() else { unreachable!("it was looked at") };
        // Before any is put there, so that a recipe that states both is told as a file is.
        let stated = above.iter().filter(|(_, value)| value.get_ref().as_table().is_none());
        for twin in stated.filter_map(|(key, _)| twin(key.get_ref())) {
            below.remove(twin.as_str());
        }
        above.into_iter().for_each(|(key, value)| over(below, key, value, levels - 1));
    } else {
        into.insert(key, value);
    }
}

impl Settings {
    /// What the text of a file says with one of its recipes, `None` for none, and what is wrong
    /// with it. `model`: of the recipe's bundle. Refuses text that is no TOML, and a recipe that it
    /// does not have.
    pub fn draft_of(text: &str, name: &str, recipe: Option<&str>, model: ModelTags<'_>) -> Result<Draft, SettingsError> {
        let Some(recipe) = recipe else { return Self::draft(text, name, model) };
        let mut parsed = reader::parse(text, name)?;
        if lay(&mut parsed, recipe).is_none() {
            let recipes = parsed.get("recipes").map(Spanned::get_ref);
            let tables = recipes.and_then(DeValue::as_table);
            if recipes.is_some() && tables.is_none_or(|tables| tables.contains_key(recipe)) {
                // It is no table: told at its place, as for the file as it is.
                return Ok(Self::read_draft(&parsed, text, name, model));
            }
            let known: Vec<_> = tables.into_iter().flatten().map(|(k, _)| format!("\"{}\"", k.get_ref())).collect();
            let has = if known.is_empty() { "it has none".into() } else { format!("it has {}", known.join(", ")) };
            return Err(SettingsError(vec![format!("{name}: there is no recipe \"{recipe}\"; {has}")]));
        }
        let mut draft = Self::read_draft(&parsed, text, name, model);
        draft.problems.iter_mut().for_each(|why| *why = format!("recipe \"{recipe}\": {why}"));
        draft.settings.site.recipe = Some(recipe.into());
        Ok(draft)
    }

    /// State folder and recipes of a file, whatever else is wrong with it. Refuses text that is no
    /// TOML, and a key `recipes` that is no table.
    pub fn recipes_of(text: &str, name: &str) -> Result<(Option<PathBuf>, Vec<Recipe>), SettingsError> {
        let parsed = reader::parse(text, name)?;
        let mut root = Table::root(&parsed, text, name);
        root.allow_all();
        root.table("recipes").allow_all();
        let problems = root.finish().problems;
        if !problems.is_empty() {
            return Err(SettingsError(problems));
        }
        let none = ModelTags { names: &[], rules: &[], roles: &[], categories: None };
        let site = Self::draft(text, name, none)?.settings.site;
        Ok((site.state, site.recipes))
    }
}

/// Which recipe the line goes by, and who chose it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Its name; `None`: device.toml as it is.
    pub recipe: Option<String>,
    /// Who chose it.
    pub who: String,
}

impl Chosen {
    /// What the state folder says; nothing was chosen where there is no such file in it.
    pub fn read(folder: &Path) -> Result<Self, SettingsError> {
        let file = folder.join(RECIPE);
        let mend = |why: String| {
            format!("{why}; choose a recipe anew with `tagpin recipe NAME`, or remove the file to go by device.toml alone")
        };
        let text = match super::state::text(folder, RECIPE) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Self::default()),
            Err(why) if !folder.is_dir() => return Err(SettingsError(vec![why])),
            Err(why) => return Err(SettingsError(vec![mend(why)])),
        };
        let name = file.display().to_string();
        let parsed = reader::parse(&text, &name).map_err(|e| SettingsError(e.0.into_iter().map(mend).collect()))?;
        let mut root = Table::root(&parsed, &text, &name);
        let (recipe, who) = (root.required("recipe"), root.required("who"));
        if is_word(&recipe) {
            root.problem("recipe", format!("no recipe is called {recipe}; \"\" is for none"));
        }
        let problems = root.finish().problems;
        if problems.is_empty() {
            Ok(Self { recipe: Some(recipe).filter(|name| !name.is_empty()), who })
        } else {
            Err(SettingsError(problems.into_iter().map(mend).collect()))
        }
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let [recipe, who] = [self.recipe.as_deref().unwrap_or_default(), &self.who].map(quoted);
        let text = format!(
            "# The recipe of device.toml that the line goes by: `tagpin recipe` chooses one. Empty: none.\n\
             recipe = {recipe}\nwho = {who}\n"
        );
        regular::replace(&folder.join(RECIPE), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Role, TagRule};
    use crate::random::{Random, drawn_cases};
    use crate::settings::EXAMPLE;
    use std::collections::{BTreeMap, BTreeSet};

    const NAMES: [&str; 3] = ["bolt", "gear", "nut"];
    const BASE: &str = "[state]\nfolder = \"/var/lib/tagpin\"\n";

    fn model<T>(read: impl FnOnce(ModelTags<'_>) -> T) -> T {
        read(ModelTags { names: &NAMES, rules: &[TagRule::default(); 3], roles: &[Role::Good; 3], categories: None })
    }

    fn with(text: &str, recipe: Option<&str>) -> Result<Settings, Vec<String>> {
        let draft = model(|model| Settings::draft_of(text, "device.toml", recipe, model)).map_err(|e| e.0)?;
        if draft.problems.is_empty() { Ok(draft.settings) } else { Err(draft.problems) }
    }

    /// Table, key, and values that are right.
    type Key = (&'static str, &'static str, &'static [&'static str]);

    /// What a recipe may state, as RECIPES.md lists it.
    const MAY: [Key; 20] = [
        ("tags.default", "threshold", &["0.5", "0.625"]),
        ("tags.bolt", "threshold", &["0.5", "0.75"]),
        ("tags.bolt", "review_low", &["0.25", "0.5"]),
        ("tags.nut", "threshold", &["0.875", "1.0"]),
        ("decide", "reject", &["[]", "[\"gear\"]", "[\"nut\", \"gear\"]"]),
        ("decide", "unknown", &["\"accept\"", "\"review\""]),
        ("decide", "foreign", &["\"accept\"", "\"review\""]),
        ("decide", "pick", &["\"top\"", "[\"nut\", \"bolt\"]"]),
        ("decide", "hysteresis", &["0.0", "0.125"]),
        ("outputs.gate", "on", &["[\"reject\"]", "[\"tag:nut\", \"unknown\"]"]),
        ("outputs.gate", "delay_ms", &["400", "900"]),
        ("outputs.gate", "width_ms", &["20", "80"]),
        ("outputs.gate", "window_ms", &["15", "70"]),
        ("outputs.lamp", "on", &["[\"review\"]", "[\"accept\", \"foreign\"]"]),
        ("outputs.lamp", "delay_ms", &["500", "700"]),
        ("line", "late", &["\"accept\"", "\"review\""]),
        ("source", "roi", &["{ x = 8, y = 0, width = 64, height = 32 }", "{ width = 100, height = 90 }"]),
        ("trigger", "frames", &["1", "3"]),
        ("trigger", "deadline_ms", &["100", "200"]),
        ("trigger", "min_spacing_ms", &["0", "30"]),
    ];

    /// A file's own keys, without which the others would be none.
    const OWN: [(&str, &str, &str); 8] = [
        ("state", "folder", "\"/var/lib/tagpin\""),
        ("line", "mode", "\"gate\""),
        ("trigger", "kind", "\"barrier\""),
        ("outputs.gate", "mode", "\"pulse\""),
        ("outputs.gate", "on", "[\"reject\"]"),
        ("outputs.gate", "delay_ms", "600"),
        ("outputs.lamp", "on", "[\"review\"]"),
        ("outputs.lamp", "delay_ms", "600"),
    ];

    type Keys = BTreeMap<(String, String), String>;

    fn text(keys: &Keys) -> String {
        let tables: BTreeSet<&String> = keys.keys().map(|(table, _)| table).collect();
        let of = |table: &String| {
            let own = keys.iter().filter(|((t, _), _)| t == table).map(|((_, key), value)| format!("{key} = {value}\n"));
            format!("[{table}]\n{}", own.collect::<String>())
        };
        tables.into_iter().map(of).collect()
    }

    /// Without what tells only where something stands.
    fn placeless(mut settings: Settings) -> Settings {
        settings.outputs.iter_mut().for_each(|o| o.place.clear());
        (settings.site.recipes, settings.site.recipe) = (Vec::new(), None);
        settings
    }

    /// A file with a recipe says what the file would say that has the recipe's keys in place of its
    /// own.
    #[test]
    fn what_a_recipe_states_stands_in_place_of_the_files_own_and_all_else_stays() {
        let (seed, cases) = drawn_cases(300);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut drawn = |prefix: &str, keys: &mut Keys, chance: i32| {
                for (table, key, values) in MAY {
                    if random.range(0, 99) < chance {
                        let value = values[random.range(0, values.len() as i32 - 1) as usize];
                        keys.insert((format!("{prefix}{table}"), key.into()), value.into());
                    }
                }
            };
            let mut file: Keys = OWN.iter().map(|(t, k, v)| ((t.to_string(), k.to_string()), v.to_string())).collect();
            drawn("", &mut file, 40);
            let mut above = Keys::new();
            drawn("recipes.small.", &mut above, 40);
            let mut other = Keys::new();
            drawn("recipes.\"an other\".", &mut other, 40);
            let mut expected = file.clone();
            for ((table, key), value) in &above {
                expected.insert((table.strip_prefix("recipes.small.").unwrap().into(), key.clone()), value.clone());
            }
            let plain = text(&file);
            let all = plain.clone() + "[recipes.small]\n" + &text(&above) + &text(&other);
            let told = format!("seed {seed} case {case}:\n{all}");
            let wanted = with(&text(&expected), None).map(placeless);
            match (with(&all, Some("small")), wanted) {
                (Ok(found), Ok(wanted)) => {
                    assert_eq!(found.site.recipe.as_deref(), Some("small"), "{told}");
                    assert_eq!(placeless(found), wanted, "{told}");
                }
                // A band above its threshold, for example: the same problems at other places.
                (Err(found), Err(wanted)) => {
                    let kind = |all: Vec<String>| {
                        let mut words: Vec<_> = all.iter().map(|w| w.rsplit_once(": ").unwrap().1.to_string()).collect();
                        words.sort();
                        words
                    };
                    assert!(found.iter().all(|why| why.starts_with("recipe \"small\": device.toml:")), "{found:?}");
                    assert_eq!(kind(found), kind(wanted), "{told}");
                }
                (found, wanted) => panic!("{told}\n{found:?}\n{wanted:?}"),
            }
            // Nobody is chosen: the file as it is.
            assert_eq!(with(&all, None).map(placeless), with(&plain, None).map(placeless), "{told}");
        }
    }

    #[test]
    fn a_recipes_name_can_be_shown_and_is_short() {
        let told = |name: &str| with(&format!("{BASE}[recipes.\"{name}\"]\n"), None).err().map(|e| e.join("; "));
        let [longest, longer] = [MAX_NAME, MAX_NAME + 1].map(|n| "n".repeat(n));
        for name in ["a", "night shift", &longest] {
            assert_eq!(told(name), None, "{name}");
        }
        for name in ["", "  ", "a\\tb", "\\u001b", &longer] {
            assert!(
                told(name).is_some_and(|why| why.contains("1 to 64 bytes, and no control characters")),
                "{name}: {:?}",
                told(name)
            );
        }
    }

    /// Every other key of the example, in whichever table, is refused with its name and the
    /// recipe's.
    #[test]
    fn a_recipe_that_would_rewire_the_line_is_refused_with_its_name_and_the_keys() {
        let uncommented: String = EXAMPLE.lines().map(|l| l.strip_prefix("# ").unwrap_or(l).to_string() + "\n").collect();
        let mut table = String::new();
        let mut tried = 0;
        for line in uncommented.lines() {
            let line = line.split("  #").next().unwrap().trim();
            if let Some(head) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
                table = head.replace("reject_gate", "gate");
                continue;
            }
            let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| !key.contains([' ', ':'])) else { continue };
            let whole = ["tags", "decide", "recipes"].iter().any(|t| table.split('.').next() == Some(t));
            let also = ["trigger.min_spacing_counts", "trigger.deadline_counts", "trigger.too_close", "trigger.level"];
            let path = format!("{table}.{key}");
            let may = MAY.iter().any(|(t, k, _)| *t == table && *k == key)
                || also.contains(&path.as_str())
                || ["trigger.area", "outputs.gate.delay_counts"].contains(&path.as_str());
            if whole || table.is_empty() || may {
                continue;
            }
            let file = format!("{BASE}[outputs.gate]\non = [\"reject\"]\n[recipes.small.{table}]\n{key} = {value}\n");
            let why = with(&file, None).expect_err(&file).join("\n");
            let outer = table.split('.').next().unwrap();
            let named = [format!("recipes.small.{path}: "), format!("recipes.small.{outer}: ")];
            assert!(named.iter().any(|named| why.contains(named)), "{file}\n{why}");
            assert!(why.contains("a recipe cannot change this"), "{file}\n{why}");
            assert_eq!(with(&file, Some("small")).expect_err(&file).len(), why.lines().count(), "chosen: {file}");
            tried += 1;
        }
        assert!(tried > 60, "{tried} keys of the example");
    }

    #[test]
    fn what_no_recipe_can_be_is_told_with_its_mend() {
        let gate = "[outputs.gate]\non = [\"reject\"]\n[outputs.lamp]\non = [\"ready\"]\n";
        for (text, expected) in [
            ("[recipes.a]\n".to_string(), "recipes: which one is chosen is kept in the state folder"),
            (
                format!("{BASE}{gate}[recipes.a.outputs.horn]\non = [\"reject\"]\n"),
                "recipes.a.outputs.horn: device.toml has no output",
            ),
            (format!("{BASE}{gate}[recipes.a.outputs.lamp]\non = [\"accept\"]\n"), "recipes.a.outputs.lamp.on: what shows"),
            (format!("{BASE}{gate}[recipes.a.outputs.gate]\non = [\"fault\"]\n"), "recipes.a.outputs.gate.on: what shows"),
            (format!("{BASE}[recipes.\" \"]\n"), "a recipe's name is chosen and told"),
            (format!("{BASE}[recipes.a]\nbundle = 1\n"), "recipes.a.bundle: found integer, expected text"),
            // The record said "none -> none" where one was chosen.
            (format!("{BASE}[recipes.none]\n"), "recipes.none: no recipe can be called so: in lists and"),
            (format!("{BASE}[recipes.\" None \"]\n"), "no recipe can be called so"),
            (format!("{BASE}[recipes.unreadable]\n"), "recipes.unreadable: no recipe can be called so"),
            (format!("{BASE}[recipes]\na = 1\n"), "recipes.a: found integer, expected a table"),
            (format!("recipes = 3\n{BASE}"), "recipes: found integer, expected a table"),
        ] {
            let why = with(&text, None).expect_err(&text).join("\n");
            assert!(why.contains(expected), "{text}\n{why}");
        }
        // The same where somebody chooses it: "there is no recipe "a"; it has "a"" told nobody why.
        for (text, expected) in
            [("[recipes]\na = 1\n", "recipes.a: found integer"), ("recipes = 3\n", "recipes: found integer")]
        {
            let why = with(&format!("{text}{BASE}"), Some("a")).expect_err(text).join("\n");
            assert!(why.contains(expected) && !why.contains("there is no recipe"), "{text}\n{why}");
        }
        let none = Settings::recipes_of(&format!("recipes = 3\n{BASE}"), "device.toml").unwrap_err().0;
        assert_eq!(none, ["device.toml:1:11: recipes: found integer, expected a table"]);
        let why = with(&format!("{BASE}[recipes.b]\n[recipes.a]\n"), Some("c")).unwrap_err();
        assert_eq!(why, ["device.toml: there is no recipe \"c\"; it has \"a\", \"b\""]);
        // In the file's order, which is their number for a PLC.
        let text = format!("{BASE}[recipes.b]\n[recipes.a]\nbundle = \"x.tagpin\"\n");
        let recipe = |name: &str, bundle: Option<&str>| Recipe { name: name.into(), bundle: bundle.map(PathBuf::from) };
        let all = vec![recipe("b", None), recipe("a", Some("x.tagpin"))];
        assert_eq!(Settings::recipes_of(&text, "t"), Ok((Some("/var/lib/tagpin".into()), all)));
        // Another model begins without the thresholds of the file's.
        let text = format!("{BASE}[tags.screw]\nthreshold = 0.9\n[recipes.a]\nbundle = \"x.tagpin\"\n[recipes.b]\n");
        assert!(with(&text, Some("a")).is_ok() && with(&text, Some("b")).is_err());
    }

    #[test]
    fn the_choice_comes_back_whole_and_a_file_that_somebody_spoiled_is_refused_with_its_mend() {
        let folder = std::env::temp_dir().join(format!("tagpin-recipe-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(Chosen::read(&folder), Ok(Chosen::default()));
        for (recipe, who) in [(Some("a \"b\"\\\n\u{1b}\u{7f}é"), "user \"x\""), (None, "page"), (Some("a"), "")] {
            let chosen = Chosen { recipe: recipe.map(str::to_string), who: who.into() };
            chosen.write(&folder).unwrap();
            assert_eq!(Chosen::read(&folder), Ok(chosen));
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        for bad in [
            "recipe = 'none'\nwho = ''",
            "",
            "recipe = 'a'",
            "recipe = ['a']\nwho = ''",
            "recipe = 'a'\nwho = ''\nx = 1",
            "[",
            "\u{0}",
        ] {
            std::fs::write(folder.join(RECIPE), bad).unwrap();
            let why = Chosen::read(&folder).expect_err(bad).0.join("\n");
            assert!(why.contains("recipe.toml") && why.contains("`tagpin recipe NAME`"), "{bad}: {why}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// `delay_counts` of a recipe was refused for standing beside the file's `delay_ms`, though it
    /// stands in its place.
    #[test]
    fn a_way_that_a_recipe_states_stands_in_place_of_the_files_in_the_other_unit() {
        const WAYS: [(&str, &str); 3] = [("outputs.gate", "delay"), ("trigger", "deadline"), ("trigger", "min_spacing")];
        let file = |ways: &[(usize, &str, u32)], recipe: &[(usize, &str, u32)]| {
            let of = |all: &[(usize, &str, u32)], wanted: &str| {
                let own = all.iter().filter(|(way, ..)| WAYS[*way].0 == wanted);
                own.map(|(way, unit, n)| format!("{}_{unit} = {n}\n", WAYS[*way].1)).collect::<String>()
            };
            let tables = |all: &[(usize, &str, u32)], prefix: &str, own: [&str; 2]| {
                let of_one = ["outputs.gate", "trigger"].iter().zip(own);
                of_one.map(|(table, own)| format!("[{prefix}{table}]\n{own}{}", of(all, table))).collect::<String>()
            };
            let own = ["mode = \"pulse\"\non = [\"reject\"]\n", "kind = \"barrier\"\n"];
            let base = format!("{BASE}[line]\nmode = \"gate\"\n[encoder]\nchip = \"gpiochip0\"\na = 5\n");
            base + &tables(ways, "", own) + &tables(recipe, "recipes.small.", ["", ""])
        };
        let (seed, cases) = drawn_cases(200);
        for case in 0..cases {
            let mut random = Random::new(seed, case);
            let mut drawn = |least: i32| {
                let one = |way| (way, ["ms", "counts"][random.range(0, 1) as usize], random.range(100, 400) as u32);
                let all: Vec<_> = (0..WAYS.len()).map(one).collect();
                all.into_iter().filter(|(way, ..)| *way == 0 && least == 1 || random.range(0, 1) == 1).collect::<Vec<_>>()
            };
            let (own, small) = (drawn(1), drawn(0));
            let mut expected: Vec<_> =
                own.iter().filter(|(way, ..)| small.iter().all(|(w, ..)| w != way)).copied().collect();
            expected.extend(&small);
            let text = file(&own, &small);
            let found = with(&text, Some("small")).map(placeless);
            assert_eq!(found, with(&file(&expected, &[]), None).map(placeless), "{text}");
            assert!(found.is_ok() || found.is_err_and(|why| !why.join("").contains("stands beside")), "{text}");
        }
        // One that states both is told.
        let text = file(&[(0, "ms", 200)], &[(0, "ms", 300), (0, "counts", 70)]);
        let why = with(&text, Some("small")).unwrap_err().join("\n");
        assert!(why.contains("delay_counts: stands beside delay_ms; keep one"), "{why}");
    }

    #[test]
    fn there_are_no_more_recipes_than_a_number_of_one_byte_names() {
        let text = |n: usize| (1..=n).fold(BASE.to_string(), |text, i| text + &format!("[recipes.r{i}]\n"));
        assert_eq!(with(&text(MAX_RECIPES), None).map(|s| s.site.recipes.len()), Ok(255));
        let problems = with(&text(MAX_RECIPES + 1), None).unwrap_err();
        assert!(problems.iter().any(|why| why.contains("256 recipes, at most 255")), "{problems:?}");
    }
}
