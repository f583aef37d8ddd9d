//! Lines that a person enters, while a command does something else.

use std::io::BufRead;
use std::sync::mpsc::Receiver;

/// Lines of standard input, on a thread that is left behind at the end; bytes that are no UTF-8 are
/// replaced. It is disconnected where standard input ends.
pub(super) fn lines() -> Receiver<String> {
    let (send, receive) = std::sync::mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n') {
            let Ok(line) = line else { break };
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receive
}
