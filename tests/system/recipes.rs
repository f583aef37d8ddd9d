//! Recipes through the binary: a running line changes to another one in the same process, no part
//! is lost between, and what cannot run changes nothing.

use crate::audit::records;
use crate::page::{KEY, body, device, get, post, sha256};
use crate::plc::{Plc, free_port};
use crate::program::*;
use crate::words::{Line, gate};
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(super) const OTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/board/patterns.tagpin");

/// A line whose events are in a file, and its folder of changes.
pub(super) struct Site {
    pub(super) folder: PathBuf,
    pub(super) trigger: String,
}

impl Site {
    pub(super) fn new(name: &str, recipes: &str) -> Self {
        let folder = folder(name);
        let shown = folder.display();
        let trigger = format!(
            "kind = \"stdin\"\nmax_jitter_ms = 5000\n[state]\nfolder = \"{shown}\"\n[events]\npath = \"{shown}/events.jsonl\"\n\
             [outputs.ready]\non = [\"ready\"]\n{recipes}"
        );
        Self { folder, trigger }
    }

    /// Its device.toml, as the line has it.
    pub(super) fn file(&self, name: &str) -> String {
        settings(name, &gate(&self.trigger))
    }

    /// What the line has told so far, whole lines of it.
    pub(super) fn told(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("events.jsonl")).unwrap_or_default();
        text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(super) fn until(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !wanted(&self.told()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.told().last());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The recipes as the record of changes has them: who, old, new.
    pub(super) fn recorded(&self) -> Vec<[String; 3]> {
        let all = records(&self.folder.join("audit.log"));
        let text = |r: &Value, key: &str| r[key].as_str().unwrap().to_string();
        let recipes = all.iter().filter(|r| r["what"] == "recipe");
        recipes.map(|r| ["who", "old", "new"].map(|key| text(r, key))).collect()
    }
}

/// `tagpin recipe ARGS` for a settings file: output, standard error, exit code.
pub(super) fn recipe(args: &[&str], file: &str) -> (String, String, Option<i32>) {
    let out = finish(tagpin(&[&["recipe"], args, &["--settings", file, "--bundle", PARTS]].concat()));
    (String::from_utf8(out.stdout.clone()).unwrap(), stderr(&out), out.status.code())
}

fn triggers(line: &mut Line, parts: u64) {
    for _ in 0..parts {
        line.write(b"trigger\n");
        std::thread::sleep(Duration::from_millis(60));
    }
}

/// The events of each run.
pub(super) fn runs(all: &[Value]) -> Vec<Vec<Value>> {
    let starts: Vec<usize> = (0..all.len()).filter(|i| all[*i]["event"] == "start").collect();
    let ends = starts.iter().skip(1).copied().chain([all.len()]);
    starts.iter().zip(ends).map(|(from, to)| all[*from..to].to_vec()).collect()
}

/// Every trigger has its part and its pulse, or why it has none.
fn assert_sorted(run: &[Value]) -> u64 {
    let numbers = |events: Vec<&Value>| events.iter().map(|e| e["part"].as_u64().unwrap()).collect::<Vec<_>>();
    let parts = numbers(of(run, "trigger"));
    assert_eq!(parts, (1..=parts.len() as u64).collect::<Vec<_>>());
    let mut ends = numbers(of(run, "part"));
    ends.sort();
    assert_eq!(ends, parts);
    let pulses = of(run, "edge").into_iter().filter(|e| e["output"] == "any" && e["state"] == "active").collect();
    assert_eq!(numbers(pulses), parts, "{}", summary(run));
    assert_eq!((&summary(run)["given_up"], &summary(run)["outputs_safe"]), (&json!(0), &json!(true)));
    parts.len() as u64
}

#[test]
fn a_running_line_changes_its_recipe_and_sorts_every_part_on_its_way() {
    // In an emulator edges come later than their window: a missed pulse says nothing of the change.
    if emulated() {
        return;
    }
    let site = Site::new("recipe-change", &format!("[recipes.\"other parts\"]\nbundle = \"{OTHER}\"\n[recipes.same]\n"));
    let file = site.file("recipe-change-settings");
    let mut line = Line::start("recipe-change-line", &site.trigger, &[]);
    triggers(&mut line, 5);
    let (text, err, code) = recipe(&["other parts", "--who", "shift 2"], &file);
    assert!(code == Some(0) && text.contains("none -> other parts (patterns "), "{text}{err}");
    let mut written = 5;
    while of(&site.told(), "recipe").is_empty() {
        assert!(written < 500, "no change was told");
        triggers(&mut line, 1);
        written += 1;
    }
    // While parts are on their way to their gates.
    triggers(&mut line, 2);
    written += 2;
    site.until("the run by the other recipe", |all| of(all, "start").len() == 2);
    std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 400 }));
    // The same one again, and one that there is not.
    let (text, err, code) = recipe(&["other parts"], &file);
    assert!(code == Some(0) && text == "other parts is the current recipe already\n", "{text}{err}");
    let (_, err, code) = recipe(&["others"], &file);
    assert!(code == Some(1) && err.contains("there is no recipe \"others\"; device.toml has \"other parts\""), "{err}");
    triggers(&mut line, 5);
    written += 5;
    std::thread::sleep(Duration::from_millis(1500));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!(code, Some(0), "{err}");
    let runs = runs(&all);
    assert_eq!(runs.len(), 2, "{err}");
    let sorted: u64 = runs.iter().map(|run| assert_sorted(run)).sum();
    let passed_over: u64 = runs.iter().map(|run| summary(run)["passed_over"].as_u64().unwrap_or(0)).sum();
    assert!(passed_over >= 1, "{err}");
    assert_eq!(sorted + passed_over, written, "each word is a part, or is told: {err}");
    assert!(err.contains("a part passed the trigger while the recipe changes"), "{err}");
    let [first, second] = [0, 1].map(|i| &runs[i][0]);
    assert_ne!(first["tags"], second["tags"]);
    assert_eq!(first["outputs"], second["outputs"]);
    assert!(of(&runs[1], "part").iter().all(|part| part["bundle_sha256"] == second["bundle"]["sha256"]));
    assert_eq!(
        (summary(&runs[0])["ended"].as_str(), summary(&runs[1])["ended"].as_str()),
        (Some("another recipe"), Some("signal"))
    );
    let told: Vec<[&Value; 3]> = of(&all, "recipe").iter().map(|r| ["outcome", "old", "new"].map(|key| &r[key])).collect();
    let (none, new) = (Value::Null, json!("other parts"));
    assert_eq!(told, [[&json!("chosen"), &none, &new], [&json!("running"), &none, &new]]);
    // `ready` falls before the parts on their way have passed, and comes with the next run.
    let place = |run: &[Value], output: &str, state: &str| {
        run.iter().rposition(|e| e["event"] == "edge" && e["output"] == output && e["state"] == state)
    };
    assert!(place(&runs[0], "ready", "inactive") > place(&runs[0], "ready", "active"), "{err}");
    assert!(place(&runs[0], "ready", "inactive") < place(&runs[0], "any", "inactive"), "{err}");
    assert!(place(&runs[1], "ready", "active").is_some(), "{err}");
    let recorded = site.recorded();
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert!(recorded[0][0].starts_with("shift 2, user "), "{recorded:?}");
    assert_eq!(recorded[0][1..], ["none", "other parts"]);
    // The document's example has the same fields.
    let example = include_str!("../../src/events/EVENTS.md").lines().find(|l| l.contains("\"event\":\"recipe\""));
    let example: Value = serde_json::from_str(example.unwrap()).unwrap();
    let fields = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(of(&all, "recipe")[0]), fields(&example));
    // A start goes by what was chosen; with no word on standard input it ends by itself.
    let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file]);
    command.stdin(std::process::Stdio::null());
    let out = finish(command);
    assert_eq!(events(&out)[0]["bundle"], second["bundle"], "{}", stderr(&out));
}

/// Of two that were chosen while the line drained the second was asked for once more behind its own
/// change: a run that ended as it began, with camera and model opened twice.
#[test]
fn another_recipe_chosen_while_the_line_drains_is_the_next_runs_and_the_change_is_one() {
    // In an emulator a recipe is looked at for longer than the line drains.
    if emulated() {
        return;
    }
    let recipes =
        "[outputs.far]\nmode = \"pulse\"\ndelay_ms = 5000\non = [\"accept\", \"reject\"]\n[recipes.a]\n[recipes.b]\n";
    let site = Site::new("recipe-twice", recipes);
    let file = site.file("recipe-twice-settings");
    let mut line = Line::start("recipe-twice-line", &site.trigger, &[]);
    site.until("the line is ready", |all| of(all, "edge").iter().any(|e| e["output"] == "ready"));
    triggers(&mut line, 1);
    assert_eq!(recipe(&["a"], &file).2, Some(0));
    site.until("the first is chosen", |all| of(all, "recipe").len() == 1);
    assert_eq!(recipe(&["b"], &file).2, Some(0));
    site.until("the second runs", |all| of(all, "recipe").iter().any(|r| r["outcome"] == "running"));
    triggers(&mut line, 1);
    std::thread::sleep(Duration::from_millis(1500));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    let told: Vec<_> = of(&all, "recipe").iter().map(|r| [&r["outcome"], &r["new"]]).collect();
    let [chosen, running] = ["chosen", "running"].map(Value::from);
    let [a, b] = ["a", "b"].map(Value::from);
    assert_eq!(told, [[&chosen, &a], [&chosen, &b], [&running, &b]], "{err}");
    assert_eq!((code, of(&all, "start").len()), (Some(0), 2), "{err}");
}

/// What can only be seen as the camera opens: a region beyond its frames.
#[test]
fn a_recipe_that_cannot_start_leaves_the_line_to_the_one_before() {
    // In an emulator edges come later than their window: a missed pulse says nothing of the change.
    if emulated() {
        return;
    }
    let beyond = "[recipes.beyond.source]\nroi = { x = 8000, width = 100, height = 100 }\n";
    let site = Site::new("recipe-back", beyond);
    let file = site.file("recipe-back-settings");
    let mut line = Line::start("recipe-back-line", &site.trigger, &["--parts", "6"]);
    triggers(&mut line, 3);
    let (text, err, code) = recipe(&["beyond"], &file);
    assert_eq!(code, Some(0), "{text}{err}");
    site.until("the way back", |all| of(all, "recipe").iter().any(|r| r["outcome"] == "went_back"));
    std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 400 }));
    triggers(&mut line, 3);
    // The parts of both runs are those of --parts.
    let (code, all, err) = line.end();
    assert_eq!(code, Some(0), "{err}");
    let runs = runs(&all);
    assert_eq!(runs.iter().map(|run| assert_sorted(run)).collect::<Vec<_>>(), [3, 3], "{err}");
    let told = of(&all, "recipe");
    let outcomes: Vec<&str> = told.iter().map(|r| r["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["chosen", "went_back"], "{err}");
    assert!(told[1]["why"].as_str().unwrap().contains("region"), "{}", told[1]);
    assert_eq!((&told[1]["old"], &told[1]["new"]), (&Value::Null, &json!("beyond")));
    let recorded = site.recorded();
    assert_eq!([&recorded[0][1..], &recorded[1][..]], [&["none", "beyond"][..], &["line, went back", "beyond", "none"][..]]);
    assert!(recipe(&[], &file).0.starts_with("* 0  none"), "{:?}", recipe(&[], &file));
}

/// A film in a named pipe, from its beginning for each reader; while it `plays` a reader finds it.
/// The first showing after a pause is a frame long, so that the reader behind that one, which comes
/// at once, meets no rest of it.
fn film(pipe: PathBuf, plays: Arc<AtomicBool>, ends: Arc<AtomicBool>) {
    let show = |frames: usize| -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&pipe)?;
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
        let mut head = b"YUV4MPEG2 W96 H96 F100:1 Cmono\n".to_vec();
        for i in (0..=u8::MAX).cycle().take(frames) {
            let frame: Vec<u8> = (0..96 * 96).map(|at: u32| (at as u8).wrapping_mul(i)).collect();
            if file.write_all(&[&std::mem::take(&mut head), b"FRAME\n".as_slice(), &frame].concat()).is_err() {
                // Its reader has left.
                break;
            }
            if frames > 1 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    };
    let mut has_paused = false;
    while !ends.load(Ordering::Acquire) {
        if !plays.load(Ordering::Acquire) {
            has_paused = true;
        } else if has_paused && show(1).is_ok() {
            has_paused = false;
            std::thread::sleep(Duration::from_millis(1000));
        } else if !has_paused {
            let _ = show(usize::MAX);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The way back took for what had failed whatever the file said by then: a recipe that somebody
/// chose while a bad one was being opened was undone, and blamed for it, untried.
#[test]
fn a_choice_made_while_a_bad_recipe_is_opened_stays_and_is_tried_next() {
    if emulated() {
        return;
    }
    let site = Site::new(
        "recipe-blame",
        "[recipes.better]\n[recipes.beyond.source]\nroi = { x = 8000, width = 100, height = 100 }\n",
    );
    let pipe = site.folder.join("film");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let text = gate(&site.trigger).replace("conveyor?seed=21&fps=60", &format!("y4m:{}", pipe.display()));
    let text = text.replace("max_jitter_ms = 5000\n", "max_jitter_ms = 5000\nmax_latency_ms = 50\n");
    let file = settings("recipe-blame-settings", &text);
    let [plays, ends] = [true, false].map(|is| Arc::new(AtomicBool::new(is)));
    let projector = std::thread::spawn({
        let (plays, ends) = (plays.clone(), ends.clone());
        move || film(pipe, plays, ends)
    });
    let mut child = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file]);
    child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let input = child.stdin.take();
    site.until("the first run", |all| !of(all, "start").is_empty());
    plays.store(false, Ordering::Release);
    assert_eq!(recipe(&["beyond"], &file).2, Some(0));
    site.until("the first run's end", |all| !of(all, "summary").is_empty());
    // The next run has read the choice by then, and waits for its source, for ten seconds at most.
    std::thread::sleep(Duration::from_millis(1500));
    let (text, err, code) = recipe(&["better", "--who", "foreman"], &file);
    assert!(code == Some(0) && text.starts_with("beyond -> better ("), "{text}{err}");
    plays.store(true, Ordering::Release);
    site.until("the better recipe", |all| of(all, "recipe").iter().any(|r| r["outcome"] == "running"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    let out = wait(child, Duration::from_secs(60));
    drop(input);
    ends.store(true, Ordering::Release);
    projector.join().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let all = site.told();
    let told: Vec<[&Value; 3]> = of(&all, "recipe").iter().map(|r| ["outcome", "old", "new"].map(|key| &r[key])).collect();
    let [chosen, went_back, running] = ["chosen", "went_back", "running"].map(|outcome| json!(outcome));
    let (none, beyond, better) = (Value::Null, json!("beyond"), json!("better"));
    let expected =
        [[&chosen, &none, &beyond], [&went_back, &none, &beyond], [&chosen, &none, &better], [&running, &none, &better]];
    assert_eq!(told, expected, "{}", stderr(&out));
    assert!(!of(&all, "recipe")[1]["who"].as_str().unwrap().contains("foreman"));
    let recorded = site.recorded();
    let changes: Vec<&[String]> = recorded.iter().map(|r| &r[1..]).collect();
    assert_eq!(changes, [["none", "beyond"], ["beyond", "better"]], "{recorded:?}");
    assert!(recipe(&[], &file).0.contains("* 1  better"), "{:?}", recipe(&[], &file));
}

/// What the running line itself refuses, what nobody is, and a file that cannot be read.
#[test]
fn what_is_no_choice_is_refused_by_the_command_with_its_reason() {
    let site = Site::new("recipe-odd", "[recipes.a]\n");
    let file = site.file("recipe-odd-settings");
    let (_, err, code) = recipe(&["a", "--who", " "], &file);
    assert!(code == Some(2) && err.contains("expected who chose it"), "{err}");
    assert!(site.recorded().is_empty());
    let chosen = site.folder.join("recipe.toml");
    std::fs::create_dir(&chosen).unwrap();
    let (_, err, code) = recipe(&["a"], &file);
    assert!(code == Some(2) && err.contains("nothing was changed") && site.recorded().is_empty(), "{err}");
    std::fs::remove_dir(&chosen).unwrap();
    std::fs::write(&chosen, "recipe").unwrap();
    let (text, err, code) = recipe(&["a"], &file);
    assert!(code == Some(0) && text.starts_with("unreadable -> a ("), "{text}{err}");
    assert_eq!(site.recorded()[0][1..], ["unreadable", "a"]);
    std::fs::remove_file(&chosen).unwrap();
    let trigger = "kind = \"stdin\"\nmax_jitter_ms = 5";
    for (text, expected) in [
        ("recipes = 3\n", "recipes: found integer, expected a table"),
        ("[recipes]\na = 1\n", "recipes.a: found integer, expected a table"),
        ("[recipes.none]\n", "recipes.none: no recipe can be called so"),
    ] {
        let (first, rest) = if text.starts_with('[') { ("", text) } else { (text, "") };
        let text = format!("{first}{}[state]\nfolder = \"{}\"\n{rest}", gate(trigger), site.folder.display());
        let file = settings("recipe-odd-names", &text);
        let name = if rest.contains("none") { "none" } else { "a" };
        let (text, err, code) = recipe(&[name], &file);
        assert!(code != Some(0) && err.contains(expected) && !err.contains("there is no recipe"), "{text}{err}");
    }
}

/// A recipe that does not fit its bundle, one whose bundle is gone, and a choice that somebody
/// wrote by hand.
#[test]
fn recipes_with_problems_are_told_by_check_and_never_chosen() {
    let text = format!(
        "[recipes.good]\nbundle = \"{OTHER}\"\n[recipes.gone]\nbundle = \"/nowhere/x.tagpin\"\n\
         [recipes.unfit.decide]\nreject = [\"screw\"]\n[recipes.near.trigger]\nmin_spacing_ms = 5\n\
         [recipes.beyond.source.roi]\nx = 300\ny = 0\nwidth = 64\nheight = 64\n[recipes.within.source.roi]\nx = 256\ny = 0\n\
         width = 64\nheight = 64\n"
    );
    let site = Site::new("recipe-check", &text);
    let file = site.file("recipe-check-settings");
    let check = || {
        let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
        (String::from_utf8(out.stdout.clone()).unwrap(), out.status.code())
    };
    let (text, code) = check();
    assert!(code == Some(1) && text.contains("4 problems found"), "{text}");
    assert!(text.contains("ok       recipe good: patterns ") && text.contains("recipe: none is chosen"), "{text}");
    assert!(text.contains("PROBLEM  recipe gone: bundle /nowhere/x.tagpin: cannot be read"), "{text}");
    assert!(text.contains("PROBLEM  recipe unfit: recipe \"unfit\": ") && text.contains("\"screw\""), "{text}");
    // Its line drained, ended its run, could not start and went back: seconds without sorting.
    assert!(text.contains("PROBLEM  recipe beyond: ") && text.contains("320x240"), "{text}");
    assert!(text.contains("ok       recipe within: "), "{text}");
    // A run of such a file is warned, and so is who chooses such a recipe.
    let meets = "the pulse of one part may meet the next part";
    assert!(text.contains("PROBLEM  recipe near: ") && text.contains(meets), "{text}");
    let (text, err, code) = recipe(&["near"], &file);
    assert!(code == Some(0) && text.starts_with("none -> near") && err.contains(meets), "{text}{err}");
    assert_eq!(recipe(&["--none"], &file).2, Some(0));
    let before = site.recorded().len();
    for name in ["gone", "unfit"] {
        let (text, err, code) = recipe(&[name], &file);
        assert!(code == Some(1) && text.is_empty() && err.starts_with("refused: "), "{text}{err}");
    }
    let chosen = site.folder.join("recipe.toml");
    assert_eq!(site.recorded().len(), before);
    assert_eq!(recipe(&["good"], &file).2, Some(0));
    let (listed, ..) = recipe(&[], &file);
    let expected = format!(
        "  0  none (device.toml as it is)\n* 1  good  {OTHER}\n  2  gone  /nowhere/x.tagpin\n  3  unfit\n  4  near\n  5  beyond\n  6  within\n"
    );
    assert_eq!(listed, expected);
    assert!(check().0.contains(", the current one"), "{}", check().0);
    // By hand: a start refuses it, and nothing runs by other thresholds than somebody meant.
    for (bad, why) in [("recipe = \"no\"\nwho = \"\"\n", "there is no recipe \"no\""), ("recipe", "recipe.toml:1:")] {
        std::fs::write(&chosen, bad).unwrap();
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "1"]));
        assert!(out.status.code() == Some(2) && stderr(&out).contains(why), "{}", stderr(&out));
        assert!(check().0.contains(&format!("PROBLEM  recipe: {}", site.folder.display())), "{}", check().0);
    }
    assert_eq!(recipe(&["--none"], &file).2, Some(0));
    assert!(std::fs::read_to_string(&chosen).unwrap().contains("recipe = \"\"\n"));
    assert_eq!(recipe(&["good", "--none"], &file).2, Some(2));
}

/// A line that runs refuses by itself what somebody wrote past the command, and takes the file
/// back.
#[test]
fn a_running_line_refuses_a_choice_that_it_cannot_follow_and_goes_on() {
    // In an emulator edges come later than their window: a missed pulse says nothing of the change.
    if emulated() {
        return;
    }
    let site = Site::new("recipe-refused", "[recipes.unfit.decide]\nreject = [\"screw\"]\n");
    let mut line = Line::start("recipe-refused-line", &site.trigger, &[]);
    triggers(&mut line, 2);
    std::fs::write(site.folder.join("recipe.toml"), "recipe = \"unfit\"\nwho = \"somebody\"\n").unwrap();
    site.until("the refusal", |all| !of(all, "recipe").is_empty());
    triggers(&mut line, 3);
    std::thread::sleep(Duration::from_millis(1000));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!((code, of(&all, "start").len()), (Some(0), 1), "{err}");
    assert_eq!(assert_sorted(&all), 5);
    let told = of(&all, "recipe");
    assert_eq!((told.len(), &told[0]["outcome"], &told[0]["who"]), (1, &json!("refused"), &json!("somebody")));
    assert!(told[0]["why"].as_str().unwrap().contains("screw"), "{}", told[0]);
    assert_eq!(site.recorded(), [["line, refused", "unfit", "none"].map(str::to_string)]);
}

/// A PLC knows recipes by their places in the file.
#[test]
fn a_plc_chooses_a_recipe_by_its_number_and_reads_which_one_the_line_goes_by() {
    // In an emulator edges come later than their window: a missed pulse says nothing of the change.
    if emulated() {
        return;
    }
    let port = free_port();
    let recipes = format!(
        "[modbus]\nlisten = \"127.0.0.1:{port}\"\nwrite = \"yes\"\nallow = [\"127.0.0.1\"]\n[recipes.strict.decide]\n\
         unknown = \"review\"\n[recipes.\"other parts\"]\nbundle = \"{OTHER}\"\n"
    );
    let site = Site::new("recipe-plc", &recipes);
    let mut line = Line::start("recipe-plc-line", &site.trigger, &[]);
    triggers(&mut line, 2);
    let mut plc = Plc::connect(port);
    assert_eq!((plc.register(100), plc.register(101)), (0, 2));
    assert_eq!(plc.write_register(100, 0), [6, 0, 100, 0, 0], "it is chosen already");
    assert_eq!((plc.write_register(100, 3), plc.write_register(101, 1)), (vec![0x86, 3], vec![0x86, 2]));
    // Refused in time, and not done behind the PLC's back once the record is free.
    let holder = std::fs::File::open(site.folder.join("audit.log")).unwrap();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockShared).unwrap();
    assert_eq!(plc.write_register(100, 1), [0x86, 4]);
    drop(holder);
    assert_eq!(plc.write_register(100, 2), [6, 0, 100, 0, 2]);
    site.until("the run by the other recipe", |all| of(all, "start").len() == 2);
    let mut plc = Plc::connect(port);
    assert_eq!(plc.register(100), 2);
    std::thread::sleep(Duration::from_millis(if emulated() { 3000 } else { 400 }));
    triggers(&mut line, 2);
    std::thread::sleep(Duration::from_millis(1000));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(runs(&all).iter().map(|run| assert_sorted(run)).collect::<Vec<_>>(), [2, 2], "{err}");
    assert_eq!(site.recorded(), [["modbus 127.0.0.1", "none", "other parts"].map(str::to_string)]);
}

/// A PLC that went on polling was served by the run that was over: its triggers were answered as
/// taken and opened no part. A page's connection was answered from that run once more.
#[test]
fn connections_end_with_their_run_and_no_trigger_over_an_old_one_is_taken_without_a_part() {
    // In an emulator edges come later than their window: a missed pulse says nothing of the change.
    if emulated() {
        return;
    }
    let (port, page) = (free_port(), free_port());
    let recipes = format!(
        "[modbus]\nlisten = \"127.0.0.1:{port}\"\nwrite = \"yes\"\nallow = [\"127.0.0.1\"]\n[page]\n\
         listen = \"127.0.0.1:{page}\"\n[recipes.other]\nbundle = \"{OTHER}\"\n"
    );
    let site = Site::new("recipe-connections", &recipes);
    let trigger = site.trigger.replace("kind = \"stdin\"", "kind = \"modbus\"");
    let line = Line::start("recipe-connections-line", &trigger, &[]);
    let mut plc = Plc::connect(port);
    let mut looks = TcpStream::connect(("127.0.0.1", page)).unwrap();
    looks.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let ask = b"GET /page.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    looks.write_all(ask).unwrap();
    assert!(looks.read(&mut [0; 64 << 10]).unwrap() > 0);
    // Whether it was answered as taken; `None` at the connection's end.
    let trigger = |plc: &mut Plc| {
        let taken = plc.try_coil(3, true)?;
        std::thread::sleep(Duration::from_millis(60));
        plc.try_coil(3, false)?;
        Some(taken == [5, 0, 3, 0xff, 0])
    };
    assert_eq!([(); 3].map(|()| trigger(&mut plc)), [Some(true); 3]);
    let mut taken = 3;
    assert_eq!(plc.write_register(100, 1), [6, 0, 100, 0, 1]);
    let end = Instant::now() + Duration::from_secs(60);
    while let Some(is_taken) = trigger(&mut plc) {
        taken += is_taken as u64;
        assert!(Instant::now() < end, "the old connection is served for ever");
    }
    site.until("the run by the other recipe", |all| of(all, "start").len() == 2);
    // What is left of the page's answer, then the end: nothing is asked of the old run.
    let _ = looks.write_all(ask);
    let mut rest = Vec::new();
    let _ = looks.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1 200"));
    let mut plc = Plc::connect(port);
    assert_eq!(plc.register(100), 1);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!([(); 2].map(|()| trigger(&mut plc)), [Some(true); 2]);
    taken += 2;
    std::thread::sleep(Duration::from_millis(1000));
    line.signal(Signal::INT);
    let (code, all, err) = line.end();
    assert_eq!(code, Some(0), "{err}");
    let runs = runs(&all);
    let sorted: u64 = runs.iter().map(|run| assert_sorted(run)).sum();
    let unopened =
        of(&all, "fault").iter().filter(|f| f["why"].as_str().unwrap().contains("a part passed the trigger")).count();
    let passed_over: u64 = runs.iter().map(|run| summary(run)["passed_over"].as_u64().unwrap_or(0)).sum();
    assert!(sorted + passed_over >= taken && sorted <= taken, "{sorted} + {passed_over} of {taken}: {err}");
    assert!(passed_over == 0 || unopened > 0 || err.contains("has disconnected"), "{err}");
}

/// The page lists recipes, and changes nothing without the key.
#[test]
fn the_page_shows_the_recipes_and_chooses_one_with_its_key() {
    let folder = folder("recipe-page");
    let text = device(&folder, &folder.join("events.jsonl")) + &format!("[recipes.other]\nbundle = \"{OTHER}\"\n");
    let line = crate::site::Line::start("recipe-page", &text);
    let until = |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let state = body(&get(&line, "/state"));
            if wanted(&state) {
                return state;
            }
            assert!(Instant::now() < end, "{what}: {}", state["recipes"]);
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let first = until("parts", &|s| s["figures"]["parts"].as_u64() > Some(3));
    assert_eq!(first["recipes"], json!({ "names": ["other"], "current": null }));
    let json = "Content-Type: application/json\r\n";
    let keyed = format!("{json}Authorization: Bearer {KEY}\r\n");
    let other = json!({ "recipe": "other" });
    for (headers, wanted, expected) in [
        (json.to_string(), &other, "401"),
        (keyed.replace(KEY, "0011"), &other, "401"),
        (keyed.replace("application/json", "text/plain"), &other, "415"),
        (format!("{keyed}Origin: http://other.example\r\n"), &other, "403"),
        (keyed.clone(), &json!({ "recipe": "none of them" }), "409"),
        (keyed.clone(), &json!({ "recipe": 1 }), "400"),
        (keyed.clone(), &json!({ "recipe": null }), "200"),
    ] {
        let answer = post(&line, "/recipe", &headers, wanted);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{wanted} {expected}: {answer}");
    }
    assert!(!folder.join("recipe.toml").exists());
    assert!(post(&line, "/recipe", &keyed, &other).starts_with("HTTP/1.1 200"));
    // The server goes with its run and comes with the next.
    let end = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(folder.join("events.jsonl")).unwrap().contains("\"outcome\":\"running\"") {
        assert!(Instant::now() < end, "it does not change");
        std::thread::sleep(Duration::from_millis(50));
    }
    let second = until("the other recipe", &|s| s["recipes"]["current"] == "other");
    assert!(second["run"] != first["run"] && second["bundle_sha256"] != first["bundle_sha256"]);
    let recorded = records(&folder.join("audit.log"));
    let choices: Vec<&Value> = recorded.iter().filter(|r| r["what"] == "recipe").collect();
    let who = format!("page, 127.0.0.1, key {}", &sha256(KEY)[..15]);
    assert_eq!((choices.len(), choices[0]["who"].as_str(), &choices[0]["new"]), (1, Some(who.as_str()), &json!("other")));
}
