//! The activations of a plan, for choosing stages to take features at: name, shape, and whether all
//! that follows depends on that activation alone (a *cut*).

use super::lowered::{Lowered, TensorId};
use super::operation::Operation;

/// What a layer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Name in the graph of what its node gives.
    pub name: String,
    /// The layer that makes it, as [`super::Engine::layers`] lists them.
    pub layer: usize,
    /// Its channels.
    pub channels: usize,
    /// Rows times columns.
    pub positions: usize,
    /// Whether the rest of the network sees the image through this alone: nothing made before it is
    /// read after it.
    pub is_cut: bool,
    /// Whether a depthwise convolution makes it.
    pub is_depthwise: bool,
}

/// Those of a plan that lie as rows, columns, channels, up to its first island: behind one the bits
/// may differ from CPU to CPU. `last`: what the logits are made of.
pub(super) fn of(plan: &Lowered, last: TensorId) -> Vec<Activation> {
    let mut last_use = vec![0; plan.tensors.len()];
    for (layer, step) in plan.steps.iter().enumerate() {
        step.sources.iter().for_each(|id| last_use[id.0] = layer);
    }
    last_use[last.0] = plan.steps.len();
    let mut channels = vec![None; plan.tensors.len()];
    channels[plan.input.0] = Some(plan.image[2]);
    // The latest layer that reads anything made so far.
    let mut reach = last_use[plan.input.0];
    let mut found = Vec::new();
    for (layer, (step, name)) in plan.steps.iter().zip(&plan.names).enumerate() {
        if matches!(step.operation, Operation::Island(_)) {
            break;
        }
        let sources: Vec<Option<usize>> = step.sources.iter().map(|id| channels[id.0]).collect();
        let (id, is_cut) = (step.dst.0, reach <= layer);
        channels[id] = step.operation.channels(&sources);
        reach = reach.max(last_use[id]);
        if let Some(channels) = channels[id].filter(|c| plan.tensors[id].len.is_multiple_of(*c)) {
            found.push(Activation {
                name: name.clone(),
                layer,
                channels,
                positions: plan.tensors[id].len / channels,
                is_cut,
                is_depthwise: step.operation.is_depthwise(),
            });
        }
    }
    found
}
