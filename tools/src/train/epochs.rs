//! Training in epochs: the order of images, their augmentation, the learning rate, early stopping
//! and checkpoints. [`Tuner`] does the steps; only the nodes from `plan.first` on change.

use super::balance::{self, Balance};
use super::budget::Pace;
use super::plan::Plan;
use super::tuner::{Snapshot, Tuner, Wanted};
use crate::data::{
    self,
    split::{Side, Split},
};
use crate::graph::{Edge, Graph, Runner};
use crate::metrics;
use crate::predict;
use crate::progress::{Interrupt, Interrupted, bar};
use crate::run::Epoch;
use crate::run_folder;
use anyhow::{Context, Result, ensure};
use half::f16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tagpin::preprocess::Target;
use tagpin::random::Random;

/// What training gives.
pub enum Outcome {
    /// A network.
    Trained(Trained),
    /// Not even the fewest epochs fit the budget; they would take this many seconds.
    TooSlow(f64),
}

/// A network that was trained.
pub struct Trained {
    /// The best network.
    pub graph: Graph,
    /// Most epochs: as planned, or as the budget allows.
    pub epochs: usize,
    /// Views (changed copies) of each image, likewise.
    pub views: usize,
    /// Its share right on validation.
    pub validation: f64,
    /// All epochs.
    pub curve: Vec<Epoch>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    /// What it belongs to: settings, data and network.
    of: String,
    snapshot: Snapshot,
    best: Option<(f64, f64, Snapshot)>,
    curve: Vec<Epoch>,
    since_best: usize,
    /// Epochs and views that the budget allows.
    epochs: usize,
    views: usize,
}

/// Where training batches come from.
enum Source {
    /// Images at model size, changed anew each epoch.
    Images(Vec<Vec<u8>>),
    /// Trunk values of changed copies, `[images][views]`, in half precision.
    Views(Vec<Vec<Vec<f16>>>),
}

/// Trains the nodes of `graph` from `plan.first` on.
pub fn train(graph: &Graph, split: &Split, target: Target, plan: &Plan) -> Result<Outcome> {
    let begin = Instant::now();
    let interrupt = Interrupt::listen()?;
    let task = split.dataset.task;
    let root = &split.dataset.root;
    let (train, validation) = (split.entries(Side::Train), split.entries(Side::Validation));
    let mut tuner = Tuner::new(graph, plan.first, plan.from_nothing, task, plan.optimiser, plan.device.clone())?;
    let images: Vec<Vec<u8>> = data::load(root, &train, target)?;
    let held = data::load(root, &validation, target)?;
    let held: Vec<&[u8]> = held.iter().map(Vec::as_slice).collect();
    let truth: Vec<Vec<usize>> = train.iter().map(|e| e.tags.clone()).collect();
    let held_truth: Vec<Vec<usize>> = validation.iter().map(|e| e.tags.clone()).collect();
    let weights = plan.balance.weights(&truth, split.dataset.tags.len());
    let mut plan = plan.clone();
    let of = data::hex_hash(
        format!("{:?} {} {}", plan.identity(), split.dataset.sha256(), data::hex_hash(&crate::graph::write(graph, None)?))
            .as_bytes(),
    );
    let (mut curve, mut best, mut since_best) = (Vec::new(), None, 0);
    if plan.resume {
        let bytes = run_folder::read_file(&plan.checkpoint, "train without --resume")?;
        let kept: Checkpoint = postcard::from_bytes(&bytes)
            .with_context(|| format!("{} is damaged; begin again without --resume", plan.checkpoint.display()))?;
        ensure!(
            kept.of == of,
            "{} is of other settings, data or network; give the same command as before",
            plan.checkpoint.display()
        );
        tuner.restore(&kept.snapshot)?;
        (curve, best, since_best) = (kept.curve, kept.best, kept.since_best);
        (plan.epochs, plan.views) = (kept.epochs, kept.views);
        println!("going on after epoch {}", curve.len());
    } else if let Some(budget) = plan.budget {
        let pace = Pace::of(graph, &plan, task, &images, &held)?;
        let Some((views, epochs)) = pace.fitting(&plan, budget.saturating_sub(begin.elapsed())) else {
            return Ok(Outcome::TooSlow(pace.least(&plan)));
        };
        (plan.epochs, plan.views) = (epochs, views);
    }
    let plan = &plan;
    // The estimate may be too low, since the machine may become busy: stop at 125 % of the budget.
    let late = plan.budget.map(|budget| begin + budget.mul_f64(1.25));
    let source = source(graph, tuner.entry(), images, plan, &interrupt)?;
    let begin = Instant::now();
    let done_before = curve.len();
    for epoch in curve.len()..plan.epochs {
        if plan.patience > 0 && since_best >= plan.patience {
            println!("no better epoch in {since_best}: done");
            break;
        }
        if best.is_some() && late.is_some_and(|late| Instant::now() > late) {
            println!("the budget is over after epoch {epoch} of {}", plan.epochs);
            break;
        }
        let Some((loss, training)) = one_epoch(&mut tuner, &source, &truth, &weights, graph, epoch, plan, &interrupt)?
        else {
            return Err(Interrupted(format!(
                "interrupted in epoch {}; {}",
                epoch + 1,
                if epoch > 0 {
                    "the same command with --resume goes on after the last whole one"
                } else {
                    "nothing is kept"
                }
            ))
            .into());
        };
        let logits = predict::float(&tuner.graph(), &held)?;
        let validation_loss = metrics::log_loss(&logits, &held_truth, task, 1.0);
        let validation = metrics::right(&logits, &held_truth, task);
        curve.push(Epoch { epoch: epoch + 1, loss, validation_loss, validation, training });
        let left = begin.elapsed().as_secs_f64() / (epoch + 1 - done_before) as f64 * (plan.epochs - epoch - 1) as f64;
        println!(
            "epoch {:>3}  loss {loss:.4}  validation {validation:.4} (loss {validation_loss:.4})  {:.0?}, at most {:.0} min left",
            epoch + 1,
            begin.elapsed(),
            left / 60.0
        );
        since_best += 1;
        if best.as_ref().is_none_or(|(r, l, _)| (validation, -validation_loss) >= (*r, -*l)) {
            best = Some((validation, validation_loss, tuner.snapshot()));
            since_best = 0;
        }
        let (epochs, views) = (plan.epochs, plan.views);
        let kept = Checkpoint { of: of.clone(), snapshot: tuner.snapshot(), best, curve, since_best, epochs, views };
        run_folder::write_file(&plan.checkpoint, &postcard::to_stdvec(&kept)?)?;
        (best, curve) = (kept.best, kept.curve);
    }
    let (validation, _, snapshot) = best.context("there were no epochs")?;
    tuner.restore(&snapshot)?;
    // Its run folder is about to take its place.
    let _ = std::fs::remove_file(&plan.checkpoint);
    Ok(Outcome::Trained(Trained { graph: tuner.graph(), epochs: plan.epochs, views: plan.views, validation, curve }))
}

/// Runs one epoch. Returns its loss and share right, or `None` if it was interrupted.
#[allow(clippy::too_many_arguments)]
fn one_epoch(
    tuner: &mut Tuner,
    source: &Source,
    truth: &[Vec<usize>],
    weights: &[f32],
    graph: &Graph,
    epoch: usize,
    plan: &Plan,
    interrupt: &Interrupt,
) -> Result<Option<(f64, f64)>> {
    let order = order(truth, weights.len(), plan, epoch);
    let batch = plan.batch.min(order.len());
    let steps = order.len() / batch;
    let progress = bar("training", steps as u64).with_message(format!("epoch {}/{}", epoch + 1, plan.epochs));
    let (mut loss, mut right) = (0.0, 0.0);
    for (step, chosen) in order.chunks_exact(batch).enumerate() {
        let (done, all) = (epoch * steps + step, plan.epochs * steps);
        let warm = ((done + 1) as f64 / steps as f64).min(1.0);
        let rate = plan.rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * done as f64 / all as f64).cos());
        let inputs: Vec<Vec<f32>> = chosen
            .par_iter()
            .enumerate()
            .map(|(place, &i)| match source {
                Source::Images(images) => {
                    let stream = (epoch * order.len() + step * batch + place) as u64;
                    let changed = plan.augment.apply(&images[i], graph.side, &mut Random::new(plan.seed ^ 0xa06, stream));
                    tuner.prepare(&graph.normalise.planes(&changed))
                }
                Source::Views(views) => {
                    let view = &views[i][(epoch + i) % views[i].len()];
                    let planes: Vec<f32> = view.iter().map(|v| v.to_f32()).collect();
                    tuner.prepare(&planes)
                }
            })
            .collect();
        let tags: Vec<&[usize]> = chosen.iter().map(|&i| truth[i].as_slice()).collect();
        let (l, logits) = tuner.step(inputs.concat(), &Wanted::Tags(&tags, weights), rate);
        let owned: Vec<Vec<usize>> = tags.iter().map(|t| t.to_vec()).collect();
        right += metrics::right(&logits, &owned, tuner.task()) / steps as f64;
        loss += l as f64 / steps as f64;
        progress.inc(1);
        if interrupt.stopped() {
            progress.finish_and_clear();
            return Ok(None);
        }
    }
    progress.finish_and_clear();
    Ok(Some((loss, right)))
}

/// The order of images in this epoch; with oversampling, images of rare tags appear several times.
fn order(truth: &[Vec<usize>], tags: usize, plan: &Plan, epoch: usize) -> Vec<usize> {
    let mut random = Random::new(plan.seed, 1000 + epoch as u64);
    let mut order: Vec<usize> = (0..truth.len()).collect();
    if plan.balance == Balance::Oversample {
        let counts = balance::counts(truth, tags);
        let most = counts.iter().copied().max().unwrap_or(1);
        for (i, t) in truth.iter().enumerate() {
            // The rarest of an image's tags sets how often it is seen. The fraction left over is
            // one more time with that probability.
            let Some(rarest) = t.iter().map(|&t| counts[t]).min().filter(|n| *n > 0) else { continue };
            let more = most - rarest;
            let times = more / rarest + usize::from((random.range(0, rarest as i32 - 1) as usize) < more % rarest);
            order.extend(std::iter::repeat_n(i, times));
        }
    }
    super::shuffle(&mut order, &mut random);
    order
}

fn source(graph: &Graph, entry: Edge, images: Vec<Vec<u8>>, plan: &Plan, interrupt: &Interrupt) -> Result<Source> {
    let (Edge::Node(node), true) = (entry, plan.views > 0) else {
        ensure!(entry == Edge::Image, "training from inside a network needs --views of at least 1");
        return Ok(Source::Images(images));
    };
    let trunk = Graph { nodes: graph.nodes[..=node].to_vec(), ..graph.clone() };
    let runner = Runner::whole(&trunk)?;
    let progress = bar("trunk", (images.len() * plan.views) as u64);
    let views: Vec<Result<Vec<Vec<f16>>>> = images
        .par_iter()
        .enumerate()
        .map(|(i, rgb)| {
            let one = |view: usize| {
                if interrupt.stopped() {
                    return Err(Interrupted("interrupted before the first epoch; nothing is kept".into()).into());
                }
                // The first is the image as it is.
                let mut random = Random::new(plan.seed ^ 0x71e5, (i * plan.views + view) as u64);
                let changed = if view == 0 { rgb.clone() } else { plan.augment.apply(rgb, graph.side, &mut random) };
                let values = runner.run(&changed)?.swap_remove(0);
                progress.inc(1);
                Ok(values.into_iter().map(f16::from_f32).collect())
            };
            (0..plan.views).map(one).collect()
        })
        .collect();
    progress.finish_and_clear();
    Ok(Source::Views(views.into_iter().collect::<Result<_>>()?))
}
