//! Records every value of a float graph on the calibration images: ranges, histograms, and second
//! moments of the inputs to weights.
//!
//! [`super::calibrate`] chooses scales from the ranges, [`super::rounding`] uses the moments.

use super::calibrate::Seen;
use super::rounding::Moments;
use crate::graph::{self, Edge, Graph, Op, Runner};
use anyhow::Result;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What calibration saw of a graph.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Of every value, the image's own included.
    pub seen: BTreeMap<Edge, Seen>,
    /// Of every value that a matrix or 1x1 convolution takes.
    pub(super) moments: BTreeMap<Edge, Moments>,
}

impl Observed {
    /// What would have been recorded with the channels of these values divided by their factors.
    pub fn divided(mut self, factors: &BTreeMap<Edge, Vec<f32>>) -> Self {
        for (edge, factors) in factors {
            if let Some(seen) = self.seen.remove(edge) {
                self.seen.insert(*edge, seen.divided(factors));
            }
            if let Some(moments) = self.moments.remove(edge) {
                self.moments.insert(*edge, moments.divided(factors));
            }
        }
        self
    }

    fn join(self, mut other: Self) -> Self {
        let mut of = |e: &Edge| other.seen.remove(e).expect("both have every edge");
        let seen = self.seen.into_iter().map(|(e, s)| (e, s.join(of(&e)))).collect();
        let moments = self.moments.into_iter().map(|(e, m)| (e, m.join(&other.moments[&e]))).collect();
        Self { seen, moments }
    }
}

/// Runs `graph` on the calibration images.
pub fn observe(graph: &Graph, images: &[&[u8]]) -> Result<Observed> {
    let shapes = graph.shapes()?;
    let last = graph.nodes.len() - 1;
    let taps: Vec<usize> = (0..=last).filter(|&n| n < last || !matches!(graph.nodes[n].op, Op::Linear(_))).collect();
    let runner = Runner::new(graph, &taps)?;
    let mixed = |node: &graph::Node| match &node.op {
        Op::Conv(c) => c.groups == 1 && c.window == graph::Window::POINT,
        Op::Linear(_) => true,
        _ => false,
    };
    let weighed: BTreeSet<Edge> = graph.nodes.iter().filter(|n| mixed(n)).map(|n| n.inputs[0]).collect();
    let empty = || {
        let nodes = taps.iter().map(|&n| (Edge::Node(n), shapes[n][2]));
        let all: Vec<(Edge, usize)> = std::iter::once((Edge::Image, 3)).chain(nodes).collect();
        let moments = all.iter().filter(|(e, _)| weighed.contains(e)).map(|(e, c)| (*e, Moments::new(*c))).collect();
        Observed { seen: all.into_iter().map(|(e, c)| (e, Seen::new(c))).collect(), moments }
    };
    let bar = crate::progress::bar("calibrating", images.len() as u64);
    // Parts of fixed size joined in order, so that the totals do not depend on the number of cores.
    let parts: Vec<Result<Observed>> = images
        .par_chunks(16)
        .map(|chunk| {
            let mut part = empty();
            for (k, rgb) in chunk.iter().enumerate() {
                let values = runner.run(rgb)?;
                let planes = graph.normalise.planes(rgb);
                let edges = taps.iter().map(|&n| Edge::Node(n)).zip(&values);
                for (edge, v) in std::iter::once((Edge::Image, &planes)).chain(edges) {
                    part.seen.get_mut(&edge).expect("empty() has every edge").add(v);
                    // Second moments settle with fewer images than ranges do, and cost most.
                    if let Some(m) = part.moments.get_mut(&edge).filter(|_| k % 2 == 0) {
                        m.add(v);
                    }
                }
                bar.inc(1);
            }
            Ok(part)
        })
        .collect();
    bar.finish_and_clear();
    parts.into_iter().try_fold(empty(), |all, part| Ok(all.join(part?)))
}
