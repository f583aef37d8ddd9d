//! Post-training quantisation: per-channel int8 weights, int8 activations calibrated on training pictures only.
//!
//! Does not train. What it chooses between, it chooses by how well our int8 engine agrees with the float graph on
//! validation pictures.

pub mod calibrate;
pub mod equalise;

use crate::data::{self, TaskName, split::Side};
use crate::graph::{self, Edge, Graph, Op, Quant, QuantWeights, Quantised, Runner};
use crate::metrics;
use crate::predict;
use crate::run::Run;
use crate::run_folder;
use anyhow::{Result, ensure};
use calibrate::{Calibrator, Seen};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Quantise a trained run to int8; what serves best is chosen on validation.
#[derive(clap::Args, Clone, Debug)]
pub struct Quantise {
    /// Run folder made by `train`; `int8.onnx` and `quantisation.json` are written into it.
    pub run: PathBuf,
    #[command(flatten)]
    pub options: Options,
}

/// How to quantise.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Training pictures to calibrate on, spread over all tags.
    #[arg(long, default_value_t = 128)]
    pub calibration: usize,
    /// Validation pictures by which the choice is made.
    #[arg(long, default_value_t = 128)]
    pub choice: usize,
    /// Use this calibrator instead of the best of the four.
    #[arg(long, value_enum)]
    pub calibrator: Option<Calibrator>,
}

impl Default for Options {
    fn default() -> Self {
        Self { calibration: 128, choice: 128, calibrator: None }
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
    /// Share of pictures with the same top tag, or the same tags, as in float.
    pub agreement: f64,
    /// Mean difference of scores.
    pub mean_dp: f64,
}

impl Candidate {
    fn better_than(&self, other: &Self) -> bool {
        (self.agreement, -self.mean_dp) > (other.agreement, -other.mean_dp)
    }

    /// Its parts in words.
    pub fn name(&self) -> String {
        let with = |on: bool, what: &str| if on { format!(" + {what}") } else { String::new() };
        format!(
            "{}{}{}",
            self.calibrator.name(),
            with(self.equalised, "equalised channels"),
            with(self.corrected, "corrected biases")
        )
    }
}

/// What was tried and taken: `quantisation.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quantisation {
    /// Pictures calibrated on.
    pub calibration: usize,
    /// Validation pictures that chose.
    pub choice: usize,
    /// All that were tried, the taken one last.
    pub tried: Vec<Candidate>,
    /// Bytes of the int8 graph.
    pub bytes: usize,
    /// Its SHA-256.
    pub graph_sha256: String,
}

/// The step and zero point of what the picture's table holds: the whole range of 0..=255 in all channels.
fn input_quant(graph: &Graph) -> Quant {
    let ends: Vec<f32> = (0..3).flat_map(|c| [0, 255].map(|v| graph.normalise.value(c, v))).collect();
    let edge = |f: fn(f32, f32) -> f32| ends.iter().copied().reduce(f).unwrap_or(0.0);
    Quant::of_range(edge(f32::min), edge(f32::max))
}

/// What every value holds over the calibration pictures, the picture's own included.
pub fn observe(graph: &Graph, pictures: &[&[u8]]) -> Result<BTreeMap<Edge, Seen>> {
    let shapes = graph.shapes()?;
    let last = graph.nodes.len() - 1;
    let taps: Vec<usize> = (0..=last).filter(|&n| n < last || !matches!(graph.nodes[n].op, Op::Linear(_))).collect();
    let runner = Runner::new(graph, &taps)?;
    let empty = || {
        let of = |n: &usize| (Edge::Node(*n), Seen::new(shapes[*n][2]));
        std::iter::once((Edge::Picture, Seen::new(3))).chain(taps.iter().map(of)).collect::<BTreeMap<_, _>>()
    };
    let bar = crate::progress::bar("calibrating", pictures.len() as u64);
    // Parts of fixed size joined in order, so that sums do not depend on how many cores there are.
    let parts: Vec<Result<BTreeMap<Edge, Seen>>> = pictures
        .par_chunks(16)
        .map(|chunk| {
            let mut seen = empty();
            for rgb in chunk {
                let values = runner.run(rgb)?;
                seen.get_mut(&Edge::Picture).expect("it is in empty()").add(&graph.normalise.planes(rgb));
                for (n, v) in taps.iter().zip(&values) {
                    seen.get_mut(&Edge::Node(*n)).expect("it is in empty()").add(v);
                }
                bar.inc(1);
            }
            Ok(seen)
        })
        .collect();
    bar.finish_and_clear();
    let mut all = empty();
    for part in parts {
        for (edge, seen) in part? {
            let held = all.remove(&edge).expect("all parts have the same edges");
            all.insert(edge, held.join(seen));
        }
    }
    Ok(all)
}

/// Quantises by steps chosen from what was seen.
pub fn quantise(graph: &Graph, seen: &BTreeMap<Edge, Seen>, calibrator: Calibrator, correct: bool) -> Quantised {
    let mut activations = BTreeMap::from([(Edge::Picture, input_quant(graph))]);
    for (i, node) in graph.nodes.iter().enumerate() {
        let edge = Edge::Node(i);
        let Some(own) = seen.get(&edge) else { continue };
        let quant = match node.op {
            // A maximum of int8 values is one of them.
            Op::MaxPool(_) => activations[&node.inputs[0]],
            _ => own.quant(calibrator),
        };
        activations.insert(edge, quant);
    }
    let mut weights = BTreeMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let (w, b) = match &node.op {
            Op::Conv(c) => (&c.weights, &c.bias),
            Op::Linear(l) => (&l.weights, &l.bias),
            _ => continue,
        };
        let step = activations[&node.inputs[0]].scale;
        let mut q = int8_weights(w, b, step);
        if correct && let Some(bias) = equalise::correct_bias(&node.op, &q, &seen[&node.inputs[0]]) {
            q = int8_weights(w, &bias, step);
        }
        weights.insert(i, q);
    }
    Quantised { activations, weights }
}

/// Symmetric int8 weights, one step an output. `weights`: `[outputs, taps]`; `input`: the input's step.
fn int8_weights(weights: &[f32], bias: &[f32], input: f32) -> QuantWeights {
    let taps = weights.len() / bias.len();
    let mut q = QuantWeights { weights: Vec::with_capacity(weights.len()), scales: Vec::new(), bias: Vec::new() };
    for (row, b) in weights.chunks_exact(taps).zip(bias) {
        let largest = row.iter().fold(0f32, |m, w| m.max(w.abs()));
        // A channel of zeros, or one so small that its bias would not fit an i32, gets a larger step.
        let scale = (largest / 127.0).max(b.abs() / input / 1e9).max(1e-9);
        q.weights.extend(row.iter().map(|w| (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8));
        q.bias.push((b / (input * scale)).round_ties_even() as i32);
        q.scales.push(scale);
    }
    q
}

/// How an int8 graph agrees with float logits.
fn judge(
    onnx: &[u8],
    graph: &Graph,
    task: TaskName,
    pictures: &[&[u8]],
    float: &[Vec<f32>],
) -> Result<(f64, f64)> {
    let int8 = predict::int8(onnx, graph.normalise, pictures)?;
    let score = |l: &[Vec<i32>]| predict::probabilities(&predict::scores(task, l, predict::q16(1.0)));
    let (a, b) = (score(&predict::fixed(float)), score(&int8));
    let (ca, cb) = (metrics::called(&a, task), metrics::called(&b, task));
    let agree = ca.iter().zip(&cb).filter(|(a, b)| a == b).count() as f64 / ca.len().max(1) as f64;
    let differences = a.iter().zip(&b).flat_map(|(a, b)| a.iter().zip(b).map(|(x, y)| (x - y).abs() as f64));
    let n = (a.len() * a.first().map_or(0, Vec::len)).max(1);
    Ok((agree, differences.sum::<f64>() / n as f64))
}

/// The best int8 form of `graph`: a calibrator first, then whether equalised channels and corrected biases help.
pub fn choose(
    graph: &Graph,
    task: TaskName,
    calibration: &[&[u8]],
    choice: &[&[u8]],
    only: Option<Calibrator>,
) -> Result<(Vec<u8>, Vec<Candidate>)> {
    ensure!(!calibration.is_empty() && !choice.is_empty(), "there are no pictures to calibrate on or to choose by");
    let seen = observe(graph, calibration)?;
    let float = predict::float(graph, choice)?;
    let mut tried: Vec<Candidate> = Vec::new();
    let mut best: Option<(usize, Vec<u8>)> = None;
    let mut consider = |g: &Graph, seen: &BTreeMap<Edge, Seen>, calibrator, equalised, corrected| -> Result<Candidate> {
        let onnx = graph::write(g, Some(&quantise(g, seen, calibrator, corrected)))?;
        let (agreement, mean_dp) = judge(&onnx, graph, task, choice, &float)?;
        let candidate = Candidate { calibrator, equalised, corrected, agreement, mean_dp };
        if best.as_ref().is_none_or(|(i, _)| candidate.better_than(&tried[*i])) {
            best = Some((tried.len(), onnx));
        }
        tried.push(candidate.clone());
        Ok(candidate)
    };
    let calibrators = only.map_or(Calibrator::ALL.to_vec(), |c| vec![c]);
    let mut plain = Vec::new();
    for c in calibrators {
        plain.push(consider(graph, &seen, c, false, false)?);
    }
    let first = plain.into_iter().reduce(|a, b| if b.better_than(&a) { b } else { a }).expect("at least one calibrator");
    let level = equalise::equalise(graph, &seen);
    let level_seen = observe(&level, calibration)?;
    let equal = consider(&level, &level_seen, first.calibrator, true, false)?;
    let (base, base_seen) = if equal.better_than(&first) { (&level, &level_seen) } else { (graph, &seen) };
    consider(base, base_seen, first.calibrator, std::ptr::eq(base, &level), true)?;
    let (taken, onnx) = best.expect("at least one was considered");
    let last = tried.remove(taken);
    tried.push(last);
    Ok((onnx, tried))
}

/// Quantises a run and writes `int8.onnx` and `quantisation.json`.
pub fn quantise_run(run: &Run, options: &Options) -> Result<Quantisation> {
    let split = &run.split;
    let spread = |side: Side, n: usize| -> Vec<data::Entry> {
        let all = split.entries(side);
        let every = (all.len() as f64 / n.max(1) as f64).max(1.0);
        (0..n.min(all.len())).map(|i| all[(i as f64 * every) as usize].clone()).collect()
    };
    let load = |entries: &[data::Entry]| data::load(&split.dataset.root, entries, run.target()?);
    let calibration = load(&spread(Side::Train, options.calibration))?;
    let choice = load(&spread(Side::Validation, options.choice))?;
    fn rgb(pictures: &[Vec<u8>]) -> Vec<&[u8]> {
        pictures.iter().map(Vec::as_slice).collect()
    }
    let (onnx, tried) = choose(&run.graph, split.dataset.task, &rgb(&calibration), &rgb(&choice), options.calibrator)?;
    let quantisation = Quantisation {
        calibration: calibration.len(),
        choice: choice.len(),
        tried,
        bytes: onnx.len(),
        graph_sha256: data::hex_hash(&onnx),
    };
    run_folder::write_file(&run.file("int8.onnx"), &onnx)?;
    run_folder::write_json(&run.file("quantisation.json"), &quantisation)?;
    print(&quantisation);
    Ok(quantisation)
}

fn print(q: &Quantisation) {
    println!("{:>40}{:>12}{:>12}", "int8, on validation", "agreement", "mean |dp|");
    let taken = q.tried.len() - 1;
    for (i, c) in q.tried.iter().enumerate() {
        println!(
            "{:>40}{:>11.1}%{:>12.4}{}",
            c.name(),
            100.0 * c.agreement,
            c.mean_dp,
            if i == taken { "  taken" } else { "" }
        );
    }
}

/// Quantises a finished run.
pub fn run(args: &Quantise) -> Result<()> {
    quantise_run(&Run::open(&args.run)?, &args.options).map(drop)
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
