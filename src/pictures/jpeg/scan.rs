//! Scans: blocks of coefficients, sent at once or in bands that refine one another.

use super::super::budget::{NoMemory, filled};
use super::entropy::{Bits, Huffman};
use super::pixels::{Painter, Space};
use super::tables::ZIGZAG;
use super::{Damage, Header, Part, Segments, Tables};
use std::ops::Range;

/// One component, as far as it has come.
struct Component {
    part: Part,
    /// Blocks in a row and rows of blocks that scans of this component alone hold.
    own: [u32; 2],
    /// Blocks in a row with those that only fill the last MCU.
    stride: u32,
    /// All its blocks, row after row; none where they are painted at once.
    coefficients: Vec<[i16; 64]>,
    /// Its quantisation, in force since its first scan.
    steps: Option<[u16; 64]>,
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

/// An image, decoded as far as its scans have come.
pub(super) struct Walk {
    header: Header,
    components: Vec<Component>,
    painter: Painter,
    eob_run: u32,
}

impl Walk {
    pub(super) fn new(header: &Header, space: Space) -> Result<Self, NoMemory> {
        let [h_max, v_max] = header.sampling();
        let component = |part: &Part| {
            let [stride, rows] = header.blocks(part);
            let kept = if header.buffered { stride as usize * rows as usize } else { 0 };
            Ok(Component {
                part: *part,
                own: [(header.width * part.h).div_ceil(8 * h_max), (header.height * part.v).div_ceil(8 * v_max)],
                stride,
                coefficients: filled(kept, [0; 64])?,
                steps: None,
                sent: [255; 64],
                prediction: 0,
            })
        };
        let components = header.parts().iter().map(component).collect::<Result<_, NoMemory>>()?;
        Ok(Self { header: *header, components, painter: Painter::new(header, space)?, eob_run: 0 })
    }

    fn scan_header(&self, content: &[u8]) -> Result<Scan, Damage> {
        let (&n, rest) = content.split_first().ok_or(Damage::ScanHeader)?;
        let n = n as usize;
        if !(1..=4).contains(&n) || rest.len() != 2 * n + 3 {
            return Err(Damage::ScanHeader);
        }
        let mut of: Vec<(usize, usize, usize)> = Vec::with_capacity(n);
        for pair in rest[..2 * n].chunks_exact(2) {
            let at = self.components.iter().position(|c| c.part.id == pair[0]).ok_or(Damage::ScanHeader)?;
            if of.iter().any(|o| o.0 == at) || pair[1] >> 4 > 3 || pair[1] & 15 > 3 {
                return Err(Damage::ScanHeader);
            }
            of.push((at, (pair[1] >> 4) as usize, (pair[1] & 15) as usize));
        }
        let [first, last, bits] = rest[2 * n..] else { return Err(Damage::ScanHeader) };
        if !self.header.progressive {
            // Motion JPEG is careless with these three, and they can only have one meaning.
            return Ok(Scan { of, band: 0..64, high: 0, low: 0 });
        }
        let (high, low) = (bits >> 4, bits & 15);
        let dc = first == 0;
        let right =
            last < 64 && first <= last && dc == (last == 0) && (dc || n == 1) && low < 14 && (high == 0 || high == low + 1);
        if right { Ok(Scan { of, band: first as usize..last as usize + 1, high, low }) } else { Err(Damage::ScanHeader) }
    }

    /// Follows a scan from `at` to the marker behind it; returns where that is.
    pub(super) fn scan(&mut self, bytes: &[u8], at: usize, content: &[u8], tables: &Tables) -> Result<usize, Damage> {
        let scan = self.scan_header(content)?;
        for &(c, ..) in &scan.of {
            let component = &mut self.components[c];
            if component.steps.is_none() {
                component.steps = tables.steps[component.part.table as usize];
            }
            if component.steps.is_none() {
                return Err(Damage::NoQuantisation(component.part.table));
            }
            for sent in &mut component.sent[scan.band.clone()] {
                let due = if scan.high == 0 { 255 } else { scan.high };
                if *sent != due {
                    return Err(Damage::ScanOrder);
                }
                *sent = scan.low;
            }
        }
        let mut bits = Bits::new(bytes, at);
        let alone = scan.of.len() == 1;
        let [columns, rows] = if alone { self.components[scan.of[0].0].own } else { self.header.mcus() };
        self.restart();
        let (mut left, mut restarts) = (tables.interval, 0);
        for row in 0..rows {
            for column in 0..columns {
                if tables.interval > 0 && left == 0 {
                    self.interval_end(&mut bits)?;
                    let (marker, ..) = Segments { bytes, at: bits.at }.next()?;
                    if marker != 0xd0 + restarts {
                        return Err(Damage::NoRestart { marker, at: bits.place() });
                    }
                    while bytes[bits.at] == 0xff {
                        bits.at += 1;
                    }
                    bits.at += 1;
                    (left, restarts) = (tables.interval, (restarts + 1) % 8);
                    self.restart();
                }
                left = left.saturating_sub(1);
                for &(c, dc, ac) in &scan.of {
                    let part = self.components[c].part;
                    let (h, v) = if alone { (1, 1) } else { (part.h, part.v) };
                    for y in 0..v {
                        for x in 0..h {
                            let huffman = (tables.dc[dc].as_ref(), tables.ac[ac].as_ref());
                            self.block(&mut bits, &scan, c, huffman, [row * v + y, column * h + x])?;
                        }
                    }
                }
            }
            if !self.header.buffered {
                self.painter.paint(row + 1);
            }
        }
        self.interval_end(&mut bits)?;
        Ok(bits.at)
    }

    fn interval_end(&self, bits: &mut Bits<'_>) -> Result<(), Damage> {
        if self.eob_run > 0 {
            return Err(Damage::EmptyRun(self.eob_run));
        }
        bits.end()
    }

    fn restart(&mut self) {
        self.eob_run = 0;
        self.components.iter_mut().for_each(|c| c.prediction = 0);
    }

    /// One block, or what the scan sends of it. `huffman`: tables of DC and AC; `at`: its row and
    /// column among the component's.
    fn block(
        &mut self,
        bits: &mut Bits<'_>,
        scan: &Scan,
        component: usize,
        huffman: (Option<&Huffman>, Option<&Huffman>),
        at: [u32; 2],
    ) -> Result<(), Damage> {
        let (dc, ac) = huffman;
        let Component { coefficients, steps, prediction, stride, .. } = &mut self.components[component];
        let steps = steps.as_ref().expect("a scan begins with them");
        let mut passing = [0; 64];
        let block = match self.header.buffered {
            true => &mut coefficients[(at[0] * *stride + at[1]) as usize],
            false => &mut passing,
        };
        match (scan.band.start, scan.high) {
            (0, 0) => {
                block[0] =
                    (first_dc(bits, dc.ok_or(Damage::NoHuffman)?, prediction, steps[0], scan.low)? << scan.low) as i16;
                if !self.header.progressive {
                    sequential(bits, ac.ok_or(Damage::NoHuffman)?, block)?;
                }
            }
            (0, _) => block[0] |= (bits.take(1)? << scan.low) as i16,
            (_, 0) => first_pass(bits, ac.ok_or(Damage::NoHuffman)?, scan, block, &mut self.eob_run)?,
            _ => refinement(bits, ac.ok_or(Damage::NoHuffman)?, scan, block, &mut self.eob_run)?,
        }
        if !self.header.buffered {
            self.painter.block(component, at, &passing, steps);
        }
        Ok(())
    }

    /// The image, if all was sent: a progressive one that ends between two scans looks well, only
    /// blurred.
    pub(super) fn complete(mut self) -> Result<Vec<u8>, Damage> {
        let wanting = self.components.iter().map(|c| c.sent.iter().filter(|&&low| low != 0).count()).max().unwrap_or(0);
        if wanting > 0 {
            return Err(Damage::Incomplete(wanting as u8));
        }
        for band in 0..if self.header.buffered { self.header.mcus()[1] } else { 0 } {
            for (c, component) in self.components.iter().enumerate() {
                let steps = component.steps.as_ref().expect("all was sent");
                let (stride, v) = (component.stride as usize, component.part.v);
                let rows = component.coefficients.chunks_exact(stride).zip(0..).skip((band * v) as usize);
                for (blocks, row) in rows.take(v as usize) {
                    blocks.iter().zip(0..).for_each(|(block, column)| self.painter.block(c, [row, column], block, steps));
                }
            }
            self.painter.paint(band + 1);
        }
        Ok(self.painter.finish())
    }
}

/// A number that is sent as its size in bits and the bits: those that begin with 0 are negative.
#[inline]
fn signed(bits: &mut Bits<'_>, size: u32) -> Result<i32, Damage> {
    let value = bits.take(size)? as i32;
    Ok(if size > 0 && value >> (size - 1) == 0 { value - (1 << size) + 1 } else { value })
}

/// The DC coefficient, as far as the scan sends it: the last one and a difference.
fn first_dc(bits: &mut Bits<'_>, table: &Huffman, prediction: &mut i32, step: u16, low: u8) -> Result<i32, Damage> {
    let size = bits.code(table)? as u32;
    if size > 11 {
        return Err(Damage::Difference { bits: size as u8, at: bits.place() });
    }
    *prediction += signed(bits, size)?;
    // Eight-bit samples give at most 1024; twice that is more than any encoder's rounding.
    if ((*prediction as i64) << low).abs() * step as i64 > 2048 + step as i64 {
        return Err(Damage::Brightness { at: bits.place() });
    }
    Ok(*prediction)
}

fn beyond_block(bits: &Bits<'_>) -> Damage {
    Damage::Block { at: bits.place() }
}

/// The AC coefficients of a block in sequential mode.
fn sequential(bits: &mut Bits<'_>, table: &Huffman, block: &mut [i16; 64]) -> Result<(), Damage> {
    let mut k = 1;
    while k < 64 {
        let symbol = bits.code(table)?;
        match (symbol >> 4, symbol & 15) {
            (15, 0) => k += 16,
            (_, 0) => return Ok(()),
            (run, size) => {
                k += run as usize;
                let value = signed(bits, size.into())? as i16;
                *ZIGZAG.get(k).and_then(|&place| block.get_mut(place as usize)).ok_or_else(|| beyond_block(bits))? = value;
                k += 1;
            }
        }
    }
    if k > 64 { Err(beyond_block(bits)) } else { Ok(()) }
}

/// A band of a block's AC coefficients, sent for the first time.
fn first_pass(
    bits: &mut Bits<'_>,
    table: &Huffman,
    scan: &Scan,
    block: &mut [i16; 64],
    eob_run: &mut u32,
) -> Result<(), Damage> {
    if *eob_run > 0 {
        *eob_run -= 1;
        return Ok(());
    }
    let mut k = scan.band.start;
    while k < scan.band.end {
        let symbol = bits.code(table)?;
        match (symbol >> 4, symbol & 15) {
            (15, 0) => k += 16,
            (run, 0) => {
                *eob_run = (1 << run) - 1 + bits.take(run.into())?;
                return Ok(());
            }
            (run, size) => {
                k += run as usize;
                if k >= scan.band.end {
                    return Err(beyond_block(bits));
                }
                block[ZIGZAG[k] as usize] = (signed(bits, size.into())? << scan.low) as i16;
                k += 1;
            }
        }
    }
    if k > scan.band.end { Err(beyond_block(bits)) } else { Ok(()) }
}

/// One more bit of a band: a bit for each coefficient that is not zero yet, codes for those that
/// become so.
fn refinement(
    bits: &mut Bits<'_>,
    table: &Huffman,
    scan: &Scan,
    block: &mut [i16; 64],
    eob_run: &mut u32,
) -> Result<(), Damage> {
    let one = 1i16 << scan.low;
    let more = |bits: &mut Bits<'_>, value: &mut i16| -> Result<(), Damage> {
        // What has the bit already was damaged, and libjpeg leaves it so.
        if bits.take(1)? == 1 && *value & one == 0 {
            *value = value.wrapping_add(if *value < 0 { -one } else { one });
        }
        Ok(())
    };
    let mut k = scan.band.start;
    if *eob_run == 0 {
        while k < scan.band.end {
            let symbol = bits.code(table)?;
            let (mut run, size) = (symbol >> 4, symbol & 15);
            let mut value = 0;
            match size {
                0 if run < 15 => {
                    *eob_run = (1 << run) + bits.take(run.into())?;
                    break;
                }
                0 => {}
                1 => value = if bits.take(1)? == 1 { one } else { -one },
                _ => return Err(Damage::Refinement { bits: size, at: bits.place() }),
            }
            while k < scan.band.end {
                let place = &mut block[ZIGZAG[k] as usize];
                if *place != 0 {
                    more(bits, place)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if size == 1 {
                if k >= scan.band.end {
                    return Err(beyond_block(bits));
                }
                block[ZIGZAG[k] as usize] = value;
            }
            k += 1;
        }
    }
    if *eob_run > 0 {
        for place in ZIGZAG.get(k..scan.band.end).unwrap_or_default() {
            let value = &mut block[*place as usize];
            if *value != 0 {
                more(bits, value)?;
            }
        }
        *eob_run -= 1;
    }
    Ok(())
}
