//! `tagpin cameras`: what is there, and what the program that lists CSI cameras says.

use crate::program::*;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// `tagpin cameras` with a program of these lines in the place of rpicam-hello.
fn cameras(name: &str, lines: &str) -> (Output, String) {
    let program = folder(name).join("list.sh");
    script(&program, &format!("#!/bin/sh\n{lines}\n"));
    let done = finish(tagpin(&["cameras", "--rpicam", program.to_str().unwrap()]));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    (done, text)
}

/// Whether a process is there and has not ended.
fn is_alive(pid: &str) -> bool {
    std::fs::read(Path::new("/proc").join(pid.trim()).join("cmdline")).is_ok_and(|line| !line.is_empty())
}

fn is_soon_gone(pid: &str) -> bool {
    (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !is_alive(pid)
    })
}

#[test]
fn cameras_says_what_is_there_or_what_is_missing() {
    let (done, text) = cameras("cameras", "echo 'Available cameras'\necho '0 : imx708 [4608x2592] (/base/soc)'");
    assert_eq!(done.status.code(), Some(0), "{text}");
    assert!(text.contains("imx708") && text.contains("source: rpicam:"), "{text}");
    let done = finish(tagpin(&["cameras", "--rpicam", "/nowhere/rpicam"]));
    assert!(String::from_utf8_lossy(&done.stdout).contains("cannot be started"));
}

/// Two cameras were listed with one source string, which opened the first.
#[test]
fn each_csi_camera_has_its_source_string_beside_it() {
    let list = "cat <<X\nAvailable cameras\n-----------------\n0 : imx708 [4608x2592 10-bit RGGB] (/base/a@1a)\n    \
                Modes: 'SRGGB10_CSI2P' : 1536x864 [120.13 fps]\n                             2304x1296 [56.03 fps]\n\n\
                1 : imx477 [4056x3040 12-bit RGGB] (/base/b@1a)\nX";
    let (done, text) = cameras("cameras-two", list);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(done.status.code(), Some(0), "{text}");
    for (number, name) in ["imx708", "imx477"].iter().enumerate() {
        let at = lines.iter().position(|line| line.contains(name)).unwrap();
        assert_eq!(lines[at + 1], format!("source: rpicam:{number}?width=640&height=480&fps=30"), "{text}");
    }
    assert_eq!(text.matches("source: rpicam:").count(), 2, "{text}");
}

/// What the program said was thrown away, and the camera that it could not list was called absent.
#[test]
fn the_last_words_of_a_program_that_lists_nothing_are_shown_and_no_camera_is_called_absent() {
    let (done, text) = cameras(
        "cameras-failing",
        "echo one >&2\necho two >&2\nprintf '\\033[1;31mERROR\\033[0m: in use\\a\\n\\nthree\\n' >&2\nexit 255",
    );
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("ended: exit status: 255; it said last:\n  two\n  ERROR: in use\\u{7}\n  three\n"), "{text}");
    assert!(!text.contains("plug one in") && text.contains("there may be one all the same"), "{text}");
    // One that says that there is none.
    let (done, text) = cameras("cameras-none", "echo 'No cameras available!'");
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("list.sh: none\n  No cameras available!\n"), "{text}");
}

/// A program that hung was waited for without end. What it started ends with it.
#[test]
fn a_program_that_lists_nothing_for_ten_seconds_is_stopped_with_all_that_it_started() {
    let pid = folder("cameras-hang-pid").join("pid");
    // One of them has left the process group, and keeps the pipes open.
    let lines = format!("echo 'no answer' >&2\nsetsid sleep 30 &\nsleep 1000 & echo $! > '{}'\nwait", pid.display());
    let (done, text) = cameras("cameras-hang", &lines);
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("gave no list within 10 s and was stopped"), "{text}");
    assert!(text.contains("it said last:\n  no answer\n"), "{text}");
    assert!(is_soon_gone(&std::fs::read_to_string(&pid).unwrap()), "its child goes on");
}

/// Neither is a helper waited for that keeps the list's pipe open, nor is a list left out that
/// came.
#[test]
fn a_helper_that_stays_does_not_hold_up_the_list() {
    let begin = Instant::now();
    let (done, text) = cameras("cameras-helper", "sleep 1000 &\necho '0 : imx708 [4608x2592] (/base/soc)'");
    assert_eq!(done.status.code(), Some(0), "{text}");
    assert!(text.contains("source: rpicam:0?"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
}

/// The program is in a process group of its own, which a terminal's Ctrl-C does not reach.
#[test]
fn a_signal_ends_the_program_that_lists_too() {
    if emulated() {
        return;
    }
    let folder = folder("cameras-signal");
    let (program, pid) = (folder.join("list.sh"), folder.join("pid"));
    script(&program, &format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 1000\n", pid.display()));
    let mut command = tagpin(&["cameras", "--rpicam", program.to_str().unwrap()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let listing = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        std::fs::read_to_string(&pid).ok().filter(|pid| pid.ends_with('\n'))
    });
    let listing = listing.expect("the program starts");
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let done = wait(child, Duration::from_secs(8));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("was stopped by a signal"), "{text}");
    assert!(is_soon_gone(&listing), "the program goes on");
}
