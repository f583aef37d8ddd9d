//! `tagpin key new`: a key for a client, and its hash for device.toml or `serve --key`.

use super::Refused;
use crate::keys::{KeyHash, new_key};

/// Arguments of `key`.
#[derive(clap::Args, Debug)]
pub(super) struct Key {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Draw a new key; it is shown once and kept nowhere
    New,
}

pub(super) fn run(Key { what: What::New }: &Key) -> Result<u8, Refused> {
    let key = new_key().map_err(|e| format!("the system gives no random numbers: {e}"))?;
    println!("key   {key}");
    println!("hash  {}", KeyHash::of(&key));
    crate::terminal::tell(
        "give the key to the client; write the hash into device.toml (keys = [\"...\"]) or serve --key",
        4,
    );
    Ok(0)
}
