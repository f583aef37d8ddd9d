//! Huffman codes, and the bits of a scan.

use super::Damage;

/// A Huffman code: 9 bits looked up at once, longer codes by the ranges of their lengths.
#[derive(Clone)]
pub(super) struct Huffman {
    /// Length << 8 | symbol for codes of at most 9 bits; 0 for longer ones.
    short: [u16; 512],
    /// First code that is too great for its length, aligned to 16 bits; by length.
    beyond: [u32; 17],
    /// Index of a length's first symbol, less its first code.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    pub(super) fn new(counts: &[u8], symbols: &[u8]) -> Result<Self, Damage> {
        let mut table = Self { short: [0; 512], beyond: [0; 17], offset: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16usize {
            let count = counts[length - 1] as u32;
            table.offset[length] = index as i32 - code as i32;
            if code + count > 1 << length {
                return Err(Damage::HuffmanCodes);
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
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    /// The next bits, uppermost first.
    held: u64,
    count: u32,
    /// A marker, or the file's end, was met.
    ended: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, held: 0, count: 0, ended: false }
    }

    #[inline]
    fn refill(&mut self) {
        // Most of a scan holds no 0xff, and then goes four bytes at once.
        if self.count <= 32
            && let Some(next) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<4>)
            && !next.contains(&0xff)
        {
            self.held |= (u32::from_be_bytes(*next) as u64) << (32 - self.count);
            self.count += 32;
            self.at += 4;
            return;
        }
        self.refill_by_bytes();
    }

    fn refill_by_bytes(&mut self) {
        while self.count <= 56 && !self.ended {
            let byte = match self.bytes.get(self.at) {
                None => {
                    self.ended = true;
                    return;
                }
                Some(&0xff) => {
                    // Any number of 0xff before a zero is one byte of data, before anything else
                    // fill bytes of a marker.
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

    /// Where it is in the file, for what is told.
    pub(super) fn place(&self) -> u32 {
        self.at as u32
    }

    fn short(&self) -> Damage {
        Damage::ScanEnds { at: self.place() }
    }

    #[inline]
    pub(super) fn code(&mut self, table: &Huffman) -> Result<u8, Damage> {
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
                // Behind the last bit everything reads as zeros, so an unknown code is damage and
                // not the end.
                return Err(if self.count < 16 { self.short() } else { Damage::Code { at: self.place() } });
            };
            let index = table.offset[length] + (ahead >> (16 - length)) as i32;
            let symbol = usize::try_from(index).ok().and_then(|i| table.symbols.get(i));
            (length as u32, *symbol.ok_or_else(|| Damage::Code { at: self.place() })?)
        };
        self.drop_bits(length)?;
        Ok(symbol)
    }

    #[inline]
    fn drop_bits(&mut self, n: u32) -> Result<(), Damage> {
        if n > self.count {
            return Err(self.short());
        }
        self.held <<= n;
        self.count -= n;
        Ok(())
    }

    /// At most 16 bits.
    #[inline]
    pub(super) fn take(&mut self, n: u32) -> Result<u32, Damage> {
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
    pub(super) fn end(&mut self) -> Result<(), Damage> {
        self.refill();
        if self.count >= 8 || !self.ended {
            return Err(Damage::LeftOver { at: self.place() });
        }
        (self.held, self.count, self.ended) = (0, 0, false);
        Ok(())
    }
}
