//! Who may work now: a number of places, and a bounded number that waits for one, in their order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
struct State {
    free: usize,
    waiting: usize,
    /// Places that were handed to somebody who waits and has not woken up yet.
    handed: usize,
}

/// Places and those who wait for them.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    handed: Condvar,
    most: usize,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<'q>(&'q Queue);

impl Queue {
    /// `places` at a time, at least one; at most `most` wait.
    pub(super) fn new(places: usize, most: usize) -> Self {
        Self { state: Mutex::new(State { free: places.max(1), waiting: 0, handed: 0 }), handed: Condvar::new(), most }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place; `None` if enough wait already, or none is handed over in time.
    pub(super) fn enter(&self, patience: Duration) -> Option<Place<'_>> {
        let mut state = self.state();
        // A place is free only if nobody waits: a place that is left goes to who waits longest.
        if state.free > 0 {
            state.free -= 1;
            return Some(Place(self));
        }
        if state.waiting >= self.most {
            return None;
        }
        state.waiting += 1;
        let waited = self.handed.wait_timeout_while(state, patience, |state| state.handed == 0);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        if state.handed == 0 {
            return None;
        }
        state.handed -= 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.waiting > state.handed {
            state.handed += 1;
            self.0.handed.notify_one();
        } else {
            state.free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn no_more_than_its_places_work_and_every_entry_ends_with_a_place_or_a_refusal() {
        for (places, most, threads) in [(1, 0, 4), (1, 2, 8), (3, 1, 8), (2, 100, 16)] {
            let queue = Queue::new(places, most);
            let (working, peak, done, refused) = <(AtomicUsize, AtomicUsize, AtomicUsize, AtomicUsize)>::default();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let Some(_place) = queue.enter(Duration::from_secs(60)) else {
                                refused.fetch_add(1, SeqCst);
                                continue;
                            };
                            peak.fetch_max(working.fetch_add(1, SeqCst) + 1, SeqCst);
                            std::thread::yield_now();
                            working.fetch_sub(1, SeqCst);
                            done.fetch_add(1, SeqCst);
                        }
                    });
                }
            });
            let (peak, done, refused) = (peak.into_inner(), done.into_inner(), refused.into_inner());
            assert!((1..=places).contains(&peak), "{peak} of {places}");
            assert_eq!(done + refused, threads * 200);
            // As many as there are can all wait.
            assert!(most < threads || refused == 0, "{refused} refused with room for {most}");
            let state = queue.state.lock().unwrap();
            assert_eq!((state.free, state.waiting, state.handed), (places, 0, 0));
        }
    }

    #[test]
    fn who_waits_too_long_leaves_and_a_full_queue_refuses_at_once() {
        let queue = Queue::new(1, 1);
        let place = queue.enter(Duration::ZERO).unwrap();
        let begin = std::time::Instant::now();
        assert!(queue.enter(Duration::from_millis(30)).is_none());
        assert!(begin.elapsed() >= Duration::from_millis(30));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| queue.enter(Duration::from_secs(60)).is_some());
            while queue.state().waiting == 0 {
                std::thread::yield_now();
            }
            assert!(queue.enter(Duration::from_secs(60)).is_none());
            drop(place);
            assert!(waits.join().unwrap());
        });
        assert!(queue.enter(Duration::ZERO).is_some());
    }
}
