//! What a PNG states of itself, whether the file is whole (all chunks up to the end chunk, each
//! with its checksum), and the chunks that make its pixels.
//!
//! Decoders stop when they have all pixels and never see what follows. And they unpack texts and
//! colour profiles that nobody asks for, of any size: those are never shown to them ([`Pixels`]).
//! Format: the PNG specification, third edition.

use std::io::{BufRead, Read, Seek, SeekFrom};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Follows the chunks to the end chunk; bytes behind it do not matter. Gives what the file states
/// of how the image lies: a TIFF file.
pub(super) fn whole(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let ended = || format!("it ends after {} bytes, before its end chunk", bytes.len());
    let mut rest = bytes.strip_prefix(&SIGNATURE).ok_or("it is no PNG")?;
    let (mut exif, mut begun) = (None, false);
    loop {
        let chunk = chunk(&mut rest).ok_or_else(ended)?;
        // The checksum is of the kind and the content.
        let (content, stated) = chunk[4..].split_last_chunk::<4>().ok_or_else(ended)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*stated) {
            return Err(format!("its chunk {} is damaged", content[..4].escape_ascii()));
        }
        match &content[..4] {
            b"IEND" => return Ok(exif),
            b"IDAT" => begun = true,
            b"eXIf" if !begun => exif = exif.or(Some(&content[4..])),
            _ => {}
        }
    }
}

/// Splits off a chunk: its length, kind, content and checksum.
fn chunk<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    let (chunk, after) = rest.split_at_checked((length as usize).checked_add(12)?)?;
    *rest = after;
    Some(chunk)
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

/// A PNG that is whole, without the chunks that its pixels do not need.
pub(super) struct Pixels<'b> {
    /// What is read next.
    piece: &'b [u8],
    /// Chunks behind it.
    rest: &'b [u8],
}

impl<'b> Pixels<'b> {
    /// Of a file that [`whole`] has followed.
    pub(super) fn of(bytes: &'b [u8]) -> Self {
        let (piece, rest) = bytes.split_at(SIGNATURE.len().min(bytes.len()));
        Self { piece, rest }
    }
}

/// Whether pixels depend on a chunk of this kind: all whose first letter is a capital, and the
/// transparency of a palette or a colour.
fn is_needed(kind: &[u8]) -> bool {
    kind[0].is_ascii_uppercase() || kind == b"tRNS"
}

impl BufRead for Pixels<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.piece.is_empty()
            && let Some(chunk) = chunk(&mut self.rest)
        {
            if is_needed(&chunk[4..8]) {
                self.piece = chunk;
            }
        }
        Ok(self.piece)
    }

    fn consume(&mut self, amount: usize) {
        self.piece = &self.piece[amount..];
    }
}

impl Read for Pixels<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl Seek for Pixels<'_> {
    /// Decoders ask for a source that can be turned back, and go on from its beginning only.
    fn seek(&mut self, _: SeekFrom) -> std::io::Result<u64> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
