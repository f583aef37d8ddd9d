//! Lines that a person enters, while a command does something else.

use std::io::BufRead;
use std::sync::mpsc::Receiver;

/// Lines of standard input, on a thread that is left behind at the end. It is disconnected where
/// standard input ends.
pub(super) fn lines() -> Receiver<String> {
    let (send, receive) = std::sync::mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}
