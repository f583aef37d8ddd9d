//! The contract: everything about a model that preprocessing, head and decision need. It borrows
//! from the bundle's bytes, and is the same for every version of the file format.

use crate::MAX_TAGS;
use crate::decide::{Role, TagRule, Task};
use crate::head::Temperature;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// How a frame's region is brought to the model's aspect ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fit {
    /// Both sides scaled by themselves.
    Stretch,
    /// The largest centred part of the right aspect ratio.
    Crop,
    /// The whole region, with grey 128 beside it.
    Pad,
}

impl Fit {
    /// The name used on the command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stretch => "stretch",
            Self::Crop => "crop",
            Self::Pad => "pad",
        }
    }
}

/// One tag, the scores at which it counts, and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    /// Unique, not empty, no control characters.
    pub name: &'a str,
    /// Threshold and review band.
    pub rule: TagRule,
    /// What it stands for in the factory; [`Role::Other`] where nobody said.
    pub role: Role,
}

impl AsRef<str> for Tag<'_> {
    fn as_ref(&self) -> &str {
        self.name
    }
}

/// What an RGB value becomes at the model's input, per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables<'a> {
    /// `[3][256]` little-endian f32: `(u8 / 255 - mean) / std`, for training and float engines.
    pub real: &'a [u8],
    /// `[3][256]` i8, two's complement: `real` quantised as QuantizeLinear does.
    pub int8: &'a [u8],
}

impl Tables<'_> {
    /// Entries of one table.
    pub const LEN: usize = 3 * 256;

    /// The real value of `value` in `channel` (0 red, 1 green, 2 blue).
    pub fn real_value(&self, channel: usize, value: u8) -> f32 {
        let at = 4 * (channel * 256 + value as usize);
        f32::from_le_bytes([self.real[at], self.real[at + 1], self.real[at + 2], self.real[at + 3]])
    }
}

/// The model's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input<'a> {
    /// Rows of the model's image.
    pub height: u16,
    /// Columns of the model's image.
    pub width: u16,
    /// How the region of interest is brought to this size; the filter is always the antialiased
    /// triangle.
    pub fit: Fit,
    /// What RGB values become.
    #[serde(borrow)]
    pub tables: Tables<'a>,
    /// Scale of the int8 input.
    pub scale: f32,
    /// Zero point of the int8 input.
    pub zero_point: i8,
}

/// What a bundle says of its model, whatever its format.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract<'a> {
    /// The model's name.
    pub name: &'a str,
    /// One tag, or any number.
    pub task: Task,
    /// Tags in the order of the logits, 1..=[`MAX_TAGS`].
    pub tags: Vec<Tag<'a>, MAX_TAGS>,
    /// Softmax or sigmoid temperature in Q16.16.
    pub temperature_q16: u32,
    /// The model's input.
    pub input: Input<'a>,
    /// SHA-256 of the bundle's graph.
    pub graph_sha256: [u8; 32],
    /// SHA-256 of the training data's manifest; zero where unknown.
    pub dataset_sha256: [u8; 32],
    /// SHA-256 of the training run's record; zero where unknown.
    pub run_sha256: [u8; 32],
    /// Whether part of the graph runs outside the int8 plan.
    pub mixed: bool,
}

/// Why a contract cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractFault {
    /// No tag at all.
    NoTags,
    /// A tag's name is empty, has control characters, or stands twice.
    TagName(u16),
    /// A review band begins above its threshold.
    Band(u16),
    /// The temperature is zero.
    Temperature,
    /// A side of the input is zero or above 2048.
    InputSize,
    /// A table has the wrong length, or the input's scale is not finite and positive.
    Quantisation,
}

impl core::fmt::Display for ContractFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoTags => f.write_str("it has no tags"),
            Self::TagName(i) => write!(f, "the name of tag {i} is empty, has control characters or stands twice"),
            Self::Band(i) => write!(f, "review_low of tag {i} lies above its threshold"),
            Self::Temperature => f.write_str("its temperature is 0"),
            Self::InputSize => f.write_str("its input is not 1..=2048 pixels a side"),
            Self::Quantisation => f.write_str("its input tables or input scale are malformed"),
        }
    }
}

impl Contract<'_> {
    /// Longest side of a model's input in pixels.
    pub const MAX_INPUT: u16 = 2048;

    /// Checks what the encoding cannot: sizes, bands, names.
    pub fn check(&self) -> Result<(), ContractFault> {
        if self.tags.is_empty() {
            return Err(ContractFault::NoTags);
        }
        for (i, tag) in self.tags.iter().enumerate() {
            let twice = self.tags[..i].iter().any(|t| t.name == tag.name);
            if twice || tag.name.is_empty() || tag.name.chars().any(char::is_control) {
                return Err(ContractFault::TagName(i as u16));
            }
            if tag.rule.review_low > tag.rule.threshold {
                return Err(ContractFault::Band(i as u16));
            }
        }
        let Input { height, width, tables, scale, .. } = self.input;
        if Temperature::from_q16(self.temperature_q16).is_none() {
            return Err(ContractFault::Temperature);
        }
        if !(1..=Self::MAX_INPUT).contains(&height) || !(1..=Self::MAX_INPUT).contains(&width) {
            return Err(ContractFault::InputSize);
        }
        let scale_ok = scale.is_finite() && scale > 0.0;
        if tables.real.len() != 4 * Tables::LEN || tables.int8.len() != Tables::LEN || !scale_ok {
            return Err(ContractFault::Quantisation);
        }
        Ok(())
    }

    /// The softmax or sigmoid temperature; a checked contract has one.
    pub fn temperature(&self) -> Temperature {
        Temperature::from_q16(self.temperature_q16).unwrap_or(Temperature::ONE)
    }
}
