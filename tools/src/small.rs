//! The built-in network: a small stack of depthwise blocks for 96x96 images, trained from random
//! weights.

use crate::graph::{Clamp, Conv, Edge, Graph, Linear, Normalise, Op, Window};
use tagpin::random::Random;

/// Side of its image.
pub const SIDE: usize = 96;
/// Channels after the first convolution.
const STEM: usize = 24;

/// A depthwise 3x3 and a pointwise convolution, each with ReLU6.
struct Block {
    /// Of the depthwise convolution: 1 or 2.
    stride: usize,
    /// Channels out.
    channels: usize,
    /// Whether the input is added to the output.
    residual: bool,
}

/// The blocks between the first convolution and the average: 0.24 M weights and 16 M multiply-adds
/// in all.
const BLOCKS: [Block; 10] = [
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

/// The network for `tags` tags, with random weights drawn by `seed` (He et al. 2015).
pub fn network(tags: usize, seed: u64) -> Graph {
    let mut random = Random::new(seed, 0x11e7);
    // Twelve uniform numbers added up are close enough to a normal one.
    let mut normal = |n: usize, deviation: f32| -> Vec<f32> {
        let mut one = || (0..12).map(|_| random.range(0, 1 << 16) as f32 / 65536.0).sum::<f32>() - 6.0;
        (0..n).map(|_| one() * deviation).collect()
    };
    let normalise = Normalise { mean: [0.45; 3], std: [0.25; 3] };
    let mut graph = Graph { side: SIDE, normalise, nodes: Vec::new() };
    let mut conv = |kernel: usize, stride: usize, inputs: usize, outputs: usize, groups: usize| {
        let taps = kernel * kernel * inputs / groups;
        let pad = kernel / 2;
        Op::Conv(Conv {
            window: Window { kernel: [kernel; 2], stride: [stride; 2], pads: [pad; 4] },
            inputs,
            outputs,
            groups,
            weights: normal(taps * outputs, (2.0 / taps as f32).sqrt()),
            bias: vec![0.0; outputs],
            clamp: Clamp::RELU6,
        })
    };
    let mut x = graph.push("stem", conv(3, 2, 3, STEM, 1), vec![Edge::Image]);
    let mut channels = STEM;
    for (i, b) in BLOCKS.iter().enumerate() {
        let before = x;
        x = graph.push(format!("block{i}_depthwise"), conv(3, b.stride, channels, channels, channels), vec![x]);
        x = graph.push(format!("block{i}_project"), conv(1, 1, channels, b.channels, 1), vec![x]);
        if b.residual {
            x = graph.push(format!("block{i}_sum"), Op::Add(Clamp::NONE), vec![x, before]);
        }
        channels = b.channels;
    }
    graph.push("average", Op::Average, vec![x]);
    let weights = normal(channels * tags, (1.0 / channels as f32).sqrt());
    graph.with_head(Linear { inputs: channels, outputs: tags, weights, bias: vec![0.0; tags] })
}
