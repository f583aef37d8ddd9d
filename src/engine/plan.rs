//! The plan: packed weights, one arena, steps run in order. No allocation and no dispatch on names while it runs.
//!
//! Does not know ONNX.

use super::{Absorbed, EngineError, EngineSpec};
use crate::kernels::generic::{self, Addend, Epilogue, EpilogueBlock, Reach};
use crate::kernels::{ConvShape, Kernels, Weights};
use crate::quant::{Clamp, logit_q16, requant_rndne};
use std::ops::Range;

/// Index of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TensorId(pub(super) usize);

/// Step and zero point of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quant {
    pub(super) scale: f32,
    pub(super) zero_point: i8,
}

/// A graph as steps, before anything has its place in memory.
pub(super) struct Lowered {
    pub(super) tensors: Vec<Tensor>,
    pub(super) steps: Vec<Step>,
    pub(super) input: TensorId,
    pub(super) output: Output,
    pub(super) absorbed: Option<Absorbed>,
    pub(super) reports: Vec<NodeReport>,
}

/// An activation: NHWC without the batch.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) dims: Vec<usize>,
    pub(super) len: usize,
    pub(super) quant: Quant,
}

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
        let reach = Reach::of(weights, zero_point, &bias, &scale);
        let weights = if shape.is_depthwise() {
            kernels.pack_depthwise(&shape, weights, zero_point, &mut bias)
        } else {
            let channels = shape.output[2] / shape.groups;
            kernels.pack(weights, channels, shape.patch_len(), shape.groups, zero_point, &mut bias)
        };
        let blocks = kernels.epilogue_blocks(&shape, &weights, reach, &bias, &scale);
        Self { shape, weights, bias, scale, zero_point, clamp, blocks, reach }
    }

    fn run(&self, kernels: Kernels, input: &[i8], output: &mut [i8], scratch: &mut [i16]) {
        let Self { bias, scale, clamp, blocks, reach, .. } = self;
        let epilogue = Epilogue { bias, scale, clamp: *clamp, blocks, reach: *reach };
        match self.shape.is_depthwise() {
            true => kernels.depthwise(&self.shape, input, self.zero_point, &self.weights, epilogue, output, scratch),
            false => kernels.conv(&self.shape, input, self.zero_point, &self.weights, epilogue, output, scratch),
        }
    }
}

/// A matrix product with its weights packed.
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
        let weights = kernels.pack(weights, bias.len(), inputs, 1, zero_point, &mut bias);
        Self { weights, bias, inputs, zero_point }
    }

    /// Which kernel computes it, for people.
    pub(super) fn describe(&self) -> String {
        format!("int8 product {}x{}", self.inputs, self.bias.len())
    }

    fn run(&self, kernels: Kernels, input: &[i8], sums: &mut [i32], scratch: &mut [i16]) {
        kernels.dense(input, self.zero_point, &self.weights, &self.bias, sums, scratch);
    }
}

/// One step's kernel and inputs.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Conv(TensorId, Conv),
    Dense(TensorId, Dense, Vec<f32>, Clamp),
    Add([TensorId; 2], [Addend; 2], Clamp),
    GlobalAverage(TensorId, i8, f32, Clamp),
    MaxPool(TensorId, ConvShape),
    Rescale(TensorId, i8, f32, Clamp),
}

impl Operation {
    fn sources(&self) -> [Option<TensorId>; 2] {
        match self {
            Self::Add([a, b], ..) => [Some(*a), Some(*b)],
            Self::Conv(a, _)
            | Self::Dense(a, ..)
            | Self::GlobalAverage(a, ..)
            | Self::MaxPool(a, _)
            | Self::Rescale(a, ..) => [Some(*a), None],
        }
    }

    /// Which kernel computes it, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Conv(_, c) => {
                let [kh, kw] = c.shape.kernel;
                let kind = match c.shape {
                    s if s.is_depthwise() => "depthwise",
                    s if s.is_pointwise() => "pointwise",
                    _ => "convolution",
                };
                format!("int8 {kind} {kh}x{kw}, {:.2} M multiply-adds", c.shape.macs() as f64 / 1e6)
            }
            Self::Dense(_, d, ..) => d.describe(),
            Self::Add(..) => "int8 addition".into(),
            Self::GlobalAverage(..) => "int8 global average".into(),
            Self::MaxPool(..) => "int8 maximum".into(),
            Self::Rescale(..) => "int8 rescale".into(),
        }
    }

    fn macs(&self) -> u64 {
        match self {
            Self::Conv(_, c) => c.shape.macs(),
            Self::Dense(_, d, ..) => (d.inputs * d.bias.len()) as u64,
            _ => 0,
        }
    }
}

/// One step: a kernel and where its result goes.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) operation: Operation,
    pub(super) dst: TensorId,
}

/// Where the logits come from.
#[derive(Clone, Debug)]
pub(super) enum Output {
    /// An int8 tensor: each logit is a multiple of its step.
    Quantised(TensorId, Quant),
    /// A product whose sums are the logits in these steps: nothing is rounded before the head.
    Dense(TensorId, Dense, Vec<f32>),
}

/// What became of one node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The kernel that runs it, or `folded` into another node's.
    pub place: String,
}

/// A loaded model: weights and the memory that one inference needs.
#[derive(Clone, Debug)]
pub struct Engine {
    spec: EngineSpec,
    kernels: Kernels,
    steps: Vec<Step>,
    output: Output,
    places: Vec<Range<usize>>,
    input: TensorId,
    arena: Vec<i8>,
    scratch: Vec<i16>,
    sums: Vec<i32>,
    reports: Vec<NodeReport>,
}

impl Engine {
    /// Gives every activation its place and takes all memory that inference needs.
    pub(super) fn build(kernels: Kernels, lowered: Lowered) -> Result<Self, EngineError> {
        let tensors = &lowered.tensors;
        let &[h, w, c] = tensors[lowered.input.0].dims.as_slice() else {
            return Err(EngineError::Limit("the input is no picture".into()));
        };
        let (logits, last) = match &lowered.output {
            Output::Quantised(id, _) => (tensors[id.0].len, *id),
            Output::Dense(id, d, _) => (d.bias.len(), *id),
        };
        let places = places(tensors, &lowered.steps, lowered.input, last);
        let arena = places.iter().map(|p| p.end).max().unwrap_or(0);
        if arena > 1 << 28 {
            return Err(EngineError::Limit(format!("activations of {arena} bytes")));
        }
        let dense_inputs = |d: &Dense| generic::scratch_len(d.inputs);
        let scratch = lowered.steps.iter().map(|s| match &s.operation {
            Operation::Conv(_, c) => kernels.scratch_len(&c.shape),
            Operation::Dense(_, d, ..) => dense_inputs(d),
            _ => 0,
        });
        let last_scratch = if let Output::Dense(_, d, _) = &lowered.output { dense_inputs(d) } else { 0 };
        let scratch = scratch.max().unwrap_or(0).max(last_scratch);
        let inner_sums = lowered.steps.iter().map(|s| match &s.operation {
            Operation::Dense(_, d, ..) => d.bias.len(),
            _ => 0,
        });
        let sums = inner_sums.max().unwrap_or(0).max(logits);
        let quant = tensors[lowered.input.0].quant;
        let spec = EngineSpec {
            input: [h, w, c],
            scale: quant.scale,
            zero_point: quant.zero_point,
            logits,
            absorbed: lowered.absorbed,
            output_step: if let Output::Quantised(_, q) = &lowered.output { Some(q.scale) } else { None },
        };
        Ok(Self {
            spec,
            kernels,
            steps: lowered.steps,
            output: lowered.output,
            places,
            input: lowered.input,
            arena: vec![0; arena],
            scratch: vec![0; scratch],
            sums: vec![0; sums],
            reports: lowered.reports,
        })
    }

    /// What the model takes and gives.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// The kernels that run it.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// What became of each node of the graph.
    pub fn nodes(&self) -> &[NodeReport] {
        &self.reports
    }

    /// Multiply-adds of one inference.
    pub fn macs(&self) -> u64 {
        let last = if let Output::Dense(_, d, _) = &self.output { d.inputs * d.bias.len() } else { 0 };
        self.steps.iter().map(|s| s.operation.macs()).sum::<u64>() + last as u64
    }

    /// Bytes of activations held at once.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Runs one inference. Allocates nothing.
    ///
    /// `input`: NHWC int8, as [`EngineSpec::input`]. `logits`: Q16.16, [`EngineSpec::logits`] of them.
    pub fn infer(&mut self, input: &[i8], logits: &mut [i32]) -> Result<(), EngineError> {
        let place = self.places[self.input.0].clone();
        if input.len() != place.len() {
            return Err(EngineError::Length { what: "input", found: input.len(), expected: place.len() });
        }
        if logits.len() != self.spec.logits {
            return Err(EngineError::Length { what: "logits", found: logits.len(), expected: self.spec.logits });
        }
        self.arena[place].copy_from_slice(input);
        for step in &self.steps {
            let dst = self.places[step.dst.0].clone();
            let [a, b] = step.operation.sources().map(|s| s.map(|id| self.places[id.0].clone()));
            let a = a.expect("every operation has an input");
            // The arena's plan keeps a step's inputs apart from its output; two inputs may be one tensor.
            let b = b.filter(|b| *b != a).unwrap_or(0..0);
            let [a, b, out] = self.arena.get_disjoint_mut([a, b, dst]).expect("places of one step are disjoint");
            let b = if b.is_empty() { &*a } else { &*b };
            match &step.operation {
                Operation::Conv(_, conv) => conv.run(self.kernels, a, out, &mut self.scratch),
                Operation::Dense(_, dense, scales, clamp) => {
                    let sums = &mut self.sums[..out.len()];
                    dense.run(self.kernels, a, sums, &mut self.scratch);
                    for ((out, sum), scale) in out.iter_mut().zip(sums).zip(scales) {
                        *out = requant_rndne(*sum, *scale, *clamp);
                    }
                }
                Operation::Add(_, [pa, pb], clamp) => self.kernels.add(a, *pa, b, *pb, *clamp, out),
                Operation::GlobalAverage(_, zp, scale, clamp) => generic::global_average(a, *zp, *scale, *clamp, out),
                Operation::MaxPool(_, shape) => generic::max_pool(shape, a, out),
                Operation::Rescale(_, zp, scale, clamp) => generic::rescale(a, *zp, *scale, *clamp, out),
            }
        }
        match &self.output {
            Output::Quantised(id, quant) => {
                let values = &self.arena[self.places[id.0].clone()];
                for (logit, &q) in logits.iter_mut().zip(values) {
                    *logit = logit_q16(q as i32 - quant.zero_point as i32, quant.scale);
                }
            }
            Output::Dense(id, dense, steps) => {
                let sums = &mut self.sums[..logits.len()];
                dense.run(self.kernels, &self.arena[self.places[id.0].clone()], sums, &mut self.scratch);
                for ((logit, sum), step) in logits.iter_mut().zip(sums).zip(steps) {
                    *logit = logit_q16(*sum, *step);
                }
            }
        }
        Ok(())
    }
}

/// Places every activation in one arena so that those needed at the same time do not overlap: first fit, in order of making.
fn places(tensors: &[Tensor], steps: &[Step], input: TensorId, last: TensorId) -> Vec<Range<usize>> {
    let mut last_use = vec![0; tensors.len()];
    for (at, step) in steps.iter().enumerate() {
        step.operation.sources().into_iter().flatten().for_each(|id| last_use[id.0] = at);
    }
    last_use[last.0] = steps.len();
    let mut places: Vec<Range<usize>> = vec![0..0; tensors.len()];
    let mut live = vec![input];
    places[input.0] = 0..tensors[input.0].len;
    for (at, step) in steps.iter().enumerate() {
        live.retain(|id| last_use[id.0] >= at);
        let len = tensors[step.dst.0].len;
        let mut taken: Vec<Range<usize>> = live.iter().map(|id| places[id.0].clone()).collect();
        taken.sort_by_key(|r| r.start);
        let mut start = 0;
        for r in taken {
            if r.start >= start + len {
                break;
            }
            start = start.max(r.end.next_multiple_of(64));
        }
        places[step.dst.0] = start..start + len;
        live.push(step.dst);
    }
    places
}
