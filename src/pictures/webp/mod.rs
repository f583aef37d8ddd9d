//! What a WebP states of itself: whether it is whole, how large its image is, and what decoding
//! that takes.
//!
//! The decoder reads the size in one place and allocates by another: the image's own header is not
//! compared with the canvas before its planes are there. So each chunk's header is read here first,
//! and of a lossless stream what describes its codes ([`lossless`]). Format: RFC 9649.

mod lossless;

use super::PictureError;
use super::budget::{NoMemory, filled};
use image::ImageDecoder;
use image::codecs::webp::WebPDecoder;
use std::cell::Cell;
use std::io::{BufRead, Read, Seek, SeekFrom};

/// What the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stated<'b> {
    /// Columns and rows.
    pub(super) size: [u32; 2],
    /// How the image lies: a TIFF file.
    pub(super) exif: Option<&'b [u8]>,
    /// Bytes that its decoder holds besides the image that it gives, but for what a lossless stream
    /// describes.
    beside: u64,
    /// Its lossy image, and how many bytes of that are its last partition.
    lossy: Option<(&'b [u8], usize)>,
    /// Its lossless image, or its transparency, which is one, behind the size.
    stream: Option<&'b [u8]>,
    /// Where in the file that ends.
    end: usize,
}

/// Bytes behind a lossless image's last code that an encoder may leave to fill a word.
const PADDING: usize = 8;
/// Bytes at a lossy image's end that may hold nothing that is seen: padding, and what belongs to
/// pixels beyond the right and lower side, of which three blocks of at most 32 bytes come last.
const UNSEEN: usize = 128;

impl Stated<'_> {
    /// Bytes that its decoder holds besides the image that it gives; not counted on once they are
    /// more than `limit`. Refused: a lossless image that is damaged before its first pixel.
    pub(super) fn beside(&self, limit: u64) -> Result<u64, String> {
        let described = self.stream.map_or(Some(0), |stream| lossless::beside(stream, self.size, limit));
        Ok(self.beside + described.ok_or("its lossless image is damaged before its first pixel")?)
    }

    /// Whether the codes of all pixels of a lossless image were as many bytes as it has. `read`: as
    /// far as the file was read for them.
    ///
    /// There is no checksum, and most bytes are codes of some pixels. But a hole of zeros is hardly
    /// ever as many pixels as what was there, and one of foreign bytes is not often.
    pub(super) fn is_read(&self, read: usize) -> Result<(), String> {
        let left = if self.stream.is_some() { self.end.saturating_sub(read) } else { 0 };
        if left > PADDING {
            return Err(format!("all its pixels are there {left} bytes before its lossless image ends"));
        }
        Ok(())
    }

    /// Whether the codes of a lossy image reach its end, for the same reason. Its decoder copies
    /// all bytes before it reads any; but if its last ones do not matter, it never came to them.
    /// Costs two more decodings.
    pub(super) fn reaches_its_end(&self) -> Result<(), PictureError> {
        let Some((image, _)) = self.lossy.filter(|(_, last)| *last >= UNSEEN) else { return Ok(()) };
        let end = &image[image.len() - UNSEEN..];
        let others: [u8; UNSEEN] = std::array::from_fn(|i| !end[i]);
        let Some(with_others) = without_transparency(image, &others)? else { return Ok(()) };
        if without_transparency(image, end)? == Some(with_others) {
            return Err(PictureError::Damaged(format!("its pixels do not depend on the last {UNSEEN} bytes")));
        }
        Ok(())
    }
}

/// The checksum of a lossy image's pixels; none if it cannot be decoded. `end`: what stands in the
/// place of its last bytes.
fn without_transparency(image: &[u8], end: &[u8]) -> Result<Option<u32>, NoMemory> {
    let mut head = *b"RIFF....WEBPVP8 ....";
    head[4..8].copy_from_slice(&(image.len() as u32 + 12).to_le_bytes());
    head[16..].copy_from_slice(&(image.len() as u32).to_le_bytes());
    let at = Cell::new(0);
    let pieces = [&head[..], &image[..image.len() - end.len()], end];
    let Ok(decoder) = WebPDecoder::new(Watched::new(pieces, &at)) else { return Ok(None) };
    let mut rgb = filled(decoder.total_bytes() as usize, 0)?;
    Ok(decoder.read_image(&mut rgb).ok().map(|()| crc32fast::hash(&rgb)))
}

/// Reads all chunk headers and computes no pixel. Refused: a file that ends before the length it
/// states, one whose image is not as large as its canvas, and an animation.
pub(super) fn stated(bytes: &[u8]) -> Result<Stated<'_>, String> {
    let length = bytes.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize + 8;
    if length > bytes.len() {
        return Err(format!("it ends after {} of {length} bytes", bytes.len()));
    }
    let (mut canvas, mut image, mut stream, mut alpha, mut exif) = (None, None, None, None, None);
    // A length that is too small is believed by nobody: decoders go on to the end of the file.
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let content = &after[..size.min(after.len())];
        match &head[..4] {
            b"VP8X" => canvas = extended(content),
            b"VP8 " if image.is_none() => {
                let (size, last) = lossy(content)?;
                image = Some((size, Some((content, last))));
            }
            b"VP8L" => {
                image = image.or(size_of_lossless(content).map(|size| (size, None)));
                stream = stream.or(content.get(5..));
            }
            b"ALPH" => alpha = alpha.or(content.split_first()),
            b"EXIF" if canvas.is_some() => exif = exif.or(Some(content)),
            b"ANIM" | b"ANMF" => return Err("it is an animation; save one image of it".into()),
            _ => {}
        }
        // Chunks begin at even places.
        rest = after.get(size + size % 2..).unwrap_or_default();
    }
    let (size, lossy) = image.ok_or("it holds no image")?;
    let [width, height] = size;
    if let Some([w, h]) = canvas.filter(|canvas| *canvas != size) {
        return Err(format!("its image of {width}x{height} is not as large as its canvas of {w}x{h}"));
    }
    let pixels = width as u64 * height as u64;
    let planes = width.next_multiple_of(16) as u64 * height.next_multiple_of(16) as u64 * 3 / 2;
    // Transparency is a lossless image of its own, unless its first byte says otherwise.
    let is_stream = |(how, _): &(&u8, &[u8])| **how & 3 == 1;
    let stream = if lossy.is_some() { alpha.filter(is_stream).map(|(_, stream)| stream) } else { stream };
    let beside = match lossy {
        // Its partitions are copied, the last one twice and into a vector that doubles; then, with
        // them gone, four bytes a pixel of transparency, of which one is kept.
        Some((partitions, _)) => planes + (3 * partitions.len() as u64).max(alpha.map_or(0, |_| 5 * pixels)),
        // Four bytes a pixel where three are wanted.
        None => 4 * pixels,
    };
    let end = stream.map_or(0, |stream| stream.as_ptr_range().end.addr() - bytes.as_ptr().addr());
    Ok(Stated { size, exif, beside, lossy, stream, end })
}

/// The canvas, from the extended header.
fn extended(content: &[u8]) -> Option<[u32; 2]> {
    let sides = content.get(4..10)?.as_chunks::<3>().0;
    Some([sides[0], sides[1]].map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]) + 1))
}

/// The size that a key frame of VP8 states, and how many bytes its last partition has. Refused if
/// its partitions are larger than itself: the decoder takes the memory for each before it reads it.
/// Format: RFC 6386, 9.1 to 9.5.
fn lossy(content: &[u8]) -> Result<([u32; 2], usize), String> {
    let cut = || "its image ends inside its header".to_string();
    let (tag, rest) = content.split_first_chunk::<3>().ok_or_else(cut)?;
    let sides = rest.get(..7).and_then(|r| r.strip_prefix(&[0x9d, 0x01, 0x2a])).ok_or_else(cut)?.as_chunks::<2>().0;
    let first = u32::from_le_bytes([tag[0], tag[1], tag[2], 0]) as usize >> 5;
    let (first, behind) = rest[7..].split_at_checked(first).ok_or_else(cut)?;
    let more = partitions(first) - 1;
    let (sizes, coefficients) = behind.split_at_checked(3 * more).ok_or_else(cut)?;
    let stated: usize = sizes.as_chunks::<3>().0.iter().map(|[a, b, c]| u32::from_le_bytes([*a, *b, *c, 0]) as usize).sum();
    if stated > coefficients.len() {
        return Err(format!("{} of {stated} bytes of its coefficients are there", coefficients.len()));
    }
    let size = [sides[0], sides[1]].map(|side| u16::from_le_bytes(side) as u32 & 0x3fff);
    Ok((size, coefficients.len() - stated))
}

/// How many partitions hold the coefficients of a key frame: 1, 2, 4 or 8. `first`: its first
/// partition.
fn partitions(first: &[u8]) -> usize {
    let mut bits = Bits { bytes: first, value: 0, range: 255, shifted: 0 };
    bits.value = bits.byte() << 8 | bits.byte();
    // A value that may be absent: a flag, and its magnitude and sign.
    let optional = |bits: &mut Bits<'_>, length: u32| {
        if bits.take(1) == 1 {
            bits.take(length);
        }
    };
    bits.take(2);
    if bits.take(1) == 1 {
        let (map, data) = (bits.take(1), bits.take(1));
        if data == 1 {
            bits.take(1);
            (0..4).for_each(|_| optional(&mut bits, 8));
            (0..4).for_each(|_| optional(&mut bits, 7));
        }
        if map == 1 {
            (0..3).for_each(|_| optional(&mut bits, 8));
        }
    }
    bits.take(10);
    if bits.take(1) == 1 && bits.take(1) == 1 {
        (0..8).for_each(|_| optional(&mut bits, 7));
    }
    1 << bits.take(2)
}

/// The arithmetic decoder of VP8, for bits that are as often 0 as 1 (RFC 6386, 7.3).
struct Bits<'b> {
    bytes: &'b [u8],
    value: u32,
    range: u32,
    shifted: u32,
}

impl Bits<'_> {
    /// The next byte; behind the end zeros.
    fn byte(&mut self) -> u32 {
        self.bytes.split_off_first().map_or(0, |b| *b as u32)
    }

    /// A number of `length` bits, the highest first.
    fn take(&mut self, length: u32) -> u32 {
        (0..length).fold(0, |number, _| {
            let split = 1 + ((self.range - 1) >> 1);
            let bit = self.value >= split << 8;
            if bit {
                self.range -= split;
                self.value -= split << 8;
            } else {
                self.range = split;
            }
            while self.range < 128 {
                self.range <<= 1;
                self.value <<= 1;
                self.shifted += 1;
                if self.shifted == 8 {
                    self.shifted = 0;
                    self.value |= self.byte();
                }
            }
            number << 1 | bit as u32
        })
    }
}

/// The size that a lossless image states: 14 bits a side, less one.
fn size_of_lossless(content: &[u8]) -> Option<[u32; 2]> {
    let header = content.strip_prefix(&[0x2f])?.first_chunk().map(|bits| u32::from_le_bytes(*bits))?;
    Some([header & 0x3fff, header >> 14 & 0x3fff].map(|side| side + 1))
}

/// A file in pieces, whose reader is watched.
pub(super) struct Watched<'b> {
    pieces: [&'b [u8]; 3],
    /// How far it got.
    at: &'b Cell<usize>,
}

impl<'b> Watched<'b> {
    pub(super) fn new(pieces: [&'b [u8]; 3], at: &'b Cell<usize>) -> Self {
        Self { pieces, at }
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        let mut at = self.at.get();
        for piece in self.pieces {
            match piece.get(at..) {
                Some(rest) if !rest.is_empty() => return Ok(rest),
                _ => at -= piece.len().min(at),
            }
        }
        Ok(&[])
    }

    fn consume(&mut self, amount: usize) {
        self.at.set(self.at.get() + amount);
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let length = self.pieces.map(<[u8]>::len).iter().sum::<usize>() as u64;
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.at.get() as u64, by),
            SeekFrom::End(by) => (length, by),
        };
        let at = from.checked_add_signed(by).ok_or(std::io::ErrorKind::InvalidInput)?;
        self.at.set(usize::try_from(at).map_err(|_| std::io::ErrorKind::InvalidInput)?);
        Ok(at)
    }
}
