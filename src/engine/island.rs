//! An island: connected nodes without an int8 kernel, run in f32 by tract at their place in the
//! plan.
//!
//! Built at load, typed and optimised for one image. Each input is gathered from an activation,
//! each output is written behind the one before it into one activation of the plan, as
//! little-endian f32 in ONNX's order. Running one allocates.

use super::caught;
use super::proto::{Fact, Type};
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{Factoid, ToDim};

/// Why an island cannot be built, and the name of the node where it is known.
pub(super) type Unbuilt = (String, Option<String>);

/// How an island's input lies in the activation that it is read from.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A function of int8 codes, `values[q as u8]`; value i of the input lies at `order[i]`, or at
    /// i without an order.
    Codes { values: Box<[f32; 256]>, order: Option<Vec<u32>> },
    /// f32 from value `at` on.
    Reals { at: usize },
}

impl Entry {
    /// Bytes of the activation up to the last one that is read, for an input of this shape.
    fn reach(&self, dims: &[usize]) -> usize {
        let len = dims.iter().product::<usize>();
        match self {
            Self::Codes { order: Some(order), .. } => order.iter().max().map_or(0, |last| *last as usize + 1),
            Self::Codes { order: None, .. } => len,
            Self::Reals { at } => 4 * (at + len),
        }
    }
}

/// Nodes that tract runs.
#[derive(Clone)]
pub(super) struct Island {
    model: Arc<TypedRunnableModel>,
    /// How each input is read, and its shape.
    entries: Vec<(Entry, Vec<usize>)>,
    nodes: usize,
    operators: String,
}

impl std::fmt::Debug for Island {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Island").field("operators", &self.operators).finish_non_exhaustive()
    }
}

/// Value `at` of an activation that holds f32.
pub(super) fn real(bytes: &[i8], at: usize) -> f32 {
    f32::from_le_bytes(bytes.as_chunks::<4>().0[at].map(|b| b as u8))
}

/// Writes f32 into an activation; what does not fit is left out.
pub(super) fn store(values: impl Iterator<Item = f32>, bytes: &mut [i8]) {
    for (to, x) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *to = x.to_le_bytes().map(|b| b as i8);
    }
}

fn datum_type(ty: Type) -> Option<DatumType> {
    Some(match ty {
        Type::F32 => f32::datum_type(),
        Type::I32 => i32::datum_type(),
        Type::I64 => i64::datum_type(),
        Type::Bool => bool::datum_type(),
        Type::I8 => i8::datum_type(),
        Type::U8 => u8::datum_type(),
        Type::Other(_) => return None,
    })
}

impl Island {
    /// Builds the model; `entries`: one an input of its graph, in order; `facts`: type and shape of
    /// each value that the nodes make. If tract cannot run it, or reads a type or shape
    /// differently: why, and the name of the node where it is known.
    pub(super) fn build(
        proto: &pb::ModelProto,
        entries: Vec<(Entry, Vec<usize>)>,
        facts: &HashMap<&str, Fact>,
    ) -> Result<Self, Unbuilt> {
        let nodes = proto.graph.as_ref().map_or(&[][..], |g| &g.node);
        let model = caught(|| Self::model(proto, &entries, facts)).map_err(|why| (why, None))?.map_err(|e| {
            let told = format!("{e:#}");
            let named = nodes.iter().find(|n| told.contains(&format!("{}\"", n.name)));
            (format!("tract cannot run it: {}", e.root_cause()), named.map(|n| n.name.clone()))
        })??;
        let mut operators: Vec<&str> = Vec::new();
        for node in nodes {
            if !operators.contains(&node.op_type.as_str()) {
                operators.push(&node.op_type);
            }
        }
        if operators.len() > 6 {
            operators.truncate(5);
            operators.push("...");
        }
        let island = Self { model, entries, nodes: nodes.len(), operators: operators.join(", ") };
        // Once at load, so that what tract finds only when it runs is found here. Any bytes will
        // do.
        let longest = island.entries.iter().map(|(entry, dims)| entry.reach(dims)).max().unwrap_or(0);
        let bytes = vec![0; longest];
        island.run(|_| &bytes, |_| ()).map_err(|why| (format!("tract cannot run it: {why}"), None))?;
        Ok(island)
    }

    fn model(
        proto: &pb::ModelProto,
        entries: &[(Entry, Vec<usize>)],
        facts: &HashMap<&str, Fact>,
    ) -> TractResult<Result<Arc<TypedRunnableModel>, Unbuilt>> {
        let mut model = tract_onnx::onnx().model_for_proto_model(proto)?;
        for (i, (_, dims)) in entries.iter().enumerate() {
            model.set_input_fact(i, InferenceFact::dt_shape(f32::datum_type(), dims))?;
        }
        model.analyse(false)?;
        for (outlet, name) in &model.outlet_labels {
            let (found, Some(known)) = (model.outlet_fact(*outlet)?, facts.get(name.as_str())) else { continue };
            let ty = found.datum_type.concretize();
            let dims = found.shape.concretize();
            let wanted: Vec<TDim> = known.dims.iter().map(|d| d.to_dim()).collect();
            // Tract has a kind of integers of its own for shapes.
            let same_type = ty.is_none_or(|ty| Some(ty) == datum_type(known.ty) || ty == TDim::datum_type());
            if !same_type || dims.as_ref().is_some_and(|dims| dims.as_slice() != wanted) {
                let why = format!("tract reads its result as {ty:?} {dims:?}, ONNX as {} {:?}", known.ty, known.dims);
                return Ok(Err((why, Some(model.node(outlet.node).name.clone()))));
            }
        }
        Ok(Ok(model.into_optimized()?.into_runnable()?))
    }

    /// For people: how many nodes, which operators.
    pub(super) fn describe(&self) -> String {
        match self.nodes {
            1 => format!("f32 island, {} (tract)", self.operators),
            n => format!("f32 island of {n} nodes, {} (tract)", self.operators),
        }
    }

    /// Bytes of the orders in which it reads.
    pub(super) fn bytes(&self) -> usize {
        let order = |entry: &Entry| match entry {
            Entry::Codes { order: Some(order), .. } => 4 * order.len(),
            _ => 0,
        };
        self.entries.iter().map(|(entry, _)| order(entry)).sum()
    }

    /// Runs it on the activations that `source` gives by the number of the input; `output` is
    /// called with each result.
    pub(super) fn run<'a>(&self, source: impl Fn(usize) -> &'a [i8], output: impl FnMut(&[f32])) -> Result<(), String> {
        caught(|| self.run_by_tract(source, output))?
    }

    fn run_by_tract<'a>(&self, source: impl Fn(usize) -> &'a [i8], mut output: impl FnMut(&[f32])) -> Result<(), String> {
        let words = |e: TractError| format!("{e:#}");
        let mut inputs: TVec<TValue> = tvec!();
        for (i, (entry, dims)) in self.entries.iter().enumerate() {
            let (from, len) = (source(i), dims.iter().product::<usize>());
            let values: Vec<f32> = match entry {
                Entry::Codes { values, order: None } => from[..len].iter().map(|&q| values[q as u8 as usize]).collect(),
                Entry::Codes { values, order: Some(order) } => {
                    order.iter().map(|&at| values[from[at as usize] as u8 as usize]).collect()
                }
                Entry::Reals { at } => (*at..at + len).map(|i| real(from, i)).collect(),
            };
            inputs.push(Tensor::from_shape(dims, &values).map_err(words)?.into());
        }
        for result in self.model.run(inputs).map_err(words)? {
            let view = result.to_plain_array_view::<f32>().map_err(words)?;
            match view.as_slice() {
                Some(values) => output(values),
                None => output(&view.iter().copied().collect::<Vec<f32>>()),
            }
        }
        Ok(())
    }
}
