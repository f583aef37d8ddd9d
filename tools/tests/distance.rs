//! What is foreign to a model, as users of the tools see it: fitted with the run, packed, measured
//! by the runtime.

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
    let text = run(&["quantise", "r", "--calibrator", "percentile", "--calibration", "9"], &at);
    assert!(text.contains("its distance is of the int8 network before; run `distance r`"), "{text}");
    let text = refused(&["evaluate", "r"], &at);
    assert!(text.contains("fitted by another int8 network") && text.contains("distance r"), "{text}");
    run(&["distance", "r", "--changes", "conveyor"], &at);
    run(&["evaluate", "r"], &at);
    run(&["parity", "r"], &at);
    run(&["pack", "r", "--out", "s.tagpin"], &at);
    // Another limit is another decision: figures of the one before are refused.
    run(&["distance", "r", "--changes", "conveyor", "--false-reject", "0.3"], &at);
    let text = refused(&["pack", "r", "--out", "u.tagpin"], &at);
    assert!(text.contains("another distance") && text.contains("run `evaluate r` again"), "{text}");
    let text = refused(&["distance", "p.tagpin", "--out", "t.tagpin"], &at);
    assert!(text.contains("--split"), "{text}");
}

/// The device's verdict on an image file and its action, as `tagpin classify` finds them.
fn device(bundle: &Path) -> impl FnMut(&Path) -> (String, String) + use<> {
    use tagpin::classify::ImageClassifier;
    use tagpin::pictures::{Budget, Picture};
    use tagpin::settings::{ModelTags, Settings};
    let bytes = std::fs::read(bundle).unwrap();
    let bundle = Bundle::read(&bytes).unwrap();
    let tags = &bundle.contract.tags;
    let (names, rules): (Vec<_>, Vec<_>) = tags.iter().map(|t| (t.name, t.rule)).unzip();
    let roles: Vec<_> = tags.iter().map(|t| t.role).collect();
    let settings = Settings::plain(ModelTags { names: &names, rules: &rules, roles: &roles, categories: None });
    let mut classifier = ImageClassifier::new(&bundle, Engine::from_bundle(&bundle).unwrap(), &settings).unwrap();
    move |file| {
        let decision = classifier.classify(&Picture::open(file, Budget::HOST).unwrap()).unwrap().decision;
        (decision.verdict.name().into(), decision.action.map_or("", |a| a.name()).into())
    }
}

/// The device called frames of noise foreign, and the tools' figures called them good parts that
/// pass: they left the distance out.
#[test]
fn the_tools_decide_every_image_as_the_device_does_the_foreign_ones_too() {
    let at = folder("distance-decides");
    let seed = std::env::var("TAGPIN_TEST_SEED").unwrap_or_else(|_| "11".into());
    run(&["synth", "--out", "parts", "--per-tag", "24", "--seed", &seed], &at);
    let train =
        ["train", "--small", "--data", "parts", "--out", "r", "--epochs", "1", "--batch", "16", "--domain", "conveyor"];
    run(&[train.as_slice(), &["--defect", "gear_chipped", "--defect", "washer_cracked", "--good", "gear"]].concat(), &at);
    // Nothing to see, and parts as they never were trained on, in a folder of each tag.
    run(&["synth", "--out", "odd", "--per-tag", "3", "--seed", &seed, "--beyond"], &at);
    let tags: Vec<String> = std::fs::read_dir(at.join("odd"))
        .unwrap()
        .map(|d| d.unwrap())
        .filter(|d| d.path().is_dir())
        .map(|d| d.file_name().into_string().unwrap())
        .collect();
    let mut frames = nothing(96);
    frames.extend([0, 128, 255].map(|shade| vec![shade; 96 * 96 * 3]));
    for (frame, tag) in frames.iter().zip(tags.iter().cycle()) {
        let file = at.join("odd").join(tag).join(format!("frame{:02x}{:02x}.png", frame[0], frame[1]));
        image::save_buffer(file, frame, 96, 96, image::ColorType::Rgb8).unwrap();
    }
    // Scores low enough that a tag holds: then only the distance can tell the tools' decisions from
    // the device's.
    let low: Vec<String> = tags.iter().flat_map(|t| ["--threshold".into(), format!("{t}=0.1")]).collect();
    run(&[&["tune", "r"], low.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat(), &at);
    run(&["evaluate", "r", "--shifted", "0", "--also", "odd=odd"], &at);
    run(&["parity", "r"], &at);
    run(&["pack", "r", "--out", "r.tagpin"], &at);
    let mut device = device(&at.join("r.tagpin"));
    let table = std::fs::read_to_string(at.join("r/scores.csv")).unwrap();
    let mut seen: std::collections::BTreeMap<String, usize> = Default::default();
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let root = if cells[1] == "odd" { "odd" } else { "parts" };
        let (verdict, action) = device(&at.join(root).join(cells[0]));
        assert_eq!([cells[4], cells[5]], [verdict.as_str(), action.as_str()], "{line}");
        *seen.entry(format!("{} {verdict}", cells[1])).or_default() += 1;
    }
    let of = |what: &str| seen.get(what).copied().unwrap_or_default();
    assert!(of("odd foreign") > 0 && of("validation present") > 0 && of("test present") > 0, "{seen:?}");
    // The frames of nothing that the verdict counts are decided the same way.
    let figures = json(at.join("r/evaluation.json"));
    for (name, shade) in [("black", 0u8), ("white", 255), ("grey", 128)] {
        let file = at.join(format!("{name}.png"));
        image::save_buffer(&file, &vec![shade; 96 * 96 * 3], 96, 96, image::ColorType::Rgb8).unwrap();
        let passes = device(&file) == ("present".into(), "accept".into());
        let stated = figures["invalid"].as_array().unwrap().iter().find(|i| i["name"] == name).unwrap();
        assert_eq!(stated["passes"], usize::from(passes), "{stated}");
        let report = std::fs::read_to_string(at.join("r/report.html")).unwrap();
        assert!(report.contains("foreign, of"), "the report counts them too");
    }
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

    // The good images given as bad ones too would be figures of nothing.
    std::fs::create_dir(at.join("mixed")).unwrap();
    for (from, to) in [("washer/00000.png", "a.png"), ("gear/00003.png", "b.png")] {
        std::fs::copy(at.join("parts").join(from), at.join("mixed").join(to)).unwrap();
    }
    let base = ["train", "--good-only", "--data", "parts/gear", "--out", "l"];
    let text = refused(&[base.as_slice(), &backbone, &["--bad", "mixed"]].concat(), &at);
    assert!(text.contains("1 of its 2 images") && text.contains("b.png") && text.contains("gear/00003.png"), "{text}");
    let text = refused(&[base.as_slice(), &backbone, &["--defect", "gear"]].concat(), &at);
    assert!(text.contains("leave out --defect") && text.contains("--bad DIR"), "{text}");
    assert!(!at.join("l").exists());

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
