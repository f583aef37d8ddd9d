//! A lowered graph, the result of `lower` and the input of `plan`: activations, steps over them,
//! and where the logits come from.

use super::Absorbed;
use super::operation::{Dense, Operation};
use super::proto::Type;

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
    /// Rows, columns and channels of the input.
    pub(super) image: [usize; 3],
    /// Whether the file has the input's channels last.
    pub(super) channels_last: bool,
    /// Whether the input is an activation of f32, in ONNX's order.
    pub(super) real_input: bool,
    pub(super) output: Output,
    pub(super) absorbed: Option<Absorbed>,
    pub(super) reports: Vec<NodeReport>,
    /// Of each step: what its node gives, by its name in the graph.
    pub(super) names: Vec<String>,
    /// The graph's int8 tensors, where they were asked for.
    pub(super) traces: Vec<Trace>,
}

/// Where a named int8 tensor of the graph lies.
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) tensor: TensorId,
    /// The place of each value, in ONNX's order.
    pub(super) order: Vec<u32>,
    /// Type in the file: int8, or uint8, which is re-based here.
    pub(super) ty: Type,
    pub(super) dims: Vec<usize>,
}

/// An activation; an image lies as rows, columns, channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor {
    pub(super) len: usize,
    pub(super) quant: Quant,
}

/// Where the logits come from.
#[derive(Clone, Debug)]
pub(super) enum Output {
    /// An int8 tensor: each logit is a multiple of its step.
    Quantised(TensorId, Quant),
    /// A function of an int8 tensor: the logit of each code, `values[q as u8]`.
    Table(TensorId, Box<[f32; 256]>),
    /// A product whose accumulators are the logits in these steps: nothing is rounded before the
    /// head.
    Dense(TensorId, Dense, Vec<f32>),
    /// The f32 at these places of an activation.
    Reals(TensorId, Vec<u32>),
}

/// One step: an operator, its inputs, and where its result goes.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) operation: Operation,
    pub(super) sources: Vec<TensorId>,
    pub(super) dst: TensorId,
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
