//! The shape rules: type and shape of an operator's outputs, from those of its inputs and from its attributes.
//!
//! As ONNX's operator specification has them. A rule also refuses what an operator may not be given.

use super::window::{Window, kernel_shape};
use super::{Call, Fact, Why, axis_of, broadcast, elements};
use crate::engine::proto::{Attribute, Constant, Type, Values};

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

    /// Checks scale `i` and zero point `i + 1` of an int8 tensor `of`: one or one a slice of `axis`.
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
    for i in (1..call.node.inputs.len()).filter(|&i| call.has(i)) {
        call.real(i)?;
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
        return Err(format!("it quantises to {ty}, expected int8 or uint8"));
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

fn convolution(call: &Call<'_>, weights: usize, bias: usize) -> Result<Vec<usize>, Why> {
    let ([n, c, h, w], [out, cg, kh, kw]) = (call.image(0)?, call.image(weights)?);
    let groups = call.int("group", 1) as usize;
    if cg.checked_mul(groups) != Some(c) || out == 0 || !out.is_multiple_of(groups) {
        return Err(format!("weights {:?} in {groups} groups do not fit {c} input channels", [out, cg, kh, kw]));
    }
    if let Some(stated) = kernel_shape(call.node)?
        && stated != [kh, kw]
    {
        return Err(format!("kernel_shape {stated:?}, its weights have {:?}", [kh, kw]));
    }
    if call.has(bias) && call.dims(bias)? != [out] {
        return Err(format!("a bias of shape {:?}, expected [{out}]", call.dims(bias)?));
    }
    let [oh, ow] = Window::read(call.node, [h, w], [kh, kw])?.output;
    Ok(vec![n, out, oh, ow])
}

pub(super) fn conv(call: &Call<'_>) -> Facts {
    (0..call.node.inputs.len()).filter(|&i| call.has(i)).try_for_each(|i| call.real(i))?;
    one(Type::F32, convolution(call, 1, 2)?)
}

pub(super) fn qlinear_conv(call: &Call<'_>) -> Facts {
    let (ty, weights) = (call.integer(0)?, call.integer(3)?);
    call.zero_point(2, ty)?;
    call.zero_point(5, weights)?;
    call.scale(1, call.dims(0)?, None)?;
    call.scale(4, call.dims(3)?, Some(0))?;
    call.scale(6, call.dims(0)?, None)?;
    if call.has(8) {
        call.shared(&[8], &[Type::I32])?;
    }
    one(call.output_type(7, Type::U8)?, convolution(call, 3, 8)?)
}

/// Shape of a product of two tensors, as numpy's matmul has it.
fn product(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Why> {
    let refuse = || format!("shapes {a:?} and {b:?} do not multiply");
    let (&inner, &last) = (a.last().ok_or_else(refuse)?, b.last().ok_or_else(refuse)?);
    let rows = a.len().checked_sub(2).map(|i| a[i]);
    let (depth, columns) = match b.len() {
        1 => (last, None),
        n => (b[n - 2], Some(last)),
    };
    if inner != depth {
        return Err(refuse());
    }
    let mut dims = broadcast(&a[..a.len().saturating_sub(2)], &b[..b.len().saturating_sub(2)])?;
    dims.extend(rows);
    dims.extend(columns);
    Ok(dims)
}

pub(super) fn matmul(call: &Call<'_>) -> Facts {
    let ty = call.shared(&[0, 1], &[Type::F32])?;
    one(ty, product(call.dims(0)?, call.dims(1)?)?)
}

pub(super) fn matmul_integer(call: &Call<'_>) -> Facts {
    let (a, b) = (call.integer(0)?, call.integer(1)?);
    call.zero_point(2, a)?;
    call.zero_point(3, b)?;
    one(Type::I32, product(call.dims(0)?, call.dims(1)?)?)
}

pub(super) fn qlinear_matmul(call: &Call<'_>) -> Facts {
    let (a, b) = (call.integer(0)?, call.integer(3)?);
    call.zero_point(2, a)?;
    call.zero_point(5, b)?;
    call.scale(1, call.dims(0)?, None)?;
    call.scale(4, call.dims(3)?, call.dims(3)?.len().checked_sub(1))?;
    call.scale(6, call.dims(0)?, None)?;
    one(call.output_type(7, Type::U8)?, product(call.dims(0)?, call.dims(3)?)?)
}

/// Rows and columns of the product, and a check of what is added to it.
fn general_product(call: &Call<'_>, b: usize, c: usize) -> Result<[usize; 2], Why> {
    let turned = |i: usize, name: &str| -> Result<[usize; 2], Why> {
        match (call.dims(i)?, call.int(name, 0)) {
            (&[rows, columns], 0) => Ok([rows, columns]),
            (&[rows, columns], _) => Ok([columns, rows]),
            (dims, _) => Err(format!("input {i} is of shape {dims:?}, expected 2 axes")),
        }
    };
    let ([m, k], [depth, n]) = (turned(0, "transA")?, turned(b, "transB")?);
    if k != depth {
        return Err(format!("shapes {:?} and {:?} do not multiply", [m, k], [depth, n]));
    }
    if call.has(c) && broadcast(call.dims(c)?, &[m, n])? != [m, n] {
        return Err(format!("an addend of shape {:?} to a product of {:?}", call.dims(c)?, [m, n]));
    }
    Ok([m, n])
}

pub(super) fn gemm(call: &Call<'_>) -> Facts {
    (0..call.node.inputs.len()).filter(|&i| call.has(i)).try_for_each(|i| call.real(i))?;
    if !call.has(2) && call.opset < 11 {
        return Err("its input C is missing".into());
    }
    one(Type::F32, general_product(call, 1, 2)?)
}

pub(super) fn qgemm(call: &Call<'_>) -> Facts {
    let (a, b) = (call.integer(0)?, call.integer(3)?);
    call.zero_point(2, a)?;
    call.zero_point(5, b)?;
    call.scale(1, call.dims(0)?, None)?;
    call.scale(4, call.dims(3)?, Some(if call.int("transB", 0) == 0 { 1 } else { 0 }))?;
    if call.has(6) {
        call.shared(&[6], &[Type::I32])?;
    }
    let dims = general_product(call, 3, 6)?;
    match (call.has(7), call.has(8)) {
        (false, false) => one(Type::F32, dims),
        (true, true) => {
            call.scale(7, call.dims(0)?, None)?;
            one(call.integer(8)?, dims)
        }
        _ => Err("its output has a scale or a zero point, expected both or none".into()),
    }
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

pub(super) fn global_pool(call: &Call<'_>) -> Facts {
    let [n, c, ..] = call.image(0)?;
    if call.node.microsoft {
        let fact = first(call)?.remove(0);
        return one(fact.ty, [n, c, 1, 1]);
    }
    let of: &[Type] = if call.node.op == "GlobalMaxPool" { &[Type::F32, Type::I8, Type::U8] } else { &[Type::F32] };
    one(call.shared(&[0], of)?, [n, c, 1, 1])
}

pub(super) fn pool(call: &Call<'_>) -> Facts {
    let [n, c, h, w] = call.image(0)?;
    let ty = match call.node.op.as_str() {
        "QLinearAveragePool" => first(call)?[0].ty,
        "MaxPool" if call.opset >= 12 => call.shared(&[0], &[Type::F32, Type::I8, Type::U8])?,
        _ => call.shared(&[0], &[Type::F32])?,
    };
    let kernel = kernel_shape(call.node)?.ok_or("its attribute kernel_shape is missing")?;
    let window = Window::read(call.node, [h, w], kernel)?;
    // A window with no value in it has no average and no largest value.
    for (axis, size) in [h, w].into_iter().enumerate() {
        let touches = |at: usize| {
            let first = at * window.stride[axis];
            (0..kernel[axis]).any(|k| {
                let place = first + k * window.dilation[axis];
                place >= window.pad[axis] && place < size + window.pad[axis]
            })
        };
        if !(0..window.output[axis]).all(touches) {
            return Err("a window lies wholly in the padding".into());
        }
    }
    let [oh, ow] = window.output;
    one(ty, [n, c, oh, ow])
}

/// Axes as a node says them, counted from the start, each once, in order.
fn axes(stated: &[i64], rank: usize) -> Result<Vec<usize>, Why> {
    let mut axes: Vec<usize> = stated.iter().map(|a| axis_of(*a, rank)).collect::<Result<_, _>>()?;
    axes.sort_unstable();
    match axes.windows(2).any(|w| w[0] == w[1]) {
        true => Err(format!("axes {stated:?} name one twice")),
        false => Ok(axes),
    }
}

/// The axes that a mean goes over.
pub(in crate::engine) fn reduced_axes(
    stated: Option<Vec<i64>>,
    rank: usize,
    none_if_empty: bool,
) -> Result<Vec<usize>, Why> {
    match stated.filter(|a| !a.is_empty()) {
        Some(stated) => axes(&stated, rank),
        None if none_if_empty => Ok(Vec::new()),
        None => Ok((0..rank).collect()),
    }
}

pub(super) fn reduce_mean(call: &Call<'_>) -> Facts {
    call.real(0)?;
    let dims = call.dims(0)?;
    let axes = reduced_axes(call.numbers(1, "axes")?, dims.len(), call.int("noop_with_empty_axes", 0) != 0)?;
    let keep = call.int("keepdims", 1) != 0;
    let kept = dims.iter().enumerate().filter_map(|(i, d)| match axes.contains(&i) {
        false => Some(*d),
        true => keep.then_some(1),
    });
    one(Type::F32, kept.collect::<Vec<_>>())
}

pub(super) fn pad(call: &Call<'_>) -> Facts {
    let dims = call.dims(0)?;
    let ty = call.fact(0)?.ty;
    if call.has(2) && (call.fact(2)?.ty != ty || elements(call.dims(2)?) != Some(1)) {
        return Err(format!("a value of {} and shape {:?}, expected one of {ty}", call.fact(2)?.ty, call.dims(2)?));
    }
    let pads = padding(call)?;
    let size = |(d, [before, after]): (&usize, &[i64; 2])| {
        let size = *d as i64 + before + after;
        let allowed = (0..=1 << 16).contains(&size) && [before, after].iter().all(|p| p.abs() <= 1 << 16);
        if allowed { Ok(size as usize) } else { Err(format!("pads {pads:?} of shape {dims:?}")) }
    };
    let padded: Vec<usize> = dims.iter().zip(&pads).map(size).collect::<Result<_, _>>()?;
    one(ty, padded)
}

/// What is added before and after each axis.
fn padding(call: &Call<'_>) -> Result<Vec<[i64; 2]>, Why> {
    let rank = call.dims(0)?.len();
    let pads = call.numbers(1, "pads")?.ok_or("its pads are missing")?;
    let stated = if call.has(3) { call.numbers(3, "axes")? } else { None };
    spread_pads(&pads, stated.as_deref(), rank)
}

/// What is added before and after each axis, from pads that may be of some axes only.
pub(in crate::engine) fn spread_pads(pads: &[i64], stated: Option<&[i64]>, rank: usize) -> Result<Vec<[i64; 2]>, Why> {
    let axes: Vec<usize> = match stated {
        Some(stated) => stated.iter().map(|a| axis_of(*a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() || pads.iter().any(|p| p.abs() > 1 << 16) {
        return Err(format!("pads {pads:?} for axes {axes:?}"));
    }
    let mut all = vec![[0; 2]; rank];
    for (i, &axis) in axes.iter().enumerate() {
        if axes[..i].contains(&axis) {
            return Err(format!("axes {axes:?} name one twice"));
        }
        all[axis] = [pads[i], pads[i + axes.len()]];
    }
    Ok(all)
}

pub(super) fn softmax(call: &Call<'_>) -> Facts {
    let rank = call.dims(0)?.len();
    call.axis("axis", if call.opset >= 13 { -1 } else { 1 }, rank)?;
    real(call)
}

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

pub(super) fn concat(call: &Call<'_>) -> Facts {
    let parts: Vec<usize> = (0..call.node.inputs.len()).collect();
    let first = call.fact(0)?.ty;
    if let Some(i) = parts.iter().find(|&&i| call.fact(i).is_ok_and(|f| f.ty != first)) {
        return Err(format!("input {i} is {}, input 0 {first}", call.fact(*i)?.ty));
    }
    one(first, joined(call, &parts)?)
}

pub(super) fn qlinear_concat(call: &Call<'_>) -> Facts {
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

pub(super) fn split(call: &Call<'_>) -> Facts {
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
        // The last part is smaller where they are not equal.
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
    pub(super) fn taken(&self) -> Result<Vec<Taken>, Why> {
        let starts = self.numbers(1, "starts")?.ok_or("its starts are missing")?;
        let ends = self.numbers(2, "ends")?.ok_or("its ends are missing")?;
        let (axes, steps) = (self.numbers(3, "axes")?, self.numbers(4, "steps")?);
        taken(self.dims(0)?, [&starts, &ends], axes.as_deref(), steps.as_deref())
    }
}

pub(super) fn slice(call: &Call<'_>) -> Facts {
    one(call.fact(0)?.ty, call.taken()?.iter().map(|t| t.n).collect::<Vec<_>>())
}

pub(super) fn flatten(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let axis = call.int("axis", 1);
    // Unlike elsewhere the axis may be the one behind the last.
    let axis = if axis == dims.len() as i64 { dims.len() } else { axis_of(axis, dims.len())? };
    if call.opset < 11 && call.int("axis", 1) < 0 {
        return Err("a negative axis before opset 11".into());
    }
    one(*ty, [dims[..axis].iter().product(), dims[axis..].iter().product::<usize>()])
}

pub(super) fn reshape(call: &Call<'_>) -> Facts {
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

pub(super) fn squeeze(call: &Call<'_>) -> Facts {
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

pub(super) fn unsqueeze(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let stated = call.numbers(1, "axes")?.ok_or("its axes are missing")?;
    let rank = dims.len() + stated.len();
    let new = axes(&stated, rank)?;
    let mut old = dims.iter();
    let at = |i: usize| if new.contains(&i) { Some(1) } else { old.next().copied() };
    one(*ty, (0..rank).map_while(at).collect::<Vec<_>>())
}

pub(super) fn transpose(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let perm = permutation(call)?;
    one(*ty, perm.iter().map(|&i| dims[i]).collect::<Vec<_>>())
}

/// The axis of the input that each axis of the output is.
pub(super) fn permutation(call: &Call<'_>) -> Result<Vec<usize>, Why> {
    let rank = call.dims(0)?.len();
    let Some(Attribute::Ints(perm)) = call.node.attributes.get("perm") else { return Ok((0..rank).rev().collect()) };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    match sorted.iter().copied().eq(0..rank as i64) {
        true => Ok(perm.iter().map(|&p| p as usize).collect()),
        false => Err(format!("perm {perm:?} of {rank} axes")),
    }
}

pub(super) fn shape(call: &Call<'_>) -> Facts {
    one(Type::I64, [shape_range(call)?.len()])
}

/// The axes whose sizes a Shape gives.
pub(super) fn shape_range(call: &Call<'_>) -> Result<std::ops::Range<usize>, Why> {
    let rank = call.dims(0)?.len() as i64;
    let at = |name: &str, default: i64| {
        let v = call.int(name, default);
        (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize
    };
    let start = at("start", 0);
    Ok(start..at("end", rank).max(start))
}

pub(super) fn size(_: &Call<'_>) -> Facts {
    one(Type::I64, [])
}

pub(super) fn gather(call: &Call<'_>) -> Facts {
    let Fact { ty, dims } = call.fact(0)?;
    let axis = call.axis("axis", 0, dims.len())?;
    one(*ty, [&dims[..axis], call.dims(1)?, &dims[axis + 1..]].concat())
}

/// A shape that is the constant input `i`.
fn shape_input(call: &Call<'_>, i: usize) -> Result<Vec<usize>, Why> {
    let stated = call.constant(i).and_then(Constant::integers).ok_or("its shape must be constant integers")?;
    stated.iter().map(|&d| usize::try_from(d).map_err(|_| format!("shape {stated:?}"))).collect()
}

pub(super) fn constant_of_shape(call: &Call<'_>) -> Facts {
    let ty = match call.node.attributes.get("value") {
        Some(Attribute::Tensor(c)) if c.dims == [1] => c.values.element(),
        Some(_) => return Err("its value must be one number".into()),
        None => Type::F32,
    };
    one(ty, shape_input(call, 0)?)
}

pub(super) fn expand(call: &Call<'_>) -> Facts {
    one(call.fact(0)?.ty, broadcast(call.dims(0)?, &shape_input(call, 1)?)?)
}
