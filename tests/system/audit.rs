//! The record of changes through the binary: what people change is in it with who did, nothing is
//! changed that cannot be recorded, and what somebody does to the file shows.

use crate::page::{KEY, body, device, get, post, sha256};
use crate::plc::{Plc, free_port};
use crate::program::*;
use crate::words::{self, sorted};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tagpin::audit::{Change, Log};

/// Records without their hashes, as the file has them.
pub fn records(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(&line[65..]).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Waits for records; other processes write them a moment later.
fn until(log: &Path, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let all = records(log);
        if wanted(&all) {
            return all;
        }
        assert!(Instant::now() < end, "{what}: {all:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `tagpin audit COMMAND` of a file: what it prints, and its exit code.
fn audit(args: &[&str], log: &Path) -> (String, Option<i32>) {
    let out = finish(tagpin(&[&["audit"], args, &["--log", log.to_str().unwrap()]].concat()));
    (String::from_utf8(out.stdout).unwrap(), out.status.code())
}

/// As if the disk were full for a process once a file of its is this long; `None`: not any more.
fn full_at(pid: Pid, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).unwrap().len()
}

#[test]
fn a_threshold_that_somebody_sets_is_recorded_with_who_and_not_set_where_it_cannot_be() {
    let folder = folder("audit-page");
    let log = folder.join("audit.log");
    let line = crate::site::Line::start("audit-page", &device(&folder, &folder.join("events.jsonl")));
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n");
    let set = |threshold: f64| {
        post(&line, "/rules", &headers, &json!({ "tags": [{ "tag": "nut", "threshold": threshold, "review_low": 0.25 }] }))
    };
    let nut = || {
        let state = body(&get(&line, "/state"));
        state["tags"].as_array().unwrap().iter().find(|t| t["tag"] == "nut").unwrap()["threshold"].clone()
    };
    let first = until(&log, "bundle and keys of the start", |all| all.len() == 2);
    assert_eq!((&first[0]["what"], &first[1]["what"]), (&json!("bundle"), &json!("keys of [page]")));
    assert_eq!(first[1]["new"], &sha256(KEY)[..15]);
    assert!(set(1.0).starts_with("HTTP/1.1 200"));
    let all = records(&log);
    let who = format!("page, 127.0.0.1, key {}", &sha256(KEY)[..15]);
    let expected = json!({
        "time": all[2]["time"], "who": who, "what": "threshold nut", "old": "0.500008, review from 0.500008",
        "new": "1.000000, review from 0.250004", "before": all[2]["before"],
    });
    assert_eq!((all.len(), &all[2]), (3, &expected));
    // Full amid the line: nothing of it is left, and nothing is set.
    full_at(line.pid(), Some(length(&log) + 10));
    let (before, overrides) = (std::fs::read(&log).unwrap(), std::fs::read(folder.join("overrides.toml")).unwrap());
    let answer = set(0.75);
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("it cannot be recorded who did"), "{answer}");
    assert!(answer.contains("audit.log") && answer.contains("nothing was changed"), "{answer}");
    assert_eq!((nut(), std::fs::read(&log).unwrap()), (json!(1.0), before));
    assert_eq!(std::fs::read(folder.join("overrides.toml")).unwrap(), overrides);
    full_at(line.pid(), None);
    // Recorded, and not to be saved: on a full disk the record went on saying that it was done.
    std::fs::write(folder.join("overrides.toml"), "spoiled").unwrap();
    let before = std::fs::read(&log).unwrap();
    let answer = set(0.75);
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("nothing was changed"), "{answer}");
    assert_eq!((nut(), std::fs::read(&log).unwrap()), (json!(1.0), before));
    std::fs::write(folder.join("overrides.toml"), overrides).unwrap();
    assert!(set(0.75).starts_with("HTTP/1.1 200"));
    // A line that was changed is not gone on with.
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let answer = set(0.5);
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("line 4: it is not what its hash says"), "{answer}");
    assert_eq!(audit(&["verify"], &log), ("BROKEN   line 4: it is not what its hash says\n".into(), Some(1)));
    bytes[at] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let (text, code) = audit(&["verify"], &log);
    assert!(code == Some(0) && text.starts_with("whole    ") && text.contains("records: 4, head "), "{text}");
}

#[test]
fn acknowledgements_are_recorded_by_who_gave_them_and_a_full_disk_stops_no_part() {
    let folder = folder("audit-acknowledge");
    let (log, port) = (folder.join("audit.log"), free_port());
    let trigger = format!(
        "kind = \"stdin\"\nmax_jitter_ms = 5000\n[state]\nfolder = \"{}\"\n[modbus]\nlisten = \"127.0.0.1:{port}\"\n\
         write = \"yes\"\nallow = [\"127.0.0.1\"]\n",
        folder.display()
    );
    let mut line = words::Line::start("audit-acknowledge-settings", &trigger, &[]);
    until(&log, "the bundle of the start", |all| all.len() == 1);
    let by = |who: &'static str| {
        move |all: &[Value]| {
            let of = all.iter().filter(|r| r["what"] == "acknowledge" && r["who"] == who);
            // Those of one second are one line.
            let times = |r: &Value| r["new"].as_str().unwrap().strip_suffix(" times").map_or(1, |n| n.parse().unwrap());
            of.map(times).sum::<u64>()
        }
    };
    line.write(b"ack\nack\nack\nnonsense\n");
    until(&log, "three by word", |all| by("standard input")(all) == 3);
    // What was told is cleared; a second time there is nothing left to clear.
    let mut plc = Plc::connect(port);
    for _ in 0..2 {
        assert_eq!(plc.coil(2, true), [5, 0, 2, 0xff, 0]);
        assert_eq!(plc.coil(2, false), [5, 0, 2, 0, 0]);
    }
    until(&log, "one by a PLC", |all| by("modbus 127.0.0.1")(all) == 1);
    full_at(line.pid(), Some(length(&log)));
    line.write(b"ack\n");
    for _ in 0..5 {
        line.write(b"trigger\n");
        std::thread::sleep(Duration::from_millis(300));
    }
    std::thread::sleep(Duration::from_millis(1200));
    full_at(line.pid(), None);
    line.write(b"ack\n");
    until(&log, "one more by word", |all| by("standard input")(all) == 4);
    // A folder in the place of the run's is no place for it: it stood there, and nowhere else.
    let away = folder.with_extension("away");
    let _ = std::fs::remove_dir_all(&away);
    std::fs::rename(&folder, &away).unwrap();
    std::fs::create_dir(&folder).unwrap();
    line.write(b"ack\n");
    std::thread::sleep(Duration::from_millis(1600));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    std::fs::remove_dir(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!((code, sorted(&all)), (Some(0), 5), "{err}");
    let told: Vec<&Value> = of(&all, "fault").into_iter().filter(|f| f["kind"] == "sink").collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for (fault, reason) in told.iter().zip(["audit.log", "another folder than when this run began"]) {
        let why = fault["why"].as_str().unwrap();
        assert!(why.starts_with("not recorded: acknowledge by standard input: ") && why.contains(reason), "{why}");
    }
    assert_eq!(audit(&["verify"], &log).1, Some(0));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A state folder with its record, which a run has begun, and a folder for bundles in it.
fn state(name: &str) -> (PathBuf, PathBuf) {
    let folder = folder(name);
    let text = format!("[trigger]\nkind = \"barrier\"\n[state]\nfolder = \"{}\"\n", folder.display());
    let file = settings(&format!("{name}-settings"), &text);
    for _ in 0..2 {
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "1"]));
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    }
    let log = folder.join("audit.log");
    assert_eq!(records(&log).len(), 1, "the second run starts with the same bundle");
    (folder, log)
}

#[test]
fn commands_that_change_something_are_recorded_and_refused_where_they_cannot_be() {
    let (folder, log) = state("audit-commands");
    let (line, kept) = (folder.join("line"), folder.join("kept"));
    std::fs::create_dir(&kept).unwrap();
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/board/patterns.tagpin");
    let install = |bundle| tagpin(&["bundle", "install", bundle, "--into", path(&line), "--force-restart", "--no-line"]);
    let purge = || finish(tagpin(&["keep", "purge", "--folder", path(&kept)]));
    for command in
        [install(PARTS), install(other), tagpin(&["bundle", "rollback", path(&line), "--force-restart", "--no-line"])]
    {
        let out = finish(command);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    }
    assert_eq!(purge().status.code(), Some(0));
    let all = records(&log);
    let what: Vec<&str> = all.iter().map(|r| r["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["bundle", "bundle installed", "bundle installed", "bundle rolled back", "keep purged"]);
    assert!(all[1..].iter().all(|r| r["who"].as_str().unwrap().starts_with("user ")), "{all:?}");
    let hash = all[0]["new"].as_str().unwrap().strip_prefix("parts ").unwrap();
    assert_eq!((all[1]["old"].as_str(), all[1]["new"].as_str()), (Some(""), Some(hash)));
    assert_eq!((&all[2]["old"], &all[3]["new"]), (&json!(hash), &json!(hash)));
    // The table keeps to 80 columns and has a row for each.
    let (text, code) = audit(&["show"], &log);
    assert!(code == Some(0) && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("20")).count(), 5, "{text}");
    assert!(text.contains("start of a run") && text.contains(&format!(" -> {}\n", &hash[..12])), "{text}");
    // Where nothing can be recorded nothing is done; without a record nobody asked for one.
    let good = std::fs::read(&log).unwrap();
    std::fs::write(&log, [good.as_slice(), b"notes\n"].concat()).unwrap();
    let current = std::fs::read_link(line.join("current")).ok();
    for out in [finish(install(other)), purge()] {
        assert!(out.status.code() == Some(2) && stderr(&out).contains("nothing was changed, because"), "{}", stderr(&out));
    }
    assert_eq!(std::fs::read_link(line.join("current")).ok(), current);
    std::fs::remove_file(&log).unwrap();
    assert_eq!((purge().status.code(), log.exists()), (Some(0), false));
}

#[test]
fn what_is_done_to_the_file_is_named_by_its_line_and_a_power_cut_by_its_name() {
    let (folder, log) = state("audit-verify");
    let kept = folder.join("kept");
    std::fs::create_dir(&kept).unwrap();
    let purge = || assert_eq!(finish(tagpin(&["keep", "purge", "--folder", path(&kept)])).status.code(), Some(0));
    (0..3).for_each(|_| purge());
    let good = std::fs::read(&log).unwrap();
    let (text, code) = audit(&["verify"], &log);
    let head = text.trim_end().rsplit(' ').next().unwrap().to_string();
    assert!(code == Some(0) && text.contains("records: 4, head ") && head.len() == 64, "{text}");
    let lines: Vec<&[u8]> = good.split_inclusive(|b| *b == b'\n').collect();
    let changed = String::from_utf8(good.clone()).unwrap().replacen("keep purged", "keep purgeD", 1).into_bytes();
    for (what, bytes, line) in [
        ("a byte", changed, 2),
        ("removed", [lines[0], lines[2], lines[3]].concat(), 2),
        ("the first removed", lines[1..].concat(), 1),
        ("swapped", [lines[0], lines[2], lines[1], lines[3]].concat(), 2),
        ("doubled", [lines[0], lines[1], lines[1], lines[2]].concat(), 3),
        ("another file", b"[page]\n".to_vec(), 1),
    ] {
        std::fs::write(&log, &bytes).unwrap();
        let (text, code) = audit(&["verify"], &log);
        assert!(code == Some(1) && text.starts_with(&format!("BROKEN   line {line}: ")), "{what}: {text}");
        // It was gone on with where its last line was whole.
        let out = finish(tagpin(&["keep", "purge", "--folder", path(&kept)]));
        assert!(out.status.code() == Some(2) && stderr(&out).contains("nothing was changed"), "{what}: {}", stderr(&out));
        assert_eq!(std::fs::read(&log).unwrap(), bytes, "{what}");
        let (text, code) = audit(&["show"], &log);
        assert!(code == Some(1) && text.contains(&format!("BROKEN   line {line}: ")), "{what}: {text}");
    }
    let file =
        settings("audit-check", &format!("[trigger]\nkind = \"barrier\"\n[state]\nfolder = \"{}\"\n", folder.display()));
    let check = || String::from_utf8(finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file])).stdout).unwrap();
    assert!(check().contains("audit.log: line 1: it is not what its hash says"), "{}", check());
    // Lines that are cut off at the end are a shorter record, which lacks the head of before.
    std::fs::write(&log, lines[..3].concat()).unwrap();
    assert_eq!(audit(&["verify"], &log).1, Some(0));
    let (text, code) = audit(&["verify", "--head", &head[..12]], &log);
    assert!(code == Some(1) && text.contains("BROKEN   no line has the hash"), "{text}");
    std::fs::write(&log, &good).unwrap();
    assert!(!check().contains("audit.log"), "{}", check());
    assert_eq!(audit(&["verify", "--head", &head[..12]], &log).1, Some(0));
    // A power cut amid a line.
    std::fs::write(&log, &good[..good.len() - 40]).unwrap();
    let (text, code) = audit(&["verify"], &log);
    assert!(code == Some(1) && text.starts_with("CUT OFF  line 4: ") && text.contains("records: 3, "), "{text}");
    purge();
    let (text, code) = audit(&["verify"], &log);
    assert!(code == Some(0) && text.starts_with("torn     line 4: ") && text.contains("records: 4, "), "{text}");
    assert!(std::fs::read(&log).unwrap().starts_with(&good[..good.len() - 40]), "what it left is kept");
}

/// A pager that stayed on its first page held the record: `tagpin recipe` hung without a word, and
/// the line changed its recipe when the pager was left.
#[test]
fn a_pager_that_stays_on_the_record_stops_no_change() {
    let folder = folder("audit-pager");
    let log = folder.join("audit.log");
    let change = |i: usize| Change { who: "test".into(), what: "x".into(), old: String::new(), new: i.to_string() };
    Log::at(&log).append((0..5000).map(change).collect()).unwrap();
    let text =
        format!("[trigger]\nkind = \"barrier\"\n[state]\nfolder = \"{}\"\n[recipes.a]\n[recipes.b]\n", folder.display());
    let file = settings("audit-pager-settings", &text);
    let mut pager = tagpin(&["audit", "show", "--log", log.to_str().unwrap()]);
    let mut pager = pager.stdout(Stdio::piped()).spawn().unwrap();
    // It has written what a pipe takes, and waits.
    std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 500 }));
    let recipe = |name: &str| finish(tagpin(&["recipe", name, "--settings", &file, "--bundle", PARTS]));
    let out = recipe("a");
    assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(0), ""));
    assert!(pager.try_wait().unwrap().is_none(), "it stays");
    let shown = wait(pager, Duration::from_secs(60));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("x: 4999") && !shown.contains("recipe"), "what was there when it began");
    // Somebody who holds it without an end.
    let holder = std::fs::File::open(&log).unwrap();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockShared).unwrap();
    let before = std::fs::read(&log).unwrap();
    let out = recipe("b");
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("nothing was changed") && stderr(&out).contains("has held its lock"), "{}", stderr(&out));
    drop(holder);
    assert_eq!(std::fs::read(&log).unwrap(), before);
    assert!(std::fs::read_to_string(folder.join("recipe.toml")).unwrap().contains("\"a\""));
    assert_eq!(recipe("b").status.code(), Some(0));
}
