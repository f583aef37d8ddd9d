//! Two operators with gradients of their own: depthwise convolution and batch normalisation with its activation, over NHWC.
//!
//! Knows no network. burn's grouped convolution computes weight gradients group by group, which makes a depthwise network
//! several times slower than it need be; these loops go over memory once, in parallel over pictures. Sums are taken in a
//! fixed order, so that the same run gives the same bits.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// A 3x3 depthwise convolution, padding 1.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Pictures.
    pub batch: usize,
    /// Side of the square input.
    pub side: usize,
    /// Channels.
    pub channels: usize,
    /// 1 or 2.
    pub stride: usize,
}

impl Geometry {
    /// Side of the square output.
    pub fn output(&self) -> usize {
        (self.side - 1) / self.stride + 1
    }
}

/// Running mean and variance per channel, updated by each training step.
#[derive(Clone, Debug)]
pub struct Running(Arc<Mutex<(Vec<f32>, Vec<f32>)>>);

impl Running {
    /// Statistics of `channels` standard normal channels.
    pub fn new(channels: usize) -> Self {
        Self::from_parts(vec![0.0; channels], vec![1.0; channels])
    }

    /// Statistics as they were saved.
    pub fn from_parts(mean: Vec<f32>, variance: Vec<f32>) -> Self {
        Self(Arc::new(Mutex::new((mean, variance))))
    }

    /// Mean and variance.
    pub fn get(&self) -> (Vec<f32>, Vec<f32>) {
        self.0.lock().expect("no thread panics while it holds this").clone()
    }

    fn update(&self, mean: &[f32], variance: &[f32]) {
        const KEEP: f32 = 0.9;
        let mut held = self.0.lock().expect("no thread panics while it holds this");
        let mix =
            |old: &mut [f32], new: &[f32]| old.iter_mut().zip(new).for_each(|(o, n)| *o = KEEP * *o + (1.0 - KEEP) * n);
        mix(&mut held.0, mean);
        mix(&mut held.1, variance);
    }
}

/// Added to a variance before its root is taken.
pub const EPSILON: f32 = 1e-3;

type Flat = burn::backend::flex::FlexTensor;

#[backend_extension(Flex, Autodiff)]
trait LayerOps: Backend {
    fn depthwise(x: FloatTensor<Self>, w: FloatTensor<Self>, g: Geometry) -> FloatTensor<Self>;
    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        relu6: bool,
        running: Running,
    ) -> FloatTensor<Self>;
}

/// Depthwise convolution. `x`: `[batch * side * side, channels]`, `w`: `[9, channels]`; returns `[batch * out * out, channels]`.
pub fn depthwise(x: Tensor<2>, w: Tensor<2>, g: Geometry) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as LayerOps>::depthwise(x.into_dispatch(), w.into_dispatch(), g))
}

/// Batch normalisation over the rows of `x`, then ReLU6 if wanted. `x`: `[rows, channels]`, `gamma`, `beta`: `[1, channels]`.
pub fn norm(x: Tensor<2>, gamma: Tensor<2>, beta: Tensor<2>, relu6: bool, running: &Running) -> Tensor<2> {
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LayerOps>::norm(x, gamma, beta, relu6, running.clone()))
}

fn flat(values: Vec<f32>, shape: [usize; 2]) -> Flat {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

fn slice(t: &Flat) -> &[f32] {
    t.as_slice::<f32>().expect("operands were made contiguous")
}

/// Rows of one partial sum: few enough to spread over cores, many enough to be worth it.
const ROWS: usize = 2048;

/// Sums `n` values over all chunks of rows, each chunk in parallel, the chunks in order.
fn sums(rows: usize, n: usize, chunk: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (0..rows.div_ceil(ROWS))
        .into_par_iter()
        .map(|i| {
            let mut part = vec![0.0; n];
            chunk(i * ROWS..((i + 1) * ROWS).min(rows), &mut part);
            part
        })
        .collect();
    let mut total = vec![0f64; n];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p as f64);
    }
    total.into_iter().map(|t| t as f32).collect()
}

/// Calls `f(output row and column start, input start, tap)` for all pairs that a tap connects in one picture.
fn taps(g: Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let (side, out, c) = (g.side, g.output(), g.channels);
    for oy in 0..out {
        for ky in 0..3 {
            let y = (oy * g.stride + ky).wrapping_sub(1);
            if y >= side {
                continue;
            }
            for ox in 0..out {
                for kx in 0..3 {
                    let x = (ox * g.stride + kx).wrapping_sub(1);
                    if x < side {
                        f((oy * out + ox) * c, (y * side + x) * c, (ky * 3 + kx) * c);
                    }
                }
            }
        }
    }
}

fn depthwise_forward(x: &[f32], w: &[f32], g: Geometry) -> Vec<f32> {
    let (c, inner, outer) = (g.channels, g.side * g.side * g.channels, g.output() * g.output() * g.channels);
    let mut y = vec![0.0; g.batch * outer];
    y.par_chunks_mut(outer).zip(x.par_chunks(inner)).for_each(|(y, x)| {
        taps(g, |o, i, t| {
            let (y, x, w) = (&mut y[o..o + c], &x[i..i + c], &w[t..t + c]);
            for l in 0..c {
                y[l] += x[l] * w[l];
            }
        });
    });
    y
}

fn depthwise_backward(x: &[f32], w: &[f32], dy: &[f32], g: Geometry) -> (Vec<f32>, Vec<f32>) {
    let (c, inner, outer) = (g.channels, g.side * g.side * g.channels, g.output() * g.output() * g.channels);
    let mut dx = vec![0.0; g.batch * inner];
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(inner)
        .zip(x.par_chunks(inner).zip(dy.par_chunks(outer)))
        .map(|(dx, (x, dy))| {
            let mut dw = vec![0.0; 9 * c];
            taps(g, |o, i, t| {
                let (dy, x, w) = (&dy[o..o + c], &x[i..i + c], &w[t..t + c]);
                let (dx, dw) = (&mut dx[i..i + c], &mut dw[t..t + c]);
                for l in 0..c {
                    dx[l] += dy[l] * w[l];
                    dw[l] += dy[l] * x[l];
                }
            });
            dw
        })
        .collect();
    let mut dw = vec![0.0; 9 * c];
    parts.iter().for_each(|p| dw.iter_mut().zip(p).for_each(|(t, p)| *t += p));
    (dx, dw)
}

/// What the backward pass of [`norm`] needs.
#[derive(Clone, Debug)]
struct Normed {
    x: Flat,
    y: Flat,
    gamma: Vec<f32>,
    mean: Vec<f32>,
    inverse: Vec<f32>,
    relu6: bool,
}

fn norm_forward(x: Flat, gamma: &Flat, beta: &Flat, relu6: bool, running: &Running) -> Normed {
    let (values, gamma, beta) = (slice(&x), slice(gamma).to_vec(), slice(beta).to_vec());
    let c = gamma.len();
    let rows = values.len() / c;
    let mean = sums(rows, c, |range, part| {
        for row in values[range.start * c..range.end * c].chunks_exact(c) {
            part.iter_mut().zip(row).for_each(|(p, v)| *p += v);
        }
    });
    let mean: Vec<f32> = mean.into_iter().map(|m| m / rows as f32).collect();
    let variance = sums(rows, c, |range, part| {
        for row in values[range.start * c..range.end * c].chunks_exact(c) {
            for l in 0..c {
                part[l] += (row[l] - mean[l]) * (row[l] - mean[l]);
            }
        }
    });
    let variance: Vec<f32> = variance.into_iter().map(|v| v / rows as f32).collect();
    running.update(&mean, &variance);
    let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    let high = if relu6 { 6.0 } else { f32::INFINITY };
    let low = if relu6 { 0.0 } else { f32::NEG_INFINITY };
    let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
    let shift: Vec<f32> = (0..c).map(|l| beta[l] - mean[l] * scale[l]).collect();
    let mut y = vec![0.0; values.len()];
    y.par_chunks_mut(ROWS * c).zip(values.par_chunks(ROWS * c)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for l in 0..c {
                y[l] = (x[l] * scale[l] + shift[l]).max(low).min(high);
            }
        }
    });
    let y = flat(y, [rows, c]);
    Normed { x, y, gamma, mean, inverse, relu6 }
}

/// Gradients of `x`, `gamma` and `beta`.
fn norm_backward(n: &Normed, dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (x, y, c) = (slice(&n.x), slice(&n.y), n.gamma.len());
    let rows = x.len() / c;
    let open = |y: f32| !n.relu6 || (y > 0.0 && y < 6.0);
    let both = sums(rows, 2 * c, |range, part| {
        let (dgamma, dbeta) = part.split_at_mut(c);
        for r in range {
            let (x, y, dy) = (&x[r * c..][..c], &y[r * c..][..c], &dy[r * c..][..c]);
            for l in 0..c {
                let d = if open(y[l]) { dy[l] } else { 0.0 };
                dgamma[l] += d * (x[l] - n.mean[l]) * n.inverse[l];
                dbeta[l] += d;
            }
        }
    });
    let (dgamma, dbeta) = both.split_at(c);
    let rows_f = rows as f32;
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(ROWS * c).enumerate().for_each(|(i, dx)| {
        let start = i * ROWS * c;
        for (r, dx) in dx.chunks_exact_mut(c).enumerate() {
            let at = start + r * c;
            let (x, y, dy) = (&x[at..at + c], &y[at..at + c], &dy[at..at + c]);
            for l in 0..c {
                let d = if open(y[l]) { dy[l] } else { 0.0 };
                let normal = (x[l] - n.mean[l]) * n.inverse[l];
                dx[l] = n.gamma[l] * n.inverse[l] * (d - (dbeta[l] + normal * dgamma[l]) / rows_f);
            }
        }
    });
    (dx, dgamma.to_vec(), dbeta.to_vec())
}

impl LayerOps for Flex {
    fn depthwise(x: FloatTensor<Self>, w: FloatTensor<Self>, g: Geometry) -> FloatTensor<Self> {
        let (x, w) = (x.to_contiguous(), w.to_contiguous());
        flat(depthwise_forward(slice(&x), slice(&w), g), [g.batch * g.output() * g.output(), g.channels])
    }

    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        relu6: bool,
        running: Running,
    ) -> FloatTensor<Self> {
        norm_forward(x.to_contiguous(), &gamma.to_contiguous(), &beta.to_contiguous(), relu6, &running).y
    }
}

#[derive(Debug)]
struct DepthwiseBackward;

impl Backward<Flex, 2> for DepthwiseBackward {
    type State = (Flat, Flat, Geometry);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, w, g) = ops.state;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (dx, dw) = depthwise_backward(slice(&x), slice(&w), slice(&dy), g);
        let [px, pw] = ops.parents;
        if let Some(p) = px {
            grads.register::<Flex>(p.id, flat(dx, [g.batch * g.side * g.side, g.channels]));
        }
        if let Some(p) = pw {
            grads.register::<Flex>(p.id, flat(dw, [9, g.channels]));
        }
    }
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = Normed;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let n = ops.state;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (dx, dgamma, dbeta) = norm_backward(&n, slice(&dy));
        let c = n.gamma.len();
        let rows = dx.len() / c;
        for (parent, (values, rows)) in ops.parents.into_iter().zip([(dx, rows), (dgamma, 1), (dbeta, 1)]) {
            if let Some(p) = parent {
                grads.register::<Flex>(p.id, flat(values, [rows, c]));
            }
        }
    }
}

impl<C: CheckpointStrategy> LayerOps for Autodiff<Flex, C> {
    fn depthwise(x: FloatTensor<Self>, w: FloatTensor<Self>, g: Geometry) -> FloatTensor<Self> {
        let prepared = DepthwiseBackward.prepare::<C>([x.node(), w.node()]).compute_bound().stateful();
        let (x, w) = (x.primitive().to_contiguous(), w.primitive().to_contiguous());
        let y = flat(depthwise_forward(slice(&x), slice(&w), g), [g.batch * g.output() * g.output(), g.channels]);
        match prepared {
            OpsKind::Tracked(p) => p.finish((x, w, g), y),
            OpsKind::UnTracked(p) => p.finish(y),
        }
    }

    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        relu6: bool,
        running: Running,
    ) -> FloatTensor<Self> {
        let prepared = NormBackward.prepare::<C>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful();
        let (gamma, beta) = (gamma.primitive().to_contiguous(), beta.primitive().to_contiguous());
        let normed = norm_forward(x.primitive().to_contiguous(), &gamma, &beta, relu6, &running);
        let y = normed.y.clone();
        match prepared {
            OpsKind::Tracked(p) => p.finish(normed, y),
            OpsKind::UnTracked(p) => p.finish(y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut r = tagpin::scene::Random::new(seed, 0);
        (0..n).map(|_| r.range(-1000, 1000) as f32 / 500.0).collect()
    }

    /// A derivative by central difference of the sum of `weights * f(v)`.
    fn check(v: &[f32], weights: &[f32], f: impl Fn(&[f32]) -> Vec<f32>, gradient: &[f32]) {
        let loss = |v: &[f32]| -> f64 { f(v).iter().zip(weights).map(|(y, w)| *y as f64 * *w as f64).sum() };
        for i in (0..v.len()).step_by(v.len() / 23 + 1) {
            let (mut a, mut b) = (v.to_vec(), v.to_vec());
            a[i] += 1e-2;
            b[i] -= 1e-2;
            let want = (loss(&a) - loss(&b)) / (a[i] - b[i]) as f64;
            assert!((gradient[i] as f64 - want).abs() < 2e-2 * (1.0 + want.abs()), "at {i}: {} for {want}", gradient[i]);
        }
    }

    #[test]
    fn depthwise_gradients_match_differences() {
        for stride in [1, 2] {
            let g = Geometry { batch: 2, side: 5, channels: 3, stride };
            let (x, w) = (values(2 * 25 * 3, 1), values(27, 2));
            let dy = values(2 * g.output() * g.output() * 3, 3);
            let (dx, dw) = depthwise_backward(&x, &w, &dy, g);
            check(&x, &dy, |x| depthwise_forward(x, &w, g), &dx);
            check(&w, &dy, |w| depthwise_forward(&x, w, g), &dw);
        }
    }

    #[test]
    fn norm_gradients_match_differences() {
        let (x, gamma, beta, dy) = (values(40 * 3, 4), vec![1.0, 0.5, 1.5], vec![0.1, 0.2, -0.1], values(40 * 3, 5));
        let run = |x: &[f32], gamma: &[f32], beta: &[f32]| {
            let (g, b) = (flat(gamma.to_vec(), [1, 3]), flat(beta.to_vec(), [1, 3]));
            norm_forward(flat(x.to_vec(), [40, 3]), &g, &b, false, &Running::new(3))
        };
        let (dx, dgamma, dbeta) = norm_backward(&run(&x, &gamma, &beta), &dy);
        let y = |n: Normed| slice(&n.y).to_vec();
        check(&x, &dy, |x| y(run(x, &gamma, &beta)), &dx);
        check(&gamma, &dy, |gamma| y(run(&x, gamma, &beta)), &dgamma);
        check(&beta, &dy, |beta| y(run(&x, &gamma, beta)), &dbeta);
    }
}
