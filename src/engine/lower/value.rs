//! What each value of the graph stands for during lowering ([`Value`]).

use super::constants::Weights;
use super::view::Axes;
use crate::engine::Absorbed;
use crate::engine::lowered::TensorId;
use crate::kernels::ConvShape;
use std::borrow::Cow;
use std::rc::Rc;

/// An ONNX tensor over an activation.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) id: TensorId,
    pub(super) axes: Axes,
}

/// A real function of a tensor: its value for each code, `values[q as u8]`.
pub(super) type Function = Rc<[f32; 256]>;

/// What a name of the graph stands for.
#[derive(Clone, Debug)]
pub(super) enum Value<'g> {
    /// The graph's real input, before its QuantizeLinear.
    Input(Axes),
    /// The graph's int8 or uint8 input, before a reader says its scale.
    Codes(Axes),
    /// An int8 tensor.
    Int(View),
    /// DequantizeLinear of an int8 tensor.
    Real(View),
    /// DequantizeLinear of a constant.
    Weights(Rc<Weights<'g>>),
    /// A real constant.
    Constant { dims: Vec<usize>, values: Cow<'g, [f32]> },
    /// A function of one int8 tensor, value by value.
    Function { view: View, values: Function },
    /// A real result that waits for its QuantizeLinear.
    Pending(Pending),
    /// int32 accumulators of a MatMulInteger.
    Accumulators(Matrix),
    /// The same, cast to float and not yet multiplied by their scale.
    RealAccumulators(Matrix),
    /// A real value that an island computes under this name, or the graph's input in f32, in ONNX's
    /// order of then; read by `axes`.
    Float { name: &'g str, axes: Axes },
    /// A softmax or sigmoid over logits.
    Scores(Box<Value<'g>>, Absorbed),
    /// The index of the best of these logits.
    Best(Box<Value<'g>>),
    /// Made by a node that was refused.
    Unknown,
}

/// A real result that waits for its QuantizeLinear.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) what: Rc<Kind>,
    pub(super) axes: Axes,
    pub(super) lo: f32,
    pub(super) hi: f32,
    /// The node that computes it.
    pub(super) maker: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Conv {
        src: TensorId,
        shape: ConvShape,
        weights: Vec<i16>,
        bias: Bias,
        scales: Vec<f32>,
    },
    Dense(Matrix, Vec<f32>),
    /// The second times 1, or -1.
    Add(TensorId, TensorId, f32),
    /// The second's values repeat over the first's.
    Multiply(TensorId, TensorId),
    /// The real value at place p times the first number plus the second of line p modulo their
    /// number.
    Affine(TensorId, Vec<[f32; 2]>),
    /// The average over this number of pixels.
    GlobalAverage(TensorId, usize),
    /// Of a function's values.
    GlobalAverageOf(TensorId, Function, usize),
    AveragePool {
        src: TensorId,
        shape: ConvShape,
        count_padding: bool,
    },
    /// Parts, and how many of each one's values stand together.
    Concat(Vec<(TensorId, usize)>),
    /// The largest of a function's values under the kernel.
    Max(TensorId, Function, ConvShape),
}

/// Biases in accumulator steps.
#[derive(Clone, Debug)]
pub(super) struct Bias {
    pub(super) values: Vec<i32>,
    /// Whether they were real, and are rounded to these steps.
    pub(super) rounded: bool,
}

/// A GEMM of one row: `[outputs][inputs]` weights.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) src: TensorId,
    pub(super) weights: Vec<i16>,
    pub(super) bias: Bias,
    pub(super) axes: Axes,
}

impl Pending {
    pub(super) fn new(what: Kind, axes: Axes, maker: usize) -> Self {
        Self { what: Rc::new(what), axes, lo: f32::NEG_INFINITY, hi: f32::INFINITY, maker }
    }

    pub(super) fn unclamped(&self) -> bool {
        self.lo == f32::NEG_INFINITY && self.hi == f32::INFINITY
    }

    /// Whether both are the same real numbers, place by place.
    pub(super) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.what, &other.what) && self.lo == other.lo && self.hi == other.hi
    }
}

impl Value<'_> {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Input(_) => "the graph's real input",
            Self::Codes(_) => "the graph's integer input",
            Self::Int(_) => "an int8 tensor",
            Self::Real(_) => "a dequantised tensor",
            Self::Weights(_) => "a dequantised constant",
            Self::Constant { .. } => "a real constant",
            Self::Function { .. } => "a function of a tensor, not yet quantised",
            Self::Pending(_) => "a real value not yet quantised",
            Self::Accumulators(_) | Self::RealAccumulators(_) => "int32 accumulators",
            Self::Float { .. } => "computed in f32",
            Self::Scores(..) => "scores",
            Self::Best(..) => "the index of the best tag",
            Self::Unknown => "unknown",
        }
    }
}
