//! Quantisation-aware fine-tuning: trains the last part of a network, rounded as int8 rounds it, to
//! reproduce the float network's scores.
//!
//! The targets are the float network's scores (not the tags) on training images and changed copies
//! of them, so that int8 comes closer to the float network and is not fitted further to the images.

use crate::data::TaskName;
use crate::graph::{Edge, Graph, Op, Quantised, Runner};
use crate::predict;
use crate::progress::{Interrupt, Interrupted, bar};
use crate::train::domain::Domain;
use crate::train::optimiser::OptimiserName;
use crate::train::shuffle;
use crate::train::tuner::{Tuner, Wanted};
use anyhow::Result;
use burn::tensor::Device;
use half::f16;
use rayon::prelude::*;
use tagpin::random::Random;

/// Most training images used.
pub const IMAGES: usize = 1024;
/// Copies of each, the first unchanged.
const VIEWS: usize = 2;
/// Fewest training steps; a small set is repeated to reach it.
const STEPS: usize = 192;
/// Copies in one training step.
const BATCH: usize = 32;
/// Largest learning rate of Adam, in units of the weights' scale, decaying along a cosine. In total
/// no weight moves by more than one unit, and by that much only if most images agree.
const RATE: f64 = 0.004;

/// A quantised network and where its last part begins.
pub struct Network<'a> {
    /// In float, as it was quantised.
    pub base: &'a Graph,
    /// Its int8 form.
    pub onnx: &'a [u8],
    /// Its scales, zero points and int8 weights.
    pub quantised: &'a Quantised,
    /// First node that is trained.
    pub first: usize,
}

impl Network<'_> {
    /// In float, with the weights as int8 rounded them: training starts there, and a weight changes
    /// its rounded value only if many images in a row agree.
    fn rounded(&self) -> Graph {
        let mut graph = self.base.clone();
        for (i, node) in graph.nodes.iter_mut().enumerate().skip(self.first) {
            let Some(q) = self.quantised.weights.get(&i) else { continue };
            let input = self.quantised.activations[&node.inputs[0]].scale;
            let (weights, bias) = match &mut node.op {
                Op::Conv(c) => (&mut c.weights, &mut c.bias),
                Op::Linear(l) => (&mut l.weights, &mut l.bias),
                _ => continue,
            };
            let taps = weights.len() / bias.len();
            weights.iter_mut().zip(&q.weights).enumerate().for_each(|(k, (w, v))| *w = *v as f32 * q.scales[k / taps]);
            bias.iter_mut().zip(&q.bias).zip(&q.scales).for_each(|((b, v), s)| *b = (*v as f64 * (s * input) as f64) as f32);
        }
        graph
    }

    /// The mean scale of all weights that are trained.
    fn mean_step(&self) -> f64 {
        let scales = || self.quantised.weights.range(self.first..).flat_map(|(_, q)| &q.scales);
        scales().map(|s| *s as f64).sum::<f64>() / scales().count().max(1) as f64
    }
}

/// One copy of an image: the int8 network's values where the trained part begins, and the float
/// network's scores.
struct Lesson {
    planes: Vec<f16>,
    scores: Vec<f32>,
}

/// Checks that the nodes of `graph` from `first` on can be trained; the error says why not.
pub fn can_learn(graph: &Graph, first: usize, task: TaskName) -> Result<()> {
    Tuner::new(graph, first, false, task, OptimiserName::Adam, Device::flex()).map(drop)
}

/// `network`'s float form with its nodes from `first` on tuned. `images`: at model size.
pub fn tune(network: &Network<'_>, float: &Graph, task: TaskName, images: &[&[u8]], seed: u64) -> Result<Graph> {
    let interrupt = Interrupt::listen()?;
    let tuner = Tuner::new(&network.rounded(), network.first, false, task, OptimiserName::Adam, Device::flex())?;
    let mut tuner = tuner.in_int8(network.quantised.activations.clone());
    let lessons = lessons(network, tuner.entry(), float, task, images, seed, &interrupt)?;
    let batch = BATCH.min(lessons.len());
    let steps = lessons.len() / batch;
    let epochs = STEPS.div_ceil(steps);
    let step_size = network.mean_step();
    let progress = bar("learning in int8", (epochs * steps) as u64);
    for epoch in 0..epochs {
        let mut random = Random::new(seed ^ 0xa3e, epoch as u64);
        let mut order: Vec<&Lesson> = lessons.iter().collect();
        shuffle(&mut order, &mut random);
        for (step, chosen) in order.chunks_exact(batch).enumerate() {
            let done = (epoch * steps + step) as f64 / (epochs * steps) as f64;
            let rate = RATE * step_size * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            let prepare = |l: &&Lesson| tuner.prepare(&l.planes.iter().map(|v| v.to_f32()).collect::<Vec<f32>>());
            let inputs: Vec<Vec<f32>> = chosen.par_iter().map(prepare).collect();
            let scores: Vec<&[f32]> = chosen.iter().map(|l| l.scores.as_slice()).collect();
            tuner.step(inputs.concat(), &Wanted::Scores(&scores), rate);
            progress.inc(1);
            if interrupt.stopped() {
                progress.finish_and_clear();
                return Err(stopped());
            }
        }
    }
    progress.finish_and_clear();
    Ok(tuner.graph())
}

fn stopped() -> anyhow::Error {
    Interrupted("interrupted while training in int8; the run's int8 model is as it was".into()).into()
}

/// Runs every copy of every image through both networks once.
fn lessons(
    network: &Network<'_>,
    entry: Edge,
    float: &Graph,
    task: TaskName,
    images: &[&[u8]],
    seed: u64,
    interrupt: &Interrupt,
) -> Result<Vec<Lesson>> {
    let trunk = match entry {
        Edge::Image => None,
        Edge::Node(n) => Some(Runner::quantised(network.onnx, network.base, &[n])?),
    };
    let (teacher, augment, side) = (Runner::whole(float)?, Domain::General.augment(), float.side);
    let progress = bar("lessons", (VIEWS * images.len()) as u64);
    let one = |i: usize| {
        if interrupt.stopped() {
            return Err(stopped());
        }
        let rgb = match i % VIEWS {
            0 => images[i / VIEWS].to_vec(),
            _ => augment.apply(images[i / VIEWS], side, &mut Random::new(seed ^ 0x1e5, i as u64)),
        };
        let planes = match &trunk {
            None => float.normalise.planes(&rgb),
            Some(trunk) => trunk.run(&rgb)?.swap_remove(0),
        };
        let logits = [teacher.run(&rgb)?.swap_remove(0)];
        let scores = predict::scores(task, &predict::fixed(&logits)?, predict::q16(1.0));
        progress.inc(1);
        Ok(Lesson {
            planes: planes.into_iter().map(f16::from_f32).collect(),
            scores: predict::probabilities(&scores).swap_remove(0),
        })
    };
    let all = (0..VIEWS * images.len()).into_par_iter().map(one).collect();
    progress.finish_and_clear();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::write;
    use crate::quantise::calibrate::Calibrator;
    use crate::quantise::{Refinement, observe, quantise};
    use crate::small;

    fn images(n: usize) -> Vec<Vec<u8>> {
        let mut r = Random::new(4, 4);
        let one = |_| {
            let (a, b) = (r.range(1, 9), r.range(1, 9));
            (0..small::SIDE * small::SIDE * 3)
                .map(|i| ((i / 288) as i32 * a + i as i32 % 288 * b + r.range(0, 60)) as u8)
                .collect()
        };
        (0..n).map(one).collect()
    }

    /// A network and the node from which on one weight of each output is so large that the others
    /// have few of the 127 steps left.
    fn hard_to_round() -> (Graph, usize) {
        let mut graph = small::network(3, 11);
        let first = graph.find("block8_depthwise").unwrap();
        for node in &mut graph.nodes[first..] {
            if let Op::Conv(c) = &mut node.op {
                let taps = c.taps();
                c.weights.chunks_exact_mut(taps).enumerate().for_each(|(o, row)| row[o % taps] *= 12.0);
            }
        }
        (graph, first)
    }

    fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
        let pairs = || a.iter().zip(b).flat_map(|(a, b)| a.iter().zip(b));
        pairs().map(|(x, y)| (x - y).abs()).sum::<f32>() / pairs().count() as f32
    }

    /// The rounded network that is trained gives the engine's logits, up to the order of additions.
    #[test]
    fn the_rounded_network_says_what_the_engine_says() {
        let graph = small::network(3, 12);
        let images = images(12);
        let refs: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let q = quantise(&graph, &observe(&graph, &refs).unwrap(), Calibrator::MinMax, Refinement::default());
        let engine = predict::real(&predict::int8(&write(&graph, Some(&q)).unwrap(), graph.normalise, &refs).unwrap());
        let float = predict::float(&graph, &refs).unwrap();
        let tuner = Tuner::new(&graph, 0, false, TaskName::Multiclass, OptimiserName::Adam, Device::flex()).unwrap();
        let mut tuner = tuner.in_int8(q.activations);
        let inputs: Vec<f32> = refs.iter().flat_map(|rgb| tuner.prepare(&graph.normalise.planes(rgb))).collect();
        let scores = [[1.0 / 3.0; 3].as_slice(); 12];
        let (_, rounded) = tuner.step(inputs, &Wanted::Scores(&scores), 0.0);
        let (apart, quantising) = (difference(&rounded, &engine), difference(&float, &engine));
        assert!(apart < 0.2 * quantising, "{apart} from the engine, which is {quantising} from float");
    }

    #[test]
    fn what_was_trained_in_int8_is_nearer_to_the_float_network() {
        let (graph, first) = hard_to_round();
        let images = images(160);
        let refs: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let observed = observe(&graph, &refs[..16]).unwrap();
        let int8 = |g: &Graph, refine| {
            let q = quantise(g, &observed, Calibrator::MinMax, refine);
            (write(g, Some(&q)).unwrap(), q)
        };
        let (plain, quantised) = int8(&graph, Refinement::default());
        let network = Network { base: &graph, onnx: &plain, quantised: &quantised, first };
        let tuned = tune(&network, &graph, TaskName::Multiclass, &refs[..128], 1).unwrap();
        let (trained, _) = int8(&tuned, Refinement { trained_from: Some(first), ..Refinement::default() });
        let held = &refs[128..];
        let scores =
            |logits: &[Vec<i32>]| predict::probabilities(&predict::scores(TaskName::Multiclass, logits, predict::q16(1.0)));
        let float = scores(&predict::fixed(&predict::float(&graph, held).unwrap()).unwrap());
        let of = |onnx: &[u8]| difference(&scores(&predict::int8(onnx, graph.normalise, held).unwrap()), &float);
        let (before, after) = (of(&plain), of(&trained));
        assert!(after < 0.8 * before, "scores differ by {before} without and {after} with it");
    }
}
