//! Parts whose image is that of the part before.

use super::*;

/// A frame of a live camera whose bytes have this number.
fn printed(s: &mut Station, ms: u64, print: u64) -> (Vec<std::string::String>, Option<Ticket>) {
    told(s, ms, Input::Frame { captured_at: exposed(ms), shows: None, print: Some(Fingerprint(print)) })
}

/// 32 parts were accepted on one frozen image before anybody told.
#[test]
fn two_parts_in_a_row_with_the_same_image_get_the_late_action() {
    let mut s = gate(1);
    let mut part = |ms: u64, print: u64| {
        told(&mut s, ms, Input::Trigger(at(ms)));
        let (words, ticket) = printed(&mut s, ms + 10, print);
        ticket.map_or(words, |t| scores(&mut s, ms + 20, t, &GOOD))
    };
    const DOUBT: &str = "Doubt { part: PartId(2), reason: Frozen }";
    assert_eq!(part(0, 1), ["1 present accept 0b10"]);
    assert_eq!(part(1000, 2), ["2 present accept 0b10"]);
    assert_eq!(part(1100, 2), [DOUBT, "3 safe reject 0b1", "frozen Part"]);
    assert_eq!(part(1200, 2), ["4 safe reject 0b1", "frozen Part"], "the one before has had the late action");
    assert_eq!(part(1300, 3), ["5 present accept 0b10"], "the camera shows something else again");
    assert_eq!(part(1400, 2), ["6 present accept 0b10"], "only the part before counts");
}

#[test]
fn no_image_of_the_part_before_is_a_parts_own_however_many_it_needs() {
    let mut s = gate(3);
    told(&mut s, 0, Input::Trigger(at(0)));
    for (ms, print) in [(10, 1), (30, 2), (50, 2)] {
        let ticket = printed(&mut s, ms, print).1.expect("within a part equal frames are counted elsewhere");
        scores(&mut s, ms + 10, ticket, &GOOD);
    }
    told(&mut s, 100, Input::Trigger(at(100)));
    let ticket = printed(&mut s, 110, 4).1.unwrap();
    scores(&mut s, 120, ticket, &GOOD);
    let (words, ticket) = printed(&mut s, 130, 1);
    assert_eq!(ticket, None);
    assert_eq!(words, ["Doubt { part: PartId(1), reason: Frozen }", "2 safe reject 0b1", "frozen Part"]);
    assert_eq!(printed(&mut s, 150, 5).1, None, "it has had its end");
}

#[test]
fn a_part_that_has_the_late_action_already_is_not_put_in_doubt_again() {
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = printed(&mut s, 10, 1).1.unwrap();
    told(&mut s, 20, Input::NotClassified { ticket, reason: Reason::Engine });
    told(&mut s, 100, Input::Trigger(at(100)));
    assert_eq!(printed(&mut s, 110, 1).0, ["2 safe reject 0b1", "frozen Part"]);
}

#[test]
fn a_part_that_a_late_trigger_put_in_doubt_is_not_told_again_as_one_that_a_frozen_image_let_pass() {
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = printed(&mut s, 110, 1).1.unwrap();
    assert_eq!(scores(&mut s, 115, ticket, &GOOD), ["1 present accept 0b10"]);
    let (words, _) = told(&mut s, 120, Input::Trigger(at(100)));
    assert!(words.iter().any(|w| w.starts_with("Doubt { part: PartId(1)")), "{words:?}");
    assert_eq!(printed(&mut s, 130, 1).0, ["2 safe reject 0b1", "frozen Part"]);
}

#[test]
fn in_state_mode_and_without_a_number_no_images_are_compared() {
    for (mut s, print) in [(station(1, None, |_| {}), Some(Fingerprint(1))), (gate(1), None)] {
        for ms in [0, 100] {
            told(&mut s, ms, Input::Trigger(at(ms)));
            let ticket =
                told(&mut s, ms + 10, Input::Frame { captured_at: exposed(ms + 10), shows: None, print }).1.unwrap();
            assert!(scores(&mut s, ms + 20, ticket, &GOOD)[0].ends_with("present accept 0b10"));
        }
    }
}

/// A camera stood still, a part took its image, and the fault `frozen` named no part: its gate
/// fired accept seconds later.
#[test]
fn a_part_on_its_way_whose_image_the_camera_stands_still_at_gets_the_late_action() {
    const TOLD: &str = "frozen Part";
    let stuck = |s: &mut Station, ms: u64| told(s, ms, Input::NoFrame(Reason::Frozen)).0;
    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = printed(&mut s, 10, 1).1.unwrap();
    assert_eq!(scores(&mut s, 15, ticket, &GOOD), ["1 present accept 0b10"]);
    printed(&mut s, 20, 1);
    assert_eq!(stuck(&mut s, 30), [TOLD, "Doubt { part: PartId(1), reason: Frozen }"]);
    assert_eq!(stuck(&mut s, 40), [TOLD], "only once");

    let mut s = gate(1);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = printed(&mut s, 10, 1).1.unwrap();
    scores(&mut s, 15, ticket, &GOOD);
    printed(&mut s, 20, 2);
    assert_eq!(stuck(&mut s, 30), [TOLD], "it stands still at another image, which no part took");

    let mut s = gate(3);
    told(&mut s, 0, Input::Trigger(at(0)));
    let ticket = printed(&mut s, 10, 1).1.unwrap();
    scores(&mut s, 15, ticket, &GOOD);
    assert_eq!(stuck(&mut s, 30), [TOLD, "1 safe reject 0b1", TOLD], "undecided");
}
