//! What is foreign to a model, as users of the tools see it: fitted with the run, packed, measured by the runtime.

mod support;

use std::path::Path;
use support::{folder, json, refused, run};
use tagpin::bundle::{Bundle, Section};
use tagpin::engine::Engine;
use tagpin::preprocess::quantise;

/// Whether a bundle takes each of these images, `[side, side, 3]`, for foreign.
fn foreign(bundle: &Path, images: &[Vec<u8>]) -> Vec<bool> {
    let bytes = std::fs::read(bundle).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    let limit = bundle.spread.as_ref().expect("the bundle has a distance").limit();
    let mut engine = Engine::from_bundle(&bundle).unwrap();
    let (mut input, mut logits) = (vec![0; engine.spec().input.iter().product()], vec![0; engine.spec().logits]);
    let one = |rgb: &Vec<u8>| {
        quantise(rgb, bundle.contract.input.tables.int8, &mut input);
        engine.infer(&input, &mut logits).unwrap();
        engine.distance().unwrap() > limit
    };
    images.iter().map(one).collect()
}

/// Noise of two seeds and a chequered board.
fn nothing(side: usize) -> Vec<Vec<u8>> {
    let mut r = tagpin::random::Random::new(7, 7);
    let mut noise = || (0..side * side * 3).map(|_| r.range(0, 255) as u8).collect();
    let board = (0..side * side).flat_map(|i| [if (i / side + i % side).is_multiple_of(2) { 255 } else { 0 }; 3]).collect();
    vec![noise(), noise(), board]
}

#[test]
fn a_run_learns_what_is_foreign_and_its_bundle_says_so() {
    let at = folder("distance-run");
    run(&["synth", "--out", "parts", "--per-tag", "20", "--seed", "1"], &at);
    let train =
        ["train", "--small", "--data", "parts", "--out", "r", "--epochs", "1", "--batch", "16", "--domain", "conveyor"];
    let text = run(&train, &at);
    assert!(text.contains("## Foreign images") && text.contains("not foreign: test"), "{text}");
    let figures = json(at.join("r/distance.json"));
    let n = figures["left_out"].as_u64().unwrap();
    let stated = figures["false_reject"].as_f64().unwrap();
    assert!((stated - 1.0 / (n + 1) as f64).abs() < 1e-9, "{n} images left out allow no less: {stated}");
    let names: Vec<&str> = figures["foreign"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.starts_with(&["blank", "noise", "test pattern"]) && names.contains(&"gear, left out"), "{names:?}");
    assert!(std::fs::read_to_string(at.join("r/report.html")).unwrap().contains("Foreign images"));

    run(&["pack", "r", "--out", "p.tagpin"], &at);
    assert!(std::fs::read_to_string(at.join("p.md")).unwrap().contains("## Foreign images"));
    assert_eq!(foreign(&at.join("p.tagpin"), &nothing(96)), [true; 3]);

    // The same fit on the bundle itself gives the same section.
    let again = ["distance", "p.tagpin", "--split", "r/split.json", "--changes", "conveyor", "--out", "q.tagpin"];
    run(&again, &at);
    let section = |name: &str| {
        let bytes = std::fs::read(at.join(name)).unwrap();
        Bundle::read(&bytes).unwrap().section(Section::Distance).unwrap().to_vec()
    };
    assert_eq!(section("p.tagpin"), section("q.tagpin"));
    assert_eq!(std::fs::read(at.join("p.tagpin")).unwrap(), std::fs::read(at.join("q.tagpin")).unwrap());

    // What so few images cannot promise is refused with the number that can.
    let text = refused(&["distance", "r", "--false-reject", "0.001"], &at);
    assert!(text.contains(&format!("{n} images are left out")) && text.contains("0.001 needs 999"), "{text}");
    // A fit belongs to one int8 network.
    run(&["quantise", "r", "--calibrator", "percentile", "--calibration", "9"], &at);
    run(&["evaluate", "r"], &at);
    run(&["parity", "r"], &at);
    let text = refused(&["pack", "r", "--out", "s.tagpin"], &at);
    assert!(text.contains("fitted by another int8 network") && text.contains("distance r"), "{text}");
    let text = refused(&["distance", "p.tagpin", "--out", "t.tagpin"], &at);
    assert!(text.contains("--split"), "{text}");
}

#[test]
fn good_parts_alone_make_a_bundle_and_bad_ones_only_figures() {
    let at = folder("good-only");
    run(&["synth", "--out", "parts", "--per-tag", "24", "--seed", "5"], &at);
    run(&["train", "--small", "--only", "--data", "parts", "--out", "b", "--epochs", "1", "--batch", "16"], &at);
    let backbone = ["--backbone", "b/float.onnx", "--fit", "crop", "--domain", "conveyor"];
    let train = |out: &str, more: &[&str]| {
        let base = ["train", "--good-only", "--data", "parts/gear", "--out", out];
        run(&[base.as_slice(), &backbone, more].concat(), &at)
    };
    let text = train("g", &[]);
    assert!(text.contains("recall: unknown without images of bad parts"), "{text}");
    assert!(text.contains("drift: ") && text.contains("false rejects of good images left out"), "{text}");
    let bundle = at.join("g/good.tagpin");
    assert_eq!(foreign(&bundle, &nothing(96)), [true; 3]);
    let bytes = std::fs::read(&bundle).unwrap();
    let read = Bundle::read(&bytes).unwrap();
    assert_eq!(read.contract.tags.iter().map(|t| t.name).collect::<Vec<_>>(), ["good"]);
    let figures = json(at.join("g/good.json"));
    let (beyond, images) =
        (figures["false_rejects"]["beyond"].as_u64().unwrap(), figures["false_rejects"]["images"].as_u64().unwrap());
    assert!(images == 24 && beyond <= 4, "{figures}");
    assert_eq!(figures["order"].as_array().unwrap().len(), 24);
    let page = std::fs::read_to_string(at.join("g/report.html")).unwrap();
    assert!(
        page.contains("Least typical")
            && page.matches("data:image/jpeg").count() == 24
            && page.contains("Recall is unknown"),
        "{page:.400}"
    );

    // Bad images are never fitted on: the bundle is the same to the last bit.
    let text = train("h", &["--bad", "parts/washer"]);
    assert!(text.contains("recall of bad images") && text.contains("AUROC") && !text.contains("flatters"), "{text}");
    assert_eq!(std::fs::read(at.join("h/good.tagpin")).unwrap(), bytes);
    // Unless that is asked for, which is said.
    let text = train("i", &["--bad", "parts/washer", "--tune-on-bad"]);
    assert!(text.contains("the figures flatter it"), "{text}");
    assert_ne!(std::fs::read(at.join("i/good.tagpin")).unwrap(), bytes);

    let none = ["train", "--good-only", "--data", "parts/gear", "--out", "j", "--tune-on-bad"];
    assert!(refused(&[none.as_slice(), &backbone].concat(), &at).contains("--bad"));
    for i in 0..5 {
        std::fs::remove_file(at.join(format!("parts/nut/{i:05}.png"))).unwrap();
    }
    let few = ["train", "--good-only", "--data", "parts/nut", "--out", "k"];
    let text = refused(&[few.as_slice(), &backbone].concat(), &at);
    assert!(text.contains("19 images of good parts, at least 20 are needed"), "{text}");
    assert!(!at.join("k").exists());
}
