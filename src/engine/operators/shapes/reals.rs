//! Operators that run in islands only: resizing, normalisation, reductions, comparisons.

use super::{Facts, first, one, real};
use crate::engine::operators::window::kernel_shape;
use crate::engine::operators::{Call, broadcast, elements};
use crate::engine::proto::{Attribute, Constant, Type, Values};

/// Longest side that a resized axis may have.
const MAX_SIDE: usize = 1 << 16;

fn reals(call: &Call<'_>, i: usize) -> Option<Vec<f32>> {
    match call.constant(i).map(|c| &c.values) {
        Some(Values::F32(v)) => Some(v.clone()),
        _ => None,
    }
}

/// Whether input `i` is there and has values: an empty constant stands for none.
fn given(call: &Call<'_>, i: usize) -> bool {
    call.has(i) && call.dims(i).is_ok_and(|dims| elements(dims) != Some(0))
}

pub(in crate::engine::operators) fn resize(call: &Call<'_>) -> Facts {
    call.real(0)?;
    let dims = call.dims(0)?;
    let (scales, sizes) = if call.opset < 11 { (1, usize::MAX) } else { (2, 3) };
    // Until opset 13 made them optional, whoever left one out gave it without a value.
    if let Some(i) = (1..3).find(|&i| (11..13).contains(&call.opset) && !call.has(i)) {
        let name = ["roi", "scales"][i - 1];
        return Err(format!("its input {name} is missing, opset {} expects an empty constant there", call.opset));
    }
    let axes = match call.node.attributes.get("axes") {
        Some(Attribute::Ints(stated)) => super::axes(stated, dims.len())?,
        _ => (0..dims.len()).collect(),
    };
    let mut to = dims.to_vec();
    let side = |d: f64| if (1.0..=MAX_SIDE as f64).contains(&d) { Ok(d as usize) } else { Err(format!("a side of {d}")) };
    match (given(call, scales), sizes != usize::MAX && given(call, sizes)) {
        (true, false) => {
            let scales = reals(call, scales).ok_or("its scales must be constant reals")?;
            if scales.len() != axes.len() {
                return Err(format!("{} scales for {} axes", scales.len(), axes.len()));
            }
            for (&axis, scale) in axes.iter().zip(scales) {
                to[axis] = side((dims[axis] as f64 * scale as f64).floor())?;
            }
        }
        (false, true) => {
            let sizes = call.constant(sizes).and_then(Constant::integers).ok_or("its sizes must be constant integers")?;
            if sizes.len() != axes.len() {
                return Err(format!("{} sizes for {} axes", sizes.len(), axes.len()));
            }
            for (&axis, size) in axes.iter().zip(sizes) {
                to[axis] = side(size as f64)?;
            }
        }
        _ => return Err("expected either scales or sizes".into()),
    }
    if given(call, 1) && scales != 1 {
        return Err("it has a region of interest, expected none".into());
    }
    let says = |name: &str, word: &str| matches!(call.node.attributes.get(name), Some(Attribute::Text(w)) if w == word);
    let pytorch = says("coordinate_transformation_mode", "pytorch_half_pixel");
    if says("mode", "cubic") && pytorch && dims.iter().zip(&to).any(|(from, to)| from != to && *to == 1) {
        return Err(format!("cubic, pytorch_half_pixel, {dims:?} to {to:?}: ONNX and ONNX Runtime differ at a side of 1"));
    }
    one(Type::F32, to)
}

pub(in crate::engine::operators) fn layer_normalization(call: &Call<'_>) -> Facts {
    let dims = call.dims(0)?;
    let axis = call.axis("axis", -1, dims.len())?;
    for i in (1..call.node.inputs.len()).filter(|&i| call.has(i)) {
        call.real(i)?;
        if call.dims(i)? != &dims[axis..] {
            return Err(format!("input {i} is of shape {:?}, expected {:?}", call.dims(i)?, &dims[axis..]));
        }
    }
    real(call)
}

/// Normalisation with a scale and a bias a channel.
pub(in crate::engine::operators) fn channel_normalization(call: &Call<'_>) -> Facts {
    let dims = call.dims(0)?;
    let &[_, channels, _, ..] = dims else { return Err(format!("input 0 is of shape {dims:?}, expected an image")) };
    for i in 1..3 {
        call.real(i)?;
        if call.dims(i)? != [channels] {
            return Err(format!("input {i} is of shape {:?}, expected [{channels}]", call.dims(i)?));
        }
    }
    let groups = call.int("num_groups", 1);
    if groups < 1 || !(channels as i64).unsigned_abs().is_multiple_of(groups as u64) {
        return Err(format!("{groups} groups of {channels} channels"));
    }
    real(call)
}

pub(in crate::engine::operators) fn local_response(call: &Call<'_>) -> Facts {
    call.image(0)?;
    match call.int("size", 1) % 2 {
        0 => Err(format!("it goes over {} channels, expected an odd number", call.int("size", 1))),
        _ => real(call),
    }
}

/// The largest or smallest of an axis, by its index.
pub(in crate::engine::operators) fn arg(call: &Call<'_>) -> Facts {
    call.shared(&[0], &[Type::F32, Type::I8, Type::U8])?;
    let dims = call.dims(0)?;
    let axis = call.axis("axis", 0, dims.len())?;
    one(Type::I64, kept(dims, &[axis], call.int("keepdims", 1) != 0))
}

fn kept(dims: &[usize], over: &[usize], keep: bool) -> Vec<usize> {
    let kept = |(i, d): (usize, &usize)| if over.contains(&i) { keep.then_some(1) } else { Some(*d) };
    dims.iter().enumerate().filter_map(kept).collect()
}

pub(in crate::engine::operators) fn conv_transpose(call: &Call<'_>) -> Facts {
    (0..call.node.inputs.len()).filter(|&i| call.has(i)).try_for_each(|i| call.real(i))?;
    let ([n, c, h, w], [channels, per_group, kh, kw]) = (call.image(0)?, call.image(1)?);
    let groups = call.int("group", 1) as usize;
    if channels != c || !c.is_multiple_of(groups) || per_group == 0 {
        return Err(format!("weights {:?} in {groups} groups do not fit {c} input channels", [channels, per_group, kh, kw]));
    }
    if kernel_shape(call.node, 2)?.is_some_and(|stated| stated != [kh, kw]) {
        return Err(format!("its kernel_shape is not that of its weights, {:?}", [kh, kw]));
    }
    let out = per_group * groups;
    if call.has(2) && call.dims(2)? != [out] {
        return Err(format!("a bias of shape {:?}, expected [{out}]", call.dims(2)?));
    }
    let list = |name: &str, n: usize, default: i64, most: i64| match call.node.attributes.get(name) {
        None => Ok(vec![default; n]),
        Some(Attribute::Ints(v)) if v.len() == n && v.iter().all(|v| (default..=most).contains(v)) => Ok(v.clone()),
        other => Err(format!("{name} {other:?}, expected {n} of {default}..={most}")),
    };
    let (strides, dilations) = (list("strides", 2, 1, 64)?, list("dilations", 2, 1, 64)?);
    let (pads, after) = (list("pads", 4, 0, 1024)?, list("output_padding", 2, 0, 64)?);
    let mut dims = vec![n, out];
    for (axis, (size, kernel)) in [(h, kh), (w, kw)].into_iter().enumerate() {
        if size == 0 || kernel == 0 || after[axis] >= strides[axis].max(dilations[axis]) {
            return Err(format!("output_padding {after:?} beside strides {strides:?}, expected less"));
        }
        let reach = strides[axis] * (size as i64 - 1) + after[axis] + (kernel as i64 - 1) * dilations[axis] + 1;
        let size = reach - pads[axis] - pads[axis + 2];
        dims.push(usize::try_from(size).ok().filter(|s| *s > 0).ok_or_else(|| format!("pads {pads:?} leave nothing"))?);
    }
    one(Type::F32, dims)
}

/// Comparisons of two tensors.
pub(in crate::engine::operators) fn compared(call: &Call<'_>) -> Facts {
    call.shared(&[0, 1], &[Type::F32, Type::I64, Type::I32])?;
    one(Type::Bool, broadcast(call.dims(0)?, call.dims(1)?)?)
}

pub(in crate::engine::operators) fn logical(call: &Call<'_>) -> Facts {
    let inputs: Vec<usize> = (0..call.node.inputs.len()).collect();
    call.shared(&inputs, &[Type::Bool])?;
    let mut dims = Vec::new();
    for i in inputs {
        dims = broadcast(&dims, call.dims(i)?)?;
    }
    one(Type::Bool, dims)
}

pub(in crate::engine::operators) fn chosen(call: &Call<'_>) -> Facts {
    call.shared(&[0], &[Type::Bool])?;
    let ty = call.shared(&[1, 2], &[Type::F32, Type::I64, Type::I32])?;
    one(ty, broadcast(call.dims(0)?, &broadcast(call.dims(1)?, call.dims(2)?)?)?)
}

/// Depth to space, and back: a block of pixels is one pixel of more channels.
pub(in crate::engine::operators) fn blocks(call: &Call<'_>) -> Facts {
    call.real(0)?;
    let [n, c, h, w] = call.image(0)?;
    let b = call.int("blocksize", 1) as usize;
    let (divides, dims) = match call.node.op.as_str() {
        "DepthToSpace" => (c.is_multiple_of(b * b), [n, c / (b * b), h * b, w * b]),
        _ => (h.is_multiple_of(b) && w.is_multiple_of(b), [n, c * b * b, h / b, w / b]),
    };
    if divides { one(Type::F32, dims) } else { Err(format!("blocks of {b} of shape {:?}", [n, c, h, w])) }
}

pub(in crate::engine::operators) fn tile(call: &Call<'_>) -> Facts {
    let dims = call.dims(0)?;
    let repeats = call.constant(1).and_then(Constant::integers).ok_or("its repeats must be constant integers")?;
    if repeats.len() != dims.len() || repeats.iter().any(|r| !(1..=1 << 16).contains(r)) {
        return Err(format!("repeats {repeats:?} of {dims:?}"));
    }
    one(call.fact(0)?.ty, dims.iter().zip(repeats).map(|(d, r)| d.saturating_mul(r as usize)).collect::<Vec<_>>())
}

pub(in crate::engine::operators) fn along_axis(call: &Call<'_>) -> Facts {
    call.axis("axis", -1, call.dims(0)?.len())?;
    real(call)
}

pub(in crate::engine::operators) fn mean_variance(call: &Call<'_>) -> Facts {
    if let Some(Attribute::Ints(stated)) = call.node.attributes.get("axes") {
        super::axes(stated, call.dims(0)?.len())?;
    }
    real(call)
}

pub(in crate::engine::operators) fn not(call: &Call<'_>) -> Facts {
    call.shared(&[0], &[Type::Bool])?;
    first(call)
}
