//! What becomes of a command whose output nobody reads any more, as after `| head`: it ends quietly.
//!
//! Not for `run`, whose lines must go safe first: it writes its events with care instead.

/// Exit code of a program whose reader left: what a shell gives for SIGPIPE, 128 + 13.
pub const READER_LEFT: i32 = 141;

/// From here on, a `println!` to a closed pipe ends the program with [`READER_LEFT`] instead of a panic's message and code.
///
/// The standard library panics there, since Rust programs ignore SIGPIPE; so its panic is told from others by what it says.
pub fn end_when_reader_leaves() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info
            .payload_as_str()
            .is_some_and(|why| why.starts_with("failed printing to stdout") && why.contains("os error 32"))
        {
            std::process::exit(READER_LEFT);
        }
        others(info);
    }));
}
