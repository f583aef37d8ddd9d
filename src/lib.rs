//! tagpin: camera frames in, GPIO outputs out, an int8 classifier in between.
//!
//! A *source* fills a *frame*; *preprocess* turns it into a tensor; the *engine* gives logits; the
//! *head* makes scores of them; *distance* says how far the image lies from the training images;
//! *decide* turns scores over time into verdicts; *triggers* open parts, the *station* gives each
//! its frames, its verdict and its lines; *outputs* act at that moment; *events* tell it; the
//! *supervisor* keeps all that honest; the *bundle* is what they agreed on.
//!
//! Tier 0 (`time`, `fault`, `random`, `frame`, `quant`, `bundle`, `preprocess`, `head`, `distance`,
//! `category`, `decide`, `line`, `station`, `scene`, `kernels::{blend, elementwise, epilogue,
//! generic, inverse_dct}`) is core only: no heap, no OS, no clock, no libm. CI proves it by linking
//! `tests/tier0` without a standard library. Tier 1 (`engine`, `pictures`, `sources`, `triggers`,
//! `outputs`, `settings`, `events`; `board`, `gpio`, `rotating`, `ring`, `installed`, `keys`,
//! `audit`, `calendar`, `heat`, `regular`, `terminal`, `version`, `caught` and `broken_pipe` below
//! them) are siblings over it; tier 2 is the `supervisor`, which carries the station's inputs and
//! effects on a board, `update`, which hands it an installed bundle, `simulate`, which carries them
//! on a simulated belt, `classify`, one image by itself, `setup`, what a line's first day finds
//! out, and `site`, what other machines see; tier 3 the command line.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod bundle;
pub mod category;
pub mod decide;
pub mod distance;
pub mod fault;
pub mod frame;
pub mod head;
pub mod kernels;
pub mod line;
pub mod preprocess;
pub mod quant;
pub mod random;
pub mod scene;
pub mod station;
pub mod time;

#[cfg(feature = "std")]
pub mod broken_pipe;
#[cfg(feature = "std")]
pub mod caught;
#[cfg(feature = "std")]
pub mod heat;
#[cfg(feature = "std")]
pub mod regular;
#[cfg(feature = "std")]
pub mod terminal;
#[cfg(feature = "std")]
pub mod version;

#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "pictures")]
pub mod pictures;

#[cfg(feature = "line")]
pub mod audit;
#[cfg(feature = "line")]
pub mod board;
#[cfg(feature = "line")]
pub mod calendar;
#[cfg(feature = "runtime")]
pub mod classify;
#[cfg(feature = "runtime")]
pub mod cli;
#[cfg(feature = "line")]
pub mod events;
#[cfg(feature = "line")]
pub mod gpio;
#[cfg(feature = "installed")]
pub mod installed;
#[cfg(feature = "site")]
pub mod keys;
#[cfg(feature = "line")]
pub mod outputs;
#[cfg(feature = "sources")]
mod readable;
#[cfg(feature = "site")]
pub mod ring;
#[cfg(feature = "line")]
pub mod rotating;
#[cfg(feature = "line")]
pub mod settings;
#[cfg(feature = "line")]
pub mod setup;
#[cfg(feature = "line")]
pub mod simulate;
#[cfg(feature = "site")]
pub mod site;
#[cfg(feature = "sources")]
pub mod sources;
#[cfg(feature = "line")]
pub mod supervisor;
#[cfg(feature = "line")]
pub mod triggers;
#[cfg(feature = "line")]
pub mod update;

/// Most tags a model may have: every per-tag table has this capacity.
pub const MAX_TAGS: usize = 1024;
