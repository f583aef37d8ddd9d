//! What is wrong with a JPEG that is refused.

/// Why an image is refused. `at`: the byte of the file where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// No start marker.
    NoStart,
    /// The file ends inside the image.
    Ends { at: u32 },
    /// Something else stands where a marker is due.
    NoMarker { at: u32 },
    /// A segment that is shorter than its own length.
    Segment { length: u16, at: u32 },
    /// A scan before the frame header.
    NoFrame,
    /// The end before the first scan.
    NoScan,
    /// A process that is not read: its number in T.81.
    Process(u8),
    /// A frame header that is cut.
    FrameHeader,
    /// Samples of another number of bits than 8.
    SampleBits(u8),
    /// A frame that no image has.
    Frame { width: u16, height: u16, components: u8 },
    /// A component that no image has.
    Component { id: u8, sampling: [u8; 2], table: u8 },
    /// Blocks of a component that do not divide those of another.
    Blocks { id: u8, sampling: [u8; 2], most: [u8; 2] },
    /// A restart interval that is no number.
    RestartInterval,
    /// A second frame header.
    TwoFrames,
    /// More scans than this.
    Scans(u32),
    /// A start marker inside the image.
    Nested { at: u32 },
    /// A Huffman table that is cut, or of no known place.
    HuffmanTable,
    /// A Huffman table with more codes of a length than there are.
    HuffmanCodes,
    /// A quantisation table that is cut, or of no known place.
    QuantisationTable,
    /// A scan header that no scan has.
    ScanHeader,
    /// The quantisation table of this number did not come.
    NoQuantisation(u8),
    /// A scan sends bits whose higher ones did not come, or sends them again.
    ScanOrder,
    /// Another marker where a restart is due.
    NoRestart { marker: u8, at: u32 },
    /// A run of empty blocks goes on behind the last block.
    EmptyRun(u32),
    /// A Huffman table that a scan names did not come.
    NoHuffman,
    /// The end before all scans: how many coefficients of 64 lack bits.
    Incomplete(u8),
    /// A difference of more bits than a DC coefficient has.
    Difference { bits: u8, at: u32 },
    /// A block brighter or darker than can be.
    Brightness { at: u32 },
    /// More than 64 coefficients in a block.
    Block { at: u32 },
    /// A refinement by more than one bit.
    Refinement { bits: u8, at: u32 },
    /// The scan ends before its last block.
    ScanEnds { at: u32 },
    /// Bits that are no code of the table.
    Code { at: u32 },
    /// Bytes behind the scan's last block.
    LeftOver { at: u32 },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoStart => f.write_str("it has no start of a JPEG"),
            Self::Ends { at } => write!(f, "it ends after {at} bytes, inside the image"),
            Self::NoMarker { at } => write!(f, "no marker at byte {at}, where one is due"),
            Self::Segment { length, at } => write!(f, "a segment of {length} bytes at byte {at}"),
            Self::NoFrame => f.write_str("a scan stands before the frame header"),
            Self::NoScan => f.write_str("it ends without a scan"),
            Self::Process(n) => write!(f, "JPEG process {n}: only baseline, extended and progressive Huffman are read"),
            Self::FrameHeader => f.write_str("its frame header is too short"),
            Self::SampleBits(bits) => write!(f, "{bits} bits a sample: only 8 are read"),
            Self::Frame { width, height, components } => {
                write!(f, "its frame header says {width}x{height} with {components} components")
            }
            Self::Component { id, sampling: [h, v], table } => {
                write!(f, "component {id} with sampling {h}x{v} and table {table}")
            }
            Self::Blocks { id, sampling: [h, v], most: [mh, mv] } => {
                write!(f, "component {id} has {h}x{v} blocks where another has {mh}x{mv}")
            }
            Self::RestartInterval => f.write_str("its restart interval is no number"),
            Self::TwoFrames => f.write_str("it has two frame headers"),
            Self::Scans(most) => write!(f, "more than {most} scans"),
            Self::Nested { at } => write!(f, "another image begins at byte {at}, inside this one"),
            Self::HuffmanTable => f.write_str("a broken Huffman table"),
            Self::HuffmanCodes => f.write_str("a Huffman table with more codes than there can be"),
            Self::QuantisationTable => f.write_str("a broken quantisation table"),
            Self::ScanHeader => f.write_str("a broken scan header"),
            Self::NoQuantisation(table) => write!(f, "its quantisation table {table} did not come"),
            Self::ScanOrder => f.write_str("its scans do not follow from one another"),
            Self::NoRestart { marker, at } => write!(f, "marker {marker:#04x} at byte {at}, where a restart is due"),
            Self::EmptyRun(n) => write!(f, "a run of {n} empty blocks goes on behind the last one"),
            Self::NoHuffman => f.write_str("a scan names a Huffman table that did not come"),
            Self::Incomplete(n) => {
                write!(f, "its end comes before its last scan: {n} of 64 coefficients are not complete")
            }
            Self::Difference { bits, at } => write!(f, "a DC difference of {bits} bits at byte {at}"),
            Self::Brightness { at } => write!(f, "a block brighter or darker than can be at byte {at}"),
            Self::Block { at } => write!(f, "a block of more than 64 coefficients at byte {at}"),
            Self::Refinement { bits, at } => write!(f, "a refinement by {bits} bits at byte {at}"),
            Self::ScanEnds { at } => write!(f, "the scan ends at byte {at}, before its last block"),
            Self::Code { at } => write!(f, "no Huffman code at byte {at}"),
            Self::LeftOver { at } => {
                write!(f, "bytes are left over before byte {at}, behind the scan's last block")
            }
        }
    }
}
