//! What a PNG's header states, and whether the file is whole: all chunks up to the end chunk, each
//! with its checksum.
//!
//! Decoders stop when they have all pixels and never see what follows. Format: the PNG
//! specification, third edition.

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Follows the chunks to the end chunk; bytes behind it do not matter.
pub(super) fn whole(bytes: &[u8]) -> Result<(), String> {
    let ended = || format!("it ends after {} bytes, before its end chunk", bytes.len());
    let mut rest = bytes.strip_prefix(&SIGNATURE).ok_or("it is no PNG")?;
    loop {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(ended)?;
        let length = u32::from_be_bytes(*length) as usize;
        // The checksum is of the kind and the content.
        let end = length.checked_add(4).ok_or_else(ended)?;
        let (chunk, after) = after.split_at_checked(end).ok_or_else(ended)?;
        let (stated, after) = after.split_first_chunk::<4>().ok_or_else(ended)?;
        if crc32fast::hash(chunk) != u32::from_be_bytes(*stated) {
            return Err(format!("its chunk {} is damaged", chunk[..4].escape_ascii()));
        }
        if chunk.starts_with(b"IEND") {
            return Ok(());
        }
        rest = after;
    }
}

/// Columns and rows that the header chunk states, if the file begins with one.
///
/// Asked before a decoder: where an address has 32 bits, that refuses the largest sizes without
/// saying what they are.
pub(super) fn stated_size(bytes: &[u8]) -> Option<[u32; 2]> {
    let header = bytes.strip_prefix(&SIGNATURE)?.get(4..16)?.strip_prefix(b"IHDR")?;
    let (width, height) = header.split_first_chunk::<4>()?;
    Some([*width, height.try_into().ok()?].map(u32::from_be_bytes))
}
