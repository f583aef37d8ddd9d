//! Trains the small depthwise network from scratch with burn on the CPU.
//!
//! Does not know quantisation or bundles: its result is a run folder with the network and the record of how it was made.

mod augment;
pub mod ops;

use crate::dataset::Dataset;
use crate::network::{self, BLOCKS, Layer, LayerKind, Network, SIDE, STEM};
use crate::progress::{Interrupt, bar};
use anyhow::{Context, Result, bail};
use burn::optim::{AdamWConfig, AdamWState, Optimizer};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use ops::{EPSILON, Geometry, Running};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tagpin::bundle::Hex;
use tagpin::scene::Random;

/// Train a network from a folder of tagged folders.
#[derive(clap::Args, Clone, Debug)]
pub struct Train {
    /// Folder with one folder of pictures a tag.
    #[arg(long)]
    pub data: PathBuf,
    /// Run folder to make; it must not exist yet.
    #[arg(long)]
    pub out: PathBuf,
    /// Times that every picture is seen.
    #[arg(long, default_value_t = 20)]
    pub epochs: usize,
    /// Pictures in one step.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Largest learning rate, reached after the first epoch and lowered along a cosine.
    #[arg(long, default_value_t = 4e-3)]
    pub rate: f64,
    /// Seed of weights, order, augmentation and split.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Share of each tag's pictures that is held out to choose the best epoch.
const VALIDATION: f64 = 0.15;

/// One normalised convolution's parameters.
struct Unit {
    kind: LayerKind,
    input: usize,
    output: usize,
    /// Indices of weights, gamma, beta in the list of parameters.
    at: usize,
    running: Running,
}

struct Trainer {
    units: Vec<Unit>,
    /// Weights, gamma, beta of each unit, then the head's weights and bias; all `[rows, columns]`.
    parameters: Vec<Tensor<2>>,
    states: Vec<Option<AdamWState<2>>>,
    device: Device,
    tags: Vec<String>,
}

impl Trainer {
    fn new(tags: &[String], seed: u64) -> Self {
        let device = Device::flex().autodiff();
        let mut random = Random::new(seed, 0x11e7);
        let mut trainer =
            Self { units: Vec::new(), parameters: Vec::new(), states: Vec::new(), device, tags: tags.to_vec() };
        let mut channels = STEM;
        trainer.unit(LayerKind::Stem, 3, STEM, &mut random);
        for b in BLOCKS {
            trainer.unit(LayerKind::Depthwise { stride: b.stride }, channels, channels, &mut random);
            trainer.unit(LayerKind::Pointwise { residual: b.residual }, channels, b.channels, &mut random);
            channels = b.channels;
        }
        trainer.normal([channels, tags.len()], (1.0 / channels as f32).sqrt(), &mut random);
        trainer.parameter(vec![0.0; tags.len()], [1, tags.len()]);
        trainer.states.resize_with(trainer.parameters.len(), || None);
        trainer
    }

    fn parameter(&mut self, values: Vec<f32>, shape: [usize; 2]) {
        self.parameters.push(Tensor::<2>::from_data(TensorData::new(values, shape), &self.device).require_grad());
    }

    /// He initialisation; a sum of twelve uniform numbers is normal enough.
    fn normal(&mut self, shape: [usize; 2], deviation: f32, random: &mut Random) {
        let one = |r: &mut Random| (0..12).map(|_| r.range(0, 1 << 16) as f32 / 65536.0).sum::<f32>() - 6.0;
        let values = (0..shape[0] * shape[1]).map(|_| one(random) * deviation).collect();
        self.parameter(values, shape);
    }

    fn unit(&mut self, kind: LayerKind, input: usize, output: usize, random: &mut Random) {
        let taps = match kind {
            LayerKind::Stem => 27,
            LayerKind::Depthwise { .. } => 9,
            LayerKind::Pointwise { .. } => input,
        };
        self.units.push(Unit { kind, input, output, at: self.parameters.len(), running: Running::new(output) });
        self.normal([taps, output], (2.0 / taps as f32).sqrt(), random);
        self.parameter(vec![1.0; output], [1, output]);
        self.parameter(vec![0.0; output], [1, output]);
    }

    /// Logits of a batch. `patches`: `[batch * (SIDE/2)^2, 27]`, the pictures as the first convolution sees them.
    fn forward(&self, patches: Tensor<2>, batch: usize) -> Tensor<2> {
        let mut x = patches;
        let mut side = SIDE / 2;
        let mut before = x.clone();
        for unit in &self.units {
            let p = |i: usize| self.parameters[unit.at + i].clone();
            let y = match unit.kind {
                LayerKind::Depthwise { stride } => {
                    before = x.clone();
                    let g = Geometry { batch, side, channels: unit.input, stride };
                    side = g.output();
                    ops::depthwise(x, p(0), g)
                }
                LayerKind::Stem | LayerKind::Pointwise { .. } => x.matmul(p(0)),
            };
            x = ops::norm(y, p(1), p(2), true, &unit.running);
            if let LayerKind::Pointwise { residual: true } = unit.kind {
                x = x + before.clone();
            }
        }
        let [rows, channels] = x.dims();
        let average = x.reshape([batch, rows / batch, channels]).mean_dim(1).reshape([batch, channels]);
        let head = self.parameters.len() - 2;
        average.matmul(self.parameters[head].clone()) + self.parameters[head + 1].clone()
    }

    /// One step on a batch; returns the mean loss.
    fn step(&mut self, patches: Vec<f32>, tags: &[usize], rate: f64) -> f32 {
        let batch = tags.len();
        let rows = patches.len() / 27;
        let patches = Tensor::<2>::from_data(TensorData::new(patches, [rows, 27]), &self.device);
        let targets: Vec<i64> = tags.iter().map(|&t| t as i64).collect();
        let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [batch, 1]), &self.device);
        let log = activation::log_softmax(self.forward(patches, batch), 1);
        // Label smoothing of 0.05 keeps logits, and so the int8 head's steps, small.
        let picked = log.clone().gather(1, targets).mean().mul_scalar(0.95);
        let loss = -(picked + log.mean().mul_scalar(0.05));
        let mut grads = loss.backward();
        let adam = AdamWConfig::new().with_weight_decay(0.02).build();
        for (parameter, state) in self.parameters.iter_mut().zip(&mut self.states) {
            let Some(grad) = parameter.grad_remove(&mut grads) else { continue };
            let (next, kept) = adam.step(rate, parameter.clone().inner(), grad, state.take());
            *state = kept;
            *parameter = next.autodiff().require_grad();
        }
        loss.into_scalar::<f32>()
    }

    fn values(&self, i: usize) -> Vec<f32> {
        let data = self.parameters[i].clone().inner().into_data();
        data.convert::<f32>().try_to_vec::<f32>().expect("parameters are f32")
    }

    /// The network with its running statistics folded into weights and biases.
    fn network(&self) -> Network {
        let layers = self.units.iter().map(|u| {
            let (mut weights, gamma, beta) = (self.values(u.at), self.values(u.at + 1), self.values(u.at + 2));
            let (mean, variance) = u.running.get();
            let scale: Vec<f32> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + EPSILON).sqrt()).collect();
            weights.iter_mut().enumerate().for_each(|(i, w)| *w *= scale[i % u.output]);
            let bias = (0..u.output).map(|c| beta[c] - mean[c] * scale[c]).collect();
            Layer { kind: u.kind, input: u.input, output: u.output, weights, bias }
        });
        let head = self.parameters.len() - 2;
        Network {
            tags: self.tags.clone(),
            layers: layers.collect(),
            head_weights: self.values(head),
            head_bias: self.values(head + 1),
        }
    }
}

/// The picture as the first convolution (3x3, stride 2, padding 1) sees it: `[(SIDE/2)^2, 27]`.
fn patches(rgb: &[u8]) -> Vec<f32> {
    let x = network::normalise(rgb);
    let out = SIDE / 2;
    let mut patches = vec![0.0; out * out * 27];
    for (o, patch) in patches.chunks_exact_mut(27).enumerate() {
        for (tap, values) in patch.chunks_exact_mut(3).enumerate() {
            let (y, x0) = ((o / out * 2 + tap / 3).wrapping_sub(1), (o % out * 2 + tap % 3).wrapping_sub(1));
            if y < SIDE && x0 < SIDE {
                values.copy_from_slice(&x[(y * SIDE + x0) * 3..][..3]);
            }
        }
    }
    patches
}

/// Trains and writes the run folder: `network.bin`, `run.json`.
pub fn run(args: &Train) -> Result<()> {
    if args.out.exists() {
        bail!("{} exists; name another folder or remove it", args.out.display());
    }
    if args.epochs == 0 || args.batch < 2 {
        bail!("--epochs {} --batch {}: expected at least 1 and 2", args.epochs, args.batch);
    }
    let interrupt = Interrupt::listen()?;
    let begin = std::time::Instant::now();
    let data = Dataset::load(&args.data, SIDE as u16)?;
    let dataset_sha256 = data.sha256();
    let (train, validation) = data.split(VALIDATION, args.seed);
    println!(
        "{} pictures to train on, {} to validate, {} tags",
        train.samples.len(),
        validation.samples.len(),
        train.tags.len()
    );
    let mut trainer = Trainer::new(&train.tags, args.seed);
    let steps = train.samples.len() / args.batch.min(train.samples.len());
    let mut best: Option<(f64, Network)> = None;
    let mut curve = Vec::new();
    for epoch in 0..args.epochs {
        let mut order: Vec<usize> = (0..train.samples.len()).collect();
        let mut random = Random::new(args.seed, 1000 + epoch as u64);
        for i in (1..order.len()).rev() {
            order.swap(i, random.range(0, i as i32) as usize);
        }
        let progress = bar("training", steps as u64).with_message(format!("epoch {}/{}", epoch + 1, args.epochs));
        let mut loss = 0.0;
        for (step, batch) in order.chunks_exact(args.batch.min(order.len())).enumerate() {
            let done = epoch * steps + step;
            let all = args.epochs * steps;
            let warm = ((done + 1) as f64 / steps as f64).min(1.0);
            let rate = args.rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * done as f64 / all as f64).cos());
            let inputs: Vec<Vec<f32>> = batch
                .par_iter()
                .map(|&i| {
                    let mut random = Random::new(args.seed ^ 0xa06, (epoch * train.samples.len() + i) as u64);
                    patches(&augment::augment(&train.samples[i].rgb, &mut random))
                })
                .collect();
            let tags: Vec<usize> = batch.iter().map(|&i| train.samples[i].tag).collect();
            loss += trainer.step(inputs.concat(), &tags, rate) as f64 / steps as f64;
            progress.inc(1);
            if interrupt.stopped() {
                break;
            }
        }
        progress.finish_and_clear();
        if interrupt.stopped() {
            eprintln!("interrupted in epoch {}; the best network so far is kept", epoch + 1);
            let network = trainer.network();
            best.get_or_insert_with(|| (accuracy(&network, &validation), network));
            break;
        }
        let network = trainer.network();
        let accuracy = accuracy(&network, &validation);
        println!("epoch {:>3}  loss {loss:.4}  validation {:.4}  {:.0?}", epoch + 1, accuracy, begin.elapsed());
        curve.push(serde_json::json!({ "epoch": epoch + 1, "loss": loss, "validation": accuracy }));
        if best.as_ref().is_none_or(|(a, _)| accuracy >= *a) {
            best = Some((accuracy, network));
        }
    }
    let Some((accuracy, network)) = best else { bail!("--epochs 0 trains nothing") };
    let record = serde_json::json!({
        "tool": concat!("tagpin-tools ", env!("CARGO_PKG_VERSION")),
        "command": std::iter::once("tagpin-tools".into()).chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" "),
        "seed": args.seed, "epochs": args.epochs, "batch": args.batch, "rate": args.rate,
        "pictures": { "train": train.samples.len(), "validation": validation.samples.len() },
        "dataset_sha256": Hex(&dataset_sha256).to_string(),
        "weights": network.weights(),
        "validation": accuracy, "curve": curve,
        "seconds": begin.elapsed().as_secs_f64(),
        "interrupted": interrupt.stopped(),
    });
    save(&args.out, &network, &record)?;
    println!("{} weights, validation {accuracy:.4}, in {}", network.weights(), args.out.display());
    Ok(())
}

/// Writes the whole run folder beside its place and then moves it there, so that it is never half made.
fn save(out: &Path, network: &Network, record: &serde_json::Value) -> Result<()> {
    let mut part = out.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    if part.exists() {
        std::fs::remove_dir_all(&part)?;
    }
    std::fs::create_dir_all(&part).with_context(|| format!("{} cannot be made", part.display()))?;
    std::fs::write(part.join("network.bin"), postcard::to_stdvec(network)?)?;
    std::fs::write(part.join("run.json"), serde_json::to_string_pretty(record)?)?;
    std::fs::rename(&part, out).with_context(|| format!("{} cannot be made", out.display()))
}

/// Reads a run folder's network.
pub fn load(run: &Path) -> Result<Network> {
    let path = run.join("network.bin");
    let bytes =
        std::fs::read(&path).with_context(|| format!("{}: expected a run folder made by `train`", path.display()))?;
    let network: Network =
        postcard::from_bytes(&bytes).with_context(|| format!("{} is damaged; train again", path.display()))?;
    network.check()?;
    Ok(network)
}

/// Share of pictures whose highest logit is their tag's.
fn accuracy(network: &Network, data: &Dataset) -> f64 {
    let pictures: Vec<&[u8]> = data.samples.iter().map(|s| s.rgb.as_slice()).collect();
    let right = network.infer_all(&pictures).iter().zip(&data.samples).filter(|(l, s)| network::best(l) == s.tag).count();
    right as f64 / data.samples.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inference folds normalisation that training applied: both must say the same once the statistics are the batch's.
    #[test]
    fn a_folded_network_computes_what_was_trained() {
        let tags = ["a".to_string(), "b".to_string()];
        let trainer = Trainer::new(&tags, 5);
        let mut r = Random::new(9, 0);
        let rgb: Vec<u8> = (0..SIDE * SIDE * 3).map(|_| r.range(0, 255) as u8).collect();
        let run = || {
            let data = TensorData::new(patches(&rgb), [SIDE * SIDE / 4, 27]);
            let logits = trainer.forward(Tensor::from_data(data, &trainer.device), 1);
            logits.inner().into_data().try_to_vec::<f32>().unwrap()
        };
        // One picture's statistics, repeated until the running ones have arrived there.
        for _ in 0..100 {
            run();
        }
        for (a, b) in run().iter().zip(trainer.network().infer(&network::normalise(&rgb), |_| {})) {
            assert!((a - b).abs() < 1e-2 * (1.0 + a.abs()), "{a} and {b}");
        }
    }
}
