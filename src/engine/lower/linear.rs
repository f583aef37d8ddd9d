//! Lowers convolutions and GEMMs, in QDQ and in operator form: their weights, biases and shapes.
//!
//! The result is [`Pending`]: it waits for the QuantizeLinear that says how to round it.

use super::constants::{Weights, centred_weights, integers, reals};
use super::{Axes, Bias, Kind, Lowering, MAX_MACS, Matrix, Pending, Value, View, Why};
use crate::engine::operators::{Window, axis_of};
use crate::engine::proto::{Attribute, Node, Values};
use crate::kernels::ConvShape;
use crate::kernels::generic::MAX_TAPS;

/// A GEMM's weights, in the memory order of its input, and the accumulator scale of each output.
pub(super) struct ProductWeights {
    /// `[outputs][inputs]`.
    values: Vec<i16>,
    steps: Vec<f32>,
}

impl ProductWeights {
    pub(super) fn outputs(&self) -> usize {
        self.steps.len()
    }
}

impl View {
    /// Transposed.
    pub(super) fn turned(&self) -> Self {
        Self { id: self.id, axes: self.axes.transposed(&[1, 0]) }
    }
}

impl<'g> Lowering<'g> {
    fn weights(&self, node: &'g Node, i: usize, outputs_axis: usize) -> Result<std::rc::Rc<Weights<'g>>, Why> {
        match self.operand(node, i)? {
            Value::Weights(w) if w.scales.len() > 1 && w.axis != outputs_axis => {
                Err(format!("weights have scales along axis {}, expected one an output", w.axis))
            }
            Value::Weights(w) => Ok(w),
            Value::Constant { .. } => Err(format!("input {i} is a real constant; quantise weights to int8")),
            other => Err(format!("input {i} is {}, expected dequantised constant weights", other.describe())),
        }
    }

    /// A bias in units of the accumulator: an int32 bias of that scale as it is, any other rounded
    /// to it.
    fn bias(&self, node: &'g Node, i: usize, steps: &[f32], factor: f32) -> Result<Bias, Why> {
        let n = steps.len();
        if self.name(node, i).is_err() {
            return Ok(Bias { values: vec![0; n], rounded: false });
        }
        let value = self.operand(node, i)?;
        if let Value::Weights(w) = &value
            && let Values::I32(_) = w.constant.values
            && w.constant.dims.iter().product::<usize>() == n
            && factor == 1.0
        {
            let scale = |c: usize| w.scales[c % w.scales.len()];
            // Quantisers multiply the scales in f32 or f64.
            if (0..n).all(|c| (scale(c) / steps[c] - 1.0).abs() <= 1e-5) {
                return Ok(Bias { values: w.centred()?, rounded: false });
            }
        }
        let Some((_, real)) = reals(&value)? else {
            return Err(format!("input {i} is {}, expected a constant bias", value.describe()));
        };
        if real.len() != 1 && real.len() != n {
            return Err(format!("{} biases for {n} outputs", real.len()));
        }
        let real: Vec<f32> = (0..n).map(|c| real[c % real.len()] * factor).collect();
        rounded(&real, steps)
    }

    pub(super) fn conv(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.real(node, 0)?;
        let w = self.weights(node, 1, 0)?;
        let values = centred_weights(&w.constant, &w.zero_points, w.axis)?;
        let s_in = self.get(src.id).quant.scale;
        let outputs = w.constant.dims.first().copied().unwrap_or(0);
        let steps: Vec<f32> = (0..outputs).map(|o| s_in * w.scales[o % w.scales.len()]).collect();
        let bias = self.bias(node, 2, &steps, 1.0)?;
        self.conv_of(node, &src, &w.constant.dims, values, bias, &steps).map(Value::Pending)
    }

    pub(super) fn conv_of(
        &mut self,
        node: &'g Node,
        src: &View,
        dims: &[usize],
        values: Vec<i16>,
        bias: Bias,
        steps: &[f32],
    ) -> Result<Pending, Why> {
        let (axes, [out, cg, kh, kw]) = match *dims {
            [out, cg, k] => (1, [out, cg, 1, k]),
            [out, cg, kh, kw] => (2, [out, cg, kh, kw]),
            _ => return Err(format!("weights of shape {dims:?}, expected 3 or 4 axes")),
        };
        let (src, [h, w, c]) = match (axes, src.axes.dims().as_slice()) {
            // A 1-D convolution: an image of one row.
            (1, &[n, c, columns]) => {
                let axes = src.axes.reshaped(&[n, c, 1, columns]).ok_or("its input has no row of its own")?;
                self.image(&View { id: src.id, axes })?
            }
            _ => self.image(src)?,
        };
        let groups = match node.attributes.get("group") {
            Some(Attribute::Int(groups)) => *groups as usize,
            _ => 1,
        };
        if groups == 0 || cg.checked_mul(groups) != Some(c) || out == 0 || out % groups != 0 || kh * kw == 0 {
            return Err(format!("weights {dims:?} in {groups} groups do not fit {c} input channels"));
        }
        if bias.values.len() != out || (steps.len() != 1 && steps.len() != out) {
            return Err(format!("{} biases and {} scales for {out} outputs", bias.values.len(), steps.len()));
        }
        let window = Window::read(node, axes, [h, w], [kh, kw])?;
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
        let (mut bias, mut scales) = (bias, (0..out).map(|o| steps[o % steps.len()]).collect::<Vec<_>>());
        make_room(&mut weights, &mut bias.values, &mut scales);
        let image = Axes::image(shape.output);
        let made = match axes {
            1 => image.reshaped(&[1, out, shape.output[1]]).ok_or("its output has no row of its own")?,
            _ => image,
        };
        Ok(Pending::new(Kind::Conv { src, shape, weights, bias, scales }, made, self.at))
    }

    /// A GEMM's weights for an input: `[outputs][inputs]` if `transposed`, else
    /// `[inputs][outputs]`, the inputs in the order in which they lie.
    pub(super) fn product_weights(
        &self,
        src: &View,
        w: &Weights<'g>,
        transposed: bool,
        factor: f32,
    ) -> Result<ProductWeights, Why> {
        let dims = &w.constant.dims;
        let lead = dims.len().saturating_sub(2);
        if dims.len() < 2 || dims[..lead].iter().any(|d| *d != 1) {
            return Err(format!("weights of shape {dims:?}, expected 2 axes"));
        }
        let (outputs, inputs) = if transposed { (dims[lead], dims[lead + 1]) } else { (dims[lead + 1], dims[lead]) };
        if inputs > MAX_TAPS || (self.get(src.id).len * outputs) as u64 > MAX_MACS || outputs == 0 || inputs == 0 {
            return Err(format!("{inputs} inputs by {outputs} outputs are too many"));
        }
        if factor == 0.0 {
            return Err("a product times 0".into());
        }
        let own = if transposed { lead } else { lead + 1 };
        if w.scales.len() > 1 && (w.axis != own || w.scales.len() != outputs) {
            return Err(format!("weights have scales along axis {}, expected one an output", w.axis));
        }
        let values = centred_weights(&w.constant, &w.zero_points, w.axis)?;
        let s_in = self.get(src.id).quant.scale;
        let steps = (0..outputs).map(|o| s_in * w.scales[o % w.scales.len()] * factor.abs()).collect();
        let [row, column] = if transposed { [inputs, 1] } else { [1, outputs] };
        let order = self.rows_of(src, inputs);
        if transposed && order.is_none() && factor > 0.0 {
            return Ok(ProductWeights { values, steps });
        }
        let order = order.unwrap_or_else(|| (0..inputs).collect());
        let sign = if factor < 0.0 { -1 } else { 1 };
        let at = |o: usize| order.iter().map(move |i| o * row + i * column);
        Ok(ProductWeights { values: (0..outputs).flat_map(at).map(|at| sign * values[at]).collect(), steps })
    }

    /// Which input of a GEMM of one row lies at each place; `None` where they lie in order.
    fn rows_of(&self, src: &View, inputs: usize) -> Option<Vec<usize>> {
        if self.get(src.id).len != inputs || src.axes == Axes::rows(&src.axes.dims()) {
            return None;
        }
        let mut order = vec![0; inputs];
        src.axes.places().into_iter().enumerate().for_each(|(i, place)| order[place as usize] = i);
        Some(order)
    }

    /// The product of a view of rows and weights that were made for it; `dims`: its ONNX shape.
    pub(super) fn product_of(
        &mut self,
        src: &View,
        weights: ProductWeights,
        bias: Bias,
        dims: &[usize],
    ) -> Result<Pending, Why> {
        let (ProductWeights { mut values, mut steps }, mut bias) = (weights, bias);
        make_room(&mut values, &mut bias.values, &mut steps);
        let (outputs, axes) = (steps.len(), Axes::rows(dims));
        let inputs = values.len() / outputs;
        let rows = self.get(src.id).len / inputs;
        if rows == 1 {
            let matrix = Matrix { src: src.id, weights: values, bias, axes: axes.clone() };
            return Ok(Pending::new(Kind::Dense(matrix, steps), axes, self.at));
        }
        // Rows of a matrix are the pixels of a pointwise convolution.
        let shape = ConvShape {
            input: [rows, 1, inputs],
            output: [rows, 1, outputs],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            groups: 1,
        };
        let src = self.arrange(src, Axes::rows(&src.axes.dims()))?;
        Ok(Pending::new(Kind::Conv { src, shape, weights: values, bias, scales: steps }, axes, self.at))
    }

    pub(super) fn gemm(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let flag = |name: &str| matches!(node.attributes.get(name), Some(Attribute::Int(1)));
        let number = |name: &str| if let Some(Attribute::Float(v)) = node.attributes.get(name) { *v } else { 1.0 };
        let src = self.real(node, 0)?;
        let src = if flag("transA") { src.turned() } else { src };
        let transposed = flag("transB");
        let w = self.weights(node, 1, if transposed { 0 } else { 1 })?;
        let weights = self.product_weights(&src, &w, transposed, number("alpha"))?;
        let bias = self.bias(node, 2, &weights.steps, number("beta"))?;
        let (_, dims) = self.made(node)?;
        self.product_of(&src, weights, bias, dims).map(Value::Pending)
    }

    pub(super) fn matmul(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.real(node, 0)?;
        let rank = self.dims(node, 1)?.len();
        let w = self.weights(node, 1, axis_of(-1, rank)?)?;
        let weights = self.product_weights(&src, &w, false, 1.0)?;
        let bias = Bias { values: vec![0; weights.outputs()], rounded: false };
        let (_, dims) = self.made(node)?;
        self.product_of(&src, weights, bias, dims).map(Value::Pending)
    }

    /// Adds an int32 bias to the accumulators of a MatMulInteger.
    pub(super) fn add_to_accumulators(
        &mut self,
        node: &'g Node,
        constant: usize,
        accumulators: Value<'g>,
    ) -> Result<Value<'g>, Why> {
        let Value::Accumulators(mut m) = accumulators else { return Err("a constant is added to a real value".into()) };
        let Values::I32(bias) = &self.constant(node, constant)?.values else { return Err("expected an int32 bias".into()) };
        let n = m.bias.values.len();
        if node.op != "Add" || self.made(node)?.1 != m.axes.dims() || (bias.len() != 1 && bias.len() != n) {
            return Err(format!("{} biases for {n} outputs", bias.len()));
        }
        for (sum, b) in m.bias.values.iter_mut().zip(bias.iter().cycle()) {
            *sum = sum.checked_add(*b).ok_or("a bias is out of range")?;
        }
        Ok(Value::Accumulators(m))
    }

    /// Multiplies the accumulators of a MatMulInteger by their scale.
    pub(super) fn scale_accumulators(
        &mut self,
        node: &'g Node,
        constant: usize,
        accumulators: Value<'g>,
    ) -> Result<Value<'g>, Why> {
        let Value::RealAccumulators(m) = accumulators else { return Err("a constant multiplies int32 accumulators".into()) };
        let n = m.bias.values.len();
        let fits = self.made(node)?.1 == m.axes.dims();
        match &self.constant(node, constant)?.values {
            Values::F32(s)
                if fits
                    && node.op == "Mul"
                    && (s.len() == 1 || s.len() == n)
                    && s.iter().all(|s| s.is_finite() && *s > 0.0) =>
            {
                let (mut m, mut steps) = (m, (0..n).map(|o| s[o % s.len()]).collect::<Vec<_>>());
                make_room(&mut m.weights, &mut m.bias.values, &mut steps);
                let axes = m.axes.clone();
                Ok(Value::Pending(Pending::new(Kind::Dense(m, steps), axes, self.at)))
            }
            _ => Err("expected one finite positive scale an output".into()),
        }
    }

    pub(super) fn matmul_integer(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = match self.take(node, 0)? {
            Value::Int(view) => view,
            other => return Err(format!("input 0 is {}, expected an int8 tensor", other.describe())),
        };
        let own = self.get(src.id).quant.zero_point;
        // Without a zero point it is 0 of the tensor's own type; uint8 is re-based.
        let stated = match (self.name(node, 2).is_ok(), self.ty(node, 0)?) {
            (false, crate::engine::proto::Type::U8) => vec![-128],
            (false, _) => vec![0],
            (true, _) => match &self.constant(node, 2)?.values {
                Values::U8(v) => v.iter().map(|&v| v as i32 - 128).collect(),
                other => integers(other)?,
            },
        };
        if stated != [own as i32] {
            return Err(format!("zero point {stated:?}, its input has {own}"));
        }
        let constant = self.constant(node, 1)?;
        let zero_points = match self.name(node, 3) {
            Err(_) => vec![0],
            Ok(_) => integers(&self.constant(node, 3)?.values)?,
        };
        let axis = axis_of(-1, constant.dims.len())?;
        let w = Weights { constant: std::borrow::Cow::Borrowed(constant), zero_points, scales: vec![1.0], axis };
        let weights = self.product_weights(&src, &w, false, 1.0)?;
        let (_, dims) = self.made(node)?;
        let bias = Bias { values: vec![0; weights.outputs()], rounded: false };
        if self.get(src.id).len != weights.values.len() / weights.outputs() {
            return Err(format!("a result of shape {dims:?}, expected one row"));
        }
        Ok(Value::Accumulators(Matrix { src: src.id, weights: weights.values, bias, axes: Axes::rows(dims) }))
    }

    /// Folds a factor and an addend per output (`lines`) into a convolution or GEMM, or into lines
    /// folded before.
    pub(super) fn folded(&self, pending: &Pending, lines: &[[f32; 2]]) -> Result<Pending, Why> {
        const REST: &str = "it changes a real value that is not yet quantised";
        if !pending.unclamped() {
            return Err(REST.into());
        }
        let what = match &*pending.what {
            Kind::Affine(src, own) => {
                let n = own.len().max(lines.len());
                if !n.is_multiple_of(own.len()) || !n.is_multiple_of(lines.len()) {
                    return Err(REST.into());
                }
                let line = |i: usize| {
                    let ([m, k], [factor, addend]) = (own[i % own.len()], lines[i % lines.len()]);
                    [m * factor, k * factor + addend]
                };
                Kind::Affine(*src, (0..n).map(line).collect())
            }
            Kind::Conv { src, shape, weights, bias, scales } => {
                let (weights, bias, scales) = scaled(weights, bias, scales, lines)?;
                Kind::Conv { src: *src, shape: *shape, weights, bias, scales }
            }
            Kind::Dense(m, scales) => {
                let (weights, bias, scales) = scaled(&m.weights, &m.bias, scales, lines)?;
                Kind::Dense(Matrix { weights, bias, ..m.clone() }, scales)
            }
            _ => return Err(REST.into()),
        };
        Ok(Pending::new(what, pending.axes.clone(), pending.maker))
    }
}

/// Weights, biases and scales after each output is multiplied by a factor and given an addend.
fn scaled(weights: &[i16], bias: &Bias, scales: &[f32], lines: &[[f32; 2]]) -> Result<(Vec<i16>, Bias, Vec<f32>), Why> {
    let n = scales.len();
    if !n.is_multiple_of(lines.len()) {
        return Err(format!("{} factors or addends for {n} outputs", lines.len()));
    }
    let line = |o: usize| lines[o % lines.len()];
    if let Some(o) = (0..n).find(|&o| !(line(o)[0].is_finite() && line(o)[0] != 0.0 && line(o)[1].is_finite())) {
        return Err(format!("output {o} is multiplied by {} and increased by {}", line(o)[0], line(o)[1]));
    }
    let scales: Vec<f32> = (0..n).map(|o| scales[o] * line(o)[0].abs()).collect();
    let signed = |v: i32, o: usize| if line(o)[0] < 0.0 { v.checked_neg() } else { Some(v) };
    let added = rounded(&(0..n).map(|o| line(o)[1]).collect::<Vec<_>>(), &scales)?;
    let sum = |o: usize| signed(bias.values[o], o)?.checked_add(added.values[o]);
    let values = (0..n).map(sum).collect::<Option<Vec<i32>>>().ok_or("a bias is out of range")?;
    let inputs = weights.len() / n;
    let signed = |(i, &w): (usize, &i16)| if line(i / inputs)[0] < 0.0 { -w } else { w };
    let mut weights: Vec<i16> = weights.iter().enumerate().map(signed).collect();
    let (mut values, mut scales) = (values, scales);
    make_room(&mut weights, &mut values, &mut scales);
    Ok((weights, Bias { values, rounded: bias.rounded || added.rounded }, scales))
}

/// Doubles the scale of outputs whose accumulators could overflow i32, and halves their weights and
/// bias.
///
/// A quantiser saturates the bias of a channel whose weights are nearly zero; any input then
/// overflows the accumulator. The loss is far below one step of the output: the bias alone is 2^31
/// steps of the accumulator.
fn make_room(weights: &mut [i16], bias: &mut [i32], scales: &mut [f32]) {
    let inputs = (weights.len() / scales.len()).max(1);
    for ((weights, bias), scale) in weights.chunks_exact_mut(inputs).zip(bias).zip(scales) {
        // An input minus its zero point is at most 255 in magnitude, and so is the zero point.
        let reach: i64 = weights.iter().map(|w| 2 * 255 * w.unsigned_abs() as i64).sum();
        if bias.unsigned_abs() as i64 + reach > i32::MAX as i64 {
            weights.iter_mut().for_each(|w| *w = (*w as f32 / 2.0).round_ties_even() as i16);
            *bias /= 2;
            *scale *= 2.0;
        }
    }
}

/// Real biases, rounded to units of the accumulator.
fn rounded(real: &[f32], steps: &[f32]) -> Result<Bias, Why> {
    let one = |(b, s): (&f32, &f32)| {
        let q = (*b as f64 / *s as f64).round_ties_even();
        let fits = q.abs() <= i32::MAX as f64;
        if fits {
            Ok(q as i32)
        } else {
            Err(format!("a bias of {b} does not fit accumulators of step {s}; quantise it to int32"))
        }
    };
    let values: Vec<i32> = real.iter().zip(steps).map(one).collect::<Result<_, _>>()?;
    let exact = |((b, s), q): ((&f32, &f32), &i32)| (*b as f64 / *s as f64 - *q as f64).abs() < 1e-3;
    let rounded = !real.iter().zip(steps).zip(&values).all(exact);
    Ok(Bias { values, rounded })
}
