//! A camera program whose bytes are not the frames that it was asked for: nothing in them tells
//! where a frame begins.

use crate::program::*;
use crate::sources::{camera, has_python, starts};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::Duration;

/// Frames of one grey each, 20 a second, with a line each; before frame 20 of the first life `odd`
/// is done.
fn life(odd: &str) -> String {
    format!(
        "n = 0\nwhile True:\n    if lives == 1 and n == 20:\n        {odd}\n    \
         frame(n); stamp(time.monotonic() - 0.02); n += 1; time.sleep(0.05)"
    )
}

/// Half a frame was lost, or a word was written between two, and every later image was torn, to the
/// run's end and without a word of it.
#[test]
fn from_bytes_that_are_no_frames_the_program_is_started_again_and_no_torn_image_is_classified() {
    if emulated() || !has_python() {
        return;
    }
    let half = "out(bytes([200]) * (W * H // 2))";
    let later = &format!("{half}; time.sleep(0.05)");
    let word = "out(b'INFO: something')";
    for (name, odd, lives) in [("whole", "pass", 1), ("half", half, 2), ("half-later", later, 2), ("word", word, 2)] {
        let (folder, source) = camera(&format!("misframed-{name}"), &life(odd));
        let text = format!("[source]\nopen = \"{source}\"\n");
        let file = settings(&format!("misframed-{name}-settings"), &text);
        let kept = folder.join("kept");
        let record = ["--record", kept.to_str().unwrap()];
        let run = ["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "60"];
        let out = finish(tagpin(&[&run[..], &record].concat()));
        assert_eq!((out.status.code(), starts(&folder)), (Some(0), lives), "{name}: {}", stderr(&out));
        let images = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path());
        let images: Vec<_> = images.filter(|path| path.extension().is_some_and(|e| e == "rgb")).collect();
        assert!(images.len() >= 50, "{name}: {images:?}");
        for path in images {
            let image = std::fs::read(&path).unwrap();
            let (least, most) = (image.iter().min().unwrap(), image.iter().max().unwrap());
            assert!(most - least <= 2, "{name}: {} has {least} to {most}", path.display());
        }
    }
}

/// A card moved from a Pi 4 to a Pi 5 got rows of another length: every image was sheared, and
/// check said that there is no problem.
#[test]
fn rows_of_another_board_are_told_with_the_option_that_states_them_and_none_is_classified() {
    if emulated() || !has_python() {
        return;
    }
    // Rows of 160 bytes where 128 were asked for.
    let wide = "while True:\n    out(bytes([90]) * (160 * H) + bytes([128]) * (160 * H // 2)); stamp(time.monotonic()); time.sleep(0.05)";
    let (_, source) = camera("wide-rows", wide);
    let file = settings("wide-rows-settings", &format!("[source]\nopen = \"{source}\"\n"));
    let check = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    let said = String::from_utf8_lossy(&check.stdout);
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("stride="), "{said}");
    let mut run = tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file]);
    let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let out = wait(child, Duration::from_secs(20));
    let all = events(&out);
    assert!(of(&all, "part").iter().all(|part| part["verdict"] == "safe"), "{}", stderr(&out));
    assert!(stderr(&out).contains("stride="), "{}", stderr(&out));
    // The same bytes, stated as they are.
    let stated = format!("[source]\nopen = \"{}\"\n", source.replace("?width", "?stride=160&width"));
    let file = settings("wide-rows-stated-settings", &stated);
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--settings", &file, "--parts", "10"]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
}
