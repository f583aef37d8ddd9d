//! Ends a command quietly when its output pipe is closed, as by `| head`.
//!
//! Not for `run`: it puts its outputs into their safe state first and writes its events through sinks of its own.

/// Exit code of a program whose reader left: what a shell gives for SIGPIPE, 128 + 13.
pub const OUTPUT_PIPE_CLOSED: i32 = 141;

/// From here on, a `println!` to a closed pipe ends the program with [`OUTPUT_PIPE_CLOSED`] instead of a panic's message and code.
///
/// The standard library panics there, since Rust programs ignore SIGPIPE; so its panic is told from others by what it says.
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
