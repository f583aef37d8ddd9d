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

/// A folder of its own for files.
fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("tagpin-installed-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Of `--keys site.pub` the good key was called damaged, with the advice to remove it. A key under
/// the name SITE.PUB or site.pub.txt was no key at all, so unsigned bundles were taken. An empty
/// folder is the control.
#[test]
fn a_folder_of_keys_that_is_none_is_called_so_and_a_key_under_a_wrong_name_refuses_every_bundle() {
    let folder = folder("keys");
    let said = |path: &Path| Keys::open(path).map(|keys| keys.is_empty()).map_err(|e| e.to_string());
    assert_eq!(said(&folder), Ok(true));
    std::fs::write(folder.join("README"), "keys as NAME.pub").unwrap();
    assert_eq!(said(&folder), Ok(true), "no key was meant");
    for name in ["SITE.PUB", "site.pub.txt"] {
        let file = folder.join(name);
        std::fs::write(&file, "a key").unwrap();
        let why = said(&folder).unwrap_err();
        assert!(why.starts_with(&format!("key {}: the name of a key ends in .pub", file.display())), "{why}");
        let why = said(&file).unwrap_err();
        assert!(why.contains("is a file, no folder; --keys names the folder") && !why.contains("remove"), "{why}");
        std::fs::remove_file(file).unwrap();
    }
    let why = said(&folder.join("absent")).unwrap_err();
    assert!(why.contains("absent: No such file") && why.contains("--keys names the folder"), "{why}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// A mistyped folder was "no previous bundle; install one", refused as if a bundle had been looked
/// at, and its status was two bundles that are not there.
#[test]
fn a_folder_that_is_not_there_or_has_nothing_installed_is_told_as_that() {
    let folder = folder("none");
    let back = |path: &Path| roll_back(path, &Keys::default(), Options::default(), |_| Ok(())).unwrap_err();
    for (path, why) in
        [(folder.join("absent"), "absent: cannot be read: No such file"), (folder.clone(), "nothing is installed in it")]
    {
        let e = back(&path);
        assert!(!e.is_refusal() && e.to_string().contains(why), "{e}");
    }
    assert!(matches!(Seen::behind(&folder.join("absent"), CURRENT, &Keys::default()), Err(InstallError::Io { .. })));
    assert!(matches!(Seen::behind(&folder, CURRENT, &Keys::default()), Ok(None)), "a folder that is there");
    std::os::unix::fs::symlink("bundles/gone.tagpin", folder.join(CURRENT)).unwrap();
    let e = back(&folder);
    assert!(e.is_refusal() && e.to_string().contains("no previous bundle to go back to: the current one"), "{e}");
    std::fs::remove_dir_all(folder).unwrap();
}
