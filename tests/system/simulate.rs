//! The simulated line through the binary.

use crate::program::*;
use serde_json::Value;

fn simulate(args: &[&str]) -> (Option<i32>, String) {
    let mut all = vec!["simulate", "--bundle", PARTS];
    all.extend(args);
    let out = finish(tagpin(&all));
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &stderr(&out))
}

#[test]
fn the_long_run_loses_swaps_and_doubles_nothing_and_is_the_same_again() {
    let (code, first) = simulate(&["--soak", "20000", "--seed", "3"]);
    assert_eq!(code, Some(0), "{first}");
    assert!(first.starts_with("parts=20000 lost=0 swapped=0 doubled=0 faults=") && first.contains(" unsafe=0\n"), "{first}");
    assert!(!first.contains("faults=0 "), "{first}");
    assert_eq!(simulate(&["--soak", "20000", "--seed", "3"]).1, first);
    // What says how a belt is was passed over in silence: the proof was of another belt.
    for belt in [["--spacing-ms", "15"], ["--fps", "1"], ["--bench", "/nowhere"], ["--faults", "lost=1"], ["--parts", "9"]] {
        let (code, text) = simulate(&["--soak", "20000", belt[0], belt[1]]);
        assert!(code == Some(2) && text.contains("cannot be used with") && text.contains(belt[0]), "{text}");
    }
    assert_eq!(simulate(&["--parts", "50", "--spacing-ms", "80", "--faults", "lost=100"]).0, Some(0));
}

/// Parts 60 ms apart, and another model as often as the line has room for one.
#[test]
fn the_model_changes_under_close_parts_and_each_is_judged_by_the_model_of_its_trigger() {
    let bench = folder("simulate-swap").join("bench.json");
    std::fs::write(&bench, r#"{"stages":{"infer":{"p50":20.0,"p90":30.0,"p99":60.0,"max":300.0}}}"#).unwrap();
    let belt = [
        "--spacing-ms",
        "60",
        "--view-ms",
        "60",
        "--fps",
        "60",
        "--parts",
        "1000",
        "--bench",
        bench.to_str().unwrap(),
        "--json",
    ];
    let run = |more: &[&str]| -> Value {
        let (code, text) = simulate(&[&belt, more].concat());
        assert_eq!(code, Some(0), "{text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let (swaps, drawn, none) = (run(&["--swap", "1"]), run(&["--swap"]), run(&[]));
    let changes = |v: &Value| v["model_changes"].as_u64().unwrap();
    assert!(changes(&swaps) > 5 * changes(&drawn) && changes(&drawn) > 5 && changes(&none) == 0, "{swaps} {drawn}");
    assert_eq!((&swaps["swapped"], &swaps["lost"], &swaps["unsafe"]), (&0.into(), &0.into(), &0.into()), "{swaps}");
    let (code, text) = simulate(&["--soak", "5000", "--swap", "1..40"]);
    assert!(code == Some(0) && text.contains(" changes of the model") && !text.contains(" 0 changes"), "{text}");
}

/// A simulated start after an end mixed parts of two runs in one row, and the drawing panicked.
#[test]
fn a_run_that_ends_and_begins_again_is_drawn() {
    for seed in 1..=4 {
        let (code, text) = simulate(&["--faults", "restart=20000", "--seed", &seed.to_string()]);
        assert!(code == Some(0) && text.contains("T trigger, o exposure") && text.contains("restart "), "{text}");
    }
}

#[test]
fn a_site_is_shown_its_timeline_its_load_and_its_fastest_line() {
    let bench = folder("simulate").join("bench.json");
    std::fs::write(
        &bench,
        r#"{"stages":{"preprocess":{"p50":2.0,"p90":2.0,"p99":3.0,"max":4.0},"infer":{"p50":40.0,"p90":45.0,"p99":60.0,"max":80.0}}}"#,
    )
    .unwrap();
    let args = ["--settings", "src/settings/demo.toml", "--bench", bench.to_str().unwrap(), "--spacing-ms", "400..500"];
    let (code, text) = simulate(&args);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("good +1200.0 ms") && text.contains("reject_gate +900.0 ms"), "{text}");
    assert!(text.contains("0 lost, 0 swapped, 0 doubled, 0 unsafe"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("given up ") && line.ends_with(" 0")), "{text}");
    let json = |extra: &[&str]| -> Value {
        let (_, text) = simulate(&[&args[..], &["--json"], extra].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let slow = json(&[]);
    let spacing = slow["fastest"]["spacing"].as_u64().unwrap();
    // A frame in 33 ms, a model of 42 to 84 ms: parts cannot come faster than frames, nor far
    // faster than the model.
    assert!((33_000..200_000).contains(&spacing), "{slow}");
    assert!(slow["to_verdict"]["p50"].as_u64().unwrap() > 42_000, "{slow}");
    let faulty = json(&["--faults", "lost=200000,engine=100000"]);
    assert!(faulty["undecided"].as_u64() > slow["undecided"].as_u64(), "{faulty}");
    assert_eq!((faulty["lost"].as_u64(), faulty["unsafe"].as_u64()), (Some(0), Some(0)));
}

#[test]
fn delays_in_counts_are_simulated_at_the_stated_speed_and_bad_arguments_are_refused() {
    let text = "[line]\nmode = \"gate\"\n[encoder]\nchip = \"header\"\na = 22\n[outputs.gate]\nmode = \"pulse\"\ndelay_counts = 500000\non = [\"reject\", \"accept\"]\n";
    let file = settings("simulate-counts", text);
    let (code, text) = simulate(&["--settings", &file, "--counts-per-second", "1000000"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("gate +500.0 ms"), "{text}");
    for (args, why) in [
        (vec!["--faults", "tea=3"], "expected lost, corrupt"),
        (vec!["--spacing-ms", "9..3"], "expected milliseconds"),
        (vec!["--bench", "README.md"], "tagpin bench MODEL --json"),
    ] {
        let (code, text) = simulate(&args);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(why), "{text}");
    }
    let state = settings("simulate-state", "[outputs.a]\non = [\"accept\"]\n");
    assert!(simulate(&["--settings", &state]).1.contains("mode = \"gate\""));
}

/// The built-in demonstration, whose reject pulse is 80 ms long, was called safe at 33 ms.
#[test]
fn the_fastest_belt_of_the_demonstration_is_not_below_its_pulse() {
    let bench = folder("simulate-width").join("bench.json");
    std::fs::write(&bench, r#"{"stages":{"infer":{"p50":2.0,"p90":2.0,"p99":2.0,"max":2.0}}}"#).unwrap();
    let (code, text) = simulate(&["--bench", bench.to_str().unwrap(), "--spacing-ms", "600", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let spacing = told["fastest"]["spacing"].as_u64().unwrap();
    assert!(code == Some(0) && (80_000..84_000).contains(&spacing), "{told}");
    assert_eq!(told["harmed"], 0, "parts 600 ms apart are met by no pulse");
}

/// What decides how fast a belt may run was passed over: a spacing at which the real line sorted
/// nothing was called safe.
#[test]
fn what_is_simulated_is_honoured_and_what_is_not_is_told() {
    let bench = folder("simulate-keys").join("bench.json");
    std::fs::write(&bench, r#"{"stages":{"infer":{"p50":2.0,"p90":2.0,"p99":2.0,"max":700.0}}}"#).unwrap();
    let gate = |trigger: &str, more: &str| {
        format!(
            "[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[outputs.gate]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 2850\n\
             on = [\"reject\"]\n{more}"
        )
    };
    let told = |name: &str, text: &str, args: &[&str]| {
        let file = settings(&format!("simulate-{name}"), text);
        simulate(&[&["--settings", &file, "--bench", bench.to_str().unwrap(), "--parts", "20"], args].concat())
    };
    let hung = gate("kind = \"stdin\"\nmax_jitter_ms = 50", "[safety]\nwatchdog_ms = 500\n");
    let (code, text) = told("hung", &hung, &[]);
    assert!(code == Some(0) && text.contains("above watchdog_ms 500, where the run ends as hung, exit 3"), "{text}");
    assert!(text.contains("[trigger] max_jitter_ms: each word is there at its part's moment"), "{text}");
    let held = gate("kind = \"barrier\"", "[safety]\nmax_faults_in_a_row = 2\n");
    let (code, text) = told("held", &held, &["--faults", "engine=500000"]);
    assert!(code == Some(0) && text.contains("exit 3, after 2 failed inferences in a row"), "{text}");
    assert!(!text.contains("max_jitter_ms") && text.contains("[trigger] kind: parts come as --spacing-ms says"), "{text}");
    let late = gate("kind = \"stdin\"\nmax_latency_ms = 12", "");
    let (code, text) = told("late", &late, &["--arrival-ms", "5..20"]);
    assert!(code == Some(2) && text.contains("[trigger] max_latency_ms says at most 12"), "{text}");
    // Left out, the arrival is within what is stated.
    assert_eq!(told("in-time", &late, &[]).0, Some(0));
}

/// Only the model's inference was timed, with one thread whatever the site states: preprocessing
/// takes longer than the shipped model.
#[test]
fn without_a_bench_the_whole_way_from_a_frame_to_its_scores_is_timed() {
    let told = |name: &str, top: &str| -> Value {
        let text = format!(
            "{top}[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n[outputs.gate]\nmode = \"pulse\"\ndelay_ms = 900\n\
             on = [\"reject\"]\n"
        );
        let file = settings(&format!("simulate-timed-{name}"), &text);
        let (_, text) = simulate(&["--settings", &file, "--parts", "50", "--json"]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let threads = told("threads", "[engine]\nthreads = 2\n");
    assert_eq!(threads["model_times"], "timed on this machine from a frame of 640x480 to its scores, 2 threads");
    let small = told("small", "");
    let large = told("large", "[source]\nroi = { x = 0, y = 0, width = 6000, height = 4000 }\n");
    let busy = |told: &Value| told["utilisation_percent"].as_f64().unwrap();
    assert!(busy(&large) > 2.0 * busy(&small), "80 times the image takes no longer: {large}\n{small}");
}

/// Whatever the ledger found, the program could have ended with 0: nothing made the line wrong.
#[test]
fn a_line_that_loses_a_part_ends_with_1() {
    for args in [vec![], vec!["--soak", "2000"], vec!["--drawn", "--only", "3"]] {
        let drilled = simulate(&[&args[..], &["--drill", "lose@5"]].concat());
        assert_eq!((drilled.0, simulate(&args).0), (Some(1), Some(0)), "{args:?}: {}", drilled.1);
    }
    let text = simulate(&["--drill", "lose@0"]).1;
    assert!(text.contains("expected lose@N"), "{text}");
    // A part that never comes was lost without a word, so the line seemed to find it.
    for (args, parts) in [(["--parts", "4"], 4), (["--soak", "4"], 4)] {
        let (code, text) = simulate(&[&args[..], &["--drill", "lose@5"]].concat());
        assert!(code == Some(2) && text.contains(&format!("lose@5: {parts} parts are on the belt")), "{text}");
    }
    assert_eq!(simulate(&["--parts", "5", "--drill", "lose@5"]).0, Some(1));
}

#[test]
fn a_fault_that_is_stated_twice_and_a_spacing_beyond_all_are_refused() {
    let (code, text) = simulate(&["--parts", "20", "--faults", "lost=1,engine=2,lost=3"]);
    assert!(code == Some(2) && text.contains("--faults: lost stands twice"), "{text}");
    assert_eq!(simulate(&["--parts", "20", "--faults", "lost=1,engine=2"]).0, Some(0));
    let text = simulate(&["--spacing-ms", "1000000000000"]).1;
    assert!(text.contains("expected milliseconds, 0.001..=600000"), "{text}");
}

/// A view of NaN was 0, and a setting beyond all was no setting: exit 0.
#[test]
fn numbers_that_are_none_are_refused() {
    for bad in ["NaN", "inf", "-inf", "-3", "0", "1e9"] {
        for option in ["--view-ms", "--spacing-ms", "--arrival-ms"] {
            let (code, text) = simulate(&[&format!("{option}={bad}")]);
            assert!(code == Some(2) && text.contains("expected milliseconds"), "{option} {bad}: {text}");
        }
    }
    assert_eq!(simulate(&["--drawn", "--only", "18446744073709551615"]).0, Some(2));
    assert_eq!(simulate(&["--parts", "20", "--view-ms", "150"]).0, Some(0));
}
