//! What other machines of a site see of tagpin: images are classified for them, and they see what
//! the line does.
//!
//! Everything here is a sink or a client of [`crate::events`], or has an engine of its own, on
//! threads of its own that the line never waits for. Nothing listens unless it is asked to. Rooms:
//! [`http`] the server below all that speaks HTTP; [`access`] who may ask; [`upload`] the image in
//! a request's body; `predict` the prediction endpoint; [`metrics`] figures for Prometheus;
//! [`modbus`] a PLC's registers; [`mqtt`] a broker; [`page`] a page for people; [`keep`] images of
//! parts on disk; `changes` what a run adds to the record of changes; [`recipes`] the choice of
//! one; `line` which of them a run has. `predict`, and `line` with it, have an engine: they and
//! `changes`, which only `line` opens, are there with the feature `runtime`.

pub mod access;
#[cfg(feature = "runtime")]
mod changes;
mod gallery;
pub mod http;
pub mod keep;
#[cfg(feature = "runtime")]
pub mod line;
mod listener;
pub mod metrics;
pub mod modbus;
pub mod mqtt;
pub mod page;
#[cfg(feature = "runtime")]
pub mod predict;
pub mod recipes;
pub mod upload;
mod wire;

/// Whether files can be written into the state folder: one is, and removed. Why not otherwise.
pub fn probe_state(folder: &std::path::Path) -> Result<(), String> {
    let file = folder.join(format!(".tagpin-{}", std::process::id()));
    let tried = std::fs::write(&file, b"").and_then(|()| std::fs::remove_file(&file));
    tried.map_err(|e| {
        format!("{}: {e}; nothing can be changed on the page; make the folder and give it to tagpin", folder.display())
    })
}
