//! The layers' operators in training, over NHWC: convolutions, batch normalisation and bias with
//! their clamps, max pooling, rounding as int8 rounds.
//!
//! On the CPU most have loops and gradients of their own ([`flex`]); on a GPU they are composed of
//! the framework's operators ([`portable`]).

mod flex;
mod portable;

use crate::graph::{Clamp, Quant, Window};
use burn::tensor::{Device, Tensor};
use std::sync::{Arc, Mutex};

/// A window that slides over a batch.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Rows and columns of the output.
    pub output: [usize; 2],
    /// Channels of the input.
    pub channels: usize,
    /// What an output pixel sees.
    pub window: Window,
}

impl Geometry {
    /// Values of one input image.
    pub fn inner(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    /// Values of one output image, if it has as many channels.
    pub fn outer(&self) -> usize {
        self.output[0] * self.output[1] * self.channels
    }
}

/// Running mean and variance per channel, updated by each training step.
#[derive(Clone, Debug)]
pub struct Running(Arc<Mutex<(Vec<f32>, Vec<f32>)>>);

impl Running {
    /// Statistics of `channels` standard normal channels.
    pub fn new(channels: usize) -> Self {
        Self(Arc::new(Mutex::new((vec![0.0; channels], vec![1.0; channels]))))
    }

    /// Puts statistics back that were saved.
    pub fn set(&self, mean: &[f32], variance: &[f32]) {
        *self.0.lock().expect("no thread panics while it holds this") = (mean.to_vec(), variance.to_vec());
    }

    /// Mean and variance.
    pub fn get(&self) -> (Vec<f32>, Vec<f32>) {
        self.0.lock().expect("no thread panics while it holds this").clone()
    }

    /// Mixes in the statistics of one batch.
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

/// How values are rounded.
#[derive(Clone, Copy, Debug)]
pub enum Rounding {
    /// To the scale and zero point of an activation.
    Values(Quant),
    /// Weights: per column, to 127 steps either side, so that the largest value is step 127.
    Columns,
}

fn on_cpu(x: &Tensor<2>) -> bool {
    x.device() == Device::flex()
}

/// Depthwise convolution. `x`: `[batch * input pixels, channels]`, `w`: `[kernel pixels,
/// channels]`; returns `[batch * output pixels, channels]`.
pub fn depthwise(x: Tensor<2>, w: Tensor<2>, g: Geometry) -> Tensor<2> {
    if on_cpu(&x) { flex::depthwise(x, w, g) } else { portable::depthwise(x, w, g) }
}

/// Convolution of all channels with all. `x`: `[batch * input pixels, channels]`, `w`: `[channels *
/// kernel pixels, outputs]`; returns `[batch * output pixels, outputs]`.
pub fn dense(x: Tensor<2>, w: Tensor<2>, g: Geometry) -> Tensor<2> {
    portable::dense(x, w, g)
}

/// The largest value in each window. `x`: `[batch * input pixels, channels]`; returns `[batch *
/// output pixels, channels]`.
pub fn max_pool(x: Tensor<2>, g: Geometry) -> Tensor<2> {
    portable::max_pool(x, g)
}

/// Batch normalisation over the rows of `x`, then the clamp. `x`: `[rows, channels]`, `gamma`,
/// `beta`: `[1, channels]`.
pub fn norm(x: Tensor<2>, gamma: Tensor<2>, beta: Tensor<2>, clamp: Clamp, running: &Running) -> Tensor<2> {
    if on_cpu(&x) { flex::norm(x, gamma, beta, clamp, running) } else { portable::norm(x, gamma, beta, clamp, running) }
}

/// Adds a bias to each row, then clamps. `x`: `[rows, channels]`, `bias`: `[1, channels]`.
pub fn bias(x: Tensor<2>, bias: Tensor<2>, clamp: Clamp) -> Tensor<2> {
    if on_cpu(&x) { flex::bias(x, bias, clamp) } else { portable::bias(x, bias, clamp) }
}

/// Values as int8 holds them. The gradient passes as if nothing were rounded (straight through:
/// Bengio et al. 2013), but not where a value lies beyond the range.
pub fn rounded(x: Tensor<2>, to: Quant) -> Tensor<2> {
    round(x, Rounding::Values(to))
}

/// Weights `[taps, outputs]` as int8 holds them, with a step for each output; the gradient passes.
pub fn rounded_weights(w: Tensor<2>) -> Tensor<2> {
    round(w, Rounding::Columns)
}

fn round(x: Tensor<2>, to: Rounding) -> Tensor<2> {
    if on_cpu(&x) { flex::rounded(x, to) } else { portable::rounded(x, to) }
}

/// Clamps, with a gradient only inside.
pub fn clamped(x: Tensor<2>, clamp: Clamp) -> Tensor<2> {
    match (clamp.low.is_finite(), clamp.high.is_finite()) {
        (true, true) => x.clamp(clamp.low, clamp.high),
        (true, false) => x.clamp_min(clamp.low),
        (false, true) => x.clamp_max(clamp.high),
        (false, false) => x,
    }
}

/// A tensor's numbers.
pub fn values(t: Tensor<2>) -> Vec<f32> {
    t.into_data().convert::<f32>().try_to_vec::<f32>().expect("values are f32")
}
