//! Categories of classes, from the hypernyms of WordNet's nouns.
//!
//! A hypernym is the more general word: a tabby is a domestic cat is a cat is a feline. WordNet has
//! a dozen of them above each noun, most of which say little (placental, chordate, whole). What is
//! left of them is stated at [`categories`].

use super::names::Class;
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use tagpin::category::{MAX_CATEGORIES, section};

/// Most bytes of a file of nouns; that of WordNet 3.0 has 15 MB.
const MOST: u64 = 64 << 20;
/// Most hypernyms above one another; WordNet 3.0 has 19.
const DEEPEST: usize = 64;
/// Most categories above a tag.
const LEVELS: usize = 6;

/// A noun: one meaning, with the words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Noun {
    words: Vec<String>,
    /// The first of its hypernyms.
    above: Option<u32>,
}

/// A category as it goes into a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// Unique.
    pub name: String,
    /// Index of the category that it lies in.
    pub parent: Option<usize>,
}

/// Categories, and each class's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Categories {
    /// Each behind the one that it lies in.
    pub all: Vec<Category>,
    /// `[classes]`: the innermost; `None` for a class of no category.
    pub of_class: Vec<Option<usize>>,
}

impl Categories {
    /// The bundle's section.
    pub fn section(&self) -> Vec<u8> {
        let all: Vec<_> = self.all.iter().map(|c| (c.name.as_str(), c.parent.map(|p| p as u16))).collect();
        section(&all, &self.of_class.iter().map(|c| c.map(|c| c as u16)).collect::<Vec<_>>())
    }

    /// Most categories above a class.
    pub fn depth(&self) -> usize {
        let up = |c: &Category| std::iter::successors(Some(c), |c| c.parent.map(|p| &self.all[p])).count();
        self.all.iter().map(up).max().unwrap_or(0)
    }
}

/// Reads WordNet's file of nouns (`data.noun`) and makes categories of these classes.
pub fn read(path: &Path, classes: &[Class]) -> Result<Categories> {
    let read = || {
        let text = tagpin::regular::read_text(path, MOST).context("it cannot be read")?;
        categories(&nouns(&text)?, classes)
    };
    read().with_context(|| format!("--wordnet {}", path.display()))
}

/// All nouns of a file in the format of wndb(5): lines of `offset lex_filenum n w_cnt word lex_id
/// ... p_cnt symbol offset pos source/target ... | gloss`; the licence before them begins with two
/// spaces.
fn nouns(text: &str) -> Result<HashMap<u32, Noun>> {
    let mut nouns = HashMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.starts_with("  ") && !l.is_empty()) {
        let (offset, noun) = noun(line).with_context(|| {
            format!("line {}: it is no line of WordNet's data.noun: {:?}", i + 1, line.chars().take(40).collect::<String>())
        })?;
        ensure!(nouns.insert(offset, noun).is_none(), "line {}: noun {offset:08} stands twice", i + 1);
    }
    ensure!(!nouns.is_empty(), "it has no nouns; name WordNet 3.0's data.noun");
    Ok(nouns)
}

fn noun(line: &str) -> Option<(u32, Noun)> {
    let mut cells = line.split('|').next()?.split_whitespace();
    let offset = cells.next().filter(|o| o.len() == 8)?.parse().ok()?;
    let (_, kind) = (cells.next()?, cells.next()?);
    let count = usize::from_str_radix(cells.next()?, 16).ok().filter(|n| kind == "n" && *n > 0)?;
    let words = (0..count).map(|_| {
        let word = cells.next()?.replace('_', " ");
        cells.next().filter(|_| !word.chars().any(char::is_control)).map(|_| word)
    });
    let words = words.collect::<Option<Vec<_>>>()?;
    let pointers: usize = cells.next()?.parse().ok()?;
    let mut above = None;
    for _ in 0..pointers {
        let (symbol, target, _, _) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        if above.is_none() && (symbol == "@" || symbol == "@i") {
            above = Some(target.parse().ok()?);
        }
    }
    Some((offset, Noun { words, above }))
}

/// Hypernyms of a class from the inside out.
fn above(nouns: &HashMap<u32, Noun>, class: &Class) -> Result<Vec<u32>> {
    let offset: u32 = class.id[1..].parse()?;
    let own = nouns.get(&offset).with_context(|| {
        format!(
            "there is no noun {} (\"{}\"); ids are those of WordNet 3.0, other versions have others",
            class.id, class.name
        )
    })?;
    let mut path = Vec::new();
    let mut next = own.above;
    while let Some(at) = next {
        if path.len() == DEEPEST || path.contains(&at) || at == offset {
            bail!("the hypernyms of {} (\"{}\") go round in a circle at n{at:08}", class.id, class.name);
        }
        path.push(at);
        let noun = nouns.get(&at).with_context(|| format!("noun n{at:08}, above {}, is missing", class.id))?;
        next = noun.above;
    }
    Ok(path)
}

/// What becomes a category:
///
/// 1. a noun above at least two classes, and above at most 6 in 10 of all;
/// 2. where one noun has at least 3 in 4 of the classes of the noun above it, the two are alike: of
///    nouns that are alike in a row, the one with the shortest name (dog, not carnivore or canine);
/// 3. at most six above one another.
///
/// A class belongs to the innermost that is left above it. Names are WordNet's first word, and its
/// second or number behind it where two would be called the same.
fn categories(nouns: &HashMap<u32, Noun>, classes: &[Class]) -> Result<Categories> {
    let paths: Vec<Vec<u32>> = classes.iter().map(|c| above(nouns, c)).collect::<Result<_>>()?;
    let mut count: BTreeMap<u32, usize> = BTreeMap::new();
    paths.iter().flatten().for_each(|at| *count.entry(*at).or_default() += 1);
    let above_of = |at: u32| nouns.get(&at).and_then(|n| n.above);
    let word = |at: u32| nouns[&at].words[0].as_str();
    let in_question = |at: u32| count[&at] >= 2 && 10 * count[&at] <= 6 * classes.len();
    // From the top down, so that what lies above is settled first.
    let depth = |at: u32| std::iter::successors(above_of(at), |a| above_of(*a)).count();
    let mut order: Vec<u32> = count.keys().copied().filter(|at| in_question(*at)).collect();
    order.sort_by_cached_key(|at| (depth(*at), std::cmp::Reverse(count[at]), *at));
    let mut rows: Vec<Vec<u32>> = Vec::new();
    let mut row_of: HashMap<u32, usize> = HashMap::new();
    for &at in &order {
        let alike = above_of(at).filter(|up| in_question(*up) && 4 * count[&at] >= 3 * count[up]);
        // More than half of them, so no other noun below it is alike too.
        match alike.map(|up| row_of[&up]) {
            Some(row) => {
                rows[row].push(at);
                row_of.insert(at, row);
            }
            None => {
                row_of.insert(at, rows.len());
                rows.push(vec![at]);
            }
        }
    }
    let shortest = |row: &Vec<u32>| row.iter().copied().min_by_key(|at| word(*at).chars().count());
    let mut kept: HashSet<u32> = rows.iter().filter_map(shortest).collect();
    let levels = |at: u32, kept: &HashSet<u32>| {
        std::iter::successors(above_of(at), |a| above_of(*a)).filter(|a| kept.contains(a)).count()
    };
    for &at in &order {
        if kept.contains(&at) && levels(at, &kept) >= LEVELS {
            kept.remove(&at);
        }
    }
    let order: Vec<u32> = order.into_iter().filter(|at| kept.contains(at)).collect();
    ensure!(order.len() <= MAX_CATEGORIES, "{} categories, at most {MAX_CATEGORIES} fit into a bundle", order.len());
    let index: HashMap<u32, usize> = order.iter().enumerate().map(|(i, at)| (*at, i)).collect();
    let mut often: HashMap<&str, usize> = HashMap::new();
    order.iter().for_each(|at| *often.entry(word(*at)).or_default() += 1);
    let name = |at: u32| match often[word(at)] {
        1 => word(at).to_string(),
        _ => format!("{} ({})", word(at), nouns[&at].words.get(1).cloned().unwrap_or(format!("n{at:08}"))),
    };
    let parent = |at: u32| std::iter::successors(above_of(at), |a| above_of(*a)).find_map(|a| index.get(&a).copied());
    let mut all: Vec<Category> = order.iter().map(|at| Category { name: name(*at), parent: parent(*at) }).collect();
    // Second words may be the same as well.
    let mut seen = HashSet::new();
    for (category, at) in all.iter_mut().zip(&order) {
        if !seen.insert(category.name.clone()) {
            category.name = format!("{} (n{at:08})", word(*at));
            seen.insert(category.name.clone());
        }
    }
    let of_class = paths.iter().map(|path| path.iter().find_map(|at| index.get(at).copied())).collect();
    Ok(Categories { all, of_class })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nouns as a made file has them: number, words, the number above.
    fn file(nouns: &[(u32, &str, Option<u32>)]) -> String {
        let line = |(offset, words, above): &(u32, &str, Option<u32>)| {
            let words: Vec<String> = words.split(',').map(|w| format!("{} 0", w.replace(' ', "_"))).collect();
            let pointers =
                above.map_or("001 ~ 00000099 n 0000".into(), |a| format!("002 ~ 00000099 n 0000 @ {a:08} n 0000"));
            format!("{offset:08} 05 n {:02x} {} {pointers} | a made noun; 1 @ 2 \n", words.len(), words.join(" "))
        };
        "  1 a licence, of 29 lines  \n".to_string() + &nouns.iter().map(line).collect::<String>()
    }

    fn made(nouns: &[(u32, &str, Option<u32>)], ids: &[u32]) -> Result<Categories, String> {
        let class = |id: &u32| Class { id: format!("n{id:08}"), name: format!("class {id}") };
        let classes: Vec<Class> = ids.iter().map(class).collect();
        super::nouns(&file(nouns)).and_then(|n| categories(&n, &classes)).map_err(|e| format!("{e:#}"))
    }

    /// Eight cats and dogs and three vehicles; carnivore, canine and dog are alike.
    const NOUNS: [(u32, &str, Option<u32>); 20] = [
        (1, "entity", None),
        (2, "animal,beast", Some(1)),
        (3, "chordate", Some(2)),
        (4, "carnivore", Some(3)),
        (5, "canine", Some(4)),
        (6, "dog,domestic dog", Some(5)),
        (7, "feline", Some(4)),
        (8, "true cat", Some(7)),
        (9, "motor vehicle", Some(1)),
        (20, "a", Some(6)),
        (21, "b", Some(6)),
        (22, "c", Some(6)),
        (23, "d", Some(6)),
        (24, "e", Some(6)),
        (25, "f", Some(6)),
        (26, "tabby", Some(8)),
        (27, "lion", Some(7)),
        (28, "bus", Some(9)),
        (29, "car", Some(9)),
        (30, "left alone", Some(1)),
    ];
    const IDS: [u32; 15] = [20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34];

    fn with_more() -> Vec<(u32, &'static str, Option<u32>)> {
        let mut all = NOUNS.to_vec();
        all.extend([(31, "g", Some(1)), (32, "h", Some(1)), (33, "i", Some(1)), (34, "j", Some(1))]);
        all
    }

    #[test]
    fn hypernyms_become_few_categories_with_short_names() {
        let got = made(&with_more(), &IDS).unwrap();
        let named: Vec<(&str, Option<usize>)> = got.all.iter().map(|c| (c.name.as_str(), c.parent)).collect();
        // Of animal, chordate, carnivore, canine and dog, with 8, 8, 8, 6 and 6 classes, dog is the
        // shortest; feline has two and lies in none that is left.
        assert_eq!(named, [("motor vehicle", None), ("feline", None), ("dog", None)]);
        let own: Vec<Option<&str>> = got.of_class.iter().map(|c| c.map(|c| got.all[c].name.as_str())).collect();
        let expected = [[Some("dog"); 6].as_slice(), &[Some("feline"); 2], &[Some("motor vehicle"); 2], &[None; 5]].concat();
        assert_eq!(own, expected);
        assert_eq!(got.depth(), 1);
        let names: Vec<String> = (0..15).map(|i| i.to_string()).collect();
        assert!(tagpin::category::Categories::read(&got.section(), &names).is_ok());
    }

    #[test]
    fn categories_of_one_name_are_told_apart_and_no_more_than_six_lie_in_one_another() {
        // Pairs of classes below two cranes; then a chain that halves with each noun.
        let mut nouns =
            vec![(1, "entity", None), (2, "crane,bird", Some(1)), (3, "crane,machine", Some(1)), (4, "crane", Some(1))];
        for (i, up) in [2, 2, 3, 3, 4, 4].into_iter().enumerate() {
            nouns.push((100 + i as u32, "leaf", Some(up)));
        }
        let got = made(&nouns, &(100..106).collect::<Vec<_>>()).unwrap();
        let names: Vec<&str> = got.all.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["crane (bird)", "crane (machine)", "crane (n00000004)"]);

        let words: Vec<String> = (0..9).map(|i| format!("level{i}")).collect();
        let mut nouns = vec![(1, "entity", None)];
        let mut ids = Vec::new();
        for (i, word) in words.iter().enumerate() {
            let at = 10 + i as u32;
            nouns.push((at, word.as_str(), Some(if i == 0 { 1 } else { at - 1 })));
            for k in 0..1 << (9 - i) {
                let id = 1000 * (i as u32 + 1) + k;
                nouns.push((id, "leaf", Some(at)));
                ids.push(id);
            }
        }
        for k in 0..1100 {
            nouns.push((100_000 + k, "other", Some(1)));
        }
        let others: Vec<u32> = (0..1100).map(|k| 100_000 + k).collect();
        let got = made(&nouns, &[ids.clone(), others].concat()).unwrap();
        assert_eq!((got.all.len(), got.depth()), (6, 6));
        assert_eq!(got.of_class[ids.len() - 1], Some(5), "what lay deeper belongs to the sixth");
    }

    #[test]
    fn a_hierarchy_that_cannot_be_is_refused_and_the_same_without_the_fault_is_not() {
        let good = with_more();
        assert!(made(&good, &IDS).is_ok());
        type Edit<'e> = &'e dyn Fn(&mut Vec<(u32, &'static str, Option<u32>)>);
        let spoiled = |edit: Edit<'_>| {
            let mut nouns = good.clone();
            edit(&mut nouns);
            made(&nouns, &IDS).unwrap_err()
        };
        let refused = spoiled(&|n| n[1].2 = Some(6));
        assert!(refused.contains("the hypernyms of n00000020 (\"class 20\") go round in a circle at n"), "{refused}");
        let refused = spoiled(&|n| n[9].2 = Some(20));
        assert!(refused.contains("n00000020 (\"class 20\") go round in a circle"), "{refused}");
        let refused = spoiled(&|n| n.retain(|noun| noun.0 != 6));
        assert!(refused.contains("noun n00000006, above n00000020, is missing"), "{refused}");
        let refused = spoiled(&|n| n.retain(|noun| noun.0 != 26));
        assert!(refused.contains("there is no noun n00000026 (\"class 26\"); ids are those of WordNet 3.0"), "{refused}");
        let refused = spoiled(&|n| n[4].0 = 4);
        assert!(refused.contains("line 6: noun 00000004 stands twice"), "{refused}");
        let long: Vec<(u32, &str, Option<u32>)> = (0..70).map(|i| (i, "n", Some(i + 1))).chain([(70, "n", None)]).collect();
        assert!(made(&long, &[0]).unwrap_err().contains("circle"));
        assert!(made(&long, &[10]).is_ok(), "60 above one another are read");
    }

    #[test]
    fn text_that_is_no_file_of_nouns_is_refused_by_its_line() {
        let good = file(&NOUNS);
        assert!(nouns(&good).is_ok());
        for (from, to) in [
            ("00000002 05 n", "2 05 n"),
            ("00000002 05 n", "00000002 05 v"),
            ("00000002 05 n 02", "00000002 05 n 0g"),
            ("00000002 05 n 02", "00000002 05 n ff"),
            ("beast 0 002", "beast 0 200"),
            ("beast", "b\u{1b}east"),
        ] {
            let spoiled = good.replacen(from, to, 1);
            assert_ne!(spoiled, good, "{from}");
            let refused = format!("{:#}", nouns(&spoiled).unwrap_err());
            assert!(refused.contains("line 3: it is no line of WordNet's data.noun"), "{to}: {refused}");
        }
        assert!(format!("{:#}", nouns("  a licence\n").unwrap_err()).contains("it has no nouns"));
    }
}
