//! Bytes as a bundle, as they are and under a right hash, so that the contract's decoder is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagpin::bundle::{Bundle, FORMAT_VERSION, HEADER_LEN, MAGIC, sha256};

fuzz_target!(|data: &[u8]| {
    let _ = Bundle::read(data);
    let Some((&split, payload)) = data.split_first() else { return };
    let contract = payload.len() * split as usize / 255;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend((contract as u32).to_le_bytes());
    bytes.extend(((payload.len() - contract) as u32).to_le_bytes());
    bytes.extend(sha256(payload));
    bytes.extend(payload);
    assert!(bytes.len() >= HEADER_LEN);
    let _ = Bundle::read(&bytes);
});
