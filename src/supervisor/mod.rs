//! Keeps the line honest: frames in, verdicts out, outputs safe whatever fails.
//!
//! Knows no concrete source, trigger or output.
//!
//! Four threads: *capture* fills frames, the newest wins; *line* turns them into verdicts ([`stage`]); *actuation* owns the
//! outputs, runs no model code and goes safe after one missed beat ([`actuation`]); *report* writes events, and is never
//! waited for. [`run`] wires them and is the only part that reads a clock.

pub mod actuation;
mod capture;
mod clock;
pub mod drill;
pub mod events;
mod quantiles;
mod run;
pub mod stage;

pub use clock::SystemClock;
pub use events::{Reporter, Summary};
pub use run::{Ended, Recorder, Run, run};
