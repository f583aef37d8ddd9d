//! What becomes of a command whose output cannot be written: its pipe is closed, as by `| head`, or
//! its disk is full.
//!
//! Where the reader left, commands end quietly; else they say why. `run` writes its events through
//! sinks of its own and puts its outputs into their safe state first: it asks [`reader_left`].

use std::io::Write;

/// Exit code of a program whose reader left: what a shell gives for SIGPIPE, 128 + 13.
pub const OUTPUT_PIPE_CLOSED: i32 = 141;

/// Exit code of a command whose output cannot be written for another reason.
pub const OUTPUT_NOT_WRITTEN: i32 = 2;

/// From here on, a `println!` to a closed pipe ends the program with [`OUTPUT_PIPE_CLOSED`] instead
/// of a panic's message and code, and one to a full disk with [`OUTPUT_NOT_WRITTEN`] and the
/// reason.
///
/// The standard library panics there, since Rust programs ignore SIGPIPE; so its panic is told from
/// others by what it says.
pub fn end_when_reader_leaves() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let Some(why) = info.payload_as_str().and_then(|said| said.strip_prefix("failed printing to stdout: ")) else {
            return others(info);
        };
        if why.contains("os error 32") {
            std::process::exit(OUTPUT_PIPE_CLOSED);
        }
        // Whether anybody hears this or not, the code says it.
        let _ = writeln!(std::io::stderr(), "error: standard output cannot be written: {why}");
        std::process::exit(OUTPUT_NOT_WRITTEN);
    }));
}

/// Whether standard output is a pipe, socket or terminal whose other end is closed. Asks the system
/// and writes nothing, so a line that has nothing to tell notices too.
#[cfg(feature = "runtime")]
pub fn reader_left() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let asked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    asked.is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
