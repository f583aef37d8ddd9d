//! The layers' operators for the CPU, each with a gradient of its own.
//!
//! burn's grouped convolution computes weight gradients group by group, which makes a depthwise
//! network several times slower than need be. These loops go over memory once, in parallel over
//! images. Additions have a fixed order, so that the same run gives the same bits.

use super::{EPSILON, Geometry, Rounding, Running};
use crate::graph::{Clamp, Window};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

type Flat = burn::backend::flex::FlexTensor;

#[backend_extension(Flex, Autodiff)]
trait LayerOps: Backend {
    fn depthwise(x: FloatTensor<Self>, w: FloatTensor<Self>, g: Geometry) -> FloatTensor<Self>;
    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        clamp: Clamp,
        running: Running,
    ) -> FloatTensor<Self>;
    fn bias(x: FloatTensor<Self>, bias: FloatTensor<Self>, clamp: Clamp) -> FloatTensor<Self>;
    fn rounded(x: FloatTensor<Self>, to: Rounding) -> FloatTensor<Self>;
}

/// See [`super::depthwise`].
pub fn depthwise(x: Tensor<2>, w: Tensor<2>, g: Geometry) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as LayerOps>::depthwise(x.into_dispatch(), w.into_dispatch(), g))
}

/// See [`super::norm`].
pub fn norm(x: Tensor<2>, gamma: Tensor<2>, beta: Tensor<2>, clamp: Clamp, running: &Running) -> Tensor<2> {
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LayerOps>::norm(x, gamma, beta, clamp, running.clone()))
}

/// See [`super::bias`].
pub fn bias(x: Tensor<2>, bias: Tensor<2>, clamp: Clamp) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as LayerOps>::bias(x.into_dispatch(), bias.into_dispatch(), clamp))
}

/// See [`super::rounded`] and [`super::rounded_weights`].
pub fn rounded(x: Tensor<2>, to: Rounding) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as LayerOps>::rounded(x.into_dispatch(), to))
}

fn flat(values: Vec<f32>, shape: [usize; 2]) -> Flat {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

fn slice(t: &Flat) -> &[f32] {
    t.as_slice::<f32>().expect("operands were made contiguous")
}

/// Rows per chunk: few enough to keep all cores busy, many enough to be worth a task.
const ROWS: usize = 2048;

/// Totals of `n` values over all rows: chunks are computed in parallel and added in order.
fn totals(rows: usize, n: usize, chunk: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
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

/// Calls `f(output, input, tap)`, the start of each, for every pair of pixels that a tap connects
/// in one image.
fn taps(g: Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let ([h, w], [rows, columns], c) = (g.input, g.output, g.channels);
    let Window { kernel: [ky, kx], stride: [sy, sx], pads: [top, left, ..] } = g.window;
    for oy in 0..rows {
        for ty in 0..ky {
            let y = (oy * sy + ty).wrapping_sub(top);
            if y >= h {
                continue;
            }
            for ox in 0..columns {
                for tx in 0..kx {
                    let x = (ox * sx + tx).wrapping_sub(left);
                    if x < w {
                        f((oy * columns + ox) * c, (y * w + x) * c, (ty * kx + tx) * c);
                    }
                }
            }
        }
    }
}

fn depthwise_forward(x: &[f32], w: &[f32], g: Geometry) -> Vec<f32> {
    let (c, inner, outer) = (g.channels, g.inner(), g.outer());
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
    let (c, inner, outer) = (g.channels, g.inner(), g.outer());
    let mut dx = vec![0.0; g.batch * inner];
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(inner)
        .zip(x.par_chunks(inner).zip(dy.par_chunks(outer)))
        .map(|(dx, (x, dy))| {
            let mut dw = vec![0.0; w.len()];
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
    let mut dw = vec![0.0; w.len()];
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
    clamp: Clamp,
}

fn norm_forward(x: Flat, gamma: &Flat, beta: &Flat, clamp: Clamp, running: &Running) -> Normed {
    let (values, gamma, beta) = (slice(&x), slice(gamma).to_vec(), slice(beta).to_vec());
    let c = gamma.len();
    let rows = values.len() / c;
    let mean = totals(rows, c, |range, part| {
        for row in values[range.start * c..range.end * c].chunks_exact(c) {
            part.iter_mut().zip(row).for_each(|(p, v)| *p += v);
        }
    });
    let mean: Vec<f32> = mean.into_iter().map(|m| m / rows as f32).collect();
    let variance = totals(rows, c, |range, part| {
        for row in values[range.start * c..range.end * c].chunks_exact(c) {
            for l in 0..c {
                part[l] += (row[l] - mean[l]) * (row[l] - mean[l]);
            }
        }
    });
    let variance: Vec<f32> = variance.into_iter().map(|v| v / rows as f32).collect();
    running.update(&mean, &variance);
    let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    let Clamp { low, high } = clamp;
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
    Normed { x, y, gamma, mean, inverse, clamp }
}

/// Gradients of `x`, `gamma` and `beta`.
fn norm_backward(n: &Normed, dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (x, y, c) = (slice(&n.x), slice(&n.y), n.gamma.len());
    let rows = x.len() / c;
    let open = |y: f32| y > n.clamp.low && y < n.clamp.high;
    let both = totals(rows, 2 * c, |range, part| {
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

fn bias_forward(x: &Flat, bias: &Flat, clamp: Clamp) -> Flat {
    let (values, bias) = (slice(x), slice(bias));
    let c = bias.len();
    let mut y = vec![0.0; values.len()];
    y.par_chunks_mut(ROWS * c).zip(values.par_chunks(ROWS * c)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for l in 0..c {
                y[l] = (x[l] + bias[l]).max(clamp.low).min(clamp.high);
            }
        }
    });
    flat(y, [values.len() / c, c])
}

/// Gradients of `x` and the bias.
fn bias_backward(y: &[f32], dy: &[f32], c: usize, clamp: Clamp) -> (Vec<f32>, Vec<f32>) {
    let open = |y: f32| y > clamp.low && y < clamp.high;
    let dx: Vec<f32> = y.par_iter().zip(dy).with_min_len(1 << 14).map(|(y, d)| if open(*y) { *d } else { 0.0 }).collect();
    let db = totals(dx.len() / c, c, |range, part| {
        for row in dx[range.start * c..range.end * c].chunks_exact(c) {
            part.iter_mut().zip(row).for_each(|(p, v)| *p += v);
        }
    });
    (dx, db)
}

fn rounded_forward(x: &Flat, columns: usize, to: Rounding) -> Flat {
    let values = slice(x);
    let mut y = vec![0.0; values.len()];
    match to {
        Rounding::Values(q) => {
            let (low, high) = (-128.0 - q.zero_point as f32, 127.0 - q.zero_point as f32);
            y.par_iter_mut()
                .zip(values)
                .with_min_len(1 << 14)
                .for_each(|(y, x)| *y = (x / q.scale).round_ties_even().max(low).min(high) * q.scale);
        }
        Rounding::Columns => {
            let mut steps = vec![0f32; columns];
            for row in values.chunks_exact(columns) {
                steps.iter_mut().zip(row).for_each(|(s, w)| *s = s.max(w.abs()));
            }
            steps.iter_mut().for_each(|s| *s = (*s / 127.0).max(1e-9));
            for (y, row) in y.chunks_exact_mut(columns).zip(values.chunks_exact(columns)) {
                for ((y, w), s) in y.iter_mut().zip(row).zip(&steps) {
                    *y = (w / s).round_ties_even() * s;
                }
            }
        }
    }
    flat(y, [values.len() / columns, columns])
}

fn rounded_backward(x: &[f32], dy: &[f32], to: Rounding) -> Vec<f32> {
    match to {
        Rounding::Columns => dy.to_vec(),
        Rounding::Values(q) => {
            let (low, high) = q.range();
            let inside = |x: f32| x >= low - q.scale / 2.0 && x <= high + q.scale / 2.0;
            x.par_iter().zip(dy).with_min_len(1 << 14).map(|(x, d)| if inside(*x) { *d } else { 0.0 }).collect()
        }
    }
}

impl LayerOps for Flex {
    fn rounded(x: FloatTensor<Self>, to: Rounding) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        let columns = x.layout().shape()[1];
        rounded_forward(&x, columns, to)
    }

    fn depthwise(x: FloatTensor<Self>, w: FloatTensor<Self>, g: Geometry) -> FloatTensor<Self> {
        let (x, w) = (x.to_contiguous(), w.to_contiguous());
        let y = depthwise_forward(slice(&x), slice(&w), g);
        flat(y, [g.batch * g.output[0] * g.output[1], g.channels])
    }

    fn bias(x: FloatTensor<Self>, bias: FloatTensor<Self>, clamp: Clamp) -> FloatTensor<Self> {
        bias_forward(&x.to_contiguous(), &bias.to_contiguous(), clamp)
    }

    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        clamp: Clamp,
        running: Running,
    ) -> FloatTensor<Self> {
        norm_forward(x.to_contiguous(), &gamma.to_contiguous(), &beta.to_contiguous(), clamp, &running).y
    }
}

/// Hands each parent its gradient, `[rows, columns]`, where one is wanted.
fn register<const N: usize>(grads: &mut Gradients, parents: [Option<NodeId>; N], columns: usize, gradients: [Vec<f32>; N]) {
    for (parent, values) in parents.into_iter().zip(gradients) {
        if let Some(id) = parent {
            let rows = values.len() / columns;
            grads.register::<Flex>(id, flat(values, [rows, columns]));
        }
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
        register(grads, ops.parents.map(|p| p.map(|p| p.id)), g.channels, [dx, dw]);
    }
}

#[derive(Debug)]
struct BiasBackward;

impl Backward<Flex, 2> for BiasBackward {
    type State = (Flat, usize, Clamp);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (y, c, clamp) = ops.state;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (dx, db) = bias_backward(slice(&y), slice(&dy), c, clamp);
        register(grads, ops.parents.map(|p| p.map(|p| p.id)), c, [dx, db]);
    }
}

#[derive(Debug)]
struct RoundedBackward;

impl Backward<Flex, 1> for RoundedBackward {
    type State = (Flat, usize, Rounding);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, columns, to) = ops.state;
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let dx = rounded_backward(slice(&x), slice(&dy), to);
        register(grads, ops.parents.map(|p| p.map(|p| p.id)), columns, [dx]);
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
        register(grads, ops.parents.map(|p| p.map(|p| p.id)), n.gamma.len(), [dx, dgamma, dbeta]);
    }
}

impl<C: CheckpointStrategy> LayerOps for Autodiff<Flex, C> {
    fn rounded(x: FloatTensor<Self>, to: Rounding) -> FloatTensor<Self> {
        let prepared = RoundedBackward.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = x.primitive().to_contiguous();
        let columns = x.layout().shape()[1];
        let y = rounded_forward(&x, columns, to);
        match prepared {
            OpsKind::Tracked(p) => p.finish((x, columns, to), y),
            OpsKind::UnTracked(p) => p.finish(y),
        }
    }

    fn depthwise(x: FloatTensor<Self>, w: FloatTensor<Self>, g: Geometry) -> FloatTensor<Self> {
        let prepared = DepthwiseBackward.prepare::<C>([x.node(), w.node()]).compute_bound().stateful();
        let (x, w) = (x.primitive().to_contiguous(), w.primitive().to_contiguous());
        let y = flat(depthwise_forward(slice(&x), slice(&w), g), [g.batch * g.output[0] * g.output[1], g.channels]);
        match prepared {
            OpsKind::Tracked(p) => p.finish((x, w, g), y),
            OpsKind::UnTracked(p) => p.finish(y),
        }
    }

    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        clamp: Clamp,
        running: Running,
    ) -> FloatTensor<Self> {
        let prepared = NormBackward.prepare::<C>([x.node(), gamma.node(), beta.node()]).compute_bound().stateful();
        let (gamma, beta) = (gamma.primitive().to_contiguous(), beta.primitive().to_contiguous());
        let normed = norm_forward(x.primitive().to_contiguous(), &gamma, &beta, clamp, &running);
        let y = normed.y.clone();
        match prepared {
            OpsKind::Tracked(p) => p.finish(normed, y),
            OpsKind::UnTracked(p) => p.finish(y),
        }
    }

    fn bias(x: FloatTensor<Self>, bias: FloatTensor<Self>, clamp: Clamp) -> FloatTensor<Self> {
        let prepared = BiasBackward.prepare::<C>([x.node(), bias.node()]).compute_bound().stateful();
        let bias = bias.primitive().to_contiguous();
        let c = slice(&bias).len();
        let y = bias_forward(&x.primitive().to_contiguous(), &bias, clamp);
        match prepared {
            OpsKind::Tracked(p) => p.finish((y.clone(), c, clamp), y),
            OpsKind::UnTracked(p) => p.finish(y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Quant;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut r = tagpin::random::Random::new(seed, 0);
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
        // Kernel, stride and pads of the networks that are trained: even, and uneven as SAME
        // padding makes them.
        for (k, stride, pads) in [(3, 1, [1; 4]), (3, 2, [1; 4]), (3, 2, [0, 0, 1, 1]), (5, 1, [2; 4]), (5, 2, [1, 1, 2, 2])]
        {
            let window = Window { kernel: [k, k], stride: [stride, stride], pads };
            let output = window.output([6, 5]).unwrap();
            let g = Geometry { batch: 2, input: [6, 5], output, channels: 3, window };
            let (x, w) = (values(2 * 30 * 3, 1), values(k * k * 3, 2));
            let dy = values(2 * g.outer(), 3);
            let (dx, dw) = depthwise_backward(&x, &w, &dy, g);
            check(&x, &dy, |x| depthwise_forward(x, &w, g), &dx);
            check(&w, &dy, |w| depthwise_forward(&x, w, g), &dw);
        }
    }

    #[test]
    fn bias_gradients_match_differences_inside_the_clamp() {
        let (x, b, dy) = (values(40 * 3, 6), vec![0.1, -0.2, 0.3], values(40 * 3, 7));
        let y = |x: &[f32], b: &[f32]| {
            slice(&bias_forward(&flat(x.to_vec(), [40, 3]), &flat(b.to_vec(), [1, 3]), Clamp::NONE)).to_vec()
        };
        let (dx, db) = bias_backward(&y(&x, &b), &dy, 3, Clamp::NONE);
        check(&x, &dy, |x| y(x, &b), &dx);
        check(&b, &dy, |b| y(&x, b), &db);
        let (dx, _) = bias_backward(&[0.0, 3.0, 6.0], &[1.0, 1.0, 1.0], 3, Clamp::RELU6);
        assert_eq!(dx, [0.0, 1.0, 0.0], "nothing flows through a clamped value");
    }

    #[test]
    fn rounding_keeps_to_the_steps_and_lets_gradients_through_inside_the_range() {
        let q = Quant { scale: 0.5, zero_point: -128 };
        let x = flat(vec![-3.0, 0.2, 0.3, 127.4, 127.6, 200.0], [3, 2]);
        assert_eq!(slice(&rounded_forward(&x, 2, Rounding::Values(q))), [0.0, 0.0, 0.5, 127.5, 127.5, 127.5]);
        assert_eq!(rounded_backward(slice(&x), &[1.0; 6], Rounding::Values(q)), [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        let w = rounded_forward(&flat(vec![127.0, -1.27, 0.4, 0.004], [2, 2]), 2, Rounding::Columns);
        assert!(slice(&w).iter().zip([127.0, -1.27, 0.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{w:?}");
    }

    #[test]
    fn norm_gradients_match_differences() {
        let (x, gamma, beta, dy) = (values(40 * 3, 4), vec![1.0, 0.5, 1.5], vec![0.1, 0.2, -0.1], values(40 * 3, 5));
        let run = |x: &[f32], gamma: &[f32], beta: &[f32]| {
            let (g, b) = (flat(gamma.to_vec(), [1, 3]), flat(beta.to_vec(), [1, 3]));
            norm_forward(flat(x.to_vec(), [40, 3]), &g, &b, Clamp::NONE, &Running::new(3))
        };
        let (dx, dgamma, dbeta) = norm_backward(&run(&x, &gamma, &beta), &dy);
        let y = |n: Normed| slice(&n.y).to_vec();
        check(&x, &dy, |x| y(run(x, &gamma, &beta)), &dx);
        check(&gamma, &dy, |gamma| y(run(&x, gamma, &beta)), &dgamma);
        check(&beta, &dy, |beta| y(run(&x, &gamma, beta)), &dbeta);
    }
}
