//! Settings files and the problems that must be reported for them.

mod inputs;
mod outputs;
mod site;
mod tags;

use super::*;
use crate::decide::Preference;
use crate::head::Score;

const NAMES: [&str; 3] = ["bolt", "gear_chipped", "nut"];

fn parse(text: &str) -> Result<Settings, Vec<String>> {
    parse_with_roles(text, [Role::Other; 3])
}

fn parse_with_roles(text: &str, roles: [Role; 3]) -> Result<Settings, Vec<String>> {
    let rules = [TagRule::default(); 3];
    Settings::parse(text, "device.toml", ModelTags { names: &NAMES, rules: &rules, roles: &roles, categories: None })
        .map_err(|e| e.0)
}

#[test]
fn the_example_file_states_the_defaults() {
    let example = parse(EXAMPLE).unwrap();
    let mut plain = parse("").unwrap();
    assert!(plain.outputs.is_empty());
    plain.outputs = example.outputs.clone();
    assert_eq!(example, plain);
    assert_eq!(example.outputs[0].mode, Mode::Pulse(Millis(100)));
}

#[test]
fn every_problem_is_reported_with_line_column_and_mend() {
    let text = "\
[source]
opne = \"conveyor\"
frame_timeout_ms = 5
[decide]
reject = [\"bolt\", \"screw\"]
[outputs.a]
backend = \"gpiochip\"
chip = \"rp1\"
line = 17
on = [\"reject\"]
[outputs.b]
backend = \"gpiochip\"
chip = \"rp1\"
line = 17
on = [\"tag:nutt\"]
mode = \"blink\"
";
    let problems = parse(text).unwrap_err();
    let expected = [
        "device.toml:2:1: unknown key \"source.opne\"; did you mean \"open\"?",
        "device.toml:3:20: source.frame_timeout_ms: 5, expected 10..=600000",
        "device.toml:5:19: decide: the model has no tag \"screw\"; it has \"bolt\", \"gear_chipped\", \"nut\"",
        "outputs.b: gpiochip rp1 line 17, which \"a\" already holds; free it or choose another",
        "the model has no tag \"nutt\"",
        "outputs.b.mode: \"blink\", expected level, pulse, latched",
    ];
    for want in expected {
        assert!(problems.iter().any(|p| p.contains(want)), "{want} is not among {problems:#?}");
    }
}

#[test]
fn text_that_is_no_toml_is_named_with_its_place() {
    let problems = parse("[source\nopen = 1").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("device.toml:1:"), "{problems:?}");
}

/// A key that was missing brought messages about what rests on it, and a strange one was likened to
/// any short word.
#[test]
fn one_missing_or_strange_key_is_one_problem_that_says_what_to_do() {
    let gate = "[line]\nmode = \"gate\"\n[outputs.gate]\nmode = \"pulse\"\ndelay_ms = 900\non = [\"reject\"]\n";
    let lamp = |on: &str, key: &str| format!("{gate}[outputs.lamp]\non = [\"{on}\"]\n{key}\n");
    let socket = |path: &str| format!("[trigger]\nkind = \"socket\"\npath = \"{path}\"\n");
    let at_most = "p".repeat(107);
    for good in [gate.into(), lamp("fault", "active = \"low\""), lamp("trigger", "width_ms = 3"), socket(&at_most)] {
        assert!(parse(&good).is_ok(), "{good}: {:?}", parse(&good));
    }
    let gone = "belongs to an output that parts move; what this one shows has no gate and no width, so remove it";
    for (text, told) in [
        (format!("{gate}[confirm]\nchip = \"header\"\nline = 3\n"), "confirm.output: is missing"),
        (format!("{gate}[confirm]\noutput = \"gate\"\n"), "confirm: nothing is seen behind the gate"),
        (lamp("fault", "mode = \"pulse\""), &format!("outputs.lamp.mode: {gone}")),
        (lamp("ready", "width_ms = 9"), &format!("outputs.lamp.width_ms: {gone}")),
        (lamp("busy", "delay_ms = 9"), &format!("outputs.lamp.delay_ms: {gone}")),
        (lamp("heartbeat", "window_ms = 9"), &format!("outputs.lamp.window_ms: {gone}")),
        (lamp("fault", "peer = 9"), "unknown key \"outputs.lamp.peer\"; expected "),
        (lamp("trigger", "mode = \"level\""), "outputs.lamp.mode: \"level\", expected pulse"),
        (gate.replace("delay_ms", "window_ms = 0\ndelay_ms"), "outputs.gate.window_ms: 0, expected 1..=600000"),
        (socket(""), "trigger.path: is empty, expected the path of a socket"),
        (socket("a\\u0000b"), "trigger.path: holds a zero byte"),
        (socket(&format!("{at_most}p")), "trigger.path: 108 bytes, expected at most 107"),
    ] {
        let problems = parse(&text).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(told), "{told}: {problems:?}");
    }
    let two = "backend = \"gpiochip\"\non = [\"accept\"]\n";
    let problems = parse(&format!("[outputs.a]\n{two}[outputs.b]\n{two}")).unwrap_err();
    assert!(problems.len() == 4 && problems.iter().all(|p| p.ends_with(": is missing")), "{problems:?}");
}

/// One table that is wrong says nothing of the others.
#[test]
fn a_draft_says_which_tables_can_be_relied_on() {
    let text = "[source]\nroi = { x = -1, width = 9, height = 9 }\n[decide]\nrejct = []\n[outputs.a]\non = [\"accept\"]\n[outputs.ab]\non = [\"screw\"]\n";
    let names = ["bolt", "gear", "nut"];
    let model = ModelTags { names: &names, rules: &[TagRule::default(); 3], roles: &[Role::Other; 3], categories: None };
    let draft = Settings::draft(text, "device.toml", model).unwrap();
    assert_eq!((draft.problems.len(), draft.settings.outputs.len()), (3, 2), "{:?}", draft.problems);
    for (table, right) in
        [("source", false), ("decide", false), ("outputs.ab", false), ("outputs.a", true), ("trigger", true)]
    {
        assert_eq!(draft.is_right(table), right, "{table}");
    }
}

#[test]
fn a_renamed_key_is_read_told_and_rewritten_with_its_comments() {
    let text = "# the site\'s own\n[safety]  # held\nmax_faults = 3   # three\n";
    let s = parse(text).unwrap();
    assert_eq!((s.max_faults, s.renamed.len()), (3, 1));
    let told = s.renamed[0].to_string();
    assert!(told.starts_with("device.toml:3:1: safety.max_faults is now called max_faults_in_a_row"), "{told}");
    let new = Settings::migrate(text, &s.renamed);
    assert_eq!(new, text.replace("max_faults =", "max_faults_in_a_row ="));
    let again = parse(&new).unwrap();
    assert_eq!((again.max_faults, again.renamed.len()), (3, 0));
    let both = parse("[safety]\nmax_faults = 3\nmax_faults_in_a_row = 4\n").unwrap_err();
    assert!(both[0].contains("old name of max_faults_in_a_row"), "{both:?}");
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut seed = 1u64;
    for _ in 0..3000 {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for _ in 0..6 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] = (seed >> 20) as u8 & 0x7f;
        }
        let text = std::str::from_utf8(&bytes).expect("seven bits are UTF-8");
        let _ = parse(text);
        let _ = safe_lines(text, "device.toml");
    }
}

#[test]
fn numbers_and_words_beyond_what_is_expected_are_told_with_it() {
    for (text, told) in [
        ("[source]\nframe_timeout_ms = 9\n", "9, expected 10..=600000"),
        ("[source]\nframe_timeout_ms = 600001\n", "600001, expected 10..=600000"),
        ("[source]\nframe_timeout_ms = \"9\"\n", "found string, expected a whole number"),
        // An integer of twenty digits was "found integer, expected a whole number".
        ("[source]\nframe_timeout_ms = 99999999999999999999\n", "99999999999999999999, expected 10..=600000"),
        ("[source]\nopen = 7\n", "found integer, expected text"),
        ("source = 7\n", "found integer, expected a table"),
        ("[decide]\nhysteresis = 1.5\n", "1.5, expected 0..="),
        ("[decide]\nhysteresis = \"a\"\n", "found string, expected a number"),
        ("[decide]\nreject = \"bolt\"\n", "found string, expected a list of texts"),
        ("[decide]\nreject = [1]\n", "reject: expected texts"),
        ("[trigger]\nkind = \"gpio\"\nline = 4\n", "trigger.chip: is missing"),
        ("[trigger]\nkind = \"gpio\"\nchip = \"c\"\nline = [4]\n", "expected text or a number"),
        ("[trigger]\nkind = \"motion\"\narea = 0.0\n", "expected 0.001..=1"),
        ("[trigger]\nkind = \"motion\"\nroi = { x = 1, y = 2, width = 0, height = 3 }\n", "0, expected 1..=8192"),
        ("[trigger]\ndeadline_ms = 0\n", "0, expected 1..=86400000"),
        ("[trigger]\ndeadline_counts = 5\n", "counts need an [encoder]"),
        ("[trigger]\nframes = 2\n", "makes parts of 1 frame"),
        ("[source]\nxyzzyxyzzy = 1\n", "unknown key \"source.xyzzyxyzzy\"; expected "),
        ("[source]\noqpe = 1\n", "did you mean \"open\"?"),
        ("[[[", "device.toml:1:"),
    ] {
        let problems = parse(text).err().unwrap_or_default();
        assert!(problems.iter().any(|p| p.contains(told)), "{text}: {told} is not among {problems:#?}");
    }
    // Columns count letters, not bytes, and the line is the value's own.
    let problems = parse("# ä\n[tags]\n\"ü\" = { threshold = 0.5 }\n").unwrap_err();
    assert!(problems[0].starts_with("device.toml:3:"), "{problems:?}");
}

#[test]
fn the_ends_of_each_range_are_within_it() {
    for text in
        ["[source]\nframe_timeout_ms = 10\n", "[source]\nframe_timeout_ms = 600000\n", "[decide]\nhysteresis = 0.0\n"]
    {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    }
}

/// What a person reads of a warning names the output and what to do.
#[test]
fn each_warning_says_what_waits_and_what_to_do() {
    let of = |warning: Warning| warning.to_string();
    let output = || "gate".to_string();
    for (warning, words) in [
        (Warning::NoTagGives { output: output(), action: Action::Reject }, ["gate waits for rejects", "[decide] reject = "]),
        (Warning::NoTagGives { output: output(), action: Action::Review }, ["gate waits for review", "[decide] review = "]),
        (Warning::NoDistance { output: output() }, ["gate waits for foreign parts", "remove"]),
        (Warning::EdgesInFile { output: output() }, ["gate has backend = \"events\"", "remove the output"]),
        (Warning::DeadlineBehindGate, ["trigger.deadline_ms lies behind the first gate", "make the delay longer"]),
        (
            Warning::ConfirmedTogether { within: Micros(200_000), apart: Micros(80_000) },
            ["within_ms is 200, and parts may be 80 ms apart", "make within_ms shorter"],
        ),
        (Warning::NothingAcknowledges { output: output() }, ["gate is active until somebody acknowledges", "[acknowledge]"]),
        (Warning::ReadyAtRest { output: output() }, ["gate shows ready", "make safe \"inactive\""]),
        (Warning::NoMeaning { key: "dwell_ms" }, ["decide.dwell_ms has no effect", "consensus"]),
        (
            Warning::DeadlineBeforeCamera { deadline: Travel::Counts(9), to_camera: Travel::Counts(10) },
            ["before the camera 10 encoder counts after its trigger", "deadline is 9 encoder counts"],
        ),
        (
            Warning::PeriodBelowSpacing { period: Micros(100_000), min_spacing: Micros(250_000) },
            ["trigger.period_ms is 100, less than min_spacing_ms 250", "make the period longer"],
        ),
        (
            Warning::PulseBeyondPeriod { output: output(), width: Micros(500_000), period: Micros(100_000) },
            ["gate is active for 500 ms, and trigger.period_ms is 100", "make width_ms shorter"],
        ),
    ] {
        let text = of(warning);
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    for (way, words) in [
        (Travel::Time(Micros(150_000)), "unsorted for 150 ms (gate)"),
        (Travel::Counts(80), "unsorted for 80 encoder counts (gate)"),
    ] {
        let text = Unguarded { output: output(), way }.to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn all_problems_are_told_each_in_a_line() {
    assert_eq!(SettingsError(vec!["a".into(), "b".into()]).to_string(), "a\nb");
}

/// Of many names those are told that somebody may have meant: first those of which it is a word.
#[test]
fn near_a_name_that_is_none_are_those_with_its_word_and_then_those_with_a_slip() {
    const MANY: [&str; 10] = ["red cat", "rad", "black dog", "grey owl", "hen", "cow", "goose", "horse", "sheep", "it is"];
    let (rules, roles) = ([TagRule::default(); 10], [Role::Other; 10]);
    let told = |name: &str| {
        let model = ModelTags { names: &MANY, rules: &rules, roles: &roles, categories: None };
        let text = format!("[decide]\nreject = [\"{name}\"]\n");
        Settings::parse(&text, "device.toml", model).unwrap_err().0[0].clone()
    };
    assert!(told("red").contains("near it: \"red cat\", \"rad\""), "{}", told("red"));
    assert!(!told("is").contains("\"it is\""), "a word of two letters is in anything: {}", told("is"));
    assert!(told("Dog").contains("near it: \"black dog\""), "{}", told("Dog"));
}

#[test]
fn the_distance_of_two_words_is_that_of_their_letters() {
    for (a, b, letters) in
        [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)]
    {
        assert_eq!((reader::distance(a, b), reader::distance(b, a)), (letters, letters), "{a} {b}");
    }
}
