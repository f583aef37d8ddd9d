//! Commands that start nothing: classify, inspect, check, bench, completions; and how bad input is
//! refused.

use crate::program::*;
use crate::sources::has_python;
use serde_json::Value;

#[test]
fn inspect_shows_the_contract_and_every_node() {
    let out = finish(tagpin(&["inspect", PARTS, "--json"]));
    assert!(out.status.success(), "{}", stderr(&out));
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((v["task"].as_str(), v["mixed"].as_bool()), (Some("multiclass"), Some(false)));
    assert_eq!(v["tags"].as_array().unwrap().len(), 8);
    let places: Vec<&str> = v["nodes"].as_array().unwrap().iter().map(|n| n["place"].as_str().unwrap()).collect();
    assert!(places.iter().any(|p| p.contains("depthwise 3x3")));
    let role = |tag: &str| v["tags"].as_array().unwrap().iter().find(|t| t["name"] == tag).unwrap()["role"].clone();
    assert_eq!(
        (role("gear_chipped"), role("washer_cracked"), role("gear")),
        ("defect".into(), "defect".into(), "good".into())
    );
    let sections: Vec<&str> = v["sections"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!((v["format"].as_u64(), sections), (Some(2), vec!["contract", "rules", "graph", "distance"]));
    let table = finish(tagpin(&["inspect", PARTS]));
    let table = String::from_utf8_lossy(&table.stdout);
    let cells =
        |tag: &str| table.lines().find(|l| l.starts_with(tag)).unwrap().split_whitespace().nth(1).unwrap().to_string();
    assert_eq!((cells("gear_chipped"), cells("bolt")), ("defect".into(), "good".into()));

    // Format 1 has neither roles nor sections.
    let out = finish(tagpin(&["inspect", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/board/patterns.tagpin"), "--json"]));
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((v["format"].as_u64(), v["sections"].as_array().unwrap().len()), (Some(1), 0));
    assert!(v["tags"].as_array().unwrap().iter().all(|t| t["role"] == "other"), "{v}");
}

#[test]
fn a_command_whose_reader_left_ends_without_a_word() {
    for args in [["inspect", PARTS].as_slice(), &["bench", PARTS, "--iters", "1"], &["simulate", "--spacing-ms", "100..200"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tagpin(args);
        let out = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(141), ""), "{args:?}");
    }
}

/// `error: ...` to a closed pipe was a panic of its own: 101, where a script expects 2.
#[test]
fn a_refusal_to_a_closed_pipe_keeps_its_exit_code() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny_refused.onnx");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = tagpin(&["inspect", model]);
    let status = command.stderr(writer).spawn().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn inspect_shows_where_a_bare_model_runs_or_what_of_it_does_not() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let out = finish(tagpin(&["inspect", &format!("{data}/networks/mobilenet_v3_qdq_s8.onnx")]));
    let table = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}", stderr(&out));
    for part in ["int8 table", "int8 multiplication", "int8 depthwise 5x5"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let out = finish(tagpin(&["inspect", &format!("{data}/tiny_refused.onnx")]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("\"normalise\" (LRN)"), "{}", stderr(&out));
}

#[test]
fn bench_gives_the_same_logits_for_any_number_of_threads() {
    let logits = |threads: &str| {
        let dump = folder(&format!("threads{threads}")).join("logits.f32");
        let out = finish(tagpin(&["bench", PARTS, "--iters", "2", "--threads", threads, "--dump", dump.to_str().unwrap()]));
        assert!(out.status.success(), "{}", stderr(&out));
        std::fs::read(dump).unwrap()
    };
    assert_eq!(logits("1"), logits("3"));
    assert!(!finish(tagpin(&["bench", PARTS, "--threads", "5"])).status.success());
}

#[test]
fn bench_runs_exactly_so_often_and_dumps_logits() {
    let dump = folder("bench").join("logits.f32");
    let out = finish(tagpin(&["bench", PARTS, "--iters", "3", "--json", "--dump", dump.to_str().unwrap()]));
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((v["iters"].as_u64(), v["threads"].as_u64()), (Some(3), Some(1)));
    for stage in ["preprocess", "infer", "head"] {
        assert!(v["stages"][stage]["p50"].as_f64().unwrap() <= v["stages"][stage]["max"].as_f64().unwrap());
    }
    assert_eq!(std::fs::read(dump).unwrap().len(), 8 * 4);
}

/// Draws a part with the library's renderer, as the tools do.
fn draw_part(folder: &std::path::Path, kind: tagpin::scene::Kind, index: u64) {
    use tagpin::scene::{Conditions, HEIGHT, Shot, WIDTH, render};
    let mut rgb = vec![0; WIDTH * HEIGHT * 3];
    render(&Shot::draw(kind, &Conditions::TRAINING, 99, index), index, &mut rgb);
    let path = folder.join(format!("{index}-{}.png", kind.name()));
    tagpin::pictures::Picture::write_png(&path, WIDTH as u32, HEIGHT as u32, &rgb).unwrap();
}

#[test]
fn classify_names_the_parts_and_shards_cover_all_files_once() {
    let folder = folder("classify");
    for (i, kind) in tagpin::scene::Kind::ALL.into_iter().enumerate() {
        draw_part(&folder, kind, i as u64);
    }
    std::fs::write(folder.join("broken.jpg"), b"not an image").unwrap();
    let path = folder.to_str().unwrap();
    let out = finish(tagpin(&["classify", PARTS, path, "--json", "--top", "2"]));
    assert_eq!(out.status.code(), Some(1), "a skipped file shows in the exit code");
    assert!(stderr(&out).contains("broken.jpg: no readable"), "{}", stderr(&out));
    let all = events(&out);
    assert_eq!(all.len(), 8);
    for e in &all {
        let tag = e["tags"][0]["tag"].as_str().unwrap();
        assert!(e["path"].as_str().unwrap().contains(&format!("-{tag}.png")), "{e}");
        assert_eq!(e["tags"].as_array().unwrap().len(), 2);
    }
    let mut sharded: Vec<Value> = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        sharded.extend(events(&finish(tagpin(&["classify", PARTS, path, "--json", "--top", "2", "--shard", shard]))));
    }
    let key = |v: &Value| v["path"].to_string();
    sharded.sort_by_key(key);
    let mut all = all;
    all.sort_by_key(key);
    assert_eq!(sharded, all);
    let out = finish(tagpin(&["classify", PARTS, path, "--shard", "4/3"]));
    assert_eq!(out.status.code(), Some(2));
}

/// The same scores on x86-64 and aarch64, decoding included: CI runs this test on both.
#[test]
fn scores_are_the_same_bits_on_every_cpu() {
    let folder = folder("bits");
    for (i, kind) in tagpin::scene::Kind::ALL.into_iter().enumerate() {
        draw_part(&folder, kind, 50 + i as u64);
    }
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/part.jpg"), folder.join("part.jpg")).unwrap();
    let out = finish(tagpin(&["classify", PARTS, folder.to_str().unwrap(), "--json", "--top", "8"]));
    assert!(out.status.success(), "{}", stderr(&out));
    let raw: Vec<u64> = events(&out)
        .iter()
        .flat_map(|e| e["tags"].as_array().unwrap().iter().map(|t| t["score_raw"].as_u64().unwrap()).collect::<Vec<_>>())
        .collect();
    let bytes: Vec<u8> = raw.iter().flat_map(|r| r.to_le_bytes()).collect();
    let hash = tagpin::bundle::Hex(&tagpin::bundle::sha256(&bytes)).to_string();
    let golden = include_str!("../data/scores.sha256").trim();
    assert_eq!(hash, golden, "if the shipped model or the arithmetic changed on purpose, update tests/data/scores.sha256");
}

#[test]
fn every_problem_of_a_bad_setup_is_told_at_once() {
    let file = settings(
        "bad",
        "[source]\nopen = \"dir:/nonexistent\"\n[outputs.a]\nbackend = \"gpiochip\"\nchip = \"no-such-chip\"\nline = 3\non = [\"accept\"]\n",
    );
    let out = finish(tagpin(&["run", "--allow-drawn", "--bundle", PARTS, "--settings", &file]));
    assert_eq!(out.status.code(), Some(2));
    let text = stderr(&out);
    assert!(text.contains("dir:/nonexistent"), "{text}");
    assert!(text.contains("no-such-chip"), "{text}");
    let out = finish(tagpin(&["check", "--allow-drawn", "--bundle", PARTS, "--settings", &file]));
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("2 problems found"), "{text}");
}

#[test]
fn unknown_keys_and_tags_are_refused_with_their_place() {
    let file = settings("keys", "[decide]\nrejct = [\"bolt\"]\nreview = [\"screw\"]\n");
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file]));
    assert_eq!(out.status.code(), Some(2));
    let text = stderr(&out);
    assert!(text.contains("device.toml:2:1: unknown key \"decide.rejct\"; did you mean \"reject\"?"), "{text}");
    assert!(text.contains("device.toml:3:11: decide: the model has no tag \"screw\""), "{text}");
}

#[test]
fn damaged_bundles_are_refused_and_say_why() {
    let folder = folder("damaged");
    let good = std::fs::read(PARTS).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut future = good.clone();
    future[8] = 9;
    // What a later tagpin might write: a section that no board may ignore, and the same as one that
    // it may.
    let with = |critical| {
        use tagpin::bundle::{Bundle, HEADER_LEN, RawSection, assemble};
        let bundle = Bundle::read(&good).unwrap();
        let mut rest = &good[HEADER_LEN + 44 * bundle.sections().count()..];
        let mut take = |len: u32| rest.split_off(..len as usize).unwrap();
        let mut sections: Vec<RawSection<'_>> =
            bundle.sections().map(|e| RawSection { id: e.id.0, critical: e.critical(), content: take(e.len) }).collect();
        sections.push(RawSection { id: 77, critical, content: b"of a later tagpin" });
        assemble(&sections)
    };
    let later = folder.join("later");
    std::fs::write(&later, with(false)).unwrap();
    let out = finish(tagpin(&["inspect", later.to_str().unwrap()]));
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("\n77 "), "{}", stderr(&out));
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("empty", Vec::new(), "not a tagpin bundle"),
        ("text", b"hello".to_vec(), "not a tagpin bundle"),
        ("short", good[..good.len() / 2].to_vec(), "its header states"),
        ("flipped", flipped, "section 4 (distance) does not match its stored SHA-256"),
        ("critical", with(true), "section 77 is critical, and this build does not know what it asks for; update tagpin"),
        ("future", future, "this build reads 1..=2"),
    ];
    for (name, bytes, why) in cases {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let out = finish(tagpin(&["inspect", path.to_str().unwrap()]));
        assert_eq!(out.status.code(), Some(2), "{name}");
        assert!(stderr(&out).contains(why), "{name}: {}", stderr(&out));
    }
}

#[test]
fn check_of_the_demonstration_finds_all_well() {
    let out = finish(tagpin(&["check"]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.contains("OK: no problems found"), "{text}");
    let example = finish(tagpin(&["check", "--example"]));
    let file = settings("example", &String::from_utf8(example.stdout).unwrap());
    let out = finish(tagpin(&["check", "--settings", &file, "--bundle", PARTS]));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[test]
fn a_region_of_interest_outside_the_frame_is_found_by_check_and_refused_by_run() {
    let file = settings("roi", "[source]\nroi = { x = 300, y = 0, width = 100, height = 100 }\n");
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1));
    assert!(text.contains("does not fit into frames of 320x240; change [source.roi]"), "{text}");
    // A run went on to a fault at every frame.
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "2"]));
    assert!(
        out.status.code() == Some(2) && stderr(&out).contains("does not fit into frames of 320x240"),
        "{}",
        stderr(&out)
    );
    let file = settings("roi-fits", "[source]\nroi = { x = 220, y = 0, width = 100, height = 100 }\n");
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "2"]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
}

/// An output's name could clear the terminal that told of it. Such a name is refused now; that of a
/// file is the site's own.
#[test]
fn names_in_warnings_and_findings_command_no_terminal() {
    let text = "[outputs.a]\nbackend = \"events\"\npath = \"/no/a\\u001b[2J/x\"\nmode = \"level\"\non = [\"accept\"]\n";
    let file = settings("escapes", text);
    for command in ["check", "run"] {
        let out = finish(tagpin(&[command, "--bundle", PARTS, "--settings", &file]));
        let told = String::from_utf8_lossy(&out.stdout).into_owned() + &stderr(&out);
        assert!(!told.contains('\u{1b}') && told.contains("a\\u{1b}[2J"), "{command}: {told}");
    }
}

#[test]
fn completions_man_page_and_help_can_be_printed() {
    for (args, word) in [(["completions", "bash"], "_tagpin"), (["man", ""], ".TH tagpin")] {
        let args: Vec<&str> = args.into_iter().filter(|a| !a.is_empty()).collect();
        let out = finish(tagpin(&args));
        assert!(String::from_utf8_lossy(&out.stdout).contains(word), "{args:?}");
    }
    let help = finish(tagpin(&["--help"]));
    let help = String::from_utf8(help.stdout).unwrap().replace('\n', " ");
    assert!(help.contains("3 stopped on a held fault"));
    let version = finish(tagpin(&["--version"]));
    let version = String::from_utf8(version.stdout).unwrap();
    assert!(version.starts_with("tagpin ") && version.contains("(commit ") && version.contains(", features"), "{version}");
}

#[test]
fn a_build_without_cameras_says_so() {
    if cfg!(feature = "camera") {
        eprintln!("skipped: this build has cameras");
        return;
    }
    for source in ["camera:0", "v4l2:/dev/video0"] {
        let out = finish(tagpin(&["run", "--bundle", PARTS, "--source", source]));
        assert_eq!(out.status.code(), Some(2));
        assert!(stderr(&out).contains("cargo device"), "{}", stderr(&out));
    }
}

/// With too little memory for its threads the program ended in a panic, an abort or a signal.
#[test]
fn too_little_memory_is_refused_with_words() {
    if emulated() {
        eprintln!("skipped: the limit would be the emulator's");
        return;
    }
    let limited = |kib: u32, args: &[&str]| {
        let inner = tagpin(args);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {kib}; exec \"$@\""), "sh"]).arg(inner.get_program()).args(inner.get_args());
        shell.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(std::process::Stdio::null());
        finish(shell)
    };
    let mut refused = 0;
    // With less than the first the system cannot load the program, or has no room for its first
    // stack: with a few hundred KiB more than loading takes, a run ends in SIGSEGV before its first
    // line.
    let loads = |kib: &u32| limited(*kib - 1000, &["--version"]).status.success();
    for kib in (20_000..200_000).step_by(2500).skip_while(|kib| !loads(kib)) {
        let out = limited(kib, &["run", "--parts", "1"]);
        match out.status.code() {
            Some(2) => {
                let told = stderr(&out);
                assert!(told.contains("too little memory") || told.contains("gives no thread"), "{kib} KiB: {told}");
                refused += 1;
            }
            code => {
                assert_eq!(code, Some(0), "{kib} KiB: {}", stderr(&out));
                assert!(refused > 2, "{kib} KiB: only {refused} limits were too little");
                return;
            }
        }
    }
    panic!("no limit was enough");
}

/// Installed, the program had no models/parts.tagpin beside it, and `tagpin` alone was refused.
#[test]
fn the_demonstration_runs_in_any_folder() {
    for (n, args) in [&["run", "--parts", "1"][..], &["check"], &["simulate"]].into_iter().enumerate() {
        let mut command = tagpin(args);
        command.current_dir(folder(&format!("anywhere-{n}")));
        let out = finish(command);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", stderr(&out));
    }
    // A bundle that is named is read, not replaced by the shipped one.
    let mut command = tagpin(&["check", "--bundle", "models/parts.tagpin"]);
    command.current_dir(folder("anywhere"));
    assert_eq!(finish(command).status.code(), Some(1));
}

#[test]
fn every_command_has_a_man_page() {
    let pages = folder("man");
    let out = finish(tagpin(&["man", "--out", pages.to_str().unwrap()]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let help = finish(tagpin(&["--help"]));
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let commands = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| l.starts_with("  "));
    let names: Vec<&str> = commands.filter_map(|l| l.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(names.contains(&"run") && names.contains(&"safe"), "{help}");
    for name in names.into_iter().filter(|n| !n.is_empty() && *n != "help") {
        let page = std::fs::read_to_string(pages.join(format!("tagpin-{name}.1"))).unwrap_or_default();
        assert!(page.contains(".SH OPTIONS") && page.contains(".TH"), "{name}: {page}");
        let mut help = tagpin(&[name, "--help"]);
        help.env("COLUMNS", "80");
        let help = String::from_utf8(finish(help).stdout).unwrap();
        let long: Vec<&str> = help.lines().filter(|l| l.chars().count() > 80).collect();
        assert!(help.contains("Usage: tagpin") && long.is_empty(), "{name}: beyond 80 columns: {long:?}");
    }
    let nowhere = finish(tagpin(&["man", "--out", "/nowhere"]));
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(stderr(&nowhere).contains("--out /nowhere"), "{}", stderr(&nowhere));
}

/// Options that meant nothing were passed over, and a share that cannot be was told only after the
/// folder had been listed.
#[test]
fn options_that_mean_nothing_are_refused() {
    let code = |args: &[&str], why: &str| {
        let out = finish(tagpin(args));
        assert!(stderr(&out).contains(why), "{args:?}: {}", stderr(&out));
        out.status.code()
    };
    assert_eq!(code(&["bench", PARTS, "--output", "nosuch"], "is a bundle, whose output is its own"), Some(2));
    assert_eq!(code(&["classify", PARTS, "tests/data/part.jpg", "--top", "0"], "0 is not in 1..=65535"), Some(2));
    assert_eq!(code(&["classify", PARTS, "/nonexistent", "--shard", "0/0"], "expected I/N with 1 <= I <= N"), Some(2));
    assert_eq!(code(&["classify", PARTS, "/nonexistent", "--shard", "1/1"], "cannot be listed"), Some(2));
    assert_eq!(code(&["classify", PARTS, "tests/data/part.jpg", "--top", "1", "--shard", "1/1"], ""), Some(0));
    let one = settings("one-problem", "[source]\nopen = \"conveyor\"\n[decide]\nrejct = []\n");
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &one]));
    assert!(String::from_utf8_lossy(&out.stdout).ends_with("\n1 problem found\n"), "{out:?}");
}

/// `[output.gate]` was made safe with exit 0 and no word, and so was a file of nothing.
#[test]
fn safe_never_looks_like_done_where_it_found_no_output() {
    for (name, text, code, words) in [
        ("safe-slip", "[output.gate]\nbackend = \"gpiochip\"\n", 2, "unknown key \"output\"; did you mean \"outputs\"?"),
        ("safe-other", "listeners = 3\n", 2, "unknown key \"listeners\""),
        ("safe-empty", "", 0, "states no [outputs.NAME], so there is no line to make safe"),
        ("safe-none", "[source]\nopen = \"conveyor\"\n", 0, "states no [outputs.NAME]"),
    ] {
        let out = finish(tagpin(&["safe", "--settings", &settings(name, text)]));
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), stderr(&out));
        assert!(out.status.code() == Some(code) && said.contains(words), "{name}: {:?} {said}", out.status);
    }
    // An output beside the slip is made safe all the same.
    let text = "[output.gate]\n[outputs.lamp]\n";
    let out = finish(tagpin(&["safe", "--settings", &settings("safe-both", text)]));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!((out.status.code(), said.as_str()), (Some(2), "safe     lamp (simulated): inactive\n"));
}

/// Messages of up to 362 columns were broken within words by a terminal of 80; a pipe gets one line
/// a message.
#[test]
fn an_error_fits_the_terminal_and_is_one_line_in_a_pipe() {
    if emulated() || !has_python() {
        return;
    }
    const TERMINAL: &str = "import pty, sys\npty.spawn(['sh', '-c', 'stty cols 80; exec \"$@\"', 'sh'] + sys.argv[1:])";
    let file = settings("fits", "no bundle");
    for args in
        [&["bundle", "verify", &file][..], &["bundle", "rollback", &file], &["run", "--bundle", &file, "--parts", "1"]]
    {
        let command = tagpin(args);
        let mut at_terminal = std::process::Command::new("python3");
        at_terminal.args(["-c", TERMINAL]).arg(command.get_program()).args(command.get_args());
        let shown = String::from_utf8_lossy(&finish(at_terminal).stdout).replace('\r', "");
        let piped = stderr(&finish(tagpin(args)));
        assert!(piped.lines().all(|line| !line.starts_with(' ')), "{args:?}: {piped}");
        assert!(shown.split_whitespace().eq(piped.split_whitespace()), "{args:?}: {shown}{piped}");
        let long = |line: &&str| line.chars().count() > 80 && line.trim().contains(' ');
        assert_eq!(shown.lines().find(long), None, "{args:?}");
    }
}
