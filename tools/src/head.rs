//! The last layer, learnt on a frozen backbone's features: logistic regression, its regularisation chosen on validation.
//!
//! Does not know pictures or int8.

use crate::data::TaskName;
use crate::graph::Linear;
use crate::metrics;
use anyhow::{Context, Result, bail};
use linfa::prelude::*;
use linfa_logistic::{LogisticRegression, MultiLogisticRegression};
use ndarray::{Array1, Array2};
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
    /// In terms of the raw features.
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
/// Length of the loss's gradient, summed over all pictures, at which it counts as flat.
const FLAT: f64 = 0.1;

/// Learns from `train`, chooses the penalty with the least log loss on `validation`.
pub fn fit(train: &Examples<'_>, validation: &Examples<'_>, tags: usize, task: TaskName) -> Result<Fitted> {
    let standard = Standard::of(train.features)?;
    let x = standard.apply(train.features);
    let bar = crate::progress::bar("head", PENALTIES.len() as u64);
    let mut tried: Vec<(f32, f64, f64, Linear)> = PENALTIES
        .into_par_iter()
        .map(|penalty| {
            let linear = standard.undo(&one(&x, train.tags, tags, task, penalty)?, tags);
            let logits: Vec<Vec<f32>> = validation.features.iter().map(|f| apply(&linear, f)).collect();
            let loss = metrics::log_loss(&logits, validation.tags, task, 1.0);
            let right = metrics::right(&logits, validation.tags, task);
            bar.inc(1);
            Ok((penalty, loss, right, linear))
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let best = (0..tried.len()).min_by(|&a, &b| tried[a].1.total_cmp(&tried[b].1)).context("no penalty was tried")?;
    let list = tried.iter().map(|(p, l, r, _)| (*p, *l, *r)).collect();
    let (penalty, _, _, linear) = tried.swap_remove(best);
    Ok(Fitted { linear, penalty, tried: list })
}

/// Learns from `train` with a given penalty.
pub fn fit_one(train: &Examples<'_>, tags: usize, task: TaskName, penalty: f32) -> Result<Linear> {
    let standard = Standard::of(train.features)?;
    Ok(standard.undo(&one(&standard.apply(train.features), train.tags, tags, task, penalty)?, tags))
}

/// Logits of one feature vector.
pub fn apply(linear: &Linear, features: &[f32]) -> Vec<f32> {
    let row = |o: usize| &linear.weights[o * linear.inputs..][..linear.inputs];
    let dot = |o: usize| row(o).iter().zip(features).map(|(w, x)| w * x).sum::<f32>() + linear.bias[o];
    (0..linear.outputs).map(dot).collect()
}

/// Each feature's mean and deviation over the training pictures.
struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    fn of(rows: &[Vec<f32>]) -> Result<Self> {
        let Some(first) = rows.first() else { bail!("there are no training pictures") };
        let n = rows.len() as f64;
        let over = |f: &dyn Fn(&[f32], usize) -> f64| -> Vec<f64> {
            (0..first.len()).map(|i| rows.iter().map(|r| f(r, i)).sum::<f64>() / n).collect()
        };
        let mean = over(&|r, i| r[i] as f64);
        let variance = over(&|r, i| (r[i] as f64 - mean[i]).powi(2));
        Ok(Self {
            mean: mean.iter().map(|&m| m as f32).collect(),
            // A feature that never changes tells nothing; its weight stays near 0.
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

/// `[features + 1, tags]`, the last row the bias.
///
/// In f64: the line search of L-BFGS compares sums over all pictures, which in f32 end it early.
fn one(x: &Array2<f64>, truth: &[Vec<usize>], tags: usize, task: TaskName, penalty: f32) -> Result<Array2<f64>> {
    let n = x.ncols();
    let mut out = Array2::zeros((n + 1, tags));
    match task {
        TaskName::Multiclass => {
            let y = Array1::from_iter(truth.iter().map(|t| t[0]));
            let data = DatasetBase::new(x.view(), y);
            let fitted = MultiLogisticRegression::default()
                .alpha(penalty as f64)
                .max_iterations(STEPS)
                .gradient_tolerance(FLAT)
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
                let data = DatasetBase::new(x.view(), y);
                let fitted = LogisticRegression::default()
                    .alpha(penalty as f64)
                    .max_iterations(STEPS)
                    .gradient_tolerance(FLAT)
                    .fit(&data)
                    .map_err(|e| {
                        anyhow::anyhow!("logistic regression of tag {tag}: {e}; it needs pictures with and without it")
                    })?;
                // The library takes the rarer label as negative; this turns the score to "has the tag".
                let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
                out.column_mut(tag).slice_mut(ndarray::s![..n]).assign(&(fitted.params() * sign));
                out[[n, tag]] = fitted.intercept() * sign;
            }
        }
    }
    Ok(out)
}
