//! How many epochs and views of fine-tuning fit a time budget, estimated from one of each.

use super::plan::Plan;
use super::tuner::{Tuner, Wanted};
use crate::data::TaskName;
use crate::graph::{Edge, Graph, Runner};
use crate::predict;
use anyhow::Result;
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Number of images that are timed.
const TIMED: usize = 16;
/// Fewest epochs worth running with a warm-up and decay of the learning rate.
const LEAST_EPOCHS: usize = 3;
/// Views are reduced until this many epochs fit.
const ENOUGH_EPOCHS: usize = 8;

/// Seconds that the parts of fine-tuning take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// One view of all training images through the frozen part.
    pub view: f64,
    /// One epoch with its validation.
    pub epoch: f64,
}

impl Pace {
    /// Measures some images. `training`, `held`: at model size.
    pub fn of(graph: &Graph, plan: &Plan, task: TaskName, training: &[Vec<u8>], held: &[&[u8]]) -> Result<Self> {
        let mut tuner = Tuner::new(graph, plan.first, plan.from_nothing, task, plan.optimiser, plan.device.clone())?;
        let some: Vec<&Vec<u8>> = training.iter().cycle().take(TIMED).collect();
        let begin = Instant::now();
        let entries: Vec<Vec<f32>> = match tuner.entry() {
            Edge::Image => some.iter().map(|rgb| tuner.prepare(&graph.normalise.planes(rgb))).collect(),
            Edge::Node(node) => {
                let runner = Runner::whole(&Graph { nodes: graph.nodes[..=node].to_vec(), ..graph.clone() })?;
                let of = |rgb: &&Vec<u8>| Ok(tuner.prepare(&runner.run(rgb)?.swap_remove(0)));
                some.par_iter().map(of).collect::<Result<_>>()?
            }
        };
        let view = begin.elapsed().as_secs_f64() / TIMED as f64 * training.len() as f64;
        let batch = plan.batch.min(training.len());
        let inputs: Vec<f32> = entries.iter().cycle().take(batch).flatten().copied().collect();
        let tags = tuner.graph().shapes()?.last().map_or(1, |s| s.iter().product());
        let (of, weights) = ([0usize], vec![1.0; tags]);
        let wanted: Vec<&[usize]> = vec![&of; batch];
        // The first step also allocates what later ones reuse.
        let mut step = 0.0;
        for _ in 0..2 {
            let begin = Instant::now();
            tuner.step(inputs.clone(), &Wanted::Tags(&wanted, &weights), 0.0);
            step = begin.elapsed().as_secs_f64();
        }
        let judged = &held[..held.len().min(TIMED)];
        let begin = Instant::now();
        predict::float(graph, judged)?;
        let judging = begin.elapsed().as_secs_f64() / judged.len().max(1) as f64 * held.len() as f64;
        Ok(Self { view, epoch: step * (training.len() / batch) as f64 + judging })
    }

    /// Views and epochs that fit `time`, at most those of `plan`; views are reduced first. `None`
    /// if too few epochs fit.
    pub fn fitting(self, plan: &Plan, time: Duration) -> Option<(usize, usize)> {
        let epochs = |views: usize| {
            let left = time.as_secs_f64() - views as f64 * self.view;
            ((left / self.epoch).max(0.0) as usize).min(plan.epochs)
        };
        let least = plan.views.min(1);
        let views = (least..=plan.views).rev().find(|v| epochs(*v) >= ENOUGH_EPOCHS.min(plan.epochs)).unwrap_or(least);
        Some((views, epochs(views))).filter(|(_, epochs)| *epochs >= LEAST_EPOCHS.min(plan.epochs))
    }

    /// Seconds of the least that is worth trying.
    pub fn least(self, plan: &Plan) -> f64 {
        plan.views.min(1) as f64 * self.view + LEAST_EPOCHS.min(plan.epochs) as f64 * self.epoch
    }
}
