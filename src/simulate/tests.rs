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
