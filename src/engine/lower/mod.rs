//! Recognises a quantised graph on the ONNX proto and turns it into steps of integer kernels.
//!
//! Does not run anything and does not choose kernels. A node whose result cannot be computed exactly is refused by name.
//!
//! Each value of the graph is followed as what it *means*: a quantised tensor, a real view of one, or a real result that
//! waits for the QuantizeLinear which says to what step it must be brought. Both forms of ONNX Runtime's quantiser are read:
//! QDQ, and QLinearConv with its kin. uint8 activations are re-based by 128, which changes no bit of the result.

mod channels;
mod elementwise;
mod emit;
mod linear;
mod pool;
mod qlinear;
mod window;

use super::operation::{Dense, Step};
use super::plan::{Lowered, NodeReport, Output, Quant, Tensor, TensorId};
use super::proto::{Attribute, Constant, Graph, Node, Values};
use super::{Absorbed, EngineError};
use crate::kernels::{ConvShape, Kernels};
use std::collections::HashMap;

/// Most bytes of one activation.
const MAX_ACTIVATION: usize = 1 << 26;
/// Most multiply-adds of one convolution or matrix product.
const MAX_MACS: u64 = 1 << 34;
/// Why a reader is refused.
const OTHER_QUANT: &str = "it reads with another step or zero point than the tensor was made with";

/// Operators after which scores are still the scores.
const NO_ARITHMETIC: [&str; 6] = ["QuantizeLinear", "DequantizeLinear", "Identity", "Reshape", "Flatten", "Squeeze"];

/// What a name of the graph stands for.
#[derive(Clone, Debug)]
enum Value<'g> {
    /// The graph's real input, before its QuantizeLinear.
    Input,
    /// An int8 tensor.
    Int(TensorId),
    /// DequantizeLinear of an int8 tensor.
    Real(TensorId),
    /// An int8 tensor, or its real view, in another shape.
    Reshaped { id: TensorId, shape: Shape, real: bool },
    /// DequantizeLinear of a constant: zero points and steps, one or one a slice of `axis`.
    Weights { constant: &'g Constant, zero_points: Vec<i32>, scales: Vec<f32>, axis: usize },
    /// A real constant.
    Constant { dims: Vec<usize>, values: Vec<f32> },
    /// A real function of one int8 tensor: its value for each code, `values[q as u8]`.
    Function { src: TensorId, values: Box<[f32; 256]> },
    /// A real result that waits for its QuantizeLinear.
    Pending(Pending),
    /// int32 sums of a MatMulInteger.
    Sums(Matrix),
    /// The same as real numbers not yet multiplied by their step.
    RealSums(Matrix),
    /// A softmax or sigmoid over logits.
    Scores(Box<Value<'g>>, Absorbed),
}

/// A shape other than a picture's that an int8 tensor may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One vector, channel-major as ONNX flattens a picture of more than one pixel.
    Flat,
    /// Channels in so many groups, and whether these were exchanged with what is in them.
    Grouped { groups: usize, exchanged: bool },
}

#[derive(Clone, Debug)]
struct Pending {
    what: Kind,
    dims: Vec<usize>,
    lo: f32,
    hi: f32,
}

#[derive(Clone, Debug)]
enum Kind {
    Conv {
        src: TensorId,
        shape: ConvShape,
        weights: Vec<i16>,
        bias: Vec<i32>,
        scales: Vec<f32>,
    },
    Dense(Matrix, Vec<f32>),
    Add(TensorId, TensorId),
    /// The second may be one pixel.
    Multiply(TensorId, TensorId),
    /// Channel c's real value times the first number plus the second.
    Affine(TensorId, Vec<[f32; 2]>),
    GlobalAverage(TensorId),
    /// Of a function's values.
    GlobalAverageOf(TensorId, Box<[f32; 256]>),
    /// With taps in the padding counted, or not.
    AveragePool(TensorId, ConvShape, bool),
    Concat(Vec<TensorId>),
    /// The largest of a function's values under the kernel.
    Max(TensorId, Box<[f32; 256]>, ConvShape),
}

/// A matrix product: `[outputs][inputs]` weights.
#[derive(Clone, Debug)]
struct Matrix {
    src: TensorId,
    weights: Vec<i16>,
    bias: Vec<i32>,
}

type Why = String;
/// Shape, integers less their zero point, steps.
type ConstantWeights = (Vec<usize>, Vec<i16>, Vec<f32>);

struct Lowering<'g> {
    graph: &'g Graph,
    kernels: Kernels,
    values: HashMap<&'g str, Value<'g>>,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    /// The tensors that are a table of another one.
    tables: HashMap<usize, (TensorId, Box<[i8; 256]>)>,
    input: Option<TensorId>,
}

/// Lowers a whole graph, or names the first node that cannot be.
pub(super) fn lower(graph: &Graph, kernels: Kernels) -> Result<Lowered, EngineError> {
    let mut l = Lowering {
        graph,
        kernels,
        values: HashMap::new(),
        tensors: Vec::new(),
        steps: Vec::new(),
        tables: HashMap::new(),
        input: None,
    };
    l.values.insert(&graph.input, Value::Input);
    // Which node computes a value, and which a step: the convolution, not the QuantizeLinear that ends it.
    let (mut makers, mut steps) = (HashMap::<&str, usize>::new(), Vec::new());
    for (i, node) in graph.nodes.iter().enumerate() {
        let refuse = |why| EngineError::Refused { node: node.name.clone(), op: node.op.clone(), why };
        let values = l.node(node).map_err(refuse)?;
        if values.len() != node.outputs.len() {
            return Err(refuse(format!("{} outputs, expected {}", node.outputs.len(), values.len())));
        }
        let maker = node.inputs.first().and_then(|name| makers.get(name.as_str())).copied().unwrap_or(i);
        for (out, value) in node.outputs.iter().zip(values) {
            if !matches!(value, Value::Int(_) | Value::Real(_) | Value::Reshaped { .. } | Value::Weights { .. }) {
                makers.insert(out, maker);
            }
            l.values.insert(out, value);
        }
        steps.resize(l.steps.len(), maker);
    }
    l.finish(makers.get(graph.output.as_str()).copied(), steps)
}

impl<'g> Lowering<'g> {
    /// What a node's outputs stand for.
    fn node(&mut self, node: &'g Node) -> Result<Vec<Value<'g>>, Why> {
        let value = match node.op.as_str() {
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "MatMulInteger" => self.matmul_integer(node),
            "Add" | "Sub" | "Mul" | "Div" => self.binary(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Cast" => self.cast(node),
            "GlobalAveragePool" | "ReduceMean" => self.global_average(node),
            "AveragePool" => self.average_pool(node),
            "MaxPool" | "GlobalMaxPool" => self.max_pool(node),
            "Pad" => self.pad(node),
            "Relu" => self.clip(node, 0.0, f32::INFINITY),
            "Clip" => {
                let lo = self.bound(node, 1, "min", f32::NEG_INFINITY)?;
                let hi = self.bound(node, 2, "max", f32::INFINITY)?;
                self.clip(node, lo, hi)
            }
            "Softmax" => self.absorb(node, Absorbed::Softmax),
            "Sigmoid" if self.ends_the_graph(&node.outputs) => self.absorb(node, Absorbed::Sigmoid),
            "Sigmoid" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Elu" | "Tanh" => self.function(node),
            "Concat" => self.concat(node),
            "Split" => return self.split(node),
            "Slice" => self.slice(node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Identity" | "Dropout" => self.take(node, 0),
            op if op.starts_with("QLinear") || op == "QGemm" => self.qlinear(node),
            _ => Err("no int8 kernel for this operator in this build".into()),
        };
        value.map(|value| vec![value])
    }

    /// Whether nothing but a change of number format or shape lies between these outputs and the graph's.
    fn ends_the_graph(&self, outputs: &[String]) -> bool {
        let [name] = outputs else { return false };
        let mut name = name.as_str();
        while name != self.graph.output {
            let mut readers = self.graph.nodes.iter().filter(|n| n.inputs.iter().any(|i| i == name));
            match (readers.next(), readers.next()) {
                (Some(n), None) if NO_ARITHMETIC.contains(&n.op.as_str()) => {
                    let [next] = n.outputs.as_slice() else { return false };
                    name = next;
                }
                _ => return false,
            }
        }
        true
    }

    fn name(&self, node: &'g Node, i: usize) -> Result<&'g str, Why> {
        node.inputs.get(i).map(String::as_str).filter(|n| !n.is_empty()).ok_or(format!("input {i} is missing"))
    }

    fn constant(&self, node: &'g Node, i: usize) -> Result<&'g Constant, Why> {
        let name = self.name(node, i)?;
        self.graph.constants.get(name).ok_or(format!("input {i} (\"{name}\") must be a constant"))
    }

    /// The value of input `i`; one that waits for its QuantizeLinear is used up by its first reader.
    fn take(&mut self, node: &'g Node, i: usize) -> Result<Value<'g>, Why> {
        let name = self.name(node, i)?;
        match self.values.get(name) {
            Some(Value::Pending(_)) => Ok(self.values.remove(name).expect("it was just found")),
            Some(value) => Ok(value.clone()),
            None if self.graph.constants.contains_key(name) => Err(format!("input {i} (\"{name}\") is a real constant")),
            None => Err(format!("input {i} (\"{name}\") is a real value with more than one reader")),
        }
    }

    fn real(&mut self, node: &'g Node, i: usize) -> Result<TensorId, Why> {
        match self.take(node, i)? {
            Value::Real(id) => Ok(id),
            other => Err(format!("input {i} is {}, expected a dequantised int8 tensor", other.describe())),
        }
    }

    fn int(&mut self, node: &'g Node, i: usize) -> Result<TensorId, Why> {
        match self.take(node, i)? {
            Value::Int(id) => Ok(id),
            other => Err(format!("input {i} is {}, expected an int8 tensor", other.describe())),
        }
    }

    fn tensor(&mut self, dims: Vec<usize>, quant: Quant) -> Result<TensorId, Why> {
        let mut len = 1usize;
        for &d in &dims {
            len = len
                .checked_mul(d)
                .filter(|&l| l > 0 && l <= MAX_ACTIVATION)
                .ok_or(format!("activation of shape {dims:?}"))?;
        }
        self.tensors.push(Tensor { dims, len, quant });
        Ok(TensorId(self.tensors.len() - 1))
    }

    fn get(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// Constant steps of input `i`: one, or one a slice.
    fn steps(&self, node: &'g Node, i: usize) -> Result<Vec<f32>, Why> {
        match &self.constant(node, i)?.values {
            Values::F32(s) if !s.is_empty() && s.iter().all(|s| s.is_finite() && *s > 0.0) => Ok(s.clone()),
            _ => Err("steps must be finite and positive".into()),
        }
    }

    /// Step and zero point from inputs `i` and `i + 1`; uint8 is re-based.
    fn quant(&self, node: &'g Node, i: usize) -> Result<Quant, Why> {
        let scale = match &self.constant(node, i)?.values {
            Values::F32(v) if v.len() == 1 && v[0].is_finite() && v[0] > 0.0 => v[0],
            _ => return Err(format!("input {i} must be one finite positive step")),
        };
        let zero_point = match node.inputs.get(i + 1).filter(|n| !n.is_empty()) {
            None => -128, // QuantizeLinear without a zero point gives uint8 with zero point 0.
            Some(_) => match &self.constant(node, i + 1)?.values {
                Values::I8(v) if v.len() == 1 => v[0],
                Values::U8(v) if v.len() == 1 => (v[0] as i16 - 128) as i8,
                _ => return Err(format!("input {} must be one int8 or uint8 zero point", i + 1)),
            },
        };
        Ok(Quant { scale, zero_point })
    }

    fn cast(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        match (self.take(node, 0)?, node.attributes.get("to")) {
            (Value::Sums(m), Some(Attribute::Int(1))) => Ok(Value::RealSums(m)),
            (other, to) => Err(format!("{} cast to {to:?}, expected int32 sums to float", other.describe())),
        }
    }

    fn absorb(&mut self, node: &'g Node, what: Absorbed) -> Result<Value<'g>, Why> {
        if !self.ends_the_graph(&node.outputs) {
            return Err("only the last operator may be a softmax".into());
        }
        match self.take(node, 0)? {
            value @ (Value::Real(_) | Value::Pending(_)) => Ok(Value::Scores(Box::new(value), what)),
            other => Err(format!("input is {}, expected logits", other.describe())),
        }
    }

    /// The plan, without steps that nobody reads. `last`: the node that computes the output; `makers`: the one of each step.
    fn finish(mut self, last: Option<usize>, makers: Vec<usize>) -> Result<Lowered, EngineError> {
        let refuse = |why: String| EngineError::Refused { node: self.graph.output.clone(), op: "output".into(), why };
        let (value, absorbed) = match self.values.remove(self.graph.output.as_str()) {
            Some(Value::Scores(inner, what)) => (Some(*inner), Some(what)),
            other => (other, None),
        };
        let unclamped = |p: &Pending| p.lo == f32::NEG_INFINITY && p.hi == f32::INFINITY;
        let output = match value {
            Some(Value::Real(id) | Value::Int(id)) => Output::Quantised(id, self.tensors[id.0].quant),
            Some(Value::Pending(p)) if unclamped(&p) => match p.what {
                Kind::Dense(m, steps) => {
                    let zero_point = self.tensors[m.src.0].quant.zero_point;
                    Output::Dense(m.src, Dense::new(self.kernels, &m.weights, m.bias, zero_point), steps)
                }
                _ => return Err(refuse("expected a Gemm, or a QuantizeLinear before it".into())),
            },
            Some(other) => return Err(refuse(format!("it is {}", other.describe()))),
            None => return Err(refuse("it is a constant or read by other nodes".into())),
        };
        let input = self.input.ok_or_else(|| refuse("the input is never quantised".into()))?;
        let report = |n: &Node| NodeReport { name: n.name.clone(), op: n.op.clone(), place: "folded".into() };
        let mut reports: Vec<NodeReport> = self.graph.nodes.iter().map(report).collect();
        let (Output::Quantised(needed, _) | Output::Dense(needed, ..)) = &output;
        let mut read = vec![false; self.tensors.len()];
        read[needed.0] = true;
        let mut steps = Vec::with_capacity(self.steps.len());
        for (step, maker) in self.steps.into_iter().zip(makers).rev() {
            if read[step.dst.0] {
                step.sources.iter().for_each(|id| read[id.0] = true);
                reports[maker].place = step.operation.describe();
                steps.push(step);
            }
        }
        steps.reverse();
        if let (Some(last), Output::Dense(_, dense, _)) = (last, &output) {
            reports[last].place = format!("{}, unrounded logits", dense.describe());
        }
        Ok(Lowered { tensors: self.tensors, steps, input, output, absorbed, reports })
    }
}

impl Pending {
    fn new(what: Kind, dims: Vec<usize>) -> Self {
        Self { what, dims, lo: f32::NEG_INFINITY, hi: f32::INFINITY }
    }
}

impl Value<'_> {
    fn describe(&self) -> &'static str {
        match self {
            Self::Input => "the graph's real input",
            Self::Int(_) => "an int8 tensor",
            Self::Real(_) => "a dequantised tensor",
            Self::Reshaped { .. } => "a tensor in another shape",
            Self::Weights { .. } => "a dequantised constant",
            Self::Constant { .. } => "a real constant",
            Self::Function { .. } => "a function of a tensor, not yet quantised",
            Self::Pending(_) => "a real value not yet quantised",
            Self::Sums(_) | Self::RealSums(_) => "int32 sums",
            Self::Scores(..) => "scores",
        }
    }
}

fn integers(values: &Values) -> Result<Vec<i32>, Why> {
    Ok(match values {
        Values::I8(v) => v.iter().map(|&v| v as i32).collect(),
        Values::U8(v) => v.iter().map(|&v| v as i32).collect(),
        Values::I32(v) => v.clone(),
        _ => return Err("expected integers of 8 or 32 bits".into()),
    })
}

/// A constant's integers less their zero points, one or one a slice of `axis`.
fn centred(constant: &Constant, zero_points: &[i32], axis: usize) -> Result<Vec<i32>, Why> {
    let mut values = integers(&constant.values)?;
    take_off(&mut values, constant, zero_points, axis, |v, zp| v.wrapping_sub(zp))?;
    Ok(values)
}

/// [`centred`] of weights, which have 8 bits, as have their zero points.
fn centred_weights(constant: &Constant, zero_points: &[i32], axis: usize) -> Result<Vec<i16>, Why> {
    let mut values: Vec<i16> = match &constant.values {
        Values::I8(v) => v.iter().map(|&v| v.into()).collect(),
        Values::U8(v) => v.iter().map(|&v| v.into()).collect(),
        _ => return Err("expected weights of 8 bits".into()),
    };
    if let Some(zp) = zero_points.iter().find(|zp| !(-128..=255).contains(*zp)) {
        return Err(format!("zero point {zp} of weights of 8 bits"));
    }
    take_off(&mut values, constant, zero_points, axis, |v, zp| v - zp as i16)?;
    Ok(values)
}

/// Takes zero points off a constant's values, one or one a slice of `axis`.
fn take_off<T: Copy>(
    values: &mut [T],
    constant: &Constant,
    zero_points: &[i32],
    axis: usize,
    less: impl Fn(T, i32) -> T,
) -> Result<(), Why> {
    let inner = match zero_points.len() {
        1 => values.len(),
        n if constant.dims.get(axis) == Some(&n) => constant.dims[axis + 1..].iter().product(),
        n => return Err(format!("{n} zero points for axis {axis} of {:?}", constant.dims)),
    };
    for (slice, zp) in values.chunks_mut(inner.max(1)).zip(zero_points.iter().cycle()).filter(|(_, zp)| **zp != 0) {
        slice.iter_mut().for_each(|v| *v = less(*v, *zp));
    }
    Ok(())
}
