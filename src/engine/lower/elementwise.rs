//! Operators that treat each value, or each channel, by itself.
//!
//! Does not decide when a result is quantised. A function of one int8 tensor is known by its 256 values, whatever it is made of:
//! additions and products of constants, clips, sigmoids. Hard swish as exporters write it, `x * clip(x + 3, 0, 6) / 6`, is one.

use super::{Kind, Lowering, Pending, Value, Why, centred};
use crate::engine::plan::TensorId;
use crate::engine::proto::{Attribute, Constant, Node, Values};

impl<'g> Lowering<'g> {
    /// A function's tensor and values.
    fn as_function(&self, value: Value<'g>) -> Option<(TensorId, Box<[f32; 256]>)> {
        match value {
            Value::Real(id) => Some((id, self.identity(id))),
            Value::Function { src, values } => Some((src, values)),
            _ => None,
        }
    }

    pub(super) fn binary(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        // A constant may stand on either side of the sums of a MatMulInteger.
        if let Some(i) = (0..2).find(|&i| self.constant(node, i).is_ok()) {
            let name = self.name(node, 1 - i)?;
            if let Some(Value::Sums(_) | Value::RealSums(_)) = self.values.get(name) {
                let sums = self.take(node, 1 - i)?;
                return if node.op == "Add" { self.add_to_sums(node, i, sums) } else { self.scale_sums(node, i, sums) };
            }
        }
        let (a, b) = (self.real_operand(node, 0)?, self.real_operand(node, 1)?);
        self.combine(&node.op, a, b)
    }

    /// A real operand: of the graph, or a real constant.
    fn real_operand(&mut self, node: &'g Node, i: usize) -> Result<Value<'g>, Why> {
        match self.constant(node, i) {
            Err(_) => self.take(node, i),
            Ok(Constant { dims, values: Values::F32(v) }) => Ok(Value::Constant { dims: dims.clone(), values: v.clone() }),
            Ok(_) => Err(format!("input {i} must be real")),
        }
    }

    /// `a op b`, where at most one is a constant.
    pub(super) fn combine(&mut self, op: &str, a: Value<'g>, b: Value<'g>) -> Result<Value<'g>, Why> {
        let (first, other, constant) = match (constant(&a), constant(&b)) {
            (None, None) => return self.pair(op, a, b),
            (Some(k), _) => (true, b, k?),
            (_, Some(k)) => (false, a, k?),
        };
        let what = other.describe();
        if let &[k] = constant.as_slice() {
            let apply = |x: f32| if first { arithmetic(op, k, x) } else { arithmetic(op, x, k) };
            let (src, values) = self.as_function(other).ok_or(format!("a constant meets {what}"))?;
            return Ok(Value::Function { src, values: Box::new(values.map(apply)) });
        }
        let Value::Real(src) = other else { return Err(format!("a constant a channel meets {what}")) };
        let line = |k: f32| match (op, first) {
            ("Add", _) => Ok([1.0, k]),
            ("Sub", false) => Ok([1.0, -k]),
            ("Sub", true) => Ok([-1.0, k]),
            ("Mul", _) => Ok([k, 0.0]),
            ("Div", false) => Ok([1.0 / k, 0.0]),
            _ => Err("a constant a channel is divided".to_string()),
        };
        let lines = constant.into_iter().map(line).collect::<Result<_, _>>()?;
        self.affine(src, lines)
    }

    fn affine(&mut self, src: TensorId, lines: Vec<[f32; 2]>) -> Result<Value<'g>, Why> {
        let dims = self.get(src).dims.clone();
        if lines.len() != dims[2] {
            return Err(format!("{} constants for {} channels", lines.len(), dims[2]));
        }
        Ok(Value::Pending(Pending::new(Kind::Affine(src, lines), dims)))
    }

    /// `scale * (x - mean) / sqrt(variance + epsilon) + bias` (Ioffe & Szegedy 2015), where it was not folded into a convolution.
    pub(super) fn batch_normalization(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let src = self.real(node, 0)?;
        let epsilon = number(node, "epsilon", 1e-5)?;
        let mut numbers = Vec::new();
        for i in 1..5 {
            let operand = self.real_operand(node, i)?;
            numbers.push(constant(&operand).ok_or(format!("input {i} must be a constant a channel"))??);
        }
        let n = numbers[0].len();
        if numbers.iter().any(|v| v.len() != n) {
            return Err("its constants differ in length".into());
        }
        let line = |c: usize| {
            let factor = numbers[0][c] / (numbers[3][c] + epsilon).sqrt();
            [factor, numbers[1][c] - factor * numbers[2][c]]
        };
        self.affine(src, (0..n).map(line).collect())
    }

    /// Two tensors; one of a product may be a pixel that multiplies every pixel of the other.
    fn pair(&mut self, op: &str, a: Value<'g>, b: Value<'g>) -> Result<Value<'g>, Why> {
        if let (Value::Real(a), Value::Real(b)) = (&a, &b) {
            let (da, db) = (&self.get(*a).dims, &self.get(*b).dims);
            let one = |d: &[usize], of: &[usize]| d[..2] == [1, 1] && d[2] == of[2];
            let (kind, dims) = match op {
                "Add" if da == db => (Kind::Add(*a, *b), da.clone()),
                "Mul" if da == db || one(db, da) => (Kind::Multiply(*a, *b), da.clone()),
                "Mul" if one(da, db) => (Kind::Multiply(*b, *a), db.clone()),
                "Add" | "Mul" => return Err(format!("shapes {da:?} and {db:?} do not fit")),
                _ => return Err(format!("no int8 kernel for a {op} of two tensors in this build")),
            };
            return Ok(Value::Pending(Pending::new(kind, dims)));
        }
        // Functions of the same tensor make another one.
        let what = format!("{} and {}", a.describe(), b.describe());
        match (self.as_function(a), self.as_function(b)) {
            (Some((src, a)), Some((other, b))) if src == other => {
                let values = std::array::from_fn(|code| arithmetic(op, a[code], b[code]));
                Ok(Value::Function { src, values: Box::new(values) })
            }
            _ => Err(format!("inputs are {what}, expected two dequantised tensors")),
        }
    }

    pub(super) fn function(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let value = self.take(node, 0)?;
        let what = value.describe();
        let (src, values) = self.as_function(value).ok_or(format!("input is {what}, expected a dequantised tensor"))?;
        let f = self.formula(node)?;
        Ok(Value::Function { src, values: Box::new(values.map(f)) })
    }

    /// An activation function by its ONNX definition.
    pub(super) fn formula(&self, node: &'g Node) -> Result<Box<dyn Fn(f32) -> f32>, Why> {
        let hard_sigmoid = |alpha: f32, beta: f32| move |x: f32| (alpha * x + beta).clamp(0.0, 1.0);
        Ok(match node.op.as_str() {
            "Sigmoid" | "QLinearSigmoid" => Box::new(|x| (1.0 / (1.0 + (-x as f64).exp())) as f32),
            "Tanh" => Box::new(|x| (x as f64).tanh() as f32),
            "HardSigmoid" => Box::new(hard_sigmoid(number(node, "alpha", 0.2)?, number(node, "beta", 0.5)?)),
            "HardSwish" => {
                let gate = hard_sigmoid(1.0 / 6.0, 0.5);
                Box::new(move |x| x * gate(x))
            }
            "LeakyRelu" | "QLinearLeakyRelu" => {
                let alpha = number(node, "alpha", 0.01)?;
                Box::new(move |x| if x < 0.0 { alpha * x } else { x })
            }
            "Elu" => {
                let alpha = number(node, "alpha", 1.0)?;
                Box::new(move |x| if x < 0.0 { alpha * ((x as f64).exp() - 1.0) as f32 } else { x })
            }
            op => return Err(format!("no formula for {op}")),
        })
    }

    /// A real constant that is input `i`, or in older opsets an attribute; it may be infinite.
    pub(super) fn bound(&mut self, node: &'g Node, i: usize, attribute: &str, default: f32) -> Result<f32, Why> {
        if self.name(node, i).is_ok() {
            let operand = self.real_operand(node, i)?;
            return match constant(&operand).transpose()?.as_deref() {
                Some(&[x]) => Ok(x),
                _ => Err(format!("{attribute} must be one real constant")),
            };
        }
        match node.attributes.get(attribute) {
            Some(Attribute::Float(x)) => Ok(*x),
            _ => number(node, attribute, default),
        }
    }

    pub(super) fn clip(&mut self, node: &'g Node, lo: f32, hi: f32) -> Result<Value<'g>, Why> {
        if lo.is_nan() || hi.is_nan() || lo > hi {
            return Err(format!("bounds {lo} and {hi}"));
        }
        match self.take(node, 0)? {
            Value::Pending(p) => Ok(Value::Pending(Pending { lo: p.lo.max(lo).min(hi), hi: p.hi.min(hi).max(lo), ..p })),
            other => {
                let what = other.describe();
                let (src, values) = self.as_function(other).ok_or(format!("input is {what}, expected a real value"))?;
                Ok(Value::Function { src, values: Box::new(values.map(|x| x.clamp(lo, hi))) })
            }
        }
    }
}

/// One of the four operators.
fn arithmetic(op: &str, a: f32, b: f32) -> f32 {
    match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        _ => a / b,
    }
}

/// A constant's real values: one, or one a channel.
fn constant(value: &Value) -> Option<Result<Vec<f32>, Why>> {
    let (dims, values) = match value {
        Value::Constant { dims, values } => (dims, values.clone()),
        Value::Weights { constant, zero_points, scales, axis } if scales.len() == 1 => {
            let values = match centred(constant, zero_points, *axis) {
                Ok(values) => values,
                Err(why) => return Some(Err(why)),
            };
            (&constant.dims, values.iter().map(|v| *v as f32 * scales[0]).collect())
        }
        _ => return None,
    };
    // One a channel lies along one axis: [c, 1, 1], [1, c, 1, 1] or, for vectors, [c] and [1, c].
    let along = dims.iter().filter(|d| **d != 1).count();
    Some(match values.len() == 1 || along == 1 {
        true => Ok(values),
        false => Err(format!("a constant of shape {dims:?}, expected one value or one a channel")),
    })
}

/// A finite real attribute.
fn number(node: &Node, name: &str, default: f32) -> Result<f32, Why> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(Attribute::Float(x)) if x.is_finite() => Ok(*x),
        other => Err(format!("{name} {other:?}, expected a real number")),
    }
}
