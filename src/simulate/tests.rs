//! A short soak for every build of the tests: the station and the actuator of a board on lines
//! drawn by seed, judged by the ledger. `tagpin simulate --soak N --drawn` is the long one.

use super::*;
use crate::decide::{Role, TagRule};
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
    let settings = Settings::parse(text, "drawn", ModelTags { names: &names, rules: &rules, roles: &roles });
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
        // 6.5 s at 82 ms are 80 parts: with each 65th the 64 before it are given up, and 40 are left at the end.
        let o = outcome(Task::Multiclass, &text(to_camera, 6500), &script(ms(82)));
        assert!(o.verdict.is_clean(), "{to_camera}: {:?}, {:?}", o.verdict, o.first);
        assert_eq!((o.given_up, o.most_in_flight), (4 * 64, 64), "to_camera_ms {to_camera}");
    }
    let (tags, rules) = model();
    let names: Vec<&str> = tags.iter().map(|t| t.name.as_str()).collect();
    let roles: Vec<Role> = tags.iter().map(|t| t.role).collect();
    let text = text(0, 4000);
    let settings = Settings::parse(&text, "fast", ModelTags { names: &names, rules: &rules, roles: &roles }).unwrap();
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
    let settings = Settings::parse(text, "fast", ModelTags { names: &names, rules: &rules, roles: &roles }).unwrap();
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
