//! Rewrites a float graph so that it loses less in int8: channels of one tensor brought to like ranges, biases corrected.
//!
//! Both leave the float result as it was, up to rounding, on what calibration saw. Nagel et al., "Data-Free Quantization
//! Through Weight Equalization and Bias Correction", 2019; here ranges are those of activations, which are per tensor,
//! while weights are per channel.

use super::calibrate::Seen;
use crate::graph::{Clamp, Conv, Edge, Graph, Op, QuantWeights};
use std::collections::BTreeMap;

/// Largest factor by which a channel is scaled.
const MOST: f32 = 8.0;

/// Scales channels between each convolution and the one that alone takes its value. `seen`: by node index, of this graph.
pub fn equalise(graph: &Graph, seen: &BTreeMap<Edge, Seen>) -> Graph {
    let mut graph = graph.clone();
    for second in 0..graph.nodes.len() {
        let Some(&Edge::Node(first)) = graph.nodes[second].inputs.first() else { continue };
        let sole = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|e| **e == Edge::Node(first)).count() == 1;
        let Some(seen) = seen.get(&Edge::Node(first)).filter(|_| sole) else { continue };
        let [a, b] = graph.nodes.get_disjoint_mut([first, second]).expect("a node does not take itself");
        if let (Op::Conv(a), Op::Conv(b)) = (&mut a.op, &mut b.op)
            && let Some(factors) = factors(a, b, seen)
        {
            scale(a, b, &factors);
        }
    }
    graph
}

/// What each channel between `a` and `b` is divided by; nothing if the clamp between them allows none.
fn factors(a: &Conv, b: &Conv, seen: &Seen) -> Option<Vec<f32>> {
    let top = match a.clamp {
        Clamp::NONE | Clamp { low: 0.0, high: f32::INFINITY } => f32::INFINITY,
        Clamp { low: 0.0, high } => high,
        _ => return None,
    };
    if !(b.groups == 1 || b.is_depthwise()) {
        return None;
    }
    let reach: Vec<f32> = seen.channels.iter().map(|c| c.high.max(-c.low).max(0.0)).collect();
    let all = reach.iter().copied().fold(0.0, f32::max);
    let factor = |c: usize| {
        // A channel that was clamped must stay where its clamp is; one that says nothing has no range to bring anywhere.
        if reach[c] <= all * 1e-4 || reach[c] >= top * 0.999 {
            return 1.0;
        }
        // A depthwise convolution has a weight step of its own for each channel: nothing is lost there. Elsewhere the
        // weights of all inputs share a step, so the range is split between them (the square root).
        let wish = if b.is_depthwise() { reach[c] / all } else { (reach[c] / all).sqrt() };
        // Nor may a scaled channel come to its clamp: what calibration saw must fit below it.
        wish.clamp(1.0 / MOST, 1.0).max(reach[c] / (top * 0.999))
    };
    Some((0..reach.len()).map(factor).collect())
}

fn scale(a: &mut Conv, b: &mut Conv, factors: &[f32]) {
    let taps = a.taps();
    for (c, f) in factors.iter().enumerate() {
        a.weights[c * taps..][..taps].iter_mut().for_each(|w| *w /= f);
        a.bias[c] /= f;
    }
    let (area, inner) = (b.window.kernel[0] * b.window.kernel[1], b.inputs / b.groups);
    for (i, w) in b.weights.iter_mut().enumerate() {
        let channel = if inner == 1 { i / area } else { i / area % inner };
        *w *= factors[channel];
    }
}

/// Takes from each bias what rounding the weights adds on average: the weights' errors times the mean input.
/// `input`: what the node's input held.
pub fn correct_bias(node: &Op, quantised: &QuantWeights, input: &Seen) -> Option<Vec<f32>> {
    let mean: Vec<f64> = input.channels.iter().map(|c| c.sum / input.per_channel.max(1) as f64).collect();
    let (weights, bias, taps, area, inner, depthwise) = match node {
        Op::Conv(c) => {
            let area = c.window.kernel[0] * c.window.kernel[1];
            (&c.weights, &c.bias, c.taps(), area, c.inputs / c.groups, c.groups > 1)
        }
        Op::Linear(l) if l.inputs == mean.len() => (&l.weights, &l.bias, l.inputs, 1, l.inputs, false),
        _ => return None,
    };
    if depthwise && inner != 1 {
        return None;
    }
    let mut corrected = bias.clone();
    for (o, b) in corrected.iter_mut().enumerate() {
        let error = |t: usize| {
            let i = o * taps + t;
            quantised.weights[i] as f64 * quantised.scales[o] as f64 - weights[i] as f64
        };
        let channel = |t: usize| if depthwise { o } else { t / area % inner };
        *b -= (0..taps).map(|t| error(t) * mean[channel(t)]).sum::<f64>() as f32;
    }
    Some(corrected)
}
