//! Triggers that another thread receives and posts: a PLC's writes.
//!
//! The receiving thread stamps each by [`Arrivals`](super::Arrivals). At most [`WAITING`] wait for
//! the input's thread; any more are lost, and reported to the line. What is not a trigger is only
//! counted, so that nonsense neither displaces a trigger nor fills the memory. Once the input refuses,
//! or is gone, nothing is posted any more.

use super::arrival::Arrival;
use super::{Input, Odd, Trigger, TriggerError};
use crate::time::Instant;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Triggers that wait, at most: as many as parts may be on the way.
const WAITING: usize = 64;
/// What may be passed over here.
const ODDS: [Odd; 3] = [Odd::RefusedWrite, Odd::StillSet, Odd::Disconnected];

#[derive(Debug, Default)]
struct Waiting {
    parts: heapless::Deque<Instant, WAITING>,
    lost: u32,
    passed_over: [u32; ODDS.len()],
    /// Nobody reads what comes now.
    is_over: bool,
}

/// Where triggers are posted; clones are one place.
#[derive(Clone, Debug, Default)]
pub struct Posts(Arc<(Mutex<Waiting>, Condvar)>);

impl Posts {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts a trigger. `false`: it opens no part. Its moment is not known, or too many wait, and
    /// the line is told that it was lost; or the run's input is over, and nobody is there to tell.
    pub fn trigger(&self, arrival: Arrival) -> bool {
        let mut waiting = self.waiting();
        if waiting.is_over {
            return false;
        }
        let is_posted = arrival.is_known && waiting.parts.push_back(arrival.at).is_ok();
        waiting.lost = waiting.lost.saturating_add(!is_posted as u32);
        self.0.1.notify_one();
        is_posted
    }

    /// Posts that something was passed over: a refused write, a trigger that was still set, or a
    /// connection that ended.
    pub fn pass_over(&self, odd: Odd) {
        let mut waiting = self.waiting();
        let known = ODDS.iter().position(|known| *known == odd);
        if let Some(i) = known.filter(|_| !waiting.is_over) {
            waiting.passed_over[i] = waiting.passed_over[i].saturating_add(1);
            self.0.1.notify_one();
        }
    }
}

/// Takes what was posted: losses first, then triggers in their order, then what was passed over.
pub(super) struct Posted(pub(super) Posts);

fn next(waiting: &mut Waiting) -> Option<Input> {
    if waiting.lost > 0 {
        return Some(Input::Lost(std::mem::take(&mut waiting.lost)));
    }
    if let Some(at) = waiting.parts.pop_front() {
        return Some(Input::Trigger { at, position: None });
    }
    let i = waiting.passed_over.iter().position(|n| *n > 0)?;
    waiting.passed_over[i] -= 1;
    Some(Input::PassedOver(ODDS[i]))
}

impl Trigger for Posted {
    fn next(&mut self, timeout: Duration) -> Result<Option<Input>, TriggerError> {
        let mut waiting = self.0.waiting();
        if let Some(input) = next(&mut waiting) {
            return Ok(Some(input));
        }
        let woken = self.0.0.1.wait_timeout(waiting, timeout).unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, _) = woken;
        Ok(next(&mut waiting))
    }

    /// Each run has a place of its own, and those who post there begin with it.
    fn begin_anew(&mut self, _: Instant) -> Result<(), TriggerError> {
        Ok(())
    }

    fn refuse(&mut self) -> bool {
        self.0.waiting().is_over = true;
        true
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        self.refuse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(us: u64) -> Arrival {
        Arrival { at: Instant::from_micros(us), is_known: true }
    }

    fn all(posted: &mut Posted) -> Vec<Input> {
        std::iter::from_fn(|| posted.next(Duration::ZERO).unwrap()).collect()
    }

    #[test]
    fn each_trigger_comes_once_in_order_whatever_nonsense_is_posted_between() {
        let posts = Posts::default();
        let mut posted = Posted(posts.clone());
        for us in 1..=10 {
            (0..1000).for_each(|_| posts.pass_over(Odd::RefusedWrite));
            assert!(posts.trigger(known(us)));
        }
        let found = all(&mut posted);
        let at = |us| Input::Trigger { at: Instant::from_micros(us), position: None };
        assert_eq!(found[..10], (1..=10).map(at).collect::<Vec<_>>());
        assert!(found[10..].iter().all(|i| *i == Input::PassedOver(Odd::RefusedWrite)) && found.len() == 10_010);
    }

    #[test]
    fn what_has_no_room_or_no_moment_is_lost_and_told_before_anything_else() {
        let posts = Posts::default();
        let mut posted = Posted(posts.clone());
        let taken = (0..100).filter(|us| posts.trigger(known(*us))).count();
        assert_eq!(taken, WAITING);
        assert!(!posts.trigger(Arrival { is_known: false, ..known(7) }));
        let found = all(&mut posted);
        assert_eq!((found[0], found.len()), (Input::Lost(100 - WAITING as u32 + 1), 1 + WAITING));
        assert!(posts.trigger(known(8)), "there is room again");
        assert!(!posts.trigger(Arrival { is_known: false, ..known(9) }), "whatever room there is");
        assert_eq!(all(&mut posted).len(), 2);
    }

    #[test]
    fn a_trigger_wakes_who_waits_for_it() {
        let posts = Posts::default();
        let mut posted = Posted(posts.clone());
        let begin = std::time::Instant::now();
        let waits = std::thread::spawn(move || posted.next(Duration::from_secs(60)).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        posts.trigger(known(3));
        assert!(matches!(waits.join().unwrap(), Some(Input::Trigger { .. })));
        assert!(begin.elapsed() < Duration::from_secs(30), "it slept on");
    }

    /// Over a change of recipe a PLC kept its connection: its triggers were taken by a run that was
    /// over, opened no part, and nobody was told.
    #[test]
    fn once_the_input_refuses_or_is_gone_no_trigger_is_taken_and_those_before_can_be_read() {
        let posts = Posts::default();
        let mut posted = Posted(posts.clone());
        assert!(posts.trigger(known(1)) && posts.trigger(known(2)));
        assert!(posted.refuse());
        assert!(!posts.trigger(known(3)));
        posts.pass_over(Odd::StillSet);
        let at = |us| Input::Trigger { at: Instant::from_micros(us), position: None };
        assert_eq!(all(&mut posted), [at(1), at(2)], "and nothing is told of what was refused");
        let posts = Posts::default();
        drop(Posted(posts.clone()));
        assert!(!posts.trigger(known(1)));
    }
}
