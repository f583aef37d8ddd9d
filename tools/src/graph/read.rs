//! Reads a float ONNX classifier or backbone into a graph: normalisation folded, clamps joined to
//! their operators.
//!
//! The engine's `proto` module parses and validates the file. A node that the int8 engine cannot
//! run is refused here by name.

use super::write::{MEAN, STD};
use super::{Clamp, Conv, Edge, Graph, Linear, Node, Normalise, Op, Window};
use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use std::collections::HashMap;
use tagpin::engine::proto::{self, Attribute, Values};
use tract_onnx::pb;

/// Reads a model. `normalise` is used where the file does not carry its own; without either it is
/// refused.
pub fn read(bytes: &[u8], normalise: Option<Normalise>) -> Result<Graph> {
    let file = proto::read(bytes)?;
    let side = match file.input_dims.as_slice() {
        [_, 3, h, w] if h == w && *h > 0 => *h,
        dims => bail!("its input is {dims:?}, expected [1, 3, side, side]"),
    };
    let normalise = match carried(bytes)? {
        Some(own) => own,
        None => normalise.context("it does not say how its input is normalised; add --mean and --std as it was trained")?,
    };
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for name in file.nodes.iter().flat_map(|n| &n.inputs).chain([&file.output]) {
        *uses.entry(name).or_default() += 1;
    }
    let mut reader = Reader {
        file: &file,
        uses,
        values: HashMap::from([(file.input.clone(), Edge::Image)]),
        graph: Graph { side, normalise, nodes: Vec::new() },
    };
    for node in &file.nodes {
        reader.node(node).with_context(|| format!("node \"{}\" ({}) cannot be used as a backbone's", node.name, node.op))?;
    }
    let end = reader.values.get(&file.output).with_context(|| format!("output \"{}\" is not computed", file.output))?;
    ensure!(*end == Edge::Node(reader.graph.nodes.len() - 1), "its output is not its last value; cut what follows it");
    let graph = reader.graph;
    graph.shapes()?;
    Ok(graph)
}

fn carried(bytes: &[u8]) -> Result<Option<Normalise>> {
    let model = pb::ModelProto::decode(bytes)?;
    let three = |key: &str| -> Result<Option<[f32; 3]>> {
        let Some(entry) = model.metadata_props.iter().find(|p| p.key == key) else { return Ok(None) };
        let values: Vec<f32> = entry.value.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Some(<[f32; 3]>::try_from(values).map_err(|_| anyhow::anyhow!("metadata {key}: expected three numbers"))?))
    };
    Ok(three(MEAN)?.zip(three(STD)?).map(|(mean, std)| Normalise { mean, std }))
}

struct Reader<'a> {
    file: &'a proto::Graph,
    /// How often each value is taken.
    uses: HashMap<&'a str, usize>,
    values: HashMap<String, Edge>,
    graph: Graph,
}

impl Reader<'_> {
    fn node(&mut self, node: &proto::Node) -> Result<()> {
        let output = node.outputs.first().context("it makes nothing")?;
        let edge = match node.op.as_str() {
            "Conv" => self.conv(node)?,
            "BatchNormalization" => self.batch_norm(node)?,
            "Relu" => self.clamp(node, Clamp { low: 0.0, high: f32::INFINITY })?,
            "Clip" => {
                let bound = |i: usize, key: &str, without: f32| -> Result<f32> {
                    match (node.inputs.get(i).filter(|n| !n.is_empty()), node.attributes.get(key)) {
                        (Some(_), _) => Ok(self.reals(node, i)?[0]),
                        (None, Some(Attribute::Float(v))) => Ok(*v),
                        _ => Ok(without),
                    }
                };
                let clamp = Clamp { low: bound(1, "min", f32::NEG_INFINITY)?, high: bound(2, "max", f32::INFINITY)? };
                self.clamp(node, clamp)?
            }
            "Add" => self.add(node)?,
            "MaxPool" => {
                let from = self.value(node, 0)?;
                let window = self.window(node, None, from)?;
                self.graph.push(&node.name, Op::MaxPool(window), vec![from])
            }
            "GlobalAveragePool" => {
                let from = self.value(node, 0)?;
                self.graph.push(&node.name, Op::Average, vec![from])
            }
            "ReduceMean" => {
                let axes = match node.attributes.get("axes") {
                    Some(Attribute::Ints(axes)) => axes.clone(),
                    _ => self.integers(node, 1)?,
                };
                ensure!(matches!(axes.as_slice(), [2, 3] | [-2, -1]), "mean over axes {axes:?}, expected rows and columns");
                let from = self.value(node, 0)?;
                self.graph.push(&node.name, Op::Average, vec![from])
            }
            "AveragePool" => {
                let from = self.value(node, 0)?;
                let window = self.window(node, None, from)?;
                let [h, w, _] = self.shape(from)?;
                ensure!(window.kernel == [h, w] && window.pads == [0; 4], "an average over less than all {h}x{w} pixels");
                self.graph.push(&node.name, Op::Average, vec![from])
            }
            "Gemm" | "MatMul" => self.matrix(node)?,
            // Shapes only; a matrix takes the values of one pixel anyway.
            "Flatten" | "Reshape" | "Squeeze" | "Identity" | "Dropout" => self.value(node, 0)?,
            // Left to the head: scores are made of logits in fixed point.
            "Softmax" | "Sigmoid" if self.file.output == *output => self.value(node, 0)?,
            "QuantizeLinear" | "DequantizeLinear" | "QLinearConv" => {
                bail!("it is quantised already; give the float model, it is quantised here")
            }
            _ => bail!("this operator is not one of Conv, BatchNormalization, Relu, Clip, Add, MaxPool, averages, Gemm"),
        };
        self.values.insert(output.clone(), edge);
        Ok(())
    }

    fn value(&self, node: &proto::Node, i: usize) -> Result<Edge> {
        let name = node.inputs.get(i).context("an input is missing")?;
        self.values.get(name).copied().with_context(|| format!("input \"{name}\" is not computed from the image"))
    }

    fn shape(&self, edge: Edge) -> Result<[usize; 3]> {
        match edge {
            Edge::Image => Ok([self.graph.side, self.graph.side, 3]),
            Edge::Node(n) => Ok(self.graph.shapes()?[n]),
        }
    }

    fn constant(&self, node: &proto::Node, i: usize) -> Result<&proto::Constant> {
        let name = node.inputs.get(i).context("an input is missing")?;
        self.file.constants.get(name).with_context(|| format!("input \"{name}\" is not a constant"))
    }

    fn reals(&self, node: &proto::Node, i: usize) -> Result<&[f32]> {
        match &self.constant(node, i)?.values {
            Values::F32(v) if v.iter().all(|x| x.is_finite()) && !v.is_empty() => Ok(v),
            Values::F32(_) => bail!("input {i} is empty or holds values that are not finite"),
            _ => bail!("input {i} is not f32; give the float model, it is quantised here"),
        }
    }

    fn integers(&self, node: &proto::Node, i: usize) -> Result<Vec<i64>> {
        match &self.constant(node, i)?.values {
            Values::I64(v) => Ok(v.clone()),
            _ => bail!("input {i} is not a list of integers"),
        }
    }

    /// Whether the value of `node`'s first input, made by the last operator, is taken by nothing
    /// else.
    fn sole(&self, node: &proto::Node) -> bool {
        let last = self.graph.nodes.len().checked_sub(1).map(Edge::Node);
        let name = node.inputs.first().map(String::as_str).unwrap_or_default();
        last.is_some() && self.values.get(name) == last.as_ref() && self.uses.get(name) == Some(&1)
    }

    fn clamp(&mut self, node: &proto::Node, clamp: Clamp) -> Result<Edge> {
        ensure!(self.sole(node), "a clamp of a value that others take too");
        let last = self.graph.nodes.last_mut().expect("a sole value was made by a node");
        let own = match &mut last.op {
            Op::Conv(c) => &mut c.clamp,
            Op::Add(c) => c,
            _ => bail!("a clamp that follows neither a convolution nor an addition"),
        };
        *own = Clamp { low: own.low.max(clamp.low), high: own.high.min(clamp.high) };
        self.value(node, 0)
    }

    fn conv(&mut self, node: &proto::Node) -> Result<Edge> {
        let from = self.value(node, 0)?;
        let &[outputs, per_group, ky, kx] = self.constant(node, 1)?.dims.as_slice() else {
            bail!("weights are not [out, in, rows, columns]")
        };
        ensure!([outputs, per_group, ky, kx].iter().all(|d| *d > 0), "its weights are empty");
        let groups = match node.attributes.get("group") {
            Some(Attribute::Int(g)) => usize::try_from(*g).ok().filter(|g| *g > 0).context("groups below 1")?,
            _ => 1,
        };
        let weights = self.reals(node, 1)?.to_vec();
        let bias = match node.inputs.get(2).filter(|n| !n.is_empty()) {
            Some(_) => self.reals(node, 2)?.to_vec(),
            None => vec![0.0; outputs],
        };
        let window = self.window(node, Some([ky, kx]), from)?;
        let conv = Conv { window, inputs: per_group * groups, outputs, groups, weights, bias, clamp: Clamp::NONE };
        Ok(self.graph.push(&node.name, Op::Conv(conv), vec![from]))
    }

    fn batch_norm(&mut self, node: &proto::Node) -> Result<Edge> {
        ensure!(self.sole(node), "a normalisation of a value that others take too");
        let epsilon = match node.attributes.get("epsilon") {
            Some(Attribute::Float(e)) => *e,
            _ => 1e-5,
        };
        let all: Vec<Vec<f32>> = (1..5).map(|i| self.reals(node, i).map(<[f32]>::to_vec)).collect::<Result<_>>()?;
        let Some(Node { op: Op::Conv(conv), .. }) = self.graph.nodes.last_mut() else {
            bail!("a normalisation that does not follow a convolution")
        };
        ensure!(conv.clamp == Clamp::NONE && all.iter().all(|v| v.len() == conv.outputs), "it does not fit its convolution");
        conv.fold([&all[0], &all[1], &all[2], &all[3]], epsilon);
        self.value(node, 0)
    }

    fn add(&mut self, node: &proto::Node) -> Result<Edge> {
        if let Ok(a) = self.value(node, 0)
            && let Ok(b) = self.value(node, 1)
        {
            return Ok(self.graph.push(&node.name, Op::Add(Clamp::NONE), vec![a, b]));
        }
        // A matrix product without bias, and its bias.
        let (constant, made) = if self.value(node, 0).is_ok() { (1, 0) } else { (0, 1) };
        let bias = self.reals(node, constant)?.to_vec();
        let edge = self.value(node, made)?;
        match (edge, self.graph.nodes.last_mut()) {
            (Edge::Node(_), Some(Node { op: Op::Linear(l), .. })) if l.bias.len() == bias.len() => {
                l.bias.iter_mut().zip(&bias).for_each(|(b, v)| *b += v);
                Ok(edge)
            }
            _ => bail!("it adds a constant to something else than a matrix product"),
        }
    }

    fn matrix(&mut self, node: &proto::Node) -> Result<Edge> {
        let from = self.value(node, 0)?;
        let flag = |key: &str| matches!(node.attributes.get(key), Some(Attribute::Int(1)));
        for key in ["alpha", "beta"] {
            ensure!(!matches!(node.attributes.get(key), Some(Attribute::Float(v)) if *v != 1.0), "{key} is not 1");
        }
        let &[rows, columns] = self.constant(node, 1)?.dims.as_slice() else { bail!("its matrix has not two dimensions") };
        ensure!(rows > 0 && columns > 0, "its matrix is empty");
        let values = self.reals(node, 1)?;
        let (inputs, outputs, weights) = if flag("transB") {
            (columns, rows, values.to_vec())
        } else {
            (rows, columns, (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect())
        };
        let bias = match node.inputs.get(2).filter(|n| !n.is_empty()) {
            Some(_) => self.reals(node, 2)?.to_vec(),
            None => vec![0.0; outputs],
        };
        Ok(self.graph.push(&node.name, Op::Linear(Linear { inputs, outputs, weights, bias }), vec![from]))
    }

    fn window(&self, node: &proto::Node, kernel: Option<[usize; 2]>, from: Edge) -> Result<Window> {
        let list = |key: &str| match node.attributes.get(key) {
            Some(Attribute::Ints(v)) => v.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<Vec<_>>>(),
            _ => Some(Vec::new()),
        };
        let list = |key: &str| list(key).with_context(|| format!("{key} below 0"));
        let pair = |key: &str| match list(key)?.as_slice() {
            [] => Ok([1, 1]),
            &[y, x] if y > 0 && x > 0 => Ok([y, x]),
            other => bail!("{key} is {other:?}, expected two numbers above 0"),
        };
        ensure!(pair("dilations")? == [1, 1], "dilated windows are not supported");
        let (kernel, stride) = (kernel.map_or_else(|| pair("kernel_shape"), Ok)?, pair("strides")?);
        let pads = match (node.attributes.get("auto_pad"), list("pads")?.as_slice()) {
            (Some(Attribute::Text(t)), _) if t.starts_with("SAME") => {
                let [h, w, _] = self.shape(from)?;
                let same = |side: usize, k: usize, s: usize| {
                    let all = ((side.div_ceil(s) - 1) * s + k).saturating_sub(side);
                    if t == "SAME_UPPER" { (all / 2, all - all / 2) } else { (all - all / 2, all / 2) }
                };
                let ((t, b), (l, r)) = (same(h, kernel[0], stride[0]), same(w, kernel[1], stride[1]));
                [t, l, b, r]
            }
            (_, []) => [0; 4],
            (_, &[t, l, b, r]) => [t, l, b, r],
            (_, other) => bail!("pads are {other:?}, expected four"),
        };
        Ok(Window { kernel, stride, pads })
    }
}

impl Conv {
    /// Folds a batch normalisation in. `[gamma, beta, mean, variance]`, each `[outputs]`.
    pub fn fold(&mut self, [gamma, beta, mean, variance]: [&[f32]; 4], epsilon: f32) {
        let taps = self.taps();
        for o in 0..self.outputs {
            let scale = gamma[o] / (variance[o] + epsilon).sqrt();
            self.weights[o * taps..][..taps].iter_mut().for_each(|w| *w *= scale);
            self.bias[o] = (self.bias[o] - mean[o]) * scale + beta[o];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Runner, write};
    use tagpin::random::Random;

    /// Convolution of SAME padding, depthwise, addition, maximum, average, matrix.
    fn graph() -> Graph {
        let mut r = Random::new(8, 8);
        let mut some = |n: usize| (0..n).map(|_| r.range(-100, 100) as f32 / 100.0).collect::<Vec<f32>>();
        let mut conv = |k: usize, stride: usize, pads, inputs: usize, outputs: usize, groups: usize, clamp| {
            Op::Conv(Conv {
                window: Window { kernel: [k; 2], stride: [stride; 2], pads },
                inputs,
                outputs,
                groups,
                weights: some(outputs * inputs / groups * k * k),
                bias: some(outputs),
                clamp,
            })
        };
        let normalise = Normalise { mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3] };
        let mut g = Graph { side: 8, normalise, nodes: Vec::new() };
        let a = g.push("stem", conv(3, 2, [0, 0, 1, 1], 3, 6, 1, Clamp::RELU6), vec![Edge::Image]);
        let b = g.push("deep", conv(3, 1, [1; 4], 6, 6, 6, Clamp { low: 0.0, high: f32::INFINITY }), vec![a]);
        let c = g.push("sum", Op::Add(Clamp::NONE), vec![a, b]);
        let d = g.push("most", Op::MaxPool(Window { kernel: [2; 2], stride: [2; 2], pads: [0; 4] }), vec![c]);
        let e = g.push("mixed", conv(1, 1, [0; 4], 6, 5, 1, Clamp::NONE), vec![d]);
        g.push("average", Op::Average, vec![e]);
        g.with_head(Linear { inputs: 5, outputs: 3, weights: some(15), bias: some(3) })
    }

    #[test]
    fn what_was_written_is_read_back_and_runs_the_same() {
        let graph = graph();
        let back = read(&write(&graph, None).unwrap(), None).unwrap();
        assert_eq!(graph, back);
        let rgb: Vec<u8> = (0..8 * 8 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let logits = |g: &Graph| Runner::whole(g).unwrap().run(&rgb).unwrap().swap_remove(0);
        assert_eq!(logits(&graph), logits(&back));
    }

    #[test]
    fn no_damaged_file_panics() {
        let whole = write(&graph(), None).unwrap();
        let mut r = Random::new(1, 9);
        for round in 0..4000 {
            let mut bytes = whole.clone();
            for _ in 0..r.range(1, 4) {
                let at = r.range(0, bytes.len() as i32 - 1) as usize;
                bytes[at] = r.range(0, 255) as u8;
            }
            if round % 3 == 0 {
                bytes.truncate(r.range(0, bytes.len() as i32) as usize);
            }
            let _ = read(&bytes, None);
        }
    }
}
