//! Writes a network as ONNX: in f32, and quantised as QDQ. The only module that knows the proto.
//!
//! Does not decide steps or zero points; it lays out what it is given.

use crate::network::{Layer, LayerKind, Network, Place, SIDE};
use prost::Message;
use std::collections::BTreeMap;
use tract_onnx::pb;

/// Step and zero point of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    /// Real size of one step.
    pub scale: f32,
    /// The int8 value that stands for 0.
    pub zero_point: i8,
}

/// A layer's weights in int8.
#[derive(Clone, Debug)]
pub struct QuantLayer {
    /// As the layer's, `[taps, output]`.
    pub weights: Vec<i8>,
    /// One step an output.
    pub scales: Vec<f32>,
    /// In steps of the accumulator.
    pub bias: Vec<i32>,
}

/// Everything that a quantised graph adds to a network.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The picture's step and zero point.
    pub input: Quant,
    /// Each activation's.
    pub places: BTreeMap<Place, Quant>,
    /// Each layer's weights.
    pub layers: Vec<QuantLayer>,
    /// The head's weights, `[channels, tags]`.
    pub head: QuantLayer,
}

/// A graph under construction.
#[derive(Default)]
struct Builder {
    nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
}

impl Builder {
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

    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<pb::AttributeProto>) -> String {
        self.nodes.push(pb::NodeProto {
            name: output.into(),
            op_type: op.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.into()],
            attribute: attributes,
            ..Default::default()
        });
        output.into()
    }

    /// QuantizeLinear and DequantizeLinear of an activation; returns the dequantised name.
    fn requantise(&mut self, name: &str, q: Quant) -> String {
        let scale = self.reals(&format!("{name}_scale"), &[], &[q.scale]);
        let zero = self.bytes(&format!("{name}_zero_point"), &[], &[q.zero_point]);
        let int = self.node("QuantizeLinear", &[name, &scale, &zero], &format!("{name}_int8"), Vec::new());
        self.node("DequantizeLinear", &[&int, &scale, &zero], &format!("{name}_real"), Vec::new())
    }

    /// DequantizeLinear of weights `[outputs, ..]` and of their bias.
    fn weights(&mut self, name: &str, dims: &[usize], weights: &[i8], layer: &QuantLayer, input: f32) -> (String, String) {
        let outputs = layer.scales.len();
        let axis = || vec![int("axis", 0)];
        let w = self.bytes(&format!("{name}_w"), dims, weights);
        let ws = self.reals(&format!("{name}_w_scale"), &[outputs], &layer.scales);
        let wz = self.bytes(&format!("{name}_w_zero_point"), &[outputs], &vec![0; outputs]);
        let b = self.words(&format!("{name}_b"), &[outputs], &layer.bias);
        let steps: Vec<f32> = layer.scales.iter().map(|s| input * s).collect();
        let bs = self.reals(&format!("{name}_b_scale"), &[outputs], &steps);
        let bz = self.words(&format!("{name}_b_zero_point"), &[outputs], &vec![0; outputs]);
        let weights = self.node("DequantizeLinear", &[&w, &ws, &wz], &format!("{name}_w_real"), axis());
        let bias = self.node("DequantizeLinear", &[&b, &bs, &bz], &format!("{name}_b_real"), axis());
        (weights, bias)
    }

    fn finish(self, tags: usize) -> Vec<u8> {
        let model = pb::ModelProto {
            ir_version: 8,
            producer_name: "tagpin-tools".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(pb::GraphProto {
                name: "tagpin".into(),
                node: self.nodes,
                initializer: self.constants,
                input: vec![value("picture", &[1, 3, SIDE, SIDE])],
                output: vec![value("logits", &[1, tags])],
                ..Default::default()
            }),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn int(name: &str, i: i64) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Int as i32;
    pb::AttributeProto { name: name.into(), r#type, i, ..Default::default() }
}

fn ints(name: &str, ints: Vec<i64>) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Ints as i32;
    pb::AttributeProto { name: name.into(), r#type, ints, ..Default::default() }
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

/// Shape and order of a layer's weights in ONNX: `[out, in / groups, rows, columns]` from `[taps, out]`.
fn layout<T: Copy>(layer: &Layer, weights: &[T]) -> (Vec<usize>, Vec<T>) {
    let (co, kernel) = (layer.output, if let LayerKind::Pointwise { .. } = layer.kind { 1 } else { 3 });
    let ci = if let LayerKind::Depthwise { .. } = layer.kind { 1 } else { layer.input };
    let mut out = Vec::with_capacity(weights.len());
    for o in 0..co {
        for i in 0..ci {
            out.extend((0..kernel * kernel).map(|tap| weights[(tap * ci + i) * co + o]));
        }
    }
    (vec![co, ci, kernel, kernel], out)
}

fn attributes(layer: &Layer) -> Vec<pb::AttributeProto> {
    let (kernel, stride, pad, group) = match layer.kind {
        LayerKind::Stem => (3, 2, 1, 1),
        LayerKind::Depthwise { stride } => (3, stride as i64, 1, layer.input as i64),
        LayerKind::Pointwise { .. } => (1, 1, 0, 1),
    };
    vec![
        ints("kernel_shape", vec![kernel; 2]),
        ints("strides", vec![stride; 2]),
        ints("pads", vec![pad; 4]),
        int("group", group),
    ]
}

fn transposed<T: Copy>(weights: &[T], tags: usize) -> Vec<T> {
    let channels = weights.len() / tags;
    (0..tags * channels).map(|i| weights[i % channels * tags + i / channels]).collect()
}

/// The network as ONNX: in f32, or as QDQ if `quantised` is given. Input `picture` NCHW, output `logits`.
pub fn write(network: &Network, quantised: Option<&Quantised>) -> Vec<u8> {
    let mut b = Builder::default();
    let place = |b: &mut Builder, name: String, place: Place| match quantised {
        Some(q) => b.requantise(&name, q.places[&place]),
        None => name,
    };
    let mut x = match quantised {
        Some(q) => b.requantise("picture", q.input),
        None => "picture".to_string(),
    };
    let step_of = |p: Option<Place>| quantised.map(|q| p.map_or(q.input, |p| q.places[&p]).scale).unwrap_or(1.0);
    let mut at = None;
    let mut before = String::new();
    if quantised.is_none() {
        b.reals("zero", &[], &[0.0]);
        b.reals("six", &[], &[6.0]);
    }
    for (i, layer) in network.layers.iter().enumerate() {
        if let LayerKind::Depthwise { .. } = layer.kind {
            before.clone_from(&x);
        }
        let name = format!("layer{i}");
        let (w, bias) = match quantised {
            Some(q) => {
                let (dims, w) = layout(layer, &q.layers[i].weights);
                b.weights(&name, &dims, &w, &q.layers[i], step_of(at))
            }
            None => {
                let (dims, w) = layout(layer, &layer.weights);
                (b.reals(&format!("{name}_w"), &dims, &w), b.reals(&format!("{name}_b"), &[layer.output], &layer.bias))
            }
        };
        // In int8 the ReLU6 is the range: zero point -128 clips below 0, the step clips near 6.
        let conv = b.node("Conv", &[&x, &w, &bias], &format!("{name}_conv"), attributes(layer));
        let clipped = match quantised {
            Some(_) => b.node("Relu", &[&conv], &name, Vec::new()),
            None => b.node("Clip", &[&conv, "zero", "six"], &name, Vec::new()),
        };
        x = place(&mut b, clipped, Place::Layer(i));
        at = Some(Place::Layer(i));
        if let LayerKind::Pointwise { residual: true } = layer.kind {
            let sum = b.node("Add", &[&x, &before], &format!("{name}_sum"), Vec::new());
            x = place(&mut b, sum, Place::Sum(i));
            at = Some(Place::Sum(i));
        }
    }
    let average = b.node("GlobalAveragePool", &[&x], "average", Vec::new());
    let average = place(&mut b, average, Place::Average);
    let flat = b.node("Flatten", &[&average], "features", vec![int("axis", 1)]);
    let tags = network.tags.len();
    let channels = network.head_weights.len() / tags;
    let (w, bias) = match quantised {
        Some(q) => {
            let w = transposed(&q.head.weights, tags);
            b.weights("head", &[tags, channels], &w, &q.head, step_of(Some(Place::Average)))
        }
        None => {
            let w = transposed(&network.head_weights, tags);
            (b.reals("head_w", &[tags, channels], &w), b.reals("head_b", &[tags], &network.head_bias))
        }
    };
    b.node("Gemm", &[&flat, &w, &bias], "logits", vec![int("transB", 1)]);
    b.finish(tags)
}
