//! Recognises a quantised graph on the ONNX proto and turns it into steps of integer kernels.
//!
//! Does not run anything and does not choose kernels. A node whose result cannot be computed exactly is refused by name.
//!
//! Each value of the graph is followed as what it *means*: a quantised tensor, a real view of one, or a real result that
//! waits for the QuantizeLinear which says to what step it must be brought. Both forms of ONNX Runtime's quantiser are read:
//! QDQ, and QLinearConv with its kin. uint8 activations are re-based by 128, which changes no bit of the result.

mod linear;
mod window;

use super::plan::{Conv, Dense, Lowered, NodeReport, Operation, Output, Quant, Step, Tensor, TensorId};
use super::proto::{Attribute, Constant, Graph, Node, Values};
use super::{Absorbed, EngineError};
use crate::kernels::generic::Addend;
use crate::kernels::{ConvShape, Kernels};
use crate::quant::{Clamp, quantise};
use std::collections::HashMap;
use window::{Window, int};

/// Most bytes of one activation.
const MAX_ACTIVATION: usize = 1 << 26;
/// Most multiply-adds of one convolution or matrix product.
const MAX_MACS: u64 = 1 << 34;

/// What a name of the graph stands for.
#[derive(Clone, Debug)]
enum Value {
    /// The graph's real input, before its QuantizeLinear.
    Input,
    /// An int8 tensor.
    Int(TensorId),
    /// DequantizeLinear of an int8 tensor.
    Real(TensorId),
    /// DequantizeLinear of a constant: integers less their zero point, and one step or one a slice of `axis`.
    Weights { dims: Vec<usize>, values: Vec<i32>, scales: Vec<f32>, axis: usize },
    /// A real result that waits for its QuantizeLinear.
    Pending(Pending),
    /// int32 sums of a MatMulInteger.
    Sums(Matrix),
    /// The same as real numbers not yet multiplied by their step.
    RealSums(Matrix),
    /// A softmax or sigmoid over logits.
    Scores(Box<Value>, Absorbed),
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
    Conv { src: TensorId, shape: ConvShape, weights: Vec<i16>, bias: Vec<i32>, scales: Vec<f32> },
    Dense(Matrix, Vec<f32>),
    Add(TensorId, TensorId),
    Average(TensorId),
    Same(TensorId),
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
type ConstantWeights = (Vec<usize>, Vec<i32>, Vec<f32>);

struct Lowering<'g> {
    graph: &'g Graph,
    kernels: Kernels,
    values: HashMap<&'g str, Value>,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    input: Option<TensorId>,
}

/// Lowers a whole graph, or names the first node that cannot be.
pub(super) fn lower(graph: &Graph, kernels: Kernels) -> Result<Lowered, EngineError> {
    let mut l = Lowering { graph, kernels, values: HashMap::new(), tensors: Vec::new(), steps: Vec::new(), input: None };
    l.values.insert(&graph.input, Value::Input);
    let mut reports: Vec<NodeReport> = Vec::with_capacity(graph.nodes.len());
    // Which node computes a value: the convolution, not the QuantizeLinear that ends it.
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let before = l.steps.len();
        let refuse = |why| EngineError::Refused { node: node.name.clone(), op: node.op.clone(), why };
        let value = l.node(node).map_err(refuse)?;
        let [out] = node.outputs.as_slice() else {
            return Err(refuse(format!("{} outputs, expected one", node.outputs.len())));
        };
        let maker = node.inputs.first().and_then(|name| makers.get(name.as_str())).copied().unwrap_or(i);
        if !matches!(value, Value::Int(_) | Value::Real(_) | Value::Weights { .. }) {
            makers.insert(out, maker);
        }
        l.values.insert(out, value);
        reports.push(NodeReport { name: node.name.clone(), op: node.op.clone(), place: "folded".into() });
        if let Some(step) = l.steps.get(before) {
            reports[maker].place = step.operation.describe();
        }
    }
    let last = makers.get(graph.output.as_str()).copied();
    let mut lowered = l.finish(reports)?;
    if let (Some(last), Output::Dense(_, dense, _)) = (last, &lowered.output) {
        lowered.reports[last].place = format!("{}, unrounded logits", dense.describe());
    }
    Ok(lowered)
}

impl<'g> Lowering<'g> {
    fn node(&mut self, node: &'g Node) -> Result<Value, Why> {
        match node.op.as_str() {
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "Conv" => self.conv(node),
            "QLinearConv" => self.qlinear_conv(node),
            "Gemm" => self.gemm(node),
            "MatMulInteger" => self.matmul_integer(node),
            "Add" => self.add(node),
            "Mul" => self.mul(node),
            "Cast" => self.cast(node),
            "GlobalAveragePool" => self.global_average(node),
            "MaxPool" => self.max_pool(node),
            "Relu" => self.clip(node, 0.0, f32::INFINITY),
            "Clip" => {
                let lo = self.bound(node, 1, "min", f32::NEG_INFINITY)?;
                let hi = self.bound(node, 2, "max", f32::INFINITY)?;
                self.clip(node, lo, hi)
            }
            "Flatten" | "Reshape" | "Squeeze" => self.flatten(node),
            "Identity" | "Dropout" => self.take(node, 0),
            "Softmax" => self.absorb(node, Absorbed::Softmax),
            "Sigmoid" => self.absorb(node, Absorbed::Sigmoid),
            _ => Err("no int8 kernel for this operator in this build".into()),
        }
    }

    fn name(&self, node: &'g Node, i: usize) -> Result<&'g str, Why> {
        node.inputs.get(i).map(String::as_str).filter(|n| !n.is_empty()).ok_or(format!("input {i} is missing"))
    }

    fn constant(&self, node: &'g Node, i: usize) -> Result<&'g Constant, Why> {
        let name = self.name(node, i)?;
        self.graph.constants.get(name).ok_or(format!("input {i} (\"{name}\") must be a constant"))
    }

    /// The value of input `i`; one that waits for its QuantizeLinear is used up by its first reader.
    fn take(&mut self, node: &'g Node, i: usize) -> Result<Value, Why> {
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

    fn quantize(&mut self, node: &'g Node) -> Result<Value, Why> {
        let quant = self.quant(node, 1)?;
        match self.take(node, 0)? {
            Value::Input if self.input.is_some() => Err("the graph's input is quantised twice".into()),
            Value::Input => {
                let dims = match self.graph.input_dims.as_slice() {
                    &[1, c, h, w] => vec![h, w, c],
                    other => return Err(format!("input of shape {other:?}, expected [1, channels, height, width]")),
                };
                let id = self.tensor(dims, quant)?;
                self.input = Some(id);
                Ok(Value::Int(id))
            }
            Value::Real(id) if self.get(id).quant == quant => Ok(Value::Int(id)),
            Value::Real(src) => {
                let dims = self.get(src).dims.clone();
                let pending = Pending { what: Kind::Same(src), dims, lo: f32::NEG_INFINITY, hi: f32::INFINITY };
                self.emit(pending, quant).map(Value::Int)
            }
            Value::Pending(pending) => self.emit(pending, quant).map(Value::Int),
            other => Err(format!("input is {}, expected a real value", other.describe())),
        }
    }

    /// Adds the step that computes `pending` and brings it to `quant`.
    fn emit(&mut self, pending: Pending, quant: Quant) -> Result<TensorId, Why> {
        let Pending { what, dims, lo, hi } = pending;
        let bound = |x: f32| quantise(x, quant.scale, quant.zero_point);
        let clamp = Clamp { lo: bound(lo), hi: bound(hi), zero_point: quant.zero_point };
        let ratio = |l: &Self, id: TensorId| l.get(id).quant.scale / quant.scale;
        let scales = |s: Vec<f32>| -> Result<Vec<f32>, Why> {
            let s: Vec<f32> = s.into_iter().map(|s| s / quant.scale).collect();
            if s.iter().all(|s| s.is_finite()) { Ok(s) } else { Err("a step is out of range".into()) }
        };
        let dst = self.tensor(dims, quant)?;
        let operation = match what {
            Kind::Conv { src, shape, weights, bias, scales: s } => {
                let zero_point = self.get(src).quant.zero_point;
                Operation::Conv(src, Conv::new(self.kernels, shape, &weights, bias, scales(s)?, zero_point, clamp))
            }
            Kind::Dense(m, s) => {
                let dense = Dense::new(self.kernels, &m.weights, m.bias, self.get(m.src).quant.zero_point);
                Operation::Dense(m.src, dense, scales(s)?, clamp)
            }
            Kind::Add(a, b) => {
                let addend = |l: &Self, id| Addend { zero_point: l.get(id).quant.zero_point, ratio: ratio(l, id) };
                Operation::Add([a, b], [addend(self, a), addend(self, b)], clamp)
            }
            Kind::Average(src) => {
                let t = self.get(src);
                let pixels = (t.len / t.dims[2]) as f32;
                Operation::GlobalAverage(src, t.quant.zero_point, t.quant.scale / (quant.scale * pixels), clamp)
            }
            Kind::Same(src) => Operation::Rescale(src, self.get(src).quant.zero_point, ratio(self, src), clamp),
        };
        self.steps.push(Step { operation, dst });
        Ok(dst)
    }

    fn dequantize(&mut self, node: &'g Node) -> Result<Value, Why> {
        let name = self.name(node, 0)?;
        let Some(constant) = self.graph.constants.get(name) else {
            let id = self.int(node, 0)?;
            if self.quant_of_dequantize(node)? != self.get(id).quant {
                return Err("it reads with another step or zero point than the tensor was made with".into());
            }
            return Ok(Value::Real(id));
        };
        let scales = match &self.constant(node, 1)?.values {
            Values::F32(s) if s.iter().all(|s| s.is_finite() && *s > 0.0) => s.clone(),
            _ => return Err("steps must be finite and positive".into()),
        };
        let axis = match node.attributes.get("axis") {
            Some(Attribute::Int(a)) => {
                usize::try_from(if *a < 0 { a + constant.dims.len() as i64 } else { *a }).unwrap_or(usize::MAX)
            }
            _ => 1,
        };
        let axis = if scales.len() == 1 { 0 } else { axis };
        if scales.len() != 1 && constant.dims.get(axis) != Some(&scales.len()) {
            return Err(format!("{} steps for axis {axis} of {:?}", scales.len(), constant.dims));
        }
        let zero_points = match node.inputs.get(2).filter(|n| !n.is_empty()) {
            None => vec![0],
            Some(_) => integers(&self.constant(node, 2)?.values)?,
        };
        let values = centred(constant, &zero_points, axis)?;
        Ok(Value::Weights { dims: constant.dims.clone(), values, scales, axis })
    }

    /// As [`Self::quant`], but without a zero point the tensor's own type decides.
    fn quant_of_dequantize(&mut self, node: &'g Node) -> Result<Quant, Why> {
        if node.inputs.len() < 3 {
            let scale = self.quant(node, 1)?.scale;
            let id = self.int(node, 0)?;
            let own = self.get(id).quant;
            return Ok(Quant { scale, zero_point: if own.zero_point == 0 { 0 } else { -128 } });
        }
        self.quant(node, 1)
    }

    fn add(&mut self, node: &'g Node) -> Result<Value, Why> {
        // A constant may stand on either side of the sums of a MatMulInteger.
        let constant = (0..2).find(|&i| self.constant(node, i).is_ok());
        if let Some(i) = constant {
            let Value::Sums(mut m) = self.take(node, 1 - i)? else {
                return Err("a constant is added to a real value".into());
            };
            let Values::I32(bias) = &self.constant(node, i)?.values else { return Err("expected an int32 bias".into()) };
            if bias.len() != m.bias.len() {
                return Err(format!("{} biases for {} outputs", bias.len(), m.bias.len()));
            }
            m.bias.iter_mut().zip(bias).for_each(|(m, b)| *m = m.wrapping_add(*b));
            return Ok(Value::Sums(m));
        }
        let (a, b) = (self.real(node, 0)?, self.real(node, 1)?);
        if self.get(a).dims != self.get(b).dims {
            return Err(format!("shapes {:?} and {:?} differ", self.get(a).dims, self.get(b).dims));
        }
        Ok(Value::Pending(Pending::new(Kind::Add(a, b), self.get(a).dims.clone())))
    }

    fn mul(&mut self, node: &'g Node) -> Result<Value, Why> {
        let Some(i) = (0..2).find(|&i| self.constant(node, i).is_ok()) else {
            return Err("no int8 kernel for a product of two tensors in this build".into());
        };
        let Value::RealSums(m) = self.take(node, 1 - i)? else { return Err("a constant multiplies a real value".into()) };
        let n = m.bias.len();
        match &self.constant(node, i)?.values {
            Values::F32(s) if (s.len() == 1 || s.len() == n) && s.iter().all(|s| s.is_finite() && *s > 0.0) => {
                let steps = (0..n).map(|o| s[o % s.len()]).collect();
                Ok(Value::Pending(Pending::new(Kind::Dense(m, steps), vec![1, 1, n])))
            }
            _ => Err("expected one finite positive step an output".into()),
        }
    }

    fn cast(&mut self, node: &'g Node) -> Result<Value, Why> {
        match (self.take(node, 0)?, node.attributes.get("to")) {
            (Value::Sums(m), Some(Attribute::Int(1))) => Ok(Value::RealSums(m)),
            (other, to) => Err(format!("{} cast to {to:?}, expected int32 sums to float", other.describe())),
        }
    }

    fn global_average(&mut self, node: &'g Node) -> Result<Value, Why> {
        let src = self.real(node, 0)?;
        let &[h, w, c] = self.get(src).dims.as_slice() else { return Err("its input is no picture".into()) };
        if h * w > 1 << 22 {
            return Err(format!("{h}x{w} pixels are too many"));
        }
        Ok(Value::Pending(Pending::new(Kind::Average(src), vec![1, 1, c])))
    }

    fn max_pool(&mut self, node: &'g Node) -> Result<Value, Why> {
        let value = self.take(node, 0)?;
        let (Value::Real(src) | Value::Int(src)) = value else {
            return Err(format!("input is {}, expected an int8 tensor", value.describe()));
        };
        let &[h, w, c] = self.get(src).dims.as_slice() else { return Err("its input is no picture".into()) };
        let Some(Attribute::Ints(kernel)) = node.attributes.get("kernel_shape") else {
            return Err("no kernel_shape".into());
        };
        let &[kh, kw] = kernel.as_slice() else { return Err("expected a kernel of 2 dimensions".into()) };
        let kernel = [kh, kw].map(|k| usize::try_from(k).unwrap_or(0));
        let window = Window::read(node, [h, w], kernel, true)?;
        let shape = ConvShape {
            input: [h, w, c],
            output: [window.output[0], window.output[1], c],
            kernel,
            stride: window.stride,
            dilation: window.dilation,
            pad: window.pad,
            groups: c,
        };
        if shape.macs() > MAX_MACS {
            return Err("too many comparisons".into());
        }
        let dst = self.tensor(shape.output.to_vec(), self.get(src).quant)?;
        self.steps.push(Step { operation: Operation::MaxPool(src, shape), dst });
        Ok(if matches!(value, Value::Real(_)) { Value::Real(dst) } else { Value::Int(dst) })
    }

    fn bound(&self, node: &'g Node, i: usize, attribute: &str, default: f32) -> Result<f32, Why> {
        if self.name(node, i).is_ok() {
            return match &self.constant(node, i)?.values {
                Values::F32(v) if v.len() == 1 => Ok(v[0]),
                _ => Err(format!("{attribute} must be one real constant")),
            };
        }
        match node.attributes.get(attribute) {
            Some(Attribute::Float(x)) => Ok(*x),
            None => Ok(default),
            _ => Err(format!("{attribute} must be a real number")),
        }
    }

    fn clip(&mut self, node: &'g Node, lo: f32, hi: f32) -> Result<Value, Why> {
        if lo.is_nan() || hi.is_nan() || lo > hi {
            return Err(format!("bounds {lo} and {hi}"));
        }
        let pending = match self.take(node, 0)? {
            Value::Pending(p) => p,
            Value::Real(id) => Pending::new(Kind::Same(id), self.get(id).dims.clone()),
            other => return Err(format!("input is {}, expected a real value", other.describe())),
        };
        Ok(Value::Pending(Pending { lo: pending.lo.max(lo), hi: pending.hi.min(hi), ..pending }))
    }

    /// Flatten, Reshape and Squeeze are nothing to a vector; a picture stays NHWC and the product after it is reordered.
    fn flatten(&mut self, node: &'g Node) -> Result<Value, Why> {
        let value = self.take(node, 0)?;
        let id = match &value {
            Value::Int(id) | Value::Real(id) => Some(*id),
            _ => None,
        };
        let dims = match (&value, id) {
            (_, Some(id)) => &self.get(id).dims,
            (Value::Pending(p), None) => &p.dims,
            _ => return Err(format!("input is {}", value.describe())),
        };
        let len: usize = dims.iter().product();
        let wanted = match node.op.as_str() {
            "Reshape" => match &self.constant(node, 1)?.values {
                Values::I64(shape) => shape.clone(),
                _ => return Err("expected a shape of int64".into()),
            },
            _ => vec![1, -1],
        };
        let vector = matches!(wanted.as_slice(), [-1..=1, n] if *n == -1 || *n == len as i64);
        if !vector || int(node, "axis", 1)? != 1 {
            return Err(format!("to shape {wanted:?}, expected [1, {len}]"));
        }
        Ok(value)
    }

    fn absorb(&mut self, node: &'g Node, what: Absorbed) -> Result<Value, Why> {
        if self.graph.output != node.outputs[0] {
            return Err("only the last operator may be a softmax or sigmoid in this build".into());
        }
        match self.take(node, 0)? {
            value @ (Value::Real(_) | Value::Pending(_)) => Ok(Value::Scores(Box::new(value), what)),
            other => Err(format!("input is {}, expected logits", other.describe())),
        }
    }

    fn finish(mut self, reports: Vec<NodeReport>) -> Result<Lowered, EngineError> {
        let refuse = |why: String| EngineError::Refused { node: self.graph.output.clone(), op: "output".into(), why };
        let value = self.values.remove(self.graph.output.as_str());
        let (value, absorbed) = match value {
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
        Ok(Lowered { tensors: self.tensors, steps: self.steps, input, output, absorbed, reports })
    }
}

impl Pending {
    fn new(what: Kind, dims: Vec<usize>) -> Self {
        Self { what, dims, lo: f32::NEG_INFINITY, hi: f32::INFINITY }
    }
}

impl Value {
    fn describe(&self) -> &'static str {
        match self {
            Self::Input => "the graph's real input",
            Self::Int(_) => "an int8 tensor",
            Self::Real(_) => "a dequantised tensor",
            Self::Weights { .. } => "a dequantised constant",
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
    let values = integers(&constant.values)?;
    if zero_points.len() == 1 {
        return Ok(values.into_iter().map(|v| v.wrapping_sub(zero_points[0])).collect());
    }
    if constant.dims.get(axis) != Some(&zero_points.len()) {
        return Err(format!("{} zero points for axis {axis} of {:?}", zero_points.len(), constant.dims));
    }
    let inner: usize = constant.dims[axis + 1..].iter().product::<usize>().max(1);
    let zp = |i: usize| zero_points[i / inner % zero_points.len()];
    Ok(values.into_iter().enumerate().map(|(i, v)| v.wrapping_sub(zp(i))).collect())
}
