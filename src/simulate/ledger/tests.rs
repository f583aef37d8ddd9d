//! The ledger against pins that were right and pins that were wrong in each way.

use super::super::ModelTag;
use super::*;
use crate::decide::Role;
use std::collections::BTreeMap;

const fn ms(n: u64) -> Instant {
    Instant::from_micros(n * 1000)
}

const SETTINGS: &str = "[line]\nmode = \"gate\"\n[decide]\nreject = [\"bad\"]\n\
    [outputs.gate]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 100\non = [\"reject\"]\n\
    [outputs.good]\nmode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 150\non = [\"accept\"]\n";

fn ledger(text: &str) -> Ledger {
    let tag = |name: &str| ModelTag { name: name.into(), threshold: 32768, review_low: 32768, role: Role::Other };
    Ledger::new(Site::read(text, &[tag("bad"), tag("fine")], true).unwrap())
}

/// A frame that shows a part, exposed at a moment that is known.
fn shot(exposed: Instant, image: u64) -> Shot {
    Shot { exposed, known: [exposed; 2], image, shows_part: true }
}

/// A part that passes at `trigger`, shows `tag`, and is answered at `answered`.
fn part(ledger: &mut Ledger, trigger: u64, tag: usize, answered: u64) {
    ledger.passes(ms(trigger), 0, ms(trigger));
    let number = ledger.parts() as u64 - 1;
    ledger.offered(shot(ms(trigger + 5), trigger), ms(trigger + 6), Some(number));
    let scores = (0..2).map(|t| if t == tag { 60_000 } else { 0 }).collect();
    ledger.answered(ms(trigger + 5), ms(answered), Answer::Scores { scores, beyond: false });
}

type Pulse = (&'static str, u64, u64, u64);

fn edges(pulses: &[Pulse]) -> BTreeMap<String, Vec<Edge>> {
    let mut all: BTreeMap<String, Vec<Edge>> = BTreeMap::new();
    for (line, part, on, off) in pulses {
        let both = [(*on, true), (*off, false)].map(|(at, active)| Edge { at: ms(at), active, part: Some(*part) });
        all.entry(line.to_string()).or_default().extend(both);
    }
    all
}

/// Three parts: a good one in time, a good one late, a bad one in time.
fn judged(found: &[Pulse], safe_at: Option<u64>) -> Verdict {
    let mut ledger = ledger(SETTINGS);
    let mut safe_at = safe_at;
    for (trigger, tag, answered) in [(0, 1, 30), (1000, 1, 1200), (2000, 0, 2040), (u64::MAX, 0, 0)] {
        // The ledger is told of everything in its order.
        if let Some(at) = safe_at.take_if(|at| *at < trigger) {
            ledger.note(ms(at), Noted::Safe);
        }
        if trigger < u64::MAX {
            part(&mut ledger, trigger, tag, answered);
        }
    }
    ledger.judge(&edges(found));
    ledger.verdict
}

const RIGHT: [Pulse; 3] = [("good", 0, 150, 170), ("gate", 1, 1100, 1120), ("gate", 2, 2100, 2120)];

fn verdict(lost: u64, swapped: u64, doubled: u64, not_safe: u64) -> Verdict {
    Verdict { lost, swapped, doubled, not_safe }
}

#[test]
fn what_agrees_is_clean_and_each_kind_of_mistake_has_its_name() {
    assert_eq!(judged(&RIGHT, None), verdict(0, 0, 0, 0));
    assert_eq!(judged(&RIGHT[1..], None), verdict(1, 0, 0, 0), "a pulse was lost");
    let other_line = [("gate", 0, 100, 120), RIGHT[1], RIGHT[2]];
    assert_eq!(judged(&other_line, None), verdict(1, 1, 0, 0), "the wrong line was moved");
    let twice = [RIGHT[0], RIGHT[1], RIGHT[2], ("gate", 2, 2300, 2320)];
    assert_eq!(judged(&twice, None), verdict(0, 0, 1, 0), "a pulse came twice");
    let for_another = [RIGHT[0], ("gate", 7, 1100, 1120), RIGHT[2]];
    assert_eq!(judged(&for_another, None), verdict(0, 1, 0, 0), "the line named another part");
    let late_as_tag = [RIGHT[0], ("good", 1, 1150, 1170), RIGHT[2]];
    assert!(!judged(&late_as_tag, None).is_clean(), "a late part must get the late action");
    for (on, off) in [(2101, 2121), (2100, 2121), (2099, 2120)] {
        let moved = [RIGHT[0], RIGHT[1], ("gate", 2, on, off)];
        assert!(!judged(&moved, None).is_clean(), "a pulse of {on}..{off} is not 2100..2120");
    }
}

#[test]
fn a_line_that_goes_safe_ends_its_pulse_and_gives_up_what_is_on_its_way() {
    let cut_short = [RIGHT[0], ("gate", 1, 1100, 1110), RIGHT[2]];
    assert_eq!(judged(&cut_short, Some(1110)), verdict(0, 0, 0, 0));
    assert_eq!(judged(&RIGHT, Some(1110)), verdict(0, 0, 0, 1));
    assert_eq!(judged(&RIGHT[..2], Some(2050)), verdict(0, 0, 0, 0));
    assert!(!judged(&RIGHT, Some(2050)).is_clean());
}

/// A line that is left active at the run's end stays so until somebody looks.
#[test]
fn a_line_that_is_not_in_its_safe_state_at_the_end_is_found() {
    for (left_active, not_safe) in [(None, 0), (Some("gate"), 1), (Some("lamp"), 1)] {
        let mut ledger = ledger(&format!("{SETTINGS}[outputs.lamp]\non = [\"busy\"]\n"));
        ledger.judge_end(|name| Some(name) == left_active);
        assert_eq!(ledger.verdict, verdict(0, 0, 0, not_safe), "{left_active:?}");
    }
    let mut ledger =
        ledger(&SETTINGS.replace("width_ms = 20\ndelay_ms = 100", "width_ms = 20\nsafe = \"active\"\ndelay_ms = 100"));
    ledger.judge_end(|_| false);
    assert_eq!(ledger.verdict, verdict(0, 0, 0, 1), "its safe state is active");
}

#[test]
fn a_frame_taken_for_another_part_or_for_none_is_found() {
    let mut ledger = ledger(SETTINGS);
    ledger.passes(ms(0), 0, ms(0));
    ledger.passes(ms(50), 0, ms(50));
    ledger.offered(shot(ms(60), 1), ms(61), Some(0));
    assert_eq!(ledger.verdict, verdict(0, 1, 0, 0));
    let mut ledger = super::tests::ledger(SETTINGS);
    ledger.passes(ms(0), 0, ms(0));
    ledger.offered(shot(ms(60), 1), ms(61), None);
    assert_eq!(ledger.verdict, verdict(1, 0, 0, 0));
}

/// A latched line, a level, and a safe state that is active were called unsafe.
#[test]
fn latched_and_level_lines_and_an_active_safe_state_are_judged_as_the_readme_says() {
    let text = SETTINGS.replace("mode = \"pulse\"\nwidth_ms = 20\ndelay_ms = 100", "mode = \"latched\"\ndelay_ms = 100");
    let run = |found: BTreeMap<String, Vec<Edge>>, text: &str| {
        let mut ledger = ledger(text);
        part(&mut ledger, 0, 0, 30);
        part(&mut ledger, 1000, 1, 1030);
        ledger.note(ms(1500), Noted::Acknowledged);
        ledger.judge(&found);
        ledger.verdict
    };
    let latched = edges(&[("gate", 0, 100, 1500), ("good", 1, 1150, 1170)]);
    assert_eq!(run(latched.clone(), &text), verdict(0, 0, 0, 0));
    assert!(
        !run(edges(&[("gate", 0, 100, 1100), ("good", 1, 1150, 1170)]), &text).is_clean(),
        "it goes on until the button"
    );
    let level = text.replace("\"latched\"", "\"level\"");
    assert_eq!(run(edges(&[("gate", 0, 100, 1100), ("good", 1, 1150, 1170)]), &level), verdict(0, 0, 0, 0));
    assert!(!run(latched, &level).is_clean());
    let active = level.replace("on = [\"reject\"]", "safe = \"active\"\non = [\"reject\"]");
    let off = Edge { at: ms(1100), active: false, part: Some(1) };
    let mut found = edges(&[("good", 1, 1150, 1170)]);
    found.insert("gate".into(), vec![off]);
    assert_eq!(run(found, &active), verdict(0, 0, 0, 0), "active from the start, and called for by the first part");
}

#[test]
fn each_rule_for_parts_that_are_too_close_is_judged() {
    let with = |rule: &str| {
        let text = format!("{SETTINGS}[trigger]\nmin_spacing_ms = 50\ntoo_close = \"{rule}\"\n");
        let mut ledger = ledger(&text);
        part(&mut ledger, 0, 1, 30);
        ledger.passes(ms(40), 0, ms(40));
        ledger
    };
    let judged = |rule: &str, found: &[Pulse]| {
        let mut ledger = with(rule);
        ledger.judge(&edges(found));
        ledger.verdict.is_clean()
    };
    let accepted = [("good", 0, 150, 170)];
    let both_late = [("gate", 0, 100, 120), ("gate", 1, 140, 160)];
    assert!(judged("ignore", &accepted) && !judged("ignore", &both_late));
    assert!(judged("reject", &both_late) && !judged("reject", &accepted));
    assert!(judged("safe", &[]) && !judged("safe", &accepted));
}

#[test]
fn two_parts_with_one_image_get_the_late_action_unless_the_first_was_at_its_gate() {
    let run = |second: u64, image: u64, settings: &str, found: &[Pulse]| {
        let mut ledger = ledger(settings);
        part(&mut ledger, 0, 1, 30);
        ledger.passes(ms(second), 0, ms(second));
        ledger.offered(shot(ms(second + 5), image), ms(second + 6), None);
        ledger.judge(&edges(found));
        ledger.verdict
    };
    let both = |second: u64| [("gate", 0, 100, 120), ("gate", 1, second + 100, second + 120)];
    let accepted = |second: u64| [("good", 0, 150, 170), ("gate", 1, second + 100, second + 120)];
    assert_eq!(run(80, 0, SETTINGS, &both(80)), verdict(0, 0, 0, 0), "the first part is on its way");
    assert!(!run(80, 0, SETTINGS, &accepted(80)).is_clean(), "the first part was accepted on a frozen image");
    assert!(!run(80, 0, SETTINGS, &[("gate", 0, 100, 120), ("good", 1, 230, 250)]).is_clean(), "the second was");
    assert_eq!(run(1000, 0, SETTINGS, &accepted(1000)), verdict(0, 0, 0, 0), "the first was at its gate before");
    assert_eq!(run(1000, 7, SETTINGS, &accepted(1000)), verdict(1, 0, 0, 0), "another image must be taken");
    let off = format!("[source]\nfrozen_after = 0\n{SETTINGS}");
    assert_eq!(run(1000, 0, &off, &accepted(1000)), verdict(1, 0, 0, 0), "turned off, the frame is needed");
}

/// The ledger knew deadlines by the clock alone.
#[test]
fn a_deadline_in_counts_is_over_when_the_belt_says_so_and_not_before() {
    // What a frame says that comes when the belt was told to be at `heard` and was not taken.
    let not_taken = |trigger: &str, gate: &str, heard: i64, at: u64| {
        let text = format!("{SETTINGS}[trigger]\n{trigger}\n").replace("delay_ms = 100", gate);
        let mut ledger = ledger(&text);
        ledger.passes(ms(0), 1000, ms(0));
        ledger.belt(heard, ms(50), ms(50));
        ledger.offered(shot(ms(at - 1), 1), ms(at), None);
        ledger.verdict
    };
    let (needed, over) = (verdict(1, 0, 0, 0), verdict(0, 0, 0, 0));
    for (trigger, gate, first) in [
        ("deadline_counts = 30", "delay_ms = 100", 1030),
        ("deadline_counts = 30", "delay_counts = 80", 1030),
        ("", "delay_counts = 80", 1080),
    ] {
        assert_eq!(not_taken(trigger, gate, first - 1, 5000), needed, "{trigger} {gate}: the belt stands before it");
        assert_eq!(not_taken(trigger, gate, first, 5000), over, "{trigger} {gate}");
        assert_eq!(not_taken(trigger, gate, first, 51), over, "{trigger} {gate}");
    }
    for (trigger, gate, first) in [("deadline_ms = 60", "delay_counts = 80", 60), ("", "delay_ms = 100", 100)] {
        assert_eq!(not_taken(trigger, gate, 1001, first - 1), needed, "{trigger} {gate}");
        assert_eq!(not_taken(trigger, gate, 1001, first + 1), over, "{trigger} {gate}");
    }
}

/// What lines that parts do not move did: at milliseconds, to active or not.
type Shown = &'static [(u64, bool)];

/// One part is thrown out and seen; the camera fails for a while; something is seen that nobody
/// threw out, and acknowledged.
fn status(seen: u64, told: &[(u64, Noted)], [busy, ready, lamp, beat]: [Shown; 4]) -> Verdict {
    let text = format!(
        "{SETTINGS}[outputs.busy]\non = [\"busy\"]\n[outputs.ready]\non = [\"ready\"]\n[outputs.lamp]\non = [\"fault\"]\n\
         [outputs.beat]\non = [\"heartbeat\"]\nperiod_ms = 400\n[confirm]\noutput = \"gate\"\nwithin_ms = 50\n"
    );
    let mut ledger = ledger(&text);
    ledger.note(ms(0), Noted::Started);
    part(&mut ledger, 100, 0, 130);
    ledger.note(ms(251), Noted::Seen(seen));
    let rest = [(300, Noted::Camera(false)), (350, Noted::Camera(true)), (400, Noted::Seen(400_000))];
    let rest = rest.into_iter().chain(told.iter().copied()).chain([(500, Noted::Acknowledged), (650, Noted::Camera(true))]);
    rest.for_each(|(at, noted)| ledger.note(ms(at), noted));
    let mut found = edges(&[("gate", 0, 200, 220)]);
    for (name, steps) in [("busy", busy), ("ready", ready), ("lamp", lamp), ("beat", beat)] {
        let edge = |(at, active): &(u64, bool)| Edge { at: ms(*at), active: *active, part: None };
        found.insert(name.into(), steps.iter().map(edge).collect());
    }
    ledger.judge(&found);
    ledger.verdict
}

#[test]
fn what_lines_show_that_parts_do_not_move_and_what_is_seen_behind_the_gate_is_judged() {
    const BUSY: Shown = &[(100, true), (130, false)];
    const READY: Shown = &[(0, true), (300, false), (350, true)];
    const LAMP: Shown = &[(400, true), (500, false)];
    const BEAT: Shown = &[(150, true), (350, false), (550, true)];
    const TOLD: &[(u64, Noted)] = &[(400, Noted::ToldUnexpected)];
    assert_eq!(status(250_000, TOLD, [BUSY, READY, LAMP, BEAT]), verdict(0, 0, 0, 0));
    let wrong = |what: &str, told: &[(u64, Noted)], lines: [Shown; 4]| {
        assert!(!status(250_000, told, lines).is_clean(), "{what}");
    };
    wrong("busy stays", TOLD, [&BUSY[..1], READY, LAMP, BEAT]);
    wrong("never busy", TOLD, [&[], READY, LAMP, BEAT]);
    wrong("ready without a camera", TOLD, [BUSY, &READY[..1], LAMP, BEAT]);
    wrong("a fault is not shown", TOLD, [BUSY, READY, &[], BEAT]);
    wrong("a fault goes on after the button", TOLD, [BUSY, READY, &LAMP[..1], BEAT]);
    wrong("the heartbeat stops", TOLD, [BUSY, READY, LAMP, &BEAT[..2]]);
    wrong("the heartbeat hurries", TOLD, [BUSY, READY, LAMP, &[(150, true), (250, false), (450, true)]]);
    wrong("what was seen is not told", &[], [BUSY, READY, LAMP, BEAT]);
    let also = [TOLD[0], (420, Noted::ToldNotRejected(0))];
    wrong("a part that was seen is told as not", &also, [BUSY, READY, LAMP, BEAT]);
    // A microsecond too late: not seen in time, and then unexpected.
    assert!(!status(250_001, TOLD, [BUSY, READY, LAMP, BEAT]).is_clean());
}

/// A pulse of 500 ms with parts 120 ms apart was called safe: what it did to the parts behind was
/// nobody's business.
#[test]
fn a_part_that_passes_a_gate_set_for_another_is_counted_as_harmed() {
    // Bad, and good `behind` milliseconds later; the pulses as done.
    let harmed = |settings: &str, behind: u64, found: &[Pulse]| {
        let mut ledger = ledger(settings);
        part(&mut ledger, 0, 0, 30);
        part(&mut ledger, behind, 1, behind + 30);
        ledger.judge(&edges(found));
        ledger.harmed
    };
    let pulses = |behind: u64, from: u64, to: u64| [("gate", 0, from, to), ("good", 1, behind + 150, behind + 170)];
    assert_eq!(harmed(SETTINGS, 20, &pulses(20, 100, 120)), 0, "the gate shuts as the good part comes");
    assert_eq!(harmed(SETTINGS, 19, &pulses(19, 100, 120)), 1, "the good part meets the open gate");
    assert_eq!(harmed(SETTINGS, 25, &pulses(25, 106, 126)), 2, "done late: the bad part met it shut, the good one open");
    assert_eq!(harmed(SETTINGS, 25, &pulses(25, 100, 120)), 0);
    // Two bad parts in one long pulse are both thrown out.
    let mut both = ledger(SETTINGS);
    part(&mut both, 0, 0, 5);
    part(&mut both, 10, 0, 20);
    both.judge(&edges(&[("gate", 0, 100, 130)]));
    assert_eq!(both.harmed, 0);
    // A flash that is still on gives the next part none.
    let flash = format!("{SETTINGS}[outputs.flash]\nwidth_ms = 30\ndelay_ms = 0\non = [\"trigger\"]\n");
    let lit = |to: u64| [("gate", 0, 100, 120), ("good", 1, 180, 200), ("flash", 0, 0, to), ("flash", 1, 30, 60)];
    assert_eq!(harmed(&flash, 30, &lit(30)), 1);
    assert_eq!(harmed(&flash, 30, &lit(29)), 0);
}

/// A pulse that stayed on through a stall until the next one threw a good part out, nobody was
/// told, and the ledger took the two for one long pulse.
#[test]
fn a_line_that_is_on_for_no_part_and_not_told_is_not_safe() {
    // Bad at 0 and 300, good at 150: the gate is open from 100 to 420, which stood still until 410.
    let judged = |told: Option<u64>, stood_still: bool| {
        let mut ledger = ledger(SETTINGS);
        for (trigger, tag) in [(0, 0), (150, 1), (300, 0)] {
            part(&mut ledger, trigger, tag, trigger + 30);
        }
        // The good part's own pulse, due at 300, is missed then.
        let apart = vec![("gate", 0, 100, 120), ("good", 1, 300, 320), ("gate", 2, 400, 420)];
        let found = if stood_still { vec![("gate", 0, 100, 420)] } else { apart };
        if stood_still {
            ledger.stalled(ms(110), ms(410));
        }
        told.into_iter().for_each(|at| ledger.edge_told_late(ms(at)));
        ledger.judge(&edges(&found));
        ledger.verdict
    };
    assert_eq!(judged(None, false), verdict(0, 0, 0, 0));
    assert_eq!(judged(Some(410), true), verdict(0, 0, 0, 0));
    assert_eq!(judged(None, true), verdict(0, 0, 0, 1));
    assert_eq!(judged(Some(400), true), verdict(0, 0, 0, 1), "told, but of something else");
}

/// A frame whose moment is known to some milliseconds only was judged by its true moment.
#[test]
fn a_frame_that_may_show_either_of_two_parts_is_needed_by_neither() {
    let offered = |from: u64, to: u64, taken: Option<u64>| {
        let mut ledger = ledger(SETTINGS);
        ledger.passes(ms(0), 0, ms(0));
        ledger.passes(ms(50), 0, ms(50));
        let frame = Shot { known: [ms(from), ms(to)], ..shot(ms(60), 1) };
        ledger.offered(frame, ms(90), taken);
        ledger.verdict
    };
    assert_eq!(offered(50, 90, Some(1)), verdict(0, 0, 0, 0));
    assert_eq!(offered(50, 90, None), verdict(1, 0, 0, 0), "it shows the second part for sure");
    assert_eq!(offered(49, 90, None), verdict(0, 0, 0, 0));
    assert_eq!(offered(49, 90, Some(1)), verdict(0, 0, 1, 0), "it may show the first one");
}

#[test]
fn a_part_that_is_judged_by_another_model_than_that_of_its_trigger_is_swapped() {
    let judged = |model| {
        let mut ledger = ledger("");
        ledger.passes(ms(100), 0, ms(100));
        ledger.model_changes(1);
        ledger.passes(ms(200), 0, ms(200));
        ledger.judged_by(0, Some(0), ms(210));
        assert_eq!(ledger.verdict, verdict(0, 0, 0, 0));
        ledger.judged_by(1, model, ms(220));
        ledger.verdict
    };
    assert_eq!(judged(Some(1)), verdict(0, 0, 0, 0));
    assert_eq!(judged(Some(0)), verdict(0, 1, 0, 0));
    assert_eq!(judged(None), verdict(0, 1, 0, 0), "the line had given it away");
}
