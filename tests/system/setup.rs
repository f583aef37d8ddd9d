//! `tagpin setup`: a conversation in, a device.toml out that sorts.

use crate::program::{emulated, events, finish, folder, stderr, summary, tagpin, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::path::{Path, PathBuf};
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
fn answered(name: &str, more: &[&str], answers: impl AsRef<[u8]>) -> (PathBuf, Output) {
    let (folder, mut child) = started(name, more);
    let mut stdin = child.stdin.take().unwrap();
    // Who is refused at once reads none of it.
    let _ = stdin.write_all(answers.as_ref());
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
        "expected milliseconds, 0 to 6",
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
    assert_eq!(sorted(&folder), (Some(8), Some(0)), "{text}");
}

/// Of eight parts, how many the file that was written sorts as they are, and how many not.
fn sorted(folder: &Path) -> (Option<u64>, Option<u64>) {
    let mut run = tagpin(&["run", "--settings", "device.toml", "--parts", "8", "--json"]);
    run.current_dir(folder);
    let out = finish(run);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let events = events(&out);
    let truth = &summary(&events)["truth"];
    (truth["right"].as_u64(), truth["wrong"].as_u64())
}

/// Parts follow each other faster than they are watched, so that frames show the next one: its
/// frame was proposed, `check` was content, and seven of eight parts were sorted wrongly. A pulse
/// longer than the parts' distance allows was written too, and every part got the late action.
#[test]
fn the_next_parts_frame_is_not_taken_by_enter_nor_a_pulse_that_reaches_the_next_part_unasked() {
    if emulated() {
        eprintln!("skipped: an emulator does not keep up with the conveyor");
        return;
    }
    let options = ["--source", "conveyor?seed=2&speed=900", "--within-ms", "600"];
    let asked = "1\n\n-\n400\n-\n";
    let (folder, out) = answered("setup-next", &options, format!("{asked}450\n\n450\nnext\n"));
    let shown = stdout(&out);
    assert_eq!(out.status.code(), Some(2), "{shown}");
    assert_eq!(shown.matches("The next part was at the trigger").count(), 2, "{shown}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);

    let (folder, out) = answered("setup-own", &options, format!("{asked}{}100\n1500\n", "22\n".repeat(5)));
    let (shown, told) = (stdout(&out), stderr(&out));
    assert_eq!(out.status.code(), Some(0), "{shown}{told}");
    assert!(shown.contains("A pulse of 400 ms needs twice its length"), "{shown}");
    let text = std::fs::read_to_string(folder.join("device.toml")).unwrap();
    assert!(text.contains("width_ms = 100"), "{text}");
    assert_eq!(sorted(&folder), (Some(8), Some(0)), "{text}");
}

/// Bytes of another encoding were told as the end of standard input.
#[test]
fn a_name_that_is_no_utf_8_is_read_with_marks_in_its_place() {
    let (_, out) = answered("setup-latin1", &["--source", "conveyor"], b"1\nready\nger\xe4t\n-\nnone\n");
    let shown = stdout(&out);
    assert!(shown.contains("\"ready\" is the name of the output that the belt waits for"), "{shown}");
    assert!(shown.contains("expected milliseconds, 1 to 10000"), "it went on to the pulse: {shown}");
}

#[test]
fn a_file_that_is_there_and_a_folder_that_is_not_are_told_before_anything_is_asked() {
    let folder = folder("setup-refused");
    std::fs::write(folder.join("device.toml"), "mine").unwrap();
    // The last three were told when all had been asked.
    for (options, why) in [
        (["--out", "device.toml"], "is there already"),
        (["--out", "no/device.toml"], "cannot be written"),
        (["--out", "no/"], "is a folder's name; name a file in it"),
        (["--bundle", "device.toml"], "bundle device.toml: "),
        (["--images", "device.toml"], "images cannot be written there"),
    ] {
        let mut command = tagpin(&["setup", "--out", "new.toml"]);
        if options[0] == "--out" {
            command = tagpin(&["setup"]);
        }
        command.args(options).current_dir(&folder).stdin(Stdio::null());
        let output = finish(command);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{options:?}");
        assert!(stderr(&output).contains(why), "{options:?}: {}", stderr(&output));
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

    // Ctrl-C; and Ctrl-\ and Ctrl-Z, which left a gate active that was being pulsed.
    for (name, signal) in [("int", Signal::INT), ("quit", Signal::QUIT), ("tstp", Signal::TSTP)] {
        let (folder, child) = started(&format!("setup-{name}"), &["--source", "conveyor"]);
        std::thread::sleep(Duration::from_millis(if emulated() { 5000 } else { 800 }));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let out = wait(child, PATIENCE);
        assert_eq!(out.status.code(), Some(2), "{name}: {}", stdout(&out));
        assert!(stderr(&out).contains("stopped by a signal; nothing was written"), "{name}: {}", stderr(&out));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    let (_, out) = answered("setup-files", &["--source", "dir:."], "");
    assert_eq!(out.status.code(), Some(2));
}

/// "Nothing was written" it said, and the same command again was refused for the images it had kept.
#[test]
fn images_that_are_kept_are_named_where_the_conversation_ends_early() {
    if emulated() {
        eprintln!("skipped: an emulator does not keep up with the conveyor");
        return;
    }
    let options = ["--source", "conveyor?seed=5&speed=900", "--within-ms", "600", "--images", "kept"];
    let (folder, out) = answered("setup-kept", &options, "1\n\n-\n\n-\nnone\n");
    let kept = std::fs::read_dir(folder.join("kept")).unwrap().count();
    assert!(out.status.code() == Some(2) && kept > 0, "{}", stdout(&out));
    let told = format!("--images kept: {kept} images are kept there; name another folder next time");
    assert!(stderr(&out).contains(&told), "{}", stderr(&out));
    assert!(stdout(&out).contains("takes no image of what passes"), "the conveyor moves no line: {}", stdout(&out));
}
