//! A general model from made downloads: a small network, made names, a made hierarchy.

mod support;

use std::path::{Path, PathBuf};
use support::{folder, refused, run};
use tagpin::bundle::Bundle;

/// Eight made classes and a hierarchy of their nouns: metal > ring > (washers), metal > wheel >
/// (gears), and four that are alone.
const NAMES: [&str; 8] = ["bolt", "angle, bracket", "nothing", "gear", "chipped gear", "nut", "washer", "cracked washer"];

fn csv() -> String {
    let rows = NAMES.iter().enumerate().map(|(i, name)| format!("{i},n{:08},\"{name}\"\n", 100 + i));
    "index,id,name\n".to_string() + &rows.collect::<String>()
}

fn wordnet() -> String {
    let noun = |at: u32, word: &str, up: u32| format!("{at:08} 06 n 01 {word} 0 001 @ {up:08} n 0000 | made\n");
    let mut text = "  1 made, not WordNet's\n00000001 03 n 01 entity 0 000 | made\n".to_string();
    text += &[noun(2, "wheel", 1), noun(3, "ring", 1)].concat();
    for (i, up) in [1, 1, 1, 2, 2, 1, 3, 3].into_iter().enumerate() {
        text += &noun(100 + i as u32, "leaf", up);
    }
    text
}

/// A folder with `net.onnx`, a float classifier of eight tags, `names.csv` and `data.noun`.
fn downloads(name: &str) -> PathBuf {
    let at = folder(name);
    run(&["synth", "--out", "parts", "--per-tag", "12", "--seed", "1"], &at);
    run(
        &["train", "--small", "--data", "parts", "--out", "r", "--epochs", "1", "--batch", "16", "--domain", "conveyor"],
        &at,
    );
    std::fs::copy(at.join("r/float.onnx"), at.join("net.onnx")).unwrap();
    std::fs::write(at.join("names.csv"), csv()).unwrap();
    std::fs::write(at.join("data.noun"), wordnet()).unwrap();
    at
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn a_bundle_has_the_names_and_categories_of_its_downloads_and_bad_ones_are_refused_in_words() {
    let at = downloads("general");
    let args = ["general", "--wheel", "net.onnx", "--names", "names.csv", "--wordnet", "data.noun", "--out", "g.tagpin"];
    let photographs = ["--calibrate", "parts", "--judge", "parts/gear"];
    let text = run(&[args.as_slice(), &photographs].concat(), &at);
    assert!(text.contains("int8 by 96 photographs") && text.contains("categories: 2 in 1 levels, of 4 of 8 tags"), "{text}");
    assert!(text.contains("on other photographs: the same best tag on ") && text.contains(" % of 12 images"), "{text}");
    let bytes = std::fs::read(at.join("g.tagpin")).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    assert!(bundle.contract.tags.iter().map(|t| t.name).eq(NAMES));
    let categories = bundle.categories.unwrap();
    let leaves = |name: &str| categories.leaves(categories.find(name).unwrap()).iter().map(|t| t.0).collect::<Vec<_>>();
    assert_eq!((leaves("wheel"), leaves("ring")), (vec![3, 4], vec![6, 7]));
    let card = std::fs::read_to_string(at.join("g.md")).unwrap();
    for part in [
        "| licences |",
        "Apache License 2.0",
        "WordNet licence",
        "net.onnx, SHA-256",
        "data.noun, SHA-256",
        "int8 against float",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }

    // The same without a hierarchy and without photographs; the bundle is not overwritten.
    let without = ["general", "--wheel", "net.onnx", "--names", "names.csv", "--out", "h.tagpin"];
    let text = run(&without, &at);
    assert!(text.contains("int8 by 256 drawn images") && text.contains("it has no categories"), "{text}");
    assert!(Bundle::read(&std::fs::read(at.join("h.tagpin")).unwrap()).unwrap().categories.is_none());
    assert!(refused(&without, &at).contains("h.tagpin exists"));

    let with = |key: &str, file: &str| {
        let mut args: Vec<&str> = args.to_vec();
        let key = args.iter().position(|a| *a == key).unwrap();
        args[key + 1] = file;
        *args.last_mut().unwrap() = "bad.tagpin";
        refused(&args, &at)
    };
    let file = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    fifo(&at.join("pipe"));
    fifo(&at.join("pipe.whl"));
    for (key, name) in
        [("--names", "pipe"), ("--names", "pipe.whl"), ("--wordnet", "pipe"), ("--wheel", "pipe.whl"), ("--wheel", "pipe")]
    {
        let said = with(key, name);
        assert!(said.contains(name) && said.contains("is a pipe, device or folder"), "{key} {name}: {said}");
    }
    file("seven.csv", &csv().replace("7,n00000107,\"cracked washer\"\n", ""));
    assert!(with("--names", "seven.csv").contains("it names 7 classes, the network has 8"));
    file("nine.csv", &(csv() + "8,n00000108,ninth\n"));
    assert!(with("--names", "nine.csv").contains("it names 9 classes, the network has 8"));
    file("twice.csv", &csv().replace("\"nut\"", "\"bolt\""));
    assert!(with("--names", "twice.csv").contains("classes 0 and 5 are both called \"bolt\""));
    file("missing.noun", &wordnet().replace("00000105", "00000999"));
    assert!(with("--wordnet", "missing.noun").contains("there is no noun n00000105 (\"nut\")"));
    file(
        "circle.noun",
        &wordnet()
            .replace("01 wheel 0 001 @ 00000001", "01 wheel 0 001 @ 00000003")
            .replace("01 ring 0 001 @ 00000001", "01 ring 0 001 @ 00000002"),
    );
    assert!(with("--wordnet", "circle.noun").contains("go round in a circle"));
    file("no.whl", "this is no zip archive");
    assert!(with("--wheel", "no.whl").contains("it is not a wheel (a zip archive)"));
    assert!(with("--names", "no.whl").contains("it is not a wheel (a zip archive)"));
    assert!(with("--wheel", "nowhere.whl").contains("nowhere.whl"));
    let few = ["--calibrate", "few"];
    std::fs::create_dir(at.join("few")).unwrap();
    let first = std::fs::read_dir(at.join("parts/gear")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(first, at.join("few/a.png")).unwrap();
    std::fs::write(at.join("few/b.png"), "broken").unwrap();
    let said = refused(&[without.as_slice(), &few, &["--force"]].concat(), &at);
    assert!(said.contains("left out few/b.png") && said.contains("1 images, at least 16 are needed"), "{said}");
    assert!(!at.join("bad.tagpin").exists());
    // The control: what was refused beside one spoiled file works with none.
    let mut args = args.to_vec();
    args.push("--force");
    run(&args, &at);
}
