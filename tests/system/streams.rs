//! Standard streams and files that cannot be written: a full disk, a limit on the size of files. A
//! run goes on without them, a command says it and ends with its code.

use crate::program::*;
use std::fs::OpenOptions;
use std::process::Stdio;
use std::time::Duration;

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

const GATE: &str =
    "[source]\nopen = \"conveyor?fps=60\"\n[outputs.gate]\nsafe = \"active\"\nmode = \"level\"\non = [\"accept\"]\n";

/// A panic in a sink was told with `eprintln!`: on a full disk that panicked again and aborted the
/// program in mid-run, its outputs as they were. So did a warning at the start.
#[test]
fn a_run_whose_standard_error_cannot_be_written_goes_on_and_ends_safe() {
    let file = settings("full-stderr", GATE);
    let warned = settings("full-stderr-warned", &format!("{GATE}[tags]\ngear = {{ threshold = 0.1 }}\n"));
    for (file, drill) in [(&file, &["--drill", "sink@20"][..]), (&file, &[]), (&warned, &[])] {
        let args = ["run", "--json", "--bundle", PARTS, "--parts", "12", "--settings", file];
        let mut command = tagpin(&[&args, drill].concat());
        command.stdout(Stdio::piped()).stderr(full());
        let out = wait(command.spawn().unwrap(), Duration::from_secs(120));
        let all = events(&out);
        assert_eq!(out.status.code(), Some(0), "{drill:?}");
        let s = summary(&all);
        assert_eq!((s["outputs_safe"].as_bool(), s["parts"].as_u64()), (Some(true), Some(12)), "{drill:?}: {s}");
    }
}

/// Each event that the table does not show counted as a sign that it writes again: 400,000 lines on
/// standard error in four seconds, and other sinks lost what happened.
#[test]
fn a_table_on_a_full_disk_is_told_now_and_then_and_costs_no_other_sink_an_event() {
    let log = folder("full-stdout").join("log.jsonl");
    let file = settings("full-stdout-settings", &format!("{GATE}[events]\npath = \"{}\"\n", log.display()));
    let mut command = tagpin(&["run", "--bundle", PARTS, "--parts", "120", "--settings", &file]);
    command.stdout(full()).stderr(Stdio::piped());
    let out = wait(command.spawn().unwrap(), Duration::from_secs(120));
    let told = stderr(&out).lines().filter(|l| l.contains("sink \"stdout\"")).count();
    assert!((1..=20).contains(&told), "{told} lines: {}", stderr(&out));
    let all: Vec<serde_json::Value> =
        std::fs::read_to_string(&log).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let s = summary(&all);
    let lost = |sink: &str| s["sinks"].as_array().unwrap().iter().find(|x| x["sink"] == sink).unwrap()["lost"].as_u64();
    assert_eq!((lost("log"), lost("stderr"), of(&all, "part").len()), (Some(0), Some(0), 120), "{s}");
    assert!(lost("stdout") > Some(100), "{s}");
}

/// SIGXFSZ ended the program where it stood, with its gate active.
#[test]
fn beyond_a_limit_on_file_sizes_the_log_loses_events_and_the_line_ends_safe() {
    for (blocks, loses) in [(8, true), (100_000, false)] {
        let log = folder(&format!("fsize-{blocks}")).join("log.jsonl");
        let file = settings(&format!("fsize-{blocks}-settings"), &format!("{GATE}[events]\npath = \"{}\"\n", log.display()));
        let run = tagpin(&["run", "--json", "--bundle", PARTS, "--parts", "60", "--settings", &file]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("ulimit -f {blocks}; exec \"$@\""), "sh"]).arg(run.get_program()).args(run.get_args());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        let out = finish(command);
        assert_eq!(out.status.code(), Some(0), "{blocks}: {:?} {}", out.status, stderr(&out));
        let all = events(&out);
        let s = summary(&all);
        let log = s["sinks"].as_array().unwrap().iter().find(|x| x["sink"] == "log").unwrap();
        assert_eq!((s["outputs_safe"].as_bool(), log["lost"].as_u64() > Some(0)), (Some(true), loses), "{blocks}: {s}");
    }
}

/// Completions panicked where their reader had left, and any command on a full disk.
#[test]
fn a_command_whose_output_cannot_be_written_says_so_and_ends_with_its_code() {
    let file = settings("streams-safe", GATE);
    let safe = ["safe", "--settings", &file];
    for args in [&["inspect", PARTS][..], &["check"], &["completions", "bash"], &["man"], &["key", "new"], &safe] {
        let mut command = tagpin(args);
        command.stdout(full()).stderr(Stdio::piped());
        let out = wait(command.spawn().unwrap(), Duration::from_secs(60));
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", stderr(&out));
        assert!(stderr(&out).contains("standard output cannot be written: No space left"), "{args:?}: {}", stderr(&out));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tagpin(args);
        command.stdout(writer).stderr(Stdio::piped());
        let out = wait(command.spawn().unwrap(), Duration::from_secs(60));
        assert_eq!((out.status.code(), stderr(&out).contains("panicked")), (Some(141), false), "{args:?}: {}", stderr(&out));
        let out = finish(tagpin(args));
        assert!(matches!(out.status.code(), Some(0 | 1)) && !out.stdout.is_empty(), "{args:?}: {}", stderr(&out));
    }
}

/// On a full disk `classify` ended with 0 and half of its lines, and so it did without a reader.
#[test]
fn classify_whose_output_cannot_be_written_says_so_by_its_exit_code() {
    for form in [&["--json"][..], &[]] {
        let classify = || tagpin(&[&["classify", PARTS, "tests/data/part.jpg"][..], form].concat());
        let mut command = classify();
        command.stdout(full()).stderr(Stdio::piped());
        let out = wait(command.spawn().unwrap(), Duration::from_secs(60));
        assert_eq!(out.status.code(), Some(2), "{form:?}: {}", stderr(&out));
        assert!(stderr(&out).contains("standard output cannot be written: "), "{form:?}: {}", stderr(&out));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = classify();
        command.stdout(writer).stderr(Stdio::piped());
        let out = wait(command.spawn().unwrap(), Duration::from_secs(60));
        assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(141), ""), "{form:?}");
        assert_eq!(finish(classify()).status.code(), Some(0), "{form:?}");
    }
}
