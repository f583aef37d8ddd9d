//! From a real result to int8: the QuantizeLinear after an operator turns what is pending into a
//! step of the plan.

use super::constants::{Weights, integers};
use super::{Axes, Bias, Kind, Lowering, MAX_SCALES, MAX_WEIGHTS, Pending, Value, View, Why};
use crate::engine::lowered::{Quant, TensorId};
use crate::engine::operation::{Conv, Dense, Operation};
use crate::engine::operators::axis_of;
use crate::engine::proto::{Attribute, Node, Values};
use crate::kernels::elementwise::Addend;
use crate::quant::{Clamp, add_rndne, quantise, requant_rndne};
use std::borrow::Cow;
use std::rc::Rc;

/// The coarsest accumulator, in output steps, to which a real bias is rounded: it is off by half of
/// that at most.
const COARSEST: f32 = 0.5;

/// A table, `table[q as u8]`.
type Table = Box<[i8; 256]>;

impl<'g> Lowering<'g> {
    pub(super) fn quantize(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let (ty, _) = self.made(node)?;
        let quant = self.quant(node, 1, ty)?;
        match self.take(node, 0)? {
            Value::Input(axes) => self.input_tensor(axes, quant).map(Value::Int),
            Value::Real(view) => Ok(Value::Int(View { id: self.rescaled(view.id, quant)?, ..view })),
            Value::Function { view, values } => {
                Ok(Value::Int(View { id: self.emit_function(view.id, &values, quant)?, ..view }))
            }
            Value::Pending(pending) => self.emit(&pending, quant).map(Value::Int),
            Value::Float { name, axes } => self.quantised_reals(name, &axes, quant).map(Value::Int),
            // The head computes them from the logits: quantising them before would only lose.
            scores @ Value::Scores(..) => Ok(scores),
            other => Err(format!("input is {}, expected a real value", other.describe())),
        }
    }

    /// Adds the step that quantises what was computed in f32.
    fn quantised_reals(&mut self, name: &'g str, axes: &Axes, quant: Quant) -> Result<View, Why> {
        let view = self.natural(&axes.dims(), quant)?;
        let (source, at) = self.real_place(name)?;
        let mut order = vec![0; self.get(view.id).len];
        for (to, from) in view.axes.places().into_iter().zip(axes.places()) {
            order[to as usize] = at as u32 + from;
        }
        self.push(self.at, Operation::Quantise(order, quant.scale, quant.zero_point), vec![source], view.id);
        Ok(view)
    }

    pub(super) fn dequantize(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let name = self.name(node, 0)?;
        let Some(constant) = self.reading.constant(name) else {
            return match self.take(node, 0)? {
                scores @ Value::Scores(..) => Ok(scores),
                _ => self.int(node, 0).map(Value::Real),
            };
        };
        let scales = self.scales(node, 1)?;
        let axis = match (node.attributes.get("axis"), scales.len()) {
            (_, 1) => 0,
            (Some(Attribute::Int(a)), _) => axis_of(*a, constant.dims.len())?,
            _ => axis_of(1, constant.dims.len())?,
        };
        let zero_points = match node.inputs.get(2).filter(|n| !n.is_empty()) {
            None => vec![0],
            Some(_) => integers(&self.constant(node, 2)?.values)?,
        };
        let constant = Cow::Borrowed(constant);
        Ok(Value::Weights(Rc::new(Weights { constant, zero_points, scales, axis })))
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

    /// The same codes with another scale and zero point than they were made with.
    pub(super) fn read_as(&mut self, id: TensorId, quant: Quant) -> Result<TensorId, Why> {
        match self.get(id).quant == quant {
            true => Ok(id),
            false => self.emit_table(id, &std::array::from_fn(|code| code as u8 as i8), quant),
        }
    }

    /// A clip of the codes themselves, as quantisers write a narrower range; uint8 is re-based.
    pub(super) fn clip_codes(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let bound = |i: usize, open: i8| match self.name(node, i) {
            Err(_) => Ok(open),
            Ok(_) => match &self.constant(node, i)?.values {
                Values::I8(v) if v.len() == 1 => Ok(v[0]),
                Values::U8(v) if v.len() == 1 => Ok((v[0] as i16 - 128) as i8),
                other => Err(format!("a bound of {}, expected one int8 or uint8", other.element())),
            },
        };
        let (lo, hi) = (bound(1, i8::MIN)?, bound(2, i8::MAX)?);
        match self.take(node, 0)? {
            Value::Int(view) => {
                let table = std::array::from_fn(|code| (code as u8 as i8).max(lo).min(hi));
                let quant = self.get(view.id).quant;
                Ok(Value::Int(View { id: self.emit_table(view.id, &table, quant)?, ..view }))
            }
            other => Err(format!("input is {}, expected an int8 tensor", other.describe())),
        }
    }

    /// Adds the step that brings a function of a tensor to `quant`.
    pub(super) fn emit_function(&mut self, src: TensorId, values: &[f32; 256], quant: Quant) -> Result<TensorId, Why> {
        // What has no value at some of its inputs, as a root, becomes the lowest code there, as
        // with ONNX Runtime.
        if values.iter().all(|x| x.is_nan()) {
            return Err("a function of its input has a value nowhere".into());
        }
        let table = std::array::from_fn(|code| quantise(values[code], quant.scale, quant.zero_point));
        self.emit_table(src, &table, quant)
    }

    /// Adds the step that maps a tensor. A table of a table is one table of the first tensor.
    fn emit_table(&mut self, src: TensorId, table: &[i8; 256], quant: Quant) -> Result<TensorId, Why> {
        let (src, first) = self.origin(src);
        let table = Box::new(first.map(|code| table[code as u8 as usize]));
        let same = |(id, (from, known)): &(&usize, &(TensorId, Table))| {
            *from == src && *known == table && self.tensors[**id].quant == quant
        };
        if let Some((id, _)) = self.tables.iter().find(same) {
            return Ok(TensorId(*id));
        }
        let dst = self.tensor(self.get(src).len, quant)?;
        self.tables.insert(dst.0, (src, table.clone()));
        self.push(self.at, Operation::Map(table), vec![src], dst);
        Ok(dst)
    }

    /// The tensor of which this one is a table, and the table: of itself, if it is none.
    fn origin(&self, id: TensorId) -> (TensorId, Table) {
        let itself = || (id, Box::new(std::array::from_fn(|code| code as u8 as i8)));
        self.tables.get(&id.0).cloned().unwrap_or_else(itself)
    }

    /// Adds the step that computes `pending` and brings it to `quant`.
    pub(super) fn emit(&mut self, pending: &Pending, quant: Quant) -> Result<View, Why> {
        let view = |id| View { id, axes: pending.axes.clone() };
        let known = |(other, at, _): &&(Pending, Quant, TensorId)| other.is(pending) && *at == quant;
        if let Some((_, _, id)) = self.emitted.iter().find(known) {
            return Ok(view(*id));
        }
        let again = self.emitted.iter().filter(|(other, ..)| other.is(pending)).count();
        if again >= MAX_SCALES {
            return Err(format!("its input is brought to more than {MAX_SCALES} scales"));
        }
        let id = self.computed(pending, quant)?;
        self.emitted.push((pending.clone(), quant, id));
        Ok(view(id))
    }

    fn computed(&mut self, pending: &Pending, quant: Quant) -> Result<TensorId, Why> {
        let &Pending { ref what, lo, hi, maker, .. } = pending;
        let bound = |x: f32| quantise(x, quant.scale, quant.zero_point);
        let clamp = Clamp { lo: bound(lo), hi: bound(hi), zero_point: quant.zero_point };
        let zero_point = |id: TensorId| self.get(id).quant.zero_point;
        let ratio = |id: TensorId| self.get(id).quant.scale / quant.scale;
        let addend = |id: TensorId| Addend { zero_point: zero_point(id), ratio: ratio(id) };
        let product = |a: TensorId, b: TensorId| self.get(a).quant.scale * self.get(b).quant.scale / quant.scale;
        let scales = |s: &[f32], bias: &Bias| -> Result<Vec<f32>, Why> {
            let s: Vec<f32> = s.iter().map(|s| s / quant.scale).collect();
            match s.iter().find(|s| !s.is_finite() || (bias.rounded && **s > COARSEST)) {
                None => Ok(s),
                Some(s) if s.is_finite() => {
                    Err(format!("its bias is real, and would be rounded to {s} of an output step; quantise it to int32"))
                }
                Some(_) => Err("a scale is out of range".into()),
            }
        };
        let (operation, sources) = match **what {
            Kind::Max(src, ref values, shape) => {
                // Quantising keeps order, so the largest may be chosen after it.
                let mapped = self.emit_function(src, &values.map(|x| x.max(lo).min(hi)), quant)?;
                (Operation::MaxPool(shape), vec![mapped])
            }
            Kind::Add(a, b, _) | Kind::Multiply(a, b)
                if self.origin(a).0 == self.origin(b).0 && self.get(a).len == self.get(b).len =>
            {
                // Sum or product of two tables of one tensor is a table of it.
                let ((src, fa), (_, fb)) = (self.origin(a), self.origin(b));
                let (za, zb) = (zero_point(a), zero_point(b));
                let table: Table = Box::new(std::array::from_fn(|code| match **what {
                    Kind::Add(_, _, sign) => add_rndne(fa[code], za, ratio(a), fb[code], zb, sign * ratio(b), clamp),
                    _ => {
                        let factors = (fa[code] as i32 - za as i32) * (fb[code] as i32 - zb as i32);
                        requant_rndne(factors, product(a, b), clamp)
                    }
                }));
                return self.emit_table(src, &table, quant);
            }
            Kind::Conv { src, shape, ref weights, ref bias, scales: ref s } => {
                let scales = scales(s, bias)?;
                let conv = Conv::new(self.kernels, shape, weights, bias.values.clone(), scales, zero_point(src), clamp);
                (Operation::Conv(conv), vec![src])
            }
            Kind::Dense(ref m, ref s) => {
                let scales = scales(s, &m.bias)?;
                let dense = Dense::new(self.kernels, &m.weights, m.bias.values.clone(), zero_point(m.src));
                (Operation::Dense(dense, scales, clamp), vec![m.src])
            }
            Kind::Add(a, b, sign) => {
                let subtrahend = Addend { ratio: sign * ratio(b), ..addend(b) };
                (Operation::Add([addend(a), subtrahend], clamp), vec![a, b])
            }
            Kind::Multiply(a, b) => (Operation::Multiply([zero_point(a), zero_point(b)], product(a, b), clamp), vec![a, b]),
            Kind::Affine(src, ref lines) => {
                let lines: Vec<[f32; 2]> = lines.iter().map(|[m, k]| [m * ratio(src), k / quant.scale]).collect();
                if !lines.as_flattened().iter().all(|x| x.is_finite()) {
                    return Err("a factor or addend is out of range".into());
                }
                (Operation::Affine(zero_point(src), lines, clamp), vec![src])
            }
            Kind::GlobalAverage(src, pixels) => {
                let own = self.get(src).quant;
                (Operation::GlobalAverage(own.zero_point, own.scale / (quant.scale * pixels as f32), clamp), vec![src])
            }
            Kind::GlobalAverageOf(src, ref values, pixels) => {
                if values.iter().any(|x| x.is_nan()) {
                    return Err("a function of its input has no value at some code".into());
                }
                // 15 bits and a sign a value: less than a thousandth of an int8 step is lost.
                let largest = values.iter().fold(f32::MIN_POSITIVE, |m, x| if x.is_finite() { m.max(x.abs()) } else { m });
                let unit = largest / 32767.0;
                let table = Box::new(values.map(|x| (x / unit).round_ties_even() as i32));
                (Operation::GlobalAverageOf(table, unit / (quant.scale * pixels as f32), clamp), vec![src])
            }
            Kind::AveragePool { src, shape, count_padding } => {
                (Operation::AveragePool(shape, zero_point(src), ratio(src), count_padding, clamp), vec![src])
            }
            Kind::Concat(ref parts) => {
                let part = |(id, run): &(TensorId, usize)| {
                    let table = self.identity(*id).map(|x| bound(x).clamp(clamp.lo, clamp.hi));
                    (*run, Box::new(table))
                };
                (Operation::Concat(parts.iter().map(part).collect()), parts.iter().map(|(id, _)| *id).collect())
            }
        };
        self.weights += operation.bytes();
        if self.weights > MAX_WEIGHTS {
            return Err(format!("more than {MAX_WEIGHTS} bytes of weights"));
        }
        let dst = self.tensor(pending.axes.dims().iter().product(), quant)?;
        self.push(maker, operation, sources, dst);
        Ok(dst)
    }
}
