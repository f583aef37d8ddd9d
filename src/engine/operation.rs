//! One step of a plan: an operator with its packed weights and parameters. [`super::plan`] decides
//! where its tensors lie.

use super::island::{Island, real};
use crate::kernels::elementwise::{self, Addend};
use crate::kernels::epilogue::{Epilogue, EpilogueBlock, Reach};
use crate::kernels::pool::Pool;
use crate::kernels::{ConvShape, Kernels, Layer, WeightShape, Weights};
use crate::quant::{Clamp, quantise, requant_rndne};

/// Most threads of one engine.
pub const MAX_THREADS: usize = 4;
/// With fewer multiply-adds, waking the threads takes longer than the work.
const LEAST_MACS: u64 = 50_000;

/// A convolution with its weights packed.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    shape: ConvShape,
    weights: Weights,
    bias: Vec<i32>,
    scale: Vec<f32>,
    zero_point: i8,
    clamp: Clamp,
    blocks: Vec<EpilogueBlock>,
    reach: Reach,
}

impl Conv {
    /// `weights`: `[out][row][column][in]`, less their zero point.
    pub(super) fn new(
        kernels: Kernels,
        shape: ConvShape,
        weights: &[i16],
        mut bias: Vec<i32>,
        scale: Vec<f32>,
        zero_point: i8,
        clamp: Clamp,
    ) -> Self {
        let reaches: Vec<Reach> = Reach::of_channels(weights, zero_point, &bias, &scale).collect();
        let weights = if shape.is_depthwise() {
            kernels.pack_depthwise(&shape, weights, zero_point, &mut bias)
        } else {
            kernels.pack(weights, shape.weights(), zero_point, &mut bias)
        };
        let blocks = kernels.epilogue_blocks(&shape, &weights, &reaches, &bias, &scale);
        Self { shape, weights, bias, scale, zero_point, clamp, blocks, reach: Reach::furthest(&reaches) }
    }

    fn run(&self, kernels: Kernels, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        self.run_as(&self.shape, kernels, input, output, scratch);
    }

    /// Computes the rows that `shape` says: this convolution's own shape, or some rows of it.
    fn run_as(&self, shape: &ConvShape, kernels: Kernels, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Self { bias, scale, clamp, blocks, reach, .. } = self;
        let epilogue = Epilogue { bias, scale, clamp: *clamp, blocks, reach: *reach };
        let layer = Layer { shape, zero_point: self.zero_point, weights: &self.weights, epilogue };
        match shape.is_depthwise() {
            true => kernels.depthwise(layer, input, output, scratch),
            false => kernels.conv(layer, input, output, scratch),
        }
    }

    /// Computes it on all threads of a pool, each some of the rows; `scratch` holds one share per
    /// thread. Returns false without doing anything if it has too few rows or multiply-adds for
    /// that.
    pub(super) fn run_by(
        &self,
        pool: &Pool,
        kernels: Kernels,
        input: &[i8],
        output: &mut [i8],
        scratch: &mut [i16],
    ) -> bool {
        let [oh, ow, oc] = self.shape.output;
        let (row, n) = (self.shape.input[1] * self.shape.input[2], pool.threads().min(oh));
        if n < 2 || self.shape.macs() < LEAST_MACS {
            return false;
        }
        let mut parts: [Option<Part<'_>>; MAX_THREADS] = [const { None }; MAX_THREADS];
        let (mut rest, mut scratch) = (output, scratch.chunks_exact_mut(scratch.len() / pool.threads()));
        for (i, part) in parts[..n].iter_mut().enumerate() {
            let rows = oh * i / n..oh * (i + 1) / n;
            let (Some((shape, read)), Some(scratch)) = (self.shape.rows(rows.clone()), scratch.next()) else {
                return false;
            };
            let (output, after) = std::mem::take(&mut rest).split_at_mut(rows.len() * ow * oc);
            rest = after;
            *part = Some(Part { shape, input: &input[read.start * row..read.end * row], output, scratch });
        }
        pool.each(&mut parts[..n], |part| {
            if let Some(Part { shape, input, output, scratch }) = part {
                self.run_as(shape, kernels, input, output, scratch);
            }
        });
        true
    }
}

/// Some rows of a convolution, for one thread.
struct Part<'a> {
    shape: ConvShape,
    input: &'a [i8],
    output: &'a mut [i8],
    scratch: &'a mut [i16],
}

/// A GEMM with its weights packed.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    weights: Weights,
    bias: Vec<i32>,
    inputs: usize,
    zero_point: i8,
}

impl Dense {
    /// `weights`: `[outputs][inputs]`, less their zero point.
    pub(super) fn new(kernels: Kernels, weights: &[i16], mut bias: Vec<i32>, zero_point: i8) -> Self {
        let inputs = weights.len() / bias.len();
        let shape = WeightShape { channels: bias.len(), taps: inputs, groups: 1 };
        let weights = kernels.pack(weights, shape, zero_point, &mut bias);
        Self { weights, bias, inputs, zero_point }
    }

    /// Multiply-adds of one run.
    pub(super) fn macs(&self) -> u64 {
        (self.inputs * self.bias.len()) as u64
    }

    /// Bytes of weights and biases.
    pub(super) fn bytes(&self) -> usize {
        self.weights.bytes() + 4 * self.bias.len()
    }

    /// Number of accumulators that it gives.
    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Values of the scratch that it needs.
    pub(super) fn scratch_len(&self, kernels: Kernels) -> usize {
        kernels.product_scratch_len(self.inputs)
    }

    /// Whether scalar loops compute it.
    pub(super) fn is_scalar(&self, kernels: Kernels) -> bool {
        kernels.is_scalar(&self.weights)
    }

    /// Which kernel computes it, for people.
    pub(super) fn describe(&self) -> String {
        format!("int8 product {}x{}", self.inputs, self.bias.len())
    }

    pub(super) fn run(&self, kernels: Kernels, input: &[i8], accumulators: &mut [i32], scratch: &mut [i16]) {
        kernels.dense(input, self.zero_point, &self.weights, &self.bias, accumulators, scratch);
    }
}

/// An operator that gives an int8 tensor.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Conv(Conv),
    /// A GEMM, each accumulator's scale over the output's scale, and the output's range.
    Dense(Dense, Vec<f32>, Clamp),
    Add([Addend; 2], Clamp),
    /// Zero points of both factors, s_a * s_b / s_out.
    Multiply([i8; 2], f32, Clamp),
    /// Zero point, and a repeating list of lines `[factor * s_in / s_out, addend / s_out]`, one for
    /// each element in turn.
    Affine(i8, Vec<[f32; 2]>, Clamp),
    GlobalAverage(i8, f32, Clamp),
    /// Each code's value in a common unit; that unit over (output scale * number of pixels).
    GlobalAverageOf(Box<[i32; 256]>, f32, Clamp),
    MaxPool(ConvShape),
    /// Zero point, s_in / s_out, and whether taps in the padding count.
    AveragePool(ConvShape, i8, f32, bool, Clamp),
    Map(Box<[i8; 256]>),
    /// Each input's channels and table, one after the other.
    Concat(Vec<(usize, Box<[i8; 256]>)>),
    /// The values at these places, one after the other.
    Rearrange(Vec<u32>),
    /// Copies `channels` channels starting at `at`, out of `all`.
    TakeChannels {
        all: usize,
        at: usize,
        channels: usize,
    },
    ShuffleChannels {
        channels: usize,
        groups: usize,
    },
    /// Shape of the input, rows and columns before it, rows and columns of the output, and what
    /// fills them.
    Pad {
        input: [usize; 3],
        before: [usize; 2],
        output: [usize; 2],
        value: i8,
    },
    /// What tract runs; reads any number of activations.
    Island(Box<Island>),
    /// The f32 at these places to int8: scale and zero point.
    Quantise(Vec<u32>, f32, i8),
}

/// Memory that operators use while they run.
pub(super) struct Scratch<'a> {
    pub(super) values: &'a mut [i16],
    pub(super) accumulators: &'a mut [i32],
}

impl Operation {
    /// Which kernel computes it, for people.
    pub(super) fn describe(&self) -> String {
        let what = match self {
            Self::Conv(c) => {
                let [kh, kw] = c.shape.kernel;
                let kind = match c.shape {
                    s if s.is_depthwise() => "depthwise",
                    s if s.is_pointwise() => "pointwise",
                    _ => "convolution",
                };
                let groups = match c.shape.groups {
                    groups if groups > 1 && !c.shape.is_depthwise() => format!(" in {groups} groups"),
                    _ => String::new(),
                };
                return format!("int8 {kind} {kh}x{kw}{groups}, {:.2} M multiply-adds", c.shape.macs() as f64 / 1e6);
            }
            Self::Dense(d, ..) => return d.describe(),
            Self::Add(..) => "int8 addition",
            Self::Multiply(..) => "int8 multiplication",
            Self::Affine(..) => "int8 factor and addend a channel",
            Self::GlobalAverage(..) | Self::GlobalAverageOf(..) => "int8 global average",
            Self::MaxPool(..) => "int8 maximum",
            Self::AveragePool(..) => "int8 average",
            Self::Map(..) => "int8 table",
            Self::Concat(..) => "int8 concatenation",
            Self::Rearrange(_) => "int8 values moved",
            Self::TakeChannels { .. } => "int8 channels taken",
            Self::ShuffleChannels { .. } => "int8 channels shuffled",
            Self::Pad { .. } => "int8 padding",
            Self::Island(island) => return island.describe(),
            Self::Quantise(..) => "int8 from f32",
        };
        what.into()
    }

    /// Whether scalar loops compute its multiply-adds.
    pub(super) fn is_scalar(&self, kernels: Kernels) -> bool {
        match self {
            Self::Conv(c) => kernels.is_scalar(&c.weights),
            Self::Dense(d, ..) => d.is_scalar(kernels),
            _ => false,
        }
    }

    /// Channels of its output; `sources`: those of its inputs. `None` if the output is not an
    /// image.
    pub(super) fn channels(&self, sources: &[Option<usize>]) -> Option<usize> {
        let first = sources.first().copied().flatten();
        match self {
            Self::Conv(c) => Some(c.shape.output[2]),
            Self::MaxPool(shape) | Self::AveragePool(shape, ..) => Some(shape.output[2]),
            Self::Add(..) => first.filter(|_| sources.iter().all(|s| *s == first)),
            Self::Map(_) | Self::Multiply(..) | Self::Affine(..) | Self::GlobalAverage(..) | Self::GlobalAverageOf(..) => {
                first
            }
            Self::Concat(parts) => Some(parts.iter().map(|(channels, _)| channels).sum()),
            Self::TakeChannels { channels, .. } | Self::ShuffleChannels { channels, .. } => Some(*channels),
            Self::Pad { input, .. } => Some(input[2]),
            Self::Dense(d, ..) => Some(d.outputs()),
            Self::Rearrange(_) | Self::Island(_) | Self::Quantise(..) => None,
        }
    }

    /// Whether it is a depthwise convolution.
    pub(super) fn is_depthwise(&self) -> bool {
        matches!(self, Self::Conv(c) if c.shape.is_depthwise())
    }

    /// Multiply-adds of one run.
    pub(super) fn macs(&self) -> u64 {
        match self {
            Self::Conv(c) => c.shape.macs(),
            Self::Dense(d, ..) => d.macs(),
            _ => 0,
        }
    }

    /// Bytes of what it keeps for each channel and tap.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Conv(c) => c.weights.bytes() + 8 * c.bias.len() + std::mem::size_of_val(c.blocks.as_slice()),
            Self::Dense(d, scales, _) => d.bytes() + 4 * scales.len(),
            Self::Affine(_, lines, _) => 8 * lines.len(),
            Self::Rearrange(order) | Self::Quantise(order, ..) => 4 * order.len(),
            Self::Island(island) => island.bytes(),
            _ => 0,
        }
    }

    /// Values and accumulators of the scratch that it needs.
    pub(super) fn scratch_len(&self, kernels: Kernels) -> (usize, usize) {
        match self {
            Self::Conv(c) => (kernels.scratch_len(&c.shape), 0),
            Self::Dense(d, ..) => (d.scratch_len(kernels), d.outputs()),
            _ => (0, 0),
        }
    }

    /// Computes `output` of its inputs, of which there are one or two; a [`Operation::Concat`] is
    /// run part by part.
    pub(super) fn run(&self, kernels: Kernels, a: &[i8], b: &[i8], output: &mut [i8], scratch: &mut Scratch<'_>) {
        match self {
            Self::Conv(conv) => conv.run(kernels, a, output, scratch.values),
            Self::Dense(dense, scales, clamp) => {
                let accumulators = &mut scratch.accumulators[..output.len()];
                dense.run(kernels, a, accumulators, scratch.values);
                for ((out, acc), scale) in output.iter_mut().zip(accumulators).zip(scales) {
                    *out = requant_rndne(*acc, *scale, *clamp);
                }
            }
            Self::Add([pa, pb], clamp) => kernels.add(a, *pa, b, *pb, *clamp, output),
            Self::Multiply(zero_points, scale, clamp) => elementwise::multiply(a, b, *zero_points, *scale, *clamp, output),
            Self::Affine(zp, lines, clamp) => elementwise::affine(a, *zp, lines, *clamp, output),
            Self::GlobalAverage(zp, scale, clamp) => elementwise::global_average(a, *zp, *scale, *clamp, output),
            Self::GlobalAverageOf(table, scale, clamp) => elementwise::global_average_of(a, table, *scale, *clamp, output),
            Self::MaxPool(shape) => elementwise::max_pool(shape, a, output),
            Self::AveragePool(shape, zp, scale, whole, clamp) => {
                elementwise::average_pool(shape, a, *zp, *scale, *whole, *clamp, output);
            }
            Self::Map(table) => elementwise::map(a, table, output),
            Self::Concat(_) => unreachable!("the plan runs a concatenation part by part"),
            Self::Island(_) => unreachable!("the plan runs an island by itself"),
            Self::Quantise(order, scale, zero_point) => {
                for (out, &at) in output.iter_mut().zip(order) {
                    *out = quantise(real(a, at as usize), *scale, *zero_point);
                }
            }
            Self::Rearrange(order) => output.iter_mut().zip(order).for_each(|(out, &from)| *out = a[from as usize]),
            Self::TakeChannels { all, at, channels } => elementwise::take_channels(a, *all, *at, *channels, output),
            Self::ShuffleChannels { channels, groups } => elementwise::shuffle_channels(a, *channels, *groups, output),
            Self::Pad { input, before, output: size, value } => elementwise::pad(a, *input, *before, *size, *value, output),
        }
    }
}
