//! A second way to each line, opened at start, for the thread that makes lines safe where a write
//! does not come back.

use super::Stand;
use crate::outputs::{Backend, Output, State};
use crate::time::Micros;
use std::sync::Arc;

/// The second way to one line.
pub(in crate::supervisor) struct Second {
    pub(in crate::supervisor) name: String,
    pub(in crate::supervisor) output: Box<dyn Output>,
    pub(in crate::supervisor) backend: Backend,
    pub(in crate::supervisor) safe: State,
    /// Whether it moves in pulses.
    pub(in crate::supervisor) is_pulse: bool,
}

/// The second ways to all lines, and what the outputs' thread is at.
pub struct Rescue {
    pub(in crate::supervisor) lines: Vec<Second>,
    pub(in crate::supervisor) stand: Arc<Stand>,
    /// Up to so late an edge is in time.
    pub(in crate::supervisor) late: Micros,
}
