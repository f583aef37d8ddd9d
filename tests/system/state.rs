//! The state folder: one line's own, never taken for empty where it is away, and of each bundle and
//! recipe what was set for it.

use crate::page::{KEY, body, device, get, post};
use crate::program::*;
use crate::site::Line;
use crate::words::{self, gate};
use rustix::process::Signal;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

fn trigger(state: &Path, log: &Path) -> String {
    format!(
        "kind = \"stdin\"\nmax_jitter_ms = 5000\n[state]\nfolder = \"{}\"\n[events]\npath = \"{}\"\n[recipes.strict]\n",
        state.display(),
        log.display()
    )
}

fn checked(file: &str) -> (String, Option<i32>) {
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", file]));
    (String::from_utf8(out.stdout).unwrap(), out.status.code())
}

fn recipe(name: &str, file: &str) -> (String, Option<i32>) {
    let out = finish(tagpin(&["recipe", name, "--settings", file, "--bundle", PARTS]));
    (stderr(&out), out.status.code())
}

/// Two lines with one folder followed, and undid, each other's choice of a recipe.
#[test]
fn a_second_line_with_the_same_state_folder_is_refused_before_it_moves_anything() {
    let folder = folder("state-shared");
    let state = folder.join("state");
    std::fs::create_dir(&state).unwrap();
    let own = |name: &str| trigger(&state, &folder.join(name));
    let mut first = words::Line::start("state-first", &own("first.jsonl"), &[]);
    let second = settings("state-second", &gate(&own("second.jsonl")));
    let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &second]);
    command.stdin(std::process::Stdio::null());
    let out = finish(command);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0), "{}", stderr(&out));
    let why = stderr(&out);
    assert!(why.contains(&format!("{}: another line keeps there", state.display())), "{why}");
    assert!(why.contains("state a [state] folder of this line's own"), "{why}");
    assert!(!folder.join("second.jsonl").exists(), "it took nothing");
    // Who looks takes nothing.
    assert_eq!(checked(&second).1, Some(0), "{}", checked(&second).0);
    first.triggers(2);
    first.signal(Signal::INT);
    let (code, all, err) = first.end();
    assert_eq!((code, summary(&all)["parts"].as_u64()), (Some(0), Some(2)), "{err}");
    // The nearest that is good: the folder is free again, and through a link it is the same.
    let link = folder.join("link");
    std::os::unix::fs::symlink(&state, &link).unwrap();
    let by_link = trigger(&link, &folder.join("third.jsonl"));
    let mut third = words::Line::start("state-third", &by_link, &[]);
    let out = finish(tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &second]));
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    third.triggers(1);
    third.signal(Signal::INT);
    assert_eq!(third.end().0, Some(0));
}

/// A data partition that is not mounted yet was an empty folder: the line sorted by a recipe and
/// thresholds that nobody had chosen, without a word.
#[test]
fn a_state_folder_that_is_away_is_refused_at_a_start_and_changes_nothing_in_a_run() {
    let folder = folder("state-away");
    let (state, log) = (folder.join("state"), folder.join("events.jsonl"));
    let text = trigger(&state, &log);
    let file = settings("state-away-settings", &gate(&text));
    let missing = format!("[state] folder {}: there is no such folder", state.display());
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
    assert!(out.status.code() == Some(2) && stderr(&out).contains(&missing), "{}", stderr(&out));
    let (told, code) = checked(&file);
    assert_eq!((code, told.matches(&missing).count()), (Some(1), 1), "{told}");
    assert!(!told.contains("none is chosen"), "{told}");
    std::fs::write(&state, "").unwrap();
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
    assert!(out.status.code() == Some(2) && stderr(&out).contains("is a file, expected a folder"), "{}", stderr(&out));
    std::fs::remove_file(&state).unwrap();
    let (told, code) = recipe("strict", &file);
    assert!(code == Some(2) && told.contains(&missing), "{told}");
    assert!(!state.exists());
    std::fs::create_dir(&state).unwrap();
    assert_eq!(checked(&file).1, Some(0), "{}", checked(&file).0);
    assert_eq!(recipe("strict", &file).1, Some(0));

    let mut line = words::Line::start("state-leaves", &text, &[]);
    line.triggers(2);
    let away = folder.join("away");
    std::fs::rename(&state, &away).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    line.triggers(2);
    std::fs::rename(&away, &state).unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    line.triggers(1);
    // An empty mount point: its disk is gone.
    std::fs::rename(&state, &away).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    std::fs::remove_dir(&state).unwrap();
    std::fs::rename(&away, &state).unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    line.triggers(1);
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!((code, summary(&all)["parts"].as_u64()), (Some(0), Some(6)), "{err}");
    assert_eq!(of(&all, "start").len(), 1, "no other run began");
    let notes = |word: &str| of(&all, "note").into_iter().filter(|n| n.to_string().contains(word)).count();
    assert_eq!((notes("there is no such folder"), notes("another folder than when this run began")), (1, 1), "{err}");
}

/// Saving for one product threw away what was set for another.
#[test]
fn thresholds_of_a_recipe_are_there_again_when_its_turn_comes() {
    let folder = folder("state-recipes");
    let (state, log) = (folder.join("state"), folder.join("log.jsonl"));
    std::fs::create_dir(&state).unwrap();
    let text = format!("{}[recipes.strict]\n", device(&state, &log));
    let file = settings("state-recipes-settings", &text.replace("PORT", "0"));
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n");
    let set = |line: &Line, tag: &str, threshold: f64| {
        let rule = json!({ "tags": [{ "tag": tag, "threshold": threshold, "review_low": threshold }] });
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = post(line, "/rules", &headers, &rule);
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            assert!(Instant::now() < end, "{answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let thresholds = |line: &Line| {
        let state = body(&get(line, "/state"));
        let of = |tag: &str| {
            let tags = state["tags"].as_array().unwrap();
            tags.iter().find(|t| t["tag"] == tag).unwrap()["threshold"].as_f64().unwrap()
        };
        (of("nut"), of("bolt"))
    };
    let run = || Line::start("state-recipes-line", &text);
    {
        let line = run();
        set(&line, "nut", 0.875);
    }
    assert_eq!(recipe("strict", &file).1, Some(0));
    {
        let line = run();
        assert_eq!(thresholds(&line), (0.5, 0.5), "another recipe, another product");
        set(&line, "bolt", 0.75);
    }
    let out = finish(tagpin(&["recipe", "--none", "--settings", &file, "--bundle", PARTS]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let (told, _) = checked(&file);
    assert!(told.contains("sets thresholds on top of device.toml, tags: 1"), "{told}");
    assert_eq!(thresholds(&run()), (0.875, 0.5));
    assert_eq!(recipe("strict", &file).1, Some(0));
    assert_eq!(thresholds(&run()), (0.5, 0.75));
}

/// The log of events went to the end of the record of changes, after which nothing could be
/// recorded; and of a record that was a folder `check` said that all was well.
#[test]
fn the_record_of_changes_is_no_log_of_events_and_what_is_none_is_told() {
    let state = folder("state-record");
    for (name, log, refused) in
        [("meets", "audit.log", true), ("chosen", "recipe.toml", true), ("beside", "events.log", false)]
    {
        let text = format!("[state]\nfolder = \"{0}\"\n[events]\npath = \"{0}/{log}\"\n", state.display());
        let (told, code) = checked(&settings(&format!("state-record-{name}"), &text));
        let meet = told.contains(&format!("{log} is written by both [events] and [state]"));
        assert_eq!((code, meet), (Some(refused as i32), refused), "{told}");
    }
    let text = format!("[state]\nfolder = \"{}\"\n", state.display());
    let file = settings("state-record-folder", &text);
    let before = checked(&file).0;
    assert!(!before.contains("audit.log"), "{before}");
    std::fs::create_dir(state.join("audit.log")).unwrap();
    let after = checked(&file).0;
    assert!(after.contains("audit.log: is a pipe, device or folder"), "{after}");
}
