//! A float classifier as a list of operators with their weights. It is what training, quantisation
//! and the ONNX reader and writer work on. Weights are in ONNX's order, shapes are NHWC.

mod read;
mod run;
mod write;

pub use read::read;
pub use run::Runner;
pub use write::{Quant, QuantWeights, Quantised, with_outputs, write};

use anyhow::{Result, bail, ensure};

/// Where an operator takes a value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// The normalised image.
    Image,
    /// The value of the node with this index.
    Node(usize),
}

/// Limits that a value is brought into after its operator: ReLU is `0..inf`, ReLU6 `0..6`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// Least value.
    pub low: f32,
    /// Greatest value.
    pub high: f32,
}

impl Clamp {
    /// No limits.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
    /// ReLU6.
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };
}

/// The pixels that one output pixel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Down, right.
    pub stride: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
}

impl Window {
    /// 1x1, stride 1.
    pub const POINT: Self = Self { kernel: [1, 1], stride: [1, 1], pads: [0; 4] };

    /// Rows and columns of the output for an input of `[rows, columns]`; nothing if the window does
    /// not fit once.
    pub fn output(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let side = |axis: usize| {
            let padded = input[axis] + self.pads[axis] + self.pads[axis + 2];
            padded.checked_sub(self.kernel[axis]).map(|room| room / self.stride[axis] + 1)
        };
        Some([side(0)?, side(1)?])
    }
}

/// A convolution with its bias, normalisation folded in, and its clamp.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// What an output pixel sees.
    pub window: Window,
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// 1, or `inputs` for a depthwise convolution, or between.
    pub groups: usize,
    /// `[outputs, inputs / groups, rows, columns]`.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
    /// After the bias.
    pub clamp: Clamp,
}

impl Conv {
    /// Weights that make one output.
    pub fn taps(&self) -> usize {
        self.inputs / self.groups * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Whether each output sees its own input channel alone.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.inputs && self.outputs == self.inputs
    }
}

/// A matrix and a bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Values in.
    pub inputs: usize,
    /// Values out.
    pub outputs: usize,
    /// `[outputs, inputs]`.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// An operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// One input.
    Conv(Conv),
    /// Two inputs of one shape.
    Add(Clamp),
    /// One input.
    MaxPool(Window),
    /// Mean over all pixels; one value a channel.
    Average,
    /// One input of one pixel.
    Linear(Linear),
}

/// An operator in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the graph.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Earlier values that it takes.
    pub inputs: Vec<Edge>,
}

/// How bytes become the numbers that a network was trained on: `(value / 255 - mean) / std` for
/// each channel.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalise {
    /// Of values 0..1.
    pub mean: [f32; 3],
    /// Of values 0..1.
    pub std: [f32; 3],
}

impl Normalise {
    /// From flags: one or three numbers each, of values 0..1, or of 0..255 if one is above 1.
    pub fn of(mean: &[f32], std: &[f32]) -> Result<Self> {
        let three = |name: &str, values: &[f32]| match *values {
            [a] => Ok([a; 3]),
            [a, b, c] => Ok([a, b, c]),
            _ => bail!("--{name}: {} values, expected 1 or 3", values.len()),
        };
        let (mut mean, mut std) = (three("mean", mean)?, three("std", std)?);
        if mean.iter().chain(&std).any(|&v| v > 1.0) {
            (mean, std) = (mean.map(|v| v / 255.0), std.map(|v| v / 255.0));
        }
        ensure!(
            std.iter().all(|s| *s > 0.0 && s.is_finite()) && mean.iter().all(|m| m.is_finite()),
            "--std must be above 0 and --mean a number"
        );
        Ok(Self { mean, std })
    }

    /// The real value of a byte.
    pub fn value(&self, channel: usize, byte: u8) -> f32 {
        (byte as f32 / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// The real value of every byte, `[3][256]`.
    pub fn table(&self) -> Vec<f32> {
        (0..3).flat_map(|c| (0..=255).map(move |v| self.value(c, v))).collect()
    }

    /// An image's real values, `[3, side, side]` from `[side, side, 3]`.
    pub fn planes(&self, rgb: &[u8]) -> Vec<f32> {
        let pixels = rgb.len() / 3;
        let table = self.table();
        let mut planes = Vec::with_capacity(rgb.len());
        for c in 0..3 {
            planes.extend((0..pixels).map(|i| table[c * 256 + rgb[i * 3 + c] as usize]));
        }
        planes
    }
}

/// A classifier, or a backbone without its head. The last node's value is the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Side of the square image.
    pub side: usize,
    /// What it was trained on.
    pub normalise: Normalise,
    /// In an order in which each takes earlier values only.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// Rows, columns and channels of each node's value. Fails where operators do not fit their
    /// inputs.
    pub fn shapes(&self) -> Result<Vec<[usize; 3]>> {
        let mut shapes: Vec<[usize; 3]> = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            let input = |k: usize| -> Result<[usize; 3]> {
                match node.inputs.get(k) {
                    Some(Edge::Image) => Ok([self.side, self.side, 3]),
                    Some(Edge::Node(n)) if *n < i => Ok(shapes[*n]),
                    _ => bail!("node \"{}\": input {k} is missing or not an earlier value", node.name),
                }
            };
            let [h, w, c] = input(0)?;
            let slide = |window: &Window| {
                window
                    .output([h, w])
                    .ok_or_else(|| anyhow::anyhow!("node \"{}\": its window is larger than its {h}x{w} input", node.name))
            };
            shapes.push(match &node.op {
                Op::Conv(conv) => {
                    ensure!(
                        conv.inputs == c
                            && conv.weights.len() == conv.taps() * conv.outputs
                            && conv.bias.len() == conv.outputs,
                        "node \"{}\": a convolution of {} channels meets {c}",
                        node.name,
                        conv.inputs
                    );
                    let [h, w] = slide(&conv.window)?;
                    [h, w, conv.outputs]
                }
                Op::Add(_) => {
                    ensure!(input(1)? == [h, w, c], "node \"{}\": adds values of different shapes", node.name);
                    [h, w, c]
                }
                Op::MaxPool(window) => {
                    let [h, w] = slide(window)?;
                    [h, w, c]
                }
                Op::Average => [1, 1, c],
                Op::Linear(l) => {
                    ensure!(
                        h * w * c == l.inputs && l.weights.len() == l.inputs * l.outputs && l.bias.len() == l.outputs,
                        "node \"{}\": a matrix of {} columns meets {} values",
                        node.name,
                        l.inputs,
                        h * w * c
                    );
                    [1, 1, l.outputs]
                }
            });
        }
        ensure!(!shapes.is_empty(), "the graph has no operators");
        Ok(shapes)
    }

    /// Number of values of the result.
    pub fn outputs(&self) -> Result<usize> {
        Ok(self.shapes()?.last().map_or(0, |s| s.iter().product()))
    }

    /// Number of weights, biases included.
    pub fn weights(&self) -> usize {
        let of = |n: &Node| match &n.op {
            Op::Conv(c) => c.weights.len() + c.bias.len(),
            Op::Linear(l) => l.weights.len() + l.bias.len(),
            _ => 0,
        };
        self.nodes.iter().map(of).sum()
    }

    /// Multiply-adds of one image.
    pub fn macs(&self) -> Result<u64> {
        let shapes = self.shapes()?;
        let of = |(n, s): (&Node, &[usize; 3])| match &n.op {
            Op::Conv(c) => s[0] * s[1] * c.outputs * c.taps(),
            Op::Linear(l) => l.weights.len(),
            _ => 0,
        };
        Ok(self.nodes.iter().zip(&shapes).map(of).sum::<usize>() as u64)
    }

    /// The node whose name is `name`. Fails with the names there are.
    pub fn find(&self, name: &str) -> Result<usize> {
        self.nodes.iter().position(|n| n.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
            anyhow::anyhow!("no node is called \"{name}\"; there are {}", names.join(", "))
        })
    }

    /// The same graph without a matrix at its end: its features.
    pub fn headless(mut self) -> Self {
        if let Some(Node { op: Op::Linear(_), .. }) = self.nodes.last() {
            self.nodes.pop();
        }
        self
    }

    /// The graph with a matrix at its end.
    pub fn with_head(mut self, head: Linear) -> Self {
        let last = Edge::Node(self.nodes.len() - 1);
        self.nodes.push(Node { name: "head".into(), op: Op::Linear(head), inputs: vec![last] });
        self
    }

    /// Adds an operator that takes the last value, and returns its edge.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: Vec<Edge>) -> Edge {
        self.nodes.push(Node { name: name.into(), op, inputs });
        Edge::Node(self.nodes.len() - 1)
    }
}
