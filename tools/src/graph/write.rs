//! Writes a graph as ONNX: in f32, or quantised as QDQ with the scales and zero points it is given.

use super::{Clamp, Conv, Edge, Graph, Node, Op, Window};
use anyhow::{Context, Result};
use prost::Message;
use std::collections::BTreeMap;
use tract_onnx::pb;

/// Scale and zero point of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    /// The real number that one step stands for.
    pub scale: f32,
    /// The int8 value that stands for 0.
    pub zero_point: i8,
}

impl Quant {
    /// The narrowest asymmetric int8 range that holds `low..=high` and 0, with 0 exact.
    pub fn of_range(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / 255.0).max(1e-9);
        Self { scale, zero_point: (-128.0 - low / scale).round_ties_even().clamp(-128.0, 127.0) as i8 }
    }
}

/// A node's weights in int8.
#[derive(Clone, Debug)]
pub struct QuantWeights {
    /// In the node's order.
    pub weights: Vec<i8>,
    /// One scale per output.
    pub scales: Vec<f32>,
    /// In units of the accumulator.
    pub bias: Vec<i32>,
}

/// Everything that a quantised graph adds to a float one.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// Scale and zero point of each value, the image included; logits stay unquantised.
    pub activations: BTreeMap<Edge, Quant>,
    /// By node index: the int8 weights of each node that has any.
    pub weights: BTreeMap<usize, QuantWeights>,
}

/// Keys of the normalisation in the file's metadata.
pub(super) const MEAN: &str = "tagpin.mean";
/// See [`MEAN`].
pub(super) const STD: &str = "tagpin.std";

/// The graph as ONNX: in f32, or as QDQ if `quantised` is given. Input `picture` NCHW, output
/// `logits` (or the last node's name, if the graph has no matrix at its end).
pub fn write(graph: &Graph, quantised: Option<&Quantised>) -> Result<Vec<u8>> {
    Builder { quantised, ..Builder::default() }.graph(graph)
}

/// The name of a node's value in the ONNX file of [`write()`]; in a quantised file, the name of the
/// dequantised value.
pub fn value_name(graph: &Graph, node: usize, quantised: bool) -> String {
    let name = &graph.nodes[node].name;
    match (&graph.nodes[node].op, quantised) {
        (Op::Linear(_), _) if node + 1 == graph.nodes.len() => "logits".into(),
        (_, false) => name.clone(),
        (Op::Average, true) => format!("{name}_pool_real"),
        (_, true) => format!("{name}_real"),
    }
}

/// The same model with the values of these names as its outputs, in that order.
pub fn with_outputs(onnx: &[u8], names: &[String]) -> Result<Vec<u8>> {
    let mut model = pb::ModelProto::decode(onnx)?;
    let graph = model.graph.as_mut().context("the model has no graph")?;
    let real = |name: &String| {
        let tensor = pb::type_proto::Tensor { elem_type: pb::tensor_proto::DataType::Float as i32, shape: None };
        let r#type = Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() });
        pb::ValueInfoProto { name: name.clone(), r#type, ..Default::default() }
    };
    graph.output = names.iter().map(real).collect();
    Ok(model.encode_to_vec())
}

/// A graph under construction.
#[derive(Default)]
struct Builder<'a> {
    quantised: Option<&'a Quantised>,
    nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
}

impl Builder<'_> {
    fn graph(mut self, graph: &Graph) -> Result<Vec<u8>> {
        let shapes = graph.shapes()?;
        let mut names = BTreeMap::from([(Edge::Image, self.settle("picture".into(), Edge::Image)?)]);
        let last = graph.nodes.len() - 1;
        for (i, node) in graph.nodes.iter().enumerate() {
            let inputs: Vec<&str> = node.inputs.iter().map(|e| names[e].as_str()).collect();
            let name = value_name(graph, i, false);
            let result = self.operator(i, node, &name, &inputs, i == last)?;
            names.insert(Edge::Node(i), result);
        }
        let flat = |s: [usize; 3]| if s[0] * s[1] == 1 { vec![1, s[2]] } else { vec![1, s[2], s[0], s[1]] };
        let output = value(&names[&Edge::Node(last)], &flat(shapes[last]));
        let three = |v: [f32; 3]| v.map(|v| v.to_string()).join(",");
        let property = |key: &str, v| pb::StringStringEntryProto { key: key.into(), value: three(v) };
        let model = pb::ModelProto {
            ir_version: 8,
            producer_name: "tagpin-tools".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 13 }],
            metadata_props: vec![property(MEAN, graph.normalise.mean), property(STD, graph.normalise.std)],
            graph: Some(pb::GraphProto {
                name: "tagpin".into(),
                node: self.nodes,
                initializer: self.constants,
                input: vec![value("picture", &[1, 3, graph.side, graph.side])],
                output: vec![output],
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok(model.encode_to_vec())
    }

    /// Writes one operator; returns the name by which others take its value.
    fn operator(&mut self, i: usize, node: &Node, name: &str, inputs: &[&str], last: bool) -> Result<String> {
        let raw = match &node.op {
            Op::Conv(conv) => {
                let [ky, kx] = conv.window.kernel;
                let dims = [conv.outputs, conv.inputs / conv.groups, ky, kx];
                let (w, b) = self.weights(i, node, &dims, &conv.weights, &conv.bias)?;
                let raw = if conv.clamp == Clamp::NONE { name.into() } else { format!("{name}_conv") };
                let raw = self.node("Conv", &[inputs[0], &w, &b], &raw, attributes(conv));
                self.name_last(name);
                self.clamp(raw, conv.clamp, name)
            }
            Op::Add(clamp) => {
                let raw = if *clamp == Clamp::NONE { name.into() } else { format!("{name}_sum") };
                let raw = self.node("Add", inputs, &raw, Vec::new());
                self.name_last(name);
                self.clamp(raw, *clamp, name)
            }
            Op::MaxPool(window) => {
                let raw = self.node("MaxPool", inputs, name, slide(window));
                self.name_last(name);
                raw
            }
            Op::Average => {
                let pooled = self.node("GlobalAveragePool", inputs, &format!("{name}_pool"), Vec::new());
                self.name_last(name);
                let pooled = self.settle(pooled, Edge::Node(i))?;
                return Ok(self.node("Flatten", &[&pooled], name, vec![int("axis", 1)]));
            }
            Op::Linear(linear) => {
                let (w, b) = self.weights(i, node, &[linear.outputs, linear.inputs], &linear.weights, &linear.bias)?;
                let raw = self.node("Gemm", &[inputs[0], &w, &b], name, vec![int("transB", 1)]);
                self.name_last(&node.name);
                // Logits stay as they are: an int8 logit moves a score by several points.
                if last {
                    return Ok(raw);
                }
                raw
            }
        };
        self.settle(raw, Edge::Node(i))
    }

    fn clamp(&mut self, raw: String, clamp: Clamp, name: &str) -> String {
        match clamp {
            Clamp::NONE => raw,
            Clamp { low: 0.0, high: f32::INFINITY } => self.node("Relu", &[&raw], name, Vec::new()),
            Clamp { low, high } => {
                let low = self.reals(&format!("{name}_low"), &[], &[low]);
                let high = self.reals(&format!("{name}_high"), &[], &[high]);
                self.node("Clip", &[&raw, &low, &high], name, Vec::new())
            }
        }
    }

    /// QuantizeLinear and DequantizeLinear of a value, if the graph is quantised; returns the name
    /// that others take.
    fn settle(&mut self, name: String, edge: Edge) -> Result<String> {
        let Some(quantised) = self.quantised else { return Ok(name) };
        let q = quantised.activations.get(&edge).with_context(|| format!("value \"{name}\" was not calibrated"))?;
        let scale = self.reals(&format!("{name}_scale"), &[], &[q.scale]);
        let zero = self.bytes(&format!("{name}_zero_point"), &[], &[q.zero_point]);
        let int = self.node("QuantizeLinear", &[&name, &scale, &zero], &format!("{name}_int8"), Vec::new());
        Ok(self.node("DequantizeLinear", &[&int, &scale, &zero], &format!("{name}_real"), Vec::new()))
    }

    /// A node's weights and bias, quantised or not; returns their names.
    fn weights(&mut self, i: usize, node: &Node, dims: &[usize], w: &[f32], b: &[f32]) -> Result<(String, String)> {
        let name = &node.name;
        let Some(quantised) = self.quantised else {
            return Ok((self.reals(&format!("{name}_w"), dims, w), self.reals(&format!("{name}_b"), &[b.len()], b)));
        };
        let layer = quantised.weights.get(&i).with_context(|| format!("node \"{name}\" has no int8 weights"))?;
        let input = quantised.activations[&node.inputs[0]].scale;
        let outputs = layer.scales.len();
        let axis = || vec![int("axis", 0)];
        let w = self.bytes(&format!("{name}_w"), dims, &layer.weights);
        let ws = self.reals(&format!("{name}_w_scale"), &[outputs], &layer.scales);
        let wz = self.bytes(&format!("{name}_w_zero_point"), &[outputs], &vec![0; outputs]);
        let b = self.words(&format!("{name}_b"), &[outputs], &layer.bias);
        let steps: Vec<f32> = layer.scales.iter().map(|s| input * s).collect();
        let bs = self.reals(&format!("{name}_b_scale"), &[outputs], &steps);
        let bz = self.words(&format!("{name}_b_zero_point"), &[outputs], &vec![0; outputs]);
        let weights = self.node("DequantizeLinear", &[&w, &ws, &wz], &format!("{name}_w_real"), axis());
        let bias = self.node("DequantizeLinear", &[&b, &bs, &bz], &format!("{name}_b_real"), axis());
        Ok((weights, bias))
    }

    fn constant(&mut self, name: &str, dims: &[usize], ty: pb::tensor_proto::DataType, raw: Vec<u8>) -> String {
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.constants.push(pb::TensorProto {
            name: name.into(),
            dims,
            data_type: ty as i32,
            raw_data: raw,
            ..Default::default()
        });
        name.into()
    }

    fn reals(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, dims, pb::tensor_proto::DataType::Float, raw)
    }

    fn bytes(&mut self, name: &str, dims: &[usize], values: &[i8]) -> String {
        self.constant(name, dims, pb::tensor_proto::DataType::Int8, values.iter().map(|&v| v as u8).collect())
    }

    fn words(&mut self, name: &str, dims: &[usize], values: &[i32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, dims, pb::tensor_proto::DataType::Int32, raw)
    }

    /// Renames the node just added to the graph's own name for it.
    fn name_last(&mut self, name: &str) {
        self.nodes.last_mut().expect("a node was just added").name = name.into();
    }

    /// Adds a node, named after its output.
    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<pb::AttributeProto>) -> String {
        self.nodes.push(pb::NodeProto {
            name: format!("{output}:{op}"),
            op_type: op.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.into()],
            attribute: attributes,
            ..Default::default()
        });
        output.into()
    }
}

fn int(name: &str, i: i64) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Int as i32;
    pb::AttributeProto { name: name.into(), r#type, i, ..Default::default() }
}

fn ints(name: &str, values: &[usize]) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Ints as i32;
    pb::AttributeProto { name: name.into(), r#type, ints: values.iter().map(|&v| v as i64).collect(), ..Default::default() }
}

fn slide(window: &Window) -> Vec<pb::AttributeProto> {
    vec![ints("kernel_shape", &window.kernel), ints("strides", &window.stride), ints("pads", &window.pads)]
}

fn attributes(conv: &Conv) -> Vec<pb::AttributeProto> {
    let mut all = slide(&conv.window);
    all.push(int("group", conv.groups as i64));
    all
}

fn value(name: &str, dims: &[usize]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = dims.iter().map(|&d| Dimension { value: Some(Value::DimValue(d as i64)), ..Default::default() }).collect();
    let tensor = pb::type_proto::Tensor {
        elem_type: pb::tensor_proto::DataType::Float as i32,
        shape: Some(pb::TensorShapeProto { dim }),
    };
    let r#type = Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() });
    pb::ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}
