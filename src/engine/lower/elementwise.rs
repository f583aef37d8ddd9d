//! Lowers operators that treat each value, or each channel, on its own.
//!
//! A function of one int8 tensor is a table of 256 values, whatever operators it is made of: adding
//! or multiplying constants, clips, sigmoids. Hard swish as exporters write it, `x * clip(x + 3, 0,
//! 6) / 6`, becomes one table.

use super::constants::{by_place, reals};
use super::{Axes, Function, Kind, Lowering, MAX_MOVED, Pending, Value, View, Why};
use crate::engine::lowered::TensorId;
use crate::engine::proto::{Attribute, Node};
use std::rc::Rc;

/// Most constants (one per element) that are kept for a tensor.
const MAX_LINES: usize = 1 << 20;

impl<'g> Lowering<'g> {
    /// A function's tensor and values.
    fn as_function(&self, value: Value<'g>) -> Option<(View, Function)> {
        match value {
            Value::Real(view) => {
                let values = Rc::from(self.identity(view.id));
                Some((view, values))
            }
            Value::Function { view, values } => Some((view, values)),
            _ => None,
        }
    }

    pub(super) fn binary(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        // A constant may stand on either side of the accumulators of a MatMulInteger.
        if let Some(i) = (0..2).find(|&i| self.constant(node, i).is_ok()) {
            let name = self.name(node, 1 - i)?;
            if let Some(Value::Accumulators(_) | Value::RealAccumulators(_)) = self.values.get(name) {
                let accumulators = self.take(node, 1 - i)?;
                return if node.op == "Add" {
                    self.add_to_accumulators(node, i, accumulators)
                } else {
                    self.scale_accumulators(node, i, accumulators)
                };
            }
        }
        match node.inputs.len() {
            1 => return self.take(node, 0),
            2 => {}
            n => return Err(format!("{n} inputs, expected 2")),
        }
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let (_, to) = self.made(node)?;
        self.combine(&node.op, a, b, to)
    }

    /// `a op b`, where at most one is a constant; `to`: the shape to which ONNX broadcasts both.
    pub(super) fn combine(&mut self, op: &str, a: Value<'g>, b: Value<'g>, to: &[usize]) -> Result<Value<'g>, Why> {
        let (first, other, (dims, constant)) = match (reals(&a)?, reals(&b)?) {
            (None, None) => return self.pair(op, a, b, to),
            (Some(k), None) => (true, b, k),
            (None, Some(k)) => (false, a, k),
            (Some(_), Some(_)) => return Err("both its inputs are constants".into()),
        };
        let other = self.widened(other, to)?;
        let scalar = constant.iter().all(|k| k.to_bits() == constant[0].to_bits());
        if scalar && matches!(other, Value::Real(_) | Value::Function { .. }) {
            let k = constant[0];
            let apply = |x: f32| if first { arithmetic(op, k, x) } else { arithmetic(op, x, k) };
            let (view, values) = self.as_function(other).ok_or("its input is no tensor")?;
            return Ok(Value::Function { view, values: Rc::new(values.map(apply)) });
        }
        if let (Value::Pending(p), true, "Min" | "Max") = (&other, scalar, op) {
            let (lo, hi) = if op == "Max" { (constant[0], f32::INFINITY) } else { (f32::NEG_INFINITY, constant[0]) };
            return p.clamped(lo, hi).map(Value::Pending);
        }
        let line = |k: &f32| match (op, first) {
            ("Add", _) => Ok([1.0, *k]),
            ("Sub", false) => Ok([1.0, -k]),
            ("Sub", true) => Ok([-1.0, *k]),
            ("Mul", _) => Ok([*k, 0.0]),
            ("Div", false) => Ok([1.0 / k, 0.0]),
            _ => Err(format!("no int8 kernel for {op} by several constants in this build")),
        };
        let lines = constant.iter().map(line).collect::<Result<Vec<_>, Why>>()?;
        self.affine(other, &dims, &lines)
    }

    /// A factor and an addend for each value of a tensor; `dims`: the shape that the lines have.
    fn affine(&mut self, value: Value<'g>, dims: &[usize], lines: &[[f32; 2]]) -> Result<Value<'g>, Why> {
        let same = |a: [f32; 2], b: [f32; 2]| a.map(f32::to_bits) == b.map(f32::to_bits);
        let placed = |axes: &Axes| match by_place(lines, dims, axes, same)? {
            lines if lines.len() <= MAX_LINES => Ok(lines),
            lines => Err(format!("constants for {} values, at most {MAX_LINES}", lines.len())),
        };
        match value {
            Value::Real(view) => {
                let lines = placed(&view.axes)?;
                Ok(Value::Pending(Pending::new(Kind::Affine(view.id, lines), view.axes, self.at)))
            }
            Value::Pending(p) => self.folded(&p, &placed(&p.axes)?).map(Value::Pending),
            Value::Input(_) => Err("it normalises the input inside the graph; take it out and give mean and deviation to \
                                    `pack` instead, or quantise the input before it"
                .into()),
            other => Err(format!("constants meet {}", other.describe())),
        }
    }

    /// `scale * (x - mean) / sqrt(variance + epsilon) + bias` (Ioffe & Szegedy 2015), where it was
    /// not folded into a convolution.
    pub(super) fn batch_normalization(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let epsilon = number(node, "epsilon", 1e-5);
        let mut numbers = Vec::new();
        for i in 1..5 {
            let operand = self.operand(node, i)?;
            let (_, values) = reals(&operand)?.ok_or_else(|| format!("input {i} must be a constant a channel"))?;
            numbers.push(values);
        }
        let (channels, rank) = (numbers[0].len(), self.dims(node, 0)?.len());
        if let Some(v) = numbers[3].iter().find(|v| v.is_nan() || **v + epsilon <= 0.0) {
            return Err(format!("a variance of {v}"));
        }
        let line = |c: usize| {
            let factor = numbers[0][c] / (numbers[3][c] + epsilon).sqrt();
            [factor, numbers[1][c] - factor * numbers[2][c]]
        };
        let lines: Vec<[f32; 2]> = (0..channels).map(line).collect();
        let mut dims = vec![1; rank];
        if let Some(axis) = dims.get_mut(1) {
            *axis = channels;
        }
        let value = self.take(node, 0)?;
        self.affine(value, &dims, &lines)
    }

    /// Broadcasts a value to a shape, if that differs from its own.
    fn widened(&mut self, value: Value<'g>, to: &[usize]) -> Result<Value<'g>, Why> {
        match value {
            Value::Real(view) if view.axes.dims() != to => self.spread(&view, Axes::natural(to)).map(Value::Real),
            Value::Function { view, values } if view.axes.dims() != to => {
                Ok(Value::Function { view: self.spread(&view, Axes::natural(to))?, values })
            }
            Value::Pending(p) if p.axes.dims() != to => match p.axes.reshaped(to) {
                Some(axes) => Ok(Value::Pending(Pending { axes, ..p })),
                None => Err(format!("it broadcasts {:?} to {to:?} before that is quantised", p.axes.dims())),
            },
            value => Ok(value),
        }
    }

    /// A tensor broadcast to another shape and laid by `axes`.
    fn spread(&mut self, view: &View, axes: Axes) -> Result<View, Why> {
        let (to, from) = (axes.dims(), view.axes.dims());
        let count = |dims: &[usize]| dims.iter().product::<usize>();
        if count(&to) == count(&from) {
            // Only axes of one value were added.
            let axes = view.axes.reshaped(&to).ok_or("its axes do not divide so")?;
            return Ok(View { id: view.id, axes });
        }
        if count(&to) > MAX_MOVED {
            return Err(format!("it broadcasts {from:?} to {to:?}, more than {MAX_MOVED} values"));
        }
        let quant = self.get(view.id).quant;
        let id = self.tensor(count(&to), quant)?;
        let operation = self.moved(count(&to), || (axes.places(), view.axes.places_in(&to)))?;
        self.push(self.at, operation, vec![view.id], id);
        Ok(View { id, axes })
    }

    /// Two tensors; a small factor may repeat over the other as it lies, everything else is
    /// broadcast before.
    fn pair(&mut self, op: &str, a: Value<'g>, b: Value<'g>, to: &[usize]) -> Result<Value<'g>, Why> {
        if let (Value::Real(a), Value::Real(b), "Add" | "Sub" | "Mul") = (&a, &b, op) {
            let axes = match (a.axes.dims() == to, b.axes.dims() == to) {
                (true, _) => a.axes.clone(),
                (_, true) => b.axes.clone(),
                _ => Axes::natural(to),
            };
            let [a, b] = [a, b].map(|view| self.placed(view, &axes, op == "Mul"));
            let kind = match (a?, b?) {
                (a, b) if op == "Add" => Kind::Add(a, b, 1.0),
                (a, b) if op == "Sub" => Kind::Add(a, b, -1.0),
                (a, b) if self.get(a).len >= self.get(b).len => Kind::Multiply(a, b),
                (a, b) => Kind::Multiply(b, a),
            };
            return Ok(Value::Pending(Pending::new(kind, axes, self.at)));
        }
        // Functions of the same tensor make another one.
        let what = format!("{} and {}", a.describe(), b.describe());
        match (self.as_function(a), self.as_function(b)) {
            (Some((view, a)), Some((other, b))) if view.id == other.id && view.axes == other.axes => {
                let values = std::array::from_fn(|code| arithmetic(op, a[code], b[code]));
                Ok(Value::Function { view, values: Rc::new(values) })
            }
            (Some(_), Some(_)) if what == "a dequantised tensor and a dequantised tensor" => {
                Err(format!("no int8 kernel for a {op} of two tensors in this build"))
            }
            _ => Err(format!("inputs are {what}, expected two dequantised tensors")),
        }
    }

    /// Lays an operand out like one that lies by `axes`: to its full length or, if `repeats` allows
    /// it, to a length that repeats.
    fn placed(&mut self, view: &View, axes: &Axes, repeats: bool) -> Result<TensorId, Why> {
        let (to, from) = (axes.dims(), view.axes.dims());
        if from == to {
            return self.arrange(view, axes.clone());
        }
        let len: usize = to.iter().product();
        let own = self.get(view.id).len;
        let missing = to.len() - from.len();
        if let (true, &[axis]) = (repeats, (0..from.len()).filter(|&i| from[i] != 1).collect::<Vec<_>>().as_slice())
            && view.axes.is_innermost(axis)
            && axes.is_innermost(axis + missing)
            && from[axis] == to[axis + missing]
        {
            return Ok(view.id);
        }
        if repeats && len <= MAX_MOVED && len.is_multiple_of(own) {
            let repeated = |(place, from): (u32, u32)| place as usize % own == from as usize;
            if axes.places().into_iter().zip(view.axes.places_in(&to)).all(repeated) {
                return Ok(view.id);
            }
        }
        let wide = self.spread(view, axes.clone())?;
        self.arrange(&wide, axes.clone())
    }

    /// PRelu with a single slope for negative values.
    pub(super) fn prelu(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let slope = self.operand(node, 1)?;
        let (_, slopes) = reals(&slope)?.ok_or("its slope must be a constant")?;
        if slopes.iter().any(|s| *s != slopes[0]) {
            return Err("no int8 kernel for a slope a channel in this build".into());
        }
        let slope = slopes[0];
        self.mapped(node, Box::new(move |x| if x < 0.0 { slope * x } else { x }))
    }

    pub(super) fn function(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let f = self.formula(node)?;
        self.mapped(node, f)
    }

    fn mapped(&mut self, node: &'g Node, f: Box<dyn Fn(f32) -> f32>) -> Result<Value<'g>, Why> {
        let value = self.take(node, 0)?;
        let what = value.describe();
        let (view, values) =
            self.as_function(value).ok_or_else(|| format!("input is {what}, expected a dequantised tensor"))?;
        Ok(Value::Function { view, values: Rc::new(values.map(f)) })
    }

    /// An activation function by its ONNX definition.
    pub(super) fn formula(&self, node: &'g Node) -> Result<Box<dyn Fn(f32) -> f32>, Why> {
        let hard_sigmoid = |alpha: f32, beta: f32| move |x: f32| (alpha * x + beta).clamp(0.0, 1.0);
        let real = |f: fn(f64) -> f64| Box::new(move |x: f32| f(x as f64) as f32);
        let alpha = |default: f32| number(node, "alpha", default);
        Ok(match node.op.as_str() {
            "Sigmoid" | "QLinearSigmoid" => real(sigmoid),
            "Tanh" => real(f64::tanh),
            "Exp" => real(f64::exp),
            "Log" => real(f64::ln),
            "Sqrt" => real(f64::sqrt),
            "Abs" => real(f64::abs),
            "Neg" => Box::new(|x| -x),
            "Reciprocal" => Box::new(|x| 1.0 / x),
            "Erf" => real(erf),
            "Softplus" => real(softplus),
            "Softsign" => real(|x| x / (1.0 + x.abs())),
            "Mish" => real(|x| x * softplus(x).tanh()),
            "Gelu" => match node.attributes.get("approximate") {
                Some(Attribute::Text(how)) if how == "tanh" => {
                    real(|x| 0.5 * x * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh()))
                }
                _ => real(|x| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))),
            },
            "Swish" => {
                let alpha = alpha(1.0) as f64;
                Box::new(move |x| (x as f64 * sigmoid(alpha * x as f64)) as f32)
            }
            "HardSigmoid" => Box::new(hard_sigmoid(alpha(0.2), number(node, "beta", 0.5))),
            "HardSwish" => {
                let gate = hard_sigmoid(1.0 / 6.0, 0.5);
                Box::new(move |x| x * gate(x))
            }
            "LeakyRelu" | "QLinearLeakyRelu" => {
                let alpha = alpha(0.01);
                Box::new(move |x| if x < 0.0 { alpha * x } else { x })
            }
            "ThresholdedRelu" => {
                let alpha = alpha(1.0);
                Box::new(move |x| if x > alpha { x } else { 0.0 })
            }
            "Elu" => {
                let alpha = alpha(1.0);
                Box::new(move |x| if x < 0.0 { alpha * (x as f64).exp_m1() as f32 } else { x })
            }
            "Celu" => {
                let alpha = alpha(1.0);
                Box::new(move |x| x.max(0.0) + (alpha * ((x / alpha) as f64).exp_m1() as f32).min(0.0))
            }
            "Selu" => {
                let (alpha, gamma) = (alpha(1.673_263_2), number(node, "gamma", 1.050_701));
                Box::new(move |x| gamma * if x > 0.0 { x } else { alpha * (x as f64).exp_m1() as f32 })
            }
            op => return Err(format!("no int8 kernel for {op} in this build")),
        })
    }

    /// A real constant that is input `i`, or in older opsets an attribute; it may be infinite.
    pub(super) fn bound(&mut self, node: &'g Node, i: usize, attribute: &str, default: f32) -> Result<f32, Why> {
        if self.name(node, i).is_ok() {
            let operand = self.operand(node, i)?;
            return match reals(&operand)? {
                Some((_, values)) if values.len() == 1 => Ok(values[0]),
                _ => Err(format!("{attribute} must be one real constant")),
            };
        }
        Ok(number(node, attribute, default))
    }

    pub(super) fn clip(&mut self, node: &'g Node, lo: f32, hi: f32) -> Result<Value<'g>, Why> {
        match self.take(node, 0)? {
            Value::Pending(p) => p.clamped(lo, hi).map(Value::Pending),
            other => {
                check_bounds(lo, hi)?;
                let what = other.describe();
                let (view, values) =
                    self.as_function(other).ok_or_else(|| format!("input is {what}, expected a real value"))?;
                Ok(Value::Function { view, values: Rc::new(values.map(|x| x.clamp(lo, hi))) })
            }
        }
    }
}

fn check_bounds(lo: f32, hi: f32) -> Result<(), Why> {
    if lo <= hi { Ok(()) } else { Err(format!("bounds {lo} and {hi}")) }
}

impl Pending {
    fn clamped(&self, lo: f32, hi: f32) -> Result<Self, Why> {
        check_bounds(lo, hi)?;
        Ok(Self { lo: self.lo.max(lo).min(hi), hi: self.hi.min(hi).max(lo), ..self.clone() })
    }
}

/// One of the operators of two values.
fn arithmetic(op: &str, a: f32, b: f32) -> f32 {
    match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Min" => a.min(b),
        "Max" => a.max(b),
        _ => (a as f64).powf(b as f64) as f32,
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + e^x)`, for large x without the overflow of e^x.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The error function, to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26): far below the step of any int8
/// output.
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.3275911 * x.abs());
    let polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}

/// A real attribute; the table has checked that it is one.
fn number(node: &Node, name: &str, default: f32) -> f32 {
    if let Some(Attribute::Float(x)) = node.attributes.get(name) { *x } else { default }
}
