//! Rewrites a float graph so that it loses less in int8: channels of one tensor brought to like
//! ranges, biases corrected.
//!
//! Both leave the float result as it was, up to rounding, on what calibration saw. Nagel et al.,
//! "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019; here ranges are
//! those of activations, which are per tensor, while weights are per channel.

use super::calibrate::Seen;
use crate::graph::{Clamp, Edge, Graph, Op, QuantWeights};
use std::collections::BTreeMap;

/// How far a scaled channel may exceed what calibration saw before it is clipped.
const HEADROOM: f32 = 2.0;
/// Largest factor by which a channel is scaled.
const MOST: f32 = 8.0;

/// Scales channels of each value, and of all values joined to it by additions, between the
/// convolutions that make them and those that take them. `seen`: by edge, of this graph. Also
/// returns what each channel, `[channels]`, of which values is divided by.
pub fn equalise(graph: &Graph, seen: &BTreeMap<Edge, Seen>) -> (Graph, BTreeMap<Edge, Vec<f32>>) {
    let mut graph = graph.clone();
    let mut all = BTreeMap::new();
    for group in groups(&graph) {
        let Some(takers) = takers(&graph, &group) else { continue };
        let Some(factors) = factors(&graph, &group, &takers, seen) else { continue };
        for &n in &group {
            if let Op::Conv(c) = &mut graph.nodes[n].op {
                let taps = c.taps();
                for (o, f) in factors.iter().enumerate() {
                    c.weights[o * taps..][..taps].iter_mut().for_each(|w| *w /= f);
                    c.bias[o] /= f;
                }
            }
        }
        for &n in &takers {
            if let Op::Conv(c) = &mut graph.nodes[n].op {
                let (area, inner) = (c.window.kernel[0] * c.window.kernel[1], c.inputs / c.groups);
                for (i, w) in c.weights.iter_mut().enumerate() {
                    *w *= factors[if inner == 1 { i / area } else { i / area % inner }];
                }
            }
        }
        all.extend(group.iter().map(|&n| (Edge::Node(n), factors.clone())));
    }
    (graph, all)
}

/// Nodes whose values must be scaled alike: those that additions join. Each is made by convolutions
/// and additions alone.
fn groups(graph: &Graph) -> Vec<Vec<usize>> {
    let mut of: Vec<usize> = (0..graph.nodes.len()).collect();
    for (i, node) in graph.nodes.iter().enumerate() {
        if let Op::Add(_) = node.op {
            for edge in &node.inputs {
                if let Edge::Node(n) = edge {
                    let (a, b) = (of[i], of[*n]);
                    of.iter_mut().filter(|g| **g == a.max(b)).for_each(|g| *g = a.min(b));
                }
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    of.iter().enumerate().for_each(|(n, g)| groups.entry(*g).or_default().push(n));
    let made = |n: &usize| match &graph.nodes[*n].op {
        Op::Conv(_) => true,
        // A clamped sum would have to be clamped elsewhere for each channel; an image cannot be
        // scaled.
        Op::Add(clamp) => *clamp == Clamp::NONE && !graph.nodes[*n].inputs.contains(&Edge::Image),
        _ => false,
    };
    groups.into_values().filter(|g| g.iter().all(made)).collect()
}

/// The convolutions that take a group's values; `None` if nothing takes one, or something other
/// than a convolution.
fn takers(graph: &Graph, group: &[usize]) -> Option<Vec<usize>> {
    let takes = |n: &usize| graph.nodes[*n].inputs.iter().any(|e| matches!(e, Edge::Node(m) if group.contains(m)));
    let takers: Vec<usize> = (0..graph.nodes.len()).filter(|n| takes(n) && !group.contains(n)).collect();
    let fits = |n: &usize| matches!(&graph.nodes[*n].op, Op::Conv(c) if c.groups == 1 || c.is_depthwise());
    (!takers.is_empty() && takers.iter().all(fits)).then_some(takers)
}

/// What each channel of a group is divided by; `None` if a clamp forbids it.
fn factors(graph: &Graph, group: &[usize], takers: &[usize], seen: &BTreeMap<Edge, Seen>) -> Option<Vec<f32>> {
    let mut top = f32::INFINITY;
    for &n in group {
        match &graph.nodes[n].op {
            Op::Conv(c) if c.clamp.low == 0.0 => top = top.min(c.clamp.high),
            Op::Conv(c) if c.clamp != Clamp::NONE => return None,
            _ => {}
        }
    }
    let of: Vec<&Seen> = group.iter().map(|n| seen.get(&Edge::Node(*n))).collect::<Option<_>>()?;
    let reach = |c: usize| of.iter().map(|s| s.channels[c].high.max(-s.channels[c].low)).fold(0.0, f32::max);
    let reach: Vec<f32> = (0..of[0].channels.len()).map(reach).collect();
    let all = reach.iter().copied().fold(0.0, f32::max);
    let depthwise = takers.iter().all(|n| matches!(&graph.nodes[*n].op, Op::Conv(c) if c.is_depthwise()));
    let factor = |r: &f32| {
        // A channel that was clamped must stay where its clamp is; one that says nothing has no
        // range to bring anywhere.
        if *r <= all * 1e-4 || *r >= top * 0.999 {
            return 1.0;
        }
        // A depthwise convolution has a weight step of its own for each channel: nothing is lost
        // there. Elsewhere the weights of all inputs share a step, so the range is split between
        // them (the square root).
        let share = (r * HEADROOM / all).min(1.0);
        let wish = if depthwise { share } else { share.sqrt() };
        // Nor may a scaled channel come to its clamp: what calibration saw must fit below it.
        wish.clamp(1.0 / MOST, 1.0).max(r / (top * 0.999))
    };
    Some(reach.iter().map(factor).collect())
}

/// Takes from each bias what rounding the weights adds on average: the weights' errors times the
/// mean input. `input`: what the node's input held.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Runner;
    use crate::quantise::observe;
    use crate::small;

    #[test]
    fn an_equalised_network_gives_the_same_logits_and_more_even_channels() {
        let graph = small::network(4, 3);
        let mut r = tagpin::random::Random::new(2, 2);
        let image: Vec<u8> = (0..small::SIDE * small::SIDE * 3).map(|_| r.range(0, 255) as u8).collect();
        let observed = observe(&graph, &[&image]).unwrap();
        let (level, factors) = equalise(&graph, &observed.seen);
        assert_ne!(graph, level);
        let (foretold, seen) = (observed.divided(&factors).seen, observe(&level, &[&image]).unwrap().seen);
        for (edge, s) in &seen {
            let (near, f) = (|a: f32, b: f32| (a - b).abs() <= 1e-3 * (1.0 + b.abs()), &foretold[edge]);
            let ends = |s: &Seen| (s.low(), s.high());
            let ((fl, fh), (sl, sh)) = (ends(f), ends(s));
            assert!(near(fl, sl) && near(fh, sh), "{edge:?}: {fl} {sl} {fh} {sh}");
            for c in super::super::calibrate::Calibrator::ALL {
                let (a, b) = (f.quant(c), s.quant(c));
                assert!((a.scale / b.scale - 1.0).abs() < 0.05, "{edge:?} {}: {a:?} {b:?}", c.name());
            }
        }
        let logits = |g: &Graph| Runner::whole(g).unwrap().run(&image).unwrap().swap_remove(0);
        for (a, b) in logits(&graph).iter().zip(logits(&level)) {
            assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{a} {b}");
        }
        let spread = |g: &Graph| {
            let seen = observe(g, &[&image]).unwrap().seen;
            let one = |s: &Seen| {
                let reach: Vec<f32> = s.channels.iter().map(|c| c.high.max(1e-3)).collect();
                reach.iter().map(|r| (r / s.high().max(1e-3)).ln()).sum::<f32>() / reach.len() as f32
            };
            let convs = (0..g.nodes.len()).filter(|n| matches!(g.nodes[*n].op, Op::Conv(_)));
            convs.map(|n| one(&seen[&Edge::Node(n)])).sum::<f32>()
        };
        assert!(spread(&level) > spread(&graph), "channels fill more of their tensors' ranges");
    }
}
