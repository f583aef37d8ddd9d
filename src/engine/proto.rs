//! Validates an ONNX model before anything trusts it: names, shapes, sizes, limits. Parsing itself
//! is tract's.
//!
//! What an operator is, and what may be said about it, is the business of [`super::operators`].
//! `Constant` nodes become constants here in every form that ONNX has for them, an unknown batch is
//! 1, and nodes that the output does not need are left out.

use super::EngineError;
use super::caught;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb;
use tract_onnx::prelude::Framework;

/// The oldest version of ONNX's operators that is read.
pub const OLDEST_OPSET: i64 = 10;
/// The newest version of ONNX's operators whose changes [`super::operators`] knows.
pub const NEWEST_OPSET: i64 = 28;
/// The domain of ONNX Runtime's own operators.
pub(super) const MICROSOFT: &str = "com.microsoft";
/// Most nodes of a graph.
pub const MAX_NODES: usize = 8192;
/// Most values of one tensor.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// The values of a constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit reals.
    F32(Vec<f32>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Values of another type, which no operator here reads.
    Unread(Type),
}

impl Values {
    /// The type of the values.
    pub fn element(&self) -> Type {
        match self {
            Self::F32(_) => Type::F32,
            Self::I8(_) => Type::I8,
            Self::U8(_) => Type::U8,
            Self::I32(_) => Type::I32,
            Self::I64(_) => Type::I64,
            Self::Bool(_) => Type::Bool,
            Self::Unread(t) => *t,
        }
    }
}

/// The type of a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 32-bit reals.
    F32,
    /// Signed bytes.
    I8,
    /// Unsigned bytes.
    U8,
    /// 32-bit integers.
    I32,
    /// 64-bit integers.
    I64,
    /// Truth values.
    Bool,
    /// A type that no operator here reads, by ONNX's name.
    Other(&'static str),
}

impl Type {
    /// The type by its number in TensorProto.
    pub fn of_number(number: i64) -> Self {
        use pb::tensor_proto::DataType as D;
        match i32::try_from(number).ok().and_then(|n| D::try_from(n).ok()) {
            // Halves are read as what they stand for and computed in f32: more exactly than the
            // file asks for.
            Some(D::Float | D::Float16) => Self::F32,
            Some(D::Int8) => Self::I8,
            Some(D::Uint8) => Self::U8,
            Some(D::Int32) => Self::I32,
            Some(D::Int64) => Self::I64,
            Some(D::Bool) => Self::Bool,
            Some(other) => Self::Other(other.as_str_name()),
            None => Self::Other("an unknown type"),
        }
    }
}

impl Type {
    /// Its number in TensorProto; 0 for one that no operator here reads.
    pub fn number(self) -> i32 {
        use pb::tensor_proto::DataType as D;
        match self {
            Self::F32 => D::Float as i32,
            Self::I8 => D::Int8 as i32,
            Self::U8 => D::Uint8 as i32,
            Self::I32 => D::Int32 as i32,
            Self::I64 => D::Int64 as i32,
            Self::Bool => D::Bool as i32,
            Self::Other(_) => D::Undefined as i32,
        }
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "float",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Bool => "bool",
            Self::Other(name) => name,
        })
    }
}

/// Type and shape of a value of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Type of its values.
    pub ty: Type,
    /// Shape in ONNX's order; empty for a scalar.
    pub dims: Vec<usize>,
}

/// A constant tensor whose length was checked against its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Shape; empty for a scalar.
    pub dims: Vec<usize>,
    /// Values, row-major.
    pub values: Values,
}

/// An attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A real.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
    /// Reals.
    Floats(Vec<f32>),
    /// Text.
    Text(String),
    /// A tensor.
    Tensor(Constant),
    /// Anything else, kept so that an operator can refuse it.
    Other,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, or its first output's.
    pub name: String,
    /// The operator; of a domain other than ONNX's and ONNX Runtime's it is `DOMAIN::OPERATOR`.
    pub op: String,
    /// Whether it is one of ONNX Runtime's own, of the domain com.microsoft.
    pub microsoft: bool,
    /// Names of inputs; empty for one left out.
    pub inputs: Vec<String>,
    /// Names of outputs.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: HashMap<String, Attribute>,
}

/// A validated graph with one input and one output, nodes in order of execution.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Version of ONNX's operators.
    pub opset: i64,
    /// Nodes that the output needs; each input is a constant, the graph's input or an earlier
    /// node's output.
    pub nodes: Vec<Node>,
    /// Constants by name.
    pub constants: HashMap<String, Constant>,
    /// The input's name.
    pub input: String,
    /// The input's shape; an unknown batch is 1.
    pub input_dims: Vec<usize>,
    /// The type of the input's values.
    pub input_type: Type,
    /// The output's name.
    pub output: String,
    /// The type that the file says the output has, if it says one.
    pub output_type: Option<Type>,
    /// Types and shapes that the file states for intermediate values. Shown to people, never relied
    /// on.
    pub stated: HashMap<String, Fact>,
}

/// Reads and validates an ONNX model with one output, or one of float.
pub fn read(bytes: &[u8]) -> Result<Graph, EngineError> {
    read_output(bytes, None)
}

/// Reads and validates an ONNX model for one of its outputs; without a name it must have only one,
/// or only one of float.
pub fn read_output(bytes: &[u8], output: Option<&str>) -> Result<Graph, EngineError> {
    from_proto(parsed(bytes)?, output)
}

/// The model as tract's parser reads it.
pub(super) fn parsed(bytes: &[u8]) -> Result<pb::ModelProto, EngineError> {
    caught(|| tract_onnx::onnx().proto_model_for_read(&mut std::io::Cursor::new(bytes)))
        .map_err(EngineError::Parse)?
        .map_err(|e| EngineError::Parse(e.root_cause().to_string()))
}

fn limit(why: impl Into<String>) -> EngineError {
    EngineError::Limit(why.into())
}

/// The version of ONNX's operators that a model states.
fn opset_of(model: &pb::ModelProto) -> Result<i64, EngineError> {
    let mut stated = model.opset_import.iter().filter(|o| matches!(o.domain.as_str(), "" | "ai.onnx")).map(|o| o.version);
    let opset = stated.next().unwrap_or(0);
    if stated.any(|other| other != opset) {
        return Err(limit("it states two versions of ONNX's operators"));
    }
    if !(OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
        return Err(limit(format!("opset {opset}, expected {OLDEST_OPSET}..={NEWEST_OPSET}")));
    }
    let microsoft = model.opset_import.iter().find(|o| o.domain == MICROSOFT).map_or(1, |o| o.version);
    match microsoft {
        1 => Ok(opset),
        other => Err(limit(format!("version {other} of {MICROSOFT}, expected 1"))),
    }
}

/// The output that is wanted, or the only one of float, or the only one.
fn output_of<'a>(graph: &'a pb::GraphProto, wanted: Option<&str>) -> Result<&'a pb::ValueInfoProto, EngineError> {
    let names = || graph.output.iter().map(|o| format!("\"{}\"", o.name)).collect::<Vec<_>>().join(", ");
    let floats: Vec<_> = graph.output.iter().filter(|o| type_of(o) == Some(Type::F32)).collect();
    match (graph.output.as_slice(), wanted) {
        // Some exporters add an ArgMax output to the scores.
        (_, None) if floats.len() == 1 => Ok(floats[0]),
        (outputs, Some(name)) => {
            outputs.iter().find(|o| o.name == name).ok_or_else(|| limit(format!("no output \"{name}\"; it has {}", names())))
        }
        ([output], None) => Ok(output),
        (outputs, None) => Err(limit(format!("{} outputs ({}), expected one; say --output NAME", outputs.len(), names()))),
    }
}

/// Validates a parsed model.
pub fn from_proto(model: pb::ModelProto, output: Option<&str>) -> Result<Graph, EngineError> {
    let opset = opset_of(&model)?;
    if !model.functions.is_empty() {
        return Err(limit("it defines functions of its own"));
    }
    let mut graph = model.graph.ok_or_else(|| limit("it has no graph"))?;
    if graph.node.len() > MAX_NODES {
        return Err(limit(format!("{} nodes, at most {MAX_NODES}", graph.node.len())));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(limit("it has sparse initialisers"));
    }
    let mut constants = HashMap::new();
    let mut known = HashSet::new();
    // One after the other goes, so that its bytes are not held twice.
    for tensor in std::mem::take(&mut graph.initializer) {
        let name = tensor.name.clone();
        if !known.insert(name.clone()) {
            return Err(limit(format!("constant \"{name}\" stands there twice")));
        }
        constants.insert(name, constant(tensor)?);
    }
    let mut inputs = graph.input.iter().filter(|i| !constants.contains_key(&i.name));
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err(limit("expected exactly one input"));
    };
    let output = output_of(&graph, output)?;
    let (input_dims, input_type) = (input_dims(input)?, type_of(input));
    let mut nodes = Vec::with_capacity(graph.node.len());
    known.insert(input.name.clone());
    for node in &graph.node {
        let name = if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
        if let Some(unknown) = node.input.iter().find(|i| !i.is_empty() && !known.contains(*i)) {
            return Err(limit(format!("node \"{name}\" reads \"{unknown}\" before anything made it")));
        }
        for out in node.output.iter().filter(|out| !out.is_empty()) {
            if !known.insert(out.clone()) {
                return Err(limit(format!("node \"{name}\" makes \"{out}\" a second time")));
            }
        }
        if node.op_type == "Constant" && matches!(node.domain.as_str(), "" | "ai.onnx") {
            let [out] = node.output.as_slice() else {
                return Err(limit(format!("node \"{name}\" is a constant with {} outputs", node.output.len())));
            };
            constants.insert(out.clone(), constant_node(node, &name)?);
            continue;
        }
        let mut attributes = HashMap::new();
        for a in &node.attribute {
            if attributes.insert(a.name.clone(), attribute(a)?).is_some() {
                return Err(limit(format!("node \"{name}\" says {} twice", a.name)));
            }
        }
        let microsoft = node.domain == MICROSOFT;
        let op = match node.domain.as_str() {
            "" | "ai.onnx" | MICROSOFT => node.op_type.clone(),
            other => format!("{other}::{}", node.op_type),
        };
        nodes.push(Node { name, op, microsoft, inputs: node.input.clone(), outputs: node.output.clone(), attributes });
    }
    if !known.contains(&output.name) {
        return Err(limit(format!("nothing makes the output \"{}\"", output.name)));
    }
    keep_needed(&mut nodes, &output.name);
    let stated = graph.value_info.iter().filter_map(|v| Some((v.name.clone(), stated(v)?))).collect();
    Ok(Graph {
        opset,
        nodes,
        constants,
        input: input.name.clone(),
        input_dims,
        input_type: input_type.unwrap_or(Type::Other("no type")),
        output: output.name.clone(),
        output_type: type_of(output),
        stated,
    })
}

/// Removes the nodes that the output does not depend on.
pub(super) fn keep_needed(nodes: &mut Vec<Node>, output: &str) {
    let mut needed: HashSet<&str> = HashSet::from([output]);
    let mut keep = vec![false; nodes.len()];
    for (node, keep) in nodes.iter().zip(&mut keep).rev() {
        *keep = node.outputs.iter().any(|out| needed.contains(out.as_str()));
        if *keep {
            needed.extend(node.inputs.iter().map(String::as_str));
        }
    }
    let mut keep = keep.into_iter();
    nodes.retain(|_| keep.next().unwrap_or(true));
}

/// The value of a Constant node, whichever of its attributes says it.
fn constant_node(node: &pb::NodeProto, name: &str) -> Result<Constant, EngineError> {
    let [a] = node.attribute.as_slice() else {
        return Err(limit(format!("node \"{name}\" is a constant with {} attributes, expected one", node.attribute.len())));
    };
    let list = |values: Values, n: usize| Ok(Constant { dims: vec![n], values });
    let one = |values: Values| Ok(Constant { dims: vec![], values });
    match (a.name.as_str(), attribute(a)?) {
        ("value", Attribute::Tensor(constant)) => Ok(constant),
        ("value_float", Attribute::Float(v)) => one(Values::F32(vec![v])),
        ("value_floats", Attribute::Floats(v)) => list(Values::F32(v.clone()), v.len()),
        ("value_int", Attribute::Int(v)) => one(Values::I64(vec![v])),
        ("value_ints", Attribute::Ints(v)) => list(Values::I64(v.clone()), v.len()),
        (other, _) => Err(limit(format!("node \"{name}\" is a constant by {other}, expected a tensor or numbers"))),
    }
}

fn attribute(a: &pb::AttributeProto) -> Result<Attribute, EngineError> {
    use pb::attribute_proto::AttributeType as T;
    Ok(match (T::try_from(a.r#type), &a.t) {
        (Ok(T::Int), _) => Attribute::Int(a.i),
        (Ok(T::Float), _) => Attribute::Float(a.f),
        (Ok(T::Ints), _) => Attribute::Ints(a.ints.clone()),
        (Ok(T::Floats), _) => Attribute::Floats(a.floats.clone()),
        (Ok(T::String), _) => Attribute::Text(String::from_utf8_lossy(&a.s).into_owned()),
        (Ok(T::Tensor), Some(t)) => Attribute::Tensor(constant(t.clone())?),
        _ => Attribute::Other,
    })
}

fn tensor_type(value: &pb::ValueInfoProto) -> Option<&pb::type_proto::Tensor> {
    let pb::type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

fn type_of(value: &pb::ValueInfoProto) -> Option<Type> {
    tensor_type(value).filter(|t| t.elem_type != 0).map(|t| Type::of_number(t.elem_type.into()))
}

/// The stated dimensions; `None` for one that has no positive number.
fn dims_of(value: &pb::ValueInfoProto) -> Option<Vec<Option<usize>>> {
    use pb::tensor_shape_proto::dimension::Value as D;
    let number = |d: &pb::tensor_shape_proto::Dimension| match d.value {
        Some(D::DimValue(n)) if n > 0 => usize::try_from(n).ok(),
        _ => None,
    };
    Some(tensor_type(value)?.shape.as_ref()?.dim.iter().map(number).collect())
}

/// Type and shape of a value, where the file states all of both.
fn stated(value: &pb::ValueInfoProto) -> Option<Fact> {
    let dims: Vec<usize> = dims_of(value)?.into_iter().collect::<Option<_>>()?;
    let len = dims.iter().try_fold(1usize, |len, d| len.checked_mul(*d).filter(|l| *l <= MAX_ELEMENTS));
    (dims.len() <= MAX_RANK && len.is_some()).then_some(Fact { ty: type_of(value)?, dims })
}

/// The input's dimensions; an unknown batch, by name, as 0 or as -1, is 1.
fn input_dims(value: &pb::ValueInfoProto) -> Result<Vec<usize>, EngineError> {
    let dims = dims_of(value).ok_or_else(|| limit(format!("input \"{}\" is no tensor with a shape", value.name)))?;
    if dims.len() > MAX_RANK {
        return Err(limit(format!("input \"{}\" has {} dimensions, at most {MAX_RANK}", value.name, dims.len())));
    }
    let one = |(axis, d): (usize, Option<usize>)| match d {
        Some(n) if n <= 1 << 16 => Ok(n),
        None if axis == 0 => Ok(1),
        Some(n) => Err(limit(format!("input \"{}\", dimension {axis}: {n}, expected at most 65536", value.name))),
        None => Err(limit(format!("input \"{}\", dimension {axis} is open, expected a number", value.name))),
    };
    dims.into_iter().enumerate().map(one).collect()
}

/// The value of a 16-bit real by its bits (IEEE 754-2019, binary16).
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = ((bits >> 10 & 31) as i32, (bits & 1023) as f32);
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

fn constant(t: pb::TensorProto) -> Result<Constant, EngineError> {
    use pb::tensor_proto::DataType as D;
    let refuse = |why: String| limit(format!("constant \"{}\": {why}", t.name));
    if t.data_location() == pb::tensor_proto::DataLocation::External {
        return Err(refuse("its values lie in another file; save the model as one file".into()));
    }
    if t.dims.len() > MAX_RANK {
        return Err(refuse(format!("{} dimensions", t.dims.len())));
    }
    let mut len = 1usize;
    let mut dims = Vec::with_capacity(t.dims.len());
    for &d in &t.dims {
        let d = usize::try_from(d).ok().filter(|&d| d <= MAX_ELEMENTS).ok_or_else(|| refuse(format!("dimension {d}")))?;
        len = len.checked_mul(d).filter(|&l| l <= MAX_ELEMENTS).ok_or_else(|| refuse("too many values".into()))?;
        dims.push(d);
    }
    let raw = &t.raw_data;
    let ty = D::try_from(t.data_type).map_err(|_| refuse(format!("unknown type {}", t.data_type)))?;
    let (width, listed) = match ty {
        D::Float => (4, t.float_data.len()),
        D::Int32 => (4, t.int32_data.len()),
        D::Int64 => (8, t.int64_data.len()),
        D::Int8 | D::Uint8 | D::Bool => (1, t.int32_data.len()),
        D::Float16 => (2, t.int32_data.len()),
        _ => return Ok(Constant { dims, values: Values::Unread(Type::of_number(t.data_type.into())) }),
    };
    let found = if raw.is_empty() { listed } else { raw.len() / width };
    if found != len || (!raw.is_empty() && raw.len() != len * width) {
        return Err(refuse(format!("{found} values for shape {dims:?}")));
    }
    let words = || raw.as_chunks::<4>().0.iter();
    let values = match (ty, raw.is_empty()) {
        (D::Float, true) => Values::F32(t.float_data),
        (D::Float, false) => Values::F32(words().map(|b| f32::from_le_bytes(*b)).collect()),
        (D::Float16, true) => Values::F32(t.int32_data.iter().map(|&bits| half(bits as u16)).collect()),
        (D::Float16, false) => Values::F32(raw.as_chunks::<2>().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect()),
        (D::Int32, true) => Values::I32(t.int32_data),
        (D::Int32, false) => Values::I32(words().map(|b| i32::from_le_bytes(*b)).collect()),
        (D::Int64, true) => Values::I64(t.int64_data),
        (D::Int64, false) => Values::I64(raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        (D::Int8, true) => Values::I8(t.int32_data.iter().map(|&v| v as i8).collect()),
        (D::Int8, false) => Values::I8(t.raw_data.into_iter().map(|v| v as i8).collect()),
        (D::Bool, true) => Values::Bool(t.int32_data.iter().map(|&v| v != 0).collect()),
        (D::Bool, false) => Values::Bool(t.raw_data.iter().map(|&v| v != 0).collect()),
        (_, true) => Values::U8(t.int32_data.iter().map(|&v| v as u8).collect()),
        (_, false) => Values::U8(t.raw_data),
    };
    Ok(Constant { dims, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of IEEE 754-2019 and its edges.
    #[test]
    fn halves_are_what_they_stand_for() {
        let known = [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0400, 6.103_515_6e-5), (0x0001, 5.960_464_5e-8)];
        assert!(known.iter().all(|(bits, x)| half(*bits) == *x));
        assert_eq!((half(0x3555), half(0x7c00), half(0xfc00)), (0.333_251_95, f32::INFINITY, f32::NEG_INFINITY));
        assert!(half(0x7e00).is_nan() && half(0x8000) == 0.0);
    }
}
