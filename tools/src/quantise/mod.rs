//! Post-training quantisation: per-channel int8 weights, int8 activations calibrated on training
//! images only.
//!
//! Several ways are tried (calibrators, equalised channels, corrected biases, cancelling rounding);
//! the one with which our int8 engine agrees best with the float graph on validation images is
//! kept.

mod aware;
pub mod calibrate;
pub mod equalise;
mod observed;
mod rounding;

use crate::data::{
    self, TaskName,
    split::{Side, Split},
};
use crate::graph::{self, Edge, Graph, Op, Quant, QuantWeights, Quantised};
use crate::metrics;
use crate::predict;
use crate::run::Run;
use crate::run_folder;
use anyhow::{Context, Result, ensure};
use calibrate::Calibrator;
pub use observed::{Observed, observe};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tagpin::preprocess::Target;

/// Quantise a trained run to int8; what serves best is chosen on validation.
#[derive(clap::Args, Clone, Debug)]
pub struct Quantise {
    /// Run folder made by `train`; `int8.onnx`, `quantisation.json` and `decision.json` are written
    /// into it.
    pub run: PathBuf,
    #[command(flatten)]
    pub options: Options,
}

/// How to quantise.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Training images to calibrate on, spread over all tags.
    #[arg(long, default_value_t = 128)]
    pub calibration: usize,
    /// Validation images by which the choice is made.
    #[arg(long, default_value_t = 128)]
    pub choice: usize,
    /// Use this calibrator instead of the best of the four.
    #[arg(long, value_enum)]
    pub calibrator: Option<Calibrator>,
    /// Whether the last part is fine-tuned in int8 to reproduce the float network: a few minutes.
    #[arg(long, value_enum, default_value = "auto")]
    pub aware: Aware,
    /// First node that is fine-tuned so. Default: the whole network if it was trained from nothing,
    /// else its last blocks.
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
}

/// Whether to fine-tune in int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Aware {
    /// If int8 loses more than half a point on validation.
    Auto,
    /// In any case.
    Always,
    /// In none.
    Never,
}

/// Share right that int8 may lose on validation before [`Aware::Auto`] fine-tunes.
const TOLERATED: f64 = 0.005;

impl Default for Options {
    fn default() -> Self {
        Self { calibration: 128, choice: 128, calibrator: None, aware: Aware::Auto, from: None }
    }
}

/// One way of quantising and how it did on validation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// How ranges were chosen.
    pub calibrator: Calibrator,
    /// Whether channels were brought to like ranges.
    pub equalised: bool,
    /// Whether biases were corrected.
    pub corrected: bool,
    /// Whether weights were rounded so that their errors cancel.
    pub cancelling: bool,
    /// Whether the head was trained again on the int8 network's features.
    pub refitted: bool,
    /// Whether the last part was fine-tuned in int8 to reproduce the float network.
    #[serde(default)]
    pub aware: bool,
    /// Share of images with the same top tag, or the same tags, as in float.
    pub agreement: f64,
    /// Mean difference of scores.
    pub mean_dp: f64,
}

impl Candidate {
    /// By the mean difference of scores: with this few images the share that agrees hangs on one or
    /// two of them.
    fn better_than(&self, other: &Self) -> bool {
        (-self.mean_dp, self.agreement) > (-other.mean_dp, other.agreement)
    }

    /// Its options in words.
    pub fn name(&self) -> String {
        let with = |on: bool, what: &str| if on { format!(" + {what}") } else { String::new() };
        format!(
            "{}{}{}{}{}{}",
            self.calibrator.name(),
            with(self.equalised, "equalised"),
            with(self.corrected, "corrected biases"),
            with(self.cancelling, "cancelling rounding"),
            with(self.refitted, "head on int8 features"),
            with(self.aware, "fine-tuned in int8")
        )
    }
}

/// What was tried and taken: `quantisation.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quantisation {
    /// Images calibrated on.
    pub calibration: usize,
    /// Validation images that chose.
    pub choice: usize,
    /// All that were tried, the taken one last.
    pub tried: Vec<Candidate>,
    /// Bytes of the int8 graph.
    pub bytes: usize,
    /// Its SHA-256.
    pub graph_sha256: String,
}

/// Scale and zero point of the image: the range of 0..=255 after normalisation, over all channels.
fn input_quant(graph: &Graph) -> Quant {
    let ends: Vec<f32> = (0..3).flat_map(|c| [0, 255].map(|v| graph.normalise.value(c, v))).collect();
    let edge = |f: fn(f32, f32) -> f32| ends.iter().copied().reduce(f).unwrap_or(0.0);
    Quant::of_range(edge(f32::min), edge(f32::max))
}

/// What is done to weights and biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refinement {
    /// Take from each bias what rounding the weights adds on average.
    pub corrected: bool,
    /// Round weights so that their errors cancel.
    pub cancelling: bool,
    /// First node that was trained while rounded to the nearest; neither is done from there on.
    pub trained_from: Option<usize>,
}

/// Quantises `graph` with the scales that `calibrator` chooses.
pub fn quantise(graph: &Graph, observed: &Observed, calibrator: Calibrator, refine: Refinement) -> Quantised {
    let seen = &observed.seen;
    let mut activations: BTreeMap<Edge, Quant> = seen.par_iter().map(|(edge, s)| (*edge, s.quant(calibrator))).collect();
    activations.insert(Edge::Image, input_quant(graph));
    for (i, node) in graph.nodes.iter().enumerate() {
        // A maximum of int8 values is one of them.
        if let Op::MaxPool(_) = node.op {
            activations.insert(Edge::Node(i), activations[&node.inputs[0]]);
        }
    }
    let weights: Vec<_> = (0..graph.nodes.len())
        .into_par_iter()
        .map(|i| Some((i, node_weights(graph, i, &activations, observed, refine)?)))
        .collect();
    Quantised { activations, weights: weights.into_iter().flatten().collect() }
}

/// Node `i`'s weights in int8 and biases in int32; `None` if it has none.
fn node_weights(
    graph: &Graph,
    i: usize,
    activations: &BTreeMap<Edge, Quant>,
    observed: &Observed,
    refine: Refinement,
) -> Option<QuantWeights> {
    let node = &graph.nodes[i];
    let (w, b) = match &node.op {
        Op::Conv(c) => (&c.weights, &c.bias),
        Op::Linear(l) => (&l.weights, &l.bias),
        _ => return None,
    };
    let from = node.inputs[0];
    let step = activations[&from].scale;
    let mut q = int8_weights(w, b, step);
    if refine.trained_from.is_some_and(|first| i >= first) {
        return Some(q);
    }
    let point = !matches!(&node.op, Op::Conv(c) if c.window != graph::Window::POINT || c.groups != 1);
    if let Some(m) = observed.moments.get(&from).filter(|_| refine.cancelling && point) {
        q.weights = m.round(w, &q.scales);
    }
    if refine.corrected
        && let Some(bias) = equalise::correct_bias(&node.op, &q, &observed.seen[&from])
    {
        q.bias = int8_bias(&bias, &q.scales, step);
    }
    Some(q)
}

/// Symmetric int8 weights, one scale per output. `weights`: `[outputs, taps]`; `input`: the input's
/// scale.
fn int8_weights(weights: &[f32], bias: &[f32], input: f32) -> QuantWeights {
    let taps = weights.len() / bias.len();
    let rows = || weights.chunks_exact(taps);
    let scale = |(row, b): (&[f32], &f32)| {
        let largest = row.iter().fold(0f32, |m, w| m.max(w.abs()));
        // A channel of zeros, or one so small that its bias would overflow i32, gets a larger
        // scale.
        (largest / 127.0).max(b.abs() / input / 1e9).max(1e-9)
    };
    let scales: Vec<f32> = rows().zip(bias).map(scale).collect();
    let row = |(row, s): (&[f32], &f32)| -> Vec<i8> {
        row.iter().map(|w| (w / s).round_ties_even().clamp(-127.0, 127.0) as i8).collect()
    };
    QuantWeights { weights: rows().zip(&scales).flat_map(row).collect(), bias: int8_bias(bias, &scales, input), scales }
}

/// Biases in units of the accumulator.
fn int8_bias(bias: &[f32], scales: &[f32], input: f32) -> Vec<i32> {
    bias.iter().zip(scales).map(|(b, s)| (b / (input * s)).round_ties_even() as i32).collect()
}

/// Validation images that choose.
pub struct Choice<'a> {
    /// At model size.
    pub images: Vec<&'a [u8]>,
    /// `[images]`: logits of the float graph.
    pub float: Vec<Vec<f32>>,
}

impl<'a> Choice<'a> {
    /// Of images at model size and the float graph's logits for each.
    pub fn new(images: Vec<&'a [u8]>, float: Vec<Vec<f32>>) -> Self {
        Self { images, float }
    }
}

/// How an int8 graph agrees with what the float graph says.
fn judge(onnx: &[u8], graph: &Graph, task: TaskName, choice: &Choice<'_>) -> Result<(f64, f64)> {
    let int8 = predict::int8(onnx, graph.normalise, &choice.images)?;
    let score = |l: &[Vec<i32>]| predict::probabilities(&predict::scores(task, l, predict::q16(1.0)));
    let (a, b) = (score(&predict::fixed(&choice.float)?), score(&int8));
    let (ca, cb) = (metrics::predictions(&a, task), metrics::predictions(&b, task));
    let agree = ca.iter().zip(&cb).filter(|(a, b)| a == b).count() as f64 / ca.len().max(1) as f64;
    let differences = a.iter().zip(&b).flat_map(|(a, b)| a.iter().zip(b).map(|(x, y)| (x - y).abs() as f64));
    let n = (a.len() * a.first().map_or(0, Vec::len)).max(1);
    Ok((agree, differences.sum::<f64>() / n as f64))
}

/// The best int8 form of a graph among those tried.
pub struct Chosen {
    /// The int8 graph.
    pub onnx: Vec<u8>,
    /// All that were tried, the taken one last.
    pub tried: Vec<Candidate>,
    /// What was quantised: the graph, or the one with equalised channels.
    base: Graph,
    observed: Observed,
    refine: Refinement,
    quantised: Quantised,
}

impl Chosen {
    fn taken(&self) -> &Candidate {
        self.tried.last().expect("one was taken")
    }

    /// Fine-tunes the nodes from `first` on in int8 on `images` to reproduce `float`; keeps the
    /// result only if it is better on `choice`.
    fn aware(
        mut self,
        first: usize,
        float: &Graph,
        task: TaskName,
        images: &[&[u8]],
        choice: &Choice<'_>,
        seed: u64,
    ) -> Result<Self> {
        let from = aware::Network { base: &self.base, onnx: &self.onnx, quantised: &self.quantised, first };
        let tuned = aware::tune(&from, float, task, images, seed)?;
        let refine = Refinement { trained_from: Some(first), ..self.refine };
        let quantised = quantise(&tuned, &self.observed, self.taken().calibrator, refine);
        let onnx = graph::write(&tuned, Some(&quantised))?;
        let (agreement, mean_dp) = judge(&onnx, float, task, choice)?;
        let candidate = Candidate { aware: true, agreement, mean_dp, ..self.taken().clone() };
        if candidate.better_than(self.taken()) {
            self.tried.push(candidate);
            return Ok(Self { onnx, base: tuned, refine, quantised, ..self });
        }
        self.tried.insert(self.tried.len() - 1, candidate);
        Ok(self)
    }

    /// The int8 graph without its head: its results are features.
    pub fn headless(&self) -> Result<Vec<u8>> {
        graph::write(&self.base.clone().headless(), Some(&self.quantised))
    }

    /// The int8 graph with another head. `choice`: the float graph's logits with that head.
    pub fn with_head(mut self, head: &graph::Linear, task: TaskName, choice: &Choice<'_>) -> Result<Self> {
        self.base = self.base.headless().with_head(head.clone());
        let last = self.base.nodes.len() - 1;
        let weights = node_weights(&self.base, last, &self.quantised.activations, &self.observed, self.refine);
        self.quantised.weights.extend(weights.map(|w| (last, w)));
        self.onnx = graph::write(&self.base, Some(&self.quantised))?;
        let (agreement, mean_dp) = judge(&self.onnx, &self.base, task, choice)?;
        self.tried.push(Candidate { refitted: true, agreement, mean_dp, ..self.taken().clone() });
        Ok(self)
    }

    /// The record that is written to the run folder.
    pub fn summary(&self, calibration: usize, choice: usize) -> Quantisation {
        Quantisation {
            calibration,
            choice,
            tried: self.tried.clone(),
            bytes: self.onnx.len(),
            graph_sha256: data::hex_hash(&self.onnx),
        }
    }
}

/// Finds the best int8 form of `graph`: the calibrator first, then corrected biases, cancelling
/// rounding and equalised channels, each kept if it helps.
pub fn choose(
    graph: &Graph,
    task: TaskName,
    calibration: &[&[u8]],
    choice: &Choice<'_>,
    only: Option<Calibrator>,
) -> Result<Chosen> {
    ensure!(!calibration.is_empty() && !choice.images.is_empty(), "there are no images to calibrate on or to choose by");
    let observed = observe(graph, calibration)?;
    let mut tried: Vec<Candidate> = Vec::new();
    let mut best: Option<(usize, Vec<u8>, Quantised, Refinement)> = None;
    // Returns whether this one is the best so far.
    let mut consider = |g: &Graph, seen: &Observed, calibrator, equalised, refine: Refinement| -> Result<bool> {
        let quantised = quantise(g, seen, calibrator, refine);
        let onnx = graph::write(g, Some(&quantised))?;
        let (agreement, mean_dp) = judge(&onnx, graph, task, choice)?;
        let Refinement { corrected, cancelling, .. } = refine;
        let candidate =
            Candidate { calibrator, equalised, corrected, cancelling, refitted: false, aware: false, agreement, mean_dp };
        let better = best.as_ref().is_none_or(|(i, ..)| candidate.better_than(&tried[*i]));
        if better {
            best = Some((tried.len(), onnx, quantised, refine));
        }
        tried.push(candidate);
        Ok(better)
    };
    let mut calibrator = only.unwrap_or(Calibrator::MinMax);
    for c in only.map_or(Calibrator::ALL.to_vec(), |c| vec![c]) {
        if consider(graph, &observed, c, false, Refinement::default())? {
            calibrator = c;
        }
    }
    let mut refine = Refinement::default();
    let corrected = Refinement { corrected: true, ..refine };
    for more in [corrected, Refinement { cancelling: true, ..corrected }] {
        if consider(graph, &observed, calibrator, false, more)? {
            refine = more;
        }
    }
    let (level, factors) = equalise::equalise(graph, &observed.seen);
    let level_observed = observed.clone().divided(&factors);
    let equal = consider(&level, &level_observed, calibrator, true, refine)?;
    let (taken, onnx, quantised, refine) = best.expect("at least one was considered");
    let last = tried.remove(taken);
    tried.push(last);
    let (base, observed) = if equal { (level, level_observed) } else { (graph.clone(), observed) };
    Ok(Chosen { onnx, tried, base, observed, refine, quantised })
}

/// Images to calibrate on and images to choose by, at model size.
pub struct Images {
    /// Training images.
    pub calibration: Vec<Vec<u8>>,
    /// Validation images.
    pub choice: Vec<Vec<u8>>,
}

impl Images {
    /// Loads as many images as the options say, spread over the split.
    pub fn of(split: &Split, target: Target, options: &Options) -> Result<Self> {
        Ok(Self {
            calibration: Self::spread(split, Side::Train, options.calibration, target)?,
            choice: Self::spread(split, Side::Validation, options.choice, target)?,
        })
    }

    /// At most `n` images of a side, spread over all.
    fn spread(split: &Split, side: Side, n: usize, target: Target) -> Result<Vec<Vec<u8>>> {
        let all = split.entries(side);
        let some: Vec<data::Entry> = data::spread(all.len(), n).map(|i| all[i].clone()).collect();
        data::load(&split.dataset.root, &some, target)
    }

    /// The images of one kind, borrowed.
    pub fn refs(images: &[Vec<u8>]) -> Vec<&[u8]> {
        images.iter().map(Vec::as_slice).collect()
    }
}

/// Writes `int8.onnx` and `quantisation.json` into a run folder, and shows what was tried.
pub fn keep(run: &Run, onnx: &[u8], quantisation: &Quantisation) -> Result<()> {
    run_folder::write_file(&run.file("int8.onnx"), onnx)?;
    run_folder::write_json(&run.file("quantisation.json"), quantisation)?;
    print(quantisation);
    Ok(())
}

/// Quantises a run as it is and keeps the result.
pub fn quantise_run(run: &Run, options: &Options) -> Result<()> {
    let images = Images::of(&run.split, run.target()?, options)?;
    let calibration = Images::refs(&images.calibration);
    let choice = Images::refs(&images.choice);
    let choice = Choice { float: predict::float(&run.graph, &choice)?, images: choice };
    let task = run.split.dataset.task;
    let mut chosen = choose(&run.graph, task, &calibration, &choice, options.calibrator)?;
    if let Some(first) = learns_from(run, options, &chosen.onnx)? {
        let images = Images::spread(&run.split, Side::Train, aware::IMAGES, run.target()?)?;
        chosen = chosen.aware(first, &run.graph, task, &Images::refs(&images), &choice, run.record.seed)?;
    }
    keep(run, &chosen.onnx, &chosen.summary(calibration.len(), choice.images.len()))
}

/// Share right on validation that int8 loses.
fn loses(run: &Run, int8: &[u8]) -> Result<f64> {
    let entries = run.split.entries(Side::Validation);
    let images = data::load(&run.split.dataset.root, &entries, run.target()?)?;
    let (refs, truth) = (Images::refs(&images), entries.iter().map(|e| e.tags.clone()).collect::<Vec<_>>());
    let right = |logits: &[Vec<f32>]| metrics::right(logits, &truth, run.split.dataset.task);
    let int8 = predict::real(&predict::int8(int8, run.graph.normalise, &refs)?);
    Ok(right(&predict::float(&run.graph, &refs)?) - right(&int8))
}

/// The first node to fine-tune in int8; `None` if nothing is to be, or if `Auto` finds nothing that
/// can.
fn learns_from(run: &Run, options: &Options, int8: &[u8]) -> Result<Option<usize>> {
    let loss = match options.aware {
        Aware::Never => return Ok(None),
        Aware::Always => 0.0,
        Aware::Auto => loses(run, int8)?,
    };
    if options.aware == Aware::Auto && loss <= TOLERATED {
        return Ok(None);
    }
    let first = match &options.from {
        Some(name) => run.graph.find(name),
        None if run.record.kind == "small" => Ok(0),
        None => run.graph.find(crate::train::LAST_BLOCKS),
    };
    let able = first.and_then(|first| aware::can_learn(&run.graph, first, run.split.dataset.task).map(|()| first));
    let loses = format!("int8 loses {:.1} points on validation", 100.0 * loss);
    match able.context("--from") {
        Ok(first) if options.aware == Aware::Auto => {
            println!("{loses}: fine-tuning in int8 to reproduce float");
            Ok(Some(first))
        }
        Err(e) if options.aware == Aware::Auto => {
            println!("{loses}; fine-tuning in int8 could help, but {e:#}");
            Ok(None)
        }
        able => able.map(Some),
    }
}

fn print(q: &Quantisation) {
    println!("{:>56}{:>12}{:>12}", "int8, on validation", "agreement", "mean |dp|");
    let taken = q.tried.len() - 1;
    for (i, c) in q.tried.iter().enumerate() {
        println!(
            "{:>56}{:>11.1}%{:>12.4}{}",
            c.name(),
            100.0 * c.agreement,
            c.mean_dp,
            if i == taken { "  taken" } else { "" }
        );
    }
}

/// Quantises a finished run.
pub fn run(args: &Quantise) -> Result<()> {
    let run = Run::open(&args.run)?;
    quantise_run(&run, &args.options)?;
    let entries = run.split.entries(Side::Validation);
    let images = data::load(&run.split.dataset.root, &entries, run.target()?)?;
    // Without a distance: the one measured on the previous network does not fit this one.
    let logits = predict::int8(&run.int8()?, run.graph.normalise, &Images::refs(&images))?;
    crate::decision::calibrate(&run, &logits, &entries.into_iter().map(|e| e.tags).collect::<Vec<_>>())?;
    if run.file("distance.json").exists() {
        let folder = run.folder().display();
        println!("note: its distance is of the int8 network before; run `distance {folder}`, then `evaluate` and `parity`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_sign_and_largest_value() {
        let q = int8_weights(&[1.0, -2.0, -0.5, 0.25], &[0.1, -0.1], 0.01);
        assert_eq!(q.weights, [64, -127, -127, 64]);
        assert_eq!(q.bias[0], (0.1 / (0.01 * q.scales[0])).round() as i32);
    }

    #[test]
    fn the_input_step_covers_all_bytes_once() {
        let normalise = graph::Normalise { mean: [0.45; 3], std: [0.25; 3] };
        let graph = Graph { side: 8, normalise, nodes: Vec::new() };
        let q = input_quant(&graph);
        let of = |v: u8| tagpin::quant::quantise(normalise.value(0, v), q.scale, q.zero_point);
        let all: std::collections::BTreeSet<i8> = (0..=255).map(of).collect();
        assert_eq!((all.len(), of(0), of(255)), (256, -128, 127));
    }
}
