//! A word on standard error while a person waits: for what, and how long already.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Shown from half a second on, until it is dropped; then its line is empty again. Nothing where
/// standard error is no terminal.
pub(super) struct Waiting {
    /// None where nobody looks. Its end is the thread's.
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Waiting {
    /// `what` is awaited; `limit` says how long at most, for people.
    pub(super) fn new(what: &'static str, limit: String) -> Self {
        let is_seen = std::io::stderr().is_terminal();
        Self { shown: is_seen.then(|| begin(what, limit)) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.shown.take() {
            drop(end);
            // It could only panic, and there would be nothing to do about it.
            let _ = thread.join();
        }
    }
}

fn begin(what: &'static str, limit: String) -> (Sender<()>, JoinHandle<()>) {
    /// What came by then is no wait.
    const PATIENCE: Duration = Duration::from_millis(500);
    let (end, ended) = channel();
    let thread = std::thread::spawn(move || {
        let (begin, mut next, mut width) = (Instant::now(), PATIENCE, 0);
        // A terminal that is gone is nobody's loss.
        let show = |text: &str| {
            let mut stderr = std::io::stderr().lock();
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        };
        while ended.recv_timeout(next) == Err(RecvTimeoutError::Timeout) {
            let line = format!("waiting for {what}: {} s; {limit}", begin.elapsed().as_secs());
            width = width.max(line.len());
            show(&format!("\r{line}"));
            next = Duration::from_secs(1).saturating_sub(Duration::from_nanos(begin.elapsed().subsec_nanos().into()));
        }
        if width > 0 {
            show(&format!("\r{:width$}\r", ""));
        }
    });
    (end, thread)
}
