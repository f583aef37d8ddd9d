//! Events as a reader meets them: the document's examples, names of every kind, sinks that fail,
//! logs on disks that do.

use crate::plc::free_port;
use crate::program::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};

/// What differs from run to run, machine to machine or with each bundle: only its type is compared.
const VOLATILE: [&str; 21] = [
    "run",
    "at",
    "wall",
    "trigger",
    "captured_at",
    "age",
    "latency",
    "edge_jitter",
    "scheduled",
    "done",
    "kernel",
    "kernels",
    "bundle_sha256",
    "sha256",
    "format",
    "role",
    "written",
    "top",
    "score",
    "score_raw",
    "given_up",
];

/// A value's type in its place.
fn kind(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::from("a number"),
        Value::String(_) => Value::from("a text"),
        Value::Array(all) => all.iter().map(kind).collect(),
        Value::Object(map) => map.iter().map(|(key, inner)| (key.clone(), kind(inner))).collect(),
        other => other.clone(),
    }
}

fn masked(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mask = |(key, inner): (&String, &Value)| {
                let volatile = VOLATILE.contains(&key.as_str());
                (key.clone(), if volatile { kind(inner) } else { masked(inner) })
            };
            map.iter().map(mask).collect()
        }
        Value::Array(all) => all.iter().map(masked).collect(),
        other => other.clone(),
    }
}

fn draw(path: &Path, kind: Kind) {
    let mut rgb = vec![0; WIDTH * HEIGHT * 3];
    render(&Shot::draw(kind, &Conditions::TRAINING, 4, 4), 0, &mut rgb);
    tagpin::pictures::Picture::write_png(path, WIDTH as u32, HEIGHT as u32, &rgb).unwrap();
}

/// Runs until its end in a folder of its own.
fn run_in(folder: &Path, args: &[&str]) -> std::process::Output {
    let mut command = tagpin(&[&["run", "--bundle", PARTS], args].concat());
    command.current_dir(folder);
    finish(command)
}

#[test]
fn the_examples_of_the_document_are_what_the_program_prints() {
    let folder = folder("examples");
    let images = folder.join("images");
    std::fs::create_dir(&images).unwrap();
    draw(&images.join("1-gear_chipped.png"), Kind::GearChipped);
    std::fs::write(images.join("2-damaged.jpg"), b"broken").unwrap();
    draw(&images.join("3-bolt.png"), Kind::Bolt);
    let text = "[source]\nopen = \"dir:images\"\n[decide]\nreject = [\"gear_chipped\", \"washer_cracked\"]\n";
    std::fs::write(folder.join("device.toml"), text).unwrap();
    let mut printed = events(&run_in(&folder, &["--json", "--settings", "device.toml"]));
    printed.extend(events(&finish(tagpin(&["run", "--json", "--parts", "2"]))));
    let printed: Vec<Value> = printed.iter().map(masked).collect();
    let document = include_str!("../../src/events/EVENTS.md");
    let mut seen = BTreeMap::<String, bool>::new();
    for block in document.split("```json\n").skip(1) {
        let line = block.split("\n```").next().unwrap();
        let example: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let name = example["event"].as_str().unwrap().to_string();
        let expected = masked(&example);
        let same: Vec<&Value> = printed.iter().filter(|e| e["event"] == name.as_str()).collect();
        if name == "status" {
            // Figures after a second depend on the machine's speed; the fields do not.
            let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert!(same.iter().any(|e| keys(e) == keys(&expected)), "{expected}\n{same:?}");
        } else if !["note", "rule", "update", "recipe"].contains(&name.as_str()) {
            let all: Vec<String> = same.iter().map(ToString::to_string).collect();
            assert!(same.contains(&&expected), "the document says\n{expected}\nthe program printed\n{}", all.join("\n"));
        }
        seen.insert(name, true);
    }
    let names = ["edge", "fault", "note", "part", "recipe", "rule", "start", "status", "summary", "trigger", "update"];
    assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), names);
    // Every field of every event that was printed has its row.
    for event in &printed {
        for key in event.as_object().unwrap().keys() {
            let row = document.contains(&format!("`{key}`")) || document.contains(&format!("`{key}."));
            assert!(row, "{key} of {} is not in EVENTS.md", event["event"]);
        }
    }
}

#[test]
fn the_table_fits_80_columns_and_names_the_part_of_each_edge() {
    let file = settings(
        "columns",
        &format!(
            "[source]\nopen = \"{}\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n[decide]\nreject = [\"gear_chipped\"]\n\
             [outputs.an_output_with_a_name_that_is_longer_than_any_table_could_bear_without_breaking]\nmode = \"pulse\"\nwidth_ms = 20\n\
             delay_ms = 1500\non = [\"accept\"]\n[outputs.\"{}\"]\ndelay_ms = 1500\nmode = \"pulse\"\nwidth_ms = 20\non = [\"reject\"]\n",
            fast_conveyor(7),
            "\u{6b6f}\u{8eca}".repeat(20)
        ),
    );
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "5"]));
    let text = String::from_utf8(out.stdout.clone()).unwrap();
    for line in text.lines() {
        // Wide characters take two columns.
        let columns: usize = line.chars().map(|c| 1 + (c > '\u{1100}') as usize).sum();
        assert!(columns <= 80, "{columns} columns: {line}");
    }
    for part in 1..=5 {
        assert!(text.lines().any(|l| l.contains(&format!(" part {part}: ")) && l.contains(" active at ")), "{part}: {text}");
    }
    assert!(
        text.contains("all outputs are in their safe state") && text.contains("against the simulator's truth: "),
        "{text}"
    );
    for (args, why) in [(vec!["--drill", "hang@3"], "model hung for "), (vec!["--drill", "engine@2"], "faults: engine ")] {
        let mut all = vec!["run", "--bundle", PARTS, "--settings", &file, "--parts", "4"];
        all.extend(args);
        let text = String::from_utf8(finish(tagpin(&all)).stdout).unwrap();
        assert!(text.contains(why), "{text}");
        assert!(text.lines().all(|l| l.chars().map(|c| 1 + (c > '\u{1100}') as usize).sum::<usize>() <= 80), "{text}");
    }
}

/// A bundle's tags, an output's name and a file's name with quotes, line ends and escape sequences.
#[test]
fn names_of_every_kind_are_right_in_every_sink() {
    const HOSTILE: &str = "a\"b\\c\n\u{1b}[2J\u{7}d";
    // An output's name has no control characters.
    const OUTPUT: &str = "a\"b\\c {e} 歯車";
    let folder = folder("names");
    let bytes = std::fs::read(PARTS).unwrap();
    let bundle = tagpin::bundle::Bundle::read(&bytes).unwrap();
    let mut contract = bundle.contract.clone();
    let tag = contract.tags.iter().position(|t| t.name == "bolt").unwrap();
    contract.tags[tag].name = HOSTILE;
    // A name that a bundle may not hold is refused when it is made; files may hold it.
    let renamed = tagpin::bundle::write(&contract, bundle.graph, &[]);
    let hostile_tag = renamed.is_ok();
    std::fs::write(folder.join("names.tagpin"), renamed.unwrap_or_else(|_| bytes.clone())).unwrap();
    let images = folder.join("images");
    std::fs::create_dir(&images).unwrap();
    let image = format!("{HOSTILE}.png");
    draw(&images.join(&image), Kind::Bolt);
    // Before the good one: a fault right behind it may make the line safe before its edge is done.
    std::fs::write(images.join(format!("0{HOSTILE}.jpg")), b"broken").unwrap();
    let name = OUTPUT.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!(
        "[source]\nopen = \"dir:images\"\n[outputs.\"{name}\"]\non = [\"accept\"]\n[events]\npath = \"log.jsonl\"\n"
    );
    std::fs::write(folder.join("device.toml"), text).unwrap();
    let run = |args: &[&str]| {
        let mut command = tagpin(&[&["run", "--bundle", "names.tagpin", "--settings", "device.toml"], args].concat());
        command.current_dir(&folder);
        finish(command)
    };
    let out = run(&["--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let printed = events(&out);
    let log = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let log: Vec<Value> = log.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    for all in [&printed, &log] {
        assert!(of(all, "edge").iter().any(|e| e["output"] == OUTPUT && e["state"] == "active"), "{all:?}");
        assert_eq!(of(all, "part")[0]["images"][0]["file"], format!("images/{image}").as_str());
        assert!(of(all, "fault").iter().any(|f| f["why"].as_str().is_some_and(|w| w.contains(HOSTILE))), "{all:?}");
        assert!(!hostile_tag || of(all, "part")[0]["tag"] == HOSTILE, "{all:?}");
    }
    let table = run(&[]);
    for bytes in [&table.stdout, &table.stderr, &out.stderr] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(text.lines().any(|l| l.contains(&format!("part 1: {OUTPUT} active"))), "{text}");
    assert!(stderr(&table).lines().any(|l| l.contains("0a\"b\\c\\n\\u{1b}[2J")), "{}", stderr(&table));
    eprintln!("tags with such names are {}", if hostile_tag { "shown" } else { "refused by the bundle" });
}

#[test]
fn the_summary_and_each_status_count_what_was_told() {
    let source = format!("faulty({})?seed=5&corrupt=0.35", fast_conveyor(21));
    let text = format!(
        "[source]\nopen = \"{source}\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n\
         [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 1500\non = [\"accept\", \"reject\"]\n"
    );
    let all = events(&finish(tagpin(&[
        "run",
        "--json",
        "--bundle",
        PARTS,
        "--settings",
        &settings("told", &text),
        "--parts",
        "12",
    ])));
    let run = all[0]["run"].as_str().unwrap().to_string();
    assert!(run.len() == 16 && all.iter().all(|e| e["run"] == run.as_str() && e["schema"] == 2 && e["at"].is_u64()));
    assert!(
        all.iter().all(|e| e["wall"].as_u64().is_some_and(|w| w > 1_767_225_600_000_000)),
        "this machine's clock is set"
    );
    let check = |figures: &Value, told: &[Value]| {
        let count = |kind: &str, key: &str, value: &str| of(told, kind).iter().filter(|e| e[key] == value).count() as u64;
        for action in ["accept", "reject", "review"] {
            let decided = of(told, "part").iter().filter(|p| p["action"] == action && p["verdict"] != "safe").count();
            assert_eq!(figures[action].as_u64(), Some(decided as u64), "{action}: {figures}");
        }
        assert_eq!(figures["safe"].as_u64(), Some(count("part", "verdict", "safe")), "{figures}");
        assert_eq!(figures["parts"].as_u64(), Some(of(told, "part").len() as u64), "{figures}");
        assert_eq!(figures["triggers"].as_u64(), Some(of(told, "trigger").len() as u64), "{figures}");
        let done = count("edge", "outcome", "done") + count("edge", "outcome", "cut");
        assert_eq!(figures["edges"].as_u64(), Some(done), "{figures}");
        let mut faults = BTreeMap::<&str, u64>::new();
        of(told, "fault").iter().for_each(|f| *faults.entry(f["kind"].as_str().unwrap()).or_default() += 1);
        assert_eq!(figures["faults"], serde_json::to_value(&faults).unwrap(), "{figures}");
        for (kind, n) in faults {
            let last = of(told, "fault").into_iter().rfind(|f| f["kind"] == kind).unwrap();
            assert_eq!(last["count"].as_u64(), Some(n), "{last}");
        }
    };
    check(summary(&all), &all);
    let mut statuses = 0;
    for (i, event) in all.iter().enumerate().filter(|(_, e)| e["event"] == "status") {
        // Another thread may tell something between its figures and its place in the queue.
        let near = &all[i.saturating_sub(2)..i + 2];
        let quiet =
            near.iter().all(|e| e["at"].as_u64().unwrap().abs_diff(event["at"].as_u64().unwrap()) > 2000 || e == event);
        if quiet {
            check(event, &all[..i]);
            statuses += 1;
        }
    }
    assert!(statuses > 0, "no status was told in quiet");
    assert!(summary(&all)["faults"]["corrupt"].as_u64().unwrap() > 0);
}

fn log_lines(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().rev().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("a broken line: {e}: {l}"))).collect()
}

fn interrupt(child: &Child) {
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// A table or log that panics takes nothing with it but itself, and comes back.
#[test]
fn a_sink_that_panics_is_told_and_started_again_and_the_line_goes_on() {
    let folder = folder("sink-panic");
    let text = format!(
        "[source]\nopen = \"{}\"\n[trigger]\nkind = \"barrier\"\n[outputs.good]\nmode = \"pulse\"\nwidth_ms = 20\non = [\"accept\", \"reject\"]\n\
         [events]\npath = \"log/l.jsonl\"\n",
        fast_conveyor(21)
    );
    std::fs::create_dir(folder.join("log")).unwrap();
    std::fs::write(folder.join("device.toml"), text).unwrap();
    let out = run_in(&folder, &["--json", "--settings", "device.toml", "--parts", "6", "--drill", "sink@5"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let (printed, log) = (events(&out), log_lines(&folder.join("log")));
    assert_eq!(summary(&printed)["parts"], 6);
    let told = of(&log, "fault").into_iter().find(|f| f["kind"] == "sink").expect("the log is told");
    assert!(told["why"].as_str().unwrap().contains("a drill"), "{told}");
    let sinks = summary(&log)["sinks"].as_array().unwrap().clone();
    let of_sink = |name: &str| sinks.iter().find(|s| s["sink"] == name).unwrap().clone();
    assert_eq!(
        (of_sink("stdout")["restarts"].as_u64(), of_sink("stdout")["lost"].as_u64()),
        (Some(1), Some(1)),
        "{sinks:?}"
    );
    assert_eq!((of_sink("log")["restarts"].as_u64(), of_sink("log")["lost"].as_u64()), (Some(0), Some(0)), "{sinks:?}");
    assert_eq!(log.len(), printed.len() + 1, "one event was lost, by one sink");
    assert_eq!(of(&log, "part").len(), 6);
}

/// Each sink of a line that has them all, in turn. Only standard output's could be planted before,
/// and that of the page was never seen to panic.
#[test]
fn whichever_sink_panics_it_is_told_and_started_again_and_every_part_has_its_pulse() {
    if emulated() {
        eprintln!("skipped: two lines with every sink are more than an emulator keeps up with");
        return;
    }
    let names = ["stdout", "stderr", "log", "metrics", "keep", "page", "modbus", "mqtt"];
    let drilled = |name: &str| {
        let folder = folder(&format!("drilled-{name}"));
        for inner in ["log", "kept"] {
            std::fs::create_dir(folder.join(inner)).unwrap();
        }
        let [page, metrics, modbus, nobody] = [free_port(), free_port(), free_port(), free_port()];
        let text = format!(
            "[source]\nopen = \"{}\"\n[trigger]\nkind = \"barrier\"\n[outputs.good]\nmode = \"pulse\"\nwidth_ms = 20\n\
             on = [\"accept\", \"reject\", \"review\"]\n[events]\npath = \"log/l.jsonl\"\n\
             [page]\nlisten = \"127.0.0.1:{page}\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
             [modbus]\nlisten = \"127.0.0.1:{modbus}\"\n[mqtt]\nbroker = \"127.0.0.1:{nobody}\"\nname = \"drilled\"\n\
             [keep]\nfolder = \"kept\"\none_in = 1\n",
            fast_conveyor(21)
        );
        std::fs::write(folder.join("device.toml"), text).unwrap();
        let drill = format!("sink:{name}@1");
        let out = run_in(&folder, &["--json", "--settings", "device.toml", "--parts", "6", "--drill", &drill]);
        assert_eq!(out.status.code(), Some(0), "{name}: {}", stderr(&out));
        // The two that are told everything: one of them may be the one that lost an event.
        let (printed, log) = (events(&out), log_lines(&folder.join("log")));
        let whole = if name == "log" { &printed } else { &log };
        let panicked = |f: &&Value| f["kind"] == "sink" && f["why"].as_str().unwrap().contains("a drill");
        let told = of(whole, "fault").into_iter().find(panicked).unwrap_or_else(|| panic!("{name}: {whole:?}"));
        assert!(told["why"].as_str().unwrap().contains(&format!("\"{name}\"")), "{name}: {told}");
        for sink in summary(whole)["sinks"].as_array().unwrap() {
            assert_eq!(sink["restarts"], u64::from(sink["sink"] == name), "{name}: {sink}");
        }
        assert_eq!(summary(whole)["parts"], 6, "{name}");
        let active = of(whole, "edge").into_iter().filter(|e| e["state"] == "active").count();
        assert_eq!(active, of(whole, "part").into_iter().filter(|p| p["action"] != "safe").count(), "{name}");
    };
    for two in names.chunks(2) {
        std::thread::scope(|s| two.iter().for_each(|name| drop(s.spawn(move || drilled(name)))));
    }
    let folder = folder("drilled-nobody");
    std::fs::write(folder.join("device.toml"), "[source]\nopen = \"conveyor\"\n").unwrap();
    let out = run_in(&folder, &["--settings", "device.toml", "--drill", "sink:page@1"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("no sink \"page\"; expected one of \"stdout\", \"stderr\""), "{}", stderr(&out));
}

/// An enemy of the old log: what a full disk cut off was joined to the next line, and losses were
/// counted nowhere.
#[test]
fn a_full_disk_costs_whole_lines_that_are_counted_and_writing_goes_on() {
    if emulated() {
        eprintln!("skipped: the limit would be the emulator's");
        return;
    }
    let folder = folder("full");
    std::fs::create_dir(folder.join("log")).unwrap();
    let text = "[source]\nopen = \"conveyor?fps=60\"\n[events]\npath = \"log/l.jsonl\"\nmax_kb = 100\n";
    std::fs::write(folder.join("device.toml"), text).unwrap();
    // A limit on the size of files stands for the disk's end: a write stops within a line. The
    // output is a pipe, so unlimited.
    let inner = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", "device.toml"]);
    let mut shell = std::process::Command::new("sh");
    let words = "trap '' XFSZ; ulimit -S -f 40; exec \"$@\"";
    shell.args(["-c", words, "sh"]).arg(inner.get_program()).args(inner.get_args()).current_dir(&folder);
    let mut child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        text
    });
    let end = Instant::now() + Duration::from_secs(60);
    let size = || std::fs::metadata(folder.join("log/l.jsonl")).map_or(0, |m| m.len());
    while size() < 19_000 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    let full = size();
    assert!((18_000..=20_480).contains(&full), "{full} bytes");
    let pid = rustix::process::Pid::from_raw(child.id() as i32);
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, unlimited).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    interrupt(&child);
    let rest = wait(child, Duration::from_secs(30));
    let printed: Vec<Value> = reader.join().unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rest.status.code(), Some(0), "{}", stderr(&rest));
    let log = log_lines(&folder.join("log"));
    let sinks = summary(&printed)["sinks"].as_array().unwrap();
    let lost = sinks.iter().find(|s| s["sink"] == "log").unwrap()["lost"].as_u64().unwrap();
    assert!(lost > 0, "{sinks:?}");
    assert_eq!(log.len() as u64 + lost, printed.len() as u64, "each event is in the log or counted as lost");
    assert_eq!(log.last().unwrap()["event"], "summary");
    assert!(of(&printed, "fault").iter().any(|f| f["kind"] == "sink" && f["why"].as_str().unwrap().contains("free space")));
    assert!(stderr(&rest).contains("free space"), "{}", stderr(&rest));
    assert!(of(&printed, "note").iter().any(|n| n["text"].as_str().unwrap().contains("writes again")));
}

#[test]
fn a_log_goes_on_when_its_folder_is_back_and_rotated_history_stays() {
    let folder = folder("folder-back");
    let log = folder.join("log");
    std::fs::create_dir(&log).unwrap();
    let text = "[source]\nopen = \"conveyor?fps=60\"\n[events]\npath = \"log/l.jsonl\"\nmax_kb = 16\nfiles = 50\n";
    std::fs::write(folder.join("device.toml"), text).unwrap();
    let mut command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", "device.toml"]);
    let mut child = command.current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        text
    });
    let begin = Instant::now();
    while !log.join("l.jsonl.2").exists() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(log.join("l.jsonl.2").exists());
    // Moved away at once, as an enemy of any open file would.
    std::fs::rename(&log, folder.join("old")).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    std::fs::create_dir(&log).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    interrupt(&child);
    let rest = wait(child, Duration::from_secs(30));
    let printed: Vec<Value> = reader.join().unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rest.status.code(), Some(0), "{}", stderr(&rest));
    let (old, new) = (log_lines(&folder.join("old")), log_lines(&log));
    let sinks = summary(&printed)["sinks"].as_array().unwrap();
    let lost = sinks.iter().find(|s| s["sink"] == "log").unwrap()["lost"].as_u64().unwrap();
    assert!(lost > 0 && !new.is_empty() && new.last().unwrap()["event"] == "summary");
    assert_eq!((old.len() + new.len()) as u64 + lost, printed.len() as u64, "each event is in a file or counted as lost");
}
