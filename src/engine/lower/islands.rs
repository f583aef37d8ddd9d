//! Chooses the nodes that run in islands and the order of lowering, and builds each island's model.
//!
//! Lowering starts without islands. A node without an int8 kernel goes to an island, together with
//! every node before it whose real result is not quantised; then lowering starts again, until
//! nothing is added. A graph that lowers completely therefore costs nothing extra.
//!
//! A node's *depth* is how many islands lie before it. Connected nodes of islands that have the
//! same depth make one island: no way between two of them leads through int8, for that would be
//! deeper. By depth, int8 first, is also an order in which everything can run.

use super::spoken::{self, name_of, tensor};
use super::{Axes, Lowering, Value, View, Why};
use crate::engine::island::{Entry, Island};
use crate::engine::lowered::{Quant, TensorId, Trace};
use crate::engine::message::value_info;
use crate::engine::operation::Operation;
use crate::engine::operators::{self, Reading};
use crate::engine::proto::{Constant, Node, Type, Values};
use std::collections::{BTreeSet, HashMap};
use tract_onnx::pb;

/// Most values that the nodes of one island read and make.
const MAX_VALUES: usize = 1 << 24;
/// Most values of one convolution's patches.
const MAX_PATCHES: usize = 1 << 26;

/// The nodes that run in islands, and where.
#[derive(Default)]
pub(super) struct Islands<'g> {
    /// The island of each node, if it is in one.
    of: Vec<Option<usize>>,
    /// The order in which nodes are lowered; empty for the graph's own.
    pub(super) order: Vec<usize>,
    /// Each island's nodes in order, and what is read of them elsewhere, in order.
    members: Vec<(Vec<usize>, Vec<&'g str>)>,
    /// Whether the graph's input is wanted in f32.
    pub(super) real_input: bool,
}

/// What one pass found that has to go to islands.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) nodes: BTreeSet<usize>,
    pub(super) real_input: bool,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && !self.real_input
    }
}

impl<'g> Islands<'g> {
    /// The islands that these nodes make.
    pub(super) fn of(reading: &Reading<'g>, nodes: &BTreeSet<usize>, real_input: bool) -> Self {
        let graph = reading.graph;
        // Depth of each value, and its node if that runs in an island.
        let mut made: HashMap<&str, (usize, Option<usize>)> = HashMap::new();
        let mut depth = vec![0; graph.nodes.len()];
        // The first node of the island that each node belongs to, followed link by link.
        let mut first: Vec<usize> = (0..graph.nodes.len()).collect();
        let root = |first: &[usize], mut i: usize| {
            while first[i] != i {
                i = first[i];
            }
            i
        };
        for (i, node) in graph.nodes.iter().enumerate() {
            let inside = nodes.contains(&i);
            let inputs: Vec<_> = node.inputs.iter().filter_map(|name| made.get(name.as_str()).copied()).collect();
            let behind = |(d, maker): &(usize, Option<usize>)| if maker.is_some() && !inside { d + 1 } else { *d };
            depth[i] = inputs.iter().map(behind).max().unwrap_or(0);
            for (d, maker) in inputs {
                if let (true, Some(maker)) = (inside && d == depth[i], maker) {
                    let (a, b) = (root(&first, maker), root(&first, i));
                    first[a.max(b)] = a.min(b);
                }
            }
            made.extend(node.outputs.iter().map(|out| (out.as_str(), (depth[i], inside.then_some(i)))));
        }
        let mut order: Vec<usize> = (0..graph.nodes.len()).collect();
        let island = |i: usize| nodes.contains(&i).then(|| root(&first, i));
        order.sort_by_key(|&i| (depth[i], island(i).is_some(), island(i), i));
        let (mut of, mut members) = (vec![None; graph.nodes.len()], Vec::<(Vec<usize>, Vec<&str>)>::new());
        let mut last = None;
        for &i in &order {
            let Some(island) = island(i) else { continue };
            if last != Some(island) {
                members.push((Vec::new(), Vec::new()));
                last = Some(island);
            }
            of[i] = Some(members.len() - 1);
            members[of[i].unwrap_or(0)].0.push(i);
        }
        for (k, (nodes, outside)) in members.iter_mut().enumerate() {
            let read = |name: &str| {
                let elsewhere = |(i, n): (usize, &Node)| of[i] != Some(k) && n.inputs.iter().any(|input| input == name);
                name == graph.output || graph.nodes.iter().enumerate().any(elsewhere)
            };
            let outputs = nodes.iter().flat_map(|&i| &graph.nodes[i].outputs).map(String::as_str);
            outside.extend(outputs.filter(|name| !name.is_empty() && read(name)));
        }
        Self { of, order, members, real_input }
    }

    /// The island of a node.
    pub(super) fn at(&self, node: usize) -> Option<usize> {
        self.of.get(node).copied().flatten()
    }
}

/// A value in ONNX's order, as an island reads it.
struct Input {
    name: String,
    source: TensorId,
    entry: Entry,
    dims: Vec<usize>,
}

impl<'g> Lowering<'g> {
    /// Notes where a named int8 tensor lies.
    pub(super) fn trace(&mut self, name: &str, view: &View) {
        let Some(ty) = self.reading.facts.get(name).map(|f| f.ty) else { return };
        if let Some(traces) = &mut self.traces {
            let (order, dims) = (view.axes.places(), view.axes.dims());
            traces.push(Trace { name: name.into(), tensor: view.id, order, ty, dims });
        }
    }

    /// What a node of an island gives. Its int8 inputs are wanted in f32.
    pub(super) fn floats(&mut self, node: &'g Node) -> Result<Vec<Value<'g>>, Why> {
        let mut values = Vec::with_capacity(node.outputs.len());
        for name in node.outputs.iter().filter(|name| !name.is_empty()) {
            let dims = self.reading.dims(name).ok_or("shape of its output is unknown")?;
            values.push(Value::Float { name, axes: Axes::rows(dims) });
        }
        if self.islands.at(self.at).is_some() {
            self.want_again(self.at)?;
        }
        Ok(values)
    }

    /// The node that makes a value.
    fn maker(&self, name: &str) -> Option<usize> {
        self.makers_of.get(name).copied()
    }

    /// Whether tract may run a node; the table says so of its operator. What ends the graph and
    /// belongs to the head stays there.
    fn may_be_island(&self, i: usize) -> bool {
        let node = &self.reading.graph.nodes[i];
        !self.is_the_heads(node) && operators::runs_in_f32(node)
    }

    /// Adds what has to run in f32 so that this value is there in f32; false where that cannot be.
    fn want_value(&self, name: &str, more: &mut Wanted) -> bool {
        let graph = self.reading.graph;
        if name.is_empty() || self.reading.constant(name).is_some() || self.in_f32.contains(name) {
            return true;
        }
        if name == graph.input {
            more.real_input |= !self.islands.real_input;
            return graph.input_type == Type::F32;
        }
        let Some(maker) = self.maker(name) else { return false };
        let known = self.islands.at(maker).is_some() || self.wanted.nodes.contains(&maker) || more.nodes.contains(&maker);
        known || self.want_node(maker, more)
    }

    fn want_node(&self, i: usize, more: &mut Wanted) -> bool {
        if !self.may_be_island(i) {
            // What ends the graph without arithmetic of its own passes it on.
            let node = &self.reading.graph.nodes[i];
            return self.ends_the_graph(&node.outputs) && node.op != "DequantizeLinear" && self.want_inputs(i, more);
        }
        more.nodes.insert(i);
        self.want_inputs(i, more)
    }

    fn want_inputs(&self, i: usize, more: &mut Wanted) -> bool {
        self.reading.graph.nodes[i].inputs.iter().all(|name| self.want_value(name, more))
    }

    /// Whether `find` found what can run in f32, and something new; then that is wanted.
    fn wanting(&mut self, find: impl FnOnce(&Self, &mut Wanted) -> bool) -> bool {
        let mut more = Wanted::default();
        let gained = find(self, &mut more) && !more.is_empty();
        if gained {
            self.wanted.nodes.append(&mut more.nodes);
            self.wanted.real_input |= more.real_input;
        }
        gained
    }

    /// Sends a node to an island, with what it needs in f32; or only the latter, where it is no
    /// node for islands. False where nothing is gained by it.
    pub(super) fn want(&mut self, i: usize) -> bool {
        self.wanting(|l, more| if l.may_be_island(i) { l.want_node(i, more) } else { l.want_inputs(i, more) })
    }

    /// As [`Self::want`], of a node that is in an island already: an input may now wait in int8
    /// that was in f32 before.
    pub(super) fn want_again(&mut self, i: usize) -> Result<(), Why> {
        let mut more = Wanted::default();
        if !self.want_inputs(i, &mut more) {
            return Err("an input is neither a real value nor an integer that is computed beside it".into());
        }
        self.wanted.nodes.append(&mut more.nodes);
        self.wanted.real_input |= more.real_input;
        Ok(())
    }

    /// What has to run in f32 so that the graph's output is there in f32.
    pub(super) fn want_output(&mut self) -> bool {
        self.wanting(|l, more| l.want_value(&l.reading.graph.output, more))
    }

    /// The activation that holds an island's results.
    fn results_of(&mut self, island: usize) -> Result<TensorId, Why> {
        if let Some(id) = self.results.get(&island) {
            return Ok(*id);
        }
        let names = &self.islands.members[island].1;
        let values: Option<usize> =
            names.iter().map(|name| self.reading.dims(name).map(|d| d.iter().product::<usize>())).sum();
        let values = values.filter(|n| *n <= MAX_VALUES).ok_or("its results are too large, or of unknown shape")?;
        let id = self.tensor(4 * values, Quant { scale: 1.0, zero_point: 0 })?;
        self.results.insert(island, id);
        Ok(id)
    }

    /// Where a value that is computed in f32 lies: the activation, and the first of its values
    /// there.
    pub(super) fn real_place(&mut self, name: &str) -> Result<(TensorId, usize), Why> {
        let graph = self.reading.graph;
        if name == graph.input {
            return self.real_input();
        }
        let island = self.maker(name).and_then(|i| self.islands.at(i)).ok_or("it is computed nowhere")?;
        let before = self.islands.members[island].1.iter().take_while(|other| **other != name);
        let at = before.filter_map(|other| self.reading.dims(other)).map(|d| d.iter().product::<usize>()).sum();
        Ok((self.results_of(island)?, at))
    }

    /// The graph's input in f32.
    fn real_input(&mut self) -> Result<(TensorId, usize), Why> {
        let len = 4 * self.reading.graph.input_dims.iter().product::<usize>();
        let id = match self.input {
            Some(id) => id,
            None => self.tensor(len, Quant { scale: 1.0 / 255.0, zero_point: -128 })?,
        };
        self.input = Some(id);
        Ok((id, 0))
    }

    /// Adds the step of an island, once its last node is reached.
    pub(super) fn island(&mut self, i: usize) -> Result<(), (usize, Why)> {
        let Some(island) = self.islands.at(i) else { return Ok(()) };
        if self.islands.members[island].0.last() != Some(&i) {
            return Ok(());
        }
        let (nodes, outputs) = self.islands.members[island].clone();
        let (proto, inputs) = self.model_of(island, &nodes, &outputs)?;
        let dst = self.results_of(island).map_err(|why| (i, why))?;
        let sources = inputs.iter().map(|input| input.source).collect();
        let entries = inputs.into_iter().map(|input| (input.entry, input.dims)).collect();
        let built = Island::build(&proto, entries, &self.reading.facts).map_err(|(why, node)| {
            let named = |i: &usize| node.as_ref().is_some_and(|name| *name == name_of(*i));
            (nodes.iter().copied().find(named).unwrap_or(nodes[0]), why)
        })?;
        self.push(i, Operation::Island(Box::new(built)), sources, dst);
        Ok(())
    }

    /// The model of some nodes, and what it reads.
    fn model_of(
        &mut self,
        island: usize,
        nodes: &[usize],
        outputs: &[&'g str],
    ) -> Result<(pb::ModelProto, Vec<Input>), (usize, Why)> {
        let reading = self.reading;
        let (mut inputs, mut graph) = (Vec::<Input>::new(), pb::GraphProto { name: "island".into(), ..Default::default() });
        let mut known: BTreeSet<&str> = BTreeSet::new();
        let mut values = 0;
        for &i in nodes {
            let node = &reading.graph.nodes[i];
            let made = node.outputs.iter().filter_map(|out| reading.dims(out)).map(|d| d.iter().product::<usize>());
            values += made.sum::<usize>();
            if values > MAX_VALUES {
                return Err((i, format!("its island reads and makes more than {MAX_VALUES} values")));
            }
            check_work(reading, node).map_err(|why| (i, why))?;
            for name in node.inputs.iter().filter(|name| !name.is_empty()) {
                let inside = self.maker(name).is_some_and(|maker| self.islands.at(maker) == Some(island));
                if inside || !known.insert(name) {
                    continue;
                }
                if let Some(constant) = reading.constant(name) {
                    graph.initializer.push(tensor(name, constant).map_err(|why| (i, why))?);
                    continue;
                }
                match self.entry(name).map_err(|why| (i, why))? {
                    Ok((source, entry)) => {
                        let dims = reading.dims(name).unwrap_or_default().to_vec();
                        values += dims.iter().product::<usize>();
                        graph.input.push(value_info(name, Type::F32, Some(&dims)));
                        inputs.push(Input { name: name.clone(), source, entry, dims });
                    }
                    Err(constant) => graph.initializer.push(tensor(name, &constant).map_err(|why| (i, why))?),
                }
            }
            spoken::say(reading, i, &mut graph).map_err(|why| (i, why))?;
        }
        for name in outputs {
            let fact = reading.facts.get(name).filter(|fact| fact.ty == Type::F32);
            let fact = fact.ok_or_else(|| {
                let ty = reading.facts.get(name).map_or("unknown".into(), |f| f.ty.to_string());
                let why = match *name == reading.graph.output {
                    true => format!("it makes the model's output {ty}, expected float scores: end the model before it"),
                    false => format!("what it gives outside its island is {ty}, expected float"),
                };
                (self.maker(name).unwrap_or(nodes[0]), why)
            })?;
            graph.output.push(value_info(name, Type::F32, Some(&fact.dims)));
        }
        debug_assert!(inputs.iter().zip(&graph.input).all(|(a, b)| a.name == b.name));
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: reading.graph.opset };
        Ok((pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() }, inputs))
    }

    /// How an island reads a value: from an activation, or as a constant.
    fn entry(&mut self, name: &str) -> Result<Result<(TensorId, Entry), Constant>, Why> {
        let value = self.values.get(name).cloned().ok_or_else(|| format!("\"{name}\" is computed nowhere"))?;
        let codes = |view: View, values: Box<[f32; 256]>| {
            let places = view.axes.places();
            let natural = places.iter().enumerate().all(|(i, place)| i == *place as usize);
            Ok(Ok((view.id, Entry::Codes { values, order: (!natural).then_some(places) })))
        };
        match value {
            Value::Real(view) => {
                let values = self.identity(view.id);
                codes(view, values)
            }
            Value::Function { view, values } => codes(view, Box::new(*values)),
            Value::Float { name, .. } => {
                let (id, at) = self.real_place(name)?;
                Ok(Ok((id, Entry::Reals { at })))
            }
            Value::Weights(w) => Ok(Err(Constant { dims: w.constant.dims.clone(), values: Values::F32(w.reals()?) })),
            other => Err(format!("\"{name}\" is {}, expected a real value", other.describe())),
        }
    }
}

/// Refuses what would take memory or time out of all proportion.
fn check_work(reading: &Reading<'_>, node: &Node) -> Result<(), Why> {
    let dims = |name: Option<&String>| name.and_then(|name| reading.dims(name)).unwrap_or_default();
    let (out, weights) = (dims(node.outputs.first()), dims(node.inputs.get(1)));
    let all = |dims: &[usize]| dims.iter().product::<usize>();
    let (patch, macs) = match node.op.as_str() {
        "Conv" => (all(&weights[1..]) * all(&out[2..]), all(&weights[1..]) as u64 * all(out) as u64),
        "ConvTranspose" => (all(out), all(&weights[1..]) as u64 * all(dims(node.inputs.first())) as u64),
        "MatMul" | "Gemm" => {
            let inner = dims(node.inputs.first()).iter().max().copied().unwrap_or(1);
            (all(out), inner as u64 * all(out) as u64)
        }
        _ => return Ok(()),
    };
    match patch > MAX_PATCHES || macs > super::MAX_MACS {
        true => Err(format!("{patch} values of patches and {macs} multiply-adds in f32 are too many")),
        false => Ok(()),
    }
}
