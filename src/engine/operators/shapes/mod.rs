//! The shape rules: type and shape of an operator's outputs, from those of its inputs and from its
//! attributes.
//!
//! As ONNX's operator specification has them. A rule also refuses what an operator may not be
//! given. Here are the formats and the operators that treat each value by itself.

mod moves;
mod reals;
mod reductions;

use super::{Call, Fact, Why, broadcast, elements};
use crate::engine::proto::{Type, Values};
pub(super) use moves::*;
pub(super) use reals::*;
pub(super) use reductions::*;
pub(in crate::engine) use {
    moves::{Taken, taken},
    reductions::{reduced_axes, spread_pads},
};

type Facts = Result<Vec<Fact>, Why>;

fn one(ty: Type, dims: impl Into<Vec<usize>>) -> Facts {
    Ok(vec![Fact { ty, dims: dims.into() }])
}

impl Call<'_> {
    /// The type that the inputs share, which must be one of `of`.
    fn shared(&self, inputs: &[usize], of: &[Type]) -> Result<Type, Why> {
        let first = self.fact(inputs[0])?.ty;
        for &i in inputs {
            let ty = self.fact(i)?.ty;
            if !of.contains(&ty) {
                let of: Vec<String> = of.iter().map(Type::to_string).collect();
                return Err(format!("input {i} is {ty}, expected {}", of.join(" or ")));
            }
            if ty != first {
                return Err(format!("input {i} is {ty}, input {} {first}", inputs[0]));
            }
        }
        Ok(first)
    }

    fn real(&self, i: usize) -> Result<(), Why> {
        self.shared(&[i], &[Type::F32]).map(drop)
    }

    fn integer(&self, i: usize) -> Result<Type, Why> {
        self.shared(&[i], &[Type::I8, Type::U8])
    }

    /// Input `i`'s batch, channels, rows and columns.
    fn image(&self, i: usize) -> Result<[usize; 4], Why> {
        let dims = self.dims(i)?;
        <[usize; 4]>::try_from(dims)
            .map_err(|_| format!("input {i} is of shape {dims:?}, expected [1, channels, rows, columns]"))
    }

    /// As [`Self::image`]; of a tensor over one axis, `[n, channels, columns]`, with one row.
    fn lifted(&self, i: usize, axes: usize) -> Result<[usize; 4], Why> {
        match (axes, self.dims(i)?) {
            (1, &[n, channels, columns]) => Ok([n, channels, 1, columns]),
            (1, dims) => Err(format!("input {i} is of shape {dims:?}, expected 3 axes")),
            _ => self.image(i),
        }
    }

    /// Checks scale `i` and zero point `i + 1` of an int8 tensor `of`: one or one a slice of
    /// `axis`.
    fn scale(&self, i: usize, of: &[usize], axis: Option<usize>) -> Result<(), Why> {
        self.real(i)?;
        let single = |dims: &[usize]| dims.len() <= 1 && dims.iter().product::<usize>() == 1;
        let sliced = |dims: &[usize]| matches!((dims, axis), (&[n], Some(axis)) if of.get(axis) == Some(&n));
        let scale = self.dims(i)?;
        if !single(scale) && !sliced(scale) {
            return Err(format!("scales of shape {scale:?} for axis {axis:?} of {of:?}, expected one, or one a slice"));
        }
        if self.has(i + 1) {
            let zero_point = self.dims(i + 1)?;
            if zero_point.iter().product::<usize>() != scale.iter().product::<usize>() || zero_point.len() > 1 {
                return Err(format!("zero points of shape {zero_point:?}, scales {scale:?}"));
            }
        }
        Ok(())
    }

    /// Checks that zero point `i`, if it is there, is of the type of the tensor.
    fn zero_point(&self, i: usize, ty: Type) -> Result<(), Why> {
        match self.has(i).then(|| self.fact(i)).transpose()? {
            Some(zero_point) if zero_point.ty != ty => {
                Err(format!("zero point of {}, its tensor is of {ty}", zero_point.ty))
            }
            _ => Ok(()),
        }
    }

    /// The type of a quantised output whose zero point is input `i`.
    fn output_type(&self, i: usize, default: Type) -> Result<Type, Why> {
        match self.has(i) {
            true => self.integer(i),
            false => Ok(default),
        }
    }
}

pub(super) fn first(call: &Call<'_>) -> Facts {
    if call.node.op.starts_with("QLinear") {
        let ty = call.integer(0)?;
        call.scale(1, call.dims(0)?, None)?;
        call.zero_point(2, ty)?;
        call.scale(3, call.dims(0)?, None)?;
        return one(call.output_type(4, Type::U8)?, call.dims(0)?);
    }
    Ok(vec![call.fact(0)?.clone()])
}

pub(super) fn real(call: &Call<'_>) -> Facts {
    call.real(0)?;
    first(call)
}

/// Bounds are single values of the tensor's own type, which since opset 12 may be int8 or uint8.
pub(super) fn clip(call: &Call<'_>) -> Facts {
    let of: &[Type] = if call.opset >= 12 { &[Type::F32, Type::I8, Type::U8] } else { &[Type::F32] };
    let ty = call.shared(&[0], of)?;
    for i in (1..call.node.inputs.len()).filter(|&i| call.has(i)) {
        call.shared(&[i], &[ty])?;
        if elements(call.dims(i)?) != Some(1) {
            return Err(format!("input {i} is of shape {:?}, expected one value", call.dims(i)?));
        }
    }
    first(call)
}

pub(super) fn dropout(call: &Call<'_>) -> Facts {
    let training = call.has(2).then(|| call.constant(2).map(|c| &c.values));
    match training {
        None => first(call),
        Some(Some(Values::Bool(v))) if v.iter().all(|v| !v) => first(call),
        _ => Err("it may be in training; export the model for inference".into()),
    }
}

pub(super) fn quantize(call: &Call<'_>) -> Facts {
    if call.fact(0)?.ty != Type::F32 {
        return Err(format!("input 0 is {}, expected float", call.fact(0)?.ty));
    }
    let stated = call.int("output_dtype", 0);
    let stated = (stated != 0).then(|| Type::of_number(stated));
    let ty = match (call.has(2).then(|| call.fact(2)).transpose()?, stated) {
        (Some(zero_point), Some(stated)) if zero_point.ty != stated => {
            return Err(format!("output_dtype {stated}, its zero point is {}", zero_point.ty));
        }
        (Some(zero_point), _) => zero_point.ty,
        (None, stated) => stated.unwrap_or(Type::U8),
    };
    if !matches!(ty, Type::I8 | Type::U8) {
        return Err(format!("it quantises to {ty}, expected int8 or uint8: quantise the model with 8 bits"));
    }
    let dims = call.dims(0)?;
    call.scale(1, dims, axis_of_scales(call, dims))?;
    one(ty, dims)
}

pub(super) fn dequantize(call: &Call<'_>) -> Facts {
    let ty = call.shared(&[0], &[Type::I8, Type::U8, Type::I32])?;
    call.zero_point(2, ty)?;
    let dims = call.dims(0)?;
    call.scale(1, dims, axis_of_scales(call, dims))?;
    one(Type::F32, dims)
}

/// The axis that several scales lie along; before opset 13 there was none.
fn axis_of_scales(call: &Call<'_>, dims: &[usize]) -> Option<usize> {
    (call.node.microsoft || call.opset >= 13).then(|| call.axis("axis", 1, dims.len()).ok()).flatten()
}

/// Operators of two tensors that broadcast.
pub(super) fn binary(call: &Call<'_>) -> Facts {
    let ty = call.shared(&[0, 1], &[Type::F32, Type::I64, Type::I32])?;
    one(ty, broadcast(call.dims(0)?, call.dims(1)?)?)
}

/// A slope broadcasts to the input, never the input to it.
pub(super) fn prelu(call: &Call<'_>) -> Facts {
    let (facts, dims) = (binary(call)?, call.dims(0)?);
    if facts[0].dims == dims { Ok(facts) } else { Err(format!("a slope of shape {:?} for {dims:?}", call.dims(1)?)) }
}

pub(super) fn variadic(call: &Call<'_>) -> Facts {
    let inputs: Vec<usize> = (0..call.node.inputs.len()).collect();
    let ty = call.shared(&inputs, &[Type::F32, Type::I64, Type::I32])?;
    let mut dims = Vec::new();
    for i in inputs {
        dims = broadcast(&dims, call.dims(i)?)?;
    }
    one(ty, dims)
}

pub(super) fn qlinear_binary(call: &Call<'_>) -> Facts {
    let ty = call.shared(&[0, 3], &[Type::I8, Type::U8])?;
    for (i, operand) in [(1, 0), (4, 3), (6, 0)] {
        call.scale(i, call.dims(operand)?, None)?;
        call.zero_point(i + 1, ty)?;
    }
    let has = [2, 5, 7].map(|i| call.has(i));
    if ty == Type::I8 && has != [true; 3] && has != [false; 3] {
        return Err("some of its zero points are missing".into());
    }
    one(ty, broadcast(call.dims(0)?, call.dims(3)?)?)
}

pub(super) fn batch_normalization(call: &Call<'_>) -> Facts {
    (0..5).try_for_each(|i| call.real(i))?;
    let dims = call.dims(0)?;
    let channels = dims.get(1).copied().unwrap_or(1);
    match (1..5).find(|&i| call.dims(i).ok() != Some(&[channels])) {
        Some(i) => Err(format!("input {i} is of shape {:?}, expected [{channels}]", call.dims(i)?)),
        None => one(Type::F32, dims),
    }
}

pub(super) fn cast(call: &Call<'_>) -> Facts {
    one(Type::of_number(call.int("to", 0)), call.dims(0)?)
}

pub(super) fn softmax(call: &Call<'_>) -> Facts {
    let rank = call.dims(0)?.len();
    call.axis("axis", if call.opset >= 13 { -1 } else { 1 }, rank)?;
    real(call)
}
