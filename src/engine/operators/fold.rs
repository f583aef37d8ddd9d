//! Constant folding: chains of shapes, weights quantised in the graph, tensors transposed and
//! joined.
//!
//! Computed as ONNX defines it, in row-major order. A DequantizeLinear of constants is not folded,
//! since its readers want the integers.

use super::{Call, Fact, Why, elements, shapes};
use crate::engine::proto::{Attribute, Constant, Type, Values};
use crate::quant::quantise;

/// Most values of a result that is made place by place.
const MAX_PLACED: usize = 1 << 24;

/// Calls a body with the vector of any kind of values.
macro_rules! each_kind {
    ($values:expr, $v:ident => $made:expr) => {
        match $values {
            Values::F32($v) => Values::F32($made),
            Values::I8($v) => Values::I8($made),
            Values::U8($v) => Values::U8($made),
            Values::I32($v) => Values::I32($made),
            Values::I64($v) => Values::I64($made),
            Values::Bool($v) => Values::Bool($made),
            Values::Unread(t) => Values::Unread(*t),
        }
    };
}

/// The constant that a node makes, if it makes one; `fact`: its type and shape.
pub(super) fn constant(call: &Call<'_>, fact: &Fact) -> Result<Option<Constant>, Why> {
    let dims = fact.dims.clone();
    let done = |values: Values| Ok(Some(Constant { dims: fact.dims.clone(), values }));
    // Only the shape of their input matters.
    match call.node.op.as_str() {
        "Shape" => {
            let sizes = &call.dims(0)?[shapes::shape_range(call)?];
            return done(Values::I64(sizes.iter().map(|&d| d as i64).collect()));
        }
        "Size" => return done(Values::I64(vec![elements(call.dims(0)?).unwrap_or(0) as i64])),
        _ => {}
    }
    let inputs: Option<Vec<&Constant>> =
        (0..call.node.inputs.len()).filter(|&i| call.has(i)).map(|i| call.constant(i)).collect();
    let Some(inputs) = inputs.filter(|inputs| !inputs.iter().any(|c| matches!(c.values, Values::Unread(_)))) else {
        return Ok(None);
    };
    let Some(&data) = inputs.first() else { return Ok(None) };
    let kept = ["Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout", "QuantizeLinear", "Cast", "Clip"];
    if elements(&dims).is_none_or(|n| n > MAX_PLACED) && !kept.contains(&call.node.op.as_str()) {
        return Ok(None);
    }
    let values = match call.node.op.as_str() {
        "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Dropout" => data.values.clone(),
        "Transpose" => picked(data, &turned(&data.dims, &shapes::permutation(call)?)),
        "Slice" => picked(data, &sliced(&data.dims, &call.taken()?)),
        "Gather" => picked(data, &gathered(call, data, inputs[1])?),
        "Expand" => picked(data, &spread(&data.dims, &dims)),
        "Concat" => match joined(call, &inputs) {
            Some(values) => values,
            None => return Ok(None),
        },
        "Cast" => match cast(&data.values, fact.ty) {
            Some(values) => values,
            None => return Ok(None),
        },
        "ConstantOfShape" => {
            let n = elements(&dims).unwrap_or(0);
            match call.node.attributes.get("value") {
                Some(Attribute::Tensor(c)) => each_kind!(&c.values, v => vec![v[0]; n]),
                _ => Values::F32(vec![0.0; n]),
            }
        }
        "Add" | "Sub" | "Mul" | "Div" => match arithmetic(&call.node.op, inputs[0], inputs[1], &dims) {
            Some(values) => values,
            None => return Ok(None),
        },
        "QuantizeLinear" => quantised(call, &inputs, fact)?,
        "Clip" => match clipped(call, &data.values) {
            Some(values) => values,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    done(values)
}

/// The values at these places.
pub(in crate::engine) fn picked(data: &Constant, places: &[usize]) -> Values {
    each_kind!(&data.values, v => places.iter().map(|&at| v[at]).collect())
}

/// Calls `f` with the index of each value of a tensor, in row-major order.
fn indices(dims: &[usize], mut f: impl FnMut(&[usize])) {
    let mut index = vec![0; dims.len()];
    for _ in 0..dims.iter().product::<usize>() {
        f(&index);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Distance between neighbours along each axis of a row-major tensor.
pub(in crate::engine) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Where each value of a Transpose's result stands in its input.
pub(in crate::engine) fn turned(dims: &[usize], perm: &[usize]) -> Vec<usize> {
    let (strides, to) = (strides(dims), perm.iter().map(|&p| dims[p]).collect::<Vec<_>>());
    let mut places = Vec::with_capacity(to.iter().product());
    indices(&to, |index| places.push(index.iter().zip(perm).map(|(i, &p)| i * strides[p]).sum()));
    places
}

/// Where each value of a Slice's result stands in its input.
pub(in crate::engine) fn sliced(dims: &[usize], taken: &[shapes::Taken]) -> Vec<usize> {
    let (strides, to) = (strides(dims), taken.iter().map(|t| t.n).collect::<Vec<_>>());
    let mut places = Vec::with_capacity(to.iter().product());
    let at = |i: usize, t: &shapes::Taken| (t.start as i64 + i as i64 * t.step) as usize;
    indices(&to, |index| {
        places.push(index.iter().zip(taken).zip(&strides).map(|((&i, t), stride)| at(i, t) * stride).sum());
    });
    places
}

/// Where each value of a tensor that was broadcast stands in the one that it was made of.
fn spread(dims: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - dims.len();
    let strides = strides(dims);
    let step = |axis: usize| match axis.checked_sub(missing) {
        Some(own) if dims[own] > 1 => strides[own],
        _ => 0,
    };
    let steps: Vec<usize> = (0..to.len()).map(step).collect();
    let mut places = Vec::with_capacity(to.iter().product());
    indices(to, |index| places.push(index.iter().zip(&steps).map(|(i, s)| i * s).sum()));
    places
}

fn gathered(call: &Call<'_>, data: &Constant, index: &Constant) -> Result<Vec<usize>, Why> {
    let axis = call.axis("axis", 0, data.dims.len())?;
    let wanted = index.integers().ok_or("its indices must be integers")?;
    let along = data.dims[axis];
    let at = |i: &i64| super::axis_of(*i, along).map_err(|_| format!("index {i} of {along}"));
    let wanted: Vec<usize> = wanted.iter().map(at).collect::<Result<_, _>>()?;
    let inner: usize = data.dims[axis + 1..].iter().product();
    let outer: usize = data.dims[..axis].iter().product();
    let row = |o: usize| wanted.iter().flat_map(move |w| (0..inner).map(move |i| (o * along + w) * inner + i));
    Ok((0..outer).flat_map(row).collect())
}

fn joined(call: &Call<'_>, parts: &[&Constant]) -> Option<Values> {
    let axis = call.axis("axis", 0, parts[0].dims.len()).ok()?;
    let outer: usize = parts[0].dims[..axis].iter().product();
    macro_rules! join {
        ($kind:ident) => {{
            let mut rows = Vec::with_capacity(parts.len());
            for part in parts {
                let Values::$kind(v) = &part.values else { return None };
                rows.push((v, v.len() / outer.max(1)));
            }
            Values::$kind(
                (0..outer).flat_map(|o| rows.iter().flat_map(move |(v, n)| v[o * n..(o + 1) * n].iter().copied())).collect(),
            )
        }};
    }
    Some(match parts[0].values {
        Values::F32(_) => join!(F32),
        Values::I8(_) => join!(I8),
        Values::U8(_) => join!(U8),
        Values::I32(_) => join!(I32),
        Values::I64(_) => join!(I64),
        _ => return None,
    })
}

/// The conversions between indices and reals that shape chains need.
fn cast(values: &Values, to: Type) -> Option<Values> {
    if values.element() == to {
        return Some(values.clone());
    }
    let wide: Vec<i64> = match values {
        Values::I64(v) => v.clone(),
        Values::I32(v) => v.iter().map(|&v| v.into()).collect(),
        Values::F32(v) if v.iter().all(|x| x.abs() < 1e15) => v.iter().map(|&x| x as i64).collect(),
        Values::U8(v) => v.iter().map(|&v| v.into()).collect(),
        Values::I8(v) => v.iter().map(|&v| v.into()).collect(),
        _ => return None,
    };
    match to {
        Type::I64 => Some(Values::I64(wide)),
        Type::F32 => Some(Values::F32(wide.iter().map(|&v| v as f32).collect())),
        Type::I32 => wide.iter().map(|&v| i32::try_from(v).ok()).collect::<Option<_>>().map(Values::I32),
        _ => None,
    }
}

/// As quantisers narrow weights to -127..=127.
fn clipped(call: &Call<'_>, values: &Values) -> Option<Values> {
    let bound = |i: usize| call.has(i).then(|| call.constant(i).map(|c| &c.values));
    macro_rules! clip {
        ($kind:ident, $v:expr, $ty:ident) => {{
            let one = |bound: Option<Option<&Values>>, open: $ty| match bound {
                None => Some(open),
                Some(Some(Values::$kind(b))) => b.first().copied(),
                Some(_) => None,
            };
            let (lo, hi) = (one(bound(1), $ty::MIN)?, one(bound(2), $ty::MAX)?);
            Some(Values::$kind($v.iter().map(|v| (*v).max(lo).min(hi)).collect()))
        }};
    }
    match values {
        Values::I8(v) => clip!(I8, v, i8),
        Values::U8(v) => clip!(U8, v, u8),
        _ => None,
    }
}

fn arithmetic(op: &str, a: &Constant, b: &Constant, dims: &[usize]) -> Option<Values> {
    let (pa, pb) = (spread(&a.dims, dims), spread(&b.dims, dims));
    match (&a.values, &b.values) {
        (Values::F32(a), Values::F32(b)) => {
            let one = |(&i, &j): (&usize, &usize)| match op {
                "Add" => a[i] + b[j],
                "Sub" => a[i] - b[j],
                "Mul" => a[i] * b[j],
                _ => a[i] / b[j],
            };
            Some(Values::F32(pa.iter().zip(&pb).map(one).collect()))
        }
        (Values::I64(a), Values::I64(b)) => {
            let one = |(&i, &j): (&usize, &usize)| match op {
                "Add" => a[i].checked_add(b[j]),
                "Sub" => a[i].checked_sub(b[j]),
                "Mul" => a[i].checked_mul(b[j]),
                _ => a[i].checked_div(b[j]),
            };
            pa.iter().zip(&pb).map(one).collect::<Option<_>>().map(Values::I64)
        }
        _ => None,
    }
}

/// Weights that the graph quantises: by one scale, or one a slice.
fn quantised(call: &Call<'_>, inputs: &[&Constant], fact: &Fact) -> Result<Values, Why> {
    let (Values::F32(reals), Values::F32(scales)) = (&inputs[0].values, &inputs[1].values) else {
        return Err("it quantises no reals".into());
    };
    if let Some(bad) = scales.iter().find(|s| !s.is_finite() || **s <= 0.0) {
        return Err(format!("scale {bad}, expected a positive number"));
    }
    let zero_points: Vec<i32> = match inputs.get(2).map(|c| &c.values) {
        None => vec![0],
        Some(Values::I8(v)) => v.iter().map(|&v| v.into()).collect(),
        Some(Values::U8(v)) => v.iter().map(|&v| v.into()).collect(),
        Some(_) => return Err("its zero point must be int8 or uint8".into()),
    };
    let inner = match scales.len() {
        1 => reals.len(),
        _ => {
            let axis = call.axis("axis", 1, fact.dims.len())?;
            fact.dims[axis + 1..].iter().product()
        }
    };
    let slice = |i: usize| i / inner.max(1) % scales.len();
    // uint8 is int8 with everything 128 lower.
    let shift = if fact.ty == Type::U8 { 128 } else { 0 };
    let one = |(i, &x): (usize, &f32)| {
        let zero_point = zero_points[slice(i) % zero_points.len()] - shift;
        quantise(x, scales[slice(i)], zero_point as i8) as i32 + shift
    };
    let values = reals.iter().enumerate().map(one);
    Ok(match fact.ty {
        Type::U8 => Values::U8(values.map(|v| v as u8).collect()),
        _ => Values::I8(values.map(|v| v as i8).collect()),
    })
}
