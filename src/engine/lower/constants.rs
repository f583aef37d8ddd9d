//! Constants as operators read them: integers minus their zero points, or real values.
//!
//! A dequantised constant keeps its integers; each reader takes what it needs, a convolution the
//! integers, an addition the real values.

use super::{Axes, Lowering, MAX_MOVED, Value, Why};
use crate::engine::operators::{picked, turned};
use crate::engine::proto::{Constant, Node, Values};
use std::borrow::Cow;

/// DequantizeLinear of a constant: zero points and scales, one or one a slice of `axis`.
#[derive(Clone, Debug)]
pub(super) struct Weights<'g> {
    pub(super) constant: Cow<'g, Constant>,
    pub(super) zero_points: Vec<i32>,
    pub(super) scales: Vec<f32>,
    pub(super) axis: usize,
}

impl Weights<'_> {
    /// The values less their zero points.
    pub(super) fn centred(&self) -> Result<Vec<i32>, Why> {
        let mut values = integers(&self.constant.values)?;
        take_off(&mut values, &self.constant, &self.zero_points, self.axis, |v, zp| v.wrapping_sub(zp))?;
        Ok(values)
    }

    /// The real values, in ONNX's order.
    pub(super) fn reals(&self) -> Result<Vec<f32>, Why> {
        let values = self.centred()?;
        let inner: usize = match self.scales.len() {
            1 => values.len(),
            _ => self.constant.dims[self.axis + 1..].iter().product(),
        };
        let scale = |i: usize| self.scales[i / inner.max(1) % self.scales.len()];
        Ok(values.iter().enumerate().map(|(i, v)| *v as f32 * scale(i)).collect())
    }

    /// With its axes permuted.
    pub(super) fn transposed(&self, perm: &[usize]) -> Self {
        let dims = perm.iter().map(|&p| self.constant.dims[p]).collect();
        let values = picked(&self.constant, &turned(&self.constant.dims, perm));
        let axis = perm.iter().position(|&p| p == self.axis).unwrap_or(0);
        Self { constant: Cow::Owned(Constant { dims, values }), axis, ..self.clone() }
    }

    /// In another shape, if its scales still lie along one axis.
    pub(super) fn reshaped(&self, to: &[usize]) -> Option<Self> {
        let from = &self.constant.dims;
        let axis = match self.scales.len() {
            1 => 0,
            n => {
                let outer: usize = from[..self.axis].iter().product();
                (0..to.len()).find(|&a| to[a] == n && to[..a].iter().product::<usize>() == outer)?
            }
        };
        let constant = Constant { dims: to.to_vec(), values: self.constant.values.clone() };
        Some(Self { constant: Cow::Owned(constant), axis, ..self.clone() })
    }
}

impl<'g> Lowering<'g> {
    /// An operand of the graph, or a real constant.
    pub(super) fn operand(&self, node: &'g Node, i: usize) -> Result<Value<'g>, Why> {
        match self.constant(node, i) {
            Err(_) => self.take(node, i),
            Ok(Constant { dims, values: Values::F32(v) }) => {
                Ok(Value::Constant { dims: dims.clone(), values: Cow::Borrowed(v) })
            }
            Ok(other) => Err(format!("input {i} is a constant of {}, expected float", other.values.element())),
        }
    }
}

/// Shape and real values.
pub(super) type Reals = (Vec<usize>, Vec<f32>);

/// The shape and the values of a constant; `None` for what is none.
pub(super) fn reals(value: &Value<'_>) -> Result<Option<Reals>, Why> {
    Ok(match value {
        Value::Constant { dims, values } => Some((dims.clone(), values.to_vec())),
        Value::Weights(w) => Some((w.constant.dims.clone(), w.reals()?)),
        _ => None,
    })
}

/// What was broadcast to `axes` from `dims`, place by place, without what repeats: entry `p % len`
/// belongs to place `p`.
pub(super) fn by_place<T: Copy>(
    values: &[T],
    dims: &[usize],
    axes: &Axes,
    same: impl Fn(T, T) -> bool,
) -> Result<Vec<T>, Why> {
    let to = axes.dims();
    let missing = to.len() - dims.len();
    let varying: Vec<usize> = (0..dims.len()).filter(|&i| dims[i] != 1).collect();
    match varying.as_slice() {
        [] => return Ok(values.to_vec()),
        &[axis] if axes.is_innermost(axis + missing) => return Ok(values.to_vec()),
        _ if to.iter().product::<usize>() > MAX_MOVED => {
            return Err(format!("constants of shape {dims:?} for {to:?}, at most {MAX_MOVED} values"));
        }
        _ => {}
    }
    let from = Axes::rows(dims).places_in(&to);
    let mut all = vec![values[0]; from.len()];
    axes.places().into_iter().zip(from).for_each(|(place, from)| all[place as usize] = values[from as usize]);
    let repeats = |n: &usize| all.len().is_multiple_of(*n) && all[*n..].iter().zip(&all).all(|(a, b)| same(*a, *b));
    let period = (1..=all.len() / 2).find(repeats).unwrap_or(all.len());
    all.truncate(period);
    Ok(all)
}

pub(super) fn integers(values: &Values) -> Result<Vec<i32>, Why> {
    Ok(match values {
        Values::I8(v) => v.iter().map(|&v| v as i32).collect(),
        Values::U8(v) => v.iter().map(|&v| v as i32).collect(),
        Values::I32(v) => v.clone(),
        other => return Err(format!("integers of {}, expected 8 or 32 bits", other.element())),
    })
}

/// Weights of 8 bits, less their zero points of 8 bits.
pub(super) fn centred_weights(constant: &Constant, zero_points: &[i32], axis: usize) -> Result<Vec<i16>, Why> {
    let mut values: Vec<i16> = match &constant.values {
        Values::I8(v) => v.iter().map(|&v| v.into()).collect(),
        Values::U8(v) => v.iter().map(|&v| v.into()).collect(),
        other => return Err(format!("weights of {}, expected 8 bits", other.element())),
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
