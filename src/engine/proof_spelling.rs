//! ONNX Runtime's own operators, and QLinearConv with QLinearMatMul, in operators that tract knows:
//! DequantizeLinear, the real operator, QuantizeLinear. Read from the file's messages, not through
//! the engine's own reading of them.

use std::collections::HashMap;
use tract_onnx::pb;

/// A node that is being said in others.
struct Spelling<'a> {
    node: &'a pb::NodeProto,
    at: usize,
    graph: &'a mut pb::GraphProto,
    n: usize,
}

/// Adds a node to a graph as tract reads it. `constants`: the file's.
pub(super) fn spelled(
    node: &pb::NodeProto,
    at: usize,
    graph: &mut pb::GraphProto,
    constants: &HashMap<String, pb::TensorProto>,
) {
    let mut s = Spelling { node, at, graph, n: 0 };
    let op = node.op_type.as_str();
    match op {
        "QLinearAdd" | "QLinearMul" => {
            let (a, b) = (s.real(0), s.real(3));
            let y = s.inner(&op["QLinear".len()..], vec![a, b], vec![]);
            s.quantised(y, 6);
        }
        "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearAveragePool" | "QLinearGlobalAveragePool" => {
            let x = s.real(0);
            let attributes = s.attributes(&["channels_last"]);
            let y = s.inner(&op["QLinear".len()..], vec![x], attributes);
            s.quantised(y, 3);
        }
        "QLinearConcat" => {
            let parts = (2..node.input.len()).step_by(3).map(|i| s.real(i)).collect();
            let attributes = s.attributes(&[]);
            let y = s.inner("Concat", parts, attributes);
            s.quantised(y, 0);
        }
        "QLinearMatMul" => {
            let (a, b) = (
                s.real(0),
                s.weights(3, node.input.get(3).and_then(|b| constants.get(b)).map_or(1, |t| t.dims.len() as i64 - 1)),
            );
            let y = s.inner("MatMul", vec![a, b], vec![]);
            s.quantised(y, 6);
        }
        "QLinearConv" => {
            let (x, w) = (s.real(0), s.weights(3, 0));
            let mut inputs = vec![x, w];
            inputs.extend(s.bias(8, [1, 4], 1.0, constants));
            let attributes = s.attributes(&[]);
            let y = s.inner("Conv", inputs, attributes);
            s.quantised(y, 6);
        }
        "QGemm" => {
            let turned = node.attribute.iter().any(|a| a.name == "transB" && a.i == 1);
            let alpha = node.attribute.iter().find(|a| a.name == "alpha").map_or(1.0, |a| a.f);
            let (a, b) = (s.real(0), s.weights(3, i64::from(!turned)));
            let mut inputs = vec![a, b];
            inputs.extend(s.bias(6, [1, 4], alpha, constants));
            let attributes = s.attributes(&[]);
            let y = s.inner("Gemm", inputs, attributes);
            match s.has(7) {
                true => s.quantised(y, 7),
                false => s.push("Identity", vec![y], node.output.clone(), vec![]),
            }
        }
        // Without a zero point it is 0 of the type that is stated.
        "QuantizeLinear" if !s.has(2) && node.attribute.iter().any(|a| a.name == "output_dtype" && a.i == 3) => {
            let zero = s.constant(pb::tensor_proto::DataType::Int8, vec![], vec![0]);
            s.push("QuantizeLinear", vec![node.input[0].clone(), node.input[1].clone(), zero], node.output.clone(), vec![]);
        }
        _ => {
            let mut node = node.clone();
            node.name = format!("node{at}");
            node.domain = String::new();
            s.graph.node.push(node);
        }
    }
}

impl Spelling<'_> {
    fn has(&self, i: usize) -> bool {
        self.node.input.get(i).is_some_and(|name| !name.is_empty())
    }

    fn input(&self, i: usize) -> String {
        self.node.input.get(i).cloned().unwrap_or_default()
    }

    /// The node's attributes but these.
    fn attributes(&self, without: &[&str]) -> Vec<pb::AttributeProto> {
        self.node.attribute.iter().filter(|a| !without.contains(&a.name.as_str())).cloned().collect()
    }

    fn push(&mut self, op: &str, mut input: Vec<String>, output: Vec<String>, attribute: Vec<pb::AttributeProto>) {
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        self.n += 1;
        let name = format!("node{}.{}", self.at, self.n);
        self.graph.node.push(pb::NodeProto { name, op_type: op.into(), input, output, attribute, ..Default::default() });
    }

    fn inner(&mut self, op: &str, input: Vec<String>, attribute: Vec<pb::AttributeProto>) -> String {
        let name = format!("proof{}.{}", self.at, self.n + 1);
        self.push(op, input, vec![name.clone()], attribute);
        name
    }

    fn constant(&mut self, ty: pb::tensor_proto::DataType, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        let name = format!("proof{}.constant{}", self.at, self.graph.initializer.len());
        let tensor = pb::TensorProto { name: name.clone(), dims, data_type: ty as i32, raw_data, ..Default::default() };
        self.graph.initializer.push(tensor);
        name
    }

    /// Operand `i` in reals, its scale and zero point after it.
    fn real(&mut self, i: usize) -> String {
        let inputs = vec![self.input(i), self.input(i + 1), self.input(i + 2)];
        self.inner("DequantizeLinear", inputs, vec![])
    }

    fn weights(&mut self, i: usize, axis: i64) -> String {
        let inputs = vec![self.input(i), self.input(i + 1), self.input(i + 2)];
        let axis = pb::AttributeProto { name: "axis".into(), r#type: 2, i: axis, ..Default::default() };
        self.inner("DequantizeLinear", inputs, vec![axis])
    }

    /// The int32 bias `i` in reals: its scale is the product of these two.
    fn bias(
        &mut self,
        i: usize,
        scales: [usize; 2],
        factor: f32,
        constants: &HashMap<String, pb::TensorProto>,
    ) -> Option<String> {
        let floats = |t: &pb::TensorProto| -> Vec<f32> {
            match t.raw_data.is_empty() {
                true => t.float_data.clone(),
                false => t.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            }
        };
        if !self.has(i) {
            return None;
        }
        let [a, b] = scales.map(|i| constants.get(&self.input(i)).map(floats).unwrap_or_default());
        let bytes: Vec<u8> = b.iter().flat_map(|s| (a.first().unwrap_or(&1.0) * s * factor).to_le_bytes()).collect();
        let dims = if b.len() == 1 { vec![] } else { vec![b.len() as i64] };
        let scale = self.constant(pb::tensor_proto::DataType::Float, dims, bytes);
        let axis = pb::AttributeProto { name: "axis".into(), r#type: 2, i: 0, ..Default::default() };
        Some(self.inner("DequantizeLinear", vec![self.input(i), scale], vec![axis]))
    }

    /// The node's result: a real value quantised by scale `i` and the zero point after it.
    fn quantised(&mut self, real: String, i: usize) {
        let inputs = vec![real, self.input(i), self.input(i + 1)];
        self.push("QuantizeLinear", inputs, self.node.output.clone(), vec![]);
    }
}
