//! A graph, or parts of one, as ONNX messages: the way back from [`super::proto`].

use super::proto::{Attribute, Constant, Fact, Graph, MICROSOFT, Node, Type, Values};
use std::collections::HashMap;
use tract_onnx::pb;

/// A graph as the message that a file holds, its constants in order of their names. `also`: values
/// that it gives beside its output, which the model must know the types of.
///
/// [`super::proto::from_proto`] reads the same graph back. `None`, if it has a constant or an
/// attribute that was not read, or if the type of a value that it gives is not known.
pub fn model(graph: &Graph, also: &[(String, Fact)]) -> Option<pb::ModelProto> {
    let mut names: Vec<&String> = graph.constants.keys().collect();
    names.sort();
    let initializer = names.into_iter().map(|name| tensor(name, &graph.constants[name])).collect::<Option<_>>()?;
    let node = graph.nodes.iter().map(node).collect::<Option<_>>()?;
    // Of the graph's own output its type alone: its shape is what the operators make.
    let own = value_info(&graph.output, graph.output_type?, None);
    let others = also.iter().map(|(name, fact)| value_info(name, fact.ty, Some(&fact.dims)));
    let domain = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.into(), version };
    let microsoft = graph.nodes.iter().any(|n| n.microsoft);
    Some(pb::ModelProto {
        ir_version: 10,
        producer_name: "tagpin".into(),
        opset_import: std::iter::once(domain("", graph.opset)).chain(microsoft.then(|| domain(MICROSOFT, 1))).collect(),
        graph: Some(pb::GraphProto {
            name: "tagpin".into(),
            node,
            initializer,
            input: vec![value_info(&graph.input, graph.input_type, Some(&graph.input_dims))],
            output: std::iter::once(own).chain(others).collect(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// A value's name, type and, where it is told, shape.
pub(super) fn value_info(name: &str, ty: Type, dims: Option<&[usize]>) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value as D};
    let dimension = |&d: &usize| Dimension { value: Some(D::DimValue(d as i64)), ..Default::default() };
    let shape = dims.map(|dims| pb::TensorShapeProto { dim: dims.iter().map(dimension).collect() });
    let tensor = pb::type_proto::Tensor { elem_type: ty.number(), shape };
    let ty = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(ty), ..Default::default() }
}

/// A constant; `None`, if its values were not read.
pub fn tensor(name: &str, constant: &Constant) -> Option<pb::TensorProto> {
    let raw_data = match &constant.values {
        Values::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::I8(v) => v.iter().map(|&x| x as u8).collect(),
        Values::U8(v) => v.clone(),
        Values::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::Bool(v) => v.iter().map(|&x| x.into()).collect(),
        Values::Unread(_) => return None,
    };
    let dims = constant.dims.iter().map(|&d| d as i64).collect();
    let data_type = constant.values.element().number();
    Some(pb::TensorProto { name: name.into(), dims, data_type, raw_data, ..Default::default() })
}

fn node(node: &Node) -> Option<pb::NodeProto> {
    Some(pb::NodeProto {
        name: node.name.clone(),
        op_type: node.op.clone(),
        domain: if node.microsoft { MICROSOFT.into() } else { String::new() },
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        attribute: attributes(&node.attributes)?,
        ..Default::default()
    })
}

/// A node's attributes in order of their names; `None`, if one of them was not read.
pub(super) fn attributes(all: &HashMap<String, Attribute>) -> Option<Vec<pb::AttributeProto>> {
    let mut all: Vec<pb::AttributeProto> = all.iter().map(|(k, v)| attribute(k, v)).collect::<Option<_>>()?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Some(all)
}

fn attribute(name: &str, value: &Attribute) -> Option<pb::AttributeProto> {
    use pb::attribute_proto::AttributeType as T;
    let mut a = pb::AttributeProto { name: name.into(), ..Default::default() };
    let ty = match value {
        Attribute::Int(v) => {
            a.i = *v;
            T::Int
        }
        Attribute::Float(v) => {
            a.f = *v;
            T::Float
        }
        Attribute::Ints(v) => {
            a.ints = v.clone();
            T::Ints
        }
        Attribute::Floats(v) => {
            a.floats = v.clone();
            T::Floats
        }
        Attribute::Text(v) => {
            a.s = v.clone().into_bytes();
            T::String
        }
        Attribute::Tensor(c) => {
            a.t = Some(tensor("", c)?);
            T::Tensor
        }
        Attribute::Other => return None,
    };
    a.r#type = ty as i32;
    Some(a)
}

#[cfg(test)]
mod tests {
    use super::super::{proto, random_graphs};
    use super::*;

    /// What is written is read as it was: by the reader that reads every user's file.
    #[test]
    fn a_graph_is_read_as_it_was_written() {
        for seed in 0..50 {
            let mut graph = random_graphs::drawn(seed).graph;
            graph.nodes[0].attributes.insert("note".into(), Attribute::Text("as it is".into()));
            let read = proto::from_proto(model(&graph, &[]).unwrap(), None).unwrap();
            proto::keep_needed(&mut graph.nodes, &graph.output);
            assert_eq!((&read.nodes, &read.constants), (&graph.nodes, &graph.constants), "seed {seed}");
            assert_eq!((read.opset, read.input_dims, read.input), (graph.opset, graph.input_dims, graph.input));
            assert_eq!((read.output, read.output_type), (graph.output, graph.output_type));
        }
    }
}
