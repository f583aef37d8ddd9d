//! What `tagpin setup` finds out and writes: when a part is before the camera, and a device.toml.
//!
//! [`passing`] finds the frame in which a part is centred and what several parts say of a line's
//! times; [`mosaic`] shows frames as text on a terminal; [`written`] is the file. The conversation
//! itself is the command line's.

pub mod mosaic;
pub mod passing;
pub mod written;
