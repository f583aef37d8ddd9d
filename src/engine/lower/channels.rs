//! Operators that only move values: channels joined, split and shuffled, shapes changed.
//!
//! Computes nothing. A tensor lies as rows, columns, channels whatever ONNX calls its shape.

use super::window::{axis, int};
use super::{Kind, Lowering, Pending, Shape, Value, Why};
use crate::engine::operation::Operation;
use crate::engine::plan::TensorId;
use crate::engine::proto::{Attribute, Node};

impl<'g> Lowering<'g> {
    /// Whether an axis is that of the channels.
    fn is_channel_axis(&self, id: TensorId, axis: i64) -> bool {
        let vector = self.get(id).dims[..2] == [1, 1];
        axis == 1 || axis == -3 || (vector && axis == -1)
    }

    /// An int8 tensor or its real view, and whether it is the latter.
    fn tensor_or_view(&mut self, node: &'g Node, i: usize) -> Result<(TensorId, bool), Why> {
        match self.take(node, i)? {
            Value::Int(id) => Ok((id, false)),
            Value::Real(id) => Ok((id, true)),
            other => Err(format!("input {i} is {}, expected an int8 tensor or its real view", other.describe())),
        }
    }

    pub(super) fn concat_of(&self, parts: Vec<TensorId>, axis: i64) -> Result<Pending, Why> {
        let first = &self.get(*parts.first().ok_or("no inputs")?).dims;
        if !self.is_channel_axis(parts[0], axis) {
            return Err(format!("along axis {axis}, expected the channels'"));
        }
        if let Some(odd) = parts.iter().find(|id| self.get(**id).dims[..2] != first[..2]) {
            return Err(format!("pictures of {:?} and {:?}", first, self.get(*odd).dims));
        }
        let channels = parts.iter().map(|id| self.get(*id).dims[2]).sum();
        let dims = vec![first[0], first[1], channels];
        Ok(Pending::new(Kind::Concat(parts), dims))
    }

    pub(super) fn concat(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let axis = axis(node, "axis", i64::MAX)?;
        let parts: Vec<TensorId> = (0..node.inputs.len()).map(|i| self.real(node, i)).collect::<Result<_, _>>()?;
        self.concat_of(parts, axis).map(Value::Pending)
    }

    fn channels_of(&mut self, (src, real): (TensorId, bool), at: usize, channels: usize) -> Result<Value<'g>, Why> {
        let &[h, w, all] = self.get(src).dims.as_slice() else { return Err("its input is no picture".into()) };
        let dst = self.tensor(vec![h, w, channels], self.get(src).quant)?;
        self.push(Operation::TakeChannels { all, at, channels }, vec![src], dst);
        Ok(if real { Value::Real(dst) } else { Value::Int(dst) })
    }

    pub(super) fn split(&mut self, node: &'g Node) -> Result<Vec<Value<'g>>, Why> {
        let from = self.tensor_or_view(node, 0)?;
        let axis = axis(node, "axis", 0)?;
        let all = self.get(from.0).dims[2];
        let n = node.outputs.len();
        if !self.is_channel_axis(from.0, axis) || n == 0 {
            return Err(format!("along axis {axis}, expected the channels'"));
        }
        let sizes = match self.whole_numbers(node, 1, "split")? {
            Some(sizes) => sizes.iter().map(|&s| usize::try_from(s).unwrap_or(0)).collect(),
            None if all.is_multiple_of(n) => vec![all / n; n],
            None => return Err(format!("{all} channels in {n} parts")),
        };
        let sum = sizes.iter().try_fold(0usize, |sum, s| sum.checked_add(*s));
        if sizes.len() != n || sizes.contains(&0) || sum != Some(all) {
            return Err(format!("parts of {sizes:?} for {n} outputs of {all} channels"));
        }
        let mut at = 0;
        let part = |size: &usize| {
            at += size;
            self.channels_of(from, at - size, *size)
        };
        sizes.iter().map(part).collect()
    }

    pub(super) fn slice(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let from = self.tensor_or_view(node, 0)?;
        let all = self.get(from.0).dims[2];
        let one = |v: Option<Vec<i64>>, default: i64| match v.as_deref() {
            None => Ok(default),
            Some(&[v]) => Ok(v),
            Some(v) => Err(format!("{v:?}, expected one axis")),
        };
        let start = one(self.whole_numbers(node, 1, "starts")?, 0)?;
        let end = one(self.whole_numbers(node, 2, "ends")?, i64::MAX)?;
        let axis = one(self.whole_numbers(node, 3, "axes")?, 0)?;
        let step = one(self.whole_numbers(node, 4, "steps")?, 1)?;
        let place = |v: i64| (if v < 0 { v.saturating_add(all as i64) } else { v }).clamp(0, all as i64) as usize;
        let (start, end) = (place(start), place(end));
        if !self.is_channel_axis(from.0, axis) || step != 1 || start >= end {
            return Err(format!("{start}..{end} by {step} along axis {axis}, expected channels by 1"));
        }
        self.channels_of(from, start, end - start)
    }

    /// The exchange of groups and what is in them, in the middle of a channel shuffle.
    pub(super) fn transpose(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let perm = match node.attributes.get("perm") {
            Some(Attribute::Ints(perm)) => perm.as_slice(),
            other => return Err(format!("perm {other:?}, expected integers")),
        };
        match self.take(node, 0)? {
            Value::Reshaped { id, shape: Shape::Grouped { groups, exchanged: false }, real } if perm == [0, 2, 1, 3, 4] => {
                Ok(Value::Reshaped { id, shape: Shape::Grouped { groups, exchanged: true }, real })
            }
            other => Err(format!("{} by {perm:?}, expected a channel shuffle", other.describe())),
        }
    }

    /// Reshape and its kin: nothing to a vector; a picture is flattened, or its channels are put in groups and back.
    pub(super) fn reshape(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let value = self.take(node, 0)?;
        let (dims, shape) = match &value {
            Value::Int(id) | Value::Real(id) | Value::Function { src: id, .. } => (self.get(*id).dims.clone(), None),
            Value::Reshaped { id, shape, .. } => (self.get(*id).dims.clone(), Some(*shape)),
            Value::Pending(p) => (p.dims.clone(), None),
            Value::Scores(..) => return Ok(value),
            other => return Err(format!("input is {}", other.describe())),
        };
        let &[h, w, c] = dims.as_slice() else { return Err("its input is no picture".into()) };
        let len = h * w * c;
        let wanted = match node.op.as_str() {
            "Reshape" => self.whole_numbers(node, 1, "shape")?.ok_or("no shape")?,
            "Flatten" if int(node, "axis", 1)? == 1 => vec![1, -1],
            // Only what has one value along an axis can lose or gain it: a vector stays one.
            "Squeeze" | "Unsqueeze" if h * w == 1 => vec![1, c as i64],
            _ => return Err(format!("its input has {h}x{w} pixels")),
        };
        let to = resolve(&wanted, &[1, c, h, w], len)?;
        let inner: Vec<usize> = to.iter().copied().filter(|d| *d != 1).collect();
        match (shape, value) {
            (None, value) if h * w == 1 && inner.len() <= 1 => Ok(value),
            (None, value) if to == [1, c, h, w] => Ok(value),
            (Some(Shape::Flat), value) if inner == [len] => Ok(value),
            (None, Value::Int(id)) if inner == [len] => Ok(Value::Reshaped { id, shape: Shape::Flat, real: false }),
            (None, Value::Real(id)) if inner == [len] => Ok(Value::Reshaped { id, shape: Shape::Flat, real: true }),
            (None, ref from @ (Value::Int(id) | Value::Real(id)))
                if to.len() == 5 && to[0] == 1 && to[1] > 0 && to[1] * to[2] == c && to[3..] == [h, w] =>
            {
                let shape = Shape::Grouped { groups: to[1], exchanged: false };
                Ok(Value::Reshaped { id, shape, real: matches!(from, Value::Real(_)) })
            }
            (Some(Shape::Grouped { groups, exchanged }), Value::Reshaped { id, real, .. }) if to == [1, c, h, w] => {
                let mut dst = id;
                if exchanged {
                    dst = self.tensor(dims, self.get(id).quant)?;
                    self.push(Operation::ShuffleChannels { channels: c, groups }, vec![id], dst);
                }
                Ok(if real { Value::Real(dst) } else { Value::Int(dst) })
            }
            (_, value) => Err(format!("{} to {wanted:?}, expected a vector or groups of channels", value.describe())),
        }
    }
}

/// A shape with 0 (as the input has it) and -1 (what is left) filled in.
fn resolve(wanted: &[i64], input: &[usize; 4], len: usize) -> Result<Vec<usize>, Why> {
    let refuse = || format!("to shape {wanted:?}, which does not hold {len} values");
    let mut known = 1usize;
    let mut to = Vec::with_capacity(wanted.len());
    for (i, &d) in wanted.iter().enumerate() {
        let d = match d {
            0 => *input.get(i).ok_or_else(refuse)?,
            -1 => 0,
            d => usize::try_from(d).map_err(|_| refuse())?,
        };
        known = known.checked_mul(d.max(1)).filter(|k| *k <= len).ok_or_else(refuse)?;
        to.push(d);
    }
    match to.iter().filter(|d| **d == 0).count() {
        0 if known == len => {}
        1 if len.is_multiple_of(known) => to.iter_mut().filter(|d| **d == 0).for_each(|d| *d = len / known),
        _ => return Err(refuse()),
    }
    Ok(to)
}
