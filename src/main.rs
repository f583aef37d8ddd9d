//! The `tagpin` program; everything it does is in the library.

fn main() -> std::process::ExitCode {
    tagpin::cli::main()
}
