//! What a run has beside its line: who looks at each classified frame, new rules and models for the
//! parts to come, and how the parts of each model ended.
//!
//! The line's thread hands all over in passing. It waits for nobody: whoever looks takes what it is
//! shown at once or misses it, and rules or a model that are being handed over at that moment are
//! taken a beat later.

use super::change::Change;
use super::vision::Model;
use crate::audit::Acknowledges;
use crate::decide::TagRule;
use crate::events::Why;
use crate::head::Score;
use crate::sources::FrameBuffer;
use crate::time::Instant;
use crossbeam_queue::ArrayQueue;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A frame that was classified.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The part that it counts for.
    pub part: u64,
    /// Its stamp.
    pub captured_at: Instant,
    /// The model's input image, RGB8.
    pub rgb: &'a [u8],
    /// Its scores, one a tag in the bundle's order.
    pub scores: &'a [Score],
    /// Whether it lies beyond the distance limit.
    pub beyond: bool,
}

/// Looks at each classified frame, on the line's thread: it must neither wait nor allocate, nor
/// panic.
pub trait Onlooker: Send + Sync {
    /// `frame`: the frame itself, which may be exchanged for memory of the onlooker's own.
    fn saw(&self, seen: &Seen<'_>, frame: &mut FrameBuffer);
}

/// A bundle's hash.
type Sha256 = [u8; 32];

/// What waits for the line, and what it has given back.
struct Orders {
    /// The newest bundle that was handed over.
    newest: Sha256,
    /// Its rules, before anybody changed them.
    base: Vec<TagRule>,
    /// The newest rules that were handed over.
    now: Vec<TagRule>,
    model: Option<(Box<Model>, Vec<TagRule>)>,
    /// Why the line goes back to that model, where it does.
    back: Option<Why>,
    rules: Option<Vec<TagRule>>,
    #[expect(clippy::vec_box, reason = "the line hands its box on: it neither moves nor frees a model")]
    left: Vec<Box<Model>>,
}

/// A part had its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEnd {
    /// The bundle that decided it.
    pub bundle: Sha256,
    /// Whether it had been at its first gate by then.
    pub late: bool,
}

/// A bundle's engine gave no logits, or none that are an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFailed {
    /// The bundle.
    pub bundle: Sha256,
    /// The part whose frame it had.
    pub part: u64,
    /// Why.
    pub why: Why,
}

/// New thresholds, bands and models on their way to the line, and what became of its parts on the
/// way back.
pub struct Tuning {
    waits: AtomicBool,
    orders: Mutex<Orders>,
    ends: ArrayQueue<PartEnd>,
    failures: ArrayQueue<EngineFailed>,
}

/// Rules were made for a bundle that another one has taken the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherBundle;

impl Tuning {
    /// Ends of parts that may wait to be looked at: ten seconds of a fast line.
    const ENDS: usize = 1024;
    /// Failures that may wait: the first counts.
    const FAILURES: usize = 4;

    /// Nothing waits. The line runs the bundle `sha256` with `base`, one rule a tag.
    pub fn new(sha256: Sha256, base: Vec<TagRule>) -> Self {
        let orders = Orders {
            newest: sha256,
            now: base.clone(),
            base,
            model: None,
            back: None,
            rules: None,
            left: Vec::with_capacity(2),
        };
        let (ends, failures) = (ArrayQueue::new(Self::ENDS), ArrayQueue::new(Self::FAILURES));
        Self { waits: AtomicBool::new(false), orders: Mutex::new(orders), ends, failures }
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        // Whoever panicked left whole values: each is replaced at once.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands rules for the bundle `sha256`, one a tag in its order, to the line. Of several that
    /// wait the last counts. Refuses them where another bundle was handed over meanwhile.
    pub fn set(&self, sha256: Sha256, rules: Vec<TagRule>) -> Result<(), OtherBundle> {
        let mut orders = self.orders();
        if orders.newest != sha256 {
            return Err(OtherBundle);
        }
        orders.now.clone_from(&rules);
        orders.rules = Some(rules);
        self.waits.store(true, Ordering::Release);
        Ok(())
    }

    /// The newest bundle that was handed over, and its rules before anybody changed them.
    pub fn newest(&self) -> (Sha256, Vec<TagRule>) {
        let orders = self.orders();
        (orders.newest, orders.base.clone())
    }

    /// The rules that hold from the next trigger on.
    pub fn now(&self) -> Vec<TagRule> {
        self.orders().now.clone()
    }

    /// The same, where they are of the bundle `sha256`.
    pub fn now_of(&self, sha256: Sha256) -> Option<Vec<TagRule>> {
        let orders = self.orders();
        (orders.newest == sha256).then(|| orders.now.clone())
    }

    /// Hands a model with its rules to the line; rules that wait are of the bundle before and go.
    /// One that waits still is given back: the line has not seen it.
    pub fn hand_over(&self, model: Box<Model>, rules: Vec<TagRule>) -> Option<Box<Model>> {
        let mut orders = self.orders();
        (orders.newest, orders.base, orders.rules, orders.back) = (model.sha256(), rules.clone(), None, None);
        orders.now.clone_from(&rules);
        let unseen = orders.model.replace((model, rules));
        self.waits.store(true, Ordering::Release);
        unseen.map(|(model, _)| model)
    }

    /// Hands the model back that was there before the newest one, with its own rules and those that
    /// held when it was left. `why` is told as the line takes it.
    pub fn hand_back(&self, model: Box<Model>, base: Vec<TagRule>, now: Vec<TagRule>, why: Why) -> Option<Box<Model>> {
        let mut orders = self.orders();
        (orders.newest, orders.base, orders.rules, orders.back) = (model.sha256(), base, None, Some(why));
        orders.now.clone_from(&now);
        let unseen = orders.model.replace((model, now));
        self.waits.store(true, Ordering::Release);
        unseen.map(|(model, _)| model)
    }

    /// A part had its end. Where nobody looks the oldest that waits goes.
    pub(crate) fn ended(&self, end: PartEnd) {
        self.ends.force_push(end);
    }

    /// An engine failed. More than may wait are not needed: the first says enough.
    pub(crate) fn failed(&self, failed: EngineFailed) {
        let _ = self.failures.push(failed);
    }

    /// The oldest part's end that nobody has looked at.
    pub fn next_end(&self) -> Option<PartEnd> {
        self.ends.pop()
    }

    /// The oldest failure that nobody has looked at.
    pub fn next_failure(&self) -> Option<EngineFailed> {
        self.failures.pop()
    }

    /// Models that the line needs no more, to be dropped by who is not the line.
    pub fn left(&self) -> Vec<Box<Model>> {
        std::mem::replace(&mut self.orders().left, Vec::with_capacity(2))
    }

    /// What waits, as far as the line can take it: a model only if it has a slot for it. `None`
    /// also while somebody else holds the orders.
    pub(crate) fn take(&self, has_slot: bool) -> Option<Taken> {
        if !self.waits.swap(false, Ordering::AcqRel) {
            return None;
        }
        // Taken back before the look, so that what comes meanwhile is not forgotten.
        let Ok(mut orders) = self.orders.try_lock() else {
            self.waits.store(true, Ordering::Release);
            return None;
        };
        if orders.model.is_some() && !has_slot {
            self.waits.store(true, Ordering::Release);
            return None;
        }
        Some(Taken { model: orders.model.take(), back: orders.back.take(), rules: orders.rules.take() })
    }

    /// Gives a model back; gives it to the caller where somebody else holds the orders.
    pub(crate) fn give_back(&self, model: Box<Model>) -> Option<Box<Model>> {
        let Ok(mut orders) = self.orders.try_lock() else { return Some(model) };
        orders.left.push(model);
        None
    }
}

/// What the line takes at once: first the model, then rules.
pub(crate) struct Taken {
    /// With its rules.
    pub(crate) model: Option<(Box<Model>, Vec<TagRule>)>,
    /// Why the line goes back to it, where it does.
    pub(crate) back: Option<Why>,
    pub(crate) rules: Option<Vec<TagRule>>,
}

/// What a run has beside its line.
#[derive(Clone, Default)]
pub struct Beside {
    /// Who looks at classified frames.
    pub onlooker: Option<Arc<dyn Onlooker>>,
    /// New rules and models.
    pub tuning: Option<Arc<Tuning>>,
    /// Who counts acknowledgements: those of each input by its number among the run's.
    pub acknowledges: Option<Arc<Acknowledges>>,
    /// Where a run that follows in this process is asked for.
    pub change: Option<Arc<Change>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Score;

    const OLD: Sha256 = [1; 32];
    const NEW: Sha256 = [2; 32];

    fn rules(threshold: u16) -> Vec<TagRule> {
        vec![TagRule { threshold: Score(threshold), review_low: Score(threshold) }]
    }

    /// Rules of people on top of a bundle that is not theirs would judge its parts for ever.
    #[test]
    fn rules_go_with_the_bundle_that_they_were_made_for_whichever_comes_first() {
        let tuning = Tuning::new(OLD, rules(1));
        assert!(tuning.take(true).is_none(), "nothing waits");
        // Made for the old bundle, and the line has not looked since: they go.
        assert_eq!(tuning.set(OLD, rules(2)), Ok(()));
        assert!(tuning.hand_over(Model::drawn(NEW), rules(3)).is_none());
        assert_eq!(tuning.set(OLD, rules(4)), Err(OtherBundle));
        assert_eq!((tuning.newest(), tuning.now()), ((NEW, rules(3)), rules(3)));
        let taken = tuning.take(true).unwrap();
        assert_eq!(taken.model.map(|(model, rules)| (model.sha256(), rules)), Some((NEW, rules(3))));
        assert_eq!(taken.rules, None);
        assert!(tuning.take(true).is_none(), "it is taken once");
        // Made for the new one, before the line has it: both come, in this order.
        assert!(tuning.hand_over(Model::drawn(OLD), rules(5)).is_none());
        assert_eq!(tuning.set(OLD, rules(6)), Ok(()));
        assert_eq!((tuning.newest().1, tuning.now()), (rules(5), rules(6)));
        assert!(tuning.take(false).is_none(), "the line has no slot yet");
        let taken = tuning.take(true).unwrap();
        assert_eq!((taken.model.map(|(_, rules)| rules), taken.rules), (Some(rules(5)), Some(rules(6))));
    }

    #[test]
    fn of_two_models_before_the_line_looks_the_last_counts_and_what_is_given_back_is_dropped_elsewhere() {
        let tuning = Tuning::new(OLD, rules(1));
        assert!(tuning.hand_over(Model::drawn(NEW), rules(2)).is_none());
        let unseen = tuning.hand_over(Model::drawn([3; 32]), rules(3));
        assert_eq!(unseen.map(|model| model.sha256()), Some(NEW));
        let held = tuning.orders();
        assert!(tuning.take(true).is_none(), "the line waits for nobody");
        let model = tuning.give_back(Model::drawn(OLD)).expect("nor here");
        drop(held);
        assert!(tuning.give_back(model).is_none());
        assert_eq!(tuning.take(true).and_then(|taken| taken.model).map(|(model, _)| model.sha256()), Some([3; 32]));
        assert_eq!(tuning.left().iter().map(|model| model.sha256()).collect::<Vec<_>>(), [OLD]);
        assert!(tuning.left().is_empty());
    }

    /// A takeover behind a way back is no way back, and people's rules are back with their bundle.
    #[test]
    fn a_model_is_handed_back_with_its_reason_and_with_the_rules_that_held_when_it_was_left() {
        let tuning = Tuning::new(OLD, rules(1));
        assert!(tuning.hand_over(Model::drawn(NEW), rules(3)).is_none());
        assert_eq!(tuning.take(true).and_then(|taken| taken.back), None);
        let why = Why::of(&"late");
        assert!(tuning.hand_back(Model::drawn(OLD), rules(1), rules(2), why.clone()).is_none());
        assert_eq!((tuning.newest(), tuning.now()), ((OLD, rules(1)), rules(2)));
        let taken = tuning.take(true).unwrap();
        assert_eq!(taken.model.map(|(model, rules)| (model.sha256(), rules)), Some((OLD, rules(2))));
        assert_eq!((taken.back, taken.rules), (Some(why.clone()), None));
        assert!(tuning.hand_back(Model::drawn(OLD), rules(1), rules(2), why).is_none());
        assert!(tuning.hand_over(Model::drawn(NEW), rules(3)).is_some());
        assert_eq!(tuning.take(true).and_then(|taken| taken.back), None);
    }

    #[test]
    fn of_more_ends_than_may_wait_the_oldest_go_and_of_failures_the_newest() {
        let tuning = Tuning::new(OLD, rules(1));
        for n in 0..Tuning::ENDS as u64 + 3 {
            tuning.ended(PartEnd { bundle: OLD, late: n == 3 });
            tuning.failed(EngineFailed { bundle: OLD, part: n, why: Why::NONE });
        }
        let ends: Vec<bool> = std::iter::from_fn(|| tuning.next_end()).map(|end| end.late).collect();
        assert_eq!((ends.len(), ends[0], ends.iter().filter(|late| **late).count()), (Tuning::ENDS, true, 1));
        let failures: Vec<u64> = std::iter::from_fn(|| tuning.next_failure()).map(|failed| failed.part).collect();
        assert_eq!(failures, [0, 1, 2, 3]);
    }
}
