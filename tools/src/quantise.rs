//! Post-training quantisation: per-channel int8 weights, int8 activations calibrated on training pictures only.
//!
//! Does not train and does not judge; `evaluate` does.

use crate::dataset::Dataset;
use crate::network::{self, Network, Place, SIDE};
use crate::onnx::{self, Quant, QuantLayer, Quantised};
use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Quantise a trained network to int8.
#[derive(clap::Args, Clone, Debug)]
pub struct Quantise {
    /// Run folder made by `train`; `int8.onnx` and `float.onnx` are written into it.
    pub run: PathBuf,
    /// Folder of the training pictures: calibration must not see others.
    #[arg(long)]
    pub data: PathBuf,
    /// Pictures to calibrate on, spread over all tags.
    #[arg(long, default_value_t = 400)]
    pub pictures: usize,
    /// Share of the largest activations, in thousandths of a percent, that may be clipped.
    #[arg(long, default_value_t = 1)]
    pub clip: u32,
}

/// Bins of an activation's histogram.
const BINS: usize = 4096;

/// Smallest and largest values and a histogram of them, over pictures.
#[derive(Clone)]
struct Seen {
    bins: Vec<u64>,
    top: f32,
}

/// The step and zero point of what the picture's table holds: the whole range of 0..=255.
pub fn input_quant() -> Quant {
    let (lo, hi) = ((0.0 - network::MEAN) / network::STD, (1.0 - network::MEAN) / network::STD);
    let scale = (hi - lo) / 255.0;
    Quant { scale, zero_point: (-128.0 - lo / scale).round_ties_even() as i8 }
}

/// Chooses steps from `pictures` and quantises the weights.
pub fn quantise(network: &Network, pictures: &[&[u8]], clip: u32) -> Quantised {
    let tops: BTreeMap<Place, f32> = pictures
        .par_iter()
        .map(|rgb| {
            let mut tops = BTreeMap::new();
            network.infer(&network::normalise(rgb), |a| {
                tops.insert(a.place, a.values.iter().copied().fold(0.0, f32::max));
            });
            tops
        })
        .reduce(BTreeMap::new, |mut a, b| {
            for (place, top) in b {
                let held = a.entry(place).or_insert(top);
                *held = held.max(top);
            }
            a
        });
    // Values are never negative: each layer ends in ReLU6, sums and averages are of such values.
    let bar = crate::progress::bar("calibrating", pictures.len() as u64);
    let empty =
        || tops.iter().map(|(p, t)| (*p, Seen { bins: vec![0; BINS], top: t.max(1e-6) })).collect::<BTreeMap<_, _>>();
    let seen = pictures
        .par_iter()
        .fold(empty, |mut seen, rgb| {
            network.infer(&network::normalise(rgb), |a| {
                let s = seen.get_mut(&a.place).expect("all places were seen before");
                for v in a.values {
                    s.bins[((v / s.top * (BINS - 1) as f32) as usize).min(BINS - 1)] += 1;
                }
            });
            bar.inc(1);
            seen
        })
        .reduce(empty, |mut a, b| {
            a.iter_mut().for_each(|(p, s)| s.bins.iter_mut().zip(&b[p].bins).for_each(|(x, y)| *x += y));
            a
        });
    bar.finish_and_clear();
    let places: BTreeMap<Place, Quant> = seen
        .iter()
        .map(|(p, s)| {
            let all: u64 = s.bins.iter().sum();
            let mut allowed = all as f64 * clip as f64 / 1e5;
            let mut bin = BINS - 1;
            while bin > BINS / 4 && allowed >= s.bins[bin] as f64 {
                allowed -= s.bins[bin] as f64;
                bin -= 1;
            }
            let top = s.top * (bin + 1) as f32 / BINS as f32;
            (*p, Quant { scale: top / 255.0, zero_point: -128 })
        })
        .collect();
    let input = input_quant();
    let mut step = input.scale;
    let mut layers = Vec::new();
    for (i, l) in network.layers.iter().enumerate() {
        layers.push(weights(&l.weights, &l.bias, l.output, step));
        let after = places.get(&Place::Sum(i)).or_else(|| places.get(&Place::Layer(i)));
        step = after.expect("each layer was calibrated").scale;
    }
    let head = weights(&network.head_weights, &network.head_bias, network.tags.len(), places[&Place::Average].scale);
    Quantised { input, places, layers, head }
}

/// Symmetric int8 weights, one step an output. `weights`: `[taps, outputs]`; `input`: the input's step.
fn weights(weights: &[f32], bias: &[f32], outputs: usize, input: f32) -> QuantLayer {
    let mut scales = vec![0f32; outputs];
    weights.iter().enumerate().for_each(|(i, w)| scales[i % outputs] = scales[i % outputs].max(w.abs() / 127.0));
    // A channel of zeros, or one so small that its bias would not fit an i32, gets a larger step.
    for (s, b) in scales.iter_mut().zip(bias) {
        *s = s.max(b.abs() / input / 1e9).max(1e-9);
    }
    QuantLayer {
        weights: weights
            .iter()
            .enumerate()
            .map(|(i, w)| (w / scales[i % outputs]).round_ties_even().clamp(-127.0, 127.0) as i8)
            .collect(),
        bias: bias.iter().zip(&scales).map(|(b, s)| (b / (input * s)).round_ties_even() as i32).collect(),
        scales,
    }
}

/// Writes `float.onnx` and `int8.onnx` into the run folder.
pub fn run(args: &Quantise) -> Result<()> {
    let network = crate::train::load(&args.run)?;
    let data = Dataset::load(&args.data, SIDE as u16)?;
    if data.tags != network.tags {
        bail!("{} has tags {:?}, the network {:?}", args.data.display(), data.tags, network.tags);
    }
    let every = (data.samples.len() / args.pictures.max(1)).max(1);
    let pictures: Vec<&[u8]> = data.samples.iter().step_by(every).map(|s| s.rgb.as_slice()).collect();
    let quantised = quantise(&network, &pictures, args.clip);
    for (name, bytes) in
        [("float.onnx", onnx::write(&network, None)), ("int8.onnx", onnx::write(&network, Some(&quantised)))]
    {
        let path = args.run.join(name);
        std::fs::write(&path, &bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{} ({} KB)", path.display(), bytes.len() / 1024);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_sign_and_largest_value() {
        let q = weights(&[1.0, -0.5, -2.0, 0.25], &[0.1, -0.1], 2, 0.01);
        assert_eq!(q.weights, [64, -127, -127, 64]);
        assert_eq!(q.bias[0], (0.1 / (0.01 * q.scales[0])).round() as i32);
    }

    #[test]
    fn the_input_step_covers_all_bytes_once() {
        let q = input_quant();
        let of = |v: u8| tagpin::quant::quantise(network::normalise(&[v])[0], q.scale, q.zero_point);
        let all: std::collections::BTreeSet<i8> = (0..=255).map(of).collect();
        assert_eq!((all.len(), of(0), of(255)), (256, -128, 127));
    }
}
