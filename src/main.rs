//! The `tagpin` program; everything it does is in the library.

fn main() -> std::process::ExitCode {
    tagpin::cli::main(git_version::git_version!(args = ["--always", "--dirty", "--abbrev=12"], fallback = ""))
}
