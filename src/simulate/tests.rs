//! A short soak for every build of the tests: the station and the actuator of a board on lines
//! drawn by seed, judged by the ledger. `tagpin simulate --soak N --drawn` is the long one.

use super::*;
use crate::decide::{Role, TagRule, Task};
use crate::head::Score;
use crate::random::drawn_cases;
use crate::settings::{ModelTags, SOAK};
use std::sync::mpsc;
use std::time::Duration;

/// A model of four tags, one of them with a review band, as the ledger and as the line knows it.
fn model() -> (Vec<ModelTag>, Vec<TagRule>) {
    let tag = |(name, role, review_low): (&str, Role, u16)| {
        let rule = TagRule { threshold: Score(32768), review_low: Score(review_low) };
        (ModelTag { name: name.into(), threshold: 32768, review_low, role }, rule)
    };
    let tags = [
        ("gear", Role::Good, 32768),
        ("gear_chipped", Role::Defect, 26000),
        ("washer_cracked", Role::Defect, 32768),
        ("empty", Role::Other, 32768),
    ];
    tags.map(tag).into_iter().unzip()
}

fn outcome(task: Task, text: &str, script: &Script) -> Outcome {
    let (tags, rules) = model();
    let names: Vec<&str> = tags.iter().map(|t| t.name.as_str()).collect();
    let roles: Vec<Role> = tags.iter().map(|t| t.role).collect();
    let settings =
        Settings::parse(text, "drawn", ModelTags { names: &names, rules: &rules, roles: &roles, categories: None });
    let settings = settings.unwrap_or_else(|e| panic!("{e}\n{text}"));
    let (text, script) = (text.to_string(), script.clone());
    // A second or less; a line that stands still is found to do so.
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let plan = Plan { task, tags: &tags, settings: &settings, text: &text };
        let _ = done.send(run(&plan, &script).unwrap());
    });
    is_done.recv_timeout(Duration::from_secs(15)).expect("the simulated line goes on")
}

#[test]
fn no_part_is_lost_swapped_doubled_or_unsafe_on_drawn_lines() {
    let (seed, cases) = drawn_cases(48);
    let (tags, _) = model();
    for index in 0..cases {
        let drawn = drawn::draw(seed, index, &tags, 150);
        for task in [Task::Multiclass, Task::Multilabel] {
            let o = outcome(task, &drawn.text, &drawn.script);
            assert!(o.verdict.is_clean(), "line {index}, {task:?}: {:?}, {:?}\n{}", o.verdict, o.first, drawn.text);
        }
    }
}

#[test]
fn no_part_is_lost_swapped_doubled_or_unsafe_while_everything_fails() {
    let (seed, _) = drawn_cases(1);
    let script = Script::soak(seed, 3000);
    let o = outcome(Task::Multiclass, SOAK, &script);
    assert!(o.verdict.is_clean(), "{:?}, {:?}", o.verdict, o.first);
    // Most parts are sorted all the same, and faults did strike.
    assert!(o.undecided * 2 < o.parts && o.faults.iter().any(|(_, n)| *n > 0), "{o:?}");
}

/// The drawn lines had no flash that its trigger's delay can make late, so the ledger did not know
/// that a missed one makes the line safe too: an alarm without cause at every twentieth part.
#[test]
fn a_flash_that_is_missed_because_its_trigger_was_told_late_makes_the_line_safe_where_it_is_so_stated() {
    let text = |missed: &str, width: u32| {
        format!(
            "[line]\nmode = \"gate\"\nmissed_edge = \"{missed}\"\n[trigger]\nkind = \"barrier\"\n[outputs.flash]\n\
             mode = \"pulse\"\nwidth_ms = {width}\ndelay_ms = 0\non = [\"trigger\"]\n[outputs.gate]\nmode = \"pulse\"\n\
             width_ms = 60\ndelay_ms = 850\non = [\"reject\"]\n"
        )
    };
    let (seed, _) = drawn_cases(1);
    let script = Script { faults: vec![(Fault::ToldLate, 50_000)], ..Script::soak(seed, 2000) };
    let given_up = |missed, width| {
        let o = outcome(Task::Multiclass, &text(missed, width), &script);
        assert!(o.verdict.is_clean(), "{missed}, {width}: {:?}, {:?}", o.verdict, o.first);
        o.given_up
    };
    assert_eq!((given_up("go_on", 5), given_up("safe", 100)), (0, 0));
    assert!(given_up("safe", 5) > 100, "each missed flash gives up what is on its way");
}

/// Parts whose gates were given up went on waiting for their frames, so after one part too many the
/// next ones were too many again; and the fastest belt was one on which nearly all were given up.
#[test]
fn more_parts_than_can_be_followed_are_given_up_once_and_no_belt_is_called_fast_enough_for_that() {
    let text = |to_camera: u32, delay: u32| {
        format!(
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\nto_camera_ms = {to_camera}\ndeadline_ms = {}\n\
             [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 10\ndelay_ms = {delay}\non = [\"reject\", \"accept\", \"review\"]\n",
            delay - 100
        )
    };
    let ms = |n: u64| Micros(n * 1000);
    let (seed, _) = drawn_cases(1);
    let script = |spacing| Script {
        spacing: Spread { lo: spacing, hi: spacing },
        inference: Quantile::measured(ms(2), ms(2), ms(2), ms(2)),
        faults: Vec::new(),
        ..Script::soak(seed, 300)
    };
    for to_camera in [0, 6000] {
        // 6.5 s at 82 ms are 80 parts: with each 65th it and the 64 before it are given up, and 40
        // are left at the end.
        let o = outcome(Task::Multiclass, &text(to_camera, 6500), &script(ms(82)));
        assert!(o.verdict.is_clean(), "{to_camera}: {:?}, {:?}", o.verdict, o.first);
        assert_eq!((o.given_up, o.most_in_flight), (4 * 65, 64), "to_camera_ms {to_camera}");
    }
    let (tags, rules) = model();
    let names: Vec<&str> = tags.iter().map(|t| t.name.as_str()).collect();
    let roles: Vec<Role> = tags.iter().map(|t| t.role).collect();
    let text = text(0, 4000);
    let settings =
        Settings::parse(&text, "fast", ModelTags { names: &names, rules: &rules, roles: &roles, categories: None }).unwrap();
    let plan = Plan { task: Task::Multiclass, tags: &tags, settings: &settings, text: &text };
    let (spacing, at) = fastest(&plan, &script(ms(100)), 300).unwrap().unwrap();
    // 64 parts in 4 s are one in 62.5 ms.
    assert!(spacing >= Micros(61_000) && spacing <= Micros(66_000), "{spacing:?}");
    assert_eq!((at.given_up, at.undecided), (0, 0));
}

/// What the fastest belt is for these settings and this script.
fn fastest_of(text: &str, script: &Script) -> Option<Micros> {
    let (tags, rules) = model();
    let names: Vec<&str> = tags.iter().map(|t| t.name.as_str()).collect();
    let roles: Vec<Role> = tags.iter().map(|t| t.role).collect();
    let settings =
        Settings::parse(text, "fast", ModelTags { names: &names, rules: &rules, roles: &roles, categories: None }).unwrap();
    let plan = Plan { task: Task::Multiclass, tags: &tags, settings: &settings, text };
    fastest(&plan, script, 60).unwrap().map(|(spacing, _)| spacing)
}

/// Parts at one spacing, a camera of 100 frames a second and a model that takes 2 ms: what is
/// slower than 15 ms is so for another reason.
fn quick() -> Script {
    let ms = |n: u64| Micros(n * 1000);
    Script {
        seed: drawn_cases(1).0,
        parts: 60,
        spacing: Spread { lo: ms(500), hi: ms(500) },
        in_view: ms(200),
        fps: 100,
        arrival: Spread { lo: ms(2), hi: ms(2) },
        inference: Quantile::measured(ms(2), ms(2), ms(2), ms(2)),
        faults: Vec::new(),
        counts_per_second: 1000,
        moves: Moves::Steadily,
        model_changes: None,
        loses: None,
    }
}

/// A line with one gate whose pulse is `width` long.
fn one_gate(width: u32, trigger: &str) -> String {
    format!(
        "[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[outputs.gate]\nmode = \"pulse\"\nwidth_ms = {width}\ndelay_ms = 500\n\
         on = [\"reject\"]\n"
    )
}

/// Parts 33 ms apart behind a pulse of 80 ms were called the fastest belt of the demonstration.
#[test]
fn no_belt_is_fast_enough_for_a_pulse_that_meets_the_next_part() {
    for width in [80, 200] {
        let spacing = fastest_of(&one_gate(width, "kind = \"barrier\""), &quick()).unwrap();
        let width = Micros(width as u64 * 1000);
        assert!(spacing >= width && spacing.0 <= width.0 * 102 / 100 + 500, "{spacing:?} behind a pulse of {width:?}");
    }
    assert!(
        fastest_of(&one_gate(1, "kind = \"barrier\""), &quick()).unwrap() < Micros(15_000),
        "a short pulse decides nothing"
    );
}

/// Parts that were ignored as too close were in nobody's books: 3278 parts a second.
#[test]
fn parts_that_the_line_does_not_follow_make_no_belt_fast_enough() {
    let text = |rule: &str| one_gate(1, &format!("kind = \"stdin\"\nmin_spacing_ms = 100\ntoo_close = \"{rule}\""));
    for rule in ["ignore", "reject", "safe"] {
        let spacing = fastest_of(&text(rule), &quick()).unwrap();
        assert!((100_000..102_000).contains(&spacing.0), "{rule}: {spacing:?}");
    }
    let ms = |n: u64| Micros(n * 1000);
    let crowded = Script { spacing: Spread { lo: ms(60), hi: ms(60) }, ..quick() };
    let o = outcome(Task::Multiclass, &text("ignore"), &crowded);
    assert!(o.verdict.is_clean() && o.unseen == 30, "each second one is ignored: {o:?}");
}

/// Edges closer than the input is debounced for never come, and a part lasts as long as the gap
/// behind it at best.
#[test]
fn parts_that_are_lost_in_the_debouncing_of_the_trigger_are_counted() {
    let text = |edge: &str| {
        one_gate(1, &format!("kind = \"gpio\"\nchip = \"header\"\nline = 27\ndebounce_ms = 50\nedge = \"{edge}\""))
    };
    for (edge, least) in [("rising", 100_000), ("both", 50_000)] {
        let spacing = fastest_of(&text(edge), &quick()).unwrap();
        assert!((least..least + 2000).contains(&spacing.0), "{edge}: {spacing:?}");
    }
}

/// The real line gave 79 of 80 parts no verdict at a spacing that was called safe: the simulated
/// camera knew when its frames were exposed, whatever `max_latency_ms` says.
#[test]
fn frames_are_told_apart_only_as_well_as_max_latency_says() {
    let stated = |kind: &str| one_gate(1, &format!("kind = \"{kind}\"\nmax_latency_ms = 100"));
    let spacing = fastest_of(&stated("stdin"), &quick()).unwrap();
    // 100 ms until no frame may show the part before, and the next frame.
    assert!((100_000..125_000).contains(&spacing.0), "{spacing:?}");
    assert!(fastest_of(&one_gate(1, "kind = \"stdin\""), &quick()).unwrap() < Micros(15_000));
    assert!(fastest_of(&stated("presence"), &quick()).unwrap() < Micros(15_000), "the trigger is a frame's moment itself");
    let slow = Script { arrival: Spread { lo: Micros(2000), hi: Micros(100_001) }, ..quick() };
    let (tags, rules) = model();
    let names: Vec<&str> = tags.iter().map(|t| t.name.as_str()).collect();
    let roles: Vec<Role> = tags.iter().map(|t| t.role).collect();
    let text = stated("stdin");
    let settings =
        Settings::parse(&text, "slow", ModelTags { names: &names, rules: &rules, roles: &roles, categories: None }).unwrap();
    let plan = Plan { task: Task::Multiclass, tags: &tags, settings: &settings, text: &text };
    let why = run(&plan, &slow).unwrap_err();
    assert!(why.contains("up to 100.001 ms to arrive, but [trigger] max_latency_ms says at most 100;"), "{why}");
}

/// Frames of the empty belt counted as a verdict on a part.
#[test]
fn a_part_whose_frame_shows_no_part_is_not_sorted() {
    let glimpse = Script { in_view: Micros(1000), ..quick() };
    assert_eq!(fastest_of(&one_gate(1, "kind = \"stdin\""), &glimpse), None);
    let counts = one_gate(1, "kind = \"stdin\"\nto_camera_counts = 100\ndeadline_counts = 400")
        + "[encoder]\nchip = \"header\"\na = 22\n";
    let undecided = |in_view: u64| {
        let script = Script { in_view: Micros(in_view), ..quick() };
        let o = outcome(Task::Multiclass, &counts, &script);
        assert!(o.verdict.is_clean(), "{:?}", o.first);
        o.undecided
    };
    assert_eq!(undecided(50_000), 0, "a part that comes by the belt leaves by it");
    assert!(undecided(1000) > 30);
}

/// A model slower than `watchdog_ms` ends the real run, and so do failures in a row; the simulated
/// one went on.
#[test]
fn what_ends_a_run_ends_the_simulated_one() {
    let ms = |n: u64| Micros(n * 1000);
    let text = |safety: &str| format!("{}[safety]\n{safety}\n", one_gate(1, "kind = \"stdin\""));
    let slow = Script { inference: Quantile::measured(ms(2), ms(2), ms(2), ms(60)), parts: 2000, ..quick() };
    let o = outcome(
        Task::Multiclass,
        &text("watchdog_ms = 59"),
        &Script { inference: Quantile::measured(ms(2), ms(2), ms(60), ms(60)), ..slow.clone() },
    );
    assert!(o.verdict.is_clean() && o.hung > 0 && o.unseen > 0, "{o:?}");
    assert_eq!(fastest_of(&text("watchdog_ms = 59"), &slow), None);
    assert!(fastest_of(&text("watchdog_ms = 60"), &slow).is_some());
    let failing = Script { faults: vec![(Fault::Engine, 500_000)], parts: 200, ..quick() };
    let held = |safety: &str| {
        let o = outcome(Task::Multiclass, &text(safety), &failing);
        assert!(o.verdict.is_clean(), "{:?}", o.first);
        o.held
    };
    assert!(held("max_faults_in_a_row = 2") > 10);
    assert_eq!(held("max_faults_in_a_row = 1000"), 0);
}

/// What the simulated line does not read was found by whoever ran into it: each key of the example
/// that counts at a gate stands in the README's table.
#[test]
fn each_key_that_counts_at_a_gate_is_said_to_be_simulated_or_not() {
    let readme = include_str!("../line/README.md");
    let rows = readme.split("### What simulate reads").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = |table: &str| rows.lines().find(|line| line.starts_with(&format!("| `[{table}]` |"))).unwrap_or_default();
    let (mut table, mut keys) = (String::new(), 0);
    for line in crate::settings::EXAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split([']', '.']).next()) {
            table = name.to_string();
        }
        let key = line.split(" = ").next().filter(|key| *key != line && !key.contains([' ', '[', '"']));
        let Some(key) = key.filter(|_| !row(&table).is_empty()) else { continue };
        let counts = key.replace("_counts", "_ms");
        assert!(key == "default" || row(&table).contains(&format!("`{counts}`")), "[{table}] {key}: {}", row(&table));
        keys += 1;
    }
    assert!(keys > 70, "{keys} keys were found");
    for table in ["source", "line", "trigger", "encoder", "acknowledge", "confirm", "decide", "tags", "outputs", "safety"] {
        assert!(!row(table).is_empty(), "{table}");
    }
    let others = rows.lines().last().unwrap_or_default().to_string() + rows;
    for table in ["events", "page", "state", "predict", "metrics", "modbus", "mqtt", "keep"] {
        assert!(others.contains(&format!("`[{table}]`")), "{table}");
    }
}

/// Nothing saw whether a late part makes a belt too fast: each part here is decided, and behind its
/// gate.
#[test]
fn no_belt_is_fast_enough_for_a_model_that_answers_behind_the_gate() {
    let ms = |n: u64| Micros(n * 1000);
    let takes = |n: u64| Script { inference: Quantile::measured(ms(n), ms(n), ms(n), ms(n)), ..quick() };
    let text = one_gate(1, "kind = \"stdin\"");
    let o = outcome(Task::Multiclass, &text, &Script { spacing: Spread { lo: ms(2000), hi: ms(2000) }, ..takes(700) });
    assert!(o.verdict.is_clean() && o.late == 60 && o.undecided == 0, "{o:?}");
    assert_eq!(fastest_of(&text, &takes(700)), None);
    assert!(fastest_of(&text, &takes(400)).is_some());
}

/// Parts 60 ms apart, up to a second of them between trigger and verdict, and a change of the model
/// as often as the line has room for one: each part is judged by the model of its trigger.
#[test]
fn each_part_is_judged_by_the_model_of_its_trigger_while_many_are_on_their_way() {
    let (seed, cases) = drawn_cases(6);
    let ms = |n: u64| Micros(n * 1000);
    for case in 0..cases {
        // The camera stands up to 900 ms behind the trigger.
        let to_camera = 300 * (case % 4);
        let text = format!(
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\nto_camera_ms = {to_camera}\nframes = {}\n[outputs.gate]\n\
             mode = \"pulse\"\nwidth_ms = 10\ndelay_ms = {}\non = [\"reject\"]\n[outputs.tags]\nmode = \"pulse\"\n\
             width_ms = 10\ndelay_ms = {}\non = [\"tag:gear\", \"tag:empty\"]\n",
            1 + case % 2,
            to_camera + 400,
            to_camera + 500
        );
        let script = Script {
            spacing: Spread { lo: ms(60), hi: ms(60) },
            fps: 60,
            in_view: ms(60),
            inference: Quantile::heavy(ms(10), ms(30), ms(100), ms(400)),
            faults: Fault::rates(),
            model_changes: Some(Spread { lo: ms(1), hi: ms(if case % 2 == 0 { 1 } else { 300 }) }),
            ..Script::soak(seed.wrapping_add(case), 3000)
        };
        let o = outcome(Task::Multiclass, &text, &script);
        assert!(o.verdict.is_clean(), "{to_camera}: {:?}, {:?}", o.verdict, o.first);
        assert!(o.model_changes > 90 && o.most_in_flight >= 6 && o.undecided * 2 < o.parts, "{to_camera}: {o:?}");
    }
}

/// Changes of the model are drawn apart from the belt: without its sensor nothing else differs.
#[test]
fn a_belt_is_the_same_with_and_without_changes_of_the_model() {
    let (seed, _) = drawn_cases(1);
    let text = one_gate(1, "kind = \"stdin\"");
    let o = |model_changes| outcome(Task::Multiclass, &text, &Script { seed, model_changes, ..quick() });
    let (with, without) = (o(Some(Script::MODEL_CHANGES)), o(None));
    assert!(with.model_changes > 5 && without.model_changes == 0);
    assert_eq!((with.line_time, with.late, with.undecided), (without.line_time, without.late, without.undecided));
    assert_ne!(with.edges, without.edges, "no model calls all parts by the first one's tags");
}

/// The ledger finds what the line is made to do wrong, also where the program that runs it would
/// pass over its verdict.
#[test]
fn a_part_that_the_outputs_are_never_told_of_is_found() {
    let text = one_gate(1, "kind = \"stdin\"").replace("\"reject\"]", "\"reject\", \"accept\", \"review\"]");
    let o = |loses| outcome(Task::Multiclass, &text, &Script { loses, ..quick() });
    assert!(o(None).verdict.is_clean());
    let found = o(Some(7));
    assert_eq!((found.verdict.lost, found.verdict.swapped, found.verdict.doubled), (1, 0, 0), "{:?}", found.first);
}
