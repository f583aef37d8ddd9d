//! Runs a graph in f32 and gives any of its inner values.
//!
//! The graph is written as ONNX and run by the runtime's oracle (tract).

use super::write::{value_name, with_outputs, write};
use super::{Graph, Normalise};
use anyhow::Result;
use rayon::prelude::*;
use tagpin::engine::oracle::Oracle;

/// A model that gives chosen values.
pub struct Runner {
    oracle: Oracle,
    normalise: Normalise,
}

impl Runner {
    /// Prepares `graph` to give the values of these nodes, in that order.
    pub fn new(graph: &Graph, taps: &[usize]) -> Result<Self> {
        let names: Vec<String> = taps.iter().map(|&n| value_name(graph, n, false)).collect();
        Self::of_onnx(&with_outputs(&write(graph, None)?, &names)?, graph)
    }

    /// Prepares `graph` to give its result.
    pub fn whole(graph: &Graph) -> Result<Self> {
        Self::new(graph, &[graph.nodes.len() - 1])
    }

    /// Prepares a quantised form of `graph`, run in f32 with every value rounded to its steps, to
    /// give these nodes' values.
    pub fn quantised(onnx: &[u8], graph: &Graph, taps: &[usize]) -> Result<Self> {
        let names: Vec<String> = taps.iter().map(|&n| value_name(graph, n, true)).collect();
        Self::of_onnx(&with_outputs(onnx, &names)?, graph)
    }

    fn of_onnx(onnx: &[u8], graph: &Graph) -> Result<Self> {
        Ok(Self { oracle: Oracle::load(onnx, &[1, 3, graph.side, graph.side])?, normalise: graph.normalise })
    }

    /// The values for one image, `[side, side, 3]`; inner values are `[channels, rows, columns]`.
    pub fn run(&self, rgb: &[u8]) -> Result<Vec<Vec<f32>>> {
        Ok(self.oracle.run_all(&self.normalise.planes(rgb))?)
    }

    /// The first value for each image, on all cores.
    pub fn run_all(&self, what: &'static str, images: &[&[u8]]) -> Result<Vec<Vec<f32>>> {
        let bar = crate::progress::bar(what, images.len() as u64);
        let all = images
            .par_iter()
            .map(|rgb| {
                bar.inc(1);
                Ok(self.run(rgb)?.swap_remove(0))
            })
            .collect();
        bar.finish_and_clear();
        all
    }
}
