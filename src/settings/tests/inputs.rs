//! Sources, triggers and the time that a part has.

use super::*;
use crate::frame::{Colour, PixelFormat, TimedBy};

/// Without a deadline a part was judged by whatever came until its gate, also when it had left the
/// view.
#[test]
fn a_view_that_nobody_states_or_that_is_too_short_for_the_frames_is_warned_of() {
    let ms = |n: u64| Micros(n * 1000);
    let gate = |trigger: &str| {
        format!("[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[outputs.a]\ndelay_ms = 900\non = [\"accept\"]\n")
    };
    let warned = |text: &str, interval, in_view, is_drawn| {
        let view = View { interval: ms(interval), in_view, is_drawn, timed_by: TimedBy::Shown };
        parse(text).unwrap().warnings_of_view(view)
    };
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

/// The encoder's second track is a line of its own; only on the trigger's chip does the kernel keep
/// both in order. An acknowledgement needs its chip and its line.
#[test]
fn an_encoder_has_two_lines_and_an_acknowledgement_both_of_its_keys() {
    use crate::triggers::Role as Line;
    let trigger = "[trigger]\nkind = \"gpio\"\nchip = \"rp1\"\nline = 17\n";
    let text = format!("{trigger}debounce_ms = 2.5\n[encoder]\nchip = \"rp1\"\na = 22\nb = 23\n");
    let inputs = parse(&text).unwrap().inputs;
    let [TriggerSpec::Gpio(gpio)] = &inputs[..] else { panic!("{inputs:?}") };
    let lines: Vec<_> =
        gpio.lines.iter().map(|(role, line)| (*role, line.line.as_str(), line.debounce.as_micros())).collect();
    assert_eq!(lines, [(Line::Trigger, "17", 2500), (Line::EncoderB, "23", 0), (Line::EncoderA, "22", 0)]);
    let other = |chip: &str| parse(&format!("{trigger}[encoder]\nchip = \"{chip}\"\na = 22\n")).map_err(|e| e[0].clone());
    assert!(other("rp1").is_ok());
    assert!(other("gpio0").unwrap_err().contains("another chip than the trigger's"));
    let words = "[trigger]\nkind = \"stdin\"\n[encoder]\nchip = \"gpio0\"\na = 22\n";
    assert!(parse(words).is_ok(), "no trigger's edges to be in order with: {:?}", parse(words));
    for (half, lacks) in [("chip = \"rp1\"", "acknowledge.line: is missing"), ("line = 5", "acknowledge.chip: is missing")] {
        let problems = parse(&format!("[acknowledge]\n{half}\n")).unwrap_err();
        assert!(problems.iter().any(|p| p.contains(lacks)), "{half}: {problems:?}");
    }
    assert_eq!(parse("[acknowledge]\n").unwrap().inputs, []);
}

#[test]
fn what_a_part_in_a_frame_is_has_its_area_in_thousandths() {
    let rules = |text: &str| match parse(&format!("[trigger]\nkind = \"presence\"\n{text}")).unwrap().trigger {
        TriggerKind::Presence(rules) => (rules.level, rules.area),
        other => panic!("{other:?}"),
    };
    assert_eq!(rules(""), (20, 50));
    assert_eq!(rules("level = 7\narea = 0.25\n"), (7, 250));
}

/// What an every-frame line has of its frames is not what parts have.
#[test]
fn a_station_knows_whether_each_frame_is_a_part_and_frames_of_parts_are_as_many_as_are_decided_by() {
    let every = parse("[decide]\nn = 5\n").unwrap();
    let parts = parse("[trigger]\nkind = \"barrier\"\n").unwrap();
    assert_eq!([&every, &parts].map(|s| s.station(Task::Multiclass, 0).every_frame), [true, false]);
    assert_eq!(every.policy.n, 5);
    assert!(parse("[trigger]\nkind = \"barrier\"\n[decide]\nn = 5\n").unwrap_err()[0].contains("make them equal"));
}

/// `check` found no problem where pulses of 500 ms met, each 100 ms, so that the gate never closed.
#[test]
fn a_pulse_that_lasts_until_the_next_part_comes_is_warned_of() {
    for (width_ms, expected) in [(99, 0), (100, 1), (500, 1)] {
        let text = format!(
            "[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 100\n[outputs.a]\nmode = \"pulse\"\n\
             width_ms = {width_ms}\ndelay_ms = 900\non = [\"accept\"]\n"
        );
        let warnings = parse(&text).unwrap().warnings(true);
        let found = warnings.iter().filter(|w| matches!(w, Warning::PulseBeyondPeriod { .. })).count();
        assert_eq!(found, expected, "{width_ms}");
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
        // Of a part whose deadline is before the camera that is said, and nothing of its frames.
        ("kind = \"stdin\"\nto_camera_ms = 200\ndeadline_ms = 200\nmax_latency_ms = 40\n", 1),
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

/// Each passed `check`: a part that was thrown out was taken for the one before, a lamp stayed on
/// until the end, and the belt was told "ready" by a program that had ended.
#[test]
fn what_nobody_acknowledges_is_seen_as_two_or_says_ready_at_rest_is_warned_of() {
    let warned = |text: &str| {
        let of = |w: &Warning| match w {
            Warning::ConfirmedTogether { apart, .. } => Some(format!("together {}", apart.0 / 1000)),
            Warning::NothingAcknowledges { output } => Some(format!("nobody {output}")),
            Warning::ReadyAtRest { output } => Some(format!("rest {output}")),
            _ => None,
        };
        parse(text).unwrap().warnings(true).iter().filter_map(of).collect::<Vec<_>>().join(", ")
    };
    let gate = "[line]\nmode = \"gate\"\n[outputs.a]\nmode = \"pulse\"\ndelay_ms = 900\non = [\"reject\"]\n";
    let confirm = "[confirm]\nchip = \"c\"\nline = 4\noutput = \"a\"\nwithin_ms = 200\n";
    for (trigger, expected) in [
        ("kind = \"stdin\"\n", ""),
        ("kind = \"stdin\"\nmin_spacing_ms = 200\n", "together 200"),
        ("kind = \"stdin\"\nmin_spacing_ms = 201\n", ""),
        ("kind = \"period\"\nperiod_ms = 200\n", "together 200"),
        ("kind = \"period\"\nperiod_ms = 201\n", ""),
        ("kind = \"period\"\nperiod_ms = 201\nmin_spacing_ms = 80\n", ""),
    ] {
        assert_eq!(warned(&format!("{gate}{confirm}[trigger]\n{trigger}")), expected, "{trigger}");
    }
    let period = "[trigger]\nkind = \"period\"\n";
    let lamp = "[outputs.lamp]\non = [\"fault\"]\n";
    let latched = "[outputs.b]\nmode = \"latched\"\ndelay_ms = 900\non = [\"reject\"]\n";
    for (text, expected) in [
        (format!("{gate}{period}{lamp}{latched}"), "nobody b, nobody lamp"),
        (format!("{gate}{period}"), ""),
        (format!("{gate}{period}{lamp}[acknowledge]\nchip = \"c\"\nline = 5\n"), ""),
        (format!("{gate}{lamp}[trigger]\nkind = \"stdin\"\n"), ""),
        (format!("{gate}{lamp}[trigger]\nkind = \"socket\"\npath = \"/run/t\"\n"), ""),
        (format!("{gate}{period}{lamp}{confirm}"), "nobody lamp"),
        (format!("{gate}{period}[outputs.r]\non = [\"ready\"]\nsafe = \"active\"\n"), "rest r"),
        (format!("{gate}{period}[outputs.r]\non = [\"ready\"]\n"), ""),
    ] {
        assert_eq!(warned(&text), expected, "{text}");
    }
}

/// Each passed `check`, and hardly a part had a frame, or its gate.
#[test]
fn a_deadline_without_a_frame_and_too_many_parts_on_their_way_are_warned_of() {
    let gate = |trigger: &str, delay: u32| {
        format!("[line]\nmode = \"gate\"\n[trigger]\n{trigger}\n[outputs.a]\ndelay_ms = {delay}\non = [\"accept\"]\n")
    };
    // For the number of frames, 33 ms apart, whether the last moment in time is one and the next one
    // is none.
    let before_frames = |trigger: &str, timed_by| {
        let view = View { interval: Micros(33_000), in_view: None, is_drawn: true, timed_by };
        let warnings = parse(&gate(trigger, 900)).unwrap().warnings_of_view(view);
        let of = |w: &Warning| match w {
            Warning::DeadlineBeforeFrames { needed, .. } => Some((needed.0 / 1000, w.to_string())),
            _ => None,
        };
        warnings.iter().find_map(of)
    };
    for (deadline, rest, needed) in [
        (283, "max_latency_ms = 250", Some(283)),
        (284, "max_latency_ms = 250", None),
        (283, "to_camera_ms = 210\nmax_latency_ms = 40", Some(283)),
        (284, "to_camera_ms = 210\nmax_latency_ms = 40", None),
        (172, "max_latency_ms = 40\nframes = 4", Some(172)),
        (173, "max_latency_ms = 40\nframes = 4", None),
        // Less than the way to the camera is told by itself.
        (210, "to_camera_ms = 210\nmax_latency_ms = 40", None),
        (211, "to_camera_ms = 210\nmax_latency_ms = 40", Some(283)),
    ] {
        let trigger = format!("kind = \"stdin\"\ndeadline_ms = {deadline}\n{rest}");
        let found = before_frames(&trigger, TimedBy::Setting);
        assert_eq!(found.as_ref().map(|(ms, _)| *ms), needed, "{trigger}");
        if let (Some((_, told)), true) = (found, rest.contains("frames")) {
            assert!(
                told.contains("deadline is 172 ms, and the 4 frames that surely show it may take until 172 ms"),
                "{told}"
            );
        }
        // A camera that says when it exposed is not asked how old a frame may be, and one that does
        // not say it without a bound is refused elsewhere.
        assert_eq!(before_frames(&trigger, TimedBy::Arrival), None, "{trigger}");
        let frames_only = (deadline == 211).then_some(243);
        for timed_by in [TimedBy::Driver, TimedBy::Metadata, TimedBy::Shown] {
            assert_eq!(before_frames(&trigger, timed_by).map(|(ms, _)| ms), frames_only, "{trigger}");
        }
    }
    // Sixteen frames in 300 ms at 30 a second: every part was without one, and nothing said so.
    for (trigger, needed) in [
        ("kind = \"stdin\"\nframes = 16\ndeadline_ms = 300", Some(528)),
        ("kind = \"stdin\"\nframes = 16\ndeadline_ms = 528", Some(528)),
        ("kind = \"stdin\"\nframes = 16\ndeadline_ms = 529", None),
        ("kind = \"stdin\"\ndeadline_ms = 1", Some(33)),
        ("kind = \"presence\"\ndeadline_ms = 1", None),
        ("kind = \"presence\"\nframes = 2\ndeadline_ms = 33", Some(33)),
    ] {
        let found = before_frames(trigger, TimedBy::Driver);
        assert_eq!(found.as_ref().map(|(ms, _)| *ms), needed, "{trigger}");
        assert!(found.is_none_or(|(_, told)| told.contains("or the frame rate higher") && !told.contains("max_latency")));
    }
    // The frame that finds a part shows it.
    let presence = "kind = \"presence\"\ndeadline_ms = 250\nmax_latency_ms = 250";
    assert_eq!(before_frames(presence, TimedBy::Setting), None);
    let told = |text: &str| {
        let of = |w: &Warning| if let Warning::TooManyOnTheWay { parts, .. } = w { Some(*parts) } else { None };
        parse(text).unwrap().warnings(true).iter().filter_map(of).collect::<Vec<_>>()
    };
    let period = "kind = \"period\"\nperiod_ms = 10";
    assert_eq!([640, 641, 650, 900].map(|delay| told(&gate(period, delay))), [vec![], vec![65], vec![65], vec![90]]);
    let state = "[trigger]\nkind = \"period\"\nperiod_ms = 1\n[outputs.a]\non = [\"accept\"]\n";
    assert_eq!(told(state), [] as [u64; 0]);
    let of_interval = |kind: &str, delay: u32, interval: u64| {
        let settings = parse(&gate(&format!("kind = \"{kind}\""), delay)).unwrap();
        let view = View { interval: Micros(interval), in_view: None, is_drawn: true, timed_by: TimedBy::Shown };
        settings.warnings_of_view(view)
    };
    let of_frames = |kind: &str, delay: u32| of_interval(kind, delay, 10_000);
    let output = "a".to_string();
    assert_eq!(of_interval("every_frame", 900, 0), [], "nobody knows how often frames come");
    assert_eq!(of_frames("every_frame", 900), [Warning::TooManyOnTheWay { output, parts: 90 }]);
    assert_eq!([of_frames("every_frame", 640), of_frames("presence", 900)], [[], []]);
}

/// A region that no frame holds found no part, or one pixel at the edge.
#[test]
fn regions_that_frames_do_not_hold_are_refused() {
    let input = Input {
        height: 96,
        width: 96,
        fit: crate::bundle::Fit::Crop,
        tables: crate::bundle::Tables { real: &[], int8: &[] },
        scale: 0.02,
        zero_point: 0,
    };
    let layout = Layout::packed(PixelFormat::Rgb8, Colour::default(), 320, 240);
    for (roi, problem) in [
        ("x = 0, y = 0, width = 320, height = 240", None),
        ("x = 319, y = 239, width = 1, height = 1", None),
        ("x = 1, y = 0, width = 320, height = 240", Some("does not fit into frames of 320x240")),
        ("x = 0, y = 1, width = 320, height = 240", Some("does not fit into frames of 320x240")),
        ("x = 5000, y = 5000, width = 10, height = 10", Some("does not fit into frames of 320x240")),
    ] {
        for (table, name) in [("trigger", "the trigger's region"), ("source", "region of interest")] {
            let text = format!("[trigger]\nkind = \"presence\"\n[{table}.roi]\n{}\n", roi.replace(", ", "\n"));
            let found = parse(&text).unwrap().check_regions(layout, &input);
            assert_eq!(found.is_ok(), problem.is_none(), "{text}: {found:?}");
            let why = found.err().unwrap_or_default();
            assert!(problem.is_none_or(|p| why.contains(p) && why.starts_with(name)), "{why}");
        }
    }
}

/// As stated, and as much as a pulse may be late; nobody goes by it without a gate.
#[test]
fn how_old_a_frame_may_be_in_which_a_part_is_found_is_known_where_a_gate_goes_by_it() {
    let within = |line: &str, trigger: &str| {
        let gate = "[outputs.a]\nmode = \"pulse\"\nwidth_ms = 50\non = [\"accept\"]\n";
        // A flash has no gate: how long it is says nothing of a part's place.
        let flash = "[outputs.flash]\nmode = \"pulse\"\nwidth_ms = 3\ndelay_ms = 0\non = [\"trigger\"]\n";
        let gate = if line.contains("gate") { format!("{gate}delay_ms = 900\n{flash}") } else { gate.into() };
        parse(&format!("[line]\n{line}\n[trigger]\n{trigger}\n{gate}")).unwrap().found_within(Micros(33_000))
    };
    let (gate, presence) = ("mode = \"gate\"", "kind = \"presence\"\nmax_latency_ms = 40");
    assert_eq!(within(gate, presence), Some(Micros(90_000)));
    assert_eq!(within("mode = \"state\"", presence), None);
    assert_eq!(within(gate, "kind = \"presence\""), None);
    assert_eq!(within(gate, "kind = \"stdin\"\nmax_latency_ms = 40"), None);
    // A good line of ten frames a second, whose pipe is looked at each 12.5 ms, went safe at each
    // part where its gate was a level, or a pulse of 10 ms.
    let text = |gate: &str| {
        format!("[line]\nmode = \"gate\"\n[trigger]\n{presence}\n[outputs.a]\ndelay_ms = 900\non = [\"accept\"]\n{gate}")
    };
    for (gate, interval, expected) in [
        ("", 33_000, 48_250),
        ("", 10_000, 45_000),
        ("", 100_000, 65_000),
        ("mode = \"pulse\"\nwidth_ms = 10\n", 100_000, 65_000),
        ("mode = \"pulse\"\nwidth_ms = 50\n", 100_000, 90_000),
        ("mode = \"pulse\"\nwidth_ms = 50\n", 2_000_000, 140_000),
    ] {
        assert_eq!(parse(&text(gate)).unwrap().found_within(Micros(interval)), Some(Micros(expected)), "{gate}{interval}");
    }
}
