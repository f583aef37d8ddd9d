//! Shape rules of operators that reduce: convolutions, GEMMs, pools and means; and of the padding
//! that often precedes them.

use super::{Facts, first, one};
use crate::engine::operators::window::{Window, kernel_shape};
use crate::engine::operators::{Call, Why, axis_of, broadcast, elements};
use crate::engine::proto::Type;

fn convolution(call: &Call<'_>, weights: usize, bias: usize) -> Result<Vec<usize>, Why> {
    let axes = if call.dims(0)?.len() == 3 { 1 } else { 2 };
    let ([n, c, h, w], [out, cg, kh, kw]) = (call.lifted(0, axes)?, call.lifted(weights, axes)?);
    let groups = call.int("group", 1) as usize;
    if cg.checked_mul(groups) != Some(c) || out == 0 || !out.is_multiple_of(groups) {
        return Err(format!("weights {:?} in {groups} groups do not fit {c} input channels", [out, cg, kh, kw]));
    }
    if let Some(stated) = kernel_shape(call.node, axes)?
        && stated != [kh, kw]
    {
        return Err(format!("kernel_shape {stated:?}, its weights have {:?}", [kh, kw]));
    }
    if call.has(bias) && call.dims(bias)? != [out] {
        return Err(format!("a bias of shape {:?}, expected [{out}]", call.dims(bias)?));
    }
    let [oh, ow] = Window::read(call.node, axes, [h, w], [kh, kw])?.output;
    Ok(if axes == 1 { vec![n, out, ow] } else { vec![n, out, oh, ow] })
}

pub(in crate::engine::operators) fn conv(call: &Call<'_>) -> Facts {
    (0..call.node.inputs.len()).filter(|&i| call.has(i)).try_for_each(|i| call.real(i))?;
    one(Type::F32, convolution(call, 1, 2)?)
}

pub(in crate::engine::operators) fn qlinear_conv(call: &Call<'_>) -> Facts {
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

/// Shape of a product of two tensors, by the rules of numpy's matmul.
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

pub(in crate::engine::operators) fn matmul(call: &Call<'_>) -> Facts {
    let ty = call.shared(&[0, 1], &[Type::F32])?;
    one(ty, product(call.dims(0)?, call.dims(1)?)?)
}

pub(in crate::engine::operators) fn matmul_integer(call: &Call<'_>) -> Facts {
    let (a, b) = (call.integer(0)?, call.integer(1)?);
    call.zero_point(2, a)?;
    call.zero_point(3, b)?;
    one(Type::I32, product(call.dims(0)?, call.dims(1)?)?)
}

pub(in crate::engine::operators) fn qlinear_matmul(call: &Call<'_>) -> Facts {
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

pub(in crate::engine::operators) fn gemm(call: &Call<'_>) -> Facts {
    (0..call.node.inputs.len()).filter(|&i| call.has(i)).try_for_each(|i| call.real(i))?;
    if !call.has(2) && call.opset < 11 {
        return Err("its input C is missing".into());
    }
    one(Type::F32, general_product(call, 1, 2)?)
}

pub(in crate::engine::operators) fn qgemm(call: &Call<'_>) -> Facts {
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

pub(in crate::engine::operators) fn global_pool(call: &Call<'_>) -> Facts {
    let [n, c, ..] = call.image(0)?;
    if call.node.microsoft {
        let fact = first(call)?.remove(0);
        return one(fact.ty, [n, c, 1, 1]);
    }
    let of: &[Type] = if call.node.op == "GlobalMaxPool" { &[Type::F32, Type::I8, Type::U8] } else { &[Type::F32] };
    one(call.shared(&[0], of)?, [n, c, 1, 1])
}

pub(in crate::engine::operators) fn pool(call: &Call<'_>) -> Facts {
    let [n, c, h, w] = call.image(0)?;
    let ty = match call.node.op.as_str() {
        "QLinearAveragePool" => first(call)?[0].ty,
        "MaxPool" if call.opset >= 12 => call.shared(&[0], &[Type::F32, Type::I8, Type::U8])?,
        _ => call.shared(&[0], &[Type::F32])?,
    };
    let kernel = kernel_shape(call.node, 2)?.ok_or("its attribute kernel_shape is missing")?;
    let window = Window::read(call.node, 2, [h, w], kernel)?;
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

/// A node's axes, counted from the start, without duplicates, ascending.
pub(super) fn axes(stated: &[i64], rank: usize) -> Result<Vec<usize>, Why> {
    let mut axes: Vec<usize> = stated.iter().map(|a| axis_of(*a, rank)).collect::<Result<_, _>>()?;
    axes.sort_unstable();
    match axes.windows(2).any(|w| w[0] == w[1]) {
        true => Err(format!("axes {stated:?} name one twice")),
        false => Ok(axes),
    }
}

/// The axes that a mean reduces.
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

pub(in crate::engine::operators) fn reduced(call: &Call<'_>) -> Facts {
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

pub(in crate::engine::operators) fn pad(call: &Call<'_>) -> Facts {
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

/// Padding before and after each axis.
fn padding(call: &Call<'_>) -> Result<Vec<[i64; 2]>, Why> {
    let rank = call.dims(0)?.len();
    let pads = call.numbers(1, "pads")?.ok_or("its pads are missing")?;
    let stated = if call.has(3) { call.numbers(3, "axes")? } else { None };
    spread_pads(&pads, stated.as_deref(), rank)
}

/// Padding before and after each axis, from `pads` that may list only some of the axes.
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
