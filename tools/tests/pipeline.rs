//! The tools as their users run them: from images to a proven bundle, on tiny sets.

mod support;

use std::path::Path;
use std::process::Command;
use support::{folder, json, not_shipped, refused, run, tools};

fn bundle_tags(path: &Path) -> Vec<(String, f32)> {
    let bytes = std::fs::read(path).unwrap();
    let bundle = tagpin::bundle::Bundle::read(&bytes).unwrap();
    tagpin::engine::Engine::from_bundle(&bundle).unwrap();
    bundle.contract.tags.iter().map(|t| (t.name.to_string(), t.rule.threshold.probability())).collect()
}

/// Roles of a bundle's tags: good ones and defects, by name.
fn bundle_roles(path: &Path) -> [Vec<String>; 2] {
    use tagpin::decide::Role;
    let bytes = std::fs::read(path).unwrap();
    let bundle = tagpin::bundle::Bundle::read(&bytes).unwrap();
    let of = |role| bundle.contract.tags.iter().filter(|t| t.role == role).map(|t| t.name.to_string()).collect();
    [Role::Good, Role::Defect].map(of)
}

/// The small network, trained for an epoch, serves as somebody's backbone: no real one may be in
/// the repository.
fn backbone(at: &Path) {
    run(&["synth", "--out", "others", "--per-tag", "6", "--seed", "9"], at);
    run(&["train", "--small", "--only", "--data", "others", "--out", "others-run", "--epochs", "1", "--batch", "16"], at);
}

#[test]
fn int8_learns_to_say_what_float_says() {
    let at = folder("aware");
    backbone(&at);
    let from = ["--aware", "always", "--from", "block8_depthwise", "--choice", "8"];
    let text = run(&[["quantise", "others-run"].as_slice(), &from].concat(), &at);
    assert!(text.contains("fine-tuned in int8"), "{text}");
    let tried = json(at.join("others-run/quantisation.json"))["tried"].as_array().unwrap().clone();
    assert_eq!(tried.iter().filter(|c| c["aware"] == true).count(), 1, "{tried:?}");
    let least = tried.iter().map(|c| c["mean_dp"].as_f64().unwrap()).fold(1.0, f64::min);
    assert_eq!(tried.last().unwrap()["mean_dp"], least, "the taken one is the nearest to float: {tried:?}");
    let text = refused(&["quantise", "others-run", "--aware", "always", "--from", "nothing"], &at);
    assert!(text.contains("--from") && text.contains("block8_depthwise"), "{text}");
}

#[test]
fn a_quick_run_goes_from_images_to_a_published_bundle() {
    let at = folder("quick");
    backbone(&at);
    run(&["synth", "--out", "images", "--per-tag", "14", "--seed", "1"], &at);
    std::fs::write(
        at.join("about.toml"),
        "target = \"kind of part\"\nunit = \"part\"\ndecision_owner = \"line lead\"\nconsumer = \"reject gate\"\ndeadline_ms = 120\n\
         defects = [\"gear_chipped\"]\ngood = [\"gear\", \"nut\"]\n",
    )
    .unwrap();
    let text = run(&["dataset", "split", "images", "--about", "about.toml", "--seed", "3"], &at);
    assert!(text.contains("reject gate") && text.contains("120 ms") && text.contains("validation"), "{text}");
    assert!(text.contains("defect: gear_chipped; good: gear, nut"), "{text}");

    let train = |out: &'static str| {
        let how = ["train", "--quick", "--split", "split.json", "--backbone", "others-run/float.onnx", "--leaky-demo"];
        [how.as_slice(), &["--defect", "washer_cracked", "--good", "bolt", "--out", out]].concat()
    };
    let text = run(&train("runs/one"), &at);
    for part in [
        "honest",
        "penalty",
        "mean |dp|",
        "macro-F1",
        "slices",
        "rotation 45",
        "ONNX Runtime",
        "int8 does no harm",
        "report.html",
    ] {
        assert!(text.contains(part), "no \"{part}\" in {text}");
    }
    // The same command gives the same model, features being known the second time.
    let again = run(&train("runs/two"), &at);
    assert!(again.contains("features known already"), "{again}");
    let model = |name: &str| std::fs::read(at.join("runs").join(name).join("int8.onnx")).unwrap();
    assert_eq!(model("one"), model("two"));

    // What is known says what the network would say.
    let figures = || json(at.join("runs/two/evaluation.json"))["sets"].clone();
    let difference = || json(at.join("runs/two/parity.json"))["mean_dp"].as_f64().unwrap();
    let (by_features, dp) = (figures(), difference());
    std::fs::remove_dir_all(at.join("cache")).unwrap();
    run(&["evaluate", "runs/two"], &at);
    tools(&["parity", "runs/two"], &at);
    assert_eq!(figures(), by_features);
    assert!((difference() - dp).abs() < 1e-5, "{} {dp}", difference());

    let record = json(at.join("runs/one/run.json"));
    for key in ["tool", "evaluator", "command", "seed", "dataset_sha256", "split_sha256", "backbone_sha256"] {
        assert!(!record[key].is_null(), "run.json has no {key}");
    }
    let leak = json(at.join("runs/one/leak.json"));
    assert!(leak["honest"].as_array().unwrap().len() == 10 && leak["leaky_mean"]["low"].is_number(), "{leak}");
    assert_eq!(json(at.join("runs/one/evaluation.json"))["looks"], 1);

    let text = run(&["tune", "runs/one", "--cost", "fp=1,fn=20", "--review", "0.1"], &at);
    assert!(text.contains("thresholds are chosen on") && text.contains("test precision"), "{text}");
    assert!(refused(&["tune", "runs/one", "--min-recall", "nut=7"], &at).contains("between 0 and 1"));
    assert!(refused(&["tune", "runs/one", "--min-recall", "nail=0.5"], &at).contains("the run has"));
    run(&["evaluate", "runs/one", "--ignore", "empty", "--shifted", "0"], &at);
    // Trained, tuned and evaluated; the other run on the same split was trained, evaluated and
    // compared.
    assert_eq!(json(at.join("runs/one/evaluation.json"))["looks"], 6, "all runs that share the split count");
    run(&["report", "runs/one"], &at);
    let page = std::fs::read_to_string(at.join("runs/one/report.html")).unwrap();
    for part in ["Data contract", "reject gate", "Confusion", "<svg", "data:image/jpeg", "Provenance", "looked at 6 times"] {
        assert!(page.contains(part), "the report has no \"{part}\"");
    }
    // The worst mistakes come with a map of where in the image they were made.
    let evaluation = json(at.join("runs/one/evaluation.json"));
    let mistakes = evaluation["sets"][0]["mistakes"].as_array().unwrap();
    let heated = mistakes.iter().filter(|m| m["heat"]["cells"].as_array().is_some_and(|cells| cells.len() == 144)).count();
    assert!(heated > 0 && heated == mistakes.len().min(6), "{heated} of {}", mistakes.len());
    assert_eq!(page.matches("class=\"heat\"").count(), heated);
    for outside in ["<script", "<link", "src=\"http", "url("] {
        assert!(!page.contains(outside), "the page is self-contained: {outside}");
    }
    let words = [("ship", "Ship", 0), ("do_not_ship", "Do not ship", 1), ("too_few", "Too few to say", 3)];
    let answer = json(at.join("runs/one/verdict.json"))["answer"].as_str().unwrap().to_string();
    let (_, title, code) = *words.iter().find(|w| w.0 == answer).unwrap();
    assert!(page.contains(&format!("<strong>{title}</strong>")), "{title}");
    assert_eq!(tools(&["runs", "verdict", "runs/one"], &at).status.code(), Some(code), "{answer}");
    let trade = page.split("Size against speed").last().unwrap();
    assert!(trade.contains("one (this one)") && trade.contains(">two<"), "runs on one split stand side by side: {trade}");

    let text = run(&["runs", "list"], &at);
    assert!(text.contains("one") && text.contains("two") && text.contains("quick"), "{text}");
    let text = run(&["runs", "compare", "runs/one", "runs/two"], &at);
    assert!(text.contains("no difference can be told") && text.contains("the same test images"), "{text}");
    run(&["runs", "publish", "runs/one", "--out", "parts.tagpin", "--force", "first one, for the test"], &at);
    let tags = bundle_tags(&at.join("parts.tagpin"));
    assert_eq!(tags.len(), 8);
    assert!(tags.iter().any(|(_, threshold)| *threshold != 0.5), "tuned thresholds are in the bundle: {tags:?}");
    let stated = [vec!["bolt", "gear", "nut"], vec!["gear_chipped", "washer_cracked"]];
    assert_eq!(bundle_roles(&at.join("parts.tagpin")), stated, "about.toml and flags, through tune, evaluate and publish");
    let card = std::fs::read_to_string(at.join("parts.md")).unwrap();
    assert!(
        card.contains("macro-F1") && card.contains("| defect: gear_chipped, washer_cracked; good: bolt, gear, nut |"),
        "{card}"
    );
    // What is said while packing is said last.
    run(&["pack", "runs/one", "--out", "other.tagpin", "--good", "gear_chipped", "--defect", "empty"], &at);
    let stated = [vec!["bolt", "gear", "gear_chipped", "nut"], vec!["empty", "washer_cracked"]];
    assert_eq!(bundle_roles(&at.join("other.tagpin")), stated);
    let text = not_shipped(&["runs", "publish", "runs/two", "--out", "parts.tagpin"], 1, &at);
    assert!(text.contains("does not beat the one published before") && text.contains("--force"), "{text}");
    assert_eq!(json(at.join("parts.published.json"))[0]["forced"], "first one, for the test");

    // A threshold stated outright is in every file that says thresholds, and what is not named
    // stays.
    let before = json(at.join("runs/two/decision.json"));
    run(&["tune", "runs/two", "--threshold", "nut=0.3", "--band", "gear=0.4..0.7"], &at);
    let (decision, evaluation) = (json(at.join("runs/two/decision.json")), json(at.join("runs/two/evaluation.json")));
    let mut moved = Vec::new();
    for (i, rule) in decision["rules"].as_array().unwrap().iter().enumerate() {
        assert_eq!(rule["threshold"], evaluation["sets"][0]["tags"][i]["threshold"], "{rule}");
        let was = &before["rules"][i];
        if was != rule {
            moved.push((rule["tag"].as_str().unwrap().to_string(), rule["review_low"].as_f64(), rule["threshold"].as_f64()));
        }
    }
    let number = |v: f32| Some(f64::from(v));
    moved.iter_mut().for_each(|m| (m.1, m.2) = (m.1.map(|v| f64::from(v as f32)), m.2.map(|v| f64::from(v as f32))));
    let stated = [("gear", 0.4, 0.7), ("nut", 0.3, 0.3)].map(|(t, l, h)| (t.to_string(), number(l), number(h)));
    assert_eq!(moved, stated);
    let table = std::fs::read_to_string(at.join("runs/two/scores.csv")).unwrap();
    assert!(table.starts_with("path,side,tags,predicted,verdict,action,bolt,"), "{table}");
    let split = json(at.join("runs/two/split.json"));
    let held = split["sides"].as_array().unwrap().iter().filter(|s| *s != "train").count();
    assert_eq!(table.lines().count(), 1 + held, "one line an image of validation and test");
    // Figures of other thresholds are refused, by name and with what to do.
    let text = decision.to_string().replace("\"threshold\":0.5", "\"threshold\":0.6");
    std::fs::write(at.join("runs/two/decision.json"), text).unwrap();
    for stale in [["report", "runs/two"].as_slice(), &["pack", "runs/two", "--out", "stale.tagpin"]] {
        let text = refused(stale, &at);
        assert!(text.contains("of other thresholds; run `evaluate runs/two` again"), "{text}");
    }
    // What a person wrote into the file and the rule does not allow is said of the tag, not of a
    // number.
    let good = std::fs::read_to_string(at.join("runs/two/decision.json")).unwrap();
    for (wrong, words) in [
        (
            good.replacen("\"review_low\":0.4", "\"review_low\":0.9", 1),
            "tag \"gear\": review_low 0.9 lies above its threshold",
        ),
        (
            good.replacen("\"threshold\":0.3", "\"threshold\":30", 1),
            "tag \"nut\": threshold 30: expected a score between 0 and 1",
        ),
    ] {
        assert_ne!(wrong, good);
        std::fs::write(at.join("runs/two/decision.json"), wrong).unwrap();
        let text = refused(&["evaluate", "runs/two"], &at);
        assert!(text.contains(words) && text.contains("decision.json"), "{text}");
    }
    std::fs::write(at.join("runs/two/decision.json"), good).unwrap();
    run(&["evaluate", "runs/two", "--shifted", "0"], &at);
    assert!(refused(&["report", "runs/two"], &at).contains("parity.json is of another"), "each file is asked");
    tools(&["parity", "runs/two"], &at);
    run(&["report", "runs/two"], &at);

    // The float graph runs in tract as plain ONNX.
    let float = std::fs::read(at.join("runs/one/float.onnx")).unwrap();
    let oracle = tagpin::engine::oracle::Oracle::load(&float, &[1, 3, 96, 96]).unwrap();
    assert_eq!(oracle.run(&vec![0.1; 3 * 96 * 96]).unwrap().len(), 8);
}

#[test]
fn two_commands_at_once_lose_none_of_each_others_features() {
    let at = folder("shared-cache");
    backbone(&at);
    for seed in ["1", "2"] {
        run(&["synth", "--out", seed, "--per-tag", "6", "--seed", seed], &at);
    }
    let train = |data: &str, out: &str| {
        let how = ["train", "--quick", "--only", "--backbone", "others-run/float.onnx", "--data", data, "--out", out];
        run(&how, &at)
    };
    std::thread::scope(|s| {
        ["1", "2"].map(|data| s.spawn(move || train(data, &format!("first-{data}")))).map(|t| t.join().unwrap())
    });
    for data in ["1", "2"] {
        assert!(train(data, &format!("second-{data}")).contains("features known already"), "{data}");
    }
}

#[test]
fn tags_that_do_not_exclude_one_another_go_the_whole_way_too() {
    let at = folder("multilabel");
    backbone(&at);
    run(&["synth", "--out", "images", "--per-tag", "12", "--seed", "4"], &at);
    run(&["dataset", "convert", "images", "--to", "multilabel", "--out", "one.csv"], &at);
    // Each tag's first word is a tag of its own; an empty belt has none.
    let list = std::fs::read_to_string(at.join("one.csv")).unwrap();
    let mut rows = vec!["path,tags,shift".to_string()];
    for (i, line) in list.lines().skip(1).enumerate() {
        let (path, tag) = line.rsplit_once(',').unwrap();
        let tags = match tag.split_once('_') {
            _ if tag == "empty" => String::new(),
            Some((kind, _)) => format!("{kind};{tag}"),
            None => tag.into(),
        };
        rows.push(format!("{path},{tags},{}", i % 3));
    }
    std::fs::write(at.join("many.csv"), rows.join("\n")).unwrap();
    let text = run(&["dataset", "check", "many.csv"], &at);
    assert!(text.contains("Multilabel") && text.contains("(no tag)"), "{text}");
    let args = [
        "train",
        "--quick",
        "--data",
        "many.csv",
        "--backbone",
        "others-run/float.onnx",
        "--out",
        "runs/many",
        "--seed",
        "2",
    ];
    let text = run(&args, &at);
    assert!(text.contains("shift = ") && text.contains("mAP"), "columns are slices: {text}");
    let text = run(&["pack", "runs/many", "--out", "many.tagpin"], &at);
    assert!(text.contains("no tag is a defect") && text.contains("--defect TAG"), "{text}");
    assert_eq!(bundle_roles(&at.join("many.tagpin")), [Vec::<String>::new(), Vec::new()], "roles are not read out of names");
    let tags = bundle_tags(&at.join("many.tagpin"));
    assert!(tags.iter().any(|t| t.0 == "gear") && tags.iter().any(|t| t.0 == "gear_chipped"), "{tags:?}");
}

/// `--quick --domain` trained as without a domain and `--balance` was refused; which of the ways of
/// training pays, a user had to find out.
#[test]
fn a_domain_sets_what_no_flag_does_and_without_a_way_the_better_model_is_taken_within_the_budget() {
    let at = folder("auto");
    backbone(&at);
    run(&["synth", "--out", "images", "--per-tag", "10", "--seed", "6"], &at);
    run(&["dataset", "split", "images"], &at);
    let train = |out: &'static str, more: &[&'static str]| {
        let how = ["train", "--only", "--split", "split.json", "--backbone", "others-run/float.onnx", "--out", out];
        run(&[how.as_slice(), more].concat(), &at)
    };
    let settings = |out: &str| json(at.join(out).join("run.json"))["settings"].to_string();
    let plain = train("plain", &["--quick"]);
    assert!(!plain.contains("--views") && settings("plain").contains("trained on unchanged ones"), "{plain}");
    let belt = train("belt", &["--quick", "--domain", "conveyor"]);
    assert!(belt.contains("conveyor: --fit stretch, --balance weights, --views 3"), "{belt}");
    assert!(settings("belt").contains("3 views of each image") && settings("belt").contains("\"weights\""));
    // Each of them makes another model, and the same command the same one.
    let model = |out: &str| std::fs::read(at.join(out).join("int8.onnx")).unwrap();
    train("again", &["--quick", "--domain", "conveyor"]);
    assert_eq!(model("belt"), model("again"));
    train("once", &["--quick", "--domain", "conveyor", "--views", "1"]);
    assert!(model("belt") != model("once") && model("once") != model("plain"));
    let surface = train("surface", &["--quick", "--domain", "surface", "--balance", "none"]);
    assert!(surface.contains("surface: --fit pad, --views 3") && !surface.contains("--balance"), "{surface}");
    assert_eq!(json(at.join("surface/run.json"))["fit"], "pad");

    let from = ["--from", "block8_depthwise", "--views", "2", "--batch", "16"];
    let auto = train("auto", &[from.as_slice(), &["--epochs", "4"]].concat());
    assert!(auto.contains("fine-tuned minus quick on ") && auto.contains("epoch   4"), "{auto}");
    let taken = json(at.join("auto/run.json"))["kind"].clone();
    let told = auto.lines().find(|l| l.contains("fine-tuned minus quick")).unwrap();
    assert_eq!(taken == "advanced", told.contains("its model is taken"), "{taken}: {told}");
    assert!(settings("auto").contains("fine-tuned minus quick"), "the report says it too");
    let short = train("short", &[from.as_slice(), &["--budget", "0.001"]].concat());
    assert!(short.contains("not fine-tuned: that takes 1 min or more, --budget allows 0.001"), "{short}");
    assert_eq!(json(at.join("short/run.json"))["kind"], "quick");
    // A node that is named and is not there is no reason to leave it out.
    let how = ["train", "--only", "--split", "split.json", "--backbone", "others-run/float.onnx", "--out", "none"];
    let text = refused(&[how.as_slice(), &["--from", "block99"]].concat(), &at);
    assert!(text.contains("--from") && text.contains("block99"), "{text}");
    let other = train("other", &[]);
    assert!(other.contains("name with --from where it is to begin"), "{other}");
}

#[test]
fn fine_tuning_from_a_block_resumes_to_the_same_model() {
    let at = folder("advanced");
    backbone(&at);
    run(&["synth", "--out", "images", "--per-tag", "8", "--seed", "5"], &at);
    run(&["dataset", "split", "images"], &at);
    let train = |out: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        let mut args = vec!["train", "--advanced", "--only", "--split", "split.json", "--backbone", "others-run/float.onnx"];
        args.extend([
            "--from",
            "block8_depthwise",
            "--epochs",
            "4",
            "--batch",
            "16",
            "--views",
            "2",
            "--domain",
            "conveyor",
        ]);
        args.extend(["--out", out]);
        args.extend(more);
        args
    };
    let text = run(&train("through", &[]), &at);
    assert!(text.contains("conveyor: mirrored"), "{text}");
    // Another run is broken off by Ctrl-C after its first epoch and goes on later.
    let mut child = Command::new(env!("CARGO_BIN_EXE_tagpin-tools"))
        .args(train("broken", &[]))
        .current_dir(&at)
        .env("TAGPIN_CACHE", at.join("cache"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|l| l.unwrap().starts_with("epoch")), "an epoch is finished");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    lines.for_each(drop);
    let ended = child.wait().unwrap();
    if ended.code() == Some(130) {
        assert!(!at.join("broken").exists(), "no run folder is left half made");
        run(&train("broken", &["--resume"]), &at);
    } else {
        // It was faster than the signal.
        assert!(ended.success());
    }
    let model = |name: &str| std::fs::read(at.join(name).join("float.onnx")).unwrap();
    assert_eq!(model("through"), model("broken"));
    assert!(!at.join("broken.checkpoint").exists());
    let mut args = train("nowhere", &[]);
    let from = args.iter().position(|a| *a == "block8_depthwise").unwrap();
    args[from] = "block99";
    let text = refused(&args, &at);
    assert!(text.contains("no node is called \"block99\"") && text.contains("block8_depthwise"), "{text}");
}

#[test]
fn a_run_folder_may_lie_where_no_folder_is_yet() {
    let at = folder("new-folders");
    run(&["synth", "--out", "images", "--per-tag", "6", "--seed", "9"], &at);
    let small = ["train", "--small", "--only", "--data", "images", "--epochs", "1", "--batch", "16"];
    run(&[small.as_slice(), &["--out", "runs/today/one"]].concat(), &at);
    assert!(at.join("runs/today/one/float.onnx").exists() && !at.join("runs/today/one.checkpoint").exists());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_that_the_tools_were_not_built_for_is_refused_before_anything_is_done() {
    let at = folder("device");
    let text = refused(&["train", "--small", "--data", "nothing", "--device", "cuda", "--out", "one"], &at);
    assert!(text.contains("--device cuda") && text.contains("--features tagpin-tools/cuda"), "{text}");
}

#[test]
fn a_check_finds_what_is_wrong_with_images() {
    let at = folder("check");
    run(&["synth", "--out", "images", "--per-tag", "5", "--seed", "1"], &at);
    // The same image under two tags, a file cut short, one that is no image.
    std::fs::copy(at.join("images/nut/00000.png"), at.join("images/washer/copy.png")).unwrap();
    let whole = std::fs::read(at.join("images/nut/00001.png")).unwrap();
    std::fs::write(at.join("images/nut/short.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(at.join("images/nut/text.jpg"), "not an image").unwrap();
    let out = tools(&["dataset", "check", "images"], &at);
    let (text, errors) = (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("conflict") && text.contains("(nut)") && text.contains("(washer)"), "{text}");
    assert!(text.contains("2 files"), "{text}");
    assert!(errors.contains("skipped nut/short.png") && errors.contains("skipped nut/text.jpg"), "{errors}");
    let contract = json(at.join("contract.json"));
    assert_eq!(contract["duplicates"].as_array().unwrap().iter().filter(|d| d["exact"] == true).count(), 1);
    assert!(refused(&["dataset", "check", "images"], &at).contains("--force"));

    // The twins lie on one side of every split; a split edited by hand is refused.
    for seed in ["1", "2", "3", "4"] {
        run(&["dataset", "split", "images", "--seed", seed, "--force", "--anew"], &at);
        let split = json(at.join("split.json"));
        let side = |path: &str| {
            let entries = split["dataset"]["entries"].as_array().unwrap();
            split["sides"][entries.iter().position(|e| e["path"] == path).unwrap()].clone()
        };
        assert_eq!(side("nut/00000.png"), side("washer/copy.png"), "seed {seed}");
    }
    let mut split = json(at.join("split.json"));
    let entries = split["dataset"]["entries"].as_array().unwrap().clone();
    for (path, to) in [("nut/00000.png", "train"), ("washer/copy.png", "test")] {
        split["sides"][entries.iter().position(|e| e["path"] == path).unwrap()] = to.into();
    }
    std::fs::write(at.join("split.json"), split.to_string()).unwrap();
    let text = refused(&["train", "--small", "--split", "split.json", "--out", "r"], &at);
    assert!(text.contains("leak") && text.contains("washer/copy.png") && text.contains("are the same file"), "{text}");
    assert!(!at.join("r").exists());
}

#[test]
fn groups_stay_together_and_coco_and_split_folders_are_read() {
    let at = folder("forms");
    run(&["synth", "--out", "images", "--per-tag", "12", "--seed", "1"], &at);
    run(&["dataset", "convert", "images", "--to", "multiclass", "--out", "list.csv"], &at);
    let list = std::fs::read_to_string(at.join("list.csv")).unwrap();
    let grouped: Vec<String> = list
        .lines()
        .enumerate()
        .map(|(i, l)| if i == 0 { format!("{l},part") } else { format!("{l},{}", i % 20) })
        .collect();
    std::fs::write(at.join("parts.csv"), grouped.join("\n")).unwrap();
    run(&["dataset", "split", "parts.csv", "--group", "part"], &at);
    let split = json(at.join("split.json"));
    let mut of: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    for (e, side) in split["dataset"]["entries"].as_array().unwrap().iter().zip(split["sides"].as_array().unwrap()) {
        let held = of.entry(e["columns"]["part"].to_string()).or_insert_with(|| side.to_string());
        assert_eq!(held, &side.to_string(), "part {}", e["columns"]["part"]);
    }
    assert!(refused(&["dataset", "split", "parts.csv", "--group", "shift", "--force"], &at).contains("no image has this"));

    let coco = serde_json::json!({
        "images": [{"id": 1, "file_name": "nut/00000.png"}, {"id": 2, "file_name": "washer/00000.png"}],
        "annotations": [{"image_id": 1, "category_id": 7}, {"image_id": 1, "category_id": 8}],
        "categories": [{"id": 7, "name": "nut"}, {"id": 8, "name": "steel"}],
    });
    std::fs::write(at.join("images/coco.json"), coco.to_string()).unwrap();
    let text = run(&["dataset", "check", "images/coco.json", "--allow-few", "--out", "coco-contract.json"], &at);
    assert!(text.contains("steel") && text.contains("(no tag)") && text.contains("means anything"), "{text}");

    for (side, tag) in [("train", "nut"), ("train", "washer"), ("test", "nut"), ("test", "washer")] {
        std::fs::create_dir_all(at.join("sided").join(side).join(tag)).unwrap();
        for i in 0..6 {
            let n = if side == "train" { i } else { i + 6 };
            let name = format!("{n:05}.png");
            std::fs::copy(at.join("images").join(tag).join(&name), at.join("sided").join(side).join(tag).join(&name))
                .unwrap();
        }
    }
    run(&["dataset", "split", "sided", "--out", "sided.json"], &at);
    let split = json(at.join("sided.json"));
    for (e, side) in split["dataset"]["entries"].as_array().unwrap().iter().zip(split["sides"].as_array().unwrap()) {
        assert_eq!(side == "test", e["path"].as_str().unwrap().starts_with("test/"), "a test folder stays the test side");
    }
}

#[test]
fn bad_folders_and_flags_are_refused_by_name() {
    let at = folder("refusals");
    run(&["synth", "--out", "data", "--per-tag", "5", "--seed", "1"], &at);
    assert!(refused(&["synth", "--out", "data"], &at).contains("data exists"));
    assert!(refused(&["train", "--small", "--data", "nowhere", "--out", "r"], &at).contains("nowhere"));
    assert!(refused(&["train", "--data", "data", "--out", "r"], &at).contains("pip download"));
    let text = refused(&["train", "--quick", "--data", "data", "--backbone", "none.onnx", "--out", "r"], &at);
    assert!(text.contains("there is no such backbone") && text.contains("backbone import"), "{text}");
    let int8 = format!("{}/../tests/data/tiny_qdq.onnx", env!("CARGO_MANIFEST_DIR"));
    let args = ["train", "--quick", "--data", "data", "--backbone", &int8, "--out", "r"];
    assert!(refused(&args, &at).contains("--mean and --std"));
    let text = refused(&[args.as_slice(), &["--mean", "0.5", "--std", "0.5"]].concat(), &at);
    assert!(text.contains("quantised already"), "{text}");
    assert!(refused(&["backbone", "import", "data/nut/00000.png"], &at).contains("no PyTorch file"));
    let small = ["train", "--small", "--only", "--data", "data", "--out", "r"];
    let text = refused(&[small.as_slice(), &["--defect", "rust"]].concat(), &at);
    assert!(text.contains("no tag \"rust\"") && text.contains("bolt, bracket, empty"), "{text}");
    let text = refused(&[small.as_slice(), &["--defect", "nut", "--good", "nut"]].concat(), &at);
    assert!(text.contains("tag \"nut\" has two roles"), "{text}");
    std::fs::write(at.join("about.toml"), "defects = [\"nut\"]\n").unwrap();
    let text = refused(&[small.as_slice(), &["--about", "about.toml", "--good", "nut"]].concat(), &at);
    assert!(text.contains("tag \"nut\" has two roles"), "{text}");
    std::fs::write(at.join("about.toml"), "good = [\"nail\"]\n").unwrap();
    let text = refused(&["dataset", "check", "data", "--about", "about.toml"], &at);
    assert!(text.contains("about.toml") && text.contains("no tag \"nail\""), "{text}");
    let quick = ["train", "--quick", "--data", "data", "--backbone", "none.onnx", "--out", "r"];
    for (more, why) in [
        (["--budget", "5"].as_slice(), "'--quick' cannot be used with '--budget <MINUTES>'"),
        (&["--from", "block1"], "'--quick' cannot be used with '--from <NODE>'"),
        (&["--views", "0"], "--views 0: expected at least 1"),
    ] {
        let text = refused(&[quick.as_slice(), more].concat(), &at);
        assert!(text.contains(why), "nothing that is asked for is ignored in silence: {text}");
    }
    std::fs::write(at.join("about.toml"), "[aims.nail]\nrecall = 0.9\n").unwrap();
    let text = refused(&["dataset", "check", "data", "--about", "about.toml"], &at);
    assert!(text.contains("aims: there is no tag \"nail\""), "{text}");
    std::fs::write(at.join("data/nut/00000.png"), b"broken").unwrap();
    let text = refused(&["train", "--small", "--data", "data", "--out", "r"], &at);
    assert!(text.contains("skipped nut/00000.png") && text.contains("tag \"nut\" has 4 readable images"), "{text}");
    assert!(!at.join("r").exists());
    assert!(refused(&["quantise", "nowhere"], &at).contains("run `train` first"));
}

#[test]
fn the_shipped_models_recipe_runs_on_a_tiny_set() {
    let at = folder("demo");
    let text = run(&["demo", "--per-tag", "8", "--epochs", "1", "--work", "work", "--out", "parts.tagpin"], &at);
    assert!(text.contains("beyond (35 images counted)"), "the tag of an empty belt is not counted: {text}");
    assert_eq!(bundle_tags(&at.join("parts.tagpin")).len(), 8);
    let [good, defects] = bundle_roles(&at.join("parts.tagpin"));
    assert_eq!((good.len(), defects), (6, vec!["gear_chipped".to_string(), "washer_cracked".to_string()]));
    assert!(refused(&["demo", "--work", "work"], &at).contains("work exists"));
}

#[test]
fn somebody_elses_onnx_file_is_packed_or_refused_with_a_reason() {
    let at = folder("foreign");
    let data = |name: &str| format!("{}/../tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let tiny = data("tiny_qdq.onnx");
    run(&["pack", "--onnx", &tiny, "--tags", "numbered", "--mean", "127", "--std", "128", "--out", "n.tagpin"], &at);
    std::fs::write(at.join("tags.txt"), "one\ntwo\nthree\nfour\n").unwrap();
    let pack = ["pack", "--onnx", &tiny, "--tags", "tags.txt", "--task", "multilabel"];
    run(&[pack.as_slice(), &["--out", "f.tagpin", "--defect", "two", "--defect", "four", "--good", "one"]].concat(), &at);
    assert_eq!(bundle_tags(&at.join("f.tagpin"))[2].0, "three");
    assert_eq!(bundle_roles(&at.join("f.tagpin")), [vec!["one"], vec!["two", "four"]]);
    let text = refused(&[pack.as_slice(), &["--out", "g.tagpin", "--defect", "five"]].concat(), &at);
    assert!(text.contains("no tag \"five\"") && text.contains("one, two, three, four"), "{text}");
    std::fs::write(at.join("tags.txt"), "one\ntwo\n").unwrap();
    assert!(
        refused(&["pack", "--onnx", &tiny, "--tags", "tags.txt", "--out", "x.tagpin"], &at).contains("2 tags for 4 logits")
    );
    let text = refused(&["pack", "--onnx", &data("tiny_refused.onnx"), "--tags", "numbered", "--out", "x.tagpin"], &at);
    assert!(text.contains("node \"normalise\" (LRN)"), "{text}");
}

/// A graph with a float operator inside is packed with the contract's `mixed` set; without it the
/// bundle is refused.
#[test]
fn a_mixed_graph_is_packed_as_mixed() {
    use tagpin::bundle::{self, Bundle};
    use tagpin::engine::Engine;
    let at = folder("mixed");
    let tiny = |name: &str| format!("{}/../tests/data/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    for (name, mixed) in [("tiny_lrn", true), ("tiny_qdq", false)] {
        let said = run(&["pack", "--onnx", &tiny(name), "--tags", "numbered", "--out", &format!("{name}.tagpin")], &at);
        assert!(said.contains("proved"), "{said}");
        let bytes = std::fs::read(at.join(name).with_extension("tagpin")).unwrap();
        let bundle = Bundle::read(&bytes).unwrap();
        assert_eq!(bundle.contract.mixed, mixed, "{name}");
        assert_eq!(Engine::from_bundle(&bundle).unwrap().spec().islands, usize::from(mixed), "{name}");
        let mut contract = bundle.contract.clone();
        contract.mixed = !mixed;
        let lying = bundle::write(&contract, bundle.graph, &[]).unwrap();
        let why = Engine::from_bundle(&Bundle::read(&lying).unwrap()).unwrap_err().to_string();
        assert!(why.contains("mixed"), "{why}");
    }
}

#[test]
fn what_a_board_recorded_is_replayed_bit_for_bit() {
    use tagpin::head::Score;
    let at = folder("recorded");
    let tiny = format!("{}/../tests/data/tiny_qdq.onnx", env!("CARGO_MANIFEST_DIR"));
    run(&["pack", "--onnx", &tiny, "--tags", "numbered", "--out", "tiny.tagpin"], &at);
    let bytes = std::fs::read(at.join("tiny.tagpin")).unwrap();
    let bundle = tagpin::bundle::Bundle::read(&bytes).unwrap();
    let mut engine = tagpin::engine::Engine::from_bundle(&bundle).unwrap();
    let spec = engine.spec().clone();
    // A recording as `tagpin run --record` writes it.
    std::fs::create_dir(at.join("kept")).unwrap();
    let hash = tagpin::bundle::Hex(&bundle.sha256).to_string();
    std::fs::write(at.join("kept/bundle.sha256"), format!("{hash}\n")).unwrap();
    let rgb: Vec<u8> = (0..spec.input.iter().product::<usize>()).map(|i| (i * 7 % 256) as u8).collect();
    let (mut input, mut logits) = (vec![0; rgb.len()], vec![0; spec.logits]);
    tagpin::preprocess::quantise(&rgb, bundle.contract.input.tables.int8, &mut input);
    engine.infer(&input, &mut logits).unwrap();
    let mut scores = vec![Score(0); spec.logits];
    bundle.contract.task.score(&logits, bundle.contract.temperature(), &mut scores);
    std::fs::write(at.join("kept/00000000.rgb"), &rgb).unwrap();
    std::fs::write(at.join("kept/00000000.logits"), logits.iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<_>>())
        .unwrap();
    std::fs::write(at.join("kept/00000000.scores"), scores.iter().flat_map(|s| s.0.to_le_bytes()).collect::<Vec<_>>())
        .unwrap();
    let args = ["parity", "--recorded", "kept", "--bundle", "tiny.tagpin"];
    assert!(run(&args, &at).contains("1 recorded frames give the same"));
    logits[1] += 1;
    std::fs::write(at.join("kept/00000000.logits"), logits.iter().flat_map(|l| l.to_le_bytes()).collect::<Vec<_>>())
        .unwrap();
    assert!(refused(&args, &at).contains("frame 0: logit of \"0001\""));
}

/// What is written is what the engine answers, and a second engine that reads the files says so.
#[test]
fn graphs_are_files_that_answer_as_they_say() {
    use tagpin::engine::{Engine, proto};
    let at = folder("pipeline-graphs");
    let told = run(&["graphs", "--n", "4", "--seed", "40", "--out", "drawn"], &at);
    assert_eq!(told, "4 networks from seed 40 on in drawn\n");
    // ONNX's TensorProto ends with field 9, its raw bytes.
    let raw = |path: std::path::PathBuf, n: usize| {
        let bytes = std::fs::read(path).unwrap();
        bytes[bytes.len() - n..].to_vec()
    };
    let floats = |bytes: Vec<u8>| -> Vec<f32> { bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
    let mut differing = 0;
    for seed in 40..44 {
        let graph = at.join(format!("drawn/graph_{seed:06}"));
        let onnx = std::fs::read(graph.join("model.onnx")).unwrap();
        let mut engine = Engine::load(&onnx).unwrap();
        let len = proto::read(&onnx).unwrap().input_dims.iter().product::<usize>();
        let input = floats(raw(graph.join("test_data_set_0/input_0.pb"), 4 * len));
        let mut logits = vec![0; engine.spec().logits];
        engine.infer_reals(&input, &mut logits, |_| ()).unwrap();
        let said = floats(raw(graph.join("test_data_set_0/output_0.pb"), 4 * logits.len()));
        assert_eq!(said, logits.iter().map(|&q| q as f32 / 65536.0).collect::<Vec<_>>(), "seed {seed}");
        differing += usize::from(said.iter().any(|x| *x != said[0]));
        assert!(graph.join("test_data_set_0/output_1.pb").exists(), "the tensors between are there as well");
    }
    assert!(differing > 1, "{differing} of 4 networks answer with more than one number");
    // The same seed, the same bytes; a folder that exists is left alone.
    run(&["graphs", "--n", "2", "--seed", "42", "--out", "again"], &at);
    let bytes = |of: &str| std::fs::read(at.join(of).join("graph_000043/model.onnx")).unwrap();
    assert_eq!(bytes("drawn"), bytes("again"));
    assert!(refused(&["graphs", "--out", "drawn"], &at).contains("drawn exists; name another folder or remove it"));
}
