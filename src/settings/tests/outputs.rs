//! Outputs: what moves them, their gates, windows, names and safe states.

use super::*;

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
        ("[outputs.b]\non = [\"busy\"]\n".into(), "\"busy\" belongs to a gate"),
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
        ("[source]\nopne = 3\n", false),
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
    // Blanks and quotes in a table's head hid that it is an output's.
    for (damaged, is_output) in [
        ("[ outputs.b ]\nline = \"3\n", true),
        ("[\t\"outputs\" . b]\nline = \"3\n", true),
        ("['outputs'.b]\nline = \"3\n", true),
        ("outputs.b.line = \"3\n", true),
        ("outputs = { b = { line = \"3\n", true),
        ("[outputs_of_last_year]\nline = \"3\n", false),
        ("[source]\nopen = \"outputs.b\n", false),
        ("# outputs.b\nx = [[\n", false),
    ] {
        let (lines, problems) = safe_lines(&format!("{damaged}{outputs}"), "device.toml");
        assert_eq!(lines, both, "{damaged}");
        assert_eq!(problems.iter().any(|p| p.contains("so its line is not made safe")), is_output, "{damaged}{problems:?}");
    }
    let (lines, problems) = safe_lines("[outputs.a]\nbackend = \"gpiochip\"\n[outputs.b]\n", "device.toml");
    assert_eq!(lines.len(), 2, "a line that misses its chip is tried, and told");
    assert!(problems.iter().any(|p| p.contains("outputs.a.chip: is missing")), "{problems:?}");
}

/// Of `[output.gate]` nothing was said and nothing was made safe, which looked like done.
#[test]
fn a_table_that_no_settings_have_is_told_where_lines_are_made_safe() {
    for (text, why) in [
        ("[output.gate]\n", Some("unknown key \"output\"; did you mean \"outputs\"?")),
        ("[Outputs.gate]\n[outputs.lamp]\n", Some("did you mean \"outputs\"?")),
        ("[sauce]\nopen = 3\n", Some("unknown key \"sauce\"")),
        ("outputs = 3\n", Some("expected a table")),
        ("outputs.gate = \"17\"\n", Some("expected a table")),
        ("[[outputs]]\n", Some("expected a table")),
        ("", None),
        ("[outputs]\n", None),
        (EXAMPLE, None),
        (DEMO, None),
        (SOAK, None),
    ] {
        let (_, problems) = safe_lines(text, "device.toml");
        let is_told = why.map_or(problems.is_empty(), |why| problems.iter().any(|p| p.contains(why)));
        assert!(is_told, "{text}: {problems:?}");
    }
}

/// In a file that is no TOML a table may stand twice, and one may be damaged: of these it is not
/// known what is safe.
#[test]
fn a_line_that_says_two_things_or_one_that_cannot_be_read_is_not_made_safe_and_told_with_its_place() {
    let broken = "x = [[\n";
    let safe = |text: &str| {
        let (lines, problems) = safe_lines(&format!("{broken}{text}"), "device.toml");
        (lines.into_iter().map(|line| line.name).collect::<Vec<_>>(), problems)
    };
    let [a, low] = ["[outputs.a]\nactive = \"high\"\n", "[outputs.a]\nactive = \"low\"\n"];
    let twice = |problems: &[String]| problems.iter().any(|p| p.contains("output a: stands twice and says two things"));
    let (lines, problems) = safe(&format!("{a}[outputs.b]\n{a}"));
    assert_eq!((lines, twice(&problems)), (vec!["a".to_string(), "b".into()], false), "twice the same");
    let (lines, problems) = safe(&format!("{a}[outputs.b]\n{low}"));
    assert_eq!((lines, twice(&problems)), (vec!["b".to_string()], true));
    let (lines, problems) = safe("[outputs.a]\nsafe = \"on\"\n[outputs.b]\n");
    assert_eq!(lines, ["b"]);
    let why = "output a: its line is not made safe: safe cannot be read, and a guess may be the wrong state";
    assert!(problems.iter().any(|p| p.contains(why)), "{problems:?}");
    // The broken line is the first, so the second table's head is in line 4.
    let (lines, problems) = safe("[outputs.b]\n\n[outputs.c]\nline = \"3\n");
    assert_eq!(lines, ["b"]);
    assert!(problems.iter().any(|p| p.contains("the table in line 4 cannot be read")), "{problems:?}");
}

#[test]
fn what_belongs_to_pulses_alone_is_refused_elsewhere() {
    for mode in ["level", "latched"] {
        for key in ["width_ms", "window_ms"] {
            let text = format!("[outputs.a]\nmode = \"{mode}\"\n{key} = 30\non = [\"accept\"]\n");
            let problems = parse(&text).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].contains("belongs to mode = \"pulse\" only"),
                "{mode} {key}: {problems:?}"
            );
        }
    }
    assert!(parse("[outputs.a]\nmode = \"level\"\non = [\"accept\"]\n").is_ok());
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
    let a_day = parse(&output("a", "one.log", "max_mb_per_day = 3\n")).unwrap();
    assert_eq!(a_day.outputs[0].log.as_ref().unwrap().bytes_per_day, 3_000_000);
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
