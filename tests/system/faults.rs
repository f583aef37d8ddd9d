//! Every row of the failure table, through the binary: inject the fault, read the timeline.

use crate::program::*;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};
use std::time::Duration;

/// Outputs whose safe state is active, so that going safe shows as an edge that no verdict asks
/// for.
fn guarded(name: &str, source: &str, extra: &str) -> String {
    let text = format!(
        "[source]\nopen = \"{source}\"\nframe_timeout_ms = 300\nfrozen_after = 5\n[decide]\nstale_after_ms = 400\n\
         [safety]\nwatchdog_ms = 1500\nmax_faults = 3\n{extra}\n\
         [outputs.run_enable]\nsafe = \"inactive\"\nmode = \"level\"\non = [\"accept\", \"reject\"]\n\
         [outputs.reject_gate]\nsafe = \"active\"\nmode = \"level\"\non = [\"tag:gear\"]\n"
    );
    settings(name, &text)
}

fn run(name: &str, source: &str, args: &[&str]) -> (Output, Vec<Value>) {
    let file = guarded(name, source, "");
    let mut all = vec!["run", "--json", "--bundle", PARTS, "--settings", &file];
    all.extend(args);
    let out = finish(tagpin(&all));
    let events = events(&out);
    (out, events)
}

/// Both lines end safe, and the fault is counted.
fn assert_safe(events: &[Value], fault: &str) {
    let s = summary(events);
    assert!(s["faults"][fault].as_u64().unwrap_or(0) >= 1, "no {fault} in {s}");
    assert!(of(events, "fault").iter().any(|e| e["kind"] == fault && e["action"] == "safe"));
    assert_ne!(final_state(events, "run_enable"), "active");
    assert_ne!(final_state(events, "reject_gate"), "inactive");
}

/// The fault made the lines safe while the run went on, and a later part moved them again.
fn assert_recovers(source_fault: &str, fault: &str) {
    let name = format!("recover-{fault}");
    let (out, events) = run(&name, &format!("faulty(conveyor?fps=60)?seed=3&after=20&{source_fault}"), &["--parts", "120"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_safe(&events, fault);
    let first = events.iter().position(|e| e["event"] == "fault" && e["kind"] == fault).unwrap();
    let after = &events[first..];
    let state_after =
        |line: &str, state: &str| after.iter().any(|e| e["event"] == "edge" && e["line"] == line && e["state"] == state);
    assert!(state_after("reject_gate", "active"), "{fault}: the gate goes safe");
    assert!(state_after("run_enable", "active"), "{fault}: and the line comes back");
    // Each silence of 300 ms was told twice: by the thread that waits for frames, and by the line's.
    if fault == "no_frame" {
        let told = of(&events, "fault").into_iter().filter(|e| e["kind"] == fault);
        let told: Vec<u64> = told.map(|e| e["at"].as_u64().unwrap()).collect();
        assert!(told.len() > 1 && told.windows(2).all(|pair| pair[1] - pair[0] > 250_000), "{told:?}");
    }
}

#[test]
fn lost_frames_make_the_line_safe_and_it_recovers() {
    assert_recovers("drop=0.05", "no_frame");
}

#[test]
fn a_frozen_camera_makes_the_line_safe_and_is_reopened() {
    assert_recovers("freeze=0.03", "frozen");
}

#[test]
fn stale_frames_make_the_line_safe() {
    assert_recovers("delay=0.05&delay_ms=500", "stale");
}

#[test]
fn truncated_frames_make_the_line_safe() {
    assert_recovers("truncate=0.05", "truncated");
}

#[test]
fn corrupt_frames_make_the_line_safe() {
    assert_recovers("corrupt=0.05", "corrupt");
}

#[test]
fn a_format_that_changes_makes_the_line_safe_and_the_source_is_reopened() {
    assert_recovers("format=0.03", "format_changed");
}

#[test]
fn a_source_that_is_gone_makes_the_line_safe_and_is_reopened() {
    assert_recovers("gone=0.03", "source_gone");
}

#[test]
fn engine_errors_and_logits_at_a_rail_are_held_safe_with_exit_3() {
    for drill in ["engine@4", "rails@4"] {
        let (out, events) = run(&format!("engine-{}", &drill[..5]), "conveyor?fps=60", &["--drill", drill]);
        assert_eq!(out.status.code(), Some(3), "{drill}");
        assert_safe(&events, "engine");
        let s = summary(&events);
        assert_eq!(
            (s["accept"].as_u64().unwrap() + s["reject"].as_u64().unwrap(), s["safe"].as_u64().unwrap()),
            (3, 3),
            "{s}"
        );
    }
}

#[test]
fn a_panic_leaves_the_outputs_safe_and_exits_101() {
    let (out, events) = run("panic", "conveyor?fps=60", &["--drill", "panic@4"]);
    assert_eq!(out.status.code(), Some(101));
    assert_safe(&events, "panic");
}

/// With RUST_BACKTRACE in the environment the outputs went safe up to two seconds later, and a
/// signal in that time made exit 0 of it.
#[test]
fn a_panic_makes_the_outputs_safe_at_once_also_where_backtraces_are_asked_for() {
    let file = beside_a_jam("panic-backtrace", if emulated() { 20_000 } else { 5000 });
    let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--drill", "panic@4"]);
    let mut child = command.env("RUST_BACKTRACE", "1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut all, mut signals) = (Vec::<Value>::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        all.push(serde_json::from_str(&line.unwrap()).unwrap());
        if all.last().is_some_and(|e| e["event"] == "fault") {
            let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            signals += killed.unwrap().success() as u32;
        }
    }
    let out = wait(child, Duration::from_secs(20));
    assert_eq!((out.status.code(), signals > 0), (Some(101), true));
    let s = summary(&all);
    assert_eq!(
        (s["ended"].as_str(), &s["faults"]["panic"], s["outputs_safe"].as_bool()),
        (Some("panic"), &1.into(), Some(true))
    );
    let fault = of(&all, "fault").into_iter().find(|f| f["kind"] == "panic").unwrap();
    let last_part = of(&all, "part").into_iter().rfind(|p| p["reason"].is_null()).unwrap();
    let after = fault["at"].as_u64().unwrap() - last_part["at"].as_u64().unwrap();
    // The next part comes 100 ms after it, and its frame 17 ms later.
    assert!(after < if emulated() { 10_000_000 } else { 400_000 }, "{after} us");
    let why = fault["why"].as_str().unwrap();
    assert!(why.starts_with("the thread \"line\" panicked at src/supervisor/drill.rs:") && why.ends_with("panics"), "{why}");
    assert!(stderr(&out).contains(why) && !stderr(&out).contains("stack backtrace"), "{}", stderr(&out));
}

#[test]
fn a_hung_inference_is_made_safe_after_one_missed_beat() {
    let (out, events) = run("hang", "conveyor?fps=60", &["--drill", "hang@4"]);
    assert_eq!(out.status.code(), Some(3));
    assert_safe(&events, "missed_beat");
    // The gate went safe no later than the watchdog, a beat and some slack after the last part
    // moved it.
    let last_part = of(&events, "part").last().unwrap()["captured_at"].as_u64().unwrap();
    let edges = of(&events, "edge");
    let safe = edges.iter().find(|e| e["part"] == 0 && e["line"] == "reject_gate").unwrap();
    let patience = if emulated() { 20_000_000 } else { 2_500_000 };
    assert!(safe["done"].as_u64().unwrap() - last_part < patience, "{safe}");
}

/// From its third write on the output fails, as a chip does that is gone.
#[test]
fn an_output_that_cannot_be_written_makes_the_others_safe_and_exits_3() {
    let text = "[source]\nopen = \"conveyor?seed=7&speed=1600\"\n[trigger]\nkind = \"barrier\"\n[safety]\nmax_faults = 5\n\
         [outputs.reject_gate]\nsafe = \"active\"\nmode = \"level\"\non = [\"tag:gear\"]\n\
         [outputs.lamp]\nmode = \"pulse\"\nwidth_ms = 30\non = [\"accept\", \"reject\"]\n";
    let file = settings("unwritable", text);
    let out = finish(tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--drill", "unwritable:lamp@3"]));
    let all = events(&out);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert!(summary(&all)["faults"]["output"].as_u64().unwrap() >= 5);
    let lamp: Vec<_> = of(&all, "edge").into_iter().filter(|e| e["line"] == "lamp").map(|e| e["outcome"].clone()).collect();
    assert_eq!((&lamp[..2], lamp[2].as_str()), (&["done".into(), "done".into()][..], Some("failed")), "{lamp:?}");
    assert_eq!(final_state(&all, "reject_gate"), "active");
    assert!(stderr(&out).contains("output \"lamp\""), "{}", stderr(&out));
    assert_eq!(summary(&all)["outputs_safe"], false, "nobody knows what the lamp shows");
    for (drill, told) in
        [("unwritable:gate@3", "expected one of \"lamp\", \"reject_gate\""), ("unwritable@3", "unwritable:OUTPUT@N")]
    {
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--drill", drill]));
        assert!(out.status.code() == Some(2) && stderr(&out).contains(told), "{drill}: {}", stderr(&out));
    }
}

/// A gate that stays active because nobody can write it is no success, whatever ended the run: with
/// its last parts decided it said so in words and exited 0.
#[test]
fn a_run_that_cannot_bring_its_outputs_to_their_safe_state_exits_3_whatever_ended_it() {
    let text = "[source]\nopen = \"conveyor?seed=7&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 200\n\
         [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 50\ndelay_ms = 400\non = [\"accept\", \"reject\", \"review\"]\n";
    let file = settings("left-active", text);
    let run = |drill: &[&str]| {
        let out =
            finish(tagpin(&[&["run", "--json", "--bundle", PARTS, "--settings", &file, "--parts", "3"], drill].concat()));
        let all = events(&out);
        (out.status.code(), summary(&all)["outputs_safe"].clone(), summary(&all)["ended"].clone())
    };
    // Its sixth write is the end of the third pulse, which every part has.
    let left = run(&["--drill", "unwritable:gate@6"]);
    assert_eq!(left, (Some(3), false.into(), "done".into()));
    assert_eq!(run(&[]), (Some(0), true.into(), "done".into()));
}

/// Parts that were on their way as the lines went safe were told and counted as accepted or
/// rejected, though no pulse ever came, and nothing named them.
#[test]
fn parts_on_their_way_when_the_line_goes_safe_are_named_and_not_told_as_sorted() {
    let text = "[source]\nopen = \"conveyor?seed=7&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"stdin\"\n\
         max_jitter_ms = 2000\nmin_spacing_ms = 50\ntoo_close = \"safe\"\ndeadline_ms = 1500\n[decide]\nunknown = \"accept\"\n\
         [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 50\ndelay_ms = 2000\non = [\"accept\", \"reject\", \"review\"]\n";
    let file = settings("named", text);
    let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        // Three parts apart, then two that touch; a part long after, which is sorted.
        for pause in [300, 300, 1, 300, 600] {
            words.write_all(b"trigger\n").unwrap();
            std::thread::sleep(Duration::from_millis(pause));
        }
        words.write_all(b"trigger\n").unwrap();
        std::thread::sleep(Duration::from_millis(2500));
    });
    let out = wait(child, Duration::from_secs(60));
    writer.join().unwrap();
    let all = events(&out);
    let given_up: Vec<u64> =
        of(&all, "fault").iter().filter(|f| f["kind"] == "given_up").filter_map(|f| f["part"].as_u64()).collect();
    assert!(!given_up.is_empty(), "{}", stderr(&out));
    let pulses: Vec<u64> = of(&all, "edge")
        .iter()
        .filter(|e| e["state"] == "active" && e["outcome"] == "done")
        .filter_map(|e| e["part"].as_u64())
        .collect();
    let safe_at = all.iter().position(|e| e["event"] == "fault" && e["kind"] == "given_up").unwrap();
    let mut sorted = 0;
    for (at, part) in all.iter().enumerate().filter(|(_, e)| e["event"] == "part") {
        let number = part["part"].as_u64().unwrap();
        let has_pulse = pulses.contains(&number);
        // Told before the line went safe, or not told as sorted; each with a pulse is.
        assert!(at < safe_at || has_pulse == (part["action"] != "safe"), "part {number}: {part}, pulses {pulses:?}");
        sorted += usize::from(has_pulse);
    }
    assert!(sorted >= 1, "the parts after it are sorted: {pulses:?}");
    assert_eq!(out.status.code(), Some(3), "the input ended: {}", stderr(&out));
}

/// A gate whose pulse is under way when the output beside it hangs, and a line whose safe state is
/// active.
fn beside_a_jam(name: &str, watchdog_ms: u32) -> String {
    let every = "on = [\"accept\", \"reject\", \"review\"]";
    let text = format!(
        "[source]\nopen = \"conveyor?seed=7&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 100\n\
         [decide]\nunknown = \"accept\"\n[safety]\nwatchdog_ms = {watchdog_ms}\n\
         [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 80\ndelay_ms = 400\n{every}\n\
         [outputs.jam]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 420\n{every}\n\
         [outputs.stop]\nsafe = \"active\"\ndelay_ms = 400\non = [\"tag:gear\"]\n\
         [outputs.alive]\non = [\"heartbeat\"]\nperiod_ms = 50\n[outputs.ready]\non = [\"ready\"]\n"
    );
    settings(name, &text)
}

/// An output that hung stopped every pin, unseen: the service manager was told that all was well,
/// and the last words were that all outputs were in their safe state.
#[test]
fn an_output_that_hangs_leaves_the_others_safe_within_the_watchdogs_time() {
    let watchdog_ms = if emulated() { 20_000 } else { 2000 };
    let file = beside_a_jam("jam", watchdog_ms);
    let path = folder("jam-notify").join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--drill", "stuck:jam@21"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let reader = std::thread::spawn(move || {
        let (mut bytes, mut words) = ([0; 64], Vec::new());
        while let Ok(n) = socket.recv(&mut bytes) {
            words.push(String::from_utf8_lossy(&bytes[..n]).into_owned());
            if words.last().is_some_and(|w| w == "STOPPING=1") {
                break;
            }
        }
        words
    });
    let out = finish(command);
    let all = events(&out);
    let s = summary(&all);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert_eq!((s["outputs_safe"].as_bool(), &s["outputs_unknown"]), (Some(false), &serde_json::json!(["jam"])), "{s}");
    assert!(s["ended"].as_str().unwrap().starts_with("output \"jam\" hung for"), "{s}");
    assert!(stderr(&out).contains("output \"jam\": a write has not come back"), "{}", stderr(&out));
    // Until the hang the line sorted: ten pulses of the output that hangs, and at least as many of
    // the one beside it.
    let edges = of(&all, "edge");
    let of_line = |line: &str| edges.iter().filter(|e| e["line"] == line).copied().collect::<Vec<_>>();
    assert_eq!(of_line("jam").len(), 20);
    assert!(of_line("gate").iter().filter(|e| e["outcome"] == "done" && e["state"] == "active").count() >= 10);
    // Every other line is safe within the watchdog's time of the last edge before the hang. The pulse
    // under way was to end long before that: it is late, and not cut.
    let last = |line: &str| *of_line(line).last().unwrap();
    let ended = last("gate");
    assert_eq!((ended["outcome"].as_str(), ended["state"].as_str()), (Some("done"), Some("inactive")), "{ended}");
    let late = |f: &&&Value| f["kind"] == "late_edge" && f["part"] == ended["part"];
    let late: Vec<_> = of(&all, "fault").iter().filter(late).map(|f| f["why"].as_str().unwrap().to_string()).collect();
    assert!(late.len() == 1 && late[0].starts_with("output gate went to rest "), "{late:?}");
    assert_eq!(final_state(&all, "ready"), "inactive");
    // A heartbeat is told only where the rescue ended it.
    assert_ne!(final_state(&all, "alive"), "active");
    assert_ne!(final_state(&all, "stop"), "inactive");
    let called = of_line("gate").into_iter().rfind(|e| e["state"] == "active").unwrap();
    assert_eq!(ended["part"], called["part"]);
    let hung_at = called["done"].as_u64().unwrap() + 20_000;
    for line in ["gate", "ready"] {
        let after = last(line)["done"].as_u64().unwrap() - hung_at;
        assert!(after <= u64::from(watchdog_ms) * 1000, "{line} was safe {after} us after the hang");
    }
    // One word in 50 ms while it lives: no more than until the hang and one watchdog.
    let words = reader.join().unwrap();
    let lived = (hung_at - all[0]["at"].as_u64().unwrap()) / 1000 + u64::from(watchdog_ms);
    assert!((words.len() as u64) < lived / 50 + 10, "{} words in {lived} ms", words.len());
    let text = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--drill", "stuck:jam@21"]));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("Unknown is the state of: jam") && !text.contains("all outputs are in their safe state"),
        "{text}"
    );
    // The nearest good line: nothing hangs, nothing is rescued.
    let out = finish(tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--parts", "20"]));
    let all = events(&out);
    assert_eq!((out.status.code(), summary(&all)["outputs_safe"].as_bool()), (Some(0), Some(true)));
    assert_eq!(summary(&all)["outputs_unknown"], Value::Null);
    assert!(of(&all, "edge").iter().filter(|e| e["line"] == "jam" && e["state"] == "active").count() >= 20);
}

/// The write that hangs may be the last of all: the one that makes the line safe.
#[test]
fn an_output_that_hangs_at_the_end_is_named_and_costs_the_exit_code() {
    let file = beside_a_jam("jam-end", if emulated() { 10_000 } else { 1000 });
    for (drill, code, unknown) in [("stuck:ready@2", 3, serde_json::json!(["ready"])), ("stuck:ready@9", 0, Value::Null)] {
        let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--drill", drill]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().map(Result::unwrap).any(|l| l.contains("\"line\":\"gate\"") && l.contains("\"active\"")));
        let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let rest: Vec<Value> = lines.map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{drill}");
        assert_eq!(summary(&rest)["outputs_unknown"], unknown, "{drill}: {}", summary(&rest));
        assert_ne!(final_state(&rest, "gate"), "active", "{drill}");
        // The pulse that the signal met ended with it. In an emulator at work beside others it may
        // have been over by then.
        let cut = of(&rest, "edge").into_iter().find(|e| e["outcome"] == "cut");
        let cut = cut.map(|e| (e["line"].as_str(), e["state"].as_str()));
        assert!(cut == Some((Some("gate"), Some("inactive"))) || cut.is_none() && emulated(), "{drill}: {cut:?}");
    }
}

/// Parts on their way as the run ended had no event of their end, and were in no count.
#[test]
fn every_end_tells_what_became_of_the_parts_on_the_way() {
    let slow = if emulated() { 10 } else { 1 };
    for (name, drill, watchdog_ms, signal, code, reason) in [
        ("end-hang", "hang@4", 1000 * slow, false, 3, "missed_beat"),
        ("end-signal", "hang@4", 20_000 * slow, true, 0, "stopped"),
        ("end-panic", "panic@4", 1000 * slow, false, 101, "panic"),
    ] {
        let file = beside_a_jam(name, watchdog_ms);
        let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--drill", drill]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut all, lines) = (Vec::<Value>::new(), BufReader::new(child.stdout.take().unwrap()).lines());
        for line in lines {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if signal && event["event"] == "trigger" && event["part"] == 12 {
                let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
                assert!(killed.unwrap().success());
            }
            all.push(event);
        }
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        let parts_of = |kind: &str| {
            let mut parts: Vec<u64> = of(&all, kind).iter().map(|e| e["part"].as_u64().unwrap()).collect();
            parts.sort_unstable();
            parts
        };
        let s = summary(&all);
        assert_eq!(parts_of("trigger"), parts_of("part"), "{name}: {s}");
        assert_eq!((s["triggers"].as_u64(), &s["without_end"]), (Some(parts_of("part").len() as u64), &Value::Null), "{s}");
        let given_up: Vec<&Value> = of(&all, "part").into_iter().filter(|p| p["reason"] == reason).collect();
        assert!(!given_up.is_empty() && given_up.iter().all(|p| p["verdict"] == "safe"), "{name}: {given_up:?}");
        // What was at its gate got the late action there; of the others nothing moved.
        for part in given_up {
            assert_eq!(part["action"] == "safe", part["late"] == false, "{name}: {part}");
        }
    }
}

/// A process that was stopped hangs neither in a write nor in its model: when it goes on, nothing is
/// rescued. Stopped for longer than its watchdog it said that its line had hung, and ended with 3.
#[test]
fn a_process_that_was_stopped_goes_on() {
    let file = beside_a_jam("stopped", if emulated() { 20_000 } else { 1500 });
    let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--parts", "60"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    };
    std::thread::sleep(Duration::from_millis(1500));
    signal("-STOP");
    std::thread::sleep(Duration::from_millis(2000));
    signal("-CONT");
    let out = wait(child, Duration::from_secs(60));
    let all = events(&out);
    assert_eq!((out.status.code(), summary(&all)["outputs_safe"].as_bool()), (Some(0), Some(true)), "{}", stderr(&out));
    assert_eq!(summary(&all)["faults"]["output"], Value::Null, "{}", summary(&all));
    // No pulse shorter than it should be, whatever the stall.
    let gate: Vec<_> = of(&all, "edge").into_iter().filter(|e| e["line"] == "gate").collect();
    assert!(gate.len() > 20);
    for pair in gate.chunks_exact(2) {
        let width = pair[1]["done"].as_u64().unwrap() - pair[0]["done"].as_u64().unwrap();
        assert!(pair[0]["state"] == "active" && pair[1]["state"] == "inactive" && width >= 79_000, "{width}: {pair:?}");
    }
}

#[test]
fn a_reader_that_does_not_read_costs_events_but_never_the_line() {
    // An engine that always fails is fast: each frame is a part and a fault.
    let text = "[source]\nopen = \"conveyor?fps=500\"\n[safety]\nmax_faults = 1000000\nwatchdog_ms = 10000\n\
        [outputs.gate]\nsafe = \"active\"\non = [\"accept\"]\n";
    let file = settings("slow-reader", text);
    let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--drill", "engine@1"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One page of pipe and the queue behind it are full long before the reader wakes up.
    rustix::pipe::fcntl_setpipe_size(child.stdout.as_ref().unwrap(), 4096).unwrap();
    std::thread::sleep(Duration::from_secs(if emulated() { 40 } else { 6 }));
    assert!(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let out = wait(child, Duration::from_secs(60));
    let all = events(&out);
    let s = summary(&all);
    assert_eq!(out.status.code(), Some(0));
    assert!(s["dropped_events"].as_u64().unwrap() > 0, "{s}");
    assert!(s["parts"].as_u64().unwrap() > of(&all, "part").len() as u64, "the line went on: {s}");
}

#[test]
fn signals_end_a_run_with_safe_outputs_a_summary_and_exit_0() {
    for signal in ["INT", "TERM", "HUP"] {
        let file = guarded(&format!("signal-{signal}"), "conveyor?fps=60", "");
        let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref().take(12) {
            line.unwrap();
        }
        let killed = std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let rest: Vec<Value> = lines.map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        assert_eq!(summary(&rest)["ended"], "signal");
        assert_ne!(final_state(&rest, "run_enable"), "active");
        assert_ne!(final_state(&rest, "reject_gate"), "inactive");
    }
}

/// Signals were heard only until the last part was counted: a gate that was a day away kept the
/// line for a day.
#[test]
fn a_signal_ends_a_run_whose_last_parts_are_still_on_their_way() {
    let text = "[source]\nopen = \"conveyor?fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 50\n\
        [outputs.any]\nsafe = \"active\"\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 600000\n\
        on = [\"accept\", \"reject\", \"review\"]\n";
    let file = settings("draining", text);
    let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--parts", "3"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut parts = 0;
    for line in lines.by_ref().map_while(Result::ok) {
        parts += line.contains("\"event\":\"part\"") as u32;
        if parts == 3 {
            break;
        }
    }
    assert_eq!(parts, 3);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "its parts are still on their way");
    let begin = std::time::Instant::now();
    assert!(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<Value> = lines.map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(if emulated() { 60 } else { 10 }), "{:?}", begin.elapsed());
    assert_ne!(final_state(&rest, "any"), "inactive");
}

/// What the pins themselves do is seen on the emulated board: a pin that outlives its process is no
/// matter of this machine.
#[test]
fn safe_puts_lines_into_their_safe_state_after_an_abort() {
    let text = "[source]\nopen = \"conveyor?fps=60\"\n[outputs.gate]\nsafe = \"active\"\nmode = \"level\"\non = [\"accept\", \"reject\"]\n\
        [outputs.file]\nbackend = \"events\"\npath = \"edges.jsonl\"\non = [\"accept\"]\n";
    let file = settings("abort-settings", text);
    let here = std::path::Path::new(&file).parent().unwrap();
    let in_folder = |args: &[&str]| {
        let mut command = tagpin(args);
        command.current_dir(here);
        finish(command)
    };
    let out = in_folder(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--drill", "abort@5"]);
    assert!(!out.status.success() && !stderr(&out).contains("summary"));
    let out = in_folder(&["safe", "--settings", &file]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "no model is needed: {}", stderr(&out));
    assert!(said.contains("safe     gate (simulated): active"), "{said}");
    assert!(said.contains("skipped  file: edges.jsonl is a file, not a pin"), "{said}");
}

/// With `safe = "Active"` a belt stop was driven inactive and called safe: a word that cannot be
/// read was taken as the first that could have stood there.
#[test]
fn safe_leaves_a_line_alone_whose_safe_state_cannot_be_read() {
    for (wrong, key) in
        [("safe = \"Active\"", "safe"), ("safe = \"active\"\nactive = \"lo\"", "active"), ("backend = \"gpio\"", "backend")]
    {
        let text =
            format!("[outputs.stop]\n{wrong}\non = [\"reject\"]\n[outputs.gate]\nsafe = \"active\"\non = [\"accept\"]\n");
        let out = finish(tagpin(&["safe", "--settings", &settings(&format!("safe-{key}"), &text)]));
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(said, "safe     gate (simulated): active\n", "{wrong}");
        assert_eq!(out.status.code(), Some(2), "{wrong}");
        let told = format!("output stop: its line is not made safe: {key} cannot be read");
        assert!(stderr(&out).contains(&told), "{wrong}: {}", stderr(&out));
    }
    // In a file that is no TOML a table may stand twice, and say two things.
    for (second, left_alone) in [("safe = \"inactive\"", true), ("safe = \"active\"", false)] {
        let text = format!("[outputs.stop]\nsafe = \"active\"\n[outputs.stop]\n{second}\n");
        let out = finish(tagpin(&["safe", "--settings", &settings(&format!("safe-twice-{left_alone}"), &text)]));
        assert_eq!((out.status.code(), out.stdout.is_empty()), (Some(2), left_alone), "{second}: {}", stderr(&out));
        assert_eq!(stderr(&out).contains("stands twice and says two things"), left_alone, "{second}: {}", stderr(&out));
    }
}

/// systemd's protocol: ready when everything is open, alive while the line beats and no longer,
/// stopping at the end.
#[test]
fn the_service_manager_hears_that_the_line_is_ready_alive_and_stopping() {
    let heard = |name: &str, args: &[&str]| -> Vec<String> {
        let path = folder(name).join("notify");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let file = guarded(&format!("{name}-settings"), "conveyor?fps=60", "");
        let mut command = tagpin(&[&["run", "--json", "--bundle", PARTS, "--settings", &file], args].concat());
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
        // Read while it runs: a socket keeps only a few datagrams.
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let reader = std::thread::spawn(move || {
            let (mut bytes, mut words) = ([0; 64], Vec::new());
            while let Ok(n) = socket.recv(&mut bytes) {
                words.push(String::from_utf8_lossy(&bytes[..n]).into_owned());
                if words.last().is_some_and(|w| w == "STOPPING=1") {
                    break;
                }
            }
            words
        });
        finish(command);
        reader.join().unwrap()
    };
    let words = heard("notify", &["--parts", "40"]);
    assert_eq!((words.first().unwrap().as_str(), words.last().unwrap().as_str()), ("READY=1", "STOPPING=1"), "{words:?}");
    assert!(words.iter().filter(|w| *w == "WATCHDOG=1").count() >= 3, "{words:?}");
    // A line that hangs is not called alive for longer than its own watchdog allows: 1.5 s of 0.05
    // s, with some slack.
    let words = heard("notify-hang", &["--drill", "hang@2"]);
    assert!(words.len() < if emulated() { 200 } else { 60 }, "{} words", words.len());
}

/// As `tagpin run | head` ends: also where the line has nothing to say, and so never writes into
/// the closed pipe.
#[test]
fn a_reader_that_leaves_ends_the_run_with_141_and_safe_outputs() {
    let text = |trigger: &str, log: &str| {
        format!(
            "[source]\nopen = \"conveyor?fps=60\"\n[trigger]\nkind = \"{trigger}\"\n[outputs.gate]\nsafe = \"active\"\n\
             on = [\"accept\", \"reject\"]\n[events]\npath = \"{log}\"\n"
        )
    };
    for (trigger, form) in [("every_frame", "--json"), ("every_frame", ""), ("stdin", "")] {
        let folder = folder(&format!("reader-{trigger}{form}"));
        let log = folder.join("log.jsonl");
        let file = folder.join("device.toml");
        std::fs::write(&file, text(trigger, log.to_str().unwrap())).unwrap();
        let mut args = vec!["run", "--bundle", PARTS, "--settings", file.to_str().unwrap()];
        args.extend(Some(form).filter(|f| !f.is_empty()));
        let mut command = tagpin(&args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        drop(lines);
        let out = wait(child, Duration::from_secs(30));
        drop(stdin);
        assert_eq!(out.status.code(), Some(141), "{trigger} {form}: {}", stderr(&out));
        let text = std::fs::read_to_string(&log).unwrap();
        let all: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let s = summary(&all);
        assert_eq!((s["ended"].as_str(), s["outputs_safe"].as_bool()), (Some("the output pipe is closed"), Some(true)));
        assert_ne!(final_state(&all, "gate"), "inactive");
    }
}
