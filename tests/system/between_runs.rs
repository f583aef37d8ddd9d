//! What comes while one run is over and the next not begun: the service manager's watchdog,
//! signals, words of a trigger.

use crate::program::*;
use crate::recipes::{OTHER, Site, recipe, runs};
use crate::words::{Line, gate};
use rustix::process::Signal;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A word to the service manager, and when it was heard.
type Heard = (Instant, String);

/// Between two runs the service manager hears of the line as within one: a change is no reason to
/// start it anew.
#[test]
fn the_service_managers_watchdog_is_fed_while_the_recipe_changes() {
    let folder = folder("recipe-notify");
    let text = format!(
        "[trigger]\nkind = \"barrier\"\n[state]\nfolder = \"{0}\"\n[events]\npath = \"{0}/events.jsonl\"\n\
         [recipes.other]\nbundle = \"{OTHER}\"\n",
        folder.display()
    );
    let file = settings("recipe-notify-settings", &text);
    let name = folder.join("notify.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&name).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut command = tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--source", &fast_conveyor(5)]);
    command.env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "200000");
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut words: Vec<Heard> = Vec::new();
    let mut hear_until = |what: &str, wanted: &dyn Fn(&[Heard]) -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        while !wanted(&words) {
            assert!(Instant::now() < end, "{what}: {words:?}");
            let mut bytes = [0; 64];
            if let Ok(n) = manager.recv(&mut bytes) {
                words.push((Instant::now(), String::from_utf8_lossy(&bytes[..n]).into_owned()));
            }
        }
        words.clone()
    };
    let count = |words: &[Heard], word: &str| words.iter().filter(|(_, w)| w == word).count();
    hear_until("the first run", &|words| count(words, "READY=1") == 1 && count(words, "WATCHDOG=1") > 2);
    assert_eq!(recipe(&["other"], &file).2, Some(0));
    let heard = hear_until("the second run", &|words| count(words, "READY=1") == 2);
    assert_eq!(count(&heard, "STOPPING=1"), 0, "{heard:?}");
    let begun = heard.last().unwrap().0;
    let alive = heard.iter().rev().find(|(_, word)| word == "WATCHDOG=1").unwrap().0;
    assert!(begun - alive < Duration::from_millis(if emulated() { 1000 } else { 180 }), "{:?} of silence", begun - alive);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    hear_until("the end", &|words| count(words, "STOPPING=1") == 1);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A FIFO of frames, a hundred a second until its first reader leaves.
fn film_for_one(folder: &std::path::Path) -> PathBuf {
    let path = folder.join("film");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let name = path.clone();
    std::thread::spawn(move || {
        let mut film = std::fs::File::create(name).unwrap();
        let mut frame = [b"FRAME\n".to_vec(), vec![90; 96 * 96]].concat();
        let mut sent = film.write_all(b"YUV4MPEG2 W96 H96 F100:1 Cmono\n");
        while sent.is_ok() {
            frame[50] = frame[50].wrapping_add(1);
            sent = film.write_all(&frame);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    path
}

/// A camera that takes its time, or gives nothing, kept a line from ending between two recipes: a
/// signal was heard 20 s later, with exit code 2.
#[test]
fn a_signal_while_the_next_recipes_source_is_opened_ends_the_line_at_once() {
    for (i, signal) in [Signal::TERM, Signal::INT, Signal::HUP].into_iter().enumerate() {
        let site = Site::new(&format!("recipe-signal-{i}"), "[recipes.good]\n");
        let text = gate(&site.trigger);
        let text = text.replace("conveyor?seed=21&fps=60", &format!("y4m:{}", film_for_one(&site.folder).display()));
        let name = format!("recipe-signal-{i}-settings");
        let file = settings(&name, &text.replace("max_jitter_ms = 5000", "max_jitter_ms = 5000\nmax_latency_ms = 50"));
        let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        site.until("the first run", |all| !of(all, "start").is_empty());
        assert_eq!(recipe(&["good"], &file).2, Some(0));
        site.until("the end of the first run", |all| all.last().is_some_and(|last| last["event"] == "summary"));
        // The next run waits for its source's first bytes, for as long as 10 s.
        std::thread::sleep(Duration::from_millis(1000));
        let begin = Instant::now();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let out = wait(child, Duration::from_secs(60));
        let took = begin.elapsed();
        let (all, err) = (site.told(), stderr(&out));
        assert_eq!(out.status.code(), Some(0), "{err}");
        assert!(took < Duration::from_millis(if emulated() { 5000 } else { 1000 }), "{signal:?}: {took:?}");
        assert_eq!(err.matches("stopped by a signal").count(), 1, "{err}");
        assert_eq!((of(&all, "start").len(), of(&all, "summary").len()), (1, 1), "no run begins: {err}");
        assert_eq!((&summary(&all)["ended"], &summary(&all)["outputs_safe"]), (&json!("another recipe"), &json!(true)));
        // The choice stays: a start goes on with it.
        assert_eq!(site.recorded().len(), 1);
        assert!(recipe(&[], &file).0.contains("* 1  good"), "{:?}", recipe(&[], &file));
    }
}

/// Words that came between two runs waited in the pipe: each was a part of the next run, with the
/// run's begin for its trigger, and the gate threw out what was there by then.
#[test]
fn a_word_around_a_change_is_a_part_of_the_run_that_it_came_to_or_is_passed_over() {
    // In an emulator a word is read when there is time for it.
    if emulated() {
        return;
    }
    let (seed, cases) = drawn_cases(2);
    for case in 0..cases {
        let mut random = tagpin::random::Random::new(seed, case);
        let mut pause = || std::thread::sleep(Duration::from_millis(15 + random.next() % 45));
        let site = Site::new("recipe-between", "[recipes.same]\n");
        let file = site.file("recipe-between-settings");
        let mut line = Line::start("recipe-between-line", &site.trigger, &[]);
        // Of each word the moment before it was written and the one after.
        let mut words = Vec::new();
        let mut write = |line: &mut Line| {
            let before = now_us();
            // In two pieces now and then.
            let (first, second) = b"trigger\n".split_at(words.len() % 8);
            line.write(first);
            line.write(second);
            words.push([before, now_us()]);
        };
        (0..3).for_each(|_| {
            write(&mut line);
            pause();
        });
        assert_eq!(recipe(&["same"], &file).2, Some(0));
        let end = Instant::now() + Duration::from_secs(60);
        while of(&site.told(), "start").len() < 2 {
            assert!(Instant::now() < end, "seed {seed}, case {case}: no second run");
            write(&mut line);
            pause();
        }
        std::thread::sleep(Duration::from_millis(400));
        (0..3).for_each(|_| {
            write(&mut line);
            pause();
        });
        std::thread::sleep(Duration::from_millis(1000));
        line.signal(Signal::INT);
        let (code, all, err) = line.end();
        assert_eq!(code, Some(0), "{err}");
        let runs = runs(&all);
        let triggers =
            [0, 1].map(|i| of(&runs[i], "trigger").iter().map(|t| t["trigger"].as_u64().unwrap()).collect::<Vec<_>>());
        let passed_over = runs.iter().map(|run| summary(run)["passed_over"].as_u64().unwrap_or(0));
        let [first, second] = [0, 1].map(|i| triggers[i].len());
        let told = format!("seed {seed}, case {case}: {words:?}, {triggers:?}, {err}");
        assert!(first >= 3 && second >= 3 && err.contains("came between two runs"), "{told}");
        assert_eq!(first + second + passed_over.sum::<u64>() as usize, words.len(), "{told}");
        // In their order: parts of the first run, what was passed over, parts of the second.
        let parts = words[..first].iter().zip(&triggers[0]).chain(words[words.len() - second..].iter().zip(&triggers[1]));
        for ([before, after], trigger) in parts {
            assert!(before <= trigger && *trigger <= after + 100_000, "{before}..{after}, {trigger}: {told}");
        }
    }
}

/// The clock of events' moments.
fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}
