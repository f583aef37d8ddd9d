//! Categories of a bundle as users meet them: in `classify`, `inspect`, settings and on the lines.

use crate::program::*;
use serde_json::Value;
use std::path::Path;
use tagpin::bundle::{Bundle, Section, write};
use tagpin::category::section;
use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};

/// The parts model with made categories: hardware > threaded > (bolt, nut), hardware > washers >
/// (washer, washer_cracked), gears > (gear, gear_chipped); bracket is hardware, empty is of none.
fn with_categories(folder: &Path) -> String {
    let bytes = std::fs::read(PARTS).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    let names = ["bolt", "bracket", "empty", "gear", "gear_chipped", "nut", "washer", "washer_cracked"];
    assert!(bundle.contract.tags.iter().map(|t| t.name).eq(names));
    let long = "washers, which are flat rings of steel that lie under a nut or under a bolt's head";
    let categories = [("hardware", None), ("threaded", Some(0)), (long, Some(0)), ("gears", None)];
    let tags = [Some(1), Some(0), None, Some(3), Some(3), Some(1), Some(2), Some(2)];
    let section = section(&categories, &tags);
    let distance = bundle.section(Section::Distance).unwrap();
    let made =
        write(&bundle.contract, bundle.graph, &[(Section::Distance, distance), (Section::Categories, &section)]).unwrap();
    let path = folder.join("kinds.tagpin");
    std::fs::write(&path, made).unwrap();
    path.display().to_string()
}

fn draw(path: &Path, kind: Kind, index: u64) {
    let mut rgb = vec![0; WIDTH * HEIGHT * 3];
    render(&Shot::draw(kind, &Conditions::TRAINING, 4, index), 0, &mut rgb);
    tagpin::pictures::Picture::write_png(path, WIDTH as u32, HEIGHT as u32, &rgb).unwrap();
}

fn printed(args: &[&str]) -> String {
    let out = finish(tagpin(args));
    assert!(out.status.success(), "{args:?}: {}", stderr(&out));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn classify_shows_a_tree_of_what_was_seen_and_exact_sums_as_json() {
    let folder = folder("category-classify");
    let bundle = with_categories(&folder);
    for (i, kind) in Kind::ALL.into_iter().enumerate() {
        draw(&folder.join(format!("{i}-{}.png", kind.name())), kind, i as u64);
    }
    let images = folder.display().to_string();
    let text = printed(&["classify", &bundle, &images, "--json", "--top", "8"]);
    let mut seen = 0;
    for line in text.lines() {
        let v: Value = serde_json::from_str(line).unwrap();
        let raw = |tag: &str| {
            v["tags"].as_array().unwrap().iter().find(|t| t["tag"] == tag).unwrap()["score_raw"].as_u64().unwrap()
        };
        for category in v["categories"].as_array().unwrap() {
            let path: Vec<&str> = category["path"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
            let sum: u64 = match path[..] {
                ["hardware"] => ["bolt", "bracket", "nut", "washer", "washer_cracked"].map(raw).iter().sum(),
                ["hardware", "threaded"] => raw("bolt") + raw("nut"),
                ["hardware", washers] if washers.starts_with("washers, ") => raw("washer") + raw("washer_cracked"),
                ["gears"] => raw("gear") + raw("gear_chipped"),
                _ => panic!("{path:?}"),
            };
            assert_eq!(category["score_raw"].as_u64(), Some(sum.min(65535)), "{line}");
            assert_eq!(category["category"], *path.last().unwrap());
            seen += 1;
        }
    }
    assert!(seen >= Kind::ALL.len(), "{seen}");

    let text = printed(&["classify", &bundle, &images, "--tree"]);
    let lines: Vec<&str> = text.lines().collect();
    let bolt = lines.iter().position(|l| l.contains("-bolt.png")).unwrap();
    let tree: Vec<&str> =
        lines[bolt + 1..bolt + 4].iter().map(|l| l.trim_start_matches(|c: char| " .0123456789".contains(c))).collect();
    assert_eq!(tree, ["hardware", "threaded", "bolt"], "{text}");
    let indent = |at: usize| lines[at].chars().skip(7).take_while(|c| *c == ' ').count();
    assert_eq!([indent(bolt + 1), indent(bolt + 2), indent(bolt + 3)], [1, 3, 5], "{text}");
    let cut: Vec<&&str> = lines.iter().filter(|l| l.contains("washers, which")).collect();
    assert!(!cut.is_empty() && cut.iter().all(|l| l.chars().count() == 80 && l.ends_with("...")), "{text}");
    // What is of no category stands alone; nothing below 0.05 is shown.
    let empty = lines.iter().position(|l| l.contains("-empty.png")).unwrap();
    assert!(lines[empty + 1].ends_with(" empty") && indent(empty + 1) == 1, "{text}");
    let scores = lines.iter().filter(|l| l.starts_with("  ")).map(|l| l[2..7].parse::<f32>().unwrap());
    assert!(scores.clone().all(|s| s >= 0.05) && scores.count() > 12, "{text}");

    // A bundle without categories has no tree, and its JSON is as it was.
    let out = finish(tagpin(&["classify", PARTS, &images, "--tree"]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("it has no categories"), "{}", stderr(&out));
    assert!(!printed(&["classify", PARTS, &images, "--json"]).contains("categories"));
}

#[test]
fn inspect_lists_categories_with_their_tags() {
    let bundle = with_categories(&folder("category-inspect"));
    let v: Value = serde_json::from_str(&printed(&["inspect", &bundle, "--json"])).unwrap();
    let of = |i: usize| {
        (v["categories"][i]["name"].clone(), v["categories"][i]["parent"].clone(), v["categories"][i]["tags"].clone())
    };
    assert_eq!(of(0), ("hardware".into(), Value::Null, 5.into()));
    assert_eq!(of(1), ("threaded".into(), "hardware".into(), 2.into()));
    let text = printed(&["inspect", &bundle]);
    let rows = ["hardware                                        5", "  threaded                                      2"];
    assert!(rows.iter().all(|row| text.lines().any(|l| l == *row)), "{text}");
    assert!(text.lines().any(|l| l.starts_with("8 (categories)") && l.ends_with("no")), "{text}");
    let v: Value = serde_json::from_str(&printed(&["inspect", PARTS, "--json"])).unwrap();
    assert_eq!(v["categories"], Value::Array(Vec::new()));
}

/// Gears are thrown out by their category, the lamp shows what is threaded; a tag keeps its name.
#[test]
fn a_line_goes_by_the_categories_that_its_settings_name() {
    let folder = folder("category-line");
    let bundle = with_categories(&folder);
    let images = folder.join("images");
    std::fs::create_dir(&images).unwrap();
    for (i, kind) in Kind::ALL.into_iter().enumerate() {
        draw(&images.join(format!("{i}-{}.png", kind.name())), kind, i as u64);
    }
    draw(&images.join("9-bolt.png"), Kind::Bolt, 9);
    let text = "\
[source]
open = \"dir:images\"
[decide]
reject = [\"category:gears\"]
pick = [\"category:hardware\"]
[tags]
default = { threshold = 1.0 }
bolt = { threshold = 0.5 }
[outputs.lamp]
on = [\"category:threaded\"]
[outputs.out]
on = [\"reject\"]
";
    std::fs::write(folder.join("device.toml"), text).unwrap();
    let run = |bundle: &str| {
        let mut command = tagpin(&["run", "--bundle", bundle, "--settings", "device.toml", "--json", "--record", "kept"]);
        command.current_dir(&folder);
        finish(command)
    };
    let out = run(&bundle);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let events = events(&out);
    let start: Vec<&str> =
        of(&events, "start")[0]["tags"].as_array().unwrap().iter().map(|t| t["tag"].as_str().unwrap()).collect();
    assert_eq!(start[8..], ["category:gears", "category:hardware", "category:threaded"]);
    let mut lit = Vec::new();
    for part in of(&events, "part") {
        let file = part["images"][0]["file"].as_str().unwrap();
        let kind = file.split(['-', '.']).nth(1).unwrap();
        let (tag, action) = match kind {
            "gear" => (Some("category:gears"), "reject"),
            // A defect that is sure is named before its category.
            "gear_chipped" | "washer_cracked" => (part["tag"].as_str(), "reject"),
            // The list says that hardware names a part before bolt does.
            "bolt" | "nut" | "washer" | "bracket" => (Some("category:hardware"), "accept"),
            // Of no category, and no tag's score is 1 but by chance.
            _ => (part["tag"].as_str(), part["action"].as_str().unwrap()),
        };
        if kind != "washer_cracked" {
            assert_eq!((part["tag"].as_str(), part["action"].as_str()), (tag, Some(action)), "{part}");
        }
        if matches!(kind, "bolt" | "nut") {
            lit.push(part["part"].clone());
        }
    }
    let edges: Vec<(&Value, bool)> = of(&events, "edge")
        .into_iter()
        .filter(|e| e["output"] == "lamp" && e["part"] != 0)
        .map(|e| (&e["part"], e["state"] == "active"))
        .collect();
    // Images come as fast as they are classified, so the lamp may pass parts over: it stays on from
    // one threaded part to the next then. It ends with the state of the last part, which is one.
    assert_eq!((edges.last().map(|(_, on)| *on), lit.len()), (Some(true), 3), "{edges:?}, {lit:?}");
    assert!(edges.iter().all(|(part, on)| *on == lit.contains(part)), "{edges:?}, {lit:?}");
    // The same settings on the model without categories, and on a name that is none.
    let out = run(PARTS);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("the model has no categories, so none is called \"gears\""), "{}", stderr(&out));
    std::fs::write(folder.join("device.toml"), text.replace("category:gears", "category:gear")).unwrap();
    let out = run(&bundle);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("the model has no category \"gear\"; it has \"hardware\""), "{}", stderr(&out));
    // A simulated part has no scores of categories.
    std::fs::write(folder.join("device.toml"), text).unwrap();
    let mut command = tagpin(&["simulate", "--bundle", &bundle, "--settings", "device.toml"]);
    command.current_dir(&folder);
    let out = finish(command);
    assert!(!out.status.success() && stderr(&out).contains("the settings name \"category:gears\""), "{}", stderr(&out));
}
