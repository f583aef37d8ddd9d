//! Proves a plan against the file that it was made of, before the file is packed.
//!
//! Every int8 tensor of the plan, and its logits, are computed a second time by tract in f32, from
//! the file's own nodes and from the plan's int8 tensors before it. So what the plan may differ by
//! is the rounding of one tensor: a code, at most. ONNX Runtime's own operators, which tract does
//! not know, are written as DequantizeLinear, operator, QuantizeLinear.

use super::caught;
use super::lowered::{Lowered, Trace};
use super::message::value_info;
use super::proto::{self, Type};
use super::{Absorbed, Engine, EngineError, Refusal, lower};
use crate::kernels::Kernels;
use crate::random::Random;
use std::collections::{BTreeSet, HashMap};
use tract_onnx::pb;
use tract_onnx::prelude::*;

/// What makes scores of logits, where it ends a graph.
const SCORES: [&str; 4] = ["Softmax", "Sigmoid", "QLinearSoftmax", "QLinearSigmoid"];

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Tensors that agree.
    pub agree: usize,
    /// Nodes that tract cannot compute from the file, with its reason: nothing is known of them.
    pub unread: Vec<Refusal>,
    /// The first node where plan and file part by more than rounding.
    pub parted: Option<Refusal>,
}

/// Inputs drawn by a seed for a model of `len` input values: noise, and noise that changes slowly,
/// as images do.
pub fn drawn(len: usize, n: usize, seed: u64) -> Vec<Vec<i8>> {
    let mut random = Random::new(seed, 23);
    let mut one = |slow: bool| {
        let mut x = 0i32;
        let mut next = || {
            let step = if slow { random.range(-24, 24) } else { random.range(-256, 256) };
            x = (x + step).clamp(-128, 127);
            if slow { x as i8 } else { random.range(-128, 127) as i8 }
        };
        (0..len).map(|_| next()).collect()
    };
    (0..n).map(|i| one(i % 2 == 1)).collect()
}

/// Compares plan and file on these inputs: NHWC int8, as [`super::EngineSpec::input`] says. `real`:
/// of an input in f32 the value of each code of each channel.
pub fn prove(onnx: &[u8], inputs: &[Vec<i8>], real: Option<&dyn Fn(usize, i8) -> f32>) -> Result<Proof, EngineError> {
    let graph = proto::read(onnx)?;
    let kernels = Kernels::choose().map_err(EngineError::Limit)?;
    let lowered = lower::lower_traced(&graph, kernels)?;
    prove_plan(onnx, &graph, kernels, lowered, inputs, real)
}

fn prove_plan(
    onnx: &[u8],
    graph: &proto::Graph,
    kernels: Kernels,
    mut lowered: Lowered,
    inputs: &[Vec<i8>],
    real: Option<&dyn Fn(usize, i8) -> f32>,
) -> Result<Proof, EngineError> {
    let traces = std::mem::take(&mut lowered.traces);
    let mut engine = Engine::build_apart(kernels, lowered)?;
    if let Some(real) = real {
        engine.read_input_as(real);
    }
    let file = File::new(proto::parsed(onnx)?, graph, &traces)?;
    let mut runs = Vec::with_capacity(inputs.len());
    for input in inputs {
        let mut logits = vec![0; engine.spec().logits];
        match engine.infer(input, &mut logits) {
            Ok(()) => {}
            // The model itself, not the plan, gives what has no score.
            Err(e @ (EngineError::Logit { .. } | EngineError::Island(_) | EngineError::NoNumber { .. })) => {
                let last = file.logits(engine.spec().absorbed).and_then(|name| file.makers.get(name));
                let parted = Some(file.refusal(*last.unwrap_or(&0), e.to_string()));
                return Ok(Proof { parted, ..Proof::default() });
            }
            Err(e) => return Err(e),
        }
        let codes = |t: &Trace| -> Vec<i8> {
            let values = engine.values(t.tensor);
            t.order.iter().map(|&at| values[at as usize]).collect()
        };
        runs.push(Run { codes: traces.iter().map(codes).collect(), reals: engine.reals(), logits });
    }
    file.compare(&engine, &runs)
}

/// What the plan computed of one input.
struct Run {
    /// Of each trace, in ONNX's order.
    codes: Vec<Vec<i8>>,
    /// The real input, in ONNX's order.
    reals: Vec<f32>,
    logits: Vec<i32>,
}

/// The file's own nodes.
struct File<'a> {
    opset: Vec<pb::OperatorSetIdProto>,
    nodes: Vec<pb::NodeProto>,
    makers: HashMap<String, usize>,
    constants: HashMap<String, pb::TensorProto>,
    graph: &'a proto::Graph,
    traces: &'a [Trace],
    traced: HashMap<&'a str, usize>,
}

/// Some nodes that make one value of traced ones.
struct Segment {
    proto: pb::ModelProto,
    /// Traces that it reads; `None` is the graph's real input.
    inputs: Vec<Option<usize>>,
    /// The node that people are told.
    node: usize,
}

impl<'a> File<'a> {
    fn new(model: pb::ModelProto, graph: &'a proto::Graph, traces: &'a [Trace]) -> Result<Self, EngineError> {
        let file = model.graph.ok_or_else(|| EngineError::Limit("it has no graph".into()))?;
        let made = |(i, n): (usize, &pb::NodeProto)| n.output.iter().map(move |out| (out.clone(), i)).collect::<Vec<_>>();
        Ok(Self {
            opset: model.opset_import.into_iter().filter(|o| o.domain != "com.microsoft").collect(),
            makers: file.node.iter().enumerate().flat_map(made).collect(),
            nodes: file.node,
            constants: file.initializer.into_iter().map(|t| (t.name.clone(), t)).collect(),
            graph,
            traces,
            traced: traces.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect(),
        })
    }

    /// The value whose reals are the plan's logits: the output, or what the softmax, sigmoid or
    /// index of the best is of that the head computes.
    fn logits(&self, absorbed: Option<Absorbed>) -> Option<&str> {
        let output = self.graph.output.as_str();
        match absorbed {
            None => Some(output),
            Some(Absorbed::Softmax | Absorbed::Sigmoid) => self.read_by_last(output, &SCORES),
            // The best of softmax is the best of what it is of.
            Some(Absorbed::ArgMax) => {
                let scores = self.read_by_last(output, &["ArgMax"])?;
                // Codes are compared as codes, by their trace.
                if self.traced.contains_key(scores) {
                    return None;
                }
                self.read_by_last(scores, &SCORES).or(Some(scores))
            }
        }
    }

    /// What goes into the node of one of these kinds that makes `name`, with moves alone behind it.
    fn read_by_last<'s>(&'s self, mut name: &'s str, kinds: &[&str]) -> Option<&'s str> {
        loop {
            let node = &self.nodes[*self.makers.get(name)?];
            name = node.input.first()?;
            match node.op_type.as_str() {
                op if kinds.contains(&op) => return Some(name),
                op if lower::MOVES.contains(&op) => {}
                _ => return None,
            }
        }
    }

    /// The nodes that make `target` of traced values.
    fn segment(&self, target: &str) -> Option<Segment> {
        let (mut nodes, mut open) = (BTreeSet::new(), vec![target]);
        let mut inputs = BTreeSet::new();
        let mut constants = BTreeSet::new();
        while let Some(name) = open.pop() {
            if name.is_empty() {
            } else if self.constants.contains_key(name) {
                constants.insert(name);
            } else if name != target && self.traced.contains_key(name) || name == self.graph.input {
                inputs.insert(name);
            } else {
                let maker = *self.makers.get(name)?;
                if nodes.insert(maker) {
                    open.extend(self.nodes[maker].input.iter().map(String::as_str));
                }
            }
        }
        let told =
            |i: &&usize| !matches!(self.nodes[**i].op_type.as_str(), "QuantizeLinear" | "DequantizeLinear" | "Constant");
        let node = *nodes.iter().rev().find(told).or(nodes.last())?;
        let mut graph = pb::GraphProto { name: "segment".into(), ..Default::default() };
        for name in &inputs {
            let (ty, dims) = match self.traced.get(name) {
                Some(&i) => (self.traces[i].ty, &self.traces[i].dims),
                None => (Type::F32, &self.graph.input_dims),
            };
            graph.input.push(value_info(name, ty, Some(dims)));
        }
        graph.initializer = constants.iter().map(|name| self.constants[*name].clone()).collect();
        for &i in &nodes {
            super::proof_spelling::spelled(&self.nodes[i], i, &mut graph, &self.constants);
        }
        // Codes come out as numbers, and what was quantised beside them.
        let to = pb::AttributeProto { name: "to".into(), r#type: 2, i: 1, ..Default::default() };
        graph.node.push(pb::NodeProto {
            name: "proof".into(),
            op_type: "Cast".into(),
            input: vec![target.into()],
            output: vec!["proof".into()],
            attribute: vec![to],
            ..Default::default()
        });
        graph.output.push(pb::ValueInfoProto { name: "proof".into(), ..Default::default() });
        let last = &self.nodes[*self.makers.get(target)?];
        let before = last.input.first().filter(|name| nodes.contains(self.makers.get(*name).unwrap_or(&usize::MAX)));
        if let ("QuantizeLinear", Some(real)) = (last.op_type.as_str(), before) {
            graph.output.push(pb::ValueInfoProto { name: real.clone(), ..Default::default() });
        }
        let inputs = inputs.iter().map(|name| self.traced.get(name).copied()).collect();
        let proto = pb::ModelProto { opset_import: self.opset.clone(), graph: Some(graph), ..Default::default() };
        Some(Segment { proto, inputs, node })
    }

    fn refusal(&self, node: usize, why: String) -> Refusal {
        let node = &self.nodes[node];
        let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        Refusal { node: name.cloned().unwrap_or_default(), op: node.op_type.clone(), why }
    }

    fn compare(&self, engine: &Engine, runs: &[Run]) -> Result<Proof, EngineError> {
        let mut proof = Proof::default();
        let logits = self.logits(engine.spec().absorbed);
        let mut ends: Vec<(usize, &str, Option<usize>)> = Vec::new();
        for (i, trace) in self.traces.iter().enumerate() {
            if let Some(&maker) = self.makers.get(&trace.name) {
                ends.push((maker, &trace.name, Some(i)));
            }
        }
        ends.extend(logits.and_then(|name| Some((*self.makers.get(name)?, name, None))));
        ends.sort_by_key(|(maker, _, trace)| (*maker, trace.is_none()));
        for (maker, name, trace) in ends {
            let Some(segment) = self.segment(name) else {
                proof.unread.push(self.refusal(maker, "it is made of nothing that is known".into()));
                continue;
            };
            let computed = match self.computed(&segment, runs) {
                Ok(computed) => computed,
                Err(why) => {
                    proof.unread.push(self.refusal(segment.node, why));
                    continue;
                }
            };
            for (run, results) in runs.iter().zip(computed) {
                let found = match trace {
                    Some(i) => codes(&run.codes[i], self.traces[i].ty, &results),
                    None => reals(&run.logits, engine.spec().output_step, &results[0]),
                };
                if let Err(why) = found {
                    proof.parted = Some(self.refusal(segment.node, why));
                    return Ok(proof);
                }
            }
            proof.agree += 1;
        }
        Ok(proof)
    }

    /// What tract computes of a segment for each run.
    fn computed(&self, segment: &Segment, runs: &[Run]) -> Result<Vec<Vec<Vec<f32>>>, String> {
        let words = |e: TractError| e.root_cause().to_string();
        let all = || -> Result<Vec<Vec<Vec<f32>>>, String> {
            let mut model = tract_onnx::onnx().model_for_proto_model(&segment.proto).map_err(words)?;
            for (i, trace) in segment.inputs.iter().enumerate() {
                let (ty, dims) = match trace.map(|i| &self.traces[i]) {
                    Some(t) if t.ty == Type::U8 => (u8::datum_type(), &t.dims),
                    Some(t) => (i8::datum_type(), &t.dims),
                    None => (f32::datum_type(), &self.graph.input_dims),
                };
                model.set_input_fact(i, InferenceFact::dt_shape(ty, dims)).map_err(words)?;
            }
            let model = model.into_optimized().and_then(|m| m.into_runnable()).map_err(words)?;
            let tensor = |run: &Run, trace: &Option<usize>| match trace.map(|i| (&self.traces[i], &run.codes[i])) {
                Some((t, codes)) if t.ty == Type::U8 => {
                    let codes: Vec<u8> = codes.iter().map(|&q| q as u8 ^ 128).collect();
                    Tensor::from_shape(&t.dims, &codes)
                }
                Some((t, codes)) => Tensor::from_shape(&t.dims, codes),
                None => Tensor::from_shape(&self.graph.input_dims, &run.reals),
            };
            let one = |run: &Run| -> Result<Vec<Vec<f32>>, String> {
                let inputs = segment.inputs.iter().map(|trace| tensor(run, trace).map(TValue::from));
                let results = model.run(inputs.collect::<TractResult<_>>().map_err(words)?).map_err(words)?;
                let values = |t: &TValue| Ok(t.to_plain_array_view::<f32>().map_err(words)?.iter().copied().collect());
                results.iter().map(values).collect()
            };
            runs.iter().map(one).collect()
        };
        caught(all)?
    }
}

/// Whether codes are tract's, but for what rounding explains: one code, in at most half of the
/// values.
fn codes(found: &[i8], ty: Type, computed: &[Vec<f32>]) -> Result<(), String> {
    let (expected, real) = (&computed[0], computed.get(1));
    if expected.len() != found.len() {
        return Err(format!("the plan has {} values there, the file {}", found.len(), expected.len()));
    }
    let shift = if ty == Type::U8 { 128.0 } else { 0.0 };
    let (mut furthest, mut at, mut off, mut beyond) = (0.0, 0, 0, 0);
    for (i, (q, x)) in found.iter().zip(expected).enumerate() {
        let distance = (*q as f32 + shift - x).abs();
        // What has no value has no code in ONNX either.
        if distance < 0.5 || real.is_some_and(|real| real[i].is_nan()) {
            continue;
        }
        off += 1;
        beyond += usize::from(distance > 1.5);
        if distance > furthest {
            (furthest, at) = (distance, i);
        }
    }
    match beyond > 0 || off > 8 + found.len() / 2 {
        false => Ok(()),
        true => Err(format!(
            "plan and file part here: {off} of {} codes differ, the furthest by {furthest}, value {at} is {} in the plan, {} by the file",
            found.len(),
            found[at] as f32 + shift,
            expected[at]
        )),
    }
}

/// Whether logits are tract's, to a step, or to a thousandth of their range.
fn reals(found: &[i32], step: Option<f32>, expected: &[f32]) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("the plan has {} logits, the file {} values", found.len(), expected.len()));
    }
    let (lo, hi) = expected.iter().fold((f32::MAX, f32::MIN), |(lo, hi), x| (lo.min(*x), hi.max(*x)));
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let allowed = (1e-3 * (hi - lo)).max(1.01 * step.unwrap_or(0.0)).max(1e-5 * largest).max(1e-4);
    for (i, (q, x)) in found.iter().zip(expected).enumerate() {
        let q = *q as f32 / 65536.0;
        // Written so that what is no number is refused.
        let agrees = (q - x).abs() <= allowed && x.is_finite();
        if !agrees {
            return Err(format!(
                "plan and file part here: logit {i} is {q} in the plan, {x} by the file; {allowed} is allowed"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::operation::Operation;
    use super::*;

    fn network(name: &str) -> Vec<u8> {
        let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        std::fs::read(folder.join(name).with_extension("onnx")).unwrap()
    }

    fn inputs(onnx: &[u8]) -> Vec<Vec<i8>> {
        drawn(Engine::load(onnx).unwrap().spec().input.iter().product(), 2, 1)
    }

    /// In both forms of ONNX Runtime's quantiser, and with an island.
    #[test]
    fn plans_agree_with_their_files_tensor_by_tensor() {
        for name in [
            "tiny_qdq",
            "tiny_lrn",
            "networks/mobilenet_v3_qdq_s8",
            "networks/shufflenet_v2_qdq_s8",
            "networks/mobilenet_v2_qop_u8",
            "networks/squeezenet_qop_u8",
            "networks/shufflenet_v2_qop_u8",
            "networks/op_average_pool_whole",
            "networks/op_hswish_parts",
        ] {
            let onnx = network(name);
            let proof = prove(&onnx, &inputs(&onnx), None).unwrap();
            assert_eq!(proof.parted, None, "{name}");
            assert_eq!(proof.unread, [], "{name}");
            assert!(proof.agree > 2, "{name}: {}", proof.agree);
        }
    }

    /// Every table, sum, product and average of a plan, made a little wrong by itself, is found.
    #[test]
    fn a_wrong_step_is_found() {
        let kernels = Kernels::choose().unwrap();
        let onnx = network("networks/mobilenet_v3_qdq_s8");
        let graph = proto::read(&onnx).unwrap();
        let lowered = || lower::lower_traced(&graph, kernels).unwrap();
        let mut damaged = 0;
        for i in 0..lowered().steps.len() {
            let mut wrong = lowered();
            match &mut wrong.steps[i].operation {
                Operation::Map(table) => table.iter_mut().for_each(|q| *q = q.saturating_add(3)),
                Operation::Add([a, _], _) => a.ratio *= 1.2,
                Operation::Multiply(_, scale, _) => *scale *= 0.7,
                Operation::GlobalAverage(_, scale, _) | Operation::GlobalAverageOf(_, scale, _) => *scale *= 1.3,
                Operation::Dense(_, scales, _) => scales[0] *= -1.0,
                _ => continue,
            }
            damaged += 1;
            let proof = prove_plan(&onnx, &graph, kernels, wrong, &inputs(&onnx), None).unwrap();
            assert!(proof.parted.is_some(), "step {i}");
        }
        assert!(damaged > 1);
    }
}
