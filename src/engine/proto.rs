//! Validates an ONNX model before anything trusts it: names, shapes, sizes, limits. Parsing itself is tract's.
//!
//! Does not know what an operator computes.

use super::EngineError;
use std::collections::HashMap;
use tract_onnx::pb;
use tract_onnx::prelude::Framework;

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
    /// Text.
    Text(String),
    /// Anything else, kept so that an operator can refuse it.
    Other,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, or its first output's.
    pub name: String,
    /// The operator.
    pub op: String,
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
    /// Nodes; each input is a constant, the graph's input or an earlier node's output.
    pub nodes: Vec<Node>,
    /// Constants by name.
    pub constants: HashMap<String, Constant>,
    /// The input's name.
    pub input: String,
    /// The input's shape; a symbolic batch is 1.
    pub input_dims: Vec<usize>,
    /// The output's name.
    pub output: String,
}

/// Reads and validates an ONNX model.
pub fn read(bytes: &[u8]) -> Result<Graph, EngineError> {
    let model = tract_onnx::onnx()
        .proto_model_for_read(&mut std::io::Cursor::new(bytes))
        .map_err(|e| EngineError::Parse(e.root_cause().to_string()))?;
    from_proto(model)
}

fn limit(why: impl Into<String>) -> EngineError {
    EngineError::Limit(why.into())
}

/// Validates a parsed model.
pub fn from_proto(model: pb::ModelProto) -> Result<Graph, EngineError> {
    let standard = model.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let opset = standard.map_or(0, |o| o.version);
    if !(10..=25).contains(&opset) {
        return Err(limit(format!("opset {opset}, expected 10..=25")));
    }
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
    let mut known = std::collections::HashSet::new();
    // One after the other goes, so that its bytes are not held twice.
    for tensor in std::mem::take(&mut graph.initializer) {
        known.insert(tensor.name.clone());
        constants.insert(tensor.name.clone(), constant(tensor)?);
    }
    let mut inputs = graph.input.iter().filter(|i| !constants.contains_key(&i.name));
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err(limit("expected exactly one input"));
    };
    let [output] = graph.output.as_slice() else {
        return Err(limit(format!("{} outputs, expected one", graph.output.len())));
    };
    let input_dims = dims_of(input)?;
    let mut nodes = Vec::with_capacity(graph.node.len());
    known.insert(input.name.clone());
    for node in &graph.node {
        let name = if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
        if !matches!(node.domain.as_str(), "" | "ai.onnx" | "com.microsoft") {
            return Err(limit(format!("node \"{name}\" is of the unknown domain \"{}\"", node.domain)));
        }
        if let Some(unknown) = node.input.iter().find(|i| !i.is_empty() && !known.contains(*i)) {
            return Err(limit(format!("node \"{name}\" reads \"{unknown}\" before anything made it")));
        }
        for out in &node.output {
            if !known.insert(out.clone()) {
                return Err(limit(format!("node \"{name}\" makes \"{out}\" a second time")));
            }
        }
        if node.op_type == "Constant" {
            let value = node.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
            let (Some(value), [out]) = (value, node.output.as_slice()) else {
                return Err(limit(format!("node \"{name}\" is a constant without a tensor")));
            };
            constants.insert(out.clone(), constant(value.clone())?);
            continue;
        }
        nodes.push(Node {
            name,
            op: node.op_type.clone(),
            inputs: node.input.clone(),
            outputs: node.output.clone(),
            attributes: node.attribute.iter().map(|a| (a.name.clone(), attribute(a))).collect(),
        });
    }
    if !known.contains(&output.name) {
        return Err(limit(format!("nothing makes the output \"{}\"", output.name)));
    }
    Ok(Graph { nodes, constants, input: input.name.clone(), input_dims, output: output.name.clone() })
}

fn attribute(a: &pb::AttributeProto) -> Attribute {
    use pb::attribute_proto::AttributeType as T;
    match T::try_from(a.r#type) {
        Ok(T::Int) => Attribute::Int(a.i),
        Ok(T::Float) => Attribute::Float(a.f),
        Ok(T::Ints) => Attribute::Ints(a.ints.clone()),
        Ok(T::String) => Attribute::Text(String::from_utf8_lossy(&a.s).into_owned()),
        _ => Attribute::Other,
    }
}

fn dims_of(value: &pb::ValueInfoProto) -> Result<Vec<usize>, EngineError> {
    use pb::tensor_shape_proto::dimension::Value as D;
    use pb::type_proto::Value as T;
    let Some(T::TensorType(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Err(limit(format!("input \"{}\" is no tensor", value.name)));
    };
    let shape = tensor.shape.as_ref().ok_or_else(|| limit(format!("input \"{}\" has no shape", value.name)))?;
    if shape.dim.len() > MAX_RANK {
        return Err(limit(format!("input \"{}\" has {} dimensions", value.name, shape.dim.len())));
    }
    let one = |(axis, d): (usize, &pb::tensor_shape_proto::Dimension)| match &d.value {
        Some(D::DimValue(n)) if *n > 0 && *n <= 1 << 16 => Ok(*n as usize),
        Some(D::DimParam(_)) | None if axis == 0 => Ok(1),
        other => Err(limit(format!("input \"{}\", dimension {axis}: {other:?}, expected a number", value.name))),
    };
    shape.dim.iter().enumerate().map(one).collect()
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
        D::Int8 | D::Uint8 => (1, t.int32_data.len()),
        other => return Err(refuse(format!("type {other:?}, expected float, int8, uint8, int32 or int64"))),
    };
    let found = if raw.is_empty() { listed } else { raw.len() / width };
    if found != len || (!raw.is_empty() && raw.len() != len * width) {
        return Err(refuse(format!("{found} values for shape {dims:?}")));
    }
    let words = || raw.as_chunks::<4>().0.iter();
    let values = match (ty, raw.is_empty()) {
        (D::Float, true) => Values::F32(t.float_data),
        (D::Float, false) => Values::F32(words().map(|b| f32::from_le_bytes(*b)).collect()),
        (D::Int32, true) => Values::I32(t.int32_data),
        (D::Int32, false) => Values::I32(words().map(|b| i32::from_le_bytes(*b)).collect()),
        (D::Int64, true) => Values::I64(t.int64_data),
        (D::Int64, false) => Values::I64(raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        (D::Int8, true) => Values::I8(t.int32_data.iter().map(|&v| v as i8).collect()),
        (D::Int8, false) => Values::I8(t.raw_data.into_iter().map(|v| v as i8).collect()),
        (_, true) => Values::U8(t.int32_data.iter().map(|&v| v as u8).collect()),
        (_, false) => Values::U8(t.raw_data),
    };
    Ok(Constant { dims, values })
}
