//! The rescue: where a write to one output does not come back, a thread of its own makes the others
//! safe.
//!
//! It holds a second way to each line, opened at start. A GPIO line is a request of its own, and
//! the kernel locks a request, not its chip, while it writes: so the lines of other chips are
//! written at once. A chip whose driver hangs may hold the lines of its own up too, so those are
//! written last.
//!
//! A write counts as hung only while this thread itself runs: a process that was stopped, or a
//! machine that was, hangs in no write. Half of the watchdog's time is given to it, so that the
//! lines are safe within the whole.

use super::Ended;
use super::actuation::{REMEMBERED, Rescue, Second, at_rest_late, count_given_up, realtime};
use super::shared::Shared;
use super::unchanged::Unchanged;
use crate::events::{EdgeEvent, FaultKind, Outcome, Remedy, What, Why};
use crate::fault::Reason;
use crate::outputs::{Backend, State};
use crate::time::{Clock, Instant, Micros};
use std::sync::atomic::Ordering;

/// Whether a hung write to `one` may hold up a write to `other`.
fn may_share_a_lock(one: &Backend, other: &Backend) -> bool {
    match (one, other) {
        (Backend::Gpiochip { chip: one, .. }, Backend::Gpiochip { chip: other, .. }) => one == other,
        _ => false,
    }
}

/// For how long one write has been under way, as far as looks at it can tell.
#[derive(Default)]
struct Hang(Unchanged<Option<(u64, usize)>>);

impl Hang {
    /// A look at `now`, `look` after the one before or later; the line whose write is under way,
    /// and for how long.
    fn look(&mut self, now: Instant, under_way: Option<(u64, usize)>, look: Micros) -> Option<(usize, Micros)> {
        let hung = self.0.look(now, under_way, look);
        under_way.map(|(_, line)| (line, hung))
    }
}

impl Rescue {
    /// Watches until the outputs have ended, or one of them hung. `watchdog`: the time within which
    /// the others must be safe.
    pub(super) fn watch(mut self, shared: &Shared, watchdog: Micros, gated: bool) {
        /// Longest time between two looks.
        const LOOK: Micros = Micros(20_000);
        let patience = Micros(watchdog.0 / 2);
        let look = Micros(patience.0 / 8).min(LOOK);
        if gated {
            // What is missing is told by the outputs' thread.
            _ = realtime::schedule();
        }
        let mut hang = Hang::default();
        while !shared.over.load(Ordering::Relaxed) {
            std::thread::sleep(look.duration());
            let hung = hang.look(shared.clock.now(), self.stand.under_way(), look);
            if let Some((line, hung)) = hung.filter(|(_, hung)| *hung >= patience) {
                return self.make_safe(line, hung, shared);
            }
        }
    }

    fn make_safe(&mut self, hung_line: usize, hung: Micros, shared: &Shared) {
        self.stand.rescue();
        let Second { name, backend, .. } = &self.lines[hung_line];
        let (backend, seconds) = (backend.clone(), hung.0 as f64 / 1e6);
        let what = Why::of(&format_args!("output \"{name}\" hung for {seconds:.1} s"));
        let why = Why::of(&format_args!(
            "output \"{name}\": a write has not come back for {seconds:.1} s; its state is unknown, the others are made safe; \
             look at its chip and wiring"
        ));
        // Nobody else sets it.
        let _ = shared.stuck.set(what);
        shared.events.fault(Reason::Output, None, Remedy::Safe, why);
        let (first, last) = (self.stand.waiting(), shared.opened.load(Ordering::Acquire));
        // Beyond these nothing is remembered.
        let first = first.max((last + 1).saturating_sub(REMEMBERED as u64));
        let waiting = (first..=last).filter(|part| self.stand.is_waiting(*part).0);
        let parts: heapless::Vec<u64, REMEMBERED> = waiting.collect();
        parts.iter().filter(|part| self.stand.is_waiting(**part).1).for_each(|part| self.stand.give_up(*part));
        count_given_up(&parts, true, &shared.events);
        shared.end(Ended::Stuck);
        for last in [false, true] {
            for i in (0..self.lines.len()).filter(|i| *i != hung_line) {
                if may_share_a_lock(&backend, &self.lines[i].backend) == last {
                    self.make_line_safe(i, shared);
                }
            }
        }
        shared.rescue_over.store(true, Ordering::Release);
    }

    fn make_line_safe(&mut self, i: usize, shared: &Shared) {
        let line = &mut self.lines[i];
        let ((before, part), now) = (self.stand.line(i), shared.clock.now());
        // A pulse that was to end while the other output's write hung is not cut by this.
        let overdue = self.stand.end_of(i).filter(|end| *end < now);
        let scheduled = overdue.unwrap_or(now);
        let written = line.output.apply(line.safe);
        let done = shared.clock.now();
        if written.is_ok() {
            self.stand.confirm(i);
        }
        let ends = line.is_pulse && (before, line.safe) == (State::Active, State::Inactive);
        let outcome = match (&written, ends && overdue.is_none()) {
            (Ok(()), true) => Outcome::Cut,
            (Ok(()), false) => Outcome::Done,
            (Err(_), _) => Outcome::Failed,
        };
        if before != line.safe || outcome == Outcome::Failed {
            let part = if ends { part } else { 0 };
            let edge = EdgeEvent { part, output: i as u8, state: line.safe, scheduled, done, outcome };
            shared.events.tell(What::Edge(edge));
        }
        let late = overdue.filter(|_| ends).map(|end| now.since(end)).filter(|late| *late > self.late);
        if let Some(late) = late {
            shared.events.fault(FaultKind::LateEdge, Some(part), Remedy::Told, at_rest_late(&line.name, part, late));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Role, TagRule, Task};
    use crate::events::{Events, FaultEvent};
    use crate::line::LineMask;
    use crate::outputs::Output;
    use crate::outputs::WriteError;
    use crate::settings::{ModelTags, Settings};
    use crate::station::Station;
    use crate::supervisor::SystemClock;
    use crate::supervisor::actuation::{Patience, Stand};
    use crate::supervisor::truth::Observer;
    use State::{Active, Inactive};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// What was written, in its order.
    type Written = Arc<Mutex<Vec<(&'static str, State)>>>;

    /// A second way to a line; `refuses`: its writes fail.
    struct Pin {
        name: &'static str,
        written: Written,
        refuses: bool,
    }

    impl Output for Pin {
        fn apply(&mut self, state: State) -> Result<(), WriteError> {
            self.written.lock().unwrap().push((self.name, state));
            if self.refuses { Err(WriteError::Drill) } else { Ok(()) }
        }

        fn second(&self) -> Box<dyn Output> {
            unreachable!("it is the second")
        }
    }

    fn shared(stand: Arc<Stand>) -> Shared {
        let tags = ModelTags { names: &["bolt"], rules: &[TagRule::default()], roles: &[Role::Good], categories: None };
        let settings = Settings::parse("", "test", tags).unwrap();
        let station = Station::new(settings.station(Task::Multiclass, 0)).unwrap();
        let events = Arc::new(Events::kept(Arc::new(SystemClock)));
        Shared::new(station, events, None, Patience::of(&settings), Observer::default(), stand).0
    }

    fn chip(chip: &str) -> Backend {
        Backend::Gpiochip { chip: chip.into(), line: "1".into() }
    }

    /// Lines by name, chip, safe state, whether they move in pulses, and the state and part that
    /// they were last brought to.
    fn rescue(lines: &[(&'static str, Backend, State, bool, State, u64)]) -> (Rescue, Written) {
        let (stand, written) = (Arc::<Stand>::default(), Written::default());
        let lines = lines.iter().enumerate().map(|(i, (name, backend, safe, is_pulse, state, part))| {
            stand.set(i, *state, *part);
            let output = Box::new(Pin { name, written: written.clone(), refuses: *name == "broken" });
            Second { name: (*name).into(), output, backend: backend.clone(), safe: *safe, is_pulse: *is_pulse }
        });
        (Rescue { lines: lines.collect(), stand: stand.clone(), late: Micros(5_000) }, written)
    }

    /// Edges and faults that were told so far.
    fn told(shared: &Shared) -> (Vec<EdgeEvent>, Vec<FaultEvent>) {
        let (mut told, mut edges, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        shared.events.take_all(&mut told);
        for event in told {
            match event.what {
                What::Edge(edge) => edges.push(edge),
                What::Fault(fault) => faults.push(fault),
                _ => {}
            }
        }
        (edges, faults)
    }

    #[test]
    fn where_a_write_hangs_the_other_chips_lines_are_safe_first_then_those_of_its_own_chip() {
        let lines = [
            ("stuck", chip("a"), Inactive, true, Active, 6),
            ("beside", chip("a"), Inactive, true, Active, 7),
            ("other", chip("b"), Inactive, true, Active, 8),
            ("lamp", chip("b"), Inactive, false, Active, 9),
            ("idle", Backend::Rppal { pin: 4 }, Inactive, true, Inactive, 10),
            ("broken", chip("b"), Inactive, true, Inactive, 11),
            ("held", chip("b"), Active, true, Inactive, 12),
        ];
        let (rescue, written) = rescue(&lines);
        let stand = rescue.stand.clone();
        let shared = shared(stand.clone());
        let begin = shared.clock.now();
        // Parts 3, 4 and 6 are sorted, 5 is at its first gate of two, 7 and 8 came since the outputs
        // looked.
        stand.set_waiting([(2, true), (5, false)].into_iter(), 7);
        shared.opened.store(8, Ordering::Release);
        stand.begin(0);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| rescue.watch(&shared, Micros(1_000_000), false));
            while !watch.is_finished() && shared.clock.now().since(begin) < Micros(10_000_000) {
                std::thread::sleep(Duration::from_millis(1));
            }
            shared.over.store(true, Ordering::Relaxed);
        });
        let took = shared.clock.now().since(begin);
        assert!(took >= Micros(500_000) && took < Micros(1_900_000), "half of the watchdog's time: {took:?}");
        let first = [("other", Inactive), ("lamp", Inactive), ("idle", Inactive), ("broken", Inactive), ("held", Active)];
        let mut expected = first.to_vec();
        expected.push(("beside", Inactive));
        assert_eq!(*written.lock().unwrap(), expected);
        assert_eq!((stand.is_rescued(), stand.confirmed()), (true, 0b101_1110));
        assert!(shared.rescue_over.load(Ordering::Relaxed));
        assert_eq!(shared.ended.why(), Some(Ended::Stuck));
        let stuck = shared.stuck.get().unwrap().as_str();
        assert!(
            stuck.starts_with("output \"stuck\" hung for 0.") || stuck.starts_with("output \"stuck\" hung for 1."),
            "{stuck}"
        );
        let (edges, faults) = told(&shared);
        let edges: Vec<_> = edges.iter().map(|e| (e.output, e.part, e.state, e.outcome)).collect();
        let faults: Vec<_> = faults.iter().map(|f| (f.kind, f.remedy, f.why.as_str().to_owned())).collect();
        let (cut, done) = (Outcome::Cut, Outcome::Done);
        let first = [(2, 8, Inactive, cut), (3, 0, Inactive, done), (5, 0, Inactive, Outcome::Failed), (6, 0, Active, done)];
        let mut expected = first.to_vec();
        expected.push((1, 7, Inactive, cut));
        assert_eq!(edges, expected, "what was safe before is not told");
        let [(kind, remedy, why), given_up @ ..] = &faults[..] else { panic!("{faults:?}") };
        assert_eq!((*kind, *remedy), (FaultKind::Line(Reason::Output), Remedy::Safe));
        assert!(why.starts_with("output \"stuck\": a write has not come back for "), "{why}");
        // Parts that were sorted between those that wait were named too.
        let parts = ["part 2 was on", "part 5 was on", "parts 7 to 8 were on"];
        let are_named =
            given_up.iter().zip(parts).all(|((kind, _, why), part)| *kind == FaultKind::GivenUp && why.starts_with(part));
        assert!(given_up.len() == parts.len() && are_named, "{given_up:?}");
        assert_eq!(shared.events.counters().figures().given_up, 4);
        assert_eq!((1..=9).filter(|part| stand.is_given_up(*part)).collect::<Vec<_>>(), [2, 7, 8]);
    }

    /// A pulse that should have ended while another output's write hung was told as cut before its
    /// time; it had lasted for half of the watchdog's, and hit what passed meanwhile.
    #[test]
    fn a_pulse_whose_end_came_while_a_write_hung_is_told_as_late_and_one_still_to_end_as_cut() {
        let lines = [
            ("stuck", chip("a"), Inactive, true, Active, 6),
            ("over", chip("b"), Inactive, true, Active, 7),
            ("in time", chip("b"), Inactive, true, Active, 8),
        ];
        let (rescue, _) = rescue(&lines);
        let stand = rescue.stand.clone();
        let shared = shared(stand.clone());
        let now = shared.clock.now();
        let ends = [None, Some(now.plus(Micros(20_000))), Some(now.plus(Micros(60_000_000)))];
        stand.set_ends(ends.into_iter(), LineMask::MAX);
        stand.begin(0);
        rescue.watch(&shared, Micros(400_000), false);
        let (edges, faults) = told(&shared);
        let edges: Vec<_> = edges.iter().map(|e| (e.output, e.part, e.outcome)).collect();
        assert_eq!(edges, [(1, 7, Outcome::Done), (2, 8, Outcome::Cut)]);
        let late: Vec<_> = faults.iter().filter(|f| f.kind == FaultKind::LateEdge).collect();
        assert_eq!(late.iter().map(|f| f.part).collect::<Vec<_>>(), [Some(7)]);
        let ms = late[0].why.as_str().strip_prefix("output over went to rest ").and_then(|why| why.split(' ').next());
        assert!((150.0..5_000.0).contains(&ms.unwrap().parse::<f64>().unwrap()), "{}", late[0].why.as_str());
    }

    /// A process that was stopped for a while found its own write hanging when it went on, and gave
    /// a good output up.
    #[test]
    fn time_in_which_nobody_looked_is_no_hang_of_a_write() {
        const LOOK: Micros = Micros(20_000);
        let at = |ms: u64| Instant::from_micros(ms * 1000);
        let look = |looks: &[(u64, Option<(u64, usize)>)]| {
            let mut hang = Hang::default();
            looks.iter().fold(None, |_, (ms, under_way)| hang.look(at(*ms), *under_way, LOOK))
        };
        let write = Some((7, 2));
        assert_eq!(look(&[(20, write)]), Some((2, Micros(0))), "it may have begun this moment");
        assert_eq!(look(&[(20, write), (40, write), (65, write)]), Some((2, Micros(45_000))));
        assert_eq!(look(&[(20, write), (40, write), (9_000, write)]), Some((2, Micros(60_000))), "stopped for 9 s");
        assert_eq!(look(&[(20, write), (9_000, write), (9_020, write)]), Some((2, Micros(60_000))), "and it goes on");
        assert_eq!(look(&[(20, write), (40, Some((8, 2)))]), Some((2, Micros(0))), "the next write of this line");
        assert_eq!(look(&[(20, write), (40, None), (60, write)]), Some((2, Micros(0))));
        assert_eq!(look(&[(20, write), (40, None)]), None);
    }

    #[test]
    fn writes_that_come_back_are_no_hang_however_many_there_are() {
        let (rescue, written) = rescue(&[("slow", chip("a"), Inactive, true, Active, 1)]);
        let stand = rescue.stand.clone();
        let shared = shared(stand.clone());
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| rescue.watch(&shared, Micros(2_000_000), false));
            for _ in 0..6 {
                stand.begin(0);
                std::thread::sleep(Duration::from_millis(250));
                stand.end();
            }
            assert!(!watch.is_finished(), "it watches to the run's end");
            shared.over.store(true, Ordering::Relaxed);
        });
        assert!(!stand.is_rescued() && written.lock().unwrap().is_empty());
        assert_eq!(shared.ended.why(), None);
    }
}
