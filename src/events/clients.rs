//! Clients of a run: they look at its figures and snapshot whenever they like, on threads of their
//! own.
//!
//! A client that panics is told, counted and started again after a pause that doubles each time, as
//! a sink is.

use super::fanout::{BACK_OFF, panic_text};
use super::{Events, FaultKind, Remedy, Why};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a client does until it is told to stop.
type Work = Box<dyn Fn(&Arc<Events>, &Arc<AtomicBool>) + Send>;

/// A client to be started.
pub struct Client {
    /// Its name in events.
    pub name: &'static str,
    /// Works until the flag is set; called again after a panic.
    pub run: Work,
}

/// The threads of the clients.
pub struct ClientThreads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl ClientThreads {
    /// Starts each client on a thread of its own.
    pub fn start(events: &Arc<Events>, clients: Vec<Client>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |client: Client| {
            let (events, stop) = (events.clone(), stop.clone());
            std::thread::Builder::new().name(client.name.into()).spawn(move || drive(&events, &client, &stop))
        };
        let threads = clients.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { stop, threads })
    }

    /// Tells all to stop and waits for them, at most `patience` in all.
    pub fn stop(self, patience: Duration) {
        self.stop.store(true, Ordering::Release);
        let end = Instant::now() + patience;
        while self.threads.iter().any(|t| !t.is_finished()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn drive(events: &Arc<Events>, client: &Client, stop: &Arc<AtomicBool>) {
    let mut back_off = BACK_OFF[0];
    while let Err(panic) = catch_unwind(AssertUnwindSafe(|| (client.run)(events, stop))) {
        let why = format!(
            "\"{}\" panicked ({}); it is started again in {:.1} s; the line goes on",
            client.name,
            panic_text(&*panic),
            back_off.as_secs_f64()
        );
        events.fault(FaultKind::Sink, None, Remedy::Told, Why::of(&why));
        let end = Instant::now() + back_off;
        while Instant::now() < end {
            if stop.load(Ordering::Acquire) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        back_off = (back_off * 2).min(BACK_OFF[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::What;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_client_that_panics_is_told_and_started_again_and_a_stop_ends_it() {
        let events = Arc::new(Events::kept(Arc::new(crate::supervisor::SystemClock)));
        let starts = Arc::new(AtomicU64::new(0));
        let counted = starts.clone();
        let run = move |_: &Arc<Events>, stop: &Arc<AtomicBool>| {
            assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "a drill: the client panics");
            while !stop.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let threads = ClientThreads::start(&events, vec![Client { name: "drill", run: Box::new(run) }]).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while starts.load(Ordering::SeqCst) < 2 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        let begin = Instant::now();
        threads.stop(Duration::from_secs(20));
        assert!(begin.elapsed() < Duration::from_secs(10), "the stop was not seen");
        assert_eq!(starts.load(Ordering::SeqCst), 2);
        let mut told = Vec::new();
        events.take_all(&mut told);
        let faults: Vec<_> = told.iter().filter_map(|e| if let What::Fault(f) = &e.what { Some(f) } else { None }).collect();
        assert_eq!((faults.len(), faults[0].kind), (1, FaultKind::Sink));
        assert!(faults[0].why.as_str().contains("\"drill\" panicked (a drill: the client panics)"), "{:?}", faults[0].why);
    }
}
