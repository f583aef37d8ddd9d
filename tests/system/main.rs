//! The program as its users see it: standard output, exit code, pin timeline, files written.
//!
//! One binary for all system tests, so that it is linked once.

#[cfg(feature = "site")]
mod audit;
#[cfg(feature = "site")]
mod between_runs;
mod bundle;
mod categories;
mod cli;
mod conflicts;
mod events;
mod faults;
mod files;
mod gate;
mod going_back;
mod heat;
mod installed;
#[cfg(feature = "site")]
mod keep;
mod line;
#[cfg(feature = "site")]
mod page;
mod pipes;
#[cfg(feature = "site")]
mod plc;
mod program;
mod readme;
#[cfg(feature = "site")]
mod recipes;
mod record;
mod rpicam;
#[cfg(feature = "site")]
mod serve;
mod setup;
mod simulate;
#[cfg(feature = "site")]
mod site;
mod sources;
#[cfg(feature = "site")]
mod state;
mod streams;
mod words;
