//! What cannot work though each key is right: `check` and the start of a run both say so, with what
//! to change.

use crate::program::*;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

/// Problems that `check` and `run` give for a settings file, and whether each refused it.
struct Said {
    check: String,
    run: String,
    refused: [bool; 2],
}

fn say(name: &str, text: &str, args: &[&str]) -> Said {
    let file = settings(name, text);
    let fixed = ["--bundle", PARTS, "--settings", file.as_str()];
    let check = finish(tagpin(&[&["check"], fixed.as_slice(), args].concat()));
    let run = finish(tagpin(&[&["run", "--parts", "1"], fixed.as_slice(), args].concat()));
    Said {
        refused: [check.status.code() == Some(1), run.status.code() == Some(2)],
        check: String::from_utf8(check.stdout).unwrap(),
        run: stderr(&run),
    }
}

const CONVEYOR: &str = "[source]\nopen = \"conveyor?seed=7&fps=60\"\n";

fn gate(trigger: &str, more: &str) -> String {
    format!(
        "{CONVEYOR}[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[outputs.gate]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = 300\n\
         on = [\"reject\"]\n{more}"
    )
}

/// Each setting that cannot work, with words of its message; beside it the nearest one that can.
#[test]
fn what_cannot_work_is_refused_by_check_and_start_and_the_nearest_that_can_is_not() {
    let period = "kind = \"period\"\nperiod_ms = 100";
    let vain = |unknown: &str| {
        let tags = "[\"gear_chipped\", \"washer_cracked\"]";
        format!(
            "{CONVEYOR}[decide]\nunknown = \"{unknown}\"\nforeign = \"accept\"\naccept = {tags}\n[outputs.gate]\non = [\"reject\"]\n"
        )
    };
    let written = |file: &str| {
        let log = folder("conflict-log").join("log.jsonl").display().to_string();
        gate(
            period,
            &format!(
                "[outputs.f]\nbackend = \"events\"\npath = \"{log}{file}\"\ndelay_ms = 300\non = [\"accept\"]\n[events]\npath = \"{log}\"\n"
            ),
        )
    };
    let cases = [
        ("vain", vain("accept"), vain("reject"), "nothing can be one: name the defects in [decide] reject"),
        (
            "behind",
            gate(&format!("{period}\nto_camera_ms = 300"), ""),
            gate(&format!("{period}\nto_camera_ms = 100"), ""),
            "output gate: a part is at its gate before it is before the camera",
        ),
        (
            "near",
            gate(&format!("{period}\nto_camera_ms = 299"), ""),
            gate(&format!("{period}\nto_camera_ms = 298"), ""),
            "output gate: its gate is less than 2 ms behind the camera, where no verdict can be there by then",
        ),
        ("file", written(""), written("-2"), "is written by both [events] and output \"f\""),
        // A rotation would move the one onto the other.
        ("rotated", written(".2"), written(".two"), "is written by both [events] and output \"f\""),
    ];
    for (name, bad, good, why) in cases {
        let said = say(&format!("conflict-{name}"), &bad, &[]);
        assert_eq!(said.refused, [true, true], "{name}: {}\n{}", said.check, said.run);
        assert!(said.check.contains(why) && said.run.contains(why), "{name}: {}\n{}", said.check, said.run);
        let said = say(&format!("conflict-{name}-not"), &good, &[]);
        assert_eq!(said.refused, [false, false], "{name}: {}\n{}", said.check, said.run);
    }
}

/// A belt that stood still gave what waited before the camera the late action half a second later.
#[test]
fn a_gate_that_goes_by_the_belt_needs_a_deadline_that_does_so_too() {
    let why = "output gate: its delay goes by the belt, but [trigger] deadline_ms by the clock";
    let said = |name: &str, deadline: &str| {
        let text = format!(
            "{CONVEYOR}[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\n{deadline}\n[encoder]\nchip = \"header\"\na = 22\n\
             [outputs.gate]\nmode = \"pulse\"\ndelay_counts = 40\non = [\"reject\"]\n"
        );
        let said = say(&format!("conflict-belt-{name}"), &text, &[]);
        // This machine has no such chip.
        assert!(said.check.contains("header") && said.run.contains("header"), "{}\n{}", said.check, said.run);
        [said.check, said.run].map(|text| text.contains(why))
    };
    assert_eq!(said("clock", "deadline_ms = 500"), [true, true]);
    assert_eq!(said("belt", "deadline_counts = 20"), [false, false]);
    assert_eq!(said("default", ""), [false, false]);
}

/// Drawn images moved real pins: a line that was set up on the conveyor and forgotten would have
/// sorted what nobody saw.
#[test]
fn pins_follow_drawn_images_only_where_that_is_allowed() {
    let why = "takes no image of what passes, so its verdicts may not move GPIO lines";
    let pin = |source: &str| {
        format!(
            "[source]\nopen = \"{source}\"\n[outputs.led]\nbackend = \"gpiochip\"\nchip = \"no-such-chip\"\nline = 3\non = [\"accept\"]\n"
        )
    };
    for source in ["conveyor", "faulty(conveyor)?drop=0.1", "dir:/nonexistent"] {
        let said = say("conflict-drawn", &pin(source), &[]);
        assert!(said.check.contains(why) && said.run.contains(why), "{source}: {}\n{}", said.check, said.run);
        // The chip is missing on this machine either way.
        let said = say("conflict-drawn-allowed", &pin(source), &["--allow-drawn"]);
        assert!(!said.check.contains(why) && !said.run.contains(why), "{source}: {}\n{}", said.check, said.run);
        assert!(said.check.contains("no-such-chip") && said.run.contains("no-such-chip"));
    }
    let simulated = format!("{CONVEYOR}[outputs.led]\non = [\"accept\"]\n");
    assert_eq!(say("conflict-drawn-simulated", &simulated, &[]).refused, [false, false]);
}

#[test]
fn one_pin_with_two_uses_is_refused_by_whatever_names_it_is_called() {
    let output = |name: &str, at: &str| format!("[outputs.{name}]\n{at}\non = [\"accept\"]\n");
    let chip = |line: &str| format!("backend = \"gpiochip\"\nchip = \"header\"\nline = {line}");
    let rppal = "backend = \"rppal\"\npin = 17";
    let trigger = "[trigger]\nkind = \"gpio\"\nchip = \"pinctrl-rp1\"\nline = \"GPIO17\"\n";
    let button = "[acknowledge]\nchip = \"header\"\nline = 17\n";
    let encoder = "[encoder]\nchip = \"header\"\na = 17\n";
    let cases = [
        (output("a", &chip("17")) + &output("b", rppal), "as output \"a\" and as output \"b\""),
        (output("a", &chip("\"GPIO17\"")) + &output("b", &chip("17")), "as output \"a\" and as output \"b\""),
        (trigger.to_string() + &output("a", rppal), "as [trigger] and as output \"a\""),
        (button.to_string() + &output("a", &chip("17")), "as [acknowledge] and as output \"a\""),
        (encoder.to_string() + &output("a", rppal), "as channel a of [encoder] and as output \"a\""),
        (button.to_string() + encoder, "as channel a of [encoder] and as [acknowledge]"),
    ];
    for (i, (text, why)) in cases.iter().enumerate() {
        let said = say(&format!("conflict-pin-{i}"), text, &["--allow-drawn"]);
        assert!(said.check.contains(why) && said.run.contains(why), "{why}: {}\n{}", said.check, said.run);
        assert!(said.check.contains("is used twice"), "{}", said.check);
        let apart = text.replacen("17", "18", 1);
        let said = say(&format!("conflict-pin-{i}-not"), &apart, &["--allow-drawn"]);
        assert!(!said.check.contains("used twice") && !said.run.contains("used twice"), "{apart}{}", said.check);
    }
}

/// A gate that goes by the arrival of words must know how far that may be from the sensor's signal.
#[test]
fn the_jitter_of_words_must_be_stated_in_gate_mode() {
    let socket = format!("kind = \"socket\"\npath = \"{}\"", folder("conflict-jitter").join("t.sock").display());
    let why = "[trigger] max_jitter_ms is missing";
    for trigger in ["kind = \"stdin\"", &socket] {
        let file = settings("conflict-jitter-none", &gate(trigger, ""));
        let check = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
        let text = String::from_utf8(check.stdout).unwrap();
        assert!(check.status.code() == Some(1) && text.contains(why), "{text}");
        let pin = gate(trigger, "[outputs.a]\nbackend = \"rppal\"\npin = 3\ndelay_ms = 300\non = [\"accept\"]\n");
        let said = say("conflict-jitter-pin", &pin, &["--allow-drawn"]);
        assert!(said.refused[1] && said.run.contains(&format!("error: {why}")), "{}", said.run);
    }
    let stated = gate("kind = \"stdin\"\nmax_jitter_ms = 50", "");
    let said = say("conflict-jitter-stated", &stated, &[]);
    assert!(!said.refused[0] && !said.check.contains(why) && !said.run.contains(why), "{}\n{}", said.check, said.run);
}

#[test]
fn standard_input_is_source_or_trigger_but_not_both() {
    let text = "[source]\nopen = \"y4m:-\"\n[trigger]\nkind = \"stdin\"\n";
    let said = say("conflict-stdin", text, &[]);
    assert_eq!(said.refused, [true, true], "{}\n{}", said.check, said.run);
    assert!(said.run.contains("standard input is both source and trigger"), "{}", said.run);
}

/// A file as standard input was taken for a stream: `check` found no problem, and no part came.
#[test]
fn a_file_on_standard_input_is_a_file_and_a_pipe_is_none() {
    let path = folder("conflict-stdin-file").join("one.y4m");
    std::fs::write(&path, "YUV4MPEG2 W8 H8 F30:1 C420\n").unwrap();
    let file = settings(
        "conflict-stdin-drawn",
        &gate(
            "kind = \"period\"\nperiod_ms = 100",
            "[outputs.a]\nbackend = \"rppal\"\npin = 3\ndelay_ms = 300\non = [\"accept\"]\n",
        )
        .replace(CONVEYOR, "[source]\nopen = \"y4m:-\"\n"),
    );
    let check = |stdin: Stdio| {
        let mut command = tagpin(&["check", "--bundle", PARTS, "--settings", &file]);
        command.stdin(stdin);
        String::from_utf8(finish(command).stdout).unwrap()
    };
    let why = "takes no image of what passes";
    assert!(check(std::fs::File::open(&path).unwrap().into()).contains(why));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    assert!(!check(reader.into()).contains(why));
}

/// A run that tells parts: it holds what it takes. Beside it, its output and what that said so far.
fn running(args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
    let mut run = tagpin(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(run.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("\"event\":\"part\"") {
        assert!(reader.read_line(&mut text).unwrap() > 0, "it ended: {text}");
    }
    (run, reader, text)
}

/// Two lines on one settings file moved the same outputs and wrote the same files.
#[test]
fn a_second_run_on_the_same_settings_is_refused_and_the_first_goes_on() {
    let file = settings("conflict-twice", &format!("{CONVEYOR}[outputs.a]\non = [\"accept\"]\n"));
    let args = ["run", "--json", "--bundle", PARTS, "--settings", &file];
    let (mut first, mut reader, mut text) = running(&args);
    let out = finish(tagpin(&args));
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(stderr(&out).contains("device.toml: another run uses these settings"), "{}", stderr(&out));
    while text.matches("\"event\":\"part\"").count() < 10 {
        assert!(reader.read_line(&mut text).unwrap() > 0, "it ended: {text}");
    }
    assert!(std::process::Command::new("kill").args(["-INT", &first.id().to_string()]).status().unwrap().success());
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0), "{text}");
    assert_eq!(
        finish(tagpin(&[&args[..], &["--parts", "10"]].concat())).status.code(),
        Some(0),
        "the lock ends with its run"
    );
}

/// Two lines with settings of their own wrote one log, and each rotated it under the other.
#[test]
fn a_second_run_on_the_same_event_log_is_refused_until_the_first_is_gone() {
    let folder = folder("conflict-log-twice");
    let line = |name: &str, log: &str, edges: &str| {
        let [log, edges] = [log, edges].map(|file| folder.join(file).display().to_string());
        settings(
            &format!("conflict-log-{name}"),
            &format!(
                "{CONVEYOR}[outputs.a]\nbackend = \"events\"\npath = \"{edges}\"\non = [\"accept\"]\n[events]\npath = \"{log}\"\n"
            ),
        )
    };
    let run = |file: &str| finish(tagpin(&["run", "--json", "--bundle", PARTS, "--settings", file, "--parts", "2"]));
    let first = line("first", "log", "edges");
    let (mut first, _reader, _) = running(&["run", "--json", "--bundle", PARTS, "--settings", &first]);
    for (name, log, edges, what) in [("log", "log", "edges2", "[events]"), ("edges", "log2", "edges", "output \"a\":")] {
        let out = run(&line(name, log, edges));
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
        let file = folder.join(name).display().to_string();
        let why = format!("{what} {file} is written by another run; stop it, or give this line a log of its own");
        assert!(stderr(&out).contains(&why), "{}", stderr(&out));
    }
    let other = run(&line("other", "log2", "edges2"));
    assert_eq!(other.status.code(), Some(0), "{}", stderr(&other));
    first.kill().unwrap();
    first.wait().unwrap();
    let after = run(&line("after", "log", "edges"));
    assert_eq!(after.status.code(), Some(0), "what is killed holds nothing: {}", stderr(&after));
    // Whole lines of both, one run after the other.
    let text = std::fs::read_to_string(folder.join("log")).unwrap();
    assert!(text.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{text}");
    assert_eq!(text.matches("\"event\":\"start\"").count(), 2, "{text}");
}

/// One unknown key hid everything else that was wrong, to be found one start at a time.
#[test]
fn all_other_problems_are_told_where_the_settings_have_some_too() {
    let text = "[source]\nopen = \"dir:/nonexistent\"\n[decide]\nrejct = [\"bolt\"]\n\
        [outputs.a]\nbackend = \"gpiochip\"\nchip = \"no-such-chip\"\nline = 3\non = [\"accept\"]\n\
        [outputs.b]\nbackend = \"gpiochip\"\nchip = \"other-chip\"\nlne = 3\non = [\"accept\"]\n\
        [events]\npath = \"/nonexistent/log.jsonl\"\n";
    let said = say("conflict-all", text, &[]);
    assert_eq!(said.refused, [true, true]);
    for (name, text) in [("check", &said.check), ("run", &said.run)] {
        for problem in [
            "unknown key \"decide.rejct\"; did you mean \"reject\"?",
            "unknown key \"outputs.b.lne\"",
            "dir:/nonexistent",
            "no-such-chip",
            "folder /nonexistent does not exist",
            "may not move GPIO lines",
        ] {
            assert!(text.contains(problem), "{name}, {problem}: {text}");
        }
        // What rests on a table that is wrong cannot be judged.
        assert!(!text.contains("other-chip") && !text.contains("waits for rejects"), "{name}: {text}");
    }
}

/// `check` said OK of a reject pulse of 1.5 s behind parts that may be 100 ms apart: good parts
/// stood in its open gate, and nothing told it.
#[test]
fn a_pulse_that_may_meet_the_next_part_is_a_problem_of_check_and_a_warning_of_run() {
    let file = |width: u32| {
        let text = format!(
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\nmin_spacing_ms = 100\n[outputs.gate]\nmode = \"pulse\"\n\
             width_ms = {width}\ndelay_ms = 850\non = [\"reject\"]\n"
        );
        settings(&format!("meets-{width}"), &text)
    };
    let check = |width: u32| finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file(width)]));
    let out = check(1500);
    let text = String::from_utf8_lossy(&out.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let told = ":8:12: outputs.gate: width_ms 1500 and window_ms 50 are more than trigger.min_spacing_ms 100";
    assert!(out.status.code() == Some(1) && text.contains(told), "{text}");
    assert!(check(50).status.success(), "50 ms, and 50 ms late, are over before the next part");
    let run = |width: u32| stderr(&finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file(width), "--parts", "1"])));
    assert!(run(1500).contains("warning: ") && run(1500).contains("meet the next part"), "{}", run(1500));
    assert!(!run(50).contains("meet the next part"), "{}", run(50));
}

/// All images of a folder had gone by before the first word came: 0 parts, "done", exit 0.
#[test]
fn a_folder_behind_a_trigger_from_outside_is_refused_since_it_waits_for_no_part() {
    let why = "without waiting for a part, so a trigger from outside finds none left";
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let text = |source: &str, trigger: &str| {
        format!(
            "[source]\nopen = \"{source}\"\n[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[outputs.gate]\nmode = \"pulse\"\n\
             delay_ms = 850\non = [\"reject\"]\n"
        )
    };
    let (dir, stdin) = (format!("dir:{images}"), "kind = \"stdin\"\nmax_jitter_ms = 50");
    for (i, (source, trigger)) in
        [(dir.clone(), stdin), (format!("faulty({dir})?drop=0.1"), stdin), (dir.clone(), "kind = \"period\"")]
            .iter()
            .enumerate()
    {
        let said = say(&format!("files-run-out-{i}"), &text(source, trigger), &[]);
        assert!(said.check.contains(why) && said.run.contains(why), "{source}: {}\n{}", said.check, said.run);
        assert_eq!(said.refused, [true, true]);
    }
    for (i, (source, trigger)) in
        [(dir.as_str(), "kind = \"every_frame\""), ("conveyor?seed=7", "kind = \"period\"")].iter().enumerate()
    {
        let said = say(&format!("files-go-on-{i}"), &text(source, trigger), &[]);
        assert!(!said.check.contains(why) && !said.run.contains(why), "{source}: {}\n{}", said.check, said.run);
    }
}
