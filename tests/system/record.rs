//! `--record` beside a running line: what it keeps, where it stops, and what a bad disk costs.

use crate::program::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Each frame is a part; 27,696 bytes are kept of each.
fn frames(name: &str) -> (PathBuf, String) {
    let folder = folder(name);
    let file = folder.join("device.toml");
    std::fs::write(&file, "[source]\nopen = \"conveyor?fps=60\"\n").unwrap();
    (folder.join("kept"), file.display().to_string())
}

fn run(settings: &str, kept: &Path, args: &[&str]) -> std::process::Output {
    let fixed = ["run", "--json", "--bundle", PARTS, "--settings", settings, "--record", kept.to_str().unwrap()];
    finish(tagpin(&[&fixed, args].concat()))
}

/// Names of the files below a folder, in order.
fn files(folder: &Path, ending: &str) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> = all.filter(|f| f.ends_with(ending)).collect();
    found.sort();
    found
}

/// A second run wrote over the first one's frames and left its longer tail between them.
#[test]
fn a_folder_that_holds_a_run_is_refused_and_stays_as_it_is() {
    let (kept, settings) = frames("record-twice");
    let out = run(&settings, &kept, &["--parts", "8"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let recorded = summary(&events(&out))["recorded"].clone();
    assert_eq!((recorded["frames"].as_u64(), recorded["lost"].as_u64()), (Some(8), Some(0)));
    let before = files(&kept, "");
    assert_eq!(before.len(), 3 * 8 + 1, "{before:?}");
    let out = run(&settings, &kept, &["--parts", "3"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("holds a recorded run already; name a folder of its own"), "{}", stderr(&out));
    assert_eq!(files(&kept, ""), before);
    // A folder that is there and holds no run will do.
    let other = kept.with_file_name("other");
    std::fs::create_dir(&other).unwrap();
    assert_eq!(run(&settings, &other, &["--parts", "3"]).status.code(), Some(0));
    assert_eq!(files(&other, ".rgb").len(), 3);
}

/// What is no folder was told as "File exists (os error 17)".
#[test]
fn what_is_no_folder_is_refused_in_words() {
    let (kept, settings) = frames("record-no-folder");
    std::fs::write(&kept, "a file").unwrap();
    for place in [Path::new("/dev/null"), &kept, &kept.join("below")] {
        let out = run(&settings, place, &["--parts", "3"]);
        let why = format!("--record {}: is no folder, or lies in what is none; name a folder", place.display());
        assert!(out.status.code() == Some(2) && stderr(&out).contains(&why), "{}", stderr(&out));
    }
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "a file");
    let out = run(&settings, &kept.with_file_name("new").join("below"), &["--parts", "3"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
}

#[test]
fn what_is_kept_ends_at_the_cap_and_the_line_goes_on() {
    let (kept, settings) = frames("record-cap");
    let out = run(&settings, &kept, &["--parts", "50", "--record-mb", "1"]);
    let all = events(&out);
    assert_eq!((out.status.code(), summary(&all)["parts"].as_u64()), (Some(0), Some(50)), "{}", stderr(&out));
    // 36 frames of 27,696 bytes are the most that a million bytes hold.
    assert_eq!(files(&kept, ".rgb").len(), 36);
    assert_eq!(summary(&all)["recorded"]["frames"], 36);
    let told = of(&all, "note").iter().filter(|n| n["text"].as_str().unwrap().contains("--record-mb")).count();
    assert_eq!(told, 1, "{}", stderr(&out));
}

/// A full disk left the beginning of an image behind and ended the recording for good.
#[test]
fn a_full_disk_costs_whole_frames_that_are_counted_and_recording_goes_on() {
    if emulated() {
        eprintln!("skipped: the limit would be the emulator's");
        return;
    }
    let (kept, settings) = frames("record-full");
    // A limit on the size of files stands for the disk's end: within an image, beyond logits and
    // scores.
    let inner = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &settings, "--record", kept.to_str().unwrap()]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -S -f 40; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    let mut child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        text
    });
    std::thread::sleep(Duration::from_millis(1500));
    // A frame may just be under way, whose beginning is taken back at once.
    let end = Instant::now() + Duration::from_secs(5);
    while files(&kept, "") != ["bundle.sha256"] && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_eq!(files(&kept, ""), ["bundle.sha256"], "nothing is left of a frame that could not be written");
    let pid = rustix::process::Pid::from_raw(child.id() as i32);
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, unlimited).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while files(&kept, ".rgb").len() < 10 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest = wait(child, Duration::from_secs(30));
    let all: Vec<Value> = reader.join().unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let recorded = &summary(&all)["recorded"];
    let images = files(&kept, ".rgb");
    assert_eq!(recorded["frames"].as_u64(), Some(images.len() as u64), "{}", stderr(&rest));
    assert!(images.len() >= 10 && recorded["lost"].as_u64().unwrap() >= 10, "{recorded}");
    // A frame that was with the model when the run ended may be kept, though its part has no
    // verdict.
    let parts = summary(&all)["parts"].as_u64().unwrap();
    let all_frames = recorded["frames"].as_u64().unwrap() + recorded["lost"].as_u64().unwrap();
    assert!((parts..=parts + 1).contains(&all_frames), "{parts} parts, {recorded}");
    assert_eq!((images[0].as_str(), files(&kept, ".scores").len()), ("00000000.rgb", images.len()), "numbers have no gap");
    assert_eq!(of(&all, "fault").iter().filter(|f| f["kind"] == "record").count(), 1, "told once, not with each frame");
}
