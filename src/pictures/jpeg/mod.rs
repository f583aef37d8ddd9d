//! JPEG: whether an image is whole, and its pixels.
//!
//! Decoders are made to show something of a broken file: they fill what is missing with grey and
//! say so in a warning, if at all. Here every code of every scan is followed until as many blocks
//! have passed as the header promises, and nothing but the end marker may follow. A file that was
//! cut then ends too early. One that has a hole inside mostly ends too early, too late, or in a
//! code that no encoder writes. The end marker of a thumbnail inside a segment is never mistaken
//! for the image's. What is whole is the same image, to the last bit, that libjpeg makes of it, if
//! its coefficients are such as 8-bit samples give.
//!
//! Not seen, because JPEG has no checksum: a hole that holds codes of exactly as many blocks as
//! were there. Of a baseline file, 64 and more bytes that are lost, zeroed or foreign were always
//! found; where 2 bytes are lost, 5 of 6 files pass, and where 32 are, 1 of 60. Of a progressive
//! file the scans that refine are mostly bits that may have any value: with a sector of zeros or
//! lost there, up to half of the files pass. A run of zeros proves nothing, neither here nor in
//! WebP: with optimised codes an even white background is hundreds of zeros.
//!
//! Tolerated, because libjpeg and FFmpeg agree on it: missing Huffman tables (the standard's are
//! meant), fill bytes before markers, bytes behind the end marker; and bytes before the start
//! marker in frames of motion JPEG.
//!
//! The work has three parts: segments and tables here, codes and bits in [`entropy`], blocks of
//! coefficients in [`scan`], and from there to RGB in [`pixels`]; [`damage`] says what is wrong.
//!
//! *Scan*: one pass over some components. *MCU*: the blocks of all components of a scan that cover
//! one patch of the image. *Progressive*: scans send bands of coefficients, coarse bits first.
//! Format: ITU-T T.81 (1992).

mod damage;
mod entropy;
mod pixels;
mod scan;
mod tables;

use super::PictureError;
pub(super) use damage::Damage;
use entropy::Huffman;
use pixels::Space;
use scan::Walk;

/// What the frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    components: u8,
    parts: [Part; 4],
    /// Scans refine one another.
    progressive: bool,
    /// All coefficients must be kept, because no scan has all there is of a patch.
    pub(super) buffered: bool,
}

/// What the frame header says of a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    id: u8,
    /// Blocks of an MCU, across and down.
    h: u32,
    v: u32,
    /// Its quantisation table.
    table: u8,
}

impl Header {
    fn parts(&self) -> &[Part] {
        &self.parts[..self.components as usize]
    }

    /// Blocks that an MCU has across and down, of the component that has most.
    fn sampling(&self) -> [u32; 2] {
        let most = |of: fn(&Part) -> u32| self.parts().iter().map(of).max().unwrap_or(1);
        [most(|p| p.h), most(|p| p.v)]
    }

    /// MCUs across and down.
    fn mcus(&self) -> [u32; 2] {
        let [h, v] = self.sampling();
        [self.width.div_ceil(8 * h), self.height.div_ceil(8 * v)]
    }

    /// Blocks of a component across and down, with those that only fill the last MCUs.
    fn blocks(&self, part: &Part) -> [u32; 2] {
        let [columns, rows] = self.mcus();
        [columns * part.h, rows * part.v]
    }

    /// Bytes that decoding takes: the image, two rows of MCUs, a row of each component, and the
    /// coefficients where they are kept.
    pub(super) fn memory(&self) -> u64 {
        let pixels = self.width as u64 * self.height as u64;
        let of_part = |part: &Part| {
            let [columns, rows] = self.blocks(part).map(u64::from);
            let kept = if self.buffered { 128 * columns * rows } else { 0 };
            8 * columns * 16 * part.v as u64 + self.width as u64 + 8 * columns + kept
        };
        3 * pixels + 2 * self.width.next_multiple_of(32) as u64 + self.parts().iter().map(of_part).sum::<u64>()
    }
}

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DHT: u8 = 0xc4;
const DRI: u8 = 0xdd;
/// More scans than any encoder writes; a bound on the time that a small file can cost.
const MAX_SCANS: u32 = 100;

/// Where the image begins: at its start marker, which another marker follows.
fn start(bytes: &[u8]) -> Result<usize, Damage> {
    bytes.windows(3).position(|w| w == [0xff, SOI, 0xff]).ok_or(Damage::NoStart)
}

/// A marker and what follows it.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    /// The next marker, where it begins (without fill bytes), and the segment's content; empty for
    /// markers without one.
    fn next(&mut self) -> Result<(u8, usize, &'a [u8]), Damage> {
        let ended = Damage::Ends { at: self.bytes.len() as u32 };
        if *self.bytes.get(self.at).ok_or(ended)? != 0xff {
            return Err(Damage::NoMarker { at: self.at as u32 });
        }
        while *self.bytes.get(self.at + 1).ok_or(ended)? == 0xff {
            self.at += 1;
        }
        let (begin, marker) = (self.at, self.bytes[self.at + 1]);
        self.at += 2;
        if matches!(marker, 0x01 | 0xd0..=EOI) {
            return Ok((marker, begin, &[]));
        }
        if marker == 0 {
            return Err(Damage::NoMarker { at: begin as u32 });
        }
        let length = self.bytes.get(self.at..self.at + 2).ok_or(ended)?;
        let length = u16::from_be_bytes([length[0], length[1]]);
        if length < 2 {
            return Err(Damage::Segment { length, at: begin as u32 });
        }
        let length = length as usize;
        let content = self.bytes.get(self.at + 2..self.at + length).ok_or(ended)?;
        self.at += length;
        Ok((marker, begin, content))
    }
}

/// Reads as far as the first scan, and allocates nothing.
pub(super) fn header(bytes: &[u8]) -> Result<Header, Damage> {
    let mut segments = Segments { bytes, at: start(bytes)? + 2 };
    let mut found = None;
    loop {
        match segments.next()? {
            (marker, _, content) if is_frame_header(marker) => found = Some(frame_header(marker, content)?),
            (SOS, _, content) => {
                let header: Header = found.ok_or(Damage::NoFrame)?;
                let all_at_once = content.first() == Some(&header.components);
                return Ok(Header { buffered: header.progressive || !all_at_once, ..header });
            }
            (EOI, ..) => return Err(Damage::NoScan),
            _ => {}
        }
    }
}

fn is_frame_header(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, DHT | 0xc8 | 0xcc)
}

fn frame_header(marker: u8, content: &[u8]) -> Result<Header, Damage> {
    if !matches!(marker, 0xc0..=0xc2) {
        return Err(Damage::Process(marker - 0xc0));
    }
    let &[bits, h1, h0, w1, w0, components, ..] = content else { return Err(Damage::FrameHeader) };
    if bits != 8 {
        return Err(Damage::SampleBits(bits));
    }
    let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
    if width == 0 || height == 0 || !matches!(components, 1 | 3 | 4) || content.len() != 6 + 3 * components as usize {
        return Err(Damage::Frame { width, height, components });
    }
    let mut parts = [Part::default(); 4];
    for (part, &[id, sampling, table]) in parts.iter_mut().zip(content[6..].as_chunks::<3>().0) {
        let [h, v] = [sampling >> 4, sampling & 15];
        if !(1..=4).contains(&h) || !(1..=4).contains(&v) || table > 3 {
            return Err(Damage::Component { id, sampling: [h, v], table });
        }
        // One component alone is never interleaved, whatever its sampling says.
        let [h, v] = if components == 1 { [1, 1] } else { [h, v].map(u32::from) };
        *part = Part { id, h, v, table };
    }
    let header = Header {
        width: width.into(),
        height: height.into(),
        components,
        parts,
        progressive: marker == 0xc2,
        buffered: false,
    };
    let [h, v] = header.sampling();
    match header.parts().iter().find(|part| h % part.h != 0 || v % part.v != 0) {
        Some(part) => Err(Damage::Blocks { id: part.id, sampling: [part.h as u8, part.v as u8], most: [h as u8, v as u8] }),
        None => Ok(header),
    }
}

/// A whole image.
pub(super) struct Decoded<'a> {
    /// `[height, width, 3]`.
    pub(super) rgb: Vec<u8>,
    /// What it states of itself: a TIFF file.
    pub(super) exif: Option<&'a [u8]>,
}

/// Tables that stay in force until others come.
#[derive(Default)]
struct Tables {
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    /// Row after row, not in the order of the file.
    steps: [Option<[u16; 64]>; 4],
    /// MCUs from one restart to the next; 0 for none.
    interval: u32,
}

/// Follows a JPEG to its end. `header`: what [`header`] made of the same bytes.
pub(super) fn decode<'a>(bytes: &'a [u8], header: &Header) -> Result<Decoded<'a>, PictureError> {
    let mut segments = Segments { bytes, at: start(bytes)? + 2 };
    let (mut tables, mut walk, mut scans) = (Tables::default(), None, 0);
    let (mut framed, mut jfif, mut adobe, mut exif) = (false, false, None, None);
    loop {
        let (marker, begin, content) = segments.next()?;
        match marker {
            DHT => tables.huffman(content)?,
            DQT => tables.quantisation(content)?,
            DRI => match *content {
                [hi, lo] => tables.interval = u16::from_be_bytes([hi, lo]).into(),
                _ => return Err(Damage::RestartInterval.into()),
            },
            0xe0 => jfif |= content.starts_with(b"JFIF\0"),
            0xe1 => exif = exif.or(content.strip_prefix(b"Exif\0\0")),
            0xee if content.starts_with(b"Adobe") => adobe = content.get(11).copied().or(adobe),
            _ if is_frame_header(marker) => {
                if framed {
                    return Err(Damage::TwoFrames.into());
                }
                framed = true;
            }
            SOS => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(Damage::Scans(MAX_SCANS).into());
                }
                if scans == 1 && tables.dc.iter().chain(&tables.ac).all(Option::is_none) {
                    tables.huffman(&tables::typical())?;
                }
                let walk = match &mut walk {
                    Some(walk) => walk,
                    none => none.insert(Walk::new(header, header.space(jfif, adobe))?),
                };
                segments.at = walk.scan(bytes, segments.at, content, &tables)?;
            }
            EOI => break,
            SOI => return Err(Damage::Nested { at: begin as u32 }.into()),
            _ => {}
        }
    }
    let rgb = walk.ok_or(Damage::NoScan)?.complete()?;
    Ok(Decoded { rgb, exif })
}

impl Header {
    /// What its components are, as libjpeg guesses it. `adobe`: the transform that Adobe's segment
    /// states.
    fn space(&self, jfif: bool, adobe: Option<u8>) -> Space {
        let ids: Vec<u8> = self.parts().iter().map(|p| p.id).collect();
        match (self.components, adobe) {
            (1, _) => Space::Grey,
            (3, _) if jfif => Space::Ycc,
            (3, Some(0)) => Space::Rgb,
            (3, None) if ids == *b"RGB" => Space::Rgb,
            (3, _) => Space::Ycc,
            (_, None | Some(0)) => Space::Cmyk,
            _ => Space::Ycck,
        }
    }
}

impl Tables {
    fn huffman(&mut self, mut content: &[u8]) -> Result<(), Damage> {
        while let Some((&class, rest)) = content.split_first() {
            let counts = rest.get(..16).ok_or(Damage::HuffmanTable)?;
            let total = counts.iter().map(|&c| c as usize).sum::<usize>();
            let symbols = rest.get(16..16 + total).filter(|_| total <= 256).ok_or(Damage::HuffmanTable)?;
            let tables = match class >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(Damage::HuffmanTable),
            };
            *tables.get_mut(class as usize & 15).ok_or(Damage::HuffmanTable)? = Some(Huffman::new(counts, symbols)?);
            content = &rest[16 + total..];
        }
        Ok(())
    }

    fn quantisation(&mut self, mut content: &[u8]) -> Result<(), Damage> {
        while let Some((&class, rest)) = content.split_first() {
            let wide = class >> 4 == 1;
            let values =
                rest.get(..if wide { 128 } else { 64 }).filter(|_| class >> 4 < 2).ok_or(Damage::QuantisationTable)?;
            let steps = self.steps.get_mut(class as usize & 15).ok_or(Damage::QuantisationTable)?.insert([0; 64]);
            for (i, place) in tables::ZIGZAG.into_iter().enumerate() {
                let value = if wide { u16::from_be_bytes([values[2 * i], values[2 * i + 1]]) } else { values[i] as u16 };
                steps[place as usize] = value;
            }
            content = &rest[values.len()..];
        }
        Ok(())
    }
}
