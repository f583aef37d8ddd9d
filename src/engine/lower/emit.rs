//! From a real result to int8: what QuantizeLinear says decides the step of the plan.
//!
//! Does not read operators' attributes.

use super::{Kind, Lowering, OTHER_QUANT, Pending, Value, Why, integers};
use crate::engine::operation::{Conv, Dense, Operation, Step};
use crate::engine::plan::{Quant, TensorId};
use crate::engine::proto::{Attribute, Node};
use crate::kernels::glue::Addend;
use crate::quant::{Clamp, add_rndne, quantise, requant_rndne};

/// A table, `table[q as u8]`.
type Table = Box<[i8; 256]>;

impl<'g> Lowering<'g> {
    pub(super) fn quantize(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
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
            Value::Real(id) => self.rescaled(id, quant).map(Value::Int),
            Value::Reshaped { id, shape, real: true } => {
                Ok(Value::Reshaped { id: self.rescaled(id, quant)?, shape, real: false })
            }
            Value::Function { src, values } => self.emit_function(src, &values, quant).map(Value::Int),
            Value::Pending(pending) => self.emit(pending, quant).map(Value::Int),
            // The head computes them from the logits: quantising them before would only lose.
            scores @ Value::Scores(..) => Ok(scores),
            other => Err(format!("input is {}, expected a real value", other.describe())),
        }
    }

    pub(super) fn dequantize(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let name = self.name(node, 0)?;
        let Some(constant) = self.graph.constants.get(name) else {
            let (id, value) = match self.take(node, 0)? {
                Value::Int(id) => (id, Value::Real(id)),
                Value::Reshaped { id, shape, real: false } => (id, Value::Reshaped { id, shape, real: true }),
                scores @ Value::Scores(..) => return Ok(scores),
                other => return Err(format!("input 0 is {}, expected an int8 tensor", other.describe())),
            };
            if self.quant_of_dequantize(node, id)? != self.get(id).quant {
                return Err(OTHER_QUANT.into());
            }
            return Ok(value);
        };
        let scales = self.steps(node, 1)?;
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
        Ok(Value::Weights { constant, zero_points, scales, axis })
    }

    /// As [`Self::quant`], but without a zero point the tensor's own type decides.
    fn quant_of_dequantize(&self, node: &'g Node, id: TensorId) -> Result<Quant, Why> {
        if node.inputs.len() < 3 {
            let scale = self.quant(node, 1)?.scale;
            return Ok(Quant { scale, zero_point: if self.get(id).quant.zero_point == 0 { 0 } else { -128 } });
        }
        self.quant(node, 1)
    }

    /// The real value of each code of a tensor.
    pub(super) fn identity(&self, id: TensorId) -> Box<[f32; 256]> {
        let Quant { scale, zero_point } = self.get(id).quant;
        Box::new(std::array::from_fn(|code| (code as u8 as i8 as i32 - zero_point as i32) as f32 * scale))
    }

    /// The tensor itself, or the step that brings it to `quant`.
    pub(super) fn rescaled(&mut self, id: TensorId, quant: Quant) -> Result<TensorId, Why> {
        match self.get(id).quant == quant {
            true => Ok(id),
            false => self.emit_function(id, &self.identity(id), quant),
        }
    }

    /// Adds the step that brings a function of a tensor to `quant`.
    pub(super) fn emit_function(&mut self, src: TensorId, values: &[f32; 256], quant: Quant) -> Result<TensorId, Why> {
        let table = std::array::from_fn(|code| quantise(values[code], quant.scale, quant.zero_point));
        self.emit_table(src, &table, quant)
    }

    /// Adds the step that maps a tensor. A table of a table is one table of the first tensor.
    fn emit_table(&mut self, src: TensorId, table: &[i8; 256], quant: Quant) -> Result<TensorId, Why> {
        let (src, first) = self.origin(src);
        let table = Box::new(first.map(|code| table[code as u8 as usize]));
        let dst = self.tensor(self.get(src).dims.clone(), quant)?;
        self.tables.insert(dst.0, (src, table.clone()));
        self.push(Operation::Map(table), vec![src], dst);
        Ok(dst)
    }

    /// The tensor of which this one is a table, and the table: of itself, if it is none.
    fn origin(&self, id: TensorId) -> (TensorId, Table) {
        let itself = || (id, Box::new(std::array::from_fn(|code| code as u8 as i8)));
        self.tables.get(&id.0).cloned().unwrap_or_else(itself)
    }

    pub(super) fn push(&mut self, operation: Operation, sources: Vec<TensorId>, dst: TensorId) {
        self.steps.push(Step { operation, sources, dst });
    }

    /// Adds the step that computes `pending` and brings it to `quant`.
    pub(super) fn emit(&mut self, pending: Pending, quant: Quant) -> Result<TensorId, Why> {
        let Pending { what, dims, lo, hi } = pending;
        let bound = |x: f32| quantise(x, quant.scale, quant.zero_point);
        let clamp = Clamp { lo: bound(lo), hi: bound(hi), zero_point: quant.zero_point };
        let zero_point = |id: TensorId| self.get(id).quant.zero_point;
        let ratio = |id: TensorId| self.get(id).quant.scale / quant.scale;
        let addend = |id: TensorId| Addend { zero_point: zero_point(id), ratio: ratio(id) };
        let product = |a: TensorId, b: TensorId| self.get(a).quant.scale * self.get(b).quant.scale / quant.scale;
        let scales = |s: Vec<f32>| -> Result<Vec<f32>, Why> {
            let s: Vec<f32> = s.into_iter().map(|s| s / quant.scale).collect();
            if s.iter().all(|s| s.is_finite()) { Ok(s) } else { Err("a step is out of range".into()) }
        };
        let (operation, sources) = match what {
            Kind::Max(src, values, shape) => {
                // Quantising keeps order, so the largest may be chosen after it.
                let mapped = self.emit_function(src, &values.map(|x| x.max(lo).min(hi)), quant)?;
                (Operation::MaxPool(shape), vec![mapped])
            }
            Kind::Add(a, b) | Kind::Multiply(a, b)
                if self.origin(a).0 == self.origin(b).0 && self.get(a).dims == self.get(b).dims =>
            {
                // Sum or product of two tables of one tensor is a table of it.
                let ((src, fa), (_, fb)) = (self.origin(a), self.origin(b));
                let (za, zb) = (zero_point(a), zero_point(b));
                let table: Table = Box::new(std::array::from_fn(|code| match what {
                    Kind::Add(..) => add_rndne(fa[code], za, ratio(a), fb[code], zb, ratio(b), clamp),
                    _ => {
                        let factors = (fa[code] as i32 - za as i32) * (fb[code] as i32 - zb as i32);
                        requant_rndne(factors, product(a, b), clamp)
                    }
                }));
                return self.emit_table(src, &table, quant);
            }
            Kind::Conv { src, shape, weights, bias, scales: s } => {
                let conv = Conv::new(self.kernels, shape, &weights, bias, scales(s)?, zero_point(src), clamp);
                (Operation::Conv(conv), vec![src])
            }
            Kind::Dense(m, s) => {
                let dense = Dense::new(self.kernels, &m.weights, m.bias, zero_point(m.src));
                (Operation::Dense(dense, scales(s)?, clamp), vec![m.src])
            }
            Kind::Add(a, b) => (Operation::Add([addend(a), addend(b)], clamp), vec![a, b]),
            Kind::Multiply(a, b) => (Operation::Multiply([zero_point(a), zero_point(b)], product(a, b), clamp), vec![a, b]),
            Kind::Affine(src, lines) => {
                let lines: Vec<[f32; 2]> = lines.into_iter().map(|[m, k]| [m * ratio(src), k / quant.scale]).collect();
                if !lines.as_flattened().iter().all(|x| x.is_finite()) {
                    return Err("a factor or addend is out of range".into());
                }
                (Operation::Affine(zero_point(src), lines, clamp), vec![src])
            }
            Kind::GlobalAverage(src) => {
                let t = self.get(src);
                let scale = t.quant.scale / (quant.scale * (t.len / t.dims[2]) as f32);
                (Operation::GlobalAverage(t.quant.zero_point, scale, clamp), vec![src])
            }
            Kind::GlobalAverageOf(src, values) => {
                // 15 bits and a sign a value: less than a thousandth of an int8 step is lost.
                let largest = values.iter().fold(f32::MIN_POSITIVE, |m, x| if x.is_finite() { m.max(x.abs()) } else { m });
                let unit = largest / 32767.0;
                let table = Box::new(values.map(|x| (x / unit).round_ties_even() as i32));
                let t = self.get(src);
                let scale = unit / (quant.scale * (t.len / t.dims[2]) as f32);
                (Operation::GlobalAverageOf(table, scale, clamp), vec![src])
            }
            Kind::AveragePool(src, shape, whole) => {
                (Operation::AveragePool(shape, zero_point(src), ratio(src), whole, clamp), vec![src])
            }
            Kind::Concat(parts) => {
                let part = |id: &TensorId| {
                    let table = self.identity(*id).map(|x| bound(x).clamp(clamp.lo, clamp.hi));
                    (self.get(*id).dims[2], Box::new(table))
                };
                (Operation::Concat(parts.iter().map(part).collect()), parts)
            }
        };
        let dst = self.tensor(dims, quant)?;
        self.push(operation, sources, dst);
        Ok(dst)
    }
}
