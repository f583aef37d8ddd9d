//! Keeps the line honest: parts and frames in, verdicts out, every part at its gate, outputs safe
//! whatever fails.
//!
//! It works with any source, trigger and output, and names none.
//!
//! Threads: *capture* fills frames, the newest wins; *inputs* wait for triggers; *line* classifies
//! the frames that are wanted ([`vision`]); both only carry inputs to the [station](crate::station)
//! and its effects out ([`shared`]); *actuation* owns the outputs ([`outputs_thread`]), runs no
//! model code and goes safe after one missed beat; *rescue* makes the other outputs safe where a
//! write to one does not come back. What happens is told to [`crate::events`], and nobody waits for
//! its sinks. [`run`] wires them and is the only part that reads a clock.

pub mod actuation;
mod beside;
mod capture;
mod change;
mod clock;
pub mod drill;
mod ended;
mod inputs;
mod line_thread;
mod notify;
mod outputs_thread;
mod panics;
mod priority;
mod record;
mod rescue;
mod run;
mod shared;
#[cfg(test)]
mod tests;
mod truth;
mod unchanged;
pub mod vision;

pub use beside::{Beside, EngineFailed, Onlooker, OtherBundle, PartEnd, Seen, Tuning};
pub use change::Change;
pub use clock::SystemClock;
pub use ended::Ended;
pub use panics::raise_alarm_at_panics;
pub use priority::lowest_priority;
pub use record::Recorder;
pub use run::{Run, run};
pub use truth::Truth;
