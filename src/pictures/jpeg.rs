//! Whether a JPEG is whole: every segment, every block of every scan, and nothing behind them but the end marker.
//!
//! Decoders are made to show something of a broken file: they fill what is missing with grey and say so in a warning, if at
//! all. Here the file's structure is followed without computing a pixel: segment after segment, and in each scan Huffman code
//! after Huffman code, until as many blocks have passed as the header promises. A file that was cut, or lost bytes in between,
//! then ends too early, too late, or in a code that no encoder writes. The end marker of a thumbnail inside a segment is never
//! mistaken for the picture's.
//!
//! Tolerated, because libjpeg and FFmpeg agree on it: missing Huffman tables (the standard's are meant), fill bytes before
//! markers, bytes behind the end marker; and bytes before the start marker in frames of motion JPEG.
//!
//! *Scan*: one pass over some components. *MCU*: the blocks of all components of a scan that cover one patch of the picture.
//! *Progressive*: scans send bands of coefficients, coarse bits first. Format: ITU-T T.81 (1992).

use super::tables;
use std::borrow::Cow;
use std::ops::Range;

/// What the frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: u8,
    /// Scans refine one another.
    pub(super) progressive: bool,
    /// Components differ in size.
    subsampled: bool,
    /// A decoder must keep all coefficients, because no scan has all there is of a patch.
    pub(super) buffered: bool,
}

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DHT: u8 = 0xc4;
const DRI: u8 = 0xdd;
/// More scans than any encoder writes; a bound on the time that a small file can cost.
const MAX_SCANS: u32 = 100;

/// Where the picture begins: at its start marker, which another marker follows.
fn start(bytes: &[u8]) -> Result<usize, String> {
    bytes.windows(3).position(|w| w == [0xff, SOI, 0xff]).ok_or_else(|| "it has no start of a JPEG".into())
}

/// A marker and what follows it.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    /// The next marker, where it begins (without fill bytes), and the segment's content; empty for markers without one.
    fn next(&mut self) -> Result<(u8, usize, &'a [u8]), String> {
        let ended = || format!("it ends after {} bytes, inside the picture", self.bytes.len());
        if *self.bytes.get(self.at).ok_or_else(ended)? != 0xff {
            return Err(format!("no marker at byte {}, where one is due", self.at));
        }
        while *self.bytes.get(self.at + 1).ok_or_else(ended)? == 0xff {
            self.at += 1;
        }
        let (begin, marker) = (self.at, self.bytes[self.at + 1]);
        self.at += 2;
        if matches!(marker, 0x01 | 0xd0..=EOI) {
            return Ok((marker, begin, &[]));
        }
        if marker == 0 {
            return Err(format!("no marker at byte {begin}, where one is due"));
        }
        let length = self.bytes.get(self.at..self.at + 2).ok_or_else(ended)?;
        let length = u16::from_be_bytes([length[0], length[1]]) as usize;
        if length < 2 {
            return Err(format!("a segment of {length} bytes at byte {begin}"));
        }
        let content = self.bytes.get(self.at + 2..self.at + length).ok_or_else(ended)?;
        self.at += length;
        Ok((marker, begin, content))
    }
}

/// Reads as far as the first scan, and allocates nothing.
pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    let mut segments = Segments { bytes, at: start(bytes)? + 2 };
    let mut found = None;
    loop {
        match segments.next()? {
            (marker @ 0xc0..=0xcf, _, content) if !matches!(marker, DHT | 0xc8 | 0xcc) => {
                found = Some(frame_header(marker, content)?);
            }
            (SOS, _, content) => {
                let header: Header = found.ok_or("a scan stands before the frame header")?;
                let all_at_once = content.first() == Some(&header.components);
                if !all_at_once && !header.progressive && header.subsampled {
                    // The decoder puts the blocks of such scans into the wrong places.
                    return Err(
                        "components of different size in scans of their own; save it again as an ordinary JPEG".into()
                    );
                }
                return Ok(Header { buffered: header.progressive || !all_at_once, ..header });
            }
            (EOI, ..) => return Err("it ends without a scan".into()),
            _ => {}
        }
    }
}

fn frame_header(marker: u8, content: &[u8]) -> Result<Header, String> {
    if !matches!(marker, 0xc0..=0xc2) {
        return Err(format!("JPEG process {}: only baseline, extended and progressive Huffman are read", marker - 0xc0));
    }
    let &[bits, h1, h0, w1, w0, components, ..] = content else { return Err("its frame header is too short".into()) };
    if bits != 8 {
        return Err(format!("{bits} bits a sample: only 8 are read"));
    }
    let (width, height) = (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
    if width == 0 || height == 0 || !matches!(components, 1 | 3 | 4) || content.len() != 6 + 3 * components as usize {
        return Err(format!("its frame header says {width}x{height} with {components} components"));
    }
    let subsampled = content[6..].chunks_exact(3).any(|part| part[1] != content[7]);
    Ok(Header { width, height, components, progressive: marker == 0xc2, subsampled, buffered: false })
}

/// A Huffman code: 9 bits looked up at once, longer codes by the ranges of their lengths.
#[derive(Clone)]
struct Huffman {
    /// Length << 8 | symbol for codes of at most 9 bits; 0 for longer ones.
    short: [u16; 512],
    /// First code that is too great for its length, aligned to 16 bits; by length.
    beyond: [u32; 17],
    /// Index of a length's first symbol, less its first code.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8], symbols: &[u8]) -> Result<Self, String> {
        let mut table = Self { short: [0; 512], beyond: [0; 17], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16usize {
            let count = counts[length - 1] as u32;
            table.offset[length] = index as i32 - code as i32;
            if code + count > 1 << length {
                return Err("a Huffman table with more codes than there can be".into());
            }
            for c in code..code + count {
                if length <= 9 {
                    let first = (c << (9 - length)) as usize;
                    table.short[first..first + (1 << (9 - length))].fill((length << 8) as u16 | symbols[index] as u16);
                }
                index += 1;
            }
            code += count;
            table.beyond[length] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }
}

/// The bits of a scan, up to the next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, uppermost first.
    held: u64,
    count: u32,
    /// A marker, or the file's end, was met.
    ended: bool,
}

impl Bits<'_> {
    fn refill(&mut self) {
        while self.count <= 56 && !self.ended {
            let byte = match self.bytes.get(self.at) {
                None => {
                    self.ended = true;
                    return;
                }
                Some(&0xff) => {
                    // Any number of 0xff before a zero is one byte of data, before anything else fill bytes of a marker.
                    let mut after = self.at + 1;
                    while self.bytes.get(after) == Some(&0xff) {
                        after += 1;
                    }
                    if self.bytes.get(after) != Some(&0) {
                        self.ended = true;
                        return;
                    }
                    self.at = after + 1;
                    0xff
                }
                Some(&byte) => {
                    self.at += 1;
                    byte
                }
            };
            self.held |= (byte as u64) << (56 - self.count);
            self.count += 8;
        }
    }

    fn short(&self) -> String {
        format!("the scan ends at byte {}, before its last block", self.at)
    }

    fn code(&mut self, table: &Huffman) -> Result<u8, String> {
        if self.count < 16 {
            self.refill();
        }
        let ahead = (self.held >> 48) as u32;
        let found = table.short[(ahead >> 7) as usize];
        let (length, symbol) = if found != 0 {
            ((found >> 8) as u32, found as u8)
        } else {
            let length = (10..=16).find(|&l| ahead < table.beyond[l]);
            let Some(length) = length else {
                // Behind the last bit everything reads as zeros, so an unknown code is damage and not the end.
                return Err(if self.count < 16 { self.short() } else { format!("no Huffman code at byte {}", self.at) });
            };
            let index = table.offset[length] + (ahead >> (16 - length)) as i32;
            let symbol = usize::try_from(index).ok().and_then(|i| table.symbols.get(i));
            (length as u32, *symbol.ok_or_else(|| format!("no Huffman code at byte {}", self.at))?)
        };
        self.drop_bits(length)?;
        Ok(symbol)
    }

    fn drop_bits(&mut self, n: u32) -> Result<(), String> {
        if n > self.count {
            return Err(self.short());
        }
        self.held <<= n;
        self.count -= n;
        Ok(())
    }

    /// At most 16 bits.
    fn take(&mut self, n: u32) -> Result<u32, String> {
        if n == 0 {
            return Ok(0);
        }
        if self.count < n {
            self.refill();
        }
        let value = (self.held >> (64 - n)) as u32;
        self.drop_bits(n)?;
        Ok(value)
    }

    /// The end of a scan or restart interval: less than a byte of padding, then a marker.
    fn end(&mut self) -> Result<(), String> {
        self.refill();
        if self.count >= 8 || !self.ended {
            return Err(format!("bytes are left over before byte {}, behind the scan's last block", self.at));
        }
        (self.held, self.count, self.ended) = (0, 0, false);
        Ok(())
    }
}

struct Component {
    id: u8,
    h: u32,
    v: u32,
    table: u8,
    /// Blocks in a row and rows of blocks that scans of this component alone hold.
    own: [u32; 2],
    /// Blocks in a row with those that only fill the last MCU.
    stride: u32,
    /// Coefficients that are known to differ from zero, a bit each; progressive only.
    nonzero: Vec<u64>,
    /// The bit down to which each coefficient was sent; 255 for not at all.
    sent: [u8; 64],
    prediction: i32,
}

/// What a scan's header says.
struct Scan {
    /// Component, DC table, AC table.
    of: Vec<(usize, usize, usize)>,
    band: Range<usize>,
    high: u8,
    low: u8,
}

struct Walk {
    header: Header,
    components: Vec<Component>,
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    /// Step of the DC coefficient by quantisation table; 0 where none came.
    dc_step: [u16; 4],
    interval: u32,
    eob_run: u32,
}

/// Follows a JPEG to its end; gives it as every decoder reads it: from its start marker on, without fill bytes, with tables.
pub(super) fn whole(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let first = start(bytes)?;
    let mut segments = Segments { bytes, at: first + 2 };
    let mut pieces: Vec<Range<usize>> = std::iter::once(first..first + 2).collect();
    let mut walk: Option<Walk> = None;
    let mut tables_missing = None;
    let (mut dc, mut ac) = ([const { None }; 4], [const { None }; 4]);
    let (mut dc_step, mut interval, mut scans) = ([0; 4], 0, 0);
    loop {
        let (marker, begin, content) = segments.next()?;
        match marker {
            DHT => huffman_tables(content, &mut dc, &mut ac)?,
            DQT => quantisation_tables(content, &mut dc_step)?,
            DRI => match *content {
                [hi, lo] => interval = u16::from_be_bytes([hi, lo]).into(),
                _ => return Err("its restart interval is no number".into()),
            },
            0xc0..=0xcf if !matches!(marker, 0xc8 | 0xcc) => {
                if walk.is_some() {
                    return Err("it has two frame headers".into());
                }
                walk = Some(Walk::new(frame_header(marker, content)?, content)?);
            }
            SOS => {
                let walk = walk.as_mut().ok_or("a scan stands before the frame header")?;
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(format!("more than {MAX_SCANS} scans"));
                }
                if scans == 1 && dc.iter().chain(&ac).all(Option::is_none) {
                    tables_missing = Some(pieces.len());
                    huffman_tables(&tables::segment()[4..], &mut dc, &mut ac)?;
                }
                (walk.dc, walk.ac, walk.dc_step, walk.interval) = (dc, ac, dc_step, interval);
                segments.at = walk.scan(bytes, segments.at, content)?;
                (dc, ac) = (std::mem::take(&mut walk.dc), std::mem::take(&mut walk.ac));
            }
            EOI => break,
            SOI => return Err(format!("another picture begins at byte {begin}, inside this one")),
            _ => {}
        }
        pieces.push(begin..segments.at);
    }
    pieces.push(segments.at - 2..segments.at);
    walk.ok_or("it has no frame header")?.complete()?;
    if first == 0 && tables_missing.is_none() && pieces.windows(2).all(|w| w[0].end == w[1].start) {
        return Ok(bytes.into());
    }
    let mut plain = Vec::with_capacity(bytes.len() + 432);
    for (i, piece) in pieces.into_iter().enumerate() {
        if tables_missing == Some(i) {
            plain.extend(tables::segment());
        }
        plain.extend_from_slice(&bytes[piece]);
    }
    Ok(plain.into())
}

fn huffman_tables(mut content: &[u8], dc: &mut [Option<Huffman>; 4], ac: &mut [Option<Huffman>; 4]) -> Result<(), String> {
    const BROKEN: &str = "a broken Huffman table";
    while let Some((&class, rest)) = content.split_first() {
        let counts = rest.get(..16).ok_or(BROKEN)?;
        let total = counts.iter().map(|&c| c as usize).sum::<usize>();
        let symbols = rest.get(16..16 + total).filter(|_| total <= 256).ok_or(BROKEN)?;
        let tables = match class >> 4 {
            0 => &mut *dc,
            1 => &mut *ac,
            _ => return Err(BROKEN.into()),
        };
        *tables.get_mut(class as usize & 15).ok_or(BROKEN)? = Some(Huffman::new(counts, symbols)?);
        content = &rest[16 + total..];
    }
    Ok(())
}

fn quantisation_tables(mut content: &[u8], dc_step: &mut [u16; 4]) -> Result<(), String> {
    const BROKEN: &str = "a broken quantisation table";
    while let Some((&class, rest)) = content.split_first() {
        let wide = class >> 4 == 1;
        let values = rest.get(..if wide { 128 } else { 64 }).filter(|_| class >> 4 < 2).ok_or(BROKEN)?;
        let step = if wide { u16::from_be_bytes([values[0], values[1]]) } else { values[0] as u16 };
        *dc_step.get_mut(class as usize & 15).ok_or(BROKEN)? = step;
        content = &rest[values.len()..];
    }
    Ok(())
}

impl Walk {
    fn new(header: Header, content: &[u8]) -> Result<Self, String> {
        let mut components: Vec<Component> = Vec::with_capacity(4);
        for part in content[6..].chunks_exact(3) {
            let (h, v) = (part[1] as u32 >> 4, part[1] as u32 & 15);
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) || part[2] > 3 {
                return Err(format!("component {} with sampling {h}x{v} and table {}", part[0], part[2]));
            }
            // One component alone is never interleaved, whatever its sampling says.
            let (h, v) = if header.components == 1 { (1, 1) } else { (h, v) };
            let (nonzero, sent) = (Vec::new(), [255; 64]);
            components.push(Component {
                id: part[0],
                h,
                v,
                table: part[2],
                own: [0; 2],
                stride: 0,
                nonzero,
                sent,
                prediction: 0,
            });
        }
        let h_max = components.iter().map(|c| c.h).max().unwrap_or(1);
        let v_max = components.iter().map(|c| c.v).max().unwrap_or(1);
        for c in &mut components {
            c.own = [(header.width * c.h).div_ceil(8 * h_max), (header.height * c.v).div_ceil(8 * v_max)];
            c.stride = header.width.div_ceil(8 * h_max) * c.h;
            if header.progressive {
                let rows = header.height.div_ceil(8 * v_max) * c.v;
                c.nonzero = vec![0; c.stride as usize * rows as usize];
            }
        }
        let tables = || [const { None }; 4];
        Ok(Self { header, components, dc: tables(), ac: tables(), dc_step: [0; 4], interval: 0, eob_run: 0 })
    }

    fn scan_header(&self, content: &[u8]) -> Result<Scan, String> {
        let broken = || "a broken scan header".to_string();
        let (&n, rest) = content.split_first().ok_or_else(broken)?;
        let n = n as usize;
        if !(1..=4).contains(&n) || rest.len() != 2 * n + 3 {
            return Err(broken());
        }
        let mut of: Vec<(usize, usize, usize)> = Vec::with_capacity(n);
        for pair in rest[..2 * n].chunks_exact(2) {
            let at = self.components.iter().position(|c| c.id == pair[0]).ok_or_else(broken)?;
            if of.iter().any(|o| o.0 == at) || pair[1] >> 4 > 3 || pair[1] & 15 > 3 {
                return Err(broken());
            }
            of.push((at, (pair[1] >> 4) as usize, (pair[1] & 15) as usize));
        }
        let [first, last, bits] = rest[2 * n..] else { return Err(broken()) };
        if !self.header.progressive {
            // Motion JPEG is careless with these three, and they can only have one meaning.
            return Ok(Scan { of, band: 0..64, high: 0, low: 0 });
        }
        let (high, low) = (bits >> 4, bits & 15);
        let dc = first == 0;
        let right =
            last < 64 && first <= last && dc == (last == 0) && (dc || n == 1) && low < 14 && (high == 0 || high == low + 1);
        if right { Ok(Scan { of, band: first as usize..last as usize + 1, high, low }) } else { Err(broken()) }
    }

    /// Follows a scan from `at` to the marker behind it; returns where that is.
    fn scan(&mut self, bytes: &[u8], at: usize, content: &[u8]) -> Result<usize, String> {
        let scan = self.scan_header(content)?;
        for &(c, ..) in &scan.of {
            for sent in &mut self.components[c].sent[scan.band.clone()] {
                let due = if scan.high == 0 { 255 } else { scan.high };
                if *sent != due {
                    return Err("its scans do not follow from one another".into());
                }
                *sent = scan.low;
            }
        }
        let mut bits = Bits { bytes, at, held: 0, count: 0, ended: false };
        let alone = scan.of.len() == 1;
        let (columns, rows) = if alone {
            let [columns, rows] = self.components[scan.of[0].0].own;
            (columns, rows)
        } else {
            let c = &self.components[scan.of[0].0];
            let v_max = self.components.iter().map(|c| c.v).max().unwrap_or(1);
            (c.stride / c.h, self.header.height.div_ceil(8 * v_max))
        };
        self.restart();
        let (mut left, mut restarts) = (self.interval, 0);
        for row in 0..rows {
            for column in 0..columns {
                if self.interval > 0 && left == 0 {
                    self.interval_end(&mut bits)?;
                    let (marker, ..) = Segments { bytes, at: bits.at }.next()?;
                    if marker != 0xd0 + restarts {
                        return Err(format!("marker {marker:#04x} at byte {}, where a restart is due", bits.at));
                    }
                    while bytes[bits.at] == 0xff {
                        bits.at += 1;
                    }
                    bits.at += 1;
                    (left, restarts) = (self.interval, (restarts + 1) % 8);
                    self.restart();
                }
                left = left.saturating_sub(1);
                for &(c, dc, ac) in &scan.of {
                    let (h, v) = if alone { (1, 1) } else { (self.components[c].h, self.components[c].v) };
                    for y in 0..v {
                        for x in 0..h {
                            let block =
                                (row * v + y) as usize * self.components[c].stride as usize + (column * h + x) as usize;
                            self.block(&mut bits, &scan, (c, dc, ac), block)?;
                        }
                    }
                }
            }
        }
        self.interval_end(&mut bits)?;
        Ok(bits.at)
    }

    fn interval_end(&self, bits: &mut Bits<'_>) -> Result<(), String> {
        if self.eob_run > 0 {
            return Err(format!("a run of {} empty blocks goes on behind the last one", self.eob_run));
        }
        bits.end()
    }

    fn restart(&mut self) {
        self.eob_run = 0;
        self.components.iter_mut().for_each(|c| c.prediction = 0);
    }

    fn block(
        &mut self,
        bits: &mut Bits<'_>,
        scan: &Scan,
        tables: (usize, usize, usize),
        block: usize,
    ) -> Result<(), String> {
        let (c, dc, ac) = tables;
        let missing = || "a scan names a Huffman table that did not come".to_string();
        let component = &mut self.components[c];
        if scan.band.start == 0 {
            if scan.high > 0 {
                return bits.take(1).map(drop);
            }
            let size = bits.code(self.dc[dc].as_ref().ok_or_else(missing)?)? as u32;
            if size > 11 {
                return Err(format!("a DC difference of {size} bits at byte {}", bits.at));
            }
            let value = bits.take(size)? as i32;
            let negative = size > 0 && value >> (size - 1) == 0;
            component.prediction += if negative { value - (1 << size) + 1 } else { value };
            // Eight-bit samples give at most 1024; twice that is more than any encoder's rounding.
            let step = self.dc_step[component.table as usize] as i64;
            if ((component.prediction as i64) << scan.low).abs() * step > 2048 + step {
                return Err(format!("a block brighter or darker than can be at byte {}", bits.at));
            }
            if self.header.progressive {
                return Ok(());
            }
            return sequential(bits, self.ac[ac].as_ref().ok_or_else(missing)?);
        }
        let table = self.ac[ac].as_ref().ok_or_else(missing)?;
        let nonzero = &mut component.nonzero[block];
        if scan.high == 0 {
            first_pass(bits, table, scan.band.clone(), nonzero, &mut self.eob_run)
        } else {
            refinement(bits, table, scan.band.clone(), nonzero, &mut self.eob_run)
        }
    }

    /// Whether all was sent: a progressive picture that ends between two scans looks well, only blurred.
    fn complete(&self) -> Result<(), String> {
        let wanting = self.components.iter().map(|c| c.sent.iter().filter(|&&low| low != 0).count()).max().unwrap_or(0);
        if wanting > 0 {
            return Err(format!("its end comes before its last scan: {wanting} of 64 coefficients are not complete"));
        }
        Ok(())
    }
}

fn beyond_block(bits: &Bits<'_>) -> String {
    format!("a block of more than 64 coefficients at byte {}", bits.at)
}

/// The AC coefficients of a block in sequential mode.
fn sequential(bits: &mut Bits<'_>, table: &Huffman) -> Result<(), String> {
    let mut k = 1;
    while k < 64 {
        let symbol = bits.code(table)?;
        match (symbol >> 4, symbol & 15) {
            (15, 0) => k += 16,
            (_, 0) => return Ok(()),
            (run, size) => {
                k += run as usize + 1;
                bits.take(size.into())?;
            }
        }
    }
    if k > 64 { Err(beyond_block(bits)) } else { Ok(()) }
}

/// A band of a block's AC coefficients, sent for the first time.
fn first_pass(
    bits: &mut Bits<'_>,
    table: &Huffman,
    band: Range<usize>,
    nonzero: &mut u64,
    eob_run: &mut u32,
) -> Result<(), String> {
    if *eob_run > 0 {
        *eob_run -= 1;
        return Ok(());
    }
    let mut k = band.start;
    while k < band.end {
        let symbol = bits.code(table)?;
        match (symbol >> 4, symbol & 15) {
            (15, 0) => k += 16,
            (run, 0) => {
                *eob_run = (1 << run) - 1 + bits.take(run.into())?;
                return Ok(());
            }
            (run, size) => {
                k += run as usize;
                if k >= band.end {
                    return Err(beyond_block(bits));
                }
                *nonzero |= 1 << k;
                bits.take(size.into())?;
                k += 1;
            }
        }
    }
    if k > band.end { Err(beyond_block(bits)) } else { Ok(()) }
}

/// One more bit of a band: a bit for each coefficient that is not zero yet, codes for those that become so.
fn refinement(
    bits: &mut Bits<'_>,
    table: &Huffman,
    band: Range<usize>,
    nonzero: &mut u64,
    eob_run: &mut u32,
) -> Result<(), String> {
    let mut k = band.start;
    if *eob_run == 0 {
        while k < band.end {
            let symbol = bits.code(table)?;
            let (mut run, size) = (symbol >> 4, symbol & 15);
            match size {
                0 if run < 15 => {
                    *eob_run = (1 << run) + bits.take(run.into())?;
                    break;
                }
                0 => {}
                1 => drop(bits.take(1)?),
                _ => return Err(format!("a refinement by {size} bits at byte {}", bits.at)),
            }
            while k < band.end {
                if *nonzero >> k & 1 == 1 {
                    bits.take(1)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if size == 1 {
                if k >= band.end {
                    return Err(beyond_block(bits));
                }
                *nonzero |= 1 << k;
            }
            k += 1;
        }
    }
    if *eob_run > 0 {
        for k in k..band.end {
            bits.take((*nonzero >> k & 1) as u32)?;
        }
        *eob_run -= 1;
    }
    Ok(())
}
