//! What a signature's comment says, and what a running line can take over.

use super::*;
use crate::bundle::{Contract, Fit, Input, Tables, Tag};
use crate::decide::{Role, TagRule, Task};
use crate::random::{Random, drawn_cases};

/// A name may hold the comment's own words: the last version is the version.
#[test]
fn a_comment_is_read_back_whatever_the_models_name_and_nothing_else_is_read() {
    let words = ["parts", " ", "version=", " version=3", "tagpin model=", "é", "=", "-7"];
    let (seed, cases) = drawn_cases(500);
    for case in 0..cases {
        let mut random = Random::new(seed, case);
        let model: String = (0..random.range(1, 5)).map(|_| words[random.range(0, 7) as usize]).collect();
        let version = u64::from(random.range(0, i32::MAX - 1) as u32) << random.range(0, 32);
        let comment = Comment { model, version };
        assert_eq!(comment.to_string().parse::<Comment>().unwrap(), comment, "case {case}");
    }
    assert_eq!("tagpin model=a version=18446744073709551615".parse::<Comment>().unwrap().version, u64::MAX);
    for wrong in [
        "",
        "tagpin",
        "tagpin model=a",
        "tagpin model=a version=",
        "tagpin model=a version=+1",
        "tagpin model=a version=-1",
        "tagpin model=a version=1 ",
        "tagpin model=a version=18446744073709551616",
        "Tagpin model=a version=1",
        "timestamp:1 file:parts.tagpin",
    ] {
        assert!(wrong.parse::<Comment>().is_err(), "\"{wrong}\"");
    }
}

const TABLES: Tables<'static> = Tables { real: &[0; 4 * Tables::LEN], int8: &[0; Tables::LEN] };

fn contract(task: Task, tags: &[(&'static str, Role)], height: u16) -> Contract<'static> {
    let input = Input { height, width: 96, fit: Fit::Crop, tables: TABLES, scale: 0.02, zero_point: 0 };
    let tags = tags.iter().map(|&(name, role)| Tag { name, rule: TagRule::default(), role }).collect();
    Contract {
        name: "line",
        task,
        tags,
        temperature_q16: 65536,
        input,
        graph_sha256: [0; 32],
        dataset_sha256: [0; 32],
        run_sha256: [0; 32],
        mixed: false,
    }
}

/// Thresholds, temperature and weights may change under a running line; what settings and a PLC go
/// by may not.
#[test]
fn a_restart_is_asked_for_where_task_tags_roles_or_input_size_differ() {
    let (good, defect) = (Role::Good, Role::Defect);
    let two = [("bolt", good), ("crack", defect)];
    let old = contract(Task::Multiclass, &two, 96);
    let differs = |new: &Contract<'_>| differences(&old, new).iter().map(|d| d.name()).collect::<Vec<_>>();
    let mut near = old.clone();
    near.temperature_q16 = 70_000;
    near.tags[0].rule.threshold = crate::head::Score(60_000);
    near.graph_sha256 = [7; 32];
    near.name = "another";
    near.mixed = true;
    assert_eq!(differs(&near), Vec::<&str>::new());
    assert_eq!(differs(&contract(Task::Multilabel, &two, 96)), ["task"]);
    assert_eq!(differs(&contract(Task::Multiclass, &[two[1], two[0]], 96)), ["tags"]);
    assert_eq!(differs(&contract(Task::Multiclass, &two[..1], 96)), ["tags"]);
    assert_eq!(differs(&contract(Task::Multiclass, &[two[0], ("crack", Role::Other)], 96)), ["roles"]);
    assert_eq!(differs(&contract(Task::Multiclass, &two, 97)), ["input size"]);
    assert_eq!(differs(&contract(Task::Multilabel, &two[..1], 90)), ["task", "tags", "input size"]);
}
