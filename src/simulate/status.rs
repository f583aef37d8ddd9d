//! Outputs that parts do not move, and the sensor behind the gate: what must have been shown and
//! told, from the ledger's own record of the belt.
//!
//! A naive reading again: `busy` while a part that was told of has no verdict and has not been at
//! its first gate; `ready` while the camera's last frame could be used and another part can be
//! followed; `fault` from anything that failed until the button, a part whose
//! level was never there among it; a heartbeat that changes every
//! half period. All are safe while the program is not there.

use super::ledger::{Edge, Ledger, MOST_IN_FLIGHT, Noted};
use super::site::{Confirm, Moves, Shows};
use std::collections::{BTreeMap, BTreeSet};

/// How long what was seen in time may be on its way to the line.
const ON_ITS_WAY_US: u64 = 20_000;

/// A line's state from each moment on.
type Steps = Vec<(u64, bool)>;

/// Judges what the ledger holds; `called`: the lines that each part calls for.
pub(super) fn judge(ledger: &mut Ledger, found: &BTreeMap<String, Vec<Edge>>, called: &[BTreeSet<usize>]) {
    let (not_rejected, unexpected) = confirmations(ledger, called);
    compare_told(ledger, &not_rejected, &unexpected);
    for status in ledger.site.statuses.clone() {
        let none = Vec::new();
        let edges = found.get(&status.name).unwrap_or(&none);
        let mut is: Steps = edges.iter().map(|e| (e.at.as_micros(), e.active)).collect();
        settle(&mut is, status.safe_active);
        let wrong = match status.shows {
            Shows::Heartbeat(half) => beats(ledger, &is, half, status.safe_active),
            Shows::Busy => {
                compare(&running(ledger, intervals(ledger, undecided), status.safe_active), &is, status.safe_active)
            }
            Shows::Ready => compare(&running(ledger, ready(ledger), status.safe_active), &is, status.safe_active),
            Shows::Fault => {
                let faults = faults(ledger, called, &not_rejected, &unexpected);
                compare(&running(ledger, faults, status.safe_active), &is, status.safe_active)
            }
        };
        if let Some(at) = wrong.first()
            && ledger.first.is_none()
        {
            ledger.first = Some(format!("output {} at {at} us: not what it must show", status.name));
        }
        ledger.verdict.not_safe += wrong.len() as u64;
    }
}

/// One state a moment, and only changes.
fn settle(steps: &mut Steps, first: bool) {
    steps.reverse();
    steps.sort_by_key(|(at, _)| *at);
    steps.dedup_by_key(|(at, _)| *at);
    let mut state = first;
    steps.retain(|(_, to)| std::mem::replace(&mut state, *to) != *to);
}

/// The moments at which two lines differ.
fn compare(wanted: &Steps, is: &Steps, first: bool) -> Vec<u64> {
    let all: BTreeSet<u64> = wanted.iter().chain(is).map(|(at, _)| *at).collect();
    let (mut w, mut i) = (wanted.iter().peekable(), is.iter().peekable());
    let (mut want, mut state) = (first, first);
    all.into_iter()
        .filter(|now| {
            while let Some((_, to)) = w.next_if(|(at, _)| at <= now) {
                want = *to;
            }
            while let Some((_, to)) = i.next_if(|(at, _)| at <= now) {
                state = *to;
            }
            want != state
        })
        .collect()
}

/// The same with the safe state whenever the program is not there.
fn running(ledger: &Ledger, mut steps: Steps, safe: bool) -> Steps {
    settle(&mut steps, false);
    let (mut at, mut state, mut runs) = (steps.into_iter().peekable(), false, false);
    let mut shown = Vec::new();
    for (when, runs_then) in runs_at(ledger).into_iter().chain([(u64::MAX, false)]) {
        while let Some((now, to)) = at.next_if(|(now, _)| *now < when) {
            state = to;
            shown.extend(runs.then_some((now, to)));
        }
        while let Some((_, to)) = at.next_if(|(now, _)| *now == when) {
            state = to;
        }
        runs = runs_then;
        shown.push((when, if runs { state } else { safe }));
    }
    shown.pop();
    settle(&mut shown, safe);
    shown
}

/// When the program began and ended.
fn runs_at(ledger: &Ledger) -> Steps {
    let runs = |noted| match noted {
        Noted::Started => Some(true),
        Noted::Stopped => Some(false),
        _ => None,
    };
    ledger.noted.iter().filter_map(|(at, noted)| Some((*at, runs(*noted)?))).collect()
}

/// From its telling until `end`, or until the line went safe.
fn spans<'l>(ledger: &'l Ledger, end: fn(&Ledger, usize) -> Option<u64>) -> impl Iterator<Item = (u64, u64)> + 'l {
    ledger.parts.iter().enumerate().map(move |(n, p)| {
        let safe = ledger.safe_at.get(p.safes_before).copied().unwrap_or(u64::MAX);
        (p.told, end(ledger, n).unwrap_or(u64::MAX).min(safe))
    })
}

/// How many spans there are from each moment on.
fn counts(ledger: &Ledger, end: fn(&Ledger, usize) -> Option<u64>) -> Vec<(u64, i64)> {
    let mut changes: BTreeMap<u64, i64> = BTreeMap::new();
    for (from, to) in spans(ledger, end).filter(|(from, to)| from < to) {
        *changes.entry(from).or_default() += 1;
        *changes.entry(to).or_default() -= 1;
    }
    let mut n = 0;
    let mut count = |(at, change)| {
        n += change;
        (at, n)
    };
    changes.into_iter().map(&mut count).collect()
}

fn intervals(ledger: &Ledger, end: fn(&Ledger, usize) -> Option<u64>) -> Steps {
    counts(ledger, end).into_iter().map(|(at, n)| (at, n > 0)).collect()
}

/// When a part is no longer without a verdict.
fn undecided(ledger: &Ledger, n: usize) -> Option<u64> {
    let p = &ledger.parts[n];
    let ended = p.ended.map(|at| ledger.done(at));
    [ended, p.doubted, ledger.first_gate(p)].into_iter().flatten().min()
}

fn in_flight(ledger: &Ledger, n: usize) -> Option<u64> {
    ledger.last_gate(&ledger.parts[n])
}

fn ready(ledger: &Ledger) -> Steps {
    /// What changed: whether the camera works, whether another part fits.
    type Change = (Option<bool>, Option<bool>);
    let room = counts(ledger, in_flight).into_iter().map(|(at, n)| (at, (None, Some(n < MOST_IN_FLIGHT as i64))));
    let camera = ledger.noted.iter().filter_map(|(at, noted)| match noted {
        Noted::Camera(works) => Some((*at, (Some(*works), None))),
        // The program takes it to work until it has failed.
        Noted::Started => Some((*at, (Some(true), None))),
        _ => None,
    });
    let mut all: Vec<(u64, Change)> = room.chain(camera).collect();
    all.sort_by_key(|(at, _)| *at);
    let (mut works, mut fits) = (true, true);
    let mut both = |(at, (camera, room)): (u64, Change)| {
        (works, fits) = (camera.unwrap_or(works), room.unwrap_or(fits));
        (at, works && fits)
    };
    all.into_iter().map(&mut both).collect()
}

/// Parts that were not seen behind the gate, with the moment at which that is told; and when
/// something unexpected was seen.
fn confirmations(ledger: &Ledger, called: &[BTreeSet<usize>]) -> (Vec<(u64, u64)>, Vec<u64>) {
    let Some(Confirm { line, within_us }) = ledger.site.confirm else { return (Vec::new(), Vec::new()) };
    let thrown = ledger.course(line, 0, |n| called[n].contains(&line)).1.into_iter().filter(|pulse| pulse.in_time);
    // Where the run ended meanwhile nobody waits any more.
    let stops: Vec<u64> = runs_at(ledger).into_iter().filter(|(_, runs)| !runs).map(|(at, _)| at).collect();
    let stop_after = |at: u64| stops.get(stops.partition_point(|s| *s <= at)).copied().unwrap_or(u64::MAX);
    let last_word = |at: u64| ledger.done(ledger.done(at + within_us + 1) + ON_ITS_WAY_US);
    let mut waiting: Vec<(u64, u64)> = thrown.map(|pulse| (pulse.done, pulse.part as u64)).collect();
    waiting.sort_unstable();
    let mut unexpected = Vec::new();
    for (told, noted) in &ledger.noted {
        let Noted::Seen(at) = *noted else { continue };
        let from = waiting.partition_point(|(start, _)| start + within_us < at);
        let is_it = |&&(start, part): &&(u64, u64)| {
            part != u64::MAX && start <= at && start < *told && *told <= last_word(start).min(stop_after(start))
        };
        match waiting[from..].iter().take_while(|(start, _)| *start <= at).position(|w| is_it(&w)) {
            Some(found) => waiting[from + found].1 = u64::MAX,
            None => unexpected.push(*told),
        }
    }
    let mut not_rejected: Vec<(u64, u64)> = waiting
        .into_iter()
        .filter(|(start, part)| *part != u64::MAX && last_word(*start) <= stop_after(*start))
        .map(|(start, part)| (part, last_word(start)))
        .collect();
    not_rejected.sort_unstable();
    (not_rejected, unexpected)
}

/// What was told of the sensor behind the gate against what must have been.
fn compare_told(ledger: &mut Ledger, not_rejected: &[(u64, u64)], unexpected: &[u64]) {
    let mut told: Vec<(u64, u64)> = Vec::new();
    let mut told_unexpected = Vec::new();
    for (at, noted) in &ledger.noted {
        match noted {
            Noted::ToldNotRejected(part) => told.push((*part, *at)),
            Noted::ToldUnexpected => told_unexpected.push(*at),
            _ => {}
        }
    }
    told.sort_unstable();
    // What lies behind the last moment that was run is not told any more.
    let end = ledger.noted.last().map_or(0, |(at, _)| *at);
    let difference = |a: &[(u64, u64)], b: &[(u64, u64)]| -> Vec<(u64, u64)> {
        a.iter().filter(|x| x.1 <= end && b.binary_search(x).is_err()).copied().collect()
    };
    let (lost, surplus) = (difference(not_rejected, &told), difference(&told, not_rejected));
    if ledger.first.is_none() && (told_unexpected != unexpected || !lost.is_empty() || !surplus.is_empty()) {
        ledger.first = Some(format!(
            "the sensor behind the gate: not told {:?}, wrongly told {:?}, unexpected {} instead of {}",
            lost.first(),
            surplus.first(),
            told_unexpected.len(),
            unexpected.len()
        ));
    }
    ledger.verdict.lost += lost.len() as u64;
    ledger.verdict.doubled += surplus.len() as u64 + u64::from(told_unexpected != unexpected);
}

/// Active from what failed until the button. At one moment what is told comes first, then the
/// button, then what is due.
fn faults(ledger: &Ledger, called: &[BTreeSet<usize>], not_rejected: &[(u64, u64)], unexpected: &[u64]) -> Steps {
    let mut all: Vec<(u64, u8, bool)> = Vec::new();
    let (mut pressed, mut begun) = (BTreeSet::new(), BTreeSet::new());
    for (at, noted) in &ledger.noted {
        match noted {
            // Before or after the button or the program's start, as it was noted.
            Noted::Safe if begun.contains(at) => all.push((*at, 4, true)),
            Noted::Safe => all.push((*at, if pressed.contains(at) { 2 } else { 0 }, true)),
            Noted::Acknowledged => {
                pressed.insert(*at);
                all.push((*at, 1, false));
            }
            Noted::Stopped | Noted::Started => {
                begun.insert(*at);
                all.push((*at, 3, false));
            }
            _ => {}
        }
    }
    all.extend(unexpected.iter().map(|at| (*at, 0, true)));
    all.extend(not_rejected.iter().map(|(_, at)| (*at, 2, true)));
    for (i, _) in ledger.site.lines.iter().enumerate().filter(|(_, l)| matches!(l.moves, Moves::Pulse(_))) {
        let missed = ledger.course(i, 0, |n| called[n].contains(&i)).1.into_iter().filter(|pulse| !pulse.in_time);
        all.extend(missed.map(|pulse| (pulse.done, 2, true)));
    }
    for (i, line) in ledger.site.lines.iter().enumerate().filter(|(_, l)| matches!(l.moves, Moves::Level)) {
        all.extend(skipped(ledger, i, called, line.safe_active).into_iter().map(|done| (done, 2, true)));
    }
    all.sort_unstable();
    all.into_iter().map(|(at, _, active)| (at, active)).collect()
}

/// Moments at which several parts have passed a level line's gate since the program last looked,
/// and one of them but the newest wanted another state than there was: the line was never right for
/// it.
fn skipped(ledger: &Ledger, i: usize, called: &[BTreeSet<usize>], safe: bool) -> Vec<u64> {
    let mut at: Vec<(u64, usize, bool)> = ledger.at_gate(i).map(|(n, _, done)| (done, n, called[n].contains(&i))).collect();
    at.sort_unstable();
    let states = ledger.course(i, 0, |n| called[n].contains(&i)).0;
    let is_skip = |calls: &&[(u64, usize, bool)]| {
        let before = states[..states.partition_point(|s| s.0 < calls[0].0)].last().map_or(safe, |s| s.1);
        calls[..calls.len() - 1].iter().any(|c| c.2 != before)
    };
    at.chunk_by(|a, b| a.0 == b.0).filter(is_skip).map(|calls| calls[0].0).collect()
}

/// Moments at which a heartbeat came too soon or not in time; while the program is not there it
/// rests.
fn beats(ledger: &Ledger, is: &Steps, half: u64, safe: bool) -> Vec<u64> {
    let mut wrong = Vec::new();
    let ends = runs_at(ledger).into_iter().chain([(u64::MAX, false)]);
    let (mut runs, mut from, mut at, mut state) = (false, 0, 0, safe);
    for (when, runs_then) in ends {
        let mut last: Option<u64> = None;
        let count = is[at..].partition_point(|(beat, _)| *beat < when);
        for (beat, to) in &is[at..at + count] {
            state = *to;
            // The first beat may come at any time within half a period; then each exactly, but
            // where the program stood still.
            let exact = last.map_or(*beat <= from + half, |last| *beat == last + half);
            let stood = ledger.stood_still(last.unwrap_or(from), *beat);
            if !runs || !exact && stood.is_none_or(|end| *beat > end + half) {
                wrong.push(*beat);
            }
            last = Some(*beat);
        }
        at += count;
        let end = when.min(ledger.noted.last().map_or(0, |(at, _)| *at));
        let last = last.unwrap_or(from);
        if runs && last + half < end && ledger.stood_still(last, end).is_none_or(|stood| stood + half < end) {
            wrong.push(end);
        }
        // At its end the program leaves the line safe, at that moment.
        while let Some((_, to)) = is.get(at).filter(|(beat, _)| *beat == when) {
            (state, at) = (*to, at + 1);
        }
        if !runs_then && when < u64::MAX && state != safe {
            wrong.push(when);
        }
        (runs, from) = (runs_then, when);
    }
    wrong
}
