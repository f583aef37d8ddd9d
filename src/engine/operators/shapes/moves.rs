//! Operators that only move values: joins, slices, other axes, other shapes.

use super::reductions::axes;
use super::{Facts, one};
use crate::engine::operators::{Call, Fact, Why, axis_of, broadcast, elements};
use crate::engine::proto::{Attribute, Constant, Type};

/// The shape of tensors one after the other along an axis.
fn joined(call: &Call<'_>, parts: &[usize]) -> Result<Vec<usize>, Why> {
    let mut dims = call.dims(parts[0])?.to_vec();
    let axis = call.axis("axis", 0, dims.len())?;
    for &part in &parts[1..] {
        let other = call.dims(part)?;
        let fits = other.len() == dims.len() && (0..dims.len()).all(|i| i == axis || other[i] == dims[i]);
        if !fits {
            return Err(format!("shapes {dims:?} and {other:?} do not join along axis {axis}"));
        }
        dims[axis] += other[axis];
    }
    Ok(dims)
}

pub(in crate::engine::operators) fn concat(call: &Call<'_>) -> Facts {
    let parts: Vec<usize> = (0..call.node.inputs.len()).collect();
    let first = call.fact(0)?.ty;
    if let Some(i) = parts.iter().find(|&&i| call.fact(i).is_ok_and(|f| f.ty != first)) {
        return Err(format!("input {i} is {}, input 0 {first}", call.fact(*i)?.ty));
    }
    one(first, joined(call, &parts)?)
}

pub(in crate::engine::operators) fn qlinear_concat(call: &Call<'_>) -> Facts {
    let parts: Vec<usize> = (2..call.node.inputs.len()).step_by(3).collect();
    if call.node.inputs.len() % 3 != 2 {
        return Err(format!("{} inputs, expected three a part", call.node.inputs.len() - 2));
    }
    let ty = call.shared(&parts, &[Type::I8, Type::U8])?;
    for &part in &parts {
        call.scale(part + 1, call.dims(part)?, None)?;
        call.zero_point(part + 2, ty)?;
    }
    call.scale(0, call.dims(parts[0])?, None)?;
    call.zero_point(1, ty)?;
    one(ty, joined(call, &parts)?)
}

pub(in crate::engine::operators) fn split(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let axis = call.axis("axis", 0, dims.len())?;
    let (all, n) = (dims[axis], call.node.outputs.len());
    let counted = call.int("num_outputs", n as i64) as usize;
    let sizes: Vec<i64> = match call.numbers(1, "split")? {
        Some(sizes) => sizes,
        None if counted != n => return Err(format!("num_outputs {counted}, it has {n}")),
        None if call.opset >= 18 && !call.node.attributes.contains_key("num_outputs") => {
            return Err("neither split nor num_outputs".into());
        }
        None if call.opset < 18 && !all.is_multiple_of(n) => return Err(format!("{all} values in {n} equal parts")),
        // The last part is smaller if the axis does not divide evenly.
        None => (0..n)
            .map(|i| {
                let part = all.div_ceil(n);
                part.min(all.saturating_sub(i * part)) as i64
            })
            .collect(),
    };
    let sum = sizes.iter().try_fold(0i64, |sum, s| sum.checked_add(*s).filter(|_| *s > 0));
    if sizes.len() != n || sum != Some(all as i64) {
        return Err(format!("parts of {sizes:?} for {n} outputs of {all} values"));
    }
    let part = |size: i64| {
        let mut dims = dims.clone();
        dims[axis] = size as usize;
        Fact { ty: *ty, dims }
    };
    Ok(sizes.into_iter().map(part).collect())
}

/// First index, step and number of what a Slice takes of one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Taken {
    pub(in crate::engine) start: usize,
    pub(in crate::engine) step: i64,
    pub(in crate::engine) n: usize,
}

/// What a Slice takes of each axis, as numpy's indexing has it.
pub(in crate::engine) fn taken(
    dims: &[usize],
    [starts, ends]: [&[i64]; 2],
    stated: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> Result<Vec<Taken>, Why> {
    let n = starts.len();
    if ends.len() != n || stated.is_some_and(|a| a.len() != n) || steps.is_some_and(|s| s.len() != n) || n > dims.len() {
        return Err(format!("{n} starts, {} ends, axes {stated:?}, steps {steps:?}", ends.len()));
    }
    let mut all: Vec<Taken> = dims.iter().map(|&n| Taken { start: 0, step: 1, n }).collect();
    let mut seen = vec![false; dims.len()];
    for i in 0..n {
        let axis = stated.map_or(Ok(i), |a| axis_of(a[i], dims.len()))?;
        let (size, step) = (dims[axis] as i64, steps.map_or(1, |s| s[i]));
        if std::mem::replace(&mut seen[axis], true) || step == 0 || step == i64::MIN {
            return Err(format!("axis {axis} twice, or a step of {step}"));
        }
        let from_start = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
        let (start, end) = match step > 0 {
            true => (from_start(starts[i]).clamp(0, size), from_start(ends[i]).clamp(0, size)),
            false if size == 0 => (0, 0),
            false => (from_start(starts[i]).clamp(0, size - 1), from_start(ends[i]).clamp(-1, size - 1)),
        };
        let distance = if step > 0 { end - start } else { start - end };
        let n = (distance.max(0) as u64).div_ceil(step.unsigned_abs()) as usize;
        all[axis] = Taken { start: start.max(0) as usize, step, n };
    }
    Ok(all)
}

impl Call<'_> {
    /// What this Slice takes of each axis.
    pub(in crate::engine::operators) fn taken(&self) -> Result<Vec<Taken>, Why> {
        let starts = self.numbers(1, "starts")?.ok_or("its starts are missing")?;
        let ends = self.numbers(2, "ends")?.ok_or("its ends are missing")?;
        let (axes, steps) = (self.numbers(3, "axes")?, self.numbers(4, "steps")?);
        taken(self.dims(0)?, [&starts, &ends], axes.as_deref(), steps.as_deref())
    }
}

pub(in crate::engine::operators) fn slice(call: &Call<'_>) -> Facts {
    one(call.fact(0)?.ty, call.taken()?.iter().map(|t| t.n).collect::<Vec<_>>())
}

pub(in crate::engine::operators) fn flatten(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let axis = call.int("axis", 1);
    // Unlike elsewhere the axis may be the one behind the last.
    let axis = if axis == dims.len() as i64 { dims.len() } else { axis_of(axis, dims.len())? };
    if call.opset < 11 && call.int("axis", 1) < 0 {
        return Err("a negative axis before opset 11".into());
    }
    one(*ty, [dims[..axis].iter().product(), dims[axis..].iter().product::<usize>()])
}

pub(in crate::engine::operators) fn reshape(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let wanted = call.numbers(1, "shape")?.ok_or("its shape is missing")?;
    let len = elements(dims).unwrap_or(0);
    let refuse = || format!("from {dims:?} to {wanted:?}");
    let copied = call.int("allowzero", 0) == 0;
    let (mut to, mut open, mut known) = (Vec::with_capacity(wanted.len()), None, 1usize);
    for (i, &d) in wanted.iter().enumerate() {
        let d = match d {
            0 if copied => *dims.get(i).ok_or_else(refuse)?,
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            d => usize::try_from(d).map_err(|_| refuse())?,
        };
        known = known.checked_mul(d).filter(|k| *k <= len).ok_or_else(refuse)?;
        to.push(d);
    }
    match open {
        Some(i) if known > 0 && len.is_multiple_of(known) => to[i] = len / known,
        None if known == len => {}
        _ => return Err(refuse()),
    }
    one(*ty, to)
}

pub(in crate::engine::operators) fn squeeze(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let taken = match call.numbers(1, "axes")? {
        Some(stated) => axes(&stated, dims.len())?,
        None => (0..dims.len()).filter(|&i| dims[i] == 1).collect(),
    };
    if let Some(i) = taken.iter().find(|&&i| dims[i] != 1) {
        return Err(format!("axis {i} of {dims:?} has more than one value"));
    }
    let left = dims.iter().enumerate().filter(|(i, _)| !taken.contains(i)).map(|(_, d)| *d);
    one(*ty, left.collect::<Vec<_>>())
}

pub(in crate::engine::operators) fn unsqueeze(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let stated = call.numbers(1, "axes")?.ok_or("its axes are missing")?;
    let rank = dims.len() + stated.len();
    let new = axes(&stated, rank)?;
    let mut old = dims.iter();
    let at = |i: usize| if new.contains(&i) { Some(1) } else { old.next().copied() };
    one(*ty, (0..rank).map_while(at).collect::<Vec<_>>())
}

pub(in crate::engine::operators) fn transpose(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let perm = permutation(call)?;
    one(*ty, perm.iter().map(|&i| dims[i]).collect::<Vec<_>>())
}

/// The axis of the input that each axis of the output is.
pub(in crate::engine::operators) fn permutation(call: &Call<'_>) -> Result<Vec<usize>, Why> {
    let rank = call.dims(0)?.len();
    let Some(Attribute::Ints(perm)) = call.node.attributes.get("perm") else { return Ok((0..rank).rev().collect()) };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    match sorted.iter().copied().eq(0..rank as i64) {
        true => Ok(perm.iter().map(|&p| p as usize).collect()),
        false => Err(format!("perm {perm:?} of {rank} axes")),
    }
}

pub(in crate::engine::operators) fn shape(call: &Call<'_>) -> Facts {
    one(Type::I64, [shape_range(call)?.len()])
}

/// The axes whose sizes a Shape gives.
pub(in crate::engine::operators) fn shape_range(call: &Call<'_>) -> Result<std::ops::Range<usize>, Why> {
    let rank = call.dims(0)?.len() as i64;
    let at = |name: &str, default: i64| {
        let v = call.int(name, default);
        (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize
    };
    let start = at("start", 0);
    Ok(start..at("end", rank).max(start))
}

pub(in crate::engine::operators) fn size(_: &Call<'_>) -> Facts {
    one(Type::I64, [])
}

pub(in crate::engine::operators) fn gather(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let axis = call.axis("axis", 0, dims.len())?;
    let indices = call.constant(1).and_then(Constant::integers).unwrap_or_default();
    if let Some(beyond) = indices.iter().find(|i| axis_of(**i, dims[axis]).is_err()) {
        return Err(format!("index {beyond} of {}", dims[axis]));
    }
    one(*ty, [&dims[..axis], call.dims(1)?, &dims[axis + 1..]].concat())
}

/// A shape that is the constant input `i`.
fn shape_input(call: &Call<'_>, i: usize) -> Result<Vec<usize>, Why> {
    let stated = call.constant(i).and_then(Constant::integers).ok_or("its shape must be constant integers")?;
    stated.iter().map(|&d| usize::try_from(d).map_err(|_| format!("shape {stated:?}"))).collect()
}

pub(in crate::engine::operators) fn constant_of_shape(call: &Call<'_>) -> Facts {
    let ty = match call.node.attributes.get("value") {
        Some(Attribute::Tensor(c)) if c.dims == [1] => c.values.element(),
        Some(_) => return Err("its value must be one number".into()),
        None => Type::F32,
    };
    one(ty, shape_input(call, 0)?)
}

pub(in crate::engine::operators) fn expand(call: &Call<'_>) -> Facts {
    one(call.fact(0)?.ty, broadcast(call.dims(0)?, &shape_input(call, 1)?)?)
}
