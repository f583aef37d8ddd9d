//! What decoding an image of lossless WebP takes besides its pixels, most of it tables of prefix
//! codes.
//!
//! A stream states by how many groups of five prefix codes its image is coded, up to 65536, and
//! describes a code in a few bytes of which the decoder makes a table of up to 70 KB. So the stream
//! is read here up to the image's first pixel, as the decoder will, and what it would allocate is
//! counted; the image's own tables are not built. Small images stand before that point: of the
//! transforms, and the *entropy image*, which says by which group each block is coded. Of these
//! only the number of pixels and the largest group matter. Format: RFC 9649, 3 to 6.

use heapless::Vec;

/// Symbols of green: a value, the length of a copy, a place in the largest cache of colours.
const MOST_SYMBOLS: usize = 256 + 24 + (1 << 11);
/// Symbols of red, blue, alpha and distance.
const ALPHABETS: [usize; 4] = [256, 256, 256, 40];
/// The order in which the lengths of the code of lengths are written.
const ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Longest code in bits, and up to which length the decoder looks codes up at once.
const LONGEST: usize = 15;
const LOOKED_UP: usize = 10;
/// Bytes that the decoder (image-webp 0.2) takes for a group besides its tables: five trees in a
/// vector that is growing to twice its size, and what the allocator adds.
const GROUP: u64 = 3 * 5 * 56 + 160;
/// Bytes of a place in its look-up table, and of a node behind it.
const PLACE: u64 = 4;
const NODE: u64 = 16;

/// Bytes that decoding `stream` takes besides the image's pixels; not counted on once they are more
/// than `limit`. `stream`: behind its size. None if it is damaged before its first pixel.
pub(super) fn beside(stream: &[u8], [width, height]: [u32; 2], limit: u64) -> Option<u64> {
    let mut reader = Reader { bits: Bits { bytes: stream, at: 0 }, taken: 0 };
    let width = reader.transforms(width, height)?;
    let cache = reader.cache()?;
    let groups = match reader.bits.take(1)? {
        0 => 1,
        _ => {
            let blocks = reader.blocks(width, height)?;
            // Beside the entropy image itself the group of each block.
            reader.taken += 2 * blocks as u64;
            reader.image(blocks)? + 1
        }
    };
    for _ in 0..groups {
        reader.group(cache)?;
        if reader.taken > limit {
            break;
        }
    }
    Some(reader.taken)
}

struct Reader<'b> {
    bits: Bits<'b>,
    /// Bytes that the decoder took so far.
    taken: u64,
}

impl Reader<'_> {
    /// Reads the transforms; the width of the image that is behind them.
    fn transforms(&mut self, mut width: u32, height: u32) -> Option<u32> {
        let mut seen = 0;
        while self.bits.take(1)? == 1 {
            let kind = self.bits.take(2)?;
            if seen & 1 << kind != 0 {
                return None;
            }
            seen |= 1 << kind;
            match kind {
                // Predictors, and how colours depend on one another.
                0 | 1 => {
                    let blocks = self.blocks(width, height)?;
                    self.image(blocks)?;
                }
                // Green is subtracted.
                2 => {}
                // A palette: several pixels stand in one.
                _ => {
                    let colours = self.bits.take(8)? + 1;
                    self.image(colours)?;
                    let packed = match colours {
                        1..=2 => 8,
                        3..=4 => 4,
                        5..=16 => 2,
                        _ => 1,
                    };
                    width = width.div_ceil(packed);
                }
            }
        }
        Some(width)
    }

    /// The number of blocks in an image, whose side is written here.
    fn blocks(&mut self, width: u32, height: u32) -> Option<u32> {
        let side = 1 << (self.bits.take(3)? + 2);
        Some(width.div_ceil(side) * height.div_ceil(side))
    }

    /// How many colours the cache holds; none without one.
    fn cache(&mut self) -> Option<usize> {
        if self.bits.take(1)? == 0 {
            return Some(0);
        }
        let bits = self.bits.take(4)?;
        (1..=11).contains(&bits).then_some(1 << bits)
    }

    /// Reads one of the images that stand before the image itself; the largest number that red and
    /// green of a pixel make. What is copied was there before.
    fn image(&mut self, pixels: u32) -> Option<u32> {
        self.taken += 4 * pixels as u64;
        let cache = self.cache()?;
        let [green, red, blue, alpha, distance] = self.group(cache)?;
        let (mut read, mut largest) = (0, 0);
        while read < pixels {
            match green.symbol(&mut self.bits)? {
                value @ ..256 => {
                    largest = largest.max(red.symbol(&mut self.bits)? << 8 | value);
                    blue.symbol(&mut self.bits)?;
                    alpha.symbol(&mut self.bits)?;
                    read += 1;
                }
                copy @ 256..280 => {
                    read += self.number(copy - 256)?;
                    let distance = distance.symbol(&mut self.bits)?;
                    self.number(distance)?;
                }
                _ => read += 1,
            }
        }
        Some(largest)
    }

    /// The length or distance that a symbol and the bits behind it make.
    fn number(&mut self, symbol: u32) -> Option<u32> {
        if symbol < 4 {
            return Some(symbol + 1);
        }
        let extra = (symbol - 2) >> 1;
        Some(((2 + symbol % 2) << extra) + self.bits.take(extra)? + 1)
    }

    /// Five codes: of green, red, blue, alpha and distance.
    fn group(&mut self, cache: usize) -> Option<[Code; 5]> {
        self.taken += GROUP;
        let [red, blue, alpha, distance] = ALPHABETS;
        Some([self.code(280 + cache)?, self.code(red)?, self.code(blue)?, self.code(alpha)?, self.code(distance)?])
    }

    fn code(&mut self, alphabet: usize) -> Option<Code> {
        if self.bits.take(1)? == 1 {
            return self.simple(alphabet);
        }
        let mut lengths = [0; ORDER.len()];
        for at in &ORDER[..4 + self.bits.take(4)? as usize] {
            lengths[*at] = self.bits.take(3)? as u8;
        }
        let code = Code::of(&lengths)?;
        let mut left = match self.bits.take(1)? {
            0 => alphabet,
            _ => {
                let bits = 2 + 2 * self.bits.take(3)?;
                Some(2 + self.bits.take(bits)? as usize).filter(|n| *n <= alphabet)?
            }
        };
        let (mut lengths, mut before) = (Vec::<u8, MOST_SYMBOLS>::new(), 8);
        while lengths.len() < alphabet && left > 0 {
            left -= 1;
            let (length, times) = match code.symbol(&mut self.bits)? {
                length @ ..16 => (length as u8, 1),
                16 => (before, 3 + self.bits.take(2)?),
                17 => (0, 3 + self.bits.take(3)?),
                _ => (0, 11 + self.bits.take(7)?),
            };
            before = if length > 0 { length } else { before };
            lengths.resize(lengths.len() + times as usize, length).ok()?;
        }
        let code = Code::of(&lengths).filter(|_| lengths.len() <= alphabet)?;
        self.taken += code.memory();
        Some(code)
    }

    /// A code of one or two symbols, which are written themselves.
    fn simple(&mut self, alphabet: usize) -> Option<Code> {
        let two = self.bits.take(1)? == 1;
        let bits = if self.bits.take(1)? == 1 { 8 } else { 1 };
        let mut code = Code { counts: [0; LONGEST + 1], symbols: Vec::new() };
        code.symbols.push(self.bits.take(bits)? as u16).ok()?;
        if two {
            code.symbols.push(self.bits.take(8)? as u16).ok()?;
            code.counts[1] = 2;
            self.taken += 3 * NODE + 2 * PLACE;
        }
        code.symbols.iter().all(|s| (*s as usize) < alphabet).then_some(code)
    }
}

/// A canonical prefix code.
struct Code {
    /// Symbols of each length in bits.
    counts: [u32; LONGEST + 1],
    /// By length, then by their number. One that stands alone takes no bits.
    symbols: Vec<u16, MOST_SYMBOLS>,
}

impl Code {
    /// From each symbol's length in bits, 0 for one that is not used; none if that is no code.
    fn of(lengths: &[u8]) -> Option<Self> {
        let mut code = Self { counts: [0; LONGEST + 1], symbols: Vec::new() };
        for length in 1..=LONGEST {
            let found = lengths.iter().enumerate().filter(|(_, l)| **l as usize == length).map(|(symbol, _)| symbol as u16);
            let before = code.symbols.len();
            code.symbols.extend(found);
            code.counts[length] = (code.symbols.len() - before) as u32;
        }
        let filled = (1..=LONGEST).fold(0, |sum, length| sum + (code.counts[length] << (LONGEST - length)));
        (code.symbols.len() == 1 || filled == 1 << LONGEST).then_some(code)
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u32> {
        if let [only] = self.symbols[..] {
            return Some(only as u32);
        }
        // The codes of a length follow one another, and those of the next begin behind them.
        let (mut code, mut first, mut at) = (0, 0, 0);
        for count in &self.counts[1..] {
            code = code << 1 | bits.take(1)?;
            first <<= 1;
            if code < first + count {
                return self.symbols.get((at + code - first) as usize).map(|s| *s as u32);
            }
            (first, at) = (first + count, at + count);
        }
        None
    }

    /// Bytes of the decoder's table, and of the nodes of codes that are too long for it.
    fn memory(&self) -> u64 {
        let Some(longest) = self.counts.iter().rposition(|n| *n > 0).filter(|_| self.symbols.len() > 1) else { return 0 };
        let behind: u32 = self.counts[LOOKED_UP + 1..].iter().sum();
        (PLACE << longest.min(LOOKED_UP)) + 2 * NODE * behind as u64
    }
}

/// Bits, the lowest of each byte first.
struct Bits<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Bits<'_> {
    /// A number of up to 18 bits; none behind the end.
    fn take(&mut self, bits: u32) -> Option<u32> {
        let (from, end) = (self.at, self.at + bits as usize);
        if end > 8 * self.bytes.len() {
            return None;
        }
        self.at = end;
        let four = (0..4).map(|n| self.bytes.get(from / 8 + n).map_or(0, |byte| (*byte as u32) << (8 * n)));
        Some(four.fold(0, |all, byte| all | byte) >> (from % 8) & ((1 << bits) - 1))
    }
}
