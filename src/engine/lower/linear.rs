//! Convolutions and matrix products of either form: their weights, biases and shapes.
//!
//! Does not decide when a result is quantised: it returns what waits for that.

use super::window::{Window, int};
use super::{
    ConstantWeights, Kind, Lowering, MAX_MACS, Matrix, Pending, Shape, Value, Why, centred, centred_weights, integers,
};
use crate::engine::plan::TensorId;
use crate::engine::proto::{Attribute, Node, Values};
use crate::kernels::ConvShape;
use crate::kernels::generic::MAX_TAPS;

impl<'g> Lowering<'g> {
    /// Weights of a convolution or product: values `[outputs][..]`, one step an output.
    fn weights(&mut self, node: &'g Node, i: usize, outputs_axis: usize) -> Result<ConstantWeights, Why> {
        match self.take(node, i)? {
            Value::Weights { constant, zero_points, scales, axis } => {
                if scales.len() > 1 && axis != outputs_axis {
                    return Err(format!("weights have steps along axis {axis}, expected one an output"));
                }
                Ok((constant.dims.clone(), centred_weights(constant, &zero_points, axis)?, scales))
            }
            other => Err(format!("input {i} is {}, expected dequantised constant weights", other.describe())),
        }
    }

    /// A bias in accumulator steps; an int32 bias must have exactly the accumulator's step.
    fn bias(&mut self, node: &'g Node, i: usize, n: usize, steps: &[f32]) -> Result<Vec<i32>, Why> {
        let Ok(name) = self.name(node, i) else { return Ok(vec![0; n]) };
        let step = |c: usize| steps[c % steps.len()];
        if self.graph.constants.contains_key(name) {
            return Err(format!("bias \"{name}\" is real, and would be rounded; quantise biases to int32"));
        }
        match self.take(node, i)? {
            Value::Weights { constant, zero_points, scales, axis } => {
                let values = centred(constant, &zero_points, axis)?;
                if values.len() != n {
                    return Err(format!("{} biases for {n} outputs", values.len()));
                }
                let off = (0..n).find(|&c| (scales[c % scales.len()] / step(c) - 1.0).abs() > 1e-5);
                match off {
                    Some(c) => Err(format!("bias {c} has step {}, the accumulator {}", scales[c % scales.len()], step(c))),
                    None => Ok(values),
                }
            }
            _ => Err(format!("input {i} must be a constant bias of {n} values")),
        }
    }

    pub(super) fn conv(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.real(node, 0)?;
        let (dims, values, scales) = self.weights(node, 1, 0)?;
        let s_in = self.get(src).quant.scale;
        let steps: Vec<f32> = scales.iter().map(|s| s_in * s).collect();
        let bias = self.bias(node, 2, dims.first().copied().unwrap_or(0), &steps)?;
        self.conv_of(node, src, &dims, values, bias, &steps).map(Value::Pending)
    }

    pub(super) fn conv_of(
        &mut self,
        node: &Node,
        src: TensorId,
        dims: &[usize],
        values: Vec<i16>,
        bias: Vec<i32>,
        steps: &[f32],
    ) -> Result<Pending, Why> {
        let &[out, cg, kh, kw] = dims else { return Err(format!("weights of shape {dims:?}, expected 4 dimensions")) };
        let &[h, w, c] = self.get(src).dims.as_slice() else { return Err("its input is no picture".into()) };
        let groups = int(node, "group", 1)?;
        if groups == 0 || cg.checked_mul(groups) != Some(c) || out == 0 || out % groups != 0 || kh * kw == 0 {
            return Err(format!("weights {dims:?} in {groups} groups do not fit {c} input channels"));
        }
        if bias.len() != out || (steps.len() != 1 && steps.len() != out) {
            return Err(format!("{} biases and {} steps for {out} outputs", bias.len(), steps.len()));
        }
        let window = Window::read(node, [h, w], [kh, kw], false)?;
        let shape = ConvShape {
            input: [h, w, c],
            output: [window.output[0], window.output[1], out],
            kernel: [kh, kw],
            stride: window.stride,
            dilation: window.dilation,
            pad: window.pad,
            groups,
        };
        if shape.patch_len() > MAX_TAPS || shape.macs() > MAX_MACS {
            return Err(format!("{} taps and {} multiply-adds are too many", shape.patch_len(), shape.macs()));
        }
        // ONNX has [out][in][row][column]; patches are gathered as [row][column][in].
        let taps = kh * kw;
        let mut weights = values;
        if taps > 1 && cg > 1 {
            let mut row = vec![0; cg * taps];
            for weights in weights.chunks_exact_mut(cg * taps) {
                for (ci, from) in weights.chunks_exact(taps).enumerate() {
                    row[ci..].iter_mut().step_by(cg).zip(from).for_each(|(to, &v)| *to = v);
                }
                weights.copy_from_slice(&row);
            }
        }
        let scales = (0..out).map(|o| steps[o % steps.len()]).collect();
        let dims = shape.output.to_vec();
        let what = Kind::Conv { src, shape, weights, bias, scales };
        Ok(Pending { what, dims, lo: f32::NEG_INFINITY, hi: f32::INFINITY })
    }

    /// Brings a product's weights, `[outputs][inputs]` if `transposed`, else `[inputs][outputs]`, from ONNX's channel-major inputs to
    /// `[outputs][inputs]` in NHWC.
    fn matrix(&self, src: TensorId, outputs: usize, weights: Vec<i16>, transposed: bool) -> Result<Vec<i16>, Why> {
        let t = self.get(src);
        let (channels, pixels) = match t.dims.as_slice() {
            &[h, w, c] => (c, h * w),
            _ => (t.len, 1),
        };
        if t.len > MAX_TAPS || (t.len * outputs) as u64 > MAX_MACS {
            return Err(format!("{} inputs by {outputs} outputs are too many", t.len));
        }
        if transposed && (pixels == 1 || channels == 1) {
            return Ok(weights);
        }
        let [row, column] = if transposed { [t.len, 1] } else { [1, outputs] };
        let inputs = || (0..pixels).flat_map(|p| (0..channels).map(move |c| c * pixels + p));
        Ok((0..outputs).flat_map(|o| inputs().map(move |i| o * row + i * column)).map(|at| weights[at]).collect())
    }

    /// A vector that a product reads, or a picture whose values it reads as one.
    fn vector(&mut self, node: &'g Node) -> Result<TensorId, Why> {
        match self.take(node, 0)? {
            Value::Real(id) | Value::Reshaped { id, shape: Shape::Flat, real: true } => Ok(id),
            other => Err(format!("input 0 is {}, expected a dequantised int8 tensor", other.describe())),
        }
    }

    /// A product's weights in the order of the plan, and the step of each output's sum.
    pub(super) fn product_of(
        &self,
        src: TensorId,
        (dims, values, scales): ConstantWeights,
        transposed: bool,
        bias: Vec<i32>,
    ) -> Result<(Matrix, Vec<f32>), Why> {
        let len = self.get(src).len;
        let (outputs, inputs) = match (dims.as_slice(), transposed) {
            (&[o, i], true) | (&[i, o], false) => (o, i),
            _ => return Err(format!("weights of shape {dims:?}, expected 2 dimensions")),
        };
        if inputs != len || outputs == 0 || bias.len() != outputs || (scales.len() != 1 && scales.len() != outputs) {
            return Err(format!("weights {dims:?} with {} steps do not fit {len} inputs", scales.len()));
        }
        let s_in = self.get(src).quant.scale;
        let steps = (0..outputs).map(|o| s_in * scales[o % scales.len()]).collect();
        let weights = self.matrix(src, outputs, values, transposed)?;
        Ok((Matrix { src, weights, bias }, steps))
    }

    pub(super) fn gemm(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.vector(node)?;
        let one = |name| matches!(node.attributes.get(name), None | Some(Attribute::Float(1.0)));
        if int(node, "transA", 0)? != 0 || !one("alpha") || !one("beta") {
            return Err("expected transA 0, alpha 1, beta 1".into());
        }
        let transposed = int(node, "transB", 0)? != 0;
        let axis = if transposed { 0 } else { 1 };
        let weights = self.weights(node, 1, axis)?;
        let outputs = weights.0.get(axis).copied().unwrap_or(0);
        let s_in = self.get(src).quant.scale;
        let steps: Vec<f32> = weights.2.iter().map(|s| s_in * s).collect();
        let bias = self.bias(node, 2, outputs, &steps)?;
        self.dense(src, weights, transposed, bias)
    }

    pub(super) fn matmul(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.vector(node)?;
        let weights = self.weights(node, 1, 1)?;
        let outputs = weights.0.get(1).copied().unwrap_or(0);
        self.dense(src, weights, false, vec![0; outputs])
    }

    fn dense(
        &mut self,
        src: TensorId,
        weights: ConstantWeights,
        transposed: bool,
        bias: Vec<i32>,
    ) -> Result<Value<'g>, Why> {
        let outputs = bias.len();
        let (matrix, steps) = self.product_of(src, weights, transposed, bias)?;
        Ok(Value::Pending(Pending::new(Kind::Dense(matrix, steps), vec![1, 1, outputs])))
    }

    /// An int32 bias of the sums of a MatMulInteger.
    pub(super) fn add_to_sums(&mut self, node: &'g Node, constant: usize, sums: Value<'g>) -> Result<Value<'g>, Why> {
        let Value::Sums(mut m) = sums else { return Err("a constant is added to a real value".into()) };
        let Values::I32(bias) = &self.constant(node, constant)?.values else { return Err("expected an int32 bias".into()) };
        if node.op != "Add" || bias.len() != m.bias.len() {
            return Err(format!("{} biases for {} outputs", bias.len(), m.bias.len()));
        }
        m.bias.iter_mut().zip(bias).for_each(|(m, b)| *m = m.wrapping_add(*b));
        Ok(Value::Sums(m))
    }

    /// The step of the sums of a MatMulInteger.
    pub(super) fn scale_sums(&mut self, node: &'g Node, constant: usize, sums: Value<'g>) -> Result<Value<'g>, Why> {
        let Value::RealSums(m) = sums else { return Err("a constant multiplies int32 sums".into()) };
        let n = m.bias.len();
        match &self.constant(node, constant)?.values {
            Values::F32(s)
                if node.op == "Mul" && (s.len() == 1 || s.len() == n) && s.iter().all(|s| s.is_finite() && *s > 0.0) =>
            {
                let steps = (0..n).map(|o| s[o % s.len()]).collect();
                Ok(Value::Pending(Pending::new(Kind::Dense(m, steps), vec![1, 1, n])))
            }
            _ => Err("expected one finite positive step an output".into()),
        }
    }

    pub(super) fn matmul_integer(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.int(node, 0)?;
        let len = self.get(src).len;
        let own = self.get(src).quant.zero_point;
        let stated = match node.inputs.get(2).filter(|n| !n.is_empty()) {
            None => vec![0],
            Some(_) => match &self.constant(node, 2)?.values {
                Values::U8(v) => v.iter().map(|&v| v as i32 - 128).collect(),
                other => integers(other)?,
            },
        };
        if stated != [own as i32] {
            return Err(format!("zero point {stated:?}, its input has {own}"));
        }
        let constant = self.constant(node, 1)?;
        let zero_points = match node.inputs.get(3).filter(|n| !n.is_empty()) {
            None => vec![0],
            Some(_) => integers(&self.constant(node, 3)?.values)?,
        };
        let &[inputs, outputs] = constant.dims.as_slice() else { return Err("weights must have 2 dimensions".into()) };
        if inputs != len || outputs == 0 {
            return Err(format!("weights {:?} do not fit {len} inputs", constant.dims));
        }
        let weights = self.matrix(src, outputs, centred_weights(constant, &zero_points, 1)?, false)?;
        Ok(Value::Sums(Matrix { src, weights, bias: vec![0; outputs] }))
    }
}
