//! Parts, gates and triggers through the binary: every edge at its part's moment, whatever becomes
//! of the verdict.

use crate::program::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A gate that stands so far behind the light barrier that several parts are on the way.
fn sorting(name: &str, source: &str, extra: &str) -> String {
    let text = format!(
        "[source]\nopen = \"{source}\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n{extra}\n\
         [decide]\nreject = [\"gear_chipped\", \"washer_cracked\"]\n\
         [outputs.reject_gate]\nmode = \"pulse\"\nwidth_ms = 40\ndelay_ms = 2500\non = [\"reject\"]\n\
         [outputs.good]\nmode = \"pulse\"\nwidth_ms = 40\ndelay_ms = 3000\non = [\"accept\"]\n"
    );
    settings(name, &text)
}

fn run(file: &str, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["run", "--json", "--bundle", PARTS, "--settings", file];
    all.extend(args);
    let out = finish(tagpin(&all));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    events(&out)
}

fn at(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_else(|| panic!("{key} in {event}"))
}

/// The one edge to active that a part caused.
fn call(all: &[Value], part: u64) -> &Value {
    let edges: Vec<&Value> = of(all, "edge").into_iter().filter(|e| e["part"] == part && e["state"] == "active").collect();
    assert_eq!(edges.len(), 1, "part {part}: {edges:?}");
    edges[0]
}

#[test]
fn each_part_fires_its_own_gate_at_trigger_plus_delay_with_others_in_between() {
    let all = run(&sorting("several", &fast_conveyor(21), ""), &["--parts", "10"]);
    assert_eq!(summary(&all)["truth"]["right"], 10);
    let parts = of(&all, "part");
    for part in &parts {
        let (gate, delay) = if part["action"] == "reject" { ("reject_gate", 2_500_000) } else { ("good", 3_000_000) };
        let edge = call(&all, at(part, "part"));
        assert_eq!(edge["line"], gate);
        assert_eq!(at(edge, "scheduled"), at(part, "trigger") + delay, "from the trigger, whenever the verdict came");
    }
    let first_gate = at(call(&all, 1), "scheduled");
    let triggered = parts.iter().filter(|p| at(p, "trigger") < first_gate).count();
    assert!(triggered >= if emulated() { 2 } else { 5 }, "{triggered} parts were in flight");
}

#[test]
fn a_part_without_a_verdict_in_time_gets_the_late_action_at_its_gate() {
    // No frame can be exposed after the trigger and classified within two milliseconds. The
    // conveyor's barrier is told with the frame that shows it, later than any window but a wide
    // one.
    let text = "[source]\nopen = \"conveyor?seed=21&speed=1600\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n\
         deadline_ms = 1000\n[outputs.reject_gate]\nmode = \"pulse\"\nwidth_ms = 20\nwindow_ms = 5000\ndelay_ms = 2\non = [\"reject\"]\n\
         [outputs.good]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 2\non = [\"accept\"]\n";
    let all = run(&settings("late", text), &["--parts", "3"]);
    assert_eq!(summary(&all)["late"], 3);
    assert!(of(&all, "edge").iter().all(|e| e["line"] == "reject_gate"));
    for part in of(&all, "part") {
        assert_eq!((part["late"].as_bool(), part["action"].as_str()), (Some(true), Some("reject")), "{part}");
        assert_eq!(at(call(&all, at(part, "part")), "scheduled"), at(part, "trigger") + 2000);
    }
    assert!(of(&all, "fault").iter().any(|f| f["kind"] == "late" && f["action"] == "reject"));
}

/// On a fast belt, or a slow machine, a part was judged by a frame of the belt behind it, and was
/// foreign.
#[test]
fn no_part_is_judged_by_a_frame_exposed_after_it_left_the_view() {
    // At 2000 pixels a second half of a part has left the view 72 ms after the barrier, and the
    // next comes after 200 ms.
    let file = |fps: u32| {
        let source = format!("[source]\nopen = \"conveyor?seed=7&speed=2000&fps={fps}\"\n");
        let gate =
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n[outputs.a]\ndelay_ms = 900\non = [\"accept\"]\n";
        settings(&format!("left-view-{fps}"), &format!("{source}{gate}"))
    };
    let all = run(&file(60), &["--parts", "20"]);
    let exposed = |part: &Value| {
        let images = part["images"].as_array().unwrap();
        images.iter().map(|image| at(image, "captured_at") - at(part, "trigger")).collect::<Vec<_>>()
    };
    let ages: Vec<u64> = of(&all, "part").into_iter().flat_map(exposed).collect();
    assert!(!ages.is_empty() && ages.iter().all(|age| *age < 72_000), "{ages:?}");
    // Where frames come too seldom for that, check says so.
    let why = "warning  source: a part has half left the view 72 ms after its trigger, and a frame comes each 50 ms";
    for (fps, told) in [(60, false), (20, true)] {
        let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file(fps)]));
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!((out.status.code(), text.contains(why)), (Some(0), told), "{text}");
    }
}

#[test]
fn lost_frames_cost_only_the_parts_that_they_showed() {
    let source = format!("faulty({})?seed=5&corrupt=0.35", fast_conveyor(21));
    let all = run(&sorting("faults", &source, ""), &["--parts", "12"]);
    let s = summary(&all);
    let (right, safe) = (s["truth"]["right"].as_u64().unwrap(), s["safe"].as_u64().unwrap());
    assert!(s["faults"]["corrupt"].as_u64().unwrap() > 0 && right > 0, "{s}");
    assert_eq!(at(s, "parts"), s["accept"].as_u64().unwrap() + s["reject"].as_u64().unwrap() + safe);
    for part in of(&all, "part") {
        let edge = call(&all, at(part, "part"));
        let expected = if part["action"] == "accept" { "good" } else { "reject_gate" };
        assert_eq!(edge["line"], expected, "no answer is a reject: {part}");
    }
}

/// Words on a pipe or a socket open parts; the frames are the conveyor's, whatever is in view.
fn worded(name: &str, trigger: &str) -> String {
    let text = format!(
        "[source]\nopen = \"conveyor?seed=21&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[decide]\nunknown = \"accept\"\n\
         [outputs.any]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 400\non = [\"accept\", \"reject\"]\n\
         [outputs.alarm]\nmode = \"latched\"\ndelay_ms = 400\non = [\"accept\", \"reject\"]\n\
         [outputs.busy]\non = [\"busy\"]\n[outputs.ready]\non = [\"ready\"]\n[outputs.alive]\non = [\"heartbeat\"]\nperiod_ms = 20\n"
    );
    settings(name, &text)
}

fn start(file: &str, parts: &str, stdin: Stdio) -> Child {
    let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", file, "--parts", parts]);
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn lines_on_standard_input_open_parts_and_acknowledge() {
    let mut child = start(&worded("stdin", "kind = \"stdin\""), "3", Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    // Frames must flow first.
    std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 500 }));
    for word in ["trigger", "", "nonsense", "ack", "trigger"] {
        writeln!(stdin, "{word}").unwrap();
        stdin.flush().unwrap();
        std::thread::sleep(Duration::from_millis(700));
    }
    let out = wait(child, Duration::from_secs(60));
    let all = events(&out);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(at(summary(&all), "parts"), 3);
    for part in of(&all, "part") {
        let edges: Vec<&Value> =
            of(&all, "edge").into_iter().filter(|e| e["part"] == part["part"] && e["line"] == "any").collect();
        assert_eq!(edges.len(), 2, "one pulse each: {edges:?}");
        assert_eq!(at(edges[0], "scheduled"), at(part, "trigger") + 400_000);
    }
    let alarm: Vec<&str> =
        of(&all, "edge").iter().filter(|e| e["line"] == "alarm").map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(alarm, ["active", "inactive", "active", "inactive"], "acknowledged once, and safe at the end");
    let of_line = |line: &str| of(&all, "edge").iter().filter(|e| e["line"] == line).count();
    assert!(of_line("busy") >= 2, "busy from trigger to verdict");
    assert_eq!(of_line("ready"), 2, "ready from the start to the end");
    assert_eq!(of_line("alive"), 0, "a heartbeat is not logged");
}

/// A pulse for each part, a sensor behind it that is told by word, a flash a trigger, and a lamp
/// that shows what went wrong.
#[test]
fn a_part_that_is_not_seen_behind_its_gate_is_told_and_the_fault_output_stays_until_acknowledged() {
    let text = "[source]\nopen = \"conveyor?seed=21&fps=60\"\n[line]\nmode = \"gate\"\nlate_ms = 100\n[trigger]\nkind = \"stdin\"\n\
        [outputs.any]\nmode = \"pulse\"\nwidth_ms = 10\nwindow_ms = 300\ndelay_ms = 300\non = [\"accept\", \"reject\"]\n\
        [outputs.flash]\nwidth_ms = 5\nwindow_ms = 300\ndelay_ms = 20\non = [\"trigger\"]\n[outputs.lamp]\non = [\"fault\"]\n\
        [confirm]\noutput = \"any\"\nwithin_ms = 600\n";
    let mut child = start(&settings("confirm", text), "2", Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 500 }));
    let mut say = |word: &str, ms: u64| {
        writeln!(stdin, "{word}").unwrap();
        stdin.flush().unwrap();
        std::thread::sleep(Duration::from_millis(ms));
    };
    say("trigger", 500);
    say("confirm", 600); // the first part, 0.2 s after its pulse: as it should be
    say("confirm", 300); // nothing was thrown out
    say("ack", 300);
    say("trigger", 1500); // and nobody sees the second part
    let out = wait(child, Duration::from_secs(60));
    let all = events(&out);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let told: Vec<(&str, Option<u64>, &str)> = of(&all, "fault")
        .iter()
        .map(|f| (f["kind"].as_str().unwrap(), f["part"].as_u64(), f["action"].as_str().unwrap()))
        .filter(|(kind, ..)| *kind != "late_edge")
        .collect();
    assert_eq!(told, [("unexpected_confirmation", None, "told"), ("not_rejected", Some(2), "told")]);
    assert_eq!(
        (&summary(&all)["faults"]["not_rejected"], &summary(&all)["faults"]["unexpected_confirmation"]),
        (&1.into(), &1.into())
    );
    let lamp: Vec<&str> =
        of(&all, "edge").iter().filter(|e| e["output"] == "lamp").map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(lamp, ["active", "inactive", "active", "inactive"], "acknowledged once, and safe at the end");
    for part in of(&all, "part") {
        let flash = of(&all, "edge").into_iter().find(|e| e["output"] == "flash" && e["part"] == part["part"]).unwrap();
        assert_eq!(at(flash, "scheduled"), at(part, "trigger") + 20_000);
    }
    let start = of(&all, "start")[0];
    let modes: Vec<&str> = start["outputs"].as_array().unwrap().iter().map(|o| o["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["pulse", "trigger", "fault"]);
}

#[test]
fn a_socket_opens_parts_and_its_name_is_freed_again() {
    let path = folder("socket").join("trigger.sock");
    let file = worded("socket-settings", &format!("kind = \"socket\"\npath = \"{}\"", path.display()));
    for _ in 0..2 {
        let mut child = start(&file, "1", Stdio::null());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 500 }));
        std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(b"trigger", &path).unwrap();
        let rest: Vec<Value> = lines.map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(at(summary(&rest), "parts"), 1);
    }
}

#[test]
fn a_fixed_period_and_presence_in_the_frame_open_parts() {
    let gate = "[outputs.any]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 900\non = [\"accept\", \"reject\"]\n";
    let period = format!(
        "[source]\nopen = \"conveyor?seed=21&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 150\n{gate}"
    );
    let all = run(&settings("period", &period), &["--parts", "6"]);
    let triggers: Vec<u64> = of(&all, "part").iter().map(|p| at(p, "trigger")).collect();
    assert!(triggers.windows(2).all(|w| w[1] - w[0] == 150_000), "{triggers:?}");
    // Presence: as many parts as the belt carries, no more and no fewer, though the barrier is not
    // asked. A part reaches the region `to_camera` milliseconds before its middle is at the
    // camera's.
    let to_camera = 80 * 1000 / if emulated() { 300 } else { 800 };
    let presence = format!(
        "[source]\nopen = \"{}\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"presence\"\narea = 0.1\nto_camera_ms = {to_camera}\n\
         roi = {{ x = 140, y = 40, width = 40, height = 160 }}\n{gate}",
        fast_conveyor(21)
    );
    let all = run(&settings("presence", &presence), &["--parts", "6"]);
    let tags: Vec<&str> = of(&all, "part").iter().map(|p| p["top"][0]["tag"].as_str().unwrap()).collect();
    let barrier = run(&sorting("presence-barrier", &fast_conveyor(21), ""), &["--parts", "6"]);
    let expected: Vec<&str> = of(&barrier, "part").iter().map(|p| p["top"][0]["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, expected);
}

#[test]
fn parts_that_touch_are_both_rejected() {
    // At this speed a part follows the one before it in less than the stated spacing.
    let all =
        run(&sorting("touching", &fast_conveyor(21), "min_spacing_ms = 60000\ntoo_close = \"reject\""), &["--parts", "4"]);
    assert_eq!(at(summary(&all), "too_close"), 3);
    for part in 1..=4 {
        assert_eq!(call(&all, part)["line"], "reject_gate");
    }
    let all = run(&sorting("bounce", &fast_conveyor(21), "min_spacing_ms = 700\ntoo_close = \"ignore\""), &["--parts", "2"]);
    assert!(at(summary(&all), "too_close") >= if emulated() { 0 } else { 1 });
    assert_eq!(of(&all, "part").len(), 2);
}

#[test]
fn more_parts_than_can_be_followed_make_the_line_safe_and_it_goes_on() {
    let text = "[source]\nopen = \"conveyor?seed=21&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 2\n\
         [outputs.any]\nsafe = \"active\"\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 500\non = [\"accept\", \"reject\"]\n";
    let all = run(&settings("overflow", text), &["--parts", "300"]);
    let s = summary(&all);
    assert!(s["faults"]["overflow"].as_u64().unwrap() >= 1, "{s}");
    assert!(at(s, "given_up") >= 64, "{s}");
    assert_ne!(final_state(&all, "any"), "inactive");
}

#[test]
fn a_source_that_knows_only_arrival_needs_its_latency_in_gate_mode() {
    let gate = "[line]\nmode = \"gate\"\n[outputs.any]\nmode = \"level\"\ndelay_ms = 900\non = [\"accept\"]\n";
    let file = settings("arrival", &format!("[source]\nopen = \"dir:models\"\n{gate}"));
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
    assert_eq!(out.status.code(), Some(2));
    let file = settings(
        "counts",
        "[line]\nmode = \"gate\"\n[outputs.any]\ndelay_counts = 9\non = [\"accept\"]\n[outputs.b]\non=[\"busy\", \"accept\"]\n",
    );
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
    let text = stderr(&out);
    assert!(text.contains("counts need an [encoder]") && text.contains("stand alone"), "{text}");
}

/// Everything is accepted but what has no verdict, foreign images too, since parts lie anywhere;
/// from its 60th frame on the camera shows one image until it is opened again.
fn freezing(name: &str, trigger_ms: u32, delay_ms: u32, extra: &str) -> Vec<Value> {
    let text = format!(
        "[source]\nopen = \"faulty(conveyor?seed=21&fps=60)?after=60&freeze=1\"\n{extra}\n[line]\nmode = \"gate\"\n\
         [trigger]\nkind = \"period\"\nperiod_ms = {trigger_ms}\n\
         [decide]\nunknown = \"accept\"\nforeign = \"accept\"\naccept = [\"gear_chipped\", \"washer_cracked\"]\n\
         [outputs.good]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = {delay_ms}\non = [\"accept\"]\n\
         [outputs.reject_gate]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = {delay_ms}\non = [\"reject\"]\n"
    );
    run(&settings(name, &text), &["--parts", "16"])
}

#[test]
fn two_parts_with_the_same_image_are_both_rejected_and_the_camera_is_opened_again() {
    let all = freezing("frozen-gate", 250, 1200, "");
    let parts = of(&all, "part");
    let accepted = parts.iter().filter(|p| call(&all, at(p, "part"))["output"] == "good").count();
    assert!(accepted >= 2, "before it froze parts were accepted: {accepted}");
    let frozen: Vec<u64> = parts.iter().filter(|p| p["reason"] == "frozen").map(|p| at(p, "part")).collect();
    assert!(frozen.len() >= 2, "{frozen:?}");
    for part in frozen {
        assert_eq!(call(&all, part)["output"], "reject_gate");
        // Whatever was decided of the part before, unless that had no frame: it was given the same
        // image.
        let before = parts.iter().rev().find(|p| at(p, "part") < part && at(p, "frames") > 0).unwrap();
        assert_eq!(call(&all, at(before, "part"))["output"], "reject_gate", "{before}");
    }
    let all = freezing("frozen-off", 250, 1200, "frozen_after = 0");
    assert!(of(&all, "edge").iter().all(|e| e["output"] == "good"), "turned off, all are accepted");
    assert_eq!(summary(&all)["faults"].get("frozen"), None);
}

#[test]
fn a_part_that_was_at_its_gate_before_its_image_came_again_is_told_by_number() {
    let all = freezing("frozen-passed", 500, 300, "");
    let passed = of(&all, "fault").into_iter().filter(|f| f["kind"] == "frozen_passed");
    let told: BTreeSet<u64> = passed.inspect(|f| assert_eq!(f["action"], "told")).map(|f| at(f, "part")).collect();
    // The last part before each frozen one that had a frame, if it was let through on that. One that
    // was late at its gate was told too, though no image had sorted it.
    let parts = of(&all, "part");
    let frozen = parts.iter().filter(|p| p["reason"] == "frozen").map(|p| at(p, "part"));
    let before =
        |n| parts.iter().map(|p| (at(p, "part"), at(p, "frames"))).filter(|(p, frames)| *p < n && *frames > 0).max();
    let sorted = |n: &u64| call(&all, *n)["output"] == "good";
    let by_the_next: BTreeSet<u64> = frozen.filter_map(before).map(|(part, _)| part).filter(sorted).collect();
    assert!(by_the_next.is_subset(&told), "{by_the_next:?} {told:?}");
    // The camera stood still, which frozen_after says without another part: one of the last two that
    // had a frame by then.
    let frozen = of(&all, "fault").into_iter().filter(|f| f["kind"] == "frozen" && f["part"] == Value::Null);
    let decided_by = |now: u64| parts.iter().filter(move |p| at(p, "at") < now && at(p, "frames") > 0);
    let last_two = |f: &Value| decided_by(at(f, "at")).rev().take(2).map(|p| at(p, "part")).collect::<Vec<_>>();
    let by_count: BTreeSet<u64> = frozen.flat_map(last_two).filter(sorted).collect();
    assert!(told.iter().all(|part| by_the_next.contains(part) || by_count.contains(part)), "{by_count:?} {told:?}");
    assert!(!told.is_empty() || emulated(), "{}", summary(&all));
}

/// `ready` was active from the start, whatever the camera gave: the belt could run though nothing
/// was seen.
#[test]
fn ready_waits_for_the_first_usable_frame() {
    let text = |source: &str| {
        format!(
            "[source]\nopen = \"{source}\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 100\n\
             [outputs.any]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 400\non = [\"accept\", \"reject\"]\n\
             [outputs.ready]\non = [\"ready\"]\n"
        )
    };
    let blind = run(&settings("blind", &text("faulty(conveyor?fps=60)?corrupt=1")), &["--parts", "10"]);
    assert_eq!(of(&blind, "edge").iter().filter(|e| e["line"] == "ready").count(), 0, "no frame was usable");
    let sees = run(&settings("sees", &text("conveyor?fps=60")), &["--parts", "10"]);
    let ready: Vec<&Value> = of(&sees, "edge").into_iter().filter(|e| e["line"] == "ready").collect();
    assert_eq!(ready.iter().map(|e| e["state"].as_str().unwrap()).collect::<Vec<_>>(), ["active", "inactive"]);
    assert_eq!(at(summary(&sees), "parts"), 10);
    // Nothing asked whether it falls while the camera gives nothing that can be used. A third of the
    // frames, so that a slow machine, which takes few of them, has one that cannot be used.
    let blinks = run(&settings("blinks", &text("faulty(conveyor?fps=60)?corrupt=0.3")), &["--parts", "20"]);
    let ready: Vec<&str> =
        of(&blinks, "edge").into_iter().filter(|e| e["line"] == "ready").map(|e| e["state"].as_str().unwrap()).collect();
    assert!(ready.len() > 2 && ready.ends_with(&["active", "inactive"]), "{ready:?}");
}
