//! A bundle that does worse than the one before it: a running line goes back by itself.

use crate::installed::{Device, GATE, Running, numbered};
use crate::program::*;
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, Instant};

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
