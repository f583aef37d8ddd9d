//! The small depthwise network: its shape, its folded weights, and its arithmetic in f32.
//!
//! Does not know how it is trained or quantised. Everything is NHWC.

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Side of the square input picture.
pub const SIDE: usize = 96;
/// Channels after the first convolution.
pub const STEM: usize = 24;
/// What stands for a pixel: `(u8 / 255 - MEAN) / STD`, the same for all channels.
pub const MEAN: f32 = 0.45;
/// See [`MEAN`].
pub const STD: f32 = 0.25;

/// A depthwise 3x3 and a pointwise convolution, each with batch normalisation and ReLU6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Of the depthwise convolution: 1 or 2.
    pub stride: usize,
    /// Channels out.
    pub channels: usize,
    /// Whether the input is added to the output.
    pub residual: bool,
}

/// The blocks between the first convolution and the average. 0.22 M weights, 17 M multiply-adds.
pub const BLOCKS: [Block; 10] = [
    Block { stride: 2, channels: 48, residual: false },
    Block { stride: 1, channels: 64, residual: false },
    Block { stride: 1, channels: 64, residual: true },
    Block { stride: 2, channels: 96, residual: false },
    Block { stride: 1, channels: 96, residual: true },
    Block { stride: 1, channels: 128, residual: false },
    Block { stride: 2, channels: 192, residual: false },
    Block { stride: 1, channels: 192, residual: true },
    Block { stride: 1, channels: 256, residual: false },
    Block { stride: 2, channels: 320, residual: false },
];

/// What a layer does with its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerKind {
    /// Full 3x3 convolution, stride 2, padding 1, of the picture.
    Stem,
    /// Depthwise 3x3 convolution, padding 1.
    Depthwise {
        /// 1 or 2.
        stride: usize,
    },
    /// 1x1 convolution; adds the tensor that lies before its block's depthwise convolution if `residual`.
    Pointwise {
        /// Whether to add.
        residual: bool,
    },
}

/// A convolution with its normalisation folded in, followed by ReLU6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// What it computes.
    pub kind: LayerKind,
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub output: usize,
    /// `[taps, output]`, taps = row, column, channel in (depthwise: row, column).
    pub weights: Vec<f32>,
    /// `[output]`.
    pub bias: Vec<f32>,
}

/// A trained network, ready for inference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Tags in the order of logits.
    pub tags: Vec<String>,
    /// Convolutions in order.
    pub layers: Vec<Layer>,
    /// `[channels, tags]`.
    pub head_weights: Vec<f32>,
    /// `[tags]`.
    pub head_bias: Vec<f32>,
}

/// The values at one place of the network, as calibration sees them.
pub struct Activation<'a> {
    /// Layer index; for sums after the layer of that index.
    pub place: Place,
    /// NHWC values of one picture.
    pub values: &'a [f32],
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// After layer `i` and its ReLU6.
    Layer(usize),
    /// After the addition that follows layer `i`.
    Sum(usize),
    /// After the average.
    Average,
}

/// Index of the largest value, the first among equals; 0 for none.
pub fn best(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// The real input of an RGB8 picture, NHWC.
pub fn normalise(rgb: &[u8]) -> Vec<f32> {
    rgb.iter().map(|&v| (v as f32 / 255.0 - MEAN) / STD).collect()
}

impl Network {
    /// Checks a network that was read from a file.
    pub fn check(&self) -> Result<()> {
        let mut channels = 3;
        for (i, l) in self.layers.iter().enumerate() {
            let taps = match l.kind {
                LayerKind::Stem => 27,
                LayerKind::Depthwise { .. } => 9,
                LayerKind::Pointwise { .. } => l.input,
            };
            if l.input != channels || l.weights.len() != taps * l.output || l.bias.len() != l.output {
                bail!("layer {i} does not fit its neighbours; train again");
            }
            channels = l.output;
        }
        if self.head_weights.len() != channels * self.tags.len() || self.head_bias.len() != self.tags.len() {
            bail!("head does not fit {} tags; train again", self.tags.len());
        }
        Ok(())
    }

    /// Number of weights, biases included.
    pub fn weights(&self) -> usize {
        let layers: usize = self.layers.iter().map(|l| l.weights.len() + l.bias.len()).sum();
        layers + self.head_weights.len() + self.head_bias.len()
    }

    /// Logits of one picture. `input`: `[SIDE, SIDE, 3]` as [`normalise`] gives it; `see` is shown every activation.
    pub fn infer(&self, input: &[f32], mut see: impl FnMut(Activation<'_>)) -> Vec<f32> {
        let mut side = SIDE;
        let mut x = input.to_vec();
        let mut before = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            if let LayerKind::Depthwise { .. } = layer.kind {
                before.clone_from(&x);
            }
            (x, side) = layer.run(&x, side);
            see(Activation { place: Place::Layer(i), values: &x });
            if let LayerKind::Pointwise { residual: true } = layer.kind {
                x.iter_mut().zip(&before).for_each(|(x, b)| *x += b);
                see(Activation { place: Place::Sum(i), values: &x });
            }
        }
        let channels = self.head_weights.len() / self.tags.len();
        let mut average = vec![0f32; channels];
        for pixel in x.chunks_exact(channels) {
            average.iter_mut().zip(pixel).for_each(|(a, p)| *a += p);
        }
        average.iter_mut().for_each(|a| *a /= (side * side) as f32);
        see(Activation { place: Place::Average, values: &average });
        let mut logits = self.head_bias.clone();
        for (a, w) in average.iter().zip(self.head_weights.chunks_exact(self.tags.len())) {
            logits.iter_mut().zip(w).for_each(|(l, w)| *l += a * w);
        }
        logits
    }

    /// Logits of many pictures, in parallel.
    pub fn infer_all(&self, pictures: &[&[u8]]) -> Vec<Vec<f32>> {
        pictures.par_iter().map(|rgb| self.infer(&normalise(rgb), |_| {})).collect()
    }
}

impl Layer {
    fn run(&self, x: &[f32], side: usize) -> (Vec<f32>, usize) {
        let (ci, co) = (self.input, self.output);
        let (stride, kernel) = match self.kind {
            LayerKind::Stem => (2, 3),
            LayerKind::Depthwise { stride } => (stride, 3),
            LayerKind::Pointwise { .. } => (1, 1),
        };
        let out = (side - 1) / stride + 1;
        let mut y = Vec::with_capacity(out * out * co);
        for oy in 0..out {
            for ox in 0..out {
                let start = y.len();
                y.extend_from_slice(&self.bias);
                let acc = &mut y[start..];
                for tap in 0..kernel * kernel {
                    let (iy, ix) = match kernel {
                        1 => (oy, ox),
                        _ => ((oy * stride + tap / 3).wrapping_sub(1), (ox * stride + tap % 3).wrapping_sub(1)),
                    };
                    if iy >= side || ix >= side {
                        continue;
                    }
                    let pixel = &x[(iy * side + ix) * ci..][..ci];
                    if let LayerKind::Depthwise { .. } = self.kind {
                        let w = &self.weights[tap * co..][..co];
                        for l in 0..co {
                            acc[l] += pixel[l] * w[l];
                        }
                    } else {
                        for (v, w) in pixel.iter().zip(self.weights[tap * ci * co..].chunks_exact(co)) {
                            for l in 0..co {
                                acc[l] += v * w[l];
                            }
                        }
                    }
                }
                acc.iter_mut().for_each(|a| *a = a.clamp(0.0, 6.0));
            }
        }
        (y, out)
    }
}
