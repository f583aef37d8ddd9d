//! Trains the last part of a graph: its forward pass in burn, one training step, and the way back
//! to a graph. [`super::epochs`] calls it. All values are NHWC, `[batch * pixels, channels]`.

use super::ops::{self, EPSILON, Geometry, Running, values};
use super::optimiser::{Kept, Optimiser, OptimiserName, State};
use crate::data::TaskName;
use crate::graph::{Clamp, Conv, Edge, Graph, Op, Quant, Window};
use anyhow::{Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node while it is trained.
enum Unit {
    Conv(ConvUnit),
    Add(Clamp),
    MaxPool(Window),
    Average,
    /// Index of its weights; the bias follows.
    Linear(usize),
}

struct ConvUnit {
    kind: Kind,
    /// Index of its weights; then come gamma and beta, or the bias.
    at: usize,
    clamp: Clamp,
    /// Batch normalisation, if it is trained from random weights.
    norm: Option<Running>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// 1x1, or the first convolution on patches of the image.
    Matrix,
    Depthwise(Window),
    Dense(Window),
}

/// Parameters, running statistics and optimiser states as numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    parameters: Vec<Vec<f32>>,
    states: Vec<Option<Kept>>,
    running: Vec<(Vec<f32>, Vec<f32>)>,
}

/// The nodes of a graph from `first` on, in training.
pub struct Tuner {
    graph: Graph,
    shapes: Vec<[usize; 3]>,
    /// First node that is trained.
    first: usize,
    /// The one value that enters them.
    entry: Edge,
    units: Vec<Unit>,
    parameters: Vec<Tensor<2>>,
    states: Vec<Option<State>>,
    optimiser: Optimiser,
    /// The plain device; [`Self::learning`] adds derivatives.
    device: Device,
    task: TaskName,
    /// Scales that values are rounded to in training; empty in float.
    steps: BTreeMap<Edge, Quant>,
}

/// The targets of a batch.
pub enum Wanted<'a> {
    /// Tags of each image, and what each tag weighs in the loss.
    Tags(&'a [&'a [usize]], &'a [f32]),
    /// Scores of each image, `[images][tags]`, as another network gave them (Hinton et al.
    /// 2015).
    Scores(&'a [&'a [f32]]),
}

impl Wanted<'_> {
    fn images(&self) -> usize {
        match self {
            Self::Tags(truth, _) => truth.len(),
            Self::Scores(scores) => scores.len(),
        }
    }

    /// Target and weight in the loss of each logit, `[images, tags]`.
    fn targets(&self, task: TaskName) -> (Vec<f32>, Vec<f32>) {
        // Label smoothing of 0.05 keeps logits small, and with them the scales of an int8 head.
        const SMOOTH: f32 = 0.05;
        let images = self.images();
        match (self, task) {
            (Self::Tags(truth, weights), TaskName::Multiclass) => {
                let (tags, all) = (weights.len(), truth.iter().map(|t| weights[t[0]]).sum::<f32>());
                let target =
                    |i: usize| if truth[i / tags][0] == i % tags { 1.0 - SMOOTH } else { 0.0 } + SMOOTH / tags as f32;
                let share = |i: usize| weights[truth[i / tags][0]] / all;
                ((0..images * tags).map(target).collect(), (0..images * tags).map(share).collect())
            }
            (Self::Tags(truth, weights), TaskName::Multilabel) => {
                let tags = weights.len();
                let has = |i: usize| truth[i / tags].contains(&(i % tags));
                let target = |i: usize| if has(i) { 1.0 - SMOOTH / 2.0 } else { SMOOTH / 2.0 };
                let share = |i: usize| if has(i) { weights[i % tags] } else { 1.0 } / (images * tags) as f32;
                ((0..images * tags).map(target).collect(), (0..images * tags).map(share).collect())
            }
            (Self::Scores(scores), _) => {
                let targets = scores.concat();
                let parts = if task == TaskName::Multiclass { images } else { targets.len() };
                let share = vec![1.0 / parts as f32; targets.len()];
                (targets, share)
            }
        }
    }
}

impl Tuner {
    /// Prepares the nodes of `graph` from `first` on for training. `normalise`: adds batch
    /// normalisation after each convolution, for random weights; trained weights have theirs folded
    /// in.
    pub fn new(
        graph: &Graph,
        first: usize,
        normalise: bool,
        task: TaskName,
        optimiser: OptimiserName,
        device: Device,
    ) -> Result<Self> {
        let shapes = graph.shapes()?;
        let mut tuner = Self {
            graph: graph.clone(),
            shapes,
            first,
            entry: entry(graph, first)?,
            units: Vec::new(),
            parameters: Vec::new(),
            states: Vec::new(),
            optimiser: Optimiser::new(optimiser),
            device,
            task,
            steps: BTreeMap::new(),
        };
        for i in first..graph.nodes.len() {
            let unit = tuner.unit(i, normalise)?;
            tuner.units.push(unit);
        }
        tuner.states.resize_with(tuner.parameters.len(), || None);
        Ok(tuner)
    }

    /// Rounds values to `steps` and weights to 8 bits in training, as the int8 network does;
    /// the weights themselves stay float.
    pub fn in_int8(mut self, steps: BTreeMap<Edge, Quant>) -> Self {
        self.steps = steps;
        self
    }

    fn unit(&mut self, i: usize, normalise: bool) -> Result<Unit> {
        let node = self.graph.nodes[i].clone();
        let at = self.parameters.len();
        Ok(match &node.op {
            Op::Conv(c) => {
                let kind = match c.groups {
                    1 if c.window == Window::POINT || (i == self.first && self.patches().is_some()) => Kind::Matrix,
                    1 => Kind::Dense(c.window),
                    _ if c.is_depthwise() => Kind::Depthwise(c.window),
                    groups => bail!(
                        "node \"{}\": a convolution in {groups} groups of several channels cannot be trained; one group, or \
                         as many as channels, can. Train from a node behind it with --from",
                        node.name
                    ),
                };
                self.parameter(columns(&c.weights, c.outputs), [c.taps(), c.outputs]);
                let norm = normalise.then(|| Running::new(c.outputs));
                if normalise {
                    self.parameter(vec![1.0; c.outputs], [1, c.outputs]);
                    self.parameter(vec![0.0; c.outputs], [1, c.outputs]);
                } else {
                    self.parameter(c.bias.clone(), [1, c.outputs]);
                }
                Unit::Conv(ConvUnit { kind, at, clamp: c.clamp, norm })
            }
            Op::Add(clamp) => Unit::Add(*clamp),
            Op::Average => Unit::Average,
            Op::Linear(l) => {
                self.parameter(columns(&l.weights, l.outputs), [l.inputs, l.outputs]);
                self.parameter(l.bias.clone(), [1, l.outputs]);
                Unit::Linear(at)
            }
            Op::MaxPool(window) => Unit::MaxPool(*window),
        })
    }

    /// The device with derivatives.
    fn learning(&self) -> Device {
        self.device.clone().autodiff()
    }

    fn parameter(&mut self, values: Vec<f32>, shape: [usize; 2]) {
        self.parameters.push(Tensor::<2>::from_data(TensorData::new(values, shape), &self.learning()).require_grad());
    }

    /// The value that enters the trained nodes.
    pub fn entry(&self) -> Edge {
        self.entry
    }

    /// Whether tags exclude one another.
    pub fn task(&self) -> TaskName {
        self.task
    }

    /// Rows, columns and channels of a value.
    fn shape(&self, edge: Edge) -> [usize; 3] {
        match edge {
            Edge::Image => [self.graph.side, self.graph.side, 3],
            Edge::Node(n) => self.shapes[n],
        }
    }

    /// The window of the first convolution, if it takes the image: its patches are laid out once,
    /// and it is a matrix on them.
    fn patches(&self) -> Option<Window> {
        match &self.graph.nodes[self.first].op {
            Op::Conv(Conv { window, groups: 1, .. }) if *window != Window::POINT && self.entry == Edge::Image => {
                Some(*window)
            }
            _ => None,
        }
    }

    /// One image's entry as the first node takes it. `planes`: `[channels, pixels]`.
    pub fn prepare(&self, planes: &[f32]) -> Vec<f32> {
        let [h, w, c] = self.shape(self.entry);
        let at = |y: usize, x: usize, k: usize| planes[k * h * w + y * w + x];
        let Some(window) = self.patches() else {
            return (0..h * w * c).map(|i| at(i / c / w, i / c % w, i % c)).collect();
        };
        let [rows, columns, _] = self.shapes[self.first];
        let [ky, kx] = window.kernel;
        let mut patches = Vec::with_capacity(rows * columns * ky * kx * c);
        // In the order of the weights: channel, row, column.
        for o in 0..rows * columns {
            for k in 0..c {
                for t in 0..ky * kx {
                    let y = (o / columns * window.stride[0] + t / kx).wrapping_sub(window.pads[0]);
                    let x = (o % columns * window.stride[1] + t % kx).wrapping_sub(window.pads[1]);
                    patches.push(if y < h && x < w { at(y, x, k) } else { 0.0 });
                }
            }
        }
        patches
    }

    /// Logits of a batch of prepared entries.
    fn forward(&self, input: Vec<f32>, batch: usize) -> Tensor<2> {
        let [h, w, _] = match self.patches() {
            Some(_) => self.shapes[self.first],
            None => self.shape(self.entry),
        };
        let rows = batch * h * w;
        let columns = input.len() / rows;
        let data = TensorData::new(input, [rows, columns]);
        let rounded = |edge: Edge, y: Tensor<2>| match self.steps.get(&edge) {
            Some(step) => ops::rounded(y, *step),
            None => y,
        };
        let entry = rounded(self.entry, Tensor::<2>::from_data(data, &self.learning()));
        let mut values = BTreeMap::from([(self.entry, entry)]);
        for (k, unit) in self.units.iter().enumerate() {
            let i = self.first + k;
            let node = &self.graph.nodes[i];
            let input = |n: usize| values[&node.inputs[n]].clone();
            let p = |n: usize| self.parameters[n].clone();
            let weights = |n: usize| if self.steps.is_empty() { p(n) } else { ops::rounded_weights(p(n)) };
            let geometry = |window: Window| {
                let [h, w, channels] = self.shape(node.inputs[0]);
                let [rows, columns, _] = self.shapes[i];
                Geometry { batch, input: [h, w], output: [rows, columns], channels, window }
            };
            let y = match unit {
                Unit::Conv(c) => {
                    let x = input(0);
                    let y = match c.kind {
                        Kind::Matrix => x.matmul(weights(c.at)),
                        Kind::Depthwise(window) => ops::depthwise(x, weights(c.at), geometry(window)),
                        Kind::Dense(window) => ops::dense(x, weights(c.at), geometry(window)),
                    };
                    match &c.norm {
                        Some(running) => ops::norm(y, p(c.at + 1), p(c.at + 2), c.clamp, running),
                        None => ops::bias(y, p(c.at + 1), c.clamp),
                    }
                }
                Unit::Add(clamp) => ops::clamped(input(0) + input(1), *clamp),
                Unit::MaxPool(window) => ops::max_pool(input(0), geometry(*window)),
                Unit::Average => {
                    let x = input(0);
                    let [rows, channels] = x.dims();
                    x.reshape([batch, rows / batch, channels]).mean_dim(1).reshape([batch, channels])
                }
                Unit::Linear(at) => input(0).matmul(weights(*at)) + p(at + 1),
            };
            values.insert(Edge::Node(i), rounded(Edge::Node(i), y));
        }
        values.remove(&Edge::Node(self.graph.nodes.len() - 1)).expect("the last node was computed")
    }

    /// One step at `rate` on a batch of prepared entries. Returns the mean loss and the logits
    /// before the step.
    pub fn step(&mut self, input: Vec<f32>, wanted: &Wanted<'_>, rate: f64) -> (f32, Vec<Vec<f32>>) {
        let batch = wanted.images();
        let logits = self.forward(input, batch);
        let tags = logits.dims()[1];
        let seen = values(logits.clone().inner()).chunks_exact(tags).map(<[f32]>::to_vec).collect();
        let (target, share) = wanted.targets(self.task);
        let [target, share] =
            [target, share].map(|v| Tensor::<2>::from_data(TensorData::new(v, [batch, tags]), &self.learning()));
        let log = match self.task {
            TaskName::Multiclass => activation::log_softmax(logits, 1) * target,
            // log sigmoid(z) for a tag that is there, log sigmoid(-z) for one that is not.
            TaskName::Multilabel => {
                let (there, not) = (activation::log_sigmoid(logits.clone()), activation::log_sigmoid(-logits));
                there * target.clone() + not * (-target + 1.0)
            }
        };
        let loss = -(log * share).sum();
        let mut gradients = loss.backward();
        for (parameter, state) in self.parameters.iter_mut().zip(&mut self.states) {
            let Some(gradient) = parameter.grad_remove(&mut gradients) else { continue };
            let next = self.optimiser.step(rate, parameter.clone().inner(), gradient, state);
            *parameter = next.autodiff().require_grad();
        }
        (loss.into_scalar::<f32>(), seen)
    }

    /// The graph with the trained weights, running statistics folded in.
    pub fn graph(&self) -> Graph {
        let mut graph = self.graph.clone();
        let of = |i: usize| values(self.parameters[i].clone().inner());
        for (k, unit) in self.units.iter().enumerate() {
            match (unit, &mut graph.nodes[self.first + k].op) {
                (Unit::Conv(u), Op::Conv(c)) => {
                    c.weights = rows(&of(u.at), c.outputs);
                    match &u.norm {
                        None => c.bias = of(u.at + 1),
                        Some(running) => {
                            let (mean, variance) = running.get();
                            c.bias = vec![0.0; c.outputs];
                            c.fold([&of(u.at + 1), &of(u.at + 2), &mean, &variance], EPSILON);
                        }
                    }
                }
                (Unit::Linear(at), Op::Linear(l)) => {
                    l.weights = rows(&of(*at), l.outputs);
                    l.bias = of(at + 1);
                }
                _ => {}
            }
        }
        graph
    }

    fn norms(&self) -> impl Iterator<Item = &Running> {
        self.units.iter().filter_map(|u| match u {
            Unit::Conv(c) => c.norm.as_ref(),
            _ => None,
        })
    }

    /// All state that training changes.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            parameters: self.parameters.iter().map(|p| values(p.clone().inner())).collect(),
            states: self.states.iter().map(|s| s.as_ref().map(State::keep)).collect(),
            running: self.norms().map(Running::get).collect(),
        }
    }

    /// Restores a snapshot of the same network. Fails if it does not fit.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let lengths = |t: &Tensor<2>| t.dims()[0] * t.dims()[1];
        ensure!(
            snapshot.parameters.len() == self.parameters.len()
                && snapshot.states.len() == self.parameters.len()
                && snapshot.running.len() == self.norms().count()
                && snapshot.parameters.iter().zip(&self.parameters).all(|(a, b)| a.len() == lengths(b)),
            "the checkpoint is of another network; begin again without --resume"
        );
        for (i, kept) in snapshot.parameters.iter().enumerate() {
            let shape = self.parameters[i].dims();
            let data = TensorData::new(kept.clone(), shape);
            self.parameters[i] = Tensor::<2>::from_data(data, &self.learning()).require_grad();
            let state = snapshot.states[i].as_ref().map(|s| self.optimiser.restore(s, shape, &self.device));
            self.states[i] = state.transpose()?;
        }
        self.norms().zip(&snapshot.running).for_each(|(r, (mean, variance))| r.set(mean, variance));
        Ok(())
    }
}

/// The one value from before `first` that the nodes from there on take.
fn entry(graph: &Graph, first: usize) -> Result<Edge> {
    let edges = graph.nodes[first..].iter().flat_map(|n| &n.inputs);
    let mut outer: Vec<Edge> = edges.copied().filter(|e| !matches!(e, Edge::Node(n) if *n >= first)).collect();
    outer.sort();
    outer.dedup();
    match outer.as_slice() {
        [one] => Ok(*one),
        _ => bail!(
            "training cannot begin at \"{}\": {} values cross into it; name a block's first node",
            graph.nodes[first].name,
            outer.len()
        ),
    }
}

/// `[outputs, taps]` as `[taps, outputs]`.
fn columns(weights: &[f32], outputs: usize) -> Vec<f32> {
    let taps = weights.len() / outputs;
    (0..weights.len()).map(|i| weights[i % outputs * taps + i / outputs]).collect()
}

/// `[taps, outputs]` as `[outputs, taps]`.
fn rows(weights: &[f32], outputs: usize) -> Vec<f32> {
    columns(weights, weights.len() / outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Linear, Runner};
    use crate::small;
    use tagpin::random::Random;

    fn image(seed: u64) -> Vec<u8> {
        let mut r = Random::new(seed, 0);
        (0..small::SIDE * small::SIDE * 3).map(|_| r.range(0, 255) as u8).collect()
    }

    fn logits(tuner: &Tuner, planes: &[f32]) -> Vec<f32> {
        values(tuner.forward(tuner.prepare(planes), 1).inner())
    }

    #[test]
    fn a_folded_network_computes_what_was_trained() {
        let graph = small::network(3, 5);
        let tuner = Tuner::new(&graph, 0, true, TaskName::Multiclass, OptimiserName::Adamw, Device::flex()).unwrap();
        let planes = graph.normalise.planes(&image(9));
        // The same image again and again, until the running statistics have converged to its own.
        for _ in 0..100 {
            logits(&tuner, &planes);
        }
        let folded = Runner::whole(&tuner.graph()).unwrap().run(&image(9)).unwrap().swap_remove(0);
        for (a, b) in logits(&tuner, &planes).iter().zip(folded) {
            assert!((a - b).abs() < 2e-3 * (1.0 + b.abs()), "{a} {b}");
        }
    }

    #[test]
    fn a_tail_gives_the_logits_of_the_whole_graph() {
        let graph = small::network(3, 6);
        let first = graph.find("block3_depthwise").unwrap();
        let tuner = Tuner::new(&graph, first, false, TaskName::Multilabel, OptimiserName::Sgd, Device::flex()).unwrap();
        let Edge::Node(trunk) = tuner.entry() else { panic!("its entry is a node") };
        let inner = Runner::new(&graph, &[trunk]).unwrap().run(&image(3)).unwrap().swap_remove(0);
        let whole = Runner::whole(&graph).unwrap().run(&image(3)).unwrap().swap_remove(0);
        for (a, b) in logits(&tuner, &inner).iter().zip(whole) {
            assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{a} {b}");
        }
    }

    /// Convolutions of all channels with all, a maximum, and a sum with its clamp, as in ResNet (He
    /// et al. 2016).
    fn residual_network() -> Graph {
        let mut r = Random::new(8, 8);
        let mut drawn =
            |n: usize, most: f32| -> Vec<f32> { (0..n).map(|_| r.range(-1000, 1000) as f32 / 1000.0 * most).collect() };
        let mut conv = |kernel: usize, stride: usize, inputs: usize, outputs: usize, clamp: Clamp| {
            let taps = kernel * kernel * inputs;
            Op::Conv(Conv {
                window: Window { kernel: [kernel; 2], stride: [stride; 2], pads: [kernel / 2; 4] },
                inputs,
                outputs,
                groups: 1,
                weights: drawn(taps * outputs, (6.0 / taps as f32).sqrt()),
                bias: vec![0.1; outputs],
                clamp,
            })
        };
        let relu = Clamp { low: 0.0, high: f32::INFINITY };
        let mut graph = Graph { side: 32, normalise: small::network(2, 1).normalise, nodes: Vec::new() };
        let stem = graph.push("stem", conv(3, 2, 3, 8, relu), vec![Edge::Image]);
        let most = Op::MaxPool(Window { kernel: [3; 2], stride: [2; 2], pads: [1; 4] });
        let most = graph.push("most", most, vec![stem]);
        let one = graph.push("one", conv(3, 1, 8, 8, relu), vec![most]);
        let two = graph.push("two", conv(3, 1, 8, 8, Clamp::NONE), vec![one]);
        let sum = graph.push("sum", Op::Add(relu), vec![two, most]);
        let wide = graph.push("wide", conv(3, 2, 8, 12, relu), vec![sum]);
        graph.push("average", Op::Average, vec![wide]);
        graph.with_head(Linear { inputs: 12, outputs: 3, weights: drawn(36, 0.3), bias: vec![0.0; 3] })
    }

    #[test]
    fn a_residual_network_learns_whole_and_from_a_block() {
        let graph = residual_network();
        let mut r = Random::new(3, 3);
        let images: Vec<Vec<u8>> = (0..9)
            .map(|i| {
                (0..32 * 32 * 3).map(|v| if v % 3 == i % 3 { r.range(150, 255) } else { r.range(0, 100) } as u8).collect()
            })
            .collect();
        let truth: Vec<[usize; 1]> = (0..9).map(|i| [i % 3]).collect();
        let truth: Vec<&[usize]> = truth.iter().map(<[usize; 1]>::as_slice).collect();
        for from in ["stem", "one"] {
            let first = graph.find(from).unwrap();
            let mut tuner =
                Tuner::new(&graph, first, false, TaskName::Multiclass, OptimiserName::Adam, Device::flex()).unwrap();
            let entry = |rgb: &[u8]| match tuner.entry() {
                Edge::Image => graph.normalise.planes(rgb),
                Edge::Node(n) => Runner::new(&graph, &[n]).unwrap().run(rgb).unwrap().swap_remove(0),
            };
            let entries: Vec<Vec<f32>> = images.iter().map(|rgb| tuner.prepare(&entry(rgb))).collect();
            let whole = Runner::whole(&graph).unwrap().run(&images[4]).unwrap().swap_remove(0);
            for (a, b) in values(tuner.forward(entries[4].clone(), 1).inner()).iter().zip(whole) {
                assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{from}: {a} {b}");
            }
            let wanted = Wanted::Tags(&truth, &[1.0; 3]);
            let losses: Vec<f32> = (0..30).map(|_| tuner.step(entries.concat(), &wanted, 1e-2).0).collect();
            assert!(losses[29] < 0.5 * losses[0], "{from}: {losses:?}");
        }
    }

    #[test]
    fn a_restored_snapshot_goes_on_to_the_same_weights() {
        for optimiser in [OptimiserName::Sgd, OptimiserName::Adam, OptimiserName::Adamw] {
            let graph = small::network(2, 7);
            let start = graph.find("block8_depthwise").unwrap();
            let make = || Tuner::new(&graph, start, true, TaskName::Multiclass, optimiser, Device::flex()).unwrap();
            let mut r = Random::new(1, 1);
            let one = make();
            let Edge::Node(n) = one.entry() else { panic!("its entry is a node") };
            let size: usize = one.shapes[n].iter().product();
            let batch: Vec<f32> = (0..4 * size).map(|_| r.range(0, 600) as f32 / 100.0).collect();
            let wanted = Wanted::Tags(&[&[0], &[1], &[0], &[1]], &[1.0, 1.0]);
            let go = |t: &mut Tuner| t.step(batch.clone(), &wanted, 1e-3).0;
            let (mut through, mut broken) = (make(), make());
            go(&mut through);
            go(&mut through);
            go(&mut broken);
            let mut resumed = make();
            resumed.restore(&broken.snapshot()).unwrap();
            go(&mut resumed);
            assert_eq!(through.graph(), resumed.graph(), "{optimiser:?}");
        }
    }

    /// Not a test but a measurement, which `tools/x86-peers/train-speed` compares with PyTorch.
    #[test]
    #[ignore = "prints a figure for tools/x86-peers/train-speed, which says of what"]
    fn training_speed() {
        let given = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let numbers: Vec<usize> = given("SPEED_STEPS").split(' ').map(|n| n.parse().unwrap()).collect();
        let &[batch, warm, steps, tags] = numbers.as_slice() else { panic!("four numbers") };
        let backbone = crate::graph::read(&std::fs::read(given("SPEED_GRAPH")).unwrap(), None).unwrap();
        let inputs = backbone.outputs().unwrap();
        let head = crate::graph::Linear { inputs, outputs: tags, weights: vec![0.01; inputs * tags], bias: vec![0.0; tags] };
        let graph = backbone.with_head(head);
        let first = graph.find(&given("SPEED_FROM")).unwrap();
        let mut tuner =
            Tuner::new(&graph, first, false, TaskName::Multiclass, OptimiserName::Adamw, Device::flex()).unwrap();
        let Edge::Node(entry) = tuner.entry() else { panic!("from inside the network") };
        let (size, mut r) = (tuner.shapes[entry].iter().product::<usize>(), Random::new(1, 1));
        let truth: Vec<[usize; 1]> = (0..batch).map(|i| [i % tags]).collect();
        let truth: Vec<&[usize]> = truth.iter().map(<[usize; 1]>::as_slice).collect();
        let cpu = || {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            // User and system time in ticks of 10 ms (proc(5): fields 14 and 15).
            fields[11..13].iter().map(|t| t.parse::<f64>().unwrap()).sum::<f64>() / 100.0
        };
        let mut begin = 0.0;
        for step in 0..warm + steps {
            if step == warm {
                begin = cpu();
            }
            let input = (0..batch * size).map(|_| r.range(0, 1000) as f32 / 1000.0).collect();
            tuner.step(input, &Wanted::Tags(&truth, &vec![1.0; tags]), 1e-4);
        }
        println!("images per CPU-second: {:.2}", (batch * steps) as f64 / (cpu() - begin));
    }
}
