//! What ONNX's operators are: for each the versions, inputs, outputs and attributes that are known
//! here, what may be said in them, and its shape rule.
//!
//! [`read`] goes over a graph once. Each node must be in the [`table`], and must say nothing that
//! its entry does not know; then its rule gives the type and shape of its outputs. Nodes that only
//! make constants of constants are computed by [`fold`]. Whatever is not known is a problem with
//! the node's name: nothing is passed over.
//!
//! A *fact* is the type and shape of a value. A node behind a problem has facts only where the file
//! states them, which is enough to look for more problems there.

mod fold;
mod shapes;
mod table;
mod window;

pub(super) use fold::{picked, sliced, strides, turned};
pub(super) use shapes::{Taken, reduced_axes, spread_pads, taken};
pub(super) use window::{Window, kernel_shape};

use super::proto::{Attribute, Constant, Fact, Graph, Node};
use std::collections::HashMap;

/// Why something is refused: what was found and what was expected.
pub(super) type Why = String;

/// Most values that folding may make of one graph's constants.
const MAX_FOLDED: usize = 1 << 26;

/// An input of an operator.
struct Input {
    name: &'static str,
    kind: Presence,
    /// The first opset that has it.
    since: i64,
}

/// Whether an input must be there.
#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Required,
    Optional,
    /// This one and all that follow.
    Many,
}

/// What an attribute may say.
enum Says {
    /// A whole number of a range.
    Int(i64, i64),
    /// A finite real.
    Real,
    /// A real that may be infinite.
    Bound,
    /// Whole numbers; the shape rule looks at them.
    Ints,
    /// One of these words.
    Text(&'static [&'static str]),
    /// A tensor.
    Tensor,
}

/// An attribute of an operator.
struct Known {
    name: &'static str,
    says: Says,
    since: i64,
    until: i64,
    required: bool,
}

/// One operator, as far as it is known here.
struct Operator {
    name: &'static str,
    microsoft: bool,
    /// The first opset whose form of the operator is known.
    since: i64,
    inputs: &'static [Input],
    /// Most outputs.
    outputs: usize,
    attributes: &'static [Known],
    /// Whether it works on real values, so that it may run in an island.
    real: bool,
    shape: fn(&Call<'_>) -> Result<Vec<Fact>, Why>,
}

/// Whether a node may run in f32, in an island.
pub(super) fn runs_in_f32(node: &Node) -> bool {
    table::find(node).is_ok_and(|operator| operator.real)
}

/// A node with what is known of its inputs.
pub(super) struct Call<'a> {
    node: &'a Node,
    opset: i64,
    facts: Vec<Option<&'a Fact>>,
    constants: Vec<Option<&'a Constant>>,
}

impl Operator {
    /// Whether a node says nothing that is unknown.
    fn check(&self, node: &Node, opset: i64) -> Result<(), Why> {
        if opset < self.since && !self.microsoft {
            return Err(format!(
                "its form of opset {opset} is unknown, expected {0} or newer: export the model with opset {0}",
                self.since
            ));
        }
        let known = |since: i64| self.microsoft || opset >= since;
        let many = self.inputs.last().is_some_and(|i| i.kind == Presence::Many);
        let most = self.inputs.iter().filter(|i| known(i.since)).count();
        if node.inputs.len() > most && !many {
            return Err(format!("{} inputs, opset {opset} has at most {most}", node.inputs.len()));
        }
        let missing = |i: usize| node.inputs.get(i).is_none_or(String::is_empty);
        for (i, input) in self.inputs.iter().enumerate().filter(|(_, input)| known(input.since)) {
            if input.kind != Presence::Optional && missing(i) {
                return Err(format!("its input {} is missing", input.name));
            }
        }
        if many && (self.inputs.len()..node.inputs.len()).any(missing) {
            return Err("an input is missing".into());
        }
        let outputs = node.outputs.iter().rposition(|out| !out.is_empty()).map_or(0, |last| last + 1);
        if outputs == 0 || outputs > self.outputs {
            return Err(format!("{outputs} outputs, expected 1 to {}", self.outputs));
        }
        for (name, value) in &node.attributes {
            let Some(attribute) = self.attributes.iter().find(|a| a.name == name && known(a.since) && opset <= a.until)
            else {
                return Err(format!("opset {opset} has no attribute {name} here"));
            };
            attribute.says.check(name, value)?;
        }
        let required = |a: &&Known| a.required && known(a.since) && opset <= a.until;
        match self.attributes.iter().filter(required).find(|a| !node.attributes.contains_key(a.name)) {
            Some(missing) => Err(format!("its attribute {} is missing", missing.name)),
            None => Ok(()),
        }
    }
}

impl Says {
    fn check(&self, name: &str, value: &Attribute) -> Result<(), Why> {
        match (self, value) {
            (Self::Int(lo, hi), Attribute::Int(v)) if (lo..=hi).contains(&v) => Ok(()),
            (Self::Int(lo, hi), Attribute::Int(v)) if lo == hi => Err(format!("{name} {v}, expected {lo}")),
            (Self::Int(lo, hi), Attribute::Int(v)) => Err(format!("{name} {v}, expected {lo} to {hi}")),
            (Self::Real, Attribute::Float(v)) if v.is_finite() => Ok(()),
            (Self::Bound, Attribute::Float(v)) if !v.is_nan() => Ok(()),
            (Self::Real | Self::Bound, Attribute::Float(v)) => Err(format!("{name} {v}, expected a number")),
            (Self::Ints, Attribute::Ints(_)) | (Self::Tensor, Attribute::Tensor(_)) => Ok(()),
            (Self::Text(words), Attribute::Text(word)) if words.contains(&word.as_str()) => Ok(()),
            (Self::Text(words), Attribute::Text(word)) => Err(format!("{name} \"{word}\", expected {}", words.join(", "))),
            _ => Err(format!("{name} is of another kind than ONNX has there")),
        }
    }
}

impl<'a> Call<'a> {
    /// The fact of input `i`.
    fn fact(&self, i: usize) -> Result<&'a Fact, Why> {
        self.facts.get(i).copied().flatten().ok_or_else(|| format!("input {i} is missing"))
    }

    fn dims(&self, i: usize) -> Result<&'a [usize], Why> {
        Ok(&self.fact(i)?.dims)
    }

    /// The constant that is input `i`.
    fn constant(&self, i: usize) -> Option<&'a Constant> {
        self.constants.get(i).copied().flatten()
    }

    fn has(&self, i: usize) -> bool {
        self.node.inputs.get(i).is_some_and(|name| !name.is_empty())
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        if let Some(Attribute::Int(v)) = self.node.attributes.get(name) { *v } else { default }
    }

    /// The axis that an attribute says, of `rank` axes.
    fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, Why> {
        axis_of(self.int(name, default), rank)
    }

    /// The integers of an attribute, or of input `i` in newer opsets, which must be a constant.
    fn numbers(&self, i: usize, name: &str) -> Result<Option<Vec<i64>>, Why> {
        if let Some(Attribute::Ints(v)) = self.node.attributes.get(name) {
            return Ok(Some(v.clone()));
        }
        if !self.has(i) {
            return Ok(None);
        }
        match self.constant(i).and_then(Constant::integers) {
            Some(v) if self.dims(i)?.len() <= 1 => Ok(Some(v)),
            _ => Err(format!("{name} must be constant integers, in one row")),
        }
    }
}

/// An axis of `rank` axes, counted from the end if negative.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, Why> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(from_start) {
        Ok(a) if a < rank => Ok(a),
        _ => Err(format!("axis {axis} of {rank}")),
    }
}

impl Constant {
    /// Its values, if they are indices or a shape.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        match &self.values {
            super::proto::Values::I64(v) => Some(v.clone()),
            super::proto::Values::I32(v) => Some(v.iter().map(|&v| v.into()).collect()),
            _ => None,
        }
    }

    /// Its type and shape.
    pub(super) fn fact(&self) -> Fact {
        Fact { ty: self.values.element(), dims: self.dims.clone() }
    }
}

/// A graph with the facts of its values.
pub(super) struct Reading<'g> {
    pub(super) graph: &'g Graph,
    /// Type and shape of each value, as far as known.
    pub(super) facts: HashMap<&'g str, Fact>,
    /// Constants that nodes make of constants.
    pub(super) folded: HashMap<&'g str, Constant>,
    /// Why a node is refused, by its index.
    pub(super) problems: Vec<(usize, Why)>,
}

impl Reading<'_> {
    /// The constant of this name: the file's, or one that a node makes.
    pub(super) fn constant(&self, name: &str) -> Option<&Constant> {
        self.graph.constants.get(name).or_else(|| self.folded.get(name))
    }

    /// Shape of a value.
    pub(super) fn dims(&self, name: &str) -> Option<&[usize]> {
        self.facts.get(name).map(|f| f.dims.as_slice())
    }
}

/// Reads a whole graph: every node against the table, every value's type and shape.
pub(super) fn read(graph: &Graph) -> Reading<'_> {
    let facts = graph.constants.iter().map(|(name, c)| (name.as_str(), c.fact())).collect();
    let mut r = Reading { graph, facts, folded: HashMap::new(), problems: Vec::new() };
    r.facts.insert(&graph.input, Fact { ty: graph.input_type, dims: graph.input_dims.clone() });
    let mut left = MAX_FOLDED;
    for (i, node) in graph.nodes.iter().enumerate() {
        match r.node(node, &mut left) {
            Ok(()) => {}
            Err(why) => r.problems.push((i, why)),
        }
        for out in node.outputs.iter().filter(|out| !out.is_empty()) {
            if let (false, Some(fact)) = (r.facts.contains_key(out.as_str()), graph.stated.get(out)) {
                r.facts.insert(out, fact.clone());
            }
        }
    }
    r
}

impl<'g> Reading<'g> {
    /// Adds the facts of a node's outputs; none where an input has none.
    fn node(&mut self, node: &'g Node, left: &mut usize) -> Result<(), Why> {
        let operator = table::find(node)?;
        operator.check(node, self.graph.opset)?;
        // A name that is empty is an input left out: nothing has that name.
        let facts: Vec<_> = node.inputs.iter().map(|name| self.facts.get(name.as_str())).collect();
        if facts.iter().zip(&node.inputs).any(|(fact, name)| fact.is_none() && !name.is_empty()) {
            return Ok(());
        }
        let constants: Vec<_> = node.inputs.iter().map(|name| self.constant(name)).collect();
        let call = Call { node, opset: self.graph.opset, facts, constants };
        let made = (operator.shape)(&call)?;
        if let Some(fact) = made.iter().find(|f| f.dims.len() > super::proto::MAX_RANK || elements(&f.dims).is_none()) {
            return Err(format!("its result of shape {:?} is too large", fact.dims));
        }
        if let [fact] = made.as_slice()
            && elements(&fact.dims).is_some_and(|n| n <= *left)
            && let Some(constant) = fold::constant(&call, fact)?
        {
            *left -= elements(&fact.dims).unwrap_or(0);
            self.folded.insert(&node.outputs[0], constant);
        }
        let named = node.outputs.iter().zip(made).filter(|(out, _)| !out.is_empty());
        self.facts.extend(named.map(|(out, fact)| (out.as_str(), fact)));
        Ok(())
    }
}

/// Values of a tensor of this shape, if they are not too many.
fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d).filter(|n| *n <= super::proto::MAX_ELEMENTS))
}

/// The shape that two shapes make together by ONNX's multidirectional broadcasting.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Why> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let one = |i: usize| match (at(a, i), at(b, i)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(format!("shapes {a:?} and {b:?} do not broadcast")),
    };
    (0..rank).map(one).collect()
}
