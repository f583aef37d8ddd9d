//! Rules and models that change while parts are on their way.

use super::*;

/// A part that is between its trigger and its frame was promised the rules of its trigger.
#[test]
fn new_rules_hold_from_the_next_trigger_on() {
    let mut s = gate(1);
    let strict = [TagRule { threshold: Score(65_000), review_low: Score(65_000) }, TagRule::default()];
    let judged = |s: &mut Station, ms: u64| {
        let ticket = frame(s, ms).expect("the part's frame");
        scores(s, ms + 1, ticket, &GOOD).remove(0)
    };
    told(&mut s, 0, Input::Trigger(at(0)));
    told(&mut s, 1, Input::Rules(&strict));
    assert_eq!(judged(&mut s, 10), "1 present accept 0b10");
    told(&mut s, 100, Input::Trigger(at(100)));
    // Changed back while part 2 is on its way: part 2 keeps what held at its trigger.
    told(&mut s, 101, Input::Rules(&[TagRule::default(); 2]));
    assert_eq!(judged(&mut s, 110), "2 unknown reject 0b1");
    told(&mut s, 200, Input::Trigger(at(200)));
    assert_eq!(judged(&mut s, 210), "3 present accept 0b10");
    // What does not fit the model changes nothing.
    let band = TagRule { threshold: Score(1), review_low: Score(2) };
    told(&mut s, 300, Input::Rules(&strict[..1]));
    told(&mut s, 301, Input::Rules(&[band; 2]));
    told(&mut s, 302, Input::Trigger(at(302)));
    assert_eq!(judged(&mut s, 310), "4 present accept 0b10");
}

/// A part without a frame stood between two changes, and the one behind it had the rules of the
/// first.
#[test]
fn of_several_changes_of_rules_the_newest_before_its_trigger_holds_for_a_part() {
    let rules = |threshold: u16| {
        let threshold = Score(threshold);
        [TagRule { threshold, review_low: threshold }, TagRule::default()]
    };
    let mut s = gate(1);
    told(&mut s, 0, Input::Rules(&rules(65_000)));
    told(&mut s, 10, Input::Trigger(at(10)));
    told(&mut s, 20, Input::Rules(&rules(50_000)));
    assert_eq!(told(&mut s, 310, Input::Tick).0, ["1 safe reject 0b1", "no_frame Part"]);
    told(&mut s, 400, Input::Trigger(at(400)));
    let ticket = frame(&mut s, 410).unwrap();
    assert_eq!(scores(&mut s, 420, ticket, &GOOD), ["2 present accept 0b10"]);
}

/// Changes whose parts had no frame were kept until one came. The newest then took the place of the
/// one before it, and a part was judged by the rules of the next: the model changed twice while a
/// camera showed nothing.
#[test]
fn parts_without_a_frame_take_no_room_for_changes_of_rules() {
    let rules = |threshold: u16| {
        let threshold = Score(threshold);
        [TagRule { threshold, review_low: threshold }, TagRule::default()]
    };
    let mut s = gate(1);
    for change in 0..2 * MAX_CHANGES as u64 {
        let ms = change * 400;
        told(&mut s, ms, Input::Trigger(at(ms)));
        told(&mut s, ms + 1, Input::Rules(&rules(50_000)));
        assert!(told(&mut s, ms + 310, Input::Tick).0[0].ends_with("safe reject 0b1"));
    }
    let ms = 2 * MAX_CHANGES as u64 * 400;
    told(&mut s, ms, Input::Rules(&rules(65_000)));
    told(&mut s, ms + 10, Input::Trigger(at(ms + 10)));
    told(&mut s, ms + 15, Input::Rules(&rules(50_000)));
    let ticket = frame(&mut s, ms + 20).unwrap();
    let words = scores(&mut s, ms + 30, ticket, &GOOD);
    assert!(words[0].ends_with("unknown reject 0b1"), "{words:?}");
}

/// So many changes between one frame and the next are more than are kept: the last word counts.
#[test]
fn more_changes_of_rules_than_are_kept_end_with_the_last() {
    let mut s = gate(1);
    for change in 0..=MAX_CHANGES as u64 {
        let ms = change * 60;
        told(&mut s, ms, Input::Trigger(at(ms)));
        let threshold = Score(if change == MAX_CHANGES as u64 { 65_000 } else { 50_000 });
        told(&mut s, ms + 1, Input::Rules(&[TagRule { threshold, review_low: threshold }, TagRule::default()]));
    }
    let ms = (MAX_CHANGES as u64 + 1) * 60;
    told(&mut s, ms, Input::Trigger(at(ms)));
    let ticket = frame(&mut s, ms + 10).unwrap();
    let words = scores(&mut s, ms + 20, ticket, &GOOD);
    assert!(words[0].ends_with("unknown reject 0b1"), "{words:?}");
}

/// A model that took over at the next frame decided parts that were on their way already.
#[test]
fn a_part_is_decided_by_the_model_of_its_trigger_and_the_next_one_by_the_new() {
    let mut s = gate(1);
    let strict = [TagRule { threshold: Score(65_000), review_low: Score(65_000) }, TagRule::default()];
    told(&mut s, 0, Input::Trigger(at(0)));
    let spare = s.take_spare().expect("one model runs");
    assert_eq!((spare.slot(), s.take_spare()), (Slot::Second, None), "the right is given once");
    let (words, _) = told(&mut s, 1, Input::Model { spare, rules: &strict });
    assert_eq!(words, ["Model { slot: Second, from: PartId(2) }"]);
    told(&mut s, 60, Input::Trigger(at(60)));
    // Part 1 is before the camera when the other model is current.
    let ticket = frame(&mut s, 50).unwrap();
    assert_eq!((ticket.part().id, ticket.model()), (PartId(1), Slot::First));
    assert_eq!(s.take_spare(), None, "part 1 needs the first model");
    assert_eq!(scores(&mut s, 65, ticket, &GOOD), ["1 present accept 0b10"], "by the rules of its model");
    let spare = s.take_spare().expect("part 1 has its end");
    assert_eq!(spare.slot(), Slot::First);
    let ticket = frame(&mut s, 70).unwrap();
    assert_eq!((ticket.part().id, ticket.model()), (PartId(2), Slot::Second));
    assert_eq!(scores(&mut s, 75, ticket, &GOOD), ["2 unknown reject 0b1"], "by the new rules");
    // And back, without a part in between.
    told(&mut s, 80, Input::Model { spare, rules: &[TagRule::default(); 2] });
    assert_eq!(s.take_spare().map(|spare| spare.slot()), Some(Slot::Second), "no part needs the second model");
    told(&mut s, 120, Input::Trigger(at(120)));
    let ticket = frame(&mut s, 130).unwrap();
    assert_eq!(ticket.model(), Slot::First);
    assert_eq!(scores(&mut s, 140, ticket, &GOOD), ["3 present accept 0b10"]);
}

/// The old model is in use still where its part was given up meanwhile.
#[test]
fn a_slot_is_not_free_while_a_frame_is_with_its_model() {
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = frame(&mut s, 10).unwrap();
    let spare = s.take_spare().unwrap();
    told(&mut s, 20, Input::Model { spare, rules: &[TagRule::default(); 2] });
    told(&mut s, 30, Input::Stopped { reason: Reason::Stopped, safe: true });
    assert_eq!(s.take_spare(), None);
    told(&mut s, 40, Input::NotClassified { ticket, reason: Reason::Engine });
    assert_eq!(s.take_spare().map(|spare| spare.slot()), Some(Slot::First));
}

/// Where each frame is a part the next frame is the first of the new model.
#[test]
fn where_outputs_follow_tags_the_next_frame_is_the_new_models() {
    let mut s = station(1, None, |rules| rules.every_frame = true);
    let mut slots = Vec::new();
    for ms in [0, 60, 120] {
        let ticket = frame(&mut s, ms).unwrap();
        slots.push(ticket.model());
        if ms == 0 {
            let spare = s.take_spare().unwrap();
            told(&mut s, ms + 1, Input::Model { spare, rules: &[TagRule::default(); 2] });
        }
        scores(&mut s, ms + 2, ticket, &GOOD);
    }
    assert_eq!(slots, [Slot::First, Slot::Second, Slot::Second]);
    assert_eq!(s.take_spare().map(|spare| spare.slot()), Some(Slot::First));
}

/// Triggers, frames, verdicts, failures and changes of model in any order: every frame and every
/// end is the model's that was current at the trigger, and no slot is free that a part needs.
#[test]
fn whatever_comes_between_each_part_has_one_model_from_its_trigger_to_its_end() {
    let (seed, cases) = crate::random::drawn_cases(300);
    let (mut changes, mut kept) = (0, 0);
    for case in 0..cases {
        let mut random = crate::random::Random::new(seed, case);
        let mut s = gate(1 + random.range(0, 2) as u8);
        // By the number of each part: which of all models was current at its trigger, if it waits.
        let mut waiting = std::collections::BTreeMap::new();
        let (mut held, mut now, mut out) = ([0, 0], 0, None::<Ticket>);
        let (mut current, mut ms, mut parts) = (Slot::First, 0, 0);
        for _ in 0..200 {
            ms += random.range(1, 40) as u64;
            let input = match (random.range(0, 5), out.take()) {
                (0 | 1, None) => Input::Frame { captured_at: exposed(ms), shows: None, print: None },
                (0, Some(ticket)) => Input::NotClassified { ticket, reason: Reason::Engine },
                (1, Some(ticket)) => Input::Scores { ticket, scores: &GOOD, beyond: false },
                (2 | 3, ticket) => {
                    out = ticket;
                    Input::Trigger(at(ms))
                }
                (_, ticket) => {
                    out = ticket;
                    match s.take_spare() {
                        Some(spare) => {
                            let needs = |(_, model): (&u64, &i32)| *model == held[spare.slot() as usize] && *model != now;
                            assert!(!waiting.iter().any(needs), "seed {seed} case {case}: {waiting:?}");
                            kept += waiting.len();
                            changes += 1;
                            now = changes;
                            (current, held[spare.slot() as usize]) = (spare.slot(), now);
                            Input::Model { spare, rules: &[TagRule::default(); 2] }
                        }
                        None => Input::Tick,
                    }
                }
            };
            s.step(at(ms), input, &mut |effect| match effect {
                Effect::Opened { part, .. } => {
                    parts += 1;
                    assert_eq!(part.0, parts);
                    waiting.insert(part.0, now);
                }
                Effect::Classify(ticket) => {
                    let of = held[ticket.model() as usize];
                    assert_eq!(Some(&of), waiting.get(&ticket.part().id.0), "seed {seed} case {case}");
                    out = Some(ticket);
                }
                Effect::Decided(done) => {
                    let of = held[done.model as usize];
                    assert_eq!(Some(of), waiting.remove(&done.part.id.0), "seed {seed} case {case}");
                }
                Effect::Model { slot, from } => assert_eq!((slot, from), (current, PartId(parts + 1))),
                Effect::Over(_) | Effect::Unopened | Effect::Fault { .. } | Effect::Doubt { .. } | Effect::Now { .. } => {}
            });
        }
    }
    assert!(changes > cases as i32 && kept > cases as usize, "{changes} changes, {kept} parts on their way at them");
}
