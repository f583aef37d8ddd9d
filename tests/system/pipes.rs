//! Live pipes at a gate: what is on its way as the writer leaves, a part that is found in frames
//! that waited, words that waited before the run.

use crate::program::*;
use crate::words::gate;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SIDE: usize = 96;

/// A FIFO of frames, 30 a second until `ends`; each as `drawn` has it by its number.
fn film(folder: &Path, ends: &Arc<AtomicBool>, drawn: impl Fn(usize) -> Vec<u8> + Send + 'static) -> PathBuf {
    let path = folder.join("film");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (name, ends) = (path.clone(), ends.clone());
    std::thread::spawn(move || {
        let mut film = std::fs::File::create(name).unwrap();
        let _ = film.write_all(format!("YUV4MPEG2 W{SIDE} H{SIDE} F30:1 Cmono\n").as_bytes());
        for n in 0.. {
            if ends.load(Ordering::Acquire) || film.write_all(&[b"FRAME\n".as_slice(), &drawn(n)].concat()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(33));
        }
    });
    path
}

/// A grey belt, no two frames of it alike, with a bright part or without.
fn belt(n: usize, has_part: bool) -> Vec<u8> {
    let mut frame = vec![90; SIDE * SIDE];
    if has_part {
        (20..76).for_each(|row| frame[row * SIDE + 20..row * SIDE + 76].fill(220));
    }
    frame[0] = n as u8;
    frame
}

fn started(name: &str, text: &str) -> (Child, PathBuf) {
    let log = folder(&format!("{name}-log")).join("events.jsonl");
    let file = settings(name, &format!("{text}[events]\npath = \"{}\"\n", log.display()));
    let mut command = tagpin(&["run", "--bundle", PARTS, "--settings", &file]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    (command.spawn().unwrap(), log)
}

fn told(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn until(log: &Path, what: &str, wanted: impl Fn(&[Value]) -> bool) {
    for _ in 0..6000 {
        if wanted(&told(log)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: {:?}", told(log).last());
}

fn pulses(all: &[Value]) -> Vec<u64> {
    let active = of(all, "edge").into_iter().filter(|e| e["output"] == "any" && e["state"] == "active");
    active.map(|e| e["part"].as_u64().unwrap()).collect()
}

/// A part that had its verdict lost its gate because nobody filmed any more.
#[test]
fn the_end_of_a_live_source_lets_parts_on_their_way_be_sorted() {
    let ends = Arc::new(AtomicBool::new(false));
    let film = film(&folder("pipe-end"), &ends, |n| belt(n, false));
    let text = gate("kind = \"stdin\"\nmax_jitter_ms = 5000\nmax_latency_ms = 50\ndeadline_ms = 1000");
    let text = text.replace("conveyor?seed=21&fps=60", &format!("y4m:{}", film.display())).replace("300", "1500");
    let (mut child, log) = started("pipe-end-settings", &text);
    until(&log, "the start", |all| !of(all, "start").is_empty());
    std::thread::sleep(Duration::from_millis(500));
    child.stdin.as_mut().unwrap().write_all(b"trigger\n").unwrap();
    until(&log, "the verdict", |all| !of(all, "part").is_empty());
    ends.store(true, Ordering::Release);
    until(&log, "the end", |all| of(all, "fault").iter().any(|f| f["kind"] == "source_gone"));
    // A part that came to the trigger meanwhile was in no event and no figure. In an emulator the
    // drain may be over by then.
    let comes = !emulated();
    if comes {
        child.stdin.as_mut().unwrap().write_all(b"trigger\n").unwrap();
    }
    let out = wait(child, Duration::from_secs(60));
    let all = told(&log);
    let why = "a part passed the trigger as the run ends: it is not sorted";
    let is_told = of(&all, "fault").iter().any(|f| f["kind"] == "input" && f["why"].as_str().unwrap().starts_with(why));
    let passed_over = summary(&all)["passed_over"].as_u64().unwrap_or(0);
    assert_eq!((is_told, passed_over), (comes, comes as u64), "{}", summary(&all));
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert_eq!((pulses(&all), &summary(&all)["given_up"]), (vec![1], &json!(0)), "{}", summary(&all));
    assert_eq!((&summary(&all)["ended"], &summary(&all)["outputs_safe"]), (&json!("the live source ended"), &json!(true)));
}

/// Where each frame is a part, its pulse came earlier than the part by as much as the frame had
/// waited.
#[test]
fn a_frame_that_waited_is_no_part_of_a_gate_that_takes_each_and_the_next_are_sorted() {
    if emulated() {
        return;
    }
    let ends = Arc::new(AtomicBool::new(false));
    let film = film(&folder("pipe-every"), &ends, |n| belt(n, true));
    let text = gate("kind = \"every_frame\"\nmax_latency_ms = 100\nmin_spacing_ms = 0");
    let text = text.replace("conveyor?seed=21&fps=60", &format!("y4m:{}", film.display()));
    let text = text.replace("width_ms = 10\ndelay_ms = 300", "width_ms = 10\nwindow_ms = 400\ndelay_ms = 900");
    let (child, log) = started("pipe-every-settings", &text);
    until(&log, "pulses", |all| !pulses(all).is_empty());
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    kill_process(pid, Signal::CONT).unwrap();
    let is_safe = |f: &&Value| f["kind"] == "trigger" && f["action"] == "safe";
    until(&log, "the fault", |all| of(all, "fault").iter().any(&is_safe));
    let before = pulses(&told(&log)).len();
    until(&log, "pulses again", |all| pulses(all).len() > before + 2);
    let all = told(&log);
    let safe: Vec<Value> = of(&all, "fault").into_iter().filter(|f| is_safe(f)).cloned().collect();
    assert!(
        safe.iter().all(|f| f["why"].as_str().unwrap().starts_with("a part was found in a frame that may be ")),
        "{safe:?}"
    );
    ends.store(true, Ordering::Release);
    assert_eq!(wait(child, Duration::from_secs(60)).status.code(), Some(3));
}

/// The pulse of a part that was found in a frame that had waited came earlier than the part by as
/// much, and nobody was told.
#[test]
fn a_part_found_in_a_frame_that_waited_makes_a_gate_safe_and_the_next_is_sorted() {
    // In an emulator every frame waits.
    if emulated() {
        return;
    }
    let ends = Arc::new(AtomicBool::new(false));
    let shows = Arc::new(AtomicBool::new(false));
    let part = shows.clone();
    let film = film(&folder("pipe-waited"), &ends, move |n| belt(n, part.load(Ordering::Acquire)));
    let text = gate("kind = \"presence\"\narea = 0.1\nmax_latency_ms = 100\nmin_spacing_ms = 0");
    let text = text.replace("conveyor?seed=21&fps=60", &format!("y4m:{}", film.display()));
    let text = text.replace("width_ms = 10\ndelay_ms = 300", "width_ms = 10\nwindow_ms = 400\ndelay_ms = 900");
    let (child, log) = started("pipe-waited-settings", &text);
    let pass = |ms: u64| {
        shows.store(true, Ordering::Release);
        std::thread::sleep(Duration::from_millis(ms));
        shows.store(false, Ordering::Release);
    };
    until(&log, "the start", |all| !of(all, "start").is_empty());
    std::thread::sleep(Duration::from_millis(1000));
    pass(200);
    until(&log, "the first pulse", |all| pulses(all) == [1]);
    std::thread::sleep(Duration::from_millis(500));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    // The newest of the frames that wait shows it.
    shows.store(true, Ordering::Release);
    std::thread::sleep(Duration::from_millis(1500));
    kill_process(pid, Signal::CONT).unwrap();
    let is_safe = |f: &&Value| f["kind"] == "trigger" && f["action"] == "safe";
    until(&log, "the fault", |all| of(all, "fault").iter().any(&is_safe));
    shows.store(false, Ordering::Release);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(pulses(&told(&log)), [1], "the part that waited has none");
    pass(200);
    until(&log, "the next part's pulse", |all| pulses(all) == [1, 2]);
    kill_process(pid, Signal::INT).unwrap();
    let out = wait(child, Duration::from_secs(60));
    let all = told(&log);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let why: Vec<_> = of(&all, "fault").into_iter().filter(is_safe).map(|f| f["why"].as_str().unwrap().to_owned()).collect();
    assert!(why.len() == 1 && why[0].starts_with("a part was found in a frame that may be "), "{why:?}");
    ends.store(true, Ordering::Release);
}

/// Words of the time in which no run was there were parts of the one that began, at its begin.
#[test]
fn words_that_waited_before_a_run_open_no_part_in_it() {
    let text = gate("kind = \"stdin\"\nmax_jitter_ms = 5000");
    let file = settings("pipe-words", &text);
    let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file]);
    let (read, mut words) = std::io::pipe().unwrap();
    words.write_all(b"trigger\ntrigger\nack\n").unwrap();
    command.stdin(Stdio::from(read)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(if emulated() { 8000 } else { 2500 }));
    words.write_all(b"trigger\n").unwrap();
    drop(words);
    let out = wait(child, Duration::from_secs(60));
    let all = events(&out);
    assert_eq!((of(&all, "trigger").len(), pulses(&all), &summary(&all)["passed_over"]), (1, vec![1], &json!(3)));
    assert!(stderr(&out).contains("came between two runs, or before the first"), "{}", stderr(&out));
}
