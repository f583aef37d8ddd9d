//! [decide] and [tags]: the policy over frames, and threshold, action and preference of every tag.

use super::inputs::TriggerTable;
use super::names::Names;
use super::reader::Table;
use super::values::TEN_MINUTES_MS;
use super::*;
use crate::decide::{Combine, Preference};
use crate::head::Score;

const ACTIONS: [(&str, Action); 3] = [
    (Action::Reject.name(), Action::Reject),
    (Action::Accept.name(), Action::Accept),
    (Action::Review.name(), Action::Review),
];

/// An action by its word; reject where nothing is stated.
pub(super) fn action(t: &mut Table<'_>, key: &str) -> Action {
    t.choice(key, &ACTIONS)
}

fn score(p: f64) -> Score {
    Score::from_probability(p as f32).unwrap_or(Score::HALF)
}

/// Reads [decide] and [tags].
pub(super) fn decide(
    root: &mut Table<'_>,
    names: &Names<'_>,
    trigger: &TriggerTable,
    gated: bool,
) -> (Policy, Vec<TagPolicy>) {
    let mut t = root.table("decide");
    let policy = policy(&mut t, trigger, gated);
    let rules = names.model.rules.iter().zip(names.model.roles);
    let mut tags: Vec<TagPolicy> = rules.map(|(rule, role)| TagPolicy::new(*rule, role.action())).collect();
    actions(&mut t, names, &mut tags);
    pick(&mut t, names, &mut tags);
    drop(t);
    thresholds(root, names, &mut tags);
    (policy, tags)
}

fn policy(t: &mut Table<'_>, trigger: &TriggerTable, gated: bool) -> Policy {
    let part = trigger.part;
    let combine = t.choice("combine", &Combine::ALL.map(|c| (c.name(), c)));
    if combine == Combine::Best && trigger.kind == TriggerKind::EveryFrame {
        t.problem("combine", "\"best\" is over the frames of a part; choose a [trigger] kind other than every_frame".into());
    }
    let n = t.integer("n", part.frames as i64, 1..=16) as u8;
    let k = t.integer("k", n.div_ceil(2) as i64, 1..=16) as u8;
    if k > n {
        t.problem("k", format!("k = {k} of n = {n} frames; lower it"));
    }
    if trigger.kind != TriggerKind::EveryFrame && n != part.frames {
        t.problem("n", format!("n = {n}, but a part has [trigger] frames = {}; make them equal", part.frames));
    }
    // In gate mode a part's age is bounded by its deadline; the default must not be shorter than a
    // gate may be away.
    let stale = if gated { TEN_MINUTES_MS } else { 1000 };
    Policy {
        combine,
        n,
        k: k.min(n),
        hysteresis: score(t.real("hysteresis", 0.0, 0.0..=1.0)),
        dwell: Millis(t.integer("dwell_ms", 0, 0..=TEN_MINUTES_MS) as u32),
        stale_after: Millis(t.integer("stale_after_ms", stale, 1..=TEN_MINUTES_MS) as u32),
        unknown: action(t, "unknown"),
        foreign: action(t, "foreign"),
    }
}

/// Gives each category that was named since a policy of its own, behind those of the model's tags.
pub(super) fn cover(tags: &mut Vec<TagPolicy>, names: &Names<'_>) {
    let behind = tags.len() - names.model.names.len();
    let leaves = |category: &NamedCategory| category.leaves.iter().count() as u16;
    tags.extend(names.named().iter().skip(behind).map(|c| TagPolicy::category(leaves(c))));
}

/// The lists `accept`, `reject` and `review`: each tag that they name gets that action instead of
/// its role's.
fn actions(t: &mut Table<'_>, names: &Names<'_>, tags: &mut Vec<TagPolicy>) {
    let mut listed = TagSet::EMPTY;
    for action in Action::ALL {
        for (name, at) in t.texts(action.name()) {
            match names.id(&name) {
                Err(why) => t.problem_at(at, why),
                Ok(id) if listed.contains(id) => {
                    t.problem_at(at, format!("tag \"{name}\" stands in two lists or twice; keep one"));
                }
                Ok(id) => {
                    listed.insert(id);
                    cover(tags, names);
                    tags[id.0 as usize].action = action;
                }
            }
        }
    }
}

/// `pick = "top"`, or tags in the order of preference.
fn pick(t: &mut Table<'_>, names: &Names<'_>, tags: &mut Vec<TagPolicy>) {
    if t.is_text("pick") {
        return t.choice("pick", &[("top", ())]);
    }
    for (place, (name, at)) in t.texts("pick").into_iter().enumerate() {
        match names.id(&name) {
            Err(why) => t.problem_at(at, why),
            Ok(id) => {
                cover(tags, names);
                match &mut tags[id.0 as usize].preference {
                    listed if listed.is_listed() => {
                        t.problem_at(at, format!("tag \"{name}\" stands in pick twice; keep one"));
                    }
                    free => *free = Preference(place as u16),
                }
            }
        }
    }
}

/// [tags]: `default` for every tag of the model, then one table a tag or category; over the
/// bundle's.
fn thresholds(root: &mut Table<'_>, names: &Names<'_>, tags: &mut Vec<TagPolicy>) {
    let mut tables = root.table("tags");
    if tables.has("default") {
        let mut t = tables.table("default");
        tags.iter_mut().filter(|tag| !tag.is_category).for_each(|tag| rule(&mut t, &mut tag.rule));
    }
    for name in tables.names() {
        if name == "default" {
            continue;
        }
        let mut t = tables.table(&name);
        match names.id(&name) {
            Ok(id) => {
                cover(tags, names);
                rule(&mut t, &mut tags[id.0 as usize].rule);
            }
            Err(why) => {
                t.allow_all();
                tables.problem(&name, why);
            }
        }
    }
}

/// One tag's `threshold` and `review_low`; a band that the table does not state ends at the
/// threshold that it does.
pub(super) fn rule(t: &mut Table<'_>, rule: &mut TagRule) {
    if t.has("threshold") {
        rule.threshold = score(t.real("threshold", 0.5, 0.0..=1.0));
    }
    rule.review_low = match t.has("review_low") {
        true => score(t.real("review_low", 0.5, 0.0..=1.0)),
        false => rule.review_low.min(rule.threshold),
    };
    if rule.review_low > rule.threshold {
        t.problem("review_low", "lies above threshold; lower it".into());
        rule.review_low = rule.threshold;
    }
}
