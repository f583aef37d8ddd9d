//! `tagpin setup`: a conversation in, a device.toml out that sorts.

use crate::program::{emulated, events, finish, folder, stderr, summary, tagpin, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn started(name: &str, more: &[&str]) -> (PathBuf, Child) {
    let folder = folder(name);
    let mut command: Command = tagpin(&["setup"]);
    command.args(more).current_dir(&folder);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (folder, child)
}

/// Answers everything at once, then ends standard input.
fn answered(name: &str, more: &[&str], answers: &str) -> (PathBuf, Output) {
    let (folder, mut child) = started(name, more);
    let mut stdin = child.stdin.take().unwrap();
    // Who is refused at once reads none of it.
    let _ = stdin.write_all(answers.as_bytes());
    drop(stdin);
    (folder, wait(child, PATIENCE))
}

/// Of the conveyor's parts the one in the middle is named for each trigger, so the file that is
/// written sorts every part as it is.
#[test]
fn a_line_is_set_up_by_pressing_enter_and_sorts_every_part() {
    if emulated() {
        eprintln!("skipped: an emulator does not keep up with the conveyor");
        return;
    }
    let answers = "1\n\n-\n\n-\nx\n\n\n\n\n\nmeasured\n100\n1500\n";
    let options = ["--source", "conveyor?seed=5&speed=900", "--within-ms", "600", "--images", "kept"];
    let (folder, out) = answered("setup-conveyor", &options, answers);
    let (shown, told) = (stdout(&out), stderr(&out));
    assert_eq!(out.status.code(), Some(0), "{shown}{told}");
    for expected in [
        "expected milliseconds, all or none",
        "<- middle",
        "expected milliseconds, 1 to 600000",
        "100 ms is before the verdict",
        "OK: no problems found",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
    assert!(shown.lines().all(|l| l.chars().count() <= 80 || !l.contains("@@")), "images fit 80 columns");
    let kept = std::fs::read_dir(folder.join("kept")).unwrap().count();
    assert!(kept > 5 * 15, "{kept} images of five parts");
    let text = std::fs::read_to_string(folder.join("device.toml")).unwrap();
    let mut run = tagpin(&["run", "--settings", "device.toml", "--parts", "8", "--json"]);
    run.current_dir(&folder);
    let out = finish(run);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let events = events(&out);
    let s = summary(&events);
    assert_eq!((s["truth"]["right"].as_u64(), s["truth"]["wrong"].as_u64()), (Some(8), Some(0)), "{s}\n{text}");
}

#[test]
fn a_file_that_is_there_and_a_folder_that_is_not_are_told_before_anything_is_asked() {
    let folder = folder("setup-refused");
    std::fs::write(folder.join("device.toml"), "mine").unwrap();
    for (out, why) in [("device.toml", "is there already"), ("no/device.toml", "cannot be written")] {
        let mut command = tagpin(&["setup", "--out", out]);
        command.current_dir(&folder).stdin(Stdio::null());
        let output = finish(command);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{out}");
        assert!(stderr(&output).contains(why), "{out}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_to_string(folder.join("device.toml")).unwrap(), "mine");
}

/// Whatever ends the conversation, nothing half done is left.
#[test]
fn an_end_of_input_a_signal_and_a_source_of_files_write_nothing() {
    let (folder, out) = answered("setup-ends", &["--source", "conveyor"], "2\n");
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("standard input ended before all was asked; nothing was written"), "{}", stderr(&out));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);

    let (folder, child) = started("setup-signal", &["--source", "conveyor"]);
    std::thread::sleep(Duration::from_millis(if emulated() { 5000 } else { 800 }));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let out = wait(child, PATIENCE);
    assert_eq!(out.status.code(), Some(2), "{}", stdout(&out));
    assert!(stderr(&out).contains("stopped by a signal; nothing was written"), "{}", stderr(&out));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);

    let (_, out) = answered("setup-files", &["--source", "dir:."], "");
    assert_eq!(out.status.code(), Some(2));
}
