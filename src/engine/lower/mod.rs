//! Recognises a quantised graph on the ONNX proto and turns it into steps of integer kernels.
//!
//! [`super::operators`] has read the graph before: what arrives here is known to ONNX, with its
//! types and shapes. Each value of the graph is followed as what it *means*: a quantised tensor, a
//! real view of one, or a real result that waits for the QuantizeLinear which says to what scale it
//! must be brought. How a tensor lies in memory is a [`view`]. Both forms of ONNX Runtime's
//! quantiser are read: QDQ, and QLinearConv with its kin. uint8 activations are re-based by 128,
//! which changes no bit of the result. What has no int8 kernel goes to [`islands`] that run in f32.
//! A node that can run in neither way is refused by name, and all of those are found at once.

mod channels;
mod constants;
mod elementwise;
mod emit;
mod finish;
mod islands;
mod linear;
mod pool;
mod qlinear;
mod spoken;
mod value;
mod view;

use super::lowered::{Lowered, Quant, Step, Tensor, TensorId, Trace};
use super::operation::Operation;
use super::operators::{self, Reading, Why};
use super::proto::{Constant, Graph, Node, Type, Values};
use super::{Absorbed, EngineError};
use crate::kernels::Kernels;
use islands::{Islands, Wanted};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use value::{Bias, Function, Kind, Matrix, Pending, Value, View};
use view::Axes;

/// Most bytes of one activation.
const MAX_ACTIVATION: usize = 1 << 26;
/// Most multiply-adds of one convolution or GEMM.
const MAX_MACS: u64 = 1 << 34;
/// Most scales to which one result is brought; each computes it again.
const MAX_SCALES: usize = 8;
/// Most bytes of weights, packed, of a whole plan.
const MAX_WEIGHTS: usize = 1 << 28;
/// Most values of a tensor whose bytes are moved one by one.
const MAX_MOVED: usize = 1 << 22;

/// Most times that a graph is gone over to find what runs in islands.
const MAX_PASSES: usize = 64;

/// Operators after which scores are still the scores, and an index is still the index.
pub(super) const MOVES: [&str; 9] =
    ["QuantizeLinear", "DequantizeLinear", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast"];

struct Lowering<'g> {
    reading: &'g Reading<'g>,
    kernels: Kernels,
    /// The nodes that read a value.
    readers: HashMap<&'g str, Vec<&'g Node>>,
    values: HashMap<&'g str, Value<'g>>,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    /// The node that computes each step: the convolution, not the QuantizeLinear that ends it.
    makers: Vec<usize>,
    /// The node that is being lowered.
    at: usize,
    /// The tensors that are a table of another one.
    tables: HashMap<usize, (TensorId, Box<[i8; 256]>)>,
    /// Results that were brought to a scale already.
    emitted: Vec<(Pending, Quant, TensorId)>,
    /// Tensors that were laid in another order already.
    arranged: Vec<(View, View)>,
    input: Option<TensorId>,
    /// Bytes of weights so far.
    weights: usize,
    islands: Islands<'g>,
    wanted: Wanted,
    /// The node that makes each value.
    makers_of: HashMap<&'g str, usize>,
    /// Names of values that an island can read.
    in_f32: HashSet<&'g str>,
    /// The activation of each island's results.
    results: HashMap<usize, TensorId>,
    /// The graph's int8 tensors, if they are wanted.
    traces: Option<Vec<Trace>>,
}

/// Lowers a whole graph, or names all nodes that cannot be.
pub(super) fn lower(graph: &Graph, kernels: Kernels) -> Result<Lowered, EngineError> {
    lower_by(graph, kernels, false)
}

/// As [`lower`], with every int8 tensor that the graph names, whether the plan needs it or not.
pub(super) fn lower_traced(graph: &Graph, kernels: Kernels) -> Result<Lowered, EngineError> {
    lower_by(graph, kernels, true)
}

fn lower_by(graph: &Graph, kernels: Kernels, traced: bool) -> Result<Lowered, EngineError> {
    let reading = operators::read(graph);
    let (mut nodes, mut real_input) = (BTreeSet::new(), false);
    for _ in 0..MAX_PASSES {
        let none = nodes.is_empty() && !real_input;
        let islands = if none { Islands::default() } else { Islands::of(&reading, &nodes, real_input) };
        let mut l = Lowering::new(&reading, kernels, islands);
        l.traces = traced.then(Vec::new);
        let (input, problems) = l.pass(&nodes);
        let output = l.output_or_wanted();
        if l.wanted.is_empty() {
            return l.finish(input, problems, output);
        }
        nodes.append(&mut l.wanted.nodes);
        real_input |= l.wanted.real_input;
    }
    Err(EngineError::Limit(format!("its float nodes are found only after {MAX_PASSES} passes")))
}

impl<'g> Lowering<'g> {
    fn new(reading: &'g Reading<'g>, kernels: Kernels, islands: Islands<'g>) -> Self {
        let graph = reading.graph;
        let mut readers: HashMap<&str, Vec<&Node>> = HashMap::new();
        for (node, name) in graph.nodes.iter().flat_map(|n| n.inputs.iter().map(move |name| (n, name))) {
            readers.entry(name).or_default().push(node);
        }
        let made = |(i, n): (usize, &'g Node)| n.outputs.iter().map(move |out| (out.as_str(), i));
        Self {
            reading,
            kernels,
            readers,
            values: HashMap::new(),
            tensors: Vec::new(),
            steps: Vec::new(),
            makers: Vec::new(),
            at: 0,
            tables: HashMap::new(),
            emitted: Vec::new(),
            arranged: Vec::new(),
            input: None,
            weights: 0,
            islands,
            wanted: Wanted::default(),
            makers_of: graph.nodes.iter().enumerate().flat_map(made).collect(),
            in_f32: HashSet::new(),
            results: HashMap::new(),
            traces: None,
        }
    }

    /// Lowers node by node; what was found of the input, and why nodes can run neither in int8 nor
    /// in an island.
    fn pass(&mut self, in_islands: &BTreeSet<usize>) -> (Result<finish::Shape, Why>, Vec<(usize, Why)>) {
        let (reading, graph) = (self.reading, self.reading.graph);
        let mut problems: Vec<(usize, Why)> = Vec::new();
        let input = finish::input(graph);
        let first = match &input {
            Ok((Value::Input(_), _)) if self.islands.real_input => {
                Value::Float { name: &graph.input, axes: Axes::rows(&graph.input_dims) }
            }
            Ok((value, _)) => value.clone(),
            Err(_) => Value::Unknown,
        };
        self.values.insert(&graph.input, first);
        let mut left: HashMap<&str, usize> = self.readers.iter().map(|(name, nodes)| (*name, nodes.len())).collect();
        *left.entry(&graph.output).or_default() += 1;
        let order = std::mem::take(&mut self.islands.order);
        for i in (0..graph.nodes.len()).map(|at| order.get(at).copied().unwrap_or(at)) {
            let node = &graph.nodes[i];
            self.at = i;
            let unread = reading.problems.iter().find(|(at, _)| *at == i).map(|(_, why)| why.clone());
            if unread.is_none() && node.outputs.iter().any(|out| reading.folded.contains_key(out.as_str())) {
                continue;
            }
            let behind = node.inputs.iter().any(|name| matches!(self.values.get(name.as_str()), Some(Value::Unknown)));
            let values = match unread {
                Some(why) => Err(why),
                None if behind => Ok(vec![self.behind(node)]),
                None if in_islands.contains(&i) => self.floats(node),
                None => self.node(node).or_else(|why| if self.want(i) { self.floats(node) } else { Err(why) }),
            };
            let values = values.unwrap_or_else(|why| {
                problems.push((i, why));
                Vec::new()
            });
            let mut values = values.into_iter();
            for out in node.outputs.iter().filter(|out| !out.is_empty()) {
                let value = values.next().unwrap_or(Value::Unknown);
                if matches!(value, Value::Real(_) | Value::Function { .. } | Value::Weights(_) | Value::Float { .. }) {
                    self.in_f32.insert(out);
                }
                if let Value::Int(view) = &value {
                    self.trace(out, view);
                }
                self.values.insert(out, value);
            }
            if in_islands.contains(&i)
                && problems.is_empty()
                && self.wanted.is_empty()
                && let Err(problem) = self.island(i)
            {
                problems.push(problem);
            }
            // What nobody will read again goes, above all weights that wait for their
            // QuantizeLinear. An island reads its inputs when its last node is reached.
            for name in node.inputs.iter().filter(|_| !in_islands.contains(&i)) {
                let left = left.entry(name).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.values.remove(name.as_str());
                }
            }
            self.forget();
        }
        (input.map(|(_, shape)| shape), problems)
    }

    /// What a node's outputs stand for.
    fn node(&mut self, node: &'g Node) -> Result<Vec<Value<'g>>, Why> {
        let real = |name: &String| matches!(self.values.get(name.as_str()), Some(Value::Float { .. }));
        let last = self.is_the_heads(node);
        if let Some(Value::Best(_)) = node.inputs.first().and_then(|name| self.values.get(name.as_str())) {
            return match node.op.as_str() {
                "QuantizeLinear" | "DequantizeLinear" => Err("its input is the index of the best tag".into()),
                _ => self.take(node, 0).map(|best| vec![best]),
            };
        }
        if node.op != "QuantizeLinear" && !last && node.inputs.iter().any(real) {
            return Err("its input is computed in f32".into());
        }
        let value = match node.op.as_str() {
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "MatMulInteger" => self.matmul_integer(node),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" => self.binary(node),
            "PRelu" => self.prelu(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Cast" => self.cast(node),
            "GlobalAveragePool" | "ReduceMean" => self.global_average(node),
            "AveragePool" => self.average_pool(node),
            "MaxPool" | "GlobalMaxPool" => self.max_pool(node),
            "Pad" => self.pad(node),
            "Relu" => self.clip(node, 0.0, f32::INFINITY),
            "Clip" if self.ty(node, 0)? != Type::F32 => self.clip_codes(node),
            "Clip" => {
                let lo = self.bound(node, 1, "min", f32::NEG_INFINITY)?;
                let hi = self.bound(node, 2, "max", f32::INFINITY)?;
                self.clip(node, lo, hi)
            }
            "Softmax" => self.softmax(node, 0),
            "Sigmoid" if last => self.absorb(node, 0, Absorbed::Sigmoid),
            "ArgMax" if last => self.index_of_the_best(node),
            "Concat" => self.concat(node),
            "Split" => return self.split(node),
            "Slice" => self.slice(node),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Identity" | "Dropout" => self.take(node, 0),
            op if op.starts_with("QLinear") || op == "QGemm" => self.qlinear(node),
            "Shape" | "Size" | "Gather" | "ConstantOfShape" | "Expand" => {
                Err("it is known for constants only, and its input is none".into())
            }
            _ => self.function(node),
        };
        value.map(|value| vec![value])
    }

    /// Drops the emitted results of which no value is left.
    fn forget(&mut self) {
        let own = |what: &Rc<Kind>| self.emitted.iter().filter(|(p, ..)| Rc::ptr_eq(&p.what, what)).count();
        let read: Vec<bool> = self.emitted.iter().map(|(p, ..)| Rc::strong_count(&p.what) > own(&p.what)).collect();
        let mut read = read.into_iter();
        self.emitted.retain(|_| read.next().unwrap_or(false));
    }

    /// What a node behind a refused one gives: a tensor, if it says its scale and the file its
    /// shape. So later problems are found as well.
    fn behind(&mut self, node: &'g Node) -> Value<'g> {
        let fact = node.outputs.first().and_then(|out| self.reading.facts.get(out.as_str()));
        let tensor = match (node.op.as_str(), fact) {
            ("QuantizeLinear", Some(fact)) => self.quant(node, 1, fact.ty).and_then(|quant| self.natural(&fact.dims, quant)),
            _ => return Value::Unknown,
        };
        tensor.map_or(Value::Unknown, Value::Int)
    }

    /// Whether nothing but a change of number format or shape lies between these outputs and the
    /// graph's.
    fn ends_the_graph(&self, outputs: &[String]) -> bool {
        let [name] = outputs else { return false };
        let (graph, mut name) = (self.reading.graph, name.as_str());
        while name != graph.output {
            match self.readers.get(name).map(Vec::as_slice) {
                Some([n]) if self.is_the_best(n) => return true,
                Some([n]) if MOVES.contains(&n.op.as_str()) => {
                    let [next] = n.outputs.as_slice() else { return false };
                    name = next;
                }
                _ => return false,
            }
        }
        true
    }

    fn name(&self, node: &'g Node, i: usize) -> Result<&'g str, Why> {
        node.inputs.get(i).map(String::as_str).filter(|n| !n.is_empty()).ok_or_else(|| format!("input {i} is missing"))
    }

    fn constant(&self, node: &'g Node, i: usize) -> Result<&'g Constant, Why> {
        let name = self.name(node, i)?;
        self.reading.constant(name).ok_or_else(|| format!("input {i} (\"{name}\") must be a constant"))
    }

    /// Type of the values of input `i`.
    fn ty(&self, node: &'g Node, i: usize) -> Result<Type, Why> {
        let name = self.name(node, i)?;
        self.reading.facts.get(name).map(|f| f.ty).ok_or_else(|| format!("type of \"{name}\" is unknown"))
    }

    /// ONNX shape of input `i`.
    fn dims(&self, node: &'g Node, i: usize) -> Result<&'g [usize], Why> {
        let name = self.name(node, i)?;
        self.reading.dims(name).ok_or_else(|| format!("shape of \"{name}\" is unknown"))
    }

    /// Type and shape of a node's first output.
    fn made(&self, node: &'g Node) -> Result<(Type, &'g [usize]), Why> {
        let fact = node.outputs.first().and_then(|out| self.reading.facts.get(out.as_str()));
        fact.map(|f| (f.ty, f.dims.as_slice())).ok_or_else(|| "shape of its output is unknown".into())
    }

    /// The value of input `i`, which is no constant.
    fn take(&self, node: &'g Node, i: usize) -> Result<Value<'g>, Why> {
        let name = self.name(node, i)?;
        match self.values.get(name) {
            Some(value) => Ok(value.clone()),
            None => Err(format!("input {i} (\"{name}\") is a constant, expected a tensor")),
        }
    }

    fn real(&self, node: &'g Node, i: usize) -> Result<View, Why> {
        match self.take(node, i)? {
            Value::Real(view) => Ok(view),
            other => Err(format!("input {i} is {}, expected a dequantised int8 tensor", other.describe())),
        }
    }

    /// An int8 tensor whose scale and zero point are inputs `i + 1` and `i + 2`.
    fn int(&mut self, node: &'g Node, i: usize) -> Result<View, Why> {
        let quant = self.quant(node, i + 1, self.ty(node, i)?)?;
        match self.take(node, i)? {
            Value::Int(view) => Ok(View { id: self.read_as(view.id, quant)?, ..view }),
            Value::Codes(axes) => self.input_tensor(axes, quant),
            other => Err(format!("input {i} is {}, expected an int8 tensor", other.describe())),
        }
    }

    /// The graph's input at this scale and zero point.
    fn input_tensor(&mut self, axes: Axes, quant: Quant) -> Result<View, Why> {
        let id = match self.input {
            Some(id) if self.get(id).quant == quant => id,
            Some(_) => return Err("the graph's input is quantised with two scales or zero points".into()),
            None => self.tensor(axes.dims().iter().product(), quant)?,
        };
        self.input = Some(id);
        let view = View { id, axes };
        let graph = self.reading.graph;
        let known = self.traces.iter().flatten().any(|t| t.name == graph.input);
        if graph.input_type != Type::F32 && !known && view.axes.dims() == graph.input_dims {
            self.trace(&graph.input, &view);
        }
        Ok(view)
    }

    fn tensor(&mut self, len: usize, quant: Quant) -> Result<TensorId, Why> {
        if !(1..=MAX_ACTIVATION).contains(&len) {
            return Err(format!("an activation of {len} values, expected 1 to {MAX_ACTIVATION}"));
        }
        self.tensors.push(Tensor { len, quant });
        Ok(TensorId(self.tensors.len() - 1))
    }

    /// A new tensor of this ONNX shape, laid as kernels like it.
    fn natural(&mut self, dims: &[usize], quant: Quant) -> Result<View, Why> {
        let id = self.tensor(dims.iter().product(), quant)?;
        Ok(View { id, axes: Axes::natural(dims) })
    }

    fn get(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    fn push(&mut self, maker: usize, operation: Operation, sources: Vec<TensorId>, dst: TensorId) {
        self.steps.push(Step { operation, sources, dst });
        self.makers.push(maker);
    }

    /// The same tensor laid by `axes`, which may need a step that moves its values.
    fn arrange(&mut self, view: &View, axes: Axes) -> Result<TensorId, Why> {
        if view.axes == axes {
            return Ok(view.id);
        }
        let known = |(from, to): &&(View, View)| from.id == view.id && from.axes == view.axes && to.axes == axes;
        if let Some((_, to)) = self.arranged.iter().find(known) {
            return Ok(to.id);
        }
        let Tensor { len, quant } = *self.get(view.id);
        let dst = self.tensor(len, quant)?;
        let operation = match (view.axes.shuffled(), axes.dims().as_slice()) {
            (Some(groups), &[1, channels, h, w]) if axes == Axes::image([h, w, channels]) => {
                Operation::ShuffleChannels { channels, groups }
            }
            _ => self.moved(len, || (axes.places(), view.axes.places()))?,
        };
        self.push(self.at, operation, vec![view.id], dst);
        self.arranged.push((view.clone(), View { id: dst, axes }));
        Ok(dst)
    }

    /// The step that brings values from the second places to the first; `len`: most places that
    /// either of both has.
    fn moved(&self, len: usize, places: impl FnOnce() -> (Vec<u32>, Vec<u32>)) -> Result<Operation, Why> {
        if len > MAX_MOVED {
            return Err(format!("{len} values would have to be moved one by one, at most {MAX_MOVED}"));
        }
        let (to, from) = places();
        let mut order = vec![0; to.len()];
        to.into_iter().zip(from).for_each(|(to, from)| order[to as usize] = from);
        Ok(Operation::Rearrange(order))
    }

    /// A view as an image that lies as kernels want it: rows, columns, channels.
    fn image(&mut self, view: &View) -> Result<(TensorId, [usize; 3]), Why> {
        match *view.axes.dims().as_slice() {
            [1, c, h, w] => Ok((self.arrange(view, Axes::image([h, w, c]))?, [h, w, c])),
            [n, _, _, _] => Err(format!("a batch of {n}, expected 1")),
            ref dims => Err(format!("its input is of shape {dims:?}, expected [1, channels, rows, columns]")),
        }
    }

    /// Constant scales of input `i`: one, or one a slice.
    fn scales(&self, node: &'g Node, i: usize) -> Result<Vec<f32>, Why> {
        match &self.constant(node, i)?.values {
            Values::F32(s) if !s.is_empty() && s.iter().all(|s| s.is_finite() && *s > 0.0) => Ok(s.clone()),
            Values::F32(s) => Err(format!("its scales must be finite and positive, the first is {:?}", s.first())),
            other => Err(format!("input {i} is {}, expected float scales", other.element())),
        }
    }

    /// Scale and zero point from inputs `i` and `i + 1`; uint8 is re-based. Without a zero point it
    /// is 0 of the tensor's own type.
    fn quant(&self, node: &'g Node, i: usize, ty: Type) -> Result<Quant, Why> {
        let &[scale] = self.scales(node, i)?.as_slice() else {
            return Err("an activation with one scale a channel, expected one scale".into());
        };
        let zero_point = match (node.inputs.get(i + 1).filter(|n| !n.is_empty()), ty) {
            (None, Type::U8) => -128,
            (None, _) => 0,
            (Some(_), _) => match &self.constant(node, i + 1)?.values {
                Values::I8(v) if v.len() == 1 => v[0],
                Values::U8(v) if v.len() == 1 => (v[0] as i16 - 128) as i8,
                _ => return Err(format!("input {} must be one int8 or uint8 zero point", i + 1)),
            },
        };
        Ok(Quant { scale, zero_point })
    }

    fn cast(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        let (to, _) = self.made(node)?;
        let from = self.ty(node, 0)?;
        match (self.take(node, 0)?, to) {
            (Value::Accumulators(m), Type::F32) => Ok(Value::RealAccumulators(m)),
            // The codes themselves are the real values.
            (Value::Codes(axes), Type::F32) => {
                let zero_point = if from == Type::U8 { -128 } else { 0 };
                self.input_tensor(axes, Quant { scale: 1.0, zero_point }).map(Value::Real)
            }
            (value, to) if to == from => Ok(value),
            (other, to) => {
                Err(format!("{} cast to {to}, expected accumulators or the input cast to float", other.describe()))
            }
        }
    }
}
