//! Settings files and the problems that must be reported for them.

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

#[test]
fn site_thresholds_override_the_bundles() {
    let s = parse("[tags.nut]\nthreshold = 0.9\nreview_low = 0.25\n").unwrap();
    assert_eq!(s.tags[2].rule.threshold, Score::from_probability(0.9).unwrap());
    assert_eq!(s.tags[0].rule, TagRule::default());
    assert!(parse("[tags.nut]\nthreshold = 0.2\nreview_low = 0.3\n").unwrap_err()[0].contains("lower it"));
}

#[test]
fn a_default_for_all_tags_stands_between_the_bundle_and_each_tags_own_table() {
    let s = parse("[tags]\ndefault = { threshold = 0.8, review_low = 0.6 }\nnut = { threshold = 0.9 }\n").unwrap();
    let rule = |threshold, low| TagRule {
        threshold: Score::from_probability(threshold).unwrap(),
        review_low: Score::from_probability(low).unwrap(),
    };
    assert_eq!(s.tags.iter().map(|t| t.rule).collect::<Vec<_>>(), [rule(0.8, 0.6), rule(0.8, 0.6), rule(0.9, 0.6)]);
    // A lower threshold alone takes the band down with it.
    let s = parse("[tags]\ndefault = { threshold = 0.2 }\n").unwrap();
    assert_eq!(s.tags[0].rule, rule(0.2, 0.2));
}

#[test]
fn a_role_is_the_default_action_and_a_list_overrides_it_for_the_tags_that_it_names() {
    let roles = [Role::Good, Role::Defect, Role::Other];
    let actions =
        |text: &str| -> Vec<Action> { parse_with_roles(text, roles).unwrap().tags.iter().map(|t| t.action).collect() };
    use Action::{Accept, Reject, Review};
    assert_eq!(actions(""), [Accept, Reject, Accept]);
    assert_eq!(actions("[decide]\nreject = []\naccept = []\n"), [Accept, Reject, Accept]);
    assert_eq!(actions("[decide]\nreject = [\"nut\"]\n"), [Accept, Reject, Reject]);
    assert_eq!(actions("[decide]\naccept = [\"gear_chipped\"]\nreview = [\"bolt\"]\n"), [Review, Accept, Accept]);
    let twice = parse("[decide]\naccept = [\"nut\"]\nreject = [\"nut\"]\n").unwrap_err();
    assert!(twice[0].contains("stands in two lists or twice"), "{twice:?}");
}

#[test]
fn a_preference_is_top_or_a_list_of_the_models_tags() {
    let s = parse("[decide]\npick = [\"nut\", \"bolt\"]\n").unwrap();
    let places: Vec<Preference> = s.tags.iter().map(|t| t.preference).collect();
    assert_eq!(places, [Preference(1), Preference::UNLISTED, Preference(0)]);
    assert_eq!(parse("[decide]\npick = \"top\"\n").unwrap(), parse("").unwrap());
    assert!(parse("[decide]\npick = \"bottom\"\n").unwrap_err()[0].contains("\"bottom\", expected top"));
    assert!(parse("[decide]\npick = [\"screw\"]\n").unwrap_err()[0].contains("no tag \"screw\""));
    assert!(parse("[decide]\npick = [\"nut\", \"nut\"]\n").unwrap_err()[0].contains("twice"));
}

/// A gate whose reject output no tag can reach rejected nothing, and nobody was told.
#[test]
fn an_output_that_waits_for_what_no_tag_gives_is_warned_of() {
    let gate = "[line]\nmode = \"gate\"\n[outputs.gate]\ndelay_ms = 100\non = [\"reject\"]\n";
    let warned = |text: &str, roles, distance| parse_with_roles(text, roles).unwrap().warnings(distance);
    let none = [Role::Other; 3];
    let in_vain = Warning::NoTagGives { output: "gate".into(), action: Action::Reject };
    assert_eq!(warned(gate, none, false), [in_vain]);
    assert_eq!(warned(gate, [Role::Good, Role::Defect, Role::Good], false), []);
    assert_eq!(warned(&format!("[decide]\nreject = [\"nut\"]\n{gate}"), none, false), []);
    let lamp = "[outputs.lamp]\non = [\"foreign\", \"review\"]\n";
    let in_vain = [
        Warning::NoTagGives { output: "lamp".into(), action: Action::Review },
        Warning::NoDistance { output: "lamp".into() },
    ];
    assert_eq!(warned(lamp, none, false), in_vain);
    assert_eq!(warned(&format!("[decide]\nforeign = \"review\"\n{lamp}"), none, true), []);
    assert_eq!(warned(&format!("[tags.nut]\nreview_low = 0.2\n{lamp}"), none, true), []);
}

#[test]
fn outputs_on_triggers_and_faults_stand_alone_and_a_trigger_gives_a_pulse_at_a_gate() {
    let gate = "[line]\nmode = \"gate\"\n[outputs.good]\ndelay_ms = 900\non = [\"accept\"]\n";
    let flash = "[outputs.flash]\non = [\"trigger\"]\n";
    let s = parse(&format!("{gate}{flash}width_ms = 3\nwindow_ms = 7\ndelay_ms = 2\n[outputs.lamp]\non = [\"fault\"]\n"))
        .unwrap();
    let lines: Vec<_> = s.outputs.iter().map(OutputSettings::gate_line).collect();
    let flash_line = GateLine {
        delay: Travel::Time(Micros(2000)),
        shape: Shape::Pulse(Micros(3000)),
        window: Micros(7000),
        by: CalledBy::Trigger,
    };
    assert_eq!((lines[0], lines[2]), (Some(flash_line), None));
    assert_eq!(
        (s.outputs[2].drive.clone(), s.first_gate()),
        (Drive::Fault, Some(Micros(900_000))),
        "no verdict moves a flash"
    );
    assert_eq!(parse(&format!("{gate}{flash}")).unwrap().outputs[0].delay, Travel::NONE, "at the trigger by default");
    for (text, told) in [
        (flash.into(), "\"trigger\" belongs to a gate"),
        (format!("{gate}{flash}mode = \"level\"\n"), "\"level\", expected pulse"),
        (format!("{gate}[outputs.a]\non = [\"fault\", \"reject\"]\ndelay_ms = 1\n"), "stand alone"),
    ] {
        let problems = parse(&text).unwrap_err();
        assert!(problems[0].contains(told), "{problems:?}");
    }
}

#[test]
fn a_first_gate_by_time_counts_where_others_are_by_encoder_counts() {
    let text = "[line]\nmode = \"gate\"\n[encoder]\nchip = \"header\"\na = 22\n\
        [outputs.a]\ndelay_counts = 5\non = [\"accept\"]\n";
    assert_eq!(parse(text).unwrap().first_gate(), None);
    let both = format!("{text}[outputs.b]\ndelay_ms = 700\non = [\"reject\"]\n");
    assert_eq!(parse(&both).unwrap().first_gate(), Some(Micros(700_000)));
}

#[test]
fn a_confirmation_names_an_output_with_pulses_and_an_input_of_its_own_or_words() {
    let gate = |kind: &str, mode: &str| {
        format!(
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"{kind}\"\n[outputs.good]\ndelay_ms = 1\non = [\"accept\"]\n\
             [outputs.reject]\ndelay_ms = 1\nmode = \"{mode}\"\non = [\"reject\"]\n[confirm]\noutput = \"reject\"\n"
        )
    };
    let s = parse(&format!("{}within_ms = 70\n", gate("stdin", "pulse"))).unwrap();
    assert_eq!((s.confirm, s.inputs.len()), (Some(ConfirmRules { line: 1, within: Micros(70_000) }), 1));
    let own = parse(&format!("{}chip = \"header\"\nline = 25\n", gate("barrier", "pulse"))).unwrap();
    let TriggerSpec::Gpio(input) = &own.inputs[0] else { panic!("{:?}", own.inputs) };
    assert!(matches!(input.lines[..], [(crate::triggers::Role::Confirm, _)]), "{input:?}");
    for (text, told) in [
        (gate("barrier", "pulse"), "confirm: nothing is seen behind the gate: state the chip and line"),
        (format!("{}line = 3\n", gate("barrier", "pulse")), "confirm.chip: is missing"),
        (gate("stdin", "latched"), "reject gives no pulse"),
        (gate("stdin", "pulse").replace("output = \"reject\"", "output = \"rejct\""), "there is no [outputs.rejct]"),
    ] {
        let problems = parse(&text).unwrap_err();
        assert!(problems.iter().any(|p| p.contains(told)), "{problems:?}");
    }
    assert_eq!(parse("").unwrap().confirm, None);
}

/// Without a deadline a part was judged by whatever came until its gate, also when it had left the
/// view.
#[test]
fn a_view_that_nobody_states_or_that_is_too_short_for_the_frames_is_warned_of() {
    let ms = |n: u64| Micros(n * 1000);
    let gate = |trigger: &str| {
        format!("[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[outputs.a]\ndelay_ms = 900\non = [\"accept\"]\n")
    };
    let warned =
        |text: &str, interval, in_view, is_drawn| parse(text).unwrap().warnings_of_view(ms(interval), in_view, is_drawn);
    let pin = "kind = \"gpio\"\nchip = \"header\"\nline = 3";
    let not_stated = [Warning::ViewNotStated { way: Travel::Time(ms(900)) }];
    assert_eq!(warned(&gate(pin), 33, None, false), not_stated);
    let told = not_stated[0].to_string();
    assert!(told.contains("until 900 ms after its trigger") && told.contains("state how long after its trigger"), "{told}");
    assert_eq!(warned(&gate(&format!("{pin}\ndeadline_ms = 250")), 33, None, false), []);
    assert_eq!(warned(&gate(pin), 33, None, true), [], "nothing passes a source that draws");
    assert_eq!(warned("", 33, None, false), [], "no part, no view");
    assert_eq!(warned(&gate("kind = \"presence\""), 33, None, false), [], "the frame that finds a part shows it");
    assert_eq!(warned(&gate("kind = \"presence\"\nframes = 2"), 33, None, false), not_stated);
    let barrier = gate("kind = \"barrier\"");
    assert_eq!(warned(&barrier, 33, Some(ms(66)), true), []);
    let too_short = [Warning::LeavesTooSoon { in_view: ms(65), interval: ms(33) }];
    assert_eq!(warned(&barrier, 33, Some(ms(65)), true), too_short);
    assert_eq!(warned(&gate("kind = \"barrier\"\nframes = 2"), 17, Some(ms(66)), true).len(), 1);
    assert_eq!(warned(&gate("kind = \"period\""), 33, Some(ms(1)), true), [], "its parts are not those of the belt");
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

/// Parts between trigger and gate when the program starts or the line went safe pass the gate, and
/// nobody was told.
#[test]
fn a_reject_pulse_that_nothing_guards_is_reported_on_real_pins_only() {
    let text = |backend: &str, rest: &str| {
        format!(
            "[line]\nmode = \"gate\"\n[decide]\nreject = [\"nut\"]\n[outputs.gate]\n{backend}\nmode = \"pulse\"\n\
             delay_ms = 850\non = [\"reject\"]\n{rest}"
        )
    };
    let pin = |line: u8| format!("backend = \"gpiochip\"\nchip = \"header\"\nline = {line}");
    let told = |text: &str| parse(text).unwrap().unguarded().map(|why| why.to_string());
    let why = told(&text(&pin(17), "")).unwrap();
    assert!(why.contains("pass unsorted for 850 ms") && why.contains("wire one of these to the belt"), "{why}");
    assert!(told(&text("backend = \"rppal\"\npin = 17", "")).is_some());
    assert_eq!(told(&text("", "")), None, "no pin");
    assert_eq!(told(&text(&format!("{}\nsafe = \"active\"", pin(17)), "")), None, "all is thrown out");
    for word in ["ready", "fault", "heartbeat"] {
        assert_eq!(told(&text(&pin(17), &format!("[outputs.b]\n{}\non = [\"{word}\"]\n", pin(22)))), None, "{word}");
        assert!(told(&text(&pin(17), &format!("[outputs.b]\non = [\"{word}\"]\n"))).is_some(), "{word} without a pin");
    }
    let busy = format!("[outputs.b]\n{}\non = [\"busy\"]\n", pin(22));
    assert!(told(&text(&pin(17), &busy)).is_some());
    let counts = format!("[encoder]\nchip = \"header\"\na = 5\n{}", text(&pin(17), ""))
        .replace("delay_ms = 850", "delay_counts = 90");
    assert!(told(&counts).unwrap().contains("for 90 encoder counts"));
}

/// Both keys were taken without a word, and did nothing.
#[test]
fn a_key_that_the_highest_scores_do_not_use_is_warned_of() {
    let part = "[trigger]\nkind = \"barrier\"\nframes = 3\n[decide]\nhysteresis = 0.1\ndwell_ms = 100\n";
    let warned = |text: &str| parse(text).unwrap().warnings(false);
    assert_eq!(warned(part), []);
    let unused = ["hysteresis", "dwell_ms"].map(|key| Warning::NoMeaning { key });
    assert_eq!(warned(&format!("{part}combine = \"best\"\n")), unused);
}

#[test]
fn a_trigger_by_word_has_its_jitter_and_a_socket_who_may_send() {
    let trigger = |text: &str| parse(&format!("[trigger]\n{text}")).map(|s| s.inputs);
    let stdin = |ms: Option<u64>| vec![TriggerSpec::Stdin { max_jitter: ms.map(|ms| Micros(ms * 1000)) }];
    assert_eq!(trigger("kind = \"stdin\"\n").unwrap(), stdin(None));
    assert_eq!(trigger("kind = \"stdin\"\nmax_jitter_ms = 20\n").unwrap(), stdin(Some(20)));
    let socket = |mode, owner: Option<&str>, group: Option<&str>| {
        let [owner, group] = [owner, group].map(|name| name.map(String::from));
        vec![TriggerSpec::Socket(crate::triggers::SocketSpec {
            path: "/run/t".into(),
            mode,
            owner,
            group,
            max_jitter: None,
        })]
    };
    let text = "kind = \"socket\"\npath = \"/run/t\"\n";
    assert_eq!(trigger(text).unwrap(), socket(0o660, None, None));
    let stated = format!("{text}mode = \"622\"\nowner = 0\ngroup = \"gpio\"\n");
    assert_eq!(trigger(&stated).unwrap(), socket(0o622, Some("0"), Some("gpio")));
    for (wrong, why) in [
        ("mode = \"888\"", "\"888\", expected permissions in octal digits"),
        ("mode = \"1777\"", "expected permissions"),
        ("mode = 660", "found integer, expected text"),
        ("max_jitter_ms = 0", "0, expected 1..=10000"),
    ] {
        let told = trigger(&format!("{text}{wrong}\n")).unwrap_err();
        assert!(told.len() == 1 && told[0].contains(why), "{wrong}: {told:?}");
    }
    assert!(trigger("kind = \"period\"\nmax_jitter_ms = 20\n").unwrap_err()[0].contains("unknown key"));
}

/// A part's deadline ran on while the belt stood still.
#[test]
fn a_part_is_waited_for_until_its_first_gate_by_time_or_by_the_belt() {
    let gate = |trigger: &str, delays: &[&str]| {
        let outputs = delays.iter().enumerate().map(|(i, d)| format!("[outputs.o{i}]\n{d}\non = [\"accept\"]\n"));
        let outputs: String = outputs.collect();
        let text = format!("[line]\nmode = \"gate\"\n[encoder]\nchip = \"header\"\na = 3\n[trigger]\n{trigger}\n{outputs}");
        parse(&text).map(|s| s.part.deadline)
    };
    let ms = |ms: u64| Travel::Time(Micros(ms * 1000));
    assert_eq!(gate("", &["delay_ms = 900", "delay_ms = 700"]).unwrap(), ms(700));
    assert_eq!(gate("", &["delay_counts = 90", "delay_counts = 70"]).unwrap(), Travel::Counts(70));
    assert_eq!(gate("", &["delay_ms = 900", "delay_counts = 70"]).unwrap(), Travel::Counts(70));
    let flash = "delay_counts = 5\non = [\"trigger\"]\n[outputs.gate]\ndelay_ms = 800";
    assert_eq!(gate("", &[flash]).unwrap(), ms(800), "no verdict moves a flash");
    assert_eq!(gate("deadline_ms = 50", &["delay_counts = 70"]).unwrap(), ms(50));
    assert_eq!(gate("deadline_counts = 50", &["delay_ms = 900"]).unwrap(), Travel::Counts(50));
    assert!(gate("deadline_ms = 0", &["delay_ms = 900"]).unwrap_err()[0].contains("0, expected 1..="));
    assert!(parse("[trigger]\ndeadline_counts = 5\n").unwrap_err()[0].contains("counts need an [encoder]"));
    let warned = |deadline: &str| {
        let text =
            format!("[line]\nmode = \"gate\"\n[trigger]\n{deadline}\n[outputs.a]\ndelay_ms = 400\non = [\"accept\"]\n");
        parse(&text).unwrap().warnings(false).contains(&Warning::DeadlineBehindGate)
    };
    assert_eq!(["", "deadline_ms = 400", "deadline_ms = 401"].map(warned), [false, false, true]);
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

/// A wrong `[tags] default` was told once for each tag of the bundle.
#[test]
fn a_wrong_default_for_all_tags_is_told_once() {
    for wrong in ["threshold = 2.0", "review_low = 0.9"] {
        let told = parse(&format!("[tags]\ndefault = {{ {wrong} }}\n")).unwrap_err();
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

/// With a size forgotten the model saw one pixel, `check` found no problem, and every part passed.
#[test]
fn a_region_without_its_size_is_none() {
    for table in ["source", "trigger"] {
        let of = |roi: &str| {
            parse(&format!("[{table}]\n{}roi = {{ {roi} }}\n", if table == "trigger" { "kind = \"motion\"\n" } else { "" }))
        };
        for (roi, missing) in [("x = 0, y = 0, width = 320", 1), ("", 2), ("x = 80, height = 9", 1)] {
            let told = of(roi).unwrap_err();
            assert!(
                told.len() == missing && told[0].contains("roi.") && told[0].contains("is missing; expected 1..=8192"),
                "{told:?}"
            );
        }
        assert!(
            of("width = 320, height = 240").is_ok() && of("x = 1, y = 2, width = 3, height = 4").is_ok(),
            "from the corner"
        );
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

/// `tagpin safe` refused to act because of a damaged bundle, another model's tags or a typo
/// elsewhere.
#[test]
fn the_lines_safe_states_are_read_whatever_is_wrong_with_the_rest() {
    let outputs = "[outputs.gate]\nactive = \"low\"\non = [\"tag:no_such\"]\n[outputs.lamp]\nsafe = \"active\"\n";
    let line =
        |name: &str, polarity, safe| SafeLine { name: name.into(), backend: Backend::Simulated, polarity, safe, log: None };
    let both = [line("gate", Polarity::ActiveLow, State::Inactive), line("lamp", Polarity::ActiveHigh, State::Active)];
    for (rest, told) in [
        ("", false),
        ("[sauce]\nopen = 3\n", false),
        ("[decide]\nreject = [\"no_such\"]\nk = 99\n", false),
        ("[line\nmode = \"gate\"\n", true),
        ("[source]\nopen = \"unfinished\n", true),
    ] {
        for text in [format!("{rest}{outputs}"), format!("{outputs}{rest}")] {
            let (lines, problems) = safe_lines(&text, "device.toml");
            assert_eq!((lines.as_slice(), problems.is_empty()), (both.as_slice(), !told), "{text}\n{problems:?}");
        }
    }
    let (lines, problems) = safe_lines(&format!("[outputs.a\nsafe = 1\n{outputs}"), "device.toml");
    assert_eq!(lines, both);
    assert!(problems.iter().any(|p| p.contains("the table in line 1 cannot be read")), "{problems:?}");
    let (lines, problems) = safe_lines("[outputs.a]\nbackend = \"gpiochip\"\n[outputs.b]\n", "device.toml");
    assert_eq!(lines.len(), 2, "a line that misses its chip is tried, and told");
    assert!(problems.iter().any(|p| p.contains("outputs.a.chip: is missing")), "{problems:?}");
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

/// Such a table was passed over: a page that nobody could reach, a log that was never written.
#[cfg(feature = "site")]
#[test]
fn a_table_that_does_nothing_is_told_with_what_it_lacks_and_a_page_listens_on_loopback() {
    let lacks = [("events", "path"), ("keep", "folder"), ("metrics", "listen"), ("modbus", "listen"), ("mqtt", "broker")];
    for (table, key) in lacks.into_iter().chain([("predict", "listen"), ("state", "folder")]) {
        let value = if key == "listen" { "127.0.0.1:1" } else { "a" };
        let told = format!("device.toml:2:1: {table}.{key}: is missing: [{table}] does nothing without it; state it, or");
        let problems = parse(&format!("\n[{table}]\n")).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(&told), "{table}: {problems:?}");
        assert!(parse(&format!("[{table}]\n{key} = \"{value}\"\n")).is_ok(), "{table}");
    }
    let misspelt = parse("[predict]\nlistn = \"127.0.0.1:1\"\n").unwrap_err();
    assert!(misspelt.iter().any(|problem| problem.contains("did you mean \"listen\"?")), "{misspelt:?}");
    let at = |text: &str| parse(text).unwrap().site.page.map(|page| page.at.to_string());
    assert_eq!(at("[page]\n").as_deref(), Some("127.0.0.1:8000"));
    assert_eq!(at("[page]\nlisten = \"127.0.0.2:1\"\n").as_deref(), Some("127.0.0.2:1"));
    assert_eq!(at(""), None);
}

/// Nothing may listen that nobody asked for, and nothing beyond this machine without a key.
#[cfg(feature = "site")]
#[test]
fn nothing_listens_unless_stated_and_beyond_loopback_a_key_is_asked_for() {
    let hash = crate::keys::KeyHash::of("a key").to_string();
    assert_eq!(parse("").unwrap().site, Site::default());
    let predict = |text: &str| parse(&format!("[predict]\n{text}\n")).map(|s| s.site.predict.unwrap());
    let p = predict(&format!("listen = \"0.0.0.0:8080\"\nkeys = [\"{hash}\"]\nhosts = [\"sorter\"]\nimage_mb = 2")).unwrap();
    assert_eq!(
        (p.listening.keys.0.len(), p.listening.hosts.as_slice(), p.image_bytes),
        (1, &["sorter".to_string()][..], 2 << 20)
    );
    assert!(predict("listen = \"127.0.0.1:8080\"").is_ok() && predict("listen = \"[::1]:8080\"").is_ok());
    for (text, told) in [
        ("listen = \"0.0.0.0:8080\"", "device.toml:2:10: predict.listen: other machines reach this address"),
        ("listen = \"0.0.0.0:8080\"\nkeys = []", "other machines reach this address"),
        ("listen = \"localhost\"", "\"localhost\", expected an address and a port"),
        ("listen = \"127.0.0.1:1\"\nkeys = [\"a key\"]", "predict: keys: expected sha256: and 64 hexadecimal digits"),
        ("listen = \"127.0.0.1:1\"\nhost = [\"a\"]", "did you mean \"hosts\"?"),
        // It was told as "" first.
        ("listen = 8000", "predict.listen: found integer, expected text"),
        // No client ever sends these.
        ("listen = \"127.0.0.1:1\"\nhosts = [\"http://sorter\"]", "hosts: \"http://sorter\", expected a name alone"),
        ("listen = \"127.0.0.1:1\"\nhosts = [\"sorter:8000\"]", "hosts: \"sorter:8000\", expected a name alone"),
        ("listen = \"127.0.0.1:1\"\nhosts = [\"*\"]", "expected a name alone"),
        ("listen = \"127.0.0.1:1\"\nhosts = [\"\"]", "expected a name alone"),
    ] {
        let problems = predict(text).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(told), "{text}: {problems:?}");
    }
    let open = "[metrics]\nlisten = \"192.168.1.2:9464\"\n";
    assert!(parse(open).unwrap_err()[0].contains("metrics.listen: other machines"), "{:?}", parse(open));
    let same = "[predict]\nlisten = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:1\"\n";
    assert!(parse(same).unwrap_err()[0].contains("device.toml:4:10: metrics.listen: 127.0.0.1:1, where [predict] listens"));
    // `check` was content with these, and the run could not start.
    let both = |predict: &str, modbus: &str| {
        let keys = format!("keys = [\"{hash}\"]");
        parse(&format!("[predict]\nlisten = \"{predict}\"\n{keys}\n[modbus]\nlisten = \"{modbus}\"\n")).is_ok()
    };
    for (predict, modbus, fits) in [
        ("0.0.0.0:1", "127.0.0.1:1", false),
        ("127.0.0.1:1", "0.0.0.0:1", false),
        ("[::]:1", "127.0.0.1:1", false),
        ("[::]:1", "[::1]:1", false),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", false),
        ("0.0.0.0:1", "[::1]:1", true),
        ("127.0.0.2:1", "127.0.0.1:1", true),
        ("0.0.0.0:1", "127.0.0.1:2", true),
        ("0.0.0.0:0", "0.0.0.0:0", true),
    ] {
        assert_eq!(both(predict, modbus), fits, "{predict} {modbus}");
    }
    assert!(parse("[state]\nfolder = \"\"\n").unwrap_err()[0].contains("state.folder: the path is empty"));
    let modbus =
        |text: &str| parse(&format!("[modbus]\nlisten = \"0.0.0.0:1502\"\n{text}\n")).map(|s| s.site.modbus.unwrap());
    assert_eq!(modbus("allow = [\"10.0.0.2\"]").unwrap().writers, [] as [std::net::IpAddr; 0], "write is off");
    assert_eq!(modbus("write = \"yes\"\nallow = [\"10.0.0.2\", \"::1\"]").unwrap().writers.len(), 2);
    assert!(modbus("write = \"yes\"").unwrap_err()[0].contains("nobody may; state allow"));
    assert!(modbus("allow = [\"plc:502\"]").unwrap_err()[0].contains("\"plc:502\", expected the address of a peer"));
    assert!(modbus("allow = [\"0.0.0.0\"]").unwrap_err()[0].contains("\"0.0.0.0\" is no peer's address"));
    let gate =
        "[line]\nmode = \"gate\"\n[outputs.a]\ndelay_ms = 9\non = [\"reject\"]\n[predict]\nlisten = \"127.0.0.1:1\"\n";
    assert!(parse(gate).unwrap_err()[0].contains("state in_gate_mode = \"yes\""));
    assert!(parse(&format!("{gate}in_gate_mode = \"yes\"\n")).unwrap().site.predict.is_some());
}

#[test]
fn a_time_of_exposure_is_needed_where_outputs_follow_parts_that_an_input_tells() {
    let gate = |kind: &str| {
        format!("[line]\nmode = \"gate\"\n[trigger]\nkind = \"{kind}\"\n[outputs.a]\ndelay_ms = 100\non = [\"accept\"]\n")
    };
    for (text, seen_in_frames, needs_time) in [
        (String::new(), true, false),
        ("[trigger]\nkind = \"stdin\"\n".into(), false, false),
        (gate("barrier"), true, false),
        (gate("motion"), true, false),
        (gate("presence"), true, false),
        (gate("stdin"), false, true),
        (gate("period"), false, true),
    ] {
        let s = parse(&text).unwrap();
        assert_eq!((s.trigger.is_seen_in_frames(), s.needs_time()), (seen_in_frames, needs_time), "{text}");
        let refused = |barrier, timed_by| s.check_source(barrier, timed_by).err().unwrap_or_default();
        let is_barrier = s.trigger == TriggerKind::Barrier;
        assert_eq!(refused(true, TimedBy::Shown), "");
        assert_eq!(refused(false, TimedBy::Shown).contains("has no light barrier"), is_barrier, "{text}");
        assert_eq!(refused(true, TimedBy::Arrival).contains("knows only when a frame arrived"), needs_time, "{text}");
    }
}

#[test]
fn what_the_source_must_keep_to_is_as_stated() {
    let s = parse("[source]\nfirst_frame_timeout_ms = 7000\npicture_mb = 5\n[trigger]\nmax_latency_ms = 40\n").unwrap();
    let limits = s.source_limits();
    assert_eq!(s.picture_budget, crate::pictures::Budget::megabytes(5));
    assert_eq!(limits.first_frame, std::time::Duration::from_secs(7));
    assert_eq!(limits.latency, Some(Micros(40_000)));
    assert_eq!(parse("").unwrap().source_limits().latency, None, "0 is not a statement");
}

#[test]
fn a_late_pulse_has_its_width_as_window_or_half_the_least_spacing_and_never_less_than_what_is_in_time() {
    let window = |line: &str, trigger: &str, output: &str| {
        let text = format!(
            "[line]\nmode = \"gate\"\n{line}\n[trigger]\nkind = \"stdin\"\n{trigger}\n\
             [outputs.a]\nmode = \"pulse\"\nwidth_ms = 50\ndelay_ms = 900\non = [\"accept\"]\n{output}\n"
        );
        parse(&text).unwrap().outputs[0].gate_line().unwrap().window.0
    };
    assert_eq!(window("", "", ""), 50_000);
    assert_eq!(window("", "min_spacing_ms = 61", ""), 30_500);
    assert_eq!(window("", "min_spacing_ms = 100", ""), 50_000);
    assert_eq!(window("", "min_spacing_ms = 300", ""), 50_000);
    assert_eq!(window("", "min_spacing_ms = 300", "window_ms = 120"), 120_000);
    assert_eq!(window("late_ms = 70", "", ""), 70_000);
    assert_eq!(window("late_ms = 70", "", "window_ms = 20"), 70_000);
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
        (Warning::NoMeaning { key: "dwell_ms" }, ["decide.dwell_ms has no effect", "consensus"]),
        (
            Warning::DeadlineBeforeCamera { deadline: Travel::Counts(9), to_camera: Travel::Counts(10) },
            ["before the camera 10 encoder counts after its trigger", "deadline is 9 encoder counts"],
        ),
        (
            Warning::PeriodBelowSpacing { period: Micros(100_000), min_spacing: Micros(250_000) },
            ["trigger.period_ms is 100, less than min_spacing_ms 250", "make the period longer"],
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
fn an_output_on_edges_in_a_file_has_its_limits_and_shares_the_file_with_no_other() {
    let output = |name: &str, path: &str, rest: &str| {
        format!("[outputs.{name}]\nbackend = \"events\"\npath = \"{path}\"\non = [\"accept\"]\n{rest}")
    };
    let both = |second: &str| format!("{}{}", output("a", "one.log", ""), output("b", second, ""));
    assert!(parse(&both("two.log")).is_ok());
    let problems = parse(&both("one.log")).unwrap_err();
    assert!(problems[0].contains("one.log, which \"a\" already holds"), "{problems:?}");
    let kilobytes = |n: u32| parse(&output("a", "one.log", &format!("max_kb = {n}\n")));
    assert_eq!(kilobytes(1 << 22).unwrap().outputs[0].log.as_ref().unwrap().max_bytes, 1 << 32);
    assert!(kilobytes((1 << 22) + 1).unwrap_err()[0].contains("expected 1..=4194304"));
}

#[test]
fn as_many_outputs_as_there_are_lines_and_as_many_tags_as_one_can_read_are_named() {
    let outputs = |n: usize| (0..n).map(|i| format!("[outputs.o{i}]\non = [\"accept\"]\n")).collect::<String>();
    assert_eq!(parse(&outputs(MAX_OUTPUTS)).unwrap().outputs.len(), MAX_OUTPUTS);
    let problems = parse(&outputs(MAX_OUTPUTS + 1)).unwrap_err();
    assert!(problems[0].contains(&format!("{} outputs, at most {MAX_OUTPUTS}", MAX_OUTPUTS + 1)), "{problems:?}");
    // A gate that stands last of too many was not seen: "no output has a gate".
    let many: String = (0..MAX_OUTPUTS).map(|i| format!("[outputs.a{i:02}]\non = [\"busy\"]\n")).collect();
    let gate = "[line]\nmode = \"gate\"\n[trigger]\nkind = \"every_frame\"\n";
    let problems = parse(&format!("{gate}{many}[outputs.z]\ndelay_ms = 9\non = [\"reject\"]\n")).unwrap_err();
    assert!(problems.len() == 1 && problems[0].contains("outputs, at most"), "{problems:?}");
    assert!(parse(&format!("{gate}{many}")).unwrap_err()[0].contains("no output has a gate"));
    let named = |n: usize| {
        let names: Vec<String> = (0..n).map(|i| format!("t{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (rules, roles) = (vec![TagRule::default(); n], vec![Role::Good; n]);
        let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories: None };
        Settings::parse("[decide]\nreject = [\"x\"]\n", "f", model).unwrap_err().0.remove(0)
    };
    assert!(named(8).ends_with("\"t6\", \"t7\""), "{}", named(8));
    assert!(named(9).ends_with("\"t6\", \"t7\", ..."), "{}", named(9));
}

/// An inverted trigger, or one that counts both edges, would open each part elsewhere, or twice.
#[test]
fn an_input_takes_the_edge_and_the_level_that_it_states() {
    use crate::gpio::{Pull, Slope};
    let line = |rest: &str| {
        let text = format!("[trigger]\nkind = \"gpio\"\nchip = \"rp1\"\nline = 17\n{rest}");
        match &parse(&text).unwrap().inputs[..] {
            [TriggerSpec::Gpio(gpio)] => gpio.lines[0].1.clone(),
            other => panic!("{other:?}"),
        }
    };
    let plain = line("");
    assert_eq!((plain.slope, plain.active_low, plain.pull), (Slope::Rising, false, Pull::AsIs));
    for (word, slope) in [("rising", Slope::Rising), ("falling", Slope::Falling), ("both", Slope::Both)] {
        assert_eq!(line(&format!("edge = \"{word}\"\n")).slope, slope);
    }
    for (word, active_low) in [("high", false), ("low", true)] {
        assert_eq!(line(&format!("active = \"{word}\"\n")).active_low, active_low);
    }
    for (word, pull) in [("up", Pull::Up), ("down", Pull::Down), ("off", Pull::Off)] {
        assert_eq!(line(&format!("pull = \"{word}\"\n")).pull, pull);
    }
}

/// The kernel keeps the edges of lines in their order only where one request holds them: what is on
/// one chip is one input, and each other chip has its own.
#[test]
fn inputs_on_one_chip_are_one_and_those_on_another_are_not() {
    let inputs = |acknowledge: &str| {
        let text = format!(
            "[trigger]\nkind = \"gpio\"\nchip = \"rp1\"\nline = 17\n\
             [encoder]\nchip = \"rp1\"\na = 22\nb = 23\n[acknowledge]\nchip = \"{acknowledge}\"\nline = 5\n"
        );
        let lines = |spec: &TriggerSpec| match spec {
            TriggerSpec::Gpio(gpio) => (gpio.chip.clone(), gpio.lines.len()),
            other => panic!("{other:?}"),
        };
        parse(&text).unwrap().inputs.iter().map(lines).collect::<Vec<_>>()
    };
    let of = |chip: &str, lines| (chip.to_string(), lines);
    assert_eq!(inputs("rp1"), [of("rp1", 4)]);
    assert_eq!(inputs("gpio0"), [of("rp1", 3), of("gpio0", 1)]);
}

/// A name of blanks left a gap where each edge is told, and one with a line break broke the table.
#[test]
fn an_outputs_name_can_be_seen_and_stands_on_one_line() {
    for (name, is_fine) in
        [("reject", true), ("Ausschuss links", true), ("é", true), (" ", false), ("", false), ("a\\nb", false)]
    {
        let found = parse(&format!("[outputs.\"{name}\"]\non = [\"accept\"]\n"));
        assert_eq!(found.is_ok(), is_fine, "{name:?}: {found:?}");
        assert!(is_fine || found.unwrap_err()[0].contains("output's name"), "{name:?}");
    }
}

/// `check` found no problem where no part could ever get a frame: 30 of 30 without one.
#[test]
fn a_deadline_before_the_camera_and_a_period_below_the_spacing_are_warned_of() {
    let warned = |trigger: &str| {
        let gate =
            "[line]\nmode = \"gate\"\n[encoder]\nchip = \"c\"\na = 1\n[outputs.a]\ndelay_ms = 900\non = [\"accept\"]\n";
        let settings = parse(&format!("{gate}[trigger]\n{trigger}")).unwrap();
        let all = settings.warnings(true);
        all.into_iter()
            .filter(|w| matches!(w, Warning::DeadlineBeforeCamera { .. } | Warning::PeriodBelowSpacing { .. }))
            .count()
    };
    for (trigger, expected) in [
        ("kind = \"stdin\"\nto_camera_ms = 200\ndeadline_ms = 200\n", 1),
        ("kind = \"stdin\"\nto_camera_ms = 200\ndeadline_ms = 201\n", 0),
        ("kind = \"stdin\"\nto_camera_counts = 20\ndeadline_counts = 10\n", 1),
        ("kind = \"stdin\"\nto_camera_counts = 20\ndeadline_counts = 21\n", 0),
        ("kind = \"stdin\"\nto_camera_counts = 20\ndeadline_ms = 10\n", 0),
        ("kind = \"stdin\"\n", 0),
        ("kind = \"period\"\nperiod_ms = 100\nmin_spacing_ms = 101\n", 1),
        ("kind = \"period\"\nperiod_ms = 100\nmin_spacing_ms = 100\n", 0),
    ] {
        assert_eq!(warned(trigger), expected, "{trigger}");
    }
}

/// A delay of either kind is refused where no gate follows it.
#[test]
fn a_delay_without_a_gate_is_refused_in_time_and_in_counts() {
    let encoder = "[encoder]\nchip = \"c\"\na = 1\n";
    for delay in ["delay_ms = 5\n", "delay_counts = 5\n", "delay_ms = 5\ndelay_counts = 5\n"] {
        let problems = parse(&format!("{encoder}[outputs.a]\non = [\"accept\"]\n{delay}")).unwrap_err();
        assert!(problems[0].contains("a delay belongs to a gate"), "{delay}: {problems:?}");
    }
    assert!(parse(&format!("{encoder}[outputs.a]\non = [\"accept\"]\n")).is_ok());
}

/// Without its pin the output would have been GPIO 1.
#[test]
fn an_output_of_rppal_without_its_pin_is_refused() {
    let output = "[outputs.a]\nbackend = \"rppal\"\non = [\"accept\"]\n";
    let problems = parse(output).unwrap_err();
    assert!(problems.len() == 1 && problems[0].contains("outputs.a.pin"), "{problems:?}");
    for pin in [0, 57] {
        assert_eq!(parse(&format!("{output}pin = {pin}\n")).unwrap().outputs[0].backend, Backend::Rppal { pin });
    }
}

/// A reject pulse of 1.5 s behind parts 100 ms apart: good parts stood in the open gate, and
/// `check` had said that all was well.
#[test]
fn a_pulse_that_may_meet_the_next_part_is_told_where_the_least_spacing_is_stated() {
    let told = |trigger: &str, output: &str| {
        let text = format!(
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"stdin\"\n{trigger}\n[outputs.a]\nmode = \"pulse\"\n{output}\n\
             delay_ms = 900\non = [\"reject\"]\n"
        );
        let meets = parse(&text).unwrap().pulses_that_meet_the_next_part();
        meets.first().map(ToString::to_string).unwrap_or_default()
    };
    let why = told("min_spacing_ms = 100", "width_ms = 1500");
    assert!(why.starts_with("device.toml:8:12: outputs.a: width_ms 1500 and window_ms 50 are more than"), "{why}");
    assert!(why.contains("min_spacing_ms 100:") && why.ends_with("at most 100, or min_spacing_ms at least 1550"), "{why}");
    // The default window counts, and is the width or half of the spacing.
    assert_eq!(told("min_spacing_ms = 100", "width_ms = 50"), "");
    assert!(told("min_spacing_ms = 100", "width_ms = 51").contains("width_ms 51 and window_ms 50"));
    assert_eq!(told("min_spacing_ms = 100", "width_ms = 90\nwindow_ms = 10"), "");
    assert!(!told("min_spacing_ms = 100", "width_ms = 90\nwindow_ms = 11").is_empty());
    // The table's place where no width is stated, which is 100 ms then.
    let of_table = told("min_spacing_ms = 149", "");
    assert!(of_table.starts_with("device.toml:6:"), "{of_table}");
    // Nothing is said where nobody states how far parts are apart.
    assert_eq!(told("", "width_ms = 1500"), "");
}

/// Reads settings for seven cats and dogs in three categories, or for a drawn number of tags in
/// many.
fn parse_with_categories(text: &str) -> Result<Settings, Vec<String>> {
    let names = ["tabby", "tiger cat", "lion", "beagle", "husky", "bus", "bolt", "crane", "cup", "nail"];
    let (rules, roles) = ([TagRule::default(); 10], [Role::Other; 10]);
    let bytes = crate::category::section(
        &[("animal", None), ("cat", Some(0)), ("dog", Some(0)), ("big cat", Some(1)), ("vehicle", None)],
        &[Some(1), Some(1), Some(3), Some(2), Some(2), Some(4), None, None, None, None],
    );
    let categories = Some(Categories::read(&bytes, &names).unwrap());
    let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories };
    Settings::parse(text, "device.toml", model).map_err(|e| e.0)
}

#[test]
fn settings_name_categories_wherever_they_name_tags() {
    let text = "\
[decide]
reject = [\"category:dog\"]
pick = [\"category:cat\", \"bus\"]
[tags]
default = { threshold = 0.9 }
\"category:animal\" = { threshold = 0.8, review_low = 0.6 }
[outputs.lamp]
on = [\"category:vehicle\", \"tag:tabby\", \"category:dog\"]
";
    let s = parse_with_categories(text).unwrap();
    let named: Vec<(&str, Vec<u16>)> =
        s.categories.iter().map(|c| (c.name.as_str(), c.leaves.iter().map(|t| t.0).collect())).collect();
    let expected = [
        ("category:dog", vec![3, 4]),
        ("category:cat", vec![0, 1, 2]),
        ("category:animal", vec![0, 1, 2, 3, 4]),
        ("category:vehicle", vec![5]),
    ];
    assert_eq!(named, expected, "each once, behind the model's tags in the order of the file's reading");
    assert_eq!(s.tags.len(), 14);
    let score = |p| Score::from_probability(p).unwrap();
    let of = |i: usize| (s.tags[i].rule.threshold, s.tags[i].rule.review_low, s.tags[i].action, s.tags[i].is_category);
    assert_eq!(of(0), (score(0.9), score(0.5), Action::Accept, false));
    assert_eq!(of(10), (Score::HALF, Score::HALF, Action::Reject, true), "the default is for the model's tags");
    assert_eq!(of(12), (score(0.8), score(0.6), Action::Accept, true));
    let preferences: Vec<bool> = s.tags.iter().map(|t| t.preference.is_listed()).collect();
    assert_eq!(preferences.iter().filter(|listed| **listed).count(), 2);
    assert_eq!((s.tags[11].preference, s.tags[5].preference), (Preference(0), Preference(1)));
    assert!(s.tags[13].preference < s.tags[10].preference && s.tags[13].preference > Preference::UNLISTED);
    let Drive::Calls(calls) = s.outputs[0].drive else { panic!("{:?}", s.outputs[0].drive) };
    assert_eq!(calls.tags.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 10, 13]);
    assert_eq!(s.names(["a", "b"].into_iter()).nth(2), Some("category:dog"));
    assert!(parse_with_categories("").unwrap().categories.is_empty(), "none that is not named");
}

/// A model of 1000 tags listed its first eight, whatever was meant.
#[test]
fn a_category_that_is_none_is_refused_by_name_with_those_near_it() {
    let refused = |text: &str, want: &str| {
        let problems = parse_with_categories(text).unwrap_err();
        assert!(problems.iter().any(|p| p.contains(want)), "{want} is not among {problems:?}");
    };
    let near = "device.toml:2:11: decide: the model has no category \"cats\"; it has \"animal\", \"cat\", ";
    refused("[decide]\nreject = [\"category:cats\"]", near);
    refused("[outputs.a]\non = [\"category:\"]", "the model has no category \"\"");
    refused("[tags.\"category:cat \"]\nthreshold = 0.5", "the model has no category \"cat \"");
    // By a slip of the hand, by a word, and by a tag that is a category.
    refused("[decide]\nreject = [\"tabyb\"]", "no tag \"tabyb\"; near it: \"tabby\"");
    refused("[decide]\nreject = [\"tiger\"]", "no tag \"tiger\"; near it: \"tiger cat\"");
    refused("[outputs.a]\non = [\"tag:dog\"]", "a category of that name is written \"category:dog\"");
    refused("[outputs.a]\non = [\"tag:category:dog\"]", "no tag \"category:dog\"");
    refused("[outputs.a]\non = [\"dog\"]", "\"category:NAME\"");
    refused("[decide]\nreject = [\"category:dog\", \"category:dog\"]", "stands in two lists or twice");
    refused("[decide]\npick = [\"category:dog\", \"category:dog\"]", "stands in pick twice");
    assert!(parse_with_categories("[decide]\nreject = [\"category:dog\"]").is_ok());
    let problems = parse("[decide]\nreject = [\"category:cat\"]").unwrap_err();
    assert!(problems[0].contains("the model has no categories, so none is called \"cat\""), "{problems:?}");
}

/// Every table for tags has [`crate::MAX_TAGS`] places, so tags and named categories share them.
#[test]
fn as_many_categories_may_be_named_as_the_model_leaves_room_for() {
    let (tags, categories) = (1000, 30);
    let names: Vec<String> = (0..tags).map(|i| format!("t{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let groups: Vec<String> = (0..categories).map(|i| format!("c{i}")).collect();
    let all: Vec<(&str, Option<u16>)> = groups.iter().map(|g| (g.as_str(), None)).collect();
    let places: Vec<Option<u16>> = (0..tags).map(|t| Some((t % categories) as u16)).collect();
    let bytes = crate::category::section(&all, &places);
    let categories = Some(Categories::read(&bytes, &names).unwrap());
    let (rules, roles) = (vec![TagRule::default(); tags], vec![Role::Other; tags]);
    let model = ModelTags { names: &names, rules: &rules, roles: &roles, categories };
    let text = |n: usize| {
        let list: Vec<String> = (0..n).map(|i| format!("\"category:c{i}\"")).collect();
        format!("[decide]\nreview = [{}]", list.join(", "))
    };
    let named = Settings::parse(&text(24), "device.toml", model).unwrap();
    assert_eq!(named.tags.len(), crate::MAX_TAGS);
    assert!(crate::decide::Decider::new(Task::Multiclass, &named.tags, named.policy).is_ok());
    let problems = Settings::parse(&text(25), "device.toml", model).unwrap_err().0;
    let want = "category \"c24\" is one too many: the model's 1000 tags and the categories that are named come to 1024";
    assert!(problems.len() == 1 && problems[0].contains(want), "{problems:?}");
}
