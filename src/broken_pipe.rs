//! What becomes of a command when its output pipe is closed, as by `| head`.
//!
//! Commands end quietly. `run` writes its events through sinks of its own and puts its outputs into
//! their safe state first: it asks [`reader_left`].

/// Exit code of a program whose reader left: what a shell gives for SIGPIPE, 128 + 13.
pub const OUTPUT_PIPE_CLOSED: i32 = 141;

/// From here on, a `println!` to a closed pipe ends the program with [`OUTPUT_PIPE_CLOSED`] instead
/// of a panic's message and code.
///
/// The standard library panics there, since Rust programs ignore SIGPIPE; so its panic is told from
/// others by what it says.
pub fn end_when_reader_leaves() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info
            .payload_as_str()
            .is_some_and(|why| why.starts_with("failed printing to stdout") && why.contains("os error 32"))
        {
            std::process::exit(OUTPUT_PIPE_CLOSED);
        }
        others(info);
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
