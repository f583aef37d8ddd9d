//! A few threads that each compute a part of a layer, then wait for the next layer.
//!
//! Layers follow each other within microseconds, so a worker spins for a while before it sleeps.
//! Nothing is allocated per part.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// How often a worker polls for a part before it yields, and before it sleeps.
const LOOKS: (u32, u32) = (2_000, 4_000);

/// What the workers run: a function of some items and the number of one of them.
#[derive(Clone, Copy)]
struct Job {
    context: *const (),
    call: unsafe fn(*const (), usize),
}

struct Shared {
    /// Written by the caller before `round` is raised, read by workers after.
    job: Mutex<Job>,
    round: AtomicUsize,
    /// Workers that have not finished the round.
    working: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: the pointers in `job` are followed only between a round's beginning and its end, while
// the caller of `each` waits; what they point to may be shared by `each`'s bounds.
unsafe impl Send for Shared {}
// SAFETY: as above; all else is atomic or behind the mutex.
unsafe impl Sync for Shared {}

/// Worker threads that help their caller; they end when the pool is dropped.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One caller at a time.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

/// Items and a function, as a round's workers see them.
struct Context<'a, T, F> {
    items: *mut T,
    len: usize,
    f: &'a F,
}

impl Pool {
    /// Starts `threads - 1` workers; the caller is the last thread. Fails if the system cannot
    /// start them.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let idle = Job { context: std::ptr::null(), call: nothing };
        let shared = Arc::new(Shared {
            job: Mutex::new(idle),
            round: AtomicUsize::new(0),
            working: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |number: usize| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("engine {number}")).spawn(move || work(&shared, number))
        };
        let workers = (1..threads).map(spawn).collect::<std::io::Result<_>>()?;
        Ok(Self { shared, workers, turn: Mutex::new(()) })
    }

    /// The caller and its workers.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` with each item, all at the same time. At most as many items as [`Pool::threads`].
    /// Panics if one call did.
    pub fn each<T: Send, F: Fn(&mut T) + Sync>(&self, items: &mut [T], f: F) {
        assert!(items.len() <= self.threads(), "an item for each thread");
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        let context = Context { items: items.as_mut_ptr(), len: items.len(), f: &f };
        let job = Job { context: (&raw const context).cast(), call: one::<T, F> };
        *self.shared.job.lock().unwrap_or_else(|e| e.into_inner()) = job;
        self.shared.working.store(self.workers.len(), Ordering::Relaxed);
        self.shared.round.fetch_add(1, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        // SAFETY: `context` and the items live until all workers have finished, and each item has
        // one caller.
        let mine = catch_unwind(AssertUnwindSafe(|| unsafe { one::<T, F>(job.context, 0) }));
        let mut looks = 0;
        while self.shared.working.load(Ordering::Acquire) > 0 {
            looks += 1;
            if looks < LOOKS.0 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Err(panic) = mine {
            std::panic::resume_unwind(panic);
        }
        assert!(!self.shared.panicked.swap(false, Ordering::Relaxed), "a worker of the engine panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches what its parts panic with.
            let _ = worker.join();
        }
    }
}

/// Before the first round.
///
/// # Safety
/// None: it does nothing.
unsafe fn nothing(_: *const (), _: usize) {}

/// Calls the function with item `number`, if there is one.
///
/// # Safety
/// `context` points to a [`Context`] of these types that outlives the call, and nobody else has
/// item `number`.
unsafe fn one<T: Send, F: Fn(&mut T) + Sync>(context: *const (), number: usize) {
    // SAFETY: the caller's promise.
    let context = unsafe { &*context.cast::<Context<'_, T, F>>() };
    if number < context.len {
        // SAFETY: as above; `items` has `len` items.
        (context.f)(unsafe { &mut *context.items.add(number) });
    }
}

fn work(shared: &Shared, number: usize) {
    let (mut seen, mut looks) = (0, 0);
    loop {
        let round = shared.round.load(Ordering::Acquire);
        if round == seen {
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            looks += 1;
            match looks {
                n if n < LOOKS.0 => std::hint::spin_loop(),
                n if n < LOOKS.1 => std::thread::yield_now(),
                // A round that began since is not missed: it left a token for this thread.
                _ => std::thread::park(),
            }
            continue;
        }
        (seen, looks) = (round, 0);
        let job = *shared.job.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: the caller of `each` waits until `working` is 0, and each worker has a number of
        // its own.
        if catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.context, number) })).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.working.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_a_round() {
        let pool = Pool::new(4).unwrap();
        let mut items = [0usize, 10, 20];
        for round in 0..500 {
            pool.each(&mut items, |item| *item += 1);
            assert_eq!(items, [round + 1, round + 11, round + 21]);
            if round % 100 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5)); // the workers sleep by now
            }
        }
    }

    #[test]
    fn a_panic_of_a_worker_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| pool.each(&mut [1, 2], |n| assert!(*n != 2, "two"))));
        assert!(result.is_err());
        let mut items = [1, 2];
        pool.each(&mut items, |n| *n *= 3);
        assert_eq!(items, [3, 6]);
    }
}
