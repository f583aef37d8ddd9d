//! A bundle that does worse than the one before it: a running line goes back by itself, and so does
//! a start that fails three times in the bundle.

use crate::installed::{Device, GATE, Running, numbered, sign, with_self_test};
use crate::program::*;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tagpin::installed::beside;

/// A line with a bundle that ran, a second one that fails as the drill says, and what came of it:
/// the events, standard error, and both bundles.
fn gone_back(
    name: &str,
    drill: &str,
    parts: usize,
    between: impl FnOnce(&Device),
) -> (Device, Vec<Value>, String, [String; 2]) {
    let device = Device::new(name);
    assert_eq!(device.install(&device.signed("one.tagpin", &numbered(1), 1), &[]).status.code(), Some(0));
    let old = device.current();
    let mut line = Running::start_with(&device, GATE, &["--drill", drill]);
    line.triggers(25);
    assert_eq!(device.install(&device.signed("two.tagpin", &numbered(2), 2), &[]).status.code(), Some(0));
    let new = device.current();
    line.triggers_until_updates(1);
    between(&device);
    line.triggers(parts);
    line.triggers_until_updates(2);
    let (all, told) = line.ended();
    (device, all, told, [old, new])
}

/// The updates are a takeover and the way back; parts are decided by the bundle of their trigger.
fn assert_went_back(all: &[Value], told: &str, [old, new]: &[String; 2], why: &str) {
    let updates = of(all, "update");
    let outcomes: Vec<_> = updates.iter().map(|u| u["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["taken_over", "went_back"], "{updates:?}");
    let [taken, back] = [updates[0], updates[1]];
    let hashes =
        |u: &Value| ["bundle_sha256", "before_sha256", "running_sha256"].map(|key| u[key].as_str().unwrap().to_string());
    assert_eq!(hashes(taken), [new.clone(), old.clone(), new.clone()]);
    assert_eq!(hashes(back), [new.clone(), new.clone(), old.clone()]);
    assert!(back["why"].as_str().unwrap().contains(why), "{back}");
    assert!(told.contains(&format!("is left, {}... decides parts from", &old[..12])) && told.contains(why), "{told}");
    let [taken, back] = [taken, back].map(|u| u["from_part"].as_u64().unwrap());
    for part in of(all, "part") {
        let of = if (taken..back).contains(&part["part"].as_u64().unwrap()) { new } else { old };
        assert_eq!(part["bundle_sha256"], **of, "from {taken} to {back}: {part}");
    }
}

/// One engine error of the new bundle is enough; the folder leads back to the old one, so that a
/// restart runs that, and `previous` keeps the other.
#[test]
fn a_line_goes_back_at_an_engine_error_of_the_bundle_that_it_took_over_and_so_does_its_folder() {
    // In an emulator trial and run compete for so long that the run ends first.
    if emulated() {
        return;
    }
    let (device, all, told, both) = gone_back("back-engine", "new-engine@4", 8, |_| ());
    assert_went_back(&all, &told, &both, "engine error at part ");
    assert_eq!(device.current(), both[0]);
    assert_eq!(device.state().0["previous"]["sha256"], both[1]);
    assert!(told.contains("current leads to bundle"), "{told}");
    let out = device.runs();
    assert_eq!(events(&out)[0]["bundle_sha256"], both[0], "a restart runs the old one");
    // Whatever failed, each part has its end, and the first bundle's had none of that.
    let failed: Vec<_> = of(&all, "fault").into_iter().filter(|f| f["kind"] == "engine").collect();
    assert!((1..40).contains(&failed.len()), "{failed:?}");
}

/// Parts late by a model that takes 400 ms longer before a gate of 300 ms.
#[test]
fn a_line_goes_back_from_a_bundle_that_makes_its_parts_late_and_says_by_which_figures() {
    if emulated() {
        eprintln!("skipped: parts of the old bundle are late, too, beside an emulated model");
        return;
    }
    let (device, all, told, both) = gone_back("back-late", "new-late@1", 60, |_| ());
    assert_went_back(&all, &told, &both, "Fisher's exact test");
    assert_eq!(device.current(), both[0]);
}

/// The line goes back in memory where its folder cannot be written, and says what a restart does.
#[test]
fn a_line_whose_folder_cannot_be_written_goes_back_in_memory_and_tells() {
    let unwritable = |device: &Device| {
        // Root writes into every folder, but no file over a folder.
        std::fs::remove_file(device.path("line/lock")).unwrap();
        std::fs::create_dir(device.path("line/lock")).unwrap();
    };
    let (device, all, told, both) = gone_back("back-unwritable", "new-engine@25", 8, unwritable);
    assert_went_back(&all, &told, &both, "engine error at part ");
    assert_eq!(device.current(), both[1]);
    assert!(told.contains("a restart runs what it leads to"), "{told}");
}

/// A line's folder with bundle 1 as `previous` and bundle 2 as `current`: their hashes, and the
/// second one's file.
fn two_installed(device: &Device) -> ([String; 2], PathBuf) {
    assert_eq!(device.install(&device.signed("one.tagpin", &numbered(1), 1), &[]).status.code(), Some(0));
    let one = device.current();
    assert_eq!(device.install(&device.signed("two.tagpin", &numbered(2), 2), &[]).status.code(), Some(0));
    let two = device.current();
    let file = device.path(&format!("line/bundles/{two}.tagpin"));
    assert!(file.is_file());
    ([one, two], file)
}

fn links(device: &Device) -> [PathBuf; 2] {
    ["current", "previous"].map(|link| std::fs::read_link(device.path("line").join(link)).unwrap())
}

/// The run ends before the line can take the old model: the folder leads back all the same, so that
/// the next start does not end like this one.
#[test]
fn a_run_that_the_new_bundle_ends_leaves_a_folder_that_leads_back() {
    let device = Device::new("back-held");
    assert_eq!(device.install(&device.signed("one.tagpin", &numbered(1), 1), &[]).status.code(), Some(0));
    let old = device.current();
    let text = format!("{GATE}[safety]\nmax_faults_in_a_row = 1\n");
    let mut line = Running::start_with(&device, &text, &["--drill", "new-engine@3"]);
    line.triggers(2);
    assert_eq!(device.install(&device.signed("two.tagpin", &numbered(2), 2), &[]).status.code(), Some(0));
    let begin = Instant::now();
    while line.child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(300), "no engine error ended the run");
        // It may end at any moment.
        let _ = line.stdin.write_all(b"trigger\n").and_then(|()| line.stdin.flush());
        std::thread::sleep(Duration::from_millis(if emulated() { 400 } else { 60 }));
    }
    let out = wait(line.child, Duration::from_secs(60));
    let told = stderr(&out);
    assert_eq!(out.status.code(), Some(3), "{told}");
    assert!(told.contains("current leads to bundle"), "{told}");
    assert_eq!(device.current(), old);
    assert_eq!(device.runs().status.code(), Some(0));
}

/// Damaged, without its signature, with a self-test that this board does not pass: twice the start
/// fails, and the third one runs the bundle before.
#[test]
fn a_bundle_in_which_three_starts_fail_is_left_for_the_one_before_it() {
    type Spoil = fn(&Device, &Path);
    let cut: Spoil = |_, file| std::fs::write(file, &std::fs::read(file).unwrap()[1..]).unwrap();
    let unsigned: Spoil = |_, file| std::fs::remove_file(beside(file)).unwrap();
    let lying: Spoil = |device, file| {
        let lying = with_self_test(|c| c.temperature_q16 += 2, |section| *section.last_mut().unwrap() ^= 1);
        std::fs::write(file, lying).unwrap();
        sign(file, &device.pair, "tagpin model=parts version=2");
    };
    for (name, spoil, why) in [
        ("cut", cut, "not a tagpin bundle"),
        ("unsigned", unsigned, "not signed, and"),
        ("lying", lying, "self-test: image 1"),
    ] {
        let device = Device::new(&format!("starts-{name}"));
        let ([one, _], file) = two_installed(&device);
        // Where there is a record of changes it is told this one.
        std::fs::write(device.path("line/audit.log"), "").unwrap();
        spoil(&device, &file);
        let before = links(&device);
        for n in 1..=2 {
            let out = device.runs();
            assert_eq!(out.status.code(), Some(2), "{name}: {}", stderr(&out));
            let told = stderr(&out);
            assert!(
                told.contains(why) && told.contains(&format!("start {n} in a row that fails in the bundle")),
                "{name}: {told}"
            );
            assert_eq!(links(&device), before, "{name}");
        }
        let out = device.runs();
        let told = stderr(&out);
        assert_eq!(out.status.code(), Some(0), "{name}: {told}");
        assert!(told.contains(why) && told.contains("3 starts in a row failed in the bundle"), "{name}: {told}");
        assert_eq!(events(&out)[0]["bundle_sha256"], one, "{name}");
        let [current, previous] = before;
        assert_eq!(links(&device), [previous, current], "{name}");
        let record = std::fs::read_to_string(device.path("line/audit.log")).unwrap();
        assert!(record.contains("bundle rolled back after 3 failed starts") && record.contains(&one), "{name}: {record}");
        // The one before runs from now on, and nothing is counted.
        assert_eq!(device.runs().status.code(), Some(0), "{name}");
        assert!(!device.path("line/starts").exists(), "{name}");
    }
}

/// What is not the bundle's fault is not counted, a start that runs ends the count, and where there
/// is nothing to go back to the line stays as it is.
#[test]
fn starts_that_fail_for_another_reason_or_not_in_a_row_leave_the_bundle_alone() {
    let device = Device::new("starts-others");
    let ([one, two], file) = two_installed(&device);
    let [line, keys] = ["line", "keys.d"].map(|name| device.path(name).display().to_string());
    let bad = settings("starts-bad", "[outputs.gate]\nbackend = \"teapot\"\non = [\"reject\"]\n");
    for more in [["--source", "y4m:/nowhere"], ["--settings", &bad], ["--source", "v4l2:/dev/null"]] {
        for _ in 0..4 {
            let out = finish(tagpin(&[&["run", "--bundle", &line, "--keys", &keys, "--parts", "1"][..], &more].concat()));
            assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
            assert!(!stderr(&out).contains("in a row"), "{}", stderr(&out));
        }
    }
    assert!(device.current() == two && !device.path("line/starts").exists());
    let good = std::fs::read(&file).unwrap();
    for _ in 0..3 {
        std::fs::write(&file, &good[1..]).unwrap();
        assert_eq!([(); 2].map(|()| device.runs().status.code()), [Some(2); 2]);
        assert_eq!(device.state().0["failed_starts"], 2);
        std::fs::write(&file, &good).unwrap();
        assert_eq!(device.runs().status.code(), Some(0));
        assert_eq!((device.current(), &device.state().0["failed_starts"]), (two.clone(), &0.into()));
    }
    // Both are damaged: nothing is changed, and each start says so.
    let other = device.path(&format!("line/bundles/{one}.tagpin"));
    let whole = std::fs::read(&other).unwrap();
    for path in [&file, &other] {
        std::fs::write(path, b"none").unwrap();
    }
    let before = links(&device);
    let out = [(); 4].map(|()| device.runs());
    assert!(stderr(&out[2]).contains("the line cannot go back") && stderr(&out[3]).contains("the line cannot go back"));
    assert_eq!((out.map(|out| out.status.code()), links(&device)), ([Some(2); 4], before));
    // The next start after that is mended goes back.
    std::fs::write(&other, whole).unwrap();
    assert_eq!((device.runs().status.code(), device.current()), (Some(0), one));
    // Where nothing can be counted that is told, and nobody goes back.
    let current = std::fs::canonicalize(device.path("line/current")).unwrap();
    std::fs::write(&current, b"none").unwrap();
    std::fs::create_dir(device.path("line/starts.new")).unwrap();
    let before = links(&device);
    for _ in 0..4 {
        let out = device.runs();
        assert!(out.status.code() == Some(2) && stderr(&out).contains("cannot be counted"), "{}", stderr(&out));
    }
    assert_eq!(links(&device), before);
}

/// Killed at any moment of the start that goes back, the folder runs: at the latest the next start
/// goes back.
#[test]
fn a_start_that_is_killed_while_it_goes_back_leaves_a_folder_that_runs() {
    let device = Device::new("starts-killed");
    let ([one, two], file) = two_installed(&device);
    let good = std::fs::read(&file).unwrap();
    let count = format!("2 bundles/{two}.tagpin\n");
    let start = || {
        let [line, keys] = ["line", "keys.d"].map(|name| device.path(name).display().to_string());
        let mut command =
            tagpin(&["run", "--bundle", &line, "--keys", &keys, "--source", &fast_conveyor(1), "--parts", "1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let kills = if emulated() { 4 } else { 24 };
    for kill in 0..kills {
        for (link, hash) in [("previous", &one), ("current", &two)] {
            let new = device.path("line/by-hand");
            std::os::unix::fs::symlink(format!("bundles/{hash}.tagpin"), &new).unwrap();
            std::fs::rename(&new, device.path("line").join(link)).unwrap();
        }
        std::fs::write(&file, &good[1..]).unwrap();
        std::fs::write(device.path("line/starts"), &count).unwrap();
        let mut child = start();
        std::thread::sleep(Duration::from_millis(kill * 4));
        let _ = child.kill();
        child.wait().unwrap();
        let [current, previous] = links(&device);
        let whole = [&one, &two].map(|hash| PathBuf::from(format!("bundles/{hash}.tagpin")));
        assert!(whole.contains(&current) && whole.contains(&previous), "{kill}: {current:?} {previous:?}");
        let out = device.runs();
        assert_eq!((out.status.code(), device.current()), (Some(0), one.clone()), "{kill}: {}", stderr(&out));
    }
}

/// Root installed into a folder that was its own, and the line, which runs as somebody else, could
/// not go back there.
#[test]
fn a_folder_that_root_makes_belongs_to_the_owner_of_the_folder_around_it() {
    use std::os::unix::fs::{MetadataExt, chown};
    const OWNER: u32 = 12_345;
    let device = Device::new("owner");
    let one = device.signed("one.tagpin", &numbered(1), 1);
    if chown(&device.folder, Some(OWNER), Some(OWNER)).is_err() {
        eprintln!("skipped: only root can give a folder away");
        return;
    }
    assert_eq!(device.install(&one, &[]).status.code(), Some(0));
    for name in ["line", "line/bundles", "line/lock"] {
        assert_eq!(std::fs::metadata(device.path(name)).unwrap().uid(), OWNER, "{name}");
    }
    // What is there already keeps its owner.
    chown(device.path("line/bundles"), Some(0), Some(0)).unwrap();
    assert_eq!(device.install(&device.signed("two.tagpin", &numbered(2), 2), &[]).status.code(), Some(0));
    assert_eq!(std::fs::metadata(device.path("line/bundles")).unwrap().uid(), 0);
}
