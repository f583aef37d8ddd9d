//! What the documents show does what they say.

use crate::program::*;
use tagpin::bundle::Bundle;
use tagpin::decide::{Action, Decider, Observation, Role};
use tagpin::head::Score;
use tagpin::settings::{ModelTags, Settings};
use tagpin::time::Instant;

/// The first indented block after a heading of the line's document, without its indent.
fn block_after(heading: &str) -> String {
    let readme = include_str!("../../src/line/README.md");
    let at = readme.find(heading).unwrap_or_else(|| panic!("src/line/README.md has no \"{heading}\"")) + heading.len();
    let lines = readme[at..].lines().skip_while(|l| !l.starts_with("    "));
    let block = lines.take_while(|l| l.starts_with("    ") || l.trim().is_empty());
    block.map(|l| l.strip_prefix("    ").unwrap_or("").to_string() + "\n").collect()
}

/// The example waited for rejects that no tag gave: it rejected nothing.
#[test]
fn the_gate_example_rejects_the_defects_of_the_shipped_model() {
    let text = block_after("## A reject gate");
    let bundle = Bundle::read(include_bytes!("../../models/parts.tagpin")).unwrap();
    let tags = &bundle.contract.tags;
    let names: Vec<&str> = tags.iter().map(|t| t.name).collect();
    let (rules, roles): (Vec<_>, Vec<_>) = tags.iter().map(|t| (t.rule, t.role)).unzip();
    let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories: None };
    let settings = Settings::parse(&text, "src/line/README.md", model).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(settings.warnings(false), []);
    let routing = settings.routing(bundle.contract.task);
    let mut decider = Decider::new(bundle.contract.task, &settings.tags, settings.policy).unwrap();
    let gate = settings.outputs.iter().position(|o| o.name == "reject_gate").unwrap();
    for (i, tag) in tags.iter().enumerate() {
        let scores: Vec<Score> = (0..tags.len()).map(|t| Score(if t == i { 60_000 } else { 500 })).collect();
        decider.forget();
        let seen = Observation::Scores { captured_at: Instant::default(), scores: &scores, beyond: false };
        let (action, lines) = routing.of(&decider.step(Instant::default(), seen));
        let rejected = (action == Some(Action::Reject), lines >> gate & 1 == 1);
        assert_eq!(rejected, (tag.role == Role::Defect, tag.role == Role::Defect), "{}", tag.name);
    }
    assert_eq!(tags.iter().filter(|t| t.role == Role::Defect).count(), 2);
}

#[test]
fn check_has_nothing_to_say_of_the_gate_example_but_the_hardware_that_is_not_here() {
    let file = settings("readme-gate", &block_after("## A reject gate"));
    let out = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let hardware = ["PROBLEM  source: ", "PROBLEM  input: ", "PROBLEM  output reject_gate: ", "PROBLEM  output ready: "];
    for line in text.lines().filter(|l| !l.starts_with("ok ")) {
        let told =
            hardware.iter().any(|h| line.starts_with(h)) || line.ends_with(" problems found") || line == "1 problem found";
        assert!(told && !line.contains("settings"), "{line}\n{text}");
    }
    // The same line, simulated: its settings run.
    let out = finish(tagpin(&["simulate", "--bundle", PARTS, "--settings", &file, "--spacing-ms", "200..300"]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.contains("reject_gate +850.0 ms"), "{text}{}", stderr(&out));
}

#[test]
fn a_gate_on_tags_without_roles_is_warned_of() {
    let gate = "[line]\nmode = \"gate\"\n[trigger]\nkind = \"barrier\"\n[outputs.gate]\ndelay_ms = 900\non = [\"reject\"]\n";
    let file = settings("no-roles", gate);
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/board/patterns.tagpin");
    let check = |bundle: &str| {
        String::from_utf8_lossy(&finish(tagpin(&["check", "--bundle", bundle, "--settings", &file])).stdout).into_owned()
    };
    assert!(check(old).contains("warning  settings: output gate waits for rejects, but no tag gives one"), "{}", check(old));
    assert!(!check(PARTS).contains("warning"), "{}", check(PARTS));
}

#[test]
fn an_old_key_runs_is_told_and_is_rewritten_by_check() {
    let text = "[source]\nopen = \"conveyor\"   # the built-in one\n[safety]\nmax_faults = 3   # three\n";
    let file = settings("migrate", text);
    let link = format!("{file}.link");
    _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let beside = std::path::Path::new(&file).with_extension("toml.new");
    std::fs::write(&beside, "the site's own").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "1"]));
    assert!(
        out.status.success() && stderr(&out).contains("max_faults is now called max_faults_in_a_row"),
        "{}",
        stderr(&out)
    );
    let no_bundle = finish(tagpin(&["check", "--bundle", "no.tagpin", "--settings", &file, "--migrate"]));
    let said = String::from_utf8_lossy(&no_bundle.stdout).into_owned();
    assert!(no_bundle.status.code() == Some(1) && said.contains("skipped  rewriting the settings"), "{said}");
    let migrate = || finish(tagpin(&["check", "--bundle", PARTS, "--settings", &link, "--migrate"]));
    let out = migrate();
    assert!(String::from_utf8_lossy(&out.stdout).contains("renamed  safety.max_faults"), "{}", stderr(&out));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text.replace("max_faults =", "max_faults_in_a_row ="));
    assert!(String::from_utf8_lossy(&migrate().stdout).contains("every key has its present name"));
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink(), "the link was replaced by a file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "the file lost its mode");
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "the site's own", "a file beside it was destroyed");
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "1"]));
    assert!(out.status.success() && !stderr(&out).contains("is now called"), "{}", stderr(&out));
}
