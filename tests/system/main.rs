//! The program as its users see it: standard output, exit code, pin timeline, files written.
//!
//! One binary for all system tests, so that it is linked once.

mod cli;
mod faults;
mod gate;
mod line;
mod program;
mod simulate;
mod sources;
