//! The last layer: a logistic regression trained on a frozen backbone's features, with the penalty
//! (L2) that has the least log loss on validation.

use crate::data::TaskName;
pub use crate::graph::Linear;
use crate::metrics;
use anyhow::{Context, Result, bail};
use linfa::prelude::*;
use linfa_logistic::{LogisticRegression, MultiLogisticRegression};
use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;

/// Features with their tags.
pub struct Examples<'a> {
    /// `[n][features]`.
    pub features: &'a [Vec<f32>],
    /// `[n]`: tags of each.
    pub tags: &'a [Vec<usize>],
}

/// A fitted head and how it was chosen.
pub struct Fitted {
    /// For raw (not standardised) features.
    pub linear: Linear,
    /// The penalty on squared weights that was chosen.
    pub penalty: f32,
    /// Each penalty tried, with its validation loss (mean log loss) and share of right answers.
    pub tried: Vec<(f32, f64, f64)>,
}

/// Penalties tried on standardised features, where 1/penalty is scikit-learn's C.
const PENALTIES: [f32; 8] = [3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0];
/// Most steps of L-BFGS; the loss is flat long before.
const STEPS: u64 = 200;
/// Length of the loss's gradient, summed over all images, at which it counts as flat.
pub const FLAT: f64 = 0.1;

/// A penalty and its fit.
struct Tried {
    penalty: f32,
    /// Log loss on validation, as [`ChosenBy`] says.
    loss: f64,
    /// Share right on validation.
    right: f64,
    linear: Linear,
}

/// The loss by which a penalty is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// Mean log loss over the images.
    Images,
    /// Mean log loss over the tags, rare and frequent ones alike.
    Tags,
}

/// Trains on `train` and chooses the penalty with the least log loss on `validation`. Penalties are
/// tried two at a time, strongest first, until weaker ones are no better: the weakest take longest.
pub fn fit(train: &Examples<'_>, validation: &Examples<'_>, tags: usize, task: TaskName, by: ChosenBy) -> Result<Fitted> {
    let standard = Standard::of(train.features)?;
    let x = standard.apply(train.features);
    let bar = crate::progress::bar("head", PENALTIES.len() as u64);
    let judge = |penalty: f32, start: Option<&Array2<f64>>| -> Result<(Array2<f64>, Tried)> {
        let fitted = one(&x, train.tags, tags, task, Search { penalty, flat: FLAT, start })?;
        let linear = standard.undo(&fitted, tags);
        let logits: Vec<Vec<f32>> = validation.features.iter().map(|f| apply(&linear, f)).collect();
        let loss = match by {
            ChosenBy::Images => metrics::log_loss(&logits, validation.tags, task, 1.0),
            ChosenBy::Tags => metrics::balanced_log_loss(&logits, validation.tags, task),
        };
        let right = metrics::right(&logits, validation.tags, task);
        bar.inc(1);
        Ok((fitted, Tried { penalty, loss, right, linear }))
    };
    let mut tried: Vec<Tried> = Vec::new();
    let best = |tried: &[Tried]| (0..tried.len()).min_by(|&a, &b| tried[a].loss.total_cmp(&tried[b].loss));
    let mut start = None;
    for two in PENALTIES.chunks(2) {
        let more: Vec<_> = two.par_iter().map(|&p| judge(p, start.as_ref())).collect::<Result<_>>()?;
        for (fitted, one) in more {
            start = Some(fitted);
            tried.push(one);
        }
        if best(&tried).is_some_and(|b| b + 1 < tried.len()) {
            break;
        }
    }
    bar.finish_and_clear();
    let list = tried.iter().map(|t| (t.penalty, t.loss, t.right)).collect();
    let Tried { penalty, linear, .. } = tried.swap_remove(best(&tried).context("no penalty was tried")?);
    Ok(Fitted { linear, penalty, tried: list })
}

/// Trains on `train` with a given penalty, until the gradient is no longer than `flat`.
pub fn fit_one(train: &Examples<'_>, tags: usize, task: TaskName, penalty: f32, flat: f64) -> Result<Linear> {
    let standard = Standard::of(train.features)?;
    let fitted = one(&standard.apply(train.features), train.tags, tags, task, Search { penalty, flat, start: None })?;
    Ok(standard.undo(&fitted, tags))
}

/// Logits of one feature vector.
pub fn apply(linear: &Linear, features: &[f32]) -> Vec<f32> {
    let row = |o: usize| &linear.weights[o * linear.inputs..][..linear.inputs];
    let dot = |o: usize| row(o).iter().zip(features).map(|(w, x)| w * x).sum::<f32>() + linear.bias[o];
    (0..linear.outputs).map(dot).collect()
}

/// Each feature's mean and deviation over the training images.
struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    fn of(rows: &[Vec<f32>]) -> Result<Self> {
        let Some(first) = rows.first() else { bail!("there are no training images") };
        let n = rows.len() as f64;
        let over = |f: &dyn Fn(&[f32], usize) -> f64| -> Vec<f64> {
            (0..first.len()).map(|i| rows.iter().map(|r| f(r, i)).sum::<f64>() / n).collect()
        };
        let mean = over(&|r, i| r[i] as f64);
        let variance = over(&|r, i| (r[i] as f64 - mean[i]).powi(2));
        Ok(Self {
            mean: mean.iter().map(|&m| m as f32).collect(),
            // A constant feature carries no information; its weight stays near 0.
            deviation: variance.iter().map(|v| (v.sqrt() as f32).max(1e-6)).collect(),
        })
    }

    fn apply(&self, rows: &[Vec<f32>]) -> Array2<f64> {
        let at = |r: usize, i: usize| ((rows[r][i] - self.mean[i]) / self.deviation[i]) as f64;
        Array2::from_shape_fn((rows.len(), self.mean.len()), |(r, i)| at(r, i))
    }

    /// The head for raw features. `fitted`: `[features + 1, tags]`, the last row the bias.
    fn undo(&self, fitted: &Array2<f64>, tags: usize) -> Linear {
        let n = self.mean.len();
        let mut linear = Linear { inputs: n, outputs: tags, weights: vec![0.0; n * tags], bias: vec![0.0; tags] };
        for o in 0..tags {
            let mut bias = fitted[[n, o]];
            for i in 0..n {
                let w = fitted[[i, o]] as f32 / self.deviation[i];
                linear.weights[o * n + i] = w;
                bias -= w as f64 * self.mean[i] as f64;
            }
            linear.bias[o] = bias as f32;
        }
        linear
    }
}

/// How one fit is found.
struct Search<'a> {
    penalty: f32,
    /// Length of the gradient at which it ends.
    flat: f64,
    /// The fit of another penalty: starting there saves steps.
    start: Option<&'a Array2<f64>>,
}

/// `[features + 1, tags]`, the last row the bias.
///
/// In f64: the line search of L-BFGS compares losses totalled over all images, and in f32 their
/// rounding ends it early.
fn one(x: &Array2<f64>, truth: &[Vec<usize>], tags: usize, task: TaskName, search: Search<'_>) -> Result<Array2<f64>> {
    let Search { penalty, flat, start } = search;
    let n = x.ncols();
    let mut out = Array2::zeros((n + 1, tags));
    match task {
        TaskName::Multiclass => {
            let y = Array1::from_iter(truth.iter().map(|t| t[0]));
            let there: Vec<usize> = (0..tags).filter(|tag| truth.iter().any(|t| t[0] == *tag)).collect();
            let data = DatasetBase::new(x.view(), y);
            let fitted = MultiLogisticRegression::default()
                .alpha(penalty as f64)
                .max_iterations(STEPS)
                .gradient_tolerance(flat)
                .initial_params(start.map_or_else(|| Array2::zeros((n + 1, there.len())), |s| s.select(Axis(1), &there)))
                .fit(&data)
                .map_err(|e| anyhow::anyhow!("logistic regression: {e}"))?;
            for (column, &tag) in fitted.classes().iter().enumerate() {
                out.column_mut(tag).slice_mut(ndarray::s![..n]).assign(&fitted.params().column(column));
                out[[n, tag]] = fitted.intercept()[column];
            }
        }
        TaskName::Multilabel => {
            for tag in 0..tags {
                let y = Array1::from_iter(truth.iter().map(|t| t.contains(&tag)));
                let mostly = if 2 * y.iter().filter(|has| **has).count() > y.len() { 1.0 } else { -1.0 };
                let data = DatasetBase::new(x.view(), y);
                let fitted = LogisticRegression::default()
                    .alpha(penalty as f64)
                    .max_iterations(STEPS)
                    .gradient_tolerance(flat)
                    .initial_params(start.map_or_else(|| Array1::zeros(n + 1), |s| &s.column(tag) * mostly))
                    .fit(&data)
                    .map_err(|e| {
                        anyhow::anyhow!("logistic regression of tag {tag}: {e}; it needs images with and without it")
                    })?;
                // The library takes the rarer label as negative; this turns the score to "has the
                // tag".
                let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
                out.column_mut(tag).slice_mut(ndarray::s![..n]).assign(&(fitted.params() * sign));
                out[[n, tag]] = fitted.intercept() * sign;
            }
        }
    }
    Ok(out)
}
