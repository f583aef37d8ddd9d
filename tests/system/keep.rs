//! Images of parts that are kept on disk: which, where, what stands beside them, and that nothing
//! that happens to the folder reaches the line.

use crate::program::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tagpin::pictures::{Budget, Picture};

const BARRIER: &str = "[trigger]\nkind = \"barrier\"\n[outputs.lamp]\nmode = \"level\"\non = [\"accept\"]\n";

/// A settings file of a line that keeps images in `folder`.
fn device(folder: &Path, more: &str) -> String {
    let text = format!("{BARRIER}[keep]\nfolder = \"{}\"\nfree_mb = 0\n{more}", folder.display());
    settings(&format!("{}-toml", folder.file_name().unwrap().to_str().unwrap()), &text)
}

/// A run of `count` parts, with its events.
fn run(file: &str, count: &str) -> (Vec<Value>, String) {
    let source = fast_conveyor(5);
    let out =
        finish(tagpin(&["run", "--bundle", PARTS, "--settings", file, "--source", &source, "--parts", count, "--json"]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    (events(&out), stderr(&out))
}

/// What stands beside each image that is there, by its part, with the image's path. Each image is
/// whole.
fn kept(folder: &Path) -> BTreeMap<u64, Vec<(PathBuf, Value)>> {
    let mut all = BTreeMap::<u64, Vec<_>>::new();
    for tag in std::fs::read_dir(folder).unwrap().flatten().filter(|e| e.file_type().unwrap().is_dir()) {
        for file in std::fs::read_dir(tag.path()).unwrap().flatten().map(|e| e.path()) {
            if file.extension().is_some_and(|e| e == "jpg") {
                Picture::open(&file, Budget::HOST).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                let json: Value = serde_json::from_slice(&std::fs::read(file.with_extension("json")).unwrap()).unwrap();
                all.entry(json["part"].as_u64().unwrap()).or_default().push((file, json));
            }
        }
    }
    all
}

/// Names that are not whole yet.
fn unfinished(folder: &Path) -> usize {
    let tags = std::fs::read_dir(folder).unwrap().flatten().filter(|e| e.file_type().unwrap().is_dir());
    let files = tags.flat_map(|tag| std::fs::read_dir(tag.path()).unwrap().flatten());
    files.filter(|file| file.file_name().to_string_lossy().ends_with(".part")).count()
}

/// What the sink has written, lost, and how often it was started again.
fn sink(events: &[Value]) -> [u64; 3] {
    let sinks = summary(events)["sinks"].as_array().unwrap();
    let keep = sinks.iter().find(|sink| sink["sink"] == "keep").unwrap();
    ["written", "lost", "restarts"].map(|key| keep[key].as_u64().unwrap())
}

fn told<'e>(events: &'e [Value], what: &str) -> Vec<&'e str> {
    let faults = of(events, "fault").into_iter().filter(|f| f["kind"] == "sink");
    faults.filter_map(|f| f["why"].as_str()).filter(|why| why.contains(what)).collect()
}

#[test]
fn each_image_that_is_kept_is_its_parts_and_says_what_the_line_said() {
    let folder = folder("keep-each");
    let roi = "[source]\nroi = { x = 40, y = 0, width = 240, height = 240 }\n";
    let file = device(&folder, "one_in = 1\n");
    std::fs::write(&file, roi.to_string() + &std::fs::read_to_string(&file).unwrap()).unwrap();
    let (events, _) = run(&file, "12");
    let kept = kept(&folder);
    let parts = of(&events, "part");
    // On a machine that has no time for the lowest priority an image may be lost; that is counted.
    let [_, lost, restarts] = sink(&events);
    assert_eq!((kept.len() as u64 + lost, parts.len(), restarts), (12, 12, 0));
    assert!(kept.len() > 6, "{lost} lost");
    for part in parts {
        let Some(images) = kept.get(&part["part"].as_u64().unwrap()) else { continue };
        let [(image, json)] = &images[..] else { panic!("{part}") };
        for key in ["part", "verdict", "action", "late", "bundle_sha256", "run"] {
            assert_eq!(json[key], part[key], "{key}: {json} {part}");
        }
        assert_eq!(json["kind"], "drawn", "a drawn part is kept as drawn, whatever else it is");
        // The part's tag is that of its folder, and its best scores are the first of its image's.
        let without = format!("_{}", json["verdict"].as_str().unwrap());
        let tag = json["tag"].as_str().unwrap_or(&without);
        assert_eq!(image.parent().unwrap().file_name().unwrap().to_str(), Some(tag));
        let raw = |list: &Value| list.as_array().unwrap()[..3].iter().map(|s| s["score_raw"].clone()).collect::<Vec<_>>();
        assert_eq!(raw(&json["scores"]), raw(&part["top"]), "{json} {part}");
        assert_eq!(json["frame"]["sequence"], part["images"].as_array().unwrap().last().unwrap()["sequence"]);
        assert_eq!(json["frame"]["captured_at"], part["captured_at"]);
        assert_eq!(json["frame"]["roi"], serde_json::json!([40, 0, 240, 240]));
        let region = Picture::open(image, Budget::HOST).unwrap();
        assert_eq!((region.width, region.height), (240, 240));
        assert_eq!((json["frame"]["width"].as_u64(), json["frame"]["height"].as_u64()), (Some(320), Some(240)));
    }
}

#[test]
fn parts_of_no_listed_kind_are_not_kept_and_those_that_are_go_by_their_days_and_megabytes() {
    let folder = folder("keep-kinds");
    let only = "uncertain_mb = 0\nforeign_mb = 0\ndisagreeing_mb = 0\n";
    let (events, _) = run(&device(&folder, only), "25");
    let rejected = of(&events, "part").into_iter().filter(|part| part["action"] == "reject");
    let rejected: BTreeSet<u64> = rejected.map(|part| part["part"].as_u64().unwrap()).collect();
    let found = kept(&folder);
    assert!(!rejected.is_empty() && rejected.len() < 25, "{rejected:?}");
    let kept_parts: BTreeSet<u64> = found.keys().copied().collect();
    assert!(!kept_parts.is_empty() && kept_parts.is_subset(&rejected), "{kept_parts:?} of {rejected:?}");
    assert_eq!(kept_parts.len() as u64 + sink(&events)[1], rejected.len() as u64);
    assert!(found.values().flatten().all(|(_, json)| json["kind"] == "rejected"));
    // The same line with a folder of its own and no rejects: nothing.
    let none = folder.join("none");
    std::fs::create_dir(&none).unwrap();
    let (events, _) = run(&device(&none, &format!("{only}rejected_mb = 0\none_in = 1000000000000\n")), "25");
    assert_eq!((kept(&none).len(), sink(&events)[1]), (0, 0));
}

#[test]
fn a_disk_without_room_costs_images_and_is_told_once_and_the_line_goes_on() {
    let folder = folder("keep-full");
    let file = device(&folder, "one_in = 1\n");
    run(&file, "10");
    assert!(!kept(&folder).is_empty());
    let full = std::fs::read_to_string(&file).unwrap().replace("free_mb = 0", "free_mb = 1000000000");
    std::fs::write(&file, full).unwrap();
    let (events, _) = run(&file, "10");
    assert_eq!(of(&events, "part").len(), 10);
    let whys = told(&events, "MB are free on its disk, 1000000000 stay free; make room or lower free_mb");
    assert_eq!((whys.len(), sink(&events)[1], kept(&folder).len()), (1, 10, 0), "{whys:?}");
    // An image above what a day allows.
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("= 1000000000", "= 0\nmax_mb_per_day = 1"))
        .unwrap();
    let (events, _) = run(&file, "25");
    let whys = told(&events, "as much is written as a day of 1 MB allows by now; raise max_mb_per_day");
    assert_eq!((whys.len(), sink(&events)[1] as usize), (1, 25 - kept(&folder).len()), "{whys:?}");
    assert!((1..25).contains(&kept(&folder).len()));
}

#[test]
fn what_is_no_folder_of_its_own_is_refused_with_every_other_problem() {
    let folder = folder("keep-refused");
    let check = |file: &str| {
        let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", file]));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let refused = |file: &str, why: &str| {
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", file, "--parts", "1"]));
        assert!(out.status.code() == Some(2) && stderr(&out).contains(why), "{why}: {}", stderr(&out));
    };
    let missing = device(&folder.join("missing"), "");
    refused(&missing, "missing does not exist; make it and give it to tagpin, or change [keep]");
    assert!(check(&missing).contains("PROBLEM  keep: ") && !folder.join("missing").exists());
    std::fs::write(folder.join("file"), "mine").unwrap();
    let in_place = device(&folder.join("file"), "");
    refused(&in_place, "file is no folder, expected one for images");
    assert!(check(&in_place).contains("file is no folder"));
    // Two lines on one folder would each count the other's images as free.
    let own = folder.join("own");
    std::fs::create_dir(&own).unwrap();
    let file = device(&own, "one_in = 5\n");
    let shown = check(&file);
    let a_day =
        "0 images of 0 MB, at most 4000 MB and 30 days, 800 MB a day: drawn, foreign, disagreeing, uncertain, rejected";
    assert!(shown.contains(&format!("ok       keep: {}, {a_day}", own.display())), "{shown}");
    let source = fast_conveyor(5);
    let mut first = tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--source", &source]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the first line has the folder", || check(&file).contains(", written by a run now"));
    refused(&device(&own, ""), "own is written by another run; stop it, or give this line a folder of its own");
    first.kill().unwrap();
    first.wait().unwrap();
    run(&file, "1");
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Killed at any moment, whatever is there is whole, and the next run takes it over.
#[test]
fn a_line_that_is_killed_leaves_whole_images_and_the_next_one_takes_them_over() {
    let folder = folder("keep-killed");
    let file = device(&folder, "one_in = 1\n");
    let count = || kept(&folder).values().map(Vec::len).sum::<usize>();
    let mut numbers = 0;
    for round in 1..=3 {
        let source = fast_conveyor(round);
        let mut child = tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--source", &source]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("images are kept", || count() >= numbers + 2);
        std::thread::sleep(Duration::from_millis(7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        numbers = count();
    }
    // What may be unfinished is removed by whoever takes the folder over.
    let stem = "tagpin-00000999-1795673066-rejected-part4";
    let half = kept(&folder).values().next().unwrap()[0].0.with_file_name(format!(".{stem}.part"));
    std::fs::write(&half, "half").unwrap();
    run(&file, "1");
    assert_eq!((count(), unfinished(&folder)), (numbers + 1, 0));
}

#[test]
fn a_folder_that_goes_away_is_told_once_and_images_are_kept_again_when_it_is_back() {
    let folder = folder("keep-away");
    let (path, away) = (folder.join("kept"), folder.join("away"));
    std::fs::create_dir(&path).unwrap();
    let (log, file) = (folder.join("log.jsonl"), device(&path, "one_in = 1\n"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[events]\npath = \"{}\"\n", log.display())).unwrap();
    let source = fast_conveyor(5);
    let mut child = tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--source", &source]);
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("images are kept", || !kept(&path).is_empty());
    std::fs::rename(&path, &away).unwrap();
    let logged = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    until("it is told", || told(&logged(), "kept does not exist; make it").len() == 1);
    let sorted = of(&logged(), "part").len();
    until("the line goes on", || of(&logged(), "part").len() > sorted + 3);
    assert!(!path.exists(), "a folder that is away is never made");
    std::fs::rename(&away, &path).unwrap();
    let before = kept(&path).len();
    until("images are kept again", || kept(&path).len() > before + 1);
    assert_eq!(told(&logged(), "kept does not exist").len(), 1);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let out = wait(child, Duration::from_secs(30));
    assert!(stderr(&out).contains("keep writes again; it has lost "), "{}", stderr(&out));
}

#[test]
fn purge_removes_what_was_kept_and_names_what_is_somebody_elses() {
    let folder = folder("keep-purge");
    let file = device(&folder, "one_in = 1\n");
    run(&file, "6");
    let count = kept(&folder).len();
    let image = kept(&folder).values().next().unwrap()[0].0.clone();
    let mine = image.with_file_name("mine.jpg");
    std::fs::copy(&image, &mine).unwrap();
    std::fs::write(folder.join("notes\u{1b}[2J.txt"), "mine").unwrap();
    // A file that no line could run is good enough to find the folder by.
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "[tags.unheard]\nthreshold = 0.5\n").unwrap();
    let out = finish(tagpin(&["keep", "purge", "--settings", &file]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && text.contains(&format!(": {count} images removed, {} files of 0.", 2 * count)),
        "{text}{}",
        stderr(&out)
    );
    let left: Vec<&str> = text.lines().skip(1).collect();
    let tag = mine.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert_eq!(left[0], format!("left     {tag}/mine.jpg: not written by tagpin, or an empty folder"), "{text}");
    assert!(left.len() == 2 && left[1].starts_with("left     notes") && !text.contains('\u{1b}'), "{text}");
    assert!(mine.exists());
    let again = finish(tagpin(&["keep", "purge", "--folder", &folder.display().to_string()]));
    assert!(String::from_utf8_lossy(&again.stdout).contains(": 0 images removed, 0 files of 0.0 MB"));
    for (args, why) in [
        (vec!["keep", "purge"], "required"),
        (vec!["keep", "purge", "--folder", "no/where"], "folder no/where does not exist"),
        (vec!["keep", "purge", "--settings", "no/where"], "no/where: cannot be read"),
    ] {
        let out = finish(tagpin(&args));
        assert!(out.status.code() == Some(2) && stderr(&out).contains(why), "{args:?}: {}", stderr(&out));
    }
    let nothing = settings("keep-none", BARRIER);
    let out = finish(tagpin(&["keep", "purge", "--settings", &nothing]));
    assert!(stderr(&out).contains("[keep] states no folder; nothing is kept"), "{}", stderr(&out));
}

#[test]
fn prometheus_sees_what_is_kept_and_held() {
    let folder = folder("keep-metrics");
    let text = format!("{BARRIER}[keep]\nfolder = \"{}\"\none_in = 1\nfree_mb = 0\n", folder.display());
    let line = crate::site::Line::start("keep-metrics", &format!("{text}[metrics]\nlisten = \"127.0.0.1:PORT\"\n"));
    let figure = |name: &str| -> f64 {
        let answer = line.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let row =
            answer.lines().find(|row| row.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {answer}"));
        row.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    until("three are kept", || figure("tagpin_keep_images_total{kind=\"drawn\"}") >= 3.0);
    assert!(figure("tagpin_keep_held_images") >= 3.0 && figure("tagpin_keep_held_bytes") >= 3.0 * 8192.0);
    assert_eq!(figure("tagpin_keep_lost_total{reason=\"folder\"}"), 0.0);
}
