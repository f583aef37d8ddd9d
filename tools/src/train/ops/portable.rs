//! The layers' operators composed of the framework's own, for every device; the framework derives
//! the gradients. For each tap of a window, the inputs are a slice of the padded images.

use super::{EPSILON, Geometry, Rounding, Running, clamped, values};
use crate::graph::Clamp;
use burn::tensor::ops::PadMode;
use burn::tensor::{Tensor, s};

/// The inputs of each tap of the window, taps by row, then column: `[batch * output pixels,
/// channels]` each.
fn taps(x: Tensor<2>, g: Geometry, outside: f32) -> impl Iterator<Item = Tensor<2>> {
    let ([h, w], [rows, columns], c) = (g.input, g.output, g.channels);
    let ([ky, kx], [sy, sx], [top, left, ..]) = (g.window.kernel, g.window.stride, g.window.pads);
    // As far as the last window reaches.
    let (down, right) = ((rows - 1) * sy + ky, (columns - 1) * sx + kx);
    let (bottom, beside) = (down.saturating_sub(top + h), right.saturating_sub(left + w));
    let mut x = x.reshape([g.batch, h, w, c]);
    if top + left + bottom + beside > 0 {
        x = x.pad([(0, 0), (top, bottom), (left, beside), (0, 0)], PadMode::Constant(outside));
    }
    (0..ky * kx).map(move |t| {
        let (y0, x0) = (t / kx, t % kx);
        let (y1, x1) = (y0 + (rows - 1) * sy + 1, x0 + (columns - 1) * sx + 1);
        let met = x.clone().slice(s![.., y0..y1;sy, x0..x1;sx, ..]);
        met.reshape([g.batch * rows * columns, c])
    })
}

fn sum(terms: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    terms.reduce(|a, b| a + b).expect("a window has at least one tap")
}

/// See [`super::depthwise`].
pub fn depthwise(x: Tensor<2>, w: Tensor<2>, g: Geometry) -> Tensor<2> {
    sum(taps(x, g, 0.0).enumerate().map(|(t, met)| met * w.clone().slice(s![t..t + 1, ..])))
}

/// See [`super::dense`].
pub fn dense(x: Tensor<2>, w: Tensor<2>, g: Geometry) -> Tensor<2> {
    let (area, outputs) = (g.window.kernel[0] * g.window.kernel[1], w.dims()[1]);
    let w = w.reshape([g.channels, area, outputs]);
    let tap = |t: usize| w.clone().slice(s![.., t..t + 1, ..]).reshape([g.channels, outputs]);
    sum(taps(x, g, 0.0).enumerate().map(|(t, met)| met.matmul(tap(t))))
}

/// See [`super::max_pool`].
pub fn max_pool(x: Tensor<2>, g: Geometry) -> Tensor<2> {
    taps(x, g, f32::MIN).reduce(Tensor::max_pair).expect("a window has at least one tap")
}

/// See [`super::norm`].
pub fn norm(x: Tensor<2>, gamma: Tensor<2>, beta: Tensor<2>, clamp: Clamp, running: &Running) -> Tensor<2> {
    let mean = x.clone().mean_dim(0);
    let centred = x - mean.clone();
    let variance = centred.clone().powi_scalar(2).mean_dim(0);
    running.update(&values(mean.inner()), &values(variance.clone().inner()));
    clamped(centred * (gamma / (variance + EPSILON).sqrt()) + beta, clamp)
}

/// See [`super::bias`].
pub fn bias(x: Tensor<2>, bias: Tensor<2>, clamp: Clamp) -> Tensor<2> {
    clamped(x + bias, clamp)
}

/// See [`super::rounded`] and [`super::rounded_weights`].
pub fn rounded(x: Tensor<2>, to: Rounding) -> Tensor<2> {
    let (inside, rounded) = match to {
        Rounding::Values(q) => {
            let ((low, high), zero, half) = (q.range(), q.zero_point as f32, q.scale / 2.0);
            let rounded = (x.clone() / q.scale).round().clamp(-128.0 - zero, 127.0 - zero) * q.scale;
            (x.clamp(low - half, high + half), rounded)
        }
        Rounding::Columns => {
            let steps = (x.clone().abs().max_dim(0) / 127.0).clamp_min(1e-9);
            (x.clone(), (x / steps.clone()).round() * steps)
        }
    };
    // The gradient takes the first way, the value the second.
    inside.clone() + (rounded - inside).detach()
}

#[cfg(test)]
mod tests {
    use super::super::flex;
    use super::*;
    use crate::graph::{Quant, Window};
    use burn::tensor::{Device, TensorData};

    /// A GPU if the tests are built for one and there is one, else the CPU.
    fn device() -> Device {
        #[cfg(feature = "wgpu")]
        match crate::train::device::DeviceName::Wgpu.open() {
            Ok(device) => return device,
            Err(why) => eprintln!("skipped on a GPU: {why:#}"),
        }
        Device::flex()
    }

    fn on(device: &Device, t: &Tensor<2>) -> Tensor<2> {
        Tensor::<2>::from_data(t.clone().inner().into_data(), &device.clone().autodiff()).require_grad()
    }

    fn tensor(shape: [usize; 2], seed: u64) -> Tensor<2> {
        let mut r = tagpin::random::Random::new(seed, 0);
        let numbers: Vec<f32> = (0..shape[0] * shape[1]).map(|_| r.range(-1000, 1000) as f32 / 500.0).collect();
        Tensor::<2>::from_data(TensorData::new(numbers, shape), &Device::flex().autodiff()).require_grad()
    }

    fn near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} {b}"));
    }

    /// Checks that both ways give the same results and the same gradients of a weighted sum of
    /// them. The first way runs on a GPU if there is one, the second on the CPU.
    fn same<const N: usize>(operands: [Tensor<2>; N], ways: [&dyn Fn([Tensor<2>; N]) -> Tensor<2>; 2]) {
        let run = |way: &dyn Fn([Tensor<2>; N]) -> Tensor<2>, device: Device| {
            let operands = operands.clone().map(|o| on(&device, &o));
            let y = way(operands.clone());
            let loss = (y.clone() * on(&device, &tensor(y.dims(), 99))).sum();
            let gradients = loss.backward();
            let of = operands.map(|o| values(o.grad(&gradients).expect("it takes part in the loss")));
            (values(y.inner()), of)
        };
        let ((y, dy), (z, dz)) = (run(ways[0], device()), run(ways[1], Device::flex()));
        near(&y, &z);
        dy.iter().zip(&dz).for_each(|(a, b)| near(a, b));
    }

    fn geometries() -> impl Iterator<Item = Geometry> {
        let windows = [(3, 1, [1; 4]), (3, 2, [0, 0, 1, 1]), (5, 2, [1, 1, 2, 2]), (2, 2, [0; 4]), (1, 2, [0; 4])];
        windows.into_iter().map(|(k, stride, pads)| {
            let window = Window { kernel: [k, k], stride: [stride, stride], pads };
            Geometry { batch: 2, input: [6, 5], output: window.output([6, 5]).unwrap(), channels: 3, window }
        })
    }

    #[test]
    fn operators_of_any_device_are_those_of_the_cpu() {
        for g in geometries() {
            let (x, w) = (tensor([60, 3], 1), tensor([g.window.kernel[0] * g.window.kernel[1], 3], 2));
            same([x, w], [&|[x, w]| depthwise(x, w, g), &|[x, w]| flex::depthwise(x, w, g)]);
        }
        let (x, gamma, beta) = (tensor([60, 3], 3), tensor([1, 3], 4), tensor([1, 3], 5));
        for clamp in [Clamp::NONE, Clamp { low: 0.0, high: f32::INFINITY }, Clamp::RELU6] {
            let (here, there) = (Running::new(3), Running::new(3));
            same(
                [x.clone(), gamma.clone(), beta.clone()],
                [&|[x, g, b]| norm(x, g, b, clamp, &here), &|[x, g, b]| flex::norm(x, g, b, clamp, &there)],
            );
            near(&here.get().1, &there.get().1);
            same([x.clone(), beta.clone()], [&|[x, b]| bias(x, b, clamp), &|[x, b]| flex::bias(x, b, clamp)]);
        }
        for to in [Rounding::Columns, Rounding::Values(Quant { scale: 0.01, zero_point: -3 })] {
            same([x.clone()], [&|[x]| rounded(x, to), &|[x]| flex::rounded(x, to)]);
        }
    }

    #[test]
    fn a_dense_convolution_and_a_maximum_are_what_they_say() {
        for g in geometries() {
            let area = g.window.kernel[0] * g.window.kernel[1];
            let (x, w) = (tensor([60, 3], 1), tensor([3 * area, 4], 2));
            let (xs, ws) = (values(x.clone().inner()), values(w.clone().inner()));
            let (convolved, most) = (values(dense(x.clone(), w, g).inner()), values(max_pool(x, g).inner()));
            let [rows, columns] = g.output;
            for o in 0..2 * rows * columns {
                let (b, oy, ox) = (o / (rows * columns), o / columns % rows, o % columns);
                let met = |t: usize, c: usize| {
                    let y = (oy * g.window.stride[0] + t / g.window.kernel[1]).wrapping_sub(g.window.pads[0]);
                    let x = (ox * g.window.stride[1] + t % g.window.kernel[1]).wrapping_sub(g.window.pads[1]);
                    (y < 6 && x < 5).then(|| xs[((b * 6 + y) * 5 + x) * 3 + c])
                };
                for k in 0..4 {
                    let term = |i: usize| met(i % area, i / area).unwrap_or(0.0) * ws[i * 4 + k];
                    near(&[convolved[o * 4 + k]], &[(0..3 * area).map(term).sum()]);
                }
                for c in 0..3 {
                    let all = (0..area).filter_map(|t| met(t, c));
                    assert_eq!(most[o * 3 + c], all.fold(f32::MIN, f32::max));
                }
            }
        }
    }
}
