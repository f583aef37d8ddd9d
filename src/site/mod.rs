//! What other machines of a site see of tagpin: images are classified for them, and they see what the line does.
//!
//! Everything here is a sink or a client of [`crate::events`], or has an engine of its own, on threads of its own that the line
//! never waits for. Nothing listens unless it is asked to. Rooms: [`http`] the server below all that speaks HTTP; [`access`] who
//! may ask; [`predict`] the prediction endpoint; [`metrics`] figures for Prometheus; [`modbus`] a PLC's registers; [`line`] which of them a run has.

pub mod access;
pub mod http;
pub mod line;
mod listener;
pub mod metrics;
pub mod modbus;
pub mod predict;
mod wire;
