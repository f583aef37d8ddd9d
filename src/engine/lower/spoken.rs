//! Writes an island as an ONNX model for tract: its nodes, constants and values.
//!
//! Where tract deviates from ONNX's definition of an operator, the node is written with other
//! operators that both define alike, or refused.

use super::Why;
use crate::engine::message;
use crate::engine::operators::{Reading, spread_pads};
use crate::engine::proto::{Attribute, Constant, Node, Type, Values};
use tract_onnx::pb;

/// A constant of a type that islands compute with.
pub(super) fn tensor(name: &str, constant: &Constant) -> Result<pb::TensorProto, Why> {
    match &constant.values {
        Values::F32(_) | Values::I32(_) | Values::I64(_) | Values::Bool(_) => message::tensor(name, constant),
        Values::I8(_) | Values::U8(_) | Values::Unread(_) => None,
    }
    .ok_or_else(|| format!("it reads a constant of {}", constant.values.element()))
}

/// A node's name in its island: the file's may stand there twice, and be of any length.
pub(super) fn name_of(i: usize) -> String {
    format!("node{i}")
}

/// Adds node `i` to an island's graph.
pub(super) fn say(reading: &Reading<'_>, i: usize, graph: &mut pb::GraphProto) -> Result<(), Why> {
    let node = &reading.graph.nodes[i];
    let real = |name: &str, default: f32| match node.attributes.get(name) {
        Some(Attribute::Float(x)) => *x,
        _ => default,
    };
    let mut said = Said { i, node, graph, inner: 0 };
    match node.op.as_str() {
        // Tract has it with another argument of its exponential.
        "Celu" => {
            let alpha = said.constant(real("alpha", 1.0))?;
            let scaled = said.inner("Div", vec![node.inputs[0].clone(), alpha.clone()]);
            let curved = said.inner("Elu", vec![scaled]);
            said.last("Mul", vec![curved, alpha]);
        }
        // Tract takes no notice of alpha.
        "Swish" if real("alpha", 1.0) != 1.0 => {
            let alpha = said.constant(real("alpha", 1.0))?;
            let scaled = said.inner("Mul", vec![node.inputs[0].clone(), alpha]);
            let gate = said.inner("Sigmoid", vec![scaled]);
            said.last("Mul", vec![node.inputs[0].clone(), gate]);
        }
        op => {
            known_as_defined(reading, node)?;
            said.graph.node.push(pb::NodeProto {
                name: name_of(i),
                op_type: op.into(),
                input: node.inputs.clone(),
                output: node.outputs.clone(),
                attribute: attributes(node)?,
                ..Default::default()
            });
        }
    }
    Ok(())
}

/// Refuses what tract and ONNX, or ONNX's own evaluators among themselves, read differently.
fn known_as_defined(reading: &Reading<'_>, node: &Node) -> Result<(), Why> {
    let dims = |i: usize| node.inputs.get(i).and_then(|name| reading.dims(name)).unwrap_or_default();
    let constant = |i: usize| node.inputs.get(i).and_then(|name| reading.constant(name));
    match (node.op.as_str(), node.attributes.get("coordinate_transformation_mode")) {
        ("Resize", Some(Attribute::Text(mode))) if mode == "align_corners" => {
            let sides = constant(2).map(|c| &c.values);
            let Some(Values::F32(scales)) = sides else { return Ok(()) };
            let axes: Vec<usize> = match node.attributes.get("axes") {
                Some(Attribute::Ints(axes)) => axes.iter().map(|&a| a.rem_euclid(dims(0).len() as i64) as usize).collect(),
                _ => (0..dims(0).len()).collect(),
            };
            let whole = |(axis, scale): (&usize, &f32)| (dims(0)[*axis] as f32 * scale).fract() == 0.0;
            match axes.iter().zip(scales).all(whole) {
                true => Ok(()),
                false => Err(format!("align_corners with scales {scales:?} of {:?}, which give no whole sides", dims(0))),
            }
        }
        ("Gather", _) if constant(1).is_none() => Err("its indices are computed, expected constants".into()),
        ("Pad", _) => {
            let stated = match node.attributes.get("pads") {
                Some(Attribute::Ints(pads)) => Some(pads.clone()),
                _ => constant(1).and_then(Constant::integers),
            };
            let axes = constant(3).and_then(Constant::integers);
            let pads = spread_pads(&stated.unwrap_or_default(), axes.as_deref(), dims(0).len())?;
            match pads.as_flattened().iter().any(|p| *p < 0) {
                true => Err(format!("pads {pads:?}, expected none below 0")),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A node that is being said in several.
struct Said<'a> {
    i: usize,
    node: &'a Node,
    graph: &'a mut pb::GraphProto,
    inner: usize,
}

impl Said<'_> {
    fn constant(&mut self, x: f32) -> Result<String, Why> {
        let name = format!("{}.constant", name_of(self.i));
        self.graph.initializer.push(tensor(&name, &Constant { dims: Vec::new(), values: Values::F32(vec![x]) })?);
        Ok(name)
    }

    fn inner(&mut self, op: &str, input: Vec<String>) -> String {
        self.inner += 1;
        let name = format!("{}.{}", name_of(self.i), self.inner);
        self.push(name.clone(), op, input, vec![name.clone()]);
        name
    }

    fn last(&mut self, op: &str, input: Vec<String>) {
        self.push(name_of(self.i), op, input, self.node.outputs.clone());
    }

    fn push(&mut self, name: String, op: &str, input: Vec<String>, output: Vec<String>) {
        self.graph.node.push(pb::NodeProto { name, op_type: op.into(), input, output, ..Default::default() });
    }
}

fn attributes(node: &Node) -> Result<Vec<pb::AttributeProto>, Why> {
    let mut all = message::attributes(&node.attributes).ok_or("it has an attribute of a kind that is not read")?;
    // Halves are f32 everywhere here.
    let to = all.iter_mut().filter(|a| node.op == "Cast" && a.name == "to");
    to.for_each(|a| a.i = Type::of_number(a.i).number().into());
    Ok(all)
}
