//! The two ends of a plan: the graph's input, and the last operators, which the head may compute.

use super::{Axes, Bias, Kind, Lowering, Matrix, Pending, Value, Why};
use crate::engine::lowered::{Lowered, NodeReport, Output};
use crate::engine::operation::{Dense, Operation};
use crate::engine::operators::axis_of;
use crate::engine::proto::{Attribute, Graph, Node, Type};
use crate::engine::{Absorbed, EngineError, Refusal, SCALE_DOWN};
use crate::quant::logit_q16;

/// The input's rows, columns and channels, and whether the file has the channels last.
pub(super) type Shape = ([usize; 3], bool);

/// Where the logits come from and which operator is left to the head; `None` if an earlier node was
/// refused.
pub(super) type Ending = Option<(Output, Option<Absorbed>)>;

/// What the graph's input stands for.
pub(super) fn input<'g>(graph: &'g Graph) -> Result<(Value<'g>, Shape), Why> {
    let &[n, a, b, c] = graph.input_dims.as_slice() else {
        return Err(format!("input of shape {:?}, expected [1, channels, height, width]", graph.input_dims));
    };
    if n != 1 {
        return Err(format!("a batch of {n}, expected 1; export the model for one image"));
    }
    let last = channels_last(graph);
    let (axes, image) = match last {
        true => (Axes::rows(&graph.input_dims), [a, b, c]),
        false => (Axes::image([b, c, a]), [b, c, a]),
    };
    let value = match graph.input_type {
        Type::F32 => Value::Input(axes),
        Type::I8 | Type::U8 => Value::Codes(axes),
        other => return Err(format!("input of {other}, expected float, int8 or uint8")),
    };
    Ok((value, (image, last)))
}

/// Whether the graph first transposes its input from channels-last. The plan is exact either way;
/// this only decides which axes are called rows, columns and channels.
fn channels_last(graph: &Graph) -> bool {
    let mut name = graph.input.as_str();
    let reader = |name: &str| graph.nodes.iter().find(|n| n.inputs.iter().any(|i| i == name));
    while let Some(node) = reader(name) {
        match (node.op.as_str(), node.outputs.as_slice()) {
            ("Transpose", _) => return super::channels::permutation(node, 4) == [0, 3, 1, 2],
            ("QuantizeLinear" | "DequantizeLinear" | "Cast" | "Identity" | "Add" | "Sub" | "Mul" | "Div", [out]) => {
                name = out
            }
            _ => return false,
        }
    }
    false
}

/// Refuses a value that is not a valid logit, if a code of the output may stand for it.
fn held(x: f32) -> Result<(), Why> {
    match logit_q16(1, x) {
        Some(_) => Ok(()),
        None => Err(format!("its codes stand for values up to {x}, scores are computed of -32768 to 32768; {SCALE_DOWN}")),
    }
}

impl<'g> Lowering<'g> {
    /// A softmax that the head computes: over all values of the output.
    pub(super) fn softmax(&mut self, node: &'g Node, i: usize) -> Result<Value<'g>, Why> {
        let dims = self.dims(node, i)?;
        let opset = match node.attributes.get("opset") {
            Some(Attribute::Int(opset)) => *opset,
            _ => self.reading.graph.opset,
        };
        let default = if opset >= 13 || node.op != "Softmax" { -1 } else { 1 };
        let stated = if let Some(Attribute::Int(axis)) = node.attributes.get("axis") { *axis } else { default };
        let axis = axis_of(stated, dims.len())?;
        // Before opset 13 it goes over all axes from this one on.
        let over: usize = if opset >= 13 { dims[axis] } else { dims[axis..].iter().product() };
        if over != dims.iter().product::<usize>() {
            return Err(format!("it goes over axis {stated} of {dims:?}, expected all values of the output"));
        }
        self.absorb(node, i, Absorbed::Softmax)
    }

    pub(super) fn absorb(&mut self, node: &'g Node, i: usize, what: Absorbed) -> Result<Value<'g>, Why> {
        if !self.ends_the_graph(&node.outputs) {
            return Err(format!("only the last operator may be a {what:?}"));
        }
        match self.take(node, i)? {
            value @ (Value::Real(_) | Value::Pending(_) | Value::Int(_) | Value::Function { .. } | Value::Float { .. }) => {
                Ok(Value::Scores(Box::new(value), what))
            }
            other => Err(format!("input is {}, expected logits", other.describe())),
        }
    }

    /// Whether the head computes this node: a softmax or sigmoid that ends the graph, or an ArgMax.
    pub(super) fn is_the_heads(&self, node: &'g Node) -> bool {
        match node.op.as_str() {
            "Softmax" | "Sigmoid" => self.ends_the_graph(&node.outputs),
            _ => self.is_the_best(node),
        }
    }

    /// Whether the node is an ArgMax over all scores that ends the graph (the first of equal
    /// scores).
    pub(super) fn is_the_best(&self, node: &'g Node) -> bool {
        let int = |name: &str, default| match node.attributes.get(name) {
            Some(Attribute::Int(i)) => *i,
            _ => default,
        };
        let over_all = || {
            let dims = self.dims(node, 0).ok()?;
            let axis = axis_of(int("axis", 0), dims.len()).ok()?;
            Some(dims[axis] == dims.iter().product::<usize>())
        };
        node.op == "ArgMax"
            && int("select_last_index", 0) == 0
            && over_all() == Some(true)
            && self.ends_the_graph(&node.outputs)
    }

    /// The scores whose ArgMax the graph asks for: the head gives them all, and the best is the
    /// highest.
    pub(super) fn index_of_the_best(&mut self, node: &'g Node) -> Result<Value<'g>, Why> {
        match self.take(node, 0)? {
            Value::Scores(logits, _) => Ok(Value::Best(logits)),
            value @ (Value::Real(_) | Value::Pending(_) | Value::Int(_) | Value::Function { .. } | Value::Float { .. }) => {
                Ok(Value::Best(Box::new(value)))
            }
            other => Err(format!("input is {}, expected scores", other.describe())),
        }
    }
}

impl Lowering<'_> {
    /// The finished plan, without steps whose results are unused; or every reason why there is
    /// none.
    pub(super) fn finish(
        self,
        shape: Result<Shape, Why>,
        problems: Vec<(usize, Why)>,
        output: Result<Ending, Why>,
    ) -> Result<Lowered, EngineError> {
        let graph = self.reading.graph;
        let quantised = graph.nodes.iter().any(|n| n.op.starts_with('Q') || n.op == "MatMulInteger");
        let refusal = |node: &str, op: &str, why: Why| Refusal { node: node.into(), op: op.into(), why };
        let mut refused: Vec<Refusal> = Vec::new();
        let shape = match shape {
            Ok(shape) => Some(shape),
            Err(why) => {
                refused.push(refusal(&graph.input, "input", why));
                None
            }
        };
        for (i, why) in problems {
            refused.push(refusal(&graph.nodes[i].name, &graph.nodes[i].op, why));
        }
        let output = output.unwrap_or_else(|why| {
            refused.push(refusal(&graph.output, "output", why));
            None
        });
        if self.input.is_none() && refused.is_empty() {
            refused.push(refusal(&graph.input, "input", "it is never quantised".into()));
        }
        let (Some((output, absorbed)), Some((image, channels_last)), Some(input), true) =
            (output, shape, self.input, refused.is_empty())
        else {
            return Err(EngineError::Refused { nodes: refused, quantised });
        };
        let report = |n: &Node| NodeReport { name: n.name.clone(), op: n.op.clone(), place: "folded".into() };
        let mut reports: Vec<NodeReport> = graph.nodes.iter().map(report).collect();
        for (i, report) in reports.iter_mut().enumerate() {
            if let Some(island) = self.islands.at(i) {
                report.place = format!("f32 island {}", island + 1);
            }
        }
        let (Output::Quantised(needed, _) | Output::Table(needed, _) | Output::Dense(needed, ..) | Output::Reals(needed, _)) =
            &output;
        let mut read = vec![false; self.tensors.len()];
        read[needed.0] = true;
        self.traces.iter().flatten().for_each(|trace| read[trace.tensor.0] = true);
        let (mut steps, mut names) = (Vec::with_capacity(self.steps.len()), Vec::with_capacity(self.steps.len()));
        if let Output::Dense(_, dense, _) = &output
            && let Some(last) = self.last_maker()
        {
            reports[last].place = format!("{}, unrounded logits", dense.describe());
        }
        for (step, maker) in self.steps.into_iter().zip(self.makers).rev() {
            if read[step.dst.0] {
                step.sources.iter().for_each(|id| read[id.0] = true);
                let place = &mut reports[maker].place;
                let what = step.operation.describe();
                *place = match (place.as_str(), &step.operation) {
                    (island, Operation::Island(_)) => island.into(),
                    ("folded", _) => what,
                    (later, _) => format!("{what}, then {later}"),
                };
                names.push(graph.nodes[maker].outputs.first().cloned().unwrap_or_default());
                steps.push(step);
            }
        }
        steps.reverse();
        names.reverse();
        let real_input = self.islands.real_input;
        let (tensors, traces) = (self.tensors, self.traces.unwrap_or_default());
        Ok(Lowered { tensors, steps, input, image, channels_last, real_input, output, absorbed, reports, traces, names })
    }

    /// The node that computes an output without a QuantizeLinear after it.
    fn last_maker(&self) -> Option<usize> {
        match self.values.get(self.reading.graph.output.as_str()) {
            Some(Value::Pending(p)) => Some(p.maker),
            Some(Value::Scores(inner, _) | Value::Best(inner)) => match &**inner {
                Value::Pending(p) => Some(p.maker),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where the logits come from, or which node has to run in f32 first.
    pub(super) fn output_or_wanted(&mut self) -> Result<Ending, Why> {
        self.output().or_else(|why| if self.want_output() { Ok(None) } else { Err(why) })
    }

    /// Where the logits come from, in ONNX's order; `None` behind a node that was refused.
    fn output(&mut self) -> Result<Ending, Why> {
        let graph = self.reading.graph;
        let found = self.reading.facts.get(graph.output.as_str()).map(|f| f.ty);
        let (value, absorbed) = match self.values.get(graph.output.as_str()).cloned() {
            Some(Value::Unknown) => return Ok(None),
            Some(Value::Scores(inner, what)) => (*inner, Some(what)),
            Some(Value::Best(inner)) => (*inner, Some(Absorbed::ArgMax)),
            Some(value) => (value, None),
            None => return Err("it is a constant".into()),
        };
        if let (Some(stated), Some(found)) = (graph.output_type, found)
            && stated != found
        {
            return Err(format!("the file says that it is {stated}, its node gives {found}"));
        }
        match found {
            Some(Type::F32) => {}
            Some(Type::I32 | Type::I64) if absorbed == Some(Absorbed::ArgMax) => {}
            Some(other @ (Type::I32 | Type::I64)) => {
                return Err(format!("it is {other}, expected scores, or the index of the first best of all of them"));
            }
            Some(other) => {
                return Err(format!(
                    "it is {other}, without a scale; end the graph with the DequantizeLinear that belongs to it"
                ));
            }
            None => return Err("its type is unknown".into()),
        }
        let output = match value {
            Value::Real(view) | Value::Int(view) => {
                let id = self.arrange(&view, Axes::rows(&view.axes.dims()))?;
                let quant = self.get(id).quant;
                [i8::MIN, i8::MAX].iter().try_for_each(|q| held((*q as f32 - quant.zero_point as f32) * quant.scale))?;
                Output::Quantised(id, quant)
            }
            Value::Function { view, values } => {
                if values.iter().any(|x| x.is_nan()) {
                    return Err("it has no value for some of its int8 inputs".into());
                }
                values.iter().try_for_each(|x| held(*x))?;
                let id = self.arrange(&view, Axes::rows(&view.axes.dims()))?;
                Output::Table(id, Box::new(*values))
            }
            Value::Float { name, axes } => {
                let (id, at) = self.real_place(name)?;
                Output::Reals(id, axes.places().into_iter().map(|place| at as u32 + place).collect())
            }
            Value::Pending(p) if p.unclamped() && p.axes == Axes::rows(&p.axes.dims()) => self.unrounded(&p)?,
            Value::Pending(_) => return Err("expected a QuantizeLinear before it".into()),
            other => return Err(format!("it is {}", other.describe())),
        };
        Ok(Some((output, absorbed)))
    }

    /// A GEMM, or a convolution of one pixel, whose accumulators are the logits.
    fn unrounded(&self, pending: &Pending) -> Result<Output, Why> {
        let (matrix, scales) = match &*pending.what {
            Kind::Dense(m, scales) => (m.clone(), scales),
            Kind::Conv { src, shape, weights, bias, scales }
                if shape.input[..2] == [1, 1] && shape.is_pointwise() && shape.groups == 1 =>
            {
                let axes = pending.axes.clone();
                (Matrix { src: *src, weights: weights.clone(), bias: bias.clone(), axes }, scales)
            }
            _ => return Err("expected a Gemm, or a QuantizeLinear before it".into()),
        };
        let Bias { values, .. } = matrix.bias;
        let zero_point = self.get(matrix.src).quant.zero_point;
        Ok(Output::Dense(matrix.src, Dense::new(self.kernels, &matrix.weights, values, zero_point), scales.clone()))
    }
}
