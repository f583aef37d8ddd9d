//! What a WebP states of itself: whether it is whole, how large its image is, and what decoding
//! that takes.
//!
//! The decoder reads the size in one place and allocates by another: the image's own header is not
//! compared with the canvas before its planes are there. So each chunk's header is read here first,
//! and of a lossless stream what describes its codes ([`lossless`]). Format: RFC 9649.

mod lossless;

/// What the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stated<'b> {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes that its decoder holds besides the image that it gives, but for what a lossless stream
    /// describes.
    beside: u64,
    /// Its lossless image, or its transparency, which is one, behind the size.
    stream: Option<&'b [u8]>,
}

impl Stated<'_> {
    /// Bytes that its decoder holds besides the image that it gives; not counted on once they are
    /// more than `limit`. Refused: a lossless image that is damaged before its first pixel.
    pub(super) fn beside(&self, limit: u64) -> Result<u64, String> {
        let described = self.stream.map_or(Some(0), |stream| lossless::beside(stream, [self.width, self.height], limit));
        Ok(self.beside + described.ok_or("its lossless image is damaged before its first pixel")?)
    }
}

/// Reads all chunk headers and computes no pixel. Refused: a file that ends before the length it
/// states, one whose image is not as large as its canvas, and an animation.
pub(super) fn stated(bytes: &[u8]) -> Result<Stated<'_>, String> {
    let length = bytes.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize + 8;
    if length > bytes.len() {
        return Err(format!("it ends after {} of {length} bytes", bytes.len()));
    }
    let (mut canvas, mut image, mut stream, mut alpha) = (None, None, None, None);
    // A length that is too small is believed by nobody: decoders go on to the end of the file.
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let content = &after[..size.min(after.len())];
        match &head[..4] {
            b"VP8X" => canvas = extended(content),
            b"VP8 " if image.is_none() => image = Some((lossy(content)?, true)),
            b"VP8L" => {
                image = image.or(size_of_lossless(content).map(|size| (size, false)));
                stream = stream.or(content.get(5..));
            }
            b"ALPH" => alpha = alpha.or(content.split_first()),
            b"ANIM" | b"ANMF" => return Err("it is an animation; save one image of it".into()),
            _ => {}
        }
        // Chunks begin at even places.
        rest = after.get(size + size % 2..).unwrap_or_default();
    }
    let ([width, height], is_lossy) = image.ok_or("it holds no image")?;
    if let Some([w, h]) = canvas.filter(|canvas| *canvas != [width, height]) {
        return Err(format!("its image of {width}x{height} is not as large as its canvas of {w}x{h}"));
    }
    let pixels = width as u64 * height as u64;
    let planes = width.next_multiple_of(16) as u64 * height.next_multiple_of(16) as u64 * 3 / 2;
    // Transparency is a lossless image of its own, unless its first byte says otherwise.
    let stream = if is_lossy { alpha.filter(|(how, _)| *how & 3 == 1).map(|(_, stream)| stream) } else { stream };
    let beside = match (is_lossy, alpha) {
        (true, None) => planes,
        // Four bytes a pixel of transparency, of which one is kept.
        (true, Some(_)) => planes + 5 * pixels,
        // Four bytes a pixel where three are wanted.
        (false, _) => 4 * pixels,
    };
    Ok(Stated { width, height, beside, stream })
}

/// The canvas, from the extended header.
fn extended(content: &[u8]) -> Option<[u32; 2]> {
    let sides = content.get(4..10)?.as_chunks::<3>().0;
    Some([sides[0], sides[1]].map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]) + 1))
}

/// The size that a key frame of VP8 states. Refused if its partitions are larger than itself: the
/// decoder takes the memory for each before it reads it. Format: RFC 6386, 9.1 to 9.5.
fn lossy(content: &[u8]) -> Result<[u32; 2], String> {
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
    Ok([sides[0], sides[1]].map(|side| u16::from_le_bytes(side) as u32 & 0x3fff))
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
