//! The tools as their users run them: from drawn pictures to a bundle, on a tiny set.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tools(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tagpin-tools")).args(args).current_dir(folder).output().unwrap()
}

fn run(args: &[&str], folder: &Path) -> String {
    let out = tools(args, folder);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn refused(args: &[&str], folder: &Path) -> String {
    let out = tools(args, folder);
    assert_eq!(out.status.code(), Some(2), "{args:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn from_pictures_to_a_bundle_and_the_same_seed_gives_the_same_model() {
    let at = folder("pipeline");
    run(&["synth", "--out", "train", "--per-tag", "8", "--seed", "1"], &at);
    run(&["synth", "--out", "test", "--per-tag", "5", "--seed", "2"], &at);
    for out in ["a", "b"] {
        run(&["train", "--data", "train", "--out", out, "--epochs", "2", "--batch", "16", "--seed", "5"], &at);
    }
    let network = |run: &str| std::fs::read(at.join(run).join("network.bin")).unwrap();
    assert_eq!(network("a"), network("b"), "the same command gives the same weights");
    run(&["quantise", "a", "--data", "train"], &at);
    let text = run(&["evaluate", "a", "--train", "train", "--test", "held=test", "--ignore", "empty"], &at);
    assert!(text.contains("nearest mean colour"), "{text}");
    run(&["pack", "a", "--out", "tiny.tagpin"], &at);
    let bytes = std::fs::read(at.join("tiny.tagpin")).unwrap();
    let bundle = tagpin::bundle::Bundle::read(&bytes).unwrap();
    assert_eq!(bundle.contract.tags.len(), 8);
    tagpin::engine::Engine::from_bundle(&bundle).unwrap();
    let card = std::fs::read_to_string(at.join("tiny.md")).unwrap();
    assert!(card.contains("held") && card.contains("gear_chipped"));
    assert!(refused(&["pack", "a", "--out", "tiny.tagpin"], &at).contains("--force"));

    // The float graph and tract agree with the network; the int8 graph is plain ONNX that tract reads too.
    let float = std::fs::read(at.join("a/float.onnx")).unwrap();
    let oracle = tagpin::engine::oracle::Oracle::load(&float, &[1, 3, 96, 96]).unwrap();
    assert_eq!(oracle.run(&vec![0.1; 3 * 96 * 96]).unwrap().len(), 8);
}

#[test]
fn bad_folders_and_leaks_are_refused_by_name() {
    let at = folder("refusals");
    run(&["synth", "--out", "data", "--per-tag", "5", "--seed", "1"], &at);
    assert!(refused(&["synth", "--out", "data"], &at).contains("data exists"));
    assert!(refused(&["train", "--data", "nowhere", "--out", "r"], &at).contains("nowhere"));
    std::fs::write(at.join("data/nut/00000.png"), b"broken").unwrap();
    let text = refused(&["train", "--data", "data", "--out", "r"], &at);
    assert!(text.contains("skipped data/nut/00000.png") && text.contains("tag \"nut\" has 4 readable pictures"), "{text}");
    assert!(!at.join("r").exists());
    std::fs::remove_dir_all(at.join("data/nut")).unwrap();
    run(&["train", "--data", "data", "--out", "r", "--epochs", "1", "--batch", "16"], &at);
    run(&["quantise", "r", "--data", "data"], &at);
    let text = refused(&["evaluate", "r", "--train", "data", "--test", "leak=data"], &at);
    assert!(text.contains("also among the training pictures"), "{text}");
}

#[test]
fn somebody_elses_onnx_file_is_packed_or_refused_with_a_reason() {
    let at = folder("foreign");
    let data = |name: &str| format!("{}/../tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let tiny = data("tiny_qdq.onnx");
    run(&["pack", "--onnx", &tiny, "--tags", "numbered", "--mean", "127", "--std", "128", "--out", "n.tagpin"], &at);
    std::fs::write(at.join("tags.txt"), "one\ntwo\nthree\nfour\n").unwrap();
    run(&["pack", "--onnx", &tiny, "--tags", "tags.txt", "--out", "f.tagpin", "--task", "multilabel"], &at);
    let bytes = std::fs::read(at.join("f.tagpin")).unwrap();
    assert_eq!(tagpin::bundle::Bundle::read(&bytes).unwrap().contract.tags[2].name, "three");
    std::fs::write(at.join("tags.txt"), "one\ntwo\n").unwrap();
    assert!(
        refused(&["pack", "--onnx", &tiny, "--tags", "tags.txt", "--out", "x.tagpin"], &at).contains("2 tags for 4 logits")
    );
    let text = refused(&["pack", "--onnx", &data("tiny_lrn.onnx"), "--tags", "numbered", "--out", "x.tagpin"], &at);
    assert!(text.contains("node \"normalise\" (LRN)"), "{text}");
}

#[test]
fn an_interrupted_training_keeps_its_best_network() {
    let at = folder("interrupted");
    run(&["synth", "--out", "data", "--per-tag", "6"], &at);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tagpin-tools"))
        .args(["train", "--data", "data", "--out", "r", "--epochs", "500", "--batch", "8"])
        .current_dir(&at)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|l| l.unwrap().starts_with("epoch")), "an epoch is finished");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    run(&["quantise", "r", "--data", "data"], &at);
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(at.join("r/run.json")).unwrap()).unwrap();
    assert_eq!(record["interrupted"], true);
}
